//! The k nearest rows of every group.
//!
//! ```sql
//! SELECT lang, id, _distance FROM vector_search(docs, embedding, $1, k => 3 PER lang)
//! ```
//!
//! ```text
//!  partition 0 ─ batches ─► distance and group of every row ─► a heap per group ─┐
//!  partition 1 ─ batches ─► distance and group of every row ─► a heap per group ─┴─► k of each group, nearest first
//! ```
//!
//! Rows that agree in the columns of `per`, NULL being a value like others, are a group. Every row is compared, no index
//! is used.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, RecordBatch};
use arrow::compute::{SortOptions, interleave};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
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
use triune_vector::kernels::Metric;

use crate::lateral::exec::give_way;
use crate::lateral::kept::{Entry, Kept};
use crate::lateral::node::Order;
use crate::node::distance_field;
use crate::spec::Missing;
use crate::topk::QuerySource;
use crate::vectors::Comparer;

/// What is searched for.
#[derive(Debug, Clone)]
pub struct GroupedSearch {
    pub column: Arc<dyn PhysicalExpr>,
    pub query: QuerySource,
    /// What rows of one group have in common.
    pub per: Vec<Arc<dyn PhysicalExpr>>,
    pub metric: Metric,
    pub k: usize,
    /// The columns of the input that are given out.
    pub output: Vec<usize>,
    /// What the distance is called.
    pub name: String,
}

/// Keeps the k nearest rows of every group.
///
/// *Output*: the chosen columns and the distance (`Float32`), nearest first, one partition. *Nulls and NaN*: rows whose
/// vector is NULL or whose distance is NaN are left out; NULL is a value of a group. *Errors*: a query that is NULL or
/// does not fit. *Memory*: k rows of the chosen columns for each group and partition, and the groups' values; reserved,
/// not spilled. *Cancellation*: between batches.
#[derive(Debug)]
pub struct GroupedTopKExec {
    input: Arc<dyn ExecutionPlan>,
    search: GroupedSearch,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

fn broken(what: &str) -> DataFusionError {
    DataFusionError::from(Error::internal(what))
}

impl GroupedTopKExec {
    /// # Errors
    /// If values of the groups' columns cannot be told apart (maps); internal, if a column is not in the input.
    pub fn try_new(input: Arc<dyn ExecutionPlan>, search: GroupedSearch) -> Result<Self> {
        let mut fields: Vec<Arc<Field>> = input.schema().project(&search.output)?.fields().to_vec();
        fields.push(Arc::new(distance_field(&search.name, Missing::LeftOut)));
        let schema: SchemaRef =
            Arc::new(Schema::new_with_metadata(fields, input.schema().metadata().clone()));
        let keys = sort_fields(&search, &input.schema())?;
        if !RowConverter::supports_fields(&keys) {
            let types: Vec<_> = search.per.iter().map(ToString::to_string).collect();
            return Err(Error::unsupported(format!("rows cannot be grouped per {}", types.join(", ")))
                .with_hint("numbers, texts, times and the like are accepted")
                .into());
        }
        let distance = search.output.len();
        let mut equivalence = EquivalenceProperties::new(Arc::clone(&schema));
        equivalence.add_ordering([PhysicalSortExpr::new(
            Arc::new(Column::new(&search.name, distance)),
            SortOptions { descending: false, nulls_first: false },
        )]);
        let properties = Arc::new(PlanProperties::new(
            equivalence,
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Ok(Self { input, search, properties, metrics: ExecutionPlanMetricsSet::new() })
    }
}

fn sort_fields(search: &GroupedSearch, schema: &Schema) -> Result<Vec<SortField>> {
    search.per.iter().map(|e| Ok(SortField::new(e.data_type(schema)?))).collect()
}

impl DisplayAs for GroupedTopKExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per: Vec<_> = self.search.per.iter().map(ToString::to_string).collect();
        let (k, metric, per) = (self.search.k, self.search.metric.name(), per.join(", "));
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(
                    f,
                    "GroupedTopKExec: k={k}, per=[{per}], metric={metric}, column={}, access=exact (k per group)",
                    self.search.column
                )
            }
            DisplayFormatType::TreeRender => write!(f, "k={k}\nper={per}\nmetric={metric}"),
        }
    }
}

