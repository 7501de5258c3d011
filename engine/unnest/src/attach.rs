//! The sub-queries of an operator are joined to its input.
//!
//! | in an expression | joined | stands in its place |
//! |---|---|---|
//! | `(SELECT v …)` | LEFT JOIN of `v` by the domain; `v` through `single_value` unless there can be but one | `v` |
//! | `EXISTS (…)`, `NOT EXISTS (…)` | LEFT JOIN of the combinations that have a row, marked | the mark `IS [NOT] NULL` |
//! | `x IN (SELECT v …)` as a condition | the same, on `x = v` too | the mark `IS NOT NULL` |

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, Result, not_impl_err};
use datafusion::logical_expr::expr::{AggregateFunction, Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    AggregateUDF, Expr, Join, LogicalPlan, LogicalPlanBuilder, Operator, SubqueryAlias, binary_expr, lit,
};

use crate::domain::{Domain, fresh, outer_columns};
use crate::push::push;
use crate::single_value::SingleValue;
use crate::trial::subquery_of;

/// The operator without correlated sub-queries in its expressions.
pub(crate) fn attach(node: &LogicalPlan) -> Result<LogicalPlan> {
    let input = match node.inputs().as_slice() {
        [input] => LogicalPlan::clone(input),
        _ => return not_impl_err!("a sub-query that speaks of other tables within the condition of a join"),
    };
    refuse_volatile(&input)?;
    let mut joins = Joins { input: input.clone(), plan: input, done: vec![] };
    let names = NamePreserver::new(node);
    let is_sort = matches!(node, LogicalPlan::Sort(_));
    let mut exprs = Vec::new();
    for expr in node.expressions() {
        let name = names.save(&expr);
        let expr = match node {
            LogicalPlan::Filter(_) => joins.condition(expr)?,
            _ => joins.expr(expr)?,
        };
        exprs.push(if is_sort { expr } else { name.restore(expr) });
    }
    let done = node.with_new_exprs(exprs, vec![joins.plan])?;
    if done.schema().fields().len() == node.schema().fields().len() {
        return Ok(done);
    }
    let columns: Vec<Expr> = node.schema().columns().into_iter().map(Expr::Column).collect();
    LogicalPlanBuilder::from(done).project(columns)?.build()
}

/// The input of an operator, and what has been joined to it.
struct Joins {
    input: LogicalPlan,
    plan: LogicalPlan,
    /// One sub-query that comes twice is joined once.
    done: Vec<(Expr, Expr)>,
}

impl Joins {
    /// A condition, whose parts hold or do not: NULL is as good as false for them.
    fn condition(&mut self, predicate: Expr) -> Result<Expr> {
        let mut parts = Vec::new();
        for part in split_conjunction_owned(predicate) {
            parts.push(match part {
                Expr::InSubquery(InSubquery { expr, subquery, negated: false })
                    if !outer_columns(&subquery.subquery)?.is_empty() =>
                {
                    let expr = self.expr(*expr)?;
                    self.is_in(expr, &subquery.subquery)?
                }
                other => self.expr(other)?,
            });
        }
        Ok(conjunction(parts).unwrap_or_else(|| lit(true)))
    }

    fn expr(&mut self, expr: Expr) -> Result<Expr> {
        let done = expr.transform_up(|e| {
            let Some(subquery) = subquery_of(&e) else { return Ok(Transformed::no(e)) };
            if outer_columns(subquery)?.is_empty() {
                return Ok(Transformed::no(e));
            }
            if let Some((_, done)) = self.done.iter().find(|(one, _)| *one == e) {
                return Ok(Transformed::yes(done.clone()));
            }
            let done = match &e {
                Expr::ScalarSubquery(s) => self.value(&s.subquery)?,
                Expr::Exists(Exists { subquery, negated }) => self.exists(&subquery.subquery, *negated)?,
                Expr::InSubquery(_) => {
                    return not_impl_err!(
                        "IN with a sub-query that speaks of outer columns, other than as a condition"
                    );
                }
                _ => return not_impl_err!("ANY and ALL with a sub-query that speaks of outer columns"),
            };
            self.done.push((e, done.clone()));
            Ok(Transformed::yes(done))
        })?;
        Ok(done.data)
    }

    fn value(&mut self, subquery: &LogicalPlan) -> Result<Expr> {
        let (domain, plan, value) = self.of_domain(subquery)?;
        let name = fresh("value");
        let builder = LogicalPlanBuilder::from(plan);
        let right = if subquery.max_rows().is_some_and(|rows| rows <= 1) {
            builder.project(domain.exprs().into_iter().chain([value.alias(&name)]))?
        } else {
            let single = Arc::new(AggregateUDF::new_from_impl(SingleValue::default()));
            let single = AggregateFunction::new_udf(single, vec![value], false, None, vec![], None);
            builder.aggregate(domain.exprs(), [Expr::AggregateFunction(single).alias(&name)])?
        };
        self.join(&domain, right.build()?, None)?;
        Ok(Expr::Column(Column::new_unqualified(name)))
    }

