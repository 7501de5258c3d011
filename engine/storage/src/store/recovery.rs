//! Opening a store: the published state, then what the WAL has beyond it.
//!
//! Replaying a commit is applying it again, by the same code, in the same order, without checks: what was
//! acknowledged is there again (DUR-1), what was half-written was cut from the log before (DUR-2).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use triune_common::{Clock, Error, ErrorKind, Result, boxed};

use super::committer::{Committer, apply};
use super::driver::Driver;
use super::history;
use super::maintenance::Limits;
use super::readers::Reader;
use super::remote::Remote;
use super::shared::{Place, Shared};
use super::state::{State, TableState};
use super::version::{Counters, DbVersion, IdentityCounter, TableVersion};
use super::{Store, StoreOptions, empty_table};
use crate::lock::WriterLock;
use crate::stamp::{CommitTs, TableId};
use crate::table::TableDef;
use crate::wal::record::{BaseRecord, Record};
use crate::wal::{Log, Position, Replay, SegmentId, Wal};

/// How often a read-only opening starts anew when the writer publishes meanwhile.
const ATTEMPTS: usize = 5;

/// With what a store begins to work.
pub(super) struct Start {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: Limits,
    pub(super) thread: bool,
    pub(super) definitions: Vec<TableDef>,
    pub(super) lock: Option<WriterLock>,
}

impl Store {
    /// Reads what others have published and committed since this read-only store was opened; snapshots that were
    /// taken before stay as they are. Does nothing for a store that is open for writing or in memory.
    ///
    /// Errors: those of opening; what was visible stays visible then.
    #[boxed]
    pub async fn refresh(&self, definitions: &[TableDef]) -> Result<()> {
        let (Some(place), Some(_)) = (&self.shared.place, &self.read_only) else { return Ok(()) };
        let _bases = self.shared.bases.lock().await;
        let Found { recovered: Recovered { version, last, .. }, damage, reader } =
            read_now(place, definitions).await?;
        if let Some(why) = damage {
            return Err(Error::new(ErrorKind::Data, why));
        }
        self.shared.announce(&version, reader);
        self.shared.show(last, &version);
        Ok(())
    }

    /// Opens a database's storage for writing, making it if it is new.
    ///
    /// Errors: unavailable when another process writes it (named in the message); data, with file and place,
    /// when something that was published is missing or damaged; nothing is changed then.
    #[boxed]
    pub async fn open(options: StoreOptions) -> Result<Arc<Self>> {
        let StoreOptions { fs, folder, lance, clock, rng, definitions, limits, thread } = options;
        let lock = WriterLock::acquire(&folder, clock.as_ref())?;
        let place = Place { fs, folder, lance, rng, remote: None };
        let state = State::load(place.fs.as_ref(), &place.folder)?;
        let first = history::first_segment(&place, &state)?;
        let (fs, dir) = (Arc::clone(&place.fs), place.folder.join("wal"));
        let (wal, replay) =
            if state.is_new { Wal::create(fs, &dir, first)? } else { Wal::open(fs, &dir, first)? };
        let start = Start { clock, limits, thread, definitions, lock: Some(lock) };
        Self::start(place, &state, start, Box::new(wal), replay).await
    }

    /// Recovers and begins to work.
    pub(super) async fn start(
        place: Place,
        state: &State,
        start: Start,
        log: Box<dyn Log>,
        replay: Replay,
    ) -> Result<Arc<Self>> {
        let Start { clock, limits, thread, definitions, lock } = start;
        let Recovered { version, last, next_table } =
            recover(&place, state, definitions, replay, CommitTs::MAX).await?;
        let right = place.remote.as_ref().and_then(Remote::returned);
        let shared = Arc::new(Shared::new(clock, Some(place), limits, last, Arc::clone(&version)));
        for (id, table) in &version.tables {
            if let Some(base) = &table.base {
                shared.track(*id, base);
            }
        }
        let committer = Committer::new(Arc::clone(&shared), Some(log), version, last);
        let driver = if thread { Driver::thread(committer)? } else { Driver::inline(committer) };
        let store = Arc::new(Self {
            shared,
            driver,
            _right: right,
            next_table: AtomicU64::new(next_table),
            keeper: parking_lot::Mutex::default(),
            indexer: parking_lot::Mutex::default(),
            _lock: lock,
            read_only: None,
        });
        if thread {
            store.start_keeper();
        }
        Ok(store)
    }

    /// Opens a database's storage as it is now, for reading. Changes nothing of it and needs no lock: another
    /// process may go on writing, which is not seen until [`Store::refresh`]. Where it can, it announces what it reads
    /// (`readers`).
    ///
    /// What is damaged is left out: a table that cannot be opened says so when it is used, of a log that cannot be
    /// read further the commits before that place are shown. `system.maintenance` tells in `last_error`.
    #[boxed]
    pub async fn open_read_only(options: StoreOptions) -> Result<Arc<Self>> {
        let StoreOptions { fs, folder, lance, clock, rng, definitions, limits, .. } = options;
        let place = Place { fs, folder, lance, rng, remote: None };
        Self::start_reading(place, clock, limits, &definitions).await
    }

