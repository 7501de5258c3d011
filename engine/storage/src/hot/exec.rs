//! [`HotScanExec`]: the plan node that scans hot rows.
//!
//! ```text
//! EXPLAIN SELECT title FROM docs WHERE stars > 3
//!   HotScanExec: table=docs, rows=1200, partitions=2, projection=[title], filter=[stars@1 > 3]
//! ```
//!
//! The rows are those that one snapshot sees, of one or several memtables: batches as they lie there, with a mask
//! where not all rows of a batch are seen. Masks are applied after the projection and before the conditions, so that
//! a condition never meets a row that the snapshot does not see.

mod stream;

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr_common::physical_expr::{is_dynamic_physical_expr, is_volatile};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};
use triune_common::Error;
use triune_lance::predicate::Predicate;

use crate::hot::VisibleBatch;
use crate::hot::exec::stream::{HotStream, Layout};
use crate::hot::size::bytes_of;

/// The share of rows that one condition is taken to leave, as DataFusion does where nothing is known.
const SELECTIVITY: f64 = 0.2;

/// Fewer rows are not worth a partition of their own.
const PARTITION_ROWS: usize = 8192;

/// A scan of the hot rows of one table that a snapshot sees.
///
/// *Output*: the rows for which all conditions are true, in no stated order. *Limit*: `fetch` ends each partition by
/// itself. *Memory*: the batches are shared with the memtable; a copy of one output batch at a time where rows are
/// left out. *Errors*: those of conditions (division by zero).
#[derive(Debug, Clone)]
pub struct HotScanExec {
    table: Arc<str>,
    /// The schema of the batches.
    stored: SchemaRef,
    partitions: Arc<Vec<Vec<VisibleBatch>>>,
    /// Columns of `stored`, in output order.
    projection: Vec<usize>,
    /// Counts columns by `stored`.
    predicate: Predicate,
    fetch: Option<usize>,
    layout: Arc<Layout>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl HotScanExec {
    /// A scan of `batches`, which have the schema `stored`, in at most `partitions` partitions. `projection` and the
    /// columns of `filters` are counted by `stored`; the filters are applied exactly.
    ///
    /// Errors: internal when a column of the projection does not exist.
    pub fn try_new(
        table: impl Into<Arc<str>>,
        stored: SchemaRef,
        batches: Vec<VisibleBatch>,
        projection: Vec<usize>,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        fetch: Option<usize>,
        partitions: usize,
    ) -> triune_common::Result<Self> {
        let partitions = Arc::new(deal(batches, partitions));
        Self::build(table.into(), stored, partitions, projection, Predicate::new(filters), fetch)
    }

    fn build(
        table: Arc<str>,
        stored: SchemaRef,
        partitions: Arc<Vec<Vec<VisibleBatch>>>,
        projection: Vec<usize>,
        predicate: Predicate,
        fetch: Option<usize>,
    ) -> triune_common::Result<Self> {
        let schema = Arc::new(stored.project(&projection)?);
        let layout = Arc::new(Layout::try_new(&stored, &schema, &projection, &predicate)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        // `execute` wraps its stream, which is always ready, so that others run in between.
        .with_scheduling_type(SchedulingType::Cooperative);
        Ok(Self {
            table,
            stored,
            partitions,
            projection,
            predicate,
            fetch,
            layout,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// Whether a dynamic condition of a join or a top-k above has reached the scan.
    pub fn has_dynamic_filter(&self) -> bool {
        !self.predicate.dynamic().is_empty()
    }

    /// Rows that the snapshot sees, before conditions and limit.
    pub fn rows(&self) -> usize {
        self.partitions.iter().flatten().map(VisibleBatch::rows).sum()
    }

    fn rebuild(&self, projection: Vec<usize>, predicate: Predicate) -> Result<Arc<Self>> {
        let (table, stored) = (Arc::clone(&self.table), Arc::clone(&self.stored));
        let partitions = Arc::clone(&self.partitions);
        Ok(Arc::new(Self::build(table, stored, partitions, projection, predicate, self.fetch)?))
    }

    fn statistics_of(&self, partition: Option<usize>) -> Result<Statistics> {
        let batches = || match partition {
            None => self.partitions.iter().flatten(),
            Some(p) => self.partitions[p..=p].iter().flatten(),
        };
        let mut rows: usize = batches().map(VisibleBatch::rows).sum();
        let stored: usize = batches().map(|b| b.stored().num_rows()).sum();
        let bytes: usize = batches()
            .flat_map(|b| self.projection.iter().map(|c| bytes_of(b.stored().column(*c).as_ref())))
            .sum();
        for _ in self.predicate.fixed() {
            rows = (rows as f64 * SELECTIVITY).ceil() as usize;
        }
        let width = bytes as f64 / stored.max(1) as f64;
        let statistics = Statistics {
            num_rows: if self.predicate.is_empty() {
                Precision::Exact(rows)
            } else {
                Precision::Inexact(rows)
            },
            total_byte_size: Precision::Inexact((rows as f64 * width) as usize),
            column_statistics: vec![ColumnStatistics::new_unknown(); self.projection.len()],
        };
        let Some(fetch) = self.fetch else { return Ok(statistics) };
        // Each partition stops by itself, so that the whole may yield `fetch` rows for each.
        let most = match partition {
            Some(_) => fetch,
            None => fetch.saturating_mul(self.partitions.len()),
        };
        let mut limited = statistics.with_fetch(Some(most), 0, 1)?;
        if partition.is_none() && self.partitions.len() > 1 {
            limited.num_rows = limited.num_rows.to_inexact();
        }
        Ok(limited)
    }

    fn columns(&self) -> String {
        let schema = self.schema();
        schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Gives every partition about as many visible rows as every other, in runs of neighbouring batches; a batch may be
/// cut. There is always at least one partition.
fn deal(batches: Vec<VisibleBatch>, most: usize) -> Vec<Vec<VisibleBatch>> {
    let rows: usize = batches.iter().map(VisibleBatch::rows).sum();
    let count = (rows / PARTITION_ROWS).clamp(1, most.max(1));
    if count == 1 {
        return vec![batches];
    }
    let share = rows.div_ceil(count);
    let mut partitions = vec![Vec::new()];
    let mut room = share;
    for batch in batches {
        let (mut from, stored) = (0, batch.stored().num_rows());
        while from < stored {
            // Stored rows for the room left, if visible ones lie evenly.
            let rest = batch.slice(from, stored - from);
            let fitting = match room {
                room if rest.rows() <= room => stored - from,
                room => (room * (stored - from)).div_ceil(rest.rows().max(1)).max(1),
            };
            let part = batch.slice(from, fitting);
            from += fitting;
            room = room.saturating_sub(part.rows());
            if part.rows() > 0
                && let Some(last) = partitions.last_mut()
            {
                last.push(part);
            }
            if room == 0 && partitions.len() < count {
                partitions.push(Vec::new());
                room = share;
            } else if room == 0 {
                room = usize::MAX >> 32;
            }
        }
    }
    partitions
}

impl DisplayAs for HotScanExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |exprs: &[Arc<dyn PhysicalExpr>]| {
            exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" AND ")
        };
        let (table, rows) = (&self.table, self.rows());
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(
                    f,
                    "HotScanExec: table={table}, rows={rows}, partitions={}, projection=[{}]",
                    self.partitions.len(),
                    self.columns(),
                )?;
                if !self.predicate.fixed().is_empty() {
                    write!(f, ", filter=[{}]", list(self.predicate.fixed()))?;
                }
                if let Some(fetch) = self.fetch {
                    write!(f, ", fetch={fetch}")?;
                }
                if !self.predicate.dynamic().is_empty() {
                    write!(f, ", dynamic_filter=[{}]", list(self.predicate.dynamic()))?;
                }
                Ok(())
            }
            DisplayFormatType::TreeRender => {
                writeln!(f, "table={table}")?;
                writeln!(f, "rows={rows}")?;
                if !self.predicate.fixed().is_empty() {
                    writeln!(f, "filter={}", list(self.predicate.fixed()))?;
                }
                if let Some(fetch) = self.fetch {
                    writeln!(f, "limit={fetch}")?;
                }
                if !self.predicate.dynamic().is_empty() {
                    writeln!(f, "dynamic_filter=true")?;
                }
                Ok(())
            }
        }
    }
}

impl ExecutionPlan for HotScanExec {
    fn name(&self) -> &'static str {
        "HotScanExec"
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(self.properties.eq_properties.schema())
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
        Err(Error::internal("a hot scan has no inputs").into())
    }

    /// Dynamic conditions belong to one execution; see `LanceScanExec::reset_state`.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.rebuild(self.projection.clone(), self.predicate.without_dynamic())?)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(batches) = self.partitions.get(partition) else {
            return Err(Error::internal(format!(
                "partition {partition} of a hot scan with {} was asked for",
                self.partitions.len()
            ))
            .into());
        };
        let stream = HotStream::new(
            Arc::clone(&self.layout),
            batches.clone(),
            context.session_config().batch_size(),
            self.fetch,
            &self.metrics,
            partition,
        );
        Ok(Box::pin(cooperative(stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        if let Some(p) = partition
            && p >= self.partitions.len()
        {
            return Err(Error::internal(format!("a hot scan has no partition {p}")).into());
        }
        Ok(Arc::new(self.statistics_of(partition)?))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    /// Sound: any rows of the scan are as good as any others, and conditions are applied before.
    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(Self { fetch: limit, metrics: ExecutionPlanMetricsSet::new(), ..self.clone() }))
    }

    /// Takes over a projection that only picks, repeats or reorders columns under their own names.
    fn try_swapping_with_projection(
        &self,
        projection: &ProjectionExec,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let mut columns = Vec::with_capacity(projection.expr().len());
        for e in projection.expr() {
            match e.expr.downcast_ref::<Column>() {
                Some(c) if c.name() == e.alias => columns.push(self.projection[c.index()]),
                _ => return Ok(None),
            }
        }
        Ok(Some(self.rebuild(columns, self.predicate.clone())?))
    }

    /// Takes every condition that a parent offers, those of filters and the dynamic ones of joins, top-k and
    /// aggregates; each is applied to every row exactly. Not with a limit, whose rows may not be chosen anew, and not
    /// a dynamic condition over vectors, which would compute every distance twice.
    fn handle_child_pushdown_result(
        &self,
        _phase: FilterPushdownPhase,
        result: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        if self.fetch.is_some() || result.parent_filters.is_empty() {
            return Ok(FilterPushdownPropagation::all_unsupported(result));
        }
        let mut predicate = self.predicate.clone();
        let mut taken = false;
        let mut answers = Vec::with_capacity(result.parent_filters.len());
        for offered in result.parent_filters {
            if is_volatile(&offered.filter) {
                answers.push(PushedDown::No);
                continue;
            }
            let expr = reassign_expr_columns(offered.filter, &self.stored)?;
            if !is_dynamic_physical_expr(&expr) {
                predicate.push_fixed(expr);
            } else if collect_columns(&expr).iter().any(|c| is_vector(self.stored.field(c.index()))) {
                answers.push(PushedDown::No);
                continue;
            } else {
                predicate.push_dynamic(expr);
            }
            taken = true;
            answers.push(PushedDown::Yes);
        }
        let out = FilterPushdownPropagation::with_parent_pushdown_result(answers);
        if !taken {
            return Ok(out);
        }
        Ok(out.with_updated_node(self.rebuild(self.projection.clone(), predicate)?))
    }
}

fn is_vector(field: &Field) -> bool {
    matches!(field.data_type(), DataType::FixedSizeList(..))
}

#[cfg(test)]
mod tests;
