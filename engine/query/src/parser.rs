//! From text to statements.
//!
//! ```text
//!  text ─ tokens with positions ─ merge `<` `+` `>` ─┬─ our statements (external.rs, copy.rs, secret.rs, explain)
//!                                                    └─ everything else: sqlparser
//! ```
//!
//! Limits: a statement nests at most [`NESTING_LIMIT`] levels deep.

mod copy;
pub(crate) mod create_table;
mod external;
mod indexes;
mod models;
mod nearest;
mod secret;
mod tables;
mod users;

use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName, ObjectNamePart, SetExpr};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use triune_common::{Error, ErrorKind, Position, Result};

use crate::dialect::TriuneDialect;
use crate::statement::{Explain, Statement};

/// How deep expressions and sub-queries may nest. A level takes stack in the parser, the planner and the
/// optimizer; beyond any statement that people write, an error is better than a dead process.
pub const NESTING_LIMIT: usize = 300;

static DIALECT: TriuneDialect = TriuneDialect {};

/// Parses exactly one statement; a `;` may follow it.
pub fn parse_one(sql: &str) -> Result<Statement> {
    let mut parser = StatementParser::new(sql)?;
    while parser.inner.consume_token(&Token::SemiColon) {}
    if parser.inner.peek_token_ref().token == Token::EOF {
        return Err(Error::new(ErrorKind::Syntax, "there is no statement in the text"));
    }
    let statement = parser.statement().map_err(|e| match e.kind() {
        // What sqlparser finds missing, it finds missing at the end.
        ErrorKind::Syntax => e.at(end_of(sql)),
        _ => e,
    })?;
    while parser.inner.consume_token(&Token::SemiColon) {}
    match parser.inner.peek_token_ref().token {
        Token::EOF => Ok(statement),
        _ => Err(parser.unexpected("the end of the statement")),
    }
}

/// The place after the last character that is no blank.
fn end_of(sql: &str) -> Option<Position> {
    let text = sql.trim_end();
    let line = text.lines().count() as u64;
    let column = text.lines().next_back().map_or(0, |l| l.chars().count()) as u64;
    Some(Position::new(line.max(1), column + 1))
}

/// Parses `name TYPE`, a field of a struct.
pub(crate) fn parse_field(text: &str) -> Result<(Ident, ast::DataType)> {
    let mut parser = StatementParser::new(text)?;
    let name = parser.checked(Parser::parse_identifier)?;
    let data_type = parser.checked(Parser::parse_data_type)?;
    match parser.inner.peek_token_ref().token {
        Token::EOF => Ok((name, data_type)),
        _ => Err(parser.unexpected("the end of the field")),
    }
}

/// Parses a `SELECT …` (the body of a stored view).
pub fn parse_query(sql: &str) -> Result<Box<ast::Query>> {
    match parse_one(sql)? {
        Statement::Sql(statement) => match *statement {
            ast::Statement::Query(query) => Ok(query),
            other => {
                Err(Error::invalid(format!("a query is expected, found {}", first_words(&other.to_string()))))
            }
        },
        _ => Err(Error::invalid("a query is expected")),
    }
}

