//! Transactions of a session, and the one snapshot that a statement reads at.
//!
//! ```sql
//! BEGIN;
//! UPDATE accounts SET balance = balance - 10 WHERE id = 1;
//! SAVEPOINT half;
//! UPDATE accounts SET balance = balance + 10 WHERE id = 2;
//! ROLLBACK TO half;
//! COMMIT;
//! ```
//!
//! Every statement runs within a *context* that holds its transaction: the session's open one, or one of its
//! own. Tables are opened in it, whatever views and sub-queries name them, so a statement sees one snapshot.
//!
//! A statement that writes outside of `BEGIN … COMMIT` is committed when it is done, and run again on a fresh
//! snapshot when another transaction came between, up to [`ATTEMPTS`] times. Within `BEGIN … COMMIT` a failed
//! statement is undone and the transaction goes on; a conflict shows at `COMMIT`, which then has rolled back.
//!
//! Limits: isolation is snapshot isolation; definitions (CREATE, ALTER, DROP) do not take part.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datafusion::catalog::TableProvider;
use datafusion::sql::sqlparser::ast::{TransactionAccessMode, TransactionIsolationLevel, TransactionMode};
use futures::FutureExt;
use parking_lot::Mutex;
use triune_common::names::did_you_mean;
use triune_common::{Error, ErrorKind, Result};
use triune_storage::store::{Savepoint, Transaction};

use crate::session::SessionCore;

/// How often a statement of its own is run when others change the same rows.
const ATTEMPTS: u32 = 10;

/// The pause before the second attempt; each further one is twice as long, up to [`LONGEST_PAUSE`]. The commit that came
/// between shows in a snapshot when its fsync is done, so that an attempt at once would meet it again.
const FIRST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

tokio::task_local! {
    static STATEMENT: Arc<StatementContext>;
}

/// What one statement sees.
#[derive(Debug)]
pub(crate) struct StatementContext {
    transaction: Transaction,
    /// Relations that only this statement's own queries know, by names that start with `@`.
    relations: Mutex<HashMap<String, Arc<dyn TableProvider>>>,
}

impl StatementContext {
    fn new(transaction: Transaction) -> Arc<Self> {
        Arc::new(Self { transaction, relations: Mutex::default() })
    }
}

/// Runs a statement in a context; one that runs within another keeps that.
pub(crate) async fn scoped<F: Future>(core: &Arc<SessionCore>, statement: F) -> F::Output {
    if STATEMENT.try_with(|_| ()).is_ok() {
        return statement.await;
    }
    let transaction = core.work().transaction().unwrap_or_else(|| core.database().store().begin());
    STATEMENT.scope(StatementContext::new(transaction), statement).await
}

/// Runs something on what is committed now, whatever the statement around it sees.
pub(crate) async fn fresh<F: Future>(core: &Arc<SessionCore>, work: F) -> F::Output {
    STATEMENT.scope(StatementContext::new(core.database().store().begin()), work).await
}

/// The running statement, for work that another task does for it.
pub(crate) fn context() -> Option<Arc<StatementContext>> {
    STATEMENT.try_with(Arc::clone).ok()
}

/// Runs such work.
pub(crate) async fn within<F: Future>(statement: Option<Arc<StatementContext>>, work: F) -> F::Output {
    match statement {
        Some(statement) => STATEMENT.scope(statement, work).await,
        None => work.await,
    }
}

/// The running statement's transaction; outside of one, what is committed now.
pub(crate) fn current(core: &Arc<SessionCore>) -> Transaction {
    STATEMENT
        .try_with(|s| s.transaction.clone())
        .unwrap_or_else(|_| core.work().transaction().unwrap_or_else(|| core.database().store().begin()))
}

/// The statement's own relation of that name.
pub(crate) fn relation(name: &str) -> Option<Arc<dyn TableProvider>> {
    if !name.starts_with('@') {
        return None;
    }
    STATEMENT.try_with(|s| s.relations.lock().get(name).cloned()).ok().flatten()
}

/// Makes a relation known to the statement's own queries; another one of the name is replaced.
pub(crate) fn put_relation(name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
    STATEMENT
        .try_with(|s| drop(s.relations.lock().insert(name.to_owned(), table)))
        .map_err(|_| Error::internal("a relation of a statement outside of one"))
}

/// Forgets a relation: whoever holds a table's rows makes the next change of them work on a copy.
pub(crate) fn forget_relation(name: &str) {
    // Outside of a statement there is none.
    let _ = STATEMENT.try_with(|s| drop(s.relations.lock().remove(name)));
}

/// Undoes a statement's changes unless it was completed: also when its future is dropped half-way.
struct Undo<'a> {
    transaction: &'a Transaction,
    savepoint: Option<Savepoint>,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(savepoint) = &self.savepoint {
            // The statement's own savepoint is there as long as this is.
            drop(self.transaction.roll_back_to(savepoint));
        }
    }
}

/// Runs work that writes: all of it happens or nothing.
pub(crate) async fn write<T, F, W>(core: &Arc<SessionCore>, mut work: W) -> Result<T>
where
    W: FnMut() -> F,
    F: Future<Output = Result<T>>,
{
    if let Some((transaction, read_only)) = core.work().open() {
        if read_only {
            return Err(Error::invalid("the transaction is READ ONLY"));
        }
        let mut undo = Undo { transaction: &transaction, savepoint: Some(transaction.savepoint()) };
        let done = STATEMENT.scope(StatementContext::new(transaction.clone()), work()).await?;
        undo.savepoint = None;
        return Ok(done);
    }
    let mut attempt = 1_u32;
    loop {
        let transaction = core.database().store().begin();
        let outcome = match STATEMENT.scope(StatementContext::new(transaction.clone()), work()).await {
            Ok(done) => transaction.commit(core.work().waits()).boxed().await.map(|_| done),
            Err(error) => Err(error),
        };
        match outcome {
            Err(error) if error.kind() == ErrorKind::Conflict && attempt < ATTEMPTS => {
                drop(error);
                tokio::time::sleep((FIRST_PAUSE * (1 << (attempt - 1))).min(LONGEST_PAUSE)).await;
                attempt += 1;
            }
            other => return other,
        }
    }
}

