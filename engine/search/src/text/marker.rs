//! `__text_search(query, k, 'options' [, origin])`: stands for a search between the syntax tree and the analyzer, as
//! [`crate::marker`] does for vectors. It never runs.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use triune_common::Error;

pub(crate) const MARKER_NAME: &str = "__text_search";

#[derive(Debug, PartialEq, Eq, Hash)]
struct TextMarkerFunc {
    signature: Signature,
}

impl ScalarUDFImpl for TextMarkerFunc {
    fn name(&self) -> &str {
        MARKER_NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float32)
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(MARKER_NAME, DataType::Float32, false)))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(Error::internal("a text search was executed as a function").into())
    }
}

static MARKER: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let signature = Signature::variadic_any(Volatility::Volatile);
    Arc::new(ScalarUDF::new_from_impl(TextMarkerFunc { signature }))
});

pub(crate) fn marker_function() -> Arc<ScalarUDF> {
    Arc::clone(&MARKER)
}

/// The arguments of the marker if `expr` is a call of it, below any alias.
pub(crate) fn marker_args(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Alias(alias) => marker_args(&alias.expr),
        Expr::ScalarFunction(call) if is_marker(call.func.as_ref()) => Some(&call.args),
        _ => None,
    }
}

pub(crate) fn is_marker(func: &ScalarUDF) -> bool {
    let inner: &dyn std::any::Any = func.inner().as_ref();
    inner.is::<TextMarkerFunc>()
}
