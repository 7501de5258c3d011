//! `CREATE MODEL`, `DROP MODEL`.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use triune_common::{Error, Result};

use super::{StatementParser, normalize};
use crate::statement::{CreateModel, Statement};

impl StatementParser {
    /// `CREATE [OR REPLACE] MODEL [IF NOT EXISTS] name FROM 'folder or URL' [WITH (model = '…', …)]`
    pub(super) fn create_model(&mut self) -> Result<Statement> {
        self.inner.next_token();
        let or_replace = self.inner.parse_keywords(&[Keyword::OR, Keyword::REPLACE]);
        self.expect_word("MODEL")?;
        let if_not_exists = self.inner.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
        if if_not_exists && or_replace {
            return Err(Error::invalid("OR REPLACE and IF NOT EXISTS exclude each other"));
        }
        let name = normalize(&self.checked(Parser::parse_identifier)?);
        self.expect_word("FROM")?;
        let source = self.text("the model's folder or URL")?;
        let options = if self.inner.parse_keyword(Keyword::WITH) { self.option_list()? } else { vec![] };
        Ok(Statement::CreateModel(CreateModel { name, source, options, or_replace, if_not_exists }))
    }

    /// `DROP MODEL [IF EXISTS] name`
    pub(super) fn drop_model(&mut self) -> Result<Statement> {
        self.inner.next_token();
        self.inner.next_token();
        let if_exists = self.inner.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
        let name = normalize(&self.checked(Parser::parse_identifier)?);
        Ok(Statement::DropModel { name, if_exists })
    }
}
