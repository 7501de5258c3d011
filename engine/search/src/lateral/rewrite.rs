//! From a lateral join to searches per row.
//!
//! Two shapes are known, below any aliases, choices of columns and further limits:
//! `vector_search(…)` and `SELECT … ORDER BY distance LIMIT k`. The conditions of the sub-query that name the
//! left side are lifted into the node; they must stand in filters that nothing but aliases and choices of
//! columns separates from the search.

mod lift;
mod refuse;
mod shape;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, Result, ScalarValue, TableReference};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Extension, Filter, Join, JoinType, LogicalPlan, Projection, when};
use triune_common::Error;

use super::node::{FOUND, LateralSearchNode, LateralSpec, Parts};
use super::outer::{first_outer, subquery_in, subquery_of};
use crate::MAX_K;
use crate::node::without_alias;
use lift::lift;
pub(crate) use refuse::{refuse_leftovers, refuse_nearest};
use shape::{Shape, shape_of};

fn unsupported(what: impl Into<String>, hint: &str) -> DataFusionError {
    DataFusionError::from(Error::unsupported(what.into()).with_hint(hint.to_owned()))
}

/// Rewrites a join whose right side is a search that depends on the left side.
pub(crate) fn join(join: Join) -> Result<Transformed<LogicalPlan>> {
    if subquery_of(&join.right).is_none() {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    }
    let Some(shape) = shape_of(&join.right)? else { return Ok(Transformed::no(LogicalPlan::Join(join))) };
    let on = join.on.iter().map(|(l, r)| l.clone().eq(r.clone()));
    let on = conjunction(on.chain(join.filter.clone()).filter(|e| !is_true(e)));
    let left_join = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left => true,
        other => {
            return Err(unsupported(
                format!("a search per row is not supported in a {other} JOIN"),
                "CROSS JOIN, INNER JOIN and LEFT JOIN LATERAL are",
            ));
        }
    };
    if left_join && let Some(on) = &on {
        return Err(unsupported(
            format!("LEFT JOIN LATERAL of a search is supported ON true only, not ON {on}"),
            "put the condition into the search (where => …) or into the WHERE",
        ));
    }
    if left_join && !shape.above.is_empty() {
        return Err(unsupported(
            "a condition on the rows that a search found is not supported inside of LEFT JOIN LATERAL",
            "use CROSS JOIN LATERAL, or a condition on the table (where => …)",
        ));
    }
    let plan = build(&join, shape, left_join)?;
    Ok(Transformed::yes(match on {
        Some(on) => LogicalPlan::Filter(Filter::try_new(on, Arc::new(plan))?),
        None => plan,
    }))
}

fn is_true(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Boolean(Some(true)), _))
}

/// `expr` over the columns of `schema` with each column replaced by what stands in its place.
fn over(expr: &Expr, schema: &DFSchema, places: &[Expr]) -> Result<Expr> {
    refuse_correlated_subqueries(expr)?;
    Ok(expr
        .clone()
        .transform_down(|e| match &e {
            Expr::Column(c) => match places.get(schema.index_of_column(c)?) {
                Some(place) => {
                    // What is put in is not looked at again: it speaks of other columns.
                    Ok(Transformed::new(without_alias(place.clone()), true, TreeNodeRecursion::Jump))
                }
                None => Err(DataFusionError::from(Error::internal("a lateral search lost a column"))),
            },
            _ => Ok(Transformed::no(e)),
        })?
        .data)
}

