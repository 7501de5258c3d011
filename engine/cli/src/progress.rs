//! The line on the standard error while a query takes more than a second.
//!
//! ```text
//! ⠹ 12,345,678 rows  1.2 GB  ━━━━━━━━╸           41%  3.2 s, about 4.6 s left
//! ```
//!
//! Only on a terminal, and gone before anything else is printed.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use triune_query::ProgressHandle;

use crate::output::text::{bytes, count, duration};

/// Queries that are faster leave the terminal alone.
const PATIENCE: Duration = Duration::from_secs(1);
/// The cells of the bar.
const BAR: usize = 20;

/// How far a query is, in numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Numbers {
    pub rows: u64,
    pub bytes: u64,
    /// From 0 to 1, when the total is known.
    pub fraction: Option<f64>,
}

/// The line of one query.
pub struct Progress {
    bar: Option<ProgressBar>,
    handle: Option<ProgressHandle>,
    started: Duration,
    enabled: bool,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress")
            .field("started", &self.started)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

impl Progress {
    /// For a query that starts `now` (a reading of the clock).
    pub fn new(enabled: bool, now: Duration) -> Self {
        Self { bar: None, handle: None, started: now, enabled }
    }

    /// Where the numbers come from, once the query runs.
    pub fn follow(&mut self, handle: ProgressHandle) {
        self.handle = Some(handle);
    }

    /// Draws the line anew. Does nothing during the first second.
    pub fn tick(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.started);
        if !self.enabled || elapsed < PATIENCE {
            return;
        }
        let numbers = self.handle.as_ref().map(|h| {
            let s = h.snapshot();
            Numbers { rows: s.rows_read, bytes: s.bytes_read, fraction: s.fraction }
        });
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        bar.set_message(line(numbers, elapsed));
        bar.tick();
    }

    /// Takes the line away for good: results follow.
    pub fn stop(&mut self) {
        self.enabled = false;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop();
    }
}

fn line(numbers: Option<Numbers>, elapsed: Duration) -> String {
    let Some(n) = numbers else { return format!("working  {}", coarse(elapsed)) };
    let mut out = count(n.rows, "row");
    if n.bytes > 0 {
        out.push_str(&format!("  {}", bytes(n.bytes)));
    }
    match n.fraction.filter(|f| f.is_finite()).map(|f| f.clamp(0.0, 1.0)) {
        Some(f) => {
            let halves = (f * (2 * BAR) as f64).round() as usize;
            let mut bar = "━".repeat(halves / 2);
            if halves % 2 == 1 {
                bar.push('╸');
            }
            let fill = BAR - halves.div_ceil(2);
            bar.extend(std::iter::repeat_n(' ', fill));
            out.push_str(&format!("  {bar} {:>3.0}%  {}", f * 100.0, coarse(elapsed)));
            // An estimate from less than this says more about the beginning than about the rest.
            if (0.02..1.0).contains(&f) {
                let left = elapsed.mul_f64((1.0 - f) / f);
                out.push_str(&format!(", about {} left", coarse(left)));
            }
        }
        None => out.push_str(&format!("  {}", coarse(elapsed))),
    }
    out
}

/// A duration to a tenth of a second.
fn coarse(d: Duration) -> String {
    if d < Duration::from_secs(60) { format!("{:.1} s", d.as_secs_f64()) } else { duration(d) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let s = Duration::from_millis(3200);
        assert_eq!(line(None, s), "working  3.2 s");
        let n = Numbers { rows: 12_345_678, bytes: 1_200_000_000, fraction: None };
        assert_eq!(line(Some(n), s), "12,345,678 rows  1.2 GB  3.2 s");
        assert_eq!(
            line(Some(Numbers { fraction: Some(0.41), ..n }), s),
            "12,345,678 rows  1.2 GB  ━━━━━━━━              41%  3.2 s, about 4.6 s left"
        );
        assert_eq!(
            line(Some(Numbers { fraction: Some(7.0), ..n }), s),
            "12,345,678 rows  1.2 GB  ━━━━━━━━━━━━━━━━━━━━ 100%  3.2 s"
        );
        assert_eq!(
            line(Some(Numbers { rows: 0, bytes: 0, fraction: Some(0.0) }), s),
            "0 rows                         0%  3.2 s"
        );
        assert_eq!(line(Some(Numbers { rows: 1, bytes: 0, fraction: Some(f64::NAN) }), s), "1 row  3.2 s");
    }

    #[test]
    fn nothing_is_drawn_in_the_first_second() {
        let mut p = Progress::new(true, Duration::ZERO);
        p.tick(Duration::from_millis(900));
        assert!(p.bar.is_none());
    }
}
