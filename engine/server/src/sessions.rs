//! What belongs to a client between its requests: settings, transactions, temporary tables, prepared statements.
//!
//! ```text
//!  bearer token of a log-in ─┐
//!  cookie triune_session ────┼─▶ ClientSession ─ Session (settings, temporary tables, BEGIN … COMMIT by SQL)
//!  connection and user ──────┘        ├─ transactions by id, each with a Session of its own
//!                                     ├─ prepared statements by handle, with their bound parameters
//!                                     └─ results that were planned and not fetched yet
//! ```
//!
//! A session that only its connection names ends with the connection; every other one when it was not used for the
//! idle timeout. An end rolls its transactions back.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use triune_common::{Error, ErrorKind};
use triune_query::{Database, Described, Params, Principal, QueryResult, Role, Session};

use crate::status;

/// Sessions of the whole server, and things that one session may hold.
const MOST_SESSIONS: usize = 10_000;
const MOST_STATEMENTS: usize = 10_000;
const MOST_TRANSACTIONS: usize = 100;
const MOST_RESULTS: usize = 64;
/// A result that nobody fetches pins a snapshot.
const RESULT_KEPT: Duration = Duration::from_secs(60);

/// A transaction that `BeginTransaction` opened.
pub(crate) struct OpenTransaction {
    pub(crate) session: Session,
    /// Its statements run one after the other.
    pub(crate) turn: tokio::sync::Mutex<()>,
    pub(crate) savepoints: Mutex<Vec<String>>,
}

/// A prepared statement.
pub(crate) struct PreparedStatement {
    pub(crate) sql: String,
    pub(crate) described: Described,
    pub(crate) transaction: Option<String>,
    /// One for each time that it is to be run.
    pub(crate) bound: Mutex<Vec<Params>>,
}

/// A result whose rows were not asked for yet.
pub(crate) struct WaitingResult {
    pub(crate) results: Vec<QueryResult>,
    pub(crate) schema: SchemaRef,
    since: Duration,
}

/// A client.
pub(crate) struct ClientSession {
    pub(crate) id: String,
    user: String,
    pub(crate) session: Session,
    pub(crate) turn: tokio::sync::Mutex<()>,
    database: Arc<Database>,
    transactions: Mutex<HashMap<String, Arc<OpenTransaction>>>,
    statements: Mutex<HashMap<String, Arc<PreparedStatement>>>,
    results: Mutex<HashMap<String, WaitingResult>>,
    running: Mutex<HashMap<String, CancellationToken>>,
    /// Requests and streams that are under way.
    active: AtomicUsize,
    last_used: Mutex<Duration>,
}

impl std::fmt::Debug for ClientSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientSession").field("user", &self.user).finish_non_exhaustive()
    }
}

impl ClientSession {
    fn new(database: &Arc<Database>, principal: Principal) -> Self {
        let session = database.session();
        let user = principal.name.clone();
        session.set_principal(principal);
        Self {
            id: database.random_text(16),
            user,
            session,
            turn: tokio::sync::Mutex::default(),
            database: Arc::clone(database),
            transactions: Mutex::default(),
            statements: Mutex::default(),
            results: Mutex::default(),
            running: Mutex::default(),
            active: AtomicUsize::new(0),
            last_used: Mutex::new(database.clock().elapsed()),
        }
    }

    /// The user may have got another role since; it holds for what is open too.
    fn set_principal(&self, principal: &Principal) {
        if self.session.principal().as_ref() == Some(principal) {
            return;
        }
        self.session.set_principal(principal.clone());
        for open in self.transactions.lock().values() {
            open.session.set_principal(principal.clone());
        }
    }

    fn touch(&self) {
        *self.last_used.lock() = self.database.clock().elapsed();
    }

    fn is_idle(&self, timeout: Duration) -> bool {
        let unused = self.database.clock().elapsed().saturating_sub(*self.last_used.lock());
        self.active.load(Ordering::Relaxed) == 0 && unused >= timeout
    }

    /// Begins a transaction and gives its id.
    pub(crate) async fn begin(&self) -> Result<String, Status> {
        if self.transactions.lock().len() >= MOST_TRANSACTIONS {
            return Err(too_many("transactions", MOST_TRANSACTIONS));
        }
        let session = self.session.fork();
        session.execute("BEGIN").await.map_err(status::of_error)?;
        let id = self.database.random_text(16);
        let open =
            OpenTransaction { session, turn: tokio::sync::Mutex::default(), savepoints: Mutex::default() };
        self.transactions.lock().insert(id.clone(), Arc::new(open));
        Ok(id)
    }

    pub(crate) fn transaction(&self, id: &str) -> Result<Arc<OpenTransaction>, Status> {
        self.transactions.lock().get(id).cloned().ok_or_else(|| no_transaction(id))
    }

