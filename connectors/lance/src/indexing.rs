//! Building indexes beside readers and writers, and making them part of a version.
//!
//! ```text
//!  version 7 ── build, minutes ──────────────▶ _indices/<id>/*     part of no version yet
//!  version 7 ── appends ──▶ 8 ── rewrite ──▶ 9 ── publish ──▶ 10   fragments of 7 that stayed are covered
//! ```
//!
//! An index names the fragments that it covers. Those that were replaced since are skipped by whoever searches,
//! those that came since are read as they are. So a build needs no lock; what is published is checked: an index
//! counts only if the fragments that it covers are still those that it was built from.
//!
//! A build that is dropped removes its folder; what a process that ended left there is swept by
//! `remove_unreferenced`.

mod parameters;
mod progress;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use lance::Dataset;
use lance::Error as LanceError;
use lance::dataset::CommitBuilder;
use lance::dataset::transaction::{Operation, TransactionBuilder};
use lance::index::DatasetIndexExt;
use lance::index::optimize::plan_optimize_indices;
use lance::index::vector::has_vectors_to_train;
use lance_index::IndexType;
use lance_index::optimize::OptimizeOptions;
use lance_table::format::IndexMetadata;
use triune_common::{Result, boxed};
use url::Url;
use uuid::Uuid;

pub use parameters::inverted_params;
pub use progress::{BuildProgress, BuildStage};

use crate::commit::LanceCommit;
use crate::error::from_lance;
use crate::method::IndexMethod;
use crate::provider::LanceProvider;
use crate::store::{LanceStore, local_path};

/// One Lance index that is to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexSpec {
    pub name: String,
    pub column: String,
    pub method: IndexMethod,
    /// As [`IndexMethod::check_parameters`] gives them.
    pub parameters: BTreeMap<String, String>,
}

/// An index that was built and is part of no version yet.
#[derive(Debug)]
pub struct BuiltIndex {
    segments: Vec<IndexMetadata>,
    /// Segments that it takes the place of; `None`: all of the same name.
    replaces: Option<Vec<Uuid>>,
    /// The data files that it was built from, by fragment.
    files: HashMap<u32, Vec<String>>,
    /// Removes the files unless they were published.
    leftovers: Leftovers,
}

impl BuiltIndex {
    pub fn name(&self) -> &str {
        self.segments.first().map_or("", |s| s.name.as_str())
    }
}

/// Folders of indexes on a local disk that are to go when this is dropped.
#[derive(Debug, Default)]
struct Leftovers(Vec<PathBuf>);

impl Leftovers {
    fn of(dataset: &Dataset, ids: impl IntoIterator<Item = Uuid>) -> Self {
        let root = PathBuf::from(dataset.uri());
        if !root.is_absolute() {
            return Self::default();
        }
        Self(ids.into_iter().map(|id| root.join("_indices").join(id.to_string())).collect())
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        for folder in &self.0 {
            // What cannot be removed now is swept later.
            drop(std::fs::remove_dir_all(folder));
        }
    }
}

/// What a version holds of one index, over all its segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhysicalIndex {
    pub name: String,
    /// `None`: a field inside a struct, or one that is gone.
    pub column: Option<String>,
    /// Rows of fragments that it covers, rows deleted since included.
    pub rows_indexed: u64,
    pub rows_unindexed: u64,
    pub segments: usize,
    /// As its description says; `None` for one of an old Lance.
    pub bytes: Option<u64>,
    /// Rows of fragments that it was built from and that are gone: entries that searches skip.
    pub stale_fragments: u64,
    pub built_at: Option<chrono::DateTime<chrono::Utc>>,
}

