//! `avg(DISTINCT v)` and `sum(DISTINCT v)`: every different vector once.
//!
//! Vectors are the same when all their elements are, bit by bit: NaN equals itself, `0` and `-0` differ.
//! *Memory*: all different vectors as `f64`.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Builder, ListBuilder};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Accumulator;

use super::state::{Rows, Sums};
use super::{Kind, Output, doubles};

#[derive(Debug)]
pub(super) struct DistinctAccumulator {
    kind: Kind,
    output: Output,
    seen: HashSet<Vec<u64>>,
    /// Elements in `seen`, for `size`.
    elements: usize,
}

impl DistinctAccumulator {
    pub(super) fn new(kind: Kind, output: Output) -> Self {
        Self { kind, output, seen: HashSet::new(), elements: 0 }
    }

    fn insert(&mut self, row: &[f64]) {
        let bits: Vec<u64> = row.iter().map(|x| x.to_bits()).collect();
        if self.seen.insert(bits) {
            self.elements += row.len();
        }
    }
}

impl Accumulator for DistinctAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [array] = values else {
            return datafusion::common::internal_err!("{} arguments of a vector aggregate", values.len());
        };
        let rows = Rows::try_new(array)?;
        for i in (0..array.len()).filter(|i| array.is_valid(*i)) {
            self.insert(&rows.to_vec(i)?);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [state] = states else {
            return datafusion::common::internal_err!(
                "{} state columns of a distinct vector aggregate",
                states.len()
            );
        };
        for vectors in state.as_list::<i32>().iter().flatten() {
            self.update_batch(&[vectors])?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        // Sorted, so that the sum does not depend on the order of a hash set.
        let mut vectors: Vec<Vec<f64>> =
            self.seen.iter().map(|bits| bits.iter().map(|b| f64::from_bits(*b)).collect()).collect();
        vectors.sort_by(|a, b| {
            a.iter()
                .zip(b)
                .map(|(x, y)| x.total_cmp(y))
                .find(|o| o.is_ne())
                .unwrap_or_else(|| a.len().cmp(&b.len()))
        });
        let mut sums = Sums::new(self.output);
        sums.resize(1);
        for vector in &vectors {
            sums.merge(0, 1, vector)?;
        }
        ScalarValue::try_from_array(&sums.into_result(self.kind, self.output)?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut rows = ListBuilder::new(Float64Builder::new());
        for bits in &self.seen {
            rows.append_value(bits.iter().map(|b| Some(f64::from_bits(*b))));
        }
        let rows: ArrayRef = Arc::new(rows.finish());
        debug_assert_eq!(rows.data_type(), &doubles());
        let one = datafusion::common::utils::SingleRowListArrayBuilder::new(rows).build_list_array();
        Ok(vec![ScalarValue::List(Arc::new(one))])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.elements * size_of::<u64>() + self.seen.capacity() * size_of::<Vec<u64>>()
    }
}
