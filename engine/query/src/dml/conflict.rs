//! `ON CONFLICT … DO UPDATE SET … [WHERE …]`.
//!
//! The old and the proposed row stand side by side in one relation: the old one's columns under the table's name or
//! alone, the proposed one's as `excluded.…`.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, UInt32Type};
use datafusion::sql::sqlparser::ast::{self, Expr};
use futures::FutureExt;
use triune_common::{Error, Result};

use super::assign::to_column;
use super::insert::{Sink, in_row};
use super::query;
use super::rows;
use super::target::Target;
use super::update::{Assigned, Value, assignments};
use crate::parser::normalize;
use crate::visit;

const PAIR: &str = "@pair";

/// The clause, its names looked up.
#[derive(Debug)]
pub(super) struct DoUpdate {
    assigned: Vec<Assigned>,
    selection: Option<Expr>,
    /// Whether it puts the proposed row in the old one's place, whatever that is.
    pub(super) replaces: bool,
}

/// Puts what the proposed row is known by in the place of `excluded.c`.
fn rebind_excluded(expr: &mut Expr) {
    visit::expressions_mut(expr, |e| {
        if let Some(column) = excluded_column(e) {
            *e = Expr::Identifier(query::quoted(&format!("@excluded:{column}")));
        }
    });
}

/// `excluded.c`
fn excluded_column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::CompoundIdentifier(parts) if parts.len() == 2 && normalize(&parts[0]) == "excluded" => {
            Some(normalize(&parts[1]))
        }
        _ => None,
    }
}

impl DoUpdate {
    pub(super) fn prepare(target: &Target, update: &ast::DoUpdate) -> Result<Self> {
        let mut assigned = assignments(target, &update.assignments)?;
        let key = target.key_places();
        let copies = |a: &Assigned| match &a.value {
            Value::Expr(e) => {
                excluded_column(e).is_some_and(|c| c == target.column(a.place).field.name().as_str())
            }
            Value::Default => false,
        };
        let replaces = update.selection.is_none()
            && assigned.iter().all(copies)
            && (0..target.def.columns.len()).all(|place| {
                // What is generated follows from the columns that are replaced.
                key.contains(&place)
                    || target.column(place).generated.is_some()
                    || assigned.iter().any(|a| a.place == place)
            });
        for one in &mut assigned {
            if let Value::Expr(expr) = &mut one.value {
                for_each_excluded(target, expr)?;
                rebind_excluded(expr);
            }
        }
        let mut selection = update.selection.clone();
        if let Some(expr) = &mut selection {
            for_each_excluded(target, expr)?;
            rebind_excluded(expr);
        }
        Ok(Self { assigned, selection, replaces })
    }
}

/// Each `excluded.c` names a column of the table.
fn for_each_excluded(target: &Target, expr: &Expr) -> Result<()> {
    let found = visit::expressions(expr, |e| match excluded_column(e).map(|c| target.place(&c)) {
        Some(Err(error)) => ControlFlow::Break(error),
        _ => ControlFlow::Continue(()),
    });
    match found {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Updates the rows whose keys the proposed rows have.
pub(super) async fn apply(sink: &mut Sink<'_>, update: &DoUpdate, proposed: RecordBatch) -> Result<()> {
    if proposed.num_rows() == 0 {
        return Ok(());
    }
    let target = sink.target;
    let keys = target.keys_of(&proposed)?;
    let stored = target.transaction.get(target.id(), &keys).boxed().await?;
    if stored.num_rows() != proposed.num_rows() {
        return Err(Error::internal("a row that conflicts is not there"));
    }
    let old = target.old_rows(&stored)?;
    let mut fields: Vec<Arc<Field>> =
        old.schema().fields().iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true))).collect();
    fields.extend(proposed.schema().fields().iter().map(|f| {
        Arc::new(f.as_ref().clone().with_name(format!("@excluded:{}", f.name())).with_nullable(true))
    }));
    fields.push(Arc::new(Field::new("@row", DataType::UInt32, false)));
    let mut columns = [old.columns(), proposed.columns()].concat();
    columns
        .push(Arc::new(UInt32Array::from_iter_values(0..u32::try_from(old.num_rows()).unwrap_or(u32::MAX))));
    query::put_batch(PAIR, RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)?;

    let mut items = vec![query::item(Expr::Identifier(query::quoted("@row")), "@row")];
    for (i, one) in update.assigned.iter().enumerate() {
        if let Value::Expr(expr) = &one.value {
            items.push(query::item(expr.clone(), format!("@v{i}")));
        }
    }
    let from = vec![query::relation(PAIR, &target.alias)];
    let select = query::select(None, items, from, update.selection.clone())?;
    let chosen = query::collect(sink.core, select, sink.params).await?;
    let count = chosen.batch.num_rows();
    let places = chosen.batch.column(0).as_primitive::<UInt32Type>();
    let old = take_record_batch(&old, places)?;
    let mut columns = old.columns().to_vec();
    let mut next = 1;
    for one in &update.assigned {
        columns[one.place] = match &one.value {
            Value::Default => rows::default_values(sink.core, target, sink.rules, one.place, count)?,
            Value::Expr(_) => {
                let values = chosen.batch.column(next);
                let from = &chosen.fields[next];
                next += 1;
                to_column(values, from, &target.column(one.place).field).map_err(|e| in_row(e, false, 0))?
            }
        };
    }
    if count == 0 {
        return Ok(());
    }
    let changed: Vec<usize> = update.assigned.iter().map(|a| a.place).collect();
    let new = rows::verified(target, sink.rules, columns, &changed, count).await?;
    let keys = target.keys_of(&old)?;
    sink.note(Some(&old), &new)?;
    sink.rows += count as u64;
    target.transaction.update(target.id(), &keys, new).boxed().await?;
    Ok(())
}
