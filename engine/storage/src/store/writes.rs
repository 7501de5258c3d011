//! One transaction's changes to one table, before anybody else sees them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;
use triune_common::{Error, Result};

use crate::key::{Key, KeyRef, Keys};

/// Numbers of rows that have no `_rid` yet; the committer gives them real ones.
pub(super) const PROVISIONAL: u64 = 1 << 63;

/// Place of a row among the own ones: batch, row.
pub(super) type Place = (u32, u32);

/// About what a key takes in an index or a set, beside its own bytes.
pub(super) const KEY_BYTES: usize = 48;

/// Keys of larger batches are not kept to be taken out of the index again: it is searched for them.
const KEPT_KEYS: usize = 4096;

/// What takes one change back.
#[derive(Debug)]
pub(super) enum UndoStep {
    /// A row of the snapshot ended.
    Ended(Key),
    RemovedOwn(Key, Place),
    /// A batch was added; its keys, where they are few.
    Added(Option<Keys>),
}

/// See the module's description. Readers share it; a change that meets one works on a copy, in which the batches are
/// shared and the indexes copied.
#[derive(Debug, Clone)]
pub(super) struct TableWrites {
    pub(super) revision: u64,
    /// Rows of the snapshot are gone, all of them.
    pub(super) truncated: bool,
    /// Keys of rows of the snapshot that are gone.
    pub(super) deleted: BTreeSet<Key>,
    /// Own rows, stored schema; a table without a primary key has provisional numbers in `_rid`.
    batches: Vec<RecordBatch>,
    /// Own rows that were deleted again.
    dead: HashSet<Place>,
    index: Index,
    rows: u64,
    /// Of rows, dead ones too, and of keys.
    bytes: usize,
}

/// Finds own rows by key.
#[derive(Debug, Clone)]
enum Index {
    Ints(HashMap<u64, Place>),
    Bytes(HashMap<Box<[u8]>, Place>),
    /// Provisional numbers ascend: where each batch starts.
    Rids(Vec<u64>),
}

impl TableWrites {
    pub(super) fn new(revision: u64, has_rid: bool, kind: crate::key::KeyKind) -> Self {
        let index = match (has_rid, kind) {
            (true, _) => Index::Rids(Vec::new()),
            (false, crate::key::KeyKind::Int) => Index::Ints(HashMap::new()),
            (false, crate::key::KeyKind::Bytes) => Index::Bytes(HashMap::new()),
        };
        Self {
            revision,
            truncated: false,
            deleted: BTreeSet::new(),
            batches: Vec::new(),
            dead: HashSet::new(),
            index,
            rows: 0,
            bytes: 0,
        }
    }

