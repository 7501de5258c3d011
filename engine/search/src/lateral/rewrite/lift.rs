//! Conditions that name the left side leave the searched plan.

use std::sync::Arc;

use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Projection};

use super::{over, refuse_correlated_subqueries, unsupported};
use crate::lateral::outer::{depends, has_outer};
use crate::node::without_alias;

/// Takes the conditions that name outer columns out of a plan; they are given over its output.
pub(super) fn lift(plan: LogicalPlan, conditions: &mut Vec<Expr>) -> Result<LogicalPlan> {
    if !depends(&plan)? {
        return Ok(plan);
    }
    let too_deep = || {
        unsupported(
            "a condition that depends on the left side stands too deep inside of a search per row",
            "put it into the WHERE of the LATERAL sub-query, or into where => … of vector_search",
        )
    };
    match plan {
        LogicalPlan::Filter(filter) => {
            let mut found = Vec::new();
            let input = lift(Arc::unwrap_or_clone(filter.input), &mut found)?;
            let mut rest = Vec::new();
            for conjunct in split_conjunction_owned(filter.predicate) {
                if has_outer(&conjunct, input.schema())? {
                    refuse_correlated_subqueries(&conjunct)?;
                    refuse_memberships(&conjunct)?;
                    found.push(conjunct);
                } else {
                    rest.push(conjunct);
                }
            }
            conditions.append(&mut found);
            match conjunction(rest) {
                Some(rest) => Ok(LogicalPlan::Filter(Filter::try_new(rest, Arc::new(input))?)),
                None => Ok(input),
            }
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let mut found = Vec::new();
            let old = Arc::clone(alias.input.schema());
            let input = lift(Arc::unwrap_or_clone(alias.input), &mut found)?;
            let columns: Vec<Expr> = alias.schema.columns().into_iter().map(Expr::Column).collect();
            for condition in found {
                conditions.push(over(&condition, &old, &columns)?);
            }
            let plan = datafusion::logical_expr::SubqueryAlias::try_new(Arc::new(input), alias.alias)?;
            Ok(LogicalPlan::SubqueryAlias(plan))
        }
        LogicalPlan::Projection(p)
            if !p
                .expr
                .iter()
                .map(|e| has_outer(e, p.input.schema()))
                .collect::<Result<Vec<_>>>()?
                .contains(&true) =>
        {
            let mut found = Vec::new();
            let input = lift(Arc::unwrap_or_clone(p.input), &mut found)?;
            let mut places: Vec<Option<Expr>> = vec![None; input.schema().fields().len()];
            for (i, expr) in p.expr.iter().enumerate() {
                if let Expr::Column(c) = without_alias(expr.clone())
                    && let Some(place) = input.schema().maybe_index_of_column(&c)
                {
                    places[place] = Some(Expr::Column(Column::from(p.schema.qualified_field(i))));
                }
            }
            for condition in found {
                let known = condition
                    .column_refs()
                    .iter()
                    .all(|c| input.schema().maybe_index_of_column(c).is_some_and(|i| places[i].is_some()));
                if !known {
                    return Err(too_deep());
                }
                let places: Vec<Expr> = places
                    .iter()
                    .map(|p| p.clone().unwrap_or_else(|| Expr::Literal(ScalarValue::Null, None)))
                    .collect();
                conditions.push(over(&condition, input.schema(), &places)?);
            }
            Ok(LogicalPlan::Projection(Projection::try_new(p.expr, Arc::new(input))?))
        }
        _ => Err(too_deep()),
    }
}

/// A condition on both sides is computed by an operator of ours, which runs no sub-queries but scalar ones.
fn refuse_memberships(expr: &Expr) -> Result<()> {
    if expr.exists(|e| Ok(matches!(e, Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_))))? {
        return Err(unsupported(
            "a condition of a search per row combines IN or EXISTS with a column of the left side",
            "give them conditions of their own, joined by AND",
        ));
    }
    Ok(())
}
