//! Keys: how a row of a table is told from every other row.
//!
//! ```text
//!  PRIMARY KEY (id BIGINT)           one integer, date, time or boolean column   Keys::Ints   order-preserving u64
//!  PRIMARY KEY (tenant, name)        anything else                               Keys::Bytes  arrow's row format
//!  no primary key                    the hidden column _rid, a growing number    Keys::Ints
//! ```
//!
//! Whatever refers to a row (an update, a delete, a conflict, a WAL record) refers to its key and never to
//! a place, so that moving rows from the hot store to the base, or rewriting the base, disturbs nobody.
//!
//! Keys compare as SQL compares the columns, column by column; a key column is never NULL. A text compares by
//! its bytes; -0.0 equals 0.0 and all NaN are one key.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type, Schema, SchemaRef, UInt64Type};
use arrow::row::{RowConverter, SortField};
use triune_common::{Error, ErrorKind, Result};

/// The hidden key column of a table without a primary key.
pub const RID: &str = "_rid";

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Int(u64),
    Bytes(Box<[u8]>),
}

impl Key {
    pub fn as_ref(&self) -> KeyRef<'_> {
        match self {
            Self::Int(i) => KeyRef::Int(*i),
            Self::Bytes(b) => KeyRef::Bytes(b),
        }
    }
}

/// A key that belongs to somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyRef<'a> {
    Int(u64),
    Bytes(&'a [u8]),
}

impl KeyRef<'_> {
    pub fn to_owned(self) -> Key {
        match self {
            Self::Int(i) => Key::Int(i),
            Self::Bytes(b) => Key::Bytes(b.into()),
        }
    }
}

/// The keys of several rows, in the rows' order. All of one table are of one variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    Ints(Vec<u64>),
    Bytes(Vec<Box<[u8]>>),
}

