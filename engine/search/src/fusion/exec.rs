//! The operator of a fusion.
//!
//! ```text
//! FusionExec: rrf, rrf_k=60, key=[id@0], k=10
//!   VectorTopKExec: mode=final, k=100, …          the parts, all read at once and to their end
//!   SortExec: TopK(fetch=100), …
//!     TextSearchExec: …
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::compute::{SortOptions, cast, concat_batches, interleave};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use async_trait::async_trait;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::{StreamExt, TryStreamExt};
use triune_common::{Error, ErrorKind};

use super::node::{Fallback, FusionNode, FusionSpec};
use super::rank::{Fused, List, Number, by_score, fuse};
use crate::recency::Factors;

/// Turns the node into the operator.
#[derive(Debug, Default)]
pub struct FusionPlanner {}

impl FusionPlanner {
    pub fn new() -> Self {
        Self {}
    }
}

#[async_trait]
impl ExtensionPlanner for FusionPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        state: &SessionState,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(fusion) = node.as_any().downcast_ref::<FusionNode>() else { return Ok(None) };
        let Some(first) = fusion.parts().first() else { return Err(without("parts")) };
        // The columns of the parts are the same, at the same places.
        let key = fusion
            .key()
            .iter()
            .map(|key| planner.create_physical_expr(key, first.schema(), state))
            .collect::<Result<Vec<_>>>()?;
        let schema = Arc::clone(UserDefinedLogicalNodeCore::schema(fusion).inner());
        let factors = fusion.recency().map(|r| r.physical(planner, first.schema(), state)).transpose()?;
        let exec =
            FusionExec::try_new(physical_inputs.to_vec(), key, fusion.spec().clone(), factors, schema)?;
        Ok(Some(Arc::new(exec)))
    }
}

fn without(what: &str) -> DataFusionError {
    Error::internal(format!("a fusion was planned without its {what}")).into()
}

