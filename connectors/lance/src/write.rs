//! `COPY (query) TO 'x.lance'`: a stream of rows becomes a version of a dataset.
//!
//! One call is one commit: either all rows are visible afterwards or none. A failed write leaves data
//! files behind that no version names.
//!
//! Types that Lance stores under another name are cast on the way in, so that a dataset reads back
//! with the types it says it has: string and binary views become strings and binaries, dictionaries
//! become their values, small decimals become `Decimal128`, list views become lists, and the elements
//! of fixed-size lists are called `item` and are nullable, as Lance reads them back. Metadata of fields
//! (the extension types of vectors) is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use lance::dataset::{InsertBuilder, WriteMode as LanceWriteMode, WriteParams};
use triune_common::{Error, Result, boxed};
use url::Url;

use crate::error::from_lance;
use crate::store::{LanceStore, commit_handler, lance_uri, shown};

/// What a write does with a dataset that exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// Fails if there is one.
    Create,
    /// Adds the rows as a new version; their columns must be those of the dataset.
    Append,
    /// A new version that holds these rows and columns alone; older versions stay readable.
    /// Creates the dataset if there is none.
    Overwrite,
}

impl LanceStore {
    /// Writes all rows of `stream` as one new version and returns how many there were.
    ///
    /// Errors: those of the stream, as they are; already-exists, not-found (append to nothing),
    /// invalid (columns do not fit, a column's name has a dot or a back quote or
    /// occurs twice), unsupported (a type
    /// that Lance cannot store), conflict.
    #[boxed]
    pub async fn write(&self, url: &Url, stream: SendableRecordBatchStream, mode: WriteMode) -> Result<u64> {
        self.check_scheme(url)?;
        let uri = lance_uri(url)?;
        if mode == WriteMode::Append {
            // Lance would create the dataset; an append to a mistyped place is told instead.
            self.load(url).await?;
        }
        let written = Arc::new(AtomicU64::new(0));
        let stream = to_storage(stream, Arc::clone(&written))?;
        let params = WriteParams {
            mode: match mode {
                WriteMode::Create => LanceWriteMode::Create,
                WriteMode::Append => LanceWriteMode::Append,
                WriteMode::Overwrite => LanceWriteMode::Overwrite,
            },
            session: Some(self.session()),
            store_params: Some(self.store_params(url)?),
            commit_handler: commit_handler(url),
            ..Default::default()
        };
        let insert = InsertBuilder::new(uri.as_str()).with_params(&params);
        Box::pin(insert.execute_stream(stream)).await.map_err(|e| {
            let e = from_lance(e);
            match e.kind() {
                triune_common::ErrorKind::AlreadyExists => {
                    Error::new(e.kind(), format!("a Lance dataset exists already at {}", shown(url)))
                }
                _ => e,
            }
        })?;
        Ok(written.load(Ordering::Relaxed))
    }
}

/// The stream with every batch cast to what Lance stores, counting rows.
pub(crate) fn to_storage(
    stream: SendableRecordBatchStream,
    written: Arc<AtomicU64>,
) -> Result<SendableRecordBatchStream> {
    let given = stream.schema();
    if given.fields().is_empty() {
        return Err(Error::invalid("a Lance dataset needs at least one column, and the query has none"));
    }
    for (i, field) in given.fields().iter().enumerate() {
        // Lance takes a dot for a step into a struct, and reads NULLs back for a name with a back quote.
        if field.name().contains(['.', '`']) {
            let name = field.name();
            return Err(Error::invalid(format!("the column \"{name}\" cannot be stored in a Lance dataset"))
                .with_hint("give it a name without dots and back quotes with AS"));
        }
        if given.fields()[..i].iter().any(|f| f.name() == field.name()) {
            return Err(Error::invalid(format!("two columns are called \"{}\"", field.name()))
                .with_hint("give one of them another name with AS"));
        }
    }
    let stored = storage_schema(&given);
    let schema = Arc::clone(&stored);
    let rows = stream.map(move |batch| {
        // Our own error travels through Lance untouched; DataFusion's would be turned into text.
        let batch = batch.map_err(|e| DataFusionError::from(Error::from(e)))?;
        written.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        cast_batch(&batch, &schema).map_err(DataFusionError::from)
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(stored, rows)))
}

fn storage_schema(schema: &Schema) -> SchemaRef {
    let fields: Fields = schema.fields().iter().map(|f| storage_field(f)).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn storage_field(field: &Field) -> Field {
    field.clone().with_data_type(storage_type(field.data_type()))
}

fn storage_type(data_type: &DataType) -> DataType {
    let inner = |f: &Field| Arc::new(storage_field(f));
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, value) => storage_type(value),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => DataType::Decimal128(*p, *s),
        DataType::List(f) | DataType::ListView(f) => DataType::List(inner(f)),
        DataType::LargeList(f) | DataType::LargeListView(f) => DataType::LargeList(inner(f)),
        DataType::FixedSizeList(f, n) => {
            DataType::FixedSizeList(Arc::new(Field::new("item", storage_type(f.data_type()), true)), *n)
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| storage_field(f)).collect()),
        DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
        other => other.clone(),
    }
}

fn cast_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| cast_column(column, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

fn cast_column(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if column.data_type() == to {
        return Ok(Arc::clone(column));
    }
    if let (DataType::FixedSizeList(_, from_n), DataType::FixedSizeList(field, n)) = (column.data_type(), to)
        && from_n == n
    {
        // Only the element's name or nullability differs in most cases: no value is copied then.
        let list = column.as_fixed_size_list();
        let values = cast_column(list.values(), field.data_type())?;
        let renamed = FixedSizeListArray::try_new(Arc::clone(field), *n, values, list.nulls().cloned())?;
        return Ok(Arc::new(renamed));
    }
    Ok(cast(column, to)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float32Array, StringViewArray};

    #[test]
    fn storage_types_are_what_lance_reads_back() {
        let item = Field::new("element", DataType::Utf8View, false);
        assert_eq!(
            storage_type(&DataType::FixedSizeList(Arc::new(item.clone()), 3)),
            DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Utf8, true)), 3)
        );
        assert_eq!(
            storage_type(&DataType::List(Arc::new(item.clone()))),
            DataType::List(Arc::new(Field::new("element", DataType::Utf8, false)))
        );
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8View));
        assert_eq!(storage_type(&dictionary), DataType::Utf8);
        assert_eq!(storage_type(&DataType::Decimal64(10, 2)), DataType::Decimal128(10, 2));
    }

    #[test]
    fn a_vector_whose_elements_have_another_name_is_not_copied() {
        let values = Arc::new(Float32Array::from(vec![1.0, 2.0, 3.0, 4.0])) as ArrayRef;
        let field = Arc::new(Field::new("element", DataType::Float32, false));
        let list = Arc::new(FixedSizeListArray::new(field, 2, Arc::clone(&values), None)) as ArrayRef;
        let cast = cast_column(&list, &storage_type(list.data_type())).unwrap();
        assert_eq!(
            cast.as_fixed_size_list().values().to_data().buffers()[0].as_ptr(),
            values.to_data().buffers()[0].as_ptr()
        );
        let views = Arc::new(StringViewArray::from(vec![Some("a"), None])) as ArrayRef;
        let cast = cast_column(&views, &DataType::Utf8).unwrap();
        assert_eq!((cast.len(), cast.null_count()), (2, 1));
    }
}
