//! The one place where credentials become somebody.
//!
//! | | no log-in wanted | log-ins wanted |
//! |---|---|---|
//! | user and password | not looked at | checked |
//! | bearer token | one that was ours must be valid | of a log-in, or an API token |
//! | nothing | everybody may do everything | refused |

use std::net::IpAddr;
use std::sync::Arc;

use tonic::Status;
use triune_query::{Database, Principal};

use super::{Credentials, Logins};
use crate::options::ServerOptions;
use crate::sessions::{ClientSession, Sessions};
use crate::status;

/// Who a request comes from.
pub(crate) enum Guest {
    /// The session of a log-in.
    Session(Arc<ClientSession>),
    /// Somebody whose session is found by other means, or who needs none.
    Principal(Principal),
}

#[derive(Debug)]
pub(crate) struct Door {
    database: Arc<Database>,
    sessions: Arc<Sessions>,
    logins: Logins,
    options: Arc<ServerOptions>,
}

impl Door {
    pub(crate) fn new(database: Arc<Database>, sessions: Arc<Sessions>, options: Arc<ServerOptions>) -> Self {
        Self { logins: Logins::new(Arc::clone(&database)), database, sessions, options }
    }

    pub(crate) fn must_log_in(&self) -> bool {
        self.options.wants_users() || self.database.has_users()
    }

    /// Who sends a request with these credentials.
    pub(crate) async fn admit(&self, credentials: Credentials, from: IpAddr) -> Result<Guest, Status> {
        let principal = match credentials {
            Credentials::Broken => {
                return Err(status::unauthenticated("the authorization header cannot be read"));
            }
            Credentials::Bearer(token) => match self.sessions.of_token(&token) {
                Some(session) => return Ok(Guest::Session(session?)),
                // Some drivers send a token whether or not they have one.
                None if !self.must_log_in() && !was_issued(&token) => Sessions::anybody(),
                None => self.of_token(&token)?,
            },
            Credentials::Basic { user, password } if self.must_log_in() => {
                self.of_password(&user, &password, from).await?
            }
            Credentials::None if self.must_log_in() => return Err(log_in_wanted()),
            // Whoever comes with a name that nobody asked for.
            Credentials::Basic { .. } | Credentials::None => Sessions::anybody(),
        };
        Ok(Guest::Principal(principal))
    }

    pub(crate) async fn of_password(
        &self,
        user: &str,
        password: &str,
        from: IpAddr,
    ) -> Result<Principal, Status> {
        self.logins.check(user, password, from).await
    }

    /// The user of an API token.
    pub(crate) fn of_token(&self, token: &str) -> Result<Principal, Status> {
        self.database.check_token(token).map_err(|e| status::unauthenticated(e.message()))
    }
}

pub(crate) fn log_in_wanted() -> Status {
    status::unauthenticated("log in with a user name and a password, or with a token")
}

/// Whether a token may once have been ours. A session that ended must not quietly become another one.
fn was_issued(token: &str) -> bool {
    token.starts_with("triune_") || token.len() == 64 && token.bytes().all(|b| b.is_ascii_hexdigit())
}
