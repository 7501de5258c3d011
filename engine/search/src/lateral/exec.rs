//! The operator of searches per row.
//!
//! ```text
//!  left ──► up to 8,192 rows: their query vectors ─┐
//!                                                  ├─ every partition of the right side, once:
//!  right, partitions at the same time ─────────────┘   a block of rows × all queries, a heap per query
//!                                                  │
//!              left row, right row, distance ◄─────┴─ heaps of the partitions merged per query
//! ```
//!
//! Conditions on both sides are evaluated once for each batch and each combination of values that the left
//! columns in them have: with `d.tenant = q.tenant` only the rows of a tenant are compared with its queries.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, Float32Array, RecordBatch,
    RecordBatchOptions, UInt32Array, new_null_array,
};
use arrow::compute::{interleave, prep_null_mask_filter, take};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result, ScalarValue, Statistics};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{Distribution, EquivalenceProperties};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, reset_plan_states};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PhysicalExpr,
    PlanProperties,
};
use futures::{StreamExt, TryStreamExt};
use triune_common::Error;
use triune_vector::kernels::{PreparedQuery, VectorRows};
use triune_vector::types::VectorType;

use super::kept::{Entry, Kept, merged};
use super::node::{LateralSpec, Order};
use crate::vectors::vector_type;

/// How many queries share a pass over the right side.
const MOST_QUERIES: usize = 8192;
/// How many rows all queries of a pass keep together.
const MOST_KEPT: usize = 4_000_000;

/// What the operator computes, apart from its inputs.
#[derive(Debug, Clone)]
pub struct LateralSearch {
    /// Over the right side.
    pub column: Arc<dyn PhysicalExpr>,
    /// Over the left side.
    pub query: Arc<dyn PhysicalExpr>,
    /// Over the columns of the left side, then those of the right side.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    pub spec: LateralSpec,
    /// The columns of each side that are given out.
    pub output: (Vec<usize>, Vec<usize>),
    /// What the last two columns are called.
    pub names: [String; 2],
}

/// For each row of the left side the k nearest rows of the right side.
///
/// *Output*: the chosen columns of the left row, of the right row, the distance, and true; one partition,
/// rows of one left row together and nearest first, left rows in their order. *Nulls*: a query that is NULL
/// finds nothing as a search, and rows without a distance where these are results (`ORDER BY NULL`). With `left_join` a left row that finds nothing comes once, with NULLs. *Memory*: the left
/// rows of a pass, k entries per query and partition, and the chosen columns of the rows kept; reserved, not
/// spilled. *Cost*: one scan of the right side for every 8,192 left rows (fewer where k is large).
/// *Cancellation*: between two blocks of rows.
#[derive(Debug)]
pub struct LateralTopKExec {
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    search: LateralSearch,
    ty: VectorType,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl LateralTopKExec {
    /// # Errors
    /// Internal, if the column is no vector or a column is not in its input.
    pub fn try_new(
        left: Arc<dyn ExecutionPlan>,
        right: Arc<dyn ExecutionPlan>,
        search: LateralSearch,
    ) -> Result<Self> {
        let schema = schema_of(&left.schema(), &right.schema(), &search)?;
        let field = search.column.return_field(&right.schema())?;
        let Some(ty) = vector_type(&field) else {
            return Err(broken("the column of searches per row is no vector"));
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self { left, right, search, ty, properties: Arc::new(properties), metrics })
    }

    /// How many queries share a pass.
    fn group(&self) -> usize {
        let kept = self.search.spec.k + self.search.spec.skip;
        (MOST_KEPT / kept.max(1)).clamp(1, MOST_QUERIES)
    }
}

fn broken(what: &str) -> DataFusionError {
    DataFusionError::from(Error::internal(what))
}

fn schema_of(left: &Schema, right: &Schema, search: &LateralSearch) -> Result<SchemaRef> {
    use arrow::datatypes::DataType;
    let mut fields: Vec<Arc<Field>> = left.project(&search.output.0)?.fields().to_vec();
    for field in right.project(&search.output.1)?.fields() {
        let nullable = field.is_nullable() || search.spec.left_join;
        fields.push(Arc::new(field.as_ref().clone().with_nullable(nullable)));
    }
    let [distance, found] = &search.names;
    fields.push(Arc::new(Field::new(distance, DataType::Float32, true)));
    fields.push(Arc::new(Field::new(found, DataType::Boolean, true)));
    Ok(Arc::new(Schema::new_with_metadata(fields, left.metadata().clone())))
}

impl DisplayAs for LateralTopKExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LateralSearch { column, query, filter, spec, .. } = &self.search;
        let join = if spec.left_join { "left" } else { "inner" };
        let (k, metric) = (spec.k, spec.metric.name());
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(
                    f,
                    "LateralTopKExec: join={join}, k={k}, metric={metric}, column={column}, query={query}, \
                     access=exact, queries_per_pass={}",
                    self.group()
                )?;
                if spec.skip > 0 {
                    write!(f, ", skip={}", spec.skip)?;
                }
                match filter {
                    Some(filter) => write!(f, ", filter={filter}"),
                    None => Ok(()),
                }
            }
            DisplayFormatType::TreeRender => write!(f, "join={join}\nk={k}\nmetric={metric}\naccess=exact"),
        }
    }
}

