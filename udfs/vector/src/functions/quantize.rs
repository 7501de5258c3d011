//! ```sql
//! SELECT binary_quantize(embedding) <~> binary_quantize($1) FROM docs;
//! ```
//!
//! One bit per dimension, set where the element is greater than zero. *Input*: `VECTOR`, `HALFVEC`, `TINYVEC`.
//! *Output*: `BITVEC` of as many dimensions. *Nulls*: NULL gives NULL, a NULL element is an error. *NaN* gives
//! a bit that is not set. *Source*: pgvector.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, UInt8Array};
use arrow::datatypes::{FieldRef, Float16Type, Float32Type, Int8Type};
use datafusion::common::Result;
use datafusion::common::cast::as_fixed_size_list_array;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
};
use datafusion::scalar::ScalarValue;
use half::f16;
use triune_common::Error;

use super::args::{Shape, any_nullable, arity, map_rows, result_field, shape};
use super::doc::doc;
use super::{example, shared_methods, signature};
use crate::types::convert::check_elements;
use crate::types::{VectorKind, VectorType, type_name};

/// `binary_quantize(vector)`
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct BinaryQuantizeFunc {
    signature: Signature,
}

impl Default for BinaryQuantizeFunc {
    fn default() -> Self {
        Self { signature: signature(&[&[example(VectorKind::Vector)]]) }
    }
}

fn planned(fields: &[FieldRef]) -> triune_common::Result<Option<VectorType>> {
    let [field] = arity::<1>("binary_quantize", fields)?;
    match shape("binary_quantize", 0, &field)? {
        Shape::Vector(ty) if ty.kind == VectorKind::BitVec => {
            Err(Error::invalid(format!("binary_quantize: {ty} is bits already")))
        }
        Shape::Vector(ty) => Ok(Some(VectorType { kind: VectorKind::BitVec, ..ty })),
        Shape::Null => Ok(None),
        Shape::List | Shape::Text => {
            let found = type_name(&field);
            Err(Error::invalid(format!("binary_quantize: argument 1 is {found}, expected a vector"))
                .with_hint("cast it: x::VECTOR(3)"))
        }
    }
}

/// Packs the signs of `rows` of `dims` elements, eight to a byte, the first one highest.
fn pack<T: Copy>(values: &[T], dims: usize, positive: impl Fn(T) -> bool) -> Vec<u8> {
    let byte = |chunk: &[T]| {
        chunk.iter().enumerate().fold(0u8, |byte, (i, v)| byte | (u8::from(positive(*v)) << (7 - i)))
    };
    values.chunks(dims).flat_map(|row| row.chunks(8).map(&byte)).collect()
}

fn quantize(vectors: &FixedSizeListArray, ty: VectorType) -> triune_common::Result<ArrayRef> {
    check_elements(vectors)?;
    let values = vectors.values();
    let bytes = if let Some(v) = values.as_primitive_opt::<Float32Type>() {
        pack(v.values(), ty.dims, |x| x > 0.0)
    } else if let Some(v) = values.as_primitive_opt::<Float16Type>() {
        pack(v.values(), ty.dims, |x| x > f16::ZERO)
    } else if let Some(v) = values.as_primitive_opt::<Int8Type>() {
        pack(v.values(), ty.dims, |x| x > 0)
    } else {
        return Err(Error::internal(format!("binary_quantize met {}", vectors.data_type())));
    };
    let values = Arc::new(UInt8Array::from(bytes));
    let nulls = vectors.nulls().cloned();
    Ok(Arc::new(FixedSizeListArray::try_new(ty.item(), ty.list_size() as i32, values, nulls)?))
}

impl ScalarUDFImpl for BinaryQuantizeFunc {
    shared_methods!("binary_quantize");

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(match planned(args.arg_fields)? {
            Some(ty) => Arc::new(ty.field("binary_quantize", any_nullable(args.arg_fields))),
            None => result_field("binary_quantize", arrow::datatypes::DataType::Null, true),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match (planned(&args.arg_fields)?, args.args.first()) {
            (Some(ty), Some(value)) => {
                map_rows(value, |array| quantize(as_fixed_size_list_array(array)?, ty))
            }
            _ => Ok(ColumnarValue::Scalar(ScalarValue::Null)),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOC: LazyLock<Documentation> = LazyLock::new(|| {
            doc(
                "One bit per dimension, set where the element is greater than zero; compare the results with \
                 `<~>` or `<%>`. NULL gives NULL.",
                "binary_quantize(vector)",
                "> SELECT vector_to_text(binary_quantize('[0.5,-1,2]'::VECTOR(3)));\n101",
                &[("vector", "A VECTOR, HALFVEC or TINYVEC.")],
            )
        });
        Some(&DOC)
    }
}
