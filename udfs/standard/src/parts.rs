//! ```sql
//! SELECT extract(epoch FROM later - earlier), extract(second FROM ts), date_part('decade', ts) FROM t;
//! ```
//!
//! `extract` and `date_part` as PostgreSQL has them, in the place of DataFusion's:
//!
//! * `second`, `milliseconds` and `epoch` are doubles with their fraction (DataFusion's seconds are whole).
//! * Of a difference of two times (a duration) and of an interval every part is taken that PostgreSQL knows: days
//!   are whole days, hours those that remain. DataFusion loses the fraction of the epoch of long durations. A year of an
//!   interval's epoch has 365.25 days, a month 30.
//! * `decade`, `century`, `millennium`, `julian`, and DuckDB's `yearweek`.
//!
//! All other parts of dates and times are DataFusion's. NULL gives NULL.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, TimestampMicrosecondArray,
};
use arrow::compute::{cast, kernels::arity};
use arrow::datatypes::{
    DataType, DurationNanosecondType, Field, FieldRef, Float64Type, Int32Type, Int64Type,
    IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};
use triune_common::Error;

use crate::moments::{Moments, to_local};

const DAY: i64 = 86_400_000_000_000;
const SECOND: i64 = 1_000_000_000;

/// `date_part` over DataFusion's.
pub(crate) fn date_part(inner: &Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(DatePart { inner: Arc::clone(inner) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DatePart {
    inner: Arc<ScalarUDF>,
}

/// The parts that are not left to DataFusion everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Epoch,
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    Julian,
    YearWeek,
    Other,
}

impl Part {
    fn of(name: &str) -> Self {
        match name.trim_matches(['\'', '"']).to_ascii_lowercase().as_str() {
            "epoch" => Self::Epoch,
            "second" | "seconds" | "s" | "sec" | "secs" => Self::Second,
            "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" | "msecond" | "mseconds" => {
                Self::Millisecond
            }
            "microsecond" | "microseconds" | "us" | "usec" | "usecs" | "usecond" | "useconds" => {
                Self::Microsecond
            }
            "nanosecond" | "nanoseconds" | "nanosecs" | "ns" => Self::Nanosecond,
            "minute" | "minutes" | "min" | "mins" => Self::Minute,
            "hour" | "hours" | "h" | "hr" | "hrs" => Self::Hour,
            "day" | "days" | "d" => Self::Day,
            "week" | "weeks" | "w" => Self::Week,
            "month" | "months" | "mon" | "mons" => Self::Month,
            "quarter" | "quarters" | "qtr" => Self::Quarter,
            "year" | "years" | "y" | "yr" | "yrs" => Self::Year,
            "decade" | "decades" | "dec" | "decs" => Self::Decade,
            "century" | "centuries" | "cent" | "c" => Self::Century,
            "millennium" | "millennia" | "mil" | "mils" => Self::Millennium,
            "julian" => Self::Julian,
            "yearweek" => Self::YearWeek,
            _ => Self::Other,
        }
    }

    fn gives(self) -> DataType {
        match self {
            Self::Epoch | Self::Second | Self::Millisecond | Self::Julian => DataType::Float64,
            Self::Nanosecond => DataType::Int64,
            _ => DataType::Int32,
        }
    }
}

impl ScalarUDFImpl for DatePart {
    fn name(&self) -> &str {
        "date_part"
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let name = args.scalar_arguments.first().copied().flatten().and_then(|s| s.try_as_str().flatten());
        let nullable = args.arg_fields.last().is_none_or(|f| f.is_nullable());
        match name.map(Part::of) {
            None | Some(Part::Other) => self.inner.return_field_from_args(args),
            Some(part) => Ok(Arc::new(Field::new(self.name(), part.gives(), nullable))),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = match args.args.first() {
            Some(ColumnarValue::Scalar(name)) => name.try_as_str().flatten().unwrap_or_default().to_owned(),
            _ => return self.inner.invoke_with_args(args),
        };
        let part = Part::of(&name);
        let [_, value] = args.args.as_slice() else { return self.inner.invoke_with_args(args) };
        let inner = |name: &str, array: &ArrayRef| {
            let part = ScalarValue::Utf8(Some(name.to_owned()));
            let fields = vec![
                Arc::new(Field::new("part", DataType::Utf8, false)),
                Arc::new(Field::new("value", array.data_type().clone(), true)),
            ];
            let constant = part.clone();
            let known = [Some(&constant), None];
            let return_field = self
                .inner
                .return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &known })?;
            let call = ScalarFunctionArgs {
                args: vec![ColumnarValue::Scalar(part), ColumnarValue::Array(Arc::clone(array))],
                arg_fields: fields,
                number_rows: array.len(),
                return_field,
                config_options: Arc::clone(&args.config_options),
            };
            self.inner.invoke_with_args(call)?.to_array(array.len())
        };
        let scalar = matches!(value, ColumnarValue::Scalar(_));
        let array = value.to_array(if scalar { 1 } else { args.number_rows })?;
        let parts = match array.data_type() {
            DataType::Duration(_) | DataType::Interval(_) => of_intervals(part, &name, &array)?,
            _ => match part {
                Part::Second => seconds(&inner("nanosecond", &array)?, 1e9),
                Part::Millisecond => seconds(&inner("nanosecond", &array)?, 1e6),
                Part::Decade | Part::Century | Part::Millennium => {
                    let years = inner("year", &array)?;
                    Arc::new(years.as_primitive::<Int32Type>().unary::<_, Int32Type>(|y| spans(part, y)))
                }
                Part::Julian => {
                    // What the clocks of its zone show.
                    let moments = Moments::of(&array)?;
                    let local = match moments.zone {
                        Some(zone) => {
                            let all = moments.values.into_iter().map(|m| m.and_then(|m| to_local(m, zone)));
                            let micros = all.map(|m| m.map(|m| m.and_utc().timestamp_micros()));
                            Arc::new(micros.collect::<TimestampMicrosecondArray>()) as ArrayRef
                        }
                        None => Arc::clone(&array),
                    };
                    let epochs = inner("epoch", &local)?;
                    let days = |s: f64| s / 86_400.0 + 2_440_588.0;
                    Arc::new(epochs.as_primitive::<Float64Type>().unary::<_, Float64Type>(days))
                }
                Part::YearWeek => {
                    let (years, weeks) = (inner("isoyear", &array)?, inner("week", &array)?);
                    let all: Int32Array = arity::binary(
                        years.as_primitive::<Int32Type>(),
                        weeks.as_primitive::<Int32Type>(),
                        |y, w| y * 100 + if y < 0 { -w } else { w },
                    )?;
                    Arc::new(all)
                }
                _ => inner(&name, &array)?,
            },
        };
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&parts, 0)?));
        }
        Ok(ColumnarValue::Array(parts))
    }

    fn preimage(&self, args: &[Expr], value: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        self.inner.preimage(args, value, info)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// DataFusion's `nanosecond` holds the seconds too.
fn seconds(nanos: &ArrayRef, per_unit: f64) -> ArrayRef {
    #[expect(clippy::cast_precision_loss, reason = "a minute has less than 2^53 nanoseconds")]
    let all = nanos.as_primitive::<Int64Type>().unary::<_, Float64Type>(|n| n as f64 / per_unit);
    Arc::new(all)
}

/// PostgreSQL's decade, century and millennium of a year; the first century begins with the year 1.
fn spans(part: Part, year: i32) -> i32 {
    let counted = |years: i32| if year > 0 { (year + years - 1) / years } else { -((years - year) / years) };
    match part {
        Part::Century => counted(100),
        Part::Millennium => counted(1000),
        _ => year.div_euclid(10),
    }
}

/// Parts of intervals, and of durations, whose whole days are taken out first.
fn of_intervals(part: Part, name: &str, array: &ArrayRef) -> Result<ArrayRef> {
    let intervals: Vec<Option<IntervalMonthDayNano>> = match array.data_type() {
        DataType::Duration(_) => {
            let nanos = cast(array, &DataType::Duration(TimeUnit::Nanosecond))?;
            if nanos.null_count() > array.null_count() {
                return Err(Error::invalid(format!("a duration is too long to take its {name}")).into());
            }
            let split =
                |n: i64| i32::try_from(n / DAY).map(|d| IntervalMonthDayNano::new(0, d, n % DAY)).ok();
            nanos.as_primitive::<DurationNanosecondType>().iter().map(|n| n.and_then(split)).collect()
        }
        _ => {
            let all = cast(array, &DataType::Interval(IntervalUnit::MonthDayNano))?;
            all.as_primitive::<IntervalMonthDayNanoType>().iter().collect()
        }
    };
    let each = |f: fn(IntervalMonthDayNano) -> i64| -> ArrayRef {
        let all = intervals.iter().map(|i| i.map(f));
        match part.gives() {
            DataType::Int64 => Arc::new(all.collect::<Int64Array>()),
            _ => Arc::new(all.map(|n| n.and_then(|n| i32::try_from(n).ok())).collect::<Int32Array>()),
        }
    };
    let doubles = |f: fn(IntervalMonthDayNano) -> f64| -> ArrayRef {
        Arc::new(intervals.iter().map(|i| i.map(f)).collect::<Float64Array>())
    };
    Ok(match part {
        Part::Epoch => doubles(epoch),
        Part::Second => doubles(|i| within_minute(i) / 1e9),
        Part::Millisecond => doubles(|i| within_minute(i) / 1e6),
        Part::Microsecond => each(|i| i.nanoseconds % (60 * SECOND) / 1_000),
        Part::Nanosecond => each(|i| i.nanoseconds % (60 * SECOND)),
        Part::Minute => each(|i| i.nanoseconds / (60 * SECOND) % 60),
        Part::Hour => each(|i| i.nanoseconds / (3_600 * SECOND)),
        Part::Day => each(|i| i64::from(i.days)),
        Part::Week => each(|i| i64::from(i.days / 7)),
        Part::Month => each(|i| i64::from(i.months % 12)),
        Part::Quarter => each(|i| i64::from(i.months % 12 / 3 + 1)),
        Part::Year => each(|i| i64::from(i.months / 12)),
        Part::Decade => each(|i| i64::from(i.months / 120)),
        Part::Century => each(|i| i64::from(i.months / 1_200)),
        Part::Millennium => each(|i| i64::from(i.months / 12_000)),
        Part::Julian | Part::YearWeek | Part::Other => {
            return Err(Error::invalid(format!("an interval has no part {name:?}")).into());
        }
    })
}

#[expect(clippy::cast_precision_loss, reason = "a minute has less than 2^53 nanoseconds")]
fn within_minute(i: IntervalMonthDayNano) -> f64 {
    (i.nanoseconds % (60 * SECOND)) as f64
}

fn epoch(i: IntervalMonthDayNano) -> f64 {
    let years = f64::from(i.months / 12) * 365.25 * 86_400.0;
    let whole = years + f64::from(i.months % 12) * 30.0 * 86_400.0 + f64::from(i.days) * 86_400.0;
    #[expect(clippy::cast_precision_loss, reason = "the result is a double")]
    let time = i.nanoseconds as f64 / 1e9;
    whole + time
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PostgreSQL 15 answers.
    #[test]
    fn spans_as_postgresql() {
        let cases = [(2024, 202, 21, 3), (2000, 200, 20, 2), (2001, 200, 21, 3), (1, 0, 1, 1)];
        for (year, decade, century, millennium) in cases {
            let got = [Part::Decade, Part::Century, Part::Millennium].map(|p| spans(p, year));
            assert_eq!(got, [decade, century, millennium], "{year}");
        }
    }

    #[test]
    fn epochs_as_postgresql() {
        assert!((epoch(IntervalMonthDayNano::new(14, 3, 1_500_000_000)) - 37_000_801.5).abs() < 1e-6);
    }

    /// Midnight in Greenwich is one o'clock in Berlin.
    #[test]
    fn julian_days_are_local() {
        let part = ScalarValue::from("julian");
        let at = ScalarValue::TimestampNanosecond(Some(1_704_067_200 * SECOND), Some("Europe/Berlin".into()));
        let fields = [&part, &at].map(|v| Arc::new(Field::new("a", v.data_type(), true)));
        let call = ScalarFunctionArgs {
            args: vec![ColumnarValue::Scalar(part), ColumnarValue::Scalar(at)],
            arg_fields: fields.to_vec(),
            number_rows: 1,
            return_field: Arc::new(Field::new("julian", DataType::Float64, true)),
            config_options: Arc::default(),
        };
        let date_part = date_part(&datafusion::functions::datetime::date_part());
        let got = date_part.invoke_with_args(call).unwrap().to_array(1).unwrap();
        let got = got.as_primitive::<Float64Type>().value(0);
        assert!((got - 2_460_311.041_666_667).abs() < 1e-6, "{got}");
    }
}
