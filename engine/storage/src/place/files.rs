//! The objects of a database as files.
//!
//! ```text
//!  ObjectFs ── state.json                 a conditional PUT over the one that this writer published last
//!           ├─ keys-*.keys, deletes-*.roar read once, kept in a local folder, mapped from there
//!           └─ others                      a PUT, a GET
//! ```
//!
//! A PUT is durable when it is answered; syncs do nothing. What nobody answers is tried again: names are never given
//! twice, so that a PUT may be repeated. For `state.json` the object that is found tells whether a try arrived; when
//! nobody answers at all, nobody knows, and the writer's right is lost.
//!
//! Memory: a file that is being written is held as a whole, and one that is read where there is no local folder
//! (16 bytes a key, up to 16 Mi keys a file); in a local folder it is mapped.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as ObjectPath;
use object_store::{
    Error as StoreError, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    UpdateVersion, WriteMultipart,
};
use parking_lot::{Mutex, RwLock};
use triune_common::{Error, ErrorKind, Result};
use url::Url;

use super::log::{ATTEMPTS, FIRST_PAUSE, again, is_silence};
use super::{ObjectPlace, Right, fenced};
use crate::fs::{LogFile, MappedBytes, RealFs, StorageFs};

/// The state's name in the database's folder.
pub(crate) const STATE: &str = "state.json";

/// Objects that are larger are sent in parts.
const PART: usize = 16 << 20;

/// Parts that are under way at the same time, and objects that are removed at the same time.
const PARALLEL: usize = 8;

/// See the module's description.
#[derive(Debug)]
pub struct ObjectFs {
    place: ObjectPlace,
    /// What paths of this file system begin with: the URL as it was given.
    root: PathBuf,
    url: Url,
    right: RwLock<Option<Arc<Right>>>,
    cache: RwLock<Option<PathBuf>>,
    /// The state that this writer published last, or found when it began.
    published: Mutex<Option<UpdateVersion>>,
}

impl ObjectFs {
    /// `url` is that of the database's folder.
    pub fn new(place: ObjectPlace, url: Url) -> Self {
        let text = url.as_str();
        let text = text.split(['?', '#']).next().unwrap_or(text).trim_end_matches('/');
        let root = PathBuf::from(text);
        Self {
            place,
            root,
            url,
            right: RwLock::default(),
            cache: RwLock::default(),
            published: Mutex::default(),
        }
    }

    /// What the database's folder is called here.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// From now on changes need this right.
    pub(crate) fn hold(&self, right: Arc<Right>) {
        *self.right.write() = Some(right);
    }

    /// Where copies of key files are kept.
    pub(crate) fn keep_in(&self, folder: PathBuf) {
        *self.cache.write() = Some(folder);
    }

    /// Nothing is changed without the right to, and nothing when another writer may be at work.
    fn check(&self) -> io::Result<()> {
        match &*self.right.read() {
            Some(right) => right.check_lease().map_err(io::Error::other),
            None => Err(io::Error::new(io::ErrorKind::PermissionDenied, "the database is open for reading")),
        }
    }

