//! `vector_search` from the text of a statement to its rows, in a small session that has this crate's
//! rules where the real one has them.

mod answers;
mod errors;
mod plans;
mod property;
mod support;
