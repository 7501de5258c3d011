//! A scan over cached columns.
//!
//! ```text
//!  lanes, one for each size of chunks      [ id, ts: 65,536 ] [ text: 16,384 ] [ vector: 2,048 ]
//!  batch                                   rows that lie in one chunk of every lane: slices, nothing is copied
//!  rest                                    rows that remain: from the cache, or few of them from the files
//! ```
//!
//! Each lane reads its next chunk while the current one is used. Conditions, masks and limits are those of a
//! scan of files (`scan::reader`), and so is the order of the rows.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{Schema, SchemaRef, UInt64Type};
use datafusion::common::runtime::SpawnedTask;
use lance_core::ROW_ADDR;
use triune_common::{Error, ErrorKind, Result};

use super::load::{TableCache, chunk};
use crate::provider::Table;
use crate::scan::layout::Layout;
use crate::scan::pieces::Piece;
use crate::scan::reader::ReadSpec;

/// Of rows that remain, one in so many is few: they are fetched rather than their chunk decoded.
const FEW: usize = 32;

/// The scan of one partition.
pub(crate) struct CachedReader {
    spec: ReadSpec,
    cache: Arc<TableCache>,
    first_schema: SchemaRef,
    /// Lane and place in it of each column of the first read.
    first: Vec<(usize, usize)>,
    first_lanes: Vec<Lane>,
    rest_schema: SchemaRef,
    rest: Vec<(usize, usize)>,
    rest_lanes: Vec<Lane>,
    rest_columns: Vec<usize>,
    pieces: VecDeque<Piece>,
    /// Fragment, its ranges that are left, and where the first of them goes on.
    current: Option<(usize, VecDeque<Range<u64>>)>,
    remaining: usize,
    generation: u64,
}

impl CachedReader {
    /// `None` for a table without a cache, or columns that would fill too much of it.
    pub(crate) fn new(spec: &ReadSpec, pieces: &[Piece]) -> Result<Option<Self>> {
        let table = &spec.table;
        let Some(cache) = &table.cache else { return Ok(None) };
        let rows: u64 = table.fragments.iter().map(|f| f.physical).sum();
        let layout = &spec.layout;
        let width = (layout.first_width + layout.rest_width) as u64;
        if rows.saturating_mul(width) > cache.cache.budget() as u64 / 2 {
            return Ok(None);
        }
        let columns_of = |schema: &Schema| {
            schema.fields().iter().map(|f| Ok(table.schema.index_of(f.name())?)).collect::<Result<Vec<_>>>()
        };
        let first_data = Schema::from(&layout.first);
        let first_columns = columns_of(&first_data)?;
        let rest_schema = layout.rest.as_ref().map_or_else(Schema::empty, Schema::from);
        let rest_columns = columns_of(&rest_schema)?;
        let (first_lanes, first) = lanes(table, &first_columns);
        let (rest_lanes, rest) = lanes(table, &rest_columns);
        Ok(Some(Self {
            cache: Arc::clone(cache),
            first_schema: Arc::new(layout.first_schema()),
            first,
            first_lanes,
            rest_schema: Arc::new(rest_schema),
            rest,
            rest_lanes,
            rest_columns,
            pieces: pieces.to_vec().into(),
            current: None,
            remaining: spec.fetch.unwrap_or(usize::MAX),
            generation: 0,
            spec: spec.clone(),
        }))
    }

