//! A search over a table joined with another: the nearest rows are found before the join.
//!
//! ```sql
//! SELECT d.id, m.tag FROM docs d JOIN meta m ON m.doc_id = d.id WHERE m.lang = 'en' ORDER BY d.e <=> $1 LIMIT 10;
//! ```
//!
//! ```text
//! before  VectorSearch: column=d.e, k=10         after  VectorSearch: column=d.e, k=10
//!           Inner Join: d.id = m.doc_id                   Inner Join: d.id = m.doc_id
//!             TableScan: docs                               Projection: d.id, d.e
//!             TableScan: meta                                 VectorSearch: column=d.e, k=10
//!                                                               LeftSemi Join: d.id = m.doc_id
//!                                                                 TableScan: docs
//!                                                                 TableScan: meta
//!                                                           TableScan: meta
//! ```
//!
//! The rows are the same. Of the k nearest rows of `docs` that have a partner each is in at least one joined row, so
//! that k joined rows, if there are as many, are at least as near as any row of the others. The inner search is one
//! that an index answers under a mask (`crate::access`).
//!
//! *Fires* on an inner join by one `=` and nothing else, whose left or right side is a table of the database with an
//! index of the column and the metric. *Does not fire* under `search.mode = exact`, with `exact => true`, with rows per
//! group or rows that differ (more than the k nearest count there), or where the other side is volatile. *Cost*: the
//! other side runs twice, the second time for the keys of k rows only.
//!
//! *Position*: after `OrderByDistanceRule`, before `NarrowSearchRule`. *Idempotent*: the new join is not one of a table.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, NullEquality, Result};
use datafusion::logical_expr::{Expr, Extension, Join, LogicalPlan, LogicalPlanBuilder, Projection};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::access;
use crate::node::VectorSearchNode;
use crate::settings::SearchMode;

/// See the module.
#[derive(Debug, Default)]
pub struct KeyJoinSearchRule {}

impl KeyJoinSearchRule {
    pub fn new() -> Self {
        Self {}
    }
}

impl OptimizerRule for KeyJoinSearchRule {
    fn name(&self) -> &str {
        "key_join_search"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let Some(search) =
            VectorSearchNode::find(&plan).filter(|_| matches!(plan, LogicalPlan::Extension(_)))
        else {
            return Ok(Transformed::no(plan));
        };
        let plain = search.per().is_empty() && search.spec().diversity.is_none();
        if !plain || search.spec().exact || SearchMode::of(&config.options()) == SearchMode::Exact {
            return Ok(Transformed::no(plan));
        }
        let Expr::Column(column) = search.column() else { return Ok(Transformed::no(plan)) };
        match before_join(search, search.input(), column)? {
            Some(input) => {
                let node = Arc::new(search.with_input(Arc::new(input))?);
                Ok(Transformed::yes(LogicalPlan::Extension(Extension { node })))
            }
            None => Ok(Transformed::no(plan)),
        }
    }
}

/// The rows of `plan` that can be among the nearest, found below its join; `column` is the vector.
fn before_join(
    search: &VectorSearchNode,
    plan: &LogicalPlan,
    column: &Column,
) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let place = projection.schema.index_of_column(column)?;
            let below = match &projection.expr[place] {
                Expr::Column(c) => c,
                Expr::Alias(alias) => match alias.expr.as_ref() {
                    Expr::Column(c) => c,
                    _ => return Ok(None),
                },
                _ => return Ok(None),
            };
            // Computed for fewer rows, they would give other values.
            if projection.expr.iter().any(Expr::is_volatile) {
                return Ok(None);
            }
            let Some(input) = before_join(search, &projection.input, below)? else { return Ok(None) };
            let projection = Projection::try_new(projection.expr.clone(), Arc::new(input))?;
            Ok(Some(LogicalPlan::Projection(projection)))
        }
        LogicalPlan::Join(join) => joined(search, join, column),
        _ => Ok(None),
    }
}

fn joined(search: &VectorSearchNode, join: &Join, column: &Column) -> Result<Option<LogicalPlan>> {
    let plain = join.join_type == JoinType::Inner
        && join.filter.is_none()
        && join.null_equality == NullEquality::NullEqualsNothing;
    let ([(left, right)], true) = (join.on.as_slice(), plain) else { return Ok(None) };
    let of_left = join.left.schema().has_column(column);
    let (table, table_key, other, other_key) =
        if of_left { (&join.left, left, &join.right, right) } else { (&join.right, right, &join.left, left) };
    if is_volatile(other)? || !access::may_use_index(table, column, search.spec().metric)? {
        return Ok(None);
    }
    let keys = LogicalPlanBuilder::from(other.as_ref().clone()).project([other_key.clone().alias("key")])?;
    let keys = keys.alias("keys")?.build()?;
    let key = Expr::Column(Column::from(keys.schema().qualified_field(0)));
    let semi = Join::try_new(
        Arc::clone(table),
        Arc::new(keys),
        vec![(table_key.clone(), key)],
        None,
        JoinType::LeftSemi,
        join.join_constraint,
        join.null_equality,
        false,
    )?;
    let nearest = search.over(Arc::new(LogicalPlan::Join(semi)), column.clone())?;
    let nearest = Arc::new(LogicalPlan::Extension(Extension { node: Arc::new(nearest) }));
    let columns = table.schema().columns().into_iter().map(Expr::Column).collect();
    let nearest = Arc::new(LogicalPlan::Projection(Projection::try_new(columns, nearest)?));
    let mut new = join.clone();
    if of_left {
        new.left = nearest;
    } else {
        new.right = nearest;
    }
    Ok(Some(LogicalPlan::Join(new)))
}

fn is_volatile(plan: &LogicalPlan) -> Result<bool> {
    let mut volatile = false;
    plan.apply_with_subqueries(|node| {
        volatile |= node.expressions().iter().any(Expr::is_volatile);
        Ok(if volatile { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(volatile)
}
