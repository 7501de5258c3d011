//! A search through an index, of which something is known only when the statement runs.
//!
//! ```sql
//! SELECT id FROM vector_search(docs, e, (SELECT e FROM docs WHERE id = 42));                -- the query
//! SELECT id FROM docs WHERE id IN (SELECT doc_id FROM meta WHERE tag = 'x') ORDER BY …      -- the rows
//! ```
//!
//! The plan of an index search holds its query and its conditions. So the request waits here and becomes a plan when
//! the stream is read, after the sub-query of the query has run and the keys were collected ([`super::keys`]). Rows in
//! memory, which no index knows, are compared here too where keys decide which of them there are.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Distribution, EquivalenceProperties};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, execute_stream,
};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use triune_common::Error;

use super::exec::with_schema;
use super::hot::HotPart;
use super::keys::{KeyMask, all_of};
use super::way::Template;
use crate::DISTANCE_COLUMN;
use crate::topk::QuerySource;

/// *Inputs*: the plans of the keys, of one column each; then the rows in memory, if keys decide about them. *Output*:
/// one partition, at most k rows of the chosen columns and `_distance` from the index, then at most k from memory.
/// *Errors*: those of the query, of the keys, and of planning and running the search, when it is read.
#[derive(Debug)]
pub(super) struct DeferredAnnExec {
    template: Template,
    query: QuerySource,
    access: String,
    masks: Vec<KeyMask>,
    hot: Option<HotPart>,
    /// The plan that the last execution made, for its metrics.
    made: Arc<Mutex<Option<Arc<dyn ExecutionPlan>>>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl DeferredAnnExec {
    pub(super) fn try_new(
        template: Template,
        query: QuerySource,
        access: String,
        masks: Vec<KeyMask>,
        hot: Option<HotPart>,
    ) -> Result<Self> {
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
            masks,
            hot,
            made: Arc::default(),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

fn schema_of(template: &Template) -> Result<SchemaRef> {
    let table = template.provider.schema();
    let mut fields: Vec<Arc<Field>> = table.project(&template.output)?.fields().to_vec();
    fields.push(Arc::new(Field::new(DISTANCE_COLUMN, DataType::Float32, true)));
    Ok(Arc::new(Schema::new_with_metadata(fields, table.metadata().clone())))
}

impl DisplayAs for DeferredAnnExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Template { column, metric, spec, filter, .. } = &self.template;
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                let (column, k, access) = (column.name(), spec.k, &self.access);
                write!(f, "DeferredAnnExec: column={column}, metric={metric}, k={k}")?;
                if self.query.literal().is_none() {
                    write!(f, ", query=computed first")?;
                }
                write!(f, ", access={access}")?;
                if let Some(nprobes) = spec.nprobes {
                    write!(f, ", nprobes={nprobes}")?;
                }
                if let Some(refine_factor) = spec.refine_factor {
                    write!(f, ", refine_factor={refine_factor}")?;
                }
                if let Some(filter) = filter {
                    write!(f, ", prefilter=[{filter}]")?;
                }
                if !self.masks.is_empty() {
                    let masks: Vec<String> =
                        self.masks.iter().map(|m| format!("{} among keys", m.column)).collect();
                    write!(f, ", mask=[{}]", masks.join(", "))?;
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

    fn required_input_distribution(&self) -> Vec<Distribution> {
        self.children().iter().map(|_| Distribution::UnspecifiedDistribution).collect()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        self.children().iter().map(|_| false).collect()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        let hot = self.hot.iter().map(|h| &h.rows);
        self.masks.iter().map(|m| &m.keys).chain(hot).collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.len() != self.children().len() {
            return Err(DataFusionError::from(Error::internal("a search was rebuilt without its inputs")));
        }
        let mut children = children.into_iter();
        let masks = self.masks.iter().zip(children.by_ref());
        let masks = masks.map(|(m, keys)| KeyMask { column: m.column.clone(), keys }).collect();
        let hot = self.hot.clone().zip(children.next()).map(|(hot, rows)| HotPart { rows, ..hot });
        let (template, query, access) = (self.template.clone(), self.query.clone(), self.access.clone());
        Ok(Arc::new(Self::try_new(template, query, access, masks, hot)?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(DataFusionError::from(Error::internal(format!(
                "a search through an index has no partition {partition}"
            ))));
        }
        let (template, query) = (self.template.clone(), self.query.clone());
        let (masks, hot, made) = (self.masks.clone(), self.hot.clone(), Arc::clone(&self.made));
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let schema = self.schema();
        let run = async move {
            let table = template.provider.schema();
            let mut conditions = Vec::with_capacity(masks.len());
            for mask in &masks {
                conditions.push(mask.collect(&table, &context).await?);
            }
            let plan = Box::pin(template.plan(&query.value()?, conditions.clone())).await?;
            *made.lock() = Some(Arc::clone(&plan));
            let found = plan.execute(0, Arc::clone(&context))?;
            let hot = match hot {
                Some(hot) => {
                    let filter = all_of(&conditions, &hot.rows.schema())?;
                    Some(execute_stream(hot.plan(filter)?, context)?)
                }
                None => None,
            };
            Ok::<_, DataFusionError>(found.chain(futures::stream::iter(hot).flatten()))
        };
        let stream = futures::stream::once(run).try_flatten().map({
            let schema = Arc::clone(&schema);
            move |batch| with_schema(&batch?, &schema)
        });
        let stream = stream.inspect_ok(move |batch| baseline.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    /// Its own and those of the search that it became.
    fn metrics(&self) -> Option<MetricsSet> {
        let mut all = self.metrics.clone_inner();
        if let Some(inner) = self.made.lock().as_ref().and_then(|plan| plan.metrics()) {
            let own = |name: &str| {
                matches!(name, "output_rows" | "elapsed_compute" | "output_bytes" | "output_batches")
            };
            inner.iter().filter(|m| !own(m.value().name())).for_each(|m| all.push(Arc::clone(m)));
        }
        Some(all)
    }

    fn partition_statistics(&self, _partition: Option<usize>) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        statistics.num_rows = Precision::Inexact(self.template.spec.k);
        Ok(Arc::new(statistics))
    }
}
