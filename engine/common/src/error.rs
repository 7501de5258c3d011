//! One error type with a kind, told apart from the kernel to the client.
//!
//! ```text
//! error[not found]: no table or view is called "pakages"; did you mean "packages"?
//!   |
//! 1 | SELECT * FROM pakages
//!   |               ^
//! ```
//!
//! Messages are lower case, without a final stop; they name the offending thing and its value and say
//! what would be accepted. Crossing into DataFusion, an [`Error`] travels as
//! `DataFusionError::External` and is found again by [`Error::from`], whatever it was wrapped in.

use std::fmt;

use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Diagnostic, SchemaError};

/// The result type of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who is to act on an error, and how. Servers map these kinds to protocol codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The text is not SQL of our dialect.
    Syntax,
    /// The statement is well-formed and wrong: types, arguments, values.
    Invalid,
    /// A table, column, function, file or bucket does not exist.
    NotFound,
    /// Something of that name exists already.
    AlreadyExists,
    /// The data that was read breaks its own format: a torn file, a ragged row.
    Data,
    /// Well-formed, and Triune cannot do it.
    Unsupported,
    /// The store or server said no to this principal.
    Permission,
    /// The change would break a constraint: NOT NULL, CHECK, a key that is taken.
    Constraint,
    /// A concurrent change won; the same statement may succeed when retried.
    Conflict,
    /// A store or server did not answer; may succeed when retried.
    Unavailable,
    /// A limit on memory, disk, depth or size was reached.
    Resources,
    /// The statement was cancelled.
    Cancelled,
    /// A defect in Triune.
    Internal,
}

impl ErrorKind {
    /// The words that a user sees in `error[…]`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Invalid => "invalid",
            Self::NotFound => "not found",
            Self::AlreadyExists => "already exists",
            Self::Data => "bad data",
            Self::Unsupported => "unsupported",
            Self::Permission => "permission denied",
            Self::Constraint => "constraint",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Resources => "out of resources",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    /// Whether the same statement may succeed when it is sent again unchanged.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Conflict | Self::Unavailable)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A place in the statement's text; both numbers count from 1, columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    pub line: u64,
    pub column: u64,
}

impl Position {
    pub fn new(line: u64, column: u64) -> Self {
        Self { line, column }
    }
}

/// The public error: a kind, a message, where in the statement, and what might help.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.summary())]
pub struct Error {
    kind: ErrorKind,
    message: String,
    position: Option<Position>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), position: None, hint: None, source: None }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// A disk or a quota is full: nothing is broken, and writing may go on after space was made.
    pub fn no_space(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Resources, message).with_hint("make space on the disk or raise the quota")
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Adds where in the statement it happened; an earlier, more exact position is kept.
    #[must_use]
    pub fn at(mut self, position: Option<Position>) -> Self {
        if self.position.is_none() {
            self.position = position;
        }
        self
    }

    /// Adds what would be accepted, or what to try.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message without position and hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn position(&self) -> Option<Position> {
        self.position
    }

    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    fn summary(&self) -> String {
        let mut text = self.message.clone();
        if let Some(hint) = &self.hint {
            text.push_str("; ");
            text.push_str(hint);
        }
        if let Some(p) = self.position {
            text.push_str(&format!(" (line {}, column {})", p.line, p.column));
        }
        text
    }

    /// The error over several lines, with the line of `sql` that it speaks of and a caret below the place.
    pub fn render(&self, sql: &str) -> String {
        let mut out = format!("error[{}]: {}", self.kind, self.message);
        if let Some(hint) = &self.hint {
            out.push_str("; ");
            out.push_str(hint);
        }
        let Some(p) = self.position else { return out };
        let Some(line) = sql.lines().nth(p.line.saturating_sub(1) as usize) else { return out };
        let chars: Vec<char> = line.chars().collect();
        let at = (p.column.saturating_sub(1) as usize).min(chars.len());
        // A statement may be megabytes on one line: show a window around the place.
        let from = at.saturating_sub(60);
        let to = (at + 60).min(chars.len());
        let lead = if from > 0 { "…" } else { "" };
        let tail = if to < chars.len() { "…" } else { "" };
        let window: String = chars[from..to].iter().map(|c| if *c == '\t' { ' ' } else { *c }).collect();
        let number = p.line.to_string();
        let pad = " ".repeat(number.len());
        let caret = " ".repeat(at - from + lead.chars().count());
        out.push_str(&format!("\n{pad} |\n{number} | {lead}{window}{tail}\n{pad} | {caret}^"));
        out
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        Self::from(DataFusionError::from(error))
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        classify(error, None)
    }
}

