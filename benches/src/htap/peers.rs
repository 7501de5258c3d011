//! PostgreSQL, SQLite and DuckDB, each behind a Python process: one JSON line there, one back.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;
use triune_common::{Error, ErrorKind, Result};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/compare/htap_side.py");

/// Ends with its standard input, when it is dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

fn failed(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("a peer of the comparison: {what}"))
        .with_hint("pip install -r benches/compare/requirements.txt; PostgreSQL 15 must be installed")
}

impl Peer {
    pub(crate) fn start(
        name: &'static str,
        python: &Path,
        folder: &Path,
        parquet: &Path,
        rows: u64,
        threads: usize,
    ) -> Result<Self> {
        let mut child = Command::new(python)
            .arg(SCRIPT)
            .arg(name)
            .arg(folder)
            .arg(parquet)
            .args([rows.to_string(), threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| failed(format!("{} does not start: {e}", python.display())))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().ok_or_else(|| failed("it has no output"))?);
        let mut peer = Self { name, child, input, output };
        peer.line()?;
        Ok(peer)
    }

    /// What the peer found; its own error as one.
    pub(crate) fn ask(&mut self, what: &Value) -> Result<Value> {
        let input = self.input.as_mut().ok_or_else(|| failed("it has no input"))?;
        writeln!(input, "{what}").and_then(|()| input.flush()).map_err(failed)?;
        let answer = self.line()?;
        match answer["error"].as_str() {
            Some(error) => Err(failed(format!("{}: {error}", self.name))),
            None => Ok(answer),
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line).map_err(failed)? == 0 {
            return Err(failed(format!("{} ended; its message is above", self.name)));
        }
        serde_json::from_str(&line).map_err(|e| failed(format!("{e} in {line}")))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
