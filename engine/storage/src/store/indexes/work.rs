//! Builds under way, and what is known of indexes.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use triune_common::{Error, Result, boxed};
use triune_lance::{BuildProgress, BuiltIndex, IndexMethod, PhysicalIndex};
use uuid::Uuid;

use super::super::Store;
use super::super::shared::Shared;
use super::super::version::TableVersion;
use crate::base::{Base, IndexStamp};
use crate::hot::VisibleBatch;
use crate::stamp::TableId;
use crate::table::IndexDef;

/// Lance indexes that were built, with their stamp; `None`: there was too little to build from.
pub(super) type Built = Option<(Vec<BuiltIndex>, IndexStamp)>;

/// See the module's description.
#[derive(Debug, Default)]
pub(in super::super) struct IndexWork {
    builds: Mutex<Builds>,
    /// What went wrong last with an index, by its name.
    pub(super) errors: Mutex<BTreeMap<(TableId, String), String>>,
}

#[derive(Debug, Default)]
struct Builds {
    next: u64,
    running: BTreeMap<u64, Running>,
}

#[derive(Debug)]
struct Running {
    table: TableId,
    index: IndexDef,
    started: DateTime<Utc>,
    progress: Arc<BuildProgress>,
}

/// A build that is under way as long as this lives.
#[derive(Debug)]
pub(super) struct Build {
    shared: Arc<Shared>,
    key: u64,
    pub(super) progress: Arc<BuildProgress>,
}

impl Drop for Build {
    fn drop(&mut self) {
        self.shared.index_work.builds.lock().running.remove(&self.key);
    }
}

impl Shared {
    /// Whether an index of the table is being built.
    pub(in super::super) fn is_building(&self, table: TableId) -> bool {
        self.index_work.builds.lock().running.values().any(|b| b.table == table)
    }

    pub(super) fn begin_build(self: &Arc<Self>, table: TableId, index: &IndexDef) -> Build {
        let progress = Arc::new(BuildProgress::default());
        let mut builds = self.index_work.builds.lock();
        builds.next += 1;
        let key = builds.next;
        let running = Running {
            table,
            index: index.clone(),
            started: self.clock.now(),
            progress: Arc::clone(&progress),
        };
        builds.running.insert(key, running);
        drop(builds);
        Build { shared: Arc::clone(self), key, progress }
    }

    /// Builds an index over the base as it is now.
    pub(super) async fn build_index(self: &Arc<Self>, table: TableId, index: &IndexDef) -> Result<Built> {
        let build = self.begin_build(table, index);
        let (_, version) = self.current();
        let base = version.table(table)?.base.clone();
        drop(version);
        let done = Box::pin(self.build_on(base, index, &build)).await;
        let key = (table, index.name.clone());
        let mut errors = self.index_work.errors.lock();
        match &done {
            Ok(_) => drop(errors.remove(&key)),
            Err(e) => drop(errors.insert(key, e.message().to_owned())),
        }
        done
    }

    async fn build_on(&self, base: Option<Arc<Base>>, index: &IndexDef, build: &Build) -> Result<Built> {
        let (Some(base), Some(place)) = (base, &self.place) else { return Ok(None) };
        let Some(provider) = base.unmasked() else { return Ok(None) };
        if base.rows() < index.method.least_rows() {
            return Ok(None);
        }
        let started = self.clock.now();
        let mut all = Vec::new();
        for spec in index.specs() {
            let mut id = [0; 16];
            place.rng.fill(&mut id);
            let id = uuid::Builder::from_random_bytes(id).into_uuid();
            match build_one(&base, provider, &spec, id, &build.progress).await? {
                Some(built) => all.push(built),
                None => return Ok(None),
            }
        }
        build.progress.enter("publish");
        let now = self.clock.now();
        let build_millis = u64::try_from((now - started).num_milliseconds()).unwrap_or(0);
        Ok(Some((all, IndexStamp { trained_rows: base.rows(), build_millis, upkeep: now })))
    }
}

async fn build_one(
    base: &Arc<Base>,
    provider: &triune_lance::LanceProvider,
    spec: &triune_lance::IndexSpec,
    id: Uuid,
    progress: &Arc<BuildProgress>,
) -> Result<Option<BuiltIndex>> {
    base.table().lance().build_index(provider, spec, id, progress).await.map_err(|e| {
        let said = e.message().to_owned();
        Error::new(e.kind(), format!("the index \"{}\" cannot be built: {said}", spec.name))
    })
}

/// How an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexState {
    /// It is there and is used.
    Ready,
    /// It is being built for the first time.
    Building,
    /// It waits for rows, or for the keeper.
    Pending,
    /// It could not be built or read; rows are compared one by one.
    Failed,
}

impl IndexState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Building => "building",
            Self::Pending => "pending",
            Self::Failed => "failed",
        }
    }
}

/// A line of `system.indexes`.
#[derive(Debug, Clone)]
pub struct IndexInfo {
    pub table: TableId,
    pub index: IndexDef,
    pub state: IndexState,
    /// Rows of the base that it covers, rows deleted since included.
    pub rows_indexed: u64,
    /// Rows of the base that it does not cover.
    pub rows_unindexed: u64,
    /// Rows in memory.
    pub rows_hot: u64,
    pub bytes_on_disk: Option<u64>,
    /// What of a full-text index is held; of others it is not known.
    pub bytes_in_memory: Option<u64>,
    pub build_seconds: Option<f64>,
    pub last_upkeep: Option<DateTime<Utc>>,
    pub note: Option<String>,
}

