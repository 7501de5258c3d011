//! `CREATE TABLE` for tables that the database keeps.
//!
//! ```sql
//! CREATE TABLE docs (
//!     id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
//!     title TEXT NOT NULL DEFAULT 'untitled',
//!     stars INT CHECK (stars >= 0))
//! CLUSTER BY (title) WITH (retention = '7 days');
//! CREATE TABLE copy AS SELECT * FROM 'docs.parquet';
//! CREATE TABLE names (a, b) AS SELECT 1, 2;
//! CREATE TABLE like_docs (LIKE docs INCLUDING ALL);
//! ```
//!
//! A table `AS` a query gets its name when it is full; before that, and after an error, nobody sees it.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::sql::sqlparser::ast::{self, CommentDef, CreateTableOptions, WrappedCollection};
use futures::FutureExt;
use triune_common::{Error, ErrorKind, Result};
use triune_storage::catalog::{RelationEntry, RelationKind};
use triune_storage::stamp::CommitTs;
use triune_storage::table::{TableDef, TableOptions};

use super::columns::{self, Constraints};
use super::{like, show, types};
use crate::commands::qualified;
use crate::params::Params;
use crate::parser::create_table::like_of;
use crate::result::QueryResult;
use crate::session::SessionCore;
use crate::statement::LikeClause;
use crate::{dml, transaction};

const DONE: &str = "CREATE TABLE";

/// Clauses of other systems.
fn refuse_foreign(table: &ast::CreateTable) -> Result<()> {
    let refused = [
        (table.like.is_some(), "LIKE"),
        (table.clone.is_some(), "CLONE"),
        (table.partition_by.is_some() || table.partition_of.is_some(), "PARTITION"),
        (table.order_by.is_some(), "ORDER BY"),
        (table.on_commit.is_some(), "ON COMMIT"),
        (table.inherits.is_some(), "INHERITS"),
        (table.without_rowid, "WITHOUT ROWID"),
        (table.strict, "STRICT"),
        (table.location.is_some() || table.file_format.is_some(), "LOCATION"),
        (table.clustered_by.is_some(), "CLUSTERED BY"),
        (table.on_cluster.is_some(), "ON CLUSTER"),
        (table.primary_key.is_some(), "PRIMARY KEY after the columns"),
        (table.transient || table.volatile || table.iceberg || table.dynamic, "TRANSIENT and its like"),
    ];
    match refused.iter().find(|(given, _)| *given) {
        Some((_, clause)) => Err(Error::unsupported(format!("CREATE TABLE with {clause} is not supported"))),
        None => Ok(()),
    }
}

/// The definition that a statement describes; `query` are the columns of its query.
async fn definition(
    core: &Arc<SessionCore>,
    (schema, name): (&str, &str),
    table: &ast::CreateTable,
    like: &[LikeClause],
    query: Option<&[FieldRef]>,
) -> Result<TableDef> {
    let mut def = TableDef {
        id: core.database().store().next_table_id(),
        revision: 1,
        columns: vec![],
        primary_key: vec![],
        checks: vec![],
        cluster_by: vec![],
        comment: None,
        options: TableOptions::default(),
        last_column: 0,
        indexes: vec![],
        index_revision: 0,
        created: CommitTs::ZERO,
    };
    let mut constraints = Constraints::default();
    let names_only =
        query.is_some() && table.columns.iter().all(|c| matches!(c.data_type, ast::DataType::Unspecified));
    match query {
        Some(fields) if names_only => {
            if table.columns.len() > fields.len() {
                return Err(Error::invalid(format!(
                    "the table names {} columns, its query has {}",
                    table.columns.len(),
                    fields.len()
                )));
            }
            for (i, field) in fields.iter().enumerate() {
                let mut field = types::stored(field)?.with_nullable(true);
                if let Some(column) = table.columns.get(i) {
                    field = field.with_name(crate::parser::normalize(&column.name));
                }
                columns::check_new_name(&def, field.name())?;
                def.last_column += 1;
                let id = def.last_column;
                def.columns.push(columns::plain(id, field));
            }
        }
        _ => {
            for column in &table.columns {
                match like_of(column).and_then(|n| like.get(n)) {
                    None => columns::add(core, name, &mut def, column, &mut constraints).await?,
                    Some(clause) if column.options.is_empty() => {
                        like::add(core, (schema, name), &mut def, clause, &mut constraints).await?;
                    }
                    Some(clause) => {
                        return Err(Error::invalid(format!(
                            "LIKE {} takes no constraints of a column",
                            clause.source
                        ))
                        .at(clause.at));
                    }
                }
            }
        }
    }
    for constraint in &table.constraints {
        columns::add_constraint(&mut def, name, constraint, &mut constraints)?;
    }
    if def.columns.is_empty() {
        return Err(Error::invalid(format!("the table \"{name}\" has no columns")));
    }
    columns::settle(&mut def, constraints)?;
    if let Some(WrappedCollection::NoWrapping(by) | WrappedCollection::Parentheses(by)) = &table.cluster_by {
        columns::cluster(&mut def, by)?;
    }
    match &table.table_options {
        CreateTableOptions::None => {}
        CreateTableOptions::With(given) => def.options = columns::options(&def.options, given)?,
        other => return Err(Error::unsupported(format!("CREATE TABLE with {other} is not supported"))),
    }
    if let Some(CommentDef::WithEq(text) | CommentDef::WithoutEq(text)) = &table.comment {
        def.comment = Some(text.clone());
    }
    columns::check_generated(&def)?;
    // Planned once, so that mistakes in expressions show now.
    transaction::scoped(core, verify_rules(core, &def, name)).await?;
    Ok(def)
}

