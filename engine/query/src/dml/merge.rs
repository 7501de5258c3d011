//! `MERGE`.
//!
//! ```sql
//! MERGE INTO docs AS d USING news AS n ON d.id = n.id
//!   WHEN MATCHED AND n.gone THEN DELETE
//!   WHEN MATCHED THEN UPDATE SET title = n.title
//!   WHEN NOT MATCHED THEN INSERT (id, title) VALUES (n.id, n.title)
//!   WHEN NOT MATCHED BY SOURCE THEN DO NOTHING
//!   RETURNING merge_action(), id;
//! ```
//!
//! One query joins the table with the source, says for each pair which clause applies (the first whose condition
//! holds), and computes that clause's values; those of other clauses are not computed. Then rows are deleted,
//! changed and added, in this order. A row of the table that two source rows would change is an error.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{FieldRef, Int64Type};
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, CaseWhen, Expr, Join, JoinConstraint, JoinOperator, Merge, MergeAction,
    MergeClauseKind, MergeInsertKind, OutputClause, Query, SelectItem, TableFactor, TableWithJoins,
    UnaryOperator, WildcardAdditionalOptions, With,
};
use futures::FutureExt;
use triune_common::{Error, ErrorKind, Result};

use super::assign::to_column;
use super::insert::{always, in_row, named_places, values_places};
use super::returning::{Returning, Written};
use super::rows::{self, Source};
use super::target::{Target, alias_of};
use super::update::{Assigned, Value, assignments, extra_items, extras_of};
use super::{query, values};
use crate::params::Params;
use crate::result::QueryResult;
use crate::session::SessionCore;

/// The column of a clause that the parser made of `DO NOTHING`.
pub(crate) const NOTHING: &str = "@nothing";
const ACTION: &str = "@action";
const FOUND: &str = "@found";

#[derive(Debug)]
enum Action {
    Nothing,
    Delete,
    Update(Vec<Assigned>),
    /// Each column's value, by place.
    Insert(Vec<Assigned>),
}

pub(super) struct Prepared {
    pub(super) target: Target,
    actions: Vec<Action>,
    returning: Option<Returning>,
    pub(super) query: Query,
}

pub(super) fn prepare(core: &Arc<SessionCore>, merge: &Merge, with: Option<&With>) -> Result<Prepared> {
    let target = Target::of_factor(core, &merge.table, "MERGE")?;
    let source = alias_of(&merge.source).ok_or_else(|| {
        Error::invalid("the source of MERGE needs a name").with_hint("USING (SELECT …) AS s")
    })?;
    if source == target.alias {
        return Err(Error::invalid(format!(
            "the table and the source of MERGE are both called \"{source}\""
        ))
        .with_hint("give one of them an alias"));
    }
    let returning = match &merge.output {
        None => None,
        Some(OutputClause::Returning { select_items, .. }) => {
            Returning::prepare(core, Some(select_items.clone()), &target, &HashSet::from([source.clone()]))?
        }
        Some(_) => {
            return Err(Error::unsupported("MERGE with OUTPUT is not supported").with_hint("use RETURNING"));
        }
    };
    let mut actions = Vec::new();
    let mut conditions = Vec::new();
    let (mut keep_source, mut keep_target) = (false, false);
    let in_target = not_null(query::column(&target.alias, target.codec.names()[0].as_str()));
    let in_source = not_null(query::column(&source, FOUND));
    for clause in &merge.clauses {
        let kind = match clause.clause_kind {
            MergeClauseKind::Matched => and(in_target.clone(), in_source.clone()),
            MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => {
                keep_source = true;
                and(not(in_target.clone()), in_source.clone())
            }
            MergeClauseKind::NotMatchedBySource => {
                keep_target = true;
                and(in_target.clone(), not(in_source.clone()))
            }
        };
        conditions.push(match &clause.predicate {
            Some(predicate) => and(kind, predicate.clone()),
            None => kind,
        });
        actions.push(action(&target, &clause.action)?);
    }
    target.publish()?;
    let action_of = case(conditions.into_iter().enumerate().map(|(i, c)| (c, query::integer(i))).collect());
    let mut items = target.old_items();
    items.push(query::item(action_of.clone(), ACTION));
    for (i, action) in actions.iter().enumerate() {
        let (Action::Update(assigned) | Action::Insert(assigned)) = action else { continue };
        for (j, one) in assigned.iter().enumerate() {
            if let Value::Expr(expr) = &one.value {
                let chosen = Expr::BinaryOp {
                    left: Box::new(Expr::Nested(Box::new(action_of.clone()))),
                    op: BinaryOperator::Eq,
                    right: Box::new(query::integer(i)),
                };
                items.push(query::item(case(vec![(chosen, expr.clone())]), format!("@v{i}_{j}")));
            }
        }
    }
    items.extend(extra_items(returning.as_ref()));
    let on = JoinConstraint::On(merge.on.as_ref().clone());
    let join_operator = match (keep_target, keep_source) {
        (false, false) => JoinOperator::Inner(on),
        (true, false) => JoinOperator::LeftOuter(on),
        (false, true) => JoinOperator::RightOuter(on),
        (true, true) => JoinOperator::FullOuter(on),
    };
    let mut from = query::relation(query::TARGET, &target.alias);
    from.joins.push(Join { relation: marked(&merge.source, &source)?, global: false, join_operator });
    let query = query::select(with.cloned(), items, vec![from], None)?;
    Ok(Prepared { target, actions, returning, query })
}

