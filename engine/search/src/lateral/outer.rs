//! What a plan names and does not have itself: columns of queries further out, and the marks of lateral sub-queries.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};

/// The lateral sub-query on the right of a join.
pub(super) fn subquery_of(plan: &LogicalPlan) -> Option<&Subquery> {
    match plan {
        LogicalPlan::Subquery(s) => Some(s),
        LogicalPlan::SubqueryAlias(a) => subquery_of(&a.input),
        _ => None,
    }
}

/// Takes off the marks of lateral sub-queries that stand on the right of no join: `vector_search` as the first
/// relation of a `FROM` inside of `LATERAL (…)`. Nothing stands beside it that it could depend on, what it depends on
/// is further out, and a condition must find the search below as it finds one without a mark.
pub(crate) fn without_idle_marks(plan: LogicalPlan) -> Result<LogicalPlan> {
    unmarked(plan, false)
}

fn unmarked(plan: LogicalPlan, is_right_side: bool) -> Result<LogicalPlan> {
    let below = |plan: Arc<LogicalPlan>, is_right_side| -> Result<Arc<LogicalPlan>> {
        Ok(Arc::new(unmarked(Arc::unwrap_or_clone(plan), is_right_side)?))
    };
    let plan = match plan {
        LogicalPlan::Subquery(s) => {
            let inner = below(Arc::clone(&s.subquery), false)?;
            return Ok(if is_right_side {
                LogicalPlan::Subquery(s.with_plan(inner))
            } else {
                Arc::unwrap_or_clone(inner)
            });
        }
        LogicalPlan::SubqueryAlias(mut a) => {
            a.input = below(a.input, is_right_side)?;
            return Ok(LogicalPlan::SubqueryAlias(a));
        }
        LogicalPlan::Join(mut join) => {
            join.left = below(join.left, false)?;
            join.right = below(join.right, true)?;
            LogicalPlan::Join(join)
        }
        plan => plan.map_children(|child| Ok(Transformed::yes(unmarked(child, false)?)))?.data,
    };
    Ok(plan.map_subqueries(|inner| Ok(Transformed::yes(unmarked_root(inner)?)))?.data)
}

/// A sub-query in an expression carries a mark of its own, which stays.
fn unmarked_root(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Subquery(s) => {
            let inner = unmarked(Arc::unwrap_or_clone(Arc::clone(&s.subquery)), false)?;
            Ok(LogicalPlan::Subquery(s.with_plan(Arc::new(inner))))
        }
        plan => unmarked(plan, false),
    }
}

pub(super) fn subquery_in(expr: &Expr) -> Option<&LogicalPlan> {
    match expr {
        Expr::ScalarSubquery(s) => Some(&s.subquery),
        Expr::Exists(s) => Some(&s.subquery.subquery),
        Expr::InSubquery(s) => Some(&s.subquery.subquery),
        Expr::SetComparison(s) => Some(&s.subquery.subquery),
        _ => None,
    }
}

/// Whether an expression over `schema` names a column of a query further out, in its sub-queries too.
pub(super) fn has_outer(expr: &Expr, schema: &DFSchema) -> Result<bool> {
    let (mut found, mut scopes) = (None, Vec::new());
    outer_of_expr(expr, &[schema], &mut scopes, &mut found)?;
    Ok(found.is_some())
}

/// Whether a plan's expressions name outer columns.
pub(crate) fn depends(plan: &LogicalPlan) -> Result<bool> {
    Ok(first_outer(plan)?.is_some())
}

/// The first column that a plan, with the sub-queries in its expressions, names and does not have itself.
pub(crate) fn first_outer(plan: &LogicalPlan) -> Result<Option<Column>> {
    let mut found = None;
    outer_of_plan(plan, &mut Vec::new(), &mut found)?;
    Ok(found)
}

fn outer_of_plan<'a>(
    plan: &'a LogicalPlan,
    scopes: &mut Vec<&'a DFSchema>,
    found: &mut Option<Column>,
) -> Result<()> {
    let inputs: Vec<&DFSchema> = plan.inputs().into_iter().map(|p| p.schema().as_ref()).collect();
    for expr in plan.expressions() {
        // Owned copies: what a sub-query in them names is looked at with schemas of their own.
        outer_of_expr(&expr, &inputs, &mut scopes.clone(), found)?;
    }
    if found.is_some() {
        return Ok(());
    }
    match plan {
        LogicalPlan::Join(join) if subquery_of(&join.right).is_some() => {
            outer_of_plan(&join.left, scopes, found)?;
            scopes.push(join.left.schema());
            outer_of_plan(&join.right, scopes, found)?;
            scopes.pop();
        }
        plan => {
            for input in plan.inputs() {
                outer_of_plan(input, scopes, found)?;
            }
        }
    }
    Ok(())
}

fn outer_of_expr(
    expr: &Expr,
    inputs: &[&DFSchema],
    scopes: &mut Vec<&DFSchema>,
    found: &mut Option<Column>,
) -> Result<()> {
    expr.apply(|e| {
        if let Expr::OuterReferenceColumn(_, c) = e
            && !scopes.iter().any(|s| s.maybe_index_of_column(c).is_some())
        {
            found.get_or_insert_with(|| c.clone());
        }
        if let Some(plan) = subquery_in(e) {
            let mut inner: Vec<&DFSchema> = scopes.clone();
            inner.extend_from_slice(inputs);
            outer_of_plan(plan, &mut inner, found)?;
        }
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(())
}
