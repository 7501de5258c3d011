//! The hot store: rows that were committed and are not in the base yet.
//!
//! ```text
//!  committer ── append(rows, ts) ─▶ ┌ Memtable ──────────────────────────────────────────────┐
//!            ── end(key, ts) ─────▶ │ chunks   Arrow batches with begin and end of every row  │
//!                                   │ index    key → newest version → older version → …       │
//!  readers  ◀─ get, range, scan ─── │ ended    (ts, row), in the order of time                │
//!              at a snapshot        └─────────────────────────────────────────────────────────┘
//! ```
//!
//! A row version is visible at snapshot `S` iff `begin <= S < end` (SNAP-1), and a key has at most one version that
//! is (SNAP-2). An update is an `end` of the old version and an `append` of the new one at the same timestamp.
//!
//! **Writing.** One thread, the committer, in the order of timestamps. Small batches are gathered: they are kept as
//! they came, 64 of them become one piece, and 4,096 rows become one batch. A batch of 1,024 rows or more is taken
//! over as it is. What a commit has appended is seen by nobody until the snapshots reach its timestamp, so a failed
//! WAL write is undone by [`Memtable::undo_after`].
//!
//! **Reading.** A lock is held for moments only: to look up a key, or to take references to the chunks of a scan.
//! Which rows a snapshot sees is worked out afterwards, per chunk, and only where a row of the chunk had ended or
//! begun later; all other batches are passed on without a copy.
//!
//! **Limits.** At most one end and one append per key and timestamp: the transaction has coalesced its changes. A
//! memtable never shrinks; the checkpoint replaces it.

mod chunk;
pub mod exec;
mod gather;
mod index;
mod order;
mod read;
mod size;
mod table;

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parking_lot::RwLock;
use triune_common::{Error, Result};

pub use exec::HotScanExec;
pub use read::{HistoryRows, LiveRows, RowRef, VisibleBatch};
pub use size::bytes_of_batch;

use crate::hot::chunk::{
    CHUNK_BYTES, CHUNK_ROWS, Chunk, ChunkKeys, FIRST_CHUNK_ROWS, LARGE_BYTES, LARGE_ROWS, Pos, SMALL_PIECES,
};
use crate::hot::index::Index;
use crate::hot::order::Order;
use crate::key::{Key, KeyKind, KeyRef, Keys};
use crate::stamp::CommitTs;

/// Keys that are entered into the index before readers are let in between.
const KEYS_AT_ONCE: usize = 512;

/// One generation of one table's hot rows.
pub struct Memtable {
    schema: SchemaRef,
    kind: KeyKind,
    generation: u64,
    state: RwLock<State>,
    order: Order,
}

/// When a row version begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub begin: CommitTs,
    /// [`CommitTs::MAX`]: it is live.
    pub end: CommitTs,
}

impl Version {
    pub fn is_live(self) -> bool {
        self.end == CommitTs::MAX
    }
}

/// What a memtable knows of a key at a snapshot. Ask the newest memtable first.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// The visible version is here.
    Row(RowRef),
    /// A version was here and had ended by then: the key is gone, or has gone on in a newer memtable. Older places
    /// need not be asked.
    Ended,
    /// Nothing is known here as of the snapshot; older places may have the key.
    Absent,
}

struct State {
    chunks: Vec<Chunk>,
    /// The chunk that gathers small batches.
    gathering: Option<usize>,
    index: Index,
    /// Every end, in the order of time.
    ended: Vec<(CommitTs, Pos)>,
    /// Row versions.
    rows: usize,
    /// Bytes of rows and keys.
    row_bytes: usize,
    stamp_bytes: usize,
    first_ts: Option<CommitTs>,
    last_ts: Option<CommitTs>,
}

