//! `RETURNING`: expressions over the rows that were written.
//!
//! ```sql
//! UPDATE docs SET stars = stars + 1 WHERE id = 7 RETURNING id, stars, old.stars AS before;
//! ```
//!
//! Columns without a qualifier, and those of the table's name or alias, are the new row's (DELETE: the old row's).
//! `old.c` and `new.c` name the row before and after; what there was not is NULL. Columns of FROM, USING and MERGE's
//! source may be named too. `*` is the written table's columns.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, FieldRef, Schema};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Query, SelectItem, SelectItemQualifiedWildcardKind, VisitorMut,
};
use triune_common::{Error, Result};
use triune_storage::hot::bytes_of_batch;

use super::query;
use super::target::Target;
use crate::params::Params;
use crate::parser::normalize;
use crate::result::{QueryResult, Tag};
use crate::session::SessionCore;
use crate::visit::{Stop, walk_mut};

const RETURNED: &str = "@returned";
const ACTION: &str = "@merge_action";

/// A RETURNING clause that was prepared for its statement.
#[derive(Debug)]
pub(super) struct Returning {
    items: Vec<SelectItem>,
    /// Columns of other relations that the statement's own query has to select, by the name that they get.
    pub(super) extras: Vec<(String, Expr)>,
    done: Vec<RecordBatch>,
    /// For the rows in `done`.
    memory: MemoryReservation,
}

/// What happened to some rows; all of one length.
#[derive(Debug, Default)]
pub(super) struct Written<'a> {
    pub(super) old: Option<&'a RecordBatch>,
    pub(super) new: Option<&'a RecordBatch>,
    /// In the order of [`Returning::extras`], with their fields.
    pub(super) extras: Vec<(FieldRef, ArrayRef)>,
    pub(super) action: &'static str,
}

struct Rebind<'a> {
    target: &'a Target,
    others: &'a HashSet<String>,
    depth: usize,
    extras: Vec<(String, Expr)>,
    known: HashMap<Expr, String>,
}

impl Rebind<'_> {
    fn extra(&mut self, expr: &mut Expr) {
        let name = match self.known.get(expr) {
            Some(name) => name.clone(),
            None => {
                let name = format!("@x{}", self.extras.len());
                self.known.insert(expr.clone(), name.clone());
                self.extras.push((name.clone(), expr.clone()));
                name
            }
        };
        *expr = Expr::Identifier(query::quoted(&name));
    }
}

