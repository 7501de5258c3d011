//! Filters that joins make for their scans, without waiting for partitions that never come.
//!
//! ```text
//!  HashJoinExec A, partitioned        partition 0 has no rows on the left: it is done, and never asks its right side
//!  ├─ …
//!  └─ SortExec                        partition by partition
//!     └─ HashJoinExec B               waits in partition 1 until partition 0 has told what its filter is made of
//!        ├─ …
//!        └─ HotScanExec dynamic_filter=[…]
//! ```
//!
//! DataFusion 54.1 waits for ever where B collects its left side once, and where nobody drops the partition that was
//! not asked. The rule takes the filter from joins that stand so: on the right side of a partitioned join, or below
//! a merge join, with nothing between them that runs its input by itself.
//!
//! *Costs* what the filter would have saved. The filter of A itself stays, and reaches the scans below B.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode, SortMergeJoinExec,
};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, with_new_children_if_necessary};

/// The rule; filters have been pushed down when it runs.
#[derive(Debug, Default)]
pub(crate) struct AwaitedFilters {}

impl PhysicalOptimizerRule for AwaitedFilters {
    fn name(&self) -> &str {
        "awaited_filters"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        rewrite(&plan, false)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `may_skip`: whether some partitions of the plan may never be asked while others are.
fn rewrite(plan: &Arc<dyn ExecutionPlan>, may_skip: bool) -> Result<Arc<dyn ExecutionPlan>> {
    let may_skip = may_skip && plan.output_partitioning().partition_count() > 1;
    let join = plan.downcast_ref::<HashJoinExec>();
    let children = plan
        .children()
        .into_iter()
        .enumerate()
        .map(|(side, child)| rewrite(child, may_skip_child(plan.as_ref(), join, side, may_skip)))
        .collect::<Result<Vec<_>>>()?;
    match join {
        Some(join) if may_skip && join.dynamic_filter_expr().is_some() => {
            join.builder().reset_state().with_new_children(children)?.build_exec()
        }
        _ => with_new_children_if_necessary(Arc::clone(plan), children),
    }
}

fn may_skip_child(
    plan: &dyn ExecutionPlan,
    join: Option<&HashJoinExec>,
    side: usize,
    may_skip: bool,
) -> bool {
    let (left, partitioned) = (side == 0, join.map(|j| *j.partition_mode() == PartitionMode::Partitioned));
    match partitioned {
        Some(true) => may_skip || !left,
        // The left side is collected by the first partition that is asked.
        Some(false) => may_skip && !left,
        None if plan.is::<SortMergeJoinExec>() => true,
        None if plan.is::<CrossJoinExec>() || plan.is::<NestedLoopJoinExec>() => may_skip && !left,
        // These run all partitions of their input.
        None => {
            may_skip
                && !matches!(
                    plan.name(),
                    "RepartitionExec" | "CoalescePartitionsExec" | "SortPreservingMergeExec"
                )
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::common::{JoinType, NullEquality};
    use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr, lit};
    use datafusion::physical_plan::empty::EmptyExec;
    use datafusion::physical_plan::repartition::RepartitionExec;
    use datafusion::physical_plan::{Partitioning, PhysicalExpr};

    use super::*;

    fn scan(partitions: usize) -> Arc<dyn ExecutionPlan> {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        Arc::new(EmptyExec::new(schema).with_partitions(partitions))
    }

    fn join(
        left: Arc<dyn ExecutionPlan>,
        right: Arc<dyn ExecutionPlan>,
        mode: PartitionMode,
    ) -> HashJoinExec {
        let key = || Arc::new(Column::new("a", 0)) as Arc<dyn PhysicalExpr>;
        let on = vec![(key(), key())];
        let nulls = NullEquality::NullEqualsNothing;
        HashJoinExec::try_new(left, right, on, None, &JoinType::Inner, None, mode, nulls, false).unwrap()
    }

    /// A join that sends a filter down, as B in the drawing.
    fn filtering() -> Arc<dyn ExecutionPlan> {
        let key = Arc::new(Column::new("a", 0)) as Arc<dyn PhysicalExpr>;
        let filter = Arc::new(DynamicFilterPhysicalExpr::new(vec![key], lit(true)));
        let join = join(scan(1), scan(2), PartitionMode::CollectLeft);
        Arc::new(join.with_dynamic_filter_expr(filter).unwrap())
    }

    fn filters_left(plan: impl ExecutionPlan + 'static) -> usize {
        fn count(plan: &Arc<dyn ExecutionPlan>) -> usize {
            let own = plan.downcast_ref::<HashJoinExec>().is_some_and(|j| j.dynamic_filter_expr().is_some());
            usize::from(own) + plan.children().into_iter().map(count).sum::<usize>()
        }
        count(&AwaitedFilters {}.optimize(Arc::new(plan), &ConfigOptions::default()).unwrap())
    }

    #[test]
    fn only_where_a_partition_may_not_be_asked() {
        assert_eq!(filters_left(join(scan(2), filtering(), PartitionMode::Partitioned)), 0);
        assert_eq!(filters_left(join(scan(1), filtering(), PartitionMode::CollectLeft)), 1);
        let below = join(scan(1), filtering(), PartitionMode::CollectLeft);
        assert_eq!(filters_left(join(scan(2), Arc::new(below), PartitionMode::Partitioned)), 0);
        let apart = RepartitionExec::try_new(filtering(), Partitioning::RoundRobinBatch(2)).unwrap();
        assert_eq!(filters_left(join(scan(2), Arc::new(apart), PartitionMode::Partitioned)), 1);
        assert_eq!(filters_left(join(filtering(), scan(2), PartitionMode::Partitioned)), 1);
    }
}
