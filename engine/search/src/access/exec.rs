//! A search through an index, with the search without it at hand.

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::SortOptions;
use arrow::datatypes::{Float32Type, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::{StreamExt, TryStreamExt};
use triune_common::{Error, ErrorKind};

use super::UsedIndex;
use crate::settings::SEARCH_MODE;
use crate::spec::Missing;

/// The rows of the first input, which went through an index; those of the second, which compares every row, where
/// that is needed:
///
/// - the index cannot be read. Not where `strict` (`search.mode = index`): then this is an error.
/// - rows without a distance belong to the answer ([`Missing::Last`]), and the index gave fewer than k rows.
///
/// *Inputs*: two plans of one partition and the same columns, the distance last; the first gives only rows with a
/// distance. *Output*: the schema of the second, one partition, ordered by distance. *Memory*: with
/// [`Missing::Last`] the k rows are held, and reserved, until it is clear that they are enough; else nothing.
/// *Metrics*: `index_errors`, and `compared_every_row` for both reasons together.
#[derive(Debug)]
pub(crate) struct IndexSearchExec {
    through_index: Arc<dyn ExecutionPlan>,
    otherwise: Arc<dyn ExecutionPlan>,
    k: usize,
    missing: Missing,
    index: UsedIndex,
    strict: bool,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl IndexSearchExec {
    /// # Errors
    /// Internal, if the inputs differ in their columns.
    pub(crate) fn try_new(
        through_index: Arc<dyn ExecutionPlan>,
        otherwise: Arc<dyn ExecutionPlan>,
        (k, missing): (usize, Missing),
        index: UsedIndex,
        strict: bool,
    ) -> Result<Self> {
        let schema = otherwise.schema();
        let types = |s: &SchemaRef| {
            s.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect::<Vec<_>>()
        };
        if types(&schema) != types(&through_index.schema()) || schema.fields().is_empty() {
            return Err(DataFusionError::from(Error::internal(format!(
                "the two ways of a search have different columns: {:?} and {:?}",
                types(&through_index.schema()),
                types(&schema)
            ))));
        }
        let distance = schema.fields().len() - 1;
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
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self { through_index, otherwise, k, missing, index, strict, properties, metrics })
    }
}

impl DisplayAs for IndexSearchExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "IndexSearchExec: k={}, access={}", self.k, self.index)?;
                if self.missing == Missing::Last {
                    write!(f, ", rows without distance last")?;
                }
                Ok(())
            }
            DisplayFormatType::TreeRender => write!(f, "k={}\naccess={}", self.k, self.index),
        }
    }
}

impl ExecutionPlan for IndexSearchExec {
    fn name(&self) -> &'static str {
        "IndexSearchExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition, Distribution::SinglePartition]
    }

    // Filters and limits from above do not pass (the defaults): they would change which rows are the nearest.

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.through_index, &self.otherwise]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([through_index, otherwise]) = <[_; 2]>::try_from(children) else {
            return Err(DataFusionError::from(Error::internal("a search was rebuilt without its inputs")));
        };
        let rows = (self.k, self.missing);
        Ok(Arc::new(Self::try_new(through_index, otherwise, rows, self.index.clone(), self.strict)?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(DataFusionError::from(Error::internal(format!(
                "a search has no partition {partition}"
            ))));
        }
        let schema = self.schema();
        let counter = |name| MetricBuilder::new(&self.metrics).counter(name, partition);
        let run = Run {
            through_index: Arc::clone(&self.through_index),
            otherwise: Arc::clone(&self.otherwise),
            k: self.k,
            missing: self.missing,
            index: self.index.clone(),
            strict: self.strict,
            schema: Arc::clone(&schema),
            reservation: MemoryConsumer::new("IndexSearchExec").register(context.memory_pool()),
            context,
            index_errors: counter("index_errors"),
            compared_every_row: counter("compared_every_row"),
        };
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let stream = futures::stream::once(run.start())
            .try_flatten()
            .inspect_ok(move |batch| baseline.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn partition_statistics(&self, _partition: Option<usize>) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        statistics.num_rows = Precision::Inexact(self.k);
        Ok(Arc::new(statistics))
    }
}

