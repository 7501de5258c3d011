//! Spark's join with the nearest rows:
//!
//! ```sql
//! FROM queries q JOIN docs d APPROX NEAREST 5 BY DISTANCE q.vec <=> d.embedding
//! FROM queries q LEFT JOIN docs d EXACT NEAREST BY SIMILARITY inner_product(q.vec, d.embedding)
//! ```
//!
//! The parser of statements, which has no such clause, is given a join condition instead, that begins with a call
//! ([`NEAREST`]): `ON __nearest('approx', 5, 'distance') OR q.vec <=> d.embedding`. Nothing binds looser than `OR`, so
//! what follows it is the whole expression. The join then becomes a search per row:
//!
//! ```sql
//! FROM queries q CROSS JOIN LATERAL (SELECT * FROM docs d ORDER BY <marker of q.vec <=> d.embedding> LIMIT 5) AS d
//! ```
//!
//! Rows without a distance are no results, as everywhere under the word nearest. Without a number it is one row.
//! `APPROX` allows an index and `EXACT` does not.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Join, JoinConstraint,
    JoinOperator, LimitClause, ObjectNamePart, OrderByKind, Query, SetExpr, Spanned, Statement, TableAlias,
    TableFactor, TableWithJoins, Value, ValueWithSpan,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use triune_common::{Error, Result};

use super::{check, position_of};
use crate::marker::MARKER_NAME;

/// The function that a join's condition begins with in the place of `{APPROX | EXACT} NEAREST k BY {DISTANCE |
/// SIMILARITY}`; its arguments are `'approx'` or `'exact'`, k, and `'distance'` or `'similarity'`.
pub const NEAREST: &str = "__nearest";

/// In the place of a column's name among the marker's arguments.
pub(crate) const NEAREST_KEY: &str = "<nearest>";

/// Rewrites every join of one relation in a `FROM` that has such a condition.
///
/// # Errors
/// `Invalid` for a number of rows that is none; `Unsupported` for other joins than JOIN and LEFT JOIN, and for
/// relations without a name.
pub fn desugar_nearest(from: &mut TableWithJoins) -> Result<()> {
    from.joins.iter_mut().try_for_each(join)
}

/// What was written before the expression.
struct Clause {
    k: Expr,
    is_similarity: bool,
    is_exact: bool,
    key: Expr,
}

fn join(join: &mut Join) -> Result<()> {
    let place = position_of(join.relation.span());
    let (constraint, is_left) = match &mut join.join_operator {
        JoinOperator::Join(c) | JoinOperator::Inner(c) => (c, Some(false)),
        JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (c, Some(true)),
        JoinOperator::Right(c)
        | JoinOperator::RightOuter(c)
        | JoinOperator::FullOuter(c)
        | JoinOperator::CrossJoin(c)
        | JoinOperator::Semi(c)
        | JoinOperator::LeftSemi(c)
        | JoinOperator::RightSemi(c)
        | JoinOperator::Anti(c)
        | JoinOperator::LeftAnti(c)
        | JoinOperator::RightAnti(c)
        | JoinOperator::StraightJoin(c) => (c, None),
        _ => return Ok(()),
    };
    let Some(clause) = taken(constraint)? else { return Ok(()) };
    let Some(is_left) = is_left else {
        return Err(Error::unsupported("NEAREST is supported in JOIN and LEFT JOIN only").at(place));
    };
    let alias = match &join.relation {
        TableFactor::Table { name, alias, .. } => {
            let own = name.0.last().and_then(ObjectNamePart::as_ident).cloned();
            alias.as_ref().map(|a| a.name.clone()).or(own)
        }
        TableFactor::Derived { alias, .. } | TableFactor::Function { alias, .. } => {
            alias.as_ref().map(|a| a.name.clone())
        }
        _ => None,
    };
    let Some(name) = alias else {
        return Err(Error::unsupported("the relation joined with NEAREST has no name")
            .with_hint("a table or a sub-query with an alias is accepted")
            .at(place));
    };
    let mut subquery = Box::new(template()?);
    fill(&mut subquery, clause, &mut join.relation)?;
    let alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
    join.relation = TableFactor::Derived { lateral: true, subquery, alias, sample: None };
    join.join_operator = if is_left {
        let always = Expr::Value(Value::Boolean(true).with_empty_span());
        JoinOperator::Left(JoinConstraint::On(always))
    } else {
        JoinOperator::CrossJoin(JoinConstraint::None)
    };
    Ok(())
}

