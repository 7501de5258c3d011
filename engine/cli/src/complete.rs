//! What Tab offers: keywords, tables, columns, functions, commands and files.
//!
//! ```text
//! SELECT na|          FROM packages     → name                    (columns of the tables that the statement reads)
//! SELECT p.na|        FROM packages p   → name                    (columns of an alias)
//! SELECT * FROM pa|                     → packages                (tables)
//! SELECT * FROM 'data/pa|               → data/packages.parquet   (files)
//! \d pa|                                → packages
//! ```
//!
//! Pure: from a text, a cursor, a [`Catalog`] and a way to list folders to candidates. The statement around the cursor
//! is read with [`crate::lex`], so that text after the cursor counts (`FROM` comes late) and half-typed SQL is fine.

mod context;
mod reader;

use std::collections::BTreeSet;

use crate::catalog::{Catalog, TableEntry};
use crate::commands;
use crate::keywords::{KEYWORDS, STATEMENTS, TYPES, quote_name};
use crate::output::Format;
use context::{Place, Position};

pub use reader::{SqlCompleter, list_folder};

/// Something that may be put at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What replaces the typed part.
    pub text: String,
    /// What it is: a type, a kind.
    pub detail: String,
    /// Whether a space follows.
    pub space: bool,
}

/// The candidates for a part of the text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Completions {
    /// The bytes that a candidate replaces.
    pub start: usize,
    pub end: usize,
    pub candidates: Vec<Candidate>,
}

impl Completions {
    /// The candidates' texts.
    pub fn texts(&self) -> Vec<&str> {
        self.candidates.iter().map(|c| c.text.as_str()).collect()
    }
}

/// Lists the entries of a folder: names, and whether each is a folder itself.
pub type ListFolder<'a> = dyn Fn(&str) -> Vec<(String, bool)> + 'a;

/// At most this many candidates are offered.
const MOST: usize = 200;

/// The candidates at `cursor` (bytes, on a character's boundary).
pub fn complete(text: &str, cursor: usize, catalog: &Catalog, list: &ListFolder<'_>) -> Completions {
    let position = Position::find(text, cursor);
    let mut offers = Offers { typed: &position.typed, candidates: Vec::new(), seen: BTreeSet::new() };
    match &position.place {
        Place::Nothing => {}
        Place::Command => {
            for command in commands::HELP {
                for name in command.names {
                    // `\` and `.` are offered for themselves only.
                    if name.starts_with(&position.typed[..1.min(position.typed.len())]) {
                        offers.add(name, name, command.summary, !command.arguments.is_empty());
                    }
                }
            }
        }
        Place::Argument(command) => argument(command, &position, catalog, list, &mut offers),
        Place::File => files(&position.typed, list, &mut offers),
        Place::Table => {
            tables(catalog, None, &mut offers);
            functions(catalog, |kind| kind == "table", &mut offers);
        }
        Place::Member(qualifier) => member(qualifier, &position, catalog, &mut offers),
        Place::Start => keywords(STATEMENTS, &mut offers),
        Place::Type => keywords(TYPES, &mut offers),
        Place::Expression => {
            let scope = position.scope(catalog);
            for (table, _) in &scope {
                columns(table, &mut offers);
            }
            for (_, alias) in &scope {
                offers.add_name(alias, "alias", false);
            }
            // Without a FROM yet, every column may be meant; that is only of use with a letter typed.
            if scope.is_empty() && !position.typed.is_empty() {
                for table in &catalog.tables {
                    columns(table, &mut offers);
                }
            }
            if !position.typed.is_empty() {
                functions(catalog, |kind| kind != "table", &mut offers);
            }
            keywords(KEYWORDS, &mut offers);
            if !position.typed.is_empty() {
                keywords(TYPES, &mut offers);
            }
        }
    }
    let mut candidates = offers.candidates;
    candidates.truncate(MOST);
    Completions { start: position.start, end: cursor, candidates }
}

struct Offers<'a> {
    typed: &'a str,
    candidates: Vec<Candidate>,
    seen: BTreeSet<String>,
}

