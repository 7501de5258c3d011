//! Column against column: the distance of each row on the left to the row beside it.

use arrow::array::{Array, AsArray, FixedSizeListArray, Float32Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Float16Type, Float32Type, Int8Type, UInt8Type};
use triune_common::{Error, Result};

use super::Metric;
use super::dispatch::table;
use super::query::{by_bit_measure, by_measure, negate};
use crate::types::convert::check_elements;
use crate::types::{VectorKind, VectorType};

/// The distance between row `i` of `left` and row `i` of `right`.
///
/// *Input*: two columns of as many rows and dimensions, of the same kind or one of `f32` and one of `f16`.
/// *Output, nulls, NaN*: as for [`super::distances`]; NULL where either side is. *Cost*: one pass over both.
///
/// # Errors
/// The types do not fit each other or the metric; a row that is not NULL holds a NULL element.
pub fn pairwise(
    metric: Metric,
    left: &FixedSizeListArray,
    right: &FixedSizeListArray,
) -> Result<Float32Array> {
    let (Some(l), Some(r)) =
        (VectorType::from_data_type(left.data_type()), VectorType::from_data_type(right.data_type()))
    else {
        return Err(Error::internal(format!(
            "{} and {} are no vectors",
            left.data_type(),
            right.data_type()
        )));
    };
    metric.check(l.kind)?;
    super::check_dims(l, r)?;
    if left.len() != right.len() {
        return Err(Error::internal(format!("{} rows against {} rows", left.len(), right.len())));
    }
    check_elements(left)?;
    check_elements(right)?;
    let mut out = vec![0f32; left.len()];
    let (a, b) = (left.values(), right.values());
    match (l.kind, r.kind) {
        (VectorKind::Vector, VectorKind::Vector) => {
            let (a, b) = (a.as_primitive::<Float32Type>().values(), b.as_primitive::<Float32Type>().values());
            // SAFETY: the table is that of the detected level.
            unsafe { by_measure(metric, &table().f32_pairs)(a, b, l.dims, &mut out) }
        }
        (VectorKind::HalfVec, VectorKind::HalfVec) => {
            let (a, b) = (a.as_primitive::<Float16Type>().values(), b.as_primitive::<Float16Type>().values());
            // SAFETY: the table is that of the detected level.
            unsafe { by_measure(metric, &table().f16_pairs)(a, b, l.dims, &mut out) }
        }
        (VectorKind::Vector, VectorKind::HalfVec) => {
            let (a, b) = (a.as_primitive::<Float32Type>().values(), b.as_primitive::<Float16Type>().values());
            // SAFETY: the table is that of the detected level.
            unsafe { by_measure(metric, &table().mixed_pairs)(a, b, l.dims, &mut out) }
        }
        // Every metric is symmetric.
        (VectorKind::HalfVec, VectorKind::Vector) => return pairwise(metric, right, left),
        (VectorKind::TinyVec, VectorKind::TinyVec) => {
            let (a, b) = (a.as_primitive::<Int8Type>().values(), b.as_primitive::<Int8Type>().values());
            // SAFETY: the table is that of the detected level.
            unsafe { by_measure(metric, &table().i8_pairs)(a, b, l.dims, &mut out) }
        }
        (VectorKind::BitVec, VectorKind::BitVec) => {
            let (a, b) = (a.as_primitive::<UInt8Type>().values(), b.as_primitive::<UInt8Type>().values());
            // SAFETY: the table is that of the detected level.
            unsafe { by_bit_measure(metric, &table().bit_pairs)(a, b, l.list_size(), &mut out) }
        }
        _ => return Err(Error::internal(format!("{l} and {r} were not brought to one type"))),
    }
    negate(metric, &mut out);
    Ok(Float32Array::new(out.into(), NullBuffer::union(left.nulls(), right.nulls())))
}
