//! Texts that stand beside UUIDs.
//!
//! ```sql
//! SELECT * FROM docs WHERE id = 'A0EEBC999C0B4EF8BB6D6BB9BD380A11';     -- any usual spelling
//! SELECT * FROM docs WHERE id IN ('{a0eebc99-…}', …);
//! ```
//!
//! A UUID is kept as a text in one form, in which texts are ordered as UUIDs are. A text that a UUID column is compared
//! with is brought into that form; one that is no UUID is an error, as in PostgreSQL.
//!
//! Limits: texts that are computed are compared as they are.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ExprSchema, Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::optimizer::analyzer::AnalyzerRule;

use super::types::{Named, named, normal_uuid};

/// The rule; it must run before type coercion, which puts casts around columns.
#[derive(Debug, Default)]
pub(crate) struct UuidTexts {}

impl AnalyzerRule for UuidTexts {
    fn name(&self) -> &str {
        "uuid_texts"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(rewrite_node)?.data)
    }
}

fn rewrite_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        schema = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?;
    }
    let mut compares = false;
    plan.apply_expressions(|expr| {
        compares |= expr.exists(|e| Ok(is_uuid(e, &schema)))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !compares {
        return Ok(Transformed::no(plan));
    }
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let done = expr.transform_up(|e| rewrite(e, &schema))?;
        Ok(done.update_data(|e| name.restore(e)))
    })
}

fn is_uuid(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::Column(column) => schema.field_from_column(column).is_ok_and(|f| named(f) == Some(Named::Uuid)),
        Expr::Alias(alias) => is_uuid(&alias.expr, schema),
        _ => false,
    }
}

fn rewrite(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { mut left, op, mut right }) if compares(op) => {
            let mut changed = false;
            if is_uuid(&left, schema) {
                changed |= normalise(&mut right)?;
            }
            if is_uuid(&right, schema) {
                changed |= normalise(&mut left)?;
            }
            let expr = Expr::BinaryExpr(BinaryExpr { left, op, right });
            Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
        }
        Expr::InList(mut of) if is_uuid(&of.expr, schema) => {
            for one in &mut of.list {
                normalise(one)?;
            }
            Ok(Transformed::yes(Expr::InList(of)))
        }
        Expr::Between(mut of) if is_uuid(&of.expr, schema) => {
            normalise(&mut of.low)?;
            normalise(&mut of.high)?;
            Ok(Transformed::yes(Expr::Between(of)))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn compares(op: Operator) -> bool {
    use Operator as O;
    matches!(
        op,
        O::Eq | O::NotEq | O::Lt | O::LtEq | O::Gt | O::GtEq | O::IsDistinctFrom | O::IsNotDistinctFrom
    )
}

/// Whether a text was there; errors when it is no UUID.
fn normalise(expr: &mut Expr) -> Result<bool> {
    let Expr::Literal(
        ScalarValue::Utf8(Some(text))
        | ScalarValue::LargeUtf8(Some(text))
        | ScalarValue::Utf8View(Some(text)),
        _,
    ) = expr
    else {
        return Ok(false);
    };
    *text = normal_uuid(text).map_err(DataFusionError::from)?;
    Ok(true)
}
