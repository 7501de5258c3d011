//! Reading one segment frame by frame, and telling a torn tail from damage.

use std::path::PathBuf;
use std::sync::Arc;

use triune_common::{Error, Result};

use super::SegmentId;
use super::frame::{ALIGN, BadHeader, FRAME_HEADER, FrameHeader, SEGMENT_HEADER, SegmentHeader};
use crate::fs::{StorageFs, io_error};

/// How much is read at once.
const WINDOW: u64 = 1 << 20;

/// A walk over the frames of a segment, front to back.
#[derive(Debug)]
pub(crate) struct SegmentWalk {
    source: Source,
    segment: SegmentId,
    /// What messages call the segment.
    name: String,
    len: u64,
    /// Whether a bad end can be a torn tail.
    last: bool,
    header: Option<SegmentHeader>,
    /// The end of the last good frame; the next one begins here.
    end: u64,
    /// How much the last good frame says was durable before it.
    synced: u64,
}

#[derive(Debug)]
enum Source {
    /// A window of a file: its offset and bytes.
    File {
        fs: Arc<dyn StorageFs>,
        path: PathBuf,
        at: u64,
        window: Vec<u8>,
    },
    Memory(bytes::Bytes),
}

impl SegmentWalk {
    /// `len` is how much of the file is looked at.
    pub(crate) fn of_file(
        fs: &Arc<dyn StorageFs>,
        path: PathBuf,
        segment: SegmentId,
        len: u64,
        last: bool,
    ) -> Self {
        let name = path.display().to_string();
        let source = Source::File { fs: Arc::clone(fs), path, at: 0, window: Vec::new() };
        Self { source, segment, name, len, last, header: None, end: 0, synced: 0 }
    }

    /// A segment that is in memory as a whole and was written as a whole.
    pub(crate) fn of_bytes(bytes: bytes::Bytes, name: String, segment: SegmentId) -> Self {
        let len = bytes.len() as u64;
        let source = Source::Memory(bytes);
        Self { source, segment, name, len, last: false, header: None, end: 0, synced: 0 }
    }

    /// The segment's header; `None` when it was torn, which is the end of a walk over the last segment.
    pub(crate) fn header(&mut self) -> Result<Option<SegmentHeader>> {
        if self.header.is_some() {
            return Ok(self.header);
        }
        let (segment, have) = (self.segment, self.len.min(SEGMENT_HEADER));
        match SegmentHeader::decode(self.bytes(0, have)?, segment) {
            Ok(header) => {
                self.header = Some(header);
                self.end = SEGMENT_HEADER;
                Ok(self.header)
            }
            Err(BadHeader::Damaged) => {
                self.torn_or_damaged::<()>(0, "it does not begin with the header of a log segment")?;
                Ok(None)
            }
            Err(BadHeader::Format(format)) => Err(Error::unsupported(format!(
                "the write-ahead log {} has format {format}, which this build does not know",
                self.name
            ))
            .with_hint("open the database with a newer triune")),
            Err(BadHeader::Segment(other)) => {
                Err(self.damaged(0, &format!("it holds segment {other} under another one's name")))
            }
        }
    }

    /// The next frame's offset and payload; `None` at the end or at a torn tail.
    ///
    /// Errors: [`ErrorKind::Data`](triune_common::ErrorKind::Data) for damage, with file and offset; the same
    /// error again when asked again.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        if self.header()?.is_none() || self.end >= self.len {
            return Ok(None);
        }
        let (offset, segment, left) = (self.end, self.segment, self.len - self.end);
        if left < FRAME_HEADER {
            return self.torn_or_damaged(offset, "the log ends within a frame's header");
        }
        let Some(frame) = FrameHeader::decode(self.bytes(offset, FRAME_HEADER)?, segment, offset) else {
            return self.torn_or_damaged(offset, "no frame begins here");
        };
        if frame.frame_len() > left {
            return self.torn_or_damaged(offset, "the log ends within a frame");
        }
        let payload = self.bytes(offset + FRAME_HEADER, u64::from(frame.len))?;
        if !frame.matches(payload, segment, offset) {
            return self.torn_or_damaged(offset, "a frame's checksum does not match its content");
        }
        let payload = payload.to_vec();
        self.end = offset + frame.frame_len();
        self.synced = frame.synced;
        Ok(Some((offset, payload)))
    }

    /// The end of the last good frame.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// How much of the segment is known to have been durable.
    pub(crate) fn synced(&self) -> u64 {
        self.synced
    }

    pub(crate) fn damaged(&self, offset: u64, why: &str) -> Error {
        Error::data(format!("the write-ahead log is damaged: {} at byte {offset}: {why}", self.name))
            .with_hint("nothing was changed; open the database read-only to reach what is intact")
    }

    /// A bad end of the last segment is torn unless a later frame says that it was durable once.
    fn torn_or_damaged<T>(&mut self, offset: u64, why: &str) -> Result<Option<T>> {
        if !self.last {
            return Err(self.damaged(offset, why));
        }
        match self.later_frame(offset)? {
            None => Ok(None),
            Some(later) => Err(self.damaged(offset, &format!("{why}, and the log goes on at byte {later}"))),
        }
    }

    /// The first frame after `bad` that was written when `bad` was durable already.
    fn later_frame(&mut self, bad: u64) -> Result<Option<u64>> {
        let segment = self.segment;
        let mut offset = (bad + ALIGN).max(SEGMENT_HEADER);
        while offset + FRAME_HEADER <= self.len {
            let have = (self.len - offset).min(WINDOW);
            let bytes = self.bytes(offset, have)?;
            let mut at = 0;
            while at + FRAME_HEADER <= have {
                if let Some(frame) = FrameHeader::decode(&bytes[at as usize..], segment, offset + at)
                    && frame.synced > bad
                {
                    return Ok(Some(offset + at));
                }
                at += ALIGN;
            }
            offset += at;
        }
        Ok(None)
    }

    /// Bytes that lie within the segment's length.
    fn bytes(&mut self, offset: u64, len: u64) -> Result<&[u8]> {
        let whole = self.len;
        match &mut self.source {
            Source::Memory(bytes) => Ok(&bytes[offset as usize..(offset + len) as usize]),
            Source::File { fs, path, at, window } => {
                let there = *at <= offset && offset + len <= *at + window.len() as u64;
                if !there {
                    let ask = len.max(WINDOW.min(whole - offset));
                    *window = fs
                        .read_exact_at(path, offset, ask as usize)
                        .map_err(|e| io_error("read", path, &e))?;
                    *at = offset;
                }
                let from = (offset - *at) as usize;
                Ok(&window[from..from + len as usize])
            }
        }
    }
}
