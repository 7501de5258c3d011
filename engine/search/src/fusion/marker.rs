//! `__fusion(k, 'options', …)` and `__fusion_fallback()`: stand for a fusion between the syntax tree and the
//! analyzer, as [`crate::marker`] does for one search. They never run.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use triune_common::Error;

/// The score: `Float64`, never NULL.
pub(crate) const SCORE_MARKER: &str = "__fusion";
/// Why a part gave nothing: a text, NULL if all parts did.
pub(crate) const FALLBACK_MARKER: &str = "__fusion_fallback";

#[derive(Debug, PartialEq, Eq, Hash)]
struct FusionMarkerFunc {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for FusionMarkerFunc {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(if self.name == SCORE_MARKER { DataType::Float64 } else { DataType::Utf8 })
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name, self.return_type(&[])?, self.name == FALLBACK_MARKER)))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(Error::internal("a fusion of searches was executed as a function").into())
    }
}

static MARKERS: LazyLock<[Arc<ScalarUDF>; 2]> = LazyLock::new(|| {
    let function = |name, signature| Arc::new(ScalarUDF::new_from_impl(FusionMarkerFunc { name, signature }));
    [
        function(SCORE_MARKER, Signature::variadic_any(Volatility::Volatile)),
        function(FALLBACK_MARKER, Signature::nullary(Volatility::Volatile)),
    ]
});

pub(crate) fn marker_functions() -> Vec<Arc<ScalarUDF>> {
    MARKERS.to_vec()
}

/// The arguments of the score's marker if `expr` is a call of it, below any alias.
pub(crate) fn marker_args(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Alias(alias) => marker_args(&alias.expr),
        Expr::ScalarFunction(call) if is_marker(call.func.as_ref()) && call.func.name() == SCORE_MARKER => {
            Some(&call.args)
        }
        _ => None,
    }
}

/// Whether a function is one of the markers.
pub(crate) fn is_marker(func: &ScalarUDF) -> bool {
    let inner: &dyn std::any::Any = func.inner().as_ref();
    inner.is::<FusionMarkerFunc>()
}
