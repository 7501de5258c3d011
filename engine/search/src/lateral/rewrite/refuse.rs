//! What is left over is an error.

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::unsupported;
use crate::lateral::node::LateralSearchNode;
use crate::lateral::outer::first_outer;
use crate::marker::{NearestKey, nearest_key};
use crate::node::VectorSearchNode;

/// Says what `NEAREST … BY` takes where one was not understood.
pub(crate) fn refuse_nearest(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| match node {
        LogicalPlan::Sort(sort) => match sort.expr.iter().find_map(|key| nearest_key(&key.expr)) {
            Some(NearestKey { is_similarity, .. }) => {
                let word = if is_similarity { "SIMILARITY" } else { "DISTANCE" };
                Err(unsupported(
                    format!("NEAREST … BY {word} is not supported with this expression"),
                    if is_similarity {
                        "cosine_similarity or inner_product of a vector column of the joined table and a vector of what stands before it is accepted"
                    } else {
                        "a distance between a vector column of the joined table and a vector of what stands before it is accepted: q.vec <=> d.embedding"
                    },
                ))
            }
            None => Ok(TreeNodeRecursion::Continue),
        },
        _ => Ok(TreeNodeRecursion::Continue),
    })?;
    Ok(())
}

/// Refuses what is left over: searches that depend on rows. Sub-queries that do are not the business of searches.
pub(crate) fn refuse_leftovers(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        if let Some(search) = VectorSearchNode::find(node) {
            const HINT: &str = "write FROM other o CROSS JOIN LATERAL vector_search(table, column, o.vec) v";
            if let Some(column) = first_outer(search.input())? {
                return Err(unsupported(
                    format!("a condition on a search depends on {column} of an outer query"),
                    HINT,
                ));
            }
            let mut outer = None;
            search.query().apply(|e| {
                if let Expr::OuterReferenceColumn(_, c) = e {
                    outer.get_or_insert_with(|| c.to_string());
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
            if let Some(outer) = outer {
                return Err(unsupported(format!("the query of vector_search depends on {outer}"), HINT));
            }
        }
        if let Some(search) = LateralSearchNode::find(node)
            && let Some(column) = first_outer(node)?
        {
            return Err(unsupported(
                format!("a search per row ({}) depends on {column} of a query further out", search.column()),
                "the left side of the LATERAL join can carry the column",
            ));
        }
        if matches!(node, LogicalPlan::Extension(_))
            && let Some(column) = first_outer(node)?
        {
            return Err(unsupported(
                format!("a search depends on {column} of an outer query"),
                "searches per row are vector_search and ORDER BY distance LIMIT k behind LATERAL",
            ));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}
