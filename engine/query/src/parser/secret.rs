//! `CREATE SECRET` and `DROP SECRET`.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use triune_common::{Error, Result};
use triune_object_store::Redacted;

use super::{StatementParser, normalize};
use crate::statement::{CreateSecret, Statement};

impl StatementParser {
    /// `CREATE [OR REPLACE] [PERSISTENT | TEMPORARY] SECRET [IF NOT EXISTS] name (TYPE s3, KEY_ID '…', …)`
    pub(super) fn create_secret(&mut self) -> Result<Statement> {
        self.inner.next_token();
        let or_replace = self.inner.parse_keywords(&[Keyword::OR, Keyword::REPLACE]);
        let temporary = self.inner.parse_one_of_keywords(&[Keyword::TEMP, Keyword::TEMPORARY]).is_some();
        let _ = self.consume_word("PERSISTENT");
        self.expect_word("SECRET")?;
        let if_not_exists = self.inner.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
        if if_not_exists && or_replace {
            return Err(Error::invalid("OR REPLACE and IF NOT EXISTS exclude each other"));
        }
        let name = normalize(&self.checked(Parser::parse_identifier)?);
        let options = self.option_list()?.into_iter().map(|(k, v)| (k, Redacted::new(v))).collect();
        Ok(Statement::CreateSecret(CreateSecret { name, options, or_replace, if_not_exists, temporary }))
    }

    /// `DROP SECRET [IF EXISTS] name`
    pub(super) fn drop_secret(&mut self) -> Result<Statement> {
        self.inner.next_token();
        self.expect_word("SECRET")?;
        let if_exists = self.inner.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
        let name = normalize(&self.checked(Parser::parse_identifier)?);
        Ok(Statement::DropSecret { name, if_exists })
    }
}