    fn object(&self, path: &Path) -> io::Result<ObjectPath> {
        let rest = path.strip_prefix(&self.root).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("it is not in {}", self.root.display()))
        })?;
        let mut object = self.place.prefix.clone();
        for part in rest.components() {
            let part = part.as_os_str().to_str().ok_or(io::ErrorKind::InvalidInput)?;
            object = object.join(part);
        }
        Ok(object)
    }

    fn wait<T: Send + 'static>(
        &self,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        self.place.io.wait(request)?.map_err(to_io)
    }

    fn get(&self, object: ObjectPath) -> io::Result<Bytes> {
        let store = Arc::clone(&self.place.store);
        self.wait(async move { again(|| async { store.get(&object).await?.bytes().await }).await })
    }

    fn put(&self, object: ObjectPath, bytes: Bytes) -> io::Result<()> {
        self.check()?;
        let store = Arc::clone(&self.place.store);
        self.wait(async move { again(|| put_whole(&store, &object, bytes.clone())).await })
    }

    /// The published state, which the next publication of this writer is to replace.
    pub(crate) fn adopt_state(&self) -> io::Result<Option<Bytes>> {
        let object = self.object(&self.root.join(STATE))?;
        let store = Arc::clone(&self.place.store);
        let found = self.wait(async move {
            let read = || async {
                let got = store.get(&object).await?;
                let version =
                    UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
                Ok((version, got.bytes().await?))
            };
            match again(read).await {
                Ok(found) => Ok(Some(found)),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(e) => Err(e),
            }
        })?;
        let (version, bytes) = found.unzip();
        *self.published.lock() = version;
        Ok(bytes)
    }

    /// Replaces the state that this writer has published or adopted last; `false` when there is another one.
    ///
    /// Errors: nobody knows whether it arrived, or it is certain that it did not. In the first case the right is lost.
    pub(crate) fn replace_state(&self, bytes: &[u8]) -> io::Result<bool> {
        let Some(right) = self.right.read().clone() else {
            return self.check().map(|()| false);
        };
        right.check().map_err(io::Error::other)?;
        let object = self.object(&self.root.join(STATE))?;
        let mut published = self.published.lock();
        let (place, before, bytes) = (self.place.clone(), published.clone(), Bytes::copy_from_slice(bytes));
        match self.place.io.wait(async move { replace(&place, &object, before, bytes).await })? {
            Replaced::Done(version) => {
                *published = Some(version);
                Ok(true)
            }
            Replaced::Other => Ok(false),
            Replaced::Refused(e) => Err(to_io(e)),
            Replaced::Unknown(e) => {
                let e = Error::new(
                    ErrorKind::Unavailable,
                    format!(
                        "cannot write {STATE} of the database at {}: {e}; nobody knows whether it arrived",
                        self.place.name
                    ),
                )
                .with_hint("nothing more is written until the database is opened again");
                right.lose(e.copy());
                Err(io::Error::other(e))
            }
        }
    }

    /// A copy of a file that never changes, in the local folder.
    fn cached(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let Some(folder) = self.cache.read().clone() else { return Ok(None) };
        let rest = path.strip_prefix(&self.root).map_err(|_| io::ErrorKind::InvalidInput)?;
        let name = rest.to_str().ok_or(io::ErrorKind::InvalidInput)?.replace('/', "-");
        Ok(Some(folder.join(name)))
    }

    /// Puts a copy beside those that are there. A cache that cannot be written is none.
    fn keep(&self, copy: &Path, bytes: &[u8]) -> bool {
        let Some(folder) = copy.parent() else { return false };
        let made = RealFs.create_dir_all(folder);
        made.and_then(|()| RealFs.write_atomic(copy, bytes)).is_ok()
    }
}

