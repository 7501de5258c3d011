//! The catalog document and how it is changed.

mod folder;
mod memory;
mod object;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use triune_common::{Error, ErrorKind, Result};

pub use folder::FolderCatalogStore;
pub use memory::MemoryCatalogStore;
pub use object::ObjectCatalogStore;

use crate::table::TableDef;

/// The newest format that this build reads and writes; a newer one is refused rather than misread. Format 1 had no
/// tables, format 2 no users: it is still written where there are none.
pub const FORMAT: u32 = 3;
const FORMAT_WITHOUT_USERS: u32 = 2;

/// The name of the catalog document inside a database.
pub const DOCUMENT: &str = "catalog.json";

/// How often a change is tried again when another writer was faster.
const PUBLISH_ATTEMPTS: usize = 20;

/// Everything that a database remembers by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    pub format: u32,
    /// Grows by one with each published change; 0 has never been published.
    pub version: u64,
    /// Schemas by name; `public` always exists.
    pub schemas: BTreeMap<String, SchemaEntry>,
    /// Secrets by name, sealed.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretEntry>,
    /// Embedding models by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, ModelEntry>,
    /// Who may log in to a server of this database, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<String, UserEntry>,
    /// Tokens that stand for a user's password, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tokens: BTreeMap<String, TokenEntry>,
    /// Of the writer that published it, on object stores: see [`crate::place`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// One schema's relations by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaEntry {
    #[serde(default)]
    pub relations: BTreeMap<String, RelationEntry>,
}

/// A relation that is kept as the statement that defines it; a table also as its definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelationEntry {
    pub kind: RelationKind,
    /// The `CREATE …` statement in Triune's dialect, with absolute locations and no credentials.
    pub sql: String,
    pub created_at: DateTime<Utc>,
    /// What the storage knows of a table; `None` for other relations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableDef>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    /// Rows are kept by the database itself.
    Table,
    ExternalTable,
    View,
}

impl RelationKind {
    /// The words that a user sees.
    pub fn label(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::ExternalTable => "external table",
            Self::View => "view",
        }
    }
}

/// A secret: what it is for is readable, what it holds is sealed (see [`crate::seal`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretEntry {
    /// `s3`, `gcs`, `azure`, `http`.
    pub kind: String,
    /// URL prefixes that the secret is used for.
    pub scope: Vec<String>,
    /// The options as JSON, sealed; hexadecimal.
    pub sealed: String,
    pub created_at: DateTime<Utc>,
}

/// An embedding model: where it is, and what is needed to ask it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// A folder's path from the root, or the URL of a server.
    pub source: String,
    /// Dimensions of its vectors.
    pub dimension: usize,
    /// What the server calls the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The name of the secret that holds the server's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The variable of the environment that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_env: Option<String>,
    /// Texts in one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// For one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    pub created_at: DateTime<Utc>,
}

/// A user: what a password is checked against, never the password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserEntry {
    /// An argon2 hash with its salt and its cost (PHC string); `None` for a user of tokens only.
    pub password: Option<String>,
    /// `admin`, `writer`, `reader`.
    pub role: String,
    pub created_at: DateTime<Utc>,
}

/// A token: what it is checked against, never the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    pub user: String,
    /// The part of the token that finds it.
    pub id: String,
    /// A hash of the part that proves it; hexadecimal.
    pub hash: String,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
}

impl Debug for UserEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserEntry").field("role", &self.role).finish_non_exhaustive()
    }
}

impl Debug for TokenEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenEntry").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Catalog {
    /// The catalog of a new database.
    pub fn empty() -> Self {
        let schemas = BTreeMap::from([("public".to_owned(), SchemaEntry::default())]);
        Self {
            format: FORMAT_WITHOUT_USERS,
            version: 0,
            schemas,
            secrets: BTreeMap::new(),
            models: BTreeMap::new(),
            users: BTreeMap::new(),
            tokens: BTreeMap::new(),
            epoch: 0,
        }
    }

    /// Reads a document, refusing what this build cannot understand completely.
    pub fn from_json(bytes: &[u8], place: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let damaged = |e: serde_json::Error| {
            Error::data(format!("the catalog of the database at {place} is damaged: {e}"))
                .with_hint("restore catalog.json from a backup; nothing was changed")
        };
        let head: Head = serde_json::from_slice(bytes).map_err(damaged)?;
        if head.format > FORMAT {
            return Err(Error::unsupported(format!(
                "the database at {place} has catalog format {}, this build reads up to {FORMAT}",
                head.format
            ))
            .with_hint("open it with a newer triune"));
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
            .map_err(|e| Error::internal(format!("the catalog cannot be written as JSON: {e}")))
    }

    pub fn relation(&self, schema: &str, name: &str) -> Option<&RelationEntry> {
        self.schemas.get(schema)?.relations.get(name)
    }

    /// The definitions of all tables, for whoever opens their storage.
    pub fn tables(&self) -> impl Iterator<Item = &TableDef> {
        self.schemas.values().flat_map(|s| s.relations.values()).filter_map(|r| r.table.as_ref())
    }
}

/// Where a catalog is kept.
#[async_trait]
pub trait CatalogStore: Debug + Send + Sync {
    /// The place as a user would name it.
    fn place(&self) -> String;

    /// The published catalog; [`Catalog::empty`] when none has been published.
    async fn load(&self) -> Result<Catalog>;

    /// Publishes `next` if the published version still is `next.version - 1`.
    ///
    /// Returns `false`, having changed nothing, when another writer was faster.
    async fn publish(&self, next: &Catalog) -> Result<bool>;
}

/// Reads, edits and publishes until no other writer comes between; returns the published catalog.
///
/// `edit` may run several times, each time on a fresh copy; its error ends the change with nothing done.
pub async fn change(
    store: &Arc<dyn CatalogStore>,
    mut edit: impl FnMut(&mut Catalog) -> Result<()>,
) -> Result<Catalog> {
    for _ in 0..PUBLISH_ATTEMPTS {
        let mut next = store.load().await?;
        edit(&mut next)?;
        next.format = match next.users.is_empty() && next.tokens.is_empty() {
            true => FORMAT_WITHOUT_USERS,
            false => FORMAT,
        };
        next.version += 1;
        if store.publish(&next).await? {
            return Ok(next);
        }
    }
    Err(Error::new(
        ErrorKind::Conflict,
        format!("the catalog at {} was changed by others {PUBLISH_ATTEMPTS} times in a row", store.place()),
    )
    .with_hint("try again"))
}

#[cfg(test)]
mod tests;
