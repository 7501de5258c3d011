//! The kernels on plain slices, at a processor level of one's choice: for benchmarks and comparisons.
//!
//! Rows lie one after the other; `rows.len()` is `query.len() * out.len()`.

use half::f16;
use triune_common::{Error, Result};

use super::dispatch::{ByMeasure, CpuLevel};
use super::int;
use crate::types::MAX_DIMS;

/// What is measured between vectors of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    L2,
    L2Squared,
    /// The inner product, a similarity.
    Dot,
    Cosine,
    L1,
}

impl Measure {
    pub const ALL: [Self; 5] = [Self::L2, Self::L2Squared, Self::Dot, Self::Cosine, Self::L1];

    fn of<F: Copy>(self, table: &ByMeasure<F>) -> F {
        match self {
            Self::L2 => table.l2,
            Self::L2Squared => table.l2_squared,
            Self::Dot => table.dot,
            Self::Cosine => table.cosine,
            Self::L1 => table.l1,
        }
    }
}

/// What is measured between vectors of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BitMeasure {
    Hamming,
    Jaccard,
}

fn check(query: usize, rows: usize, out: usize) -> Result<()> {
    if query > MAX_DIMS {
        return Err(Error::invalid(format!("{query} dimensions, at most {MAX_DIMS} are accepted")));
    }
    if rows != query * out {
        return Err(Error::invalid(format!("{rows} elements are not {out} rows of {query}")));
    }
    Ok(())
}

/// A query against rows of `f32`.
///
/// # Errors
/// The lengths do not fit, or there are more than [`MAX_DIMS`] dimensions. So for the functions below.
pub fn rows_f32(cpu: CpuLevel, measure: Measure, query: &[f32], rows: &[f32], out: &mut [f32]) -> Result<()> {
    check(query.len(), rows.len(), out.len())?;
    let table = cpu.table();
    // SAFETY: a CpuLevel exists only for a level that this processor has.
    unsafe {
        let norm = (table.single_norm)(query);
        measure.of(&table.f32_rows)(query, rows, norm, out);
    }
    Ok(())
}

/// A query of `f32` against rows of `f16`.
pub fn rows_f16(cpu: CpuLevel, measure: Measure, query: &[f32], rows: &[f16], out: &mut [f32]) -> Result<()> {
    check(query.len(), rows.len(), out.len())?;
    let table = cpu.table();
    // SAFETY: a CpuLevel exists only for a level that this processor has.
    unsafe {
        let norm = (table.half_norm)(query);
        measure.of(&table.f16_rows)(query, rows, norm, out);
    }
    Ok(())
}

/// A query of `i8` against rows of `i8`.
pub fn rows_i8(cpu: CpuLevel, measure: Measure, query: &[i8], rows: &[i8], out: &mut [f32]) -> Result<()> {
    check(query.len(), rows.len(), out.len())?;
    let norm = int::squared_norm(query);
    // SAFETY: a CpuLevel exists only for a level that this processor has.
    unsafe { measure.of(&cpu.table().i8_rows)(query, rows, norm, out) }
    Ok(())
}

/// A query of packed bits against rows of packed bits.
pub fn rows_bits(
    cpu: CpuLevel,
    measure: BitMeasure,
    query: &[u8],
    rows: &[u8],
    out: &mut [f32],
) -> Result<()> {
    check(query.len(), rows.len(), out.len())?;
    let table = cpu.table();
    let kernel = match measure {
        BitMeasure::Hamming => table.bit_rows.hamming,
        BitMeasure::Jaccard => table.bit_rows.jaccard,
    };
    // SAFETY: a CpuLevel exists only for a level that this processor has.
    unsafe { kernel(query, rows, out) }
    Ok(())
}

/// Row `i` of `left` against row `i` of `right`, both of `f32`.
pub fn pairs_f32(
    cpu: CpuLevel,
    measure: Measure,
    left: &[f32],
    right: &[f32],
    dims: usize,
    out: &mut [f32],
) -> Result<()> {
    check(dims, left.len(), out.len())?;
    check(dims, right.len(), out.len())?;
    // SAFETY: a CpuLevel exists only for a level that this processor has.
    unsafe { measure.of(&cpu.table().f32_pairs)(left, right, dims, out) }
    Ok(())
}
