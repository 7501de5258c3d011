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
//! Everything that this crate takes from `triune-lance` and `triune-storage` is in this module, but for the parameters of
//! words.

mod deferred;
mod exec;
mod hot;
mod keys;
mod per_row;
mod primary_key;
mod searched;
pub(crate) mod text;
mod way;

use std::fmt;
use std::sync::Arc;

use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use triune_common::{Error, ErrorKind};
use triune_lance::{LanceMetric, LanceProvider};
use triune_storage::store::StoreProvider;
use triune_vector::kernels::Metric;

pub(crate) use exec::IndexSearchExec;
pub(crate) use per_row::{IndexedRows, RowsWay, rows_way};
pub(crate) use primary_key::key_of;
use searched::{Searched, scan_of};
pub(crate) use way::way_of;

/// A table that may have indexes of vectors.
pub(crate) trait VectorAccess: Send + Sync {
    /// The rows that indexes speak of, without those that are not to be seen; or why no index helps.
    fn indexed(&self, filters: &[Expr]) -> Result<std::result::Result<Arc<LanceProvider>, String>>;

    /// Why the rows have no index that serves, where the table knows more of that than the rows' files.
    fn why_none(&self, column: &str, metric: LanceMetric) -> Option<WhyNone>;

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

/// Why a table has no index that serves a search, if it has none.
#[derive(Debug)]
pub(crate) enum WhyNone {
    /// There is such an index: if it is not among those of the rows on disk, it is not built yet, or damaged.
    NotThere(String),
    NotDefined(String),
}

impl WhyNone {
    /// The rows on disk cannot be searched, for this reason.
    fn and(told: Option<Self>, why: String) -> String {
        match told {
            Some(Self::NotDefined(told)) => format!("{told}; {why}"),
            Some(Self::NotThere(_)) | None => why,
        }
    }

    /// The rows on disk have no such index.
    fn or(told: Option<Self>, provider: &LanceProvider, why: String) -> String {
        match told {
            Some(Self::NotThere(name)) if provider.damaged_indexes().contains_key(&name) => {
                format!("index {name} is damaged, REINDEX builds it again")
            }
            Some(Self::NotThere(name)) => format!("index {name} is not built yet"),
            Some(Self::NotDefined(told)) => told,
            None => why,
        }
    }
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

    fn why_none(&self, _column: &str, _metric: LanceMetric) -> Option<WhyNone> {
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

    fn why_none(&self, column: &str, metric: LanceMetric) -> Option<WhyNone> {
        let mut other = None;
        for index in self.definition().indexes() {
            let Some(of) = index.metric().filter(|_| index.columns().iter().any(|c| c == column)) else {
                continue;
            };
            if of == metric {
                return Some(WhyNone::NotThere(index.name().to_owned()));
            }
            other.get_or_insert_with(|| format!("index {} is of metric {of}", index.name()));
        }
        Some(WhyNone::NotDefined(other.unwrap_or_else(|| format!("no index on {column}"))))
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
