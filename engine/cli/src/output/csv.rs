//! `--format csv` and `--format tsv`, streamed, with a header.
//!
//! CSV follows RFC 4180 with `\n` between records: fields with a comma, a quote or a line end are quoted,
//! quotes are doubled. As in PostgreSQL, NULL is an empty field and an empty text is `""`. Vectors, lists,
//! structs and maps are JSON text, which `'…'::VECTOR(n)` reads again.
//!
//! TSV is PostgreSQL's text format (also ClickHouse's): tab, line ends and backslash inside a value are
//! written `\t`, `\n`, `\r`, `\\`, and NULL is `\N`.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use triune_common::Result;

use super::value::{Column, Purpose};
use super::{Sink, drain};

/// The two dialects of one value a field, one record a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Separator {
    Comma,
    Tab,
}

/// Writes a header and then every row as it arrives.
pub struct SeparatedSink<'a> {
    out: &'a mut (dyn Write + Send),
    separator: Separator,
    rows: u64,
    buffer: String,
}

impl std::fmt::Debug for SeparatedSink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeparatedSink").field("separator", &self.separator).finish_non_exhaustive()
    }
}

impl<'a> SeparatedSink<'a> {
    /// Writes the header at once.
    pub fn try_new(out: &'a mut (dyn Write + Send), schema: &Schema, separator: Separator) -> Result<Self> {
        let mut sink = Self { out, separator, rows: 0, buffer: String::new() };
        for (i, field) in schema.fields().iter().enumerate() {
            sink.separate(i);
            sink.field(field.name());
        }
        sink.buffer.push('\n');
        drain(&mut sink.buffer, sink.out, true)?;
        Ok(sink)
    }

    fn separate(&mut self, column: usize) {
        if column > 0 {
            self.buffer.push(match self.separator {
                Separator::Comma => ',',
                Separator::Tab => '\t',
            });
        }
    }

    fn field(&mut self, text: &str) {
        match self.separator {
            Separator::Comma if text.is_empty() || text.contains([',', '"', '\n', '\r']) => {
                self.buffer.push('"');
                self.buffer.push_str(&text.replace('"', "\"\""));
                self.buffer.push('"');
            }
            Separator::Tab if text.contains(['\t', '\n', '\r', '\\']) => {
                for c in text.chars() {
                    match c {
                        '\t' => self.buffer.push_str("\\t"),
                        '\n' => self.buffer.push_str("\\n"),
                        '\r' => self.buffer.push_str("\\r"),
                        '\\' => self.buffer.push_str("\\\\"),
                        c => self.buffer.push(c),
                    }
                }
            }
            _ => self.buffer.push_str(text),
        }
    }
}

impl Sink for SeparatedSink<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let schema = batch.schema();
        let columns = schema
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, array)| Column::try_new(field, array.as_ref(), Purpose::Display))
            .collect::<Result<Vec<_>>>()?;
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            for (i, column) in columns.iter().enumerate() {
                self.separate(i);
                if column.is_null(row) {
                    if self.separator == Separator::Tab {
                        self.buffer.push_str("\\N");
                    }
                } else {
                    text.clear();
                    column.write_text(row, &mut text);
                    self.field(&text);
                }
            }
            self.buffer.push('\n');
            self.rows += 1;
            drain(&mut self.buffer, self.out, false)?;
        }
        drain(&mut self.buffer, self.out, true)
    }

    fn finish(self: Box<Self>, _elapsed: Option<std::time::Duration>) -> Result<u64> {
        Ok(self.rows)
    }
}
