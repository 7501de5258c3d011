//! Makes a build of one crate use the same features of third-party crates as a build of all.
//!
//! Cargo unites features over the crates that are *selected*: `cargo test -p triune-vector` alone would
//! compile DataFusion anew with fewer features of `tokio`. Selected beside another crate, this empty one
//! brings the whole workspace's dependencies in, so that nothing is compiled twice:
//!
//! ```text
//! cargo test -p triune-vector -p triune-features
//! ```
