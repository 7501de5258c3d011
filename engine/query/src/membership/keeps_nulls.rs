//! A place that lets no condition through, below the joins that must see NULLs.
//!
//! ```text
//!  HashJoinExec: join_type=LeftAnti, on=[(v, w)]        none of its rows, if a w is NULL
//!  ├─ …
//!  └─ FilterBarrierExec                                     stops `w >= 1 AND w <= 3`, which no NULL passes
//!     └─ HotScanExec: …
//! ```
//!
//! DataFusion 54 sends the range of the left keys down to the right side of joins by `IS NOT DISTINCT FROM` as well,
//! INTERSECT and EXCEPT among them, and loses the rows whose keys are NULL on both sides.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{NullEquality, Result, Statistics};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use triune_common::Error;

/// The rule; it must run before the last push-down of filters.
#[derive(Debug, Default)]
pub(crate) struct KeepsNulls {}

impl PhysicalOptimizerRule for KeepsNulls {
    fn name(&self) -> &str {
        "keeps_nulls"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let done = plan.transform_up(|node| {
            // `IS NOT DISTINCT FROM`, INTERSECT and EXCEPT join NULLs with NULLs.
            let aware = node
                .downcast_ref::<HashJoinExec>()
                .is_some_and(|join| join.null_aware || join.null_equality() == NullEquality::NullEqualsNull);
            let children: Vec<_> = node.children().into_iter().map(Arc::clone).collect();
            match children.as_slice() {
                [left, right] if aware && right.downcast_ref::<FilterBarrierExec>().is_none() => {
                    let right = Arc::new(FilterBarrierExec { input: Arc::clone(right) });
                    Ok(Transformed::yes(node.with_new_children(vec![Arc::clone(left), right])?))
                }
                _ => Ok(Transformed::no(node)),
            }
        })?;
        Ok(done.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Its input's rows; conditions that are sent down stay above it.
#[derive(Debug)]
pub(crate) struct FilterBarrierExec {
    pub(crate) input: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for FilterBarrierExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilterBarrierExec")
    }
}

impl ExecutionPlan for FilterBarrierExec {
    fn name(&self) -> &str {
        "FilterBarrierExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self { input })),
            _ => Err(Error::internal("FilterBarrierExec has one input").into()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        self.input.partition_statistics(partition)
    }
}
