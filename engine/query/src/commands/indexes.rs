//! `SHOW INDEXES`: what `\di` shows: the indexes of tables, and the vector indexes that Lance datasets bring along.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use triune_common::Result;
use triune_lance::LanceProvider;
use triune_vector::types::VectorType;

use super::known;
use crate::catalog::system_indexes;
use crate::result::QueryResult;
use crate::session::SessionCore;

struct Row {
    schema: String,
    table: String,
    index: String,
    column: String,
    method: String,
    metric: Option<String>,
    state: &'static str,
    indexed: i64,
    unindexed: i64,
}

/// The vector indexes of every Lance table of the catalog. A table that cannot be opened is left out, as it is in
/// the list of tables' columns.
pub(super) async fn show(core: &Arc<SessionCore>) -> Result<QueryResult> {
    let catalog = core.database().catalog();
    let state = core.state();
    let mut rows = Vec::new();
    for (schema, table, info) in system_indexes::known(core.database()).await? {
        rows.push(Row {
            schema,
            table,
            index: info.index.name().to_owned(),
            column: info.index.columns().join(", "),
            method: info.index.method().to_string(),
            metric: info.index.metric().map(|m| m.to_string()),
            state: info.state.name(),
            indexed: i64::try_from(info.rows_indexed).unwrap_or(i64::MAX),
            unindexed: i64::try_from(info.rows_unindexed + info.rows_hot).unwrap_or(i64::MAX),
        });
    }
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
                        metric: Some(index.metric.to_string()),
                        state: "ready",
                        indexed: i64::try_from(index.indexed_rows).unwrap_or(i64::MAX),
                        unindexed: i64::try_from(index.unindexed_rows).unwrap_or(i64::MAX),
                    });
                }
            }
        }
    }
    rows.sort_by(|a, b| (&a.schema, &a.table, &a.index).cmp(&(&b.schema, &b.table, &b.index)));
    let text = |of: fn(&Row) -> &String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
    };
    let number =
        |of: fn(&Row) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(rows.iter().map(of))) };
    let metrics: ArrayRef = Arc::new(rows.iter().map(|r| r.metric.clone()).collect::<StringArray>());
    let states: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.state)));
    let columns = [
        ("table_schema", text(|r| &r.schema)),
        ("table_name", text(|r| &r.table)),
        ("index_name", text(|r| &r.index)),
        ("column_name", text(|r| &r.column)),
        ("method", text(|r| &r.method)),
        ("metric", metrics),
        ("state", states),
        ("indexed_rows", number(|r| r.indexed)),
        ("unindexed_rows", number(|r| r.unindexed)),
    ];
    Ok(known(RecordBatch::try_from_iter(columns)?))
}
