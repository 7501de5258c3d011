//! The base of a table: the rows that checkpoints moved out of memory, in one Lance dataset.
//!
//! ```text
//!  tables/7/
//!    base.lance            the rows; fragments are added by checkpoints and bulk loads, replaced by OPTIMIZE
//!    keys-3.keys           key → row address, for the rows of one append
//!    deletes-4.roar        rows that ended before the last checkpoint, with their times
//!
//!  BaseState (in state.json) ── open ──▶ Base ── append ──▶ Base′      shares dataset, key files, DeleteLog
//!                                          └──── rewrite ──▶ Rewritten   new fragments, new DeleteLog
//! ```
//!
//! A [`Base`] never changes, apart from its [`DeleteLog`], which the base that an append makes shares: a row
//! keeps its address, and a mark reaches the old and the new base. A snapshot that is older than a mark does
//! not see it. Lance's own deletions are not used.
//!
//! *Durability*: when [`Base::append`] or [`Base::rewrite`] returns, every file that the new state names is
//! fsynced, and so are their folders. Until that state is published, a crash leaves files that nothing names;
//! the next append drops the versions among them, VACUUM removes the files.

mod choice;
pub mod deletes;
pub mod index;
pub mod keyfile;
mod rewrite;
mod sorted;
mod vacuum;
mod write;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use triune_common::{Error, ErrorKind, Result, Rng, boxed};
use triune_lance::{BuiltIndex, LanceProvider, LanceStore};
use url::Url;

pub use choice::RewriteOptions;
pub use deletes::DeleteLog;
pub use index::{FragmentMeta, KeyFileMeta, KeyIndex, Segment, address};
pub use rewrite::{MapRows, Rewritten};
pub use write::AppendOptions;

use crate::fs::StorageFs;
use crate::key::{KeyCodec, KeyKind, KeyRef, Keys};
use crate::stamp::CommitTs;
use crate::table::TableDef;

/// The format that this build writes; a newer one is refused.
pub const FORMAT: u32 = 1;

/// What a base knows of its table and where it lies.
#[derive(Debug)]
pub struct BaseTable {
    folder: PathBuf,
    url: Url,
    schema: SchemaRef,
    codec: KeyCodec,
    cluster_by: Vec<String>,
    lance: Arc<LanceStore>,
    fs: Arc<dyn StorageFs>,
}

impl BaseTable {
    /// `folder` is the table's own (`tables/7`); it is made when the first rows come.
    pub fn new(
        folder: &Path,
        def: &TableDef,
        lance: Arc<LanceStore>,
        fs: Arc<dyn StorageFs>,
    ) -> Result<Arc<Self>> {
        let (absolute, url) = match fs.url(&folder.join("base.lance")) {
            Some(url) => (folder.to_owned(), url),
            None => {
                let absolute = std::path::absolute(folder).map_err(|e| {
                    Error::invalid(format!("the folder {} has no path: {e}", folder.display()))
                })?;
                let url = Url::from_file_path(absolute.join("base.lance"))
                    .map_err(|()| Error::invalid(format!("the folder {} has no URL", folder.display())))?;
                (absolute, url)
            }
        };
        Ok(Arc::new(Self {
            folder: absolute,
            url,
            schema: def.stored_schema(),
            codec: def.key_codec()?,
            cluster_by: def.cluster_by.clone(),
            lance,
            fs,
        }))
    }

    /// The columns of the rows, hidden ones included.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn codec(&self) -> &KeyCodec {
        &self.codec
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn lance(&self) -> &Arc<LanceStore> {
        &self.lance
    }

    fn kind(&self) -> KeyKind {
        self.codec.kind()
    }

    fn io(&self, doing: &str, path: &Path, e: &std::io::Error) -> Error {
        let kind = if crate::fs::is_no_space(e) { ErrorKind::Resources } else { ErrorKind::Unavailable };
        Error::new(kind, format!("cannot {doing} {}: {e}", path.display()))
    }
}

/// What a published state says of a table's base: names and numbers, no contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseState {
    pub format: u32,
    /// Every commit up to this one is in the base, or was deleted before.
    pub checkpoint: CommitTs,
    /// `None`: no rows were written yet.
    #[serde(default)]
    pub lance_version: Option<u64>,
    /// The checksum of that version's manifest; `None` on object stores.
    #[serde(default)]
    pub manifest_sum: Option<u64>,
    /// In the order of the dataset.
    #[serde(default)]
    pub fragments: Vec<FragmentMeta>,
    /// Oldest first.
    #[serde(default)]
    pub keys: Vec<KeyFileMeta>,
    /// The file of the rows that ended at or before `checkpoint`; `None`: none.
    #[serde(default)]
    pub deletes: Option<String>,
    /// The number of the next file in the table's folder.
    pub next_file: u64,
    /// For hashing keys that are not integers.
    pub seed: u64,
    /// By the names of definitions: what is known of indexes that were built.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub indexes: BTreeMap<String, IndexStamp>,
}