/// Arrow says "Overflow happened on: 1 + 2", DataFusion "Int64Array overflow on abs(1)".
fn out_of_range(message: &str) -> Error {
    let term = message.rsplit_once("Overflow happened on: ").map_or(message, |(_, term)| term);
    let term = term.rsplit_once(" overflow on ").map_or(term, |(_, term)| term);
    Error::invalid(format!("number out of range: {term}"))
}

fn position_of(diagnostic: &Diagnostic) -> Option<Position> {
    diagnostic.span.map(|s| Position::new(s.start.line, s.start.column))
}

/// Finds our own error or the kind of DataFusion's below wrappers, keeping the first position met.
fn classify(error: DataFusionError, position: Option<Position>) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => ours.at(position),
            Err(inner) => match inner.downcast::<DataFusionError>() {
                Ok(df) => classify(*df, position),
                Err(inner) => match inner.downcast::<ArrowError>() {
                    Ok(arrow) => classify(DataFusionError::from(*arrow), position),
                    Err(other) => Error::new(kind_of_text(&other.to_string()), other.to_string())
                        .at(position)
                        .with_source(other),
                },
            },
        },
        DataFusionError::Diagnostic(diagnostic, inner) => {
            let at = position.or_else(|| position_of(&diagnostic));
            classify(*inner, at)
        }
        DataFusionError::Context(_, inner) => classify(*inner, position),
        DataFusionError::Shared(inner) => classify_shared(&inner).at(position),
        DataFusionError::Collection(errors) => match errors.into_iter().next() {
            Some(first) => classify(first, position),
            None => Error::internal("an empty list of errors was raised"),
        },
        DataFusionError::SQL(e, _) => Error::new(ErrorKind::Syntax, strip(&e.to_string())).at(position),
        DataFusionError::Plan(m) => Error::new(kind_of_plan(&m), strip(&m)).at(position),
        DataFusionError::SchemaError(e, _) => {
            let kind = match e.as_ref() {
                SchemaError::FieldNotFound { .. } => ErrorKind::NotFound,
                _ => ErrorKind::Invalid,
            };
            Error::new(kind, strip(&e.to_string())).at(position)
        }
        DataFusionError::NotImplemented(m) => Error::unsupported(strip(&m)).at(position),
        DataFusionError::Configuration(m) => Error::invalid(strip(&m)).at(position),
        DataFusionError::ResourcesExhausted(m) => Error::new(ErrorKind::Resources, m).at(position),
        DataFusionError::Execution(m) => Error::new(kind_of_text(&m), strip(&m)).at(position),
        DataFusionError::ArrowError(e, _) => match *e {
            ArrowError::ExternalError(inner) => classify(DataFusionError::External(inner), position),
            ArrowError::DivideByZero => Error::invalid("division by zero").at(position),
            ArrowError::ArithmeticOverflow(m) => out_of_range(&m).at(position),
            ArrowError::ComputeError(m) if m.contains(" overflow on ") => out_of_range(&m).at(position),
            ArrowError::ParseError(m)
            | ArrowError::CsvError(m)
            | ArrowError::JsonError(m)
            | ArrowError::IpcError(m)
            | ArrowError::ParquetError(m) => Error::data(strip(&m)).at(position),
            ArrowError::MemoryError(m) => Error::new(ErrorKind::Resources, m).at(position),
            other => Error::invalid(strip(&other.to_string())).at(position),
        },
        DataFusionError::ParquetError(e) => {
            Error::new(kind_of_text_or(&e.to_string(), ErrorKind::Data), strip(&e.to_string())).at(position)
        }
        DataFusionError::ObjectStore(e) => {
            Error::new(kind_of_text_or(&e.to_string(), ErrorKind::Unavailable), e.to_string()).at(position)
        }
        DataFusionError::IoError(e) => {
            let kind = match e.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
                std::io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
                std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData => ErrorKind::Data,
                _ => ErrorKind::Unavailable,
            };
            Error::new(kind, e.to_string()).at(position)
        }
        other => Error::internal(strip(&other.to_string())).at(position),
    }
}

