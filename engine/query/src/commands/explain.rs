//! `EXPLAIN` and `EXPLAIN ANALYZE`.

mod recall;

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::sql::sqlparser::ast;
use futures::StreamExt;
use triune_common::{Error, Result};

use crate::explain::render;
use crate::params::{self, Params};
use crate::parser;
use crate::result::{QueryResult, Tag};
use crate::session::SessionCore;
use crate::statement::{Explain, Statement};
use crate::{dml, observe};

const FORMATS: &str = "accepted are tree, indent, pgjson and graphviz";

pub(super) async fn run(core: &Arc<SessionCore>, explain: Explain, params: &Params) -> Result<QueryResult> {
    let format = explain.format.as_deref().unwrap_or("tree").to_ascii_lowercase();
    if !matches!(format.as_str(), "tree" | "indent" | "pgjson" | "graphviz" | "text") {
        return Err(Error::invalid(format!("EXPLAIN has no format {format}")).with_hint(FORMATS));
    }
    if explain.recall && !explain.analyze {
        return Err(
            Error::invalid("EXPLAIN RECALL runs the statement").with_hint("write EXPLAIN (ANALYZE, RECALL)")
        );
    }
    if explain.recall
        && let Statement::Sql(sql) = explain.statement.as_ref()
        && dml::writing(sql).is_some()
    {
        return Err(Error::unsupported("EXPLAIN RECALL takes a query, which it runs twice"));
    }
    if explain.analyze
        && let Statement::Sql(sql) = explain.statement.as_ref()
        && let Some(done) = analyze_writing(core, sql, params, explain.verbose, &format).await
    {
        return done;
    }
    let (heading, plan) = match *explain.statement {
        Statement::Sql(sql) => plan_of(core, *sql, params).await?,
        Statement::Copy(copy) => (None, core.plan(ast::Statement::Query(copy.query), params).await?),
        _ => return Err(Error::unsupported("EXPLAIN takes a query, a statement that writes rows or a COPY")),
    };
    if explain.analyze {
        if heading.is_some() || matches!(plan, LogicalPlan::Dml(_) | LogicalPlan::Ddl(_)) {
            return Err(Error::unsupported(
                "EXPLAIN ANALYZE takes a query or a statement that writes rows of a table",
            ));
        }
        return analyze(core, &plan, (explain.verbose, explain.recall), &format).await;
    }
    let physical = core.physical(&plan).await?;
    let text = match format.as_str() {
        "indent" => {
            let logical = core.state().optimize(&plan)?;
            format!(
                "logical plan\n{}\n\nphysical plan\n{}",
                logical.display_indent(),
                displayable(physical.as_ref()).indent(explain.verbose)
            )
        }
        "pgjson" => core.state().optimize(&plan)?.display_pg_json().to_string(),
        "graphviz" => displayable(physical.as_ref()).graphviz().to_string(),
        _ => render(&physical, false, explain.verbose),
    };
    match heading {
        Some(heading) if format != "pgjson" && format != "graphviz" => {
            lines(&format!("{heading}\n{}", text.trim_end()))
        }
        _ => lines(text.trim_end()),
    }
}

/// The plan, and what is written with its rows.
async fn plan_of(
    core: &Arc<SessionCore>,
    sql: ast::Statement,
    params: &Params,
) -> Result<(Option<String>, LogicalPlan)> {
    if let Some(writing) = dml::writing(&sql) {
        params::check(&sql, params)?;
        let (heading, plan) = dml::plan(core, writing, Some(params)).await?;
        return Ok((Some(heading), plan));
    }
    match sql {
        ast::Statement::Query(_) => Ok((None, core.plan(sql, params).await?)),
        ast::Statement::Execute { name: Some(name), parameters, .. } => {
            let (statement, params) = super::prepare::bound(core, &name, parameters, params).await?;
            Box::pin(plan_of(core, statement, &params)).await
        }
        mut other => {
            crate::prepass::prepare(&mut other)?;
            Err(Error::unsupported(format!(
                "EXPLAIN of {} is not supported",
                parser::first_words(&other.to_string())
            )))
        }
    }
}

