//! `OPTIMIZE t` and `VACUUM t`.
//!
//! OPTIMIZE checkpoints, then writes fragments anew that are small or have lost many rows; the old ones stay on
//! disk for those who read them. VACUUM removes what neither the published state nor a running reader of this
//! process needs. Limit: a reader in another process that opened the database before loses its files to VACUUM
//! and has to open it again.

use std::path::PathBuf;
use std::sync::Arc;

use triune_common::{Result, boxed};

use super::Store;
use super::checkpoint::store_state;
use super::shared::Place;
use super::state::State;
use crate::base::{BaseState, RewriteOptions};
use crate::stamp::TableId;

impl Store {
    /// Rewrites a table's base: small fragments merged, superseded rows dropped, clustering restored.
    #[boxed]
    pub async fn optimize(&self, table: TableId) -> Result<()> {
        let Some(place) = self.shared.place.clone() else { return Ok(()) };
        self.check_writable()?;
        let _bases = self.shared.bases.lock().await;
        let (applied, segment) = self.checkpoint_locked(&place).await?;
        let (_, version) = self.shared.current();
        let version = Arc::clone(version.table(table)?);
        let Some(base) = &version.base else { return Ok(()) };
        let horizon = self.shared.pins.oldest().unwrap_or(applied).min(applied);
        let everything = !version.def.cluster_by.is_empty();
        let options = RewriteOptions { everything, ..RewriteOptions::new(horizon) };
        let Some(rewritten) = base.rewrite(&options).await? else { return Ok(()) };
        let next_table = self.next_table();
        let old = Arc::clone(base);
        self.driver
            .run(move |committer| {
                committer.check_writable()?;
                let mut next = committer.version.as_ref().clone();
                let now = next.table(table)?.base.as_ref();
                // Emptied meanwhile: what was written is not needed.
                if !now.is_some_and(|now| Arc::ptr_eq(now, &old)) {
                    return Ok(());
                }
                committer.replace_base(&mut next, table, rewritten.catch_up(), None)?;
                store_state(committer, &place, &next.tables, applied, segment, next_table)?;
                committer.version = Arc::new(next);
                committer.publish();
                Ok(())
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
        let _bases = self.shared.bases.lock().await;
        if let Some(place) = &self.shared.place {
            self.remove_stale_folders(place, table)?;
        }
        let (_, version) = self.shared.current();
        let Some(base) = version.table(table)?.base.clone() else { return Ok(0) };
        drop(version);
        let place = base.table();
        let mut keep: Vec<BaseState> = vec![base.state().clone()];
        let readers = self.shared.alive(table);
        keep.extend(readers.iter().filter(|b| Arc::ptr_eq(b.table(), place)).map(|b| b.state().clone()));
        let folder = place.folder();
        if let Some(at) = &self.shared.place {
            // The published state is what a restart begins with, also when the table was emptied since.
            let published = State::load(at.fs.as_ref(), &at.folder)?;
            for state in super::history::states(at)?.iter().chain([&published]) {
                if let Some(then) = state.tables.get(&table)
                    && at.base_table(&then.def, then.rows_revision)?.folder() == folder
                {
                    keep.push(then.base.clone());
                }
            }
        }
        place.vacuum(&keep, self.shared.is_building(table)).await
    }

    /// Removes the folders that a table had before it was rewritten or dropped; `false` when somebody still
    /// needs one of them. The caller holds the lock of the bases.
    pub(super) fn remove_stale_folders(&self, place: &Place, table: TableId) -> Result<bool> {
        let (_, version) = self.shared.current();
        let mut needed: Vec<PathBuf> = Vec::new();
        if let Ok(now) = version.table(table) {
            needed.push(place.base_table(&now.def, now.rows_revision)?.folder().to_owned());
        }
        needed.extend(self.shared.alive(table).iter().map(|b| b.table().folder().to_owned()));
        let published = State::load(place.fs.as_ref(), &place.folder)?;
        for state in super::history::states(place)?.iter().chain([&published]) {
            if let Some(then) = state.tables.get(&table) {
                needed.push(place.base_table(&then.def, then.rows_revision)?.folder().to_owned());
            }
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
