//! Kinds of errors as gRPC codes and SQLSTATEs: the one place for it.
//!
//! ```text
//! ABORTED  another transaction changed a row …; run the transaction again (SQLSTATE 40001)
//!          x-triune-sqlstate: 40001     x-triune-kind: conflict
//! ```
//!
//! The SQLSTATE stands in the message because most drivers show nothing else.

use arrow_flight::error::FlightError;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use triune_common::{Error, ErrorKind};

/// The SQLSTATE of a kind, as PostgreSQL's manual lists them.
pub fn sqlstate(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Syntax => "42601",
        ErrorKind::Invalid => "22000",
        ErrorKind::NotFound => "42P01",
        ErrorKind::AlreadyExists => "42P07",
        ErrorKind::Data => "XX001",
        ErrorKind::Unsupported => "0A000",
        ErrorKind::Permission => "42501",
        ErrorKind::Constraint => "23000",
        ErrorKind::Conflict => "40001",
        ErrorKind::Unavailable => "08006",
        ErrorKind::Resources => "53000",
        ErrorKind::Cancelled => "57014",
        ErrorKind::Internal => "XX000",
    }
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Syntax | ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::Data => Code::DataLoss,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::Permission => Code::PermissionDenied,
        ErrorKind::Constraint => Code::FailedPrecondition,
        ErrorKind::Conflict => Code::Aborted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Resources => Code::ResourceExhausted,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Internal => Code::Internal,
    }
}

/// An error of the engine's as a client gets it.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn of_error(error: Error) -> Status {
    named(code(error.kind()), &error.to_string(), sqlstate(error.kind()), error.kind().label())
}

fn named(code: Code, message: &str, state: &'static str, kind: &'static str) -> Status {
    // A message travels in a header, and headers have an end.
    let mut message = message.to_owned();
    if message.len() > 4000 {
        message.truncate(message.floor_char_boundary(4000));
        message.push('…');
    }
    if !message.contains(&format!("SQLSTATE {state}")) {
        message.push_str(&format!(" (SQLSTATE {state})"));
    }
    let mut status = Status::new(code, message);
    status.metadata_mut().insert("x-triune-sqlstate", MetadataValue::from_static(state));
    status.metadata_mut().insert("x-triune-kind", MetadataValue::from_static(kind));
    status
}

/// The statement took longer than it may.
pub(crate) fn timed_out() -> Status {
    named(Code::DeadlineExceeded, "the statement took longer than its time limit", "57014", "cancelled")
}

/// Somebody cancelled the statement.
pub(crate) fn cancelled() -> Status {
    of_error(Error::new(ErrorKind::Cancelled, "the statement was cancelled"))
}

/// Nobody may know more.
pub(crate) fn unauthenticated(message: &str) -> Status {
    named(Code::Unauthenticated, message, "28000", "permission denied")
}

pub(crate) fn invalid(message: impl Into<String>) -> Status {
    of_error(Error::invalid(message))
}

pub(crate) fn not_found(message: impl Into<String>) -> Status {
    named(Code::NotFound, &message.into(), "26000", "not found")
}

/// What went wrong in reading a client's batches.
pub(crate) fn of_flight(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        FlightError::Arrow(e) => of_error(Error::invalid(format!("the batches cannot be read: {e}"))),
        FlightError::DecodeError(e) | FlightError::ProtocolError(e) => {
            of_error(Error::invalid(format!("the batches cannot be read: {e}")))
        }
        other => of_error(Error::invalid(format!("the batches cannot be read: {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_reaches_the_client() {
        let status = of_error(Error::new(ErrorKind::Conflict, "a row was changed"));
        assert_eq!(status.code(), Code::Aborted);
        assert!(status.message().ends_with("(SQLSTATE 40001)"), "{status}");
        assert_eq!(status.metadata().get("x-triune-sqlstate").unwrap(), "40001");
    }

    #[test]
    fn a_long_message_is_cut() {
        let status = of_error(Error::invalid("é".repeat(100_000)));
        assert!(status.message().len() < 4100 && status.message().ends_with("… (SQLSTATE 22000)"));
    }
}
