//! `INSERT INTO` a folder: new files beside the old ones.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::catalog::Session;
use datafusion::common::config::{CsvOptions as WriterOptions, JsonOptions};
use datafusion::common::{Result, SchemaExt};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::datasource::physical_plan::{FileGroup, FileOutputMode, FileSinkConfig};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_expr::{LexRequirement, create_lex_ordering};
use datafusion::physical_plan::ExecutionPlan;
use triune_common::Error;

use super::{FileTable, Format, partition_column};
use crate::parquet_file;

impl FileTable {
    pub(super) async fn insert(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let [location] = self.files.locations.as_slice() else {
            return Err(
                Error::unsupported("rows cannot be inserted into a table of several locations").into()
            );
        };
        if !location.is_plain_folder() {
            return Err(Error::unsupported(format!("rows cannot be inserted into \"{}\"", location.text))
                .with_hint("only a folder, written with a slash at its end, takes new rows")
                .into());
        }
        if op != InsertOp::Append {
            return Err(Error::unsupported(format!("{op} is not possible for files; INSERT INTO is")).into());
        }
        self.schema.logically_equivalent_names_and_types(input.schema().as_ref())?;
        let compression = self.files.compression.unwrap_or(FileCompressionType::UNCOMPRESSED);
        let format: Arc<dyn FileFormat> = match &self.format {
            Format::Parquet(options) => Arc::new(parquet_file::format(options)),
            Format::Arrow => Arc::new(ArrowFormat),
            Format::Json { lines: true } => Arc::new(JsonFormat::default().with_options(JsonOptions {
                compression: *compression.get_variant(),
                ..JsonOptions::default()
            })),
            Format::Json { lines: false } => {
                return Err(Error::unsupported("rows cannot be inserted into files of JSON arrays").into());
            }
            Format::Csv { options, .. } => Arc::new(CsvFormat::default().with_options(WriterOptions {
                has_header: Some(options.header),
                delimiter: options.dialect("").delimiter,
                quote: options.quote,
                escape: options.escape,
                double_quote: Some(options.escape.is_none()),
                compression: *compression.get_variant(),
                date_format: options.date_format.clone(),
                timestamp_format: options.timestamp_format.clone(),
                ..WriterOptions::default()
            })),
        };
        let extension = format.get_ext_with_compression(&compression).unwrap_or_else(|_| format.get_ext());
        let config = FileSinkConfig {
            original_url: location.text.clone(),
            object_store_url: self.store_url.clone(),
            file_group: FileGroup::default(),
            table_paths: vec![ListingTableUrl::try_new(location.url.clone(), None)?],
            output_schema: Arc::new(Schema::clone(&self.schema)),
            table_partition_cols: self.partition_fields.iter().map(partition_column).collect(),
            insert_op: op,
            keep_partition_by_columns: false,
            file_extension: extension,
            file_output_mode: FileOutputMode::Directory,
        };
        let order = match self.order.is_empty() {
            true => None,
            false => create_lex_ordering(&self.schema, &self.order, state.execution_props())?
                .into_iter()
                .next()
                .map(LexRequirement::from),
        };
        format.create_writer_physical_plan(input, state, config, order).await
    }
}
