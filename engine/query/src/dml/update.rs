//! `UPDATE` and `DELETE`.
//!
//! ```sql
//! UPDATE docs AS d SET stars = d.stars + n.stars, (a, b) = (1, DEFAULT) FROM news AS n WHERE n.id = d.id;
//! DELETE FROM docs USING banned AS b WHERE docs.author = b.name RETURNING id;
//! ```
//!
//! Both run as one query that selects the rows to change with their keys and new values; only then is anything
//! written. A row that FROM matches several times is changed once where all matches say the same, and is an error
//! where they do not.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use datafusion::sql::sqlparser::ast::{
    self, Assignment, AssignmentTarget, Delete, Expr, FromTable, Query, SelectItem, SetExpr, TableWithJoins,
    Update, UpdateTableFromKind, With,
};
use futures::FutureExt;
use triune_common::{Error, ErrorKind, Result};
use triune_storage::key::Key;

use super::assign::to_column;
use super::insert::{always, in_row};
use super::query::{self, Rows};
use super::returning::{Returning, Written};
use super::rows;
use super::target::{Target, aliases};
use crate::params::Params;
use crate::result::QueryResult;
use crate::session::SessionCore;
use crate::visit;

/// `SET column = value`
#[derive(Debug, Clone)]
pub(super) struct Assigned {
    pub(super) place: usize,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there are as few of them as a SET has columns")]
pub(super) enum Value {
    Default,
    Expr(Expr),
}

/// Looks the columns of SET up; lists of columns are taken apart.
pub(super) fn assignments(target: &Target, given: &[Assignment]) -> Result<Vec<Assigned>> {
    let mut assigned: Vec<Assigned> = Vec::new();
    for assignment in given {
        let pairs = match &assignment.target {
            AssignmentTarget::ColumnName(name) => vec![(name, assignment.value.clone())],
            AssignmentTarget::Tuple(names) => {
                let values = spread(&assignment.value, names.len())?;
                names.iter().zip(values).collect()
            }
        };
        for (name, value) in pairs {
            let place = target.named(name)?;
            if assigned.iter().any(|a| a.place == place) {
                return Err(Error::invalid(format!("the column {name} is set twice")));
            }
            let value = match value {
                Expr::Identifier(i) if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default") => {
                    Value::Default
                }
                other => Value::Expr(other),
            };
            if target.is_always(place) && !matches!(value, Value::Default) {
                return Err(always(target.column(place).field.name()));
            }
            assigned.push(Assigned { place, value });
        }
    }
    Ok(assigned)
}

/// The values for `(a, b) = …`: a row, or a sub-query with as many columns, which is asked once for each.
fn spread(value: &Expr, columns: usize) -> Result<Vec<Expr>> {
    let found = match value {
        Expr::Tuple(values) => values.clone(),
        Expr::Nested(one) if columns == 1 => vec![one.as_ref().clone()],
        Expr::Subquery(query) => {
            let select = match query.body.as_ref() {
                SetExpr::Select(select)
                    if select.distinct.is_none()
                        && select.projection.iter().all(|i| {
                            matches!(i, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })
                        }) =>
                {
                    select
                }
                _ => {
                    return Err(Error::unsupported(
                        "a sub-query for several columns must be a SELECT of expressions, without * and DISTINCT",
                    ));
                }
            };
            // One aggregate makes the whole query one row; alone, a column without one must stay so.
            let aggregates: Vec<bool> = select.projection.iter().map(has_aggregate).collect();
            let one_row = select.having.is_some() || aggregates.contains(&true);
            let one = |i: usize| {
                let mut item = select.projection[i].clone();
                if let (true, false, SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) =
                    (one_row, aggregates[i], &mut item)
                {
                    let value = std::mem::replace(expr, query::integer(0));
                    *expr = super::merge::case(vec![(counted(), value)]);
                }
                let mut query = query.clone();
                if let SetExpr::Select(own) = query.body.as_mut() {
                    own.projection = vec![item];
                }
                Expr::Subquery(query)
            };
            (0..select.projection.len()).map(one).collect()
        }
        other => {
            return Err(Error::invalid(format!("{other} is not a row of {columns} values"))
                .with_hint("write (a, b) = (1, 2)"));
        }
    };
    if found.len() != columns {
        return Err(super::values::wrong_width("", found.len(), columns));
    }
    Ok(found)
}

/// Whether a column of a select list is computed from many rows.
fn has_aggregate(item: &SelectItem) -> bool {
    static NAMES: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let ours = triune_vector::aggregate_functions(None)
            .into_iter()
            .chain(triune_timeseries::aggregate_functions());
        datafusion::functions_aggregate::all_default_aggregate_functions()
            .into_iter()
            .chain(ours)
            .flat_map(|f| {
                std::iter::once(f.name().to_owned()).chain(f.aliases().iter().cloned()).collect::<Vec<_>>()
            })
            .chain(triune_standard::aggregate_names().map(str::to_owned))
            .collect()
    });
    visit::any(item, |e| match e {
        Expr::Function(f) => f.over.is_none() && NAMES.contains(&f.name.to_string().to_lowercase()),
        _ => false,
    })
}

