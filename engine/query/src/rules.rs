//! Every rule that plans go through, in order. DataFusion's own keep their order; ours are put among them
//! here and nowhere else.
//!
//! | stage | ours | place | reason |
//! |---|---|---|---|
//! | analyzer | `CountedSets` | first | it knows INTERSECT ALL by the join that stands for it |
//! | analyzer | `VectorSearchAnalyzerRule` | first | type coercion must see the search, not its marker |
//! | analyzer | `UuidTexts` | before type coercion | casts would stand between a column and its text |
//! | analyzer | `Membership` | after type coercion | a value and the elements of its sub-query have one type then |
//! | analyzer | `EmbedBelow` | after type coercion | DataFusion waits for values in projections and filters only |
//! | analyzer | `UnnestRule` | after `Membership` | values that are in a list have become counts of sub-queries |
//! | analyzer | `ValuesMean` | after `Membership` | types are settled, and memberships are comparisons |
//! | analyzer | `Guarded` | after type coercion | casts of texts are there |
//! | analyzer | `CheckedArithmetic` | last | types are settled; whatever is made of the expressions later is checked |
//! | optimizer | `NullSafeKeys` | before keys are made of conditions | what it makes are conditions that become keys |
//! | optimizer | `OrderByDistanceRule`, `KeyJoinSearchRule`, `NarrowSearchRule` | last | columns have been pruned by then |
//! | physical | `OrderAboveSubqueries` | first | sorts that no operator asks for are removed soon after |
//! | physical | `FuseSearchFilterRule`, `LateColumnsRule` | after DataFusion's | filters have found their places; order and partitions stay |
//! | physical | `SameNames` | before each push-down of filters | they go by names of columns |
//! | physical | `KeepsNulls` | before the last push-down of filters | it stops those that joins send down |
//! | physical | `AwaitedFilters` | after the last push-down of filters | it takes some of them back |
//! | physical | `JoinsGiveWay` | last | rules know a join by what stands above it |
//! | planner | `VectorSearchPlanner` | before the defaults | turns the search node into operators |
//!
//! A new DataFusion with other rules fails `tests::the_order_is_known`.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::analyzer::{Analyzer, AnalyzerRule};
use datafusion::optimizer::optimizer::OptimizerRule;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

use triune_unnest::UnnestRule;

use crate::arithmetic::CheckedArithmetic;
use crate::awaited::AwaitedFilters;
use crate::counted::CountedSets;
use crate::ddl::uuids::UuidTexts;
use crate::guarded::Guarded;
use crate::membership::{KeepsNulls, Membership};
use crate::models::below::EmbedBelow;
use crate::output_order::OrderAboveSubqueries;
use crate::same_names::SameNames;
use crate::values::ValuesMean;
use crate::yielding::JoinsGiveWay;

pub(crate) fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![Arc::new(CountedSets::default())];
    rules.extend(triune_search::analyzer_rules());
    rules.push(Arc::new(UuidTexts::default()));
    rules.extend(Analyzer::new().rules);
    rules.push(Arc::new(Membership::default()));
    rules.push(Arc::new(EmbedBelow::default()));
    rules.push(Arc::new(UnnestRule::default()));
    rules.push(Arc::new(ValuesMean::default()));
    rules.push(Arc::new(Guarded::default()));
    rules.push(Arc::new(CheckedArithmetic::default()));
    rules
}

pub(crate) fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = crate::null_safe::optimizer_rules();
    rules.extend(triune_search::optimizer_rules());
    rules
}

pub(crate) fn physical_optimizer_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    rules.insert(0, Arc::new(OrderAboveSubqueries::default()));
    let pushes = |r: &Arc<dyn PhysicalOptimizerRule + Send + Sync>| r.name().starts_with("FilterPushdown");
    let first = rules.iter().position(pushes).unwrap_or(rules.len());
    rules.insert(first, Arc::new(SameNames::default()));
    let last = rules.iter().rposition(pushes).unwrap_or(rules.len());
    rules.insert(last, Arc::new(SameNames::default()));
    rules.insert(last + 1, Arc::new(KeepsNulls::default()));
    rules.insert(last + 3, Arc::new(AwaitedFilters::default()));
    rules.extend(triune_search::physical_optimizer_rules());
    rules.push(Arc::new(JoinsGiveWay::default()));
    rules
}

/// DataFusion's planner, knowing our nodes.
#[derive(Debug, Default)]
pub(crate) struct TriuneQueryPlanner {}

#[async_trait]
impl QueryPlanner for TriuneQueryPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        state: &SessionState,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::with_extension_planners(triune_search::extension_planners())
            .create_physical_plan(plan, state)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_known() {
        let analyzers: Vec<String> = analyzer_rules().iter().map(|r| r.name().to_owned()).collect();
        assert_eq!(analyzers.len(), 11, "{analyzers:?}");
        assert_eq!(analyzers[0], "counted_sets");
        assert_eq!(
            &analyzers[2..],
            [
                "uuid_texts",
                "resolve_grouping_function",
                "type_coercion",
                "membership",
                "embed_below",
                "unnest",
                "values_mean",
                "guarded",
                "checked_arithmetic"
            ]
        );
        let optimizers: Vec<String> = optimizer_rules().iter().map(|r| r.name().to_owned()).collect();
        let at = |name: &str| optimizers.iter().position(|n| n == name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(at("null_safe_keys") + 1, at("extract_equijoin_predicate"));
        assert!(at("push_down_limit") < at("push_down_filter"));
        assert!(at("push_down_filter") < at("optimize_projections"));
        assert_eq!(at("optimize_projections") + 4, optimizers.len(), "{optimizers:?}");
        let physical: Vec<String> = physical_optimizer_rules().iter().map(|r| r.name().to_owned()).collect();
        let keeps =
            physical.iter().position(|n| n == "keeps_nulls").unwrap_or_else(|| panic!("{physical:?}"));
        assert_eq!(
            physical[keeps + 1..keeps + 3],
            ["FilterPushdown(Post)", "awaited_filters"],
            "{physical:?}"
        );
    }
}
