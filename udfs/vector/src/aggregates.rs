//! ```sql
//! SELECT topic, avg(embedding) AS centre, sum(embedding) FROM docs GROUP BY topic;
//! ```
//!
//! `avg` and `sum` keep all that DataFusion's own do for numbers, and add vectors. Element by element over the
//! rows of a group, in `f64`.
//!
//! *Input*: `VECTOR`, `HALFVEC`, `TINYVEC`, or lists of numbers of one length. *Output*: the same type;
//! `VECTOR` for a `TINYVEC`, whose mean has fractions; `DOUBLE[]` for lists. *Nulls*: NULL rows do not count; a
//! group without other rows gives NULL; a NULL element is an error. *NaN*: makes that element of the result
//! NaN. *Errors*: lists of different lengths; a result beyond the range of the element type; `BITVEC`.
//! `DISTINCT` counts equal vectors once. *Memory*: `8 · dimensions` bytes per group, reported to the memory
//! pool; `DISTINCT` holds every different vector.
//!
//! How it is done: a function of the name `avg` that asks its argument's type and hands every call for numbers
//! to DataFusion's. A planner hook that swaps the function could not do it, since it sees an aggregate's
//! arguments without the schema that gives them types.

mod distinct;
mod groups;
mod state;

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::{average::avg_udaf, sum::sum_udaf};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, GroupsAccumulator, Operator,
    ReversedUDAF, SetMonotonicity, Signature, StatisticsArgs, TypeSignature, Volatility,
};
use triune_common::Error;

use crate::functions::args::Shape;
use crate::types::{VectorKind, VectorType, type_name};

/// `avg` (also `mean`) and `sum`, for numbers and vectors. Numbers are given to `sum`, DataFusion's own if `None`.
pub fn aggregate_functions(sum: Option<Arc<AggregateUDF>>) -> Vec<Arc<AggregateUDF>> {
    [(Kind::Avg, avg_udaf()), (Kind::Sum, sum.unwrap_or_else(sum_udaf))]
        .into_iter()
        .map(|(kind, builtin)| Arc::new(AggregateUDF::new_from_impl(VectorAgg::new(kind, builtin))))
        .collect()
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Avg,
    Sum,
}

/// What a result is built of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Vector(VectorType),
    /// `DOUBLE[]`
    List,
}

impl Output {
    fn data_type(self) -> DataType {
        match self {
            Self::Vector(ty) => ty.data_type(),
            Self::List => doubles(),
        }
    }

    /// How many dimensions there must be, where the type tells.
    fn dims(self) -> Option<usize> {
        match self {
            Self::Vector(ty) => Some(ty.dims),
            Self::List => None,
        }
    }
}

/// `List<Float64>`: results over lists, and the sums that travel between partitions.
pub(crate) fn doubles() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Float64, true)))
}

/// The result of the aggregate over this argument, or `None` when it is none of ours.
fn output(kind: Kind, field: &Field) -> triune_common::Result<Option<Output>> {
    match Shape::of(field) {
        Some(Shape::Vector(ty)) => match ty.kind {
            VectorKind::BitVec => {
                let name = if kind == Kind::Avg { "avg" } else { "sum" };
                Err(Error::invalid(format!("{name} is not defined on {}", type_name(field))))
            }
            VectorKind::TinyVec => Ok(Some(Output::Vector(VectorType { kind: VectorKind::Vector, ..ty }))),
            VectorKind::Vector | VectorKind::HalfVec => Ok(Some(Output::Vector(ty))),
        },
        Some(Shape::List) => Ok(Some(Output::List)),
        Some(Shape::Text | Shape::Null) | None => Ok(None),
    }
}

