//! The operator of a text search.
//!
//! ```text
//! SortExec: TopK(fetch=10), expr=[_score DESC, id ASC]
//!   TextSearchExec: columns=[title], access=scan: …
//!     <the rows>       streamed: each batch is cut into words, rows that do not match are left out
//!     <all texts>      read first, once for all partitions: how many, how long, in how many each word is
//! ```
//!
//! The statistics take a few numbers for each word of the query (for each similar word of the table with
//! `fuzziness`), whatever the table's size. Dropping the stream ends the reading of the statistics.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::runtime::JoinSet;
use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PhysicalExpr, PlanProperties,
};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::OnceCell;
use triune_common::Error;

use super::analysis::Analyzer;
use super::bm25::{ColumnStatistics, Matcher};
use super::indexed::TextIndexExec;
use super::node::{TextSearchNode, TextSpec};
use super::query::Query;
use crate::access::text::text_way;
use crate::planner::no_index;
use crate::recency::Factors;
use crate::settings::SearchMode;
use crate::topk::QuerySource;

/// Turns the node into the operator.
#[derive(Debug, Default)]
pub struct TextSearchPlanner {}

impl TextSearchPlanner {
    pub fn new() -> Self {
        Self {}
    }
}

#[async_trait]
impl ExtensionPlanner for TextSearchPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        state: &SessionState,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(search) = node.as_any().downcast_ref::<TextSearchNode>() else { return Ok(None) };
        let [rows, corpus] = physical_inputs else {
            return Err(Error::internal("a text search was planned without its inputs").into());
        };
        let columns = search
            .columns()
            .iter()
            .map(|c| planner.create_physical_expr(c, search.rows().schema(), state))
            .collect::<Result<Vec<_>>>()?;
        let query =
            QuerySource::new(planner.create_physical_expr(search.query(), &DFSchema::empty(), state)?);
        let exec = TextSearchExec::try_new(
            (Arc::clone(rows), Arc::clone(corpus)),
            columns,
            query,
            search.spec().clone(),
            &search.score_column().name,
        )?;
        let schema = search.rows().schema();
        let factors = search.recency().map(|r| r.physical(planner, schema, state)).transpose()?;
        let exec = |access: String| Arc::new(TextSearchExec { factors, access, ..exec });
        let mode = SearchMode::of(state.config_options());
        let strict = mode == SearchMode::Index && !search.spec().exact;
        match text_way(search, mode, state).await? {
            Ok(way) => {
                let otherwise = exec("exact, if the index cannot answer".to_owned());
                Ok(Some(Arc::new(TextIndexExec::try_new(way, otherwise, strict)?)))
            }
            Err(why) if strict => {
                let why =
                    why.unwrap_or_else(|| "the rows searched are not a table that has indexes".to_owned());
                Err(no_index(&why).into())
            }
            Err(Some(why)) => Ok(Some(exec(format!("exact ({why})")))),
            Err(None) => Ok(Some(exec("exact".to_owned()))),
        }
    }
}

/// What all partitions wait for, or why there is none.
pub(super) type Once<T> = std::result::Result<T, Arc<DataFusionError>>;

/// See the module.
#[derive(Debug)]
pub struct TextSearchExec {
    rows: Arc<dyn ExecutionPlan>,
    corpus: Arc<dyn ExecutionPlan>,
    columns: Vec<Arc<dyn PhysicalExpr>>,
    query: QuerySource,
    spec: TextSpec,
    /// What scores are multiplied by.
    factors: Option<Factors>,
    /// How the rows are found, for people.
    access: String,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    /// Filled by the partition that comes first. A failure stays too: a plan's operators cannot be run a second time.
    statistics: Arc<OnceCell<Once<Arc<Vec<ColumnStatistics>>>>>,
    metrics: ExecutionPlanMetricsSet,
}

