//! Distances between `f32` or `f16` vectors: what is summed, and what becomes of the sums.

use super::simd::Floats;

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
