//! ```sql
//! SELECT * FROM 'data/*.csv';                                            -- columns by the header, types by a sample
//! CREATE EXTERNAL TABLE t (a BIGINT, b VARCHAR) STORED AS CSV LOCATION 't.csv' OPTIONS (delim '|', header false);
//! ```
//!
//! - With a header, columns are found by name in each file: order may differ, a missing column is NULL.
//!   Columns that are declared under other names than the header's take the file's columns in order.
//! - Without one, by position; every file has to have as many.
//! - The empty text is NULL, and what `nullstr` says. Types: BOOLEAN, BIGINT, DOUBLE, DATE, TIMESTAMP, VARCHAR,
//!   found in the first 10,000 rows of each file (`sample_size`).
//! - A row with too many or too few values is an error with its line (`null_padding` fills short rows).
//! - A file is read by one core, since a line break may be inside quotes; `newlines_in_values = false` promises
//!   that none is, and large files are then cut into parts.

use std::collections::HashMap;
use std::io::{Seek, SeekFrom};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Decoder;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use bytes::{Buf, Bytes};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion_datasource::{RangeCalculation, calculate_range};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetResultPayload, ObjectMeta};
use parking_lot::Mutex;

use crate::align::Aligner;
use crate::errors::bad_file;
use crate::kind::is_tab_separated;
use crate::options::CsvOptions;
use crate::source::{Batches, FileReader, ReadJob};

pub(crate) mod dates;
pub(crate) mod infer;
mod locate;
pub(crate) mod records;

use locate::Locator;
use records::Dialect;

impl CsvOptions {
    pub(crate) fn dialect(&self, path: &str) -> Dialect {
        let usual = if is_tab_separated(path) { b'\t' } else { b',' };
        Dialect {
            delimiter: self.delimiter.unwrap_or(usual),
            quote: self.quote,
            escape: self.escape,
            terminator: self.terminator,
            comment: self.comment,
        }
    }
}

/// Header lines by file, so that a part in the middle of a file need not fetch its beginning again.
#[derive(Debug, Default)]
pub(crate) struct Headers(Mutex<HashMap<Path, Header>>);

/// The file as it was, and the names.
type Header = (ObjectMeta, Arc<Vec<String>>);

impl Headers {
    pub(crate) fn put(&self, meta: &ObjectMeta, names: Vec<String>) -> Arc<Vec<String>> {
        let names = Arc::new(names);
        self.0.lock().insert(meta.location.clone(), (meta.clone(), Arc::clone(&names)));
        names
    }

    fn get(&self, meta: &ObjectMeta) -> Option<Arc<Vec<String>>> {
        self.0.lock().get(&meta.location).filter(|(m, _)| m == meta).map(|(_, names)| Arc::clone(names))
    }
}

/// Reads the CSV files of one table.
#[derive(Debug)]
pub(crate) struct CsvReader {
    options: CsvOptions,
    /// All columns of the files in the table.
    file_schema: SchemaRef,
    /// Whether columns go by position although there may be a header.
    by_position: bool,
    headers: Arc<Headers>,
}

impl CsvReader {
    pub(crate) fn new(
        options: CsvOptions,
        file_schema: SchemaRef,
        by_position: bool,
        headers: Arc<Headers>,
    ) -> Self {
        Self { options, file_schema, by_position, headers }
    }
}

impl FileReader for CsvReader {
    fn name(&self) -> &'static str {
        "csv"
    }

    fn splittable(&self) -> bool {
        self.options.splittable
    }

    fn read(&self, job: ReadJob) -> BoxFuture<'static, Result<Batches>> {
        let this = Self {
            options: self.options.clone(),
            file_schema: SchemaRef::clone(&self.file_schema),
            by_position: self.by_position,
            headers: Arc::clone(&self.headers),
        };
        async move { this.open(job).await }.boxed()
    }
}

/// How a file's columns become the wanted ones.
struct Layout {
    /// The file's columns in order; those that nobody wants are text.
    columns: SchemaRef,
    wanted: Vec<usize>,
}

