//! Follows a statement from its text to its last row.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use triune_common::{Error, ErrorKind, Result};

use super::{Entry, Queries, QueryStatus};
use crate::result::{QueryResult, Tag};

tokio::task_local! {
    static RUNNING: Arc<Entry>;
}

/// Whether a recorded statement runs this one.
pub(crate) fn is_recorded() -> bool {
    RUNNING.try_with(|_| ()).is_ok()
}

pub(super) fn current() -> Option<Arc<Entry>> {
    RUNNING.try_with(Arc::clone).ok()
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the statement was cancelled")
}

/// Ends the record when it is dropped, if nothing else did: nobody waits for the statement any more.
#[derive(Debug)]
pub(crate) struct Recorder {
    queries: Arc<Queries>,
    entry: Arc<Entry>,
}

impl Recorder {
    pub(super) fn new(queries: Arc<Queries>, entry: Arc<Entry>) -> Self {
        Self { queries, entry }
    }

    /// Runs the statement until it has a result, or is cancelled.
    pub(crate) async fn run(self, work: BoxFuture<'_, Result<QueryResult>>) -> Result<QueryResult> {
        let work = RUNNING.scope(Arc::clone(&self.entry), work);
        let done = tokio::select! {
            biased;
            done = work => done,
            () = self.entry.cancel.cancelled() => Err(cancelled()),
        };
        match done {
            Ok(result) => Ok(self.follow(result)),
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    /// The result, whose rows are counted as they are read.
    fn follow(self, result: QueryResult) -> QueryResult {
        let id = self.entry.id;
        self.entry.planned(self.queries.moment(), result.progress());
        match result.tag() {
            Tag::Command { rows, .. } => {
                let rows = rows.unwrap_or(0);
                self.entry.gave(rows, 0, || self.queries.moment());
                self.end(QueryStatus::Done, None);
                result.with_id(id)
            }
            Tag::Rows | Tag::Plan => result.recorded(id, |stream| RecordedStream::new(stream, self)),
        }
    }

    fn failed(&self, error: &Error) {
        let status = match error.kind() {
            ErrorKind::Cancelled => QueryStatus::Cancelled,
            _ => QueryStatus::Failed,
        };
        self.end(status, Some(error));
    }

    fn end(&self, status: QueryStatus, error: Option<&Error>) {
        if self.entry.end(status, error, self.queries.moment()) {
            self.queries.end(&self.entry);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end(QueryStatus::Cancelled, None);
    }
}

/// A result's batches on their way to whoever asked.
pub(crate) struct RecordedStream {
    inner: Option<SendableRecordBatchStream>,
    schema: SchemaRef,
    cancelled: BoxFuture<'static, ()>,
    recorder: Recorder,
}

impl RecordedStream {
    fn new(inner: SendableRecordBatchStream, recorder: Recorder) -> Self {
        let cancelled = recorder.entry.cancel.clone().cancelled_owned().boxed();
        Self { schema: inner.schema(), inner: Some(inner), cancelled, recorder }
    }
}

impl Stream for RecordedStream {
    type Item = DfResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(inner) = this.inner.as_mut() else { return Poll::Ready(None) };
        let error = if this.cancelled.as_mut().poll(cx).is_ready() {
            cancelled()
        } else {
            match std::task::ready!(inner.poll_next_unpin(cx)) {
                Some(Ok(batch)) => {
                    let queries = &this.recorder.queries;
                    this.recorder.entry.gave(batch.num_rows() as u64, bytes_of(&batch), || queries.moment());
                    return Poll::Ready(Some(Ok(batch)));
                }
                None => {
                    this.inner = None;
                    this.recorder.end(QueryStatus::Done, None);
                    return Poll::Ready(None);
                }
                Some(Err(error)) => triune_files::explain_read_error(error),
            }
        };
        // What still runs ends here, not when somebody drops the result.
        this.inner = None;
        this.recorder.failed(&error);
        Poll::Ready(Some(Err(DataFusionError::from(error))))
    }
}

impl RecordBatchStream for RecordedStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// Of the rows themselves, not of the buffers that they share with others.
fn bytes_of(batch: &RecordBatch) -> u64 {
    batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0) as u64).sum()
}
