//! For whoever watches the server: is it alive, does it take work, how is it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::answer::{Failure, json_answer};
use super::app::App;
use super::who::Who;

/// `GET /health/live`: the process answers.
pub(super) async fn live() -> Response {
    json_answer(StatusCode::OK, &json!({ "status": "alive" }))
}

/// `GET /health/ready`: statements run, and the server is not stopping.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.is_stopping() {
        return json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "stopping" }));
    }
    match app.database.vitals().await {
        Ok(_) => json_answer(StatusCode::OK, &json!({ "status": "ready" })),
        // What is wrong is for those who may log in; the server's log has it too.
        Err(_) => json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "failing" })),
    }
}

/// `GET /metrics`, in the text format that Prometheus reads.
pub(super) async fn metrics(State(app): State<Arc<App>>, _who: Who) -> Result<Response, Failure> {
    let text = app.metrics.text(&app.database.vitals().await?, app.sessions.count())?;
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
