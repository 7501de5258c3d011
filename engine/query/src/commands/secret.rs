//! `CREATE SECRET`, `DROP SECRET`, `SHOW SECRETS`.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use triune_common::{Error, ErrorKind, Result};
use triune_object_store::{Redacted, SecretSpec};

use super::known;
use crate::result::QueryResult;
use crate::session::SessionCore;
use crate::statement::CreateSecret;

pub(super) async fn create(core: &Arc<SessionCore>, secret: CreateSecret) -> Result<QueryResult> {
    let database = core.database();
    let taken = database.stores().secrets().iter().any(|s| s.name == secret.name)
        || database.catalog().secrets.contains_key(&secret.name);
    if taken && secret.if_not_exists {
        return Ok(QueryResult::command("CREATE SECRET", None));
    }
    if taken && !secret.or_replace {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("the secret \"{}\" exists already", secret.name),
        )
        .with_hint("CREATE OR REPLACE SECRET replaces it"));
    }
    let mut options = Vec::new();
    for (key, value) in secret.options {
        if key.eq_ignore_ascii_case("scope") {
            // A list of scopes was joined by the parser.
            options
                .extend(value.expose().split(',').map(|s| (key.clone(), Redacted::new(s.trim().to_owned()))));
        } else {
            options.push((key, value));
        }
    }
    let spec = SecretSpec::from_options(&secret.name, options)?;
    if !secret.temporary && !database.is_in_memory() {
        let entry = database.seal_secret(&spec)?;
        database
            .change_catalog(|catalog| {
                catalog.secrets.insert(secret.name.clone(), entry.clone());
                Ok(())
            })
            .await?;
    }
    database.stores().put_secret(spec);
    Ok(QueryResult::command("CREATE SECRET", None))
}

pub(super) async fn drop(core: &Arc<SessionCore>, name: &str, if_exists: bool) -> Result<QueryResult> {
    let database = core.database();
    let in_use = database.stores().drop_secret(name).is_ok();
    let kept = database.catalog().secrets.contains_key(name);
    if kept {
        database
            .change_catalog(|catalog| {
                catalog.secrets.remove(name);
                Ok(())
            })
            .await?;
    }
    if !in_use && !kept && !if_exists {
        return Err(Error::not_found(format!("no secret is called \"{name}\"")));
    }
    Ok(QueryResult::command("DROP SECRET", None))
}

/// Names, kinds and scopes; never a value.
pub(super) fn show(core: &Arc<SessionCore>) -> Result<QueryResult> {
    let database = core.database();
    let catalog = database.catalog();
    let mut rows: Vec<[String; 4]> = database
        .stores()
        .secrets()
        .iter()
        .map(|s| {
            let kept = if catalog.secrets.contains_key(&s.name) { "database" } else { "memory" };
            [s.name.clone(), s.kind.name().to_owned(), s.scope.join(", "), kept.to_owned()]
        })
        .collect();
    for (name, entry) in &catalog.secrets {
        if !rows.iter().any(|r| r[0] == *name) {
            let locked = "database (sealed with another key)".to_owned();
            rows.push([name.clone(), entry.kind.clone(), entry.scope.join(", "), locked]);
        }
    }
    rows.sort();
    let column =
        |i: usize| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r[i]))) };
    let names = ["name", "type", "scope", "kept_in"];
    let batch = RecordBatch::try_from_iter(names.into_iter().enumerate().map(|(i, n)| (n, column(i))))?;
    Ok(known(batch))
}
