//! One partition of a hot scan.
//!
//! ```text
//!  batch ─▶ slice of the session's batch size ─▶ columns of conditions + row number ─▶ mask ─▶ conditions
//!                                │                                                       │ row numbers that remain
//!                                └─▶ output columns ───────── all, none, or filter ◀─────┘
//! ```
//!
//! Without conditions the row numbers are not made and the mask is applied to the output columns. Wide columns that
//! no condition reads are copied once, and only the rows that remain. Where all rows of a slice remain, nothing is.
//!
//! *Cancellation*: the stream is ready at once; after a few slices without a row it lets others run.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions, UInt32Array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use datafusion::common::Result;
use datafusion::execution::RecordBatchStream;
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder};
use futures::Stream;
use triune_lance::predicate::Predicate;

use crate::hot::VisibleBatch;

/// Slices without a row after which others run.
const PATIENCE: usize = 8;

/// The name of the row number; no condition can name it, as they are bound by then.
const NUMBER: &str = "_row_number";

/// Which columns are read for what.
#[derive(Debug)]
pub(super) struct Layout {
    output: SchemaRef,
    /// Columns of the stored schema.
    projection: Vec<usize>,
    conditions: Option<Conditions>,
}

#[derive(Debug)]
struct Conditions {
    /// Columns of the stored schema that the conditions read.
    columns: Vec<usize>,
    /// Those, then the row number.
    schema: SchemaRef,
    /// Bound to `schema`.
    predicate: Predicate,
}

impl Layout {
    pub(super) fn try_new(
        stored: &SchemaRef,
        output: &SchemaRef,
        projection: &[usize],
        predicate: &Predicate,
    ) -> Result<Self> {
        let conditions = if predicate.is_empty() {
            None
        } else {
            let columns: Vec<usize> = predicate.columns().into_iter().collect();
            let mut fields: Vec<Arc<Field>> =
                columns.iter().map(|c| Arc::clone(&stored.fields()[*c])).collect();
            fields.push(Arc::new(Field::new(NUMBER, DataType::UInt32, false)));
            let schema = Arc::new(Schema::new(fields));
            let predicate = predicate.bind(&schema)?;
            Some(Conditions { columns, schema, predicate })
        };
        Ok(Self { output: Arc::clone(output), projection: projection.to_vec(), conditions })
    }

    /// The rows of the slice that are seen and meet the conditions.
    fn apply(&self, slice: &VisibleBatch) -> Result<RecordBatch> {
        let stored = slice.stored();
        let seen = slice.keep().map(|k| BooleanArray::new(k.clone(), None));
        let kept = match &self.conditions {
            None => seen,
            Some(conditions) => conditions.kept(stored, seen.as_ref())?,
        };
        let columns = self.projection.iter().map(|c| Arc::clone(stored.column(*c))).collect();
        // A scan for a count has rows and no columns.
        let options = RecordBatchOptions::new().with_row_count(Some(stored.num_rows()));
        let out = RecordBatch::try_new_with_options(Arc::clone(&self.output), columns, &options)?;
        match kept {
            None => Ok(out),
            Some(kept) if kept.true_count() == 0 => Ok(out.slice(0, 0)),
            Some(kept) => Ok(filter_record_batch(&out, &kept)?),
        }
    }
}

impl Conditions {
    /// Which rows of the batch are seen and meet the conditions; `None`: all.
    fn kept(&self, stored: &RecordBatch, seen: Option<&BooleanArray>) -> Result<Option<BooleanArray>> {
        let rows = stored.num_rows();
        let mut columns: Vec<ArrayRef> = self.columns.iter().map(|c| Arc::clone(stored.column(*c))).collect();
        columns.push(Arc::new(UInt32Array::from_iter_values(0..rows as u32)));
        let mut batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        if let Some(seen) = seen {
            batch = filter_record_batch(&batch, seen)?;
        }
        let left = self.predicate.apply(batch)?;
        if left.num_rows() == rows {
            return Ok(None);
        }
        let mut bits = BooleanBufferBuilder::new(rows);
        bits.append_n(rows, false);
        for number in left.column(self.columns.len()).as_primitive::<UInt32Type>().values() {
            bits.set_bit(*number as usize, true);
        }
        Ok(Some(BooleanArray::new(bits.finish(), None)))
    }
}

/// The stream of one partition.
pub(super) struct HotStream {
    layout: Arc<Layout>,
    batches: VecDeque<VisibleBatch>,
    /// Rows of the first batch that are done.
    done: usize,
    batch_rows: usize,
    /// Rows that may still be given out.
    left: usize,
    /// The generation of the dynamic conditions that was looked at.
    generation: Option<u64>,
    baseline: BaselineMetrics,
    /// Rows that were seen before the conditions.
    rows_scanned: Count,
}

impl HotStream {
    pub(super) fn new(
        layout: Arc<Layout>,
        batches: Vec<VisibleBatch>,
        batch_rows: usize,
        fetch: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
        partition: usize,
    ) -> Self {
        Self {
            layout,
            batches: batches.into(),
            done: 0,
            batch_rows: batch_rows.max(1),
            left: fetch.unwrap_or(usize::MAX),
            generation: None,
            baseline: BaselineMetrics::new(metrics, partition),
            rows_scanned: MetricBuilder::new(metrics).counter("rows_scanned", partition),
        }
    }

    /// The next slice of at most a batch's rows.
    fn slice(&mut self) -> Option<VisibleBatch> {
        let batch = self.batches.front()?;
        let rest = batch.stored().num_rows() - self.done;
        let len = rest.min(self.batch_rows);
        let slice =
            if len == batch.stored().num_rows() { batch.clone() } else { batch.slice(self.done, len) };
        if len == rest {
            self.batches.pop_front();
            self.done = 0;
        } else {
            self.done += len;
        }
        Some(slice)
    }

    /// Rows from the next slice, maybe none; `None` at the end.
    fn step(&mut self) -> Result<Option<RecordBatch>> {
        if self.left == 0 {
            return Ok(None);
        }
        if let Some(conditions) = &self.layout.conditions {
            let generation = conditions.predicate.generation();
            if self.generation != Some(generation) {
                self.generation = Some(generation);
                if conditions.predicate.is_false()? {
                    return Ok(None);
                }
            }
        }
        let Some(slice) = self.slice() else { return Ok(None) };
        self.rows_scanned.add(slice.rows());
        let out = if slice.rows() == 0 {
            RecordBatch::new_empty(Arc::clone(&self.layout.output))
        } else {
            self.layout.apply(&slice)?
        };
        let out = if out.num_rows() > self.left { out.slice(0, self.left) } else { out };
        self.left -= out.num_rows();
        Ok(Some(out))
    }
}

impl Stream for HotStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let timer = this.baseline.elapsed_compute().clone();
        let _timer = timer.timer();
        for _ in 0..PATIENCE {
            let step = this.step();
            if matches!(&step, Ok(Some(batch)) if batch.num_rows() == 0) {
                continue;
            }
            if !matches!(&step, Ok(Some(_))) {
                // The end or an error: either way nothing follows.
                this.left = 0;
            }
            return this.baseline.record_poll(Poll::Ready(step.transpose()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl RecordBatchStream for HotStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.layout.output)
    }
}
