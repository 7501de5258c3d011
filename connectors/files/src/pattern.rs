//! `year=*/**/part-[0-9]?.{csv,tsv}`
//!
//! | written  | stands for                                      |
//! |----------|-------------------------------------------------|
//! | `*`      | any letters of one name                         |
//! | `?`      | one letter of a name                            |
//! | `[a-z]`  | one letter of the set; `[!a-z]` one that is not |
//! | `**`     | any number of folders, none too                 |
//! | `{a,b}`  | either; may contain `/` and the others          |

use triune_common::{Error, Result};

/// Alternatives without braces are limited: `{a,b}{a,b}…` doubles with each.
const MAX_ALTERNATIVES: usize = 1024;

pub(crate) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// A glob over relative paths.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    /// Each alternative as the names of a path.
    alternatives: Vec<Vec<Vec<char>>>,
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut alternatives = Vec::new();
        expand(text, &mut alternatives)
            .map_err(|what| Error::invalid(format!("pattern \"{text}\" {what}")))?;
        for one in &alternatives {
            check_sets(one).map_err(|what| Error::invalid(format!("pattern \"{text}\" {what}")))?;
        }
        let alternatives =
            alternatives.iter().map(|a| a.split('/').map(|s| s.chars().collect()).collect()).collect();
        Ok(Self { alternatives })
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        let names: Vec<Vec<char>> = path.split('/').map(|s| s.chars().collect()).collect();
        self.alternatives.iter().any(|pattern| match_names(pattern, &names))
    }
}

/// Writes out the first pair of braces and goes on with each alternative.
fn expand(text: &str, out: &mut Vec<String>) -> std::result::Result<(), String> {
    let Some(open) = text.find('{') else {
        if text.contains('}') {
            return Err("has a } without its {".to_owned());
        }
        if out.len() >= MAX_ALTERNATIVES {
            return Err(format!("stands for more than {MAX_ALTERNATIVES} alternatives"));
        }
        out.push(text.to_owned());
        return Ok(());
    };
    let mut depth = 0;
    let mut start = open + 1;
    let mut parts = Vec::new();
    for (at, c) in text.char_indices().skip_while(|(at, _)| *at < open) {
        match c {
            '{' => depth += 1,
            ',' if depth == 1 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    parts.push(&text[start..at]);
                    for part in parts {
                        expand(&format!("{}{part}{}", &text[..open], &text[at + 1..]), out)?;
                    }
                    return Ok(());
                }
            }
            _ => {}
        }
    }
    Err("has a { without its }".to_owned())
}

fn check_sets(text: &str) -> std::result::Result<(), String> {
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let inside = &rest[open + 1..];
        // `[]x]` and `[!]x]` contain the bracket itself.
        let skip = if inside.starts_with("!]") { 2 } else { usize::from(inside.starts_with(']')) };
        let close = inside[skip..].find(']').ok_or("has a [ without its ]")? + skip;
        if inside[..close].contains('/') {
            return Err("has a / inside [ ]".to_owned());
        }
        rest = &inside[close + 1..];
    }
    Ok(())
}

/// Both loops go back to the last star only, so the time is at most pattern × text.
fn match_names(pattern: &[Vec<char>], names: &[Vec<char>]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < names.len() {
        let here = pattern.get(p);
        if here.is_some_and(|s| s.as_slice() == ['*', '*']) {
            star = Some((p, n));
            p += 1;
        } else if here.is_some_and(|s| match_name(s, &names[n])) {
            p += 1;
            n += 1;
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            p = at + 1;
            n = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|s| s.as_slice() == ['*', '*'])
}

fn match_name(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => match_set(&pattern[p..], name[n]),
            Some(c) if *c == name[n] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(width), _) => {
                p += width;
                n += 1;
            }
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The width of the set at the start of `pattern`, if it contains `c`.
fn match_set(pattern: &[char], c: char) -> Option<usize> {
    let negated = pattern.get(1) == Some(&'!');
    let first = if negated { 2 } else { 1 };
    let mut at = first;
    let mut found = false;
    loop {
        let low = *pattern.get(at)?;
        if low == ']' && at > first {
            break;
        }
        if pattern.get(at + 1) == Some(&'-') && pattern.get(at + 2).is_some_and(|h| *h != ']') {
            let high = *pattern.get(at + 2)?;
            found |= (low..=high).contains(&c);
            at += 3;
        } else {
            found |= low == c;
            at += 1;
        }
    }
    (found != negated).then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn m(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(path)
    }

    #[test]
    fn stars_stay_within_a_name() {
        assert!(m("*.csv", "a.csv") && m("*.csv", ".csv") && !m("*.csv", "d/a.csv") && !m("*.csv", "a.csvx"));
        assert!(m("a*b*c", "axxbyyc") && !m("a*b*c", "axxbyy"));
        assert!(m("year=*/m?.csv", "year=2024/m1.csv") && !m("year=*/m?.csv", "year=2024/m10.csv"));
    }

    #[test]
    fn two_stars_are_any_folders() {
        for path in ["x.csv", "a/x.csv", "a/b/x.csv"] {
            assert!(m("**/*.csv", path), "{path}");
        }
        assert!(m("a/**", "a/b/c") && !m("a/**/z.csv", "b/z.csv") && m("a/**/z.csv", "a/z.csv"));
        assert!(m("**/b/**/x", "a/b/c/b/x"));
    }

    #[test]
    fn sets_and_alternatives() {
        assert!(m("p[0-9].csv", "p7.csv") && !m("p[0-9].csv", "px.csv") && m("p[!0-9].csv", "px.csv"));
        assert!(m("[]]", "]") && m("[a-]", "-") && m("[é-ü]", "ö"));
        assert!(m("{a,b/c}.csv", "a.csv") && m("{a,b/c}.csv", "b/c.csv") && !m("{a,b}.csv", "c.csv"));
        assert!(m("{a,{b,c}}x", "cx") && m("x{,y}", "x"));
    }

    #[test]
    fn broken_patterns_are_refused() {
        for bad in ["{a", "a}", "[a", "[a/b]", "[!]"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        assert!(Pattern::parse(&"{a,b}".repeat(20)).unwrap_err().to_string().contains("alternatives"));
    }

    #[test]
    fn no_pattern_takes_for_ever() {
        assert!(!m(&"a*".repeat(200), &"a".repeat(199)));
        assert!(!m(&format!("{}x", "**/".repeat(100)), &vec!["a"; 200].join("/")));
    }
}
