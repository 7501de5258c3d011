//! Distances between `f32` or `f16` vectors.
//!
//! ```text
//!   long rows    q  q  q  q | q  q  q  q | …       one row at a time, read in memory order, because that
//!                x  x  x  x | x  x  x  x | …       is what the memory is fastest at; U registers of sums
//!                                                  hide the latency of the additions
//!   short rows   q  q                              rows shorter than U registers: four rows at a time,
//!                x  x  ×4                          each with one register of sums
//! ```
//!
//! *Input*: a query of `d` elements and `n` rows of `d` elements, one after the other.
//! *Output*: `n` distances. *Accuracy*: a row is summed in 16 to 64 `f32` partial sums per 2,048 elements, so the error stays below `1e-5 · Σ|term|` up to 65,535 dimensions. Whenever a sum leaves the range in which
//! `f32` is trustworthy (overflow, or squares so small that they vanish) the row is computed again in
//! `f64`, so results are right for every finite input. *NaN*: a NaN element makes the result NaN.
//! *Cost*: one pass over the rows.

use super::simd::{Element, Floats};

/// One distance: how sums grow and what becomes of them.
pub(super) trait Measure: 'static {
    type Acc<S: Floats>: Copy;
    /// Whether `finish` looks at the query's squared norm.
    const QUERY_NORM: bool = false;

    unsafe fn start<S: Floats>() -> Self::Acc<S>;
    unsafe fn step<S: Floats>(acc: Self::Acc<S>, q: S::V, x: S::V) -> Self::Acc<S>;
    unsafe fn merge<S: Floats>(a: Self::Acc<S>, b: Self::Acc<S>) -> Self::Acc<S>;
    /// The result, or `None` when the sums cannot be trusted and [`Measure::exact`] must be asked.
    unsafe fn finish<S: Floats>(acc: Self::Acc<S>, query_norm: f32) -> Option<f32>;
    /// The same in `f64`, slowly.
    fn exact(pairs: impl Iterator<Item = (f64, f64)>) -> f64;
}

/// Sums of squares below this may have lost terms to underflow.
const SMALLEST_SQUARE: f32 = 1e-30;

fn trusted_square(sum: f32) -> bool {
    (SMALLEST_SQUARE..=f32::MAX).contains(&sum)
}

/// `sqrt(Σ (q - x)²)`
pub(super) struct L2;
/// `Σ (q - x)²`
pub(super) struct L2Squared;
/// `Σ q·x`
pub(super) struct Dot;
/// `1 - Σ q·x / (|q| |x|)`, NaN when either norm is zero.
pub(super) struct Cosine;
/// `Σ |q - x|`
pub(super) struct L1;

#[inline(always)]
unsafe fn square_step<S: Floats>(acc: S::V, q: S::V, x: S::V) -> S::V {
    // SAFETY: the caller answers for the processor.
    unsafe {
        let d = S::sub(q, x);
        S::mul_add(d, d, acc)
    }
}

impl Measure for L2 {
    type Acc<S: Floats> = S::V;

    #[inline(always)]
    unsafe fn start<S: Floats>() -> S::V {
        // SAFETY: the caller answers for the processor.
        unsafe { S::zero() }
    }

    #[inline(always)]
    unsafe fn step<S: Floats>(acc: S::V, q: S::V, x: S::V) -> S::V {
        // SAFETY: the caller answers for the processor.
        unsafe { square_step::<S>(acc, q, x) }
    }

    #[inline(always)]
    unsafe fn merge<S: Floats>(a: S::V, b: S::V) -> S::V {
        // SAFETY: the caller answers for the processor.
        unsafe { S::add(a, b) }
    }

    #[inline(always)]
    unsafe fn finish<S: Floats>(acc: S::V, _query_norm: f32) -> Option<f32> {
        // SAFETY: the caller answers for the processor.
        let sum = unsafe { S::sum(acc) };
        trusted_square(sum).then(|| sum.sqrt())
    }

    fn exact(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
        L2Squared::exact(pairs).sqrt()
    }
}

impl Measure for L2Squared {
    type Acc<S: Floats> = S::V;

    #[inline(always)]
    unsafe fn start<S: Floats>() -> S::V {
        // SAFETY: the caller answers for the processor.
        unsafe { S::zero() }
    }

    #[inline(always)]
    unsafe fn step<S: Floats>(acc: S::V, q: S::V, x: S::V) -> S::V {
        // SAFETY: the caller answers for the processor.
        unsafe { square_step::<S>(acc, q, x) }
    }

    #[inline(always)]
    unsafe fn merge<S: Floats>(a: S::V, b: S::V) -> S::V {
        // SAFETY: the caller answers for the processor.
        unsafe { S::add(a, b) }
    }

