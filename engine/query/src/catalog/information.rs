//! What `information_schema` says in our words: types by SQL's names, defaults, positions from 1, keys and checks.
//!
//! ```sql
//! SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns WHERE table_name = 'docs';
//! SELECT k.column_name FROM information_schema.key_column_usage AS k WHERE k.table_name = 'docs';
//! ```
//!
//! `columns`, `views`, `table_constraints`, `key_column_usage` and `check_constraints` are made here; `tables`,
//! `schemata` and what else there is are DataFusion's. A key is called `docs_pkey`, as in PostgreSQL. NOT NULL is told
//! by the columns and is no constraint of its own.

mod constraints;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use triune_common::Result;
use triune_storage::catalog::RelationKind;
use triune_storage::table::Identity;

use crate::session::{ColumnInfo, SessionCore, TableInfo, names};

/// How the pre-pass calls these relations: this, then the relation's name.
pub(crate) const PREFIX: &str = "@information_schema.";

/// The relations of the schema that are made here.
pub(crate) const RELATIONS: [&str; 5] =
    ["check_constraints", "columns", "key_column_usage", "table_constraints", "views"];

/// One of them, by the name that the pre-pass gives; `None` for other names.
pub(super) async fn open(core: &Arc<SessionCore>, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
    let batch = match name.strip_prefix(PREFIX) {
        Some("columns") => return columns(core).await.map(Some),
        Some("views") => constraints::views(core)?,
        Some("table_constraints") => constraints::all(core)?,
        Some("key_column_usage") => constraints::keys(core)?,
        Some("check_constraints") => constraints::checks(core)?,
        _ => return Ok(None),
    };
    Ok(Some(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)))
}

/// The columns of all relations that can be opened, as they are now.
async fn columns(core: &Arc<SessionCore>) -> Result<Arc<dyn TableProvider>> {
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
    let longest: ArrayRef = Arc::new(all.iter().map(|(_, _, c)| c.longest).collect::<UInt64Array>());
    let identity = |of: &dyn Fn(&Identity) -> String| text(&|_, c| c.identity.as_ref().map(of));
    let always = |c: &ColumnInfo| if c.generated.is_some() { "ALWAYS" } else { "NEVER" };
    let generated = |i: &Identity| if i.always { "ALWAYS" } else { "BY DEFAULT" }.to_owned();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("table_catalog", text(&|_, _| Some(crate::CATALOG.to_owned())), false),
        ("table_schema", text(&|t, _| Some(t.schema.clone())), false),
        ("table_name", text(&|t, _| Some(t.name.clone())), false),
        ("column_name", text(&|_, c| Some(c.name.clone())), false),
        ("ordinal_position", place, false),
        (
            "column_default",
            text(&|_, c| c.default.clone().filter(|_| c.identity.is_none() && c.generated.is_none())),
            true,
        ),
        ("is_nullable", text(&|_, c| yes(c.nullable)), false),
        ("data_type", text(&|_, c| Some(c.data_type.clone())), false),
        ("character_maximum_length", longest, true),
        ("character_octet_length", number(&|_| None), true),
        ("numeric_precision", number(&|t| precision(t).map(|p| p.0)), true),
        ("numeric_precision_radix", number(&|t| precision(t).map(|p| p.1)), true),
        ("numeric_scale", number(&scale), true),
        ("datetime_precision", number(&|_| None), true),
        ("interval_type", text(&|_, _| None), true),
        ("is_identity", text(&|_, c| yes(c.identity.is_some())), false),
        ("identity_generation", identity(&generated), true),
        ("identity_start", identity(&|i| i.start.to_string()), true),
        ("identity_increment", identity(&|i| i.increment.to_string()), true),
        ("is_generated", text(&|_, c| Some(always(c).to_owned())), false),
        ("generation_expression", text(&|_, c| c.generated.clone()), true),
        ("is_updatable", text(&|t, _| yes(t.kind == RelationKind::Table.label())), false),
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
