//! A time by a template: `to_char`.

use arrow::array::timezone::Tz;
use arrow::datatypes::IntervalMonthDayNano;
use chrono::{Datelike, NaiveDateTime, Offset, TimeZone, Timelike};
use datafusion::common::Result;
use triune_common::Error;

use super::template::{Case, Code, Field, Piece, Template};

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(super) const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
pub(super) const ROMAN: [&str; 12] =
    ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];
const DAY: i64 = 86_400_000_000_000;

/// What fields of a template ask for.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    year: i64,
    month: i64,
    day: i64,
    /// Since midnight; of an interval, its time.
    nanos: i64,
    /// `None` for an interval.
    date: Option<NaiveDateTime>,
    /// Seconds east of Greenwich.
    offset: i32,
    zone: String,
}

impl Fields {
    pub(super) fn of_moment(local: NaiveDateTime, zone: Option<(NaiveDateTime, Tz)>) -> Self {
        let offset = zone.map(|(utc, zone)| zone.offset_from_utc_datetime(&utc));
        let time =
            i64::from(local.num_seconds_from_midnight()) * 1_000_000_000 + i64::from(local.nanosecond());
        Self {
            year: i64::from(local.year()),
            month: i64::from(local.month()),
            day: i64::from(local.day()),
            nanos: time,
            date: Some(local),
            offset: offset.map_or(0, |o| o.fix().local_minus_utc()),
            zone: offset.map_or_else(String::new, |o| o.to_string()),
        }
    }

    /// `splits` takes whole days out of the time, as differences of times have them in PostgreSQL.
    pub(super) fn of_interval(i: IntervalMonthDayNano, splits: bool) -> Self {
        let (days, nanos) =
            if splits { (i.nanoseconds / DAY, i.nanoseconds % DAY) } else { (0, i.nanoseconds) };
        Self {
            year: i64::from(i.months / 12),
            month: i64::from(i.months % 12),
            day: i64::from(i.days) + days,
            nanos,
            date: None,
            offset: 0,
            zone: String::new(),
        }
    }
}

pub(super) fn write(template: &Template, of: &Fields) -> Result<String> {
    let mut out = String::new();
    for piece in &template.pieces {
        match piece {
            Piece::Char(c) | Piece::Quoted(c) => out.push(*c),
            Piece::Field(field) => field_into(*field, of, &mut out)?,
        }
    }
    Ok(out)
}

