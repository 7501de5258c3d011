//! `time_bucket` against naive oracles, and through SQL.

use arrow::array::timezone::Tz;
use arrow::array::{RecordBatch, TimestampMicrosecondArray, TimestampMillisecondArray};
use arrow::datatypes::{IntervalMonthDayNanoType, Schema};
use arrow::util::display::array_value_to_string;
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveDateTime, Offset, TimeZone};
use datafusion::config::ConfigOptions;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext};
use proptest::prelude::*;

use super::*;

fn call(args: Vec<ColumnarValue>, rows: usize) -> Result<ColumnarValue> {
    let function = ScalarUDF::new_from_impl(TimeBucketFunc::new());
    let arg_fields: Vec<FieldRef> =
        args.iter().map(|a| Arc::new(Field::new("a", a.data_type(), true)) as FieldRef).collect();
    let scalars: Vec<Option<&ScalarValue>> = args
        .iter()
        .map(|a| match a {
            ColumnarValue::Scalar(s) => Some(s),
            ColumnarValue::Array(_) => None,
        })
        .collect();
    let return_field = function
        .return_field_from_args(ReturnFieldArgs { arg_fields: &arg_fields, scalar_arguments: &scalars })?;
    let config_options = Arc::new(ConfigOptions::default());
    function.invoke_with_args(ScalarFunctionArgs {
        args,
        arg_fields,
        number_rows: rows,
        return_field,
        config_options,
    })
}

fn interval(months: i32, days: i32, nanos: i64) -> ColumnarValue {
    let v = IntervalMonthDayNanoType::make_value(months, days, nanos);
    ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(v)))
}

fn text(s: &str) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::from(s))
}

fn micros(values: &[i64]) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(TimestampMicrosecondArray::from(values.to_vec())))
}

fn column_of(value: ColumnarValue) -> Vec<i64> {
    let array = value.into_array(1).unwrap();
    to_ticks(&array).unwrap().0.to_vec()
}

const MINUTE: i64 = 60_000_000;
const DAY: i64 = 1_440 * MINUTE;

fn at(s: &str) -> i64 {
    for format in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"] {
        if let Ok(t) = NaiveDateTime::parse_from_str(s, format) {
            return t.and_utc().timestamp_micros();
        }
    }
    panic!("{s}")
}

// ---- oracles ------------------------------------------------------------------------------------

fn month_oracle(ts: i64, months: i32, offset_days: i64) -> i64 {
    let date = DateTime::from_timestamp_micros(ts - offset_days * DAY).unwrap().date_naive();
    let mut start = NaiveDate::from_ymd_opt(2000, 1, 1).unwrap();
    let by = Months::new(months as u32);
    while start > date {
        start = start - by;
    }
    while start + by <= date {
        start = start + by;
    }
    start.and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp_micros() + offset_days * DAY
}

fn local_minutes(zone: Tz, minute: i64) -> i64 {
    let utc = DateTime::from_timestamp(minute * 60, 0).unwrap().naive_utc();
    minute + i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()) / 60
}

/// Walks back minute by minute until the local clock shows a boundary or has jumped over one.
fn narrow_oracle(zone: Tz, minute: i64, width: i64, phase: i64) -> i64 {
    let is_boundary = |local: i64| (local - phase).rem_euclid(width) == 0;
    let mut t = minute;
    loop {
        let here = local_minutes(zone, t);
        let before = local_minutes(zone, t - 1);
        if is_boundary(here) || (before + 1..here).any(is_boundary) {
            return t;
        }
        t -= 1;
    }
}

/// The last local boundary whose first instant is not after the time; first instants by walking.
fn wide_oracle(zone: Tz, minute: i64, boundaries: impl Iterator<Item = i64>) -> i64 {
    let first_instant =
        |local: i64| (local - 3 * 1_440..).find(|t| local_minutes(zone, *t) >= local).unwrap();
    boundaries.map(first_instant).filter(|t| *t <= minute).max().unwrap()
}

