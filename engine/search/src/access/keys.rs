//! Rows whose keys come from another part of the statement.
//!
//! ```sql
//! SELECT id FROM docs WHERE id IN (SELECT doc_id FROM meta WHERE tag = 'x') ORDER BY e <=> $1 LIMIT 10;
//! ```
//!
//! ```text
//!  VectorSearch                                DeferredAnnExec: mask=[id among keys]
//!    LeftSemi Join: d.id = m.doc_id      ─►      ProjectionExec: expr=[doc_id]          run first
//!      TableScan: docs                             HotScanExec: table=meta, filter=[tag = x]
//!      TableScan: meta
//! ```
//!
//! The keys are collected before the search and become a condition of one row, which is applied below the index like
//! every other (SRCH-1), and to the rows in memory. NULL is no key, on either side.
//!
//! Limits: joins by one `=`. Keys are held in memory, 24 bytes for a number or a date, else the key's length and 64
//! bytes, charged to the memory pool.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{
    Column, DFSchema, DataFusionError, HashSet, JoinType, NullEquality, Result, ScalarValue,
};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::{ColumnarValue, Expr, ExprSchemable, Join, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_expr::utils::reassign_expr_columns;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;
use triune_common::Error;

/// What of one key is held besides itself.
const OVERHEAD: usize = 64;
/// Of a number, in a table that is at worst half full.
const NUMBER: usize = 24;

/// A semi join below a search, taken apart.
#[derive(Debug)]
pub(super) struct KeyJoin {
    /// Over the table's columns, by name.
    pub(super) column: Expr,
    /// A plan of one column.
    pub(super) keys: LogicalPlan,
}

impl KeyJoin {
    /// `None` where a join says more than that a key is among others. `columns` are the places of the left input's
    /// columns in the table.
    pub(super) fn of(join: &Join, columns: &[usize], table: &Schema) -> Result<Option<Self>> {
        let ([(left, right)], None) = (join.on.as_slice(), &join.filter) else { return Ok(None) };
        let plain = join.join_type == JoinType::LeftSemi
            && join.null_equality == NullEquality::NullEqualsNothing
            && !join.null_aware;
        let (schema, other) = (join.left.schema(), join.right.schema());
        if !plain || left.is_volatile() || left.get_type(schema)? != right.get_type(other)? {
            return Ok(None);
        }
        let column = left.clone().transform(|e| match e {
            Expr::Column(c) => {
                let place = columns.get(schema.index_of_column(&c)?);
                let place =
                    place.ok_or_else(|| Error::internal(format!("{c} is not a column of the table")))?;
                Ok(Transformed::yes(Expr::Column(Column::from_name(table.field(*place).name()))))
            }
            other => Ok(Transformed::no(other)),
        })?;
        let keys = LogicalPlanBuilder::from(join.right.as_ref().clone()).project([right.clone()])?.build()?;
        Ok(Some(Self { column: column.data, keys }))
    }
}

/// The same, planned.
#[derive(Debug, Clone)]
pub(super) struct KeyMask {
    pub(super) column: Expr,
    pub(super) keys: Arc<dyn ExecutionPlan>,
}

impl KeyMask {
    /// Runs the plan of the keys; what comes back is a condition over a table's columns.
    ///
    /// # Errors
    /// Those of the plan; `ResourcesExhausted` when the keys have no room.
    pub(super) async fn collect(
        &self,
        table: &SchemaRef,
        context: &Arc<TaskContext>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let columns = DFSchema::try_from(Arc::clone(table))?;
        let expr = create_physical_expr(&self.column, &columns, &ExecutionProps::new())?;
        let reservation = MemoryConsumer::new("DeferredAnnExec keys").register(context.memory_pool());
        let mut keys = Keys::new(expr.data_type(table)?, reservation)?;
        let mut rows =
            datafusion::physical_plan::execute_stream(Arc::clone(&self.keys), Arc::clone(context))?;
        while let Some(batch) = rows.try_next().await? {
            keys.add(batch.column(0))?;
        }
        Ok(Arc::new(AmongKeysExpr { expr, keys: Arc::new(keys) }))
    }
}

/// Keys of one type.
#[derive(Debug)]
struct Keys {
    set: Set,
    reservation: MemoryReservation,
}

#[derive(Debug)]
enum Set {
    Numbers(HashSet<i64>),
    /// In arrow's row format, which is the same for equal values only.
    Rows(RowConverter, HashSet<Box<[u8]>>),
}

impl Keys {
    fn new(of: DataType, reservation: MemoryReservation) -> Result<Self> {
        use DataType::{Date32, Int8, Int16, Int32, Int64, Timestamp, UInt8, UInt16, UInt32};
        let set = match of {
            Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | Date32 | Timestamp(..) => {
                Set::Numbers(HashSet::default())
            }
            other => Set::Rows(RowConverter::new(vec![SortField::new(other)])?, HashSet::default()),
        };
        Ok(Self { set, reservation })
    }

    fn add(&mut self, keys: &ArrayRef) -> Result<()> {
        match &mut self.set {
            Set::Numbers(set) => {
                let numbers = cast(keys, &DataType::Int64)?;
                self.reservation.try_grow(keys.len() * NUMBER)?;
                set.extend(numbers.as_primitive::<Int64Type>().iter().flatten());
            }
            Set::Rows(converter, set) => {
                let rows = converter.convert_columns(&[Arc::clone(keys)])?;
                let there = |i: &usize| keys.is_valid(*i);
                for row in (0..keys.len()).filter(there).map(|i| rows.row(i)) {
                    if !set.contains(row.as_ref()) {
                        self.reservation.try_grow(row.as_ref().len() + OVERHEAD)?;
                        set.insert(row.as_ref().into());
                    }
                }
            }
        }
        Ok(())
    }

    fn among(&self, values: &ArrayRef) -> Result<BooleanArray> {
        Ok(match &self.set {
            Set::Numbers(set) => {
                let numbers = cast(values, &DataType::Int64)?;
                let numbers = numbers.as_primitive::<Int64Type>();
                numbers.iter().map(|v| Some(v.is_some_and(|v| set.contains(&v)))).collect()
            }
            Set::Rows(converter, set) => {
                let rows = converter.convert_columns(&[Arc::clone(values)])?;
                let found = |i| values.is_valid(i) && set.contains(rows.row(i).as_ref());
                (0..values.len()).map(|i| Some(found(i))).collect()
            }
        })
    }

    fn len(&self) -> usize {
        match &self.set {
            Set::Numbers(set) => set.len(),
            Set::Rows(_, set) => set.len(),
        }
    }
}

/// Whether a value is one of the keys; never NULL.
#[derive(Debug, Clone)]
struct AmongKeysExpr {
    expr: Arc<dyn PhysicalExpr>,
    keys: Arc<Keys>,
}

impl PartialEq for AmongKeysExpr {
    fn eq(&self, other: &Self) -> bool {
        self.expr.eq(&other.expr) && Arc::ptr_eq(&self.keys, &other.keys)
    }
}

impl Eq for AmongKeysExpr {}

impl Hash for AmongKeysExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.expr.hash(state);
        Arc::as_ptr(&self.keys).hash(state);
    }
}

