//! The write-ahead log: what was committed, in order, durable before it is acknowledged.
//!
//! ```text
//!  wal/00000000000000000041.wal   │ header │ frame │ frame │ frame │            closed: whole, or damaged
//!  wal/00000000000000000042.wal   │ header │ frame │ frame │ fra                open: its tail may be torn
//!                                                    ▲       ▲
//!                                               synced       cut when the log is opened for writing
//! ```
//!
//! The open segment's file is longer than its frames: room is taken ahead, which are zeros and never a frame.
//!
//! A frame holds one [`record`]. Frames are appended in batches with one write and made durable with one
//! `fdatasync`. Checkpoints close a segment ([`Log::rotate`]) and later remove those that nobody needs
//! ([`Log::remove_before`]).
//!
//! **A power loss** may tear the unsynced tail in any way: it is cut when the log is opened for writing. What was
//! durable once and is bad now is damage: the log is not opened, nothing is changed, and the error names file
//! and offset. The two are told apart by what later frames say was durable before them. Limit: damage of the
//! very last synced batch, with nothing written after it, looks like a torn tail.
//!
//! **A full disk** fails the append, the file is cut back to the last good frame, and the log goes on. **A failed
//! sync** poisons the log: nobody knows what is on the disk. When it is opened again, the frames that are not
//! known to be durable are written once more before they are handed out.
//!
//! [`object`] keeps the same log on an object store.

mod frame;
pub mod object;
pub mod record;
mod replay;
mod segment;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use triune_common::{Error, ErrorKind, Result};

use crate::fs::{LogFile, StorageFs, io_error};
use frame::{ALIGN, SEGMENT_HEADER, SegmentHeader, encode_frame, frame_len};
use segment::SegmentWalk;

pub use frame::MAX_PAYLOAD;
pub use replay::Replay;

/// The number of a segment; they count up by one and are never given out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// Of a new log.
    pub const FIRST: Self = Self(1);

    fn next(self) -> Self {
        Self(self.0 + 1)
    }

    fn file_name(self) -> String {
        format!("{:020}.wal", self.0)
    }

    fn of_file_name(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(".wal").filter(|d| d.len() == 20)?;
        digits.parse().ok().map(Self)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub segment: SegmentId,
    pub offset: u64,
}

/// Why the log did not take something.
#[derive(Debug)]
pub enum WalError {
    /// Nothing of it is in the log, for good, and the log goes on: a full disk, a payload that is too long.
    RolledBack(Error),
    /// It may or may not be in the log. The log takes nothing more until it is opened again.
    Poisoned(Error),
}

impl WalError {
    pub fn error(&self) -> &Error {
        match self {
            Self::RolledBack(e) | Self::Poisoned(e) => e,
        }
    }

    pub fn is_poisoned(&self) -> bool {
        matches!(self, Self::Poisoned(_))
    }
}

impl fmt::Display for WalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error().fmt(f)
    }
}

impl std::error::Error for WalError {}

impl From<WalError> for Error {
    fn from(e: WalError) -> Self {
        match e {
            WalError::RolledBack(e) | WalError::Poisoned(e) => e,
        }
    }
}

/// A log that the committer thread writes. Calls block.
pub trait Log: fmt::Debug + Send {
    /// Adds frames behind those that are there. Durable after the next [`sync`](Self::sync).
    fn append(&mut self, payloads: &[&[u8]]) -> Result<(), WalError>;

    /// Makes all appended frames durable. On an object store a failure may be `RolledBack`: then no frame that
    /// was appended since the last successful sync is in the log.
    fn sync(&mut self) -> Result<(), WalError>;

    /// Makes all appended frames durable and begins a new segment; returns it.
    fn rotate(&mut self) -> Result<SegmentId, WalError>;

    /// Removes the segments before `first`. What could not be removed stays and is tried again at the next call.
    fn remove_before(&mut self, first: SegmentId) -> Result<()>;

    /// Bytes of all segments.
    fn bytes(&self) -> u64;

    /// The segment that the next frame goes to.
    fn segment(&self) -> SegmentId;

    /// Makes all appended frames durable and lets the next writer in.
    fn close(&mut self) -> Result<(), WalError> {
        self.sync()
    }
}

