//! ```sql
//! SELECT regexp_extract(line, '(\d+) ms', 1), regexp_split_to_array(tags, '\s*,\s*') FROM log;
//! ```
//!
//! Regular expressions, in the syntax of Rust's `regex` as in DataFusion's own functions.
//!
//! | function | meaning |
//! |---|---|
//! | `regexp_count(text, pattern [, start [, flags]])` | PostgreSQL's; NULL where an argument is (DataFusion's gives 0) |
//! | `regexp_substr(text, pattern [, start [, n]])` | PostgreSQL's: the n-th match, NULL if there is none |
//! | `regexp_split_to_array(text, pattern [, flags])` | PostgreSQL's: empty matches at the ends or after a match do not split |
//! | `regexp_extract(text, pattern [, group])` | DuckDB's: the first match, or a group of it; `''` if there is none |
//! | `regexp_extract_all(text, pattern [, group])` | DuckDB's: of all matches |
//! | `regexp_matches(text, pattern [, flags])` | DuckDB's: whether there is a match. PostgreSQL's gives rows |
//! | `regexp_full_match(text, pattern [, flags])` | DuckDB's: whether the whole text is one match |
//!
//! Flags: `i` any case, `c` the case as written, `m` or `n` `^` and `$` at lines, `s` `.` takes line ends, `x` blanks do
//! not count, `l` no pattern but a plain text, `g` changes nothing. Others are errors.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;
use regex::{Match, Regex, RegexBuilder};
use triune_common::Error;

use crate::define::{any_null, define, lists, mixed, text, text_list};

pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        define(
            "regexp_count(text, pattern, start, flags)",
            &[],
            |t| mixed(t, "ttIT"),
            |_| DataType::Int64,
            |args| {
                let all = rows_from(args, Some(2), Some(3), |regex, s, from, _| {
                    Ok(Some(i64::try_from(walk(regex, s, from).count()).unwrap_or(i64::MAX)))
                })?;
                Ok(Arc::new(Int64Array::from(all)))
            },
        ),
        define(
            "regexp_substr(text, pattern, start, n)",
            &[],
            |t| mixed(t, "ttII"),
            |_| DataType::Utf8,
            |args| {
                let all = rows_from(args, Some(2), None, |regex, s, from, row| {
                    let n = match args.get(3) {
                        Some(n) => n.as_primitive::<Int64Type>().value(row),
                        None => 1,
                    };
                    let n = usize::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| {
                        Error::invalid(format!("regexp_substr was asked for match {n}; the first one is 1"))
                    })?;
                    Ok(walk(regex, s, from).nth(n - 1).map(|m| m.as_str().to_owned()))
                })?;
                Ok(Arc::new(StringArray::from(all)))
            },
        ),
        define(
            "regexp_split_to_array(text, pattern, flags)",
            &["string_split_regex", "str_split_regex", "regexp_split"],
            |t| mixed(t, "ttT"),
            |_| text_list(),
            |args| Ok(lists(rows(args, Some(2), |regex, s, _| Ok(Some(split(regex, s))))?)),
        ),
        define(
            "regexp_extract(text, pattern, group, flags)",
            &[],
            |t| mixed(t, "ttIT"),
            |_| DataType::Utf8,
            |args| {
                let all = rows(args, Some(3), |regex, s, row| {
                    let group = group(args, regex, row)?;
                    let found = regex.captures(s).and_then(|c| c.get(group));
                    Ok(Some(found.map_or_else(String::new, |m| m.as_str().to_owned())))
                })?;
                Ok(Arc::new(StringArray::from(all)))
            },
        ),
        define(
            "regexp_extract_all(text, pattern, group, flags)",
            &[],
            |t| mixed(t, "ttIT"),
            |_| text_list(),
            |args| {
                let all = rows(args, Some(3), |regex, s, row| {
                    let group = group(args, regex, row)?;
                    let part = |m: Match<'_>| {
                        let found = match group {
                            0 => Some(m),
                            _ => regex.captures_at(s, m.start()).and_then(|c| c.get(group)),
                        };
                        Some(found.map_or_else(String::new, |m| m.as_str().to_owned()))
                    };
                    Ok(Some(walk(regex, s, Some(0)).map(part).collect()))
                })?;
                Ok(lists(all))
            },
        ),
        define(
            "regexp_matches(text, pattern, flags)",
            &[],
            |t| mixed(t, "ttT"),
            |_| DataType::Boolean,
            |args| {
                Ok(Arc::new(BooleanArray::from(rows(args, Some(2), |regex, s, _| {
                    Ok(Some(regex.is_match(s)))
                })?)))
            },
        ),
        define(
            "regexp_full_match(text, pattern, flags)",
            &[],
            |t| mixed(t, "ttT"),
            |_| DataType::Boolean,
            |args| {
                // Only an anchored pattern tries the longer of several ways to match.
                let all = rows_of(
                    args,
                    (None, Some(2)),
                    |p| format!("\\A(?:{p})\\z"),
                    |regex, s, _, _| Ok(Some(regex.is_match(s))),
                )?;
                Ok(Arc::new(BooleanArray::from(all)))
            },
        ),
    ]
}