/// A shared error cannot be taken apart; its kind is found and its text copied.
fn classify_shared(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::Shared(inner) => classify_shared(inner),
        DataFusionError::Context(_, inner) => classify_shared(inner),
        DataFusionError::Diagnostic(d, inner) => classify_shared(inner).at(position_of(d)),
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(ours) => ours.copy(),
            None => Error::new(kind_of_text(&inner.to_string()), inner.to_string()),
        },
        DataFusionError::ArrowError(e, _) => match e.as_ref() {
            ArrowError::ExternalError(inner) => match inner.downcast_ref::<Error>() {
                Some(ours) => ours.copy(),
                None => match inner.downcast_ref::<DataFusionError>() {
                    Some(df) => classify_shared(df),
                    None => Error::new(kind_of_text(&inner.to_string()), inner.to_string()),
                },
            },
            ArrowError::DivideByZero => Error::invalid("division by zero"),
            ArrowError::ArithmeticOverflow(m) => out_of_range(m),
            ArrowError::ComputeError(m) if m.contains(" overflow on ") => out_of_range(m),
            other => Error::invalid(strip(&other.to_string())),
        },
        DataFusionError::ResourcesExhausted(m) => Error::new(ErrorKind::Resources, m.clone()),
        DataFusionError::Plan(m) => Error::new(kind_of_plan(m), strip(m)),
        DataFusionError::NotImplemented(m) => Error::unsupported(strip(m)),
        DataFusionError::Execution(m) => Error::new(kind_of_text(m), strip(m)),
        DataFusionError::ObjectStore(e) => {
            Error::new(kind_of_text_or(&e.to_string(), ErrorKind::Unavailable), e.to_string())
        }
        DataFusionError::ParquetError(e) => {
            Error::new(kind_of_text_or(&e.to_string(), ErrorKind::Data), strip(&e.to_string()))
        }
        other => Error::internal(strip(&other.to_string())),
    }
}

impl Error {
    /// The same error without its source, for a failure that several readers are told of.
    pub fn copy(&self) -> Self {
        Self {
            kind: self.kind,
            message: self.message.clone(),
            position: self.position,
            hint: self.hint.clone(),
            source: None,
        }
    }
}

/// DataFusion's planner has one variant for unknown names and wrong uses; its wording tells them apart.
fn kind_of_plan(message: &str) -> ErrorKind {
    let m = message.to_ascii_lowercase();
    if m.contains("not found") || m.contains("no field named") || m.contains("invalid function") {
        ErrorKind::NotFound
    } else if m.contains("already exists") {
        ErrorKind::AlreadyExists
    } else if m.contains("unsupported") || m.contains("not supported") || m.contains("not implemented") {
        ErrorKind::Unsupported
    } else {
        ErrorKind::Invalid
    }
}

/// Errors that reach us as text only (stores, foreign libraries) are sorted by what they say.
fn kind_of_text(message: &str) -> ErrorKind {
    kind_of_text_or(message, ErrorKind::Invalid)
}

