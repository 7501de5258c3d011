//! Distances between `i8` vectors: sums are exact integers, only the last step (root, quotient) is a float.
//!
//! *Input*: a query of `d` bytes and `n` rows of `d` bytes. *Output*: `n` distances, each the correctly
//! rounded `f32` of the exact value (cosine: of an `f64` quotient of exact sums). *Limits*: `d` ≤ 65,535,
//! so that a lane's `i32` sum of at most `d/8 · 2 · 255²` cannot overflow. *Cost*: one pass over the rows.

use super::measure::cosine_distance;
use super::simd::Ints;
use crate::types::MAX_DIMS;

/// One distance over exact sums.
pub(super) trait IntMeasure: 'static {
    type Acc<S: Ints>: Copy;
    const QUERY_NORM: bool = false;

    unsafe fn start<S: Ints>() -> Self::Acc<S>;
    unsafe fn step<S: Ints>(acc: Self::Acc<S>, q: S::W, x: S::W) -> Self::Acc<S>;
    unsafe fn merge<S: Ints>(a: Self::Acc<S>, b: Self::Acc<S>) -> Self::Acc<S>;
    unsafe fn finish<S: Ints>(acc: Self::Acc<S>, query_norm: i64) -> f32;
}

#[inline(always)]
unsafe fn square_step<S: Ints>(acc: S::Acc, q: S::W, x: S::W) -> S::Acc {
    // SAFETY: the caller answers for the processor.
    unsafe {
        let d = S::sub(q, x);
        S::mul_add(d, d, acc)
    }
}

macro_rules! one_sum {
    ($name:ident, $doc:literal, |$acc:ident, $q:ident, $x:ident| $step:expr, |$sum:ident| $finish:expr) => {
        #[doc = $doc]
        pub(super) struct $name;

        impl IntMeasure for $name {
            type Acc<S: Ints> = S::Acc;

            #[inline(always)]
            unsafe fn start<S: Ints>() -> S::Acc {
                // SAFETY: the caller answers for the processor.
                unsafe { S::zero() }
            }

            #[inline(always)]
            unsafe fn step<S: Ints>($acc: S::Acc, $q: S::W, $x: S::W) -> S::Acc {
                // SAFETY: the caller answers for the processor.
                unsafe { $step }
            }

            #[inline(always)]
            unsafe fn merge<S: Ints>(a: S::Acc, b: S::Acc) -> S::Acc {
                // SAFETY: the caller answers for the processor.
                unsafe { S::add(a, b) }
            }

            #[inline(always)]
            unsafe fn finish<S: Ints>(acc: S::Acc, _query_norm: i64) -> f32 {
                // SAFETY: the caller answers for the processor.
                let $sum = unsafe { S::sum(acc) };
                $finish
            }
        }
    };
}

one_sum!(IntL2, "`sqrt(Σ (q - x)²)`", |acc, q, x| square_step::<S>(acc, q, x), |sum| (sum as f64).sqrt()
    as f32);
one_sum!(IntL2Squared, "`Σ (q - x)²`", |acc, q, x| square_step::<S>(acc, q, x), |sum| sum as f32);
one_sum!(IntDot, "`Σ q·x`", |acc, q, x| S::mul_add(q, x, acc), |sum| sum as f32);
one_sum!(IntL1, "`Σ |q - x|`", |acc, q, x| S::mul_add(S::abs(S::sub(q, x)), S::ones(), acc), |sum| sum
    as f32);

/// `1 - Σ q·x / (|q| |x|)`, NaN when either norm is zero.
pub(super) struct IntCosine;

impl IntMeasure for IntCosine {
    type Acc<S: Ints> = (S::Acc, S::Acc);
    const QUERY_NORM: bool = true;

    #[inline(always)]
    unsafe fn start<S: Ints>() -> (S::Acc, S::Acc) {
        // SAFETY: the caller answers for the processor.
        unsafe { (S::zero(), S::zero()) }
    }

    #[inline(always)]
    unsafe fn step<S: Ints>((dot, norm): (S::Acc, S::Acc), q: S::W, x: S::W) -> (S::Acc, S::Acc) {
        // SAFETY: the caller answers for the processor.
        unsafe { (S::mul_add(q, x, dot), S::mul_add(x, x, norm)) }
    }

