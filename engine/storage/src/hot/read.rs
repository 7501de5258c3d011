//! What readers take out of a memtable.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter_record_batch, interleave};
use arrow::datatypes::SchemaRef;
use triune_common::{Error, Result};

use crate::hot::Memtable;
use crate::hot::chunk::{Piece, Stamps, Visible};
use crate::key::{Key, KeyRef, Keys};
use crate::stamp::CommitTs;

/// Keys of a range that are walked before the committer is let in between.
const KEYS_AT_ONCE: usize = 1024;

/// Rows that are copied out into one batch.
const BATCH_ROWS: usize = 8192;

/// One row, by reference to the batch that it lies in.
#[derive(Debug, Clone)]
pub struct RowRef {
    batch: Arc<RecordBatch>,
    row: usize,
}

impl RowRef {
    pub(super) fn new(batch: Arc<RecordBatch>, row: usize) -> Self {
        Self { batch, row }
    }

    /// The batch, in the stored schema.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// The row's place in [`Self::batch`].
    pub fn row(&self) -> usize {
        self.row
    }

    /// The value of a column, as an array of one.
    pub fn value(&self, column: usize) -> ArrayRef {
        self.batch.column(column).slice(self.row, 1)
    }

    /// A batch of this row alone, without a copy.
    pub fn to_batch(&self) -> RecordBatch {
        self.batch.slice(self.row, 1)
    }

