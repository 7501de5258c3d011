//! `IN` and `EXISTS` with a sub-query, where DataFusion gives wrong answers or none.
//!
//! ```sql
//! SELECT * FROM t WHERE v NOT IN (SELECT w FROM u);              -- no row when a w is NULL
//! SELECT * FROM t WHERE v NOT IN (SELECT w FROM u) OR v > 9;     -- NULL where SQL says NULL
//! SELECT id, v IN (SELECT w FROM u), EXISTS (SELECT 1 FROM u WHERE w = v) FROM t;
//! ```
//!
//! `x IN (S)` is true when an element is `x`, else NULL when `x` is NULL and S has rows or an element is NULL, else
//! false. DataFusion knows that for `NOT IN` as a condition of its own only; elsewhere it makes of both a mark that is
//! true or false, and in a select list it knows neither. The rule writes the definition out:
//!
//! ```text
//!  x IN (S)  →  CASE WHEN found(S where element = x) THEN true
//!                    WHEN x IS NULL AND found(S) OR found(S where element IS NULL) THEN NULL ELSE false END
//! ```
//!
//! `found` is EXISTS in a condition and `(SELECT count(*) …) > 0` in a select list. What can hold no NULL is left out.
//!
//! [`KeepsNulls`] is about the join that DataFusion does have for `NOT IN`: it sends the range of its left keys down to
//! the scan of S, which then leaves out the NULLs that the join must see.
//!
//! Limits: sub-queries that look out over two levels stay as they are; those that are not correlated by `=` are refused
//! in a select list.

mod keeps_nulls;

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ExprSchema, Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::functions_aggregate::count::count;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Subquery, lit, when,
};
use datafusion::optimizer::analyzer::AnalyzerRule;

pub(crate) use keeps_nulls::{FilterBarrierExec, KeepsNulls};

/// The rule; it must run after type coercion.
#[derive(Debug, Default)]
pub(crate) struct Membership {}

impl AnalyzerRule for Membership {
    fn name(&self) -> &str {
        "membership"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(rewrite_node)?.data)
    }
}

/// How it is asked whether a sub-query has rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Exists,
    Count,
}

fn rewrite_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut asks = false;
    plan.apply_expressions(|expr| {
        asks |= expr.exists(|e| Ok(matches!(e, Expr::InSubquery(_) | Expr::Exists(_))))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !asks {
        return Ok(Transformed::no(plan));
    }
    match plan {
        LogicalPlan::Filter(filter) => {
            let schema = Arc::clone(filter.input.schema());
            let parts = split_conjunction_owned(filter.predicate);
            let parts = parts.into_iter().map(|part| condition(part, &schema)).collect::<Result<Vec<_>>>()?;
            let predicate = conjunction(parts).unwrap_or_else(|| lit(true));
            Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)))
        }
        LogicalPlan::Projection(_) => {
            let schema = merge_schema(&plan.inputs());
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let done = expr.transform_up(|e| written_out(e, &schema, How::Count))?;
                Ok(done.update_data(|e| name.restore(e)))
            })
        }
        other => Ok(Transformed::no(other)),
    }
}

/// One of the conditions of a WHERE, which drops rows for false and for NULL alike.
fn condition(part: Expr, schema: &DFSchema) -> Result<Expr> {
    let part = match part {
        Expr::Not(inner) => match *inner {
            Expr::InSubquery(of) => Expr::InSubquery(InSubquery { negated: !of.negated, ..of }),
            other => Expr::Not(Box::new(other)),
        },
        other => other,
    };
    match &part {
        Expr::Exists(_) | Expr::InSubquery(InSubquery { negated: false, .. }) => Ok(part),
        // The join knows NULL when it has one key only.
        Expr::InSubquery(of) if of.subquery.outer_ref_columns.is_empty() => Ok(part),
        _ => Ok(part.transform_up(|e| written_out(e, schema, How::Exists))?.data),
    }
}

