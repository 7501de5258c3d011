//! The two zeros of floats are one value.
//!
//! | written | becomes |
//! |---|---|
//! | `x = 0`, `x <> 0` of a column | `x >= -0.0 AND x <= 0.0`, `x < -0.0 OR x > 0.0`: scans can go by it |
//! | `x < 0`, `x >= 0`, `x <= 0`, `x > 0` | the same with -0.0, -0.0, 0.0, 0.0 |
//! | `x < y`, `x IN (y, 0)`, `CASE x WHEN 0 …`, `nullif(x, 0)`, `count(DISTINCT x)` | the same of `unsigned_zero(x)` … |
//! | `GROUP BY x`, `DISTINCT`, `UNION`, joins `USING` | the same of `unsigned_zero(x)` |
//!
//! Comparisons with other numbers that are written out stay as they are. Arrow orders floats by their bits, so that
//! -0.0 is less than 0.0; NaN is equal to itself and greater than all, as in PostgreSQL.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, JoinConstraint, Result, ScalarValue};
use datafusion::logical_expr::expr::{InList, InSubquery};
use datafusion::logical_expr::{
    Aggregate, Between, BinaryExpr, Distinct, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator,
};

use super::function::{Meaning, Op};

pub(super) fn rewrite(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let is_float = |e: &Expr| matches!(e.get_type(schema), Ok(t) if t.is_floating());
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_float(&left) && is_float(&right) => {
            comparison(*left, op, *right)
        }
        Expr::Between(Between { expr, negated, low, high }) if is_float(&expr) => {
            let between = |expr, low, high| {
                let [expr, low, high] = [expr, low, high].map(Box::new);
                Transformed::yes(Expr::Between(Between { expr, negated, low, high }))
            };
            match (constant(&low), constant(&high)) {
                (Some(low), Some(high)) => between(*expr, low.least(), high.greatest()),
                _ => between(unsigned(*expr), unsigned(*low), unsigned(*high)),
            }
        }
        Expr::InList(list) if is_float(&list.expr) => in_list(list),
        Expr::InSubquery(of) if is_float(&of.expr) => {
            let elements =
                of.subquery.subquery.schema().columns().into_iter().map(Expr::Column).map(unsigned);
            let plan = LogicalPlan::clone(&of.subquery.subquery);
            let plan = LogicalPlanBuilder::from(plan).project(elements.collect::<Vec<_>>())?.build()?;
            let expr = Box::new(unsigned(*of.expr));
            Transformed::yes(Expr::InSubquery(InSubquery {
                expr,
                subquery: of.subquery.with_plan(Arc::new(plan)),
                negated: of.negated,
            }))
        }
        Expr::Case(mut case) if case.expr.as_deref().is_some_and(is_float) => {
            case.expr = case.expr.map(|e| Box::new(unsigned(*e)));
            for (when, _) in &mut case.when_then_expr {
                **when = unsigned(std::mem::take(when));
            }
            Transformed::yes(Expr::Case(case))
        }
        Expr::ScalarFunction(mut call) if call.args.iter().all(is_float) => {
            call.args = call.args.into_iter().map(unsigned).collect();
            Transformed::yes(Expr::ScalarFunction(call))
        }
        Expr::AggregateFunction(mut call) if call.params.args.iter().any(is_float) => {
            let one = |e| if is_float(&e) { unsigned(e) } else { e };
            call.params.args = call.params.args.into_iter().map(one).collect();
            Transformed::yes(Expr::AggregateFunction(call))
        }
        other => Transformed::no(other),
    })
}

fn unsigned(expr: Expr) -> Expr {
    match constant(&expr) {
        Some(constant) => constant.greatest(),
        None if Meaning::is(Op::UnsignedZero, &expr) => expr,
        None => Meaning::call(Op::UnsignedZero, expr),
    }
}

fn comparison(left: Expr, op: Operator, right: Expr) -> Transformed<Expr> {
    let binary =
        |left, op, right| Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) });
    let (left, op, right) = match (constant(&left), op.swap()) {
        (Some(_), Some(swapped)) if constant(&right).is_none() => (right, swapped, left),
        _ => (left, op, right),
    };
    let Some(constant) = constant(&right) else {
        return Transformed::yes(binary(unsigned(left), op, unsigned(right)));
    };
    if !constant.is_zero {
        return Transformed::no(binary(left, op, right));
    }
    let is_column = matches!(left, Expr::Column(_));
    Transformed::yes(match op {
        Operator::Eq if is_column => {
            let low = binary(left.clone(), Operator::GtEq, constant.least());
            binary(low, Operator::And, binary(left, Operator::LtEq, constant.greatest()))
        }
        Operator::NotEq if is_column => {
            let low = binary(left.clone(), Operator::Lt, constant.least());
            binary(low, Operator::Or, binary(left, Operator::Gt, constant.greatest()))
        }
        Operator::Lt | Operator::GtEq => binary(left, op, constant.least()),
        Operator::LtEq | Operator::Gt => binary(left, op, constant.greatest()),
        _ => binary(unsigned(left), op, constant.greatest()),
    })
}

