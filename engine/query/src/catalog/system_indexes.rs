//! `system.indexes` and `system.index_progress`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::TimestampMicrosecondArray;
use arrow::array::{
    ArrayRef, Float64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, UInt64Array,
};
use arrow::datatypes::DataType;
use chrono::{DateTime, Utc};
use triune_common::Result;
use triune_storage::stamp::TableId;
use triune_storage::store::IndexInfo;

use crate::database::Database;
use crate::ddl::show;
use crate::session::SessionCore;

/// Schema and name of each table of the database.
fn names(database: &Database) -> HashMap<TableId, (String, String)> {
    let catalog = database.catalog();
    let mut out = HashMap::new();
    for (schema, entry) in &catalog.schemas {
        for (name, relation) in &entry.relations {
            if let Some(def) = &relation.table {
                out.insert(def.id, (schema.clone(), name.clone()));
            }
        }
    }
    out
}

fn times(all: impl Iterator<Item = Option<DateTime<Utc>>>) -> ArrayRef {
    let micros = all.map(|t| t.map(|t| t.timestamp_micros()));
    Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC"))
}

/// The indexes of tables that have a name, in the order of schema, table and name.
pub(crate) async fn known(database: &Database) -> Result<Vec<(String, String, IndexInfo)>> {
    let names = names(database);
    let mut out: Vec<_> = database
        .store()
        .indexes()
        .await?
        .into_iter()
        .filter_map(|info| {
            let (schema, table) = names.get(&info.table)?;
            Some((schema.clone(), table.clone(), info))
        })
        .collect();
    out.sort_by(|a, b| (&a.0, &a.1, a.2.index.name()).cmp(&(&b.0, &b.1, b.2.index.name())));
    Ok(out)
}

/// A table's schema and name, and one of its indexes.
type Known = (String, String, IndexInfo);

pub(super) async fn indexes(session: &SessionCore) -> Result<RecordBatch> {
    let all = known(session.database()).await?;
    let text = |of: &dyn Fn(&Known) -> Option<String>| -> ArrayRef {
        Arc::new(all.iter().map(of).collect::<StringArray>())
    };
    let number = |of: &dyn Fn(&IndexInfo) -> Option<u64>| -> ArrayRef {
        Arc::new(all.iter().map(|(_, _, i)| of(i)).collect::<UInt64Array>())
    };
    let mut columns = ListBuilder::new(StringBuilder::new());
    for (_, _, info) in &all {
        columns.append_value(info.index.columns().iter().map(Some));
    }
    let seconds: ArrayRef = Arc::new(all.iter().map(|(_, _, i)| i.build_seconds).collect::<Float64Array>());
    // Not known yet: nothing samples recall. `EXPLAIN (ANALYZE, RECALL)` tells that of a statement.
    let recall = arrow::array::new_null_array(&DataType::Float64, all.len());
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("table_schema", text(&|r| Some(r.0.clone())), false),
        ("table_name", text(&|r| Some(r.1.clone())), false),
        ("index_name", text(&|r| Some(r.2.index.name().to_owned())), false),
        ("method", text(&|r| Some(r.2.index.method().to_string())), false),
        ("columns", Arc::new(columns.finish()) as ArrayRef, false),
        ("metric", text(&|r| r.2.index.metric().map(|m| m.to_string())), true),
        ("definition", text(&|r| Some(show::index_clauses(&r.2.index))), false),
        ("state", text(&|r| Some(r.2.state.name().to_owned())), false),
        ("rows_indexed", number(&|i| Some(i.rows_indexed)), false),
        ("rows_unindexed", number(&|i| Some(i.rows_unindexed)), false),
        ("rows_hot", number(&|i| Some(i.rows_hot)), false),
        ("bytes_on_disk", number(&|i| i.bytes_on_disk), true),
        ("bytes_in_memory", number(&|i| i.bytes_in_memory), true),
        ("build_seconds", seconds, true),
        ("last_upkeep", times(all.iter().map(|(_, _, i)| i.last_upkeep)), true),
        ("recall_sampled", recall, true),
        ("note", text(&|r| r.2.note.clone()), true),
    ])?)
}

pub(super) fn progress(session: &SessionCore) -> Result<RecordBatch> {
    let names = names(session.database());
    let all = session.database().store().index_progress();
    let place = |id: &TableId| names.get(id).cloned().unzip();
    let schemas: ArrayRef = Arc::new(all.iter().map(|p| place(&p.table).0).collect::<StringArray>());
    let tables: ArrayRef = Arc::new(all.iter().map(|p| place(&p.table).1).collect::<StringArray>());
    let indexes: ArrayRef = Arc::new(StringArray::from_iter_values(all.iter().map(|p| &p.index)));
    let stages: ArrayRef = Arc::new(StringArray::from_iter_values(all.iter().map(|p| &p.stage)));
    let units: ArrayRef = Arc::new(StringArray::from_iter_values(all.iter().map(|p| &p.unit)));
    let number = |values: Vec<Option<u64>>| -> ArrayRef { Arc::new(UInt64Array::from(values)) };
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("table_schema", schemas, true),
        ("table_name", tables, true),
        ("index_name", indexes, false),
        ("stage", stages, false),
        ("done", number(all.iter().map(|p| Some(p.done)).collect()), false),
        ("total", number(all.iter().map(|p| p.total).collect()), true),
        ("unit", units, false),
        ("stages_finished", number(all.iter().map(|p| Some(p.finished)).collect()), false),
        ("started", times(all.iter().map(|p| Some(p.started))), false),
    ])?)
}
