//! DuckDB in a Python process: one JSON line there, one back.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use triune_common::{Error, ErrorKind, Result};

use super::Rows;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/compare/duckdb_side.py");

/// Ends with its standard input, when it is dropped.
pub(super) struct DuckDb {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    version: String,
}

fn failed(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("DuckDB's side of the comparison: {what}"))
        .with_hint("it needs a Python with DuckDB: pip install -r benches/compare/requirements.txt")
}

impl DuckDb {
    /// Starts it over `FOLDER/compare.duckdb`, with tables made of the Parquet files unless they are there.
    pub(super) fn start(python: &Path, folder: &Path, threads: usize, query_id: u64) -> Result<Self> {
        let mut child = Command::new(python)
            .arg(SCRIPT)
            .arg(folder.join("compare.duckdb"))
            .arg(threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| failed(format!("{} does not start: {e}", python.display())))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().ok_or_else(|| failed("it has no output"))?);
        let mut duckdb = Self { child, input, output, version: String::new() };
        let version = duckdb.line()?;
        version["version"].as_str().unwrap_or_default().clone_into(&mut duckdb.version);
        let f = folder.display();
        for sql in [
            format!(
                "CREATE TABLE IF NOT EXISTS docs AS SELECT * REPLACE (embedding::FLOAT[384] AS embedding) \
                 FROM '{f}/docs.parquet'"
            ),
            format!("CREATE TABLE IF NOT EXISTS events AS SELECT * FROM '{f}/events.parquet'"),
            "CHECKPOINT".to_owned(),
            format!("SET VARIABLE q = (SELECT embedding FROM docs WHERE id = {query_id})"),
        ] {
            duckdb.run(&sql)?;
        }
        Ok(duckdb)
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Milliseconds, as measured there, and rows.
    pub(super) fn run(&mut self, sql: &str) -> Result<(f64, Rows)> {
        let input = self.input.as_mut().ok_or_else(|| failed("it has no input"))?;
        writeln!(input, "{}", json!({ "sql": sql })).and_then(|()| input.flush()).map_err(failed)?;
        let answer = self.line()?;
        if let Some(error) = answer["error"].as_str() {
            return Err(failed(format!("{error}; in {sql}")));
        }
        let rows = answer["rows"].as_array().map(|rows| {
            rows.iter()
                .map(|row| {
                    row.as_array().into_iter().flatten().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
                })
                .collect()
        });
        match (answer["ms"].as_f64(), rows) {
            (Some(ms), Some(rows)) => Ok((ms, rows)),
            _ => Err(failed(format!("it answered {answer}"))),
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).map_err(failed)?;
        if read == 0 {
            return Err(failed("it ended; its message is above"));
        }
        serde_json::from_str(&line).map_err(|e| failed(format!("{e} in {line}")))
    }
}

impl Drop for DuckDb {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
