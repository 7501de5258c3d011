//! A store whose folder is in an object store: see [`crate::place`].
//!
//! ```text
//!  opening   the right to write (an epoch) ─▶ state.json with that epoch ─▶ the log that it names ─▶ recovery
//!            ─▶ another log, where another kind is wanted: a checkpoint, then a state that names none, then the new one
//!  closing   a checkpoint, a state that says that the local log holds nothing more ─▶ the right is given back
//! ```
//!
//! A state names its log by an id before anything is committed to that log. A local log that is not there when the
//! database is opened was lost or is on another machine: opening fails then and says so.

use std::path::PathBuf;
use std::sync::Arc;

use triune_common::{Error, ErrorKind, Result, boxed};

use super::recovery::Start;
use super::shared::Place;
use super::state::State;
use super::{Store, StoreOptions, history};
use crate::fs::{RealFs, StorageFs, io_error};
use crate::lock::Holder;
use crate::place::{Held, LocalPlace, LogName, ObjectFs, ObjectPlace, RemoteOptions, Right, STATE, WalKind};
use crate::wal::object::ObjectWal;
use crate::wal::{Log, Replay, SegmentId, Wal};

/// How often the state is taken over from a writer that publishes at the same time.
const ATTEMPTS: usize = 20;

/// How often closing starts anew when commits come in between.
const CLOSINGS: usize = 5;

/// What a place in an object store has besides its files.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    place: ObjectPlace,
    files: Arc<ObjectFs>,
    right: Option<Arc<Right>>,
    /// Of the names that this writer gives to files.
    first_file: u64,
    local: Option<LocalPlace>,
}

/// A right that is given back with the store, whoever else still looks at its files.
#[derive(Debug)]
pub(super) struct Returned(Option<Arc<Right>>);

impl Drop for Returned {
    fn drop(&mut self) {
        if let Some(right) = self.0.take() {
            right.release();
        }
    }
}

impl Remote {
    /// The number from which on this writer gives names to files.
    pub(super) fn first_file(&self) -> u64 {
        self.first_file
    }

    pub(super) fn returned(&self) -> Option<Returned> {
        self.right.as_ref().map(|r| Returned(Some(Arc::clone(r))))
    }

    /// The folder of a local log on this machine, if it is here.
    fn log_folder(&self, database: &str, name: &LogName) -> Result<Option<PathBuf>> {
        let LogName::Local { id, host, folder, .. } = name else { return Ok(None) };
        let usual = self.local.as_ref().map(|l| l.log(database, id));
        // Where it was, when another folder was named at that time.
        let then = (*host == Holder::host()).then(|| folder.clone());
        for folder in usual.into_iter().chain(then) {
            let there = RealFs.exists(&folder).map_err(|e| io_error("read", &folder, &e))?;
            if there
                && RealFs
                    .list(&folder)
                    .map_err(|e| io_error("read", &folder, &e))?
                    .iter()
                    .any(|n| is_segment(n))
            {
                return Ok(Some(folder));
            }
        }
        Ok(None)
    }
}

fn is_segment(name: &str) -> bool {
    name.ends_with(".wal")
}

impl Place {
    /// The log of a state from a segment on, as it is now; nothing is changed.
    pub(super) fn read_log(&self, state: &State, first: SegmentId) -> Result<Replay> {
        let Some(remote) = &self.remote else {
            let dir = self.folder.join("wal");
            let there = self.fs.exists(&dir).map_err(|e| io_error("read", &dir, &e))?;
            if state.is_new && !there {
                return Ok(Replay::nothing());
            }
            return Wal::open_read_only(&self.fs, &dir, first);
        };
        match &state.log {
            None => Ok(Replay::nothing()),
            Some(name @ LogName::Local { .. }) => {
                let database = state.database.as_deref().unwrap_or_default();
                match remote.log_folder(database, name)? {
                    Some(folder) => Wal::open_read_only(&real(), &folder, first),
                    // The last checkpoint is what can be read here.
                    None => Ok(Replay::nothing()),
                }
            }
            Some(LogName::ObjectStore) => {
                let place = remote.place.clone();
                let read = async move { ObjectWal::open_read_only(&place, first).await };
                remote.place.io.wait(read).map_err(|e| Error::internal(e.to_string()))?
            }
        }
    }
}

fn real() -> Arc<dyn StorageFs> {
    Arc::new(RealFs)
}

/// A log that is ready to be written, and what is in it.
struct Opened {
    log: Box<dyn Log>,
    replay: Replay,
}

