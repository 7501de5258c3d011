//! A database: a folder, a URL, or memory.
//!
//! ```text
//!  Database ─ catalog (folder, object store or memory) · secrets · object stores · Lance caches · limits
//!     └─ Session … Session     each with its own settings, temporary tables and prepared statements
//! ```
//!
//! Opening reads one small document; tables are opened when they are used.

use std::sync::Arc;

use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use futures::FutureExt;
use parking_lot::RwLock;
use triune_common::{
    Clock, Error, ErrorKind, IdGen, RandomIdGen, Result, Rng, SystemClock, SystemRng, boxed,
};
use triune_lance::{LanceCaches, LanceOptions, LanceStore};
use triune_object_store::{
    Environment, Redacted, SecretKind, SecretSpec, StoreLimits, StoreRegistry, is_remote, parse_location,
};
use triune_storage::catalog::{
    Catalog, CatalogStore, FolderCatalogStore, MemoryCatalogStore, SecretEntry, change,
};
use triune_storage::fs::RealFs;
use triune_storage::place::RemoteOptions;
use triune_storage::seal::Sealer;
use triune_storage::store::{Limits, Store, StoreOptions};
use triune_storage::table::TableDef;
use url::Url;

use crate::cpu::CpuPool;
use crate::models::Models;
use crate::queries::Queries;
use crate::session::Session;

mod remote;

use remote::Elsewhere;
pub use remote::ElsewhereOptions;

/// The name of a database that lives in memory only.
pub const IN_MEMORY: &str = ":memory:";

/// How many consumers a "not enough memory" message lists.
const NAMED_CONSUMERS: std::num::NonZeroUsize = std::num::NonZeroUsize::MIN.saturating_add(2);

/// What a database may use, and where its time, randomness and ids come from.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// Bytes that all running statements together may hold; `None`: 70 % of the machine's memory.
    pub memory_limit: Option<usize>,
    /// Bytes of temporary files that they may write; `None`: DataFusion's default of 100 GB.
    pub temp_limit: Option<u64>,
    pub store_limits: StoreLimits,
    /// Where credentials come from when no secret covers a URL; `None`: the process's variables.
    pub environment: Option<Environment>,
    /// Reads a folder as it is, next to a process that may be writing it; nothing can be changed.
    pub read_only: bool,
    /// For databases on object stores.
    pub elsewhere: ElsewhereOptions,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub ids: Arc<dyn IdGen>,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            memory_limit: None,
            temp_limit: None,
            store_limits: StoreLimits::default(),
            environment: None,
            read_only: false,
            elsewhere: ElsewhereOptions::default(),
            clock: Arc::new(SystemClock::new()),
            rng: Arc::new(SystemRng::new()),
            ids: Arc::new(RandomIdGen::default()),
        }
    }
}

/// An open database; share it behind an `Arc`.
#[derive(Debug)]
pub struct Database {
    location: String,
    catalog_store: Arc<dyn CatalogStore>,
    catalog: RwLock<Arc<Catalog>>,
    stores: Arc<StoreRegistry>,
    lance: Arc<LanceStore>,
    runtime: Arc<RuntimeEnv>,
    /// The rows of tables.
    store: Arc<Store>,
    /// Where queries compute.
    cpu: Arc<CpuPool>,
    models: Models,
    queries: Arc<Queries>,
    options: DatabaseOptions,
}

/// Lance asks for its options by URL; the registry answers from secrets and environment.
#[derive(Debug)]
struct RegistryOptions(Arc<StoreRegistry>);

impl LanceOptions for RegistryOptions {
    fn lance_options(&self, url: &Url) -> Result<std::collections::HashMap<String, String>> {
        self.0.lance_options(url)
    }
}

impl Database {
    /// Opens a folder (made if it does not exist), a URL, or memory (`None` and `:memory:`).
    #[boxed]
    pub async fn open(location: Option<&str>) -> Result<Arc<Self>> {
        Self::open_with(location, DatabaseOptions::default()).await
    }

    /// The same with limits and sources of one's own.
    #[boxed]
    pub async fn open_with(location: Option<&str>, options: DatabaseOptions) -> Result<Arc<Self>> {
        let elsewhere = Elsewhere::of(location, &options.elsewhere)?;
        // Whoever blocks until a file is there must not hold up the thread that receives it.
        let io = match &elsewhere {
            Some(elsewhere) => Some(elsewhere.io().handle().clone()),
            None => tokio::runtime::Handle::try_current().ok(),
        };
        let stores = {
            let environment = options.environment.clone().unwrap_or_else(Environment::of_process);
            StoreRegistry::with_settings(io, options.store_limits, environment)
        };
        if options.read_only {
            check_exists(location)?;
        }
        let lance = LanceStore::new(LanceCaches::default(), Arc::new(RegistryOptions(Arc::clone(&stores))));
        let (location, catalog_store, remote) = match elsewhere {
            Some(elsewhere) => {
                let opened = elsewhere.open(&stores, &lance, &options).boxed().await?;
                (elsewhere.location(), opened.catalog, opened.remote)
            }
            None => {
                let (location, catalog) = open_catalog(location)?;
                (location, catalog, None)
            }
        };
        let catalog = Arc::new(catalog_store.load().await?);
        if remote.is_some() && options.read_only && catalog.version == 0 {
            return Err(Error::not_found(format!("there is no database at {location}"))
                .with_hint("without --readonly it would be made"));
        }
        let runtime = build_runtime(&options, &stores)?;
        // Boxed: the futures below this are nested deeper than the compiler follows from a caller's.
        let store = open_store(&location, &catalog, &lance, remote, &options).boxed().await?;
        store.charge(Arc::clone(&runtime.memory_pool));
        let database = Self {
            location,
            catalog_store,
            catalog: RwLock::new(catalog),
            stores,
            lance,
            runtime,
            store,
            cpu: Arc::default(),
            models: Models::default(),
            queries: Arc::new(Queries::new(Arc::clone(&options.clock))),
            options,
        };
        database.load_secrets()?;
        database.adopt_definitions().boxed().await?;
        Ok(Arc::new(database))
    }

