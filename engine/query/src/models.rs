//! The models of a database, which `embed` asks.
//!
//! ```sql
//! CREATE MODEL minilm FROM '/models/all-MiniLM-L6-v2';
//! SELECT embed('time series databases', 'minilm');
//! ```
//!
//! The catalog says what there is; a model is loaded when it is first asked, once, and stays in memory until it is
//! dropped, defined anew, or the database closed. Models compute on threads of their own ([`triune_embed::Workers`]), as
//! many as the machine has, at the lower priority of queries.

pub(crate) mod below;
pub(crate) mod constants;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::execution::memory_pool::MemoryPool;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use triune_common::names::did_you_mean;
use triune_common::{Error, Result};
use triune_embed::{
    Credentials, Endpoint, EndpointOptions, LocalModel, Model, ModelSource, SystemPause, Workers,
};
use triune_object_store::{Environment, SecretKind};
use triune_storage::catalog::{Catalog, ModelEntry};
use url::Url;

use crate::cpu;
use crate::database::Database;
use crate::session::SessionCore;

/// What needs a key of OpenAI's when nothing else is said.
const OPENAI_HOST: &str = "api.openai.com";
const OPENAI_KEY: &str = "OPENAI_API_KEY";

/// A definition and its model, which the first who asks loads.
type Slot = (ModelEntry, Arc<OnceCell<Arc<Model>>>);

/// The models that were loaded.
#[derive(Debug, Default)]
pub(crate) struct Models {
    workers: OnceLock<Workers>,
    open: Mutex<HashMap<String, Slot>>,
}

impl Models {
    fn workers(&self) -> Result<&Workers> {
        if let Some(workers) = self.workers.get() {
            return Ok(workers);
        }
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let made = Workers::new(count, cpu::give_way)?;
        Ok(self.workers.get_or_init(|| made))
    }

    /// Whether a model is in memory.
    pub(crate) fn is_loaded(&self, name: &str, entry: &ModelEntry) -> bool {
        self.open.lock().get(name).is_some_and(|(of, cell)| of == entry && cell.initialized())
    }

    fn slot(&self, catalog: &Catalog, name: &str, entry: &ModelEntry) -> Arc<OnceCell<Arc<Model>>> {
        let mut open = self.open.lock();
        // What was dropped, or defined anew, gives its memory back.
        open.retain(|name, (of, _)| catalog.models.get(name) == Some(of));
        let (_, cell) =
            open.entry(name.to_owned()).or_insert_with(|| (entry.clone(), Arc::new(OnceCell::new())));
        Arc::clone(cell)
    }

    /// Keeps a model that was loaded to see whether it can be.
    pub(crate) fn keep(&self, name: &str, entry: ModelEntry, model: Arc<Model>) {
        self.open.lock().insert(name.to_owned(), (entry, Arc::new(OnceCell::new_with(Some(model)))));
    }

    pub(crate) fn forget(&self, name: &str) {
        self.open.lock().remove(name);
    }
}

/// The model that is meant: the one of this name, or the only one.
pub(crate) fn pick<'a>(catalog: &'a Catalog, name: Option<&str>) -> Result<(&'a str, &'a ModelEntry)> {
    let models = &catalog.models;
    let names = || models.keys().map(String::as_str);
    match name {
        Some(name) => match models.get_key_value(name) {
            Some((name, entry)) => Ok((name, entry)),
            None => {
                let error = Error::not_found(format!("no model is called \"{name}\""));
                Err(match did_you_mean(name, names()) {
                    Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
                    None => error.with_hint("CREATE MODEL name FROM 'folder' makes one"),
                })
            }
        },
        None => {
            let mut all = models.iter();
            match (all.next(), all.next()) {
                (Some((name, entry)), None) => Ok((name, entry)),
                (None, _) => Err(Error::not_found("there is no model to embed texts with")
                    .with_hint("CREATE MODEL name FROM 'folder' makes one")),
                _ => {
                    Err(Error::invalid("there are several models and embed() names none").with_hint(format!(
                        "write embed(text, 'model') with one of {}",
                        names().collect::<Vec<_>>().join(", ")
                    )))
                }
            }
        }
    }
}

/// The model of a name, loaded; `None`: the only one.
pub(crate) async fn open(database: &Arc<Database>, name: Option<&str>) -> Result<Arc<Model>> {
    let catalog = database.catalog();
    let (name, entry) = pick(&catalog, name)?;
    let slot = database.models().slot(&catalog, name, entry);
    let model = slot.get_or_try_init(|| Box::pin(load(database, name, entry))).await?;
    Ok(Arc::clone(model))
}

