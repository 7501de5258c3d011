//! The marker function becomes a search node, and the conditions of its `WHERE` go below it.
//!
//! ```text
//! before  Filter: v.lang = 'en' AND v._distance < 0.5
//!           SubqueryAlias: v
//!             Projection: docs.id, docs.lang, docs.e, __vector_search('e', $1, 10, '{}') AS _distance
//!               TableScan: docs
//!
//! after   Filter: v._distance < 0.5
//!           Sort: v._distance ASC NULLS LAST, fetch=10
//!             VectorSearch: column=v.e, metric=cosine, k=10, query=$1
//!               Filter: v.lang = 'en'
//!                 SubqueryAlias: v
//!                   TableScan: docs
//! ```
//!
//! The alias moves below the search, so that conditions move without being rewritten, correlated
//! sub-queries included. Which conditions move is decided here and nowhere else (see the crate's page),
//! on the shape that the planner gives to one `SELECT`: a filter above joins above the relation, without
//! a projection between them.
//!
//! *Position*: before every other analyzer rule. *Idempotent*: no marker is left after the first run.
//!
//! # Errors
//! Unknown column, column that is no vector, wrong number of dimensions, metric that does not fit the
//! type, NULL query, query or condition that depends on an outer query, a table that has `_distance`.

mod bind;
pub(crate) mod search;

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, SubqueryAlias};
use datafusion::optimizer::analyzer::AnalyzerRule;
use triune_common::Error;

use crate::fusion::rewrite::{renamed, rows_of};
use crate::lateral;
use crate::marker::{is_marker, marker_args};
use crate::{fusion, text};

/// See the module.
#[derive(Debug, Default)]
pub struct VectorSearchAnalyzerRule {}

impl VectorSearchAnalyzerRule {
    pub fn new() -> Self {
        Self {}
    }
}

impl AnalyzerRule for VectorSearchAnalyzerRule {
    fn name(&self) -> &str {
        "vector_search"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        if !has_marker(&plan)? && !has_lateral(&plan)? {
            return Ok(plan);
        }
        let plan = lateral::outer::without_idle_marks(plan)?;
        let plan = plan.transform_up_with_subqueries(rewrite)?.data;
        if has_marker(&plan)? {
            lateral::rewrite::refuse_nearest(&plan)?;
            return Err(DataFusionError::from(
                Error::invalid("__vector_search, __text_search and __fusion are not functions of their own")
                    .with_hint("write FROM vector_search(table, column, query) or text_search(table, query)"),
            ));
        }
        lateral::rewrite::refuse_leftovers(&plan)?;
        Ok(plan)
    }
}

fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Projection(p) if p.expr.iter().any(|e| marker_args(e).is_some()) => {
            search::of_projection(p).map(Transformed::yes)
        }
        LogicalPlan::Projection(p) if p.expr.iter().any(|e| text::marker::marker_args(e).is_some()) => {
            text::rewrite::of_projection(p).map(Transformed::yes)
        }
        LogicalPlan::Projection(p) if p.expr.iter().any(|e| fusion::marker::marker_args(e).is_some()) => {
            fusion::rewrite::of_projection(&p).map(Transformed::yes)
        }
        LogicalPlan::SubqueryAlias(alias) => adopt_alias(alias),
        LogicalPlan::Filter(filter) => bind::bind(filter),
        LogicalPlan::Join(join) => lateral::rewrite::join(join),
        other => Ok(Transformed::no(other)),
    }
}

/// Moves an alias, with the column names it may give, below the search that it names.
fn adopt_alias(alias: SubqueryAlias) -> Result<Transformed<LogicalPlan>> {
    let unchanged = |alias| Ok(Transformed::no(LogicalPlan::SubqueryAlias(alias)));
    // The alias goes below the mark of a lateral sub-query as well.
    let (input, lateral) = match alias.input.as_ref() {
        LogicalPlan::Subquery(s) => (&s.subquery, Some(s)),
        _ => (&alias.input, None),
    };
    let (search, names) = match input.as_ref() {
        // `AS v(a, b, d)`: the planner renames with a projection below the alias.
        LogicalPlan::Projection(p) => match plain_names(p) {
            Some(names) => (&p.input, Some(names)),
            None => return unchanged(alias),
        },
        _ => (input, None),
    };
    if rows_of(search).is_none() {
        return unchanged(alias);
    }
    let new = renamed(search, &alias.alias, names)?;
    Ok(Transformed::yes(match lateral {
        Some(lateral) => LogicalPlan::Subquery(lateral.with_plan(Arc::new(new))),
        None => new,
    }))
}

/// The names that a projection gives to exactly the columns of its input, in their order.
fn plain_names(projection: &Projection) -> Option<Vec<String>> {
    let input = projection.input.schema();
    if projection.expr.len() != input.fields().len() {
        return None;
    }
    projection
        .expr
        .iter()
        .enumerate()
        .map(|(i, expr)| match expr {
            Expr::Alias(a) if a.relation.is_none() => match a.expr.as_ref() {
                Expr::Column(c) if input.maybe_index_of_column(c) == Some(i) => Some(a.name.clone()),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

/// Whether a sub-query in a FROM depends on its neighbours.
fn has_lateral(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::Subquery(_));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn has_marker(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|e| match e {
                Expr::ScalarFunction(call) => Ok(is_marker(&call.func)
                    || text::marker::is_marker(&call.func)
                    || fusion::marker::is_marker(&call.func)),
                _ => Ok(false),
            })?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    Ok(found)
}
