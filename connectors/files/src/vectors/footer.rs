//! A footer in which vector columns are columns of row numbers.
//!
//! ```text
//!  the file                                        what DataFusion's reader is shown
//!  id: INT64                                       id: INT64
//!  embedding: LIST of FLOAT, 460 MB                embedding: INT64 NOT NULL, 7 kB beyond the file's end
//! ```
//!
//! The row numbers go up by one, so that a delta-encoded page of them is a header and three bytes for every
//! 128 rows. They count from the beginning of the file.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use bytes::Bytes;
use datafusion::common::Result as DfResult;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema};
use parquet::basic::{ColumnOrder, Encoding, Repetition, SortOrder, Type as Physical};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataBuilder, RowGroupMetaData,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::offset_index::{OffsetIndexMetaData, PageLocation};
use parquet::schema::types::{SchemaDescriptor, Type};

use super::shape::VectorColumn;

/// The changed footer, and the pages that it speaks of and the file does not have.
#[derive(Debug)]
pub(crate) struct NumberedFooter {
    metadata: Arc<ParquetMetaData>,
    /// By their place in the file, which is beyond its end.
    chunks: HashMap<u64, Bytes>,
}

impl NumberedFooter {
    /// # Errors
    /// Parquet's, if the changed schema or footer does not fit together.
    pub(crate) fn try_new(
        original: &ParquetMetaData,
        arrow_schema: &SchemaRef,
        columns: &[VectorColumn],
        address: Option<(&str, i64)>,
        file_size: u64,
    ) -> Result<Self> {
        let file = original.file_metadata();
        let root = file.schema_descr().root_schema();
        let mut fields = root.get_fields().to_vec();
        for column in columns {
            let numbers = Type::primitive_type_builder(column.field.name(), Physical::INT64)
                .with_repetition(Repetition::REQUIRED)
                .build()?;
            fields[column.root] = Arc::new(numbers);
        }
        if let Some((name, _)) = address {
            let numbers = Type::primitive_type_builder(name, Physical::INT64)
                .with_repetition(Repetition::REQUIRED)
                .build()?;
            fields.push(Arc::new(numbers));
        }
        let schema = Type::group_type_builder(root.name()).with_fields(fields).build()?;
        let schema = Arc::new(SchemaDescriptor::new(Arc::new(schema)));
        let mut orders = file.column_orders().cloned();
        if let (Some(orders), Some(_)) = (&mut orders, address) {
            orders.push(ColumnOrder::TYPE_DEFINED_ORDER(SortOrder::SIGNED));
        }
        let new_file = FileMetaData::new(
            file.version(),
            file.num_rows(),
            file.created_by().map(str::to_owned),
            key_values(file, arrow_schema, columns, address.map(|(name, _)| name)),
            Arc::clone(&schema),
            orders,
        );

        let mut chunks = HashMap::new();
        let mut at = file_size;
        let mut first_row = 0_i64;
        let mut column_index = original.column_index().cloned();
        let mut offset_index = original.offset_index().cloned();
        let added = address.map(|(_, first)| (schema.num_columns() - 1, first));
        let mut groups = Vec::with_capacity(original.num_row_groups());
        for (g, group) in original.row_groups().iter().enumerate() {
            let mut metas = group.columns().to_vec();
            let leaves = columns.iter().map(|column| (column.leaf, 0)).chain(added);
            for (leaf, base) in leaves {
                let page = numbers_page(base + first_row, group.num_rows());
                let length = page.len();
                let meta = ColumnChunkMetaData::builder(schema.column(leaf))
                    .set_encodings(vec![Encoding::DELTA_BINARY_PACKED, Encoding::RLE])
                    .set_num_values(group.num_rows())
                    .set_total_compressed_size(as_i64(length))
                    .set_total_uncompressed_size(as_i64(length))
                    .set_data_page_offset(at as i64)
                    .build()?;
                put(&mut metas, leaf, meta);
                if let Some(pages) = column_index.as_mut().and_then(|index| index.get_mut(g)) {
                    put(pages, leaf, ColumnIndexMetaData::NONE);
                }
                if let Some(pages) = offset_index.as_mut().and_then(|index| index.get_mut(g)) {
                    let location = PageLocation {
                        offset: at as i64,
                        compressed_page_size: i32::try_from(length).unwrap_or(i32::MAX),
                        first_row_index: 0,
                    };
                    let page_locations = vec![location];
                    put(
                        pages,
                        leaf,
                        OffsetIndexMetaData { page_locations, unencoded_byte_array_data_bytes: None },
                    );
                }
                chunks.insert(at, page);
                at += length as u64;
            }
            groups.push(rebuilt(group, &schema, metas)?);
            first_row += group.num_rows();
        }
        let metadata = ParquetMetaDataBuilder::new(new_file)
            .set_row_groups(groups)
            .set_column_index(column_index)
            .set_offset_index(offset_index)
            .build();
        Ok(Self { metadata: Arc::new(metadata), chunks })
    }

