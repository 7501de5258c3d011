//! `COPY … TO`.

use datafusion::sql::sqlparser::tokenizer::Token;
use triune_common::{Error, Result};

use super::{StatementParser, position};
use crate::statement::{CopyTo, Statement};

impl StatementParser {
    /// ```sql
    /// COPY {table | (query)} TO '…' [(FORMAT parquet, COMPRESSION zstd, …)]
    ///   [STORED AS format] [PARTITIONED BY (column, …)] [OPTIONS (key value, …)]
    /// ```
    pub(super) fn copy(&mut self) -> Result<Statement> {
        self.inner.next_token();
        let query = self.relation_or_query()?;
        if self.inner.peek_token_ref().token == Token::LParen || self.word_at(0, &["FROM"]) {
            return Err(Error::unsupported("COPY … FROM is not supported yet")
                .with_hint("read the file in place: SELECT * FROM 'file.parquet'")
                .at(position(self.inner.peek_token_ref().span.start)));
        }
        self.expect_word("TO")?;
        let target = self.text("the target")?;
        let mut copy =
            CopyTo { query, target, format: None, partition_columns: Vec::new(), options: Vec::new() };
        loop {
            if self.inner.peek_token_ref().token == Token::LParen {
                let options = self.option_list()?;
                self.take_options(&mut copy, options)?;
            } else if self.consume_word("STORED") {
                self.expect_word("AS")?;
                copy.format = Some(self.word_or_text("a format")?);
            } else if self.consume_word("PARTITIONED") {
                self.expect_word("BY")?;
                copy.partition_columns = self.name_list()?;
            } else if self.consume_word("OPTIONS") {
                let options = self.option_list()?;
                self.take_options(&mut copy, options)?;
            } else if matches!(self.inner.peek_token_ref().token, Token::EOF | Token::SemiColon) {
                return Ok(Statement::Copy(Box::new(copy)));
            } else {
                return Err(self.unexpected("(FORMAT …), STORED AS, PARTITIONED BY or OPTIONS"));
            }
        }
    }

    /// FORMAT and PARTITION_BY are DuckDB's spellings of clauses; the rest are options of the format.
    fn take_options(&mut self, copy: &mut CopyTo, options: Vec<(String, String)>) -> Result<()> {
        for (key, value) in options {
            match key.to_ascii_uppercase().as_str() {
                "FORMAT" => copy.format = Some(value),
                "PARTITION_BY" => {
                    copy.partition_columns = value.split(',').map(|c| c.trim().to_owned()).collect();
                }
                _ => copy.options.push((key, value)),
            }
        }
        Ok(())
    }

    fn word_or_text(&mut self, what: &str) -> Result<String> {
        match self.inner.next_token().token {
            Token::Word(w) => Ok(w.value),
            Token::SingleQuotedString(s) => Ok(s),
            _ => {
                self.inner.prev_token();
                Err(self.unexpected(what))
            }
        }
    }
}
