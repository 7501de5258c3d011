//! Which table's rows are searched.

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};

use super::access_of;
use super::keys::KeyJoin;

/// The rows of a search: those of a scan, or of these the ones with certain keys.
pub(super) struct Searched<'a> {
    pub(super) scan: &'a TableScan,
    /// For each column of the plan its place in the table.
    pub(super) columns: Vec<usize>,
    pub(super) joins: Vec<KeyJoin>,
}

/// The scan below aliases, choices of columns and semi joins.
pub(super) fn scan_of(plan: &LogicalPlan) -> Result<Option<Searched<'_>>> {
    Ok(match plan {
        LogicalPlan::TableScan(scan) => {
            let columns = match &scan.projection {
                Some(projection) => projection.clone(),
                None => (0..scan.source.schema().fields().len()).collect(),
            };
            Some(Searched { scan, columns, joins: Vec::new() })
        }
        LogicalPlan::SubqueryAlias(alias) => scan_of(&alias.input)?,
        LogicalPlan::Projection(projection) => {
            let Some(Searched { scan, columns, joins }) = scan_of(&projection.input)? else {
                return Ok(None);
            };
            let schema = projection.input.schema();
            let places = projection.expr.iter().map(|expr| match expr {
                Expr::Column(c) => columns.get(schema.maybe_index_of_column(c)?).copied(),
                Expr::Alias(alias) => match alias.expr.as_ref() {
                    Expr::Column(c) => columns.get(schema.maybe_index_of_column(c)?).copied(),
                    _ => None,
                },
                _ => None,
            });
            let columns = places.collect::<Option<Vec<_>>>();
            columns.map(|columns| Searched { scan, columns, joins })
        }
        LogicalPlan::Join(join) => {
            let Some(Searched { scan, columns, mut joins }) = scan_of(&join.left)? else { return Ok(None) };
            let Some(key) = KeyJoin::of(join, &columns, &scan.source.schema())? else { return Ok(None) };
            joins.push(key);
            Some(Searched { scan, columns, joins })
        }
        _ => None,
    })
}

/// Whether a table that may have indexes is somewhere in the plan.
pub(super) fn has_table(plan: &LogicalPlan) -> bool {
    let mut found = false;
    // The closure has no errors.
    let _ = plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(source) = source_as_provider(&scan.source)
        {
            found |= access_of(source.as_ref()).is_some();
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}

/// The scan and the place in its table of a column of a plan, seen through aliases, conditions, orders, limits and
/// choices of columns.
pub(super) fn source_of(plan: &LogicalPlan, place: usize) -> Option<(&TableScan, usize)> {
    match plan {
        LogicalPlan::TableScan(scan) => match &scan.projection {
            Some(projection) => Some((scan, *projection.get(place)?)),
            None => Some((scan, place)),
        },
        LogicalPlan::SubqueryAlias(alias) => source_of(&alias.input, place),
        LogicalPlan::Filter(filter) => source_of(&filter.input, place),
        LogicalPlan::Sort(sort) => source_of(&sort.input, place),
        LogicalPlan::Limit(limit) => source_of(&limit.input, place),
        LogicalPlan::Projection(projection) => {
            let mut expr = projection.expr.get(place)?;
            while let Expr::Alias(alias) = expr {
                expr = &alias.expr;
            }
            let Expr::Column(column) = expr else { return None };
            source_of(&projection.input, projection.input.schema().maybe_index_of_column(column)?)
        }
        _ => None,
    }
}
