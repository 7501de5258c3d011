//! Fetches the columns that a search left out, for the rows that it found.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, CardinalityEffect, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::{StreamExt, TryStreamExt};
use triune_common::Error;
use triune_files::RestOfRows;

/// Where a column of the output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// A column of the input.
    Search(usize),
    /// A column that is fetched.
    Fetch(usize),
}

/// *Input*: one partition of few rows, with a column of row addresses (`Int64`). *Output*: the same rows in the
/// same order and batches, with fetched columns beside those of the input and without the addresses. *Errors*:
/// those of reading the files. *Memory*: the fetched columns of one batch of the input, twice.
#[derive(Debug)]
pub(super) struct LateColumnsExec {
    input: Arc<dyn ExecutionPlan>,
    /// Where the addresses are in the input.
    address: usize,
    rest: RestOfRows,
    columns: Vec<From>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl LateColumnsExec {
    pub(super) fn try_new(
        input: Arc<dyn ExecutionPlan>,
        address: usize,
        rest: RestOfRows,
        columns: Vec<From>,
        schema: SchemaRef,
    ) -> Result<Self> {
        let mut equivalence = EquivalenceProperties::new(Arc::clone(&schema));
        // The order by distance is that of the input; it is told by the distance's new place.
        if let Some(order) = input.properties().equivalence_properties().output_ordering() {
            let moved: Vec<PhysicalSortExpr> = order
                .iter()
                .map_while(|sort| {
                    let column = sort.expr.downcast_ref::<Column>()?;
                    let place = columns.iter().position(|c| *c == From::Search(column.index()))?;
                    Some(PhysicalSortExpr::new(
                        Arc::new(Column::new(schema.field(place).name(), place)),
                        sort.options,
                    ))
                })
                .collect();
            equivalence.add_ordering(moved);
        }
        let properties = Arc::new(PlanProperties::new(
            equivalence,
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Ok(Self {
            input,
            address,
            rest,
            columns,
            schema,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl DisplayAs for LateColumnsExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fetched = self.columns.iter().zip(self.schema.fields());
        let names: Vec<&str> = fetched
            .filter(|(from, _)| matches!(from, From::Fetch(_)))
            .map(|(_, field)| field.name().as_str())
            .collect();
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "LateColumnsExec: columns=[{}]", names.join(", "))
            }
            DisplayFormatType::TreeRender => write!(f, "columns={}", names.join(", ")),
        }
    }
}

impl ExecutionPlan for LateColumnsExec {
    fn name(&self) -> &'static str {
        "LateColumnsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next();
        let input = input.ok_or_else(|| Error::internal("late columns were rebuilt without their input"))?;
        let (rest, columns) = (self.rest.clone(), self.columns.clone());
        Ok(Arc::new(Self::try_new(input, self.address, rest, columns, Arc::clone(&self.schema))?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let reservation = MemoryConsumer::new("LateColumnsExec").register(context.memory_pool());
        let task = Arc::new(Task {
            address: self.address,
            rest: self.rest.clone(),
            columns: self.columns.clone(),
            schema: Arc::clone(&self.schema),
            context: Arc::clone(&context),
            reservation,
            baseline: BaselineMetrics::new(&self.metrics, partition),
            fetched: MetricBuilder::new(&self.metrics).counter("rows_fetched", partition),
        });
        let input = self.input.execute(partition, context)?;
        let batches = input.and_then(move |batch| {
            let task = Arc::clone(&task);
            async move { task.complete(batch).await }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = self.input.partition_statistics(partition)?.num_rows;
        Ok(Arc::new(statistics))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    fn fetch(&self) -> Option<usize> {
        self.input.fetch()
    }
}

struct Task {
    address: usize,
    rest: RestOfRows,
    columns: Vec<From>,
    schema: SchemaRef,
    context: Arc<TaskContext>,
    reservation: MemoryReservation,
    baseline: BaselineMetrics,
    fetched: Count,
}

impl Task {
    async fn complete(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let addresses = addresses(batch.column(self.address))?;
        let fetched = match addresses.is_empty() {
            true => RecordBatch::new_empty(self.rest.schema()?),
            false => self.fetch(&addresses).await?,
        };
        let _timer = self.baseline.elapsed_compute().timer();
        let order = places(&addresses, &fetched)?;
        let columns = self.columns.iter().zip(self.schema.fields()).map(|(from, field)| {
            let column: ArrayRef = match from {
                From::Search(i) => Arc::clone(batch.column(*i)),
                From::Fetch(i) => take(fetched.column(*i), &order, None)?,
            };
            debug_assert_eq!(column.data_type(), field.data_type());
            Ok(column)
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let whole = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        self.reservation.free();
        self.baseline.record_output(whole.num_rows());
        Ok(whole)
    }

    async fn fetch(&self, addresses: &Int64Array) -> Result<RecordBatch> {
        let plan = self.rest.plan(addresses.values().to_vec())?;
        let mut stream = plan.execute(0, Arc::clone(&self.context))?;
        let mut parts = Vec::new();
        while let Some(part) = stream.next().await {
            let part = part?;
            self.reservation.try_grow(2 * part.get_array_memory_size())?;
            parts.push(part);
        }
        let all = concat_batches(&plan.schema(), &parts)?;
        self.fetched.add(all.num_rows());
        Ok(all)
    }
}

fn addresses(column: &ArrayRef) -> Result<Int64Array> {
    column
        .as_primitive_opt::<Int64Type>()
        .filter(|a| a.null_count() == 0)
        .cloned()
        .ok_or_else(|| DataFusionError::from(Error::internal("a search gave no row addresses")))
}

/// For each address its place among the fetched rows, whose last column says theirs.
fn places(wanted: &Int64Array, fetched: &RecordBatch) -> Result<UInt32Array> {
    let missing = || Error::data("a row that a search found is not in its file any more");
    let last = fetched.columns().last().ok_or_else(missing)?;
    let found = addresses(last)?;
    let at: HashMap<i64, u32> = found.values().iter().copied().zip(0..).collect();
    let order = wanted.values().iter().map(|address| at.get(address).copied().ok_or_else(missing));
    Ok(UInt32Array::from(order.collect::<std::result::Result<Vec<_>, _>>()?))
}
