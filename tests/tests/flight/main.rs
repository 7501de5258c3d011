//! `triune serve` as its clients see it: a process of its own, on loopback, and drivers that know nothing of us.
//!
//! ```text
//! protocol.rs  statements, parameters, transactions, ingest      lists.rs    catalogs, tables, keys, what the server can do
//! running.rs   cancel, time limits, lost and slow clients        auth.rs     users, roles, tokens, TLS
//! life.rs      idle sessions, stops, killed processes            drivers.rs  ADBC, pyarrow, SQLAlchemy (Python)
//! nonsense.rs  broken messages, wrong tickets, huge headers      http.rs     statements, health and metrics over HTTP
//! ```

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::zombie_processes,
    reason = "a helper that fails fails its test; clients measure how long they waited"
)]

mod auth;
mod drivers;
mod http;
mod life;
mod lists;
mod nonsense;
mod protocol;
mod running;
mod served;
