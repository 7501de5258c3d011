//! ```sql
//! SELECT mod(x, 3), div(x, 3), sign(x), width_bucket(x, 0, 100, 10), atan2(y, x) FROM t;
//! ```
//!
//! Numbers. PostgreSQL's meaning: `mod` has the sign of its first argument, `div` is the whole part of a quotient,
//! `sign` is -1, 0 or 1, `width_bucket` counts from 1 with 0 and `count + 1` for what lies outside, `atan2` is always a
//! double. DuckDB's: `xor`, `bit_count`, `even`, `fdiv`, `fmod`, `isinf`, `isfinite`.
//!
//! NULL in any argument gives NULL. A division by zero is an error for integers and decimals; for doubles `mod` gives
//! NaN and `div` an infinity, as the operators do. `sign(NaN)` is NaN.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, ListArray};
use arrow::compute::kernels::{arity, numeric};
use arrow::compute::{cast, is_null};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{Operator, ScalarUDF};
use triune_common::Error;

use crate::define::{any_null, define, doubles, integers, is_number};

pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        define("mod(number, number)", &[], same_number, remainder_type, |args| {
            Ok(numeric::rem(&args[0], &args[1])?)
        }),
        define("div(number, number)", &[], same_number, whole_type, div),
        define("sign(number)", &[], one_number, sign_type, sign),
        define("atan2(y, x)", &[], doubles::<2>, |_| DataType::Float64, |args| two(args, f64::atan2)),
        define(
            "fdiv(number, number)",
            &[],
            doubles::<2>,
            |_| DataType::Float64,
            |args| two(args, |a, b| (a / b).floor()),
        ),
        define(
            "fmod(number, number)",
            &[],
            doubles::<2>,
            |_| DataType::Float64,
            |args| two(args, |a, b| a - b * (a / b).floor()),
        ),
        define(
            "even(number)",
            &[],
            doubles::<1>,
            |_| DataType::Float64,
            |args| {
                let even = |x: f64| {
                    let n = if x >= 0.0 { x.ceil() } else { -(-x).ceil() };
                    if n % 2.0 == 0.0 { n } else { n + n.signum() }
                };
                Ok(Arc::new(args[0].as_primitive::<Float64Type>().unary::<_, Float64Type>(even)))
            },
        ),
        define(
            "xor(integer, integer)",
            &[],
            integers::<2>,
            |_| DataType::Int64,
            |args| {
                let (a, b) = (args[0].as_primitive::<Int64Type>(), args[1].as_primitive::<Int64Type>());
                let all: Int64Array = arity::binary(a, b, |a, b| a ^ b)?;
                Ok(Arc::new(all))
            },
        ),
        define("bit_count(integer or blob)", &[], bits_of, |_| DataType::Int64, bit_count),
        define("width_bucket(value, low, high, count)", &[], bucket_args, |_| DataType::Int32, width_bucket),
        define(
            "isinf(number)",
            &[],
            doubles::<1>,
            |_| DataType::Boolean,
            |args| {
                let numbers = args[0].as_primitive::<Float64Type>();
                Ok(Arc::new(numbers.iter().map(|x| x.map(f64::is_infinite)).collect::<BooleanArray>()))
            },
        ),
        define("isfinite(number, date or time)", &[], finite_args, |_| DataType::Boolean, isfinite),
    ]
}

fn two(args: &[ArrayRef], f: fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let (a, b) = (args[0].as_primitive::<Float64Type>(), args[1].as_primitive::<Float64Type>());
    let all: Float64Array = arity::binary(a, b, f)?;
    Ok(Arc::new(all))
}

/// Two numbers as `%` would take them.
fn same_number(types: &[DataType]) -> Option<Vec<DataType>> {
    let [left, right] = types else { return None };
    if !is_number(left) || !is_number(right) {
        return None;
    }
    if left.is_null() && right.is_null() {
        return Some(vec![DataType::Float64; 2]);
    }
    let (left, right) = BinaryTypeCoercer::new(left, &Operator::Modulo, right).get_input_types().ok()?;
    Some(vec![left, right])
}

fn remainder_type(types: &[DataType]) -> DataType {
    let coercer = BinaryTypeCoercer::new(&types[0], &Operator::Modulo, &types[1]);
    coercer.get_result_type().unwrap_or_else(|_| types[0].clone())
}

/// A quotient of decimals is whole: it needs no digits behind the point.
fn whole_type(types: &[DataType]) -> DataType {
    match &types[0] {
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) => {
            DataType::Decimal128(38, 0)
        }
        DataType::Decimal256(..) => DataType::Decimal256(76, 0),
        other => other.clone(),
    }
}

