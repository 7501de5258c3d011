//! The one place where commits are put in order.
//!
//! ```text
//!  waiting requests ─▶ for each: check against the newest versions ─ stamp ─ apply (nobody sees it yet) ─ encode
//!                      all of them: one write to the WAL, one fsync
//!                      visible timestamp := the last of them         ◀── from here on every snapshot sees them
//!                      answers
//! ```
//!
//! While the disk is busy with one group the next requests gather, so that many commits share an fsync and a
//! lone one does not wait. What cannot be written is taken back (`undo_after`) before anybody saw it.
//!
//! The committer itself does no waiting and has no thread: [`Committer::process`] is called with what has
//! gathered, by a thread in production and by the simulation in tests.
//!
//! Isolation is snapshot isolation, first committer wins (TXN-1): a row that the transaction ends, or a key that
//! it takes, must not have been touched by a commit after its snapshot.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use triune_common::{Error, ErrorKind, Result};

use super::commit::{CommitRequest, PendingChange, Reply};
use super::shared::Shared;
use super::version::{DbVersion, Newest, TableVersion};
use crate::base::Base;
use crate::hot::Memtable;
use crate::key::{KeyRef, Keys};
use crate::stamp::{CommitTs, TableId};
use crate::wal::record::{CommitRecord, Record, TableChange};
use crate::wal::{Log, WalError};

/// What the committer is asked to do.
pub(super) enum Request {
    Commit(Box<CommitRequest>, Reply),
    /// Runs when everything before it is durable: checkpoints, changes of definitions.
    Run(Box<dyn FnOnce(&mut Committer) + Send>),
}

/// Rows that are in a base now, kept for transactions that began before they were.
#[derive(Debug)]
struct Retired {
    /// Transactions with a snapshot before this moment need it.
    at: CommitTs,
    table: TableId,
    rows: RetiredRows,
}

#[derive(Debug)]
enum RetiredRows {
    Memtable(Arc<Memtable>),
    /// Keys of a bulk load that went straight into the base at `at`, sorted.
    Loaded(Keys),
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    /// `None`: the database lives in memory only.
    pub(super) log: Option<Box<dyn Log>>,
    /// The newest version, ahead of the published one while a group is under way.
    pub(super) version: Arc<DbVersion>,
    pub(super) last: CommitTs,
    retired: Vec<Retired>,
    /// Tables that take no commits for the moment.
    blocked: HashSet<TableId>,
    poisoned: Option<String>,
    /// Frames were written that no fsync has covered.
    unsynced: bool,
}

/// Commits that are applied and encoded, not yet written.
#[derive(Default)]
struct Group {
    payloads: Vec<u8>,
    frames: Vec<Range<usize>>,
    replies: Vec<(CommitTs, Reply)>,
    wait: bool,
}

impl Committer {
    pub(super) fn new(
        shared: Arc<Shared>,
        log: Option<Box<dyn Log>>,
        version: Arc<DbVersion>,
        last: CommitTs,
    ) -> Self {
        Self {
            shared,
            log,
            version,
            last,
            retired: Vec::new(),
            blocked: HashSet::new(),
            poisoned: None,
            unsynced: false,
        }
    }

    /// Handles requests in order; all commits between two other requests share one fsync.
    pub(super) fn process(&mut self, requests: impl IntoIterator<Item = Request>) {
        let mut group = Group::default();
        for request in requests {
            match request {
                Request::Commit(commit, reply) => {
                    let wait = commit.wait;
                    match self.admit(*commit, &mut group) {
                        Ok(ts) => {
                            group.wait |= wait;
                            group.replies.push((ts, reply));
                        }
                        // Whoever asked may have gone; a failed commit needs no listener.
                        Err(e) => drop(reply.send(Err(e))),
                    }
                }
                Request::Run(run) => {
                    self.finish(std::mem::take(&mut group));
                    run(self);
                }
            }
        }
        self.finish(group);
    }

    /// Makes frames durable that commits without waiting have left behind. Called when nothing else waits.
    pub(super) fn settle(&mut self) {
        if !self.unsynced || self.poisoned.is_some() {
            return;
        }
        if let Some(log) = &mut self.log
            && let Err(e) = log.sync()
        {
            self.poison(e.error().message());
        }
        self.unsynced = false;
    }

