//! One statement's record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use triune_common::{Error, ErrorKind};

use super::shown::Shown;
use crate::describe::StatementKind;
use crate::progress::{Progress, ProgressHandle};
use crate::session::SessionCore;

/// In place of a message.
const NOT_KEPT: &str = "(not kept: the statement may hold a secret)";

/// How a statement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueryStatus {
    Running,
    Done,
    Failed,
    /// By somebody's word, by a time limit, or because nobody reads its result any more.
    Cancelled,
}

impl QueryStatus {
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A statement as it is or was.
#[derive(Debug, Clone)]
pub struct QueryInfo {
    /// Counts from 1 since the database was opened.
    pub id: u64,
    /// The user; `None` for whoever has the database in their own process, empty where nobody had to log in.
    pub principal: Option<String>,
    /// Without secrets, at most 4 KiB.
    pub text: String,
    /// `None`: the text is no statement.
    pub kind: Option<StatementKind>,
    pub status: QueryStatus,
    pub error: Option<(ErrorKind, String)>,
    pub started: DateTime<Utc>,
    /// Until it had a result: a query was planned, anything else was done.
    pub planning: Option<Duration>,
    /// Until its first rows.
    pub first_row: Option<Duration>,
    /// So far, or in all.
    pub duration: Duration,
    /// Given out, or written.
    pub rows: u64,
    /// Of the rows given out, as they are in memory.
    pub bytes: u64,
    /// The most that its operators had reserved at once.
    pub memory_peak: usize,
    /// Of one that runs.
    pub progress: Progress,
}

#[derive(Debug)]
struct State {
    status: QueryStatus,
    planning: Option<Duration>,
    first_row: Option<Duration>,
    ended: Option<Duration>,
    error: Option<(ErrorKind, String)>,
    /// Taken away at the end: it holds the plan, and with it the tables.
    progress: Option<ProgressHandle>,
}

/// A statement while it runs.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) cancel: CancellationToken,
    principal: Option<String>,
    text: Shown,
    kind: Option<StatementKind>,
    started: DateTime<Utc>,
    begun: Duration,
    pub(super) rows: AtomicU64,
    pub(super) bytes: AtomicU64,
    memory: AtomicUsize,
    memory_peak: AtomicUsize,
    state: Mutex<State>,
}

impl Entry {
    pub(super) fn new(
        id: u64,
        core: &Arc<SessionCore>,
        text: Shown,
        kind: Option<StatementKind>,
        started: DateTime<Utc>,
        begun: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            cancel: CancellationToken::new(),
            principal: core.principal().map(|p| p.name),
            text,
            kind,
            started,
            begun,
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            memory: AtomicUsize::new(0),
            memory_peak: AtomicUsize::new(0),
            state: Mutex::new(State {
                status: QueryStatus::Running,
                planning: None,
                first_row: None,
                ended: None,
                error: None,
                progress: Some(ProgressHandle::of_session(core)),
            }),
        })
    }

    pub(super) fn info(&self, now: Duration) -> QueryInfo {
        // Asked outside of the lock: it walks through the plan.
        let progress = self.state.lock().progress.clone().map(|p| p.snapshot()).unwrap_or_default();
        let state = self.state.lock();
        QueryInfo {
            id: self.id,
            principal: self.principal.clone(),
            text: self.text.text.clone(),
            kind: self.kind,
            status: state.status,
            error: state.error.clone(),
            started: self.started,
            planning: state.planning,
            first_row: state.first_row,
            duration: state.ended.unwrap_or_else(|| now.saturating_sub(self.begun)),
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            memory_peak: self.memory_peak.load(Ordering::Relaxed),
            progress,
        }
    }

    pub(super) fn planned(&self, now: Duration, progress: ProgressHandle) {
        let mut state = self.state.lock();
        state.planning = Some(now.saturating_sub(self.begun));
        state.progress = Some(progress);
    }

    pub(super) fn gave(&self, rows: u64, bytes: u64, now: impl FnOnce() -> Duration) {
        if self.rows.fetch_add(rows, Ordering::Relaxed) == 0 && rows > 0 {
            self.state.lock().first_row = Some(now().saturating_sub(self.begun));
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// `false` if it had ended before.
    pub(super) fn end(&self, status: QueryStatus, error: Option<&Error>, now: Duration) -> bool {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return false;
        }
        state.status = status;
        state.ended = Some(now.saturating_sub(self.begun));
        // A message may repeat a word of the statement.
        let message = |e: &Error| if self.text.whole { e.message() } else { NOT_KEPT }.to_owned();
        state.error = error.map(|e| (e.kind(), message(e)));
        state.progress = None;
        true
    }

    pub(super) fn reserve(&self, bytes: usize) {
        let now = self.memory.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.memory_peak.fetch_max(now, Ordering::Relaxed);
    }

    pub(super) fn release(&self, bytes: usize) {
        self.memory.fetch_sub(bytes, Ordering::Relaxed);
    }
}
