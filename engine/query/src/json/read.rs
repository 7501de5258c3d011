//! One step into a JSON text: from a value to a member or an element, both as slices of the same text.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::de::IgnoredAny;
use triune_common::{Error, Result};

/// Where to go from a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    /// A member of an object.
    Key(&'a str),
    /// An element of an array; a negative one counts from the end.
    Index(i64),
    /// An element of a path: a key of an object, an index of an array.
    Either(&'a str),
}

/// What kind of value a text holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    Boolean,
    Null,
}

impl Kind {
    /// The name that `json_typeof` gives it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Null => "null",
        }
    }
}

/// The longest piece of a text that an error message repeats, in characters.
const SHOWN: usize = 60;

fn broken(text: &str, error: &serde_json::Error) -> Error {
    let shown: String = text.chars().take(SHOWN).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    Error::invalid(format!("'{shown}{more}' is no JSON: {error}"))
}

/// The text without white space around it, once it is known to be one JSON value. Everything below relies
/// on that, and only finds its way.
pub(super) fn valid(text: &str) -> Result<&str> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|e| broken(text, &e))?;
    Ok(text.trim_matches(SPACE))
}

/// What JSON calls white space.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// The kind of a valid value.
pub(super) fn kind(json: &str) -> Kind {
    match json.as_bytes().first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b'"') => Kind::String,
        Some(b't' | b'f') => Kind::Boolean,
        Some(b'n') => Kind::Null,
        _ => Kind::Number,
    }
}

/// The value one step from a valid value, or `None` if there is none.
pub(super) fn step<'t>(json: &'t str, to: Step<'_>) -> Option<&'t str> {
    let index = match to {
        Step::Index(i) => Some(i),
        Step::Either(text) => text.parse().ok(),
        Step::Key(_) => None,
    };
    match (kind(json), to, index) {
        (Kind::Object, Step::Key(key) | Step::Either(key), _) => {
            members(json).filter(|(name, _)| spells(name, key)).last().map(|(_, value)| value)
        }
        (Kind::Array, _, Some(index)) => {
            let index = match usize::try_from(index) {
                Ok(index) => index,
                Err(_) => {
                    let back = usize::try_from(index.unsigned_abs()).ok()?;
                    elements(json).count().checked_sub(back)?
                }
            };
            elements(json).nth(index)
        }
        _ => None,
    }
}

/// Whether a string, with its quotes, is this text.
fn spells(quoted: &str, text: &str) -> bool {
    match quoted.contains('\\') {
        true => serde_json::from_str::<String>(quoted).is_ok_and(|t| t == text),
        false => quoted.get(1..quoted.len() - 1) == Some(text),
    }
}

/// The value as text: a string without quotes and escapes, everything else as written; `None` for `null`.
pub(super) fn as_text(json: &str) -> Result<Option<Cow<'_, str>>> {
    match kind(json) {
        Kind::Null => Ok(None),
        Kind::String if json.contains('\\') => {
            // Half of a surrogate pair is valid JSON and no text.
            Ok(Some(serde_json::from_str::<String>(json).map_err(|e| broken(json, &e))?.into()))
        }
        Kind::String => Ok(json.get(1..json.len() - 1).map(Cow::from)),
        _ => Ok(Some(json.into())),
    }
}

/// The keys of an object in the order of the text, each once; `None` for what is no object.
pub(super) fn keys(json: &str) -> Result<Option<Vec<String>>> {
    if kind(json) != Kind::Object {
        return Ok(None);
    }
    let (mut keys, mut seen) = (Vec::new(), HashSet::new());
    for (name, _) in members(json) {
        let name: String = serde_json::from_str(name).map_err(|e| broken(name, &e))?;
        if seen.insert(name.clone()) {
            keys.push(name);
        }
    }
    Ok(Some(keys))
}

/// How many elements an array has; `None` for what is no array.
pub(super) fn length(json: &str) -> Option<usize> {
    (kind(json) == Kind::Array).then(|| elements(json).count())
}

/// PostgreSQL's `?`: a key of an object, a string of an array, or the string itself.
pub(super) fn has(json: &str, wanted: &str) -> bool {
    match kind(json) {
        Kind::Object => members(json).any(|(name, _)| spells(name, wanted)),
        Kind::Array => elements(json).any(|e| kind(e) == Kind::String && spells(e, wanted)),
        Kind::String => spells(json, wanted),
        _ => false,
    }
}

