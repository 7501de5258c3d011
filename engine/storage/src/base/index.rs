//! Where a key lies: the key files of a base and its fragments of consecutive keys.
//!
//! ```text
//!  key 42 ─▶ fragments whose keys are start, start + 1, …      no file
//!         ─▶ key files, newest first: range · filter · search  ordinal ─▶ fragment, row
//! ```

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use triune_common::{Error, Result};

use super::keyfile::{KeyFile, Probe};
use crate::fs::StorageFs;
use crate::key::{KeyKind, KeyRef, Keys};

/// A fragment of the base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FragmentMeta {
    /// Never given out twice in one dataset.
    pub id: u32,
    /// Rows in its files, masked ones included.
    pub rows: u32,
    /// Its keys are this number, the next one, and so on; no key file holds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_start: Option<u64>,
}

/// A key file, and whose rows its ordinals count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFileMeta {
    /// The file's name in the table's folder.
    pub file: String,
    pub rows: u64,
    pub bytes: u64,
    /// Rows of the first segment that come before ordinal 0.
    #[serde(default)]
    pub skip: u32,
    pub segments: Vec<Segment>,
}

/// Rows of one fragment, counted through by a key file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    pub fragment: u32,
    pub rows: u32,
    /// The fragment has been rewritten: its keys are in another file.
    #[serde(default)]
    pub gone: bool,
}

/// The address of a row: the fragment's id times 2³² plus the row's place in it.
pub fn address(fragment: u32, row: u32) -> u64 {
    u64::from(fragment) << 32 | u64::from(row)
}

#[derive(Debug)]
struct OpenFile {
    file: Arc<KeyFile>,
    /// The first ordinal of each segment, counted without `skip`.
    starts: Vec<u64>,
    meta: KeyFileMeta,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    start: u64,
    rows: u32,
    fragment: u32,
    /// The largest key of this run and all before it.
    reach: u64,
}

/// All keys of a base. Immutable; see the module.
#[derive(Debug)]
pub struct KeyIndex {
    kind: KeyKind,
    seed: u64,
    /// Newest last.
    files: Vec<OpenFile>,
    /// By their first key.
    runs: Vec<Run>,
}

