//! ```sql
//! CREATE TABLE docs (id BIGINT, embedding VECTOR(384), small HALFVEC(384), tiny TINYVEC(384), sign BITVEC(384));
//! SELECT '[1,2,3]'::VECTOR(3);
//! ```
//!
//! | SQL          | elements                     | Arrow                                 | extension name   |
//! |--------------|------------------------------|---------------------------------------|------------------|
//! | `VECTOR(n)`  | `f32`                        | `FixedSizeList<Float32, n>`           | `triune.vector`  |
//! | `HALFVEC(n)` | `f16`                        | `FixedSizeList<Float16, n>`           | `triune.halfvec` |
//! | `TINYVEC(n)` | whole numbers -128 … 127     | `FixedSizeList<Int8, n>`              | `triune.tinyvec` |
//! | `BITVEC(n)`  | bits, the first one highest  | `FixedSizeList<UInt8, ceil(n/8)>`     | `triune.bitvec`  |
//!
//! The extension metadata is `{"dims":n}`. A list without metadata counts as the vector that its elements
//! fit (`float[3]` is a `VECTOR(3)`), whatever its child field is called; only the exact number of bits of a
//! `BITVEC` needs the metadata. Bits beyond `n` in the last byte are zero.
//!
//! A vector has 1 to 65,535 dimensions, all of them numbers: no NULL, NaN or infinity enters through a text,
//! a cast or a literal. Columns of files are taken as they are; what functions make of a NaN found there is
//! said at each function.

pub(crate) mod convert;
mod planner;
mod scalar;
pub(crate) mod text;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::scalar::ScalarValue;
use triune_common::{Error, Result};

pub use planner::VectorTypePlanner;
pub use scalar::{array_to_vectors, scalar_to_vector};
pub use text::{parse_text, print_text};

/// The largest number of dimensions: what an index over 16 bits can name.
pub const MAX_DIMS: usize = 65_535;

const EXTENSION_NAME: &str = "ARROW:extension:name";
const EXTENSION_METADATA: &str = "ARROW:extension:metadata";

/// What the elements of a vector are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VectorKind {
    /// `VECTOR`: 32-bit floats.
    Vector,
    /// `HALFVEC`: 16-bit floats.
    HalfVec,
    /// `TINYVEC`: whole numbers of 8 bits.
    TinyVec,
    /// `BITVEC`: bits, eight to a byte.
    BitVec,
}

impl VectorKind {
    const ALL: [Self; 4] = [Self::Vector, Self::HalfVec, Self::TinyVec, Self::BitVec];

    /// The word in SQL: `VECTOR`, `HALFVEC`, `TINYVEC`, `BITVEC`.
    pub fn sql_name(self) -> &'static str {
        match self {
            Self::Vector => "VECTOR",
            Self::HalfVec => "HALFVEC",
            Self::TinyVec => "TINYVEC",
            Self::BitVec => "BITVEC",
        }
    }

    /// The value of `ARROW:extension:name`.
    pub fn extension_name(self) -> &'static str {
        match self {
            Self::Vector => "triune.vector",
            Self::HalfVec => "triune.halfvec",
            Self::TinyVec => "triune.tinyvec",
            Self::BitVec => "triune.bitvec",
        }
    }

    /// The type of one element of the Arrow list.
    pub fn element(self) -> DataType {
        match self {
            Self::Vector => DataType::Float32,
            Self::HalfVec => DataType::Float16,
            Self::TinyVec => DataType::Int8,
            Self::BitVec => DataType::UInt8,
        }
    }

    fn from_element(element: &DataType) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.element() == *element)
    }

    /// The kind that a word in SQL names, in any case.
    pub fn from_sql_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.sql_name().eq_ignore_ascii_case(name))
    }
}

/// A vector type with its number of dimensions; displayed as in SQL: `VECTOR(384)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VectorType {
    pub kind: VectorKind,
    /// Elements, or bits for a `BITVEC`: 1 to [`MAX_DIMS`].
    pub dims: usize,
}

impl fmt::Display for VectorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.kind.sql_name(), self.dims)
    }
}

impl VectorType {
    /// # Errors
    /// `dims` is not within 1 … [`MAX_DIMS`].
    pub fn try_new(kind: VectorKind, dims: usize) -> Result<Self> {
        if (1..=MAX_DIMS).contains(&dims) {
            Ok(Self { kind, dims })
        } else {
            Err(bad_length(kind, &dims.to_string()))
        }
    }

    /// The type that `name` and the text between its brackets say: `("vector", Some("3"))`.
    /// `Ok(None)` when the name is not that of a vector type.
    ///
    /// # Errors
    /// The length is missing or not a whole number within 1 … [`MAX_DIMS`].
    pub fn from_sql_name(name: &str, dims: Option<&str>) -> Result<Option<Self>> {
        let Some(kind) = VectorKind::from_sql_name(name) else { return Ok(None) };
        let Some(dims) = dims else {
            let name = kind.sql_name();
            return Err(Error::invalid(format!("{name} needs a number of dimensions, such as {name}(384)")));
        };
        match dims.trim().parse::<usize>() {
            Ok(n) => Self::try_new(kind, n).map(Some),
            Err(_) => Err(bad_length(kind, dims)),
        }
    }

