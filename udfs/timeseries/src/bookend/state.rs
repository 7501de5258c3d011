//! The best row of every group, for values of any type.
//!
//! ```text
//!  batch ──▶ per group: better than the best so far? ──▶ the batch's winners, taken into one small chunk
//!
//!  chunks   [0] one row of NULLs    [1] winners of batch 7    [2] winners of batch 9 …
//!  group g  ──▶ (chunk, row)        groups without a row point at chunk 0
//! ```
//!
//! Winners that were beaten later stay in their chunk until more than half of all rows are such; then all
//! chunks become one. Copying whole rows by `take` and `interleave` treats every type alike.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DynComparator, UInt32Array, make_comparator, new_null_array,
};
use arrow::compute::{SortOptions, interleave, is_not_null, nullif, take};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::EmitTo;

use super::End;
use super::keys::Keys;

/// Chunks are merged when there are more than this many …
const MAX_CHUNKS: usize = 64;
/// … or when this many rows more than twice the groups are kept.
const SLACK_ROWS: usize = 8 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    chunk: u32,
    row: u32,
}

const NOWHERE: Place = Place { chunk: 0, row: 0 };
/// The chunk number of rows of the batch that is being read.
const PENDING: u32 = u32::MAX;

#[derive(Debug)]
struct Chunk {
    values: ArrayRef,
    times: ArrayRef,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct BookendState<K> {
    end: End,
    ignore_nulls: bool,
    keys: K,
    places: Vec<Place>,
    chunks: Vec<Chunk>,
    rows: usize,
    bytes: usize,
}

impl<K: Keys> BookendState<K> {
    pub(crate) fn new(keys: K, end: End, value: &DataType, time: &DataType, ignore_nulls: bool) -> Self {
        let nothing = Chunk { values: new_null_array(value, 1), times: new_null_array(time, 1) };
        Self { end, ignore_nulls, keys, places: Vec::new(), chunks: vec![nothing], rows: 0, bytes: 0 }
    }

    pub(crate) fn ignore_nulls(&self) -> bool {
        self.ignore_nulls
    }

    pub(crate) fn resize(&mut self, groups: usize) {
        if groups > self.places.len() {
            self.places.resize(groups, NOWHERE);
            self.keys.resize(groups);
        }
    }

    /// Reads a batch of values and times; `group` tells a row's group, below the size last set.
    pub(crate) fn update(
        &mut self,
        columns: &[ArrayRef],
        group: impl Fn(usize) -> usize,
        filter: Option<&BooleanArray>,
    ) -> Result<()> {
        let (values, times) = (&columns[0], &columns[1]);
        let batch = self.keys.of_batch(times)?;
        let time_nulls = times.logical_nulls();
        let value_nulls = if self.ignore_nulls { values.logical_nulls() } else { None };
        let mut ties = Ties { end: self.end, batch: values, comparators: HashMap::new() };
        let mut touched: Vec<usize> = Vec::new();
        for row in 0..values.len() {
            let skip = time_nulls.as_ref().is_some_and(|n| n.is_null(row))
                || value_nulls.as_ref().is_some_and(|n| n.is_null(row))
                || filter.is_some_and(|f| f.is_null(row) || !f.value(row));
            if skip {
                continue;
            }
            let g = group(row);
            let best = self.places[g];
            let order = match best {
                NOWHERE => Ordering::Less,
                Place { chunk: PENDING, row: other } => {
                    self.toward_end(K::compare_rows(&batch, row, other as usize))
                }
                _ => self.toward_end(self.keys.compare_to(&batch, row, g)),
            };
            let better = match order {
                Ordering::Less => true,
                Ordering::Greater => false,
                Ordering::Equal => ties.row_wins(row, best, &self.chunks),
            };
            if better {
                if best.chunk != PENDING {
                    touched.push(g);
                }
                self.places[g] = Place { chunk: PENDING, row: row as u32 };
            }
        }
        self.keep(values, times, &batch, &touched)
    }

    /// Less = nearer to the wanted end.
    fn toward_end(&self, order: Ordering) -> Ordering {
        match self.end {
            End::First => order,
            End::Last => order.reverse(),
        }
    }

