//! The keeper's part for indexes: builds those that are missing, takes new rows into the others, trains anew.
//!
//! | found                                                             | done                      |
//! |-------------------------------------------------------------------|---------------------------|
//! | no index, enough rows                                             | build                     |
//! | more rows beyond it than 10,000 and 5 % of the table               | extend: another segment   |
//! | the same, with four segments, or an index of another kind          | extend: one segment of all |
//! | twice the rows that it was trained on, less than half covered,     | build anew                |
//! | or many rows beyond it in a table of at most 50,000                |                           |
//!
//! A table is looked at when its base or its definitions have changed. What failed is tried again then.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use triune_common::Result;
use triune_lance::PhysicalIndex;

use super::super::Store;
use super::super::version::TableVersion;
use super::work::{Built, physical};
use crate::stamp::TableId;
use crate::table::IndexDef;

/// How often the tables are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Fewer rows beyond an index are left to be compared one by one …
const UNINDEXED_ROWS: u64 = 10_000;
/// … and so many parts of a hundred.
const UNINDEXED_PERCENT: u64 = 5;
/// Up to so many rows building anew is as quick as extending.
const SMALL: u64 = 50_000;
/// Searches ask each segment; more are merged into one.
const SEGMENTS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Build,
    /// With so many of the newest segments.
    Extend(usize),
}

/// The task that looks after indexes; ended with the store.
#[derive(Debug)]
pub(in super::super) struct Indexer(tokio::task::JoinHandle<()>);

impl Drop for Indexer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Indexer {
    pub(in super::super) fn start(store: &Arc<Store>, runtime: &tokio::runtime::Handle) -> Self {
        let store = Arc::downgrade(store);
        Self(runtime.spawn(async move {
            let mut seen = BTreeMap::new();
            loop {
                tokio::time::sleep(LOOK).await;
                if !look(&store, &mut seen).await {
                    return;
                }
            }
        }))
    }
}

/// What was seen of a table: the version of its base and of its definitions.
type Seen = BTreeMap<TableId, (Option<u64>, u64, u64)>;

async fn look(store: &Weak<Store>, seen: &mut Seen) -> bool {
    let due: Vec<TableId> = {
        let Some(store) = store.upgrade() else { return false };
        let (_, version) = store.shared.current();
        seen.retain(|id, _| version.tables.contains_key(id));
        let mut due = Vec::new();
        for (id, table) in version.tables.iter().filter(|(_, t)| !t.def.indexes.is_empty()) {
            let now = state_of(table);
            if seen.get(id) != Some(&now) && !store.shared.is_building(*id) {
                seen.insert(*id, now);
                due.push(*id);
            }
        }
        due
    };
    for id in due {
        // What went wrong is noted with the index.
        drop(upkeep(store, id).await);
    }
    true
}

fn state_of(table: &TableVersion) -> (Option<u64>, u64, u64) {
    let version = table.base.as_ref().and_then(|b| b.state().lance_version);
    (version, table.def.revision, table.def.index_revision)
}

impl Store {
    /// Brings the indexes of a table up to date now.
    pub async fn upkeep_indexes(self: &Arc<Self>, table: TableId) -> Result<()> {
        let store = Arc::downgrade(self);
        upkeep(&store, table).await
    }
}

/// One step for each index that needs one. The store is not held while something is built.
async fn upkeep(store: &Weak<Store>, id: TableId) -> Result<()> {
    let (shared, table) = {
        let Some(store) = store.upgrade() else { return Ok(()) };
        let (_, version) = store.shared.current();
        (Arc::clone(&store.shared), Arc::clone(version.table(id)?))
    };
    let found = physical(&table).await?;
    for index in &table.def.indexes {
        let Some(task) = task_for(&table, index, &found) else { continue };
        let built = match task {
            Task::Build => shared.build_index(id, index).await,
            Task::Extend(segments) => {
                let done = extend(&shared, id, &table, index, segments).await;
                // An index that cannot be extended can be built.
                match done {
                    Ok(built) => Ok(built),
                    Err(_) => shared.build_index(id, index).await,
                }
            }
        }?;
        let Some(store) = store.upgrade() else { return Ok(()) };
        if built.is_some() {
            store.publish_built(id, index.clone(), built, false).await?;
        }
    }
    Ok(())
}

async fn extend(
    shared: &Arc<super::super::shared::Shared>,
    id: TableId,
    table: &TableVersion,
    index: &IndexDef,
    segments: usize,
) -> Result<Built> {
    let build = shared.begin_build(id, index);
    build.progress.enter("extend");
    let Some(base) = &table.base else { return Ok(None) };
    let Some(provider) = base.unmasked() else { return Ok(None) };
    let mut all = Vec::new();
    for name in index.lance_names() {
        all.extend(base.table().lance().extend_index(provider, &name, segments).await?);
    }
    let Some(mut stamp) = base.state().indexes.get(&index.name).cloned() else { return Ok(None) };
    stamp.upkeep = shared.clock.now();
    Ok((!all.is_empty()).then_some((all, stamp)))
}

fn task_for(table: &TableVersion, index: &IndexDef, found: &[PhysicalIndex]) -> Option<Task> {
    let base = table.base.as_ref()?;
    let rows = base.rows();
    if rows < index.method.least_rows() {
        return None;
    }
    let parts: Option<Vec<&PhysicalIndex>> =
        index.lance_names().iter().map(|n| found.iter().find(|p| p.name == *n)).collect();
    let Some(parts) = parts else { return Some(Task::Build) };
    let indexed = parts.iter().map(|p| p.rows_indexed).min().unwrap_or(0);
    let segments = parts.iter().map(|p| p.segments).max().unwrap_or(1);
    let beyond = rows.saturating_sub(indexed);
    if indexed == 0 || indexed.saturating_mul(2) < rows {
        return Some(Task::Build);
    }
    if beyond <= UNINDEXED_ROWS.max(rows / 100 * UNINDEXED_PERCENT) {
        return None;
    }
    let trained = base.state().indexes.get(&index.name).map_or(0, |s| s.trained_rows);
    if rows <= SMALL || rows >= trained.saturating_mul(2) {
        return Some(Task::Build);
    }
    let append = index.method.is_vector() && segments < SEGMENTS;
    Some(Task::Extend(if append { 0 } else { segments }))
}