/// Carries a writing statement out, as PostgreSQL does, and shows the query that it was made; `None` for others.
async fn analyze_writing(
    core: &Arc<SessionCore>,
    sql: &ast::Statement,
    params: &Params,
    verbose: bool,
    format: &str,
) -> Option<Result<QueryResult>> {
    if let ast::Statement::Execute { name: Some(name), parameters, .. } = sql {
        let (statement, params) = match super::prepare::bound(core, name, parameters.clone(), params).await {
            Ok(bound) => bound,
            Err(e) => return Some(Err(e)),
        };
        return Box::pin(analyze_writing(core, &statement, &params, verbose, format)).await;
    }
    let writing = dml::writing(sql)?;
    Some(
        async {
            check_analyzed(format)?;
            let heading = writing.heading();
            let clock = Arc::clone(&core.database().options().clock);
            let start = clock.elapsed();
            let (done, plan) = observe::explained(core, Box::pin(dml::run(core, writing, params))).await;
            let result = done?;
            let rows = match result.tag().clone() {
                Tag::Command { rows, .. } => rows,
                Tag::Rows | Tag::Plan => {
                    Some(result.collect().await?.iter().map(|b| b.num_rows() as u64).sum())
                }
            };
            let millis = (clock.elapsed() - start).as_secs_f64() * 1e3;
            let tree = plan.map(|plan| analyzed(&plan, verbose, format)).unwrap_or_default();
            let rows = rows.map_or(String::new(), |n| format!("{n} rows written; "));
            lines(format!("{heading}\n{}\n\n{rows}ran in {millis:.1} ms", tree.trim_end()).trim_end())
        }
        .await,
    )
}

fn check_analyzed(format: &str) -> Result<()> {
    if matches!(format, "tree" | "text" | "indent") {
        return Ok(());
    }
    Err(Error::unsupported(format!("EXPLAIN ANALYZE has no format {format}"))
        .with_hint("accepted are tree and indent"))
}

/// A plan that has run, with what its operators measured.
fn analyzed(plan: &Arc<dyn ExecutionPlan>, verbose: bool, format: &str) -> String {
    match format {
        "indent" => DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(verbose).to_string(),
        _ => render(plan, true, verbose),
    }
}

/// Runs the query to its end, throws its rows away, and shows what each operator did.
async fn analyze(
    core: &Arc<SessionCore>,
    plan: &LogicalPlan,
    (verbose, recall): (bool, bool),
    format: &str,
) -> Result<QueryResult> {
    check_analyzed(format)?;
    let clock = Arc::clone(&core.database().options().clock);
    let start = clock.elapsed();
    let physical = core.physical(plan).await?;
    let planned = clock.elapsed();
    let mut stream: SendableRecordBatchStream =
        core.stream(Arc::clone(&physical), core.state().task_ctx())?;
    let (mut rows, mut found) = (0, Vec::new());
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(triune_files::explain_read_error)?;
        rows += batch.num_rows();
        if recall {
            found.push(batch);
        }
    }
    let done = clock.elapsed();
    let tree = analyzed(&physical, verbose, format);
    let millis = |from: std::time::Duration, to: std::time::Duration| (to - from).as_secs_f64() * 1e3;
    let compared = match recall {
        true => format!("\n{}", recall::line(core, plan, &found).await?),
        false => String::new(),
    };
    lines(&format!(
        "{}\n\n{rows} rows; planned in {:.1} ms, ran in {:.1} ms{compared}",
        tree.trim_end(),
        millis(start, planned),
        millis(planned, done)
    ))
}

fn lines(text: &str) -> Result<QueryResult> {
    let column: StringArray = text.lines().map(Some).collect();
    let batch = RecordBatch::try_from_iter([("plan", Arc::new(column) as _)])?;
    Ok(QueryResult::batches(Tag::Plan, batch.schema(), vec![batch]))
}
