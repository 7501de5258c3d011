//! Colours for SQL while it is typed.
//!
//! Keywords, types, texts, numbers, parameters and comments have a style each; names are plain. A shell command
//! (`\d t`) has its first word coloured.

use nu_ansi_term::{Color, Style};
use reedline::{Highlighter, StyledText};
use std::sync::{Arc, Mutex, PoisonError};

use crate::keywords::{is_keyword, is_type};
use crate::lex::{TokenKind, tokens};

/// Colours the line, and remembers it: the editor forgets what was typed before it reports Ctrl-C.
#[derive(Debug, Default, Clone)]
pub struct SqlHighlighter {
    seen: Arc<Mutex<String>>,
}

impl SqlHighlighter {
    /// The line as it was drawn last.
    pub fn last_line(&self) -> String {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets the last line.
    pub fn reset(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Highlighter for SqlHighlighter {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        line.clone_into(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let mut styled = StyledText::new();
        for (style, text) in pieces(line) {
            styled.push((style, text.to_owned()));
        }
        styled
    }
}

fn style_of(kind: TokenKind, text: &str) -> Style {
    match kind {
        TokenKind::Word if is_keyword(text) => Style::new().bold().fg(Color::Blue),
        TokenKind::Word if is_type(text) => Style::new().fg(Color::Cyan),
        TokenKind::Text => Style::new().fg(Color::Green),
        TokenKind::Number => Style::new().fg(Color::Magenta),
        TokenKind::Parameter => Style::new().fg(Color::Yellow),
        TokenKind::Comment => Style::new().dimmed(),
        _ => Style::new(),
    }
}

/// The line in styled pieces that together are the line.
pub fn pieces(line: &str) -> Vec<(Style, &str)> {
    let blank = line.len() - line.trim_start().len();
    let (lead, rest) = line.split_at(blank);
    if rest.starts_with('\\')
        || (rest.starts_with('.') && rest[1..].starts_with(|c: char| c.is_ascii_alphabetic()))
    {
        let word = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let command = Style::new().bold().fg(Color::Yellow);
        return [(Style::new(), lead), (command, &rest[..word]), (Style::new(), &rest[word..])]
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .collect();
    }
    tokens(line).map(|t| (style_of(t.kind, t.text), t.text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_line() {
        for line in [
            "SELECT 'a' -- x",
            "  \\d foo bar",
            ".tables",
            "select \"Ü\" from t where x = $1 and y > .5",
            "\u{1b}",
        ] {
            let joined: String = pieces(line).into_iter().map(|(_, t)| t).collect();
            assert_eq!(joined, line);
        }
    }

    #[test]
    fn styles() {
        let line = "SELECT name, 'x', 1 FROM t -- c";
        let styled: Vec<_> =
            pieces(line).into_iter().filter(|(s, _)| *s != Style::new()).map(|(_, t)| t).collect();
        assert_eq!(styled, ["SELECT", "'x'", "1", "FROM", "-- c"]);
    }

    #[test]
    fn the_line_is_remembered() {
        let h = SqlHighlighter::default();
        h.clone().highlight("SELECT", 0);
        assert_eq!(h.last_line(), "SELECT");
        h.reset();
        assert_eq!(h.last_line(), "");
    }
}