    /// Made-up bytes, if the range is one of theirs.
    fn made_up(&self, range: &Range<u64>) -> Option<Bytes> {
        let length = usize::try_from(range.end - range.start).ok()?;
        self.chunks.get(&range.start).filter(|bytes| bytes.len() == length).cloned()
    }
}

fn as_i64(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// Replaces an item, or adds it after the last.
fn put<T>(items: &mut Vec<T>, place: usize, item: T) {
    match items.get_mut(place) {
        Some(slot) => *slot = item,
        None => items.push(item),
    }
}

/// The Arrow schema in a footer is what gives columns types that Parquet lacks; it must fit the columns.
fn key_values(
    file: &FileMetaData,
    arrow: &Schema,
    columns: &[VectorColumn],
    address: Option<&str>,
) -> Option<Vec<KeyValue>> {
    let mut pairs = file.key_value_metadata().cloned()?;
    for pair in pairs.iter_mut().filter(|p| p.key == ARROW_SCHEMA_META_KEY) {
        let mut fields: Vec<FieldRef> = arrow.fields().to_vec();
        for column in columns {
            let field = Field::new(column.field.name(), DataType::Int64, false);
            if let Some(slot) = fields.get_mut(column.root) {
                *slot = Arc::new(field);
            }
        }
        fields.extend(address.map(|name| Arc::new(Field::new(name, DataType::Int64, false))));
        pair.value = Some(encode_arrow_schema(&Schema::new(fields)));
    }
    Some(pairs)
}

fn rebuilt(
    group: &RowGroupMetaData,
    schema: &Arc<SchemaDescriptor>,
    chunks: Vec<ColumnChunkMetaData>,
) -> Result<RowGroupMetaData> {
    let mut builder = RowGroupMetaData::builder(Arc::clone(schema))
        .set_num_rows(group.num_rows())
        .set_total_byte_size(group.total_byte_size())
        .set_sorting_columns(group.sorting_columns().cloned())
        .set_column_metadata(chunks);
    if let Some(ordinal) = group.ordinal() {
        builder = builder.set_ordinal(ordinal);
    }
    if let Some(offset) = group.file_offset() {
        builder = builder.set_file_offset(offset);
    }
    builder.build()
}

/// How many values a block of deltas has, in two halves (Arrow's decoder skips at most 64 at a time): one byte for
/// the step, and for each half one for its width, which is 0.
const BLOCK: u64 = 128;

/// A data page (version 1, unpacked) with the numbers from `first` on.
fn numbers_page(first: i64, rows: i64) -> Bytes {
    let rows = u64::try_from(rows).unwrap_or(0);
    let mut values = Vec::new();
    varint(&mut values, BLOCK);
    varint(&mut values, 2);
    varint(&mut values, rows);
    varint(&mut values, zigzag(first));
    for _ in 0..rows.saturating_sub(1).div_ceil(BLOCK) {
        varint(&mut values, zigzag(1));
        values.extend([0, 0]);
    }
    // Thrift's compact protocol: each field's header is (step to its number) << 4 | type, 5 for a number.
    let mut page = Vec::with_capacity(values.len() + 32);
    let number = |page: &mut Vec<u8>, value: i64| {
        page.push(0x15);
        varint(page, zigzag(value));
    };
    let length = as_i64(values.len());
    [0, length, length].into_iter().for_each(|v| number(&mut page, v));
    // Field 5, a struct: the header of a data page with its values, encoding and levels' encodings.
    page.push(0x2c);
    let encodings = [Encoding::DELTA_BINARY_PACKED as i64, Encoding::RLE as i64, Encoding::RLE as i64];
    number(&mut page, i64::try_from(rows).unwrap_or(i64::MAX));
    encodings.into_iter().for_each(|v| number(&mut page, v));
    page.extend([0, 0]);
    page.extend(values);
    page.into()
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Readers of one file that show the changed footer.
#[derive(Debug)]
pub(crate) struct NumberedReaders {
    pub(crate) footer: Arc<NumberedFooter>,
    pub(crate) inner: Arc<dyn ParquetFileReaderFactory>,
}

impl ParquetFileReaderFactory for NumberedReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> DfResult<Box<dyn AsyncFileReader + Send>> {
        let inner = self.inner.create_reader(partition, file, metadata_size_hint, metrics)?;
        Ok(Box::new(NumberedReader { footer: Arc::clone(&self.footer), inner }))
    }
}

struct NumberedReader {
    footer: Arc<NumberedFooter>,
    inner: Box<dyn AsyncFileReader + Send>,
}

impl AsyncFileReader for NumberedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        match self.footer.made_up(&range) {
            Some(bytes) => async move { Ok(bytes) }.boxed(),
            None => self.inner.get_bytes(range),
        }
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move {
            let mut found: Vec<Option<Bytes>> = ranges.iter().map(|r| self.footer.made_up(r)).collect();
            let real: Vec<Range<u64>> =
                ranges.into_iter().zip(&found).filter(|(_, f)| f.is_none()).map(|(r, _)| r).collect();
            let mut read = match real.is_empty() {
                true => Vec::new(),
                false => self.inner.get_byte_ranges(real).await?,
            }
            .into_iter();
            for slot in found.iter_mut().filter(|f| f.is_none()) {
                *slot = read.next();
            }
            let short =
                || ParquetError::General("a store gave fewer ranges than were asked of it".to_owned());
            found.into_iter().collect::<Option<Vec<_>>>().ok_or_else(short)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        let metadata = Arc::clone(&self.footer.metadata);
        async move { Ok(metadata) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_thrift_wants_them() {
        let mut out = Vec::new();
        varint(&mut out, 300);
        assert_eq!(out, [0xac, 0x02]);
        assert_eq!([zigzag(0), zigzag(-1), zigzag(1), zigzag(i64::MIN)], [0, 1, 2, u64::MAX]);
    }

    #[test]
    fn a_page_of_numbers_is_read_back() {
        use parquet::column::page::PageReader;
        use parquet::column::reader::{get_column_reader, get_typed_column_reader};
        use parquet::data_type::Int64Type;
        use parquet::file::serialized_reader::SerializedPageReader;

        let numbers = Type::primitive_type_builder("n", Physical::INT64)
            .with_repetition(Repetition::REQUIRED)
            .build()
            .unwrap();
        let root = Type::group_type_builder("schema").with_fields(vec![Arc::new(numbers)]).build().unwrap();
        let schema = SchemaDescriptor::new(Arc::new(root));
        for (first, rows) in [(0, 1), (5, 2), (1_000_000_007, 65_537), (9, 200_000)] {
            let page = numbers_page(first, rows);
            let meta = ColumnChunkMetaData::builder(schema.column(0))
                .set_num_values(rows)
                .set_total_compressed_size(as_i64(page.len()))
                .set_total_uncompressed_size(as_i64(page.len()))
                .build()
                .unwrap();
            let pages = SerializedPageReader::new(Arc::new(page), &meta, rows as usize, None).unwrap();
            let pages: Box<dyn PageReader> = Box::new(pages);
            let mut reader = get_typed_column_reader::<Int64Type>(get_column_reader(schema.column(0), pages));
            let mut values = Vec::new();
            reader.read_records(rows as usize, None, None, &mut values).unwrap();
            assert!(values.iter().copied().eq(first..first + rows));
        }
    }
}
