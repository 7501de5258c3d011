//! ```sql
//! SELECT id, l2_distance(embedding, '[1,2,3]'), embedding <=> $1 FROM docs ORDER BY 3 LIMIT 10;
//! ```
//!
//! | function                     | operator | formula                      | zero vectors        |
//! |------------------------------|----------|------------------------------|---------------------|
//! | `l2_distance`                | `<->`    | `sqrt(Σ (a-b)²)`             | plain value         |
//! | `cosine_distance`            | `<=>`    | `1 - a·b / (|a| |b|)`, 0 … 2 | NaN                 |
//! | `cosine_similarity`          |          | `a·b / (|a| |b|)`, -1 … 1    | NaN                 |
//! | `inner_product`              |          | `a·b`                        | 0                   |
//! | `negative_inner_product`     | `<#>`    | `-(a·b)`                     | 0                   |
//! | `l1_distance`                | `<+>`    | `Σ |a-b|`                    | plain value         |
//! | `hamming_distance`           | `<~>`    | bits that differ             | plain value         |
//! | `jaccard_distance`           | `<%>`    | `1 - |a∧b| / |a∨b|`          | 1 (no bit in both)  |
//!
//! *Input*: two vectors of as many dimensions. A list or text beside a vector takes the vector's type, a
//! constant once per batch or while planning; `TINYVEC` beside another kind is converted batch by batch;
//! `VECTOR` beside `HALFVEC` needs no conversion. Two plain lists are compared in `f64`, row by row.
//! *Output*: `REAL` where a side is a vector type, `DOUBLE` between plain lists. *Nulls*: NULL where a side
//! is NULL; a NULL element is an error. *NaN*: a NaN element makes the distance NaN, which sorts after every
//! number, so such a row is never the nearest. *Errors*: dimensions that differ (while planning, where the
//! types tell), bits beside numbers, a list element that the vector's type cannot hold. *Source*: names and
//! semantics of pgvector; DuckDB's names are aliases.

mod table;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, Float64Array};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::common::metadata::FieldMetadata;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};
use datafusion::scalar::ScalarValue;
use triune_common::Error;

use super::args::{Meeting, Shape, Side, any_nullable, arity, constant, meet, result_field};
use super::{example, signature};
use crate::kernels::{Metric, PreparedQuery, distances, doubles, pairwise};
use crate::types::convert::Doubles;
use crate::types::{VectorKind, VectorType};

/// What a function makes of the distance that it is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// The distance itself.
    Distance,
    /// `1 - distance`
    OneMinus,
    /// `-distance`
    Negated,
}

/// One of the functions of the table above.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct DistanceFunc {
    name: &'static str,
    aliases: Vec<String>,
    metric: Metric,
    form: Form,
    signature: Signature,
}

impl DistanceFunc {
    fn new(name: &'static str, aliases: &[&str], metric: Metric, form: Form) -> Self {
        let (vector, bits) = (example(VectorKind::Vector), example(VectorKind::BitVec));
        Self {
            name,
            aliases: aliases.iter().map(|a| (*a).to_owned()).collect(),
            metric,
            form,
            signature: match metric {
                Metric::Hamming | Metric::Jaccard => signature(&[&[bits.clone(), bits]]),
                _ => signature(&[&[vector.clone(), vector]]),
            },
        }
    }

    /// The function that an operator stands for.
    pub(crate) fn of_metric(metric: Metric) -> Self {
        table::of_metric(metric)
    }

    /// All functions of the table.
    pub(crate) fn all() -> Vec<Self> {
        table::all()
    }

