//! ```sql
//! time_bucket(INTERVAL '6 hours', ts)                                  -- 00:00, 06:00, 12:00 … UTC
//! time_bucket('1 week', ts)                                            -- weeks start on Mondays
//! time_bucket('1 month', ts, 'Europe/Berlin')                          -- months of Berlin's calendar
//! time_bucket('1 day', ts, INTERVAL '6 hours')                         -- days that begin at 06:00
//! time_bucket('10 days', ts, TIMESTAMP '2024-01-01')                   -- counted from an origin
//! time_bucket('1 day', ts, timezone => 'America/New_York', "offset" => INTERVAL '4 hours')
//! time_bucket(100, n), time_bucket(100, n, 50)                         -- integers, with an offset
//! ```
//!
//! The start of the bucket that holds a time: the largest boundary that is not after it. Boundaries lie at
//! `origin + offset + k · width` for all integers k.
//!
//! | argument | meaning |
//! |---|---|
//! | width | `INTERVAL` of months, or of days and time (a day is 24 hours without a zone); or text |
//! | time | `DATE`, `TIMESTAMP` and `TIMESTAMP WITH TIME ZONE` of every precision; or an integer |
//! | zone | an IANA name or `+05:30`: days and months are those of the zone's calendar (see `zone.rs`) |
//! | origin | `TIMESTAMP`, `DATE`; by default Monday 2000-01-03, for months 2000-01-01, for integers 0 |
//! | offset | `INTERVAL` added to the origin |
//!
//! Contract:
//! * *Output*: the time's own type; with a zone a `TIMESTAMP` is read as UTC and becomes
//!   `TIMESTAMP WITH TIME ZONE`. Ordering is kept, so `GROUP BY time_bucket(…, ts)` streams over input that is
//!   sorted by `ts`; comparisons of `time_bucket(…, ts)` with a constant turn into comparisons of `ts`, which
//!   reach the scan.
//! * *Nulls*: a NULL width, time or third argument gives NULL; a NULL fourth or fifth argument is "not given".
//! * *Errors*: a width that is zero, negative or mixes months with days or time; a width, origin or offset finer
//!   than the time's type; an unknown zone; a bucket that begins before the smallest value of the type.
//!   Constants are checked when the statement is planned.
//! * *Cost*: without a zone and months about one multiplication per row; else one search in the zone's table
//!   per bucket change.
//! * *Source*: TimescaleDB 2 and DuckDB 1. As in both, buckets of months begin on the first of a month and only
//!   the origin's month counts (an offset moves them). Deviations: the hour that is repeated in autumn is two
//!   buckets; an origin without a zone is a time on the zone's clock; times of a DATE are not cut into hours.

mod args;
mod bucketer;
mod local;
#[cfg(test)]
mod tests;
mod width;
mod zone;

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int64Array, make_array, new_null_array};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, DocSection, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl,
    Signature, Volatility,
};
use triune_common::Error;

use self::args::Shape;
use self::bucketer::Bucketer;

/// The SQL name.
pub const NAME: &str = "time_bucket";

/// TimescaleDB's parameter names, in its order.
pub(crate) const PARAMETERS: [&str; 5] = ["bucket_width", "ts", "timezone", "origin", "offset"];

/// `time_bucket`; see the module.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct TimeBucketFunc {
    signature: Signature,
}

impl TimeBucketFunc {
    pub fn new() -> Self {
        let mut signature = Signature::user_defined(Volatility::Immutable);
        signature.parameter_names = Some(PARAMETERS.iter().map(|p| (*p).to_owned()).collect());
        Self { signature }
    }
}

impl Default for TimeBucketFunc {
    fn default() -> Self {
        Self::new()
    }
}