impl Store {
    /// Opens a database in an object store: for writing with a right, for reading without one. `options.fs` and
    /// `options.folder` are not used.
    ///
    /// Errors: those of [`Store::open`]; not-found when the log is in a folder of another machine or was lost;
    /// unavailable when another writer takes over meanwhile.
    #[boxed]
    pub async fn open_remote(options: StoreOptions, remote: RemoteOptions) -> Result<Arc<Self>> {
        let StoreOptions { lance, clock, rng, definitions, limits, thread, .. } = options;
        let RemoteOptions { place, files, right, local, wal, accept_lost_wal } = remote;
        let first_file = right.as_ref().map_or(0, |r| r.epoch() << 32);
        let remote = Remote { place, files, right: right.clone(), first_file, local };
        let at = Place {
            fs: Arc::clone(&remote.files) as Arc<dyn StorageFs>,
            folder: remote.files.root().to_owned(),
            lance,
            rng,
            remote: Some(remote.clone()),
        };
        let Some(right) = right else {
            let state = State::load(at.fs.as_ref(), &at.folder)?;
            remote.keep_copies(state.database.as_deref());
            return Self::start_reading(at, clock, limits, &definitions).await;
        };
        // A store that does not open leaves the database to others.
        let mut returned = Returned(Some(Arc::clone(&right)));
        remote.files.hold(Arc::clone(&right));
        let mut state = begin_epoch(&at, &remote, &right)?;
        remote.keep_copies(state.database.as_deref());
        let start = |lock| Start {
            clock: Arc::clone(&clock),
            limits,
            thread,
            definitions: definitions.clone(),
            lock,
        };
        let kind = state.log.as_ref().map(LogName::kind);
        let wanted = wal.or(kind).unwrap_or(WalKind::Local);
        let found = match state.log.clone() {
            Some(name) => open_named(&at, &remote, &right, &state, &name, accept_lost_wal).await?,
            None => None,
        };
        let opened = match found {
            Some(opened) if kind == Some(wanted) => {
                if let Some(LogName::Local { closed: closed @ true, .. }) = &mut state.log {
                    *closed = false;
                    state.store(at.fs.as_ref(), &at.folder)?;
                }
                opened
            }
            found => {
                if let Some(Opened { log, replay }) = found {
                    let old = Self::start(
                        Place { remote: Some(remote.without_right()), ..at.clone() },
                        &state,
                        Start { thread: false, ..start(None) },
                        log,
                        replay,
                    )
                    .await?;
                    old.checkpoint().await?;
                    drop(old);
                    state = State::load(at.fs.as_ref(), &at.folder)?;
                }
                let old = state.log.take();
                // From here on the old log is of no use, whether this goes on or not.
                state.store(at.fs.as_ref(), &at.folder)?;
                history::forget(&at)?;
                if let Some(name) = old
                    && let Some(folder) =
                        remote.log_folder(state.database.as_deref().unwrap_or_default(), &name)?
                {
                    // What stays takes space only.
                    drop(RealFs.remove_dir_all(&folder));
                }
                let (name, opened) = new_log(&at, &remote, &right, &state, wanted).await?;
                state.log = Some(name);
                state.store(at.fs.as_ref(), &at.folder)?;
                opened
            }
        };
        let needed = state.tables.values().map(|t| {
            let table = at.base_table(&t.def, t.rows_revision)?;
            Ok(t.base.files().map(|f| table.folder().join(f)).collect::<Vec<_>>())
        });
        let needed: Vec<Vec<PathBuf>> = needed.collect::<Result<_>>()?;
        remote.files.forget_copies(&needed.into_iter().flatten().collect())?;
        let store = Self::start(at, &state, start(None), opened.log, opened.replay).await?;
        // The store has one of its own.
        drop(returned.0.take());
        Ok(store)
    }

    /// Ends writing: a database in an object store can then be opened on any machine at once, whatever kind its log
    /// is of. Commits after it fail; reads go on. Does nothing for other databases.
    ///
    /// Errors: those of a checkpoint; the commits are in the log then.
    #[boxed]
    pub async fn close(&self) -> Result<()> {
        let Some(place) = self.shared.place.clone() else { return Ok(()) };
        let Some(right) = place.remote.as_ref().and_then(|r| r.right.clone()) else { return Ok(()) };
        let done = self.close_log(&place, &right).await;
        let release = aside(move || right.release()).await;
        done.and(release)
    }

    async fn close_log(&self, place: &Place, right: &Arc<Right>) -> Result<()> {
        for _ in 0..CLOSINGS {
            let state = State::load(place.fs.as_ref(), &place.folder)?;
            if !matches!(state.log, Some(LogName::Local { .. })) {
                return Ok(());
            }
            self.checkpoint().await?;
            let (place, right) = (place.clone(), Arc::clone(right));
            let closed = self.driver.run(move |committer| {
                let mut state = State::load(place.fs.as_ref(), &place.folder)?;
                if committer.last > state.checkpoint {
                    return Ok(false);
                }
                if let Some(LogName::Local { closed, .. }) = &mut state.log {
                    *closed = true;
                }
                state.store(place.fs.as_ref(), &place.folder)?;
                right.close();
                Ok(true)
            });
            if closed.await? {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the database cannot be closed while others commit")
            .with_hint("end the other sessions first"))
    }
}

async fn aside(work: impl FnOnce() + Send + 'static) -> Result<()> {
    datafusion::common::runtime::SpawnedTask::spawn_blocking(work)
        .join()
        .await
        .map_err(|e| Error::internal(format!("the claim was not released: {e}")))
}

impl Remote {
    /// For a store that is only a step on the way.
    fn without_right(&self) -> Self {
        // Its files need the right all the same: they have it.
        Self { right: None, ..self.clone() }
    }

