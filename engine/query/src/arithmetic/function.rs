//! One checked operator as a function that plans can hold.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{ArrayRef, Datum};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::kernels;

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Add,
    Subtract,
    Multiply,
    Negate,
}

impl Op {
    /// How plans show the call.
    fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Subtract => "subtract",
            Self::Multiply => "multiply",
            Self::Negate => "negate",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "+",
            Self::Subtract | Self::Negate => "-",
            Self::Multiply => "*",
        })
    }
}

/// `a + b`, `a - b`, `a * b` or `-a` whose result has `data_type`, or is an error. NULL where an argument is NULL.
///
/// It is in no registry, so that no statement can call it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Checked {
    op: Op,
    data_type: DataType,
    signature: Signature,
}

impl Checked {
    /// The call over arguments of types that type coercion has made to fit.
    pub(super) fn call(op: Op, data_type: DataType, args: Vec<Expr>) -> Expr {
        let signature = Signature::any(args.len(), Volatility::Immutable);
        let func = Arc::new(ScalarUDF::new_from_impl(Self { op, data_type, signature }));
        Expr::ScalarFunction(ScalarFunction { func, args })
    }

    /// The type of a call of ours; asking DataFusion would look through the whole tree below.
    pub(super) fn type_of(call: &ScalarFunction) -> Option<&DataType> {
        call.func.inner().downcast_ref::<Self>().map(|checked| &checked.data_type)
    }

    fn compute(&self, left: &dyn Datum, right: &dyn Datum) -> Result<ArrayRef> {
        Ok(kernels::binary(self.op, left, right, &self.data_type)?)
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.op.name()
    }

    /// The operator's own, so that columns keep the names that they were planned with.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        match args {
            [one] => Ok(format!("(- {})", one.schema_name())),
            [left, right] => Ok(format!("{} {} {}", left.schema_name(), self.op, right.schema_name())),
            _ => internal_err!("{} has {} arguments", self.name(), args.len()),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|f| f.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.data_type.clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = |array: ArrayRef| ScalarValue::try_from_array(&array, 0).map(ColumnarValue::Scalar);
        match args.args.as_slice() {
            [ColumnarValue::Array(one)] => Ok(ColumnarValue::Array(kernels::negate(one)?)),
            [ColumnarValue::Scalar(one)] => scalar(kernels::negate(&one.to_array()?)?),
            [ColumnarValue::Array(left), ColumnarValue::Array(right)] => {
                self.compute(left, right).map(ColumnarValue::Array)
            }
            [ColumnarValue::Array(left), ColumnarValue::Scalar(right)] => {
                self.compute(left, &right.to_scalar()?).map(ColumnarValue::Array)
            }
            [ColumnarValue::Scalar(left), ColumnarValue::Array(right)] => {
                self.compute(&left.to_scalar()?, right).map(ColumnarValue::Array)
            }
            [ColumnarValue::Scalar(left), ColumnarValue::Scalar(right)] => {
                scalar(self.compute(&left.to_scalar()?, &right.to_scalar()?)?)
            }
            other => internal_err!("{} has {} arguments", self.name(), other.len()),
        }
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        let bounds = match (self.op, inputs) {
            (Op::Add, [left, right]) => left.add(*right),
            (Op::Subtract, [left, right]) => left.sub(*right),
            (Op::Multiply, [left, right]) => left.mul(*right),
            (_, [one]) => one.arithmetic_negate(),
            _ => return Interval::make_unbounded(&self.data_type),
        };
        match bounds {
            Ok(bounds) if bounds.data_type() == self.data_type => Ok(bounds),
            _ => Interval::make_unbounded(&self.data_type),
        }
    }

    /// Unlike an operator that wraps, these keep the order of their arguments.
    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(match (self.op, inputs) {
            (Op::Add, [left, right]) => left.sort_properties.add(&right.sort_properties),
            (Op::Subtract, [left, right]) => left.sort_properties.sub(&right.sort_properties),
            (Op::Negate, [one]) => -one.sort_properties,
            (Op::Multiply, inputs)
                if inputs.iter().all(|i| i.sort_properties == SortProperties::Singleton) =>
            {
                SortProperties::Singleton
            }
            _ => SortProperties::Unordered,
        })
    }
}
