//! A text by a template: `to_date` and `to_timestamp`.
//!
//! A field of digits takes as many as it has letters where another field of digits follows at once, and all that come
//! otherwise. A separator of the template (a blank, or any sign that is no letter and no digit) takes the separators that
//! come, or none; blanks before a field are passed over; letters that are no field pass over a character each.
//! With `FX` none of this leniency holds.
//!
//! What is not given is year 1, month 1, day 1 and 00:00:00 (year 1 is 1 BC in PostgreSQL's, which has a year 0 there).
//! A year of fewer than four digits is the one nearest to 2020. Names of days are read and mean nothing.

use chrono::{Datelike, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Weekday};
use datafusion::common::Result;
use triune_common::Error;

use super::template::{Code, Field, Piece, Template};
use super::write::{DAYS, MONTHS, ROMAN};

/// What was read: a time as clocks show it, and how far east they are, if the text says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) local: NaiveDateTime,
    pub(super) offset: Option<FixedOffset>,
}

#[derive(Debug, Default)]
struct Found {
    year: Option<i64>,
    iso_year: Option<i64>,
    century: Option<i64>,
    before_christ: bool,
    month: Option<i64>,
    week: Option<i64>,
    iso_week: Option<i64>,
    week_of_month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    iso_day: Option<i64>,
    julian: Option<i64>,
    hour: Option<i64>,
    hour12: Option<i64>,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    nanos: i64,
    seconds_of_day: Option<i64>,
    zone_sign: i64,
    zone_hours: Option<i64>,
    zone_minutes: i64,
}

pub(super) fn read(template: &Template, text: &str, format: &str) -> Result<Read> {
    let wrong = || Error::data(format!("the text {text:?} does not fit the template {format:?}"));
    let found = match_text(template, text).ok_or_else(wrong)?;
    moment(&found).ok_or_else(|| {
        Error::data(format!("the text {text:?} is out of range by the template {format:?}")).into()
    })
}

fn match_text(template: &Template, text: &str) -> Option<Found> {
    let mut found = Found::default();
    let mut rest = text;
    let lenient = !template.exact;
    if lenient {
        rest = rest.trim_start();
    }
    for (i, piece) in template.pieces.iter().enumerate() {
        if rest.is_empty() && !matches!(piece, Piece::Field(_)) {
            continue;
        }
        match piece {
            Piece::Char(c) if !c.is_alphanumeric() && lenient => {
                let signs = |c: char| !c.is_alphanumeric();
                // A sign before an offset belongs to it.
                let sign_is_next =
                    matches!(template.pieces.get(i + 1), Some(Piece::Field(f)) if takes_sign(f.code));
                if let Some(next) = rest.chars().next()
                    && signs(next)
                    && !(sign_is_next && matches!(next, '+' | '-'))
                {
                    rest = &rest[next.len_utf8()..];
                }
                rest = rest.trim_start();
            }
            Piece::Char(c) | Piece::Quoted(c) => {
                let next = rest.chars().next()?;
                if template.exact && next != *c {
                    return None;
                }
                rest = &rest[next.len_utf8()..];
            }
            Piece::Field(field) => {
                if lenient {
                    rest = rest.trim_start();
                    // More separators than the template has.
                    if !takes_sign(field.code) && i > 0 {
                        rest = rest.trim_start_matches(|c: char| !c.is_alphanumeric());
                    }
                }
                if rest.is_empty() && lenient {
                    break;
                }
                let next_is_digits =
                    matches!(template.pieces.get(i + 1), Some(Piece::Field(f)) if is_digits(f.code));
                rest = take_field(*field, next_is_digits || template.exact, rest, &mut found)?;
                if field.ordinal.is_some() {
                    rest = rest.get(2..).unwrap_or("");
                }
            }
        }
    }
    Some(found)
}

fn takes_sign(code: Code) -> bool {
    matches!(code, Code::ZoneHour | Code::Offset)
}

fn is_digits(code: Code) -> bool {
    !matches!(
        code,
        Code::Half(_)
            | Code::Era(_)
            | Code::MonthName
            | Code::MonthShort
            | Code::MonthRoman
            | Code::DayName
            | Code::DayShort
            | Code::Zone
            | Code::ZoneHour
            | Code::Offset
            | Code::Exact
    )
}

