//! Arrays of texts, lists and vectors of one kind → vectors of another.
//!
//! *Input*: texts, lists of numbers (variable or fixed, any numeric or boolean elements), vectors, NULL.
//! *Output*: `FixedSizeList` of the wanted type, NULL rows stay NULL. *Errors*: as for reading a text, and a
//! row of the wrong length. *Cost*: one copy; none where the elements have the wanted type already.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type, UInt8Type};
use triune_common::{Error, Result};

use super::text::{Elements, Rounding, null_element, wrong_length};
use super::{VectorKind, VectorType};

/// Converts a column; `from` is its own vector type where it has one.
pub(crate) fn to_vectors(
    array: &ArrayRef,
    from: Option<VectorType>,
    to: VectorType,
    round: Rounding,
) -> Result<FixedSizeListArray> {
    match array.data_type() {
        DataType::Null => Ok(FixedSizeListArray::new_null(to.item(), to.list_size() as i32, array.len())),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => from_texts(array, to),
        DataType::Dictionary(_, value) => to_vectors(&cast(array, value)?, from, to, round),
        DataType::FixedSizeList(..) => match from {
            Some(from) => from_vectors(array.as_fixed_size_list(), from, to, round),
            None => from_lists(array, to, round),
        },
        DataType::List(_) | DataType::LargeList(_) | DataType::ListView(_) => from_lists(array, to, round),
        other => Err(Error::invalid(format!("cannot make a {to} of {other}"))
            .with_hint("accepted are texts such as '[1,2,3]', lists of numbers and vectors")),
    }
}

fn from_texts(array: &ArrayRef, to: VectorType) -> Result<FixedSizeListArray> {
    let texts = cast(array, &DataType::Utf8View)?;
    let texts = texts.as_string_view();
    let mut out = Elements::with_capacity(to, texts.len());
    for text in texts {
        match text {
            Some(text) => out.push_text(text)?,
            None => out.push_zeros(),
        }
    }
    out.finish(array.nulls().cloned())
}

/// Vectors of another kind, or of the same one, which are taken as they are.
fn from_vectors(
    array: &FixedSizeListArray,
    from: VectorType,
    to: VectorType,
    round: Rounding,
) -> Result<FixedSizeListArray> {
    if from.dims != to.dims {
        return Err(Error::invalid(format!("expected {} dimensions for {to}, got {from}", to.dims)));
    }
    if from.kind == to.kind {
        check_elements(array)?;
        check_finite(array)?;
        return Ok(FixedSizeListArray::try_new(
            to.item(),
            to.list_size() as i32,
            Arc::clone(array.values()),
            array.nulls().cloned(),
        )?);
    }
    if from.kind == VectorKind::BitVec {
        return from_bits(array, to);
    }
    let rows: ArrayRef = Arc::new(array.clone());
    from_lists(&rows, to, round)
}

fn from_bits(array: &FixedSizeListArray, to: VectorType) -> Result<FixedSizeListArray> {
    check_elements(array)?;
    let bytes = array.values().as_primitive::<UInt8Type>().values();
    let mut out = Elements::with_capacity(to, array.len());
    for chunk in bytes.chunks(to.dims.div_ceil(8)) {
        let bits = (0..to.dims).map(|i| Some(f64::from(chunk[i / 8] >> (7 - i % 8) & 1)));
        out.push_values(bits, Rounding::Refuse)?;
    }
    out.finish(array.nulls().cloned())
}

fn from_lists(array: &ArrayRef, to: VectorType, round: Rounding) -> Result<FixedSizeListArray> {
    let lists = Doubles::try_new(array)?;
    let mut out = Elements::with_capacity(to, array.len());
    for row in 0..array.len() {
        match lists.elements(row) {
            Some(elements) if elements.len() == to.dims => out.push_values(elements.iter(), round)?,
            Some(elements) => return Err(wrong_length(to, elements.len())),
            None => out.push_zeros(),
        }
    }
    out.finish(array.nulls().cloned())
}

pub(crate) fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || matches!(data_type, DataType::Boolean | DataType::Null)
}

/// # Errors
/// A row that is not NULL has an element that is NULL. Elements below a NULL row may be anything.
pub(crate) fn check_elements(array: &FixedSizeListArray) -> Result<()> {
    let Some(nulls) = array.values().nulls().filter(|n| n.null_count() > 0) else { return Ok(()) };
    let size = array.value_length() as usize;
    for row in (0..array.len()).filter(|&row| array.is_valid(row)) {
        if let Some(i) = (0..size).find(|i| nulls.is_null(row * size + i)) {
            return Err(null_element(i));
        }
    }
    Ok(())
}

