//! Statements as the session executes them: sqlparser's, and ours.

use datafusion::sql::sqlparser::ast::{self, ColumnDef, ObjectName, OrderByExpr};
use triune_lance::LanceVersion;
use triune_object_store::Redacted;

/// One parsed statement.
#[derive(Debug, Clone)]
pub enum Statement {
    /// Anything that sqlparser knows.
    Sql(Box<ast::Statement>),
    CreateExternalTable(Box<CreateExternalTable>),
    Copy(Box<CopyTo>),
    CreateSecret(CreateSecret),
    DropSecret {
        name: String,
        if_exists: bool,
    },
    ShowSecrets,
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
    /// `RESTORE TABLE t TO (VERSION => n)`
    Restore {
        table: ObjectName,
        version: LanceVersion,
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

/// `CREATE [OR REPLACE] SECRET [IF NOT EXISTS] name (TYPE s3, KEY_ID '…', …)`.
#[derive(Debug, Clone)]
pub struct CreateSecret {
    pub name: String,
    pub options: Vec<(String, Redacted<String>)>,
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub temporary: bool,
}

/// `EXPLAIN [ANALYZE] [VERBOSE] [FORMAT …] statement`.
#[derive(Debug, Clone)]
pub struct Explain {
    pub analyze: bool,
    pub verbose: bool,
    pub format: Option<String>,
    pub statement: Box<Statement>,
}
