//! Clauses that DataFusion parses and silently ignores are refused here, so that no answer is given to
//! another question than the one asked. Clauses that it refuses itself are left to it.

use datafusion::sql::sqlparser::ast::{
    CreateIndex, CreateTable, Delete, Expr, Fetch, Insert, LimitClause, Query, Select, SelectItem, Spanned,
    Statement, TableConstraint, TableFactor, Update, Value, ValueWithSpan,
};
use triune_common::{Error, ErrorKind, Result};

use crate::parser::position;

pub(super) fn statement(statement: &Statement) -> Result<()> {
    let error = match statement {
        Statement::CreateIndex(CreateIndex { .. }) => Error::unsupported("CREATE INDEX is not supported yet"),
        // They have a path of their own; what comes here stands within another statement.
        Statement::Delete(Delete { .. }) => within("DELETE"),
        Statement::Update(Update { .. }) => within("UPDATE"),
        Statement::Merge(_) => within("MERGE"),
        Statement::Truncate(_) => within("TRUNCATE"),
        Statement::StartTransaction { .. } | Statement::Commit { .. } | Statement::Rollback { .. } => {
            Error::unsupported("transactions take no CHAIN and no modifiers")
        }
        Statement::Insert(insert) => return self::insert(insert),
        Statement::CreateTable(table) => return create_table(table),
        _ => return Ok(()),
    };
    Err(error.at(position(statement.span().start)))
}

fn within(what: &str) -> Error {
    Error::unsupported(format!("{what} within another statement is not supported"))
        .with_hint("write it as a statement of its own, in one transaction with the other")
}

fn insert(insert: &Insert) -> Result<()> {
    let refused = [
        (insert.on.is_some(), "ON CONFLICT"),
        (insert.returning.is_some(), "RETURNING"),
        (insert.ignore, "IGNORE"),
        (insert.partitioned.is_some(), "PARTITION"),
    ];
    first_refused(&refused, "INSERT")
}

fn create_table(table: &CreateTable) -> Result<()> {
    let refused = [
        (!table.constraints.is_empty(), "a constraint"),
        (
            table.columns.iter().any(|c| c.options.iter().any(|o| is_constraint(&o.option))),
            "PRIMARY KEY, UNIQUE, CHECK, REFERENCES, DEFAULT or GENERATED",
        ),
    ];
    if table.constraints.iter().any(|c| matches!(c, TableConstraint::Index(_))) {
        return Err(Error::unsupported("CREATE TABLE with INDEX is not supported"));
    }
    first_refused(&refused, "CREATE TABLE")
}

fn is_constraint(option: &datafusion::sql::sqlparser::ast::ColumnOption) -> bool {
    use datafusion::sql::sqlparser::ast::ColumnOption;
    !matches!(option, ColumnOption::Null | ColumnOption::NotNull | ColumnOption::Comment(_))
}

fn first_refused(clauses: &[(bool, &str)], statement: &str) -> Result<()> {
    match clauses.iter().find(|(given, _)| *given) {
        Some((_, clause)) => {
            Err(Error::unsupported(format!("{statement} with {clause} is not supported yet")))
        }
        None => Ok(()),
    }
}

pub(super) fn query(query: &mut Query) -> Result<()> {
    let at = position(query.span().start);
    if let Some(fetch) = query.fetch.take() {
        fetch_to_limit(query, fetch).map_err(|e| e.at(at))?;
    }
    let refused = [
        (!query.locks.is_empty(), "FOR UPDATE and FOR SHARE are"),
        (query.for_clause.is_some(), "FOR XML, FOR JSON and FOR BROWSE are"),
        (query.settings.is_some(), "SETTINGS is"),
        (query.format_clause.is_some(), "FORMAT is"),
    ];
    match refused.iter().find(|(given, _)| *given) {
        Some((_, clause)) => Err(Error::unsupported(format!("{clause} not supported in a query")).at(at)),
        None => Ok(()),
    }
}

/// `FETCH FIRST n ROWS ONLY` is the standard's spelling of LIMIT.
fn fetch_to_limit(query: &mut Query, fetch: Fetch) -> Result<()> {
    if fetch.with_ties || fetch.percent {
        return Err(Error::unsupported("FETCH … PERCENT and WITH TIES are not supported"));
    }
    let rows =
        fetch.quantity.unwrap_or_else(|| Expr::Value(ValueWithSpan::from(Value::Number("1".into(), false))));
    match &mut query.limit_clause {
        None => {
            query.limit_clause =
                Some(LimitClause::LimitOffset { limit: Some(rows), offset: None, limit_by: vec![] });
        }
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(rows),
        Some(_) => return Err(Error::invalid("LIMIT and FETCH exclude each other")),
    }
    Ok(())
}

pub(super) fn select(select: &Select) -> Result<()> {
    let refused = [
        (select.into.is_some(), "SELECT … INTO"),
        (select.prewhere.is_some(), "PREWHERE"),
        (!select.connect_by.is_empty(), "CONNECT BY"),
        (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
        (select.value_table_mode.is_some(), "SELECT AS STRUCT and AS VALUE"),
        (select.exclude.is_some(), "EXCLUDE after the select list"),
    ];
    match refused.iter().find(|(given, _)| *given) {
        Some((_, clause)) => {
            Err(Error::unsupported(format!("{clause} is not supported")).at(position(select.span().start)))
        }
        None => select.projection.iter().try_for_each(text_beside_text),
    }
}

/// `SELECT 'a' 'b'`: sqlparser takes the second text for the name of a column.
fn text_beside_text(item: &SelectItem) -> Result<()> {
    match item {
        SelectItem::ExprWithAlias {
            expr: Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }),
            alias,
        } if alias.quote_style == Some('\'') => {
            Err(Error::new(ErrorKind::Syntax, format!("'{text}' and '{}' stand side by side", alias.value))
                .with_hint("join texts with ||; a name of a column stands in double quotes")
                .at(position(alias.span.start)))
        }
        _ => Ok(()),
    }
}

pub(super) fn table_factor(factor: &TableFactor) -> Result<()> {
    let TableFactor::Table { with_hints, index_hints, partitions, json_path, name, .. } = factor else {
        return Ok(());
    };
    let at = position(factor.span().start);
    let hints =
        !with_hints.is_empty() || !index_hints.is_empty() || !partitions.is_empty() || json_path.is_some();
    if hints {
        return Err(Error::unsupported(format!("hints and partitions after {name} are not supported")).at(at));
    }
    Ok(())
}

/// Options of calls that DataFusion drops.
pub(super) fn expr(expr: &Expr) -> Result<()> {
    if let Expr::Like { any: true, .. } | Expr::ILike { any: true, .. } = expr {
        return Err(Error::unsupported("LIKE ANY is not supported").at(position(expr.span().start)));
    }
    Ok(())
}