/// Takes the clause out of a join's condition if it begins with one.
fn taken(constraint: &mut JoinConstraint) -> Result<Option<Clause>> {
    let JoinConstraint::On(condition) = constraint else { return Ok(None) };
    let mut at = &*condition;
    let mut below = 0;
    while let Expr::BinaryOp { left, op: BinaryOperator::Or, .. } = at {
        at = left;
        below += 1;
    }
    let Expr::Function(call) = at else { return Ok(None) };
    let [ObjectNamePart::Identifier(name)] = call.name.0.as_slice() else { return Ok(None) };
    if name.value != NEAREST || below == 0 {
        return Ok(None);
    }
    let place = position_of(name.span);
    if below > 1 {
        return Err(Error::invalid("NEAREST … BY takes a distance, no condition with OR").at(place));
    }
    let Some([how, k, what]) = args_of(call) else { return Ok(None) };
    let is = |expr: &Expr, word: &str| matches!(expr, Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(t), .. }) if t == word);
    let (is_similarity, is_exact) = (is(what, "similarity"), is(how, "exact"));
    let k = check::k("NEAREST", k.clone(), position_of(k.span()).or(place))?;
    let Expr::BinaryOp { right, .. } = condition else { return Ok(None) };
    Ok(Some(Clause { k, is_similarity, is_exact, key: right.as_ref().clone() }))
}

fn args_of(call: &Function) -> Option<[&Expr; 3]> {
    let FunctionArguments::List(list) = &call.args else { return None };
    let args: Vec<&Expr> = list
        .args
        .iter()
        .map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        })
        .collect::<Option<_>>()?;
    args.try_into().ok()
}

fn broken() -> Error {
    Error::internal("the template of a join with the nearest rows no longer parses")
}

fn template() -> Result<Query> {
    let text = format!(
        "SELECT * FROM __t ORDER BY {MARKER_NAME}('{NEAREST_KEY}', __key, 'distance', '{{}}') NULLS LAST LIMIT 1"
    );
    let statement = Parser::parse_sql(&GenericDialect {}, &text).map_err(|e| broken().with_source(e))?.pop();
    match statement {
        Some(Statement::Query(query)) => Ok(*query),
        _ => Err(broken()),
    }
}

fn fill(query: &mut Query, clause: Clause, relation: &mut TableFactor) -> Result<()> {
    let SetExpr::Select(select) = query.body.as_mut() else { return Err(broken()) };
    let from = select.from.first_mut().ok_or_else(broken)?;
    std::mem::swap(&mut from.relation, relation);
    let Some(LimitClause::LimitOffset { limit, .. }) = &mut query.limit_clause else { return Err(broken()) };
    *limit = Some(clause.k);
    let Some(OrderByKind::Expressions(keys)) = query.order_by.as_mut().map(|o| &mut o.kind) else {
        return Err(broken());
    };
    let Some(Expr::Function(Function { args: FunctionArguments::List(list), .. })) =
        keys.first_mut().map(|k| &mut k.expr)
    else {
        return Err(broken());
    };
    let [_, key, what, how] = list.args.as_mut_slice() else { return Err(broken()) };
    let given = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    *key = given(clause.key);
    if clause.is_similarity {
        *what = given(super::text("similarity"));
    }
    if clause.is_exact {
        *how = given(super::text("exact"));
    }
    Ok(())
}
