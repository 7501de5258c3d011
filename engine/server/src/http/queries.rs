//! `GET /queries`, `GET /query/{id}`, `DELETE /query/{id}`: what runs and ran, and its end.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use triune_common::Error;
use triune_query::QueryInfo;

use super::answer::{Failure, json_answer};
use super::app::App;
use super::who::Who;

/// The statements that run and the last that ended, the newest first.
pub(super) async fn all(State(app): State<Arc<App>>, who: Who) -> Response {
    let list = app.database.queries().list(Some(&who.principal));
    let list: Vec<Value> = list.iter().rev().map(shown).collect();
    json_answer(StatusCode::OK, &json!({ "queries": list }))
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    who: Who,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let id = number(&id)?;
    let found = app.database.queries().find(id, Some(&who.principal)).ok_or_else(|| unknown(id))?;
    Ok(json_answer(StatusCode::OK, &shown(&found)))
}

/// Ends a statement. One that has ended already is told with its state.
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    who: Who,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let id = number(&id)?;
    let queries = app.database.queries();
    if queries.cancel(id, Some(&who.principal)) {
        return Ok(json_answer(StatusCode::ACCEPTED, &json!({ "id": id, "status": "cancelling" })));
    }
    let found = queries.find(id, Some(&who.principal)).ok_or_else(|| unknown(id))?;
    Ok(json_answer(StatusCode::CONFLICT, &shown(&found)))
}

fn number(id: &str) -> Result<u64, Failure> {
    id.parse().map_err(|_| {
        let id: String = id.chars().take(40).collect();
        Failure::from(Error::invalid(format!("{id:?} is no number of a statement")))
    })
}

/// Somebody else's and none are the same.
fn unknown(id: u64) -> Failure {
    Error::not_found(format!("there is no statement {id}"))
        .with_hint("GET /queries lists those that run and the last that ended")
        .into()
}

fn shown(query: &QueryInfo) -> Value {
    let progress = &query.progress;
    json!({
        "id": query.id,
        "principal": query.principal,
        "kind": query.kind.map(triune_query::StatementKind::name),
        "status": query.status.name(),
        "started": query.started.to_rfc3339(),
        "seconds": query.duration.as_secs_f64(),
        "planning_seconds": query.planning.map(|d| d.as_secs_f64()),
        "first_row_seconds": query.first_row.map(|d| d.as_secs_f64()),
        "rows": query.rows,
        "bytes": query.bytes,
        "memory_peak": query.memory_peak,
        "progress": {
            "fraction": progress.fraction,
            "rows_read": progress.rows_read,
            "total_rows": progress.total_rows,
            "bytes_read": progress.bytes_read,
        },
        "error": query.error.as_ref().map(|(kind, message)| json!({ "kind": kind.label(), "message": message })),
        "text": query.text,
    })
}
