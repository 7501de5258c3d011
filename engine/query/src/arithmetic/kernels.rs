//! The arithmetic itself.
//!
//! Arrow's checked kernels test every value and stop at the first that does not fit, which keeps the compiler from
//! using vector registers. For sums and differences of integers it is faster to wrap first and to look at all the signs
//! afterwards: `a + b` went over exactly where the result's sign differs from that of both. Only when some sign
//! tells of it, which may come from the values below NULLs, does the checked kernel run and name the culprit.

use arrow::array::{Array, ArrayRef, AsArray, Datum};
use arrow::compute::kernels::numeric::{add, add_wrapping, mul, neg, sub, sub_wrapping};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use triune_common::{Error, Result};

use super::function::Op;
use crate::types::name_of;

/// Whether `went_over` (of left, right and wrapped result) holds anywhere.
fn any<T: ArrowPrimitiveType>(
    left: &dyn Datum,
    right: &dyn Datum,
    result: &ArrayRef,
    went_over: impl Fn(T::Native, T::Native, T::Native) -> bool,
) -> bool {
    let ((left, left_is_one), (right, right_is_one)) = (left.get(), right.get());
    let (l, r) = (left.as_primitive::<T>().values(), right.as_primitive::<T>().values());
    let o = result.as_primitive::<T>().values();
    // Without early exits, so that it becomes vector code.
    match (l.first(), r.first()) {
        (Some(l), Some(r)) if left_is_one && right_is_one => {
            o.iter().fold(false, |found, o| found | went_over(*l, *r, *o))
        }
        (Some(l), _) if left_is_one => {
            r.iter().zip(o).fold(false, |found, (r, o)| found | went_over(*l, *r, *o))
        }
        (_, Some(r)) if right_is_one => {
            l.iter().zip(o).fold(false, |found, (l, o)| found | went_over(*l, *r, *o))
        }
        _ => l.iter().zip(r).zip(o).fold(false, |found, ((l, r), o)| found | went_over(*l, *r, *o)),
    }
}

macro_rules! signs {
    ($op:expr, $left:expr, $right:expr, $result:expr, $($unsigned:ty)|*, $($signed:ty)|*) => {
        match ($op, $result.data_type()) {
            $((Op::Add, t) if *t == <$unsigned>::DATA_TYPE =>
                any::<$unsigned>($left, $right, $result, |l, _, o| o < l),
            (Op::Subtract, t) if *t == <$unsigned>::DATA_TYPE =>
                any::<$unsigned>($left, $right, $result, |l, r, _| l < r),)*
            $((Op::Add, t) if *t == <$signed>::DATA_TYPE =>
                any::<$signed>($left, $right, $result, |l, r, o| ((l ^ o) & (r ^ o)) < 0),
            (Op::Subtract, t) if *t == <$signed>::DATA_TYPE =>
                any::<$signed>($left, $right, $result, |l, r, o| ((l ^ r) & (l ^ o)) < 0),)*
            _ => true,
        }
    };
}

/// Whether a wrapped sum or difference may have gone over.
fn went_over(op: Op, left: &dyn Datum, right: &dyn Datum, result: &ArrayRef) -> bool {
    if left.get().0.data_type() != result.data_type() || right.get().0.data_type() != result.data_type() {
        return true;
    }
    signs!(
        op,
        left,
        right,
        result,
        UInt8Type | UInt16Type | UInt32Type | UInt64Type,
        Int8Type | Int16Type | Int32Type | Int64Type
    )
}

/// `left op right` as `data_type`; an error at the first pair whose result does not fit.
pub(super) fn binary(op: Op, left: &dyn Datum, right: &dyn Datum, data_type: &DataType) -> Result<ArrayRef> {
    let checked = match op {
        Op::Add | Op::Subtract if data_type.is_integer() => {
            let wrap = if op == Op::Add { add_wrapping } else { sub_wrapping };
            let result = wrap(left, right)?;
            if !went_over(op, left, right, &result) {
                return Ok(result);
            }
            if op == Op::Add { add(left, right) } else { sub(left, right) }
        }
        Op::Add => add(left, right),
        Op::Subtract => sub(left, right),
        Op::Multiply => mul(left, right),
        Op::Negate => return Err(Error::internal("a sign has one argument")),
    };
    let result = checked.map_err(|e| explain(e, data_type))?;
    validate_digits(&result).map_err(|e| explain(e, data_type))?;
    Ok(result)
}

/// `-array`.
pub(super) fn negate(array: &ArrayRef) -> Result<ArrayRef> {
    neg(array.as_ref()).map_err(|e| explain(e, array.data_type()))
}

/// Arrow's decimals have as many bits as fit, which is more than their type has digits.
fn validate_digits(array: &ArrayRef) -> Result<(), ArrowError> {
    use arrow::datatypes::{Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type};
    match array.data_type() {
        DataType::Decimal32(p, _) => array.as_primitive::<Decimal32Type>().validate_decimal_precision(*p),
        DataType::Decimal64(p, _) => array.as_primitive::<Decimal64Type>().validate_decimal_precision(*p),
        DataType::Decimal128(p, _) => array.as_primitive::<Decimal128Type>().validate_decimal_precision(*p),
        DataType::Decimal256(p, _) => array.as_primitive::<Decimal256Type>().validate_decimal_precision(*p),
        _ => Ok(()),
    }
}

/// Says which computation did not fit what.
fn explain(error: ArrowError, data_type: &DataType) -> Error {
    let what = if data_type.is_integer() { "integer" } else { "number" };
    let wanted = name_of(data_type);
    match error {
        ArrowError::ArithmeticOverflow(text) => {
            let term = text.strip_prefix("Overflow happened on: ").unwrap_or(&text);
            Error::invalid(format!("{what} out of range: {term} is no {wanted}"))
        }
        ArrowError::InvalidArgumentError(_) if !data_type.is_integer() => {
            Error::invalid(format!("{what} out of range: a result is no {wanted}"))
        }
        other => Error::from(other),
    }
}