const ZONES: [&str; 12] = [
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",
    "America/Sao_Paulo",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Beirut",
    "+05:30",
];

/// Minutes near a change of the zone's clocks, or anywhere.
fn minute_in(zone: Tz, around: i64, delta: i64) -> i64 {
    let mut t = around;
    for _ in 0..400 {
        if local_minutes(zone, t) - t != local_minutes(zone, t + 1_440) - t - 1_440 {
            return t + delta.rem_euclid(2 * 1_440);
        }
        t += 1_440;
    }
    around + delta.rem_euclid(500_000)
}

// 1975 to 2037.
fn any_minute() -> impl Strategy<Value = i64> {
    2_630_000i64..35_300_000
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fixed_widths_agree_with_division(
        ts in proptest::collection::vec(-4_000_000_000_000_000i64..4_000_000_000_000_000, 1..60),
        width in 1i64..40_000_000_000_000,
        origin in proptest::option::of(-4_000_000_000_000_000i64..4_000_000_000_000_000),
        offset in proptest::option::of(-1_000_000_000_000i64..1_000_000_000_000),
    ) {
        let mut args = vec![interval(0, 0, width * 1_000), micros(&ts)];
        args.extend(origin.map(|o| ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(Some(o), None))));
        args.extend(offset.map(|o| interval(0, 0, o * 1_000)));
        let got = column_of(call(args, ts.len()).unwrap());
        let zero = origin.unwrap_or_else(|| at("2000-01-03 00:00")) + offset.unwrap_or(0);
        for (t, start) in ts.iter().zip(&got) {
            prop_assert_eq!(*start, zero + (t - zero).div_euclid(width) * width);
            prop_assert!(start <= t && t - start < width);
        }
    }

    #[test]
    fn months_agree_with_the_calendar(
        ts in proptest::collection::vec(-4_000_000_000_000_000i64..8_000_000_000_000_000, 1..20),
        months in 1i32..40,
        offset_days in -40i64..40,
    ) {
        let args = vec![interval(months, 0, 0), micros(&ts), interval(0, offset_days as i32, 0)];
        let got = column_of(call(args, ts.len()).unwrap());
        for (t, start) in ts.iter().zip(&got) {
            prop_assert_eq!(*start, month_oracle(*t, months, offset_days));
        }
    }

    #[test]
    fn narrow_buckets_in_zones_agree_with_walking(
        zone in proptest::sample::select(&ZONES[..]),
        around in any_minute(),
        deltas in proptest::collection::vec(any::<i64>(), 1..12),
        width in prop_oneof![Just(15i64), Just(30), Just(40), Just(60), Just(120), Just(180), Just(360), Just(720), 1i64..1_439],
        offset in prop_oneof![Just(0i64), -700i64..700],
        unsorted in any::<bool>(),
    ) {
        let tz = zone::parse_zone(zone).unwrap();
        let mut minutes: Vec<i64> = deltas.iter().map(|d| minute_in(tz, around, *d)).collect();
        if !unsorted {
            minutes.sort_unstable();
        }
        let ts: Vec<i64> = minutes.iter().map(|m| m * MINUTE + 17_000_001).collect();
        let args = vec![
            interval(0, 0, width * MINUTE * 1_000), micros(&ts), text(zone), interval(0, 0, offset * MINUTE * 1_000),
        ];
        let got = column_of(call(args, ts.len()).unwrap());
        let phase = at("2000-01-03 00:00") / MINUTE + offset;
        for (minute, start) in minutes.iter().zip(&got) {
            prop_assert_eq!(*start, narrow_oracle(tz, *minute, width, phase) * MINUTE);
        }
    }

    #[test]
    fn days_and_months_in_zones_agree_with_walking(
        zone in proptest::sample::select(&ZONES[..]),
        around in any_minute(),
        deltas in proptest::collection::vec(any::<i64>(), 1..4),
        days in proptest::option::of(1i64..10),
        offset in prop_oneof![Just(0i64), Just(30), Just(90), -1_000i64..1_000],
    ) {
        let tz = zone::parse_zone(zone).unwrap();
        let minutes: Vec<i64> = deltas.iter().map(|d| minute_in(tz, around, *d)).collect();
        let ts: Vec<i64> = minutes.iter().map(|m| m * MINUTE + 999_999).collect();
        let width = days.map_or_else(|| interval(1, 0, 0), |d| interval(0, d as i32, 0));
        let args = vec![width, micros(&ts), text(zone), interval(0, 0, offset * MINUTE * 1_000)];
        let got = column_of(call(args, ts.len()).unwrap());
        for (minute, start) in minutes.iter().zip(&got) {
            let date = DateTime::from_timestamp(minute * 60, 0).unwrap().date_naive();
            let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
            let boundaries: Vec<i64> = match days {
                Some(d) => {
                    let today = (date - epoch).num_days();
                    let monday = 10_959;
                    let first = monday + (today - monday).div_euclid(d) * d;
                    (-2..=2).map(|k| (first + k * d) * 1_440 + offset).collect()
                }
                None => (-2i32..=2)
                    .map(|k| {
                        let month = date.year() * 12 + date.month0() as i32 + k;
                        let first =
                            NaiveDate::from_ymd_opt(month.div_euclid(12), month.rem_euclid(12) as u32 + 1, 1).unwrap();
                        (first - epoch).num_days() * 1_440 + offset
                    })
                    .collect(),
            };
            prop_assert_eq!(*start, wide_oracle(tz, *minute, boundaries.into_iter()) * MINUTE);
        }
    }

    /// What GROUP BY, sorted input and the rewrite of comparisons rely on.
    #[test]
    fn buckets_grow_and_end_where_the_next_begins(
        zone in proptest::option::of(proptest::sample::select(&ZONES[..])),
        around in any_minute(),
        delta in any::<i64>(),
        width in prop_oneof![
            Just("1 hour"), Just("6 hours"), Just("1 day"), Just("7 days"), Just("1 month"), Just("5 months"), Just("37 minutes")],
    ) {
        let column = DataType::Timestamp(TimeUnit::Microsecond, None);
        let tz = zone::parse_zone(zone.unwrap_or("UTC")).unwrap();
        let shape = Shape::try_new(&[DataType::Utf8, column.clone(), DataType::Utf8][..2 + usize::from(zone.is_some())]).unwrap();
        let scalars = [ScalarValue::from(width), ScalarValue::Null, ScalarValue::from(zone.unwrap_or(""))];
        let values: Vec<_> = scalars.iter().take(2 + usize::from(zone.is_some())).collect();
        let bucketer = shape.bucketer(&values).unwrap().unwrap();
        let mut t = minute_in(tz, around, delta) * MINUTE;
        for _ in 0..30 {
            let start = bucketer.bucket(t).unwrap().start;
            let next = bucketer.next(start).unwrap();
            prop_assert!(start <= t && t < next);
            prop_assert_eq!(bucketer.bucket(start).unwrap().start, start);
            prop_assert_eq!(bucketer.bucket(next - 1).unwrap().start, start);
            prop_assert_eq!(bucketer.bucket(next).unwrap().start, next);
            t = next + (next - start) / 3;
        }
    }
}

