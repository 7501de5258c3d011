//! ```sql
//! now() - 3 * INTERVAL '1 hour'
//! ts + n * INTERVAL '15 minutes'
//! INTERVAL '1 month' / 2                    -- 15 days
//! ```
//!
//! An interval times or divided by a number, as PostgreSQL does it: months, days and time are multiplied each for
//! itself; a part of a month becomes days (30 to a month), a part of a day becomes time (24 hours to a day).
//!
//! * *Types*: `INTERVAL` with any number; the result is `INTERVAL`. With an integer factor the result is exact,
//!   with another one as exact as a double.
//! * *Nulls*: NULL on either side gives NULL.
//! * *Errors*: a division by zero, a factor that is NaN or infinite, a result beyond the range of intervals
//!   (2³¹ months, 2³¹ days, 2⁶³ nanoseconds).
//! * *Cost*: some nanoseconds a row.
//! * *Source*: PostgreSQL 15, `interval_mul`; its rounding to microseconds is not followed.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, IntervalMonthDayNanoArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::sqlparser::ast::BinaryOperator;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use triune_common::Error;

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
const DAYS: f64 = 30.0;
const NANOS: f64 = 86_400e9;

/// Plans `*` and `/` between intervals and numbers. Must stand before DataFusion's own planners.
#[derive(Debug, Default, Clone, Copy)]
pub struct IntervalExprPlanner;

impl ExprPlanner for IntervalExprPlanner {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let divides = match expr.op {
            BinaryOperator::Multiply => false,
            BinaryOperator::Divide => true,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let (left, right) = (type_of(&expr.left, schema), type_of(&expr.right, schema));
        let args = match (left, right) {
            (Some(DataType::Interval(_)), Some(other)) if is_number(&other) => {
                vec![expr.left, expr.right]
            }
            (Some(other), Some(DataType::Interval(_))) if is_number(&other) && !divides => {
                vec![expr.right, expr.left]
            }
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let function = ScalarUDF::new_from_impl(IntervalScaleFunc::new(divides));
        Ok(PlannerResult::Planned(function.call(args)))
    }
}

/// The type of an operand; `None` for what has none here: DataFusion says what is wrong with it.
fn type_of(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    expr.get_type(schema).ok()
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || data_type.is_null()
}

/// `interval_multiply(interval, number)` and `interval_divide(interval, number)`: what the operators become.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct IntervalScaleFunc {
    divides: bool,
    signature: Signature,
}

