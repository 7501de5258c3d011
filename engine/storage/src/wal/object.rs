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

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt, PutMode, PutOptions};
use triune_common::{Error, ErrorKind, Result, boxed};

use super::frame::{SEGMENT_HEADER, SegmentHeader, encode_frame};
use super::replay::Waiting;
use super::{Log, Replay, SegmentId, WalError, check_lengths, missing};
use crate::place::{ATTEMPTS, FIRST_PAUSE, ObjectPlace, Right, again, fenced};

/// How many objects are read or removed at the same time.
const PARALLEL: usize = 8;

impl ObjectPlace {
    fn segment(&self, segment: SegmentId) -> Path {
        self.prefix.clone().join("wal").join(segment.file_name())
    }

    /// All segments with their sizes.
    async fn segments(&self) -> Result<BTreeMap<SegmentId, u64>> {
        let folder = self.prefix.clone().join("wal");
        let list = || async { self.store.list(Some(&folder)).try_collect::<Vec<_>>().await };
        let objects = again(list).await.map_err(|e| self.error("list", &folder, e))?;
        let segment = |o: &ObjectMeta| o.location.filename().and_then(SegmentId::of_file_name);
        Ok(objects.iter().filter_map(|o| Some((segment(o)?, o.size))).collect())
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
#[derive(Debug)]
pub struct ObjectWal {
    place: ObjectPlace,
    epoch: u64,
    /// The object that the next sync puts.
    segment: SegmentId,
    /// Its bytes so far; empty without a frame.
    staged: Vec<u8>,
    sizes: BTreeMap<SegmentId, u64>,
    poisoned: Option<Error>,
}

impl ObjectWal {
    /// Puts this writer's fence and reads the log from `first` on, the first segment that is needed. A log that has
    /// no segment begins with `first`.
    ///
    /// Errors: unavailable when another writer has taken over since `right` was claimed; data for a missing segment.
    /// Damage is found by [`Replay`], which is to be read to its end before anything is appended.
    #[boxed]
    pub async fn open(place: ObjectPlace, first: SegmentId, right: &Right) -> Result<(Self, Replay)> {
        let epoch = right.epoch();
        // Whatever the writer before puts from here on, it puts before the fence, and it is seen.
        let mut sizes = place.segments().await?;
        let mut fence = sizes.last_key_value().map_or(first, |(last, _)| last.next()).max(first);
        loop {
            let header = SegmentHeader { segment: fence, previous: 0, epoch }.encode();
            match put_new(&place, fence, header.into()).await {
                Ok(Put::Done) => break,
                Ok(Put::Taken(other)) => {
                    let theirs = SegmentHeader::decode(&other, fence).map(|h| h.epoch);
                    if theirs.is_ok_and(|theirs| theirs > epoch) {
                        return Err(fenced(&place).await);
                    }
                    sizes.insert(fence, other.len() as u64);
                    fence = fence.next();
                }
                Err(e) => return Err(e.into()),
            }
        }
        sizes.insert(fence, SEGMENT_HEADER);
        let replay = place.replay(first, &sizes).await?;
        let segment = fence.next();
        Ok((Self { place, epoch, segment, staged: Vec::new(), sizes, poisoned: None }, replay))
    }

    /// Reads the log from `first` on and changes nothing. Every frame that is handed out is durable.
    #[boxed]
    pub async fn open_read_only(place: &ObjectPlace, first: SegmentId) -> Result<Replay> {
        let sizes = place.segments().await?;
        if sizes.range(first..).next().is_none() {
            // Nothing was committed since the checkpoint that named `first`: its object comes with the next commit.
            return Ok(Replay::nothing());
        }
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
            let header = SegmentHeader { segment: self.segment, previous: 0, epoch: self.epoch };
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
        let (place, segment) = (self.place.clone(), self.segment);
        let put = self.place.io.wait(async move {
            match put_new(&place, segment, bytes).await {
                Ok(Put::Taken(_)) => Err(WalError::Poisoned(fenced(&place).await)),
                done => done,
            }
        });
        let put = put.unwrap_or_else(|e| Err(WalError::Poisoned(Error::internal(e.to_string()))));
        match put {
            Ok(Put::Done) => {
                self.sizes.insert(self.segment, len);
                self.segment = self.segment.next();
                Ok(())
            }
            Ok(Put::Taken(_)) => Err(self.poison(Error::internal("a segment of another writer was not met"))),
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
        let place = self.place.clone();
        let removed = self.place.io.wait(async move {
            let place = &place;
            futures::stream::iter(needless)
                .map(|segment| async move {
                    let path = place.segment(segment);
                    match place.store.delete(&path).await {
                        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(segment),
                        Err(e) => Err(place.error("remove", &path, e)),
                    }
                })
                .buffer_unordered(PARALLEL)
                .collect::<Vec<Result<SegmentId>>>()
                .await
        });
        let removed = removed.map_err(|e| Error::internal(e.to_string()))?;
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
async fn put_new(place: &ObjectPlace, segment: SegmentId, bytes: Bytes) -> Result<Put, WalError> {
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