/// Takes a field from the text; the rest, or `None` if the text has something else.
fn take_field<'a>(field: Field, fixed: bool, rest: &'a str, found: &mut Found) -> Option<&'a str> {
    let number = |width: usize| digits(rest, if fixed { width } else { 18 });
    let (value, left) = match field.code {
        Code::MonthName | Code::MonthShort => {
            let (month, left) = one_of(rest, &MONTHS, 3)?;
            found.month = Some(month + 1);
            return Some(left);
        }
        Code::MonthRoman => {
            let best = (0..12).filter(|i| starts(rest, ROMAN[*i])).max_by_key(|i| ROMAN[*i].len())?;
            found.month = i64::try_from(best + 1).ok();
            return rest.get(ROMAN[best].len()..);
        }
        Code::DayName | Code::DayShort => return Some(one_of(rest, &DAYS, 3)?.1),
        Code::Half(_) => {
            let pm = ["p.m.", "pm"].iter().find(|p| starts(rest, p));
            let am = ["a.m.", "am"].iter().find(|p| starts(rest, p));
            found.afternoon = Some(pm.is_some());
            return rest.get(pm.or(am)?.len()..);
        }
        Code::Era(_) => {
            let bc = ["b.c.", "bc"].iter().find(|p| starts(rest, p));
            let ad = ["a.d.", "ad"].iter().find(|p| starts(rest, p));
            found.before_christ = bc.is_some();
            return rest.get(bc.or(ad)?.len()..);
        }
        Code::ZoneHour | Code::Offset => {
            let negative = rest.starts_with('-');
            let unsigned = rest.strip_prefix(['+', '-']).unwrap_or(rest);
            let (hours, left) = digits(unsigned, 2)?;
            found.zone_sign = if negative { -1 } else { 1 };
            found.zone_hours = Some(hours);
            if field.code == Code::Offset
                && let Some((minutes, left)) = left.strip_prefix(':').and_then(|l| digits(l, 2))
            {
                found.zone_minutes = minutes;
                return Some(left);
            }
            return Some(left);
        }
        Code::Zone | Code::Exact => return None,
        Code::YearComma => {
            let (thousands, left) = digits(rest, 18)?;
            let (ones, left) = digits(left.strip_prefix(',')?, 3)?;
            found.year = Some(thousands.checked_mul(1000)?.checked_add(ones)?);
            return Some(left);
        }
        Code::Year(width) | Code::IsoYear(width) => {
            let (year, left) = number(width as usize)?;
            let full = if width < 4 { nearest(year, rest.len() - left.len()) } else { year };
            match field.code {
                Code::Year(_) => found.year = Some(full),
                _ => found.iso_year = Some(full),
            }
            return Some(left);
        }
        Code::Fraction(width) => {
            let (fraction, left) = digits(rest, width as usize)?;
            let read = u32::try_from(rest.len() - left.len()).ok()?;
            found.nanos = fraction * 10i64.pow(9 - read);
            // Further digits are passed over.
            return Some(if fixed { left } else { left.trim_start_matches(|c: char| c.is_ascii_digit()) });
        }
        Code::SecondsOfDay => number(5)?,
        Code::DayOfYear | Code::IsoDayOfYear => number(3)?,
        Code::Julian => digits(rest, 18)?,
        Code::DayOfWeek | Code::IsoDayOfWeek | Code::WeekOfMonth | Code::Quarter => number(1)?,
        _ => number(2)?,
    };
    match field.code {
        Code::Hour12 => found.hour12 = Some(value),
        Code::Hour24 => found.hour = Some(value),
        Code::Minute => found.minute = value,
        Code::Second => found.second = value,
        Code::SecondsOfDay => found.seconds_of_day = Some(value),
        Code::Month => found.month = Some(value),
        Code::Day => found.day = Some(value),
        Code::DayOfYear => found.day_of_year = Some(value),
        Code::IsoDayOfWeek => found.iso_day = Some(value),
        Code::WeekOfMonth => found.week_of_month = Some(value),
        Code::WeekOfYear => found.week = Some(value),
        Code::IsoWeek => found.iso_week = Some(value),
        Code::Century => found.century = Some(value),
        Code::Julian => found.julian = Some(value),
        Code::ZoneMinute => found.zone_minutes = value,
        _ => {}
    }
    Some(left)
}

