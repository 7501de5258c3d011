//! What users of DuckDB and PostgreSQL write, in words that DataFusion knows.
//!
//! | written | becomes |
//! |---|---|
//! | `FROM read_parquet('f')`, `read_csv`, `read_json`, `parquet_scan` … | `FROM 'f'` |
//! | `a SEMI JOIN b`, `a ANTI JOIN b` | `a LEFT SEMI JOIN b`, `a LEFT ANTI JOIN b` |
//! | `GROUP BY ()` | `GROUP BY GROUPING SETS (())` |
//! | `x COLLATE "C"` | `x`: texts are compared by their code points |

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, GroupByExpr, Ident, JoinOperator, ObjectName, Select, Spanned,
    TableFactor, Value, ValueWithSpan,
};
use triune_common::{Error, Result};

use crate::parser::position;

/// DuckDB's functions for files. What kind a file is of is told by its name.
const READERS: [&str; 9] = [
    "read_parquet",
    "parquet_scan",
    "read_csv",
    "read_csv_auto",
    "read_json",
    "read_json_auto",
    "read_ndjson",
    "read_ndjson_auto",
    "read_arrow",
];

pub(super) fn table_factor(factor: &mut TableFactor) -> Result<()> {
    let TableFactor::Table { name, args, .. } = factor else { return Ok(()) };
    let Some(reader) = reader(name) else { return Ok(()) };
    let Some(given) = args else { return Ok(()) };
    let at = position(name.span().start);
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(ValueWithSpan { value, .. })))] =
        given.args.as_slice()
    else {
        return Err(Error::unsupported(format!(
            "{reader} takes the name of one file, folder or pattern and nothing else"
        ))
        .with_hint("CREATE EXTERNAL TABLE t STORED AS … LOCATION '…' OPTIONS (…) takes options")
        .at(at));
    };
    let Value::SingleQuotedString(path) = value else {
        return Err(
            Error::invalid(format!("{reader} takes the name of a file as a text, not {value}")).at(at)
        );
    };
    *name = ObjectName::from(vec![Ident::with_quote('\'', path.clone())]);
    *args = None;
    Ok(())
}

fn reader(name: &ObjectName) -> Option<&'static str> {
    let [part] = name.0.as_slice() else { return None };
    let ident = part.as_ident()?;
    READERS.into_iter().find(|r| ident.value.eq_ignore_ascii_case(r))
}

pub(super) fn select(select: &mut Select) {
    for join in select.from.iter_mut().flat_map(|f| &mut f.joins) {
        let taken = std::mem::replace(&mut join.join_operator, JoinOperator::CrossApply);
        join.join_operator = match taken {
            JoinOperator::Semi(constraint) => JoinOperator::LeftSemi(constraint),
            JoinOperator::Anti(constraint) => JoinOperator::LeftAnti(constraint),
            other => other,
        };
    }
    if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by
        && let [Expr::Tuple(parts)] = exprs.as_slice()
        && parts.is_empty()
    {
        *exprs = vec![Expr::GroupingSets(vec![vec![]])];
    }
}

pub(super) fn expr(expr: &mut Expr) -> Result<()> {
    let Expr::Collate { expr: inner, collation } = expr else { return Ok(()) };
    let name = collation
        .0
        .last()
        .and_then(|p| p.as_ident())
        .map(|i| i.value.to_ascii_lowercase())
        .unwrap_or_default();
    if !matches!(name.as_str(), "c" | "posix" | "binary" | "ucs_basic" | "default" | "c.utf8" | "c.utf-8") {
        return Err(Error::unsupported(format!("COLLATE {collation} is not supported"))
            .with_hint("texts are compared by their code points, as with COLLATE \"C\"; lower(x) takes cases for one")
            .at(position(collation.span().start)));
    }
    *expr = std::mem::replace(inner.as_mut(), Expr::Identifier(Ident::new("")));
    Ok(())
}
