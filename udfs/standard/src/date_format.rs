//! ```sql
//! SELECT to_char(ts, 'YYYY-MM-DD HH24:MI:SS'), to_char(ts, 'FMDay, DD Mon'), to_date('05 Mar 2024', 'DD Mon YYYY'),
//!        to_timestamp('2024-03-05 10:11', 'YYYY-MM-DD HH24:MI'), strftime(ts, '%d.%m.%Y'), strptime('2024-03', '%Y-%m');
//! ```
//!
//! Times as texts by a format, in the place of DataFusion's functions of these names. A format with a `%` is chrono's,
//! as DataFusion reads it and as DuckDB's `strftime` and `strptime` do; any other is a template of PostgreSQL's
//! (`template.rs`). DuckDB's `%f`, `%g` and `%n` are microseconds, milliseconds and nanoseconds in `strftime`.
//!
//! `to_char` takes dates, timestamps and their differences; `to_timestamp` gives a TIMESTAMPTZ, read in the session's
//! zone where the text has none; `strptime` gives a TIMESTAMP. NULL in any argument gives NULL. A text that does not
//! fit its template and an unknown field of a difference are errors.

mod read;
mod template;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, StringArray, TimestampNanosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, Time64NanosecondType,
    TimeUnit,
};
use chrono::format::{Parsed, StrftimeItems};
use chrono::{NaiveDate, NaiveDateTime};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use triune_common::Error;

use crate::define::{any_null, define, is_text, over_arrays, text};
use crate::moments::{Moments, from_local, nanos, parse_zone, to_local};
use template::Template;

/// Functions of PostgreSQL's templates over DataFusion's, and DuckDB's.
pub(crate) fn functions(existing: &dyn Fn(&str) -> Option<Arc<ScalarUDF>>) -> Vec<Arc<ScalarUDF>> {
    let mut all = vec![
        define("strftime(time, format)", &[], time_and_text, |_| DataType::Utf8, strftime),
        define(
            "strptime(text, format)",
            &[],
            crate::define::texts::<2>,
            |_| DataType::Timestamp(TimeUnit::Nanosecond, None),
            strptime,
        ),
    ];
    for does in [Does::Write, Does::ReadDate, Does::ReadTime] {
        all.extend(
            existing(does.name()).map(|inner| Arc::new(ScalarUDF::new_from_impl(ByTemplate { does, inner }))),
        );
    }
    all
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Does {
    Write,
    ReadDate,
    ReadTime,
}

impl Does {
    fn name(self) -> &'static str {
        match self {
            Self::Write => "to_char",
            Self::ReadDate => "to_date",
            Self::ReadTime => "to_timestamp",
        }
    }
}

