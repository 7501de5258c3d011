//! The write-ahead log on an object store, for machines without a durable disk.
//!
//! ```text
//!  writer.json                    { "epoch": 7, "holder": { "pid": …, "host": …, "since": … }, "released": false }
//!  wal/00000000000000000040.wal   │ header, epoch 6 │ frame │ frame │     one group commit
//!  wal/00000000000000000041.wal   │ header, epoch 7 │                     the fence of the writer of epoch 7
//!  wal/00000000000000000042.wal   │ header, epoch 7 │ frame │
//! ```
//!
//! Each [`Log::sync`] is one PUT that succeeds only if no object of that number exists. An object is a segment as
//! a whole: numbers have no gap, and nothing in it can be torn.
//!
//! **One writer.** A writer claims the next epoch with a conditional PUT of `writer.json` and then puts a fence,
//! a segment without frames, at the first free number. That is the number that the writer before it would use
//! next: its PUT fails, and it learns from `writer.json` who took over. Fences are never removed, however old:
//! a writer that slept for days finds its number taken. They have 48 bytes, one for each time the database was
//! opened for writing.
//!
//! **Failures.** What the store refuses outright (permissions, a missing bucket) is not in the log, and the log
//! goes on. Everything else is tried again; the object that is found under its number then tells whether an
//! earlier try arrived. When the store stays silent, nobody knows, and the log is poisoned.

mod claim;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio::runtime::Handle;
use triune_common::{Error, ErrorKind, Result};

use super::frame::{SEGMENT_HEADER, SegmentHeader, encode_frame};
use super::replay::Waiting;
use super::{Log, Replay, SegmentId, WalError, check_lengths, missing};
use crate::lock::Holder;
use claim::WriterClaim;

pub use claim::Claim;

/// How often a PUT is tried, and the pause after the first failure; each later pause is twice as long.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 50 });

/// How many objects are read or removed at the same time.
const PARALLEL: usize = 8;

/// Where a log is.
#[derive(Debug, Clone)]
pub struct ObjectLogPlace {
    pub store: Arc<dyn ObjectStore>,
    /// The database's folder in the store.
    pub prefix: Path,
    /// The database's URL, for messages.
    pub name: String,
}

impl ObjectLogPlace {
    fn segment(&self, segment: SegmentId) -> Path {
        self.prefix.clone().join("wal").join(segment.file_name())
    }

