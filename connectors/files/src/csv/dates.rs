//! `dateformat = '%d.%m.%Y'`: days and instants written in another way than ISO 8601.
//!
//! Such columns are read as text and parsed here, with chrono's format letters.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Date32Array, PrimitiveArray, StringArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use chrono::{NaiveDate, NaiveDateTime};

/// The format for a column's type, when the options give one that applies.
pub(crate) fn format_for<'a>(
    data_type: &DataType,
    date: Option<&'a str>,
    timestamp: Option<&'a str>,
) -> Option<&'a str> {
    match data_type {
        DataType::Date32 => date,
        DataType::Timestamp(_, None) => timestamp,
        _ => None,
    }
}

pub(crate) fn is_date(text: &str, format: &str) -> bool {
    NaiveDate::parse_from_str(text, format).is_ok()
}

pub(crate) fn is_timestamp(text: &str, format: &str) -> bool {
    instant(text, format).is_some()
}

/// Parses a column; `Err` has the first value that is not in the format. NULL stays NULL.
pub(crate) fn parse(column: &StringArray, data_type: &DataType, format: &str) -> Result<ArrayRef, String> {
    match data_type {
        DataType::Date32 => {
            let days = each(column, |text| {
                let date = NaiveDate::parse_from_str(text, format).ok()?;
                i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
            })?;
            Ok(Arc::new(Date32Array::from(days)))
        }
        DataType::Timestamp(unit, _) => Ok(match unit {
            TimeUnit::Second => {
                times::<TimestampSecondType>(column, format, |t| Some(t.and_utc().timestamp()))?
            }
            TimeUnit::Millisecond => {
                times::<TimestampMillisecondType>(column, format, |t| Some(t.and_utc().timestamp_millis()))?
            }
            TimeUnit::Microsecond => {
                times::<TimestampMicrosecondType>(column, format, |t| Some(t.and_utc().timestamp_micros()))?
            }
            TimeUnit::Nanosecond => {
                times::<TimestampNanosecondType>(column, format, |t| t.and_utc().timestamp_nanos_opt())?
            }
        }),
        other => Err(format!("a column of type {other}")),
    }
}

fn times<T: ArrowPrimitiveType<Native = i64>>(
    column: &StringArray,
    format: &str,
    of: impl Fn(NaiveDateTime) -> Option<i64>,
) -> Result<ArrayRef, String> {
    let values = each(column, |text| of(instant(text, format)?))?;
    Ok(Arc::new(values.into_iter().collect::<PrimitiveArray<T>>()))
}

/// A format without a time of day gives midnight.
fn instant(text: &str, format: &str) -> Option<NaiveDateTime> {
    NaiveDateTime::parse_from_str(text, format)
        .ok()
        .or_else(|| NaiveDate::parse_from_str(text, format).ok()?.and_hms_opt(0, 0, 0))
}

fn each<T>(column: &StringArray, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<Option<T>>, String> {
    (0..column.len())
        .map(|row| {
            if column.is_null(row) {
                return Ok(None);
            }
            let text = column.value(row);
            parse(text).map(Some).ok_or_else(|| text.chars().take(100).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, TimestampMillisecondArray};
    use arrow::datatypes::Date32Type;

    #[test]
    fn days_and_instants() {
        let text = StringArray::from(vec![Some("02.01.1970"), None, Some("31.12.1969")]);
        let days = parse(&text, &DataType::Date32, "%d.%m.%Y").unwrap();
        assert_eq!(days.as_primitive::<Date32Type>().iter().collect::<Vec<_>>(), [Some(1), None, Some(-1)]);
        let text = StringArray::from(vec!["1970/01/01 00:01"]);
        let unit = DataType::Timestamp(TimeUnit::Millisecond, None);
        let times = parse(&text, &unit, "%Y/%m/%d %H:%M").unwrap();
        assert_eq!(times.as_any().downcast_ref::<TimestampMillisecondArray>().unwrap().value(0), 60_000);
        assert_eq!(parse(&text, &DataType::Date32, "%d.%m.%Y").unwrap_err(), "1970/01/01 00:01");
    }
}