// ---- fixed cases --------------------------------------------------------------------------------

/// The start of one time stamp's bucket in UTC, as text.
fn zoned(width: &str, ts: &str, zone: &str) -> String {
    let got = column_of(call(vec![text(width), micros(&[at(ts)]), text(zone)], 1).unwrap());
    DateTime::from_timestamp_micros(got[0]).unwrap().naive_utc().to_string()
}

#[test]
fn clocks_that_jump() {
    let cases = [
        // Berlin, spring 2024-03-31: 01:00 UTC is the jump from 02:00 to 03:00.
        ("1 hour", "2024-03-31 00:59", "Europe/Berlin", "2024-03-31 00:00:00"),
        ("1 hour", "2024-03-31 01:30", "Europe/Berlin", "2024-03-31 01:00:00"),
        ("2 hours", "2024-03-31 01:30", "Europe/Berlin", "2024-03-31 01:00:00"),
        ("1 day", "2024-03-31 21:59", "Europe/Berlin", "2024-03-30 23:00:00"),
        ("1 day", "2024-03-31 22:00", "Europe/Berlin", "2024-03-31 22:00:00"),
        // Autumn 2024-10-27: 01:00 UTC is the jump from 03:00 back to 02:00; the two hours stay apart.
        ("1 hour", "2024-10-27 00:30", "Europe/Berlin", "2024-10-27 00:00:00"),
        ("1 hour", "2024-10-27 01:30", "Europe/Berlin", "2024-10-27 01:00:00"),
        // The six hours from midnight last seven.
        ("6 hours", "2024-10-27 04:59", "Europe/Berlin", "2024-10-26 22:00:00"),
        ("6 hours", "2024-10-27 05:00", "Europe/Berlin", "2024-10-27 05:00:00"),
        ("1 month", "2024-10-31 22:59", "Europe/Berlin", "2024-09-30 22:00:00"),
        ("1 month", "2024-10-31 23:00", "Europe/Berlin", "2024-10-31 23:00:00"),
        // São Paulo, 2018-11-04: midnight does not exist, the day starts at 01:00 (03:00 UTC).
        ("1 day", "2018-11-04 02:59", "America/Sao_Paulo", "2018-11-03 03:00:00"),
        ("1 day", "2018-11-04 03:00", "America/Sao_Paulo", "2018-11-04 03:00:00"),
        // Havana, 2024-11-03: the hour from midnight comes twice and belongs to one day.
        ("1 day", "2024-11-03 04:30", "America/Havana", "2024-11-03 04:00:00"),
        ("1 day", "2024-11-03 05:30", "America/Havana", "2024-11-03 04:00:00"),
        // Samoa has no 2011-12-30.
        ("1 day", "2011-12-30 09:59", "Pacific/Apia", "2011-12-29 10:00:00"),
        ("1 day", "2011-12-30 10:00", "Pacific/Apia", "2011-12-30 10:00:00"),
        // Letters' case of the name does not matter; offsets are zones too.
        ("1 day", "2024-05-01 00:00", "europe/berlin", "2024-04-30 22:00:00"),
        ("1 day", "2024-05-01 00:00", "+05:30", "2024-04-30 18:30:00"),
        ("1 week", "2024-05-01 00:00", "UTC", "2024-04-29 00:00:00"),
    ];
    for (width, ts, zone, want) in cases {
        assert_eq!(zoned(width, ts, zone), want, "{width} of {ts} in {zone}");
    }
}

