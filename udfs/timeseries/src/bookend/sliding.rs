//! `first` and `last` over a window that moves: `OVER (ORDER BY ts ROWS BETWEEN 9 PRECEDING AND CURRENT ROW)`.
//!
//! ```text
//! rows in the frame, numbered as they came    4  5  6  7  8      (last)
//! kept: those that nothing later beats           5     7  8
//!       their times fall from front to back      9     4  2
//! ```
//!
//! The front is the answer; a new row removes from the back what it beats, a row that leaves the frame is removed
//! from the front if it is still there. Every row comes and goes once.

use std::collections::VecDeque;
use std::mem::size_of_val;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Accumulator;
use triune_common::Error;

use super::End;

#[derive(Debug)]
struct Kept {
    number: u64,
    /// Time, then value: larger is nearer to the end of `last`, smaller to that of `first`.
    key: OwnedRow,
    value: ScalarValue,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SlidingBookend {
    end: End,
    ignore_nulls: bool,
    value_type: DataType,
    converter: RowConverter,
    has_value_key: bool,
    kept: VecDeque<Kept>,
    /// Numbers of the next row to come and of the first row in the frame.
    next: u64,
    first: u64,
}

impl SlidingBookend {
    pub(crate) fn try_new(end: End, value: &DataType, time: &DataType, ignore_nulls: bool) -> Result<Self> {
        // NULL values yield to any other: they sort to the far end.
        let options = SortOptions { descending: false, nulls_first: end == End::Last };
        let by_value = SortField::new_with_options(value.clone(), options);
        let has_value_key = RowConverter::supports_fields(std::slice::from_ref(&by_value));
        let mut fields = vec![SortField::new(time.clone())];
        fields.extend(has_value_key.then_some(by_value));
        Ok(Self {
            end,
            ignore_nulls,
            value_type: value.clone(),
            converter: RowConverter::new(fields)?,
            has_value_key,
            kept: VecDeque::new(),
            next: 0,
            first: 0,
        })
    }

    /// Whether a new row takes the place of an older one. Equal keys are equal answers, except for types
    /// without an order, where the older row stays.
    fn beats(&self, new: &OwnedRow, old: &OwnedRow) -> bool {
        let order = match self.end {
            End::First => new.cmp(old),
            End::Last => old.cmp(new),
        };
        if self.has_value_key { order.is_le() } else { order.is_lt() }
    }
}

impl Accumulator for SlidingBookend {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let (values, times) = (&columns[0], &columns[1]);
        let mut keys = vec![Arc::clone(times)];
        keys.extend(self.has_value_key.then(|| Arc::clone(values)));
        let keys = self.converter.convert_columns(&keys)?;
        let (time_nulls, value_nulls) = (times.logical_nulls(), values.logical_nulls());
        for row in 0..values.len() {
            let number = self.next;
            self.next += 1;
            let skip = time_nulls.as_ref().is_some_and(|n| n.is_null(row))
                || (self.ignore_nulls && value_nulls.as_ref().is_some_and(|n| n.is_null(row)));
            if skip {
                continue;
            }
            let key = keys.row(row).owned();
            while self.kept.back().is_some_and(|old| self.beats(&key, &old.key)) {
                self.kept.pop_back();
            }
            self.kept.push_back(Kept { number, key, value: ScalarValue::try_from_array(values, row)? });
        }
        Ok(())
    }

    /// Rows leave in the order in which they came.
    fn retract_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        self.first += columns[0].len() as u64;
        while self.kept.front().is_some_and(|k| k.number < self.first) {
            self.kept.pop_front();
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        match self.kept.front() {
            Some(best) => Ok(best.value.clone()),
            None => ScalarValue::try_from(&self.value_type),
        }
    }

    fn size(&self) -> usize {
        let rows: usize =
            self.kept.iter().map(|k| size_of_val(k) + k.key.row().as_ref().len() + k.value.size()).sum();
        size_of_val(self) + self.converter.size() + rows
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Err(Error::internal("a moving window has no partial state").into())
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> Result<()> {
        Err(Error::internal("a moving window has no partial state").into())
    }
}
