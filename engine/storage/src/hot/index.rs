//! From a key to its newest version.
//!
//! ```text
//!  keys as they were appended   1 2 3 4 │ 9 │ 7 │ 10 11 12        4 was updated later
//!  runs                        [1 ─── 4]  [9]    [10 ─── 12]      above all before: 32 bytes a run
//!  tree                                        7                4  everything else: 16 bytes and the tree's own
//! ```
//!
//! Keys that are above every key before them (the hidden `_rid`, an identity, a serial number) need no entry: the
//! chunk's own list of keys is sorted there and is searched. The tree goes first, as it has the newer version. From
//! the newest version the older ones are reached through `Stamps::previous`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::Arc;

use triune_common::{Error, Result};

use crate::hot::chunk::{Chunk, ChunkKeys, Pos};
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

#[derive(Debug, Default)]
pub(super) struct IntIndex {
    runs: Vec<Run>,
    tree: BTreeMap<u64, Pos>,
    /// The highest key.
    max: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Index {
    Ints(IntIndex),
    Bytes(BTreeMap<Arc<[u8]>, Pos>),
}

/// A key's newest version in key order.
pub(super) type Heads<'a> = Box<dyn Iterator<Item = (KeyRef<'a>, Pos)> + 'a>;

impl Index {
    pub(super) fn new(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Int => Self::Ints(IntIndex::default()),
            KeyKind::Bytes => Self::Bytes(BTreeMap::new()),
        }
    }

    /// The newest version of the key; nothing for a key of the other kind.
    pub(super) fn find(&self, key: KeyRef<'_>, chunks: &[Chunk]) -> Option<Pos> {
        match (self, key) {
            (Self::Ints(index), KeyRef::Int(key)) => index.find(key, chunks),
            (Self::Bytes(tree), KeyRef::Bytes(key)) => tree.get(key).copied(),
            _ => None,
        }
    }

    /// The row at `pos` is now the newest version of its key. Returns the one before.
    pub(super) fn insert(&mut self, pos: Pos, chunks: &[Chunk]) -> Option<Pos> {
        match (self, &chunks[pos.chunk()].keys) {
            (Self::Bytes(tree), ChunkKeys::Bytes(keys)) => tree.insert(Arc::clone(&keys[pos.row()]), pos),
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
            (Self::Ints(index), KeyRef::Int(key)) => {
                if let Some(head) = index.tree.get_mut(&key) {
                    match back(*head) {
                        Some(pos) => *head = pos,
                        None => drop(index.tree.remove(&key)),
                    }
                }
            }
            (Self::Bytes(tree), KeyRef::Bytes(key)) => {
                if let Some(head) = tree.get_mut(key) {
                    match back(*head) {
                        Some(pos) => *head = pos,
                        None => drop(tree.remove(key)),
                    }
                }
            }
            _ => {}
        }
    }

    /// Forgets run entries beyond the chunks' rows.
    pub(super) fn trim(&mut self, chunks: &[Chunk]) {
        let Self::Ints(index) = self else { return };
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
        let in_tree = index.tree.last_key_value().map(|(k, _)| *k);
        index.max = index.runs.last().map(|r| r.last).max(in_tree);
    }

    /// The newest version of every key between the bounds, in key order. Errors: bounds of the other kind.
    pub(super) fn heads<'a>(
        &'a self,
        chunks: &'a [Chunk],
        lower: Bound<KeyRef<'_>>,
        upper: Bound<KeyRef<'_>>,
    ) -> Result<Heads<'a>> {
        let wrong = || Error::internal("a range over keys of another kind");
        match self {
            Self::Ints(index) => {
                let int = |key: KeyRef<'_>| match key {
                    KeyRef::Int(key) => Ok(key),
                    KeyRef::Bytes(_) => Err(wrong()),
                };
                let from = match lower {
                    Bound::Unbounded => Some(0),
                    Bound::Included(key) => Some(int(key)?),
                    Bound::Excluded(key) => int(key)?.checked_add(1),
                };
                let to = match upper {
                    Bound::Unbounded => Some(u64::MAX),
                    Bound::Included(key) => Some(int(key)?),
                    Bound::Excluded(key) => int(key)?.checked_sub(1),
                };
                Ok(match (from, to) {
                    (Some(from), Some(to)) if from <= to => index.heads(chunks, from, to),
                    _ => Box::new(std::iter::empty()),
                })
            }
            Self::Bytes(tree) => {
                let of_ints = |b: &Bound<KeyRef<'_>>| {
                    matches!(b, Bound::Included(KeyRef::Int(_)) | Bound::Excluded(KeyRef::Int(_)))
                };
                if of_ints(&lower) || of_ints(&upper) {
                    return Err(wrong());
                }
                if is_empty(lower, upper) {
                    return Ok(Box::new(std::iter::empty()));
                }
                let range = tree.range::<[u8], _>((lower.map(bytes_of), upper.map(bytes_of)));
                Ok(Box::new(range.map(|(key, pos)| (KeyRef::Bytes(key), *pos))))
            }
        }
    }

    /// Bytes of the index without the keys of the chunks.
    pub(super) fn bytes(&self) -> usize {
        // A B-tree's nodes hold up to 11 entries, are some two thirds full, and have a header and, above, edges.
        let tree = |entries: usize, entry: usize| entries * (entry * 3 / 2 + 4);
        match self {
            Self::Ints(index) => tree(index.tree.len(), 16) + index.runs.capacity() * size_of::<Run>(),
            Self::Bytes(all) => tree(all.len(), 24),
        }
    }

    /// Keys that have an entry of their own.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        match self {
            Self::Ints(index) => index.tree.len(),
            Self::Bytes(tree) => tree.len(),
        }
    }
}

