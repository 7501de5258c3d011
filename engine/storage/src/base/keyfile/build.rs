//! Writing a key file.

use std::hash::Hasher;
use std::io;
use std::path::Path;

use triune_common::{Error, ErrorKind, Result};
use twox_hash::XxHash3_64;

use super::{FOOTER, HASHED, Layout, MAGIC, ORDERED, Probe, filter, sort};
use crate::fs::{LogFile, StorageFs, is_no_space};
use crate::key::{KeyKind, Keys};

/// The keys of rows in the order of their ordinals, to be sorted and written.
///
/// *Memory*: 8 bytes a row for integers and 16 for hashes while it is filled, twice that and 8 more while it
/// is written.
#[derive(Debug)]
pub struct KeyFileBuilder {
    kind: KeyKind,
    seed: u64,
    highs: Vec<u64>,
    lows: Vec<u64>,
    /// Ordinals of `highs`; empty while they are 0, 1, 2, ….
    ordinals: Vec<u32>,
}

impl KeyFileBuilder {
    pub fn new(kind: KeyKind, seed: u64) -> Self {
        Self { kind, seed, highs: Vec::new(), lows: Vec::new(), ordinals: Vec::new() }
    }

    pub fn rows(&self) -> usize {
        self.highs.len()
    }

    /// Appends the keys of further rows, whose ordinals follow.
    pub fn push(&mut self, keys: &Keys) -> Result<()> {
        match (keys, self.kind) {
            (Keys::Ints(ints), KeyKind::Int) => self.highs.extend_from_slice(ints),
            (Keys::Bytes(_), KeyKind::Bytes) => {
                self.highs.reserve(keys.len());
                self.lows.reserve(keys.len());
                for key in keys.iter() {
                    let probe = Probe::new(key, self.seed);
                    self.highs.push(probe.high);
                    self.lows.push(probe.low);
                }
            }
            _ => return Err(Error::internal("keys of one kind where a table has the other")),
        }
        Ok(())
    }

    /// Appends consecutive integers.
    pub(crate) fn push_run(&mut self, start: u64, rows: usize) {
        self.highs.extend((0..rows as u64).map(|i| start.wrapping_add(i)));
    }

    /// Appends one row of another key file under its new ordinal. Ordinals must be given for all rows of a
    /// file or for none.
    pub(crate) fn push_entry(&mut self, high: u64, low: u64, ordinal: u32) {
        self.highs.push(high);
        if self.kind == KeyKind::Bytes {
            self.lows.push(low);
        }
        self.ordinals.push(ordinal);
    }

    /// Sorts the keys, writes the file and fsyncs it. The folder is the caller's to fsync.
    ///
    /// Errors: resources if the disk is full, invalid for 2³² rows or more.
    pub fn write(self, fs: &dyn StorageFs, path: &Path) -> Result<u64> {
        self.write_inner(fs, path).map_err(|e| {
            let kind = match e.kind() {
                _ if is_no_space(&e) => ErrorKind::Resources,
                io::ErrorKind::InvalidInput => ErrorKind::Invalid,
                _ => ErrorKind::Unavailable,
            };
            Error::new(kind, format!("cannot write the key file {}: {e}", path.display()))
        })
    }

    fn write_inner(self, fs: &dyn StorageFs, path: &Path) -> io::Result<u64> {
        let Self { kind, seed, highs: mut keys, lows, ordinals: given } = self;
        let rows = keys.len();
        let Ok(count) = u32::try_from(rows) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it would have 2³² rows"));
        };
        let hashed = kind == KeyKind::Bytes;
        let mut order: Vec<u32> = Vec::new();
        let sorted = if hashed { keys.iter().zip(&lows).is_sorted() } else { keys.is_sorted() };
        if !sorted {
            order = (0..count).collect();
            sort::sort_pairs(&mut keys, &mut order);
            if hashed {
                sort_ties(&keys, &lows, &mut order);
            }
        }
        let by_order = |values: &[u64]| -> Vec<u64> { order.iter().map(|i| values[*i as usize]).collect() };
        let lows = if hashed && !sorted { by_order(&lows) } else { lows };
        let ordinals: Vec<u32> = match (given.is_empty(), sorted) {
            (true, _) => order,
            (false, true) => given,
            (false, false) => order.iter().map(|i| given[*i as usize]).collect(),
        };
        let ordered = ordinals.is_empty();

        let blocks = filter::blocks_for(rows);
        let layout = Layout::new(rows, hashed, ordered, blocks);
        let mut file = fs.open_append(path)?;
        file.truncate(0)?;
        let mut body = Body { file: file.as_mut(), at: 0, sum: XxHash3_64::new() };
        body.put(0, keys.iter().map(|k| k.to_le_bytes()))?;
        body.put(layout.lows, lows.iter().map(|k| k.to_le_bytes()))?;
        body.put(layout.ordinals, ordinals.iter().map(|o| o.to_le_bytes()))?;
        let bits = filter::build(keys.iter().map(|k| filter::mix(*k)), blocks);
        body.put(layout.filter, bits.as_chunks::<{ filter::BLOCK }>().0.iter().copied())?;
        let sum = body.sum.finish();

        let flags = if hashed { HASHED } else { 0 } | if ordered { ORDERED } else { 0 };
        let length = layout.footer + FOOTER;
        let words = [
            u64::from_le_bytes(*MAGIC),
            flags,
            rows as u64,
            keys.first().copied().unwrap_or(0),
            keys.last().copied().unwrap_or(0),
            blocks as u64,
            length as u64,
            sum,
            seed,
            0,
            0,
            0,
        ];
        let mut footer: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        footer.extend_from_slice(&XxHash3_64::oneshot(&footer).to_le_bytes());
        footer.resize(FOOTER, 0);
        file.append(&footer)?;
        file.sync_data()?;
        Ok(length as u64)
    }
}

/// Orders rows whose first halves are equal by the second ones; nearly always these are one key's rows.
fn sort_ties(keys: &[u64], lows: &[u64], order: &mut [u32]) {
    let mut start = 0;
    while start < keys.len() {
        let mut end = start + 1;
        while end < keys.len() && keys[end] == keys[start] {
            end += 1;
        }
        if end - start > 1 {
            order[start..end].sort_by_key(|i| lows[*i as usize]);
        }
        start = end;
    }
}

struct Body<'a> {
    file: &'a mut dyn LogFile,
    at: usize,
    sum: XxHash3_64,
}

impl Body<'_> {
    /// Fills up to `start`, then writes the values.
    fn put<const N: usize>(&mut self, start: usize, values: impl Iterator<Item = [u8; N]>) -> io::Result<()> {
        const CHUNK: usize = 1 << 20;
        let mut chunk = vec![0; start - self.at];
        for value in values {
            chunk.extend_from_slice(&value);
            if chunk.len() >= CHUNK {
                self.flush(&mut chunk)?;
            }
        }
        self.flush(&mut chunk)
    }

    fn flush(&mut self, chunk: &mut Vec<u8>) -> io::Result<()> {
        self.sum.write(chunk);
        self.file.append(chunk)?;
        self.at += chunk.len();
        chunk.clear();
        Ok(())
    }
}
