//! `VALUES`: rows of constants become columns without being planned; anything else becomes a query.
//!
//! ```text
//! VALUES (1, 'a', DEFAULT), ($1, 'b', now())
//!   column 0: constants → an array     column 1: constants → an array     column 2: planned
//! ```
//!
//! A number that is written out keeps all its digits on the way into a DECIMAL column.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, CastKind, Expr, Parens, UnaryOperator, Value};
use triune_common::{Error, Result};

use super::assign::{RowError, to_column};
use super::query;
use super::target::Target;
use crate::params::{self, Params};
use crate::visit;

/// One cell that needs no planning.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    Value(ScalarValue),
    Default,
}

/// What a cell says, where that can be told without planning it.
pub(super) fn constant(expr: &Expr, decimal: bool, params: &Params) -> Option<Cell> {
    Some(Cell::Value(match expr {
        Expr::Identifier(name)
            if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("default") =>
        {
            return Some(Cell::Default);
        }
        Expr::Nested(inner) => return constant(inner, decimal, params),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(v) => match &v.value {
                Value::Number(digits, _) => number(&format!("-{digits}"), decimal)?,
                _ => return None,
            },
            _ => return None,
        },
        Expr::Value(v) => match &v.value {
            Value::Number(digits, _) => number(digits, decimal)?,
            Value::SingleQuotedString(s)
            | Value::EscapedStringLiteral(s)
            | Value::UnicodeStringLiteral(s) => ScalarValue::Utf8(Some(s.clone())),
            Value::DollarQuotedString(s) => ScalarValue::Utf8(Some(s.value.clone())),
            Value::Boolean(b) => ScalarValue::Boolean(Some(*b)),
            Value::Null => ScalarValue::Null,
            Value::Placeholder(name) => params::value(params, name)?.clone(),
            _ => return None,
        },
        _ => return None,
    }))
}

/// A number as the planner reads it; for a DECIMAL column, its digits.
fn number(digits: &str, decimal: bool) -> Option<ScalarValue> {
    let digits = digits.replace('_', "");
    if decimal {
        return Some(ScalarValue::Utf8(Some(digits)));
    }
    if let Ok(n) = digits.parse::<i64>() {
        return Some(ScalarValue::Int64(Some(n)));
    }
    if let Ok(n) = digits.parse::<u64>() {
        return Some(ScalarValue::UInt64(Some(n)));
    }
    digits.parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| ScalarValue::Float64(Some(n)))
}

pub(super) fn is_decimal(field: &Field) -> bool {
    matches!(field.data_type(), DataType::Decimal128(..) | DataType::Decimal256(..))
}

/// A column of constants in its own type; the second says which rows ask for the DEFAULT, which are `None` here.
pub(super) fn column(
    cells: &[Option<Cow<'_, ScalarValue>>],
    field: &Field,
) -> Result<(ArrayRef, Vec<bool>), RowError> {
    let defaults: Vec<bool> = cells.iter().map(Option::is_none).collect();
    let values: Vec<&ScalarValue> =
        cells.iter().map(|c| c.as_ref().map_or(&ScalarValue::Null, AsRef::as_ref)).collect();
    if let Some(array) = of_one_kind(&values) {
        let from = Field::new("", array.data_type().clone(), true);
        return Ok((to_column(&array, &from, field)?, defaults));
    }
    let kind = values.iter().map(|v| v.data_type()).find(|t| !t.is_null());
    let one_kind = kind
        .as_ref()
        .is_some_and(|kind| values.iter().all(|v| v.data_type() == *kind || v.data_type().is_null()));
    if let (true, Some(kind)) = (one_kind, &kind) {
        let array = general(&values, kind).map_err(|error| RowError { row: 0, error })?;
        let from = Field::new("", kind.clone(), true);
        return Ok((to_column(&array, &from, field)?, defaults));
    }
    // Values of several types in one column: each is converted by itself.
    let mut parts = Vec::with_capacity(values.len());
    for (row, value) in values.into_iter().enumerate() {
        let from = Field::new("", value.data_type(), true);
        let one = value.to_array_of_size(1).map_err(|e| RowError { row, error: e.into() })?;
        parts.push(to_column(&one, &from, field).map_err(|e| RowError { row, error: e.error })?);
    }
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    let all = arrow::compute::concat(&parts).map_err(|e| RowError { row: 0, error: e.into() })?;
    Ok((all, defaults))
}

/// Values of one type, and NULLs of none.
fn general(values: &[&ScalarValue], kind: &DataType) -> Result<ArrayRef> {
    let typed = values.iter().map(|v| match v.data_type().is_null() {
        true => Ok(ScalarValue::try_from(kind)?),
        false => Ok((*v).clone()),
    });
    Ok(ScalarValue::iter_to_array(typed.collect::<Result<Vec<_>>>()?)?)
}

/// A cell without a copy of a parameter's value; `None` within: the DEFAULT, `None`: it has to be planned.
fn cell<'a>(expr: &Expr, decimal: bool, params: &'a Params) -> Option<Option<Cow<'a, ScalarValue>>> {
    if let Expr::Value(v) = expr
        && let Value::Placeholder(name) = &v.value
    {
        return params::value(params, name).map(|value| Some(Cow::Borrowed(value)));
    }
    Some(match constant(expr, decimal, params)? {
        Cell::Value(value) => Some(Cow::Owned(value)),
        Cell::Default => None,
    })
}

