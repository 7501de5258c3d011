//! `OPTIMIZE t`, and changes of a table's columns: fragments written anew.
//!
//! ```text
//!  before   [0 ······✗✗✗✗]  [1 ··········]  [2 ·]  [3 ··]      ✗ ended before the retention began
//!  after    [1 ··········]  [4 ·········]                      0, 2 and 3 became 4
//!
//!  meanwhile, row 5 of fragment 0 is deleted ──▶ catch_up: row 5 of fragment 4
//! ```
//!
//! Rows move to new addresses. The old base stays as it is for the snapshots that read it; whoever publishes
//! the new one calls [`Rewritten::catch_up`] first, while no commit is being applied.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use parking_lot::Mutex;
use triune_common::{Error, Result, boxed};

use super::choice::{RewriteOptions, Worn};
use super::sorted::sorted;
use super::write::{
    KeySink, ROWS_PER_FILE, SORT_MEMORY, ahead, blocking, check_columns, merge, merge_worthwhile, not_empty,
    sync_folder, with_keys, write_deletes,
};
use super::{Base, BaseState, BaseTable, DeleteLog, address};
use crate::stamp::CommitTs;

/// Rows of a batch on its way through a rewrite.
const BATCH_ROWS: usize = 8192;

/// Turns rows of the old stored schema into rows of the new one, one for one.
pub type MapRows = Arc<dyn Fn(RecordBatch) -> Result<RecordBatch> + Send + Sync>;

/// A base whose rows were written anew and that is not published yet.
pub struct Rewritten {
    base: Arc<Base>,
    old: Arc<DeleteLog>,
    moves: Moves,
}

impl fmt::Debug for Rewritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rewritten").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Rewritten {
    /// The new base, with the deletions up to its checkpoint.
    pub fn base(&self) -> &Arc<Base> {
        &self.base
    }

    /// Takes over the deletions that hit the old base after the checkpoint. To be called by whoever marks
    /// deletions, right before marks go to the new base; no input or output, some 100 ns a deletion.
    pub fn catch_up(&self) -> Arc<Base> {
        let late = self.old.after(self.base.checkpoint());
        let moved = late.into_iter().filter_map(|(a, ts)| self.moves.address(a).map(|a| (a, ts)));
        self.base.deletes().mark_all(moved);
        Arc::clone(&self.base)
    }

    /// Where the row at an address of the old base lies now; `None` for a row that was dropped.
    pub fn address(&self, old: u64) -> Option<u64> {
        self.moves.address(old)
    }
}

/// Where rows went. 4 bytes for each row of a rewritten fragment, until the new base is published.
#[derive(Debug, Default)]
struct Moves {
    /// By old fragment: the place among the new rows of each old row, `u32::MAX` for a dropped one.
    places: HashMap<u32, Vec<u32>>,
    written: u32,
    /// The new fragments and the place of their first row.
    fragments: Vec<(u32, u32)>,
}

impl Moves {
    fn push(&mut self, addresses: &[u64]) -> Result<()> {
        for old in addresses {
            let (fragment, row) = split(*old);
            let place = self.places.get_mut(&fragment).and_then(|p| p.get_mut(row as usize));
            let Some(place) = place else {
                return Err(Error::internal(format!("a rewrite met row {row} of fragment {fragment}")));
            };
            *place = self.written;
            self.written = self
                .written
                .checked_add(1)
                .filter(|n| *n < u32::MAX)
                .ok_or_else(|| Error::invalid("one rewrite can move 2³² rows at most"))?;
        }
        Ok(())
    }

    fn address(&self, old: u64) -> Option<u64> {
        let (fragment, row) = split(old);
        let Some(places) = self.places.get(&fragment) else { return Some(old) };
        let place = places.get(row as usize).copied().filter(|p| *p != u32::MAX)?;
        let i = self.fragments.partition_point(|(_, first)| *first <= place).checked_sub(1)?;
        let (fragment, first) = self.fragments[i];
        Some(address(fragment, place - first))
    }
}

fn split(address: u64) -> (u32, u32) {
    ((address >> 32) as u32, address as u32)
}