impl ExecutionPlan for LateralTopKExec {
    fn name(&self) -> &'static str {
        "LateralTopKExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    // Every partition of the left side would be a pass over the right side of its own.
    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition, Distribution::UnspecifiedDistribution]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false, true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 2]>::try_from(children) {
            Ok([left, right]) => Ok(Arc::new(Self::try_new(left, right, self.search.clone())?)),
            Err(_) => Err(broken("searches per row were rebuilt without their inputs")),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(broken("searches per row have one partition"));
        }
        let schema = self.schema();
        let consumer = |name: &str| {
            MemoryConsumer::new(format!("LateralTopKExec[{name}]")).register(context.memory_pool())
        };
        let task = Task {
            left: self.left.execute(0, Arc::clone(&context))?,
            pending: None,
            right: Arc::clone(&self.right),
            search: Arc::new(self.search.clone()),
            ty: self.ty,
            group: self.group(),
            schema: Arc::clone(&schema),
            reservation: consumer("queries"),
            rows: consumer("rows"),
            context,
            passes: MetricBuilder::new(&self.metrics).counter("passes", 0),
            compared: MetricBuilder::new(&self.metrics).counter("rows_compared", 0),
            peak: MetricBuilder::new(&self.metrics).gauge("peak_mem_used", 0),
        };
        let baseline = BaselineMetrics::new(&self.metrics, 0);
        let batches = futures::stream::try_unfold(task, |mut task| async move {
            Ok::<_, DataFusionError>(task.pass().await?.map(|found| (found, task)))
        })
        .map_ok(|found| {
            futures::stream::try_unfold(found, |mut found: Found| async move {
                Ok::<_, DataFusionError>(found.next_batch()?.map(|batch| (batch, found)))
            })
        })
        .try_flatten()
        .map(move |batch| {
            if let Ok(batch) = &batch {
                baseline.record_output(batch.num_rows());
            }
            batch
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn partition_statistics(&self, _partition: Option<usize>) -> Result<Arc<Statistics>> {
        Ok(Arc::new(Statistics::new_unknown(&self.schema())))
    }
}

struct Task {
    left: SendableRecordBatchStream,
    /// The rest of a left batch that was too large for a pass.
    pending: Option<RecordBatch>,
    right: Arc<dyn ExecutionPlan>,
    search: Arc<LateralSearch>,
    ty: VectorType,
    group: usize,
    schema: SchemaRef,
    reservation: MemoryReservation,
    rows: MemoryReservation,
    context: Arc<TaskContext>,
    passes: Count,
    compared: Count,
    peak: datafusion::physical_plan::metrics::Gauge,
}

/// The queries of a pass.
struct Queries {
    search: Arc<LateralSearch>,
    ty: VectorType,
    /// NULL where the left row's query is.
    prepared: Vec<PreparedQuery>,
    /// The conditions with the values of left rows in them, and the queries that they hold for.
    groups: Vec<Group>,
}

#[derive(Default)]
struct Group {
    filter: Option<Arc<dyn PhysicalExpr>>,
    queries: Vec<usize>,
    /// Queries that are NULL where rows without a distance are results: every row is as near.
    nulls: Vec<usize>,
}

impl Group {
    fn add(&mut self, query: usize, prepared: &[PreparedQuery]) {
        let list = if prepared[query].is_null() { &mut self.nulls } else { &mut self.queries };
        list.push(query);
    }

    fn is_empty(&self) -> bool {
        self.queries.is_empty() && self.nulls.is_empty()
    }
}

impl Task {
    /// The rows that one pass finds; `None` when there are no more left rows.
    async fn pass(&mut self) -> Result<Option<Found>> {
        let (mut batches, mut count) = (Vec::new(), 0);
        self.reservation.free();
        while count < self.group {
            let batch = match self.pending.take() {
                Some(batch) => batch,
                None => match self.left.next().await {
                    Some(batch) => batch?,
                    None => break,
                },
            };
            if batch.num_rows() == 0 {
                continue;
            }
            let room = self.group - count;
            let batch = if batch.num_rows() > room {
                self.pending = Some(batch.slice(room, batch.num_rows() - room));
                batch.slice(0, room)
            } else {
                batch
            };
            let rows = batch.num_rows();
            let bytes = crate::topk::bytes_of_rows(&batch, rows);
            self.reservation.try_grow(bytes + rows * (self.ty.list_size() * 4 + 256))?;
            count += rows;
            batches.push(batch);
        }
        if batches.is_empty() {
            return Ok(None);
        }
        let queries = Arc::new(self.prepare(&batches)?);
        // Exchanges hand out their rows once: later passes run on a fresh copy.
        if self.passes.value() > 0 {
            self.right = reset_plan_states(Arc::clone(&self.right))?;
        }
        self.passes.add(1);
        let mut tasks = Vec::new();
        if queries.groups.iter().any(|g| !g.is_empty()) {
            for partition in 0..self.right.output_partitioning().partition_count() {
                let input = self.right.execute(partition, Arc::clone(&self.context))?;
                let kept = Kept::new(
                    count,
                    self.search.spec.k + self.search.spec.skip,
                    self.search.spec.order,
                    self.rows.new_empty(),
                );
                let (queries, compared) = (Arc::clone(&queries), self.compared.clone());
                tasks.push(SpawnedTask::spawn(scan(input, queries, kept, compared)));
            }
        }
        let mut parts = Vec::with_capacity(tasks.len());
        for task in tasks {
            parts.push(task.join_unwind().await.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))??);
        }
        self.peak.set_max(self.reservation.size() + parts.iter().map(Kept::reserved).sum::<usize>());
        let offsets: Vec<usize> = parts
            .iter()
            .scan(0, |at, part| {
                let start = *at;
                *at += part.store.len();
                Some(start)
            })
            .collect();
        Ok(Some(Found {
            offsets,
            left: batches,
            parts,
            query: 0,
            queries: count,
            at: (0, 0),
            waiting: Vec::new(),
            schema: Arc::clone(&self.schema),
            search: Arc::clone(&self.search),
            size: self.context.session_config().batch_size(),
        }))
    }

    fn prepare(&self, batches: &[RecordBatch]) -> Result<Queries> {
        let mut prepared = Vec::new();
        for batch in batches {
            let vectors = self.search.query.evaluate(batch)?.into_array(batch.num_rows())?;
            let Some(vectors) = vectors.as_fixed_size_list_opt() else {
                return Err(broken("the query of searches per row is no vector when it runs"));
            };
            for row in 0..vectors.len() {
                prepared.push(PreparedQuery::from_row(self.search.spec.metric, vectors, row, self.ty)?);
            }
        }
        let groups = self.groups(batches, &prepared)?;
        Ok(Queries { search: Arc::clone(&self.search), ty: self.ty, prepared, groups })
    }

    /// Queries whose left rows agree in the columns that the condition reads share a group.
    fn groups(&self, batches: &[RecordBatch], prepared: &[PreparedQuery]) -> Result<Vec<Group>> {
        let nulls_find = self.search.spec.order != Order::Nearest;
        let alive = |q: &usize| nulls_find || !prepared[*q].is_null();
        let Some(filter) = &self.search.filter else {
            let mut group = Group::default();
            (0..prepared.len()).filter(alive).for_each(|query| group.add(query, prepared));
            return Ok(vec![group]);
        };
        let width = self.left.schema().fields().len();
        let mut read: Vec<usize> =
            collect_columns(filter).iter().map(Column::index).filter(|i| *i < width).collect();
        read.sort_unstable();
        let mut places: HashMap<Vec<ScalarValue>, usize> = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        let mut query = 0;
        for batch in batches {
            for row in 0..batch.num_rows() {
                let index = query;
                query += 1;
                if !alive(&index) {
                    continue;
                }
                let values: Vec<ScalarValue> = read
                    .iter()
                    .map(|i| ScalarValue::try_from_array(batch.column(*i), row))
                    .collect::<Result<_>>()?;
                let group = match places.get(&values) {
                    Some(group) => *group,
                    None => {
                        let by_column: HashMap<usize, &ScalarValue> =
                            read.iter().copied().zip(&values).collect();
                        let filter = with_values(filter, &by_column, width)?;
                        groups.push(Group { filter: Some(filter), ..Group::default() });
                        places.insert(values, groups.len() - 1);
                        groups.len() - 1
                    }
                };
                groups[group].add(index, prepared);
            }
        }
        Ok(groups)
    }
}

