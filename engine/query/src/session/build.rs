//! The state of a new session: settings, functions, planners, rules.

use std::sync::{Arc, Weak};

use datafusion::catalog::{CatalogProviderList, MemoryCatalogProviderList};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::prelude::SessionConfig;
use triune_search::SearchSettings;
use triune_standard::StandardExprPlanner;
use triune_timeseries::IntervalExprPlanner;
use triune_vector::{VectorExprPlanner, VectorTypePlanner};

use super::SessionCore;
use crate::arithmetic::CheckedSum;
use crate::catalog::{CATALOG, DEFAULT_SCHEMA, TriuneCatalog};
use crate::database::Database;
use crate::ddl::versions;
use crate::json::{self, JsonExprPlanner};
use crate::models::SessionModels;
use crate::{domain, rules};

pub(super) fn session_state(database: &Arc<Database>, core: Weak<SessionCore>) -> SessionState {
    let catalogs = MemoryCatalogProviderList::new();
    let _ = catalogs.register_catalog(CATALOG.to_owned(), Arc::new(TriuneCatalog::new(Weak::clone(&core))));
    // Ours come before DataFusion's own, which take every operator and aggregate that is left.
    let planners: Vec<Arc<dyn ExprPlanner>> = vec![
        Arc::new(VectorExprPlanner),
        Arc::new(IntervalExprPlanner),
        Arc::new(JsonExprPlanner),
        Arc::new(StandardExprPlanner),
    ];
    let config = config();
    let options = Arc::clone(config.options());
    let mut state = SessionStateBuilder::new()
        .with_session_id(database.options().ids.next_id().to_string())
        .with_config(config)
        .with_runtime_env(Arc::clone(database.runtime()))
        .with_catalog_list(Arc::new(catalogs))
        .with_expr_planners(planners)
        .with_type_planner(Arc::new(VectorTypePlanner))
        .with_query_planner(Arc::new(rules::TriuneQueryPlanner::default()))
        .with_default_features()
        .with_analyzer_rules(rules::analyzer_rules())
        .with_optimizer_rules(rules::optimizer_rules())
        .with_physical_optimizer_rules(rules::physical_optimizer_rules())
        .build();
    register_functions(&mut state);
    register_embed(&mut state, Weak::clone(&core));
    state.register_udtf(versions::NAME, Arc::new(versions::Versions(core)));
    follow_settings(&mut state, &options);
    state
}

/// `embed`, over the models of the session's database.
fn register_embed(state: &mut SessionState, core: Weak<SessionCore>) {
    use datafusion::execution::FunctionRegistry;
    let _ = state.register_udf(triune_embed::embed_function(Arc::new(SessionModels(core))));
}

/// Gives functions that depend on settings (`now`, `to_timestamp`, …) the current ones.
pub(crate) fn follow_settings(state: &mut SessionState, options: &ConfigOptions) {
    use datafusion::execution::FunctionRegistry;
    let changed: Vec<_> =
        state.scalar_functions().values().filter_map(|f| f.inner().with_updated_config(options)).collect();
    for function in changed {
        let _ = state.register_udf(Arc::new(function));
    }
}

/// Settings that differ from DataFusion's, each for a reason.
fn config() -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, DEFAULT_SCHEMA)
        .with_information_schema(true);
    let options = config.options_mut();
    // Positions in error messages.
    options.sql_parser.collect_spans = true;
    // PostgreSQL's order: NULLs are greater than everything.
    options.sql_parser.default_null_ordering = "nulls_max".to_owned();
    // 0.1 is exact in PostgreSQL and DuckDB; DataFusion's default reads it as a double, and so do we: vectors
    // and measurements are the common case, and a DECIMAL literal would have to be cast in every kernel.
    options.sql_parser.parse_float_as_decimal = false;
    // `now()` is a TIMESTAMP WITH TIME ZONE; without a zone DataFusion gives it none.
    options.execution.time_zone = Some("UTC".to_owned());
    options.explain.format = datafusion::common::format::ExplainFormat::Tree;
    // Extension types of vectors live in the field's metadata.
    options.execution.parquet.skip_metadata = false;
    // A filter on a small column decides which wide rows are decoded at all.
    options.execution.parquet.pushdown_filters = true;
    options.execution.parquet.reorder_filters = true;
    options.execution.collect_statistics = true;
    // No dealing out of the few rows that a search or a small table gives.
    options.execution.use_row_number_estimates_to_optimize_partitioning = true;
    // Few cores: a build side of some megabytes is better collected once than hashed apart.
    options.optimizer.hash_join_single_partition_threshold = 32 << 20;
    options.optimizer.hash_join_single_partition_threshold_rows = 1 << 20;
    options.extensions.insert(SearchSettings::default());
    config
}

fn register_functions(state: &mut SessionState) {
    use datafusion::execution::FunctionRegistry;
    let scalars = triune_vector::scalar_functions()
        .into_iter()
        .chain(triune_timeseries::scalar_functions())
        .chain(crate::ddl::types::functions())
        .chain(json::functions())
        .chain(triune_search::scalar_functions());
    for function in scalars {
        // Registering fails only for registries that are read only, which this one is not.
        let _ = state.register_udf(function);
    }
    let standard =
        triune_standard::scalar_functions(&|name| state.udf(name).ok(), crate::types::sql_type_name);
    for function in standard {
        let _ = state.register_udf(function);
    }
    for name in domain::FUNCTIONS {
        if let Ok(function) = state.udf(name) {
            let _ = state.register_udf(domain::without_error(&function));
        }
    }
    let _ = state.register_function_rewrite(Arc::new(triune_vector::VectorCastRewrite));
    let sum = Arc::new(AggregateUDF::new_from_impl(CheckedSum::default()));
    let aggregates = triune_vector::aggregate_functions(Some(sum))
        .into_iter()
        .chain(triune_timeseries::aggregate_functions())
        .chain(crate::sliding::functions());
    for function in aggregates {
        let _ = state.register_udaf(function);
    }
    for function in triune_standard::aggregate_functions(&|name| state.udaf(name).ok()) {
        let _ = state.register_udaf(function);
    }
}
