//! `CREATE USER`, `ALTER USER`, `DROP USER`, `CREATE TOKEN`, `DROP TOKEN`, `SHOW USERS`, `SHOW TOKENS`.
//!
//! Errors never repeat a text in quotes: it may be a password.

use std::time::Duration;

use chrono::{DateTime, Utc};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use triune_common::{Error, ErrorKind, Result};
use triune_object_store::Redacted;

use super::{StatementParser, normalize, position};
use crate::principal::Role;
use crate::statement::{AlterUser, CreateToken, CreateUser, Expires, Statement};

type PasswordAndRole = (Option<Redacted<String>>, Option<Role>);

impl StatementParser {
    /// `CREATE USER [IF NOT EXISTS] name [WITH] [PASSWORD '…'] [ROLE r]`
    pub(super) fn create_user(&mut self) -> Result<Statement> {
        self.two_words();
        let if_not_exists = self.inner.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
        let name = self.user_name()?;
        let (password, role) = self.password_and_role()?;
        Ok(Statement::CreateUser(CreateUser { name, password, role, if_not_exists }))
    }

    /// `ALTER USER name [WITH] [PASSWORD '…'] [ROLE r]`
    pub(super) fn alter_user(&mut self) -> Result<Statement> {
        self.two_words();
        let name = self.user_name()?;
        let (password, role) = self.password_and_role()?;
        if password.is_none() && role.is_none() {
            return Err(self.quietly_unexpected("PASSWORD or ROLE"));
        }
        Ok(Statement::AlterUser(AlterUser { name, password, role }))
    }

    pub(super) fn drop_user(&mut self) -> Result<Statement> {
        self.two_words();
        let if_exists = self.inner.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
        Ok(Statement::DropUser { name: self.user_name()?, if_exists })
    }

    /// `CREATE TOKEN name [FOR user] [EXPIRES IN '30 days' | EXPIRES AT '…']`
    pub(super) fn create_token(&mut self) -> Result<Statement> {
        self.two_words();
        let name = self.user_name()?;
        let user = if self.consume_word("FOR") { Some(self.user_name()?) } else { None };
        let expires = if !self.consume_word("EXPIRES") {
            None
        } else if self.consume_word("IN") {
            Some(Expires::In(duration(&self.text("a time such as 30 days")?)?))
        } else {
            self.expect_word("AT")?;
            let text = self.text("a moment")?;
            let at = DateTime::parse_from_rfc3339(&text).map_err(|e| {
                Error::invalid(format!("'{text}' is no moment: {e}"))
                    .with_hint("write it as 2027-01-01T00:00:00Z")
            })?;
            Some(Expires::At(at.with_timezone(&Utc)))
        };
        Ok(Statement::CreateToken(CreateToken { name, user, expires }))
    }

    pub(super) fn drop_token(&mut self) -> Result<Statement> {
        self.two_words();
        let if_exists = self.inner.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
        Ok(Statement::DropToken { name: self.user_name()?, if_exists })
    }

    pub(super) fn show_users(&mut self) -> Statement {
        let users = self.word_at(1, &["USERS"]);
        self.two_words();
        if users { Statement::ShowUsers } else { Statement::ShowTokens }
    }

    fn two_words(&mut self) {
        self.inner.next_token();
        self.inner.next_token();
    }

    fn user_name(&mut self) -> Result<String> {
        if !matches!(self.inner.peek_token_ref().token, Token::Word(_)) {
            return Err(self.quietly_unexpected("a name"));
        }
        Ok(normalize(&self.checked(Parser::parse_identifier)?))
    }

    fn password_and_role(&mut self) -> Result<PasswordAndRole> {
        let _ = self.consume_word("WITH");
        let (mut password, mut role) = (None, None);
        loop {
            if password.is_none() && self.consume_word("PASSWORD") {
                password = Some(Redacted::new(match self.inner.next_token().token {
                    Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s) => s,
                    Token::DollarQuotedString(s) => s.value,
                    _ => {
                        self.inner.prev_token();
                        return Err(self.quietly_unexpected("the password in single quotes"));
                    }
                }));
            } else if role.is_none() && self.consume_word("ROLE") {
                let name = self.user_name()?;
                role = Some(name.parse()?);
            } else {
                break;
            }
        }
        match self.inner.peek_token_ref().token {
            Token::EOF | Token::SemiColon => Ok((password, role)),
            _ => Err(self.quietly_unexpected("PASSWORD '…', ROLE or the end of the statement")),
        }
    }

    /// Where something else was expected, without saying what stands there.
    fn quietly_unexpected(&self, expected: &str) -> Error {
        let at = position(self.inner.peek_token_ref().span.start);
        Error::new(ErrorKind::Syntax, format!("expected {expected}")).at(at)
    }
}

/// `30 days`, `12 hours`
fn duration(text: &str) -> Result<Duration> {
    const UNITS: [(&str, u64); 5] =
        [("second", 1), ("minute", 60), ("hour", 3600), ("day", 86_400), ("week", 604_800)];
    let unknown = || {
        Error::invalid(format!("'{text}' is no length of time"))
            .with_hint("write a number and seconds, minutes, hours, days or weeks: '30 days'")
    };
    let (number, unit) = text.trim().split_once(' ').ok_or_else(unknown)?;
    let number: u64 = number.parse().map_err(|_| unknown())?;
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('s').unwrap_or(&unit);
    let seconds = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, s)| *s).ok_or_else(unknown)?;
    match number.checked_mul(seconds) {
        // A century; more is a mistake, and no moment that can be computed with.
        Some(total) if total > 0 && total <= 3_155_760_000 => Ok(Duration::from_secs(total)),
        _ => Err(unknown()),
    }
}
