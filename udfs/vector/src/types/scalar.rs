//! One value as a vector: what `to_vector(value, 'VECTOR(n)')` gives, for parameters.

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
