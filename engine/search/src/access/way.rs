//! Which way a search of vectors takes, and its plan.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array};
use arrow::datatypes::FieldRef;
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_planner::PhysicalPlanner;
use triune_common::{Error, ErrorKind};
use triune_lance::{AnnRequest, LanceMetric, LanceProvider, VectorIndexInfo, VectorScorer, plan_ann};

use super::deferred::DeferredAnnExec;
use super::hot::hot_part;
use super::keys::KeyMask;
use super::searched::{Searched, has_table, scan_of};
use super::{UsedIndex, Way, WhyNone, access_of, metric_of};
use crate::DISTANCE_COLUMN;
use crate::node::VectorSearchNode;
use crate::settings::{SEARCH_MODE, SearchMode};
use crate::spec::{Missing, SearchSpec};
use crate::topk::{QuerySource, TopKMode, VectorTopKExec};
use crate::vectors::Comparer;

/// Decides how a search finds its rows.
///
/// # Errors
/// Those of the query, if it is known; of reading the table's state. Not those of an index, without which rows can be
/// found as well.
pub(crate) async fn way_of(
    search: &VectorSearchNode,
    query: &QuerySource,
    mode: SearchMode,
    planner: &dyn PhysicalPlanner,
    state: &SessionState,
) -> Result<Way> {
    let spec = search.spec();
    let Some(Searched { scan, columns, joins }) = scan_of(search.input())? else {
        let why = has_table(search.input())
            .then(|| "the rows searched are not a table with conditions of one row".to_owned());
        return Ok(Way::Exact { why });
    };
    let Ok(source) = source_as_provider(&scan.source) else { return Ok(Way::Exact { why: None }) };
    let Some(table) = access_of(source.as_ref()) else { return Ok(Way::Exact { why: None }) };
    if spec.exact {
        return Way::exact("exact => true");
    }
    if mode == SearchMode::Exact {
        return Way::exact(format!("{SEARCH_MODE} = exact"));
    }
    let Some(metric) = metric_of(spec.metric) else {
        return Way::exact(format!("no index has the metric {}", spec.metric.name()));
    };
    if scan.fetch.is_some() {
        return Way::exact("the table is searched only in part");
    }
    let Expr::Column(column) = search.column() else { return Ok(Way::Exact { why: None }) };
    let output: Option<Vec<usize>> =
        search.output_indices()?.into_iter().map(|i| columns.get(i).copied()).collect();
    let (Some(output), Some(place)) = (output, columns.get(search.input().schema().index_of_column(column)?))
    else {
        return Ok(Way::Exact { why: None });
    };
    let schema = scan.source.schema();
    let field = Arc::clone(&schema.fields()[*place]);
    if output.iter().any(|c| schema.field(*c).name() == DISTANCE_COLUMN) {
        return Way::exact(format!("the table has a column \"{DISTANCE_COLUMN}\""));
    }
    let told = table.why_none(field.name(), metric);
    let provider = match table.indexed(&scan.filters)? {
        Ok(provider) => provider,
        Err(why) => {
            return Way::exact(WhyNone::and(told, why));
        }
    };
    let index = match provider.vector_indexes(field.name()).await {
        Ok(indexes) => match choose(&indexes, field.name(), metric) {
            Ok(index) => index.clone(),
            Err(why) => return Way::exact(WhyNone::or(told, &provider, why)),
        },
        Err(e) => return Way::exact(format!("the indexes of the table cannot be read: {}", e.message())),
    };

    let access = format!("index {}", index.name);
    let defaults = table.defaults(&index.name);
    let mut masks = Vec::with_capacity(joins.len());
    for join in &joins {
        let keys = planner.create_physical_plan(&join.keys, state).await?;
        masks.push(KeyMask { column: join.column.clone(), keys });
    }
    let mut hot = hot_part(table, state, scan, (*place, &output), (query, &masks), spec)?;
    let template = Template {
        provider: provider.as_ref().clone(),
        column: field,
        metric,
        spec: SearchSpec {
            nprobes: spec.nprobes.or(defaults.nprobes),
            refine_factor: spec.refine_factor.or(defaults.refine_factor),
            ..spec.clone()
        },
        filter: conjunction(scan.filters.clone()),
        output,
    };
    let distance = template.output.len();
    let found: Arc<dyn ExecutionPlan> = match query.literal().filter(|_| masks.is_empty()) {
        Some(value) => match template.plan(value, Vec::new()).await {
            Ok(plan) => plan,
            Err(e) => match Error::from(e) {
                e if e.kind() == ErrorKind::Unsupported => return Way::exact(e.message()),
                e => return Err(e.into()),
            },
        },
        None => {
            // What is wrong with the request is told now, and with any query.
            if let Some(value) = query.literal()
                && let Err(e) = template.plan(value, Vec::new()).await
            {
                match Error::from(e) {
                    e if e.kind() == ErrorKind::Unsupported => return Way::exact(e.message()),
                    e => return Err(e.into()),
                }
            }
            let masked = if masks.is_empty() { None } else { hot.take() };
            let access = access.clone();
            Arc::new(DeferredAnnExec::try_new(template, query.clone(), access, masks, masked)?)
        }
    };
    let found = match hot {
        Some(hot) => UnionExec::try_new(vec![found, hot.plan(None)?])?,
        None => found,
    };
    let found = named(found, search)?;
    let step = TopKMode::Final { distance };
    let all = (0..=distance).collect();
    let plan = VectorTopKExec::try_new(found, step, (spec.k, Missing::LeftOut), all, access.clone())?;
    Ok(Way::Index { plan: Arc::new(plan), index: UsedIndex { provider, name: index.name } })
}

