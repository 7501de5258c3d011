//! How results are written: `--format table|csv|tsv|json|ndjson|markdown|parquet|arrow`.
//!
//! ```text
//! batches ─▶ Sink ─▶ Target (terminal, pipe or file)
//! ```
//!
//! A [`Sink`] takes the batches of one result. All but the table's hand every batch on as it comes; the table
//! keeps the first and the last rows and lays them out at the end. The renderers know Arrow and nothing of
//! sessions, so that the demo and the tests use them as they are.

pub mod columnar;
pub mod csv;
pub mod expanded;
pub mod json;
pub mod layout;
pub mod markdown;
pub mod palette;
pub mod plan;
pub mod table;
pub mod target;
pub mod text;

use std::io::Write;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use triune_common::{Error, Result};

pub use self::palette::Palette;
pub use self::table::{Expanded, TableOptions, render_table};
pub use self::target::Target;

/// The formats of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Box tables for people.
    Table,
    /// Comma-separated values (RFC 4180) with a header.
    Csv,
    /// Tab-separated values with backslash escapes and a header.
    Tsv,
    /// One array of objects for each result.
    Json,
    /// One object a line.
    #[value(alias = "jsonl", alias = "nd-json")]
    Ndjson,
    /// Pipe tables.
    #[value(alias = "md")]
    Markdown,
    /// A Parquet file.
    Parquet,
    /// Arrow IPC: a stream on a pipe, a file with `-o`.
    #[value(alias = "ipc", alias = "feather")]
    Arrow,
}

impl Format {
    /// Every format's name, in the order of the help.
    pub const NAMES: [&'static str; 8] =
        ["table", "csv", "tsv", "json", "ndjson", "markdown", "parquet", "arrow"];

    /// The format that a file's name asks for: `out.parquet`.
    pub fn of_path(path: &std::path::Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "csv" => Self::Csv,
            "tsv" | "tab" => Self::Tsv,
            "json" => Self::Json,
            "ndjson" | "jsonl" => Self::Ndjson,
            "md" | "markdown" => Self::Markdown,
            "parquet" | "pq" => Self::Parquet,
            "arrow" | "ipc" | "feather" => Self::Arrow,
            _ => return None,
        })
    }

    /// Whether the bytes are for programs only, and one file holds one result.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Parquet | Self::Arrow)
    }
}

impl std::str::FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        <Self as clap::ValueEnum>::from_str(text, true).map_err(|_| {
            let near = triune_common::names::did_you_mean(text, Self::NAMES);
            let hint = match near {
                Some(name) => format!("did you mean \"{name}\"?"),
                None => format!("accepted are {}", Self::NAMES.join(", ")),
            };
            Error::invalid(format!("there is no format called \"{text}\"")).with_hint(hint)
        })
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(Self::NAMES[*self as usize])
    }
}

/// A writer of one result.
pub trait Sink: Send {
    /// Takes the next batch. *Errors*: the target cannot be written, or a type cannot be shown.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;

    /// Writes what remains; `elapsed` is for the footer of tables. Returns the number of rows written.
    fn finish(self: Box<Self>, elapsed: Option<Duration>) -> Result<u64>;
}

/// The sink for `format`; formats with a header write it now.
pub fn open_sink<'a>(
    format: Format,
    out: &'a mut (dyn Write + Send),
    schema: &SchemaRef,
    to_file: bool,
    table: &TableOptions,
) -> Result<Box<dyn Sink + 'a>> {
    Ok(match format {
        Format::Table => Box::new(table::TableSink::new(out, std::sync::Arc::clone(schema), table.clone())),
        Format::Csv => Box::new(csv::SeparatedSink::try_new(out, schema, csv::Separator::Comma)?),
        Format::Tsv => Box::new(csv::SeparatedSink::try_new(out, schema, csv::Separator::Tab)?),
        Format::Json => Box::new(json::JsonSink::new(out, schema, true)),
        Format::Ndjson => Box::new(json::JsonSink::new(out, schema, false)),
        Format::Markdown => Box::new(markdown::MarkdownSink::try_new(out, schema)?),
        Format::Parquet => Box::new(columnar::ParquetSink::try_new(out, std::sync::Arc::clone(schema))?),
        Format::Arrow if to_file => Box::new(columnar::ArrowFileSink::try_new(out, schema)?),
        Format::Arrow => Box::new(columnar::ArrowStreamSink::try_new(out, schema)?),
    })
}

/// How much text is gathered before it is handed on.
const CHUNK: usize = 64 * 1024;

/// Hands `buffer` on when it is large, or in any case.
fn drain(buffer: &mut String, out: &mut (dyn Write + Send), in_any_case: bool) -> Result<()> {
    if in_any_case || buffer.len() >= CHUNK {
        out.write_all(buffer.as_bytes()).map_err(io_error)?;
        buffer.clear();
    }
    Ok(())
}

/// An error of the operating system while results are written.
pub(crate) fn io_error(e: std::io::Error) -> Error {
    Error::from(DataFusionError::IoError(e))
}

#[cfg(test)]
mod tests;
