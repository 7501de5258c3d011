//! Which store a URL belongs to, and with which secret.
//!
//! ```text
//!  s3://lake/raw/a.parquet ──▶ bucket s3://lake ──▶ RoutedStore
//!      secrets whose SCOPE covers the path: the longest scope wins, then the first name
//!      none covers it: AWS_… / GOOGLE_… / AZURE_… as the process was started with
//! ```
//!
//! Clients (and their connections) are kept per bucket and secret, and built anew after a change of secrets;
//! a query that runs meanwhile sees the change at its next request.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::ObjectStore;
use parking_lot::RwLock;
use tokio::runtime::Handle;
use triune_common::names::did_you_mean;
use triune_common::{Error, Result};
use url::Url;

use crate::clients::{Client, Workshop};
use crate::environment::Environment;
use crate::errors::Place;
use crate::location::{ACCEPTED, canonical_scheme};
use crate::routed::RoutedStore;
use crate::secret::{SecretKind, SecretSpec};
use crate::stall::BoundedConnector;

/// How long a store may take. A store that falls silent for good fails a read after about
/// `stall × (retries + 1)`, and not later than `retry_for + stall`: 40 seconds by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// To open a connection.
    pub connect: Duration,
    /// Silence: until the first byte of an answer, and between two pieces of it.
    pub stall: Duration,
    /// Until the answer to an upload, which is silent while the data travels.
    pub upload: Duration,
    /// One request altogether.
    pub request: Duration,
    /// Attempts after the first.
    pub retries: usize,
    /// No new attempt begins after this.
    pub retry_for: Duration,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            stall: Duration::from_secs(12),
            upload: Duration::from_secs(60),
            request: Duration::from_secs(300),
            retries: 2,
            retry_for: Duration::from_secs(60),
        }
    }
}

/// The stores of a database. Cheap to look up, safe to share between sessions.
///
/// Credentials may be used by every session of the database: who may use a bucket is decided by who may
/// create secrets, not here.
pub struct StoreRegistry {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    workshop: Workshop,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    secrets: BTreeMap<String, Arc<SecretSpec>>,
    /// By bucket and secret name; emptied when secrets change.
    clients: HashMap<(String, Option<String>), Arc<Client>>,
    /// Given by the embedder (an in-memory store for tests, say); they go before everything else.
    registered: HashMap<String, Arc<dyn ObjectStore>>,
}

impl StoreRegistry {
    /// Stores that send their requests from `io` (or from wherever they are called), with the default limits
    /// and the process's environment.
    pub fn new(io: Option<Handle>) -> Arc<Self> {
        Self::with_settings(io, StoreLimits::default(), Environment::of_process())
    }

    pub fn with_settings(io: Option<Handle>, limits: StoreLimits, environment: Environment) -> Arc<Self> {
        let connector = BoundedConnector { io, stall: limits.stall, upload: limits.upload };
        let workshop = Workshop { limits, connector, environment };
        Arc::new(Self { shared: Arc::new(Shared { workshop, state: RwLock::default() }) })
    }

    pub fn limits(&self) -> StoreLimits {
        self.shared.workshop.limits
    }

    /// Adds a secret, in place of one with the same name.
    pub fn put_secret(&self, secret: SecretSpec) {
        let mut state = self.shared.state.write();
        state.clients.clear();
        state.secrets.insert(secret.name.clone(), Arc::new(secret));
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// `NotFound`, with the nearest name, when there is none of that name.
    pub fn drop_secret(&self, name: &str) -> Result<()> {
        let mut state = self.shared.state.write();
        if state.secrets.remove(name).is_none() {
            let e = Error::not_found(format!("no secret is called \"{name}\""));
            return Err(match did_you_mean(name, state.secrets.keys().map(String::as_str)) {
                Some(near) => e.with_hint(format!("did you mean \"{near}\"?")),
                None => e,
            });
        }
        state.clients.clear();
        Ok(())
    }

    /// All secrets by name, for `SHOW SECRETS`; printing one shows no values.
    pub fn secrets(&self) -> Vec<Arc<SecretSpec>> {
        self.shared.state.read().secrets.values().map(Arc::clone).collect()
    }

    /// The secret that a request to `url` is signed with.
    pub fn secret_for(&self, url: &Url) -> Option<Arc<SecretSpec>> {
        self.shared.secret_for(url.as_str())
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.shared.workshop.environment
    }
}

impl Shared {
    fn secret_for(&self, url: &str) -> Option<Arc<SecretSpec>> {
        let state = self.state.read();
        let scheme = url.split_once("://").map(|(s, _)| s)?;
        let kind = SecretKind::of_scheme(scheme)?;
        let mut best: Option<(usize, &Arc<SecretSpec>)> = None;
        // In the order of names: a later one has to be strictly longer to win.
        for secret in state.secrets.values().filter(|s| s.kind == kind) {
            if let Some(length) = secret.covers(url)
                && best.is_none_or(|(longest, _)| length > longest)
            {
                best = Some((length, secret));
            }
        }
        best.map(|(_, s)| Arc::clone(s))
    }

