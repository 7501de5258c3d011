//! The search in a lateral sub-query, and what is done with its rows.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError, Result, ScalarValue, TableReference};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use triune_vector::kernels::Metric;
use triune_vector::similarity_call;

use super::{is_true, over, unsupported};
use crate::analyzer::search::k_of;
use crate::lateral::node::Order;
use crate::marker::nearest_key;
use crate::node::{VectorSearchNode, without_alias};
use crate::vectors::{distance_of, same_vectors, to_vector, vector_type};

/// A search and what is done with its rows.
pub(super) struct Shape {
    pub(super) input: Arc<LogicalPlan>,
    pub(super) column: Expr,
    pub(super) query: Expr,
    pub(super) metric: Metric,
    pub(super) order: Order,
    /// What was said of an index: `nprobes` and `refine_factor`, or that none is to be used.
    pub(super) probing: (Option<u32>, Option<u32>),
    pub(super) exact: bool,
    /// `None` while no limit has been seen.
    pub(super) k: Option<usize>,
    pub(super) skip: usize,
    pub(super) distance: (Option<TableReference>, String),
    /// The columns given out, over the input's columns, the distance and outer columns.
    pub(super) outs: Vec<Expr>,
    /// Conditions on the rows found.
    pub(super) above: Vec<Expr>,
    /// Whether the rows have been sorted otherwise, so that a limit would choose others.
    pub(super) reordered: bool,
    /// Whether this is `vector_search` itself under at most an alias.
    pub(super) bare: bool,
}

pub(super) fn shape_of(plan: &LogicalPlan) -> Result<Option<Shape>> {
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
            probing: (search.spec().nprobes, search.spec().refine_factor),
            exact: search.spec().exact,
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
    let (call, downwards, is_nearest, exact) = match nearest_key(&call) {
        Some(key) => (without_alias(key.by.clone()), key.is_similarity, true, key.is_exact),
        None => (without_alias(call), !key.asc, false, false),
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
        probing: (None, None),
        exact,
        k: None,
        skip: 0,
        distance,
        outs,
        above: Vec::new(),
        reordered: false,
        bare: false,
    }))
}