    pub(crate) fn metric(&self) -> Metric {
        self.metric
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// Checks the arguments and says how they meet.
    fn meeting(&self, fields: &[FieldRef]) -> triune_common::Result<Meeting> {
        let [left, right] = arity::<2>(self.name, fields)?;
        let meeting = meet(self.name, &left, &right)?;
        match meeting {
            Meeting::Vectors(a, _) => self.metric.check(a.kind).map_err(|e| self.named(&e))?,
            Meeting::Lists => {
                if matches!(self.metric, Metric::Hamming | Metric::Jaccard) {
                    return Err(Error::invalid(format!(
                        "{} is defined on BITVEC only, got lists",
                        self.name
                    ))
                    .with_hint("cast one side: '0101'::BITVEC(4)"));
                }
            }
        }
        Ok(meeting)
    }

    fn named(&self, error: &Error) -> Error {
        let named = Error::new(error.kind(), format!("{}: {}", self.name, error.message()));
        match error.hint() {
            Some(hint) => named.with_hint(hint),
            None => named,
        }
    }

    /// Two vector arguments to distances; a constant side is prepared once.
    fn vectors(
        &self,
        left: Side,
        right: Side,
        types: (VectorType, VectorType),
    ) -> triune_common::Result<ColumnarValue> {
        let (array, is_constant) = match (left, right) {
            (Side::Column(a), Side::Column(b)) => (pairwise(self.metric, &a, &b)?, false),
            (Side::Constant(query), Side::Column(column)) => {
                (self.against(&query, types.0, &column, types.1)?, false)
            }
            (Side::Column(column), Side::Constant(query)) => {
                (self.against(&query, types.1, &column, types.0)?, false)
            }
            (Side::Constant(a), Side::Constant(b)) => (pairwise(self.metric, &a, &b)?, true),
        };
        let array: ArrayRef = Arc::new(match self.form {
            Form::Distance => array,
            Form::OneMinus => array.unary::<_, arrow::datatypes::Float32Type>(|d| 1.0 - d),
            Form::Negated => array.unary::<_, arrow::datatypes::Float32Type>(|d| -d),
        });
        if is_constant { Ok(constant(&array)?) } else { Ok(ColumnarValue::Array(array)) }
    }

    fn against(
        &self,
        query: &arrow::array::FixedSizeListArray,
        query_type: VectorType,
        column: &arrow::array::FixedSizeListArray,
        column_type: VectorType,
    ) -> triune_common::Result<Float32Array> {
        let query = if query_type.kind == column_type.kind {
            PreparedQuery::from_row(self.metric, query, 0, column_type)?
        } else {
            let scalar = ScalarValue::FixedSizeList(Arc::new(query.clone()));
            PreparedQuery::for_column(self.metric, &scalar, Some(query_type), column_type)?
        };
        distances(&query, column)
    }

    /// Two columns of lists to distances, row by row.
    fn lists(
        &self,
        left: &ColumnarValue,
        right: &ColumnarValue,
        rows: usize,
    ) -> triune_common::Result<ColumnarValue> {
        let is_constant = matches!((left, right), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let read = |value: &ColumnarValue| -> triune_common::Result<(Doubles, bool)> {
            Ok(match value {
                ColumnarValue::Scalar(scalar) => (Doubles::try_new(&scalar.to_array()?)?, true),
                ColumnarValue::Array(array) => (Doubles::try_new(array)?, false),
            })
        };
        let ((a, a_constant), (b, b_constant)) = (read(left)?, read(right)?);
        let rows = if is_constant { 1 } else { rows };
        let mut out = Vec::with_capacity(rows);
        for i in 0..rows {
            let x = a.row(if a_constant { 0 } else { i })?;
            let y = b.row(if b_constant { 0 } else { i })?;
            out.push(match (x, y) {
                (Some(x), Some(y)) if x.len() != y.len() => {
                    return Err(Error::invalid(format!(
                        "{}: different vector dimensions {} and {}",
                        self.name,
                        x.len(),
                        y.len()
                    )));
                }
                (Some(x), Some(y)) => Some(match (self.form, doubles::distance(self.metric, x, y)) {
                    (Form::Distance, d) => d,
                    (Form::OneMinus, d) => 1.0 - d,
                    (Form::Negated, d) => -d,
                }),
                _ => None,
            });
        }
        let array: ArrayRef = Arc::new(Float64Array::from(out));
        if is_constant { Ok(constant(&array)?) } else { Ok(ColumnarValue::Array(array)) }
    }
}

impl ScalarUDFImpl for DistanceFunc {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arg_types.to_vec())
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        datafusion::common::internal_err!("{} needs the fields of its arguments", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let data_type = match self.meeting(args.arg_fields)? {
            Meeting::Vectors(..) => DataType::Float32,
            Meeting::Lists => DataType::Float64,
        };
        Ok(result_field(self.name, data_type, any_nullable(args.arg_fields)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let meeting = self.meeting(&args.arg_fields)?;
        let ([left, right], [left_field, right_field]) = (args.args.as_slice(), args.arg_fields.as_slice())
        else {
            return datafusion::common::internal_err!("{} was called without two arguments", self.name);
        };
        Ok(match meeting {
            Meeting::Lists => self.lists(left, right, args.number_rows)?,
            Meeting::Vectors(a, b) => {
                // A typed constant beside a TINYVEC column is brought to the column's type, not the column
                // to the constant's.
                let (a, b) = match (left, right) {
                    (ColumnarValue::Array(_), ColumnarValue::Scalar(_)) => own_type(left_field, a, b),
                    (ColumnarValue::Scalar(_), ColumnarValue::Array(_)) => {
                        let (b, a) = own_type(right_field, b, a);
                        (a, b)
                    }
                    _ => (a, b),
                };
                self.vectors(
                    Side::try_new(left, left_field, a)?,
                    Side::try_new(right, right_field, b)?,
                    (a, b),
                )?
            }
        })
    }

    /// Brings a constant to the type of the vector beside it while the statement is planned: errors come
    /// before the first row, and whoever reads the plan finds the query ready to be used.
    fn simplify(&self, mut args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let [left, right] = args.as_mut_slice() else { return Ok(ExprSimplifyResult::Original(args)) };
        let changed = if matches!(left, Expr::Literal(..)) {
            fit_literal(left, right, info)?
        } else if matches!(right, Expr::Literal(..)) {
            fit_literal(right, left, info)?
        } else {
            false
        };
        if !changed {
            return Ok(ExprSimplifyResult::Original(args));
        }
        Ok(ExprSimplifyResult::Simplified(ScalarUDF::new_from_impl(self.clone()).call(args)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        table::documentation(self.name)
    }
}

/// The types for a column beside a constant: the column keeps its own.
fn own_type(column: &FieldRef, column_type: VectorType, other: VectorType) -> (VectorType, VectorType) {
    match VectorType::from_field(column) {
        Some(own) if own.kind == VectorKind::TinyVec => (own, own),
        _ => (column_type, other),
    }
}

/// Replaces `literal` by the same vector in the type of `other`; false when nothing was to be done.
fn fit_literal(literal: &mut Expr, other: &Expr, info: &SimplifyContext) -> Result<bool> {
    let Expr::Literal(value, metadata) = &*literal else { return Ok(false) };
    let (_, other_field) = other.to_field(info.schema())?;
    let Some(ty) = Shape::of(&other_field).and_then(Shape::vector) else { return Ok(false) };
    if value.is_null() {
        return Ok(false);
    }
    let mut field = arrow::datatypes::Field::new("", value.data_type(), false);
    if let Some(metadata) = metadata {
        field = metadata.add_to_field(field);
    }
    let from = VectorType::from_field(&field);
    if from.is_some_and(|from| from.kind == ty.kind && from.list_size() == ty.list_size()) {
        return Ok(false);
    }
    if from.is_some() && matches!(other, Expr::Literal(..)) {
        return Ok(false); // two typed constants meet by the general rules
    }
    *literal = typed_literal(value, from, ty)?;
    Ok(true)
}

/// `value` as a literal of type `ty`, with its metadata.
pub(crate) fn typed_literal(
    value: &ScalarValue,
    from: Option<VectorType>,
    ty: VectorType,
) -> triune_common::Result<Expr> {
    use crate::types::convert::to_vectors;
    use crate::types::text::Rounding;
    if let Some(from) = from {
        crate::kernels::check_dims(from, ty)?;
    }
    let array = to_vectors(&value.to_array()?, from, ty, Rounding::Refuse)?;
    let scalar = if array.is_null(0) { ty.null() } else { ScalarValue::FixedSizeList(Arc::new(array)) };
    Ok(Expr::Literal(scalar, Some(FieldMetadata::new_from_field(&ty.field("", true)))))
}
