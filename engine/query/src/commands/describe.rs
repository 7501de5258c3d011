//! `DESCRIBE` and `SUMMARIZE`.
//!
//! ```text
//! SUMMARIZE packages;
//! column_name │ column_type │ count │ null_percentage │ approx_unique │ min │ max │ avg │ std │ q25 │ q50 │ q75
//! ```
//! Minimum and maximum are given as text; columns that have no order (lists, vectors) show NULL there.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use datafusion::functions_aggregate::expr_fn::{
    approx_distinct, approx_percentile_cont, avg, count, max, min, stddev,
};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::sql::sqlparser::ast;
use triune_common::Result;

use super::known;
use crate::params::Params;
use crate::prepass::labels;
use crate::result::QueryResult;
use crate::session::SessionCore;
use crate::types::sql_type_name;
use crate::{ddl, dml};

/// Columns and types of a relation or a query, which is not run.
pub(super) async fn describe(
    core: &Arc<SessionCore>,
    query: ast::Query,
    params: &Params,
) -> Result<QueryResult> {
    if let Some(def) = relation_of(&query).and_then(|name| dml::target::find(core, name, "DESCRIBE").ok()) {
        return ddl::show::describe(&def);
    }
    let plan = core.plan_result(ast::Statement::Query(Box::new(query)), params).await?;
    let fields = plan.schema().fields();
    let names: ArrayRef =
        Arc::new(StringArray::from_iter_values(fields.iter().map(|f| labels::given(f.name()))));
    let types: ArrayRef = Arc::new(StringArray::from_iter_values(fields.iter().map(|f| sql_type_name(f))));
    let nulls: ArrayRef = Arc::new(BooleanArray::from_iter(fields.iter().map(|f| Some(f.is_nullable()))));
    let columns = [("column_name", names), ("column_type", types), ("nullable", nulls)];
    Ok(known(RecordBatch::try_from_iter(columns)?))
}

/// `SELECT * FROM name`: what the parser makes of `DESCRIBE name`.
fn relation_of(query: &ast::Query) -> Option<&ast::ObjectName> {
    let ast::SetExpr::Select(select) = query.body.as_ref() else { return None };
    let plain = query.with.is_none()
        && query.limit_clause.is_none()
        && query.order_by.is_none()
        && select.selection.is_none()
        && select.distinct.is_none();
    match (select.projection.as_slice(), select.from.as_slice()) {
        ([ast::SelectItem::Wildcard(options)], [from])
            if plain && from.joins.is_empty() && options.to_string().is_empty() =>
        {
            match &from.relation {
                ast::TableFactor::Table {
                    name,
                    alias: None,
                    version: None,
                    sample: None,
                    args: None,
                    ..
                } => Some(name),
                _ => None,
            }
        }
        _ => None,
    }
}

/// One row of statistics for each column, from one pass over the data.
pub(super) async fn summarize(
    core: &Arc<SessionCore>,
    query: ast::Query,
    params: &Params,
) -> Result<QueryResult> {
    let plan = core.plan(ast::Statement::Query(Box::new(query)), params).await?;
    let columns = plan.schema().columns();
    let fields: Vec<Arc<Field>> = plan.schema().fields().iter().cloned().collect();
    let mut aggregates = vec![count(lit(1_i64)).alias("rows")];
    for (i, (column, field)) in columns.iter().zip(&fields).enumerate() {
        for (measure, expr) in measures(&Expr::Column(column.clone()), field.data_type()) {
            aggregates.push(expr.alias(format!("{i}.{measure}")));
        }
    }
    let summary: LogicalPlan =
        LogicalPlanBuilder::from(plan).aggregate(Vec::<Expr>::new(), aggregates)?.build()?;
    let batches = core.start(&summary).await?.collect().await?;
    let found = arrow::compute::concat_batches(summary.schema().inner(), &batches)?;
    let text = |name: &str| -> Option<String> {
        let column = found.column_by_name(name)?;
        let value = arrow::util::display::array_value_to_string(column, 0).ok()?;
        (!column.is_null(0)).then_some(value)
    };
    let rows: f64 = text("rows").and_then(|t| t.parse().ok()).unwrap_or(0.0);
    let cell = |measure: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter((0..fields.len()).map(|i| text(&format!("{i}.{measure}")))))
    };
    let null_share = (0..fields.len()).map(|i| {
        let present: f64 = text(&format!("{i}.count"))?.parse().ok()?;
        (rows > 0.0).then(|| (rows - present) / rows * 100.0)
    });
    let null_share: ArrayRef = Arc::new(arrow::array::Float64Array::from_iter(null_share));
    let counts: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter(
        (0..fields.len()).map(|i| text(&format!("{i}.count"))?.parse::<i64>().ok()),
    ));
    let unique: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter(
        (0..fields.len()).map(|i| text(&format!("{i}.unique"))?.parse::<i64>().ok()),
    ));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(fields.iter().map(|f| f.name())));
    let types: ArrayRef = Arc::new(StringArray::from_iter_values(fields.iter().map(|f| sql_type_name(f))));
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("column_name", names, false),
        ("column_type", types, false),
        ("count", counts, true),
        ("null_percentage", null_share, true),
        ("approx_unique", unique, true),
        ("min", cell("min"), true),
        ("max", cell("max"), true),
        ("avg", cell("avg"), true),
        ("std", cell("std"), true),
        ("q25", cell("q25"), true),
        ("q50", cell("q50"), true),
        ("q75", cell("q75"), true),
    ])?;
    Ok(known(batch))
}

/// What can be measured of a column of a type.
fn measures(column: &Expr, data_type: &DataType) -> Vec<(&'static str, Expr)> {
    let mut all = vec![("count", count(column.clone()))];
    let nested = data_type.is_nested();
    if !nested && !data_type.is_null() {
        let text = |e: Expr| cast(e, DataType::Utf8);
        all.push(("min", text(min(column.clone()))));
        all.push(("max", text(max(column.clone()))));
        if !matches!(
            data_type,
            DataType::Interval(_) | DataType::Duration(_) | DataType::Float16 | DataType::Decimal256(..)
        ) && !data_type.is_floating()
            && !matches!(
                data_type,
                DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..)
            )
        {
            all.push(("unique", approx_distinct(column.clone())));
        } else if !matches!(data_type, DataType::Interval(_)) {
            all.push(("unique", approx_distinct(cast(column.clone(), DataType::Utf8))));
        }
    }
    if data_type.is_numeric() {
        let number = cast(column.clone(), DataType::Float64);
        let quantile = |q: f64| approx_percentile_cont(number.clone().sort(true, false), lit(q), None);
        all.push(("avg", avg(number.clone())));
        all.push(("std", stddev(number.clone())));
        all.push(("q25", quantile(0.25)));
        all.push(("q50", quantile(0.5)));
        all.push(("q75", quantile(0.75)));
    }
    all
}
