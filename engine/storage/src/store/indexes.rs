//! Indexes of tables: made, changed, built again, dropped.
//!
//! ```text
//!  CREATE INDEX   checkpoint · build on the base as it is then, nobody waits ──▶ publish: definition and index,
//!                                                                                one Lance version, one state.json
//!  keeper         a definition without an index, many rows beyond it ─ build, extend ──▶ publish the index
//! ```
//!
//! A build holds no lock; what checkpoints and OPTIMIZE did meanwhile stays, the rows that they moved are read as
//! they are until the next upkeep. A crash leaves the state before or the one after; files that no state names are
//! swept by VACUUM. Definitions change without a new revision of the table, so no transaction fails for it.
//!
//! An index is never needed: where it is missing or damaged, rows are read and compared one by one.

mod upkeep;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

use triune_common::{Error, ErrorKind, Result, boxed};
use triune_lance::BuiltIndex;

use super::Store;
use super::checkpoint::store_state;
use super::state::State;
use crate::base::{Base, IndexStamp};
use crate::stamp::TableId;
use crate::table::{IndexDef, TableDef};
use crate::wal::SegmentId;

pub(super) use upkeep::Indexer;
pub(super) use work::IndexWork;
pub use work::{IndexInfo, IndexProgressInfo, IndexState};

/// What a change of definitions does to the Lance indexes.
#[derive(Debug, Default)]
pub(super) struct Edit {
    built: Vec<BuiltIndex>,
    /// For the index of this name.
    stamp: Option<(String, IndexStamp)>,
    /// Names of Lance indexes.
    dropped: Vec<String>,
    renamed: Vec<(String, String)>,
}

impl Edit {
    fn of(index: &IndexDef, built: work::Built) -> Self {
        match built {
            Some((built, stamp)) => {
                Self { built, stamp: Some((index.name.clone(), stamp)), ..Self::default() }
            }
            None => Self::default(),
        }
    }

    /// The index is there without rows: what there was of it goes.
    fn or_without(mut self, index: &IndexDef) -> Self {
        if self.built.is_empty() {
            self.dropped.extend(index.lance_names());
        }
        self
    }
}

