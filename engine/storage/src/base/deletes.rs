//! Which rows of a base are gone, and since when.
//!
//! ```text
//!  settled   {7, 9, 4294967296}            a bitmap: gone for every snapshot that is still readable
//!  recent    (ts 80, row 3) (ts 91, row 5) in the order of time
//!                         ▲
//!            snapshot 85 ─┘   mask = settled ∪ {3}
//! ```
//!
//! A row of the base is named by its address: the fragment's id times 2³² plus the row's place in it. The
//! rows stay in their files; scans, searches and look-ups leave the masked ones out.
//!
//! *Memory*: a settled row costs about 2 bytes (less in long runs), a recent one about 50. *Cost*: marking a
//! row and asking for one is below a microsecond; the mask of a snapshot that is newer than the last one
//! asked for adds the rows between, and copies the bitmap first if a query still holds the last mask.
//!
//! One writer marks; any number of readers ask. Marks of commits that are not visible yet do no harm: their
//! timestamp is later than every snapshot.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::RwLock;
use roaring::RoaringTreemap;
use triune_common::{Error, Result};
use twox_hash::XxHash3_64;

use crate::stamp::CommitTs;

/// Masks of older snapshots that are kept, so that a long transaction does not build its own again and again.
const OLDER_MASKS: usize = 4;

const MAGIC: &[u8; 8] = b"TRIDEL01";

/// The deleted rows of a base, with the timestamps of their deletion. See the module.
#[derive(Debug, Default)]
pub struct DeleteLog {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    settled: Arc<RoaringTreemap>,
    /// Every settled row went at or before this.
    settled_ts: CommitTs,
    /// In the order of time; rows of one timestamp in the order of marking.
    recent: Vec<(CommitTs, u64)>,
    by_address: HashMap<u64, CommitTs>,
    /// `settled` and the first so many of `recent`, newest first asked.
    newest: Option<(usize, Arc<RoaringTreemap>)>,
    older: VecDeque<(usize, Arc<RoaringTreemap>)>,
}

impl DeleteLog {
    pub fn new() -> Self {
        Self::default()
    }

    /// The row ends at `ts`. `false`, and nothing is changed, if it has ended already.
    ///
    /// Timestamps usually grow; an earlier one than the last is put in its place.
    pub fn mark(&self, address: u64, ts: CommitTs) -> bool {
        self.inner.write().mark(address, ts)
    }

    /// Marks many rows, in any order of time; those that have ended already stay as they are.
    pub fn mark_all(&self, rows: impl IntoIterator<Item = (u64, CommitTs)>) {
        let mut inner = self.inner.write();
        let mut sorted: Vec<(CommitTs, u64)> = rows.into_iter().map(|(a, ts)| (ts, a)).collect();
        sorted.sort_by_key(|(ts, _)| *ts);
        let in_order = sorted.first().is_none_or(|(ts, _)| inner.recent.last().is_none_or(|l| l.0 <= *ts));
        if in_order {
            for (ts, address) in sorted {
                inner.mark(address, ts);
            }
            return;
        }
        inner.forget_masks();
        for (ts, address) in sorted {
            if !inner.settled.contains(address) && !inner.by_address.contains_key(&address) {
                inner.by_address.insert(address, ts);
                inner.recent.push((ts, address));
            }
        }
        inner.recent.sort_by_key(|(ts, _)| *ts);
    }

    /// When the row ended; `None` for a row that is there. A settled row gives the time before which it went.
    pub fn ended(&self, address: u64) -> Option<CommitTs> {
        self.inner.read().ended(address)
    }

    /// Whether the row is there for this snapshot.
    pub fn is_visible(&self, address: u64, snapshot: CommitTs) -> bool {
        self.ended(address).is_none_or(|end| end > snapshot)
    }

    /// Forgets what was marked later than `ts`. Rows that were settled stay.
    pub fn undo_after(&self, ts: CommitTs) {
        let mut inner = self.inner.write();
        let keep = inner.prefix(ts);
        if keep == inner.recent.len() {
            return;
        }
        for (_, address) in inner.recent.split_off(keep) {
            inner.by_address.remove(&address);
        }
        if inner.newest.as_ref().is_some_and(|(n, _)| *n > keep) {
            inner.newest = None;
        }
        inner.older.retain(|(n, _)| *n <= keep);
    }

