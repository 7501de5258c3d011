//! The catalog of an in-memory database.

use std::sync::Mutex;

use async_trait::async_trait;
use triune_common::{Error, Result};

use super::{Catalog, CatalogStore};

/// Forgotten when the process ends.
#[derive(Debug)]
pub struct MemoryCatalogStore {
    current: Mutex<Catalog>,
}

impl MemoryCatalogStore {
    pub fn new() -> Self {
        Self { current: Mutex::new(Catalog::empty()) }
    }
}

impl Default for MemoryCatalogStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl CatalogStore for MemoryCatalogStore {
    fn place(&self) -> String {
        ":memory:".to_owned()
    }

    async fn load(&self) -> Result<Catalog> {
        let current = self.current.lock().map_err(|_| Error::internal("the catalog's lock is poisoned"))?;
        Ok(current.clone())
    }

    async fn publish(&self, next: &Catalog) -> Result<bool> {
        let mut current =
            self.current.lock().map_err(|_| Error::internal("the catalog's lock is poisoned"))?;
        if current.version + 1 != next.version {
            return Ok(false);
        }
        *current = next.clone();
        Ok(true)
    }
}
