//! What a store's failure means to a user.
//!
//! | happened                     | kind               | the message names                                  |
//! |------------------------------|--------------------|----------------------------------------------------|
//! | 401, 403, file mode          | `Permission`       | the object, the bucket, which credentials were used |
//! | 404, no such bucket or file  | `NotFound`         | the object or the bucket                           |
//! | silence, refusal, 5xx        | `Unavailable`      | the bucket and how it failed                       |
//! | 301 without a target         | `Invalid`          | that the region is probably wrong                  |
//! | 412, exists already          | left as it is      | (callers of conditional writes look for it)        |
//!
//! The variant of `object_store::Error` stays the same, since DataFusion decides by it; our [`Error`] becomes
//! its source and [`find_error`] finds it again. Bodies of answers are never repeated as a whole: S3 sends
//! the key id back in them. Only the error's code and message are taken.

use std::error::Error as StdError;

use object_store::Error as StoreError;
use object_store::client::{HttpError, HttpErrorKind};
use triune_common::{Error, ErrorKind};

/// Our own error at any depth below `error`, however it was wrapped on its way through DataFusion,
/// Arrow, Parquet and `object_store`. A copy: errors may be shared.
pub fn find_error(error: &(dyn StdError + 'static)) -> Option<Error> {
    let mut at = Some(error);
    while let Some(e) = at {
        if let Some(ours) = e.downcast_ref::<Error>() {
            return Some(ours.copy());
        }
        // These box their inner error without always naming it as their source.
        if let Some(io) = e.downcast_ref::<std::io::Error>()
            && let Some(found) = io.get_ref().and_then(|inner| find_error(inner))
        {
            return Some(found);
        }
        at = e.source();
    }
    None
}

/// Where a request went and with what, for messages.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// `s3://bucket`, `https://host`, or empty for the local disk.
    pub(crate) base: String,
    /// `secret "lake"`, `AWS_ACCESS_KEY_ID from the environment`, `no credentials`; never a value.
    pub(crate) credentials: String,
}

impl Place {
    fn object(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    fn container(&self) -> String {
        if self.base.starts_with("http") {
            format!("server {}", self.base)
        } else {
            format!("bucket {}", self.base)
        }
    }
}

/// Puts our error into `error`, saying what was being done (`read`, `write`, `list`, `delete`) to `path`.
pub(crate) fn explain(error: StoreError, place: &Place, doing: &str, path: &str) -> StoreError {
    if find_error(&error).is_some() {
        return error;
    }
    let Some(ours) = translate(&error, place, doing, path) else { return error };
    rewrap(error, ours)
}

fn rewrap(error: StoreError, ours: Error) -> StoreError {
    let source = Box::new(ours);
    match error {
        StoreError::NotFound { path, .. } => StoreError::NotFound { path, source },
        StoreError::PermissionDenied { path, .. } => StoreError::PermissionDenied { path, source },
        StoreError::Unauthenticated { path, .. } => StoreError::Unauthenticated { path, source },
        StoreError::Generic { store, .. } => StoreError::Generic { store, source },
        StoreError::NotSupported { .. } => StoreError::NotSupported { source },
        other => other,
    }
}

fn translate(error: &StoreError, place: &Place, doing: &str, path: &str) -> Option<Error> {
    let text = chain_text(error);
    let object = place.object(path);
    match error {
        StoreError::AlreadyExists { .. }
        | StoreError::Precondition { .. }
        | StoreError::NotModified { .. }
        | StoreError::InvalidPath { .. }
        | StoreError::JoinError { .. }
        | StoreError::NotImplemented { .. }
        | StoreError::UnknownConfigurationKey { .. } => return None,
        StoreError::NotFound { .. } => return Some(not_found(&text, place, &object)),
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            return Some(permission(&text, place, doing, &object));
        }
        _ => {}
    }
    if let Some(io) = find::<std::io::Error>(error).filter(|_| place.base.is_empty()) {
        return match io.kind() {
            std::io::ErrorKind::PermissionDenied => Some(Error::new(
                ErrorKind::Permission,
                format!("the file system does not allow to {doing} \"{object}\""),
            )),
            std::io::ErrorKind::NotFound => Some(not_found(&text, place, &object)),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Some(Error::no_space(format!("there is no room left on the disk to {doing} \"{object}\"")))
            }
            kind => Some(Error::new(ErrorKind::Unavailable, format!("cannot {doing} \"{object}\": {kind}"))),
        };
    }
    match status(&text) {
        Some(401 | 403) => return Some(permission(&text, place, doing, &object)),
        Some(404) => return Some(not_found(&text, place, &object)),
        Some(code @ (408 | 429 | 500..=599)) => {
            let what = reason(&text).map(|r| format!(" ({r})")).unwrap_or_default();
            return Some(Error::new(
                ErrorKind::Unavailable,
                format!("{} answered {code}{what} to a request to {doing} \"{object}\"", place.container()),
            ));
        }
        Some(code) => {
            let what = reason(&text).map(|r| format!(" ({r})")).unwrap_or_default();
            return Some(Error::invalid(format!(
                "{} answered {code}{what} to a request to {doing} \"{object}\"",
                place.container()
            )));
        }
        None => {}
    }
    if text.contains("redirect without LOCATION") {
        return Some(
            Error::invalid(format!("{} is in another region", place.container()))
                .with_hint("set REGION in CREATE SECRET, or AWS_REGION"),
        );
    }
    if text.contains("non-partial response when range requested")
        || text.contains("Range request not supported")
    {
        return Some(
            Error::unsupported(format!("{} cannot send parts of \"{object}\"", place.container()))
                .with_hint("its answers ignore Range; copy the file to a local disk or a bucket first"),
        );
    }
    if text.contains("169.254.169.254") || text.contains("metadata.google") || text.contains("no accounts") {
        return Some(
            Error::new(ErrorKind::Permission, format!("no credentials were found for {}", place.container()))
                .with_hint("write CREATE SECRET, or set the store's variables in the environment"),
        );
    }
    if let Some(http) = find::<HttpError>(error) {
        let how = match http.kind() {
            HttpErrorKind::Timeout => match find::<crate::stall::Stalled>(http) {
                Some(stalled) => format!("stopped answering ({stalled})"),
                None => "did not answer in time".to_owned(),
            },
            HttpErrorKind::Connect => format!("cannot be reached ({})", innermost(http)),
            HttpErrorKind::Interrupted | HttpErrorKind::Request => "broke off the connection".to_owned(),
            _ => format!("failed ({})", innermost(http)),
        };
        return Some(Error::new(
            ErrorKind::Unavailable,
            format!("{} {how} while we tried to {doing} \"{object}\"", place.container()),
        ));
    }
    None
}

