//! What a statement gives back: a stream of batches and what kind of statement it was.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{EmptyRecordBatchStream, ExecutionPlan};
use futures::{Stream, StreamExt};
use triune_common::{Error, Result, boxed};

use crate::progress::ProgressHandle;
use crate::queries::RecordedStream;

/// The kind of a statement, for whoever prints its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tag {
    /// A query: the stream is its rows.
    Rows,
    /// `EXPLAIN`: the stream is one text column, `plan`.
    Plan,
    /// Everything else: done, with no rows. `rows` counts those written, where that says something.
    Command { name: String, rows: Option<u64> },
}

/// A running statement. Dropping it cancels what still runs.
pub struct QueryResult {
    tag: Tag,
    stream: SendableRecordBatchStream,
    progress: ProgressHandle,
    id: Option<u64>,
}

impl std::fmt::Debug for QueryResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryResult").field("tag", &self.tag).field("schema", &self.stream.schema()).finish()
    }
}

impl QueryResult {
    pub(crate) fn rows(stream: SendableRecordBatchStream, plan: Arc<dyn ExecutionPlan>) -> Self {
        Self { tag: Tag::Rows, stream, progress: ProgressHandle::of(Some(plan)), id: None }
    }

    pub(crate) fn command(name: impl Into<String>, rows: Option<u64>) -> Self {
        let stream = Box::pin(EmptyRecordBatchStream::new(Arc::new(Schema::empty())));
        let tag = Tag::Command { name: name.into(), rows };
        Self { tag, stream, progress: ProgressHandle::of(None), id: None }
    }

    pub(crate) fn batches(tag: Tag, schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        let items = futures::stream::iter(batches.into_iter().map(Ok));
        let stream = Box::pin(RecordBatchStreamAdapter::new(schema, items));
        Self { tag, stream, progress: ProgressHandle::of(None), id: None }
    }

    /// The same rows with other names of columns.
    pub(crate) fn rename(self, name: impl Fn(&str) -> &str) -> Self {
        let schema = self.stream.schema();
        if schema.fields().iter().all(|f| name(f.name()) == f.name()) {
            return self;
        }
        let fields = schema.fields().iter().map(|f| {
            let name = name(f.name()).to_owned();
            f.as_ref().clone().with_name(name)
        });
        let renamed =
            Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()));
        let with = Arc::clone(&renamed);
        let stream = self.stream.map(move |batch| {
            let batch = batch?;
            let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&with), batch.columns().to_vec(), &rows)?)
        });
        Self { stream: Box::pin(RecordBatchStreamAdapter::new(renamed, stream)), ..self }
    }

    pub(crate) fn with_id(self, id: u64) -> Self {
        Self { id: Some(id), ..self }
    }

    /// The same rows, followed by the statement's record.
    pub(crate) fn recorded(
        self,
        id: u64,
        follow: impl FnOnce(SendableRecordBatchStream) -> RecordedStream,
    ) -> Self {
        Self { stream: Box::pin(follow(self.stream)), id: Some(id), ..self }
    }

    /// The statement's in `system.queries`; `None` for one that another statement runs.
    pub fn id(&self) -> Option<u64> {
        self.id
    }

    pub fn schema(&self) -> SchemaRef {
        self.stream.schema()
    }

    pub fn tag(&self) -> &Tag {
        &self.tag
    }

    /// Rows read so far, and of how many; may be asked from another task while this one runs.
    pub fn progress(&self) -> ProgressHandle {
        self.progress.clone()
    }

    /// The next batch; `None` at the end. After an error the result is at its end.
    #[boxed]
    pub async fn next(&mut self) -> Option<Result<RecordBatch>> {
        self.stream.next().await.map(|batch| batch.map_err(triune_files::explain_read_error))
    }

    /// All batches.
    #[boxed]
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }

    /// The batches as a stream for DataFusion.
    pub fn into_stream(self) -> SendableRecordBatchStream {
        self.stream
    }
}

impl Stream for QueryResult {
    type Item = Result<RecordBatch, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.poll_next_unpin(cx).map(|item| item.map(|b| b.map_err(triune_files::explain_read_error)))
    }
}
