//! The `k` rows with the least distances of all batches seen so far.
//!
//! ```text
//!  batch + distances ──► rows below the k-th distance ──► taken out (a small copy) ──► store
//!                              ▲                                                        │
//!                              └── heap of (distance, arrival) → place in the store ◄───┘
//!                                  more than k dead rows in the store: copy the k live ones together
//! ```
//!
//! A row is copied at most once when it arrives and amortised once more; nothing of a batch is held
//! but the rows that were, when they arrived, among the k nearest.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, RecordBatch, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{interleave_record_batch, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;

use crate::spec::Missing;

/// A kept row. The greatest entry is the first to go: the farthest, and among equals the latest.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// NaN has no sign here: it is greater than every number.
    distance: f32,
    /// Greater than everything that has a distance.
    is_null: bool,
    /// Numbers rows by arrival; tells equals apart and so makes the order total.
    arrival: u64,
    batch: u32,
    row: u32,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.is_null.cmp(&other.is_null))
            .then(self.distance.total_cmp(&other.distance))
            .then(self.arrival.cmp(&other.arrival))
    }
}

/// See the module. *Memory*: at most `2 k` rows and the survivors of one batch, twice while the store is
/// copied together; all of it is asked of the reservation before it is allocated.
pub(super) struct TopKBuffer {
    k: usize,
    missing: Missing,
    schema: SchemaRef,
    heap: BinaryHeap<Entry>,
    store: Vec<RecordBatch>,
    stored_rows: usize,
    stored_bytes: usize,
    arrivals: u64,
    reservation: MemoryReservation,
    compactions: usize,
}

impl TopKBuffer {
    pub(super) fn new(k: usize, missing: Missing, schema: SchemaRef, reservation: MemoryReservation) -> Self {
        Self {
            k,
            missing,
            schema,
            heap: BinaryHeap::new(),
            store: Vec::new(),
            stored_rows: 0,
            stored_bytes: 0,
            arrivals: 0,
            reservation,
            compactions: 0,
        }
    }

    /// How often the store was copied together.
    pub(super) fn compactions(&self) -> usize {
        self.compactions
    }

    /// Bytes that are accounted for.
    pub(super) fn reserved(&self) -> usize {
        self.reservation.size()
    }

    /// Considers the rows of a batch; only those in `mask` if there is one.
    ///
    /// # Errors
    /// `ResourcesExhausted` if the memory for the kept rows is refused.
    pub(super) fn push(
        &mut self,
        batch: &RecordBatch,
        distances: &Float32Array,
        mask: Option<&BooleanBuffer>,
    ) -> Result<()> {
        let place = u32::try_from(self.store.len()).unwrap_or(u32::MAX);
        let mut rows: Vec<u32> = Vec::new();
        let mut alive = 0_usize;
        let grown = self.heap.capacity();
        let mut farthest = self.threshold();
        for (row, &distance) in distances.values().iter().enumerate() {
            // The usual case first: most rows of most batches end here.
            if farthest.is_some_and(|farthest| distance >= farthest || distance.is_nan()) {
                continue;
            }
            if mask.is_some_and(|mask| !mask.value(row)) {
                continue;
            }
            let is_null = distances.is_null(row);
            if is_null || distance.is_nan() {
                let nearer = match self.heap.peek() {
                    Some(worst) if self.heap.len() == self.k => worst.is_null && !is_null,
                    _ => true,
                };
                if self.missing == Missing::LeftOut || !nearer {
                    continue;
                }
            }
            if self.heap.len() == self.k
                && let Some(gone) = self.heap.pop()
                && gone.batch == place
            {
                alive -= 1;
            }
            if self.heap.len() == self.heap.capacity() {
                // The heap doubles; the old and the new are alive for a moment.
                let bytes = self.heap.capacity().max(16) * 2 * size_of::<Entry>();
                self.reservation.try_grow(bytes)?;
            }
            self.heap.push(Entry {
                distance: match (is_null, distance.is_nan()) {
                    (true, _) => 0.0,
                    (false, true) => f32::NAN,
                    (false, false) => distance,
                },
                is_null,
                arrival: self.arrivals,
                batch: place,
                row: u32::try_from(rows.len()).unwrap_or(u32::MAX),
            });
            rows.push(u32::try_from(row).unwrap_or(u32::MAX));
            self.arrivals += 1;
            alive += 1;
            farthest = self.threshold();
        }
        if self.heap.capacity() > grown {
            self.account(0)?;
        }
        if alive == 0 {
            return Ok(());
        }
        if rows.len() > 2 * alive && self.heap.len() <= rows.len() {
            rows = self.forget_dead(place, &rows);
        }
        self.reservation.try_grow(bytes_of_rows(batch, rows.len()))?;
        let taken = if rows.len() == batch.num_rows() {
            // Every row stays: the batch itself is the copy.
            batch.clone()
        } else {
            own_text(take_record_batch(batch, &UInt32Array::from(rows))?)?
        };
        self.stored_rows += taken.num_rows();
        self.stored_bytes += taken.get_array_memory_size();
        self.store.push(taken);
        self.account(0)?;
        if self.stored_rows > self.heap.len() + self.k.max(LEAST_DEAD_ROWS) {
            self.compact()?;
        }
        Ok(())
    }

