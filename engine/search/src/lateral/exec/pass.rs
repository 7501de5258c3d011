//! One pass over the searched rows, for the queries of several thousand left rows.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, FixedSizeListArray, RecordBatch, UInt32Array};
use arrow::compute::{prep_null_mask_filter, take};
use arrow::datatypes::{Float32Type, SchemaRef};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::metrics::{Count, Gauge};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, PhysicalExpr};
use futures::StreamExt;
use triune_common::{Error, ErrorKind};
use triune_vector::kernels::{PreparedQuery, VectorRows};
use triune_vector::types::VectorType;

use super::found::Found;
use super::{LateralSearch, broken};
use crate::access::IndexedRows;
use crate::lateral::kept::Kept;
use crate::lateral::node::Order;

/// The searches of one execution.
pub(super) struct Task {
    pub(super) left: SendableRecordBatchStream,
    /// The rest of a left batch that was too large for a pass.
    pub(super) pending: Option<RecordBatch>,
    pub(super) right: Arc<dyn ExecutionPlan>,
    /// The way through an index, while it can be read, and the rows that it does not speak of.
    pub(super) index: Option<(IndexedRows, Arc<dyn ExecutionPlan>)>,
    pub(super) search: Arc<LateralSearch>,
    pub(super) ty: VectorType,
    pub(super) group: usize,
    pub(super) schema: SchemaRef,
    pub(super) reservation: MemoryReservation,
    pub(super) rows: MemoryReservation,
    pub(super) context: Arc<TaskContext>,
    /// Passes over every row.
    pub(super) passes: Count,
    /// Passes of either kind.
    pub(super) runs: usize,
    pub(super) index_searches: Count,
    pub(super) index_errors: Count,
    pub(super) compared: Count,
    pub(super) peak: Gauge,
}

/// The queries of a pass.
struct Queries {
    search: Arc<LateralSearch>,
    ty: VectorType,
    /// NULL where the left row's query is.
    prepared: Vec<PreparedQuery>,
    /// The conditions with the values of left rows in them, and the queries that they hold for.
    groups: Vec<Group>,
}

#[derive(Default)]
struct Group {
    filter: Option<Arc<dyn PhysicalExpr>>,
    queries: Vec<usize>,
    /// Queries that are NULL where rows without a distance are results: every row is as near.
    nulls: Vec<usize>,
}

impl Group {
    fn add(&mut self, query: usize, prepared: &[PreparedQuery]) {
        let list = if prepared[query].is_null() { &mut self.nulls } else { &mut self.queries };
        list.push(query);
    }

    fn is_empty(&self) -> bool {
        self.queries.is_empty() && self.nulls.is_empty()
    }
}

impl Task {
    /// The rows that one pass finds; `None` when there are no more left rows.
    pub(super) async fn pass(&mut self) -> Result<Option<Found>> {
        let (mut batches, mut count) = (Vec::new(), 0);
        self.reservation.free();
        while count < self.group {
            let batch = match self.pending.take() {
                Some(batch) => batch,
                None => match self.left.next().await {
                    Some(batch) => batch?,
                    None => break,
                },
            };
            if batch.num_rows() == 0 {
                continue;
            }
            let room = self.group - count;
            let batch = if batch.num_rows() > room {
                self.pending = Some(batch.slice(room, batch.num_rows() - room));
                batch.slice(0, room)
            } else {
                batch
            };
            let rows = batch.num_rows();
            let bytes = crate::topk::bytes_of_rows(&batch, rows);
            self.reservation.try_grow(bytes + rows * (self.ty.list_size() * 4 + 256))?;
            count += rows;
            batches.push(batch);
        }
        if batches.is_empty() {
            return Ok(None);
        }
        let queries = Arc::new(self.prepare(&batches)?);
        // Exchanges hand out their rows once: later passes run on a fresh copy.
        if self.runs > 0 {
            self.right = reset_plan_states(Arc::clone(&self.right))?;
            if let Some((_, beside)) = &mut self.index {
                *beside = reset_plan_states(Arc::clone(beside))?;
            }
        }
        self.runs += 1;
        let parts = match self.through_index(&queries, &batches).await? {
            Some(parts) => parts,
            None => {
                self.passes.add(1);
                joined(self.compare(&self.right, &queries)?).await?
            }
        };
        self.peak.set_max(self.reservation.size() + parts.iter().map(Kept::reserved).sum::<usize>());
        let offsets: Vec<usize> = parts
            .iter()
            .scan(0, |at, part| {
                let start = *at;
                *at += part.store.len();
                Some(start)
            })
            .collect();
        Ok(Some(Found {
            offsets,
            left: batches,
            parts,
            query: 0,
            queries: count,
            at: (0, 0),
            waiting: Vec::new(),
            schema: Arc::clone(&self.schema),
            search: Arc::clone(&self.search),
            size: self.context.session_config().batch_size(),
        }))
    }

