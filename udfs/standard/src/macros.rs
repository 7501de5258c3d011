//! Functions that are other expressions, on the syntax tree.
//!
//! ```text
//! arg_max(name, size)                             last(name, size) IGNORE NULLS
//! percentile_disc(0.9) WITHIN GROUP (ORDER BY x)  array_element(array_agg(x ORDER BY x) FILTER (…), …)
//! t AT TIME ZONE 'UTC'                            timezone('UTC', t)
//! ```
//!
//! | calls | whose meaning |
//! |---|---|
//! | `any_value(x)`, `arbitrary(x)` | PostgreSQL 16: a value that is not NULL |
//! | `arg_max(x, by)`, `max_by`, `arg_min(x, by)`, `min_by` | DuckDB: rows with a NULL do not count; of equal `by` the largest (smallest) `x` |
//! | `first(x ORDER BY …)`, `last(x ORDER BY …)` | DuckDB |
//! | `percentile_disc(p) WITHIN GROUP (ORDER BY x)`, `quantile_disc(x, p)`, `quantile(x, p)` | PostgreSQL: the first value that so much of all are at or below |
//! | `count_if(c)`, `string_agg(x)`, `group_concat(x)`, `listagg(x)` | DuckDB |
//! | `list_sort(l)`, `array_sort(l)` | DuckDB: NULL last |
//! | `year(t)`, `month(t)`, … `dayname(t)`, `monthname(t)`, `epoch(t)`, `date_add(t, i)` | DuckDB |

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, Ident, NullTreatment, ObjectName, OrderByExpr, OrderByOptions,
    UnaryOperator, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use triune_common::{Error, Result};

/// Calls that are an expression of their arguments: name, number of arguments, expression.
const MACROS: [(&str, usize, &str); 28] = [
    ("list_sort", 1, "array_sort($1, 'ASC', 'NULLS LAST')"),
    ("list_sort", 2, "array_sort($1, $2, 'NULLS LAST')"),
    ("array_sort", 1, "array_sort($1, 'ASC', 'NULLS LAST')"),
    ("array_sort", 2, "array_sort($1, $2, 'NULLS LAST')"),
    ("list_reverse_sort", 1, "array_sort($1, 'DESC', 'NULLS LAST')"),
    ("epoch", 1, "date_part('epoch', $1)"),
    ("year", 1, "date_part('year', $1)"),
    ("month", 1, "date_part('month', $1)"),
    ("day", 1, "date_part('day', $1)"),
    ("dayofmonth", 1, "date_part('day', $1)"),
    ("hour", 1, "date_part('hour', $1)"),
    ("minute", 1, "date_part('minute', $1)"),
    ("quarter", 1, "date_part('quarter', $1)"),
    ("week", 1, "date_part('week', $1)"),
    ("weekofyear", 1, "date_part('week', $1)"),
    ("isodow", 1, "date_part('isodow', $1)"),
    ("dayofweek", 1, "date_part('dow', $1)"),
    ("weekday", 1, "date_part('dow', $1)"),
    ("dayofyear", 1, "date_part('doy', $1)"),
    ("isoyear", 1, "date_part('isoyear', $1)"),
    ("decade", 1, "date_part('decade', $1)"),
    ("century", 1, "date_part('century', $1)"),
    ("millennium", 1, "date_part('millennium', $1)"),
    ("yearweek", 1, "date_part('yearweek', $1)"),
    ("julian", 1, "date_part('julian', $1)"),
    ("dayname", 1, "to_char($1, 'FMDay')"),
    ("monthname", 1, "to_char($1, 'FMMonth')"),
    ("date_add", 2, "$1 + $2"),
];

/// Those calls that take many rows.
pub(crate) const AGGREGATES: [&str; 13] = [
    "any_value",
    "arbitrary",
    "arg_max",
    "arg_min",
    "argmax",
    "argmin",
    "count_if",
    "countif",
    "max_by",
    "min_by",
    "percentile_disc",
    "quantile",
    "quantile_disc",
];

