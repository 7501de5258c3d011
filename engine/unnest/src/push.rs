//! The domain goes into a sub-query and up through its operators.
//!
//! | operator | with the domain `d` |
//! |---|---|
//! | any that speaks of no outer column | cross join with `d` |
//! | projection, filter, alias, DISTINCT, unnest | the same; the columns of `d` go through |
//! | `GROUP BY g` | `GROUP BY g, d` |
//! | an aggregate without GROUP BY | `d LEFT JOIN (GROUP BY d)`: one row for each combination, `count` 0 where nothing was |
//! | `ORDER BY o LIMIT n OFFSET m` | `row_number() OVER (PARTITION BY d ORDER BY o)` between `m + 1` and `m + n` |
//! | window functions | `PARTITION BY d` too |
//! | joins | of both sides where both need it, on `d` as well |
//! | UNION ALL | each branch |
//!
//! Every result has the columns of the operator that it stands for, under their names, and the domain's without a
//! qualifier.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinConstraint, JoinType, Result, not_impl_err};
use datafusion::functions_window::row_number::row_number;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprFunctionExt, FetchType, Filter, Join, Limit, LogicalPlan,
    LogicalPlanBuilder, Projection, SkipType, Sort, SortExpr, SubqueryAlias, Union, Window, binary_expr, lit,
    when,
};
use datafusion::logical_expr::{Operator, Unnest};

use crate::domain::{Domain, fresh};

/// `plan` for every combination of the domain `d`, which is not empty.
pub(crate) fn push(plan: &LogicalPlan, d: &Domain) -> Result<LogicalPlan> {
    if !d.is_in(plan)? {
        return LogicalPlanBuilder::from(plan.clone()).cross_join(d.plan())?.build();
    }
    match plan {
        LogicalPlan::Projection(projection) => {
            let input = push(&projection.input, d)?;
            project(projection, input, d, None)
        }
        LogicalPlan::Filter(filter) => {
            let input = push(&filter.input, d)?;
            let predicate = d.inner(filter.predicate.clone())?;
            Ok(LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?))
        }
        LogicalPlan::Aggregate(aggregate) => push_aggregate(aggregate, d),
        LogicalPlan::Distinct(Distinct::All(input)) => {
            Ok(LogicalPlan::Distinct(Distinct::All(Arc::new(push(input, d)?))))
        }
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
            let input = Arc::new(push(&sort.input, d)?);
            let expr = sort_keys(sort, d)?;
            Ok(LogicalPlan::Sort(Sort { expr, input, fetch: None }))
        }
        LogicalPlan::Limit(limit) => push_limit(limit, d),
        LogicalPlan::Window(window) => push_window(window, d),
        LogicalPlan::SubqueryAlias(alias) => {
            let input = Arc::new(push(&alias.input, d)?);
            let done = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(input, alias.alias.clone())?);
            by_name(done, &alias.schema, d)
        }
        LogicalPlan::Join(join) => push_join(join, d),
        LogicalPlan::Union(union) => push_union(union, d),
        LogicalPlan::Unnest(unnest) => push_unnest(unnest, d),
        other => not_impl_err!("a sub-query that speaks of outer columns within {}", name(other)),
    }
}

fn name(plan: &LogicalPlan) -> &'static str {
    match plan {
        LogicalPlan::Distinct(_) => "DISTINCT ON",
        LogicalPlan::Values(_) => "VALUES",
        LogicalPlan::RecursiveQuery(_) => "a recursive query",
        LogicalPlan::TableScan(_) => "the arguments of a function of FROM",
        LogicalPlan::Subquery(_) => "LATERAL",
        _ => "such an operator",
    }
}