/// Names, with their quotes, and values of an object.
fn members(json: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut parts = Parts::of(json);
    std::iter::from_fn(move || Some((parts.next()?, parts.next()?)))
}

fn elements(json: &str) -> impl Iterator<Item = &str> {
    Parts::of(json)
}

/// The strings and values directly inside a container, whatever stands between them.
struct Parts<'t> {
    rest: &'t str,
}

impl<'t> Parts<'t> {
    fn of(container: &'t str) -> Self {
        Self { rest: container.get(1..container.len().saturating_sub(1)).unwrap_or_default() }
    }
}

impl<'t> Iterator for Parts<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let between = |c: char| SPACE.contains(&c) || c == ',' || c == ':';
        self.rest = self.rest.trim_start_matches(between);
        if self.rest.is_empty() {
            return None;
        }
        let (value, rest) = self.rest.split_at(end_of(self.rest));
        self.rest = rest;
        Some(value)
    }
}

/// Where the value that the text begins with ends. Everything that is looked for is ASCII, so each place is
/// between two letters.
fn end_of(text: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => {
                quoted = !quoted;
                if !quoted && depth == 0 {
                    return at + 1;
                }
            }
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn steps() {
        let json = r#" {"a": 1, "b": [10, "x", {"c": null}], "a": 2, "é\n": true} "#;
        let json = valid(json).unwrap();
        assert_eq!(step(json, Step::Key("a")), Some("2"));
        assert_eq!(step(json, Step::Key("é\n")), Some("true"));
        assert_eq!(step(json, Step::Key("z")), None);
        assert_eq!(step(json, Step::Index(0)), None);
        let list = step(json, Step::Either("b")).unwrap();
        assert_eq!(step(list, Step::Index(1)), Some("\"x\""));
        assert_eq!(step(list, Step::Index(-1)), Some("{\"c\": null}"));
        assert_eq!(step(list, Step::Either("-3")), Some("10"));
        for past in [3, -4, i64::MIN, i64::MAX] {
            assert_eq!(step(list, Step::Index(past)), None);
        }
        assert_eq!(step(list, Step::Key("0")), None);
        assert!(has(json, "b") && !has(json, "x") && has(list, "x") && !has(list, "10") && has("\"q\"", "q"));
    }

    #[test]
    fn what_is_no_json_is_an_error_wherever_it_breaks() {
        for text in
            ["", "{", "{\"a\": 1", "{\"a\": 1} x", "{\"a\": 1, \"b\": }", "nope", "'a'", "[1,]", "[1 2]"]
        {
            assert!(valid(text).is_err(), "{text}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-zé\"\\\\\n]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map("[a-d0-2]", inner, 0..5)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// serde_json, which builds the whole value, is the oracle.
        #[test]
        fn paths_agree_with_a_parser_that_builds(value in json(), path in prop::collection::vec("[a-d0-2]|-[1-2]", 0..4)) {
            let text = serde_json::to_string_pretty(&value).unwrap();
            let mut ours = Some(valid(&text).unwrap());
            let mut theirs = Some(&value);
            for name in &path {
                ours = ours.and_then(|json| step(json, Step::Either(name)));
                theirs = match theirs {
                    Some(Value::Object(m)) => m.get(name),
                    Some(Value::Array(a)) => name.parse::<i64>().ok().and_then(|i| {
                        let i = if i < 0 { i + a.len() as i64 } else { i };
                        a.get(usize::try_from(i).ok()?)
                    }),
                    _ => None,
                };
            }
            let read: Option<Value> = ours.map(|t| serde_json::from_str(t).unwrap());
            prop_assert_eq!(read.as_ref(), theirs);
            if let Some(ours) = ours {
                let expected = match theirs {
                    Some(Value::Null) | None => None,
                    Some(Value::String(s)) => Some(s.clone()),
                    Some(_) => Some(ours.to_owned()),
                };
                prop_assert_eq!(as_text(ours).unwrap().map(|t| t.into_owned()), expected);
                prop_assert_eq!(length(ours), theirs.and_then(Value::as_array).map(Vec::len));
                let sorted = |mut k: Vec<String>| { k.sort(); k };
                prop_assert_eq!(
                    keys(ours).unwrap().map(sorted),
                    theirs.and_then(Value::as_object).map(|m| sorted(m.keys().cloned().collect()))
                );
            }
        }
    }
}
