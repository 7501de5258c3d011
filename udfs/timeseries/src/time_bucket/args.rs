//! Which argument plays which part, and from values to a [`Bucketer`].
//!
//! ```text
//! time_bucket(width, time [, x [, y [, z]]])      width and time by place, x y z by type:
//!     text → time zone      TIMESTAMP, DATE → origin      INTERVAL → offset
//! ```
//!
//! So TimescaleDB's `(width, time, zone, origin, offset)` and DuckDB's three-argument forms are all there.
//! NULL as width, time or third argument gives NULL; as fourth or fifth it stands for "not given".

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use triune_common::{Error, Result};

use crate::display::type_name;
use crate::time_bucket::bucketer::{Bucketer, Origin, Params};
use crate::time_bucket::width::{Span, Width};
use crate::time_bucket::zone::parse_zone;

const USAGE: &str = "write time_bucket(width, time [, zone] [, origin] [, offset])";

/// The places of the optional arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Roles {
    pub(crate) zone: Option<usize>,
    pub(crate) origin: Option<usize>,
    pub(crate) offset: Option<usize>,
}

/// What `time_bucket` does for given argument types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) roles: Roles,
    /// The type of the second argument.
    pub(crate) column: DataType,
    pub(crate) result: DataType,
}

fn is_text(t: &DataType) -> bool {
    matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

impl Shape {
    /// Errors name the argument, what was got and what would be accepted.
    pub(crate) fn try_new(types: &[DataType]) -> Result<Self> {
        let [width, column, rest @ ..] = types else {
            return Err(wrong_count(types.len()));
        };
        if rest.len() > 3 {
            return Err(wrong_count(types.len()));
        }
        if column.is_integer() {
            Self::over_integers(width, column, rest)
        } else if matches!(column, DataType::Date32 | DataType::Timestamp(..)) {
            Self::over_times(width, column, rest)
        } else {
            let cast = if is_text(column) { "cast it, as in ts::TIMESTAMP" } else { USAGE };
            Err(Error::invalid(format!(
                "time_bucket takes a TIMESTAMP, DATE or integer as its second argument, got {}",
                type_name(column)
            ))
            .with_hint(cast))
        }
    }

    fn over_integers(width: &DataType, column: &DataType, rest: &[DataType]) -> Result<Self> {
        let is_number = |t: &DataType| t.is_integer() || t.is_null();
        if !is_number(width) {
            return Err(Error::invalid(format!(
                "the width of time_bucket over {} is an integer, got {}",
                type_name(column),
                type_name(width)
            ))
            .with_hint("to bucket epoch seconds by time, convert them first: to_timestamp(x)"));
        }
        let offset = match rest {
            [] => None,
            [t] if is_number(t) => Some(2),
            [t] => {
                return Err(Error::invalid(format!(
                    "the offset of time_bucket over {} is an integer, got {}",
                    type_name(column),
                    type_name(t)
                )));
            }
            _ => {
                return Err(Error::invalid(format!(
                    "time_bucket over {} takes a width, a value and an offset, got {} arguments",
                    type_name(column),
                    rest.len() + 2
                )));
            }
        };
        let roles = Roles { offset, ..Roles::default() };
        Ok(Self { roles, column: column.clone(), result: column.clone() })
    }

    fn over_times(width: &DataType, column: &DataType, rest: &[DataType]) -> Result<Self> {
        match width {
            DataType::Interval(_) | DataType::Duration(_) | DataType::Null => {}
            t if is_text(t) => {}
            t => {
                let hint = if t.is_integer() { "say of what: INTERVAL '10 minutes'" } else { USAGE };
                return Err(Error::invalid(format!(
                    "the width of time_bucket over {} is an INTERVAL, got {}",
                    type_name(column),
                    type_name(t)
                ))
                .with_hint(hint));
            }
        }
        let mut roles = Roles::default();
        for (i, t) in rest.iter().enumerate() {
            let (place, name) = match t {
                // A text after the zone is a literal for TimescaleDB's next parameter.
                t if is_text(t) && (roles.zone.is_none() || i == 0) => (&mut roles.zone, "time zone"),
                t if is_text(t) && i == 1 => (&mut roles.origin, "origin"),
                t if is_text(t) => (&mut roles.offset, "offset"),
                DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => {
                    (&mut roles.origin, "origin")
                }
                DataType::Interval(_) | DataType::Duration(_) => (&mut roles.offset, "offset"),
                DataType::Null if i == 0 => (&mut roles.zone, "time zone"),
                DataType::Null => continue,
                other => {
                    return Err(Error::invalid(format!(
                        "time_bucket does not know what to do with a {} as its {} argument",
                        type_name(other),
                        ["third", "fourth", "fifth"][i]
                    ))
                    .with_hint(
                        "it may be a time zone (text), an origin (TIMESTAMP, DATE) or an offset (INTERVAL)",
                    ));
                }
            };
            if place.replace(i + 2).is_some() {
                return Err(
                    Error::invalid(format!("time_bucket was given two {name} arguments")).with_hint(USAGE)
                );
            }
        }
        // As in both peers a time zone turns a TIMESTAMP, read as UTC, into a TIMESTAMP WITH TIME ZONE.
        let zoned = roles.zone.is_some_and(|i| is_text(&types_at(rest, i)));
        let result = match column {
            DataType::Timestamp(unit, None) if zoned => DataType::Timestamp(*unit, Some("+00:00".into())),
            other => other.clone(),
        };
        Ok(Self { roles, column: column.clone(), result })
    }

    /// The bucketer for constant arguments; `None` where one of them makes the result NULL.
    ///
    /// `values[1]`, the time, is not looked at.
    pub(crate) fn bucketer(&self, values: &[&ScalarValue]) -> Result<Option<Bucketer>> {
        let strict_null = values.get(2).is_some_and(|v| v.is_null());
        if strict_null || values[0].is_null() {
            return Ok(None);
        }
        if self.column.is_integer() {
            let offset = match self.roles.offset {
                Some(i) => integer(values[i])?,
                None => 0,
            };
            return Bucketer::over_integers(integer(values[0])?, offset, &self.column).map(Some);
        }
        let Some(width) = Span::from_scalar(values[0], "width")? else { return Ok(None) };
        let zone = match self.roles.zone.and_then(|i| values[i].try_as_str().flatten()) {
            Some(name) => Some(parse_zone(name)?),
            None => None,
        };
        let origin = match self.roles.origin {
            Some(i) => origin(values[i])?,
            None => None,
        };
        let offset = match self.roles.offset {
            Some(i) => Span::from_scalar(values[i], "offset")?,
            None => None,
        };
        let params = Params { width: Width::try_new(width)?, zone, origin, offset };
        Bucketer::over_times(&params, &self.column).map(Some)
    }
}

fn types_at(rest: &[DataType], place: usize) -> DataType {
    place.checked_sub(2).and_then(|i| rest.get(i)).cloned().unwrap_or(DataType::Null)
}

fn wrong_count(n: usize) -> Error {
    let s = if n == 1 { "" } else { "s" };
    Error::invalid(format!("time_bucket takes two to five arguments, got {n} argument{s}")).with_hint(USAGE)
}

fn integer(value: &ScalarValue) -> Result<i64> {
    match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(Some(v))) => Ok(v),
        _ => Err(Error::invalid(format!("time_bucket over integers counts in BIGINT, got {value}"))),
    }
}