/// The definition in the place of a membership; `expr` itself where it is right already.
fn written_out(expr: Expr, schema: &DFSchema, how: How) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Exists(Exists { subquery, negated }) if how == How::Count => {
            let found = found(&subquery, None, how)?;
            Ok(Transformed::yes(if negated { Expr::Not(Box::new(found)) } else { found }))
        }
        Expr::InSubquery(of) => match membership(&of, schema, how)? {
            Some(value) => Ok(Transformed::yes(if of.negated { Expr::Not(Box::new(value)) } else { value })),
            None => Ok(Transformed::no(Expr::InSubquery(of))),
        },
        other => Ok(Transformed::no(other)),
    }
}

fn membership(of: &InSubquery, schema: &DFSchema, how: How) -> Result<Option<Expr>> {
    let (x, s) = (of.expr.as_ref(), &of.subquery);
    let Some((qualifier, field)) = s.subquery.schema().iter().next() else { return Ok(None) };
    let element = Expr::Column((qualifier, field).into());
    let (x_null, element_null) = (x.nullable(schema)?, field.is_nullable());
    let simple = how == How::Exists && !x_null && !element_null && !of.negated;
    let Some((outside, columns)) = outer(x, schema)? else { return Ok(None) };
    if simple {
        return Ok(None);
    }
    let mut same = s.clone();
    for column in columns {
        if !same.outer_ref_columns.contains(&column) {
            same.outer_ref_columns.push(column);
        }
    }
    let is_in = found(&same, Some(element.clone().eq(outside)), how)?;
    let mut unknown = Vec::new();
    if x_null {
        unknown.push(x.clone().is_null().and(found(s, None, how)?));
    }
    if element_null {
        unknown.push(found(s, Some(element.is_null()), how)?);
    }
    let Some(unknown) = unknown.into_iter().reduce(Expr::or) else { return Ok(Some(is_in)) };
    let nothing = Expr::Literal(ScalarValue::Boolean(None), None);
    Ok(Some(when(is_in, lit(true)).when(unknown, nothing).otherwise(lit(false))?))
}

