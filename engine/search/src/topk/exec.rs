//! The operator around the buffer.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::SortOptions;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result, ScalarValue, Statistics};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, CardinalityEffect, EmissionType};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PhysicalExpr,
    PlanProperties,
};
use triune_common::Error;
use triune_vector::kernels::Metric;

use super::stream::{self, TopKMetrics, TopKTask};
use crate::node::distance_field;
use crate::spec::{Missing, SearchSpec};

/// The query vector: an expression without columns, evaluated once per partition when it starts.
#[derive(Debug, Clone)]
pub struct QuerySource {
    expr: Arc<dyn PhysicalExpr>,
}

impl QuerySource {
    /// A constant, or an expression over the results of sub-queries that run before.
    pub fn new(expr: Arc<dyn PhysicalExpr>) -> Self {
        Self { expr }
    }

    /// The query if it is known before anything runs.
    pub fn literal(&self) -> Option<&ScalarValue> {
        self.expr.downcast_ref::<Literal>().map(Literal::value)
    }

    /// The query vector; a sub-query that it depends on must have run.
    ///
    /// # Errors
    /// What computing it raises: a text that is no vector, a wrong number of dimensions.
    pub fn value(&self) -> Result<ScalarValue> {
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let one_row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?;
        match self.expr.evaluate(&one_row)? {
            ColumnarValue::Scalar(value) => Ok(value),
            ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0),
        }
    }
}

/// Which of the two steps an operator is.
#[derive(Debug, Clone)]
pub enum TopKMode {
    /// Computes distances and keeps the k nearest rows of its partition.
    Partial {
        column: Arc<dyn PhysicalExpr>,
        query: QuerySource,
        metric: Metric,
        /// What the distance is called in the output.
        distance: String,
        /// Which rows of the input there are at all; every row if it is `None`.
        filter: Option<Arc<dyn PhysicalExpr>>,
    },
    /// Keeps the k nearest of rows that have a distance, in a column of the input.
    Final { distance: usize },
}

/// Keeps the k nearest rows.
///
/// *Input*: any batches; in partial mode a vector column (`FixedSizeList`), in final mode a `Float32`
/// distance. *Output*: the chosen columns of the input, in partial mode with the distance (`Float32`,
/// never NULL) at the end; at most k rows per partition, ordered by distance, batches of the session's
/// size. *Nulls and NaN*: rows whose vector is NULL or whose distance is NaN are left out.
/// *Errors*: a query that is NULL or does not fit the column; `ResourcesExhausted`.
/// *Memory*: `2 k` rows of the chosen columns and the survivors of one batch, reserved before they are
/// allocated; does not spill. *Cancellation*: between batches of the input.
#[derive(Debug)]
pub struct VectorTopKExec {
    input: Arc<dyn ExecutionPlan>,
    mode: TopKMode,
    k: usize,
    missing: Missing,
    /// How the rows were found, for people: `exact`, or the index.
    access: String,
    output: Vec<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl VectorTopKExec {
    /// # Errors
    /// Internal, if a column is not in the input or k is 0.
    pub fn try_new(
        input: Arc<dyn ExecutionPlan>,
        mode: TopKMode,
        (k, missing): (usize, Missing),
        output: Vec<usize>,
        access: impl Into<String>,
    ) -> Result<Self> {
        let schema = schema_of(&input.schema(), &mode, &output, (k, missing))?;
        let properties = Arc::new(compute_properties(&schema, &mode, &output, &input)?);
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self { input, mode, k, missing, access: access.into(), output, properties, metrics })
    }

    /// Both steps over a plan that has vectors and no distances yet.
    pub fn exact(
        input: Arc<dyn ExecutionPlan>,
        column: Arc<dyn PhysicalExpr>,
        query: QuerySource,
        spec: &SearchSpec,
        output: Vec<usize>,
        name: &str,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Self::exact_because(input, column, query, spec, output, name, "exact".to_owned())
    }

    /// The same; `access` is what the last step shows as its way to the rows.
    pub fn exact_because(
        input: Arc<dyn ExecutionPlan>,
        column: Arc<dyn PhysicalExpr>,
        query: QuerySource,
        spec: &SearchSpec,
        output: Vec<usize>,
        name: &str,
        access: String,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let distance = output.len();
        let rows = (spec.k, spec.missing);
        let name = name.to_owned();
        let mode = TopKMode::Partial { column, query, metric: spec.metric, distance: name, filter: None };
        let partial = Arc::new(Self::try_new(input, mode, rows, output, "exact")?);
        let all = (0..=distance).collect();
        Ok(Arc::new(Self::try_new(partial, TopKMode::Final { distance }, rows, all, access)?))
    }

