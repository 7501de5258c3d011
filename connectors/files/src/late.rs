//! A scan in two steps: few columns of all rows, the others of the rows that are left.
//!
//! ```text
//!  scan [id, title, lang, embedding] ──▶ narrow: [embedding, row address]     … top-k …
//!                                        rest:   [id, title, lang] at these addresses
//! ```
//!
//! The address of a row is the number of its file times 2⁴⁰ plus its place in the file. It comes as a column that
//! the footer shown to DataFusion's reader has and the file has not ([`crate::vectors`]), so it passes through
//! filters like any other. Row groups and pages without a wanted row are not read in the second step.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{ColumnStatistics, Result, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use triune_common::Error;

use crate::vectors::VectorSource;

/// Rows of one file; more than a file can have.
const ROW_BITS: u32 = 40;

/// Which file of a scan this is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileNumber(pub(crate) u32);

impl FileNumber {
    /// The address of the file's first row.
    pub(crate) fn first_address(self) -> i64 {
        i64::from(self.0) << ROW_BITS
    }
}

/// The rows of a file that are wanted, ascending.
#[derive(Debug, Clone)]
pub(crate) struct WantedRows(pub(crate) Arc<Vec<u64>>);

/// A scan of Parquet files taken apart by [`split_scan`].
#[derive(Debug)]
pub struct SplitScan {
    /// The columns that were to be kept, in the order they were asked for, and as the last one the rows'
    /// addresses (`Int64`, never NULL).
    pub narrow: Arc<dyn ExecutionPlan>,
    /// Fetches what is missing.
    pub rest: RestOfRows,
}

/// Reads columns of single rows by their address.
#[derive(Debug, Clone)]
pub struct RestOfRows {
    /// By number.
    files: Vec<PartitionedFile>,
    config: FileScanConfig,
}

/// Splits a scan of Parquet files: `keep` are the places (in its output) of the columns that are read for all
/// rows, `defer` of those that are fetched later. `None` if the plan is another one, has computed columns, a
/// limit, or an order that it promises.
///
/// # Errors
/// Internal, if a place does not exist.
pub fn split_scan(
    plan: &Arc<dyn ExecutionPlan>,
    keep: &[usize],
    defer: &[usize],
) -> Result<Option<SplitScan>> {
    let Some(exec) = plan.downcast_ref::<DataSourceExec>() else { return Ok(None) };
    let Some((config, source)) = exec.downcast_to_file_source::<VectorSource>() else { return Ok(None) };
    if config.limit.is_some() || !config.output_ordering.is_empty() || source.address().is_some() {
        return Ok(None);
    }
    let Some(columns) = plain_columns(source) else { return Ok(None) };
    let places = |wanted: &[usize]| -> Option<Vec<usize>> {
        wanted.iter().map(|i| columns.get(*i).copied()).collect()
    };
    let (Some(keep), Some(defer)) = (places(keep), places(defer)) else {
        return Err(Error::internal("a scan was split by columns that it does not have").into());
    };

    let table = source.table_schema();
    let own = table.file_schema().fields().len();
    let address = address_name(table);
    let mut fields = table.file_schema().fields().to_vec();
    fields.push(Arc::new(Field::new(&address, DataType::Int64, false)));
    let file_schema = Schema::new_with_metadata(fields, table.file_schema().metadata().clone());
    let wider = TableSchema::new(Arc::new(file_schema), table.table_partition_cols().clone());
    // The columns of folders come after those of files and have moved by one.
    let moved = |i: usize| if i < own { i } else { i + 1 };
    let with_address =
        |places: &[usize]| -> Vec<usize> { places.iter().map(|i| moved(*i)).chain([own]).collect() };

    let groups = config.file_groups.iter();
    let mut files: Vec<PartitionedFile> = Vec::new();
    let mut numbered = Vec::with_capacity(groups.len());
    for group in groups {
        let mut members = Vec::with_capacity(group.len());
        for file in group.iter() {
            let same = |f: &PartitionedFile| f.object_meta.location == file.object_meta.location;
            let number = files.iter().position(same).unwrap_or(files.len());
            let mut file = file.clone();
            file.statistics = file.statistics.map(|s| Arc::new(widened(&s, own)));
            let tag = u32::try_from(number).ok().filter(|n| *n < 1 << (62 - ROW_BITS));
            let Some(tag) = tag else { return Ok(None) };
            if number == files.len() {
                let mut whole = file.clone().with_extension(FileNumber(tag));
                whole.range = None;
                files.push(whole);
            }
            members.push(file.with_extension(FileNumber(tag)));
        }
        numbered.push(FileGroup::new(members));
    }

    let build = |places: &[usize], filtered: bool, groups: Vec<FileGroup>| -> Result<FileScanConfig> {
        let mut inner = ParquetSource::new(wider.clone())
            .with_table_parquet_options(source.parquet().table_parquet_options().clone());
        if let Some(readers) = source.parquet().parquet_file_reader_factory() {
            inner = inner.with_parquet_file_reader_factory(Arc::clone(readers));
        }
        if let Some(filter) = source.filter().filter(|_| filtered) {
            inner = inner.with_predicate(renumbered(filter, &moved)?);
        }
        let projection = ProjectionExprs::from_indices(&with_address(places), wider.table_schema());
        let shown = VectorSource::new(inner).with_address(address.clone());
        let projected = shown.try_pushdown_projection(&projection)?;
        let projected =
            projected.ok_or_else(|| Error::internal("a scan of Parquet files took no projection"))?;
        let statistics = widened(&config.statistics(), own);
        Ok(FileScanConfigBuilder::from(config.clone())
            .with_source(projected)
            .with_file_groups(groups)
            .with_statistics(statistics)
            .build())
    };
    let narrow = build(&keep, true, numbered)?;
    let rest = build(&defer, false, Vec::new())?;
    let narrow = DataSourceExec::from_data_source(narrow);
    Ok(Some(SplitScan { narrow, rest: RestOfRows { files, config: rest } }))
}