#[test]
fn a_stretch_of_the_clock_is_covered_without_gaps() {
    // Every minute of the week around a jump: starts never go back.
    for zone in ZONES {
        for width in ["45 minutes", "1 hour", "5 hours", "1 day", "36 hours"] {
            for from in ["2024-03-28 00:00", "2024-10-24 00:00", "2011-12-28 00:00", "2018-11-01 00:00"] {
                let ts: Vec<i64> = (0..7 * 288).map(|i| at(from) + i * 5 * MINUTE).collect();
                let got = column_of(call(vec![text(width), micros(&ts), text(zone)], ts.len()).unwrap());
                assert!(got.is_sorted(), "{width} {zone} {from}");
                assert!(got.iter().zip(&ts).all(|(s, t)| s <= t), "{width} {zone} {from}");
            }
        }
    }
}

fn error(args: Vec<ColumnarValue>) -> String {
    let e = Error::from(call(args, 1).unwrap_err());
    assert_eq!(e.kind(), triune_common::ErrorKind::Invalid, "{e}");
    e.to_string()
}

#[test]
fn wrong_arguments_are_told() {
    let ts = || micros(&[0]);
    let int = |v| ColumnarValue::Scalar(ScalarValue::Int64(Some(v)));
    let cases = [
        (
            vec![text("1 hour")],
            "time_bucket takes two to five arguments, got 1 argument; write time_bucket(width, time [, zone] [, origin] [, offset])",
        ),
        (vec![interval(0, 0, 0), ts()], "the width of time_bucket must be positive, got '0 seconds'"),
        (vec![interval(0, -1, 0), ts()], "the width of time_bucket must be positive, got '-1 day'"),
        (vec![interval(-1, 0, 0), ts()], "the width of time_bucket must be positive, got '-1 month'"),
        (
            vec![interval(1, 2, 0), ts()],
            "the width of time_bucket mixes months with days or time, which have no fixed ratio: '1 month 2 days'; use whole months, or days and time only",
        ),
        (
            vec![text("fortnight"), ts()],
            "the width of time_bucket is no interval: 'fortnight'; write for example '15 minutes', '1 day' or '3 months'",
        ),
        (
            vec![int(5), ts()],
            "the width of time_bucket over TIMESTAMP(6) is an INTERVAL, got BIGINT; say of what: INTERVAL '10 minutes'",
        ),
        (
            vec![text("1 hour"), text("2024-01-01")],
            "time_bucket takes a TIMESTAMP, DATE or integer as its second argument, got VARCHAR; cast it, as in ts::TIMESTAMP",
        ),
        (
            vec![text("1 hour"), ts(), text("Europe/Berln")],
            "no time zone is called 'Europe/Berln'; did you mean 'Europe/Berlin'?",
        ),
        (
            vec![text("1 hour"), ts(), text("2024-01-01")],
            "no time zone is called '2024-01-01'; a text in this place is a time zone; write TIMESTAMP '2024-01-01' for an origin",
        ),
        (
            vec![text("1 hour"), ts(), text("5 minutes")],
            "no time zone is called '5 minutes'; a text in this place is a time zone; write INTERVAL '5 minutes' for an offset",
        ),
        (
            vec![text("1 hour"), ts(), interval(0, 1, 0), interval(0, 1, 0)],
            "time_bucket was given two offset arguments; write time_bucket(width, time [, zone] [, origin] [, offset])",
        ),
        (
            vec![text("1 hour"), ts(), int(1)],
            "time_bucket does not know what to do with a BIGINT as its third argument; it may be a time zone (text), an origin (TIMESTAMP, DATE) or an offset (INTERVAL)",
        ),
        (
            vec![interval(0, 0, 1), ts()],
            "the width of time_bucket does not fit TIMESTAMP(6), which counts in microseconds: '0.000000001 seconds'; cast the time to a finer type first",
        ),
        (
            vec![text("1 hour"), ColumnarValue::Scalar(ScalarValue::Date32(Some(1)))],
            "the width of time_bucket does not fit DATE, which counts in whole days: '1 hour'; cast the time to a finer type first",
        ),
        (
            vec![text("1 day"), ColumnarValue::Scalar(ScalarValue::Date32(Some(1))), text("UTC")],
            "time_bucket over a DATE takes no time zone; a date is the same day everywhere; cast it to TIMESTAMP WITH TIME ZONE first",
        ),
        (vec![int(0), int(3)], "the width of time_bucket must be positive, got 0"),
        (
            vec![text("1 day"), int(3)],
            "the width of time_bucket over BIGINT is an integer, got VARCHAR; to bucket epoch seconds by time, convert them first: to_timestamp(x)",
        ),
        (
            vec![
                interval(0, i32::MAX, 0),
                ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(Some(0), None)),
            ],
            "the width of time_bucket is beyond the range of TIMESTAMP(9): '2147483647 days'",
        ),
        (
            vec![
                text("1 day"),
                ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(Some(i64::MIN), None)),
            ],
            "the bucket of 1677-09-21 00:12:43.145224192 is out of the range of TIMESTAMP(9)",
        ),
        (
            vec![
                text("1 day"),
                ColumnarValue::Scalar(ScalarValue::TimestampSecond(Some(i64::MAX), None)),
                text("Europe/Berlin"),
            ],
            "the bucket of 9223372036854775807 seconds from 1970 is out of the range of TIMESTAMP(0)",
        ),
    ];
    for (args, want) in cases {
        assert_eq!(error(args), want);
    }
}

