//! What sqlparser does not read of `CREATE TABLE`.
//!
//! ```sql
//! CREATE TABLE t (a INT) CLUSTER BY (a);
//! CREATE TABLE names (a, b) AS SELECT 1, 2;
//! CREATE TABLE more (id BIGINT PRIMARY KEY, LIKE t INCLUDING DEFAULTS, extra TEXT);
//! CREATE TABLE copy LIKE t;
//! ```
//!
//! The clauses are cut out of the tokens and given back with the statement. In the place of a `LIKE` stands a column
//! that no table can have, so that its columns come where the clause was.

use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};
use triune_common::{Error, ErrorKind, Result};

use super::tables::keyword;
use super::{clip, position};
use crate::statement::{Included, LikeClause};

/// How the columns begin that stand for a `LIKE`; the number of the clause follows.
const PLACEHOLDER: &str = "@like";

/// What was cut out of a `CREATE TABLE`.
#[derive(Debug, Default)]
pub(super) struct Clauses {
    cluster_by: Option<Vec<Ident>>,
    /// Names without types.
    columns: Vec<Ident>,
    pub(super) like: Vec<LikeClause>,
}

impl Clauses {
    /// Puts back what the tree has a place for.
    pub(super) fn give_back(&mut self, table: &mut ast::CreateTable) {
        if let Some(columns) = self.cluster_by.take() {
            let columns = columns.into_iter().map(ast::Expr::Identifier).collect();
            table.cluster_by = Some(ast::WrappedCollection::Parentheses(columns));
        }
        let bare =
            |name: Ident| ast::ColumnDef { name, data_type: ast::DataType::Unspecified, options: vec![] };
        table.columns.extend(std::mem::take(&mut self.columns).into_iter().map(bare));
    }
}

/// The `LIKE` that a column stands for.
pub(crate) fn like_of(column: &ast::ColumnDef) -> Option<usize> {
    column.name.value.strip_prefix(PLACEHOLDER)?.parse().ok()
}

/// Cuts the clauses out.
pub(super) fn take(tokens: &mut Vec<TokenWithSpan>) -> Result<Clauses> {
    let mut clauses = Clauses::default();
    if Solid::of(tokens).after_name().is_none() {
        return Ok(clauses);
    }
    clauses.cluster_by = take_cluster_by(tokens)?;
    clauses.columns = take_names(tokens);
    clauses.like = take_like(tokens)?;
    Ok(clauses)
}

/// Tokens without the blanks between.
struct Solid<'a> {
    tokens: &'a [TokenWithSpan],
    places: Vec<usize>,
}

impl<'a> Solid<'a> {
    fn of(tokens: &'a [TokenWithSpan]) -> Self {
        let places =
            (0..tokens.len()).filter(|i| !matches!(tokens[*i].token, Token::Whitespace(_))).collect();
        Self { tokens, places }
    }

    fn at(&self, n: usize) -> Option<&'a TokenWithSpan> {
        self.places.get(n).map(|i| &self.tokens[*i])
    }

    fn is(&self, n: usize, token: &Token) -> bool {
        self.at(n).is_some_and(|t| t.token == *token)
    }

    fn word(&self, n: usize) -> Keyword {
        self.at(n).map_or(Keyword::NoKeyword, keyword)
    }

    fn ident(&self, n: usize) -> Option<Ident> {
        let token = self.at(n)?;
        match &token.token {
            Token::Word(word) => Some(word.clone().into_ident(token.span)),
            Token::SingleQuotedString(text) => {
                let mut ident = Ident::with_quote('\'', text.clone());
                ident.span = token.span;
                Some(ident)
            }
            _ => None,
        }
    }

    /// A name with dots, and the place after it.
    fn name(&self, from: usize) -> Option<(ObjectName, usize)> {
        let (mut parts, mut n) = (vec![self.ident(from)?], from + 1);
        while self.is(n, &Token::Period) {
            parts.push(self.ident(n + 1)?);
            n += 2;
        }
        Some((ObjectName::from(parts), n))
    }

    /// The place after `CREATE … TABLE [IF NOT EXISTS] name`; `None` for another statement.
    fn after_name(&self) -> Option<usize> {
        let explain = usize::from(self.word(0) == Keyword::EXPLAIN);
        if self.word(explain) != Keyword::CREATE {
            return None;
        }
        let modifies = |n: &usize| {
            matches!(
                self.word(*n),
                Keyword::OR
                    | Keyword::REPLACE
                    | Keyword::TEMP
                    | Keyword::TEMPORARY
                    | Keyword::LOCAL
                    | Keyword::GLOBAL
            )
        };
        let table = (explain + 1..).find(|n| !modifies(n))?;
        if self.word(table) != Keyword::TABLE {
            return None;
        }
        let exists = [Keyword::IF, Keyword::NOT, Keyword::EXISTS];
        let given = exists.iter().enumerate().all(|(i, k)| self.word(table + 1 + i) == *k);
        Some(self.name(table + if given { 4 } else { 1 })?.1)
    }

    fn wrong(&self, n: usize, expected: &str) -> Error {
        let found = self.at(n).map_or_else(|| "the end of the text".to_owned(), |t| clip(&t.to_string()));
        let at = self.at(n).and_then(|t| position(t.span.start));
        Error::new(ErrorKind::Syntax, format!("expected {expected}, found {found}")).at(at)
    }
}

