//! Moving hot rows into the bases, all tables at once.
//!
//! ```text
//!  committer   freeze: new memtables, new WAL segment, moment C
//!  here        rows of the frozen memtables that live at C ─▶ one Lance version per table, key files, fsync
//!  committer   publish: rows that ended after C are ended in the new base; state.json; new DbVersion;
//!              older WAL segments go
//! ```
//!
//! A crash before `state.json` is replaced leaves files that nobody names, and the WAL has everything; a crash
//! after it finds the new bases, and the WAL has what came after C (CKPT-1). Queries and commits go on all the
//! while; both committer steps are short.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::common::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use triune_common::{Result, boxed};

use super::Store;
use super::committer::{Committer, Frozen};
use super::history;
use super::readers::superseded;
use super::shared::Place;
use super::state::{State, TableState};
use super::version::{DbVersion, TableVersion};
use crate::base::{AppendOptions, Base};
use crate::hot::Memtable;
use crate::stamp::{CommitTs, TableId};
use crate::wal::SegmentId;

/// A table's new base.
struct Moved {
    base: Arc<Base>,
    /// How many memtables it makes superfluous.
    memtables: usize,
}

impl Store {
    /// Moves hot rows of all tables into their bases. Concurrent calls wait for each other.
    #[boxed]
    pub async fn checkpoint(&self) -> Result<()> {
        let Some(place) = self.shared.place.clone() else { return Ok(()) };
        self.check_writable()?;
        let _bases = self.shared.bases.lock().await;
        self.checkpoint_locked(&place).await?;
        let dropped = self.shared.dropped.lock().clone();
        for table in dropped {
            if self.remove_stale_folders(&place, table)? {
                self.shared.dropped.lock().retain(|t| *t != table);
            }
        }
        Ok(())
    }

    /// The same for callers that hold the lock of the bases: commits up to the timestamp are in the bases, the
    /// WAL has what came later from the segment on.
    pub(super) async fn checkpoint_locked(&self, place: &Place) -> Result<(CommitTs, SegmentId)> {
        let frozen = self.driver.run(Committer::freeze).await?;
        let mut moved = BTreeMap::new();
        let oldest = self.shared.pins.oldest().unwrap_or(frozen.ts).min(frozen.ts);
        for (id, table) in &frozen.version.tables {
            let count = frozen.counts.get(id).copied().unwrap_or(0);
            let retention = table.def.options.retention_seconds.saturating_mul(1_000_000);
            let settle = oldest.min(CommitTs(frozen.ts.0.saturating_sub(retention)));
            if let Some(base) =
                move_rows(table, count, AppendOptions { checkpoint: frozen.ts, settle }).await?
            {
                moved.insert(*id, Moved { base, memtables: count });
            }
        }
        let place = place.clone();
        let next_table = self.next_table();
        let done = (frozen.ts, frozen.segment);
        self.driver.run(move |committer| publish(committer, &place, &frozen, moved, next_table)).await?;
        let gauge = &self.shared.gauge;
        gauge.checkpoints.fetch_add(1, Ordering::Relaxed);
        gauge.last.lock().checkpoint = Some(self.shared.clock.now());
        gauge.relieved.notify_waiters();
        Ok(done)
    }
}

/// Appends what lives at the checkpoint to the base; `None` when nothing has changed since the last one.
async fn move_rows(table: &TableVersion, count: usize, options: AppendOptions) -> Result<Option<Arc<Base>>> {
    let Some(base) = &table.base else { return Ok(None) };
    let last_change = CommitTs(table.counters.last_change.load(Ordering::Relaxed));
    if count == 0 && last_change <= base.checkpoint() {
        return Ok(None);
    }
    let memtables: Vec<Arc<Memtable>> = table.memtables[..count].to_vec();
    let schema = table.def.stored_schema();
    let at = options.checkpoint;
    // One memtable after the other, so that no more than one is copied at a time.
    let rows = futures::stream::iter(memtables).flat_map(move |memtable| {
        let batches = match memtable.live_at(at) {
            Ok(rows) => rows.into_iter().map(|r| Ok(r.batch)).collect(),
            Err(e) => vec![Err(DataFusionError::from(e))],
        };
        futures::stream::iter(batches)
    });
    let rows = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
    base.append(rows, options).await.map(Some)
}

