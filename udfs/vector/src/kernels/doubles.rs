//! Distances between plain lists of numbers, in `f64`: lists have no fixed length, so every row brings its own.
//!
//! *Accuracy*: eight partial sums of `f64`. *Cost*: portable code, a few times slower than the vector kernels;
//! a column that is searched often should be a `VECTOR`.

use super::Metric;
use super::measure::cosine_distance;

/// `a` and `b` are of one length; `metric` is none of the two for bits.
pub(crate) fn distance(metric: Metric, a: &[f64], b: &[f64]) -> f64 {
    match metric {
        Metric::Cosine => cosine_distance(dot(a, b), dot(a, a), dot(b, b)),
        Metric::NegativeInnerProduct => -dot(a, b),
        Metric::L1 => sum(a, b, |x, y| (x - y).abs()),
        // The bit metrics are refused while the types are checked.
        Metric::L2 | Metric::Hamming | Metric::Jaccard => sum(a, b, |x, y| (x - y) * (x - y)).sqrt(),
    }
}

pub(crate) fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    sum(a, b, |x, y| x * y)
}

#[inline(always)]
fn sum(a: &[f64], b: &[f64], term: impl Fn(f64, f64) -> f64) -> f64 {
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (x, y) in a8.iter().zip(b8) {
        for i in 0..8 {
            sums[i] += term(x[i], y[i]);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| term(*x, *y)).sum();
    sums.iter().sum::<f64>() + rest
}