    pub(super) async fn start_reading(
        place: Place,
        clock: Arc<dyn Clock>,
        limits: Limits,
        definitions: &[TableDef],
    ) -> Result<Arc<Self>> {
        let Found { recovered, damage, reader } = read_now(&place, definitions).await?;
        let Recovered { version, last, next_table } = recovered;
        let shared = Arc::new(Shared::new(clock, Some(place), limits, last, Arc::clone(&version)));
        shared.announce(&version, reader);
        shared.gauge.last.lock().error = damage;
        let driver = Driver::inline(Committer::new(Arc::clone(&shared), None, version, last));
        let why = Error::new(ErrorKind::Permission, "the database is open read-only")
            .with_hint("open it without --readonly to write");
        Ok(Arc::new(Self {
            shared,
            driver,
            _right: None,
            next_table: AtomicU64::new(next_table),
            keeper: parking_lot::Mutex::default(),
            indexer: parking_lot::Mutex::default(),
            _lock: None,
            read_only: Some(why),
        }))
    }
}

/// What a read-only opening has found.
struct Found {
    recovered: Recovered,
    damage: Option<String>,
    reader: Option<Reader>,
}

/// What is there now, beside a writer, and what of it is damaged.
async fn read_now(place: &Place, definitions: &[TableDef]) -> Result<Found> {
    let mut attempt = 1;
    loop {
        let state = State::load(place.fs.as_ref(), &place.folder);
        let Ok(state) = state else {
            let (recovered, damage) = salvage(place, state, definitions.to_vec()).await?;
            return Ok(Found { recovered, damage, reader: None });
        };
        let reader = Reader::announce(place, &state);
        // From here on its files stay, if it is still the published one.
        let same = || match State::load(place.fs.as_ref(), &place.folder) {
            Ok(newer) => Ok(newer.to_json()? == state.to_json()?),
            Err(_) => Ok(false),
        };
        let stays: Result<bool> = same();
        if stays? && let Ok(recovered) = read(place, &state, definitions).await {
            return Ok(Found { recovered, damage: None, reader });
        }
        // The writer has removed what this state names, and published another one; or something is damaged.
        let stays: Result<bool> = same();
        if attempt == ATTEMPTS || stays? {
            let (recovered, damage) = salvage(place, Ok(state), definitions.to_vec()).await?;
            return Ok(Found { recovered, damage, reader });
        }
        attempt += 1;
    }
}

async fn read(place: &Place, state: &State, definitions: &[TableDef]) -> Result<Recovered> {
    let replay = place.read_log(state, SegmentId(state.first_segment.max(1)))?;
    recover(place, state, definitions.to_vec(), replay, CommitTs::MAX).await
}

/// What a read-only opening leaves out, and why.
#[derive(Debug, Default)]
struct Damage {
    tables: BTreeMap<TableId, Arc<Error>>,
    /// Commits from there on are not read: of what comes later nobody knows what it builds on.
    log: Option<Error>,
}

/// What is intact of a damaged database, and a text that says what is not.
async fn salvage(
    place: &Place,
    state: Result<State>,
    definitions: Vec<TableDef>,
) -> Result<(Recovered, Option<String>)> {
    let mut damage = Damage::default();
    let recovered = match state {
        Ok(state) => {
            let replay = place.read_log(&state, SegmentId(state.first_segment.max(1)));
            let (replay, missing) = match replay {
                Ok(replay) => (Some(replay), None),
                Err(e) => (None, Some(e)),
            };
            damage.log = missing;
            let replay = replay.into_iter().flatten();
            replayed(place, &state, definitions, replay, CommitTs::MAX, Some(&mut damage)).await?
        }
        Err(e) => {
            let why = Arc::new(e);
            damage.tables = definitions.iter().map(|def| (def.id, Arc::clone(&why))).collect();
            let next_table = definitions.iter().map(|def| def.id.0 + 1).max().unwrap_or(1);
            Recovered { version: Arc::default(), last: CommitTs::ZERO, next_table }
        }
    };
    let mut said: Vec<String> = damage.tables.values().map(|e| e.message().to_owned()).collect();
    said.extend(damage.log.map(|e| format!("commits are shown up to this: {}", e.message())));
    said.dedup();
    let mut version = DbVersion::clone(&recovered.version);
    version.damaged = damage.tables;
    let recovered = Recovered { version: Arc::new(version), ..recovered };
    Ok((recovered, (!said.is_empty()).then(|| said.join("; "))))
}