/// One execution.
struct Run {
    through_index: Arc<dyn ExecutionPlan>,
    otherwise: Arc<dyn ExecutionPlan>,
    k: usize,
    missing: Missing,
    index: UsedIndex,
    strict: bool,
    schema: SchemaRef,
    reservation: MemoryReservation,
    context: Arc<TaskContext>,
    index_errors: Count,
    compared_every_row: Count,
}

impl Run {
    async fn start(self) -> Result<SendableRecordBatchStream> {
        let found = match self.missing {
            Missing::LeftOut => self.first().await,
            Missing::Last => self.all().await,
        };
        match found {
            Ok(Some(rows)) => Ok(rows),
            Ok(None) => self.every_row(),
            Err(e) => {
                let e = Error::from(e);
                // Neither is the index's fault, and comparing every row would not be what is wanted.
                if matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Resources) {
                    return Err(e.into());
                }
                if self.strict && !UsedIndex::may_cause(&e) {
                    return Err(e.into());
                }
                if self.strict {
                    let hint = format!(
                        "REINDEX builds an index again; SET {SEARCH_MODE} = auto compares every row meanwhile"
                    );
                    let what = format!("the search through {} failed: {}", self.index, e.message());
                    return Err(Error::new(e.kind(), what).with_hint(hint).with_source(e).into());
                }
                self.instead(e).await
            }
        }
    }

    /// Every row, after the index failed. It is the index's fault only if this way does not fail as well: a condition
    /// that cannot be computed (`CAST(title AS DATE)`) or a query that does not fit must not cost an index.
    async fn instead(self, error: Error) -> Result<SendableRecordBatchStream> {
        let mut rows = self.every_row()?;
        // All rows were compared when the first comes out.
        let first = rows.next().await.transpose()?;
        self.index_errors.add(1);
        self.index.report(&error);
        let rows = futures::stream::iter(first.map(Ok)).chain(rows);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema, rows)))
    }

    /// The rows as they come. The search below reads everything before it gives out a row, so that an error comes
    /// first if it comes.
    async fn first(&self) -> Result<Option<SendableRecordBatchStream>> {
        let mut rows = self.through_index.execute(0, Arc::clone(&self.context))?;
        let Some(first) = rows.next().await.transpose()? else { return Ok(Some(self.stream(Vec::new()))) };
        let schema = Arc::clone(&self.schema);
        let rows =
            futures::stream::iter([Ok(first)]).chain(rows).map(move |batch| with_schema(&batch?, &schema));
        Ok(Some(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))))
    }

    /// The rows if they are k.
    async fn all(&self) -> Result<Option<SendableRecordBatchStream>> {
        let mut rows = self.through_index.execute(0, Arc::clone(&self.context))?;
        let (mut held, mut count) = (Vec::new(), 0);
        while let Some(batch) = rows.next().await.transpose()? {
            count += distances(&batch)?;
            self.reservation.try_grow(batch.get_array_memory_size())?;
            held.push(batch);
        }
        Ok((count >= self.k).then(|| self.stream(held)))
    }

    fn stream(&self, batches: Vec<RecordBatch>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        // Held as long as the batches are.
        let held = self.reservation.split(self.reservation.size());
        let rows = batches.into_iter().map(move |batch| {
            let _held = &held;
            with_schema(&batch, &schema)
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::iter(rows)))
    }

    fn every_row(&self) -> Result<SendableRecordBatchStream> {
        self.compared_every_row.add(1);
        self.reservation.free();
        self.otherwise.execute(0, Arc::clone(&self.context))
    }
}

/// The same rows under the search's schema: names are equal, metadata and what may be NULL can differ.
pub(super) fn with_schema(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)?)
}

/// How many rows have a distance.
fn distances(batch: &RecordBatch) -> Result<usize> {
    let column = batch.columns().last().and_then(|c| c.as_primitive_opt::<Float32Type>());
    let Some(column) = column else {
        return Err(DataFusionError::from(Error::internal("a distance is not Float32")));
    };
    Ok(column.iter().flatten().filter(|d| !d.is_nan()).count())
}