    fn error(&self, doing: &str, path: &Path, e: object_store::Error) -> Error {
        use object_store::Error as E;
        let kind = match &e {
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => ErrorKind::Permission,
            E::NotFound { .. } => ErrorKind::NotFound,
            E::NotImplemented { .. } | E::NotSupported { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, format!("cannot {doing} {path} of the database at {}: {e}", self.name))
            .with_source(e)
    }

    async fn get(&self, path: &Path) -> Result<Bytes> {
        let got = self.store.get(path).await.map_err(|e| self.error("read", path, e))?;
        got.bytes().await.map_err(|e| self.error("read", path, e))
    }

    /// All segments with their sizes.
    async fn segments(&self) -> Result<BTreeMap<SegmentId, u64>> {
        let folder = self.prefix.clone().join("wal");
        let mut found = BTreeMap::new();
        let mut list = self.store.list(Some(&folder));
        while let Some(object) = list.try_next().await.map_err(|e| self.error("list", &folder, e))? {
            if let Some(segment) = object.location.filename().and_then(SegmentId::of_file_name) {
                found.insert(segment, object.size);
            }
        }
        Ok(found)
    }

    /// The frames of the segments from `first` on, which must be without a gap.
    async fn replay(&self, first: SegmentId, sizes: &BTreeMap<SegmentId, u64>) -> Result<Replay> {
        let needed: Vec<SegmentId> = sizes.range(first..).map(|(s, _)| *s).collect();
        if let Some(missing) = missing(&needed, first) {
            let path = self.segment(missing);
            return Err(Error::data(format!(
                "the write-ahead log is damaged: {path} of the database at {} is missing",
                self.name
            ))
            .with_hint("restore the object from a backup; nothing was changed"));
        }
        let waiting: VecDeque<Waiting> = futures::stream::iter(needed)
            .map(|segment| async move {
                let path = self.segment(segment);
                let bytes = self.get(&path).await?;
                Ok::<_, Error>(Waiting::Memory { bytes, name: path.to_string(), segment })
            })
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        Ok(Replay::new(waiting))
    }
}

/// A log of which each sync is one object.
///
/// The calls of [`Log`] wait for the store on the runtime that the log was opened with, which must have threads of
/// its own: make them from another thread, never from one of the runtime's.
#[derive(Debug)]
pub struct ObjectWal {
    place: ObjectLogPlace,
    runtime: Handle,
    claim: WriterClaim,
    /// The object that the next sync puts.
    segment: SegmentId,
    /// Its bytes so far; empty without a frame.
    staged: Vec<u8>,
    sizes: BTreeMap<SegmentId, u64>,
    poisoned: Option<Error>,
}

impl ObjectWal {
    /// Claims the log for this writer and reads it from `first` on, the first segment that is needed. A log that
    /// has no segment begins with `first`.
    ///
    /// Errors: `Unavailable`, naming the holder, when somebody has claimed and not released it and `claim` is
    /// [`Claim::IfFree`]; `Data` for a missing segment. Damage is found by [`Replay`], which is to be read to
    /// its end before anything is appended.
    pub async fn open(
        place: ObjectLogPlace,
        first: SegmentId,
        claim: Claim,
        holder: Holder,
    ) -> Result<(Self, Replay)> {
        let claim = claim::claim(&place, claim, holder).await?;
        // Whatever the writer before puts from here on, it puts before the fence, and it is seen.
        let mut sizes = place.segments().await?;
        let mut fence = sizes.last_key_value().map_or(first, |(last, _)| last.next()).max(first);
        loop {
            let header = SegmentHeader { segment: fence, previous: 0, epoch: claim.epoch }.encode();
            match put_new(&place, fence, header.into()).await {
                Ok(Put::Done) => break,
                Ok(Put::Taken(other)) => {
                    let epoch = SegmentHeader::decode(&other, fence).map(|h| h.epoch);
                    if epoch.is_ok_and(|epoch| epoch > claim.epoch) {
                        return Err(claim::fenced(&place).await);
                    }
                    sizes.insert(fence, other.len() as u64);
                    fence = fence.next();
                }
                Err(e) => return Err(e.into()),
            }
        }
        sizes.insert(fence, SEGMENT_HEADER);
        let replay = place.replay(first, &sizes).await?;
        let wal = Self {
            place,
            runtime: Handle::current(),
            claim,
            segment: fence.next(),
            staged: Vec::new(),
            sizes,
            poisoned: None,
        };
        Ok((wal, replay))
    }

    /// Reads the log from `first` on and changes nothing. Every frame that is handed out is durable.
    pub async fn open_read_only(place: &ObjectLogPlace, first: SegmentId) -> Result<Replay> {
        let sizes = place.segments().await?;
        place.replay(first, &sizes).await
    }

    fn poison(&mut self, error: Error) -> WalError {
        self.poisoned = Some(error.copy());
        WalError::Poisoned(error)
    }