    fn kept(&self, queries: usize) -> Kept {
        let spec = &self.search.spec;
        Kept::new(queries, spec.k + spec.skip, spec.order, self.rows.new_empty())
    }

    /// Begins a pass over rows: what each of their partitions will have for the queries.
    fn compare(&self, rows: &Arc<dyn ExecutionPlan>, queries: &Arc<Queries>) -> Result<Vec<Part>> {
        let mut tasks = Vec::new();
        if queries.groups.iter().any(|g| !g.is_empty()) {
            for partition in 0..rows.output_partitioning().partition_count() {
                let input = rows.execute(partition, Arc::clone(&self.context))?;
                let (kept, compared) = (self.kept(queries.prepared.len()), self.compared.clone());
                tasks.push(SpawnedTask::spawn(scan(input, Arc::clone(queries), kept, compared)));
            }
        }
        Ok(tasks)
    }

    /// The rows on disk through the index, query by query, and the others by a pass. `None` where every row is to be
    /// compared: that costs less, the index cannot be read, or rows without a distance belong to the answer.
    async fn through_index(
        &mut self,
        queries: &Arc<Queries>,
        batches: &[RecordBatch],
    ) -> Result<Option<Vec<Kept>>> {
        let Some((indexed, beside)) = self.index.clone() else { return Ok(None) };
        let [Group { filter: None, queries: asked, nulls }] = queries.groups.as_slice() else {
            return Ok(None);
        };
        if !nulls.is_empty() || asked.is_empty() || !indexed.pays(asked.len()) {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(queries.prepared.len());
        for batch in batches {
            let vectors = self.search.query.evaluate(batch)?.into_array(batch.num_rows())?;
            for row in 0..batch.num_rows() {
                values.push(ScalarValue::try_from_array(&vectors, row)?);
            }
        }
        let values = Arc::new(values);
        let workers = self.context.session_config().target_partitions().clamp(1, asked.len());
        let tasks: Vec<_> = (0..workers)
            .map(|worker| {
                let own: Vec<usize> = asked.iter().copied().skip(worker).step_by(workers).collect();
                let work = Searches {
                    indexed: indexed.clone(),
                    values: Arc::clone(&values),
                    kept: self.kept(queries.prepared.len()),
                    context: Arc::clone(&self.context),
                    searches: self.index_searches.clone(),
                };
                SpawnedTask::spawn(work.run(own))
            })
            .collect();
        let mut parts = match joined(tasks).await {
            Ok(parts) => parts,
            Err(e) => {
                let e = Error::from(e);
                if indexed.strict || matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Resources) {
                    return Err(e.into());
                }
                self.index_errors.add(1);
                indexed.report(&e);
                self.index = None;
                return Ok(None);
            }
        };
        parts.extend(joined(self.compare(&beside, queries)?).await?);
        let wanted = self.search.spec.k + self.search.spec.skip;
        let full = |query: &usize| parts.iter().map(|p| p.heaps[*query].len()).sum::<usize>() >= wanted;
        let complete = self.search.spec.order == Order::Nearest || asked.iter().all(full);
        Ok(complete.then_some(parts))
    }

