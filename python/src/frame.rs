//! Objects of Python as tables of a session.
//!
//! ```text
//!  in memory (pandas, polars, pyarrow.Table …)   read once, scanned by several threads
//!  a stream that is read once                    a table that can be read once
//!  a stream that can be read again               asked for a new one by each scan
//! ```

use std::sync::Arc;

use arrow::array::RecordBatchReader;
use arrow::datatypes::SchemaRef;
use arrow::ffi_stream::ArrowArrayStreamReader;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::PartitionStream;
use parking_lot::Mutex;
use pyo3::prelude::*;
use triune_common::Error;

use crate::error::{from_python, to_python};
use crate::import::{Given, given, read_batches};
use crate::rows::Batches;

/// How many pieces a table in memory is scanned in at most.
const PIECES: usize = 8;

/// How a producer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Now, whole.
    Whole,
    /// When a query reads it, once.
    Once,
    /// When a query reads it, anew each time.
    Again,
}

/// The table of a Python object that gives Arrow data.
pub(crate) fn table(object: &Bound<'_, PyAny>, reading: Reading) -> PyResult<Arc<dyn TableProvider>> {
    let py = object.py();
    if let Ok(batches) = object.cast::<Batches>() {
        return in_memory(py, batches.get());
    }
    let source = match reading {
        Reading::Whole => return in_memory(py, &read_batches(object)?),
        Reading::Once => match given(object)? {
            Given::Batch(batch) => {
                return in_memory(py, &Batches { schema: batch.schema(), batches: vec![batch] });
            }
            Given::Stream(reader) => (reader.schema(), Source::Once(Mutex::new(Some(reader)))),
        },
        Reading::Again => {
            let schema = match given(object)? {
                Given::Batch(batch) => batch.schema(),
                Given::Stream(reader) => reader.schema(),
            };
            (schema, Source::Again(object.clone().unbind()))
        }
    };
    let (schema, source) = source;
    let part = Arc::new(Produced { schema: Arc::clone(&schema), source: Arc::new(source) });
    let table = StreamingTable::try_new(schema, vec![part]).map_err(|e| to_python(py, e.into()))?;
    Ok(Arc::new(table))
}

fn in_memory(py: Python<'_>, data: &Batches) -> PyResult<Arc<dyn TableProvider>> {
    let rows: usize = data.batches.iter().map(arrow::array::RecordBatch::num_rows).sum();
    let piece = rows.div_ceil(PIECES).max(8192);
    let mut pieces = vec![Vec::new()];
    let mut filled = 0;
    for batch in &data.batches {
        let mut at = 0;
        while at < batch.num_rows() {
            if filled >= piece {
                pieces.push(Vec::new());
                filled = 0;
            }
            let taken = (piece - filled).min(batch.num_rows() - at);
            if let Some(last) = pieces.last_mut() {
                last.push(batch.slice(at, taken));
            }
            at += taken;
            filled += taken;
        }
    }
    let table = MemTable::try_new(Arc::clone(&data.schema), pieces).map_err(|e| to_python(py, e.into()))?;
    Ok(Arc::new(table))
}

enum Source {
    Once(Mutex<Option<ArrowArrayStreamReader>>),
    Again(Py<PyAny>),
}

impl Source {
    /// A reader of its own for a scan.
    fn open(&self) -> Result<ArrowArrayStreamReader, Error> {
        match self {
            Self::Once(reader) => reader.lock().take().ok_or_else(|| {
                Error::invalid("the stream was read already")
                    .with_hint("it can be read once: read it into a table first, or give an object that can be read again")
            }),
            Self::Again(object) => Python::attach(|py| match given(object.bind(py)) {
                Ok(Given::Stream(reader)) => Ok(reader),
                Ok(Given::Batch(_)) => Err(Error::internal("a stream became an array")),
                Err(error) => Err(from_python(py, "the stream cannot be opened again", error)),
            }),
        }
    }
}

struct Produced {
    schema: SchemaRef,
    source: Arc<Source>,
}

impl std::fmt::Debug for Produced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Produced").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl PartitionStream for Produced {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), 2);
        let out = stream.tx();
        let source = Arc::clone(&self.source);
        stream.spawn_blocking(move || {
            for batch in source.open()? {
                let batch = batch.map_err(DataFusionError::from);
                let failed = batch.is_err();
                if out.blocking_send(batch).is_err() || failed {
                    break;
                }
            }
            Ok(())
        });
        stream.build()
    }
}
