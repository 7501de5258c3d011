//! [`LanceScanExec`]: the plan node of a scan.

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
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};
use futures::TryStreamExt;
use triune_common::Error;

use crate::predicate::Predicate;
use crate::provider::Table;
use crate::scan::layout::Layout;
use crate::scan::pieces::Piece;
use crate::scan::reader::{ReadMetrics, ReadSpec, read};

/// The share of rows that one condition is taken to leave, as DataFusion does where nothing is known.
const SELECTIVITY: f64 = 0.2;

/// A scan of one version of a Lance dataset.
///
/// A declaration: which rows of which fragments, which columns, which conditions. Files are opened
/// when a partition's stream is first polled.
///
/// *Output*: the rows for which all conditions are true, in no stated order; deleted and masked rows never.
/// *Limit*: `fetch` ends each partition by itself. *Memory*: see `scan::reader`. *Errors*: those of the
/// store, and of conditions (division by zero).
#[derive(Debug, Clone)]
pub struct LanceScanExec {
    table: Arc<Table>,
    /// Columns of `table.schema`, in output order.
    projection: Vec<usize>,
    /// Counts columns by `table.schema`.
    predicate: Predicate,
    partitions: Arc<Vec<Vec<Piece>>>,
    fetch: Option<usize>,
    /// The indexes that said which rows are read, for people.
    by: Option<Arc<str>>,
    layout: Arc<Layout>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl LanceScanExec {
    pub(crate) fn try_new(
        table: Arc<Table>,
        projection: Vec<usize>,
        predicate: Predicate,
        partitions: Vec<Vec<Piece>>,
        fetch: Option<usize>,
    ) -> triune_common::Result<Self> {
        Self::build(table, projection, predicate, Arc::new(partitions), fetch)
    }

    fn build(
        table: Arc<Table>,
        projection: Vec<usize>,
        predicate: Predicate,
        partitions: Arc<Vec<Vec<Piece>>>,
        fetch: Option<usize>,
    ) -> triune_common::Result<Self> {
        let layout = Arc::new(Layout::try_new(&table, &projection, &predicate)?);
        let schema = Arc::new(table.schema.project(&projection)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        // `execute` wraps its stream, so that a scan over cached pages lets others run.
        .with_scheduling_type(SchedulingType::Cooperative);
        Ok(Self {
            table,
            projection,
            predicate,
            partitions,
            fetch,
            by: None,
            layout,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    pub(crate) fn by_indexes(self, names: Arc<str>) -> Self {
        Self { by: Some(names), ..self }
    }

    /// The number of the version that is read.
    pub fn version(&self) -> u64 {
        self.table.dataset.version_id()
    }

    /// Whether a dynamic condition of a join or a top-k above has reached the scan.
    pub fn has_dynamic_filter(&self) -> bool {
        !self.predicate.dynamic().is_empty()
    }

    fn rebuild(&self, projection: Vec<usize>, predicate: Predicate) -> Result<Arc<Self>> {
        let partitions = Arc::clone(&self.partitions);
        let new = Self::build(Arc::clone(&self.table), projection, predicate, partitions, self.fetch)?;
        Ok(Arc::new(Self { by: self.by.clone(), ..new }))
    }

    fn statistics_of(&self, partition: Option<usize>) -> Result<Statistics> {
        let (mut rows, mut exact) = (0u64, true);
        match partition {
            None => rows = self.table.rows(),
            Some(partition) => {
                for piece in &self.partitions[partition] {
                    let fragment = self.table.fragments.iter().find(|f| f.id == piece.fragment);
                    let Some(fragment) = fragment else { continue };
                    if let Some(mask) = &self.table.mask {
                        let ranges = piece.ranges.iter().cloned();
                        rows += piece.rows() - ranges.map(|r| mask.count(piece.fragment, r)).sum::<u64>();
                        continue;
                    }
                    // Where in a fragment the deleted rows lie is not known without reading.
                    let whole = piece.rows() == fragment.physical;
                    exact &= whole || fragment.deleted == 0;
                    let share = piece.rows() as f64 / fragment.physical.max(1) as f64;
                    rows += piece.rows() - (fragment.deleted as f64 * share) as u64;
                }
            }
        }
        let mut rows = usize::try_from(rows).unwrap_or(usize::MAX);
        if !self.predicate.is_empty() {
            exact = false;
            for _ in self.predicate.fixed() {
                rows = (rows as f64 * SELECTIVITY).ceil() as usize;
            }
        }
        let width = self.table.row_bytes(self.projection.iter().copied());
        let statistics = Statistics {
            num_rows: if exact { Precision::Exact(rows) } else { Precision::Inexact(rows) },
            total_byte_size: Precision::Inexact(rows.saturating_mul(width)),
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

    fn pieces(&self) -> usize {
        let mut ids: Vec<u64> = self.partitions.iter().flatten().map(|p| p.fragment).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.len()
    }
}

impl DisplayAs for LanceScanExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |exprs: &[Arc<dyn PhysicalExpr>]| {
            exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" AND ")
        };
        let uri = self.table.dataset.uri();
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(
                    f,
                    "LanceScanExec: uri={uri}, version={}, fragments={}, partitions={}, projection=[{}]",
                    self.version(),
                    self.pieces(),
                    self.partitions.len(),
                    self.columns(),
                )?;
                if let Some(mask) = &self.table.mask {
                    write!(f, ", masked_rows={}", mask.masked)?;
                }
                if let Some(by) = &self.by {
                    let rows: u64 = self.partitions.iter().flatten().map(Piece::rows).sum();
                    write!(f, ", index={by}, rows={rows}")?;
                }
                if !self.predicate.fixed().is_empty() {
                    write!(f, ", filter=[{}]", list(self.predicate.fixed()))?;
                }
                if self.layout.rest.is_some() {
                    write!(f, ", late_materialisation=true")?;
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
                let name = uri.trim_end_matches('/').rsplit('/').next().unwrap_or(uri);
                writeln!(f, "dataset={name}")?;
                writeln!(f, "version={}", self.version())?;
                writeln!(f, "fragments={}", self.pieces())?;
                if let Some(mask) = &self.table.mask {
                    writeln!(f, "masked_rows={}", mask.masked)?;
                }
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

impl ExecutionPlan for LanceScanExec {
    fn name(&self) -> &'static str {
        "LanceScanExec"
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
        Err(Error::internal("a Lance scan has no inputs").into())
    }

    /// Dynamic conditions belong to one execution: the operators that own them make new ones, and the
    /// old ones, already tight, would drop rows of the next. They are only ever a help, so they go.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.rebuild(self.projection.clone(), self.predicate.without_dynamic())?)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(pieces) = self.partitions.get(partition) else {
            return Err(Error::internal(format!(
                "partition {partition} of a Lance scan with {} was asked for",
                self.partitions.len()
            ))
            .into());
        };
        let spec = ReadSpec {
            table: Arc::clone(&self.table),
            layout: Arc::clone(&self.layout),
            batch_rows: context.session_config().batch_size(),
            fetch: self.fetch,
            metrics: ReadMetrics::new(&self.metrics, partition),
        };
        let stream = read(spec, pieces.clone()).map_err(Into::into);
        let stream = RecordBatchStreamAdapter::new(self.schema(), stream);
        Ok(Box::pin(cooperative(stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        if let Some(p) = partition
            && p >= self.partitions.len()
        {
            return Err(Error::internal(format!("a Lance scan has no partition {p}")).into());
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

    /// Takes every condition that a parent offers: those of filters (before the plan is settled) and the
    /// dynamic ones of joins, top-k and aggregates (after). Each is applied to every row exactly, so the
    /// parent need not repeat it.
    ///
    /// Not with a limit: the rows that a limit chose may not be chosen anew by a condition above it. And
    /// not a dynamic condition over vectors, as `ORDER BY embedding <-> $1 LIMIT k` makes one: it would
    /// read the widest column first and compute every distance twice.
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
            let expr = reassign_expr_columns(offered.filter, &self.table.schema)?;
            if !is_dynamic_physical_expr(&expr) {
                predicate.push_fixed(expr);
            } else if collect_columns(&expr).iter().any(|c| is_vector(self.table.schema.field(c.index()))) {
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
