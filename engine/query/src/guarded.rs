//! A condition keeps a value from a computation that would fail on it.
//!
//! ```sql
//! SELECT * FROM t WHERE a <> 0 AND 10 / a > 1;
//! SELECT * FROM t WHERE s ~ '^[0-9]+$' AND s::int > 5;
//! ```
//!
//! The parts of an AND are evaluated in any order, together or apart: DataFusion 54 looks at the right side of these for
//! all rows when the left one keeps most of them. The rule puts the guard around what it guards:
//!
//! ```text
//!  a <> 0 AND 10 / a > 1   →   a <> 0 AND CASE WHEN a <> 0 THEN 10 / a > 1 ELSE false END
//! ```
//!
//! *Fires* in the conditions of WHERE and HAVING, for a part that divides whole numbers or decimals by something that
//! is not written out, or reads a text as another type, beside parts that do neither and speak of a column of what it
//! divides by or reads. *Does not fire* for parts over columns of several tables (they may be keys of a join, and are
//! looked at above the conditions of one table), in the conditions of joins, and for guards with sub-queries or calls
//! that may differ from row to row.

use std::collections::HashSet;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, Operator, lit, when};
use datafusion::optimizer::analyzer::AnalyzerRule;

/// The rule; it must run after type coercion.
#[derive(Debug, Default)]
pub(crate) struct Guarded {}

impl AnalyzerRule for Guarded {
    fn name(&self) -> &str {
        "guarded"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(rewrite)?.data)
    }
}

fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Filter(filter) = plan else { return Ok(Transformed::no(plan)) };
    if !matches!(&filter.predicate, Expr::BinaryExpr(BinaryExpr { op: Operator::And, .. })) {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let schema = filter.input.schema();
    let parts = split_conjunction_owned(filter.predicate.clone());
    let dangers = parts.iter().map(|p| dangers(p, schema)).collect::<Result<Vec<_>>>()?;
    if dangers.iter().all(HashSet::is_empty) {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let guards: Vec<&Expr> = parts
        .iter()
        .zip(&dangers)
        .filter(|(part, danger)| danger.is_empty() && can_guard(part))
        .map(|(part, _)| part)
        .collect();
    let mut changed = false;
    let mut guarded = Vec::with_capacity(parts.len());
    for (part, danger) in parts.iter().zip(&dangers) {
        let mine = guards.iter().filter(|g| g.column_refs().iter().any(|c| danger.contains(*c)));
        match conjunction(mine.map(|g| Expr::clone(g))) {
            Some(guard) => {
                changed = true;
                guarded.push(when(guard, part.clone()).otherwise(lit(false))?);
            }
            None => guarded.push(part.clone()),
        }
    }
    match conjunction(guarded) {
        Some(predicate) if changed => {
            Filter::try_new(predicate, filter.input).map(LogicalPlan::Filter).map(Transformed::yes)
        }
        _ => Ok(Transformed::no(LogicalPlan::Filter(filter))),
    }
}

fn can_guard(part: &Expr) -> bool {
    !part.is_volatile() && !has_subquery(part)
}

fn has_subquery(expr: &Expr) -> bool {
    let is_one = |e: &Expr| {
        Ok(matches!(
            e,
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_)
        ))
    };
    expr.exists(is_one).unwrap_or(true)
}

/// The columns of what a condition divides by, or reads from texts.
fn dangers(part: &Expr, schema: &DFSchema) -> Result<HashSet<Column>> {
    let mut found = HashSet::new();
    let tables: HashSet<_> = part.column_refs().iter().map(|c| c.relation.as_ref()).collect();
    if tables.len() > 1 {
        return Ok(found);
    }
    part.apply(|expr| {
        let from = match expr {
            // Branches have conditions of their own.
            Expr::Case(_) => return Ok(TreeNodeRecursion::Jump),
            Expr::BinaryExpr(BinaryExpr { op: Operator::Divide | Operator::Modulo, right, .. })
                if right.get_type(schema).is_ok_and(|t| t.is_integer() || t.is_decimal()) =>
            {
                right
            }
            Expr::Cast(cast) if !is_text(cast.field.data_type()) => match cast.expr.get_type(schema) {
                Ok(from) if is_text(&from) => &cast.expr,
                _ => return Ok(TreeNodeRecursion::Continue),
            },
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        found.extend(from.column_refs().into_iter().cloned());
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn is_text(data_type: &DataType) -> bool {
    data_type.is_string() || data_type.is_null()
}
