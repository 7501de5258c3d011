//! A session with everything of this crate, for tests that are best written in SQL.

use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::config::Dialect;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use triune_common::Error;

use crate::{VectorCastRewrite, VectorExprPlanner, VectorTypePlanner, aggregate_functions, scalar_functions};

pub(crate) fn session() -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(2).with_information_schema(true);
    config.options_mut().sql_parser.dialect = Dialect::PostgreSQL;
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_expr_planners(vec![Arc::new(VectorExprPlanner)])
        .with_type_planner(Arc::new(VectorTypePlanner))
        .with_default_features()
        .build();
    let mut context = SessionContext::new_with_state(state);
    for f in scalar_functions() {
        context.register_udf(f.as_ref().clone());
    }
    for f in aggregate_functions(None) {
        context.register_udaf(f.as_ref().clone());
    }
    context.register_function_rewrite(Arc::new(VectorCastRewrite)).unwrap();
    context
}

/// The result of one statement as texts, row by row.
pub(crate) async fn try_rows(context: &SessionContext, sql: &str) -> Result<Vec<Vec<String>>, Error> {
    let plan = context.state().create_logical_plan(sql).await?;
    let batches = context.execute_logical_plan(plan).await?.collect().await?;
    let options = FormatOptions::default().with_null("NULL");
    let mut out = Vec::new();
    for batch in &batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
        out.extend((0..batch.num_rows()).map(|r| columns.iter().map(|c| c.value(r).to_string()).collect()));
    }
    Ok(out)
}

/// The only value of a statement's result, of a fresh session.
pub(crate) async fn value(sql: &str) -> String {
    match try_rows(&session(), sql).await {
        Ok(rows) => rows[0][0].clone(),
        Err(e) => panic!("{sql}: {e}"),
    }
}

/// The error that a statement must end with, of a fresh session.
pub(crate) async fn error(sql: &str) -> String {
    match try_rows(&session(), sql).await {
        Ok(rows) => panic!("{sql} gave {rows:?}"),
        Err(e) => e.to_string(),
    }
}
