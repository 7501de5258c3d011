//! A transaction's own changes, and the way back.
//!
//! ```text
//!  own rows of table 7      log                           savepoints
//!  ───────────────────      ───────────────────────────   ──────────
//!  batch 0, batch 1, …      Added · Ended · RemovedOwn …   a ▸ 0
//!                           Added · …                      b ▸ 3     going back to b takes back what follows the third
//! ```
//!
//! A change is made in place and what takes it back is noted, so that a statement costs what it changes and not what
//! the transaction has changed before. Nothing is kept when nobody can go back: outside of `BEGIN … COMMIT` the log is
//! empty between two calls.
//!
//! Who reads own rows holds them with an `Arc`; a change that meets such a reader works on a copy.
//!
//! Own changes are charged to the memory pool of the database before they are taken, from [`FREE`] bytes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use triune_common::{Error, ErrorKind, Result};

use super::writes::{KEY_BYTES, TableWrites, UndoStep};
use crate::key::{Key, KeyRef, Keys};
use crate::stamp::TableId;

/// Own changes up to here are not worth asking the pool about.
const FREE: usize = 64 << 10;

/// What one step of the log takes back.
#[derive(Debug)]
enum Step {
    In(UndoStep),
    /// The table was emptied; this is what there was.
    Truncated(Arc<TableWrites>),
}

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Changes {
    tables: BTreeMap<TableId, Arc<TableWrites>>,
    log: Vec<(TableId, Step)>,
    /// Bytes of rows that only the log holds.
    logged: usize,
    /// Savepoints that are alive, oldest first: number, length of the log at that time.
    savepoints: Vec<(u64, usize)>,
    next_savepoint: u64,
    pool: Option<Arc<dyn MemoryPool>>,
    reservation: Option<MemoryReservation>,
}

/// One table's own changes while an operation works on them.
pub(super) struct Edit<'a> {
    table: TableId,
    writes: &'a mut TableWrites,
    log: &'a mut Vec<(TableId, Step)>,
}

impl Edit<'_> {
    pub(super) fn writes(&self) -> &TableWrites {
        self.writes
    }

    fn note(&mut self, step: UndoStep) {
        self.log.push((self.table, Step::In(step)));
    }

    /// A row of the snapshot is gone.
    pub(super) fn end(&mut self, key: Key) {
        if self.writes.end(key.clone()) {
            self.note(UndoStep::Ended(key));
        }
    }

    /// Removes an own row; `false` when there is none.
    pub(super) fn remove_own(&mut self, key: KeyRef<'_>) -> bool {
        let Some(place) = self.writes.remove_own(key) else { return false };
        self.note(UndoStep::RemovedOwn(key.to_owned(), place));
        true
    }

    /// Adds stored rows whose keys are known to be free.
    pub(super) fn add(&mut self, rows: RecordBatch, keys: Option<Keys>) -> Result<()> {
        if let Some(step) = self.writes.add(rows, keys)? {
            self.note(step);
        }
        Ok(())
    }
}

impl Changes {
    pub(super) fn new(pool: Option<Arc<dyn MemoryPool>>) -> Self {
        Self { pool, ..Self::default() }
    }

    pub(super) fn table(&self, table: TableId) -> Option<&Arc<TableWrites>> {
        self.tables.get(&table)
    }

    pub(super) fn tables(&self) -> &BTreeMap<TableId, Arc<TableWrites>> {
        &self.tables
    }

    /// Everything, to be committed; what is left has no changes and no savepoints. The second keeps the memory
    /// reserved as long as it lives.
    pub(super) fn take(&mut self) -> (BTreeMap<TableId, Arc<TableWrites>>, Option<MemoryReservation>) {
        let taken = std::mem::replace(self, Self::new(self.pool.clone()));
        // Numbers of savepoints are not given out twice.
        self.next_savepoint = taken.next_savepoint;
        (taken.tables, taken.reservation)
    }

