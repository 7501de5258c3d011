//! Making errors helpful: where in the statement, and which name was probably meant.

use std::sync::Arc;

use triune_common::names::did_you_mean;
use triune_common::{Error, ErrorKind, Position};

use crate::prepass::labels;
use crate::session::SessionCore;
use crate::session::names::SEARCHES;

/// Adds a position and "did you mean …" where the planner gave none.
pub(crate) fn improve(core: &Arc<SessionCore>, sql: &str, error: Error) -> Error {
    if let Some(call) =
        between(error.message(), "No function matches the given name and argument types '", "'")
    {
        return wrong_arguments(sql, call, &error);
    }
    if error.message().starts_with("Unsupported LIMIT expression") {
        return Error::invalid(
            "the number after LIMIT or OFFSET cannot be computed before the statement runs",
        )
        .at(error.position().or_else(|| find(sql, "LIMIT")).or_else(|| find(sql, "OFFSET")))
        .with_hint("write a number, a parameter, or a term of them that fits BIGINT");
    }
    if error.kind() == ErrorKind::Unsupported {
        return undumped(sql, error);
    }
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    if let Some(name) = between(error.message(), "table function '", "' not found") {
        return missing_table_function(core, sql, name, error.position());
    }
    if let Some(table) = between(error.message(), "table '", "' not found") {
        return missing_table(core, sql, table, error.position());
    }
    if let Some(name) = between(error.message(), "Invalid function '", "'") {
        return missing_function(core, sql, name, error.position());
    }
    if let Some(field) = between(error.message(), "No field named ", ".") {
        return missing_column(sql, field, &error);
    }
    error
}

/// DataFusion prints syntax trees and plans as Rust has them.
fn undumped(sql: &str, error: Error) -> Error {
    let message = error.message();
    let worded = |text: String, hint: Option<&str>| {
        let worded = Error::unsupported(text).at(error.position());
        match hint {
            Some(hint) => worded.with_hint(hint),
            None => worded,
        }
    };
    if message.contains("does not support logical expression AggregateFunction") {
        return Error::invalid(
            "an aggregate function stands where none can be: within another one, or in WHERE",
        )
        .with_hint("compute it in a sub-query first; conditions on aggregates stand in HAVING")
        .at(error.position());
    }
    if message.starts_with("Dot access not supported") {
        return worded(
            "a dot after this value is not supported".to_owned(),
            Some("(value)['field'] takes a field"),
        );
    }
    if message.starts_with("Binary operator 'AtArrow'") {
        let hint = "lists have array_has_all(list, part); JSON has -> and ->>";
        return worded("@> is not supported between these types".to_owned(), Some(hint))
            .at(error.position().or_else(|| find_text(sql, "@>")));
    }
    let Some(tree) =
        ["Unsupported ast node in sqltorel: ", "Unsupported ast node ", "Unsupported JOIN operator "]
            .iter()
            .find_map(|mark| message.split_once(mark))
            .map(|(_, tree)| tree)
            .filter(|tree| tree.contains(['{', '(']))
    else {
        return error;
    };
    let name = tree.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_uppercase());
    }
    worded(format!("{words} is not supported"), None).at(error.position().or_else(|| find(sql, &words)))
}

/// DataFusion tells of a call that fits no signature in a paragraph of its own planning.
fn wrong_arguments(sql: &str, call: &str, error: &Error) -> Error {
    let candidates: Vec<&str> = error
        .message()
        .split("Candidate functions:")
        .nth(1)
        .unwrap_or_default()
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.contains("UserDefined"))
        .take(6)
        .collect();
    let name = call.split('(').next().unwrap_or(call);
    let improved = Error::invalid(format!("no form of {name} takes the arguments of {call}"))
        .at(error.position().or_else(|| find(sql, name)));
    match candidates.as_slice() {
        [] => improved,
        some => improved.with_hint(format!("there is {}", some.join(", "))),
    }
}

/// The text between two marks.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let from = text.find(before)? + before.len();
    let to = text[from..].find(after)? + from;
    Some(&text[from..to])
}

fn missing_table(core: &Arc<SessionCore>, sql: &str, full: &str, at: Option<Position>) -> Error {
    let shown = full.strip_prefix("triune.public.").or_else(|| full.strip_prefix("triune.")).unwrap_or(full);
    let (plain, _) = crate::prepass::versions::parse_name(shown);
    let error = Error::not_found(format!("no table or view is called \"{plain}\""))
        .at(at.or_else(|| find(sql, plain)));
    let catalog = core.database().catalog();
    let mut names: Vec<String> = core.temporary_names();
    for (schema, entry) in &catalog.schemas {
        for name in entry.relations.keys() {
            names.push(if schema == crate::DEFAULT_SCHEMA {
                name.clone()
            } else {
                format!("{schema}.{name}")
            });
        }
    }
    if let Some(near) = did_you_mean(plain, names.iter().map(String::as_str)) {
        return error.with_hint(format!("did you mean \"{near}\"?"));
    }
    if let Some((schema, _)) = plain.split_once('.')
        && !catalog.schemas.contains_key(schema)
        && schema != "information_schema"
    {
        return error.with_hint(format!("there is no schema \"{schema}\""));
    }
    match names.len() {
        0 => {
            error.with_hint("there are no tables yet: CREATE EXTERNAL TABLE, or SELECT … FROM 'file.parquet'")
        }
        1..=8 => {
            names.sort();
            error.with_hint(format!("there are {}", names.join(", ")))
        }
        _ => error,
    }
}

