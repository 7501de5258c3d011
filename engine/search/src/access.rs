//! The way to the nearest rows: an index, or every row.
//!
//! ```text
//! VectorSearch: column=v.e, output=[v.id]       IndexSearchExec: k=10, access=index e_idx
//!   SubqueryAlias: v                       ─►    VectorTopKExec: mode=final, k=10, access=index e_idx
//!     TableScan: docs                             UnionExec
//!       full_filters=[lang = 'en']                 LanceAnnExec: prefilter=[lang = en], masked_rows=…    rows on disk
//!                                                  VectorTopKExec: mode=partial                          rows in memory
//!                                                   HotScanExec: filter=[lang = en]
//!                                                VectorTopKExec: mode=final, access=exact                 otherwise
//! ```
//!
//! An index speaks of the rows on disk. What the snapshot does not see of these is masked below the index, and rows
//! in memory (the transaction's own too) are compared one by one beside it, so that each visible row is looked at
//! once (SNAP-2) and conditions are applied before the k nearest are chosen in both parts (SRCH-1). An external
//! Lance table has no rows in memory.
//!
//! *When*: the rows searched are the table itself, seen through aliases, choices of columns and semi joins by one key
//! ([`keys`]); all other conditions are in its scan; the column has an index for the metric; neither `exact => true` nor `search.mode = exact` was said.
//! Otherwise every row is compared, and the plan says why. A condition that few rows meet makes `LanceAnnExec`
//! compare those rows one by one when it runs; its own page says when.
//!
//! Everything that this crate takes from `triune-lance` and `triune-storage` is in this module.

mod deferred;
mod exec;
mod keys;
mod primary_key;

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array};
use arrow::datatypes::FieldRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_planner::PhysicalPlanner;
use triune_common::{Error, ErrorKind};
use triune_lance::{AnnRequest, LanceMetric, LanceProvider, VectorIndexInfo, VectorScorer, plan_ann};
use triune_storage::store::StoreProvider;
use triune_vector::kernels::Metric;

use crate::DISTANCE_COLUMN;
use crate::node::VectorSearchNode;
use crate::settings::{SEARCH_MODE, SearchMode};
use crate::spec::{Missing, SearchSpec};
use crate::topk::{QuerySource, TopKMode, VectorTopKExec};
use crate::vectors::Comparer;
use deferred::DeferredAnnExec;
pub(crate) use exec::IndexSearchExec;
use keys::{KeyJoin, KeyMask};
pub(crate) use primary_key::key_of;

/// A table that may have indexes of vectors.
pub(crate) trait VectorAccess: Send + Sync {
    /// The rows that indexes speak of, without those that are not to be seen; or why no index helps.
    fn indexed(&self, filters: &[Expr]) -> Result<std::result::Result<Arc<LanceProvider>, String>>;

    /// Why the rows have no index that serves, where the table knows more of that than the rows' files.
    fn why_none(&self, column: &str, metric: LanceMetric) -> Option<String>;

    /// What the definition of an index says of searches that do not say it themselves.
    fn defaults(&self, index: &str) -> SearchDefaults;

    /// A scan of all other rows that are to be seen and meet the conditions; `None` when there are none.
    fn beside(
        &self,
        session: &dyn Session,
        columns: &[usize],
        filters: &[Expr],
    ) -> Result<Option<Arc<dyn ExecutionPlan>>>;
}

/// Parameters of searches through an index.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SearchDefaults {
    nprobes: Option<u32>,
    refine_factor: Option<u32>,
}

impl VectorAccess for LanceProvider {
    fn indexed(&self, _filters: &[Expr]) -> Result<std::result::Result<Arc<LanceProvider>, String>> {
        Ok(Ok(Arc::new(self.clone())))
    }

    fn why_none(&self, _column: &str, _metric: LanceMetric) -> Option<String> {
        None
    }

    fn defaults(&self, _index: &str) -> SearchDefaults {
        SearchDefaults::default()
    }

    fn beside(
        &self,
        _session: &dyn Session,
        _columns: &[usize],
        _filters: &[Expr],
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        Ok(None)
    }
}