impl StorageFs for ObjectFs {
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        self.check()?;
        Ok(Box::new(ObjectFile {
            place: self.place.clone(),
            object: self.object(path)?,
            copy: self.cached(path)?,
            bytes: Vec::new(),
            right: self.right.read().clone(),
        }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.get(self.object(path)?)?.into())
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        if offset >= self.len(path)? || len == 0 {
            return Ok(Vec::new());
        }
        let (store, object) = (Arc::clone(&self.place.store), self.object(path)?);
        let range = offset..offset.saturating_add(len as u64);
        let bytes = self.wait(async move {
            let read = || async {
                let range = Some(GetRange::Bounded(range.clone()));
                store.get_opts(&object, GetOptions { range, ..GetOptions::default() }).await?.bytes().await
            };
            again(read).await
        })?;
        Ok(bytes.into())
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let (store, object) = (Arc::clone(&self.place.store), self.object(path)?);
        Ok(self.wait(async move { again(|| store.head(&object)).await })?.size)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let (store, object) = (Arc::clone(&self.place.store), self.object(path)?);
        self.wait(async move {
            match again(|| store.head(&object)).await {
                Ok(_) => Ok(true),
                // A folder is there when something is in it.
                Err(StoreError::NotFound { .. }) => {
                    again(|| async { Ok(store.list(Some(&object)).try_next().await?.is_some()) }).await
                }
                Err(e) => Err(e),
            }
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let (store, object) = (Arc::clone(&self.place.store), self.object(dir)?);
        let listed = self.wait(async move { again(|| store.list_with_delimiter(Some(&object))).await })?;
        let files = listed.objects.into_iter().map(|o| o.location);
        let mut names: Vec<String> =
            files.chain(listed.common_prefixes).filter_map(|p| p.filename().map(str::to_owned)).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "an object store renames nothing"))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        if let Some(copy) = self.cached(path)? {
            // What stays takes space only.
            drop(RealFs.remove(&copy));
        }
        let (store, object) = (Arc::clone(&self.place.store), self.object(path)?);
        self.wait(async move {
            match again(|| store.delete(&object)).await {
                Err(StoreError::NotFound { .. }) => Ok(()),
                done => done,
            }
        })
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.check()?;
        let (place, object) = (self.place.clone(), self.object(dir)?);
        self.wait(async move {
            let store = &place.store;
            let objects: Vec<_> =
                again(|| async { store.list(Some(&object)).try_collect::<Vec<_>>().await }).await?;
            futures::stream::iter(objects)
                .map(|o| async move {
                    match again(|| store.delete(&o.location)).await {
                        Err(StoreError::NotFound { .. }) => Ok(()),
                        done => done,
                    }
                })
                .buffer_unordered(PARALLEL)
                .try_collect::<Vec<()>>()
                .await
                .map(drop)
        })
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_file(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, path: &Path) -> io::Result<MappedBytes> {
        let copy = self.cached(path)?;
        if let Some(copy) = &copy
            && let Ok(mapped) = RealFs.map(copy)
        {
            return Ok(mapped);
        }
        let bytes = self.get(self.object(path)?)?;
        if let Some(copy) = &copy
            && self.keep(copy, &bytes)
            && let Ok(mapped) = RealFs.map(copy)
        {
            return Ok(mapped);
        }
        Ok(Arc::new(bytes))
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if path != self.root.join(STATE) {
            return self.put(self.object(path)?, Bytes::copy_from_slice(bytes));
        }
        if self.replace_state(bytes)? {
            return Ok(());
        }
        let place = self.place.clone();
        let e = self.place.io.wait(async move { fenced(&place).await })?;
        if let Some(right) = &*self.right.read() {
            right.lose(e.copy());
        }
        Err(io::Error::other(e))
    }

    fn url(&self, path: &Path) -> Option<Url> {
        let rest = path.strip_prefix(&self.root).ok()?;
        let mut url = self.url.clone();
        url.path_segments_mut().ok()?.pop_if_empty().extend(rest.iter().filter_map(|p| p.to_str()));
        Some(url)
    }

    fn confirm(&self) -> io::Result<()> {
        let Some(right) = self.right.read().clone() else { return self.check() };
        right.check_lease().map_err(io::Error::other)?;
        self.place.io.wait(async move { right.verify().await })?.map_err(io::Error::other)
    }
}

/// What became of a state that was to be published.
enum Replaced {
    Done(UpdateVersion),
    /// There is another one than that which was to be replaced.
    Other,
    /// It did not arrive.
    Refused(StoreError),
    Unknown(StoreError),
}

async fn replace(
    place: &ObjectPlace,
    object: &ObjectPath,
    before: Option<UpdateVersion>,
    bytes: Bytes,
) -> Replaced {
    let mode = || before.clone().map_or(PutMode::Create, PutMode::Update);
    let mut pause = FIRST_PAUSE;
    let mut tries = 1;
    loop {
        let options = PutOptions { mode: mode(), ..PutOptions::default() };
        let error = match place.store.put_opts(object, bytes.clone().into(), options).await {
            Ok(done) => {
                return Replaced::Done(UpdateVersion { e_tag: done.e_tag, version: done.version });
            }
            Err(e @ (StoreError::Precondition { .. } | StoreError::AlreadyExists { .. })) => {
                let read = || async {
                    let got = place.store.get(object).await?;
                    let meta = got.meta.clone();
                    Ok((meta, got.bytes().await?))
                };
                match again(read).await {
                    // An earlier try arrived after all: states of two writers differ in their epochs.
                    Ok((meta, there)) if there == bytes => {
                        return Replaced::Done(UpdateVersion { e_tag: meta.e_tag, version: meta.version });
                    }
                    Ok(_) => return Replaced::Other,
                    Err(_) => return Replaced::Unknown(e),
                }
            }
            Err(e) => e,
        };
        if !is_silence(&error) {
            // An earlier try that was not answered may still arrive.
            return if tries == 1 { Replaced::Refused(error) } else { Replaced::Unknown(error) };
        }
        if tries == ATTEMPTS {
            return Replaced::Unknown(error);
        }
        tries += 1;
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

async fn put_whole(
    store: &Arc<dyn ObjectStore>,
    object: &ObjectPath,
    bytes: Bytes,
) -> object_store::Result<()> {
    if bytes.len() <= PART {
        return store.put(object, PutPayload::from(bytes)).await.map(drop);
    }
    let upload = store.put_multipart(object).await?;
    let mut write = WriteMultipart::new_with_chunk_size(upload, PART);
    let mut rest = bytes;
    while !rest.is_empty() {
        write.wait_for_capacity(PARALLEL).await?;
        let part = rest.split_to(rest.len().min(PART));
        write.put(part);
    }
    write.finish().await.map(drop)
}

/// A file that becomes an object when it is synced.
#[derive(Debug)]
struct ObjectFile {
    place: ObjectPlace,
    object: ObjectPath,
    copy: Option<PathBuf>,
    bytes: Vec<u8>,
    right: Option<Arc<Right>>,
}

impl LogFile for ObjectFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let there = self.bytes.get_mut(start..start.saturating_add(bytes.len()));
        there.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(bytes);
        Ok(())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        if let Some(right) = &self.right {
            right.check_lease().map_err(io::Error::other)?;
        }
        let (store, object) = (Arc::clone(&self.place.store), self.object.clone());
        let bytes = Bytes::copy_from_slice(&self.bytes);
        let put = async move { again(|| put_whole(&store, &object, bytes.clone())).await };
        self.place.io.wait(put)?.map_err(to_io)?;
        if let Some(copy) = &self.copy
            && let Some(folder) = copy.parent()
        {
            // Nobody has to read it again from afar; where that fails somebody will.
            let made = RealFs.create_dir_all(folder);
            drop(made.and_then(|()| RealFs.write_atomic(copy, &self.bytes)));
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.bytes.resize(usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?, 0);
        Ok(())
    }

    fn reserve(&mut self, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn end(&self) -> u64 {
        self.bytes.len() as u64
    }
}

fn to_io(e: StoreError) -> io::Error {
    let kind = match &e {
        StoreError::NotFound { .. } => io::ErrorKind::NotFound,
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            io::ErrorKind::PermissionDenied
        }
        StoreError::NotSupported { .. } | StoreError::NotImplemented { .. } => io::ErrorKind::Unsupported,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, e)
}

impl ObjectFs {
    /// Forgets copies of files that no state names.
    pub(crate) fn forget_copies(&self, needed: &std::collections::HashSet<PathBuf>) -> Result<()> {
        let Some(folder) = self.cache.read().clone() else { return Ok(()) };
        let keep: std::collections::HashSet<PathBuf> =
            needed.iter().filter_map(|p| self.cached(p).ok().flatten()).collect();
        for name in RealFs.list(&folder).unwrap_or_default() {
            let path = folder.join(name);
            if !keep.contains(&path) {
                // A process that has it mapped keeps its bytes.
                drop(RealFs.remove(&path));
            }
        }
        Ok(())
    }
}
