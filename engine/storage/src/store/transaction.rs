//! A transaction: one snapshot, and the changes that nobody else sees yet.
//!
//! A row is what its key says: changing a row is ending the version of the key that the snapshot sees and
//! adding another. The transaction finds its own rows first, then those of the snapshot that it has not ended.
//!
//! Limits: own changes are held in memory until the commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datafusion::catalog::TableProvider;
use parking_lot::Mutex;
use triune_common::{Error, ErrorKind, Result};

use super::Store;
use super::commit::{CommitRequest, Inserts, PendingChange};
use super::load::{LOAD_BYTES, Load};
use super::provider::StoreProvider;
use super::version::{Snapshot, TableVersion, Visible};
use super::writes::TableWrites;
use crate::key::{KeyRef, Keys};
use crate::stamp::{CommitTs, TableId};
use crate::table::TableDef;

type Writes = BTreeMap<TableId, Arc<TableWrites>>;

/// A handle; clones are the same transaction. Dropping the last one without [`Transaction::commit`] rolls back.
#[derive(Debug, Clone)]
pub struct Transaction {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    snapshot: Snapshot,
    writes: Mutex<Writes>,
}

/// A point within a transaction to go back to.
#[derive(Debug)]
pub struct Savepoint {
    writes: Writes,
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
        Self { inner: Arc::new(Inner { store, snapshot, writes: Mutex::default() }) }
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

    /// The own changes of a table, as they are now.
    fn own(&self, table: TableId) -> Option<Arc<TableWrites>> {
        self.inner.writes.lock().get(&table).cloned()
    }

    /// A copy of the own changes to work on, put back with [`Self::put`] when all went well.
    fn take_copy(&self, table: TableId, version: &TableVersion) -> TableWrites {
        match self.own(table) {
            Some(own) => own.as_ref().clone(),
            None => TableWrites::new(version.def.revision, version.def.has_rid(), version.codec.kind()),
        }
    }

    fn put(&self, table: TableId, writes: TableWrites) {
        self.inner.writes.lock().insert(table, Arc::new(writes));
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
    #[expect(clippy::unused_async, reason = "large inserts will go to the base, which is asynchronous")]
    pub async fn insert(&self, table: TableId, rows: RecordBatch) -> Result<u64> {
        let version = Arc::clone(self.version(table)?);
        // A failed insert changes nothing, so that there is no need to work on a copy: many inserts in one
        // transaction would copy what the earlier ones left each time.
        let own = self.inner.writes.lock().remove(&table);
        let mut writes = match own {
            Some(own) => Arc::unwrap_or_clone(own),
            None => TableWrites::new(version.def.revision, version.def.has_rid(), version.codec.kind()),
        };
        let added = self.add(&version, &mut writes, &rows, IfTaken::Fail);
        self.put(table, writes);
        added
    }

    /// Adds rows, replacing those that have the same key. Errors: invalid for a table without a primary key,
    /// constraint when a key occurs twice in `rows`.
    #[expect(clippy::unused_async, reason = "the interface of insert")]
    pub async fn upsert(&self, table: TableId, rows: RecordBatch) -> Result<u64> {
        let version = Arc::clone(self.version(table)?);
        if version.def.has_rid() {
            return Err(Error::invalid("a table without a primary key has no rows to replace"));
        }
        let mut writes = self.take_copy(table, &version);
        let n = self.add(&version, &mut writes, &rows, IfTaken::Replace)?;
        self.put(table, writes);
        Ok(n)
    }

    fn add(
        &self,
        version: &TableVersion,
        writes: &mut TableWrites,
        rows: &RecordBatch,
        if_taken: IfTaken,
    ) -> Result<u64> {
        let stored = version.def.stored_schema();
        let n = rows.num_rows() as u64;
        if version.def.has_rid() {
            let rows = writes.number(rows, &stored)?;
            writes.add(rows, None)?;
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
            let own = writes.find(key).is_some();
            let taken = own || (!writes.has_deleted(key) && self.sees(version, key));
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
                writes.remove_own(key);
            } else {
                writes.deleted.insert(key.to_owned());
            }
        }
        writes.add(rows, Some(&keys))?;
        Ok(n)
    }