impl Base {
    /// Writes fragments anew that are small or have lost many rows; `None` if there are none that are worth
    /// it. Durable on return, not published.
    ///
    /// Nobody may append to this base meanwhile; deletions may go on. *Memory*: 4 bytes for each row that
    /// moves, and what an append needs.
    #[boxed]
    pub async fn rewrite(&self, options: &RewriteOptions) -> Result<Option<Rewritten>> {
        let Some(mask) = self.droppable(options.horizon) else { return Ok(None) };
        let found = self.state.fragments.iter().map(|fragment| {
            let first = address(fragment.id, 0);
            let dropped = mask.range_cardinality(first..first + u64::from(fragment.rows));
            Worn { id: fragment.id, rows: fragment.rows, dropped }
        });
        let found: Vec<Worn> = found.collect();
        let chosen = options.choose(&found);
        let dropped_any = found.iter().any(|f| f.dropped > 0 && chosen.contains(&f.id));
        // One fragment alone is rewritten to lose rows or to be sorted, not to be merged with itself.
        let sorts = options.everything && !self.table.cluster_by.is_empty();
        if chosen.is_empty() || (chosen.len() == 1 && !dropped_any && !sorts) {
            return Ok(None);
        }
        self.write_anew(&chosen, mask, None).await.map(Some)
    }

    /// Writes all rows anew, each batch through `map`, for a table with other columns. Durable on return, not
    /// published; this base stays readable.
    ///
    /// Rows that ended at or before `horizon` are dropped. Errors: those of `map`.
    #[boxed]
    pub async fn convert(&self, into: &Arc<BaseTable>, map: MapRows, horizon: CommitTs) -> Result<Rewritten> {
        let Some(mask) = self.droppable(horizon) else {
            let base = Self::assemble(into, self.state.clone(), None, Arc::new(DeleteLog::new()), None)?;
            return Ok(Rewritten { base, old: Arc::clone(&self.deletes), moves: Moves::default() });
        };
        let all: Vec<u32> = self.state.fragments.iter().map(|f| f.id).collect();
        self.write_anew(&all, mask, Some((into, map))).await
    }

    /// The rows that nobody needs; `None` for a base without any rows.
    fn droppable(&self, horizon: CommitTs) -> Option<Arc<roaring::RoaringTreemap>> {
        self.provider.as_ref()?;
        // Deletions after the checkpoint are in the log, and are applied to these rows again after a crash.
        Some(self.deletes.mask(horizon.min(self.state.checkpoint)))
    }

    async fn write_anew(
        &self,
        chosen: &[u32],
        mask: Arc<roaring::RoaringTreemap>,
        change: Option<(&Arc<BaseTable>, MapRows)>,
    ) -> Result<Rewritten> {
        let Some(provider) = &self.provider else {
            return Err(Error::internal("a base without rows was to be rewritten"));
        };
        let table = change.as_ref().map_or(&self.table, |(into, _)| *into);
        let mut state = self.state.clone();
        if change.is_some() {
            state.indexes.clear();
        }
        let is_chosen = |id: u32| chosen.contains(&id);
        let mut moves = Moves::default();
        for fragment in self.state.fragments.iter().filter(|f| is_chosen(f.id)) {
            moves.places.insert(fragment.id, vec![u32::MAX; fragment.rows as usize]);
        }
        let moves = Arc::new(Mutex::new(moves));
        let rows = provider.with_mask(mask)?.rows_of(chosen, BATCH_ROWS)?;
        let rows = sorted(rows, &self.table.cluster_by, SORT_MEMORY)?;
        let rows = without_addresses(rows, Arc::clone(&moves), table, change.as_ref().map(|(_, m)| m));

        let sink = Arc::new(Mutex::new(KeySink::new(table, state.seed, state.next_file)));
        let rows = match not_empty(rows).await? {
            Some(rows) => {
                check_columns(table, &rows)?;
                Some(ahead(with_keys(rows, Arc::clone(table), Arc::clone(&sink))))
            }
            None => None,
        };
        let commit = match (&change, rows) {
            (None, rows) => {
                let replaced = table.lance.replace_at(&table.url, provider, chosen, rows, ROWS_PER_FILE);
                Some(replaced.await?)
            }
            (Some(_), Some(rows)) => {
                Some(table.lance.append_at(&table.url, None, rows, ROWS_PER_FILE).await?)
            }
            (Some(_), None) => None,
        };
        let sink = std::mem::replace(&mut *sink.lock(), KeySink::new(table, 0, 0));
        let added = commit.as_ref().map_or(&[][..], |c| c.added.as_slice());
        let written = sink.finish(table, added).await?;
        state.lance_version = commit.as_ref().map(|c| c.provider.version());
        state.manifest_sum = commit.as_ref().and_then(|c| c.manifest_sum);
        state.fragments.retain(|f| !is_chosen(f.id));
        state.fragments.extend(written.fragments);
        state.next_file = written.next_file;
        self.forget_keys(table, &mut state, chosen).await?;
        state.keys.extend(written.keys);

        let mut moves = std::mem::take(&mut *moves.lock());
        let mut first = 0;
        for (id, rows) in added {
            moves.fragments.push((*id, first));
            first += rows;
        }
        let deletes = Arc::new(self.deletes.moved(state.checkpoint, |a| moves.address(a)));
        write_deletes(table, &deletes, &mut state)?;
        sync_folder(table)?;
        let provider = commit.map(|c| c.provider);
        let known = change.is_none().then_some(&self.keys);
        let base = Self::assemble(table, state, provider, deletes, known)?;
        Ok(Rewritten { base, old: Arc::clone(&self.deletes), moves })
    }

