//! The operator of a text search through indexes.
//!
//! ```text
//! SortExec: TopK(fetch=10), expr=[_score DESC, id ASC]
//!   TextIndexExec: k=10, access=index words
//!     <the same search over every row>   runs only if an index cannot be read
//!     <rows beyond the index>            in memory or not indexed yet, after the conditions: compared one by one
//!     <their texts>                      counted
//! ```
//!
//! 1. The posting lists of the query's words say which indexed rows have them, how often, and how long the texts are:
//!    masked rows are left out, so that the counts of all visible rows come together with those of the rows beside.
//! 2. From these follows a score for each row that is not below its own ([`super::bm25::bounds`]): its own, but for
//!    phrases, whose places are not read, and for a recency, which only makes scores smaller.
//! 3. From the best on, rows are fetched, checked by the conditions, and scored by their texts, as every row is
//!    without an index, until k of them are better than what can still come. Where conditions leave few, the rows
//!    that meet them are found first, by reading the columns of the conditions of all rows that have a word.
//!
//! So a score is the same whichever way a row was found, and rows of equal score at the k-th place all come.
//! *Memory*: what lists say of rows, 32 bytes for each word of a row, and the rows that were fetched, until the
//! operator goes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, Float32Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Float32Type;
use datafusion::common::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;
use triune_common::{Error, ErrorKind};
use triune_lance::TextIndexes;
use triune_lance::predicate::Predicate;

use super::bm25::{ColumnStatistics, Matcher, Occurrence, bounds};
use super::exec::{Once, TextSearchExec, count, score};
use crate::access::text::TextWay;
use crate::settings::SEARCH_MODE;

/// Rows that are fetched before the conditions are asked first.
const PATIENCE: usize = 1000;
/// The fewest rows of a fetch.
const LEAST_FETCH: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct TextIndexExec {
    way: Arc<TextWay>,
    /// The search over every row: what the scores are is its to say.
    otherwise: Arc<dyn ExecutionPlan>,
    rows: Arc<dyn ExecutionPlan>,
    texts: Arc<dyn ExecutionPlan>,
    /// Whether an index that cannot be read is an error.
    strict: bool,
    properties: Arc<PlanProperties>,
    /// Filled by the partition that comes first.
    prepared: Arc<OnceCell<Once<Prepared>>>,
    metrics: ExecutionPlanMetricsSet,
}

/// What all partitions need to know.
#[derive(Debug, Clone)]
enum Prepared {
    /// The rows of the index that may be among the k best, and the counts for all others.
    Index {
        found: Arc<Vec<RecordBatch>>,
        matcher: Box<Matcher>,
        statistics: Arc<Vec<ColumnStatistics>>,
    },
    /// The query has no words.
    Nothing,
    EveryRow,
}

impl TextIndexExec {
    /// # Errors
    /// Internal, if `otherwise` is no text search.
    pub(crate) fn try_new(way: TextWay, otherwise: Arc<dyn ExecutionPlan>, strict: bool) -> Result<Self> {
        let (rows, texts) = (Arc::clone(&way.rows_beside), Arc::clone(&way.texts_beside));
        Self::build(Arc::new(way), [otherwise, rows, texts], strict)
    }

    fn build(way: Arc<TextWay>, inputs: [Arc<dyn ExecutionPlan>; 3], strict: bool) -> Result<Self> {
        let [otherwise, rows, texts] = inputs;
        if otherwise.downcast_ref::<TextSearchExec>().is_none() {
            return Err(Error::internal("a text search through an index has no other way").into());
        }
        let parts = |plan: &Arc<dyn ExecutionPlan>| plan.output_partitioning().partition_count();
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(otherwise.schema()),
            Partitioning::UnknownPartitioning(parts(&otherwise).max(parts(&rows)).max(1)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        let (prepared, metrics) = (Arc::default(), ExecutionPlanMetricsSet::new());
        Ok(Self { way, otherwise, rows, texts, strict, properties, prepared, metrics })
    }

    fn search(&self) -> Result<&TextSearchExec> {
        let search = self.otherwise.downcast_ref::<TextSearchExec>();
        search.ok_or_else(|| Error::internal("a text search through an index has no other way").into())
    }
}

impl DisplayAs for TextIndexExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let k = self.search().map_or(0, |s| s.spec().k);
        let names = self.way.indexes.names();
        match t {
            DisplayFormatType::TreeRender => write!(f, "k={k}\naccess=index {names}"),
            _ => {
                write!(f, "TextIndexExec: k={k}, access=index {names}")?;
                if !self.way.conditions.is_empty() {
                    let all: Vec<String> = self.way.conditions.iter().map(ToString::to_string).collect();
                    write!(f, ", filter=[{}]", all.join(" AND "))?;
                }
                Ok(())
            }
        }
    }
}