impl TextSearchExec {
    fn try_new(
        (rows, corpus): (Arc<dyn ExecutionPlan>, Arc<dyn ExecutionPlan>),
        columns: Vec<Arc<dyn PhysicalExpr>>,
        query: QuerySource,
        spec: TextSpec,
        score: &str,
    ) -> Result<Self> {
        if corpus.schema().fields().len() != columns.len() {
            return Err(Error::internal("a text search has other texts than columns").into());
        }
        let input = rows.schema();
        let mut fields: Vec<_> = input.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(score, DataType::Float32, false)));
        let schema = Arc::new(Schema::new_with_metadata(fields, input.metadata().clone()));
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(rows.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        let (statistics, metrics) = (Arc::default(), ExecutionPlanMetricsSet::new());
        let (factors, access) = (None, String::new());
        Ok(Self {
            rows,
            corpus,
            columns,
            query,
            spec,
            factors,
            access,
            schema,
            properties,
            statistics,
            metrics,
        })
    }

    pub(super) fn spec(&self) -> &TextSpec {
        &self.spec
    }

    pub(super) fn scoring(&self) -> Scoring {
        Scoring {
            columns: self.columns.clone(),
            factors: self.factors.clone(),
            k: self.spec.k,
            rows: self.rows.schema(),
            schema: Arc::clone(&self.schema),
        }
    }

    /// The query, read; `None` if it finds nothing whatever the rows are.
    pub(super) fn matcher(&self) -> Result<Option<Matcher>> {
        let value = self.query.value()?;
        let Some(Some(text)) = value.try_as_str() else { return Ok(None) };
        let mut analyzer = Analyzer::new(&self.spec.analysis)?;
        let query = Query::parse(text, &self.spec.query, &mut analyzer)?;
        Ok((!query.is_empty()).then(|| Matcher::new(query, analyzer)))
    }
}

/// What it takes to score the rows of a batch.
#[derive(Debug, Clone)]
pub(super) struct Scoring {
    columns: Vec<Arc<dyn PhysicalExpr>>,
    factors: Option<Factors>,
    pub(super) k: usize,
    rows: SchemaRef,
    schema: SchemaRef,
}

impl Scoring {
    /// Columns of rows that were read in another way, as a batch of the rows.
    pub(super) fn rows(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.rows), columns, &options)?)
    }
}

/// Counts every text of the table.
pub(super) async fn count(
    corpus: Arc<dyn ExecutionPlan>,
    matcher: Matcher,
    context: Arc<TaskContext>,
) -> Result<Arc<Vec<ColumnStatistics>>> {
    let columns = corpus.schema().fields().len();
    let mut parts = JoinSet::new();
    for partition in 0..corpus.output_partitioning().partition_count() {
        let mut stream = corpus.execute(partition, Arc::clone(&context))?;
        let mut matcher = matcher.clone();
        parts.spawn(async move {
            let mut statistics = vec![ColumnStatistics::default(); columns];
            while let Some(batch) = stream.next().await.transpose()? {
                for (column, statistics) in batch.columns().iter().zip(&mut statistics) {
                    let texts = as_text(column)?;
                    for text in texts.as_string_view().iter().flatten() {
                        matcher.count(text, statistics)?;
                    }
                }
            }
            Ok::<_, DataFusionError>(statistics)
        });
    }
    let mut all = vec![ColumnStatistics::default(); columns];
    while let Some(part) = parts.join_next().await {
        let part = part.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))??;
        all.iter_mut().zip(part).for_each(|(all, part)| all.merge(part));
    }
    Ok(Arc::new(all))
}

fn as_text(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(match column.data_type() {
        DataType::Utf8View => Arc::clone(column),
        _ => cast(column, &DataType::Utf8View)?,
    })
}

