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

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
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
use triune_common::Error;

use super::node::{FusionNode, FusionSpec};
use super::rank::{Fused, List, by_score, fuse};

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
        let Some(first) = fusion.parts().first() else { return Err(lost("parts")) };
        // The columns of the parts are the same, at the same places.
        let key = fusion
            .key()
            .iter()
            .map(|key| planner.create_physical_expr(key, first.schema(), state))
            .collect::<Result<Vec<_>>>()?;
        let schema = Arc::clone(UserDefinedLogicalNodeCore::schema(fusion).inner());
        let exec = FusionExec::try_new(physical_inputs.to_vec(), key, fusion.spec().clone(), schema)?;
        Ok(Some(Arc::new(exec)))
    }
}

fn lost(what: &str) -> DataFusionError {
    Error::internal(format!("a fusion was planned without its {what}")).into()
}

/// The `k` best rows of its inputs together.
///
/// *Inputs*: searches of one partition; the columns of the table, then a score (`Float32`, or `Float64` of another
/// fusion), never NULL. *Output*: the columns of the table, then the score as `Float64`; at most k rows, ordered by
/// score, rows of one score by key. *Errors*: a key that is twice in one input; those of the inputs. *Memory*: all
/// rows of the inputs, reserved as they come. *Cancellation*: dropping the stream ends the inputs.
#[derive(Debug)]
pub struct FusionExec {
    parts: Vec<Arc<dyn ExecutionPlan>>,
    key: Vec<Arc<dyn PhysicalExpr>>,
    spec: FusionSpec,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl FusionExec {
    fn try_new(
        parts: Vec<Arc<dyn ExecutionPlan>>,
        key: Vec<Arc<dyn PhysicalExpr>>,
        spec: FusionSpec,
        schema: SchemaRef,
    ) -> Result<Self> {
        let width = schema.fields().len().saturating_sub(1);
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
        Ok(Self { parts, key, spec, schema, properties, metrics: ExecutionPlanMetricsSet::new() })
    }
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
    let Some(column) = batch.columns().last() else { return Err(lost("scores")) };
    if let Some(scores) = column.as_primitive_opt::<Float32Type>() {
        return Ok(scores.values().iter().map(|s| f64::from(*s)).collect());
    }
    match column.as_primitive_opt::<Float64Type>() {
        Some(scores) => Ok(scores.values().to_vec()),
        None => Err(lost("scores")),
    }
}

/// The fused rows of what the parts found.
fn fused(
    parts: &[RecordBatch],
    key: &[Arc<dyn PhysicalExpr>],
    spec: &FusionSpec,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let Some(first) = parts.first() else { return Err(lost("parts")) };
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
    rows.sort_unstable_by(|a, b| by_score(&lists, a, b));
    rows.truncate(spec.k);

    let places: Vec<(usize, usize)> = rows.iter().map(|r| (r.list, r.place)).collect();
    let width = schema.fields().len() - 1;
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(width + 1);
    for (place, field) in schema.fields().iter().take(width).enumerate() {
        let arrays =
            parts.iter().map(|p| as_type(p.column(place), field.data_type())).collect::<Result<Vec<_>>>()?;
        let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
        columns.push(interleave(&arrays, &places)?);
    }
    columns.push(Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.score))));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
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
        Ok(Arc::new(Self::try_new(children, self.key.clone(), self.spec.clone(), schema)?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(Error::internal(format!("a fusion has no partition {partition}")).into());
        }
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let candidates = MetricBuilder::new(&self.metrics).counter("candidates", partition);
        let (parts, key, spec) = (self.parts.clone(), self.key.clone(), self.spec.clone());
        let schema = Arc::clone(&self.schema);
        let size = context.session_config().batch_size().max(1);
        let run = async move {
            let tasks: Vec<_> = parts
                .into_iter()
                .map(|part| SpawnedTask::spawn(collect(part, Arc::clone(&context))))
                .collect();
            let mut found = Vec::with_capacity(tasks.len());
            for task in tasks {
                found.push(
                    task.join_unwind().await.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))??,
                );
            }
            candidates.add(found.iter().map(RecordBatch::num_rows).sum());
            let timer = baseline.elapsed_compute().timer();
            let rows = fused(&found, &key, &spec, &schema)?;
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
