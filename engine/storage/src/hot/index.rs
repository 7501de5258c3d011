//! From a key to its newest version.
//!
//! ```text
//!  keys as they were appended   1 2 3 4 │ 9 │ 7 │ 10 11 12        4 was updated later
//!  runs                        [1 ─── 4]  [9]    [10 ─── 12]      above all before: 32 bytes a run
//!  table                                       7                4  everything else: hashed
//! ```
//!
//! Keys that are above every key before them (the hidden `_rid`, an identity, a serial number) need no entry: the
//! chunk's own list of keys is sorted there and is searched. The table goes first, as it has the newer version. From
//! the newest version the older ones are reached through `Stamps::previous`.
//!
//! The order of the keys in the table is worked out when a range is asked for: see `hot::order`.

use std::sync::Arc;

use crate::hot::chunk::{Chunk, ChunkKeys, Pos};
use crate::hot::table::Table;
use crate::key::{KeyKind, KeyRef};
use crate::stamp::CommitTs;

/// Rows of one chunk, one after another, with strictly growing keys, all above those of earlier runs.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: u64,
    last: u64,
    chunk: u32,
    row: u32,
    rows: u32,
}

impl Run {
    /// The first row of the run whose key is not below `key`, counted from the run's first row.
    fn lower_bound(&self, key: u64, chunks: &[Chunk]) -> usize {
        let (row, rows) = (self.row as usize, self.rows as usize);
        if key <= self.first {
            return 0;
        }
        match &chunks[self.chunk as usize].keys {
            ChunkKeys::Sequence { .. } => usize::try_from(key - self.first).unwrap_or(usize::MAX).min(rows),
            ChunkKeys::Ints(all) => {
                let keys = &all[row..row + rows];
                // Keys grow by at least one a row, so that it lies here at the latest; mostly exactly here.
                let latest = usize::try_from(key - self.first).unwrap_or(usize::MAX).min(rows - 1);
                if keys[latest] == key {
                    return latest;
                }
                if keys[latest] < key {
                    return rows;
                }
                keys[..latest].partition_point(|k| *k < key)
            }
            ChunkKeys::Bytes(_) => rows,
        }
    }

    fn pos(&self, offset: usize) -> Pos {
        Pos::new(self.chunk as usize, self.row as usize + offset)
    }
}

/// Integer keys.
#[derive(Debug, Default)]
pub(super) struct IntIndex {
    runs: Vec<Run>,
    pub(super) table: Table<u64>,
    /// The highest key.
    max: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Index {
    Ints(IntIndex),
    Bytes(Table<Arc<[u8]>>),
}

impl Index {
    pub(super) fn new(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Int => Self::Ints(IntIndex::default()),
            KeyKind::Bytes => Self::Bytes(Table::default()),
        }
    }

    /// The newest version of the key; nothing for a key of the other kind.
    pub(super) fn find(&self, key: KeyRef<'_>, chunks: &[Chunk]) -> Option<Pos> {
        match (self, key) {
            (Self::Ints(index), KeyRef::Int(key)) => index.find(key, chunks),
            (Self::Bytes(table), KeyRef::Bytes(key)) => table.get(key),
            _ => None,
        }
    }

    /// The row at `pos` is now the newest version of its key. Returns the one before.
    pub(super) fn insert(&mut self, pos: Pos, chunks: &[Chunk]) -> Option<Pos> {
        match (self, &chunks[pos.chunk()].keys) {
            (Self::Bytes(table), ChunkKeys::Bytes(keys)) => table.insert(Arc::clone(&keys[pos.row()]), pos),
            (Self::Ints(index), keys) => index.insert(keys.int(pos.row()), pos, chunks),
            (Self::Bytes(_), _) => None,
        }
    }

