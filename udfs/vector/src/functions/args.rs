//! What the arguments of a vector function are, and how two of them are brought together.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;
use triune_common::{Error, Result};

use crate::kernels::check_dims;
use crate::types::convert::{is_number, to_vectors};
use crate::types::text::Rounding;
use crate::types::{VectorKind, VectorType, type_name};

/// What an argument is, as far as its type tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Vector(VectorType),
    /// A list of numbers that is no vector: `[1, 2, 3]`, `double[]`.
    List,
    /// `'[1,2,3]'`
    Text,
    /// NULL, or a parameter that has no type yet.
    Null,
}

impl Shape {
    /// `None` for what is neither vector, list, text nor NULL.
    pub(crate) fn of(field: &Field) -> Option<Self> {
        if let Some(ty) = VectorType::from_field(field) {
            return Some(Self::Vector(ty));
        }
        Self::of_type(field.data_type())
    }

    fn of_type(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Null => Some(Self::Null),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(Self::Text),
            DataType::Dictionary(_, value) => Self::of_type(value).filter(|shape| *shape == Self::Text),
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::FixedSizeList(item, _)
                if is_number(item.data_type()) =>
            {
                Some(Self::List)
            }
            _ => None,
        }
    }

    pub(crate) fn vector(self) -> Option<VectorType> {
        match self {
            Self::Vector(ty) => Some(ty),
            _ => None,
        }
    }
}

/// The shape of argument `index` (from 0) of `function`.
///
/// # Errors
/// It is nothing that a vector can be made of.
pub(crate) fn shape(function: &str, index: usize, field: &Field) -> Result<Shape> {
    Shape::of(field).ok_or_else(|| {
        let (position, found) = (index + 1, type_name(field));
        Error::invalid(format!("{function}: argument {position} is {found}, expected a vector")).with_hint(
            "accepted are VECTOR, HALFVEC, TINYVEC, BITVEC, lists of numbers and texts such as '[1,2,3]'",
        )
    })
}

/// # Errors
/// The function was called with another number of arguments.
pub(crate) fn arity<const N: usize>(function: &str, fields: &[FieldRef]) -> Result<[FieldRef; N]> {
    <[FieldRef; N]>::try_from(fields.to_vec()).map_err(|got| {
        let s = if N == 1 { "" } else { "s" };
        Error::invalid(format!("{function} takes {N} argument{s}, got {}", got.len()))
    })
}

/// How the two arguments of a function meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// Both sides become vectors, each of the type given here. The types differ only where the kernels read
    /// both (`VECTOR` beside `HALFVEC`).
    Vectors(VectorType, VectorType),
    /// Both are plain lists (or NULL), compared in `f64`.
    Lists,
}

/// Decides how the arguments of a function of two vectors meet.
///
/// A list, text or NULL takes the type of the vector beside it. Of two kinds of vectors the wider wins:
/// `TINYVEC` becomes `VECTOR`, or `HALFVEC` beside one; `VECTOR` and `HALFVEC` stay what they are.
///
/// # Errors
/// An argument is no vector, both are texts, dimensions differ, or only one side is of bits.
pub(crate) fn meet(function: &str, left: &Field, right: &Field) -> Result<Meeting> {
    let shapes = (shape(function, 0, left)?, shape(function, 1, right)?);
    Ok(match shapes {
        (Shape::Vector(a), Shape::Vector(b)) => {
            let (a, b) = same_bits(left, a, right, b);
            check_dims(a, b)?;
            let (a, b) = match (a.kind, b.kind) {
                (VectorKind::TinyVec, other) if other != VectorKind::TinyVec => (b, b),
                (other, VectorKind::TinyVec) if other != VectorKind::TinyVec => (a, a),
                _ => (a, b),
            };
            Meeting::Vectors(a, b)
        }
        (Shape::Vector(a), _) => Meeting::Vectors(a, a),
        (_, Shape::Vector(b)) => Meeting::Vectors(b, b),
        (Shape::Text, Shape::Text | Shape::List | Shape::Null) | (Shape::List | Shape::Null, Shape::Text) => {
            let (l, r) = (type_name(left), type_name(right));
            return Err(Error::invalid(format!("{function}({l}, {r}): one side must be a vector"))
                .with_hint("cast the text: '[1,2,3]'::VECTOR(3)"));
        }
        (Shape::List | Shape::Null, Shape::List | Shape::Null) => Meeting::Lists,
    })
}

/// A BITVEC whose field has no metadata knows only its bytes; beside one of as many bytes that does know its
/// bits it is taken to have these.
fn same_bits(left: &Field, a: VectorType, right: &Field, b: VectorType) -> (VectorType, VectorType) {
    if a.kind != VectorKind::BitVec || b.kind != VectorKind::BitVec || a.list_size() != b.list_size() {
        return (a, b);
    }
    match (left.metadata().is_empty(), right.metadata().is_empty()) {
        (true, false) => (b, b),
        (false, true) => (a, a),
        _ => (a, b),
    }
}

/// An argument converted to vectors: a constant stays one row.
#[derive(Debug)]
pub(crate) enum Side {
    Constant(FixedSizeListArray),
    Column(FixedSizeListArray),
}

impl Side {
    /// Converts `value`, whose field is `field`, to vectors of type `to`.
    pub(crate) fn try_new(value: &ColumnarValue, field: &Field, to: VectorType) -> Result<Self> {
        let from = VectorType::from_field(field);
        // Without metadata the bits of a BITVEC are those that it meets.
        let from =
            from.map(|ty| if ty.kind == to.kind && ty.list_size() == to.list_size() { to } else { ty });
        let as_is = from == Some(to);
        let convert = |array: &ArrayRef| -> Result<FixedSizeListArray> {
            if as_is {
                // Taken as it is, also with a NaN that a file may hold.
                return Ok(datafusion::common::cast::as_fixed_size_list_array(array)?.clone());
            }
            to_vectors(array, from, to, Rounding::Refuse)
        };
        match value {
            ColumnarValue::Scalar(scalar) => Ok(Self::Constant(convert(&scalar.to_array()?)?)),
            ColumnarValue::Array(array) => Ok(Self::Column(convert(array)?)),
        }
    }
}

/// `nullable` of a result that is NULL where any argument is.
pub(crate) fn any_nullable(fields: &[FieldRef]) -> bool {
    fields.iter().any(|f| f.is_nullable() || f.data_type().is_null())
}

/// The first row of a one-row result as the constant that it is.
pub(crate) fn constant(array: &ArrayRef) -> Result<ColumnarValue, DataFusionError> {
    Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(array, 0)?))
}

/// Runs `f` on the argument as an array: over one row for a constant, whose result is a constant again.
pub(crate) fn map_rows(
    value: &ColumnarValue,
    f: impl FnOnce(&ArrayRef) -> Result<ArrayRef>,
) -> Result<ColumnarValue, DataFusionError> {
    match value {
        ColumnarValue::Scalar(scalar) => constant(&f(&scalar.to_array()?)?),
        ColumnarValue::Array(array) => Ok(ColumnarValue::Array(f(array)?)),
    }
}

/// The result field of a function: its name is replaced by the planner.
pub(crate) fn result_field(name: &str, data_type: DataType, nullable: bool) -> FieldRef {
    Arc::new(Field::new(name, data_type, nullable))
}
