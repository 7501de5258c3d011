//! Opens a file: looks at its footer and says which way each run of row groups is read.
//!
//! ```text
//!  file, part of it ─▶ footer ─▶ rows of this part ─▶ [plain] [plain] [with NULLs] [plain]
//!                                                     └── row numbers ┘ └ general ┘ └ row numbers ┘
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, ParquetFileReaderFactory};
use datafusion::datasource::physical_plan::{FileScanConfig, FileSource, ParquetSource};
use datafusion::physical_expr_adapter::DefaultPhysicalExprAdapterFactory;
use datafusion::physical_plan::metrics::MetricBuilder;
use datafusion_datasource::morsel::{MorselPlan, MorselPlanner, Morselizer};
use object_store::ObjectStore;
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::parquet_to_arrow_schema;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use triune_common::Error;

use super::adapt::{ReadColumn, VectorAdapters};
use super::cursor::{CursorMetrics, VectorCursor};
use super::footer::{NumberedFooter, NumberedReaders};
use super::shape::{VectorColumn, access_of, access_of_rows, rows_of, runs};
use super::source::VectorSource;
use crate::late::{FileNumber, WantedRows};

/// A batch of vectors should fit into a core's cache: each byte of it is read once, soon after it was written.
const BATCH_BYTES: usize = 1 << 20;
const LEAST_ROWS: usize = 64;

/// Opens the files of one partition of a scan.
#[derive(Clone)]
pub(super) struct VectorMorselizer {
    source: ParquetSource,
    readers: Arc<dyn ParquetFileReaderFactory>,
    /// The vector columns that the scan uses.
    fields: Vec<FieldRef>,
    /// The column of the rows' addresses.
    address: Option<String>,
    store: Arc<dyn ObjectStore>,
    config: FileScanConfig,
    partition: usize,
}

impl VectorMorselizer {
    pub(super) fn try_new(
        source: &VectorSource,
        fields: Vec<FieldRef>,
        store: Arc<dyn ObjectStore>,
        config: FileScanConfig,
        partition: usize,
    ) -> Result<Self> {
        let address = source.address().map(str::to_owned);
        let source = source.parquet().clone();
        let readers = source.parquet_file_reader_factory().map(Arc::clone);
        let readers = readers.ok_or_else(|| Error::internal("a scan of Parquet files has no readers"))?;
        Ok(Self { source, readers, fields, address, store, config, partition })
    }

    /// The file's own footer, with the index of its pages if it has one.
    async fn footer(&self, file: &PartitionedFile) -> Result<Arc<ParquetMetaData>> {
        let metrics = self.source.metrics();
        let mut reader = self.readers.create_reader(self.partition, file.clone(), None, metrics)?;
        let options = |policy| ArrowReaderOptions::new().with_page_index_policy(policy);
        let footer = reader.get_metadata(Some(&options(PageIndexPolicy::Skip))).await?;
        let indexed = |c: &parquet::file::metadata::ColumnChunkMetaData| c.offset_index_offset().is_some();
        let has_index = footer.row_groups().iter().any(|g| g.columns().iter().any(indexed));
        if !has_index || footer.offset_index().is_some() {
            return Ok(footer);
        }
        Ok(reader.get_metadata(Some(&options(PageIndexPolicy::Optional))).await?)
    }

    /// The planners that read the file, in the order of its rows.
    async fn open(self, mut file: PartitionedFile) -> Result<Vec<Box<dyn MorselPlanner>>> {
        let given = file.extensions.get::<ParquetAccessPlan>().cloned();
        // DataFusion stops at whole row groups when it has enough rows of them.
        let as_it_is = self.config.limit.is_some() || (given.is_some() && file.range.is_some());
        if as_it_is && self.address.is_none() {
            return Ok(vec![self.general(file)?]);
        }
        let footer = self.footer(&file).await?;
        let file_metadata = footer.file_metadata();
        let schema =
            parquet_to_arrow_schema(file_metadata.schema_descr(), file_metadata.key_value_metadata())?;
        let schema = Arc::new(schema);
        let columns: Vec<VectorColumn> =
            self.fields.iter().filter_map(|f| VectorColumn::find(f, &footer, &schema)).collect();
        let known = given.as_ref().is_none_or(|plan| plan.len() == footer.num_row_groups());
        if self.address.is_none() && (columns.is_empty() || !known) {
            return Ok(vec![self.general(file)?]);
        }
        let access = match (given, file.extensions.get::<WantedRows>()) {
            (_, Some(WantedRows(rows))) => access_of_rows(&footer, rows)?,
            (Some(plan), None) => plan,
            (None, None) => access_of(&footer, &rows_of(&footer, file.range.as_ref())),
        };
        let runs = runs(&footer, &columns, &access);
        if self.address.is_none() && runs.iter().all(|(plain, _)| !plain) && !runs.is_empty() {
            return Ok(vec![self.general(file)?]);
        }
        file.range = None;
        let first = file.extensions.get::<FileNumber>().map_or(0, |n| n.first_address());
        let address = self.address.as_deref().map(|name| (name, first));
        let size = file.object_meta.size;
        let with_vectors = Arc::new(NumberedFooter::try_new(&footer, &schema, &columns, address, size)?);
        let mut without: Option<Arc<NumberedFooter>> = None;
        runs.into_iter()
            .map(|(plain, access)| {
                let file = file.clone().with_extension(access);
                if plain {
                    return self.numbered(file, &columns, &footer, &with_vectors);
                }
                if address.is_none() {
                    return self.general(file);
                }
                let shown = match &without {
                    Some(shown) => shown,
                    None => without.insert(Arc::new(NumberedFooter::try_new(
                        &footer,
                        &schema,
                        &[],
                        address,
                        size,
                    )?)),
                };
                self.numbered(file, &[], &footer, shown)
            })
            .collect()
    }

