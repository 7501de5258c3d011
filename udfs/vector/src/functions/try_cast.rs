//! ```sql
//! SELECT try_to_vector(text, 'VECTOR(3)');   -- what TRY_CAST(text AS VECTOR(3)) is planned to
//! ```
//!
//! `to_vector` with NULL in the place of every value that it refuses: a text that is no vector, a wrong number of
//! dimensions, elements out of range. What the types alone tell to be impossible stays an error: a number is no
//! vector, and neither is a `VECTOR(2)` a `VECTOR(3)`.
//!
//! *Cost*: that of `to_vector`; batches with a refused value are cast row by row.

use std::sync::LazyLock;

use arrow::array::new_null_array;
use arrow::compute::concat;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
};

use super::cast::ToVectorFunc;
use super::doc::doc;
use super::{shared_methods, signature};

/// The cast that never fails on a value.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TryToVectorFunc {
    signature: Signature,
    strict: ToVectorFunc,
}

impl Default for TryToVectorFunc {
    fn default() -> Self {
        Self { signature: signature(&[&[DataType::Utf8, DataType::Utf8]]), strict: ToVectorFunc::default() }
    }
}

impl ScalarUDFImpl for TryToVectorFunc {
    shared_methods!("try_to_vector");

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let field = self.strict.return_field_from_args(args)?;
        Ok(field.as_ref().clone().with_name("try_to_vector").with_nullable(true).into())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Ok(done) = self.strict.invoke_with_args(args.clone()) {
            return Ok(done);
        }
        let data_type = args.return_field.data_type();
        let Some(ColumnarValue::Array(values)) = args.args.first() else {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(data_type)?));
        };
        let rows = (0..values.len()).map(|row| {
            let mut one = args.clone();
            one.args[0] = ColumnarValue::Array(values.slice(row, 1));
            one.number_rows = 1;
            match self.strict.invoke_with_args(one) {
                Ok(value) => value.into_array(1),
                Err(_) => Ok(new_null_array(data_type, 1)),
            }
        });
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let rows: Vec<_> = rows.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(concat(&rows)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOC: LazyLock<Documentation> = LazyLock::new(|| {
            doc(
                "Casts like to_vector and gives NULL for a value that is no such vector; what TRY_CAST does.",
                "try_to_vector(value, type)",
                "> SELECT try_to_vector('[1,2]', 'VECTOR(3)');\nNULL",
                &[
                    ("value", "A text such as '[1,2,3]', a list of numbers, or a vector."),
                    ("type", "A constant text: 'VECTOR(n)', 'HALFVEC(n)', 'TINYVEC(n)' or 'BITVEC(n)'."),
                ],
            )
        });
        Some(&DOC)
    }
}