/// What [`general`] makes of the values, for the common types and without a copy of each; `None` for others.
fn of_one_kind(values: &[&ScalarValue]) -> Option<ArrayRef> {
    macro_rules! gather {
        ($variant:ident, $array:ty) => {{
            let values = values.iter().map(|v| match v {
                ScalarValue::$variant(value) => Some(value.as_ref()),
                ScalarValue::Null => Some(None),
                _ => None,
            });
            let values = values.collect::<Option<Vec<_>>>()?;
            Some(Arc::new(values.into_iter().map(Option::<&_>::copied).collect::<$array>()) as ArrayRef)
        }};
    }
    match values.iter().find(|v| !matches!(v, ScalarValue::Null))? {
        ScalarValue::Int64(_) => gather!(Int64, Int64Array),
        ScalarValue::Int32(_) => gather!(Int32, Int32Array),
        ScalarValue::Float64(_) => gather!(Float64, Float64Array),
        ScalarValue::Boolean(_) => gather!(Boolean, BooleanArray),
        ScalarValue::Utf8(_) => {
            let texts = values.iter().map(|v| match v {
                ScalarValue::Utf8(text) => Some(text.as_deref()),
                ScalarValue::Null => Some(None),
                _ => None,
            });
            let texts = texts.collect::<Option<Vec<_>>>()?;
            Some(Arc::new(StringArray::from(texts)))
        }
        ScalarValue::TimestampMicrosecond(_, None) => {
            let times = values.iter().map(|v| match v {
                ScalarValue::TimestampMicrosecond(time, None) => Some(*time),
                ScalarValue::Null => Some(None),
                _ => None,
            });
            let times = times.collect::<Option<Vec<_>>>()?;
            Some(Arc::new(TimestampMicrosecondArray::from(times)))
        }
        ScalarValue::FixedSizeList(first) => {
            let lists = values.iter().map(|v| match v {
                ScalarValue::FixedSizeList(list) if list.data_type() == first.data_type() => {
                    Some(list.as_ref() as &dyn Array)
                }
                _ => None,
            });
            arrow::compute::concat(&lists.collect::<Option<Vec<_>>>()?).ok()
        }
        _ => None,
    }
}

/// The rows of a `VALUES`, where the query is nothing else.
pub(super) fn rows_of(query: &ast::Query) -> Option<&[Parens<Vec<Expr>>]> {
    let plain = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty();
    match query.body.as_ref() {
        ast::SetExpr::Values(values) if plain => Some(&values.rows),
        _ => None,
    }
}

