//! A Lance dataset as a table of one version.
//!
//! ```sql
//! SELECT count(*) FROM docs;                       -- from the manifest, no file is read
//! SELECT id FROM docs WHERE lang = 'en' LIMIT 10;  -- columns lang and id, conditions below the scan
//! ```
//!
//! Every condition that DataFusion can evaluate on one row of the table is taken into the scan and is
//! exact: the scan evaluates the same physical expression that a filter above would. Not taken are
//! volatile expressions (`random() < 0.1`), sub-queries, references to an outer query and asynchronous
//! functions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ColumnStatistics, DFSchema, Statistics};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use lance::Dataset;
use lance::dataset::fragment::FileFragment;
use parking_lot::Mutex;
use roaring::RoaringTreemap;
use tokio::sync::OnceCell;
use triune_common::{Error, Result, boxed};
use twox_hash::XxHash3_128;

use crate::cache::ColumnCache;
use crate::cache::load::TableCache;
use crate::error::from_lance;
use crate::index::{self, VectorIndexInfo};
use crate::mask::RowMask;
use crate::predicate::Predicate;
use crate::scalar::RowStretches;
use crate::scan::LanceScanExec;
use crate::scan::pieces::{self, FragmentRows};
use crate::scan::size;
use crate::text::TextIndex;

/// What scans and searches of one version share. Column indexes are those of `schema`.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) dataset: Arc<Dataset>,
    /// The dataset's columns, then `_rowid` and `_rowaddr` where they were asked for.
    pub(crate) schema: SchemaRef,
    /// How many columns of `schema` are the dataset's.
    pub(crate) data_columns: usize,
    pub(crate) fragments: Vec<FragmentRows>,
    /// Rows that are left out; counted as deleted in `fragments`.
    pub(crate) mask: Option<Arc<RowMask>>,
    /// Decoded columns, for datasets that keep them.
    pub(crate) cache: Option<Arc<TableCache>>,
    /// What a value of variable length needs on average.
    pub(crate) variable_bytes: usize,
    indexes: Arc<OnceCell<Vec<VectorIndexInfo>>>,
    /// How many partitions each index that was searched has.
    index_partitions: Arc<Mutex<HashMap<String, usize>>>,
    /// Full-text indexes that were opened.
    pub(crate) text_indexes: Arc<Mutex<HashMap<String, Arc<TextIndex>>>>,
    /// Indexes that are passed over.
    ignored: Arc<BTreeSet<String>>,
    /// Indexes that could not be read, and why; shared by all providers of this version.
    damaged: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Table {
    /// Rows that are not deleted.
    pub(crate) fn rows(&self) -> u64 {
        self.fragments.iter().map(|f| f.physical - f.deleted).sum()
    }

    /// Whether `_rowid` is something else than `_rowaddr`.
    pub(crate) fn stable_row_ids(&self) -> bool {
        self.dataset.manifest().uses_stable_row_ids()
    }

    /// Bytes of one row of these columns in Arrow memory, estimated.
    pub(crate) fn row_bytes(&self, columns: impl IntoIterator<Item = usize>) -> usize {
        columns.into_iter().map(|c| size::width(self.schema.field(c).data_type(), self.variable_bytes)).sum()
    }

    pub(crate) async fn indexes(&self) -> Result<&[VectorIndexInfo]> {
        let found = self.indexes.get_or_try_init(|| index::describe(&self.dataset)).await?;
        Ok(found)
    }

    /// How many partitions an index has; opens it the first time.
    pub(crate) async fn index_partitions(&self, name: &str) -> Result<usize> {
        let known = self.index_partitions.lock().get(name).copied();
        if let Some(known) = known {
            return Ok(known);
        }
        let count = index::partitions(&self.dataset, name).await?;
        self.index_partitions.lock().insert(name.to_owned(), count);
        Ok(count)
    }

    /// The same table with the row identity columns.
    fn with_identity(&self) -> Self {
        let mut fields: Vec<Arc<Field>> = self.schema.fields()[..self.data_columns].to_vec();
        fields.push(Arc::new(lance_core::ROW_ID_FIELD.clone()));
        fields.push(Arc::new(lance_core::ROW_ADDR_FIELD.clone()));
        let schema = Schema::new_with_metadata(fields, self.schema.metadata().clone());
        self.with_schema(Arc::new(schema))
    }

    fn without_identity(&self) -> Self {
        let fields: Vec<Arc<Field>> = self.schema.fields()[..self.data_columns].to_vec();
        let schema = Schema::new_with_metadata(fields, self.schema.metadata().clone());
        self.with_schema(Arc::new(schema))
    }

    fn with_schema(&self, schema: SchemaRef) -> Self {
        Self {
            dataset: Arc::clone(&self.dataset),
            schema,
            data_columns: self.data_columns,
            fragments: self.fragments.clone(),
            mask: self.mask.clone(),
            cache: self.cache.clone(),
            variable_bytes: self.variable_bytes,
            indexes: Arc::clone(&self.indexes),
            index_partitions: Arc::clone(&self.index_partitions),
            text_indexes: Arc::clone(&self.text_indexes),
            ignored: Arc::clone(&self.ignored),
            damaged: Arc::clone(&self.damaged),
        }
    }
}