    /// The client for an object of `base`, and the words for error messages about it.
    pub(crate) fn client(&self, base: &Url, key: &str, path: &str) -> Result<(Arc<dyn ObjectStore>, Place)> {
        let secret = self.secret_for(&format!("{key}/{path}"));
        let place = |client: &Client| Place {
            base: if base.scheme() == "file" { String::new() } else { key.to_owned() },
            credentials: client.credentials.clone(),
        };
        let slot = (key.to_owned(), secret.as_ref().map(|s| s.name.clone()));
        if let Some(client) = self.state.read().clients.get(&slot) {
            return Ok((Arc::clone(&client.store), place(client)));
        }
        let client = Arc::new(self.workshop.build(base, secret.as_deref())?);
        let mut state = self.state.write();
        // The secret may have been replaced while the client was built: then the client is used once only.
        let current = slot.1.as_ref().and_then(|name| state.secrets.get(name));
        if current.map(Arc::as_ptr) == secret.as_ref().map(Arc::as_ptr) {
            state.clients.insert(slot, Arc::clone(&client));
        }
        Ok((Arc::clone(&client.store), place(&client)))
    }
}

/// `s3://bucket` out of a URL: scheme, account and host, nothing more.
fn key_of(url: &Url) -> String {
    let scheme = canonical_scheme(url.scheme()).unwrap_or_else(|| url.scheme());
    let authority = &url[url::Position::BeforeUsername..url::Position::BeforePath];
    format!("{scheme}://{authority}")
}

impl ObjectStoreRegistry for StoreRegistry {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.shared.state.write().registered.insert(key_of(url), store)
    }

    fn deregister_store(&self, url: &Url) -> DataFusionResult<Arc<dyn ObjectStore>> {
        self.shared.state.write().registered.remove(&key_of(url)).ok_or_else(|| {
            DataFusionError::from(Error::not_found(format!("no store was registered for {}", key_of(url))))
        })
    }

    fn get_store(&self, url: &Url) -> DataFusionResult<Arc<dyn ObjectStore>> {
        let key = key_of(url);
        if let Some(store) = self.shared.state.read().registered.get(&key) {
            return Ok(Arc::clone(store));
        }
        let known = canonical_scheme(url.scheme()).is_some();
        if !known || (url.scheme() != "file" && url.host_str().is_none_or(str::is_empty)) {
            let e =
                Error::invalid(format!("no store is reached by \"{}://\"", url.scheme())).with_hint(ACCEPTED);
            return Err(e.into());
        }
        let base = Url::parse(&format!("{key}/"))
            .map_err(|e| DataFusionError::from(Error::invalid(e.to_string())))?;
        let store = RoutedStore::new(Arc::clone(&self.shared), base, key);
        // What can be wrong with the settings is said now, not in the middle of a query.
        store.check()?;
        Ok(Arc::new(store))
    }
}

impl fmt::Debug for StoreRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.read();
        f.debug_struct("StoreRegistry")
            .field("secrets", &state.secrets.keys().collect::<Vec<_>>())
            .field("clients", &state.clients.keys().collect::<Vec<_>>())
            .field("registered", &state.registered.keys().collect::<Vec<_>>())
            .field("limits", &self.shared.workshop.limits)
            .finish()
    }
}

#[cfg(test)]
mod tests;