fn bytes_of(key: KeyRef<'_>) -> &[u8] {
    match key {
        KeyRef::Bytes(bytes) => bytes,
        KeyRef::Int(_) => &[],
    }
}

/// Whether no key can lie between the bounds; `BTreeMap::range` panics on those.
fn is_empty(lower: Bound<KeyRef<'_>>, upper: Bound<KeyRef<'_>>) -> bool {
    use Bound::{Excluded, Included, Unbounded};
    match (lower, upper) {
        (Unbounded, _) | (_, Unbounded) => false,
        (Included(a), Included(b)) => a > b,
        (Included(a) | Excluded(a), Included(b) | Excluded(b)) => a >= b,
    }
}

impl IntIndex {
    fn find(&self, key: u64, chunks: &[Chunk]) -> Option<Pos> {
        if self.max.is_none_or(|max| key > max) {
            return None;
        }
        self.tree.get(&key).copied().or_else(|| self.find_in_runs(key, chunks))
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
        // The runs are searched only for keys that the tree does not have.
        let in_runs = if self.tree.contains_key(&key) { None } else { self.find_in_runs(key, chunks) };
        match self.tree.entry(key) {
            Entry::Occupied(mut entry) => Some(entry.insert(pos)),
            Entry::Vacant(entry) => {
                entry.insert(pos);
                in_runs
            }
        }
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

    fn heads<'a>(&'a self, chunks: &'a [Chunk], from: u64, to: u64) -> Heads<'a> {
        let mut tree = self.tree.range(from..=to).map(|(k, p)| (*k, *p)).peekable();
        let first_run = self.runs.partition_point(|r| r.last < from);
        let mut runs = self.runs[first_run..]
            .iter()
            .take_while(move |r| r.first <= to)
            .flat_map(move |run| {
                (run.lower_bound(from, chunks)..run.rows as usize).map(move |offset| {
                    let pos = run.pos(offset);
                    (chunks[pos.chunk()].keys.int(pos.row()), pos)
                })
            })
            .take_while(move |(key, _)| *key <= to)
            .peekable();
        Box::new(std::iter::from_fn(move || {
            let next = match (tree.peek(), runs.peek()) {
                (Some((a, _)), Some((b, _))) if a == b => {
                    // The tree has the newer version of the two.
                    runs.next();
                    tree.next()
                }
                (Some((a, _)), Some((b, _))) if b < a => runs.next(),
                (Some(_), _) => tree.next(),
                (None, _) => runs.next(),
            };
            next.map(|(key, pos)| (KeyRef::Int(key), pos))
        }))
    }
}
