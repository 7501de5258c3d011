//! Rows on their way to a client.
//!
//! ```text
//!  QueryResult ─ task: views → plain, time limit, cancel ─ 2 batches wait ─ encoder (parts of 2 MiB) ─ HTTP/2 window ─▶ client
//! ```
//!
//! A client that reads slowly holds back the query; one that goes away drops the stream, and with it the task and the
//! query. One that stops reading holds a few batches until its time limit; the task ends then, whoever reads or not.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use datafusion::common::runtime::SpawnedTask;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;
use triune_query::QueryResult;

use crate::options::Compression;
use crate::sessions::Running;
use crate::status;

/// Batches that wait for the encoder.
const AHEAD: usize = 2;

/// The same columns in the layouts that every client reads: no views.
pub(crate) fn plain_schema(schema: &Schema) -> SchemaRef {
    let fields: Fields = schema.fields().iter().map(|f| Arc::new(plain_field(f))).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn plain_field(field: &Field) -> Field {
    field.clone().with_data_type(plain_type(field.data_type()))
}

fn plain_type(data_type: &DataType) -> DataType {
    let inner = |f: &Arc<Field>| Arc::new(plain_field(f));
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(f) | DataType::ListView(f) => DataType::List(inner(f)),
        DataType::LargeList(f) | DataType::LargeListView(f) => DataType::LargeList(inner(f)),
        DataType::FixedSizeList(f, n) => DataType::FixedSizeList(inner(f), *n),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
        other => other.clone(),
    }
}

pub(crate) fn plain_batch(batch: &RecordBatch, schema: &SchemaRef) -> triune_common::Result<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() {
            Ok(Arc::clone(column))
        } else {
            cast(column, field.data_type())
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>();
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    columns
        .and_then(|columns| RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows))
        .map_err(Into::into)
}

/// When a request has to be done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit(Option<Instant>);

impl Limit {
    /// The shorter of what the client and the server allow.
    pub(crate) fn new(client: Option<Duration>, server: Option<Duration>) -> Self {
        // A little before the transport, which would say "cancelled".
        let client = client.map(|d| d.saturating_sub(Duration::from_millis(5)));
        let shorter = match (client, server) {
            (Some(c), Some(s)) => Some(c.min(s)),
            (one, other) => one.or(other),
        };
        Self(shorter.and_then(|d| tokio_now().checked_add(d)))
    }

    pub(crate) async fn over(self) {
        match self.0 {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

/// The runtime's own clock, which its timers follow.
fn tokio_now() -> Instant {
    Instant::now()
}

/// Rows of several results, one after the other, as one stream.
pub(crate) fn rows(
    results: Vec<QueryResult>,
    schema: &SchemaRef,
    limit: Limit,
    running: Running,
) -> BoxStream<'static, Result<RecordBatch, FlightError>> {
    let (out, batches) = mpsc::channel::<RecordBatch>(AHEAD);
    let failure: Arc<Mutex<Option<Status>>> = Arc::default();
    let schema = Arc::clone(schema);
    let failed = Arc::clone(&failure);
    let task = SpawnedTask::spawn(async move {
        let cancelled = running.token.clone();
        let send_all = async move {
            for mut result in results {
                while let Some(batch) = result.next().await {
                    let batch = batch.and_then(|b| plain_batch(&b, &schema)).map_err(status::of_error)?;
                    if out.send(batch).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Ok::<(), Status>(())
        };
        // The sender goes with the future, after the failure was noted: the reader looks when the channel is closed.
        tokio::pin!(send_all);
        let ended = tokio::select! {
            biased;
            () = cancelled.cancelled() => Err(status::cancelled()),
            () = limit.over() => Err(status::timed_out()),
            done = &mut send_all => done,
        };
        if let Err(status) = ended {
            *failed.lock() = Some(status);
        }
        drop(running);
    });
    let state = (batches, failure, Some(task));
    futures::stream::unfold(state, |(mut batches, failure, mut task)| async move {
        if let Some(batch) = batches.recv().await {
            return Some((Ok(batch), (batches, failure, task)));
        }
        // A task that ended by itself has noted what went wrong; one that broke has not.
        let broke = match task.take() {
            Some(task) => task.join().await.is_err(),
            None => return None,
        };
        let failed = failure.lock().take();
        let failed =
            failed.or_else(|| broke.then(|| Status::internal("the statement met a defect (SQLSTATE XX000)")));
        failed.map(|status| (Err(FlightError::Tonic(Box::new(status))), (batches, failure, None)))
    })
    .boxed()
}

/// Batches as messages.
pub(crate) fn encode(
    schema: &SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch, FlightError>>,
    compression: Compression,
) -> Result<BoxStream<'static, Result<FlightData, Status>>, Status> {
    let compression = match compression {
        Compression::None => None,
        Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
        Compression::Zstd => Some(CompressionType::ZSTD),
    };
    let options = IpcWriteOptions::default()
        .try_with_compression(compression)
        .map_err(|e| status::of_error(e.into()))?;
    let encoder = FlightDataEncoderBuilder::new()
        .with_schema(Arc::clone(schema))
        .with_options(options)
        .build(batches)
        .map_err(status::of_flight);
    Ok(encoder.boxed())
}