    /// Leaves the keys of rewritten fragments out of the state; files that mostly hold such keys are merged
    /// into one without them.
    async fn forget_keys(&self, table: &Arc<BaseTable>, state: &mut BaseState, chosen: &[u32]) -> Result<()> {
        for meta in &mut state.keys {
            for segment in &mut meta.segments {
                segment.gone |= chosen.contains(&segment.fragment);
            }
        }
        state.keys.retain(|meta| meta.segments.iter().any(|s| !s.gone));
        let (worn, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut state.keys).into_iter().partition(|meta| {
            let rows = |gone: bool| -> u64 {
                meta.segments.iter().filter(|s| s.gone == gone).map(|s| u64::from(s.rows)).sum()
            };
            rows(true) >= rows(false)
        });
        state.keys = kept;
        if !merge_worthwhile(&worn) {
            state.keys.extend(worn);
            return Ok(());
        }
        let number = state.next_file;
        state.next_file += 1;
        let (table, seed) = (Arc::clone(table), state.seed);
        let merged = blocking(move || merge(&table, seed, &worn, number)).await?;
        state.keys.extend(merged);
        Ok(())
    }
}

/// Notes and removes the last column, the address that each row had; maps what is left.
fn without_addresses(
    rows: SendableRecordBatchStream,
    moves: Arc<Mutex<Moves>>,
    table: &Arc<BaseTable>,
    map: Option<&MapRows>,
) -> SendableRecordBatchStream {
    let (schema, map) = (Arc::clone(&table.schema), map.map(Arc::clone));
    let out = Arc::clone(&schema);
    let rows = rows.map(move |batch| {
        let batch = batch?;
        let last = batch.num_columns() - 1;
        let addresses = batch.column(last).as_primitive_opt::<UInt64Type>();
        let addresses = addresses.ok_or_else(|| Error::internal("rows of a rewrite have no addresses"));
        let step = |addresses: &[u64]| {
            moves.lock().push(addresses)?;
            let rows = batch.project(&(0..last).collect::<Vec<_>>())?;
            let mapped = match &map {
                Some(map) => map(rows)?,
                None => rows,
            };
            if mapped.num_rows() != addresses.len() {
                return Err(Error::internal("a change of columns changed how many rows there are"));
            }
            Ok(RecordBatch::try_new(Arc::clone(&schema), mapped.columns().to_vec())?)
        };
        addresses.and_then(|a| step(a.values())).map_err(DataFusionError::from)
    });
    Box::pin(RecordBatchStreamAdapter::new(out, rows))
}