/// Rewrites an expression of this module to those that the engine has; leaves every other one alone.
///
/// Errors: a share of a percentile that is no constant from 0 to 1, and one over a window.
pub fn desugar(expr: &mut Expr) -> Result<()> {
    if let Expr::AtTimeZone { timestamp, time_zone } = expr {
        let args =
            [time_zone, timestamp].map(|e| std::mem::replace(e.as_mut(), Expr::Identifier(Ident::new(""))));
        *expr = Expr::Function(call("timezone", args.to_vec()));
        return Ok(());
    }
    if let Expr::UnaryOp { op: UnaryOperator::Minus, expr: powers } = expr
        && is_power(powers)
    {
        let mut powers = std::mem::replace(powers.as_mut(), Expr::Identifier(Ident::new("")));
        negate_base(&mut powers);
        *expr = powers;
        return Ok(());
    }
    let Expr::Function(function) = expr else { return Ok(()) };
    let name = match function.name.0.as_slice() {
        [part] => match part.as_ident() {
            Some(ident) if ident.quote_style.is_some() => ident.value.clone(),
            Some(ident) => ident.value.to_lowercase(),
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
    let Some(args) = plain(&list.args) else { return Ok(()) };
    match (name.as_str(), args.as_slice()) {
        ("any_value" | "arbitrary", [_]) => {
            function.name = named("first_value");
            function.null_treatment = Some(NullTreatment::IgnoreNulls);
        }
        ("arg_max" | "argmax" | "max_by", [_, _]) => {
            function.name = named("last");
            function.null_treatment = Some(NullTreatment::IgnoreNulls);
        }
        ("arg_min" | "argmin" | "min_by", [_, _]) => {
            function.name = named("first");
            function.null_treatment = Some(NullTreatment::IgnoreNulls);
        }
        ("first" | "last", [_])
            if list.clauses.iter().any(|c| matches!(c, FunctionArgumentClause::OrderBy(_))) =>
        {
            function.name = named(&format!("{name}_value"));
        }
        ("string_agg" | "group_concat" | "listagg", [_]) => {
            let comma = Expr::Value(Value::SingleQuotedString(",".to_owned()).into());
            list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(comma)));
        }
        // In its place: FILTER, OVER and DISTINCT stay with it.
        ("count_if" | "countif", [condition]) => {
            let counted = filled("CASE WHEN $1 THEN 1 END", std::slice::from_ref(condition))?;
            function.name = named("count");
            list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(counted))];
        }
        ("percentile_disc", [share]) if function.within_group.len() == 1 => {
            let order = function.within_group[0].clone();
            let share = share.clone();
            *expr = Expr::Function(percentile(function, &name, &share, order)?);
        }
        ("quantile_disc" | "quantile", [value, share]) => {
            let options = OrderByOptions { asc: Some(true), nulls_first: None };
            let order = OrderByExpr { expr: value.clone(), options, with_fill: None };
            let share = share.clone();
            *expr = Expr::Function(percentile(function, &name, &share, order)?);
        }
        (_, args) => {
            let bare = function.over.is_none() && function.filter.is_none() && list.clauses.is_empty();
            let known = MACROS.iter().find(|(n, count, _)| *n == name && *count == args.len());
            if let (Some((_, _, body)), true) = (known, bare) {
                *expr = filled(body, args)?;
            }
        }
    }
    Ok(())
}

fn is_power(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::PGExp, .. })
}

/// A minus binds closer than `^`, as in PostgreSQL and DuckDB: it belongs to the first operand.
fn negate_base(expr: &mut Expr) {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::PGExp, .. } => negate_base(left),
        base => {
            let inner = std::mem::replace(base, Expr::Identifier(Ident::new("")));
            let negative = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(inner) };
            *base = Expr::Nested(Box::new(negative));
        }
    }
}

/// The arguments of a call without names and stars.
fn plain(args: &[FunctionArg]) -> Option<Vec<Expr>> {
    args.iter()
        .map(|a| match a {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e.clone()),
            _ => None,
        })
        .collect()
}

fn named(name: &str) -> ObjectName {
    ObjectName::from(vec![Ident::new(name)])
}

fn call(name: &str, args: Vec<Expr>) -> Function {
    let args = args.into_iter().map(|a| FunctionArg::Unnamed(FunctionArgExpr::Expr(a))).collect();
    Function {
        name: named(name),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    }
}

/// The expression of a macro, with arguments in the places of `$1` and `$2`.
fn filled(body: &str, args: &[Expr]) -> Result<Expr> {
    struct Fill<'a>(&'a [Expr]);
    impl VisitorMut for Fill<'_> {
        type Break = ();
        /// After its children: what was put in is not looked at again.
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Value(value) = expr
                && let Value::Placeholder(place) = &value.value
                && let Some(arg) = place[1..].parse().ok().and_then(|n: usize| self.0.get(n - 1))
            {
                *expr = Expr::Nested(Box::new(arg.clone()));
            }
            ControlFlow::Continue(())
        }
    }
    let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(body).and_then(|mut p| p.parse_expr());
    let mut expr = parsed.map_err(|e| Error::internal(format!("the macro {body:?} cannot be read: {e}")))?;
    let _ = VisitMut::visit(&mut expr, &mut Fill(args));
    Ok(Expr::Nested(Box::new(expr)))
}

