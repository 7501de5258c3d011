//! One query against a column: prepared once per statement, applied batch by batch.

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::{ArrowNativeType, DataType, Float16Type, Float32Type, Int8Type, UInt8Type};
use datafusion::scalar::ScalarValue;
use half::f16;
use triune_common::{Error, Result};

use super::dispatch::{ByBitMeasure, ByMeasure, table};
use super::{Metric, int};
use crate::types::convert::{check_elements, to_vectors};
use crate::types::text::Rounding;
use crate::types::{VectorKind, VectorType};

/// A query converted to the elements of the column that it is compared with, and its norm.
///
/// A `HALFVEC` column is searched with the query rounded to halves (and held as `f32`, so that only rows are
/// widened, in the register).
#[derive(Debug, Clone)]
pub struct PreparedQuery {
    metric: Metric,
    column: VectorType,
    query: Query,
}

#[derive(Debug, Clone)]
pub(super) enum Query {
    /// The query is NULL and so is every distance.
    Null,
    Single {
        values: ScalarBuffer<f32>,
        norm: f32,
    },
    Half {
        values: ScalarBuffer<f32>,
        norm: f32,
    },
    Tiny {
        values: ScalarBuffer<i8>,
        norm: i64,
    },
    Bits {
        values: ScalarBuffer<u8>,
    },
}

impl PreparedQuery {
    /// Prepares `query` (a text, list, vector of any kind, or NULL) for columns of `column_type`.
    ///
    /// # Errors
    /// `column_type` is no vector, the metric is not defined on it, the query has another number of
    /// dimensions, or an element that the column's type cannot hold.
    pub fn try_new(metric: Metric, query: &ScalarValue, column_type: &DataType) -> Result<Self> {
        let Some(mut column) = VectorType::from_data_type(column_type) else {
            return Err(Error::invalid(format!("{column_type} is no vector type")));
        };
        // The Arrow type knows the bytes of a BITVEC and not its bits; a text does.
        if let (VectorKind::BitVec, Some(Some(text))) = (column.kind, query.try_as_str())
            && text.trim().len().div_ceil(8) == column.list_size()
        {
            column = VectorType::try_new(VectorKind::BitVec, text.trim().len())?;
        }
        Self::for_column(metric, query, None, column)
    }

    /// As [`PreparedQuery::try_new`] where the vector types are known exactly: `column` from the column's
    /// field, `query_type` from the query's.
    pub fn for_column(
        metric: Metric,
        query: &ScalarValue,
        query_type: Option<VectorType>,
        column: VectorType,
    ) -> Result<Self> {
        metric.check(column.kind)?;
        if query.is_null() {
            return Ok(Self { metric, column, query: Query::Null });
        }
        let row: ArrayRef = query.to_array()?;
        let query_type = query_type.or_else(|| match VectorType::from_data_type(row.data_type()) {
            // Without metadata a BITVEC is taken to have the column's bits, if the bytes are as many.
            Some(ty) if ty.kind == column.kind && ty.list_size() == column.list_size() => Some(column),
            other => other,
        });
        if let Some(ty) = query_type {
            super::check_dims(ty, column)?;
        }
        let converted = to_vectors(&row, query_type, column, Rounding::Refuse)?;
        Self::from_row(metric, &converted, 0, column)
    }

    /// Prepares row `row` of a column of `ty` itself; NULL if the row is.
    ///
    /// # Errors
    /// The metric is not defined on `ty`; the row holds a NULL element.
    pub fn from_row(metric: Metric, rows: &FixedSizeListArray, row: usize, ty: VectorType) -> Result<Self> {
        metric.check(ty.kind)?;
        if rows.is_null(row) {
            return Ok(Self { metric, column: ty, query: Query::Null });
        }
        check_elements(&rows.slice(row, 1))?;
        let values = rows.value(row);
        let query = match ty.kind {
            VectorKind::Vector => {
                let values = aligned(values.as_primitive::<Float32Type>().values());
                // SAFETY: the table is that of the detected level.
                let norm = unsafe { (table().single_norm)(&values) };
                Query::Single { values, norm }
            }
            VectorKind::HalfVec => {
                let wide: Vec<f32> =
                    values.as_primitive::<Float16Type>().values().iter().map(|v| v.to_f32()).collect();
                let values = aligned(&wide);
                // SAFETY: the table is that of the detected level.
                let norm = unsafe { (table().half_norm)(&values) };
                Query::Half { values, norm }
            }
            VectorKind::TinyVec => {
                let values = aligned(values.as_primitive::<Int8Type>().values());
                let norm = int::squared_norm(&values);
                Query::Tiny { values, norm }
            }
            VectorKind::BitVec => {
                Query::Bits { values: aligned(values.as_primitive::<UInt8Type>().values()) }
            }
        };
        Ok(Self { metric, column: ty, query })
    }

