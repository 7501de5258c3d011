//! `ORDER BY embedding <=> $1 LIMIT k` runs on the operators of a search.
//!
//! ```text
//! before  Sort: cosine_distance(d.e, q) ASC NULLS LAST, fetch=10
//!           TableScan: d [id, e]
//!
//! after   Projection: d.id, d.e
//!           Sort: __distance ASC NULLS LAST, fetch=10
//!             VectorSearch: column=d.e, metric=cosine, k=10, query=q
//!               TableScan: d [id, e]
//!
//! before  Sort: distance ASC NULLS LAST, fetch=10
//!           Projection: d.id, cosine_distance(d.e, q) AS distance
//!             TableScan: d [id, e]
//!
//! after   Sort: distance ASC NULLS LAST, fetch=10
//!           Projection: d.id, __distance AS distance
//!             VectorSearch: column=d.e, metric=cosine, k=10, query=q
//!               TableScan: d [id, e]
//! ```
//!
//! DataFusion's top-k computes the same distances and holds on to whole batches, vectors included, until
//! twenty of them are referred to: 250 MB for 384 dimensions. The search keeps k rows of what is asked
//! for. The answer is the same: rows without a distance last (NaN, then NULL), every row compared unless an
//! index of the table is used (see [`crate::settings`]); then the rows are the nearest that the index finds,
//! and where it cannot fill k rows that have a distance, every row is compared.
//!
//! A bound of the same distance in the `WHERE` is applied to the rows found (`range`).
//!
//! *Fires* when the sort has a fetch and one key, ascending with NULLs last, that is a distance function
//! of ours between a column and a query of the same type without columns. *Does not fire* with further
//! keys, `DESC` or `NULLS FIRST`, a query that may differ by row or by call (volatile), a distance
//! between columns, or a fetch beyond [`crate::MAX_K`].
//!
//! *Position*: after `optimize_projections`, before [`crate::NarrowSearchRule`], which makes it
//! worthwhile. *Idempotent*: the new sort's key is a column of a search, no function.

mod range;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, ExprSchemable, Filter, LogicalPlan, Projection, Sort, SortExpr};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::MAX_K;
use crate::node::{VectorSearchNode, without_alias};
use crate::spec::{Missing, SearchSpec};
use crate::vectors::{Distance, distance_of, is_null, same_vectors};

/// See the module.
#[derive(Debug, Default)]
pub struct OrderByDistanceRule {}

impl OrderByDistanceRule {
    pub fn new() -> Self {
        Self {}
    }
}

impl OptimizerRule for OrderByDistanceRule {
    fn name(&self) -> &str {
        "order_by_distance"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Sort(sort) = &plan else { return Ok(Transformed::no(plan)) };
        let (Some(k), [key]) = (sort.fetch, sort.expr.as_slice()) else { return Ok(Transformed::no(plan)) };
        if !key.asc || key.nulls_first || !(1..=MAX_K).contains(&k) {
            return Ok(Transformed::no(plan));
        }
        let new = match sort.input.as_ref() {
            LogicalPlan::Projection(projection) if matches!(key.expr, Expr::Column(_)) => {
                by_column(sort, key, projection, k)?
            }
            _ => by_call(sort, key, k)?,
        };
        Ok(new.map_or_else(|| Transformed::no(plan), Transformed::yes))
    }
}

/// The key is the call itself.
fn by_call(sort: &Sort, key: &SortExpr, k: usize) -> Result<Option<LogicalPlan>> {
    // Constant folding keeps the key's old name as an alias.
    let call = without_alias(key.expr.clone());
    let Some(search) = search_of(&call, &sort.input, k)? else { return Ok(None) };
    let columns = sort.input.schema().columns().into_iter().map(Expr::Column).collect();
    let sorted = Sort {
        expr: vec![Expr::Column(search.distance).sort(true, false)],
        fetch: sort.fetch,
        input: Arc::new(search.rows),
    };
    let projection = Projection::try_new(columns, Arc::new(LogicalPlan::Sort(sorted)))?;
    Ok(Some(LogicalPlan::Projection(projection)))
}

