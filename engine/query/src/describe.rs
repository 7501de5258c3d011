//! What a statement takes and gives, without running it: for protocols that prepare statements.
//!
//! ```text
//!  "UPDATE docs SET stars = $1 WHERE id = $2"  ──▶  parameters ($1 INTEGER, $2 BIGINT), no columns, Write
//! ```
//!
//! Limits: a parameter whose type nothing tells is a text. The columns of `RETURNING old.…` are not known before.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast;
use triune_common::{Result, boxed};

use crate::params::Params;
use crate::prepass::labels::{self, ColumnNames};
use crate::session::{Session, SessionCore};
use crate::statement::{Explain, Statement};
use crate::{dml, errors, parser, principal, transaction};

/// What running a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatementKind {
    /// It reads; running it again is harmless.
    Query,
    /// It writes rows.
    Write,
    /// Definitions, settings, transactions, maintenance.
    Command,
}

/// A statement that was looked at and not run.
#[derive(Debug, Clone)]
pub struct Described {
    pub kind: StatementKind,
    /// `$1`, `$2` … in their order, or `$name`s by name; the fields are called as in the statement.
    pub parameters: SchemaRef,
    /// Empty for what gives no rows.
    pub columns: SchemaRef,
}

pub(crate) async fn describe(session: &Session, core: &Arc<SessionCore>, sql: &str) -> Result<Described> {
    let statement = parser::parse_one(sql)?;
    principal::authorise(core, &statement)?;
    let found = Box::pin(transaction::scoped(core, Box::pin(look(session, core, sql, statement)))).await;
    found.map_err(|error| errors::improve(core, sql, error))
}

#[boxed]
async fn look(
    session: &Session,
    core: &Arc<SessionCore>,
    sql: &str,
    statement: Statement,
) -> Result<Described> {
    match statement {
        Statement::Sql(sql_tree) => {
            if let Some(writing) = dml::writing(&sql_tree) {
                let plan = dml::plan(core, writing, None).await?.1;
                let columns = match returning(&sql_tree) {
                    // What cannot be planned so is found by running it.
                    Some(query) => Box::pin(query_schema(core, query))
                        .await
                        .map(|d| d.columns)
                        .unwrap_or_else(|_| no_fields()),
                    None => no_fields(),
                };
                let parameters = parameters(&plan, &dml::written_parameters(core, writing)?)?;
                return Ok(Described { kind: StatementKind::Write, parameters, columns });
            }
            match sql_tree.as_ref() {
                ast::Statement::Query(_) => Box::pin(query_schema(core, *sql_tree)).await,
                ast::Statement::ShowTables { .. }
                | ast::Statement::ShowVariable { .. }
                | ast::Statement::ShowColumns { .. }
                | ast::Statement::ShowFunctions { .. }
                | ast::Statement::ShowCreate { .. }
                | ast::Statement::ExplainTable { .. } => by_running(session, sql).await,
                _ => Ok(command()),
            }
        }
        Statement::Explain(Explain { analyze: true, .. }) => {
            let plan = Field::new("plan", DataType::Utf8, false);
            let columns = Arc::new(Schema::new(vec![plan]));
            Ok(Described { kind: StatementKind::Command, parameters: no_fields(), columns })
        }
        Statement::Explain(_)
        | Statement::Describe(_)
        | Statement::ShowSecrets
        | Statement::ShowIndexes
        | Statement::ShowUsers
        | Statement::ShowTokens => by_running(session, sql).await,
        Statement::Summarize(_) => by_running(session, sql).await,
        Statement::CreateToken(_) => {
            let utc = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()));
            let fields =
                vec![Field::new("token", DataType::Utf8, false), Field::new("expires_at", utc, true)];
            let columns = Arc::new(Schema::new(fields));
            Ok(Described { kind: StatementKind::Command, parameters: no_fields(), columns })
        }
        _ => Ok(command()),
    }
}

fn no_fields() -> SchemaRef {
    Arc::new(Schema::empty())
}

fn command() -> Described {
    Described { kind: StatementKind::Command, parameters: no_fields(), columns: no_fields() }
}

/// Statements that read a little and change nothing.
async fn by_running(session: &Session, sql: &str) -> Result<Described> {
    let columns = session.execute_with(sql, &Params::None).await?.schema();
    Ok(Described { kind: StatementKind::Query, parameters: no_fields(), columns })
}

async fn query_schema(core: &Arc<SessionCore>, statement: ast::Statement) -> Result<Described> {
    let names = ColumnNames { give_back: true, collisions: vec![] };
    let plan = core.plan_named(statement, names).await?;
    let given = |f: &Arc<Field>| f.as_ref().clone().with_name(labels::given(f.name()));
    let fields: Fields = plan.schema().fields().iter().map(given).collect();
    Ok(Described {
        kind: StatementKind::Query,
        parameters: parameters(&plan, &[])?,
        columns: Arc::new(Schema::new(fields)),
    })
}

