//! Buckets on one time line without jumps: UTC, or the local clock of one zone read as if it never jumped.
//!
//! ```text
//!          phase      phase + width
//!  ────┬─────┬─────┬────────┬──────▶ ticks (days, s, ms, µs or ns since 1970-01-01 00:00)
//!      │           ts
//!      floor(ts) = the largest phase + k · width that is not after ts
//! ```

use crate::time_bucket::width::Width;

/// Bucket boundaries in ticks. All arithmetic is checked: `None` is "beyond the range of i64".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Local {
    /// Boundaries at `phase + k · width`, `0 ≤ phase < width`.
    Fixed { width: i64, phase: i64 },
    /// Boundaries at the first of every `width`-th month counted from month `phase` (0 = January of year 0),
    /// moved by `shift` ticks.
    Months { width: i64, phase: i64, shift: i64, ticks_per_day: i64 },
}

impl Local {
    /// The boundary at or before `t`.
    #[inline]
    pub(crate) fn floor(&self, t: i64) -> Option<i64> {
        match *self {
            Self::Fixed { width, phase } => {
                let into = i128::from(t) - i128::from(phase);
                i64::try_from(i128::from(t) - into.rem_euclid(i128::from(width))).ok()
            }
            Self::Months { shift, ticks_per_day, .. } => {
                let day = t.checked_sub(shift)?.div_euclid(ticks_per_day);
                self.boundary(self.floor_month(month_of_day(day)))
            }
        }
    }

    /// The boundary after `start`, which is a boundary itself.
    pub(crate) fn next(&self, start: i64) -> Option<i64> {
        match *self {
            Self::Fixed { width, .. } => start.checked_add(width),
            Self::Months { width, shift, ticks_per_day, .. } => {
                let day = start.checked_sub(shift)?.div_euclid(ticks_per_day);
                self.boundary(self.floor_month(month_of_day(day)).checked_add(width)?)
            }
        }
    }

    fn floor_month(&self, month: i64) -> i64 {
        match *self {
            Self::Months { width, phase, .. } => month - (month - phase).rem_euclid(width),
            Self::Fixed { .. } => month,
        }
    }

    fn boundary(&self, month: i64) -> Option<i64> {
        match *self {
            Self::Months { shift, ticks_per_day, .. } => {
                first_day_of_month(month)?.checked_mul(ticks_per_day)?.checked_add(shift)
            }
            Self::Fixed { .. } => None,
        }
    }
}

/// Months since January of year 0 for a day counted from 1970-01-01, proleptic Gregorian.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms" (`civil_from_days`).
pub(crate) fn month_of_day(day: i64) -> i64 {
    let z = day.saturating_add(719_468);
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month0 = if mp < 10 { mp + 2 } else { mp - 10 };
    let year = yoe + era * 400 + i64::from(month0 <= 1);
    year * 12 + month0
}

/// The day, counted from 1970-01-01, of the first of a month counted from January of year 0.
fn first_day_of_month(month: i64) -> Option<i64> {
    let (year, month0) = (month.div_euclid(12), month.rem_euclid(12));
    let y = if month0 <= 1 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = if month0 > 1 { month0 - 2 } else { month0 + 10 };
    let doy = (153 * mp + 2) / 5;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era.checked_mul(146_097)?.checked_add(doe - 719_468)
}

/// Floors every value to its boundary, without a division or branch per value.
///
/// Returns the starts and whether one of them fell below the range of `i64` (it wrapped and is to be
/// ignored; values in NULL slots count, so the caller looks again). Division by the invariant width is a
/// multiplication by its reciprocal: `m = ⌊(2⁶⁴−1)/w⌋` gives a quotient that is at most 1 too small.
pub(crate) fn floor_fixed(values: &[i64], width: i64, phase: i64) -> (Vec<i64>, bool) {
    const SIGN: u64 = 1 << 63;
    let w = width.unsigned_abs();
    let reciprocal = u64::MAX / w;
    let remainder = |n: u64| {
        let q = ((u128::from(n) * u128::from(reciprocal)) >> 64) as u64;
        let r = n.wrapping_sub(q.wrapping_mul(w));
        if r >= w { r - w } else { r }
    };
    // (v − phase) mod w = ((v + 2⁶³) mod w + c) mod w with c = (−2⁶³ − phase) mod w.
    let c = (-(1i128 << 63) - i128::from(phase)).rem_euclid(i128::from(width)) as u64;
    let mut wrapped = false;
    let out = values
        .iter()
        .map(|&v| {
            let r = remainder(v.cast_unsigned() ^ SIGN) + c;
            let r = if r >= w { r - w } else { r };
            let start = v.wrapping_sub(r.cast_signed());
            wrapped |= start > v;
            start
        })
        .collect();
    (out, wrapped)
}

/// The position of `origin` among the boundaries, for [`Local::Fixed`].
pub(crate) fn phase_of(origin: i128, width: i128) -> i128 {
    origin.rem_euclid(width)
}

/// Whether the buckets are at least a day wide, which decides what a repeated hour does to them.
pub(crate) fn is_calendar(width: Width) -> bool {
    match width {
        Width::Months(_) => true,
        Width::Nanos(n) => n >= 86_400_000_000_000,
    }
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, NaiveDate};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_reciprocal_agrees_with_division(
            values in proptest::collection::vec(
                prop_oneof![any::<i64>(), -1000i64..1000, Just(i64::MIN), Just(i64::MAX)], 1..50),
            width in prop_oneof![1i64..20, any::<i64>().prop_map(|w| w.saturating_abs().max(1)), Just(i64::MAX)],
            origin in any::<i64>(),
        ) {
            let phase = phase_of(origin.into(), width.into()) as i64;
            let local = Local::Fixed { width, phase };
            let (starts, wrapped) = floor_fixed(&values, width, phase);
            let wanted: Vec<_> = values.iter().map(|&v| local.floor(v)).collect();
            prop_assert_eq!(wrapped, wanted.iter().any(Option::is_none));
            for (got, want) in starts.iter().zip(&wanted) {
                if let Some(want) = want {
                    prop_assert_eq!(got, want);
                }
            }
        }

        #[test]
        fn civil_arithmetic_agrees_with_chrono(day in -60_000_000i64..60_000_000) {
            let date = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap()
                .checked_add_signed(chrono::TimeDelta::days(day)).unwrap();
            let month = month_of_day(day);
            prop_assert_eq!(month, i64::from(date.year()) * 12 + i64::from(date.month0()));
            let first = date.with_day(1).unwrap();
            prop_assert_eq!(first_day_of_month(month), Some(day - (date - first).num_days()));
        }
    }

    #[test]
    fn the_ends_of_the_range_do_not_wrap() {
        let hour = Local::Fixed { width: 3_600, phase: 0 };
        assert_eq!(hour.floor(i64::MIN), None);
        assert_eq!(hour.next(i64::MAX - 5), None);
        let month = Local::Months { width: 1, phase: 0, shift: 0, ticks_per_day: 86_400 };
        assert_eq!(month.floor(i64::MIN), None);
        assert!(month.floor(i64::MAX).is_some());
    }
}
