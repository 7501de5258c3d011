//! What a client asks for.
//!
//! ```text
//! POST /query?format=csv&timeout=5          POST /query
//! content-type: text/plain                  content-type: application/json
//!
//! SELECT * FROM docs                        {"sql": "SELECT * FROM docs WHERE id = $1", "params": [7],
//!                                            "format": "csv", "timeout": 5}
//! ```
//!
//! `params` is a list for `$1 …` or an object for `$name`. A list of numbers is a vector, a list of texts a list.
//! The format is that of the body, of the address or of `Accept`; JSON if none says.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use arrow::datatypes::DataType;
use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use datafusion::common::ScalarValue;
use serde_json::{Map, Value};
use triune_common::names::did_you_mean;
use triune_common::{Error, ErrorKind, Result};
use triune_query::Params;

use super::answer::Failure;

/// For a body, from its first byte to its last.
const BODY: Duration = Duration::from_secs(30);
const MEMBERS: [&str; 4] = ["sql", "params", "format", "timeout"];
const OPTIONS: [&str; 2] = ["format", "timeout"];

/// How the rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Ndjson,
    Csv,
    Tsv,
    Arrow,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "json" => Self::Json,
            "ndjson" | "jsonl" => Self::Ndjson,
            "csv" => Self::Csv,
            "tsv" => Self::Tsv,
            "arrow" => Self::Arrow,
            _ => {
                return Err(Error::invalid(format!("there is no format called {}", shortened(text)))
                    .with_hint("accepted are json, ndjson, csv, tsv and arrow"));
            }
        })
    }
}

impl Format {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Tsv => "text/tab-separated-values; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// The first that `Accept` names and we write.
    fn accepted(headers: &HeaderMap) -> Option<Self> {
        let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
        accept.split(',').find_map(|range| match range.split(';').next()?.trim() {
            "application/json" => Some(Self::Json),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Self::Ndjson),
            "text/csv" => Some(Self::Csv),
            "text/tab-separated-values" => Some(Self::Tsv),
            "application/vnd.apache.arrow.stream" => Some(Self::Arrow),
            _ => None,
        })
    }
}

/// A statement and what is wanted of it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) sql: String,
    pub(super) params: Params,
    pub(super) format: Format,
    pub(super) timeout: Option<Duration>,
}

impl Asked {
    /// Reads a request, whose body has at most `limit` bytes.
    pub(super) async fn read(request: Request<Body>, limit: usize) -> std::result::Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let read = tokio::time::timeout(BODY, axum::body::to_bytes(body, limit)).await;
        let body = read.map_err(|_| {
            let seconds = BODY.as_secs();
            Error::new(ErrorKind::Cancelled, format!("the body did not come within {seconds} seconds"))
        })?;
        let body = body.map_err(|e| {
            let error = Error::new(ErrorKind::Resources, format!("the body cannot be read: {e}"))
                .with_hint(format!("a body has at most {limit} bytes"));
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, &error)
        })?;
        Ok(Self::of(&parts, body.into())?)
    }

    fn of(parts: &Parts, body: Vec<u8>) -> Result<Self> {
        let options = options(parts.uri.query().unwrap_or_default())?;
        let body = String::from_utf8(body)
            .map_err(|e| Error::invalid(format!("the body is no UTF-8: {}", e.utf8_error())))?;
        let mut asked = match is_json(&parts.headers) {
            true => of_json(&body)?,
            false => Given { sql: body, ..Given::default() },
        };
        for (name, value) in options {
            match name.as_str() {
                "format" if asked.format.is_none() => asked.format = Some(value.parse()?),
                "timeout" if asked.timeout.is_none() => {
                    asked.timeout = Some(seconds(value.parse().ok(), &value)?);
                }
                _ => {}
            }
        }
        let format = asked.format.or_else(|| Format::accepted(&parts.headers)).unwrap_or(Format::Json);
        Ok(Self { sql: asked.sql, params: asked.params, format, timeout: asked.timeout })
    }
}

#[derive(Debug, Default)]
struct Given {
    sql: String,
    params: Params,
    format: Option<Format>,
    timeout: Option<Duration>,
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// `format=csv&timeout=5`
fn options(query: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !OPTIONS.contains(&name) {
            return Err(unknown("parameter of the address", name, &OPTIONS));
        }
        found.push((name.to_owned(), value.to_owned()));
    }
    Ok(found)
}

fn unknown(what: &str, name: &str, accepted: &[&str]) -> Error {
    let error = Error::invalid(format!("there is no {what} called {}", shortened(name)));
    match did_you_mean(name, accepted.iter().copied()) {
        Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
        None => error.with_hint(format!("accepted are {}", accepted.join(", "))),
    }
}

fn shortened(text: &str) -> String {
    format!("{:?}", text.chars().take(100).collect::<String>())
}

fn seconds(value: Option<f64>, written: &str) -> Result<Duration> {
    value.and_then(|s| Duration::try_from_secs_f64(s).ok()).filter(|d| !d.is_zero()).ok_or_else(|| {
        Error::invalid(format!("the timeout cannot be {}", shortened(written)))
            .with_hint("it takes seconds, as 5 or 0.5")
    })
}

