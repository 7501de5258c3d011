//! Hamming and Jaccard distances between packed bit vectors.
//!
//! *Input*: a query of `b` bytes and `n` rows of `b` bytes; bits beyond the dimensions are zero.
//! *Output*: `n` distances; counts are exact. *Zero vectors*: the Jaccard distance of two vectors that
//! share no set bit is 1, also when both are all zeros (pgvector's rule). *Cost*: one pass over the rows.

use super::simd::Bits;

/// One distance over population counts.
pub(super) trait BitMeasure: 'static {
    type Acc<S: Bits>: Copy;

    unsafe fn start<S: Bits>() -> Self::Acc<S>;
    unsafe fn step<S: Bits>(acc: Self::Acc<S>, q: S::V, x: S::V) -> Self::Acc<S>;
    unsafe fn merge<S: Bits>(a: Self::Acc<S>, b: Self::Acc<S>) -> Self::Acc<S>;
    unsafe fn finish<S: Bits>(acc: Self::Acc<S>) -> f32;
}

/// The number of bits that differ.
pub(super) struct Hamming;
/// `1 - |q ∧ x| / |q ∨ x|`
pub(super) struct Jaccard;

impl BitMeasure for Hamming {
    type Acc<S: Bits> = S::Acc;

    #[inline(always)]
    unsafe fn start<S: Bits>() -> S::Acc {
        // SAFETY: the caller answers for the processor.
        unsafe { S::zero() }
    }

    #[inline(always)]
    unsafe fn step<S: Bits>(acc: S::Acc, q: S::V, x: S::V) -> S::Acc {
        // SAFETY: the caller answers for the processor.
        unsafe { S::count(S::xor(q, x), acc) }
    }

    #[inline(always)]
    unsafe fn merge<S: Bits>(a: S::Acc, b: S::Acc) -> S::Acc {
        // SAFETY: the caller answers for the processor.
        unsafe { S::add(a, b) }
    }

    #[inline(always)]
    unsafe fn finish<S: Bits>(acc: S::Acc) -> f32 {
        // SAFETY: the caller answers for the processor.
        unsafe { S::sum(acc) as f32 }
    }
}

impl BitMeasure for Jaccard {
    type Acc<S: Bits> = (S::Acc, S::Acc);

    #[inline(always)]
    unsafe fn start<S: Bits>() -> (S::Acc, S::Acc) {
        // SAFETY: the caller answers for the processor.
        unsafe { (S::zero(), S::zero()) }
    }

    #[inline(always)]
    unsafe fn step<S: Bits>((both, any): (S::Acc, S::Acc), q: S::V, x: S::V) -> (S::Acc, S::Acc) {
        // SAFETY: the caller answers for the processor.
        unsafe { (S::count(S::and(q, x), both), S::count(S::or(q, x), any)) }
    }

