//! Where bytes live: local disk, S3, Google Cloud Storage, Azure, HTTP servers.
//!
//! ```sql
//! CREATE SECRET lake (TYPE s3, KEY_ID 'AKIA…', SECRET '…', REGION 'eu-central-1', SCOPE 's3://lake');
//! SELECT count(*) FROM 's3://lake/events/*.parquet';
//! ```
//!
//! ```text
//!  text ── parse_location ──▶ Url ── StoreRegistry::get_store ──▶ RoutedStore (one per bucket)
//!                                                                    │ every path picks its secret
//!                                    longest matching SCOPE, else the environment
//!                                                                    ▼
//!                                              object_store client, bounded in time (stall.rs),
//!                                              errors told apart and named (errors.rs)
//! ```
//!
//! Values of secrets are held in [`Redacted`]: they print as `***` and are wiped when dropped.

mod clients;
mod environment;
mod errors;
mod lance;
mod location;
mod redacted;
mod registry;
mod routed;
mod secret;
mod stall;

pub use environment::Environment;
pub use errors::find_error;
pub use location::{is_remote, location_text, parse_location};
pub use redacted::Redacted;
pub use registry::{StoreLimits, StoreRegistry};
pub use secret::{SecretKind, SecretSpec};
