//! Lance's errors in our words and kinds.
//!
//! Lance's texts end with a place in its own sources and begin with its own class names; neither
//! means anything to somebody who typed SQL, so both are cut. Errors of ours that travelled through
//! Lance (from a stream that was being written) come out as they went in.

use datafusion::common::DataFusionError;
use lance::Error as LanceError;
use triune_common::{Error, ErrorKind};

/// Lance's error as ours.
pub(crate) fn from_lance(error: LanceError) -> Error {
    match error.into_external() {
        Ok(source) => from_datafusion(DataFusionError::External(source)),
        Err(error) => describe(&error),
    }
}

/// A DataFusion error that may hold one of Lance's.
pub(crate) fn from_datafusion(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(source) => match source.downcast::<LanceError>() {
            Ok(lance) => from_lance(*lance),
            Err(source) => match source.downcast::<DataFusionError>() {
                Ok(inner) => from_datafusion(*inner),
                Err(other) => Error::from(DataFusionError::External(other)),
            },
        },
        DataFusionError::Context(_, inner) => from_datafusion(*inner),
        other => Error::from(other),
    }
}

fn describe(error: &LanceError) -> Error {
    let text = |source: &dyn std::fmt::Display| tidy(&source.to_string());
    match error {
        LanceError::InvalidInput { source, .. } => Error::invalid(text(source)),
        LanceError::DatasetAlreadyExists { uri, .. } => {
            Error::new(ErrorKind::AlreadyExists, format!("a Lance dataset exists already at {uri}"))
        }
        LanceError::SchemaMismatch { difference, .. } => {
            Error::invalid(format!("the rows do not fit the dataset's columns: {}", tidy(difference)))
        }
        LanceError::DatasetNotFound { path, .. } => {
            Error::not_found(format!("no Lance dataset was found at {path}"))
        }
        LanceError::NotFound { uri, .. } => Error::not_found(format!("{} does not exist", tidy(uri))),
        LanceError::CorruptFile { path, source, .. } => {
            Error::data(format!("the file {path} is damaged: {}", text(source)))
        }
        LanceError::NotSupported { source, .. } => Error::unsupported(text(source)),
        LanceError::CommitConflict { source, .. }
        | LanceError::RetryableCommitConflict { source, .. }
        | LanceError::IncompatibleTransaction { source, .. } => Error::new(
            ErrorKind::Conflict,
            format!("a concurrent change of the dataset won: {}", text(source)),
        ),
        LanceError::TooMuchWriteContention { message, .. } | LanceError::RefConflict { message } => {
            Error::new(ErrorKind::Conflict, tidy(message))
        }
        LanceError::Timeout { message, .. } => Error::new(ErrorKind::Unavailable, tidy(message)),
        LanceError::DiskCapExceeded { .. } | LanceError::Backpressure { .. } => {
            Error::new(ErrorKind::Resources, tidy(&error.to_string()))
        }
        LanceError::IO { source, .. } => {
            // The text tells a refusal and a missing object from the rest; what is left is a store
            // that did not do its work.
            let found = by_text(&text(source));
            match found.kind() {
                ErrorKind::Invalid => Error::new(ErrorKind::Unavailable, found.message()),
                _ => found,
            }
        }
        LanceError::Wrapped { error: inner, .. } => match inner.downcast_ref::<LanceError>() {
            Some(lance) => describe(lance),
            None => by_text(&text(inner)),
        },
        LanceError::External { source } => match source.downcast_ref::<Error>() {
            Some(ours) => ours.copy(),
            None => by_text(&text(source)),
        },
        LanceError::Shared { source } => describe(source),
        LanceError::Schema { message, .. } | LanceError::Arrow { message, .. } => {
            // Lance has no kind of its own for a type that it cannot store.
            let message = tidy(message);
            if message.to_ascii_lowercase().contains("unsupported") {
                Error::unsupported(message)
            } else {
                Error::invalid(message)
            }
        }
        LanceError::InvalidRef { message } => Error::invalid(tidy(message)),
        LanceError::RefNotFound { message } | LanceError::VersionNotFound { message } => {
            Error::not_found(tidy(message))
        }
        LanceError::IndexNotFound { identity, .. } => {
            Error::not_found(format!("no Lance index is called {identity}"))
        }
        LanceError::InvalidTableLocation { message } => Error::invalid(tidy(message)),
        LanceError::Execution { message, .. }
        | LanceError::Index { message, .. }
        | LanceError::Cloned { message, .. } => by_text(&tidy(message)),
        other => {
            let found = by_text(&tidy(&other.to_string()));
            match found.kind() {
                ErrorKind::Invalid => Error::internal(found.message()),
                _ => found,
            }
        }
    }
}