    pub(super) fn has_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Checks, stamps, applies and encodes one commit.
    fn admit(&mut self, commit: CommitRequest, group: &mut Group) -> Result<CommitTs> {
        self.check_writable()?;
        for change in &commit.changes {
            self.check(change, commit.snapshot)?;
        }
        let ts = CommitTs::after(self.last, self.shared.clock.now());
        let mut changes = Vec::with_capacity(commit.changes.len());
        for change in commit.changes {
            let table = self.version.table(change.table)?;
            changes.push(with_row_ids(table, change)?);
        }
        let record = Record::Commit(CommitRecord { ts, changes });
        let start = group.payloads.len();
        if self.log.is_some() {
            record.encode(&mut group.payloads).inspect_err(|_| group.payloads.truncate(start))?;
            group.frames.push(start..group.payloads.len());
        }
        let Record::Commit(CommitRecord { changes, .. }) = record else {
            return Err(Error::internal("a commit was encoded as something else"));
        };
        for change in &changes {
            // Everything was checked; what fails here would leave half a transaction behind.
            if let Err(e) = apply(&mut self.version, change, ts) {
                self.poison(e.message());
                return Err(e);
            }
        }
        self.last = ts;
        Ok(ts)
    }

    /// Writes a group and shows it, or takes it back.
    fn finish(&mut self, group: Group) {
        if group.replies.is_empty() {
            return;
        }
        if let Err(e) = self.write(&group) {
            self.take_back();
            for (_, reply) in group.replies {
                drop(reply.send(Err(again(&e))));
            }
            return;
        }
        self.publish();
        for (ts, reply) in group.replies {
            drop(reply.send(Ok(ts)));
        }
    }

    fn write(&mut self, group: &Group) -> Result<()> {
        self.check_writable()?;
        let frames: Vec<&[u8]> = group.frames.iter().map(|f| &group.payloads[f.clone()]).collect();
        self.write_frames(&frames, group.wait)
    }

