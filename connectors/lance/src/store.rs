//! Where datasets are opened: one cache for all of them, and the options of their stores.
//!
//! ```sql
//! CREATE EXTERNAL TABLE docs STORED AS LANCE LOCATION 's3://bucket/docs.lance';
//! SELECT * FROM docs AT (VERSION => 7);
//! ```
//!
//! Lance opens a private cache of up to 6 GiB for every dataset that is opened without a session. A
//! [`LanceStore`] owns one session with sizes that were chosen, and every dataset of a database is
//! opened through it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use lance::dataset::builder::DatasetBuilder;
use lance::session::Session as LanceSession;
use lance::{Dataset, Error as LanceError};
use lance_io::object_store::{ObjectStoreParams, ObjectStoreRegistry, StorageOptionsAccessor};
use lance_table::io::commit::{CommitHandler, ConditionalPutCommitHandler};
use triune_common::{Error, Result, boxed};
use url::Url;

use crate::cache::ColumnCache;
use crate::error::from_lance;
use crate::provider::LanceProvider;
use crate::version::{self, LanceVersion};

/// Who knows the credentials and endpoints of a location, under the names that Lance's stores read.
pub trait LanceOptions: fmt::Debug + Send + Sync {
    /// The storage options for `url`, such as `aws_access_key_id`, `aws_region`, `aws_endpoint`,
    /// `allow_http`. Empty where the environment is to be asked.
    fn lance_options(&self, url: &Url) -> Result<HashMap<String, String>>;
}

/// No options: local files, and stores that the environment describes.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoOptions;

impl LanceOptions for NoOptions {
    fn lance_options(&self, _url: &Url) -> Result<HashMap<String, String>> {
        Ok(HashMap::new())
    }
}

/// The sizes of the two caches that all datasets of a [`LanceStore`] share, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LanceCaches {
    /// Opened vector and scalar indexes: centroids, quantised codes, graph layers.
    pub index_bytes: usize,
    /// Manifests, file footers, page tables, deletion vectors.
    pub metadata_bytes: usize,
}

impl Default for LanceCaches {
    /// 256 MiB for indexes (a 5-bit index over 300,000 vectors of 384 numbers takes about 180 MB)
    /// and 128 MiB for metadata.
    fn default() -> Self {
        Self { index_bytes: 256 << 20, metadata_bytes: 128 << 20 }
    }
}

/// Opens and writes Lance datasets through one shared cache.
pub struct LanceStore {
    session: Arc<LanceSession>,
    options: Arc<dyn LanceOptions>,
    columns: Arc<ColumnCache>,
}

impl fmt::Debug for LanceStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanceStore").field("session", &self.session).finish_non_exhaustive()
    }
}

/// How one of the caches does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheUse {
    /// `index`, `metadata` or `column`.
    pub name: &'static str,
    pub hits: u64,
    pub misses: u64,
    pub bytes: usize,
}

impl LanceStore {
    pub fn new(caches: LanceCaches, options: Arc<dyn LanceOptions>) -> Arc<Self> {
        let registry = Arc::new(ObjectStoreRegistry::default());
        let session = LanceSession::new(caches.index_bytes, caches.metadata_bytes, registry);
        let columns = Arc::new(ColumnCache::default());
        Arc::new(Self { session: Arc::new(session), options, columns })
    }

    /// The decoded columns that tables of this store share: see [`LanceProvider::with_cache`].
    pub fn columns(&self) -> &Arc<ColumnCache> {
        &self.columns
    }

    /// What the caches have answered since the store was made, and what they hold.
    #[boxed]
    pub async fn cache_use(&self) -> Vec<CacheUse> {
        let lance = |name, stats: lance_core::cache::CacheStats| CacheUse {
            name,
            hits: stats.hits,
            misses: stats.misses,
            bytes: stats.size_bytes,
        };
        let (hits, misses) = self.columns.counts();
        vec![
            lance("index", self.session.index_cache_stats().await),
            lance("metadata", self.session.metadata_cache_stats().await),
            CacheUse { name: "column", hits, misses, bytes: self.columns.bytes() },
        ]
    }

    /// The dataset at `url` as a table, at one version that later commits do not move.
    ///
    /// Errors: not-found for a place where nothing is and for a version, time or tag that does not
    /// exist (the message lists what does); invalid for a folder that is no Lance dataset;
    /// unsupported for a kind of store that this build of Lance cannot read.
    #[boxed]
    pub async fn open(&self, url: &Url, version: &LanceVersion) -> Result<Arc<LanceProvider>> {
        let dataset = self.load(url).await?;
        let dataset = version::check_out(dataset, version).await?;
        LanceProvider::try_new(Arc::new(dataset)).await
    }