impl VectorAccess for StoreProvider {
    fn indexed(&self, filters: &[Expr]) -> Result<std::result::Result<Arc<LanceProvider>, String>> {
        if self.names_keys(filters) {
            return Ok(Err("the condition names the keys of the rows".to_owned()));
        }
        Ok(self.base()?.ok_or_else(|| "no rows on disk".to_owned()))
    }

    fn why_none(&self, column: &str, metric: LanceMetric) -> Option<String> {
        let mut other = None;
        for index in self.definition().indexes() {
            let Some(of) = index.metric().filter(|_| index.columns().iter().any(|c| c == column)) else {
                continue;
            };
            if of == metric {
                return Some(format!("index {} is not ready", index.name()));
            }
            other.get_or_insert_with(|| format!("index {} is of metric {of}", index.name()));
        }
        Some(other.unwrap_or_else(|| format!("no index on {column}")))
    }

    fn defaults(&self, index: &str) -> SearchDefaults {
        let definition = self.definition();
        let Some(index) = definition.index(index) else { return SearchDefaults::default() };
        let number = |name| index.number(name).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        SearchDefaults { nprobes: number("nprobes"), refine_factor: number("refine_factor") }
    }

    fn beside(
        &self,
        session: &dyn Session,
        columns: &[usize],
        filters: &[Expr],
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        self.scan_hot(session, columns, filters)
    }
}

fn access_of(provider: &dyn TableProvider) -> Option<&dyn VectorAccess> {
    let any: &dyn std::any::Any = provider;
    if let Some(table) = any.downcast_ref::<StoreProvider>() {
        return Some(table);
    }
    any.downcast_ref::<LanceProvider>().map(|table| table as &dyn VectorAccess)
}

/// How a search finds its rows.
#[derive(Debug)]
pub(crate) enum Way {
    /// Through an index. The rows have the columns of the search, at most k, nearest first; rows without a distance
    /// are not among them.
    Index { plan: Arc<dyn ExecutionPlan>, index: UsedIndex },
    /// By comparing every row. The reason is told where the table might have had an index.
    Exact { why: Option<String> },
}

/// The index that a plan goes through.
#[derive(Debug, Clone)]
pub(crate) struct UsedIndex {
    provider: Arc<LanceProvider>,
    name: String,
}

impl UsedIndex {
    /// Whether the error is of a kind that a damaged index causes; others cause it too.
    fn may_cause(error: &Error) -> bool {
        matches!(error.kind(), ErrorKind::Data | ErrorKind::NotFound | ErrorKind::Internal)
    }

    /// Has searches pass the index over until it was built again, if the error is one of what it holds.
    fn report(&self, error: &Error) {
        if Self::may_cause(error) {
            self.provider.report_damaged(&self.name, error);
        }
    }
}

impl fmt::Display for UsedIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index {}", self.name)
    }
}

impl Way {
    fn exact(why: impl Into<String>) -> Result<Self> {
        Ok(Self::Exact { why: Some(why.into()) })
    }
}

/// Whether the rows of a plan are those of a table of the database that has an index for searches of a column.
pub(crate) fn may_use_index(
    plan: &LogicalPlan,
    column: &datafusion::common::Column,
    metric: Metric,
) -> Result<bool> {
    let Some(metric) = metric_of(metric) else { return Ok(false) };
    let Some(Searched { scan, columns, .. }) = scan_of(plan)? else { return Ok(false) };
    let Some(place) = plan.schema().maybe_index_of_column(column).and_then(|i| columns.get(i)) else {
        return Ok(false);
    };
    let Ok(source) = source_as_provider(&scan.source) else { return Ok(false) };
    let any: &dyn std::any::Any = source.as_ref();
    let Some(table) = any.downcast_ref::<StoreProvider>() else { return Ok(false) };
    let name = scan.source.schema().field(*place).name().clone();
    Ok(table.definition().indexes().iter().any(|i| i.metric() == Some(metric) && i.columns().contains(&name)))
}

