//! ```sql
//! SELECT to_vector('[1,2,3]', 'VECTOR(3)');   -- what '[1,2,3]'::VECTOR(3) is planned to
//! SELECT vector_to_text(embedding);           -- '[0.12,-0.03]', what embedding::VARCHAR is planned to
//! ```
//!
//! *Input* of `to_vector`: a text, a list of numbers, a vector of any kind, or NULL; and the wanted type as a
//! constant text. *Output*: the vector, with its type's metadata. *Nulls*: NULL gives NULL. *Rounding*: to the
//! nearest value of the element type; fractions become the nearest whole number in a `TINYVEC` (halves the
//! even one), except in a text, which must hold whole numbers. *Errors*: a wrong number of dimensions (while
//! planning, where the type tells), NULL, NaN or infinite elements, elements beyond the type's range, a text
//! that is no vector. A cast between `BITVEC` and the others takes and gives the numbers 0 and 1.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, StringBuilder};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::common::cast::as_fixed_size_list_array;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};
use datafusion::scalar::ScalarValue;
use triune_common::Error;

use super::args::{Shape, any_nullable, arity, map_rows, result_field, shape};
use super::doc::doc;
use super::{example, shared_methods, signature};
use crate::types::convert::to_vectors;
use crate::types::text::{Rounding, print_text, wrong_length};
use crate::types::{VectorKind, VectorType, type_name};

/// The cast to a vector type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct ToVectorFunc {
    signature: Signature,
}

impl Default for ToVectorFunc {
    fn default() -> Self {
        Self { signature: signature(&[&[DataType::Utf8, DataType::Utf8]]) }
    }
}

impl ToVectorFunc {
    /// `to_vector(expr, 'ty')`
    pub(crate) fn call(expr: Expr, ty: VectorType) -> Expr {
        let name = Expr::Literal(ScalarValue::from(ty.to_string()), None);
        ScalarUDF::new_from_impl(Self::default()).call(vec![expr, name])
    }
}

/// The constant second argument.
fn wanted(value: Option<&ScalarValue>) -> triune_common::Result<VectorType> {
    match value.and_then(ScalarValue::try_as_str) {
        Some(Some(text)) => text.parse(),
        _ => Err(Error::invalid("to_vector: argument 2 must be a constant text that names a vector type")
            .with_hint("such as 'VECTOR(3)'")),
    }
}

impl ScalarUDFImpl for ToVectorFunc {
    shared_methods!("to_vector");

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [from, _] = arity::<2>("to_vector", args.arg_fields)?;
        let to = wanted(args.scalar_arguments.get(1).copied().flatten())?;
        match Shape::of(&from) {
            Some(Shape::Vector(ty))
                if ty.dims != to.dims && !(ty.kind == to.kind && ty.list_size() == to.list_size()) =>
            {
                return Err(
                    Error::invalid(format!("expected {} dimensions for {to}, got {ty}", to.dims)).into()
                );
            }
            Some(Shape::List) => {
                if let DataType::FixedSizeList(_, size) = from.data_type()
                    && *size as usize != to.dims
                {
                    return Err(wrong_length(to, *size as usize).into());
                }
            }
            Some(_) => {}
            None => {
                let found = type_name(&from);
                return Err(Error::invalid(format!("cannot cast {found} to {to}"))
                    .with_hint("accepted are texts such as '[1,2,3]', lists of numbers and vectors")
                    .into());
            }
        }
        let nullable = from.is_nullable() || from.data_type().is_null();
        Ok(Arc::new(to.field("to_vector", nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (Some(value), Some(field)) = (args.args.first(), args.arg_fields.first()) else {
            return datafusion::common::internal_err!("to_vector was called without arguments");
        };
        let Some(to) = VectorType::from_field(&args.return_field) else {
            return datafusion::common::internal_err!("to_vector was planned without a vector type");
        };
        // An Arrow list of bytes without metadata does not know how many of its bits are meant.
        let from = VectorType::from_field(field)
            .map(|ty| if ty.kind == to.kind && ty.list_size() == to.list_size() { to } else { ty });
        if let (Some(from), ColumnarValue::Array(array)) = (from, value)
            && from == to
            && VectorType::from_field(field).is_some()
            && !field.metadata().is_empty()
            && *array.data_type() == to.data_type()
        {
            return Ok(value.clone()); // nothing to convert
        }
        map_rows(value, |array| Ok(Arc::new(to_vectors(array, from, to, Rounding::Nearest)?) as ArrayRef))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOC: LazyLock<Documentation> = LazyLock::new(|| {
            doc(
                "Casts a text, a list of numbers or a vector of another kind to a vector type; what `::VECTOR(n)` \
                 does. NULL gives NULL; NaN, infinity, NULL elements and other lengths are errors.",
                "to_vector(value, type)",
                "> SELECT to_vector('[1,2,3]', 'VECTOR(3)');\n[1.0, 2.0, 3.0]",
                &[
                    ("value", "A text such as '[1,2,3]', a list of numbers, or a vector."),
                    ("type", "A constant text: 'VECTOR(n)', 'HALFVEC(n)', 'TINYVEC(n)' or 'BITVEC(n)'."),
                ],
            )
        });
        Some(&DOC)
    }
}

/// The cast from a vector to text.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct VectorToTextFunc {
    signature: Signature,
}

impl Default for VectorToTextFunc {
    fn default() -> Self {
        Self { signature: signature(&[&[example(VectorKind::Vector)]]) }
    }
}

impl VectorToTextFunc {
    /// `vector_to_text(expr)`
    pub(crate) fn call(expr: Expr) -> Expr {
        ScalarUDF::new_from_impl(Self::default()).call(vec![expr])
    }
}

impl ScalarUDFImpl for VectorToTextFunc {
    shared_methods!("vector_to_text");

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [field] = arity::<1>("vector_to_text", args.arg_fields)?;
        match shape("vector_to_text", 0, &field)? {
            Shape::Vector(_) | Shape::Null => {
                Ok(result_field("vector_to_text", DataType::Utf8, any_nullable(args.arg_fields)))
            }
            _ => {
                let found = type_name(&field);
                Err(Error::invalid(format!("vector_to_text: argument 1 is {found}, expected a vector"))
                    .into())
            }
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (Some(value), Some(field)) = (args.args.first(), args.arg_fields.first()) else {
            return datafusion::common::internal_err!("vector_to_text was called without an argument");
        };
        let Some(ty) = VectorType::from_field(field) else {
            return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None)));
        };
        map_rows(value, |array| {
            let vectors = as_fixed_size_list_array(array)?;
            let mut out = StringBuilder::new();
            for row in 0..vectors.len() {
                if vectors.is_null(row) {
                    out.append_null();
                } else {
                    out.append_value(print_text(vectors, row, ty));
                }
            }
            Ok(Arc::new(out.finish()) as ArrayRef)
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOC: LazyLock<Documentation> = LazyLock::new(|| {
            doc(
                "Writes a vector as the text that reads back to it: '[1,2.5,-3]', or '0101' for a BITVEC. NULL \
                 gives NULL.",
                "vector_to_text(vector)",
                "> SELECT vector_to_text('[1, 2.50]'::VECTOR(2));\n[1,2.5]",
                &[("vector", "A vector of any kind.")],
            )
        });
        Some(&DOC)
    }
}
