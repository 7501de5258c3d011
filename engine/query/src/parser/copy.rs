//! `COPY … TO` and `COPY … FROM`.

use datafusion::sql::sqlparser::ast::{self, Ident, ObjectName};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::IsOptional;
use datafusion::sql::sqlparser::tokenizer::Token;
use triune_common::Result;

use super::StatementParser;
use crate::statement::{CopyFrom, CopyTo, Statement};

impl StatementParser {
    /// ```sql
    /// COPY table [(column, …)] FROM '…' [(FORMAT csv, HEADER true, …)]
    /// COPY {table | (query)} TO '…' [(FORMAT parquet, COMPRESSION zstd, …)]
    ///   [STORED AS format] [PARTITIONED BY (column, …)] [OPTIONS (key value, …)]
    /// ```
    pub(super) fn copy(&mut self) -> Result<Statement> {
        self.inner.next_token();
        if self.inner.peek_token_ref().token == Token::LParen
            || self.word_at(0, &["SELECT", "WITH", "VALUES", "FROM"])
        {
            let query = self.relation_or_query()?;
            return self.copy_to(query);
        }
        let name = self.checked(|p| p.parse_object_name(false))?;
        let columns = if self.inner.peek_token_ref().token == Token::LParen {
            self.checked(|p| p.parse_parenthesized_column_list(IsOptional::Mandatory, false))?
        } else {
            vec![]
        };
        if self.consume_word("FROM") {
            return self.copy_from(name, columns);
        }
        let mut query = super::query_of_relation(&name)?;
        if !columns.is_empty() {
            let list: Vec<String> = columns.iter().map(ToString::to_string).collect();
            query = super::parse_query(&format!("SELECT {} FROM {name}", list.join(", ")))?;
        }
        self.copy_to(query)
    }

    fn copy_from(&mut self, table: ObjectName, columns: Vec<Ident>) -> Result<Statement> {
        let source = self.text("the file")?;
        let mut copy = CopyFrom { table, columns, source, format: None, options: Vec::new() };
        loop {
            let _ = self.inner.parse_keyword(Keyword::WITH) || self.consume_word("OPTIONS");
            if self.inner.peek_token_ref().token == Token::LParen {
                for (key, value) in self.option_list()? {
                    if key.eq_ignore_ascii_case("format") {
                        copy.format = Some(value);
                    } else {
                        copy.options.push((key, value));
                    }
                }
            } else if self.consume_word("STORED") {
                self.expect_word("AS")?;
                copy.format = Some(self.word_or_text("a format")?);
            } else if matches!(self.inner.peek_token_ref().token, Token::EOF | Token::SemiColon) {
                return Ok(Statement::CopyFrom(Box::new(copy)));
            } else {
                return Err(self.unexpected("(FORMAT …), STORED AS or OPTIONS"));
            }
        }
    }

    fn copy_to(&mut self, query: Box<ast::Query>) -> Result<Statement> {
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
