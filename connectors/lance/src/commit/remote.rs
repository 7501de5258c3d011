//! The objects of a dataset on an object store.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, TryStreamExt};
use lance::Dataset;
use triune_common::{Error, Result, boxed};
use url::Url;

use crate::error::from_lance;
use crate::store::LanceStore;

/// Objects that are removed at the same time.
const PARALLEL: usize = 8;

/// Objects of a dataset that are to be removed: their names in the dataset's folder, and their sizes.
#[derive(Debug, Default)]
pub struct NeedlessObjects(Vec<(String, u64)>);

impl LanceStore {
    /// The objects of a dataset that none of the versions in `keep` needs, as they are listed now.
    ///
    /// Objects that are written later are not among them. `building`: indexes are being built that no version names
    /// yet, none is among them then. Errors: data if a version that is to be kept cannot be
    /// read.
    #[boxed]
    pub async fn unreferenced(&self, url: &Url, keep: &[u64], building: bool) -> Result<NeedlessObjects> {
        let listed = self.objects(url).await?;
        let mut needed: HashSet<String> = HashSet::new();
        let mut indexes: HashSet<String> = HashSet::new();
        for version in keep {
            let provider = self.open_number(url, *version, None).await?;
            let dataset = provider.dataset();
            if let Some(name) = dataset.manifest_location().path.filename() {
                needed.insert(format!("_versions/{name}"));
            }
            if let Some(name) = &dataset.manifest().transaction_file {
                needed.insert(format!("_transactions/{name}"));
            }
            for fragment in dataset.fragments().iter() {
                if fragment.deletion_file.is_some() || !fragment.overlays.is_empty() {
                    return Err(Error::unsupported(format!(
                        "{url} has deletion or overlay files, which Triune does not write"
                    )));
                }
                needed.extend(fragment.files.iter().map(|f| format!("data/{}", f.path)));
            }
            use lance::index::DatasetIndexExt;
            let known = dataset.load_indices().await.map_err(from_lance)?;
            indexes.extend(known.iter().map(|i| i.uuid.to_string()));
        }
        let is_needless = |name: &str| match name.split_once('/') {
            Some(("data" | "_versions" | "_transactions", _)) => !needed.contains(name),
            Some(("_indices", rest)) => {
                !building && !indexes.contains(rest.split('/').next().unwrap_or(rest))
            }
            _ => false,
        };
        Ok(NeedlessObjects(listed.into_iter().filter(|(name, _)| is_needless(name)).collect()))
    }

    /// Removes objects and returns how many bytes that were; those that are gone already are fine.
    #[boxed]
    pub async fn remove_objects(&self, url: &Url, objects: NeedlessObjects) -> Result<u64> {
        let (store, root, _) = Box::pin(self.builder(url)?.build_object_store()).await.map_err(from_lance)?;
        let (store, root) = (&store, &root);
        futures::stream::iter(objects.0)
            .map(|(name, size)| async move {
                let path = name.split('/').fold(root.clone(), |path, part| path.join(part));
                match store.delete(&path).await {
                    Ok(()) => Ok(size),
                    Err(lance::Error::NotFound { .. }) => Ok(0),
                    Err(e) => Err(from_lance(e)),
                }
            })
            .buffer_unordered(PARALLEL)
            .try_fold(0, |sum, size| async move { Ok(sum + size) })
            .await
    }

    /// Names in the dataset's folder, and sizes.
    async fn objects(&self, url: &Url) -> Result<Vec<(String, u64)>> {
        let (store, root, _) = Box::pin(self.builder(url)?.build_object_store()).await.map_err(from_lance)?;
        let listed: Vec<_> = store.read_dir_all(&root, None).try_collect().await.map_err(from_lance)?;
        let name = |location: &str| {
            let rest = location.strip_prefix(root.as_ref())?;
            Some(rest.trim_start_matches('/').to_owned())
        };
        Ok(listed.into_iter().filter_map(|o| Some((name(o.location.as_ref())?, o.size))).collect())
    }

    /// Checks by one listing that every data file of a version is there with the size that its manifest says.
    pub(super) async fn check_objects(&self, url: &Url, dataset: &Dataset) -> Result<()> {
        let sizes: HashMap<String, u64> = self.objects(url).await?.into_iter().collect();
        for file in dataset.fragments().iter().flat_map(|f| &f.files).filter(|f| f.base_id.is_none()) {
            let name = format!("data/{}", file.path);
            let Some(found) = sizes.get(&name) else {
                return Err(Error::data(format!("the data file {name} of {url} is missing"))
                    .with_hint("restore the object from a backup"));
            };
            if let Some(size) = file.file_size_bytes.get().map(|n| n.get())
                && size != *found
            {
                return Err(Error::data(format!(
                    "the data file {name} of {url} is damaged: it has {found} bytes where {size} belong"
                ))
                .with_hint("restore the object from a backup"));
            }
        }
        Ok(())
    }
}
