//! Where the cursor stands: after `FROM`, after `t.`, inside a quoted text, in a command's argument.

use crate::catalog::{Catalog, TableEntry};
use crate::commands::{self, CommandHelp};
use crate::lex::{Token, TokenKind, tokens};

/// What may be put at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Inside a comment or a number: nothing is offered.
    Nothing,
    /// The beginning of a statement.
    Start,
    /// A shell command's name.
    Command,
    /// An argument of this command.
    Argument(&'static CommandHelp),
    /// Inside `'…'`.
    File,
    Table,
    /// After `name.`.
    Member(String),
    /// After `::`.
    Type,
    Expression,
}

/// The place, what has been typed of the word, and the statement around it.
#[derive(Debug)]
pub(super) struct Position<'a> {
    pub(super) place: Place,
    pub(super) typed: String,
    /// Where the typed part begins, in bytes.
    pub(super) start: usize,
    /// The code of the statement in which the cursor is, without the word at the cursor.
    statement: Vec<Token<'a>>,
}

/// Words after which a table is named.
const BEFORE_TABLES: [&str; 9] =
    ["FROM", "JOIN", "INTO", "UPDATE", "TABLE", "DESCRIBE", "DESC", "SUMMARIZE", "TRUNCATE"];
/// Words that end a list of tables.
const AFTER_TABLES: [&str; 14] = [
    "WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "SELECT", "SET", "ON", "USING", "VALUES", "QUALIFY",
    "UNION", "WINDOW", "OFFSET",
];

impl<'a> Position<'a> {
    pub(super) fn find(text: &'a str, cursor: usize) -> Self {
        let before = &text[..cursor];
        if let Some(position) = Self::in_command(before) {
            return position;
        }
        let all: Vec<Token<'a>> = tokens(text).collect();
        let left: Vec<Token<'_>> = tokens(before).collect();
        let here = left.last().copied();
        let (mut place, mut typed, mut start) = (None, String::new(), cursor);
        if let Some(token) = here {
            match token.kind {
                TokenKind::Comment if !token.closed => place = Some(Place::Nothing),
                TokenKind::Text if !token.closed => {
                    if token.text.starts_with('\'') {
                        place = Some(Place::File);
                        start = token.start + 1;
                        typed = token.text[1..].to_owned();
                    } else {
                        place = Some(Place::Nothing);
                    }
                }
                TokenKind::Number | TokenKind::Parameter => place = Some(Place::Nothing),
                TokenKind::Word => {
                    start = token.start;
                    typed = token.text.to_owned();
                }
                TokenKind::QuotedName if !token.closed => {
                    start = token.start;
                    typed = token.text.to_owned();
                }
                _ => {}
            }
        }
        // The statement runs from the semicolon before the word to the one after it.
        let code = |t: &&Token<'_>| t.is_code() && !(t.start <= start && start < t.end() && start < cursor);
        let from =
            all.iter().filter(|t| t.end() <= start && t.text == ";").map(Token::end).next_back().unwrap_or(0);
        let to = all
            .iter()
            .filter(|t| t.start >= cursor && t.text == ";")
            .map(|t| t.start)
            .next()
            .unwrap_or(text.len());
        let statement: Vec<Token<'a>> =
            all.iter().filter(|t| t.start >= from && t.end() <= to).filter(code).copied().collect();
        let place = place.unwrap_or_else(|| Self::place(&statement, start));
        Self { place, typed, start, statement }
    }

