//! Opening a relation by its name.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast;
use triune_common::{Error, ErrorKind, Result};
use triune_files::{ExternalTableSpec, FileKind, kind_of_path, looks_like_path, open_table};
use triune_lance::LanceVersion;
use triune_object_store::parse_location;
use triune_storage::catalog::{RelationEntry, RelationKind};

use super::DEFAULT_SCHEMA;
use crate::ddl::maintain;
use crate::parser;
use crate::prepass::{self, versions};
use crate::session::SessionCore;
use crate::statement::{CreateExternalTable, Statement};
use crate::transaction;

/// How many views may stand on each other; also what ends a view that came to read itself.
const VIEW_DEPTH: usize = 32;

tokio::task_local! {
    static OPEN_VIEWS: usize;
    /// The view that is being defined, by schema and name: nothing below it may read it.
    static DEFINED_VIEW: (String, String);
}

pub(super) async fn resolve(
    session: &Arc<SessionCore>,
    schema: &str,
    name: &str,
) -> Result<Option<Arc<dyn TableProvider>>> {
    let (plain, version) = versions::parse_name(name);
    if schema == DEFAULT_SCHEMA
        && let Some(table) = session.temporary(plain)
    {
        unversioned(plain, "temporary table", &version)?;
        return Ok(Some(table));
    }
    if name.starts_with(super::information::PREFIX) {
        return Box::pin(super::information::open(session, name)).await;
    }
    if let Some(table) = transaction::relation(name) {
        return Ok(Some(table));
    }
    let catalog = session.database().catalog();
    if DEFINED_VIEW.try_with(|(s, n)| s == schema && n == plain).unwrap_or(false)
        && catalog.relation(schema, plain).is_some_and(|e| e.kind == RelationKind::View)
    {
        return Err(Error::invalid(format!("the view \"{plain}\" would read itself")));
    }
    if let Some(entry) = catalog.relation(schema, plain) {
        return open_entry(session, plain, entry, &version).await.map(Some);
    }
    if schema == DEFAULT_SCHEMA {
        if is_lance(plain) || looks_like_path(plain) {
            crate::principal::may_name_files(session, plain)?;
        }
        return open_path(session, plain, &version).await;
    }
    Ok(None)
}

fn unversioned(name: &str, kind: &str, version: &LanceVersion) -> Result<()> {
    match version {
        LanceVersion::Latest => Ok(()),
        _ => Err(Error::unsupported(format!("\"{name}\" is a {kind} and keeps no versions"))
            .with_hint("AT works on Lance tables")),
    }
}

async fn open_entry(
    session: &Arc<SessionCore>,
    name: &str,
    entry: &RelationEntry,
    version: &LanceVersion,
) -> Result<Arc<dyn TableProvider>> {
    if let Some(def) = &entry.table {
        return maintain::at_version(session, def.id, name, version).await;
    }
    match (entry.kind, parser::parse_one(&entry.sql)?) {
        (RelationKind::ExternalTable, Statement::CreateExternalTable(table)) => {
            open_external(session, name, &table, version).await
        }
        (RelationKind::View, Statement::Sql(statement)) => {
            unversioned(name, "view", version)?;
            match *statement {
                ast::Statement::CreateView(view) => open_view(session, name, view, &entry.sql).await,
                _ => Err(damaged(name)),
            }
        }
        _ => Err(damaged(name)),
    }
}

fn damaged(name: &str) -> Error {
    Error::data(format!("the catalog's definition of \"{name}\" is damaged"))
}

/// Opens what `CREATE EXTERNAL TABLE` describes.
pub(crate) async fn open_external(
    session: &Arc<SessionCore>,
    name: &str,
    table: &CreateExternalTable,
    version: &LanceVersion,
) -> Result<Arc<dyn TableProvider>> {
    let Some(kind) = file_kind(table)? else {
        return open_lance(session, table, version).await;
    };
    unversioned(name, &format!("{} table", kind.name()), version)?;
    let columns = declared_columns(session, table).await?;
    let spec = ExternalTableSpec {
        locations: table.locations.clone(),
        format: kind,
        columns,
        partition_columns: table.partition_columns.clone(),
        options: table.options.iter().cloned().collect::<BTreeMap<_, _>>(),
        order: declared_order(table)?,
    };
    open_table(&session.state(), &spec).await
}

async fn open_lance(
    session: &Arc<SessionCore>,
    table: &CreateExternalTable,
    version: &LanceVersion,
) -> Result<Arc<dyn TableProvider>> {
    let [location] = table.locations.as_slice() else {
        return Err(Error::invalid("a Lance table has one LOCATION"));
    };
    for (given, what) in [
        (!table.columns.is_empty(), "columns"),
        (!table.partition_columns.is_empty(), "PARTITIONED BY"),
        (!table.order.is_empty(), "WITH ORDER"),
        (!table.options.is_empty(), "OPTIONS"),
    ] {
        if given {
            return Err(Error::unsupported(format!(
                "a Lance table takes no {what}: the dataset knows its own"
            )));
        }
    }
    let provider = session.database().lance().open(&parse_location(location)?, version).await?;
    Ok(provider as Arc<dyn TableProvider>)
}

/// The format: as written, else by the first location's extension. `None` is Lance.
pub(crate) fn file_kind(table: &CreateExternalTable) -> Result<Option<FileKind>> {
    let location = table.locations.first().map_or("", String::as_str);
    match &table.format {
        Some(format) if format.eq_ignore_ascii_case("lance") => Ok(None),
        Some(format) => format.parse::<FileKind>().map(Some).map_err(|_| {
            Error::invalid(format!("the format {format} is unknown"))
                .with_hint("accepted are PARQUET, LANCE, ARROW, CSV and JSON")
        }),
        None if is_lance(location) => Ok(None),
        None => kind_of_path(location).map(Some).ok_or_else(|| {
            Error::invalid(format!("the format of {location} cannot be told by its name"))
                .with_hint("add STORED AS PARQUET, LANCE, ARROW, CSV or JSON")
        }),
    }
}

