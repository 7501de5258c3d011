//! A search through an index whose query comes from a sub-query:
//! `vector_search(docs, e, (SELECT e FROM docs WHERE id = 42))`.
//!
//! The plan of an index search holds its query, and this one is not known when plans are made. So the
//! request waits here and becomes a plan when the stream is read, after the sub-query has run.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::TryStreamExt;
use triune_common::Error;

use super::Template;
use crate::DISTANCE_COLUMN;
use crate::topk::QuerySource;

/// *Output*: one partition, at most k rows of the chosen columns and `_distance`, as the index search
/// gives them. *Errors*: those of the query, and of planning and running the search, when it is read.
#[derive(Debug)]
pub(super) struct DeferredAnnExec {
    template: Template,
    query: QuerySource,
    access: String,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl DeferredAnnExec {
    pub(super) fn try_new(template: Template, query: QuerySource, access: String) -> Result<Self> {
        let properties = PlanProperties::new(
            // The rows come in order, but the step above orders them anyway.
            EquivalenceProperties::new(schema_of(&template)?),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Ok(Self {
            template,
            query,
            access,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

fn schema_of(template: &Template) -> Result<SchemaRef> {
    let table = template.provider.schema();
    let mut fields: Vec<Arc<Field>> = table.project(&template.output)?.fields().to_vec();
    fields.push(Arc::new(Field::new(DISTANCE_COLUMN, arrow::datatypes::DataType::Float32, true)));
    Ok(Arc::new(Schema::new_with_metadata(fields, table.metadata().clone())))
}

impl DisplayAs for DeferredAnnExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Template { column, metric, spec, filter, .. } = &self.template;
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                let (column, k, access) = (column.name(), spec.k, &self.access);
                write!(
                    f,
                    "DeferredAnnExec: column={column}, metric={metric}, k={k}, query=computed first, access={access}"
                )?;
                if let Some(nprobes) = spec.nprobes {
                    write!(f, ", nprobes={nprobes}")?;
                }
                if let Some(refine_factor) = spec.refine_factor {
                    write!(f, ", refine_factor={refine_factor}")?;
                }
                if let Some(filter) = filter {
                    write!(f, ", prefilter=[{filter}]")?;
                }
                Ok(())
            }
            DisplayFormatType::TreeRender => write!(f, "k={}\naccess={}", spec.k, self.access),
        }
    }
}

impl ExecutionPlan for DeferredAnnExec {
    fn name(&self) -> &'static str {
        "DeferredAnnExec"
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
        Err(DataFusionError::from(Error::internal("a search through an index has no input operators")))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(DataFusionError::from(Error::internal(format!(
                "a search through an index has no partition {partition}"
            ))));
        }
        let (template, query) = (self.template.clone(), self.query.clone());
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let stream = futures::stream::once(async move {
            let plan = Box::pin(template.plan(&query.value()?)).await?;
            plan.execute(0, context)
        })
        .try_flatten()
        .inspect_ok(move |batch| baseline.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn partition_statistics(&self, _partition: Option<usize>) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        statistics.num_rows = Precision::Inexact(self.template.spec.k);
        Ok(Arc::new(statistics))
    }
}
