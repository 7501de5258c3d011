//! What a database keeps: today its catalog (external tables, views, schemas, sealed secrets).
//!
//! ```text
//!  my.db/
//!    catalog.json        the published catalog: one JSON document with a version number
//!    catalog.lock        held for the moment of a change, by one process
//! ```
//!
//! A catalog is changed by reading it, editing it and publishing it at the next version. A publication that
//! finds another version than the one it read does nothing and is repeated, so two processes cannot lose
//! each other's changes. On a local folder the new document is written aside, fsynced, renamed over the old
//! one, and the folder is fsynced; on an object store it is one conditional PUT.

pub mod base;
pub mod catalog;
pub mod fs;
pub mod hot;
pub mod key;
pub mod lock;
pub mod place;
pub mod seal;
pub mod stamp;
pub mod store;
pub mod table;
pub mod wal;
