//! The order of a result whose statement has scalar sub-queries.
//!
//! ```sql
//! SELECT v + (SELECT max(w) FROM u) FROM t ORDER BY id;
//! ```
//!
//! ```text
//! ScalarSubqueryExec: subqueries=1
//! ├─ OutputRequirementExec           put here: keeps the SortExec
//! │  └─ ProjectionExec: expr=[v + …]        drops id, so that nothing else says that the order is wanted
//! │     └─ SortExec: expr=[id]
//! └─ …                               the sub-query
//! ```
//!
//! DataFusion marks the order that a statement wants with an `OutputRequirementExec` above the topmost sort, which it
//! looks for along operators with one input. At a `ScalarSubqueryExec` with its several it stops, and the sort, which
//! no operator asks for, is removed: the rows come in any order. This rule goes on at the first input. The mark is
//! taken away with DataFusion's own.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::output_requirements::OutputRequirements;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;

/// The rule; it must run before the sorts that nobody wants are removed.
#[derive(Debug, Default)]
pub(crate) struct OrderAboveSubqueries {}

impl PhysicalOptimizerRule for OrderAboveSubqueries {
    fn name(&self) -> &str {
        "order_above_subqueries"
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut children: Vec<_> = plan.children().into_iter().map(Arc::clone).collect();
        let is_wanted = plan.maintains_input_order().first() == Some(&true);
        let Some(first) = children.first_mut().filter(|_| is_wanted) else { return Ok(plan) };
        let under = if plan.downcast_ref::<ScalarSubqueryExec>().is_some() {
            let inner = self.optimize(Arc::clone(first), config)?;
            OutputRequirements::new_add_mode().optimize(inner, config)?
        } else if plan.children().len() == 1 {
            self.optimize(Arc::clone(first), config)?
        } else {
            return Ok(plan);
        };
        if Arc::ptr_eq(first, &under) {
            return Ok(plan);
        }
        *first = under;
        plan.with_new_children(children)
    }

    fn schema_check(&self) -> bool {
        true
    }
}