    pub(super) fn query(&self) -> &Query {
        &self.query
    }

    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The type of the columns that the query was prepared for.
    pub fn column_type(&self) -> VectorType {
        self.column
    }

    /// Whether the query is NULL, so that every distance is.
    pub fn is_null(&self) -> bool {
        matches!(self.query, Query::Null)
    }
}

/// A copy that begins at a cache line: the query is loaded again for every row.
fn aligned<T: ArrowNativeType>(values: &[T]) -> ScalarBuffer<T> {
    ScalarBuffer::from(Buffer::from_slice_ref(values))
}

/// The distance of every row of `column` to the query, in one pass.
///
/// *Output*: `f32`, of as many rows. *Nulls*: a NULL row, or a NULL query, gives NULL. *NaN*: an element that
/// is NaN makes its row's distance NaN, which sorts after every number; so does an all-zero vector under the
/// cosine metric. *Cost*: reads the column once, allocates the result only.
///
/// # Errors
/// The column has not the type that the query was prepared for; a row that is not NULL holds a NULL element.
pub fn distances(query: &PreparedQuery, column: &FixedSizeListArray) -> Result<Float32Array> {
    let found = VectorType::from_data_type(column.data_type());
    let fits =
        found.is_some_and(|ty| ty.kind == query.column.kind && ty.list_size() == query.column.list_size());
    if !fits {
        return Err(Error::internal(format!(
            "a query for {} was applied to a column of {}",
            query.column,
            column.data_type()
        )));
    }
    check_elements(column)?;
    let mut out = vec![0f32; column.len()];
    let values = column.values();
    match &query.query {
        Query::Null => return Ok(Float32Array::new_null(column.len())),
        Query::Single { values: q, norm } => {
            let rows = values.as_primitive::<Float32Type>().values();
            // SAFETY: the table is that of the detected level.
            unsafe { by_measure(query.metric, &table().f32_rows)(q, rows, *norm, &mut out) }
        }
        Query::Half { values: q, norm } => {
            let rows: &[f16] = values.as_primitive::<Float16Type>().values();
            // SAFETY: the table is that of the detected level.
            unsafe { by_measure(query.metric, &table().f16_rows)(q, rows, *norm, &mut out) }
        }
        Query::Tiny { values: q, norm } => {
            let rows = values.as_primitive::<Int8Type>().values();
            // SAFETY: the table is that of the detected level.
            unsafe { by_measure(query.metric, &table().i8_rows)(q, rows, *norm, &mut out) }
        }
        Query::Bits { values: q } => {
            let rows = values.as_primitive::<UInt8Type>().values();
            // SAFETY: the table is that of the detected level.
            unsafe { by_bit_measure(query.metric, &table().bit_rows)(q, rows, &mut out) }
        }
    }
    negate(query.metric, &mut out);
    Ok(Float32Array::new(out.into(), column.nulls().cloned()))
}

/// Kernels return the inner product itself.
pub(super) fn negate(metric: Metric, out: &mut [f32]) {
    if metric == Metric::NegativeInnerProduct {
        out.iter_mut().for_each(|v| *v = -*v);
    }
}

pub(super) fn by_measure<F: Copy>(metric: Metric, table: &ByMeasure<F>) -> F {
    match metric {
        Metric::L2 => table.l2,
        Metric::Cosine => table.cosine,
        Metric::NegativeInnerProduct => table.dot,
        // Metric::check has refused the two bit metrics.
        Metric::L1 | Metric::Hamming | Metric::Jaccard => table.l1,
    }
}

pub(super) fn by_bit_measure<F: Copy>(metric: Metric, table: &ByBitMeasure<F>) -> F {
    match metric {
        Metric::Jaccard => table.jaccard,
        _ => table.hamming,
    }
}