    /// Appends frames and, when `wait`, fsyncs them with all before them.
    pub(super) fn write_frames(&mut self, frames: &[&[u8]], wait: bool) -> Result<()> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let written = log.append(frames).and_then(|()| if wait { log.sync() } else { Ok(()) });
        match written {
            Ok(()) => {
                self.unsynced = !wait;
                Ok(())
            }
            Err(WalError::RolledBack(e)) => Err(e),
            Err(WalError::Poisoned(e)) => {
                self.poison(e.message());
                Err(e)
            }
        }
    }

    /// Shows everything that was applied to every snapshot from now on.
    pub(super) fn publish(&mut self) {
        self.shared.show(self.last, &self.version);
        let gauge = &self.shared.gauge;
        let hot = self.version.tables.values().map(|t| t.hot_bytes()).sum();
        gauge.hot_bytes.store(hot, Ordering::Relaxed);
        gauge.wal_bytes.store(self.log.as_ref().map_or(0, |l| l.bytes()), Ordering::Relaxed);
    }

    /// Puts a base in the place of a table's, to be published with the next [`Self::publish`].
    ///
    /// `applied`: commits up to here are in it, where that is new.
    pub(super) fn replace_base(
        &self,
        next: &mut DbVersion,
        id: TableId,
        base: Arc<Base>,
        applied: Option<CommitTs>,
    ) -> Result<()> {
        self.shared.track(id, &base);
        let mut table = next.table(id)?.as_ref().clone();
        table.base = Some(base);
        table.applied = applied.unwrap_or(table.applied);
        table.since = table.since.max(table.applied);
        next.tables.insert(id, Arc::new(table));
        Ok(())
    }

    /// Forgets what was applied and not published.
    fn take_back(&mut self) {
        let (visible, version) = self.shared.current();
        for table in version.tables.values() {
            for memtable in &table.memtables {
                memtable.undo_after(visible);
            }
            if let Some(base) = &table.base {
                base.deletes().undo_after(visible);
            }
        }
        self.version = version;
        // Timestamps are not given out twice, even when nobody saw them.
    }

    pub(super) fn check_writable(&self) -> Result<()> {
        match &self.poisoned {
            None => Ok(()),
            Some(why) => Err(Error::new(
                ErrorKind::Unavailable,
                format!("the database takes no writes since its log failed: {why}"),
            )
            .with_hint("open it again; reads go on meanwhile")),
        }
    }

    pub(super) fn block(&mut self, table: TableId) {
        self.blocked.insert(table);
    }

    pub(super) fn unblock(&mut self, table: TableId) {
        self.blocked.remove(&table);
    }

    pub(super) fn poison(&mut self, why: &str) {
        self.poisoned.get_or_insert_with(|| why.to_owned());
    }

    /// Whether a change can be made on top of everything that is applied.
    fn check(&self, change: &PendingChange, snapshot: CommitTs) -> Result<()> {
        let table = self.version.table(change.table)?;
        if table.def.revision != change.revision || self.blocked.contains(&change.table) {
            return Err(conflict("the table's definition was changed by another session"));
        }
        if change.truncate {
            let last = CommitTs(table.counters.last_change.load(Ordering::Relaxed));
            return if last > snapshot {
                Err(conflict("the table was changed by another transaction"))
            } else {
                Ok(())
            };
        }
        let changed = |key: KeyRef<'_>| {
            conflict(&format!("the row {} was changed by another transaction", table.codec.describe(key)))
        };
        if !change.blind {
            for key in change.deletes.iter() {
                let fine = match table.newest(key) {
                    Newest::Hot { begin, .. } => begin <= snapshot,
                    Newest::Base { .. } => !self.loaded_since(change.table, key, snapshot),
                    Newest::Ended(_) | Newest::Absent => false,
                };
                if !fine {
                    return Err(changed(key));
                }
            }
        }
        let Some(keys) = change.inserts.as_ref().and_then(|i| i.keys.as_ref()) else { return Ok(()) };
        let replaced: HashSet<KeyRef<'_>> = change.deletes.iter().collect();
        for key in keys.iter().filter(|k| !replaced.contains(k)) {
            let free = match table.newest(key) {
                Newest::Hot { .. } | Newest::Base { .. } => false,
                Newest::Ended(end) => end <= snapshot,
                Newest::Absent => table.base_at(key, snapshot).is_none(),
            };
            if !free {
                return Err(conflict(&format!(
                    "the key {} was taken or freed by another transaction",
                    table.codec.describe(key)
                )));
            }
        }
        Ok(())
    }

    /// Whether a row of the base came into being after a snapshot.
    fn loaded_since(&self, table: TableId, key: KeyRef<'_>, snapshot: CommitTs) -> bool {
        self.retired.iter().filter(|r| r.table == table && r.at > snapshot).any(|r| match &r.rows {
            RetiredRows::Memtable(m) => m.newest(key).is_some_and(|v| v.begin > snapshot),
            RetiredRows::Loaded(keys) => contains(keys, key),
        })
    }

    /// Says in the WAL, for the list of versions, that rows were loaded into a base. Nothing depends on it.
    pub(super) fn note_load(&mut self, table: TableId, ts: CommitTs, rows: u64) {
        let state = serde_json::json!({ "loaded": rows });
        let mut frame = Vec::new();
        if Record::Base(crate::wal::record::BaseRecord { ts, table, state }).encode(&mut frame).is_ok() {
            drop(self.write_frames(&[&frame], false));
        }
    }

    /// Remembers where rows came from that are in the base since `at`, as long as somebody may ask.
    pub(super) fn retire_memtable(&mut self, table: TableId, memtable: Arc<Memtable>, at: CommitTs) {
        self.retired.push(Retired { at, table, rows: RetiredRows::Memtable(memtable) });
    }

    /// The same for the (sorted) keys of a bulk load.
    pub(super) fn retire_keys(&mut self, table: TableId, keys: Keys, at: CommitTs) {
        self.retired.push(Retired { at, table, rows: RetiredRows::Loaded(keys) });
    }

    pub(super) fn forget_retired(&mut self) {
        let oldest = self.shared.pins.oldest().unwrap_or(CommitTs::MAX);
        self.retired.retain(|r| r.at > oldest);
    }
}

fn contains(sorted: &Keys, key: KeyRef<'_>) -> bool {
    match (sorted, key) {
        (Keys::Ints(v), KeyRef::Int(k)) => v.binary_search(&k).is_ok(),
        (Keys::Bytes(v), KeyRef::Bytes(k)) => v.binary_search_by(|x| x.as_ref().cmp(k)).is_ok(),
        _ => false,
    }
}

