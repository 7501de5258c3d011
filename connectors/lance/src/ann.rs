//! The `k` rows whose vectors are nearest to a query, through Lance's index.
//!
//! ```sql
//! SELECT id, _distance FROM vector_search(docs, embedding, $1, k => 10, metric => 'cosine')
//! WHERE lang = 'en';
//! ```
//!
//! ```text
//!  condition? ─ no ──▶ index ───────────────────────────────┐
//!      │               (too few rows: exact)                │
//!     yes ─▶ find the rows that match                       ├─▶ k rows, read again,
//!              none: nothing                                │   exact distances, sorted
//!              few (≤ exact_below): exact over these rows ──┤
//!              many: index, these rows allowed ─────────────┘
//!                    (until settled; too few rows: exact over these rows)
//!  no index, or one of another metric, or exact => true ─▶ exact over all rows
//! ```
//!
//! - *Conditions come first.* They are evaluated by DataFusion over the columns they name, and the rows
//!   that match are handed to the index as the only ones allowed. Lance's own pre-filter, which is off
//!   by default and speaks another dialect, is not used.
//! - *Probes.* Without a condition, `3·√partitions` partitions are searched, more if they could not hold
//!   enough rows. With one, a fixed number loses recall silently (0.94 at one row in ten, 0.33 where the
//!   rows that match lie far from the query): the search starts with `1/√selectivity` times as many and
//!   doubles them until the result does not change or all were searched. `nprobes` fixes the number.
//! - *Distances* of a quantised index are approximate and for cosine scaled. `refine_factor·k` candidates
//!   are compared by their stored vectors, and `_distance` is computed from these.
//! - *Completeness.* If `k` rows with a vector match, `k` rows come back: whenever the index gives
//!   fewer, the search is made again without it. Rows whose vector is NULL are never returned. Rows of
//!   fragments that the index does not cover yet are compared exactly.

pub(crate) mod exact;
pub(crate) mod exec;
pub(crate) mod fetch;
pub(crate) mod matching;
pub(crate) mod search;

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::utils::reassign_expr_columns;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::physical_plan::ExecutionPlan;
use triune_common::{Error, Result, boxed};

pub use exec::LanceAnnExec;

use crate::ann::search::{Access, AnnSpec};
use crate::index::check_column;
use crate::metric::{LanceMetric, LanceScorer, VectorScorer, query_for};
use crate::predicate::Predicate;
use crate::provider::{LanceProvider, is_row_condition, unqualified};

/// The name of the column of distances.
pub const DISTANCE: &str = "_distance";

/// Up to this many rows are compared one by one rather than through the index: reading 10,000 scattered
/// vectors takes some 20 ms on a local disk, and misses nothing.
const EXACT_BELOW: usize = 10_000;

/// A search for nearest rows.
#[derive(Debug, Clone)]
pub struct AnnRequest {
    /// A column of vectors of fixed length.
    pub column: String,
    /// One vector: as many numbers as the column's vectors have, or a list of one row that holds them.
    pub query: ArrayRef,
    pub k: usize,
    pub metric: LanceMetric,
    /// What must be true of a row for it to be considered at all.
    pub filter: Option<Expr>,
    /// The same, as conditions over the provider's columns that are known when the statement runs.
    pub conditions: Vec<Arc<dyn PhysicalExpr>>,
    /// How many partitions of the index are searched; the index's size and the condition decide else.
    pub nprobes: Option<usize>,
    /// How many times `k` candidates are compared by their stored vectors; the index's kind decides else.
    pub refine_factor: Option<u32>,
    /// Compare every row, whatever indexes there are.
    pub exact: bool,
    /// Up to how many matching rows are compared one by one instead of through the index.
    pub exact_below: usize,
    /// Output columns, counted by the provider's schema; all of them for `None`. `_distance` follows.
    pub projection: Option<Vec<usize>>,
    /// Who computes `_distance`; Lance's kernels, converted, for `None`.
    pub scorer: Option<Arc<dyn VectorScorer>>,
}

