//! Dates and times of any type as one: UTC and the zone of their column.

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType};
use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone};
use datafusion::common::Result;
use triune_common::Error;

/// A column of moments.
pub(crate) struct Moments {
    /// In UTC where there is a zone.
    pub(crate) values: Vec<Option<NaiveDateTime>>,
    pub(crate) zone: Option<Tz>,
}

impl Moments {
    /// Of dates and timestamps.
    pub(crate) fn of(array: &ArrayRef) -> Result<Self> {
        let zone = match array.data_type() {
            DataType::Timestamp(_, Some(zone)) => Some(parse_zone(zone)?),
            _ => None,
        };
        let plain = |unit| DataType::Timestamp(unit, None);
        let values = match array.data_type() {
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                let all = cast(array, &plain(TimeUnit::Nanosecond))?;
                let all = all.as_primitive::<TimestampNanosecondType>();
                all.iter().map(|n| n.map(|n| DateTime::from_timestamp_nanos(n).naive_utc())).collect()
            }
            _ => {
                let all = cast(array, &plain(TimeUnit::Microsecond))?;
                let all = all.as_primitive::<TimestampMicrosecondType>();
                let moment = |n| DateTime::from_timestamp_micros(n).map(|d| d.naive_utc());
                all.iter().map(|n| n.and_then(moment)).collect()
            }
        };
        Ok(Self { values, zone })
    }
}

/// A zone by its name or as an offset.
pub(crate) fn parse_zone(name: &str) -> Result<Tz> {
    name.parse().map_err(|_| {
        Error::invalid(format!("there is no time zone {name:?}"))
            .with_hint("write 'UTC', 'Europe/Berlin' or '+02:00'")
            .into()
    })
}

/// The moment that clocks of a zone show as `local`. A time that clocks skip is read with the offset before, one that
/// they show twice is the later one: PostgreSQL's choice.
pub(crate) fn from_local(local: NaiveDateTime, zone: Tz) -> Option<NaiveDateTime> {
    let offset = match zone.offset_from_local_datetime(&local) {
        chrono::LocalResult::Single(offset) => offset,
        chrono::LocalResult::Ambiguous(_, later) => later,
        chrono::LocalResult::None => zone.offset_from_utc_datetime(&(local - TimeDelta::days(1))),
    };
    local.checked_sub_offset(offset.fix())
}

/// What clocks of a zone show.
pub(crate) fn to_local(utc: NaiveDateTime, zone: Tz) -> Option<NaiveDateTime> {
    utc.checked_add_offset(zone.offset_from_utc_datetime(&utc).fix())
}

/// Nanoseconds since 1970.
pub(crate) fn nanos(moment: NaiveDateTime) -> Result<i64> {
    moment.and_utc().timestamp_nanos_opt().ok_or_else(|| {
        Error::invalid(format!("{moment} is no TIMESTAMP, which are those from 1677-09-21 to 2262-04-11"))
            .into()
    })
}
