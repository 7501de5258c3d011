//! `sum` of integers and decimals that is exact or an error.
//!
//! ```text
//!  BIGINT ──add──► 128 bits ──at the end──► BIGINT, or "integer out of range"
//! ```
//!
//! The total is kept in 128 bits, so that only the result must fit and not the sums on the way to it, which depend on
//! the order of the rows and on how they were dealt out. The type of the result stays DataFusion's (BIGINT for
//! integers, UBIGINT for unsigned ones, a DECIMAL of ten more digits for decimals); `docs/adr/0007` says why.
//! Floats and durations are left to DataFusion.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Decimal128Array, PrimitiveArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, FieldRef, Int64Type, UInt64Type,
};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator, Operator, ReversedUDAF,
    SetMonotonicity, Signature,
};
use triune_common::Error;

use crate::types::name_of;

/// The aggregate; what it does not speak of is DataFusion's.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct CheckedSum {
    inner: Sum,
}

/// Types that are summed here.
trait Summed: ArrowPrimitiveType<Native: Into<i128> + TryFrom<i128> + Eq + Hash> + Debug + Send + Sync {}
impl Summed for Int64Type {}
impl Summed for UInt64Type {}
impl Summed for Decimal128Type {}

/// Calls `$ours::<T>` for the types that are summed here, `$theirs` for others.
macro_rules! by_type {
    ($data_type:expr, $ours:ident, $theirs:expr) => {
        match $data_type {
            DataType::Int64 => Ok(Box::new($ours::<Int64Type>::new($data_type.clone()))),
            DataType::UInt64 => Ok(Box::new($ours::<UInt64Type>::new($data_type.clone()))),
            DataType::Decimal128(..) => Ok(Box::new($ours::<Decimal128Type>::new($data_type.clone()))),
            _ => $theirs,
        }
    };
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let data_type = args.return_field.data_type();
        if args.is_distinct {
            by_type!(data_type, DistinctTotal, self.inner.accumulator(args))
        } else {
            by_type!(data_type, Total, self.inner.accumulator(args))
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let data_type = args.return_field.data_type();
        if args.is_distinct {
            by_type!(data_type, DistinctTotal, self.inner.create_sliding_accumulator(args))
        } else {
            by_type!(data_type, Total, self.inner.create_sliding_accumulator(args))
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let state = match args.return_field.data_type() {
            DataType::Int64 | DataType::UInt64 => state_type(0),
            DataType::Decimal128(_, scale) => state_type(*scale),
            _ => return self.inner.state_fields(args),
        };
        if args.is_distinct {
            return self.inner.state_fields(args);
        }
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "sum"), state, true))])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let data_type = args.return_field.data_type();
        by_type!(data_type, Totals, self.inner.create_groups_accumulator(args))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.inner.reverse_expr()
    }

    fn order_sensitivity(&self) -> datafusion::logical_expr::utils::AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner.set_monotonicity(data_type)
    }

    fn simplify_expr_op_literal(
        &self,
        call: &AggregateFunction,
        arg: &Expr,
        op: Operator,
        lit: &Expr,
        arg_is_left: bool,
    ) -> Result<Option<Expr>> {
        // `sum(x + 1)` as `sum(x) + count(x)` would compute with operators that wrap.
        match lit {
            Expr::Literal(value, _) if value.data_type().is_floating() => {
                self.inner.simplify_expr_op_literal(call, arg, op, lit, arg_is_left)
            }
            _ => Ok(None),
        }
    }
}

/// What partial sums travel as.
fn state_type(scale: i8) -> DataType {
    DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale)
}

fn scale_of(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal128(_, scale) => *scale,
        _ => 0,
    }
}

fn add(sum: i128, value: i128, data_type: &DataType) -> Result<i128> {
    sum.checked_add(value).ok_or_else(|| out_of_range(data_type))
}

fn out_of_range(data_type: &DataType) -> datafusion::error::DataFusionError {
    let error = if data_type.is_integer() {
        Error::invalid(format!("integer out of range: a sum is no {}", name_of(data_type)))
            .with_hint("sum a wider type, as in sum(x::DECIMAL(38,0))")
    } else {
        Error::invalid(format!("number out of range: a sum is no {}", name_of(data_type)))
    };
    error.into()
}

/// The total as a value of the result's type.
fn narrow<T: Summed>(sum: i128, data_type: &DataType) -> Result<T::Native> {
    if let DataType::Decimal128(precision, _) = data_type
        && sum.unsigned_abs() >= 10_u128.pow(u32::from(*precision))
    {
        return Err(out_of_range(data_type));
    }
    T::Native::try_from(sum).map_err(|_| out_of_range(data_type))
}

/// Calls `with` for every value that is not NULL.
fn each<T: Summed>(values: &ArrayRef, mut with: impl FnMut(i128) -> Result<()>) -> Result<()> {
    let values = values.as_primitive::<T>();
    if values.null_count() == 0 {
        values.values().iter().try_for_each(|v| with((*v).into()))
    } else {
        values.iter().flatten().try_for_each(|v| with(v.into()))
    }
}

/// One group, or the rows in a window's frame.
#[derive(Debug)]
struct Total<T> {
    sum: i128,
    /// Rows that were not NULL.
    rows: u64,
    data_type: DataType,
    of: PhantomData<T>,
}

impl<T: Summed> Total<T> {
    fn new(data_type: DataType) -> Self {
        Self { sum: 0, rows: 0, data_type, of: PhantomData }
    }
}

