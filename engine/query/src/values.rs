//! What values mean where DataFusion's kernels go by how they are kept.
//!
//! | written | DataFusion 54 | here, as in PostgreSQL and DuckDB |
//! |---|---|---|
//! | `2.7::int`, `2.5::decimal(2,1)::int` | 2, 2 | 3, 3: numbers are rounded ([`casts`]) |
//! | `interval '25 hours' > interval '1 day'` | false: days first, then hours | true: a day has 24 hours, a month 30 days ([`spans`]) |
//! | `0.0 = -0.0`, `GROUP BY` and `DISTINCT` of both | false, two groups | true, one group ([`zeros`]) |
//! | `'2024-03-01 12:00'::timestamp` | an error | 12:00:00 ([`times`]) |
//! | `ts::text` | `2024-03-01T12:00:00` | `2024-03-01 12:00:00` ([`texts`]) |
//!
//! One analyzer rule goes over the expressions of a plan once types are settled and puts functions of this module
//! around the operands concerned. They are in no registry, so that no statement can call them.
//!
//! Limits: `ORDER BY` and windows take -0.0 for less than 0.0; GROUP BY, DISTINCT and joins by intervals compare months,
//! days and time one by one; grouping sets and DISTINCT ON keep zeros apart.

mod casts;
mod function;
mod spans;
mod texts;
mod times;
mod zeros;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use datafusion::optimizer::analyzer::AnalyzerRule;

pub(crate) use texts::{has_text, written};
pub(crate) use times::with_seconds;

/// The rule; it must run after type coercion.
#[derive(Debug, Default)]
pub(crate) struct ValuesMean {}

impl AnalyzerRule for ValuesMean {
    fn name(&self) -> &str {
        "values_mean"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(rewrite_node)?.data)
    }
}

fn rewrite_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let expressions = rewrite_expressions(plan)?;
    let sorted = expressions.transform_data(spans::sort_keys)?;
    sorted.transform_data(zeros::groups)
}

fn rewrite_expressions(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut concerned = false;
    plan.apply_expressions(|expr| {
        concerned |= expr.exists(|e| Ok(is_concerned(e)))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !concerned {
        return Ok(Transformed::no(plan));
    }
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        let source = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?;
        schema.merge(&source);
    }
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let done = expr.transform_up(|e| rewrite(e, &schema))?;
        Ok(done.update_data(|e| name.restore(e)))
    })
}

/// What an expression has to be for one of the rewrites to look at the types of its operands.
fn is_concerned(expr: &Expr) -> bool {
    match expr {
        Expr::Cast(_) | Expr::TryCast(_) | Expr::Between(_) | Expr::InList(_) | Expr::InSubquery(_) => true,
        Expr::BinaryExpr(binary) => compares(binary.op),
        Expr::Case(case) => case.expr.is_some(),
        Expr::ScalarFunction(call) => call.func.name() == "nullif",
        Expr::AggregateFunction(call) => call.params.distinct,
        _ => false,
    }
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn rewrite(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if !is_concerned(&expr) {
        return Ok(Transformed::no(expr));
    }
    match expr {
        Expr::Cast(_) | Expr::TryCast(_) => {
            let rounded = casts::rewrite(expr, schema)?;
            rounded
                .transform_data(|e| times::rewrite(e, schema))?
                .transform_data(|e| texts::rewrite(e, schema))
        }
        other => zeros::rewrite(other, schema)?.transform_data(|e| spans::rewrite(e, schema)),
    }
}

#[cfg(test)]
mod tests;
