//! Many queries against the same rows.
//!
//! ```text
//!              rows of a batch
//!            ┌──────┬──────┬───
//!   query 1  │ block│      │      a block of rows stays in the cache while every query passes over it,
//!   query 2  │  of  │      │      so the rows are read from memory once for all queries
//!   …        │ rows │      │
//! ```
//!
//! The distances are those of [`super::distances`], to the bit: the same kernels run, on fewer rows at a time.

use std::ops::Range;

use arrow::array::{Array, AsArray, FixedSizeListArray};
use arrow::datatypes::{Float16Type, Float32Type, Int8Type, UInt8Type};
use half::f16;
use triune_common::{Error, Result};

use super::dispatch::table;
use super::query::{PreparedQuery, Query, by_bit_measure, by_measure, negate};
use crate::types::convert::check_elements;
use crate::types::{VectorKind, VectorType};

/// How many bytes of rows a block has: half of a small second-level cache.
const BLOCK_BYTES: usize = 128 * 1024;

/// The rows of one array, checked once.
#[derive(Debug, Clone, Copy)]
pub struct VectorRows<'a> {
    ty: VectorType,
    width: usize,
    len: usize,
    values: Values<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Values<'a> {
    Single(&'a [f32]),
    Half(&'a [f16]),
    Tiny(&'a [i8]),
    Bits(&'a [u8]),
}

impl<'a> VectorRows<'a> {
    /// # Errors
    /// The column is not of `ty`, or a row that is not NULL holds a NULL element.
    pub fn try_new(column: &'a FixedSizeListArray, ty: VectorType) -> Result<Self> {
        let found = VectorType::from_data_type(column.data_type());
        if !found.is_some_and(|f| f.kind == ty.kind && f.list_size() == ty.list_size()) {
            return Err(Error::internal(format!(
                "queries for {ty} were applied to a column of {}",
                column.data_type()
            )));
        }
        check_elements(column)?;
        let (width, len) = (ty.list_size(), column.len());
        let start = usize::try_from(column.value_offset(0)).unwrap_or(0);
        let range = start..start + width * len;
        let values = column.values();
        let values = match ty.kind {
            VectorKind::Vector => Values::Single(&values.as_primitive::<Float32Type>().values()[range]),
            VectorKind::HalfVec => Values::Half(&values.as_primitive::<Float16Type>().values()[range]),
            VectorKind::TinyVec => Values::Tiny(&values.as_primitive::<Int8Type>().values()[range]),
            VectorKind::BitVec => Values::Bits(&values.as_primitive::<UInt8Type>().values()[range]),
        };
        Ok(Self { ty, width, len, values })
    }

    /// The blocks in which the rows are best worked on.
    pub fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let element = match self.values {
            Values::Single(_) => 4,
            Values::Half(_) => 2,
            Values::Tiny(_) | Values::Bits(_) => 1,
        };
        let (len, rows) = (self.len, (BLOCK_BYTES / (self.width * element).max(1)).clamp(16, 1024));
        (0..len).step_by(rows).map(move |start| start..(start + rows).min(len))
    }

    /// Writes the distances of the rows in `range` to `query` into the front of `out`. Rows that are NULL get a
    /// number without a meaning; NaN as in [`super::distances`].
    ///
    /// # Errors
    /// Internal, if the query is NULL or of another type, or `range` is not within the rows and `out`.
    pub fn distances(&self, query: &PreparedQuery, range: Range<usize>, out: &mut [f32]) -> Result<()> {
        let rows = range.len();
        let broken = || Error::internal("a query does not fit the rows that it was applied to");
        let ty = query.column_type();
        if range.end > self.len || rows > out.len() || ty.kind != self.ty.kind || ty.list_size() != self.width
        {
            return Err(broken());
        }
        let out = &mut out[..rows];
        let range = range.start * self.width..range.end * self.width;
        let metric = query.metric();
        match (query.query(), self.values) {
            (Query::Single { values: q, norm }, Values::Single(x)) => {
                // SAFETY: the table is that of the detected level.
                unsafe { by_measure(metric, &table().f32_rows)(q, &x[range], *norm, out) }
            }
            (Query::Half { values: q, norm }, Values::Half(x)) => {
                // SAFETY: as above.
                unsafe { by_measure(metric, &table().f16_rows)(q, &x[range], *norm, out) }
            }
            (Query::Tiny { values: q, norm }, Values::Tiny(x)) => {
                // SAFETY: as above.
                unsafe { by_measure(metric, &table().i8_rows)(q, &x[range], *norm, out) }
            }
            (Query::Bits { values: q }, Values::Bits(x)) => {
                // SAFETY: as above.
                unsafe { by_bit_measure(metric, &table().bit_rows)(q, &x[range], out) }
            }
            _ => return Err(broken()),
        }
        negate(metric, out);
        Ok(())
    }
}
