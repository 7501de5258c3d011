//! Reads vectors by row number from a local file.
//!
//! ```text
//!  rows 8,192…9,557 ─▶ row group, place in its column chunk ─▶ skip pages, decode one ─▶ copy the run ─▶ …
//! ```
//!
//! *Memory*: one page as it is in the file, the same unpacked, a dictionary, and the vectors that are asked for.
//! Rows should come in ascending order; going back starts at the beginning of the row group.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Int64Array, make_array};
use arrow::array::{ArrayData, RecordBatch};
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::compute::{CastOptions, cast_with_options, concat};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_plan::metrics::Count;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::column::page::PageReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::page::{Decoded, decode, decode_dictionary};
use super::shape::VectorColumn;

/// What EXPLAIN ANALYZE shows of a cursor.
#[derive(Debug, Clone)]
pub(crate) struct CursorMetrics {
    pub(crate) bytes_scanned: Count,
    /// Pages whose values were taken as bytes.
    pub(crate) pages: Count,
}

/// Reads one column of one file. See the module.
pub(crate) struct VectorCursor {
    column: VectorColumn,
    path: PathBuf,
    /// The file's own footer.
    metadata: Arc<ParquetMetaData>,
    /// The first row of each row group, and the number of all rows.
    firsts: Vec<u64>,
    file: Option<Arc<CountedFile>>,
    chunk: Option<Chunk>,
    /// A batch's vectors may be asked for twice: to filter by them and to give them out.
    last: Option<(Int64Array, ArrayRef)>,
    metrics: CursorMetrics,
}

struct Chunk {
    row_group: usize,
    pages: SerializedPageReader<CountedFile>,
    dictionary: Option<Bytes>,
    page: Option<LoadedPage>,
    /// The place of the first value of the next page.
    next: usize,
}

struct LoadedPage {
    first: usize,
    values: Bytes,
}

/// A vector is NULL or not full, though the footer said otherwise.
struct Irregular;

impl VectorCursor {
    pub(crate) fn new(
        column: VectorColumn,
        path: PathBuf,
        metadata: Arc<ParquetMetaData>,
        metrics: CursorMetrics,
    ) -> Self {
        let mut firsts = vec![0_u64];
        let mut rows = 0_u64;
        for group in metadata.row_groups() {
            rows += u64::try_from(group.num_rows()).unwrap_or(0);
            firsts.push(rows);
        }
        Self { column, path, metadata, firsts, file: None, chunk: None, last: None, metrics }
    }

