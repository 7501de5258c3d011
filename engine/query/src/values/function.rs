//! The functions that the rewrites put around operands.

use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float16Array, PrimitiveArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, FieldRef, Float16Type, Float32Type, Float64Type,
    IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::{texts, times};

/// What is done to a value. NULL stays NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Op {
    /// A float without its fraction: to the nearest, halves to the even one, as C's `rint` and PostgreSQL do.
    Rounded,
    /// A float; -0.0 is 0.0.
    UnsignedZero,
    /// The length of an interval in nanoseconds, DECIMAL(38,0): a month has 30 days, a day 24 hours.
    Length,
    /// A text that a cast to a timestamp can read.
    WithSeconds,
    /// A time or an interval as text.
    Written,
}

/// One of them as a function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Meaning {
    op: Op,
    signature: Signature,
}

impl Meaning {
    /// The call over `arg`, which has a type that the operation takes.
    pub(super) fn call(op: Op, arg: Expr) -> Expr {
        let signature = Signature::any(1, Volatility::Immutable);
        let func = Arc::new(ScalarUDF::new_from_impl(Self { op, signature }));
        Expr::ScalarFunction(ScalarFunction { func, args: vec![arg] })
    }

    /// Whether an expression is such a call already.
    pub(super) fn is(op: Op, expr: &Expr) -> bool {
        matches!(expr, Expr::ScalarFunction(call)
            if call.func.inner().downcast_ref::<Self>().is_some_and(|m| m.op == op))
    }
}

impl ScalarUDFImpl for Meaning {
    fn name(&self) -> &str {
        match self.op {
            Op::Rounded => "rounded",
            Op::UnsignedZero => "unsigned_zero",
            Op::Length => "interval_length",
            Op::WithSeconds => "with_seconds",
            Op::Written => "written",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match (self.op, args) {
            (Op::Length, [_]) => Ok(DataType::Decimal128(38, 0)),
            (Op::WithSeconds | Op::Written, [_]) => Ok(DataType::Utf8),
            (_, [one]) => Ok(one.clone()),
            (_, other) => internal_err!("{} has {} arguments", self.name(), other.len()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|f| f.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(one)] => Ok(ColumnarValue::Array(self.compute(one)?)),
            [ColumnarValue::Scalar(one)] => {
                let array = self.compute(&one.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
            }
            other => internal_err!("{} has {} arguments", self.name(), other.len()),
        }
    }

    /// Rounding and zeros keep the order of numbers.
    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(match (self.op, inputs) {
            (Op::Rounded | Op::UnsignedZero, [one]) => one.sort_properties,
            _ => SortProperties::Unordered,
        })
    }
}

impl Meaning {
    fn compute(&self, array: &ArrayRef) -> Result<ArrayRef> {
        match self.op {
            Op::Rounded => floats(array, |v| v.round_ties_even(), |v| v.round_ties_even()),
            Op::UnsignedZero => floats(array, |v| v + 0.0, |v| v + 0.0),
            Op::Length => lengths(array),
            Op::Written => Ok(Arc::new(texts::written(array)?)),
            Op::WithSeconds => {
                let texts = cast(array, &DataType::Utf8)?;
                let texts = texts.as_string::<i32>();
                let read: StringArray = texts.iter().map(|t| t.map(times::with_seconds)).collect();
                Ok(Arc::new(read))
            }
        }
    }
}

fn floats(array: &ArrayRef, f32s: impl Fn(f32) -> f32, f64s: impl Fn(f64) -> f64) -> Result<ArrayRef> {
    fn unary<T: ArrowPrimitiveType>(array: &ArrayRef, f: impl Fn(T::Native) -> T::Native) -> ArrayRef {
        let done: PrimitiveArray<T> = array.as_primitive::<T>().unary(f);
        Arc::new(done)
    }
    Ok(match array.data_type() {
        DataType::Float64 => unary::<Float64Type>(array, f64s),
        DataType::Float32 => unary::<Float32Type>(array, f32s),
        DataType::Float16 => {
            let done: Float16Array =
                array.as_primitive::<Float16Type>().unary(|v| half::f16::from_f32(f32s(v.to_f32())));
            Arc::new(done)
        }
        other => return internal_err!("{other} is no float"),
    })
}

fn lengths(array: &ArrayRef) -> Result<ArrayRef> {
    const DAY: i128 = 86_400_000_000_000;
    let array = match array.data_type() {
        DataType::Interval(IntervalUnit::MonthDayNano) => Arc::clone(array),
        _ => cast(array, &DataType::Interval(IntervalUnit::MonthDayNano))?,
    };
    let lengths =
        array.as_primitive::<IntervalMonthDayNanoType>().unary::<_, arrow::datatypes::Decimal128Type>(|v| {
            (i128::from(v.months) * 30 + i128::from(v.days)) * DAY + i128::from(v.nanoseconds)
        });
    let lengths: Decimal128Array = lengths.with_precision_and_scale(38, 0)?;
    Ok(Arc::new(lengths))
}