/// An expression as a sub-query of its row sees it, and the columns that it takes from there; `None` when it looks
/// further out itself.
fn outer(expr: &Expr, schema: &DFSchema) -> Result<Option<(Expr, Vec<Expr>)>> {
    let mut columns = Vec::new();
    let mut further = false;
    let done = expr.clone().transform_up(|e| match e {
        Expr::Column(column) => {
            let field = Arc::clone(schema.field_from_column(&column)?);
            let outside = Expr::OuterReferenceColumn(field, column);
            columns.push(outside.clone());
            Ok(Transformed::yes(outside))
        }
        Expr::OuterReferenceColumn(..) | Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => {
            further = true;
            Ok(Transformed::no(e))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok((!further).then_some((done.data, columns)))
}

/// Whether the sub-query has rows for which the condition holds.
fn found(s: &Subquery, filter: Option<Expr>, how: How) -> Result<Expr> {
    let correlated = !s.outer_ref_columns.is_empty();
    let mut plan = LogicalPlanBuilder::from(s.subquery.as_ref().clone());
    if let Some(filter) = filter {
        plan = plan.filter(filter)?;
    }
    if correlated && how == How::Exists {
        let subquery = s.with_plan(Arc::new(plan.build()?));
        return Ok(Expr::Exists(Exists { subquery, negated: false }));
    }
    // One row says enough; asked once for the statement.
    if !correlated {
        plan = plan.limit(0, Some(1))?;
    }
    let plan = plan.aggregate(Vec::<Expr>::new(), vec![count(lit(1_i64))])?.build()?;
    let number = Expr::ScalarSubquery(s.with_plan(Arc::new(plan)));
    debug_assert_eq!(number.get_type(&DFSchema::empty()).ok(), Some(DataType::Int64));
    Ok(number.gt(lit(0_i64)))
}

#[cfg(test)]
mod tests {
    use crate::Database;
    use crate::testing::texts;

    /// Against the definition, on every set of three elements and every value of 1, 2, 3 and NULL.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn null_is_neither_in_nor_not_in() {
        let values = [Some(1), Some(2), Some(3), None];
        let word = |v: Option<i32>| v.map_or_else(|| "NULL".to_owned(), |v| v.to_string());
        let session = Database::open(None).await.unwrap().session();
        for sql in
            ["CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE u (id INT PRIMARY KEY, w INT)"]
        {
            session.execute(sql).await.unwrap();
        }
        session.execute("INSERT INTO t VALUES (0, 1), (1, 2), (2, 3), (3, NULL)").await.unwrap();
        let sets: [&[Option<i32>]; 6] =
            [&[], &[None], &[Some(1)], &[Some(1), None], &[Some(1), Some(2)], &[Some(3), None, Some(3)]];
        for set in sets {
            session.execute("TRUNCATE u").await.unwrap();
            for (i, w) in set.iter().enumerate() {
                session.execute(&format!("INSERT INTO u VALUES ({i}, {})", word(*w))).await.unwrap();
            }
            let is_in = |v: Option<i32>| match v {
                _ if set.is_empty() => Some(false),
                Some(v) if set.contains(&Some(v)) => Some(true),
                Some(_) if !set.contains(&None) => Some(false),
                _ => None,
            };
            let ids = |keep: &dyn Fn(Option<i32>) -> bool| -> Vec<String> {
                (0..4).filter(|i| keep(values[*i])).map(|i| i.to_string()).collect()
            };
            let s = "(SELECT w FROM u)";
            // Correlated: `u.id < 9` holds for all, and `0 * t.id` makes it look out.
            let correlated = "(SELECT w FROM u WHERE u.id >= 0 AND 0 * u.id = 0 * t.id)";
            for s in [s, correlated] {
                for (where_, keep) in [
                    (format!("v IN {s}"), &(|v| is_in(v) == Some(true)) as &dyn Fn(Option<i32>) -> bool),
                    (format!("v NOT IN {s}"), &|v| is_in(v) == Some(false)),
                    (format!("NOT (v IN {s})"), &|v| is_in(v) == Some(false)),
                    (format!("v NOT IN {s} OR id < 0"), &|v| is_in(v) == Some(false)),
                    (format!("(v IN {s}) IS NULL"), &|v| is_in(v).is_none()),
                    (format!("NOT (v IN {s} OR id < 0)"), &|v| is_in(v) == Some(false)),
                    (format!("v NOT IN {s} AND id >= 0"), &|v| is_in(v) == Some(false)),
                ] {
                    let sql = format!("SELECT id FROM t WHERE {where_} ORDER BY id");
                    assert_eq!(texts(&session, &sql).await, ids(keep), "{sql} of {set:?}");
                }
                // DataFusion does not run a correlated one in a select list.
                if s == correlated {
                    continue;
                }
                for (item, of) in [
                    (format!("v IN {s}"), &(|v| is_in(v)) as &dyn Fn(Option<i32>) -> Option<bool>),
                    (format!("v NOT IN {s}"), &|v| is_in(v).map(|b| !b)),
                    (format!("EXISTS {s}"), &|_| Some(!set.is_empty())),
                    (format!("CASE WHEN NOT EXISTS {s} THEN true END"), &|_| set.is_empty().then_some(true)),
                ] {
                    let sql = format!("SELECT {item} FROM t ORDER BY id");
                    let expected: Vec<String> = values
                        .iter()
                        .map(|v| of(*v).map_or_else(|| "NULL".to_owned(), |b| b.to_string()))
                        .collect();
                    assert_eq!(texts(&session, &sql).await, expected, "{sql} of {set:?}");
                }
            }
        }
    }

    /// A value and its elements of different types, and more rows than one partition has.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_null_among_many_rows_is_seen() {
        let session = Database::open(None).await.unwrap().session();
        for sql in [
            "CREATE TABLE t (id BIGINT PRIMARY KEY, v SMALLINT)",
            "CREATE TABLE u (id BIGINT PRIMARY KEY, w BIGINT)",
            "INSERT INTO t SELECT value, value % 100 FROM generate_series(1, 40000)",
            "INSERT INTO u SELECT value, value % 90 FROM generate_series(1, 60000)",
        ] {
            session.execute(sql).await.unwrap();
        }
        let sql = "SELECT count(*) FROM t WHERE v NOT IN (SELECT w FROM u)";
        assert_eq!(texts(&session, sql).await, ["4000"]);
        session.execute("INSERT INTO u VALUES (0, NULL)").await.unwrap();
        assert_eq!(texts(&session, sql).await, ["0"]);
    }
}