/// `(SELECT s.*, TRUE AS "@found" FROM source AS s) AS s`
fn marked(source: &TableFactor, alias: &str) -> Result<TableFactor> {
    let all = SelectItem::Wildcard(WildcardAdditionalOptions::default());
    let mark = query::item(query::literal(ast::Value::Boolean(true)), FOUND);
    let from = TableWithJoins { relation: source.clone(), joins: vec![] };
    let subquery = Box::new(query::select(None, vec![all, mark], vec![from], None)?);
    Ok(TableFactor::Derived { lateral: false, subquery, alias: Some(query::as_alias(alias)), sample: None })
}

fn action(target: &Target, action: &MergeAction) -> Result<Action> {
    match action {
        MergeAction::Delete { .. } => Ok(Action::Delete),
        MergeAction::Update(update) => {
            if update.update_predicate.is_some() || update.delete_predicate.is_some() {
                return Err(Error::unsupported("WHERE within a clause of MERGE is not supported")
                    .with_hint("write WHEN MATCHED AND condition THEN …"));
            }
            if update.assignments.iter().any(|a| a.target.to_string().contains(NOTHING)) {
                return Ok(Action::Nothing);
            }
            Ok(Action::Update(assignments(target, &update.assignments)?))
        }
        MergeAction::Insert(insert) => {
            if insert.insert_predicate.is_some() {
                return Err(Error::unsupported("WHERE within a clause of MERGE is not supported")
                    .with_hint("write WHEN NOT MATCHED AND condition THEN …"));
            }
            if insert.columns.iter().any(|c| c.to_string().contains(NOTHING)) {
                return Ok(Action::Nothing);
            }
            let MergeInsertKind::Values(given) = &insert.kind else {
                return Err(
                    Error::unsupported("INSERT ROW is not supported").with_hint("write INSERT … VALUES (…)")
                );
            };
            let [row] = given.rows.as_slice() else {
                return Err(Error::invalid("INSERT within MERGE takes one row of values"));
            };
            let places = if insert.columns.is_empty() {
                values_places(target, row.content.len())
            } else {
                named_places(target, &insert.columns)?
            };
            values::check_width(std::slice::from_ref(row), places.len())?;
            let mut assigned = Vec::with_capacity(places.len());
            for (place, value) in places.into_iter().zip(&row.content) {
                let decimal = values::is_decimal(&target.column(place).field);
                let default =
                    matches!(values::constant(value, decimal, &Params::None), Some(values::Cell::Default));
                if default {
                    continue;
                }
                if target.is_always(place) {
                    return Err(always(target.column(place).field.name()));
                }
                assigned.push(Assigned { place, value: Value::Expr(value.clone()) });
            }
            Ok(Action::Insert(assigned))
        }
    }
}

fn not_null(expr: Expr) -> Expr {
    Expr::IsNotNull(Box::new(expr))
}

fn not(expr: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(expr))) }
}

fn and(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp {
        left: Box::new(left),
        op: BinaryOperator::And,
        right: Box::new(Expr::Nested(Box::new(right))),
    }
}

pub(super) fn case(branches: Vec<(Expr, Expr)>) -> Expr {
    if branches.is_empty() {
        return query::literal(ast::Value::Null);
    }
    Expr::Case {
        case_token: ast::helpers::attached_token::AttachedToken::empty(),
        end_token: ast::helpers::attached_token::AttachedToken::empty(),
        operand: None,
        conditions: branches.into_iter().map(|(condition, result)| CaseWhen { condition, result }).collect(),
        else_result: None,
    }
}

