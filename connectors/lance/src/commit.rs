//! Writing to a dataset that one writer owns: versions on top of a chosen one, durable on return.
//!
//! ```text
//!  versions   1 ── 2 ── 3 ── 4          3 is published; 4 was written by a checkpoint that then failed
//!                       └─▶ 5 (= 3) ── 6      restored, then appended to: 4 is part of nothing
//! ```
//!
//! Lance would build an append to version 3 on top of version 4. Here whatever came after the given version
//! is dropped first. And Lance never fsyncs: what it wrote to a local disk is fsynced here, files first, then
//! the folders that name them, before the new version is given to anybody.
//!
//! Limits: one writer at a time, which the caller sees to; on object stores a PUT is durable by itself.

mod local;
mod remote;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use datafusion::execution::SendableRecordBatchStream;
use lance::Dataset;
use lance::dataset::transaction::{Operation, TransactionBuilder};
use lance::dataset::{CommitBuilder, InsertBuilder, WriteMode as LanceWriteMode, WriteParams};
use triune_common::{Error, ErrorKind, Result, boxed};
use url::Url;

use self::local::{
    blocking, damaged, drop_torn, entries, manifest_checksum, manifest_name, metadata_files, sweep, sync,
    unavailable,
};
use crate::error::from_lance;
use crate::provider::LanceProvider;
use crate::store::{LanceStore, commit_handler, lance_uri, local_path};
use crate::write::to_storage;

pub use self::remote::NeedlessObjects;

/// A version that was written.
#[derive(Debug)]
pub struct LanceCommit {
    /// The dataset at the new version.
    pub provider: Arc<LanceProvider>,
    /// Id and rows of each new fragment, in the order of the rows that were written.
    pub added: Vec<(u32, u32)>,
    /// The checksum of the version's manifest, to open it with; `None` on object stores.
    pub manifest_sum: Option<u64>,
}

impl LanceStore {
    /// The dataset at `url` at one version, without looking at any other. `sum` is that of the commit that
    /// made the version.
    ///
    /// Errors: data, naming the manifest on a local disk, if that is missing or damaged.
    #[boxed]
    pub async fn open_number(&self, url: &Url, version: u64, sum: Option<u64>) -> Result<Arc<LanceProvider>> {
        if let Some(root) = local_path(url) {
            let path = root.join("_versions").join(manifest_name(version));
            // Lance ends the process on a manifest that was cut.
            let found = blocking(move || manifest_checksum(&path).map(|found| (found, path))).await?;
            if let (found, path) = found
                && sum.is_some_and(|s| s != found)
            {
                return Err(damaged(&path, "its checksum is wrong"));
            }
        }
        let dataset = Box::pin(self.builder(url)?.with_version(version).load()).await.map_err(|e| {
            let e = from_lance(e);
            let of = lance_uri(url).unwrap_or_else(|_| url.to_string());
            Error::data(format!(
                "version {version} of the Lance dataset {of} cannot be opened: {}",
                e.message()
            ))
            .with_hint("restore the folder from a backup")
        })?;
        LanceProvider::try_new(Arc::new(dataset)).await
    }

