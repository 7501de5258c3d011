//! HTTP beside Flight SQL: statements for whoever has `curl`, health and metrics for whoever watches the server.
//!
//! ```text
//! $ curl -s http://127.0.0.1:50052/query -d 'SELECT id, name FROM docs LIMIT 2'
//! {"id":7,"columns":[{"name":"id","type":"BIGINT"},{"name":"name","type":"TEXT"}],"rows":[[1,"a"],[2,"b"]],"row_count":2}
//!
//!  listen.rs ─ TLS, limits ─▶ app.rs (routes) ─ who.rs (log-in, no foreign pages) ─┬─ query.rs    POST /query
//!                                                       │ input.rs, output.rs ◀────┘
//!                                                       ├─ queries.rs  GET /queries, GET and DELETE /query/{id}
//!                                                       └─ watch.rs    /health/live, /health/ready, /metrics
//! ```
//!
//! Each request is a session of its own: what would last longer (`BEGIN`, `SET`, `PREPARE`, temporary tables) is refused
//! with a word on where it works. Errors are JSON with the kind, the SQLSTATE and the place in the statement (`answer.rs`).
//!
//! Limits: HTTP/1.1; 1,000 connections; a body of at most `message_limit` bytes, within 30 seconds; a client that takes
//! nothing for 5 minutes is let go.

mod answer;
mod app;
mod input;
mod listen;
mod output;
mod queries;
mod query;
mod stalled;
mod watch;
mod who;

pub(crate) use app::App;
pub(crate) use listen::{acceptor, serve};
