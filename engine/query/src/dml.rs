//! Statements that write rows: `INSERT`, `UPDATE`, `DELETE`, `MERGE`, `TRUNCATE`, `COPY … FROM`.
//!
//! ```text
//!  statement ─▶ query for keys and new values ─▶ run as any query ─▶ NOT NULL, CHECK ─▶ Transaction
//!              (query.rs; the whole relational statement, so sub-queries, LIMIT false … keep their meaning)
//! ```
//!
//! DataFusion's own UPDATE and DELETE lose predicates and act when they are planned; they are never reached. Here
//! planning changes nothing, so `EXPLAIN` is harmless; `EXPLAIN ANALYZE` carries the statement out and shows its query.
//! Each statement happens wholly or not at all ([`crate::transaction::write`]).

mod assign;
mod conflict;
mod copy_from;
pub(crate) mod generated;
mod insert;
pub(crate) mod merge;
pub(crate) mod point;
mod query;
mod returning;
pub(crate) mod rows;
pub(crate) mod target;
mod update;
mod values;

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{self, SetExpr, With};
use futures::FutureExt;
use triune_common::{Error, Result};

pub(crate) use copy_from::run as copy_from;
pub(crate) use query::fields_of;
pub(crate) use rows::RulesCache;

use crate::params::{self, Params};
use crate::result::QueryResult;
use crate::session::SessionCore;
use crate::statement::Statement;
use crate::{observe, transaction};

/// A statement that writes, and the CTEs before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writing<'a> {
    statement: &'a ast::Statement,
    with: Option<&'a With>,
}

/// Whether a statement writes rows; `WITH … UPDATE …` does.
pub(crate) fn writing(statement: &ast::Statement) -> Option<Writing<'_>> {
    use ast::Statement as Sql;
    match statement {
        Sql::Insert(_) | Sql::Update(_) | Sql::Delete(_) | Sql::Merge(_) | Sql::Truncate(_) => {
            Some(Writing { statement, with: None })
        }
        Sql::Query(query) => match query.body.as_ref() {
            SetExpr::Insert(inner)
            | SetExpr::Update(inner)
            | SetExpr::Delete(inner)
            | SetExpr::Merge(inner) => Some(Writing { statement: inner, with: query.with.as_ref() }),
            _ => None,
        },
        _ => None,
    }
}

impl Writing<'_> {
    /// `UPDATE: docs`, as `EXPLAIN` heads its plan.
    pub(crate) fn heading(&self) -> String {
        use ast::Statement as Sql;
        match self.statement {
            Sql::Insert(i) => format!("Insert: {}", i.table),
            Sql::Update(u) => format!("Update: {}", u.table),
            Sql::Delete(d) => match &d.from {
                ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from) => {
                    format!("Delete: {}", from.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
                }
            },
            Sql::Merge(m) => format!("Merge: {}", m.table),
            other => other.to_string(),
        }
    }

    /// An INSERT into a temporary table, which DataFusion keeps.
    pub(crate) fn is_temporary_insert(&self, core: &Arc<SessionCore>) -> bool {
        let ast::Statement::Insert(insert) = self.statement else { return false };
        insert::table_name(insert).is_ok_and(|name| {
            crate::commands::qualified(name).is_ok_and(|(schema, name)| {
                schema == crate::DEFAULT_SCHEMA && core.temporary(&name).is_some()
            })
        })
    }
}

/// An INSERT into a table of the database: it reads nothing before its transaction begins.
pub(crate) fn own_insert<'a>(core: &Arc<SessionCore>, statement: &'a Statement) -> Option<Writing<'a>> {
    let Statement::Sql(sql) = statement else { return None };
    let insert = Writing { statement: sql, with: None };
    let plain = matches!(insert.statement, ast::Statement::Insert(_)) && !insert.is_temporary_insert(core);
    plain.then_some(insert)
}

/// Runs a statement that writes.
pub(crate) async fn run(
    core: &Arc<SessionCore>,
    writing: Writing<'_>,
    params: &Params,
) -> Result<QueryResult> {
    if writing.is_temporary_insert(core) {
        if writing.with.is_some() {
            return Err(Error::unsupported("WITH before INSERT into a temporary table is not supported")
                .with_hint("write it after: INSERT INTO t WITH … SELECT …"));
        }
        return crate::commands::insert_temporary(core, writing.statement.clone(), params).await;
    }
    params::check(writing.statement, params)?;
    transaction::write(core, || {
        observe::again();
        apply(core, writing, params).boxed()
    })
    .await
}

async fn apply(core: &Arc<SessionCore>, writing: Writing<'_>, params: &Params) -> Result<QueryResult> {
    use ast::Statement as Sql;
    match writing.statement {
        Sql::Insert(insert) => insert::run(core, insert, writing.with, params).await,
        Sql::Update(update) => update::update(core, update, writing.with, params).await,
        Sql::Delete(delete) => update::delete(core, delete, writing.with, params).await,
        Sql::Merge(merge) => merge::run(core, merge, writing.with, params).await,
        Sql::Truncate(truncate) => update::truncate(core, truncate),
        other => Err(Error::internal(format!("{other} writes no rows"))),
    }
}