impl Memtable {
    /// `schema` is the table's stored schema; `generation` tells the memtables of one table apart.
    pub fn new(schema: SchemaRef, kind: KeyKind, generation: u64) -> Self {
        let state = State {
            chunks: Vec::new(),
            gathering: None,
            index: Index::new(kind),
            ended: Vec::new(),
            rows: 0,
            row_bytes: 0,
            stamp_bytes: 0,
            first_ts: None,
            last_ts: None,
        };
        Self { schema, kind, generation, state: RwLock::new(state), order: Order::new(kind) }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Adds rows that begin at `ts`, which is not before any timestamp used so far. The live version of a key that
    /// is here already must have been ended.
    ///
    /// Cost: a microsecond or two for one row; for a large batch the index only: a hash table's entry per key that does not grow.
    ///
    /// Errors: internal when the batch does not fit the schema or the keys; nothing has been added then.
    pub fn append(&self, batch: &RecordBatch, keys: &Keys, ts: CommitTs) -> Result<()> {
        let rows = batch.num_rows();
        if keys.len() != rows || keys.kind() != self.kind {
            return Err(Error::internal(format!(
                "{} {:?} keys were given for {rows} rows of a hot table with {:?} keys",
                keys.len(),
                keys.kind(),
                self.kind
            )));
        }
        if u32::try_from(rows).is_err() {
            return Err(Error::unsupported(format!(
                "a batch of {rows} rows; at most {} are taken",
                u32::MAX
            )));
        }
        let batch = self.in_schema(batch)?;
        if rows == 0 {
            return Ok(());
        }
        let bytes = bytes_of_batch(&batch);
        if rows >= LARGE_ROWS || bytes >= LARGE_BYTES {
            let chunk = {
                let keys = ChunkKeys::of(keys);
                let mut state = self.state.write();
                state.touch(ts);
                state.push_whole(batch, keys, bytes, ts)
            };
            self.enter_keys(chunk, 0, rows);
            return Ok(());
        }
        let (chunk, row, full, small) = {
            let mut state = self.state.write();
            state.touch(ts);
            let full = state.make_room(rows, bytes, self.kind);
            let (chunk, row) = state.push_small(batch, keys, bytes, ts, self.kind);
            if rows <= KEYS_AT_ONCE {
                state.enter_keys(chunk, row, row + rows);
            }
            (chunk, row, full, state.chunks[chunk].small >= SMALL_PIECES)
        };
        if rows > KEYS_AT_ONCE {
            self.enter_keys(chunk, row, row + rows);
        }
        if let Some(full) = full {
            self.gather_all(full);
        }
        if small {
            self.gather_small(chunk);
        }
        Ok(())
    }

    /// Ends the newest version of the key at `ts`, if it is live; `false` when no version here is.
    pub fn end(&self, key: KeyRef<'_>, ts: CommitTs) -> bool {
        let mut state = self.state.write();
        let Some(pos) = state.find(key) else { return false };
        let chunk = &state.chunks[pos.chunk()];
        if chunk.stamps.end(pos.row()) != CommitTs::MAX {
            return false;
        }
        debug_assert!(
            chunk.stamps.begin(pos.row()) < ts,
            "a version ends after it begins: the changes of one commit to a key are coalesced"
        );
        let before = chunk.stamps.bytes();
        chunk.stamps.set_end(pos.row(), ts);
        let more = chunk.stamps.bytes() - before;
        state.stamp_bytes += more;
        state.ended.push((ts, pos));
        state.touch(ts);
        true
    }

    /// The newest version of the key, visible or not yet: for conflicts and uniqueness.
    pub fn newest(&self, key: KeyRef<'_>) -> Option<Version> {
        let state = self.state.read();
        let pos = state.find(key)?;
        let stamps = &state.chunks[pos.chunk()].stamps;
        Some(Version { begin: stamps.begin(pos.row()), end: stamps.end(pos.row()) })
    }

    /// The version of the key that the snapshot sees.
    pub fn get(&self, key: KeyRef<'_>, snapshot: CommitTs) -> Lookup {
        let state = self.state.read();
        match state.find(key).and_then(|head| state.begun_version(head, snapshot)) {
            None => Lookup::Absent,
            Some((pos, end)) if end > snapshot => Lookup::Row(state.row(pos)),
            Some(_) => Lookup::Ended,
        }
    }

    /// The rows with keys between the bounds that the snapshot sees, in the order of their keys.
    ///
    /// Errors: internal for bounds of another kind; arrow's when the rows do not fit one batch (2 GiB of a text
    /// column).
    pub fn range(
        &self,
        lower: Bound<KeyRef<'_>>,
        upper: Bound<KeyRef<'_>>,
        snapshot: CommitTs,
    ) -> Result<RecordBatch> {
        RowRef::gather(&self.schema, &self.range_rows(lower, upper, snapshot, usize::MAX)?)
    }

    /// All rows that the snapshot sees, in no stated order. See [`Self::view`] for filtering as late as possible.
    pub fn scan(&self, snapshot: CommitTs) -> Result<Vec<RecordBatch>> {
        self.view(snapshot).iter().map(VisibleBatch::to_batch).collect()
    }

    /// Forgets what happened after `ts`: versions that began, and ends. For a commit that did not reach the WAL, and
    /// that therefore no snapshot has seen.
    pub fn undo_after(&self, ts: CommitTs) {
        self.state.write().undo_after(ts);
    }

    /// Keys of rows that began at or before `ts` and ended after it, with their ends, in the order of time.
    pub fn ended_after(&self, ts: CommitTs) -> Vec<(Key, CommitTs)> {
        let state = self.state.read();
        let from = state.ended.partition_point(|(end, _)| *end <= ts);
        state.ended[from..]
            .iter()
            .filter(|(_, pos)| state.chunks[pos.chunk()].stamps.begin(pos.row()) <= ts)
            .map(|(end, pos)| (state.key(*pos).to_owned(), *end))
            .collect()
    }

    /// Row versions, ended ones too.
    pub fn rows(&self) -> usize {
        self.state.read().rows
    }

    /// Row versions that have not ended.
    pub fn live_rows(&self) -> usize {
        let state = self.state.read();
        state.rows - state.ended.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// Bytes of rows, keys, stamps and index. A batch that was taken over counts what it shows of its buffers.
    pub fn bytes(&self) -> usize {
        let state = self.state.read();
        state.row_bytes
            + state.stamp_bytes
            + state.index.bytes()
            + self.order.bytes()
            + state.ended.capacity() * size_of::<(CommitTs, Pos)>()
    }

    /// The first timestamp at which something began or ended here.
    pub fn first_ts(&self) -> Option<CommitTs> {
        self.state.read().first_ts
    }

    /// The last one.
    pub fn last_ts(&self) -> Option<CommitTs> {
        self.state.read().last_ts
    }

    /// The batch under the memtable's own schema: pieces are concatenated, and metadata must not differ.
    fn in_schema(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        if Arc::ptr_eq(batch.schema_ref(), &self.schema) {
            return Ok(batch.clone());
        }
        RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec())
            .map_err(|e| Error::internal(format!("a batch does not fit its hot table's schema: {e}")))
    }

    fn enter_keys(&self, chunk: usize, from: usize, to: usize) {
        for start in (from..to).step_by(KEYS_AT_ONCE) {
            self.state.write().enter_keys(chunk, start, to.min(start + KEYS_AT_ONCE));
        }
    }
}

impl State {
    fn touch(&mut self, ts: CommitTs) {
        debug_assert!(self.last_ts.is_none_or(|last| last <= ts), "commits come in the order of time");
        self.first_ts.get_or_insert(ts);
        self.last_ts = Some(ts);
    }