/// The key is a column that a projection below computes by the call.
fn by_column(sort: &Sort, key: &SortExpr, projection: &Projection, k: usize) -> Result<Option<LogicalPlan>> {
    let Expr::Column(column) = &key.expr else { return Ok(None) };
    let Some(place) = projection.schema.maybe_index_of_column(column) else { return Ok(None) };
    let (qualifier, field) = projection.schema.qualified_field(place);
    let call = without_alias(projection.expr[place].clone());
    // Computed for k rows instead of all, other columns would give other random numbers: harmless, and
    // still not ours to decide.
    if projection.expr.iter().any(Expr::is_volatile) {
        return Ok(None);
    }
    let Some(search) = search_of(&call, &projection.input, k)? else { return Ok(None) };
    let distance = Expr::Column(search.distance);
    let mut exprs = projection.expr.clone();
    exprs[place] = distance.alias_qualified(qualifier.cloned(), field.name());
    let projection = Projection::try_new(exprs, Arc::new(search.rows))?;
    let input = Arc::new(LogicalPlan::Projection(projection));
    Ok(Some(LogicalPlan::Sort(Sort { expr: sort.expr.clone(), fetch: sort.fetch, input })))
}

/// Without the sort of its own: it stands below one already.
fn into_extension(search: VectorSearchNode) -> LogicalPlan {
    use datafusion::logical_expr::Extension;
    LogicalPlan::Extension(Extension { node: Arc::new(search) })
}

/// Rows in the order of a distance.
struct Ranked {
    rows: LogicalPlan,
    distance: Column,
}

/// The search that finds the rows in the order of a distance, if `expr` is one that can be searched by.
fn search_of(expr: &Expr, input: &Arc<LogicalPlan>, k: usize) -> Result<Option<Ranked>> {
    let Some(Distance { metric, column, query }) = distance_of(expr) else { return Ok(None) };
    let schema = input.schema();
    if !matches!(column, Expr::Column(_)) || !is_constant(query)? {
        return Ok(None);
    }
    // Where the kinds differ, the function would convert one of the two; that is not repeated here. Lists
    // that are no vectors are compared in f64 and not by the kernels.
    if !same_vectors(&column.get_type(schema)?, &query.get_type(&DFSchema::empty())?) || is_null(query) {
        return Ok(None);
    }
    let mut name = "__distance".to_owned();
    while schema.fields().iter().any(|f| f.name() == &name) {
        name.push('_');
    }
    let spec = SearchSpec {
        k,
        metric,
        nprobes: None,
        refine_factor: None,
        exact: false,
        missing: Missing::Last,
        diversity: None,
    };
    let distance = Column::new(None::<datafusion::common::TableReference>, name.clone());
    let Expr::Column(vector) = column else { return Ok(None) };
    let (input, bounds) = match range::taken(input, vector, range::By { metric, query }, &distance)? {
        Some((input, bounds)) => (Arc::new(input), bounds),
        None => (Arc::clone(input), Vec::new()),
    };
    let search = VectorSearchNode::try_new(input, column.clone(), query.clone(), spec, (None, name))?;
    let rows = match conjunction(bounds) {
        Some(bounds) => LogicalPlan::Filter(Filter::try_new(bounds, Arc::new(into_extension(search)))?),
        None => into_extension(search),
    };
    Ok(Some(Ranked { rows, distance }))
}

/// Whether an expression has one value for the whole statement.
fn is_constant(expr: &Expr) -> Result<bool> {
    if expr.is_volatile() {
        return Ok(false);
    }
    let mut constant = true;
    expr.apply(|e| {
        constant &= match e {
            Expr::Column(Column { .. }) | Expr::OuterReferenceColumn(..) | Expr::Placeholder(_) => false,
            Expr::ScalarSubquery(s) => s.outer_ref_columns.is_empty(),
            Expr::AggregateFunction(_) | Expr::WindowFunction(_) | Expr::Unnest(_) => false,
            _ => true,
        };
        Ok(if constant { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(constant)
}