#[test]
fn nothing_panics_at_the_ends() {
    for zone in [None, Some("Europe/Berlin")] {
        for width in ["1 microsecond", "1 hour", "1 day", "100 years", "178956970 years"] {
            for t in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
                for unit in
                    [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond]
                {
                    let ts = ScalarValue::Int64(Some(t)).cast_to(&DataType::Timestamp(unit, None)).unwrap();
                    let mut args = vec![text(width), ColumnarValue::Scalar(ts)];
                    args.extend(zone.map(text));
                    if let Ok(start) = call(args, 1) {
                        assert!(column_of(start)[0] <= t);
                    }
                }
            }
        }
    }
}

#[test]
fn garbage_below_nulls_is_not_looked_at() {
    let values = ScalarBuffer::from(vec![i64::MIN, at("2024-05-01 10:30")]);
    let nulls = NullBuffer::from(vec![false, true]);
    for extra in [vec![], vec![text("Europe/Berlin")]] {
        for width in ["1 hour", "1 month"] {
            let column = TimestampMicrosecondArray::new(values.clone(), Some(nulls.clone()));
            let mut args = vec![text(width), ColumnarValue::Array(Arc::new(column))];
            args.extend(extra.clone());
            let got = call(args, 2).unwrap().into_array(2).unwrap();
            assert!(got.is_null(0) && got.is_valid(1));
        }
    }
}

