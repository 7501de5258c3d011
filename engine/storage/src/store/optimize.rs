//! `OPTIMIZE t` and `VACUUM t`.
//!
//! OPTIMIZE checkpoints, then writes fragments anew that are small or have lost many rows; the old ones stay on
//! disk for those who read them. VACUUM removes what neither the published state nor a reader needs, in this
//! process or another (`readers`). The keeper does both by itself, sparingly (`keeper`).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use triune_common::{Result, boxed};

use super::Store;
use super::checkpoint::store_state;
use super::shared::Place;
use super::state::{State, TableState};
use crate::base::{BaseState, RewriteOptions};
use crate::stamp::TableId;
use crate::wal::SegmentId;

impl Store {
    /// Rewrites a table's base: small fragments merged, superseded rows dropped, clustering restored.
    #[boxed]
    pub async fn optimize(&self, table: TableId) -> Result<()> {
        let Some(place) = self.shared.place.clone() else { return Ok(()) };
        self.check_writable()?;
        let _bases = self.shared.bases.lock().await;
        let (applied, _) = self.checkpoint_locked(&place).await?;
        let (_, version) = self.shared.current();
        let horizon = self.shared.pins.oldest().unwrap_or(applied).min(applied);
        let everything = !version.table(table)?.def.cluster_by.is_empty();
        drop(version);
        let options = RewriteOptions { everything, ..RewriteOptions::new(horizon) };
        self.rewrite_locked(&place, table, &options).await.map(drop)
    }

    /// Rewrites and publishes what the options choose; `false` when that was nothing. The caller holds the lock of
    /// the bases.
    pub(super) async fn rewrite_locked(
        &self,
        place: &Place,
        table: TableId,
        options: &RewriteOptions,
    ) -> Result<bool> {
        let (_, version) = self.shared.current();
        // Dropped meanwhile, or empty.
        let Some(old) = version.table(table).ok().and_then(|t| t.base.clone()) else { return Ok(false) };
        drop(version);
        let Some(rewritten) = old.rewrite(options).await? else { return Ok(false) };
        let (place, next_table) = (place.clone(), self.next_table());
        self.driver
            .run(move |committer| {
                committer.check_writable()?;
                let mut next = committer.version.as_ref().clone();
                let now = next.tables.get(&table).and_then(|t| t.base.as_ref());
                // Emptied meanwhile: what was written is not needed.
                if !now.is_some_and(|now| Arc::ptr_eq(now, &old)) {
                    return Ok(false);
                }
                committer.replace_base(&mut next, table, rewritten.catch_up(), None)?;
                let state = State::load(place.fs.as_ref(), &place.folder)?;
                let segment = SegmentId(state.first_segment.max(1));
                store_state(committer, &place, &next.tables, state.checkpoint, segment, next_table)?;
                committer.version = Arc::new(next);
                committer.publish();
                Ok(true)
            })
            .await
    }

    /// Deletes files that nobody needs; returns the bytes that became free.
    #[boxed]
    pub async fn vacuum(&self, table: TableId) -> Result<u64> {
        if self.shared.place.is_none() {
            return Ok(0);
        }
        self.check_writable()?;
        let (_, version) = self.shared.current();
        version.table(table)?;
        drop(version);
        self.remove_needless(table, false).await
    }

    /// The same; `spare`: files that a state named until a short time ago stay.
    pub(super) async fn remove_needless(&self, table: TableId, spare: bool) -> Result<u64> {
        let Some(at) = &self.shared.place else { return Ok(0) };
        let _bases = self.shared.bases.lock().await;
        let kept = self.kept(at, table, spare)?;
        self.remove_stale(at, table, &kept)?;
        let (_, version) = self.shared.current();
        // Dropped meanwhile, or empty.
        let Some(base) = version.table(table).ok().and_then(|t| t.base.clone()) else { return Ok(0) };
        drop(version);
        let place = base.table();
        let mut keep: Vec<BaseState> = vec![base.state().clone()];
        let readers = self.shared.alive(table);
        keep.extend(readers.iter().filter(|b| Arc::ptr_eq(b.table(), place)).map(|b| b.state().clone()));
        for then in kept {
            if at.base_table(&then.def, then.rows_revision)?.folder() == place.folder() {
                keep.push(then.base);
            }
        }
        let freed = place.vacuum(&keep, self.shared.is_building(table)).await?;
        let gauge = &self.shared.gauge;
        gauge.freed.fetch_add(freed, Ordering::Relaxed);
        gauge.last.lock().vacuum = Some(self.shared.clock.now());
        Ok(freed)
    }

