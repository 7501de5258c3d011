//! `CREATE INDEX`, `DROP INDEX`, `REINDEX`, `ALTER INDEX`.
//!
//! ```sql
//! CREATE INDEX ON docs (embedding);                                     -- ivf_rq, cosine
//! CREATE INDEX near ON docs USING ivf_pq (embedding vector_l2_ops) WITH (lists = 100, sub_vectors = 48);
//! CREATE INDEX words ON docs USING fulltext (title, body) WITH (language = 'english');
//! ALTER INDEX near SET (nprobes = 40);
//! REINDEX INDEX near;
//! ```
//!
//! The name of an index is one of its table's schema. The method is looked up in `triune_lance::method`, which also
//! says what its parameters are.

use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::sql::sqlparser::ast::ObjectName;
use futures::FutureExt;
use triune_common::names::did_you_mean;
use triune_common::{Error, ErrorKind, Result};
use triune_lance::IndexMethod;
use triune_lance::method::operator_class;
use triune_storage::catalog::Catalog;
use triune_storage::table::{IndexDef, TableDef};

use super::columns::find_mut;
use crate::commands::qualified;
use crate::dml::target;
use crate::parser::normalize;
use crate::result::QueryResult;
use crate::session::SessionCore;
use crate::statement::{AlterIndex, CreateIndex};
use crate::transaction;

pub(crate) async fn create(core: &Arc<SessionCore>, index: CreateIndex) -> Result<QueryResult> {
    const DONE: &str = "CREATE INDEX";
    transaction::refuse_in_transaction(core, DONE)?;
    let def = target::find(core, &index.table, DONE).map_err(|e| match e.kind() {
        ErrorKind::Unsupported => Error::unsupported(e.message())
            .with_hint("the indexes that a Lance dataset brings along are used; CREATE TABLE … AS makes a table that can have its own"),
        _ => e,
    })?;
    let (schema, table) = qualified(&index.table)?;
    let given = index.name.as_ref().map(|name| own_name(name, &schema)).transpose()?;
    if let Some(name) = &given
        && let Some(taken) = taken(&core.database().catalog(), &schema, name)
    {
        if index.if_not_exists && taken == Taken::Index {
            return Ok(QueryResult::command(DONE, None));
        }
        return Err(already(name));
    }
    let definition = define(core, &schema, &table, &def, given, &index)?;
    let name = definition.name.clone();
    // Asked again where it is decided: another session may have been faster.
    let done = core.database().store().create_index(def.id, definition).boxed().await;
    let next = match done {
        Err(e) if index.if_not_exists && e.kind() == ErrorKind::AlreadyExists => {
            return Ok(QueryResult::command(DONE, None));
        }
        other => other?,
    };
    if let Err(error) = publish(core, &schema, &table, &next, &name).await {
        // What no catalog names is not there.
        let _ = core.database().store().drop_index(def.id, &name).boxed().await;
        return Err(error);
    }
    Ok(QueryResult::command(DONE, None))
}

/// The definition that a statement asks for.
fn define(
    core: &Arc<SessionCore>,
    schema: &str,
    table: &str,
    def: &TableDef,
    given: Option<String>,
    index: &CreateIndex,
) -> Result<IndexDef> {
    let mut copy = def.clone();
    let mut columns: Vec<(String, Field)> = Vec::new();
    for (ident, _) in &index.columns {
        let name = normalize(ident);
        let field = find_mut(&mut copy, &name)?.field.clone();
        if columns.iter().any(|(n, _)| *n == name) {
            return Err(Error::invalid(format!("the column \"{name}\" is twice in the index")));
        }
        columns.push((name, field));
    }
    let [(first, field), ..] = columns.as_slice() else {
        return Err(Error::invalid("an index has at least one column"));
    };
    let method = match &index.method {
        Some(text) => text.parse()?,
        None => IndexMethod::default_for(field),
    };
    if columns.len() > 1 && method != IndexMethod::FullText {
        return Err(Error::unsupported(format!("an index of the method {method} has one column"))
            .with_hint("make one index for each column, a search or scan may use several"));
    }
    for (_, field) in &columns {
        method.check_column(field)?;
    }
    let mut metric = None;
    for (_, class) in &index.columns {
        let Some(class) = class else { continue };
        if !method.is_vector() {
            return Err(Error::invalid(format!("the method {method} takes no operator class ({class})"))
                .with_hint("operator classes say the metric of a vector index"));
        }
        metric = Some(operator_class(class)?);
    }
    let options = method.check_parameters(field, &index.options, metric)?;
    let name = match given {
        Some(name) => name,
        None => free_name(&core.database().catalog(), schema, &format!("{table}_{first}")),
    };
    Ok(IndexDef { name, method, columns: columns.into_iter().map(|(n, _)| n).collect(), options })
}

