//! The combinations of outer values that a sub-query asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

/// Names of columns that are made up; no statement has them.
pub(crate) fn fresh(what: &str) -> String {
    // Only differences within one plan matter.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("__unnest_{what}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Outer columns, the names that they go by within the sub-query, and a plan that gives them.
#[derive(Debug, Clone)]
pub(crate) struct Domain {
    outer: Vec<Column>,
    names: Vec<String>,
    plan: Arc<LogicalPlan>,
}

impl Domain {
    /// Of the columns of `input` that `subquery` speaks of.
    pub(crate) fn try_new(input: &LogicalPlan, subquery: &LogicalPlan) -> Result<Self> {
        let mut outer: Vec<Column> = Vec::new();
        for column in outer_columns(subquery)? {
            if is_of(&column, input.schema()) && !outer.contains(&column) {
                outer.push(column);
            }
        }
        let names: Vec<String> = outer.iter().map(|_| fresh("outer")).collect();
        let plan = if outer.is_empty() {
            LogicalPlanBuilder::empty(true).build()?
        } else {
            let columns = outer.iter().zip(&names).map(|(c, n)| Expr::Column(c.clone()).alias(n));
            LogicalPlanBuilder::from(input.clone()).project(columns)?.distinct()?.build()?
        };
        Ok(Self { outer, names, plan: Arc::new(plan) })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.outer.is_empty()
    }

    pub(crate) fn plan(&self) -> LogicalPlan {
        LogicalPlan::clone(&self.plan)
    }

    /// The outer columns.
    pub(crate) fn outer(&self) -> &[Column] {
        &self.outer
    }

    /// The columns that stand for them.
    pub(crate) fn columns(&self) -> Vec<Column> {
        self.names.iter().map(Column::new_unqualified).collect()
    }

    /// The same as expressions.
    pub(crate) fn exprs(&self) -> Vec<Expr> {
        self.columns().into_iter().map(Expr::Column).collect()
    }

    /// Whether any operator of `plan` speaks of one of the outer columns.
    pub(crate) fn is_in(&self, plan: &LogicalPlan) -> Result<bool> {
        Ok(outer_columns(plan)?.iter().any(|c| self.outer.contains(c)))
    }

    /// The expression, with the domain's columns in the place of the outer ones.
    pub(crate) fn inner(&self, expr: Expr) -> Result<Expr> {
        Ok(expr
            .transform(|e| {
                let Expr::OuterReferenceColumn(_, column) = &e else { return Ok(Transformed::no(e)) };
                Ok(match self.outer.iter().position(|c| c == column).and_then(|i| self.names.get(i)) {
                    Some(name) => Transformed::yes(Expr::Column(Column::new_unqualified(name))),
                    None => Transformed::no(e),
                })
            })?
            .data)
    }
}

/// Whether a column that a sub-query speaks of is one of a schema.
pub(crate) fn is_of(column: &Column, schema: &DFSchema) -> bool {
    schema.has_column(column)
}

/// The columns of queries around it that a plan speaks of. Sub-queries within its expressions have none: they have been
/// unnested, or speak of the operator that they belong to alone.
pub(crate) fn outer_columns(plan: &LogicalPlan) -> Result<Vec<Column>> {
    let mut found = Vec::new();
    plan.apply(|node| {
        if let LogicalPlan::Join(join) = node
            && is_lateral(&join.right)
        {
            // What the right side takes from the left one is not from outside.
            let right = outer_columns(&join.right)?;
            found.extend(right.into_iter().filter(|c| !is_of(c, join.left.schema())));
            found.extend(outer_columns(&join.left)?);
            collect(node, &mut found)?;
            return Ok(TreeNodeRecursion::Jump);
        }
        collect(node, &mut found)?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn collect(node: &LogicalPlan, found: &mut Vec<Column>) -> Result<()> {
    node.apply_expressions(|expr| {
        expr.apply(|e| {
            if let Expr::OuterReferenceColumn(_, column) = e {
                found.push(column.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(())
}

/// Whether the right side of a join is LATERAL.
pub(crate) fn is_lateral(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Subquery(_) => true,
        LogicalPlan::SubqueryAlias(alias) => is_lateral(&alias.input),
        _ => false,
    }
}