impl AnnRequest {
    pub fn new(column: impl Into<String>, query: ArrayRef, k: usize, metric: LanceMetric) -> Self {
        Self {
            column: column.into(),
            query,
            k,
            metric,
            filter: None,
            conditions: Vec::new(),
            nprobes: None,
            refine_factor: None,
            exact: false,
            exact_below: EXACT_BELOW,
            projection: None,
            scorer: None,
        }
    }
}

/// The plan of a search: a leaf with one partition, whose rows are the requested columns and
/// `_distance` (`Float32`), nearest first, equal distances in the order of `_rowid`.
///
/// Reads the descriptions of indexes, not the indexes. Errors: not-found for an unknown column;
/// invalid for a query that does not fit the column; unsupported for a condition that is no function of
/// one row, and for element types that cannot be compared.
#[boxed]
pub async fn plan_ann(provider: &LanceProvider, request: AnnRequest) -> Result<Arc<dyn ExecutionPlan>> {
    // The search itself always knows rows by their identity, whether or not the caller sees it.
    let table = Arc::clone(&provider.with_row_identity(true).table);
    let visible = Arc::clone(&provider.table.schema);
    let column = check_column(&visible, &request.column)?;
    let query = query_for(&request.column, visible.field(column).data_type(), &request.query)?;
    if request.refine_factor == Some(0) || request.nprobes == Some(0) {
        return Err(Error::invalid("nprobes and refine_factor must be at least 1"));
    }

    let projection = request.projection.unwrap_or_else(|| (0..visible.fields().len()).collect());
    let mut fields: Vec<Arc<Field>> = visible.project(&projection)?.fields().to_vec();
    if fields.iter().any(|f| f.name() == DISTANCE) {
        return Err(Error::invalid(format!("the dataset has a column \"{DISTANCE}\" of its own")));
    }
    fields.push(Arc::new(Field::new(DISTANCE, DataType::Float32, true)));
    let output = Arc::new(Schema::new_with_metadata(fields, visible.metadata().clone()));

    let mut fixed = Vec::new();
    if let Some(filter) = &request.filter {
        let schema = DFSchema::try_from(Arc::clone(&table.schema)).map_err(Error::from)?;
        let types = ExprSimplifier::new(SimplifyContext::default());
        for condition in split_conjunction(filter) {
            if !is_row_condition(condition)? {
                return Err(Error::unsupported(format!(
                    "a vector search cannot apply {condition} before it"
                )));
            }
            // The planner has done this for conditions of a statement; for others it does no harm.
            let condition = types.coerce(unqualified(condition)?, &schema)?;
            fixed.push(create_physical_expr(&condition, &schema, &ExecutionProps::new())?);
        }
    }

    for condition in request.conditions {
        fixed.push(reassign_expr_columns(condition, &table.schema)?);
    }

    let indexes = provider.vector_indexes(&request.column).await?;
    let usable = indexes.iter().filter(|i| i.metric == request.metric).max_by_key(|i| i.indexed_rows);
    let access = match usable {
        _ if request.exact => Access::Exact { why: "exact search was asked for".to_owned() },
        Some(index) => Access::Index {
            nprobes: request.nprobes,
            refine_factor: request.refine_factor.unwrap_or_else(|| index.default_refine_factor(request.k)),
            index: index.clone(),
        },
        None => Access::Exact {
            why: match indexes.first() {
                Some(other) => format!("index {} is of metric {}", other.name, other.metric),
                None => "the column has no vector index".to_owned(),
            },
        },
    };
    let scorer = match request.scorer {
        Some(scorer) => scorer,
        None => Arc::new(LanceScorer::try_new(request.metric, Arc::clone(&query))?),
    };
    let spec = AnnSpec {
        table,
        column,
        query,
        k: request.k,
        metric: request.metric,
        predicate: Predicate::new(fixed),
        access,
        exact_below: request.exact_below,
        projection,
        output,
        scorer,
    };
    Ok(Arc::new(LanceAnnExec::new(spec)) as Arc<dyn ExecutionPlan>)
}
