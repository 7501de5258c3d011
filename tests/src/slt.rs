//! Runs sqllogictest files, each against a database in memory, or in a folder where its first line begins with
//! `# On disk`, and a folder of its own.
//!
//! In statements, `$SCRATCH` is the file's folder (empty at the start) and `$DATA` the folder of the
//! repository's data; in messages they stand in the same places. Values are printed so that a test reads
//! well: floats shortest, vectors as lists, NULL as `NULL`, an empty text as `(empty)`.

use std::path::{Path, PathBuf};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use triune_common::Error;
use triune_query::{Database, Session, Tag};

/// Asks for the expectations to be written instead of compared.
pub const COMPLETE: &str = "TRIUNE_SLT_COMPLETE";
/// Runs only files whose path contains this.
pub const FILTER: &str = "TRIUNE_SLT_FILTER";

/// An engine's error as sqllogictest wants it: its kind and its text, paths replaced.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SltError(String);

/// One file's database.
pub struct SltDatabase {
    session: Session,
    scratch: PathBuf,
    data: PathBuf,
}

impl std::fmt::Debug for SltDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SltDatabase").field("scratch", &self.scratch).finish_non_exhaustive()
    }
}

impl SltDatabase {
    pub async fn open(scratch: &Path, on_disk: bool) -> Result<Self, SltError> {
        let place = on_disk.then(|| scratch.join("database").display().to_string());
        let database = Database::open(place.as_deref()).await.map_err(|e| SltError(e.to_string()))?;
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
        let session = database.session();
        // Plans and orders must not depend on the machine.
        session.execute("SET threads = 2").await.map_err(|e| SltError(e.to_string()))?;
        Ok(Self { session, scratch: scratch.to_owned(), data })
    }

    fn hide(&self, text: &str) -> String {
        text.replace(&self.scratch.display().to_string(), "$SCRATCH")
            .replace(&self.data.display().to_string(), "$DATA")
    }

    fn error(&self, e: &Error) -> SltError {
        SltError(self.hide(&format!("error[{}]: {e}", e.kind())))
    }

    async fn output(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Error> {
        let result = self.session.execute(sql).await?;
        let tag = result.tag().clone();
        let schema = result.schema();
        let batches = result.collect().await?;
        if let Tag::Command { rows, .. } = tag {
            return Ok(DBOutput::StatementComplete(rows.unwrap_or(0)));
        }
        let types = schema.fields().iter().map(|f| column_type(f.data_type())).collect();
        let mut rows = Vec::new();
        for batch in &batches {
            rows.extend(format_rows(batch)?.into_iter().map(|r| r.iter().map(|c| self.hide(c)).collect()));
        }
        Ok(DBOutput::Rows { types, rows })
    }
}

#[async_trait]
impl AsyncDB for SltDatabase {
    type Error = SltError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, SltError> {
        let sql = sql
            .replace("$SCRATCH", &self.scratch.display().to_string())
            .replace("$DATA", &self.data.display().to_string());
        self.output(&sql).await.map_err(|e| self.error(&e))
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "triune"
    }
}

fn column_type(data_type: &DataType) -> DefaultColumnType {
    match data_type {
        t if t.is_integer() => DefaultColumnType::Integer,
        t if t.is_floating() => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Text,
    }
}

fn format_rows(batch: &RecordBatch) -> Result<Vec<Vec<String>>, Error> {
    let options = FormatOptions::default().with_null("NULL").with_display_error(true);
    let formatters = batch
        .columns()
        .iter()
        .map(|c| ArrayFormatter::try_new(c.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()?;
    let cell = |column: usize, row: usize| {
        let array = batch.column(column);
        if array.is_null(row) {
            return "NULL".to_owned();
        }
        match formatters[column].value(row).to_string() {
            text if text.is_empty() => "(empty)".to_owned(),
            // One cell is one word for sqllogictest unless the query uses one column per line.
            text => text.replace('\n', "\\n"),
        }
    };
    Ok((0..batch.num_rows()).map(|r| (0..batch.num_columns()).map(|c| cell(c, r)).collect()).collect())
}

/// Runs every file below `cases/<topic>`; the failures' texts, none when all passed.
pub async fn run_topic(topic: &str) -> Vec<String> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases").join(topic);
    let filter = std::env::var(FILTER).unwrap_or_default();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&cases)
        .map(|entries| entries.flatten().map(|e| e.path()).collect())
        .unwrap_or_default();
    files.retain(|f| f.extension().is_some_and(|e| e == "slt") && f.display().to_string().contains(&filter));
    files.sort();
    let mut failures = Vec::new();
    for file in files {
        if let Err(text) = run_file(&file).await {
            failures.push(format!("{}: {text}", file.display()));
        }
    }
    failures
}

async fn run_file(file: &Path) -> Result<(), String> {
    let scratch = tempfile::tempdir().map_err(|e| e.to_string())?;
    let folder = scratch.path().to_owned();
    let on_disk = std::fs::read_to_string(file).is_ok_and(|text| text.starts_with("# On disk"));
    let mut runner = Runner::new(move || {
        let folder = folder.clone();
        async move { SltDatabase::open(&folder, on_disk).await }
    });
    runner.with_column_validator(sqllogictest::strict_column_validator);
    if std::env::var_os(COMPLETE).is_some() {
        return runner
            .update_test_file(
                file,
                " ",
                sqllogictest::default_validator,
                sqllogictest::default_normalizer,
                sqllogictest::strict_column_validator,
            )
            .await
            .map_err(|e| e.to_string());
    }
    runner.run_file_async(file).await.map_err(|e| e.display(false).to_string())
}
