//! `CREATE EXTERNAL TABLE`, `CREATE TABLE` (temporary), `CREATE VIEW`, `CREATE SCHEMA`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::sql::sqlparser::ast::{self, ObjectName, SchemaName};
use triune_common::{Error, ErrorKind, Result};
use triune_lance::LanceVersion;
use triune_object_store::{is_remote, parse_location};
use triune_storage::catalog::{RelationEntry, RelationKind, SchemaEntry};

use crate::catalog::DEFAULT_SCHEMA;
use crate::catalog::open;
use crate::ddl::like;
use crate::params::Params;
use crate::parser::{name_parts, normalize, parse_query};
use crate::result::QueryResult;
use crate::session::SessionCore;
use crate::statement::{CreateExternalTable, Included, LikeClause};
use crate::transaction;

/// A relation's schema and name; a catalog in front may only be ours.
pub(crate) fn qualified(name: &ObjectName) -> Result<(String, String)> {
    match name_parts(name).as_slice() {
        [name] => Ok((DEFAULT_SCHEMA.to_owned(), name.clone())),
        [schema, name] => Ok((schema.clone(), name.clone())),
        [catalog, schema, name] if catalog == crate::CATALOG => Ok((schema.clone(), name.clone())),
        _ => Err(Error::not_found(format!("{name} names another catalog than {}", crate::CATALOG))),
    }
}

/// What to do when the name is taken.
#[derive(Clone, Copy)]
struct IfTaken {
    replace: bool,
    keep: bool,
}

/// Writes a relation into the catalog; `false` when it was there and is to be kept.
async fn store(
    core: &Arc<SessionCore>,
    name: &ObjectName,
    kind: RelationKind,
    sql: String,
    if_taken: IfTaken,
) -> Result<bool> {
    let (schema, name) = qualified(name)?;
    let created_at = core.database().options().clock.now();
    let mut stored = true;
    core.database()
        .change_catalog(|catalog| {
            let schemas: Vec<String> = catalog.schemas.keys().cloned().collect();
            let entry = catalog.schemas.get_mut(&schema).ok_or_else(|| {
                Error::not_found(format!("there is no schema \"{schema}\""))
                    .with_hint(format!("there are {}", schemas.join(", ")))
            })?;
            if let Some(taken) = entry.relations.get(&name) {
                if if_taken.keep {
                    stored = false;
                    return Ok(());
                }
                let label = taken.kind.label();
                if !if_taken.replace {
                    return Err(Error::new(
                        ErrorKind::AlreadyExists,
                        format!("the {label} \"{name}\" exists already"),
                    )
                    .with_hint("use OR REPLACE, or IF NOT EXISTS"));
                }
                if taken.kind != kind {
                    return Err(Error::invalid(format!("\"{name}\" is a {label}, not a {}", kind.label()))
                        .with_hint("drop it first"));
                }
            }
            stored = true;
            entry
                .relations
                .insert(name.clone(), RelationEntry { kind, sql: sql.clone(), created_at, table: None });
            Ok(())
        })
        .await?;
    Ok(stored)
}

pub(super) async fn external_table(
    core: &Arc<SessionCore>,
    mut table: CreateExternalTable,
) -> Result<QueryResult> {
    const DONE: &str = "CREATE EXTERNAL TABLE";
    if !table.temporary {
        transaction::refuse_in_transaction(core, DONE)?;
    }
    let (schema, name) = qualified(&table.name)?;
    if table.if_not_exists && core.database().catalog().relation(&schema, &name).is_some() {
        return Ok(QueryResult::command(DONE, None));
    }
    // A relative path means the folder that the user stands in now, not the one of a later session.
    for location in &mut table.locations {
        let url = parse_location(location)?;
        *location = if is_remote(&url) { location.clone() } else { absolute(location)? };
    }
    // Opened once, so that a wrong path, format or option shows now.
    let provider = open::open_external(core, &name, &table, &LanceVersion::Latest).await?;
    if table.temporary {
        if core.temporary(&name).is_some() && !table.or_replace {
            return Err(taken_temporary(&name));
        }
        core.put_temporary(name, provider);
        return Ok(QueryResult::command(DONE, None));
    }
    let if_taken = IfTaken { replace: table.or_replace, keep: table.if_not_exists };
    store(core, &table.name, RelationKind::ExternalTable, definition(&table), if_taken).await?;
    Ok(QueryResult::command(DONE, None))
}