impl Keys {
    pub fn len(&self) -> usize {
        match self {
            Self::Ints(v) => v.len(),
            Self::Bytes(v) => v.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Panics when `i` is out of range, as indexing a slice does.
    pub fn get(&self, i: usize) -> KeyRef<'_> {
        match self {
            Self::Ints(v) => KeyRef::Int(v[i]),
            Self::Bytes(v) => KeyRef::Bytes(&v[i]),
        }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = KeyRef<'_>> + '_ {
        (0..self.len()).map(|i| self.get(i))
    }

    pub fn kind(&self) -> KeyKind {
        match self {
            Self::Ints(_) => KeyKind::Int,
            Self::Bytes(_) => KeyKind::Bytes,
        }
    }

    /// The first key that occurs twice.
    pub fn duplicate(&self) -> Option<(usize, usize)> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_unstable_by(|a, b| self.get(*a).cmp(&self.get(*b)).then(a.cmp(b)));
        order
            .windows(2)
            .find(|w| self.get(w[0]).cmp(&self.get(w[1])) == Ordering::Equal)
            .map(|w| (w[0], w[1]))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    Int,
    Bytes,
}

/// Turns key columns into keys and back.
#[derive(Debug)]
pub struct KeyCodec {
    /// Places of the key columns in the table's stored schema.
    columns: Vec<usize>,
    types: Vec<DataType>,
    names: Vec<String>,
    rows: Option<RowConverter>,
}

impl KeyCodec {
    /// `columns` are the key's places in `schema`, in the order of the PRIMARY KEY clause.
    ///
    /// Errors: unsupported for a type that has no order (lists, vectors, structs, intervals).
    pub fn try_new(schema: &SchemaRef, columns: Vec<usize>) -> Result<Self> {
        let fields: Vec<_> = columns.iter().map(|c| schema.field(*c)).collect();
        for field in &fields {
            if !can_be_key(field.data_type()) {
                return Err(Error::unsupported(format!(
                    "the column \"{}\" of type {} cannot be part of a primary key",
                    field.name(),
                    field.data_type()
                ))
                .with_hint("use numbers, texts, binaries, dates, times, timestamps, booleans or UUIDs"));
            }
        }
        let types: Vec<_> = fields.iter().map(|f| f.data_type().clone()).collect();
        let names = fields.iter().map(|f| f.name().clone()).collect();
        let rows = if let [one] = types.as_slice()
            && int_width(one).is_some()
        {
            None
        } else {
            let fields = types.iter().map(|t| SortField::new(t.clone())).collect();
            Some(RowConverter::new(fields)?)
        };
        Ok(Self { columns, types, names, rows })
    }

    pub fn kind(&self) -> KeyKind {
        if self.rows.is_none() { KeyKind::Int } else { KeyKind::Bytes }
    }

    /// Places of the key columns in the stored schema.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The keys of a batch that has the table's stored schema.
    pub fn keys_of(&self, batch: &RecordBatch) -> Result<Keys> {
        let columns: Vec<_> = self.columns.iter().map(|c| Arc::clone(batch.column(*c))).collect();
        self.encode(&columns)
    }

    /// Keys from the key columns alone, in the order of the key. Errors: a NULL in a key column.
    pub fn encode(&self, columns: &[ArrayRef]) -> Result<Keys> {
        if columns.len() != self.types.len() {
            return Err(Error::internal(format!(
                "a key has {} columns, not {}",
                self.types.len(),
                columns.len()
            )));
        }
        let mut fitting = Vec::with_capacity(columns.len());
        for ((column, data_type), name) in columns.iter().zip(&self.types).zip(&self.names) {
            if column.null_count() > 0 {
                return Err(Error::new(
                    ErrorKind::Constraint,
                    format!("NULL in the key column \"{name}\", which is NOT NULL"),
                ));
            }
            let column =
                if column.data_type() == data_type { Arc::clone(column) } else { cast(column, data_type)? };
            fitting.push(one_zero_one_nan(&column));
        }
        let Some(rows) = &self.rows else {
            return Ok(Keys::Ints(ordered_ints(&fitting[0])?));
        };
        let rows = rows.convert_columns(&fitting)?;
        Ok(Keys::Bytes(rows.iter().map(|r| r.as_ref().into()).collect()))
    }

    /// The key as a user would write it: `(id)=(42)`.
    pub fn describe(&self, key: KeyRef<'_>) -> String {
        let values = match self.decode(&[key]) {
            Ok(columns) => columns
                .iter()
                .map(|c| arrow::util::display::array_value_to_string(c, 0).unwrap_or_else(|_| "?".to_owned()))
                .collect::<Vec<_>>()
                .join(", "),
            Err(_) => "?".to_owned(),
        };
        format!("({})=({values})", self.names.join(", "))
    }

    /// The key columns for keys.
    pub fn decode(&self, keys: &[KeyRef<'_>]) -> Result<Vec<ArrayRef>> {
        match &self.rows {
            None => {
                let ints = keys.iter().map(|k| match k {
                    KeyRef::Int(i) => Ok(*i),
                    KeyRef::Bytes(_) => Err(Error::internal("a bytes key where an integer key belongs")),
                });
                let ints = ints.collect::<Result<Vec<_>>>()?;
                Ok(vec![from_ordered_ints(ints, &self.types[0])?])
            }
            Some(rows) => {
                let parser = rows.parser();
                let found = keys.iter().map(|k| match k {
                    KeyRef::Bytes(b) => Ok(parser.parse(b)),
                    KeyRef::Int(_) => Err(Error::internal("an integer key where a bytes key belongs")),
                });
                let found = found.collect::<Result<Vec<_>>>()?;
                Ok(rows.convert_rows(found)?)
            }
        }
    }
}

/// Whether values of the type have a total order that keys can follow.
pub fn can_be_key(data_type: &DataType) -> bool {
    use DataType as T;
    int_width(data_type).is_some()
        || matches!(
            data_type,
            T::Utf8
                | T::LargeUtf8
                | T::Utf8View
                | T::Binary
                | T::LargeBinary
                | T::BinaryView
                | T::FixedSizeBinary(_)
                | T::Float16
                | T::Float32
                | T::Float64
                | T::Decimal128(..)
                | T::Decimal256(..)
        )
}

/// How many bits a type has whose values are integers inside; `None` for others.
fn int_width(data_type: &DataType) -> Option<(u32, bool)> {
    use DataType as T;
    match data_type {
        T::Boolean => Some((1, false)),
        T::UInt8 => Some((8, false)),
        T::UInt16 => Some((16, false)),
        T::UInt32 => Some((32, false)),
        T::UInt64 => Some((64, false)),
        T::Int8 => Some((8, true)),
        T::Int16 => Some((16, true)),
        T::Int32 | T::Date32 | T::Time32(_) => Some((32, true)),
        T::Int64 | T::Date64 | T::Time64(_) | T::Timestamp(..) | T::Duration(_) => Some((64, true)),
        _ => None,
    }
}

/// The type of the same bits that arrow casts to and from `UInt64`/`Int64`.
fn plain(data_type: &DataType) -> DataType {
    match int_width(data_type) {
        Some((32, true)) => DataType::Int32,
        Some((64, true)) => DataType::Int64,
        _ => data_type.clone(),
    }
}

const SIGN: u64 = 1 << 63;

fn ordered_ints(column: &ArrayRef) -> Result<Vec<u64>> {
    let data_type = column.data_type().clone();
    let signed = int_width(&data_type).is_some_and(|(_, signed)| signed);
    // A timestamp's bits are an Int64; only the type on them changes.
    let column = if plain(&data_type) == data_type {
        Arc::clone(column)
    } else {
        arrow::array::make_array(column.to_data().into_builder().data_type(plain(&data_type)).build()?)
    };
    if signed {
        let wide = cast(&column, &DataType::Int64)?;
        Ok(wide
            .as_primitive::<arrow::datatypes::Int64Type>()
            .values()
            .iter()
            .map(|v| v.cast_unsigned() ^ SIGN)
            .collect())
    } else {
        let wide = cast(&column, &DataType::UInt64)?;
        Ok(wide.as_primitive::<UInt64Type>().values().to_vec())
    }
}

fn from_ordered_ints(ints: Vec<u64>, data_type: &DataType) -> Result<ArrayRef> {
    let signed = int_width(data_type).is_some_and(|(_, signed)| signed);
    let wide: ArrayRef = if signed {
        let values: Vec<i64> = ints.into_iter().map(|v| (v ^ SIGN).cast_signed()).collect();
        Arc::new(arrow::array::Int64Array::from(values))
    } else {
        Arc::new(UInt64Array::from(ints))
    };
    let narrow = cast(&wide, &plain(data_type))?;
    if narrow.data_type() == data_type {
        return Ok(narrow);
    }
    Ok(arrow::array::make_array(narrow.to_data().into_builder().data_type(data_type.clone()).build()?))
}

/// SQL's equality on floats as equality of bits.
fn one_zero_one_nan(column: &ArrayRef) -> ArrayRef {
    macro_rules! normal {
        ($t:ty, $zero:expr, $nan:expr) => {
            Arc::new(column.as_primitive::<$t>().unary::<_, $t>(|v| {
                if v.is_nan() {
                    $nan
                } else if v == $zero {
                    $zero
                } else {
                    v
                }
            }))
        };
    }
    match column.data_type() {
        DataType::Float16 => {
            // `half` is arrow's own type for it; its zero and NaN are made from bits.
            let zero = <Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native::default();
            let nan = <Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native::from_bits(0x7e00);
            normal!(Float16Type, zero, nan)
        }
        DataType::Float32 => normal!(Float32Type, 0.0, f32::NAN),
        DataType::Float64 => normal!(Float64Type, 0.0, f64::NAN),
        _ => Arc::clone(column),
    }
}

/// The schema of the key columns alone.
pub fn key_schema(schema: &Schema, columns: &[usize]) -> Result<SchemaRef> {
    Ok(Arc::new(schema.project(columns)?))
}

#[cfg(test)]
mod tests;
