//! From the search node to operators.
//!
//! | rows searched | plan |
//! |---|---|
//! | a table whose column has an index for the metric, `exact` not asked for | `IndexSearchExec`, see `crate::access` |
//! | the same for each row of another relation | `LateralTopKExec`, through an index where that costs less |
//! | with `per => …` | `GroupedTopKExec`: every row is compared |
//! | with `diversity => …` | `DiverseExec` over one of the others |
//! | anything else | a partial and a final `VectorTopKExec`: every row is compared |

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::{DFSchema, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use triune_common::Error;

use crate::access::{IndexSearchExec, Way, rows_way, way_of};
use crate::diverse::{Choice, DiverseExec, candidates};
use crate::grouped::{GroupedSearch, GroupedTopKExec};
use crate::lateral::exec::LateralSearch;
use crate::lateral::{LateralSearchNode, LateralTopKExec};
use crate::node::VectorSearchNode;
use crate::settings::{SEARCH_MODE, SearchMode};
use crate::spec::Diversity;
use crate::topk::{QuerySource, VectorTopKExec};

/// See the module.
#[derive(Debug, Default)]
pub struct VectorSearchPlanner {}

impl VectorSearchPlanner {
    pub fn new() -> Self {
        Self {}
    }
}

#[async_trait]
impl ExtensionPlanner for VectorSearchPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        state: &SessionState,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if let Some(search) = node.as_any().downcast_ref::<LateralSearchNode>() {
            return plan_lateral(planner, search, physical_inputs, state).await.map(Some);
        }
        let Some(search) = node.as_any().downcast_ref::<VectorSearchNode>() else { return Ok(None) };
        let [input] = physical_inputs else {
            return Err(Error::internal("a search was planned without its input").into());
        };
        let column = planner.create_physical_expr(search.column(), search.input().schema(), state)?;
        let query =
            QuerySource::new(planner.create_physical_expr(search.query(), &DFSchema::empty(), state)?);
        let mode = SearchMode::of(state.config_options());
        let by_index_only = mode == SearchMode::Index && !search.spec().exact;
        if !search.per().is_empty() {
            if by_index_only {
                return Err(no_index("k rows per group are found by comparing every row").into());
            }
            let per = search.per().iter();
            let per = per.map(|e| planner.create_physical_expr(e, search.input().schema(), state));
            let per = per.collect::<Result<Vec<_>>>()?;
            let (spec, output) = (search.spec(), search.output_indices()?);
            let name = search.distance_column().name;
            let search = GroupedSearch { column, query, per, metric: spec.metric, k: spec.k, output, name };
            return Ok(Some(Arc::new(GroupedTopKExec::try_new(Arc::clone(input), search)?)));
        }
        if let Some(diversity) = search.spec().diversity {
            return Box::pin(plan_diverse(self, planner, search, (input, diversity), state)).await.map(Some);
        }
        let way = way_of(search, &query, mode, planner, state).await?;
        let output = search.output_indices()?;
        let name = search.distance_column().name;
        let spec = search.spec();
        let exact = |access: String| {
            VectorTopKExec::exact_because(Arc::clone(input), column, query, spec, output, &name, access)
        };
        match way {
            Way::Index { plan, index } => {
                let otherwise = exact("exact, if the index cannot answer".to_owned())?;
                let strict = mode == SearchMode::Index;
                let search =
                    IndexSearchExec::try_new(plan, otherwise, (spec.k, spec.missing), index, strict)?;
                Ok(Some(Arc::new(search)))
            }
            Way::Exact { why } if by_index_only => {
                let why =
                    why.unwrap_or_else(|| "the rows searched are not a table that has indexes".to_owned());
                Err(no_index(&why).into())
            }
            Way::Exact { why: Some(why) } => exact(format!("exact ({why})")).map(Some),
            Way::Exact { why: None } => exact("exact".to_owned()).map(Some),
        }
    }
}

/// An error of `search.mode = index`.
pub(crate) fn no_index(why: &str) -> Error {
    Error::invalid(format!("{SEARCH_MODE} is index, and no index can be used: {why}"))
        .with_hint(format!("CREATE INDEX makes one; SET {SEARCH_MODE} = auto compares every row"))
}

/// The candidates by whatever way there is, and the choice among them.
async fn plan_diverse(
    this: &VectorSearchPlanner,
    planner: &dyn PhysicalPlanner,
    search: &VectorSearchNode,
    (input, diversity): (&Arc<dyn ExecutionPlan>, Diversity),
    state: &SessionState,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Expr::Column(column) = search.column() else {
        return Err(Error::internal("the vectors of a search with diversity are no column").into());
    };
    let k = search.spec().k;
    let candidates = search.of_candidates(candidates(k), column)?;
    let found = this.plan_extension(planner, &candidates, &[], std::slice::from_ref(input), state).await?;
    let Some(found) = found else {
        return Err(Error::internal("the candidates of a search were not planned").into());
    };
    let all = UserDefinedLogicalNodeCore::schema(&candidates);
    let vectors = all.index_of_column(column)?;
    let output = UserDefinedLogicalNodeCore::schema(search).columns();
    let output = output.iter().map(|c| all.index_of_column(c)).collect::<Result<Vec<_>>>()?;
    let metric = search.spec().metric;
    Ok(Arc::new(DiverseExec::try_new(found, Choice { k, diversity, metric, vectors, output })?))
}

async fn plan_lateral(
    planner: &dyn PhysicalPlanner,
    search: &LateralSearchNode,
    inputs: &[Arc<dyn ExecutionPlan>],
    state: &SessionState,
) -> Result<Arc<dyn ExecutionPlan>> {
    let [left, right] = inputs else {
        return Err(Error::internal("searches per row were planned without their inputs").into());
    };
    let mode = SearchMode::of(state.config_options());
    let way = rows_way(search, mode, state).await?;
    if let (Err(why), true) = (&way, mode == SearchMode::Index && !search.spec().exact) {
        let why = why.as_deref().unwrap_or("the rows searched are not a table that has indexes");
        return Err(no_index(why).into());
    }
    let both = search.left().schema().join(search.right().schema())?;
    let schema = search.schema_ref();
    let names = search.own_columns().map(|i| schema.field(i).name().clone());
    let search = LateralSearch {
        column: planner.create_physical_expr(search.column(), search.right().schema(), state)?,
        query: planner.create_physical_expr(search.query(), search.left().schema(), state)?,
        filter: match search.filter() {
            Some(filter) => Some(planner.create_physical_expr(filter, &both, state)?),
            None => None,
        },
        spec: search.spec().clone(),
        output: search.output_indices()?,
        names,
    };
    let exec = LateralTopKExec::try_new(Arc::clone(left), Arc::clone(right), search)?;
    Ok(Arc::new(exec.with_way(way)))
}
