//! The rule that goes over a plan.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Sort, Subquery};
use datafusion::optimizer::analyzer::AnalyzerRule;

use crate::attach::{attach, attach_lateral};
use crate::domain::{is_lateral, is_of, outer_columns};
use crate::trial::{datafusion_can, datafusion_can_join, subquery_of};

/// Makes joins of sub-queries that speak of queries around them; see the crate. It must run after type coercion.
#[derive(Debug, Default)]
pub struct UnnestRule {}

impl AnalyzerRule for UnnestRule {
    fn name(&self) -> &str {
        "unnest"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        if has_outer(&plan)? { unnest(plan) } else { Ok(plan) }
    }
}

fn has_outer(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= node.contains_outer_reference();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn unnest(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.map_children(|child| unnest(child).map(Transformed::yes))?.data;
    if let LogicalPlan::Join(join) = &plan
        && is_lateral(&join.right)
        && !outer_columns(&join.right)?.is_empty()
        && !datafusion_can_join(&plan)?
    {
        return attach_lateral(join);
    }
    let mut correlated = false;
    let plan = plan.map_expressions(|expr| {
        expr.transform_up(|e| {
            if subquery_of(&e).is_none() {
                return Ok(Transformed::no(e));
            }
            let e = within(e)?;
            if let Some(subquery) = subquery_of(&e) {
                correlated |= !outer_columns(subquery)?.is_empty();
            }
            Ok(Transformed::yes(e))
        })
    })?;
    let plan = match plan.data {
        LogicalPlan::Sort(sort) if correlated => return sorted(sort),
        plan => plan,
    };
    if correlated && !datafusion_can(&plan)? { attach(&plan) } else { Ok(plan) }
}

/// `SELECT id FROM t ORDER BY (SELECT … t.a …)`: what is sorted has `a` too, which is taken away again above.
fn sorted(sort: Sort) -> Result<LogicalPlan> {
    let LogicalPlan::Projection(shown) = sort.input.as_ref() else { return attach(&LogicalPlan::Sort(sort)) };
    let mut missing: Vec<Column> = Vec::new();
    for key in &sort.expr {
        key.expr.apply(|e| {
            if let Some(subquery) = subquery_of(e) {
                for column in outer_columns(subquery)? {
                    let is_below = !is_of(&column, &shown.schema) && is_of(&column, shown.input.schema());
                    if is_below && !missing.contains(&column) {
                        missing.push(column);
                    }
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    if missing.is_empty() {
        return attach(&LogicalPlan::Sort(sort));
    }
    let exprs = shown.expr.iter().cloned().chain(missing.into_iter().map(Expr::Column)).collect();
    let input = Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, Arc::clone(&shown.input))?));
    let columns: Vec<Expr> = shown.schema.columns().into_iter().map(Expr::Column).collect();
    let sorted = attach(&LogicalPlan::Sort(Sort { input, ..sort }))?;
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(sorted))?))
}

/// A sub-query's own sub-queries first.
fn within(expr: Expr) -> Result<Expr> {
    let inner = |subquery: Subquery| -> Result<Subquery> {
        let plan = unnest(Arc::unwrap_or_clone(subquery.subquery))?;
        let mut outer = Vec::new();
        plan.apply(|node| {
            node.apply_expressions(|e| {
                e.apply(|e| {
                    if matches!(e, Expr::OuterReferenceColumn(..)) && !outer.contains(e) {
                        outer.push(e.clone());
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        Ok(Subquery { subquery: Arc::new(plan), outer_ref_columns: outer, spans: subquery.spans })
    };
    Ok(match expr {
        Expr::ScalarSubquery(subquery) => Expr::ScalarSubquery(inner(subquery)?),
        Expr::Exists(Exists { subquery, negated }) => {
            Expr::Exists(Exists { subquery: inner(subquery)?, negated })
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            Expr::InSubquery(InSubquery { expr, subquery: inner(subquery)?, negated })
        }
        Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => {
            Expr::SetComparison(SetComparison { expr, subquery: inner(subquery)?, op, quantifier })
        }
        other => other,
    })
}
