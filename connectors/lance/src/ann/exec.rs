//! [`LanceAnnExec`]: the plan node of a vector search.

use std::fmt;
use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DataFusionError, Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalSortExpr};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::{StreamExt, TryStreamExt};
use triune_common::Error;

use crate::ann::DISTANCE;
use crate::ann::search::{Access, AnnMetrics, AnnSpec, Run, search};

/// A search for the nearest rows of one version of a Lance dataset; see the module [`crate::ann`].
///
/// *Output*: one partition, at most `k` rows, `_distance` growing. *Memory*: the rows that match as a
/// bitmap, `k` rows, and what the reads of an exact search hold (`scan::reader`) in each of the
/// session's partitions.
#[derive(Debug, Clone)]
pub struct LanceAnnExec {
    spec: Arc<AnnSpec>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl LanceAnnExec {
    pub(crate) fn new(spec: AnnSpec) -> Self {
        let schema = Arc::clone(&spec.output);
        let distance = PhysicalSortExpr {
            expr: Arc::new(Column::new(DISTANCE, schema.fields().len() - 1)),
            options: SortOptions { descending: false, nulls_first: false },
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(schema, [vec![distance]]),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self {
            spec: Arc::new(spec),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// Whether the search goes through an index, as far as the plan knows: a condition that few rows
    /// meet makes it exact when it runs.
    pub fn uses_index(&self) -> bool {
        matches!(self.spec.access, Access::Index { .. })
    }

    pub fn k(&self) -> usize {
        self.spec.k
    }
}

impl DisplayAs for LanceAnnExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = &self.spec;
        let uri = spec.table.dataset.uri();
        let column = spec.table.schema.field(spec.column).name();
        let condition: Vec<String> = spec.predicate.fixed().iter().map(ToString::to_string).collect();
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                let version = spec.table.dataset.version_id();
                write!(
                    f,
                    "LanceAnnExec: uri={uri}, version={version}, column={column}, metric={}",
                    spec.metric
                )?;
                write!(f, ", k={}", spec.k)?;
                if let Some(mask) = &spec.table.mask {
                    write!(f, ", masked_rows={}", mask.masked)?;
                }
                let fields = &spec.output.fields()[..spec.projection.len()];
                let names: Vec<&str> = fields.iter().map(|f| f.name().as_str()).collect();
                write!(f, ", projection=[{}]", names.join(", "))?;
                match &spec.access {
                    Access::Index { index, nprobes, refine_factor } => {
                        write!(f, ", access=index {} ({})", index.name, index.index_type)?;
                        match nprobes {
                            Some(n) => write!(f, ", nprobes={n}")?,
                            None => write!(f, ", nprobes=auto")?,
                        }
                        write!(f, ", refine_factor={refine_factor}")?;
                        if index.unindexed_rows > 0 {
                            write!(f, ", unindexed_rows={}", index.unindexed_rows)?;
                        }
                        if !condition.is_empty() {
                            write!(f, ", exact_below={} matching rows", spec.exact_below)?;
                        }
                    }
                    Access::Exact { why } => write!(f, ", access=exact ({why})")?,
                }
                if !condition.is_empty() {
                    write!(f, ", prefilter=[{}]", condition.join(" AND "))?;
                }
                Ok(())
            }
            DisplayFormatType::TreeRender => {
                let name = uri.trim_end_matches('/').rsplit('/').next().unwrap_or(uri);
                writeln!(f, "dataset={name}")?;
                writeln!(f, "column={column}")?;
                writeln!(f, "metric={}", spec.metric)?;
                writeln!(f, "k={}", spec.k)?;
                match &spec.access {
                    Access::Index { index, .. } => writeln!(f, "index={}", index.name)?,
                    Access::Exact { .. } => writeln!(f, "access=exact")?,
                }
                if !condition.is_empty() {
                    writeln!(f, "prefilter={}", condition.join(" AND "))?;
                }
                Ok(())
            }
        }
    }
}

impl ExecutionPlan for LanceAnnExec {
    fn name(&self) -> &'static str {
        "LanceAnnExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() {
            return Ok(self);
        }
        Err(Error::internal("a vector search of a Lance dataset has no inputs").into())
    }

    // Conditions of parents are not taken (the default): after the k nearest rows were chosen they mean
    // something else than before.

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(Error::internal(format!("a vector search has no partition {partition}")).into());
        }
        let config = context.session_config();
        let batch_rows = config.batch_size().max(1);
        let run = Run {
            batch_rows,
            partitions: config.target_partitions(),
            metrics: AnnMetrics::new(&self.metrics),
        };
        let baseline = BaselineMetrics::new(&self.metrics, 0);
        let spec = Arc::clone(&self.spec);
        let found = async move {
            let batch = Box::pin(search(&spec, &run)).await?;
            baseline.record_output(batch.num_rows());
            baseline.done();
            let starts = (0..batch.num_rows()).step_by(batch_rows);
            let parts: Vec<_> =
                starts.map(|s| Ok(batch.slice(s, batch_rows.min(batch.num_rows() - s)))).collect();
            Ok::<_, DataFusionError>(futures::stream::iter(parts))
        };
        let stream = futures::stream::once(found).try_flatten().boxed();
        Ok(Box::pin(cooperative(RecordBatchStreamAdapter::new(self.schema(), stream))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn partition_statistics(&self, _partition: Option<usize>) -> Result<Arc<Statistics>> {
        let rows = self.spec.k.min(usize::try_from(self.spec.table.rows()).unwrap_or(usize::MAX));
        let width = self.spec.table.row_bytes(self.spec.projection.iter().copied()) + 4;
        Ok(Arc::new(Statistics {
            // Fewer where fewer match or have a vector.
            num_rows: Precision::Inexact(rows),
            total_byte_size: Precision::Inexact(rows.saturating_mul(width)),
            column_statistics: vec![ColumnStatistics::new_unknown(); self.spec.output.fields().len()],
        }))
    }

    fn fetch(&self) -> Option<usize> {
        Some(self.spec.k)
    }

    /// Sound: the first rows of a sorted top-k are the top of a smaller k.
    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let k = self.spec.k.min(limit?);
        Some(Arc::new(Self::new(AnnSpec { k, ..self.spec.as_ref().clone() })))
    }
}
