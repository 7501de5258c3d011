//! One value of any Arrow type as text: `[0.12, -0.03, … 384 d]`, `\x00ff`, `{a: 1, b: 'x'}`, `3 days 04:05:06`.
//!
//! A [`Column`] is made once for each column of a batch; it looks through dictionaries, run-end
//! encodings and views, and then writes single rows in one of three ways:
//!
//! | | for | nested values | vectors | timestamps |
//! |---|---|---|---|---|
//! | [`Column::write_short`] | tables, markdown | `{a: 1, b: 'x'}` | `[0.12, -0.03, … 384 d]` | `2026-01-02 03:04:05` |
//! | [`Column::write_text`] | CSV, TSV | JSON text | JSON text, complete | `2026-01-02 03:04:05` |
//! | [`Column::write_json`] | JSON | JSON | JSON array, complete | `"2026-01-02T03:04:05"` |
//!
//! *Nulls*: [`Column::is_null`] says so; the writers write `NULL` or `null` for nulls inside nested values.
//! *NaN and infinities*: `NaN`, `inf`, `-inf` as text, `null` in JSON, which has no other way.
//! *Numbers in JSON*: integers and decimals of any size are written as numbers with all their digits.
//! A time stamp that lies outside the calendar is written as `(out of range)`.

use std::fmt::Write as _;

use arrow::array::{
    Array, AsArray, BooleanArray, Float32Array, Float64Array, RecordBatch, UInt8Array, downcast_run_array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Float16Type, Float32Type, Float64Type, UInt8Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use triune_common::{Error, Result};

use crate::json::write_json_string;

/// Lists of numbers of at most this many elements are written completely in tables.
const SHORT_VECTOR: usize = 4;
/// How many elements of a longer one are written.
const VECTOR_HEAD: usize = 2;
/// How many bits of a long bit vector are written.
const BITS_HEAD: usize = 16;
/// The extension type under which `BITVEC(n)` travels, and the key of its name.
const EXTENSION_NAME: &str = "ARROW:extension:name";
const EXTENSION_METADATA: &str = "ARROW:extension:metadata";

const DISPLAY: FormatOptions<'static> = FormatOptions::new()
    .with_display_error(false)
    .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
    .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"))
    .with_datetime_format(Some("%Y-%m-%d %H:%M:%S%.f"))
    .with_time_format(Some("%H:%M:%S%.f"));
const ISO: FormatOptions<'static> =
    FormatOptions::new().with_display_error(false).with_time_format(Some("%H:%M:%S%.f"));

/// What a column's text is for; see the module's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Display,
    Json,
}

/// Whether values of the type are aligned to the right in a table.
pub fn is_number(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_number(value),
        DataType::RunEndEncoded(_, value) => is_number(value.data_type()),
        other => other.is_numeric(),
    }
}

/// The rows of one array as text. Borrowed from the array; making it costs one pass only for
/// dictionaries and run-end encodings (their keys).
pub struct Column<'a> {
    nulls: Option<NullBuffer>,
    kind: Kind<'a>,
}

impl std::fmt::Debug for Column<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Column").finish_non_exhaustive()
    }
}

