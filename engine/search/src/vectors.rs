//! Everything that this crate takes from `triune-vector`, in one place.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Float32Array};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{Expr, ScalarUDF, lit};
use triune_common::Error;
use triune_vector::distance_call;
use triune_vector::kernels::{Metric, PreparedQuery, distances};
use triune_vector::types::{VectorKind, VectorType};

/// The vector type of a column, told by its metadata or else by its Arrow type.
pub(crate) fn vector_type(field: &Field) -> Option<VectorType> {
    VectorType::from_field(field).or_else(|| VectorType::from_data_type(field.data_type()))
}

/// The metric of a search that names none.
pub(crate) fn default_metric(ty: VectorType) -> Metric {
    if ty.kind == VectorKind::BitVec { Metric::Hamming } else { Metric::Cosine }
}

/// `to_vector(expr, 'VECTOR(n)')`: any text, list or vector as the column's type.
pub(crate) fn to_vector(expr: Expr, ty: VectorType) -> Result<Expr> {
    static TO_VECTOR: LazyLock<Option<Arc<ScalarUDF>>> =
        LazyLock::new(|| triune_vector::scalar_functions().into_iter().find(|f| f.name() == "to_vector"));
    match TO_VECTOR.as_ref() {
        Some(f) => Ok(f.call(vec![expr, lit(ty.to_string())])),
        None => Err(DataFusionError::from(Error::internal("the function to_vector does not exist"))),
    }
}

/// How many dimensions a query has, if that can be told before it is computed.
pub(crate) fn query_dims(query: &Expr, data_type: Option<&DataType>, ty: VectorType) -> Option<usize> {
    match query {
        Expr::Literal(value, _) => match value {
            ScalarValue::Utf8(Some(text))
            | ScalarValue::LargeUtf8(Some(text))
            | ScalarValue::Utf8View(Some(text)) => text_dims(text, ty),
            ScalarValue::FixedSizeList(list) => match VectorType::from_data_type(list.data_type()) {
                Some(vector) => Some(vector.dims),
                None => usize::try_from(list.value_length()).ok(),
            },
            ScalarValue::List(list) if list.len() == 1 => Some(list.value(0).len()),
            ScalarValue::LargeList(list) if list.len() == 1 => Some(list.value(0).len()),
            _ => None,
        },
        Expr::ScalarFunction(call) if call.func.name() == "make_array" => Some(call.args.len()),
        _ => data_type.and_then(VectorType::from_data_type).map(|vector| vector.dims),
    }
}

/// How many numbers a text like `[1, 2, 3]` has; whether they are numbers is for the parser to say.
fn text_dims(text: &str, ty: VectorType) -> Option<usize> {
    let text = text.trim();
    if ty.kind == VectorKind::BitVec && !text.starts_with('[') {
        return Some(text.len());
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?.trim();
    Some(if inner.is_empty() { 0 } else { inner.split(',').count() })
}

/// Whether two Arrow types hold the same vectors, whatever their child fields are called.
pub(crate) fn same_vectors(a: &DataType, b: &DataType) -> bool {
    match (VectorType::from_data_type(a), VectorType::from_data_type(b)) {
        (Some(a), Some(b)) => a.kind == b.kind && a.list_size() == b.list_size(),
        _ => false,
    }
}

/// A query ready to be compared with many vectors.
#[derive(Debug)]
pub(crate) struct Comparer {
    query: PreparedQuery,
}

impl Comparer {
    /// # Errors
    /// If the query is NULL, has NaN or does not fit the column, or the column holds no vectors.
    pub(crate) fn try_new(metric: Metric, query: &ScalarValue, column: &Field) -> Result<Self> {
        if query.is_null() {
            return Err(DataFusionError::from(
                Error::invalid("the query of vector_search is NULL").with_hint("a vector is accepted"),
            ));
        }
        let Some(ty) = vector_type(column) else {
            return Err(DataFusionError::from(Error::internal(format!(
                "a search was planned by the column \"{}\" of {}",
                column.name(),
                column.data_type()
            ))));
        };
        Ok(Self { query: PreparedQuery::for_column(metric, query, None, ty)? })
    }

    /// The distances of a column's rows: NULL where the row is NULL, in one pass and without copies.
    pub(crate) fn distances(&self, column: &ArrayRef) -> Result<Float32Array> {
        match column.as_fixed_size_list_opt() {
            Some(vectors) => Ok(distances(&self.query, vectors)?),
            None => Err(DataFusionError::from(Error::internal(format!(
                "the column of a search has type {} at execution",
                column.data_type()
            )))),
        }
    }
}

/// A call of one of our distance functions.
pub(crate) struct Distance<'a> {
    pub(crate) metric: Metric,
    pub(crate) column: &'a Expr,
    pub(crate) query: &'a Expr,
}

/// The distance that an expression computes by one of our functions, told by its type and not its name.
pub(crate) fn distance_of(expr: &Expr) -> Option<Distance<'_>> {
    let call = distance_call(expr)?;
    Some(Distance { metric: call.metric, column: call.column, query: call.query })
}

/// Whether an expression is the literal NULL, of whatever type.
pub(crate) fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}
