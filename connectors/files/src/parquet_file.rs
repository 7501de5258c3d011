//! Parquet through DataFusion's own source, with errors that name the file.
//!
//! The source stays `ParquetSource`, so that everything DataFusion knows about it goes on to work: pruning by
//! statistics and page index, bloom filters, dynamic filters, late filters, sorting by statistics. Only where it
//! gets bytes from is ours, and how it comes by vectors ([`crate::vectors`]).

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::catalog::Session;
use datafusion::common::{DataFusionError, Result};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::file_format::{FileFormat, FileMeta};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::parquet::{
    CachedParquetFileReaderFactory, ParquetFileReaderFactory,
};
use datafusion::datasource::physical_plan::{FileSource, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use triune_common::{Error, ErrorKind};
use url::Url;

use crate::errors::{file_name, of_file};
use crate::locations::store_error;
use crate::vectors::VectorSource;

/// The shortest Parquet file: magic, an empty footer's length, magic.
const SHORTEST: u64 = 12;

pub(crate) fn format(options: &TableParquetOptions) -> ParquetFormat {
    ParquetFormat::default().with_options(options.clone())
}

/// The Arrow schema of one file.
pub(crate) async fn infer(
    state: &dyn Session,
    store: &Arc<dyn ObjectStore>,
    meta: &ObjectMeta,
    name: &str,
    options: &TableParquetOptions,
) -> triune_common::Result<arrow::datatypes::Schema> {
    if meta.size < SHORTEST {
        return Err(broken(name, &format!("it has {} bytes, too few for a footer", meta.size)));
    }
    check_local_footer(store, meta, name).await?;
    let format = format(options);
    let schema = guarded(name, format.infer_schema(state, store, std::slice::from_ref(meta))).await?;
    Ok(schema.as_ref().clone())
}

/// The statistics and the order of rows that a file's footer tells.
pub(crate) async fn describe(
    state: &dyn Session,
    store: &Arc<dyn ObjectStore>,
    meta: &ObjectMeta,
    name: &str,
    options: &TableParquetOptions,
    file_schema: &SchemaRef,
) -> triune_common::Result<FileMeta> {
    let format = format(options);
    guarded(name, format.infer_stats_and_ordering(state, store, Arc::clone(file_schema), meta)).await
}

/// The footer's decoder computes with lengths before it checks them; a damaged file must not end the process.
async fn guarded<T>(name: &str, work: impl Future<Output = Result<T>>) -> triune_common::Result<T> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(done) => done.map_err(|e| of_parquet(name, e)),
        Err(_) => Err(broken(name, "its footer is damaged")),
    }
}

/// Where it costs nothing, the usual damages are told apart before the decoder sees them.
async fn check_local_footer(
    store: &Arc<dyn ObjectStore>,
    meta: &ObjectMeta,
    name: &str,
) -> triune_common::Result<()> {
    if !name.starts_with('/') {
        return Ok(());
    }
    let tail = store.get_range(&meta.location, meta.size - 8..meta.size).await.map_err(store_error)?;
    let Some((length, magic)) = tail.split_first_chunk::<4>() else { return Ok(()) };
    if magic != b"PAR1" && magic != b"PARE" {
        return Err(broken(name, NO_FOOTER));
    }
    if u64::from(u32::from_le_bytes(*length)) > meta.size - SHORTEST {
        return Err(broken(name, "its footer claims to be longer than the file"));
    }
    Ok(())
}

const NO_FOOTER: &str = "its end has no footer; it may be another format, or have been cut off";

/// The source of a scan.
pub(crate) fn source(
    state: &dyn Session,
    store: Arc<dyn ObjectStore>,
    base: Url,
    table_schema: TableSchema,
    options: &TableParquetOptions,
) -> Arc<dyn FileSource> {
    let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
    let inner = CachedParquetFileReaderFactory::new(Arc::clone(&store), Arc::clone(&cache));
    let mut source = ParquetSource::new(table_schema)
        .with_table_parquet_options(options.clone())
        .with_parquet_file_reader_factory(Arc::new(NamedReaders { inner, store, cache, base }));
    if let Some(hint) = options.global.metadata_size_hint {
        source = source.with_metadata_size_hint(hint);
    }
    Arc::new(VectorSource::new(source))
}

fn broken(name: &str, what: &str) -> Error {
    Error::data(format!("\"{name}\" is no sound Parquet file: {what}"))
}

/// Tells errors of the store from errors in the file.
pub(crate) fn of_parquet(name: &str, error: DataFusionError) -> Error {
    let found = of_file(name, error);
    if found.kind() != ErrorKind::Data {
        return found;
    }
    let prefix = format!("\"{name}\": ");
    match found.message().strip_prefix(&prefix) {
        Some(what) if what.contains("Corrupt footer") || what.contains("magic") => broken(name, NO_FOOTER),
        Some(what) => broken(name, what),
        None => found,
    }
}

#[derive(Debug)]
struct NamedReaders {
    inner: CachedParquetFileReaderFactory,
    store: Arc<dyn ObjectStore>,
    cache: Arc<dyn FileMetadataCache>,
    base: Url,
}

impl ParquetFileReaderFactory for NamedReaders {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let name = file_name(&self.base, file.path());
        let meta = file.object_meta.clone();
        let inner = self.inner.create_reader(partition_index, file, metadata_size_hint, metrics)?;
        Ok(Box::new(NamedReader {
            inner,
            store: Arc::clone(&self.store),
            cache: Arc::clone(&self.cache),
            meta,
            name,
            metadata_size_hint,
        }))
    }
}

struct NamedReader {
    inner: Box<dyn AsyncFileReader + Send>,
    store: Arc<dyn ObjectStore>,
    cache: Arc<dyn FileMetadataCache>,
    meta: ObjectMeta,
    name: String,
    metadata_size_hint: Option<usize>,
}

fn named(name: &str, error: DataFusionError) -> ParquetError {
    ParquetError::External(Box::new(of_parquet(name, error)))
}

impl AsyncFileReader for NamedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        let reading = self.inner.get_bytes(range);
        let name = &self.name;
        async move { reading.await.map_err(|e| named(name, e.into())) }.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        let reading = self.inner.get_byte_ranges(ranges);
        let name = &self.name;
        async move { reading.await.map_err(|e| named(name, e.into())) }.boxed()
    }

    /// As DataFusion's cached reader does, which turns errors into text and so loses their kind.
    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            let footer = DFParquetMetadata::new(&self.store, &self.meta)
                .with_file_metadata_cache(Some(Arc::clone(&self.cache)))
                .with_metadata_size_hint(self.metadata_size_hint)
                .with_page_index_policy(options.map(ArrowReaderOptions::column_index_policy));
            guarded(&self.name, footer.fetch_metadata())
                .await
                .map_err(|e| ParquetError::External(Box::new(e)))
        }
        .boxed()
    }
}
