//! Reading chunks that are not in the cache.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use futures::{StreamExt, TryStreamExt};
use lance::dataset::fragment::{BaseSchedulers, FileFragment, FragReadConfig};
use lance_io::scheduler::{ScanScheduler, SchedulerConfig};
use triune_common::{Error, Result};

use super::{ChunkKey, ColumnCache, chunk_rows};
use crate::error::from_lance;
use crate::provider::Table;
use crate::scan::layout::lance_columns;

/// Encoded bytes read ahead of decoding.
const READ_AHEAD: u64 = 16 << 20;

/// A table's cache: which chunks hold which rows. Columns count by the table's schema.
#[derive(Debug)]
pub(crate) struct TableCache {
    pub(crate) cache: Arc<ColumnCache>,
    /// One for each fragment, in the order of the table's fragments.
    files: Vec<u128>,
}

impl TableCache {
    /// `files` are hashes of the fragments' data files.
    pub(crate) fn new(cache: Arc<ColumnCache>, files: Vec<u128>) -> Self {
        Self { cache, files }
    }

    pub(crate) fn key(&self, table: &Table, fragment: usize, column: usize, chunk: u64) -> ChunkKey {
        ChunkKey {
            file: self.files[fragment],
            field: table.dataset.schema().fields[column].id,
            chunk: u32::try_from(chunk).unwrap_or(u32::MAX),
            rows: table.chunk_rows(column),
        }
    }
}

impl Table {
    /// Rows of a chunk of a column.
    pub(crate) fn chunk_rows(&self, column: usize) -> u64 {
        chunk_rows(self.row_bytes([column]))
    }
}

/// The rows of a chunk, within its fragment.
pub(crate) fn rows_of_chunk(table: &Table, fragment: usize, rows: u64, chunk: u64) -> Range<u64> {
    let end = table.fragments[fragment].physical;
    (chunk * rows).min(end)..((chunk + 1) * rows).min(end)
}

/// A chunk of several columns with chunks of one size, from the cache or the files; read ones are kept.
pub(crate) async fn chunk(
    table: Arc<Table>,
    cache: Arc<TableCache>,
    fragment: usize,
    columns: Arc<[usize]>,
    number: u64,
) -> Result<Vec<ArrayRef>> {
    let mut found: Vec<Option<ArrayRef>> =
        columns.iter().map(|c| cache.cache.get(&cache.key(&table, fragment, *c, number))).collect();
    let missing: Vec<usize> =
        columns.iter().zip(&found).filter(|(_, f)| f.is_none()).map(|(c, _)| *c).collect();
    if let Some(first) = missing.first() {
        let range = rows_of_chunk(&table, fragment, table.chunk_rows(*first), number);
        let read = load(&table, fragment, &missing, range).await?;
        for (column, array) in missing.iter().zip(read) {
            let kept = cache.cache.insert(cache.key(&table, fragment, *column, number), &array);
            for (c, slot) in columns.iter().zip(&mut found) {
                if c == column {
                    *slot = Some(Arc::clone(&kept));
                }
            }
        }
    }
    let found: Option<Vec<ArrayRef>> = found.into_iter().collect();
    found.ok_or_else(|| Error::internal("a chunk of a column was not read"))
}

/// Decodes rows of some columns, in the order of `columns`.
async fn load(
    table: &Arc<Table>,
    fragment: usize,
    columns: &[usize],
    range: Range<u64>,
) -> Result<Vec<ArrayRef>> {
    let dataset = &table.dataset;
    let id = table.fragments[fragment].id;
    let of = dataset
        .fragments()
        .iter()
        .find(|f| f.id == id)
        .cloned()
        .ok_or_else(|| Error::internal(format!("fragment {id} is not in the version that is read")))?;
    let schema = lance_columns(table, &columns.iter().copied().collect::<BTreeSet<_>>())?;
    let store = dataset.object_store(None).await.map_err(from_lance)?;
    let scheduler = ScanScheduler::new(store, SchedulerConfig::new(READ_AHEAD));
    let config = FragReadConfig::default()
        .with_scan_scheduler(scheduler)
        .with_base_schedulers(BaseSchedulers::new(READ_AHEAD));
    let file = FileFragment::new(Arc::clone(dataset), of);
    let reader = Box::pin(file.open(&schema, config)).await.map_err(from_lance)?;
    let wanted = range.end - range.start;
    let rows = u32::try_from(wanted).unwrap_or(u32::MAX).max(1);
    let parts: Vec<RecordBatch> = reader
        .read_ranges(std::iter::once(range).collect(), rows)
        .await
        .map_err(from_lance)?
        .buffered(2)
        .try_collect()
        .await
        .map_err(from_lance)?;
    let batch = match parts.as_slice() {
        [one] => one.clone(),
        [] => return Err(Error::data(format!("fragment {id} of {} gave no rows", dataset.uri()))),
        several => concat_batches(&several[0].schema(), several)?,
    };
    if batch.num_rows() as u64 != wanted {
        return Err(Error::data(format!(
            "fragment {id} of {} gave {} of {wanted} rows",
            dataset.uri(),
            batch.num_rows()
        )));
    }
    columns
        .iter()
        .map(|c| {
            let name = table.schema.field(*c).name();
            batch.column_by_name(name).map(Arc::clone).ok_or_else(|| {
                Error::internal(format!("column \"{name}\" is missing in rows that were read"))
            })
        })
        .collect()
}
