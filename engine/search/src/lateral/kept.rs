//! The `k` nearest rows of each of many queries, of the batches of one partition.
//!
//! ```text
//!  batch ──► distances to every query ──► heap per query: (class, distance, arrival) → place in the store
//!                                            │
//!             rows that some query keeps ────┴──► store, one copy however many queries keep a row;
//!                                                 copied together when more than half of it is dead
//! ```

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use arrow::array::{RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{interleave_record_batch, take_record_batch};
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;

use super::node::Order;

/// The store is not copied together for fewer dead rows.
const LEAST_DEAD_ROWS: usize = 16 * 1024;

/// A kept row. The greatest entry is the first to go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) class: u8,
    pub(crate) distance: f32,
    pub(crate) is_null: bool,
    /// Numbers the rows of a partition: among equals the earliest stays.
    arrival: u64,
    pub(crate) batch: u32,
    pub(crate) row: u32,
}

impl Entry {
    fn key(&self, other: &Self) -> Ordering {
        self.class.cmp(&other.class).then(self.distance.total_cmp(&other.distance))
    }
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
        self.key(other).then(self.arrival.cmp(&other.arrival))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Kept {
    k: usize,
    order: Order,
    pub(crate) heaps: Vec<BinaryHeap<Entry>>,
    /// The distance that a row must be below to be kept by a query; NaN while every row may be.
    below: Vec<f32>,
    pub(crate) store: Vec<RecordBatch>,
    stored_rows: usize,
    stored_bytes: usize,
    entries: usize,
    seen: u64,
    reservation: MemoryReservation,
    /// Rows of the batch at hand that some query has taken, and the queries that have taken some.
    taken: Vec<bool>,
    takers: Vec<u32>,
    is_taker: Vec<bool>,
}

impl Kept {
    pub(crate) fn new(queries: usize, k: usize, order: Order, reservation: MemoryReservation) -> Self {
        Self {
            k,
            order,
            heaps: (0..queries).map(|_| BinaryHeap::new()).collect(),
            below: vec![f32::NAN; queries],
            store: Vec::new(),
            stored_rows: 0,
            stored_bytes: 0,
            entries: 0,
            seen: 0,
            reservation,
            taken: Vec::new(),
            takers: Vec::new(),
            is_taker: vec![false; queries],
        }
    }

    /// Adds a query to those of before; returns its number.
    pub(crate) fn add_query(&mut self) -> usize {
        self.heaps.push(BinaryHeap::new());
        self.below.push(f32::NAN);
        self.is_taker.push(false);
        self.heaps.len() - 1
    }

    pub(crate) fn reserved(&self) -> usize {
        self.reservation.size()
    }

    pub(crate) fn begin(&mut self, rows: usize) {
        self.taken.clear();
        self.taken.resize(rows, false);
    }

    /// Considers rows for a query: `distances[i]` is that of row `rows(i)` of the batch at hand. Rows that are
    /// NULL are left out here.
    #[inline]
    pub(crate) fn offer(
        &mut self,
        query: usize,
        distances: &[f32],
        row: impl Fn(usize) -> usize,
        is_null: impl Fn(usize) -> bool,
    ) {
        let mut below = self.below[query];
        for (i, &distance) in distances.iter().enumerate() {
            // The usual case; false for NaN on either side.
            if distance >= below {
                continue;
            }
            if is_null(i) {
                continue;
            }
            self.push(query, row(i), Some(distance));
            below = self.below[query];
        }
    }

    /// Considers one row for a query; `None` is a row whose vector is NULL.
    pub(crate) fn push(&mut self, query: usize, row: usize, distance: Option<f32>) {
        let is_nan = distance.is_some_and(f32::is_nan);
        let Some(class) = self.order.class(distance.is_none(), is_nan) else { return };
        let entry = Entry {
            class,
            distance: match distance {
                // NaN has no sign here, and there is one zero.
                Some(d) if d.is_nan() => f32::NAN,
                Some(d) => d + 0.0,
                None => 0.0,
            },
            is_null: distance.is_none(),
            arrival: self.seen + row as u64,
            batch: u32::try_from(self.store.len()).unwrap_or(u32::MAX),
            row: u32::try_from(row).unwrap_or(u32::MAX),
        };
        let heap = &mut self.heaps[query];
        if heap.len() == self.k {
            match heap.peek() {
                Some(worst) if entry < *worst => {
                    heap.pop();
                }
                _ => return,
            }
        } else {
            self.entries += 1;
        }
        heap.push(entry);
        if heap.len() == self.k
            && let Some(worst) = heap.peek()
        {
            // Below a row without a number there is no distance to be under.
            let plain = !worst.is_null && !worst.distance.is_nan();
            self.below[query] = if plain { worst.distance } else { f32::NAN };
        }
        self.taken[row] = true;
        if !self.is_taker[query] {
            self.is_taker[query] = true;
            self.takers.push(u32::try_from(query).unwrap_or(u32::MAX));
        }
    }

