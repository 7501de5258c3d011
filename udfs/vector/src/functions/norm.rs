//! ```sql
//! SELECT l2_norm(embedding), l2_normalize(embedding) FROM docs;
//! ```
//!
//! | function          | result                                       | zero vector     | NaN element  |
//! |-------------------|----------------------------------------------|-----------------|--------------|
//! | `l2_norm(v)`      | `sqrt(Σ v²)`, `REAL`; `DOUBLE` for a list    | 0               | NaN          |
//! | `l2_normalize(v)` | `v / l2_norm(v)` of the same type            | stays all zeros | all NaN      |
//!
//! A `TINYVEC` is normalised to a `VECTOR`, since its elements are whole numbers. *Nulls*: NULL gives NULL, a
//! NULL element is an error. Sums are in `f64`, so no finite vector overflows. *Source*: pgvector, which also
//! leaves a zero vector as it is.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float16Array, Float32Array, Float64Array, Float64Builder,
    ListBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef, Float16Type, Float32Type, Int8Type};
use datafusion::common::Result;
use datafusion::common::cast::as_fixed_size_list_array;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
};
use half::f16;
use triune_common::Error;

use super::args::{Shape, any_nullable, arity, map_rows, result_field, shape};
use super::doc::doc;
use super::{example, shared_methods, signature};
use crate::kernels::doubles;
use crate::types::convert::{Doubles, check_elements};
use crate::types::{VectorKind, VectorType, type_name};

/// The vector or list that a norm is taken of.
fn measured(function: &str, fields: &[FieldRef]) -> triune_common::Result<Shape> {
    let [field] = arity::<1>(function, fields)?;
    match shape(function, 0, &field)? {
        Shape::Vector(ty) if ty.kind == VectorKind::BitVec => {
            Err(Error::invalid(format!("{function} is not defined on {ty}")))
        }
        Shape::Text => {
            let found = type_name(&field);
            Err(Error::invalid(format!("{function}: argument 1 is {found}, expected a vector"))
                .with_hint("cast the text: '[1,2,3]'::VECTOR(3)"))
        }
        shape => Ok(shape),
    }
}

/// The elements of a vector column as `f64`, row by row, without converting the column.
fn rows_of(vectors: &FixedSizeListArray, mut each: impl FnMut(&[f64])) {
    let size = vectors.value_length() as usize;
    let mut row = vec![0f64; size];
    for i in 0..vectors.len() {
        let range = i * size..(i + 1) * size;
        let values = vectors.values();
        if let Some(v) = values.as_primitive_opt::<Float32Type>() {
            row.iter_mut().zip(&v.values()[range]).for_each(|(to, from)| *to = f64::from(*from));
        } else if let Some(v) = values.as_primitive_opt::<Float16Type>() {
            row.iter_mut().zip(&v.values()[range]).for_each(|(to, from)| *to = f64::from(*from));
        } else if let Some(v) = values.as_primitive_opt::<Int8Type>() {
            row.iter_mut().zip(&v.values()[range]).for_each(|(to, from)| *to = f64::from(*from));
        }
        each(&row);
    }
}

/// `l2_norm(vector)`
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct L2NormFunc {
    signature: Signature,
    aliases: Vec<String>,
}

impl Default for L2NormFunc {
    fn default() -> Self {
        Self {
            signature: signature(&[&[example(VectorKind::Vector)]]),
            aliases: vec!["vector_norm".to_owned()],
        }
    }
}

