//! ```sql
//! SELECT date_diff('month', a, b), date_sub('month', a, b), age(b, a), make_timestamp(2024, 2, 29, 12, 0, 1.5) FROM t;
//! ```
//!
//! Differences of times, and times from their parts. `date_diff` counts the borders between two times, `date_sub` the
//! whole parts that lie between them, both as in DuckDB (for which a week is seven days from the first time on), both
//! negative when the second time is the earlier one. `age` and `make_timestamp` are PostgreSQL's: `age` takes years and
//! months first, then days and time. Of TIMESTAMPTZ the clocks of their zone count, but for hours and less between two of
//! them, of which the time that passed counts. NULL in any argument gives NULL; an unknown part and a day that does not
//! exist are errors.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Int64Array, IntervalMonthDayNanoArray, TimestampNanosecondArray,
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
            |args| over_two(args, borders),
        ),
        define(
            "date_sub(part, from, to)",
            &["datesub"],
            part_and_two,
            |_| DataType::Int64,
            |args| over_two(args, whole),
        ),
        define(
            "last_day(date or time)",
            &[],
            |types| match types {
                [t] => Some(vec![moment(t)?]),
                _ => None,
            },
            |_| DataType::Date32,
            last_day,
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
    let zoned = |a: &ArrayRef| matches!(a.data_type(), DataType::Timestamp(_, Some(_)));
    // What passed between two moments does not depend on clocks that are put forward and back.
    let utc = match zoned(&args[1]) && zoned(&args[2]) {
        true => Some((Moments::of(&args[1])?.values, Moments::of(&args[2])?.values)),
        false => None,
    };
    let mut all = Vec::with_capacity(parts.len());
    for (row, ((part, from), to)) in parts.iter().zip(from).zip(to).enumerate() {
        let (Some(part), Some(mut from), Some(mut to)) = (part, from, to) else {
            all.push(None);
            continue;
        };
        let lower = part.to_ascii_lowercase();
        let part = lower.strip_suffix('s').unwrap_or(&lower);
        if micros_of(part).is_some_and(|micros| micros <= 3_600_000_000)
            && let Some((all_from, all_to)) = &utc
            && let (Some(utc_from), Some(utc_to)) = (all_from[row], all_to[row])
        {
            (from, to) = (utc_from, utc_to);
        }
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

/// How many borders of a part lie between two times; of weeks, how many times seven midnights.
fn borders(part: &str, from: NaiveDateTime, to: NaiveDateTime) -> Option<i64> {
    if part == "week" {
        return Some(borders("day", from, to)? / 7);
    }
    place(part, to)?.checked_sub(place(part, from)?)
}

/// How many whole parts lie between two times.
fn whole(part: &str, from: NaiveDateTime, to: NaiveDateTime) -> Option<i64> {
    if let Some(micros) = micros_of(part) {
        let passed = to.and_utc().timestamp_micros().checked_sub(from.and_utc().timestamp_micros())?;
        return Some(passed / micros);
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

/// DuckDB's: the last day of a month.
fn last_day(args: &[ArrayRef]) -> Result<ArrayRef> {
    let last = |at: NaiveDateTime| {
        let date = at.date();
        let last = date.with_day(1)?.checked_add_months(Months::new(1))?.pred_opt()?;
        i32::try_from(last.signed_duration_since(NaiveDate::default()).num_days()).ok()
    };
    let all = local(&args[0])?.into_iter().map(|at| {
        at.map(|at| last(at).ok_or_else(|| Error::invalid(format!("the month of {at} has no last day"))))
            .transpose()
    });
    Ok(Arc::new(Date32Array::from(all.collect::<triune_common::Result<Vec<_>>>()?)))
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
            // 24:00:00 is the next day's beginning.
            if (part(3), part(4)) == (24, 0) && seconds == 0.0 {
                return date.succ_opt()?.and_hms_opt(0, 0, 0);
            }
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

    /// What DuckDB answers.
    #[test]
    fn weeks_as_duckdb() {
        let cases = [
            ("2024-01-03", "2024-01-04", 0),
            ("2024-01-01", "2024-01-14", 1),
            ("2024-01-14", "2024-01-01", -1),
            ("2024-01-07", "2024-01-08", 0),
            ("2024-01-01", "2024-01-08", 1),
        ];
        for (from, to, want) in cases {
            let at = |s: &str| s.parse::<NaiveDate>().unwrap().and_hms_opt(0, 0, 0).unwrap();
            assert_eq!(borders("week", at(from), at(to)), Some(want), "{from} {to}");
        }
    }

    /// Berlin's clocks go back at 01:00 UTC: one minute passes, and sixty are shown again.
    #[test]
    fn passed_time_of_zoned_moments() {
        use arrow::array::StringArray;
        let zoned = |s: &str| -> ArrayRef {
            let nanos = s.parse::<NaiveDateTime>().unwrap().and_utc().timestamp_nanos_opt();
            Arc::new(TimestampNanosecondArray::from(vec![nanos]).with_timezone("Europe/Berlin"))
        };
        let cases = [
            ("minute", "2024-10-27T00:59:59", "2024-10-27T01:00:00", 1),
            ("hour", "2024-03-31T00:00:00", "2024-03-31T02:00:00", 2),
        ];
        for (part, from, to, want) in cases {
            let args = [Arc::new(StringArray::from(vec![part])) as ArrayRef, zoned(from), zoned(to)];
            let got = over_two(&args, borders).unwrap();
            assert_eq!(got.as_primitive::<Int64Type>().value(0), want, "{part}");
        }
    }

    /// What DuckDB answers.
    #[test]
    fn last_days() {
        let cases =
            [("9999-12-01", "9999-12-31"), ("1500-02-01", "1500-02-28"), ("2024-02-29", "2024-02-29")];
        for (date, want) in cases {
            let days = |s: &str| s.parse::<NaiveDate>().unwrap().signed_duration_since(NaiveDate::default());
            let days = |s: &str| i32::try_from(days(s).num_days()).unwrap();
            let got = last_day(&[Arc::new(Date32Array::from(vec![days(date)]))]).unwrap();
            assert_eq!(got.as_primitive::<arrow::datatypes::Date32Type>().value(0), days(want), "{date}");
        }
    }

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
