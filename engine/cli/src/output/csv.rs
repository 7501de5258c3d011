//! `--format csv` and `--format tsv`, streamed, with a header: see [`triune_formats::separated`].

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use triune_common::Result;
use triune_formats::separated::SeparatedRows;
pub use triune_formats::separated::Separator;

use super::{Sink, drain};

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
        separator.write_header(schema, &mut sink.buffer);
        drain(&mut sink.buffer, sink.out, true)?;
        Ok(sink)
    }
}

impl Sink for SeparatedSink<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut rows = SeparatedRows::try_new(batch, self.separator)?;
        for row in 0..batch.num_rows() {
            rows.write(row, &mut self.buffer);
            self.rows += 1;
            drain(&mut self.buffer, self.out, false)?;
        }
        drain(&mut self.buffer, self.out, true)
    }

    fn finish(self: Box<Self>, _elapsed: Option<std::time::Duration>) -> Result<u64> {
        Ok(self.rows)
    }
}