/// The index of the metric that covers most rows, or why there is none.
pub(super) fn choose<'a>(
    indexes: &'a [VectorIndexInfo],
    column: &str,
    metric: LanceMetric,
) -> std::result::Result<&'a VectorIndexInfo, String> {
    // As `plan_ann` chooses.
    match indexes.iter().filter(|i| i.metric == metric).max_by_key(|i| i.indexed_rows) {
        Some(index) => Ok(index),
        None => Err(match indexes.first() {
            Some(other) => format!("index {} is of metric {}", other.name, other.metric),
            None => format!("no index on {column}"),
        }),
    }
}

/// A request that lacks only the query.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub(super) provider: LanceProvider,
    pub(super) column: FieldRef,
    pub(super) metric: LanceMetric,
    pub(super) spec: SearchSpec,
    pub(super) filter: Option<Expr>,
    /// Columns of the provider.
    pub(super) output: Vec<usize>,
}

impl Template {
    pub(super) async fn plan(
        &self,
        query: &ScalarValue,
        conditions: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let comparer = Comparer::try_new(self.spec.metric, query, &self.column)?;
        let mut request = AnnRequest::new(self.column.name(), query.to_array()?, self.spec.k, self.metric);
        request.filter = self.filter.clone();
        request.conditions = conditions;
        request.nprobes = self.spec.nprobes.and_then(|n| usize::try_from(n).ok());
        request.refine_factor = self.spec.refine_factor;
        request.projection = Some(self.output.clone());
        // Our kernels compute what is given out, so that a distance does not depend on the way to it.
        request.scorer = Some(Arc::new(KernelScorer { comparer }));
        Ok(plan_ann(&self.provider, request).await?)
    }
}

#[derive(Debug)]
struct KernelScorer {
    comparer: Comparer,
}

impl VectorScorer for KernelScorer {
    fn score(&self, vectors: &FixedSizeListArray) -> triune_common::Result<Float32Array> {
        let vectors: ArrayRef = Arc::new(vectors.clone());
        Ok(self.comparer.distances(&vectors)?)
    }
}

/// The same rows with the columns called as the search calls them, which may have renamed the table's.
fn named(plan: Arc<dyn ExecutionPlan>, search: &VectorSearchNode) -> Result<Arc<dyn ExecutionPlan>> {
    let names = || search.schema().fields().iter().map(|f| f.name().clone());
    let schema = plan.schema();
    if schema.fields().iter().map(|f| f.name().clone()).eq(names()) {
        return Ok(plan);
    }
    let columns =
        schema.fields().iter().zip(names()).enumerate().map(|(i, (field, alias))| ProjectionExpr {
            expr: Arc::new(Column::new(field.name(), i)),
            alias,
        });
    Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
}
