//! Columns that were decoded once: what repeated scans and reads of single rows take instead of a file.
//!
//! ```text
//!  fragment 3   column id     [ 65,536 rows ][ 65,536 rows ][ …       4 bytes to 64 a row
//!               column text   [ 16,384 ][ 16,384 ][ 16,384 ][ …      wider: about 4 MiB a chunk
//!                                  ▲ key: data file, field, number of the chunk
//! ```
//!
//! All tables of a database share one cache with one budget. What was not asked for since the last round of
//! the clock goes first. Data files are never changed, so nothing is ever stale: a rewritten fragment has other
//! files, and the chunks of the old ones leave by themselves.
//!
//! *Admission*: a scan fills the cache with the columns it reads if those of the whole table take at most half
//! of the budget, and passes it by otherwise. A read of single rows fills it when it comes to the same chunk a
//! second time. *Memory*: chunks are copied if they would hold a larger buffer of the decoder's alive; the
//! budget counts their buffers. *Cost*: a hit is a look-up in a map under a shared lock, some 50 ns.

pub(crate) mod load;
pub(crate) mod rows;
pub(crate) mod scan;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, MutableArrayData, make_array};
use parking_lot::{Mutex, RwLock};

/// The budget where none is set.
const DEFAULT_BUDGET: usize = 512 << 20;

/// Rows of a chunk of narrow columns.
const MOST_ROWS: u64 = 1 << 16;

/// … and at least of the widest.
const LEAST_ROWS: u64 = 1 << 10;

/// Columns up to this many bytes a row are narrow.
const NARROW: usize = 64;

/// Decoded bytes of a chunk of a wide column.
const CHUNK_BYTES: usize = 4 << 20;

/// Chunks remembered to have been asked for once.
const REMEMBERED: usize = 1 << 16;

/// One chunk of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ChunkKey {
    /// A hash of dataset and data file; those names hold a random UUID.
    pub(crate) file: u128,
    pub(crate) field: i32,
    pub(crate) chunk: u32,
    /// Rows of a whole chunk. It is estimated from the widths of a version's rows: two versions that share a file may
    /// cut it differently.
    pub(crate) rows: u64,
}

#[derive(Debug)]
struct Entry {
    column: ArrayRef,
    bytes: usize,
    used: AtomicBool,
}

#[derive(Default)]
struct Chunks {
    map: HashMap<ChunkKey, Entry>,
    clock: VecDeque<ChunkKey>,
    bytes: usize,
}

/// Decoded columns within a budget of bytes; see the module.
pub struct ColumnCache {
    chunks: RwLock<Chunks>,
    once: Mutex<HashSet<ChunkKey>>,
    budget: AtomicUsize,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl fmt::Debug for ColumnCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chunks = self.chunks.read();
        f.debug_struct("ColumnCache")
            .field("chunks", &chunks.map.len())
            .field("bytes", &chunks.bytes)
            .field("budget", &self.budget())
            .finish_non_exhaustive()
    }
}

impl Default for ColumnCache {
    fn default() -> Self {
        Self::new(DEFAULT_BUDGET)
    }
}

