//! `state.json`: what a checkpoint published, one document for all tables.
//!
//! Whatever it names was fsynced before it; it is replaced by one rename. Recovery opens what it names and
//! replays the WAL from `first_segment` on, passing over commits that the bases hold already.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use triune_common::{Error, Result};

use crate::base::BaseState;
use crate::fs::{StorageFs, io_error};
use crate::place::LogName;
use crate::stamp::{CommitTs, TableId};
use crate::table::TableDef;

/// The format that this build writes.
const FORMAT: u32 = 1;
const DOCUMENT: &str = "state.json";

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) format: u32,
    /// No later commit is in any base, but for bulk loads that say so themselves.
    pub(super) checkpoint: CommitTs,
    /// The first WAL segment that recovery needs.
    pub(super) first_segment: u64,
    /// Numbers below were given to tables.
    pub(super) next_table: u64,
    pub(super) tables: BTreeMap<TableId, TableState>,
    /// Of the writer, on object stores: see [`crate::place`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) epoch: u64,
    /// The database's own name, on object stores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) database: Option<String>,
    /// Where the commits after the checkpoint are, on object stores; `None` there: nowhere, there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<LogName>,
    /// Nothing has been published yet.
    #[serde(skip)]
    pub(super) is_new: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableState {
    /// The definition that the base was written for. The catalog follows it, also after a crash between the two.
    pub(super) def: TableDef,
    /// The revision since which the stored schema is what it is; the WAL's rows of older ones are in the base.
    pub(super) rows_revision: u64,
    /// Commits up to here are in the base; recovery passes over them.
    pub(super) applied: CommitTs,
    pub(super) base: BaseState,
    pub(super) next_rid: u64,
    /// By column id: the next value that no range was handed out for.
    #[serde(default)]
    pub(super) identities: BTreeMap<u32, i64>,
}

impl State {
    /// The published state; the state of a new database when there is none.
    pub(super) fn load(fs: &dyn StorageFs, folder: &Path) -> Result<Self> {
        let path = folder.join(DOCUMENT);
        if !fs.exists(&path).map_err(|e| io_error("read", &path, &e))? {
            return Ok(Self::of_new());
        }
        Self::load_from(fs, &path)
    }

    /// The state of a new database.
    pub(super) fn of_new() -> Self {
        Self { format: FORMAT, next_table: 1, first_segment: 1, is_new: true, ..Self::default() }
    }

    /// A state from its file.
    pub(super) fn load_from(fs: &dyn StorageFs, path: &Path) -> Result<Self> {
        let bytes = fs.read(path).map_err(|e| io_error("read", path, &e))?;
        Self::parse(&bytes, path)
    }

    /// A state from the contents of its file.
    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let named = path.display();
        let damaged = |e: serde_json::Error| {
            Error::data(format!("{named} is damaged: {e}"))
                .with_hint("restore it from a backup of the database's folder; nothing was changed")
        };
        let head: Head = serde_json::from_slice(bytes).map_err(damaged)?;
        if head.format > FORMAT {
            let format = head.format;
            return Err(Error::unsupported(format!(
                "{named} has format {format}, this build reads up to {FORMAT}"
            ))
            .with_hint("open the database with a newer triune"));
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    /// Publishes the state; durable when this returns.
    pub(super) fn store(&self, fs: &dyn StorageFs, folder: &Path) -> Result<()> {
        self.store_to(fs, &folder.join(DOCUMENT))
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
            .map_err(|e| Error::internal(format!("the storage's state cannot be written as JSON: {e}")))
    }

    pub(super) fn store_to(&self, fs: &dyn StorageFs, path: &Path) -> Result<()> {
        let bytes = self.to_json()?;
        fs.write_atomic(path, &bytes).map_err(|e| io_error("write", path, &e))
    }

    /// The latest commit that any base of it holds.
    pub(super) fn latest(&self) -> CommitTs {
        self.tables.values().map(|t| t.applied).max().unwrap_or_default().max(self.checkpoint)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}
