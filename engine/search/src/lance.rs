//! Searches that a Lance table can answer through its index.
//!
//! ```text
//! VectorSearch: column=v.e, output=[v.id]        VectorTopKExec: mode=final, k=10, access=index e_idx
//!   SubqueryAlias: v                        ─►     LanceAnnExec: column=e, prefilter=[lang = en], …
//!     TableScan: docs, full_filters=[lang = 'en']
//! ```
//!
//! *When*: the rows searched are a Lance table itself, seen through aliases and choices of columns; all
//! conditions are in its scan; the column has an index for the metric; `exact => true` was not said.
//! Otherwise the plan of an exact search is made. A condition that few rows meet makes `LanceAnnExec`
//! compare those rows one by one when it runs; its own page says when.
//!
//! Everything that this crate takes from `triune-lance` is in this module.

mod deferred;

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array};
use arrow::datatypes::FieldRef;
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use triune_lance::{AnnRequest, LanceMetric, LanceProvider, VectorScorer, plan_ann};
use triune_vector::kernels::Metric;

use crate::node::VectorSearchNode;
use crate::spec::{Missing, SearchSpec};
use crate::topk::{QuerySource, TopKMode, VectorTopKExec};
use crate::vectors::Comparer;
use deferred::DeferredAnnExec;

/// The operators of a search through an index, or `None` if there is no way through one.
pub(crate) async fn plan_index_search(
    search: &VectorSearchNode,
    query: &QuerySource,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let spec = search.spec();
    let Some(metric) = metric_of(spec.metric).filter(|_| !spec.exact && spec.missing == Missing::LeftOut)
    else {
        return Ok(None);
    };
    let Some((scan, columns)) = scan_of(search.input()) else { return Ok(None) };
    if scan.fetch.is_some() {
        return Ok(None);
    }
    let source = source_as_provider(&scan.source)?;
    let any: &dyn std::any::Any = source.as_ref();
    let Some(provider) = any.downcast_ref::<LanceProvider>() else { return Ok(None) };
    let Expr::Column(column) = search.column() else { return Ok(None) };
    let Some(place) = columns.get(search.input().schema().index_of_column(column)?) else { return Ok(None) };
    let field = Arc::clone(&scan.source.schema().fields()[*place]);

    let indexes = provider.vector_indexes(field.name()).await?;
    let Some(index) = indexes.into_iter().find(|i| i.metric == metric) else { return Ok(None) };

    let output: Option<Vec<usize>> =
        search.output_indices()?.into_iter().map(|i| columns.get(i).copied()).collect();
    let Some(output) = output else { return Ok(None) };
    let access = format!("index {}", index.name);
    let template = Template {
        provider: provider.clone(),
        column: field,
        metric,
        spec: spec.clone(),
        filter: conjunction(scan.filters.clone()),
        output,
    };
    let distance = template.output.len();
    let found: Arc<dyn ExecutionPlan> = match query.literal() {
        Some(value) => template.plan(value).await?,
        None => Arc::new(DeferredAnnExec::try_new(template, query.clone(), access.clone())?),
    };
    let found = named(found, search)?;
    let mode = TopKMode::Final { distance };
    let all = (0..=distance).collect();
    Ok(Some(Arc::new(VectorTopKExec::try_new(found, mode, (spec.k, spec.missing), all, access)?)))
}

/// A request that lacks only the query.
#[derive(Debug, Clone)]
struct Template {
    provider: LanceProvider,
    column: FieldRef,
    metric: LanceMetric,
    spec: SearchSpec,
    filter: Option<Expr>,
    /// Columns of the provider.
    output: Vec<usize>,
}

impl Template {
    async fn plan(&self, query: &ScalarValue) -> Result<Arc<dyn ExecutionPlan>> {
        let comparer = Comparer::try_new(self.spec.metric, query, &self.column)?;
        let mut request = AnnRequest::new(self.column.name(), query.to_array()?, self.spec.k, self.metric);
        request.filter = self.filter.clone();
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

/// The metric of an index that orders rows as ours does.
fn metric_of(metric: Metric) -> Option<LanceMetric> {
    match metric {
        Metric::L2 => Some(LanceMetric::L2),
        Metric::Cosine => Some(LanceMetric::Cosine),
        Metric::NegativeInnerProduct => Some(LanceMetric::Dot),
        Metric::Hamming => Some(LanceMetric::Hamming),
        Metric::L1 | Metric::Jaccard => None,
    }
}

/// The scan below aliases and choices of columns, and for each column of `plan` its place in the table.
fn scan_of(plan: &LogicalPlan) -> Option<(&TableScan, Vec<usize>)> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let columns = match &scan.projection {
                Some(projection) => projection.clone(),
                None => (0..scan.source.schema().fields().len()).collect(),
            };
            Some((scan, columns))
        }
        LogicalPlan::SubqueryAlias(alias) => scan_of(&alias.input),
        LogicalPlan::Projection(projection) => {
            let (scan, columns) = scan_of(&projection.input)?;
            let schema = projection.input.schema();
            let places = projection.expr.iter().map(|expr| match expr {
                Expr::Column(c) => columns.get(schema.maybe_index_of_column(c)?).copied(),
                Expr::Alias(alias) => match alias.expr.as_ref() {
                    Expr::Column(c) => columns.get(schema.maybe_index_of_column(c)?).copied(),
                    _ => None,
                },
                _ => None,
            });
            Some((scan, places.collect::<Option<Vec<_>>>()?))
        }
        _ => None,
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