impl Offers<'_> {
    /// Offers `text` if `name` begins with what was typed, in any case.
    fn add(&mut self, name: &str, text: &str, detail: &str, space: bool) {
        let typed = self.typed;
        let begins = name.get(..typed.len()).is_some_and(|head| head.eq_ignore_ascii_case(typed))
            || name.to_lowercase().starts_with(&typed.to_lowercase());
        if begins && self.seen.insert(text.to_owned()) {
            self.candidates.push(Candidate { text: text.to_owned(), detail: detail.to_owned(), space });
        }
    }

    /// Offers a name of SQL, quoted where it must be or where a quote was typed.
    fn add_name(&mut self, name: &str, detail: &str, space: bool) {
        if let Some(inner) = self.typed.strip_prefix('"') {
            if name.to_lowercase().starts_with(&inner.replace("\"\"", "\"").to_lowercase()) {
                let text = format!("\"{}\"", name.replace('"', "\"\""));
                if self.seen.insert(text.clone()) {
                    self.candidates.push(Candidate { text, detail: detail.to_owned(), space });
                }
            }
        } else {
            self.add(name, &quote_name(name), detail, space);
        }
    }
}

fn keywords(list: &[&str], offers: &mut Offers<'_>) {
    // As it was begun: `sel` → `select`, `Sel` and `SEL` → `SELECT`.
    let lower = offers.typed.starts_with(|c: char| c.is_ascii_lowercase());
    for word in list {
        let text = if lower { word.to_ascii_lowercase() } else { (*word).to_owned() };
        offers.add(word, &text, "", true);
    }
}

fn columns(table: &TableEntry, offers: &mut Offers<'_>) {
    for column in &table.columns {
        offers.add_name(&column.name, &column.data_type, false);
    }
}

fn tables(catalog: &Catalog, schema: Option<&str>, offers: &mut Offers<'_>) {
    for table in &catalog.tables {
        if schema.is_none_or(|s| table.schema.eq_ignore_ascii_case(s)) {
            offers.add_name(&table.name, &table.kind, false);
        }
    }
    if schema.is_none() {
        let schemas: BTreeSet<&str> = catalog.tables.iter().map(|t| t.schema.as_str()).collect();
        if schemas.len() > 1 {
            for schema in schemas {
                offers.add_name(schema, "schema", false);
            }
        }
    }
}

fn functions(catalog: &Catalog, kind: impl Fn(&str) -> bool, offers: &mut Offers<'_>) {
    for function in &catalog.functions {
        if kind(&function.kind) {
            offers.add(&function.name, &format!("{}(", function.name), &function.signature, false);
        }
    }
}

/// After `qualifier.`: the columns of an alias or table of the statement, else of any table; or the tables of a schema.
fn member(qualifier: &str, position: &Position<'_>, catalog: &Catalog, offers: &mut Offers<'_>) {
    let scope = position.scope(catalog);
    let named: Vec<_> = scope.iter().filter(|(_, alias)| alias.eq_ignore_ascii_case(qualifier)).collect();
    for (table, _) in &named {
        columns(table, offers);
    }
    if named.is_empty() {
        for table in catalog.find_tables(None, qualifier) {
            columns(table, offers);
        }
    }
    tables(catalog, Some(qualifier), offers);
}

fn argument(
    command: &commands::CommandHelp,
    position: &Position<'_>,
    catalog: &Catalog,
    list: &ListFolder<'_>,
    offers: &mut Offers<'_>,
) {
    match command.completes {
        commands::Completes::Nothing => {}
        commands::Completes::Tables => tables(catalog, None, offers),
        commands::Completes::Functions => {
            for function in &catalog.functions {
                offers.add(&function.name, &function.name, &function.kind, false);
            }
        }
        commands::Completes::Files => files(&position.typed, list, offers),
        commands::Completes::Words(words) => {
            for word in words {
                offers.add(word, word, "", false);
            }
        }
        commands::Completes::Formats => {
            for name in Format::NAMES {
                offers.add(name, name, "", false);
            }
        }
    }
}

/// Files below the folder that was typed so far. Hidden ones only when a dot was typed.
fn files(typed: &str, list: &ListFolder<'_>, offers: &mut Offers<'_>) {
    let (folder, begun) = typed.rfind('/').map_or(("", typed), |at| typed.split_at(at + 1));
    let mut entries = list(folder);
    entries.sort();
    for (name, is_folder) in entries {
        if name.starts_with('.') && !begun.starts_with('.') {
            continue;
        }
        let path = format!("{folder}{name}{}", if is_folder { "/" } else { "" });
        let shown = path.clone();
        if path.starts_with(typed) {
            offers.add(&path, &shown, if is_folder { "folder" } else { "file" }, false);
        }
    }
}

#[cfg(test)]
mod tests;
