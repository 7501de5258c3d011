//! A database on an object store: `triune s3://bucket/my.db --wal object-store`.
//!
//! Opening it for writing claims it (`triune_storage::place`): the claim comes before the catalog is read, and the
//! catalog is published once under it, so that no other process changes it any more.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::object_store::ObjectStoreRegistry;
use futures::FutureExt;
use triune_common::{Error, Result};
use triune_lance::LanceStore;
use triune_object_store::{StoreRegistry, is_remote, parse_location};
use triune_storage::catalog::{CatalogStore, DOCUMENT, ObjectCatalogStore, change};
use triune_storage::place::{
    Claim, ClaimOptions, LEASE, LocalPlace, ObjectFs, ObjectPlace, RemoteOptions, Right, StoreIo, WalKind,
};
use url::Url;

use super::{DatabaseOptions, IN_MEMORY};

/// What only databases on object stores ask for.
#[derive(Debug, Clone)]
pub struct ElsewhereOptions {
    /// Where commits are logged; `None`: as before, and in a local folder for a new database.
    pub wal: Option<WalKind>,
    /// The folder for local logs and copies of files; `None`: that of the user.
    pub folder: Option<PathBuf>,
    /// Takes the database from a process that has it open for writing.
    pub take_over: bool,
    /// Opens at the last checkpoint when the local log is not on this machine; what was committed since is lost.
    pub accept_lost_wal: bool,
    /// How long a process that has gone silent keeps the database.
    pub lease: Duration,
}

impl ElsewhereOptions {
    /// Of a folder or of memory, none of this can be asked.
    fn refuse(&self) -> Result<()> {
        let wanted = [
            ("where it logs its commits", self.wal.is_some()),
            ("taking it over", self.take_over),
            ("giving up a lost log", self.accept_lost_wal),
        ];
        match wanted.iter().find(|(_, asked)| *asked) {
            Some((what, _)) => Err(Error::invalid(format!(
                "{what} is a question for databases on object stores"
            ))
            .with_hint("a database in a folder logs beside its tables, and its lock ends with its process")),
            None => Ok(()),
        }
    }
}

impl Default for ElsewhereOptions {
    fn default() -> Self {
        Self { wal: None, folder: None, take_over: false, accept_lost_wal: false, lease: LEASE }
    }
}

/// Where it is, before anything was opened.
pub(super) struct Elsewhere {
    text: String,
    url: Url,
    io: Arc<StoreIo>,
}

pub(super) struct Opened {
    pub(super) catalog: Arc<dyn CatalogStore>,
    /// `None`: a place that cannot keep tables.
    pub(super) remote: Option<RemoteOptions>,
}

impl Elsewhere {
    /// `None` for folders and memory.
    pub(super) fn of(location: Option<&str>, options: &ElsewhereOptions) -> Result<Option<Self>> {
        let Some(text) = location.filter(|l| *l != IN_MEMORY && !l.is_empty()) else {
            return options.refuse().map(|()| None);
        };
        let url = parse_location(text)?;
        if !is_remote(&url) {
            return options.refuse().map(|()| None);
        }
        if matches!(url.scheme(), "http" | "https") {
            return Err(Error::unsupported(format!(
                "a database cannot be kept at {text}, HTTP servers are read only"
            ))
            .with_hint("use a folder, or an s3://, gs:// or az:// URL"));
        }
        Ok(Some(Self { text: text.to_owned(), url, io: Arc::new(StoreIo::start()?) }))
    }

    pub(super) fn io(&self) -> &StoreIo {
        &self.io
    }

    pub(super) fn location(&self) -> String {
        self.text.clone()
    }

    /// The catalog, and what the storage of tables needs; claimed for writing unless it is to be read only.
    pub(super) async fn open(
        &self,
        stores: &Arc<StoreRegistry>,
        lance: &Arc<LanceStore>,
        options: &DatabaseOptions,
    ) -> Result<Opened> {
        let store = ObjectStoreRegistry::get_store(stores.as_ref(), &self.url)?;
        let prefix = object_store::path::Path::from_url_path(self.url.path())
            .map_err(|e| Error::invalid(format!("{} is no place for a database: {e}", self.text)))?;
        let document = prefix.clone().join(DOCUMENT);
        let catalog = ObjectCatalogStore::new(Arc::clone(&store), document, self.text.clone());
        if lance.check_scheme(&self.url).is_err() {
            return Ok(Opened { catalog: Arc::new(catalog), remote: None });
        }
        let wanted = &options.elsewhere;
        let place = ObjectPlace { store, prefix, name: self.text.clone(), io: Arc::clone(&self.io) };
        let files = Arc::new(ObjectFs::new(place.clone(), self.url.clone()));
        let local = wanted.folder.clone().map(LocalPlace::new).or_else(LocalPlace::of_user);
        let (catalog, right): (Arc<dyn CatalogStore>, _) = if options.read_only {
            (Arc::new(catalog), None)
        } else {
            let claim = ClaimOptions {
                claim: if wanted.take_over { Claim::TakeOver } else { Claim::IfFree },
                lease: wanted.lease,
                lock: local.as_ref().map(|l| l.lock(self.url.as_str())),
                ..ClaimOptions::new(Arc::clone(&options.clock))
            };
            let right = Right::claim(place.clone(), claim).boxed().await?;
            let catalog: Arc<dyn CatalogStore> = Arc::new(catalog.with_right(Arc::clone(&right)));
            // From here on nobody else changes it.
            change(&catalog, |_| Ok(())).await?;
            (catalog, Some(right))
        };
        let (wal, accept_lost_wal) = (wanted.wal, wanted.accept_lost_wal);
        let remote = RemoteOptions { place, files, right, local, wal, accept_lost_wal };
        Ok(Opened { catalog, remote: Some(remote) })
    }
}