impl LanceProvider {
    /// The indexes of this version, by name. Reads the index section of the manifest.
    #[boxed]
    pub async fn physical_indexes(&self) -> Result<Vec<PhysicalIndex>> {
        let dataset = self.dataset();
        let known = dataset.load_indices().await.map_err(from_lance)?;
        let mut out: BTreeMap<&str, (PhysicalIndex, roaring::RoaringBitmap)> = BTreeMap::new();
        for entry in known.iter() {
            let column = entry.fields.first();
            let column = column
                .and_then(|id| dataset.schema().fields.iter().find(|f| f.id == *id))
                .map(|f| f.name.clone());
            let (found, covered) = out.entry(entry.name.as_str()).or_insert_with(|| {
                let found = PhysicalIndex {
                    name: entry.name.clone(),
                    column,
                    rows_indexed: 0,
                    rows_unindexed: 0,
                    segments: 0,
                    bytes: Some(0),
                    stale_fragments: 0,
                    built_at: None,
                };
                (found, roaring::RoaringBitmap::new())
            });
            found.segments += 1;
            found.built_at = found.built_at.max(entry.created_at);
            let bytes = entry.files.as_ref().map(|files| files.iter().map(|f| f.size_bytes).sum::<u64>());
            found.bytes = found.bytes.zip(bytes).map(|(a, b)| a + b);
            if let Some(bitmap) = &entry.fragment_bitmap {
                *covered |= bitmap;
            }
        }
        let fragments = dataset.fragments();
        for (found, covered) in out.values_mut() {
            let mut live = 0;
            for fragment in fragments.iter() {
                let rows = fragment.physical_rows.unwrap_or(0) as u64;
                if u32::try_from(fragment.id).is_ok_and(|id| covered.contains(id)) {
                    found.rows_indexed += rows;
                    live += 1;
                } else {
                    found.rows_unindexed += rows;
                }
            }
            found.stale_fragments = covered.len().saturating_sub(live);
        }
        Ok(out.into_values().map(|(found, _)| found).collect())
    }
}

impl LanceStore {
    /// Builds an index over all rows of a version; `None` when there is too little to build it from (no row,
    /// or fewer vectors than its codes need). `id` names its folder. Nothing is published.
    ///
    /// Cost: reads the column once or twice. Dropping the future ends it and removes what was written.
    #[boxed]
    pub async fn build_index(
        &self,
        provider: &LanceProvider,
        spec: &IndexSpec,
        id: Uuid,
        progress: &Arc<BuildProgress>,
    ) -> Result<Option<BuiltIndex>> {
        let mut dataset = provider.dataset().as_ref().clone();
        let least = usize::try_from(spec.method.least_rows()).unwrap_or(1);
        if spec.method.is_vector()
            && !Box::pin(has_vectors_to_train(&dataset, &spec.column, least)).await.map_err(from_lance)?
        {
            return Ok(None);
        }
        let leftovers = Leftovers::of(&dataset, [id]);
        let (index_type, params) = parameters::of(&dataset, spec)?;
        let columns = [spec.column.as_str()];
        let mut built = dataset
            .create_index_builder(&columns, index_type, params.as_ref())
            .name(spec.name.clone())
            // The name may be that of the one that this is to replace.
            .replace(true)
            .index_uuid(id)
            .progress(Arc::clone(progress) as Arc<dyn lance_index::progress::IndexBuildProgress>);
        let built = match Box::pin(built.execute_uncommitted()).await {
            Ok(built) => built,
            // Vectors that have no direction (zeros, under cosine) train nothing.
            Err(LanceError::Unprocessable { .. }) => return Ok(None),
            Err(e) => return Err(from_lance(e)),
        };
        if built.fragment_bitmap.as_ref().is_none_or(|b| b.is_empty()) {
            return Ok(None);
        }
        let files = files_of(&dataset);
        Ok(Some(BuiltIndex { segments: vec![built], replaces: None, files, leftovers }))
    }

    /// Takes the rows that an index does not cover into it: as another segment, or merged with the newest
    /// `merge` ones. `None` when there is nothing to do. Nothing is published.
    #[boxed]
    pub async fn extend_index(
        &self,
        provider: &LanceProvider,
        name: &str,
        merge: usize,
    ) -> Result<Option<BuiltIndex>> {
        let dataset = provider.dataset();
        let options = OptimizeOptions::merge(merge).index_names(vec![name.to_owned()]);
        let plan = Box::pin(plan_optimize_indices(dataset, &options)).await.map_err(from_lance)?;
        let mut tasks = Vec::new();
        for task in &plan.tasks {
            tasks.extend(Box::pin(task.execute(dataset)).await.map_err(from_lance)?);
        }
        let (mut segments, mut replaces) = (Vec::new(), Vec::new());
        for merge in &plan.merges {
            if let Some(done) = Box::pin(merge.execute(dataset, &tasks)).await.map_err(from_lance)? {
                replaces.extend(done.replaces);
                segments.push(done.segment);
            }
        }
        if segments.is_empty() {
            return Ok(None);
        }
        let leftovers = Leftovers::of(dataset, segments.iter().map(|s| s.uuid));
        Ok(Some(BuiltIndex { segments, replaces: Some(replaces), files: files_of(dataset), leftovers }))
    }

