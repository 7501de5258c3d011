//! `INTERSECT ALL` and `EXCEPT ALL` count.
//!
//! ```text
//!  (1, 1, 1, 2) INTERSECT ALL (1, 1, 3)  →  1, 1         (1, 1, 1, 2) EXCEPT ALL (1, 1, 3)  →  1, 2
//! ```
//!
//! DataFusion 54 plans them as a semi join and an anti join, which keep all rows of the left side that have one like
//! them on the right side, or none. The rule numbers equal rows on both sides and joins by the number too: the n-th 1
//! of the left side meets the n-th 1 of the right side.
//!
//! *Fires* on semi and anti joins that take NULLs for equal, compare all columns in their order and have no further
//! condition: statements cannot ask for such a join in another way. Without ALL the left side is made distinct first.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, JoinType, NullEquality, Result};
use datafusion::config::ConfigOptions;
use datafusion::functions_window::row_number::row_number;
use datafusion::logical_expr::{Expr, ExprFunctionExt, Join, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::analyzer::AnalyzerRule;

/// The rule; it must come before any that makes joins.
#[derive(Debug, Default)]
pub(crate) struct CountedSets {}

impl AnalyzerRule for CountedSets {
    fn name(&self) -> &str {
        "counted_sets"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(rewrite)?.data)
    }
}

const LEFT: &str = "__triune_nth_left";
const RIGHT: &str = "__triune_nth_right";

fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Join(join) = plan else { return Ok(Transformed::no(plan)) };
    let Some((left_keys, right_keys)) = keys(&join) else {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    };
    let columns: Vec<Expr> = join.schema.columns().into_iter().map(Expr::Column).collect();
    let left = numbered(LogicalPlan::clone(&join.left), LEFT)?;
    let right = numbered(LogicalPlan::clone(&join.right), RIGHT)?;
    let keys = (
        left_keys.into_iter().chain([Column::from_name(LEFT)]).collect::<Vec<_>>(),
        right_keys.into_iter().chain([Column::from_name(RIGHT)]).collect::<Vec<_>>(),
    );
    LogicalPlanBuilder::from(left)
        .join_detailed(right, join.join_type, keys, None, NullEquality::NullEqualsNull)?
        .project(columns)?
        .build()
        .map(Transformed::yes)
}

/// The keys of a join that stands for a set operation with ALL.
fn keys(join: &Join) -> Option<(Vec<Column>, Vec<Column>)> {
    let is_set = matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && join.filter.is_none()
        && join.on.len() == join.left.schema().fields().len()
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(_));
    if !is_set {
        return None;
    }
    join.on
        .iter()
        .zip(join.left.schema().columns())
        .map(|(pair, column)| match pair {
            (Expr::Column(left), Expr::Column(right)) if *left == column => {
                Some((left.clone(), right.clone()))
            }
            _ => None,
        })
        .collect::<Option<Vec<_>>>()
        .map(|pairs| pairs.into_iter().unzip())
}

/// The plan with one column more: the number of a row among those like it.
fn numbered(plan: LogicalPlan, name: &str) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
    let number = row_number().partition_by(columns.clone()).build()?;
    let numbered = LogicalPlanBuilder::from(plan).window([number])?.build()?;
    let Some(number) = numbered.schema().columns().pop() else {
        return datafusion::common::internal_err!("a window has no column");
    };
    let items = columns.into_iter().chain([Expr::Column(number).alias(name)]);
    LogicalPlanBuilder::from(numbered).project(items)?.build()
}

#[cfg(test)]
mod tests {
    use triune_common::SeededRng;

    use crate::Database;
    use crate::testing::texts;

    /// Against counting, on random sides of small numbers and NULL.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn rows_are_counted() {
        let session = Database::open(None).await.unwrap().session();
        let rng = SeededRng::new(7);
        for _ in 0..40 {
            let side = || -> Vec<String> {
                (0..1 + rng.below(9))
                    .map(|_| match rng.below(4) {
                        0 => "NULL".to_owned(),
                        n => n.to_string(),
                    })
                    .collect()
            };
            let (left, right) = (side(), side());
            let values = |side: &[String]| {
                let rows: Vec<String> = side.iter().map(|v| format!("({v}::INT, 'a')")).collect();
                format!("SELECT * FROM (VALUES {}) AS s(x, t)", rows.join(", "))
            };
            for (operator, intersects, all) in [
                ("INTERSECT ALL", true, true),
                ("EXCEPT ALL", false, true),
                ("INTERSECT", true, false),
                ("EXCEPT", false, false),
            ] {
                let mut expected = Vec::new();
                for value in ["1", "2", "3", "NULL"] {
                    let count = |side: &[String]| side.iter().filter(|v| *v == value).count();
                    let (l, r) = (count(&left), count(&right));
                    let times = match (intersects, all) {
                        (true, true) => l.min(r),
                        (false, true) => l.saturating_sub(r),
                        (true, false) => usize::from(l > 0 && r > 0),
                        (false, false) => usize::from(l > 0 && r == 0),
                    };
                    expected.extend(std::iter::repeat_n(format!("{value} a"), times));
                }
                let sql =
                    format!("({}) {operator} ({}) ORDER BY 1 NULLS LAST", values(&left), values(&right));
                assert_eq!(texts(&session, &sql).await, expected, "{sql}");
            }
        }
    }
}
