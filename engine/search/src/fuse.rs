//! A condition is evaluated by the search, not below it.
//!
//! ```text
//! before  VectorTopKExec: mode=partial, column=e@1          after  VectorTopKExec: mode=partial, column=e@2, filter=kind@1 = a
//!           FilterExec: kind@1 = a, projection=[id@0, e@2]           DataSourceExec
//!             DataSourceExec
//! ```
//!
//! A filter copies every column of the rows that it lets through, and of these columns the vectors are
//! nearly all the bytes: for a third of the rows the copy costs more than comparing all of them. The
//! search evaluates the condition itself and compares vectors where they lie; only rows that it keeps are
//! copied. Where few rows of a batch pass, it copies those and compares them alone.
//!
//! The condition is still applied first: a row that it excludes is never kept, and cannot raise an error.
//!
//! *Does not fire* over a filter with a fetch, and not twice for one search: conditions arrive as one
//! filter.
//!
//! *Position*: the last of the physical rules. It must come after `FilterPushdown` (what a source takes
//! over is no filter any more, and what it prunes by has been told to it) and after `ProjectionPushdown`
//! (which puts the choice of columns into the filter). It changes neither partitions nor order.
//! *Idempotent*: the filter is gone.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;

use crate::topk::VectorTopKExec;

/// See the module.
#[derive(Debug, Default)]
pub struct FuseSearchFilterRule {}

impl FuseSearchFilterRule {
    pub fn new() -> Self {
        Self {}
    }
}

impl PhysicalOptimizerRule for FuseSearchFilterRule {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let fused = plan.transform_up(|node| {
            let Some(search) = node.downcast_ref::<VectorTopKExec>() else {
                return Ok(Transformed::no(node));
            };
            let Some(filter) = search.input().downcast_ref::<FilterExec>() else {
                return Ok(Transformed::no(node));
            };
            match search.with_filter(filter)? {
                Some(fused) => Ok(Transformed::yes(Arc::new(fused) as Arc<dyn ExecutionPlan>)),
                None => Ok(Transformed::no(node)),
            }
        })?;
        Ok(fused.data)
    }

    fn name(&self) -> &str {
        "fuse_search_filter"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