    /// As it was given: a path, a URL or `:memory:`.
    pub fn location(&self) -> &str {
        &self.location
    }

    pub fn is_in_memory(&self) -> bool {
        self.location == IN_MEMORY
    }

    /// Where time comes from.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.options.clock
    }

    /// The statements that run and ran.
    pub fn queries(&self) -> &Arc<Queries> {
        &self.queries
    }

    pub fn session(self: &Arc<Self>) -> Session {
        Session::new(Arc::clone(self))
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read())
    }

    pub(crate) fn lance(&self) -> &Arc<LanceStore> {
        &self.lance
    }

    /// A change of a table's definition reaches the storage before the catalog; after a crash between the two
    /// the catalog follows here.
    async fn adopt_definitions(&self) -> Result<()> {
        let newer = |def: &TableDef| self.store.definition(def.id).filter(|d| d.is_newer_than(def));
        if self.options.read_only || !self.catalog().tables().any(|d| newer(d).is_some()) {
            return Ok(());
        }
        self.change_catalog(|catalog| {
            let relations = catalog.schemas.values_mut().flat_map(|s| s.relations.values_mut());
            for def in relations.filter_map(|r| r.table.as_mut()) {
                if let Some(newer) = newer(def) {
                    *def = newer.as_ref().clone();
                }
            }
            Ok(())
        })
        .await
    }

    /// The tables that the database keeps.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(crate) fn cpu(&self) -> &Arc<CpuPool> {
        &self.cpu
    }

    pub(crate) fn models(&self) -> &Models {
        &self.models
    }

    pub(crate) fn stores(&self) -> &Arc<StoreRegistry> {
        &self.stores
    }

    pub(crate) fn runtime(&self) -> &Arc<RuntimeEnv> {
        &self.runtime
    }

    pub(crate) fn options(&self) -> &DatabaseOptions {
        &self.options
    }

    /// Changes and publishes the catalog; when this returns, the change is durable.
    pub(crate) async fn change_catalog(&self, edit: impl FnMut(&mut Catalog) -> Result<()>) -> Result<()> {
        if self.options.read_only {
            return Err(Error::new(ErrorKind::Permission, "the database is open read-only")
                .with_hint("open it without --readonly to write"));
        }
        let published = change(&self.catalog_store, edit).await?;
        let mut current = self.catalog.write();
        // Two changes may return in another order than they were published.
        if published.version > current.version {
            *current = Arc::new(published);
        }
        Ok(())
    }

    /// Ends writing: see [`Store::close`]. A database in an object store can then be opened on any machine at once.
    #[boxed]
    pub async fn close(&self) -> Result<()> {
        self.store.close().boxed().await
    }

    /// Reads the catalog again, for changes that other processes have published, and where the database is open
    /// read-only what they have committed.
    #[boxed]
    pub async fn refresh(&self) -> Result<()> {
        self.refresh_catalog().await?;
        let definitions: Vec<TableDef> = self.catalog().tables().cloned().collect();
        self.store.refresh(&definitions).boxed().await
    }

    async fn refresh_catalog(&self) -> Result<()> {
        let loaded = self.catalog_store.load().await?;
        let newer = loaded.version > self.catalog.read().version;
        if newer {
            *self.catalog.write() = Arc::new(loaded);
            self.load_secrets()?;
        }
        Ok(())
    }

    /// Gives the object stores what the catalog's secrets hold. A secret that cannot be opened stays
    /// closed: what needs it will fail with the store's "permission denied", what does not goes on.
    fn load_secrets(&self) -> Result<()> {
        let catalog = self.catalog();
        if catalog.secrets.is_empty() {
            return Ok(());
        }
        let Some(sealer) = Sealer::of_user(self.options.rng.as_ref(), false)? else { return Ok(()) };
        for (name, entry) in &catalog.secrets {
            if let Ok(spec) = open_secret(&sealer, name, entry) {
                self.stores.put_secret(spec);
            }
        }
        Ok(())
    }

    pub(crate) fn seal_secret(&self, spec: &SecretSpec) -> Result<SecretEntry> {
        let options: std::collections::BTreeMap<&str, &str> =
            spec.options.iter().map(|(k, v)| (k.as_str(), v.expose().as_str())).collect();
        let plain = serde_json::to_vec(&options)
            .map_err(|e| Error::internal(format!("the options of a secret cannot be written: {e}")))?;
        let rng = self.options.rng.as_ref();
        let sealer = Sealer::of_user(rng, true)?.ok_or_else(|| Error::internal("there is no secret key"))?;
        Ok(SecretEntry {
            kind: spec.kind.name().to_owned(),
            scope: spec.scope.clone(),
            sealed: sealer.seal(&spec.name, &plain, rng)?,
            created_at: self.options.clock.now(),
        })
    }
}

