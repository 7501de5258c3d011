//! Stores as a whole: transactions, restarts, checkpoints, compared with a model.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a helper that fails fails its test; providers are read through a plain session"
)]

mod store {
    pub(crate) mod support;

    mod filters;
    mod indexes;
    mod keeper;
    mod model;
    mod recovery;
    mod remote;
    mod schema;
    mod simulation;
    mod transactions;
}