/// The path from the root, glob characters kept.
fn absolute(location: &str) -> Result<String> {
    if location.starts_with("file:") {
        return Ok(location.to_owned());
    }
    let path = match location.strip_prefix("~/") {
        Some(rest) => match std::env::var_os("HOME") {
            Some(home) => std::path::PathBuf::from(home).join(rest),
            None => return Err(Error::invalid(format!("{location} needs HOME to be set"))),
        },
        None => std::path::PathBuf::from(location),
    };
    let is_folder = location.ends_with('/');
    let full = std::path::absolute(&path)
        .map_err(|e| Error::invalid(format!("the path {location} cannot be made absolute: {e}")))?;
    let text = full.to_str().ok_or_else(|| Error::invalid(format!("the path {location} is not UTF-8")))?;
    Ok(if is_folder && !text.ends_with('/') { format!("{text}/") } else { text.to_owned() })
}

/// The statement that makes the same table again. What the statement said of names taken is left out.
fn definition(table: &CreateExternalTable) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let ident = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let list = |items: Vec<String>| items.join(", ");
    let mut sql = format!("CREATE EXTERNAL TABLE {}", table.name);
    if !table.columns.is_empty() {
        sql += &format!(" ({})", list(table.columns.iter().map(ToString::to_string).collect()));
    }
    if let Some(format) = &table.format {
        sql += &format!(" STORED AS {format}");
    }
    sql += &match table.locations.as_slice() {
        [one] => format!(" LOCATION {}", quoted(one)),
        many => format!(" LOCATION ({})", list(many.iter().map(|l| quoted(l)).collect())),
    };
    if !table.partition_columns.is_empty() {
        sql += &format!(
            " PARTITIONED BY ({})",
            list(table.partition_columns.iter().map(|c| ident(c)).collect())
        );
    }
    for order in &table.order {
        sql += &format!(" WITH ORDER ({})", list(order.iter().map(ToString::to_string).collect()));
    }
    if !table.options.is_empty() {
        let options = table.options.iter().map(|(k, v)| format!("{} {}", quoted(k), quoted(v))).collect();
        sql += &format!(" OPTIONS ({})", list(options));
    }
    sql
}

fn taken_temporary(name: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("the temporary table \"{name}\" exists already"))
        .with_hint("use OR REPLACE, or IF NOT EXISTS")
}

/// `CREATE TEMP TABLE`: held in memory, for this session.
pub(super) async fn table(
    core: &Arc<SessionCore>,
    mut table: ast::CreateTable,
    params: &Params,
) -> Result<QueryResult> {
    const DONE: &str = "CREATE TABLE";
    let (schema, name) = qualified(&table.name)?;
    if schema != DEFAULT_SCHEMA {
        return Err(not_elsewhere(&schema));
    }
    if core.temporary(&name).is_some() {
        if table.if_not_exists {
            return Ok(QueryResult::command(DONE, None));
        }
        if !table.or_replace {
            return Err(taken_temporary(&name));
        }
    }
    table.temporary = false;
    let required = required_columns(&table);
    let names = take_names(&mut table);
    cast_query(&mut table)?;
    let plan = core.plan(ast::Statement::CreateTable(table), params).await?;
    let LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) = plan else {
        return Err(Error::internal("CREATE TABLE was planned as something else"));
    };
    let (input_schema, batches) = materialize(core, &create.input, &names, &required).await?;
    let rows = batches.iter().map(|b| b.num_rows() as u64).sum();
    let provider =
        MemTable::try_new(input_schema, spread(batches, core.state().config().target_partitions()))?
            .with_column_defaults(create.column_defaults.into_iter().collect());
    core.put_temporary(name, Arc::new(provider));
    Ok(QueryResult::command(DONE, Some(rows)))
}

