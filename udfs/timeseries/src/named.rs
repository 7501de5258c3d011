//! Named arguments of `time_bucket`, on the syntax tree.
//!
//! ```sql
//! time_bucket('1 day', ts, origin => '2024-01-01', "offset" => INTERVAL '6 hours')
//! ```
//!
//! DataFusion resolves names only when no parameter before the last given one is missing. Our optional
//! arguments know their parts by type, so names can be checked, put in order and dropped before planning.
//! Texts given for an origin or offset become literals of the right type; otherwise they would be read as
//! a time zone.

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Interval,
    TimezoneInfo, Value,
};
use triune_common::names::did_you_mean;
use triune_common::{Error, Position, Result};

use crate::time_bucket::{NAME, PARAMETERS};

/// Rewrites a call of `time_bucket` with named arguments to one without; leaves every other call alone.
///
/// Errors: an unknown or repeated name, a name for a place that is taken, a positional argument after a
/// named one, a missing width or time.
pub fn desugar_call(function: &mut Function) -> Result<()> {
    let is_ours = function.name.0.last().and_then(|p| p.as_ident()).is_some_and(|i| is(i, NAME));
    let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
    let named = list.args.iter().any(|a| !matches!(a, FunctionArg::Unnamed(_)));
    if !is_ours || !named {
        return Ok(());
    }
    let mut places: [Option<FunctionArgExpr>; PARAMETERS.len()] = Default::default();
    let mut seen_name = false;
    for (i, arg) in std::mem::take(&mut list.args).into_iter().enumerate() {
        let (name, value) = match arg {
            FunctionArg::Unnamed(value) if seen_name => {
                return Err(Error::invalid(format!(
                    "a positional argument of time_bucket follows a named one: {value}"
                )));
            }
            FunctionArg::Unnamed(value) => (None, value),
            FunctionArg::Named { name, arg, .. } => (Some(name), arg),
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => (Some(name), arg),
            FunctionArg::ExprNamed { name, .. } => {
                return Err(Error::invalid(format!(
                    "the name of an argument of time_bucket is no name: {name}"
                )));
            }
        };
        let position = name.as_ref().and_then(|n| {
            let start = n.span.start;
            (start.line > 0).then(|| Position::new(start.line, start.column))
        });
        let place = match &name {
            None => i,
            Some(name) => match PARAMETERS.iter().position(|p| is(name, p)) {
                Some(place) => place,
                None => {
                    let error =
                        Error::invalid(format!("time_bucket has no argument called \"{}\"", name.value))
                            .at(position);
                    return Err(match did_you_mean(&name.value, PARAMETERS) {
                        Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
                        None => error.with_hint(format!("it has {}", PARAMETERS.join(", "))),
                    });
                }
            },
        };
        seen_name |= name.is_some();
        let typed = match (&name, place) {
            (Some(_), 3) => text_as(value, timestamp_literal),
            (Some(_), 4) => text_as(value, interval_literal),
            _ => value,
        };
        match places.get_mut(place) {
            Some(slot) if slot.is_none() => *slot = Some(typed),
            Some(_) => {
                return Err(Error::invalid(format!("time_bucket was given \"{}\" twice", PARAMETERS[place]))
                    .at(position));
            }
            None => return Err(Error::invalid("time_bucket takes two to five arguments, got more")),
        }
    }
    for (place, parameter) in places.iter().zip(PARAMETERS).take(2) {
        if place.is_none() {
            return Err(Error::invalid(format!("time_bucket lacks its argument \"{parameter}\"")));
        }
    }
    list.args = places.into_iter().flatten().map(FunctionArg::Unnamed).collect();
    Ok(())
}

fn is(ident: &Ident, name: &str) -> bool {
    match ident.quote_style {
        Some(_) => ident.value == name,
        None => ident.value.eq_ignore_ascii_case(name),
    }
}

fn text_as(value: FunctionArgExpr, literal: fn(Expr) -> Expr) -> FunctionArgExpr {
    match value {
        FunctionArgExpr::Expr(Expr::Value(v)) if matches!(v.value, Value::SingleQuotedString(_)) => {
            FunctionArgExpr::Expr(literal(Expr::Value(v)))
        }
        other => other,
    }
}

fn timestamp_literal(text: Expr) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(text),
        data_type: DataType::Timestamp(None, TimezoneInfo::None),
        array: false,
        format: None,
    }
}

fn interval_literal(text: Expr) -> Expr {
    Expr::Interval(Interval {
        value: Box::new(text),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    })
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn rewritten(sql: &str) -> Result<String> {
        let mut expr = Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).unwrap().parse_expr().unwrap();
        let Expr::Function(function) = &mut expr else { panic!("{sql} is no call") };
        desugar_call(function)?;
        Ok(expr.to_string())
    }

    #[test]
    fn names_are_put_in_order_and_dropped() {
        let cases = [
            ("time_bucket('1 d', ts)", "time_bucket('1 d', ts)"),
            ("time_bucket(ts => t, bucket_width => '1 d')", "time_bucket('1 d', t)"),
            (
                "time_bucket('1 d', ts, \"offset\" => '6 h', timezone => 'UTC')",
                "time_bucket('1 d', ts, 'UTC', INTERVAL '6 h')",
            ),
            (
                "time_bucket('1 d', ts, offset => INTERVAL '6 h', origin => '2024-01-01')",
                "time_bucket('1 d', ts, CAST('2024-01-01' AS TIMESTAMP), INTERVAL '6 h')",
            ),
            ("other(a => 1)", "other(a => 1)"),
        ];
        for (sql, want) in cases {
            assert_eq!(rewritten(sql).unwrap(), want);
        }
    }

    #[test]
    fn wrong_names_are_refused() {
        let cases = [
            ("time_bucket('1 d', ts, zone => 'UTC')", "time_bucket has no argument called \"zone\"; it has"),
            ("time_bucket('1 d', ts, orgin => t)", "did you mean \"origin\"?"),
            ("time_bucket('1 d', ts, ts => t)", "time_bucket was given \"ts\" twice"),
            ("time_bucket(timezone => 'UTC', ts => t)", "time_bucket lacks its argument \"bucket_width\""),
            (
                "time_bucket(ts => t, '1 d')",
                "a positional argument of time_bucket follows a named one: '1 d'",
            ),
        ];
        for (sql, want) in cases {
            let got = rewritten(sql).unwrap_err().to_string();
            assert!(got.contains(want), "{sql}: {got}");
        }
    }
}
