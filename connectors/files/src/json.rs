//! ```sql
//! SELECT * FROM 'logs/*.ndjson.gz';
//! SELECT * FROM 'answer.json';          -- one object on each line, or one array of objects; the file's start tells
//! ```
//!
//! Types come from the first 20,480 records of each file (`sample_size`): BIGINT, DOUBLE, BOOLEAN, VARCHAR, lists
//! and structs; numbers beside texts are VARCHAR. A key that first appears after the sample is not a column.
//! Files with one object on each line are read in parallel parts.

use std::io::{BufReader, Cursor};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use arrow::json::ReaderBuilder;
use arrow::json::reader::{Decoder, infer_json_schema};
use bytes::{Buf, Bytes};
use datafusion::catalog::Session;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::physical_plan::{FileOpener, JsonOpener};
use datafusion_datasource::{RangeCalculation, calculate_range};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore};
use triune_common::Error;
use triune_object_store::find_error;

use crate::errors::{bad_file, of_file};
use crate::sample::{contents, read_head};
use crate::source::{Batches, FileReader, ReadJob};

/// How far an error is searched for, to name its line.
const LOOK_AT: usize = 256 << 20;

/// Whether the file has one object on each line, going by its first letter.
pub(crate) async fn has_lines(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    name: &str,
    compression: FileCompressionType,
) -> triune_common::Result<bool> {
    let first = |bytes: &[u8]| bytes.iter().copied().find(|b| !b.is_ascii_whitespace());
    let head = read_head(store, path, compression, |bytes| first(bytes).is_some())
        .await
        .map_err(|e| of_file(name, e))?;
    match first(&head.bytes) {
        Some(b'[') => Ok(false),
        Some(_) => Ok(true),
        None => Err(bad_file(name, "the file is empty")),
    }
}

/// The schema of one file, from a sample of its records.
pub(crate) async fn infer(
    state: &dyn Session,
    store: &Arc<dyn ObjectStore>,
    meta: &ObjectMeta,
    name: &str,
    compression: FileCompressionType,
    lines: bool,
    sample: usize,
) -> triune_common::Result<Schema> {
    let schema = if lines {
        let mut counted = 0;
        let mut found = 0;
        let head = read_head(store, &meta.location, compression, |bytes| {
            found += bytes[counted..].iter().filter(|b| **b == b'\n').count();
            counted = bytes.len();
            found >= sample
        })
        .await
        .map_err(|e| of_file(name, e))?;
        let end = if head.complete {
            head.bytes.len()
        } else {
            head.bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1)
        };
        if end == 0 && !head.bytes.is_empty() {
            return Err(bad_file(name, "the first record is longer than 64 MiB"));
        }
        match infer_json_schema(BufReader::new(Cursor::new(&head.bytes[..end])), Some(sample)) {
            Ok((schema, _)) => schema,
            Err(e) => return Err(broken(&head.bytes[..end], name, &e.to_string())),
        }
    } else {
        let format = JsonFormat::default()
            .with_newline_delimited(false)
            .with_file_compression_type(compression)
            .with_schema_infer_max_rec(sample);
        let schema = format
            .infer_schema(state, store, std::slice::from_ref(meta))
            .await
            .map_err(|e| of_file(name, e))?;
        schema.as_ref().clone()
    };
    if schema.fields().is_empty() {
        return Err(bad_file(name, "no record has a key"));
    }
    Ok(Schema::new(schema.fields().iter().map(|f| known(f)).collect::<Fields>()))
}

/// A key that was NULL throughout the sample may hold anything: text can.
fn known(field: &Field) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Null => DataType::Utf8,
        DataType::List(item) => DataType::List(known(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| known(f)).collect()),
        other => other.clone(),
    };
    Arc::new(Field::new(field.name(), data_type, true))
}

/// The error of a text that is no JSON, with the line.
fn broken(text: &[u8], name: &str, otherwise: &str) -> Error {
    for (n, line) in text.split(|b| *b == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice::<serde_json::Value>(line) {
            Ok(serde_json::Value::Object(_)) => {}
            Ok(_) => return Error::data(format!("\"{name}\", line {}: the record is no object", n + 1)),
            Err(e) => {
                let what = e.to_string();
                let what = what.split(" at line ").next().unwrap_or(&what);
                return Error::data(format!("\"{name}\", line {}: the record is no JSON ({what})", n + 1));
            }
        }
    }
    bad_file(name, otherwise.trim_start_matches("Json error: "))
}

