//! Which conditions of a `WHERE` come before a search.
//!
//! A conjunct goes below a search when all columns it names, its sub-queries' references to this
//! `SELECT` included, are columns of that search's table, and it names at least one. On the way from the
//! filter to the search there may be joins; only the sides are entered whose rows a join does not
//! complete with NULLs, because a condition on those (`v.id IS NULL`) speaks of the join, not of the
//! table.
//!
//! A conjunct that compares the table with an *outer* query's row (`v.tenant = o.tenant` in a lateral
//! sub-query) goes below the search as well, from where the join above takes it up ([`crate::lateral`]).
//! Where there is no such join it is refused in the end: above the search it would silently find less than k
//! rows.
//!
//! Under a lateral join of `vector_search` a conjunct over the searched table goes below the search, and one
//! over the left side below the left side.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Extension, Filter, JoinType, LogicalPlan, Projection};

use crate::fusion::rewrite::{restricted, rows_of};
use crate::lateral::LateralSearchNode;

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
        LogicalPlan::Projection(p) => LateralSearchNode::find(&p.input).is_some(),
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
        LogicalPlan::Projection(p) => {
            let Some(node) = LateralSearchNode::find(&p.input) else { return Ok(LogicalPlan::Projection(p)) };
            let mut left = Arc::clone(node.left());
            if reaches_search(&left) {
                left = Arc::new(sink(Arc::unwrap_or_clone(left), conjuncts)?);
            }
            let (mut to_left, mut to_right, mut above) = (Vec::new(), Vec::new(), Vec::new());
            for conjunct in conjuncts.drain(..) {
                if node.adopts() && belongs(&conjunct, node.right().schema())? {
                    to_right.push(conjunct);
                } else if !conjunct.is_volatile() && belongs(&conjunct, left.schema())? {
                    to_left.push(conjunct);
                } else {
                    above.push(conjunct);
                }
            }
            *conjuncts = above;
            let filtered = |plan: Arc<LogicalPlan>, conjuncts: Vec<Expr>| match conjunction(conjuncts) {
                Some(predicate) => Ok(Arc::new(LogicalPlan::Filter(Filter::try_new(predicate, plan)?))),
                None => Ok::<_, DataFusionError>(plan),
            };
            let right = filtered(Arc::clone(node.right()), to_right)?;
            let node = Arc::new(node.with_inputs(filtered(left, to_left)?, right)?);
            let input = Arc::new(LogicalPlan::Extension(Extension { node }));
            Ok(LogicalPlan::Projection(Projection::try_new(p.expr, input)?))
        }
        plan => {
            let Some(rows) = rows_of(&plan) else { return Ok(plan) };
            let mut below = Vec::new();
            let mut above = Vec::new();
            for conjunct in conjuncts.drain(..) {
                if belongs(&conjunct, rows.schema())? { below.push(conjunct) } else { above.push(conjunct) }
            }
            *conjuncts = above;
            match conjunction(below) {
                Some(predicate) => restricted(&plan, &predicate),
                None => Ok(plan),
            }
        }
    }
}

/// Whether a conjunct speaks of the columns of `table` and of nothing else but outer rows.
fn belongs(conjunct: &Expr, table: &DFSchema) -> Result<bool> {
    let mut columns: HashSet<Column> = HashSet::new();
    conjunct.apply(|e| {
        let references: &[Expr] = match e {
            Expr::Column(c) => {
                columns.insert(c.clone());
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
    Ok(!columns.is_empty() && columns.iter().all(|c| has_exactly(table, c)))
}

/// Whether a schema has a column with this very relation in front, or with none: `maybe_index_of_column` takes a bare
/// name for that of any relation, and a bare column may well stand beside a `v.id`.
fn has_exactly(schema: &DFSchema, column: &Column) -> bool {
    schema.iter().any(|(relation, field)| {
        field.name() == &column.name
            && match (relation, &column.relation) {
                (Some(found), Some(wanted)) => found.resolved_eq(wanted),
                (found, wanted) => found.is_none() && wanted.is_none(),
            }
    })
}