/// Makes a `VALUES` with expressions fit for the planner: every DEFAULT is written out, and where a column is not all
/// constants its cells are cast to one type. The DEFAULT of an identity or a generated column becomes NULL; which rows those are is returned,
/// by place in the rows.
pub(super) fn spell_out(
    query: &mut ast::Query,
    target: &Target,
    places: &[usize],
    params: &Params,
) -> Result<Vec<Option<Vec<bool>>>> {
    let ast::SetExpr::Values(values) = query.body.as_mut() else { return Ok(vec![None; places.len()]) };
    let mut generate = vec![None; places.len()];
    for (at, place) in places.iter().enumerate() {
        let column = target.column(*place);
        let decimal = is_decimal(&column.field);
        let mut asks = vec![false; values.rows.len()];
        for (row, asks) in values.rows.iter_mut().zip(&mut asks) {
            let Some(cell) = row.content.get_mut(at) else { continue };
            match constant(cell, decimal, params) {
                Some(Cell::Default) if column.identity.is_some() || column.generated.is_some() => {
                    *asks = true;
                    *cell = query::literal(Value::Null);
                }
                Some(Cell::Default) => {
                    *cell = match &column.default {
                        Some(text) => super::rows::expression(text)?,
                        None => query::literal(Value::Null),
                    };
                }
                Some(Cell::Value(ScalarValue::Utf8(Some(digits)))) if decimal => {
                    *cell = query::literal(Value::SingleQuotedString(digits));
                }
                // The planner knows no type for a parameter that stands alone.
                Some(Cell::Value(value)) if is_placeholder(cell) => {
                    *cell = literal_of(&value).unwrap_or_else(|| cast(cell, &column.field));
                }
                None if is_placeholder(cell) => *cell = cast(cell, &column.field),
                _ => {}
            }
        }
        if asks.contains(&true) {
            generate[at] = Some(asks);
        }
        let mixed = values.rows.iter().any(|row| {
            row.content.get(at).is_some_and(|cell| {
                let constant = constant(cell, decimal, &Params::None);
                !matches!(constant, Some(Cell::Value(_)))
            })
        });
        let castable = !column.field.data_type().is_nested()
            && !column.field.data_type().is_numeric()
            && !column.field.data_type().is_string();
        if mixed {
            for row in &mut values.rows {
                let Some(cell) = row.content.get_mut(at) else { continue };
                // A number in quotes beside terms would make the planner read the terms as texts, or it as theirs.
                let quoted = column.field.data_type().is_numeric()
                    && matches!(
                        constant(cell, decimal, &Params::None),
                        Some(Cell::Value(ScalarValue::Utf8(Some(_))))
                    );
                if castable || decimal || quoted {
                    *cell = cast(cell, &column.field);
                }
            }
        }
    }
    if has_query(values) {
        query.body = as_union(values, &generate)?;
    }
    Ok(generate)
}

fn has_query(values: &ast::Values) -> bool {
    visit::any(values, |e| matches!(e, Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. }))
}

/// DataFusion evaluates VALUES while it plans, when no sub-query has run: `SELECT … UNION ALL SELECT …` instead.
fn as_union(values: &ast::Values, generate: &[Option<Vec<bool>>]) -> Result<Box<ast::SetExpr>> {
    const MOST: usize = 100;
    if values.rows.len() > MOST {
        return Err(Error::unsupported(format!("VALUES with sub-queries take at most {MOST} rows"))
            .with_hint("write INSERT … SELECT"));
    }
    // A union's rows come in any order.
    if generate.iter().flatten().any(|rows| rows.contains(&false)) {
        return Err(Error::unsupported(
            "VALUES with sub-queries take DEFAULT for an identity column in all rows or in none",
        ));
    }
    let mut union: Option<Box<ast::SetExpr>> = None;
    for row in &values.rows {
        let items = row
            .content
            .iter()
            .enumerate()
            .map(|(i, e)| query::item(e.clone(), format!("column{i}")))
            .collect();
        let select = query::select(None, items, vec![], None)?.body;
        union = Some(match union {
            None => select,
            Some(left) => Box::new(ast::SetExpr::SetOperation {
                op: ast::SetOperator::Union,
                set_quantifier: ast::SetQuantifier::All,
                left,
                right: select,
            }),
        });
    }
    union.ok_or_else(|| Error::internal("VALUES without rows"))
}

fn is_placeholder(cell: &Expr) -> bool {
    match cell {
        Expr::Nested(inner) => is_placeholder(inner),
        Expr::Value(v) => matches!(v.value, Value::Placeholder(_)),
        _ => false,
    }
}

/// A parameter's value as it could be written out.
fn literal_of(value: &ScalarValue) -> Option<Expr> {
    Some(query::literal(match value {
        value if value.is_null() => Value::Null,
        ScalarValue::Int64(Some(n)) if *n >= 0 => Value::Number(n.to_string(), false),
        ScalarValue::Utf8(Some(s)) => Value::SingleQuotedString(s.clone()),
        ScalarValue::Boolean(Some(b)) => Value::Boolean(*b),
        _ => return None,
    }))
}

/// `CAST(cell AS …)` to a column's type.
fn cast(cell: &Expr, field: &Field) -> Expr {
    let type_name = match crate::types::sql_type_name(field) {
        // The planner knows binaries by PostgreSQL's name.
        name if name == "BLOB" => "BYTEA".to_owned(),
        name => name,
    };
    let template = super::rows::expression(&format!("CAST(NULL AS {type_name})"));
    let data_type = match template {
        Ok(Expr::Nested(inner)) => match *inner {
            Expr::Cast { data_type, .. } => data_type,
            _ => return cell.clone(),
        },
        _ => return cell.clone(),
    };
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(cell.clone()), data_type, array: false, format: None }
}