fn div(args: &[ArrayRef]) -> Result<ArrayRef> {
    let result = whole_type(&[args[0].data_type().clone(), args[1].data_type().clone()]);
    if result.is_floating() {
        let quotients = numeric::div(&args[0], &args[1])?;
        let whole = match result {
            DataType::Float64 => {
                Arc::new(quotients.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::trunc)) as _
            }
            _ => {
                let wide = cast(&quotients, &DataType::Float64)?;
                let whole = wide.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::trunc);
                cast(&(Arc::new(whole) as ArrayRef), &result)?
            }
        };
        return Ok(whole);
    }
    if result.is_integer() {
        return Ok(numeric::div(&args[0], &args[1])?);
    }
    // Without the remainder the division is exact, whatever is cut or rounded.
    let rest = numeric::rem(&args[0], &args[1])?;
    let exact = numeric::div(&numeric::sub(&args[0], &rest)?, &args[1])?;
    Ok(cast(&exact, &result)?)
}

fn one_number(types: &[DataType]) -> Option<Vec<DataType>> {
    match types {
        [t] if t.is_floating() || t.is_null() => Some(vec![DataType::Float64]),
        [t] if t.is_integer() || t.is_decimal() => Some(types.to_vec()),
        _ => None,
    }
}

fn sign_type(types: &[DataType]) -> DataType {
    if types[0].is_floating() { DataType::Float64 } else { DataType::Int64 }
}

fn sign(args: &[ArrayRef]) -> Result<ArrayRef> {
    if let Some(numbers) = args[0].as_primitive_opt::<Float64Type>() {
        let sign = |x: f64| {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else if x.is_nan() {
                x
            } else {
                0.0
            }
        };
        return Ok(Arc::new(numbers.unary::<_, Float64Type>(sign)));
    }
    let zero = datafusion::common::ScalarValue::new_zero(args[0].data_type())?.to_scalar()?;
    let above = arrow::compute::kernels::cmp::gt(&args[0], &zero)?;
    let below = arrow::compute::kernels::cmp::lt(&args[0], &zero)?;
    let all = above.iter().zip(below.iter()).map(|(above, below)| match (above?, below?) {
        (true, _) => Some(1),
        (_, true) => Some(-1),
        _ => Some(0),
    });
    Ok(Arc::new(all.collect::<Int64Array>()))
}

fn bits_of(types: &[DataType]) -> Option<Vec<DataType>> {
    match types {
        [DataType::Binary | DataType::LargeBinary | DataType::BinaryView] => Some(vec![DataType::Binary]),
        [DataType::Null] => Some(vec![DataType::Int64]),
        [t] if t.is_integer() => Some(types.to_vec()),
        _ => None,
    }
}

/// The ones of a number in as many bits as its type has.
fn bit_count(args: &[ArrayRef]) -> Result<ArrayRef> {
    use arrow::datatypes::{Int8Type, Int16Type, Int32Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
    macro_rules! ones {
        ($t:ty) => {
            args[0].as_primitive::<$t>().iter().map(|n| n.map(|n| i64::from(n.count_ones()))).collect()
        };
    }
    let all: Int64Array = match args[0].data_type() {
        DataType::Int8 => ones!(Int8Type),
        DataType::Int16 => ones!(Int16Type),
        DataType::Int32 => ones!(Int32Type),
        DataType::UInt8 => ones!(UInt8Type),
        DataType::UInt16 => ones!(UInt16Type),
        DataType::UInt32 => ones!(UInt32Type),
        DataType::UInt64 => ones!(UInt64Type),
        DataType::Binary => {
            let ones = |b: &[u8]| b.iter().map(|b| i64::from(b.count_ones())).sum::<i64>();
            args[0].as_binary::<i32>().iter().map(|b| b.map(ones)).collect()
        }
        _ => ones!(Int64Type),
    };
    Ok(Arc::new(all))
}

fn bucket_args(types: &[DataType]) -> Option<Vec<DataType>> {
    match types {
        [value, bounds] => {
            let bounded = matches!(bounds, DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _)
                if is_number(f.data_type()));
            (is_number(value) && bounded)
                .then(|| vec![DataType::Float64, DataType::new_list(DataType::Float64, true)])
        }
        [a, b, c, count] => {
            let numbers = is_number(a) && is_number(b) && is_number(c);
            (numbers && (count.is_integer() || count.is_null()))
                .then(|| vec![DataType::Float64, DataType::Float64, DataType::Float64, DataType::Int64])
        }
        _ => None,
    }
}

