//! What other processes read, so that VACUUM leaves it to them.
//!
//! ```text
//!  readers/4711-93ac01….json     the state.json that process 4711 reads; it holds a flock on the file meanwhile
//! ```
//!
//! A read-only opening announces the state that it reads *before* it makes sure that this state is still the
//! published one: a VACUUM that runs from then on finds the announcement, one that began before keeps the
//! published state. The kernel releases the lock when the process ends, however it ends; the next VACUUM removes
//! the file.
//!
//! Limits: a folder that the reader cannot write, a file system without `flock` and a bucket have no
//! announcements. There the keeper's VACUUM leaves files alone for a time after a newer state was published
//! ([`super::Limits::reader_grace`]); `VACUUM t` does not. Versions that a reader asks for with `AT` are not announced.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use triune_common::Result;

use super::shared::Place;
use super::state::{State, TableState};
use crate::fs::io_error;
use crate::lock::{try_lock, unlock};
use crate::stamp::TableId;

const FOLDER: &str = "readers";

/// The announcement of one read-only opening; taken back when it is dropped.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    file: File,
}

impl Reader {
    /// Announces that this process reads `state`; `None` where that is not possible.
    pub(super) fn announce(place: &Place, state: &State) -> Option<Self> {
        if place.remote.is_some() || state.is_new {
            return None;
        }
        let folder = place.folder.join(FOLDER);
        std::fs::create_dir_all(&folder).ok()?;
        let mut name = [0; 8];
        place.rng.fill(&mut name);
        let name = format!("{}-{:016x}", std::process::id(), u64::from_le_bytes(name));
        let aside = folder.join(format!("{name}.tmp"));
        let file = OpenOptions::new().write(true).create_new(true).open(&aside).ok()?;
        let mut reader = Self { path: aside, file };
        if !try_lock(&reader.file).ok()? {
            return None;
        }
        reader.file.write_all(&state.to_json().ok()?).ok()?;
        // Under its last name it is locked and whole.
        let path = folder.join(format!("{name}.json"));
        std::fs::rename(&reader.path, &path).ok()?;
        reader.path = path;
        Some(reader)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // What cannot be removed is found unlocked by the next VACUUM.
        drop(std::fs::remove_file(&self.path));
        unlock(&self.file);
    }
}

/// The states that read-only openings have announced. Files of readers that are gone are removed.
///
/// Errors: an announcement that cannot be read; nobody knows what it protects.
pub(super) fn announced(place: &Place) -> Result<Vec<State>> {
    let folder = place.folder.join(FOLDER);
    let failed = |e: io::Error| io_error("read", &folder, &e);
    if place.remote.is_some() {
        return Ok(Vec::new());
    }
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut states = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let whole = path.extension().is_some_and(|e| e == "json");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(failed(e)),
        };
        if try_lock(&file).map_err(failed)? {
            // Its process has ended. One that is about to lock its file has not named it for good yet.
            if whole {
                drop(std::fs::remove_file(&path));
            }
            unlock(&file);
        } else if whole {
            match std::fs::read(&path) {
                Ok(bytes) => states.push(State::parse(&bytes, &path)?),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(failed(e)),
            }
        }
    }
    Ok(states)
}

/// What a published state said of a table until a newer one took its place.
#[derive(Debug, Clone)]
pub(super) struct Superseded {
    pub(super) at: DateTime<Utc>,
    pub(super) table: TableId,
    pub(super) state: TableState,
}

/// The parts of `old` that `new` says otherwise, as of now.
pub(super) fn superseded(old: &State, new: &State, now: DateTime<Utc>) -> Vec<Superseded> {
    let gone = |(id, then): &(&TableId, &TableState)| {
        new.tables.get(id).is_none_or(|t| t.base != then.base || t.rows_revision != then.rows_revision)
    };
    let parts = old.tables.iter().filter(gone).map(|(id, then)| {
        let mut state = then.clone();
        // VACUUM asks for files and the version alone.
        state.base.fragments = Vec::new();
        Superseded { at: now, table: *id, state }
    });
    parts.collect()
}
