//! `SHOW INDEXES`: what `\di` shows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use triune_common::Result;
use triune_lance::LanceProvider;
use triune_vector::types::VectorType;

use super::known;
use crate::result::QueryResult;
use crate::session::SessionCore;

struct Row {
    schema: String,
    table: String,
    index: String,
    column: String,
    method: String,
    metric: String,
    indexed: i64,
    unindexed: i64,
}

/// The vector indexes of every Lance table of the catalog. A table that cannot be opened is left out, as it is in
/// the list of tables' columns.
pub(super) async fn show(core: &Arc<SessionCore>) -> Result<QueryResult> {
    let catalog = core.database().catalog();
    let state = core.state();
    let mut rows = Vec::new();
    for (schema, entry) in &catalog.schemas {
        let Some(provider) = state.catalog_list().catalog(crate::CATALOG).and_then(|c| c.schema(schema))
        else {
            continue;
        };
        for table in entry.relations.keys() {
            let Ok(Some(opened)) = provider.table(table).await else { continue };
            let Some(lance) = opened.downcast_ref::<LanceProvider>() else { continue };
            for field in opened.schema().fields() {
                if VectorType::from_data_type(field.data_type()).is_none() {
                    continue;
                }
                for index in lance.vector_indexes(field.name()).await? {
                    rows.push(Row {
                        schema: schema.clone(),
                        table: table.clone(),
                        index: index.name,
                        column: index.column,
                        method: index.index_type,
                        metric: index.metric.to_string(),
                        indexed: i64::try_from(index.indexed_rows).unwrap_or(i64::MAX),
                        unindexed: i64::try_from(index.unindexed_rows).unwrap_or(i64::MAX),
                    });
                }
            }
        }
    }
    let text = |of: fn(&Row) -> &String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
    };
    let number =
        |of: fn(&Row) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(rows.iter().map(of))) };
    let columns = [
        ("table_schema", text(|r| &r.schema)),
        ("table_name", text(|r| &r.table)),
        ("index_name", text(|r| &r.index)),
        ("column_name", text(|r| &r.column)),
        ("method", text(|r| &r.method)),
        ("metric", text(|r| &r.metric)),
        ("indexed_rows", number(|r| r.indexed)),
        ("unindexed_rows", number(|r| r.unindexed)),
    ];
    Ok(known(RecordBatch::try_from_iter(columns)?))
}