    /// The rows in the order given, in one batch. Rows that follow each other in one batch are not copied.
    pub fn gather(schema: &SchemaRef, rows: &[Self]) -> Result<RecordBatch> {
        let Some(first) = rows.first() else { return Ok(RecordBatch::new_empty(Arc::clone(schema))) };
        let follows = |(i, r): (usize, &Self)| Arc::ptr_eq(&r.batch, &first.batch) && r.row == first.row + i;
        if rows.iter().enumerate().all(follows) {
            return Ok(first.batch.slice(first.row, rows.len()));
        }
        let mut batches: Vec<&RecordBatch> = Vec::new();
        let mut numbers: HashMap<*const RecordBatch, usize> = HashMap::new();
        let mut last = (std::ptr::null(), 0);
        let mut places = Vec::with_capacity(rows.len());
        for row in rows {
            let at = Arc::as_ptr(&row.batch);
            if at != last.0 {
                let number = *numbers.entry(at).or_insert_with(|| {
                    batches.push(&row.batch);
                    batches.len() - 1
                });
                last = (at, number);
            }
            places.push((last.1, row.row));
        }
        let columns = (0..schema.fields().len()).map(|c| {
            let arrays: Vec<&dyn Array> = batches.iter().map(|b| b.column(c).as_ref()).collect();
            interleave(&arrays, &places)
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}

/// Rows of a memtable, and which of them a snapshot sees.
#[derive(Debug, Clone)]
pub struct VisibleBatch {
    batch: RecordBatch,
    /// `None`: all of them.
    keep: Option<BooleanBuffer>,
    rows: usize,
}

impl VisibleBatch {
    /// A batch all of whose rows are visible.
    pub fn whole(batch: RecordBatch) -> Self {
        Self { rows: batch.num_rows(), batch, keep: None }
    }

    /// `keep` has a bit for every row. Errors: internal when it has not.
    pub fn masked(batch: RecordBatch, keep: BooleanBuffer) -> Result<Self> {
        if keep.len() != batch.num_rows() {
            return Err(Error::internal(format!("{} bits for {} rows", keep.len(), batch.num_rows())));
        }
        let rows = keep.count_set_bits();
        Ok(Self { keep: (rows < batch.num_rows()).then_some(keep), rows, batch })
    }

    /// The rows that are stored; see [`Self::keep`] for those that are seen.
    pub fn stored(&self) -> &RecordBatch {
        &self.batch
    }

    /// The rows that are seen; `None`: all.
    pub fn keep(&self) -> Option<&BooleanBuffer> {
        self.keep.as_ref()
    }

    /// How many rows are seen.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Stored rows `offset..offset + len`.
    #[must_use]
    pub fn slice(&self, offset: usize, len: usize) -> Self {
        let batch = self.batch.slice(offset, len);
        let keep = self.keep.as_ref().map(|k| k.slice(offset, len));
        let rows = keep.as_ref().map_or(len, BooleanBuffer::count_set_bits);
        Self { keep: keep.filter(|_| rows < len), rows, batch }
    }

    /// The rows that are seen, copied only where some are not.
    pub fn to_batch(&self) -> Result<RecordBatch> {
        match &self.keep {
            None => Ok(self.batch.clone()),
            Some(keep) => Ok(filter_record_batch(&self.batch, &BooleanArray::new(keep.clone(), None))?),
        }
    }
}

/// Rows for the base.
#[derive(Debug, Clone)]
pub struct LiveRows {
    pub batch: RecordBatch,
    pub keys: Keys,
}

/// Row versions that have ended.
#[derive(Debug, Clone)]
pub struct HistoryRows {
    pub batch: RecordBatch,
    pub keys: Keys,
    /// When each row began and ended.
    pub begins: Vec<CommitTs>,
    pub ends: Vec<CommitTs>,
}

/// A chunk as a reader holds it.
struct Taken {
    chunk: usize,
    stamps: Arc<Stamps>,
    rows: usize,
    pieces: Vec<Piece>,
}

impl Memtable {
    /// All rows that the snapshot sees: batches as they lie here, and a mask where some of a batch's rows are not
    /// seen. Cost: a few dozen nanoseconds per chunk, and a nanosecond or so per row of chunks with ended rows.
    pub fn view(&self, snapshot: CommitTs) -> Vec<VisibleBatch> {
        let taken: Vec<Taken> = {
            let state = self.state.read();
            let begun = state.chunks.iter().enumerate().filter(|(_, c)| c.rows > 0);
            let begun = begun.filter(|(_, c)| c.stamps.begin(0) <= snapshot);
            begun
                .map(|(chunk, c)| Taken {
                    chunk,
                    stamps: Arc::clone(&c.stamps),
                    rows: c.rows,
                    pieces: c.pieces.clone(),
                })
                .collect()
        };
        let mut out = Vec::with_capacity(taken.len());
        for Taken { chunk, stamps, rows, pieces } in taken {
            let visible = stamps.visible(rows, snapshot);
            if matches!(visible, Visible::None) {
                continue;
            }
            for piece in self.gather_for_scan(chunk, pieces) {
                out.extend(visible_piece(&piece, &visible));
            }
        }
        out
    }

    /// References to the rows between the bounds that the snapshot sees, in the order of their keys, at most `limit`.
    ///
    /// Errors: internal for bounds of another kind.
    pub fn range_rows(
        &self,
        lower: Bound<KeyRef<'_>>,
        upper: Bound<KeyRef<'_>>,
        snapshot: CommitTs,
        limit: usize,
    ) -> Result<Vec<RowRef>> {
        self.order.settle(&self.state);
        let mut rows = Vec::new();
        let mut from = lower.map(KeyRef::to_owned);
        while rows.len() < limit {
            let most = KEYS_AT_ONCE.min(limit - rows.len());
            let from_now = from.as_ref().map(Key::as_ref);
            let last = self.order.visit(&self.state, from_now, upper, most, |state, head| {
                if let Some((pos, end)) = state.begun_version(head, snapshot)
                    && end > snapshot
                {
                    rows.push(state.row(pos));
                }
            })?;
            match last {
                Some(key) => from = Bound::Excluded(key),
                None => break,
            }
        }
        Ok(rows)
    }

    /// The rows that are visible at `ts`, with their keys, a batch per chunk.
    ///
    /// The lock is held for one chunk at a time; rows that are appended meanwhile begin after `ts`.
    pub fn live_at(&self, ts: CommitTs) -> Result<Vec<LiveRows>> {
        let chunks = self.state.read().chunks.len();
        let mut out = Vec::with_capacity(chunks);
        for chunk in 0..chunks {
            let (visible, pieces) = {
                let state = self.state.read();
                let Some(chunk) = state.chunks.get(chunk) else { break };
                (chunk.stamps.visible(chunk.rows, ts), chunk.pieces.clone())
            };
            for piece in pieces {
                let Some(seen) = visible_piece(&piece, &visible) else { continue };
                let to = piece.start + seen.batch.num_rows();
                let mask = match &visible {
                    Visible::Some(mask) => Some(mask),
                    _ => None,
                };
                let keys = {
                    let state = self.state.read();
                    let Some(chunk) = state.chunks.get(chunk) else { break };
                    chunk.keys.pick(piece.start, to, mask)
                };
                out.push(LiveRows { batch: seen.to_batch()?, keys });
            }
        }
        Ok(out)
    }

    /// Row versions whose end is after `after` and not after `until`, in the order of their ends.
    pub fn history(&self, after: CommitTs, until: CommitTs) -> Result<Vec<HistoryRows>> {
        let mut out = Vec::new();
        let mut next = self.state.read().ended.partition_point(|(end, _)| *end <= after);
        loop {
            let (mut rows, mut ints, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
            let (mut begins, mut ends) = (Vec::new(), Vec::new());
            {
                let state = self.state.read();
                let to = state.ended.partition_point(|(end, _)| *end <= until).min(next + BATCH_ROWS);
                for (end, pos) in state.ended.get(next..to).unwrap_or_default() {
                    rows.push(state.row(*pos));
                    begins.push(state.chunks[pos.chunk()].stamps.begin(pos.row()));
                    ends.push(*end);
                    match state.key(*pos) {
                        KeyRef::Int(key) => ints.push(key),
                        KeyRef::Bytes(key) => bytes.push(Box::from(key)),
                    }
                }
            }
            if rows.is_empty() {
                return Ok(out);
            }
            next += rows.len();
            let keys = if bytes.is_empty() { Keys::Ints(ints) } else { Keys::Bytes(bytes) };
            out.push(HistoryRows { batch: RowRef::gather(&self.schema, &rows)?, keys, begins, ends });
        }
    }
}

/// What a snapshot sees of a piece, of the chunk that it belongs to.
fn visible_piece(piece: &Piece, visible: &Visible) -> Option<VisibleBatch> {
    let (begun, mask) = match visible {
        Visible::None => return None,
        Visible::First(begun) => (*begun, None),
        Visible::Some(mask) => (mask.len(), Some(mask)),
    };
    let len = begun.saturating_sub(piece.start).min(piece.rows());
    let keep = mask.map(|m| m.slice(piece.start.min(m.len()), len));
    let rows = keep.as_ref().map_or(len, BooleanBuffer::count_set_bits);
    if rows == 0 {
        return None;
    }
    let batch = if len == piece.rows() { piece.batch.as_ref().clone() } else { piece.batch.slice(0, len) };
    Some(VisibleBatch { batch, keep: keep.filter(|_| rows < len), rows })
}
