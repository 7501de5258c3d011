//! Views, keys and checks as the catalog has them. Nothing is opened for them, so a relation whose files are gone is
//! listed too.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use triune_common::Result;
use triune_storage::catalog::{Catalog, RelationKind};
use triune_storage::table::TableDef;

use crate::parser;
use crate::session::SessionCore;
use crate::statement::Statement;

/// One line of text columns.
type Line = Vec<Option<String>>;

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Lines as a batch; `names` with whether the column may be NULL.
fn batch(names: &[(&str, bool)], lines: &[Line]) -> Result<RecordBatch> {
    let columns = names.iter().enumerate().map(|(i, (name, nullable))| {
        let values = lines.iter().map(|line| line[i].as_deref()).collect::<StringArray>();
        (*name, Arc::new(values) as ArrayRef, *nullable)
    });
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// Schema, name and definition of every table of the database, in the order of the names.
fn tables(catalog: &Catalog) -> impl Iterator<Item = (&str, &str, &TableDef)> {
    catalog.schemas.iter().flat_map(|(schema, entry)| {
        let defined = |(name, relation)| Some((name, Option::as_ref(relation)?));
        let relations = entry.relations.iter().map(|(name, relation)| (name, &relation.table));
        relations.filter_map(defined).map(|(name, def): (&String, _)| (schema.as_str(), name.as_str(), def))
    })
}

/// `docs_pkey`
fn key_name(table: &str) -> String {
    format!("{table}_pkey")
}

pub(super) fn views(core: &Arc<SessionCore>) -> Result<RecordBatch> {
    let catalog = core.database().catalog();
    let mut lines: Vec<Line> = Vec::new();
    for (schema, entry) in &catalog.schemas {
        for (name, relation) in &entry.relations {
            if relation.kind == RelationKind::View {
                let line = [crate::CATALOG, schema, name, &query_of(&relation.sql), "NONE", "NO", "NO"];
                lines.push(line.into_iter().map(some).collect());
            }
        }
    }
    let names = [
        ("table_catalog", false),
        ("table_schema", false),
        ("table_name", false),
        ("view_definition", true),
        ("check_option", false),
        ("is_updatable", false),
        ("is_insertable_into", false),
    ];
    batch(&names, &lines)
}

/// The query of a `CREATE VIEW`; all of it where that cannot be read.
fn query_of(sql: &str) -> String {
    use datafusion::sql::sqlparser::ast;
    match parser::parse_one(sql) {
        Ok(Statement::Sql(statement)) => match *statement {
            ast::Statement::CreateView(view) => view.query.to_string(),
            _ => sql.to_owned(),
        },
        _ => sql.to_owned(),
    }
}

pub(super) fn all(core: &Arc<SessionCore>) -> Result<RecordBatch> {
    let catalog = core.database().catalog();
    let mut lines: Vec<Line> = Vec::new();
    for (schema, table, def) in tables(&catalog) {
        let mut add = |name: &str, kind: &str| {
            let line = [crate::CATALOG, schema, name, crate::CATALOG, schema, table, kind, "NO", "NO", "YES"];
            lines.push(line.into_iter().map(some).collect());
        };
        if !def.has_rid() {
            add(&key_name(table), "PRIMARY KEY");
        }
        def.checks.iter().for_each(|check| add(&check.name, "CHECK"));
    }
    let names = [
        "constraint_catalog",
        "constraint_schema",
        "constraint_name",
        "table_catalog",
        "table_schema",
        "table_name",
        "constraint_type",
        "is_deferrable",
        "initially_deferred",
        "enforced",
    ];
    batch(&names.map(|n| (n, false)), &lines)
}

/// The columns of keys, in the order of the key.
pub(super) fn keys(core: &Arc<SessionCore>) -> Result<RecordBatch> {
    let catalog = core.database().catalog();
    let (mut lines, mut places) = (Vec::<Line>::new(), Vec::new());
    for (schema, table, def) in tables(&catalog) {
        for (i, column) in def.primary_key.iter().enumerate() {
            let name = key_name(table);
            let line = [crate::CATALOG, schema, &name, crate::CATALOG, schema, table, column];
            lines.push(line.into_iter().map(some).collect());
            places.push(i as u64 + 1);
        }
    }
    let names = [
        "constraint_catalog",
        "constraint_schema",
        "constraint_name",
        "table_catalog",
        "table_schema",
        "table_name",
        "column_name",
    ];
    let texts = batch(&names.map(|n| (n, false)), &lines)?;
    let mut columns: Vec<(&str, ArrayRef, bool)> =
        names.into_iter().zip(texts.columns()).map(|(n, c)| (n, Arc::clone(c), false)).collect();
    let nothing: ArrayRef = Arc::new(UInt64Array::new_null(places.len()));
    columns.push(("ordinal_position", Arc::new(UInt64Array::from(places)), false));
    columns.push(("position_in_unique_constraint", nothing, true));
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

pub(super) fn checks(core: &Arc<SessionCore>) -> Result<RecordBatch> {
    let catalog = core.database().catalog();
    let mut lines: Vec<Line> = Vec::new();
    for (schema, _, def) in tables(&catalog) {
        for check in &def.checks {
            let clause = format!("({})", check.sql);
            let line = [crate::CATALOG, schema, &check.name, &clause];
            lines.push(line.into_iter().map(some).collect());
        }
    }
    let names = ["constraint_catalog", "constraint_schema", "constraint_name", "check_clause"];
    batch(&names.map(|n| (n, false)), &lines)
}
