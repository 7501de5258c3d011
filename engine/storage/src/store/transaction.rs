//! A transaction: one snapshot, and the changes that nobody else sees yet.
//!
//! A row is what its key says: changing a row is ending the version of the key that the snapshot sees and
//! adding another. The transaction finds its own rows first, then those of the snapshot that it has not ended.
//!
//! Limits: own changes are held in memory until the commit, charged to the database's memory pool (`undo`).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datafusion::catalog::TableProvider;
use parking_lot::Mutex;
use triune_common::{Error, ErrorKind, Result, boxed};

use super::Store;
use super::commit::{CommitRequest, Inserts, PendingChange};
use super::load::{LOAD_BYTES, Load};
use super::provider::StoreProvider;
use super::undo::{Changes, Edit, cost_of};
use super::version::{Snapshot, TableVersion, Visible};
use super::writes::{KEY_BYTES, TableWrites};
use crate::key::{KeyRef, Keys};
use crate::stamp::{CommitTs, TableId};
use crate::table::TableDef;

/// A handle; clones are the same transaction. Dropping the last one without [`Transaction::commit`] rolls back.
#[derive(Debug, Clone)]
pub struct Transaction {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    snapshot: Snapshot,
    changes: Mutex<Changes>,
}

/// A point within a transaction to go back to. As long as it lives, the transaction keeps what that takes.
#[derive(Debug)]
pub struct Savepoint {
    transaction: Arc<Inner>,
    number: u64,
}

impl Drop for Savepoint {
    fn drop(&mut self) {
        self.transaction.changes.lock().release(self.number);
    }
}

/// What an insert does when a key is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfTaken {
    Fail,
    Replace,
}

impl Transaction {
    pub(super) fn new(store: Arc<Store>) -> Self {
        let snapshot = store.shared.snapshot();
        let changes = Mutex::new(Changes::new(store.shared.memory.get().cloned()));
        Self { inner: Arc::new(Inner { store, snapshot, changes }) }
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.inner.store
    }

    /// Sees every commit up to here.
    pub fn snapshot_ts(&self) -> CommitTs {
        self.inner.snapshot.ts
    }

    fn version(&self, table: TableId) -> Result<&Arc<TableVersion>> {
        self.inner.snapshot.version.table(table)
    }

    /// The own changes of a table, as they are now. Whoever keeps them makes the next change copy them.
    fn own(&self, table: TableId) -> Option<Arc<TableWrites>> {
        self.inner.changes.lock().table(table).cloned()
    }

