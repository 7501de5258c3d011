//! `information_schema.columns`, with SQL's names of types, defaults and positions from 1.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use triune_common::Result;

use crate::session::{ColumnInfo, SessionCore, TableInfo, names};

/// What the pre-pass calls the relation.
pub(crate) const COLUMNS: &str = "@information_schema.columns";

/// The columns of all relations that can be opened, as they are now.
pub(super) async fn columns(core: &Arc<SessionCore>) -> Result<Arc<dyn TableProvider>> {
    let tables = names::of_session(core).await.tables;
    let all: Vec<(&TableInfo, usize, &ColumnInfo)> =
        tables.iter().flat_map(|t| t.columns.iter().enumerate().map(move |(i, c)| (t, i + 1, c))).collect();
    let text = |of: &dyn Fn(&TableInfo, &ColumnInfo) -> Option<String>| -> ArrayRef {
        Arc::new(all.iter().map(|(t, _, c)| of(t, c)).collect::<StringArray>())
    };
    let place: ArrayRef = Arc::new(UInt64Array::from_iter_values(all.iter().map(|(_, i, _)| *i as u64)));
    let number = |of: &dyn Fn(&str) -> Option<u64>| -> ArrayRef {
        Arc::new(all.iter().map(|(_, _, c)| of(&c.data_type)).collect::<UInt64Array>())
    };
    let yes = |yes: bool| Some(if yes { "YES" } else { "NO" }.to_owned());
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("table_catalog", text(&|_, _| Some(crate::CATALOG.to_owned())), false),
        ("table_schema", text(&|t, _| Some(t.schema.clone())), false),
        ("table_name", text(&|t, _| Some(t.name.clone())), false),
        ("column_name", text(&|_, c| Some(c.name.clone())), false),
        ("ordinal_position", place, false),
        ("column_default", text(&|_, c| c.default.clone()), true),
        ("is_nullable", text(&|_, c| yes(c.nullable)), false),
        ("data_type", text(&|_, c| Some(c.data_type.clone())), false),
        ("character_maximum_length", number(&|_| None), true),
        ("character_octet_length", number(&|_| None), true),
        ("numeric_precision", number(&|t| precision(t).map(|p| p.0)), true),
        ("numeric_precision_radix", number(&|t| precision(t).map(|p| p.1)), true),
        ("numeric_scale", number(&scale), true),
        ("datetime_precision", number(&|_| None), true),
        ("interval_type", text(&|_, _| None), true),
        ("column_comment", text(&|_, c| c.comment.clone()), true),
    ])?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}

/// Digits and their base.
fn precision(data_type: &str) -> Option<(u64, u64)> {
    Some(match data_type {
        "TINYINT" | "UTINYINT" => (8, 2),
        "SMALLINT" | "USMALLINT" => (16, 2),
        "INTEGER" | "UINTEGER" => (32, 2),
        "BIGINT" | "UBIGINT" => (64, 2),
        "REAL" => (24, 2),
        "DOUBLE" => (53, 2),
        other => (arguments(other)?.0, 10),
    })
}

fn scale(data_type: &str) -> Option<u64> {
    arguments(data_type).map(|a| a.1)
}

/// `DECIMAL(10,2)`
fn arguments(data_type: &str) -> Option<(u64, u64)> {
    let (precision, scale) = data_type.strip_prefix("DECIMAL(")?.strip_suffix(')')?.split_once(',')?;
    Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?))
}
