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
//! Where the table has an index and the queries are so few, or the rows so many, that it pays, the rows on disk are
//! found through it, query by query, and only those in memory are passed over. An index that cannot be read costs a
//! pass over every row.
//!
//! Conditions on both sides are evaluated once for each batch and each combination of values that the left
//! columns in them have: with `d.tenant = q.tenant` only the rows of a tenant are compared with its queries.

mod found;
mod pass;

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Distribution, EquivalenceProperties};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};
use futures::{StreamExt, TryStreamExt};
use triune_common::Error;
use triune_vector::types::VectorType;

use super::node::LateralSpec;
use crate::access::{IndexedRows, RowsWay};
use crate::vectors::vector_type;
use found::Found;
use pass::Task;
pub(crate) use pass::give_way;

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
    /// The way through an index, with the rows that it does not speak of.
    index: Option<(IndexedRows, Arc<dyn ExecutionPlan>)>,
    /// Why there is none.
    why: Option<String>,
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
        let (index, why) = (None, None);
        Ok(Self { left, right, index, why, search, ty, properties: Arc::new(properties), metrics })
    }

    /// The same through an index, or with the reason why not.
    pub(crate) fn with_way(self, way: std::result::Result<RowsWay, Option<String>>) -> Self {
        match way {
            Ok(RowsWay { indexed, beside }) => Self { index: Some((indexed, beside)), ..self },
            Err(why) => Self { why, ..self },
        }
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
                    "LateralTopKExec: join={join}, k={k}, metric={metric}, column={column}, query={query}, access="
                )?;
                match (&self.index, &self.why) {
                    (Some((indexed, _)), _) if indexed.strict => write!(f, "{}", indexed.index())?,
                    (Some((indexed, _)), _) => write!(f, "{} where it costs less", indexed.index())?,
                    (None, Some(why)) => write!(f, "exact ({why})")?,
                    (None, None) => write!(f, "exact")?,
                }
                write!(f, ", queries_per_pass={}", self.group())?;
                if spec.skip > 0 {
                    write!(f, ", skip={}", spec.skip)?;
                }
                match filter {
                    Some(filter) => write!(f, ", filter={filter}"),
                    None => Ok(()),
                }
            }
            DisplayFormatType::TreeRender => write!(f, "join={join}\nk={k}\nmetric={metric}"),
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
        let rest = self.children().len() - 1;
        let rest = std::iter::repeat_n(Distribution::UnspecifiedDistribution, rest);
        std::iter::once(Distribution::SinglePartition).chain(rest).collect()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        (0..self.children().len()).map(|i| i > 0).collect()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        [&self.left, &self.right].into_iter().chain(self.index.iter().map(|(_, beside)| beside)).collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.len() != self.children().len() {
            return Err(broken("searches per row were rebuilt without their inputs"));
        }
        let mut children = children.into_iter();
        let (Some(left), Some(right)) = (children.next(), children.next()) else {
            return Err(broken("searches per row were rebuilt without their inputs"));
        };
        let index = self.index.as_ref().map(|(indexed, _)| indexed.clone()).zip(children.next());
        let new = Self::try_new(left, right, self.search.clone())?;
        Ok(Arc::new(Self { index, why: self.why.clone(), ..new }))
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
            index: self.index.clone(),
            search: Arc::new(self.search.clone()),
            ty: self.ty,
            group: self.group(),
            schema: Arc::clone(&schema),
            reservation: consumer("queries"),
            rows: consumer("rows"),
            context,
            passes: MetricBuilder::new(&self.metrics).counter("passes", 0),
            runs: 0,
            index_searches: MetricBuilder::new(&self.metrics).counter("index_searches", 0),
            index_errors: MetricBuilder::new(&self.metrics).counter("index_errors", 0),
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
