//! DataFusion's Parquet source, with files opened by [`super::open`] where vectors are asked for.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpener, FileScanConfig, FileSource, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, PhysicalExpr, SortOrderPushdownResult};
use datafusion_datasource::morsel::Morselizer;
use object_store::ObjectStore;

use super::open::VectorMorselizer;
use super::shape::vector_of;

/// See the module. *Plans*: those of [`ParquetSource`], which this is in every other respect.
#[derive(Debug, Clone)]
pub(crate) struct VectorSource {
    inner: ParquetSource,
    /// The name of the table's last file column, which holds the rows' addresses and is in no file
    /// ([`crate::late`]).
    address: Option<String>,
}

impl VectorSource {
    pub(crate) fn new(inner: ParquetSource) -> Self {
        Self { inner, address: None }
    }

    #[must_use]
    pub(crate) fn with_address(self, name: String) -> Self {
        Self { address: Some(name), ..self }
    }

    pub(crate) fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    pub(crate) fn parquet(&self) -> &ParquetSource {
        &self.inner
    }

    /// The same around another source.
    fn around(&self, source: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        match source.downcast_ref::<ParquetSource>() {
            Some(inner) => Arc::new(Self { inner: inner.clone(), address: self.address.clone() }),
            None => source,
        }
    }

    /// The table's vector columns that the scan gives out or filters by.
    fn vectors(&self) -> Vec<usize> {
        let schema = self.inner.table_schema().file_schema();
        let mut used: Vec<usize> = (self.inner.projection().into_iter().flat_map(|p| p.expr_iter()))
            .chain(self.inner.filter())
            .flat_map(|expr| collect_columns(&expr))
            .map(|column| column.index())
            .filter(|i| schema.fields().get(*i).is_some_and(|f| vector_of(f.data_type()).is_some()))
            .collect();
        used.sort_unstable();
        used.dedup();
        used
    }
}

impl FileSource for VectorSource {
    fn create_file_opener(
        &self,
        object_store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        self.inner.create_file_opener(object_store, base_config, partition)
    }

    fn create_morselizer(
        &self,
        object_store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let used = self.vectors();
        // Little-endian is how Parquet stores numbers.
        let local = base_config.object_store_url.as_str().starts_with("file:");
        let as_bytes = local && cfg!(target_endian = "little");
        if self.address.is_none() && (used.is_empty() || !as_bytes) {
            return self.inner.create_morselizer(object_store, base_config, partition);
        }
        let schema = self.inner.table_schema().file_schema();
        let used = used.into_iter().filter(|_| as_bytes);
        let fields = used.map(|i| Arc::clone(&schema.fields()[i])).collect();
        let morselizer =
            VectorMorselizer::try_new(self, fields, object_store, base_config.clone(), partition)?;
        Ok(Box::new(morselizer))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        self.around(self.inner.with_batch_size(batch_size))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_extra(t, f)
    }

    fn supports_repartitioning(&self) -> bool {
        self.inner.supports_repartitioning()
    }

    fn repartitioned(
        &self,
        target_partitions: usize,
        repartition_file_min_size: usize,
        output_ordering: Option<LexOrdering>,
        config: &FileScanConfig,
    ) -> Result<Option<FileScanConfig>> {
        if crate::pieces::are_cut(&config.file_groups) {
            return Ok(None);
        }
        self.inner.repartitioned(target_partitions, repartition_file_min_size, output_ordering, config)
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let pushed = self.inner.try_pushdown_filters(filters, config)?;
        let updated_node = pushed.updated_node.map(|s| self.around(s));
        Ok(FilterPushdownPropagation { filters: pushed.filters, updated_node })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        eq_properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_sort(order, eq_properties)?.map(|s| self.around(s)))
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_projection(projection)?.map(|s| self.around(s)))
    }
}
