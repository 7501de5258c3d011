//! Reading a whole log, segment by segment.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use triune_common::Result;

use super::segment::SegmentWalk;
use super::{Position, SegmentId};
use crate::fs::StorageFs;

/// The frames of a log in the order in which they were appended.
///
/// After an error the walk is over: what was handed out before it is intact, what follows is not reached.
#[derive(Debug)]
pub struct Replay {
    waiting: VecDeque<Waiting>,
    current: Option<SegmentWalk>,
    segment: SegmentId,
    /// Where the segment before ended.
    previous: u64,
}

#[derive(Debug)]
pub(super) enum Waiting {
    /// `len`: what was there when the log was opened; what is appended later is not read.
    File {
        fs: Arc<dyn StorageFs>,
        path: PathBuf,
        segment: SegmentId,
        len: u64,
        last: bool,
    },
    Memory {
        bytes: bytes::Bytes,
        name: String,
        segment: SegmentId,
    },
}

impl Replay {
    pub(super) fn new(waiting: VecDeque<Waiting>) -> Self {
        Self { waiting, current: None, segment: SegmentId(0), previous: 0 }
    }

    /// Of a log that does not exist.
    pub(crate) fn nothing() -> Self {
        Self::new(VecDeque::new())
    }

    fn step(&mut self) -> Result<Option<(Position, Vec<u8>)>> {
        loop {
            if self.current.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some(walk) = &mut self.current else { return Ok(None) };
            if let Some((offset, payload)) = walk.next()? {
                return Ok(Some((Position { segment: self.segment, offset }, payload)));
            }
            self.previous = walk.end();
            self.current = None;
        }
    }

    /// Begins with the next segment; `false` after the last.
    fn open_next(&mut self) -> Result<bool> {
        let Some(waiting) = self.waiting.pop_front() else { return Ok(false) };
        let mut walk = match waiting {
            Waiting::File { fs, path, segment, len, last } => {
                self.segment = segment;
                SegmentWalk::of_file(&fs, path, segment, len, last)
            }
            Waiting::Memory { bytes, name, segment } => {
                self.segment = segment;
                SegmentWalk::of_bytes(bytes, name, segment)
            }
        };
        if let Some(header) = walk.header()?
            && header.previous != 0
            && self.previous != 0
            && header.previous != self.previous
        {
            return Err(walk.damaged(
                0,
                &format!(
                    "the segment before it had {} bytes when it was closed and has {}",
                    header.previous, self.previous
                ),
            ));
        }
        self.current = Some(walk);
        Ok(true)
    }
}

impl Iterator for Replay {
    type Item = Result<(Position, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.waiting.clear();
            self.current = None;
        }
        step.transpose()
    }
}
