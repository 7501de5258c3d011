//! Queries that a writing statement is made of, built as trees.
//!
//! ```text
//! UPDATE docs AS d SET stars = 0 FROM old WHERE d.id = old.id
//!   → SELECT d."id" AS "@o0", … , 0 AS "@v0" FROM "@target" AS d, old WHERE d.id = old.id
//! ```

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, FieldRef, Schema};
use datafusion::datasource::MemTable;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{
    self, Expr, Ident, ObjectName, Query, SelectItem, SetExpr, TableAlias, TableFactor, TableWithJoins,
    Value, ValueWithSpan, With,
};
use triune_common::{Error, ErrorKind, Result};
use triune_storage::hot::bytes_of_batch;

use crate::params::Params;
use crate::parser;
use crate::session::SessionCore;
use crate::transaction;

/// The written table with its key columns.
pub(super) const TARGET: &str = "@target";

/// A query's rows in one batch.
#[derive(Debug)]
pub(super) struct Rows {
    /// What the planner knows of the columns, in the operators' types.
    pub(super) fields: Vec<FieldRef>,
    pub(super) batch: RecordBatch,
    /// What the rows take of the memory pool, as long as they are there.
    _memory: MemoryReservation,
}

pub(super) fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

pub(super) fn column(relation: &str, name: &str) -> Expr {
    Expr::CompoundIdentifier(vec![quoted(relation), quoted(name)])
}

pub(super) fn item(expr: Expr, name: impl AsRef<str>) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: quoted(name.as_ref()) }
}

pub(super) fn literal(value: Value) -> Expr {
    Expr::Value(ValueWithSpan::from(value))
}

pub(super) fn integer(value: usize) -> Expr {
    literal(Value::Number(value.to_string(), false))
}

/// `"name" AS "alias"`
pub(super) fn relation(name: &str, alias: &str) -> TableWithJoins {
    let relation = TableFactor::Table {
        name: ObjectName::from(vec![quoted(name)]),
        alias: Some(as_alias(alias)),
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    };
    TableWithJoins { relation, joins: vec![] }
}

pub(super) fn as_alias(alias: &str) -> TableAlias {
    TableAlias { explicit: true, name: quoted(alias), columns: vec![], at: None }
}

/// `WITH … SELECT projection FROM from WHERE selection`
pub(super) fn select(
    with: Option<With>,
    projection: Vec<SelectItem>,
    from: Vec<TableWithJoins>,
    selection: Option<Expr>,
) -> Result<Query> {
    let mut query = *parser::parse_query("SELECT 1")?;
    query.with = with;
    let SetExpr::Select(select) = query.body.as_mut() else {
        return Err(Error::internal("SELECT 1 is no SELECT"));
    };
    select.projection = projection;
    select.from = from;
    select.selection = selection;
    Ok(query)
}

pub(super) async fn plan(core: &Arc<SessionCore>, query: Query, params: &Params) -> Result<LogicalPlan> {
    let plan = core.plan_unbound(ast::Statement::Query(Box::new(query))).await?;
    crate::params::bind_part(plan, params)
}

/// The fields of a plan in the types of what the operators gave.
pub(crate) fn fields_of(plan: &LogicalPlan, schema: &Schema) -> Vec<FieldRef> {
    let of = |(known, found): (&FieldRef, &FieldRef)| {
        Arc::new(
            Field::new(known.name(), found.data_type().clone(), true).with_metadata(known.metadata().clone()),
        )
    };
    plan.schema().fields().iter().zip(schema.fields()).map(of).collect()
}

/// Where a statement takes memory for rows that it holds.
pub(super) fn memory(core: &SessionCore, what: &str) -> MemoryReservation {
    MemoryConsumer::new(what).register(&core.database().runtime().memory_pool)
}

/// Asks for memory before it is used.
pub(super) fn reserve(memory: &MemoryReservation, more: usize) -> Result<()> {
    memory.try_grow(more).map_err(|e| {
        let wanted = memory.size() + more;
        Error::new(
            ErrorKind::Resources,
            format!("the rows of the statement need {wanted} bytes, more than there is memory for: {e}"),
        )
        .with_hint("change fewer rows at a time, or raise memory_limit")
    })
}

/// Runs a query to its end. The rows are charged to the memory pool while they come, and again while they become one
/// batch.
pub(super) async fn collect(core: &Arc<SessionCore>, query: Query, params: &Params) -> Result<Rows> {
    let plan = plan(core, query, params).await?;
    let mut result = core.start(&plan).await?;
    let schema = result.schema();
    let fields = fields_of(&plan, &schema);
    let memory = memory(core, "rows of a statement");
    let mut batches = Vec::new();
    while let Some(batch) = result.next().await {
        let batch = batch?;
        reserve(&memory, bytes_of_batch(&batch))?;
        batches.push(batch);
    }
    let batch = match batches.as_slice() {
        [one] => one.clone(),
        many => {
            reserve(&memory, memory.size())?;
            concat_batches(&schema, many)?
        }
    };
    drop(batches);
    memory.resize(bytes_of_batch(&batch));
    Ok(Rows { fields, batch, _memory: memory })
}

/// [`collect`] of a query over [`TARGET`], which nobody holds afterwards.
pub(super) async fn collect_of_target(
    core: &Arc<SessionCore>,
    query: Query,
    params: &Params,
) -> Result<Rows> {
    let found = collect(core, query, params).await;
    transaction::forget_relation(TARGET);
    found
}

/// Makes a batch a relation of the running statement.
pub(super) fn put_batch(name: &str, batch: RecordBatch) -> Result<()> {
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
    transaction::put_relation(name, Arc::new(table))
}
