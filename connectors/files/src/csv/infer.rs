//! Names and types of a CSV file's columns, from its beginning.

use std::collections::HashSet;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use object_store::ObjectStore;
use object_store::path::Path;
use triune_common::Result;

use super::dates;
use super::locate::Locator;
use super::records::{Dialect, Walker};
use crate::errors::{bad_file, of_file};
use crate::options::CsvOptions;
use crate::sample::read_head;

/// What a sample of a file shows.
pub(crate) struct Inferred {
    pub(crate) schema: Schema,
}

/// Looks at up to `sample` records.
///
/// # Errors
/// `Data` that names the file: nothing in it, a ragged row in the sample, bytes that are no text.
pub(crate) async fn infer(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    name: &str,
    options: &CsvOptions,
    compression: FileCompressionType,
    sample: usize,
) -> Result<Inferred> {
    let dialect = options.dialect(path.as_ref());
    let records = sample.saturating_add(usize::from(options.header));
    let (bytes, ends) = head_records(store, path, name, compression, dialect, records).await?;
    let Some(first) = ends.first() else {
        return Err(bad_file(name, "the file is empty"));
    };
    let locator = |columns: Vec<String>| Locator {
        store: Arc::clone(store),
        path: path.clone(),
        name: name.to_owned(),
        dialect,
        compression,
        columns,
        from: 0,
        pad_short_rows: options.pad_short_rows,
        header: options.header,
    };
    let expected = first.fields;
    let ragged =
        ends.iter().find(|r| r.fields > expected || (r.fields < expected && !options.pad_short_rows));
    if let Some(record) = ragged {
        return Err(locator(vec![String::new(); expected]).ragged(*record));
    }

    let format = format(options, dialect);
    let inferred = format.infer_schema(Cursor::new(&bytes), Some(sample));
    let (schema, _) = match inferred {
        Ok(found) => found,
        Err(e) => return Err(locator(vec![String::new(); expected]).explain(e.into()).await),
    };
    let names = unique(schema.fields().iter().map(|f| f.name().as_str()));
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .zip(&names)
        .map(|(field, name)| {
            let data_type = match field.data_type() {
                _ if options.all_text => DataType::Utf8,
                // Nothing but NULLs so far: anything may follow.
                DataType::Null => DataType::Utf8,
                other => other.clone(),
            };
            Field::new(name, data_type, true)
        })
        .collect();
    let mut schema = Schema::new(fields);
    if !options.all_text && (options.date_format.is_some() || options.timestamp_format.is_some()) {
        schema = with_formats(&schema, &bytes, options, dialect).map_err(|e| of_file(name, e.into()))?;
    }
    Ok(Inferred { schema })
}

/// The names in the first record, in the spelling of [`infer`].
pub(crate) async fn read_header(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    name: &str,
    compression: FileCompressionType,
    dialect: Dialect,
) -> Result<Vec<String>> {
    let (bytes, ends) = head_records(store, path, name, compression, dialect, 1).await?;
    if ends.is_empty() {
        return Err(bad_file(name, "the file is empty"));
    }
    let format = with_dialect(Format::default().with_header(true), dialect);
    let (schema, _) =
        format.infer_schema(Cursor::new(&bytes), Some(0)).map_err(|e| of_file(name, e.into()))?;
    Ok(unique(schema.fields().iter().map(|f| f.name().as_str())))
}