fn is_ours(data_type: &DataType) -> bool {
    matches!(Shape::of(&Field::new("", data_type.clone(), true)), Some(Shape::Vector(_) | Shape::List))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct VectorAgg {
    kind: Kind,
    /// What does everything that is not over vectors; DataFusion's own, or one of its type.
    builtin: Arc<AggregateUDF>,
    signature: Signature,
}

impl VectorAgg {
    fn new(kind: Kind, builtin: Arc<AggregateUDF>) -> Self {
        let mut accepted = match &builtin.signature().type_signature {
            TypeSignature::OneOf(several) => several.clone(),
            one => vec![one.clone()],
        };
        // Last: it is asked when none of the built-in ones fits.
        accepted.push(TypeSignature::UserDefined);
        Self { kind, builtin, signature: Signature::one_of(accepted, Volatility::Immutable) }
    }

    /// `None`: hand the call on.
    fn output_of(&self, fields: &[FieldRef]) -> Result<Option<Output>> {
        match fields {
            [field] => Ok(output(self.kind, field)?),
            _ => Ok(None),
        }
    }
}

impl AggregateUDFImpl for VectorAgg {
    fn name(&self) -> &str {
        self.builtin.name()
    }

    fn aliases(&self) -> &[String] {
        self.builtin.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [one] if is_ours(one) => Ok(arg_types.to_vec()),
            _ => datafusion::common::plan_err!("{} takes one number or vector", self.name()),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [one] if is_ours(one) => match output(self.kind, &Field::new("", one.clone(), true))? {
                Some(output) => Ok(output.data_type()),
                None => self.builtin.return_type(arg_types),
            },
            _ => self.builtin.return_type(arg_types),
        }
    }

    fn return_field(&self, arg_fields: &[FieldRef]) -> Result<FieldRef> {
        Ok(match self.output_of(arg_fields)? {
            Some(Output::Vector(ty)) => Arc::new(ty.field(self.name(), true)),
            Some(Output::List) => Arc::new(Field::new(self.name(), doubles(), true)),
            None => return self.builtin.return_field(arg_fields),
        })
    }

    fn is_nullable(&self) -> bool {
        true
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let Some(output) = self.output_of(args.expr_fields)? else { return self.builtin.accumulator(args) };
        Ok(if args.is_distinct {
            Box::new(distinct::DistinctAccumulator::new(self.kind, output))
        } else {
            Box::new(groups::OneGroup::new(self.kind, output))
        })
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if self.output_of(args.input_fields)?.is_none() {
            return self.builtin.state_fields(args);
        }
        Ok(if args.is_distinct {
            let item = Arc::new(Field::new("item", doubles(), true));
            vec![Arc::new(Field::new(format_state_name(args.name, "distinct"), DataType::List(item), true))]
        } else {
            vec![
                Arc::new(Field::new(format_state_name(args.name, "count"), DataType::UInt64, true)),
                Arc::new(Field::new(format_state_name(args.name, "sum"), doubles(), true)),
            ]
        })
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        match self.output_of(args.expr_fields) {
            Ok(Some(_)) => !args.is_distinct,
            _ => self.builtin.groups_accumulator_supported(args),
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        match self.output_of(args.expr_fields)? {
            Some(output) => Ok(Box::new(groups::VectorGroups::new(self.kind, output))),
            None => self.builtin.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match self.output_of(args.expr_fields)? {
            Some(_) => self.accumulator(args),
            None => self.builtin.create_sliding_accumulator(args),
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.builtin.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        // Neither function looks at the order of its rows; the built-in answer names the built-in function.
        ReversedUDAF::Identical
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        self.builtin.simplify()
    }

    fn simplify_expr_op_literal(
        &self,
        function: &AggregateFunction,
        arg: &Expr,
        op: Operator,
        literal: &Expr,
        arg_is_left: bool,
    ) -> Result<Option<Expr>> {
        self.builtin.simplify_expr_op_literal(function, arg, op, literal, arg_is_left)
    }

    fn is_descending(&self) -> Option<bool> {
        self.builtin.is_descending()
    }

    fn value_from_stats(&self, args: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        self.builtin.value_from_stats(args)
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.builtin.default_value(data_type)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.builtin.supports_null_handling_clause()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        if is_ours(data_type) {
            SetMonotonicity::NotMonotonic
        } else {
            self.builtin.inner().set_monotonicity(data_type)
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCS: LazyLock<[Documentation; 2]> = LazyLock::new(|| {
            let of = |builtin: Arc<AggregateUDF>, name: &str, example: &str| {
                let own = "Over vectors it works element by element and gives a vector of the same type (VECTOR for \
                           TINYVEC); NULL rows do not count.";
                let mut docs = builtin.documentation().cloned().unwrap_or_else(|| {
                    Documentation::builder(Default::default(), name, format!("{name}(expression)")).build()
                });
                docs.description = format!("{} {own}", docs.description);
                docs.sql_example = Some(format!("```sql\n{example}\n```"));
                docs
            };
            [
                of(avg_udaf(), "avg", "> SELECT avg(price), avg(embedding) FROM docs;"),
                of(sum_udaf(), "sum", "> SELECT sum(price), sum(embedding) FROM docs;"),
            ]
        });
        Some(match self.kind {
            Kind::Avg => &DOCS[0],
            Kind::Sum => &DOCS[1],
        })
    }
}

#[cfg(test)]
mod tests;