#[test]
fn slices_and_units() {
    let ts =
        TimestampMillisecondArray::from(vec![Some(1), None, Some(3_600_000), Some(7_200_001)]).slice(1, 3);
    let args = vec![text("1 hour"), ColumnarValue::Array(Arc::new(ts))];
    let got = call(args, 3).unwrap().into_array(3).unwrap();
    let want = TimestampMillisecondArray::from(vec![None, Some(3_600_000), Some(7_200_000)]);
    assert_eq!(got.as_primitive::<TimestampMillisecondType>(), &want);
}

// ---- through SQL --------------------------------------------------------------------------------

#[expect(clippy::disallowed_methods, reason = "the functions are tested below the session's crate")]
async fn sql(ctx: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    ctx.sql(sql).await?.collect().await
}

fn context() -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    for f in crate::scalar_functions() {
        ctx.register_udf(f.as_ref().clone());
    }
    ctx
}

async fn one(ctx: &SessionContext, expression: &str) -> String {
    let batches = sql(ctx, &format!("SELECT {expression}")).await.unwrap();
    array_value_to_string(batches[0].column(0), 0).unwrap()
}

#[tokio::test]
async fn expressions() {
    let ctx = context();
    let cases = [
        ("time_bucket(INTERVAL '6 hours', TIMESTAMP '2024-05-01 10:30:00')", "2024-05-01T06:00:00"),
        ("time_bucket('1 week', DATE '2024-05-01')", "2024-04-29"),
        ("time_bucket('1 month', DATE '2024-05-31')", "2024-05-01"),
        ("time_bucket('3 months', DATE '2024-05-31')", "2024-04-01"),
        ("time_bucket('5 minutes', TIMESTAMP '1969-12-31 23:59:59')", "1969-12-31T23:55:00"),
        ("time_bucket('1 day', TIMESTAMP '2024-05-01 05:00:00', INTERVAL '6 hours')", "2024-04-30T06:00:00"),
        (
            "time_bucket('10 days', TIMESTAMP '2024-05-01 05:00:00', TIMESTAMP '2024-01-01')",
            "2024-04-30T00:00:00",
        ),
        ("time_bucket('10 days', TIMESTAMP '2024-05-01 05:00:00', DATE '2024-01-01')", "2024-04-30T00:00:00"),
        (
            "time_bucket('1 month', TIMESTAMP '2024-05-14 05:00:00', INTERVAL '14 days')",
            "2024-04-15T00:00:00",
        ),
        // Only the month of an origin counts for months, as in TimescaleDB and DuckDB.
        ("time_bucket('2 months', DATE '2024-05-14', DATE '2023-12-20')", "2024-04-01"),
        ("time_bucket('1 day', TIMESTAMP '2024-05-01 23:00:00', 'Europe/Berlin')", "2024-05-01T22:00:00Z"),
        (
            "time_bucket('1 day', TIMESTAMP '2024-05-01 03:30:00', 'Europe/Berlin', INTERVAL '6 hours')",
            "2024-04-30T04:00:00Z",
        ),
        (
            "time_bucket('2 days', TIMESTAMP '2024-05-02 12:00:00', 'Europe/Berlin', TIMESTAMP '2024-05-01', INTERVAL '1 hour')",
            "2024-04-30T23:00:00Z",
        ),
        // A text after the zone is an origin; NULLs there mean "not given".
        (
            "time_bucket('2 days', TIMESTAMP '2024-05-02 12:00:00', 'Europe/Berlin', '2024-05-01', NULL)",
            "2024-04-30T22:00:00Z",
        ),
        ("time_bucket('1 day', TIMESTAMP '2024-05-01 03:30:00', 'UTC', NULL)", "2024-05-01T00:00:00Z"),
        ("time_bucket(10, 47)", "40"),
        ("time_bucket(10, -1)", "-10"),
        ("time_bucket(10, 47, 5)", "45"),
        ("time_bucket(10, 47::INT)", "40"),
        ("arrow_typeof(time_bucket(10, 47::SMALLINT))", "Int16"),
        ("arrow_typeof(time_bucket('1 day', DATE '2024-05-01'))", "Date32"),
        ("time_bucket('1 day', NULL)", ""),
        ("time_bucket(NULL, TIMESTAMP '2024-05-01')", ""),
        ("time_bucket('1 day', TIMESTAMP '2024-05-01', NULL)", ""),
        ("time_bucket(NULL, 5)", ""),
    ];
    for (expression, want) in cases {
        assert_eq!(one(&ctx, expression).await, want, "{expression}");
    }
}

