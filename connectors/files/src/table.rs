//! A table over files.
//!
//! ```text
//!  scan: list ─▶ values of the folders ─▶ prune by filters on them ─▶ statistics (Parquet footers, cached)
//!             ─▶ as many files as a LIMIT needs ─▶ groups or pieces for the cores ─▶ DataSourceExec
//! ```

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue, Statistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::listing::helpers::expr_applicable_for_cols;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, FileSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, SortExpr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::{LexOrdering, create_lex_ordering};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion_datasource::compute_all_files_statistics;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use parking_lot::Mutex;
use triune_common::{Error, ErrorKind};
use url::Url;

use crate::arrow_ipc::ArrowReader;
use crate::csv::{CsvReader, Headers, is_compressed};
use crate::errors::{bad_file, file_name};
use crate::json::JsonReader;
use crate::kind::{FileKind, compression_of_path};
use crate::locations::{FoundFile, Location, Wanted};
use crate::open::list;
use crate::options::CsvOptions;
use crate::source::ReaderSource;
use crate::{parquet_file, partitions, pieces};

mod insert;

/// How the files are read.
#[derive(Debug)]
pub(crate) enum Format {
    Parquet(Box<TableParquetOptions>),
    Arrow,
    Csv { options: Box<CsvOptions>, by_position: bool, headers: Arc<Headers> },
    Json { lines: bool },
}

impl Format {
    fn kind(&self) -> FileKind {
        match self {
            Self::Parquet(_) => FileKind::Parquet,
            Self::Arrow => FileKind::Arrow,
            Self::Csv { .. } => FileKind::Csv,
            Self::Json { .. } => FileKind::Json,
        }
    }
}

/// Which files a table consists of.
#[derive(Debug)]
pub(crate) struct TableFiles {
    pub(crate) locations: Vec<Location>,
    pub(crate) wanted: Wanted,
    /// A folder with declared columns, which may have no files yet.
    pub(crate) may_be_empty: bool,
    /// `None`: by the name of each file.
    pub(crate) compression: Option<FileCompressionType>,
}

/// What Parquet's footers said of a file, as long as the file is the same.
type KnownStatistics = HashMap<Path, (ObjectMeta, Arc<Statistics>, Option<LexOrdering>)>;

/// External files as a table; made by [`crate::open_table`].
pub struct FileTable {
    files: TableFiles,
    format: Format,
    store_url: ObjectStoreUrl,
    base: Url,
    file_schema: SchemaRef,
    partition_fields: Vec<FieldRef>,
    schema: SchemaRef,
    order: Vec<Vec<SortExpr>>,
    known: Mutex<KnownStatistics>,
}

impl FileTable {
    pub(crate) fn try_new(
        files: TableFiles,
        format: Format,
        file_schema: SchemaRef,
        partition_fields: Vec<FieldRef>,
        order: Vec<Vec<SortExpr>>,
    ) -> triune_common::Result<Self> {
        let first =
            files.locations.first().ok_or_else(|| Error::invalid("a table of files needs a location"))?;
        let (store_url, base) = (first.store_url()?, first.base());
        let fields: Fields = file_schema.fields().iter().chain(&partition_fields).map(Arc::clone).collect();
        let schema = Arc::new(Schema::new(fields));
        Ok(Self {
            files,
            format,
            store_url,
            base,
            file_schema,
            partition_fields,
            schema,
            order,
            known: Mutex::default(),
        })
    }

    pub fn kind(&self) -> FileKind {
        self.format.kind()
    }

    /// The locations as a person would type them.
    pub fn locations(&self) -> Vec<&str> {
        self.files.locations.iter().map(|l| l.text.as_str()).collect()
    }

    /// The columns that come from `key=value` folders; they are the last of the schema.
    pub fn partition_columns(&self) -> &[FieldRef] {
        &self.partition_fields
    }

    fn name(&self, meta: &ObjectMeta) -> String {
        file_name(&self.base, &meta.location)
    }

    fn is_on_partitions(&self, expr: &Expr) -> bool {
        let names: Vec<&str> = self.partition_fields.iter().map(|f| f.name().as_str()).collect();
        !names.is_empty() && !expr.column_refs().is_empty() && expr_applicable_for_cols(&names, expr)
    }

    async fn list(&self, store: &dyn ObjectStore) -> triune_common::Result<Vec<FoundFile>> {
        let found = match list(&self.files.locations, store, &self.files.wanted).await {
            Err(e) if self.files.may_be_empty && e.kind() == ErrorKind::NotFound => Vec::new(),
            listed => listed?,
        };
        let text = matches!(self.format, Format::Csv { .. } | Format::Json { .. });
        if let Some(empty) = found.iter().find(|f| f.meta.size == 0 && !text) {
            return Err(bad_file(&self.name(&empty.meta), "the file is empty"));
        }
        Ok(found.into_iter().filter(|f| f.meta.size > 0).collect())
    }