fn origin(value: &ScalarValue) -> Result<Option<Origin>> {
    if value.is_null() {
        return Ok(None);
    }
    let parsed;
    let value = match value.try_as_str().flatten() {
        None => value,
        Some(text) => {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
            parsed = ScalarValue::from(text).cast_to(&micros).map_err(|_| {
                Error::invalid(format!("the origin of time_bucket is no time: '{text}'"))
                    .with_hint("write for example TIMESTAMP '2000-01-03 00:00:00'")
            })?;
            &parsed
        }
    };
    let instant = |v: &i64, scale: i128, zone: &Option<_>| {
        Some(Origin { nanos: i128::from(*v) * scale, is_instant: zone.is_some() })
    };
    Ok(match value {
        ScalarValue::TimestampSecond(Some(v), z) => instant(v, 1_000_000_000, z),
        ScalarValue::TimestampMillisecond(Some(v), z) => instant(v, 1_000_000, z),
        ScalarValue::TimestampMicrosecond(Some(v), z) => instant(v, 1_000, z),
        ScalarValue::TimestampNanosecond(Some(v), z) => instant(v, 1, z),
        ScalarValue::Date32(Some(v)) => instant(&i64::from(*v), 86_400_000_000_000, &None),
        ScalarValue::Date64(Some(v)) => instant(v, 1_000_000, &None),
        other => {
            return Err(Error::internal(format!("no origin: {other}")));
        }
    })
}
