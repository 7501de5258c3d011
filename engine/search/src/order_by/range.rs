//! `WHERE e <=> $1 < 0.3 ORDER BY e <=> $1 LIMIT k`: the bound is applied to the rows that were found.
//!
//! ```text
//! before  VectorSearch: column=d.e, k=10, query=q      after  Filter: __distance < 0.3
//!           TableScan: d                                        VectorSearch: column=d.e, k=10, query=q
//!             full_filters=[cosine_distance(d.e, q) < 0.3]         TableScan: d
//! ```
//!
//! Rows within a bound are the first of all rows by distance, so that it makes no difference whether it comes before
//! or after the choice of k. Below, it would be computed for every row, whatever indexes there are. Rows without a
//! distance are within no bound.

use std::sync::Arc;

use datafusion::common::{Column, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, Filter, LogicalPlan, Operator, Projection, SubqueryAlias};
use triune_vector::kernels::Metric;

use crate::node::without_alias;
use crate::vectors::distance_of;

/// A distance of a column of a plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct By<'a> {
    pub(super) metric: Metric,
    pub(super) query: &'a Expr,
}

/// The plan without the bounds of a distance that stand in it, and the bounds, over a column in the place of the
/// distance; `None` if there are none.
pub(super) fn taken(
    plan: &LogicalPlan,
    column: &Column,
    by: By<'_>,
    distance: &Column,
) -> Result<Option<(LogicalPlan, Vec<Expr>)>> {
    match plan {
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
            let (bounds, filters) = sorted(scan.filters.clone(), column, by, distance);
            if bounds.is_empty() {
                return Ok(None);
            }
            let mut scan = scan.clone();
            scan.filters = filters;
            Ok(Some((LogicalPlan::TableScan(scan), bounds)))
        }
        LogicalPlan::Filter(filter) => {
            let (mut bounds, rest) =
                sorted(split_conjunction_owned(filter.predicate.clone()), column, by, distance);
            let below = taken(&filter.input, column, by, distance)?;
            if bounds.is_empty() && below.is_none() {
                return Ok(None);
            }
            let (input, more) = below.unwrap_or_else(|| (filter.input.as_ref().clone(), Vec::new()));
            bounds.extend(more);
            let plan = match conjunction(rest) {
                Some(rest) => LogicalPlan::Filter(Filter::try_new(rest, Arc::new(input))?),
                None => input,
            };
            Ok(Some((plan, bounds)))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let Some(place) = alias.schema.maybe_index_of_column(column) else { return Ok(None) };
            let below = Column::from(alias.input.schema().qualified_field(place));
            let Some((input, bounds)) = taken(&alias.input, &below, by, distance)? else { return Ok(None) };
            let alias = SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?;
            Ok(Some((LogicalPlan::SubqueryAlias(alias), bounds)))
        }
        LogicalPlan::Projection(projection) => {
            let Some(place) = projection.schema.maybe_index_of_column(column) else { return Ok(None) };
            let Expr::Column(below) = without_alias(projection.expr[place].clone()) else { return Ok(None) };
            let Some((input, bounds)) = taken(&projection.input, &below, by, distance)? else {
                return Ok(None);
            };
            let projection = Projection::try_new(projection.expr.clone(), Arc::new(input))?;
            Ok(Some((LogicalPlan::Projection(projection), bounds)))
        }
        _ => Ok(None),
    }
}

/// Conditions that bound the distance, over its column, and the others.
fn sorted(conditions: Vec<Expr>, column: &Column, by: By<'_>, distance: &Column) -> (Vec<Expr>, Vec<Expr>) {
    let (mut bounds, mut rest) = (Vec::new(), Vec::new());
    for condition in conditions {
        match bound(&condition, column, by, distance) {
            Some(bound) => bounds.push(bound),
            None => rest.push(condition),
        }
    }
    (bounds, rest)
}

fn bound(condition: &Expr, column: &Column, by: By<'_>, distance: &Column) -> Option<Expr> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return None };
    let (call, op, most) = match op {
        Operator::Lt | Operator::LtEq => (left, *op, right),
        Operator::Gt | Operator::GtEq => (right, op.swap()?, left),
        _ => return None,
    };
    if !matches!(most.as_ref(), Expr::Literal(..)) {
        return None;
    }
    let found = measured(call, column, by, distance)?;
    Some(Expr::BinaryExpr(BinaryExpr::new(Box::new(found), op, most.clone())))
}

/// The distance, as it is or as another type of number, over its column.
fn measured(expr: &Expr, column: &Column, by: By<'_>, distance: &Column) -> Option<Expr> {
    match expr {
        Expr::Cast(cast) if cast.field.data_type().is_floating() => {
            let mut cast = cast.clone();
            cast.expr = Box::new(measured(&cast.expr, column, by, distance)?);
            Some(Expr::Cast(cast))
        }
        call => {
            let found = distance_of(call)?;
            let same = found.metric == by.metric
                && found.query == by.query
                && matches!(found.column, Expr::Column(c) if c.name == column.name);
            same.then(|| Expr::Column(distance.clone()))
        }
    }
}
