//! What there is: relations, columns, functions.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::information_schema::INFORMATION_SCHEMA;
use datafusion::execution::SessionState;
use datafusion::logical_expr::Signature;

use triune_storage::catalog::RelationKind;
use triune_storage::table::{ColumnDef, Identity, TableDef};

use super::SessionCore;
use crate::catalog::DEFAULT_SCHEMA;
use crate::ddl::columns::longest;
use crate::ddl::show;
use crate::types::sql_type_name;

/// All relations that a session sees.
#[derive(Debug, Clone, Default)]
pub struct Names {
    pub tables: Vec<TableInfo>,
}

/// A relation and its columns.
#[derive(Debug, Clone)]
pub struct TableInfo {
    pub schema: String,
    pub name: String,
    /// `external table`, `view` or `temporary table`.
    pub kind: &'static str,
    pub columns: Vec<ColumnInfo>,
    /// Of a table of the database: its key, checks, options and comment, a line each.
    pub notes: Vec<String>,
    /// The statement that defines it, where there is one.
    pub statement: Option<String>,
}

#[derive(Debug, Clone)]
pub struct ColumnInfo {
    pub name: String,
    /// In SQL's words: `BIGINT`, `VECTOR(384)`.
    pub data_type: String,
    pub nullable: bool,
    /// `GENERATED … AS IDENTITY`, `GENERATED ALWAYS AS (…) STORED`, or the DEFAULT as SQL.
    pub default: Option<String>,
    pub identity: Option<Identity>,
    /// What a generated column is computed from, as SQL.
    pub generated: Option<String>,
    /// The most characters that a `VARCHAR(n)` takes.
    pub longest: Option<u64>,
    pub comment: Option<String>,
}

/// A relation as a driver's catalog lists it.
#[derive(Debug, Clone)]
pub struct Relation {
    pub schema: String,
    pub name: String,
    /// `table`, `external table`, `view`, `temporary table` or `system table`.
    pub kind: &'static str,
    /// `None` where it was not asked for.
    pub columns: Option<SchemaRef>,
    /// Empty where there is none.
    pub primary_key: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FunctionKind {
    Scalar,
    Aggregate,
    Window,
    Table,
}

impl FunctionKind {
    pub fn label(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Aggregate => "aggregate",
            Self::Window => "window",
            Self::Table => "table",
        }
    }
}

/// A function as `\df` shows it.
#[derive(Debug, Clone)]
pub struct FunctionInfo {
    pub name: String,
    pub kind: FunctionKind,
    /// How it is called, where that is documented; else its arguments' types.
    pub signature: String,
    pub description: String,
}

pub(crate) async fn of_session(core: &Arc<SessionCore>) -> Names {
    let mut tables = Vec::new();
    for name in core.temporary_names() {
        if let Some(table) = core.temporary(&name) {
            tables.push(TableInfo {
                schema: DEFAULT_SCHEMA.to_owned(),
                name,
                kind: "temporary table",
                columns: columns(table.as_ref()),
                notes: vec![],
                statement: None,
            });
        }
    }
    let catalog = core.database().catalog();
    let state = core.state();
    for (schema, entry) in &catalog.schemas {
        let provider = state.catalog_list().catalog(crate::CATALOG).and_then(|c| c.schema(schema));
        for (name, relation) in &entry.relations {
            if let Some(def) = &relation.table {
                tables.push(of_definition(schema, name, def));
                continue;
            }
            let table = match &provider {
                Some(provider) => provider.table(name).await.ok().flatten(),
                None => None,
            };
            tables.push(TableInfo {
                schema: schema.clone(),
                name: name.clone(),
                kind: relation.kind.label(),
                columns: table.map(|t| columns(t.as_ref())).unwrap_or_default(),
                notes: vec![],
                statement: Some(relation.sql.clone()),
            });
        }
    }
    tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    Names { tables }
}

pub(super) fn schema_names(core: &Arc<SessionCore>) -> Vec<String> {
    let catalog = core.state().catalog_list().catalog(crate::CATALOG);
    let mut names = catalog.map(|c| c.schema_names()).unwrap_or_default();
    names.push(INFORMATION_SCHEMA.to_owned());
    names.sort();
    names.dedup();
    names
}

pub(super) async fn relations(
    core: &Arc<SessionCore>,
    wanted: &(dyn Fn(&str, &str, &str) -> bool + Send + Sync),
    with_columns: bool,
) -> Vec<Relation> {
    let database = core.database().catalog();
    let Some(catalog) = core.state().catalog_list().catalog(crate::CATALOG) else { return vec![] };
    let mut found = Vec::new();
    for schema in catalog.schema_names() {
        let Some(provider) = catalog.schema(&schema) else { continue };
        for name in provider.table_names() {
            let entry = database.relation(&schema, &name);
            let kind = match entry {
                _ if schema == DEFAULT_SCHEMA && core.temporary(&name).is_some() => "temporary table",
                Some(entry) => entry.kind.label(),
                None => "system table",
            };
            if !wanted(&schema, &name, kind) {
                continue;
            }
            let def = entry.and_then(|e| e.table.as_ref()).filter(|_| kind == "table");
            let columns = match def {
                _ if !with_columns => None,
                Some(def) => Some(def.schema()),
                // One that cannot be opened must not hide the others.
                None => match provider.table(&name).await {
                    Ok(Some(table)) => Some(table.schema()),
                    _ => Some(Arc::new(arrow::datatypes::Schema::empty())),
                },
            };
            let primary_key = def.map(|d| d.primary_key.clone()).unwrap_or_default();
            found.push(Relation { schema: schema.clone(), name, kind, columns, primary_key });
        }
    }
    found.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    found
}

