//! Everything that is not a plain query, one file per family.

mod copy;
mod create;
mod describe;
mod drop;
mod explain;
mod indexes;
mod prepare;
mod secret;
mod settings;
mod show;

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast;
use triune_common::{Error, ErrorKind, Result};

use crate::params::Params;
use crate::parser;
use crate::result::{QueryResult, Tag};
use crate::session::SessionCore;
use crate::statement::Statement;

/// Runs a parsed statement.
pub(crate) async fn run(
    core: &Arc<SessionCore>,
    statement: Statement,
    params: &Params,
) -> Result<QueryResult> {
    match statement {
        Statement::Sql(sql) => Box::pin(run_sql(core, *sql, params)).await,
        Statement::CreateExternalTable(table) => create::external_table(core, *table).await,
        Statement::Copy(copy) => Box::pin(copy::run(core, *copy, params)).await,
        Statement::CreateSecret(secret) => secret::create(core, secret).await,
        Statement::DropSecret { name, if_exists } => secret::drop(core, &name, if_exists).await,
        Statement::ShowSecrets => secret::show(core),
        Statement::ShowIndexes => Box::pin(indexes::show(core)).await,
        Statement::Explain(explain) => Box::pin(explain::run(core, explain, params)).await,
        Statement::Describe(query) => describe::describe(core, *query, params).await,
        Statement::Summarize(query) => Box::pin(describe::summarize(core, *query, params)).await,
        Statement::Reset(name) => settings::reset(core, name.as_deref()),
    }
}

async fn run_sql(core: &Arc<SessionCore>, statement: ast::Statement, params: &Params) -> Result<QueryResult> {
    use ast::Statement as Sql;
    match statement {
        Sql::Query(_) => core.start_result(&core.plan_result(statement, params).await?).await,
        Sql::Insert(_) => insert(core, statement, params).await,
        Sql::CreateTable(table) => Box::pin(create::table(core, table, params)).await,
        Sql::CreateView(view) => create::view(core, view).await,
        Sql::CreateSchema { schema_name, if_not_exists, .. } => {
            create::schema(core, &schema_name, if_not_exists).await
        }
        Sql::Drop { object_type, if_exists, names, cascade, temporary, .. } => {
            drop::run(core, object_type, if_exists, &names, cascade, temporary).await
        }
        Sql::Set(set) => settings::set(core, &set),
        Sql::Prepare { name, data_types, statement } => {
            prepare::prepare(core, &name, data_types, Statement::Sql(statement)).await
        }
        Sql::Execute { name: Some(name), parameters, .. } => {
            Box::pin(prepare::execute(core, &name, parameters, params)).await
        }
        Sql::Deallocate { name, .. } => prepare::deallocate(core, &name),
        Sql::ExplainTable { table_name, .. } => {
            let query = parser::parse_query(&format!("SELECT * FROM {table_name}"))?;
            describe::describe(core, *query, params).await
        }
        Sql::ShowTables { show_options, .. } => show::tables(core, show_options).await,
        Sql::ShowVariable { .. }
        | Sql::ShowColumns { .. }
        | Sql::ShowFunctions { .. }
        | Sql::ShowCreate { .. } => core.start(&core.plan(statement, params).await?).await,
        other => {
            // The pre-pass says what is missing better than a list of statements could.
            let mut other = other;
            crate::prepass::prepare(&mut other)?;
            Err(Error::unsupported(format!("{} is not supported", parser::first_words(&other.to_string()))))
        }
    }
}

async fn insert(core: &Arc<SessionCore>, statement: ast::Statement, params: &Params) -> Result<QueryResult> {
    let plan = core.plan(statement, params).await?;
    if let LogicalPlan::Dml(dml) = &plan {
        let table = dml.table_name.table();
        if core.temporary(table).is_none() {
            return Err(Error::unsupported(format!(
                "\"{table}\" is not a temporary table, INSERT into it is not supported yet"
            ))
            .with_hint("write new files with COPY (…) TO '…'"));
        }
    }
    let rows = written(&core.start(&plan).await?.collect().await?)?;
    Ok(QueryResult::command("INSERT", Some(rows)))
}

/// DataFusion's sinks answer with one number.
fn written(batches: &[RecordBatch]) -> Result<u64> {
    let mut rows = 0;
    for batch in batches {
        let counts = batch.columns().first().and_then(|c| c.as_any().downcast_ref::<UInt64Array>());
        rows += counts
            .map(|c| c.iter().flatten().sum::<u64>())
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a sink did not say how many rows it wrote"))?;
    }
    Ok(rows)
}

/// A result that is known already, such as a list of secrets.
fn known(batch: RecordBatch) -> QueryResult {
    QueryResult::batches(Tag::Rows, batch.schema(), vec![batch])
}