/// `count(*) >= 0`
fn counted() -> Expr {
    match rows::expression("count(*) >= 0") {
        Ok(expr) => expr,
        Err(_) => query::literal(ast::Value::Boolean(true)),
    }
}

/// A statement that was made a query.
pub(super) struct Prepared {
    pub(super) target: Target,
    assigned: Vec<Assigned>,
    returning: Option<Returning>,
    pub(super) query: Query,
}

pub(super) fn prepare_update(
    core: &Arc<SessionCore>,
    update: &Update,
    with: Option<&With>,
) -> Result<Prepared> {
    let refused = [
        (update.or.is_some(), "OR"),
        (update.limit.is_some(), "LIMIT"),
        (!update.order_by.is_empty(), "ORDER BY"),
        (update.output.is_some(), "OUTPUT"),
        (!update.table.joins.is_empty(), "JOIN before SET"),
    ];
    refuse(&refused, "UPDATE", "select the keys: WHERE id IN (SELECT id … LIMIT n)")?;
    let target = Target::of_factor(core, &update.table.relation, "UPDATE")?;
    let from = match &update.from {
        None => vec![],
        Some(UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) => from.clone(),
    };
    let assigned = assignments(&target, &update.assignments)?;
    let returning = Returning::prepare(core, update.returning.clone(), &target, &aliases(&from))?;
    let query = main_query(&target, &assigned, returning.as_ref(), from, update.selection.clone(), with)?;
    Ok(Prepared { target, assigned, returning, query })
}

pub(super) fn prepare_delete(
    core: &Arc<SessionCore>,
    delete: &Delete,
    with: Option<&With>,
) -> Result<Prepared> {
    let refused = [
        (!delete.tables.is_empty(), "several tables"),
        (delete.limit.is_some(), "LIMIT"),
        (!delete.order_by.is_empty(), "ORDER BY"),
        (delete.output.is_some(), "OUTPUT"),
    ];
    refuse(&refused, "DELETE", "select the keys: WHERE id IN (SELECT id … LIMIT n)")?;
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let [table] = from.as_slice() else {
        return Err(Error::unsupported("DELETE FROM takes one table").with_hint("join others with USING"));
    };
    if !table.joins.is_empty() {
        return Err(Error::unsupported("DELETE FROM takes no JOIN").with_hint("join others with USING"));
    }
    let target = Target::of_factor(core, &table.relation, "DELETE")?;
    let using = delete.using.clone().unwrap_or_default();
    let returning = Returning::prepare(core, delete.returning.clone(), &target, &aliases(&using))?;
    let query = main_query(&target, &[], returning.as_ref(), using, delete.selection.clone(), with)?;
    Ok(Prepared { target, assigned: vec![], returning, query })
}

fn refuse(clauses: &[(bool, &str)], statement: &str, hint: &str) -> Result<()> {
    match clauses.iter().find(|(given, _)| *given) {
        Some((_, clause)) => {
            Err(Error::unsupported(format!("{statement} with {clause} is not supported")).with_hint(hint))
        }
        None => Ok(()),
    }
}

/// Old rows, new values (`@v0` …), then what RETURNING needs of other relations.
fn main_query(
    target: &Target,
    assigned: &[Assigned],
    returning: Option<&Returning>,
    others: Vec<TableWithJoins>,
    selection: Option<Expr>,
    with: Option<&With>,
) -> Result<Query> {
    target.publish()?;
    // A DELETE that returns nothing needs no more than to know which rows.
    let keys_only = assigned.is_empty() && returning.is_none();
    let mut items = if keys_only { target.key_items() } else { target.old_items() };
    for (i, one) in assigned.iter().enumerate() {
        if let Value::Expr(expr) = &one.value {
            items.push(query::item(expr.clone(), format!("@v{i}")));
        }
    }
    items.extend(extra_items(returning));
    let mut from = vec![query::relation(query::TARGET, &target.alias)];
    from.extend(others);
    query::select(with.cloned(), items, from, selection)
}

pub(super) fn extra_items(returning: Option<&Returning>) -> Vec<SelectItem> {
    let extras = returning.map(|r| r.extras.as_slice()).unwrap_or_default();
    extras.iter().map(|(name, expr)| query::item(expr.clone(), name)).collect()
}

/// Leaves one row of each key. Rows of one key that say something else from `from` on are an error.
fn once(target: &Target, rows: &RecordBatch, from: usize, to: usize) -> Result<RecordBatch> {
    let keys = target.old_keys(rows)?;
    let mut first: HashMap<Key, usize> = HashMap::with_capacity(keys.len());
    let mut keep = Vec::with_capacity(keys.len());
    for (row, key) in keys.iter().enumerate() {
        match first.entry(key.to_owned()) {
            Entry::Vacant(free) => {
                free.insert(row);
                keep.push(row as u64);
            }
            Entry::Occupied(taken) => {
                let same = |c: &ArrayRef| c.slice(*taken.get(), 1).to_data() == c.slice(row, 1).to_data();
                if !rows.columns()[from..to].iter().all(same) {
                    return Err(Error::new(
                        ErrorKind::Constraint,
                        format!(
                            "several rows of FROM have different new values for one row of \"{}\"{}",
                            target.name,
                            if target.def.has_rid() {
                                String::new()
                            } else {
                                format!(", {}", target.codec.describe(key))
                            }
                        ),
                    )
                    .with_hint("join on columns that match once, or aggregate FROM first"));
                }
            }
        }
    }
    if keep.len() == rows.num_rows() {
        return Ok(rows.clone());
    }
    Ok(take_record_batch(rows, &UInt64Array::from(keep))?)
}

