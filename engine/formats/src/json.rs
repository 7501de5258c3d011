//! Rows as JSON.
//!
//! ```json
//! {"id":2,"name":null,"embedding":null}
//! [1,"a",[0.1,0.2]]
//! ```
//!
//! Nested values are nested; integers and decimals are numbers with all their digits, which some readers
//! round; NaN and infinities are `null`; times, intervals and bytes (`\x00ff`) are strings. Two columns of one
//! name would be one key: the second is called `name_1`.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use triune_common::Result;

use crate::value::{Column, Purpose};

/// Appends `text` as a JSON string.
pub fn write_json_string(text: &str, out: &mut String) {
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
pub fn unique_names(schema: &Schema) -> Vec<String> {
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

/// The rows of one batch.
#[derive(Debug)]
pub struct JsonRows<'a> {
    columns: Vec<Column<'a>>,
}

impl<'a> JsonRows<'a> {
    /// *Errors*: a type that cannot be shown.
    pub fn try_new(batch: &'a RecordBatch) -> Result<Self> {
        Ok(Self { columns: Column::of_batch(batch, Purpose::Json)? })
    }

    /// `{"id":1,"name":"a"}`; `keys` as [`json_keys`] makes them.
    pub fn write_object(&self, row: usize, keys: &[String], out: &mut String) {
        out.push('{');
        for (i, (key, column)) in keys.iter().zip(&self.columns).enumerate() {
            if i > 0 {
                out.push(',');
            }
            out.push_str(key);
            column.write_json(row, out);
        }
        out.push('}');
    }

    /// `[1,"a"]`
    pub fn write_array(&self, row: usize, out: &mut String) {
        out.push('[');
        for (i, column) in self.columns.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            column.write_json(row, out);
        }
        out.push(']');
    }
}

/// `"name":` for each column.
pub fn json_keys(schema: &Schema) -> Vec<String> {
    let key = |name: &String| {
        let mut key = String::new();
        write_json_string(name, &mut key);
        key.push(':');
        key
    };
    unique_names(schema).iter().map(key).collect()
}
