//! ```sql
//! SELECT symbol, first(price, ts) AS open, last(price, ts) AS close FROM trades GROUP BY symbol;
//! SELECT id, last(embedding, changed_at) FROM versions GROUP BY id;
//! ```
//!
//! `first(value, time)` is the value of the row with the smallest time, `last` of the one with the largest.
//!
//! Contract:
//! * *Input*: a value of any type (texts, lists, vectors with their metadata) and a time, which may be any type
//!   that can be ordered.
//! * *Output*: the value's type, nullable.
//! * *Nulls*: rows whose time is NULL do not count; a NULL value does, it can be the first or the last. With
//!   `IGNORE NULLS` rows whose value is NULL do not count either. Without a row that counts: NULL.
//! * *NaN* as a time is larger than every number.
//! * *Ties*: among rows with the same time `first` takes the smallest value and `last` the largest, so that the
//!   answer depends neither on the order of arrival nor on partitions; a NULL value yields to any other. Values
//!   of types without an order (unions, maps of such): the row that arrived first.
//! * *Memory*: per group one value, one time and 24 bytes, at most three times over between compactions.
//! * *Source*: TimescaleDB's `first` and `last`, which keep the row that arrived first on ties.
//!
//! `first_value(x ORDER BY …)` and `last_value` are DataFusion's and stay as they are.

mod keys;
mod sliding;
mod state;
#[cfg(test)]
mod tests;

use std::mem::size_of_val;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, DocSection, Documentation, EmitTo, GroupsAccumulator, Signature,
    Volatility,
};
use triune_common::Error;

use self::keys::{IntKeys, Keys, RowKeys};
use self::sliding::SlidingBookend;
use self::state::{BookendState, without_time};

/// Which end of a group is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum End {
    First,
    Last,
}

/// `first` or `last`; see the module.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct BookendAgg {
    end: End,
    signature: Signature,
}

impl BookendAgg {
    pub fn first() -> Self {
        Self::new(End::First)
    }

    pub fn last() -> Self {
        Self::new(End::Last)
    }

    fn new(end: End) -> Self {
        let mut signature = Signature::user_defined(Volatility::Immutable);
        signature.parameter_names = Some(vec!["value".into(), "time".into()]);
        Self { end, signature }
    }

    fn check(&self, types: &[DataType]) -> Result<()> {
        let name = self.name();
        let [_, time] = types else {
            let s = if types.len() == 1 { "" } else { "s" };
            return Err(Error::invalid(format!(
                "{name} takes a value and a time, got {} argument{s}",
                types.len()
            ))
            .with_hint(format!("write {name}(price, ts), or {name}_value(price ORDER BY ts)"))
            .into());
        };
        if !IntKeys::takes(time) && !RowKeys::takes(time) {
            let got = crate::display::type_name(time);
            return Err(Error::invalid(format!("{name} cannot order rows by a {got}"))
                .with_hint("its second argument is a time, a number or a text")
                .into());
        }
        Ok(())
    }

    fn groups(&self, args: &AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let (value, time) = argument_types(args)?;
        Ok(if IntKeys::takes(time) {
            Box::new(GroupsBookend(BookendState::new(
                IntKeys::default(),
                self.end,
                value,
                time,
                args.ignore_nulls,
            )))
        } else {
            let keys = RowKeys::try_new(time)?;
            Box::new(GroupsBookend(BookendState::new(keys, self.end, value, time, args.ignore_nulls)))
        })
    }
}

fn argument_types<'a>(args: &'a AccumulatorArgs<'_>) -> Result<(&'a DataType, &'a DataType)> {
    match args.expr_fields {
        [value, time] => Ok((value.data_type(), time.data_type())),
        other => {
            Err(Error::internal(format!("first and last were planned with {} arguments", other.len())).into())
        }
    }
}

