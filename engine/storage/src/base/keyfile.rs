//! Key files: where in the base the row with a key lies, without a map in memory.
//!
//! ```text
//!  ┬ keys, sorted ┬ second halves  ┬ ordinals         ┬ filter               ┬ footer 128 B ┐
//!  │ rows × u64   │ rows × u64     │ rows × u32       │ 32-byte blocks, SBBF │ sizes, sums  │
//!  └──────────────┴ of hashed keys ┴ absent if 0,1,2… ┴──────────────────────┴──────────────┘
//! ```
//!
//! A file is written once, with the rows that one append (or one rewrite) added, and never changed. An
//! *ordinal* counts those rows in the order in which they lie in the base; which fragments that is, the
//! base's state says, so that a file can be written while the rows still are.
//!
//! | key | bytes on disk per row | in memory |
//! |---|---|---|
//! | integer, numbers without a gap (`_rid`, identity) | 0: the fragment's first key is in the state | 12 per fragment |
//! | integer, rows in the order of the key | 9.25 | 0 |
//! | integer, any order | 13.25 | 0 |
//! | anything else (hashed) | 21.25 (17.25 in order) | 0 |
//!
//! The file is mapped; what is looked up often is in the page cache and nothing else is. 100 million integer
//! keys are 1.3 GB of file. A look-up is one block of the filter (1.2 % false positives), then an
//! interpolation search, which finds evenly spread keys in about two steps and any others in log₂ of them.
//!
//! **Keys that are not integers** are kept as 128-bit XXH3 hashes with a random seed of the table. Two
//! different keys among n have the same hash with a chance of n²/2¹²⁹: for 100 million keys 1.5·10⁻²³, less
//! than that of an undetected error of memory. Keys themselves would cost their length (a UUID of text has 66
//! bytes in the row format) on disk and in the page cache, and comparisons of texts at each step. Whoever
//! knows the seed (it is in the database's folder) could construct two keys that collide: the second would be
//! refused as a duplicate of the first.

mod build;
mod filter;
mod sort;

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use triune_common::{Error, ErrorKind, Result};
use twox_hash::{XxHash3_64, XxHash3_128};

pub use build::KeyFileBuilder;
use filter::Filter;

use crate::fs::{MappedBytes, StorageFs};
use crate::key::{KeyKind, KeyRef};

const MAGIC: &[u8; 8] = b"TRIKEY01";
const FOOTER: usize = 128;
/// The words of the footer before its own checksum.
const WORDS: usize = 12;
const HASHED: u64 = 1;
const ORDERED: u64 = 2;

/// A key, ready to be looked up in any file of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// The integer, or the first half of the hash.
    pub(crate) high: u64,
    /// The second half of the hash.
    pub(crate) low: u64,
}

impl Probe {
    /// `seed` is the table's, for keys that are hashed.
    pub fn new(key: KeyRef<'_>, seed: u64) -> Self {
        match key {
            KeyRef::Int(i) => Self { high: i, low: 0 },
            KeyRef::Bytes(b) => {
                let hash = XxHash3_128::oneshot_with_seed(seed, b);
                Self { high: (hash >> 64) as u64, low: hash as u64 }
            }
        }
    }

    fn filter_hash(self) -> u64 {
        filter::mix(self.high)
    }
}

