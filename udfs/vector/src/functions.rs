//! The scalar functions over vectors, under pgvector's and DuckDB's names.
//!
//! Each takes its arguments as they are (no cast is planned around them) and says in its own file what it
//! makes of NULL, NaN and zero vectors.

pub(crate) mod args;
pub(crate) mod arithmetic;
pub(crate) mod cast;
pub(crate) mod distance;
mod doc;
mod max_sim;
mod norm;
mod parts;
mod quantize;
mod try_cast;

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::logical_expr::{ScalarUDF, Signature, TypeSignature, Volatility};

use crate::types::{VectorKind, VectorType};

/// All scalar functions of this crate. Those that DataFusion has under the same names (`cosine_distance`,
/// `inner_product`, `array_distance`, …) are replaced when these are registered after its own.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let mut all: Vec<ScalarUDF> =
        distance::DistanceFunc::all().into_iter().map(ScalarUDF::new_from_impl).collect();
    all.extend(arithmetic::ArithmeticFunc::all().into_iter().map(ScalarUDF::new_from_impl));
    all.extend([
        ScalarUDF::new_from_impl(cast::ToVectorFunc::default()),
        ScalarUDF::new_from_impl(try_cast::TryToVectorFunc::default()),
        ScalarUDF::new_from_impl(cast::VectorToTextFunc::default()),
        ScalarUDF::new_from_impl(max_sim::MaxSimFunc::default()),
        ScalarUDF::new_from_impl(norm::L2NormFunc::default()),
        ScalarUDF::new_from_impl(norm::L2NormalizeFunc::default()),
        ScalarUDF::new_from_impl(parts::VectorDimsFunc::default()),
        ScalarUDF::new_from_impl(parts::SubvectorFunc::default()),
        ScalarUDF::new_from_impl(quantize::BinaryQuantizeFunc::default()),
    ]);
    all.into_iter().map(Arc::new).collect()
}

/// The signature of a function that takes its arguments as they come.
///
/// `SHOW FUNCTIONS` lists a function only by examples of its arguments, which are given here; the last
/// alternative accepts whatever is passed, so that no cast is ever planned to the examples (a cast would turn
/// vectors into lists, and texts into errors without a place).
pub(crate) fn signature(examples: &[&[DataType]]) -> Signature {
    let mut accepted: Vec<TypeSignature> =
        examples.iter().map(|types| TypeSignature::Exact(types.to_vec())).collect();
    accepted.push(TypeSignature::UserDefined);
    Signature::one_of(accepted, Volatility::Immutable)
}

/// A vector type to show in examples.
pub(crate) fn example(kind: VectorKind) -> DataType {
    VectorType { kind, dims: if kind == VectorKind::BitVec { 24 } else { 3 } }.data_type()
}

/// The methods that every function here answers in the same way: arguments are taken as they come, and the
/// result's type needs the fields of the arguments, not only their types.
macro_rules! shared_methods {
    ($name:literal) => {
        fn name(&self) -> &str {
            $name
        }

        fn signature(&self) -> &datafusion::logical_expr::Signature {
            &self.signature
        }

        fn coerce_types(
            &self,
            arg_types: &[arrow::datatypes::DataType],
        ) -> datafusion::common::Result<Vec<arrow::datatypes::DataType>> {
            Ok(arg_types.to_vec())
        }

        fn return_type(
            &self,
            _arg_types: &[arrow::datatypes::DataType],
        ) -> datafusion::common::Result<arrow::datatypes::DataType> {
            datafusion::common::internal_err!("{} needs the fields of its arguments", $name)
        }
    };
}
pub(crate) use shared_methods;

#[cfg(test)]
mod tests;