/// A condition over the right side's columns alone.
fn with_values(
    filter: &Arc<dyn PhysicalExpr>,
    values: &HashMap<usize, &ScalarValue>,
    width: usize,
) -> Result<Arc<dyn PhysicalExpr>> {
    let new = Arc::clone(filter).transform(|expr| {
        let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
        let new: Arc<dyn PhysicalExpr> = match values.get(&column.index()) {
            Some(value) => Arc::new(Literal::new((*value).clone())),
            None => {
                let index = column
                    .index()
                    .checked_sub(width)
                    .ok_or_else(|| broken("a condition of searches per row lost a column"))?;
                Arc::new(Column::new(column.name(), index))
            }
        };
        Ok(Transformed::yes(new))
    })?;
    Ok(new.data)
}

/// Runs a partition of the right side past all queries.
async fn scan(
    mut input: SendableRecordBatchStream,
    queries: Arc<Queries>,
    mut kept: Kept,
    compared: Count,
) -> Result<Kept> {
    let mut distances = vec![0_f32; 1024];
    while let Some(batch) = input.next().await {
        let batch = batch?;
        let rows = batch.num_rows();
        if rows == 0 {
            continue;
        }
        kept.begin(rows);
        let vectors = queries.search.column.evaluate(&batch)?.into_array(rows)?;
        let Some(vectors) = vectors.as_fixed_size_list_opt() else {
            return Err(broken("the column of searches per row is no vector when it runs"));
        };
        for group in &queries.groups {
            let Some(chosen) = Chosen::of(group, &batch, vectors)? else { continue };
            let vectors = chosen.vectors(vectors);
            let checked = VectorRows::try_new(vectors, queries.ty)?;
            for block in checked.blocks() {
                for &query in &group.queries {
                    let found = &mut distances[..block.len()];
                    checked.distances(&queries.prepared[query], block.clone(), found)?;
                    let Range { start, .. } = block;
                    kept.offer(query, found, |i| chosen.row(start + i), |i| vectors.is_null(start + i));
                }
                compared.add(block.len() * group.queries.len());
                give_way().await;
            }
            for query in &group.nulls {
                // Once there are k such rows none is better.
                for i in (0..vectors.len()).take(queries.search.spec.k + queries.search.spec.skip) {
                    kept.push(*query, chosen.row(i), None);
                }
            }
            if vectors.null_count() > 0 {
                for i in (0..vectors.len()).filter(|i| vectors.is_null(*i)) {
                    group.queries.iter().for_each(|query| kept.push(*query, chosen.row(i), None));
                }
            }
        }
        kept.end(&batch.project(&queries.search.output.1)?)?;
    }
    Ok(kept)
}