/// Cuts `CLUSTER BY (a, b)` out.
fn take_cluster_by(tokens: &mut Vec<TokenWithSpan>) -> Result<Option<Vec<Ident>>> {
    let solid = Solid::of(tokens);
    let mut depth = 0_usize;
    let mut found = None;
    for n in 0..solid.places.len() {
        match solid.at(n).map(|t| &t.token) {
            Some(Token::LParen) => depth += 1,
            Some(Token::RParen) => depth = depth.saturating_sub(1),
            // What follows belongs to the query.
            _ if depth == 0 && solid.word(n) == Keyword::AS => break,
            _ if depth == 0 && solid.word(n) == Keyword::CLUSTER && solid.word(n + 1) == Keyword::BY => {
                found = Some(n);
                break;
            }
            _ => {}
        }
    }
    let Some(start) = found else { return Ok(None) };
    let wrong = |n: usize| {
        let at = solid.at(n).and_then(|t| position(t.span.start));
        Error::new(ErrorKind::Syntax, "CLUSTER BY takes columns in brackets: CLUSTER BY (a, b)").at(at)
    };
    if !solid.is(start + 2, &Token::LParen) {
        return Err(wrong(start + 2));
    }
    let Some((names, end)) = names(&solid, start + 3) else { return Err(wrong(start + 3)) };
    let (from, to) = (solid.places[start], solid.places[end]);
    tokens.drain(from..=to);
    Ok(Some(names))
}

/// `a, b)`: the names and the place of the bracket.
fn names(solid: &Solid<'_>, from: usize) -> Option<(Vec<Ident>, usize)> {
    let (mut names, mut n) = (Vec::new(), from);
    loop {
        let Token::Word(_) = solid.at(n)?.token else { return None };
        names.push(solid.ident(n)?);
        match solid.at(n + 1)?.token {
            Token::Comma => n += 2,
            Token::RParen => return Some((names, n + 1)),
            _ => return None,
        }
    }
}

/// Cuts `(a, b)` out: names only, which go with a query.
fn take_names(tokens: &mut Vec<TokenWithSpan>) -> Vec<Ident> {
    let solid = Solid::of(tokens);
    let Some(open) = solid.after_name().filter(|n| solid.is(*n, &Token::LParen)) else { return vec![] };
    // A query in brackets has one word only where it is a `LIKE` or nonsense.
    let Some((found, close)) = names(&solid, open + 1) else { return vec![] };
    let (from, to) = (solid.places[open], solid.places[close]);
    // What stood before and after must not grow together.
    let blank = Token::Whitespace(datafusion::sql::sqlparser::tokenizer::Whitespace::Space);
    let span = tokens[from].span;
    tokens.splice(from..=to, [TokenWithSpan { token: blank, span }]);
    found
}

/// Puts columns in the place of `LIKE t [INCLUDING … | EXCLUDING …]`.
fn take_like(tokens: &mut Vec<TokenWithSpan>) -> Result<Vec<LikeClause>> {
    let solid = Solid::of(tokens);
    let Some(start) = solid.after_name() else { return Ok(vec![]) };
    let mut found: Vec<(usize, usize, LikeClause)> = Vec::new();
    let plain = solid.word(start) == Keyword::LIKE;
    if plain {
        let (clause, end) = clause(&solid, start, Included::ALL)?;
        found.push((start, end, clause));
    } else if solid.is(start, &Token::LParen) {
        let (mut depth, mut n) = (0_usize, start);
        while let Some(token) = solid.at(n) {
            let begins = matches!(token.token, Token::LParen | Token::Comma) && depth <= 1;
            match token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                break;
            }
            n += 1;
            if begins && depth == 1 && solid.word(n) == Keyword::LIKE {
                let (clause, end) = clause(&solid, n, Included::default())?;
                found.push((n, end, clause));
                n = end;
            }
        }
    }
    let spans: Vec<(usize, usize)> =
        found.iter().map(|(from, end, _)| (solid.places[*from], solid.places[end - 1])).collect();
    for (number, (from, to)) in spans.into_iter().enumerate().rev() {
        let span = tokens[from].span;
        let name = Token::Word(Word {
            value: format!("{PLACEHOLDER}{number}"),
            quote_style: Some('"'),
            keyword: Keyword::NoKeyword,
        });
        let blank = Token::Whitespace(datafusion::sql::sqlparser::tokenizer::Whitespace::Space);
        let mut column = vec![name, blank.clone(), Token::make_keyword("INT")];
        if plain {
            column.insert(0, Token::LParen);
            column.extend([Token::RParen, blank]);
        }
        tokens.splice(from..=to, column.into_iter().map(|token| TokenWithSpan { token, span }));
    }
    Ok(found.into_iter().map(|(_, _, clause)| clause).collect())
}

/// The clause at a place, and the place after it.
fn clause(solid: &Solid<'_>, like: usize, mut included: Included) -> Result<(LikeClause, usize)> {
    let (source, mut n) =
        solid.name(like + 1).ok_or_else(|| solid.wrong(like + 1, "the name of a table after LIKE"))?;
    loop {
        let include = match solid.word(n) {
            Keyword::INCLUDING => true,
            Keyword::EXCLUDING => false,
            _ => break,
        };
        let what = solid.ident(n + 1).map(|i| i.value.to_ascii_uppercase()).unwrap_or_default();
        if !included.set(&what, include) {
            return Err(solid.wrong(n + 1, Included::WORDS));
        }
        n += 2;
    }
    let at = solid.at(like + 1).and_then(|t| position(t.span.start));
    Ok((LikeClause { source, included, at }, n))
}