impl KeyIndex {
    /// Opens the key files; those that `known` has open already are shared.
    ///
    /// Errors: data, naming the file, for a missing or damaged one.
    pub fn open(
        fs: &dyn StorageFs,
        folder: &Path,
        kind: KeyKind,
        seed: u64,
        fragments: &[FragmentMeta],
        files: &[KeyFileMeta],
        known: Option<&Self>,
    ) -> Result<Self> {
        let mut open = Vec::with_capacity(files.len());
        for meta in files {
            let shared = known.and_then(|k| k.files.iter().find(|f| f.meta.file == meta.file));
            let file = match shared {
                Some(f) => Arc::clone(&f.file),
                None => Arc::new(KeyFile::open(fs, &folder.join(&meta.file), kind)?),
            };
            let (mut starts, mut at) = (Vec::with_capacity(meta.segments.len()), 0u64);
            for segment in &meta.segments {
                starts.push(at);
                at += u64::from(segment.rows);
            }
            if file.rows() as u64 != meta.rows || u64::from(meta.skip) + meta.rows > at {
                return Err(Error::data(format!(
                    "the key file {} has {} keys where the published state says {}",
                    file.path().display(),
                    file.rows(),
                    meta.rows
                ))
                .with_hint("restore the file from a backup"));
            }
            open.push(OpenFile { file, starts, meta: meta.clone() });
        }
        let mut runs: Vec<Run> = fragments
            .iter()
            .filter(|f| f.rows > 0)
            .filter_map(|f| f.key_start.map(|start| Run { start, rows: f.rows, fragment: f.id, reach: 0 }))
            .collect();
        runs.sort_by_key(|r| r.start);
        let mut reach = 0;
        for run in &mut runs {
            reach = reach.max(run.last());
            run.reach = reach;
        }
        Ok(Self { kind, seed, files: open, runs })
    }

    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Key files.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Bytes of key files on disk.
    pub fn file_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.meta.bytes).sum()
    }

    /// Reads all key files and checks their contents against their checksums.
    pub fn verify(&self) -> Result<()> {
        self.files.iter().try_for_each(|f| f.file.verify())
    }

    /// Calls `found` with the address of every row of the base that has the key, masked ones included,
    /// rows of newer files first, until it breaks off.
    pub fn probe(&self, key: KeyRef<'_>, mut found: impl FnMut(u64) -> ControlFlow<()>) {
        let _ = self.probe_inner(Probe::new(key, self.seed), &mut found);
    }

    fn probe_inner(&self, probe: Probe, found: &mut dyn FnMut(u64) -> ControlFlow<()>) -> ControlFlow<()> {
        self.probe_runs(probe, found)?;
        for open in self.files.iter().rev() {
            open.file.probe(probe, |ordinal| match open.address(ordinal) {
                Some(address) => found(address),
                None => ControlFlow::Continue(()),
            })?;
        }
        ControlFlow::Continue(())
    }

    fn probe_runs(&self, probe: Probe, found: &mut dyn FnMut(u64) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut i = self.runs.partition_point(|r| r.start <= probe.high);
        while i > 0 && self.runs[i - 1].reach >= probe.high {
            i -= 1;
            let run = self.runs[i];
            if probe.high <= run.last() {
                found(address(run.fragment, (probe.high - run.start) as u32))?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Calls `found` with the place of a key in `keys` and the address of a row that has it, for every key
    /// and row, in no stated order, until it breaks off.
    ///
    /// A few keys are looked up one by one; many are sorted and merged with each file.
    pub fn probe_many(&self, keys: &Keys, mut found: impl FnMut(usize, u64) -> ControlFlow<()>) {
        let _ = self.probe_many_inner(keys, &mut found);
    }

    fn probe_many_inner(
        &self,
        keys: &Keys,
        found: &mut dyn FnMut(usize, u64) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        const FEW: usize = 32;
        if self.files.is_empty() && self.runs.is_empty() {
            return ControlFlow::Continue(());
        }
        if keys.len() <= FEW {
            for (i, key) in keys.iter().enumerate() {
                self.probe_inner(Probe::new(key, self.seed), &mut |a| found(i, a))?;
            }
            return ControlFlow::Continue(());
        }
        let mut order: Vec<(Probe, usize)> =
            keys.iter().enumerate().map(|(i, k)| (Probe::new(k, self.seed), i)).collect();
        if !order.is_sorted_by_key(|(p, _)| *p) {
            order.sort_unstable();
        }
        let probes: Vec<Probe> = order.iter().map(|(p, _)| *p).collect();
        if !self.runs.is_empty() {
            for (probe, i) in &order {
                self.probe_runs(*probe, &mut |a| found(*i, a))?;
            }
        }
        for open in self.files.iter().rev() {
            open.file.probe_sorted(&probes, |i, ordinal| match open.address(ordinal) {
                Some(address) => found(order[i].1, address),
                None => ControlFlow::Continue(()),
            })?;
        }
        ControlFlow::Continue(())
    }
}

impl Run {
    /// The largest key.
    fn last(&self) -> u64 {
        self.start.saturating_add(u64::from(self.rows) - 1)
    }
}

impl OpenFile {
    /// `None` for a row whose fragment was rewritten.
    fn address(&self, ordinal: u32) -> Option<u64> {
        let at = u64::from(ordinal) + u64::from(self.meta.skip);
        let i = match self.starts.as_slice() {
            [_] => 0,
            starts => starts.partition_point(|s| *s <= at).checked_sub(1)?,
        };
        let segment = self.meta.segments.get(i)?;
        let row = u32::try_from(at - self.starts[i]).ok()?;
        (!segment.gone && row < segment.rows).then(|| address(segment.fragment, row))
    }
}