/// A log in a local folder.
#[derive(Debug)]
pub struct Wal {
    fs: Arc<dyn StorageFs>,
    dir: PathBuf,
    file: Box<dyn LogFile>,
    segment: SegmentId,
    /// The end of the last good frame.
    end: u64,
    /// How much of the segment is durable.
    synced: u64,
    /// How long the segment's file may be: room that is taken ahead of the frames, zeros until they come.
    reserved: u64,
    /// The bytes of the closed segments.
    closed: BTreeMap<SegmentId, u64>,
    buffer: Vec<u8>,
    poisoned: Option<Error>,
}

/// Above this the write buffer is given back after use.
const KEPT_BUFFER: usize = 4 << 20;

/// How far the file is grown ahead of its frames: as much again as there is, within these bounds. A sync of frames
/// within it writes them and nothing else, which takes two thirds of the time.
const AHEAD: (u64, u64) = (64 << 10, 16 << 20);

impl Wal {
    /// Opens the log of a database that may be new: when the folder holds no segment, `first` is made.
    pub fn create(fs: Arc<dyn StorageFs>, dir: &Path, first: SegmentId) -> Result<(Self, Replay)> {
        fs.create_dir_all(dir).map_err(|e| io_error("create", dir, &e))?;
        if segments(&fs, dir)?.is_empty() {
            begin_segment(&fs, dir, first, 0)?;
        }
        Self::open(fs, dir, first)
    }

    /// Opens the log for writing: cuts a torn tail, makes what is left durable, and removes segments before
    /// `first`, the first that is needed.
    ///
    /// Errors: `Data` for a missing segment and for damage in the last one, having changed nothing. Damage in
    /// a segment before the last is found by [`Replay`], which is to be read to its end before anything is
    /// appended.
    pub fn open(fs: Arc<dyn StorageFs>, dir: &Path, first: SegmentId) -> Result<(Self, Replay)> {
        let (needless, needed) = needed(&fs, dir, first)?;
        let last = *needed.last().unwrap_or(&first);
        let path = dir.join(last.file_name());
        let len = length(&fs, &path)?;
        let mut walk = SegmentWalk::of_file(&fs, path.clone(), last, len, true);
        while walk.next()?.is_some() {}

        let mut closed = BTreeMap::new();
        for segment in needed.iter().filter(|s| **s != last) {
            closed.insert(*segment, length(&fs, &dir.join(segment.file_name()))?);
        }
        let writing = |e: std::io::Error| io_error("write", &path, &e);
        let mut file = fs.open_append(&path).map_err(writing)?;
        if walk.header()?.is_none() {
            // Made, and the power went before its header was durable: nothing can have been written to it.
            let previous = closed.last_key_value().map_or(0, |(_, len)| *len);
            file.truncate(0).map_err(writing)?;
            file.append(&SegmentHeader { segment: last, previous, epoch: 0 }.encode()).map_err(writing)?;
        } else {
            // Cut even where nothing is torn: a sync that failed in an earlier process may have lost its cut, and
            // only a length that changes is sent to the disk again.
            file.truncate(walk.end() + ALIGN).map_err(writing)?;
            file.truncate(walk.end()).map_err(writing)?;
            rewrite(&fs, file.as_mut(), &path, walk.synced(), walk.end())?;
        }
        file.sync_data().map_err(writing)?;
        fs.sync_dir(dir).map_err(|e| io_error("sync", dir, &e))?;

        let replay = replay(&fs, dir, &needed)?;
        let end = walk.end().max(SEGMENT_HEADER);
        let mut wal = Self {
            fs,
            dir: dir.to_owned(),
            file,
            segment: last,
            end,
            synced: end,
            reserved: end,
            closed,
            buffer: Vec::new(),
            poisoned: None,
        };
        for segment in needless {
            wal.closed.insert(segment, 0);
        }
        // What stays is in nobody's way and is tried again after the next checkpoint.
        let _ = wal.remove_before(first);
        Ok((wal, replay))
    }

    /// Reads the log and changes nothing; it may be in use by a writer.
    ///
    /// The frames that a writer has appended and not synced are handed out too. Errors: `Data` for a missing
    /// segment; damage is found by [`Replay`]. When the writer removes segments meanwhile, `NotFound`: read
    /// anew from the first segment that is needed now.
    pub fn open_read_only(fs: &Arc<dyn StorageFs>, dir: &Path, first: SegmentId) -> Result<Replay> {
        let (_, needed) = needed(fs, dir, first)?;
        replay(fs, dir, &needed)
    }