impl CsvReader {
    async fn open(self, job: ReadJob) -> Result<Batches> {
        let path = job.file.path().clone();
        let dialect = self.options.dialect(path.as_ref());
        let names = self.column_names(&job, dialect).await?;
        let layout = self.layout(names.as_deref(), &job.wanted);
        let start = job.file.range.as_ref().and_then(|r| u64::try_from(r.start).ok()).unwrap_or(0);

        let mut builder = ReaderBuilder::new(SchemaRef::clone(&layout.columns))
            .with_batch_size(job.batch_size)
            .with_header(self.options.header && start == 0)
            .with_delimiter(dialect.delimiter)
            .with_quote(dialect.quote)
            .with_truncated_rows(self.options.pad_short_rows)
            .with_projection(layout.wanted.clone());
        if let Some(escape) = dialect.escape {
            builder = builder.with_escape(escape);
        }
        if let Some(terminator) = dialect.terminator {
            builder = builder.with_terminator(terminator);
        }
        if let Some(comment) = dialect.comment {
            builder = builder.with_comment(comment);
        }
        if let Some(nulls) = &self.options.nulls {
            builder = builder.with_null_regex(nulls.clone());
        }

        let range = match calculate_range(&job.file, &job.store, dialect.terminator).await? {
            RangeCalculation::Range(range) => range,
            RangeCalculation::TerminateEarly => return Ok(futures::stream::empty().boxed()),
        };
        let from = range.as_ref().map_or(0, |r| r.start);
        job.scanned.add(range.as_ref().map_or(job.file.object_meta.size, |r| r.end - r.start) as usize);
        let result = job
            .store
            .get_opts(&path, GetOptions { range: range.clone().map(Into::into), ..Default::default() })
            .await?;
        let raw: Batches = match result.payload {
            GetResultPayload::File(mut file, _) if range.is_none() => {
                file.seek(SeekFrom::Start(0))?;
                let reader = builder.build(job.compression.convert_read(file)?)?;
                futures::stream::iter(reader.map(|r| r.map_err(DataFusionError::from))).boxed()
            }
            GetResultPayload::File(mut file, _) => {
                file.seek(SeekFrom::Start(result.range.start))?;
                let part = std::io::Read::take(file, result.range.end - result.range.start);
                let reader = builder.build(part)?;
                futures::stream::iter(reader.map(|r| r.map_err(DataFusionError::from))).boxed()
            }
            GetResultPayload::Stream(stream) => {
                let bytes = job.compression.convert_stream(stream.map_err(DataFusionError::from).boxed())?;
                decode(builder.build_decoder(), bytes)
            }
        };

        let locator = Arc::new(Locator {
            store: Arc::clone(&job.store),
            path,
            name: job.name.clone(),
            dialect,
            compression: job.compression,
            columns: layout.columns.fields().iter().map(|f| f.name().clone()).collect(),
            from,
            pad_short_rows: self.options.pad_short_rows,
            header: self.options.header,
        });
        let finish = Finish::new(&self.options, &layout, &job);
        Ok(raw
            .then(move |batch| {
                let locator = Arc::clone(&locator);
                let done = match batch {
                    Ok(batch) => finish.apply(&batch),
                    Err(e) => Err(e),
                };
                async move {
                    match done {
                        Ok(batch) => Ok(batch),
                        Err(e) => Err(locator.explain(e).await.into()),
                    }
                }
            })
            .boxed())
    }

    /// The names in the file's header, when columns go by them.
    async fn column_names(&self, job: &ReadJob, dialect: Dialect) -> Result<Option<Arc<Vec<String>>>> {
        if self.by_position {
            return Ok(None);
        }
        let meta = &job.file.object_meta;
        if let Some(names) = self.headers.get(meta) {
            return Ok(Some(names));
        }
        let names =
            infer::read_header(&job.store, &meta.location, &job.name, job.compression, dialect).await?;
        Ok(Some(self.headers.put(meta, names)))
    }

    fn layout(&self, names: Option<&Vec<String>>, wanted: &Schema) -> Layout {
        let wanted_types: HashMap<&str, &FieldRef> =
            wanted.fields().iter().map(|f| (f.name().as_str(), f)).collect();
        let names: Vec<&str> = match names {
            Some(names) => names.iter().map(String::as_str).collect(),
            None => self.file_schema.fields().iter().map(|f| f.name().as_str()).collect(),
        };
        let mut projection = Vec::new();
        let columns: Fields = names
            .iter()
            .enumerate()
            .map(|(i, name)| {
                let field = wanted_types.get(name);
                if field.is_some() {
                    projection.push(i);
                }
                let data_type = field.map_or(DataType::Utf8, |f| self.parsed_as(f.data_type()));
                Arc::new(Field::new(*name, data_type, true))
            })
            .collect();
        Layout { columns: Arc::new(Schema::new(columns)), wanted: projection }
    }