fn kind_of_text_or(message: &str, otherwise: ErrorKind) -> ErrorKind {
    let m = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| m.contains(w));
    if has(&[
        "403",
        "forbidden",
        "access denied",
        "accessdenied",
        "permission denied",
        "unauthenticated",
        "401 ",
    ]) {
        ErrorKind::Permission
    } else if has(&["404", "not found", "no such file", "nosuchkey", "nosuchbucket", "does not exist"]) {
        ErrorKind::NotFound
    } else if has(&[
        "timed out",
        "timeout",
        "connection refused",
        "connection reset",
        "error sending request",
    ]) {
        ErrorKind::Unavailable
    } else if has(&["unexpected eof", "corrupt", "invalid magic", "eof", "truncated"]) {
        ErrorKind::Data
    } else {
        otherwise
    }
}

/// Removes the class prefixes that DataFusion and Arrow put before their texts, and its back-trace.
fn strip(message: &str) -> String {
    let mut m = message;
    const PREFIXES: [&str; 14] = [
        "Error during planning: ",
        "This feature is not implemented: ",
        "Execution error: ",
        "External error: ",
        "Schema error: ",
        "SQL error: ",
        "Arrow error: ",
        "Parquet error: ",
        "Parser error: ",
        "Invalid argument error: ",
        "Cast error: ",
        "Compute error: ",
        "Json error: ",
        "Csv error: ",
    ];
    while let Some(rest) = PREFIXES.iter().find_map(|p| m.strip_prefix(p)) {
        m = rest;
    }
    let end = m.find("\n\nbacktrace:").unwrap_or(m.len());
    m[..end].trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_error_survives_every_wrapper() {
        let ours = Error::data("row 3 has 4 fields, the header has 3").with_hint("set ignore_errors = true");
        let wrapped = DataFusionError::Context(
            "while reading".into(),
            Box::new(DataFusionError::ArrowError(
                Box::new(ArrowError::ExternalError(Box::new(DataFusionError::from(ours)))),
                None,
            )),
        );
        let found = Error::from(wrapped);
        assert_eq!(found.kind(), ErrorKind::Data);
        assert_eq!(found.message(), "row 3 has 4 fields, the header has 3");
        assert_eq!(found.hint(), Some("set ignore_errors = true"));
    }

    #[test]
    fn a_shared_error_keeps_its_kind() {
        let ours = DataFusionError::from(Error::new(ErrorKind::Permission, "no"));
        let shared = DataFusionError::Shared(std::sync::Arc::new(ours));
        assert_eq!(Error::from(shared).kind(), ErrorKind::Permission);
    }

    #[test]
    fn render_points_at_the_place() {
        let e = Error::not_found("no table is called \"t\"").at(Some(Position::new(2, 6)));
        assert_eq!(
            e.render("SELECT *\nFROM t"),
            "error[not found]: no table is called \"t\"\n  |\n2 | FROM t\n  |      ^"
        );
    }

    #[test]
    fn render_shows_a_window_of_a_long_line() {
        let sql = "x".repeat(10_000);
        let text = Error::invalid("no").at(Some(Position::new(1, 5_000))).render(&sql);
        assert!(text.len() < 600, "{}", text.len());
        // A position past the end does not panic either.
        let _ = Error::invalid("no").at(Some(Position::new(1, 50_000))).render(&sql);
        let _ = Error::invalid("no").at(Some(Position::new(9, 1))).render(&sql);
    }

    #[test]
    fn prefixes_and_kinds() {
        let e = Error::from(DataFusionError::Plan("table 'a.b.c' not found".into()));
        assert_eq!((e.kind(), e.message()), (ErrorKind::NotFound, "table 'a.b.c' not found"));
        let e = Error::from(DataFusionError::NotImplemented("x".into()));
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        let e = Error::from(ArrowError::DivideByZero);
        assert_eq!((e.kind(), e.message()), (ErrorKind::Invalid, "division by zero"));
    }
}