    #[inline(always)]
    unsafe fn merge<S: Ints>(a: (S::Acc, S::Acc), b: (S::Acc, S::Acc)) -> (S::Acc, S::Acc) {
        // SAFETY: the caller answers for the processor.
        unsafe { (S::add(a.0, b.0), S::add(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn finish<S: Ints>((dot, norm): (S::Acc, S::Acc), query_norm: i64) -> f32 {
        // SAFETY: the caller answers for the processor.
        let (dot, norm) = unsafe { (S::sum(dot), S::sum(norm)) };
        cosine_distance(dot as f64, query_norm as f64, norm as f64) as f32
    }
}

/// Registers of sums per long row, and short rows worked on at a time.
const UNROLL: usize = 4;

/// One query against consecutive rows: long rows one by one in memory order, short ones four at a time (see
/// `float.rs` for the reason).
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn rows<S: Ints, M: IntMeasure>(
    query: &[i8],
    rows: &[i8],
    query_norm: i64,
    out: &mut [f32],
) {
    let dims = query.len();
    assert!(dims <= MAX_DIMS, "i32 sums are exact up to {MAX_DIMS} dimensions");
    assert_eq!(rows.len(), dims * out.len(), "a block holds out.len() rows of query.len() elements");
    let (groups, rest) =
        if dims < UNROLL * S::STEP { out.as_chunks_mut::<UNROLL>() } else { (&mut [][..], out) };
    let mut at = rows.as_ptr();
    for group in groups {
        // SAFETY: `at` walks over out.len() rows of `dims` elements, checked above; the caller answers
        // for the processor.
        unsafe {
            let sums = short_sums::<S, M>(query.as_ptr(), at, dims);
            for (out, sum) in group.iter_mut().zip(sums) {
                *out = M::finish::<S>(sum, query_norm);
            }
            at = at.add(UNROLL * dims);
        }
    }
    for one in rest {
        // SAFETY: as above.
        unsafe {
            *one = M::finish::<S>(long_sums::<S, M>(query.as_ptr(), at, dims), query_norm);
            at = at.add(dims);
        }
    }
}

/// Row `i` of `left` against row `i` of `right`.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn pairs<S: Ints, M: IntMeasure>(left: &[i8], right: &[i8], dims: usize, out: &mut [f32]) {
    assert!(dims <= MAX_DIMS, "i32 sums are exact up to {MAX_DIMS} dimensions");
    assert_eq!(left.len(), dims * out.len(), "the left block holds out.len() rows of dims elements");
    assert_eq!(right.len(), dims * out.len(), "the right block holds out.len() rows of dims elements");
    for (i, one) in out.iter_mut().enumerate() {
        // SAFETY: both slices hold out.len() rows of `dims` elements, checked above; the caller answers
        // for the processor.
        unsafe {
            let (a, b) = (left.as_ptr().add(i * dims), right.as_ptr().add(i * dims));
            let norm = if M::QUERY_NORM { squared_norm(std::slice::from_raw_parts(a, dims)) } else { 0 };
            *one = M::finish::<S>(long_sums::<S, M>(a, b, dims), norm);
        }
    }
}

/// `Σ x²`, exact.
#[inline(always)]
pub(super) fn squared_norm(x: &[i8]) -> i64 {
    // A chunk of 32,768 squares of at most 2¹⁴ fits an i32.
    x.chunks(1 << 15).map(|c| i64::from(c.iter().map(|&v| i32::from(v) * i32::from(v)).sum::<i32>())).sum()
}

/// One row, four registers of sums. (Four names and not an array: the compiler keeps them in registers.)
///
/// # Safety
/// The processor has the instructions of `S`; `dims` bytes are readable at both pointers.
#[inline(always)]
unsafe fn long_sums<S: Ints, M: IntMeasure>(query: *const i8, row: *const i8, dims: usize) -> M::Acc<S> {
    // SAFETY: every load lies within the lengths that the caller answers for.
    unsafe {
        let mut a = M::start::<S>();
        let mut i = 0;
        if dims >= UNROLL * S::STEP {
            let (mut b, mut c, mut d) = (M::start::<S>(), M::start::<S>(), M::start::<S>());
            while i + UNROLL * S::STEP <= dims {
                a = step::<S, M>(a, query, row, i);
                b = step::<S, M>(b, query, row, i + S::STEP);
                c = step::<S, M>(c, query, row, i + 2 * S::STEP);
                d = step::<S, M>(d, query, row, i + 3 * S::STEP);
                i += UNROLL * S::STEP;
            }
            a = M::merge::<S>(M::merge::<S>(a, b), M::merge::<S>(c, d));
        }
        while i + S::STEP <= dims {
            a = step::<S, M>(a, query, row, i);
            i += S::STEP;
        }
        if i < dims {
            let n = dims - i;
            a = M::step::<S>(a, S::load_part(query.add(i), n), S::load_part(row.add(i), n));
        }
        a
    }
}

/// # Safety
/// The processor has the instructions of `S`; `at + STEP` bytes are readable at both pointers.
#[inline(always)]
unsafe fn step<S: Ints, M: IntMeasure>(
    acc: M::Acc<S>,
    query: *const i8,
    row: *const i8,
    at: usize,
) -> M::Acc<S> {
    // SAFETY: the caller answers for the lengths and the processor.
    unsafe { M::step::<S>(acc, S::load(query.add(at)), S::load(row.add(at))) }
}

/// Four rows of fewer than `UNROLL · STEP` bytes, one register of sums each.
///
/// # Safety
/// The processor has the instructions of `S`; `dims` bytes are readable at `query`, `4 · dims` at `rows`.
#[inline(always)]
unsafe fn short_sums<S: Ints, M: IntMeasure>(
    query: *const i8,
    rows: *const i8,
    dims: usize,
) -> [M::Acc<S>; UNROLL] {
    // SAFETY: every load lies within the lengths that the caller answers for.
    unsafe {
        let (mut a, mut b) = (M::start::<S>(), M::start::<S>());
        let (mut c, mut d) = (M::start::<S>(), M::start::<S>());
        let mut i = 0;
        while i + S::STEP <= dims {
            let q = S::load(query.add(i));
            a = M::step::<S>(a, q, S::load(rows.add(i)));
            b = M::step::<S>(b, q, S::load(rows.add(dims + i)));
            c = M::step::<S>(c, q, S::load(rows.add(2 * dims + i)));
            d = M::step::<S>(d, q, S::load(rows.add(3 * dims + i)));
            i += S::STEP;
        }
        if i < dims {
            let n = dims - i;
            let q = S::load_part(query.add(i), n);
            a = M::step::<S>(a, q, S::load_part(rows.add(i), n));
            b = M::step::<S>(b, q, S::load_part(rows.add(dims + i), n));
            c = M::step::<S>(c, q, S::load_part(rows.add(2 * dims + i), n));
            d = M::step::<S>(d, q, S::load_part(rows.add(3 * dims + i), n));
        }
        [a, b, c, d]
    }
}
