//! Statements: run, keep the result, give it out.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::sql::{Any, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use bytes::Bytes;
use prost::Message;
use tonic::{Request, Response, Status};
use triune_common::ErrorKind;
use triune_query::{Params, QueryResult, Session, StatementKind, Tag, kind_of};

use super::gate::Caller;
use super::service::{DoGet, FlightSql};
use crate::sessions::{ClientSession, OpenTransaction, PreparedStatement};
use crate::status;
use crate::stream::{self, plain_schema};

/// How often a batch of parameters is run when other transactions come between.
const ATTEMPTS: u32 = 5;

/// What a ticket says; the client keeps it for us.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Handle {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    /// To run it again, when the result is not there any more.
    #[prost(string, tag = "2")]
    pub(super) sql: String,
    #[prost(string, optional, tag = "3")]
    pub(super) transaction: Option<String>,
    /// The statement was run and gave no rows.
    #[prost(bool, tag = "4")]
    pub(super) done: bool,
    #[prost(string, optional, tag = "5")]
    pub(super) prepared: Option<String>,
}

/// Where a statement runs.
pub(super) enum Place {
    Session(Arc<ClientSession>),
    Transaction(Arc<OpenTransaction>),
}

impl Place {
    pub(super) fn of(caller: &Caller, transaction: Option<&str>) -> Result<Self, Status> {
        match transaction.filter(|t| !t.is_empty()) {
            Some(id) => caller.session.transaction(id).map(Self::Transaction),
            None => Ok(Self::Session(Arc::clone(&caller.session))),
        }
    }

    /// Of a prepared statement, which outlives the transaction that it was prepared in: drivers commit, begin another
    /// transaction and run it again without a word of which.
    pub(super) fn of_prepared(caller: &Caller, statement: &PreparedStatement) -> Result<Self, Status> {
        match &statement.transaction {
            Some(id) => match caller.session.transaction_or_next(id)? {
                Some(open) => Ok(Self::Transaction(open)),
                None => Ok(Self::Session(Arc::clone(&caller.session))),
            },
            None => Self::of(caller, None),
        }
    }

    pub(super) fn session(&self) -> &Session {
        match self {
            Self::Session(client) => &client.session,
            Self::Transaction(open) => &open.session,
        }
    }

    /// Statements of one transaction come one after the other: a failing one is undone to where it began.
    pub(super) async fn turn(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        match self {
            Self::Session(client) if client.session.in_transaction() => Some(client.turn.lock().await),
            Self::Session(_) => None,
            Self::Transaction(open) => Some(open.turn.lock().await),
        }
    }
}

/// The id of a transaction as text.
pub(super) fn transaction_id(id: Option<&Bytes>) -> Result<Option<String>, Status> {
    match id {
        None => Ok(None),
        Some(id) if id.is_empty() => Ok(None),
        Some(id) => match std::str::from_utf8(id) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(status::not_found("the session has no transaction of this id")),
        },
    }
}

/// Runs a statement once for each set of parameters (once without any), within the caller's time.
pub(super) async fn run(
    caller: &Caller,
    place: &Place,
    sql: &str,
    bound: &[Params],
) -> Result<Vec<QueryResult>, Status> {
    let work = async {
        let _turn = place.turn().await;
        let session = place.session();
        match bound {
            [] => Ok(vec![session.execute(sql).await.map_err(status::of_error)?]),
            [one] => Ok(vec![session.execute_with(sql, one).await.map_err(status::of_error)?]),
            many if !session.in_transaction()
                && kind_of(sql).map_err(status::of_error)? == StatementKind::Write =>
            {
                together(session, sql, many).await
            }
            many => run_each(session, sql, many).await,
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        () = caller.limit.over() => Err(status::timed_out()),
    }
}

async fn run_each(session: &Session, sql: &str, bound: &[Params]) -> Result<Vec<QueryResult>, Status> {
    let mut results = Vec::with_capacity(bound.len());
    for params in bound {
        results.push(session.execute_with(sql, params).await.map_err(status::of_error)?);
    }
    Ok(results)
}

/// All rows of parameters in one transaction: all of them are written or none.
async fn together(session: &Session, sql: &str, bound: &[Params]) -> Result<Vec<QueryResult>, Status> {
    let mut attempt = 1;
    loop {
        let own = session.fork();
        own.execute("BEGIN").await.map_err(status::of_error)?;
        let results = run_each(&own, sql, bound).await?;
        match own.execute("COMMIT").await {
            Ok(_) => return Ok(results),
            Err(e) if e.kind() == ErrorKind::Conflict && attempt < ATTEMPTS => attempt += 1,
            Err(e) => return Err(status::of_error(e)),
        }
    }
}

/// How many rows were written; what gives rows is counted.
pub(super) async fn count(results: Vec<QueryResult>) -> Result<Option<u64>, Status> {
    let mut sum = None;
    for mut result in results {
        let rows = match result.tag().clone() {
            Tag::Command { rows, .. } => rows,
            Tag::Rows | Tag::Plan => {
                let mut rows = 0;
                while let Some(batch) = result.next().await {
                    rows += batch.map_err(status::of_error)?.num_rows() as u64;
                }
                Some(rows)
            }
        };
        sum = match (sum, rows) {
            (Some(a), Some(b)) => Some(a + b),
            (one, other) => one.or(other),
        };
    }
    Ok(sum)
}

/// A protocol's count: -1 is "not known".
pub(super) fn as_count(rows: Option<u64>) -> i64 {
    rows.and_then(|r| i64::try_from(r).ok()).unwrap_or(-1)
}

pub(super) fn info(
    schema: &Schema,
    ticket: impl Into<Bytes>,
    descriptor: FlightDescriptor,
    rows: i64,
) -> Result<Response<FlightInfo>, Status> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
    let info = FlightInfo::new()
        .try_with_schema(schema)
        .map_err(|e| status::of_error(e.into()))?
        .with_endpoint(endpoint)
        .with_descriptor(descriptor)
        .with_total_records(rows)
        .with_ordered(true);
    Ok(Response::new(info))
}

