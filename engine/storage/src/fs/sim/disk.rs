//! The simulated cache and disk: what each sync makes durable and what each power loss leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use triune_common::SeededRng;

use super::{Faults, folder_of};

/// The unit that a disk writes as a whole.
const SECTOR: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(u64);

/// A change of a file's content that was not synced.
#[derive(Debug)]
enum Unsynced {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Debug, Default)]
struct File {
    /// What reads see.
    cached: Vec<u8>,
    /// What a power loss cannot take.
    durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
}

/// A change of names that was not synced.
#[derive(Debug)]
enum NameChange {
    Link(PathBuf, FileId),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, FileId),
}

impl NameChange {
    fn folder(&self) -> &Path {
        match self {
            Self::Link(path, _) | Self::Unlink(path) | Self::Rename(path, ..) => folder_of(path),
        }
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, FileId>) {
        match self {
            Self::Link(path, id) => {
                names.insert(path, id);
            }
            Self::Unlink(path) => {
                names.remove(&path);
            }
            Self::Rename(from, to, id) => {
                names.remove(&from);
                names.insert(to, id);
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Disk {
    rng: SeededRng,
    pub(super) faults: Faults,
    pub(super) steps: u64,
    pub(super) syncs: u64,
    pub(super) appends: u64,
    pub(super) off: bool,
    pub(super) process: u64,
    next_file: u64,
    files: BTreeMap<FileId, File>,
    names: BTreeMap<PathBuf, FileId>,
    durable_names: BTreeMap<PathBuf, FileId>,
    unsynced_names: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: SeededRng::new(seed),
            faults: Faults::default(),
            steps: 0,
            syncs: 0,
            appends: 0,
            off: false,
            process: 0,
            next_file: 0,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            dirs: BTreeSet::from([PathBuf::from("/")]),
        }
    }

    pub(super) fn below(&self, bound: usize) -> usize {
        self.rng.below(bound as u64) as usize
    }

    pub(super) fn alive(&self, process: u64) -> io::Result<()> {
        if self.off || self.process != process {
            return Err(machine_is_off());
        }
        Ok(())
    }

    /// Does `change` as the next numbered step, or loses the power before or after it.
    pub(super) fn step<T>(
        &mut self,
        process: u64,
        change: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        self.alive(process)?;
        self.steps += 1;
        if self.faults.crash_at != Some(self.steps) {
            return change(self);
        }
        if self.rng.one_in(2) {
            let _ = change(self);
        }
        self.power_off();
        Err(machine_is_off())
    }

    // Content.

    pub(super) fn content(&self, id: FileId) -> &[u8] {
        self.files.get(&id).map_or(&[], |f| &f.cached)
    }

    fn file(&mut self, id: FileId) -> &mut File {
        self.files.entry(id).or_default()
    }

    fn free(&self) -> usize {
        let Some(capacity) = self.faults.capacity else { return usize::MAX };
        let used: usize = self.names.values().map(|id| self.content(*id).len()).sum();
        usize::try_from(capacity).unwrap_or(usize::MAX).saturating_sub(used)
    }

    pub(super) fn append(&mut self, id: FileId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.appends += 1;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let grows = (offset + bytes.len()).saturating_sub(self.content(id).len());
        let missing = grows.saturating_sub(self.free());
        let mut written = bytes.len() - missing;
        let fails = self.faults.fail_append == Some(self.appends);
        if fails {
            written = self.below(written + 1);
        }
        let file = self.file(id);
        write_at(&mut file.cached, offset, &bytes[..written]);
        file.unsynced.push(Unsynced::Write { offset, bytes: bytes[..written].to_vec() });
        if fails {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        if missing > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    pub(super) fn truncate(&mut self, id: FileId, len: u64) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let file = self.file(id);
        file.cached.resize(len, 0);
        file.unsynced.push(Unsynced::Truncate(len));
    }

    /// Grows a file with zeros, as far as there is room.
    pub(super) fn reserve(&mut self, id: FileId, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let there = self.content(id).len();
        let free = self.free();
        if len > there {
            self.truncate(id, (there + (len - there).min(free)) as u64);
        }
        if len.saturating_sub(there) > free { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    pub(super) fn sync(&mut self, id: FileId) -> io::Result<()> {
        self.syncs += 1;
        let unsynced = std::mem::take(&mut self.file(id).unsynced);
        if self.faults.fail_sync == Some(self.syncs) {
            let mut durable = std::mem::take(&mut self.file(id).durable);
            self.tear(&mut durable, unsynced);
            self.file(id).durable = durable;
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let durable = &mut self.file(id).durable;
        for change in unsynced {
            match change {
                Unsynced::Write { offset, bytes } => write_at(durable, offset, &bytes),
                Unsynced::Truncate(len) => durable.resize(len, 0),
            }
        }
        Ok(())
    }

    pub(super) fn corrupt(&mut self, id: FileId, edit: impl FnOnce(&mut Vec<u8>)) {
        let file = self.file(id);
        edit(&mut file.cached);
        file.durable.clone_from(&file.cached);
        file.unsynced.clear();
    }

    /// Lets a random part of unsynced changes reach the disk: those before a random point with all, some or none
    /// of their sectors but always with their length, a prefix of the one at that point, none after it.
    fn tear(&self, durable: &mut Vec<u8>, unsynced: Vec<Unsynced>) {
        let whole = match self.below(4) {
            0 => return,
            1 => unsynced.len(),
            _ => self.below(unsynced.len() + 1),
        };
        // How many of four sectors arrive.
        let share = [4, 4, 2, 3, 0][self.below(5)];
        for (i, change) in unsynced.into_iter().enumerate() {
            match change {
                _ if i > whole => return,
                Unsynced::Truncate(len) if i < whole => durable.resize(len, 0),
                Unsynced::Truncate(_) => {}
                Unsynced::Write { offset, bytes } if i == whole => {
                    write_at(durable, offset, &bytes[..self.below(bytes.len() + 1)]);
                }
                Unsynced::Write { offset, bytes } => {
                    let end = offset + bytes.len();
                    if durable.len() < end {
                        durable.resize(end, 0);
                    }
                    let mut at = offset;
                    while at < end {
                        let next = ((at / SECTOR + 1) * SECTOR).min(end);
                        if self.below(4) < share {
                            write_at(durable, at, &bytes[at - offset..next - offset]);
                        }
                        at = next;
                    }
                }
            }
        }
    }

    // Names.

    pub(super) fn find(&self, path: &Path) -> io::Result<FileId> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        self.dirs.contains(path)
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        self.names.contains_key(path) || self.is_dir(path)
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.is_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = self.names.keys().chain(&self.dirs).filter(|p| p.parent() == Some(dir));
        let names: BTreeSet<String> =
            inside.filter_map(|p| p.file_name()).map(|n| n.to_string_lossy().into_owned()).collect();
        Ok(names.into_iter().collect())
    }

    pub(super) fn below_dir(&self, dir: &Path) -> Vec<PathBuf> {
        self.names.keys().filter(|p| p.starts_with(dir)).cloned().collect()
    }

    pub(super) fn create_dir_all(&mut self, dir: &Path) -> io::Result<()> {
        for above in dir.ancestors().filter(|p| !p.as_os_str().is_empty()) {
            if self.names.contains_key(above) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            self.dirs.insert(above.to_owned());
        }
        Ok(())
    }

    pub(super) fn forget_dirs(&mut self, dir: &Path) {
        self.dirs.retain(|d| !d.starts_with(dir));
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<FileId> {
        if !self.is_dir(folder_of(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if self.is_dir(path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.next_file += 1;
        let id = FileId(self.next_file);
        self.files.insert(id, File::default());
        self.change_name(NameChange::Link(path.to_owned(), id));
        Ok(id)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.find(from)?;
        self.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), id));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.find(path)?;
        self.change_name(NameChange::Unlink(path.to_owned()));
        Ok(())
    }

    fn change_name(&mut self, change: NameChange) {
        let again = match &change {
            NameChange::Link(path, id) => NameChange::Link(path.clone(), *id),
            NameChange::Unlink(path) => NameChange::Unlink(path.clone()),
            NameChange::Rename(from, to, id) => NameChange::Rename(from.clone(), to.clone(), *id),
        };
        again.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        if !self.is_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        for change in std::mem::take(&mut self.unsynced_names) {
            if change.folder() == dir {
                change.apply(&mut self.durable_names);
            } else {
                self.unsynced_names.push(change);
            }
        }
        Ok(())
    }

    /// Loses a random part of what was not synced; nothing when the power is off already.
    pub(super) fn power_off(&mut self) {
        if self.off {
            return;
        }
        self.off = true;
        let changes = std::mem::take(&mut self.unsynced_names);
        // A journalling file system keeps a prefix of all changes; POSIX promises nothing about their order.
        let (mode, kept) = (self.below(3), self.below(changes.len() + 1));
        for (i, change) in changes.into_iter().enumerate() {
            let arrives = match mode {
                0 => i < kept,
                1 => true,
                _ => self.rng.one_in(2),
            };
            if arrives {
                change.apply(&mut self.durable_names);
            }
        }
        self.names.clone_from(&self.durable_names);
        let live: BTreeSet<FileId> = self.names.values().copied().collect();
        self.files.retain(|id, _| live.contains(id));
        let mut files = std::mem::take(&mut self.files);
        for file in files.values_mut() {
            let unsynced = std::mem::take(&mut file.unsynced);
            let mut durable = std::mem::take(&mut file.durable);
            self.tear(&mut durable, unsynced);
            file.cached.clone_from(&durable);
            file.durable = durable;
        }
        self.files = files;
        // A name that came back brings its folder back.
        let folders: Vec<PathBuf> =
            self.names.keys().flat_map(|p| p.ancestors().skip(1).map(Path::to_owned)).collect();
        self.dirs.extend(folders.into_iter().filter(|p| !p.as_os_str().is_empty()));
    }
}

fn machine_is_off() -> io::Error {
    io::Error::other("the simulated machine is off")
}

fn write_at(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}