/// A projection with the domain's columns behind its own, and one more if asked for.
fn project(
    projection: &Projection,
    input: LogicalPlan,
    d: &Domain,
    also: Option<&str>,
) -> Result<LogicalPlan> {
    let mut exprs = Vec::with_capacity(projection.expr.len() + d.outer().len() + 1);
    for (expr, (qualifier, field)) in projection.expr.iter().zip(projection.schema.iter()) {
        let expr = d.inner(expr.clone())?;
        let is_same = expr.qualified_name() == (qualifier.cloned(), field.name().clone());
        exprs.push(if is_same { expr } else { expr.alias_qualified(qualifier.cloned(), field.name()) });
    }
    exprs.extend(d.exprs());
    exprs.extend(also.map(|name| Expr::Column(Column::new_unqualified(name))));
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?))
}

/// The columns of `plan` at `positions` under the names of `schema`, and the domain's, and one more if asked for.
fn keep(
    plan: LogicalPlan,
    schema: &DFSchema,
    positions: &[usize],
    d: &Domain,
    also: Option<&str>,
) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    let mut exprs = Vec::with_capacity(positions.len() + d.outer().len() + 1);
    for (position, (qualifier, field)) in positions.iter().zip(schema.iter()) {
        let column = columns[*position].clone();
        let is_same = column.relation.as_ref() == qualifier && column.name == *field.name();
        let column = Expr::Column(column);
        exprs.push(if is_same { column } else { column.alias_qualified(qualifier.cloned(), field.name()) });
    }
    for wanted in d.columns() {
        let Some(found) = columns.iter().find(|c| c.name == wanted.name) else {
            return datafusion::common::internal_err!("{wanted} got lost in a sub-query");
        };
        let column = Expr::Column(found.clone());
        exprs.push(if found.relation.is_none() { column } else { column.alias(wanted.name) });
    }
    exprs.extend(also.map(|name| Expr::Column(Column::new_unqualified(name))));
    LogicalPlanBuilder::from(plan).project(exprs)?.build()
}

/// The same for a plan that has columns of these names.
fn by_name(plan: LogicalPlan, schema: &DFSchema, d: &Domain) -> Result<LogicalPlan> {
    let positions =
        schema.columns().iter().map(|c| plan.schema().index_of_column(c)).collect::<Result<Vec<_>>>()?;
    keep(plan, schema, &positions, d, None)
}

fn push_aggregate(aggregate: &Aggregate, d: &Domain) -> Result<LogicalPlan> {
    if aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
        return not_impl_err!("a sub-query that speaks of outer columns within GROUPING SETS");
    }
    let input = Arc::new(push(&aggregate.input, d)?);
    let inner = |exprs: &[Expr]| exprs.iter().map(|e| d.inner(e.clone())).collect::<Result<Vec<_>>>();
    let mut groups = inner(&aggregate.group_expr)?;
    groups.extend(d.exprs());
    let done = Aggregate::try_new(input, groups, inner(&aggregate.aggr_expr)?)?;
    let (own, all) = (aggregate.group_expr.len(), aggregate.schema.fields().len());
    let behind = d.outer().len();
    if own > 0 {
        let positions: Vec<usize> = (0..own).chain(own + behind..all + behind).collect();
        return keep(LogicalPlan::Aggregate(done), &aggregate.schema, &positions, d, None);
    }
    // One row for each combination, also for those of which there is nothing to aggregate.
    let columns = done.schema.columns();
    let renamed: Vec<String> = columns.iter().map(|_| fresh("of_group")).collect();
    let exprs = columns.iter().zip(&renamed).map(|(c, n)| Expr::Column(c.clone()).alias(n));
    let groups = LogicalPlanBuilder::from(LogicalPlan::Aggregate(done)).project(exprs)?.build()?;
    let (keys, values) = renamed.split_at(behind);
    let same =
        d.exprs().into_iter().zip(keys).map(|(e, n)| {
            binary_expr(e, Operator::IsNotDistinctFrom, Expr::Column(Column::new_unqualified(n)))
        });
    let joined = LogicalPlanBuilder::from(d.plan()).join_on(groups, JoinType::Left, same)?.build()?;
    let mut exprs = Vec::with_capacity(all + behind);
    for ((aggr, value), (qualifier, field)) in
        aggregate.aggr_expr.iter().zip(values).zip(aggregate.schema.iter())
    {
        let column = Expr::Column(Column::new_unqualified(value));
        let value = match of_nothing(aggr, field.data_type())? {
            Some(default) => when(column.clone().is_null(), default).otherwise(column)?,
            None => column,
        };
        exprs.push(value.alias_qualified(qualifier.cloned(), field.name()));
    }
    exprs.extend(d.exprs());
    LogicalPlanBuilder::from(joined).project(exprs)?.build()
}