/// A Lance dataset at one version, which later commits do not move.
#[derive(Debug, Clone)]
pub struct LanceProvider {
    pub(crate) table: Arc<Table>,
}

impl LanceProvider {
    /// A table over a version that was opened.
    ///
    /// Reads nothing but the manifest, unless that is of a very old Lance and does not know how many
    /// rows its fragments have. Errors: unsupported for files in Lance's first format (before 2024).
    #[boxed]
    pub async fn try_new(dataset: Arc<Dataset>) -> Result<Arc<Self>> {
        let mut fragments = Vec::with_capacity(dataset.fragments().len());
        let (mut file_bytes, mut rows) = (0u64, 0u64);
        for fragment in dataset.fragments().iter() {
            for file in &fragment.files {
                if (file.file_major_version, file.file_minor_version) < (0, 3) {
                    let of = dataset.uri();
                    return Err(Error::unsupported(format!("{of} holds files in Lance's first file format"))
                        .with_hint("write it again with Lance 0.20 or later"));
                }
                file_bytes += file.file_size_bytes.get().map_or(0, |n| n.get());
            }
            let (physical, live) = match (fragment.physical_rows, fragment.num_rows()) {
                (Some(physical), Some(live)) => (physical, live),
                _ => {
                    let file = FileFragment::new(Arc::clone(&dataset), fragment.clone());
                    let physical = Box::pin(file.physical_rows()).await.map_err(from_lance)?;
                    let deleted = file.count_deletions().await.map_err(from_lance)?;
                    (physical, physical.saturating_sub(deleted))
                }
            };
            rows += physical as u64;
            let deleted = physical.saturating_sub(live) as u64;
            fragments.push(FragmentRows { id: fragment.id, physical: physical as u64, deleted });
        }
        let schema = Arc::new(Schema::from(dataset.schema()));
        let variable_bytes =
            size::variable_bytes(schema.fields().iter().map(AsRef::as_ref), file_bytes, rows);
        let table = Table {
            data_columns: schema.fields().len(),
            schema,
            fragments,
            mask: None,
            cache: None,
            variable_bytes,
            indexes: Arc::default(),
            index_partitions: Arc::default(),
            text_indexes: Arc::default(),
            ignored: Arc::default(),
            damaged: Arc::default(),
            dataset,
        };
        Ok(Arc::new(Self { table: Arc::new(table) }))
    }

    /// The same table with (or without) the hidden columns `_rowid` and `_rowaddr` at its end, both
    /// `UInt64`: what a plan carries instead of wide columns, to fetch those last.
    ///
    /// `_rowaddr` is the fragment's id times 2³² plus the row's place in it; `_rowid` is the same number
    /// unless the dataset was created with stable row ids.
    #[must_use]
    pub fn with_row_identity(&self, on: bool) -> Arc<Self> {
        let table = if on { self.table.with_identity() } else { self.table.without_identity() };
        Arc::new(Self { table: Arc::new(table) })
    }

