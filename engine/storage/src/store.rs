//! The tables of a database: transactions over them, and what keeps those durable.
//!
//! ```text
//!  Transaction ── insert, update, delete, read ──▶ commit ─┐
//!  Transaction ── …                                        ├─▶ Committer: check · stamp · apply · WAL · one fsync · show
//!  Transaction ── …                                        ┘
//!  Snapshot = (visible timestamp, DbVersion)   DbVersion = table → definition, base, memtables
//! ```
//!
//! See [`committer`] for the order in which a commit becomes durable and visible, [`transaction`] for what a
//! transaction sees of itself, [`provider`] for how a query reads a table at a snapshot.

pub mod transaction;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use triune_common::{Error, Result};

pub use transaction::{Savepoint, Transaction};

use crate::stamp::{CommitTs, TableId};
use crate::table::TableDef;

/// The tables of one open database. Share it behind an `Arc`.
#[derive(Debug)]
pub struct Store {}

/// What an ALTER TABLE does to the rows that are there already.
#[derive(Debug, Clone)]
pub enum SchemaChange {
    /// Names, defaults, checks, comments, options: no row is touched.
    Definition,
    /// A column at the end; rows that exist get this value (of the column's type, may be NULL).
    AddColumn {
        name: String,
        value: datafusion::common::ScalarValue,
    },
    DropColumn {
        name: String,
    },
    RenameColumn {
        from: String,
        to: String,
    },
    /// Every value is cast to the type that the new definition has for the column.
    RetypeColumn {
        name: String,
    },
}

impl Store {
    /// A store that forgets everything when it is dropped.
    pub fn in_memory(clock: Arc<dyn triune_common::Clock>) -> Arc<Self> {
        drop(clock);
        Arc::new(Self {})
    }

    /// Starts a transaction on what is committed now.
    pub fn begin(self: &Arc<Self>) -> Transaction {
        Transaction::new(Arc::clone(self))
    }

    /// A fresh number for a table that is to be created.
    pub fn next_table_id(&self) -> TableId {
        TableId(0)
    }

    /// Makes an empty table. The caller then writes the definition into the catalog.
    pub async fn create_table(&self, def: TableDef) -> Result<()> {
        missing(&def)
    }

    pub async fn drop_table(&self, id: TableId) -> Result<()> {
        missing(&id)
    }

    /// Changes a table's definition, and its rows where the change asks for it. `def` has the next revision.
    /// Concurrent transactions that write the table fail with a conflict.
    pub async fn alter_table(&self, def: TableDef, change: SchemaChange) -> Result<()> {
        missing(&(def, change))
    }

    /// `n` fresh values of an identity column, without gaps within the range; gaps between ranges are possible.
    pub fn next_identity(&self, table: TableId, column: &str, n: u64) -> Result<Vec<Range<i64>>> {
        missing(&(table, column, n))
    }

    /// Moves hot rows of all tables into their bases.
    pub async fn checkpoint(&self) -> Result<()> {
        missing(&())
    }

    /// Rewrites a table's base: small fragments merged, superseded rows dropped, clustering restored.
    pub async fn optimize(&self, table: TableId) -> Result<()> {
        missing(&table)
    }

    /// Deletes files that no version within the retention needs; returns the bytes that became free.
    pub async fn vacuum(&self, table: TableId) -> Result<u64> {
        missing(&table)
    }

    /// The table as it was at the latest commit not after `at`.
    ///
    /// Errors: invalid when `at` is before the table's creation or older than its retention.
    pub async fn provider_at(&self, table: TableId, at: CommitTs) -> Result<Arc<dyn TableProvider>> {
        missing(&(table, at))
    }
}

fn missing<T>(what: &dyn Debug) -> Result<T> {
    Err(Error::unsupported(format!("tables are not supported yet ({what:?})")))
}
