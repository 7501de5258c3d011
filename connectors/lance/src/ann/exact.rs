//! Nearest rows by comparing every one: the truth that an index approximates.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use datafusion::common::runtime::SpawnedTask;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use lance_core::ROW_ID;
use triune_common::{Error, ErrorKind, Result};

use crate::ann::search::{AnnSpec, Run};
use crate::predicate::Predicate;
use crate::scan::layout::Layout;
use crate::scan::pieces::Piece;
use crate::scan::reader::{ReadMetrics, ReadSpec, read};

/// A row and its distance. NaN is farther than everything; equal distances go by row id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit {
    pub(crate) distance: f32,
    pub(crate) row_id: u64,
}

impl Hit {
    pub(crate) fn new(distance: f32, row_id: u64) -> Self {
        // A negative NaN would sort before everything.
        Self { distance: if distance.is_nan() { f32::NAN } else { distance }, row_id }
    }
}

impl Ord for Hit {
    fn cmp(&self, other: &Self) -> Ordering {
        self.distance.total_cmp(&other.distance).then(self.row_id.cmp(&other.row_id))
    }
}

impl PartialOrd for Hit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Hit {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Hit {}

/// The `k` nearest of what it was shown.
#[derive(Debug)]
struct Nearest {
    k: usize,
    /// The farthest on top.
    heap: BinaryHeap<Hit>,
}

impl Nearest {
    fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::new() }
    }

    fn push(&mut self, hit: Hit) {
        if self.heap.len() < self.k {
            self.heap.push(hit);
        } else if let Some(mut farthest) = self.heap.peek_mut()
            && hit < *farthest
        {
            *farthest = hit;
        }
    }
}

/// Reads of some columns in several partitions, with their own metrics.
pub(crate) struct Reads {
    pub(crate) streams: Vec<BoxStream<'static, Result<RecordBatch>>>,
    pub(crate) metrics: ExecutionPlanMetricsSet,
}

/// Adds what was read to the search's own metrics.
pub(crate) fn report(read: &ExecutionPlanMetricsSet, run: &Run) {
    let set = read.clone_inner();
    let sum = |name| set.sum_by_name(name).map_or(0, |v| v.as_usize());
    run.metrics.rows_scanned.add(sum("rows_scanned"));
    run.metrics.bytes_scanned.add(sum("bytes_scanned"));
}

pub(crate) fn reads(
    spec: &AnnSpec,
    run: &Run,
    columns: &[usize],
    predicate: &Predicate,
    parts: Vec<Vec<Piece>>,
) -> Result<Reads> {
    let layout = Arc::new(Layout::try_new(&spec.table, columns, predicate)?);
    let metrics = ExecutionPlanMetricsSet::new();
    let streams = parts
        .into_iter()
        .enumerate()
        .map(|(partition, pieces)| {
            let spec = ReadSpec {
                table: Arc::clone(&spec.table),
                layout: Arc::clone(&layout),
                batch_rows: run.batch_rows,
                fetch: None,
                metrics: ReadMetrics::new(&metrics, partition),
            };
            read(spec, pieces)
        })
        .collect();
    Ok(Reads { streams, metrics })
}

/// The `k` nearest rows among those of `parts` that meet `predicate`, sorted. Rows without a distance
/// (their vector is NULL) are left out; a distance that is NaN comes last.
pub(crate) async fn exact(
    spec: &AnnSpec,
    run: &Run,
    predicate: &Predicate,
    parts: Vec<Vec<Piece>>,
) -> Result<Vec<Hit>> {
    run.metrics.exact_searches.add(1);
    let columns = [spec.table.schema.index_of(ROW_ID)?, spec.column];
    let Reads { streams, metrics } = reads(spec, run, &columns, predicate, parts)?;
    let mut tasks = Vec::new();
    for mut stream in streams {
        let scorer = Arc::clone(&spec.scorer);
        let mut nearest = Nearest::new(spec.k);
        tasks.push(SpawnedTask::spawn(async move {
            while let Some(batch) = stream.try_next().await? {
                let ids = column_of(&batch, 0)?.as_primitive::<UInt64Type>();
                let distances = scorer.score(column_of(&batch, 1)?.as_fixed_size_list())?;
                for (row, id) in ids.values().iter().enumerate() {
                    if distances.is_valid(row) {
                        nearest.push(Hit::new(distances.value(row), *id));
                    }
                }
                // Pages in the cache never make a read wait; others must have their turn.
                tokio::task::coop::consume_budget().await;
            }
            Ok::<_, Error>(nearest)
        }));
    }
    let mut all = Nearest::new(spec.k);
    for task in tasks {
        let gone = |_| Error::new(ErrorKind::Cancelled, "an exact vector search was cancelled");
        for hit in task.join_unwind().await.map_err(gone)??.heap {
            all.push(hit);
        }
    }
    report(&metrics, run);
    Ok(all.heap.into_sorted_vec())
}

pub(crate) fn column_of(batch: &RecordBatch, column: usize) -> Result<&ArrayRef> {
    batch
        .columns()
        .get(column)
        .ok_or_else(|| Error::internal("a read came without a column it was asked for"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nan_is_farthest() {
        let mut nearest = Nearest::new(2);
        for (i, d) in [-f32::NAN, f32::INFINITY, 1.0].into_iter().enumerate() {
            nearest.push(Hit::new(d, i as u64));
        }
        let ids: Vec<u64> = nearest.heap.into_sorted_vec().iter().map(|h| h.row_id).collect();
        assert_eq!(ids, [2, 1]);
    }

    proptest! {
        #[test]
        fn the_nearest_are_those_of_a_full_sort(
            distances in prop::collection::vec(prop_oneof![Just(f32::NAN), -9f32..9.0, Just(0.5)], 0..80),
            k in 0usize..20,
        ) {
            let hits: Vec<Hit> =
                distances.iter().enumerate().map(|(i, d)| Hit::new(*d, i as u64)).collect();
            let mut nearest = Nearest::new(k);
            hits.iter().for_each(|h| nearest.push(*h));
            let mut sorted = hits;
            sorted.sort();
            sorted.truncate(k);
            prop_assert_eq!(nearest.heap.into_sorted_vec(), sorted);
        }
    }
}