    /// Makes indexes part of a new version on top of `at`: adds those that were built, leaves out those of the
    /// names in `dropped`, and gives others new names. Durable on return. `None` when nothing would change.
    ///
    /// A built index whose fragments are not those of `at` any more (the table was emptied) is not added.
    #[boxed]
    pub async fn publish_indexes(
        &self,
        url: &Url,
        at: &LanceProvider,
        built: Vec<BuiltIndex>,
        dropped: &[String],
        renamed: &[(String, String)],
    ) -> Result<Option<LanceCommit>> {
        let known = at.dataset().load_indices().await.map_err(from_lance)?;
        let now = files_of(at.dataset());
        let (mut added, mut removed, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for index in built {
            let same = |id: &u32| match (now.get(id), index.files.get(id)) {
                (Some(now), Some(then)) => now == then,
                (None, _) => true,
                (Some(_), None) => false,
            };
            let covered: Vec<u32> =
                index.segments.iter().flat_map(|s| s.fragment_bitmap.iter().flatten()).collect();
            let any = covered.iter().any(|id| now.contains_key(id));
            if !any || !covered.iter().all(same) {
                continue;
            }
            let replaced = |entry: &&IndexMetadata| match &index.replaces {
                Some(ids) => ids.contains(&entry.uuid),
                None => entry.name == index.name(),
            };
            if index
                .replaces
                .as_ref()
                .is_some_and(|ids| ids.iter().any(|id| !known.iter().any(|entry| entry.uuid == *id)))
            {
                // It extends an index that is another one by now.
                continue;
            }
            removed.extend(known.iter().filter(replaced).cloned());
            added.extend(index.segments.iter().cloned());
            kept.push(index);
        }
        removed.extend(known.iter().filter(|e| dropped.contains(&e.name)).cloned());
        for (from, to) in renamed {
            for entry in known.iter().filter(|e| e.name == *from) {
                added.push(IndexMetadata { name: to.clone(), ..entry.clone() });
            }
        }
        let fresh: HashSet<Uuid> = added.iter().map(|e| e.uuid).collect();
        removed.retain(|e| !fresh.contains(&e.uuid));
        if added.is_empty() && removed.is_empty() {
            return Ok(None);
        }
        let dataset = crate::commit::on_top(url, at.dataset()).await?;
        let before = crate::commit::ids(&dataset);
        let mut paths = Vec::new();
        if let Some(root) = local_path(url) {
            for entry in kept.iter().flat_map(|i| &i.segments) {
                paths.push(root.join("_indices").join(entry.uuid.to_string()));
            }
        }
        let operation = Operation::CreateIndex { new_indices: added, removed_indices: removed };
        let transaction = TransactionBuilder::new(dataset.version_id(), operation).build();
        let commit = CommitBuilder::new(Arc::clone(&dataset)).with_skip_auto_cleanup(true);
        crate::commit::sync_folders(paths).await?;
        let written = Box::pin(commit.execute(transaction)).await.map_err(from_lance)?;
        let commit = crate::commit::finish(url, written, &before).await?;
        for index in kept {
            index.leftovers.keep();
        }
        Ok(Some(commit))
    }
}

fn files_of(dataset: &Dataset) -> HashMap<u32, Vec<String>> {
    dataset
        .fragments()
        .iter()
        .filter_map(|f| {
            let files = f.files.iter().map(|file| file.path.clone()).collect();
            Some((u32::try_from(f.id).ok()?, files))
        })
        .collect()
}

/// Lance's kind of index for a method.
pub(crate) fn index_type(method: IndexMethod) -> IndexType {
    match method {
        IndexMethod::IvfRq => IndexType::IvfRq,
        IndexMethod::IvfPq => IndexType::IvfPq,
        IndexMethod::IvfSq => IndexType::IvfSq,
        IndexMethod::IvfFlat => IndexType::IvfFlat,
        IndexMethod::IvfHnswSq | IndexMethod::Hnsw => IndexType::IvfHnswSq,
        IndexMethod::IvfHnswPq => IndexType::IvfHnswPq,
        IndexMethod::BTree => IndexType::BTree,
        IndexMethod::Bitmap => IndexType::Bitmap,
        IndexMethod::ZoneMap => IndexType::ZoneMap,
        IndexMethod::Bloom => IndexType::BloomFilter,
        IndexMethod::NGram => IndexType::NGram,
        IndexMethod::FullText => IndexType::Inverted,
    }
}
