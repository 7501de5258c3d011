//! Distances between `f32` or `f16` vectors: the loops over rows.
//!
//! ```text
//!   long rows    q  q  q  q | q  q  q  q | …       one row at a time, read in memory order, because that
//!                x  x  x  x | x  x  x  x | …       is what the memory is fastest at; four registers of
//!                                                  sums hide the latency of the additions
//!   short rows   q  q                              rows shorter than four registers: four rows at a time,
//!                x  x  ×4                          each with one register of sums
//! ```
//!
//! *Input*: a query of `d` elements and `n` rows of `d` elements, one after the other. *Output*: `n` distances.
//! *Accuracy*: a row is summed in 16 to 64 `f32` partial sums per 2,048 elements, so the error stays below
//! `1e-5 · Σ|term|` up to 65,535 dimensions. Where a sum leaves the range in which `f32` can be trusted
//! (overflow, or squares so small that they vanish) the row is computed again in `f64`, so results are right
//! for every finite input. *NaN*: a NaN element makes the result NaN. *Cost*: one pass over the rows.

use super::measure::{Dot, Measure};
use super::simd::{Element, Floats};

/// Registers of sums per long row, and short rows worked on at a time.
const UNROLL: usize = 4;

/// Elements after which the sums of a row begin anew; a multiple of every level's `UNROLL * LANES`.
const BLOCK: usize = 2048;

/// One query against consecutive rows.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn rows<S: Floats, E: Element, M: Measure>(
    query: &[f32],
    rows: &[E],
    query_norm: f32,
    out: &mut [f32],
) {
    let dims = query.len();
    assert_eq!(rows.len(), dims * out.len(), "a block holds out.len() rows of query.len() elements");
    let (groups, rest) =
        if dims < UNROLL * S::LANES { out.as_chunks_mut::<UNROLL>() } else { (&mut [][..], out) };
    let mut at = rows.as_ptr();
    for group in groups {
        // SAFETY: `at` walks over out.len() rows of `dims` elements, checked above; the caller answers
        // for the processor.
        unsafe {
            let sums = short_sums::<S, E, M>(query.as_ptr(), at, dims);
            for (out, sum) in group.iter_mut().zip(sums) {
                *out = finish::<S, f32, E, M>(sum, query.as_ptr(), at, dims, query_norm);
                at = at.add(dims);
            }
        }
    }
    for one in rest {
        // SAFETY: as above.
        unsafe {
            *one = row::<S, f32, E, M>(query.as_ptr(), at, dims, query_norm);
            at = at.add(dims);
        }
    }
}

/// Row `i` of `left` against row `i` of `right`.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn pairs<S: Floats, A: Element, B: Element, M: Measure>(
    left: &[A],
    right: &[B],
    dims: usize,
    out: &mut [f32],
) {
    assert_eq!(left.len(), dims * out.len(), "the left block holds out.len() rows of dims elements");
    assert_eq!(right.len(), dims * out.len(), "the right block holds out.len() rows of dims elements");
    for (i, one) in out.iter_mut().enumerate() {
        // SAFETY: both slices hold out.len() rows of `dims` elements, checked above; the caller answers
        // for the processor.
        unsafe {
            let (a, b) = (left.as_ptr().add(i * dims), right.as_ptr().add(i * dims));
            // The row is in the first-level cache for the second look.
            let norm = if M::QUERY_NORM { squared_norm::<S, A>(a, dims) } else { 0.0 };
            *one = row::<S, A, B, M>(a, b, dims, norm);
        }
    }
}

/// `Σ x²` in exactly the order in which the kernels sum.
///
/// # Safety
/// The processor has the instructions of `S`; `dims` elements are readable at `at`.
#[inline(always)]
pub(super) unsafe fn squared_norm<S: Floats, E: Element>(at: *const E, dims: usize) -> f32 {
    // SAFETY: the caller answers for the length and the processor.
    unsafe { S::sum(long_sums::<S, E, E, Dot>(at, at, dims)) }
}

/// # Safety
/// The processor has the instructions of `S`; `dims` elements are readable at both pointers.
#[inline(always)]
unsafe fn row<S: Floats, Q: Element, E: Element, M: Measure>(
    query: *const Q,
    row: *const E,
    dims: usize,
    query_norm: f32,
) -> f32 {
    // SAFETY: the caller answers for the lengths and the processor.
    unsafe { finish::<S, Q, E, M>(long_sums::<S, Q, E, M>(query, row, dims), query, row, dims, query_norm) }
}

/// # Safety
/// As for [`row`].
#[inline(always)]
unsafe fn finish<S: Floats, Q: Element, E: Element, M: Measure>(
    sums: M::Acc<S>,
    query: *const Q,
    row: *const E,
    dims: usize,
    query_norm: f32,
) -> f32 {
    // SAFETY: the caller answers for the lengths and the processor.
    unsafe {
        match M::finish::<S>(sums, query_norm) {
            Some(value) => value,
            None => again::<Q, E, M>(query, row, dims),
        }
    }
}

