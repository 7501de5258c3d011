//! The order of the keys, for ranges.
//!
//! ```text
//!  index     table, hashed ── fresh keys ─▶ sorted ─┐
//!            runs, sorted already ──────────────────┴─▶ merged: keys of a range in order ─▶ newest versions
//! ```
//!
//! Keys are put into order when a range is asked for, and only those that came since the last one: a table that is
//! read by single keys and by scans never pays for it. The order has a lock of its own, so that sorting a million
//! keys makes only other ranges wait and not the committer.
//!
//! A snapshot's keys were all entered before the snapshot could be taken, and whoever takes fresh keys holds the lock
//! until they are in the order: a range misses none. Keys that an undo has taken back stay in the order and are passed
//! over.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use triune_common::{Error, Result};

use crate::hot::State;
use crate::hot::chunk::Pos;
use crate::hot::index::Index;
use crate::key::{Key, KeyKind, KeyRef};

/// Fresh keys beyond this share of the ordered ones are sorted and merged rather than entered one by one.
const MERGE_SHARE: usize = 8;

#[derive(Debug)]
enum Sorted {
    Ints(BTreeSet<u64>),
    Bytes(BTreeSet<Arc<[u8]>>),
}

#[derive(Debug)]
pub(super) struct Order {
    sorted: RwLock<Sorted>,
    bytes: AtomicUsize,
}

impl Order {
    pub(super) fn new(kind: KeyKind) -> Self {
        let sorted = match kind {
            KeyKind::Int => Sorted::Ints(BTreeSet::new()),
            KeyKind::Bytes => Sorted::Bytes(BTreeSet::new()),
        };
        Self { sorted: RwLock::new(sorted), bytes: AtomicUsize::new(0) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Puts all keys that have been entered by now into the order.
    pub(super) fn settle(&self, state: &RwLock<State>) {
        // Keys that somebody else has taken and not entered yet are waited for by `visit`.
        let has_fresh = match &state.read().index {
            Index::Ints(index) => index.table.has_fresh(),
            Index::Bytes(table) => table.has_fresh(),
        };
        if !has_fresh {
            return;
        }
        let mut sorted = self.sorted.write();
        match &mut *sorted {
            Sorted::Ints(keys) => {
                let fresh = match &mut state.write().index {
                    Index::Ints(index) => index.table.take_fresh(),
                    Index::Bytes(_) => Vec::new(),
                };
                merge(keys, fresh);
            }
            Sorted::Bytes(keys) => {
                let fresh = match &mut state.write().index {
                    Index::Bytes(table) => table.take_fresh(),
                    Index::Ints(_) => Vec::new(),
                };
                merge(keys, fresh);
            }
        }
        // A B-tree's nodes hold up to 11 entries, are some two thirds full, and have a header and, above, edges.
        let (entries, entry) = match &*sorted {
            Sorted::Ints(keys) => (keys.len(), size_of::<u64>()),
            Sorted::Bytes(keys) => (keys.len(), size_of::<Arc<[u8]>>()),
        };
        self.bytes.store(entries * (entry * 3 / 2 + 4), Ordering::Relaxed);
    }

    /// Calls `visit` with the newest version of up to `most` keys between the bounds, in the order of keys. Returns the
    /// last key looked at: `None` when there are no more. Call [`Self::settle`] before the first.
    ///
    /// Errors: bounds of the other kind.
    pub(super) fn visit(
        &self,
        state: &RwLock<State>,
        lower: Bound<KeyRef<'_>>,
        upper: Bound<KeyRef<'_>>,
        most: usize,
        mut visit: impl FnMut(&State, Pos),
    ) -> Result<Option<Key>> {
        // In the same sequence as in `settle`: the order's lock, then the memtable's.
        let sorted = self.sorted.read();
        let state = state.read();
        match (&*sorted, &state.index) {
            (Sorted::Ints(sorted), Index::Ints(index)) => {
                let Some((from, to)) = int_range(lower, upper)? else { return Ok(None) };
                let table = sorted.range(from..=to).copied();
                let mut last = None;
                for key in union(table, index.run_keys(&state.chunks, from, to)).take(most) {
                    last = Some(Key::Int(key));
                    if let Some(pos) = index.find(key, &state.chunks) {
                        visit(&state, pos);
                    }
                }
                Ok(last)
            }
            (Sorted::Bytes(sorted), Index::Bytes(table)) => {
                let (lower, upper) = (bytes_bound(lower)?, bytes_bound(upper)?);
                if is_empty(lower, upper) {
                    return Ok(None);
                }
                let mut last: Option<&Arc<[u8]>> = None;
                for key in sorted.range::<[u8], _>((lower, upper)).take(most) {
                    last = Some(key);
                    if let Some(pos) = table.get(&key[..]) {
                        visit(&state, pos);
                    }
                }
                Ok(last.map(|key| Key::Bytes(Box::from(&key[..]))))
            }
            _ => Err(Error::internal("an index and its order have different kinds")),
        }
    }
}

fn merge<K: Ord>(keys: &mut BTreeSet<K>, fresh: Vec<K>) {
    if fresh.len() > keys.len() / MERGE_SHARE {
        keys.append(&mut fresh.into_iter().collect());
    } else {
        keys.extend(fresh);
    }
}

/// The elements of two growing sequences in order, each once.
fn union(a: impl Iterator<Item = u64>, b: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(x), Some(y)) if x == y => {
            b.next();
            a.next()
        }
        (Some(x), Some(y)) if y < x => b.next(),
        (Some(_), _) => a.next(),
        (None, _) => b.next(),
    })
}

fn wrong_kind() -> Error {
    Error::internal("a range over keys of another kind")
}

/// The first and the last integer between the bounds; `None` when there is none.
fn int_range(lower: Bound<KeyRef<'_>>, upper: Bound<KeyRef<'_>>) -> Result<Option<(u64, u64)>> {
    let int = |key: KeyRef<'_>| match key {
        KeyRef::Int(key) => Ok(key),
        KeyRef::Bytes(_) => Err(wrong_kind()),
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
    Ok(from.zip(to).filter(|(from, to)| from <= to))
}

fn bytes_bound(bound: Bound<KeyRef<'_>>) -> Result<Bound<&[u8]>> {
    let bytes = |key| match key {
        KeyRef::Bytes(bytes) => Ok(bytes),
        KeyRef::Int(_) => Err(wrong_kind()),
    };
    Ok(match bound {
        Bound::Unbounded => Bound::Unbounded,
        Bound::Included(key) => Bound::Included(bytes(key)?),
        Bound::Excluded(key) => Bound::Excluded(bytes(key)?),
    })
}

/// Whether no key can lie between the bounds; `BTreeSet::range` panics on those.
fn is_empty(lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> bool {
    use Bound::{Excluded, Included, Unbounded};
    match (lower, upper) {
        (Unbounded, _) | (_, Unbounded) => false,
        (Included(a), Included(b)) => a > b,
        (Included(a) | Excluded(a), Included(b) | Excluded(b)) => a >= b,
    }
}
