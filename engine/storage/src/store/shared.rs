//! What transactions, the committer and maintenance share.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};

use chrono::{DateTime, Utc};
use datafusion::execution::memory_pool::MemoryPool;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use triune_common::{Clock, Rng};
use triune_lance::LanceStore;

use super::indexes::IndexWork;
use super::keeper::Rounds;
use super::maintenance::{Gauge, Limits};
use super::readers::{Reader, Superseded};
use super::remote::Remote;
use super::version::{DbVersion, Pins, Snapshot};
use crate::base::Base;
use crate::fs::StorageFs;
use crate::stamp::{CommitTs, TableId};

/// So many replaced states of tables are remembered, each some hundred bytes.
const RECENT: usize = 4096;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Shared {
    current: RwLock<Current>,
    pub(super) pins: Arc<Pins>,
    pub(super) clock: Arc<dyn Clock>,
    /// `None`: in memory only.
    pub(super) place: Option<Place>,
    /// Held while bases are being written: checkpoints, bulk loads, rewrites, changes of schema.
    pub(super) bases: tokio::sync::Mutex<()>,
    /// Bases that somebody may read, with what they name on disk.
    alive: Mutex<Vec<(TableId, Weak<Base>)>>,
    /// Tables that were dropped and whose files are still there.
    pub(super) dropped: Mutex<Vec<TableId>>,
    /// What was published a short time ago, oldest first.
    recent: Mutex<VecDeque<Superseded>>,
    /// What the keeper has seen of the tables.
    pub(super) rounds: Mutex<Rounds>,
    /// Of a read-only store: what it has announced, as long as somebody reads that version.
    readers: Mutex<Vec<(Weak<DbVersion>, Reader)>>,
    /// Tables whose rows are being rewritten: commits to them wait.
    blocked: Mutex<HashSet<TableId>>,
    unblocked: Notify,
    pub(super) limits: Limits,
    pub(super) gauge: Gauge,
    /// Indexes that are being built, and what is known of the others.
    pub(super) index_work: IndexWork,
    /// What own changes of transactions are charged to.
    pub(super) memory: OnceLock<Arc<dyn MemoryPool>>,
}

/// Where a database keeps its files.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) fs: Arc<dyn StorageFs>,
    /// The folder of `state.json`, the WAL and the key files.
    pub(super) folder: PathBuf,
    pub(super) lance: Arc<LanceStore>,
    pub(super) rng: Arc<dyn Rng>,
    /// What there is besides, when the folder is in an object store.
    pub(super) remote: Option<Remote>,
}

/// The visible timestamp and the version that belongs to it; read and changed together.
#[derive(Debug)]
struct Current {
    visible: CommitTs,
    version: Arc<DbVersion>,
}

impl Shared {
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        place: Option<Place>,
        limits: Limits,
        visible: CommitTs,
        version: Arc<DbVersion>,
    ) -> Self {
        Self {
            current: RwLock::new(Current { visible, version }),
            pins: Arc::default(),
            clock,
            place,
            bases: tokio::sync::Mutex::new(()),
            alive: Mutex::default(),
            dropped: Mutex::default(),
            recent: Mutex::default(),
            rounds: Mutex::default(),
            readers: Mutex::default(),
            blocked: Mutex::default(),
            unblocked: Notify::new(),
            limits,
            gauge: Gauge::default(),
            index_work: IndexWork::default(),
            memory: OnceLock::new(),
        }
    }

    /// What a statement that starts now sees.
    pub(super) fn snapshot(&self) -> Snapshot {
        let current = self.current.read();
        // Pinned under the lock: nobody may find the moment unneeded before it is known to be needed.
        let pin = self.pins.pin(current.visible);
        Snapshot { ts: current.visible, version: Arc::clone(&current.version), _pin: pin }
    }

    pub(super) fn current(&self) -> (CommitTs, Arc<DbVersion>) {
        let current = self.current.read();
        (current.visible, Arc::clone(&current.version))
    }

    /// Shows commits up to `visible`. The committer alone calls this.
    pub(super) fn show(&self, visible: CommitTs, version: &Arc<DbVersion>) {
        let mut current = self.current.write();
        current.visible = visible;
        if !Arc::ptr_eq(&current.version, version) {
            current.version = Arc::clone(version);
        }
    }

    pub(super) fn hot_bytes(&self) -> usize {
        let (_, version) = self.current();
        version.tables.values().map(|t| t.hot_bytes()).sum()
    }

    /// When the oldest row of the hot store was committed.
    pub(super) fn oldest_hot(&self) -> Option<CommitTs> {
        let (_, version) = self.current();
        version.tables.values().flat_map(|t| &t.memtables).filter_map(|m| m.first_ts()).min()
    }

    /// Remembers a base until nobody reads it any more: VACUUM leaves its files alone.
    pub(super) fn track(&self, table: TableId, base: &Arc<Base>) {
        let mut alive = self.alive.lock();
        alive.retain(|(_, base)| base.strong_count() > 0);
        alive.push((table, Arc::downgrade(base)));
    }

    /// The bases of a table that somebody reads.
    pub(super) fn alive(&self, table: TableId) -> Vec<Arc<Base>> {
        self.alive.lock().iter().filter(|(t, _)| *t == table).filter_map(|(_, b)| b.upgrade()).collect()
    }

    /// Remembers what a newer state has replaced.
    pub(super) fn supersede(&self, parts: Vec<Superseded>) {
        let mut recent = self.recent.lock();
        recent.extend(parts);
        let excess = recent.len().saturating_sub(RECENT);
        recent.drain(..excess);
    }

    /// What was published until less than the limits' grace ago.
    pub(super) fn recent(&self, now: DateTime<Utc>) -> Vec<Superseded> {
        let grace = self.limits.reader_grace;
        let mut recent = self.recent.lock();
        recent.retain(|r| (now - r.at).to_std().unwrap_or_default() < grace);
        recent.iter().cloned().collect()
    }

    /// Keeps an announcement as long as its version is read.
    pub(super) fn announce(&self, version: &Arc<DbVersion>, reader: Option<Reader>) {
        let mut readers = self.readers.lock();
        readers.retain(|(version, _)| version.strong_count() > 0);
        readers.extend(reader.map(|r| (Arc::downgrade(version), r)));
    }

    /// Holds up commits to a table until the answer is dropped.
    pub(super) fn block(self: &Arc<Self>, table: TableId) -> Blocked {
        self.blocked.lock().insert(table);
        Blocked { shared: Arc::clone(self), table }
    }

    /// Returns when none of these tables is blocked.
    pub(super) async fn wait_unblocked(&self, tables: impl Fn() -> Vec<TableId>) {
        loop {
            let unblocked = self.unblocked.notified();
            let free = {
                let blocked = self.blocked.lock();
                blocked.is_empty() || !tables().iter().any(|t| blocked.contains(t))
            };
            if free {
                return;
            }
            unblocked.await;
        }
    }
}

/// A table is blocked as long as this lives.
#[derive(Debug)]
pub(super) struct Blocked {
    shared: Arc<Shared>,
    table: TableId,
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.shared.blocked.lock().remove(&self.table);
        self.shared.unblocked.notify_waiters();
    }
}
