//! Statements as the session executes them: sqlparser's, and ours.

use datafusion::sql::sqlparser::ast::{self, ColumnDef, ObjectName, OrderByExpr};
use triune_common::Position;
use triune_object_store::Redacted;

use crate::principal::Role;

/// One parsed statement.
#[derive(Debug, Clone)]
pub enum Statement {
    /// Anything that sqlparser knows.
    Sql(Box<ast::Statement>),
    CreateExternalTable(Box<CreateExternalTable>),
    /// `CREATE TABLE t (LIKE s)`: columns of the tree stand for the clauses (`parser::create_table`).
    CreateTableLike {
        table: Box<ast::CreateTable>,
        like: Vec<LikeClause>,
    },
    Copy(Box<CopyTo>),
    CreateSecret(CreateSecret),
    DropSecret {
        name: String,
        if_exists: bool,
    },
    ShowSecrets,
    CreateModel(CreateModel),
    DropModel {
        name: String,
        if_exists: bool,
    },
    ShowModels,
    CreateUser(CreateUser),
    AlterUser(AlterUser),
    DropUser {
        name: String,
        if_exists: bool,
    },
    ShowUsers,
    CreateToken(CreateToken),
    DropToken {
        name: String,
        if_exists: bool,
    },
    ShowTokens,
    /// `SHOW INDEXES`: the vector indexes of Lance tables.
    ShowIndexes,
    Explain(Explain),
    /// `DESCRIBE t`, `DESCRIBE 'file.parquet'`, `DESCRIBE SELECT …`.
    Describe(Box<ast::Query>),
    /// `SUMMARIZE t`, `SUMMARIZE SELECT …`.
    Summarize(Box<ast::Query>),
    /// `RESET name`; `None` is `RESET ALL`.
    Reset(Option<String>),
    CopyFrom(Box<CopyFrom>),
    Checkpoint,
    /// `REFRESH`: a read-only database shows what its writer has committed since.
    Refresh,
    /// `OPTIMIZE [TABLE] t`
    Optimize(ObjectName),
    /// `VACUUM [TABLE] [t]`
    Vacuum(Option<ObjectName>),
    /// `RESTORE TABLE t TO (VERSION => n)`, `TO (TIMESTAMP => …)`
    Restore {
        table: ObjectName,
        version: Box<ast::Expr>,
        is_number: bool,
    },
    /// `ABORT`
    Abort,
    CreateIndex(Box<CreateIndex>),
    /// `DROP INDEX [CONCURRENTLY] [IF EXISTS] i, …`
    DropIndex {
        names: Vec<ObjectName>,
        if_exists: bool,
    },
    /// `REINDEX INDEX i`, `REINDEX TABLE t`
    Reindex {
        name: ObjectName,
        of_table: bool,
    },
    AlterIndex {
        name: ObjectName,
        if_exists: bool,
        change: AlterIndex,
    },
}

/// `CREATE INDEX [CONCURRENTLY] [IF NOT EXISTS] [name] ON t [USING method] (column [class], …) [WITH (k = v, …)]`.
#[derive(Debug, Clone)]
pub struct CreateIndex {
    pub name: Option<ObjectName>,
    pub table: ObjectName,
    /// `None` takes the column's.
    pub method: Option<String>,
    /// Columns with their operator classes.
    pub columns: Vec<(ast::Ident, Option<String>)>,
    pub options: Vec<(String, String)>,
    pub if_not_exists: bool,
}

/// What an `ALTER INDEX` changes.
#[derive(Debug, Clone)]
pub enum AlterIndex {
    RenameTo(ObjectName),
    Set(Vec<(String, String)>),
    Reset(Vec<String>),
}

/// `CREATE EXTERNAL TABLE t [(columns)] [STORED AS format] LOCATION '…' [PARTITIONED BY (…)] [OPTIONS (…)]`.
#[derive(Debug, Clone)]
pub struct CreateExternalTable {
    pub name: ObjectName,
    pub columns: Vec<ColumnDef>,
    /// As written; `None` takes the location's extension.
    pub format: Option<String>,
    pub locations: Vec<String>,
    pub partition_columns: Vec<String>,
    pub order: Vec<Vec<OrderByExpr>>,
    pub options: Vec<(String, String)>,
    pub if_not_exists: bool,
    pub or_replace: bool,
    pub temporary: bool,
}

