//! `SET name = value`, `RESET name`.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use datafusion::config::ConfigOptions;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{Expr, Set, UnaryOperator, Value};
use triune_common::names::did_you_mean;
use triune_common::{Error, Result};
use triune_search::settings::{SEARCH_MODE, SearchMode};

use crate::parser::dotted;
use crate::result::QueryResult;
use crate::session::{SessionCore, build};

/// Short names for settings that people change.
const SHORT: [(&str, &str); 6] = [
    ("timezone", "datafusion.execution.time_zone"),
    ("time_zone", "datafusion.execution.time_zone"),
    ("threads", "datafusion.execution.target_partitions"),
    ("batch_size", "datafusion.execution.batch_size"),
    ("explain_format", "datafusion.explain.format"),
    ("target_partitions", "datafusion.execution.target_partitions"),
];

/// Whether a commit waits until it is on disk.
const SYNCHRONOUS_COMMIT: &str = "synchronous_commit";

fn on_or_off(name: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "on" | "true" | "1" | "yes" | "local" => Ok(true),
        "off" | "false" | "0" | "no" => Ok(false),
        _ => {
            Err(Error::invalid(format!("{name} cannot be set to '{value}'"))
                .with_hint("accepted are on and off"))
        }
    }
}

fn full_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    SHORT.iter().find(|(short, _)| *short == lower).map_or(lower, |(_, full)| (*full).to_owned())
}

/// `SET a.b = value`, `SET a TO value`, `SET TIME ZONE 'x'`.
pub(super) fn set(core: &Arc<SessionCore>, set: &Set) -> Result<QueryResult> {
    let (name, value) = match set {
        Set::SingleAssignment { variable, values, .. } => {
            let [value] = values.as_slice() else {
                return Err(Error::invalid(format!("{variable} takes one value")));
            };
            (dotted(variable), text(value)?)
        }
        Set::SetTimeZone { value, .. } => ("timezone".to_owned(), text(value)?),
        other => return Err(Error::unsupported(format!("{other} is not supported"))),
    };
    if name.eq_ignore_ascii_case(SYNCHRONOUS_COMMIT) {
        core.work().set_waits(on_or_off(&name, &value)?);
        return Ok(QueryResult::command("SET", None));
    }
    let full = full_name(&name);
    core.change_state(|state| {
        let options = state.config_mut().options_mut();
        check_known(options, &name, &full)?;
        check_value(&name, &full, &value)?;
        options.set(&full, &value).map_err(|e| {
            Error::invalid(format!("{name} cannot be set to '{value}': {}", Error::from(e).message()))
        })?;
        follow(state);
        Ok::<(), Error>(())
    })?;
    Ok(QueryResult::command("SET", None))
}

/// `RESET name` and `RESET ALL` give back what a new session has.
pub(super) fn reset(core: &Arc<SessionCore>, name: Option<&str>) -> Result<QueryResult> {
    let fresh = core.database().session();
    let defaults = fresh.config_options();
    if name.is_none_or(|n| n.eq_ignore_ascii_case(SYNCHRONOUS_COMMIT)) {
        core.work().set_waits(true);
        if name.is_some() {
            return Ok(QueryResult::command("RESET", None));
        }
    }
    core.change_state(|state| {
        let options = state.config_mut().options_mut();
        let Some(name) = name else {
            *options = defaults;
            follow(state);
            return Ok(());
        };
        let full = full_name(name);
        check_known(options, name, &full)?;
        let value = defaults.entries().into_iter().find(|e| e.key == full).and_then(|e| e.value);
        options.set(&full, value.as_deref().unwrap_or_default())?;
        follow(state);
        Ok::<(), Error>(())
    })?;
    Ok(QueryResult::command("RESET", None))
}

pub(crate) fn follow(state: &mut SessionState) {
    let options = state.config_options().as_ref().clone();
    build::follow_settings(state, &options);
}

fn check_known(options: &ConfigOptions, name: &str, full: &str) -> Result<()> {
    let entries = options.entries();
    if entries.iter().any(|e| e.key == full) {
        return Ok(());
    }
    let known: Vec<&str> =
        entries.iter().map(|e| e.key.as_str()).chain(SHORT.iter().map(|(short, _)| *short)).collect();
    let error = Error::not_found(format!("there is no setting \"{name}\""));
    Err(match did_you_mean(name, known.iter().copied()) {
        Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
        None => error.with_hint("SHOW ALL lists them"),
    })
}

/// Values that DataFusion would take and then answer wrongly with, or ignore.
fn check_value(name: &str, full: &str, value: &str) -> Result<()> {
    match full {
        "datafusion.execution.time_zone" if value.parse::<Tz>().is_err() => {
            Err(Error::invalid(format!("{name} cannot be set to '{value}': no time zone is called so"))
                .with_hint("write an IANA name such as 'Europe/Berlin', or an offset such as '+05:30'"))
        }
        "datafusion.execution.batch_size" if value.parse::<usize>() == Ok(0) => {
            Err(Error::invalid(format!("{name} cannot be set to 0: a batch has at least one row")))
        }
        SEARCH_MODE => value.parse::<SearchMode>().map(|_| ()),
        _ => Ok(()),
    }
}

fn text(value: &Expr) -> Result<String> {
    match value {
        Expr::Value(v) => match &v.value {
            Value::Number(n, _) => Ok(n.clone()),
            Value::Boolean(b) => Ok(b.to_string()),
            other => other
                .clone()
                .into_string()
                .ok_or_else(|| Error::invalid(format!("{other} is no value of a setting"))),
        },
        Expr::Identifier(word) => Ok(word.value.clone()),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => Ok(format!("-{}", text(expr)?)),
        other => Err(Error::invalid(format!("{other} is no value of a setting"))
            .with_hint("a word, a number or a text in quotes is accepted")),
    }
}
