//! The catalog of a database in a local folder.
//!
//! A change holds an exclusive `flock` on `catalog.lock` from reading the published version to the fsync of
//! the folder. The kernel releases the lock when its holder dies, however it dies.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind as Io, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use triune_common::{Error, ErrorKind, Result};

use super::{Catalog, CatalogStore, DOCUMENT};

/// Keeps the catalog as `catalog.json` in a folder.
#[derive(Debug, Clone)]
pub struct FolderCatalogStore {
    folder: PathBuf,
}

impl FolderCatalogStore {
    /// Opens the folder, making it if it does not exist.
    ///
    /// A path that is a file, and a folder that holds other things but no catalog, are refused: a typing
    /// mistake must not scatter a database's files among somebody's documents.
    pub fn open(folder: &Path) -> Result<Self> {
        let named = folder.display();
        match fs::metadata(folder) {
            Ok(m) if !m.is_dir() => Err(Error::invalid(format!("{named} is a file, a database is a folder"))
                .with_hint(format!("query the file itself: SELECT * FROM '{named}'"))),
            Ok(_) => {
                let store = Self { folder: folder.to_owned() };
                if !store.document().exists() && !is_empty_or_ours(folder)? {
                    return Err(Error::invalid(format!(
                        "the folder {named} is not empty and holds no Triune database"
                    ))
                    .with_hint("name an empty or a new folder"));
                }
                Ok(store)
            }
            Err(e) if e.kind() == Io::NotFound => {
                fs::create_dir_all(folder).map_err(|e| io_error("create", folder, &e))?;
                Ok(Self { folder: folder.to_owned() })
            }
            Err(e) => Err(io_error("open", folder, &e)),
        }
    }

    fn document(&self) -> PathBuf {
        self.folder.join(DOCUMENT)
    }

    fn load_now(&self) -> Result<Catalog> {
        match fs::read(self.document()) {
            Ok(bytes) => Catalog::from_json(&bytes, &self.place()),
            Err(e) if e.kind() == Io::NotFound => Ok(Catalog::empty()),
            Err(e) => Err(io_error("read", &self.document(), &e)),
        }
    }

    fn publish_now(&self, next: &Catalog) -> Result<bool> {
        let _lock = FolderLock::acquire(&self.folder.join("catalog.lock"))?;
        if self.load_now()?.version + 1 != next.version {
            return Ok(false);
        }
        let aside = self.folder.join("catalog.json.new");
        let bytes = next.to_json()?;
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&aside)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&aside, self.document())?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|e| io_error("write", &self.document(), &e))?;
        Ok(true)
    }
}

#[async_trait]
impl CatalogStore for FolderCatalogStore {
    fn place(&self) -> String {
        self.folder.display().to_string()
    }

    async fn load(&self) -> Result<Catalog> {
        let this = self.clone();
        blocking(move || this.load_now()).await
    }

    async fn publish(&self, next: &Catalog) -> Result<bool> {
        let (this, next) = (self.clone(), next.clone());
        blocking(move || this.publish_now(&next)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal(format!("the catalog's file task ended early: {e}")))?
}

/// An exclusive lock on a file for as long as the value lives.
struct FolderLock {
    _file: File,
}

impl FolderLock {
    fn acquire(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(|e| io_error("lock", path, &e))?;
        loop {
            // SAFETY: the descriptor belongs to `file`, which is open for the whole call.
            if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) } == 0 {
                return Ok(Self { _file: file });
            }
            let e = std::io::Error::last_os_error();
            if e.kind() != Io::Interrupted {
                return Err(io_error("lock", path, &e));
            }
        }
    }
}

/// Whether a folder holds nothing, or only what an interrupted first change leaves behind.
fn is_empty_or_ours(folder: &Path) -> Result<bool> {
    for entry in fs::read_dir(folder).map_err(|e| io_error("list", folder, &e))? {
        let name = entry.map_err(|e| io_error("list", folder, &e))?.file_name();
        if !matches!(
            name.to_str(),
            Some(
                "catalog.lock"
                    | "catalog.json.new"
                    | "writer.lock"
                    | "wal"
                    | "state.json"
                    | "tables"
                    | "history"
            )
        ) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn io_error(doing: &str, path: &Path, e: &std::io::Error) -> Error {
    let message = format!("cannot {doing} {}: {e}", path.display());
    let kind = match e.kind() {
        Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::Permission,
        Io::StorageFull | Io::QuotaExceeded => return Error::no_space(message),
        Io::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, message)
}