/// Decides how a search finds its rows.
///
/// # Errors
/// Those of the query, if it is known; of reading the table's state. Not those of an index, without which rows can be
/// found as well.
pub(crate) async fn way_of(
    search: &VectorSearchNode,
    query: &QuerySource,
    mode: SearchMode,
    planner: &dyn PhysicalPlanner,
    state: &SessionState,
) -> Result<Way> {
    let spec = search.spec();
    let Some(Searched { scan, columns, joins }) = scan_of(search.input())? else {
        let why = has_table(search.input())
            .then(|| "the rows searched are not a table with conditions of one row".to_owned());
        return Ok(Way::Exact { why });
    };
    let Ok(source) = source_as_provider(&scan.source) else { return Ok(Way::Exact { why: None }) };
    let Some(table) = access_of(source.as_ref()) else { return Ok(Way::Exact { why: None }) };
    if spec.exact {
        return Way::exact("exact => true");
    }
    if mode == SearchMode::Exact {
        return Way::exact(format!("{SEARCH_MODE} = exact"));
    }
    let Some(metric) = metric_of(spec.metric) else {
        return Way::exact(format!("no index has the metric {}", spec.metric.name()));
    };
    if scan.fetch.is_some() {
        return Way::exact("the table is searched only in part");
    }
    let Expr::Column(column) = search.column() else { return Ok(Way::Exact { why: None }) };
    let output: Option<Vec<usize>> =
        search.output_indices()?.into_iter().map(|i| columns.get(i).copied()).collect();
    let (Some(output), Some(place)) = (output, columns.get(search.input().schema().index_of_column(column)?))
    else {
        return Ok(Way::Exact { why: None });
    };
    let schema = scan.source.schema();
    let field = Arc::clone(&schema.fields()[*place]);
    if output.iter().any(|c| schema.field(*c).name() == DISTANCE_COLUMN) {
        return Way::exact(format!("the table has a column \"{DISTANCE_COLUMN}\""));
    }
    let told = table.why_none(field.name(), metric);
    let provider = match table.indexed(&scan.filters)? {
        Ok(provider) => provider,
        Err(why) => {
            let told = told.map_or_else(String::new, |t| format!("{t}; "));
            return Way::exact(format!("{told}{why}"));
        }
    };
    let index = match provider.vector_indexes(field.name()).await {
        Ok(indexes) => match choose(&indexes, field.name(), metric) {
            Ok(index) => index.clone(),
            Err(why) => return Way::exact(told.unwrap_or(why)),
        },
        Err(e) => return Way::exact(format!("the indexes of the table cannot be read: {}", e.message())),
    };

    let access = format!("index {}", index.name);
    let defaults = table.defaults(&index.name);
    let mut masks = Vec::with_capacity(joins.len());
    for join in &joins {
        let keys = planner.create_physical_plan(&join.keys, state).await?;
        masks.push(KeyMask { column: join.column.clone(), keys });
    }
    let mut hot = hot_part(table, state, scan, (*place, &output), (query, &masks), spec)?;
    let template = Template {
        provider: provider.as_ref().clone(),
        column: field,
        metric,
        spec: SearchSpec {
            nprobes: spec.nprobes.or(defaults.nprobes),
            refine_factor: spec.refine_factor.or(defaults.refine_factor),
            ..spec.clone()
        },
        filter: conjunction(scan.filters.clone()),
        output,
    };
    let distance = template.output.len();
    let found: Arc<dyn ExecutionPlan> = match query.literal().filter(|_| masks.is_empty()) {
        Some(value) => match template.plan(value, Vec::new()).await {
            Ok(plan) => plan,
            Err(e) => match Error::from(e) {
                e if e.kind() == ErrorKind::Unsupported => return Way::exact(e.message()),
                e => return Err(e.into()),
            },
        },
        None => {
            // What is wrong with the request is told now, and with any query.
            if let Some(value) = query.literal()
                && let Err(e) = template.plan(value, Vec::new()).await
            {
                match Error::from(e) {
                    e if e.kind() == ErrorKind::Unsupported => return Way::exact(e.message()),
                    e => return Err(e.into()),
                }
            }
            let masked = if masks.is_empty() { None } else { hot.take() };
            let access = access.clone();
            Arc::new(DeferredAnnExec::try_new(template, query.clone(), access, masks, masked)?)
        }
    };
    let found = match hot {
        Some(hot) => UnionExec::try_new(vec![found, hot.plan(None)?])?,
        None => found,
    };
    let found = named(found, search)?;
    let step = TopKMode::Final { distance };
    let all = (0..=distance).collect();
    let plan = VectorTopKExec::try_new(found, step, (spec.k, Missing::LeftOut), all, access.clone())?;
    Ok(Way::Index { plan: Arc::new(plan), index: UsedIndex { provider, name: index.name } })
}

