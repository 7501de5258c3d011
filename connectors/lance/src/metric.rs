//! The metrics of Lance's indexes, and the distances that a search returns.
//!
//! | metric  | Lance's number      | our `_distance`                    |
//! |---------|---------------------|------------------------------------|
//! | L2      | Σ(a−b)²             | √Σ(a−b)²                           |
//! | Cosine  | 1 − cos(a,b)        | the same                           |
//! | Dot     | 1 − Σab             | −Σab (smaller is nearer)           |
//! | Hamming | bits that differ    | the same                           |
//!
//! Numbers of Lance are used to find candidates only; `_distance` is computed again from the stored
//! vector by a [`VectorScorer`], so that approximate, scaled and squared numbers never reach a result.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, FixedSizeListArray, Float32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type, UInt8Type};
use lance_linalg::distance::{Cosine, Dot, L2, MetricType, cosine_distance_batch, hamming::hamming};
use triune_common::{Error, Result};

/// A distance that Lance can index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LanceMetric {
    L2,
    Cosine,
    /// The negative inner product.
    Dot,
    /// Over packed bits (`UInt8` elements).
    Hamming,
}

impl LanceMetric {
    pub(crate) fn from_lance_name(name: &str) -> Option<Self> {
        match name {
            "L2" => Some(Self::L2),
            "COSINE" => Some(Self::Cosine),
            "DOT" => Some(Self::Dot),
            "HAMMING" => Some(Self::Hamming),
            _ => None,
        }
    }

    pub(crate) fn to_lance(self) -> MetricType {
        match self {
            Self::L2 => MetricType::L2,
            Self::Cosine => MetricType::Cosine,
            Self::Dot => MetricType::Dot,
            Self::Hamming => MetricType::Hamming,
        }
    }
}

impl fmt::Display for LanceMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::L2 => "l2",
            Self::Cosine => "cosine",
            Self::Dot => "dot",
            Self::Hamming => "hamming",
        })
    }
}

impl FromStr for LanceMetric {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "l2" | "euclidean" => Ok(Self::L2),
            "cosine" => Ok(Self::Cosine),
            "dot" | "ip" | "inner_product" | "negative_inner_product" => Ok(Self::Dot),
            "hamming" => Ok(Self::Hamming),
            other => Err(Error::invalid(format!("a Lance index knows no metric \"{other}\""))
                .with_hint("use l2, cosine, dot or hamming")),
        }
    }
}

/// Computes the distances that a search returns, from stored vectors.
pub trait VectorScorer: fmt::Debug + Send + Sync {
    /// The distance of each vector to the query; NULL where the vector or one of its elements is NULL.
    fn score(&self, vectors: &FixedSizeListArray) -> Result<Float32Array>;
}

/// The default: Lance's own kernels, with the numbers converted.
#[derive(Debug)]
pub(crate) struct LanceScorer {
    metric: LanceMetric,
    /// Of the column's element type.
    query: ArrayRef,
    /// For element types that no kernel takes.
    wide_query: Option<Vec<f32>>,
}

impl LanceScorer {
    /// `query` is one vector as [`query_for`] makes it.
    pub(crate) fn try_new(metric: LanceMetric, query: ArrayRef) -> Result<Self> {
        let wide = match (metric, query.data_type()) {
            (LanceMetric::Hamming, DataType::UInt8) => None,
            (LanceMetric::Hamming, other) => {
                return Err(Error::invalid(format!(
                    "the hamming distance is of bit vectors, not of {other}"
                )));
            }
            (_, DataType::Float16 | DataType::Float32 | DataType::Float64) => None,
            (_, DataType::Int8 | DataType::UInt8) => Some(widen(&query)?),
            (_, other) => {
                return Err(Error::unsupported(format!("vectors of {other} cannot be searched")));
            }
        };
        Ok(Self { metric, query, wide_query: wide })
    }
}

