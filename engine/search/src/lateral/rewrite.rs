//! From a lateral join to searches per row.
//!
//! Two shapes are known, below any aliases, choices of columns and further limits:
//! `vector_search(…)` and `SELECT … ORDER BY distance LIMIT k`. The conditions of the sub-query that name the
//! left side are lifted into the node; they must stand in filters that nothing but aliases and choices of
//! columns separates from the search.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, Result, ScalarValue, TableReference};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Extension, Filter, Join, JoinType, LogicalPlan, Projection, when,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use triune_common::Error;
use triune_vector::kernels::Metric;
use triune_vector::similarity_call;

use super::node::{FOUND, LateralSearchNode, LateralSpec, Order, Parts};
use super::outer::{depends, first_outer, has_outer, subquery_in, subquery_of};
use crate::MAX_K;
use crate::analyzer::search::k_of;
use crate::marker::nearest_key;
use crate::node::{VectorSearchNode, without_alias};
use crate::vectors::{distance_of, same_vectors, to_vector, vector_type};

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

/// A search and what is done with its rows.
struct Shape {
    input: Arc<LogicalPlan>,
    column: Expr,
    query: Expr,
    metric: Metric,
    order: Order,
    /// `None` while no limit has been seen.
    k: Option<usize>,
    skip: usize,
    distance: (Option<TableReference>, String),
    /// The columns given out, over the input's columns, the distance and outer columns.
    outs: Vec<Expr>,
    /// Conditions on the rows found.
    above: Vec<Expr>,
    /// Whether the rows have been sorted otherwise, so that a limit would choose others.
    reordered: bool,
    /// Whether this is `vector_search` itself under at most an alias.
    bare: bool,
}

fn shape_of(plan: &LogicalPlan) -> Result<Option<Shape>> {
    if let Some(search) = VectorSearchNode::find(plan) {
        if !search.per().is_empty() || search.spec().diversity.is_some() {
            return Err(unsupported(
                "per and diversity are not supported in a search per row",
                "they are arguments of a search with one query",
            ));
        }
        return Ok(Some(Shape {
            input: Arc::clone(search.input()),
            column: search.column().clone(),
            query: search.query().clone(),
            metric: search.spec().metric,
            order: Order::Nearest,
            k: Some(search.spec().k),
            skip: 0,
            distance: (search.distance_column().relation, search.distance_column().name),
            outs: plan.schema().columns().into_iter().map(Expr::Column).collect(),
            above: Vec::new(),
            reordered: false,
            bare: true,
        }));
    }
    let shape = match plan {
        LogicalPlan::Subquery(s) => shape_of(&s.subquery)?,
        LogicalPlan::SubqueryAlias(a) => shape_of(&a.input)?,
        LogicalPlan::Projection(p) => shape_of(&p.input)?
            .map(|shape| {
                let outs = p.expr.iter().map(|e| over(e, p.input.schema(), &shape.outs));
                let outs = outs.collect::<Result<Vec<_>>>()?;
                Ok::<_, DataFusionError>(Shape { outs, bare: false, ..shape })
            })
            .transpose()?,
        LogicalPlan::Filter(f) => match shape_of(&f.input)? {
            Some(mut shape) if shape.k.is_some() => {
                for condition in split_conjunction(&f.predicate).into_iter().filter(|c| !is_true(c)) {
                    shape.above.push(over(condition, f.input.schema(), &shape.outs)?);
                }
                Some(Shape { bare: false, ..shape })
            }
            _ => None,
        },
        LogicalPlan::Limit(limit) => match shape_of(&limit.input)? {
            Some(shape) => Some(limited(shape, limit.skip.as_deref(), limit.fetch.as_deref())?),
            None => None,
        },
        LogicalPlan::Sort(sort) => {
            let shape = match shape_of(&sort.input)? {
                Some(shape) if shape.k.is_some() => {
                    let as_found = match sort.expr.as_slice() {
                        [key] if key.asc && shape.order == Order::Nearest => {
                            let (relation, name) = &shape.distance;
                            let distance = Expr::Column(Column::new(relation.clone(), name.clone()));
                            over(&key.expr, sort.input.schema(), &shape.outs)? == distance
                        }
                        _ => false,
                    };
                    Some(Shape { reordered: shape.reordered || !as_found, bare: false, ..shape })
                }
                _ => sorted(&sort.expr, &sort.input)?,
            };
            match (shape, sort.fetch) {
                (Some(shape), Some(fetch)) => Some(window(shape, 0, Some(fetch))?),
                (shape, _) => shape,
            }
        }
        _ => None,
    };
    Ok(shape)
}

fn limited(shape: Shape, skip: Option<&Expr>, fetch: Option<&Expr>) -> Result<Shape> {
    let number = |expr: &Expr| -> Result<usize> {
        // LIMIT 0 is asked by tools that want to know the columns.
        let simplified = ExprSimplifier::new(SimplifyContext::default()).simplify(expr.clone())?;
        match simplified {
            Expr::Literal(ScalarValue::Int64(Some(0)) | ScalarValue::UInt64(Some(0)), _) => Ok(0),
            expr => Ok(k_of(&expr)?),
        }
    };
    let skip = skip.map(number).transpose()?.unwrap_or(0);
    let fetch = fetch.filter(|e| !crate::vectors::is_null(e)).map(number).transpose()?;
    window(shape, skip, fetch)
}