/// Reads the JSON files of one table.
#[derive(Debug)]
pub(crate) struct JsonReader {
    pub(crate) lines: bool,
}

impl FileReader for JsonReader {
    fn name(&self) -> &'static str {
        "json"
    }

    fn splittable(&self) -> bool {
        // Line breaks inside texts are escaped, so a line break always ends a record.
        self.lines
    }

    fn read(&self, job: ReadJob) -> BoxFuture<'static, Result<Batches>> {
        if self.lines { read_lines(job).boxed() } else { read_array(job).boxed() }
    }
}

async fn read_lines(job: ReadJob) -> Result<Batches> {
    let range = match calculate_range(&job.file, &job.store, None).await? {
        RangeCalculation::Range(range) => range,
        RangeCalculation::TerminateEarly => return Ok(futures::stream::empty().boxed()),
    };
    job.scanned.add(range.as_ref().map_or(job.file.object_meta.size, |r| r.end - r.start) as usize);
    let options = GetOptions { range: range.map(Into::into), ..Default::default() };
    let bytes = contents(&job.store, job.file.path(), job.compression, options).await?;
    let decoder = ReaderBuilder::new(Arc::clone(&job.wanted))
        .with_batch_size(job.batch_size)
        .with_coerce_primitive(true)
        .build_decoder()?;
    let job = Arc::new(job);
    Ok(decode(decoder, bytes)
        .then(move |batch| {
            let job = Arc::clone(&job);
            async move {
                match batch {
                    Ok(batch) => Ok(batch),
                    Err(e) => Err(explain(&job, e).await.into()),
                }
            }
        })
        .boxed())
}

/// DataFusion's reader of arrays, which needs the file from its start.
async fn read_array(job: ReadJob) -> Result<Batches> {
    job.scanned.add(job.file.object_meta.size as usize);
    let opener = JsonOpener::new(
        job.batch_size,
        Arc::clone(&job.wanted),
        job.compression,
        Arc::clone(&job.store),
        false,
    );
    opener.open(job.file)?.await
}

/// Reads a file again to find the line that is wrong; only done once something is.
async fn explain(job: &ReadJob, error: DataFusionError) -> Error {
    if let Some(ours) = find_error(&error) {
        return ours;
    }
    let head = read_head(&job.store, job.file.path(), job.compression, |bytes| bytes.len() >= LOOK_AT).await;
    match head {
        Ok(head) => {
            let found = of_file(&job.name, error);
            let text = found.message().to_owned();
            let plain = text.strip_prefix(&format!("\"{}\": ", job.name)).unwrap_or(&text);
            broken(&head.bytes, &job.name, plain)
        }
        Err(_) => of_file(&job.name, error),
    }
}

/// Drives the parser with pieces of a file as they arrive.
fn decode(decoder: Decoder, input: BoxStream<'static, Result<Bytes>>) -> Batches {
    let feed = (decoder, input.fuse(), Bytes::new(), false);
    futures::stream::try_unfold(feed, |(mut decoder, mut input, mut piece, mut ended)| async move {
        loop {
            while piece.is_empty() && !ended {
                match input.try_next().await? {
                    Some(next) => piece = next,
                    None => ended = true,
                }
            }
            let taken = decoder.decode(&piece)?;
            let full = taken < piece.len();
            piece.advance(taken);
            if full || ended {
                match decoder.flush()? {
                    Some(batch) => return Ok(Some((batch, (decoder, input, piece, ended)))),
                    None if ended => return Ok(None),
                    None => {}
                }
            }
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::broken;

    #[test]
    fn the_broken_line_is_named() {
        let e = broken(b"{\"a\":1}\n\n{\"a\":}\n", "f", "?").to_string();
        assert!(e.starts_with("\"f\", line 3: the record is no JSON"), "{e}");
        let e = broken(b"{\"a\":1}\n[1]\n", "f", "?").to_string();
        assert_eq!(e, "\"f\", line 2: the record is no object");
        assert_eq!(broken(b"{\"a\":1}\n", "f", "Json error: odd").to_string(), "\"f\": odd");
    }
}