/// `COPY {table | (query)} TO '…' [(FORMAT …, …)] [STORED AS …] [PARTITIONED BY (…)] [OPTIONS (…)]`.
#[derive(Debug, Clone)]
pub struct CopyTo {
    pub query: Box<ast::Query>,
    pub target: String,
    pub format: Option<String>,
    pub partition_columns: Vec<String>,
    pub options: Vec<(String, String)>,
}

/// `COPY t [(columns)] FROM '…' [(FORMAT …, …)]`.
#[derive(Debug, Clone)]
pub struct CopyFrom {
    pub table: ObjectName,
    pub columns: Vec<ast::Ident>,
    pub source: String,
    pub format: Option<String>,
    pub options: Vec<(String, String)>,
}

/// `LIKE t [INCLUDING … | EXCLUDING …]`
#[derive(Debug, Clone)]
pub struct LikeClause {
    pub source: ObjectName,
    pub included: Included,
    /// Where the name stands.
    pub at: Option<Position>,
}

/// What a `LIKE` takes besides names, types and NOT NULL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Included {
    /// Comments on columns.
    pub comments: bool,
    /// CHECKs.
    pub constraints: bool,
    pub defaults: bool,
    /// What generated columns are computed from.
    pub generated: bool,
    pub identity: bool,
    /// The PRIMARY KEY and the other indexes.
    pub indexes: bool,
    /// `CLUSTER BY` and the options of `WITH`.
    pub storage: bool,
}

impl Included {
    pub const ALL: Self = Self {
        comments: true,
        constraints: true,
        defaults: true,
        generated: true,
        identity: true,
        indexes: true,
        storage: true,
    };
    pub const WORDS: &str = "ALL, COMMENTS, CONSTRAINTS, DEFAULTS, GENERATED, IDENTITY, INDEXES or STORAGE";

    /// Takes an `INCLUDING` or `EXCLUDING`; `false` for a word that it does not know.
    pub fn set(&mut self, word: &str, include: bool) -> bool {
        match word {
            "ALL" if include => *self = Self::ALL,
            "ALL" => *self = Self::default(),
            "COMMENTS" => self.comments = include,
            "CONSTRAINTS" => self.constraints = include,
            "DEFAULTS" => self.defaults = include,
            "GENERATED" => self.generated = include,
            "IDENTITY" => self.identity = include,
            "INDEXES" => self.indexes = include,
            "STORAGE" => self.storage = include,
            _ => return false,
        }
        true
    }
}

/// `CREATE [OR REPLACE] SECRET [IF NOT EXISTS] name (TYPE s3, KEY_ID '…', …)`.
#[derive(Debug, Clone)]
pub struct CreateSecret {
    pub name: String,
    pub options: Vec<(String, Redacted<String>)>,
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub temporary: bool,
}

/// `CREATE [OR REPLACE] MODEL [IF NOT EXISTS] name FROM 'folder or URL' [WITH (model = '…', dimension = n, …)]`.
#[derive(Debug, Clone)]
pub struct CreateModel {
    pub name: String,
    pub source: String,
    pub options: Vec<(String, String)>,
    pub or_replace: bool,
    pub if_not_exists: bool,
}

/// `EXPLAIN [ANALYZE] [VERBOSE] [FORMAT …] statement`; `RECALL` in parentheses.
#[derive(Debug, Clone)]
pub struct Explain {
    pub analyze: bool,
    pub verbose: bool,
    /// Whether the statement also runs exactly, to be compared.
    pub recall: bool,
    pub format: Option<String>,
    pub statement: Box<Statement>,
}

/// `CREATE USER [IF NOT EXISTS] name [PASSWORD '…'] [ROLE admin | writer | reader]`.
#[derive(Debug, Clone)]
pub struct CreateUser {
    pub name: String,
    pub password: Option<Redacted<String>>,
    pub role: Option<Role>,
    pub if_not_exists: bool,
}

/// `ALTER USER name [PASSWORD '…'] [ROLE …]`.
#[derive(Debug, Clone)]
pub struct AlterUser {
    pub name: String,
    pub password: Option<Redacted<String>>,
    pub role: Option<Role>,
}

/// `CREATE TOKEN name [FOR user] [EXPIRES IN '30 days' | EXPIRES AT '2027-01-01T00:00:00Z']`.
#[derive(Debug, Clone)]
pub struct CreateToken {
    pub name: String,
    /// `None`: whoever runs the statement.
    pub user: Option<String>,
    pub expires: Option<Expires>,
}

/// When a token ends.
#[derive(Debug, Clone)]
pub enum Expires {
    In(std::time::Duration),
    At(chrono::DateTime<chrono::Utc>),
}