    fn find(&self, key: KeyRef<'_>) -> Option<Pos> {
        self.index.find(key, &self.chunks)
    }

    fn key(&self, pos: Pos) -> KeyRef<'_> {
        self.chunks[pos.chunk()].keys.get(pos.row())
    }

    /// The newest version that had begun by the snapshot, from the newest of all on, and its end.
    fn begun_version(&self, head: Pos, snapshot: CommitTs) -> Option<(Pos, CommitTs)> {
        let mut at = Some(head);
        while let Some(pos) = at {
            let stamps = &self.chunks[pos.chunk()].stamps;
            if stamps.begin(pos.row()) <= snapshot {
                return Some((pos, stamps.end(pos.row())));
            }
            at = stamps.previous(pos.row());
        }
        None
    }

    fn row(&self, pos: Pos) -> RowRef {
        let piece = self.chunks[pos.chunk()].piece_of(pos.row());
        RowRef::new(Arc::clone(&piece.batch), pos.row() - piece.start)
    }

    fn push_whole(&mut self, batch: RecordBatch, keys: ChunkKeys, bytes: usize, ts: CommitTs) -> usize {
        self.rows += batch.num_rows();
        let chunk = Chunk::whole(batch, keys, bytes, ts);
        self.row_bytes += chunk.bytes;
        self.stamp_bytes += chunk.stamps.bytes();
        self.chunks.push(chunk);
        self.chunks.len() - 1
    }

