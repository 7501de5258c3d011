//! Columns that only the result needs are read for the rows of the result.
//!
//! ```text
//! before  VectorTopKExec: mode=final                     after  LateColumnsExec: columns=[id, title, body]
//!           CoalescePartitionsExec                                VectorTopKExec: mode=final
//!             VectorTopKExec: mode=partial, column=e@3              CoalescePartitionsExec
//!               DataSourceExec: [id, title, body, e]                  VectorTopKExec: mode=partial, column=e@0
//!                                                                       DataSourceExec: [e, __row_address]
//! ```
//!
//! An exact search over Parquet files looks at the vector of every row and gives out ten rows. Decoding the titles
//! of the other 299,990, and carrying vectors that were asked for through the top-k, is in vain.
//!
//! *Fires* over a scan of Parquet files (the connector says which), for k up to `MOST_ROWS` and at most an eighth
//! of the rows, where a column that can wait is a text, a list or another one of no fixed size, or where several
//! make up more than `CHEAP_BYTES`. Columns of the search's own conditions are read for all rows and given out
//! from there.
//!
//! *Position*: after [`crate::FuseSearchFilterRule`], which brings the conditions into the search. It keeps the
//! schema, the one partition and the order. *Idempotent*: the scan has row addresses then, and is left alone.

mod exec;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use triune_common::Error;
use triune_files::split_scan;

use crate::topk::{TopKMode, VectorTopKExec};
use exec::{From, LateColumnsExec};

/// Beyond this, fetching rows one by one is no longer surely cheaper.
const MOST_ROWS: usize = 10_000;
/// Columns of together so many bytes a row are not worth a second look into the files.
const CHEAP_BYTES: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub struct LateColumnsRule {}

impl LateColumnsRule {
    pub fn new() -> Self {
        Self {}
    }
}

impl PhysicalOptimizerRule for LateColumnsRule {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let new = plan.transform_up(|node| {
            let Some(last) = node.downcast_ref::<VectorTopKExec>() else { return Ok(Transformed::no(node)) };
            match rewritten(last)? {
                Some(new) => Ok(Transformed::yes(new)),
                None => Ok(Transformed::no(node)),
            }
        })?;
        Ok(new.data)
    }

    fn name(&self) -> &str {
        "late_columns"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn rewritten(last: &VectorTopKExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let TopKMode::Final { distance } = last.mode() else { return Ok(None) };
    let below = last.input();
    let gathered = below.downcast_ref::<CoalescePartitionsExec>();
    let first = gathered.map_or(below, |c| c.input());
    let Some(first) = first.downcast_ref::<VectorTopKExec>() else { return Ok(None) };
    let TopKMode::Partial { column, filter, .. } = first.mode() else { return Ok(None) };
    let scan = first.input();
    let few = match scan.partition_statistics(None)?.num_rows {
        Precision::Exact(rows) | Precision::Inexact(rows) => last.k().saturating_mul(8) <= rows,
        Precision::Absent => true,
    };
    // The distance is the last column of the first step, and the last step gives out all of it.
    let all: Vec<usize> = (0..=first.output().len()).collect();
    if !few || last.k() > MOST_ROWS || *distance != first.output().len() || last.output() != all {
        return Ok(None);
    }

    let filtered: BTreeSet<usize> = filter.iter().flat_map(collect_columns).map(|c| c.index()).collect();
    let mut keep = filtered.clone();
    keep.extend(collect_columns(column).iter().map(Column::index));
    let keep: Vec<usize> = keep.into_iter().collect();
    let defer: Vec<usize> = {
        let waiting: BTreeSet<usize> =
            first.output().iter().copied().filter(|i| !filtered.contains(i)).collect();
        waiting.into_iter().collect()
    };
    if !is_worth_it(&scan.schema(), &defer) {
        return Ok(None);
    }
    let Some(split) = split_scan(scan, &keep, &defer)? else { return Ok(None) };

    let address = keep.len();
    let place = |list: &[usize], i: usize| list.iter().position(|k| *k == i);
    let renumbered = |expr: &Arc<dyn PhysicalExpr>| renumber(expr, &keep);
    let mode = match first.mode().clone() {
        TopKMode::Partial { column, query, metric, distance, filter } => TopKMode::Partial {
            column: renumbered(&column)?,
            query,
            metric,
            distance,
            filter: filter.as_ref().map(renumbered).transpose()?,
        },
        mode @ TopKMode::Final { .. } => mode,
    };
    let early: Vec<usize> = keep.iter().copied().filter(|i| filtered.contains(i)).collect();
    let early: Vec<usize> = early.into_iter().filter(|i| first.output().contains(i)).collect();
    let mut output: Vec<usize> = early.iter().filter_map(|i| place(&keep, *i)).collect();
    output.push(address);
    let new_first: Arc<dyn ExecutionPlan> = Arc::new(first.rebuilt(split.narrow, mode, output)?);
    let new_first = match gathered {
        Some(_) => Arc::new(CoalescePartitionsExec::new(new_first)),
        None => new_first,
    };
    let distance = early.len() + 1;
    let all = (0..=distance).collect();
    let new_last = Arc::new(last.rebuilt(new_first, TopKMode::Final { distance }, all)?);
    let columns = first.output().iter().map(|i| match place(&early, *i) {
        Some(at) => Ok(From::Search(at)),
        None => place(&defer, *i).map(From::Fetch).ok_or_else(lost),
    });
    let columns = columns.chain([Ok(From::Search(distance))]).collect::<Result<Vec<_>>>()?;
    let late = LateColumnsExec::try_new(new_last, early.len(), split.rest, columns, last.schema())?;
    Ok(Some(Arc::new(late)))
}

fn lost() -> DataFusionError {
    Error::internal("a search lost a column").into()
}

fn is_worth_it(schema: &SchemaRef, defer: &[usize]) -> bool {
    let mut bytes = 0;
    for i in defer {
        let Some(field) = schema.fields().get(*i) else { return false };
        match field.data_type() {
            DataType::Boolean => bytes += 1,
            other => match other.primitive_width() {
                Some(width) => bytes += width,
                None => return true,
            },
        }
    }
    bytes > CHEAP_BYTES
}

fn renumber(expr: &Arc<dyn PhysicalExpr>, keep: &[usize]) -> Result<Arc<dyn PhysicalExpr>> {
    let new = Arc::clone(expr).transform(|expr| {
        let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
        let index = keep.iter().position(|k| *k == column.index()).ok_or_else(lost)?;
        Ok(Transformed::yes(Arc::new(Column::new(column.name(), index)) as Arc<dyn PhysicalExpr>))
    })?;
    Ok(new.data)
}