    fn keep_copies(&self, database: Option<&str>) {
        if let (Some(local), Some(database)) = (&self.local, database) {
            self.files.keep_in(local.cache(database));
        }
    }
}

/// Publishes the state under the new epoch: from here on no other writer publishes.
fn begin_epoch(at: &Place, remote: &Remote, right: &Right) -> Result<State> {
    let path = at.folder.join(STATE);
    let failed = |doing: &str, e: std::io::Error| io_error(doing, &path, &e);
    for _ in 0..ATTEMPTS {
        let found = remote.files.adopt_state().map_err(|e| failed("read", e))?;
        let mut state = match found {
            Some(bytes) => State::parse(&bytes, &path)?,
            None => State::of_new(),
        };
        if state.epoch > right.epoch() {
            break;
        }
        state.epoch = right.epoch();
        state.database.get_or_insert_with(|| random_name(at));
        state.is_new = false;
        if remote.files.replace_state(&state.to_json()?).map_err(|e| failed("write", e))? {
            return Ok(state);
        }
    }
    Err(Error::new(
        ErrorKind::Unavailable,
        format!("the database at {} was taken over for writing by another process", remote.place.name),
    )
    .with_hint("open it read-only, or try again"))
}

/// 128 random bits as text.
fn random_name(at: &Place) -> String {
    let mut bytes = [0; 16];
    at.rng.fill(&mut bytes);
    format!("{:032x}", u128::from_le_bytes(bytes))
}

/// The log that the state names; `None` when it is not here and nothing, or nothing that is wanted, was in it.
async fn open_named(
    at: &Place,
    remote: &Remote,
    right: &Arc<Right>,
    state: &State,
    name: &LogName,
    accept_loss: bool,
) -> Result<Option<Opened>> {
    let first = history::first_segment(at, state)?;
    let (host, folder, closed) = match name {
        LogName::ObjectStore => return open_objects(remote, right, first).await.map(Some),
        LogName::Local { host, folder, closed, .. } => (host, folder, *closed),
    };
    let database = state.database.as_deref().unwrap_or_default();
    if let Some(folder) = remote.log_folder(database, name)? {
        let (wal, replay) = Wal::open(real(), &folder, first)?;
        let log = Box::new(Held::new(Box::new(wal), Arc::clone(right), true));
        return Ok(Some(Opened { log, replay }));
    }
    if closed || accept_loss {
        return Ok(None);
    }
    let since = state.latest().time().format("%Y-%m-%d %H:%M:%S UTC");
    Err(Error::new(
        ErrorKind::NotFound,
        format!(
            "the log of the database at {} is not on this machine: what was committed since the checkpoint of {since} \
             is in the folder {} on host {host}",
            remote.place.name,
            folder.display()
        ),
    )
    .with_hint(
        "open it there, or give that folder with --wal-dir; --readonly reads the last checkpoint; \
         --accept-lost-wal gives up what was committed since",
    ))
}

async fn open_objects(remote: &Remote, right: &Arc<Right>, first: SegmentId) -> Result<Opened> {
    let (wal, replay) = ObjectWal::open(remote.place.clone(), first, right).await?;
    Ok(Opened { log: Box::new(Held::new(Box::new(wal), Arc::clone(right), false)), replay })
}

async fn new_log(
    at: &Place,
    remote: &Remote,
    right: &Arc<Right>,
    state: &State,
    kind: WalKind,
) -> Result<(LogName, Opened)> {
    let first = SegmentId(state.first_segment.max(1));
    if kind == WalKind::ObjectStore {
        return Ok((LogName::ObjectStore, open_objects(remote, right, first).await?));
    }
    let Some(local) = &remote.local else {
        return Err(Error::invalid("there is no folder for the log: neither XDG_STATE_HOME nor HOME is set")
            .with_hint(
                "name one with --wal-dir, or keep the log beside the tables with --wal object-store",
            ));
    };
    let id = random_name(at);
    let folder = local.log(state.database.as_deref().unwrap_or_default(), &id);
    let (wal, replay) = Wal::create(real(), &folder, first)?;
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    let name = LogName::Local { id, host: Holder::host(), folder, closed: false };
    Ok((name, Opened { log: Box::new(Held::new(Box::new(wal), Arc::clone(right), true)), replay }))
}

impl LogName {
    fn kind(&self) -> WalKind {
        match self {
            Self::Local { .. } => WalKind::Local,
            Self::ObjectStore => WalKind::ObjectStore,
        }
    }
}
