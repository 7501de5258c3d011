//! Conditions on rows in which two columns have one name.
//!
//! ```text
//!  FilterExec: v@3 IS NULL
//!  └─ FilterBarrierExec                          put here
//!     └─ ProjectionExec: [id@2, v@3, id@0, v@1]      the sides of the join were swapped
//!        └─ HashJoinExec: join_type=Left
//! ```
//!
//! DataFusion 54 looks for the columns of a condition that it pushes down by their names, in each operator on the way,
//! and takes the first that it finds: `p.v IS NULL` above such a projection filtered `o.v`. So nothing is pushed into an
//! operator whose rows have a name twice. Conditions that the logical plan has moved to their tables are there already;
//! what is lost are those that joins and sorts send down while they run.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use crate::membership::FilterBarrierExec;

/// The rule; it must run before filters are pushed down.
#[derive(Debug, Default)]
pub(crate) struct SameNames {}

impl PhysicalOptimizerRule for SameNames {
    fn name(&self) -> &str {
        "same_names"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let done = plan.transform_up(|node| {
            let is_barrier =
                |plan: &Arc<dyn ExecutionPlan>| plan.downcast_ref::<FilterBarrierExec>().is_some();
            if is_barrier(&node) {
                return Ok(Transformed::no(node));
            }
            let mut changed = false;
            let children = node.children().into_iter().map(|child| {
                if is_barrier(child) || !has_name_twice(&child.schema()) {
                    return Arc::clone(child);
                }
                changed = true;
                Arc::new(FilterBarrierExec { input: Arc::clone(child) }) as Arc<dyn ExecutionPlan>
            });
            let children: Vec<_> = children.collect();
            if changed {
                Ok(Transformed::yes(node.with_new_children(children)?))
            } else {
                Ok(Transformed::no(node))
            }
        })?;
        Ok(done.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn has_name_twice(schema: &Schema) -> bool {
    let mut seen = HashSet::new();
    !schema.fields().iter().all(|f| seen.insert(f.name()))
}
