//! The `k` nearest rows of a stream, in memory for `k` rows and one batch.
//!
//! ```text
//!  partition 0 ─ batches ─► VectorTopKExec: mode=partial ─┐   distances by the kernel, k rows kept
//!  partition 1 ─ batches ─► VectorTopKExec: mode=partial ─┤
//!                                                         ▼
//!                                              CoalescePartitionsExec
//!                                                         ▼
//!                                            VectorTopKExec: mode=final   the k nearest of those, in order
//! ```
//!
//! Two steps of one operator, as DataFusion aggregates in two steps, and not a merge with a `fetch`:
//! DataFusion's distribution and sorting rules take merges out and put them back (or a
//! `CoalescePartitionsExec` with the same `fetch`) as the order above them is needed or not, so a merge
//! must not be what decides which rows there are.

mod buffer;
mod exec;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use buffer::{bytes_of_rows, own_text};
pub use exec::{QuerySource, TopKMode, VectorTopKExec};
