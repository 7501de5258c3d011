//! `CREATE TABLE t (LIKE s …)`: columns of a relation that is there already.
//!
//! ```sql
//! CREATE TABLE staging (LIKE docs);                                     -- names, types, NOT NULL
//! CREATE TABLE archive (LIKE docs INCLUDING ALL, archived TIMESTAMPTZ); -- all but the rows
//! CREATE TABLE archive LIKE docs;                                       -- all but the rows
//! CREATE TABLE read (LIKE 'docs.parquet');
//! ```
//!
//! | `INCLUDING` | taken |
//! |---|---|
//! | `DEFAULTS`, `IDENTITY`, `GENERATED`, `COMMENTS` | of the columns; without `GENERATED` a column takes values |
//! | `CONSTRAINTS` | CHECKs; the lengths of `VARCHAR(n)` come always |
//! | `INDEXES` | the PRIMARY KEY; the other indexes, under names of the new table's |
//! | `STORAGE` | `CLUSTER BY` and `WITH`, unless the statement gives its own |
//! | `ALL` | all of these |
//!
//! Of a view, a file or an external table there is nothing to include. Later changes of either table do not reach the
//! other.

use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::sql::sqlparser::ast;
use triune_common::{Error, Result};
use triune_storage::table::{CheckDef, ColumnDef, IndexDef, TableDef};

use super::columns::{self, Constraints};
use super::{indexes, types};
use crate::catalog::DEFAULT_SCHEMA;
use crate::commands::qualified;
use crate::params::Params;
use crate::parser::parse_query;
use crate::session::SessionCore;
use crate::statement::LikeClause;

/// Adds the columns of a clause's relation to the definition of `schema.table`.
pub(super) async fn add(
    core: &Arc<SessionCore>,
    (schema, table): (&str, &str),
    def: &mut TableDef,
    clause: &LikeClause,
    constraints: &mut Constraints,
) -> Result<()> {
    match source(core, clause)? {
        Some(source) => take(core, (schema, table), def, &source, clause, constraints),
        None => {
            for field in fields(core, clause).await? {
                columns::check_new_name(def, field.name())?;
                push(def, types::stored(&field)?);
            }
            Ok(())
        }
    }
}

/// The definition of a table of the database; `None` when it is another relation.
fn source(core: &Arc<SessionCore>, clause: &LikeClause) -> Result<Option<TableDef>> {
    let (schema, plain) = qualified(&clause.source)?;
    if schema == DEFAULT_SCHEMA && core.temporary(&plain).is_some() {
        return Ok(None);
    }
    Ok(core.database().catalog().relation(&schema, &plain).and_then(|entry| entry.table.clone()))
}

/// The columns of any relation; what they know of NULLs is no promise about rows of another.
async fn fields(core: &Arc<SessionCore>, clause: &LikeClause) -> Result<Vec<Field>> {
    let query = parse_query(&format!("SELECT * FROM {}", clause.source))?;
    let plan = core.plan(ast::Statement::Query(query), &Params::None).await;
    let plan = plan.map_err(|e| {
        // It was planned within another text.
        let moved = Error::new(e.kind(), e.message()).at(clause.at);
        match e.hint() {
            Some(hint) => moved.with_hint(hint),
            None => moved,
        }
    })?;
    Ok(plan.schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect())
}

/// The same for a temporary table: names and types, and which columns are NOT NULL.
pub(crate) async fn columns_of(core: &Arc<SessionCore>, clause: &LikeClause) -> Result<Vec<Field>> {
    match source(core, clause)? {
        Some(def) => Ok(def.columns.into_iter().map(|c| c.field).collect()),
        None => fields(core, clause).await,
    }
}

fn push(def: &mut TableDef, field: Field) -> &mut ColumnDef {
    def.last_column += 1;
    let id = def.last_column;
    def.columns.push(columns::plain(id, field));
    let last = def.columns.len() - 1;
    &mut def.columns[last]
}

fn take(
    core: &Arc<SessionCore>,
    (schema, table): (&str, &str),
    def: &mut TableDef,
    source: &TableDef,
    clause: &LikeClause,
    constraints: &mut Constraints,
) -> Result<()> {
    let included = clause.included;
    for column in &source.columns {
        columns::check_new_name(def, column.field.name())?;
        let made = push(def, column.field.clone());
        made.default = column.default.clone().filter(|_| included.defaults);
        made.identity = column.identity.filter(|_| included.identity);
        made.generated = column.generated.clone().filter(|_| included.generated);
        made.comment = column.comment.clone().filter(|_| included.comments);
    }
    for check in &source.checks {
        let length = length_of(source, check);
        if !included.constraints && length.is_none() {
            continue;
        }
        let name = match length {
            Some(column) => format!("{table}_{column}_length"),
            None => check.name.clone(),
        };
        let name = columns::free_check_name(def, &name);
        def.checks.push(CheckDef { name, sql: check.sql.clone() });
    }
    if included.indexes {
        if !source.primary_key.is_empty() {
            columns::set_key(constraints, source.primary_key.clone())?;
        }
        for index in source.indexes() {
            let name = free_index_name(core, (schema, table), def, index);
            def.indexes.push(IndexDef { name, ..index.clone() });
        }
    }
    if included.storage {
        if def.cluster_by.is_empty() {
            def.cluster_by.clone_from(&source.cluster_by);
        }
        def.options = source.options.clone();
    }
    Ok(())
}

/// The column whose length a check bounds, where that is all that it does.
fn length_of<'a>(def: &'a TableDef, check: &CheckDef) -> Option<&'a str> {
    let mut names = def.columns.iter().map(|c| c.field.name().as_str());
    names.find(|name| {
        let bound = check.sql.strip_prefix(&columns::length_check(name));
        bound.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// `archive_embedding_idx`, with a number where that is taken.
fn free_index_name(
    core: &Arc<SessionCore>,
    (schema, table): (&str, &str),
    def: &TableDef,
    index: &IndexDef,
) -> String {
    let catalog = core.database().catalog();
    let first = index.columns().first().map_or("", String::as_str);
    let stem = format!("{table}_{first}_idx").replace(':', "_");
    let mut name = stem.clone();
    let mut n = 0;
    while name == table || def.index(&name).is_some() || indexes::is_taken(&catalog, schema, &name) {
        n += 1;
        name = format!("{stem}{n}");
    }
    name
}
