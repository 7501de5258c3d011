//! Rows in the order of `CLUSTER BY`.

use std::fmt;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use parking_lot::Mutex;
use triune_common::{Error, Result};

/// The rows sorted by these columns, growing, NULLs last; rows that compare equal in no stated order.
///
/// Holds at most about `memory` bytes and puts sorted runs into the system's temporary folder beyond that.
/// Errors: not-found for an unknown column; resources for a full disk.
pub(super) fn sorted(
    rows: SendableRecordBatchStream,
    by: &[String],
    memory: usize,
) -> Result<SendableRecordBatchStream> {
    let schema = rows.schema();
    let keys = by
        .iter()
        .map(|name| {
            let expr = Arc::new(Column::new(name, schema.index_of(name)?));
            let options = SortOptions { descending: false, nulls_first: false };
            Ok(PhysicalSortExpr { expr, options })
        })
        .collect::<Result<Vec<_>>>()?;
    let Some(ordering) = LexOrdering::new(keys) else { return Ok(rows) };
    let once = Arc::new(Once { schema: Arc::clone(&schema), rows: Mutex::new(Some(rows)) });
    let parts: Vec<Arc<dyn PartitionStream>> = vec![once];
    let source = StreamingTableExec::try_new(schema, parts, None, [], false, None)?;
    let sort = SortExec::new(ordering, Arc::new(source));
    let runtime =
        RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(memory))).build_arc()?;
    let context = TaskContext::default().with_runtime(runtime);
    Ok(sort.execute(0, Arc::new(context))?)
}

/// A stream as a plan's only partition, to be executed once.
struct Once {
    schema: SchemaRef,
    rows: Mutex<Option<SendableRecordBatchStream>>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
        self.rows.lock().take().unwrap_or_else(|| {
            let again = Error::internal("rows to be sorted were asked for twice");
            let failed = futures::stream::iter([Err(again.into())]);
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), failed))
        })
    }
}
