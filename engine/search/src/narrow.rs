//! A search gives out only the columns that somebody asks for.
//!
//! ```text
//! before  Projection: v.id, v._distance                after  Projection: v.id, v._distance
//!           Sort: fetch=10                                      Sort: fetch=10
//!             VectorSearch: column=v.embedding                    VectorSearch: column=v.embedding, output=[v.id]
//!               TableScan: docs [id, embedding]                     TableScan: docs [id, embedding]
//! ```
//!
//! The vector is needed to compute the distance and mostly by nobody else. Without this rule it would
//! stay in every row that a search holds on to, be copied with it and travel to the next projection.
//!
//! *Fires* on a projection or aggregate above a search with filters, sorts, limits and aliases between
//! them. *Does not fire* where every column is asked for, across joins (a projection is put below a join
//! by `optimize_projections` where that helps), and where a condition between them has a correlated
//! sub-query, whose columns are not listed with the others.
//!
//! *Position*: after `optimize_projections`. *Idempotent*: a search that gives out what is asked for is
//! left alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::lateral::LateralSearchNode;
use crate::node::VectorSearchNode;

/// See the module.
#[derive(Debug, Default)]
pub struct NarrowSearchRule {}

impl NarrowSearchRule {
    pub fn new() -> Self {
        Self {}
    }
}

impl OptimizerRule for NarrowSearchRule {
    fn name(&self) -> &str {
        "narrow_vector_search"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let input = match &plan {
            LogicalPlan::Projection(p) => &p.input,
            LogicalPlan::Aggregate(a) => &a.input,
            _ => return Ok(Transformed::no(plan)),
        };
        if !leads_to_search(input) {
            return Ok(Transformed::no(plan));
        }
        let mut needed = BTreeSet::new();
        if !add_columns(&plan.expressions(), input.schema(), &mut needed)? {
            return Ok(Transformed::no(plan));
        }
        match narrow(input, needed)? {
            Some(input) => {
                let exprs = plan.expressions();
                Ok(Transformed::yes(plan.with_new_exprs(exprs, vec![input])?))
            }
            None => Ok(Transformed::no(plan)),
        }
    }
}

/// The operators that may stand between: each gives out the columns that it takes in.
fn below(plan: &LogicalPlan) -> Option<&Arc<LogicalPlan>> {
    match plan {
        LogicalPlan::Filter(f) => Some(&f.input),
        LogicalPlan::Sort(s) => Some(&s.input),
        LogicalPlan::Limit(l) => Some(&l.input),
        LogicalPlan::SubqueryAlias(a) => Some(&a.input),
        _ => None,
    }
}

fn leads_to_search(mut plan: &LogicalPlan) -> bool {
    loop {
        if matches!(plan, LogicalPlan::Extension(_)) {
            return VectorSearchNode::find(plan).is_some() || LateralSearchNode::find(plan).is_some();
        }
        match below(plan) {
            Some(input) => plan = input,
            None => return false,
        }
    }
}

/// Rebuilds the way down to the search if the search gives out more than `needed`.
fn narrow(plan: &LogicalPlan, mut needed: BTreeSet<usize>) -> Result<Option<LogicalPlan>> {
    if matches!(plan, LogicalPlan::Extension(_)) {
        if let Some(search) = LateralSearchNode::find(plan) {
            needed.extend(search.own_columns());
            if needed.len() == search.schema_ref().fields().len() {
                return Ok(None);
            }
            let node = Arc::new(search.narrowed(&needed.into_iter().collect::<Vec<_>>())?);
            return Ok(Some(LogicalPlan::Extension(Extension { node })));
        }
        let Some(search) = VectorSearchNode::find(plan) else { return Ok(None) };
        needed.insert(search.distance_index());
        if needed.len() == search.distance_index() + 1 {
            return Ok(None);
        }
        let keep: Vec<_> = needed.into_iter().collect();
        let node = Arc::new(search.narrowed(&keep)?);
        return Ok(Some(LogicalPlan::Extension(Extension { node })));
    }
    let Some(input) = below(plan) else { return Ok(None) };
    // An alias renames the relation and keeps the places, and it has no expressions.
    if !add_columns(&plan.expressions(), input.schema(), &mut needed)? {
        return Ok(None);
    }
    match narrow(input, needed)? {
        Some(input) => Ok(Some(plan.with_new_exprs(plan.expressions(), vec![input])?)),
        None => Ok(None),
    }
}

/// Adds the places of the columns that expressions use; `false` if some cannot be known.
fn add_columns(exprs: &[Expr], schema: &DFSchema, needed: &mut BTreeSet<usize>) -> Result<bool> {
    for expr in exprs {
        let mut known = true;
        expr.apply(|e| {
            let outer = match e {
                Expr::ScalarSubquery(s) => &s.outer_ref_columns,
                Expr::InSubquery(s) => &s.subquery.outer_ref_columns,
                Expr::Exists(s) => &s.subquery.outer_ref_columns,
                Expr::SetComparison(s) => &s.subquery.outer_ref_columns,
                _ => return Ok(TreeNodeRecursion::Continue),
            };
            known &= outer.is_empty();
            Ok(TreeNodeRecursion::Continue)
        })?;
        if !known {
            return Ok(false);
        }
        for column in expr.column_refs() {
            match schema.maybe_index_of_column(column) {
                Some(index) => {
                    needed.insert(index);
                }
                None => return Ok(false),
            }
        }
    }
    Ok(true)
}