/// Parameters that a statement writes into columns as they are, with these columns: a plan cannot tell their types.
pub(crate) fn written_parameters(
    core: &Arc<SessionCore>,
    writing: Writing<'_>,
) -> Result<Vec<(String, arrow::datatypes::Field)>> {
    use ast::Statement as Sql;
    let placeholder = |expr: &ast::Expr| match expr {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Placeholder(name) => Some(name.clone()),
            _ => None,
        },
        _ => None,
    };
    if writing.is_temporary_insert(core) {
        return Ok(vec![]);
    }
    let mut found = Vec::new();
    match writing.statement {
        Sql::Insert(insert) => {
            let prepared = insert::prepare(core, insert)?;
            let Some(SetExpr::Values(values)) = insert.source.as_ref().map(|s| s.body.as_ref()) else {
                return Ok(found);
            };
            for row in &values.rows {
                for (expr, place) in row.iter().zip(&prepared.places) {
                    let column = prepared.target.def.columns.get(*place);
                    if let (Some(name), Some(column)) = (placeholder(expr), column) {
                        found.push((name, column.field.clone()));
                    }
                }
            }
        }
        Sql::Update(update) => {
            let prepared = update::prepare_update(core, update, writing.with)?;
            for assignment in &update.assignments {
                let ast::AssignmentTarget::ColumnName(name) = &assignment.target else { continue };
                let column = prepared.target.def.columns.iter().find(|c| {
                    name.0
                        .last()
                        .and_then(ast::ObjectNamePart::as_ident)
                        .is_some_and(|ident| crate::parser::normalize(ident) == *c.field.name())
                });
                if let (Some(name), Some(column)) = (placeholder(&assignment.value), column) {
                    found.push((name, column.field.clone()));
                }
            }
        }
        _ => {}
    }
    Ok(found)
}

/// The query that a writing statement runs, and what `EXPLAIN` calls it; nothing is changed.
///
/// `params` `None`: parameters stay open.
pub(crate) async fn plan(
    core: &Arc<SessionCore>,
    writing: Writing<'_>,
    params: Option<&Params>,
) -> Result<(String, LogicalPlan)> {
    use ast::Statement as Sql;
    let heading = writing.heading();
    if writing.is_temporary_insert(core) {
        return Ok((heading, core.plan_unbound(writing.statement.clone()).await?));
    }
    let with = writing.with;
    let none = Params::None;
    let query = match writing.statement {
        Sql::Insert(insert) => {
            let prepared = insert::prepare(core, insert)?;
            if insert.source.is_none() {
                query::select(None, vec![query::item(query::integer(1), "default values")], vec![], None)?
            } else {
                insert::source_query(insert, with, &prepared, params.unwrap_or(&none))?.0
            }
        }
        Sql::Update(update) => update::prepare_update(core, update, with)?.query,
        Sql::Delete(delete) => update::prepare_delete(core, delete, with)?.query,
        Sql::Merge(merge) => merge::prepare(core, merge, with)?.query,
        other => {
            return Err(Error::unsupported(format!(
                "EXPLAIN of {} is not supported",
                crate::parser::first_words(&other.to_string())
            )));
        }
    };
    let plan = match params {
        Some(params) => query::plan(core, query, params).await?,
        None => core.plan_unbound(ast::Statement::Query(Box::new(query))).await?,
    };
    Ok((heading, plan))
}

/// Adds a query's rows to a table that nobody else sees yet.
pub(crate) async fn fill(
    core: &Arc<SessionCore>,
    transaction: &triune_storage::store::Transaction,
    def: &triune_storage::table::TableDef,
    name: &str,
    query: QueryResult,
    fields: &[arrow::datatypes::FieldRef],
) -> Result<u64> {
    let target = target::Target::within(transaction.clone(), Arc::new(def.clone()), name)?;
    let rules = rows::rules(core, &target).await?;
    let places = target.given_places();
    let mut query = query;
    let mut gathered = insert::Gathered::new(core);
    let mut count = 0;
    while let Some(batch) = query.next().await {
        let batch = batch?;
        let rows = insert::of_batch(core, &target, &rules, &places, fields, &batch, &[], 0)
            .await
            .map_err(|e| insert::in_row(e, false, 0))?;
        count += rows.num_rows() as u64;
        if let Some(rows) = gathered.add(rows)? {
            transaction.insert(def.id, rows).boxed().await?;
        }
    }
    if let Some(rows) = gathered.rest()? {
        transaction.insert(def.id, rows).boxed().await?;
    }
    Ok(count)
}

/// Puts the rows of one of the statement's relations, which has the table's columns, in the place of all that are
/// there.
pub(crate) async fn replace_all(
    core: &Arc<SessionCore>,
    table: triune_storage::stamp::TableId,
    name: &str,
    relation: &str,
) -> Result<u64> {
    let transaction = transaction::current(core);
    let def = transaction.definition(table)?;
    let items: Vec<_> = def
        .columns
        .iter()
        .filter(|c| c.generated.is_none())
        .map(|c| query::item(ast::Expr::Identifier(query::quoted(c.field.name())), c.field.name()))
        .collect();
    let query = query::select(None, items, vec![query::relation(relation, name)], None)?;
    let plan = query::plan(core, query, &Params::None).await?;
    let result = core.start(&plan).await?;
    let fields = fields_of(&plan, &result.schema());
    transaction.truncate(table)?;
    fill(core, &transaction, &def, name, result, &fields).await
}

/// A value in a column's type, by the rules of an assignment.
pub(crate) fn to_column(
    values: &arrow::array::ArrayRef,
    from: &arrow::datatypes::Field,
    to: &arrow::datatypes::Field,
) -> Result<arrow::array::ArrayRef> {
    assign::to_column(values, from, to).map_err(|e| e.error)
}
