//! Search in SQL:
//!
//! ```sql
//! SELECT id, title, _distance
//! FROM vector_search(docs, embedding, $1, k => 10, metric => 'cosine') AS v
//! WHERE v.lang = 'en'
//! ```
//!
//! What happens to such a statement on its way:
//!
//! ```text
//!  syntax tree      vector_search(docs, embedding, $1, k => 10) AS v
//!   desugar            │
//!                      ▼
//!                   (SELECT *, __vector_search('embedding', $1, 10, '{…}') AS _distance FROM docs) AS v
//!  logical plan        │
//!   analyzer           ▼
//!                   Filter: v.lang = 'en'                Sort: v._distance, fetch=10
//!                    SubqueryAlias: v            ─►       VectorSearch: column=v.embedding, k=10
//!                     Projection: *, marker                Filter: v.lang = 'en'
//!                      TableScan: docs                      SubqueryAlias: v
//!                                                            TableScan: docs
//!   optimizer          │   the search gives out only the columns that are asked for
//!                      ▼
//!  physical plan    VectorTopKExec: mode=final            or, with an index of the table,
//!                    CoalescePartitionsExec               IndexSearchExec, see `access`
//!                     VectorTopKExec: mode=partial
//!                      DataSourceExec
//! ```
//!
//! # What a search answers
//!
//! The `k` rows nearest to the query among the rows of the table that satisfy
//!
//! * `where => …` of the call, and
//! * those conditions of the `WHERE` of the same `SELECT` that speak of the table's columns only
//!   (`IN` and `EXISTS` sub-queries too).
//!
//! Everything else is applied to the `k` rows that were found, as it would be to a sub-query with a
//! `LIMIT`: conditions on `_distance`, conditions that also name another table, conditions without any
//! column, join conditions, `HAVING`, `QUALIFY`, and the `WHERE` of an enclosing `SELECT`. Which
//! conditions come first is read off the statement, never left to what an optimizer can move: a
//! predicate that it infers (`v.id = e.id AND e.id = 7`) does not reach below a search.
//!
//! Rows whose vector is NULL, or whose distance is not a number (a zero vector under cosine), are not
//! results. Which of several rows with the same distance at the k-th place is returned is not defined.
//!
//! `ORDER BY embedding <=> $1 LIMIT k` runs on the same operators ([`order_by`]) and keeps what SQL says of
//! it: all conditions first, rows without a distance last. With an index its rows are as near as those of a
//! search; [`settings`] has the way back to comparing every row.

mod access;
pub mod analyzer;
pub mod desugar;
pub mod diverse;
pub mod fuse;
pub mod fusion;
pub mod grouped;
pub mod key_join;
pub mod late;
pub mod lateral;
pub mod marker;
pub mod narrow;
pub mod node;
pub mod order_by;
pub mod planner;
pub mod recency;
pub mod settings;
pub mod spec;
pub mod text;
pub mod topk;
mod vectors;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;
use datafusion::optimizer::analyzer::AnalyzerRule;
use datafusion::optimizer::optimizer::OptimizerRule;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_planner::ExtensionPlanner;

pub use analyzer::VectorSearchAnalyzerRule;
pub use desugar::{NEAREST, desugar_nearest, desugar_table_factor, is_of_search};
pub use fuse::FuseSearchFilterRule;
pub use key_join::KeyJoinSearchRule;
pub use late::LateColumnsRule;
pub use marker::marker_function;
pub use narrow::NarrowSearchRule;
pub use node::VectorSearchNode;
pub use order_by::OrderByDistanceRule;
pub use planner::VectorSearchPlanner;
pub use settings::{SearchMode, SearchSettings};
pub use spec::SearchSpec;
pub use text::highlight::function::desugar_call;
pub use topk::VectorTopKExec;

/// `highlight` and `snippet`, and the functions that sessions need to plan searches: their markers.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let mut functions = vec![marker_function(), text::marker::marker_function()];
    functions.extend(fusion::marker::marker_functions());
    functions.extend(text::highlight::function::functions());
    functions
}

/// The column that a search adds to the columns of its table.
pub const DISTANCE_COLUMN: &str = "_distance";

/// The greatest `k` of a search.
pub const MAX_K: usize = 1_000_000;

/// The rules that turn the marker function into a search. They come first in the analyzer's list: type
/// coercion must see the search node and the conditions below it, not the marker.
pub fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![Arc::new(VectorSearchAnalyzerRule::new())]
}

/// The logical rules, in their order. They come last, after `optimize_projections`, which has by then put
/// a projection above every place where columns are dropped.
pub fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(OrderByDistanceRule::new()),
        Arc::new(KeyJoinSearchRule::new()),
        Arc::new(NarrowSearchRule::new()),
    ]
}

/// The physical rules. They come last of all; they change neither partitions nor order, so it makes no
/// difference to `SanityCheckPlan` on which side of it they are.
pub fn physical_optimizer_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    vec![Arc::new(FuseSearchFilterRule::new()), Arc::new(LateColumnsRule::new())]
}

/// What turns a search node into operators.
pub fn extension_planners() -> Vec<Arc<dyn ExtensionPlanner + Send + Sync>> {
    vec![
        Arc::new(VectorSearchPlanner::new()),
        Arc::new(text::exec::TextSearchPlanner::new()),
        Arc::new(fusion::exec::FusionPlanner::new()),
    ]
}
