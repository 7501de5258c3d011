//! Moments as people write them: without seconds, with one digit for a month.
//!
//! | text | read as |
//! |---|---|
//! | `2024-03-01 12:00` | `2024-03-01 12:00:00` |
//! | `2024-3-1 9:05+02` | `2024-03-01 09:05:00+02` |
//! | `2024-3-1` | `2024-03-01` |
//!
//! Other texts stay as they are, and are read or refused by Arrow.

use std::borrow::Cow;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Cast, TryCast};
use datafusion::logical_expr::{Expr, ExprSchemable};

use super::function::{Meaning, Op};

pub(super) fn rewrite(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (inner, wanted) = match &expr {
        Expr::Cast(cast) => (&cast.expr, cast.field.data_type()),
        Expr::TryCast(cast) => (&cast.expr, cast.field.data_type()),
        _ => return Ok(Transformed::no(expr)),
    };
    let is_moment = matches!(wanted, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
    if !is_moment || Meaning::is(Op::WithSeconds, inner) {
        return Ok(Transformed::no(expr));
    }
    if !inner.get_type(schema).is_ok_and(|t| t.is_string()) {
        return Ok(Transformed::no(expr));
    }
    let read = |inner: Box<Expr>| Box::new(Meaning::call(Op::WithSeconds, *inner));
    Ok(Transformed::yes(match expr {
        Expr::Cast(Cast { expr, field }) => Expr::Cast(Cast { expr: read(expr), field }),
        Expr::TryCast(TryCast { expr, field }) => Expr::TryCast(TryCast { expr: read(expr), field }),
        other => other,
    }))
}

/// The text with what it leaves out of a moment.
pub(crate) fn with_seconds(text: &str) -> Cow<'_, str> {
    complete(text.trim()).map_or(Cow::Borrowed(text), Cow::Owned)
}

fn complete(text: &str) -> Option<String> {
    let (year, rest) = number(text, 4..=9)?;
    let (month, rest) = number(rest.strip_prefix('-')?, 1..=2)?;
    let (day, rest) = number(rest.strip_prefix('-')?, 1..=2)?;
    let date = format!("{year}-{month:0>2}-{day:0>2}");
    let clock = rest.trim_start_matches(' ');
    if clock.is_empty() {
        return Some(date);
    }
    let clock = match clock.strip_prefix(['T', 't']) {
        Some(clock) => clock,
        None if clock.len() < rest.len() => clock,
        None => return None,
    };
    let (hour, rest) = number(clock, 1..=2)?;
    let (minute, rest) = number(rest.strip_prefix(':')?, 2..=2)?;
    Some(match rest.strip_prefix(':') {
        Some(seconds) => format!("{date} {hour:0>2}:{minute}:{seconds}"),
        None => format!("{date} {hour:0>2}:{minute}:00{rest}"),
    })
}

/// The digits that a text begins with, if there are so many, and what follows them.
fn number(text: &str, lengths: std::ops::RangeInclusive<usize>) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    lengths.contains(&end).then(|| text.split_at(end))
}