    /// Works on a table's own changes: all of the work happens, or nothing of it. `cost`: bytes that it takes.
    fn edit<T>(
        &self,
        version: &TableVersion,
        cost: usize,
        work: impl FnOnce(&mut Edit<'_>) -> Result<T>,
    ) -> Result<T> {
        self.inner.changes.lock().edit(version.def.id, || no_changes(version), cost, work)
    }

    /// The table's definition at the snapshot.
    pub fn definition(&self, table: TableId) -> Result<Arc<TableDef>> {
        Ok(Arc::clone(&self.version(table)?.def))
    }

    /// The table as this transaction sees it now, own changes included; later changes do not show in it.
    /// Its columns are the user's.
    pub fn provider(&self, table: TableId) -> Result<Arc<dyn TableProvider>> {
        let schema = self.version(table)?.def.scan_schema();
        let version = Arc::clone(self.version(table)?);
        Ok(Arc::new(StoreProvider::new(schema, version, self.inner.snapshot.clone(), self.own(table))))
    }

    /// The same with the stored schema: the user's columns, then `_rid` where there is no primary key.
    pub fn provider_with_key(&self, table: TableId) -> Result<Arc<dyn TableProvider>> {
        let schema = self.version(table)?.def.stored_schema();
        let version = Arc::clone(self.version(table)?);
        Ok(Arc::new(StoreProvider::new(schema, version, self.inner.snapshot.clone(), self.own(table))))
    }

    /// Adds rows of the user's schema; NOT NULL and CHECK have been verified by the caller.
    ///
    /// Errors: constraint when a key is taken (by a row of the snapshot, of this transaction, or twice in `rows`);
    /// nothing of `rows` is added then.
    #[boxed]
    pub async fn insert(&self, table: TableId, rows: RecordBatch) -> Result<u64> {
        let version = self.version(table)?;
        self.edit(version, cost_of(&rows), |edit| self.add(version, edit, &rows, IfTaken::Fail))
    }

    /// Adds rows, replacing those that have the same key. Errors: invalid for a table without a primary key,
    /// constraint when a key occurs twice in `rows`.
    #[boxed]
    pub async fn upsert(&self, table: TableId, rows: RecordBatch) -> Result<u64> {
        let version = self.version(table)?;
        if version.def.has_rid() {
            return Err(Error::invalid("a table without a primary key has no rows to replace"));
        }
        self.edit(version, cost_of(&rows), |edit| self.add(version, edit, &rows, IfTaken::Replace))
    }

    fn add(
        &self,
        version: &TableVersion,
        edit: &mut Edit<'_>,
        rows: &RecordBatch,
        if_taken: IfTaken,
    ) -> Result<u64> {
        let stored = version.def.stored_schema();
        let n = rows.num_rows() as u64;
        if version.def.has_rid() {
            let rows = edit.writes().number(rows, &stored)?;
            edit.add(rows, None)?;
            return Ok(n);
        }
        let rows = RecordBatch::try_new(stored, rows.columns().to_vec())?;
        let keys = version.codec.keys_of(&rows)?;
        if let Some((_, second)) = keys.duplicate() {
            let key = version.codec.describe(keys.get(second));
            return Err(Error::new(
                ErrorKind::Constraint,
                format!("duplicate key {key}: it occurs twice among the new rows"),
            ));
        }
        for key in keys.iter() {
            let own = edit.writes().find(key).is_some();
            let taken = own || (!edit.writes().has_deleted(key) && self.sees(version, key));
            if !taken {
                continue;
            }
            if if_taken == IfTaken::Fail {
                return Err(Error::new(
                    ErrorKind::Constraint,
                    format!("duplicate key {}: there is a row with this key", version.codec.describe(key)),
                )
                .with_hint("INSERT … ON CONFLICT DO UPDATE or DO NOTHING says what to do with it"));
            }
            if own {
                edit.remove_own(key);
            } else {
                edit.end(key.to_owned());
            }
        }
        edit.add(rows, Some(keys))?;
        Ok(n)
    }

    /// Whether the snapshot sees a row with this key.
    fn sees(&self, version: &TableVersion, key: KeyRef<'_>) -> bool {
        !matches!(version.visible(key, self.inner.snapshot.ts), Visible::No)
    }

    /// Removes the rows with these keys and returns how many of them there were; unknown and repeated keys are
    /// passed over.
    #[boxed]
    pub async fn delete(&self, table: TableId, keys: &Keys) -> Result<u64> {
        let version = self.version(table)?;
        self.edit(version, cost_of_keys(keys), |edit| Ok(self.remove(version, edit, keys)))
    }

    fn remove(&self, version: &TableVersion, edit: &mut Edit<'_>, keys: &Keys) -> u64 {
        let mut n = 0;
        for key in keys.iter() {
            if edit.remove_own(key) {
                n += 1;
            } else if !edit.writes().has_deleted(key) && self.sees(version, key) {
                edit.end(key.to_owned());
                n += 1;
            }
        }
        n
    }

    /// Puts `rows[i]` (user's schema) in the place of the row with key `old[i]`; a key may change. `old` has no
    /// key twice, each of them visible to this transaction.
    ///
    /// Errors: constraint when a new key is taken by a row that is not itself replaced.
    #[boxed]
    pub async fn update(&self, table: TableId, old: &Keys, rows: RecordBatch) -> Result<u64> {
        let version = self.version(table)?;
        self.edit(version, cost_of(&rows) + cost_of_keys(old), |edit| {
            let removed = self.remove(version, edit, old);
            if removed != rows.num_rows() as u64 {
                return Err(Error::internal(format!("{} rows are to replace {removed}", rows.num_rows())));
            }
            self.add(version, edit, &rows, IfTaken::Fail)?;
            Ok(removed)
        })
    }

    /// Whether there is a visible row with each key.
    #[boxed]
    pub async fn existing(&self, table: TableId, keys: &Keys) -> Result<Vec<bool>> {
        let version = self.version(table)?;
        let own = self.own(table);
        keys.iter()
            .map(|key| match &own {
                Some(own) if own.find(key).is_some() => Ok(true),
                Some(own) if own.has_deleted(key) => Ok(false),
                _ => Ok(self.sees(version, key)),
            })
            .collect()
    }

    /// The visible rows with these keys (stored schema, order of `keys`, absent ones left out).
    #[boxed]
    pub async fn get(&self, table: TableId, keys: &Keys) -> Result<RecordBatch> {
        let version = self.version(table)?;
        let own = self.own(table);
        let mut parts: Vec<Part> = Vec::with_capacity(keys.len());
        let mut addresses = Vec::new();
        for key in keys.iter() {
            if let Some(own) = &own {
                if let Some(place) = own.find(key) {
                    parts.push(Part::Row(own.row(place)));
                    continue;
                }
                if own.has_deleted(key) {
                    continue;
                }
            }
            match version.visible(key, self.inner.snapshot.ts) {
                Visible::Hot(row) => parts.push(Part::Row(row.to_batch())),
                Visible::Base(address) => {
                    parts.push(Part::Fetched(addresses.len()));
                    addresses.push(address);
                }
                Visible::No => {}
            }
        }
        let stored = version.def.stored_schema();
        let fetched = if addresses.is_empty() {
            RecordBatch::new_empty(Arc::clone(&stored))
        } else {
            let all: Vec<usize> = (0..stored.fields().len()).collect();
            match &version.base {
                Some(base) => base.fetch(&addresses, &all).await?,
                None => return Err(Error::internal("a row address without a base")),
            }
        };
        let rows: Vec<RecordBatch> = parts
            .into_iter()
            .map(|p| match p {
                Part::Row(row) => row,
                Part::Fetched(i) => fetched.slice(i, 1),
            })
            .collect();
        if let [one] = rows.as_slice() {
            return Ok(one.clone());
        }
        Ok(concat_batches(&stored, &rows)?)
    }

    /// Removes all rows. Concurrent writers of the table and this transaction exclude each other.
    pub fn truncate(&self, table: TableId) -> Result<()> {
        let version = self.version(table)?;
        self.inner.changes.lock().truncate(table, no_changes(version));
        Ok(())
    }

    pub fn savepoint(&self) -> Savepoint {
        let number = self.inner.changes.lock().savepoint();
        Savepoint { transaction: Arc::clone(&self.inner), number }
    }

    /// Forgets the changes since; the savepoint can be used again, later ones cannot.
    ///
    /// Errors: invalid for a savepoint that is gone, or of another transaction.
    pub fn roll_back_to(&self, savepoint: &Savepoint) -> Result<()> {
        if !Arc::ptr_eq(&self.inner, &savepoint.transaction) {
            return Err(Error::invalid("the savepoint is of another transaction"));
        }
        self.inner.changes.lock().roll_back_to(savepoint.number)
    }

    pub fn has_changes(&self) -> bool {
        self.inner.changes.lock().tables().values().any(|w| !w.is_empty())
    }

    /// Makes the changes durable and visible, all or none.
    ///
    /// `wait` false: returns when they are visible; a power loss within the next moments may undo them
    /// (`SET synchronous_commit = off`).
    ///
    /// Errors: conflict (retryable, SQLSTATE 40001) when a row that this transaction changed was changed by
    /// another one since the snapshot, or a key was taken meanwhile; resources when the disk is full (the
    /// transaction is rolled back, later ones may succeed).
    #[boxed]
    pub async fn commit(self, wait: bool) -> Result<CommitTs> {
        // Charged until it is done.
        let (writes, _memory) = self.inner.changes.lock().take();
        if let Some(load) = self.as_load(&writes)? {
            return Box::pin(self.inner.store.load(load)).await;
        }
        let mut changes = Vec::with_capacity(writes.len());
        for (table, own) in writes.into_iter().filter(|(_, w)| !w.is_empty()) {
            let version = self.version(table)?;
            let rows = own.live_rows()?;
            let own = Arc::unwrap_or_clone(own);
            let inserts = match rows {
                Some(rows) if version.def.has_rid() => Some(Inserts { rows, keys: None }),
                Some(rows) => Some(Inserts { keys: Some(version.codec.keys_of(&rows)?), rows }),
                None => None,
            };
            changes.push(PendingChange {
                table,
                revision: own.revision,
                truncate: own.truncated,
                deletes: keys_of_set(own.deleted, version.codec.kind())?,
                inserts,
                blind: false,
            });
        }
        if changes.is_empty() {
            return Ok(self.snapshot_ts());
        }
        let store = Arc::clone(&self.inner.store);
        store.commit(CommitRequest { snapshot: self.snapshot_ts(), changes, wait }).await
    }
}

impl Transaction {
    /// The changes as a bulk load, if they are one.
    fn as_load(&self, writes: &BTreeMap<TableId, Arc<TableWrites>>) -> Result<Option<Load>> {
        let mut changed = writes.iter().filter(|(_, w)| !w.is_empty());
        let (Some((table, own)), None) = (changed.next(), changed.next()) else { return Ok(None) };
        if !self.inner.store.can_load() || !own.only_adds() || own.bytes() < LOAD_BYTES {
            return Ok(None);
        }
        Ok(Some(Load { table: *table, revision: own.revision, rows: own.live_batches()? }))
    }
}

fn no_changes(version: &TableVersion) -> TableWrites {
    TableWrites::new(version.def.revision, version.def.has_rid(), version.codec.kind())
}

fn cost_of_keys(keys: &Keys) -> usize {
    let bytes = match keys {
        Keys::Ints(_) => 0,
        Keys::Bytes(keys) => keys.iter().map(|k| k.len()).sum(),
    };
    bytes + keys.len() * KEY_BYTES
}

/// One row of a look-up.
enum Part {
    Row(RecordBatch),
    /// Place among the rows that come from the base.
    Fetched(usize),
}

fn keys_of_set(set: std::collections::BTreeSet<crate::key::Key>, kind: crate::key::KeyKind) -> Result<Keys> {
    use crate::key::{Key, KeyKind};
    let wrong = || Error::internal("a key of another kind than its table's");
    match kind {
        KeyKind::Int => set
            .into_iter()
            .map(|k| match k {
                Key::Int(i) => Ok(i),
                Key::Bytes(_) => Err(wrong()),
            })
            .collect::<Result<Vec<_>>>()
            .map(Keys::Ints),
        KeyKind::Bytes => set
            .into_iter()
            .map(|k| match k {
                Key::Bytes(b) => Ok(b),
                Key::Int(_) => Err(wrong()),
            })
            .collect::<Result<Vec<_>>>()
            .map(Keys::Bytes),
    }
}