/// A session's open transaction and how it commits.
#[derive(Debug)]
pub(crate) struct Work {
    open: Mutex<Option<Open>>,
    synchronous: AtomicBool,
}

#[derive(Debug)]
struct Open {
    transaction: Transaction,
    read_only: bool,
    savepoints: Vec<(String, Savepoint)>,
}

impl Default for Work {
    fn default() -> Self {
        Self { open: Mutex::default(), synchronous: AtomicBool::new(true) }
    }
}

impl Work {
    fn transaction(&self) -> Option<Transaction> {
        self.open.lock().as_ref().map(|o| o.transaction.clone())
    }

    fn open(&self) -> Option<(Transaction, bool)> {
        self.open.lock().as_ref().map(|o| (o.transaction.clone(), o.read_only))
    }

    /// Whether a `BEGIN` waits for its `COMMIT`.
    pub(crate) fn is_open(&self) -> bool {
        self.open.lock().is_some()
    }

    /// Whether a commit waits for the disk: `SET synchronous_commit`.
    pub(crate) fn waits(&self) -> bool {
        self.synchronous.load(Ordering::Relaxed)
    }

    pub(crate) fn set_waits(&self, wait: bool) {
        self.synchronous.store(wait, Ordering::Relaxed);
    }
}

/// `BEGIN`, `START TRANSACTION`.
pub(crate) fn begin(core: &Arc<SessionCore>, modes: &[TransactionMode]) -> Result<()> {
    let mut read_only = false;
    for mode in modes {
        match mode {
            TransactionMode::AccessMode(access) => read_only = *access == TransactionAccessMode::ReadOnly,
            // Weaker levels allow what snapshots never show.
            TransactionMode::IsolationLevel(TransactionIsolationLevel::Serializable) => {
                return Err(Error::unsupported("ISOLATION LEVEL SERIALIZABLE is not supported")
                    .with_hint("transactions are REPEATABLE READ: each reads one snapshot"));
            }
            TransactionMode::IsolationLevel(_) => {}
        }
    }
    let mut open = core.work().open.lock();
    if open.is_some() {
        return Err(Error::invalid("a transaction is open already").with_hint("COMMIT or ROLLBACK it first"));
    }
    let transaction = core.database().store().begin();
    *open = Some(Open { transaction, read_only, savepoints: Vec::new() });
    Ok(())
}

/// `COMMIT`, `END`: whatever comes of it, no transaction is open afterwards.
pub(crate) async fn commit(core: &Arc<SessionCore>) -> Result<()> {
    let open = core.work().open.lock().take().ok_or_else(none_open)?;
    if !open.transaction.has_changes() {
        return Ok(());
    }
    open.transaction.commit(core.work().waits()).boxed().await.map(drop)
}

/// `ROLLBACK`, `ABORT`.
pub(crate) fn roll_back(core: &Arc<SessionCore>) -> Result<()> {
    core.work().open.lock().take().map(drop).ok_or_else(none_open)
}

fn none_open() -> Error {
    Error::invalid("no transaction is open").with_hint("BEGIN opens one")
}

/// `SAVEPOINT name`; a name that is used again hides the earlier one.
pub(crate) fn savepoint(core: &Arc<SessionCore>, name: String) -> Result<()> {
    let mut open = core.work().open.lock();
    let open = open.as_mut().ok_or_else(none_open)?;
    let savepoint = open.transaction.savepoint();
    open.savepoints.push((name, savepoint));
    Ok(())
}

/// `ROLLBACK TO name`: the savepoint stays, later ones are gone.
pub(crate) fn roll_back_to(core: &Arc<SessionCore>, name: &str) -> Result<()> {
    let mut open = core.work().open.lock();
    let open = open.as_mut().ok_or_else(none_open)?;
    let at = find(&open.savepoints, name)?;
    open.savepoints.truncate(at + 1);
    if let Some((_, savepoint)) = open.savepoints.last() {
        open.transaction.roll_back_to(savepoint)?;
    }
    Ok(())
}

/// `RELEASE name`: the savepoint and later ones are forgotten, the changes stay.
pub(crate) fn release(core: &Arc<SessionCore>, name: &str) -> Result<()> {
    let mut open = core.work().open.lock();
    let open = open.as_mut().ok_or_else(none_open)?;
    let at = find(&open.savepoints, name)?;
    open.savepoints.truncate(at);
    Ok(())
}

fn find(savepoints: &[(String, Savepoint)], name: &str) -> Result<usize> {
    savepoints.iter().rposition(|(n, _)| n == name).ok_or_else(|| {
        let error = Error::not_found(format!("no savepoint is called \"{name}\""));
        match did_you_mean(name, savepoints.iter().map(|(n, _)| n.as_str())) {
            Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
            None => error,
        }
    })
}

/// Definitions are published at once and cannot be taken back with a transaction.
pub(crate) fn refuse_in_transaction(core: &Arc<SessionCore>, statement: &str) -> Result<()> {
    if core.work().is_open() {
        return Err(Error::unsupported(format!("{statement} within a transaction is not supported"))
            .with_hint("COMMIT or ROLLBACK first"));
    }
    Ok(())
}
