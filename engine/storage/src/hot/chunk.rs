//! Rows that lie together, and when each of them begins and ends.
//!
//! ```text
//!  Chunk   keys     [ 7 │ 3 │ 9 │ 7 ]                one per row
//!          pieces   [ batch of 3    │ batch of 1 ]   the rows; merged as they become many
//!          Stamps   begins   [10│10│12│15]           growing; one number for a large batch
//!                   ends     [15│MAX …    ]          made at the first end
//!                   previous [ …      │ row 0 ]      older version of the same key, made at the first one
//! ```
//!
//! [`Stamps`] is shared with readers: an end is set in place, under the readers. That harms no reader, because its
//! snapshot is older than the commit that sets it: `end > snapshot` and "no end" look alike to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::buffer::BooleanBuffer;

use crate::key::{KeyKind, KeyRef, Keys};
use crate::stamp::CommitTs;

/// Rows of the first gathering chunk of a memtable; each next one is four times as large, up to [`CHUNK_ROWS`].
pub(super) const FIRST_CHUNK_ROWS: usize = 64;
/// Rows of a gathering chunk.
pub(super) const CHUNK_ROWS: usize = 4096;
/// A gathering chunk ends when its rows take this many bytes, however few they are.
pub(super) const CHUNK_BYTES: usize = 32 << 20;
/// A batch of so many rows or bytes becomes a chunk of its own and is not copied.
pub(super) const LARGE_ROWS: usize = 1024;
pub(super) const LARGE_BYTES: usize = 8 << 20;
/// So many small pieces at the end of a chunk are merged into one when the next is appended.
pub(super) const SMALL_PIECES: usize = 64;
/// A piece of fewer rows is small.
pub(super) const SMALL_ROWS: usize = 64;

/// Where a row lies in a memtable: chunk and row within it. Stays as long as the row does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Pos(u64);

impl Pos {
    /// No row.
    const NONE: u64 = u64::MAX;

    pub(super) fn new(chunk: usize, row: usize) -> Self {
        debug_assert!(chunk < u32::MAX as usize && row <= u32::MAX as usize, "chunks and rows are 32-bit");
        Self(((chunk as u64) << 32) | row as u64)
    }

    pub(super) fn chunk(self) -> usize {
        (self.0 >> 32) as usize
    }

    pub(super) fn row(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }
}

fn atomics(rows: usize, value: u64) -> Box<[AtomicU64]> {
    (0..rows).map(|_| AtomicU64::new(value)).collect()
}

#[derive(Debug)]
enum Begins {
    /// All rows came with one commit.
    Same(CommitTs),
    /// Never falling from row to row; those after the chunk's last row mean nothing.
    Each(Box<[AtomicU64]>),
}

/// When the rows of a chunk begin and end.
#[derive(Debug)]
pub(super) struct Stamps {
    capacity: usize,
    begins: Begins,
    ends: OnceLock<Box<[AtomicU64]>>,
    previous: OnceLock<Box<[AtomicU64]>>,
    /// The earliest end of any row.
    first_end: AtomicU64,
}

/// Which of a chunk's first rows a snapshot sees.
#[derive(Debug)]
pub(super) enum Visible {
    None,
    /// The first so many.
    First(usize),
    /// Those of the first so many whose bit is set; neither none nor all.
    Some(BooleanBuffer),
}

impl Stamps {
    pub(super) fn same(ts: CommitTs, rows: usize) -> Self {
        Self::new(Begins::Same(ts), rows)
    }

    pub(super) fn each(capacity: usize) -> Self {
        Self::new(Begins::Each(atomics(capacity, u64::MAX)), capacity)
    }