    /// Elements of the Arrow list: bytes for a `BITVEC`, else the dimensions.
    pub fn list_size(self) -> usize {
        match self.kind {
            VectorKind::BitVec => self.dims.div_ceil(8),
            _ => self.dims,
        }
    }

    /// The child field of the Arrow list.
    pub(crate) fn item(self) -> Arc<Field> {
        Arc::new(Field::new("item", self.kind.element(), true))
    }

    /// The Arrow type, without the metadata that only a field can carry.
    pub fn data_type(self) -> DataType {
        // At most MAX_DIMS, so within i32.
        DataType::FixedSizeList(self.item(), self.list_size() as i32)
    }

    /// An Arrow field of this type with its extension metadata.
    pub fn field(self, name: &str, nullable: bool) -> Field {
        Field::new(name, self.data_type(), nullable).with_metadata(
            [
                (EXTENSION_NAME.to_owned(), self.kind.extension_name().to_owned()),
                (EXTENSION_METADATA.to_owned(), format!("{{\"dims\":{}}}", self.dims)),
            ]
            .into(),
        )
    }

    /// The vector type of a field: what its metadata says where that fits the Arrow type, else what
    /// [`VectorType::from_data_type`] finds.
    pub fn from_field(field: &Field) -> Option<Self> {
        let plain = Self::from_data_type(field.data_type())?;
        let named = field.metadata().get(EXTENSION_NAME).is_some_and(|n| n == plain.kind.extension_name());
        let dims = field.metadata().get(EXTENSION_METADATA).filter(|_| named).and_then(|m| dims_of(m));
        match dims.map(|dims| Self { kind: plain.kind, dims }) {
            Some(exact) if exact.list_size() == plain.list_size() && exact.dims > 0 => Some(exact),
            _ => Some(plain),
        }
    }

    /// The vector type of an Arrow type: a fixed-size list of 1 … [`MAX_DIMS`] `Float32`, `Float16`, `Int8`
    /// or `UInt8` (which is a `BITVEC` of eight bits per byte).
    pub fn from_data_type(data_type: &DataType) -> Option<Self> {
        let DataType::FixedSizeList(item, size) = data_type else { return None };
        let kind = VectorKind::from_element(item.data_type())?;
        let size = usize::try_from(*size).ok()?;
        let dims = match kind {
            // The last byte may be padding, so one byte more than MAX_DIMS / 8 is allowed.
            VectorKind::BitVec => {
                (size.checked_mul(8)?).min(if size == MAX_DIMS.div_ceil(8) { MAX_DIMS } else { usize::MAX })
            }
            _ => size,
        };
        Self::try_new(kind, dims).ok()
    }

    /// The NULL of this type.
    pub fn null(self) -> ScalarValue {
        ScalarValue::FixedSizeList(Arc::new(arrow::array::FixedSizeListArray::new_null(
            self.item(),
            self.list_size() as i32,
            1,
        )))
    }
}

/// Reads the `VECTOR(3)` that [`fmt::Display`] writes.
impl FromStr for VectorType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let trimmed = text.trim();
        let (name, dims) = match trimmed.split_once('(') {
            Some((name, rest)) => (name.trim(), Some(rest.strip_suffix(')').unwrap_or(rest))),
            None => (trimmed, None),
        };
        Self::from_sql_name(name, dims)?.ok_or_else(|| {
            Error::invalid(format!(
                "'{text}' is no vector type; there are VECTOR(n), HALFVEC(n), TINYVEC(n) and BITVEC(n)"
            ))
        })
    }
}

fn bad_length(kind: VectorKind, got: &str) -> Error {
    let name = kind.sql_name();
    Error::invalid(format!(
        "{name}({got}): the number of dimensions must be a whole number from 1 to {MAX_DIMS}"
    ))
}

/// Reads `{"dims":n}` as we write it, also with spaces.
fn dims_of(metadata: &str) -> Option<usize> {
    let body = metadata.trim().strip_prefix('{')?.strip_suffix('}')?;
    body.split(',').find_map(|pair| {
        let (key, value) = pair.split_once(':')?;
        (key.trim() == "\"dims\"").then(|| value.trim().parse().ok())?
    })
}

/// What a column or expression is called in an error: `VECTOR(3)`, `DOUBLE[]`, `VARCHAR`.
pub(crate) fn type_name(field: &Field) -> String {
    match VectorType::from_field(field) {
        Some(vector) => vector.to_string(),
        None => data_type_name(field.data_type()),
    }
}

fn data_type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "NULL".to_owned(),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INTEGER".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".to_owned(),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) => {
            format!("{}[]", data_type_name(item.data_type()))
        }
        DataType::FixedSizeList(item, size) => format!("{}[{size}]", data_type_name(item.data_type())),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
