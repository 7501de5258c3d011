//! All rows of some fragments, in order, with their addresses: what a rewrite reads.

use std::sync::Arc;

use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;
use triune_common::Result;

use crate::predicate::Predicate;
use crate::provider::LanceProvider;
use crate::scan::layout::Layout;
use crate::scan::pieces::Piece;
use crate::scan::reader::{ReadMetrics, ReadSpec, read};

impl LanceProvider {
    /// The rows of these fragments, in this order and that of the rows, masked ones left out: the dataset's
    /// columns, then `_rowaddr`. Fragments that the dataset does not have are skipped.
    pub fn rows_of(&self, fragments: &[u32], batch_rows: usize) -> Result<SendableRecordBatchStream> {
        // What is rewritten is read once: it is no use to keep it.
        let table = Arc::clone(&self.with_cache(None).with_row_identity(true).table);
        let mut columns: Vec<usize> = (0..table.data_columns).collect();
        columns.push(table.schema.index_of(lance_core::ROW_ADDR)?);
        let pieces = fragments
            .iter()
            .filter_map(|id| table.fragments.iter().find(|f| f.id == u64::from(*id) && f.physical > 0))
            .map(|f| Piece { fragment: f.id, ranges: std::iter::once(0..f.physical).collect() })
            .collect();
        let layout = Arc::new(Layout::try_new(&table, &columns, &Predicate::default())?);
        let schema = Arc::new(table.schema.project(&columns)?);
        let spec = ReadSpec {
            table,
            layout,
            batch_rows,
            fetch: None,
            metrics: ReadMetrics::new(&ExecutionPlanMetricsSet::new(), 0),
        };
        let rows = read(spec, pieces).map_err(Into::into);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}