    fn new(begins: Begins, capacity: usize) -> Self {
        Self {
            capacity,
            begins,
            ends: OnceLock::new(),
            previous: OnceLock::new(),
            first_end: AtomicU64::new(u64::MAX),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let begins = usize::from(matches!(self.begins, Begins::Each(_)));
        let others = usize::from(self.ends.get().is_some()) + usize::from(self.previous.get().is_some());
        size_of::<Self>() + (begins + others) * self.capacity * size_of::<u64>()
    }

    pub(super) fn begin(&self, row: usize) -> CommitTs {
        match &self.begins {
            Begins::Same(ts) => *ts,
            Begins::Each(all) => CommitTs(all[row].load(Ordering::Acquire)),
        }
    }

    pub(super) fn end(&self, row: usize) -> CommitTs {
        self.ends.get().map_or(CommitTs::MAX, |all| CommitTs(all[row].load(Ordering::Acquire)))
    }

    pub(super) fn previous(&self, row: usize) -> Option<Pos> {
        let found = self.previous.get()?[row].load(Ordering::Acquire);
        (found != Pos::NONE).then_some(Pos(found))
    }

    pub(super) fn set_begin(&self, row: usize, ts: CommitTs) {
        if let Begins::Each(all) = &self.begins {
            all[row].store(ts.0, Ordering::Release);
        }
    }

    pub(super) fn set_end(&self, row: usize, ts: CommitTs) {
        // Before the end itself: whoever sees the end sees that there is one.
        self.first_end.fetch_min(ts.0, Ordering::AcqRel);
        self.ends.get_or_init(|| atomics(self.capacity, u64::MAX))[row].store(ts.0, Ordering::Release);
    }

    pub(super) fn set_previous(&self, row: usize, pos: Option<Pos>) {
        match pos {
            Some(pos) => {
                let all = self.previous.get_or_init(|| atomics(self.capacity, Pos::NONE));
                all[row].store(pos.0, Ordering::Release);
            }
            // Rows whose place is used again after an undo.
            None => {
                if let Some(all) = self.previous.get() {
                    all[row].store(Pos::NONE, Ordering::Release);
                }
            }
        }
    }

    /// Takes an end back. Call [`Self::recount_ends`] after the last one.
    pub(super) fn take_end_back(&self, row: usize) {
        if let Some(all) = self.ends.get() {
            all[row].store(u64::MAX, Ordering::Release);
        }
    }

    pub(super) fn recount_ends(&self) {
        let first = self.ends.get().and_then(|all| all.iter().map(|e| e.load(Ordering::Acquire)).min());
        self.first_end.store(first.unwrap_or(u64::MAX), Ordering::Release);
    }

    /// How many of the first `rows` rows begin at or before `ts`; they are the first ones.
    pub(super) fn begun(&self, rows: usize, ts: CommitTs) -> usize {
        match &self.begins {
            Begins::Same(begin) if *begin <= ts => rows,
            Begins::Same(_) => 0,
            Begins::Each(all) => {
                // Nearly always all rows are older than the snapshot.
                if rows > 0 && all[rows - 1].load(Ordering::Acquire) <= ts.0 {
                    return rows;
                }
                all[..rows].partition_point(|b| b.load(Ordering::Acquire) <= ts.0)
            }
        }
    }

    /// Which of the first `rows` rows the snapshot sees. Cost: a step per row where some row of the chunk had ended
    /// by then, otherwise at most a binary search.
    pub(super) fn visible(&self, rows: usize, snapshot: CommitTs) -> Visible {
        let begun = self.begun(rows, snapshot);
        if begun == 0 {
            return Visible::None;
        }
        let Some(ends) = self.ends.get() else { return Visible::First(begun) };
        if self.first_end.load(Ordering::Acquire) > snapshot.0 {
            return Visible::First(begun);
        }
        let mask = BooleanBuffer::collect_bool(begun, |row| ends[row].load(Ordering::Relaxed) > snapshot.0);
        match mask.count_set_bits() {
            0 => Visible::None,
            n if n == begun => Visible::First(begun),
            _ => Visible::Some(mask),
        }
    }
}

/// The keys of a chunk's rows.
#[derive(Debug)]
pub(super) enum ChunkKeys {
    /// `first`, `first + 1`, … for so many rows: the hidden `_rid` of a bulk load takes no space.
    Sequence {
        first: u64,
        rows: usize,
    },
    Ints(Vec<u64>),
    Bytes(Vec<Arc<[u8]>>),
}

impl ChunkKeys {
    pub(super) fn empty(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Int => Self::Ints(Vec::new()),
            KeyKind::Bytes => Self::Bytes(Vec::new()),
        }
    }

    /// For a chunk that never grows.
    pub(super) fn of(keys: &Keys) -> Self {
        match keys {
            Keys::Ints(ints) => match ints.first() {
                Some(first) if ints.iter().zip(*first..).all(|(k, expected)| *k == expected) => {
                    Self::Sequence { first: *first, rows: ints.len() }
                }
                _ => Self::Ints(ints.clone()),
            },
            Keys::Bytes(keys) => Self::Bytes(keys.iter().map(|k| Arc::from(&k[..])).collect()),
        }
    }

    /// Adds keys at the end. The kinds agree: the memtable has looked.
    pub(super) fn extend(&mut self, keys: &Keys) {
        match (self, keys) {
            (Self::Ints(all), Keys::Ints(new)) => all.extend_from_slice(new),
            (Self::Bytes(all), Keys::Bytes(new)) => all.extend(new.iter().map(|k| Arc::from(&k[..]))),
            _ => debug_assert!(false, "keys of one kind"),
        }
    }

