//! Parquet files cut into pieces that partitions take one after the other.
//!
//! ```text
//!  WHERE ts >= …                  row groups that the footer's statistics exclude are left out first
//!  ┌───┬───┬───┬───┬───┬───┐
//!  │ – │ – │ – │ – │███│███│     what is left is cut at row groups and, inside large ones, between pages
//!  └───┴───┴───┴───┴───┴───┘
//!                    ├─┼─┼─┼─┤   pieces of much the same size, several for each partition
//! ```
//!
//! DataFusion cuts a file into as many byte ranges as there are partitions, before it knows which row groups
//! count. Over a file in the order of time, of which a statement wants the last week, one partition has all the work.
//! Its streams do take pieces from one queue, so all that is needed is pieces that are many and small enough.
//!
//! A file whose order the plan is promised is not cut, because its pieces would have to be proven to follow each
//! other; it is told to begin and end with the row groups that are left, and DataFusion cuts that range.
//!
//! *Does not fire* under a LIMIT without conditions, on files of less than [`SMALLEST_FILE`] bytes, and where vectors
//! are read (their source cuts by rows itself). Inside row groups it cuts only files with a page index: without one
//! every piece would read the whole row group.
//!
//! *The answer* is the same with and without: every row group and every row of those left is in one piece, and
//! conditions are evaluated again when a piece is read (`tests/it/pieces.rs`).

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::parquet::{
    ParquetAccessPlan, RowGroupAccess, RowGroupAccessPlanFilter,
};
use datafusion::datasource::physical_plan::{FileGroup, ParquetFileMetrics};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_optimizer::pruning::PruningPredicate;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::StreamExt;
use object_store::ObjectStore;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};

/// Files below this many bytes stay whole.
const SMALLEST_FILE: u64 = 4 << 20;
/// Pieces for each partition: enough that the last one to be taken is a small part of the work.
const PER_PARTITION: u64 = 4;
/// The weight of one piece: compressed bytes of the columns that are read, and at least one for each value, since a
/// well compressed column is as much work for whoever evaluates a condition on it.
const SMALLEST_PIECE: u64 = 1 << 20;
const LARGEST_PIECE: u64 = 16 << 20;
/// More pieces than this cost more to plan than they even out.
const MOST_PIECES: u64 = 1024;

/// Says of a file in a plan that it is one of several pieces, which nobody is to cut again by bytes.
#[derive(Debug, Clone, Copy)]
struct Piece;

/// Whether the files of a scan were cut here.
pub(crate) fn are_cut(groups: &[FileGroup]) -> bool {
    groups.iter().flat_map(FileGroup::iter).any(|file| file.extension::<Piece>().is_some())
}

/// What a scan wants of its files.
pub(crate) struct Wanted<'a> {
    pub(crate) state: &'a dyn Session,
    pub(crate) store: &'a dyn ObjectStore,
    /// The columns of the files, without those that folders give.
    pub(crate) file_schema: &'a SchemaRef,
    /// Which of the table's columns are read; all of them if it is `None`.
    pub(crate) projection: Option<&'a Vec<usize>>,
    /// Without the table's name before the columns.
    pub(crate) filters: Vec<Expr>,
    /// The plan is promised the order of the rows.
    pub(crate) ordered: bool,
}

/// A file, its footer, and which of its row groups may have rows that are wanted.
struct Known {
    file: PartitionedFile,
    footer: Option<(Arc<ParquetMetaData>, Vec<bool>)>,
}

/// Deals the files out, cut where that pays.
pub(crate) async fn cut(files: Vec<PartitionedFile>, wanted: &Wanted<'_>) -> Vec<FileGroup> {
    let partitions = wanted.state.config().target_partitions().max(1);
    let columns: Vec<usize> = match wanted.projection {
        Some(indices) => indices.clone(),
        None => (0..wanted.file_schema.fields().len()).collect(),
    };
    let read: Vec<&str> = columns
        .iter()
        .filter_map(|i| wanted.file_schema.fields().get(*i))
        .map(|f| f.name().as_str())
        .collect();
    let vectors = columns
        .iter()
        .filter_map(|i| wanted.file_schema.fields().get(*i))
        .any(|f| matches!(f.data_type(), DataType::FixedSizeList(_, _)));
    if vectors || files.iter().all(|f| f.object_meta.size < SMALLEST_FILE) {
        return FileGroup::new(files).split_files(partitions);
    }
    let predicate = pruning_predicate(wanted);
    let at_once = wanted.state.config_options().execution.meta_fetch_concurrency.max(1);
    let mut footers = Vec::with_capacity(files.len());
    for file in &files {
        footers.push(footer(wanted, file));
    }
    let footers: Vec<_> = futures::stream::iter(footers).buffered(at_once).collect().await;
    let known: Vec<Known> = files
        .into_iter()
        .zip(footers)
        .map(|(file, footer)| {
            let footer = footer.map(|footer| {
                let kept = kept_row_groups(&footer, predicate.as_ref(), wanted.file_schema);
                (footer, kept)
            });
            Known { file, footer }
        })
        .collect();
    if wanted.ordered {
        let files = known.into_iter().filter_map(Known::narrowed).collect::<Vec<_>>();
        return match files.is_empty() {
            true => Vec::new(),
            false => FileGroup::new(files).split_files(partitions),
        };
    }
    let total: u64 = known.iter().map(|k| k.weight(&read)).sum();
    let size = (total / (partitions as u64 * PER_PARTITION)).clamp(SMALLEST_PIECE, LARGEST_PIECE);
    let size = size.max(total / MOST_PIECES);
    let pieces: Vec<PartitionedFile> = known.into_iter().flat_map(|k| k.pieces(size, &read)).collect();
    dealt(pieces, partitions)
}