fn field_into(field: Field, of: &Fields, out: &mut String) -> Result<()> {
    let date = || {
        of.date.ok_or_else(|| {
            Error::invalid("the template of to_char has a field that an interval does not have, such as the name of a day")
        })
    };
    // A number of so many digits at least; a sign comes on top.
    let number = |n: i64, width: usize| -> String {
        let width = if field.bare { 0 } else { width };
        if n < 0 { format!("-{:0width$}", -n) } else { format!("{n:0width$}") }
    };
    let name = |name: &str, width: usize| -> String {
        let name = cased(name, field.case);
        if field.bare { name } else { format!("{name:width$}") }
    };
    // Years before 1 are counted from 1 BC on, but not in intervals.
    let counted = |year: i64| if of.date.is_some() && year <= 0 { 1 - year } else { year };
    let hours = of.nanos / 3_600_000_000_000;
    let last_digits = |year: i64, digits: u32| {
        let year = counted(year);
        let width = digits as usize;
        if digits == 4 { number(year, width) } else { number(year % 10i64.pow(digits), width) }
    };
    let text = match field.code {
        Code::Hour24 => number(hours, 2),
        Code::Hour12 => number(if hours % 12 == 0 { 12 } else { hours % 12 }, 2),
        Code::Minute => number(of.nanos / 60_000_000_000 % 60, 2),
        Code::Second => number(of.nanos / 1_000_000_000 % 60, 2),
        Code::Fraction(digits) => {
            let part = of.nanos % 1_000_000_000 / 10i64.pow(9 - digits);
            let sign = if part < 0 { "-" } else { "" };
            format!("{sign}{:0width$}", part.abs(), width = digits as usize)
        }
        Code::SecondsOfDay => (of.nanos / 1_000_000_000).to_string(),
        Code::Half(points) => {
            let half = if hours.rem_euclid(24) >= 12 { "PM" } else { "AM" };
            cased(&pointed(half, points), upper_or_lower(field.case))
        }
        Code::YearComma => {
            let year = counted(of.year);
            format!("{},{:03}", year / 1000, year.abs() % 1000)
        }
        Code::Year(digits) => last_digits(of.year, digits),
        Code::IsoYear(digits) => last_digits(i64::from(date()?.iso_week().year()), digits),
        Code::Era(points) => {
            let era = if of.date.is_some() && of.year <= 0 { "BC" } else { "AD" };
            cased(&pointed(era, points), upper_or_lower(field.case))
        }
        Code::MonthName => name(MONTHS[date()?.month0() as usize], 9),
        Code::MonthShort => cased(&MONTHS[date()?.month0() as usize][..3], field.case),
        Code::Month => number(of.month, 2),
        Code::MonthRoman => name(ROMAN[date()?.month0() as usize], 4),
        Code::DayName => name(DAYS[date()?.weekday().num_days_from_sunday() as usize], 9),
        Code::DayShort => cased(&DAYS[date()?.weekday().num_days_from_sunday() as usize][..3], field.case),
        Code::DayOfYear => number(i64::from(date()?.ordinal()), 3),
        Code::IsoDayOfYear => {
            let date = date()?;
            let week = i64::from(date.iso_week().week());
            number((week - 1) * 7 + i64::from(date.weekday().number_from_monday()), 3)
        }
        Code::Day => number(of.day, 2),
        Code::DayOfWeek => i64::from(date()?.weekday().number_from_sunday()).to_string(),
        Code::IsoDayOfWeek => i64::from(date()?.weekday().number_from_monday()).to_string(),
        Code::WeekOfMonth => ((date()?.day() - 1) / 7 + 1).to_string(),
        Code::WeekOfYear => number(i64::from((date()?.ordinal() - 1) / 7 + 1), 2),
        Code::IsoWeek => number(i64::from(date()?.iso_week().week()), 2),
        Code::Century => {
            let year = of.year;
            let century = if year > 0 { (year + 99) / 100 } else { -((100 - year) / 100) };
            number(century, 2)
        }
        Code::Julian => {
            let days = date()?.date().signed_duration_since(chrono::NaiveDate::default()).num_days();
            (days + 2_440_588).to_string()
        }
        Code::Quarter => i64::from(date()?.month0() / 3 + 1).to_string(),
        Code::Zone => match field.case {
            Case::Lower => of.zone.to_lowercase(),
            _ => of.zone.to_uppercase(),
        },
        Code::ZoneHour => format!("{}{:02}", sign(of.offset), of.offset.abs() / 3600),
        Code::ZoneMinute => format!("{:02}", of.offset.abs() / 60 % 60),
        Code::Offset => {
            let (hours, minutes) = (of.offset.abs() / 3600, of.offset.abs() / 60 % 60);
            let width = if field.bare { 0 } else { 2 };
            let minutes = if minutes == 0 { String::new() } else { format!(":{minutes:02}") };
            format!("{}{hours:0width$}{minutes}", sign(of.offset))
        }
        Code::Exact => String::new(),
    };
    out.push_str(&text);
    if let Some(case) = field.ordinal {
        out.push_str(&cased(ordinal(&text), case));
    }
    Ok(())
}

fn sign(offset: i32) -> char {
    if offset < 0 { '-' } else { '+' }
}

fn pointed(two: &str, points: bool) -> String {
    if points { two.chars().flat_map(|c| [c, '.']).collect() } else { two.to_owned() }
}

fn upper_or_lower(case: Case) -> Case {
    if case == Case::Lower { Case::Lower } else { Case::Upper }
}

fn cased(name: &str, case: Case) -> String {
    match case {
        Case::Upper => name.to_uppercase(),
        Case::Capital => name.to_owned(),
        Case::Lower => name.to_lowercase(),
    }
}

/// What English puts behind a number.
fn ordinal(number: &str) -> &'static str {
    let digits = number.trim_start_matches(['-', '0']);
    let teen = digits.len() >= 2 && digits[..digits.len() - 1].ends_with('1');
    match digits.chars().last() {
        Some('1') if !teen => "st",
        Some('2') if !teen => "nd",
        Some('3') if !teen => "rd",
        _ => "th",
    }
}
