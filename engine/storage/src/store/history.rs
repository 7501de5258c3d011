//! Time travel: `FROM t AT (VERSION => …)`, `triune_versions('t')`.
//!
//! ```text
//!  history/1763846400000001.json   the state that was published then; it names the base's version and the
//!  history/1763846500000007.json   first WAL segment that came after it
//!  state.json                      the state of now
//!
//!  the table at T  =  the newest state not after T, and the WAL's commits from there up to T
//! ```
//!
//! States, their bases and their WAL segments are kept as long as the longest retention of any table. What
//! happened since the last checkpoint is in the hot store with its times, and is readable without any of this.
//!
//! Cost: reading an old version applies the WAL since the checkpoint before it, in memory.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::catalog::TableProvider;
use triune_common::{Error, ErrorKind, Result, boxed};

use super::Store;
use super::provider::StoreProvider;
use super::recovery::{Recovered, recover};
use super::shared::Place;
use super::state::State;
use super::version::Snapshot;
use crate::fs::io_error;
use crate::stamp::{CommitTs, TableId};
use crate::wal::SegmentId;
use crate::wal::record::Record;

/// One commit that changed a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionInfo {
    pub version: CommitTs,
    /// `write`, `truncate`, `load`.
    pub operation: &'static str,
    pub inserted: u64,
    pub deleted: u64,
}

fn folder(place: &Place) -> PathBuf {
    place.folder.join("history")
}

/// The states of the history, oldest first.
pub(super) fn states(place: &Place) -> Result<Vec<State>> {
    let folder = folder(place);
    let failed = |e: std::io::Error| io_error("read", &folder, &e);
    if !place.fs.exists(&folder).map_err(failed)? {
        return Ok(Vec::new());
    }
    let names = place.fs.list(&folder).map_err(failed)?;
    let mut found = Vec::new();
    for name in names.iter().filter(|n| n.ends_with(".json")) {
        found.push(State::load_from(place.fs.as_ref(), &folder.join(name))?);
    }
    found.sort_by_key(State::latest);
    Ok(found)
}

/// The first WAL segment that the published state or the history needs.
pub(super) fn first_segment(place: &Place, state: &State) -> Result<SegmentId> {
    let oldest = states(place)?.iter().map(|s| s.first_segment).min();
    Ok(SegmentId(oldest.unwrap_or(state.first_segment).min(state.first_segment).max(1)))
}

/// Puts the published state into the history, which forgets what is older than `retention` seconds. Returns the
/// first WAL segment that the history needs.
pub(super) fn keep(
    place: &Place,
    published: &State,
    retention: u64,
    now: DateTime<Utc>,
) -> Result<Option<SegmentId>> {
    let folder = folder(place);
    let path = |s: &State| folder.join(format!("{:020}.json", s.latest().0));
    if retention > 0 {
        place.fs.create_dir_all(&folder).map_err(|e| io_error("make", &folder, &e))?;
        // OPTIMIZE publishes the same commits in other files: those are the ones to keep.
        published.store_to(place.fs.as_ref(), &path(published))?;
    }
    let mut kept = states(place)?;
    let horizon = u64::try_from(now.timestamp_micros())
        .unwrap_or(0)
        .saturating_sub(retention.saturating_mul(1_000_000));
    // The newest state before the horizon is what the versions right after the horizon are made from.
    let needless = match retention {
        0 => kept.len(),
        _ => kept.partition_point(|s| s.latest().0 <= horizon).saturating_sub(1),
    };
    for state in kept.drain(..needless) {
        let path = path(&state);
        place.fs.remove(&path).map_err(|e| io_error("remove", &path, &e))?;
    }
    Ok(kept.iter().map(|s| SegmentId(s.first_segment)).min())
}

/// Forgets all older states: the log that they need is gone.
pub(super) fn forget(place: &Place) -> Result<()> {
    let folder = folder(place);
    let failed = |doing: &str, e: std::io::Error| io_error(doing, &folder, &e);
    if !place.fs.exists(&folder).map_err(|e| failed("read", e))? {
        return Ok(());
    }
    for name in place.fs.list(&folder).map_err(|e| failed("read", e))? {
        place.fs.remove(&folder.join(name)).map_err(|e| failed("empty", e))?;
    }
    Ok(())
}

