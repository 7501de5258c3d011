//! A file system in memory that fails as real ones do, from one seed.
//!
//! ```text
//!  program ──▶ page cache: what reads see ──sync──▶ disk: what a power loss leaves
//!                   │
//!                   └─ power loss: of each file's unsynced writes nothing, all, a prefix, or any 512-byte
//!                      sectors reach the disk; of each folder's unsynced names any
//! ```
//!
//! The same seed, faults and calls give the same results. All calls that change something are numbered
//! ([`SimFs::steps`]); [`Faults::crash_at`] cuts the power in the middle of one of them. Then every call fails
//! until [`SimFs::restart`] hands out the disk as it is found after the power came back.
//!
//! A failed sync behaves as on Linux: some of the unsynced bytes reached the disk, the cache keeps all of them
//! and takes them for written, so that a later sync succeeds without sending them again.

mod disk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{LogFile, MappedBytes, StorageFs, folder_of};
use disk::{Disk, FileId};

/// What is to go wrong, and when. Nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Cut the power in the middle of the step of this number; steps count from 1.
    pub crash_at: Option<u64>,
    /// How many bytes all files together may have; an append that goes beyond writes what fits and fails.
    pub capacity: Option<u64>,
    /// Fail the file sync of this number, counted from 1, with an I/O error.
    pub fail_sync: Option<u64>,
    /// Fail the append of this number, counted from 1, with an I/O error after a part of it.
    pub fail_append: Option<u64>,
    /// Let `read_at` return fewer bytes than asked for.
    pub short_reads: bool,
    /// No fault: let files be grown with zeros ahead of what is written to them.
    pub reserves: bool,
}

/// Files in memory under injected faults. Clones are the same process on the same disk.
#[derive(Debug, Clone)]
pub struct SimFs {
    disk: Arc<Mutex<Disk>>,
    /// Of the process that this handle belongs to; handles of earlier ones fail.
    process: u64,
}

impl SimFs {
    /// An empty file system with the root folder `/`.
    pub fn new(seed: u64) -> Self {
        Self { disk: Arc::new(Mutex::new(Disk::new(seed))), process: 0 }
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.disk.lock().faults = faults;
    }

    pub fn faults(&self) -> Faults {
        self.disk.lock().faults
    }

    /// How many changing calls were made so far.
    pub fn steps(&self) -> u64 {
        self.disk.lock().steps
    }

    /// How many file syncs were tried so far.
    pub fn syncs(&self) -> u64 {
        self.disk.lock().syncs
    }

    /// How many appends were tried so far.
    pub fn appends(&self) -> u64 {
        self.disk.lock().appends
    }

    /// Cuts the power now.
    pub fn crash(&self) {
        self.disk.lock().power_off();
    }

    /// Whether the power is off.
    pub fn crashed(&self) -> bool {
        self.disk.lock().off
    }

    /// The disk as it is found after a power loss, without faults. Cuts the power first if it is on.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut disk = self.disk.lock();
        disk.power_off();
        disk.off = false;
        disk.faults = Faults::default();
        disk.process += 1;
        Self { disk: Arc::clone(&self.disk), process: disk.process }
    }

    /// The file system as the next process finds it after `kill -9`: unsynced data is still in the cache, and may
    /// be lost by a later power loss. Faults stay as they are.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut disk = self.disk.lock();
        disk.process += 1;
        Self { disk: Arc::clone(&self.disk), process: disk.process }
    }

    /// Changes a file's bytes behind everybody's back, on the disk and in the cache.
    pub fn corrupt(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let id = disk.find(path)?;
        disk.corrupt(id, edit);
        Ok(())
    }

    fn reading<T>(&self, read: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.disk.lock();
        disk.alive(self.process)?;
        read(&mut disk)
    }

    /// One numbered step; the power may go before or after its effect.
    fn changing<T>(&self, change: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        self.disk.lock().step(self.process, change)
    }
}

impl StorageFs for SimFs {
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let known = self.reading(|disk| Ok(disk.find(path).ok()))?;
        let id = match known {
            Some(id) => id,
            None => self.changing(|disk| disk.create(path))?,
        };
        let end = self.reading(|disk| Ok(disk.content(id).len() as u64))?;
        Ok(Box::new(SimFile { fs: self.clone(), id, end }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.reading(|disk| {
            let id = disk.find(path)?;
            Ok(disk.content(id).to_vec())
        })
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.reading(|disk| {
            let id = disk.find(path)?;
            let there = disk.content(id).len();
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(there);
            let mut len = len.min(there - from);
            if disk.faults.short_reads && len > 1 {
                len = 1 + disk.below(len);
            }
            Ok(disk.content(id)[from..][..len].to_vec())
        })
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.reading(|disk| {
            let id = disk.find(path)?;
            Ok(disk.content(id).len() as u64)
        })
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.reading(|disk| Ok(disk.exists(path)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.reading(|disk| disk.list(dir))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if self.reading(|disk| Ok(disk.is_dir(dir)))? {
            return Ok(());
        }
        self.changing(|disk| disk.create_dir_all(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if folder_of(from) != folder_of(to) {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        self.changing(|disk| disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.changing(|disk| disk.remove(path))
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let inside: Vec<PathBuf> = self.reading(|disk| Ok(disk.below_dir(dir)))?;
        for path in inside {
            self.changing(|disk| disk.remove(&path))?;
        }
        self.changing(|disk| {
            disk.forget_dirs(dir);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.changing(|disk| disk.sync_dir(dir))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let id = self.reading(|disk| disk.find(path))?;
        self.changing(|disk| disk.sync(id))
    }

    fn map(&self, path: &Path) -> io::Result<MappedBytes> {
        Ok(Arc::new(self.read(path)?))
    }
}

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    id: FileId,
    end: u64,
}

impl LogFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.fs.changing(|disk| disk.append(self.id, self.end, bytes))?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.fs.changing(|disk| disk.append(self.id, offset, bytes))
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.fs.changing(|disk| disk.sync(self.id))
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.fs.changing(|disk| {
            disk.truncate(self.id, len);
            Ok(())
        })?;
        self.end = len;
        Ok(())
    }

    fn reserve(&mut self, len: u64) -> io::Result<()> {
        if !self.fs.reading(|disk| Ok(disk.faults.reserves))? {
            return Ok(());
        }
        self.fs.changing(|disk| disk.reserve(self.id, len))
    }

    fn end(&self) -> u64 {
        self.end
    }
}