/// One of DataFusion's functions that also knows templates.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ByTemplate {
    does: Does,
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for ByTemplate {
    fn name(&self) -> &str {
        self.does.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        static WRITES: std::sync::LazyLock<Signature> = std::sync::LazyLock::new(|| {
            Signature::user_defined(datafusion::logical_expr::Volatility::Immutable)
        });
        if self.does == Does::Write { &WRITES } else { self.inner.signature() }
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match (self.does, types) {
            (Does::Write, [value, format]) if is_text(format) => {
                let value = match value {
                    DataType::Null => DataType::Timestamp(TimeUnit::Nanosecond, None),
                    DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
                    // As DataFusion does.
                    t if is_text(t) => DataType::Timestamp(TimeUnit::Nanosecond, None),
                    other => other.clone(),
                };
                Ok(vec![value, DataType::Utf8])
            }
            (Does::Write, _) => Ok(types.to_vec()),
            _ => self.inner.coerce_types(types),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let known =
            |t: &DataType| t.is_temporal() || matches!(t, DataType::Interval(_) | DataType::Duration(_));
        match (self.does, types) {
            (Does::Write, [value, DataType::Utf8]) if known(value) => Ok(DataType::Utf8),
            (Does::Write, _) => {
                Err(crate::define::no_form("to_char", types, "to_char(date or time, format)").into())
            }
            _ => self.inner.return_type(types),
        }
    }

    fn with_updated_config(&self, options: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = self.inner.inner().with_updated_config(options)?;
        Some(ScalarUDF::new_from_impl(Self { does: self.does, inner: Arc::new(inner) }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value, format] = args.args.as_slice() else { return self.inner.invoke_with_args(args) };
        if let ColumnarValue::Scalar(format) = format
            && let Some(format) = format.try_as_str().flatten()
            && (format.contains('%') || self.is_left(format, &value.data_type()))
        {
            return self.inner.invoke_with_args(args);
        }
        // A constant of any text type becomes Utf8, which kernels read.
        let texts = |array: &ArrayRef| cast(array, &DataType::Utf8);
        let returned = args.return_field.data_type().clone();
        let known = Arc::clone(&args.return_field);
        let inner = |value: &ArrayRef, format: &str| -> Result<ArrayRef> {
            let constant = ColumnarValue::Scalar(ScalarValue::Utf8(Some(format.to_owned())));
            let call = ScalarFunctionArgs {
                args: vec![ColumnarValue::Array(Arc::clone(value)), constant],
                arg_fields: vec![
                    Arc::new(Field::new("value", value.data_type().clone(), true)),
                    Arc::new(Field::new("format", DataType::Utf8, false)),
                ],
                number_rows: value.len(),
                return_field: Arc::clone(&known),
                config_options: Arc::clone(&args.config_options),
            };
            self.inner.invoke_with_args(call)?.to_array(value.len())
        };
        over_arrays(&args, |arrays| {
            let formats = texts(&arrays[1])?;
            let formats = text(&formats);
            // Formats that differ from row to row may be of either kind: row by row then.
            if formats.iter().flatten().any(|f| f.contains('%')) {
                let mut parts = Vec::with_capacity(formats.len());
                for row in 0..formats.len() {
                    let value = arrays[0].slice(row, 1);
                    let one = formats.slice(row, 1);
                    parts.push(if one.is_valid(0) && one.value(0).contains('%') {
                        inner(&value, one.value(0))?
                    } else {
                        self.by_template(&value, &one, &returned)?
                    });
                }
                let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                return Ok(arrow::compute::concat(&parts)?);
            }
            self.by_template(&arrays[0], formats, &returned)
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

impl ByTemplate {
    /// What only DataFusion's own function knows.
    fn is_left(&self, format: &str, value: &DataType) -> bool {
        match self.does {
            Does::Write => {
                matches!(value, DataType::Duration(_))
                    && ["ISO8601", "PRETTY"].iter().any(|f| f.eq_ignore_ascii_case(format))
            }
            _ => !is_text(value),
        }
    }

    fn by_template(&self, value: &ArrayRef, formats: &StringArray, returned: &DataType) -> Result<ArrayRef> {
        let mut last: Option<(&str, Template)> = None;
        let mut template = |row: usize| -> Result<Template> {
            let format = formats.value(row);
            match &last {
                Some((known, template)) if *known == format => Ok(template.clone()),
                _ => {
                    let template = Template::parse(format);
                    last = Some((format, template.clone()));
                    Ok(template)
                }
            }
        };
        if self.does == Does::Write {
            let fields = write_fields(value)?;
            let mut all = Vec::with_capacity(value.len());
            for (row, fields) in fields.into_iter().enumerate() {
                all.push(match fields {
                    Some(fields) if formats.is_valid(row) => Some(write::write(&template(row)?, &fields)?),
                    _ => None,
                });
            }
            return Ok(Arc::new(StringArray::from(all)));
        }
        let values = cast(value, &DataType::Utf8)?;
        let values = text(&values);
        let zone = match returned {
            DataType::Timestamp(_, Some(zone)) => Some(parse_zone(zone)?),
            _ => None,
        };
        let mut read = Vec::with_capacity(values.len());
        for row in 0..values.len() {
            read.push(match values.is_null(row) || formats.is_null(row) {
                true => None,
                false => Some(read::read(&template(row)?, values.value(row), formats.value(row))?),
            });
        }
        if self.does == Does::ReadDate {
            let days = |m: read::Read| m.local.date().signed_duration_since(NaiveDate::default()).num_days();
            let days = read.into_iter().map(|m| m.and_then(|m| i32::try_from(days(m)).ok()));
            return Ok(Arc::new(days.collect::<Date32Array>()));
        }
        let moment = |m: read::Read| -> Result<i64> {
            let moment = match (m.offset, zone) {
                (Some(offset), _) => m.local.checked_sub_offset(offset),
                (None, Some(zone)) => from_local(m.local, zone),
                (None, None) => Some(m.local),
            };
            nanos(moment.ok_or_else(|| Error::invalid(format!("{} is out of range", m.local)))?)
        };
        let all = read.into_iter().map(|m| m.map(moment).transpose()).collect::<Result<Vec<_>>>()?;
        Ok(cast(
            &(Arc::new(TimestampNanosecondArray::from(all)) as ArrayRef),
            &DataType::Timestamp(TimeUnit::Nanosecond, None),
        )
        .map(|all| all.as_primitive::<arrow::datatypes::TimestampNanosecondType>().clone())
        .map(|all| match returned {
            DataType::Timestamp(_, zone) => Arc::new(all.with_timezone_opt(zone.clone())) as ArrayRef,
            _ => Arc::new(all) as ArrayRef,
        })?)
    }
}

/// What templates ask for, of every row.
fn write_fields(value: &ArrayRef) -> Result<Vec<Option<write::Fields>>> {
    if let DataType::Interval(_) | DataType::Duration(_) = value.data_type() {
        let intervals = match value.data_type() {
            DataType::Duration(_) => {
                let nanos = cast(value, &DataType::Duration(TimeUnit::Nanosecond))?;
                cast(&nanos, &DataType::Interval(IntervalUnit::MonthDayNano))?
            }
            _ => cast(value, &DataType::Interval(IntervalUnit::MonthDayNano))?,
        };
        let splits = matches!(value.data_type(), DataType::Duration(_));
        let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
        return Ok(intervals.iter().map(|i| i.map(|i| write::Fields::of_interval(i, splits))).collect());
    }
    // A time of day is an interval, as in PostgreSQL.
    if let DataType::Time32(_) | DataType::Time64(_) = value.data_type() {
        let times = cast(value, &DataType::Time64(TimeUnit::Nanosecond))?;
        let times = times.as_primitive::<Time64NanosecondType>();
        let fields = |n| write::Fields::of_interval(IntervalMonthDayNano::new(0, 0, n), false);
        return Ok(times.iter().map(|n| n.map(fields)).collect());
    }
    let moments = Moments::of(value)?;
    let zone = moments.zone;
    let fields = |utc: NaiveDateTime| match zone {
        Some(zone) => to_local(utc, zone).map(|local| write::Fields::of_moment(local, Some((utc, zone)))),
        None => Some(write::Fields::of_moment(utc, None)),
    };
    Ok(moments.values.into_iter().map(|m| m.and_then(fields)).collect())
}

fn time_and_text(types: &[DataType]) -> Option<Vec<DataType>> {
    match types {
        [t @ (DataType::Date32 | DataType::Date64 | DataType::Timestamp(..)), f] if is_text(f) => {
            Some(vec![t.clone(), DataType::Utf8])
        }
        // DuckDB takes them in either order.
        [t, f] if t.is_null() && is_text(f) => {
            Some(vec![DataType::Timestamp(TimeUnit::Nanosecond, None), DataType::Utf8])
        }
        _ => None,
    }
}

fn strftime(args: &[ArrayRef]) -> Result<ArrayRef> {
    use std::fmt::Write;
    let (moments, formats) = (Moments::of(&args[0])?, text(&args[1]));
    let mut all = Vec::with_capacity(formats.len());
    for (row, moment) in moments.values.into_iter().enumerate() {
        let (Some(utc), true) = (moment, formats.is_valid(row)) else {
            all.push(None);
            continue;
        };
        let format = duckdb_to_chrono(formats.value(row), moments.zone.is_some());
        let mut out = String::new();
        let written = match moments.zone {
            Some(zone) => {
                use chrono::TimeZone;
                write!(out, "{}", zone.from_utc_datetime(&utc).format(&format))
            }
            None => write!(out, "{}", utc.and_utc().format(&format)),
        };
        if written.is_err() {
            let format = formats.value(row);
            return Err(
                Error::invalid(format!("the format {format:?} of strftime has an unknown part")).into()
            );
        }
        all.push(Some(out));
    }
    Ok(Arc::new(StringArray::from(all)))
}

/// DuckDB's fractions of seconds, which are other things in chrono; without a zone its name is empty.
fn duckdb_to_chrono(format: &str, zoned: bool) -> String {
    let mut out = String::with_capacity(format.len());
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('Z') if !zoned => {}
            Some('f') => out.push_str("%6f"),
            Some('g') => out.push_str("%3f"),
            Some('n') => out.push_str("%9f"),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}

/// What a text leaves out is 1900-01-01 00:00:00's.
fn strptime(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (values, formats) = (text(&args[0]), text(&args[1]));
    let mut all = Vec::with_capacity(values.len());
    for row in 0..values.len() {
        if any_null(args, row) {
            all.push(None);
            continue;
        }
        let (value, format) = (values.value(row), formats.value(row));
        let wrong =
            || Error::invalid(format!("the text {value:?} does not fit the format {format:?} of strptime"));
        let mut parsed = Parsed::new();
        take_all(&mut parsed, value, format).ok_or_else(wrong)?;
        // DuckDB's first century ends with 2068, chrono's with 2069.
        if parsed.year_mod_100() == Some(69) && parsed.year().is_none() && parsed.year_div_100().is_none() {
            let _ = parsed.set_year_div_100(19);
        }
        let (year, week) = (parsed.year().or_else(|| parsed.year_mod_100()), parsed.isoweek());
        if year.is_none() && parsed.isoyear().is_none() && parsed.timestamp().is_none() {
            let _ = parsed.set_year(1900);
        }
        if parsed.ordinal().is_none() && week.is_none() && parsed.timestamp().is_none() {
            if parsed.month().is_none() {
                let _ = parsed.set_month(1);
            }
            if parsed.day().is_none() {
                let _ = parsed.set_day(1);
            }
        }
        if parsed.hour_div_12().is_none() && parsed.timestamp().is_none() {
            // Without AM and PM the hour is as it was written: 12 is noon.
            let hour = parsed.hour_mod_12().map_or(0, |hour| if hour == 0 { 12 } else { hour });
            let _ = parsed.set_hour(i64::from(hour));
        }
        if parsed.minute().is_none() && parsed.timestamp().is_none() {
            let _ = parsed.set_minute(0);
        }
        let offset = parsed.offset().unwrap_or(0);
        let moment = parsed.to_naive_datetime_with_offset(offset).map_err(|_| wrong())?;
        let utc = moment.checked_sub_signed(chrono::TimeDelta::seconds(i64::from(offset)));
        all.push(Some(nanos(utc.ok_or_else(wrong)?)?));
    }
    Ok(Arc::new(TimestampNanosecondArray::from(all)))
}

/// Reads a text by a format of DuckDB's: chrono's parts, and fractions of a second in as many digits as there are.
/// Blanks around the text do not count.
fn take_all(parsed: &mut Parsed, value: &str, format: &str) -> Option<()> {
    let mut rest = value.trim_start();
    let mut plain = String::new();
    let mut chars = format.chars();
    loop {
        let most = match chars.next() {
            None => break,
            Some('%') => match chars.next() {
                Some('f' | 'n') => 9,
                Some('g') => 3,
                Some(other) => {
                    plain.extend(['%', other]);
                    continue;
                }
                None => return None,
            },
            Some(c) => {
                plain.push(c);
                continue;
            }
        };
        rest = chrono::format::parse_and_remainder(parsed, rest, StrftimeItems::new(&plain)).ok()?;
        plain.clear();
        let length = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let digits: i64 = rest[..length].parse().ok()?;
        let scale = 10i64.checked_pow(u32::try_from(9 - length).ok()?)?;
        parsed.set_nanosecond(digits.checked_mul(scale)?).ok()?;
        rest = &rest[length..];
    }
    rest = chrono::format::parse_and_remainder(parsed, rest, StrftimeItems::new(&plain)).ok()?;
    rest.trim_start().is_empty().then_some(())
}
