//! Text that is safe to print, and how wide it is: `"a\u{1b}[31mb"` becomes `a\x1b[31mb`.
//!
//! A value from a table must never be able to move the cursor, change colours or reorder what is on
//! the screen. Everything that is not a visible character or a space is therefore spelled out.
//! Widths are counted in terminal cells, by grapheme: `日` is two cells, `é` is one however it is
//! composed, and an emoji made of several code points is one picture.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// The mark of something left out.
pub const ELLIPSIS: char = '…';

/// Whether a terminal might act on the character instead of showing it.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Zero-width spaces, marks and joins that are not part of a visible cluster, and the byte order mark.
            '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{ad}'
            // Line and paragraph separators.
            | '\u{2028}' | '\u{2029}'
            // Bidirectional overrides and isolates: they reorder the rest of the line.
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
            // Interlinear annotations and tag characters.
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e001f}')
}

/// `text` on one line with every control and invisible character spelled out; borrowed when there is none.
pub fn visible(text: &str) -> Cow<'_, str> {
    escape(text, is_hidden)
}

/// As [`visible`], keeping line ends and turning tabs into spaces: for plans, which have their own layout.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    if text.contains('\t') {
        Cow::Owned(escape(&text.replace('\t', "    "), |c| c != '\n' && is_hidden(c)).into_owned())
    } else {
        escape(text, |c| c != '\n' && is_hidden(c))
    }
}

fn escape(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    let Some(first) = text.find(&hidden) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 8);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        match c {
            c if !hidden(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x100 => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
        }
    }
    Cow::Owned(out)
}

/// The cells that `text` takes on a terminal. `text` must have gone through [`visible`].
pub fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { UnicodeWidthStr::width(text) }
}

/// `text` in at most `cells` cells; what does not fit is cut at a grapheme and marked with `…`.
pub fn elide(text: &str, cells: usize) -> Cow<'_, str> {
    if width(text) <= cells {
        return Cow::Borrowed(text);
    }
    if cells == 0 {
        return Cow::Borrowed("");
    }
    let mut out = take_cells(text, cells - 1).to_owned();
    out.push(ELLIPSIS);
    Cow::Owned(out)
}

/// The longest prefix of whole graphemes in at most `cells` cells.
pub fn take_cells(text: &str, cells: usize) -> &str {
    let mut used = 0;
    for (at, grapheme) in text.grapheme_indices(true) {
        let w = width(grapheme);
        if used + w > cells {
            return &text[..at];
        }
        used += w;
    }
    text
}

/// `text` in lines of at most `cells` cells each (at least one grapheme a line); never empty.
pub fn wrap(text: &str, cells: usize) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while width(rest) > cells {
        let mut line = take_cells(rest, cells);
        if line.is_empty() {
            // A grapheme wider than the line: give it a line of its own all the same.
            line = rest.graphemes(true).next().unwrap_or(rest);
        }
        lines.push(line);
        rest = &rest[line.len()..];
    }
    if !rest.is_empty() || lines.is_empty() {
        lines.push(rest);
    }
    lines
}

/// Appends `text` and spaces up to `cells` cells.
pub fn pad(out: &mut String, text: &str, cells: usize, right: bool) {
    let fill = cells.saturating_sub(width(text));
    if right {
        out.extend(std::iter::repeat_n(' ', fill));
    }
    out.push_str(text);
    if !right {
        out.extend(std::iter::repeat_n(' ', fill));
    }
}

/// `1234567` as `1,234,567`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `n` with its noun: `1 row`, `1,234 rows`.
pub fn count(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(n), if n == 1 { "" } else { "s" })
}

/// A duration as people say it: `0.42 ms`, `12.3 ms`, `1.23 s`, `2 min 3.4 s`.
pub fn duration(d: std::time::Duration) -> String {
    let ms = d.as_secs_f64() * 1e3;
    // Each limit lies where the finer form would round up to the next unit.
    if ms < 9.995 {
        format!("{ms:.2} ms")
    } else if ms < 999.95 {
        format!("{ms:.1} ms")
    } else if ms < 59_995.0 {
        format!("{:.2} s", ms / 1e3)
    } else {
        let tenths = (ms / 100.0).round() as u64;
        format!("{} min {}.{} s", tenths / 600, tenths % 600 / 10, tenths % 10)
    }
}

