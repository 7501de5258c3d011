//! The catalog of a database on an object store: one object, replaced by conditional PUTs.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use triune_common::{Error, ErrorKind, Result};

use super::{Catalog, CatalogStore};
use crate::place::Right;

/// Keeps the catalog as one object; its ETag stands for the version that was read.
#[derive(Debug)]
pub struct ObjectCatalogStore {
    store: Arc<dyn ObjectStore>,
    path: Path,
    place: String,
    /// What the last [`CatalogStore::load`] saw: catalog version and the object's own version.
    seen: Mutex<Option<(u64, Option<UpdateVersion>)>>,
    /// The writer's; its epoch goes into every document.
    right: Option<Arc<Right>>,
}

impl ObjectCatalogStore {
    /// `path` is the object that holds the document, `place` the database's URL for messages.
    pub fn new(store: Arc<dyn ObjectStore>, path: Path, place: String) -> Self {
        Self { store, path, place, seen: Mutex::new(None), right: None }
    }

    /// Publishes with this right only: not any more when a newer writer has published.
    #[must_use]
    pub fn with_right(self, right: Arc<Right>) -> Self {
        Self { right: Some(right), ..self }
    }

    /// Whether the published document is, letter by letter, the one that was to be published.
    async fn is_published(&self, document: &[u8]) -> bool {
        let read = || async { self.store.get(&self.path).await?.bytes().await };
        crate::place::again(read).await.is_ok_and(|there| there == document)
    }

    fn remember(&self, version: u64, update: Option<UpdateVersion>) -> Result<()> {
        *self.seen.lock().map_err(|_| Error::internal("the catalog's lock is poisoned"))? =
            Some((version, update));
        Ok(())
    }

    fn error(&self, doing: &str, e: object_store::Error) -> Error {
        let kind = match &e {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                ErrorKind::Permission
            }
            object_store::Error::NotFound { .. } => ErrorKind::NotFound,
            object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
                ErrorKind::Unsupported
            }
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, format!("cannot {doing} the catalog of {}: {e}", self.place)).with_source(e)
    }
}

#[async_trait]
impl CatalogStore for ObjectCatalogStore {
    fn place(&self) -> String {
        self.place.clone()
    }

    async fn load(&self) -> Result<Catalog> {
        let got = match self.store.get(&self.path).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => {
                self.remember(0, None)?;
                return Ok(Catalog::empty());
            }
            Err(e) => return Err(self.error("read", e)),
        };
        let update = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        let bytes = got.bytes().await.map_err(|e| self.error("read", e))?;
        let catalog = Catalog::from_json(&bytes, &self.place)?;
        self.remember(catalog.version, Some(update))?;
        Ok(catalog)
    }

    async fn publish(&self, next: &Catalog) -> Result<bool> {
        let seen = self.seen.lock().map_err(|_| Error::internal("the catalog's lock is poisoned"))?.clone();
        let mode = match seen {
            Some((version, _)) if version + 1 != next.version => return Ok(false),
            Some((_, Some(update))) => PutMode::Update(update),
            Some((_, None)) => PutMode::Create,
            None => return Err(Error::internal("a catalog is published before it was loaded")),
        };
        let mut next = next.clone();
        if let Some(right) = &self.right {
            right.check()?;
            if next.epoch > right.epoch() {
                right.verify().await?;
            }
            next.epoch = right.epoch();
        }
        let document = next.to_json()?;
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.store.put_opts(&self.path, document.clone().into(), options).await {
            Ok(_) => Ok(true),
            // A try of the store's client that was not answered may have arrived.
            Err(object_store::Error::Precondition { .. } | object_store::Error::AlreadyExists { .. }) => {
                Ok(self.is_published(&document).await)
            }
            Err(_) if self.is_published(&document).await => Ok(true),
            Err(e) => Err(self.error("write", e)),
        }
    }
}