/// Loads what a definition describes.
pub(crate) async fn load(database: &Arc<Database>, name: &str, entry: &ModelEntry) -> Result<Arc<Model>> {
    let pool = &database.runtime().memory_pool;
    let model = match url_of(&entry.source)? {
        None => {
            let workers = database.models().workers()?;
            let model = LocalModel::open(Path::new(&entry.source), workers, pool).await?;
            Model::local(name, model, pool)
        }
        Some(url) => {
            let key = Arc::new(Key {
                database: Arc::downgrade(database),
                model: name.to_owned(),
                url: url.clone(),
                secret: entry.secret.clone(),
                variable: entry.key_env.clone(),
            });
            let mut options = EndpointOptions::new(url);
            options.model.clone_from(&entry.model);
            options.dimension = (entry.dimension > 0).then_some(entry.dimension);
            if let Some(seconds) = entry.timeout_seconds {
                options.timeout = Duration::from_secs(seconds);
            }
            if let Some(batch) = entry.batch {
                options.batch = batch;
            }
            let clock = Arc::clone(&database.options().clock);
            let endpoint = Endpoint::open(options, key, clock, Arc::new(SystemPause::default())).await?;
            Model::endpoint(name, endpoint, pool)
        }
    };
    Ok(Arc::new(model))
}

/// The address of an endpoint; `None`: the source is a folder.
pub(crate) fn url_of(source: &str) -> Result<Option<Url>> {
    if !source.starts_with("http://") && !source.starts_with("https://") {
        return Ok(None);
    }
    let url = Url::parse(source).map_err(|e| Error::invalid(format!("'{source}' is no URL: {e}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        // The address is kept in clear.
        return Err(Error::invalid("the URL of a model must not hold a name or a password")
            .with_hint("CREATE SECRET k (TYPE http, BEARER_TOKEN '…') and WITH (secret = 'k')"));
    }
    Ok(Some(url))
}

/// Who asks a server: a secret, or a variable of the environment.
#[derive(Debug)]
struct Key {
    database: Weak<Database>,
    model: String,
    url: Url,
    secret: Option<String>,
    variable: Option<String>,
}

impl Credentials for Key {
    fn headers(&self) -> Result<Vec<(String, String)>> {
        let Some(database) = self.database.upgrade() else {
            return Err(Error::internal("the database of a model is gone"));
        };
        let stores = database.stores();
        let secret = match &self.secret {
            Some(name) => {
                let found = stores.secrets().into_iter().find(|s| s.name == *name);
                let found = found.ok_or_else(|| {
                    Error::not_found(format!(
                        "no secret is called \"{name}\", which \"{}\" needs",
                        self.model
                    ))
                    .with_hint(format!("CREATE SECRET {name} (TYPE http, BEARER_TOKEN '…')"))
                })?;
                if found.kind != SecretKind::Http {
                    return Err(Error::invalid(format!(
                        "the secret \"{name}\" is of type {}, the model \"{}\" needs one of type http",
                        found.kind, self.model
                    )));
                }
                Some(found)
            }
            // One whose SCOPE covers the URL; a secret for everything is not sent where it was not meant for.
            None => stores
                .secret_for(&self.url)
                .filter(|s| s.kind == SecretKind::Http && !s.scope.is_empty() && self.variable.is_none()),
        };
        if let Some(secret) = secret {
            return secret.headers();
        }
        let openai = (self.url.host_str() == Some(OPENAI_HOST)).then_some(OPENAI_KEY);
        let Some(variable) = self.variable.as_deref().or(openai) else { return Ok(vec![]) };
        let environment = database.options().environment.clone().unwrap_or_else(Environment::of_process);
        match environment.get(variable) {
            Some(key) => Ok(vec![("Authorization".to_owned(), format!("Bearer {key}"))]),
            None => Err(Error::not_found(format!(
                "the model \"{}\" needs a key, and the environment has no {variable}",
                self.model
            ))
            .with_hint("CREATE SECRET k (TYPE http, BEARER_TOKEN '…') and WITH (secret = 'k')")),
        }
    }
}

/// The models as a session's functions see them.
#[derive(Debug)]
pub(crate) struct SessionModels(pub(crate) Weak<SessionCore>);

impl SessionModels {
    fn core(&self) -> Result<Arc<SessionCore>> {
        self.0.upgrade().ok_or_else(|| Error::internal("the session of a function is gone"))
    }
}

#[async_trait]
impl ModelSource for SessionModels {
    fn dimension(&self, name: Option<&str>) -> Result<usize> {
        Ok(pick(&self.core()?.database().catalog(), name)?.1.dimension)
    }

    async fn open(&self, name: Option<&str>) -> Result<Arc<Model>> {
        open(self.core()?.database(), name).await
    }

    fn memory(&self) -> Result<Arc<dyn MemoryPool>> {
        Ok(Arc::clone(&self.core()?.database().runtime().memory_pool))
    }
}