pub(crate) fn first_words(text: &str) -> String {
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

pub(crate) struct StatementParser {
    pub(crate) inner: Parser<'static>,
    /// What sqlparser does not read of a `CREATE TABLE`.
    clauses: create_table::Clauses,
}

impl StatementParser {
    fn new(sql: &str) -> Result<Self> {
        let tokens = Tokenizer::new(&DIALECT, sql)
            .tokenize_with_location()
            .map_err(|e| Error::new(ErrorKind::Syntax, lower_first(&e.message)).at(position(e.location)))?;
        refuse_depth(&tokens)?;
        let mut tokens = merge_operators(tokens);
        let clauses = create_table::take(&mut tokens)?;
        tables::spell_do_nothing(&mut tokens);
        tables::order_identity_options(&mut tokens);
        tables::spell_structs(&mut tokens);
        nearest::spell(&mut tokens);
        nearest::spell_per(&mut tokens);
        let inner =
            Parser::new(&DIALECT).with_tokens_with_locations(tokens).with_recursion_limit(NESTING_LIMIT);
        Ok(Self { inner, clauses })
    }

    fn statement(&mut self) -> Result<Statement> {
        let Token::Word(word) = &self.inner.peek_token_ref().token else { return self.sql() };
        match (word.keyword, word.value.to_ascii_uppercase().as_str()) {
            (Keyword::CREATE, _) if self.create_is(&["EXTERNAL", "UNBOUNDED"]) => {
                self.create_external_table()
            }
            (Keyword::CREATE, _) if self.create_is(&["SECRET"]) => self.create_secret(),
            (Keyword::CREATE, _) if self.create_is(&["MODEL"]) => self.create_model(),
            (Keyword::DROP, _) if self.word_at(1, &["MODEL"]) => self.drop_model(),
            (Keyword::SHOW, _) if self.word_at(1, &["MODELS"]) => {
                self.inner.next_token();
                self.inner.next_token();
                Ok(Statement::ShowModels)
            }
            (Keyword::CREATE, _)
                if self.word_at(1, &["INDEX"])
                    || (self.word_at(1, &["UNIQUE"]) && self.word_at(2, &["INDEX"])) =>
            {
                self.create_index()
            }
            (Keyword::DROP, _) if self.word_at(1, &["INDEX"]) => self.drop_index(),
            (Keyword::ALTER, _) if self.word_at(1, &["INDEX"]) => self.alter_index(),
            (_, "REINDEX") => self.reindex(),
            (Keyword::CREATE, _) if self.word_at(1, &["USER"]) => self.create_user(),
            (Keyword::ALTER, _) if self.word_at(1, &["USER"]) => self.alter_user(),
            (Keyword::DROP, _) if self.word_at(1, &["USER"]) => self.drop_user(),
            (Keyword::SHOW, _) if self.word_at(1, &["USERS", "TOKENS"]) => Ok(self.show_users()),
            (Keyword::CREATE, _) if self.word_at(1, &["TOKEN"]) => self.create_token(),
            (Keyword::DROP, _) if self.word_at(1, &["TOKEN"]) => self.drop_token(),
            (Keyword::DROP, _) if self.word_at(1, &["SECRET"]) => self.drop_secret(),
            (Keyword::SHOW, _) if self.word_at(1, &["SECRETS"]) => {
                self.inner.next_token();
                self.inner.next_token();
                Ok(Statement::ShowSecrets)
            }
            (Keyword::SHOW, _) if self.word_at(1, &["INDEXES"]) => {
                self.inner.next_token();
                self.inner.next_token();
                Ok(Statement::ShowIndexes)
            }
            (Keyword::COPY, _) => self.copy(),
            (Keyword::EXPLAIN, _) => self.explain(),
            (Keyword::RESET, _) => self.reset(),
            (Keyword::DESCRIBE | Keyword::DESC, _) => {
                self.inner.next_token();
                let _ = self.inner.parse_keyword(Keyword::TABLE);
                Ok(Statement::Describe(self.relation_or_query()?))
            }
            (_, "CHECKPOINT" | "OPTIMIZE" | "REFRESH" | "RESTORE" | "ABORT") | (Keyword::VACUUM, _) => {
                self.maintenance()
            }
            (_, "SUMMARIZE") => {
                self.inner.next_token();
                let _ = self.inner.parse_keyword(Keyword::TABLE);
                Ok(Statement::Summarize(self.relation_or_query()?))
            }
            _ => self.sql(),
        }
    }

    fn sql(&mut self) -> Result<Statement> {
        let mut statement = self.checked(Parser::parse_statement)?;
        if let ast::Statement::CreateTable(table) = &mut statement {
            self.clauses.give_back(table);
            if !self.clauses.like.is_empty() {
                let like = std::mem::take(&mut self.clauses.like);
                return Ok(Statement::CreateTableLike { table: Box::new(table.clone()), like });
            }
        }
        Ok(Statement::Sql(Box::new(statement)))
    }

    /// Runs one of sqlparser's rules, giving its error a kind and a position.
    pub(crate) fn checked<T>(
        &mut self,
        rule: impl FnOnce(&mut Parser<'static>) -> Result<T, ParserError>,
    ) -> Result<T> {
        rule(&mut self.inner).map_err(parser_error)
    }

    /// A table's name or a query, as a query.
    pub(crate) fn relation_or_query(&mut self) -> Result<Box<ast::Query>> {
        if self.inner.consume_token(&Token::LParen) {
            let query = self.checked(Parser::parse_query)?;
            self.checked(|p| p.expect_token(&Token::RParen))?;
            return Ok(query);
        }
        let starts_query = [Keyword::SELECT, Keyword::WITH, Keyword::VALUES, Keyword::FROM];
        if starts_query.iter().any(|k| self.inner.peek_keyword(*k)) {
            return self.checked(Parser::parse_query);
        }
        let name = self.checked(|p| p.parse_object_name(true))?;
        query_of_relation(&name)
    }

    fn explain(&mut self) -> Result<Statement> {
        self.inner.next_token();
        let (mut analyze, mut verbose, mut recall, mut format) = (false, false, false, None);
        if self.inner.peek_token_ref().token == Token::LParen
            && !self.word_at(1, &["SELECT", "WITH", "VALUES", "FROM"])
        {
            self.inner.next_token();
            loop {
                let option = self.checked(Parser::parse_identifier)?;
                match option.value.to_ascii_uppercase().as_str() {
                    "ANALYZE" => analyze = self.on_or_off()?,
                    "VERBOSE" => verbose = self.on_or_off()?,
                    "RECALL" => recall = self.on_or_off()?,
                    "FORMAT" => format = Some(self.checked(Parser::parse_identifier)?.value),
                    other => {
                        return Err(Error::new(ErrorKind::Syntax, format!("EXPLAIN has no option {other}"))
                            .with_hint("it has ANALYZE, VERBOSE, RECALL and FORMAT")
                            .at(position(option.span.start)));
                    }
                }
                if !self.inner.consume_token(&Token::Comma) {
                    break;
                }
            }
            self.checked(|p| p.expect_token(&Token::RParen))?;
        } else {
            loop {
                if self.inner.parse_keyword(Keyword::ANALYZE) {
                    analyze = true;
                } else if self.inner.parse_keyword(Keyword::VERBOSE) {
                    verbose = true;
                } else if self.inner.parse_keyword(Keyword::FORMAT) {
                    format = Some(self.checked(Parser::parse_identifier)?.value);
                } else {
                    break;
                }
            }
        }
        let statement = Box::new(self.statement()?);
        Ok(Statement::Explain(Explain { analyze, verbose, recall, format, statement }))
    }

    fn on_or_off(&mut self) -> Result<bool> {
        if self.inner.parse_one_of_keywords(&[Keyword::TRUE, Keyword::ON]).is_some() {
            return Ok(true);
        }
        if self.inner.parse_keyword(Keyword::FALSE) || self.consume_word("OFF") {
            return Ok(false);
        }
        Ok(true)
    }

    fn reset(&mut self) -> Result<Statement> {
        self.inner.next_token();
        if self.inner.parse_keyword(Keyword::ALL) {
            return Ok(Statement::Reset(None));
        }
        let name = self.checked(|p| p.parse_object_name(false))?;
        Ok(Statement::Reset(Some(dotted(&name))))
    }

    /// Whether one of `words` follows CREATE and its modifiers.
    fn create_is(&self, words: &[&str]) -> bool {
        let mut at = 1;
        while self.word_at(at, &["OR", "REPLACE", "TEMP", "TEMPORARY", "PERSISTENT"]) {
            at += 1;
        }
        self.word_at(at, words)
    }

    pub(crate) fn word_at(&self, at: usize, words: &[&str]) -> bool {
        match &self.inner.peek_nth_token_ref(at).token {
            Token::Word(w) => words.iter().any(|x| w.value.eq_ignore_ascii_case(x)),
            _ => false,
        }
    }

    pub(crate) fn consume_word(&mut self, word: &str) -> bool {
        let found = self.word_at(0, &[word]);
        if found {
            self.inner.next_token();
        }
        found
    }

    pub(crate) fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.consume_word(word) { Ok(()) } else { Err(self.unexpected(word)) }
    }

    /// "expected …, found …" at the next token.
    pub(crate) fn unexpected(&self, expected: &str) -> Error {
        let token = self.inner.peek_token_ref();
        let found = match &token.token {
            Token::EOF => "the end of the text".to_owned(),
            t => clip(&t.to_string()),
        };
        Error::new(ErrorKind::Syntax, format!("expected {expected}, found {found}"))
            .at(position(token.span.start))
    }

    /// `(key value, key = value, …)`: keys are words with dots or strings, values words, strings, numbers.
    pub(crate) fn option_list(&mut self) -> Result<Vec<(String, String)>> {
        self.checked(|p| p.expect_token(&Token::LParen))?;
        let mut options: Vec<(String, String)> = Vec::new();
        while !self.inner.consume_token(&Token::RParen) {
            let at = position(self.inner.peek_token_ref().span.start);
            let key = self.option_key()?;
            let _ = self.inner.consume_token(&Token::Eq);
            let value = self.option_value()?;
            if options.iter().any(|(k, _)| k.eq_ignore_ascii_case(&key)) {
                return Err(Error::invalid(format!("the option {key} is given twice")).at(at));
            }
            options.push((key, value));
            if !self.inner.consume_token(&Token::Comma) && self.inner.peek_token_ref().token != Token::RParen
            {
                return Err(self.unexpected("a comma or a closing parenthesis"));
            }
        }
        Ok(options)
    }

    fn option_key(&mut self) -> Result<String> {
        let token = self.inner.next_token();
        match token.token {
            Token::Word(w) => {
                let mut key = w.value;
                while self.inner.consume_token(&Token::Period) {
                    key.push('.');
                    key.push_str(&self.checked(Parser::parse_identifier)?.value);
                }
                Ok(key)
            }
            Token::SingleQuotedString(s) => Ok(s),
            _ => {
                self.inner.prev_token();
                Err(self.unexpected("the name of an option"))
            }
        }
    }

    fn option_value(&mut self) -> Result<String> {
        let negative = self.inner.consume_token(&Token::Minus);
        let token = self.inner.next_token();
        match token.token {
            Token::Word(w) if !negative => Ok(w.value),
            Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s) if !negative => Ok(s),
            Token::DollarQuotedString(s) if !negative => Ok(s.value),
            Token::Number(n, _) => Ok(if negative { format!("-{n}") } else { n }),
            // Lists: SCOPE ('s3://a', 's3://b')
            Token::LParen if !negative => {
                let mut parts = vec![self.option_value()?];
                while self.inner.consume_token(&Token::Comma) {
                    parts.push(self.option_value()?);
                }
                self.checked(|p| p.expect_token(&Token::RParen))?;
                Ok(parts.join(","))
            }
            _ => {
                self.inner.prev_token();
                Err(self.unexpected("a value: a word, a number or a text in quotes"))
            }
        }
    }

    pub(crate) fn text(&mut self, what: &str) -> Result<String> {
        match self.inner.next_token().token {
            Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s) => Ok(s),
            Token::DollarQuotedString(s) => Ok(s.value),
            _ => {
                self.inner.prev_token();
                Err(self.unexpected(&format!("{what} in single quotes")))
            }
        }
    }

    pub(crate) fn name_list(&mut self) -> Result<Vec<String>> {
        self.checked(|p| p.expect_token(&Token::LParen))?;
        let mut names = Vec::new();
        while !self.inner.consume_token(&Token::RParen) {
            names.push(normalize(&self.checked(Parser::parse_identifier)?));
            if !self.inner.consume_token(&Token::Comma) && self.inner.peek_token_ref().token != Token::RParen
            {
                return Err(self.unexpected("a comma or a closing parenthesis"));
            }
        }
        Ok(names)
    }
}