    /// Writes the rows of `stream`, in order, as one new version on top of `at`, or as the only rows of the
    /// dataset if that is `None`. Durable on return. A stream without rows makes a version with no new
    /// fragment.
    ///
    /// Errors: those of the stream, as they are; invalid for columns that are not the dataset's; resources
    /// for a full disk. Nothing is published then; files that were written stay until `remove_unreferenced`.
    #[boxed]
    pub async fn append_at(
        &self,
        url: &Url,
        at: Option<&LanceProvider>,
        stream: SendableRecordBatchStream,
        rows_per_file: usize,
    ) -> Result<LanceCommit> {
        self.check_scheme(url)?;
        let stream = to_storage(stream, Arc::new(AtomicU64::new(0)))?;
        let existing = match at {
            Some(at) => Some(on_top(url, at.dataset()).await?),
            None => {
                if let Some(root) = local_path(url) {
                    blocking(move || drop_torn(&root)).await?;
                }
                match self.load(url).await {
                    Ok(found) => Some(Arc::new(found)),
                    // Also a folder without any version in it: what a first write left that did not finish.
                    Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Invalid) => None,
                    Err(e) => return Err(e),
                }
            }
        };
        let params = WriteParams {
            mode: match (at, &existing) {
                (Some(_), _) => LanceWriteMode::Append,
                (None, Some(_)) => LanceWriteMode::Overwrite,
                (None, None) => LanceWriteMode::Create,
            },
            max_rows_per_file: rows_per_file,
            session: Some(self.session()),
            store_params: Some(self.store_params(url)?),
            commit_handler: commit_handler(url),
            skip_auto_cleanup: true,
            ..Default::default()
        };
        let before = match (at, &existing) {
            (Some(_), Some(dataset)) => ids(dataset),
            _ => HashSet::new(),
        };
        let uri = lance_uri(url)?;
        let insert = match &existing {
            Some(dataset) => InsertBuilder::new(Arc::clone(dataset)),
            None => InsertBuilder::new(uri.as_str()),
        };
        let written =
            Box::pin(insert.with_params(&params).execute_stream(stream)).await.map_err(from_lance)?;
        finish(url, written, &before).await
    }

    /// Replaces fragments of `at` by the rows of `stream` (none for `None`), in order, as one new version.
    /// Durable on return.
    ///
    /// The new fragments come after all others. Indexes keep the fragments that they cover and that stay.
    #[boxed]
    pub async fn replace_at(
        &self,
        url: &Url,
        at: &LanceProvider,
        removed: &[u32],
        stream: Option<SendableRecordBatchStream>,
        rows_per_file: usize,
    ) -> Result<LanceCommit> {
        let dataset = on_top(url, at.dataset()).await?;
        let params = WriteParams {
            mode: LanceWriteMode::Append,
            max_rows_per_file: rows_per_file,
            session: Some(self.session()),
            store_params: Some(self.store_params(url)?),
            commit_handler: commit_handler(url),
            skip_auto_cleanup: true,
            ..Default::default()
        };
        let fragments = match stream {
            None => Vec::new(),
            Some(stream) => {
                let stream = to_storage(stream, Arc::new(AtomicU64::new(0)))?;
                let staged = InsertBuilder::new(Arc::clone(&dataset)).with_params(&params);
                let staged = Box::pin(staged.execute_uncommitted_stream(stream)).await.map_err(from_lance)?;
                let Operation::Append { fragments } = staged.operation else {
                    return Err(Error::internal("Lance staged something else than an append"));
                };
                fragments
            }
        };
        let operation = Operation::Update {
            removed_fragment_ids: removed.iter().map(|id| u64::from(*id)).collect(),
            updated_fragments: Vec::new(),
            new_fragments: fragments,
            fields_modified: Vec::new(),
            compacted_sstables: Vec::new(),
            fields_for_preserving_frag_bitmap: Vec::new(),
            update_mode: None,
            inserted_rows_filter: None,
            updated_fragment_offsets: None,
        };
        let before = ids(&dataset);
        let transaction = TransactionBuilder::new(dataset.version_id(), operation).build();
        let commit = CommitBuilder::new(Arc::clone(&dataset)).with_skip_auto_cleanup(true);
        let written = Box::pin(commit.execute(transaction)).await.map_err(from_lance)?;
        finish(url, written, &before).await
    }

    /// Checks that every data file of a version is there and has the size that its manifest says.
    ///
    /// One look at each file's entry (on an object store: one listing), nothing is read. Errors: data, naming the
    /// first file that is missing or has another size.
    #[boxed]
    pub async fn check_files(&self, url: &Url, provider: &LanceProvider) -> Result<()> {
        let Some(root) = local_path(url) else { return self.check_objects(url, provider.dataset()).await };
        let files: Vec<(PathBuf, Option<u64>)> = provider
            .dataset()
            .fragments()
            .iter()
            .flat_map(|f| &f.files)
            .filter(|f| f.base_id.is_none())
            .map(|f| (root.join("data").join(&f.path), f.file_size_bytes.get().map(|n| n.get())))
            .collect();
        blocking(move || {
            for (path, size) in files {
                let found = match std::fs::metadata(&path) {
                    Ok(found) => found.len(),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                        return Err(Error::data(format!("the data file {} is missing", path.display()))
                            .with_hint("restore the file from a backup"));
                    }
                    Err(e) => return Err(unavailable("look at", &path, &e)),
                };
                if let Some(size) = size
                    && size != found
                {
                    let path = path.display();
                    return Err(Error::data(format!(
                        "the data file {path} is damaged: it has {found} bytes where {size} belong"
                    ))
                    .with_hint("restore the file from a backup"));
                }
            }
            Ok(())
        })
        .await
    }

    /// Removes all files of a dataset on a local disk that none of the versions in `keep` needs, and returns
    /// how many bytes that were.
    ///
    /// Data files, manifests, transactions, deletion files and indexes are found by reading the manifests
    /// that are kept; a file that one of them names is never touched. The caller sees to it that nobody
    /// writes meanwhile and that no reader uses another version. Errors: data if a version that is to be
    /// kept cannot be read, and nothing is removed then.
    ///
    /// `building`: indexes are being built that no version names yet; all folders of indexes stay then.
    #[boxed]
    pub async fn remove_unreferenced(&self, url: &Url, keep: &[u64], building: bool) -> Result<u64> {
        let Some(root) = local_path(url) else {
            let needless = self.unreferenced(url, keep, building).await?;
            return self.remove_objects(url, needless).await;
        };
        let mut needed: HashSet<PathBuf> = HashSet::new();
        let mut indexes: HashSet<String> = HashSet::new();
        for version in keep {
            let provider = self.open_number(url, *version, None).await?;
            let dataset = provider.dataset();
            needed.extend(metadata_files(&root, dataset));
            for fragment in dataset.fragments().iter() {
                needed.extend(fragment.files.iter().map(|f| root.join("data").join(&f.path)));
                if fragment.deletion_file.is_some() || !fragment.overlays.is_empty() {
                    return Err(Error::unsupported(format!(
                        "{} has deletion or overlay files, which Triune does not write",
                        root.display()
                    )));
                }
            }
            use lance::index::DatasetIndexExt;
            let known = dataset.load_indices().await.map_err(from_lance)?;
            indexes.extend(known.iter().map(|i| i.uuid.to_string()));
        }
        blocking(move || {
            let mut freed = 0;
            for folder in ["data", "_versions", "_transactions"] {
                freed += sweep(&root.join(folder), &|path| needed.contains(path))?;
            }
            let folder = root.join("_indices");
            if building {
                return Ok(freed);
            }
            for entry in entries(&folder)? {
                let name = entry.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
                if !indexes.contains(&name) {
                    freed += sweep(&entry, &|_| false)?;
                    // Not empty only if it holds folders, which Lance does not make.
                    let _ = std::fs::remove_dir(&entry);
                }
            }
            Ok(freed)
        })
        .await
    }
}

