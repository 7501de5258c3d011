//! The file system as the storage sees it.
//!
//! ```text
//!  StorageFs ── RealFs   the machine's files
//!           └── SimFs    files in memory that forget what was not synced: torn writes, full disks, failing
//!                        fsyncs, a power loss at the n-th step, all from one seed
//! ```
//!
//! Calls block: they are made from the committer thread or from a blocking task. What is not synced may be lost
//! or torn by a power loss, and so may the *name* of a new or renamed file until its folder is synced.

mod real;
mod sim;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use triune_common::{Error, ErrorKind};
use url::Url;

pub use real::RealFs;
pub use sim::{Faults, SimFs};

/// Bytes of a file for as long as somebody holds them: a memory map, or a copy.
pub type MappedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Files and folders, by path.
pub trait StorageFs: Debug + Send + Sync {
    /// Opens a file for appending, making it if it does not exist. Its name is durable after
    /// [`sync_dir`](Self::sync_dir) of its folder only.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn LogFile>>;

    /// The whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// At most `len` bytes from `offset` on. Fewer may come back at any time; none only at the file's end.
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>>;

    /// The length of a file in bytes.
    fn len(&self, path: &Path) -> io::Result<u64>;

    /// Whether a file or folder of that name is there.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// The names in a folder, files and folders, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes a folder and those above it; durable on return.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Gives a file another name in the same folder, replacing a file of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder and all in it; fine when it is not there.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes a file's content durable.
    fn sync_file(&self, path: &Path) -> io::Result<()>;

    /// The bytes of a file that does not change any more.
    fn map(&self, path: &Path) -> io::Result<MappedBytes>;

    /// Where a path is when that is not on this machine. All files are then seen through this value, those that
    /// Lance writes too.
    fn url(&self, _path: &Path) -> Option<Url> {
        None
    }

    /// Errors when another process may have become the writer. To be asked between listing what is to be removed and
    /// removing it: what is in the list was there before that process began.
    fn confirm(&self) -> io::Result<()> {
        Ok(())
    }

    /// Exactly `len` bytes from `offset` on; `UnexpectedEof` when the file is shorter.
    fn read_exact_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = self.read_at(path, offset, len)?;
        while bytes.len() < len {
            let more = self.read_at(path, offset + bytes.len() as u64, len - bytes.len())?;
            if more.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes.extend_from_slice(&more);
        }
        Ok(bytes)
    }

    /// Replaces a file's content as a whole: after a crash it is the old or the new one. Durable on return.
    ///
    /// Written aside as `<name>.new`, synced, renamed, and the folder synced. An error may come after the
    /// rename: then the new content is in place and not known to be durable.
    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let aside = aside(path)?;
        let write = || {
            let mut file = self.open_append(&aside)?;
            file.truncate(0)?;
            file.append(bytes)?;
            file.sync_data()?;
            drop(file);
            self.rename(&aside, path)
        };
        if let Err(e) = write() {
            // What is left aside is overwritten by the next attempt; it only takes space.
            let _ = self.remove(&aside);
            return Err(e);
        }
        self.sync_dir(folder_of(path))
    }
}

/// One file that grows at its end.
pub trait LogFile: Debug + Send {
    /// Writes at the end, in one call where the system allows. After an error any prefix of `bytes` may be in
    /// the file; [`truncate`](Self::truncate) it to where it was good.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Writes bytes again that are there already, so that the next sync sends them to the disk once more.
    fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes content and length durable. After an error nobody knows what is on the disk, and a later
    /// success does not say that it is.
    fn sync_data(&mut self) -> io::Result<()>;

    /// Cuts the file, or grows it with zeros, to this length.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// Takes room on the disk up to this length, so that syncs of appends within it need not change the file's
    /// own data. The file may be longer than its [`end`](Self::end) then, with zeros behind it, until it is
    /// truncated. Nothing depends on it: after an error, and where the system has no such call, appends grow the
    /// file.
    fn reserve(&mut self, len: u64) -> io::Result<()>;

    /// Where the next [`append`](Self::append) begins.
    fn end(&self) -> u64;
}

fn aside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut name = name.to_owned();
    name.push(".new");
    Ok(path.with_file_name(name))
}

/// The folder that a path's name is in; the current one for a bare name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Whether an error says that the disk or a quota is full: nothing is broken, and writing may go on after
/// space was made.
pub fn is_no_space(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// An I/O error with what was tried on which file, as users see it.
pub fn io_error(doing: &str, path: &Path, e: &io::Error) -> Error {
    let message = format!("cannot {doing} {}: {e}", path.display());
    let kind = match e.kind() {
        _ if is_no_space(e) => return Error::no_space(message),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Permission,
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => ErrorKind::Data,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, message)
}

#[cfg(test)]
mod tests;
