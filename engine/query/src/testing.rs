//! What the unit tests share.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;

use crate::Session;

/// The rows of a statement as texts, columns with blanks between them.
pub(crate) async fn texts(session: &Session, sql: &str) -> Vec<String> {
    let batches = session.execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let batches = batches.collect().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    batches.iter().flat_map(rows).collect()
}

fn rows(batch: &RecordBatch) -> Vec<String> {
    let columns: Vec<_> =
        batch.columns().iter().map(|c| arrow::compute::cast(c, &DataType::Utf8).unwrap()).collect();
    let value = |column: &dyn Array, row: usize| {
        let column = column.as_string::<i32>();
        if column.is_null(row) { "NULL".to_owned() } else { column.value(row).to_owned() }
    };
    (0..batch.num_rows())
        .map(|row| columns.iter().map(|c| value(c, row)).collect::<Vec<_>>().join(" "))
        .collect()
}
