//! The times of the best rows so far, in a form that is quick to compare.

use std::cmp::Ordering;
use std::fmt::Debug;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use datafusion::common::Result;
use datafusion::logical_expr::EmitTo;

/// One key per group. A group's key means nothing until it was set; the caller knows.
pub(crate) trait Keys: Debug + Send + Sync + 'static {
    /// The keys of a batch's rows. A NULL row has some key, never looked at.
    type Batch;

    fn of_batch(&self, times: &ArrayRef) -> Result<Self::Batch>;
    fn compare_rows(batch: &Self::Batch, a: usize, b: usize) -> Ordering;
    fn compare_to(&self, batch: &Self::Batch, row: usize, group: usize) -> Ordering;
    fn set(&mut self, group: usize, batch: &Self::Batch, row: usize);
    fn resize(&mut self, groups: usize);
    fn forget(&mut self, emit_to: EmitTo);
    fn size(&self) -> usize;
}

/// Times that are 64-bit integers underneath, or narrower ones.
#[derive(Debug, Default)]
pub(crate) struct IntKeys {
    keys: Vec<i64>,
}

impl IntKeys {
    pub(crate) fn takes(time: &DataType) -> bool {
        use DataType::{
            Date32, Date64, Duration, Int8, Int16, Int32, Int64, Time32, Time64, Timestamp, UInt8, UInt16,
            UInt32,
        };
        matches!(
            time,
            Int8 | Int16
                | Int32
                | Int64
                | UInt8
                | UInt16
                | UInt32
                | Date32
                | Date64
                | Time32(_)
                | Time64(_)
                | Timestamp(..)
                | Duration(_)
        )
    }
}

impl Keys for IntKeys {
    type Batch = ScalarBuffer<i64>;

    fn of_batch(&self, times: &ArrayRef) -> Result<Self::Batch> {
        let numbers = match times.data_type() {
            DataType::Time32(_) | DataType::Date32 => {
                cast(&cast(times, &DataType::Int32)?, &DataType::Int64)?
            }
            _ => cast(times, &DataType::Int64)?,
        };
        Ok(numbers.as_primitive::<Int64Type>().values().clone())
    }

    #[inline]
    fn compare_rows(batch: &Self::Batch, a: usize, b: usize) -> Ordering {
        batch[a].cmp(&batch[b])
    }

    #[inline]
    fn compare_to(&self, batch: &Self::Batch, row: usize, group: usize) -> Ordering {
        batch[row].cmp(&self.keys[group])
    }

    fn set(&mut self, group: usize, batch: &Self::Batch, row: usize) {
        self.keys[group] = batch[row];
    }

    fn resize(&mut self, groups: usize) {
        self.keys.resize(groups, 0);
    }

    fn forget(&mut self, emit_to: EmitTo) {
        emit_to.take_needed(&mut self.keys);
    }

    fn size(&self) -> usize {
        self.keys.capacity() * size_of::<i64>()
    }
}

/// Any other type, through arrow's order-preserving row format.
#[derive(Debug)]
pub(crate) struct RowKeys {
    converter: RowConverter,
    keys: Vec<Option<OwnedRow>>,
    bytes: usize,
}

impl RowKeys {
    pub(crate) fn takes(time: &DataType) -> bool {
        !time.is_nested() && RowConverter::supports_fields(&[SortField::new(time.clone())])
    }

    pub(crate) fn try_new(time: &DataType) -> Result<Self> {
        let converter = RowConverter::new(vec![SortField::new(time.clone())])?;
        Ok(Self { converter, keys: Vec::new(), bytes: 0 })
    }
}

impl Keys for RowKeys {
    type Batch = Rows;

    fn of_batch(&self, times: &ArrayRef) -> Result<Self::Batch> {
        Ok(self.converter.convert_columns(&[times.slice(0, times.len())])?)
    }

    fn compare_rows(batch: &Self::Batch, a: usize, b: usize) -> Ordering {
        batch.row(a).cmp(&batch.row(b))
    }

    fn compare_to(&self, batch: &Self::Batch, row: usize, group: usize) -> Ordering {
        match &self.keys[group] {
            Some(key) => batch.row(row).cmp(&key.row()),
            None => Ordering::Equal,
        }
    }

    fn set(&mut self, group: usize, batch: &Self::Batch, row: usize) {
        let key = batch.row(row).owned();
        self.bytes += key.row().as_ref().len();
        if let Some(old) = self.keys[group].replace(key) {
            self.bytes -= old.row().as_ref().len();
        }
    }

    fn resize(&mut self, groups: usize) {
        self.keys.resize(groups, None);
    }

    fn forget(&mut self, emit_to: EmitTo) {
        for key in emit_to.take_needed(&mut self.keys).into_iter().flatten() {
            self.bytes -= key.row().as_ref().len();
        }
    }

    fn size(&self) -> usize {
        self.keys.capacity() * size_of::<Option<OwnedRow>>() + self.bytes + self.converter.size()
    }
}