/// `CREATE TEMP TABLE t (LIKE s)`: the columns' names and types and which are NOT NULL.
pub(super) async fn table_like(
    core: &Arc<SessionCore>,
    table: ast::CreateTable,
    like: &[LikeClause],
) -> Result<QueryResult> {
    let [clause] = like else {
        return Err(Error::unsupported("a temporary table takes one LIKE"));
    };
    if clause.included != Included::default() || table.columns.len() > 1 || !table.constraints.is_empty() {
        return Err(Error::unsupported("a temporary table takes names and types of a LIKE only")
            .with_hint(format!("write CREATE TEMP TABLE … (LIKE {})", clause.source)));
    }
    if table.query.is_some() {
        return Err(Error::unsupported("a temporary table takes a LIKE or a query, not both"));
    }
    let (schema, name) = qualified(&table.name)?;
    if schema != DEFAULT_SCHEMA {
        return Err(not_elsewhere(&schema));
    }
    if core.temporary(&name).is_some() && !table.or_replace {
        if table.if_not_exists {
            return Ok(QueryResult::command("CREATE TABLE", None));
        }
        return Err(taken_temporary(&name));
    }
    let columns = like::columns_of(core, clause).await?;
    core.put_temporary(name, Arc::new(MemTable::try_new(Arc::new(Schema::new(columns)), vec![vec![]])?));
    Ok(QueryResult::command("CREATE TABLE", Some(0)))
}

fn not_elsewhere(schema: &str) -> Error {
    Error::unsupported(format!("a temporary table lives in \"{DEFAULT_SCHEMA}\", not in \"{schema}\""))
}

/// The names of `CREATE TEMP TABLE t (a, b) AS …`, which are taken out.
fn take_names(table: &mut ast::CreateTable) -> Vec<String> {
    let bare = |c: &ast::ColumnDef| matches!(c.data_type, ast::DataType::Unspecified);
    if table.query.is_none() || !table.columns.iter().all(bare) {
        return vec![];
    }
    std::mem::take(&mut table.columns).iter().map(|c| normalize(&c.name)).collect()
}

/// The columns that were declared NOT NULL.
fn required_columns(table: &ast::CreateTable) -> Vec<String> {
    let not_null =
        |c: &&ast::ColumnDef| c.options.iter().any(|o| matches!(o.option, ast::ColumnOption::NotNull));
    table.columns.iter().filter(not_null).map(|c| normalize(&c.name)).collect()
}

/// `CREATE TABLE t (a INT, v VECTOR(2)) AS query`: the query's columns are cast by position, as
/// `SELECT CAST(c0 AS INT) AS a, … FROM (query) AS q(c0, …)`. DataFusion's own cast knows no vectors.
fn cast_query(table: &mut ast::CreateTable) -> Result<()> {
    let Some(query) = &table.query else { return Ok(()) };
    if table.columns.is_empty() {
        return Ok(());
    }
    let columns = std::mem::take(&mut table.columns);
    let casts: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(i, c)| format!("CAST(c{i} AS {}) AS {}", c.data_type, c.name))
        .collect();
    let names: Vec<String> = (0..columns.len()).map(|i| format!("c{i}")).collect();
    let sql = format!("SELECT {} FROM ({query}) AS q({})", casts.join(", "), names.join(", "));
    table.query = Some(parse_query(&sql)?);
    Ok(())
}