impl RestOfRows {
    /// The deferred columns in the order they were asked for, and as the last one the rows' addresses.
    pub fn schema(&self) -> Result<arrow::datatypes::SchemaRef> {
        Ok(DataSourceExec::from_data_source(self.config.clone()).schema())
    }

    /// A plan of one partition that gives the rows at these addresses, each once, in an order of its own.
    ///
    /// # Errors
    /// Internal, if an address is not of this scan.
    pub fn plan(&self, mut addresses: Vec<i64>) -> Result<Arc<dyn ExecutionPlan>> {
        addresses.sort_unstable();
        addresses.dedup();
        let mut files = Vec::new();
        for part in addresses.chunk_by(|a, b| a >> ROW_BITS == b >> ROW_BITS) {
            let number = part.first().and_then(|a| usize::try_from(a >> ROW_BITS).ok());
            let file = number.and_then(|n| self.files.get(n));
            let file = file.ok_or_else(|| Error::internal("a row address is of no file of the scan"))?;
            let rows = part.iter().map(|a| (a & ((1 << ROW_BITS) - 1)).unsigned_abs()).collect();
            files.push(file.clone().with_extension(WantedRows(Arc::new(rows))));
        }
        let config = FileScanConfigBuilder::from(self.config.clone())
            .with_file_groups(vec![FileGroup::new(files)])
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// For each column of a scan's output its place in the table; `None` if one is computed.
fn plain_columns(source: &VectorSource) -> Option<Vec<usize>> {
    let projection = source.projection()?;
    projection.expr_iter().map(|e| e.downcast_ref::<Column>().map(Column::index)).collect()
}

/// A name that no column has.
fn address_name(table: &TableSchema) -> String {
    let mut name = "__row_address".to_owned();
    while table.table_schema().column_with_name(&name).is_some() {
        name.push('_');
    }
    name
}

fn renumbered(expr: Arc<dyn PhysicalExpr>, moved: &impl Fn(usize) -> usize) -> Result<Arc<dyn PhysicalExpr>> {
    let new = expr.transform(|expr| {
        let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
        let new = Column::new(column.name(), moved(column.index()));
        Ok(Transformed::yes(Arc::new(new) as Arc<dyn PhysicalExpr>))
    })?;
    Ok(new.data)
}

/// Statistics with nothing known of the column that was put in at `place`.
fn widened(statistics: &Statistics, place: usize) -> Statistics {
    let mut new = statistics.clone();
    let place = place.min(new.column_statistics.len());
    new.column_statistics.insert(place, ColumnStatistics::new_unknown());
    new
}