fn width_bucket(args: &[ArrayRef]) -> Result<ArrayRef> {
    let values = args[0].as_primitive::<Float64Type>();
    if let [_, bounds] = args {
        let bounds: &ListArray = bounds.as_list::<i32>();
        let bucket = |row: usize| {
            let (false, true) = (values.is_null(row), bounds.is_valid(row)) else { return Ok(None) };
            let bounds = bounds.value(row);
            let bounds = bounds.as_primitive::<Float64Type>();
            if bounds.null_count() > 0 {
                return Err(Error::invalid("width_bucket was given a bound that is NULL"));
            }
            // NaN is above everything, as in comparisons; adding zero makes -0 the same as 0.
            let value = values.value(row) + 0.0;
            let below = |b: &&f64| !matches!(value.total_cmp(&(**b + 0.0)), std::cmp::Ordering::Less);
            Ok(i32::try_from(bounds.values().iter().filter(below).count()).ok())
        };
        let all = (0..values.len()).map(bucket).collect::<triune_common::Result<Vec<_>>>()?;
        return Ok(Arc::new(Int32Array::from(all)));
    }
    let (lows, highs) = (args[1].as_primitive::<Float64Type>(), args[2].as_primitive::<Float64Type>());
    let counts = args[3].as_primitive::<Int64Type>();
    let mut all = Vec::with_capacity(values.len());
    for row in 0..values.len() {
        all.push(match any_null(args, row) {
            true => None,
            false => Some(bucket(values.value(row), lows.value(row), highs.value(row), counts.value(row))?),
        });
    }
    Ok(Arc::new(Int32Array::from(all)))
}

/// The bucket of `x` among `count` of one width between `low` and `high`, which may be the larger one first.
fn bucket(x: f64, low: f64, high: f64, count: i64) -> triune_common::Result<i32> {
    let Some(count) = i32::try_from(count).ok().filter(|c| (1..i32::MAX).contains(c)) else {
        return Err(Error::invalid(format!("width_bucket was asked for {count} buckets")));
    };
    if x.is_nan() || !low.is_finite() || !high.is_finite() || low == high {
        return Err(Error::invalid(format!(
            "width_bucket takes a number and two different finite bounds, got {x}, {low} and {high}"
        )));
    }
    let (x, low, high) = if low < high { (x, low, high) } else { (-x, -low, -high) };
    if x < low {
        return Ok(0);
    }
    if x >= high {
        return Ok(count + 1);
    }
    // Halves: the difference of two doubles may be infinite.
    let share = (x / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
    #[expect(clippy::cast_possible_truncation, reason = "a share is below 1, so this is below the count")]
    let index = (share * f64::from(count)) as i32;
    Ok(index.min(count - 1) + 1)
}

fn finite_args(types: &[DataType]) -> Option<Vec<DataType>> {
    match types {
        [t] if is_number(t) => Some(vec![DataType::Float64]),
        [
            DataType::Date32
            | DataType::Date64
            | DataType::Timestamp(..)
            | DataType::Interval(_)
            | DataType::Duration(_),
        ] => Some(types.to_vec()),
        _ => None,
    }
}

/// There are no infinite dates and times here.
fn isfinite(args: &[ArrayRef]) -> Result<ArrayRef> {
    if let Some(numbers) = args[0].as_primitive_opt::<Float64Type>() {
        return Ok(Arc::new(numbers.iter().map(|x| x.map(f64::is_finite)).collect::<BooleanArray>()));
    }
    let nulls = is_null(&args[0])?;
    Ok(Arc::new(nulls.iter().map(|null| (null == Some(false)).then_some(true)).collect::<BooleanArray>()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What PostgreSQL 15 answers.
    #[test]
    fn buckets_as_postgresql() {
        let cases = [
            ((5.35, 0.024, 10.06, 5), 3),
            ((-1.0, 0.0, 10.0, 5), 0),
            ((10.0, 0.0, 10.0, 5), 6),
            ((0.0, 0.0, 10.0, 5), 1),
            ((7.0, 10.0, 0.0, 5), 2),
            ((10.0, 10.0, 0.0, 5), 1),
            ((0.0, 10.0, 0.0, 5), 6),
            ((f64::INFINITY, 0.0, 10.0, 5), 6),
            ((0.0, -1.7e308, 1.7e308, 2), 2),
        ];
        for ((x, low, high, count), want) in cases {
            assert_eq!(bucket(x, low, high, count).unwrap(), want, "{x} {low} {high} {count}");
        }
        assert!(bucket(f64::NAN, 0.0, 1.0, 5).is_err());
        assert!(bucket(1.0, 1.0, 1.0, 5).is_err());
        assert!(bucket(1.0, 0.0, 1.0, 0).is_err());
    }

    proptest! {
        /// Counting the bounds that lie at or below a number.
        #[test]
        fn buckets_are_those_of_their_bounds(x in -30i32..30, low in -20i32..0, width in 1i32..5, count in 1i64..6) {
            let high = low + width * i32::try_from(count).unwrap();
            let bounds = (0..=i32::try_from(count).unwrap()).filter(|i| low + i * width <= x).count();
            let got = bucket(f64::from(x), f64::from(low), f64::from(high), count).unwrap();
            prop_assert_eq!(got, i32::try_from(bounds).unwrap());
        }
    }
}