/// The first `count` records as bytes, and where each ends.
async fn head_records(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    name: &str,
    compression: FileCompressionType,
    dialect: Dialect,
    count: usize,
) -> Result<(Vec<u8>, Vec<super::records::Record>)> {
    let mut walker = Walker::new(dialect);
    let mut ends = Vec::new();
    let mut walked = 0;
    let head = read_head(store, path, compression, |bytes| {
        let flow = walker.push(&bytes[walked..], |record| {
            ends.push(record);
            if ends.len() >= count { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        walked = bytes.len();
        flow.is_break()
    })
    .await
    .map_err(|e| of_file(name, e))?;
    if head.complete {
        if ends.len() < count {
            ends.extend(walker.finish());
        }
        return Ok((head.bytes, ends));
    }
    let cut = ends.last().map_or(0, |r| usize::try_from(r.end).unwrap_or(usize::MAX));
    if cut == 0 {
        return Err(bad_file(name, "the first row is longer than 64 MiB")
            .with_hint("a quote that is not closed is the usual cause; see the options quote and escape"));
    }
    let mut bytes = head.bytes;
    bytes.truncate(cut);
    Ok((bytes, ends))
}

fn format(options: &CsvOptions, dialect: Dialect) -> Format {
    let mut format = with_dialect(Format::default().with_header(options.header), dialect)
        .with_truncated_rows(options.pad_short_rows);
    if let Some(nulls) = &options.nulls {
        format = format.with_null_regex(nulls.clone());
    }
    format
}

fn with_dialect(mut format: Format, dialect: Dialect) -> Format {
    format = format.with_delimiter(dialect.delimiter).with_quote(dialect.quote);
    if let Some(escape) = dialect.escape {
        format = format.with_escape(escape);
    }
    if let Some(terminator) = dialect.terminator {
        format = format.with_terminator(terminator);
    }
    if let Some(comment) = dialect.comment {
        format = format.with_comment(comment);
    }
    format
}

/// Text columns whose every value is in the given formats become DATE or TIMESTAMP.
fn with_formats(
    schema: &Schema,
    bytes: &[u8],
    options: &CsvOptions,
    dialect: Dialect,
) -> std::result::Result<Schema, arrow::error::ArrowError> {
    let text: Vec<Field> =
        schema.fields().iter().map(|f| Field::new(f.name(), DataType::Utf8, true)).collect();
    let batches: Vec<RecordBatch> = ReaderBuilder::new(Arc::new(Schema::new(text)))
        .with_format(format(options, dialect))
        .with_truncated_rows(options.pad_short_rows)
        .with_batch_size(1024)
        .build(Cursor::new(bytes))?
        .collect::<std::result::Result<_, _>>()?;
    let all = |column: usize, is_it: &dyn Fn(&str) -> bool| {
        let mut any = false;
        let fits = batches.iter().all(|b| {
            let values = b.column(column).as_string::<i32>();
            (0..values.len()).filter(|row| values.is_valid(*row)).all(|row| {
                any = true;
                is_it(values.value(row))
            })
        });
        any && fits
    };
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(i, field)| {
            let plain = field.as_ref().clone();
            if options.date_format.as_deref().is_some_and(|f| all(i, &|v| dates::is_date(v, f))) {
                plain.with_data_type(DataType::Date32)
            } else if options
                .timestamp_format
                .as_deref()
                .is_some_and(|f| all(i, &|v| dates::is_timestamp(v, f)))
            {
                plain.with_data_type(DataType::Timestamp(TimeUnit::Microsecond, None))
            } else if matches!(field.data_type(), DataType::Date32) && options.date_format.is_some() {
                // It looks like ISO 8601 and is not in the format that was asked for.
                plain.with_data_type(DataType::Utf8)
            } else if matches!(field.data_type(), DataType::Timestamp(..))
                && options.timestamp_format.is_some()
            {
                plain.with_data_type(DataType::Utf8)
            } else {
                plain
            }
        })
        .collect();
    Ok(Schema::new(fields))
}

/// Names without a byte order mark; a name that is missing or taken gets a number.
fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut taken = HashSet::new();
    names
        .enumerate()
        .map(|(i, name)| {
            let name = name.trim_start_matches('\u{feff}');
            let wanted = if name.is_empty() { format!("column_{}", i + 1) } else { name.to_owned() };
            let mut unique = wanted.clone();
            let mut n = 1;
            while !taken.insert(unique.clone()) {
                unique = format!("{wanted}_{n}");
                n += 1;
            }
            unique
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::unique;

    #[test]
    fn names_are_unique() {
        assert_eq!(unique(["\u{feff}a", "a", "", "a"].into_iter()), ["a", "a_1", "column_3", "a_2"]);
    }
}
