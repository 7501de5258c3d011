//! The short path: one row by its primary key, without planning.
//!
//! ```sql
//! SELECT name, v FROM t WHERE id = $1;
//! UPDATE t SET v = $2 WHERE id = $1;
//! DELETE FROM t WHERE a = 1 AND b = 'x';
//! ```
//!
//! A statement is taken when its WHERE names every column of the key once, equal to a constant of the column's own
//! kind, and nothing else; when it selects plain columns or sets constants; and when it has no other clause. Whatever
//! is not clearly so is planned, with the same answer.
//!
//! `INSERT … VALUES` of constants needs no planning either; that is [`super::insert`]'s own way.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, FromTable, GroupByExpr, SelectItem, SetExpr, Statement, TableFactor,
    TableWithJoins,
};
use futures::FutureExt;
use triune_common::Result;
use triune_storage::key::Keys;

use super::target::Target;
use super::update::{Assigned, Value, assignments};
use super::values::{Cell, column, constant, is_decimal};
use super::{insert, rows};
use crate::params::{self, Params};
use crate::parser::normalize;
use crate::result::{QueryResult, Tag};
use crate::session::SessionCore;
use crate::transaction;

/// Runs a statement on one row; `None` when it is not that simple.
pub(crate) async fn run(
    core: &Arc<SessionCore>,
    statement: &Statement,
    params: &Params,
) -> Option<Result<QueryResult>> {
    match statement {
        Statement::Query(query) => {
            let (factor, selection, projection) = plain_select(query)?;
            let (target, keys) = find(core, factor, selection, params)?;
            let places = columns(&target, projection)?;
            if params::check(statement, params).is_err() {
                return None;
            }
            Some(select(&target, &keys, &places).await)
        }
        Statement::Delete(delete) => {
            let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
            let plain = delete.returning.is_none()
                && delete.using.is_none()
                && delete.tables.is_empty()
                && delete.limit.is_none()
                && delete.order_by.is_empty()
                && delete.output.is_none();
            let factor = plain.then(|| only(from)).flatten()?;
            let selection = delete.selection.as_ref()?;
            find(core, factor, selection, params)?;
            if params::check(statement, params).is_err() {
                return None;
            }
            Some(
                transaction::write(core, || {
                    Box::pin(async {
                        let Some((target, keys)) = find(core, factor, selection, params) else {
                            return Err(changed());
                        };
                        let rows = target.transaction.delete(target.id(), &keys).boxed().await?;
                        Ok(QueryResult::command("DELETE", Some(rows)))
                    })
                })
                .await,
            )
        }
        Statement::Update(update) => {
            let plain = update.returning.is_none()
                && update.from.is_none()
                && update.or.is_none()
                && update.limit.is_none()
                && update.order_by.is_empty()
                && update.output.is_none();
            let factor = plain.then(|| only(std::slice::from_ref(&update.table))).flatten()?;
            let selection = update.selection.as_ref()?;
            let (target, _) = find(core, factor, selection, params)?;
            let assigned = assignments(&target, &update.assignments).ok()?;
            let cells = constants(&target, &assigned, params)?;
            if params::check(statement, params).is_err() {
                return None;
            }
            Some(
                transaction::write(core, || {
                    Box::pin(async {
                        let Some((target, keys)) = find(core, factor, selection, params) else {
                            return Err(changed());
                        };
                        set(core, &target, &keys, &assigned, &cells).await
                    })
                })
                .await,
            )
        }
        _ => None,
    }
}

fn changed() -> triune_common::Error {
    triune_common::Error::new(
        triune_common::ErrorKind::Conflict,
        "the table was changed while the statement ran",
    )
}

fn only(from: &[TableWithJoins]) -> Option<&TableFactor> {
    match from {
        [one] if one.joins.is_empty() => Some(&one.relation),
        _ => None,
    }
}

/// The parts of a `SELECT columns FROM t WHERE condition`, where it is nothing more.
fn plain_select(query: &ast::Query) -> Option<(&TableFactor, &Expr, &[SelectItem])> {
    let plain = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty()
        && query.for_clause.is_none()
        && query.settings.is_none()
        && query.format_clause.is_none()
        && query.pipe_operators.is_empty();
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let grouped = match &select.group_by {
        GroupByExpr::Expressions(exprs, modifiers) => !exprs.is_empty() || !modifiers.is_empty(),
        GroupByExpr::All(_) => true,
    };
    let plain = plain
        && !grouped
        && select.distinct.is_none()
        && select.top.is_none()
        && select.into.is_none()
        && select.having.is_none()
        && select.qualify.is_none()
        && select.prewhere.is_none()
        && select.exclude.is_none()
        && select.lateral_views.is_empty()
        && select.connect_by.is_empty()
        && select.cluster_by.is_empty()
        && select.distribute_by.is_empty()
        && select.sort_by.is_empty()
        && select.named_window.is_empty()
        && select.value_table_mode.is_none()
        && !select.projection.is_empty();
    if !plain {
        return None;
    }
    Some((only(&select.from)?, select.selection.as_ref()?, &select.projection))
}

