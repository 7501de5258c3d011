//! Intervals as PostgreSQL writes them.

use std::fmt::Write as _;

/// Appends `1 year 2 mons 3 days 04:05:06.789`; `00:00:00` for nothing. Months, days and the rest have signs of their own.
pub fn write_span(months: i64, days: i64, nanos: i128, out: &mut String) {
    let start = out.len();
    let mut part = |n: i64, one: &str, many: &str| {
        if n != 0 {
            let gap = if out.len() > start { " " } else { "" };
            let _ = write!(out, "{gap}{n} {}", if n == 1 { one } else { many });
        }
    };
    part(months / 12, "year", "years");
    part(months % 12, "mon", "mons");
    part(days, "day", "days");
    if nanos != 0 || out.len() == start {
        let gap = if out.len() > start { " " } else { "" };
        let sign = if nanos < 0 { "-" } else { "" };
        let whole = nanos.unsigned_abs() / 1_000_000_000;
        let rest = nanos.unsigned_abs() % 1_000_000_000;
        let _ = write!(out, "{gap}{sign}{:02}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
        if rest != 0 {
            let digits = format!("{rest:09}");
            let _ = write!(out, ".{}", digits.trim_end_matches('0'));
        }
    }
}
