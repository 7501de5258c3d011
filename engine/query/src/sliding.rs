//! `min` and `max` over moving frames that may be empty.
//!
//! ```sql
//! SELECT min(v) OVER (ORDER BY ts ROWS BETWEEN 3 PRECEDING AND 2 PRECEDING) FROM t;   -- NULL in the first two rows
//! ```
//!
//! DataFusion 54 keeps the last extreme when the last value has left the frame. These stand in the place of its two
//! functions and count what is in the frame; everything else is DataFusion's.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::min_max::{Max, Min};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};

/// `min` and `max`.
pub(crate) fn functions() -> [Arc<AggregateUDF>; 2] {
    [
        Arc::new(AggregateUDF::new_from_impl(Extreme(Min::default()))),
        Arc::new(AggregateUDF::new_from_impl(Extreme(Max::default()))),
    ]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme<F>(F);

impl<F: AggregateUDFImpl + PartialEq + Eq + Hash + 'static> AggregateUDFImpl for Extreme<F> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.0.return_type(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.0.accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.0.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.0.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.0.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let nothing = ScalarValue::try_from(args.return_field.data_type())?;
        Ok(Box::new(Frame { extreme: self.0.create_sliding_accumulator(args)?, nothing, values: 0 }))
    }

    fn is_descending(&self) -> Option<bool> {
        self.0.is_descending()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.0.order_sensitivity()
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.0.coerce_types(arg_types)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.0.reverse_expr()
    }

    fn value_from_stats(&self, args: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        self.0.value_from_stats(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.0.set_monotonicity(data_type)
    }
}

/// DataFusion's accumulator, and how many values that are not NULL are in the frame.
#[derive(Debug)]
struct Frame {
    extreme: Box<dyn Accumulator>,
    nothing: ScalarValue,
    values: usize,
}

fn valid(values: &[ArrayRef]) -> usize {
    values.first().map_or(0, |v| v.len() - v.logical_null_count())
}

impl Accumulator for Frame {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values += valid(values);
        self.extreme.update_batch(values)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values -= valid(values);
        self.extreme.retract_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.values += valid(states);
        self.extreme.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.values == 0 { Ok(self.nothing.clone()) } else { self.extreme.evaluate() }
    }

    fn supports_retract_batch(&self) -> bool {
        self.extreme.supports_retract_batch()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.extreme.size()
    }
}

#[cfg(test)]
mod tests {
    use triune_common::SeededRng;

    use crate::Database;
    use crate::testing::texts;

    /// Against looking at every frame.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn extremes_of_moving_frames() {
        const ROWS: i64 = 30;
        let session = Database::open(None).await.unwrap().session();
        let rng = SeededRng::new(11);
        let draw = |n: u64| i64::try_from(rng.below(n)).unwrap_or_default();
        for _ in 0..25 {
            let values: Vec<Option<i64>> = (0..ROWS).map(|_| Some(draw(20)).filter(|v| *v > 5)).collect();
            let (from, to) = (draw(9) - 5, draw(9) - 5);
            let (from, to) = (from.min(to), from.max(to));
            let word = |v: Option<i64>| v.map_or_else(|| "NULL".to_owned(), |v| v.to_string());
            let bound = |n: i64| match n {
                0 => "CURRENT ROW".to_owned(),
                n if n < 0 => format!("{} PRECEDING", -n),
                n => format!("{n} FOLLOWING"),
            };
            let rows: Vec<String> =
                values.iter().enumerate().map(|(i, v)| format!("({i}, {}::BIGINT)", word(*v))).collect();
            let sql = format!(
                "SELECT min(v) OVER w, max(v) OVER w FROM (VALUES {}) AS t(i, v) \
                 WINDOW w AS (ORDER BY i ROWS BETWEEN {} AND {}) ORDER BY i",
                rows.join(", "),
                bound(from),
                bound(to)
            );
            let expected: Vec<String> = (0..ROWS)
                .map(|i| {
                    let frame = (i + from..=i + to)
                        .filter_map(|j| usize::try_from(j).ok())
                        .filter_map(|j| values.get(j).copied().flatten());
                    format!("{} {}", word(frame.clone().min()), word(frame.max()))
                })
                .collect();
            assert_eq!(texts(&session, &sql).await, expected, "{sql}");
        }
    }
}
