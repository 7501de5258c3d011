//! Which conditions of a `WHERE` come before a search.
//!
//! A conjunct goes below a search when all columns it names, its sub-queries' references to this
//! `SELECT` included, are columns of that search's table, and it names at least one. On the way from the
//! filter to the search there may be joins; only the sides are entered whose rows a join does not
//! complete with NULLs, because a condition on those (`v.id IS NULL`) speaks of the join, not of the
//! table.
//!
//! A conjunct that compares the table with an *outer* query's row (`v.tenant = o.tenant` in a correlated
//! sub-query) would have to run once per outer row. It is refused: above the search it would silently
//! find less than k rows.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DataFusionError, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, JoinType, LogicalPlan};
use triune_common::Error;

use crate::fusion::rewrite::{restricted, rows_of};

/// Moves what may be moved and keeps the filter for the rest.
pub(super) fn bind(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    if !reaches_search(&filter.input) {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let mut conjuncts = split_conjunction_owned(filter.predicate);
    let before = conjuncts.len();
    let input = sink(Arc::unwrap_or_clone(filter.input), &mut conjuncts)?;
    let moved = conjuncts.len() < before;
    let plan = match conjunction(conjuncts) {
        Some(rest) => LogicalPlan::Filter(Filter::try_new(rest, Arc::new(input))?),
        None => input,
    };
    Ok(if moved { Transformed::yes(plan) } else { Transformed::no(plan) })
}

fn sides(join_type: JoinType) -> (bool, bool) {
    match join_type {
        JoinType::Inner => (true, true),
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => (true, false),
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => (false, true),
        JoinType::Full => (false, false),
    }
}

fn reaches_search(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Join(join) => {
            let (left, right) = sides(join.join_type);
            (left && reaches_search(&join.left)) || (right && reaches_search(&join.right))
        }
        plan => rows_of(plan).is_some(),
    }
}

/// Takes the conjuncts that go below a search of `plan` out of the list.
fn sink(plan: LogicalPlan, conjuncts: &mut Vec<Expr>) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Join(mut join) => {
            let (left, right) = sides(join.join_type);
            if left && reaches_search(&join.left) {
                join.left = Arc::new(sink(Arc::unwrap_or_clone(join.left), conjuncts)?);
            }
            if right && reaches_search(&join.right) {
                join.right = Arc::new(sink(Arc::unwrap_or_clone(join.right), conjuncts)?);
            }
            Ok(LogicalPlan::Join(join))
        }
        plan => {
            let Some(rows) = rows_of(&plan) else { return Ok(plan) };
            let mut below = Vec::new();
            let mut above = Vec::new();
            for conjunct in conjuncts.drain(..) {
                if belongs(&conjunct, rows)? { below.push(conjunct) } else { above.push(conjunct) }
            }
            *conjuncts = above;
            match conjunction(below) {
                Some(predicate) => restricted(&plan, &predicate),
                None => Ok(plan),
            }
        }
    }
}

/// Whether a conjunct speaks of the search's table and of nothing else.
fn belongs(conjunct: &Expr, rows: &LogicalPlan) -> Result<bool> {
    let mut columns: HashSet<Column> = HashSet::new();
    let mut outer: Option<Column> = None;
    let table = rows.schema();
    conjunct.apply(|e| {
        let references: &[Expr] = match e {
            Expr::Column(c) => {
                columns.insert(c.clone());
                &[]
            }
            Expr::OuterReferenceColumn(_, c) => {
                outer = Some(c.clone());
                &[]
            }
            Expr::ScalarSubquery(s) => &s.outer_ref_columns,
            Expr::InSubquery(s) => &s.subquery.outer_ref_columns,
            Expr::Exists(s) => &s.subquery.outer_ref_columns,
            Expr::SetComparison(s) => &s.subquery.outer_ref_columns,
            _ => &[],
        };
        columns.extend(references.iter().filter_map(|r| match r {
            Expr::OuterReferenceColumn(_, c) => Some(c.clone()),
            _ => None,
        }));
        Ok(TreeNodeRecursion::Continue)
    })?;
    let all_of_table =
        !columns.is_empty() && columns.iter().all(|c| table.maybe_index_of_column(c).is_some());
    match outer {
        Some(column) if all_of_table => Err(DataFusionError::from(
            Error::unsupported(format!(
                "a condition on a search depends on {column} of an outer query: {conjunct}"
            ))
            .with_hint("a search per row is not supported; search once and join, or write id IN (SELECT id FROM vector_search(…))"),
        )),
        Some(_) => Ok(false),
        None => Ok(all_of_table),
    }
}
