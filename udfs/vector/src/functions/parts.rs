//! ```sql
//! SELECT vector_dims(embedding), subvector(embedding, 1, 128) FROM docs;
//! ```
//!
//! `vector_dims(v)` is the number of dimensions (bits for a `BITVEC`), `INTEGER`; the length of each row for a
//! list. `subvector(v, start, count)` is the part of `count` dimensions from `start`, which counts from 1; as
//! in pgvector a part that reaches beyond either end is cut there. `start` and `count` are constants, so that
//! the result has a type: `subvector(VECTOR(384), 1, 128)` is a `VECTOR(128)`.
//!
//! *Nulls*: NULL gives NULL. *Errors*: nothing is left of the part; `start` or `count` is no constant; a list,
//! whose length no type tells.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Int32Array, UInt8Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, FieldRef, UInt8Type};
use datafusion::common::Result;
use datafusion::common::cast::as_fixed_size_list_array;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
};
use datafusion::scalar::ScalarValue;
use triune_common::Error;

use super::args::{Shape, any_nullable, arity, map_rows, result_field, shape};
use super::doc::doc;
use super::{example, shared_methods, signature};
use crate::types::convert::Doubles;
use crate::types::{VectorKind, VectorType, type_name};

/// `vector_dims(vector)`
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct VectorDimsFunc {
    signature: Signature,
}

impl Default for VectorDimsFunc {
    fn default() -> Self {
        Self { signature: signature(&[&[example(VectorKind::Vector)]]) }
    }
}

