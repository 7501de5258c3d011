//! The plans that a statement runs before it has a result: what `EXPLAIN ANALYZE` of a writing statement shows, and
//! how far a long `COPY t FROM 'file'` or `UPDATE` is.
//!
//! ```text
//!  statement ── starts a plan ──▶ noted here ──▶ Session::progress(), asked by the shell ten times a second
//!                                            └─▶ EXPLAIN ANALYZE, when the statement is done
//! ```
//!
//! Plans are held only where they are explained: whoever holds one holds the rows that it reads.

use std::future::Future;
use std::sync::{Arc, Weak};

use datafusion::physical_plan::ExecutionPlan;
use parking_lot::Mutex;

use crate::session::SessionCore;

tokio::task_local! {
    static STATEMENT: Arc<Started>;
}

/// What one statement has started.
#[derive(Debug, Default)]
pub(crate) struct Started {
    last: Mutex<Option<Weak<dyn ExecutionPlan>>>,
    /// The first plan of the statement's last attempt, where it is wanted.
    first: Mutex<Option<Arc<dyn ExecutionPlan>>>,
    explained: bool,
}

impl Started {
    /// The plan that was started last, while it runs.
    pub(crate) fn running(&self) -> Option<Arc<dyn ExecutionPlan>> {
        self.last.lock().as_ref().and_then(Weak::upgrade)
    }
}

/// Runs a statement that the session can be asked about; one that runs within another keeps that.
pub(crate) async fn observed<F: Future>(core: &Arc<SessionCore>, statement: F) -> F::Output {
    if STATEMENT.try_with(|_| ()).is_ok() {
        return statement.await;
    }
    let started = Arc::new(Started::default());
    core.set_started(Arc::downgrade(&started));
    STATEMENT.scope(started, statement).await
}

/// Runs a statement and gives its first plan with it, which has run.
pub(crate) async fn explained<F: Future>(
    core: &Arc<SessionCore>,
    statement: F,
) -> (F::Output, Option<Arc<dyn ExecutionPlan>>) {
    let started = Arc::new(Started { explained: true, ..Started::default() });
    core.set_started(Arc::downgrade(&started));
    let done = STATEMENT.scope(Arc::clone(&started), statement).await;
    let first = started.first.lock().take();
    (done, first)
}

/// A plan of the running statement was started.
pub(crate) fn note(plan: &Arc<dyn ExecutionPlan>) {
    // Queries are not observed: they have a result to ask.
    let _ = STATEMENT.try_with(|s| {
        *s.last.lock() = Some(Arc::downgrade(plan));
        if s.explained {
            s.first.lock().get_or_insert_with(|| Arc::clone(plan));
        }
    });
}

/// The statement is run once more.
pub(crate) fn again() {
    let _ = STATEMENT.try_with(|s| *s.first.lock() = None);
}