    /// The same table without the rows at these addresses (fragment id times 2³² plus place): scans, counts
    /// and searches leave them out. Addresses of other datasets' fragments do no harm. Replaces a mask that
    /// there was.
    ///
    /// Errors: unsupported for a dataset with stable row ids or with deletions of its own.
    pub fn with_mask(&self, rows: Arc<RoaringTreemap>) -> Result<Arc<Self>> {
        let dataset = &self.table.dataset;
        if self.table.stable_row_ids() || dataset.fragments().iter().any(|f| f.deletion_file.is_some()) {
            return Err(Error::unsupported(format!(
                "rows of {} cannot be masked: it has stable row ids or deletions of its own",
                dataset.uri()
            )));
        }
        let mut table = self.table.with_schema(Arc::clone(&self.table.schema));
        let mut masked = 0;
        for fragment in &mut table.fragments {
            let first = fragment.id << 32;
            fragment.deleted = rows.range_cardinality(first..first + fragment.physical);
            masked += fragment.deleted;
        }
        table.mask = (masked > 0).then(|| Arc::new(RowMask::new(rows, masked)));
        Ok(Arc::new(Self { table: Arc::new(table) }))
    }

    /// The same table, whose columns are kept in `cache` once they were decoded (`None`: read every time).
    ///
    /// A dataset with stable row ids, deletions of its own or fragments of several files is left without.
    #[must_use]
    pub fn with_cache(&self, cache: Option<&Arc<ColumnCache>>) -> Arc<Self> {
        let mut table = self.table.with_schema(Arc::clone(&self.table.schema));
        let dataset = &self.table.dataset;
        let plain = !self.table.stable_row_ids()
            && dataset
                .fragments()
                .iter()
                .all(|f| f.files.len() == 1 && f.deletion_file.is_none() && f.overlays.is_empty());
        table.cache = cache.filter(|_| plain).map(|cache| {
            let name = |file: &str| XxHash3_128::oneshot(format!("{}\n{file}", dataset.uri()).as_bytes());
            let files = dataset.fragments().iter().filter_map(|f| f.files.first()).map(|f| name(&f.path));
            Arc::new(TableCache::new(Arc::clone(cache), files.collect()))
        });
        Arc::new(Self { table: Arc::new(table) })
    }

    /// Rows that a mask leaves out.
    pub fn masked_rows(&self) -> u64 {
        self.table.mask.as_ref().map_or(0, |m| m.masked)
    }

    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.table.dataset
    }

    /// The location as Lance knows it: a path, or a URL.
    pub fn uri(&self) -> &str {
        self.table.dataset.uri()
    }

    /// The number of the version that is read.
    pub fn version(&self) -> u64 {
        self.table.dataset.version_id()
    }

    /// Rows that are neither deleted nor masked.
    pub fn rows(&self) -> u64 {
        self.table.rows()
    }

    /// The vector index of a column, the one built first where there are several.
    ///
    /// Reads the index section of the manifest, once. Errors: not-found for an unknown column.
    #[boxed]
    pub async fn vector_index(&self, column: &str) -> Result<Option<VectorIndexInfo>> {
        Ok(self.vector_indexes(column).await?.into_iter().next())
    }

    /// All vector indexes of a column, in the order in which Lance considers them.
    #[boxed]
    pub async fn vector_indexes(&self, column: &str) -> Result<Vec<VectorIndexInfo>> {
        index::check_column(&self.table.schema, column)?;
        let all = self.table.indexes().await?;
        Ok(all.iter().filter(|i| i.column == column && self.uses_index(&i.name)).cloned().collect())
    }

    /// The same table without an index: searches and scans pass it over.
    #[must_use]
    pub fn without_index(&self, name: &str) -> Arc<Self> {
        let mut table = self.table.with_schema(Arc::clone(&self.table.schema));
        let mut ignored = table.ignored.as_ref().clone();
        ignored.insert(name.to_owned());
        table.ignored = Arc::new(ignored);
        Arc::new(Self { table: Arc::new(table) })
    }

    /// Whether an index of the dataset may be used: it is not passed over and was not found damaged.
    pub fn uses_index(&self, name: &str) -> bool {
        !self.table.ignored.contains(name) && !self.table.damaged.lock().contains_key(name)
    }

    /// Notes that an index cannot be read. All providers of this version pass it over from now on; whoever
    /// finds this answers from the rows themselves.
    pub fn report_damaged(&self, name: &str, why: &Error) {
        self.table.damaged.lock().entry(name.to_owned()).or_insert_with(|| why.message().to_owned());
    }

    /// Indexes that could not be read, and why.
    pub fn damaged_indexes(&self) -> BTreeMap<String, String> {
        self.table.damaged.lock().clone()
    }

    /// A scan of `projection` (columns of [`TableProvider::schema`], all of them for `None`) over all
    /// rows that meet every condition, in up to `partitions` partitions, each ending after `fetch` rows.
    pub(crate) fn scan_exec(
        &self,
        projection: Option<&Vec<usize>>,
        predicate: Predicate,
        partitions: usize,
        fetch: Option<usize>,
    ) -> Result<LanceScanExec> {
        let projection = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.table.schema.fields().len()).collect(),
        };
        let pieces = pieces::split(&self.table.fragments, partitions);
        LanceScanExec::try_new(Arc::clone(&self.table), projection, predicate, pieces, fetch)
    }
}