/// The `k` best rows of its inputs together.
///
/// *Inputs*: searches of one partition; the columns of the table, then a score (`Float32`, or `Float64` of another
/// fusion), never NULL. *Output*: the columns of the table, then the score as `Float64`, with a fallback also why parts
/// did not answer; at most k rows, ordered by score, rows of one score by key. *Errors*: a key that is twice in one
/// input; those of the inputs, but with a fallback not those of searches of vectors. *Memory*: all rows of the inputs,
/// reserved as they come. *Cancellation*: dropping the stream ends the inputs; a deadline ends those that it is for.
#[derive(Debug)]
pub struct FusionExec {
    parts: Vec<Arc<dyn ExecutionPlan>>,
    key: Vec<Arc<dyn PhysicalExpr>>,
    spec: FusionSpec,
    /// What scores are multiplied by.
    factors: Option<Factors>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl FusionExec {
    fn try_new(
        parts: Vec<Arc<dyn ExecutionPlan>>,
        key: Vec<Arc<dyn PhysicalExpr>>,
        spec: FusionSpec,
        factors: Option<Factors>,
        schema: SchemaRef,
    ) -> Result<Self> {
        let width = width_of(&schema, &spec);
        let names = |schema: &Schema| -> Vec<String> {
            schema.fields().iter().take(width).map(|f| f.name().clone()).collect()
        };
        let fits = |part: &Arc<dyn ExecutionPlan>| {
            part.schema().fields().len() == width + 1 && names(&part.schema()) == names(&schema)
        };
        if !parts.iter().all(fits) || parts.len() != spec.ascending.len() {
            return Err(Error::internal("the parts of a fusion have different columns").into());
        }
        let mut equivalence = EquivalenceProperties::new(Arc::clone(&schema));
        equivalence.add_ordering([PhysicalSortExpr::new(
            Arc::new(Column::new(schema.field(width).name(), width)),
            SortOptions { descending: true, nulls_first: false },
        )]);
        let properties = Arc::new(PlanProperties::new(
            equivalence,
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Ok(Self { parts, key, spec, factors, schema, properties, metrics: ExecutionPlanMetricsSet::new() })
    }
}

/// How many columns the table has.
fn width_of(schema: &Schema, spec: &FusionSpec) -> usize {
    schema.fields().len().saturating_sub(1 + usize::from(spec.fallback.is_some()))
}

/// All rows of a part.
async fn collect(part: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<RecordBatch> {
    let schema = part.schema();
    let mut stream = part.execute(0, Arc::clone(&context))?;
    let reservation = MemoryConsumer::new("FusionExec").register(context.memory_pool());
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await.transpose()? {
        // Twice: the rows of the result are copied.
        reservation.try_grow(2 * batch.get_array_memory_size())?;
        batches.push(batch);
    }
    Ok(concat_batches(&schema, &batches)?)
}

fn scores(batch: &RecordBatch) -> Result<Vec<f64>> {
    let Some(column) = batch.columns().last() else { return Err(without("scores")) };
    if let Some(scores) = column.as_primitive_opt::<Float32Type>() {
        return Ok(scores.values().iter().map(|s| f64::from(*s)).collect());
    }
    match column.as_primitive_opt::<Float64Type>() {
        Some(scores) => Ok(scores.values().to_vec()),
        None => Err(without("scores")),
    }
}

/// The fused rows of what the parts found.
fn fused(
    parts: &[RecordBatch],
    key: &[Arc<dyn PhysicalExpr>],
    spec: &FusionSpec,
    factors: Option<&Factors>,
    lost: Option<&str>,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let Some(first) = parts.first() else { return Err(without("parts")) };
    let types = key.iter().map(|k| k.data_type(&first.schema())).collect::<Result<Vec<_>>>()?;
    let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
    let keys = parts
        .iter()
        .map(|part| {
            let columns = key
                .iter()
                .zip(&types)
                .map(|(key, data_type)| as_type(&key.evaluate(part)?.into_array(part.num_rows())?, data_type))
                .collect::<Result<Vec<_>>>()?;
            Ok(converter.convert_columns(&columns)?)
        })
        .collect::<Result<Vec<_>>>()?;
    let lists = parts
        .iter()
        .zip(&keys)
        .zip(&spec.ascending)
        .map(|((part, keys), ascending)| {
            Ok(List {
                keys: keys.iter().map(|k| k.data()).collect(),
                scores: scores(part)?,
                ascending: *ascending,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let mut rows: Vec<Fused> = fuse(&lists, &spec.method)?;
    if let Some(factors) = factors {
        let factors = parts.iter().map(|p| factors.of(p)).collect::<Result<Vec<_>>>()?;
        for row in &mut rows {
            row.score *= factors[row.list][row.place];
        }
    }
    rows.sort_unstable_by(|a, b| by_score(&lists, a, b));
    rows.truncate(spec.k);

    let places: Vec<(usize, usize)> = rows.iter().map(|r| (r.list, r.place)).collect();
    let width = width_of(schema, spec);
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(width + 2);
    for (place, field) in schema.fields().iter().take(width).enumerate() {
        let arrays =
            parts.iter().map(|p| as_type(p.column(place), field.data_type())).collect::<Result<Vec<_>>>()?;
        let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
        columns.push(interleave(&arrays, &places)?);
    }
    columns.push(Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.score))));
    if spec.fallback.is_some() {
        columns.push(Arc::new(StringArray::from_iter(rows.iter().map(|_| lost))));
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// What a part found, or why it found nothing.
async fn answer(
    task: SpawnedTask<Result<RecordBatch>>,
    fallback: Option<Fallback>,
    empty: RecordBatch,
) -> Result<(RecordBatch, Option<String>)> {
    let joined = |e| DataFusionError::ExecutionJoin(Box::new(e));
    let Some(Fallback { deadline, .. }) = fallback else {
        return Ok((task.join_unwind().await.map_err(joined)??, None));
    };
    let found = match deadline {
        // Dropping the task ends it.
        Some(Number(seconds)) => {
            match tokio::time::timeout(Duration::from_secs_f64(seconds), task.join_unwind()).await {
                Ok(found) => found,
                Err(_) => return Ok((empty, Some(format!("no vectors found within {seconds} s")))),
            }
        }
        None => task.join_unwind().await,
    };
    match found.map_err(joined)? {
        Ok(found) => Ok((found, None)),
        Err(e) => {
            let e = Error::from(e);
            match e.kind() {
                ErrorKind::Cancelled => Err(e.into()),
                _ => Ok((empty, Some(e.message().to_owned()))),
            }
        }
    }
}

fn as_type(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    match column.data_type() == data_type {
        true => Ok(Arc::clone(column)),
        false => Ok(cast(column, data_type)?),
    }
}

impl DisplayAs for FusionExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key: Vec<_> = self.key.iter().map(ToString::to_string).collect();
        let (spec, key) = (&self.spec, key.join(", "));
        match t {
            DisplayFormatType::TreeRender => write!(f, "{spec}\nkey={key}\nk={}", spec.k),
            _ => write!(f, "FusionExec: {spec}, key=[{key}], k={}", spec.k),
        }
    }
}

impl ExecutionPlan for FusionExec {
    fn name(&self) -> &'static str {
        "FusionExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition; self.parts.len()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.parts.len()]
    }

    // Filters and limits from above do not pass (the defaults): they would change which rows are the best.

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.parts.iter().collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = Arc::clone(&self.schema);
        let (key, spec, factors) = (self.key.clone(), self.spec.clone(), self.factors.clone());
        Ok(Arc::new(Self::try_new(children, key, spec, factors, schema)?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(Error::internal(format!("a fusion has no partition {partition}")).into());
        }
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let candidates = MetricBuilder::new(&self.metrics).counter("candidates", partition);
        let (parts, key, spec) = (self.parts.clone(), self.key.clone(), self.spec.clone());
        let gave_up = MetricBuilder::new(&self.metrics).counter("parts_given_up", partition);
        let (schema, factors) = (Arc::clone(&self.schema), self.factors.clone());
        let size = context.session_config().batch_size().max(1);
        let run = async move {
            let answers = parts.into_iter().zip(&spec.ascending).map(|(part, vectors)| {
                let empty = RecordBatch::new_empty(part.schema());
                let task = SpawnedTask::spawn(collect(part, Arc::clone(&context)));
                // Searches of vectors are those that the others can stand in for.
                answer(task, spec.fallback.clone().filter(|_| *vectors), empty)
            });
            let answers = futures::future::try_join_all(answers).await?;
            let (found, reasons): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
            let reasons: Vec<String> = reasons.into_iter().flatten().collect();
            gave_up.add(reasons.len());
            let known = spec.fallback.iter().filter_map(|f| f.lost.clone());
            let lost: Vec<String> = known.chain(reasons).collect();
            let lost = (!lost.is_empty()).then(|| lost.join("; "));
            candidates.add(found.iter().map(RecordBatch::num_rows).sum());
            let timer = baseline.elapsed_compute().timer();
            let rows = fused(&found, &key, &spec, factors.as_ref(), lost.as_deref(), &schema)?;
            timer.done();
            baseline.record_output(rows.num_rows());
            let slices = (0..rows.num_rows())
                .step_by(size)
                .map(|start| Ok(rows.slice(start, size.min(rows.num_rows() - start))))
                .collect::<Vec<_>>();
            Ok::<_, DataFusionError>(futures::stream::iter(slices))
        };
        let stream = futures::stream::once(run).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn partition_statistics(&self, _partition: Option<usize>) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        statistics.num_rows = Precision::Inexact(self.spec.k);
        Ok(Arc::new(statistics))
    }
}
