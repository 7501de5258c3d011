//! The tables of a database: transactions over them, and what keeps those durable.
//!
//! ```text
//!  Transaction ── insert, update, delete, read ──▶ commit ─┐
//!  Transaction ── …                                        ├─▶ Committer: check · stamp · apply · WAL · one fsync · show
//!  Transaction ── …                                        ┘
//!  Snapshot = (visible timestamp, DbVersion)   DbVersion = table → definition, base, memtables
//! ```
//!
//! See `committer` for the order in which a commit becomes durable and visible, `transaction` for what a
//! transaction sees of itself, `provider` for how a query reads a table at a snapshot, `checkpoint` for how
//! rows move to the base, and `recovery` for what opening does.

mod checkpoint;
mod commit;
mod committer;
mod driver;
mod history;
mod identity;
mod indexes;
mod keeper;
mod load;
mod lookup;
mod maintenance;
mod optimize;
mod provider;
mod readers;
mod recovery;
mod remote;
mod schema;
mod shared;
mod state;
pub mod transaction;
mod undo;
mod version;
mod writes;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::execution::memory_pool::MemoryPool;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use triune_common::{Clock, Error, Result, Rng, boxed};
use triune_lance::LanceStore;

pub use history::VersionInfo;
pub use indexes::{IndexInfo, IndexProgressInfo, IndexState};
pub use maintenance::{Limits, MaintenanceInfo};
pub use provider::StoreProvider;
pub use schema::{Fill, FillColumn, SchemaChange};
pub use transaction::{Savepoint, Transaction};
pub use version::{DbVersion, Snapshot, TableVersion};

use crate::base::{Base, BaseState, BaseTable};
use crate::fs::StorageFs;
use crate::stamp::{CommitTs, TableId};
use crate::table::TableDef;
use commit::CommitRequest;
use committer::{Committer, Request};
use driver::Driver;
use remote::Remote;
use shared::{Place, Shared};
use version::Counters;

/// The tables of one open database. Share it behind an `Arc`.
///
/// Dropping it waits for commits that are under way and makes those durable that did not wait; hot rows stay in
/// the WAL and are there again when the database is opened.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    driver: Driver,
    /// Given back when the committer has ended.
    _right: Option<remote::Returned>,
    next_table: AtomicU64,
    keeper: Mutex<Option<tokio::task::JoinHandle<()>>>,
    indexer: Mutex<Option<indexes::Indexer>>,
    /// Keeps other processes from writing.
    _lock: Option<crate::lock::WriterLock>,
    /// Why nothing can be written, where that is so.
    read_only: Option<Error>,
}

/// Where a store keeps its files, and with what it works.
#[derive(Debug)]
pub struct StoreOptions {
    pub fs: Arc<dyn StorageFs>,
    pub folder: PathBuf,
    pub lance: Arc<LanceStore>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    /// The catalog's definitions. Tables of the storage that are not among them were dropped.
    pub definitions: Vec<TableDef>,
    pub limits: Limits,
    /// `false`: requests are handled by whoever makes them, for simulations.
    pub thread: bool,
}

impl Store {
    /// A store that forgets everything when it is dropped.
    pub fn in_memory(clock: Arc<dyn Clock>) -> Result<Arc<Self>> {
        let version = Arc::new(DbVersion::default());
        let shared =
            Arc::new(Shared::new(clock, None, Limits::default(), CommitTs::ZERO, Arc::clone(&version)));
        let committer = Committer::new(Arc::clone(&shared), None, version, CommitTs::ZERO);
        let driver = Driver::thread(committer)?;
        Ok(Arc::new(Self {
            shared,
            driver,
            _right: None,
            next_table: AtomicU64::new(1),
            keeper: Mutex::default(),
            indexer: Mutex::default(),
            _lock: None,
            read_only: None,
        }))
    }

    /// A store without tables in which none can be made, for databases in places that cannot keep them.
    pub fn without_tables(clock: Arc<dyn Clock>, why: Error) -> Result<Arc<Self>> {
        let version = Arc::new(DbVersion::default());
        let shared =
            Arc::new(Shared::new(clock, None, Limits::default(), CommitTs::ZERO, Arc::clone(&version)));
        let committer = Committer::new(Arc::clone(&shared), None, version, CommitTs::ZERO);
        let driver = Driver::inline(committer);
        let next_table = AtomicU64::new(1);
        Ok(Arc::new(Self {
            shared,
            driver,
            _right: None,
            next_table,
            keeper: Mutex::default(),
            indexer: Mutex::default(),
            _lock: None,
            read_only: Some(why),
        }))
    }

