//! The SQL front: a database, its sessions, and everything between a statement's text and its rows.
//!
//! ```no_run
//! # async fn example() -> triune_common::Result<()> {
//! use triune_query::Database;
//!
//! let database = Database::open(Some("my.db")).await?;
//! let session = database.session();
//! session.execute("CREATE EXTERNAL TABLE docs STORED AS LANCE LOCATION 'docs.lance'").await?;
//! let rows = session.execute("FROM docs SELECT count(*)").await?.collect().await?;
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//!  text ─ parser ─ prepass ─┬─ commands (COPY, SET, PREPARE …), ddl (CREATE …), dml (INSERT, UPDATE …)
//!                           └─ logical plan ─ parameters ─ rules ─ physical plan ─ QueryResult
//! ```
//!
//! Nothing in Triune calls DataFusion's `SessionContext::sql`: its dialect, its DML and its silent clauses
//! are not ours.

mod arithmetic;
mod awaited;
mod catalog;
mod commands;
mod counted;
mod cpu;
mod database;
mod ddl;
mod describe;
pub mod dialect;
mod dml;
mod domain;
mod errors;
mod explain;
mod guarded;
mod json;
mod membership;
mod models;
mod moments;
mod null_safe;
mod observe;
mod output_order;
mod params;
pub mod parser;
mod placeholders;
mod prepass;
mod principal;
mod progress;
mod queries;
mod result;
mod rules;
mod same_names;
mod session;
mod sliding;
mod split;
mod statement;
#[cfg(test)]
mod testing;
mod transaction;
mod types;
mod users;
mod values;
mod visit;
mod vitals;
mod yielding;

pub use catalog::{CATALOG, DEFAULT_SCHEMA};
pub use database::{Database, DatabaseOptions, ElsewhereOptions, IN_MEMORY};
pub use describe::{Described, StatementKind, kind_of};
pub use params::Params;
pub use placeholders::number_marks;
pub use principal::{Principal, Role};
pub use progress::{Progress, ProgressHandle};
pub use queries::{Queries, QueryInfo, QueryStatus, Watcher};
pub use result::{QueryResult, Tag};
pub use session::{ColumnInfo, FunctionInfo, FunctionKind, Names, Relation, Session, TableInfo};
pub use split::{Split, StatementText, split_statements};
pub use triune_lance::CacheUse;
pub use triune_object_store::{Environment, StoreLimits};
pub use triune_storage::place::WalKind;
pub use types::sql_type_name;
pub use vitals::{IndexVitals, MemoryVitals, StorageVitals, Vitals};