    /// Files whose folders satisfy `filters`, with the folders' values.
    fn pruned(
        &self,
        state: &dyn Session,
        files: Vec<FoundFile>,
        filters: &[Expr],
    ) -> Result<Vec<(ObjectMeta, Vec<ScalarValue>)>> {
        let valued: Vec<(ObjectMeta, Vec<ScalarValue>)> = files
            .into_iter()
            .map(|file| {
                let values = partitions::values_of(&file, &self.name(&file.meta), &self.partition_fields)?;
                Ok((file.meta, values))
            })
            .collect::<triune_common::Result<_>>()?;
        let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(valued) };
        if valued.is_empty() {
            return Ok(valued);
        }
        let columns: Vec<ArrayRef> = (0..self.partition_fields.len())
            .map(|i| ScalarValue::iter_to_array(valued.iter().map(|(_, v)| v[i].clone())))
            .collect::<Result<_>>()?;
        let schema = Arc::new(Schema::new(self.partition_fields.clone()));
        let options = RecordBatchOptions::new().with_row_count(Some(valued.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
        let filter = unqualified(filter)?;
        let expr = state.create_physical_expr(filter, &DFSchema::try_from(schema)?)?;
        let kept = expr.evaluate(&batch)?.into_array(valued.len())?;
        let kept: &BooleanArray = kept.as_boolean();
        Ok(valued
            .into_iter()
            .zip(kept.iter())
            .filter_map(|(file, keep)| (keep == Some(true)).then_some(file))
            .collect())
    }

    /// The files with statistics, where the format has them, and no more files than `limit` rows need.
    async fn with_statistics(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        files: Vec<(ObjectMeta, Vec<ScalarValue>)>,
        limit: Option<usize>,
    ) -> Result<(Vec<PartitionedFile>, bool)> {
        let Format::Parquet(options) = &self.format else {
            let plain = files
                .into_iter()
                .map(|(meta, values)| PartitionedFile::new_from_meta(meta).with_partition_values(values))
                .collect();
            return Ok((plain, false));
        };
        let collect = state.config().collect_statistics();
        let at_once = state.config_options().execution.meta_fetch_concurrency.max(1);
        let total = files.len();
        let mut described = futures::stream::iter(files)
            .map(|(meta, values)| async move {
                let file = PartitionedFile::new_from_meta(meta.clone()).with_partition_values(values);
                if !collect {
                    return Ok::<_, DataFusionError>(file);
                }
                let (statistics, ordering) = self.statistics_of(state, store, &meta, options).await?;
                Ok(file.with_statistics(statistics).with_ordering(ordering))
            })
            .buffered(at_once)
            .boxed();
        let mut taken = Vec::with_capacity(total);
        let mut rows = Some(0_usize);
        while let Some(file) = described.try_next().await? {
            rows = match file.statistics.as_ref().map(|s| s.num_rows) {
                Some(Precision::Exact(n)) => rows.map(|r| r + n),
                _ => None,
            };
            taken.push(file);
            if limit.is_some_and(|limit| rows.is_some_and(|rows| rows >= limit)) {
                break;
            }
        }
        let cut = taken.len() < total;
        Ok((taken, cut))
    }

    async fn statistics_of(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        meta: &ObjectMeta,
        options: &TableParquetOptions,
    ) -> Result<(Arc<Statistics>, Option<LexOrdering>)> {
        if let Some((known, statistics, ordering)) = self.known.lock().get(&meta.location)
            && known == meta
        {
            return Ok((Arc::clone(statistics), ordering.clone()));
        }
        let found =
            parquet_file::describe(state, store, meta, &self.name(meta), options, &self.file_schema).await?;
        let statistics = Arc::new(found.statistics);
        let entry = (meta.clone(), Arc::clone(&statistics), found.ordering.clone());
        self.known.lock().insert(meta.location.clone(), entry);
        Ok((statistics, found.ordering))
    }

    fn source(&self, state: &dyn Session, store: Arc<dyn ObjectStore>) -> Arc<dyn FileSource> {
        let table_schema = TableSchema::new(Arc::clone(&self.file_schema), self.partition_fields.clone());
        let reader: Arc<dyn crate::source::FileReader> = match &self.format {
            Format::Parquet(options) => {
                return parquet_file::source(state, store, self.base.clone(), table_schema, options);
            }
            Format::Arrow => Arc::new(ArrowReader),
            Format::Json { lines } => Arc::new(JsonReader { lines: *lines }),
            Format::Csv { options, by_position, headers } => Arc::new(CsvReader::new(
                options.as_ref().clone(),
                Arc::clone(&self.file_schema),
                *by_position,
                Arc::clone(headers),
            )),
        };
        Arc::new(ReaderSource::new(reader, self.base.clone(), self.files.compression, table_schema))
    }

    /// The order that all files are in: as declared, else what every file says of itself.
    fn ordering(&self, state: &dyn Session, files: &[PartitionedFile]) -> Result<Vec<LexOrdering>> {
        if !self.order.is_empty() {
            return create_lex_ordering(&self.schema, &self.order, state.execution_props());
        }
        let mut common: Option<&[_]> = None;
        for file in files {
            let Some(here) = file.ordering.as_ref() else { return Ok(Vec::new()) };
            let here: &[_] = here.as_ref();
            let same = common.map_or(here.len(), |c| c.iter().zip(here).take_while(|(a, b)| a == b).count());
            common = Some(&here[..same]);
        }
        Ok(common.and_then(|c| LexOrdering::new(c.to_vec())).into_iter().collect())
    }
}

/// Filters come with the table's name before the column's.
fn unqualified(expr: Expr) -> Result<Expr> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    expr.transform(|e| match e {
        Expr::Column(mut column) if column.relation.is_some() => {
            column.relation = None;
            Ok(Transformed::yes(Expr::Column(column)))
        }
        other => Ok(Transformed::no(other)),
    })
    .map(|t| t.data)
}