    /// Forgets that the key has versions which begin after `ts`. Those in runs go by [`Self::trim`].
    pub(super) fn rewind(&mut self, key: KeyRef<'_>, ts: CommitTs, chunks: &[Chunk]) {
        let back = |head: Pos| {
            let mut at = Some(head);
            while let Some(pos) = at
                && chunks[pos.chunk()].stamps.begin(pos.row()) > ts
            {
                at = chunks[pos.chunk()].stamps.previous(pos.row());
            }
            at
        };
        match (self, key) {
            (Self::Ints(index), KeyRef::Int(key)) => index.table.rewind(&key, back),
            (Self::Bytes(table), KeyRef::Bytes(key)) => table.rewind(key, back),
            _ => {}
        }
    }

    /// Forgets run entries beyond the chunks' rows, and lets go of a table that has become empty.
    pub(super) fn trim(&mut self, chunks: &[Chunk]) {
        let index = match self {
            Self::Ints(index) => index,
            Self::Bytes(table) => return table.shrink(),
        };
        index.table.shrink();
        index.runs.retain_mut(|run| {
            let kept = chunks.get(run.chunk as usize).map_or(0, |c| c.rows);
            let rows = kept.saturating_sub(run.row as usize).min(run.rows as usize);
            if rows == 0 {
                return false;
            }
            if rows < run.rows as usize {
                run.rows = rows as u32;
                run.last = chunks[run.chunk as usize].keys.int(run.row as usize + rows - 1);
            }
            true
        });
        // The keys of the table were never above the highest of the runs.
        index.max = index.runs.last().map(|r| r.last);
    }

    /// Bytes of the index without the keys of the chunks.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Ints(index) => index.table.bytes() + index.runs.capacity() * size_of::<Run>(),
            Self::Bytes(table) => table.bytes(),
        }
    }

    /// Keys that have an entry of their own.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        match self {
            Self::Ints(index) => index.table.len(),
            Self::Bytes(table) => table.len(),
        }
    }
}

impl IntIndex {
    pub(super) fn find(&self, key: u64, chunks: &[Chunk]) -> Option<Pos> {
        if self.max.is_none_or(|max| key > max) {
            return None;
        }
        self.table.get(&key).or_else(|| self.find_in_runs(key, chunks))
    }

    fn find_in_runs(&self, key: u64, chunks: &[Chunk]) -> Option<Pos> {
        let after = self.runs.partition_point(|r| r.first <= key);
        let run = self.runs[..after].last()?;
        if key > run.last {
            return None;
        }
        let offset = run.lower_bound(key, chunks);
        let pos = run.pos(offset);
        (chunks[pos.chunk()].keys.int(pos.row()) == key).then_some(pos)
    }

    fn insert(&mut self, key: u64, pos: Pos, chunks: &[Chunk]) -> Option<Pos> {
        if self.max.is_none_or(|max| key > max) {
            self.max = Some(key);
            self.extend(key, pos);
            return None;
        }
        self.table.insert(key, pos).or_else(|| self.find_in_runs(key, chunks))
    }

    fn extend(&mut self, key: u64, pos: Pos) {
        if let Some(run) = self.runs.last_mut()
            && run.pos(run.rows as usize) == pos
        {
            run.rows += 1;
            run.last = key;
            return;
        }
        let (chunk, row) = (pos.chunk() as u32, pos.row() as u32);
        self.runs.push(Run { first: key, last: key, chunk, row, rows: 1 });
    }

    /// The keys of the runs within `from..=to`, in order.
    pub(super) fn run_keys<'a>(
        &'a self,
        chunks: &'a [Chunk],
        from: u64,
        to: u64,
    ) -> impl Iterator<Item = u64> + 'a {
        let first_run = self.runs.partition_point(|r| r.last < from);
        self.runs[first_run..]
            .iter()
            .take_while(move |r| r.first <= to)
            .flat_map(move |run| {
                let keys = &chunks[run.chunk as usize].keys;
                (run.lower_bound(from, chunks)..run.rows as usize)
                    .map(move |i| keys.int(run.row as usize + i))
            })
            .take_while(move |key| *key <= to)
    }
}
