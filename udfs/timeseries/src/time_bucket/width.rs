//! Widths and offsets: SQL values → checked numbers.

use arrow::compute::kernels::cast_utils::{
    IntervalParseConfig, IntervalUnit, parse_interval_month_day_nano_config,
};
use arrow::datatypes::{IntervalDayTime, IntervalMonthDayNano};
use datafusion::common::ScalarValue;
use triune_common::{Error, Result};

use crate::display;

const NANOS_PER_DAY: i128 = 86_400_000_000_000;

/// An interval as SQL has it: three parts without a fixed ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) months: i64,
    pub(crate) days: i64,
    pub(crate) nanos: i128,
}

impl Span {
    /// Reads an INTERVAL, a duration, or text such as `'15 minutes'` (a bare number counts seconds, as in
    /// PostgreSQL). `None` is NULL.
    pub(crate) fn from_scalar(value: &ScalarValue, role: &str) -> Result<Option<Self>> {
        let nanos = |n: i128| Some(Self { nanos: n, ..Self::default() });
        Ok(match value {
            ScalarValue::IntervalYearMonth(v) => v.map(|m| Self { months: m.into(), ..Self::default() }),
            ScalarValue::IntervalDayTime(v) => v.map(|IntervalDayTime { days, milliseconds }| Self {
                months: 0,
                days: days.into(),
                nanos: i128::from(milliseconds) * 1_000_000,
            }),
            ScalarValue::IntervalMonthDayNano(v) => v.map(Self::from_parts),
            ScalarValue::DurationSecond(Some(v)) => nanos(i128::from(*v) * 1_000_000_000),
            ScalarValue::DurationMillisecond(Some(v)) => nanos(i128::from(*v) * 1_000_000),
            ScalarValue::DurationMicrosecond(Some(v)) => nanos(i128::from(*v) * 1_000),
            ScalarValue::DurationNanosecond(Some(v)) => nanos(i128::from(*v)),
            other if other.is_null() => None,
            other => match other.try_as_str().flatten() {
                Some(text) => Some(Self::parse(text, role)?),
                None => {
                    let got = display::type_name(&other.data_type());
                    return Err(Error::invalid(format!(
                        "the {role} of time_bucket is an INTERVAL, got {got}"
                    ))
                    .with_hint("write for example INTERVAL '15 minutes'"));
                }
            },
        })
    }

    fn from_parts(v: IntervalMonthDayNano) -> Self {
        Self { months: v.months.into(), days: v.days.into(), nanos: v.nanoseconds.into() }
    }

    pub(crate) fn parse(text: &str, role: &str) -> Result<Self> {
        let config = IntervalParseConfig::new(IntervalUnit::Second);
        match parse_interval_month_day_nano_config(text, config) {
            Ok(v) => Ok(Self::from_parts(v)),
            Err(_) => Err(Error::invalid(format!("the {role} of time_bucket is no interval: '{text}'"))
                .with_hint("write for example '15 minutes', '1 day' or '3 months'")),
        }
    }

    /// The part below months, with days of 24 hours.
    pub(crate) fn time(self) -> i128 {
        i128::from(self.days) * NANOS_PER_DAY + self.nanos
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&display::interval(self.months, self.days, self.nanos))
    }
}

/// How wide a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// Calendar months, at least 1.
    Months(i64),
    /// Nanoseconds, at least 1; a day is 24 hours of the (local) clock.
    Nanos(i128),
}

impl Width {
    /// A width is positive and does not mix months with anything else.
    pub(crate) fn try_new(span: Span) -> Result<Self> {
        let time = span.time();
        if span.months != 0 && (span.days != 0 || span.nanos != 0) {
            return Err(Error::invalid(format!(
                "the width of time_bucket mixes months with days or time, which have no fixed ratio: '{span}'"
            ))
            .with_hint("use whole months, or days and time only"));
        }
        if span.months < 0 || (span.months == 0 && time <= 0) {
            return Err(Error::invalid(format!("the width of time_bucket must be positive, got '{span}'")));
        }
        Ok(if span.months > 0 { Self::Months(span.months) } else { Self::Nanos(time) })
    }
}

impl std::fmt::Display for Width {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Months(m) => f.write_str(&display::interval(m, 0, 0)),
            Self::Nanos(n) => {
                f.write_str(&display::interval(0, (n / NANOS_PER_DAY) as i64, n % NANOS_PER_DAY))
            }
        }
    }
}
