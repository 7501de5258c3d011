//! ```sql
//! SELECT seen AT TIME ZONE 'Europe/Berlin', timezone('America/New_York', seen) FROM events;
//! ```
//!
//! `timezone(zone, t)`, which is what `t AT TIME ZONE zone` becomes, as in PostgreSQL: a TIMESTAMPTZ becomes the
//! TIMESTAMP that clocks of the zone show, a TIMESTAMP is read as what they show and becomes a TIMESTAMPTZ, in the
//! session's zone. A time that clocks skip is read with the offset before it; one that they show twice is the later one.
//! Texts and dates are TIMESTAMPTZ first.
//!
//! An offset counts as in ISO 8601: `'+02:00'` is east of Greenwich (PostgreSQL reads it as POSIX, west). NULL in either
//! argument gives NULL; an unknown zone is an error.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, TimestampNanosecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::define::{is_text, no_form, over_arrays, text};
use crate::moments::{Moments, from_local, nanos, parse_zone, to_local};

pub(crate) fn timezone() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Timezone::with(&ConfigOptions::default())))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Timezone {
    session: Arc<str>,
    signature: Signature,
}

impl Timezone {
    fn with(options: &ConfigOptions) -> Self {
        let session = options.execution.time_zone.as_deref().unwrap_or("UTC");
        Self { session: session.into(), signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn zoned(&self) -> DataType {
        DataType::Timestamp(TimeUnit::Nanosecond, Some(Arc::clone(&self.session)))
    }
}

impl ScalarUDFImpl for Timezone {
    fn name(&self) -> &str {
        "timezone"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(match types {
            [zone, DataType::Timestamp(_, at)] if is_text(zone) => {
                vec![DataType::Utf8, DataType::Timestamp(TimeUnit::Nanosecond, at.clone())]
            }
            [zone, t]
                if is_text(zone) && (is_text(t) || matches!(t, DataType::Date32 | DataType::Date64)) =>
            {
                vec![DataType::Utf8, self.zoned()]
            }
            _ => types.to_vec(),
        })
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [DataType::Utf8, DataType::Timestamp(_, None)] => Ok(self.zoned()),
            [DataType::Utf8, DataType::Timestamp(_, Some(_))] => {
                Ok(DataType::Timestamp(TimeUnit::Nanosecond, None))
            }
            _ => Err(no_form("timezone", types, "timezone(zone, timestamp), or timestamp AT TIME ZONE zone")
                .into()),
        }
    }

    fn with_updated_config(&self, options: &ConfigOptions) -> Option<ScalarUDF> {
        Some(ScalarUDF::new_from_impl(Self::with(options)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, |arrays| self.run(arrays))
    }
}

impl Timezone {
    fn run(&self, args: &[ArrayRef]) -> Result<ArrayRef> {
        let (zones, moments) = (text(&args[0]), Moments::of(&args[1])?);
        let becomes_local = moments.zone.is_some();
        let mut last = None;
        let mut all = Vec::with_capacity(args[1].len());
        for (row, moment) in moments.values.into_iter().enumerate() {
            let (false, Some(moment)) = (zones.is_null(row), moment) else {
                all.push(None);
                continue;
            };
            let name = zones.value(row);
            let zone = match &last {
                Some((known, zone)) if *known == name => *zone,
                _ => last.insert((name, parse_zone(name)?)).1,
            };
            let moved = if becomes_local { to_local(moment, zone) } else { from_local(moment, zone) };
            all.push(moved.map(nanos).transpose()?);
        }
        let all = TimestampNanosecondArray::from(all);
        Ok(if becomes_local { Arc::new(all) } else { Arc::new(all.with_timezone(Arc::clone(&self.session))) })
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDateTime;

    use super::*;

    /// What PostgreSQL 15 answers for times that clocks of Berlin skip or show twice.
    #[test]
    fn gaps_and_overlaps_as_postgresql() {
        let at = |s: &str| s.parse::<NaiveDateTime>().unwrap();
        let berlin = parse_zone("Europe/Berlin").unwrap();
        let cases = [
            ("2024-03-31T02:30:00", "2024-03-31T01:30:00"),
            ("2024-10-27T02:30:00", "2024-10-27T01:30:00"),
            ("2024-06-01T12:00:00", "2024-06-01T10:00:00"),
        ];
        for (local, utc) in cases {
            assert_eq!(from_local(at(local), berlin), Some(at(utc)), "{local}");
        }
        assert_eq!(to_local(at("2024-06-01T10:00:00"), berlin), Some(at("2024-06-01T12:00:00")));
        assert!(parse_zone("Nowhere").is_err());
    }
}