    #[inline(always)]
    unsafe fn merge<S: Bits>(a: (S::Acc, S::Acc), b: (S::Acc, S::Acc)) -> (S::Acc, S::Acc) {
        // SAFETY: the caller answers for the processor.
        unsafe { (S::add(a.0, b.0), S::add(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn finish<S: Bits>((both, any): (S::Acc, S::Acc)) -> f32 {
        // SAFETY: the caller answers for the processor.
        let (both, any) = unsafe { (S::sum(both), S::sum(any)) };
        if both == 0 { 1.0 } else { (1.0 - both as f64 / any as f64) as f32 }
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
pub(super) unsafe fn rows<S: Bits, M: BitMeasure>(query: &[u8], rows: &[u8], out: &mut [f32]) {
    let bytes = query.len();
    assert_eq!(rows.len(), bytes * out.len(), "a block holds out.len() rows of query.len() bytes");
    let (groups, rest) =
        if bytes < UNROLL * S::STEP { out.as_chunks_mut::<UNROLL>() } else { (&mut [][..], out) };
    let mut at = rows.as_ptr();
    for group in groups {
        // SAFETY: `at` walks over out.len() rows of `bytes` bytes, checked above; the caller answers for
        // the processor.
        unsafe {
            let sums = short_sums::<S, M>(query.as_ptr(), at, bytes);
            for (out, sum) in group.iter_mut().zip(sums) {
                *out = M::finish::<S>(sum);
            }
            at = at.add(UNROLL * bytes);
        }
    }
    for one in rest {
        // SAFETY: as above.
        unsafe {
            *one = M::finish::<S>(long_sums::<S, M>(query.as_ptr(), at, bytes));
            at = at.add(bytes);
        }
    }
}

/// Row `i` of `left` against row `i` of `right`.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn pairs<S: Bits, M: BitMeasure>(left: &[u8], right: &[u8], bytes: usize, out: &mut [f32]) {
    assert_eq!(left.len(), bytes * out.len(), "the left block holds out.len() rows");
    assert_eq!(right.len(), bytes * out.len(), "the right block holds out.len() rows");
    for (i, one) in out.iter_mut().enumerate() {
        // SAFETY: both slices hold out.len() rows of `bytes` bytes, checked above; the caller answers for
        // the processor.
        unsafe {
            let (a, b) = (left.as_ptr().add(i * bytes), right.as_ptr().add(i * bytes));
            *one = M::finish::<S>(long_sums::<S, M>(a, b, bytes));
        }
    }
}

/// One row, four registers of sums. (Four names and not an array: the compiler keeps them in registers.)
///
/// # Safety
/// The processor has the instructions of `S`; `bytes` are readable at both pointers.
#[inline(always)]
unsafe fn long_sums<S: Bits, M: BitMeasure>(query: *const u8, row: *const u8, bytes: usize) -> M::Acc<S> {
    // SAFETY: every load lies within the lengths that the caller answers for.
    unsafe {
        let mut a = M::start::<S>();
        let mut i = 0;
        if bytes >= UNROLL * S::STEP {
            let (mut b, mut c, mut d) = (M::start::<S>(), M::start::<S>(), M::start::<S>());
            while i + UNROLL * S::STEP <= bytes {
                a = step::<S, M>(a, query, row, i);
                b = step::<S, M>(b, query, row, i + S::STEP);
                c = step::<S, M>(c, query, row, i + 2 * S::STEP);
                d = step::<S, M>(d, query, row, i + 3 * S::STEP);
                i += UNROLL * S::STEP;
            }
            a = M::merge::<S>(M::merge::<S>(a, b), M::merge::<S>(c, d));
        }
        while i + S::STEP <= bytes {
            a = step::<S, M>(a, query, row, i);
            i += S::STEP;
        }
        if i < bytes {
            let n = bytes - i;
            a = M::step::<S>(a, S::load_part(query.add(i), n), S::load_part(row.add(i), n));
        }
        a
    }
}

/// # Safety
/// The processor has the instructions of `S`; `at + STEP` bytes are readable at both pointers.
#[inline(always)]
unsafe fn step<S: Bits, M: BitMeasure>(
    acc: M::Acc<S>,
    query: *const u8,
    row: *const u8,
    at: usize,
) -> M::Acc<S> {
    // SAFETY: the caller answers for the lengths and the processor.
    unsafe { M::step::<S>(acc, S::load(query.add(at)), S::load(row.add(at))) }
}

/// Four rows of fewer than `UNROLL · STEP` bytes, one register of sums each.
///
/// # Safety
/// The processor has the instructions of `S`; `bytes` are readable at `query`, `4 · bytes` at `rows`.
#[inline(always)]
unsafe fn short_sums<S: Bits, M: BitMeasure>(
    query: *const u8,
    rows: *const u8,
    bytes: usize,
) -> [M::Acc<S>; UNROLL] {
    // SAFETY: every load lies within the lengths that the caller answers for.
    unsafe {
        let (mut a, mut b) = (M::start::<S>(), M::start::<S>());
        let (mut c, mut d) = (M::start::<S>(), M::start::<S>());
        let mut i = 0;
        while i + S::STEP <= bytes {
            let q = S::load(query.add(i));
            a = M::step::<S>(a, q, S::load(rows.add(i)));
            b = M::step::<S>(b, q, S::load(rows.add(bytes + i)));
            c = M::step::<S>(c, q, S::load(rows.add(2 * bytes + i)));
            d = M::step::<S>(d, q, S::load(rows.add(3 * bytes + i)));
            i += S::STEP;
        }
        if i < bytes {
            let n = bytes - i;
            let q = S::load_part(query.add(i), n);
            a = M::step::<S>(a, q, S::load_part(rows.add(i), n));
            b = M::step::<S>(b, q, S::load_part(rows.add(bytes + i), n));
            c = M::step::<S>(c, q, S::load_part(rows.add(2 * bytes + i), n));
            d = M::step::<S>(d, q, S::load_part(rows.add(3 * bytes + i), n));
        }
        [a, b, c, d]
    }
}