impl ExecutionPlan for GroupedTopKExec {
    fn name(&self) -> &'static str {
        "GroupedTopKExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    // Filters and limits do not pass: the defaults.

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self::try_new(input, self.search.clone())?)),
            Err(_) => Err(broken("a search per group was rebuilt without its input")),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(broken("a search per group has one partition"));
        }
        let reservation = MemoryConsumer::new("GroupedTopKExec").register(context.memory_pool());
        let (input, search, schema) = (Arc::clone(&self.input), Arc::new(self.search.clone()), self.schema());
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let groups = MetricBuilder::new(&self.metrics).counter("groups", partition);
        let batches = futures::stream::once(async move {
            let found = Box::pin(run(input, search, context, (schema, reservation, groups))).await?;
            Ok::<_, DataFusionError>(futures::stream::iter(found))
        })
        .try_flatten()
        .inspect_ok(move |batch| baseline.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// What a partition keeps.
struct Part {
    groups: HashMap<OwnedRow, usize>,
    kept: Kept,
    /// For the groups' values.
    _keys: MemoryReservation,
}

type Out = (SchemaRef, MemoryReservation, Count);

async fn run(
    input: Arc<dyn ExecutionPlan>,
    search: Arc<GroupedSearch>,
    context: Arc<TaskContext>,
    (schema, reservation, groups): Out,
) -> Result<Vec<Result<RecordBatch>>> {
    let comparer = Arc::new(Comparer::try_new(
        search.metric,
        &search.query.value()?,
        search.column.return_field(&input.schema())?.as_ref(),
    )?);
    let mut tasks = Vec::new();
    for partition in 0..input.output_partitioning().partition_count() {
        let rows = input.execute(partition, Arc::clone(&context))?;
        let kept = Kept::new(0, search.k, Order::Nearest, reservation.new_empty());
        let part = Part { groups: HashMap::new(), kept, _keys: reservation.new_empty() };
        tasks.push(SpawnedTask::spawn(scan(rows, Arc::clone(&search), Arc::clone(&comparer), part)));
    }
    let mut parts = Vec::with_capacity(tasks.len());
    for task in tasks {
        parts.push(task.join_unwind().await.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))??);
    }
    // The rows of a group are gathered from all partitions.
    let mut by_group: HashMap<OwnedRow, Vec<(usize, Entry)>> = HashMap::new();
    for (number, part) in parts.iter_mut().enumerate() {
        for (key, group) in part.groups.drain() {
            let entries = std::mem::take(&mut part.kept.heaps[group]).into_iter();
            by_group.entry(key).or_default().extend(entries.map(|e| (number, e)));
        }
    }
    groups.add(by_group.len());
    let order = |(p, a): &(usize, Entry), (q, b): &(usize, Entry)| {
        a.distance.total_cmp(&b.distance).then(p.cmp(q)).then(a.cmp(b))
    };
    let mut found = Vec::new();
    for mut entries in by_group.into_values() {
        entries.sort_unstable_by(order);
        entries.truncate(search.k);
        found.append(&mut entries);
    }
    found.sort_unstable_by(order);
    let offsets: Vec<usize> = parts
        .iter()
        .scan(0, |at, part| {
            let start = *at;
            *at += part.kept.store.len();
            Some(start)
        })
        .collect();
    let size = context.session_config().batch_size().max(1);
    Ok(found.chunks(size).map(|rows| batch(rows, &parts, &offsets, &schema)).collect())
}

fn batch(
    rows: &[(usize, Entry)],
    parts: &[Part],
    offsets: &[usize],
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let places: Vec<(usize, usize)> =
        rows.iter().map(|(part, e)| (offsets[*part] + e.batch as usize, e.row as usize)).collect();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for i in 0..schema.fields().len() - 1 {
        let arrays: Vec<&dyn Array> =
            parts.iter().flat_map(|p| &p.kept.store).map(|b| b.column(i).as_ref()).collect();
        columns.push(interleave(&arrays, &places)?);
    }
    columns.push(Arc::new(Float32Array::from_iter_values(rows.iter().map(|(_, e)| e.distance))));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

async fn scan(
    mut input: SendableRecordBatchStream,
    search: Arc<GroupedSearch>,
    comparer: Arc<Comparer>,
    mut part: Part,
) -> Result<Part> {
    let converter = RowConverter::new(sort_fields(&search, &input.schema())?)?;
    while let Some(batch) = input.next().await {
        let batch = batch?;
        let rows = batch.num_rows();
        if rows == 0 {
            continue;
        }
        let vectors = search.column.evaluate(&batch)?.into_array(rows)?;
        let distances = comparer.distances(&vectors)?;
        let keys = search.per.iter().map(|e| e.evaluate(&batch)?.into_array(rows));
        let keys = converter.convert_columns(&keys.collect::<Result<Vec<_>>>()?)?;
        part.kept.begin(rows);
        for row in 0..rows {
            if distances.is_null(row) || distances.value(row).is_nan() {
                continue;
            }
            let key = keys.row(row);
            let owned = key.owned();
            let group = match part.groups.get(&owned) {
                Some(group) => *group,
                None => {
                    part._keys.try_grow(key.data().len() + size_of::<OwnedRow>() + 48)?;
                    let group = part.kept.add_query();
                    part.groups.insert(owned, group);
                    group
                }
            };
            part.kept.push(group, row, Some(distances.value(row)));
        }
        part.kept.end(&batch.project(&search.output)?)?;
        give_way().await;
    }
    Ok(part)
}