/// When and over what an index was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexStamp {
    /// Rows of the base, masked ones included, when it was last trained.
    pub trained_rows: u64,
    /// How long that took.
    pub build_millis: u64,
    /// When it was last built or extended.
    pub upkeep: chrono::DateTime<chrono::Utc>,
}

impl BaseState {
    /// The state of a table without a base.
    pub fn empty(rng: &dyn Rng) -> Self {
        let mut seed = [0; 8];
        rng.fill(&mut seed);
        Self {
            format: FORMAT,
            checkpoint: CommitTs::ZERO,
            lance_version: None,
            manifest_sum: None,
            fragments: Vec::new(),
            keys: Vec::new(),
            deletes: None,
            next_file: 1,
            seed: u64::from_le_bytes(seed),
            indexes: BTreeMap::new(),
        }
    }

    /// The state after TRUNCATE at `ts`: no rows. Old states stay readable.
    #[must_use]
    pub fn truncated(&self, ts: CommitTs) -> Self {
        Self {
            checkpoint: ts,
            lance_version: None,
            manifest_sum: None,
            fragments: Vec::new(),
            keys: Vec::new(),
            deletes: None,
            indexes: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// Names of the files in the table's folder that this state needs, the dataset's aside.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|k| k.file.as_str()).chain(self.deletes.as_deref())
    }

    /// Opens the base and checks that all of its files are there and have their sizes.
    ///
    /// Reads the manifest, the footers of the key files and the file of deletions; no data file is opened.
    /// Errors: data, naming the file that is missing or damaged.
    #[boxed]
    pub async fn open(self, table: &Arc<BaseTable>) -> Result<Arc<Base>> {
        if self.format > FORMAT {
            return Err(Error::unsupported(format!(
                "the table in {} has base format {}, this build reads up to {FORMAT}",
                table.folder.display(),
                self.format
            ))
            .with_hint("open it with a newer triune"));
        }
        let provider = match self.lance_version {
            Some(version) => {
                let provider = table.lance.open_number(&table.url, version, self.manifest_sum).await?;
                table.lance.check_files(&table.url, &provider).await?;
                Some(provider)
            }
            None => None,
        };
        let deletes = match &self.deletes {
            Some(name) => {
                let path = table.folder.join(name);
                let bytes = table.fs.read(&path).map_err(|e| match e.kind() {
                    std::io::ErrorKind::NotFound => {
                        Error::data(format!("the file of deleted rows {} is missing", path.display()))
                            .with_hint("restore the file from a backup")
                    }
                    _ => table.io("read", &path, &e),
                })?;
                DeleteLog::decode(&bytes, &path.display().to_string())?
            }
            None => DeleteLog::new(),
        };
        Base::assemble(table, self, provider, Arc::new(deletes), None)
    }
}

/// The base of a table at one version. See the module.
#[derive(Debug)]
pub struct Base {
    table: Arc<BaseTable>,
    state: BaseState,
    provider: Option<Arc<LanceProvider>>,
    keys: KeyIndex,
    deletes: Arc<DeleteLog>,
    /// The provider for the mask that was asked for last.
    masked: Mutex<Option<Masked>>,
}

type Masked = (Arc<RoaringTreemap>, Arc<LanceProvider>);

impl Base {
    /// A base without rows.
    pub fn empty(table: &Arc<BaseTable>, state: BaseState) -> Result<Arc<Self>> {
        Self::assemble(table, state, None, Arc::new(DeleteLog::new()), None)
    }

    fn assemble(
        table: &Arc<BaseTable>,
        state: BaseState,
        provider: Option<Arc<LanceProvider>>,
        deletes: Arc<DeleteLog>,
        known: Option<&KeyIndex>,
    ) -> Result<Arc<Self>> {
        if let Some(provider) = &provider {
            let found: Vec<(u64, u64)> = provider.fragments();
            let said = state.fragments.iter().map(|f| (u64::from(f.id), u64::from(f.rows)));
            if !said.eq(found.iter().copied()) {
                return Err(Error::data(format!(
                    "version {} of {} does not hold the fragments that the published state names",
                    provider.version(),
                    provider.uri()
                ))
                .with_hint("restore the folder from a backup"));
            }
        }
        let provider = provider.map(|p| p.with_cache(Some(table.lance.columns())));
        let keys = KeyIndex::open(
            table.fs.as_ref(),
            &table.folder,
            table.kind(),
            state.seed,
            &state.fragments,
            &state.keys,
            known,
        )?;
        let table = Arc::clone(table);
        Ok(Arc::new(Self { table, state, provider, keys, deletes, masked: Mutex::new(None) }))
    }

    pub fn table(&self) -> &Arc<BaseTable> {
        &self.table
    }

    /// What to publish for this base.
    pub fn state(&self) -> &BaseState {
        &self.state
    }

    pub fn checkpoint(&self) -> CommitTs {
        self.state.checkpoint
    }

    pub fn deletes(&self) -> &Arc<DeleteLog> {
        &self.deletes
    }

    pub fn keys(&self) -> &KeyIndex {
        &self.keys
    }

