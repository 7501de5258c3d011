//! Repeated measurements of one thing, and what is told of them.

use serde_json::{Value, json};

/// Milliseconds of every run, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    pub(crate) fn push(&mut self, ms: f64) {
        self.0.push(ms);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The middle one; of an even number the mean of the two. NaN without runs.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let half = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[half],
            _ => f64::midpoint(sorted[half - 1], sorted[half]),
        }
    }

    pub(crate) fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    pub(crate) fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "median_ms": self.median(), "min_ms": self.min(), "max_ms": self.max(), "runs_ms": self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_and_none() {
        let times = |all: &[f64]| {
            let mut times = Times::default();
            all.iter().for_each(|ms| times.push(*ms));
            times
        };
        assert_eq!(times(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(times(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert_eq!((times(&[4.0, 1.0]).min(), times(&[4.0, 1.0]).max()), (1.0, 4.0));
        assert!(times(&[]).median().is_nan());
    }
}