pub(super) async fn run(
    core: &Arc<SessionCore>,
    merge: &Merge,
    with: Option<&With>,
    params: &Params,
) -> Result<QueryResult> {
    let Prepared { target, actions, mut returning, query } = prepare(core, merge, with)?;
    let rules = rows::rules(core, &target).await?;
    let found = query::collect_of_target(core, query, params).await?;
    let olds = target.old_items().len();
    let extras = extras_of(&found, returning.as_ref());
    let fields: Vec<FieldRef> = extras.iter().map(|(f, _)| Arc::clone(f)).collect();
    let chosen = arrow::compute::cast(found.batch.column(olds), &arrow::datatypes::DataType::Int64)?;
    let chosen = chosen.as_primitive::<Int64Type>();
    let mut of_action: Vec<Vec<u64>> = vec![vec![]; actions.len()];
    for row in 0..chosen.len() {
        if chosen.is_valid(row)
            && let Some(rows) = usize::try_from(chosen.value(row)).ok().and_then(|a| of_action.get_mut(a))
        {
            rows.push(row as u64);
        }
    }
    refuse_twice(&target, &actions, &of_action, &found.batch)?;
    let mut count = 0;
    let pick = |rows: &[u64]| take_record_batch(&found.batch, &UInt64Array::from(rows.to_vec()));
    let returned = |batch: &RecordBatch| -> Vec<(FieldRef, ArrayRef)> {
        let start = batch.num_columns() - fields.len();
        fields.iter().cloned().zip(batch.columns()[start..].iter().cloned()).collect()
    };
    for (action, rows) in actions.iter().zip(&of_action) {
        if !matches!(action, Action::Delete) || rows.is_empty() {
            continue;
        }
        let batch = pick(rows)?;
        let old = target.old_rows(&batch)?;
        if let Some(returning) = &mut returning {
            let extras = returned(&batch);
            returning
                .add(&target, &Written { old: Some(&old), extras, action: "DELETE", ..Written::default() })?;
        }
        count += target.transaction.delete(target.id(), &target.old_keys(&batch)?).boxed().await?;
    }
    for updates in [true, false] {
        // The places of the values that each clause computed.
        let mut next = olds + 1;
        for (action, rows) in actions.iter().zip(&of_action) {
            let (Action::Update(assigned) | Action::Insert(assigned)) = action else { continue };
            let first = next;
            next += assigned.iter().filter(|a| matches!(a.value, Value::Expr(_))).count();
            if rows.is_empty() || updates != matches!(action, Action::Update(_)) {
                continue;
            }
            let batch = pick(rows)?;
            let n = batch.num_rows();
            count += n as u64;
            let mut at = first;
            let mut given = Vec::with_capacity(assigned.len());
            for one in assigned {
                let values = match &one.value {
                    Value::Default => rows::default_values(core, &target, &rules, one.place, n)?,
                    Value::Expr(_) => {
                        let (values, from) = (batch.column(at), &found.fields[at]);
                        at += 1;
                        to_column(values, from, &target.column(one.place).field)
                            .map_err(|e| in_row(e, false, 0))?
                    }
                };
                given.push((one.place, values));
            }
            if updates {
                let old = target.old_rows(&batch)?;
                let mut columns = old.columns().to_vec();
                let changed: Vec<usize> = given.iter().map(|(place, _)| *place).collect();
                for (place, values) in given {
                    columns[place] = values;
                }
                let new = rows::verified(&target, &rules, columns, &changed, n).await?;
                if let Some(returning) = &mut returning {
                    let extras = returned(&batch);
                    let written = Written { old: Some(&old), new: Some(&new), extras, action: "UPDATE" };
                    returning.add(&target, &written)?;
                }
                target.transaction.update(target.id(), &target.old_keys(&batch)?, new).boxed().await?;
            } else {
                let mut sources = vec![Source::Omitted; target.def.columns.len()];
                for (place, values) in given {
                    sources[place] = Source::Given { values, generate: None };
                }
                let new = rows::complete(core, &target, &rules, sources, n).await?;
                if let Some(returning) = &mut returning {
                    let extras = returned(&batch);
                    let written = Written { new: Some(&new), extras, action: "INSERT", ..Written::default() };
                    returning.add(&target, &written)?;
                }
                target.transaction.insert(target.id(), new).boxed().await?;
            }
        }
    }
    match returning {
        Some(returning) => returning.finish(core, &target, params, &fields).await,
        None => Ok(QueryResult::command("MERGE", Some(count))),
    }
}

/// The standard: a row may be changed by one source row only.
fn refuse_twice(
    target: &Target,
    actions: &[Action],
    of_action: &[Vec<u64>],
    batch: &RecordBatch,
) -> Result<()> {
    let changed: Vec<u64> = actions
        .iter()
        .zip(of_action)
        .filter(|(a, _)| matches!(a, Action::Update(_) | Action::Delete))
        .flat_map(|(_, rows)| rows.iter().copied())
        .collect();
    let changed = take_record_batch(batch, &UInt64Array::from(changed))?;
    let keys = target.old_keys(&changed)?;
    let Some((first, _)) = keys.duplicate() else { return Ok(()) };
    let which = if target.def.has_rid() {
        String::new()
    } else {
        format!(", {}", target.codec.describe(keys.get(first)))
    };
    Err(Error::new(
        ErrorKind::Constraint,
        format!("MERGE would change a row of \"{}\" twice{which}", target.name),
    )
    .with_hint("the source must match each row at most once"))
}
