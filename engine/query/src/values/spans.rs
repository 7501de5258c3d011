//! Intervals are compared by their length.
//!
//! `interval '25 hours' > interval '1 day'`, `a - b > interval '1 hour'`, `ORDER BY i`: as PostgreSQL does, a month is
//! taken for 30 days and a day for 24 hours. Arrow compares months, then days, then the rest.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, LogicalPlan};

use super::function::{Meaning, Op};

pub(super) fn rewrite(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let is_span = |e: &Expr| matches!(e.get_type(schema), Ok(DataType::Interval(_)));
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if super::compares(op) && (is_span(&left) || is_span(&right)) =>
        {
            let (left, right) = (Box::new(length(*left)), Box::new(length(*right)));
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
        }
        Expr::Between(Between { expr, negated, low, high }) if is_span(&expr) => {
            let [expr, low, high] = [expr, low, high].map(|e| Box::new(length(*e)));
            Transformed::yes(Expr::Between(Between { expr, negated, low, high }))
        }
        Expr::InList(mut list) if is_span(&list.expr) => {
            list.expr = Box::new(length(*list.expr));
            list.list = list.list.into_iter().map(length).collect();
            Transformed::yes(Expr::InList(list))
        }
        other => Transformed::no(other),
    })
}

fn length(expr: Expr) -> Expr {
    if Meaning::is(Op::Length, &expr) { expr } else { Meaning::call(Op::Length, expr) }
}

/// The keys of a sort that are intervals.
pub(super) fn sort_keys(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Sort(mut sort) = plan else { return Ok(Transformed::no(plan)) };
    let mut changed = false;
    for key in &mut sort.expr {
        if matches!(key.expr.get_type(sort.input.schema().as_ref()), Ok(DataType::Interval(_))) {
            key.expr = length(std::mem::take(&mut key.expr));
            changed = true;
        }
    }
    let plan = LogicalPlan::Sort(sort);
    Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
}