impl ColumnCache {
    /// A cache of at most so many bytes; none are kept for 0.
    pub fn new(budget: usize) -> Self {
        Self {
            chunks: RwLock::default(),
            once: Mutex::default(),
            budget: AtomicUsize::new(budget),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    pub fn budget(&self) -> usize {
        self.budget.load(Ordering::Relaxed)
    }

    /// Changes the budget; what is too much goes at once.
    pub fn set_budget(&self, bytes: usize) {
        self.budget.store(bytes, Ordering::Relaxed);
        self.chunks.write().shrink(bytes);
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.chunks.read().bytes
    }

    /// Chunks that were found and that were not, since the start.
    pub fn counts(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    pub(crate) fn get(&self, key: &ChunkKey) -> Option<ArrayRef> {
        let chunks = self.chunks.read();
        let Some(entry) = chunks.map.get(key) else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.hits.fetch_add(1, Ordering::Relaxed);
        // Written only when it changes: the flag's line is shared by all readers.
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        Some(Arc::clone(&entry.column))
    }

    pub(crate) fn holds(&self, key: &ChunkKey) -> bool {
        self.chunks.read().map.contains_key(key)
    }

    /// Whether the chunk was asked for before; remembers that it was now.
    pub(crate) fn again(&self, key: ChunkKey) -> bool {
        let mut once = self.once.lock();
        if once.len() >= REMEMBERED {
            once.clear();
        }
        !once.insert(key)
    }

    /// Keeps a chunk and gives it back as it is kept.
    pub(crate) fn insert(&self, key: ChunkKey, column: &ArrayRef) -> ArrayRef {
        let column = compact(column);
        let bytes = column.get_array_memory_size();
        let budget = self.budget();
        if bytes > budget {
            return column;
        }
        let mut chunks = self.chunks.write();
        if let Some(known) = chunks.map.get(&key) {
            return Arc::clone(&known.column);
        }
        chunks.shrink(budget - bytes);
        chunks.bytes += bytes;
        chunks.clock.push_back(key);
        let entry = Entry { column: Arc::clone(&column), bytes, used: AtomicBool::new(false) };
        chunks.map.insert(key, entry);
        column
    }
}

impl Chunks {
    /// Drops chunks until no more than `bytes` are held.
    fn shrink(&mut self, bytes: usize) {
        while self.bytes > bytes {
            let Some(key) = self.clock.pop_front() else { return };
            let Some(entry) = self.map.get(&key) else { continue };
            if entry.used.swap(false, Ordering::Relaxed) {
                self.clock.push_back(key);
                continue;
            }
            self.bytes -= entry.bytes;
            self.map.remove(&key);
        }
    }
}

/// The same values in buffers of their own size.
fn compact(column: &ArrayRef) -> ArrayRef {
    let data = column.to_data();
    let needed = data.get_slice_memory_size().unwrap_or(usize::MAX);
    if column.get_buffer_memory_size() <= needed.saturating_add(needed / 4).saturating_add(4096) {
        return Arc::clone(column);
    }
    let mut copy = MutableArrayData::new(vec![&data], false, data.len());
    copy.extend(0, 0, data.len());
    make_array(copy.freeze())
}

/// Rows of a chunk of a column of this width: a power of two.
pub(crate) fn chunk_rows(width: usize) -> u64 {
    if width <= NARROW {
        return MOST_ROWS;
    }
    let rows = ((CHUNK_BYTES / width) as u64).clamp(LEAST_ROWS, MOST_ROWS);
    1 << rows.ilog2()
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    fn key(chunk: u32) -> ChunkKey {
        ChunkKey { file: 1, field: 2, chunk, rows: 1024 }
    }

    fn column(value: i64) -> ArrayRef {
        Arc::new(Int64Array::from(vec![value; 1000]))
    }

    #[test]
    fn the_budget_holds_and_what_is_used_stays() {
        let one = column(0).get_array_memory_size();
        let cache = ColumnCache::new(10 * one);
        for i in 0..10 {
            cache.insert(key(i), &column(i64::from(i)));
        }
        assert_eq!(cache.bytes(), 10 * one);
        assert!(cache.get(&key(0)).is_some() && cache.get(&key(3)).is_some());
        for i in 10..16 {
            cache.insert(key(i), &column(i64::from(i)));
            assert!(cache.bytes() <= 10 * one);
        }
        assert!(cache.holds(&key(0)) && cache.holds(&key(3)), "what was used stays");
        assert!(!cache.holds(&key(1)) && !cache.holds(&key(2)));
        assert_eq!(cache.get(&key(15)).unwrap().as_ref(), column(15).as_ref());
        cache.set_budget(2 * one);
        assert!(cache.bytes() <= 2 * one);
        cache.set_budget(0);
        cache.insert(key(1), &column(1));
        assert_eq!(cache.bytes(), 0);
        let all = cache.chunks.read();
        assert!(all.map.is_empty() && all.clock.is_empty());
    }

    #[test]
    fn a_slice_does_not_hold_its_whole() {
        let whole = Int64Array::from_iter_values(0..1_000_000);
        let cache = ColumnCache::new(1 << 20);
        let kept = cache.insert(key(1), &(Arc::new(whole.slice(5, 1000)) as ArrayRef));
        assert_eq!(kept.as_ref(), &whole.slice(5, 1000) as &dyn Array);
        assert!(cache.bytes() < 20_000 && cache.bytes() > 0, "{}", cache.bytes());
    }

    #[test]
    fn chunks_are_powers_of_two_of_about_four_mebibytes() {
        assert_eq!(chunk_rows(8), 65_536);
        assert_eq!(chunk_rows(64), 65_536);
        assert_eq!(chunk_rows(128), 32_768);
        assert_eq!(chunk_rows(1536), 2048);
        assert_eq!(chunk_rows(1 << 20), 1024);
    }
}
