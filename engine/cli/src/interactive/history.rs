//! The history: `$XDG_STATE_HOME/triune/history` (or `~/.local/state/…`), for the user's eyes only.
//!
//! Statements about secrets are kept for the session in memory and never written.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use reedline::{
    FileBackedHistory, History, HistoryItem, HistoryItemId, HistorySessionId, Result, SearchQuery,
};

use crate::lex::{Token, tokens};

/// Entries that are kept.
const ENTRIES: usize = 10_000;

/// The history file's history; none if there is no home or it cannot be written (the shell works without).
pub(super) fn open() -> Option<Box<dyn History>> {
    let path = path(std::env::var_os("XDG_STATE_HOME").map(PathBuf::from), std::env::home_dir())?;
    open_at(&path).ok().map(|h| Box::new(h) as Box<dyn History>)
}

fn path(state: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    // The standard says that a relative path is to be ignored.
    let state = state.filter(|p| p.is_absolute()).or_else(|| home.map(|h| h.join(".local/state")))?;
    Some(state.join("triune").join("history"))
}

fn open_at(path: &Path) -> std::io::Result<Discreet> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Made by us with its mode, before the editor makes it with the user's mask.
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    let inner = FileBackedHistory::with_file(ENTRIES, path.to_owned())
        .map_err(|e| std::io::Error::other(e.to_string()))?;
    Ok(Discreet { inner })
}

/// Whether the text says a secret: `CREATE SECRET …`, `ALTER SECRET …`.
fn tells_a_secret(text: &str) -> bool {
    let code: Vec<Token<'_>> = tokens(text).filter(Token::is_code).collect();
    code.iter().enumerate().any(|(i, token)| {
        (token.is_word("CREATE") || token.is_word("ALTER"))
            && code[i + 1..].iter().take_while(|t| t.text != ";").take(6).any(|t| t.is_word("SECRET"))
    })
}

/// A history that forgets what it should not know.
#[derive(Debug)]
struct Discreet {
    inner: FileBackedHistory,
}

impl History for Discreet {
    fn save(&mut self, item: HistoryItem) -> Result<HistoryItem> {
        if tells_a_secret(&item.command_line) {
            return Ok(item);
        }
        let saved = self.inner.save(item);
        // At once, not at the end: the process may be killed.
        let _ = self.inner.sync();
        saved
    }

    fn load(&self, id: HistoryItemId) -> Result<HistoryItem> {
        self.inner.load(id)
    }

    fn count(&self, query: SearchQuery) -> Result<i64> {
        self.inner.count(query)
    }

    fn search(&self, query: SearchQuery) -> Result<Vec<HistoryItem>> {
        self.inner.search(query)
    }

    fn update(&mut self, id: HistoryItemId, updater: &dyn Fn(HistoryItem) -> HistoryItem) -> Result<()> {
        self.inner.update(id, updater)
    }

    fn clear(&mut self) -> Result<()> {
        self.inner.clear()
    }

    fn delete(&mut self, id: HistoryItemId) -> Result<()> {
        self.inner.delete(id)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.inner.sync()
    }

    fn session(&self) -> Option<HistorySessionId> {
        self.inner.session()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_private_and_holds_no_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("history");
        {
            let mut history = open_at(&path).unwrap();
            history.save(HistoryItem::from_command_line("SELECT 1;")).unwrap();
            history.save(HistoryItem::from_command_line("CREATE SECRET s (TYPE s3, KEY 'hush');")).unwrap();
            history.save(HistoryItem::from_command_line("SELECT\n2;")).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("SELECT 1;") && text.contains("2;") && !text.contains("hush"), "{text}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // A file that others could read is closed to them.
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        open_at(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn secrets_are_recognised() {
        assert!(tells_a_secret("create /* x */ or replace temporary secret s (…)"));
        assert!(tells_a_secret("SELECT 1; CREATE SECRET x (KEY 'a');"));
        assert!(!tells_a_secret("SELECT 'CREATE SECRET'"));
        assert!(!tells_a_secret("CREATE TABLE t AS SELECT 1; SELECT secret FROM t"));
        assert!(!tells_a_secret("DROP SECRET s"));
    }

    #[test]
    fn where_it_lies() {
        let p = |s: Option<&str>, h: Option<&str>| path(s.map(Into::into), h.map(Into::into));
        assert_eq!(p(Some("/s"), Some("/h")), Some("/s/triune/history".into()));
        assert_eq!(p(Some("rel"), Some("/h")), Some("/h/.local/state/triune/history".into()));
        assert_eq!(p(None, None), None);
    }
}
