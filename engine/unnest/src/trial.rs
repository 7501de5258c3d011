//! What DataFusion can do itself is left to it: its plans are better where they exist.
//!
//! Its rules are asked on the operator over inputs of the same columns and no rows.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, JoinType, Result};
use datafusion::logical_expr::utils::{merge_schema, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, EmptyRelation, Expr, Join, LogicalPlan, Operator, check_subquery_expr,
};
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::{OptimizerContext, OptimizerRule};

use crate::domain::{is_of, outer_columns};

/// Whether DataFusion makes joins of all sub-queries in the expressions of an operator.
pub(crate) fn datafusion_can(node: &LogicalPlan) -> Result<bool> {
    let stubs: Vec<LogicalPlan> = node.inputs().into_iter().map(stub).collect();
    let Ok(node) = node.with_new_exprs(node.expressions(), stubs) else { return Ok(false) };
    let schema = merge_schema(&node.inputs());
    let mut can = true;
    node.apply_expressions(|expr| {
        expr.apply(|e| {
            if let Some(subquery) = subquery_of(e) {
                let is_local = outer_columns(subquery)?.iter().all(|c| is_of(c, &schema));
                can &= is_local && check_subquery_expr(&node, subquery, e).is_ok();
            }
            Ok(if can { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        })
    })?;
    if !can {
        return Ok(false);
    }
    let config = OptimizerContext::new();
    let done = DecorrelatePredicateSubquery::new()
        .rewrite(node, &config)
        .and_then(|n| ScalarSubqueryToJoin::new().rewrite(n.data, &config));
    match done {
        Ok(done) => Ok(!remains(&done.data, &schema)?),
        Err(_) => Ok(false),
    }
}

/// Whether it makes a plain join of a LATERAL one.
pub(crate) fn datafusion_can_join(node: &LogicalPlan) -> Result<bool> {
    let LogicalPlan::Join(join) = node else { return Ok(false) };
    let schema = Arc::clone(join.left.schema());
    if !outer_columns(&join.right)?.iter().all(|c| is_of(c, &schema)) {
        return Ok(false);
    }
    let mut join = join.clone();
    join.left = Arc::new(stub(&join.left));
    let done = DecorrelateLateralJoin::new().rewrite(LogicalPlan::Join(join), &OptimizerContext::new());
    match done {
        Ok(done) => Ok(!remains(&done.data, &schema)?),
        Err(_) => Ok(false),
    }
}

fn stub(plan: &LogicalPlan) -> LogicalPlan {
    LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::clone(plan.schema()) })
}

/// The plan of a sub-query.
pub(crate) fn subquery_of(expr: &Expr) -> Option<&LogicalPlan> {
    match expr {
        Expr::ScalarSubquery(s) => Some(&s.subquery),
        Expr::Exists(e) => Some(&e.subquery.subquery),
        Expr::InSubquery(i) => Some(&i.subquery.subquery),
        Expr::SetComparison(c) => Some(&c.subquery.subquery),
        _ => None,
    }
}

/// Whether anything still speaks of columns of `schema` from within a sub-query.
fn remains(plan: &LogicalPlan, schema: &DFSchema) -> Result<bool> {
    let mut found = false;
    plan.apply(|node| {
        found |= matches!(node, LogicalPlan::Subquery(_));
        // DataFusion 54 mixes up columns of mark joins that have no key.
        found |= matches!(node, LogicalPlan::Join(j) if j.join_type == JoinType::LeftMark && !has_key(j));
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                found |= match (e, subquery_of(e)) {
                    (Expr::OuterReferenceColumn(..), _) => true,
                    (_, Some(subquery)) => outer_columns(subquery)?.iter().any(|c| is_of(c, schema)),
                    _ => false,
                };
                Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// Whether a condition of a join is an equality of its sides.
fn has_key(join: &Join) -> bool {
    let is_of = |expr: &Expr, plan: &LogicalPlan| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.iter().all(|c| plan.schema().has_column(c))
    };
    let is_key = |part: &&Expr| match part {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            is_of(left, &join.left) && is_of(right, &join.right)
                || is_of(left, &join.right) && is_of(right, &join.left)
        }
        _ => false,
    };
    !join.on.is_empty() || join.filter.as_ref().is_some_and(|f| split_conjunction(f).iter().any(is_key))
}
