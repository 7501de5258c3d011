//! `2.5::int`, `CAST(-1.005 AS DECIMAL(10, 2))`: a number with a point that is cast where it stands is a decimal with
//! the digits that are written, not the float that is nearest to it.

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, ExactNumberInfo, Expr, UnaryOperator, Value, ValueWithSpan,
};

pub(super) fn rewrite(expr: &mut Expr) {
    const MOST_DIGITS: usize = 38;
    let Expr::Cast { expr: inner, data_type, .. } = expr else { return };
    if !is_exact(data_type) {
        return;
    }
    let Some(text) = written(inner).filter(|t| t.contains('.')) else { return };
    let (whole, fraction) = text.trim_start_matches('-').split_once('.').unwrap_or_default();
    let digits = whole.len() + fraction.len();
    if !(1..=MOST_DIGITS).contains(&digits)
        || !(whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit())
    {
        return;
    }
    let (Ok(precision), Ok(scale)) = (u64::try_from(digits), i64::try_from(fraction.len())) else { return };
    **inner = Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::Value(ValueWithSpan::from(Value::SingleQuotedString(text)))),
        data_type: DataType::Decimal(ExactNumberInfo::PrecisionAndScale(precision, scale)),
        array: false,
        format: None,
    };
}

/// The text of a number that is written out, with its sign.
fn written(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(text, _), .. }) => Some(text.clone()),
        Expr::Nested(inner) => written(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
            written(expr).filter(|t| !t.starts_with('-')).map(|t| format!("-{t}"))
        }
        _ => None,
    }
}

fn is_exact(data_type: &DataType) -> bool {
    use DataType as T;
    matches!(
        data_type,
        T::TinyInt(_)
            | T::SmallInt(_)
            | T::Int(_)
            | T::Integer(_)
            | T::BigInt(_)
            | T::Int2(_)
            | T::Int4(_)
            | T::Int8(_)
            | T::Int16
            | T::Int32
            | T::Int64
            | T::UTinyInt
            | T::USmallInt
            | T::UBigInt
            | T::Decimal(_)
            | T::Dec(_)
            | T::Numeric(_)
    )
}
