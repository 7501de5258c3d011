//! Runs a partition through the buffer.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Float32Array, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::{Float32Type, Schema, SchemaRef};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, Gauge, MetricBuilder,
};
use datafusion::physical_plan::{PhysicalExpr, stream::RecordBatchStreamAdapter};
use futures::{StreamExt, TryStreamExt};
use triune_common::Error;

use super::buffer::{SortedRows, TopKBuffer, bytes_of_rows};
use super::exec::TopKMode;
use crate::spec::Missing;
use crate::vectors::Comparer;

/// What one partition works with.
pub(super) struct TopKTask {
    pub(super) input: SendableRecordBatchStream,
    pub(super) mode: TopKMode,
    /// The input's columns that are given out.
    pub(super) output: Vec<usize>,
    pub(super) schema: SchemaRef,
    pub(super) k: usize,
    pub(super) missing: Missing,
    pub(super) batch_size: usize,
    pub(super) reservation: MemoryReservation,
    pub(super) metrics: TopKMetrics,
}

/// What EXPLAIN ANALYZE shows.
#[derive(Debug, Clone)]
pub(super) struct TopKMetrics {
    baseline: BaselineMetrics,
    /// Rows whose distance was looked at.
    rows_compared: Count,
    compactions: Count,
    peak_memory: Gauge,
}

impl TopKMetrics {
    pub(super) fn new(set: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        Self {
            baseline: BaselineMetrics::new(set, partition),
            rows_compared: MetricBuilder::new(set).counter("rows_compared", partition),
            compactions: MetricBuilder::new(set).counter("compactions", partition),
            peak_memory: MetricBuilder::new(set).gauge("peak_mem_used", partition),
        }
    }
}

/// The stream of the k nearest rows: reads all of the input first, then gives out batches.
///
/// *Cancellation*: dropping the stream drops the input; between two batches of the input there is one
/// pass of a kernel over one batch.
pub(super) fn run(task: TopKTask) -> SendableRecordBatchStream {
    let schema = Arc::clone(&task.schema);
    let size = task.batch_size;
    let baseline = task.metrics.baseline.clone();
    let batches = futures::stream::once(collect(task))
        .map_ok(move |rows| {
            futures::stream::try_unfold(rows, move |mut rows: SortedRows| async move {
                Ok::<_, DataFusionError>(rows.next_batch(size)?.map(|batch| (batch, rows)))
            })
        })
        .try_flatten()
        .map(move |batch| {
            if let Ok(batch) = &batch {
                baseline.record_output(batch.num_rows());
            }
            batch
        });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

async fn collect(task: TopKTask) -> Result<SortedRows> {
    let TopKTask { mut input, mode, output, schema, k, missing, reservation, metrics, .. } = task;
    let scratch = reservation.new_empty();
    let mut buffer = TopKBuffer::new(k, missing, Arc::clone(&schema), reservation);
    let distances = Distances::try_new(&mode, &input.schema())?;
    while let Some(batch) = input.next().await {
        let batch = batch?;
        if batch.num_rows() == 0 {
            continue;
        }
        let _timer = metrics.baseline.elapsed_compute().timer();
        let Some(Chosen { batch, mask, found }) = distances.choose(batch, &scratch)? else { continue };
        metrics.rows_compared.add(batch.num_rows());
        buffer.push(&given_out(&batch, &output, &found, &mode, &schema)?, &found, mask.as_ref())?;
        metrics.peak_memory.set_max(buffer.reserved() + scratch.size());
    }
    metrics.compactions.add(buffer.compactions());
    drop(input);
    Ok(buffer.finish())
}

/// Where a partition's distances come from.
enum Distances {
    Computed { column: Arc<dyn PhysicalExpr>, comparer: Comparer, filter: Option<Arc<dyn PhysicalExpr>> },
    Column(usize),
}

/// The rows of a batch that there are, and their distances.
struct Chosen {
    batch: RecordBatch,
    /// Which rows of `batch`; all of them if it is `None`.
    mask: Option<BooleanBuffer>,
    found: Float32Array,
}

/// Up to one row in so many, rows are copied and compared alone; beyond, all are compared where they lie.
/// Comparing reads a vector once, copying reads and writes it and has it read again.
const FEW: usize = 8;

impl Distances {
    fn try_new(mode: &TopKMode, input: &Schema) -> Result<Self> {
        match mode {
            TopKMode::Partial { column, query, metric, filter, .. } => {
                let field = column.return_field(input)?;
                Ok(Self::Computed {
                    column: Arc::clone(column),
                    comparer: Comparer::try_new(*metric, &query.value()?, &field)?,
                    filter: filter.clone(),
                })
            }
            TopKMode::Final { distance } => Ok(Self::Column(*distance)),
        }
    }

    /// Applies the condition and computes distances; `None` if no row is left. What is allocated for the
    /// time of a batch is asked of `scratch` first.
    fn choose(&self, batch: RecordBatch, scratch: &MemoryReservation) -> Result<Option<Chosen>> {
        let rows = batch.num_rows();
        scratch.try_resize(rows * size_of::<f32>())?;
        let Self::Computed { filter: Some(filter), .. } = self else {
            let found = self.of(&batch)?;
            return Ok(Some(Chosen { batch, mask: None, found }));
        };
        let value = filter.evaluate(&batch)?.into_array(rows)?;
        let keep = as_boolean_array(&value)?;
        let keep = if keep.null_count() > 0 { prep_null_mask_filter(keep) } else { keep.clone() };
        let count = keep.true_count();
        if count == 0 {
            return Ok(None);
        }
        if count == rows {
            let found = self.of(&batch)?;
            return Ok(Some(Chosen { batch, mask: None, found }));
        }
        // A row that the condition excludes must not raise an error either: then the others go alone.
        if count > rows / FEW
            && let Ok(found) = self.of(&batch)
        {
            return Ok(Some(Chosen { batch, mask: Some(keep.values().clone()), found }));
        }
        scratch.try_resize(rows * size_of::<f32>() + bytes_of_rows(&batch, count))?;
        let batch = filter_record_batch(&batch, &keep)?;
        let found = self.of(&batch)?;
        Ok(Some(Chosen { batch, mask: None, found }))
    }

    fn of(&self, batch: &RecordBatch) -> Result<Float32Array> {
        match self {
            Self::Computed { column, comparer, .. } => {
                let vectors = column.evaluate(batch)?.into_array(batch.num_rows())?;
                comparer.distances(&vectors)
            }
            Self::Column(index) => match batch.column(*index).as_primitive_opt::<Float32Type>() {
                Some(distances) => Ok(distances.clone()),
                None => Err(DataFusionError::from(Error::internal("a distance is not Float32"))),
            },
        }
    }
}

/// The columns that are given out, without a copy; a partial step adds the distances.
fn given_out(
    batch: &RecordBatch,
    output: &[usize],
    distances: &Float32Array,
    mode: &TopKMode,
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let mut columns: Vec<_> = output.iter().map(|i| Arc::clone(batch.column(*i))).collect();
    let mut fields: Vec<_> = output.iter().map(|i| Arc::clone(&batch.schema_ref().fields()[*i])).collect();
    if let TopKMode::Partial { .. } = mode {
        columns.push(Arc::new(distances.clone()));
        // Nullable here: rows without a distance are still among these.
        fields.push(Arc::new(schema.field(schema.fields().len() - 1).clone().with_nullable(true)));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}
