//! `--format json` (one array for each result) and `--format ndjson` (one object a line).
//!
//! ```json
//! [
//! {"id":1,"name":"a","embedding":[0.1,0.2]},
//! {"id":2,"name":null,"embedding":null}
//! ]
//! ```
//!
//! Nested values are nested; integers and decimals are numbers with all their digits, which some readers
//! round; NaN and infinities are `null`; times, intervals and bytes (`\x00ff`) are strings. Two columns of one
//! name would be one key: the second is called `name_1`. Results are streamed.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use triune_common::Result;

use super::value::{Column, Purpose};
use super::{Sink, io_error};

/// Appends `text` as a JSON string.
pub(super) fn write_json_string(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    out.push('"');
    let mut from = 0;
    for (at, c) in text.char_indices() {
        let short = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            // DEL and the C1 controls may stand in JSON, and would reach a terminal.
            c if c.is_control() => {
                out.push_str(&text[from..at]);
                let _ = write!(out, "\\u{:04x}", c as u32);
                from = at + c.len_utf8();
                continue;
            }
            _ => continue,
        };
        out.push_str(&text[from..at]);
        out.push_str(short);
        from = at + 1;
    }
    out.push_str(&text[from..]);
    out.push('"');
}

/// The columns' names, made distinct.
fn unique_names(schema: &Schema) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(schema.fields().len());
    let mut taken: std::collections::HashSet<String> =
        schema.fields().iter().map(|f| f.name().clone()).collect();
    let mut seen = std::collections::HashSet::new();
    for field in schema.fields() {
        let mut name = field.name().clone();
        if !seen.insert(name.clone()) {
            let mut n = 1;
            while taken.contains(&format!("{}_{n}", field.name())) {
                n += 1;
            }
            name = format!("{}_{n}", field.name());
            taken.insert(name.clone());
            seen.insert(name.clone());
        }
        names.push(name);
    }
    names
}

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
        let keys = unique_names(schema)
            .iter()
            .map(|name| {
                let mut key = String::new();
                write_json_string(name, &mut key);
                key.push(':');
                key
            })
            .collect();
        Self { out, keys, array, rows: 0, buffer: String::new() }
    }
}

impl Sink for JsonSink<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let schema = batch.schema();
        let columns = schema
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, array)| Column::try_new(field, array.as_ref(), Purpose::Json))
            .collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            if self.array {
                self.buffer.push_str(if self.rows == 0 { "[\n{" } else { ",\n{" });
            } else {
                self.buffer.push('{');
            }
            for (i, (key, column)) in self.keys.iter().zip(&columns).enumerate() {
                if i > 0 {
                    self.buffer.push(',');
                }
                self.buffer.push_str(key);
                column.write_json(row, &mut self.buffer);
            }
            self.buffer.push_str(if self.array { "}" } else { "}\n" });
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