    pub(super) fn get(&self, row: usize) -> KeyRef<'_> {
        match self {
            Self::Sequence { first, .. } => KeyRef::Int(first + row as u64),
            Self::Ints(all) => KeyRef::Int(all[row]),
            Self::Bytes(all) => KeyRef::Bytes(&all[row]),
        }
    }

    pub(super) fn int(&self, row: usize) -> u64 {
        match self.get(row) {
            KeyRef::Int(key) => key,
            KeyRef::Bytes(_) => 0,
        }
    }

    pub(super) fn truncate(&mut self, to: usize) {
        match self {
            Self::Sequence { rows, .. } => *rows = to.min(*rows),
            Self::Ints(all) => all.truncate(to),
            Self::Bytes(all) => all.truncate(to),
        }
    }

    /// The keys of rows `from..to`, those whose bit is set where a mask is given (its first bit is row 0's).
    pub(super) fn pick(&self, from: usize, to: usize, mask: Option<&BooleanBuffer>) -> Keys {
        let rows = (from..to).filter(|row| mask.is_none_or(|m| m.value(*row)));
        match self {
            Self::Sequence { first, .. } => Keys::Ints(rows.map(|row| first + row as u64).collect()),
            Self::Ints(all) if mask.is_none() => Keys::Ints(all[from..to].to_vec()),
            Self::Ints(all) => Keys::Ints(rows.map(|row| all[row]).collect()),
            Self::Bytes(all) => Keys::Bytes(rows.map(|row| Box::from(&all[row][..])).collect()),
        }
    }

    /// Bytes of the keys of rows `from..`.
    pub(super) fn bytes(&self, from: usize) -> usize {
        match self {
            Self::Sequence { .. } => 0,
            Self::Ints(all) => size_of_val(&all[from..]),
            // Pointer and length here; there two counters before the bytes.
            Self::Bytes(all) => all[from..].iter().map(|k| size_of::<Arc<[u8]>>() + 16 + k.len()).sum(),
        }
    }
}

/// Rows `start..start + batch.num_rows()` of a chunk.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) start: usize,
    pub(super) batch: Arc<RecordBatch>,
}

impl Piece {
    pub(super) fn rows(&self) -> usize {
        self.batch.num_rows()
    }
}

/// A chunk, as its memtable holds it.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) stamps: Arc<Stamps>,
    pub(super) keys: ChunkKeys,
    pub(super) pieces: Vec<Piece>,
    pub(super) rows: usize,
    /// Bytes of the rows and their keys, without the stamps.
    pub(super) bytes: usize,
    /// Small pieces at the end.
    pub(super) small: usize,
}

impl Chunk {
    /// A chunk that gathers small batches.
    pub(super) fn gathering(kind: KeyKind, capacity: usize) -> Self {
        Self {
            stamps: Arc::new(Stamps::each(capacity)),
            keys: ChunkKeys::empty(kind),
            pieces: Vec::new(),
            rows: 0,
            bytes: 0,
            small: 0,
        }
    }

    /// A chunk that is one batch of one commit.
    pub(super) fn whole(batch: RecordBatch, keys: ChunkKeys, bytes: usize, ts: CommitTs) -> Self {
        let rows = batch.num_rows();
        let bytes = bytes + keys.bytes(0);
        let pieces = vec![Piece { start: 0, batch: Arc::new(batch) }];
        Self { stamps: Arc::new(Stamps::same(ts, rows)), keys, pieces, rows, bytes, small: 0 }
    }

    pub(super) fn capacity(&self) -> usize {
        self.stamps.capacity
    }

    /// Adds rows to a gathering chunk that has room for them.
    pub(super) fn push(&mut self, batch: RecordBatch, keys: &Keys, bytes: usize, ts: CommitTs) {
        let rows = batch.num_rows();
        for row in self.rows..self.rows + rows {
            self.stamps.set_begin(row, ts);
        }
        self.keys.extend(keys);
        self.bytes += bytes + self.keys.bytes(self.rows);
        self.small = if rows < SMALL_ROWS { self.small + 1 } else { 0 };
        self.pieces.push(Piece { start: self.rows, batch: Arc::new(batch) });
        self.rows += rows;
    }

    pub(super) fn piece_of(&self, row: usize) -> &Piece {
        let after = self.pieces.partition_point(|p| p.start <= row);
        &self.pieces[after - 1]
    }

    pub(super) fn recount_small(&mut self) {
        self.small = self.pieces.iter().rev().take_while(|p| p.rows() < SMALL_ROWS).count();
    }

    /// Forgets all rows from `keep` on. Their ends must have been taken back.
    pub(super) fn truncate(&mut self, keep: usize, bytes_of: impl Fn(&RecordBatch) -> usize) {
        for row in keep..self.rows {
            self.stamps.set_previous(row, None);
        }
        self.pieces.retain(|p| p.start < keep);
        if let Some(last) = self.pieces.last_mut()
            && last.start + last.rows() > keep
        {
            last.batch = Arc::new(last.batch.slice(0, keep - last.start));
        }
        self.keys.truncate(keep);
        self.rows = keep;
        self.bytes = self.keys.bytes(0) + self.pieces.iter().map(|p| bytes_of(&p.batch)).sum::<usize>();
        self.recount_small();
    }
}