    /// The vectors of the rows with these numbers.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub(crate) fn read(&mut self, rows: &Int64Array) -> Result<ArrayRef> {
        if let Some((last, vectors)) = &self.last
            && last.values().inner().ptr_eq(rows.values().inner())
        {
            return Ok(Arc::clone(vectors));
        }
        let vectors = self.read_anew(rows.values())?;
        self.last = Some((rows.clone(), Arc::clone(&vectors)));
        Ok(vectors)
    }

    fn read_anew(&mut self, rows: &[i64]) -> Result<ArrayRef> {
        let mut out = MutableBuffer::with_capacity(rows.len() * self.column.dims * self.column.width);
        let mut from = 0;
        while from < rows.len() {
            let mut to = from + 1;
            while to < rows.len() && rows[to] == rows[to - 1] + 1 {
                to += 1;
            }
            let mut row = u64::try_from(rows[from]).unwrap_or(u64::MAX);
            let end = row.saturating_add((to - from) as u64);
            while row < end {
                let group = self.firsts.partition_point(|first| *first <= row).saturating_sub(1);
                let Some(stop) = self.firsts.get(group + 1).map(|next| end.min(*next)) else {
                    return Err(failed(ParquetError::General(format!("there is no row {row}"))));
                };
                let base = self.firsts[group];
                if self.copy(group, (row - base) as usize, (stop - base) as usize, &mut out)?.is_err() {
                    return self.read_generally(rows);
                }
                row = stop;
            }
            from = to;
        }
        let values = ArrayData::builder(self.column.element.data_type().clone())
            .len(rows.len() * self.column.dims)
            .add_buffer(Buffer::from(out))
            .build()?;
        self.lists(make_array(values))
    }

    fn lists(&self, values: ArrayRef) -> Result<ArrayRef> {
        let dims = i32::try_from(self.column.dims).unwrap_or(i32::MAX);
        let lists = FixedSizeListArray::try_new(Arc::clone(&self.column.element), dims, values, None)?;
        Ok(Arc::new(lists))
    }

    fn file(&mut self) -> Result<Arc<CountedFile>> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        let opened = File::open(&self.path).map_err(|e| failed(ParquetError::External(Box::new(e))))?;
        let read = self.metrics.bytes_scanned.clone();
        let file = Arc::new(CountedFile { file: opened, read });
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Copies the vectors of the rows `from..to` of a row group.
    fn copy(
        &mut self,
        group: usize,
        from: usize,
        to: usize,
        out: &mut MutableBuffer,
    ) -> Result<std::result::Result<(), Irregular>> {
        let (dims, width) = (self.column.dims, self.column.width);
        let (mut value, end) = (from * dims, to * dims);
        while value < end {
            // Taken out, and put back only when the page was sound.
            let mut chunk = match self.chunk.take() {
                Some(chunk) if chunk.row_group == group && chunk.reaches(value) => chunk,
                _ => self.start(group)?,
            };
            if !chunk.load(value, &self.column, &self.metrics).map_err(failed)? {
                return Ok(Err(Irregular));
            }
            if let Some(page) = &chunk.page {
                let skip = value - page.first;
                let last = page.values.len() / width;
                let count = (end - value).min(last - skip);
                out.extend_from_slice(&page.values[skip * width..(skip + count) * width]);
                value += count;
            }
            self.chunk = Some(chunk);
        }
        Ok(Ok(()))
    }

    fn start(&mut self, group: usize) -> Result<Chunk> {
        let file = self.file()?;
        let row_group = self.metadata.row_group(group);
        let rows = usize::try_from(row_group.num_rows()).unwrap_or(0);
        let locations = self
            .metadata
            .offset_index()
            .and_then(|index| Some(index.get(group)?.get(self.column.leaf)?.page_locations()))
            .filter(|locations| are_sound(locations, rows))
            .cloned();
        let chunk = row_group.column(self.column.leaf);
        let pages = SerializedPageReader::new(file, chunk, rows, locations).map_err(failed)?;
        Ok(Chunk { row_group: group, pages, dictionary: None, page: None, next: 0 })
    }

    /// The same rows by Arrow's reader: slow, and right for whatever there is.
    fn read_generally(&self, rows: &[i64]) -> Result<ArrayRef> {
        let mut parts = Vec::new();
        let mut from = 0;
        while from < rows.len() {
            let row = u64::try_from(rows[from]).unwrap_or(u64::MAX);
            let group = self.firsts.partition_point(|first| *first <= row).saturating_sub(1);
            let stop = self.firsts.get(group + 1).copied().unwrap_or(u64::MAX);
            let base = self.firsts[group];
            let mut selectors = Vec::new();
            let mut at = base;
            let first = from;
            while let Some(next) = rows.get(from).map(|r| u64::try_from(*r).unwrap_or(u64::MAX)) {
                if next >= stop || (from > first && rows[from] <= rows[from - 1]) {
                    break;
                }
                selectors.push(RowSelector::skip((next - at) as usize));
                selectors.push(RowSelector::select(1));
                at = next + 1;
                from += 1;
            }
            if from == first {
                return Err(failed(ParquetError::General(format!("there is no row {row}"))));
            }
            parts.extend(self.part(group, from - first, selectors)?);
        }
        let parts: Vec<&dyn Array> = parts.iter().map(|p| p.as_ref()).collect();
        let options = CastOptions { safe: false, ..CastOptions::default() };
        Ok(cast_with_options(&concat(&parts)?, self.column.field.data_type(), &options)?)
    }

    fn part(&self, group: usize, rows: usize, selectors: Vec<RowSelector>) -> Result<Vec<ArrayRef>> {
        let file = File::open(&self.path).map_err(|e| failed(ParquetError::External(Box::new(e))))?;
        let metadata = ArrowReaderMetadata::try_new(Arc::clone(&self.metadata), ArrowReaderOptions::new())
            .map_err(failed)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
        let mask = ProjectionMask::leaves(builder.parquet_schema(), [self.column.leaf]);
        let reader = builder
            .with_projection(mask)
            .with_row_groups(vec![group])
            .with_row_selection(RowSelection::from(selectors))
            .with_batch_size(rows.max(1))
            .build()
            .map_err(failed)?;
        let batches = reader.collect::<std::result::Result<Vec<RecordBatch>, _>>()?;
        Ok(batches.iter().map(|b| Arc::clone(b.column(0))).collect())
    }
}

impl Chunk {
    /// Whether a value can be come to without going back.
    fn reaches(&self, value: usize) -> bool {
        self.page.as_ref().map_or(self.next, |page| page.first) <= value
    }

