//! `--format markdown`: a pipe table, numbers aligned to the right, streamed.
//!
//! ```text
//! | id | name |
//! |---:|:-----|
//! | 1 | a\|b |
//! ```
//!
//! Pipes and backslashes are escaped, line ends become `<br>`, long vectors are abbreviated as in tables.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use triune_common::Result;

use super::text::visible;
use super::{Sink, drain};
use triune_formats::value::{Column, Purpose, is_number};

/// Writes a header and then every row as it arrives.
pub struct MarkdownSink<'a> {
    out: &'a mut (dyn Write + Send),
    rows: u64,
    buffer: String,
}

impl std::fmt::Debug for MarkdownSink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MarkdownSink").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl<'a> MarkdownSink<'a> {
    /// Writes the header at once.
    pub fn try_new(out: &'a mut (dyn Write + Send), schema: &Schema) -> Result<Self> {
        let mut buffer = String::from("|");
        for field in schema.fields() {
            buffer.push(' ');
            buffer.push_str(&escape(field.name()));
            buffer.push_str(" |");
        }
        buffer.push_str("\n|");
        for field in schema.fields() {
            buffer.push_str(if is_number(field.data_type()) { "---:|" } else { ":---|" });
        }
        buffer.push('\n');
        drain(&mut buffer, out, true)?;
        Ok(Self { out, rows: 0, buffer })
    }
}

fn escape(text: &str) -> String {
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| visible(line.trim_end_matches('\r')).replace('\\', "\\\\").replace('|', "\\|"))
        .collect();
    lines.join("<br>")
}

impl Sink for MarkdownSink<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = Column::of_batch(batch, Purpose::Display)?;
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            self.buffer.push('|');
            for column in &columns {
                text.clear();
                column.write_short(row, &mut text);
                self.buffer.push(' ');
                self.buffer.push_str(&escape(&text));
                self.buffer.push_str(" |");
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
