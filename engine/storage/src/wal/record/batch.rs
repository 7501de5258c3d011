//! Rows as an Arrow IPC record batch message without its schema.
//!
//! ```text
//!  │ message length 4 │ body length 8 │ flatbuffers message, to a multiple of 8 │ buffers │
//! ```
//!
//! Arrow's reader trusts the message: an offset outside the body ends the process, a length is allocated. So the
//! message is first checked against the schema: which buffers each column has, where they lie, and that they are
//! long enough for the rows they claim.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::ipc::reader::read_record_batch;
use arrow::ipc::writer::{CompressionContext, DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow::ipc::{self, MessageHeader, MetadataVersion};
use triune_common::{Error, Result};

use super::{Bytes, broken, too_long};

/// More rows, or more items of a list, are damage: nothing that fits into a frame has so many.
const MAX_ROWS: u64 = 1 << 40;

/// Appends a batch's bytes. Views on parts of longer arrays are written as the parts alone.
///
/// Errors: `Unsupported` for a column type that tables do not have (dictionaries, views, unions, run-ends).
pub fn encode(rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
    for field in rows.schema_ref().fields() {
        if !is_storable(field.data_type()) {
            return Err(Error::unsupported(format!(
                "the column \"{}\" of type {} cannot be written to the log",
                field.name(),
                field.data_type()
            )));
        }
    }
    let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?;
    let (_, encoded) = IpcDataGenerator::default().encode(
        rows,
        &mut DictionaryTracker::new(false),
        &options,
        &mut CompressionContext::default(),
    )?;
    let (message, body) = (&encoded.ipc_message, &encoded.arrow_data);
    let padded = message.len().next_multiple_of(8);
    let message_len = u32::try_from(padded).map_err(|_| too_long(padded))?;
    out.reserve(12 + padded + body.len());
    out.extend_from_slice(&message_len.to_le_bytes());
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend_from_slice(message);
    out.resize(out.len() + padded - message.len(), 0);
    out.extend_from_slice(body);
    Ok(())
}

/// A batch's bytes within those of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoded<'a> {
    message_len: usize,
    bytes: &'a [u8],
}

pub(super) fn split<'a>(from: &mut Bytes<'a>) -> Result<Encoded<'a>> {
    let message_len = from.u32()? as usize;
    let body_len = usize::try_from(from.u64()?).unwrap_or(usize::MAX);
    let len = message_len.checked_add(body_len).ok_or_else(|| broken("it ends too early"))?;
    Ok(Encoded { message_len, bytes: from.take(len)? })
}

pub(super) fn decode(encoded: Encoded<'_>, schema: SchemaRef) -> Result<RecordBatch> {
    // One copy, aligned as arrow wants it; the columns share it.
    let all = Buffer::from(encoded.bytes);
    let body = all.slice(encoded.message_len);
    let message = ipc::root_as_message(&all.as_slice()[..encoded.message_len])
        .map_err(|e| broken(&format!("its rows are not an Arrow message: {e}")))?;
    if message.version() != MetadataVersion::V5
        || message.header_type() != MessageHeader::RecordBatch
        || message.bodyLength() != body.len() as i64
    {
        return Err(broken("its rows are not an Arrow record batch"));
    }
    let header =
        message.header_as_record_batch().ok_or_else(|| broken("its rows are not an Arrow record batch"))?;
    check(&header, &schema, body.len() as u64)?;
    read_record_batch(&body, header, schema, &HashMap::new(), None, &message.version())
        .map_err(|e| broken(&format!("its rows do not fit the table: {e}")))
}

/// Whether the log can hold a column of this type.
fn is_storable(data_type: &DataType) -> bool {
    use DataType as T;
    match data_type {
        T::Null
        | T::Boolean
        | T::Utf8
        | T::LargeUtf8
        | T::Binary
        | T::LargeBinary
        | T::FixedSizeBinary(_) => true,
        T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) | T::Map(item, _) => {
            is_storable(item.data_type())
        }
        T::Struct(fields) => fields.iter().all(|f| is_storable(f.data_type())),
        other => other.is_primitive(),
    }
}

