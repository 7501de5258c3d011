//! Everything that is not a plain query, one file per family.

mod copy;
mod create;
mod describe;
mod drop;
mod explain;
mod indexes;
pub(crate) mod models;
mod prepare;
mod secret;
mod settings;
mod show;
mod users;

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use datafusion::sql::sqlparser::ast;
use triune_common::{Error, ErrorKind, Result};

pub(crate) use create::qualified;
pub(crate) use settings::follow as follow_settings;

use crate::ddl::maintain;
use crate::params::Params;
use crate::result::{QueryResult, Tag};
use crate::session::SessionCore;
use crate::statement::Statement;
use crate::{ddl, dml, observe, parser, transaction};

/// Runs a parsed statement.
pub(crate) async fn run(
    core: &Arc<SessionCore>,
    statement: Arc<Statement>,
    params: &Params,
) -> Result<QueryResult> {
    // By reference: a statement that comes again with other values is not copied.
    if let Statement::Sql(sql) = statement.as_ref() {
        if let Some(done) = Box::pin(dml::point::run(core, sql, params)).await {
            return done;
        }
        if let Some(writing) = dml::writing(sql) {
            return Box::pin(observe::observed(core, dml::run(core, writing, params))).await;
        }
    }
    match Arc::unwrap_or_clone(statement) {
        Statement::Sql(sql) => Box::pin(run_sql(core, *sql, params)).await,
        Statement::CreateExternalTable(table) => create::external_table(core, *table).await,
        Statement::CreateTableLike { table, like } if table.temporary => {
            Box::pin(create::table_like(core, *table, &like)).await
        }
        Statement::CreateTableLike { table, like } => {
            Box::pin(ddl::create::table(core, *table, &like, params)).await
        }
        Statement::Copy(copy) => Box::pin(copy::run(core, *copy, params)).await,
        Statement::CreateSecret(secret) => secret::create(core, secret).await,
        Statement::DropSecret { name, if_exists } => secret::drop(core, &name, if_exists).await,
        Statement::CreateUser(user) => Box::pin(users::create(core, user)).await,
        Statement::AlterUser(user) => Box::pin(users::alter(core, user)).await,
        Statement::DropUser { name, if_exists } => users::drop_user(core, &name, if_exists).await,
        Statement::ShowUsers => users::show_users(core),
        Statement::CreateToken(token) => users::create_token(core, token).await,
        Statement::DropToken { name, if_exists } => users::drop_token(core, &name, if_exists).await,
        Statement::ShowTokens => users::show_tokens(core),
        Statement::ShowSecrets => secret::show(core),
        Statement::CreateModel(model) => Box::pin(models::create(core, model)).await,
        Statement::DropModel { name, if_exists } => models::drop(core, &name, if_exists).await,
        Statement::ShowModels => models::show(core),
        Statement::ShowIndexes => Box::pin(indexes::show(core)).await,
        Statement::Explain(explain) => Box::pin(explain::run(core, explain, params)).await,
        Statement::Describe(query) => describe::describe(core, *query, params).await,
        Statement::Summarize(query) => Box::pin(describe::summarize(core, *query, params)).await,
        Statement::Reset(name) => settings::reset(core, name.as_deref()),
        Statement::CopyFrom(copy) => Box::pin(observe::observed(core, dml::copy_from(core, &copy))).await,
        Statement::Checkpoint => maintain::checkpoint(core).await,
        Statement::Refresh => maintain::refresh(core).await,
        Statement::Optimize(name) => maintain::optimize(core, &name).await,
        Statement::Vacuum(name) => maintain::vacuum(core, name.as_ref()).await,
        Statement::Restore { table, version, is_number } => {
            let version = crate::moments::version(core, &version, is_number).await?;
            Box::pin(maintain::restore(core, &table, &version)).await
        }
        Statement::CreateIndex(index) => Box::pin(ddl::indexes::create(core, *index)).await,
        Statement::DropIndex { names, if_exists } => {
            Box::pin(ddl::indexes::drop(core, &names, if_exists)).await
        }
        Statement::Reindex { name, of_table } => Box::pin(ddl::indexes::reindex(core, &name, of_table)).await,
        Statement::AlterIndex { name, if_exists, change } => {
            Box::pin(ddl::indexes::alter(core, &name, if_exists, change)).await
        }
        Statement::Abort => command("ROLLBACK", transaction::roll_back(core)),
    }
}

async fn run_sql(core: &Arc<SessionCore>, statement: ast::Statement, params: &Params) -> Result<QueryResult> {
    use ast::Statement as Sql;
    match statement {
        Sql::Query(_) => core.start_result(&core.plan_result(statement, params).await?).await,
        Sql::CreateTable(table) if table.temporary => Box::pin(create::table(core, table, params)).await,
        Sql::CreateTable(table) => {
            Box::pin(observe::observed(core, ddl::create::table(core, table, &[], params))).await
        }
        Sql::AlterTable(alter) => Box::pin(ddl::alter::run(core, &alter)).await,
        Sql::Comment { object_type, object_name, comment, if_exists, .. } => {
            Box::pin(ddl::alter::comment(core, object_type, &object_name, comment, if_exists)).await
        }
        Sql::ShowCreate { obj_type, obj_name } => ddl::show::create(core, obj_type, &obj_name),
        Sql::StartTransaction { modes, modifier: None, statements, exception: None, .. }
            if statements.is_empty() =>
        {
            command("BEGIN", transaction::begin(core, &modes))
        }
        Sql::Commit { chain: false, modifier: None, .. } => {
            command("COMMIT", transaction::commit(core).await)
        }
        Sql::Rollback { chain: false, savepoint: None } => command("ROLLBACK", transaction::roll_back(core)),
        Sql::Rollback { chain: false, savepoint: Some(name) } => {
            command("ROLLBACK", transaction::roll_back_to(core, &parser::normalize(&name)))
        }
        Sql::Savepoint { name } => {
            command("SAVEPOINT", transaction::savepoint(core, parser::normalize(&name)))
        }
        Sql::ReleaseSavepoint { name } => {
            command("RELEASE", transaction::release(core, &parser::normalize(&name)))
        }
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
        Sql::ShowVariable { .. } | Sql::ShowColumns { .. } | Sql::ShowFunctions { .. } => {
            core.start(&core.plan(statement, params).await?).await
        }
        other => {
            // The pre-pass says what is missing better than a list of statements could.
            let mut other = other;
            crate::prepass::prepare(&mut other)?;
            Err(Error::unsupported(format!("{} is not supported", parser::first_words(&other.to_string()))))
        }
    }
}

fn command(name: &str, done: Result<()>) -> Result<QueryResult> {
    done.map(|()| QueryResult::command(name, None))
}

/// INSERT into a table that the session holds in memory.
pub(crate) async fn insert_temporary(
    core: &Arc<SessionCore>,
    statement: ast::Statement,
    params: &Params,
) -> Result<QueryResult> {
    let plan = core.plan(statement, params).await?;
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
pub(crate) fn known(batch: RecordBatch) -> QueryResult {
    QueryResult::batches(Tag::Rows, batch.schema(), vec![batch])
}