impl Store {
    /// The table as it was at the latest commit not after `at`.
    ///
    /// Errors: invalid when `at` lies in the future, before the table was made, or further back than is kept.
    #[boxed]
    pub async fn provider_at(&self, table: TableId, at: CommitTs) -> Result<Arc<dyn TableProvider>> {
        // While the bases stand still: a checkpoint forgets the times of deletions before the oldest pin.
        let bases = self.shared.bases.lock().await;
        let snapshot = self.shared.snapshot();
        let pin = self.shared.pins.pin(at.min(snapshot.ts));
        let version = Arc::clone(snapshot.version.table(table)?);
        if at > CommitTs::after(snapshot.ts, self.shared.clock.now()) {
            return Err(Error::invalid(format!("{} ({at}) lies in the future", at.time())));
        }
        let created = version.def.created;
        if at < created {
            return Err(Error::invalid(format!(
                "the table was made at {} and has no version from before, as {} ({at}) is",
                created.time(),
                at.time()
            )));
        }
        if at >= version.since {
            let then = Snapshot { ts: at.min(snapshot.ts), version: snapshot.version, _pin: pin };
            return Ok(Arc::new(StoreProvider::new(version.def.scan_schema(), version, then, None))
                as Arc<dyn TableProvider>);
        }
        let Some(place) = &self.shared.place else {
            return Err(Error::invalid(
                "a database in memory keeps no versions from before a TRUNCATE or an ALTER",
            ));
        };
        // Still locked: VACUUM must not take the files away before the base is known to be read.
        let mut states = states(place)?;
        states.push(State::load(place.fs.as_ref(), &place.folder)?);
        let first_def = states.iter().find_map(|s| s.tables.get(&table));
        let first_def = first_def
            .map_or_else(|| (version.rows_revision, version.def.as_ref()), |t| (t.rows_revision, &t.def));
        let found = states.iter().rev().find_map(|s| match s.tables.get(&table) {
            Some(t) => (t.applied <= at).then(|| (s, t.def.clone())),
            // Made after this state was published: all of its rows are in the WAL.
            None => (s.latest() <= at && first_def.0 <= 1).then(|| (s, first_def.1.clone())),
        });
        let Some((state, def)) = found else {
            let retention = version.def.options.retention_seconds;
            let oldest = states.iter().filter_map(|s| s.tables.get(&table)).map(|t| t.applied).min();
            let oldest = oldest.unwrap_or(version.since);
            return Err(Error::invalid(format!(
                "the version {at} of the table is not kept any more; the oldest that can be read is {oldest} ({})",
                oldest.time()
            ))
            .with_hint(format!(
                "the table's retention is {retention} s; ALTER TABLE … SET (retention = '7 days') keeps more from now on"
            )));
        };
        let first = SegmentId(state.first_segment.max(1));
        let replay = place.read_log(state, first)?;
        let Recovered { version, .. } = recover(place, state, vec![def], replay, at).await?;
        let then = Snapshot { ts: at, version: Arc::clone(&version), _pin: pin };
        let table = Arc::clone(version.table(table)?);
        if let Some(base) = &table.base {
            self.shared.track(table.def.id, base);
        }
        drop(bases);
        Ok(Arc::new(StoreProvider::new(table.def.scan_schema(), table, then, None)) as Arc<dyn TableProvider>)
    }

    /// The commits that changed a table, newest first, as far back as they are kept; of a database in memory
    /// there is no list.
    pub fn versions(&self, table: TableId) -> Result<Vec<VersionInfo>> {
        let Some(place) = &self.shared.place else { return Ok(Vec::new()) };
        let state = State::load(place.fs.as_ref(), &place.folder)?;
        let first = first_segment(place, &state)?;
        let (_, version) = self.shared.current();
        let schema = version.table(table)?.def.stored_schema();
        let mut found = Vec::new();
        for frame in place.read_log(&state, first)? {
            let (_, bytes) = frame?;
            let schema_of = |id: TableId, _| (id == table).then(|| Arc::clone(&schema));
            match Record::decode(&bytes, &schema_of) {
                Ok(Record::Commit(commit)) => {
                    found.extend(commit.changes.iter().filter(|c| c.table == table).map(|c| VersionInfo {
                        version: commit.ts,
                        operation: if c.truncate { "truncate" } else { "write" },
                        inserted: c.inserts.as_ref().map_or(0, |r| r.num_rows() as u64),
                        deleted: c.deletes.len() as u64,
                    }));
                }
                Ok(Record::Base(base)) if base.table == table => {
                    found.extend(base.state["loaded"].as_u64().map(|inserted| VersionInfo {
                        version: base.ts,
                        operation: "load",
                        inserted,
                        deleted: 0,
                    }));
                }
                Ok(Record::Base(_)) => {}
                // Rows of an older definition, from before an ALTER TABLE.
                Err(e) if e.kind() == ErrorKind::Data => {}
                Err(e) => return Err(e),
            }
        }
        found.reverse();
        Ok(found)
    }
}