    /// The rows that are not visible at `snapshot`. The same `Arc` as long as nothing changed for it.
    ///
    /// A snapshot older than what was settled gets the settled rows too: see [`DeleteLog::settle`].
    pub fn mask(&self, snapshot: CommitTs) -> Arc<RoaringTreemap> {
        {
            let inner = self.inner.read();
            if let Some(known) = inner.known_mask(inner.prefix(snapshot)) {
                return known;
            }
        }
        let mut inner = self.inner.write();
        // Counted again: something may have been marked while the lock was not held.
        let count = inner.prefix(snapshot);
        inner.make_mask(count)
    }

    /// Rows that have ended, whenever.
    pub fn len(&self) -> usize {
        let inner = self.inner.read();
        usize::try_from(inner.settled.len()).unwrap_or(usize::MAX).saturating_add(inner.recent.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows that ended later than `ts`, with their times, in the order of time.
    pub fn after(&self, ts: CommitTs) -> Vec<(u64, CommitTs)> {
        let inner = self.inner.read();
        inner.recent[inner.prefix(ts)..].iter().map(|(ts, a)| (*a, *ts)).collect()
    }

    /// Forgets the exact times of rows that ended at or before `ts`: no snapshot older than `ts` may be
    /// read through this log any more.
    pub fn settle(&self, ts: CommitTs) {
        let mut inner = self.inner.write();
        let count = inner.prefix(ts);
        if count == 0 {
            inner.settled_ts = inner.settled_ts.max(ts);
            return;
        }
        let settled = inner.make_mask(count);
        for (_, address) in inner.recent.drain(..count).collect::<Vec<_>>() {
            inner.by_address.remove(&address);
        }
        inner.settled = Arc::clone(&settled);
        inner.settled_ts = inner.settled_ts.max(ts);
        inner.newest = match inner.newest.take() {
            Some((n, mask)) if n >= count => Some((n - count, mask)),
            _ => None,
        };
        inner.older.retain(|(n, _)| *n >= count);
        for (n, _) in &mut inner.older {
            *n -= count;
        }
    }

    /// A log for a base whose rows have moved: what ended at or before `upto`, at the addresses that `moved`
    /// gives; rows for which it gives none are left out.
    pub fn moved(&self, upto: CommitTs, moved: impl Fn(u64) -> Option<u64>) -> Self {
        let inner = self.inner.read();
        let settled: RoaringTreemap = inner.settled.iter().filter_map(&moved).collect();
        let mut out = Inner { settled: Arc::new(settled), settled_ts: inner.settled_ts, ..Inner::default() };
        for (ts, address) in &inner.recent[..inner.prefix(upto)] {
            if let Some(address) = moved(*address) {
                out.recent.push((*ts, address));
                out.by_address.insert(address, *ts);
            }
        }
        Self { inner: RwLock::new(out) }
    }

    /// Bytes held, masks included.
    pub fn bytes(&self) -> usize {
        let inner = self.inner.read();
        let mask = |m: &RoaringTreemap| m.serialized_size();
        let mut bytes =
            mask(&inner.settled) + inner.recent.capacity() * 16 + inner.by_address.capacity() * 17;
        for (_, held) in inner.newest.iter().chain(&inner.older) {
            if !Arc::ptr_eq(held, &inner.settled) {
                bytes += mask(held);
            }
        }
        bytes
    }

    /// What ended at or before `upto`, as the bytes of a file with a checksum at its end.
    pub fn encode(&self, upto: CommitTs) -> Result<Vec<u8>> {
        let inner = self.inner.read();
        let recent = &inner.recent[..inner.prefix(upto)];
        let mut out = Vec::with_capacity(48 + inner.settled.serialized_size() + recent.len() * 16);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&inner.settled_ts.0.to_le_bytes());
        out.extend_from_slice(&(inner.settled.serialized_size() as u64).to_le_bytes());
        out.extend_from_slice(&(recent.len() as u64).to_le_bytes());
        inner
            .settled
            .serialize_into(&mut out)
            .map_err(|e| Error::internal(format!("a row mask cannot be written: {e}")))?;
        for (ts, address) in recent {
            out.extend_from_slice(&ts.0.to_le_bytes());
            out.extend_from_slice(&address.to_le_bytes());
        }
        let sum = XxHash3_64::oneshot(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        Ok(out)
    }

    /// Reads what [`DeleteLog::encode`] wrote; `place` names the file in the error for damaged bytes.
    pub fn decode(bytes: &[u8], place: &str) -> Result<Self> {
        let damaged =
            |what: &str| Error::data(format!("the file of deleted rows {place} is damaged: {what}"));
        let word = |at: usize| {
            let field = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
            field.map(u64::from_le_bytes).ok_or_else(|| damaged("it is too short"))
        };
        let body = bytes.len().checked_sub(8).ok_or_else(|| damaged("it is too short"))?;
        if bytes.get(..8) != Some(MAGIC.as_slice()) {
            return Err(damaged("it does not begin as one"));
        }
        if word(body)? != XxHash3_64::oneshot(&bytes[..body]) {
            return Err(damaged("its checksum is wrong"));
        }
        let settled_ts = CommitTs(word(8)?);
        let sizes = (usize::try_from(word(16)?), usize::try_from(word(24)?));
        let (Ok(mask_bytes), Ok(count)) = sizes else { return Err(damaged("its sizes are wrong")) };
        let fits = count
            .checked_mul(16)
            .and_then(|n| n.checked_add(mask_bytes))
            .and_then(|n| n.checked_add(32))
            .is_some_and(|n| n == body);
        if !fits {
            return Err(damaged("its sizes are wrong"));
        }
        let settled = RoaringTreemap::deserialize_from(&bytes[32..32 + mask_bytes])
            .map_err(|e| damaged(&e.to_string()))?;
        let mut inner = Inner { settled: Arc::new(settled), settled_ts, ..Inner::default() };
        inner.recent.reserve(count);
        inner.by_address.reserve(count);
        for i in 0..count {
            let at = 32 + mask_bytes + 16 * i;
            let (ts, address) = (CommitTs(word(at)?), word(at + 8)?);
            inner.recent.push((ts, address));
            inner.by_address.insert(address, ts);
        }
        Ok(Self { inner: RwLock::new(inner) })
    }
}

impl Inner {
    fn ended(&self, address: u64) -> Option<CommitTs> {
        if let Some(ts) = self.by_address.get(&address) {
            return Some(*ts);
        }
        self.settled.contains(address).then_some(self.settled_ts)
    }

    fn mark(&mut self, address: u64, ts: CommitTs) -> bool {
        if self.ended(address).is_some() {
            return false;
        }
        self.by_address.insert(address, ts);
        if self.recent.last().is_none_or(|last| last.0 <= ts) {
            self.recent.push((ts, address));
            return true;
        }
        let at = self.prefix(ts);
        self.recent.insert(at, (ts, address));
        if self.newest.as_ref().is_some_and(|(n, _)| *n > at) {
            self.newest = None;
        }
        self.older.retain(|(n, _)| *n <= at);
        true
    }

    fn forget_masks(&mut self) {
        self.newest = None;
        self.older.clear();
    }

    /// How many of `recent` ended at or before `ts`.
    fn prefix(&self, ts: CommitTs) -> usize {
        // Nearly always all of them.
        if self.recent.last().is_none_or(|last| last.0 <= ts) {
            return self.recent.len();
        }
        self.recent.partition_point(|(at, _)| *at <= ts)
    }

    fn known_mask(&self, count: usize) -> Option<Arc<RoaringTreemap>> {
        if count == 0 {
            return Some(Arc::clone(&self.settled));
        }
        self.newest.iter().chain(&self.older).find(|(n, _)| *n == count).map(|(_, mask)| Arc::clone(mask))
    }

    fn make_mask(&mut self, count: usize) -> Arc<RoaringTreemap> {
        if let Some(known) = self.known_mask(count) {
            return known;
        }
        match self.newest.take() {
            Some((n, mut mask)) if n < count => {
                // Not copied unless a query still reads it.
                if Arc::strong_count(&mask) > 1 {
                    self.remember_older(n, &mask);
                }
                let rows = Arc::make_mut(&mut mask);
                for (_, address) in &self.recent[n..count] {
                    rows.insert(*address);
                }
                self.newest = Some((count, Arc::clone(&mask)));
                mask
            }
            newest => {
                let mut rows = self.settled.as_ref().clone();
                rows.extend(self.recent[..count].iter().map(|(_, a)| *a));
                let mask = Arc::new(rows);
                if newest.is_some() {
                    self.newest = newest;
                    self.remember_older(count, &mask);
                } else {
                    self.newest = Some((count, Arc::clone(&mask)));
                }
                mask
            }
        }
    }

    fn remember_older(&mut self, count: usize, mask: &Arc<RoaringTreemap>) {
        self.older.push_front((count, Arc::clone(mask)));
        self.older.truncate(OLDER_MASKS);
    }
}

#[cfg(test)]
mod tests;