impl VisitorMut for Rebind<'_> {
    type Break = Stop;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Stop> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Stop> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Stop> {
        match expr {
            Expr::CompoundIdentifier(parts) if parts.len() == 2 => {
                let (relation, column) = (normalize(&parts[0]), normalize(&parts[1]));
                if relation == self.target.alias {
                } else if self.others.contains(&relation) {
                    self.extra(expr);
                } else if relation == "old" || relation == "new" {
                    *expr = Expr::Identifier(query::quoted(&format!("@{relation}:{column}")));
                }
            }
            Expr::Identifier(name) if self.depth == 0 => {
                let plain = normalize(name);
                let own = self.target.column_names().any(|n| n == plain) || plain.starts_with('@');
                if !own && !self.others.is_empty() {
                    self.extra(expr);
                }
            }
            Expr::Function(f) if f.name.to_string().eq_ignore_ascii_case("merge_action") => {
                *expr = Expr::Identifier(query::quoted(ACTION));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Returning {
    /// `others` are the names of what else the statement reads.
    pub(super) fn prepare(
        core: &SessionCore,
        items: Option<Vec<SelectItem>>,
        target: &Target,
        others: &HashSet<String>,
    ) -> Result<Option<Self>> {
        let Some(items) = items else { return Ok(None) };
        let mut rebind = Rebind { target, others, depth: 0, extras: Vec::new(), known: HashMap::new() };
        let mut prepared = Vec::with_capacity(items.len());
        for mut item in items {
            match &mut item {
                SelectItem::Wildcard(options) if options.to_string().is_empty() => {
                    prepared.extend(all(target, ""));
                    continue;
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options)
                    if options.to_string().is_empty() =>
                {
                    let relation = crate::parser::dotted(name);
                    if relation == target.alias {
                        prepared.extend(all(target, ""));
                        continue;
                    }
                    if relation == "old" || relation == "new" {
                        prepared.extend(all(target, &format!("@{relation}:")));
                        continue;
                    }
                    return Err(Error::unsupported(format!("RETURNING {relation}.* is not supported"))
                        .with_hint("name the columns"));
                }
                SelectItem::UnnamedExpr(expr) => {
                    // The name that it would have had.
                    let label = match &*expr {
                        Expr::Identifier(name) => normalize(name),
                        Expr::CompoundIdentifier(parts) => parts.last().map(normalize).unwrap_or_default(),
                        Expr::Function(f) => f.name.to_string().to_lowercase(),
                        other => other.to_string(),
                    };
                    let mut expr = expr.clone();
                    let _ = walk_mut(&mut expr, &mut rebind);
                    prepared.push(query::item(expr, label));
                    continue;
                }
                _ => {}
            }
            let _ = walk_mut(&mut item, &mut rebind);
            prepared.push(item);
        }
        let memory = query::memory(core, "rows of RETURNING");
        let items = distinct_labels(prepared);
        Ok(Some(Self { items, extras: rebind.extras, done: Vec::new(), memory }))
    }

    /// The same clause without rows.
    pub(super) fn fresh(&self) -> Self {
        let (items, extras) = (self.items.clone(), self.extras.clone());
        Self { items, extras, done: Vec::new(), memory: self.memory.new_empty() }
    }

    /// Takes note of rows that were written.
    pub(super) fn add(&mut self, target: &Target, written: &Written<'_>) -> Result<()> {
        let rows = written.new.or(written.old).map_or(0, RecordBatch::num_rows);
        let schema = target.def.schema();
        let nulls =
            || schema.fields().iter().map(|f| new_null_array(f.data_type(), rows)).collect::<Vec<_>>();
        let of = |batch: Option<&RecordBatch>| batch.map_or_else(nulls, |b| b.columns().to_vec());
        let mut fields = Vec::new();
        let mut columns = Vec::new();
        for (prefix, batch) in
            [("", written.new.or(written.old)), ("@old:", written.old), ("@new:", written.new)]
        {
            for (field, column) in schema.fields().iter().zip(of(batch)) {
                let name = format!("{prefix}{}", field.name());
                fields.push(Arc::new(field.as_ref().clone().with_name(name).with_nullable(true)));
                columns.push(column);
            }
        }
        for ((name, _), (field, column)) in self.extras.iter().zip(&written.extras) {
            fields.push(Arc::new(field.as_ref().clone().with_name(name).with_nullable(true)));
            columns.push(Arc::clone(column));
        }
        fields.push(Arc::new(Field::new(ACTION, arrow::datatypes::DataType::Utf8, true)));
        columns.push(Arc::new(StringArray::from(vec![written.action; rows])));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
        query::reserve(&self.memory, bytes_of_batch(&batch))?;
        self.done.push(batch);
        Ok(())
    }

    /// The clause's rows.
    pub(super) async fn finish(
        mut self,
        core: &Arc<SessionCore>,
        target: &Target,
        params: &Params,
        extras: &[FieldRef],
    ) -> Result<QueryResult> {
        if self.done.is_empty() {
            let schema = target.def.schema();
            let empty = RecordBatch::new_empty(schema);
            let extras = extras.iter().map(|f| (Arc::clone(f), new_null_array(f.data_type(), 0))).collect();
            self.add(target, &Written { new: Some(&empty), extras, ..Written::default() })?;
        }
        let schema = self.done[0].schema();
        // Once as it came, once as one batch.
        query::reserve(&self.memory, self.memory.size())?;
        query::put_batch(RETURNED, concat_batches(&schema, &self.done)?)?;
        self.done = Vec::new();
        self.memory.shrink(self.memory.size() / 2);
        let from = vec![query::relation(RETURNED, &target.alias)];
        let query = query::select(None, self.items, from, None)?;
        let plan = query::plan(core, query, params).await?;
        let known = Arc::clone(plan.schema().inner());
        let result = core.start(&plan).await?;
        let batches = result.collect().await?;
        // The declared schema tells of types that operators may have lost.
        let schema = match batches.first() {
            Some(first) => Arc::new(Schema::new(query::fields_of(&plan, &first.schema()))),
            None => known,
        };
        let batches = batches
            .into_iter()
            .map(|b| {
                let options = RecordBatchOptions::new().with_row_count(Some(b.num_rows()));
                RecordBatch::try_new_with_options(Arc::clone(&schema), b.columns().to_vec(), &options)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(QueryResult::batches(Tag::Rows, schema, batches))
    }
}

fn all(target: &Target, prefix: &str) -> Vec<SelectItem> {
    let own = |name: &str| query::item(Expr::Identifier(query::quoted(&format!("{prefix}{name}"))), name);
    target.column_names().map(own).collect()
}

/// One name twice in a select list is an error to the planner.
fn distinct_labels(items: Vec<SelectItem>) -> Vec<SelectItem> {
    let mut seen: HashSet<String> = HashSet::new();
    let rename = |item| match item {
        SelectItem::ExprWithAlias { expr, alias } => {
            let base = normalize(&alias);
            let (mut name, mut n) = (base.clone(), 0);
            while !seen.insert(name.clone()) {
                n += 1;
                name = format!("{base}_{n}");
            }
            SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) }
        }
        other => other,
    };
    items.into_iter().map(rename).collect()
}