    /// Errors when nothing can be written here.
    fn check_writable(&self) -> Result<()> {
        match &self.read_only {
            None => Ok(()),
            Some(e) => {
                let copy = Error::new(e.kind(), e.message());
                Err(match e.hint() {
                    Some(hint) => copy.with_hint(hint),
                    None => copy,
                })
            }
        }
    }

    /// The pool that changes of transactions are charged to before they are taken; without one they are not counted.
    /// Only the first call has an effect.
    pub fn charge(&self, pool: Arc<dyn MemoryPool>) {
        // A second database on one store does not exist.
        drop(self.shared.memory.set(pool));
    }

    /// Starts a transaction on what is committed now.
    pub fn begin(self: &Arc<Self>) -> Transaction {
        Transaction::new(Arc::clone(self))
    }

    /// What a statement that starts now sees.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// The definition that rows are written for now; it is newer than the catalog's after a crash between the two.
    pub fn definition(&self, table: TableId) -> Option<Arc<TableDef>> {
        let (_, version) = self.shared.current();
        version.tables.get(&table).map(|t| Arc::clone(&t.def))
    }

    /// A fresh number for a table that is to be created.
    pub fn next_table_id(&self) -> TableId {
        TableId(self.next_table.fetch_add(1, Ordering::SeqCst))
    }

    fn next_table(&self) -> u64 {
        self.next_table.load(Ordering::SeqCst)
    }

    /// Makes an empty table. The caller then writes the definition, with the moment that it was given here, into the
    /// catalog; a table that is in no catalog is gone after the next opening, with all its rows.
    #[boxed]
    pub async fn create_table(&self, def: TableDef) -> Result<TableDef> {
        self.check_writable()?;
        let mut table = empty_table(def, self.shared.place.as_ref())?;
        self.driver
            .run(move |committer| {
                committer.check_writable()?;
                committer.last = CommitTs::after(committer.last, committer.shared.clock.now());
                let def = TableDef { created: committer.last, ..table.def.as_ref().clone() };
                table.def = Arc::new(def.clone());
                committer.version = Arc::new(committer.version.with(table));
                committer.publish();
                Ok(def)
            })
            .await
    }

    /// Takes a table away. Its files stay as long as a snapshot may read them.
    #[boxed]
    pub async fn drop_table(&self, id: TableId) -> Result<()> {
        self.check_writable()?;
        self.driver
            .run(move |committer| {
                committer.version = Arc::new(committer.version.without(id));
                committer.publish();
                Ok(())
            })
            .await?;
        self.shared.dropped.lock().push(id);
        Ok(())
    }

    async fn commit(&self, commit: CommitRequest) -> Result<CommitTs> {
        self.check_writable()?;
        self.admit().await;
        let tables = || commit.changes.iter().map(|c| c.table).collect();
        self.shared.wait_unblocked(tables).await;
        let (reply, answer) = oneshot::channel();
        self.driver.send(Request::Commit(Box::new(commit), reply))?;
        answer.await.map_err(|_| Error::internal("the committer ended without an answer"))?
    }

    /// Bytes of all hot rows with their indexes.
    pub fn hot_bytes(&self) -> usize {
        self.shared.hot_bytes()
    }
}

/// A table without rows.
fn empty_table(def: TableDef, place: Option<&Place>) -> Result<TableVersion> {
    let base = match place {
        Some(place) => Some(Base::empty(&place.base_table(&def, def.revision)?, place.empty_base())?),
        None => None,
    };
    let mut table = TableVersion {
        codec: Arc::new(def.key_codec()?),
        rows_revision: def.revision,
        def: Arc::new(def),
        base,
        applied: CommitTs::ZERO,
        since: CommitTs::ZERO,
        memtables: Vec::new(),
        counters: Arc::new(Counters::default()),
    };
    table.memtables.push(Arc::new(table.new_memtable()));
    Ok(table)
}

impl Place {
    /// The state of a base without rows.
    fn empty_base(&self) -> BaseState {
        self.own_files(BaseState::empty(self.rng.as_ref()))
    }

    /// A state whose next files have names that no other writer gives.
    fn own_files(&self, base: BaseState) -> BaseState {
        let first = self.remote.as_ref().map_or(0, Remote::first_file);
        BaseState { next_file: base.next_file.max(first), ..base }
    }

    /// Where the rows of a table are since a revision: `tables/7`, and `tables/7.3` after an ALTER that rewrote it.
    fn base_table(&self, def: &TableDef, rows_revision: u64) -> Result<Arc<BaseTable>> {
        let name = match rows_revision {
            0 | 1 => def.id.to_string(),
            revision => format!("{}.{revision}", def.id),
        };
        let folder = self.folder.join("tables").join(name);
        BaseTable::new(&folder, def, Arc::clone(&self.lance), Arc::clone(&self.fs))
    }
}