    /// Copies the winners of a batch into a chunk of their own.
    fn keep(
        &mut self,
        values: &ArrayRef,
        times: &ArrayRef,
        batch: &K::Batch,
        touched: &[usize],
    ) -> Result<()> {
        if touched.is_empty() {
            return Ok(());
        }
        let rows: UInt32Array = touched.iter().map(|g| self.places[*g].row).collect();
        let chunk = Chunk {
            values: compact(&take(values, &rows, None)?),
            times: compact(&take(times, &rows, None)?),
        };
        let number = self.chunks.len() as u32;
        for (i, g) in touched.iter().enumerate() {
            self.keys.set(*g, batch, rows.value(i) as usize);
            self.places[*g] = Place { chunk: number, row: i as u32 };
        }
        self.rows += touched.len();
        self.bytes += chunk.bytes();
        self.chunks.push(chunk);
        if self.chunks.len() > MAX_CHUNKS || self.rows > 2 * self.places.len() + SLACK_ROWS {
            self.merge_chunks()?;
        }
        Ok(())
    }

    fn merge_chunks(&mut self) -> Result<()> {
        let live: Vec<usize> = (0..self.places.len()).filter(|g| self.places[*g] != NOWHERE).collect();
        let places: Vec<Place> = live.iter().map(|g| self.places[*g]).collect();
        let (values, times) = self.gather(&places)?;
        self.chunks.truncate(1);
        self.rows = live.len();
        self.bytes = 0;
        if live.is_empty() {
            return Ok(());
        }
        for (row, g) in live.into_iter().enumerate() {
            self.places[g] = Place { chunk: 1, row: row as u32 };
        }
        let chunk = Chunk { values, times };
        self.bytes = chunk.bytes();
        self.chunks.push(chunk);
        Ok(())
    }

    /// Values and times at these places.
    fn gather(&self, places: &[Place]) -> Result<(ArrayRef, ArrayRef)> {
        let at: Vec<(usize, usize)> = places.iter().map(|p| (p.chunk as usize, p.row as usize)).collect();
        let column = |of: fn(&Chunk) -> &dyn Array| -> Result<ArrayRef> {
            let arrays: Vec<&dyn Array> = self.chunks.iter().map(of).collect();
            Ok(interleave(&arrays, &at)?)
        };
        Ok((column(|c| c.values.as_ref())?, column(|c| c.times.as_ref())?))
    }

    /// The values and times of the first groups, which are then forgotten.
    pub(crate) fn emit(&mut self, emit_to: EmitTo) -> Result<(ArrayRef, ArrayRef)> {
        let places = emit_to.take_needed(&mut self.places);
        self.keys.forget(emit_to);
        let out = self.gather(&places)?;
        if self.places.is_empty() || self.rows > 2 * self.places.len() + SLACK_ROWS {
            self.merge_chunks()?;
        }
        Ok(out)
    }

    /// The values and times of all groups.
    pub(crate) fn peek(&self) -> Result<(ArrayRef, ArrayRef)> {
        self.gather(&self.places)
    }

    pub(crate) fn size(&self) -> usize {
        self.keys.size() + self.places.capacity() * size_of::<Place>() + self.bytes
    }
}

impl Chunk {
    fn bytes(&self) -> usize {
        self.values.get_array_memory_size() + self.times.get_array_memory_size()
    }
}

/// Lets go of the batch that a taken view array still points into.
fn compact(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
        _ => Arc::clone(array),
    }
}

/// Decides between rows of the same time by their values.
struct Ties<'a> {
    end: End,
    batch: &'a ArrayRef,
    /// Comparators from the batch to a chunk, made when the first tie needs them.
    comparators: HashMap<u32, Option<DynComparator>>,
}

impl Ties<'_> {
    /// Whether a row of the batch replaces the best so far.
    fn row_wins(&mut self, row: usize, best: Place, chunks: &[Chunk]) -> bool {
        let end = self.end;
        let batch = self.batch;
        let comparator = self.comparators.entry(best.chunk).or_insert_with(|| {
            let other = if best.chunk == PENDING { batch } else { &chunks[best.chunk as usize].values };
            // NULL is the far end in both directions. No comparator: a type without an order.
            let options = SortOptions { descending: false, nulls_first: end == End::Last };
            make_comparator(batch, other, options).ok()
        });
        let Some(compare) = comparator else { return false };
        let order = compare(row, best.row as usize);
        match end {
            End::First => order == Ordering::Less,
            End::Last => order == Ordering::Greater,
        }
    }
}

/// The times, NULL in rows that a filter rejects or whose value is NULL and to be ignored.
pub(crate) fn without_time(
    times: &ArrayRef,
    filter: Option<&BooleanArray>,
    values: Option<&ArrayRef>,
) -> Result<ArrayRef> {
    let mut times = Arc::clone(times);
    if let Some(filter) = filter {
        let reject: BooleanArray = filter.iter().map(|keep| Some(keep != Some(true))).collect();
        times = nullif(&times, &reject)?;
    }
    if let Some(values) = values {
        let reject = arrow::compute::not(&is_not_null(values)?)?;
        times = nullif(&times, &reject)?;
    }
    Ok(times)
}