    /// Ends a batch: copies the rows that were taken.
    ///
    /// # Errors
    /// `ResourcesExhausted` if the memory for them is refused.
    pub(crate) fn end(&mut self, batch: &RecordBatch) -> Result<()> {
        self.seen += self.taken.len() as u64;
        if self.takers.is_empty() {
            return Ok(());
        }
        let place = u32::try_from(self.store.len()).unwrap_or(u32::MAX);
        // Rows that a later row of the same batch has pushed out again are not copied.
        self.taken.fill(false);
        for query in &self.takers {
            for entry in self.heaps[*query as usize].iter().filter(|e| e.batch == place) {
                self.taken[entry.row as usize] = true;
            }
        }
        let mut new_place = vec![0_u32; self.taken.len()];
        let mut rows = Vec::new();
        for (row, _) in self.taken.iter().enumerate().filter(|(_, taken)| **taken) {
            new_place[row] = u32::try_from(rows.len()).unwrap_or(u32::MAX);
            rows.push(u32::try_from(row).unwrap_or(u32::MAX));
        }
        for query in self.takers.drain(..) {
            let query = query as usize;
            self.is_taker[query] = false;
            let mut entries = std::mem::take(&mut self.heaps[query]).into_vec();
            for entry in entries.iter_mut().filter(|e| e.batch == place) {
                entry.row = new_place[entry.row as usize];
            }
            // The order does not look at places: this is the same heap again.
            self.heaps[query] = BinaryHeap::from(entries);
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.reservation.try_grow(crate::topk::bytes_of_rows(batch, rows.len()))?;
        let kept = picked(batch, rows)?;
        self.stored_rows += kept.num_rows();
        self.stored_bytes += kept.get_array_memory_size();
        self.store.push(kept);
        self.account(0)?;
        if self.stored_rows > 2 * self.entries + LEAST_DEAD_ROWS {
            self.compact()?;
        }
        Ok(())
    }

    fn account(&mut self, extra: usize) -> Result<()> {
        let heaps =
            self.heaps.len() * (size_of::<BinaryHeap<Entry>>() + 8) + self.entries * 2 * size_of::<Entry>();
        self.reservation.try_resize(heaps + self.stored_bytes + extra)
    }

    fn compact(&mut self) -> Result<()> {
        let mut live: Vec<(u32, u32)> =
            self.heaps.iter().flat_map(|h| h.iter().map(|e| (e.batch, e.row))).collect();
        live.sort_unstable();
        live.dedup();
        let per_row = self.stored_bytes / self.stored_rows.max(1) + 1;
        self.account(live.len() * (per_row + 24))?;
        let places: Vec<_> = live.iter().map(|(b, r)| (*b as usize, *r as usize)).collect();
        let store: Vec<&RecordBatch> = self.store.iter().collect();
        let together = match store.first() {
            Some(first) if first.num_columns() == 0 => without_columns(first, places.len())?,
            _ => crate::topk::own_text(interleave_record_batch(&store, &places)?)?,
        };
        for heap in &mut self.heaps {
            let mut entries = std::mem::take(heap).into_vec();
            for entry in &mut entries {
                let place = live.binary_search(&(entry.batch, entry.row)).unwrap_or(0);
                entry.batch = 0;
                entry.row = u32::try_from(place).unwrap_or(u32::MAX);
            }
            *heap = BinaryHeap::from(entries);
        }
        self.stored_rows = together.num_rows();
        self.stored_bytes = together.get_array_memory_size();
        self.store = vec![together];
        self.account(0)
    }
}

fn picked(batch: &RecordBatch, rows: Vec<u32>) -> Result<RecordBatch> {
    if batch.num_columns() == 0 {
        return without_columns(batch, rows.len());
    }
    crate::topk::own_text(take_record_batch(batch, &UInt32Array::from(rows))?)
}

/// `count(*)` asks for rows and for no column.
fn without_columns(batch: &RecordBatch, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(batch.schema(), Vec::new(), &options)?)
}

/// The rows `skip..` of one query among several partitions: partition and entry, nearest first.
pub(crate) fn merged(parts: &mut [Kept], query: usize, k: usize, skip: usize) -> Vec<(usize, Entry)> {
    let mut all: Vec<(usize, Entry)> = Vec::new();
    for (part, kept) in parts.iter_mut().enumerate() {
        all.extend(std::mem::take(&mut kept.heaps[query]).into_iter().map(|e| (part, e)));
    }
    all.sort_unstable_by(|(p, a), (q, b)| a.key(b).then(p.cmp(q)).then(a.cmp(b)));
    all.into_iter().skip(skip).take(k).collect()
}