/// `SELECT * FROM name`, built as a tree so that any name keeps its quotes.
fn query_of_relation(name: &ObjectName) -> Result<Box<ast::Query>> {
    parse_query(&format!("SELECT * FROM {name}"))
}

/// Whether a name has to be quoted because it is a word of SQL's.
pub(crate) fn is_keyword(name: &str) -> bool {
    use datafusion::sql::sqlparser::keywords::{
        ALL_KEYWORDS, ALL_KEYWORDS_INDEX, RESERVED_FOR_COLUMN_ALIAS, RESERVED_FOR_IDENTIFIER,
        RESERVED_FOR_TABLE_ALIAS,
    };
    let Ok(at) = ALL_KEYWORDS.binary_search(&name.to_ascii_uppercase().as_str()) else { return false };
    let keyword = ALL_KEYWORDS_INDEX[at];
    RESERVED_FOR_COLUMN_ALIAS.contains(&keyword)
        || RESERVED_FOR_TABLE_ALIAS.contains(&keyword)
        || RESERVED_FOR_IDENTIFIER.contains(&keyword)
        || DIALECT.is_reserved_for_identifier(keyword)
        || matches!(
            keyword,
            Keyword::PRIMARY
                | Keyword::CHECK
                | Keyword::CONSTRAINT
                | Keyword::UNIQUE
                | Keyword::DEFAULT
                | Keyword::TABLE
        )
}

