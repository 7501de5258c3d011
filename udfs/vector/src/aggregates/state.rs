//! Sums of vectors, one per group, in one flat buffer of `f64`.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float16Array, Float32Array, Float64Array, ListArray,
    UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Float16Type, Float32Type, Float64Type, Int8Type, UInt64Type};
use half::f16;
use triune_common::{Error, ErrorKind, Result};

use super::{Kind, Output};
use crate::types::VectorKind;
use crate::types::convert::{Doubles, check_elements};

/// `counts[g]` rows were added to `sums[g * dims ..][.. dims]`.
#[derive(Debug)]
pub(super) struct Sums {
    /// Not known before the first row where the type does not tell.
    dims: Option<usize>,
    sums: Vec<f64>,
    counts: Vec<u64>,
}

/// Rows of a batch as `f64`, whatever their elements are.
pub(super) enum Rows<'a> {
    Single(&'a [f32], usize),
    Half(&'a [f16], usize),
    Tiny(&'a [i8], usize),
    Lists(Doubles),
}

impl<'a> Rows<'a> {
    pub(super) fn try_new(array: &'a ArrayRef) -> Result<Self> {
        if let DataType::FixedSizeList(item, size) = array.data_type() {
            let vectors = array.as_fixed_size_list();
            let (values, size) = (vectors.values(), *size as usize);
            match item.data_type() {
                DataType::Float32 => {
                    check_elements(vectors)?;
                    return Ok(Self::Single(values.as_primitive::<Float32Type>().values(), size));
                }
                DataType::Float16 => {
                    check_elements(vectors)?;
                    return Ok(Self::Half(values.as_primitive::<Float16Type>().values(), size));
                }
                DataType::Int8 => {
                    check_elements(vectors)?;
                    return Ok(Self::Tiny(values.as_primitive::<Int8Type>().values(), size));
                }
                _ => {}
            }
        }
        Doubles::try_new(array).map(Self::Lists)
    }

    /// Hands the elements of row `i`, which is not NULL, to `each`, and tells how many there are.
    fn for_row(&self, i: usize, mut each: impl FnMut(usize, f64)) -> Result<()> {
        match self {
            Self::Single(v, size) => {
                v[i * size..][..*size].iter().enumerate().for_each(|(j, x)| each(j, f64::from(*x)))
            }
            Self::Half(v, size) => {
                v[i * size..][..*size].iter().enumerate().for_each(|(j, x)| each(j, f64::from(*x)))
            }
            Self::Tiny(v, size) => {
                v[i * size..][..*size].iter().enumerate().for_each(|(j, x)| each(j, f64::from(*x)))
            }
            Self::Lists(lists) => {
                lists.row(i)?.unwrap_or_default().iter().enumerate().for_each(|(j, x)| each(j, *x));
            }
        }
        Ok(())
    }

    fn len_of(&self, i: usize) -> usize {
        match self {
            Self::Single(_, size) | Self::Half(_, size) | Self::Tiny(_, size) => *size,
            Self::Lists(lists) => lists.row_len(i).unwrap_or(0),
        }
    }

    /// The elements of row `i`, which is not NULL.
    pub(super) fn to_vec(&self, i: usize) -> Result<Vec<f64>> {
        let mut out = Vec::with_capacity(self.len_of(i));
        self.for_row(i, |_, x| out.push(x))?;
        Ok(out)
    }
}

impl Sums {
    pub(super) fn new(output: Output) -> Self {
        Self { dims: output.dims(), sums: Vec::new(), counts: Vec::new() }
    }

    /// Bytes that are held.
    pub(super) fn size(&self) -> usize {
        self.sums.capacity() * size_of::<f64>() + self.counts.capacity() * size_of::<u64>()
    }

    pub(super) fn resize(&mut self, groups: usize) {
        self.counts.resize(groups.max(self.counts.len()), 0);
        let dims = self.dims.unwrap_or(0);
        self.sums.resize(self.counts.len() * dims, 0.0);
    }

    /// # Errors
    /// The row's length differs from that of the rows before it.
    fn check_len(&mut self, len: usize) -> Result<()> {
        match self.dims {
            Some(dims) if dims == len => Ok(()),
            Some(dims) => Err(Error::invalid(format!("different vector dimensions {dims} and {len}"))),
            None => {
                self.dims = Some(len);
                self.sums.resize(self.counts.len() * len, 0.0);
                Ok(())
            }
        }
    }

    /// Adds (`sign` 1) or takes away (`sign` -1) row `i` of `rows`, which is not NULL, to `group`.
    pub(super) fn add(&mut self, group: usize, rows: &Rows<'_>, i: usize, sign: f64) -> Result<()> {
        let len = rows.len_of(i);
        self.check_len(len)?;
        let sums = &mut self.sums[group * len..][..len];
        rows.for_row(i, |j, x| sums[j] += sign * x)?;
        self.counts[group] =
            if sign > 0.0 { self.counts[group] + 1 } else { self.counts[group].saturating_sub(1) };
        Ok(())
    }

    /// Adds the sums of another partition.
    pub(super) fn merge(&mut self, group: usize, count: u64, sums: &[f64]) -> Result<()> {
        self.check_len(sums.len())?;
        let own = &mut self.sums[group * sums.len()..][..sums.len()];
        own.iter_mut().zip(sums).for_each(|(a, b)| *a += b);
        self.counts[group] += count;
        Ok(())
    }

    /// Takes the first `groups` groups out.
    pub(super) fn take(&mut self, groups: usize) -> Self {
        let dims = self.dims.unwrap_or(0);
        let rest = Self {
            dims: self.dims,
            sums: self.sums.split_off(groups * dims),
            counts: self.counts.split_off(groups),
        };
        std::mem::replace(self, rest)
    }

    /// A copy, for a result in the middle of a window.
    pub(super) fn snapshot(&self) -> Self {
        Self { dims: self.dims, sums: self.sums.clone(), counts: self.counts.clone() }
    }

    /// Groups that no row was added to are NULL.
    fn nulls(&self) -> NullBuffer {
        NullBuffer::from_iter(self.counts.iter().map(|c| *c > 0))
    }

    /// The columns of `VectorAgg::state_fields`.
    pub(super) fn into_state(self) -> Result<Vec<ArrayRef>> {
        let counts: ArrayRef = Arc::new(UInt64Array::from(self.counts.clone()));
        Ok(vec![counts, self.into_lists()?])
    }

    /// # Errors
    /// All groups together have more elements than the offsets of an Arrow list can count (16 GiB of sums).
    fn into_lists(self) -> Result<ArrayRef> {
        let nulls = self.nulls();
        let dims = self.dims.unwrap_or(0);
        if i32::try_from(self.sums.len()).is_err() {
            let groups = self.counts.len();
            return Err(Error::new(
                ErrorKind::Resources,
                format!("{groups} groups of {dims} dimensions are too many to aggregate vectors over"),
            ));
        }
        let offsets: ScalarBuffer<i32> = (0..=self.counts.len()).map(|g| (g * dims) as i32).collect();
        let item = Arc::new(Field::new("item", DataType::Float64, true));
        let values = Arc::new(Float64Array::from(self.sums));
        Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::new(offsets), values, Some(nulls))?))
    }

    /// # Errors
    /// An element is beyond the range of the result's type.
    pub(super) fn into_result(mut self, kind: Kind, output: Output) -> Result<ArrayRef> {
        if kind == Kind::Avg {
            let dims = self.dims.unwrap_or(0);
            for (g, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 1) {
                self.sums[g * dims..][..dims].iter_mut().for_each(|x| *x /= *count as f64);
            }
        }
        let Output::Vector(ty) = output else { return self.into_lists() };
        let nulls = self.nulls();
        let too_large = |x: f64, i: usize| {
            Error::invalid(format!("{x:e} at position {} is out of range for {ty}", i % ty.dims + 1))
        };
        let values: ArrayRef = match ty.kind {
            VectorKind::HalfVec => {
                let narrow = |(i, x): (usize, &f64)| match f16::from_f64(*x) {
                    h if h.is_infinite() && x.is_finite() => Err(too_large(*x, i)),
                    h => Ok(h),
                };
                Arc::new(Float16Array::from(
                    self.sums.iter().enumerate().map(narrow).collect::<Result<Vec<_>>>()?,
                ))
            }
            _ => {
                let narrow = |(i, x): (usize, &f64)| match *x as f32 {
                    s if s.is_infinite() && x.is_finite() => Err(too_large(*x, i)),
                    s => Ok(s),
                };
                Arc::new(Float32Array::from(
                    self.sums.iter().enumerate().map(narrow).collect::<Result<Vec<_>>>()?,
                ))
            }
        };
        Ok(Arc::new(FixedSizeListArray::try_new(ty.item(), ty.list_size() as i32, values, Some(nulls))?))
    }
}

/// The state columns of another partition, row by row.
pub(super) struct States<'a> {
    counts: &'a UInt64Array,
    sums: &'a ListArray,
}

impl<'a> States<'a> {
    pub(super) fn try_new(columns: &'a [ArrayRef]) -> Result<Self> {
        match columns {
            [counts, sums] => {
                Ok(Self { counts: counts.as_primitive::<UInt64Type>(), sums: sums.as_list::<i32>() })
            }
            _ => Err(Error::internal(format!("{} state columns of a vector aggregate", columns.len()))),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Count and sums of row `i`, `None` when it stands for no rows.
    pub(super) fn row(&self, i: usize) -> Option<(u64, &[f64])> {
        if self.sums.is_null(i) || self.counts.is_null(i) {
            return None;
        }
        let (from, to) = (self.sums.value_offsets()[i] as usize, self.sums.value_offsets()[i + 1] as usize);
        Some((self.counts.value(i), &self.sums.values().as_primitive::<Float64Type>().values()[from..to]))
    }
}
