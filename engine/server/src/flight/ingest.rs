//! Batches into tables: `DoPut` with `CommandStatementIngest`.
//!
//! ```text
//!  if the table is    missing: FAIL | CREATE      there: FAIL | APPEND | REPLACE
//!  options            triune.primary_key = "id"           of a table that is made
//!                     triune.on_conflict = update | nothing   rows whose key is there
//! ```
//!
//! The batches are read by an INSERT while they arrive: a slow disk holds back the client, and memory is bounded. All
//! rows are written or none; a table that is made or replaced gets its name when it is full.
//!
//! Limits: a table with `triune.primary_key` is filled under another name first, and named in a further step; what a client
//! that goes away leaves of it is a table of that name. Definitions take no part in transactions: within one, only APPEND
//! works.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder, FlightRecordBatchStream};
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::PeekableFlightDataStream;
use arrow_flight::sql::{CommandStatementIngest, TableExistsOption, TableNotExistOption};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tonic::Status;
use triune_common::{Error, ErrorKind, Result};
use triune_query::{CATALOG, DEFAULT_SCHEMA, Session, sql_type_name};

use super::gate::Caller;
use super::run::{self, Place};
use crate::status;

/// The client's batches as a table that can be read once.
struct Incoming {
    schema: SchemaRef,
    batches: Mutex<Option<BoxStream<'static, Result<RecordBatch, FlightError>>>>,
    rows: Arc<AtomicU64>,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl PartitionStream for Incoming {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = Arc::clone(&self.rows);
        let batches = match self.batches.lock().take() {
            Some(batches) => batches
                .map(move |batch| {
                    let batch = batch.map_err(|e| DataFusionError::External(Box::new(broken(e))))?;
                    rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                    Ok(batch)
                })
                .boxed(),
            // Whoever reads a second time must not find an empty table.
            None => {
                let again = Error::new(
                    ErrorKind::Conflict,
                    "another transaction came between, and the batches are read",
                )
                .with_hint("send them again");
                futures::stream::iter([Err(DataFusionError::from(again))]).boxed()
            }
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// The client's stream broke off, or holds what cannot be read.
fn broken(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => {
            Error::new(ErrorKind::Cancelled, format!("the client's batches broke off: {}", status.message()))
        }
        other => Error::invalid(format!("the client's batches cannot be read: {other}")),
    }
}

/// Takes the table of the batches away again, however the statement ends.
struct Registered<'a> {
    session: &'a Session,
    name: &'a str,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.session.deregister_temporary(self.name);
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(quoted).collect::<Vec<_>>().join(", ")
}

/// What a client asked for.
#[derive(Clone)]
struct Plan {
    table: String,
    schema: String,
    temporary: bool,
    may_create: bool,
    if_exists: TableExistsOption,
    key: Vec<String>,
    on_conflict: Option<OnConflict>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OnConflict {
    Update,
    Nothing,
}

impl Plan {
    fn of(command: CommandStatementIngest) -> Result<Self> {
        if command.catalog.as_deref().is_some_and(|c| !c.is_empty() && c != CATALOG) {
            return Err(Error::not_found(format!(
                "there is no catalog {:?}",
                command.catalog.unwrap_or_default()
            )));
        }
        if command.table.is_empty() {
            return Err(Error::invalid("the ingest names no table"));
        }
        let wanted = command.table_definition_options.unwrap_or_default();
        let if_missing = TableNotExistOption::try_from(wanted.if_not_exist)
            .map_err(|_| Error::invalid("what happens if the table does not exist is not known"))?;
        let if_exists = TableExistsOption::try_from(wanted.if_exists)
            .map_err(|_| Error::invalid("what happens if the table exists is not known"))?;
        let mut plan = Self {
            table: command.table,
            schema: command.schema.filter(|s| !s.is_empty()).unwrap_or_else(|| DEFAULT_SCHEMA.to_owned()),
            temporary: command.temporary,
            may_create: if_missing == TableNotExistOption::Create,
            if_exists,
            key: vec![],
            on_conflict: None,
        };
        for (name, value) in command.options {
            match name.as_str() {
                "triune.primary_key" => plan.key = value.split(',').map(|k| k.trim().to_owned()).collect(),
                "triune.on_conflict" => {
                    plan.on_conflict = Some(match value.as_str() {
                        "update" => OnConflict::Update,
                        "nothing" => OnConflict::Nothing,
                        other => {
                            return Err(Error::invalid(format!("triune.on_conflict cannot be {other:?}"))
                                .with_hint("accepted are update and nothing"));
                        }
                    });
                }
                other => {
                    return Err(Error::invalid(format!("the ingest has no option {other:?}"))
                        .with_hint("it has triune.primary_key and triune.on_conflict"));
                }
            }
        }
        Ok(plan)
    }

