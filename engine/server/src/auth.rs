//! Who a request comes from: the credentials that it brings, and whether they are right.

mod credentials;
mod login;

pub(crate) use credentials::{COOKIE, Credentials, cookie, was_issued};
pub(crate) use login::Logins;
