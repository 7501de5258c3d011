//! `PREPARE name (types) AS …`, `EXECUTE name (values)`, `DEALLOCATE name`.
//!
//! A prepared statement is kept as its tree and planned anew each time: it sees tables as they are then.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::sql::sqlparser::ast;
use triune_common::names::did_you_mean;
use triune_common::{Error, ErrorKind, Result};

use crate::dml;
use crate::params::{self, Params};
use crate::parser::{self, dotted, normalize};
use crate::prepass;
use crate::result::QueryResult;
use crate::session::{Prepared, SessionCore};
use crate::statement::Statement;

pub(super) async fn prepare(
    core: &Arc<SessionCore>,
    name: &ast::Ident,
    types: Vec<ast::DataType>,
    statement: Statement,
) -> Result<QueryResult> {
    let name = normalize(name);
    if core.prepared().read().contains_key(&name) {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("the statement \"{name}\" is prepared already"),
        )
        .with_hint(format!("DEALLOCATE {name} first")));
    }
    // Planned once now, so that mistakes show here and not at the first EXECUTE.
    if let Statement::Sql(sql) = &statement {
        let plan = match dml::writing(sql) {
            Some(writing) => dml::plan(core, writing, None).await?.1,
            None => core.plan_unbound(sql.as_ref().clone()).await?,
        };
        let found = plan.get_parameter_names()?.len();
        if !types.is_empty() && types.len() < found {
            return Err(Error::invalid(format!(
                "the statement has {found} parameters, {} types are given",
                types.len()
            )));
        }
    }
    core.prepared().write().insert(name, Prepared { statement, types });
    Ok(QueryResult::command("PREPARE", None))
}

pub(super) async fn execute(
    core: &Arc<SessionCore>,
    name: &ast::ObjectName,
    values: Vec<ast::Expr>,
    params: &Params,
) -> Result<QueryResult> {
    let (statement, params) = bound(core, name, values, params).await?;
    if let Some(done) = dml::point::run(core, &statement, &params).await {
        return done;
    }
    if let Some(writing) = dml::writing(&statement) {
        return dml::run(core, writing, &params).await;
    }
    core.start_result(&core.plan_result(statement, &params).await?).await
}

/// The statement that an `EXECUTE` names, and the values for its parameters.
pub(super) async fn bound(
    core: &Arc<SessionCore>,
    name: &ast::ObjectName,
    values: Vec<ast::Expr>,
    outer: &Params,
) -> Result<(ast::Statement, Params)> {
    let prepared = find(core, &dotted(name))?;
    let Statement::Sql(statement) = prepared.statement else {
        return Err(Error::unsupported("only queries can be executed by name"));
    };
    let mut given = Vec::with_capacity(values.len());
    for (i, value) in values.into_iter().enumerate() {
        let value = constant(core, value, outer).await?;
        let name = format!("${}", i + 1);
        let declared = match prepared.types.get(i) {
            Some(t) => Some(field_of(core, t).await?),
            None => None,
        };
        given.push(params::cast(&name, &value, declared.as_ref())?);
    }
    let mut statement = *statement;
    let params = Params::Positional(given);
    if core.database().catalog().models.is_empty() {
        return Ok((statement, params));
    }
    params::check(&statement, &params)?;
    crate::models::constants::settle(core, &mut statement, &params).await?;
    let left = params::used(&statement, params);
    Ok((statement, left))
}

fn find(core: &SessionCore, name: &str) -> Result<Prepared> {
    let prepared = core.prepared().read();
    prepared.get(name).cloned().ok_or_else(|| {
        let error = Error::not_found(format!("no prepared statement is called \"{name}\""));
        match did_you_mean(name, prepared.keys().map(String::as_str)) {
            Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
            None => error,
        }
    })
}

/// Evaluates an argument: any expression without columns.
async fn constant(core: &Arc<SessionCore>, expr: ast::Expr, outer: &Params) -> Result<ScalarValue> {
    let query = parser::parse_query(&format!("SELECT {expr}"))?;
    let plan = core.plan(ast::Statement::Query(query), outer).await?;
    let batches = core.start(&plan).await?.collect().await?;
    let batch = batches.iter().find(|b| b.num_rows() > 0);
    let batch = batch.ok_or_else(|| Error::invalid(format!("{expr} has no value")))?;
    Ok(ScalarValue::try_from_array(batch.column(0), 0)?)
}

/// A declared type as Arrow's, through a cast of NULL.
async fn field_of(core: &Arc<SessionCore>, data_type: &ast::DataType) -> Result<FieldRef> {
    let mut query = parser::parse_query(&format!("SELECT CAST(NULL AS {data_type})"))?;
    prepass::prepare(query.as_mut())?;
    let plan = core.plan_prepared(ast::Statement::Query(query)).await?;
    let schema: &DFSchema = plan.schema();
    let field = schema.fields().first().cloned();
    Ok(field.unwrap_or_else(|| Arc::new(Field::new("?", DataType::Null, true))))
}

pub(super) fn deallocate(core: &Arc<SessionCore>, name: &ast::Ident) -> Result<QueryResult> {
    let name = normalize(name);
    if name == "all" {
        core.prepared().write().clear();
    } else {
        find(core, &name)?;
        core.prepared().write().remove(&name);
    }
    Ok(QueryResult::command("DEALLOCATE", None))
}