    /// Cuts the file back to the last good frame after a failed write.
    fn roll_back(&mut self, e: &std::io::Error) -> WalError {
        let path = self.path(self.segment);
        let error = io_error("write", &path, e);
        // The cut must be durable: a frame that was refused must not come back after a power loss.
        match self.file.truncate(self.end).and_then(|()| self.file.sync_data()) {
            Ok(()) => {
                self.synced = self.end;
                self.reserved = self.end;
                WalError::RolledBack(error)
            }
            Err(e) => self.poison(&path, "cut back", &e),
        }
    }

    /// Takes room for frames up to `end` and for some after them.
    fn reserve(&mut self, end: u64) {
        if end <= self.reserved {
            return;
        }
        self.reserved = end + end.clamp(AHEAD.0, AHEAD.1);
        // A full disk shows when the frames themselves are written; what was got is given back by the next cut.
        let _ = self.file.reserve(self.reserved);
    }

    /// Gives back the room that is left: a closed segment ends with its last frame.
    fn cut_reserve(&mut self) -> Result<(), WalError> {
        if self.reserved <= self.end {
            return Ok(());
        }
        let path = self.path(self.segment);
        self.file
            .truncate(self.end)
            .and_then(|()| self.file.sync_data())
            .map_err(|e| self.poison(&path, "cut", &e))?;
        self.reserved = self.end;
        Ok(())
    }

    fn poison(&mut self, path: &Path, doing: &str, e: &std::io::Error) -> WalError {
        let error = Error::new(
            ErrorKind::Unavailable,
            format!("cannot {doing} {}: {e}; nobody knows what is on the disk", path.display()),
        )
        .with_hint(
            "no more is written until the database is opened again; what was read before is not affected",
        );
        self.poisoned = Some(error.copy());
        WalError::Poisoned(error)
    }

    fn check(&self) -> Result<(), WalError> {
        match &self.poisoned {
            Some(e) => Err(WalError::Poisoned(e.copy())),
            None => Ok(()),
        }
    }

    fn path(&self, segment: SegmentId) -> PathBuf {
        self.dir.join(segment.file_name())
    }
}

impl Log for Wal {
    fn append(&mut self, payloads: &[&[u8]]) -> Result<(), WalError> {
        self.check()?;
        check_lengths(payloads)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.reserve(payloads.iter().map(|p| frame_len(p.len()) as usize).sum());
        for payload in payloads {
            let offset = self.end + buffer.len() as u64;
            encode_frame(&mut buffer, payload, self.segment, offset, self.synced);
        }
        let len = buffer.len() as u64;
        self.reserve(self.end + len);
        let written = self.file.append(&buffer);
        if buffer.capacity() <= KEPT_BUFFER {
            self.buffer = buffer;
        }
        written.map_err(|e| self.roll_back(&e))?;
        self.end += len;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), WalError> {
        self.check()?;
        if self.synced < self.end {
            let path = self.path(self.segment);
            self.file.sync_data().map_err(|e| self.poison(&path, "sync", &e))?;
            self.synced = self.end;
        }
        Ok(())
    }

    fn rotate(&mut self) -> Result<SegmentId, WalError> {
        self.sync()?;
        self.cut_reserve()?;
        let next = self.segment.next();
        let path = self.path(next);
        match begin_segment(&self.fs, &self.dir, next, self.end) {
            Ok(file) => {
                self.closed.insert(self.segment, self.end);
                self.file = file;
                self.segment = next;
                self.end = SEGMENT_HEADER;
                self.synced = SEGMENT_HEADER;
                self.reserved = SEGMENT_HEADER;
                Ok(next)
            }
            Err(error) => {
                // A segment that has one behind it must be whole: unless that one is gone for good, nothing may
                // be appended any more.
                let gone = self.fs.exists(&path).and_then(
                    |there| {
                        if there { self.fs.remove(&path) } else { Ok(()) }
                    },
                );
                match gone.and_then(|()| self.fs.sync_dir(&self.dir)) {
                    Ok(()) => Err(WalError::RolledBack(error)),
                    Err(e) => Err(self.poison(&path, "remove", &e)),
                }
            }
        }
    }

    fn remove_before(&mut self, first: SegmentId) -> Result<()> {
        let needless: Vec<SegmentId> = self.closed.range(..first).map(|(s, _)| *s).collect();
        if needless.is_empty() {
            return Ok(());
        }
        for segment in needless {
            let path = self.path(segment);
            match self.fs.remove(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(io_error("remove", &path, &e)),
            }
            self.closed.remove(&segment);
        }
        self.fs.sync_dir(&self.dir).map_err(|e| io_error("sync", &self.dir, &e))
    }