    /// The transaction, or when it has ended the one that is open instead; `None` where none is.
    pub(crate) fn transaction_or_next(&self, id: &str) -> Result<Option<Arc<OpenTransaction>>, Status> {
        let open = self.transactions.lock();
        if let Some(same) = open.get(id) {
            return Ok(Some(Arc::clone(same)));
        }
        let mut others = open.values();
        match (others.next(), others.next()) {
            (next, None) => Ok(next.cloned()),
            (Some(_), Some(_)) => Err(status::of_error(
                Error::invalid(
                    "the transaction that the statement was prepared in has ended, and several are open",
                )
                .with_hint("prepare it again in the one that it is for"),
            )),
            (None, Some(_)) => Ok(None),
        }
    }

    /// Whoever ends a transaction takes it away first, so that it ends once.
    pub(crate) fn take_transaction(&self, id: &str) -> Result<Arc<OpenTransaction>, Status> {
        self.transactions.lock().remove(id).ok_or_else(|| no_transaction(id))
    }

    pub(crate) fn keep_statement(&self, statement: PreparedStatement) -> Result<String, Status> {
        let handle = self.database.random_text(16);
        let mut statements = self.statements.lock();
        if statements.len() >= MOST_STATEMENTS {
            return Err(too_many("prepared statements", MOST_STATEMENTS));
        }
        statements.insert(handle.clone(), Arc::new(statement));
        Ok(handle)
    }

    pub(crate) fn statement(&self, handle: &[u8]) -> Result<Arc<PreparedStatement>, Status> {
        let known = std::str::from_utf8(handle).ok().and_then(|h| self.statements.lock().get(h).cloned());
        known.ok_or_else(|| status::not_found("the session has no prepared statement of this handle"))
    }

    pub(crate) fn drop_statement(&self, handle: &[u8]) -> bool {
        std::str::from_utf8(handle).is_ok_and(|h| self.statements.lock().remove(h).is_some())
    }

    /// Keeps a result until its rows are asked for; the oldest has to go where there are many.
    pub(crate) fn keep_result(&self, id: &str, results: Vec<QueryResult>, schema: SchemaRef) {
        let since = self.database.clock().elapsed();
        let mut kept = self.results.lock();
        if kept.len() >= MOST_RESULTS
            && let Some(oldest) = kept.iter().min_by_key(|(_, r)| r.since).map(|(id, _)| id.clone())
        {
            kept.remove(&oldest);
        }
        kept.insert(id.to_owned(), WaitingResult { results, schema, since });
    }

    pub(crate) fn take_result(&self, id: &str) -> Option<WaitingResult> {
        self.results.lock().remove(id)
    }

    /// Lets a statement be cancelled by its id until the guard is dropped.
    pub(crate) fn run(self: &Arc<Self>, id: &str) -> Running {
        let token = CancellationToken::new();
        self.running.lock().insert(id.to_owned(), token.clone());
        Running { session: Arc::clone(self), id: id.to_owned(), token, _active: self.active() }
    }

    /// Cancels what runs under an id, or what waits to be fetched; `false` if there is nothing.
    pub(crate) fn cancel(&self, id: &str) -> bool {
        let waited = self.take_result(id).is_some();
        match self.running.lock().get(id) {
            Some(token) => {
                token.cancel();
                true
            }
            None => waited,
        }
    }

    fn cancel_all(&self) {
        self.results.lock().clear();
        self.running.lock().values().for_each(CancellationToken::cancel);
    }

    pub(crate) fn active(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.touch();
        Active(Arc::clone(self))
    }
}

fn too_many(what: &str, limit: usize) -> Status {
    let error = Error::new(ErrorKind::Resources, format!("there are {limit} {what} already"));
    status::of_error(error.with_hint("close some of them"))
}

fn no_transaction(id: &str) -> Status {
    // Whatever the client sent must not come back at any length.
    let id: String = id.chars().take(40).collect();
    status::not_found(format!("the session has no open transaction {id:?}"))
}

/// A request or a stream is under way: the session is not idle.
#[derive(Debug)]
pub(crate) struct Active(Arc<ClientSession>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.touch();
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A statement that can be cancelled.
pub(crate) struct Running {
    session: Arc<ClientSession>,
    id: String,
    pub(crate) token: CancellationToken,
    _active: Active,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.session.running.lock().remove(&self.id);
    }
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<String, Arc<ClientSession>>,
    /// Bearer tokens of log-ins.
    by_token: HashMap<String, String>,
    by_connection: HashMap<(u64, String), String>,
}

impl Known {
    fn forget(&mut self, id: &str) -> Option<Arc<ClientSession>> {
        self.by_token.retain(|_, v| v != id);
        self.by_connection.retain(|_, v| v != id);
        self.by_id.remove(id)
    }
}