impl fmt::Display for AmongKeysExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} among {} keys", self.expr, self.keys.len())
    }
}

impl PhysicalExpr for AmongKeysExpr {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        match self.expr.evaluate(batch)? {
            ColumnarValue::Scalar(value) => {
                let found = self.keys.among(&value.to_array()?)?.value(0);
                Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(found))))
            }
            ColumnarValue::Array(values) => Ok(ColumnarValue::Array(Arc::new(self.keys.among(&values)?))),
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.expr]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let Ok([expr]) = <[_; 1]>::try_from(children) else {
            return Err(DataFusionError::from(Error::internal("a condition was rebuilt without its value")));
        };
        Ok(Arc::new(Self { expr, keys: Arc::clone(&self.keys) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The conditions as one, over rows whose columns have the table's names; `None` for none.
pub(super) fn all_of(
    conditions: &[Arc<dyn PhysicalExpr>],
    rows: &Schema,
) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let bound = conditions.iter().map(|c| reassign_expr_columns(Arc::clone(c), rows));
    let bound = bound.collect::<Result<Vec<_>>>()?;
    Ok((!bound.is_empty()).then(|| datafusion::physical_expr::conjunction(bound)))
}

#[cfg(test)]
mod tests {
    use super::*;

    use arrow::array::{Float64Array, Int32Array, ListArray, StringArray};
    use datafusion::execution::memory_pool::UnboundedMemoryPool;
    use proptest::prelude::*;

    fn keys_of(arrays: &[ArrayRef]) -> Keys {
        let pool: Arc<dyn datafusion::execution::memory_pool::MemoryPool> =
            Arc::new(UnboundedMemoryPool::default());
        let reservation = MemoryConsumer::new("test").register(&pool);
        let mut keys = Keys::new(arrays[0].data_type().clone(), reservation).unwrap();
        arrays.iter().for_each(|a| keys.add(a).unwrap());
        keys
    }

    proptest! {
        #[test]
        fn a_value_is_among_the_keys_if_one_equals_it(
            keys in prop::collection::vec(prop::option::of(0i32..12), 0..20),
            values in prop::collection::vec(prop::option::of(0i32..12), 0..20),
        ) {
            let expected: Vec<bool> = values.iter().map(|v| v.is_some() && keys.contains(v)).collect();
            let text = |v: &[Option<i32>]| -> ArrayRef {
                Arc::new(v.iter().map(|n| n.map(|n| format!("k{n}"))).collect::<StringArray>())
            };
            let list = |v: &[Option<i32>]| -> ArrayRef {
                Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(
                    v.iter().map(|n| n.map(|n| vec![Some(i64::from(n)), None])),
                ))
            };
            let number = |v: &[Option<i32>]| -> ArrayRef { Arc::new(Int32Array::from(v.to_vec())) };
            let float = |v: &[Option<i32>]| -> ArrayRef {
                Arc::new(v.iter().map(|n| n.map(f64::from)).collect::<Float64Array>())
            };
            for make in [&text as &dyn Fn(&[Option<i32>]) -> ArrayRef, &list, &number, &float] {
                let (first, second) = keys.split_at(keys.len() / 2);
                let found = keys_of(&[make(first), make(second)]).among(&make(&values)).unwrap();
                prop_assert_eq!(found.values().iter().collect::<Vec<_>>(), expected.clone());
                prop_assert_eq!(found.null_count(), 0);
            }
        }
    }
}