fn not_found(text: &str, place: &Place, object: &str) -> Error {
    if text.contains("NoSuchBucket")
        || text.contains("ContainerNotFound")
        || text.contains("bucket does not exist")
    {
        Error::not_found(format!("{} does not exist", place.container()))
    } else {
        Error::not_found(format!("\"{object}\" does not exist"))
    }
}

fn permission(text: &str, place: &Place, doing: &str, object: &str) -> Error {
    let code = status(text).unwrap_or(403);
    let what = reason(text).map(|r| format!(", {r}")).unwrap_or_default();
    Error::new(
        ErrorKind::Permission,
        format!(
            "{} does not allow to {doing} \"{object}\" ({code}{what}); the request used {}",
            place.container(),
            place.credentials
        ),
    )
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut at = Some(error);
    while let Some(e) = at {
        if let Some(found) = e.downcast_ref::<T>() {
            return Some(found);
        }
        at = e.source();
    }
    None
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut at = error;
    while let Some(next) = at.source() {
        at = next;
    }
    at.to_string()
}

/// `Display` of a store's error repeats its sources; some hide theirs, so all are joined.
fn chain_text(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(e) = at {
        text.push('\n');
        text.push_str(&e.to_string());
        at = e.source();
    }
    text
}

/// The HTTP status that `object_store` writes into its texts (its typed error is private).
fn status(text: &str) -> Option<u16> {
    let rest = &text[text.find("non-2xx status code: ")? + "non-2xx status code: ".len()..];
    rest.get(..3)?.parse().ok()
}

/// `AccessDenied: Access Denied` out of an XML body.
fn reason(text: &str) -> Option<String> {
    let element = |name: &str| {
        let from = text.find(&format!("<{name}>"))? + name.len() + 2;
        let to = from + text[from..].find(&format!("</{name}>"))?;
        Some(text[from..to].chars().take(200).collect::<String>())
    };
    let code = element("Code")?;
    Some(match element("Message") {
        Some(message) => format!("{code}: {}", message.trim_end_matches('.')),
        None => code,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { base: "s3://lake".to_owned(), credentials: "secret \"work\"".to_owned() }
    }

    fn generic(text: &str) -> StoreError {
        StoreError::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn a_refusal_names_bucket_and_secret_and_no_key() {
        let body = "Server returned non-2xx status code: 403 Forbidden: <?xml?><Error><Code>InvalidAccessKeyId</Code>\
                    <Message>The key does not exist.</Message><AWSAccessKeyId>AKIAX</AWSAccessKeyId></Error>";
        let e = explain(generic(body), &place(), "read", "a/b.parquet");
        let ours = find_error(&e).unwrap();
        assert_eq!(ours.kind(), ErrorKind::Permission);
        let text = ours.to_string();
        assert_eq!(
            text,
            "bucket s3://lake does not allow to read \"s3://lake/a/b.parquet\" (403, InvalidAccessKeyId: The key does \
             not exist); the request used secret \"work\""
        );
        assert!(!format!("{e} {e:?}").contains("AKIAX"));
    }

    #[test]
    fn a_missing_object_keeps_its_variant() {
        let e = StoreError::NotFound { path: "x".into(), source: "status 404".into() };
        let e = explain(e, &place(), "read", "x");
        assert!(matches!(e, StoreError::NotFound { .. }));
        assert_eq!(find_error(&e).unwrap().message(), "\"s3://lake/x\" does not exist");
        let e = StoreError::NotFound { path: "x".into(), source: "<Code>NoSuchBucket</Code>".into() };
        assert_eq!(
            find_error(&explain(e, &place(), "read", "x")).unwrap().message(),
            "bucket s3://lake does not exist"
        );
    }

    #[test]
    fn server_errors_may_be_retried_and_conditions_are_left_alone() {
        let e = explain(generic("Server returned non-2xx status code: 503 Slow: "), &place(), "list", "");
        assert!(find_error(&e).unwrap().kind().is_retryable());
        let e = StoreError::Precondition { path: "x".into(), source: "412".into() };
        assert!(find_error(&explain(e, &place(), "write", "x")).is_none());
        let e = explain(generic("something nobody has seen"), &place(), "read", "x");
        assert!(find_error(&e).is_none());
    }

    #[test]
    fn ours_is_found_below_parquet_and_io() {
        let e = explain(generic("Server returned non-2xx status code: 500: "), &place(), "read", "x");
        let io = std::io::Error::other(e);
        let df = datafusion::common::DataFusionError::IoError(io);
        assert_eq!(find_error(&df).unwrap().kind(), ErrorKind::Unavailable);
    }
}
