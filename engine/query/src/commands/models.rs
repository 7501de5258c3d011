//! `CREATE MODEL`, `DROP MODEL`, `SHOW MODELS`, `system.models`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use triune_common::names::did_you_mean;
use triune_common::{Error, ErrorKind, Result};
use triune_object_store::{is_remote, parse_location};
use triune_storage::catalog::ModelEntry;

use super::known;
use crate::models;
use crate::result::QueryResult;
use crate::session::SessionCore;
use crate::statement::CreateModel;
use crate::transaction;

const OPTIONS: &str =
    "a model behind a URL has model, dimension, secret, key_env, batch and timeout (in seconds)";

pub(super) async fn create(core: &Arc<SessionCore>, given: CreateModel) -> Result<QueryResult> {
    const DONE: &str = "CREATE MODEL";
    transaction::refuse_in_transaction(core, DONE)?;
    let database = core.database();
    let taken = |name: &str| {
        Error::new(ErrorKind::AlreadyExists, format!("the model \"{name}\" exists already"))
            .with_hint("use OR REPLACE, or IF NOT EXISTS")
    };
    if database.catalog().models.contains_key(&given.name) {
        if given.if_not_exists {
            return Ok(QueryResult::command(DONE, None));
        }
        if !given.or_replace {
            return Err(taken(&given.name));
        }
    }
    let mut entry = entry(core, &given)?;
    // Loaded once, so that a wrong folder or address shows now.
    let model = models::load(database, &given.name, &entry).await?;
    entry.dimension = model.dimension();
    database
        .change_catalog(|catalog| {
            // Another session may have been faster.
            if catalog.models.contains_key(&given.name) && !given.or_replace {
                return if given.if_not_exists { Ok(()) } else { Err(taken(&given.name)) };
            }
            catalog.models.insert(given.name.clone(), entry.clone());
            Ok(())
        })
        .await?;
    if database.catalog().models.get(&given.name) == Some(&entry) {
        database.models().keep(&given.name, entry, model);
    }
    Ok(QueryResult::command(DONE, None))
}

fn entry(core: &Arc<SessionCore>, given: &CreateModel) -> Result<ModelEntry> {
    let is_url = models::url_of(&given.source)?.is_some();
    let source = if is_url { given.source.clone() } else { folder(&given.source)? };
    let mut entry = ModelEntry {
        source,
        dimension: 0,
        model: None,
        secret: None,
        key_env: None,
        batch: None,
        timeout_seconds: None,
        created_at: core.database().options().clock.now(),
    };
    for (key, value) in &given.options {
        if !is_url {
            return Err(Error::invalid(format!("a model of a folder takes no option {key}"))
                .with_hint("its files say everything"));
        }
        let number = |most: u64| {
            value.parse::<u64>().ok().filter(|n| (1..=most).contains(n)).ok_or_else(|| {
                Error::invalid(format!("the option {key} takes a number from 1 to {most}, not {value}"))
            })
        };
        match key.to_ascii_lowercase().as_str() {
            "model" => entry.model = Some(value.clone()),
            "dimension" => {
                entry.dimension = usize::try_from(number(65_535)?).unwrap_or_default();
            }
            "secret" => entry.secret = Some(value.clone()),
            "key_env" => entry.key_env = Some(value.clone()),
            "batch" => entry.batch = usize::try_from(number(2048)?).ok(),
            "timeout" => entry.timeout_seconds = Some(number(3600)?),
            _ => {
                return Err(Error::not_found(format!("a model has no option {key}")).with_hint(OPTIONS));
            }
        }
    }
    if entry.secret.is_some() && entry.key_env.is_some() {
        return Err(Error::invalid("a model takes its key from a secret or from key_env, not both"));
    }
    Ok(entry)
}

/// The path from the root: a later session may stand in another folder.
fn folder(source: &str) -> Result<String> {
    let url = parse_location(source)?;
    if is_remote(&url) {
        return Err(Error::unsupported(format!("a model cannot be read from {source}"))
            .with_hint("copy its folder to this machine"));
    }
    let path =
        url.to_file_path().map_err(|()| Error::invalid(format!("'{source}' is no path of a folder")))?;
    Ok(path.to_string_lossy().into_owned())
}

pub(super) async fn drop(core: &Arc<SessionCore>, name: &str, if_exists: bool) -> Result<QueryResult> {
    const DONE: &str = "DROP MODEL";
    transaction::refuse_in_transaction(core, DONE)?;
    let database = core.database();
    let catalog = database.catalog();
    if !catalog.models.contains_key(name) {
        if if_exists {
            return Ok(QueryResult::command(DONE, None));
        }
        let error = Error::not_found(format!("no model is called \"{name}\""));
        return Err(match did_you_mean(name, catalog.models.keys().map(String::as_str)) {
            Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
            None => error,
        });
    }
    database
        .change_catalog(|catalog| {
            catalog.models.remove(name);
            Ok(())
        })
        .await?;
    database.models().forget(name);
    Ok(QueryResult::command(DONE, None))
}

/// What there is; of a key only where it comes from.
pub(super) fn show(core: &Arc<SessionCore>) -> Result<QueryResult> {
    Ok(known(batch(core)?))
}

pub(crate) fn batch(core: &SessionCore) -> Result<RecordBatch> {
    let database = core.database();
    let catalog = database.catalog();
    let all: Vec<(&String, &ModelEntry)> = catalog.models.iter().collect();
    let text = |of: &dyn Fn(&str, &ModelEntry) -> Option<String>| -> ArrayRef {
        Arc::new(all.iter().map(|(name, entry)| of(name, entry)).collect::<StringArray>())
    };
    let dimension: ArrayRef =
        Arc::new(UInt64Array::from_iter_values(all.iter().map(|(_, e)| e.dimension as u64)));
    let loaded: ArrayRef = Arc::new(BooleanArray::from_iter(
        all.iter().map(|(name, entry)| Some(database.models().is_loaded(name, entry))),
    ));
    let created = all.iter().map(|(_, e)| e.created_at.timestamp_micros());
    let created: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from_iter_values(created).with_timezone("UTC"));
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("name", text(&|name, _| Some(name.to_owned())), false),
        ("source", text(&|_, e| Some(e.source.clone())), false),
        ("model", text(&|_, e| e.model.clone()), true),
        ("dimension", dimension, false),
        ("secret", text(&|_, e| e.secret.clone()), true),
        ("key_env", text(&|_, e| e.key_env.clone()), true),
        ("loaded", loaded, false),
        ("created_at", created, false),
    ])?)
}
