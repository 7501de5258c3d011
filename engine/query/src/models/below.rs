//! `ORDER BY embed(title, 'm') <=> …`, `GROUP BY embed(title, 'm')`
//!
//! ```text
//!  Sort: embed(title) <=> v        Projection: id, title
//!    …                       →       Sort: "@embed0" <=> v
//!                                      Projection: id, title, embed(title) AS "@embed0"
//!                                        …
//! ```
//!
//! DataFusion computes functions that wait in projections, filters and arguments of aggregates only. For sorts and groups
//! they are put into a projection below; in any other place they are an error that says what to do.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, Sort, SortExpr, ident};
use datafusion::optimizer::analyzer::AnalyzerRule;
use triune_common::Error;

/// The rule; it must run after type coercion.
#[derive(Debug, Default)]
pub(crate) struct EmbedBelow {}

impl AnalyzerRule for EmbedBelow {
    fn name(&self) -> &str {
        "embed_below"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(rewrite_node).data()
    }
}

fn waits(expr: &Expr) -> bool {
    let call = |e: &Expr| Ok(matches!(e, Expr::ScalarFunction(f) if f.func.as_async().is_some()));
    expr.exists(call).unwrap_or(false)
}

fn rewrite_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) => Ok(Transformed::no(plan)),
        LogicalPlan::Sort(sort) if sort.expr.iter().any(|by| waits(&by.expr)) => sorted(sort),
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.iter().any(waits) => grouped(aggregate),
        LogicalPlan::Aggregate(_) => Ok(Transformed::no(plan)),
        other => {
            let mut found = false;
            other.apply_expressions(|expr| {
                found |= waits(expr);
                Ok(TreeNodeRecursion::Continue)
            })?;
            if !found {
                return Ok(Transformed::no(other));
            }
            Err(Error::unsupported("embed() of a column is not computed in this place")
                .with_hint(
                    "compute it in a sub-query: FROM (SELECT *, embed(title, 'model') AS v FROM docs) AS d",
                )
                .into())
        }
    }
}

/// Calls that a projection will compute.
#[derive(Default)]
struct Calls(Vec<Expr>);

impl Calls {
    /// Puts columns in the places of calls.
    fn take(&mut self, expr: Expr) -> Result<Expr> {
        expr.transform_up(|e| {
            if !matches!(&e, Expr::ScalarFunction(f) if f.func.as_async().is_some()) {
                return Ok(Transformed::no(e));
            }
            let at = self.0.iter().position(|known| *known == e).unwrap_or_else(|| {
                self.0.push(e);
                self.0.len() - 1
            });
            Ok(Transformed::yes(ident(format!("@embed{at}"))))
        })
        .data()
    }

    fn below(self, input: Arc<LogicalPlan>) -> Result<LogicalPlan> {
        let mut items: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
        items.extend(self.0.into_iter().enumerate().map(|(at, call)| call.alias(format!("@embed{at}"))));
        LogicalPlanBuilder::from(input).project(items)?.build()
    }
}

fn sorted(sort: Sort) -> Result<Transformed<LogicalPlan>> {
    let Sort { expr, input, fetch } = sort;
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let mut calls = Calls::default();
    let expr = expr
        .into_iter()
        .map(|by| Ok(SortExpr { expr: calls.take(by.expr)?, ..by }))
        .collect::<Result<Vec<_>>>()?;
    let input = Arc::new(calls.below(input)?);
    let sort = LogicalPlan::Sort(Sort { expr, input, fetch });
    Ok(Transformed::yes(LogicalPlanBuilder::from(sort).project(columns)?.build()?))
}

fn grouped(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let Aggregate { input, group_expr, aggr_expr, .. } = aggregate;
    let mut calls = Calls::default();
    // The plan above knows the groups by how their expressions look.
    let names = NamePreserver::new_for_projection();
    let group_expr = group_expr
        .into_iter()
        .map(|expr| {
            let name = names.save(&expr);
            Ok(name.restore(calls.take(expr)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let input = Arc::new(calls.below(input)?);
    Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(input, group_expr, aggr_expr)?)))
}
