//! The completer as the line editor wants it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use reedline::{Completer, CompletionResult, Span, Suggestion};

use super::complete;
use crate::catalog::Catalog;

/// Completes from a catalog that the shell replaces after each change of the database.
#[derive(Debug, Clone, Default)]
pub struct SqlCompleter {
    catalog: Arc<Mutex<Arc<Catalog>>>,
}

impl SqlCompleter {
    /// Replaces the names.
    pub fn update(&self, catalog: Catalog) {
        *self.catalog.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
    }
}

impl Completer for SqlCompleter {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let catalog = Arc::clone(&self.catalog.lock().unwrap_or_else(PoisonError::into_inner));
        let mut pos = pos.min(line.len());
        while !line.is_char_boundary(pos) {
            pos -= 1;
        }
        let found = complete(line, pos, &catalog, &list_folder);
        let suggestions: Vec<Suggestion> = found
            .candidates
            .into_iter()
            .map(|c| Suggestion {
                value: c.text,
                description: (!c.detail.is_empty()).then_some(c.detail),
                span: Span { start: found.start, end: found.end },
                append_whitespace: c.space,
                ..Suggestion::default()
            })
            .collect();
        CompletionResult::fresh(suggestions)
    }
}

/// The entries of a folder of this machine; none if it cannot be read. `~/` is the home folder.
pub fn list_folder(folder: &str) -> Vec<(String, bool)> {
    let path = match folder.strip_prefix("~/") {
        Some(rest) => match std::env::home_dir() {
            Some(home) => home.join(rest),
            None => return Vec::new(),
        },
        None if folder.is_empty() => PathBuf::from("."),
        None => PathBuf::from(folder),
    };
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    entries
        .filter_map(|e| {
            let e = e.ok()?;
            let name = e.file_name().into_string().ok()?;
            // Through links: a link to a folder is a folder.
            let is_folder = std::fs::metadata(e.path()).is_ok_and(|m| m.is_dir());
            Some((name, is_folder))
        })
        .take(10_000)
        .collect()
}
