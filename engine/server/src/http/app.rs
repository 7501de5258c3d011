//! The routes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use triune_common::Error;
use triune_query::Database;

use super::answer::Failure;
use super::{queries, query, watch, who};
use crate::auth::Door;
use crate::metrics::Metrics;
use crate::options::ServerOptions;
use crate::sessions::Sessions;

/// What every handler may use.
pub(crate) struct App {
    pub(crate) database: Arc<Database>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) door: Arc<Door>,
    pub(crate) options: Arc<ServerOptions>,
    pub(crate) metrics: Arc<Metrics>,
    /// The server drains: it is alive and takes no new work.
    pub(crate) stopping: AtomicBool,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("database", &self.database.location()).finish_non_exhaustive()
    }
}

impl App {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/health/live", get(watch::live))
        .route("/health/ready", get(watch::ready))
        .route("/metrics", get(watch::metrics))
        .route("/login", post(who::log_in).delete(who::log_out))
        .route("/query", post(query::run))
        .route("/query/{id}", get(queries::one).delete(queries::cancel))
        .route("/queries", get(queries::all))
        .fallback(unknown)
        .method_not_allowed_fallback(not_this_way)
        .layer(middleware::from_fn(no_sniffing))
        .with_state(app)
}

async fn unknown(request: Request) -> Failure {
    let path: String = request.uri().path().chars().take(200).collect();
    let error = Error::not_found(format!("there is nothing at {path}"))
        .with_hint("there are /query, /queries, /login, /metrics, /health/live and /health/ready");
    Failure::from(error)
}

async fn not_this_way(request: Request) -> Failure {
    let path: String = request.uri().path().chars().take(200).collect();
    let error = Error::invalid(format!("{path} does not take {}", request.method()));
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, &error)
}

/// A browser must not take an answer for a page.
async fn no_sniffing(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    response
}