impl VectorScorer for LanceScorer {
    fn score(&self, vectors: &FixedSizeListArray) -> Result<Float32Array> {
        let values = vectors.values();
        let dims = self.query.len();
        if usize::try_from(vectors.value_length()).ok() != Some(dims) || values.len() < vectors.len() * dims {
            return Err(Error::internal(format!(
                "vectors of {} numbers were compared with one of {dims}",
                vectors.value_length()
            )));
        }
        let distances = match (self.metric, values.data_type()) {
            (LanceMetric::Hamming, DataType::UInt8) => {
                let query = self.query.as_primitive::<UInt8Type>().values();
                let all = values.as_primitive::<UInt8Type>().values();
                all.chunks_exact(dims).map(|v| hamming(query, v)).collect()
            }
            (metric, DataType::Float32) => compare::<Float32Type>(metric, &self.query, values),
            (metric, DataType::Float16) => compare::<Float16Type>(metric, &self.query, values),
            (metric, DataType::Float64) => compare::<Float64Type>(metric, &self.query, values),
            (metric, DataType::Int8 | DataType::UInt8) => match &self.wide_query {
                Some(query) => slices(metric, query, &widen(values)?),
                None => return Err(Error::internal("a query was prepared for other vectors")),
            },
            (_, other) => return Err(Error::unsupported(format!("vectors of {other} cannot be searched"))),
        };
        Ok(Float32Array::new(distances.into(), nulls(vectors)))
    }
}

fn compare<T: ArrowPrimitiveType>(metric: LanceMetric, query: &ArrayRef, all: &ArrayRef) -> Vec<f32>
where
    T::Native: L2 + Dot + Cosine,
{
    slices(metric, query.as_primitive::<T>().values(), all.as_primitive::<T>().values())
}

fn slices<T: L2 + Dot + Cosine>(metric: LanceMetric, query: &[T], all: &[T]) -> Vec<f32> {
    let vectors = all.chunks_exact(query.len());
    match metric {
        LanceMetric::L2 => vectors.map(|v| lance_linalg::distance::l2::l2(query, v).sqrt()).collect(),
        LanceMetric::Cosine => cosine_distance_batch(query, all, query.len()).collect(),
        LanceMetric::Dot => vectors.map(|v| -lance_linalg::distance::dot::dot(query, v)).collect(),
        // Refused when the query was prepared.
        LanceMetric::Hamming => vec![f32::NAN; vectors.len()],
    }
}

fn widen(values: &ArrayRef) -> Result<Vec<f32>> {
    let wide = cast(values, &DataType::Float32)?;
    Ok(wide.as_primitive::<Float32Type>().values().to_vec())
}

/// NULL rows, and rows with a NULL element: neither has a distance.
fn nulls(vectors: &FixedSizeListArray) -> Option<NullBuffer> {
    let elements = vectors.values();
    if elements.null_count() == 0 {
        return vectors.nulls().cloned();
    }
    let dims = usize::try_from(vectors.value_length()).unwrap_or(1).max(1);
    let whole = (0..vectors.len())
        .map(|row| vectors.is_valid(row) && (row * dims..(row + 1) * dims).all(|i| elements.is_valid(i)))
        .collect::<Vec<_>>();
    Some(NullBuffer::from(whole))
}

