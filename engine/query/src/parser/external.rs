//! `CREATE EXTERNAL TABLE`.

use datafusion::sql::sqlparser::ast::{ColumnDef, OrderByExpr};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use triune_common::{Error, Result};

use super::{StatementParser, normalize, position};
use crate::statement::{CreateExternalTable, Statement};

impl StatementParser {
    /// ```sql
    /// CREATE [OR REPLACE] [TEMP] EXTERNAL TABLE [IF NOT EXISTS] name [(column type, …)]
    ///   [STORED AS format] LOCATION '…' | ('…', …)
    ///   [PARTITIONED BY (column [type], …)] [WITH ORDER (column [DESC], …)] [OPTIONS (key value, …)]
    /// ```
    /// The clauses after the columns come in any order, each once.
    pub(super) fn create_external_table(&mut self) -> Result<Statement> {
        self.inner.next_token();
        let or_replace = self.inner.parse_keywords(&[Keyword::OR, Keyword::REPLACE]);
        let mut temporary = self.inner.parse_one_of_keywords(&[Keyword::TEMP, Keyword::TEMPORARY]).is_some();
        if self.word_at(0, &["UNBOUNDED"]) {
            return Err(Error::unsupported("unbounded external tables are not supported")
                .at(position(self.inner.peek_token_ref().span.start)));
        }
        self.expect_word("EXTERNAL")?;
        temporary |= self.inner.parse_one_of_keywords(&[Keyword::TEMP, Keyword::TEMPORARY]).is_some();
        self.expect_word("TABLE")?;
        let if_not_exists = self.inner.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
        let start = position(self.inner.peek_token_ref().span.start);
        if if_not_exists && or_replace {
            return Err(Error::invalid("OR REPLACE and IF NOT EXISTS exclude each other").at(start));
        }
        let name = self.checked(|p| p.parse_object_name(true))?;
        let mut columns = Vec::new();
        if self.inner.peek_token_ref().token == Token::LParen {
            columns = self.columns()?;
        }
        let mut table = CreateExternalTable {
            name,
            columns,
            format: None,
            locations: Vec::new(),
            partition_columns: Vec::new(),
            order: Vec::new(),
            options: Vec::new(),
            if_not_exists,
            or_replace,
            temporary,
        };
        while self.clause(&mut table)? {}
        if table.locations.is_empty() {
            return Err(Error::invalid(format!("the external table {} has no LOCATION", table.name))
                .with_hint("add LOCATION 'path or URL'")
                .at(start));
        }
        Ok(Statement::CreateExternalTable(Box::new(table)))
    }

    /// One clause after the columns; `false` at the end of the statement.
    fn clause(&mut self, table: &mut CreateExternalTable) -> Result<bool> {
        let at = position(self.inner.peek_token_ref().span.start);
        let once = |given: bool, name: &str| {
            if given { Err(Error::invalid(format!("{name} is given twice")).at(at)) } else { Ok(()) }
        };
        if self.consume_word("STORED") {
            self.expect_word("AS")?;
            once(table.format.is_some(), "STORED AS")?;
            table.format = Some(self.checked(Parser::parse_identifier)?.value);
        } else if self.consume_word("LOCATION") {
            once(!table.locations.is_empty(), "LOCATION")?;
            table.locations = self.locations()?;
        } else if self.consume_word("PARTITIONED") {
            self.expect_word("BY")?;
            once(!table.partition_columns.is_empty(), "PARTITIONED BY")?;
            let second = self.inner.peek_nth_token_ref(2).token.clone();
            if matches!(second, Token::Comma | Token::RParen) {
                table.partition_columns = self.name_list()?;
            } else {
                let typed = self.columns()?;
                table.partition_columns = typed.iter().map(|c| normalize(&c.name)).collect();
                table.columns.extend(typed);
            }
        } else if self.consume_word("WITH") {
            self.expect_word("ORDER")?;
            table.order.push(self.order()?);
        } else if self.consume_word("OPTIONS") {
            once(!table.options.is_empty(), "OPTIONS")?;
            table.options = self.option_list()?;
        } else if matches!(self.inner.peek_token_ref().token, Token::EOF | Token::SemiColon) {
            return Ok(false);
        } else {
            return Err(self.unexpected("STORED AS, LOCATION, PARTITIONED BY, WITH ORDER or OPTIONS"));
        }
        Ok(true)
    }

    fn locations(&mut self) -> Result<Vec<String>> {
        if !self.inner.consume_token(&Token::LParen) {
            return Ok(vec![self.text("a location")?]);
        }
        let mut locations = vec![self.text("a location")?];
        while self.inner.consume_token(&Token::Comma) {
            locations.push(self.text("a location")?);
        }
        self.checked(|p| p.expect_token(&Token::RParen))?;
        Ok(locations)
    }

    fn columns(&mut self) -> Result<Vec<ColumnDef>> {
        let start = position(self.inner.peek_token_ref().span.start);
        let (columns, constraints) = self.checked(Parser::parse_columns)?;
        if let Some(constraint) = constraints.first() {
            return Err(
                Error::unsupported(format!("an external table takes no constraint: {constraint}")).at(start)
            );
        }
        Ok(columns)
    }

    fn order(&mut self) -> Result<Vec<OrderByExpr>> {
        self.checked(|p| p.expect_token(&Token::LParen))?;
        let order = self.checked(|p| p.parse_comma_separated(Parser::parse_order_by_expr))?;
        self.checked(|p| p.expect_token(&Token::RParen))?;
        Ok(order)
    }
}