/// What was found on disk.
pub(super) struct Recovered {
    pub(super) version: Arc<DbVersion>,
    pub(super) last: CommitTs,
    pub(super) next_table: u64,
}

/// The published state with the WAL's later commits, up to a moment, applied.
pub(super) async fn recover(
    place: &Place,
    state: &State,
    definitions: Vec<TableDef>,
    replay: impl Iterator<Item = Result<(Position, Vec<u8>)>>,
    until: CommitTs,
) -> Result<Recovered> {
    replayed(place, state, definitions, replay, until, None).await
}

/// The same; what is damaged goes into `damage` where there is one, and is an error otherwise.
async fn replayed(
    place: &Place,
    state: &State,
    definitions: Vec<TableDef>,
    replay: impl Iterator<Item = Result<(Position, Vec<u8>)>>,
    until: CommitTs,
    mut damage: Option<&mut Damage>,
) -> Result<Recovered> {
    let mut version = DbVersion::default();
    for def in definitions {
        let id = def.id;
        match (open_table(place, def, state).await, &mut damage) {
            (Ok(table), _) => drop(version.tables.insert(id, Arc::new(table))),
            (Err(e), Some(damage)) => drop(damage.tables.insert(id, Arc::new(e))),
            (Err(e), None) => return Err(e),
        }
    }
    let mut version = Arc::new(version);
    // A bulk load is in no log.
    let mut last = state.tables.values().map(|t| t.applied).max().unwrap_or_default().max(state.checkpoint);
    let mut next_table = state.next_table.max(1);
    let applied = |table: TableId| state.tables.get(&table).map_or(CommitTs::ZERO, |t| t.applied);
    for frame in replay {
        let record = match (frame.and_then(|(at, bytes)| decode(&version, at, &bytes)), &mut damage) {
            (Ok(record), _) => record,
            (Err(e), Some(damage)) => {
                damage.log = Some(e);
                break;
            }
            (Err(e), None) => return Err(e),
        };
        match record {
            Record::Commit(commit) if commit.ts > until => break,
            Record::Commit(commit) => {
                last = last.max(commit.ts);
                for change in &commit.changes {
                    next_table = next_table.max(change.table.0 + 1);
                    if version.tables.contains_key(&change.table) && commit.ts > applied(change.table) {
                        apply(&mut version, change, commit.ts)?;
                    }
                }
            }
            Record::Base(base) => note(&version, &base),
        }
    }
    for id in version.tables.keys() {
        next_table = next_table.max(id.0 + 1);
    }
    Ok(Recovered { version, last, next_table })
}

fn decode(version: &DbVersion, position: Position, bytes: &[u8]) -> Result<Record> {
    let schema_of = |table: TableId, revision: u64| {
        let table = version.tables.get(&table)?;
        (revision >= table.rows_revision).then(|| table.def.stored_schema())
    };
    Record::decode(bytes, &schema_of).map_err(|e| {
        Error::data(format!(
            "the log record at byte {} of segment {} cannot be read: {}",
            position.offset,
            position.segment,
            e.message()
        ))
    })
}

/// A table with its base, its memtable empty.
async fn open_table(place: &Place, def: TableDef, state: &State) -> Result<TableVersion> {
    let Some(published) = state.tables.get(&def.id) else { return empty_table(def, Some(place)) };
    let TableState { def: known, rows_revision, applied, base, next_rid, identities } = published;
    // A change of the schema publishes the storage first.
    let def = if known.is_newer_than(&def) { known.clone() } else { def };
    let base = place.own_files(base.clone()).open(&place.base_table(&def, *rows_revision)?).await?;
    let counters = Counters::default();
    counters.next_rid.store(*next_rid, Ordering::Relaxed);
    *counters.identities.lock() =
        identities.iter().map(|(id, next)| (*id, IdentityCounter { next: *next, reserved: *next })).collect();
    let mut table = empty_table(def, None)?;
    table.base = Some(base);
    table.rows_revision = *rows_revision;
    table.applied = *applied;
    table.since = *applied;
    table.counters = Arc::new(counters);
    Ok(table)
}

/// An identity column's values up to here may have been used.
fn note(version: &Arc<DbVersion>, record: &BaseRecord) {
    let Some(table) = version.tables.get(&record.table) else { return };
    let (Some(column), Some(next)) = (record.state["identity"].as_u64(), record.state["next"].as_i64())
    else {
        return;
    };
    let Ok(column) = u32::try_from(column) else { return };
    let up = table
        .def
        .columns
        .iter()
        .find(|c| c.id == column)
        .and_then(|c| c.identity)
        .is_none_or(|i| i.increment > 0);
    let mut identities = table.counters.identities.lock();
    let counter = identities.entry(column).or_insert(IdentityCounter { next, reserved: next });
    let further = if up { next > counter.next } else { next < counter.next };
    if further {
        *counter = IdentityCounter { next, reserved: next };
    }
}