#[derive(Debug)]
pub(crate) struct Sessions {
    database: Arc<Database>,
    idle_timeout: Duration,
    known: Mutex<Known>,
}

impl Sessions {
    pub(crate) fn new(database: Arc<Database>, idle_timeout: Duration) -> Self {
        Self { database, idle_timeout, known: Mutex::default() }
    }

    /// The principal of a client who need not log in.
    pub(crate) fn anybody() -> Principal {
        Principal { name: String::new(), role: Role::Admin }
    }

    /// A new session for somebody who logged in, and the token that names it.
    pub(crate) fn log_in(&self, principal: Principal) -> Result<(String, Arc<ClientSession>), Status> {
        let session = Arc::new(ClientSession::new(&self.database, principal));
        let token = self.database.random_text(32);
        let mut known = self.known.lock();
        check_count(&known)?;
        known.by_token.insert(token.clone(), session.id.clone());
        known.by_id.insert(session.id.clone(), Arc::clone(&session));
        Ok((token, session))
    }

    /// The session of a log-in's token. Its user may have been dropped or have got another role since.
    pub(crate) fn of_token(&self, token: &str) -> Option<Result<Arc<ClientSession>, Status>> {
        let session = {
            let known = self.known.lock();
            let id = known.by_token.get(token)?;
            Arc::clone(known.by_id.get(id)?)
        };
        if session.user.is_empty() {
            return Some(Ok(session));
        }
        Some(match self.database.user(&session.user) {
            Some(principal) => {
                session.set_principal(&principal);
                Ok(session)
            }
            None => Err(status::unauthenticated("the user does not exist any more")),
        })
    }

    /// The session that a cookie names, or that of the connection; a new one where there is none.
    /// `true` if the client should be told the cookie.
    pub(crate) fn of_client(
        &self,
        principal: Principal,
        cookie: Option<&str>,
        connection: u64,
    ) -> Result<(Arc<ClientSession>, bool), Status> {
        let mut known = self.known.lock();
        if let Some(session) = cookie.and_then(|id| known.by_id.get(id)).filter(|s| s.user == principal.name)
        {
            let session = Arc::clone(session);
            // It is the cookie's now and outlives the connection.
            known.by_connection.retain(|_, v| *v != session.id);
            session.set_principal(&principal);
            return Ok((session, false));
        }
        let key = (connection, principal.name.clone());
        if let Some(session) = known.by_connection.get(&key).and_then(|id| known.by_id.get(id)) {
            session.set_principal(&principal);
            return Ok((Arc::clone(session), false));
        }
        check_count(&known)?;
        let session = Arc::new(ClientSession::new(&self.database, principal));
        known.by_connection.insert(key, session.id.clone());
        known.by_id.insert(session.id.clone(), Arc::clone(&session));
        Ok((session, true))
    }

    pub(crate) fn connection_ended(&self, connection: u64) {
        let mut known = self.known.lock();
        let ended: Vec<String> =
            known.by_connection.iter().filter(|(k, _)| k.0 == connection).map(|(_, v)| v.clone()).collect();
        let ended: Vec<_> = ended.iter().filter_map(|id| known.forget(id)).collect();
        drop(known);
        ended.iter().for_each(|s| s.cancel_all());
    }

    /// `CloseSession`
    pub(crate) fn close(&self, session: &ClientSession) {
        let closed = self.known.lock().forget(&session.id);
        if let Some(closed) = closed {
            closed.cancel_all();
        }
    }

    /// Ends sessions that nobody uses and results that nobody fetched.
    pub(crate) fn sweep(&self) {
        let now = self.database.clock().elapsed();
        let mut known = self.known.lock();
        let idle: Vec<String> =
            known.by_id.values().filter(|s| s.is_idle(self.idle_timeout)).map(|s| s.id.clone()).collect();
        let ended: Vec<_> = idle.iter().filter_map(|id| known.forget(id)).collect();
        for session in known.by_id.values() {
            session.results.lock().retain(|_, r| now.saturating_sub(r.since) < RESULT_KEPT);
        }
        drop(known);
        // What they held is given back outside of the lock.
        drop(ended);
    }

    /// Cancels every statement, for a stop that waited long enough.
    pub(crate) fn cancel_all(&self) {
        let all: Vec<_> = self.known.lock().by_id.values().cloned().collect();
        all.iter().for_each(|s| s.cancel_all());
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.known.lock().by_id.len()
    }

    /// Ends all sessions.
    pub(crate) fn end(&self) {
        let all = std::mem::take(&mut *self.known.lock());
        drop(all);
    }
}

fn check_count(known: &Known) -> Result<(), Status> {
    if known.by_id.len() < MOST_SESSIONS { Ok(()) } else { Err(too_many("sessions", MOST_SESSIONS)) }
}
