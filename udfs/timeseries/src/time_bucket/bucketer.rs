//! From checked arguments to something that buckets whole columns.

use arrow::array::timezone::Tz;
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, Months};
use triune_common::{Error, Result};

use crate::display;
use crate::time_bucket::local::{Local, floor_fixed, is_calendar, month_of_day, phase_of};
use crate::time_bucket::width::{Span, Width};
use crate::time_bucket::zone::{Bucket, Zoned};

const NANOS_PER_DAY: i128 = 86_400_000_000_000;
/// 2000-01-03, a Monday: weeks start on Mondays.
const DEFAULT_ORIGIN: i128 = 10_959 * NANOS_PER_DAY;
/// 2000-01-01, for buckets of months.
const DEFAULT_MONTH_ORIGIN: i128 = 10_957 * NANOS_PER_DAY;

/// Where the boundaries are counted from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    /// Nanoseconds since 1970-01-01 00:00.
    pub(crate) nanos: i128,
    /// Whether it was a TIMESTAMP WITH TIME ZONE: an instant, not a time on the local clock.
    pub(crate) is_instant: bool,
}

/// The constant arguments of `time_bucket` over times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Params {
    pub(crate) width: Width,
    pub(crate) zone: Option<Tz>,
    pub(crate) origin: Option<Origin>,
    pub(crate) offset: Option<Span>,
}

/// Buckets for one column type.
#[derive(Debug, Clone)]
pub(crate) struct Bucketer {
    buckets: Buckets,
    /// For messages.
    column: DataType,
}

#[derive(Debug, Clone)]
enum Buckets {
    Plain(Local),
    Zoned(Zoned),
}

impl Bucketer {
    /// Buckets over integers: boundaries at `offset + k · width`.
    pub(crate) fn over_integers(width: i64, offset: i64, column: &DataType) -> Result<Self> {
        if width <= 0 {
            return Err(Error::invalid(format!("the width of time_bucket must be positive, got {width}")));
        }
        let local = Local::Fixed { width, phase: offset.rem_euclid(width) };
        Ok(Self { buckets: Buckets::Plain(local), column: column.clone() })
    }

    /// Buckets over DATE and TIMESTAMP columns.
    pub(crate) fn over_times(params: &Params, column: &DataType) -> Result<Self> {
        let tick = nanos_per_tick(column)?;
        if params.zone.is_some() && matches!(column, DataType::Date32) {
            return Err(Error::invalid("time_bucket over a DATE takes no time zone")
                .with_hint("a date is the same day everywhere; cast it to TIMESTAMP WITH TIME ZONE first"));
        }
        let local = Self::local(params, column, tick)?;
        let buckets = match params.zone {
            None => Buckets::Plain(local),
            Some(zone) => Buckets::Zoned(Zoned {
                local,
                zone,
                ticks_per_second: (1_000_000_000 / tick) as i64,
                calendar: is_calendar(params.width),
            }),
        };
        Ok(Self { buckets, column: column.clone() })
    }

    fn local(params: &Params, column: &DataType, tick: i128) -> Result<Local> {
        let offset = params.offset.unwrap_or_default();
        // Everything below is in whole ticks, or an error: buckets are never rounded.
        let ticks = |nanos: i128, what: &str, shown: &dyn std::fmt::Display| -> Result<i64> {
            let column = display::type_name(column);
            if nanos % tick != 0 {
                return Err(Error::invalid(format!(
                    "the {what} of time_bucket does not fit {column}, which counts in {}: '{shown}'",
                    steps(tick)
                ))
                .with_hint("cast the time to a finer type first"));
            }
            i64::try_from(nanos / tick).map_err(|_| {
                Error::invalid(format!(
                    "the {what} of time_bucket is beyond the range of {column}: '{shown}'"
                ))
            })
        };
        let origin = local_origin(params)?;
        Ok(match params.width {
            Width::Nanos(width) => {
                let origin = add_months(origin, offset.months)? + offset.time();
                let phase = phase_of(origin, width);
                Local::Fixed {
                    width: ticks(width, "width", &params.width)?,
                    phase: ticks(phase, "origin or offset", &display::instant(origin))?,
                }
            }
            Width::Months(width) => Local::Months {
                width,
                // As in TimescaleDB and DuckDB, only the origin's month counts.
                phase: month_of_day(origin.div_euclid(NANOS_PER_DAY) as i64) + offset.months,
                shift: ticks(offset.time(), "offset", &offset)?,
                ticks_per_day: (NANOS_PER_DAY / tick) as i64,
            },
        })
    }