fn is_lance(location: &str) -> bool {
    location.trim_end_matches('/').to_ascii_lowercase().ends_with(".lance")
}

/// The declared columns as Arrow's, through DataFusion's own reading of `CREATE TABLE`.
async fn declared_columns(
    session: &Arc<SessionCore>,
    table: &CreateExternalTable,
) -> Result<Option<SchemaRef>> {
    if table.columns.is_empty() {
        return Ok(None);
    }
    let columns: Vec<String> = table.columns.iter().map(ToString::to_string).collect();
    let sql = format!("CREATE TABLE declared ({})", columns.join(", "));
    let Statement::Sql(statement) = parser::parse_one(&sql)? else {
        return Err(Error::internal("CREATE TABLE"));
    };
    let plan = session.state().statement_to_plan(DfStatement::Statement(statement)).await?;
    let fields = plan
        .inputs()
        .first()
        .map(|input| input.schema().fields().clone())
        .ok_or_else(|| Error::internal("a CREATE TABLE without columns"))?;
    Ok(Some(Arc::new(Schema::new(fields))))
}

fn declared_order(table: &CreateExternalTable) -> Result<Vec<Vec<datafusion::logical_expr::SortExpr>>> {
    let column = |e: &ast::OrderByExpr| match &e.expr {
        ast::Expr::Identifier(ident) => {
            let asc = e.options.asc.unwrap_or(true);
            // PostgreSQL's order: NULLs are greater than everything.
            let nulls_first = e.options.nulls_first.unwrap_or(!asc);
            Ok(datafusion::prelude::ident(parser::normalize(ident)).sort(asc, nulls_first))
        }
        other => Err(Error::unsupported(format!("WITH ORDER takes columns, not {other}"))),
    };
    table.order.iter().map(|order| order.iter().map(column).collect()).collect()
}

async fn open_view(
    session: &Arc<SessionCore>,
    name: &str,
    view: ast::CreateView,
    sql: &str,
) -> Result<Arc<dyn TableProvider>> {
    let depth = OPEN_VIEWS.try_with(|d| *d).unwrap_or(0) + 1;
    if depth > VIEW_DEPTH {
        return Err(Error::new(
            ErrorKind::Resources,
            format!("the view \"{name}\" stands on more than {VIEW_DEPTH} other views, or on itself"),
        ));
    }
    let plan = Box::pin(OPEN_VIEWS.scope(depth, plan_view(session, view)));
    let plan = plan.await.map_err(|e| {
        // The position belongs to the view's text, not to the statement that reads it.
        Error::new(e.kind(), format!("in the view \"{name}\": {}", e.message()))
            .with_hint(e.hint().unwrap_or("change the view with CREATE OR REPLACE VIEW"))
    })?;
    Ok(Arc::new(ViewTable::new(plan, Some(sql.to_owned()))))
}

/// Plans a view that is being defined; reading its own name, directly or through other views, is an error.
pub(crate) async fn plan_new_view(
    session: &Arc<SessionCore>,
    name: (String, String),
    view: ast::CreateView,
) -> Result<datafusion::logical_expr::LogicalPlan> {
    Box::pin(DEFINED_VIEW.scope(name, plan_view(session, view))).await
}

/// Plans a view's query, its column list applied.
async fn plan_view(
    session: &Arc<SessionCore>,
    view: ast::CreateView,
) -> Result<datafusion::logical_expr::LogicalPlan> {
    let mut query = view.query;
    crate::moments::settle(session, &mut query).await?;
    crate::models::constants::settle(session, &mut query, &crate::params::Params::None).await?;
    prepass::prepare(query.as_mut())?;
    let statement = DfStatement::Statement(Box::new(ast::Statement::Query(query)));
    let plan = session.state().statement_to_plan(statement).await?;
    if view.columns.is_empty() {
        return Ok(plan);
    }
    let names: Vec<String> = view.columns.iter().map(|c| parser::normalize(&c.name)).collect();
    let found = plan.schema().fields().len();
    if names.len() != found {
        return Err(Error::invalid(format!("the view names {} columns, its query has {found}", names.len())));
    }
    let columns: Vec<_> = plan.schema().columns();
    let aliased = columns.into_iter().zip(names).map(|(c, n)| datafusion::prelude::Expr::Column(c).alias(n));
    Ok(datafusion::logical_expr::LogicalPlanBuilder::from(plan).project(aliased)?.build()?)
}

/// `FROM 'file.parquet'`: a name that is no relation but looks like a path.
async fn open_path(
    session: &Arc<SessionCore>,
    text: &str,
    version: &LanceVersion,
) -> Result<Option<Arc<dyn TableProvider>>> {
    if is_lance(text) {
        let url = parse_location(text)?;
        return Ok(Some(session.database().lance().open(&url, version).await? as Arc<dyn TableProvider>));
    }
    if !looks_like_path(text) {
        return Ok(None);
    }
    let kind = match kind_of_path(text) {
        Some(kind) => kind,
        None => triune_files::detect_kind(&session.state(), &[text.to_owned()]).await?,
    };
    unversioned(text, &format!("{} file", kind.name()), version)?;
    open_table(&session.state(), &ExternalTableSpec::new(text, kind)).await.map(Some)
}
