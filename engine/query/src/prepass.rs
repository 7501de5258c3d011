//! What happens to a statement's tree before DataFusion plans it.
//!
//! | written | becomes |
//! |---|---|
//! | `x::VECTOR(3)`, `'[1,2]'::float[2]` | `to_vector(x, 'VECTOR(3)')` |
//! | `x::UUID`, `CAST(x AS JSON)` | `to_uuid(x)`, `to_json_text(x)` |
//! | `FROM t AT (VERSION => 3)` | the relation `t@{version=3}` under the alias `t` |
//! | `FROM vector_search(t, …)` | a derived table with a marker (see `triune_search::desugar`) |
//! | `q JOIN d APPROX NEAREST 5 BY DISTANCE …` | a lateral join with a search (see `triune_search::desugar_nearest`) |
//! | `FROM hybrid_search(t, …)`, `rrf(…)` | a derived table over searches, with a marker (`triune_search::fusion`) |
//! | `time_bucket('1 day', ts, origin => …)` | the same call by position |
//! | `snippet(body, 'words', open => '[')` | the same call with one argument for all that have names |
//! | `FROM t TABLESAMPLE BERNOULLI (10)` | `FROM (SELECT * FROM t WHERE random() < 0.1) AS t` |
//! | `(SELECT a + 1)` in an expression | `(a + 1)` ([`subqueries`]) |
//! | `x SIMILAR TO 'a%'` | `x SIMILAR TO '^(?s:a.*)$'`, which DataFusion takes for a regular expression ([`similar`]) |
//! | `t AT TIME ZONE z`, `arg_max(a, b)`, `year(t)` … | `timezone(z, t)`, `last(a, b) IGNORE NULLS`, `date_part('year', t)` … ([`triune_standard::macros`]) |
//! | `x LIKE 'a!%' ESCAPE '!'` | the pattern with backslashes ([`like`]) |
//! | `FROM read_csv('f')`, `SEMI JOIN`, `GROUP BY ()`, `COLLATE "C"` | [`familiar`] |
//! | `2.5::int` | `CAST('2.5' AS DECIMAL(2, 1))::int` ([`decimals`]) |
//! | `FETCH FIRST 3 ROWS ONLY` | `LIMIT 3` |
//! | `FROM t` | `SELECT * FROM t` |
//! | `a FULL JOIN b USING (k)` | `a FULL JOIN b ON a.k = b.k`, `k` is `coalesce(a.k, b.k)` ([`merged`]) |
//! | `SELECT a <-> b, a, a` | the same, each column under a name of its own ([`labels`]) |
//! | clauses that DataFusion would silently drop | an error that names them ([`refuse`]) |

mod casts;
mod decimals;
mod familiar;
mod forms;
mod information;
pub(crate) mod labels;
mod like;
mod merged;
mod refuse;
mod sample;
mod similar;
mod subqueries;
pub(crate) mod versions;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Expr, Query, Select, Spanned, TableFactor, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use triune_common::Result;

use crate::parser;
use crate::visit::{Stop, walk_mut};
use labels::ColumnNames;

/// Rewrites the tree in place; the first problem ends it.
pub(crate) fn prepare<T: VisitMut>(tree: &mut T) -> Result<()> {
    prepare_with(tree, &ColumnNames::default())
}

/// The same with a wish about the names of columns.
pub(crate) fn prepare_with<T: VisitMut>(tree: &mut T, names: &ColumnNames) -> Result<()> {
    match walk_mut(tree, &mut Prepass { depth: subqueries::Depth::default(), names, at_top: true }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

#[derive(Debug)]
struct Prepass<'a> {
    depth: subqueries::Depth,
    names: &'a ColumnNames,
    /// Whether the next query is the outermost one.
    at_top: bool,
}

fn step(result: Result<()>) -> ControlFlow<Stop> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

impl VisitorMut for Prepass<'_> {
    type Break = Stop;

    fn pre_visit_statement(&mut self, statement: &mut ast::Statement) -> ControlFlow<Self::Break> {
        step(refuse::statement(statement))
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let at_top = std::mem::take(&mut self.at_top);
        step(refuse::query(query).and_then(|()| self.names.rewrite_query(query, at_top)))
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        familiar::select(select);
        step(
            select
                .from
                .iter_mut()
                .try_for_each(triune_search::desugar_nearest)
                .and_then(|()| refuse::select(select))
                .and_then(|()| merged::rewrite(select))
                .map(|()| drop(self.names.rewrite(select, false))),
        )
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        information::rewrite(factor);
        let within = match factor {
            TableFactor::NestedJoin { table_with_joins, .. } => {
                triune_search::desugar_nearest(table_with_joins)
            }
            _ => Ok(()),
        };
        step(
            within
                .and_then(|()| familiar::table_factor(factor))
                .and_then(|()| sample::rewrite(factor))
                .and_then(|()| triune_search::desugar_table_factor(factor))
                .and_then(|_| versions::rewrite(factor))
                .and_then(|()| refuse::table_factor(factor)),
        )
    }

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<Self::Break> {
        // Decoded by the tokenizer; the planner knows plain texts only.
        if let Value::UnicodeStringLiteral(text) = &mut value.value {
            value.value = Value::SingleQuotedString(std::mem::take(text));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        self.depth.enter(expr);
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let at = parser::position(function.name.span().start);
        step(
            triune_timeseries::desugar_call(function)
                .and_then(|()| triune_search::desugar_call(function))
                .map_err(|e| e.at(at)),
        )
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        decimals::rewrite(expr);
        step(
            self.depth
                .leave(expr)
                .and_then(|()| refuse::expr(expr))
                .and_then(|()| familiar::expr(expr))
                .and_then(|()| forms::rewrite(expr))
                .and_then(|()| casts::rewrite(expr))
                .and_then(|()| like::rewrite(expr))
                .and_then(|()| similar::rewrite(expr))
                .and_then(|()| triune_standard::desugar(expr)),
        )
    }
}

#[cfg(test)]
mod tests;
