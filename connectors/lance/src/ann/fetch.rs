//! The columns of the rows that a search found.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, RecordBatch, RecordBatchOptions, UInt32Array, UInt64Array,
};
use arrow::compute::take_record_batch;
use lance::dataset::ProjectionRequest;
use lance_core::{ROW_ADDR, ROW_ID};
use triune_common::{Error, Result};

use crate::ann::exact::Hit;
use crate::ann::search::AnnSpec;
use crate::error::from_lance;

/// The output for rows whose distances are known, in this order.
pub(crate) async fn fetch_scored(spec: &AnnSpec, hits: Vec<Hit>) -> Result<RecordBatch> {
    let ids: Vec<u64> = hits.iter().map(|h| h.row_id).collect();
    let rows = rows(spec, &ids, false).await?;
    let distances = Arc::new(Float32Array::from_iter_values(hits.iter().map(|h| h.distance)));
    output(spec, &rows, &ids, distances)
}

/// The output for rows that an index found: their distances are computed from the stored vectors, and
/// they are sorted by these.
pub(crate) async fn fetch_unscored(spec: &AnnSpec, ids: Vec<u64>) -> Result<RecordBatch> {
    let rows = rows(spec, &ids, true).await?;
    let name = spec.table.schema.field(spec.column).name();
    let vectors = rows
        .column_by_name(name)
        .ok_or_else(|| Error::internal(format!("column \"{name}\" is missing in the rows of a search")))?;
    let distances = spec.scorer.score(vectors.as_fixed_size_list())?;
    let mut hits: Vec<(Hit, u32)> = (0u32..)
        .zip(&ids)
        .filter(|(row, _)| distances.is_valid(*row as usize))
        .map(|(row, id)| (Hit::new(distances.value(row as usize), *id), row))
        .collect();
    hits.sort_unstable_by_key(|(hit, _)| *hit);
    hits.truncate(spec.k);
    let order = UInt32Array::from_iter_values(hits.iter().map(|(_, row)| *row));
    let rows = take_record_batch(&rows, &order)?;
    let ids: Vec<u64> = hits.iter().map(|(hit, _)| hit.row_id).collect();
    let distances = Arc::new(Float32Array::from_iter_values(hits.iter().map(|(hit, _)| hit.distance)));
    output(spec, &rows, &ids, distances)
}

/// The dataset's columns that the output needs, for these rows in this order; with `_rowaddr` where that
/// is not the row id.
async fn rows(spec: &AnnSpec, ids: &[u64], with_vector: bool) -> Result<RecordBatch> {
    let table = &spec.table;
    let schema = table.dataset.schema();
    let mut columns: Vec<usize> =
        spec.projection.iter().copied().filter(|c| *c < table.data_columns).collect();
    if with_vector {
        columns.push(spec.column);
    }
    columns.sort_unstable();
    columns.dedup();
    let wants = |name: &str| spec.projection.iter().any(|c| table.schema.field(*c).name() == name);
    let address = table.stable_row_ids() && wants(ROW_ADDR);
    if (columns.is_empty() && !address) || ids.is_empty() {
        let options = RecordBatchOptions::new().with_row_count(Some(ids.len()));
        let columns: &[usize] = if ids.is_empty() { &columns } else { &[] };
        let empty = Arc::new(table.schema.project(columns)?);
        if ids.is_empty() {
            return Ok(RecordBatch::new_empty(empty));
        }
        return Ok(RecordBatch::try_new_with_options(empty, Vec::new(), &options)?);
    }
    let field_ids: Vec<i32> = columns.iter().map(|c| schema.fields[*c].id).collect();
    let projection = ProjectionRequest::from_schema(schema.project_by_ids(&field_ids, true));
    let builder = table.dataset.take_builder(ids, projection).map_err(from_lance)?;
    let rows = Box::pin(builder.with_row_address(address).execute()).await.map_err(from_lance)?;
    if rows.num_rows() != ids.len() {
        return Err(Error::data(format!("a Lance dataset gave {} of {} rows", rows.num_rows(), ids.len())));
    }
    Ok(rows)
}

fn output(spec: &AnnSpec, rows: &RecordBatch, ids: &[u64], distances: ArrayRef) -> Result<RecordBatch> {
    let missing =
        |name: &str| Error::internal(format!("column \"{name}\" is missing in the rows of a search"));
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(spec.projection.len() + 1);
    for column in &spec.projection {
        let name = spec.table.schema.field(*column).name();
        columns.push(match rows.column_by_name(name) {
            Some(found) => Arc::clone(found),
            // Without stable row ids the address of a row is its id.
            None if *column >= spec.table.data_columns && (name == ROW_ID || name == ROW_ADDR) => {
                Arc::new(UInt64Array::from(ids.to_vec()))
            }
            None => return Err(missing(name)),
        });
    }
    columns.push(distances);
    Ok(RecordBatch::try_new(Arc::clone(&spec.output), columns)?)
}
