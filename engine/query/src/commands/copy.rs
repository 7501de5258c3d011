//! `COPY (query) TO 'target'`.

use std::sync::Arc;

use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::dml::CopyTo as CopyToPlan;
use datafusion::sql::sqlparser::ast;
use triune_common::{Error, Result};
use triune_files::copy_target;
use triune_lance::WriteMode;
use triune_object_store::parse_location;

use crate::params::Params;
use crate::result::QueryResult;
use crate::session::SessionCore;
use crate::statement::CopyTo;

const DONE: &str = "COPY";

pub(super) async fn run(core: &Arc<SessionCore>, copy: CopyTo, params: &Params) -> Result<QueryResult> {
    let input = core.plan(ast::Statement::Query(copy.query.clone()), params).await?;
    for column in &copy.partition_columns {
        if !input.schema().fields().iter().any(|f| f.name() == column) {
            let names: Vec<&str> = input.schema().fields().iter().map(|f| f.name().as_str()).collect();
            return Err(Error::not_found(format!("there is no column \"{column}\" to partition by"))
                .with_hint(format!("the query has {}", names.join(", "))));
        }
    }
    if is_lance(&copy) {
        return to_lance(core, &copy, &input).await;
    }
    let partitioned = !copy.partition_columns.is_empty();
    let target = copy_target(&copy.target, copy.format.as_deref(), copy.options.clone(), partitioned)?;
    let plan = LogicalPlan::Copy(CopyToPlan::new(
        Arc::new(input),
        target.output_url(),
        copy.partition_columns.clone(),
        target.file_type,
        target.options,
    ));
    let rows = super::written(&core.start(&plan).await?.collect().await?)?;
    Ok(QueryResult::command(DONE, Some(rows)))
}

fn is_lance(copy: &CopyTo) -> bool {
    match &copy.format {
        Some(format) => format.eq_ignore_ascii_case("lance"),
        None => copy.target.trim_end_matches('/').to_ascii_lowercase().ends_with(".lance"),
    }
}

/// Lance keeps versions: an existing dataset gets a new one when the mode says so.
async fn to_lance(core: &Arc<SessionCore>, copy: &CopyTo, input: &LogicalPlan) -> Result<QueryResult> {
    if !copy.partition_columns.is_empty() {
        return Err(Error::unsupported("a Lance dataset is not partitioned by folders"));
    }
    let mut mode = WriteMode::Create;
    for (key, value) in &copy.options {
        if !key.eq_ignore_ascii_case("mode") {
            return Err(Error::invalid(format!("COPY to Lance has no option {key}")).with_hint("it has MODE"));
        }
        mode = match value.to_ascii_lowercase().as_str() {
            "create" => WriteMode::Create,
            "append" => WriteMode::Append,
            "overwrite" => WriteMode::Overwrite,
            other => {
                return Err(Error::invalid(format!("MODE {other} is unknown"))
                    .with_hint("accepted are create, append and overwrite"));
            }
        };
    }
    let url = parse_location(&copy.target)?;
    let stream = core.start(input).await?.into_stream();
    let rows = core.database().lance().write(&url, stream, mode).await?;
    Ok(QueryResult::command(DONE, Some(rows)))
}
