//! Rows as CSV and TSV, with a header.
//!
//! CSV follows RFC 4180 with `\n` between records: fields with a comma, a quote or a line end are quoted,
//! quotes are doubled. As in PostgreSQL, NULL is an empty field and an empty text is `""`. Vectors, lists,
//! structs and maps are JSON text, which `'…'::VECTOR(n)` reads again.
//!
//! TSV is PostgreSQL's text format (also ClickHouse's): tab, line ends and backslash inside a value are
//! written `\t`, `\n`, `\r`, `\\`, and NULL is `\N`.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use triune_common::Result;

use crate::value::{Column, Purpose};

/// The two dialects of one value a field, one record a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Separator {
    Comma,
    Tab,
}

impl Separator {
    /// The line of the columns' names.
    pub fn write_header(self, schema: &Schema, out: &mut String) {
        for (i, field) in schema.fields().iter().enumerate() {
            self.separate(i, out);
            self.field(field.name(), out);
        }
        out.push('\n');
    }

    fn separate(self, column: usize, out: &mut String) {
        if column > 0 {
            out.push(match self {
                Self::Comma => ',',
                Self::Tab => '\t',
            });
        }
    }

    fn field(self, text: &str, out: &mut String) {
        match self {
            Self::Comma if text.is_empty() || text.contains([',', '"', '\n', '\r']) => {
                out.push('"');
                out.push_str(&text.replace('"', "\"\""));
                out.push('"');
            }
            Self::Tab if text.contains(['\t', '\n', '\r', '\\']) => {
                for c in text.chars() {
                    match c {
                        '\t' => out.push_str("\\t"),
                        '\n' => out.push_str("\\n"),
                        '\r' => out.push_str("\\r"),
                        '\\' => out.push_str("\\\\"),
                        c => out.push(c),
                    }
                }
            }
            _ => out.push_str(text),
        }
    }
}

/// The rows of one batch.
#[derive(Debug)]
pub struct SeparatedRows<'a> {
    separator: Separator,
    columns: Vec<Column<'a>>,
    text: String,
}

impl<'a> SeparatedRows<'a> {
    /// *Errors*: a type that cannot be shown.
    pub fn try_new(batch: &'a RecordBatch, separator: Separator) -> Result<Self> {
        Ok(Self { separator, columns: Column::of_batch(batch, Purpose::Display)?, text: String::new() })
    }

    /// One record and the end of its line.
    pub fn write(&mut self, row: usize, out: &mut String) {
        for (i, column) in self.columns.iter().enumerate() {
            self.separator.separate(i, out);
            if column.is_null(row) {
                if self.separator == Separator::Tab {
                    out.push_str("\\N");
                }
            } else {
                self.text.clear();
                column.write_text(row, &mut self.text);
                self.separator.field(&self.text, out);
            }
        }
        out.push('\n');
    }
}