    /// The newest version of the dataset at `url`.
    pub(crate) async fn load(&self, url: &Url) -> Result<Dataset> {
        match Box::pin(self.builder(url)?.load()).await {
            Ok(dataset) => Ok(dataset),
            Err(LanceError::DatasetNotFound { .. } | LanceError::NotFound { .. }) => {
                Err(self.why_missing(url).await)
            }
            // A store of local files cannot look for folders below a file, and says so in its own way.
            Err(other) => match local_path(url) {
                Some(path) if tokio::fs::metadata(&path).await.is_ok_and(|m| m.is_file()) => {
                    Err(self.why_missing(url).await)
                }
                _ => Err(from_lance(other)),
            },
        }
    }

    pub(crate) fn session(&self) -> Arc<LanceSession> {
        Arc::clone(&self.session)
    }

    pub(crate) fn store_params(&self, url: &Url) -> Result<ObjectStoreParams> {
        let options = self.options.lance_options(url)?;
        let accessor =
            (!options.is_empty()).then(|| Arc::new(StorageOptionsAccessor::with_static_options(options)));
        Ok(ObjectStoreParams { storage_options_accessor: accessor, ..Default::default() })
    }

    pub(crate) fn builder(&self, url: &Url) -> Result<DatasetBuilder> {
        self.check_scheme(url)?;
        let mut builder = DatasetBuilder::from_uri(lance_uri(url)?)
            .with_session(self.session())
            .with_store_params(self.store_params(url)?);
        if let Some(handler) = commit_handler(url) {
            builder = builder.with_commit_handler(handler);
        }
        Ok(builder)
    }

    /// Refuses what Lance was built without, before it says so in its own words.
    pub fn check_scheme(&self, url: &Url) -> Result<()> {
        if self.session.store_registry().get_provider(url.scheme()).is_some() {
            return Ok(());
        }
        Err(Error::unsupported(format!(
            "Lance datasets cannot be reached by {}:// in this build",
            url.scheme()
        ))
        .with_hint("use a local path, file:// or s3://"))
    }

    /// Tells a place where nothing is from a folder that is something else.
    async fn why_missing(&self, url: &Url) -> Error {
        let nothing = || Error::not_found(format!("nothing exists at {}", shown(url)));
        let no_dataset = || {
            Error::invalid(format!("{} is not a Lance dataset: it has no _versions folder", shown(url)))
                .with_hint("give the folder that COPY … TO or Lance wrote")
        };
        if let Some(path) = local_path(url) {
            return match tokio::fs::metadata(&path).await {
                Ok(found) if found.is_dir() => no_dataset(),
                Ok(_) => Error::invalid(format!("{} is a file, not a Lance dataset", shown(url)))
                    .with_hint("a Lance dataset is a folder with a _versions folder in it"),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => nothing(),
                Err(e) => Error::from(datafusion::common::DataFusionError::IoError(e)),
            };
        }
        let listed = async {
            let (store, path, _) =
                Box::pin(self.builder(url)?.build_object_store()).await.map_err(from_lance)?;
            store.read_dir(path).await.map_err(from_lance)
        };
        match listed.await {
            Ok(entries) if entries.is_empty() => nothing(),
            Ok(_) => no_dataset(),
            Err(e) => e,
        }
    }
}

/// The handler of commits where Lance would choose one that loses concurrent commits.
///
/// Lance knows how to put a manifest only-if-absent on the stores in this list; for every other scheme
/// it takes a handler that overwrites, without a word.
pub(crate) fn commit_handler(url: &Url) -> Option<Arc<dyn CommitHandler>> {
    const SAFE: [&str; 9] =
        ["file", "file-object-store", "s3", "gs", "az", "abfss", "memory", "shared-memory", "s3+ddb"];
    if SAFE.contains(&url.scheme()) { None } else { Some(Arc::new(ConditionalPutCommitHandler)) }
}

/// What Lance calls the location: a plain path for local files (it takes URLs letter by letter, so
/// that `%20` would be part of a name), the URL otherwise.
pub(crate) fn lance_uri(url: &Url) -> Result<String> {
    match local_path(url) {
        Some(path) => path
            .into_os_string()
            .into_string()
            .map_err(|p| Error::unsupported(format!("the path {} is not UTF-8", p.to_string_lossy()))),
        None => Ok(url.as_str().to_owned()),
    }
}

/// The folder of a dataset on a local disk.
pub(crate) fn local_path(url: &Url) -> Option<std::path::PathBuf> {
    (url.scheme() == "file").then(|| url.to_file_path().ok()).flatten()
}

/// A location for messages: local paths as the user typed them.
pub(crate) fn shown(url: &Url) -> String {
    match local_path(url) {
        Some(path) => path.display().to_string(),
        None => url.as_str().to_owned(),
    }
}
