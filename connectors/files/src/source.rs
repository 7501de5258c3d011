//! The scan of formats that we read ourselves: CSV, JSON, Arrow IPC.
//!
//! ```text
//!  DataSourceExec ── FileScanConfig ── ReaderSource ── ProjectionOpener (expressions, partition columns)
//!                                            └── ReaderOpener ── FileReader: one file, or a part of one,
//!                                                                as batches with the wanted columns
//! ```
//!
//! Whatever goes wrong in a file comes out with its name.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpenFuture, FileOpener, FileScanConfig, FileSource};
use datafusion::datasource::projection::{ProjectionOpener, SplitProjection};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::ObjectStore;
use url::Url;

use crate::errors::{file_name, of_file};
use crate::kind::compression_of_path;

pub(crate) type Batches = BoxStream<'static, Result<RecordBatch>>;

/// One file, or a part of one, to be read.
#[derive(Debug)]
pub(crate) struct ReadJob {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) file: PartitionedFile,
    /// For messages.
    pub(crate) name: String,
    /// Columns of the table to deliver, in this order, and no others.
    pub(crate) wanted: SchemaRef,
    pub(crate) batch_size: usize,
    pub(crate) compression: FileCompressionType,
    /// Bytes fetched, for progress and EXPLAIN ANALYZE.
    pub(crate) scanned: Count,
}

/// Reads files of one format.
pub(crate) trait FileReader: fmt::Debug + Send + Sync {
    fn name(&self) -> &'static str;

    /// Whether a part of a file may be read without what is before it.
    fn splittable(&self) -> bool;

    fn read(&self, job: ReadJob) -> BoxFuture<'static, Result<Batches>>;
}

/// A `FileSource` over a [`FileReader`].
#[derive(Clone)]
pub(crate) struct ReaderSource {
    reader: Arc<dyn FileReader>,
    /// The store's root, for naming files.
    base: Url,
    /// `None`: each file's name says.
    compression: Option<FileCompressionType>,
    table_schema: TableSchema,
    projection: SplitProjection,
    batch_size: Option<usize>,
    metrics: ExecutionPlanMetricsSet,
}

impl ReaderSource {
    pub(crate) fn new(
        reader: Arc<dyn FileReader>,
        base: Url,
        compression: Option<FileCompressionType>,
        table_schema: TableSchema,
    ) -> Self {
        let projection = SplitProjection::unprojected(&table_schema);
        let metrics = ExecutionPlanMetricsSet::new();
        Self { reader, base, compression, table_schema, projection, batch_size: None, metrics }
    }
}

impl FileSource for ReaderSource {
    fn create_file_opener(
        &self,
        object_store: Arc<dyn ObjectStore>,
        _base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let file_schema = self.table_schema.file_schema();
        let opener = ReaderOpener {
            reader: Arc::clone(&self.reader),
            store: object_store,
            base: self.base.clone(),
            compression: self.compression,
            wanted: Arc::new(file_schema.project(&self.projection.file_indices)?),
            batch_size: self.batch_size.unwrap_or(8192),
            scanned: MetricBuilder::new(&self.metrics).counter("bytes_scanned", partition),
        };
        ProjectionOpener::try_new(self.projection.clone(), Arc::new(opener), file_schema)
    }

    fn table_schema(&self) -> &TableSchema {
        &self.table_schema
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { batch_size: Some(batch_size), ..self.clone() })
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        let merged = self.projection.source.try_merge(projection)?;
        let projection = SplitProjection::new(self.table_schema.file_schema(), &merged);
        Ok(Some(Arc::new(Self { projection, ..self.clone() })))
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        self.reader.name()
    }

    fn supports_repartitioning(&self) -> bool {
        self.reader.splittable()
    }

    fn fmt_extra(&self, _: DisplayFormatType, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

struct ReaderOpener {
    reader: Arc<dyn FileReader>,
    store: Arc<dyn ObjectStore>,
    base: Url,
    compression: Option<FileCompressionType>,
    wanted: SchemaRef,
    batch_size: usize,
    scanned: Count,
}

impl FileOpener for ReaderOpener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let name = file_name(&self.base, file.path());
        // The decoders take room for a whole batch of every column beforehand.
        let columns = self.wanted.fields().len().max(1);
        let batch_size = self.batch_size.min((2_000_000 / columns).max(16));
        let job = ReadJob {
            store: Arc::clone(&self.store),
            name: name.clone(),
            wanted: SchemaRef::clone(&self.wanted),
            batch_size,
            compression: self.compression.unwrap_or_else(|| compression_of_path(file.path().as_ref())),
            scanned: self.scanned.clone(),
            file,
        };
        let reading = self.reader.read(job);
        Ok(async move {
            let batches = reading.await.map_err(|e| of_file(&name, e))?;
            Ok(batches.map_err(move |e| of_file(&name, e).into()).boxed())
        }
        .boxed())
    }
}