fn events(rows: i64, sorted: bool) -> Arc<MemTable> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("w", DataType::Utf8, true),
    ]));
    let ts: TimestampMicrosecondArray =
        (0..rows).map(|i| (i % 10 != 3).then(|| at("2024-05-01 00:00") + i * 7 * MINUTE)).collect();
    let w: arrow::array::StringArray =
        (0..rows).map(|i| ["1 hour", "1 day", "1 month"].get(i as usize % 4).copied()).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(ts), Arc::new(w)]).unwrap();
    let table = MemTable::try_new(schema, vec![vec![batch]]).unwrap();
    let order = datafusion::prelude::col("ts").sort(true, true);
    Arc::new(if sorted { table.with_sort_order(vec![vec![order]]) } else { table })
}

#[tokio::test]
async fn a_width_that_is_a_column() {
    let ctx = context();
    ctx.register_table("e", events(8, false)).unwrap();
    let batches = sql(&ctx, "SELECT time_bucket(w, ts) FROM e").await.unwrap();
    let got: Vec<String> = (0..8).map(|i| array_value_to_string(batches[0].column(0), i).unwrap()).collect();
    let (day, null) = ("2024-05-01T00:00:00", "");
    assert_eq!(got, [day, day, day, null, day, day, day, null]);
}

#[expect(clippy::disallowed_methods, reason = "the functions are tested below the session's crate")]
async fn plan(ctx: &SessionContext, sql: &str) -> String {
    let plan = ctx.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    displayable(plan.as_ref()).indent(false).to_string()
}