/// Rows of a text and a pattern; NULL where any argument is.
fn rows<T>(
    args: &[ArrayRef],
    flags: Option<usize>,
    f: impl Fn(&Regex, &str, usize) -> Result<Option<T>>,
) -> Result<Vec<Option<T>>> {
    rows_from(args, None, flags, |regex, s, _, row| f(regex, s, row))
}

/// The same with the byte at which the `start`-th character begins; `None` behind the text.
fn rows_from<T>(
    args: &[ArrayRef],
    start: Option<usize>,
    flags: Option<usize>,
    f: impl Fn(&Regex, &str, Option<usize>, usize) -> Result<Option<T>>,
) -> Result<Vec<Option<T>>> {
    rows_of(args, (start, flags), str::to_owned, f)
}

/// The same with patterns changed by `wrap` first.
fn rows_of<T>(
    args: &[ArrayRef],
    (start, flags): (Option<usize>, Option<usize>),
    wrap: fn(&str) -> String,
    f: impl Fn(&Regex, &str, Option<usize>, usize) -> Result<Option<T>>,
) -> Result<Vec<Option<T>>> {
    let (values, patterns) = (text(&args[0]), text(&args[1]));
    let starts = start.and_then(|i| args.get(i)).map(|a| a.as_primitive::<Int64Type>());
    let flags = flags.and_then(|i| args.get(i)).map(text);
    // Nearly always one pattern for all rows.
    let mut last: Option<(&str, &str, Regex)> = None;
    let mut out = Vec::with_capacity(values.len());
    for row in 0..values.len() {
        if any_null(args, row) {
            out.push(None);
            continue;
        }
        let (pattern, flags) = (patterns.value(row), flags.map_or("", |f| f.value(row)));
        if last.as_ref().is_none_or(|(p, f, _)| *p != pattern || *f != flags) {
            last = Some((pattern, flags, compile(pattern, flags, wrap)?));
        }
        let Some((_, _, regex)) = &last else { continue };
        let value = values.value(row);
        let from = place_of(value, starts.map_or(1, |s| s.value(row)))?;
        out.push(f(regex, value, from, row)?);
    }
    Ok(out)
}

/// Where the `start`-th character begins; the one behind the last begins at the end.
fn place_of(s: &str, start: i64) -> Result<Option<usize>> {
    let skipped = usize::try_from(start).ok().filter(|n| *n > 0).ok_or_else(|| {
        Error::invalid(format!("a regular expression was to start at {start}; the first character is 1"))
    })?;
    Ok(s.char_indices().map(|(at, _)| at).chain([s.len()]).nth(skipped - 1))
}

/// The matches from a byte on, which see the text before it. The next one is searched behind the last, one character
/// further if that was empty: unlike `find_iter` an empty match may follow another one at once, as in PostgreSQL and
/// DuckDB.
fn walk<'a>(regex: &'a Regex, s: &'a str, from: Option<usize>) -> impl Iterator<Item = Match<'a>> {
    let mut next = from;
    std::iter::from_fn(move || {
        let found = regex.find_at(s, next?)?;
        next = match found.is_empty() {
            true => s[found.end()..].chars().next().map(|c| found.end() + c.len_utf8()),
            false => Some(found.end()),
        };
        Some(found)
    })
}

