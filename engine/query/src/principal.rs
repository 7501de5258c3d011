//! On whose behalf a session runs, and what that allows.
//!
//! ```text
//!  reader   queries, EXPLAIN, SHOW, settings, transactions, temporary tables
//!  writer   besides: rows and definitions of tables, views, schemas and indexes, maintenance
//!  admin    besides: users, tokens of others, secrets, files and URLs that a statement names
//! ```
//!
//! A session without a principal belongs to whoever opened the database in their own process: nothing is refused.
//!
//! Limits: roles hold for the whole database. A view over a file can be read by whoever may name files.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast;
use triune_common::{Error, ErrorKind, Result};

use crate::dml;
use crate::parser::dotted;
use crate::session::SessionCore;
use crate::statement::Statement;

/// What a user may do; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Reader,
    Writer,
    Admin,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Reader, Self::Writer, Self::Admin]
            .into_iter()
            .find(|r| r.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                Error::invalid(format!("there is no role {text}"))
                    .with_hint("the roles are admin, writer and reader")
            })
    }
}

/// A user who was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub name: String,
    pub role: Role,
}

/// Refuses a statement that the session's principal may not run.
pub(crate) fn authorise(core: &Arc<SessionCore>, statement: &Statement) -> Result<()> {
    let Some(principal) = core.principal() else { return Ok(()) };
    if principal.role == Role::Admin {
        return Ok(());
    }
    let needed = needed(core, &principal, statement);
    if principal.role >= needed {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Permission,
        format!("the user \"{}\" is a {}, the statement needs a {needed}", principal.name, principal.role),
    ))
}

/// Refuses to open what a statement names by its path or URL.
pub(crate) fn may_name_files(core: &Arc<SessionCore>, path: &str) -> Result<()> {
    match core.principal() {
        Some(principal) if principal.role < Role::Admin => Err(Error::new(
            ErrorKind::Permission,
            format!(
                "the user \"{}\" is a {}, opening the file {path} of the server needs an admin",
                principal.name, principal.role
            ),
        )),
        _ => Ok(()),
    }
}

fn needed(core: &Arc<SessionCore>, principal: &Principal, statement: &Statement) -> Role {
    match statement {
        Statement::Sql(sql) => needed_of_sql(core, sql),
        Statement::Explain(explain) => needed(core, principal, &explain.statement),
        Statement::Describe(_)
        | Statement::Summarize(_)
        | Statement::ShowIndexes
        | Statement::ShowModels
        | Statement::Reset(_)
        | Statement::Refresh
        | Statement::Abort => Role::Reader,
        Statement::CreateTableLike { table, .. } if table.temporary => Role::Reader,
        Statement::CreateTableLike { .. }
        | Statement::Checkpoint
        | Statement::Optimize(_)
        | Statement::Vacuum(_)
        | Statement::Restore { .. }
        | Statement::CreateIndex(_)
        | Statement::DropIndex { .. }
        | Statement::Reindex { .. }
        | Statement::AlterIndex { .. } => Role::Writer,
        // One's own password and tokens; the commands look closer.
        Statement::AlterUser(user) if user.name == principal.name && user.role.is_none() => Role::Reader,
        Statement::CreateToken(token) if token.user.as_ref().is_none_or(|u| *u == principal.name) => {
            Role::Reader
        }
        Statement::DropToken { name, .. }
            if core.database().catalog().tokens.get(name).is_some_and(|t| t.user == principal.name) =>
        {
            Role::Reader
        }
        Statement::CreateExternalTable(_)
        | Statement::Copy(_)
        | Statement::CopyFrom(_)
        | Statement::CreateSecret(_)
        | Statement::DropSecret { .. }
        | Statement::ShowSecrets
        | Statement::CreateModel(_)
        | Statement::DropModel { .. }
        | Statement::CreateUser(_)
        | Statement::AlterUser(_)
        | Statement::DropUser { .. }
        | Statement::ShowUsers
        | Statement::CreateToken(_)
        | Statement::DropToken { .. }
        | Statement::ShowTokens => Role::Admin,
    }
}

fn needed_of_sql(core: &Arc<SessionCore>, statement: &ast::Statement) -> Role {
    use ast::Statement as Sql;
    if let Some(writing) = dml::writing(statement) {
        return if writing.is_temporary_insert(core) { Role::Reader } else { Role::Writer };
    }
    match statement {
        Sql::Query(_)
        | Sql::StartTransaction { .. }
        | Sql::Commit { .. }
        | Sql::Rollback { .. }
        | Sql::Savepoint { .. }
        | Sql::ReleaseSavepoint { .. }
        | Sql::Set(_)
        | Sql::Deallocate { .. }
        | Sql::ExplainTable { .. }
        | Sql::ShowTables { .. }
        | Sql::ShowVariable { .. }
        | Sql::ShowColumns { .. }
        | Sql::ShowFunctions { .. }
        | Sql::ShowCreate { .. } => Role::Reader,
        Sql::Prepare { statement, .. } => needed_of_sql(core, statement),
        Sql::Execute { name: Some(name), .. } => match core.prepared().read().get(&dotted(name)) {
            Some(prepared) => match &prepared.statement {
                Statement::Sql(sql) => needed_of_sql(core, sql),
                _ => Role::Admin,
            },
            None => Role::Reader,
        },
        Sql::CreateTable(table) if table.temporary => Role::Reader,
        Sql::Drop { temporary: true, .. } => Role::Reader,
        Sql::CreateTable(_)
        | Sql::AlterTable(_)
        | Sql::Comment { .. }
        | Sql::CreateView(_)
        | Sql::CreateSchema { .. }
        | Sql::Drop { .. } => Role::Writer,
        _ => Role::Admin,
    }
}
