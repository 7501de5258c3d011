//! The keeper's OPTIMIZE and VACUUM: fragments merged and files removed by themselves.
//!
//! | a table's base                                                   | done                                   |
//! |------------------------------------------------------------------|----------------------------------------|
//! | has 8 small fragments of like size, or one that lost a fifth of its rows | merged, about a file's rows at a time |
//! | has changed, and has been as it is now for ten minutes           | files that nobody needs are removed    |
//!
//! The numbers are those of [`super::Limits`]. A table whose indexes are being built waits. Clustered tables are
//! merged like others: each new fragment is sorted, the order over all of the table is `OPTIMIZE t`'s to restore.
//!
//! What is merged is in no index; the indexes' own upkeep takes it in.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use triune_common::{Result, boxed};

use super::Store;
use crate::base::RewriteOptions;
use crate::stamp::{CommitTs, TableId};

/// What the keeper remembers of the tables between two looks.
pub(super) type Rounds = BTreeMap<TableId, Round>;

#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// The base's version and the number of its next file: what a change of the base changes.
    files: (Option<u64>, u64),
    /// When it was first seen to be so.
    since: DateTime<Utc>,
    merged: bool,
    cleaned: bool,
}

impl Store {
    /// One round over all tables: what the keeper does every second besides checkpoints.
    #[boxed]
    pub async fn keep(&self) -> Result<()> {
        if self.shared.place.is_none() || self.read_only.is_some() {
            return Ok(());
        }
        let (merge, clean) = self.due();
        for table in merge {
            self.merge_fragments(table).await?;
        }
        for table in clean {
            self.remove_needless(table, true).await?;
        }
        Ok(())
    }

    /// The tables whose fragments may be worth merging, and those that may have files nobody needs.
    fn due(&self) -> (Vec<TableId>, Vec<TableId>) {
        let now = self.shared.clock.now();
        let (_, version) = self.shared.current();
        let mut rounds = self.shared.rounds.lock();
        rounds.retain(|id, _| version.tables.contains_key(id));
        let (mut merge, mut clean) = (Vec::new(), Vec::new());
        for (id, table) in &version.tables {
            let Some(base) = &table.base else { continue };
            let files = (base.state().lance_version, base.state().next_file);
            let fresh = Round { files, since: now, merged: false, cleaned: false };
            let round = rounds.entry(*id).or_insert(fresh);
            if round.files != files {
                *round = fresh;
            }
            if !round.merged && !self.shared.is_building(*id) {
                round.merged = true;
                merge.push(*id);
            }
            let quiet = (now - round.since).to_std().unwrap_or_default();
            if !round.cleaned && quiet >= self.shared.limits.reader_grace {
                round.cleaned = true;
                clean.push(*id);
            }
        }
        (merge, clean)
    }

    async fn merge_fragments(&self, table: TableId) -> Result<()> {
        let Some(place) = self.shared.place.clone() else { return Ok(()) };
        let _bases = self.shared.bases.lock().await;
        let limits = self.shared.limits;
        // No later than the base's checkpoint is what a rewrite takes of it.
        let horizon = self.shared.pins.oldest().unwrap_or(CommitTs::MAX);
        let options = RewriteOptions::sparing(horizon, limits.small_fragments, limits.deleted_share);
        if self.rewrite_locked(&place, table, &options).await? {
            let gauge = &self.shared.gauge;
            gauge.merges.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            gauge.last.lock().merge = Some(self.shared.clock.now());
        }
        Ok(())
    }
}
