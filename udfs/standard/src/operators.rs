//! ```sql
//! date '2024-01-01' + INTERVAL '5 hours'     -- 2024-01-01 05:00:00
//! time '23:30' + INTERVAL '1 hour'           -- 00:30:00
//! 2 ^ 10, name ^@ 'a', tags && ['x', 'y']
//! ```
//!
//! Operators as PostgreSQL has them, where DataFusion has another answer or none.
//!
//! A date with an interval is a TIMESTAMP, so that no time of day is lost. *Deviation*: with a constant interval of
//! months and days only it stays a DATE, which compares alike and lets conditions on columns be pushed down. The time of
//! day wraps at midnight; months and days of the interval do not move it.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Time64NanosecondArray};
use arrow::compute::kernels::arity;
use arrow::datatypes::{DataType, IntervalMonthDayNanoType, IntervalUnit, Time64NanosecondType, TimeUnit};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::sqlparser::ast::BinaryOperator;
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF, cast};

use crate::define::define;

const DAY: i64 = 86_400_000_000_000;
const TIME: DataType = DataType::Time64(TimeUnit::Nanosecond);

/// Plans the operators of this module. Must stand before DataFusion's own planners.
#[derive(Debug, Default, Clone, Copy)]
pub struct StandardExprPlanner;

impl ExprPlanner for StandardExprPlanner {
    /// DataFusion's planner calls its own function, whatever is registered under the name.
    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        let date_part = crate::parts::date_part(&datafusion::functions::datetime::date_part());
        Ok(PlannerResult::Planned(date_part.call(args)))
    }

    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = expr;
        match op {
            BinaryOperator::PGExp => {
                let args = [left, right].map(|e| cast(e, DataType::Float64));
                return Ok(PlannerResult::Planned(datafusion::functions::math::power().call(args.to_vec())));
            }
            BinaryOperator::PGStartsWith => {
                let starts_with = datafusion::functions::string::starts_with();
                return Ok(PlannerResult::Planned(starts_with.call(vec![left, right])));
            }
            BinaryOperator::PGOverlap => {
                // A NULL is no element in common.
                let left = match left.get_type(schema).unwrap_or(DataType::Null) {
                    DataType::List(item) | DataType::LargeList(item) if !item.data_type().is_null() => {
                        datafusion::functions_nested::array_compact::array_compact_udf().call(vec![left])
                    }
                    _ => left,
                };
                let overlap = datafusion::functions_nested::array_has::array_has_any_udf();
                return Ok(PlannerResult::Planned(overlap.call(vec![left, right])));
            }
            BinaryOperator::Plus | BinaryOperator::Minus => {}
            _ => return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        }
        let subtracts = op == BinaryOperator::Minus;
        let type_of = |e: &Expr| e.get_type(schema).unwrap_or(DataType::Null);
        let stamp = |e: Expr| cast(e, DataType::Timestamp(TimeUnit::Nanosecond, None));
        let original =
            |left, right| Ok(PlannerResult::Original(RawBinaryExpr { op: op.clone(), left, right }));
        match (type_of(&left), type_of(&right)) {
            (DataType::Date32 | DataType::Date64, DataType::Interval(_)) if !is_whole_days(&right) => {
                original(stamp(left), right)
            }
            (DataType::Interval(_), DataType::Date32 | DataType::Date64)
                if !subtracts && !is_whole_days(&left) =>
            {
                original(left, stamp(right))
            }
            (DataType::Time32(_) | DataType::Time64(_), DataType::Interval(_)) => {
                Ok(PlannerResult::Planned(moved_time(subtracts).call(vec![left, right])))
            }
            (DataType::Interval(_), DataType::Time32(_) | DataType::Time64(_)) if !subtracts => {
                Ok(PlannerResult::Planned(moved_time(false).call(vec![right, left])))
            }
            _ => original(left, right),
        }
    }
}

/// A constant interval without a time of day.
fn is_whole_days(expr: &Expr) -> bool {
    match expr {
        Expr::Negative(inner) => is_whole_days(inner),
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(i)), _) => i.nanoseconds == 0,
        Expr::Literal(ScalarValue::IntervalDayTime(Some(i)), _) => i.milliseconds == 0,
        Expr::Literal(ScalarValue::IntervalYearMonth(Some(_)), _) => true,
        _ => false,
    }
}

fn moved_time(subtracts: bool) -> Arc<ScalarUDF> {
    let takes = |types: &[DataType]| match types {
        [DataType::Time32(_) | DataType::Time64(_), DataType::Interval(_)] => {
            Some(vec![TIME, DataType::Interval(IntervalUnit::MonthDayNano)])
        }
        _ => None,
    };
    if subtracts {
        define("time_subtract(time, interval)", &[], takes, |_| TIME, |args| move_time(args, -1))
    } else {
        define("time_add(time, interval)", &[], takes, |_| TIME, |args| move_time(args, 1))
    }
}

fn move_time(args: &[ArrayRef], sign: i64) -> Result<ArrayRef> {
    let times = args[0].as_primitive::<Time64NanosecondType>();
    let intervals = args[1].as_primitive::<IntervalMonthDayNanoType>();
    let moved: Time64NanosecondArray =
        arity::binary(times, intervals, |t, i| (t + sign * (i.nanoseconds % DAY)).rem_euclid(DAY))?;
    Ok(Arc::new(moved))
}
