//! Who a request comes from, and whether a foreign page sent it.
//!
//! Credentials are looked at as for Flight SQL (`auth::Door`).
//!
//! A page that a browser loaded from elsewhere must not reach a server on its user's machine. Browsers say where a
//! request comes from (`Sec-Fetch-Site`, `Origin`); a name that an attacker's DNS points at 127.0.0.1 stands in `Host`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde_json::json;
use triune_common::{Error, ErrorKind};
use triune_query::Principal;

use super::answer::{Failure, json_answer};
use super::app::App;
use crate::auth::{Credentials, Guest, log_in_wanted};
use crate::connection::Peer;
use crate::sessions::{Active, Sessions};

/// Somebody who may ask.
#[derive(Debug)]
pub(crate) struct Who {
    pub(crate) principal: Principal,
    /// Of a log-in; it is in use until the request is done.
    _active: Option<Active>,
}

impl FromRequestParts<Arc<App>> for Who {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        not_from_elsewhere(&parts.headers, app)?;
        let challenge = challenges(&parts.headers);
        let from = address(parts)?;
        let guest = app.door.admit(credentials(&parts.headers), from).await;
        Ok(match guest.map_err(|s| Failure::of_status(&s, challenge))? {
            Guest::Session(session) => Self {
                principal: session.session.principal().unwrap_or_else(Sessions::anybody),
                _active: Some(session.active()),
            },
            Guest::Principal(principal) => Self { principal, _active: None },
        })
    }
}

fn address(parts: &Parts) -> Result<IpAddr, Failure> {
    let peer = parts.extensions.get::<Peer>();
    peer.map(|p| p.address.ip())
        .ok_or_else(|| Failure::from(Error::internal("a request without a connection")))
}

fn credentials(headers: &HeaderMap) -> Credentials {
    match headers.get(header::AUTHORIZATION) {
        None => Credentials::None,
        Some(value) => value.to_str().map_or(Credentials::Broken, Credentials::parse),
    }
}

/// A script would rather show its own question.
fn challenges(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-mode").is_none_or(|mode| mode.as_bytes() == b"navigate")
}

/// Refuses what a page from elsewhere sent.
fn not_from_elsewhere(headers: &HeaderMap, app: &App) -> Result<(), Failure> {
    let refuse = |why: String| {
        let error = Error::new(ErrorKind::Permission, why);
        Err(Failure::new(StatusCode::FORBIDDEN, &error))
    };
    let text = |name: header::HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    if let Some(site) = headers.get("sec-fetch-site")
        && !matches!(site.as_bytes(), b"same-origin" | b"none")
    {
        return refuse("pages of other origins may not ask this server".to_owned());
    }
    let host = text(header::HOST);
    if let Some(origin) = text(header::ORIGIN)
        && origin.split_once("://").map(|o| o.1) != host
    {
        return refuse(format!("pages of {} may not ask this server", shortened(origin)));
    }
    let open = !app.door.must_log_in() && app.options.is_local();
    match host {
        Some(host) if open && !is_of_this_machine(host) => refuse(format!(
            "the name {} may be anybody's; a server without users answers to localhost and to addresses",
            shortened(host)
        )),
        _ => Ok(()),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

fn is_of_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// `POST /login`: a password for a token, which saves checking the password with each request.
pub(super) async fn log_in(State(app): State<Arc<App>>, parts: Parts) -> Result<Response, Failure> {
    not_from_elsewhere(&parts.headers, &app)?;
    let challenge = challenges(&parts.headers);
    if !app.door.must_log_in() {
        return Ok(json_answer(StatusCode::OK, &json!({ "token": null, "user": null, "role": "admin" })));
    }
    let Credentials::Basic { user, password } = credentials(&parts.headers) else {
        return Err(Failure::of_status(&log_in_wanted(), challenge));
    };
    let principal = app.door.of_password(&user, &password, address(&parts)?).await;
    let principal = principal.map_err(|s| Failure::of_status(&s, challenge))?;
    let role = principal.role.to_string();
    let (token, _) = app.sessions.log_in(principal).map_err(|s| Failure::of_status(&s, challenge))?;
    Ok(json_answer(StatusCode::OK, &json!({ "token": token, "user": user, "role": role })))
}

/// `DELETE /login`: the token ends.
pub(super) async fn log_out(
    State(app): State<Arc<App>>,
    _who: Who,
    headers: HeaderMap,
) -> Result<StatusCode, Failure> {
    if let Credentials::Bearer(token) = credentials(&headers)
        && let Some(Ok(session)) = app.sessions.of_token(&token)
    {
        app.sessions.close(&session);
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Error::invalid("there is no log-in to end").with_hint("send the token that POST /login gave").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine() {
        for host in ["localhost", "LocalHost:50052", "127.0.0.1:1", "[::1]:50052", "10.0.0.7"] {
            assert!(is_of_this_machine(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:50052", "127.0.0.1.evil.example", ""] {
            assert!(!is_of_this_machine(host), "{host}");
        }
    }
}
