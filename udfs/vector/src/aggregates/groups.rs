//! `avg` and `sum` of vectors over many groups at once, and over one.

use arrow::array::{Array, ArrayRef, BooleanArray};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::state::{Rows, States, Sums};
use super::{Kind, Output};

/// One flat buffer of sums for all groups of an aggregation.
#[derive(Debug)]
pub(super) struct VectorGroups {
    kind: Kind,
    output: Output,
    sums: Sums,
}

impl VectorGroups {
    pub(super) fn new(kind: Kind, output: Output) -> Self {
        Self { kind, output, sums: Sums::new(output) }
    }

    fn take(&mut self, emit_to: EmitTo) -> Sums {
        match emit_to {
            EmitTo::All => std::mem::replace(&mut self.sums, Sums::new(self.output)),
            EmitTo::First(n) => self.sums.take(n),
        }
    }
}

fn passes(filter: Option<&BooleanArray>, i: usize) -> bool {
    filter.is_none_or(|f| f.is_valid(i) && f.value(i))
}

fn only(values: &[ArrayRef]) -> Result<&ArrayRef> {
    match values {
        [one] => Ok(one),
        _ => datafusion::common::internal_err!("{} arguments of a vector aggregate", values.len()),
    }
}

impl GroupsAccumulator for VectorGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let array = only(values)?;
        let rows = Rows::try_new(array)?;
        self.sums.resize(total_num_groups);
        for (i, group) in group_indices.iter().enumerate() {
            if array.is_valid(i) && passes(opt_filter, i) {
                self.sums.add(*group, &rows, i, 1.0)?;
            }
        }
        Ok(())
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let states = States::try_new(values)?;
        self.sums.resize(total_num_groups);
        for (i, group) in group_indices.iter().enumerate() {
            if let Some((count, sums)) = states.row(i).filter(|_| passes(opt_filter, i)) {
                self.sums.merge(*group, count, sums)?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(self.take(emit_to).into_result(self.kind, self.output)?)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(self.take(emit_to).into_state()?)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let array = only(values)?;
        let rows = Rows::try_new(array)?;
        let mut sums = Sums::new(self.output);
        sums.resize(array.len());
        for i in (0..array.len()).filter(|i| array.is_valid(*i) && passes(opt_filter, *i)) {
            sums.add(i, &rows, i, 1.0)?;
        }
        Ok(sums.into_state()?)
    }

    fn supports_convert_to_state(&self) -> bool {
        true
    }

    fn size(&self) -> usize {
        self.sums.size()
    }
}

/// One group: an aggregate without GROUP BY, and a window frame, which also takes rows away.
///
/// Taking away subtracts in `f64`: a frame that held a NaN or an infinity stays NaN, as with DataFusion's own.
#[derive(Debug)]
pub(super) struct OneGroup {
    kind: Kind,
    output: Output,
    sums: Sums,
}

impl OneGroup {
    pub(super) fn new(kind: Kind, output: Output) -> Self {
        let mut sums = Sums::new(output);
        sums.resize(1);
        Self { kind, output, sums }
    }

    fn apply(&mut self, values: &[ArrayRef], sign: f64) -> Result<()> {
        let array = only(values)?;
        let rows = Rows::try_new(array)?;
        for i in (0..array.len()).filter(|i| array.is_valid(*i)) {
            self.sums.add(0, &rows, i, sign)?;
        }
        Ok(())
    }
}

impl Accumulator for OneGroup {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.apply(values, 1.0)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.apply(values, -1.0)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let states = States::try_new(states)?;
        for i in 0..states.len() {
            if let Some((count, sums)) = states.row(i) {
                self.sums.merge(0, count, sums)?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        // A window asks after every row and goes on: the sums stay.
        let array = self.sums.snapshot().into_result(self.kind, self.output)?;
        ScalarValue::try_from_array(&array, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.sums
            .snapshot()
            .into_state()?
            .iter()
            .map(|column| ScalarValue::try_from_array(column, 0))
            .collect()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sums.size()
    }
}