    /// Makes the page with a value the one that is loaded; `false` if the page is irregular.
    fn load(
        &mut self,
        value: usize,
        column: &VectorColumn,
        metrics: &CursorMetrics,
    ) -> std::result::Result<bool, ParquetError> {
        let ends = || ParquetError::EOF("a column chunk ends before its values".to_owned());
        while value >= self.next {
            self.page = None;
            let coming = self.pages.peek_next_page()?.ok_or_else(ends)?;
            let values = match (coming.num_levels, coming.num_rows) {
                _ if coming.is_dict => None,
                (Some(values), _) => Some(values),
                (None, Some(rows)) => rows.checked_mul(column.dims),
                (None, None) => None,
            };
            if let Some(values) = values
                && self.next.saturating_add(values) <= value
            {
                self.pages.skip_next_page()?;
                self.next += values;
                continue;
            }
            let page = self.pages.get_next_page()?.ok_or_else(ends)?;
            if page.is_dictionary_page() {
                self.dictionary = Some(decode_dictionary(&page, column)?);
                continue;
            }
            let first = self.next;
            match decode(&page, column, first, self.dictionary.as_deref())? {
                Decoded::Irregular => return Ok(false),
                Decoded::Values(values) => {
                    self.next += values.len() / column.width;
                    self.page = Some(LoadedPage { first, values });
                    metrics.pages.add(1);
                }
            }
        }
        Ok(true)
    }
}

/// Whether a page index is one: what it says is subtracted from each other.
fn are_sound(locations: &[PageLocation], rows: usize) -> bool {
    let ascending = locations.windows(2).all(|w| w[0].first_row_index < w[1].first_row_index);
    let last = locations.last().and_then(|l| usize::try_from(l.first_row_index).ok());
    ascending && locations.first().is_some_and(|l| l.first_row_index == 0) && last.is_some_and(|l| l < rows)
}

fn failed(error: ParquetError) -> DataFusionError {
    DataFusionError::ParquetError(Box::new(error))
}

/// A cursor's own handle, so that nobody else moves its position.
struct CountedFile {
    file: File,
    read: Count,
}

impl Length for CountedFile {
    fn len(&self) -> u64 {
        Length::len(&self.file)
    }
}

impl ChunkReader for CountedFile {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> std::result::Result<Self::T, ParquetError> {
        self.file.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> std::result::Result<Bytes, ParquetError> {
        self.read.add(length);
        self.file.get_bytes(start, length)
    }
}

impl std::fmt::Debug for VectorCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VectorCursor")
            .field("path", &self.path)
            .field("column", &self.column)
            .finish_non_exhaustive()
    }
}

/// The row numbers of a batch.
///
/// # Errors
/// Internal, if the column is something else.
pub(crate) fn row_numbers(array: &ArrayRef) -> Result<Int64Array> {
    array
        .as_primitive_opt::<Int64Type>()
        .cloned()
        .ok_or_else(|| DataFusionError::Internal(format!("row numbers came as {}", array.data_type())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Float32Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use parquet::arrow::{ArrowWriter, parquet_to_arrow_schema};
    use parquet::file::reader::FileReader;
    use parquet::file::serialized_reader::SerializedFileReader;

    /// A footer may be wrong; a NULL must not come out as a number.
    #[test]
    fn nulls_that_the_footer_does_not_tell_of_come_out_as_nulls() {
        let rows = 500;
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let values: Float32Array = (0..rows * 3).map(|i| (i % 100 != 7).then_some(i as f32)).collect();
        let lists = FixedSizeListArray::new(item, 3, Arc::new(values), None);
        let field = Arc::new(Field::new("e", lists.data_type().clone(), true));
        let schema = Arc::new(Schema::new(vec![Arc::clone(&field)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(lists.clone())]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n.parquet");
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), schema, None).unwrap();
        for from in (0..rows).step_by(100) {
            writer.write(&batch.slice(from, 100)).unwrap();
            writer.flush().unwrap();
        }
        writer.close().unwrap();

        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let metadata = Arc::new(reader.metadata().clone());
        let described = metadata.file_metadata();
        let arrow =
            parquet_to_arrow_schema(described.schema_descr(), described.key_value_metadata()).unwrap();
        let column = VectorColumn::find(&field, &metadata, &arrow).unwrap();
        assert!(!column.is_plain(metadata.row_group(0)));
        let metrics = CursorMetrics { bytes_scanned: Count::new(), pages: Count::new() };
        let mut cursor = VectorCursor::new(column, path, metadata, metrics);
        for wanted in
            [(0..rows as i64).collect::<Vec<_>>(), vec![3, 99, 100, 101, 250, 499], vec![4, 2], vec![]]
        {
            let found = cursor.read(&Int64Array::from(wanted.clone())).unwrap();
            let indices = arrow::array::UInt32Array::from_iter_values(wanted.iter().map(|r| *r as u32));
            let expected = arrow::compute::take(&lists, &indices, None).unwrap();
            assert_eq!(&found, &expected);
        }
        assert!(cursor.read(&Int64Array::from(vec![500])).is_err());
    }
}