    fn general(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        self.plan(&self.source, &self.config, file)
    }

    fn numbered(
        &self,
        file: PartitionedFile,
        columns: &[VectorColumn],
        footer: &Arc<ParquetMetaData>,
        numbered: &Arc<NumberedFooter>,
    ) -> Result<Box<dyn MorselPlanner>> {
        let name = format!("/{}", file.object_meta.location);
        let counter = |metric: &'static str| {
            MetricBuilder::new(self.source.metrics())
                .with_new_label("filename", file.object_meta.location.to_string())
                .counter(metric, self.partition)
        };
        let metrics =
            CursorMetrics { bytes_scanned: counter("bytes_scanned"), pages: counter("vector_pages") };
        let read = columns.iter().map(|column| {
            let (path, footer) = (PathBuf::from(&name), Arc::clone(footer));
            let cursor = VectorCursor::new(column.clone(), path, footer, metrics.clone());
            ReadColumn {
                field: FieldRef::clone(&column.field),
                cursor: Arc::new(Mutex::new(cursor)),
                file: name.as_str().into(),
            }
        });
        let inner = match &self.config.expr_adapter_factory {
            Some(factory) => Arc::clone(factory),
            None => Arc::new(DefaultPhysicalExprAdapterFactory),
        };
        let mut config = self.config.clone();
        config.expr_adapter_factory = Some(Arc::new(VectorAdapters { columns: read.collect(), inner }));

        let readers = NumberedReaders { footer: Arc::clone(numbered), inner: Arc::clone(&self.readers) };
        let source = self.source.clone().with_parquet_file_reader_factory(Arc::new(readers));
        if columns.is_empty() {
            return self.plan(&source, &self.config, file);
        }
        let row_bytes: usize = columns.iter().map(|c| c.dims * c.width).sum();
        let rows = (BATCH_BYTES / row_bytes.max(1)).max(LEAST_ROWS);
        let asked = self.config.batch_size.unwrap_or(8192);
        self.plan(source.with_batch_size(rows.min(asked)).as_ref(), &config, file)
    }

    fn plan(
        &self,
        source: &dyn FileSource,
        config: &FileScanConfig,
        file: PartitionedFile,
    ) -> Result<Box<dyn MorselPlanner>> {
        source.create_morselizer(Arc::clone(&self.store), config, self.partition)?.plan_file(file)
    }
}

impl Morselizer for VectorMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        Ok(Box::new(VectorPlanner::Unopened(Box::new(self.clone()), Box::new(file))))
    }
}

impl std::fmt::Debug for VectorMorselizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VectorMorselizer").field("fields", &self.fields).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum VectorPlanner {
    Unopened(Box<VectorMorselizer>, Box<PartitionedFile>),
    Opened(Vec<Box<dyn MorselPlanner>>),
}

impl MorselPlanner for VectorPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        match *self {
            Self::Unopened(morselizer, file) => {
                Ok(Some(MorselPlan::new().with_pending_planner(async move {
                    let planners = morselizer.open(*file).await?;
                    Ok(Box::new(Self::Opened(planners)) as Box<dyn MorselPlanner>)
                })))
            }
            Self::Opened(planners) if planners.is_empty() => Ok(None),
            Self::Opened(planners) => Ok(Some(MorselPlan::new().with_planners(planners))),
        }
    }
}