/// The dataset at a version that has the given one's contents and is the newest.
pub(crate) async fn on_top(url: &Url, dataset: &Arc<Dataset>) -> Result<Arc<Dataset>> {
    let version = dataset.version_id();
    if dataset.latest_version_id().await.map_err(from_lance)? == version {
        return Ok(Arc::clone(dataset));
    }
    if let Some(root) = local_path(url) {
        // A power loss may have torn manifests that were not fsynced and that nobody was told of.
        let refs = dataset.version_refs().await.map_err(from_lance)?;
        let later: Vec<u64> = refs.into_iter().map(|r| r.version).filter(|v| *v > version).collect();
        let left = blocking(move || {
            let folder = root.join("_versions");
            let paths = later.iter().map(|v| folder.join(manifest_name(*v))).collect::<Vec<_>>();
            if paths.iter().all(|p| manifest_checksum(p).is_ok()) {
                return Ok(true);
            }
            for path in &paths {
                std::fs::remove_file(path).map_err(|e| unavailable("remove", path, &e))?;
            }
            sync(&folder).map(|()| false)
        })
        .await?;
        if !left {
            return Ok(Arc::clone(dataset));
        }
    }
    let mut restored = dataset.as_ref().clone();
    Box::pin(restored.restore()).await.map_err(from_lance)?;
    Ok(Arc::new(restored))
}

pub(crate) fn ids(dataset: &Dataset) -> HashSet<u64> {
    dataset.fragments().iter().map(|f| f.id).collect()
}

/// Fsyncs all files of these folders, the folders, and the one that they are in.
pub(crate) async fn sync_folders(folders: Vec<PathBuf>) -> Result<()> {
    blocking(move || {
        for folder in &folders {
            for file in entries(folder)? {
                sync(&file)?;
            }
            sync(folder)?;
        }
        folders.first().and_then(|f| f.parent()).map_or(Ok(()), sync)
    })
    .await
}

/// Makes a version durable and says what is new in it.
pub(crate) async fn finish(url: &Url, dataset: Dataset, before: &HashSet<u64>) -> Result<LanceCommit> {
    let mut added = Vec::new();
    let mut files = Vec::new();
    let root = local_path(url);
    for fragment in dataset.fragments().iter().filter(|f| !before.contains(&f.id)) {
        let rows = fragment.physical_rows.and_then(|n| u32::try_from(n).ok());
        let (Ok(id), Some(rows)) = (u32::try_from(fragment.id), rows) else {
            return Err(Error::internal(format!("Lance wrote fragment {} of unknown size", fragment.id)));
        };
        added.push((id, rows));
        if let Some(root) = &root {
            files.extend(fragment.files.iter().map(|f| root.join("data").join(&f.path)));
        }
    }
    let mut manifest_sum = None;
    if let Some(root) = root {
        let manifest = root.join("_versions").join(manifest_name(dataset.version_id()));
        files.extend(metadata_files(&root, &dataset));
        let sum = blocking(move || {
            let sum = manifest_checksum(&manifest)?;
            for file in &files {
                sync(file)?;
            }
            for folder in ["data", "_versions", "_transactions", "_indices", ""] {
                let folder = if folder.is_empty() { root.clone() } else { root.join(folder) };
                if folder.exists() {
                    sync(&folder)?;
                }
            }
            root.parent().map_or(Ok(()), sync)?;
            Ok(sum)
        })
        .await?;
        manifest_sum = Some(sum);
    }
    Ok(LanceCommit { provider: LanceProvider::try_new(Arc::new(dataset)).await?, added, manifest_sum })
}
