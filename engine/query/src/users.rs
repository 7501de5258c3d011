//! Who may log in to a server of the database.
//!
//! ```sql
//! CREATE USER ada PASSWORD 'a long one' ROLE writer;
//! CREATE TOKEN nightly FOR ada EXPIRES IN '30 days';   -- shown once
//! ```
//!
//! Passwords are kept as argon2id hashes; a check takes some tens of milliseconds and 19 MiB on purpose. Tokens are 256
//! random bits, which nobody guesses: a cheap hash does, so that every request can bring one.

use std::fmt::Write;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Version};
use triune_common::{Error, ErrorKind, Result, Rng, boxed};
use triune_object_store::Redacted;
use triune_storage::catalog::{TokenEntry, UserEntry};

use crate::database::Database;
use crate::principal::{Principal, Role};

/// How a token begins, so that it is found where it should not be.
const PREFIX: &str = "triune";
/// The least characters of a password.
pub(crate) const SHORTEST: usize = 8;
const LONGEST: usize = 1024;

/// Random bytes as hexadecimal.
pub(crate) fn random_text(rng: &dyn Rng, bytes: usize) -> String {
    let mut buffer = vec![0_u8; bytes];
    rng.fill(&mut buffer);
    hex(&buffer)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, b| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{b:02x}");
        text
    })
}

/// The hash that is kept of a password.
pub(crate) fn hash_password(password: &str, rng: &dyn Rng) -> Result<String> {
    if password.chars().count() < SHORTEST || password.len() > LONGEST {
        return Err(Error::invalid(format!("a password has {SHORTEST} to {LONGEST} characters")));
    }
    let mut salt = [0_u8; 16];
    rng.fill(&mut salt);
    let failed = |_| Error::internal("the password cannot be hashed");
    let salt = SaltString::encode_b64(&salt).map_err(failed)?;
    Ok(Argon2::default().hash_password(password.as_bytes(), &salt).map_err(failed)?.to_string())
}

fn matches(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

fn hash_token(id: &str, secret: &str) -> Result<String> {
    let failed = |_| Error::internal("the token cannot be hashed");
    let cheap = argon2::Params::new(argon2::Params::MIN_M_COST, 1, 1, Some(32)).map_err(failed)?;
    let mut out = [0_u8; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, cheap)
        .hash_password_into(secret.as_bytes(), id.as_bytes(), &mut out)
        .map_err(failed)?;
    Ok(hex(&out))
}

/// Compares without telling by its time how much is equal.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}

/// A new token: its text, which is shown once, and what is kept of it.
pub(crate) fn new_token(
    database: &Database,
    user: &str,
    expires_at: Option<chrono::DateTime<chrono::Utc>>,
) -> Result<(Redacted<String>, TokenEntry)> {
    let rng = database.options().rng.as_ref();
    let (id, secret) = (random_text(rng, 8), random_text(rng, 32));
    let entry = TokenEntry {
        user: user.to_owned(),
        hash: hash_token(&id, &secret)?,
        created_at: database.options().clock.now(),
        expires_at,
        id: id.clone(),
    };
    Ok((Redacted::new(format!("{PREFIX}_{id}_{secret}")), entry))
}

/// The same words whatever was wrong.
fn refused() -> Error {
    Error::new(ErrorKind::Permission, "the user name or the password is wrong")
}

impl Database {
    /// Whether anybody can log in.
    pub fn has_users(&self) -> bool {
        !self.catalog().users.is_empty()
    }

    /// A user as they are now; `None` when there is none of the name.
    pub fn user(&self, name: &str) -> Option<Principal> {
        let catalog = self.catalog();
        let role = catalog.users.get(name)?.role.parse().ok()?;
        Some(Principal { name: name.to_owned(), role })
    }

    /// Checks a password; takes some tens of milliseconds of a core, whether or not there is such a user.
    ///
    /// *Errors*: [`ErrorKind::Permission`], which does not say what was wrong.
    pub fn check_password(&self, name: &str, password: &str) -> Result<Principal> {
        // Of no password; somebody who is unknown takes as long as somebody who is known.
        const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$\
                              AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let hash = self.catalog().users.get(name).and_then(|u| u.password.clone());
        let right = matches(password, hash.as_deref().unwrap_or(NOBODY));
        match self.user(name) {
            Some(principal) if right && hash.is_some() => Ok(principal),
            _ => Err(refused()),
        }
    }

    /// Checks a token that `CREATE TOKEN` gave.
    ///
    /// *Errors*: [`ErrorKind::Permission`]; only for the right token does it say that the token has expired.
    pub fn check_token(&self, text: &str) -> Result<Principal> {
        let wrong = || Error::new(ErrorKind::Permission, "the token is not known");
        let mut parts = text.split('_');
        let (Some(PREFIX), Some(id), Some(secret), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let catalog = self.catalog();
        let token = catalog.tokens.values().find(|t| t.id == id).ok_or_else(wrong)?;
        if !same(&hash_token(id, secret).map_err(|_| wrong())?, &token.hash) {
            return Err(wrong());
        }
        if token.expires_at.is_some_and(|at| at <= self.options().clock.now()) {
            return Err(Error::new(ErrorKind::Permission, "the token has expired"));
        }
        self.user(&token.user).ok_or_else(wrong)
    }

    /// Random hexadecimal text of `bytes` bytes, from the database's source of randomness.
    pub fn random_text(&self, bytes: usize) -> String {
        random_text(self.options().rng.as_ref(), bytes)
    }

    /// Makes the user `admin` with a random password, which is returned, where there are no users yet.
    #[boxed]
    pub async fn first_admin(&self) -> Result<Option<Redacted<String>>> {
        if self.has_users() {
            return Ok(None);
        }
        let rng = self.options().rng.as_ref();
        let password = random_text(rng, 12);
        let entry = UserEntry {
            password: Some(hash_password(&password, rng)?),
            role: Role::Admin.name().to_owned(),
            created_at: self.options().clock.now(),
        };
        let mut made = false;
        self.change_catalog(|catalog| {
            made = catalog.users.is_empty();
            if made {
                catalog.users.insert("admin".to_owned(), entry.clone());
            }
            Ok(())
        })
        .await?;
        Ok(made.then(|| Redacted::new(password)))
    }
}