/// The rows of a batch that match, with their scores.
pub(super) fn score(
    batch: &RecordBatch,
    scoring: &Scoring,
    matcher: &mut Matcher,
    statistics: &[ColumnStatistics],
) -> Result<RecordBatch> {
    let factors = scoring.factors.as_ref().map(|f| f.of(batch)).transpose()?;
    let texts = scoring
        .columns
        .iter()
        .map(|c| as_text(&c.evaluate(batch)?.into_array(batch.num_rows())?))
        .collect::<Result<Vec<_>>>()?;
    let texts: Vec<_> = texts.iter().map(AsArray::as_string_view).collect();
    let (mut places, mut scores) = (Vec::new(), Vec::new());
    let mut row: Vec<Option<&str>> = Vec::with_capacity(texts.len());
    for place in 0..batch.num_rows() {
        row.clear();
        row.extend(texts.iter().map(|t| t.is_valid(place).then(|| t.value(place))));
        if let Some(score) = matcher.score(&row, statistics)? {
            places.push(place as u32);
            let factor = factors.as_ref().and_then(|f| f.get(place)).copied().unwrap_or(1.0);
            scores.push((score * factor) as f32);
        }
    }
    let found = take_record_batch(batch, &UInt32Array::from(places))?;
    let mut arrays = found.columns().to_vec();
    arrays.push(Arc::new(Float32Array::from(scores)));
    Ok(RecordBatch::try_new(Arc::clone(&scoring.schema), arrays)?)
}

impl DisplayAs for TextSearchExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> = self.columns.iter().map(ToString::to_string).collect();
        let (columns, k, access) = (columns.join(", "), self.spec.k, &self.access);
        match t {
            DisplayFormatType::TreeRender => write!(f, "columns={columns}\nk={k}\naccess={access}"),
            _ => write!(f, "TextSearchExec: columns=[{columns}], k={k}, access={access}"),
        }
    }
}

impl ExecutionPlan for TextSearchExec {
    fn name(&self) -> &'static str {
        "TextSearchExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.rows, &self.corpus]
    }

    // Rows leave in the order in which they come, but DataFusion need not keep one for us: the default.

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        // Cutting texts into words is dear; the texts may come in as many parts as they like.
        vec![true, true]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([rows, corpus]) = <[_; 2]>::try_from(children) else {
            return Err(Error::internal("a text search was rebuilt without its inputs").into());
        };
        let score = self.schema.fields().last().map_or(super::SCORE_COLUMN, |f| f.name());
        let (columns, query) = (self.columns.clone(), self.query.clone());
        let new = Self::try_new((rows, corpus), columns, query, self.spec.clone(), score)?;
        Ok(Arc::new(Self { factors: self.factors.clone(), access: self.access.clone(), ..new }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let searched = MetricBuilder::new(&self.metrics).counter("rows_searched", partition);
        let corpus_texts = MetricBuilder::new(&self.metrics).global_counter("texts_counted");
        let schema = Arc::clone(&self.schema);
        let Some(matcher) = self.matcher()? else {
            let none = futures::stream::empty();
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, none)));
        };
        let rows = self.rows.execute(partition, Arc::clone(&context))?;
        let (corpus, cell, scoring) =
            (Arc::clone(&self.corpus), Arc::clone(&self.statistics), self.scoring());
        let stream = futures::stream::once(async move {
            let statistics = cell
                .get_or_init(|| async {
                    let counted = count(corpus, matcher.clone(), context).await?;
                    corpus_texts.add(counted.iter().map(|c| c.texts).max().unwrap_or(0) as usize);
                    Ok(counted)
                })
                .await;
            let statistics = statistics.clone().map_err(DataFusionError::Shared)?;
            let mut matcher = matcher;
            Ok::<_, DataFusionError>(rows.map(move |batch| {
                let batch = batch?;
                let _timer = baseline.elapsed_compute().timer();
                searched.add(batch.num_rows());
                let found = score(&batch, &scoring, &mut matcher, &statistics)?;
                baseline.record_output(found.num_rows());
                Ok(found)
            }))
        })
        .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