    fn check(&self) -> Result<(), WalError> {
        match &self.poisoned {
            Some(e) => Err(WalError::Poisoned(e.copy())),
            None => Ok(()),
        }
    }
}

impl Log for ObjectWal {
    fn append(&mut self, payloads: &[&[u8]]) -> Result<(), WalError> {
        self.check()?;
        check_lengths(payloads)?;
        if self.staged.is_empty() && !payloads.is_empty() {
            let header = SegmentHeader { segment: self.segment, previous: 0, epoch: self.claim.epoch };
            self.staged = header.encode();
        }
        for payload in payloads {
            let offset = self.staged.len() as u64;
            encode_frame(&mut self.staged, payload, self.segment, offset, 0);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), WalError> {
        self.check()?;
        if self.staged.is_empty() {
            return Ok(());
        }
        let bytes = Bytes::from(std::mem::take(&mut self.staged));
        let len = bytes.len() as u64;
        match self.runtime.block_on(put_new(&self.place, self.segment, bytes)) {
            Ok(Put::Done) => {
                self.sizes.insert(self.segment, len);
                self.segment = self.segment.next();
                Ok(())
            }
            Ok(Put::Taken(_)) => {
                let error = self.runtime.block_on(claim::fenced(&self.place));
                Err(self.poison(error))
            }
            Err(WalError::RolledBack(e)) => Err(WalError::RolledBack(e)),
            Err(WalError::Poisoned(e)) => Err(self.poison(e)),
        }
    }

    fn rotate(&mut self) -> Result<SegmentId, WalError> {
        self.sync()?;
        Ok(self.segment)
    }

    fn remove_before(&mut self, first: SegmentId) -> Result<()> {
        // Fences stay: see the module's documentation.
        let needless: Vec<SegmentId> =
            self.sizes.range(..first).filter(|(_, len)| **len > SEGMENT_HEADER).map(|(s, _)| *s).collect();
        let place = &self.place;
        let removed = self.runtime.block_on(
            futures::stream::iter(needless)
                .map(|segment| async move {
                    let path = place.segment(segment);
                    match place.store.delete(&path).await {
                        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(segment),
                        Err(e) => Err(place.error("remove", &path, e)),
                    }
                })
                .buffer_unordered(PARALLEL)
                .collect::<Vec<Result<SegmentId>>>(),
        );
        let mut failed = None;
        for one in removed {
            match one {
                Ok(segment) => {
                    self.sizes.remove(&segment);
                }
                Err(e) => failed = Some(e),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn bytes(&self) -> u64 {
        self.staged.len() as u64 + self.sizes.values().sum::<u64>()
    }

    fn segment(&self) -> SegmentId {
        self.segment
    }

    fn close(&mut self) -> Result<(), WalError> {
        self.sync()?;
        self.runtime.block_on(self.claim.release(&self.place)).map_err(WalError::RolledBack)
    }
}

/// What became of an object that was to be new.
#[derive(Debug)]
enum Put {
    Done,
    /// Somebody else's object has the number.
    Taken(Bytes),
}

/// Puts a segment under a number that must be free, again and again while the store does not answer.
///
/// Errors: `RolledBack` when it is certain that the object is not there, `Poisoned` when nobody knows.
async fn put_new(place: &ObjectLogPlace, segment: SegmentId, bytes: Bytes) -> Result<Put, WalError> {
    use object_store::Error as E;
    let path = place.segment(segment);
    let mut pause = FIRST_PAUSE;
    let mut tries = 0;
    loop {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        tries += 1;
        match place.store.put_opts(&path, bytes.clone().into(), options).await {
            Ok(_) => return Ok(Put::Done),
            Err(E::AlreadyExists { .. } | E::Precondition { .. }) => match place.get(&path).await {
                // An earlier try arrived after all: epochs differ between writers, so only our object is equal.
                Ok(there) if there == bytes => return Ok(Put::Done),
                Ok(there) => return Ok(Put::Taken(there)),
                Err(e) if tries >= ATTEMPTS => return Err(WalError::Poisoned(unknown(&e))),
                Err(_) => {}
            },
            Err(
                e @ (E::PermissionDenied { .. }
                | E::Unauthenticated { .. }
                | E::NotFound { .. }
                | E::NotSupported { .. }
                | E::NotImplemented { .. }
                | E::InvalidPath { .. }),
            ) => {
                let error = place.error("write", &path, e);
                // An earlier try that was not answered may still arrive.
                return Err(if tries == 1 {
                    WalError::RolledBack(error)
                } else {
                    WalError::Poisoned(unknown(&error))
                });
            }
            Err(e) if tries >= ATTEMPTS => {
                return Err(WalError::Poisoned(unknown(&place.error("write", &path, e))));
            }
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

fn unknown(e: &Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{}; nobody knows whether it arrived", e.message())).with_hint(
        "no more is written until the database is opened again; what was read before is not affected",
    )
}

#[cfg(test)]
mod tests;
