//! Where results go: the standard output, or the file of `-o` and `\o`.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, IsTerminal, Seek, Stdout, Write};
use std::path::{Path, PathBuf};

use triune_common::{Error, Result};

use super::io_error;

/// A buffered writer that remembers whether its reader has gone away.
#[derive(Debug)]
pub struct Target {
    kind: Kind,
    closed: bool,
}

#[derive(Debug)]
enum Kind {
    Stdout(BufWriter<Stdout>),
    File { writer: BufWriter<File>, path: PathBuf, results: usize, discarded: bool },
    Memory(Vec<u8>),
}

impl Target {
    /// The standard output.
    pub fn stdout() -> Self {
        Self { kind: Kind::Stdout(BufWriter::with_capacity(64 * 1024, std::io::stdout())), closed: false }
    }

    /// Creates or truncates the file.
    ///
    /// *Errors*: it cannot be created; the message names the path.
    pub fn file(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|e| {
            let inner = io_error(e);
            Error::new(inner.kind(), format!("cannot write to \"{}\": {}", path.display(), inner.message()))
        })?;
        let writer = BufWriter::with_capacity(256 * 1024, file);
        Ok(Self {
            kind: Kind::File { writer, path: path.to_owned(), results: 0, discarded: false },
            closed: false,
        })
    }

    /// Into memory, for tests.
    pub fn memory() -> Self {
        Self { kind: Kind::Memory(Vec::new()), closed: false }
    }

    /// What was written into memory.
    pub fn contents(&self) -> &[u8] {
        match &self.kind {
            Kind::Memory(bytes) => bytes,
            _ => &[],
        }
    }

    pub fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File { .. })
    }

    pub fn is_terminal(&self) -> bool {
        matches!(self.kind, Kind::Stdout(_)) && std::io::stdout().is_terminal()
    }

    /// Whether the reader of the standard output has gone away (`triune … | head`).
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Counts a result of a binary format: one file holds one.
    ///
    /// *Errors*: the file holds one already.
    pub fn claim(&mut self, format: super::Format) -> Result<()> {
        let Kind::File { path, results, discarded, .. } = &mut self.kind else { return Ok(()) };
        if *results > 0 {
            return Err(Error::invalid(format!(
                "\"{}\" already holds one result, and a file of format {format} holds no more",
                path.display()
            ))
            .with_hint("write each result to its own file with \\o FILE"));
        }
        *results += 1;
        *discarded = false;
        Ok(())
    }

    /// Empties the file, and removes it at the end unless another result follows: what it holds of a binary format
    /// is of no use when its statement failed.
    pub fn discard(&mut self) {
        let Kind::File { writer, results, discarded, .. } = &mut self.kind else { return };
        // The statement's own error is what the user must see, not those of cleaning up.
        if let Ok(file) = writer.get_ref().try_clone() {
            drop(std::mem::replace(writer, BufWriter::with_capacity(256 * 1024, file)));
            let _ = writer.get_ref().set_len(0);
            let _ = writer.get_mut().rewind();
        }
        *results = 0;
        *discarded = true;
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Kind::File { path, discarded: true, .. } = &self.kind {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let result = match &mut self.kind {
            Kind::Stdout(w) => w.write(bytes),
            Kind::File { writer, .. } => writer.write(bytes),
            Kind::Memory(w) => w.write(bytes),
        };
        self.note(result)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let result = match &mut self.kind {
            Kind::Stdout(w) => w.flush(),
            Kind::File { writer, .. } => writer.flush(),
            Kind::Memory(_) => Ok(()),
        };
        self.note(result)
    }
}

impl Target {
    fn note<T>(&mut self, result: std::io::Result<T>) -> std::io::Result<T> {
        if result.as_ref().is_err_and(|e| e.kind() == ErrorKind::BrokenPipe) {
            self.closed = true;
        }
        result
    }
}