fn compile(pattern: &str, flags: &str, wrap: fn(&str) -> String) -> Result<Regex> {
    let escaped = if flags.contains('l') { regex::escape(pattern) } else { pattern.to_owned() };
    let mut builder = RegexBuilder::new(&wrap(&escaped));
    for flag in flags.chars() {
        match flag {
            'i' => builder.case_insensitive(true),
            'c' => builder.case_insensitive(false),
            'm' | 'n' => builder.multi_line(true),
            's' => builder.dot_matches_new_line(true),
            'x' => builder.ignore_whitespace(true),
            'g' | 'l' => &mut builder,
            other => {
                return Err(Error::invalid(format!("regular expressions have no flag {other:?}"))
                    .with_hint("there are i, c, m, n, s, x, l and g")
                    .into());
            }
        };
    }
    builder.build().map_err(|e| Error::invalid(format!("invalid regular expression: {e}")).into())
}

fn group(args: &[ArrayRef], regex: &Regex, row: usize) -> Result<usize> {
    let Some(groups) = args.get(2) else { return Ok(0) };
    let group = groups.as_primitive::<Int64Type>().value(row);
    usize::try_from(group).ok().filter(|g| *g < regex.captures_len()).ok_or_else(|| {
        let last = regex.captures_len() - 1;
        Error::invalid(format!("the regular expression has groups 0 to {last}, and no {group}")).into()
    })
}

/// PostgreSQL's pieces: an empty match splits only between two characters that no other match has split.
fn split(regex: &Regex, s: &str) -> Vec<Option<String>> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for found in regex.find_iter(s) {
        let empty = found.is_empty();
        if empty && (found.start() == from || found.end() == s.len()) {
            continue;
        }
        pieces.push(Some(s[from..found.start()].to_owned()));
        from = found.end();
    }
    pieces.push(Some(s[from..].to_owned()));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(pattern: &str, flags: &str) -> Result<Regex> {
        super::compile(pattern, flags, str::to_owned)
    }

    /// What PostgreSQL 15 answers.
    #[test]
    fn splits_as_postgresql() {
        let cases: [(&str, &str, &[&str]); 6] = [
            ("a1b22c", "[0-9]+", &["a", "b", "c"]),
            ("the quick", "\\s*", &["t", "h", "e", "q", "u", "i", "c", "k"]),
            ("hello", "", &["h", "e", "l", "l", "o"]),
            ("", ",", &[""]),
            (",a,", ",", &["", "a", ""]),
            ("日本", "", &["日", "本"]),
        ];
        for (s, pattern, want) in cases {
            let got = split(&compile(pattern, "").unwrap(), s);
            assert_eq!(got.iter().flatten().collect::<Vec<_>>(), want, "{s:?} {pattern:?}");
        }
    }

    #[test]
    fn flags() {
        assert!(compile("A", "i").unwrap().is_match("a"));
        assert!(compile("a.b", "l").unwrap().is_match("xa.by"));
        assert!(!compile("a.b", "l").unwrap().is_match("axb"));
        assert!(compile("a", "q").is_err());
        assert!(compile("(", "").is_err());
        assert_eq!(place_of("日本語", 2).unwrap(), Some(3));
        assert_eq!(place_of("ab", 3).unwrap(), Some(2));
        assert_eq!(place_of("ab", 9).unwrap(), None);
        assert!(place_of("ab", 0).is_err());
    }

    /// What PostgreSQL 15 and DuckDB answer.
    #[test]
    fn matches_from_a_place() {
        let cases: [(&str, &str, usize, &[&str]); 6] = [
            ("abcabc", "^abc", 3, &[]),
            ("abcabc", "^abc", 0, &["abc"]),
            ("aaa", "a*", 0, &["aaa", ""]),
            ("baaab", "a*", 0, &["", "aaa", "", ""]),
            ("日本", "", 0, &["", "", ""]),
            ("ab ab", r"\bab", 1, &["ab"]),
        ];
        for (s, pattern, from, want) in cases {
            let regex = compile(pattern, "").unwrap();
            let got: Vec<&str> = walk(&regex, s, Some(from)).map(|m| m.as_str()).collect();
            assert_eq!(got, want, "{s:?} {pattern:?}");
        }
    }
}