fn open_secret(sealer: &Sealer, name: &str, entry: &SecretEntry) -> Result<SecretSpec> {
    let plain = sealer.open(name, &entry.sealed)?;
    let options: std::collections::BTreeMap<String, String> = serde_json::from_slice(&plain)
        .map_err(|e| Error::data(format!("the secret \"{name}\" holds no options: {e}")))?;
    let kind: SecretKind = entry.kind.parse()?;
    let options = options.into_iter().map(|(k, v)| (k, Redacted::new(v))).collect();
    SecretSpec::try_new(name, kind, entry.scope.clone(), options)
}

/// Whoever only reads must not make a database by a typing mistake.
fn check_exists(location: Option<&str>) -> Result<()> {
    let Some(text) = location.filter(|l| *l != IN_MEMORY && !l.is_empty()) else { return Ok(()) };
    let url = parse_location(text)?;
    match (!is_remote(&url)).then(|| url.to_file_path().ok()).flatten() {
        Some(folder) if !folder.exists() => Err(Error::not_found(format!("there is no database at {text}"))
            .with_hint("without --readonly it would be made")),
        _ => Ok(()),
    }
}

fn open_catalog(location: Option<&str>) -> Result<(String, Arc<dyn CatalogStore>)> {
    let Some(text) = location.filter(|l| *l != IN_MEMORY && !l.is_empty()) else {
        return Ok((IN_MEMORY.to_owned(), Arc::new(MemoryCatalogStore::new())));
    };
    let url = parse_location(text)?;
    let path = url
        .to_file_path()
        .map_err(|()| Error::invalid(format!("{text} is no path that a database can be in")))?;
    Ok((text.to_owned(), Arc::new(FolderCatalogStore::open(&path)?)))
}

/// The storage of tables that belongs to a location.
async fn open_store(
    location: &str,
    catalog: &Catalog,
    lance: &Arc<LanceStore>,
    remote: Option<RemoteOptions>,
    options: &DatabaseOptions,
) -> Result<Arc<Store>> {
    let clock = Arc::clone(&options.clock);
    if location == IN_MEMORY {
        return Store::in_memory(clock);
    }
    let url = parse_location(location)?;
    let local = (!is_remote(&url)).then(|| url.to_file_path().ok()).flatten();
    let folder = match (local, &remote) {
        (Some(folder), _) => folder,
        (None, Some(remote)) => remote.files.root().to_owned(),
        (None, None) => {
            let why = Error::unsupported(format!(
                "tables cannot be kept at {location} yet, only in a local folder or on S3"
            ))
            .with_hint("CREATE EXTERNAL TABLE reads files there; COPY (…) TO writes them");
            return Store::without_tables(clock, why);
        }
    };
    let store = StoreOptions {
        fs: Arc::new(RealFs),
        folder,
        lance: Arc::clone(lance),
        clock,
        rng: Arc::clone(&options.rng),
        definitions: catalog.tables().cloned().collect(),
        limits: Limits::default(),
        thread: true,
    };
    if let Some(remote) = remote {
        Store::open_remote(store, remote).boxed().await
    } else if options.read_only {
        Store::open_read_only(store).boxed().await
    } else {
        Store::open(store).boxed().await
    }
}

fn build_runtime(options: &DatabaseOptions, stores: &Arc<StoreRegistry>) -> Result<Arc<RuntimeEnv>> {
    let limit = options.memory_limit.unwrap_or_else(default_memory_limit);
    let pool: Arc<dyn MemoryPool> =
        Arc::new(TrackConsumersPool::new(FairSpillPool::new(limit), NAMED_CONSUMERS));
    let mut disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::OsTmpDirectory);
    if let Some(bytes) = options.temp_limit {
        disk = disk.with_max_temp_directory_size(bytes);
    }
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(pool)
        .with_disk_manager_builder(disk)
        .with_object_store_registry(Arc::clone(stores) as Arc<dyn ObjectStoreRegistry>)
        .build_arc()?;
    Ok(runtime)
}

/// 70 % of the machine's memory, or of its share where a control group limits it; 4 GiB where nobody says.
fn default_memory_limit() -> usize {
    const FALLBACK: usize = 4 << 30;
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kib| kib * 1024)
    });
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|t| t.trim().parse().ok());
    let bytes = match (machine, group) {
        (Some(m), Some(g)) => usize::min(m, g),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => FALLBACK,
    };
    bytes / 10 * 7
}