fn missing_function(core: &Arc<SessionCore>, sql: &str, name: &str, at: Option<Position>) -> Error {
    let state = core.state();
    if state.window_functions().contains_key(name) {
        return Error::invalid(format!("{name} is a window function and needs OVER (…)"))
            .with_hint(format!("{name}(…) OVER (ORDER BY …)"))
            .at(at.or_else(|| find(sql, name)));
    }
    let mut names: Vec<&str> = state.scalar_functions().keys().map(String::as_str).collect();
    names.extend(state.aggregate_functions().keys().map(String::as_str));
    names.extend(state.window_functions().keys().map(String::as_str));
    names.sort_unstable();
    let error =
        Error::not_found(format!("no function is called \"{name}\"")).at(at.or_else(|| find(sql, name)));
    match did_you_mean(name, names.into_iter().filter(|n| !n.starts_with("__"))) {
        Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
        None => error,
    }
}

fn missing_table_function(core: &Arc<SessionCore>, sql: &str, name: &str, at: Option<Position>) -> Error {
    let state = core.state();
    let names = state.table_functions().keys().map(String::as_str);
    let near = did_you_mean(name, names.chain(SEARCHES.iter().map(|(name, ..)| *name)));
    let error = Error::not_found(format!("no function of FROM is called \"{name}\""))
        .at(at.or_else(|| find(sql, name)));
    match near {
        Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
        None => error,
    }
}

/// DataFusion lists "Valid fields are …" and sometimes its own guess; one near name is more use than all.
fn missing_column(sql: &str, field: &str, error: &Error) -> Error {
    // A qualified name has a full stop in it: take the whole of it up to ". " or the end.
    const MARK: &str = "No field named ";
    let message = error.message();
    let after = MARK.len();
    let start = message.find(MARK).map_or(0, |n| n + after);
    let end = message[start..].find(". ").map_or_else(|| message.trim_end_matches('.').len(), |n| n + start);
    let full = message.get(start..end).unwrap_or(field).replace('"', "");
    let plain = full.rsplit('.').next().unwrap_or(&full).to_owned();
    let mut valid: Vec<String> = message
        .find("Valid fields are ")
        .map(|n| {
            message[n + "Valid fields are ".len()..]
                .trim_end_matches('.')
                .split(", ")
                .map(|f| f.replace('"', "").rsplit('.').next().unwrap_or_default().to_owned())
                .collect()
        })
        .unwrap_or_default();
    // Columns that cannot be told apart have a mark in their names.
    if labels::is_marked_in(&plain, message) {
        return Error::invalid(format!("the column \"{full}\" may mean several columns of a sub-query"))
            .with_hint("rename one of them with AS")
            .at(error.position().or_else(|| find(sql, &full)));
    }
    let mut listed = std::collections::HashSet::new();
    valid.retain(|name| listed.insert(name.clone()));
    let at = error.position().or_else(|| find(sql, &full)).or_else(|| find(sql, &plain));
    let improved = Error::not_found(format!("there is no column \"{full}\"")).at(at);
    match did_you_mean(&plain, valid.iter().map(String::as_str)) {
        Some(near) => improved.with_hint(format!("did you mean \"{near}\"?")),
        None if (1..=12).contains(&valid.len()) => {
            improved.with_hint(format!("the columns are {}", valid.join(", ")))
        }
        None => improved,
    }
}

/// Where a name stands in the statement as a word of its own.
fn find(sql: &str, name: &str) -> Option<Position> {
    let (text, name) = (sql.to_ascii_lowercase(), name.to_ascii_lowercase());
    if name.is_empty() {
        return None;
    }
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut from = 0;
    while let Some(n) = text[from..].find(&name) {
        let at = from + n;
        let before = text[..at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        if !before.is_some_and(is_part) && !after.is_some_and(is_part) {
            let line_start = text[..at].rfind('\n').map_or(0, |n| n + 1);
            let line = text[..at].matches('\n').count() as u64 + 1;
            return Some(Position::new(line, text[line_start..at].chars().count() as u64 + 1));
        }
        from = at + name.len();
    }
    None
}

/// Where a text stands that is no word.
fn find_text(sql: &str, text: &str) -> Option<Position> {
    let at = sql.find(text)?;
    let line_start = sql[..at].rfind('\n').map_or(0, |n| n + 1);
    let line = sql[..at].matches('\n').count() as u64 + 1;
    Some(Position::new(line, sql[line_start..at].chars().count() as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tree_is_shown() {
        let error = Error::unsupported("Unsupported ast node Pivot { table: Derived { lateral: false } }");
        let done = undumped("SELECT * FROM t PIVOT (sum(a) FOR b IN ('x'))", error);
        assert_eq!(done.message(), "PIVOT is not supported");
        assert_eq!(done.position(), Some(Position::new(1, 17)));
    }

    #[test]
    fn names_are_found_as_words() {
        let sql = "SELECT at, t.a\nFROM t WHERE a = 1";
        assert_eq!(find(sql, "a"), Some(Position::new(1, 14)));
        assert_eq!(find(sql, "FROM"), Some(Position::new(2, 1)));
        assert_eq!(find(sql, "b"), None);
    }

    #[test]
    fn columns_are_read_out_of_datafusions_words() {
        let error = Error::not_found("No field named p.nmae. Valid fields are p.name, p.id.");
        let improved = missing_column("SELECT p.nmae FROM p", "p", &error);
        assert_eq!(improved.message(), "there is no column \"p.nmae\"");
        assert_eq!(improved.hint(), Some("did you mean \"name\"?"));
        assert_eq!(improved.position(), Some(Position::new(1, 8)));
    }
}