#[tokio::test]
async fn grouping_streams_over_sorted_input() {
    let ctx = context();
    ctx.register_table("sorted", events(1_000, true)).unwrap();
    ctx.register_table("loose", events(1_000, false)).unwrap();
    let query = |t: &str| format!("SELECT time_bucket('1 hour', ts) AS h, count(*) FROM {t} GROUP BY h");
    let streams = |p: &str| p.contains("ordering_mode=Sorted");
    assert!(streams(&plan(&ctx, &query("sorted")).await));
    assert!(!streams(&plan(&ctx, &query("loose")).await));
    // A sort by the bucket is not needed either.
    let by_bucket =
        "SELECT time_bucket('1 day', ts, 'Europe/Berlin') AS d FROM sorted ORDER BY d NULLS FIRST";
    assert!(!plan(&ctx, by_bucket).await.contains("SortExec"));
    // A width per row keeps no order.
    let by_row = "SELECT time_bucket(w, ts) AS d FROM sorted ORDER BY d NULLS FIRST";
    assert!(plan(&ctx, by_row).await.contains("SortExec"));
    let count = |t: &str| {
        format!("SELECT count(*), sum(n) FROM (SELECT h, count(*) AS n FROM ({}) GROUP BY h)", query(t))
    };
    let a = sql(&ctx, &count("sorted")).await.unwrap();
    let b = sql(&ctx, &count("loose")).await.unwrap();
    assert_eq!(a, b);
}

#[tokio::test]
async fn comparisons_with_constants_become_comparisons_of_the_time() {
    let ctx = context();
    ctx.register_table("e", events(1_000, false)).unwrap();
    let filter = |c: &str| format!("SELECT count(*) FROM e WHERE {c}");
    let cases = [
        ("time_bucket('1 hour', ts) >= TIMESTAMP '2024-05-02 10:00:00'", true),
        ("time_bucket('1 hour', ts) > TIMESTAMP '2024-05-02 10:00:00'", true),
        ("time_bucket('1 hour', ts) <= TIMESTAMP '2024-05-02 10:30:00'", true),
        ("time_bucket('1 hour', ts) < TIMESTAMP '2024-05-02 10:30:00'", true),
        ("time_bucket('1 hour', ts) = TIMESTAMP '2024-05-02 10:00:00'", true),
        ("time_bucket('1 hour', ts) = TIMESTAMP '2024-05-02 10:30:00'", true),
        ("time_bucket('1 hour', ts) <> TIMESTAMP '2024-05-02 10:00:00'", true),
        ("time_bucket('1 hour', ts) IS NOT DISTINCT FROM TIMESTAMP '2024-05-02 10:00:00'", true),
        ("time_bucket('1 hour', ts) IS DISTINCT FROM TIMESTAMP '2024-05-02 10:30:00'", true),
        (
            "time_bucket('1 day', ts, INTERVAL '6 hours') BETWEEN TIMESTAMP '2024-05-02' AND TIMESTAMP '2024-05-03 06:00:00'",
            true,
        ),
        ("time_bucket('1 month', ts) = TIMESTAMP '2024-05-01'", true),
        ("time_bucket('1 day', ts, 'Europe/Berlin') > TIMESTAMP '2024-05-02 22:00:00Z'", true),
        ("time_bucket(w, ts) = TIMESTAMP '2024-05-01'", false),
    ];
    for (condition, rewritten) in cases {
        let text = plan(&ctx, &filter(condition)).await;
        assert_eq!(!text.contains("time_bucket"), rewritten, "{condition}\n{text}");
        // The same rows as when the function is computed: no rewrite looks into this CASE.
        let end = condition.find(") ").unwrap_or(0) + 1;
        let (call, rest) = condition.split_at(end);
        let computed = format!("(CASE WHEN random() < 2 THEN {call} END){rest}");
        assert!(plan(&ctx, &filter(&computed)).await.contains("time_bucket"), "{computed}");
        let count = async |c: &str| {
            let batches = sql(&ctx, &filter(c)).await.unwrap();
            array_value_to_string(batches[0].column(0), 0).unwrap()
        };
        assert_eq!(count(condition).await, count(&computed).await, "{condition}");
    }
}

#[test]
fn the_documentation_is_there() {
    let function = TimeBucketFunc::new();
    assert!(function.documentation().unwrap().syntax_example.contains("time_bucket("));
}