#[async_trait]
impl TableProvider for FileTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Filters on folders alone are done with when the files are chosen. The others stay above the scan, which
    /// uses them to skip what cannot match.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|f| match self.is_on_partitions(f) {
                true => TableProviderFilterPushDown::Exact,
                false => TableProviderFilterPushDown::Inexact,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let store = state.runtime_env().object_store(&self.store_url)?;
        let (on_partitions, others): (Vec<Expr>, Vec<Expr>) =
            filters.iter().cloned().partition(|f| self.is_on_partitions(f));
        let found = self.list(store.as_ref()).await?;
        let chosen = self.pruned(state, found, &on_partitions)?;
        // Rows that a filter drops do not count towards a limit.
        let file_limit = limit.filter(|_| others.is_empty());
        let (files, cut) = self.with_statistics(state, &store, chosen, file_limit).await?;
        let projected = match projection {
            Some(indices) => Arc::new(self.schema.project(indices)?),
            None => Arc::clone(&self.schema),
        };
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(projected)));
        }

        let ordering = self.ordering(state, &files)?;
        let any_compressed = files.iter().any(|f| {
            is_compressed(self.files.compression.unwrap_or_else(|| compression_of_path(f.path().as_ref())))
        });
        let collected = matches!(self.format, Format::Parquet(_)) && state.config().collect_statistics();
        // As many rows as are asked for come from whole files.
        let in_pieces = collected && file_limit.is_none();
        let whole = FileGroup::new(files).split_files(state.config().target_partitions());
        let (mut groups, statistics) =
            compute_all_files_statistics(whole, Arc::clone(&self.schema), collected, cut)?;
        if in_pieces {
            let wanted = pieces::Wanted {
                state,
                store: store.as_ref(),
                file_schema: &self.file_schema,
                projection,
                filters: others.into_iter().map(unqualified).collect::<Result<_>>()?,
                ordered: !ordering.is_empty(),
            };
            let files = groups.into_iter().flat_map(FileGroup::into_inner).collect();
            groups = pieces::cut(files, &wanted).await;
            if groups.is_empty() {
                return Ok(Arc::new(EmptyExec::new(projected)));
            }
        }

        let mut config = FileScanConfigBuilder::new(self.store_url.clone(), self.source(state, store))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_output_ordering(ordering);
        if any_compressed && matches!(self.format, Format::Csv { .. } | Format::Json { .. }) {
            // Says only that no file may be cut; each is unpacked as its name says.
            config = config.with_file_compression_type(FileCompressionType::GZIP);
        }
        Ok(DataSourceExec::from_data_source(config.build()))
    }

    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.insert(state, input, op).await
    }
}

impl fmt::Debug for FileTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileTable")
            .field("kind", &self.kind())
            .field("locations", &self.locations())
            .field("partitions", &self.partition_fields.iter().map(|p| p.name()).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// A partition column as DataFusion's writers want it.
fn partition_column(field: &FieldRef) -> (String, DataType) {
    (field.name().clone(), field.data_type().clone())
}