/// The table and the key that the condition names.
fn find(
    core: &Arc<SessionCore>,
    factor: &TableFactor,
    selection: &Expr,
    params: &Params,
) -> Option<(Target, Keys)> {
    let TableFactor::Table {
        name,
        alias,
        args: None,
        version: None,
        sample: None,
        with_hints,
        index_hints,
        ..
    } = factor
    else {
        return None;
    };
    if !with_hints.is_empty()
        || !index_hints.is_empty()
        || alias.as_ref().is_some_and(|a| !a.columns.is_empty())
    {
        return None;
    }
    let target = Target::open(core, name, alias.as_ref().map(|a| &a.name), "SELECT").ok()?;
    if target.def.has_rid() {
        return None;
    }
    let key = target.key_places();
    let mut values: Vec<Option<ArrayRef>> = vec![None; key.len()];
    equalities(selection, &mut |left, right| {
        let place = place_of(&target, left)?;
        let at = key.iter().position(|k| *k == place)?;
        if values[at].is_some() {
            return None;
        }
        let Some(Cell::Value(value)) = constant(right, false, params) else { return None };
        values[at] = Some(exactly(&value, target.column(place).field.data_type())?);
        Some(())
    })?;
    let values = values.into_iter().collect::<Option<Vec<ArrayRef>>>()?;
    let keys = target.codec.encode(&values).ok()?;
    Some((target, keys))
}

/// Calls back for each `a = b` of a conjunction; `None` when it is none.
fn equalities<'a>(expr: &'a Expr, each: &mut impl FnMut(&'a Expr, &'a Expr) -> Option<()>) -> Option<()> {
    match expr {
        Expr::Nested(inner) => equalities(inner, each),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            equalities(left, each)?;
            equalities(right, each)
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => each(left, right),
        _ => None,
    }
}

fn place_of(target: &Target, expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Identifier(name) => target.place(&normalize(name)).ok(),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [relation, column] if normalize(relation) == target.alias => {
                target.place(&normalize(column)).ok()
            }
            _ => None,
        },
        _ => None,
    }
}

/// A value that compares with the column as itself: whole numbers with whole numbers, texts with texts.
fn exactly(value: &ScalarValue, wanted: &DataType) -> Option<ArrayRef> {
    if value.is_null() {
        return None;
    }
    let kind = value.data_type();
    let same =
        kind == *wanted || kind.is_integer() && wanted.is_integer() || kind.is_string() && wanted.is_string();
    if !same {
        return None;
    }
    let value = if kind == *wanted { value.clone() } else { value.cast_to(wanted).ok()? };
    if value.is_null() {
        return None;
    }
    value.to_array_of_size(1).ok()
}

/// The places of plain columns and what they are called; no name twice.
fn columns(target: &Target, projection: &[SelectItem]) -> Option<Vec<(usize, String)>> {
    let mut found = Vec::new();
    for item in projection {
        match item {
            SelectItem::Wildcard(options) if options.to_string().is_empty() => {
                found.extend(target.column_names().map(str::to_owned).enumerate());
            }
            SelectItem::UnnamedExpr(expr) => {
                let place = place_of(target, expr)?;
                found.push((place, target.column(place).field.name().clone()));
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                found.push((place_of(target, expr)?, normalize(alias)))
            }
            _ => return None,
        }
    }
    let names: HashSet<&str> = found.iter().map(|(_, n)| n.as_str()).collect();
    (names.len() == found.len()).then_some(found)
}

async fn select(target: &Target, keys: &Keys, columns: &[(usize, String)]) -> Result<QueryResult> {
    let row = target.transaction.get(target.id(), keys).boxed().await?;
    let known = target.transaction.provider(target.id())?.schema();
    let fields: Vec<_> =
        columns.iter().map(|(place, name)| known.field(*place).clone().with_name(name.clone())).collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.iter().map(|(place, _)| Arc::clone(row.column(*place))).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    let batches = if batch.num_rows() == 0 { vec![] } else { vec![batch] };
    Ok(QueryResult::batches(Tag::Rows, schema, batches))
}

/// The constants that SET assigns; `None` for a DEFAULT.
fn constants(target: &Target, assigned: &[Assigned], params: &Params) -> Option<Vec<Option<ScalarValue>>> {
    let cell = |one: &Assigned| match &one.value {
        Value::Default => Some(None),
        Value::Expr(expr) => match constant(expr, is_decimal(&target.column(one.place).field), params)? {
            Cell::Default => None,
            Cell::Value(value) => Some(Some(value)),
        },
    };
    assigned.iter().map(cell).collect()
}

async fn set(
    core: &Arc<SessionCore>,
    target: &Target,
    keys: &Keys,
    assigned: &[Assigned],
    cells: &[Option<ScalarValue>],
) -> Result<QueryResult> {
    const DONE: &str = "UPDATE";
    let row = target.transaction.get(target.id(), keys).boxed().await?;
    if row.num_rows() == 0 {
        return Ok(QueryResult::command(DONE, Some(0)));
    }
    let rules = rows::rules(core, target).await?;
    let mut columns = target.old_rows(&row)?.columns().to_vec();
    for (one, cell) in assigned.iter().zip(cells) {
        columns[one.place] = match cell {
            None => rows::default_values(core, target, &rules, one.place, 1)?,
            Some(cell) => {
                let field = &target.column(one.place).field;
                let cell = Some(Cow::Borrowed(cell));
                column(std::slice::from_ref(&cell), field).map_err(|e| insert::in_row(e, false, 0))?.0
            }
        };
    }
    let changed: Vec<usize> = assigned.iter().map(|a| a.place).collect();
    let new = rows::verified(target, &rules, columns, &changed, 1).await?;
    target.transaction.update(target.id(), keys, new).boxed().await?;
    Ok(QueryResult::command(DONE, Some(1)))
}