    #[inline(always)]
    unsafe fn finish<S: Floats>(acc: S::V, _query_norm: f32) -> Option<f32> {
        // SAFETY: the caller answers for the processor.
        let sum = unsafe { S::sum(acc) };
        trusted_square(sum).then_some(sum)
    }

    fn exact(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
        pairs.map(|(q, x)| (q - x) * (q - x)).sum()
    }
}

impl Measure for Dot {
    type Acc<S: Floats> = S::V;

    #[inline(always)]
    unsafe fn start<S: Floats>() -> S::V {
        // SAFETY: the caller answers for the processor.
        unsafe { S::zero() }
    }

    #[inline(always)]
    unsafe fn step<S: Floats>(acc: S::V, q: S::V, x: S::V) -> S::V {
        // SAFETY: the caller answers for the processor.
        unsafe { S::mul_add(q, x, acc) }
    }

    #[inline(always)]
    unsafe fn merge<S: Floats>(a: S::V, b: S::V) -> S::V {
        // SAFETY: the caller answers for the processor.
        unsafe { S::add(a, b) }
    }

    #[inline(always)]
    unsafe fn finish<S: Floats>(acc: S::V, _query_norm: f32) -> Option<f32> {
        // SAFETY: the caller answers for the processor.
        let sum = unsafe { S::sum(acc) };
        sum.is_finite().then_some(sum)
    }

    fn exact(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
        pairs.map(|(q, x)| q * x).sum()
    }
}

impl Measure for Cosine {
    type Acc<S: Floats> = (S::V, S::V);
    const QUERY_NORM: bool = true;

    #[inline(always)]
    unsafe fn start<S: Floats>() -> (S::V, S::V) {
        // SAFETY: the caller answers for the processor.
        unsafe { (S::zero(), S::zero()) }
    }

    #[inline(always)]
    unsafe fn step<S: Floats>((dot, norm): (S::V, S::V), q: S::V, x: S::V) -> (S::V, S::V) {
        // SAFETY: the caller answers for the processor.
        unsafe { (S::mul_add(q, x, dot), S::mul_add(x, x, norm)) }
    }

    #[inline(always)]
    unsafe fn merge<S: Floats>(a: (S::V, S::V), b: (S::V, S::V)) -> (S::V, S::V) {
        // SAFETY: the caller answers for the processor.
        unsafe { (S::add(a.0, b.0), S::add(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn finish<S: Floats>((dot, norm): (S::V, S::V), query_norm: f32) -> Option<f32> {
        // SAFETY: the caller answers for the processor.
        let (dot, norm) = unsafe { (S::sum(dot), S::sum(norm)) };
        // The query's norm was summed by the same instructions in the same order, so a vector compared
        // with itself has three equal sums here and its distance is exactly 0.
        (trusted_square(norm) && trusted_square(query_norm) && dot.is_finite())
            .then(|| cosine_distance(f64::from(dot), f64::from(query_norm), f64::from(norm)) as f32)
    }

    fn exact(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
        let (mut dot, mut qq, mut xx) = (0.0, 0.0, 0.0);
        for (q, x) in pairs {
            dot += q * x;
            qq += q * q;
            xx += x * x;
        }
        cosine_distance(dot, qq, xx)
    }
}

impl Measure for L1 {
    type Acc<S: Floats> = S::V;

    #[inline(always)]
    unsafe fn start<S: Floats>() -> S::V {
        // SAFETY: the caller answers for the processor.
        unsafe { S::zero() }
    }

    #[inline(always)]
    unsafe fn step<S: Floats>(acc: S::V, q: S::V, x: S::V) -> S::V {
        // SAFETY: the caller answers for the processor.
        unsafe { S::add(acc, S::abs(S::sub(q, x))) }
    }

    #[inline(always)]
    unsafe fn merge<S: Floats>(a: S::V, b: S::V) -> S::V {
        // SAFETY: the caller answers for the processor.
        unsafe { S::add(a, b) }
    }

    #[inline(always)]
    unsafe fn finish<S: Floats>(acc: S::V, _query_norm: f32) -> Option<f32> {
        // SAFETY: the caller answers for the processor.
        let sum = unsafe { S::sum(acc) };
        sum.is_finite().then_some(sum)
    }

    fn exact(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
        pairs.map(|(q, x)| (q - x).abs()).sum()
    }
}

/// `1 - dot / sqrt(qq · xx)` kept within 0 … 2; NaN when a norm is zero (0 / 0).
pub(super) fn cosine_distance(dot: f64, qq: f64, xx: f64) -> f64 {
    // One root of the product: for equal sums it is exact, so a vector is at distance 0 from itself.
    let product = qq * xx;
    let norms = if product.is_normal() { product.sqrt() } else { qq.sqrt() * xx.sqrt() };
    let similarity = if qq > 0.0 && xx > 0.0 { dot / norms } else { f64::NAN };
    // `clamp` keeps NaN.
    1.0 - similarity.clamp(-1.0, 1.0)
}

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