    /// The bucket of one value.
    pub(crate) fn bucket(&self, t: i64) -> Result<Bucket> {
        let found = match &self.buckets {
            Buckets::Plain(local) => {
                local.floor(t).map(|start| Bucket { start, known_until: local.next(start).unwrap_or(t) })
            }
            Buckets::Zoned(zoned) => zoned.bucket(t),
        };
        found.ok_or_else(|| self.out_of_range(t))
    }

    /// The first boundary after the boundary `start`, if the type reaches that far.
    pub(crate) fn next(&self, start: i64) -> Option<i64> {
        match &self.buckets {
            Buckets::Plain(local) => local.next(start),
            Buckets::Zoned(zoned) => zoned.next(start),
        }
    }

    /// The bucket starts of a column's values. What stands in a NULL slot is never looked at.
    pub(crate) fn column(&self, values: &[i64], nulls: Option<&NullBuffer>) -> Result<Vec<i64>> {
        if let Buckets::Plain(Local::Fixed { width, phase }) = self.buckets {
            let (starts, wrapped) = floor_fixed(values, width, phase);
            if wrapped {
                let bad =
                    (0..values.len()).find(|&i| starts[i] > values[i] && nulls.is_none_or(|n| n.is_valid(i)));
                if let Some(i) = bad {
                    return Err(self.out_of_range(values[i]));
                }
            }
            return Ok(starts);
        }
        // Neighbours mostly share a bucket: the search is skipped as long as they do.
        let mut out = Vec::with_capacity(values.len());
        let mut last = Bucket { start: 0, known_until: 0 };
        for (i, &t) in values.iter().enumerate() {
            if nulls.is_some_and(|n| n.is_null(i)) {
                out.push(0);
                continue;
            }
            if t < last.start || t >= last.known_until {
                last = self.bucket(t)?;
            }
            out.push(last.start);
        }
        Ok(out)
    }

    fn out_of_range(&self, t: i64) -> Error {
        let shown = match nanos_per_tick(&self.column) {
            Ok(tick) => display::instant(i128::from(t) * tick),
            Err(_) => t.to_string(),
        };
        let column = display::type_name(&self.column);
        Error::invalid(format!("the bucket of {shown} is out of the range of {column}"))
    }
}

/// How long one step of the column's type is; integers have no such thing.
fn nanos_per_tick(column: &DataType) -> Result<i128> {
    Ok(match column {
        DataType::Date32 => NANOS_PER_DAY,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1,
        other => return Err(Error::internal(format!("no time: {other}"))),
    })
}

/// The origin on the time line that is bucketed: UTC or the zone's clock.
fn local_origin(params: &Params) -> Result<i128> {
    let Some(origin) = params.origin else {
        return Ok(match params.width {
            Width::Months(_) => DEFAULT_MONTH_ORIGIN,
            Width::Nanos(_) => DEFAULT_ORIGIN,
        });
    };
    let Some(zone) = params.zone.filter(|_| origin.is_instant) else { return Ok(origin.nanos) };
    let seconds =
        Zoned { local: Local::Fixed { width: 1, phase: 0 }, zone, ticks_per_second: 1, calendar: false };
    i64::try_from(origin.nanos.div_euclid(1_000_000_000))
        .ok()
        .and_then(|s| seconds.offset(s))
        .map(|offset| origin.nanos + i128::from(offset) * 1_000_000_000)
        .ok_or_else(|| unreachable_origin(origin.nanos))
}

/// Moves an origin by calendar months; a day past the end of its month becomes the last.
fn add_months(nanos: i128, months: i64) -> Result<i128> {
    if months == 0 {
        return Ok(nanos);
    }
    let moved = || {
        let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
        let at = DateTime::from_timestamp(seconds, 0)?;
        let by = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
        let at = if months > 0 { at.checked_add_months(by) } else { at.checked_sub_months(by) }?;
        Some(i128::from(at.timestamp()) * 1_000_000_000 + nanos.rem_euclid(1_000_000_000))
    };
    moved().ok_or_else(|| unreachable_origin(nanos))
}

fn unreachable_origin(nanos: i128) -> Error {
    Error::invalid(format!("the origin of time_bucket is beyond the calendar: '{}'", display::instant(nanos)))
}

fn steps(tick: i128) -> &'static str {
    match tick {
        NANOS_PER_DAY => "whole days",
        1_000_000_000 => "whole seconds",
        1_000_000 => "milliseconds",
        1_000 => "microseconds",
        _ => "nanoseconds",
    }
}
