//! The conditions that a scan applies to its rows.
//!
//! ```text
//! WHERE price > 10 AND l2_distance(e, $1) < 0.5      fixed: from the statement
//! ORDER BY time DESC LIMIT 10                        dynamic: the tenth best so far, tightening
//! JOIN events ON …                                   dynamic: the keys of the other side
//! ```
//!
//! All are DataFusion's own physical expressions and are evaluated by it, so a condition means below
//! the scan what it would mean in a filter above, for every type, null and function. Scans outside this crate use them
//! too.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::Schema;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr_common::physical_expr::{snapshot_generation, snapshot_physical_expr};
use datafusion::physical_plan::PhysicalExpr;

/// Conditions that must all be true of a row. Column indexes are those of the schema it was bound to.
#[derive(Debug, Clone, Default)]
pub struct Predicate {
    fixed: Vec<Arc<dyn PhysicalExpr>>,
    dynamic: Vec<Arc<dyn PhysicalExpr>>,
}

impl Predicate {
    pub fn new(fixed: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        Self { fixed, dynamic: Vec::new() }
    }

    pub fn push_fixed(&mut self, expr: Arc<dyn PhysicalExpr>) {
        self.fixed.push(expr);
    }

    pub fn push_dynamic(&mut self, expr: Arc<dyn PhysicalExpr>) {
        self.dynamic.push(expr);
    }

    pub fn without_dynamic(&self) -> Self {
        Self::new(self.fixed.clone())
    }

    pub fn fixed(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.fixed
    }

    pub fn dynamic(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.dynamic
    }

    pub fn is_empty(&self) -> bool {
        self.fixed.is_empty() && self.dynamic.is_empty()
    }

    /// The columns that the conditions read.
    pub fn columns(&self) -> BTreeSet<usize> {
        self.fixed.iter().chain(&self.dynamic).flat_map(collect_columns).map(|c| c.index()).collect()
    }

    /// The same conditions over another schema, found by name.
    pub fn bind(&self, schema: &Schema) -> Result<Self> {
        let all = |list: &[Arc<dyn PhysicalExpr>]| {
            list.iter().map(|e| reassign_expr_columns(Arc::clone(e), schema)).collect::<Result<Vec<_>>>()
        };
        Ok(Self { fixed: all(&self.fixed)?, dynamic: all(&self.dynamic)? })
    }

    /// Changes whenever a dynamic condition has.
    pub fn generation(&self) -> u64 {
        self.dynamic.iter().fold(0, |sum, e| sum.wrapping_add(snapshot_generation(e)))
    }

    /// Whether a dynamic condition has become plain `false`, as that of a join with an empty side does.
    pub fn is_false(&self) -> Result<bool> {
        for expr in &self.dynamic {
            let now = snapshot_physical_expr(Arc::clone(expr))?;
            if let Some(literal) = now.downcast_ref::<Literal>()
                && matches!(literal.value(), ScalarValue::Boolean(Some(false) | None))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rows for which every condition is true (neither false nor NULL).
    ///
    /// A later condition sees only the rows that earlier ones left.
    pub fn apply(&self, mut batch: RecordBatch) -> Result<RecordBatch> {
        for expr in self.fixed.iter().chain(&self.dynamic) {
            if batch.num_rows() == 0 {
                break;
            }
            batch = match expr.evaluate(&batch)? {
                ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) => batch,
                ColumnarValue::Scalar(ScalarValue::Boolean(_) | ScalarValue::Null) => batch.slice(0, 0),
                ColumnarValue::Scalar(other) => {
                    return Err(DataFusionError::Internal(format!("a condition is a {}", other.data_type())));
                }
                ColumnarValue::Array(mask) => keep(&batch, as_boolean_array(&mask)?)?,
            };
        }
        Ok(batch)
    }
}

fn keep(batch: &RecordBatch, mask: &BooleanArray) -> Result<RecordBatch> {
    let mask = if mask.null_count() > 0 { &prep_null_mask_filter(mask) } else { mask };
    // Most batches of a scan pass whole or not at all; neither case copies a row.
    match mask.true_count() {
        n if n == batch.num_rows() => Ok(batch.clone()),
        0 => Ok(batch.slice(0, 0)),
        _ => Ok(filter_record_batch(batch, mask)?),
    }
}