impl LanceProvider {
    fn conditions(
        &self,
        state: &dyn Session,
        filters: &[Expr],
    ) -> datafusion::common::Result<Vec<Arc<dyn PhysicalExpr>>> {
        let schema = DFSchema::try_from(Arc::clone(&self.table.schema))?;
        filters.iter().map(|f| state.create_physical_expr(unqualified(f)?, &schema)).collect()
    }

    /// A scan as [`TableProvider::scan`] makes it, that reads these rows only; all conditions are evaluated on them.
    ///
    /// # Errors
    /// Those of turning the conditions into operators.
    pub fn scan_stretches(
        &self,
        state: &dyn Session,
        projection: &[usize],
        filters: &[Expr],
        fetch: Option<usize>,
        rows: RowStretches,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let predicate = Predicate::new(self.conditions(state, filters)?);
        let pieces = pieces::spread(rows.pieces, state.config().target_partitions());
        let (table, projection) = (Arc::clone(&self.table), projection.to_vec());
        let exec = LanceScanExec::try_new(table, projection, predicate, pieces, fetch)?;
        Ok(Arc::new(exec.by_indexes(rows.by)))
    }
}

#[async_trait]
impl TableProvider for LanceProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.table.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let fixed = self.conditions(state, filters)?;
        let config = state.config();
        // Without a condition the first rows are as good as any others, and one partition has them at once.
        let partitions = match limit {
            Some(n) if fixed.is_empty() && n <= config.batch_size() => 1,
            _ => config.target_partitions(),
        };
        let exec = self.scan_exec(projection, Predicate::new(fixed), partitions, limit)?;
        Ok(Arc::new(exec))
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::common::Result<Vec<TableProviderFilterPushDown>> {
        filters
            .iter()
            .map(|f| {
                Ok(if is_row_condition(f)? {
                    TableProviderFilterPushDown::Exact
                } else {
                    TableProviderFilterPushDown::Unsupported
                })
            })
            .collect()
    }

    fn statistics(&self) -> Option<Statistics> {
        let rows = usize::try_from(self.table.rows()).ok()?;
        let width = self.table.row_bytes(0..self.table.schema.fields().len());
        Some(Statistics {
            num_rows: Precision::Exact(rows),
            total_byte_size: Precision::Inexact(rows.saturating_mul(width)),
            column_statistics: vec![ColumnStatistics::new_unknown(); self.table.schema.fields().len()],
        })
    }
}

/// Whether the expression is a function of one row alone, the same each time.
pub fn is_row_condition(expr: &Expr) -> datafusion::common::Result<bool> {
    if expr.is_volatile() {
        return Ok(false);
    }
    let mut plain = true;
    expr.apply(|e| {
        let alone = match e {
            Expr::ScalarFunction(f) => f.func.as_async().is_none(),
            Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::ScalarSubquery(_)
            | Expr::OuterReferenceColumn(..)
            | Expr::Placeholder(_)
            | Expr::AggregateFunction(_)
            | Expr::WindowFunction(_)
            | Expr::GroupingSet(_)
            | Expr::Unnest(_) => false,
            _ => true,
        };
        plain &= alone;
        Ok(if alone { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(plain)
}

/// Filters name the table as the query does; the scan knows its columns only.
pub fn unqualified(expr: &Expr) -> datafusion::common::Result<Expr> {
    use datafusion::common::Column;
    use datafusion::common::tree_node::Transformed;
    let out = expr.clone().transform(|e| {
        Ok(match e {
            Expr::Column(c) if c.relation.is_some() => {
                Transformed::yes(Expr::Column(Column::new_unqualified(c.name)))
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(out.data)
}
