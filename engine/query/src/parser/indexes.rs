//! Statements on indexes. sqlparser reads some of them, but takes clauses that no index here has.

use datafusion::sql::sqlparser::ast::{Ident, ObjectName};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use triune_common::{Error, Result};

use super::{StatementParser, position};
use crate::statement::{AlterIndex, CreateIndex, Statement};

impl StatementParser {
    /// ```sql
    /// CREATE INDEX [CONCURRENTLY] [IF NOT EXISTS] [name] ON t [USING method] (column [class], …) [WITH (k = v, …)]
    /// ```
    pub(super) fn create_index(&mut self) -> Result<Statement> {
        self.inner.next_token();
        let at = position(self.inner.peek_token_ref().span.start);
        if self.inner.parse_keyword(Keyword::UNIQUE) {
            return Err(Error::unsupported(
                "CREATE UNIQUE INDEX is not supported, no index keeps keys unique",
            )
            .with_hint("PRIMARY KEY in CREATE TABLE does")
            .at(at));
        }
        self.expect_word("INDEX")?;
        // How it always works.
        let _ = self.inner.parse_keyword(Keyword::CONCURRENTLY);
        let if_not_exists = self.inner.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
        let name = match self.inner.peek_keyword(Keyword::ON) {
            true => None,
            false => Some(self.checked(|p| p.parse_object_name(false))?),
        };
        if name.is_none() && if_not_exists {
            return Err(self.unexpected("the name of the index (IF NOT EXISTS needs one)"));
        }
        self.expect_word("ON")?;
        let _ = self.inner.parse_keyword(Keyword::ONLY);
        let table = self.checked(|p| p.parse_object_name(false))?;
        let method = match self.inner.parse_keyword(Keyword::USING) {
            true => Some(self.checked(Parser::parse_identifier)?.value),
            false => None,
        };
        self.checked(|p| p.expect_token(&Token::LParen))?;
        let mut columns = vec![self.index_column()?];
        while self.inner.consume_token(&Token::Comma) {
            columns.push(self.index_column()?);
        }
        self.checked(|p| p.expect_token(&Token::RParen))?;
        let mut options = Vec::new();
        loop {
            let at = position(self.inner.peek_token_ref().span.start);
            if self.inner.parse_keyword(Keyword::WITH) {
                options.extend(self.option_list()?);
                continue;
            }
            for (word, clause) in [
                ("INCLUDE", "columns that it only carries (INCLUDE)"),
                ("WHERE", "a condition (WHERE), it covers all rows"),
                ("NULLS", "NULLS [NOT] DISTINCT"),
                ("TABLESPACE", "a TABLESPACE"),
                ("COMMENT", "a COMMENT"),
            ] {
                if self.word_at(0, &[word]) {
                    return Err(Error::unsupported(format!("an index cannot have {clause}")).at(at));
                }
            }
            break;
        }
        let index = CreateIndex { name, table, method, columns, options, if_not_exists };
        Ok(Statement::CreateIndex(Box::new(index)))
    }

    fn index_column(&mut self) -> Result<(Ident, Option<String>)> {
        let at = position(self.inner.peek_token_ref().span.start);
        let expression = || {
            Error::unsupported("an index of an expression is not supported, only of columns")
                .with_hint("add a column that holds the expression's value")
                .at(at)
        };
        if self.inner.peek_token_ref().token == Token::LParen {
            return Err(expression());
        }
        let name = self.checked(Parser::parse_identifier)?;
        let mut class = None;
        loop {
            let at = position(self.inner.peek_token_ref().span.start);
            match &self.inner.peek_token_ref().token {
                Token::Comma | Token::RParen => return Ok((name, class)),
                Token::Word(word) => {
                    let word = word.value.clone();
                    let refused = ["ASC", "DESC", "NULLS", "COLLATE"];
                    if refused.iter().any(|r| word.eq_ignore_ascii_case(r)) {
                        return Err(Error::unsupported(format!(
                            "a column of an index has no {}, rows are not kept in an order",
                            word.to_ascii_uppercase()
                        ))
                        .at(at));
                    }
                    if class.is_some() {
                        return Err(self.unexpected("a comma or a closing parenthesis"));
                    }
                    self.inner.next_token();
                    class = Some(word);
                }
                _ => return Err(expression()),
            }
        }
    }

    /// `DROP INDEX [CONCURRENTLY] [IF EXISTS] i, … [CASCADE | RESTRICT]`
    pub(super) fn drop_index(&mut self) -> Result<Statement> {
        self.inner.next_token();
        self.inner.next_token();
        let _ = self.inner.parse_keyword(Keyword::CONCURRENTLY);
        let if_exists = self.inner.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
        let mut names = vec![self.checked(|p| p.parse_object_name(false))?];
        while self.inner.consume_token(&Token::Comma) {
            names.push(self.checked(|p| p.parse_object_name(false))?);
        }
        // Nothing depends on an index.
        let _ = self.inner.parse_one_of_keywords(&[Keyword::CASCADE, Keyword::RESTRICT]);
        Ok(Statement::DropIndex { names, if_exists })
    }

    /// `REINDEX {INDEX | TABLE} [CONCURRENTLY] name`
    pub(super) fn reindex(&mut self) -> Result<Statement> {
        self.inner.next_token();
        let of_table = self.inner.parse_keyword(Keyword::TABLE);
        if !of_table && !self.consume_word("INDEX") {
            return Err(self.unexpected("INDEX or TABLE"));
        }
        let _ = self.inner.parse_keyword(Keyword::CONCURRENTLY);
        let name: ObjectName = self.checked(|p| p.parse_object_name(false))?;
        Ok(Statement::Reindex { name, of_table })
    }

    /// `ALTER INDEX [IF EXISTS] i {RENAME TO j | SET (k = v, …) | RESET (k, …)}`
    pub(super) fn alter_index(&mut self) -> Result<Statement> {
        self.inner.next_token();
        self.inner.next_token();
        let if_exists = self.inner.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
        let name = self.checked(|p| p.parse_object_name(false))?;
        let change = if self.inner.parse_keyword(Keyword::RENAME) {
            self.expect_word("TO")?;
            AlterIndex::RenameTo(self.checked(|p| p.parse_object_name(false))?)
        } else if self.inner.parse_keyword(Keyword::SET) {
            AlterIndex::Set(self.option_list()?)
        } else if self.inner.parse_keyword(Keyword::RESET) {
            AlterIndex::Reset(self.name_list()?)
        } else {
            return Err(self.unexpected("RENAME TO, SET (…) or RESET (…)"));
        };
        Ok(Statement::AlterIndex { name, if_exists, change })
    }
}
