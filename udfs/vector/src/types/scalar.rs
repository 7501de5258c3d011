//! One value as a vector: what `to_vector(value, 'VECTOR(n)')` gives, for parameters; and columns of them, for rows
//! that are written.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use datafusion::common::ScalarValue;
use triune_common::Result;

use super::VectorType;
use super::convert::to_vectors;
use super::text::Rounding;

/// Converts a text, a list or another vector; NULL becomes the NULL of the type.
///
/// # Errors
/// Those of the cast: a wrong length, an element that is no number, NaN, a value out of range.
pub fn scalar_to_vector(value: &ScalarValue, ty: VectorType) -> Result<ScalarValue> {
    if value.is_null() {
        return Ok(ty.null());
    }
    let array = value.to_array_of_size(1)?;
    // The Arrow type knows the bytes of a BITVEC and not its bits.
    let from = VectorType::from_data_type(&value.data_type())
        .map(|from| if from.kind == ty.kind && from.list_size() == ty.list_size() { ty } else { from });
    let vectors = to_vectors(&array, from, ty, Rounding::Nearest)?;
    Ok(ScalarValue::try_from_array(&vectors, 0)?)
}

/// Converts a column of texts, lists or vectors; `from` is its field, whose metadata tells the bits of a `BITVEC`.
///
/// # Errors
/// Those of [`scalar_to_vector`], without the row.
pub fn array_to_vectors(array: &ArrayRef, from: &Field, ty: VectorType) -> Result<ArrayRef> {
    let plain = from.metadata().is_empty();
    // Without metadata the Arrow type knows the bytes of a BITVEC and not its bits.
    let from = VectorType::from_field(from)
        .map(|f| if plain && f.kind == ty.kind && f.list_size() == ty.list_size() { ty } else { f });
    Ok(Arc::new(to_vectors(array, from, ty, Rounding::Nearest)?))
}