fn check(header: &ipc::RecordBatch<'_>, schema: &Schema, body: u64) -> Result<()> {
    let (Some(nodes), Some(buffers)) = (header.nodes(), header.buffers()) else {
        return Err(broken("its rows have no columns"));
    };
    if header.compression().is_some() || header.variadicBufferCounts().is_some_and(|c| !c.is_empty()) {
        return Err(broken("its rows are written in a way that the log does not use"));
    }
    let rows = length(header.length())?;
    let mut check = Check { nodes: nodes.iter(), buffers: buffers.iter(), body };
    for field in schema.fields() {
        check.column(field.data_type(), Some(rows))?;
    }
    if check.nodes.next().is_some() || check.buffers.next().is_some() {
        return Err(broken("its rows have more columns than the table"));
    }
    Ok(())
}

/// Walks the columns as arrow's reader will, and sees that nothing is missing.
struct Check<N, B> {
    nodes: N,
    buffers: B,
    body: u64,
}

impl<'a, N, B> Check<N, B>
where
    N: Iterator<Item = &'a ipc::FieldNode>,
    B: Iterator<Item = &'a ipc::Buffer>,
{
    /// `rows` is what the column's place demands; `None` for the items of a list, which may be any number.
    fn column(&mut self, data_type: &DataType, rows: Option<u64>) -> Result<()> {
        use DataType as T;
        let node = self.nodes.next().ok_or_else(|| broken("its rows have fewer columns than the table"))?;
        let (len, nulls) = (length(node.length())?, length(node.null_count())?);
        if rows.is_some_and(|rows| rows != len) || nulls > len {
            return Err(broken("its columns differ in length"));
        }
        if *data_type == T::Null {
            return Ok(());
        }
        let bitmap = len.div_ceil(8);
        self.buffer(if nulls > 0 { bitmap } else { 0 })?;
        match data_type {
            T::Boolean => self.buffer(bitmap).map(|_| ()),
            T::FixedSizeBinary(width) => self.buffer(len * u64::try_from(*width).unwrap_or(0)).map(|_| ()),
            T::Utf8 | T::Binary => {
                self.offsets(len, 4)?;
                self.buffer(0).map(|_| ())
            }
            T::LargeUtf8 | T::LargeBinary => {
                self.offsets(len, 8)?;
                self.buffer(0).map(|_| ())
            }
            T::List(item) | T::Map(item, _) => {
                self.offsets(len, 4)?;
                self.column(item.data_type(), None)
            }
            T::LargeList(item) => {
                self.offsets(len, 8)?;
                self.column(item.data_type(), None)
            }
            T::FixedSizeList(item, size) => {
                let items = len.checked_mul(u64::try_from(*size).unwrap_or(0));
                self.column(item.data_type(), Some(items.ok_or_else(|| broken("a list is too long"))?))
            }
            T::Struct(fields) => fields.iter().try_for_each(|f| self.column(f.data_type(), Some(len))),
            other => match other.primitive_width() {
                Some(width) => self.buffer(len * width as u64).map(|_| ()),
                None => Err(broken(&format!("the log does not hold columns of type {other}"))),
            },
        }
    }

    /// The next buffer holds the ends of `len` texts or lists, as whole numbers of `width` bytes.
    fn offsets(&mut self, len: u64, width: u64) -> Result<()> {
        let have = self.buffer(if len == 0 { 0 } else { (len + 1) * width })?;
        if have.is_multiple_of(width) { Ok(()) } else { Err(bad_buffer()) }
    }

    /// The length of the next buffer, which lies in the body and has at least `least` bytes.
    fn buffer(&mut self, least: u64) -> Result<u64> {
        let buffer =
            self.buffers.next().ok_or_else(|| broken("its rows have fewer buffers than the table"))?;
        let (Ok(offset), Ok(len)) = (u64::try_from(buffer.offset()), u64::try_from(buffer.length())) else {
            return Err(bad_buffer());
        };
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.body);
        if inside && len >= least { Ok(len) } else { Err(bad_buffer()) }
    }
}

fn bad_buffer() -> Error {
    broken("a buffer of its rows lies outside of them or is too short")
}

fn length(n: i64) -> Result<u64> {
    match u64::try_from(n) {
        Ok(n) if n <= MAX_ROWS => Ok(n),
        _ => Err(broken(&format!("{n} rows"))),
    }
}