/// A key file, mapped. See the module.
pub struct KeyFile {
    map: MappedBytes,
    path: PathBuf,
    rows: usize,
    hashed: bool,
    min: u64,
    max: u64,
    lows: usize,
    ordinals: Option<usize>,
    filter: Filter,
    body_sum: u64,
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile").field("path", &self.path).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl KeyFile {
    /// Maps a file and checks its footer and length.
    ///
    /// Errors: data, naming the file, if it is missing, torn or of another kind of key.
    pub fn open(fs: &dyn StorageFs, path: &Path, kind: KeyKind) -> Result<Self> {
        let damaged = |what: &str| {
            Error::data(format!("the key file {} is damaged: {what}", path.display()))
                .with_hint("restore the file from a backup")
        };
        let map = fs.map(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::data(format!("the key file {} is missing", path.display()))
                .with_hint("restore the file from a backup"),
            _ => Error::new(ErrorKind::Unavailable, format!("cannot read {}: {e}", path.display())),
        })?;
        let bytes = map.as_ref().as_ref();
        let length = bytes.len();
        let Some(body) = length.checked_sub(FOOTER) else {
            return Err(damaged(&format!("it has {length} bytes, its footer alone has {FOOTER}")));
        };
        let footer = &bytes[body..];
        let words: Vec<u64> = footer.as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w)).collect();
        if &footer[..8] != MAGIC {
            return Err(damaged("it does not end as one"));
        }
        if words[WORDS] != XxHash3_64::oneshot(&footer[..8 * WORDS]) {
            return Err(damaged("the checksum of its footer is wrong"));
        }
        let size = |word: u64| usize::try_from(word).map_err(|_| damaged("it is too large"));
        let (flags, rows, blocks) = (words[1], size(words[2])?, size(words[5])?);
        let (hashed, ordered) = (flags & HASHED != 0, flags & ORDERED != 0);
        if hashed != (kind == KeyKind::Bytes) {
            return Err(damaged("it holds keys of another kind than the table has"));
        }
        let layout = Layout::new(rows, hashed, ordered, blocks);
        if layout.footer != body || words[6] != length as u64 {
            let want = layout.footer.saturating_add(FOOTER);
            return Err(damaged(&format!("it has {length} bytes where {want} belong")));
        }
        Ok(Self {
            path: path.to_owned(),
            rows,
            hashed,
            min: words[3],
            max: words[4],
            lows: layout.lows,
            ordinals: (!ordered).then_some(layout.ordinals),
            filter: Filter::new(layout.filter, blocks),
            body_sum: words[7],
            map,
        })
    }

    fn all(&self) -> &[u8] {
        self.map.as_ref().as_ref()
    }

    /// Reads the whole file and checks its contents against their checksum.
    pub fn verify(&self) -> Result<()> {
        if XxHash3_64::oneshot(&self.all()[..self.bytes() - FOOTER]) == self.body_sum {
            return Ok(());
        }
        Err(Error::data(format!("the key file {} is damaged: its checksum is wrong", self.path.display()))
            .with_hint("restore the file from a backup"))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> usize {
        self.all().len()
    }

    /// Calls `found` with the ordinal of each row that has the key, oldest first.
    pub fn probe(&self, probe: Probe, mut found: impl FnMut(u32) -> ControlFlow<()>) -> ControlFlow<()> {
        if self.rows == 0 || probe.high < self.min || probe.high > self.max {
            return ControlFlow::Continue(());
        }
        if !self.filter.may_hold(self.all(), probe.filter_hash()) {
            return ControlFlow::Continue(());
        }
        self.matches(self.lower_bound(probe.high), probe, &mut found)
    }

    /// Looks up many keys, which must grow; `found` is called with the place in `probes` and the ordinal.
    ///
    /// Steps through the file from one key to the next, so that many keys cost one pass and few keys a
    /// search each.
    pub fn probe_sorted(
        &self,
        probes: &[Probe],
        mut found: impl FnMut(usize, u32) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let first = probes.partition_point(|p| p.high < self.min);
        let last = probes.partition_point(|p| p.high <= self.max);
        if self.rows == 0 || first >= last {
            return ControlFlow::Continue(());
        }
        // With few keys the filter saves pages; with many the pages are read anyway.
        let filtered = (last - first).saturating_mul(16) < self.rows;
        let mut at = 0;
        for (i, probe) in probes.iter().enumerate().take(last).skip(first) {
            if filtered && !self.filter.may_hold(self.all(), probe.filter_hash()) {
                continue;
            }
            at = self.gallop(at, probe.high);
            self.matches(at, *probe, &mut |ordinal| found(i, ordinal))?;
        }
        ControlFlow::Continue(())
    }

    /// All rows in the order of their keys: key, second half, ordinal.
    pub fn entries(&self) -> impl Iterator<Item = (u64, u64, u32)> + '_ {
        (0..self.rows).map(|i| (self.key(i), self.low(i), self.ordinal(i)))
    }

    fn matches(
        &self,
        from: usize,
        probe: Probe,
        found: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut i = from;
        while i < self.rows && self.key(i) == probe.high {
            if self.low(i) == probe.low {
                found(self.ordinal(i))?;
            }
            i += 1;
        }
        ControlFlow::Continue(())
    }

    fn word(&self, section: usize, i: usize) -> u64 {
        let (words, _) = self.all()[section..section + 8 * self.rows].as_chunks::<8>();
        u64::from_le_bytes(words[i])
    }

    fn key(&self, i: usize) -> u64 {
        self.word(0, i)
    }

    fn low(&self, i: usize) -> u64 {
        if self.hashed { self.word(self.lows, i) } else { 0 }
    }

    fn ordinal(&self, i: usize) -> u32 {
        match self.ordinals {
            Some(section) => {
                let (words, _) = self.all()[section..section + 4 * self.rows].as_chunks::<4>();
                u32::from_le_bytes(words[i])
            }
            None => i as u32,
        }
    }

    /// The first place whose key is not below `key`.
    fn lower_bound(&self, key: u64) -> usize {
        self.search(key, 0, self.rows)
    }

    /// The same, knowing that no place before `from` is it.
    fn gallop(&self, from: usize, key: u64) -> usize {
        let (mut low, mut step) = (from, 1);
        while low < self.rows && self.key(low) < key {
            let next = low + step;
            if next >= self.rows || self.key(next) >= key {
                return self.search(key, low + 1, next.min(self.rows));
            }
            low = next;
            step *= 2;
        }
        low
    }

    /// The first place in `low..=high` whose key is not below `key`, known to be among them.
    fn search(&self, key: u64, mut low: usize, mut high: usize) -> usize {
        // Guesses by proportion, as one looks up a word; a bad one halves nothing, so there are few.
        let mut guesses = 6;
        while high - low > 8 && guesses > 0 {
            guesses -= 1;
            let (below, above) = (self.key(low), self.key(high - 1));
            if key <= below {
                return low;
            }
            if key > above {
                return high;
            }
            let share = u128::from(key - below) * (high - 1 - low) as u128 / u128::from(above - below);
            let guess = low + share as usize;
            // A little around the guess, where even keys lie.
            let margin = (high - low) / 256 + 4;
            let (left, right) = (guess.saturating_sub(margin).max(low), (guess + margin).min(high - 1));
            if self.key(left) >= key {
                high = left;
            } else if self.key(right) < key {
                low = right + 1;
            } else {
                (low, high) = (left + 1, right);
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if self.key(middle) < key { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// Where the parts of a file begin; the keys at its first byte. Each begins at a multiple of 32.
struct Layout {
    lows: usize,
    ordinals: usize,
    filter: usize,
    footer: usize,
}

impl Layout {
    fn new(rows: usize, hashed: bool, ordered: bool, blocks: usize) -> Self {
        let after = |start: usize, bytes: usize| {
            start.saturating_add(bytes).checked_next_multiple_of(32).unwrap_or(usize::MAX)
        };
        let lows = after(0, rows.saturating_mul(8));
        let ordinals = after(lows, if hashed { rows.saturating_mul(8) } else { 0 });
        let filter = after(ordinals, if ordered { 0 } else { rows.saturating_mul(4) });
        let footer = filter.saturating_add(blocks.saturating_mul(filter::BLOCK));
        Self { lows, ordinals, filter, footer }
    }
}

#[cfg(test)]
mod tests;