impl ScalarUDFImpl for TimeBucketFunc {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Only unpacks encodings: what does not fit is told by `return_field_from_args`, whose errors keep their
    /// kind on the way to the user.
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let plain = |t: &DataType| match t {
            DataType::Dictionary(_, value) => value.as_ref().clone(),
            DataType::RunEndEncoded(_, value) => value.data_type().clone(),
            DataType::Date64 => DataType::Date32,
            other => other.clone(),
        };
        let mut types: Vec<_> = types.iter().map(plain).collect();
        if let [width, time, ..] = types.as_mut_slice()
            && time.is_null()
        {
            *time = if width.is_integer() {
                DataType::Int64
            } else {
                DataType::Timestamp(TimeUnit::Microsecond, None)
            };
        }
        Ok(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(Shape::try_new(types)?.result)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let shape = Shape::try_new(&types)?;
        let nullable = args.arg_fields.iter().any(|f| f.is_nullable())
            || args.scalar_arguments.iter().any(|s| s.is_some_and(ScalarValue::is_null));
        // Wrong constants are refused before anything runs.
        let null = ScalarValue::Null;
        let constants: Option<Vec<&ScalarValue>> = args
            .scalar_arguments
            .iter()
            .enumerate()
            .map(|(i, s)| if i == 1 { Some(&null) } else { *s })
            .collect();
        if let Some(constants) = constants {
            shape.bucketer(&constants)?;
        }
        Ok(Arc::new(Field::new(NAME, shape.result, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let types: Vec<_> = args.args.iter().map(ColumnarValue::data_type).collect();
        let shape = Shape::try_new(&types)?;
        let null = ScalarValue::Null;
        let constants: Option<Vec<&ScalarValue>> = args
            .args
            .iter()
            .enumerate()
            .map(|(i, v)| match v {
                ColumnarValue::Scalar(s) if i != 1 => Some(s),
                _ if i == 1 => Some(&null),
                _ => None,
            })
            .collect();
        let Some(constants) = constants else {
            return Ok(ColumnarValue::Array(by_row(&shape, &args.args, args.number_rows)?));
        };
        let bucketer = shape.bucketer(&constants)?;
        Ok(match &args.args[1] {
            ColumnarValue::Array(times) => ColumnarValue::Array(by_column(&shape, bucketer.as_ref(), times)?),
            ColumnarValue::Scalar(time) => {
                let start = by_column(&shape, bucketer.as_ref(), &time.to_array()?)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&start, 0)?)
            }
        })
    }

    /// Buckets grow with time, so for constant other arguments the time's order is the result's.
    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        let constant =
            |(i, p): (usize, &ExprProperties)| i == 1 || p.sort_properties == SortProperties::Singleton;
        Ok(match inputs.get(1) {
            Some(time) if inputs.iter().enumerate().all(constant) => time.sort_properties,
            _ => SortProperties::Unordered,
        })
    }

    /// `time_bucket('1 hour', ts) >= '2024-05-01 10:30'` ⇔ `ts >= '2024-05-01 11:00'`, and so on.
    ///
    /// The half-open range of times whose bucket is the constant. No bucket starts at a constant that is no
    /// boundary; then both ends are the next boundary, which is right for every comparison.
    fn preimage(&self, args: &[Expr], constant: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        let range = || -> Option<PreimageResult> {
            let constant = constant.as_literal().filter(|c| !c.is_null())?;
            let types: Vec<_> = args.iter().map(|a| info.get_data_type(a).ok()).collect::<Option<_>>()?;
            let shape = Shape::try_new(&types).ok()?;
            let null = ScalarValue::Null;
            let values: Vec<_> = args
                .iter()
                .enumerate()
                .map(|(i, a)| if i == 1 { Some(&null) } else { a.as_literal() })
                .collect::<Option<_>>()?;
            let bucketer = shape.bucketer(&values).ok()??;
            if constant.data_type() != shape.result {
                return None;
            }
            let (ticks, _) = to_ticks(&constant.to_array().ok()?).ok()?;
            let at = *ticks.first()?;
            let start = bucketer.bucket(at).ok()?.start;
            let next = bucketer.next(start)?;
            let lower = if start == at { at } else { next };
            let bounds = from_ticks(vec![lower, next], None, &shape.column).ok()?;
            let bound = |i| ScalarValue::try_from_array(&bounds, i).ok();
            let interval = Interval::try_new(bound(0)?, bound(1)?).ok()?;
            Some(PreimageResult::Range { expr: args[1].clone(), interval: Box::new(interval) })
        };
        Ok(range().unwrap_or(PreimageResult::None))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOCUMENTATION: LazyLock<Documentation> = LazyLock::new(|| {
            let section = DocSection { include: true, label: "Time Series Functions", description: None };
            Documentation::builder(
                section,
                "Returns the start of the bucket that a time (or an integer) falls into. Buckets are aligned to \
                 Monday 2000-01-03, buckets of months to 2000-01-01. With a time zone, days and months are those \
                 of its calendar, across changes of its clocks.",
                "time_bucket(bucket_width, ts [, timezone] [, origin] [, offset])",
            )
            .with_argument("bucket_width", "INTERVAL of months, or of days and time; over integers an integer.")
            .with_argument("ts", "DATE, TIMESTAMP, TIMESTAMP WITH TIME ZONE or integer.")
            .with_argument("timezone", "Name of a time zone, such as 'Europe/Berlin'.")
            .with_argument("origin", "TIMESTAMP or DATE at which a bucket starts.")
            .with_argument("offset", "INTERVAL by which all buckets are moved; over integers an integer.")
            .with_sql_example(
                "```sql\n> SELECT time_bucket(INTERVAL '6 hours', TIMESTAMP '2024-05-01 10:30:00');\n\
                 2024-05-01T06:00:00\n```",
            )
            .build()
        });
        Some(&DOCUMENTATION)
    }
}

