//! Lists of catalogs, schemas, tables and keys, under the names of columns that drivers look for.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::sql::metadata::GetCatalogsBuilder;
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTableTypes, CommandGetTables};
use triune_common::{Error, Result};
use triune_query::{CATALOG, Session};

use crate::stream::plain_schema;

fn failed(error: impl std::fmt::Display) -> Error {
    Error::internal(format!("a list of the catalog cannot be made: {error}"))
}

/// The types that tools filter by. A tool that asks for TABLE means whatever it can read rows from.
fn table_type(kind: &str) -> &'static str {
    match kind {
        "view" => "VIEW",
        "temporary table" => "LOCAL TEMPORARY",
        "system table" => "SYSTEM TABLE",
        _ => "TABLE",
    }
}

pub(super) fn catalogs_schema() -> SchemaRef {
    GetCatalogsBuilder::new().schema()
}

pub(super) fn catalogs() -> Result<RecordBatch> {
    let mut builder = GetCatalogsBuilder::new();
    builder.append(CATALOG);
    builder.build().map_err(failed)
}

pub(super) fn schemas(query: CommandGetDbSchemas, session: &Session) -> Result<RecordBatch> {
    let mut builder = query.into_builder();
    for schema in session.schema_names() {
        builder.append(CATALOG, schema);
    }
    builder.build().map_err(failed)
}

pub(super) async fn tables(query: CommandGetTables, session: &Session) -> Result<RecordBatch> {
    let with_schemas = query.include_schema;
    let types = query.table_types.clone();
    let wanted = |_: &str, name: &str, kind: &str| {
        // What ingest reads from while it runs is nobody's table.
        !name.starts_with("__ingest_") && (types.is_empty() || types.iter().any(|t| t == table_type(kind)))
    };
    let mut builder = query.into_builder();
    for relation in session.relations(&wanted, with_schemas).await {
        let columns = relation.columns.map(|c| plain_schema(&c)).unwrap_or_else(|| Arc::new(Schema::empty()));
        builder
            .append(CATALOG, &relation.schema, &relation.name, table_type(relation.kind), &columns)
            .map_err(failed)?;
    }
    builder.build().map_err(failed)
}

pub(super) fn table_types(query: CommandGetTableTypes) -> Result<RecordBatch> {
    let mut builder = query.into_builder();
    for name in ["LOCAL TEMPORARY", "SYSTEM TABLE", "TABLE", "VIEW"] {
        builder.append(name);
    }
    builder.build().map_err(failed)
}

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

pub(super) fn primary_keys_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("key_name", true),
    ]))
}

/// Schema, table, column, place in the key from 1.
type KeyColumn = (String, String, String, i32);

pub(super) async fn primary_keys(query: &CommandGetPrimaryKeys, session: &Session) -> Result<RecordBatch> {
    let here = query.catalog.as_deref().is_none_or(|c| c == CATALOG);
    let wanted = |schema: &str, name: &str, kind: &str| {
        here && kind == "table"
            && name == query.table
            && query.db_schema.as_deref().is_none_or(|s| s.is_empty() || s == schema)
    };
    let mut rows: Vec<KeyColumn> = Vec::new();
    for relation in session.relations(&wanted, false).await {
        for (i, column) in relation.primary_key.iter().enumerate() {
            let place = i32::try_from(i + 1).unwrap_or(i32::MAX);
            rows.push((relation.schema.clone(), relation.name.clone(), column.clone(), place));
        }
    }
    let texts = |of: &dyn Fn(&KeyColumn) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
    };
    let columns = vec![
        texts(&|_| CATALOG.to_owned()),
        texts(&|r| r.0.clone()),
        texts(&|r| r.1.clone()),
        texts(&|r| r.2.clone()),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.3))),
        texts(&|r| format!("{}_pkey", r.1)),
    ];
    RecordBatch::try_new(primary_keys_schema(), columns).map_err(failed)
}

pub(super) fn foreign_keys_schema() -> SchemaRef {
    let rule = |name| Field::new(name, DataType::UInt8, false);
    Arc::new(Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        rule("update_rule"),
        rule("delete_rule"),
    ]))
}

/// Tables have no foreign keys.
pub(super) fn no_foreign_keys() -> RecordBatch {
    RecordBatch::new_empty(foreign_keys_schema())
}
