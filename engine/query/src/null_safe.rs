//! `a IS NOT DISTINCT FROM b` as the condition of a join, in equalities.
//!
//! ```text
//!  ON a.x IS NOT DISTINCT FROM b.x   →   ON (a.x IS NULL) = (b.x IS NULL) AND coalesce(a.x, 0) = coalesce(b.x, 0)
//! ```
//!
//! DataFusion 54 makes keys of such conditions and marks the join as one to which NULLs are equal. Later it adds keys from
//! other conditions to the same join (`WHERE a.y = b.y`), for which they are not: rows with NULL in both `y` came
//! out. Equalities as above need no mark.
//!
//! *Does not fire* for lists, structs and types without a value that can stand for NULL; a side that is never NULL
//! makes a plain `=` of it.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, lit};
use datafusion::optimizer::optimizer::{ApplyOrder, Optimizer};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// DataFusion's rules with ours before the one that makes keys.
pub(crate) fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    let keys = rules.iter().position(|r| r.name() == "extract_equijoin_predicate").unwrap_or(0);
    rules.insert(keys, Arc::new(NullSafeKeys::default()));
    rules
}

#[derive(Debug, Default)]
struct NullSafeKeys {}

impl OptimizerRule for NullSafeKeys {
    fn name(&self) -> &str {
        "null_safe_keys"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(mut join) = plan else { return Ok(Transformed::no(plan)) };
        let Some(filter) = join.filter.take() else { return Ok(Transformed::no(LogicalPlan::Join(join))) };
        let mut parts = Vec::new();
        let mut changed = false;
        for part in split_conjunction_owned(filter) {
            match part {
                Expr::BinaryExpr(BinaryExpr { left, op: Operator::IsNotDistinctFrom, right }) => {
                    let (l, r) = (join.left.schema(), join.right.schema());
                    let pair = if is_of(&left, l) && is_of(&right, r) {
                        equalities(&left, l, &right, r)
                    } else if is_of(&left, r) && is_of(&right, l) {
                        equalities(&left, r, &right, l)
                    } else {
                        None
                    };
                    changed |= pair.is_some();
                    let op = Operator::IsNotDistinctFrom;
                    parts.extend(
                        pair.unwrap_or_else(|| vec![Expr::BinaryExpr(BinaryExpr { left, op, right })]),
                    );
                }
                other => parts.push(other),
            }
        }
        join.filter = conjunction(parts);
        let plan = LogicalPlan::Join(join);
        Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
    }
}

fn is_of(expr: &Expr, schema: &DFSchema) -> bool {
    let columns = expr.column_refs();
    !columns.is_empty() && columns.iter().all(|c| schema.has_column(c))
}

fn equalities(left: &Expr, l: &DFSchema, right: &Expr, r: &DFSchema) -> Option<Vec<Expr>> {
    if !left.nullable(l).ok()? || !right.nullable(r).ok()? {
        return Some(vec![left.clone().eq(right.clone())]);
    }
    let data_type = left.get_type(l).ok()?;
    if data_type.is_nested() || matches!(data_type, DataType::Null | DataType::Dictionary(..)) {
        return None;
    }
    let other = lit(ScalarValue::new_default(&data_type).ok()?);
    let value = |e: &Expr| coalesce(vec![e.clone(), other.clone()]);
    Some(vec![left.clone().is_null().eq(right.clone().is_null()), value(left).eq(value(right))])
}