/// Lets other tasks of the thread run, and this one be cancelled.
pub(crate) async fn give_way() {
    let mut first = true;
    futures::future::poll_fn(|context| {
        if std::mem::take(&mut first) {
            context.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(())
    })
    .await;
}

/// The rows of a batch that a group's condition lets through.
enum Chosen {
    All,
    Some { rows: UInt32Array, vectors: FixedSizeListArray },
}

impl Chosen {
    fn of(group: &Group, batch: &RecordBatch, vectors: &FixedSizeListArray) -> Result<Option<Self>> {
        let Some(filter) = &group.filter else { return Ok(Some(Self::All)) };
        let value = filter.evaluate(batch)?.into_array(batch.num_rows())?;
        let keep = as_boolean_array(&value)?;
        let keep = if keep.null_count() > 0 { prep_null_mask_filter(keep) } else { keep.clone() };
        match keep.true_count() {
            0 => return Ok(None),
            n if n == batch.num_rows() => return Ok(Some(Self::All)),
            _ => {}
        }
        let rows: UInt32Array = keep.values().set_indices().map(|i| i as u32).collect::<Vec<_>>().into();
        let taken = take(vectors, &rows, None)?;
        Ok(Some(Self::Some { vectors: taken.as_fixed_size_list().clone(), rows }))
    }

    fn vectors<'a>(&'a self, all: &'a FixedSizeListArray) -> &'a FixedSizeListArray {
        match self {
            Self::All => all,
            Self::Some { vectors, .. } => vectors,
        }
    }

    fn row(&self, i: usize) -> usize {
        match self {
            Self::All => i,
            Self::Some { rows, .. } => rows.value(i) as usize,
        }
    }
}

/// What a pass has found, given out in batches.
struct Found {
    left: Vec<RecordBatch>,
    parts: Vec<Kept>,
    /// Where each partition's store begins among all stored batches.
    offsets: Vec<usize>,
    /// The next query, its left batch and row, and the count of queries.
    query: usize,
    at: (usize, usize),
    queries: usize,
    /// Rows that the last query had beyond a batch.
    waiting: Vec<Row>,
    schema: SchemaRef,
    search: Arc<LateralSearch>,
    size: usize,
}

/// A left row and what was found for it.
type Row = ((usize, usize), Option<(usize, Entry)>);

impl Found {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let mut rows = std::mem::take(&mut self.waiting);
        while rows.len() < self.size && self.query < self.queries {
            while self.at.1 == self.left[self.at.0].num_rows() {
                self.at = (self.at.0 + 1, 0);
            }
            let spec = &self.search.spec;
            let found = merged(&mut self.parts, self.query, spec.k, spec.skip);
            if found.is_empty() && spec.left_join {
                rows.push((self.at, None));
            }
            rows.extend(found.into_iter().map(|f| (self.at, Some(f))));
            self.query += 1;
            self.at.1 += 1;
        }
        if rows.len() > self.size {
            self.waiting = rows.split_off(self.size);
        }
        if rows.is_empty() {
            return Ok(None);
        }
        self.batch(&rows).map(Some)
    }

    fn batch(&self, rows: &[Row]) -> Result<RecordBatch> {
        let (of_left, of_right) = &self.search.output;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        let places: Vec<(usize, usize)> = rows.iter().map(|(at, _)| *at).collect();
        for column in of_left {
            let arrays: Vec<&dyn Array> = self.left.iter().map(|b| b.column(*column).as_ref()).collect();
            columns.push(interleave(&arrays, &places)?);
        }
        // The last array holds the NULL of rows that found nothing.
        let stored: usize = self.parts.iter().map(|p| p.store.len()).sum();
        let places: Vec<(usize, usize)> = rows
            .iter()
            .map(|(_, found)| match found {
                Some((part, entry)) => (self.offsets[*part] + entry.batch as usize, entry.row as usize),
                None => (stored, 0),
            })
            .collect();
        for i in 0..of_right.len() {
            let null = new_null_array(self.schema.field(of_left.len() + i).data_type(), 1);
            let mut arrays: Vec<&dyn Array> =
                self.parts.iter().flat_map(|p| &p.store).map(|b| b.column(i).as_ref()).collect();
            arrays.push(null.as_ref());
            columns.push(interleave(&arrays, &places)?);
        }
        let distance = |found: &Option<(usize, Entry)>| {
            found.as_ref().filter(|(_, e)| !e.is_null).map(|(_, e)| e.distance)
        };
        columns.push(Arc::new(rows.iter().map(|(_, f)| distance(f)).collect::<Float32Array>()));
        let found: BooleanArray = rows.iter().map(|(_, f)| f.as_ref().map(|_| true)).collect();
        columns.push(Arc::new(found));
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}