async fn materialize(
    core: &Arc<SessionCore>,
    plan: &LogicalPlan,
    names: &[String],
    required: &[String],
) -> Result<(arrow::datatypes::SchemaRef, Vec<RecordBatch>)> {
    let found = plan.schema().fields().len();
    if names.len() > found {
        let message = format!("the table names {} columns, its query has {found}", names.len());
        return Err(Error::invalid(message));
    }
    let result = core.start(plan).await?;
    // The declared schema tells of NOT NULL and of vectors' types; the operators' one may have lost them.
    let fields = plan.schema().fields().iter().enumerate().map(|(i, f)| {
        let nullable = f.is_nullable() && !required.contains(f.name());
        let name = names.get(i).unwrap_or_else(|| f.name());
        f.as_ref().clone().with_nullable(nullable).with_name(name)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    for (i, field) in schema.fields().iter().enumerate() {
        if schema.fields()[..i].iter().any(|f| f.name() == field.name()) {
            return Err(Error::invalid(format!("the column \"{}\" is there twice", field.name())));
        }
    }
    let batches = result.collect().await?;
    let batches = batches
        .into_iter()
        .map(|b| RecordBatch::try_new(Arc::clone(&schema), b.columns().to_vec()).map_err(Error::from))
        .collect::<Result<Vec<_>>>()?;
    Ok((schema, batches))
}

/// Batches dealt out to partitions, so that scans run side by side.
fn spread(batches: Vec<RecordBatch>, partitions: usize) -> Vec<Vec<RecordBatch>> {
    let mut spread = vec![Vec::new(); partitions.clamp(1, batches.len().max(1))];
    let n = spread.len();
    for (i, batch) in batches.into_iter().enumerate() {
        spread[i % n].push(batch);
    }
    spread
}

pub(super) async fn view(core: &Arc<SessionCore>, view: ast::CreateView) -> Result<QueryResult> {
    transaction::refuse_in_transaction(core, "CREATE VIEW")?;
    let refused = [
        (view.materialized, "MATERIALIZED"),
        (view.temporary, "TEMPORARY"),
        (view.secure, "SECURE"),
        (view.with_no_schema_binding, "WITH NO SCHEMA BINDING"),
        (view.to.is_some(), "TO"),
        (!view.cluster_by.is_empty(), "CLUSTER BY"),
        (view.comment.is_some(), "COMMENT"),
        (!matches!(view.options, ast::CreateTableOptions::None), "options"),
        (view.params.is_some(), "parameters"),
    ];
    if let Some((_, clause)) = refused.iter().find(|(given, _)| *given) {
        return Err(Error::unsupported(format!("CREATE VIEW with {clause} is not supported")));
    }
    // Planned once, so that mistakes show now; it may not read the name that it is about to take.
    let plan = open::plan_new_view(core, qualified(&view.name)?, view.clone()).await?;
    if !plan.get_parameter_names()?.is_empty() {
        return Err(Error::invalid("a view has no parameters")
            .with_hint("write the values out, or PREPARE a statement"));
    }
    let (name, if_taken) =
        (view.name.clone(), IfTaken { replace: view.or_replace, keep: view.if_not_exists });
    let stored = ast::CreateView { or_replace: false, if_not_exists: false, ..view };
    store(core, &name, RelationKind::View, ast::Statement::CreateView(stored).to_string(), if_taken).await?;
    Ok(QueryResult::command("CREATE VIEW", None))
}

pub(super) async fn schema(
    core: &Arc<SessionCore>,
    name: &SchemaName,
    if_not_exists: bool,
) -> Result<QueryResult> {
    transaction::refuse_in_transaction(core, "CREATE SCHEMA")?;
    let name = match name {
        SchemaName::Simple(name) => match name_parts(name).as_slice() {
            [name] => name.clone(),
            [catalog, name] if catalog == crate::CATALOG => name.clone(),
            _ => return Err(Error::invalid(format!("{name} is no name of a schema"))),
        },
        other => return Err(Error::unsupported(format!("CREATE SCHEMA {other} is not supported"))),
    };
    if matches!(name.as_str(), "information_schema" | crate::catalog::system::SYSTEM) {
        return Err(Error::new(ErrorKind::AlreadyExists, format!("the schema \"{name}\" exists already")));
    }
    core.database()
        .change_catalog(|catalog| {
            if catalog.schemas.contains_key(&name) {
                return if if_not_exists {
                    Ok(())
                } else {
                    Err(Error::new(ErrorKind::AlreadyExists, format!("the schema \"{name}\" exists already")))
                };
            }
            catalog.schemas.insert(name.clone(), SchemaEntry::default());
            Ok(())
        })
        .await?;
    Ok(QueryResult::command("CREATE SCHEMA", None))
}