/// Every row of a VALUES has as many cells as there are columns to fill.
pub(super) fn check_width(rows: &[Parens<Vec<Expr>>], columns: usize) -> Result<()> {
    match rows.iter().position(|r| r.content.len() != columns) {
        Some(row) => {
            let found = rows[row].content.len();
            let which = if rows.len() == 1 { String::new() } else { format!("row {} has ", row + 1) };
            Err(wrong_width(&which, found, columns))
        }
        None => Ok(()),
    }
}

pub(super) fn wrong_width(which: &str, found: usize, columns: usize) -> Error {
    let few = if found < columns { "few" } else { "many" };
    Error::invalid(format!(
        "{which}too {few} values: {found} for {columns} {}",
        if columns == 1 { "column" } else { "columns" }
    ))
}

/// The columns of a `VALUES` of constants; `None` when a cell has to be planned.
#[expect(clippy::type_complexity, reason = "a column and which rows ask for its default")]
pub(super) fn columns(
    rows: &[Parens<Vec<Expr>>],
    target: &Target,
    places: &[usize],
    params: &Params,
) -> Result<Option<Vec<(ArrayRef, Vec<bool>)>>> {
    let mut columns = Vec::with_capacity(places.len());
    for (at, place) in places.iter().enumerate() {
        let field = &target.column(*place).field;
        let decimal = is_decimal(field);
        let cells: Option<Vec<_>> =
            rows.iter().map(|row| cell(row.content.get(at)?, decimal, params)).collect();
        let Some(cells) = cells else { return Ok(None) };
        columns.push(column(&cells, field).map_err(|e| super::insert::in_row(e, rows.len() > 1, 0))?);
    }
    Ok(Some(columns))
}

#[cfg(test)]
mod tests {
    use arrow::array::{FixedSizeListArray, Float32Array};
    use datafusion::common::ScalarValue as S;
    use proptest::prelude::*;

    use super::*;

    fn list(from: f32, dims: i32) -> S {
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let values = Float32Array::from_iter_values((0..dims).map(|i| from + i as f32));
        S::FixedSizeList(Arc::new(FixedSizeListArray::new(item, dims, Arc::new(values), None)))
    }

    fn scalar() -> impl Strategy<Value = S> {
        let n = || prop::option::weighted(0.8, -5..5i64);
        prop_oneof![
            8 => n().prop_map(S::Int64),
            1 => n().prop_map(|v| S::Int32(v.map(|v| v as i32))),
            1 => n().prop_map(|v| S::Float64(v.map(|v| v as f64))),
            1 => n().prop_map(|v| S::Boolean(v.map(|v| v > 0))),
            1 => n().prop_map(|v| S::Utf8(v.map(|v| v.to_string()))),
            1 => n().prop_map(|v| S::TimestampMicrosecond(v, None)),
            1 => n().prop_map(|v| S::TimestampMicrosecond(v, Some("UTC".into()))),
            1 => (0..5u8, 2..4i32).prop_map(|(v, dims)| list(f32::from(v), dims)),
            1 => Just(S::Null),
        ]
    }

    /// Mostly of one type.
    fn scalars() -> impl Strategy<Value = Vec<S>> {
        let one = scalar().prop_flat_map(|first| {
            let kind = first.data_type();
            let same = scalar().prop_map(move |s| if s.data_type() == kind { s } else { first.clone() });
            prop::collection::vec(same, 1..20)
        });
        prop_oneof![4 => one, 1 => prop::collection::vec(scalar(), 1..6)]
    }

    proptest! {
        #[test]
        fn the_quick_way_makes_what_the_general_way_makes(values in scalars()) {
            let refs: Vec<&S> = values.iter().collect();
            let kind = values.iter().map(S::data_type).find(|t| !t.is_null()).unwrap_or(DataType::Null);
            let one = values.iter().all(|v| v.data_type() == kind || v.data_type().is_null());
            match of_one_kind(&refs) {
                Some(quick) => prop_assert_eq!(&quick, &general(&refs, &kind).unwrap()),
                None => prop_assert!(
                    !one || kind.is_nested() || matches!(kind, DataType::Null | DataType::Timestamp(_, Some(_)))
                ),
            }
        }
    }
}
