//! Rows by their addresses.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take_record_batch;
use lance::dataset::ProjectionRequest;
use triune_common::{Error, Result, boxed};

use crate::error::from_lance;
use crate::provider::{LanceProvider, Table};

impl LanceProvider {
    /// The rows at these addresses (fragment id times 2³² plus place), in this order, whether masked or not;
    /// an address may occur twice. `projection` counts the dataset's columns.
    ///
    /// Errors: data if an address is of no row; unsupported for a dataset with stable row ids.
    #[boxed]
    pub async fn take(&self, addresses: &[u64], projection: &[usize]) -> Result<RecordBatch> {
        let table = &self.table;
        if table.stable_row_ids() {
            return Err(Error::unsupported("rows of a dataset with stable row ids have no fixed address"));
        }
        let output = Arc::new(table.schema.project(projection)?);
        if addresses.is_empty() {
            return Ok(RecordBatch::new_empty(output));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(addresses.len()));
        if projection.iter().any(|c| *c >= table.data_columns) {
            return Err(Error::internal("a column that a dataset does not have was to be fetched"));
        }
        let cached = match &table.cache {
            Some(cache) => crate::cache::rows::take(table, cache, addresses, projection).await?,
            None => None,
        };
        let columns = match cached {
            Some(columns) => columns,
            None if projection.is_empty() => Vec::new(),
            None => from_files(table, addresses, projection).await?,
        };
        Ok(RecordBatch::try_new_with_options(output, columns, &options)?)
    }

    /// Id and physical rows of each fragment, in the dataset's order.
    pub fn fragments(&self) -> Vec<(u64, u64)> {
        self.table.fragments.iter().map(|f| (f.id, f.physical)).collect()
    }
}

/// The dataset's columns at these addresses, in this order; an address may occur twice.
pub(crate) async fn from_files(table: &Table, addresses: &[u64], columns: &[usize]) -> Result<Vec<ArrayRef>> {
    let mut wanted = addresses.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    let schema = table.dataset.schema();
    let mut distinct = columns.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let ids: Vec<i32> = distinct.iter().map(|c| schema.fields[*c].id).collect();
    let request = ProjectionRequest::from_schema(schema.project_by_ids(&ids, true));
    let builder = table.dataset.take_builder(&wanted, request).map_err(from_lance)?;
    let found = Box::pin(builder.execute()).await.map_err(from_lance)?;
    if found.num_rows() != wanted.len() {
        return Err(Error::data(format!(
            "{} gave {} of {} rows by their addresses",
            table.dataset.uri(),
            found.num_rows(),
            wanted.len()
        )));
    }
    let found = if wanted == addresses {
        found
    } else {
        let place = |a: &u64| u32::try_from(wanted.binary_search(a).unwrap_or_default()).unwrap_or_default();
        take_record_batch(&found, &UInt32Array::from_iter_values(addresses.iter().map(place)))?
    };
    columns
        .iter()
        .map(|c| {
            let name = table.schema.field(*c).name();
            found.column_by_name(name).map(Arc::clone).ok_or_else(|| {
                Error::internal(format!("column \"{name}\" is missing in rows that were fetched"))
            })
        })
        .collect()
}
