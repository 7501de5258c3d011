//! ```sql
//! SELECT id FROM docs ORDER BY embedding <=> '[0.1,0.2,0.3]' LIMIT 10;
//! ```
//!
//! | operator | becomes                        | when                                                        |
//! |----------|--------------------------------|-------------------------------------------------------------|
//! | `<->`    | `l2_distance(a, b)`            | a side is a vector or list                                  |
//! | `<=>`    | `cosine_distance(a, b)`        | a side is a vector; else it stays NULL-safe equality        |
//! | `<#>`    | `negative_inner_product(a, b)` | a side is a vector or list                                  |
//! | `<+>`    | `l1_distance(a, b)`            | a side is a vector or list                                  |
//! | `<~>`    | `hamming_distance(a, b)`       | a side is a vector                                          |
//! | `<%>`    | `jaccard_distance(a, b)`       | a side is a vector                                          |
//! | `+ - *`  | `vector_add` …                 | a side is a vector and the other a vector, list, text, `$1` |
//!
//! A constant text beside a vector is read as a vector of its type here, so that its errors come while the
//! statement is planned; a parameter without a type gets the vector's. Precedence is the parser's matter.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Alias, Placeholder};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::sqlparser::ast::BinaryOperator;
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF};
use triune_common::Error;

use crate::functions::args::Shape;
use crate::functions::arithmetic::{Arithmetic, ArithmeticFunc};
use crate::functions::distance::{DistanceFunc, typed_literal};
use crate::kernels::Metric;
use crate::types::{VectorType, type_name};

/// Plans operators between vectors. Must stand before DataFusion's own planners.
#[derive(Debug, Default, Clone, Copy)]
pub struct VectorExprPlanner;

enum Operator {
    Distance(Metric),
    /// Means something else between scalars.
    Cosine,
    Arithmetic(Arithmetic),
}

fn operator(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::LtDashGt => Operator::Distance(Metric::L2),
        BinaryOperator::Spaceship => Operator::Cosine,
        BinaryOperator::Plus => Operator::Arithmetic(Arithmetic::Add),
        BinaryOperator::Minus => Operator::Arithmetic(Arithmetic::Sub),
        BinaryOperator::Multiply => Operator::Arithmetic(Arithmetic::Mul),
        BinaryOperator::Custom(name) => return named(name),
        // OPERATOR(public.<->), as some clients write it.
        BinaryOperator::PGCustomBinaryOperator(path) => return path.last().and_then(|name| named(name)),
        _ => return None,
    })
}

fn named(name: &str) -> Option<Operator> {
    Some(Operator::Distance(match name {
        "<->" => Metric::L2,
        "<#>" => Metric::NegativeInnerProduct,
        "<+>" => Metric::L1,
        "<~>" => Metric::Hamming,
        "<%>" => Metric::Jaccard,
        "<=>" => return Some(Operator::Cosine),
        _ => return None,
    }))
}

/// The field of an operand. `None` for what cannot be a vector or has no type here: the other planners and
/// DataFusion itself say what is wrong with it.
fn field_of(expr: &Expr, schema: &DFSchema) -> Option<FieldRef> {
    match expr {
        // An operator that is still a binary expression is none between vectors. Not asking for its type
        // keeps `1 + 1 + 1 + …` linear.
        Expr::BinaryExpr(_) => None,
        Expr::Alias(Alias { expr, .. }) => field_of(expr, schema),
        _ => expr.to_field(schema).ok().map(|(_, field)| field),
    }
}

/// Gives a constant text or an untyped parameter the type of the vector on the other side.
fn fit(expr: Expr, ty: VectorType) -> triune_common::Result<Expr> {
    match expr {
        Expr::Literal(value, _) if matches!(value.try_as_str(), Some(Some(_))) => {
            typed_literal(&value, None, ty)
        }
        Expr::Placeholder(Placeholder { id, field })
            if field.as_ref().is_none_or(|f| f.data_type().is_null()) =>
        {
            Ok(Expr::Placeholder(Placeholder::new_with_field(id, Some(Arc::new(ty.field("", true))))))
        }
        other => Ok(other),
    }
}

impl ExprPlanner for VectorExprPlanner {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let Some(operator) = operator(&raw.op) else { return Ok(PlannerResult::Original(raw)) };
        let (left_field, right_field) = (field_of(&raw.left, schema), field_of(&raw.right, schema));
        let shape = |field: &Option<FieldRef>| field.as_ref().and_then(|f| Shape::of(f));
        let (left_shape, right_shape) = (shape(&left_field), shape(&right_field));
        let vector = left_shape.and_then(Shape::vector).or_else(|| right_shape.and_then(Shape::vector));
        let lists = left_shape == Some(Shape::List) || right_shape == Some(Shape::List);
        match (&operator, vector) {
            (Operator::Distance(_) | Operator::Cosine, Some(_)) => {}
            // Whatever stands beside the vector, DataFusion has no such operator to fall back on.
            (Operator::Arithmetic(_), Some(_)) if left_shape.is_some() && right_shape.is_some() => {}
            (Operator::Distance(_), None) if lists => {}
            (Operator::Distance(_), None) => {
                let name = |field: &Option<FieldRef>| {
                    field.as_ref().map_or_else(|| "an expression".to_owned(), |f| type_name(f))
                };
                let (l, r) = (name(&left_field), name(&right_field));
                return Err(Error::invalid(format!(
                    "the operator {} needs a vector, got {l} and {r}",
                    raw.op
                ))
                .with_hint("cast a side: '[1,2,3]'::VECTOR(3)")
                .into());
            }
            _ => return Ok(PlannerResult::Original(raw)),
        }
        let RawBinaryExpr { left, right, .. } = raw;
        let (left, right) = match vector {
            // Only the side that is no vector itself is fitted.
            Some(ty) => (fit(left, ty)?, fit(right, ty)?),
            None => (left, right),
        };
        let metric = match operator {
            Operator::Arithmetic(op) => {
                return Ok(PlannerResult::Planned(ArithmeticFunc::call(op, left, right)));
            }
            Operator::Cosine => Metric::Cosine,
            Operator::Distance(metric) => metric,
        };
        let function = ScalarUDF::new_from_impl(DistanceFunc::of_metric(metric));
        Ok(PlannerResult::Planned(function.call(vec![left, right])))
    }
}

#[cfg(test)]
mod tests;
