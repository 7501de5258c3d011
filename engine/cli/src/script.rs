//! A text of statements and shell commands, piece by piece.
//!
//! ```text
//! SELECT 1; \timing on
//! \d packages
//! SELECT 2            ← without a semicolon: run at the end of a file, waited for at the prompt
//! ```
//!
//! A command begins with `\` (or with `.` and a letter at the beginning of a line) where a statement could begin,
//! and reaches to the end of its line. Statements are found by [`triune_query::split_statements`].

use triune_query::split_statements;

use crate::lex::{self, is_blank};

/// A statement or a command, and where it begins in the text (bytes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Statement { text: String, offset: usize },
    Command { text: String, offset: usize },
}

impl Piece {
    pub fn offset(&self) -> usize {
        match self {
            Self::Statement { offset, .. } | Self::Command { offset, .. } => *offset,
        }
    }
}

/// The pieces of a text and what remains after the last complete one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    pub pieces: Vec<Piece>,
    /// Where the incomplete rest begins; the text's length if nothing but blanks remains.
    pub rest: usize,
}

/// Whether the text begins with a command: `\x`, `.tables`.
fn is_command(text: &str, at_line_start: bool) -> bool {
    text.starts_with('\\')
        || (at_line_start
            && text.starts_with('.')
            && text[1..].starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// Takes `text` apart. At its `end` of input a rest without a semicolon is a statement too.
pub fn split(text: &str, end: bool) -> Script {
    let mut pieces = Vec::new();
    let mut at = 0;
    // Each round ends at a command, since its line is not SQL and may hold half a quote.
    'commands: loop {
        let found = split_statements(&text[at..]);
        for statement in &found.statements {
            let from = at + statement.offset;
            if let Some(next) = command(text, from, &mut pieces) {
                at = next;
                continue 'commands;
            }
            // A lone semicolon is no statement.
            if !is_blank(statement.text.trim_end().trim_end_matches(';')) {
                pieces.push(Piece::Statement { text: statement.text.to_owned(), offset: from });
            }
        }
        let from = at + found.rest_offset;
        if let Some(next) = command(text, from, &mut pieces) {
            at = next;
            continue 'commands;
        }
        // What is open may be a comment: then more lines are to come.
        if is_blank(found.rest) && (end || !found.open) {
            return Script { pieces, rest: text.len() };
        }
        if !end {
            return Script { pieces, rest: from };
        }
        pieces.push(Piece::Statement { text: found.rest.to_owned(), offset: from });
        return Script { pieces, rest: text.len() };
    }
}

/// If a command begins at `from` (after blanks), adds it and says where its line ends.
fn command(text: &str, from: usize, pieces: &mut Vec<Piece>) -> Option<usize> {
    let start = text.len() - lex::skip_blank(&text[from..]).len();
    let before = &text[..start];
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    if !is_command(&text[start..], before[line_start..].trim().is_empty()) {
        return None;
    }
    let line = text[start..].lines().next().unwrap_or("");
    pieces.push(Piece::Command { text: line.trim().to_owned(), offset: start });
    Some(start + line.len())
}

/// Whether the prompt may hand the text on: it ends with a semicolon or is a command; otherwise more lines are to come.
pub fn is_complete(text: &str) -> bool {
    let word = text.trim();
    if word.is_empty() || is_bare_command(word) {
        return true;
    }
    let script = split(text, false);
    script.rest == text.len()
}

/// Words that people type when they are lost, as in psql: `exit`, `quit`, `help`.
pub fn is_bare_command(text: &str) -> bool {
    let word = text.trim().trim_end_matches(';');
    ["exit", "quit", "help"].iter().any(|w| word.eq_ignore_ascii_case(w))
}

/// The number of the line, from 1, in which `offset` lies.
pub fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str, end: bool) -> Vec<String> {
        split(text, end)
            .pieces
            .into_iter()
            .map(|p| match p {
                Piece::Statement { text, .. } => {
                    format!("S {}", lex::skip_blank(text.trim()).trim_end_matches(';').trim())
                }
                Piece::Command { text, .. } => format!("C {text}"),
            })
            .collect()
    }

    #[test]
    fn statements_and_commands() {
        assert_eq!(
            texts("SELECT 1; \\timing on\n\\d t\nSELECT ';';\n.tables\n", false),
            ["S SELECT 1", "C \\timing on", "C \\d t", "S SELECT ';'", "C .tables"]
        );
    }

    #[test]
    fn a_command_may_hold_half_a_quote() {
        assert_eq!(texts("\\i don't.sql\nSELECT 1;", false), ["C \\i don't.sql", "S SELECT 1"]);
        assert_eq!(texts("-- it's\n\\i don't.sql\nSELECT 1;", false), ["C \\i don't.sql", "S SELECT 1"]);
    }

    #[test]
    fn the_rest_waits_or_runs() {
        assert_eq!(texts("SELECT 1; SELECT 2", false), ["S SELECT 1"]);
        assert_eq!(texts("SELECT 1; SELECT 2", true), ["S SELECT 1", "S SELECT 2"]);
        assert_eq!(texts("SELECT 1; -- done", true), ["S SELECT 1"]);
        assert_eq!(texts(" ;; ", true), Vec::<String>::new());
        let text = "SELECT 1;\nSELECT 'a;";
        let script = split(text, false);
        assert_eq!(text[script.rest..].trim_start(), "SELECT 'a;");
    }

    #[test]
    fn a_number_is_no_command() {
        assert_eq!(texts("SELECT\n.5;", false), ["S SELECT\n.5"]);
        assert_eq!(texts("SELECT t\n.a FROM t;", false), ["S SELECT t\n.a FROM t"]);
    }

    #[test]
    fn completeness() {
        for yes in [
            "",
            "  ",
            "\\d",
            ".tables",
            "SELECT 1;",
            "quit",
            "EXIT;",
            "-- x",
            "SELECT 1; \\watch",
            "SELECT $$;$$;",
        ] {
            assert!(is_complete(yes), "{yes}");
        }
        for no in ["SELECT 1", "SELECT ';", "SELECT 1; SELECT", "SELECT $$;", "SELECT 1 /* ;", "SELECT \";"] {
            assert!(!is_complete(no), "{no}");
        }
    }

    #[test]
    fn offsets_and_lines() {
        let text = "SELECT 1;\n\n\\d t\nSELECT 2;";
        let script = split(text, false);
        let command = &script.pieces[1];
        assert_eq!(&text[command.offset()..command.offset() + 2], "\\d");
        assert_eq!(line_of(text, command.offset()), 3);
    }
}