    /// Of the rows that a batch has brought in, those that it has not pushed out itself: with batches
    /// in descending order of distance nearly all would be copied in vain.
    fn forget_dead(&mut self, place: u32, rows: &[u32]) -> Vec<u32> {
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        let mut alive = Vec::new();
        for entry in entries.iter_mut().filter(|e| e.batch == place) {
            let row = rows[entry.row as usize];
            entry.row = u32::try_from(alive.len()).unwrap_or(u32::MAX);
            alive.push(row);
        }
        // The order of a heap does not look at places, so this is the same heap again.
        self.heap = BinaryHeap::from(entries);
        alive
    }

    /// The number that a distance must be below to be kept; `None` while every number is.
    fn threshold(&self) -> Option<f32> {
        let worst = self.heap.peek().filter(|_| self.heap.len() == self.k)?;
        (!worst.is_null && !worst.distance.is_nan()).then_some(worst.distance)
    }

    /// Sets the reservation to what is held, plus `extra`.
    fn account(&mut self, extra: usize) -> Result<()> {
        let held = self.stored_bytes + self.heap.capacity() * size_of::<Entry>();
        self.reservation.try_resize(held + extra)
    }

    /// Copies the live rows into one batch.
    fn compact(&mut self) -> Result<()> {
        let rows = self.heap.len();
        let per_row = self.stored_bytes / self.stored_rows.max(1) + 1;
        self.account(rows * (per_row + size_of::<(usize, usize)>()))?;
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        // By place: the copy then reads the store from front to back.
        entries.sort_unstable_by_key(|e| (e.batch, e.row));
        let places: Vec<_> = entries.iter().map(|e| (e.batch as usize, e.row as usize)).collect();
        let store: Vec<&RecordBatch> = self.store.iter().collect();
        let together = own_text(interleave_record_batch(&store, &places)?)?;
        for (row, entry) in entries.iter_mut().enumerate() {
            entry.batch = 0;
            entry.row = u32::try_from(row).unwrap_or(u32::MAX);
        }
        self.heap = BinaryHeap::from(entries);
        self.stored_rows = together.num_rows();
        self.stored_bytes = together.get_array_memory_size();
        self.store = vec![together];
        self.compactions += 1;
        self.account(0)
    }

    /// The rows, nearest first and among equals the earliest first, to be cut into batches.
    pub(super) fn finish(mut self) -> SortedRows {
        let entries = std::mem::take(&mut self.heap).into_sorted_vec();
        SortedRows {
            places: entries.into_iter().map(|e| (e.batch as usize, e.row as usize)).collect(),
            next: 0,
            store: self.store,
            schema: self.schema,
            reservation: self.reservation,
        }
    }
}

/// With a small k the store is not copied together for every few rows.
const LEAST_DEAD_ROWS: usize = 1024;

/// Copies the texts of view columns out of the buffers that they share with whole batches, so that a
/// few kept rows do not keep everything they were read with.
pub(crate) fn own_text(batch: RecordBatch) -> Result<RecordBatch> {
    let is_view = |c: &ArrayRef| matches!(c.data_type(), DataType::Utf8View | DataType::BinaryView);
    if !batch.columns().iter().any(is_view) {
        return Ok(batch);
    }
    let columns = batch
        .columns()
        .iter()
        .map(|c| match c.data_type() {
            DataType::Utf8View => Arc::new(c.as_string_view().gc()) as ArrayRef,
            DataType::BinaryView => Arc::new(c.as_binary_view().gc()) as ArrayRef,
            _ => Arc::clone(c),
        })
        .collect();
    // At least one column exists, so the number of rows is told by it.
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// What `rows` rows of a batch need, from the batch's own average.
pub(crate) fn bytes_of_rows(batch: &RecordBatch, rows: usize) -> usize {
    let total: usize = batch
        .columns()
        .iter()
        .map(|c| c.to_data().get_slice_memory_size().unwrap_or_else(|_| c.get_array_memory_size()))
        .sum();
    // In `u128`: both factors may be large.
    let share = (total as u128) * (rows as u128) / (batch.num_rows().max(1) as u128);
    usize::try_from(share).unwrap_or(usize::MAX)
}

/// The result of a [`TopKBuffer`], given out in batches.
pub(super) struct SortedRows {
    places: Vec<(usize, usize)>,
    next: usize,
    store: Vec<RecordBatch>,
    schema: SchemaRef,
    reservation: MemoryReservation,
}

impl SortedRows {
    /// The next `size` rows at most; `None` at the end.
    pub(super) fn next_batch(&mut self, size: usize) -> Result<Option<RecordBatch>> {
        if self.next == self.places.len() {
            self.store.clear();
            self.reservation.free();
            return Ok(None);
        }
        let end = (self.next + size.max(1)).min(self.places.len());
        let store: Vec<&RecordBatch> = self.store.iter().collect();
        let batch = interleave_record_batch(&store, &self.places[self.next..end])?;
        self.next = end;
        // Rows without a distance may be left out by now, and the schema may say so.
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec())?))
    }
}