impl<T: Summed> Accumulator for Total<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut sum = self.sum;
        each::<T>(&values[0], |v| {
            sum = add(sum, v, &self.data_type)?;
            Ok(())
        })?;
        self.sum = sum;
        self.rows += (values[0].len() - values[0].null_count()) as u64;
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut sum = self.sum;
        each::<T>(&values[0], |v| {
            sum = add(sum, -v, &self.data_type)?;
            Ok(())
        })?;
        self.sum = sum;
        self.rows -= (values[0].len() - values[0].null_count()) as u64;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let mut sum = self.sum;
        each::<Decimal128Type>(&states[0], |v| {
            sum = add(sum, v, &self.data_type)?;
            Ok(())
        })?;
        self.sum = sum;
        self.rows += (states[0].len() - states[0].null_count()) as u64;
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sum = (self.rows > 0).then_some(self.sum);
        Ok(vec![ScalarValue::Decimal128(sum, DECIMAL128_MAX_PRECISION, scale_of(&self.data_type))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = if self.rows > 0 { Some(narrow::<T>(self.sum, &self.data_type)?) } else { None };
        ScalarValue::new_primitive::<T>(sum, &self.data_type)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// `sum(DISTINCT x)`: every value with how often it is in the frame.
#[derive(Debug)]
struct DistinctTotal<T: Summed> {
    counts: HashMap<T::Native, usize>,
    sum: i128,
    data_type: DataType,
}

impl<T: Summed> DistinctTotal<T> {
    fn new(data_type: DataType) -> Self {
        Self { counts: HashMap::new(), sum: 0, data_type }
    }

    fn insert(&mut self, values: &ArrayRef) -> Result<()> {
        for value in values.as_primitive::<T>().iter().flatten() {
            let count = self.counts.entry(value).or_insert(0);
            if *count == 0 {
                self.sum = add(self.sum, value.into(), &self.data_type)?;
            }
            *count += 1;
        }
        Ok(())
    }
}

impl<T: Summed> Accumulator for DistinctTotal<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.insert(&values[0])
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<T>().iter().flatten() {
            let Some(count) = self.counts.get_mut(&value) else { continue };
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&value);
                self.sum = add(self.sum, -value.into(), &self.data_type)?;
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states[0].as_list::<i32>().iter().flatten().try_for_each(|values| self.insert(&values))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = PrimitiveArray::<T>::from_iter_values(self.counts.keys().copied())
            .with_data_type(self.data_type.clone());
        Ok(vec![SingleRowListArrayBuilder::new(Arc::new(values)).build_list_scalar()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = if self.counts.is_empty() { None } else { Some(narrow::<T>(self.sum, &self.data_type)?) };
        ScalarValue::new_primitive::<T>(sum, &self.data_type)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.counts.capacity() * size_of::<(T::Native, usize)>()
    }
}

/// Many groups at once.
#[derive(Debug)]
struct Totals<T> {
    sums: Vec<i128>,
    /// Whether the group has a value that is not NULL.
    seen: Vec<bool>,
    data_type: DataType,
    of: PhantomData<T>,
}

impl<T: Summed> Totals<T> {
    fn new(data_type: DataType) -> Self {
        Self { sums: vec![], seen: vec![], data_type, of: PhantomData }
    }

    fn insert<V: Summed>(
        &mut self,
        values: &ArrayRef,
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.sums.resize(total, 0);
        self.seen.resize(total, false);
        let values = values.as_primitive::<V>();
        for (row, (group, value)) in groups.iter().zip(values.values()).enumerate() {
            let taken = values.is_valid(row) && filter.is_none_or(|f| f.is_valid(row) && f.value(row));
            if taken {
                self.sums[*group] = add(self.sums[*group], (*value).into(), &self.data_type)?;
                self.seen[*group] = true;
            }
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> (Vec<i128>, Vec<bool>) {
        (emit_to.take_needed(&mut self.sums), emit_to.take_needed(&mut self.seen))
    }
}

fn decimals(values: Vec<i128>, nulls: Option<NullBuffer>, scale: i8) -> ArrayRef {
    Arc::new(Decimal128Array::new(values.into(), nulls).with_data_type(state_type(scale)))
}

impl<T: Summed> GroupsAccumulator for Totals<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.insert::<T>(&values[0], groups, filter, total)
    }

    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.insert::<Decimal128Type>(&states[0], groups, filter, total)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (sums, seen) = self.take(emit_to);
        let values =
            sums.into_iter().map(|sum| narrow::<T>(sum, &self.data_type)).collect::<Result<Vec<_>>>()?;
        let nulls = NullBuffer::from(seen);
        let array = PrimitiveArray::<T>::new(values.into(), Some(nulls));
        Ok(Arc::new(array.with_data_type(self.data_type.clone())))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (sums, seen) = self.take(emit_to);
        Ok(vec![decimals(sums, Some(NullBuffer::from(seen)), scale_of(&self.data_type))])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<T>();
        let kept = filter.map(|f| NullBuffer::from_iter(f.iter().map(|keep| keep == Some(true))));
        let nulls = NullBuffer::union(values.nulls(), kept.as_ref());
        let wide = values.values().iter().map(|v| (*v).into()).collect();
        Ok(vec![decimals(wide, nulls, scale_of(&self.data_type))])
    }

    fn supports_convert_to_state(&self) -> bool {
        true
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sums.capacity() * size_of::<i128>() + self.seen.capacity()
    }
}