/// # Errors
/// A row that is not NULL has an element that is NaN or infinite.
fn check_finite(array: &FixedSizeListArray) -> Result<()> {
    let bad = |at: usize, is_nan: bool| {
        let what = if is_nan { "NaN" } else { "infinity" };
        let position = at % (array.value_length().max(1) as usize) + 1;
        Err(Error::invalid(format!("{what} at position {position} is not allowed in a vector")))
    };
    let size = array.value_length().max(1) as usize;
    let valid = |at: &usize| array.is_valid(at / size);
    match array.values().data_type() {
        DataType::Float32 => {
            let v = array.values().as_primitive::<Float32Type>().values();
            let found = v.iter().enumerate().filter(|(_, x)| !x.is_finite()).map(|(i, _)| i).find(valid);
            found.map_or(Ok(()), |i| bad(i, v[i].is_nan()))
        }
        DataType::Float16 => {
            let v = array.values().as_primitive::<Float16Type>().values();
            let found = v.iter().enumerate().filter(|(_, x)| !x.is_finite()).map(|(i, _)| i).find(valid);
            found.map_or(Ok(()), |i| bad(i, v[i].is_nan()))
        }
        _ => Ok(()),
    }
}

/// A column of lists of numbers as flat `f64` with the bounds of each row.
#[derive(Debug)]
pub(crate) struct Doubles {
    values: Float64Array,
    offsets: Vec<usize>,
    nulls: Option<NullBuffer>,
}

impl Doubles {
    /// *Input*: list, large list, fixed-size list, list view, or NULL, with elements that are numbers.
    pub(crate) fn try_new(array: &ArrayRef) -> Result<Self> {
        let whole = |offsets: &[i64]| offsets.iter().map(|o| *o as usize).collect::<Vec<_>>();
        let (values, mut offsets): (ArrayRef, Vec<usize>) = match array.data_type() {
            DataType::Null => {
                let nulls = Some(NullBuffer::new_null(array.len()));
                let values = Float64Array::from(Vec::<f64>::new());
                return Ok(Self { values, offsets: vec![0; array.len() + 1], nulls });
            }
            DataType::List(_) => {
                let lists = array.as_list::<i32>();
                let offsets = lists.value_offsets().iter().map(|o| *o as usize).collect();
                (Arc::clone(lists.values()), offsets)
            }
            DataType::LargeList(_) => {
                let lists = array.as_list::<i64>();
                (Arc::clone(lists.values()), whole(lists.value_offsets()))
            }
            DataType::FixedSizeList(_, size) => {
                let lists = array.as_fixed_size_list();
                let size = *size as usize;
                (Arc::clone(lists.values()), (0..=lists.len()).map(|i| i * size).collect())
            }
            DataType::ListView(item) => {
                return Self::try_new(&cast(array, &DataType::List(Arc::clone(item)))?);
            }
            other => return Err(Error::internal(format!("{other} was taken for a list"))),
        };
        if !is_number(values.data_type()) {
            return Err(Error::invalid(format!("a list of {} is no vector", values.data_type()))
                .with_hint("its elements must be numbers"));
        }
        // A batch of lists may be a slice of a larger one: only its own elements are converted.
        let (first, last) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
        offsets.iter_mut().for_each(|o| *o -= first);
        let values = cast(&values.slice(first, last - first), &DataType::Float64)?;
        let values = values.as_primitive::<Float64Type>().clone();
        Ok(Self { values, offsets, nulls: array.nulls().cloned() })
    }

    /// The elements of a row, `None` for a NULL row.
    fn elements(&self, row: usize) -> Option<DoublesRow<'_>> {
        if self.nulls.as_ref().is_some_and(|n| n.is_null(row)) {
            return None;
        }
        Some(DoublesRow { values: &self.values, range: self.offsets[row]..self.offsets[row + 1] })
    }

    /// How many elements a row has, `None` for a NULL row.
    pub(crate) fn row_len(&self, row: usize) -> Option<usize> {
        self.elements(row).map(|elements| elements.len())
    }

    /// The elements of a row as numbers, `None` for a NULL row.
    ///
    /// # Errors
    /// An element is NULL.
    pub(crate) fn row(&self, row: usize) -> Result<Option<&[f64]>> {
        let Some(DoublesRow { range, .. }) = self.elements(row) else { return Ok(None) };
        if self.values.null_count() > 0
            && let Some(at) = range.clone().find(|at| self.values.is_null(*at))
        {
            return Err(null_element(at - range.start));
        }
        Ok(Some(&self.values.values()[range]))
    }
}

/// One row of [`Doubles`] with its NULL elements.
#[derive(Debug, Clone)]
struct DoublesRow<'a> {
    values: &'a Float64Array,
    range: std::ops::Range<usize>,
}

impl DoublesRow<'_> {
    fn len(&self) -> usize {
        self.range.len()
    }

    fn iter(&self) -> impl Iterator<Item = Option<f64>> + '_ {
        self.range.clone().map(|i| self.values.is_valid(i).then(|| self.values.value(i)))
    }
}
