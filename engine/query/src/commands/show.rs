//! `SHOW TABLES [FROM schema] [LIKE 'x%' | WHERE table_type = 'VIEW']`: what users made, not what describes it.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    self, Expr, ShowStatementFilter, ShowStatementFilterPosition, ShowStatementOptions, Value,
};
use triune_common::{Error, Result};

use crate::params::Params;
use crate::parser::{name_parts, parse_query};
use crate::result::QueryResult;
use crate::session::SessionCore;

/// The relations; a filter may speak of the three columns.
pub(super) async fn tables(core: &Arc<SessionCore>, options: ShowStatementOptions) -> Result<QueryResult> {
    let ShowStatementOptions { show_in, starts_with, limit, limit_from, filter_position } = options;
    if starts_with.is_some() || limit.is_some() || limit_from.is_some() {
        return Err(Error::unsupported("SHOW TABLES with STARTS WITH or LIMIT is not supported")
            .with_hint("query information_schema.tables"));
    }
    let mut conditions = vec!["table_schema NOT IN ('information_schema', 'system')".to_owned()];
    if let Some(name) = show_in.and_then(|i| i.parent_name) {
        let parts = name_parts(&name);
        let schema = match parts.as_slice() {
            [schema] => schema,
            [catalog, schema] if catalog == crate::CATALOG => schema,
            _ => return Err(Error::not_found(format!("there is no schema {name}"))),
        };
        if !core.database().catalog().schemas.contains_key(schema) {
            return Err(Error::not_found(format!("there is no schema \"{schema}\"")));
        }
        conditions.push(format!("table_schema = {}", text(schema)));
    }
    if let Some(ShowStatementFilterPosition::Infix(filter) | ShowStatementFilterPosition::Suffix(filter)) =
        filter_position
    {
        conditions.push(condition(filter));
    }
    let query = parse_query(&format!(
        "SELECT table_schema, table_name, table_type FROM information_schema.tables \
         WHERE {} ORDER BY table_schema, table_name",
        conditions.join(" AND ")
    ))?;
    core.start(&core.plan(ast::Statement::Query(query), &Params::None).await?).await
}

fn condition(filter: ShowStatementFilter) -> String {
    match filter {
        ShowStatementFilter::Like(pattern) | ShowStatementFilter::NoKeyword(pattern) => {
            format!("table_name LIKE {}", text(&pattern))
        }
        ShowStatementFilter::ILike(pattern) => format!("table_name ILIKE {}", text(&pattern)),
        ShowStatementFilter::Where(expr) => format!("({expr})"),
    }
}

fn text(text: &str) -> String {
    Expr::value(Value::SingleQuotedString(text.replace('\'', "''"))).to_string()
}
