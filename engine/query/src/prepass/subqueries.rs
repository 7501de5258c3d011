//! Sub-queries inside expressions: `SELECT (SELECT (SELECT 1))`.
//!
//! DataFusion checks a plan with sub-queries in its expressions twice at every level (`assert_valid_extension_nodes`
//! and `assert_subqueries_are_valid` recurse by themselves within a walk that recurses too), so that time doubles with
//! each level: twenty levels take half a minute. Two things help:
//!
//! - a scalar sub-query that reads nothing, `(SELECT a + 1)`, is its expression, `(a + 1)`. Those with calls stay, for
//!   `(SELECT random())` is one number for the whole statement and `(SELECT sum(1))` is no expression over rows;
//! - what remains nests at most [`LIMIT`] levels deep.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, Query, Select, SelectItem, SetExpr, Spanned, Visitor,
};
use triune_common::{Error, ErrorKind, Result};

use crate::parser::position;
use crate::visit::walk;

/// A second of planning on a small machine.
const LIMIT: usize = 16;

/// How deep sub-queries nest below the expressions that are being walked.
#[derive(Debug, Default)]
pub(super) struct Depth(Vec<usize>);

impl Depth {
    pub(super) fn enter(&mut self, expr: &Expr) {
        if is_subquery(expr) {
            self.0.push(0);
        }
    }

    /// Called with what [`Self::enter`] was called with, its inside rewritten.
    pub(super) fn leave(&mut self, expr: &mut Expr) -> Result<()> {
        if !is_subquery(expr) {
            return Ok(());
        }
        let below = self.0.pop().unwrap_or_default();
        let here = if fold(expr) { below } else { below + 1 };
        if here > LIMIT {
            return Err(Error::new(
                ErrorKind::Resources,
                format!("sub-queries within expressions nest more than {LIMIT} levels deep"),
            )
            .with_hint("take the inner ones into WITH clauses or joins")
            .at(position(expr.span().start)));
        }
        if let Some(outer) = self.0.last_mut() {
            *outer = here.max(*outer);
        }
        Ok(())
    }
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. })
}

/// Puts `(a + 1)` in the place of `(SELECT a + 1)`; whether it did.
fn fold(expr: &mut Expr) -> bool {
    let Expr::Subquery(query) = expr else { return false };
    let Some(inner) = only_expression(query) else { return false };
    if walk(inner, &mut Calls::default()).is_break() {
        return false;
    }
    let inner = std::mem::replace(inner, Expr::Identifier(Ident::new("")));
    *expr = Expr::Nested(Box::new(inner));
    true
}

/// Breaks at a call that is not within a sub-query of its own.
#[derive(Debug, Default)]
struct Calls {
    queries: usize,
}

impl Visitor for Calls {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(_) if self.queries == 0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// The expression of a query that is nothing but `SELECT expression [AS name]`.
fn only_expression(query: &mut Query) -> Option<&mut Expr> {
    if query.with.is_some() || query.order_by.is_some() || query.limit_clause.is_some() {
        return None;
    }
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let reads = {
        let Select {
            distinct,
            top,
            from,
            lateral_views,
            selection,
            group_by,
            having,
            named_window,
            qualify,
            ..
        } = select.as_ref();
        let grouped =
            !matches!(group_by, GroupByExpr::Expressions(by, with) if by.is_empty() && with.is_empty());
        distinct.is_some()
            || top.is_some()
            || !from.is_empty()
            || !lateral_views.is_empty()
            || selection.is_some()
            || grouped
            || having.is_some()
            || !named_window.is_empty()
            || qualify.is_some()
    };
    match select.projection.as_mut_slice() {
        [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] if !reads => Some(expr),
        _ => None,
    }
}