/// All arguments but the time are constants.
fn by_column(shape: &Shape, bucketer: Option<&Bucketer>, times: &ArrayRef) -> Result<ArrayRef> {
    let Some(bucketer) = bucketer else { return Ok(new_null_array(&shape.result, times.len())) };
    let (values, nulls) = to_ticks(times)?;
    let starts = bucketer.column(&values, nulls.as_ref())?;
    from_ticks(starts, nulls, &shape.result)
}

/// Some other argument is a column: a bucketer per row, kept while the arguments stay the same.
fn by_row(shape: &Shape, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let arrays = args.iter().map(|a| a.to_array(rows)).collect::<Result<Vec<_>>>()?;
    let (values, nulls) = to_ticks(&arrays[1])?;
    let mut starts = vec![0; rows];
    let mut valid = vec![false; rows];
    let mut current: Option<(Vec<ScalarValue>, Option<Bucketer>)> = None;
    for row in 0..rows {
        if nulls.as_ref().is_some_and(|n| n.is_null(row)) {
            continue;
        }
        let scalar = |(i, a): (usize, &ArrayRef)| match i {
            1 => Ok(ScalarValue::Null),
            _ => ScalarValue::try_from_array(a, row),
        };
        let scalars = arrays.iter().enumerate().map(scalar).collect::<Result<Vec<_>>>()?;
        if current.as_ref().is_none_or(|(last, _)| *last != scalars) {
            let bucketer = shape.bucketer(&scalars.iter().collect::<Vec<_>>())?;
            current = Some((scalars, bucketer));
        }
        if let Some((_, Some(bucketer))) = &current {
            starts[row] = bucketer.bucket(values[row])?.start;
            valid[row] = true;
        }
    }
    from_ticks(starts, Some(NullBuffer::from(valid)), &shape.result)
}

/// The numbers behind a column of dates, time stamps or integers.
fn to_ticks(array: &ArrayRef) -> Result<(ScalarBuffer<i64>, Option<NullBuffer>)> {
    let values = match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            array.as_primitive::<TimestampSecondType>().values().clone()
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            array.as_primitive::<TimestampMillisecondType>().values().clone()
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            array.as_primitive::<TimestampMicrosecondType>().values().clone()
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            array.as_primitive::<TimestampNanosecondType>().values().clone()
        }
        DataType::Int64 => array.as_primitive::<Int64Type>().values().clone(),
        DataType::Date32 => {
            array.as_primitive::<Date32Type>().values().iter().map(|d| i64::from(*d)).collect()
        }
        DataType::UInt64 => {
            let checked = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(array, &DataType::Int64, &checked)?.as_primitive::<Int64Type>().values().clone()
        }
        // Narrower integers.
        _ => cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().values().clone(),
    };
    Ok((values, array.nulls().cloned()))
}

/// The way back. Starts lie below their values, so narrow and unsigned types can be left.
fn from_ticks(ticks: Vec<i64>, nulls: Option<NullBuffer>, result: &DataType) -> Result<ArrayRef> {
    let beyond = |v: &dyn std::fmt::Display| {
        let name = display_type(result);
        Error::invalid(format!("a bucket begins at {v}, which is out of the range of {name}"))
    };
    Ok(match result {
        DataType::Timestamp(..) => {
            let data = Int64Array::new(ticks.into(), nulls).into_data();
            make_array(data.into_builder().data_type(result.clone()).build()?)
        }
        DataType::Date32 => {
            let is_valid = |i: usize| nulls.as_ref().is_none_or(|n| n.is_valid(i));
            let days = ticks
                .iter()
                .enumerate()
                .map(|(i, t)| match i32::try_from(*t) {
                    Ok(day) => Ok(day),
                    Err(_) if !is_valid(i) => Ok(0),
                    Err(_) => Err(beyond(&format!("day {t}"))),
                })
                .collect::<std::result::Result<Vec<_>, _>>()?;
            Arc::new(Date32Array::new(days.into(), nulls))
        }
        _ => {
            let wide = Int64Array::new(ticks.into(), nulls);
            let narrow = cast(&wide, result)?;
            if narrow.null_count() > wide.null_count() {
                let lost = (0..wide.len()).find(|&i| wide.is_valid(i) && narrow.is_null(i)).unwrap_or(0);
                return Err(beyond(&wide.value(lost)).into());
            }
            narrow
        }
    })
}

fn display_type(t: &DataType) -> String {
    crate::display::type_name(t)
}
