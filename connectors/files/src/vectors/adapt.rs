//! The vector column as an expression over row numbers.
//!
//! ```text
//!  the table's  cosine_distance(embedding, q)     over   FixedSizeList<Float32, 384>
//!  the file's   cosine_distance(vectors_of(embedding), q)   over   Int64
//! ```
//!
//! DataFusion asks, for each file, for the table's expressions in terms of the file's columns. Everything but the
//! vector columns is left to whom it would have asked otherwise.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, internal_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};
use datafusion::physical_plan::PhysicalExpr;
use parking_lot::Mutex;

use super::cursor::{VectorCursor, row_numbers};
use crate::parquet_file::of_parquet;

/// A column and what reads it.
#[derive(Debug, Clone)]
pub(crate) struct ReadColumn {
    pub(crate) field: FieldRef,
    pub(crate) cursor: Arc<Mutex<VectorCursor>>,
    /// The file's name, for messages.
    pub(crate) file: Arc<str>,
}

#[derive(Debug)]
pub(crate) struct VectorAdapters {
    pub(crate) columns: Vec<ReadColumn>,
    pub(crate) inner: Arc<dyn PhysicalExprAdapterFactory>,
}

impl PhysicalExprAdapterFactory for VectorAdapters {
    fn create(&self, logical: SchemaRef, physical: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        // To the others, the table has row numbers where it has vectors.
        let fields = logical.fields().iter().map(|field| {
            let numbered = self.columns.iter().any(|c| c.field.name() == field.name());
            match physical.field_with_name(field.name()) {
                Ok(numbers) if numbered => Arc::new(numbers.clone()),
                _ => Arc::clone(field),
            }
        });
        let fields: Vec<FieldRef> = fields.collect();
        let logical = Arc::new(Schema::new_with_metadata(fields, logical.metadata().clone()));
        let inner = self.inner.create(logical, physical)?;
        Ok(Arc::new(VectorAdapter { columns: self.columns.clone(), inner }))
    }
}

#[derive(Debug)]
struct VectorAdapter {
    columns: Vec<ReadColumn>,
    inner: Arc<dyn PhysicalExprAdapter>,
}

impl PhysicalExprAdapter for VectorAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let rewritten = self.inner.rewrite(expr)?;
        let with_vectors = rewritten.transform_up(|expr| {
            let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
            match self.columns.iter().find(|c| c.field.name() == column.name()) {
                Some(read) => {
                    let vectors = VectorsOf { rows: Arc::clone(&expr), read: read.clone() };
                    Ok(Transformed::yes(Arc::new(vectors) as Arc<dyn PhysicalExpr>))
                }
                None => Ok(Transformed::no(expr)),
            }
        })?;
        Ok(with_vectors.data)
    }
}

/// The vectors of the rows whose numbers are in a column.
#[derive(Debug)]
struct VectorsOf {
    rows: Arc<dyn PhysicalExpr>,
    read: ReadColumn,
}

impl PhysicalExpr for VectorsOf {
    fn return_field(&self, _input_schema: &Schema) -> Result<FieldRef> {
        Ok(Arc::clone(&self.read.field))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = row_numbers(&self.rows.evaluate(batch)?.into_array(batch.num_rows())?)?;
        let vectors = self.read.cursor.lock().read(&rows);
        let vectors = vectors.map_err(|e| DataFusionError::from(of_parquet(&self.read.file, e)))?;
        Ok(ColumnarValue::Array(vectors))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.rows]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let [rows] = children.as_slice() else { return internal_err!("vectors_of takes one column") };
        Ok(Arc::new(Self { rows: Arc::clone(rows), read: self.read.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for VectorsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vectors_of({})", self.rows)
    }
}

impl PartialEq for VectorsOf {
    fn eq(&self, other: &Self) -> bool {
        self.rows.eq(&other.rows) && Arc::ptr_eq(&self.read.cursor, &other.read.cursor)
    }
}

impl Eq for VectorsOf {}

impl Hash for VectorsOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rows.hash(state);
        Arc::as_ptr(&self.read.cursor).hash(state);
    }
}