/// The extras of RETURNING that a query selected at its end.
pub(super) fn extras_of(
    rows: &Rows,
    returning: Option<&Returning>,
) -> Vec<(arrow::datatypes::FieldRef, ArrayRef)> {
    let count = returning.map_or(0, |r| r.extras.len());
    let start = rows.fields.len() - count;
    rows.fields[start..].iter().cloned().zip(rows.batch.columns()[start..].iter().cloned()).collect()
}

pub(super) async fn update(
    core: &Arc<SessionCore>,
    update: &Update,
    with: Option<&With>,
    params: &Params,
) -> Result<QueryResult> {
    let Prepared { target, assigned, mut returning, query } = prepare_update(core, update, with)?;
    let rules = rows::rules(core, &target).await?;
    let mut found = query::collect_of_target(core, query, params).await?;
    let olds = target.old_items().len();
    let values = assigned.iter().filter(|a| matches!(a.value, Value::Expr(_))).count();
    found.batch = once(&target, &found.batch, olds, olds + values)?;
    let count = found.batch.num_rows();
    let old = target.old_rows(&found.batch)?;
    let extras = extras_of(&found, returning.as_ref());
    let fields: Vec<_> = extras.iter().map(|(f, _)| Arc::clone(f)).collect();
    if count > 0 {
        let mut columns = old.columns().to_vec();
        let mut next = olds;
        for one in &assigned {
            columns[one.place] = match &one.value {
                Value::Default => rows::default_values(core, &target, &rules, one.place, count)?,
                Value::Expr(_) => {
                    let (values, from) = (found.batch.column(next), &found.fields[next]);
                    next += 1;
                    to_column(values, from, &target.column(one.place).field)
                        .map_err(|e| in_row(e, false, 0))?
                }
            };
        }
        let changed: Vec<usize> = assigned.iter().map(|a| a.place).collect();
        let new = rows::verified(&target, &rules, columns, &changed, count).await?;
        let keys = target.old_keys(&found.batch)?;
        if let Some(returning) = &mut returning {
            returning
                .add(&target, &Written { old: Some(&old), new: Some(&new), extras, ..Written::default() })?;
        }
        target.transaction.update(target.id(), &keys, new).boxed().await?;
    }
    match returning {
        Some(returning) => returning.finish(core, &target, params, &fields).await,
        None => Ok(QueryResult::command("UPDATE", Some(count as u64))),
    }
}

pub(super) async fn delete(
    core: &Arc<SessionCore>,
    delete: &Delete,
    with: Option<&With>,
    params: &Params,
) -> Result<QueryResult> {
    let Prepared { target, mut returning, query, .. } = prepare_delete(core, delete, with)?;
    let mut found = query::collect_of_target(core, query, params).await?;
    // What is returned of USING's columns comes from the first match.
    let end = found.batch.num_columns();
    found.batch = once(&target, &found.batch, end, end)?;
    let extras = extras_of(&found, returning.as_ref());
    let fields: Vec<_> = extras.iter().map(|(f, _)| Arc::clone(f)).collect();
    let mut count = 0;
    if found.batch.num_rows() > 0 {
        if let Some(returning) = &mut returning {
            let old = target.old_rows(&found.batch)?;
            returning.add(&target, &Written { old: Some(&old), extras, ..Written::default() })?;
        }
        let keys = target.old_keys(&found.batch)?;
        count = target.transaction.delete(target.id(), &keys).boxed().await?;
    }
    match returning {
        Some(returning) => returning.finish(core, &target, params, &fields).await,
        None => Ok(QueryResult::command("DELETE", Some(count))),
    }
}

/// `TRUNCATE t, …`
pub(super) fn truncate(core: &Arc<SessionCore>, truncate: &ast::Truncate) -> Result<QueryResult> {
    let refused = [
        (truncate.partitions.is_some(), "PARTITION"),
        (truncate.on_cluster.is_some(), "ON CLUSTER"),
        (matches!(truncate.identity, Some(ast::TruncateIdentityOption::Restart)), "RESTART IDENTITY"),
    ];
    refuse(&refused, "TRUNCATE", "leave the clause out")?;
    for name in &truncate.table_names {
        let target = match Target::open(core, &name.name, None, "TRUNCATE") {
            Err(e) if truncate.if_exists && e.kind() == ErrorKind::NotFound => continue,
            other => other?,
        };
        target.transaction.truncate(target.id())?;
    }
    Ok(QueryResult::command("TRUNCATE", None))
}
