//! `--format parquet` and `--format arrow`: for other programs, streamed batch by batch.
//!
//! Arrow is the IPC *stream* format on a pipe and the IPC *file* format in a file (`-o`), since readers of the
//! latter seek. Extension types (vectors) keep their metadata in both. One file holds one result.

use std::io::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::writer::{FileWriter, StreamWriter};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use triune_common::{Error, Result};

use super::Sink;

type Out<'a> = &'a mut (dyn Write + Send);

/// A Parquet file, compressed with Zstandard.
pub struct ParquetSink<'a> {
    writer: ArrowWriter<Out<'a>>,
    rows: u64,
}

impl std::fmt::Debug for ParquetSink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetSink").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl<'a> ParquetSink<'a> {
    /// *Errors*: a column of a type that Parquet cannot hold.
    pub fn try_new(out: Out<'a>, schema: SchemaRef) -> Result<Self> {
        let properties =
            WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build();
        let writer = ArrowWriter::try_new(out, schema, Some(properties)).map_err(parquet_error)?;
        Ok(Self { writer, rows: 0 })
    }
}

fn parquet_error(e: parquet::errors::ParquetError) -> Error {
    Error::from(datafusion::common::DataFusionError::from(e))
}

impl Sink for ParquetSink<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch).map_err(parquet_error)
    }

    fn finish(self: Box<Self>, _elapsed: Option<std::time::Duration>) -> Result<u64> {
        self.writer.close().map_err(parquet_error)?;
        Ok(self.rows)
    }
}

/// The Arrow IPC stream format.
pub struct ArrowStreamSink<'a> {
    writer: StreamWriter<Out<'a>>,
    rows: u64,
}

impl std::fmt::Debug for ArrowStreamSink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArrowStreamSink").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl<'a> ArrowStreamSink<'a> {
    pub fn try_new(out: Out<'a>, schema: &Schema) -> Result<Self> {
        Ok(Self { writer: StreamWriter::try_new(out, schema)?, rows: 0 })
    }
}

impl Sink for ArrowStreamSink<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        Ok(self.writer.write(batch)?)
    }

    fn finish(mut self: Box<Self>, _elapsed: Option<std::time::Duration>) -> Result<u64> {
        self.writer.finish()?;
        Ok(self.rows)
    }
}

/// The Arrow IPC file format.
pub struct ArrowFileSink<'a> {
    writer: FileWriter<Out<'a>>,
    schema: SchemaRef,
    rows: u64,
}

impl std::fmt::Debug for ArrowFileSink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArrowFileSink").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl<'a> ArrowFileSink<'a> {
    pub fn try_new(out: Out<'a>, schema: &Schema) -> Result<Self> {
        let schema = Arc::new(without_dictionaries(schema));
        Ok(Self { writer: FileWriter::try_new(out, &schema)?, schema, rows: 0 })
    }
}

/// The file format allows one dictionary for a column, and every batch brings its own: such columns are
/// written with their values in place.
fn without_dictionaries(schema: &Schema) -> Schema {
    let plain = |field: &Arc<Field>| match field.data_type() {
        DataType::Dictionary(_, value) => {
            Arc::new(field.as_ref().clone().with_data_type(value.as_ref().clone()))
        }
        _ => Arc::clone(field),
    };
    Schema::new_with_metadata(
        schema.fields().iter().map(plain).collect::<Vec<_>>(),
        schema.metadata().clone(),
    )
}

impl Sink for ArrowFileSink<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        let columns = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(|(column, field)| {
                if column.data_type() == field.data_type() {
                    Ok(Arc::clone(column))
                } else {
                    cast(column, field.data_type())
                }
            })
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        Ok(self.writer.write(&batch)?)
    }

    fn finish(mut self: Box<Self>, _elapsed: Option<std::time::Duration>) -> Result<u64> {
        self.writer.finish()?;
        Ok(self.rows)
    }
}
