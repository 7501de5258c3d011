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
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion_datasource::{RangeCalculation, calculate_range};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore};
use serde::de::IgnoredAny;
use triune_common::{Error, ErrorKind};
use triune_object_store::find_error;

use crate::errors::{bad_file, of_file};
use crate::sample::{Head, contents, read_head};
use crate::source::{Batches, FileReader, ReadJob};

mod array;

use array::Unwrapped;

/// An array's sample, whatever its line breaks.
const ARRAY_SAMPLE: usize = 8 << 20;
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
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    name: &str,
    compression: FileCompressionType,
    lines: bool,
    sample: usize,
) -> triune_common::Result<Schema> {
    let mut counted = 0;
    let mut found = 0;
    let head = read_head(store, path, compression, |bytes| {
        found += bytes[counted..].iter().filter(|b| **b == b'\n').count();
        counted = bytes.len();
        // An array may stand on a single line.
        found >= sample || (!lines && counted >= ARRAY_SAMPLE)
    })
    .await
    .map_err(|e| of_file(name, e))?;
    let records = match lines {
        true => whole_lines(&head, name)?,
        false => whole_records(&head, name)?,
    };
    let schema = match infer_json_schema(BufReader::new(Cursor::new(&records)), Some(sample)) {
        Ok((schema, _)) => schema,
        Err(e) => return Err(broken(&head, lines, name, &e.to_string())),
    };
    if schema.fields().is_empty() {
        return Err(bad_file(name, "no record has a key"));
    }
    Ok(Schema::new(schema.fields().iter().map(|f| known(f)).collect::<Fields>()))
}

fn whole_lines(head: &Head, name: &str) -> triune_common::Result<Vec<u8>> {
    let end = match head.complete {
        true => head.bytes.len(),
        false => head.bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1),
    };
    if end == 0 {
        return Err(bad_file(name, "the first record is longer than 64 MiB"));
    }
    Ok(head.bytes[..end].to_vec())
}

/// The records of an array that the head has to their ends.
fn whole_records(head: &Head, name: &str) -> triune_common::Result<Vec<u8>> {
    let mut array = Unwrapped::default();
    let mut records = array.take(&head.bytes).map_err(|what| bad_file(name, what))?;
    if head.complete {
        array.finish().map_err(|what| bad_file(name, what))?;
    } else {
        let end = array.last_end().ok_or_else(|| bad_file(name, "the first record is longer than 64 MiB"))?;
        records.truncate(end);
    }
    Ok(records)
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
fn broken(head: &Head, lines: bool, name: &str, otherwise: &str) -> Error {
    let at = |line: usize, what: &serde_json::Error| {
        let what = what.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        Error::data(format!("\"{name}\", line {line}: the record is no JSON ({what})"))
    };
    if !lines {
        if let Err(e) = serde_json::from_slice::<IgnoredAny>(&head.bytes)
            && (head.complete || !e.is_eof())
        {
            return at(e.line(), &e);
        }
        return bad_file(name, otherwise.trim_start_matches("Json error: "));
    }
    let mut rest = head.bytes.split(|b| *b == b'\n').enumerate().peekable();
    while let Some((n, line)) = rest.next() {
        let is_cut = rest.peek().is_none() && !head.complete;
        if is_cut || line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice::<IgnoredAny>(line) {
            Ok(_) if line.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') => {
                return Error::data(format!("\"{name}\", line {}: the record is no object", n + 1));
            }
            Ok(_) => {}
            Err(e) => return at(n + 1, &e),
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
        read(job, self.lines).boxed()
    }
}

async fn read(job: ReadJob, lines: bool) -> Result<Batches> {
    let range = match calculate_range(&job.file, &job.store, None).await? {
        RangeCalculation::Range(range) => range,
        RangeCalculation::TerminateEarly => return Ok(futures::stream::empty().boxed()),
    };
    job.scanned.add(range.as_ref().map_or(job.file.object_meta.size, |r| r.end - r.start) as usize);
    let options = GetOptions { range: range.map(Into::into), ..Default::default() };
    let mut bytes = contents(&job.store, job.file.path(), job.compression, options).await?;
    if !lines {
        bytes = unwrapped(bytes, job.name.clone());
    }
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
                    Err(e) => Err(explain(&job, lines, e).await.into()),
                }
            }
        })
        .boxed())
}

/// The records of an array; its end is checked.
fn unwrapped(input: BoxStream<'static, Result<Bytes>>, name: String) -> BoxStream<'static, Result<Bytes>> {
    let start = (input, Unwrapped::default(), name);
    futures::stream::try_unfold(start, |(mut input, mut array, name)| async move {
        match input.next().await.transpose()? {
            Some(piece) => {
                let records = array.take(&piece).map_err(|what| bad_file(&name, what))?;
                Ok(Some((Bytes::from(records), (input, array, name))))
            }
            None => {
                array.finish().map_err(|what| bad_file(&name, what))?;
                Ok(None)
            }
        }
    })
    .boxed()
}

/// Reads a file again to find the line that is wrong; only done once something is.
async fn explain(job: &ReadJob, lines: bool, error: DataFusionError) -> Error {
    if let Some(ours) = find_error(&error) {
        return ours;
    }
    let plain = of_file(&job.name, error);
    let what = plain
        .message()
        .strip_prefix(&format!("\"{}\": ", job.name))
        .unwrap_or_else(|| plain.message())
        .to_owned();
    match read_head(&job.store, job.file.path(), job.compression, |bytes| bytes.len() >= LOOK_AT).await {
        Ok(head) if plain.kind() == ErrorKind::Data => broken(&head, lines, &job.name, &what),
        _ => plain,
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
    use super::{Head, broken};

    #[test]
    fn the_broken_line_is_named() {
        let broken = |text: &str, lines| {
            let head = Head { bytes: text.as_bytes().to_vec(), complete: true };
            broken(&head, lines, "f", "Json error: odd").to_string()
        };
        let e = broken("{\"a\":1}\n\n{\"a\":}\n", true);
        assert!(e.starts_with("\"f\", line 3: the record is no JSON"), "{e}");
        let e = broken("{\"a\":1}\n[1]\n", true);
        assert_eq!(e, "\"f\", line 2: the record is no object");
        assert_eq!(broken("{\"a\":1}\n", true), "\"f\": odd");
        assert!(broken("[{\"a\":1},\n{\"a\":}]", false).starts_with("\"f\", line 2:"));
    }
}