impl ScalarUDFImpl for L2NormFunc {
    shared_methods!("l2_norm");

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let data_type = match measured("l2_norm", args.arg_fields)? {
            Shape::Vector(_) => DataType::Float32,
            _ => DataType::Float64,
        };
        Ok(result_field("l2_norm", data_type, any_nullable(args.arg_fields)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let shape = measured("l2_norm", &args.arg_fields)?;
        let Some(value) = args.args.first() else {
            return datafusion::common::internal_err!("l2_norm was called without an argument");
        };
        map_rows(value, |array| {
            if shape.vector().is_some() {
                let vectors = as_fixed_size_list_array(array)?;
                check_elements(vectors)?;
                let mut out = Vec::with_capacity(vectors.len());
                rows_of(vectors, |row| out.push(doubles::norm(row) as f32));
                return Ok(Arc::new(Float32Array::new(out.into(), vectors.nulls().cloned())) as ArrayRef);
            }
            let lists = Doubles::try_new(array)?;
            let norms = (0..array.len()).map(|i| Ok(lists.row(i)?.map(doubles::norm)));
            Ok(Arc::new(norms.collect::<triune_common::Result<Float64Array>>()?) as ArrayRef)
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOC: LazyLock<Documentation> = LazyLock::new(|| {
            doc(
                "Euclidean norm (length) of a vector. NULL gives NULL, a NaN element gives NaN.",
                "l2_norm(vector)",
                "> SELECT l2_norm('[3,4]'::VECTOR(2));\n5.0",
                &[("vector", "A VECTOR, HALFVEC, TINYVEC or list of numbers.")],
            )
        });
        Some(&DOC)
    }
}

/// `l2_normalize(vector)`
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct L2NormalizeFunc {
    signature: Signature,
}

impl Default for L2NormalizeFunc {
    fn default() -> Self {
        Self { signature: signature(&[&[example(VectorKind::Vector)]]) }
    }
}

/// A TINYVEC has no fractions to be normalised to.
fn normalized_type(ty: VectorType) -> VectorType {
    match ty.kind {
        VectorKind::TinyVec => VectorType { kind: VectorKind::Vector, ..ty },
        _ => ty,
    }
}

/// 1 / norm; a zero vector is left as it is.
fn scale(row: &[f64]) -> impl Fn(f64) -> f64 + use<> {
    let norm = doubles::norm(row);
    move |v| if norm == 0.0 { v } else { v / norm }
}

fn normalize_vectors(vectors: &FixedSizeListArray, ty: VectorType) -> triune_common::Result<ArrayRef> {
    check_elements(vectors)?;
    let mut single: Vec<f32> = Vec::new();
    let mut halves: Vec<f16> = Vec::new();
    let values: ArrayRef = if ty.kind == VectorKind::HalfVec {
        halves.reserve(vectors.values().len());
        rows_of(vectors, |row| {
            let scale = scale(row);
            halves.extend(row.iter().map(|v| f16::from_f64(scale(*v))));
        });
        Arc::new(Float16Array::from(halves))
    } else {
        single.reserve(vectors.values().len());
        rows_of(vectors, |row| {
            let scale = scale(row);
            single.extend(row.iter().map(|v| scale(*v) as f32));
        });
        Arc::new(Float32Array::from(single))
    };
    let size = ty.list_size() as i32;
    Ok(Arc::new(FixedSizeListArray::try_new(ty.item(), size, values, vectors.nulls().cloned())?))
}

fn normalize_lists(array: &ArrayRef) -> triune_common::Result<ArrayRef> {
    let lists = Doubles::try_new(array)?;
    let mut out = ListBuilder::new(Float64Builder::new());
    for i in 0..array.len() {
        match lists.row(i)? {
            Some(row) => {
                let scale = scale(row);
                out.append_value(row.iter().map(|v| Some(scale(*v))));
            }
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

impl ScalarUDFImpl for L2NormalizeFunc {
    shared_methods!("l2_normalize");

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = any_nullable(args.arg_fields);
        Ok(match measured("l2_normalize", args.arg_fields)? {
            Shape::Vector(ty) => Arc::new(normalized_type(ty).field("l2_normalize", nullable)),
            _ => {
                let item = Arc::new(Field::new("item", DataType::Float64, true));
                result_field("l2_normalize", DataType::List(item), nullable)
            }
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let shape = measured("l2_normalize", &args.arg_fields)?;
        let Some(value) = args.args.first() else {
            return datafusion::common::internal_err!("l2_normalize was called without an argument");
        };
        map_rows(value, |array| match shape {
            Shape::Vector(ty) => normalize_vectors(as_fixed_size_list_array(array)?, normalized_type(ty)),
            _ => normalize_lists(array),
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        static DOC: LazyLock<Documentation> = LazyLock::new(|| {
            doc(
                "The vector divided by its Euclidean norm, of the same type (VECTOR for a TINYVEC). A zero vector \
                 stays as it is. NULL gives NULL.",
                "l2_normalize(vector)",
                "> SELECT l2_normalize('[3,4]'::VECTOR(2));\n[0.6, 0.8]",
                &[("vector", "A VECTOR, HALFVEC, TINYVEC or list of numbers.")],
            )
        });
        Some(&DOC)
    }
}