    fn bytes(&self) -> u64 {
        self.end + self.closed.values().sum::<u64>()
    }

    fn segment(&self) -> SegmentId {
        self.segment
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        if self.poisoned.is_none() && self.reserved > self.end {
            // Opening cuts it too; this keeps a database that nobody has open as small as it can be.
            let _ = self.file.truncate(self.end);
        }
    }
}

fn check_lengths(payloads: &[&[u8]]) -> Result<(), WalError> {
    match payloads.iter().find(|p| p.len() > MAX_PAYLOAD) {
        None => Ok(()),
        Some(p) => Err(WalError::RolledBack(
            Error::new(
                ErrorKind::Resources,
                format!(
                    "a transaction of {} bytes does not fit into the log, which takes {MAX_PAYLOAD}",
                    p.len()
                ),
            )
            .with_hint("split it into several transactions"),
        )),
    }
}

/// Makes a segment, durable with its name, ready to append to.
fn begin_segment(
    fs: &Arc<dyn StorageFs>,
    dir: &Path,
    segment: SegmentId,
    previous: u64,
) -> Result<Box<dyn LogFile>> {
    let path = dir.join(segment.file_name());
    let make = || {
        let mut file = fs.open_append(&path)?;
        file.truncate(0)?;
        file.append(&SegmentHeader { segment, previous, epoch: 0 }.encode())?;
        file.sync_data()?;
        fs.sync_dir(dir)?;
        Ok(file)
    };
    make().map_err(|e: std::io::Error| io_error("create", &path, &e))
}

/// Writes bytes again that may be in the cache only. A sync that failed in an earlier process has marked them as
/// written; the next sync would not send them.
fn rewrite(fs: &Arc<dyn StorageFs>, file: &mut dyn LogFile, path: &Path, from: u64, to: u64) -> Result<()> {
    let mut at = from;
    while at < to {
        let len = (to - at).min(1 << 20) as usize;
        let bytes = fs.read_exact_at(path, at, len).map_err(|e| io_error("read", path, &e))?;
        file.overwrite(at, &bytes).map_err(|e| io_error("write", path, &e))?;
        at += len as u64;
    }
    Ok(())
}

/// All segments in the folder, ascending.
fn segments(fs: &Arc<dyn StorageFs>, dir: &Path) -> Result<Vec<SegmentId>> {
    let names = fs.list(dir).map_err(|e| io_error("list", dir, &e))?;
    let mut found: Vec<SegmentId> = names.iter().filter_map(|n| SegmentId::of_file_name(n)).collect();
    found.sort_unstable();
    Ok(found)
}

/// The segments before `first`, and those from `first` on, which must be without a gap.
fn needed(fs: &Arc<dyn StorageFs>, dir: &Path, first: SegmentId) -> Result<(Vec<SegmentId>, Vec<SegmentId>)> {
    let (needless, needed): (Vec<_>, Vec<_>) = segments(fs, dir)?.into_iter().partition(|s| *s < first);
    if let Some(missing) = missing(&needed, first) {
        let name = dir.join(missing.file_name());
        return Err(Error::data(format!("the write-ahead log is damaged: {} is missing", name.display()))
            .with_hint("restore the file from a backup; nothing was changed"));
    }
    Ok((needless, needed))
}

/// The first number that is not in an ascending list that should begin with `first` and have no gap.
fn missing(found: &[SegmentId], first: SegmentId) -> Option<SegmentId> {
    if found.is_empty() {
        return Some(first);
    }
    (first.0..).map(SegmentId).zip(found).find(|(expected, s)| expected != *s).map(|(expected, _)| expected)
}

fn length(fs: &Arc<dyn StorageFs>, path: &Path) -> Result<u64> {
    fs.len(path).map_err(|e| io_error("read", path, &e))
}

fn replay(fs: &Arc<dyn StorageFs>, dir: &Path, needed: &[SegmentId]) -> Result<Replay> {
    let mut waiting = VecDeque::with_capacity(needed.len());
    for segment in needed {
        let path = dir.join(segment.file_name());
        let (len, last) = (length(fs, &path)?, needed.last() == Some(segment));
        waiting.push_back(replay::Waiting::File { fs: Arc::clone(fs), path, segment: *segment, len, last });
    }
    Ok(Replay::new(waiting))
}

#[cfg(test)]
mod tests;