fn in_list(mut list: InList) -> Transformed<Expr> {
    let constants: Option<Vec<Constant>> = list.list.iter().map(constant).collect();
    match constants {
        Some(constants) => match constants.iter().find(|c| c.is_zero) {
            Some(zero) => {
                list.list.extend([zero.least(), zero.greatest()]);
                Transformed::yes(Expr::InList(list))
            }
            None => Transformed::no(Expr::InList(list)),
        },
        None => {
            list.expr = Box::new(unsigned(*list.expr));
            list.list = list.list.into_iter().map(unsigned).collect();
            Transformed::yes(Expr::InList(list))
        }
    }
}

/// A number that is written out, as what the comparison takes.
struct Constant {
    value: ScalarValue,
    is_zero: bool,
}

impl Constant {
    /// Itself, -0.0 if it is a zero.
    fn least(&self) -> Expr {
        self.zero_or(true)
    }

    /// Itself, 0.0 if it is a zero.
    fn greatest(&self) -> Expr {
        self.zero_or(false)
    }

    fn zero_or(&self, negative: bool) -> Expr {
        let sign = if negative { -1.0_f32 } else { 1.0 };
        let value = match &self.value {
            value if !self.is_zero => value.clone(),
            ScalarValue::Float16(_) => {
                ScalarValue::Float16(Some(half::f16::from_f32(0.0_f32.copysign(sign))))
            }
            ScalarValue::Float32(_) => ScalarValue::Float32(Some(0.0_f32.copysign(sign))),
            _ => ScalarValue::Float64(Some(0.0_f64.copysign(f64::from(sign)))),
        };
        Expr::Literal(value, None)
    }
}

/// `None` for what is not written out, and for NULL.
fn constant(expr: &Expr) -> Option<Constant> {
    let value = literal(expr)?;
    let is_zero = match &value {
        ScalarValue::Float16(Some(v)) => v.to_f32() == 0.0,
        ScalarValue::Float32(Some(v)) => *v == 0.0,
        ScalarValue::Float64(Some(v)) => *v == 0.0,
        _ => return None,
    };
    Some(Constant { value, is_zero })
}

/// A literal below casts and signs.
fn literal(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(cast) => literal(&cast.expr)?.cast_to(cast.field.data_type()).ok(),
        Expr::Negative(inner) => literal(inner)?.arithmetic_negate().ok(),
        Expr::Alias(alias) => literal(&alias.expr),
        _ => None,
    }
}

fn is_float(field: &arrow::datatypes::Field) -> bool {
    matches!(field.data_type(), DataType::Float16 | DataType::Float32 | DataType::Float64)
}

/// What puts equal values together.
pub(super) fn groups(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => group_by(aggregate),
        LogicalPlan::Distinct(Distinct::All(input))
            if input.schema().fields().iter().any(|f| is_float(f)) =>
        {
            let columns = input.schema().iter().map(|(qualifier, field)| {
                let column = Expr::Column((qualifier, field).into());
                if is_float(field) {
                    unsigned(column).alias_qualified(qualifier.cloned(), field.name())
                } else {
                    column
                }
            });
            let columns: Vec<Expr> = columns.collect();
            let input = LogicalPlanBuilder::from(LogicalPlan::clone(&input)).project(columns)?.build()?;
            Ok(Transformed::yes(LogicalPlan::Distinct(Distinct::All(Arc::new(input)))))
        }
        LogicalPlan::Join(mut join) => {
            let mut changed = false;
            for (left, right) in &mut join.on {
                for (side, input) in [(left, &join.left), (right, &join.right)] {
                    if matches!(side.get_type(input.schema()), Ok(t) if t.is_floating()) {
                        *side = unsigned(std::mem::take(side));
                        changed = true;
                    }
                }
            }
            if changed {
                // Of a join by USING the keys are columns.
                join.join_constraint = JoinConstraint::On;
            }
            let plan = LogicalPlan::Join(join);
            Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
        }
        other => Ok(Transformed::no(other)),
    }
}

fn group_by(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let has_sets = aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_)));
    let fields: Vec<_> = aggregate.schema.iter().take(aggregate.group_expr.len()).collect();
    if has_sets || !fields.iter().any(|(_, field)| is_float(field)) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let group_expr = aggregate.group_expr.iter().zip(&fields).map(|(expr, (qualifier, field))| {
        if is_float(field) {
            unsigned(expr.clone()).alias_qualified(qualifier.cloned(), field.name())
        } else {
            expr.clone()
        }
    });
    let group_expr = group_expr.collect();
    let done = Aggregate::try_new(aggregate.input, group_expr, aggregate.aggr_expr)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(done)))
}