fn conflict(what: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("could not serialize access: {what} since this one began"))
        .with_hint("SQLSTATE 40001: run the transaction again")
}

/// One error for each of those who wait.
fn again(e: &Error) -> Error {
    let copy = Error::new(e.kind(), e.message());
    match e.hint() {
        Some(hint) => copy.with_hint(hint),
        None => copy,
    }
}

/// The change as it is logged; rows of a table without a primary key get their numbers.
fn with_row_ids(table: &TableVersion, change: PendingChange) -> Result<TableChange> {
    let inserts = match change.inserts {
        Some(inserts) if inserts.keys.is_none() => {
            let n = inserts.rows.num_rows() as u64;
            let first = table.counters.next_rid.fetch_add(n, Ordering::Relaxed);
            let mut columns: Vec<ArrayRef> = inserts.rows.columns().to_vec();
            let last = columns.last_mut().ok_or_else(|| Error::internal("rows without a _rid column"))?;
            *last = Arc::new(UInt64Array::from_iter_values(first..first + n));
            Some(RecordBatch::try_new(inserts.rows.schema(), columns)?)
        }
        Some(inserts) => Some(inserts.rows),
        None => None,
    };
    Ok(TableChange {
        table: change.table,
        revision: change.revision,
        deletes: change.deletes,
        inserts,
        truncate: change.truncate,
    })
}

/// Applies a logged change; live commits and recovery go the same way.
///
/// Keys that are not there are passed over: a blind write names them without looking.
pub(super) fn apply(version: &mut Arc<DbVersion>, change: &TableChange, ts: CommitTs) -> Result<()> {
    if change.truncate {
        let table = version.table(change.table)?;
        let emptied = table.emptied(ts)?;
        *version = Arc::new(version.with(emptied));
    }
    let table = version.table(change.table)?;
    for key in change.deletes.iter() {
        match table.newest(key) {
            Newest::Hot { memtable, .. } => {
                table.memtables[memtable].end(key, ts);
            }
            Newest::Base { address } => {
                if let Some(base) = &table.base {
                    base.deletes().mark(address, ts);
                }
            }
            Newest::Ended(_) | Newest::Absent => {}
        }
    }
    if let Some(rows) = &change.inserts {
        let keys = table.codec.keys_of(rows)?;
        if table.def.has_rid()
            && let Keys::Ints(ids) = &keys
            && let Some(last) = ids.last()
        {
            table.counters.next_rid.fetch_max(last + 1, Ordering::Relaxed);
        }
        table.active()?.append(rows, &keys, ts)?;
    }
    table.counters.last_change.fetch_max(ts.0, Ordering::Relaxed);
    Ok(())
}

/// Tables whose hot rows are to move, see [`Committer::freeze`].
#[derive(Debug)]
pub(super) struct Frozen {
    /// All commits up to here are in the frozen memtables or below.
    pub(super) ts: CommitTs,
    /// The first WAL segment that holds later commits only.
    pub(super) segment: crate::wal::SegmentId,
    pub(super) version: Arc<DbVersion>,
    /// How many memtables of each table are frozen.
    pub(super) counts: HashMap<TableId, usize>,
}

impl Committer {
    /// Gives every table that has hot rows a new memtable and starts a new WAL segment.
    pub(super) fn freeze(&mut self) -> Result<Frozen> {
        self.check_writable()?;
        let segment = match &mut self.log {
            Some(log) => log.rotate()?,
            None => return Err(Error::internal("a database in memory has no checkpoints")),
        };
        self.unsynced = false;
        let mut next = self.version.as_ref().clone();
        let mut counts = HashMap::new();
        for (id, table) in &self.version.tables {
            let mut table = table.as_ref().clone();
            if table.active()?.rows() > 0 {
                table.memtables.push(Arc::new(table.new_memtable()));
            }
            counts.insert(*id, table.memtables.len() - 1);
            next.tables.insert(*id, Arc::new(table));
        }
        self.version = Arc::new(next);
        self.publish();
        Ok(Frozen { ts: self.last, segment, version: Arc::clone(&self.version), counts })
    }
}