/// The rows `skip..skip + fetch` of the rows found.
fn window(shape: Shape, skip: usize, fetch: Option<usize>) -> Result<Shape> {
    if !shape.above.is_empty() || shape.reordered {
        return Err(unsupported(
            "LIMIT and OFFSET over filtered or newly sorted results of a search per row are not supported",
            "give the search its own k and condition, and limit outside of the LATERAL",
        ));
    }
    let left = shape.k.map(|k| k.saturating_sub(skip));
    let k = match (left, fetch) {
        (Some(left), Some(fetch)) => Some(left.min(fetch)),
        (left, fetch) => left.or(fetch),
    };
    Ok(Shape { k, skip: shape.skip + skip, bare: false, ..shape })
}

/// `ORDER BY distance` over the rows of `input`.
fn sorted(keys: &[datafusion::logical_expr::SortExpr], input: &LogicalPlan) -> Result<Option<Shape>> {
    let [key] = keys else { return Ok(None) };
    let mut call = key.expr.clone();
    let mut base = input;
    let mut outs: Vec<Expr> = base.schema().columns().into_iter().map(Expr::Column).collect();
    while let LogicalPlan::Projection(p) = base {
        let below = p.expr.iter().cloned().map(without_alias).collect::<Vec<_>>();
        call = over(&call, &p.schema, &below)?;
        outs = outs.iter().map(|e| over(e, &p.schema, &below)).collect::<Result<_>>()?;
        base = &p.input;
    }
    let (call, downwards, is_nearest) = match nearest_key(&call) {
        Some((by, is_similarity)) => (without_alias(by.clone()), is_similarity, true),
        None => (without_alias(call), !key.asc, false),
    };
    let (metric, column, query, is_distance) = match (distance_of(&call), similarity_call(&call)) {
        (Some(d), _) if !downwards => (d.metric, d.column, d.query, true),
        (None, Some(d)) if downwards => (d.metric, d.column, d.query, false),
        _ => return Ok(None),
    };
    let (schema, Expr::Column(name)) = (base.schema(), column) else { return Ok(None) };
    let Some(place) = schema.maybe_index_of_column(name) else { return Ok(None) };
    if !query.column_refs().is_empty() {
        return Ok(None);
    }
    let field = schema.field(place);
    let Some(ty) = vector_type(field) else { return Ok(None) };
    let found = query.get_type(&DFSchema::empty())?;
    let query = if same_vectors(&found, field.data_type()) {
        query.clone()
    } else if triune_vector::types::VectorType::from_data_type(&found).is_some() {
        return Err(unsupported(
            format!("the sort key of a search per row compares {ty} with another kind of vector ({found})"),
            &format!("write query::{ty}"),
        ));
    } else {
        to_vector(query.clone(), ty)?
    };
    let mut distance = "__lateral_distance".to_owned();
    while schema.fields().iter().any(|f| f.name() == &distance) {
        distance.push('_');
    }
    let distance = (None, distance);
    if is_distance {
        let computed = Expr::Column(Column::new(None::<TableReference>, distance.1.clone()));
        outs = outs
            .into_iter()
            .map(|out| {
                Ok(out
                    .transform_down(|e| {
                        Ok(if e == call { Transformed::yes(computed.clone()) } else { Transformed::no(e) })
                    })?
                    .data)
            })
            .collect::<Result<_>>()?;
    }
    let nulls_first = key.nulls_first;
    Ok(Some(Shape {
        input: Arc::new(base.clone()),
        column: column.clone(),
        query,
        metric,
        order: match (is_nearest, downwards) {
            (true, _) => Order::Nearest,
            (false, false) => Order::Ascending { nulls_first },
            (false, true) => Order::Descending { nulls_first },
        },
        k: None,
        skip: 0,
        distance,
        outs,
        above: Vec::new(),
        reordered: false,
        bare: false,
    }))
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
        spec: LateralSpec { k, skip: shape.skip, metric: shape.metric, order: shape.order, left_join },
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

/// Takes the conditions that name outer columns out of a plan; they are given over its output.
fn lift(plan: LogicalPlan, conditions: &mut Vec<Expr>) -> Result<LogicalPlan> {
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

/// Says what `NEAREST … BY` takes where one was not understood.
pub(crate) fn refuse_nearest(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| match node {
        LogicalPlan::Sort(sort) => match sort.expr.iter().find_map(|key| nearest_key(&key.expr)) {
            Some((_, is_similarity)) => {
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

/// Refuses what is left over: searches that depend on rows, and correlated limits, which DataFusion cannot run.
pub(crate) fn refuse_leftovers(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        if let Some(search) = VectorSearchNode::find(node) {
            const HINT: &str = "write FROM other o CROSS JOIN LATERAL vector_search(table, column, o.vec) v";
            if let Some(column) = first_outer(search.input())? {
                return Err(unsupported(format!("a condition on a search depends on {column} of an outer query"), HINT));
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
        if let LogicalPlan::Subquery(s) = node
            && s.subquery.exists(|n| Ok(matches!(n, LogicalPlan::Limit(_)) && depends(n)?))?
        {
            return Err(unsupported(
                "a LIMIT in a sub-query that depends on other rows is supported for searches behind LATERAL only: ORDER BY distance between a vector column and a vector of the left side, LIMIT k",
                "ORDER BY d.embedding <=> q.vec LIMIT 5 has one sort key, ascending for distances and DESC for similarities",
            ));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}
