//! What sqlparser does not read of our statements on tables.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};
use triune_common::Result;

use super::StatementParser;
use crate::dml::merge::NOTHING;
use crate::statement::Statement;

impl StatementParser {
    /// ```sql
    /// CHECKPOINT
    /// REFRESH
    /// OPTIMIZE [TABLE] t
    /// VACUUM [TABLE] [t]
    /// RESTORE [TABLE] t TO {(VERSION => n) | VERSION n | TIMESTAMP '…'}
    /// ABORT [WORK | TRANSACTION]
    /// ```
    pub(super) fn maintenance(&mut self) -> Result<Statement> {
        let word = self.inner.next_token().to_string().to_ascii_uppercase();
        match word.as_str() {
            "CHECKPOINT" => Ok(Statement::Checkpoint),
            "REFRESH" => Ok(Statement::Refresh),
            "ABORT" => {
                let _ = self.inner.parse_one_of_keywords(&[Keyword::WORK, Keyword::TRANSACTION]);
                Ok(Statement::Abort)
            }
            "OPTIMIZE" => {
                let _ = self.inner.parse_keyword(Keyword::TABLE);
                Ok(Statement::Optimize(self.checked(|p| p.parse_object_name(false))?))
            }
            "VACUUM" => {
                let _ = self.inner.parse_keyword(Keyword::TABLE);
                if matches!(self.inner.peek_token_ref().token, Token::EOF | Token::SemiColon) {
                    return Ok(Statement::Vacuum(None));
                }
                Ok(Statement::Vacuum(Some(self.checked(|p| p.parse_object_name(false))?)))
            }
            _ => {
                let _ = self.inner.parse_keyword(Keyword::TABLE);
                let table = self.checked(|p| p.parse_object_name(false))?;
                self.expect_word("TO")?;
                let brackets = self.inner.consume_token(&Token::LParen);
                let is_version = self.consume_word("VERSION");
                if !is_version && !self.consume_word("TIMESTAMP") {
                    return Err(self.unexpected("VERSION => n or TIMESTAMP => '…'"));
                }
                let _ = self.inner.consume_token(&Token::RArrow);
                let value = self.checked(Parser::parse_expr)?;
                if brackets {
                    self.checked(|p| p.expect_token(&Token::RParen))?;
                }
                Ok(Statement::Restore { table, version: Box::new(value), is_number: is_version })
            }
        }
    }
}

pub(super) fn keyword(token: &TokenWithSpan) -> Keyword {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => word.keyword,
        _ => Keyword::NoKeyword,
    }
}

/// Within MERGE, `THEN DO NOTHING` becomes an action on a column that no table has.
pub(super) fn spell_do_nothing(tokens: &mut Vec<TokenWithSpan>) {
    let solid: Vec<usize> =
        (0..tokens.len()).filter(|i| !matches!(tokens[*i].token, Token::Whitespace(_))).collect();
    let word = |n: usize| solid.get(n).map_or(Keyword::NoKeyword, |i| keyword(&tokens[*i]));
    if !(0..solid.len()).any(|n| word(n) == Keyword::MERGE) {
        return;
    }
    let mut spelled = Vec::new();
    for n in 0..solid.len() {
        if word(n) != Keyword::THEN || word(n + 1) != Keyword::DO || word(n + 2) != Keyword::NOTHING {
            continue;
        }
        // WHEN [NOT] MATCHED [BY SOURCE | BY TARGET] …
        let when = (0..n)
            .rev()
            .find(|m| word(*m) == Keyword::WHEN && matches!(word(m + 1), Keyword::MATCHED | Keyword::NOT));
        let inserts = when.is_some_and(|m| word(m + 1) == Keyword::NOT && word(m + 4) != Keyword::SOURCE);
        spelled.push((solid[n + 1], solid[n + 2], inserts));
    }
    for (from, to, inserts) in spelled.into_iter().rev() {
        let span = tokens[from].span;
        let keyword = |text: &str| Token::make_keyword(text);
        let column = Token::Word(Word {
            value: NOTHING.to_owned(),
            quote_style: Some('"'),
            keyword: Keyword::NoKeyword,
        });
        let zero = Token::Number("0".to_owned(), false);
        let action = if inserts {
            vec![
                keyword("INSERT"),
                Token::LParen,
                column,
                Token::RParen,
                keyword("VALUES"),
                Token::LParen,
                zero,
                Token::RParen,
            ]
        } else {
            vec![keyword("UPDATE"), keyword("SET"), column, Token::Eq, zero]
        };
        tokens.splice(from..=to, action.into_iter().map(|token| TokenWithSpan { token, span }));
    }
}

