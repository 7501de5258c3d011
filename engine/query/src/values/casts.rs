//! `x::int` rounds.
//!
//! Floats go to the nearest whole number, halves to the even one; decimals and numbers that are written out go away from
//! zero at halves. DataFusion cuts the fraction off. A number with a point that is cast where it stands is a decimal
//! (`prepass/decimals.rs`), so that `2.5::int` is 3 and `1.005::decimal(10,2)` is 1.01.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType};
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
    if !wanted.is_integer() {
        return Ok(Transformed::no(expr));
    }
    let whole = match inner.get_type(schema) {
        Ok(t) if t.is_floating() => None,
        Ok(DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s)) if s > 0 => {
            Some(DataType::Decimal128(digits(p, s).min(DECIMAL128_MAX_PRECISION), 0))
        }
        Ok(DataType::Decimal256(p, s)) if s > 0 => {
            Some(DataType::Decimal256(digits(p, s).min(DECIMAL256_MAX_PRECISION), 0))
        }
        _ => return Ok(Transformed::no(expr)),
    };
    let round = |inner: Box<Expr>| match whole {
        None => Meaning::call(Op::Rounded, *inner),
        Some(whole) => Expr::Cast(Cast::new(inner, whole)),
    };
    Ok(Transformed::yes(match expr {
        Expr::Cast(cast) => Expr::Cast(Cast { expr: Box::new(round(cast.expr)), field: cast.field }),
        Expr::TryCast(cast) => Expr::TryCast(TryCast { expr: Box::new(round(cast.expr)), field: cast.field }),
        other => other,
    }))
}

/// Digits before the point, and one more for what is rounded up.
fn digits(precision: u8, scale: i8) -> u8 {
    precision.saturating_sub(scale.unsigned_abs()) + 1
}