/// The query as one vector of a column's element type.
///
/// Lance takes a query of another type only where it can convert it and panics elsewhere. Errors:
/// invalid for a column that holds no vectors, another length, NULL or NaN, or a number that the
/// column's type cannot hold.
pub(crate) fn query_for(column: &str, column_type: &DataType, query: &ArrayRef) -> Result<ArrayRef> {
    let DataType::FixedSizeList(item, dims) = column_type else {
        return Err(Error::invalid(format!(
            "column \"{column}\" holds {column_type}, not vectors of fixed length"
        )));
    };
    // One vector may come as the single row of a list.
    let values: ArrayRef = match query.data_type() {
        DataType::FixedSizeList(..) | DataType::List(_) | DataType::LargeList(_) if query.len() == 1 => {
            if query.is_null(0) {
                return Err(Error::invalid("the query vector is NULL"));
            }
            match query.data_type() {
                DataType::FixedSizeList(..) => query.as_fixed_size_list().value(0),
                DataType::List(_) => query.as_list::<i32>().value(0),
                _ => query.as_list::<i64>().value(0),
            }
        }
        _ => Arc::clone(query),
    };
    if i32::try_from(values.len()).ok() != Some(*dims) {
        return Err(Error::invalid(format!(
            "the query vector has {} numbers, column \"{column}\" has vectors of {dims}",
            values.len()
        )));
    }
    if values.null_count() > 0 {
        return Err(Error::invalid("the query vector has a NULL in it"));
    }
    let cannot = || {
        Error::invalid(format!(
            "the query vector cannot be compared with the {} of column \"{column}\"",
            item.data_type()
        ))
    };
    let cast_to = |v: &ArrayRef, t: &DataType| {
        let options = arrow::compute::CastOptions { safe: false, ..Default::default() };
        arrow::compute::cast_with_options(v, t, &options).map_err(|e| cannot().with_source(e))
    };
    let typed = cast_to(&values, item.data_type())?;
    // A half or an eighth may be lost in rounding to a shorter float; a number that becomes another one
    // as an integer is a mistake.
    if matches!(item.data_type(), DataType::Int8 | DataType::UInt8) {
        let back = cast_to(&typed, &DataType::Float64)?;
        let wide = cast_to(&values, &DataType::Float64)?;
        if back.as_primitive::<Float64Type>().values() != wide.as_primitive::<Float64Type>().values() {
            return Err(cannot());
        }
    }
    let finite = cast_to(&typed, &DataType::Float64)?;
    if finite.as_primitive::<Float64Type>().values().iter().any(|v| !v.is_finite()) {
        return Err(Error::invalid("the query vector has a NaN or an infinity in it"));
    }
    Ok(typed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int8Array, UInt8Array};
    use arrow::datatypes::Field;

    fn list(values: ArrayRef, dims: i32) -> FixedSizeListArray {
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        FixedSizeListArray::new(item, dims, values, None)
    }

    #[test]
    fn distances_are_ours_not_lances() {
        let vectors = list(Arc::new(Float32Array::from(vec![3.0, 4.0, 0.0, 2.0])), 2);
        let query = Arc::new(Float32Array::from(vec![0.0, 1.0])) as ArrayRef;
        let score = |m| LanceScorer::try_new(m, Arc::clone(&query)).unwrap().score(&vectors).unwrap();
        assert_eq!(score(LanceMetric::L2).values().as_ref(), [18f32.sqrt(), 1.0]);
        assert_eq!(score(LanceMetric::Dot).values().as_ref(), [-4.0, -2.0]);
        let cosine = score(LanceMetric::Cosine);
        assert!((cosine.value(0) - 0.2).abs() < 1e-6 && cosine.value(1).abs() < 1e-6, "{cosine:?}");
    }

    #[test]
    fn integers_and_bits() {
        let vectors = list(Arc::new(Int8Array::from(vec![3, 4, 0, 2])), 2);
        let query = query_for("v", vectors.data_type(), &(Arc::new(Float64Array::from(vec![0.0, 1.0])) as _))
            .unwrap();
        let l2 = LanceScorer::try_new(LanceMetric::L2, query).unwrap().score(&vectors).unwrap();
        assert_eq!(l2.values().as_ref(), [18f32.sqrt(), 1.0]);
        let bits = list(Arc::new(UInt8Array::from(vec![0b1010_0000, 0b1111_1111])), 1);
        let query = Arc::new(UInt8Array::from(vec![0b1000_0001])) as ArrayRef;
        let hamming = LanceScorer::try_new(LanceMetric::Hamming, query).unwrap().score(&bits).unwrap();
        assert_eq!(hamming.values().as_ref(), [2.0, 6.0]);
    }

    #[test]
    fn nulls_have_no_distance() {
        let values =
            Arc::new(Float32Array::from(vec![Some(1.0), Some(1.0), None, Some(1.0), Some(2.0), Some(2.0)]));
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let vectors = FixedSizeListArray::new(item, 2, values, Some(vec![true, true, false].into()));
        let query = Arc::new(Float32Array::from(vec![1.0, 1.0])) as ArrayRef;
        let l2 = LanceScorer::try_new(LanceMetric::L2, query).unwrap().score(&vectors).unwrap();
        assert_eq!((l2.is_valid(0), l2.is_valid(1), l2.is_valid(2)), (true, false, false));
    }

    #[test]
    fn bad_queries_are_told() {
        let floats = DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float32, true)), 2);
        let bytes = DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Int8, true)), 2);
        let say = |t: &DataType, q: Vec<f64>| {
            query_for("v", t, &(Arc::new(Float64Array::from(q)) as ArrayRef)).unwrap_err().to_string()
        };
        assert_eq!(say(&floats, vec![1.0]), "the query vector has 1 numbers, column \"v\" has vectors of 2");
        assert_eq!(say(&floats, vec![1.0, f64::NAN]), "the query vector has a NaN or an infinity in it");
        assert!(
            say(&bytes, vec![1.0, 300.0]).starts_with("the query vector cannot be compared with the Int8")
        );
        assert!(say(&bytes, vec![1.0, 0.5]).starts_with("the query vector cannot be compared with the Int8"));
        assert_eq!(say(&DataType::Utf8, vec![1.0]), "column \"v\" holds Utf8, not vectors of fixed length");
    }
}
