//! `triune_versions('t')`: the commits that changed a table, newest first, as far back as they are kept.
//!
//! ```sql
//! SELECT * FROM triune_versions('docs');
//! version          │ committed_at              │ operation │ inserted │ deleted
//! 1763846400000001 │ 2025-11-22T21:20:00.0000… │ write     │       12 │       3
//! ```
//!
//! `AT (VERSION => …)` and `RESTORE TABLE … TO (VERSION => …)` take such a version. A database in memory keeps no list.

use std::sync::{Arc, Weak};

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::Expr;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName};
use triune_common::{Error, Result};

use crate::dml::target;
use crate::session::SessionCore;

pub(crate) const NAME: &str = "triune_versions";

#[derive(Debug)]
pub(crate) struct Versions(pub(crate) Weak<SessionCore>);

impl TableFunctionImpl for Versions {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> DfResult<Arc<dyn TableProvider>> {
        let core = self
            .0
            .upgrade()
            .ok_or_else(|| Error::internal("a function is called after its session ended"))?;
        let [Expr::Literal(ScalarValue::Utf8(Some(name)) | ScalarValue::Utf8View(Some(name)), _)] =
            args.exprs()
        else {
            return Err(Error::invalid(format!("{NAME} takes the name of a table as a text"))
                .with_hint(format!("SELECT * FROM {NAME}('docs')"))
                .into());
        };
        Ok(versions(&core, name)?)
    }
}

fn versions(core: &Arc<SessionCore>, name: &str) -> Result<Arc<dyn TableProvider>> {
    let parts: Vec<Ident> = name.split('.').map(Ident::new).collect();
    let def = target::find(core, &ObjectName::from(parts), NAME)?;
    let found = core.database().store().versions(def.id)?;
    let numbers = |of: &dyn Fn(usize) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values((0..found.len()).map(of)))
    };
    let at = found.iter().map(|v| v.version.time().timestamp_micros());
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(at).with_timezone("UTC"));
    let operation: ArrayRef = Arc::new(StringArray::from_iter_values(found.iter().map(|v| v.operation)));
    let batch = RecordBatch::try_from_iter([
        ("version", numbers(&|i| found[i].version.0)),
        ("committed_at", at),
        ("operation", operation),
        ("inserted", numbers(&|i| found[i].inserted)),
        ("deleted", numbers(&|i| found[i].deleted)),
    ])?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}
