//! Who a request comes from: the credentials that it brings, and whether they are right.

mod credentials;
mod door;
mod login;

pub(crate) use credentials::{COOKIE, Credentials, cookie};
pub(crate) use door::{Door, Guest, log_in_wanted};
pub(crate) use login::Logins;