/// What is renamed or moved here must not reach into a sub-query of an expression.
fn refuse_correlated_subqueries(expr: &Expr) -> Result<()> {
    let mut nested = false;
    expr.apply(|e| {
        if let Some(plan) = subquery_in(e) {
            nested |= first_outer(plan)?.is_some();
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if nested {
        return Err(unsupported(
            "a sub-query that depends on other rows is not supported inside of a search per row",
            "compute its value on the left side of the LATERAL",
        ));
    }
    Ok(())
}

fn build(join: &Join, shape: Shape, left_join: bool) -> Result<LogicalPlan> {
    let Some(k) = shape.k.filter(|k| *k <= MAX_K && k.saturating_add(shape.skip) <= MAX_K) else {
        return Err(unsupported(
            "ORDER BY distance in a LATERAL sub-query needs a LIMIT",
            &format!("LIMIT from 1 to {MAX_K} is accepted"),
        ));
    };
    let (left, mut conditions) = (Arc::clone(&join.left), Vec::new());
    let right = lift(Arc::unwrap_or_clone(shape.input), &mut conditions)?;
    // A relation may be on both sides (`FROM docs d, LATERAL (SELECT … FROM docs d …)`): one is renamed.
    let original = Arc::clone(right.schema());
    let (right, renamed) = apart(right, left.schema(), &shape.distance)?;
    let inner = |expr: Expr| -> Result<Expr> {
        // Names of the right side first: they hide those of the left, as the planner has resolved them.
        let expr = expr.transform_up(|e| match &e {
            Expr::Column(c) => match original.maybe_index_of_column(c) {
                Some(i) => Ok(Transformed::yes(Expr::Column(renamed[i].clone()))),
                None => Ok(Transformed::no(e)),
            },
            _ => Ok(Transformed::no(e)),
        })?;
        outer_to_columns(expr.data, left.schema())
    };
    let filter = conjunction(conditions.into_iter().map(inner).collect::<Result<Vec<_>>>()?);
    let distance = Column::new(shape.distance.0.clone(), shape.distance.1.clone());
    let parts = Parts {
        column: inner(shape.column)?,
        query: inner(shape.query)?,
        filter,
        spec: LateralSpec {
            k,
            skip: shape.skip,
            metric: shape.metric,
            order: shape.order,
            left_join,
            nprobes: shape.probing.0,
            refine_factor: shape.probing.1,
            exact: shape.exact,
        },
        distance: shape.distance.clone(),
        adopts: shape.bare && !left_join,
    };
    let node_right = Arc::clone(right.schema());
    let node = LateralSearchNode::try_new(Arc::clone(&left), Arc::new(right), parts)?;
    let mut plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    if let Some(above) = conjunction(shape.above.into_iter().map(inner).collect::<Result<Vec<_>>>()?) {
        plan = LogicalPlan::Filter(Filter::try_new(above, Arc::new(plan))?);
    }
    let mut exprs: Vec<Expr> = left.schema().columns().into_iter().map(Expr::Column).collect();
    for (out, (relation, field)) in shape.outs.into_iter().zip(join.right.schema().iter()) {
        let mut out = inner(without_alias(out))?;
        // The columns of the searched table are NULL where there is no row; a constant or a column of the left side
        // is made so.
        let of_right = |c: &Column| node_right.maybe_index_of_column(c).is_some() || *c == distance;
        if left_join && !matches!(&out, Expr::Column(c) if of_right(c)) {
            out = when(Expr::Column(Column::new(None::<TableReference>, FOUND)), out).end()?;
        }
        let named =
            matches!(&out, Expr::Column(c) if c.relation.as_ref() == relation && &c.name == field.name());
        exprs.push(if named { out } else { out.alias_qualified(relation.cloned(), field.name()) });
    }
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?))
}

/// Outer columns of the left side as plain columns; others belong to a query further out.
fn outer_to_columns(expr: Expr, left: &DFSchema) -> Result<Expr> {
    Ok(expr
        .transform_up(|e| match e {
            Expr::OuterReferenceColumn(_, c) => match left.maybe_index_of_column(&c) {
                Some(i) => Ok(Transformed::yes(Expr::Column(Column::from(left.qualified_field(i))))),
                None => Err(unsupported(
                    format!("a search per row depends on {c} of a query further out"),
                    "the left side of the LATERAL join can carry the column",
                )),
            },
            e => Ok(Transformed::no(e)),
        })?
        .data)
}

/// Renames the columns of `right` that the left side or the distance is called like.
fn apart(
    right: LogicalPlan,
    left: &DFSchema,
    distance: &(Option<TableReference>, String),
) -> Result<(LogicalPlan, Vec<Column>)> {
    let columns = right.schema().columns();
    let taken = |c: &Column| {
        left.maybe_index_of_column(c).is_some()
            || left.fields().iter().any(|f| c.relation.is_none() && f.name() == &c.name)
            || (c.relation == distance.0 && c.name == distance.1)
    };
    if !columns.iter().any(taken) {
        return Ok((right, columns));
    }
    let renamed: Vec<Column> = columns
        .iter()
        .enumerate()
        .map(
            |(i, c)| {
                if taken(c) { Column::new(Some("__lateral"), format!("{}_{i}", c.name)) } else { c.clone() }
            },
        )
        .collect();
    let exprs = columns.iter().zip(&renamed).map(|(old, new)| {
        let expr = Expr::Column(old.clone());
        if old == new { expr } else { expr.alias_qualified(new.relation.clone(), new.name.clone()) }
    });
    let plan = Projection::try_new(exprs.collect(), Arc::new(right))?;
    Ok((LogicalPlan::Projection(plan), renamed))
}
