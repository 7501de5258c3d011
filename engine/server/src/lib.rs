//! A database on the network: Arrow Flight SQL, and HTTP beside it.
//!
//! ```text
//! $ triune serve shop --listen 127.0.0.1:50051
//! listening on grpc://127.0.0.1:50051
//! and on http://127.0.0.1:50052
//!
//!  driver ─ gRPC ─▶ connection ─▶ auth (who) ─▶ session (settings, transactions, statements) ─▶ triune_query::Session
//!                                                     └─ streams of Arrow batches, one task each, cancelled with their reader
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`options`], [`server`] | what a server may do, and its life: bind, run, drain, checkpoint |
//! | `auth` | credentials of a request, log-ins and how failed ones slow down |
//! | `sessions` | what belongs to a client between its requests |
//! | `flight` | the protocol: statements, prepared statements, transactions, ingest, the catalog's lists |
//! | `http` | statements, health and metrics over HTTP |
//! | `metrics` | what is measured |
//! | `status` | the one place that maps kinds of errors to gRPC codes and SQLSTATEs |

mod auth;
mod connection;
mod flight;
mod http;
mod metrics;
pub mod options;
pub mod server;
mod sessions;
mod status;
mod stream;

pub use metrics::metrics_page;
pub use options::{Compression, ServerOptions, TlsFiles};
pub use server::Server;
pub use status::sqlstate;