    fn target(&self) -> String {
        if self.temporary {
            quoted(&self.table)
        } else {
            format!("{}.{}", quoted(&self.schema), quoted(&self.table))
        }
    }
}

pub(super) async fn run(
    caller: &Caller,
    command: CommandStatementIngest,
    data: PeekableFlightDataStream,
    name: String,
) -> Result<i64, Status> {
    let transaction = run::transaction_id(command.transaction_id.as_ref())?;
    let plan = Plan::of(command).map_err(status::of_error)?;
    let place = Place::of(caller, transaction.as_deref())?;
    let mut decoder = FlightDataDecoder::new(
        data.try_filter(|message| std::future::ready(!message.data_header.is_empty()))
            .map_err(|s| FlightError::Tonic(Box::new(s))),
    );
    let schema = loop {
        match decoder.next().await {
            Some(Ok(message)) => match message.payload {
                DecodedPayload::Schema(schema) => break schema,
                DecodedPayload::None => {}
                DecodedPayload::RecordBatch(_) => {
                    return Err(status::invalid("a batch comes before its schema"));
                }
            },
            Some(Err(e)) => return Err(status::of_flight(e)),
            None => return Err(status::invalid("the ingest has no schema")),
        }
    };
    let rows = Arc::new(AtomicU64::new(0));
    let batches = FlightRecordBatchStream::new(decoder).boxed();
    let incoming =
        Incoming { schema: Arc::clone(&schema), batches: Mutex::new(Some(batches)), rows: Arc::clone(&rows) };
    let table = StreamingTable::try_new(Arc::clone(&schema), vec![Arc::new(incoming)])
        .map_err(|e| status::of_error(e.into()))?;
    let session = place.session();
    session.register_temporary(&name, Arc::new(table));
    let _registered = Registered { session, name: &name };
    let work = async {
        let _turn = place.turn().await;
        write(session, &plan, &schema, &name).await
    };
    tokio::select! {
        biased;
        done = work => done.map_err(status::of_error)?,
        () = caller.limit.over() => {
            if !plan.key.is_empty() && !plan.temporary {
                let staged = Plan { table: staging(&name), ..plan };
                let _ = session.fork().execute(&format!("DROP TABLE IF EXISTS {}", staged.target())).await;
            }
            return Err(status::timed_out());
        }
    }
    Ok(run::as_count(Some(rows.load(Ordering::Relaxed))))
}

async fn write(session: &Session, plan: &Plan, schema: &SchemaRef, source: &str) -> Result<()> {
    let kind = if plan.temporary { "temporary table" } else { "table" };
    let wanted = |s: &str, n: &str, k: &str| {
        n == plan.table && if plan.temporary { k == kind } else { s == plan.schema && k != "temporary table" }
    };
    let found = session.relations(&wanted, false).await.into_iter().next();
    let Some(found) = found else {
        if !plan.may_create {
            return Err(Error::not_found(format!("there is no table {}", plan.target()))
                .with_hint("ingest with the mode that creates it"));
        }
        return if plan.key.is_empty() || plan.temporary {
            create(session, plan, schema, source, "").await
        } else {
            create_with_key(session, plan, schema, source, false).await
        };
    };
    match plan.if_exists {
        TableExistsOption::Append => {
            let sql = insert(plan, &found.primary_key, schema, source)?;
            append(session, &sql).await
        }
        TableExistsOption::Replace if !plan.key.is_empty() && !plan.temporary => {
            create_with_key(session, plan, schema, source, true).await
        }
        TableExistsOption::Replace => create(session, plan, schema, source, "OR REPLACE ").await,
        TableExistsOption::Fail | TableExistsOption::Unspecified => {
            Err(Error::new(ErrorKind::AlreadyExists, format!("the table {} exists already", plan.target()))
                .with_hint("ingest with the mode that appends or replaces"))
        }
    }
}

fn insert(plan: &Plan, key: &[String], schema: &SchemaRef, source: &str) -> Result<String> {
    let columns = list(schema.fields().iter().map(|f| f.name().as_str()));
    let mut sql =
        format!("INSERT INTO {} ({columns}) SELECT {columns} FROM {}", plan.target(), quoted(source));
    if let Some(action) = plan.on_conflict {
        if key.is_empty() {
            return Err(Error::invalid(format!(
                "the table {} has no primary key that could conflict",
                plan.target()
            )));
        }
        let others: Vec<String> = schema
            .fields()
            .iter()
            .map(|f| f.name())
            .filter(|n| !key.contains(n))
            .map(|n| format!("{} = excluded.{}", quoted(n), quoted(n)))
            .collect();
        let does = match action {
            OnConflict::Update if !others.is_empty() => format!("UPDATE SET {}", others.join(", ")),
            OnConflict::Update | OnConflict::Nothing => "NOTHING".to_owned(),
        };
        sql.push_str(&format!(" ON CONFLICT ({}) DO {does}", list(key.iter().map(String::as_str))));
    }
    Ok(sql)
}

/// In a transaction of its own where there is none: a statement by itself would be tried again on a conflict, and the
/// batches come once.
async fn append(session: &Session, sql: &str) -> Result<()> {
    if session.in_transaction() {
        return session.execute(sql).await.map(drop);
    }
    let own = session.fork();
    own.execute("BEGIN").await?;
    own.execute(sql).await?;
    own.execute("COMMIT").await.map(drop)
}

async fn create(
    session: &Session,
    plan: &Plan,
    schema: &SchemaRef,
    source: &str,
    replace: &str,
) -> Result<()> {
    let kind = if plan.temporary { "TEMPORARY TABLE" } else { "TABLE" };
    let target = plan.target();
    if plan.key.is_empty() {
        let columns = list(schema.fields().iter().map(|f| f.name().as_str()));
        let sql = format!("CREATE {replace}{kind} {target} AS SELECT {columns} FROM {}", quoted(source));
        return session.execute(&sql).await.map(drop);
    }
    let columns: Vec<String> =
        schema.fields().iter().map(|f| format!("{} {}", quoted(f.name()), sql_type_name(f))).collect();
    let key = list(plan.key.iter().map(String::as_str));
    let sql = format!("CREATE {replace}{kind} {target} ({}, PRIMARY KEY ({key}))", columns.join(", "));
    session.execute(&sql).await?;
    let filled = append(session, &insert(plan, &plan.key, schema, source)?).await;
    if filled.is_err() {
        // Nothing is left of what did not succeed; the first error is the one to tell.
        let _ = session.execute(&format!("DROP {kind} {target}")).await;
    }
    filled
}

/// A table with a key is filled under another name first: what was there stays if that fails.
async fn create_with_key(
    session: &Session,
    plan: &Plan,
    schema: &SchemaRef,
    source: &str,
    replaces: bool,
) -> Result<()> {
    let staged = Plan { table: staging(source), if_exists: TableExistsOption::Fail, ..plan.clone() };
    create(session, &staged, schema, source, "").await?;
    if replaces {
        session.execute(&format!("DROP TABLE {}", plan.target())).await?;
    }
    let named = format!("ALTER TABLE {} RENAME TO {}", staged.target(), quoted(&plan.table));
    let named = session.execute(&named).await.map(drop);
    if named.is_err() && !replaces {
        let _ = session.execute(&format!("DROP TABLE {}", staged.target())).await;
    }
    named
}

/// The name of a table while it is filled from `source`.
fn staging(source: &str) -> String {
    format!("{source}_filled")
}