/// What an aggregate is of no rows, if that is not NULL.
fn of_nothing(aggr: &Expr, data_type: &arrow::datatypes::DataType) -> Result<Option<Expr>> {
    match aggr {
        Expr::Alias(alias) => of_nothing(&alias.expr, data_type),
        Expr::AggregateFunction(call) => {
            let default = call.func.default_value(data_type)?;
            Ok(if default.is_null() { None } else { Some(lit(default)) })
        }
        _ => not_impl_err!("a sub-query that speaks of outer columns with the aggregate {aggr}"),
    }
}

fn sort_keys(sort: &Sort, d: &Domain) -> Result<Vec<SortExpr>> {
    sort.expr.iter().map(|key| Ok(key.with_expr(d.inner(key.expr.clone())?))).collect()
}

fn push_limit(limit: &Limit, d: &Domain) -> Result<LogicalPlan> {
    let (SkipType::Literal(skip), FetchType::Literal(fetch)) =
        (limit.get_skip_type()?, limit.get_fetch_type()?)
    else {
        return not_impl_err!("a sub-query that speaks of outer columns with a LIMIT that is computed");
    };
    let number = fresh("row");
    let numbered = push_numbered(&limit.input, d, &number)?;
    let row = || Expr::Column(Column::new_unqualified(&number));
    let bound = |n: usize| lit(u64::try_from(n).unwrap_or(u64::MAX));
    let first = (skip > 0).then(|| row().gt(bound(skip)));
    let last = fetch.map(|n| row().lt_eq(bound(skip.saturating_add(n))));
    let filtered = match conjunction(first.into_iter().chain(last)) {
        Some(predicate) => LogicalPlanBuilder::from(numbered).filter(predicate)?.build()?,
        None => numbered,
    };
    by_name(filtered, limit.input.schema(), d)
}

/// `plan` with one more column: the number of a row within its combination, by the order that the plan gives.
fn push_numbered(plan: &LogicalPlan, d: &Domain, number: &str) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
            let keys = sort_keys(sort, d)?;
            numbered(push(&sort.input, d)?, plan.schema(), keys, d, number)
        }
        LogicalPlan::Projection(projection) => {
            let input = push_numbered(&projection.input, d, number)?;
            project(projection, input, d, Some(number))
        }
        other => numbered(push(other, d)?, plan.schema(), vec![], d, number),
    }
}

fn numbered(
    input: LogicalPlan,
    schema: &DFSchema,
    keys: Vec<SortExpr>,
    d: &Domain,
    number: &str,
) -> Result<LogicalPlan> {
    let row = row_number().partition_by(d.exprs()).order_by(keys).build()?;
    let window = LogicalPlanBuilder::from(input).window([row.alias(number)])?.build()?;
    let positions =
        schema.columns().iter().map(|c| window.schema().index_of_column(c)).collect::<Result<Vec<_>>>()?;
    keep(window, schema, &positions, d, Some(number))
}

