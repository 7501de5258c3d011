//! What a snapshot pins: the tables as they were put together at one moment.
//!
//! ```text
//!  DbVersion ─ table 7 ─▶ TableVersion ─ definition · key codec
//!                                      ├ base       rows up to its checkpoint, minus the delete log
//!                                      └ memtables  oldest first; the last one takes new rows
//! ```
//!
//! A version never changes; what grows inside it (memtables, delete logs) carries timestamps, so that a
//! snapshot sees of it what was committed at its own moment. Whoever holds a version keeps its files and its
//! memory alive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use triune_common::{Error, ErrorKind, Result};

use crate::base::Base;
use crate::hot::{Lookup, Memtable};
use crate::key::{KeyCodec, KeyRef};
use crate::stamp::{CommitTs, TableId};
use crate::table::TableDef;

/// All tables at one moment.
#[derive(Debug, Clone, Default)]
pub struct DbVersion {
    pub(super) tables: BTreeMap<TableId, Arc<TableVersion>>,
    /// Tables that a read-only opening found damaged, and what is wrong with them.
    pub(super) damaged: BTreeMap<TableId, Arc<Error>>,
}

impl DbVersion {
    pub fn table(&self, id: TableId) -> Result<&Arc<TableVersion>> {
        self.tables.get(&id).ok_or_else(|| {
            if let Some(why) = self.damaged.get(&id) {
                return why.copy();
            }
            Error::new(ErrorKind::Conflict, "the table was dropped, or made after this transaction began")
                .with_hint("SQLSTATE 40001: run the transaction again")
        })
    }

    /// The same with one table put in or replaced.
    pub(super) fn with(&self, table: TableVersion) -> Self {
        let mut tables = self.tables.clone();
        tables.insert(table.def.id, Arc::new(table));
        Self { tables, damaged: self.damaged.clone() }
    }

    pub(super) fn without(&self, id: TableId) -> Self {
        let mut tables = self.tables.clone();
        tables.remove(&id);
        Self { tables, damaged: self.damaged.clone() }
    }
}

/// One table at one moment.
#[derive(Debug, Clone)]
pub struct TableVersion {
    pub(super) def: Arc<TableDef>,
    pub(super) codec: Arc<KeyCodec>,
    /// `None`: the database lives in memory only.
    pub(super) base: Option<Arc<Base>>,
    /// The revision since which the stored schema is what it is.
    pub(super) rows_revision: u64,
    /// Commits up to here are in the base, and those alone; what the table was before is history.
    pub(super) applied: CommitTs,
    /// Snapshots from here on can be read through this version; after a TRUNCATE later than `applied`.
    pub(super) since: CommitTs,
    /// Oldest first, at least one.
    pub(super) memtables: Vec<Arc<Memtable>>,
    pub(super) counters: Arc<Counters>,
}

/// What a table hands out: shared by all its versions.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// The next `_rid`; advanced by the committer only.
    pub(super) next_rid: AtomicU64,
    pub(super) generation: AtomicU64,
    /// The latest commit that touched the table.
    pub(super) last_change: AtomicU64,
    pub(super) identities: Mutex<BTreeMap<u32, IdentityCounter>>,
}

/// An identity column: values below `reserved` may be handed out without a new WAL record.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdentityCounter {
    pub(super) next: i64,
    pub(super) reserved: i64,
}

/// The newest version of a key, committed or on its way to be.
#[derive(Debug)]
pub(super) enum Newest {
    /// In this memtable (place in [`TableVersion::memtables`]), alive since `begin`.
    Hot {
        memtable: usize,
        begin: CommitTs,
    },
    /// In the base at this row address.
    Base {
        address: u64,
    },
    /// The newest version in the hot store ended at this moment.
    Ended(CommitTs),
    Absent,
}

impl TableVersion {
    pub fn definition(&self) -> &Arc<TableDef> {
        &self.def
    }

    pub fn codec(&self) -> &Arc<KeyCodec> {
        &self.codec
    }

