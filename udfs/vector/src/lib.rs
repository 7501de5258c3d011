//! Vectors in SQL: types, distance kernels, functions, aggregates and operators.
//!
//! ```sql
//! SELECT id, embedding <=> '[0.1,0.2,0.3]' AS distance FROM docs ORDER BY distance LIMIT 10;
//! ```
//!
//! ```text
//!   types       VECTOR(n) HALFVEC(n) TINYVEC(n) BITVEC(n) ↔ Arrow, texts, casts
//!   kernels     distances over blocks of vectors, one implementation per processor level
//!   functions   l2_distance, cosine_distance, … to_vector, l2_norm, subvector, …
//!   aggregates  avg and sum, which still are DataFusion's own for numbers
//!   planner     <-> <=> <#> <+> <~> <%> + - *
//!   rewrite     casts between vectors and texts that were planned without the types at hand
//!   recognise   which expressions are distances, for whoever plans a search
//! ```
//!
//! This crate has no state and does no I/O.

mod aggregates;
mod functions;
pub mod kernels;
mod planner;
mod recognise;
mod rewrite;
#[cfg(test)]
mod testing;
pub mod types;

pub use aggregates::aggregate_functions;
pub use functions::scalar_functions;
pub use planner::VectorExprPlanner;
pub use recognise::{DistanceCall, distance_call, similarity_call};
pub use rewrite::VectorCastRewrite;
pub use types::VectorTypePlanner;
