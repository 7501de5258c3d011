//! `ts::text`, `ts || ' h'`, `INSERT INTO t(some_text) SELECT ts`: times and intervals as PostgreSQL and DuckDB write them.
//!
//! | type | text | Arrow's |
//! |---|---|---|
//! | `TIMESTAMP` | `2024-03-01 12:00:00.5` | `2024-03-01T12:00:00.500` |
//! | `TIMESTAMPTZ` | `2024-03-01 12:00:00+01`, in the zone of the type | `2024-03-01T12:00:00+01:00` |
//! | `INTERVAL` | `1 mon 1 day 25:00:00` | `1 mons 1 days 25 hours` |

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, DurationNanosecondType, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use arrow::util::display::FormatOptions;
use datafusion::common::DFSchema;
use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::{Cast, TryCast};
use datafusion::logical_expr::{Expr, ExprSchemable};
use triune_common::write_span;

use super::function::{Meaning, Op};

pub(super) fn rewrite(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (inner, wanted) = match &expr {
        Expr::Cast(cast) => (&cast.expr, cast.field.data_type()),
        Expr::TryCast(cast) => (&cast.expr, cast.field.data_type()),
        _ => return Ok(Transformed::no(expr)),
    };
    if !wanted.is_string() || !inner.get_type(schema).is_ok_and(|t| has_text(&t)) {
        return Ok(Transformed::no(expr));
    }
    let write = |inner: Box<Expr>| Box::new(Meaning::call(Op::Written, *inner));
    Ok(Transformed::yes(match expr {
        Expr::Cast(Cast { expr, field }) => Expr::Cast(Cast { expr: write(expr), field }),
        Expr::TryCast(TryCast { expr, field }) => Expr::TryCast(TryCast { expr: write(expr), field }),
        other => other,
    }))
}

/// Whether values of the type have another text than Arrow gives them.
pub(crate) fn has_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Interval(_) | DataType::Duration(_))
}

/// The texts of such an array; NULL stays NULL.
///
/// *Errors*: a time outside of the calendar, a zone that is not known.
pub(crate) fn written(array: &ArrayRef) -> Result<StringArray> {
    match array.data_type() {
        DataType::Interval(_) => spans(array),
        DataType::Duration(_) => durations(array),
        _ => moments(array),
    }
}

fn moments(array: &ArrayRef) -> Result<StringArray> {
    let format_options = FormatOptions::new()
        .with_display_error(false)
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"));
    let options = CastOptions { safe: false, format_options };
    let texts = cast_with_options(array, &DataType::Utf8, &options)?;
    let texts = texts.as_string::<i32>();
    Ok(texts.iter().map(|t| t.map(shortest)).collect())
}

/// Without zeros at the end of the fraction, and without minutes of the zone where there are none.
fn shortest(text: &str) -> String {
    let text = match text.get(19..).is_some_and(|rest| rest.contains(['+', '-'])) {
        true => text.strip_suffix(":00").unwrap_or(text),
        false => text,
    };
    let Some((head, tail)) = text.split_once('.') else { return text.to_owned() };
    let digits = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
    let (fraction, zone) = tail.split_at(digits);
    match fraction.trim_end_matches('0') {
        "" => format!("{head}{zone}"),
        fraction => format!("{head}.{fraction}{zone}"),
    }
}

fn spans(array: &ArrayRef) -> Result<StringArray> {
    let spans = cast(array, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let spans = spans.as_primitive::<IntervalMonthDayNanoType>();
    Ok(texts(
        spans.len(),
        spans.iter().map(|v| v.map(|v| (v.months.into(), v.days.into(), v.nanoseconds.into()))),
    ))
}

fn durations(array: &ArrayRef) -> Result<StringArray> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let spans = cast_with_options(array, &DataType::Duration(TimeUnit::Nanosecond), &options)?;
    let spans = spans.as_primitive::<DurationNanosecondType>();
    Ok(texts(spans.len(), spans.iter().map(|v| v.map(|v| (0, 0, v.into())))))
}

fn texts(rows: usize, spans: impl Iterator<Item = Option<(i64, i64, i128)>>) -> StringArray {
    let mut out = StringBuilder::with_capacity(rows, rows * 16);
    let mut text = String::new();
    for span in spans {
        out.append_option(span.map(|(months, days, nanos)| {
            text.clear();
            write_span(months, days, nanos, &mut text);
            text.as_str()
        }));
    }
    out.finish()
}
