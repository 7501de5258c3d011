//! Intervals and durations: `1 year 2 mons 3 days 04:05:06.789`.

use std::fmt::Write as _;

use arrow::array::{Array, AsArray, IntervalDayTimeArray, IntervalMonthDayNanoArray, IntervalYearMonthArray};
use arrow::datatypes::{
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType,
    IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, TimeUnit,
};

/// The parts of an interval: months, days, nanoseconds.
pub(super) fn interval<'a>(
    unit: IntervalUnit,
    array: &'a dyn Array,
) -> Box<dyn Fn(usize) -> (i64, i64, i128) + Send + 'a> {
    match unit {
        IntervalUnit::YearMonth => {
            let a: &IntervalYearMonthArray = array.as_primitive::<IntervalYearMonthType>();
            Box::new(move |i| (i64::from(a.value(i)), 0, 0))
        }
        IntervalUnit::DayTime => {
            let a: &IntervalDayTimeArray = array.as_primitive::<IntervalDayTimeType>();
            Box::new(move |i| {
                let v = a.value(i);
                (0, i64::from(v.days), i128::from(v.milliseconds) * 1_000_000)
            })
        }
        IntervalUnit::MonthDayNano => {
            let a: &IntervalMonthDayNanoArray = array.as_primitive::<IntervalMonthDayNanoType>();
            Box::new(move |i| {
                let v = a.value(i);
                (i64::from(v.months), i64::from(v.days), i128::from(v.nanoseconds))
            })
        }
    }
}

/// The parts of a duration: nanoseconds only.
pub(super) fn duration<'a>(
    unit: TimeUnit,
    array: &'a dyn Array,
) -> Box<dyn Fn(usize) -> (i64, i64, i128) + Send + 'a> {
    match unit {
        TimeUnit::Second => {
            let a = array.as_primitive::<DurationSecondType>();
            Box::new(move |i| (0, 0, i128::from(a.value(i)) * 1_000_000_000))
        }
        TimeUnit::Millisecond => {
            let a = array.as_primitive::<DurationMillisecondType>();
            Box::new(move |i| (0, 0, i128::from(a.value(i)) * 1_000_000))
        }
        TimeUnit::Microsecond => {
            let a = array.as_primitive::<DurationMicrosecondType>();
            Box::new(move |i| (0, 0, i128::from(a.value(i)) * 1_000))
        }
        TimeUnit::Nanosecond => {
            let a = array.as_primitive::<DurationNanosecondType>();
            Box::new(move |i| (0, 0, i128::from(a.value(i))))
        }
    }
}

/// PostgreSQL's form: `1 year 2 mons 3 days 04:05:06.789`; `00:00:00` for nothing.
pub(super) fn write_span(months: i64, days: i64, nanos: i128, out: &mut String) {
    let start = out.len();
    let mut part = |n: i64, one: &str, many: &str| {
        if n != 0 {
            let gap = if out.len() > start { " " } else { "" };
            let _ = write!(out, "{gap}{n} {}", if n == 1 { one } else { many });
        }
    };
    part(months / 12, "year", "years");
    part(months % 12, "mon", "mons");
    part(days, "day", "days");
    if nanos != 0 || out.len() == start {
        let gap = if out.len() > start { " " } else { "" };
        let sign = if nanos < 0 { "-" } else { "" };
        let whole = nanos.unsigned_abs() / 1_000_000_000;
        let rest = nanos.unsigned_abs() % 1_000_000_000;
        let _ = write!(out, "{gap}{sign}{:02}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
        if rest != 0 {
            let digits = format!("{rest:09}");
            let _ = write!(out, ".{}", digits.trim_end_matches('0'));
        }
    }
}