impl ScalarUDFImpl for VectorDimsFunc {
    shared_methods!("vector_dims");

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [field] = arity::<1>("vector_dims", args.arg_fields)?;
        if shape("vector_dims", 0, &field)? == Shape::Text {
            let found = type_name(&field);
            return Err(Error::invalid(format!("vector_dims: argument 1 is {found}, expected a vector"))
                .with_hint("cast the text: '[1,2,3]'::VECTOR(3)")
                .into());
        }
        Ok(result_field("vector_dims", DataType::Int32, any_nullable(args.arg_fields)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (Some(value), Some(field)) = (args.args.first(), args.arg_fields.first()) else {
            return datafusion::common::internal_err!("vector_dims was called without an argument");
        };
        map_rows(value, |array| {
            if let Some(ty) = VectorType::from_field(field) {
                let dims = vec![ty.dims as i32; array.len()];
                return Ok(Arc::new(Int32Array::new(dims.into(), array.nulls().cloned())) as ArrayRef);
            }
            let lists = Doubles::try_new(array)?;
            let dims = (0..array.len()).map(|i| lists.row_len(i).map(|n| n as i32));
            Ok(Arc::new(dims.collect::<Int32Array>()) as ArrayRef)
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOC: LazyLock<Documentation> = LazyLock::new(|| {
            doc(
                "Number of dimensions of a vector, of bits for a BITVEC. NULL gives NULL.",
                "vector_dims(vector)",
                "> SELECT vector_dims('[1,2,3]'::VECTOR(3));\n3",
                &[("vector", "A vector of any kind or a list of numbers.")],
            )
        });
        Some(&DOC)
    }
}

/// `subvector(vector, start, count)`
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct SubvectorFunc {
    signature: Signature,
}

impl Default for SubvectorFunc {
    fn default() -> Self {
        Self { signature: signature(&[&[example(VectorKind::Vector), DataType::Int64, DataType::Int64]]) }
    }
}

/// A part of a vector: elements `from .. from + ty.dims`, counted from 0.
struct Part {
    from: usize,
    ty: VectorType,
}

/// # Errors
/// Nothing of the vector lies within `start` (from 1) and `count`.
fn part(of: VectorType, start: i64, count: i64) -> triune_common::Result<Part> {
    let end = start.saturating_add(count).clamp(1, of.dims as i64 + 1);
    let first = start.clamp(1, of.dims as i64 + 1);
    match usize::try_from(end - first) {
        Ok(dims) if dims > 0 => Ok(Part { from: first as usize - 1, ty: VectorType { dims, ..of } }),
        _ => Err(Error::invalid(format!("subvector: no dimension of {of} lies within {count} from {start}"))
            .with_hint(format!("start counts from 1 to {}, count is at least 1", of.dims))),
    }
}

fn whole_number(value: Option<&ScalarValue>, what: &str) -> triune_common::Result<i64> {
    let wrong = || {
        Error::invalid(format!("subvector: {what} must be a constant whole number"))
            .with_hint("it decides the type of the result")
    };
    match value.ok_or_else(wrong)?.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(Some(n))) if value.is_some_and(|v| v.data_type().is_integer()) => Ok(n),
        _ => Err(wrong()),
    }
}

fn planned(
    fields: &[FieldRef],
    start: Option<&ScalarValue>,
    count: Option<&ScalarValue>,
) -> triune_common::Result<Option<Part>> {
    let [field, _, _] = arity::<3>("subvector", fields)?;
    match shape("subvector", 0, &field)? {
        Shape::Vector(ty) => part(ty, whole_number(start, "start")?, whole_number(count, "count")?).map(Some),
        Shape::Null => Ok(None),
        Shape::List | Shape::Text => {
            let found = type_name(&field);
            Err(Error::invalid(format!("subvector: argument 1 is {found}, expected a vector"))
                .with_hint("cast it: x::VECTOR(3)"))
        }
    }
}

fn cut(vectors: &FixedSizeListArray, part: &Part) -> triune_common::Result<ArrayRef> {
    let size = vectors.value_length() as usize;
    let Part { from, ty } = part;
    let values: ArrayRef = if ty.kind == VectorKind::BitVec {
        let bytes = vectors.values().as_primitive::<UInt8Type>().values();
        let mut out = Vec::with_capacity(vectors.len() * ty.list_size());
        for row in bytes.chunks(size) {
            out.extend((0..ty.list_size()).map(|byte| {
                let bits = (byte * 8..ty.dims.min(byte * 8 + 8)).map(|i| (i, from + i));
                bits.fold(0u8, |acc, (to, at)| acc | ((row[at / 8] >> (7 - at % 8) & 1) << (7 - to % 8)))
            }));
        }
        Arc::new(UInt8Array::from(out))
    } else {
        let rows = (0..vectors.len()).flat_map(|row| row * size + from..row * size + from + ty.dims);
        take(vectors.values(), &UInt64Array::from_iter_values(rows.map(|i| i as u64)), None)?
    };
    let nulls = vectors.nulls().cloned();
    Ok(Arc::new(FixedSizeListArray::try_new(ty.item(), ty.list_size() as i32, values, nulls)?))
}

impl ScalarUDFImpl for SubvectorFunc {
    shared_methods!("subvector");

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let constant = |i: usize| args.scalar_arguments.get(i).copied().flatten();
        Ok(match planned(args.arg_fields, constant(1), constant(2))? {
            Some(part) => Arc::new(part.ty.field("subvector", any_nullable(&args.arg_fields[..1]))),
            None => result_field("subvector", DataType::Null, true),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = |i: usize| match args.args.get(i) {
            Some(ColumnarValue::Scalar(scalar)) => Some(scalar),
            _ => None,
        };
        let part = planned(&args.arg_fields, constant(1), constant(2))?;
        match (part, args.args.first()) {
            (Some(part), Some(value)) => {
                map_rows(value, |array| cut(as_fixed_size_list_array(array)?, &part))
            }
            _ => Ok(ColumnarValue::Scalar(ScalarValue::Null)),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOC: LazyLock<Documentation> = LazyLock::new(|| {
            doc(
                "Part of a vector, of the same kind; a part that reaches beyond an end is cut there. NULL gives \
                 NULL.",
                "subvector(vector, start, count)",
                "> SELECT subvector('[1,2,3,4]'::VECTOR(4), 2, 2);\n[2.0, 3.0]",
                &[
                    ("vector", "A vector of any kind."),
                    ("start", "First dimension, counted from 1; a constant."),
                    ("count", "Number of dimensions; a constant."),
                ],
            )
        });
        Some(&DOC)
    }
}