    /// What is published of a table, what its history and readers in other processes need, and with `spare` what
    /// was published a short time ago.
    fn kept(&self, place: &Place, table: TableId, spare: bool) -> Result<Vec<TableState>> {
        // The published state is what a restart begins with, also when the table was emptied since.
        let mut states = vec![State::load(place.fs.as_ref(), &place.folder)?];
        states.extend(super::history::states(place)?);
        states.extend(super::readers::announced(place)?);
        let mut kept: Vec<TableState> = states.iter().filter_map(|s| s.tables.get(&table).cloned()).collect();
        if spare {
            let recent = self.shared.recent(self.shared.clock.now());
            kept.extend(recent.into_iter().filter(|r| r.table == table).map(|r| r.state));
        }
        Ok(kept)
    }

    /// Removes the folders that a table had before it was rewritten or dropped; `false` when somebody still
    /// needs one of them. The caller holds the lock of the bases.
    pub(super) fn remove_stale_folders(&self, place: &Place, table: TableId) -> Result<bool> {
        let kept = self.kept(place, table, false)?;
        self.remove_stale(place, table, &kept)
    }

    fn remove_stale(&self, place: &Place, table: TableId, kept: &[TableState]) -> Result<bool> {
        let (_, version) = self.shared.current();
        let mut needed: Vec<PathBuf> = Vec::new();
        if let Ok(now) = version.table(table) {
            needed.push(place.base_table(&now.def, now.rows_revision)?.folder().to_owned());
        }
        needed.extend(self.shared.alive(table).iter().map(|b| b.table().folder().to_owned()));
        for then in kept {
            needed.push(place.base_table(&then.def, then.rows_revision)?.folder().to_owned());
        }
        let folder = place.folder.join("tables");
        let failed =
            |doing: &str, path: &std::path::Path, e: std::io::Error| crate::fs::io_error(doing, path, &e);
        let elsewhere = place.fs.url(&folder).is_some();
        if !elsewhere && !folder.exists() {
            return Ok(true);
        }
        // On a local disk Lance writes beside the storage's file system: the real one is asked.
        let entries: Vec<PathBuf> = if elsewhere {
            let names = place.fs.list(&folder).map_err(|e| failed("list", &folder, e))?;
            place.fs.confirm().map_err(|e| failed("clean", &folder, e))?;
            names.iter().map(|n| folder.join(n)).collect()
        } else {
            let entries = std::fs::read_dir(&folder).map_err(|e| failed("list", &folder, e))?;
            let paths = entries.map(|e| e.map(|e| e.path()).map_err(|e| failed("list", &folder, e)));
            paths.collect::<Result<_>>()?
        };
        let mut clean = true;
        for path in entries {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let (id, revision) = name.split_once('.').unwrap_or((name, "1"));
            if id != table.to_string() || revision.parse::<u64>().is_err() {
                continue;
            }
            if needed.iter().any(|n| n.ends_with(std::path::Path::new("tables").join(name))) {
                clean &= version.table(table).is_ok();
                continue;
            }
            place.fs.remove_dir_all(&path).map_err(|e| failed("remove", &path, e))?;
            if !elsewhere && path.exists() {
                std::fs::remove_dir_all(&path).map_err(|e| failed("remove", &path, e))?;
            }
        }
        Ok(clean)
    }
}