/// `IDENTITY (START WITH 10 INCREMENT BY 5)`: sqlparser wants INCREMENT first, the standard takes any order.
pub(super) fn order_identity_options(tokens: &mut Vec<TokenWithSpan>) {
    let mut at = 0;
    while let Some(found) = (at..tokens.len()).find(|i| keyword(&tokens[*i]) == Keyword::IDENTITY) {
        at = found + 1;
        let mut solid =
            (found + 1..tokens.len()).filter(|i| !matches!(tokens[*i].token, Token::Whitespace(_)));
        let Some(open) = solid.next().filter(|i| tokens[*i].token == Token::LParen) else { continue };
        let Some(close) = (open..tokens.len()).find(|i| tokens[*i].token == Token::RParen) else { continue };
        let Some(start) = (open..close).find(|i| keyword(&tokens[*i]) == Keyword::INCREMENT) else {
            continue;
        };
        let next = |i: &usize| {
            matches!(
                keyword(&tokens[*i]),
                Keyword::START
                    | Keyword::MINVALUE
                    | Keyword::MAXVALUE
                    | Keyword::CACHE
                    | Keyword::CYCLE
                    | Keyword::NO
            )
        };
        let end = (start + 1..close).find(next).unwrap_or(close);
        let mut moved: Vec<TokenWithSpan> = tokens.drain(start..end).collect();
        if let Some(last) = moved.last().cloned() {
            // What stood before it may have been its only separation from what follows now.
            let blank = Token::Whitespace(datafusion::sql::sqlparser::tokenizer::Whitespace::Space);
            moved.push(TokenWithSpan { token: blank, span: last.span });
        }
        tokens.splice(open + 1..open + 1, moved);
    }
}

/// `STRUCT(x INT, y TEXT)` is read in other dialects than ours; each field becomes a modifier of a type `STRUCT`:
/// `STRUCT('x INT', 'y TEXT')`. A call of the function `struct` has no two words side by side.
pub(super) fn spell_structs(tokens: &mut Vec<TokenWithSpan>) {
    let mut at = 0;
    while let Some(found) = (at..tokens.len()).find(|i| keyword(&tokens[*i]) == Keyword::STRUCT) {
        at = found + 1;
        let solid: Vec<usize> = (found + 1..tokens.len())
            .filter(|i| !matches!(tokens[*i].token, Token::Whitespace(_)))
            .take(3)
            .collect();
        let [open, name, data_type] = solid.as_slice() else { continue };
        let is_word = |i: usize| matches!(tokens[i].token, Token::Word(_));
        if tokens[*open].token != Token::LParen || !is_word(*name) || !is_word(*data_type) {
            continue;
        }
        let (mut depth, mut fields, mut field) = (0_usize, Vec::new(), String::new());
        let mut close = None;
        for (i, token) in tokens.iter().enumerate().skip(*open) {
            match &token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            match &token.token {
                Token::LParen if i == *open => {}
                Token::RParen if depth == 0 => {
                    fields.push(std::mem::take(&mut field));
                    close = Some(i);
                    break;
                }
                Token::Comma if depth == 1 => fields.push(std::mem::take(&mut field)),
                other => field.push_str(&other.to_string()),
            }
        }
        let Some(close) = close else { return };
        let span = tokens[*open].span;
        let mut spelled = vec![Token::LParen];
        for (i, field) in fields.into_iter().enumerate() {
            if i > 0 {
                spelled.push(Token::Comma);
            }
            spelled.push(Token::SingleQuotedString(field.trim().to_owned()));
        }
        spelled.push(Token::RParen);
        let from = *open;
        tokens.splice(from..=close, spelled.into_iter().map(|token| TokenWithSpan { token, span }));
    }
}