    /// The next batch that is not empty.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while self.remaining > 0 {
            let Some((fragment, left)) = self.next_range() else { return Ok(None) };
            if self.is_hopeless()? {
                return Ok(None);
            }
            let batch = self.batch(fragment, left).await?;
            let Some(batch) = batch.filter(|b| b.num_rows() > 0) else { continue };
            let batch =
                if batch.num_rows() > self.remaining { batch.slice(0, self.remaining) } else { batch };
            self.remaining -= batch.num_rows();
            return Ok(Some(batch));
        }
        Ok(None)
    }

    /// Rows for the next batch: all in one chunk of every lane.
    fn next_range(&mut self) -> Option<(usize, Range<u64>)> {
        loop {
            if let Some((fragment, ranges)) = &mut self.current
                && let Some(range) = ranges.front_mut()
            {
                let chunks = self.first_lanes.iter().chain(&self.rest_lanes).map(|l| l.rows);
                let limit = chunks.map(|rows| (range.start / rows + 1) * rows).min().unwrap_or(u64::MAX);
                let end = range.end.min(limit).min(range.start + self.spec.batch_rows as u64);
                let out = range.start..end;
                range.start = end;
                if range.start >= range.end {
                    ranges.pop_front();
                }
                return Some((*fragment, out));
            }
            let piece = self.pieces.pop_front()?;
            let found = self.spec.table.fragments.iter().position(|f| f.id == piece.fragment);
            if let Some(fragment) = found {
                self.spec.metrics.count_fragment();
                self.current = Some((fragment, piece.ranges.iter().cloned().collect()));
            }
        }
    }

    async fn batch(&mut self, fragment: usize, rows: Range<u64>) -> Result<Option<RecordBatch>> {
        let table = Arc::clone(&self.spec.table);
        let layout = Arc::clone(&self.spec.layout);
        for lane in &mut self.first_lanes {
            lane.seek(&table, &self.cache, fragment, rows.start).await?;
        }
        let length = usize::try_from(rows.end - rows.start).unwrap_or(usize::MAX);
        let id = table.fragments[fragment].id;
        let mut columns = slices(&self.first_lanes, &self.first, rows.start, length);
        let identities = self.first_schema.fields().len() - columns.len();
        if identities > 0 {
            // Without stable row ids both columns are the address.
            let addresses = UInt64Array::from_iter_values(rows.clone().map(|row| id << 32 | row));
            columns.extend(std::iter::repeat_n(Arc::new(addresses) as ArrayRef, identities));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(length));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.first_schema), columns, &options)?;
        self.spec.metrics.count_scanned(length);

        let kept = {
            let compute = self.spec.metrics.baseline.elapsed_compute().clone();
            let _timer = compute.timer();
            let batch = match &table.mask {
                Some(mask) => {
                    let addresses = addresses(&batch)?.values().clone();
                    mask.apply(batch, &addresses)?
                }
                None => batch,
            };
            layout.predicate.apply(batch)?
        };
        if kept.num_rows() == 0 {
            return Ok(None);
        }
        if layout.rest.is_none() {
            return layout.assemble(&kept, None).map(Some);
        }
        let rest = self.rest_of(&kept, fragment, &rows).await?;
        self.spec.metrics.count_fetched(kept.num_rows());
        layout.assemble(&kept, Some(&rest)).map(Some)
    }

    /// The other columns of rows that remain.
    async fn rest_of(
        &mut self,
        kept: &RecordBatch,
        fragment: usize,
        rows: &Range<u64>,
    ) -> Result<RecordBatch> {
        let table = Arc::clone(&self.spec.table);
        let wanted = addresses(kept)?;
        let length = usize::try_from(rows.end - rows.start).unwrap_or(usize::MAX);
        let few = kept.num_rows() * FEW <= length;
        let here = |l: &Lane| l.is_near(&table, &self.cache, fragment, rows.start);
        if few && !self.rest_lanes.iter().all(here) {
            // Comes back as `None` when it pays to read the chunks after all.
            let found = super::rows::take(&table, &self.cache, wanted.values(), &self.rest_columns).await?;
            let columns = match found {
                Some(columns) => columns,
                None => crate::take::from_files(&table, wanted.values(), &self.rest_columns).await?,
            };
            return Ok(RecordBatch::try_new(Arc::clone(&self.rest_schema), columns)?);
        }
        for lane in &mut self.rest_lanes {
            lane.seek(&table, &self.cache, fragment, rows.start).await?;
        }
        let columns = slices(&self.rest_lanes, &self.rest, rows.start, length);
        let columns = if kept.num_rows() == length {
            columns
        } else {
            let first = table.fragments[fragment].id << 32 | rows.start;
            let places = UInt32Array::from_iter_values(
                wanted.values().iter().map(|a| u32::try_from(a - first).unwrap_or(u32::MAX)),
            );
            columns.iter().map(|c| Ok(take(c, &places, None)?)).collect::<Result<Vec<_>>>()?
        };
        Ok(RecordBatch::try_new(Arc::clone(&self.rest_schema), columns)?)
    }

    /// Whether a dynamic condition has meanwhile excluded every row.
    fn is_hopeless(&mut self) -> Result<bool> {
        let predicate = &self.spec.layout.predicate;
        if predicate.dynamic().is_empty() {
            return Ok(false);
        }
        let generation = predicate.generation();
        if generation == self.generation {
            return Ok(false);
        }
        self.generation = generation;
        Ok(predicate.is_false()?)
    }
}