    fn exists(&mut self, subquery: &LogicalPlan, negated: bool) -> Result<Expr> {
        let (domain, plan, _) = self.of_domain(subquery)?;
        let name = fresh("exists");
        let mark = lit(true).alias(&name);
        let right =
            LogicalPlanBuilder::from(plan).project(domain.exprs().into_iter().chain([mark]))?.distinct()?;
        self.join(&domain, right.build()?, None)?;
        let mark = Expr::Column(Column::new_unqualified(name));
        Ok(if negated { mark.is_null() } else { mark.is_not_null() })
    }

    fn is_in(&mut self, expr: Expr, subquery: &LogicalPlan) -> Result<Expr> {
        let (domain, plan, value) = self.of_domain(subquery)?;
        let (name, mark) = (fresh("element"), fresh("is_in"));
        let element = Expr::Column(Column::new_unqualified(&name));
        let columns = || domain.exprs().into_iter().chain([element.clone()]);
        let right = LogicalPlanBuilder::from(plan)
            .project(domain.exprs().into_iter().chain([value.alias(&name)]))?
            .distinct()?
            .project(columns().chain([lit(true).alias(&mark)]))?;
        let right = right.build()?;
        self.join(&domain, right, Some(expr.eq(element)))?;
        Ok(Expr::Column(Column::new_unqualified(mark)).is_not_null())
    }

    /// A sub-query's domain, the sub-query for each combination of it, and its first column there.
    fn of_domain(&self, subquery: &LogicalPlan) -> Result<(Domain, LogicalPlan, Expr)> {
        let domain = Domain::try_new(&self.input, subquery)?;
        let plan = if domain.is_empty() { subquery.clone() } else { push(subquery, &domain)? };
        let Some(first) = subquery.schema().columns().into_iter().next() else {
            return not_impl_err!("a sub-query without columns");
        };
        Ok((domain, plan, Expr::Column(first)))
    }

    fn join(&mut self, domain: &Domain, right: LogicalPlan, also: Option<Expr>) -> Result<()> {
        let left = std::mem::take(&mut self.plan);
        self.plan = join_by(left, right, JoinType::Left, domain, also)?;
        Ok(())
    }
}

/// On equal values of the domain, NULLs too.
fn join_by(
    left: LogicalPlan,
    right: LogicalPlan,
    join_type: JoinType,
    domain: &Domain,
    also: Option<Expr>,
) -> Result<LogicalPlan> {
    let keys = domain.outer().iter().cloned().map(Expr::Column).zip(domain.exprs());
    let keys = keys.map(|(l, r)| binary_expr(l, Operator::IsNotDistinctFrom, r));
    let on = conjunction(keys.chain(also)).unwrap_or_else(|| lit(true));
    LogicalPlanBuilder::from(left).join_on(right, join_type, [on])?.build()
}

/// A join whose right side is LATERAL, as a plain one.
pub(crate) fn attach_lateral(join: &Join) -> Result<LogicalPlan> {
    if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
        return not_impl_err!("LATERAL with a {} join", join.join_type);
    }
    refuse_volatile(&join.left)?;
    let right = open(&join.right)?;
    let domain = Domain::try_new(&join.left, &right)?;
    let right = if domain.is_empty() { right } else { push(&right, &domain)? };
    let on = join.on.iter().map(|(l, r)| l.clone().eq(r.clone()));
    let also = conjunction(on.chain(join.filter.clone()));
    let joined = join_by(LogicalPlan::clone(&join.left), right, join.join_type, &domain, also)?;
    let columns: Vec<Expr> = join.schema.columns().into_iter().map(Expr::Column).collect();
    LogicalPlanBuilder::from(joined).project(columns)?.build()
}

/// A LATERAL plan as a plain one.
fn open(plan: &LogicalPlan) -> Result<LogicalPlan> {
    Ok(match plan {
        LogicalPlan::Subquery(subquery) => LogicalPlan::clone(&subquery.subquery),
        LogicalPlan::SubqueryAlias(alias) => {
            let input = Arc::new(open(&alias.input)?);
            LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(input, alias.alias.clone())?)
        }
        other => other.clone(),
    })
}

/// The outer operators are computed twice, and must give the same rows.
fn refuse_volatile(plan: &LogicalPlan) -> Result<()> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|e| {
            found |= e.is_volatile();
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    if found {
        return not_impl_err!(
            "a sub-query that speaks of rows of which a part is computed by a function such as random()"
        );
    }
    Ok(())
}