    /// Ends the gathering chunk if the rows do not fit it, and says which it was.
    fn make_room(&mut self, rows: usize, bytes: usize, kind: KeyKind) -> Option<usize> {
        let mut full = None;
        let mut capacity = FIRST_CHUNK_ROWS;
        if let Some(at) = self.gathering {
            let chunk = &self.chunks[at];
            if chunk.rows + rows <= chunk.capacity() && chunk.bytes + bytes <= CHUNK_BYTES {
                return None;
            }
            full = Some(at);
            capacity = (chunk.capacity() * 4).min(CHUNK_ROWS);
        }
        let chunk = Chunk::gathering(kind, capacity.max(rows.next_power_of_two()));
        self.stamp_bytes += chunk.stamps.bytes();
        self.chunks.push(chunk);
        self.gathering = Some(self.chunks.len() - 1);
        full
    }

    /// Adds to the gathering chunk; returns it and the first of the new rows.
    fn push_small(
        &mut self,
        batch: RecordBatch,
        keys: &Keys,
        bytes: usize,
        ts: CommitTs,
        kind: KeyKind,
    ) -> (usize, usize) {
        let rows = batch.num_rows();
        let at = match self.gathering {
            Some(at) => at,
            None => {
                self.make_room(rows, bytes, kind);
                self.chunks.len() - 1
            }
        };
        let chunk = &mut self.chunks[at];
        let (row, before) = (chunk.rows, chunk.bytes);
        chunk.push(batch, keys, bytes, ts);
        self.rows += rows;
        self.row_bytes += chunk.bytes - before;
        (at, row)
    }

    fn enter_keys(&mut self, chunk: usize, from: usize, to: usize) {
        for row in from..to {
            let Some(previous) = self.index.insert(Pos::new(chunk, row), &self.chunks) else { continue };
            debug_assert!(
                {
                    let old = &self.chunks[previous.chunk()].stamps;
                    let begin = self.chunks[chunk].stamps.begin(row);
                    old.begin(previous.row()) < begin && old.end(previous.row()) <= begin
                },
                "a key's older version has ended before the newer one begins"
            );
            let stamps = &self.chunks[chunk].stamps;
            let before = stamps.bytes();
            stamps.set_previous(row, Some(previous));
            self.stamp_bytes += stamps.bytes() - before;
        }
    }

    fn undo_after(&mut self, ts: CommitTs) {
        let mut changed = Vec::new();
        while let Some((end, pos)) = self.ended.last().copied()
            && end > ts
        {
            self.chunks[pos.chunk()].stamps.take_end_back(pos.row());
            changed.push(pos.chunk());
            self.ended.pop();
        }
        changed.sort_unstable();
        changed.dedup();
        for chunk in changed {
            self.chunks[chunk].stamps.recount_ends();
        }
        let keeps: Vec<usize> = self.chunks.iter().map(|c| c.stamps.begun(c.rows, ts)).collect();
        for (chunk, keep) in self.chunks.iter().zip(&keeps) {
            for row in *keep..chunk.rows {
                self.index.rewind(chunk.keys.get(row), ts, &self.chunks);
            }
        }
        for (chunk, keep) in self.chunks.iter_mut().zip(keeps) {
            if keep < chunk.rows {
                chunk.truncate(keep, bytes_of_batch);
            }
        }
        self.index.trim(&self.chunks);
        while self.chunks.pop_if(|c| c.rows == 0).is_some() {}
        self.gathering = self.gathering.filter(|at| *at < self.chunks.len());
        self.rows = self.chunks.iter().map(|c| c.rows).sum();
        self.row_bytes = self.chunks.iter().map(|c| c.bytes).sum();
        self.stamp_bytes = self.chunks.iter().map(|c| c.stamps.bytes()).sum();
        let begins = self.chunks.iter().filter(|c| c.rows > 0).map(|c| c.stamps.begin(c.rows - 1));
        self.last_ts = begins.chain(self.ended.last().map(|(end, _)| *end)).max();
        if self.last_ts.is_none() {
            self.first_ts = None;
        }
    }
}

impl fmt::Debug for Memtable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.read();
        f.debug_struct("Memtable")
            .field("generation", &self.generation)
            .field("rows", &state.rows)
            .field("ended", &state.ended.len())
            .field("chunks", &state.chunks.len())
            .field("last_ts", &state.last_ts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
