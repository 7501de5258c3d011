//! A transaction: one snapshot, and the changes that nobody else sees yet.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use triune_common::Result;

use super::{Store, missing};
use crate::key::Keys;
use crate::stamp::{CommitTs, TableId};
use crate::table::TableDef;

/// A handle; clones are the same transaction. Dropping the last one without [`Transaction::commit`] rolls back.
#[derive(Debug, Clone)]
pub struct Transaction {
    store: Arc<Store>,
}

/// A point within a transaction to go back to.
#[derive(Debug)]
pub struct Savepoint {}

impl Transaction {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Sees every commit up to here.
    pub fn snapshot_ts(&self) -> CommitTs {
        CommitTs::ZERO
    }

    /// The table's definition at the snapshot.
    pub fn definition(&self, table: TableId) -> Result<Arc<TableDef>> {
        missing(&table)
    }

    /// The table as this transaction sees it now, own changes included; later changes do not show in it.
    /// Its columns are the user's.
    pub fn provider(&self, table: TableId) -> Result<Arc<dyn TableProvider>> {
        missing(&table)
    }

    /// The same with the stored schema: the user's columns, then `_rid` where there is no primary key.
    pub fn provider_with_key(&self, table: TableId) -> Result<Arc<dyn TableProvider>> {
        missing(&table)
    }

    /// Adds rows of the user's schema; NOT NULL and CHECK have been verified by the caller.
    ///
    /// Errors: constraint when a key is taken (by a row of the snapshot, of this transaction, or twice in `rows`);
    /// nothing of `rows` is added then.
    pub async fn insert(&self, table: TableId, rows: RecordBatch) -> Result<u64> {
        missing(&(table, rows.num_rows()))
    }

    /// Adds rows, replacing those that have the same key. Errors: invalid for a table without a primary key.
    pub async fn upsert(&self, table: TableId, rows: RecordBatch) -> Result<u64> {
        missing(&(table, rows.num_rows()))
    }

    /// Removes the rows with these keys and returns how many of them there were; unknown and repeated keys are
    /// passed over.
    pub async fn delete(&self, table: TableId, keys: &Keys) -> Result<u64> {
        missing(&(table, keys.len()))
    }

    /// Puts `rows[i]` (user's schema) in the place of the row with key `old[i]`; a key may change. `old` has no
    /// key twice, each of them visible to this transaction.
    ///
    /// Errors: constraint when a new key is taken by a row that is not itself replaced.
    pub async fn update(&self, table: TableId, old: &Keys, rows: RecordBatch) -> Result<u64> {
        missing(&(table, old.len(), rows.num_rows()))
    }

    /// Whether there is a visible row with each key.
    pub async fn existing(&self, table: TableId, keys: &Keys) -> Result<Vec<bool>> {
        missing(&(table, keys.len()))
    }

    /// The visible rows with these keys (stored schema, order of `keys`, absent ones left out).
    pub async fn get(&self, table: TableId, keys: &Keys) -> Result<RecordBatch> {
        missing(&(table, keys.len()))
    }

    /// Removes all rows; returns how many there were.
    pub async fn truncate(&self, table: TableId) -> Result<u64> {
        missing(&table)
    }

    pub fn savepoint(&self) -> Savepoint {
        Savepoint {}
    }

    /// Forgets the changes since; the savepoint can be used again.
    pub fn roll_back_to(&self, savepoint: &Savepoint) {
        let _ = savepoint;
    }

    pub fn has_changes(&self) -> bool {
        false
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
        missing(&wait)
    }
}