    /// The same search over the rows below `filter`, with the condition evaluated here. `None` where that
    /// is another search: see [`crate::fuse`].
    ///
    /// # Errors
    /// Internal, if the filter's columns are not those of this search's input.
    pub fn with_filter(&self, filter: &FilterExec) -> Result<Option<Self>> {
        let TopKMode::Partial { column, query, metric, distance, filter: None } = &self.mode else {
            return Ok(None);
        };
        if filter.fetch().is_some() {
            return Ok(None);
        }
        let input = filter.input();
        let below = |index: usize| match filter.projection() {
            Some(projection) => projection.get(index).copied(),
            None => Some(index),
        };
        let gone = || DataFusionError::from(Error::internal("a filter below a search lost a column"));
        let renumbered = Arc::clone(column).transform(|expr| {
            let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
            let index = below(column.index()).ok_or_else(gone)?;
            Ok(Transformed::yes(Arc::new(Column::new(column.name(), index)) as Arc<dyn PhysicalExpr>))
        })?;
        let output = self.output.iter().map(|i| below(*i)).collect::<Option<Vec<_>>>().ok_or_else(gone)?;
        let mode = TopKMode::Partial {
            column: renumbered.data,
            query: query.clone(),
            metric: *metric,
            distance: distance.clone(),
            filter: Some(Arc::clone(filter.predicate())),
        };
        let rows = (self.k, self.missing);
        Self::try_new(Arc::clone(input), mode, rows, output, self.access.clone()).map(Some)
    }

    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    pub fn mode(&self) -> &TopKMode {
        &self.mode
    }

    pub fn k(&self) -> usize {
        self.k
    }

    /// The input's columns that are given out.
    pub fn output(&self) -> &[usize] {
        &self.output
    }

    /// The same step of the same search over other columns.
    ///
    /// # Errors
    /// As [`Self::try_new`].
    pub fn rebuilt(&self, input: Arc<dyn ExecutionPlan>, mode: TopKMode, output: Vec<usize>) -> Result<Self> {
        Self::try_new(input, mode, (self.k, self.missing), output, self.access.clone())
    }

    fn distance_index(&self) -> Option<usize> {
        distance_index(&self.mode, &self.output)
    }
}

/// Where the distance is in the output.
fn distance_index(mode: &TopKMode, output: &[usize]) -> Option<usize> {
    match mode {
        TopKMode::Partial { .. } => Some(output.len()),
        TopKMode::Final { distance } => output.iter().position(|i| i == distance),
    }
}

fn schema_of(
    input: &Schema,
    mode: &TopKMode,
    output: &[usize],
    (k, missing): (usize, Missing),
) -> Result<SchemaRef> {
    let broken = |what: String| DataFusionError::from(Error::internal(what));
    if k == 0 {
        return Err(broken("a search for 0 rows was planned".to_owned()));
    }
    let mut fields = Vec::with_capacity(output.len() + 1);
    for i in output {
        let field =
            input.fields().get(*i).ok_or_else(|| broken(format!("a search's input has no column {i}")))?;
        fields.push(Arc::clone(field));
    }
    match mode {
        TopKMode::Partial { distance, .. } => fields.push(Arc::new(distance_field(distance, missing))),
        TopKMode::Final { distance } => {
            let place = output.iter().position(|i| i == distance);
            let Some(field) = place.and_then(|p| fields.get_mut(p)) else {
                return Err(broken(format!(
                    "the last step of a search does not give out its distance ({distance})"
                )));
            };
            *field = Arc::new(field.as_ref().clone().with_nullable(missing == Missing::Last));
        }
    }
    Ok(Arc::new(Schema::new_with_metadata(fields, input.metadata().clone())))
}

fn compute_properties(
    schema: &SchemaRef,
    mode: &TopKMode,
    output: &[usize],
    input: &Arc<dyn ExecutionPlan>,
) -> Result<PlanProperties> {
    let mut equivalence = EquivalenceProperties::new(Arc::clone(schema));
    // Only the final step says that it is ordered. If the partial step did, DataFusion would merge its
    // partitions by distance to keep an order that the final step makes anyway.
    if let TopKMode::Final { .. } = mode
        && let Some(distance) = distance_index(mode, output)
    {
        let column = Arc::new(Column::new(schema.field(distance).name(), distance));
        equivalence.add_ordering([PhysicalSortExpr::new(
            column,
            SortOptions { descending: false, nulls_first: false },
        )]);
    }
    // The scheduling type keeps its default, not cooperative: the loop over the input consumes no budget of
    // its own, so that a leaf below which does not yield is wrapped by `EnsureCooperative`.
    // One partition in, one partition out; rows are not where a hash would put them any more than before.
    let partitions = input.output_partitioning().partition_count();
    Ok(PlanProperties::new(
        equivalence,
        Partitioning::UnknownPartitioning(partitions),
        EmissionType::Final,
        Boundedness::Bounded,
    ))
}

