//! ```sql
//! SELECT date_diff('month', a, b), date_sub('month', a, b), age(b, a), make_timestamp(2024, 2, 29, 12, 0, 1.5) FROM t;
//! ```
//!
//! Differences of times, and times from their parts. `date_diff` counts the borders between two times, `date_sub` the
//! whole parts that lie between them, both as in DuckDB (for which a week is seven days), both negative when the second time is the earlier one. `age` and
//! `make_timestamp` are PostgreSQL's: `age` takes years and months first, then days and time. Of TIMESTAMPTZ the clocks
//! of their zone count. NULL in any argument gives NULL; an unknown part and a day that does not exist are errors.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, IntervalMonthDayNanoArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Float64Type, Int64Type, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use chrono::{Datelike, Months, NaiveDate, NaiveDateTime, TimeDelta, Timelike};
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;
use triune_common::Error;

use crate::define::{any_null, define, is_number, is_text, text};
use crate::moments::{Moments, nanos, to_local};

pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        define(
            "date_diff(part, from, to)",
            &["datediff"],
            part_and_two,
            |_| DataType::Int64,
            |args| over_two(args, |part, a, b| Some(place(part, b)? - place(part, a)?)),
        ),
        define(
            "date_sub(part, from, to)",
            &["datesub"],
            part_and_two,
            |_| DataType::Int64,
            |args| over_two(args, whole),
        ),
        define(
            "age(to, from)",
            &[],
            two_moments,
            |_| DataType::Interval(IntervalUnit::MonthDayNano),
            |args| {
                let (to, from) = (local(&args[0])?, local(&args[1])?);
                let all = to.into_iter().zip(from).map(|(to, from)| Some(age(to?, from?)));
                Ok(Arc::new(all.collect::<IntervalMonthDayNanoArray>()))
            },
        ),
        define(
            "make_timestamp(year, month, day, hour, minute, seconds)",
            &[],
            |types| {
                let [rest @ .., seconds] = types else { return None };
                let integers = rest.len() == 5 && rest.iter().all(|t| t.is_integer() || t.is_null());
                let mut taken = vec![DataType::Int64; 5];
                taken.push(DataType::Float64);
                (integers && is_number(seconds)).then_some(taken)
            },
            |_| DataType::Timestamp(TimeUnit::Nanosecond, None),
            make_timestamp,
        ),
    ]
}

fn is_moment(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..))
}

/// Texts and NULLs are timestamps.
fn moment(data_type: &DataType) -> Option<DataType> {
    if is_text(data_type) {
        return Some(DataType::Timestamp(TimeUnit::Nanosecond, None));
    }
    is_moment(data_type).then(|| data_type.clone())
}

fn two_moments(types: &[DataType]) -> Option<Vec<DataType>> {
    let [a, b] = types else { return None };
    Some(vec![moment(a)?, moment(b)?])
}

fn part_and_two(types: &[DataType]) -> Option<Vec<DataType>> {
    let [part, a, b] = types else { return None };
    is_text(part).then_some(())?;
    Some(vec![DataType::Utf8, moment(a)?, moment(b)?])
}

/// What clocks show.
fn local(array: &ArrayRef) -> Result<Vec<Option<NaiveDateTime>>> {
    let moments = Moments::of(array)?;
    let zone = moments.zone;
    let shown = |m: NaiveDateTime| match zone {
        Some(zone) => to_local(m, zone),
        None => Some(m),
    };
    Ok(moments.values.into_iter().map(|m| m.and_then(shown)).collect())
}

fn over_two(
    args: &[ArrayRef],
    f: impl Fn(&str, NaiveDateTime, NaiveDateTime) -> Option<i64>,
) -> Result<ArrayRef> {
    let parts = text(&args[0]);
    let (from, to) = (local(&args[1])?, local(&args[2])?);
    let mut all = Vec::with_capacity(parts.len());
    for ((part, from), to) in parts.iter().zip(from).zip(to) {
        let (Some(part), Some(from), Some(to)) = (part, from, to) else {
            all.push(None);
            continue;
        };
        let lower = part.to_ascii_lowercase();
        let part = lower.strip_suffix('s').unwrap_or(&lower);
        all.push(Some(f(part, from, to).ok_or_else(|| {
            Error::invalid(format!("there is no difference of times in {lower:?}")).with_hint(
                "there are microseconds, milliseconds, seconds … years, decades, centuries, millennia",
            )
        })?));
    }
    Ok(Arc::new(Int64Array::from(all)))
}

fn months_of(part: &str) -> Option<i64> {
    Some(match part {
        "month" | "mon" => 1,
        "quarter" => 3,
        "year" => 12,
        "decade" => 120,
        "century" | "centurie" => 1_200,
        "millennium" | "millennia" => 12_000,
        _ => return None,
    })
}

fn micros_of(part: &str) -> Option<i64> {
    Some(match part {
        "microsecond" => 1,
        "millisecond" => 1_000,
        "second" => 1_000_000,
        "minute" => 60_000_000,
        "hour" => 3_600_000_000,
        "day" => 86_400_000_000,
        "week" => 604_800_000_000,
        _ => return None,
    })
}