fn publish(
    committer: &mut Committer,
    place: &Place,
    frozen: &Frozen,
    moved: BTreeMap<TableId, Moved>,
    next_table: u64,
) -> Result<()> {
    committer.check_writable()?;
    let mut next = committer.version.as_ref().clone();
    let mut retired = Vec::new();
    for (id, moved) in moved {
        // Dropped or emptied meanwhile: what was written for it is not needed.
        let Some(now) = next.tables.get(&id).filter(|now| is_successor(now, frozen, id)) else { continue };
        for memtable in &now.memtables[..moved.memtables] {
            for (key, end) in memtable.ended_after(frozen.ts) {
                if let Some(address) = moved.base.find(key.as_ref()) {
                    moved.base.deletes().mark(address, end);
                }
            }
            retired.push((id, Arc::clone(memtable)));
        }
        committer.shared.track(id, &moved.base);
        let mut table = now.as_ref().clone();
        table.base = Some(moved.base);
        table.memtables.drain(..moved.memtables);
        next.tables.insert(id, Arc::new(table));
    }
    let mut all = DbVersion::default();
    for (id, table) in next.tables {
        let mut table = table.as_ref().clone();
        // Tables that nothing happened to are as they were.
        table.applied = table.applied.max(frozen.ts);
        table.since = table.since.max(frozen.ts);
        all.tables.insert(id, Arc::new(table));
    }
    let next = all;
    let needed = store_state(committer, place, &next.tables, frozen.ts, frozen.segment, next_table)?;
    committer.version = Arc::new(next);
    for (id, memtable) in retired {
        committer.retire_memtable(id, memtable, frozen.ts);
    }
    committer.forget_retired();
    committer.publish();
    if let Some(log) = &mut committer.log {
        log.remove_before(needed)?;
    }
    Ok(())
}

/// Whether a table's version goes on where the frozen one was.
fn is_successor(now: &TableVersion, frozen: &Frozen, id: TableId) -> bool {
    frozen.version.tables.get(&id).is_some_and(|then| {
        now.def.revision == then.def.revision
            && now.memtables.first().zip(then.memtables.first()).is_some_and(|(a, b)| Arc::ptr_eq(a, b))
    })
}

/// Writes `state.json` for these tables, and puts the one before into the history where a table wants that.
/// Returns the first WAL segment that is still needed.
pub(super) fn store_state(
    committer: &mut Committer,
    place: &Place,
    tables: &BTreeMap<TableId, Arc<TableVersion>>,
    checkpoint: CommitTs,
    segment: SegmentId,
    next_table: u64,
) -> Result<SegmentId> {
    let old = State::load(place.fs.as_ref(), &place.folder)?;
    let mut state = old.clone();
    let longest = tables.values().map(|t| t.def.options.retention_seconds).max().unwrap_or(0);
    let needed =
        history::keep(place, &state, longest, committer.shared.clock.now())?.unwrap_or(segment).min(segment);
    state.checkpoint = checkpoint;
    state.first_segment = segment.0;
    state.next_table = next_table;
    state.tables = tables.iter().filter_map(|(id, table)| Some((*id, table_state(table)?))).collect();
    if let Err(e) = state.store(place.fs.as_ref(), &place.folder) {
        // In place and perhaps not durable: what memory goes on with and what a restart finds must not part.
        if !State::load(place.fs.as_ref(), &place.folder).is_ok_and(|now| now.latest() < state.latest()) {
            committer.poison(e.message());
        }
        return Err(e);
    }
    let shared = &committer.shared;
    shared.supersede(superseded(&old, &state, shared.clock.now()));
    Ok(needed)
}

fn table_state(table: &TableVersion) -> Option<TableState> {
    let identities = table.counters.identities.lock().iter().map(|(id, c)| (*id, c.reserved)).collect();
    Some(TableState {
        def: table.def.as_ref().clone(),
        rows_revision: table.rows_revision,
        applied: table.applied,
        base: table.base.as_ref()?.state().clone(),
        next_rid: table.counters.next_rid.load(Ordering::Relaxed),
        identities,
    })
}