    fn prepare(&self, batches: &[RecordBatch]) -> Result<Queries> {
        let mut prepared = Vec::new();
        for batch in batches {
            let vectors = self.search.query.evaluate(batch)?.into_array(batch.num_rows())?;
            let Some(vectors) = vectors.as_fixed_size_list_opt() else {
                return Err(broken("the query of searches per row is no vector when it runs"));
            };
            for row in 0..vectors.len() {
                prepared.push(PreparedQuery::from_row(self.search.spec.metric, vectors, row, self.ty)?);
            }
        }
        let groups = self.groups(batches, &prepared)?;
        Ok(Queries { search: Arc::clone(&self.search), ty: self.ty, prepared, groups })
    }

    /// Queries whose left rows agree in the columns that the condition reads share a group.
    fn groups(&self, batches: &[RecordBatch], prepared: &[PreparedQuery]) -> Result<Vec<Group>> {
        let nulls_find = self.search.spec.order != Order::Nearest;
        let alive = |q: &usize| nulls_find || !prepared[*q].is_null();
        let Some(filter) = &self.search.filter else {
            let mut group = Group::default();
            (0..prepared.len()).filter(alive).for_each(|query| group.add(query, prepared));
            return Ok(vec![group]);
        };
        let width = self.left.schema().fields().len();
        let mut read: Vec<usize> =
            collect_columns(filter).iter().map(Column::index).filter(|i| *i < width).collect();
        read.sort_unstable();
        let mut places: HashMap<Vec<ScalarValue>, usize> = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        let mut query = 0;
        for batch in batches {
            for row in 0..batch.num_rows() {
                let index = query;
                query += 1;
                if !alive(&index) {
                    continue;
                }
                let values: Vec<ScalarValue> = read
                    .iter()
                    .map(|i| ScalarValue::try_from_array(batch.column(*i), row))
                    .collect::<Result<_>>()?;
                let group = match places.get(&values) {
                    Some(group) => *group,
                    None => {
                        let by_column: HashMap<usize, &ScalarValue> =
                            read.iter().copied().zip(&values).collect();
                        let filter = with_values(filter, &by_column, width)?;
                        groups.push(Group { filter: Some(filter), ..Group::default() });
                        places.insert(values, groups.len() - 1);
                        groups.len() - 1
                    }
                };
                groups[group].add(index, prepared);
            }
        }
        Ok(groups)
    }
}

/// Some of the searches of a pass, one after the other.
struct Searches {
    indexed: IndexedRows,
    /// The queries of the pass.
    values: Arc<Vec<ScalarValue>>,
    kept: Kept,
    context: Arc<TaskContext>,
    searches: Count,
}

impl Searches {
    async fn run(mut self, queries: Vec<usize>) -> Result<Kept> {
        for query in queries {
            let plan = self.indexed.nearest(&self.values[query]).await?;
            self.searches.add(1);
            let mut rows = plan.execute(0, Arc::clone(&self.context))?;
            while let Some(batch) = rows.next().await.transpose()? {
                let distance = batch.num_columns() - 1;
                let Some(distances) = batch.column(distance).as_primitive_opt::<Float32Type>() else {
                    return Err(broken("a distance is not Float32"));
                };
                self.kept.begin(batch.num_rows());
                for (row, found) in distances.iter().enumerate() {
                    self.kept.push(query, row, found);
                }
                self.kept.end(&batch.project(&(0..distance).collect::<Vec<_>>())?)?;
            }
        }
        Ok(self.kept)
    }
}

/// What will be kept of some rows.
type Part = SpawnedTask<Result<Kept>>;

async fn joined(tasks: Vec<Part>) -> Result<Vec<Kept>> {
    let mut parts = Vec::with_capacity(tasks.len());
    for task in tasks {
        parts.push(task.join_unwind().await.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))??);
    }
    Ok(parts)
}

