//! Buckets on the clock of a time zone, which jumps.
//!
//! ```text
//! spring, Europe/Berlin              autumn
//!  01:00   03:00 ─┐ 04:00             02:00   02:00   03:00
//!    ├───────┼────┴──┼──▶ instants      ├───────┼───────┼──▶
//!         02:00 is skipped:               02:00 comes twice
//!         a bucket that would start
//!         there starts at 03:00
//! ```
//!
//! What a bucket is, as instants, so that buckets never overlap, none starts after a time it holds, and
//! later times never fall into earlier buckets:
//!
//! * a day or wider: it starts at the *first* instant at which the local clock shows its start or passes it.
//!   A day has 23, 24 or 25 hours, and a midnight that does not exist is the instant of the jump.
//! * narrower than a day: it starts *each time* the local clock shows its start. The two hours called 02:00
//!   are two buckets. (TimescaleDB puts both into one, which then starts after half of its rows.)

use arrow::array::timezone::Tz;
use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeZone};
use triune_common::names::did_you_mean;
use triune_common::{Error, Result};

use crate::time_bucket::local::Local;
use crate::time_bucket::width::Span;

/// Half of the window in which a jump of the clock is looked for; the largest known one is 24 hours.
const WINDOW_SECONDS: i64 = 2 * 86_400;

/// Finds a zone by its IANA name, in any case of letters, or as an offset such as `+05:30`.
pub(crate) fn parse_zone(name: &str) -> Result<Tz> {
    if let Ok(zone) = name.parse() {
        return Ok(zone);
    }
    let known = || chrono_tz::TZ_VARIANTS.iter().map(|z| z.name());
    if let Some(zone) = known().find(|n| n.eq_ignore_ascii_case(name)).and_then(|n| n.parse().ok()) {
        return Ok(zone);
    }
    let error = Error::invalid(format!("no time zone is called '{name}'"));
    Err(if name.parse::<NaiveDateTime>().is_ok() || name.starts_with(|c: char| c.is_ascii_digit()) {
        let kind = if Span::parse(name, "offset").is_ok() { "INTERVAL" } else { "TIMESTAMP" };
        error.with_hint(format!(
            "a text in this place is a time zone; write {kind} '{name}' for an {}",
            if kind == "INTERVAL" { "offset" } else { "origin" }
        ))
    } else if let Some(near) = did_you_mean(name, known()) {
        error.with_hint(format!("did you mean '{near}'?"))
    } else {
        error.with_hint("write an IANA name such as 'Europe/Berlin', or an offset such as '+05:30'")
    })
}

/// The bucket of one time, and a stretch of times known to share it (to skip the search for the next row).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) start: i64,
    /// Exclusive; the bucket may go on after it.
    pub(crate) known_until: i64,
}

/// Buckets of a local time line in a zone; ticks are fractions of a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Zoned {
    pub(crate) local: Local,
    pub(crate) zone: Tz,
    pub(crate) ticks_per_second: i64,
    /// Buckets of a day or more: see the module's text.
    pub(crate) calendar: bool,
}

impl Zoned {
    /// The bucket of instant `t`; `None` beyond the range of the type or of the calendar.
    pub(crate) fn bucket(&self, t: i64) -> Option<Bucket> {
        if self.calendar { self.bucket_first(t) } else { self.bucket_each(t) }
    }

    /// The first boundary after `start`, a boundary.
    pub(crate) fn next(&self, start: i64) -> Option<i64> {
        // Starts grow with time, so the place where they change is found by bisection. The bracket: after a
        // bucket's width on the local clock and the largest jump, another one has begun.
        let local_start = start.checked_add(self.offset(start)?)?;
        let width = self.local.next(self.local.floor(local_start)?)?.checked_sub(local_start)?;
        let slack = 2 * WINDOW_SECONDS * self.ticks_per_second;
        let mut same = start;
        let mut later = start.checked_add(width)?.checked_add(slack)?;
        if self.bucket(later)?.start == start {
            return None;
        }
        while later - same > 1 {
            let middle = same + (later - same) / 2;
            if self.bucket(middle)?.start == start { same = middle } else { later = middle }
        }
        Some(later)
    }