/// An identifier as the catalog knows it: folded to lower case unless it was quoted.
pub fn normalize(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// The parts of a qualified name, normalised.
pub fn name_parts(name: &ObjectName) -> Vec<String> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => normalize(ident),
            ObjectNamePart::Function(f) => f.to_string(),
        })
        .collect()
}

pub fn dotted(name: &ObjectName) -> String {
    name_parts(name).join(".")
}

/// Whether a query is a bare `VALUES` or a set operation rather than a `SELECT`.
pub fn is_select(query: &ast::Query) -> bool {
    matches!(query.body.as_ref(), SetExpr::Select(_))
}

/// What sqlparser's tokenizer does not know: `<+>` is one operator (three neighbours without a blank between), and a
/// keyword before `=>` is the name of an argument (`where => …`).
fn merge_operators(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut named = None;
    for i in 0..tokens.len() {
        match &tokens[i].token {
            Token::RArrow | Token::Assignment => {
                if let Some(Token::Word(word)) = named.take().map(|n: usize| &mut tokens[n].token) {
                    word.keyword = Keyword::NoKeyword;
                }
            }
            Token::Word(_) => named = Some(i),
            Token::Whitespace(_) => {}
            _ => named = None,
        }
    }
    let mut merged: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if token.token == Token::Lt
            && tokens.peek().is_some_and(|t| t.token == Token::Plus && t.span.start == token.span.end)
            && let Some(plus) = tokens.next()
        {
            if let Some(gt) = tokens.next_if(|t| t.token == Token::Gt && t.span.start == plus.span.end) {
                let mut operator = token;
                operator.token = Token::CustomBinaryOperator("<+>".to_owned());
                operator.span.end = gt.span.end;
                merged.push(operator);
                continue;
            }
            merged.push(token);
            merged.push(plus);
            continue;
        }
        merged.push(token);
    }
    merged
}

