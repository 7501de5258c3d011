//! One writer process per database in a folder.
//!
//! ```text
//! error[unavailable]: the database at my.db is open for writing by process 4711 on host h since 2026-11-22 20:14:03 UTC; …
//! ```
//!
//! The writer holds an exclusive `flock` on `writer.lock`, which also says who it is. The kernel releases the lock
//! when the process ends, however it ends; what the file says then is stale and nobody asks. Limit: on a
//! network file system without `flock` two machines can open one database; the log's own fence is for object
//! stores ([`crate::wal::object`]).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use triune_common::{Clock, Error, ErrorKind, Result};

use crate::fs::io_error;

/// The lock file's name in the database's folder.
pub const LOCK_FILE: &str = "writer.lock";

/// A process that writes a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub host: String,
    pub since: DateTime<Utc>,
}

impl Holder {
    /// This process, now.
    pub fn this(clock: &dyn Clock) -> Self {
        Self { pid: std::process::id(), host: host_name(), since: clock.now() }
    }

    /// What this machine calls itself.
    pub(crate) fn host() -> String {
        host_name()
    }

    /// The error for another one who wants to write.
    pub fn in_the_way(&self, place: &str) -> Error {
        Error::new(ErrorKind::Unavailable, format!("the database at {place} is open for writing by {self}"))
            .with_hint("open it read-only, or close it there first")
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.since.format("%Y-%m-%d %H:%M:%S UTC");
        write!(f, "process {} on host {} since {since}", self.pid, self.host)
    }
}

/// The right to write a database, for as long as the value lives.
#[derive(Debug)]
pub struct WriterLock {
    file: File,
}

impl WriterLock {
    /// Takes the lock of the database in `folder`, without waiting.
    ///
    /// Errors: `Unavailable`, naming the holder, when somebody has it, this process included.
    pub fn acquire(folder: &Path, clock: &dyn Clock) -> Result<Self> {
        Self::acquire_named(folder, &folder.display().to_string(), clock)
    }

    /// The same for a database that is elsewhere: `place` is its name in messages.
    pub(crate) fn acquire_named(folder: &Path, place: &str, clock: &dyn Clock) -> Result<Self> {
        let path = folder.join(LOCK_FILE);
        let failed = |e: io::Error| io_error("lock", &path, &e);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        if !try_lock(&file).map_err(failed)? {
            let mut text = String::new();
            return Err(
                match file.read_to_string(&mut text).map(|_| serde_json::from_str::<Holder>(&text)) {
                    Ok(Ok(holder)) => holder.in_the_way(place),
                    // The holder is about to write its name.
                    _ => Error::new(
                        ErrorKind::Unavailable,
                        format!("the database at {place} is open for writing by another process"),
                    )
                    .with_hint("open it read-only, or close it there first"),
                },
            );
        }
        let text = serde_json::to_string(&Holder::this(clock))
            .map_err(|e| Error::internal(format!("the lock's holder cannot be written as JSON: {e}")))?;
        let mut write = || {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(text.as_bytes())
        };
        match write() {
            Ok(()) => {}
            // The name is for messages only; on a full disk the lock holds without it.
            Err(e) if crate::fs::is_no_space(&e) => {}
            Err(e) => return Err(failed(e)),
        }
        Ok(Self { file })
    }
}

impl Drop for WriterLock {
    fn drop(&mut self) {
        unlock(&self.file);
    }
}

/// Gives the lock back. Closing alone would leave it with a child process that is being started at this moment.
pub(crate) fn unlock(file: &File) {
    // SAFETY: the descriptor belongs to `file`, which is open for the whole call.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) };
}

/// Takes the exclusive lock of an open file; `false` when another descriptor has the lock.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    loop {
        // SAFETY: the descriptor belongs to `file`, which is open for the whole call.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(true);
        }
        let e = io::Error::last_os_error();
        match e.kind() {
            io::ErrorKind::WouldBlock => return Ok(false),
            io::ErrorKind::Interrupted => {}
            _ => return Err(e),
        }
    }
}

fn host_name() -> String {
    let mut name = [0_u8; 256];
    // SAFETY: the buffer is as long as the call is told, less one byte that stays 0.
    let got = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let len = name.iter().position(|b| *b == 0).unwrap_or(0);
    if got == 0 && len > 0 { String::from_utf8_lossy(&name[..len]).into_owned() } else { "?".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use triune_common::ManualClock;

    use super::*;

    #[test]
    fn the_second_writer_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::default();
        clock.advance(Duration::from_secs(86_400));
        let lock = WriterLock::acquire(folder.path(), &clock).unwrap();
        let e = WriterLock::acquire(folder.path(), &clock).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unavailable);
        let expected = format!(
            "the database at {} is open for writing by process {} on host {} since 1970-01-02 00:00:00 UTC",
            folder.path().display(),
            std::process::id(),
            host_name()
        );
        assert_eq!(e.message(), expected);
        drop(lock);
        WriterLock::acquire(folder.path(), &clock).unwrap();
    }

    #[test]
    fn the_lock_of_a_dead_process_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::default();
        let path = folder.path().join(LOCK_FILE);
        std::fs::write(&path, r#"{"pid":1,"host":"gone","since":"2020-01-01T00:00:00Z"}"#).unwrap();
        let mut child = std::process::Command::new("flock")
            .args(["--exclusive", "--close", path.to_str().unwrap(), "sleep", "5"])
            .spawn()
            .unwrap();
        let e = loop {
            match WriterLock::acquire(folder.path(), &clock) {
                Err(e) => break e,
                Ok(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        assert!(e.message().contains("open for writing by process"), "{e}");
        child.kill().unwrap();
        child.wait().unwrap();
        WriterLock::acquire(folder.path(), &clock).unwrap();
    }
}
