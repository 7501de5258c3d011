//! How types, intervals and times read in this crate's error messages.

use arrow::datatypes::{DataType, TimeUnit};
use chrono::DateTime;

/// The name a user knows a type by.
pub(crate) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "NULL".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INTEGER".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::UInt8 => "UTINYINT".into(),
        DataType::UInt16 => "USMALLINT".into(),
        DataType::UInt32 => "UINTEGER".into(),
        DataType::UInt64 => "UBIGINT".into(),
        DataType::Float16 | DataType::Float32 => "REAL".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".into(),
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".into(),
        DataType::Timestamp(unit, zone) => {
            let digits = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            let zone = if zone.is_some() { " WITH TIME ZONE" } else { "" };
            format!("TIMESTAMP({digits}){zone}")
        }
        other => other.to_string(),
    }
}

/// An interval in words: `1 year 2 months 3 days 4 hours 0.5 seconds`.
pub(crate) fn interval(months: i64, days: i64, nanos: i128) -> String {
    const SECOND: i128 = 1_000_000_000;
    let mut words = Vec::new();
    let mut push = |n: i128, unit: &str| {
        if n != 0 {
            words.push(format!("{n} {unit}{}", if n.abs() == 1 { "" } else { "s" }));
        }
    };
    push(i128::from(months / 12), "year");
    push(i128::from(months % 12), "month");
    push(i128::from(days), "day");
    push(nanos / (3_600 * SECOND), "hour");
    push(nanos / (60 * SECOND) % 60, "minute");
    let rest = nanos % (60 * SECOND);
    if rest % SECOND == 0 {
        push(rest / SECOND, "second");
    } else {
        let sign = if rest < 0 { "-" } else { "" };
        let digits = format!("{:09}", (rest % SECOND).abs());
        words.push(format!("{sign}{}.{} seconds", (rest / SECOND).abs(), digits.trim_end_matches('0')));
    }
    if words.is_empty() { "0 seconds".into() } else { words.join(" ") }
}

/// A time stamp as a date and time where the calendar reaches it, else as the bare number.
pub(crate) fn instant(nanos: i128) -> String {
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok();
    let rest = nanos.rem_euclid(1_000_000_000) as u32;
    match seconds.and_then(|s| DateTime::from_timestamp(s, rest)) {
        Some(t) => t.naive_utc().to_string(),
        None => format!("{} seconds from 1970", nanos.div_euclid(1_000_000_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_in_words() {
        assert_eq!(interval(0, 0, 0), "0 seconds");
        assert_eq!(interval(14, 1, 3_600_000_000_000), "1 year 2 months 1 day 1 hour");
        assert_eq!(interval(0, 0, 90_500_000_000), "1 minute 30.5 seconds");
        assert_eq!(interval(0, 0, -500_000_000), "-0.5 seconds");
        assert_eq!(interval(-1, 2, 0), "-1 month 2 days");
    }
}