fn of_json(body: &str) -> Result<Given> {
    let broken = |why: String| {
        Error::invalid(why).with_hint("a body is like {\"sql\": \"SELECT $1\", \"params\": [1]}")
    };
    let body: Value = serde_json::from_str(body).map_err(|e| broken(format!("the body is no JSON: {e}")))?;
    let Value::Object(mut members) = body else {
        return Err(broken(format!("the body is {}, not an object", named(&body))));
    };
    if let Some(name) = members.keys().find(|k| !MEMBERS.contains(&k.as_str())) {
        return Err(unknown("member of the body", name, &MEMBERS));
    }
    let Some(Value::String(sql)) = members.remove("sql") else {
        return Err(broken("the body has no text \"sql\"".to_owned()));
    };
    let params = match members.remove("params") {
        None | Some(Value::Null) => Params::None,
        Some(Value::Array(values)) => {
            let values = values.iter().enumerate().map(|(i, v)| scalar(v, &format!("${}", i + 1)));
            Params::Positional(values.collect::<Result<_>>()?)
        }
        Some(Value::Object(values)) => Params::Named(by_name(&values)?),
        Some(other) => {
            return Err(broken(format!("\"params\" is {}, not a list or an object", named(&other))));
        }
    };
    let format = match members.remove("format") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name.parse()?),
        Some(other) => return Err(broken(format!("\"format\" is {}, not a text", named(&other)))),
    };
    let timeout = match members.remove("timeout") {
        None | Some(Value::Null) => None,
        Some(value) => Some(seconds(value.as_f64(), &value.to_string())?),
    };
    Ok(Given { sql, params, format, timeout })
}

fn by_name(values: &Map<String, Value>) -> Result<HashMap<String, ScalarValue>> {
    let value = |(name, value): (&String, &Value)| {
        let bare = name.trim_start_matches('$').to_owned();
        scalar(value, &format!("${bare}")).map(|v| (bare, v))
    };
    values.iter().map(value).collect()
}

fn named(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A value for the parameter `name`.
fn scalar(value: &Value, name: &str) -> Result<ScalarValue> {
    let refuse = |what: &str| {
        Err(Error::invalid(format!("the parameter {name} is {what}"))
            .with_hint("accepted are null, booleans, numbers, texts, and lists of numbers or of texts"))
    };
    Ok(match value {
        Value::Null => ScalarValue::Null,
        Value::Bool(b) => ScalarValue::Boolean(Some(*b)),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(small), _) => ScalarValue::Int64(Some(small)),
            (None, Some(large)) => ScalarValue::UInt64(Some(large)),
            (None, None) => ScalarValue::Float64(n.as_f64()),
        },
        Value::String(text) => ScalarValue::Utf8(Some(text.clone())),
        Value::Object(_) => return refuse("an object"),
        Value::Array(items) => {
            let whole = |v: &Value| v.is_i64() || v.is_null();
            let number = |v: &Value| v.is_number() || v.is_null();
            let text = |v: &Value| v.is_string() || v.is_null();
            let (kind, values): (DataType, Vec<ScalarValue>) = if items.iter().all(whole) {
                (DataType::Int64, items.iter().map(|v| ScalarValue::Int64(v.as_i64())).collect())
            } else if items.iter().all(number) {
                (DataType::Float64, items.iter().map(|v| ScalarValue::Float64(v.as_f64())).collect())
            } else if items.iter().all(text) {
                let text = |v: &Value| ScalarValue::Utf8(v.as_str().map(str::to_owned));
                (DataType::Utf8, items.iter().map(text).collect())
            } else {
                return refuse("a list of different things");
            };
            ScalarValue::List(ScalarValue::new_list(&values, &kind, true))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(content: &str, address: &str, body: &str) -> Result<Asked> {
        let request = axum::http::Request::post(address)
            .header("content-type", content)
            .header("accept", "text/html, text/csv;q=0.9")
            .body(())
            .unwrap();
        Asked::of(&request.into_parts().0, body.as_bytes().to_vec())
    }

    #[test]
    fn bodies_are_read() {
        let plain = asked("text/plain", "/query", "SELECT 1").unwrap();
        assert_eq!((plain.sql.as_str(), plain.format), ("SELECT 1", Format::Csv));
        let json = r#"{"sql": "SELECT $1", "params": [1, null, "x", [0.5, 1], true], "timeout": 2}"#;
        let json = asked("application/json; charset=utf-8", "/query?format=arrow&timeout=9", json).unwrap();
        assert_eq!((json.format, json.timeout), (Format::Arrow, Some(Duration::from_secs(2))));
        let Params::Positional(values) = json.params else { panic!("by position") };
        assert_eq!(values[0], ScalarValue::Int64(Some(1)));
        assert!(matches!(values[3], ScalarValue::List(_)));
        let named = asked("application/json", "/query", r#"{"sql":"SELECT $a","params":{"a":1.5}}"#).unwrap();
        assert!(matches!(named.params, Params::Named(v) if v["a"] == ScalarValue::Float64(Some(1.5))));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (content, address, body, word) in [
            ("application/json", "/query", "[1]", "the body is a list, not an object"),
            ("application/json", "/query", "{", "the body is no JSON"),
            ("application/json", "/query", "{}", "no text \"sql\""),
            ("application/json", "/query", r#"{"sql":"x","parms":[]}"#, "did you mean \"params\"?"),
            ("application/json", "/query", r#"{"sql":"x","params":[{}]}"#, "the parameter $1 is an object"),
            ("application/json", "/query", r#"{"sql":"x","params":[[1,"a"]]}"#, "a list of different things"),
            ("application/json", "/query", r#"{"sql":"x","timeout":-1}"#, "the timeout cannot be \"-1\""),
            ("text/plain", "/query?format=xml", "SELECT 1", "accepted are json, ndjson, csv, tsv and arrow"),
            ("text/plain", "/query?fromat=csv", "SELECT 1", "did you mean \"format\"?"),
            ("text/plain", "/query?timeout=soon", "SELECT 1", "it takes seconds"),
        ] {
            let error = asked(content, address, body).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
