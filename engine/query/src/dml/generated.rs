//! `GENERATED ALWAYS AS (expression) STORED`
//!
//! ```sql
//! CREATE TABLE docs (title TEXT, body TEXT, words INT GENERATED ALWAYS AS (character_length(title || body)) STORED);
//! ```
//!
//! The expression is planned once, over the columns that are not generated themselves, and evaluated whenever a row is
//! made or one of the columns that it reads is set. What is stored is therefore what the expression gives for the row,
//! after any statement. An error in it is one of the statement that writes.
//!
//! An expression may wait for something (a model at the other end of a network): its values come first and are then
//! columns of the row.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::config::ConfigOptions;
use triune_common::{Error, ErrorKind, Result};
use triune_storage::store::{Fill, FillColumn};
use triune_storage::table::TableDef;

use super::assign;
use super::rows::{Clause, Compiled, Rules, compile, plan_rules};
use crate::session::SessionCore;

/// The generated columns of a table, planned.
#[derive(Debug, Default)]
pub(crate) struct Generated {
    columns: Vec<Column>,
    /// Places of the columns that expressions may read, and their fields.
    inputs: Vec<usize>,
    schema: Option<SchemaRef>,
    options: Arc<ConfigOptions>,
}

#[derive(Debug)]
struct Column {
    place: usize,
    /// Places of the columns that the expression reads.
    reads: Vec<usize>,
    expr: Compiled,
}

impl Generated {
    /// Plans the expressions of a definition; `name` is what they may call the table.
    pub(super) async fn plan(core: &Arc<SessionCore>, def: &TableDef, name: &str) -> Result<Self> {
        let generated = |place: &usize| def.columns[*place].generated.is_some();
        let (places, inputs): (Vec<usize>, Vec<usize>) = (0..def.columns.len()).partition(generated);
        if places.is_empty() {
            return Ok(Self::default());
        }
        let fields: Vec<Field> = inputs.iter().map(|place| def.columns[*place].field.clone()).collect();
        let schema = Arc::new(Schema::new(fields));
        let mut columns = Vec::with_capacity(places.len());
        for place in places {
            let column = &def.columns[place];
            let text = column.generated.as_deref().unwrap_or_default();
            // Stable or not, they are refused where it matters.
            let compiled = compile(core, &schema, name, &[text], Clause::Generated, &mut true).await;
            let compiled = compiled.map_err(|e| of_column(column.field.name(), &e))?;
            for expr in compiled {
                let reads = inputs.iter().copied();
                let reads = reads.filter(|p| expr.reads.contains(def.columns[*p].field.name())).collect();
                columns.push(Column { place, reads, expr });
            }
        }
        let options = Arc::clone(core.state().config_options());
        Ok(Self { columns, inputs, schema: Some(schema), options })
    }

    /// Whether some column waits for something outside of the database.
    pub(super) fn waits(&self) -> bool {
        self.columns.iter().any(|c| !c.expr.waiting.is_empty())
    }

    /// Whether the values can be put into their columns, as far as a table without rows shows it.
    pub(super) fn check(&self, def: &TableDef) -> Result<()> {
        for column in &self.columns {
            let field = &def.columns[column.place].field;
            let from = &column.expr.field;
            let none = arrow::array::new_empty_array(from.data_type());
            let nothing = arrow::array::new_null_array(from.data_type(), 1);
            // NULLs alone show whether there is a way from one type to the other.
            for values in [none, nothing] {
                assign::to_column(&values, from, field).map_err(|_| {
                    Error::invalid(format!(
                        "the generated column \"{}\" is {} and its expression {}",
                        field.name(),
                        crate::types::sql_type_name(field),
                        crate::types::sql_type_name(from)
                    ))
                })?;
            }
        }
        Ok(())
    }

    /// Computes the columns of some rows, all of them or those that read or are one of `changed`. Their places.
    pub(super) async fn compute(
        &self,
        def: &TableDef,
        columns: &mut [ArrayRef],
        rows: usize,
        changed: Option<&[usize]>,
    ) -> Result<Vec<usize>> {
        let wanted = |c: &&Column| {
            changed.is_none_or(|set| set.contains(&c.place) || c.reads.iter().any(|r| set.contains(r)))
        };
        let wanted: Vec<&Column> = self.columns.iter().filter(wanted).collect();
        let (Some(schema), false) = (&self.schema, wanted.is_empty()) else { return Ok(vec![]) };
        let inputs = self.inputs.iter().zip(schema.fields()).map(|(place, field)| {
            let values = &columns[*place];
            // Operators may have lost what the types are called.
            if values.data_type() == field.data_type() {
                Ok(Arc::clone(values))
            } else {
                arrow::compute::cast(values, field.data_type())
            }
        });
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(schema), inputs, &options)?;
        let mut done = Vec::with_capacity(wanted.len());
        for column in wanted {
            let field = &def.columns[column.place].field;
            let values =
                self.evaluate(&column.expr, &batch).await.map_err(|e| of_column(field.name(), &e))?;
            columns[column.place] =
                assign::to_column(&values, &column.expr.field, field).map_err(|e| e.error)?;
            done.push(column.place);
        }
        Ok(done)
    }

    async fn evaluate(&self, expr: &Compiled, batch: &RecordBatch) -> Result<ArrayRef> {
        if expr.waiting.is_empty() || batch.num_rows() == 0 {
            if batch.num_rows() == 0 {
                return Ok(arrow::array::new_empty_array(expr.field.data_type()));
            }
            return expr.evaluate(batch);
        }
        let mut fields: Vec<Field> = batch.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
        let mut columns = batch.columns().to_vec();
        for one in &expr.waiting.async_exprs {
            let values = one.invoke_with_args(batch, Arc::clone(&self.options)).await?;
            let values = values.into_array(batch.num_rows())?;
            fields.push(Field::new(one.name(), values.data_type().clone(), true));
            columns.push(values);
        }
        expr.evaluate(&RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}

/// An error of an expression, with the column that it belongs to.
fn of_column(column: &str, error: &Error) -> Error {
    let said = Error::new(error.kind(), format!("the generated column \"{column}\": {}", error.message()));
    match error.hint() {
        Some(hint) => said.with_hint(hint),
        None => said,
    }
}

/// What a new generated column holds in the rows that are there; the column is the definition's last.
pub(crate) async fn fill(core: &Arc<SessionCore>, def: &TableDef, name: &str) -> Result<Fill> {
    let (rules, _) = plan_rules(core, def, name).await?;
    rules.check(def)?;
    Ok(Fill::Computed(Arc::new(NewColumn { def: def.clone(), table: name.to_owned(), rules })))
}

#[derive(Debug)]
struct NewColumn {
    def: TableDef,
    table: String,
    rules: Rules,
}

#[async_trait]
impl FillColumn for NewColumn {
    async fn values(&self, rows: &RecordBatch) -> Result<ArrayRef> {
        let last = self.def.columns.len() - 1;
        let field = &self.def.columns[last].field;
        // The columns that are there, and a place for the new one.
        let mut columns = rows.columns()[..last].to_vec();
        columns.push(arrow::array::new_empty_array(field.data_type()));
        self.rules.generated.compute(&self.def, &mut columns, rows.num_rows(), Some(&[last])).await?;
        let values = columns.swap_remove(last);
        if values.null_count() > 0 && !field.is_nullable() {
            return Err(Error::new(
                ErrorKind::Constraint,
                format!("column \"{}\" of \"{}\" would contain null values", field.name(), self.table),
            ));
        }
        Ok(values)
    }
}