    /// The dataset with all of its rows, masked ones included; `None` for a base without rows.
    pub fn unmasked(&self) -> Option<&Arc<LanceProvider>> {
        self.provider.as_ref()
    }

    /// The dataset as `snapshot` sees it, to be scanned and searched; `None` for a base without rows.
    pub fn provider(&self, snapshot: CommitTs) -> Result<Option<Arc<LanceProvider>>> {
        let Some(provider) = &self.provider else { return Ok(None) };
        let mask = self.deletes.mask(snapshot);
        if mask.is_empty() {
            return Ok(Some(Arc::clone(provider)));
        }
        let mut last = self.masked.lock();
        if let Some((known, masked)) = last.as_ref()
            && Arc::ptr_eq(known, &mask)
        {
            return Ok(Some(Arc::clone(masked)));
        }
        let masked = provider.with_mask(Arc::clone(&mask))?;
        *last = Some((mask, Arc::clone(&masked)));
        Ok(Some(masked))
    }

    /// The same rows with other indexes: see `LanceStore::publish_indexes`. Durable on return, not published.
    ///
    /// Nobody may append to this base meanwhile.
    #[boxed]
    pub async fn with_indexes(
        &self,
        built: Vec<BuiltIndex>,
        dropped: &[String],
        renamed: &[(String, String)],
        stamps: BTreeMap<String, IndexStamp>,
    ) -> Result<Arc<Self>> {
        let mut state = self.state.clone();
        state.indexes = stamps;
        let mut provider = self.provider.clone();
        if let Some(at) = &self.provider {
            let (lance, url) = (&self.table.lance, &self.table.url);
            if let Some(commit) = lance.publish_indexes(url, at, built, dropped, renamed).await? {
                state.lance_version = Some(commit.provider.version());
                state.manifest_sum = commit.manifest_sum;
                provider = Some(commit.provider);
            }
        }
        Self::assemble(&self.table, state, provider, Arc::clone(&self.deletes), Some(&self.keys))
    }

    /// Rows in the files, masked ones included.
    pub fn rows(&self) -> u64 {
        self.state.fragments.iter().map(|f| u64::from(f.rows)).sum()
    }

    /// Row addresses that are not visible at `snapshot`; may hold addresses of other bases of the table.
    pub fn mask(&self, snapshot: CommitTs) -> Arc<RoaringTreemap> {
        self.deletes.mask(snapshot)
    }

    /// The address of the row with this key that has not ended, if there is one.
    pub fn find(&self, key: KeyRef<'_>) -> Option<u64> {
        self.find_by(key, |a| self.deletes.ended(a).is_none())
    }

    /// The address of the row with this key that is visible at `snapshot`.
    pub fn find_at(&self, key: KeyRef<'_>, snapshot: CommitTs) -> Option<u64> {
        self.find_by(key, |a| self.deletes.is_visible(a, snapshot))
    }

    fn find_by(&self, key: KeyRef<'_>, visible: impl Fn(u64) -> bool) -> Option<u64> {
        let mut found = None;
        self.keys.probe(key, |address| {
            if visible(address) {
                found = Some(address);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        found
    }

    /// [`find`](Self::find) for each key; many keys are sorted and merged with the key files.
    pub fn find_many(&self, keys: &Keys) -> Vec<Option<u64>> {
        self.find_many_by(keys, |a| self.deletes.ended(a).is_none())
    }

    /// [`find_at`](Self::find_at) for each key.
    pub fn find_many_at(&self, keys: &Keys, snapshot: CommitTs) -> Vec<Option<u64>> {
        self.find_many_by(keys, |a| self.deletes.is_visible(a, snapshot))
    }

    fn find_many_by(&self, keys: &Keys, visible: impl Fn(u64) -> bool) -> Vec<Option<u64>> {
        let mut out = vec![None; keys.len()];
        self.keys.probe_many(keys, |i, address| {
            if out[i].is_none() && visible(address) {
                out[i] = Some(address);
            }
            ControlFlow::Continue(())
        });
        out
    }

    /// The place in `keys` of one whose row has not ended: the first that is met, for checking a bulk load.
    pub fn intersects(&self, keys: &Keys) -> Option<usize> {
        let mut found = None;
        self.keys.probe_many(keys, |i, address| {
            if self.deletes.ended(address).is_some() {
                return ControlFlow::Continue(());
            }
            found = Some(i);
            ControlFlow::Break(())
        });
        found
    }

    /// The rows at these addresses in this order, whether masked or not; an address may be asked for twice.
    /// `projection` counts columns of the stored schema.
    ///
    /// Errors: data if an address is of no row.
    #[boxed]
    pub async fn fetch(&self, addresses: &[u64], projection: &[usize]) -> Result<RecordBatch> {
        let schema = Arc::new(self.table.schema.project(projection)?);
        if addresses.is_empty() {
            return Ok(RecordBatch::new_empty(schema));
        }
        let Some(provider) = &self.provider else {
            return Err(Error::internal("rows of a base that has none were asked for"));
        };
        provider.take(addresses, projection).await
    }
}

#[cfg(test)]
mod tests;
