//! The bytes of a segment: its header and its frames.
//!
//! ```text
//!  segment  │ magic 8 │ format 4 │ check 4 │ segment 8 │ previous 8 │ epoch 8 │ 0 8 │ frame │ frame │ …
//!  frame    │ length 4 │ check 4 │ synced 8 │ hash 8 │ payload │ zeros up to a multiple of 8 │
//! ```
//!
//! All numbers are little-endian. `hash` is the xxh3 of the payload and `check` that of the frame's other
//! numbers, both seeded with segment and offset: a frame is valid at its own place only, so that old bytes in a
//! block that the disk hands out again are not taken for a frame. `synced` is how much of the segment was known
//! to be durable when the frame was written: a bad frame before a later frame's `synced` was good once, and is
//! damage; a bad frame after it may be the tail that a power loss tore. `previous` is the length of the segment
//! before, which shows that nothing is missing at its end.

use twox_hash::XxHash3_64;

use super::SegmentId;

pub(crate) const SEGMENT_HEADER: u64 = 48;
pub(crate) const FRAME_HEADER: u64 = 24;
/// Frames begin at multiples of this.
pub(crate) const ALIGN: u64 = 8;
/// The longest payload of a frame, in bytes.
pub const MAX_PAYLOAD: usize = 1 << 30;

const MAGIC: &[u8; 8] = b"TRIUNWAL";
const FORMAT: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub segment: SegmentId,
    /// The length of the segment before in bytes; 0: unknown, or there is none.
    pub previous: u64,
    /// The writer's epoch in a log on an object store; 0 on local disk.
    pub epoch: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// Too short, zeros, or damaged.
    Damaged,
    /// Written by a newer build.
    Format(u32),
    /// Well-formed, of another segment.
    Segment(SegmentId),
}

impl SegmentHeader {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER as usize);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.segment.0.to_le_bytes());
        out.extend_from_slice(&self.previous.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        let check = header_check(&out);
        out[12..16].copy_from_slice(&check.to_le_bytes());
        out
    }

    /// `segment` is what the file's name says.
    pub(crate) fn decode(bytes: &[u8], segment: SegmentId) -> Result<Self, BadHeader> {
        let bytes = bytes.get(..SEGMENT_HEADER as usize).ok_or(BadHeader::Damaged)?;
        if &bytes[..8] != MAGIC || u32_at(bytes, 12) != header_check(bytes) {
            return Err(BadHeader::Damaged);
        }
        match u32_at(bytes, 8) {
            FORMAT => {}
            other => return Err(BadHeader::Format(other)),
        }
        let header = Self {
            segment: SegmentId(u64_at(bytes, 16)),
            previous: u64_at(bytes, 24),
            epoch: u64_at(bytes, 32),
        };
        if header.segment != segment {
            return Err(BadHeader::Segment(header.segment));
        }
        Ok(header)
    }
}

/// Over all of the header but the check itself; the same in every later format.
fn header_check(bytes: &[u8]) -> u32 {
    let seed = u64::from(u32_at(bytes, 8));
    XxHash3_64::oneshot_with_seed(seed, &bytes[16..SEGMENT_HEADER as usize]) as u32
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Of the payload, in bytes.
    pub len: u32,
    /// How much of the segment was durable when the frame was written.
    pub synced: u64,
    hash: u64,
}

impl FrameHeader {
    /// `None` when these are not the bytes of a frame that was written at this place.
    pub(crate) fn decode(bytes: &[u8], segment: SegmentId, offset: u64) -> Option<Self> {
        if u32_at(bytes, 4) == 0 {
            // No check is 0; a search through zeros is quick.
            return None;
        }
        let header = Self { len: u32_at(bytes, 0), synced: u64_at(bytes, 8), hash: u64_at(bytes, 16) };
        let good = header.len as usize <= MAX_PAYLOAD
            && header.synced <= offset
            && u32_at(bytes, 4) == header.check(segment, offset);
        good.then_some(header)
    }

    /// Never 0, so that zeros are never a frame.
    fn check(self, segment: SegmentId, offset: u64) -> u32 {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.synced.to_le_bytes());
        bytes[12..].copy_from_slice(&self.hash.to_le_bytes());
        XxHash3_64::oneshot_with_seed(seed(segment, offset), &bytes) as u32 | 1
    }

    pub(crate) fn matches(self, payload: &[u8], segment: SegmentId, offset: u64) -> bool {
        self.hash == XxHash3_64::oneshot_with_seed(seed(segment, offset), payload)
    }

    /// Bytes of the whole frame with its padding.
    pub(crate) fn frame_len(self) -> u64 {
        frame_len(self.len as usize)
    }
}

/// Bytes of a frame with a payload of this length.
pub(crate) fn frame_len(payload: usize) -> u64 {
    (FRAME_HEADER + payload as u64).next_multiple_of(ALIGN)
}

/// Appends a frame that will begin at `offset` of the segment. The payload is at most [`MAX_PAYLOAD`] long.
pub(crate) fn encode_frame(out: &mut Vec<u8>, payload: &[u8], segment: SegmentId, offset: u64, synced: u64) {
    debug_assert!(payload.len() <= MAX_PAYLOAD && offset.is_multiple_of(ALIGN));
    let hash = XxHash3_64::oneshot_with_seed(seed(segment, offset), payload);
    let header = FrameHeader { len: payload.len() as u32, synced, hash };
    let end = out.len() + frame_len(payload.len()) as usize;
    out.reserve(end - out.len());
    out.extend_from_slice(&header.len.to_le_bytes());
    out.extend_from_slice(&header.check(segment, offset).to_le_bytes());
    out.extend_from_slice(&synced.to_le_bytes());
    out.extend_from_slice(&hash.to_le_bytes());
    out.extend_from_slice(payload);
    out.resize(end, 0);
}

fn seed(segment: SegmentId, offset: u64) -> u64 {
    segment.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ offset
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}