impl DisplayAs for VectorTopKExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => match &self.mode {
                TopKMode::Partial { column, query, metric, filter, .. } => {
                    let metric = metric.name();
                    let when = if query.literal().is_some() { "constant" } else { "computed first" };
                    write!(
                        f,
                        "VectorTopKExec: mode=partial, k={}, metric={metric}, column={column}, query={when}, access={}",
                        self.k, self.access
                    )?;
                    match filter {
                        Some(filter) => write!(f, ", filter={filter}"),
                        None => Ok(()),
                    }
                }
                TopKMode::Final { .. } => {
                    write!(f, "VectorTopKExec: mode=final, k={}, access={}", self.k, self.access)
                }
            },
            DisplayFormatType::TreeRender => match &self.mode {
                TopKMode::Partial { metric, filter, .. } => {
                    write!(
                        f,
                        "mode=partial\nk={}\nmetric={}\naccess={}",
                        self.k,
                        metric.name(),
                        self.access
                    )?;
                    match filter {
                        Some(filter) => write!(f, "\nfilter={filter}"),
                        None => Ok(()),
                    }
                }
                TopKMode::Final { .. } => write!(f, "mode=final\nk={}\naccess={}", self.k, self.access),
            },
        }
    }
}

impl ExecutionPlan for VectorTopKExec {
    fn name(&self) -> &'static str {
        "VectorTopKExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    // The final step needs all rows in one place; the partial step takes them as they are, and the
    // default of `benefits_from_input_partitioning` asks for as many partitions as there are cores.
    fn required_input_distribution(&self) -> Vec<Distribution> {
        match self.mode {
            TopKMode::Partial { .. } => vec![Distribution::UnspecifiedDistribution],
            TopKMode::Final { .. } => vec![Distribution::SinglePartition],
        }
    }

    // `maintains_input_order` keeps its default, no: rows come out by distance.
    // `gather_filters_for_pushdown` keeps its default, which lets nothing through: a filter from above,
    // a join's dynamic filter too, would change which rows are the nearest.
    // `supports_limit_pushdown` keeps its default, no, for the same reason.

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next().ok_or_else(|| {
            DataFusionError::from(Error::internal("a search was rebuilt without its input"))
        })?;
        Ok(Arc::new(Self::try_new(
            input,
            self.mode.clone(),
            (self.k, self.missing),
            self.output.clone(),
            self.access.clone(),
        )?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let reservation =
            MemoryConsumer::new(format!("VectorTopKExec[{partition}]")).register(context.memory_pool());
        Ok(stream::run(TopKTask {
            input: self.input.execute(partition, Arc::clone(&context))?,
            mode: self.mode.clone(),
            output: self.output.clone(),
            schema: self.schema(),
            k: self.k,
            missing: self.missing,
            batch_size: context.session_config().batch_size(),
            reservation,
            metrics: TopKMetrics::new(&self.metrics, partition),
        }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        let partitions = if partition.is_some() { 1 } else { self.properties.partitioning.partition_count() };
        let most = self.k.saturating_mul(partitions);
        // Never exact: rows without a distance are left out.
        statistics.num_rows = match self.input.partition_statistics(partition)?.num_rows {
            Precision::Exact(rows) | Precision::Inexact(rows) => Precision::Inexact(rows.min(most)),
            Precision::Absent => Precision::Inexact(most),
        };
        Ok(Arc::new(statistics))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }

    // Its first n rows are the n nearest, so a limit above the last step makes it smaller. The partial
    // step keeps its k: it is below a final step that wants as many.
    fn fetch(&self) -> Option<usize> {
        match self.mode {
            TopKMode::Partial { .. } => None,
            TopKMode::Final { .. } => Some(self.k),
        }
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let TopKMode::Final { .. } = self.mode else { return None };
        let k = limit.map_or(self.k, |l| l.min(self.k));
        if k == 0 || self.distance_index().is_none() {
            return None;
        }
        let new = Self::try_new(
            Arc::clone(&self.input),
            self.mode.clone(),
            (k, self.missing),
            self.output.clone(),
            self.access.clone(),
        );
        Some(Arc::new(new.ok()?))
    }
}