/// The footer that the statistics came from, mostly out of the cache. A file that is small stays whole, and so does
/// one that cannot be read: it fails when it is scanned.
async fn footer(wanted: &Wanted<'_>, file: &PartitionedFile) -> Option<Arc<ParquetMetaData>> {
    if file.object_meta.size < SMALLEST_FILE {
        return None;
    }
    let cache = wanted.state.runtime_env().cache_manager.get_file_metadata_cache();
    let metadata =
        DFParquetMetadata::new(wanted.store, &file.object_meta).with_file_metadata_cache(Some(cache));
    metadata.fetch_metadata().await.ok()
}

fn pruning_predicate(wanted: &Wanted<'_>) -> Option<PruningPredicate> {
    let filter = conjunction(wanted.filters.iter().cloned())?;
    let schema = DFSchema::try_from(Arc::clone(wanted.file_schema)).ok()?;
    // A condition on a folder's column is not for the footer: then nothing is left out here.
    let expr = wanted.state.create_physical_expr(filter, &schema).ok()?;
    let predicate = PruningPredicate::try_new(expr, Arc::clone(wanted.file_schema)).ok()?;
    (!predicate.always_true()).then_some(predicate)
}

fn kept_row_groups(
    footer: &ParquetMetaData,
    predicate: Option<&PruningPredicate>,
    schema: &SchemaRef,
) -> Vec<bool> {
    let groups = footer.row_groups();
    let all = vec![true; groups.len()];
    let Some(predicate) = predicate else { return all };
    let described = footer.file_metadata();
    let Ok(own) = parquet_to_arrow_schema(described.schema_descr(), described.key_value_metadata()) else {
        return all;
    };
    // Statistics are numbers of the file's type: seconds in a file are not the table's microseconds.
    let same = collect_columns(predicate.orig_expr()).iter().all(|column| {
        match (own.field_with_name(column.name()), schema.field_with_name(column.name())) {
            (Ok(file), Ok(table)) => same_values(file.data_type(), table.data_type()),
            _ => false,
        }
    });
    if !same {
        return all;
    }
    let mut left = RowGroupAccessPlanFilter::new(ParquetAccessPlan::new_all(groups.len()));
    let metrics = ParquetFileMetrics::new(0, "", &ExecutionPlanMetricsSet::new());
    left.prune_by_statistics(schema, described.schema_descr(), groups, predicate, &metrics);
    left.build().inner().iter().map(RowGroupAccess::should_scan).collect()
}

/// Whether statistics of one type can be read as those of the other.
fn same_values(file: &DataType, table: &DataType) -> bool {
    use DataType::{LargeUtf8, Utf8, Utf8View};
    let text = |t: &DataType| matches!(t, Utf8 | LargeUtf8 | Utf8View);
    file == table || (text(file) && text(table))
}

impl Known {
    /// Of the row groups that are left.
    fn weight(&self, read: &[&str]) -> u64 {
        match &self.footer {
            None => self.file.object_meta.size,
            Some((footer, kept)) => {
                footer.row_groups().iter().zip(kept).filter(|(_, k)| **k).map(|(g, _)| weight(g, read)).sum()
            }
        }
    }

    /// The file from the first row group that is left to the last, still one file; `None`, if none is left.
    fn narrowed(self) -> Option<PartitionedFile> {
        let Some((footer, kept)) = &self.footer else { return Some(self.file) };
        let (first, last) = (kept.iter().position(|k| *k)?, kept.iter().rposition(|k| *k)?);
        if (first, last + 1) == (0, kept.len()) {
            return Some(self.file);
        }
        match starts(footer.row_groups(), self.file.object_meta.size) {
            Some(starts) => Some(self.file.with_range(starts[first], starts[last + 1])),
            None => Some(self.file),
        }
    }