/// The element at place `ceil(share * count)` of the values in order, at least the first.
fn percentile(function: &Function, name: &str, share: &Expr, order: OrderByExpr) -> Result<Function> {
    if function.over.is_some() {
        return Err(Error::unsupported(format!("{name} is not supported over a window")));
    }
    let within = |text: &str| text.parse::<f64>().is_ok_and(|p| (0.0..=1.0).contains(&p));
    match share {
        Expr::Value(v) if matches!(&v.value, Value::Number(text, _) if within(text)) => {}
        other => {
            return Err(Error::invalid(format!(
                "{name} takes a number from 0 to 1, written out, got {other}"
            )));
        }
    }
    let present = Expr::IsNotNull(Box::new(Expr::Nested(Box::new(order.expr.clone()))));
    let filter = match &function.filter {
        None => present,
        Some(filter) => Expr::BinaryOp {
            left: Box::new(Expr::Nested(filter.clone())),
            op: BinaryOperator::And,
            right: Box::new(present),
        },
    };
    let distinct = match &function.args {
        FunctionArguments::List(list) => list.duplicate_treatment,
        _ => None,
    };
    let mut all = call("array_agg", vec![order.expr.clone()]);
    let mut count = call("count", vec![order.expr.clone()]);
    all.filter = Some(Box::new(filter.clone()));
    count.filter = Some(Box::new(filter));
    if let FunctionArguments::List(list) = &mut count.args {
        list.duplicate_treatment = distinct;
    }
    if let FunctionArguments::List(list) = &mut all.args {
        list.duplicate_treatment = distinct;
        list.clauses.push(FunctionArgumentClause::OrderBy(vec![order]));
    }
    let count = Expr::Function(count);
    // In whole numbers where they suffice: 0.07 * 100 is above 7 in doubles.
    let place = match fraction(&share.to_string()) {
        Some((over, under)) => {
            let number = |n: i64| Expr::Value(Value::Number(n.to_string(), false).into());
            let args = [count, number(over), number(under - 1), number(under)];
            filled("CAST(greatest(($1 * $2 + $3) / $4, 1) AS BIGINT)", &args)?
        }
        None => filled("CAST(greatest(ceil($1 * $2), 1) AS BIGINT)", &[share.clone(), count])?,
    };
    Ok(call("array_element", vec![Expr::Function(all), place]))
}

/// A number of at most six digits behind its point as a fraction.
fn fraction(share: &str) -> Option<(i64, i64)> {
    let (whole, digits) = share.split_once('.').unwrap_or((share, ""));
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if digits.len() > 6 || !plain(whole) || !plain(digits) {
        return None;
    }
    let under = 10i64.pow(u32::try_from(digits.len()).ok()?);
    Some((format!("{whole}{digits}").parse().ok()?, under))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(sql: &str) -> Result<String> {
        let mut expr = Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).unwrap().parse_expr().unwrap();
        desugar(&mut expr)?;
        Ok(expr.to_string())
    }

    #[test]
    fn calls_become_others() {
        let cases = [
            ("t AT TIME ZONE 'UTC'", "timezone('UTC', t)"),
            ("arg_max(a, b)", "last(a, b) IGNORE NULLS"),
            ("year(d)", "(date_part('year', (d)))"),
            ("-2 ^ 2", "(-2) ^ 2"),
            ("-2 ^ 3 ^ 2", "(-2) ^ 3 ^ 2"),
            ("-(2 ^ 2)", "-(2 ^ 2)"),
            ("3 - 2 ^ 2", "3 - 2 ^ 2"),
            ("count_if(a) FILTER (WHERE b)", "count((CASE WHEN (a) THEN 1 END)) FILTER (WHERE b)"),
            ("count_if(DISTINCT a)", "count(DISTINCT (CASE WHEN (a) THEN 1 END))"),
            ("date_add($2, $1)", "(($2) + ($1))"),
            ("string_agg(x)", "string_agg(x, ',')"),
            ("first(x ORDER BY y)", "first_value(x ORDER BY y)"),
            ("first(x, y)", "first(x, y)"),
            ("\"YEAR\"(d)", "\"YEAR\"(d)"),
        ];
        for (sql, want) in cases {
            assert_eq!(rewritten(sql).unwrap(), want, "{sql}");
        }
        assert!(rewritten("quantile_disc(x, 2)").is_err());
        assert_eq!(fraction("0.07"), Some((7, 100)));
        assert_eq!(fraction(".5"), Some((5, 10)));
        assert_eq!(fraction("1"), Some((1, 1)));
        assert_eq!(fraction("5e-1"), None);
    }

    #[test]
    fn every_macro_can_be_read() {
        for (name, count, body) in MACROS {
            let args = vec![Expr::Identifier(Ident::new("x")); count];
            let expr = filled(body, &args).unwrap();
            assert!(!expr.to_string().contains('$'), "{name}");
        }
    }
}
