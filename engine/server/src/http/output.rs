//! Rows as the bytes of an answer, a piece at a time.
//!
//! ```text
//! {"id":7,"columns":[{"name":"id","type":"BIGINT"}],"rows":[[1],
//! [2]],"row_count":2}
//! ```

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use serde_json::json;
use triune_common::{Error, Result};
use triune_formats::json::{JsonRows, json_keys};
use triune_formats::separated::{SeparatedRows, Separator};
use triune_query::sql_type_name;

use super::answer::of_error;
use super::input::Format;
use crate::stream::{plain_batch, plain_schema};

/// A piece is handed on when it has so many bytes.
const PIECE: usize = 64 << 10;

pub(super) struct Writer {
    format: Format,
    keys: Vec<String>,
    rows: u64,
    arrow: Option<StreamWriter<Vec<u8>>>,
    schema: SchemaRef,
}

impl Writer {
    /// A writer, and what stands before the rows.
    pub(super) fn start(format: Format, id: Option<u64>, schema: &SchemaRef) -> Result<(Self, Bytes)> {
        let plain = plain_schema(schema);
        let mut writer = Self { format, keys: Vec::new(), rows: 0, arrow: None, schema: plain };
        let mut text = String::new();
        match format {
            Format::Json => {
                let columns = schema.fields().iter();
                let columns: Vec<_> = columns
                    .map(|f| json!({ "name": f.name(), "type": sql_type_name(f), "nullable": f.is_nullable() }))
                    .collect();
                text = format!("{{\"id\":{},\"columns\":{},\"rows\":[", json!(id), json!(columns));
            }
            Format::Ndjson => writer.keys = json_keys(schema),
            Format::Csv => Separator::Comma.write_header(schema, &mut text),
            Format::Tsv => Separator::Tab.write_header(schema, &mut text),
            Format::Arrow => {
                let mut arrow = StreamWriter::try_new(Vec::new(), &writer.schema)?;
                let head = std::mem::take(arrow.get_mut());
                writer.arrow = Some(arrow);
                return Ok((writer, head.into()));
            }
        }
        Ok((writer, text.into()))
    }

    /// The rows of a batch; `piece` is called with each part of them.
    pub(super) fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<Bytes>> {
        if let Some(arrow) = &mut self.arrow {
            let batch = plain_batch(batch, &self.schema)?;
            arrow.write(&batch)?;
            return Ok(vec![std::mem::take(arrow.get_mut()).into()]);
        }
        let mut pieces = Vec::new();
        let mut text = String::new();
        let full = |text: &mut String, pieces: &mut Vec<Bytes>| {
            if text.len() >= PIECE {
                pieces.push(std::mem::take(text).into());
            }
        };
        if let Some(separator) = self.separator() {
            let mut rows = SeparatedRows::try_new(batch, separator)?;
            for row in 0..batch.num_rows() {
                rows.write(row, &mut text);
                full(&mut text, &mut pieces);
            }
        } else {
            let rows = JsonRows::try_new(batch)?;
            for row in 0..batch.num_rows() {
                if self.format == Format::Json {
                    if self.rows > 0 {
                        text.push_str(",\n");
                    }
                    rows.write_array(row, &mut text);
                } else {
                    rows.write_object(row, &self.keys, &mut text);
                    text.push('\n');
                }
                self.rows += 1;
                full(&mut text, &mut pieces);
            }
        }
        if !text.is_empty() {
            pieces.push(text.into());
        }
        Ok(pieces)
    }

    fn separator(&self) -> Option<Separator> {
        match self.format {
            Format::Csv => Some(Separator::Comma),
            Format::Tsv => Some(Separator::Tab),
            _ => None,
        }
    }

    /// What stands after the rows.
    pub(super) fn end(&mut self) -> Result<Bytes> {
        if let Some(arrow) = &mut self.arrow {
            arrow.finish()?;
            return Ok(std::mem::take(arrow.get_mut()).into());
        }
        Ok(match self.format {
            Format::Json => format!("],\"row_count\":{}}}\n", self.rows).into(),
            _ => Bytes::new(),
        })
    }

    /// What stands after the rows when others should have come; `None` where a format has no word for it, and the
    /// connection has to break.
    pub(super) fn broken(&self, error: &Error) -> Option<Bytes> {
        (self.format == Format::Json).then(|| format!("],\"error\":{}}}\n", of_error(error)).into())
    }
}
