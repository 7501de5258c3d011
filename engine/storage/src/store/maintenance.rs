//! The keeper: checkpoints, merges and cleans by itself, within limits, and slows writers that outrun it.
//!
//! ```text
//!  hot bytes   0 ────────── half the limit ────────── limit
//!              commits run freely │ a checkpoint starts │ commits wait until it has made room
//! ```
//!
//! Besides it merges fragments and removes files ([`super::keeper`]).
//!
//! A commit that waits holds nothing; it is never refused for being too fast. What the keeper does and what
//! went wrong last is shown in `system.maintenance`.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Store;

/// How often the keeper looks by itself.
const LOOK: Duration = Duration::from_secs(1);

/// Limits within which the keeper works.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Commits wait while hot rows and their indexes take more bytes than this.
    pub hot_bytes: usize,
    /// A checkpoint starts when the WAL is longer, in bytes.
    pub wal_bytes: u64,
    /// A checkpoint starts when the oldest hot row is older.
    pub hot_age: Duration,
    /// So many small fragments of like size are merged.
    pub small_fragments: usize,
    /// Fragments that have lost this share of their rows are written anew.
    pub deleted_share: f64,
    /// The keeper leaves files alone for so long after a newer state was published, for readers in other
    /// processes that could not announce themselves.
    pub reader_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hot_bytes: 512 << 20,
            wal_bytes: 1 << 30,
            hot_age: Duration::from_secs(300),
            small_fragments: 8,
            deleted_share: 0.2,
            reader_grace: Duration::from_secs(600),
        }
    }
}

/// What maintenance knows of itself.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// Bytes of hot rows, as of the latest group of commits.
    pub(super) hot_bytes: AtomicUsize,
    pub(super) wal_bytes: AtomicU64,
    pub(super) checkpoints: AtomicU64,
    /// Commits that had to wait for room.
    pub(super) slowed: AtomicU64,
    /// Tables' fragments merged by the keeper.
    pub(super) merges: AtomicU64,
    /// Bytes that VACUUM has freed.
    pub(super) freed: AtomicU64,
    pub(super) last: Mutex<Last>,
    /// Somebody wants a checkpoint.
    pub(super) wanted: Notify,
    /// A checkpoint ended, well or not.
    pub(super) relieved: Notify,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Last {
    pub(super) checkpoint: Option<DateTime<Utc>>,
    pub(super) merge: Option<DateTime<Utc>>,
    pub(super) vacuum: Option<DateTime<Utc>>,
    pub(super) error: Option<String>,
}

/// A line of `system.maintenance`.
#[derive(Debug, Clone)]
pub struct MaintenanceInfo {
    pub hot_bytes: u64,
    pub hot_bytes_limit: u64,
    pub wal_bytes: u64,
    pub wal_bytes_limit: u64,
    /// The oldest commit that is in the log and in memory only.
    pub oldest_hot: Option<DateTime<Utc>>,
    pub checkpoints: u64,
    pub last_checkpoint: Option<DateTime<Utc>>,
    pub slowed_commits: u64,
    pub merges: u64,
    pub last_merge: Option<DateTime<Utc>>,
    pub freed_bytes: u64,
    pub last_vacuum: Option<DateTime<Utc>>,
    pub last_error: Option<String>,
}

impl Store {
    /// What the keeper has done and how full the hot store is.
    pub fn maintenance(&self) -> MaintenanceInfo {
        let gauge = &self.shared.gauge;
        let last = gauge.last.lock().clone();
        MaintenanceInfo {
            hot_bytes: self.hot_bytes() as u64,
            hot_bytes_limit: self.shared.limits.hot_bytes as u64,
            wal_bytes: gauge.wal_bytes.load(Ordering::Relaxed),
            wal_bytes_limit: self.shared.limits.wal_bytes,
            oldest_hot: self.shared.oldest_hot().map(|ts| ts.time()),
            checkpoints: gauge.checkpoints.load(Ordering::Relaxed),
            last_checkpoint: last.checkpoint,
            slowed_commits: gauge.slowed.load(Ordering::Relaxed),
            merges: gauge.merges.load(Ordering::Relaxed),
            last_merge: last.merge,
            freed_bytes: gauge.freed.load(Ordering::Relaxed),
            last_vacuum: last.vacuum,
            last_error: last.error,
        }
    }

    /// Waits while the hot store is over its limit.
    pub(super) async fn admit(&self) {
        let gauge = &self.shared.gauge;
        let limit = self.shared.limits.hot_bytes;
        if self.shared.place.is_none() {
            return;
        }
        let hot = gauge.hot_bytes.load(Ordering::Relaxed);
        if hot > limit / 2 {
            gauge.wanted.notify_one();
        }
        if hot <= limit {
            return;
        }
        gauge.slowed.fetch_add(1, Ordering::Relaxed);
        loop {
            let relieved = gauge.relieved.notified();
            if gauge.hot_bytes.load(Ordering::Relaxed) <= limit {
                return;
            }
            gauge.wanted.notify_one();
            // A keeper that is gone (its runtime ended) must not hold writers for ever.
            if tokio::time::timeout(LOOK, relieved).await.is_err() && !self.has_keeper() {
                return;
            }
        }
    }

    fn has_keeper(&self) -> bool {
        self.keeper.lock().as_ref().is_some_and(|k| !k.is_finished())
    }

    /// Starts the keeper on the runtime that the caller is on.
    pub(super) fn start_keeper(self: &Arc<Self>) {
        if self.shared.place.is_none() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let store = Arc::downgrade(self);
        let shared = Arc::clone(&self.shared);
        let keeper = runtime.spawn(async move {
            loop {
                let wanted = shared.gauge.wanted.notified();
                // Either way it is time to look.
                drop(tokio::time::timeout(LOOK, wanted).await);
                if !look(&store).await {
                    return;
                }
            }
        });
        *self.keeper.lock() = Some(keeper);
        *self.indexer.lock() = Some(super::indexes::Indexer::start(self, &runtime));
    }
}

/// Checkpoints if there is reason to; `false` when the store is gone.
async fn look(store: &Weak<Store>) -> bool {
    let Some(store) = store.upgrade() else { return false };
    let (shared, gauge) = (&store.shared, &store.shared.gauge);
    let hot = gauge.hot_bytes.load(Ordering::Relaxed);
    let wal = gauge.wal_bytes.load(Ordering::Relaxed);
    let now = shared.clock.now();
    let age = shared.oldest_hot().and_then(|ts| (now - ts.time()).to_std().ok()).unwrap_or_default();
    let due =
        hot > shared.limits.hot_bytes / 2 || wal > shared.limits.wal_bytes || age > shared.limits.hot_age;
    if due {
        if let Err(e) = Box::pin(store.checkpoint()).await {
            gauge.last.lock().error = Some(e.to_string());
            // The next look tries again; a disk that stays full must not be tried in a tight loop.
            tokio::time::sleep(LOOK).await;
        }
        gauge.relieved.notify_waiters();
    }
    if let Err(e) = store.keep().await {
        gauge.last.lock().error = Some(e.to_string());
    }
    true
}
