//! Errors as HTTP answers.
//!
//! ```json
//! {"error":{"kind":"not found","sqlstate":"42P01","message":"no table or view is called \"u\"","hint":null,
//!           "line":1,"column":15}}
//! ```

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use triune_common::{Error, ErrorKind};

use crate::status::sqlstate;

/// What a request met instead of an answer.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    body: Value,
    /// Tells a program that is not a page's script to ask its user for a password.
    challenge: bool,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, error: &Error) -> Self {
        Self { status, body: json!({ "error": of_error(error) }), challenge: false }
    }

    /// Nobody may know more.
    fn unauthenticated(message: &str, challenge: bool) -> Self {
        let error = json!({ "kind": "permission denied", "sqlstate": "28000", "message": message });
        Self { status: StatusCode::UNAUTHORIZED, body: json!({ "error": error }), challenge }
    }

    /// A word of the session's or the log-in's, which speak gRPC.
    pub(crate) fn of_status(status: &tonic::Status, challenge: bool) -> Self {
        let bare = status.message().split(" (SQLSTATE").next().unwrap_or_default();
        match status.code() {
            tonic::Code::Unauthenticated => Self::unauthenticated(bare, challenge),
            _ => Self::from(Error::new(ErrorKind::Resources, bare)),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(code(error.kind()), &error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = json_answer(self.status, &self.body);
        if self.challenge {
            let challenge = HeaderValue::from_static("Basic realm=\"triune\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// A JSON document and the end of its line, which is for people with a terminal.
pub(crate) fn json_answer(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(format!("{body}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The error as the member `error` of an answer.
pub(crate) fn of_error(error: &Error) -> Value {
    let position = error.position();
    json!({
        "kind": error.kind().label(),
        "sqlstate": sqlstate(error.kind()),
        "message": error.message(),
        "hint": error.hint(),
        "line": position.map(|p| p.line),
        "column": position.map(|p| p.column),
    })
}

/// The status of a kind.
fn code(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Syntax | ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists | ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Permission => StatusCode::FORBIDDEN,
        ErrorKind::Constraint => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::Unavailable | ErrorKind::Resources => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Cancelled => StatusCode::REQUEST_TIMEOUT,
        ErrorKind::Data | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_where_it_is() {
        let error = Error::not_found("no table is called \"u\"")
            .with_hint("did you mean \"t\"?")
            .at(Some(triune_common::Position::new(1, 15)));
        let body = of_error(&error);
        assert_eq!(body["sqlstate"], "42P01");
        assert_eq!(body["hint"], "did you mean \"t\"?");
        assert_eq!((&body["line"], &body["column"]), (&json!(1), &json!(15)));
        assert_eq!(Failure::from(error).status, StatusCode::NOT_FOUND);
    }
}