/// psql's `\timing` line: milliseconds, and minutes or hours in parentheses once it is more than a second.
pub fn timing_line(d: std::time::Duration) -> String {
    let ms = d.as_secs_f64() * 1e3;
    let mut line = format!("Time: {ms:.3} ms");
    if ms >= 1000.0 {
        let whole = d.as_secs();
        let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
        let millis = d.subsec_millis();
        let _ = if hours > 0 {
            write!(line, " ({hours:02}:{minutes:02}:{seconds:02}.{millis:03})")
        } else {
            write!(line, " ({minutes:02}:{seconds:02}.{millis:03})")
        };
    }
    line
}

/// Bytes as people say them: `999 B`, `1.5 MB` (decimal units).
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn nothing_invisible_stays() {
        assert!(matches!(visible("plain"), Cow::Borrowed("plain")));
        assert_eq!(visible("a\nb\tc\rd"), "a\\nb\\tc\\rd");
        assert_eq!(visible("\u{1b}[31mred\u{1b}[0m"), "\\x1b[31mred\\x1b[0m");
        assert_eq!(visible("\u{9b}2J\u{7f}\0"), "\\x9b2J\\x7f\\x00");
        assert_eq!(visible("user\u{202e}txt.exe"), "user\\u{202e}txt.exe");
        assert_eq!(visible("e\u{301} 日本 👩‍👩‍👧"), "e\u{301} 日本 👩‍👩‍👧");
        assert_eq!(visible_lines("a\n\tb\u{7}"), "a\n    b\\x07");
    }

    #[test]
    fn widths_are_cells() {
        assert_eq!(width("abc"), 3);
        assert_eq!(width("日本語"), 6);
        assert_eq!(width("e\u{301}"), 1);
        assert_eq!(width("👩‍👩‍👧"), 2);
        assert_eq!(width("🦀"), 2);
    }

    #[test]
    fn elision_cuts_whole_graphemes() {
        assert_eq!(elide("hello", 5), "hello");
        assert_eq!(elide("hello!", 5), "hell…");
        assert_eq!(elide("日本語", 5), "日本…");
        assert_eq!(elide("日本語", 4), "日…");
        assert_eq!(elide("e\u{301}e\u{301}e\u{301}", 2), "e\u{301}…");
        assert_eq!(elide("👩‍👩‍👧x👩‍👩‍👧", 4), "👩‍👩‍👧x…");
        assert_eq!(elide("abc", 1), "…");
        assert_eq!(elide("abc", 0), "");
    }

    #[test]
    fn wrapping_loses_nothing() {
        assert_eq!(wrap("abcdef", 4), ["abcd", "ef"]);
        assert_eq!(wrap("日本語", 3), ["日", "本", "語"]);
        assert_eq!(wrap("日本", 1), ["日", "本"]);
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn numbers_and_times() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(count(1, "row"), "1 row");
        assert_eq!(count(0, "row"), "0 rows");
        assert_eq!(duration(Duration::from_micros(420)), "0.42 ms");
        assert_eq!(duration(Duration::from_micros(12_340)), "12.3 ms");
        assert_eq!(duration(Duration::from_micros(999_960)), "1.00 s");
        assert_eq!(duration(Duration::from_millis(1_234)), "1.23 s");
        assert_eq!(duration(Duration::from_millis(59_999)), "1 min 0.0 s");
        assert_eq!(duration(Duration::from_millis(123_400)), "2 min 3.4 s");
        assert_eq!(timing_line(Duration::from_micros(12_345)), "Time: 12.345 ms");
        assert_eq!(timing_line(Duration::from_millis(61_235)), "Time: 61235.000 ms (01:01.235)");
        assert_eq!(timing_line(Duration::from_millis(3_661_235)), "Time: 3661235.000 ms (01:01:01.235)");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500_000), "1.5 MB");
        assert_eq!(bytes(999_999), "1.0 MB");
    }
}
