//! Walks through the trees of statements, each of them translated once.
//!
//! sqlparser's walk is generic over its visitor, and every closure that is given to its `visit_expressions` is one more:
//! the compiler then translates the walk through the whole grammar again, a quarter of a megabyte of code. Here the walk
//! knows one visitor, which passes on what it meets.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Query, Select, Statement, TableFactor, ValueWithSpan, Visit,
    VisitMut, Visitor, VisitorMut,
};
use triune_common::Error;

/// Why a walk that changes a tree ends.
pub(crate) type Stop = Box<Error>;

/// Shows a tree to a visitor.
pub(crate) fn walk<T: Visit>(tree: &T, visitor: &mut dyn Visitor<Break = ()>) -> ControlFlow<()> {
    tree.visit(&mut Passing(visitor))
}

/// Hands a tree to a visitor that may change it.
pub(crate) fn walk_mut<T: VisitMut>(
    tree: &mut T,
    visitor: &mut dyn VisitorMut<Break = Stop>,
) -> ControlFlow<Stop> {
    tree.visit(&mut PassingMut(visitor))
}

/// Shows every expression, an outer one before those in it, until `see` breaks.
pub(crate) fn expressions<T: Visit, B>(
    tree: &T,
    mut see: impl FnMut(&Expr) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut found = None;
    let mut see = |expr: &Expr| match see(expr) {
        ControlFlow::Continue(()) => ControlFlow::Continue(()),
        ControlFlow::Break(with) => {
            found = Some(with);
            ControlFlow::Break(())
        }
    };
    let _ = walk(tree, &mut Expressions(&mut see));
    found.map_or(ControlFlow::Continue(()), ControlFlow::Break)
}

/// Whether some expression in the tree is such.
pub(crate) fn any<T: Visit>(tree: &T, mut is_such: impl FnMut(&Expr) -> bool) -> bool {
    let see = |expr: &Expr| if is_such(expr) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    expressions(tree, see).is_break()
}

/// Hands over every expression, an inner one before those around it.
pub(crate) fn expressions_mut<T: VisitMut>(tree: &mut T, mut change: impl FnMut(&mut Expr)) {
    let _ = walk_mut(tree, &mut ExpressionsMut(&mut change));
}

/// Names of one word that stand for relations or columns, each once.
pub(crate) fn words(statement: &crate::statement::Statement) -> Vec<Ident> {
    use crate::statement::Statement as Ours;
    let mut words = Words::default();
    let _ = match statement {
        Ours::Sql(tree) => walk(tree.as_ref(), &mut words),
        Ours::Describe(query) | Ours::Summarize(query) => walk(query.as_ref(), &mut words),
        Ours::Copy(copy) => walk(copy.query.as_ref(), &mut words),
        Ours::Explain(explain) => return self::words(&explain.statement),
        _ => ControlFlow::Continue(()),
    };
    words.0
}

#[derive(Default)]
struct Words(Vec<Ident>);

impl Words {
    fn add(&mut self, word: &Ident) {
        if !self.0.contains(word) {
            self.0.push(word.clone());
        }
    }
}

impl Visitor for Words {
    type Break = ();

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        if let [ObjectNamePart::Identifier(word)] = name.0.as_slice() {
            self.add(word);
        }
        ControlFlow::Continue(())
    }

    /// A search's table is an argument, and so an expression.
    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Identifier(word) = expr {
            self.add(word);
        }
        ControlFlow::Continue(())
    }
}

/// Passes on all that a walk meets.
macro_rules! passing_on {
    ($($name:ident: $node:ty,)*) => {
        $(fn $name(&mut self, node: $node) -> ControlFlow<Self::Break> {
            self.0.$name(node)
        })*
    };
}

struct Passing<'a>(&'a mut dyn Visitor<Break = ()>);

impl Visitor for Passing<'_> {
    type Break = ();

    passing_on! {
        pre_visit_query: &Query,
        post_visit_query: &Query,
        pre_visit_select: &Select,
        post_visit_select: &Select,
        pre_visit_relation: &ObjectName,
        post_visit_relation: &ObjectName,
        pre_visit_table_factor: &TableFactor,
        post_visit_table_factor: &TableFactor,
        pre_visit_expr: &Expr,
        post_visit_expr: &Expr,
        pre_visit_statement: &Statement,
        post_visit_statement: &Statement,
        pre_visit_value: &ValueWithSpan,
        post_visit_value: &ValueWithSpan,
    }
}

struct PassingMut<'a>(&'a mut dyn VisitorMut<Break = Stop>);

impl VisitorMut for PassingMut<'_> {
    type Break = Stop;

    passing_on! {
        pre_visit_query: &mut Query,
        post_visit_query: &mut Query,
        pre_visit_select: &mut Select,
        post_visit_select: &mut Select,
        pre_visit_relation: &mut ObjectName,
        post_visit_relation: &mut ObjectName,
        pre_visit_table_factor: &mut TableFactor,
        post_visit_table_factor: &mut TableFactor,
        pre_visit_expr: &mut Expr,
        post_visit_expr: &mut Expr,
        pre_visit_statement: &mut Statement,
        post_visit_statement: &mut Statement,
        pre_visit_value: &mut ValueWithSpan,
        post_visit_value: &mut ValueWithSpan,
    }
}

struct Expressions<'a>(&'a mut dyn FnMut(&Expr) -> ControlFlow<()>);

impl Visitor for Expressions<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        (self.0)(expr)
    }
}

struct ExpressionsMut<'a>(&'a mut dyn FnMut(&mut Expr));

impl VisitorMut for ExpressionsMut<'_> {
    type Break = Stop;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Stop> {
        (self.0)(expr);
        ControlFlow::Continue(())
    }
}
