//! `--format json` (one array for each result) and `--format ndjson` (one object a line).
//!
//! ```json
//! [
//! {"id":1,"name":"a","embedding":[0.1,0.2]},
//! {"id":2,"name":null,"embedding":null}
//! ]
//! ```
//!
//! Values as [`triune_formats::json`] writes them. Results are streamed.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use triune_common::Result;
use triune_formats::json::{JsonRows, json_keys};

use super::{Sink, io_error};

/// Writes objects, in an array or one a line.
pub struct JsonSink<'a> {
    out: &'a mut (dyn Write + Send),
    /// `"name":` for each column.
    keys: Vec<String>,
    array: bool,
    rows: u64,
    buffer: String,
}

impl std::fmt::Debug for JsonSink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonSink").field("keys", &self.keys).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl<'a> JsonSink<'a> {
    /// `array`: one JSON array around all rows; otherwise one object a line and nothing else.
    pub fn new(out: &'a mut (dyn Write + Send), schema: &Schema, array: bool) -> Self {
        Self { out, keys: json_keys(schema), array, rows: 0, buffer: String::new() }
    }
}

impl Sink for JsonSink<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = JsonRows::try_new(batch)?;
        for row in 0..batch.num_rows() {
            if self.array {
                self.buffer.push_str(if self.rows == 0 { "[\n" } else { ",\n" });
            }
            rows.write_object(row, &self.keys, &mut self.buffer);
            if !self.array {
                self.buffer.push('\n');
            }
            self.rows += 1;
            super::drain(&mut self.buffer, self.out, false)?;
        }
        super::drain(&mut self.buffer, self.out, true)
    }

    fn finish(self: Box<Self>, _elapsed: Option<std::time::Duration>) -> Result<u64> {
        if self.array {
            let end: &[u8] = if self.rows == 0 { b"[]\n" } else { b"\n]\n" };
            self.out.write_all(end).map_err(io_error)?;
        }
        Ok(self.rows)
    }
}