impl AggregateUDFImpl for BookendAgg {
    fn name(&self) -> &str {
        match self.end {
            End::First => "first",
            End::Last => "last",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Every type is taken as it is; what does not fit is told by `return_field`, whose errors keep their kind.
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(types.to_vec())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.check(types)?;
        Ok(types[0].clone())
    }

    fn return_field(&self, fields: &[FieldRef]) -> Result<FieldRef> {
        let types: Vec<_> = fields.iter().map(|f| f.data_type().clone()).collect();
        self.check(&types)?;
        // The metadata says for instance that a list is a VECTOR.
        let field =
            Field::new(self.name(), types[0].clone(), true).with_metadata(fields[0].metadata().clone());
        Ok(Arc::new(field))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let [value, time] = args.input_fields else {
            return Err(Error::internal("first and last keep a value and a time").into());
        };
        let field = |part: &str, of: &FieldRef| {
            let name = format_state_name(args.name, &format!("{}_{part}", self.name()));
            Arc::new(Field::new(name, of.data_type().clone(), true).with_metadata(of.metadata().clone()))
        };
        Ok(vec![field("value", value), field("time", time)])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let (value, time) = argument_types(&args)?;
        Ok(if IntKeys::takes(time) {
            Box::new(SingleBookend(BookendState::new(
                IntKeys::default(),
                self.end,
                value,
                time,
                args.ignore_nulls,
            )))
        } else {
            let keys = RowKeys::try_new(time)?;
            Box::new(SingleBookend(BookendState::new(keys, self.end, value, time, args.ignore_nulls)))
        })
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let (value, time) = argument_types(&args)?;
        Ok(Box::new(SlidingBookend::try_new(self.end, value, time, args.ignore_nulls)?))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.groups(&args)
    }

    /// The order of arrival does not matter.
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn supports_null_handling_clause(&self) -> bool {
        true
    }

    fn documentation(&self) -> Option<&Documentation> {
        static FIRST: LazyLock<Documentation> = LazyLock::new(|| documentation("first", "smallest", "last"));
        static LAST: LazyLock<Documentation> = LazyLock::new(|| documentation("last", "largest", "first"));
        Some(match self.end {
            End::First => &FIRST,
            End::Last => &LAST,
        })
    }
}

fn documentation(name: &str, which: &str, other: &str) -> Documentation {
    let section = DocSection { include: true, label: "Time Series Functions", description: None };
    Documentation::builder(
        section,
        format!(
            "Returns the value of the row with the {which} time. Rows whose time is NULL do not count; NULL \
             values do, unless IGNORE NULLS is given. Among rows of the same time the {which} value is taken."
        ),
        format!("{name}(value, time)"),
    )
    .with_argument("value", "Expression of any type.")
    .with_argument("time", "Time, number or text by which the rows are ordered.")
    .with_sql_example(format!("```sql\n> SELECT {name}(price, ts) FROM trades GROUP BY symbol;\n```"))
    .with_related_udf(other)
    .build()
}

/// Many groups: `GROUP BY`.
#[derive(Debug)]
struct GroupsBookend<K: Keys>(BookendState<K>);

impl<K: Keys> GroupsAccumulator for GroupsBookend<K> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.0.resize(total);
        self.0.update(values, |row| groups[row], filter)
    }

    /// States are a value and its time: rows like any other.
    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.update_batch(states, groups, filter, total)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (values, _) = self.0.emit(emit_to)?;
        Ok(values)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (values, times) = self.0.emit(emit_to)?;
        Ok(vec![values, times])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let times = without_time(&values[1], filter, self.0.ignore_nulls().then_some(&values[0]))?;
        Ok(vec![Arc::clone(&values[0]), times])
    }

    fn supports_convert_to_state(&self) -> bool {
        true
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.size()
    }
}

/// One group: no `GROUP BY`, or a window whose rows never leave (for others see `sliding.rs`).
#[derive(Debug)]
struct SingleBookend<K: Keys>(BookendState<K>);

impl<K: Keys> Accumulator for SingleBookend<K> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.resize(1);
        self.0.update(values, |_| 0, None)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    /// Does not end the accumulation: windows ask after every row.
    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.resize(1);
        let (values, _) = self.0.peek()?;
        ScalarValue::try_from_array(&values, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.resize(1);
        let (values, times) = self.0.peek()?;
        Ok(vec![ScalarValue::try_from_array(&values, 0)?, ScalarValue::try_from_array(&times, 0)?])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.size()
    }
}