    pub(super) fn active(&self) -> Result<&Arc<Memtable>> {
        self.memtables.last().ok_or_else(|| Error::internal("a table has no memtable"))
    }

    pub(super) fn new_memtable(&self) -> Memtable {
        let generation = self.counters.generation.fetch_add(1, Ordering::Relaxed);
        Memtable::new(self.def.stored_schema(), self.codec.kind(), generation)
    }

    /// The table without rows, for a TRUNCATE at `ts`.
    pub(super) fn emptied(&self, ts: CommitTs) -> Result<Self> {
        let base = match &self.base {
            Some(base) => Some(Base::empty(base.table(), base.state().truncated(ts))?),
            None => None,
        };
        Ok(Self { base, since: ts, memtables: vec![Arc::new(self.new_memtable())], ..self.clone() })
    }

    /// Looks everywhere, whatever is visible to whom. For the committer.
    pub(super) fn newest(&self, key: KeyRef<'_>) -> Newest {
        let mut ended = None;
        for (memtable, table) in self.memtables.iter().enumerate().rev() {
            if let Some(version) = table.newest(key) {
                if version.end == CommitTs::MAX {
                    return Newest::Hot { memtable, begin: version.begin };
                }
                ended = Some(version.end);
                break;
            }
        }
        // A version in a memtable means that any row of the base with this key has been ended before.
        match ended {
            Some(end) => Newest::Ended(end),
            None => {
                let address = self.base.as_ref().and_then(|b| b.find(key));
                address.map_or(Newest::Absent, |address| Newest::Base { address })
            }
        }
    }

    /// The row of the base with this key that a snapshot sees.
    pub(super) fn base_at(&self, key: KeyRef<'_>, snapshot: CommitTs) -> Option<u64> {
        self.base.as_ref()?.find_at(key, snapshot)
    }

    /// Where the row with this key is that a snapshot sees.
    pub(super) fn visible(&self, key: KeyRef<'_>, snapshot: CommitTs) -> Visible {
        for table in self.memtables.iter().rev() {
            match table.get(key, snapshot) {
                Lookup::Row(row) => return Visible::Hot(row),
                Lookup::Ended => return Visible::No,
                Lookup::Absent => {}
            }
        }
        self.base_at(key, snapshot).map_or(Visible::No, Visible::Base)
    }

    /// Bytes of the hot store.
    pub(super) fn hot_bytes(&self) -> usize {
        self.memtables.iter().map(|m| m.bytes()).sum()
    }
}

/// A row that a snapshot sees.
#[derive(Debug)]
pub(super) enum Visible {
    Hot(crate::hot::RowRef),
    Base(u64),
    No,
}

/// A moment that is being looked at.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(super) ts: CommitTs,
    pub(super) version: Arc<DbVersion>,
    pub(super) _pin: Arc<Pin>,
}

impl Snapshot {
    /// Sees every commit up to here and none after it.
    pub fn ts(&self) -> CommitTs {
        self.ts
    }

    pub fn version(&self) -> &Arc<DbVersion> {
        &self.version
    }
}

/// Which moments are being looked at, and how often each.
#[derive(Debug, Default)]
pub(super) struct Pins {
    counts: Mutex<BTreeMap<CommitTs, usize>>,
}

/// Counted as long as it lives.
#[derive(Debug)]
pub(super) struct Pin {
    pins: Arc<Pins>,
    ts: CommitTs,
}

impl Pins {
    pub(super) fn pin(self: &Arc<Self>, ts: CommitTs) -> Arc<Pin> {
        *self.counts.lock().entry(ts).or_default() += 1;
        Arc::new(Pin { pins: Arc::clone(self), ts })
    }

    /// The oldest moment that somebody looks at.
    pub(super) fn oldest(&self) -> Option<CommitTs> {
        self.counts.lock().first_key_value().map(|(ts, _)| *ts)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut counts = self.pins.counts.lock();
        if let Some(count) = counts.get_mut(&self.ts) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.ts);
            }
        }
    }
}
