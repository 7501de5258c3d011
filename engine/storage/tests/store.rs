//! Stores as a whole: transactions, restarts, checkpoints, compared with a model.

mod store {
    pub(crate) mod support;

    mod model;
    mod recovery;
    mod schema;
    mod simulation;
    mod transactions;
}
