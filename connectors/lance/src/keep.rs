//! Which of some rows meet conditions.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use datafusion::common::runtime::SpawnedTask;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::reassign_expr_columns;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::TryStreamExt;
use lance_core::ROW_ADDR;
use triune_common::{Error, ErrorKind, Result, boxed};

use crate::predicate::Predicate;
use crate::provider::LanceProvider;
use crate::scan::layout::Layout;
use crate::scan::pieces::{self, Piece};
use crate::scan::reader::{ReadMetrics, ReadSpec, read};

impl LanceProvider {
    /// Those of the rows at these addresses, which grow, for which all conditions are true; masked ones are left out.
    /// Conditions count the columns of the provider.
    ///
    /// *Cost*: reads the columns of the conditions, of these rows only, in up to `partitions` tasks.
    #[boxed]
    pub async fn keep_matching(
        &self,
        addresses: &[u64],
        conditions: Vec<Arc<dyn PhysicalExpr>>,
        partitions: usize,
        batch_rows: usize,
    ) -> Result<Vec<u64>> {
        let table = Arc::clone(&self.with_row_identity(true).table);
        let conditions = conditions
            .into_iter()
            .map(|c| Ok(reassign_expr_columns(c, &table.schema)?))
            .collect::<Result<_>>()?;
        let column = table.schema.index_of(ROW_ADDR)?;
        let layout = Arc::new(Layout::try_new(&table, &[column], &Predicate::new(conditions))?);
        let metrics = ExecutionPlanMetricsSet::new();
        let mut tasks = Vec::new();
        for (partition, pieces) in pieces::spread(pieces_of(addresses), partitions).into_iter().enumerate() {
            let spec = ReadSpec {
                table: Arc::clone(&table),
                layout: Arc::clone(&layout),
                batch_rows,
                fetch: None,
                metrics: ReadMetrics::new(&metrics, partition),
            };
            let mut rows = read(spec, pieces);
            tasks.push(SpawnedTask::spawn(async move {
                let mut kept: Vec<u64> = Vec::new();
                while let Some(batch) = rows.try_next().await? {
                    let found = batch.columns().first().and_then(|c| c.as_primitive_opt::<UInt64Type>());
                    let found = found.ok_or_else(|| Error::internal("a read came without addresses"))?;
                    kept.extend(found.values());
                }
                Ok::<_, Error>(kept)
            }));
        }
        let mut kept = Vec::new();
        for task in tasks {
            let gone = |_| Error::new(ErrorKind::Cancelled, "the search for matching rows was cancelled");
            kept.extend(task.join_unwind().await.map_err(gone)??);
        }
        // Partitions take the pieces in their order.
        debug_assert!(kept.is_sorted());
        Ok(kept)
    }
}

/// Growing addresses as places in fragments.
fn pieces_of(addresses: &[u64]) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut rest = addresses;
    while let Some(first) = rest.first() {
        let fragment = first >> 32;
        let length = rest.partition_point(|a| a >> 32 == fragment);
        let ranges = pieces::ranges_of(rest[..length].iter().map(|a| a & u64::from(u32::MAX)), 0);
        out.push(Piece { fragment, ranges: ranges.into() });
        rest = &rest[length..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_pieces() {
        let found = pieces_of(&[1, 2, 5, 7 << 32, (7 << 32) + 1]);
        let want = [(0, vec![1..3, 5..6]), (7, std::iter::once(0..2).collect())];
        let want: Vec<Piece> =
            want.into_iter().map(|(fragment, ranges)| Piece { fragment, ranges: ranges.into() }).collect();
        assert_eq!(found, want);
        assert!(pieces_of(&[]).is_empty());
    }
}