    /// The file in pieces of about the weight `size`; nothing, if no row group is left.
    fn pieces(self, size: u64, read: &[&str]) -> Vec<PartitionedFile> {
        let Some((footer, kept)) = &self.footer else { return vec![self.file] };
        let Some(starts) = starts(footer.row_groups(), self.file.object_meta.size) else {
            return vec![self.file];
        };
        let mut pieces = Vec::new();
        // Row groups `from..` are gathered into the next piece and weigh so much.
        let (mut from, mut gathered) = (None, 0);
        for (i, group) in footer.row_groups().iter().enumerate().filter(|(i, _)| kept[*i]) {
            let weight = weight(group, read);
            let cuts = match weight > size + size / 2 {
                true => places_to_cut(footer, i, read, weight.div_ceil(size)),
                false => Vec::new(),
            };
            if cuts.is_empty() && gathered + weight <= size + size / 2 {
                from = from.or(Some(i));
                gathered += weight;
                continue;
            }
            if let Some(first) = from.take() {
                pieces.push(self.ranged(starts[first], starts[i]));
            }
            gathered = 0;
            if cuts.is_empty() {
                (from, gathered) = (Some(i), weight);
                continue;
            }
            let rows = usize::try_from(group.num_rows()).unwrap_or(0);
            let ends = cuts.iter().copied().skip(1).chain([rows]);
            for (start, end) in cuts.iter().copied().zip(ends) {
                let selected = RowSelection::from(vec![
                    RowSelector::skip(start),
                    RowSelector::select(end - start),
                    RowSelector::skip(rows - end),
                ]);
                let mut plan = ParquetAccessPlan::new_none(footer.num_row_groups());
                plan.set(i, RowGroupAccess::Selection(selected));
                pieces.push(self.ranged(starts[i], starts[i + 1]).with_extension(plan));
            }
        }
        if let Some(first) = from {
            let last = kept.iter().rposition(|k| *k).unwrap_or(first);
            pieces.push(self.ranged(starts[first], starts[last + 1]));
        }
        // Neither cut nor rid of anything: whoever comes next may cut it.
        if pieces.len() == 1 && kept.iter().all(|k| *k) {
            return vec![self.file];
        }
        pieces
    }

    fn ranged(&self, start: i64, end: i64) -> PartitionedFile {
        self.file.clone().with_range(start, end).with_extension(Piece)
    }
}

fn weight(group: &RowGroupMetaData, read: &[&str]) -> u64 {
    let rows = group.num_rows();
    let of_column = |c: &ColumnChunkMetaData| match is_read(c, read) {
        true => u64::try_from(c.compressed_size().max(rows)).unwrap_or(0),
        false => 0,
    };
    group.columns().iter().map(of_column).sum()
}

fn is_read(column: &ColumnChunkMetaData, read: &[&str]) -> bool {
    column.column_path().parts().first().is_some_and(|root| read.contains(&root.as_str()))
}

/// Where each row group begins, as DataFusion reckons it when it decides which range has it, and the file's end.
/// `None` when they do not lie in their order.
fn starts(groups: &[RowGroupMetaData], size: u64) -> Option<Vec<i64>> {
    let mut starts = Vec::with_capacity(groups.len() + 1);
    for group in groups {
        let first = group.columns().first()?;
        starts.push(first.dictionary_page_offset().unwrap_or_else(|| first.data_page_offset()));
    }
    starts.push(i64::try_from(size).ok()?);
    starts.is_sorted_by(|a, b| a < b).then_some(starts)
}

/// The first rows of `parts` pieces of a row group, each the first of a page in the column with the most pages;
/// empty where the row group is better left whole.
fn places_to_cut(footer: &ParquetMetaData, group: usize, read: &[&str], parts: u64) -> Vec<usize> {
    let metadata = footer.row_group(group);
    let Some(index) = footer.offset_index().and_then(|index| index.get(group)) else { return Vec::new() };
    let mut most: &[_] = &[];
    for (column, pages) in metadata.columns().iter().zip(index) {
        if is_read(column, read) {
            let pages = pages.page_locations();
            if pages.is_empty() {
                return Vec::new();
            }
            if pages.len() > most.len() {
                most = pages;
            }
        }
    }
    let parts = usize::try_from(parts).unwrap_or(usize::MAX).min(most.len());
    if parts < 2 {
        return Vec::new();
    }
    let rows = usize::try_from(metadata.num_rows()).unwrap_or(0);
    let mut cuts: Vec<usize> = (0..parts)
        .filter_map(|part| usize::try_from(most[part * most.len() / parts].first_row_index).ok())
        .filter(|row| *row < rows)
        .collect();
    cuts.dedup();
    // An index that does not begin at the beginning, or goes back, is not to be relied on.
    match cuts.first() == Some(&0) && cuts.is_sorted() && cuts.len() > 1 {
        true => cuts,
        false => Vec::new(),
    }
}

/// Neighbours stay together: without a queue that is shared, partitions read runs of their files.
fn dealt(pieces: Vec<PartitionedFile>, partitions: usize) -> Vec<FileGroup> {
    if pieces.is_empty() {
        return Vec::new();
    }
    let each = pieces.len().div_ceil(partitions);
    let mut pieces = pieces.into_iter().peekable();
    let mut groups = Vec::with_capacity(partitions);
    while pieces.peek().is_some() {
        groups.push(FileGroup::new(pieces.by_ref().take(each).collect()));
    }
    groups
}
