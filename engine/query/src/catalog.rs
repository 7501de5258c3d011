//! Names to tables: how a session's statement finds what it reads.
//!
//! ```text
//!  name ─┬─ a temporary table of the session
//!        ├─ a relation of the database's catalog: external table, view
//!        └─ a path or URL that looks like one:  'events/*.parquet', 's3://lake/docs.lance'
//! ```
//!
//! Every table that a statement reads is resolved by [`TriuneSchema::table`]; whatever is to hold for all
//! access to tables has its place there.

pub(crate) mod information;
pub(crate) mod open;
pub(crate) mod system;
pub(crate) mod system_indexes;
mod system_queries;

use std::fmt::Debug;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result as DfResult};
use triune_common::Error;
use triune_storage::catalog::SchemaEntry;

use crate::session::SessionCore;

/// The one catalog of a session.
pub const CATALOG: &str = "triune";
/// The schema that names without one are looked up in.
pub const DEFAULT_SCHEMA: &str = "public";

/// The schemas of a database as DataFusion sees them.
#[derive(Debug)]
pub(crate) struct TriuneCatalog {
    session: Weak<SessionCore>,
}

impl TriuneCatalog {
    pub(crate) fn new(session: Weak<SessionCore>) -> Self {
        Self { session }
    }
}

impl CatalogProvider for TriuneCatalog {
    fn schema_names(&self) -> Vec<String> {
        let Some(session) = self.session.upgrade() else { return vec![] };
        let users = session.database().catalog();
        users.schemas.keys().cloned().chain([system::SYSTEM.to_owned()]).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let session = self.session.upgrade()?;
        if name == system::SYSTEM {
            return Some(Arc::new(system::SystemSchema(Weak::clone(&self.session))));
        }
        session.database().catalog().schemas.contains_key(name).then(|| {
            Arc::new(TriuneSchema { session: Weak::clone(&self.session), name: name.to_owned() })
                as Arc<dyn SchemaProvider>
        })
    }
}

/// One schema: the session's temporary tables (in the default schema) before the catalog's relations.
#[derive(Debug)]
pub(crate) struct TriuneSchema {
    session: Weak<SessionCore>,
    name: String,
}

impl TriuneSchema {
    fn session(&self) -> DfResult<Arc<SessionCore>> {
        self.session.upgrade().ok_or_else(|| {
            DataFusionError::from(Error::internal("a table is looked up after its session ended"))
        })
    }
}

#[async_trait]
impl SchemaProvider for TriuneSchema {
    fn table_names(&self) -> Vec<String> {
        let Some(session) = self.session.upgrade() else { return vec![] };
        let mut names: Vec<String> = session
            .database()
            .catalog()
            .schemas
            .get(&self.name)
            .map(|s: &SchemaEntry| s.relations.keys().cloned().collect())
            .unwrap_or_default();
        if self.name == DEFAULT_SCHEMA {
            names.extend(session.temporary_names());
        }
        names.sort();
        names.dedup();
        names
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        let session = self.session()?;
        open::resolve(&session, &self.name, name).await.map_err(DataFusionError::from)
    }

    /// Only whether the name is taken; what `SHOW TABLES` asks for must not open files.
    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|n| n == name)
    }
}
