//! Bulk loads: a transaction that only adds many rows to one table writes them into the base at once.
//!
//! ```text
//!  block the table (others' commits to it wait) · checkpoint · append · publish by state.json · unblock
//! ```
//!
//! The rows go neither through the WAL nor through the hot store: they are written once. When the commit returns
//! they are as durable as any; a crash before leaves files that nobody names. Writers of other tables and all
//! readers go on meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use triune_common::{Error, ErrorKind, Result};

use super::Store;
use super::checkpoint::store_state;
use super::shared::Place;
use super::version::TableVersion;
use crate::base::AppendOptions;
use crate::key::{KeyKind, Keys};
use crate::stamp::{CommitTs, TableId};

/// From how many bytes on rows are loaded instead of logged.
pub(super) const LOAD_BYTES: usize = 32 << 20;

/// Rows for one table, stored schema; `_rid` columns are filled in here.
pub(super) struct Load {
    pub(super) table: TableId,
    pub(super) revision: u64,
    pub(super) rows: Vec<RecordBatch>,
}

impl Store {
    /// Whether a load can be made here at all.
    pub(super) fn can_load(&self) -> bool {
        self.shared.place.is_some() && self.read_only.is_none()
    }

    /// Commits a load. Errors: conflict when a key was taken since the transaction began.
    pub(super) async fn load(&self, load: Load) -> Result<CommitTs> {
        let Some(place) = self.shared.place.clone() else {
            return Err(Error::internal("a database in memory was to be loaded into"));
        };
        let id = load.table;
        let _bases = self.shared.bases.lock().await;
        let _blocked = self.shared.block(id);
        self.driver
            .run(move |committer| {
                committer.block(id);
                Ok(())
            })
            .await?;
        let done = Box::pin(self.load_blocked(&place, load)).await;
        self.driver
            .run(move |committer| {
                committer.unblock(id);
                Ok(())
            })
            .await?;
        done
    }

    async fn load_blocked(&self, place: &Place, load: Load) -> Result<CommitTs> {
        let (applied, segment) = self.checkpoint_locked(place).await?;
        let (_, version) = self.shared.current();
        let table = Arc::clone(version.table(load.table)?);
        drop(version);
        let (true, Some(base)) = (table.def.revision == load.revision, table.base.clone()) else {
            return Err(Error::new(
                ErrorKind::Conflict,
                "could not serialize access: the table's definition was changed by another session",
            ));
        };
        let rows = if table.def.has_rid() { numbered(&table, load.rows)? } else { load.rows };
        let count: u64 = rows.iter().map(|b| b.num_rows() as u64).sum();
        let keys = sorted_keys(&table, &rows)?;
        if !table.def.has_rid()
            && let Some(taken) = base.intersects(&keys)
        {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "could not serialize access: the key {} was taken by another transaction since this one began",
                    table.codec.describe(keys.get(taken))
                ),
            )
            .with_hint("SQLSTATE 40001: run the transaction again"));
        }
        let rows = futures::stream::iter(rows.into_iter().map(Ok));
        let rows = Box::pin(RecordBatchStreamAdapter::new(table.def.stored_schema(), rows));
        let settle = self.shared.pins.oldest().unwrap_or(applied).min(applied);
        let base = base.append(rows, AppendOptions { checkpoint: applied, settle }).await?;
        let (place, next_table, id) = (place.clone(), self.next_table(), load.table);
        self.driver
            .run(move |committer| {
                committer.check_writable()?;
                let ts = CommitTs::after(committer.last, committer.shared.clock.now());
                let mut next = committer.version.as_ref().clone();
                committer.replace_base(&mut next, id, base, Some(ts))?;
                store_state(committer, &place, &next.tables, applied, segment, next_table)?;
                committer.note_load(id, ts, count);
                table.counters.last_change.fetch_max(ts.0, Ordering::Relaxed);
                committer.last = ts;
                committer.version = Arc::new(next);
                committer.retire_keys(id, keys, ts);
                committer.forget_retired();
                committer.publish();
                Ok(ts)
            })
            .await
    }
}

/// Rows with real numbers in `_rid`, consecutive over all batches.
fn numbered(table: &TableVersion, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let count: u64 = rows.iter().map(|b| b.num_rows() as u64).sum();
    let mut next = table.counters.next_rid.fetch_add(count, Ordering::Relaxed);
    rows.into_iter()
        .map(|batch| {
            let until = next + batch.num_rows() as u64;
            let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
            let last = columns.last_mut().ok_or_else(|| Error::internal("rows without a _rid column"))?;
            *last = Arc::new(UInt64Array::from_iter_values(next..until));
            next = until;
            Ok(RecordBatch::try_new(batch.schema(), columns)?)
        })
        .collect()
}

/// The keys of all rows, sorted; of a table without a primary key none, nobody else can have them.
fn sorted_keys(table: &TableVersion, rows: &[RecordBatch]) -> Result<Keys> {
    let mut ints = Vec::new();
    let mut bytes = Vec::new();
    if !table.def.has_rid() {
        for batch in rows {
            match table.codec.keys_of(batch)? {
                Keys::Ints(mut keys) => ints.append(&mut keys),
                Keys::Bytes(mut keys) => bytes.append(&mut keys),
            }
        }
    }
    Ok(match table.codec.kind() {
        KeyKind::Int => {
            ints.sort_unstable();
            Keys::Ints(ints)
        }
        KeyKind::Bytes => {
            bytes.sort_unstable();
            Keys::Bytes(bytes)
        }
    })
}
