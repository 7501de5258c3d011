//! Who a request comes from, and whether a foreign page sent it.
//!
//! | | no users, loopback | log-ins wanted |
//! |---|---|---|
//! | `authorization: Basic …` | not looked at | user and password |
//! | `authorization: Bearer …` | a token that was ours must be valid | of `POST /login`, or an API token |
//! | nothing | everybody may do everything | 401 |
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
use crate::auth::{Credentials, was_issued};
use crate::connection::Peer;
use crate::sessions::{Active, ClientSession, Sessions};

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
        let (principal, session) = match credentials(&parts.headers) {
            Credentials::Broken => {
                return Err(Failure::unauthenticated("the authorization header cannot be read", challenge));
            }
            Credentials::Bearer(token) => match app.sessions.of_token(&token) {
                Some(session) => {
                    let session = session.map_err(|s| Failure::of_status(&s, challenge))?;
                    (session.session.principal().unwrap_or_else(Sessions::anybody), Some(session))
                }
                None if !app.must_log_in() && !was_issued(&token) => (Sessions::anybody(), None),
                None => (check_token(app, &token, challenge)?, None),
            },
            Credentials::Basic { user, password } if app.must_log_in() => {
                (check(app, parts, &user, &password, challenge).await?, None)
            }
            Credentials::None if app.must_log_in() => return Err(wanted(challenge)),
            Credentials::Basic { .. } | Credentials::None => (Sessions::anybody(), None),
        };
        Ok(Self { principal, _active: session.as_ref().map(ClientSession::active) })
    }
}

fn wanted(challenge: bool) -> Failure {
    Failure::unauthenticated("log in with a user name and a password, or with a token", challenge)
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

async fn check(
    app: &App,
    parts: &Parts,
    user: &str,
    password: &str,
    challenge: bool,
) -> Result<Principal, Failure> {
    let from = parts.extensions.get::<Peer>().map(|p| p.address.ip());
    let from = from.ok_or_else(|| Failure::from(Error::internal("a request without a connection")))?;
    app.logins.check(user, password, from).await.map_err(|s| Failure::of_status(&s, challenge))
}

fn check_token(app: &App, token: &str, challenge: bool) -> Result<Principal, Failure> {
    app.database.check_token(token).map_err(|e| Failure::unauthenticated(e.message(), challenge))
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
    let open = !app.must_log_in() && app.options.is_local();
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
    if !app.must_log_in() {
        return Ok(json_answer(StatusCode::OK, &json!({ "token": null, "user": null, "role": "admin" })));
    }
    let Credentials::Basic { user, password } = credentials(&parts.headers) else {
        return Err(wanted(challenge));
    };
    let principal = check(&app, &parts, &user, &password, challenge).await?;
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