    fn in_command(before: &str) -> Option<Self> {
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        let line = &before[line_start..];
        let blank = line.len() - line.trim_start().len();
        let rest = &line[blank..];
        let is_command = rest.starts_with('\\')
            || (rest.starts_with('.')
                && (rest.len() == 1 || rest[1..].starts_with(|c: char| c.is_ascii_alphabetic())));
        // In the middle of a statement, `.5` and `.name` are SQL.
        let open =
            !crate::lex::is_blank(&before[..line_start]) && !before[..line_start].trim_end().ends_with(';');
        if !is_command || (open && rest.starts_with('.')) {
            return None;
        }
        let at = line_start + blank;
        let word = rest.find(char::is_whitespace);
        let (place, start) = match word {
            None => (Place::Command, at),
            Some(end) => {
                let argument = rest.rfind(char::is_whitespace).map_or(0, |n| n + 1);
                let place = commands::find(&rest[..end]).map_or(Place::Nothing, Place::Argument);
                (place, at + argument)
            }
        };
        let mut typed = before[start..].to_owned();
        let mut start = start;
        // `\i 'my file`: the quote is kept.
        if typed.starts_with('\'') {
            typed.remove(0);
            start += 1;
        }
        Some(Self { place, typed, start, statement: Vec::new() })
    }

    fn place(statement: &[Token<'_>], start: usize) -> Place {
        let left: Vec<&Token<'_>> = statement.iter().filter(|t| t.end() <= start).collect();
        let Some(last) = left.last() else { return Place::Start };
        if last.text == "." && last.end() == start {
            let qualifier = left.get(left.len().wrapping_sub(2)).and_then(|t| t.name());
            return qualifier.map_or(Place::Nothing, Place::Member);
        }
        if last.text == ":" && left.get(left.len().wrapping_sub(2)).is_some_and(|t| t.text == ":") {
            return Place::Type;
        }
        if last.kind == TokenKind::Word && BEFORE_TABLES.iter().any(|w| last.is_word(w)) {
            return Place::Table;
        }
        // `FROM a, |`: a comma in a list of tables, not inside parentheses.
        if last.text == "," {
            let mut depth = 0;
            for token in left.iter().rev() {
                match token.text {
                    ")" => depth += 1,
                    "(" if depth == 0 => break,
                    "(" => depth -= 1,
                    _ if depth > 0 => {}
                    _ if token.is_word("FROM") => return Place::Table,
                    _ if AFTER_TABLES.iter().any(|w| token.is_word(w)) => break,
                    _ => {}
                }
            }
        }
        Place::Expression
    }

    /// The tables that the statement names after `FROM` and `JOIN`, each with the name it is called by.
    pub(super) fn scope<'c>(&self, catalog: &'c Catalog) -> Vec<(&'c TableEntry, String)> {
        let mut found: Vec<(&TableEntry, String)> = Vec::new();
        let tokens = &self.statement;
        let mut at = 0;
        while at < tokens.len() {
            let starts = ["FROM", "JOIN", "INTO", "UPDATE"].iter().any(|w| tokens[at].is_word(w));
            at += 1;
            if !starts {
                continue;
            }
            // name [. name] [[AS] alias] {, …}
            while let Some(name) = tokens.get(at).and_then(Token::name) {
                let mut parts = vec![name];
                at += 1;
                while tokens.get(at).is_some_and(|t| t.text == ".") {
                    let Some(next) = tokens.get(at + 1).and_then(Token::name) else { break };
                    parts.push(next);
                    at += 2;
                }
                let name = parts.pop().unwrap_or_default();
                let schema = parts.pop();
                if tokens.get(at).is_some_and(|t| t.is_word("AS")) {
                    at += 1;
                }
                let mut alias = name.clone();
                if let Some(next) = tokens.get(at)
                    && !crate::keywords::is_keyword(next.text)
                    && let Some(given) = next.name()
                {
                    alias = given;
                    at += 1;
                }
                for table in catalog.find_tables(schema.as_deref(), &name) {
                    if !found.iter().any(|(t, a)| std::ptr::eq(*t, table) && *a == alias) {
                        found.push((table, alias.clone()));
                    }
                }
                if tokens.get(at).is_some_and(|t| t.text == ",") {
                    at += 1;
                } else {
                    break;
                }
            }
        }
        found
    }
}