    /// Works on a table's changes: all of the work happens, or nothing of it.
    ///
    /// `cost`: bytes that the work will take at most.
    pub(super) fn edit<T>(
        &mut self,
        table: TableId,
        none: impl FnOnce() -> TableWrites,
        cost: usize,
        work: impl FnOnce(&mut Edit<'_>) -> Result<T>,
    ) -> Result<T> {
        self.reserve(cost)?;
        let start = self.log.len();
        let writes = Arc::make_mut(self.tables.entry(table).or_insert_with(|| Arc::new(none())));
        let done = work(&mut Edit { table, writes, log: &mut self.log });
        if done.is_err() {
            self.undo_to(start);
        }
        self.settle();
        done
    }

    /// All rows of a table are gone.
    pub(super) fn truncate(&mut self, table: TableId, none: TableWrites) {
        let emptied = none.emptied();
        let old = self.tables.insert(table, Arc::new(emptied)).unwrap_or_else(|| Arc::new(none));
        self.logged += old.bytes();
        self.log.push((table, Step::Truncated(old)));
        self.settle();
    }

    fn undo_to(&mut self, length: usize) {
        while self.log.len() > length {
            let Some((table, step)) = self.log.pop() else { return };
            match step {
                Step::Truncated(old) => {
                    self.logged -= old.bytes();
                    self.tables.insert(table, old);
                }
                Step::In(step) => {
                    if let Some(writes) = self.tables.get_mut(&table) {
                        Arc::make_mut(writes).undo(step);
                    }
                }
            }
        }
    }

    pub(super) fn savepoint(&mut self) -> u64 {
        let number = self.next_savepoint;
        self.next_savepoint += 1;
        self.savepoints.push((number, self.log.len()));
        number
    }

    /// Takes back what was changed since; later savepoints are gone, this one can be used again.
    pub(super) fn roll_back_to(&mut self, savepoint: u64) -> Result<()> {
        let Some(at) = self.savepoints.iter().position(|(n, _)| *n == savepoint) else {
            return Err(Error::invalid(
                "the savepoint is gone: the transaction ended or went back before it",
            ));
        };
        self.savepoints.truncate(at + 1);
        self.undo_to(self.savepoints[at].1);
        self.settle();
        Ok(())
    }

    /// Nobody will go back there any more.
    pub(super) fn release(&mut self, savepoint: u64) {
        self.savepoints.retain(|(n, _)| *n != savepoint);
        self.settle();
    }

    fn bytes(&self) -> usize {
        self.logged + self.tables.values().map(|t| t.bytes()).sum::<usize>()
    }

    /// Asks for memory before it is used.
    fn reserve(&mut self, more: usize) -> Result<()> {
        let Some(pool) = &self.pool else { return Ok(()) };
        let wanted = self.bytes() + more;
        if wanted <= FREE {
            return Ok(());
        }
        let reservation = self
            .reservation
            .get_or_insert_with(|| MemoryConsumer::new("changes of a transaction").register(pool));
        if wanted <= reservation.size() {
            return Ok(());
        }
        reservation.try_resize(wanted).map_err(|e| {
            Error::new(
                ErrorKind::Resources,
                format!(
                    "the changes of a transaction need {wanted} bytes, more than there is memory for: {e}"
                ),
            )
            .with_hint("commit more often, or raise memory_limit")
        })
    }

    /// Forgets a log that nobody needs and gives back memory that is not used.
    fn settle(&mut self) {
        if self.savepoints.is_empty() {
            self.log.clear();
            self.logged = 0;
        }
        if self.reservation.is_some() {
            let bytes = self.bytes();
            if let Some(reservation) = &mut self.reservation {
                // Shrinking only: what is used was asked for.
                reservation.resize(bytes.min(reservation.size()));
            }
        }
    }
}

/// Bytes that rows with their keys take at most.
pub(super) fn cost_of(rows: &RecordBatch) -> usize {
    crate::hot::bytes_of_batch(rows) + rows.num_rows() * 2 * KEY_BYTES
}

#[cfg(test)]
mod tests;
