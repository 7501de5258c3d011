//! The shell's only door to the engine: a database, a session, and running statements.
//!
//! The engine has a runtime of its own. A statement runs there in its own task and hands its batches over a short
//! channel, so that the shell, on another runtime, stays awake for Ctrl-C and the progress bar even when every thread
//! of the engine is busy. Dropping a [`Running`] cancels the statement at its next pause.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use triune_common::{Error, Result};
use triune_query::{Database, DatabaseOptions, ProgressHandle, Session, Tag};

use crate::catalog::{Catalog, ColumnEntry, FunctionEntry, TableEntry};

/// Batches that wait for the terminal or file; each may be large.
const AHEAD: usize = 2;

/// Runs a future to its end on the engine's runtime.
///
/// *Errors*: the future's own; a panic inside is an internal error.
pub async fn on_engine<T, F>(engine: &Handle, future: F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let task = spawn_on(engine, future);
    task.join().await.unwrap_or_else(|e| Err(defect(e)))
}

fn spawn_on<T: Send + 'static>(
    engine: &Handle,
    future: impl Future<Output = T> + Send + 'static,
) -> SpawnedTask<T> {
    let _inside = engine.enter();
    SpawnedTask::spawn(future)
}

/// What is left of a task that did not end by itself. A panic has told the standard error where.
fn defect(e: JoinError) -> Error {
    if !e.is_panic() {
        return Error::internal("the statement ended without a result");
    }
    let panic = e.into_panic();
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    Error::internal(format!("the statement met a defect: {text}"))
}

/// A database and a session on it.
#[derive(Clone)]
pub struct Backend {
    engine: Handle,
    database: Arc<Database>,
    session: Arc<Session>,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").field("location", &self.database.location()).finish_non_exhaustive()
    }
}

/// What a statement says before its rows.
#[derive(Clone)]
pub struct Started {
    pub schema: SchemaRef,
    pub tag: Tag,
    pub progress: ProgressHandle,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// What comes from a running statement.
#[derive(Debug)]
pub enum Event {
    Started(Box<Started>),
    Batch(RecordBatch),
    Finished,
    Failed(Error),
}

/// A statement that runs until it is finished or dropped.
#[derive(Debug)]
pub struct Running {
    events: mpsc::Receiver<Event>,
    task: Option<SpawnedTask<()>>,
}

impl Backend {
    /// Opens a database: none or `:memory:` for one in memory, else a folder or a URL.
    /// Everything about it runs on `engine`.
    pub async fn open(engine: &Handle, location: Option<&str>, options: DatabaseOptions) -> Result<Self> {
        let location = location.map(str::to_owned);
        let database =
            on_engine(engine, async move { Database::open_with(location.as_deref(), options).await }).await?;
        let session = Arc::new(database.session());
        Ok(Self { engine: engine.clone(), database, session })
    }

    /// Ends writing; reads go on.
    pub async fn close(&self) -> Result<()> {
        let database = Arc::clone(&self.database);
        on_engine(&self.engine, async move { database.close().await }).await
    }

    /// The database's short name, for the prompt: the last part of its location, or `memory`.
    pub fn name(&self) -> String {
        short_name(self.database.location())
    }

    /// Starts one statement.
    pub fn start(&self, sql: String) -> Running {
        let (sender, events) = mpsc::channel(AHEAD);
        let session = Arc::clone(&self.session);
        // A send fails when nobody listens any more: the statement was cancelled.
        let task = spawn_on(&self.engine, async move {
            let mut result = match session.execute(&sql).await {
                Ok(result) => result,
                Err(e) => {
                    let _ = sender.send(Event::Failed(e)).await;
                    return;
                }
            };
            let started =
                Started { schema: result.schema(), tag: result.tag().clone(), progress: result.progress() };
            if sender.send(Event::Started(Box::new(started))).await.is_err() {
                return;
            }
            while let Some(batch) = result.next().await {
                let (event, last) = match batch {
                    Ok(batch) => (Event::Batch(batch), false),
                    Err(e) => (Event::Failed(e), true),
                };
                if sender.send(event).await.is_err() || last {
                    return;
                }
            }
            let _ = sender.send(Event::Finished).await;
        });
        Running { events, task: Some(task) }
    }

    /// How far a statement is that writes, from before it has begun.
    pub fn progress(&self) -> ProgressHandle {
        self.session.progress()
    }

    /// The tables' and functions' names, now.
    ///
    /// *Errors*: a defect of the engine.
    pub async fn catalog(&self) -> Result<Catalog> {
        let session = Arc::clone(&self.session);
        on_engine(&self.engine, async move { Ok(catalog_of(&session).await) }).await
    }
}

async fn catalog_of(session: &Session) -> Catalog {
    let names = session.names().await;
    let tables = names
        .tables
        .into_iter()
        .map(|t| TableEntry {
            schema: t.schema,
            name: t.name,
            kind: t.kind.to_owned(),
            columns: t
                .columns
                .into_iter()
                .map(|c| ColumnEntry {
                    name: c.name,
                    data_type: c.data_type,
                    nullable: c.nullable,
                    default: c.default,
                    comment: c.comment,
                })
                .collect(),
            notes: t.notes,
            statement: t.statement,
        })
        .collect();
    let mut functions: Vec<FunctionEntry> = session
        .functions()
        .into_iter()
        .map(|f| FunctionEntry {
            name: f.name,
            kind: f.kind.label().to_owned(),
            signature: f.signature,
            description: f.description,
        })
        .collect();
    functions.sort_by(|a, b| (&a.name, &a.kind).cmp(&(&b.name, &b.kind)));
    Catalog { tables, functions }
}

impl Running {
    /// The next event. After `Finished` or `Failed` nothing more comes. May be dropped while it waits.
    pub async fn next(&mut self) -> Event {
        if let Some(event) = self.events.recv().await {
            return event;
        }
        // The channel closed without a last word.
        let Some(task) = &mut self.task else { return Event::Finished };
        let ended = task.await;
        self.task = None;
        Event::Failed(match ended {
            Err(e) => defect(e),
            Ok(()) => Error::internal("the statement ended without a result"),
        })
    }
}

fn short_name(location: &str) -> String {
    let path = location.split(['?', '#']).next().unwrap_or(location).trim_end_matches('/');
    let last = path.rsplit('/').next().unwrap_or(path);
    match last {
        "" | ":memory:" | "memory:" => "memory".to_owned(),
        name => crate::output::text::visible(name).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::short_name;

    #[test]
    fn names_are_short() {
        assert_eq!(short_name(":memory:"), "memory");
        assert_eq!(short_name("/data/shop/"), "shop");
        assert_eq!(short_name("s3://bucket/shop?region=x"), "shop");
        assert_eq!(short_name("shop"), "shop");
    }
}
