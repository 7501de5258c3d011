//! `EXPLAIN (ANALYZE, RECALL) …`: how much of what comparing every row would have found was found.
//!
//! ```text
//! recall 0.980: 98 of the 100 rows of search.mode = exact; 98 of 100 rows found are among them
//! ```
//!
//! The statement runs a second time with `search.mode = exact`, at the same snapshot where a transaction is open.
//! Rows are the same if all their values are. The rows of both runs are held in memory.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::logical_expr::LogicalPlan;
use futures::TryStreamExt;
use triune_common::{Error, Result};

use crate::session::SessionCore;

/// The line that compares `found` with an exact run of `plan`.
///
/// # Errors
/// Those of the second run; unsupported for rows with values that cannot be compared.
pub(super) async fn line(
    core: &Arc<SessionCore>,
    plan: &LogicalPlan,
    found: &[RecordBatch],
) -> Result<String> {
    let mut state = core.state();
    state.config_mut().options_mut().set("search.mode", "exact")?;
    let physical = Box::pin(state.create_physical_plan(plan)).await?;
    let stream = core.stream(physical, state.task_ctx())?;
    let truth: Vec<RecordBatch> = stream.try_collect().await.map_err(triune_files::explain_read_error)?;
    let (mut counts, all) = (HashMap::new(), rows(&truth, |_| {})?);
    rows(&truth, |row| *counts.entry(row).or_insert(0_usize) += 1)?;
    let mut hits = 0;
    let got = rows(found, |row| {
        if let Some(left) = counts.get_mut(&row).filter(|left| **left > 0) {
            *left -= 1;
            hits += 1;
        }
    })?;
    let recall = if all == 0 { 1.0 } else { hits as f64 / all as f64 };
    Ok(format!("recall {recall:.3}: {hits} of the {all} rows of search.mode = exact; {got} rows were found"))
}

/// Calls `each` with every row, in a form that is equal for equal rows only; the number of rows.
fn rows(batches: &[RecordBatch], mut each: impl FnMut(Vec<u8>)) -> Result<usize> {
    let Some(first) = batches.first() else { return Ok(0) };
    let fields: Vec<SortField> =
        first.schema().fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
    if !RowConverter::supports_fields(&fields) {
        return Err(Error::unsupported("EXPLAIN RECALL cannot compare rows with values of these types")
            .with_hint("choose other columns"));
    }
    let converter = RowConverter::new(fields)?;
    let mut count = 0;
    for batch in batches {
        let rows = converter.convert_columns(batch.columns())?;
        count += batch.num_rows();
        rows.iter().for_each(|row| each(row.as_ref().to_vec()));
    }
    Ok(count)
}
