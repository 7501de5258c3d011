//! `?` as JDBC, ODBC and DB-API write parameters: numbered from the left.
//!
//! ```sql
//! SELECT * FROM docs WHERE id = ? AND attrs ? 'lang'   -- becomes … id = $1 AND attrs ? 'lang'
//! ```
//!
//! `?` is an operator of JSON's too. It is one where an operand stands before it and another after it.

use std::borrow::Cow;

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::dialect::TriuneDialect;
use crate::parser::is_keyword;

/// Writes `$1`, `$2` … for each `?` that stands for a value; a text that cannot be read is given back as it is.
pub fn number_marks(sql: &str) -> Cow<'_, str> {
    if !sql.contains('?') {
        return Cow::Borrowed(sql);
    }
    let Ok(tokens) = Tokenizer::new(&TriuneDialect {}, sql).tokenize_with_location() else {
        return Cow::Borrowed(sql);
    };
    let tokens: Vec<&TokenWithSpan> =
        tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect();
    let mut places = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|i| tokens.get(i));
        let is_operator = before.is_some_and(|t| ends_operand(&t.token))
            && tokens.get(i + 1).is_some_and(|t| starts_operand(&t.token));
        if is_mark(&token.token) && !is_operator {
            places.push((token.span.start.line, token.span.start.column));
        }
    }
    let mut out = String::with_capacity(sql.len() + places.len());
    let mut next = places.iter().enumerate().peekable();
    let (mut line, mut column) = (1, 1);
    for c in sql.chars() {
        match next.peek() {
            Some((n, place)) if **place == (line, column) => {
                out.push_str(&format!("${}", n + 1));
                next.next();
            }
            _ => out.push(c),
        }
        if c == '\n' {
            (line, column) = (line + 1, 1);
        } else {
            column += 1;
        }
    }
    Cow::Owned(out)
}

fn is_mark(token: &Token) -> bool {
    matches!(token, Token::Question) || matches!(token, Token::Placeholder(p) if p == "?")
}

fn is_name(token: &Token) -> bool {
    matches!(token, Token::Word(w)
        if w.quote_style.is_some() || w.keyword == Keyword::NoKeyword || !is_word_of_statement(w.keyword, &w.value))
}

/// Words that no column is called without quotes, and those that stand before a value.
fn is_word_of_statement(keyword: Keyword, text: &str) -> bool {
    use Keyword as K;
    is_keyword(text)
        || matches!(
            keyword,
            K::SELECT
                | K::WHERE
                | K::AND
                | K::OR
                | K::NOT
                | K::IN
                | K::LIKE
                | K::ILIKE
                | K::BETWEEN
                | K::THEN
                | K::ELSE
                | K::WHEN
                | K::CASE
                | K::END
                | K::ON
                | K::LIMIT
                | K::OFFSET
                | K::VALUES
                | K::RETURNING
                | K::SET
                | K::BY
                | K::FROM
                | K::HAVING
                | K::USING
                | K::IS
                | K::ALL
                | K::ANY
                | K::DISTINCT
                | K::AS
                | K::FETCH
                | K::ROWS
                | K::ROW
                | K::ASC
                | K::DESC
                | K::ESCAPE
                | K::INTERVAL
                | K::EXISTS
        )
}

fn ends_operand(token: &Token) -> bool {
    is_name(token)
        || is_mark(token)
        || matches!(
            token,
            Token::RParen
                | Token::RBracket
                | Token::Number(..)
                | Token::SingleQuotedString(_)
                | Token::DollarQuotedString(_)
                | Token::EscapedStringLiteral(_)
                | Token::Placeholder(_)
        )
}

fn starts_operand(token: &Token) -> bool {
    is_name(token)
        || is_mark(token)
        || matches!(
            token,
            Token::LParen
                | Token::Number(..)
                | Token::SingleQuotedString(_)
                | Token::DollarQuotedString(_)
                | Token::EscapedStringLiteral(_)
                | Token::Placeholder(_)
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_get_numbers_and_operators_stay() {
        for (given, wanted) in [
            ("SELECT 1", "SELECT 1"),
            ("SELECT ?", "SELECT $1"),
            ("SELECT ? + ?, '?' -- ?\n, \"?\"", "SELECT $1 + $2, '?' -- ?\n, \"?\""),
            ("INSERT INTO t VALUES (?, ?),(?,?)", "INSERT INTO t VALUES ($1, $2),($3,$4)"),
            (
                "SELECT * FROM t WHERE é = ? LIMIT ? OFFSET ?",
                "SELECT * FROM t WHERE é = $1 LIMIT $2 OFFSET $3",
            ),
            ("SELECT doc ? 'key' FROM t WHERE id = ?", "SELECT doc ? 'key' FROM t WHERE id = $1"),
            ("SELECT doc ? ? FROM t", "SELECT doc ? $1 FROM t"),
            (
                "SELECT * FROM t WHERE a BETWEEN ? AND ? OR b IN (?, ?)",
                "SELECT * FROM t WHERE a BETWEEN $1 AND $2 OR b IN ($3, $4)",
            ),
            (
                "UPDATE t SET a = ? WHERE b LIKE ? ESCAPE '\\'",
                "UPDATE t SET a = $1 WHERE b LIKE $2 ESCAPE '\\'",
            ),
            ("SELECT CASE WHEN ? THEN ? ELSE ? END", "SELECT CASE WHEN $1 THEN $2 ELSE $3 END"),
            ("SELECT ?::INT, CAST(? AS TEXT)", "SELECT $1::INT, CAST($2 AS TEXT)"),
            ("SELECT 'torn ?", "SELECT 'torn ?"),
        ] {
            assert_eq!(number_marks(given), wanted, "{given}");
        }
    }
}