fn starts(text: &str, head: &str) -> bool {
    text.get(..head.len()).is_some_and(|t| t.eq_ignore_ascii_case(head))
}

/// A name, whole or its first letters.
fn one_of<'a>(text: &'a str, names: &[&str], short: usize) -> Option<(i64, &'a str)> {
    let found = names.iter().position(|n| starts(text, &n[..short]))?;
    let length = if starts(text, names[found]) { names[found].len() } else { short };
    Some((i64::try_from(found).ok()?, &text[length..]))
}

/// A number of one to `most` digits.
fn digits(text: &str, most: usize) -> Option<(i64, &str)> {
    let length = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    Some((text[..length].parse().ok()?, &text[length..]))
}

/// PostgreSQL's `adjust_partial_year_to_2020`.
fn nearest(year: i64, digits: usize) -> i64 {
    match (digits, year) {
        (4.., _) => year,
        (_, ..70) => year + 2000,
        (_, ..100) => year + 1900,
        (_, ..520) => year + 2000,
        (_, ..1000) => year + 1000,
        _ => year,
    }
}

fn moment(found: &Found) -> Option<Read> {
    let small = |n: i64| u32::try_from(n).ok();
    let mut year = match (found.year, found.century) {
        (Some(year), _) => year,
        (None, Some(century)) => century.checked_sub(1)?.checked_mul(100)?.checked_add(1)?,
        (None, None) => 1,
    };
    if found.before_christ {
        year = 1i64.checked_sub(year)?;
    }
    let year = i32::try_from(year).ok()?;
    let date = if let Some(julian) = found.julian {
        NaiveDate::default().checked_add_signed(TimeDelta::try_days(julian.checked_sub(2_440_588)?)?)?
    } else if found.iso_week.is_some() || found.iso_year.is_some() {
        let iso_year = i32::try_from(found.iso_year.unwrap_or_else(|| i64::from(year))).ok()?;
        let weekday =
            Weekday::try_from(u8::try_from(found.iso_day.unwrap_or(1).checked_sub(1)?).ok()?).ok()?;
        NaiveDate::from_isoywd_opt(iso_year, small(found.iso_week.unwrap_or(1))?, weekday)?
    } else if let Some(day) = found.day_of_year {
        NaiveDate::from_yo_opt(year, small(day)?)?
    } else if let Some(week) = found.week {
        NaiveDate::from_yo_opt(year, small(week.checked_sub(1)?.checked_mul(7)?.checked_add(1)?)?)?
    } else {
        let day = match (found.day, found.week_of_month) {
            (Some(day), _) => day,
            (None, Some(week)) => week.checked_sub(1)?.checked_mul(7)?.checked_add(1)?,
            (None, None) => 1,
        };
        NaiveDate::from_ymd_opt(year, small(found.month.unwrap_or(1))?, small(day)?)?
    };
    // Years have at most six digits in templates' texts; chrono's limit is near.
    if date.year().abs() > 200_000 {
        return None;
    }
    let (mut hour, mut minute, mut second) = (found.hour.unwrap_or(0), found.minute, found.second);
    if let Some(seconds) = found.seconds_of_day {
        (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    }
    // One field of twelve hours, or AM, makes the whole time one of twelve hours.
    if found.hour12.is_some() || found.afternoon.is_some() {
        hour = found.hour12.unwrap_or(hour);
        (1..=12).contains(&hour).then_some(())?;
        hour = hour % 12 + if found.afternoon == Some(true) { 12 } else { 0 };
    }
    // 24:00:00 is the next day's beginning.
    let next_day = (hour, minute, second, found.nanos) == (24, 0, 0, 0);
    let hour = if next_day { 0 } else { hour };
    let time =
        NaiveTime::from_hms_nano_opt(small(hour)?, small(minute)?, small(second)?, small(found.nanos)?)?;
    let date = if next_day { date.succ_opt()? } else { date };
    let offset = match found.zone_hours {
        Some(hours) => {
            (0..60).contains(&found.zone_minutes).then_some(())?;
            let seconds = found.zone_sign * (hours * 3600 + found.zone_minutes * 60);
            Some(FixedOffset::east_opt(i32::try_from(seconds).ok()?)?)
        }
        None => None,
    };
    Some(Read { local: date.and_time(time), offset })
}
