//! `__vector_search('column', query, k, 'options')`: the function that stands for a search between the
//! syntax tree and the analyzer.
//!
//! It exists because a syntax tree has no place for a node of ours: the search is planned as a call in
//! a select list and replaced by [`crate::VectorSearchNode`] before anything is coerced, moved or
//! executed. It never runs.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use triune_common::Error;

use crate::desugar::NEAREST_KEY;

/// The marker's name; users write `vector_search(…)` in `FROM`.
pub const MARKER_NAME: &str = "__vector_search";

/// The marker: any column name, query, k and options; `Float32`, never NULL. Volatile, so that nobody
/// folds it or computes it once for two places.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SearchMarkerFunc {
    signature: Signature,
}

impl SearchMarkerFunc {
    fn new() -> Self {
        Self { signature: Signature::any(4, Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for SearchMarkerFunc {
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
        Err(DataFusionError::from(Error::internal(
            "a search was executed as a function; the analyzer's rule for vector_search has not run",
        )))
    }
}

static MARKER: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(SearchMarkerFunc::new())));

/// The function to register with the session, so that desugared statements can be planned.
pub fn marker_function() -> Arc<ScalarUDF> {
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

/// What `{APPROX | EXACT} NEAREST … BY` says.
pub(crate) struct NearestKey<'a> {
    pub(crate) by: &'a Expr,
    pub(crate) is_similarity: bool,
    pub(crate) is_exact: bool,
}

/// The clause if `expr` is the sort key that stands for one.
pub(crate) fn nearest_key(expr: &Expr) -> Option<NearestKey<'_>> {
    let [kind, by, what, how] = marker_args(expr)? else { return None };
    let text = |expr: &Expr, wanted: &str| match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten() == Some(wanted),
        _ => false,
    };
    text(kind, NEAREST_KEY).then(|| NearestKey {
        by,
        is_similarity: text(what, "similarity"),
        is_exact: text(how, "exact"),
    })
}

/// Whether a function is the marker, told by its type.
pub(crate) fn is_marker(func: &ScalarUDF) -> bool {
    let inner: &dyn std::any::Any = func.inner().as_ref();
    inner.is::<SearchMarkerFunc>()
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::lit;

    use super::*;

    #[test]
    fn the_marker_is_known_by_type_below_aliases() {
        let call = marker_function().call(vec![lit("c"), lit("[1]"), lit(1), lit("{}")]);
        assert_eq!(marker_args(&call).map(<[Expr]>::len), Some(4));
        assert_eq!(marker_args(&call.alias("d").alias("e")).map(<[Expr]>::len), Some(4));
        assert!(marker_args(&lit(1)).is_none());
    }
}