enum Kind<'a> {
    /// Only nulls.
    Null,
    Boolean(&'a BooleanArray),
    /// Integers and decimals: their text is a JSON number.
    Number(ArrayFormatter<'a>),
    Float16(&'a arrow::array::Float16Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Text(Box<dyn Fn(usize) -> &'a str + Send + 'a>),
    Bytes(Box<dyn Fn(usize) -> &'a [u8] + Send + 'a>),
    /// Months, days and nanoseconds.
    Span(Box<dyn Fn(usize) -> (i64, i64, i128) + Send + 'a>),
    /// Dates, times, unions: text, a JSON string.
    Other(ArrayFormatter<'a>),
    Bits {
        bytes: &'a UInt8Array,
        stride: usize,
        bits: usize,
    },
    List {
        range: Box<dyn Fn(usize) -> (usize, usize) + Send + 'a>,
        items: Box<Column<'a>>,
        /// Of fixed length and numbers: a vector.
        vector: bool,
    },
    Struct(Vec<(&'a str, Column<'a>)>),
    Map {
        range: Box<dyn Fn(usize) -> (usize, usize) + Send + 'a>,
        keys: Box<Column<'a>>,
        values: Box<Column<'a>>,
    },
    /// Dictionaries and run-end encodings: row → index of the value.
    Indirect {
        index: Vec<usize>,
        values: Box<Column<'a>>,
    },
}

impl<'a> Column<'a> {
    /// A writer for `array`; `field` is asked for its extension type (bit vectors).
    ///
    /// *Errors*: a type that Arrow itself cannot show, or a time zone it does not know.
    pub fn try_new(field: &Field, array: &'a dyn Array, purpose: Purpose) -> Result<Self> {
        let nulls = array.logical_nulls();
        let kind = Kind::try_new(field, array, purpose)
            .map_err(|e| Error::from(e).with_hint(format!("column \"{}\" cannot be shown", field.name())))?;
        Ok(Self { nulls, kind })
    }

    /// A writer for each column of a batch.
    ///
    /// *Errors*: as [`Self::try_new`].
    pub fn of_batch(batch: &'a RecordBatch, purpose: Purpose) -> Result<Vec<Self>> {
        let columns = batch.schema_ref().fields().iter().zip(batch.columns());
        columns.map(|(field, array)| Self::try_new(field, array.as_ref(), purpose)).collect()
    }

    /// Whether the value is NULL, however it is encoded.
    pub fn is_null(&self, row: usize) -> bool {
        matches!(self.kind, Kind::Null) || self.nulls.as_ref().is_some_and(|n| n.is_null(row))
    }

    /// The value for people, `NULL` for a null. May contain control characters: pass it through
    /// something that spells them out before it meets a terminal.
    pub fn write_short(&self, row: usize, out: &mut String) {
        self.write_display(row, out, false);
    }

    /// The complete value; nested ones as JSON text. Nothing for a null.
    pub fn write_text(&self, row: usize, out: &mut String) {
        if self.is_null(row) {
            return;
        }
        match &self.kind {
            Kind::List { .. } | Kind::Struct(_) | Kind::Map { .. } => self.write_json(row, out),
            Kind::Bits { bytes, stride, bits } => write_bits(bytes, row * stride, *bits, out),
            Kind::Indirect { index, values } => values.write_text(index[row], out),
            _ => self.write_display(row, out, false),
        }
    }

    /// The value as JSON.
    pub fn write_json(&self, row: usize, out: &mut String) {
        if self.is_null(row) {
            out.push_str("null");
            return;
        }
        match &self.kind {
            Kind::Null => out.push_str("null"),
            Kind::Boolean(_) | Kind::Number(_) => self.write_display(row, out, true),
            Kind::Float16(a) => write_json_float(f64::from(a.value(row).to_f32()), row, self, out),
            Kind::Float32(a) => write_json_float(f64::from(a.value(row)), row, self, out),
            Kind::Float64(a) => write_json_float(a.value(row), row, self, out),
            Kind::Text(get) => write_json_string(get(row), out),
            Kind::Bytes(_) | Kind::Span(_) | Kind::Other(_) => {
                let mut text = String::new();
                self.write_display(row, &mut text, false);
                write_json_string(&text, out);
            }
            Kind::Bits { bytes, stride, bits } => {
                out.push('"');
                write_bits(bytes, row * stride, *bits, out);
                out.push('"');
            }
            Kind::List { range, items, .. } => {
                let (from, to) = range(row);
                out.push('[');
                for i in from..to {
                    if i > from {
                        out.push(',');
                    }
                    items.write_json(i, out);
                }
                out.push(']');
            }
            Kind::Struct(fields) => {
                out.push('{');
                for (i, (name, column)) in fields.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_json_string(name, out);
                    out.push(':');
                    column.write_json(row, out);
                }
                out.push('}');
            }
            Kind::Map { range, keys, values } => {
                let (from, to) = range(row);
                out.push('{');
                for i in from..to {
                    if i > from {
                        out.push(',');
                    }
                    // JSON's keys are strings whatever the map's are.
                    let mut key = String::new();
                    keys.write_text(i, &mut key);
                    write_json_string(&key, out);
                    out.push(':');
                    values.write_json(i, out);
                }
                out.push('}');
            }
            Kind::Indirect { index, values } => values.write_json(index[row], out),
        }
    }

    fn write_display(&self, row: usize, out: &mut String, quoted: bool) {
        if self.is_null(row) {
            out.push_str("NULL");
            return;
        }
        match &self.kind {
            Kind::Null => out.push_str("NULL"),
            Kind::Boolean(a) => out.push_str(if a.value(row) { "true" } else { "false" }),
            Kind::Number(f) | Kind::Other(f) => {
                let at = out.len();
                if write!(out, "{}", f.value(row)).is_err() {
                    out.truncate(at);
                    out.push_str("(out of range)");
                }
            }
            Kind::Float16(a) => {
                let _ = write!(out, "{:?}", a.value(row).to_f32());
            }
            // `{:?}` writes the shortest digits that read back to the same number.
            Kind::Float32(a) => {
                let _ = write!(out, "{:?}", a.value(row));
            }
            Kind::Float64(a) => {
                let _ = write!(out, "{:?}", a.value(row));
            }
            Kind::Text(get) if quoted => {
                out.push('\'');
                out.push_str(&get(row).replace('\'', "''"));
                out.push('\'');
            }
            Kind::Text(get) => out.push_str(get(row)),
            Kind::Bytes(get) => {
                out.push_str("\\x");
                for byte in get(row) {
                    let _ = write!(out, "{byte:02x}");
                }
            }
            Kind::Span(get) => {
                let (months, days, nanos) = get(row);
                triune_common::write_span(months, days, nanos, out);
            }
            Kind::Bits { bytes, stride, bits } => {
                write_bits(bytes, row * stride, (*bits).min(2 * BITS_HEAD), out);
                if *bits > 2 * BITS_HEAD {
                    // Cut back to the head: it is certain now that it is a long one.
                    out.truncate(out.len() - BITS_HEAD);
                    let _ = write!(out, "… {bits} d");
                }
            }
            Kind::List { range, items, vector } => {
                let (from, to) = range(row);
                let cut = *vector && to - from > SHORT_VECTOR;
                out.push('[');
                for i in from..if cut { from + VECTOR_HEAD } else { to } {
                    if i > from {
                        out.push_str(", ");
                    }
                    if cut {
                        items.write_rounded(i, out);
                    } else {
                        items.write_display(i, out, true);
                    }
                }
                if cut {
                    let _ = write!(out, ", … {} d", to - from);
                }
                out.push(']');
            }
            Kind::Struct(fields) => {
                out.push('{');
                for (i, (name, column)) in fields.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    out.push_str(name);
                    out.push_str(": ");
                    column.write_display(row, out, true);
                }
                out.push('}');
            }
            Kind::Map { range, keys, values } => {
                let (from, to) = range(row);
                out.push('{');
                for i in from..to {
                    if i > from {
                        out.push_str(", ");
                    }
                    keys.write_display(i, out, true);
                    out.push_str(": ");
                    values.write_display(i, out, true);
                }
                out.push('}');
            }
            Kind::Indirect { index, values } => values.write_display(index[row], out, quoted),
        }
    }

    /// An element of a long vector, in few characters.
    fn write_rounded(&self, row: usize, out: &mut String) {
        let value = match &self.kind {
            _ if self.is_null(row) => None,
            Kind::Float16(a) => Some(f64::from(a.value(row).to_f32())),
            Kind::Float32(a) => Some(f64::from(a.value(row))),
            Kind::Float64(a) => Some(a.value(row)),
            _ => None,
        };
        let _ = match value {
            Some(0.0) => write!(out, "0"),
            Some(v) if (0.005..1e6).contains(&v.abs()) => write!(out, "{v:.2}"),
            Some(v) if v.is_finite() => write!(out, "{v:.1e}"),
            _ => {
                self.write_display(row, out, true);
                Ok(())
            }
        };
    }
}

impl<'a> Kind<'a> {
    fn try_new(
        field: &Field,
        array: &'a dyn Array,
        purpose: Purpose,
    ) -> std::result::Result<Self, ArrowError> {
        let options = match purpose {
            Purpose::Display => &DISPLAY,
            Purpose::Json => &ISO,
        };
        let child =
            |field: &Field, array: &'a dyn Array| -> std::result::Result<Box<Column<'a>>, ArrowError> {
                let kind = Kind::try_new(field, array, purpose)?;
                Ok(Box::new(Column { nulls: array.logical_nulls(), kind }))
            };
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean(array.as_boolean()),
            DataType::Float16 => Self::Float16(array.as_primitive::<Float16Type>()),
            DataType::Float32 => Self::Float32(array.as_primitive::<Float32Type>()),
            DataType::Float64 => Self::Float64(array.as_primitive::<Float64Type>()),
            t if t.is_numeric() => Self::Number(ArrayFormatter::try_new(array, options)?),
            DataType::Utf8 => {
                let a = array.as_string::<i32>();
                Self::Text(Box::new(move |i| a.value(i)))
            }
            DataType::LargeUtf8 => {
                let a = array.as_string::<i64>();
                Self::Text(Box::new(move |i| a.value(i)))
            }
            DataType::Utf8View => {
                let a = array.as_string_view();
                Self::Text(Box::new(move |i| a.value(i)))
            }
            DataType::Binary => {
                let a = array.as_binary::<i32>();
                Self::Bytes(Box::new(move |i| a.value(i)))
            }
            DataType::LargeBinary => {
                let a = array.as_binary::<i64>();
                Self::Bytes(Box::new(move |i| a.value(i)))
            }
            DataType::BinaryView => {
                let a = array.as_binary_view();
                Self::Bytes(Box::new(move |i| a.value(i)))
            }
            DataType::FixedSizeBinary(_) => {
                let a = array.as_fixed_size_binary();
                Self::Bytes(Box::new(move |i| a.value(i)))
            }
            DataType::Interval(unit) => Self::Span(span::interval(*unit, array)),
            DataType::Duration(unit) => Self::Span(span::duration(*unit, array)),
            DataType::FixedSizeList(item, size) => {
                let a = array.as_fixed_size_list();
                let stride = usize::try_from(*size).unwrap_or(0);
                if let (Some(bits), Some(bytes)) =
                    (bit_length(field, stride), a.values().as_primitive_opt::<UInt8Type>())
                {
                    return Ok(Self::Bits { bytes, stride, bits });
                }
                Self::List {
                    range: Box::new(move |i| (i * stride, (i + 1) * stride)),
                    items: child(item, a.values().as_ref())?,
                    vector: item.data_type().is_numeric(),
                }
            }
            DataType::List(item) => {
                let a = array.as_list::<i32>();
                let offsets = a.value_offsets();
                Self::List {
                    range: Box::new(move |i| (offsets[i] as usize, offsets[i + 1] as usize)),
                    items: child(item, a.values().as_ref())?,
                    vector: false,
                }
            }
            DataType::LargeList(item) => {
                let a = array.as_list::<i64>();
                let offsets = a.value_offsets();
                Self::List {
                    range: Box::new(move |i| (offsets[i] as usize, offsets[i + 1] as usize)),
                    items: child(item, a.values().as_ref())?,
                    vector: false,
                }
            }
            DataType::ListView(item) => {
                let a = array.as_list_view::<i32>();
                let (offsets, sizes) = (a.value_offsets(), a.value_sizes());
                Self::List {
                    range: Box::new(move |i| (offsets[i] as usize, offsets[i] as usize + sizes[i] as usize)),
                    items: child(item, a.values().as_ref())?,
                    vector: false,
                }
            }
            DataType::LargeListView(item) => {
                let a = array.as_list_view::<i64>();
                let (offsets, sizes) = (a.value_offsets(), a.value_sizes());
                Self::List {
                    range: Box::new(move |i| (offsets[i] as usize, offsets[i] as usize + sizes[i] as usize)),
                    items: child(item, a.values().as_ref())?,
                    vector: false,
                }
            }
            DataType::Struct(fields) => {
                let a = array.as_struct();
                let mut columns = Vec::with_capacity(fields.len());
                // The names live as long as the array: they are part of its type.
                let DataType::Struct(owned) = array.data_type() else { return Ok(Self::Null) };
                for (field, column) in owned.iter().zip(a.columns()) {
                    columns.push((field.name().as_str(), *child(field, column.as_ref())?));
                }
                Self::Struct(columns)
            }
            DataType::Map(entries, _) => {
                let a = array.as_map();
                let offsets = a.value_offsets();
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(ArrowError::SchemaError("the entries of a map are no struct".into()));
                };
                let [key, value] = fields.as_ref() else {
                    return Err(ArrowError::SchemaError("the entries of a map are no pairs".into()));
                };
                Self::Map {
                    range: Box::new(move |i| (offsets[i] as usize, offsets[i + 1] as usize)),
                    keys: child(key, a.keys().as_ref())?,
                    values: child(value, a.values().as_ref())?,
                }
            }
            DataType::Dictionary(_, _) => {
                let a = array.as_any_dictionary();
                if a.values().is_empty() {
                    return Ok(Self::Null);
                }
                Self::Indirect { index: a.normalized_keys(), values: child(field, a.values().as_ref())? }
            }
            DataType::RunEndEncoded(_, item) => {
                let rows = array.len();
                downcast_run_array! {
                    array => Self::Indirect {
                        index: (0..rows).map(|i| array.get_physical_index(i)).collect(),
                        values: child(item, array.values().as_ref())?,
                    },
                    other => return Err(ArrowError::NotYetImplemented(format!("showing values of type {other}"))),
                }
            }
            _ => Self::Other(ArrayFormatter::try_new(array, options)?),
        })
    }
}

/// The number of bits if the field is a `BITVEC(n)` stored in `bytes` bytes.
fn bit_length(field: &Field, bytes: usize) -> Option<usize> {
    if field.metadata().get(EXTENSION_NAME)? != "triune.bitvec" {
        return None;
    }
    let parameters: serde_json::Value =
        serde_json::from_str(field.metadata().get(EXTENSION_METADATA)?).ok()?;
    let bits = usize::try_from(parameters.get("dims")?.as_u64()?).ok()?;
    (bits.div_ceil(8) == bytes).then_some(bits)
}

/// Most significant bit first, as they are written in SQL.
fn write_bits(bytes: &UInt8Array, from: usize, bits: usize, out: &mut String) {
    for bit in 0..bits {
        let byte = bytes.value(from + bit / 8);
        out.push(if byte & (0x80 >> (bit % 8)) == 0 { '0' } else { '1' });
    }
}

fn write_json_float(value: f64, row: usize, column: &Column<'_>, out: &mut String) {
    if value.is_finite() {
        column.write_display(row, out, true);
    } else {
        out.push_str("null");
    }
}

mod span;
#[cfg(test)]
mod tests;