/// A result becomes a ticket.
pub(super) async fn hand_out(
    caller: &Caller,
    handle: Handle,
    results: Vec<QueryResult>,
    descriptor: FlightDescriptor,
) -> Result<Response<FlightInfo>, Status> {
    let gives_rows = results.first().is_some_and(|r| !matches!(r.tag(), Tag::Command { .. }));
    let (schema, handle, rows) = if gives_rows {
        let schema = results.first().map(|r| plain_schema(&r.schema())).unwrap_or_else(no_columns);
        caller.session.keep_result(&handle.id, results, Arc::clone(&schema));
        (schema, handle, -1)
    } else {
        let rows = as_count(count(results).await?);
        (no_columns(), Handle { done: true, ..handle }, rows)
    };
    let ticket = TicketStatementQuery { statement_handle: handle.encode_to_vec().into() };
    info(&schema, ticket.as_any().encode_to_vec(), descriptor, rows)
}

pub(super) fn no_columns() -> SchemaRef {
    Arc::new(Schema::empty())
}

impl FlightSql {
    pub(super) fn new_id(&self) -> String {
        self.database.random_text(16)
    }

    pub(super) async fn fetch(&self, ticket: &TicketStatementQuery, request: &Request<Ticket>) -> DoGet {
        let caller = Self::caller(request)?;
        let handle = Handle::decode(ticket.statement_handle.as_ref())
            .map_err(|_| status::invalid("the ticket is none of this server's"))?;
        if handle.id.is_empty() {
            return Err(status::invalid("the ticket is none of this server's"));
        }
        if handle.done {
            let nothing = Box::pin(futures::stream::empty());
            let stream = stream::encode(&no_columns(), nothing, caller.compression)?;
            return Ok(Response::new(stream));
        }
        let (results, schema) = match caller.session.take_result(&handle.id) {
            Some(kept) => (kept.results, kept.schema),
            None => self.again(&caller, &handle).await?,
        };
        let running = caller.session.run(&handle.id);
        let rows = stream::rows(results, &schema, caller.limit, running);
        Ok(Response::new(stream::encode(&schema, rows, caller.compression)?))
    }

    /// Runs a query whose result was fetched already, or waited too long.
    async fn again(&self, caller: &Caller, handle: &Handle) -> Result<(Vec<QueryResult>, SchemaRef), Status> {
        if kind_of(&handle.sql).map_err(status::of_error)? != StatementKind::Query {
            return Err(status::not_found("the rows that the statement returned were fetched already"));
        }
        let (bound, place) = match &handle.prepared {
            Some(prepared) => {
                let statement = caller.session.statement(prepared.as_bytes())?;
                let bound = statement.bound.lock().clone();
                (bound, Place::of_prepared(caller, &statement)?)
            }
            None => (vec![], Place::of(caller, handle.transaction.as_deref())?),
        };
        let results = run(caller, &place, &handle.sql, &bound).await?;
        let schema = results.first().map(|r| plain_schema(&r.schema())).unwrap_or_else(no_columns);
        Ok((results, schema))
    }
}

/// The handle inside of a result's ticket.
pub(super) fn handle_of(info: &FlightInfo) -> Result<Handle, Status> {
    let unknown = || status::invalid("the flight is none of this server's statements");
    let ticket = info.endpoint.first().and_then(|e| e.ticket.as_ref()).ok_or_else(unknown)?;
    let any = Any::decode(ticket.ticket.as_ref()).map_err(|_| unknown())?;
    let ticket: TicketStatementQuery = any.unpack().map_err(|_| unknown())?.ok_or_else(unknown)?;
    Handle::decode(ticket.statement_handle.as_ref()).map_err(|_| unknown())
}