/// A table of the database; nothing has to be opened for it.
fn of_definition(schema: &str, name: &str, def: &TableDef) -> TableInfo {
    let of = |c: &ColumnDef| ColumnInfo {
        name: c.field.name().clone(),
        data_type: sql_type_name(&c.field),
        nullable: c.field.is_nullable(),
        default: show::default_of(c),
        identity: c.identity,
        generated: c.generated.clone(),
        longest: longest(def, c.field.name()),
        comment: c.comment.clone(),
    };
    TableInfo {
        schema: schema.to_owned(),
        name: name.to_owned(),
        kind: RelationKind::Table.label(),
        columns: def.columns.iter().map(of).collect(),
        notes: show::notes(def),
        statement: Some(show::create_statement(schema, name, def)),
    }
}

fn columns(table: &dyn TableProvider) -> Vec<ColumnInfo> {
    let of = |f: &Arc<arrow::datatypes::Field>| ColumnInfo {
        name: f.name().clone(),
        data_type: sql_type_name(f),
        nullable: f.is_nullable(),
        default: None,
        identity: None,
        generated: None,
        longest: None,
        comment: None,
    };
    table.schema().fields().iter().map(of).collect()
}

/// Searches, which are no functions to DataFusion: name, call, description.
pub(crate) const SEARCHES: [(&str, &str, &str); 4] = [
    (
        "vector_search",
        "vector_search(table, column, query [, k => 10, metric => 'cosine', where => …, nprobes => …, \
         refine_factor => …, exact => false])",
        "The k rows of a table that are nearest to a vector, with their _distance. Conditions of the WHERE on the \
         table's columns are applied first.",
    ),
    (
        "text_search",
        "text_search(table, 'query' [, columns => ['title', 'body'], k => 10, operator => 'or', phrase => false, \
         fuzziness => 0, where => …, recency => …, …])",
        "The k rows of a table that match words best, with their _score (BM25). Conditions of the WHERE on the table's \
         columns are applied first.",
    ),
    (
        "hybrid_search",
        "hybrid_search(table, vector => …, text => … [, k => 10, fusion => 'rrf', alpha => 0.5, rrf_k => 60, \
         key => …, where => …, recency => …, fallback => 'text', …])",
        "One list of a vector search and a text search of a table, with their _score together.",
    ),
    (
        "rrf",
        "rrf(search, search, … [, k => 10, rrf_k => 60, weights => [1, 1], key => …, recency => …, fallback => 'text'])",
        "One list of several searches of a table, by the ranks of their rows.",
    ),
];

/// Functions that are ours to call, not those that statements are rewritten to.
pub(super) fn functions(state: &SessionState) -> Vec<FunctionInfo> {
    type Documented<'a> = (Option<&'a datafusion::logical_expr::Documentation>, &'a Signature);
    let describe = |name: &str, kind: FunctionKind, (doc, signature): Documented<'_>| FunctionInfo {
        name: name.to_owned(),
        kind,
        signature: doc
            .map_or_else(|| format!("{name}({})", arguments(signature)), |d| d.syntax_example.clone()),
        description: doc.map(|d| d.description.trim().to_owned()).unwrap_or_default(),
    };
    let mut all: Vec<FunctionInfo> = Vec::new();
    for (name, f) in state.scalar_functions() {
        all.push(describe(name, FunctionKind::Scalar, (f.documentation(), f.signature())));
    }
    for (name, f) in state.aggregate_functions() {
        all.push(describe(name, FunctionKind::Aggregate, (f.documentation(), f.signature())));
    }
    for (name, f) in state.window_functions() {
        all.push(describe(name, FunctionKind::Window, (f.documentation(), f.signature())));
    }
    for name in state.table_functions().keys() {
        all.push(FunctionInfo {
            name: name.clone(),
            kind: FunctionKind::Table,
            signature: format!("{name}(…)"),
            description: String::new(),
        });
    }
    all.extend(SEARCHES.map(|(name, signature, description)| FunctionInfo {
        name: name.to_owned(),
        kind: FunctionKind::Table,
        signature: signature.to_owned(),
        description: description.to_owned(),
    }));
    all.retain(|f| !f.name.starts_with("__"));
    all.sort_by(|a, b| (&a.name, a.kind).cmp(&(&b.name, b.kind)));
    all
}

fn arguments(signature: &Signature) -> String {
    let text = format!("{:?}", signature.type_signature);
    if text.len() > 60 { "…".to_owned() } else { text }
}