/// DEFAULTs and generated values that fit their columns, CHECKs that are conditions.
pub(crate) async fn verify_rules(core: &Arc<SessionCore>, def: &TableDef, name: &str) -> Result<()> {
    let (rules, _) = dml::rows::plan_rules(core, def, name).await?;
    rules.check(def)
}

pub(crate) async fn table(
    core: &Arc<SessionCore>,
    table: ast::CreateTable,
    like: &[LikeClause],
    params: &Params,
) -> Result<QueryResult> {
    transaction::refuse_in_transaction(core, DONE)?;
    refuse_foreign(&table)?;
    let (schema, name) = qualified(&table.name)?;
    let catalog = core.database().catalog();
    if !catalog.schemas.contains_key(&schema) {
        let schemas: Vec<&str> = catalog.schemas.keys().map(String::as_str).collect();
        return Err(Error::not_found(format!("there is no schema \"{schema}\""))
            .with_hint(format!("there are {}", schemas.join(", "))));
    }
    if let Some(taken) = catalog.relation(&schema, &name) {
        if table.if_not_exists {
            return Ok(QueryResult::command(DONE, None));
        }
        check_taken(&name, taken, table.or_replace)?;
    }
    drop(catalog);
    let query = match &table.query {
        Some(query) => {
            let statement = ast::Statement::Query(query.clone());
            Some(core.plan(statement, params).await?)
        }
        None => None,
    };
    let fields: Option<Vec<FieldRef>> = query.as_ref().map(|q| q.schema().fields().iter().cloned().collect());
    let def = definition(core, (&schema, &name), &table, like, fields.as_deref()).await?;
    let store = core.database().store();
    let def = store.create_table(def).boxed().await?;
    let filled = match query {
        Some(plan) => {
            let given = def.columns.iter().filter(|c| c.generated.is_none()).count();
            if plan.schema().fields().len() == given {
                fill(core, &def, &name, &plan).await.map(Some)
            } else {
                Err(Error::invalid(format!(
                    "the table has {given} columns, its query {}",
                    plan.schema().fields().len()
                )))
            }
        }
        None => Ok(None),
    };
    let named = match filled {
        Ok(rows) => publish(core, &schema, &name, &def, table.or_replace, table.if_not_exists)
            .await
            .map(|replaced| (rows, replaced)),
        Err(error) => Err(error),
    };
    match named {
        Ok((rows, replaced)) => {
            if let Some(old) = replaced {
                store.drop_table(old).boxed().await?;
            }
            Ok(QueryResult::command(DONE, rows))
        }
        Err(error) => {
            // What was made is not there; the first error is what the user has to know.
            let _ = store.drop_table(def.id).boxed().await;
            Err(error)
        }
    }
}

fn check_taken(name: &str, taken: &RelationEntry, replace: bool) -> Result<()> {
    let label = taken.kind.label();
    if !replace {
        return Err(Error::new(ErrorKind::AlreadyExists, format!("the {label} \"{name}\" exists already"))
            .with_hint("use OR REPLACE, or IF NOT EXISTS"));
    }
    if taken.kind != RelationKind::Table {
        return Err(
            Error::invalid(format!("\"{name}\" is a {label}, not a table")).with_hint("drop it first")
        );
    }
    Ok(())
}

async fn fill(
    core: &Arc<SessionCore>,
    def: &TableDef,
    name: &str,
    plan: &datafusion::logical_expr::LogicalPlan,
) -> Result<u64> {
    let result = core.start(plan).await?;
    let fields = dml::fields_of(plan, &result.schema());
    let transaction = core.database().store().begin();
    let rows = dml::fill(core, &transaction, def, name, result, &fields).await?;
    transaction.commit(core.work().waits()).boxed().await?;
    Ok(rows)
}

/// Gives the table its name; returns the table that had it.
async fn publish(
    core: &Arc<SessionCore>,
    schema: &str,
    name: &str,
    def: &TableDef,
    replace: bool,
    keep: bool,
) -> Result<Option<triune_storage::stamp::TableId>> {
    let created_at = core.database().options().clock.now();
    let sql = show::create_statement(schema, name, def);
    let mut replaced = None;
    core.database()
        .change_catalog(|catalog| {
            let entry = catalog
                .schemas
                .get_mut(schema)
                .ok_or_else(|| Error::not_found(format!("the schema \"{schema}\" was dropped meanwhile")))?;
            replaced = None;
            if let Some(taken) = entry.relations.get(name) {
                if keep {
                    // Another session was faster; the table that was made goes away.
                    replaced = Some(def.id);
                    return Ok(());
                }
                check_taken(name, taken, replace)?;
                replaced = taken.table.as_ref().map(|t| t.id);
            }
            // The names were free when they were given; another session may have been faster.
            let others = entry.relations.iter().filter(|(other, _)| *other != name);
            for (other, relation) in others {
                let clash = def.indexes().iter().find(|i| {
                    i.name() == other || relation.table.as_ref().is_some_and(|t| t.index(i.name()).is_some())
                });
                if let Some(index) = clash {
                    return Err(Error::new(
                        ErrorKind::AlreadyExists,
                        format!("\"{}\" exists already", index.name()),
                    ));
                }
            }
            let entry_of = RelationEntry {
                kind: RelationKind::Table,
                sql: sql.clone(),
                created_at,
                table: Some(def.clone()),
            };
            entry.relations.insert(name.to_owned(), entry_of);
            Ok(())
        })
        .await?;
    Ok(replaced)
}