    /// What a TRUNCATE leaves of a table with these changes.
    pub(super) fn emptied(&self) -> Self {
        let index = match &self.index {
            Index::Ints(_) => Index::Ints(HashMap::new()),
            Index::Bytes(_) => Index::Bytes(HashMap::new()),
            Index::Rids(_) => Index::Rids(Vec::new()),
        };
        Self {
            revision: self.revision,
            truncated: true,
            deleted: BTreeSet::new(),
            batches: Vec::new(),
            dead: HashSet::new(),
            index,
            rows: 0,
            bytes: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.truncated && self.deleted.is_empty() && self.live() == 0
    }

    /// Own rows that are there.
    pub(super) fn live(&self) -> u64 {
        self.rows - self.dead.len() as u64
    }

    /// Own rows, dead ones too.
    #[cfg(test)]
    pub(super) fn all_rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn find(&self, key: KeyRef<'_>) -> Option<Place> {
        match (&self.index, key) {
            (Index::Ints(map), KeyRef::Int(k)) => map.get(&k).copied(),
            (Index::Bytes(map), KeyRef::Bytes(k)) => map.get(k).copied(),
            (Index::Rids(starts), KeyRef::Int(k)) if k >= PROVISIONAL => {
                let n = k - PROVISIONAL;
                let batch = starts.partition_point(|s| *s <= n).checked_sub(1)?;
                let row = n - starts[batch];
                let place = (u32::try_from(batch).ok()?, u32::try_from(row).ok()?);
                (row < self.batches[batch].num_rows() as u64 && !self.dead.contains(&place)).then_some(place)
            }
            _ => None,
        }
    }

    /// One own row as a batch.
    pub(super) fn row(&self, (batch, row): Place) -> RecordBatch {
        self.batches[batch as usize].slice(row as usize, 1)
    }

    /// Whether a row of the snapshot is gone.
    pub(super) fn has_deleted(&self, key: KeyRef<'_>) -> bool {
        self.truncated || (!self.deleted.is_empty() && self.deleted.contains(&key.to_owned()))
    }

    /// A row of the snapshot is gone; `false` when it was gone before.
    pub(super) fn end(&mut self, key: Key) -> bool {
        let bytes = bytes_of_key(&key);
        let new = self.deleted.insert(key);
        if new {
            self.bytes += bytes;
        }
        new
    }

    /// Removes an own row and says where it was; `None` when there is none.
    pub(super) fn remove_own(&mut self, key: KeyRef<'_>) -> Option<Place> {
        let place = self.find(key)?;
        match (&mut self.index, key) {
            (Index::Ints(map), KeyRef::Int(k)) => {
                map.remove(&k);
            }
            (Index::Bytes(map), KeyRef::Bytes(k)) => {
                map.remove(k);
            }
            _ => {}
        }
        self.dead.insert(place);
        Some(place)
    }

    /// Takes the latest change back.
    pub(super) fn undo(&mut self, step: UndoStep) {
        match step {
            UndoStep::Ended(key) => {
                if self.deleted.remove(&key) {
                    self.bytes -= bytes_of_key(&key);
                }
            }
            UndoStep::RemovedOwn(key, place) => {
                self.dead.remove(&place);
                match (&mut self.index, key) {
                    (Index::Ints(map), Key::Int(k)) => {
                        map.insert(k, place);
                    }
                    (Index::Bytes(map), Key::Bytes(k)) => {
                        map.insert(k, place);
                    }
                    // Numbers say where their rows are.
                    _ => {}
                }
            }
            UndoStep::Added(keys) => {
                let Some(rows) = self.batches.pop() else { return };
                self.rows -= rows.num_rows() as u64;
                self.bytes -= bytes_of_rows(&rows);
                let gone = self.batches.len();
                let stays = |place: &Place| place.0 as usize != gone;
                match (&mut self.index, keys) {
                    (Index::Rids(starts), _) => {
                        starts.pop();
                    }
                    (Index::Ints(map), Some(Keys::Ints(keys))) => {
                        for key in &keys {
                            map.remove(key);
                        }
                    }
                    (Index::Bytes(map), Some(Keys::Bytes(keys))) => {
                        for key in &keys {
                            map.remove(key);
                        }
                    }
                    (Index::Ints(map), _) => map.retain(|_, place| stays(place)),
                    (Index::Bytes(map), _) => map.retain(|_, place| stays(place)),
                }
            }
        }
    }

    /// The next provisional number.
    fn next_provisional(&self) -> u64 {
        PROVISIONAL + self.rows
    }

    /// User rows as stored rows of a table without a primary key.
    pub(super) fn number(&self, rows: &RecordBatch, stored: &SchemaRef) -> Result<RecordBatch> {
        let first = self.next_provisional();
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        columns.push(Arc::new(UInt64Array::from_iter_values(first..first + rows.num_rows() as u64)));
        Ok(RecordBatch::try_new(Arc::clone(stored), columns)?)
    }

    /// Adds stored rows whose keys are known to be free, and says how to take them away again.
    pub(super) fn add(&mut self, rows: RecordBatch, keys: Option<Keys>) -> Result<Option<UndoStep>> {
        if rows.num_rows() == 0 {
            return Ok(None);
        }
        let too_many = || Error::internal("a transaction has more batches than can be counted");
        let batch = u32::try_from(self.batches.len()).map_err(|_| too_many())?;
        match (&mut self.index, &keys) {
            (Index::Rids(starts), _) => starts.push(self.rows),
            (Index::Ints(map), Some(Keys::Ints(keys))) => {
                map.extend(keys.iter().zip(0u32..).map(|(k, row)| (*k, (batch, row))));
            }
            (Index::Bytes(map), Some(Keys::Bytes(keys))) => {
                map.extend(keys.iter().zip(0u32..).map(|(k, row)| (k.clone(), (batch, row))));
            }
            _ => return Err(Error::internal("rows came with keys of another kind than their table's")),
        }
        self.rows += rows.num_rows() as u64;
        self.bytes += bytes_of_rows(&rows);
        self.batches.push(rows);
        Ok(Some(UndoStep::Added(keys.filter(|k| k.len() <= KEPT_KEYS))))
    }

    /// Own rows that are there, batch by batch.
    pub(super) fn live_batches(&self) -> Result<Vec<RecordBatch>> {
        if self.dead.is_empty() {
            return Ok(self.batches.clone());
        }
        let mut dead: Vec<Place> = self.dead.iter().copied().collect();
        dead.sort_unstable();
        let mut dead = dead.into_iter().peekable();
        let mut live = Vec::with_capacity(self.batches.len());
        for (i, batch) in (0u32..).zip(&self.batches) {
            if dead.peek().is_none_or(|d| d.0 != i) {
                live.push(batch.clone());
                continue;
            }
            let mut keep = vec![true; batch.num_rows()];
            while let Some((_, row)) = dead.next_if(|d| d.0 == i) {
                keep[row as usize] = false;
            }
            let kept = filter_record_batch(batch, &BooleanArray::from(keep))?;
            if kept.num_rows() > 0 {
                live.push(kept);
            }
        }
        Ok(live)
    }

    /// Whether the only changes are new rows.
    pub(super) fn only_adds(&self) -> bool {
        !self.truncated && self.deleted.is_empty()
    }

    /// Bytes of the own rows and of the keys of ended ones, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Own rows that are there as one batch; `None` when there is none.
    pub(super) fn live_rows(&self) -> Result<Option<RecordBatch>> {
        let batches = self.live_batches()?;
        Ok(match batches.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            [first, ..] => Some(concat_batches(&first.schema(), &batches)?),
        })
    }
}

/// With their entries in an index.
fn bytes_of_rows(rows: &RecordBatch) -> usize {
    crate::hot::bytes_of_batch(rows) + rows.num_rows() * KEY_BYTES
}

fn bytes_of_key(key: &Key) -> usize {
    KEY_BYTES
        + match key {
            Key::Int(_) => 0,
            Key::Bytes(bytes) => bytes.len(),
        }
}