/// The number of a part since some beginning.
fn place(part: &str, at: NaiveDateTime) -> Option<i64> {
    if let Some(months) = months_of(part) {
        return Some((i64::from(at.year()) * 12 + i64::from(at.month0())).div_euclid(months));
    }
    Some(at.and_utc().timestamp_micros().div_euclid(micros_of(part)?))
}

/// How many whole parts lie between two times.
fn whole(part: &str, from: NaiveDateTime, to: NaiveDateTime) -> Option<i64> {
    if let Some(micros) = micros_of(part) {
        return Some((to.and_utc().timestamp_micros() - from.and_utc().timestamp_micros()) / micros);
    }
    let unit = months_of(part)?;
    if to < from {
        return whole(part, to, from).map(|n| -n);
    }
    let mut months = place("month", to)? - place("month", from)?;
    // The last day of a shorter month is a whole month after a later day.
    let reached = u32::try_from(months).ok().and_then(|m| from.checked_add_months(Months::new(m)));
    if reached.is_none_or(|reached| reached > to) {
        months -= 1;
    }
    Some(months / unit)
}

/// PostgreSQL's `timestamp_age`: fields are subtracted each for itself; days are borrowed from the earlier time's month.
fn age(to: NaiveDateTime, from: NaiveDateTime) -> IntervalMonthDayNano {
    const DAY: i64 = 86_400_000_000_000;
    let sign = if to < from { -1 } else { 1 };
    let (late, early) = if to < from { (from, to) } else { (to, from) };
    let time = |t: NaiveDateTime| {
        i64::from(t.num_seconds_from_midnight()) * 1_000_000_000 + i64::from(t.nanosecond())
    };
    let mut nanos = time(late) - time(early);
    let mut days = i32::try_from(late.day()).unwrap_or(0) - i32::try_from(early.day()).unwrap_or(0);
    let month = |t: NaiveDateTime| t.year() * 12 + i32::try_from(t.month0()).unwrap_or(0);
    let mut months = month(late) - month(early);
    if nanos < 0 {
        nanos += DAY;
        days -= 1;
    }
    while days < 0 {
        days += days_in_month(early.date());
        months -= 1;
    }
    IntervalMonthDayNano::new(sign * months, sign * days, i64::from(sign) * nanos)
}

fn days_in_month(date: NaiveDate) -> i32 {
    let next = date.with_day(1).and_then(|first| first.checked_add_months(Months::new(1)));
    let last = next.and_then(|next| next.pred_opt());
    last.and_then(|last| i32::try_from(last.day()).ok()).unwrap_or(31)
}

fn make_timestamp(args: &[ArrayRef]) -> Result<ArrayRef> {
    let mut all = Vec::with_capacity(args[0].len());
    for row in 0..args[0].len() {
        if any_null(args, row) {
            all.push(None);
            continue;
        }
        let part = |i: usize| args[i].as_primitive::<Int64Type>().value(row);
        let seconds = args[5].as_primitive::<Float64Type>().value(row);
        let small = |n: i64| u32::try_from(n).ok();
        let made = || {
            let date =
                NaiveDate::from_ymd_opt(i32::try_from(part(0)).ok()?, small(part(1))?, small(part(2))?)?;
            let start = date.and_hms_opt(small(part(3))?, small(part(4))?, 0)?;
            // 60 is the next minute's beginning, as in PostgreSQL; microseconds count.
            (0.0..=60.0).contains(&seconds).then_some(())?;
            #[expect(clippy::cast_possible_truncation, reason = "checked right above")]
            let micros = (seconds * 1e6).round() as i64;
            start.checked_add_signed(TimeDelta::microseconds(micros))
        };
        let moment = made().ok_or_else(|| {
            let date = format!("{}-{:02}-{:02} {:02}:{:02}", part(0), part(1), part(2), part(3), part(4));
            Error::invalid(format!("there is no time {date}:{seconds}"))
        })?;
        all.push(Some(nanos(moment)?));
    }
    Ok(Arc::new(TimestampNanosecondArray::from(all)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PostgreSQL 15 answers: from, to, months, days, seconds.
    #[test]
    fn ages_as_postgresql() {
        let cases = [
            ("2022-08-18T20:29:36.320948", "2019-07-11T12:30:21.060495", 37, 7, 28_755.260_453),
            ("2019-03-29T19:32:49.230363", "2019-05-25T01:46:59.924782", -1, -26, -22_450.694_419),
            ("2021-07-12T05:35:28.125829", "2019-04-06T11:08:34.750415", 27, 5, 66_413.375_414),
            ("2020-07-03T05:34:48.662455", "2022-01-25T03:30:10.385272", -18, -21, -78_921.722_817),
            ("2022-12-05T16:03:07.776487", "2020-01-27T16:43:04.101431", 34, 8, 84_003.675_056),
            ("2021-01-15T20:45:49.159472", "2023-03-23T14:12:33.32601", -26, -7, -62_804.166_538),
            ("2024-03-01T01:00:00", "2024-01-31T02:00:00.5", 1, 0, 82_799.5),
        ];
        for (to, from, months, days, seconds) in cases {
            let age = age(to.parse().unwrap(), from.parse().unwrap());
            assert_eq!((age.months, age.days), (months, days), "{to} {from}");
            assert!((age.nanoseconds as f64 / 1e9 - seconds).abs() < 1e-6, "{to} {from}: {age:?}");
        }
    }
}
