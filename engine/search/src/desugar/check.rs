//! Checks on the two arguments that may be expressions: `k` and `query`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArguments, Query, UnaryOperator, Value, ValueWithSpan, Visit, Visitor,
};
use triune_common::{Error, Position, Result};

use super::NAME;
use crate::MAX_K;

/// Refuses what can be seen to be no number of rows; parameters and constant expressions pass and are
/// looked at again when their values are known.
pub(crate) fn k(function: &str, expr: Expr, place: Option<Position>) -> Result<Expr> {
    match &expr {
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => match digits.parse::<usize>() {
            Ok(n) if (1..=MAX_K).contains(&n) => Ok(expr),
            _ => Err(wrong_k(digits).at(place)),
        },
        Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. }) => Ok(expr),
        Expr::Value(_) => Err(wrong_k(&expr.to_string()).at(place)),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner }
            if matches!(inner.as_ref(), Expr::Value(ValueWithSpan { value: Value::Number(..), .. })) =>
        {
            Err(wrong_k(&expr.to_string()).at(place))
        }
        Expr::Subquery(_) => Err(Error::unsupported(format!("k of {function} cannot be a sub-query"))
            .with_hint(format!("a whole number from 1 to {MAX_K} or a parameter is accepted"))
            .at(place)),
        _ => Ok(expr),
    }
}

/// The error for a `k` that is no number of rows.
pub(crate) fn wrong_k(value: &str) -> Error {
    Error::invalid(format!("k => {value} is not accepted"))
        .with_hint(format!("a whole number from 1 to {MAX_K} is"))
}

/// Refuses a query that is NULL.
pub(super) fn query(expr: &Expr, place: Option<Position>) -> Result<()> {
    if matches!(expr, Expr::Value(ValueWithSpan { value: Value::Null, .. })) {
        return Err(Error::invalid(format!("the query of {NAME} is NULL"))
            .with_hint("a vector is accepted")
            .at(place));
    }
    Ok(())
}

/// Whether an expression names a column outside of its sub-queries.
pub(super) fn names_columns(expr: &Expr) -> bool {
    expr.visit(&mut ColumnFinder { depth: 0, argument_names: Vec::new(), qualified: false }).is_break()
}

/// Whether it names one with its relation in front.
pub(super) fn names_relations(expr: &Expr) -> bool {
    expr.visit(&mut ColumnFinder { depth: 0, argument_names: Vec::new(), qualified: true }).is_break()
}

/// Stops at the first column that is named outside of a sub-query.
struct ColumnFinder {
    depth: usize,
    /// The `a` of calls `f(a => 1)`, which the dialect reads as expressions; known by their place in
    /// memory, which does not change during the walk.
    argument_names: Vec<*const Expr>,
    /// Whether only names with a relation in front count.
    qualified: bool,
}

impl Visitor for ColumnFinder {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<Self::Break> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<Self::Break> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        if let Expr::Function(call) = expr
            && let FunctionArguments::List(list) = &call.args
        {
            self.argument_names.extend(list.args.iter().filter_map(|arg| match arg {
                FunctionArg::ExprNamed { name, .. } => Some(std::ptr::from_ref(name)),
                _ => None,
            }));
        }
        let is_column = match expr {
            _ if self.argument_names.contains(&std::ptr::from_ref(expr)) => false,
            // `@name` is a variable.
            Expr::Identifier(ident) => !self.qualified && !ident.value.starts_with('@'),
            Expr::CompoundIdentifier(_) => true,
            _ => false,
        };
        if self.depth == 0 && is_column { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