/// sqlparser counts levels too, but where it tries one reading after another it may swallow that error.
fn refuse_depth(tokens: &[TokenWithSpan]) -> Result<()> {
    let (mut depth, mut signs) = (0_usize, 0_usize);
    for token in tokens {
        signs = match &token.token {
            Token::Plus | Token::Minus | Token::Tilde => signs + 1,
            Token::Word(word) if word.keyword == Keyword::NOT => signs + 1,
            Token::Whitespace(_) => signs,
            _ => 0,
        };
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            Token::Word(word) if word.keyword == Keyword::CASE => depth += 1,
            Token::Word(word) if word.keyword == Keyword::END => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth.max(signs) > NESTING_LIMIT {
            return Err(parser_error(ParserError::RecursionLimitExceeded).at(position(token.span.start)));
        }
    }
    Ok(())
}

pub(crate) fn position(location: Location) -> Option<Position> {
    (location.line > 0).then(|| Position::new(location.line, location.column))
}

/// sqlparser writes positions into its messages; they are taken out again.
pub(crate) fn parser_error(error: ParserError) -> Error {
    match error {
        ParserError::RecursionLimitExceeded => Error::new(
            ErrorKind::Resources,
            format!("the statement nests more than {NESTING_LIMIT} levels deep"),
        )
        .with_hint("take parts of it into WITH clauses or views"),
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => {
            let (message, at) = cut_position(&text);
            Error::new(ErrorKind::Syntax, lower_first(&message.replace("Expected: ", "expected "))).at(at)
        }
    }
}

/// Splits `… at Line: 3, Column: 14` into the message and the position.
fn cut_position(text: &str) -> (String, Option<Position>) {
    let end_of_text =
        |text: &str| text.replace("found: EOF", "found the end of the text").replace("found: ", "found ");
    let Some(at) = text.rfind(" at Line: ") else { return (clip(&end_of_text(text)), None) };
    let mut numbers = text[at..].split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u64>().ok());
    let found = numbers.next().zip(numbers.next()).map(|(l, c)| Position::new(l, c));
    let text = &text[..at];
    // A comma may be what was found.
    let text = if text.ends_with("found: ,") { text } else { text.trim_end_matches(',') };
    (clip(&end_of_text(text)), found)
}

/// A message must stay readable when the statement is not.
fn clip(text: &str) -> String {
    const LONGEST: usize = 300;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

pub(crate) fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        // "SELECT …" and "EOF" keep their letters, "Unexpected …" does not.
        (Some(a), Some(b)) if a.is_uppercase() && b.is_lowercase() => {
            a.to_lowercase().chain(std::iter::once(b)).chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
