//! The files of a dataset on a local disk.

use std::fs::File;
use std::path::{Path, PathBuf};

use datafusion::common::runtime::SpawnedTask;
use lance::Dataset;
use triune_common::{Error, ErrorKind, Result};
use twox_hash::XxHash3_64;

/// A version's manifest and the transaction that made it.
pub(super) fn metadata_files(root: &Path, dataset: &Dataset) -> Vec<PathBuf> {
    let mut out = Vec::new();
    if let Some(name) = dataset.manifest_location().path.filename() {
        out.push(root.join("_versions").join(name));
    }
    if let Some(name) = &dataset.manifest().transaction_file {
        let path = root.join("_transactions").join(name);
        // Lance removes it itself where the manifest holds the transaction too.
        if path.exists() {
            out.push(path);
        }
    }
    out
}

/// What Lance calls a version's manifest, so that the newest comes first in a list.
pub(super) fn manifest_name(version: u64) -> String {
    format!("{:020}.manifest", u64::MAX - version)
}

/// The checksum of a manifest. Errors: data if it is missing or does not end where it says.
pub(super) fn manifest_checksum(path: &Path) -> Result<u64> {
    let bytes = std::fs::read(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::data(format!("the manifest {} is missing", path.display()))
            .with_hint("restore the file from a backup"),
        _ => unavailable("read", path, &e),
    })?;
    // … message length (u32), message, its place (u64), version (2 × u16), magic.
    let whole = bytes.len().checked_sub(16).is_some_and(|tail| {
        let place = bytes[tail..tail + 8].try_into().map(u64::from_le_bytes);
        let place = place.ok().and_then(|p| usize::try_from(p).ok()).unwrap_or(usize::MAX);
        let length = place.checked_add(4).and_then(|end| bytes.get(place..end));
        let length = length.and_then(|l| l.try_into().ok()).map(u32::from_le_bytes);
        bytes.ends_with(b"LANC")
            && length.is_some_and(|l| place.saturating_add(4).saturating_add(l as usize) <= tail)
    });
    if whole { Ok(XxHash3_64::oneshot(&bytes)) } else { Err(damaged(path, "it was cut")) }
}

pub(super) fn damaged(path: &Path, what: &str) -> Error {
    Error::data(format!("the manifest {} is damaged: {what}", path.display()))
        .with_hint("restore the file from a backup")
}

pub(super) fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|f| f.sync_all()).map_err(|e| unavailable("fsync", path, &e))
}

/// Removes the files of a folder that are not needed; returns their bytes.
pub(super) fn sweep(folder: &Path, needed: &dyn Fn(&PathBuf) -> bool) -> Result<u64> {
    let mut freed = 0;
    for path in entries(folder)? {
        let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
        if found.is_file() && !needed(&path) {
            std::fs::remove_file(&path).map_err(|e| unavailable("remove", &path, &e))?;
            freed += found.len();
        }
    }
    Ok(freed)
}

pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = match std::fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(unavailable("list", folder, &e)),
    };
    listed
        .map(|entry| entry.map(|e| e.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(|e| unavailable("list", folder, &e))
}

/// Removes the newest manifests as long as they are torn: a power loss left them, and Lance ends the process
/// on them.
pub(super) fn drop_torn(root: &Path) -> Result<()> {
    let folder = root.join("_versions");
    let mut manifests = entries(&folder)?;
    manifests.retain(|p| p.extension().is_some_and(|e| e == "manifest"));
    // The newest first: names count down.
    manifests.sort_unstable();
    let torn: Vec<_> = manifests.into_iter().take_while(|p| manifest_checksum(p).is_err()).collect();
    for path in &torn {
        std::fs::remove_file(path).map_err(|e| unavailable("remove", path, &e))?;
    }
    if torn.is_empty() { Ok(()) } else { sync(&folder) }
}

pub(super) fn unavailable(doing: &str, path: &Path, e: &std::io::Error) -> Error {
    let message = format!("cannot {doing} {}: {e}", path.display());
    match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::no_space(message),
        _ => Error::new(ErrorKind::Unavailable, message),
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    SpawnedTask::spawn_blocking(work)
        .join_unwind()
        .await
        .map_err(|_| Error::new(ErrorKind::Cancelled, "the write was cancelled"))?
}