impl Store {
    /// Makes an index and builds it over the rows that are there; reads and writes go on meanwhile. With too few
    /// rows it is defined only, and built when there are enough.
    ///
    /// Dropping the future leaves nothing behind. Errors: already-exists for a name that the table has; conflict
    /// when the table's columns were changed meanwhile; those of the build.
    #[boxed]
    pub async fn create_index(&self, table: TableId, index: IndexDef) -> Result<Arc<TableDef>> {
        self.check_writable()?;
        self.snapshot().version().table(table)?;
        // Rows in memory are found without it; those that there are now are to be in it.
        self.checkpoint().await?;
        let built = self.shared.build_index(table, &index).await?;
        self.publish_indexes(table, move |def| {
            if def.index(&index.name).is_some() {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    format!("the index \"{}\" exists already", index.name),
                ));
            }
            check_columns(def, &index)?;
            let edit = Edit::of(&index, built);
            def.indexes.push(index);
            Ok(edit)
        })
        .await
    }

    /// Takes an index away; its files go with the next VACUUM.
    #[boxed]
    pub async fn drop_index(&self, table: TableId, name: &str) -> Result<Arc<TableDef>> {
        let name = name.to_owned();
        self.publish_indexes(table, move |def| {
            let index = def.index(&name).cloned().ok_or_else(|| missing(&name))?;
            def.indexes.retain(|i| i.name != name);
            Ok(Edit { dropped: index.lance_names(), ..Edit::default() })
        })
        .await
    }

    #[boxed]
    pub async fn rename_index(&self, table: TableId, from: &str, to: &str) -> Result<Arc<TableDef>> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.publish_indexes(table, move |def| {
            let index = def.indexes.iter_mut().find(|i| i.name == from).ok_or_else(|| missing(&from))?;
            let before = index.lance_names();
            index.name.clone_from(&to);
            let renamed = before.into_iter().zip(index.lance_names()).collect();
            Ok(Edit { renamed, ..Edit::default() })
        })
        .await
    }

    /// Gives an index other parameters. It is built again if it has to be, and is as it was until then.
    #[boxed]
    pub async fn alter_index(&self, table: TableId, next: IndexDef) -> Result<Arc<TableDef>> {
        self.check_writable()?;
        let current = self.snapshot();
        let old = current.version().table(table)?.definition().index(&next.name).cloned();
        drop(current);
        let old = old.ok_or_else(|| missing(&next.name))?;
        if old.is_built_like(&next) {
            return self
                .publish_indexes(table, move |def| {
                    replace(def, &old, next)?;
                    Ok(Edit::default())
                })
                .await;
        }
        self.checkpoint().await?;
        let built = self.shared.build_index(table, &next).await?;
        self.publish_indexes(table, move |def| {
            let edit = Edit::of(&next, built).or_without(&old);
            replace(def, &old, next)?;
            Ok(edit)
        })
        .await
    }

    /// Builds an index anew over all rows. Searches use the old one, if it can be read, until then.
    #[boxed]
    pub async fn rebuild_index(&self, table: TableId, name: &str) -> Result<()> {
        self.check_writable()?;
        self.checkpoint().await?;
        let current = self.snapshot();
        let index = current.version().table(table)?.definition().index(name).cloned();
        drop(current);
        let index = index.ok_or_else(|| missing(name))?;
        let built = self.shared.build_index(table, &index).await?;
        self.publish_built(table, index, built, true).await
    }

    /// Publishes what was built for an index, unless it was dropped or changed meanwhile.
    async fn publish_built(
        &self,
        table: TableId,
        index: IndexDef,
        built: work::Built,
        replaces: bool,
    ) -> Result<()> {
        let done = self.publish_indexes(table, move |def| {
            if !def.index(&index.name).is_some_and(|i| i.is_built_like(&index)) {
                return Ok(Edit::default());
            }
            let edit = Edit::of(&index, built);
            Ok(if replaces { edit.or_without(&index) } else { edit })
        });
        done.await.map(drop)
    }

    /// Changes the definitions of a table's indexes and its Lance indexes in one step. `change` runs once, on
    /// the definition that holds then.
    async fn publish_indexes(
        &self,
        id: TableId,
        change: impl FnOnce(&mut TableDef) -> Result<Edit>,
    ) -> Result<Arc<TableDef>> {
        self.check_writable()?;
        let _bases = self.shared.bases.lock().await;
        let (_, version) = self.shared.current();
        let table = Arc::clone(version.table(id)?);
        drop(version);
        let mut def = table.def.as_ref().clone();
        let edit = change(&mut def)?;
        let defined = def != *table.def;
        if defined {
            def.index_revision += 1;
        }
        let def = Arc::new(def);
        let old = table.base.clone();
        let base = match &old {
            Some(base) => Some(with_edit(base, &def, edit).await?),
            None => None,
        };
        let changed = match (&base, &old) {
            (Some(new), Some(old)) => new.state() != old.state(),
            _ => false,
        };
        if !defined && !changed {
            return Ok(def);
        }
        let (place, next_table, out) = (self.shared.place.clone(), self.next_table(), Arc::clone(&def));
        self.driver
            .run(move |committer| {
                committer.check_writable()?;
                let mut next = committer.version.as_ref().clone();
                let mut now = next.table(id)?.as_ref().clone();
                now.def = def;
                let same = match (&now.base, &old) {
                    (Some(now), Some(old)) => Arc::ptr_eq(now, old),
                    _ => false,
                };
                // Emptied meanwhile: the definition stays, what was written is not needed.
                if let Some(base) = base.filter(|_| same) {
                    committer.shared.track(id, &base);
                    now.base = Some(base);
                }
                next.tables.insert(id, Arc::new(now));
                if let Some(place) = &place {
                    let state = State::load(place.fs.as_ref(), &place.folder)?;
                    let segment = SegmentId(state.first_segment.max(1));
                    store_state(committer, place, &next.tables, state.checkpoint, segment, next_table)?;
                }
                committer.version = Arc::new(next);
                committer.publish();
                Ok(())
            })
            .await?;
        Ok(out)
    }
}

/// The base with the Lance indexes that an edit makes.
async fn with_edit(base: &Arc<Base>, def: &TableDef, edit: Edit) -> Result<Arc<Base>> {
    let mut stamps = base.state().indexes.clone();
    for (from, to) in &edit.renamed {
        // Indexes of several columns have a stamp of their own name.
        let plain = |name: &String| name.split(':').next().unwrap_or(name).to_owned();
        if let Some(stamp) = stamps.remove(&plain(from)) {
            stamps.insert(plain(to), stamp);
        }
    }
    stamps.extend(edit.stamp);
    stamps.retain(|name, _| def.index(name).is_some());
    let stamps: BTreeMap<String, IndexStamp> = stamps;
    base.with_indexes(edit.built, &edit.dropped, &edit.renamed, stamps).await
}

fn replace(def: &mut TableDef, old: &IndexDef, next: IndexDef) -> Result<()> {
    match def.indexes.iter_mut().find(|i| *i == old) {
        Some(found) => {
            *found = next;
            Ok(())
        }
        None => Err(Error::new(
            ErrorKind::Conflict,
            format!("the index \"{}\" was changed by another session meanwhile", old.name),
        )),
    }
}

/// The table may have been altered while the index was being built.
fn check_columns(def: &TableDef, index: &IndexDef) -> Result<()> {
    for name in &index.columns {
        let column = def.column(name).ok_or_else(|| {
            Error::new(
                ErrorKind::Conflict,
                format!("the column \"{name}\" was dropped or renamed by another session meanwhile"),
            )
        })?;
        index.method.check_column(&column.field)?;
    }
    Ok(())
}

fn missing(name: &str) -> Error {
    Error::not_found(format!("no index is called \"{name}\""))
}
