//! Intervals and durations: `1 year 2 mons 3 days 04:05:06.789`.

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