/// A plan's parameters: those with numbers without gaps, in their order.
///
/// `written`: what is known besides of some of them.
fn parameters(plan: &LogicalPlan, written: &[(String, Field)]) -> Result<SchemaRef> {
    let wanted = plan.get_parameter_fields()?;
    let number = |name: &str| name.trim_start_matches('$').parse::<usize>().ok();
    let field = |name: &str| {
        let known = wanted.get(name).and_then(Option::as_ref).filter(|f| *f.data_type() != DataType::Null);
        let column = written.iter().find(|(n, _)| n == name).map(|(_, f)| f);
        match column.or_else(|| known.map(Arc::as_ref)) {
            Some(f) => f.clone().with_name(name).with_nullable(true),
            None => Field::new(name, DataType::Utf8, true),
        }
    };
    let numbers: Option<Vec<usize>> = wanted.keys().map(|n| number(n)).collect();
    let names: Vec<String> = match numbers {
        Some(numbers) => (1..=numbers.into_iter().max().unwrap_or(0)).map(|n| format!("${n}")).collect(),
        None => {
            let mut names: Vec<String> = wanted.keys().cloned().collect();
            names.sort();
            names
        }
    };
    Ok(Arc::new(Schema::new(names.iter().map(|n| field(n)).collect::<Vec<_>>())))
}

/// `SELECT items FROM table` for a statement with `RETURNING items`.
fn returning(statement: &ast::Statement) -> Option<ast::Statement> {
    use ast::Statement as Sql;
    let inner = match statement {
        Sql::Query(query) => match query.body.as_ref() {
            ast::SetExpr::Insert(inner) | ast::SetExpr::Update(inner) | ast::SetExpr::Delete(inner) => inner,
            _ => return None,
        },
        other => other,
    };
    let list =
        |items: &[ast::SelectItem]| items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let text = match inner {
        Sql::Insert(insert) => format!("SELECT {} FROM {}", list(insert.returning.as_deref()?), insert.table),
        Sql::Update(update) => {
            let mut from = update.table.to_string();
            if let Some(kind) = &update.from {
                let (ast::UpdateTableFromKind::BeforeSet(more) | ast::UpdateTableFromKind::AfterSet(more)) =
                    kind;
                for other in more {
                    from.push_str(&format!(", {other}"));
                }
            }
            format!("SELECT {} FROM {from}", list(update.returning.as_deref()?))
        }
        Sql::Delete(delete) => {
            let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &delete.from;
            let from: Vec<String> =
                from.iter().chain(delete.using.iter().flatten()).map(ToString::to_string).collect();
            format!("SELECT {} FROM {}", list(delete.returning.as_deref()?), from.join(", "))
        }
        _ => return None,
    };
    Some(ast::Statement::Query(parser::parse_query(&text).ok()?))
}

/// What running a text would do, told by its first look: nothing is planned.
///
/// *Errors*: of the text, when it is no statement.
pub fn kind_of(sql: &str) -> Result<StatementKind> {
    Ok(StatementKind::of(&parser::parse_one(sql)?))
}

impl StatementKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Write => "write",
            Self::Command => "command",
        }
    }

    pub(crate) fn of(statement: &Statement) -> Self {
        match statement {
            Statement::Sql(tree) if dml::writing(tree).is_some() => Self::Write,
            Statement::Sql(tree) => match tree.as_ref() {
                ast::Statement::Query(_)
                | ast::Statement::ShowTables { .. }
                | ast::Statement::ShowVariable { .. }
                | ast::Statement::ShowColumns { .. }
                | ast::Statement::ShowFunctions { .. }
                | ast::Statement::ShowCreate { .. }
                | ast::Statement::ExplainTable { .. } => Self::Query,
                _ => Self::Command,
            },
            Statement::Explain(Explain { analyze: false, .. })
            | Statement::Describe(_)
            | Statement::Summarize(_)
            | Statement::ShowSecrets
            | Statement::ShowIndexes
            | Statement::ShowUsers
            | Statement::ShowTokens => Self::Query,
            _ => Self::Command,
        }
    }
}

/// What of the statement lives in its session and would be lost with it: `a transaction`, `a setting` …; `None` for a
/// statement that stands by itself.
pub(crate) fn kept_by_session(statement: &Statement) -> Option<&'static str> {
    use ast::Statement as Sql;
    match statement {
        Statement::Sql(sql) => match sql.as_ref() {
            Sql::StartTransaction { .. }
            | Sql::Commit { .. }
            | Sql::Rollback { .. }
            | Sql::Savepoint { .. }
            | Sql::ReleaseSavepoint { .. } => Some("a transaction"),
            Sql::Set(_) => Some("a setting"),
            Sql::Prepare { .. } | Sql::Execute { .. } | Sql::Deallocate { .. } => {
                Some("a prepared statement")
            }
            Sql::CreateTable(table) if table.temporary => Some("a temporary table"),
            Sql::CreateView(view) if view.temporary => Some("a temporary view"),
            _ => None,
        },
        Statement::Abort => Some("a transaction"),
        Statement::Reset(_) => Some("a setting"),
        Statement::CreateExternalTable(table) if table.temporary => Some("a temporary table"),
        Statement::CreateTableLike { table, .. } if table.temporary => Some("a temporary table"),
        _ => None,
    }
}