/// The kind that the common classification finds in a text.
fn by_text(message: &str) -> Error {
    // Writers of files that are not ours pass the system's words on.
    if ["No space left on device", "Disk quota exceeded", "os error 28)"].iter().any(|t| message.contains(t))
    {
        return Error::no_space(format!("the disk is full: {message}"));
    }
    Error::from(DataFusionError::Execution(message.to_owned()))
}

/// Cuts the places in Lance's sources (`, /…/src/x.rs:12:34`) and its class names out of a text.
fn tidy(message: &str) -> String {
    const PREFIXES: [&str; 8] = [
        "LanceError(Arrow): ",
        "LanceError(IO): ",
        "LanceError(Schema): ",
        "LanceError(Index): ",
        "Invalid user input: ",
        "Query Execution error: ",
        "Not found: ",
        "Generic LocalFileSystem error: ",
    ];
    let mut text = String::with_capacity(message.len());
    let mut rest = message;
    // A place begins with ", " and ends after ".rs:<line>:<column>"; a chain of errors holds several.
    while let Some(found) = rest.find(".rs:") {
        let start = rest[..found].rfind(", ").unwrap_or(found);
        let tail = &rest[found + 4..];
        let digits = |t: &str| t.find(|c: char| !c.is_ascii_digit()).unwrap_or(t.len());
        let mut length = digits(tail);
        if let Some(column) = tail[length..].strip_prefix(':')
            && digits(column) > 0
        {
            length += 1 + digits(column);
        }
        text.push_str(&rest[..start]);
        if start == found {
            text.push_str(&rest[found..found + 4 + length]);
        }
        rest = &tail[length..];
    }
    text.push_str(rest);
    let mut text = text.trim();
    while let Some(shorter) = PREFIXES.iter().find_map(|p| text.strip_prefix(p)) {
        text = shorter;
    }
    without_xml(text.trim_end_matches('.'))
}

/// `…: 404 Not Found: NoSuchBucket: The specified bucket does not exist` for what S3 says in XML.
fn without_xml(text: &str) -> String {
    let Some(start) = text.find("<?xml").or_else(|| text.find("<Error>")) else { return text.to_owned() };
    let between = |name: &str| {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let from = text[start..].find(&open)? + start + open.len();
        let to = text[from..].find(&close)? + from;
        Some(text[from..to].trim())
    };
    let said: Vec<&str> = [between("Code"), between("Message")].into_iter().flatten().collect();
    format!("{}{}", &text[..start], said.join(": ")).trim_end_matches([' ', ':']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_class_names_are_cut() {
        assert_eq!(
            tidy("Invalid user input: no such column, /build/registry/src/lance/src/a.rs:12:34"),
            "no such column"
        );
        assert_eq!(tidy("a, x/y.rs:1:2: b, z.rs:3:4"), "a: b");
        let full = by_text("cannot write: No space left on device (os error 28)");
        assert_eq!(full.kind(), ErrorKind::Resources);
        assert_eq!(tidy("plain text, with a comma."), "plain text, with a comma");
        assert_eq!(tidy("main.rs:3"), "main.rs:3");
        let s3 = "status code: 404 Not Found: <?xml version=\"1.0\"?>\n<Error><Code>NoSuchBucket</Code>\
                  <Message>The specified bucket does not exist</Message><HostId>x=</HostId></Error>";
        let want = "status code: 404 Not Found: NoSuchBucket: The specified bucket does not exist";
        assert_eq!(tidy(s3), want);
        assert_eq!(tidy("status code: 403: <?xml version=\"1.0\"?>"), "status code: 403");
    }

    #[test]
    fn our_error_comes_back_as_it_went_in() {
        let ours = Error::data("row 3 is torn");
        let lance = LanceError::from(DataFusionError::from(ours));
        let back = from_lance(lance);
        assert_eq!((back.kind(), back.message()), (ErrorKind::Data, "row 3 is torn"));
        let wrapped = DataFusionError::External(Box::new(LanceError::invalid_input("no".to_string())));
        assert_eq!(from_datafusion(wrapped).kind(), ErrorKind::Invalid);
    }
}
