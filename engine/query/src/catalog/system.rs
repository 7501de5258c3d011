//! The schema `system`: what the engine knows of itself.
//!
//! ```sql
//! SELECT hot_bytes, hot_bytes_limit, checkpoints, slowed_commits FROM system.maintenance;
//! ```
//!
//! `system.maintenance` has one row: how full the hot store and the log are and within which limits, since when the
//! oldest commit waits for a checkpoint, how many checkpoints were made and when the last, how many commits had to wait
//! for one, how often the keeper has merged fragments, what VACUUM has freed, and what went wrong last.
//!
//! `system.indexes` has a row for each index of a table, `system.index_progress` one for each that is being built.
//!
//! `system.queries` has a row for each statement that runs or ran last: see `queries`.
//!
//! `system.models` has a row for each embedding model.

use std::sync::{Arc, Weak};

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::MemTable;
use datafusion::error::{DataFusionError, Result as DfResult};

use super::{system_indexes, system_queries};
use crate::session::SessionCore;

/// The schema's name; no schema of a user's can have it.
pub(crate) const SYSTEM: &str = "system";
const MAINTENANCE: &str = "maintenance";
const INDEXES: &str = "indexes";
const INDEX_PROGRESS: &str = "index_progress";
const MODELS: &str = "models";
const QUERIES: &str = "queries";
const TABLES: [&str; 5] = [INDEX_PROGRESS, INDEXES, MAINTENANCE, MODELS, QUERIES];

#[derive(Debug)]
pub(super) struct SystemSchema(pub(super) Weak<SessionCore>);

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        TABLES.map(str::to_owned).to_vec()
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        let Some(session) = self.0.upgrade() else { return Ok(None) };
        let batch = match name {
            MAINTENANCE => return Ok(Some(maintenance(&session)?)),
            INDEXES => Box::pin(system_indexes::indexes(&session)).await,
            QUERIES => system_queries::batch(&session),
            MODELS => crate::commands::models::batch(&session),
            INDEX_PROGRESS => system_indexes::progress(&session),
            _ => return Ok(None),
        };
        let batch = batch.map_err(DataFusionError::from)?;
        Ok(Some(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        TABLES.contains(&name)
    }
}

fn maintenance(session: &SessionCore) -> DfResult<Arc<dyn TableProvider>> {
    let info = session.database().store().maintenance();
    let number = |n: u64| -> ArrayRef { Arc::new(UInt64Array::from(vec![n])) };
    let moment = |at: Option<DateTime<Utc>>| -> ArrayRef {
        let at = at.map(|t| t.timestamp_micros());
        Arc::new(TimestampMicrosecondArray::from(vec![at]).with_timezone("UTC"))
    };
    let error: ArrayRef = Arc::new(StringArray::from(vec![info.last_error]));
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("hot_bytes", number(info.hot_bytes), false),
        ("hot_bytes_limit", number(info.hot_bytes_limit), false),
        ("wal_bytes", number(info.wal_bytes), false),
        ("wal_bytes_limit", number(info.wal_bytes_limit), false),
        ("oldest_hot", moment(info.oldest_hot), true),
        ("checkpoints", number(info.checkpoints), false),
        ("last_checkpoint", moment(info.last_checkpoint), true),
        ("slowed_commits", number(info.slowed_commits), false),
        ("merges", number(info.merges), false),
        ("last_merge", moment(info.last_merge), true),
        ("freed_bytes", number(info.freed_bytes), false),
        ("last_vacuum", moment(info.last_vacuum), true),
        ("last_error", error, true),
    ])?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}