impl ExecutionPlan for TextIndexExec {
    fn name(&self) -> &'static str {
        "TextIndexExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.otherwise, &self.rows, &self.texts]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false, true, true]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok(children) = <[_; 3]>::try_from(children) else {
            return Err(Error::internal("a text search was rebuilt without its inputs").into());
        };
        Ok(Arc::new(Self::build(Arc::clone(&self.way), children, self.strict)?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let searched = MetricBuilder::new(&self.metrics).counter("rows_searched", partition);
        let schema = self.schema();
        let search = self.search()?;
        let run = Run {
            way: Arc::clone(&self.way),
            texts: Arc::clone(&self.texts),
            matcher: search.matcher()?,
            search: search.scoring(),
            strict: self.strict,
            reservation: MemoryConsumer::new("TextIndexExec").register(context.memory_pool()),
            context: Arc::clone(&context),
            metrics: Counts::new(&self.metrics),
        };
        let (prepared, rows, otherwise) =
            (Arc::clone(&self.prepared), Arc::clone(&self.rows), Arc::clone(&self.otherwise));
        let scoring = search.scoring();
        let stream = futures::stream::once(async move {
            let prepare = || async move { run.prepare().await.map_err(Arc::new) };
            let ready = prepared.get_or_init(prepare).await.clone();
            let ready = ready.map_err(datafusion::common::DataFusionError::Shared)?;
            let there =
                |plan: &Arc<dyn ExecutionPlan>| partition < plan.output_partitioning().partition_count();
            let none = || futures::stream::empty().boxed();
            let out = match ready {
                Prepared::Nothing => none(),
                Prepared::EveryRow if there(&otherwise) => otherwise.execute(partition, context)?.boxed(),
                Prepared::EveryRow => none(),
                Prepared::Index { found, mut matcher, statistics } => {
                    let first = if partition == 0 { found.as_ref().clone() } else { Vec::new() };
                    let first = futures::stream::iter(first.into_iter().map(Ok));
                    if there(&rows) {
                        let rest = rows.execute(partition, context)?.map(move |batch| {
                            let batch = batch?;
                            searched.add(batch.num_rows());
                            score(&batch, &scoring, &mut matcher, &statistics)
                        });
                        first.chain(rest).boxed()
                    } else {
                        first.boxed()
                    }
                }
            };
            Ok::<_, datafusion::common::DataFusionError>(out)
        })
        .try_flatten()
        .inspect_ok(move |batch| baseline.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

#[derive(Debug)]
struct Counts {
    /// Rows that the index found, with the words of the query.
    index_rows: Count,
    /// Of these the ones that were fetched.
    rows_fetched: Count,
    texts_counted: Count,
    index_errors: Count,
}

impl Counts {
    fn new(set: &ExecutionPlanMetricsSet) -> Self {
        let counter = |name| MetricBuilder::new(set).global_counter(name);
        Self {
            index_rows: counter("index_rows"),
            rows_fetched: counter("rows_fetched"),
            texts_counted: counter("texts_counted"),
            index_errors: counter("index_errors"),
        }
    }
}

/// One execution.
struct Run {
    way: Arc<TextWay>,
    texts: Arc<dyn ExecutionPlan>,
    matcher: Option<Matcher>,
    search: super::exec::Scoring,
    strict: bool,
    reservation: MemoryReservation,
    context: Arc<TaskContext>,
    metrics: Counts,
}

/// A row that may be found, by its score at most. The best is the greatest, of equals the one that comes first.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    bound: f32,
    address: u64,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bound.total_cmp(&other.bound).then(other.address.cmp(&self.address))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

impl Run {
    async fn prepare(self) -> Result<Prepared> {
        let Some(matcher) = self.matcher.clone() else { return Ok(Prepared::Nothing) };
        let (mut statistics, words, occurrences) = match read(&self.way.indexes, &matcher).await {
            Ok(read) => read,
            Err(e) if matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Resources) => return Err(e.into()),
            Err(e) if self.strict => {
                let names = self.way.indexes.names();
                let what = format!("the search through index {names} failed: {}", e.message());
                let hint = format!(
                    "REINDEX builds an index again; SET {SEARCH_MODE} = auto reads every text meanwhile"
                );
                return Err(Error::new(e.kind(), what).with_hint(hint).with_source(e).into());
            }
            Err(e) => {
                self.metrics.index_errors.add(1);
                if matches!(e.kind(), ErrorKind::Data | ErrorKind::NotFound | ErrorKind::Internal) {
                    self.way.indexes.report_damaged(&e);
                }
                return Ok(Prepared::EveryRow);
            }
        };
        self.reservation.try_grow(occurrences.len() * size_of::<Occurrence>())?;
        let beside = count(Arc::clone(&self.texts), matcher.clone(), Arc::clone(&self.context)).await?;
        let counted = beside.iter().map(|c| c.texts).max().unwrap_or(0);
        self.metrics.texts_counted.add(usize::try_from(counted).unwrap_or(usize::MAX));
        statistics.iter_mut().zip(beside.iter()).for_each(|(all, part)| all.merge(part.clone()));
        let found = bounds(matcher.query(), words, occurrences, &statistics);
        self.metrics.index_rows.add(found.len());
        let candidates = found.into_iter().map(|(address, bound)| Candidate { bound: bound as f32, address });
        let found = self.best(candidates.collect(), &matcher, &statistics).await?;
        let statistics = Arc::new(statistics);
        Ok(Prepared::Index { found: Arc::new(found), matcher: Box::new(matcher), statistics })
    }

    /// The rows that meet the conditions and may be among the k best, with their scores: those that are, and those of
    /// equal score, and some others.
    async fn best(
        &self,
        candidates: Vec<Candidate>,
        matcher: &Matcher,
        statistics: &[ColumnStatistics],
    ) -> Result<Vec<RecordBatch>> {
        let k = self.search.k;
        let provider = self.way.indexes.provider();
        let mut columns = self.way.output.clone();
        for condition in &self.way.conditions {
            let read = datafusion::physical_expr::utils::collect_columns(condition);
            columns.extend(read.iter().map(datafusion::physical_expr::expressions::Column::index));
        }
        let width = self.way.output.len();
        let all = Predicate::new(self.way.conditions.clone());
        let mut asked = all.is_empty();
        let mut left = BinaryHeap::from(candidates);
        let mut matcher = matcher.clone();
        // The k best scores so far, the worst on top.
        let mut best: BinaryHeap<std::cmp::Reverse<Candidate>> = BinaryHeap::new();
        let (mut out, mut fetched, mut size) = (Vec::new(), 0, k.max(LEAST_FETCH));
        loop {
            let enough =
                |bound: f32| best.len() >= k && best.peek().is_some_and(|worst| bound < worst.0.bound);
            if left.peek().is_none_or(|next| enough(next.bound)) {
                break;
            }
            if !asked && fetched >= PATIENCE {
                asked = true;
                left = self.matching(left.into_vec()).await?;
                continue;
            }
            let mut addresses = Vec::with_capacity(size.min(left.len()));
            while addresses.len() < size
                && let Some(next) = left.peek().copied().filter(|next| !enough(next.bound))
            {
                left.pop();
                addresses.push(next.address);
            }
            // Rows are read faster in their own order.
            addresses.sort_unstable();
            fetched += addresses.len();
            self.metrics.rows_fetched.add(addresses.len());
            // Twice the same column is one of a batch of the table.
            let mut read = columns.clone();
            read.sort_unstable();
            read.dedup();
            let rows = provider.take(&addresses, &read).await?;
            let rows = if all.is_empty() { rows } else { all.bind(&rows.schema())?.apply(rows)? };
            let place = |c: &usize| read.partition_point(|r| r < c);
            let arrays = columns[..width].iter().map(|c| Arc::clone(rows.column(place(c)))).collect();
            let rows = self.search.rows(arrays, rows.num_rows())?;
            let found = score(&rows, &self.search, &mut matcher, statistics)?;
            let found = self.keep(found, &mut best, k)?;
            self.reservation.try_grow(found.get_array_memory_size())?;
            out.push(found);
            size = size.saturating_mul(2).min(8192.max(k));
        }
        Ok(out)
    }

    /// Notes scores, and leaves out rows that cannot be among the k best any more.
    fn keep(
        &self,
        found: RecordBatch,
        best: &mut BinaryHeap<std::cmp::Reverse<Candidate>>,
        k: usize,
    ) -> Result<RecordBatch> {
        let scores = found.columns().last().and_then(|c| c.as_primitive_opt::<Float32Type>());
        let scores: &Float32Array = scores.ok_or_else(|| Error::internal("a score is not Float32"))?;
        for (row, score) in scores.values().iter().enumerate() {
            best.push(std::cmp::Reverse(Candidate { bound: *score, address: row as u64 }));
            if best.len() > k {
                best.pop();
            }
        }
        match best.peek() {
            Some(worst) if best.len() >= k => {
                let least = worst.0.bound;
                let keep = scores.values().iter().map(|s| Some(*s >= least)).collect();
                Ok(filter_record_batch(&found, &keep)?)
            }
            _ => Ok(found),
        }
    }

    /// Those of the rows that meet the conditions.
    async fn matching(&self, mut candidates: Vec<Candidate>) -> Result<BinaryHeap<Candidate>> {
        candidates.sort_unstable_by_key(|c| c.address);
        let addresses: Vec<u64> = candidates.iter().map(|c| c.address).collect();
        let config = self.context.session_config();
        let (partitions, batch_rows) = (config.target_partitions(), config.batch_size());
        let conditions = self.way.conditions.clone();
        let provider = self.way.indexes.provider();
        let kept = provider.keep_matching(&addresses, conditions, partitions, batch_rows).await?;
        let mut kept = kept.into_iter().peekable();
        candidates.retain(|c| kept.next_if_eq(&c.address).is_some());
        Ok(BinaryHeap::from(candidates))
    }
}

/// What the indexes say of the words of a query.
async fn read(
    indexes: &TextIndexes,
    matcher: &Matcher,
) -> triune_common::Result<(Vec<ColumnStatistics>, Vec<String>, Vec<Occurrence>)> {
    let query = Arc::new(matcher.query().clone());
    let columns = indexes.read(super::query::wanted(&query)).await?;
    let (mut statistics, mut words, mut occurrences) = (Vec::new(), Vec::new(), Vec::new());
    for (column, found) in (0u32..).zip(columns) {
        let having = found.found.iter().map(|(word, rows)| (word.clone(), rows.len() as u64)).collect();
        statistics.push(ColumnStatistics { texts: found.texts, words: found.words, having });
        for (word, rows) in found.found {
            let number = u32::try_from(words.len()).unwrap_or(u32::MAX);
            let terms = (0u32..).zip(&query.terms).filter(|(_, t)| t.matches(&word));
            for (term, _) in terms {
                occurrences.extend(rows.iter().map(|r| Occurrence {
                    row: r.address,
                    column,
                    term,
                    word: number,
                    count: r.count,
                    length: r.length,
                }));
            }
            words.push(word);
        }
    }
    Ok((statistics, words, occurrences))
}