    /// Whether the snapshot sees a row with this key.
    fn sees(&self, version: &TableVersion, key: KeyRef<'_>) -> bool {
        !matches!(version.visible(key, self.inner.snapshot.ts), Visible::No)
    }

    /// Removes the rows with these keys and returns how many of them there were; unknown and repeated keys are
    /// passed over.
    #[expect(clippy::unused_async, reason = "the interface of insert")]
    pub async fn delete(&self, table: TableId, keys: &Keys) -> Result<u64> {
        let version = Arc::clone(self.version(table)?);
        let mut writes = self.take_copy(table, &version);
        let n = self.remove(&version, &mut writes, keys);
        self.put(table, writes);
        Ok(n)
    }

    fn remove(&self, version: &TableVersion, writes: &mut TableWrites, keys: &Keys) -> u64 {
        let mut n = 0;
        for key in keys.iter() {
            if writes.remove_own(key) {
                n += 1;
            } else if !writes.has_deleted(key) && self.sees(version, key) {
                writes.deleted.insert(key.to_owned());
                n += 1;
            }
        }
        n
    }

    /// Puts `rows[i]` (user's schema) in the place of the row with key `old[i]`; a key may change. `old` has no
    /// key twice, each of them visible to this transaction.
    ///
    /// Errors: constraint when a new key is taken by a row that is not itself replaced.
    #[expect(clippy::unused_async, reason = "the interface of insert")]
    pub async fn update(&self, table: TableId, old: &Keys, rows: RecordBatch) -> Result<u64> {
        let version = Arc::clone(self.version(table)?);
        let mut writes = self.take_copy(table, &version);
        let removed = self.remove(&version, &mut writes, old);
        if removed != rows.num_rows() as u64 {
            return Err(Error::internal(format!("{} rows are to replace {removed}", rows.num_rows())));
        }
        self.add(&version, &mut writes, &rows, IfTaken::Fail)?;
        self.put(table, writes);
        Ok(removed)
    }

    /// Whether there is a visible row with each key.
    #[expect(clippy::unused_async, reason = "the interface of insert")]
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
        let version = Arc::clone(self.version(table)?);
        let mut writes = self.take_copy(table, &version);
        writes.truncate();
        self.put(table, writes);
        Ok(())
    }

    pub fn savepoint(&self) -> Savepoint {
        Savepoint { writes: self.inner.writes.lock().clone() }
    }

    /// Forgets the changes since; the savepoint can be used again.
    pub fn roll_back_to(&self, savepoint: &Savepoint) {
        *self.inner.writes.lock() = savepoint.writes.clone();
    }

    pub fn has_changes(&self) -> bool {
        self.inner.writes.lock().values().any(|w| !w.is_empty())
    }

    /// Makes the changes durable and visible, all or none.
    ///
    /// `wait` false: returns when they are visible; a power loss within the next moments may undo them
    /// (`SET synchronous_commit = off`).
    ///
    /// Errors: conflict (retryable, SQLSTATE 40001) when a row that this transaction changed was changed by
    /// another one since the snapshot, or a key was taken meanwhile; resources when the disk is full (the
    /// transaction is rolled back, later ones may succeed).
    pub async fn commit(self, wait: bool) -> Result<CommitTs> {
        let writes = std::mem::take(&mut *self.inner.writes.lock());
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
    fn as_load(&self, writes: &Writes) -> Result<Option<Load>> {
        let mut changed = writes.iter().filter(|(_, w)| !w.is_empty());
        let (Some((table, own)), None) = (changed.next(), changed.next()) else { return Ok(None) };
        if !self.inner.store.can_load() || !own.only_adds() || own.bytes() < LOAD_BYTES {
            return Ok(None);
        }
        Ok(Some(Load { table: *table, revision: own.revision, rows: own.live_batches()? }))
    }
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
