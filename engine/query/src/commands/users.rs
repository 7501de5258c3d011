//! `CREATE USER`, `ALTER USER`, `DROP USER`, `CREATE TOKEN`, `DROP TOKEN`, and the lists of both.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use chrono::{DateTime, Utc};
use triune_common::{Error, ErrorKind, Result};
use triune_storage::catalog::{Catalog, UserEntry};

use super::known;
use crate::principal::Role;
use crate::result::QueryResult;
use crate::session::SessionCore;
use crate::statement::{AlterUser, CreateToken, CreateUser, Expires};
use crate::users::{hash_password, new_token};

fn no_user(name: &str) -> Error {
    Error::not_found(format!("there is no user \"{name}\""))
}

/// At least one admin with a password is left, or there are no users at all.
fn check_admin(catalog: &Catalog) -> Result<()> {
    let admin = Role::Admin.name();
    if catalog.users.is_empty() || catalog.users.values().any(|u| u.role == admin && u.password.is_some()) {
        return Ok(());
    }
    Err(Error::invalid("no admin with a password would be left")
        .with_hint("make another user an admin first"))
}

pub(super) async fn create(core: &Arc<SessionCore>, user: CreateUser) -> Result<QueryResult> {
    let options = core.database().options();
    let password = match &user.password {
        Some(password) => Some(hash_password(password.expose(), options.rng.as_ref())?),
        None => None,
    };
    // Whoever makes the first user must be able to make others.
    let first = if core.database().has_users() { Role::Reader } else { Role::Admin };
    let entry = UserEntry {
        password,
        role: user.role.unwrap_or(first).name().to_owned(),
        created_at: options.clock.now(),
    };
    core.database()
        .change_catalog(|catalog| {
            if catalog.users.contains_key(&user.name) {
                if user.if_not_exists {
                    return Ok(());
                }
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    format!("the user \"{}\" exists already", user.name),
                )
                .with_hint("ALTER USER changes the password and the role"));
            }
            catalog.users.insert(user.name.clone(), entry.clone());
            check_admin(catalog)
        })
        .await?;
    Ok(QueryResult::command("CREATE USER", None))
}

pub(super) async fn alter(core: &Arc<SessionCore>, user: AlterUser) -> Result<QueryResult> {
    let password = match &user.password {
        Some(password) => Some(hash_password(password.expose(), core.database().options().rng.as_ref())?),
        None => None,
    };
    core.database()
        .change_catalog(|catalog| {
            let entry = catalog.users.get_mut(&user.name).ok_or_else(|| no_user(&user.name))?;
            if password.is_some() {
                entry.password.clone_from(&password);
            }
            if let Some(role) = user.role {
                role.name().clone_into(&mut entry.role);
            }
            check_admin(catalog)
        })
        .await?;
    Ok(QueryResult::command("ALTER USER", None))
}

pub(super) async fn drop_user(core: &Arc<SessionCore>, name: &str, if_exists: bool) -> Result<QueryResult> {
    core.database()
        .change_catalog(|catalog| {
            if catalog.users.remove(name).is_none() && !if_exists {
                return Err(no_user(name));
            }
            catalog.tokens.retain(|_, t| t.user != name);
            check_admin(catalog)
        })
        .await?;
    Ok(QueryResult::command("DROP USER", None))
}

pub(super) async fn create_token(core: &Arc<SessionCore>, token: CreateToken) -> Result<QueryResult> {
    let database = core.database();
    let user = match (token.user, core.principal()) {
        (Some(user), _) => user,
        (None, Some(principal)) => principal.name,
        (None, None) => {
            return Err(Error::invalid("a token belongs to a user").with_hint("CREATE TOKEN name FOR user"));
        }
    };
    let now = database.options().clock.now();
    let expires_at = match token.expires {
        None => None,
        Some(Expires::At(at)) => Some(at),
        Some(Expires::In(time)) => Some(now + time),
    };
    let (text, entry) = new_token(database, &user, expires_at)?;
    database
        .change_catalog(|catalog| {
            if !catalog.users.contains_key(&user) {
                return Err(no_user(&user));
            }
            if catalog.tokens.contains_key(&token.name) {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    format!("the token \"{}\" exists already", token.name),
                ));
            }
            catalog.tokens.insert(token.name.clone(), entry.clone());
            Ok(())
        })
        .await?;
    let text: ArrayRef = Arc::new(StringArray::from(vec![text.expose().as_str()]));
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("token", text, false),
        ("expires_at", moments(std::iter::once(expires_at)), true),
    ])?;
    Ok(known(batch))
}

pub(super) async fn drop_token(core: &Arc<SessionCore>, name: &str, if_exists: bool) -> Result<QueryResult> {
    core.database()
        .change_catalog(|catalog| match catalog.tokens.remove(name) {
            None if !if_exists => Err(Error::not_found(format!("there is no token \"{name}\""))),
            _ => Ok(()),
        })
        .await?;
    Ok(QueryResult::command("DROP TOKEN", None))
}

fn moments(values: impl Iterator<Item = Option<DateTime<Utc>>>) -> ArrayRef {
    let values: Vec<_> = values.map(|t| t.map(|t| t.timestamp_micros())).collect();
    Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

pub(super) fn show_users(core: &Arc<SessionCore>) -> Result<QueryResult> {
    let catalog = core.database().catalog();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("name", texts(catalog.users.keys().map(String::as_str)), false),
        ("role", texts(catalog.users.values().map(|u| u.role.as_str())), false),
        ("created_at", moments(catalog.users.values().map(|u| Some(u.created_at))), false),
    ])?;
    Ok(known(batch))
}

pub(super) fn show_tokens(core: &Arc<SessionCore>) -> Result<QueryResult> {
    let catalog = core.database().catalog();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("name", texts(catalog.tokens.keys().map(String::as_str)), false),
        ("user", texts(catalog.tokens.values().map(|t| t.user.as_str())), false),
        ("created_at", moments(catalog.tokens.values().map(|t| Some(t.created_at))), false),
        ("expires_at", moments(catalog.tokens.values().map(|t| t.expires_at)), true),
    ])?;
    Ok(known(batch))
}