type Reading = SpawnedTask<Result<Vec<ArrayRef>>>;

/// Columns whose chunks have the same number of rows.
struct Lane {
    rows: u64,
    columns: Arc<[usize]>,
    /// Fragment, number and contents of the chunk that is used.
    current: Option<(usize, u64, Vec<ArrayRef>)>,
    ahead: Option<(usize, u64, Reading)>,
}

impl Lane {
    /// Makes the chunk with this row the current one.
    async fn seek(
        &mut self,
        table: &Arc<Table>,
        cache: &Arc<TableCache>,
        fragment: usize,
        row: u64,
    ) -> Result<()> {
        let number = row / self.rows;
        if self.current.as_ref().is_some_and(|(f, n, _)| (*f, *n) == (fragment, number)) {
            return Ok(());
        }
        let read =
            |number| chunk(Arc::clone(table), Arc::clone(cache), fragment, Arc::clone(&self.columns), number);
        let arrays = match self.ahead.take() {
            Some((f, n, task)) if (f, n) == (fragment, number) => {
                let gone = |_| Error::new(ErrorKind::Cancelled, "a read of a Lance dataset was cancelled");
                task.join_unwind().await.map_err(gone)??
            }
            _ => read(number).await?,
        };
        let next = number + 1;
        let more = next * self.rows < table.fragments[fragment].physical;
        if more && !self.is_cached(table, cache, fragment, next) {
            self.ahead = Some((fragment, next, SpawnedTask::spawn(read(next))));
        }
        self.current = Some((fragment, number, arrays));
        Ok(())
    }

    fn is_cached(&self, table: &Table, cache: &TableCache, fragment: usize, number: u64) -> bool {
        self.columns.iter().all(|c| cache.cache.holds(&cache.key(table, fragment, *c, number)))
    }

    /// Whether the chunk with this row can be had without reading.
    fn is_near(&self, table: &Table, cache: &TableCache, fragment: usize, row: u64) -> bool {
        let number = row / self.rows;
        self.current.as_ref().is_some_and(|(f, n, _)| (*f, *n) == (fragment, number))
            || self.is_cached(table, cache, fragment, number)
    }
}

/// The lanes of some columns, and where among them each column is.
fn lanes(table: &Table, columns: &[usize]) -> (Vec<Lane>, Vec<(usize, usize)>) {
    let mut lists: Vec<(u64, Vec<usize>)> = Vec::new();
    let mut places = Vec::with_capacity(columns.len());
    for column in columns {
        let rows = table.chunk_rows(*column);
        let lane = lists.iter().position(|(r, _)| *r == rows).unwrap_or_else(|| {
            lists.push((rows, Vec::new()));
            lists.len() - 1
        });
        lists[lane].1.push(*column);
        places.push((lane, lists[lane].1.len() - 1));
    }
    let lanes = lists
        .into_iter()
        .map(|(rows, columns)| Lane { rows, columns: columns.into(), current: None, ahead: None })
        .collect();
    (lanes, places)
}

fn slices(lanes: &[Lane], places: &[(usize, usize)], row: u64, length: usize) -> Vec<ArrayRef> {
    places
        .iter()
        .filter_map(|(lane, place)| {
            let lane = &lanes[*lane];
            let offset = usize::try_from(row % lane.rows).unwrap_or(usize::MAX);
            lane.current.as_ref().map(|(_, _, arrays)| arrays[*place].slice(offset, length))
        })
        .collect()
}

fn addresses(batch: &RecordBatch) -> Result<&UInt64Array> {
    batch
        .column_by_name(ROW_ADDR)
        .and_then(|c| c.as_primitive_opt::<UInt64Type>())
        .ok_or_else(|| Error::internal("rows of a scan came without addresses"))
}

impl Layout {
    /// The columns of the first read, identities last.
    fn first_schema(&self) -> Schema {
        let mut fields: Vec<_> = Schema::from(&self.first).fields().iter().map(Arc::clone).collect();
        if self.row_id {
            fields.push(Arc::new(lance_core::ROW_ID_FIELD.clone()));
        }
        if self.row_addr {
            fields.push(Arc::new(lance_core::ROW_ADDR_FIELD.clone()));
        }
        Schema::new(fields)
    }
}