/// One row, four registers of sums. (Four names and not an array: the compiler keeps them in registers.)
///
/// # Safety
/// As for [`row`].
#[inline(always)]
unsafe fn long_sums<S: Floats, Q: Element, E: Element, M: Measure>(
    query: *const Q,
    row: *const E,
    dims: usize,
) -> M::Acc<S> {
    // SAFETY: every load lies within the lengths that the caller answers for.
    unsafe {
        let unrolled = dims - dims % (UNROLL * S::LANES);
        let mut total = M::start::<S>();
        let mut i = 0;
        while i < unrolled {
            // Sums of at most BLOCK elements are added up on their own, so that no sum has many terms.
            let stop = unrolled.min(i + BLOCK);
            let (mut a, mut b) = (M::start::<S>(), M::start::<S>());
            let (mut c, mut d) = (M::start::<S>(), M::start::<S>());
            while i < stop {
                a = step::<S, Q, E, M>(a, query, row, i);
                b = step::<S, Q, E, M>(b, query, row, i + S::LANES);
                c = step::<S, Q, E, M>(c, query, row, i + 2 * S::LANES);
                d = step::<S, Q, E, M>(d, query, row, i + 3 * S::LANES);
                i += UNROLL * S::LANES;
            }
            total = M::merge::<S>(total, M::merge::<S>(M::merge::<S>(a, b), M::merge::<S>(c, d)));
        }
        while i + S::LANES <= dims {
            total = step::<S, Q, E, M>(total, query, row, i);
            i += S::LANES;
        }
        if i < dims {
            let q = Q::load_part::<S>(query.add(i), dims - i);
            total = M::step::<S>(total, q, E::load_part::<S>(row.add(i), dims - i));
        }
        total
    }
}

/// # Safety
/// The processor has the instructions of `S`; `at + LANES` elements are readable at both pointers.
#[inline(always)]
unsafe fn step<S: Floats, Q: Element, E: Element, M: Measure>(
    acc: M::Acc<S>,
    query: *const Q,
    row: *const E,
    at: usize,
) -> M::Acc<S> {
    // SAFETY: the caller answers for the lengths and the processor.
    unsafe { M::step::<S>(acc, Q::load::<S>(query.add(at)), E::load::<S>(row.add(at))) }
}

/// Four rows of fewer than `UNROLL · LANES` elements, one register of sums each, in the order of
/// [`long_sums`].
///
/// # Safety
/// The processor has the instructions of `S`; `dims` elements are readable at `query`, `4 · dims` at `rows`.
#[inline(always)]
unsafe fn short_sums<S: Floats, E: Element, M: Measure>(
    query: *const f32,
    rows: *const E,
    dims: usize,
) -> [M::Acc<S>; UNROLL] {
    // SAFETY: every load lies within the lengths that the caller answers for.
    unsafe {
        let (mut a, mut b) = (M::start::<S>(), M::start::<S>());
        let (mut c, mut d) = (M::start::<S>(), M::start::<S>());
        let mut i = 0;
        while i + S::LANES <= dims {
            let q = S::load(query.add(i));
            a = M::step::<S>(a, q, E::load::<S>(rows.add(i)));
            b = M::step::<S>(b, q, E::load::<S>(rows.add(dims + i)));
            c = M::step::<S>(c, q, E::load::<S>(rows.add(2 * dims + i)));
            d = M::step::<S>(d, q, E::load::<S>(rows.add(3 * dims + i)));
            i += S::LANES;
        }
        if i < dims {
            let n = dims - i;
            let q = S::load_part(query.add(i), n);
            a = M::step::<S>(a, q, E::load_part::<S>(rows.add(i), n));
            b = M::step::<S>(b, q, E::load_part::<S>(rows.add(dims + i), n));
            c = M::step::<S>(c, q, E::load_part::<S>(rows.add(2 * dims + i), n));
            d = M::step::<S>(d, q, E::load_part::<S>(rows.add(3 * dims + i), n));
        }
        [a, b, c, d]
    }
}

/// # Safety
/// `dims` elements are readable at both pointers.
#[cold]
#[inline(never)]
unsafe fn again<Q: Element, E: Element, M: Measure>(query: *const Q, row: *const E, dims: usize) -> f32 {
    // SAFETY: the caller answers for the lengths.
    let (q, x) = unsafe { (std::slice::from_raw_parts(query, dims), std::slice::from_raw_parts(row, dims)) };
    M::exact(q.iter().zip(x).map(|(q, x)| (q.to_f64(), x.to_f64()))) as f32
}
