//! Operators that may go over become checked functions, once types are settled.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::analyzer::AnalyzerRule;

use super::function::{Checked, Op};

/// The rule; it must run after type coercion.
#[derive(Debug, Default)]
pub(crate) struct CheckedArithmetic {}

impl AnalyzerRule for CheckedArithmetic {
    fn name(&self) -> &str {
        "checked_arithmetic"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(rewrite_node)?.data)
    }
}

fn rewrite_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut computes = false;
    plan.apply_expressions(|expr| {
        computes |= expr.exists(|e| Ok(operator(e).is_some()))?;
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    })?;
    if !computes {
        return Ok(Transformed::no(plan));
    }
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        let source = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?;
        schema.merge(&source);
    }
    // Columns of windows and aggregates are named after how an expression looks, which a function does differently.
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let done = expr.transform_up(|e| rewrite(e, &schema))?;
        Ok(done.update_data(|e| name.restore(e)))
    })
}

/// The operators that wrap around in DataFusion.
fn operator(expr: &Expr) -> Option<Op> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { op: Operator::Plus, .. }) => Some(Op::Add),
        Expr::BinaryExpr(BinaryExpr { op: Operator::Minus, .. }) => Some(Op::Subtract),
        Expr::BinaryExpr(BinaryExpr { op: Operator::Multiply, .. }) => Some(Op::Multiply),
        Expr::Negative(_) => Some(Op::Negate),
        _ => None,
    }
}

fn rewrite(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Some(op) = operator(&expr) else { return Ok(Transformed::no(expr)) };
    match expr {
        Expr::Negative(inner) => match type_of(&inner, schema) {
            Some(t) if t.is_signed_integer() => Ok(Transformed::yes(Checked::call(op, t, vec![*inner]))),
            _ => Ok(Transformed::no(Expr::Negative(inner))),
        },
        Expr::BinaryExpr(binary) => match result_type(&binary, schema) {
            Some(t) => Ok(Transformed::yes(Checked::call(op, t, vec![*binary.left, *binary.right]))),
            None => Ok(Transformed::no(Expr::BinaryExpr(binary))),
        },
        other => Ok(Transformed::no(other)),
    }
}

/// The type of a term that may go over; `None` leaves the operator as it is.
fn result_type(binary: &BinaryExpr, schema: &DFSchema) -> Option<DataType> {
    let left = type_of(&binary.left, schema)?;
    if !left.is_integer() && !left.is_decimal() {
        return None;
    }
    let right = type_of(&binary.right, schema)?;
    if left.is_integer() {
        return (left == right).then_some(left);
    }
    if !right.is_decimal() {
        return None;
    }
    // Elsewhere the result has a digit more than its arguments.
    let result = BinaryTypeCoercer::new(&left, &binary.op, &right).get_result_type().ok()?;
    is_full(&result).then_some(result)
}

/// Whether a decimal has all the digits that its width can hold.
fn is_full(data_type: &DataType) -> bool {
    use arrow::datatypes::{
        DECIMAL32_MAX_PRECISION, DECIMAL64_MAX_PRECISION, DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION,
    };
    match data_type {
        DataType::Decimal32(p, _) => *p == DECIMAL32_MAX_PRECISION,
        DataType::Decimal64(p, _) => *p == DECIMAL64_MAX_PRECISION,
        DataType::Decimal128(p, _) => *p == DECIMAL128_MAX_PRECISION,
        DataType::Decimal256(p, _) => *p == DECIMAL256_MAX_PRECISION,
        _ => false,
    }
}

fn type_of(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    match expr {
        Expr::ScalarFunction(call) => match Checked::type_of(call) {
            Some(known) => Some(known.clone()),
            None => expr.get_type(schema).ok(),
        },
        other => other.get_type(schema).ok(),
    }
}