    /// The type that the parser is asked for: text where we parse ourselves or Arrow's parser cannot.
    fn parsed_as(&self, data_type: &DataType) -> DataType {
        let own = dates::format_for(
            data_type,
            self.options.date_format.as_deref(),
            self.options.timestamp_format.as_deref(),
        );
        match data_type {
            _ if own.is_some() => DataType::Utf8,
            // Casting text to these is defined; the parser does not know them.
            DataType::LargeUtf8
            | DataType::LargeBinary
            | DataType::Binary
            | DataType::BinaryView
            | DataType::Interval(_)
            | DataType::Duration(_)
            | DataType::Dictionary(..) => DataType::Utf8,
            other => other.clone(),
        }
    }
}

/// From the parser's batches to the table's.
struct Finish {
    aligner: Aligner,
    /// Positions in the parser's batch, the type to make, the format.
    formatted: Vec<(usize, DataType, String)>,
    name: String,
}

impl Finish {
    fn new(options: &CsvOptions, layout: &Layout, job: &ReadJob) -> Self {
        let parsed: Vec<FieldRef> =
            layout.wanted.iter().filter_map(|i| layout.columns.fields().get(*i)).map(Arc::clone).collect();
        let mut formatted = Vec::new();
        for (at, field) in parsed.iter().enumerate() {
            let Ok(wanted) = job.wanted.field_with_name(field.name()) else { continue };
            let format = dates::format_for(
                wanted.data_type(),
                options.date_format.as_deref(),
                options.timestamp_format.as_deref(),
            );
            if let Some(format) = format {
                formatted.push((at, wanted.data_type().clone(), format.to_owned()));
            }
        }
        let aligner = Aligner::new(&Schema::new(parsed), SchemaRef::clone(&job.wanted));
        Self { aligner, formatted, name: job.name.clone() }
    }

    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        if self.formatted.is_empty() {
            return Ok(self.aligner.apply(batch)?);
        }
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        let mut fields: Vec<FieldRef> = batch.schema().fields().iter().map(Arc::clone).collect();
        for (at, data_type, format) in &self.formatted {
            let parsed =
                dates::parse(columns[*at].as_string::<i32>(), data_type, format).map_err(|value| {
                    bad_file(
                        &self.name,
                        format!(
                            "\"{value}\" in column \"{}\" is not in the format \"{format}\"",
                            fields[*at].name()
                        ),
                    )
                })?;
            fields[*at] = Arc::new(fields[*at].as_ref().clone().with_data_type(data_type.clone()));
            columns[*at] = parsed;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
        Ok(self.aligner.apply(&batch)?)
    }
}

/// Drives the parser with pieces of a file as they arrive.
fn decode(decoder: Decoder, input: BoxStream<'static, Result<Bytes>>) -> Batches {
    struct Feed {
        decoder: Decoder,
        input: BoxStream<'static, Result<Bytes>>,
        piece: Bytes,
        ended: bool,
    }
    let feed = Feed { decoder, input, piece: Bytes::new(), ended: false };
    futures::stream::try_unfold(feed, |mut feed| async move {
        loop {
            if feed.piece.is_empty() && !feed.ended {
                match feed.input.next().await.transpose()? {
                    Some(piece) => feed.piece = piece,
                    None => feed.ended = true,
                }
                if feed.piece.is_empty() && !feed.ended {
                    continue;
                }
            }
            // At the end the parser is called with nothing, to finish the last record.
            let taken = feed.decoder.decode(&feed.piece)?;
            feed.piece.advance(taken);
            if taken == 0 {
                match feed.decoder.flush()? {
                    Some(batch) => return Ok(Some((batch, feed))),
                    None if feed.ended => return Ok(None),
                    None => {}
                }
            }
        }
    })
    .boxed()
}

/// Compression of the files, to know whether they can be cut.
pub(crate) fn is_compressed(compression: FileCompressionType) -> bool {
    compression != FileCompressionType::UNCOMPRESSED
}