fn push_window(window: &Window, d: &Domain) -> Result<LogicalPlan> {
    let input = push(&window.input, d)?;
    let wide = input.schema().fields().len();
    let mut exprs = Vec::with_capacity(window.window_expr.len());
    for expr in &window.window_expr {
        let apart = d.inner(expr.clone())?.transform(|e| {
            let Expr::WindowFunction(mut call) = e else { return Ok(Transformed::no(e)) };
            call.params.partition_by.extend(d.exprs());
            Ok(Transformed::yes(Expr::WindowFunction(call)))
        })?;
        exprs.push(apart.data);
    }
    let of_input = window.input.schema().columns();
    let mut positions =
        of_input.iter().map(|c| input.schema().index_of_column(c)).collect::<Result<Vec<_>>>()?;
    positions.extend(wide..wide + exprs.len());
    let done = LogicalPlan::Window(Window::try_new(exprs, Arc::new(input))?);
    keep(done, &window.schema, &positions, d, None)
}

fn push_union(union: &Union, d: &Domain) -> Result<LogicalPlan> {
    let branch = |input: &Arc<LogicalPlan>| Ok(Arc::new(by_name(push(input, d)?, input.schema(), d)?));
    let inputs = union.inputs.iter().map(branch).collect::<Result<Vec<_>>>()?;
    let done = LogicalPlan::Union(Union::try_new(inputs)?);
    let positions: Vec<usize> = (0..union.schema.fields().len()).collect();
    keep(done, &union.schema, &positions, d, None)
}

fn push_unnest(unnest: &Unnest, d: &Domain) -> Result<LogicalPlan> {
    let done = LogicalPlanBuilder::from(push(&unnest.input, d)?)
        .unnest_columns_with_options(unnest.exec_columns.clone(), unnest.options.clone())?
        .build()?;
    by_name(done, &unnest.schema, d)
}

fn push_join(join: &Join, d: &Domain) -> Result<LogicalPlan> {
    let (in_left, in_right) = (d.is_in(&join.left)?, d.is_in(&join.right)?);
    let (left, right) = match join.join_type {
        JoinType::Inner => (in_left || !in_right, in_right),
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => (true, in_right),
        JoinType::Right => (in_left, true),
        other => return not_impl_err!("a sub-query that speaks of outer columns within a {other} join"),
    };
    if join.null_aware && right {
        return not_impl_err!("a sub-query that speaks of outer columns within NOT IN");
    }
    let side = |plan: &Arc<LogicalPlan>, wanted: bool| -> Result<Arc<LogicalPlan>> {
        Ok(if wanted { Arc::new(push(plan, d)?) } else { Arc::clone(plan) })
    };
    let (mut left_plan, mut right_plan) = (side(&join.left, left)?, side(&join.right, right)?);
    let mut conditions: Vec<Expr> = vec![];
    if left && right {
        // The columns of the side that has a row for each row of the result keep their names.
        let (other, schema) = match join.join_type {
            JoinType::Right => (&mut left_plan, join.left.schema()),
            _ => (&mut right_plan, join.right.schema()),
        };
        let names: Vec<String> = d.columns().iter().map(|_| fresh("other")).collect();
        let own = schema.columns().into_iter().map(Expr::Column);
        let renamed = d.exprs().into_iter().zip(&names).map(|(e, n)| e.alias(n));
        let plan = LogicalPlan::clone(other);
        *other = Arc::new(LogicalPlanBuilder::from(plan).project(own.chain(renamed))?.build()?);
        conditions.extend(d.exprs().into_iter().zip(&names).map(|(e, n)| {
            binary_expr(e, Operator::IsNotDistinctFrom, Expr::Column(Column::new_unqualified(n)))
        }));
    }
    conditions.extend(join.filter.clone().map(|f| d.inner(f)).transpose()?);
    let on = |(l, r): &(Expr, Expr)| Ok((d.inner(l.clone())?, d.inner(r.clone())?));
    let on = join.on.iter().map(on).collect::<Result<Vec<_>>>()?;
    let done = Join::try_new(
        left_plan,
        right_plan,
        on,
        conjunction(conditions),
        join.join_type,
        JoinConstraint::On,
        join.null_equality,
        join.null_aware,
    )?;
    by_name(LogicalPlan::Join(done), &join.schema, d)
}
