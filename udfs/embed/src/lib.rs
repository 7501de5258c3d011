//! Embedding models in SQL: texts become vectors.
//!
//! ```sql
//! CREATE MODEL minilm FROM '/models/all-MiniLM-L6-v2';
//! CREATE MODEL small FROM 'https://api.openai.com/v1/embeddings' WITH (model = 'text-embedding-3-small', dimension = 1536);
//! SELECT title FROM docs ORDER BY embedding <=> embed('time series databases', 'minilm') LIMIT 10;
//! ```
//!
//! ```text
//!   embed(text, 'minilm')      function.rs   the SQL function, waiting for its values
//!        │
//!      Model                   a cache of what was asked before (cache.rs)
//!        ├── LocalModel        local.rs      a folder (folder.rs): tokenizer, BERT, pooling; on threads of its own (workers.rs)
//!        └── Endpoint          endpoint.rs   a server that speaks OpenAI's embeddings format
//! ```
//!
//! A model is a function: the same text gives the same vector. Of a folder's model that holds to the last bit, however
//! texts are batched. NULL gives NULL.
//!
//! Nothing is fetched that the user did not name, and no model is downloaded.

mod cache;
mod endpoint;
mod folder;
mod function;
mod local;
mod workers;

use std::sync::Arc;

use datafusion::execution::memory_pool::MemoryPool;
use triune_common::{Error, Result, boxed};

pub use endpoint::{Credentials, Endpoint, EndpointOptions, Pause, SystemPause};
pub use function::{EMBED, ModelSource, embed_function};
pub use local::LocalModel;
pub use workers::Workers;

use cache::Cache;

/// A vector that several rows may share.
pub type Embedding = Arc<[f32]>;

/// Something that turns texts into vectors.
#[derive(Debug)]
pub struct Model {
    name: String,
    backend: Backend,
    cache: Cache,
}

#[derive(Debug)]
enum Backend {
    Local(Arc<LocalModel>),
    Endpoint(Box<Endpoint>),
}

impl Model {
    /// A model of a folder.
    pub fn local(name: &str, model: LocalModel, memory: &Arc<dyn MemoryPool>) -> Self {
        Self { name: name.to_owned(), backend: Backend::Local(Arc::new(model)), cache: Cache::new(memory) }
    }

    /// A model behind a server.
    pub fn endpoint(name: &str, endpoint: Endpoint, memory: &Arc<dyn MemoryPool>) -> Self {
        Self {
            name: name.to_owned(),
            backend: Backend::Endpoint(Box::new(endpoint)),
            cache: Cache::new(memory),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of dimensions of its vectors.
    pub fn dimension(&self) -> usize {
        match &self.backend {
            Backend::Local(model) => model.dimension(),
            Backend::Endpoint(endpoint) => endpoint.dimension(),
        }
    }

    /// One vector for each text, in their order; NULL for NULL. A text that is there several times is asked for once.
    /// Dropping the future ends the work after the batches that are being computed.
    ///
    /// Errors: out of resources where the memory pool has too little, and those of the server.
    #[boxed]
    pub async fn embed(&self, texts: &[Option<&str>]) -> Result<Vec<Option<Embedding>>> {
        let mut found = self.cache.get(texts.iter().flatten().copied());
        let mut missing: Vec<Arc<str>> = Vec::new();
        for text in texts.iter().flatten() {
            if !found.contains_key(*text) {
                // Holds the place, so that the text is asked for once.
                let text: Arc<str> = Arc::from(*text);
                found.insert(Arc::clone(&text), None);
                missing.push(text);
            }
        }
        if !missing.is_empty() {
            let made = match &self.backend {
                Backend::Local(model) => Arc::clone(model).embed(&missing).await?,
                Backend::Endpoint(endpoint) => endpoint.embed(&missing).await?,
            };
            if made.len() != missing.len() {
                return Err(Error::internal(format!("{} vectors for {} texts", made.len(), missing.len())));
            }
            for (text, vector) in missing.into_iter().zip(made) {
                self.cache.put(&text, &vector);
                found.insert(text, Some(vector));
            }
        }
        let of = |text: &Option<&str>| text.and_then(|t| found.get(t).cloned().flatten());
        Ok(texts.iter().map(of).collect())
    }
}
