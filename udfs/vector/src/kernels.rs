//! Distance kernels over blocks of vectors.
//!
//! ```text
//!   PreparedQuery ─┐
//!                  ├─ distances ──┐
//!   column ────────┘              ├─ table of the detected processor ─ float.rs · int.rs · bits.rs
//!   column, column ── pairwise ───┘                                         over simd.rs
//! ```
//!
//! The results of all processors agree with an `f64` computation of the same formula: exactly for bits and
//! integer sums, within `1e-5 · Σ|term|` for floats.

mod bits;
mod dispatch;
pub(crate) mod doubles;
mod float;
mod int;
mod measure;
mod metric;
mod pairwise;
mod portable;
mod query;
pub mod raw;
mod rows;
mod simd;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
#[cfg(target_arch = "aarch64")]
mod neon;

#[cfg(test)]
mod tests;

use triune_common::{Error, Result};

pub use dispatch::CpuLevel;
pub use metric::Metric;
pub use pairwise::pairwise;
pub use query::{PreparedQuery, distances};
pub use rows::VectorRows;

use crate::types::VectorType;

/// # Errors
/// The two types have different numbers of dimensions, or one is of bits and the other is not.
pub(crate) fn check_dims(a: VectorType, b: VectorType) -> Result<()> {
    use crate::types::VectorKind::BitVec;
    if (a.kind == BitVec) != (b.kind == BitVec) {
        return Err(Error::invalid(format!("{a} and {b} cannot be compared"))
            .with_hint("binary_quantize(v) makes a BITVEC of a vector"));
    }
    if a.dims != b.dims {
        return Err(Error::invalid(format!(
            "different vector dimensions {} and {} ({a} and {b})",
            a.dims, b.dims
        )));
    }
    Ok(())
}