/// The name of an index that is to be made: without a schema, or with the table's.
fn own_name(name: &ObjectName, schema: &str) -> Result<String> {
    let (given, plain) = qualified(name)?;
    if name.0.len() > 1 && given != schema {
        return Err(Error::invalid(format!("an index is in the schema of its table, \"{schema}\"")));
    }
    if plain.contains(':') || plain.is_empty() {
        return Err(Error::invalid(format!("\"{plain}\" is no name for an index")));
    }
    Ok(plain)
}

#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Index,
    Relation,
}

/// Whether a name of a schema is taken; indexes share names with tables and views, as in PostgreSQL.
fn taken(catalog: &Catalog, schema: &str, name: &str) -> Option<Taken> {
    let entry = catalog.schemas.get(schema)?;
    if entry.relations.contains_key(name) {
        return Some(Taken::Relation);
    }
    let tables = entry.relations.values().filter_map(|r| r.table.as_ref());
    tables.flat_map(|t| t.indexes()).any(|i| i.name() == name).then_some(Taken::Index)
}

pub(super) fn is_taken(catalog: &Catalog, schema: &str, name: &str) -> bool {
    taken(catalog, schema, name).is_some()
}

/// `docs_embedding_idx`, with a number where that is taken.
fn free_name(catalog: &Catalog, schema: &str, stem: &str) -> String {
    let stem = stem.replace(':', "_");
    let mut name = format!("{stem}_idx");
    let mut n = 1;
    while taken(catalog, schema, &name).is_some() {
        name = format!("{stem}_idx{n}");
        n += 1;
    }
    name
}

fn already(name: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("\"{name}\" exists already"))
        .with_hint("use IF NOT EXISTS, or another name")
}

/// Publishes a table's definition with a new index in the catalog, if no other table of the schema has taken the
/// name meanwhile.
async fn publish(
    core: &Arc<SessionCore>,
    schema: &str,
    table: &str,
    def: &TableDef,
    index: &str,
) -> Result<()> {
    let check = core.database().catalog();
    let others = check.schemas.get(schema).into_iter().flat_map(|s| &s.relations);
    for (name, relation) in others {
        let same = relation.table.as_ref().is_some_and(|t| t.id == def.id);
        let has = relation.table.as_ref().is_some_and(|t| t.index(index).is_some());
        if name == index || (!same && has) {
            return Err(already(index));
        }
    }
    super::publish(core, table, def).await
}

/// An index by its name in a statement: its table's schema, name and definition, and its own.
struct Found {
    table: String,
    def: TableDef,
    index: IndexDef,
}

fn find(core: &Arc<SessionCore>, name: &ObjectName) -> Result<Found> {
    let (schema, plain) = qualified(name)?;
    let catalog = core.database().catalog();
    let entry = catalog
        .schemas
        .get(&schema)
        .ok_or_else(|| Error::not_found(format!("there is no schema \"{schema}\"")))?;
    let mut names = Vec::new();
    for (table, relation) in &entry.relations {
        let Some(def) = &relation.table else { continue };
        if let Some(index) = def.index(&plain) {
            return Ok(Found { table: table.clone(), def: def.clone(), index: index.clone() });
        }
        names.extend(def.indexes().iter().map(IndexDef::name));
    }
    let error = Error::not_found(format!("no index is called \"{plain}\""));
    Err(match did_you_mean(&plain, names) {
        Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
        None if entry.relations.contains_key(&plain) => error.with_hint("a table or view is"),
        None => error,
    })
}