    /// The offset from UTC at an instant, in ticks.
    pub(crate) fn offset(&self, t: i64) -> Option<i64> {
        Some(self.offset_at(t.div_euclid(self.ticks_per_second))? * self.ticks_per_second)
    }

    /// The offset from UTC at an instant, both in seconds.
    fn offset_at(&self, seconds: i64) -> Option<i64> {
        let utc = DateTime::from_timestamp(seconds, 0)?.naive_utc();
        // Local times must be expressible too.
        DateTime::from_timestamp(seconds.checked_add(86_400)?, 0)?;
        DateTime::from_timestamp(seconds.checked_sub(86_400)?, 0)?;
        Some(self.zone.offset_from_utc_datetime(&utc).fix().local_minus_utc().into())
    }

    fn bucket_first(&self, t: i64) -> Option<Bucket> {
        let mut local = self.local.floor(t.checked_add(self.offset(t)?)?)?;
        let mut start = self.first_instant(local)?;
        while start > t {
            local = self.local.floor(local.checked_sub(1)?)?;
            start = self.first_instant(local)?;
        }
        // In a repeated stretch the local clock is behind a boundary that has passed already.
        while let Some(next) = self.local.next(local).and_then(|l| Some((l, self.first_instant(l)?))) {
            if next.1 > t {
                return Some(Bucket { start, known_until: next.1 });
            }
            (local, start) = next;
        }
        Some(Bucket { start, known_until: t })
    }

    /// The first instant at which the local clock shows `local` or, where that is skipped, passes it.
    fn first_instant(&self, local: i64) -> Option<i64> {
        let seconds = local.div_euclid(self.ticks_per_second);
        let naive = DateTime::from_timestamp(seconds, 0)?.naive_utc();
        let offset = match self.zone.offset_from_local_datetime(&naive) {
            MappedLocalTime::Single(o) => i64::from(o.fix().local_minus_utc()),
            // The earlier instant is the one with the larger offset.
            MappedLocalTime::Ambiguous(a, b) => {
                i64::from(a.fix().local_minus_utc().max(b.fix().local_minus_utc()))
            }
            MappedLocalTime::None => {
                let (mut before, mut after) =
                    (seconds.checked_sub(WINDOW_SECONDS)?, seconds.checked_add(WINDOW_SECONDS)?);
                while after - before > 1 {
                    let middle = before + (after - before) / 2;
                    if middle + self.offset_at(middle)? >= seconds { after = middle } else { before = middle }
                }
                return after.checked_mul(self.ticks_per_second);
            }
        };
        local.checked_sub(offset * self.ticks_per_second)
    }

    fn bucket_each(&self, t: i64) -> Option<Bucket> {
        let mut at = t;
        loop {
            let offset = self.offset(at)?;
            let start = self.local.floor(at.checked_add(offset)?)?.checked_sub(offset)?;
            if self.offset(start)? == offset {
                // No jump since the start (buckets are narrower than a day, and jumps are further apart).
                let end = self.local.next(start + offset).and_then(|l| l.checked_sub(offset));
                let known_until = match end {
                    Some(end) if at == t && self.offset(end - 1) == Some(offset) => end,
                    _ => t,
                };
                return Some(Bucket { start, known_until });
            }
            let jump = self.jump_between(start, at, offset)?;
            let before = self.offset(jump - 1)?;
            if before < offset && start + offset >= jump + before {
                // The start lies in the skipped stretch.
                return Some(Bucket { start: jump, known_until: t });
            }
            // Nothing starts between the jump and `at`: the bucket began before the jump.
            at = jump - 1;
        }
    }

    /// The instant in `(from, to]` from which on the offset is `offset`.
    fn jump_between(&self, from: i64, to: i64, offset: i64) -> Option<i64> {
        let (mut before, mut after) = (from, to);
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if self.offset(middle)? == offset { after = middle } else { before = middle }
        }
        Some(after)
    }
}