/// A line of `system.index_progress`.
#[derive(Debug, Clone)]
pub struct IndexProgressInfo {
    pub table: TableId,
    pub index: String,
    pub started: DateTime<Utc>,
    pub stage: String,
    pub done: u64,
    pub total: Option<u64>,
    pub unit: String,
    /// Stages that are behind it.
    pub finished: u64,
}

impl Store {
    /// Builds that are under way.
    pub fn index_progress(&self) -> Vec<IndexProgressInfo> {
        let builds = self.shared.index_work.builds.lock();
        builds
            .running
            .values()
            .map(|b| {
                let now = b.progress.snapshot();
                IndexProgressInfo {
                    table: b.table,
                    index: b.index.name.clone(),
                    started: b.started,
                    stage: now.stage,
                    done: now.done,
                    total: now.total,
                    unit: now.unit,
                    finished: now.finished,
                }
            })
            .collect()
    }

    /// All indexes with their states, in the order of tables; those that are being made come last.
    #[boxed]
    pub async fn indexes(&self) -> Result<Vec<IndexInfo>> {
        let snapshot = self.snapshot();
        let mut out = Vec::new();
        for (id, table) in &snapshot.version().tables {
            if table.def.indexes.is_empty() {
                continue;
            }
            let mut hot = 0;
            for memtable in &table.memtables {
                hot += memtable.view(snapshot.ts()).iter().map(VisibleBatch::rows).sum::<usize>() as u64;
            }
            let physical = physical(table).await?;
            for index in &table.def.indexes {
                out.push(self.info(*id, table, index, &physical, hot));
            }
        }
        for running in self.shared.index_work.builds.lock().running.values() {
            let known = |i: &IndexInfo| i.table == running.table && i.index.name == running.index.name;
            if !out.iter().any(known) {
                out.push(IndexInfo {
                    table: running.table,
                    index: running.index.clone(),
                    state: IndexState::Building,
                    rows_indexed: 0,
                    rows_unindexed: 0,
                    rows_hot: 0,
                    bytes_on_disk: None,
                    bytes_in_memory: None,
                    build_seconds: None,
                    last_upkeep: None,
                    note: None,
                });
            }
        }
        Ok(out)
    }

    fn info(
        &self,
        id: TableId,
        table: &TableVersion,
        index: &IndexDef,
        physical: &[PhysicalIndex],
        rows_hot: u64,
    ) -> IndexInfo {
        let parts: Vec<_> =
            index.lance_names().iter().map(|n| physical.iter().find(|p| p.name == *n)).collect();
        let rows = table.base.as_ref().map_or(0, |b| b.rows());
        let indexed = parts.iter().map(|p| p.map_or(0, |p| p.rows_indexed)).min().unwrap_or(0);
        let bytes = parts.iter().map(|p| p.and_then(|p| p.bytes)).sum::<Option<u64>>();
        let stamp = table.base.as_ref().and_then(|b| b.state().indexes.get(&index.name));
        let held = table.base.as_ref().and_then(|b| b.unmasked()).map(|p| p.text_index_bytes());
        let held = held.filter(|_| index.method == IndexMethod::FullText).map(|all| {
            let bytes = index.lance_names().iter().filter_map(|n| all.get(n)).sum::<usize>();
            bytes as u64
        });
        let damaged = table.base.as_ref().and_then(|b| b.unmasked()).map(|p| p.damaged_indexes());
        let damage = damaged.and_then(|all| index.lance_names().iter().find_map(|n| all.get(n).cloned()));
        let error = self.shared.index_work.errors.lock().get(&(id, index.name.clone())).cloned();
        let there = parts.iter().all(Option::is_some);
        let building = {
            let builds = self.shared.index_work.builds.lock();
            builds.running.values().any(|b| b.table == id && b.index.name == index.name)
        };
        let (state, note) = match (damage, there) {
            (Some(why), _) => (
                IndexState::Failed,
                Some(format!("damaged, rows are compared one by one; REINDEX builds it again: {why}")),
            ),
            (None, true) => (IndexState::Ready, error),
            (None, false) if building => (IndexState::Building, error),
            (None, false) if error.is_some() => (IndexState::Failed, error),
            (None, false) => (IndexState::Pending, Some(self.why_pending(index, rows))),
        };
        IndexInfo {
            table: id,
            index: index.clone(),
            state,
            rows_indexed: indexed,
            rows_unindexed: rows.saturating_sub(indexed),
            rows_hot,
            bytes_on_disk: bytes.filter(|_| there),
            bytes_in_memory: held.filter(|_| there),
            build_seconds: stamp.map(|s| s.build_millis as f64 / 1000.0),
            last_upkeep: stamp.map(|s| s.upkeep),
            note,
        }
    }

    fn why_pending(&self, index: &IndexDef, rows: u64) -> String {
        let least = index.method.least_rows();
        if self.shared.place.is_none() {
            "the database is in memory, where rows are compared one by one".to_owned()
        } else if rows < least {
            format!("it is built when {least} rows are on disk; until then rows are compared one by one")
        } else {
            "rows are compared one by one until it is built".to_owned()
        }
    }
}

/// The Lance indexes of a table's base.
pub(super) async fn physical(table: &TableVersion) -> Result<Vec<PhysicalIndex>> {
    match table.base.as_ref().and_then(|b| b.unmasked()) {
        Some(provider) => provider.physical_indexes().await,
        None => Ok(Vec::new()),
    }
}
