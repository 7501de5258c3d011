//! Lance datasets as tables: `CREATE EXTERNAL TABLE … STORED AS LANCE LOCATION '…'`,
//! `COPY (query) TO 'x.lance'`, and the vector index that `vector_search` goes through.
//!
//! ```text
//!  URL + version ──▶ LanceStore ──▶ LanceProvider (one version, pinned)
//!                     one shared        │ scan            │ plan_ann
//!                     cache             ▼                 ▼
//!                                   LanceScanExec     LanceAnnExec
//! ```
//!
//! Lance's own table provider is not used: it has one partition, no statistics, no dynamic filters,
//! and calls every filter exact. [`LanceScanExec`] reads fragments directly, evaluates filters with
//! DataFusion's own expressions and reads wide columns only for the rows that remain.

pub mod ann;
pub mod cache;
pub mod commit;
mod error;
pub mod index;
pub mod indexing;
mod keep;
mod mask;
pub mod method;
pub mod metric;
pub mod predicate;
pub mod provider;
mod rows;
pub mod scalar;
pub mod scan;
pub mod store;
mod take;
pub mod text;
pub mod version;
pub mod write;

pub use ann::{AnnRequest, LanceAnnExec, plan_ann};
pub use cache::ColumnCache;
pub use commit::{LanceCommit, NeedlessObjects};
pub use index::VectorIndexInfo;
pub use indexing::{BuildProgress, BuiltIndex, IndexSpec, PhysicalIndex, inverted_params};
pub use method::IndexMethod;
pub use metric::{LanceMetric, VectorScorer};
pub use provider::LanceProvider;
pub use scan::LanceScanExec;
pub use store::{CacheUse, LanceCaches, LanceOptions, LanceStore, NoOptions};
pub use text::{TextColumn, TextIndexes, TextPosting, TextWords};
pub use version::LanceVersion;
pub use write::WriteMode;
