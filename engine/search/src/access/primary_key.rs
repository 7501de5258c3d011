//! Which columns tell the rows of a table apart.

use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, LogicalPlan};
use triune_storage::store::StoreProvider;

/// The places of a primary key's columns in the schema of `plan`: of a table of the database, seen through aliases,
/// conditions, orders and choices of columns.
pub(crate) fn key_of(plan: &LogicalPlan) -> Option<Vec<usize>> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source).ok()?;
            let any: &dyn std::any::Any = provider.as_ref();
            let key = &any.downcast_ref::<StoreProvider>()?.definition().primary_key;
            let places: Option<Vec<usize>> =
                key.iter().map(|name| scan.projected_schema.index_of_column_by_name(None, name)).collect();
            places.filter(|p| !p.is_empty())
        }
        LogicalPlan::SubqueryAlias(alias) => key_of(&alias.input),
        LogicalPlan::Filter(filter) => key_of(&filter.input),
        LogicalPlan::Sort(sort) => key_of(&sort.input),
        LogicalPlan::Limit(limit) => key_of(&limit.input),
        LogicalPlan::Projection(projection) => {
            let schema = projection.input.schema();
            let place = |wanted: usize| {
                projection.expr.iter().position(|expr| {
                    let mut expr = expr;
                    while let Expr::Alias(alias) = expr {
                        expr = &alias.expr;
                    }
                    matches!(expr, Expr::Column(c) if schema.maybe_index_of_column(c) == Some(wanted))
                })
            };
            key_of(&projection.input)?.into_iter().map(place).collect()
        }
        _ => None,
    }
}
