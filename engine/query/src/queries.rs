//! What runs and what ran: statements as `system.queries` lists them, each with a handle to cancel it.
//!
//! ```sql
//! SELECT id, status, seconds, rows, memory_peak, text FROM system.queries ORDER BY id DESC LIMIT 10;
//! ```
//!
//! ```text
//!  Session::execute_with ─ Recorder ─┬─ plans, writes ──▶ failed, cancelled, or a QueryResult
//!                                    └─ RecordedStream ─▶ rows, bytes, first row, end; a cancelled one ends with an error
//!                                             │
//!  Queries: running (all) · past (the last 1,000) · watchers (metrics)
//! ```
//!
//! A statement is in one of the two lists from its beginning on, and for a moment in both.
//!
//! A statement that another one runs (`EXPLAIN ANALYZE`, `CREATE TABLE … AS`) is part of that one. Texts are cut at 4 KiB,
//! and what may be a password or a key does not stand in them (`shown`).
//!
//! Limits: statements of this process only; past ones are forgotten when the database is closed. Memory is what operators
//! reserve: buffers of readers and of the result are not counted.

mod charged;
mod entry;
mod recorder;
mod shown;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use triune_common::{Clock, Error};

pub(crate) use charged::charged;
pub(crate) use entry::Entry;
pub use entry::{QueryInfo, QueryStatus};
pub(crate) use recorder::{RecordedStream, Recorder, is_recorded};

use crate::principal::{Principal, Role};
use crate::session::SessionCore;
use crate::statement::Statement;

/// Statements that ended and are remembered.
const PAST: usize = 1_000;

/// Told of each statement that ended.
pub type Watcher = Arc<dyn Fn(&QueryInfo) + Send + Sync>;

/// The statements of one database.
pub struct Queries {
    clock: Arc<dyn Clock>,
    next: AtomicU64,
    running: Mutex<BTreeMap<u64, Arc<Entry>>>,
    past: Mutex<VecDeque<QueryInfo>>,
    watchers: RwLock<Vec<Watcher>>,
}

impl fmt::Debug for Queries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queries").field("running", &self.running.lock().len()).finish_non_exhaustive()
    }
}

impl Queries {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            next: AtomicU64::new(1),
            running: Mutex::default(),
            past: Mutex::default(),
            watchers: RwLock::default(),
        }
    }

    /// Tells `watcher` of every statement that ends from now on; it must not wait.
    pub fn watch(&self, watcher: Watcher) {
        self.watchers.write().push(watcher);
    }

    /// Statements that run, and then those that ended, each in the order in which they began. An admin sees all of them,
    /// everybody else their own.
    pub fn list(&self, principal: Option<&Principal>) -> Vec<QueryInfo> {
        // In this order: what ends between the two looks is found twice and not missed.
        let running: Vec<_> = self.running.lock().values().cloned().collect();
        let mut out: Vec<QueryInfo> = self.past.lock().iter().cloned().collect();
        out.extend(running.iter().map(|q| q.info(self.moment())));
        out.retain(|q| may_see(principal, q));
        out.sort_by_key(|q| q.id);
        // The sort is stable: that it has ended is kept.
        out.dedup_by_key(|q| q.id);
        out
    }

    /// One statement; `None` where there is none that the principal may see.
    pub fn find(&self, id: u64, principal: Option<&Principal>) -> Option<QueryInfo> {
        let running = self.running.lock().get(&id).cloned();
        let found = match running {
            Some(entry) => Some(entry.info(self.moment())),
            None => self.past.lock().iter().find(|q| q.id == id).cloned(),
        };
        found.filter(|q| may_see(principal, q))
    }

    /// Ends a statement that runs; `false` where there is none that the principal may see.
    pub fn cancel(&self, id: u64, principal: Option<&Principal>) -> bool {
        let Some(entry) = self.running.lock().get(&id).cloned() else { return false };
        if !may_see(principal, &entry.info(self.moment())) {
            return false;
        }
        entry.cancel.cancel();
        true
    }

    /// Ends every statement that runs.
    pub fn cancel_all(&self) {
        let running: Vec<_> = self.running.lock().values().cloned().collect();
        running.iter().for_each(|q| q.cancel.cancel());
    }

    /// How many statements run.
    pub fn running(&self) -> usize {
        self.running.lock().len()
    }

    /// The time as durations of statements count it.
    pub(crate) fn moment(&self) -> Duration {
        self.clock.elapsed()
    }

    /// A statement begins; `begun` is when its text was first looked at.
    pub(crate) fn begin(
        self: &Arc<Self>,
        core: &Arc<SessionCore>,
        sql: &str,
        statement: &Statement,
        begun: Duration,
    ) -> Recorder {
        let text = shown::of_statement(sql, statement);
        let kind = crate::describe::StatementKind::of(statement);
        let entry = Entry::new(self.next_id(), core, text, Some(kind), self.clock.now(), begun);
        self.running.lock().insert(entry.id, Arc::clone(&entry));
        Recorder::new(Arc::clone(self), entry)
    }

    /// A text was no statement.
    pub(crate) fn refused(&self, core: &Arc<SessionCore>, sql: &str, begun: Duration, error: &Error) {
        let text = shown::of_text(sql);
        let entry = Entry::new(self.next_id(), core, text, None, self.clock.now(), begun);
        entry.end(QueryStatus::Failed, Some(error), self.moment());
        self.ended(entry.info(self.moment()));
    }

    fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn end(&self, entry: &Arc<Entry>) {
        self.ended(entry.info(self.moment()));
        self.running.lock().remove(&entry.id);
    }

    fn ended(&self, info: QueryInfo) {
        for watcher in self.watchers.read().iter() {
            watcher(&info);
        }
        let mut past = self.past.lock();
        if past.len() >= PAST {
            past.pop_front();
        }
        past.push_back(info);
    }
}

fn may_see(principal: Option<&Principal>, query: &QueryInfo) -> bool {
    match principal {
        Some(p) if p.role < Role::Admin => query.principal.as_deref() == Some(p.name.as_str()),
        _ => true,
    }
}