/// The index of the metric that covers most rows, or why there is none.
fn choose<'a>(
    indexes: &'a [VectorIndexInfo],
    column: &str,
    metric: LanceMetric,
) -> std::result::Result<&'a VectorIndexInfo, String> {
    // As `plan_ann` chooses.
    match indexes.iter().filter(|i| i.metric == metric).max_by_key(|i| i.indexed_rows) {
        Some(index) => Ok(index),
        None => Err(match indexes.first() {
            Some(other) => format!("index {} is of metric {}", other.name, other.metric),
            None => format!("no index on {column}"),
        }),
    }
}

/// The rows that no index speaks of, to be compared one by one.
#[derive(Debug, Clone)]
struct HotPart {
    rows: Arc<dyn ExecutionPlan>,
    /// Places in `rows`: the vector, and what is given out.
    vector: usize,
    output: Vec<usize>,
    query: QuerySource,
    metric: Metric,
    k: usize,
}

impl HotPart {
    /// The k nearest of those that meet the condition, which speaks of the columns of `rows`.
    fn plan(&self, filter: Option<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn ExecutionPlan>> {
        let name = self.rows.schema().field(self.vector).name().clone();
        let mode = TopKMode::Partial {
            column: Arc::new(Column::new(&name, self.vector)),
            query: self.query.clone(),
            metric: self.metric,
            distance: DISTANCE_COLUMN.to_owned(),
            filter,
        };
        let (rows, k) = (Arc::clone(&self.rows), (self.k, Missing::LeftOut));
        Ok(Arc::new(VectorTopKExec::try_new(rows, mode, k, self.output.clone(), "exact")?))
    }
}

fn hot_part(
    table: &dyn VectorAccess,
    session: &dyn Session,
    scan: &TableScan,
    (vector, output): (usize, &[usize]),
    (query, masks): (&QuerySource, &[KeyMask]),
    spec: &SearchSpec,
) -> Result<Option<HotPart>> {
    let schema = scan.source.schema();
    let mut columns: Vec<usize> = output.iter().copied().chain([vector]).collect();
    for column in masks.iter().flat_map(|m| m.column.column_refs()) {
        columns.push(schema.index_of(&column.name)?);
    }
    columns.sort_unstable();
    columns.dedup();
    let Some(rows) = table.beside(session, &columns, &scan.filters)? else { return Ok(None) };
    // All are among the columns.
    let place = |column: &usize| columns.partition_point(|c| c < column);
    Ok(Some(HotPart {
        rows,
        vector: place(&vector),
        output: output.iter().map(place).collect(),
        query: query.clone(),
        metric: spec.metric,
        k: spec.k,
    }))
}

/// Whether a table that may have indexes is somewhere in the plan.
fn has_table(plan: &LogicalPlan) -> bool {
    let mut found = false;
    // The closure has no errors.
    let _ = plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(source) = source_as_provider(&scan.source)
        {
            found |= access_of(source.as_ref()).is_some();
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}

/// A request that lacks only the query.
#[derive(Debug, Clone)]
struct Template {
    provider: LanceProvider,
    column: FieldRef,
    metric: LanceMetric,
    spec: SearchSpec,
    filter: Option<Expr>,
    /// Columns of the provider.
    output: Vec<usize>,
}

impl Template {
    async fn plan(
        &self,
        query: &ScalarValue,
        conditions: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let comparer = Comparer::try_new(self.spec.metric, query, &self.column)?;
        let mut request = AnnRequest::new(self.column.name(), query.to_array()?, self.spec.k, self.metric);
        request.filter = self.filter.clone();
        request.conditions = conditions;
        request.nprobes = self.spec.nprobes.and_then(|n| usize::try_from(n).ok());
        request.refine_factor = self.spec.refine_factor;
        request.projection = Some(self.output.clone());
        // Our kernels compute what is given out, so that a distance does not depend on the way to it.
        request.scorer = Some(Arc::new(KernelScorer { comparer }));
        Ok(plan_ann(&self.provider, request).await?)
    }
}

#[derive(Debug)]
struct KernelScorer {
    comparer: Comparer,
}

impl VectorScorer for KernelScorer {
    fn score(&self, vectors: &FixedSizeListArray) -> triune_common::Result<Float32Array> {
        let vectors: ArrayRef = Arc::new(vectors.clone());
        Ok(self.comparer.distances(&vectors)?)
    }
}

/// The metric of an index that orders rows as ours does.
fn metric_of(metric: Metric) -> Option<LanceMetric> {
    match metric {
        Metric::L2 => Some(LanceMetric::L2),
        Metric::Cosine => Some(LanceMetric::Cosine),
        Metric::NegativeInnerProduct => Some(LanceMetric::Dot),
        Metric::Hamming => Some(LanceMetric::Hamming),
        Metric::L1 | Metric::Jaccard => None,
    }
}

/// The rows of a search: those of a scan, or of these the ones with certain keys.
struct Searched<'a> {
    scan: &'a TableScan,
    /// For each column of the plan its place in the table.
    columns: Vec<usize>,
    joins: Vec<KeyJoin>,
}

/// The scan below aliases, choices of columns and semi joins.
fn scan_of(plan: &LogicalPlan) -> Result<Option<Searched<'_>>> {
    Ok(match plan {
        LogicalPlan::TableScan(scan) => {
            let columns = match &scan.projection {
                Some(projection) => projection.clone(),
                None => (0..scan.source.schema().fields().len()).collect(),
            };
            Some(Searched { scan, columns, joins: Vec::new() })
        }
        LogicalPlan::SubqueryAlias(alias) => scan_of(&alias.input)?,
        LogicalPlan::Projection(projection) => {
            let Some(Searched { scan, columns, joins }) = scan_of(&projection.input)? else {
                return Ok(None);
            };
            let schema = projection.input.schema();
            let places = projection.expr.iter().map(|expr| match expr {
                Expr::Column(c) => columns.get(schema.maybe_index_of_column(c)?).copied(),
                Expr::Alias(alias) => match alias.expr.as_ref() {
                    Expr::Column(c) => columns.get(schema.maybe_index_of_column(c)?).copied(),
                    _ => None,
                },
                _ => None,
            });
            let columns = places.collect::<Option<Vec<_>>>();
            columns.map(|columns| Searched { scan, columns, joins })
        }
        LogicalPlan::Join(join) => {
            let Some(Searched { scan, columns, mut joins }) = scan_of(&join.left)? else { return Ok(None) };
            let Some(key) = KeyJoin::of(join, &columns, &scan.source.schema())? else { return Ok(None) };
            joins.push(key);
            Some(Searched { scan, columns, joins })
        }
        _ => None,
    })
}

/// The same rows with the columns called as the search calls them, which may have renamed the table's.
fn named(plan: Arc<dyn ExecutionPlan>, search: &VectorSearchNode) -> Result<Arc<dyn ExecutionPlan>> {
    let names = || search.schema().fields().iter().map(|f| f.name().clone());
    let schema = plan.schema();
    if schema.fields().iter().map(|f| f.name().clone()).eq(names()) {
        return Ok(plan);
    }
    let columns =
        schema.fields().iter().zip(names()).enumerate().map(|(i, (field, alias))| ProjectionExpr {
            expr: Arc::new(Column::new(field.name(), i)),
            alias,
        });
    Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
}