impl IntervalScaleFunc {
    pub fn new(divides: bool) -> Self {
        Self { divides, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// One interval scaled by a double.
    fn by_double(&self, interval: IntervalMonthDayNano, factor: f64) -> Result<IntervalMonthDayNano> {
        if self.divides && factor == 0.0 {
            return Err(Error::invalid("division by zero").into());
        }
        let scale = |n: f64| if self.divides { n / factor } else { n * factor };
        let months = scale(f64::from(interval.months));
        let days = months.fract() * DAYS + scale(f64::from(interval.days));
        // What floats lose in 1/3 of 30 must not become 9 days and 23:59:59.999999999.
        let days = if (days - days.round()).abs() < 1e-9 { days.round() } else { days };
        let nanos = (days.fract() * NANOS + scale(interval.nanoseconds as f64)).round();
        let fits = |n: f64, most: f64| n.is_finite() && n.abs() < most;
        let small = 2f64.powi(31);
        if !fits(months.trunc(), small) || !fits(days.trunc(), small) || !fits(nanos, 2f64.powi(63)) {
            return Err(self.too_large(interval, &factor));
        }
        #[expect(clippy::cast_possible_truncation, reason = "checked right above")]
        Ok(IntervalMonthDayNano::new(months.trunc() as i32, days.trunc() as i32, nanos as i64))
    }

    /// The same for products with integers, exactly.
    fn by_integer(&self, interval: IntervalMonthDayNano, factor: i64) -> Result<IntervalMonthDayNano> {
        let small = i32::try_from(factor).ok();
        let times = |n: i32| if n == 0 { Some(0) } else { small.and_then(|f| n.checked_mul(f)) };
        let all = times(interval.months)
            .zip(times(interval.days))
            .zip(interval.nanoseconds.checked_mul(factor))
            .map(|((months, days), nanos)| IntervalMonthDayNano::new(months, days, nanos));
        all.ok_or_else(|| self.too_large(interval, &factor))
    }

    fn too_large(
        &self,
        interval: IntervalMonthDayNano,
        factor: &dyn std::fmt::Display,
    ) -> datafusion::error::DataFusionError {
        let op = if self.divides { "/" } else { "*" };
        let IntervalMonthDayNano { months, days, nanoseconds } = interval;
        Error::invalid(format!(
            "interval out of range: ({months} months {days} days {nanoseconds} ns) {op} {factor}"
        ))
        .into()
    }
}

impl ScalarUDFImpl for IntervalScaleFunc {
    fn name(&self) -> &str {
        if self.divides { "interval_divide" } else { "interval_multiply" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [DataType::Interval(_), number] = types else {
            return plan_err!("{} takes an interval and a number", self.name());
        };
        let whole = number.is_integer() && *number != DataType::UInt64 && !self.divides;
        Ok(vec![INTERVAL, if whole { DataType::Int64 } else { DataType::Float64 }])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [interval, factor] = args.args.as_slice() else {
            return exec_err!("{} takes two arguments", self.name());
        };
        let scalar = matches!((interval, factor), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let intervals = cast(&interval.to_array(rows)?, &INTERVAL)?;
        let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
        let factors = factor.to_array(rows)?;
        let scaled: IntervalMonthDayNanoArray = match factors.data_type() {
            DataType::Int64 => {
                let factors = factors.as_primitive::<Int64Type>();
                let pairs = intervals.iter().zip(factors.iter());
                pairs
                    .map(|(i, f)| i.zip(f).map(|(i, f)| self.by_integer(i, f)).transpose())
                    .collect::<Result<_>>()?
            }
            _ => {
                let factors = cast(&factors, &DataType::Float64)?;
                let factors = factors.as_primitive::<Float64Type>();
                let pairs = intervals.iter().zip(factors.iter());
                pairs
                    .map(|(i, f)| i.zip(f).map(|(i, f)| self.by_double(i, f)).transpose())
                    .collect::<Result<_>>()?
            }
        };
        let scaled: ArrayRef = Arc::new(scaled);
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&scaled, 0)?));
        }
        Ok(ColumnarValue::Array(scaled))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn interval(months: i32, days: i32, nanos: i64) -> IntervalMonthDayNano {
        IntervalMonthDayNano::new(months, days, nanos)
    }

    fn times(i: IntervalMonthDayNano, f: f64) -> IntervalMonthDayNano {
        IntervalScaleFunc::new(false).by_double(i, f).unwrap()
    }

    fn over(i: IntervalMonthDayNano, f: f64) -> IntervalMonthDayNano {
        IntervalScaleFunc::new(true).by_double(i, f).unwrap()
    }

    /// What PostgreSQL 15 answers.
    #[test]
    fn as_postgresql() {
        assert_eq!(times(interval(1, 0, 0), 0.5), interval(0, 15, 0));
        assert_eq!(over(interval(1, 0, 0), 3.0), interval(0, 10, 0));
        assert_eq!(over(interval(0, 1, 0), 3.0), interval(0, 0, 8 * 3_600_000_000_000));
        assert_eq!(times(interval(14, 3, 0), 1.5), interval(21, 4, 12 * 3_600_000_000_000));
        assert_eq!(times(interval(0, -1, 0), 1.5), interval(0, -1, -12 * 3_600_000_000_000));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let (mul, div) = (IntervalScaleFunc::new(false), IntervalScaleFunc::new(true));
        assert!(div.by_double(interval(0, 1, 0), 0.0).is_err());
        assert!(mul.by_double(interval(0, 1, 0), f64::NAN).is_err());
        assert!(mul.by_double(interval(0, 1, 0), f64::INFINITY).is_err());
        assert!(mul.by_integer(interval(0, 0, 2), i64::MAX).is_err());
        assert!(mul.by_integer(interval(i32::MIN, 0, 0), -1).is_err());
        assert_eq!(mul.by_integer(interval(0, 0, 1), i64::MAX).unwrap(), interval(0, 0, i64::MAX));
    }

    proptest! {
        /// A product with an integer is the sum of so many intervals, and the same through doubles.
        #[test]
        fn integers_and_doubles_agree(
            months in -500..500i32, days in -5_000..5_000i32, nanos in -1_000_000_000_000i64..1_000_000_000_000,
            factor in -1_000..1_000i32,
        ) {
            let i = interval(months, days, nanos);
            let sum = interval(months * factor, days * factor, nanos * i64::from(factor));
            prop_assert_eq!(IntervalScaleFunc::new(false).by_integer(i, i64::from(factor)).unwrap(), sum);
            prop_assert_eq!(times(i, f64::from(factor)), sum);
        }
    }
}
