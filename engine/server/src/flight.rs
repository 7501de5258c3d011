//! Arrow Flight SQL.
//!
//! ```text
//!  gate.rs      every call: who is it, which session, until when; then
//!  service.rs   one method for each message of the protocol
//!  run.rs       statements: run, keep the result, give it out      prepared.rs   the same with parameters
//!  ingest.rs    batches into tables                                 catalog.rs    lists of tables, keys, types
//!  info.rs      what the server can do                              types.rs      its SQL types
//! ```
//!
//! `GetFlightInfo` runs a statement: what writes is done when it answers, whether or not its (empty) result is fetched;
//! a query computes its first row when `DoGet` asks for it. Its ticket can be redeemed again and runs the query again.
//!
//! Limits: no Substrait, no DoExchange; one endpoint for a result.

mod catalog;
mod gate;
mod info;
mod ingest;
mod prepared;
mod run;
mod service;
mod session_actions;
mod types;

pub(crate) use gate::Gate;
