//! Rows that are near the query and differ from each other: maximal marginal relevance.
//!
//! ```sql
//! SELECT id, title FROM vector_search(docs, embedding, $1, k => 10, diversity => 0.3)
//! ```
//!
//! Among the candidates, the `max(100, 10 k)` nearest rows, the nearest is taken first. Then, until there are `k`, the
//! one with the least
//!
//! ```text
//! (1 - diversity) · distance(row, query)  -  diversity · the least distance(row, a row that was taken)
//! ```
//!
//! and among equals the nearest. All distances are of the metric of the search, in its units. With 0 these are the k
//! nearest, with 1 rows as far from each other as possible. The rows that were taken come nearest first. Candidates are
//! found like the rows of any search, through an index too; conditions apply before.

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::{SortOptions, concat_batches, take_record_batch};
use arrow::datatypes::{Float32Type, SchemaRef};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::StreamExt;
use triune_common::Error;
use triune_vector::kernels::{Metric, PreparedQuery, VectorRows};

use crate::MAX_K;
use crate::lateral::exec::give_way;
use crate::spec::Diversity;
use crate::vectors::vector_type;

/// How many candidates there are for `k` rows.
pub(crate) fn candidates(k: usize) -> usize {
    k.saturating_mul(10).clamp(100, MAX_K).max(k)
}

/// What is chosen.
#[derive(Debug, Clone)]
pub struct Choice {
    pub k: usize,
    pub diversity: Diversity,
    pub metric: Metric,
    /// The column of the vectors in the input.
    pub vectors: usize,
    /// The columns given out, the distance last.
    pub output: Vec<usize>,
}

/// Takes `k` of the candidates, see the module.
///
/// *Input*: one partition, nearest first, a column of vectors without NULLs, the distance (`Float32`, numbers). *Output*:
/// the chosen columns, nearest first, in one partition. *Memory*: the candidates twice, reserved. *Cost*: `k` distances
/// for each candidate. *Cancellation*: between two rows that are taken.
#[derive(Debug)]
pub struct DiverseExec {
    input: Arc<dyn ExecutionPlan>,
    choice: Choice,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

fn broken(what: &str) -> DataFusionError {
    DataFusionError::from(Error::internal(what))
}

impl DiverseExec {
    /// # Errors
    /// Internal, if a column is not in the input.
    pub fn try_new(input: Arc<dyn ExecutionPlan>, choice: Choice) -> Result<Self> {
        let schema: SchemaRef = Arc::new(input.schema().project(&choice.output)?);
        let Some(distance) = choice.output.len().checked_sub(1) else {
            return Err(broken("a search with diversity gives out no distance"));
        };
        let mut equivalence = EquivalenceProperties::new(Arc::clone(&schema));
        equivalence.add_ordering([PhysicalSortExpr::new(
            Arc::new(Column::new(schema.field(distance).name(), distance)),
            SortOptions { descending: false, nulls_first: false },
        )]);
        let properties = Arc::new(PlanProperties::new(
            equivalence,
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Ok(Self { input, choice, properties, metrics: ExecutionPlanMetricsSet::new() })
    }
}

impl DisplayAs for DiverseExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (k, diversity) = (self.choice.k, self.choice.diversity.share());
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "DiverseExec: k={k}, diversity={diversity}, candidates={}", candidates(k))
            }
            DisplayFormatType::TreeRender => write!(f, "k={k}\ndiversity={diversity}"),
        }
    }
}

impl ExecutionPlan for DiverseExec {
    fn name(&self) -> &'static str {
        "DiverseExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
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
            Ok([input]) => Ok(Arc::new(Self::try_new(input, self.choice.clone())?)),
            Err(_) => Err(broken("a search with diversity was rebuilt without its input")),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let reservation = MemoryConsumer::new("DiverseExec").register(context.memory_pool());
        let (choice, schema) = (self.choice.clone(), self.schema());
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let batches = futures::stream::once(async move {
            let found = chosen(input, &choice, &reservation).await?;
            baseline.record_output(found.num_rows());
            // The nullability of columns is that of the plan.
            Ok(RecordBatch::try_new(schema, found.project(&choice.output)?.columns().to_vec())?)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

async fn chosen(
    mut input: SendableRecordBatchStream,
    choice: &Choice,
    reservation: &MemoryReservation,
) -> Result<RecordBatch> {
    let schema = input.schema();
    let mut batches = Vec::new();
    while let Some(batch) = input.next().await {
        let batch = batch?;
        reservation.try_grow(2 * batch.get_array_memory_size())?;
        batches.push(batch);
    }
    let all = concat_batches(&schema, &batches)?;
    let place = choice.output.last().copied().unwrap_or_default();
    let distances = all.column(place).as_primitive_opt::<Float32Type>();
    let vectors = all.column(choice.vectors).as_fixed_size_list_opt();
    let (Some(distances), Some(vectors), Some(ty)) =
        (distances, vectors, vector_type(schema.field(choice.vectors)))
    else {
        return Err(broken("the candidates of a search have no vectors or distances"));
    };
    if all.num_rows() == 0 {
        return Ok(all);
    }
    let rows = VectorRows::try_new(vectors, ty)?;
    let share = choice.diversity.share();
    // The least distance to a row that was taken.
    let mut apart = vec![f64::INFINITY; all.num_rows()];
    let mut taken = vec![false; all.num_rows()];
    let mut between = vec![0_f32; all.num_rows()];
    let mut last = 0;
    taken[0] = true;
    for _ in 1..choice.k.min(all.num_rows()) {
        let from = PreparedQuery::from_row(choice.metric, vectors, last, ty)?;
        rows.distances(&from, 0..all.num_rows(), &mut between)?;
        let mut best: Option<(f64, usize)> = None;
        for row in (0..all.num_rows()).filter(|row| !taken[*row]) {
            apart[row] = apart[row].min(f64::from(between[row]));
            let score = (1.0 - share) * f64::from(distances.value(row)) - share * apart[row];
            if best.is_none_or(|(least, _)| score < least) {
                best = Some((score, row));
            }
        }
        let Some((_, row)) = best else { break };
        taken[row] = true;
        last = row;
        give_way().await;
    }
    let rows: Vec<u32> =
        (0..all.num_rows()).filter(|row| taken[*row]).filter_map(|row| u32::try_from(row).ok()).collect();
    Ok(take_record_batch(&all, &UInt32Array::from(rows))?)
}