pub(crate) async fn drop(
    core: &Arc<SessionCore>,
    names: &[ObjectName],
    if_exists: bool,
) -> Result<QueryResult> {
    const DONE: &str = "DROP INDEX";
    transaction::refuse_in_transaction(core, DONE)?;
    let mut all = Vec::new();
    // One missing name drops nothing.
    for name in names {
        match find(core, name) {
            Err(e) if if_exists && e.kind() == ErrorKind::NotFound => {}
            other => all.push(other?),
        }
    }
    for found in all {
        let next = core.database().store().drop_index(found.def.id, &found.index.name).boxed().await?;
        super::publish(core, &found.table, &next).await?;
    }
    Ok(QueryResult::command(DONE, None))
}

pub(crate) async fn reindex(
    core: &Arc<SessionCore>,
    name: &ObjectName,
    of_table: bool,
) -> Result<QueryResult> {
    const DONE: &str = "REINDEX";
    transaction::refuse_in_transaction(core, DONE)?;
    let (table, indexes) = if of_table {
        let def = target::find(core, name, DONE)?;
        (def.id, def.indexes().to_vec())
    } else {
        let found = find(core, name)?;
        (found.def.id, vec![found.index])
    };
    for index in indexes {
        core.database().store().rebuild_index(table, &index.name).boxed().await?;
    }
    Ok(QueryResult::command(DONE, None))
}

pub(crate) async fn alter(
    core: &Arc<SessionCore>,
    name: &ObjectName,
    if_exists: bool,
    change: AlterIndex,
) -> Result<QueryResult> {
    const DONE: &str = "ALTER INDEX";
    transaction::refuse_in_transaction(core, DONE)?;
    let found = match find(core, name) {
        Err(e) if if_exists && e.kind() == ErrorKind::NotFound => {
            return Ok(QueryResult::command(DONE, None));
        }
        other => other?,
    };
    let store = core.database().store();
    let next = match change {
        AlterIndex::RenameTo(to) => {
            let (schema, _) = qualified(name)?;
            let to = own_name(&to, &schema)?;
            if taken(&core.database().catalog(), &schema, &to).is_some() {
                return Err(already(&to));
            }
            store.rename_index(found.def.id, &found.index.name, &to).boxed().await?
        }
        AlterIndex::Set(given) => {
            let mut next = found.index.clone();
            next.options = changed(&found, &given)?;
            store.alter_index(found.def.id, next).boxed().await?
        }
        AlterIndex::Reset(names) => {
            let mut next = found.index.clone();
            for name in names {
                // An unknown name is told from one that has its default.
                let canonical = next.method.canonical(&name)?;
                if canonical == "metric" {
                    return Err(Error::invalid("the metric has no default to go back to, SET it"));
                }
                next.options.remove(canonical);
            }
            store.alter_index(found.def.id, next).boxed().await?
        }
    };
    super::publish(core, &found.table, &next).await?;
    Ok(QueryResult::command(DONE, None))
}

/// All parameters of an index after a SET.
fn changed(found: &Found, given: &[(String, String)]) -> Result<std::collections::BTreeMap<String, String>> {
    let Some(column) = found.index.columns.first().and_then(|c| found.def.column(c)) else {
        return Err(Error::internal("an index is of a column that the table has not"));
    };
    let method = found.index.method;
    let new = method.check_parameters(&column.field, given, None);
    // The metric that goes without saying must not replace the one that the index has.
    let says_metric = given.iter().any(|(k, _)| method.canonical(k).is_ok_and(|k| k == "metric"));
    let mut options = found.index.options.clone();
    options.extend(new?.into_iter().filter(|(k, _)| says_metric || k != "metric"));
    Ok(options)
}

/// Indexes of a column that gets another type: they must fit it, and are built again.
///
/// Errors: invalid when a method does not index such columns.
pub(crate) fn retype(def: &TableDef, field: &Field) -> Result<()> {
    for index in def.indexes().iter().filter(|i| i.columns.contains(field.name())) {
        let given: Vec<(String, String)> =
            index.options.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let fits = index
            .method
            .check_column(field)
            .and_then(|()| index.method.check_parameters(field, &given, None).map(drop_value));
        if let Err(error) = fits {
            return Err(Error::invalid(format!(
                "the index \"{}\" does not fit the new type of \"{}\": {}",
                index.name,
                field.name(),
                error.message()
            ))
            .with_hint(format!("DROP INDEX {} first", index.name)));
        }
    }
    Ok(())
}

fn drop_value<T>(_: T) {}
