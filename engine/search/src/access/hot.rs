//! Rows that no index speaks of: those in memory.

use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::logical_expr::TableScan;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use triune_vector::kernels::Metric;

use super::VectorAccess;
use super::keys::KeyMask;
use crate::DISTANCE_COLUMN;
use crate::spec::{Missing, SearchSpec};
use crate::topk::{QuerySource, TopKMode, VectorTopKExec};

/// The rows that no index speaks of, to be compared one by one.
#[derive(Debug, Clone)]
pub(super) struct HotPart {
    pub(super) rows: Arc<dyn ExecutionPlan>,
    /// Places in `rows`: the vector, and what is given out.
    pub(super) vector: usize,
    pub(super) output: Vec<usize>,
    pub(super) query: QuerySource,
    pub(super) metric: Metric,
    pub(super) k: usize,
}

impl HotPart {
    /// The k nearest of those that meet the condition, which speaks of the columns of `rows`.
    pub(super) fn plan(&self, filter: Option<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn ExecutionPlan>> {
        let name = self.rows.schema().field(self.vector).name().clone();
        let mode = TopKMode::Partial {
            column: Arc::new(Column::new(&name, self.vector)),
            query: self.query.clone(),
            metric: self.metric,
            distance: DISTANCE_COLUMN.to_owned(),
            filter,
        };
        let (rows, k) = (Arc::clone(&self.rows), (self.k, Missing::LeftOut));
        Ok(Arc::new(VectorTopKExec::try_new(rows, mode, k, self.output.clone(), "exact")?))
    }
}

pub(super) fn hot_part(
    table: &dyn VectorAccess,
    session: &dyn Session,
    scan: &TableScan,
    (vector, output): (usize, &[usize]),
    (query, masks): (&QuerySource, &[KeyMask]),
    spec: &SearchSpec,
) -> Result<Option<HotPart>> {
    let schema = scan.source.schema();
    let mut columns: Vec<usize> = output.iter().copied().chain([vector]).collect();
    for column in masks.iter().flat_map(|m| m.column.column_refs()) {
        columns.push(schema.index_of(&column.name)?);
    }
    columns.sort_unstable();
    columns.dedup();
    let Some(rows) = table.beside(session, &columns, &scan.filters)? else { return Ok(None) };
    // All are among the columns.
    let place = |column: &usize| columns.partition_point(|c| c < column);
    Ok(Some(HotPart {
        rows,
        vector: place(&vector),
        output: output.iter().map(place).collect(),
        query: query.clone(),
        metric: spec.metric,
        k: spec.k,
    }))
}