/// A condition over the right side's columns alone.
fn with_values(
    filter: &Arc<dyn PhysicalExpr>,
    values: &HashMap<usize, &ScalarValue>,
    width: usize,
) -> Result<Arc<dyn PhysicalExpr>> {
    let new = Arc::clone(filter).transform(|expr| {
        let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
        let new: Arc<dyn PhysicalExpr> = match values.get(&column.index()) {
            Some(value) => Arc::new(Literal::new((*value).clone())),
            None => {
                let index = column
                    .index()
                    .checked_sub(width)
                    .ok_or_else(|| broken("a condition of searches per row lost a column"))?;
                Arc::new(Column::new(column.name(), index))
            }
        };
        Ok(Transformed::yes(new))
    })?;
    Ok(new.data)
}

/// Runs a partition of the right side past all queries.
async fn scan(
    mut input: SendableRecordBatchStream,
    queries: Arc<Queries>,
    mut kept: Kept,
    compared: Count,
) -> Result<Kept> {
    let mut distances = vec![0_f32; 1024];
    while let Some(batch) = input.next().await {
        let batch = batch?;
        let rows = batch.num_rows();
        if rows == 0 {
            continue;
        }
        kept.begin(rows);
        let vectors = queries.search.column.evaluate(&batch)?.into_array(rows)?;
        let Some(vectors) = vectors.as_fixed_size_list_opt() else {
            return Err(broken("the column of searches per row is no vector when it runs"));
        };
        for group in &queries.groups {
            let Some(chosen) = Chosen::of(group, &batch, vectors)? else { continue };
            let vectors = chosen.vectors(vectors);
            let checked = VectorRows::try_new(vectors, queries.ty)?;
            for block in checked.blocks() {
                for &query in &group.queries {
                    let found = &mut distances[..block.len()];
                    checked.distances(&queries.prepared[query], block.clone(), found)?;
                    let Range { start, .. } = block;
                    kept.offer(query, found, |i| chosen.row(start + i), |i| vectors.is_null(start + i));
                }
                compared.add(block.len() * group.queries.len());
                give_way().await;
            }
            for query in &group.nulls {
                // Once there are k such rows none is better.
                for i in (0..vectors.len()).take(queries.search.spec.k + queries.search.spec.skip) {
                    kept.push(*query, chosen.row(i), None);
                }
            }
            if vectors.null_count() > 0 {
                for i in (0..vectors.len()).filter(|i| vectors.is_null(*i)) {
                    group.queries.iter().for_each(|query| kept.push(*query, chosen.row(i), None));
                }
            }
        }
        kept.end(&batch.project(&queries.search.output.1)?)?;
    }
    Ok(kept)
}

/// Lets other tasks of the thread run, and this one be cancelled.
pub(crate) async fn give_way() {
    let mut first = true;
    futures::future::poll_fn(|context| {
        if std::mem::take(&mut first) {
            context.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(())
    })
    .await;
}

/// The rows of a batch that a group's condition lets through.
enum Chosen {
    All,
    Some { rows: UInt32Array, vectors: FixedSizeListArray },
}

impl Chosen {
    fn of(group: &Group, batch: &RecordBatch, vectors: &FixedSizeListArray) -> Result<Option<Self>> {
        let Some(filter) = &group.filter else { return Ok(Some(Self::All)) };
        let value = filter.evaluate(batch)?.into_array(batch.num_rows())?;
        let keep = as_boolean_array(&value)?;
        let keep = if keep.null_count() > 0 { prep_null_mask_filter(keep) } else { keep.clone() };
        match keep.true_count() {
            0 => return Ok(None),
            n if n == batch.num_rows() => return Ok(Some(Self::All)),
            _ => {}
        }
        let rows: UInt32Array = keep.values().set_indices().map(|i| i as u32).collect::<Vec<_>>().into();
        let taken = take(vectors, &rows, None)?;
        Ok(Some(Self::Some { vectors: taken.as_fixed_size_list().clone(), rows }))
    }

    fn vectors<'a>(&'a self, all: &'a FixedSizeListArray) -> &'a FixedSizeListArray {
        match self {
            Self::All => all,
            Self::Some { vectors, .. } => vectors,
        }
    }

    fn row(&self, i: usize) -> usize {
        match self {
            Self::All => i,
            Self::Some { rows, .. } => rows.value(i) as usize,
        }
    }
}
