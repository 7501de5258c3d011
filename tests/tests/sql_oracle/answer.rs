//! What a statement answers, in the few types that both know.

use std::cmp::Ordering;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use triune_common::{Error, ErrorKind};
use triune_query::{Session, Tag};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    /// Also booleans, as 0 and 1.
    Int(i64),
    Real(f64),
    Text(String),
}

#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Rows(Vec<Vec<Value>>),
    Count(u64),
    Error(String),
    /// Refused as unsupported, by Triune only.
    Unsupported(String),
}

impl Answer {
    /// Whether two answers say the same; rows in any order unless the statement orders them.
    pub(crate) fn agrees(&self, other: &Self, ordered: bool) -> bool {
        match (self, other) {
            (Self::Rows(a), Self::Rows(b)) => {
                let (mut a, mut b) = (a.clone(), b.clone());
                if !ordered {
                    a.sort_by(|x, y| compare_rows(x, y));
                    b.sort_by(|x, y| compare_rows(x, y));
                }
                a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| same_row(x, y))
            }
            (Self::Count(a), Self::Count(b)) => a == b,
            (Self::Error(_), Self::Error(_)) => true,
            _ => false,
        }
    }
}

fn same_row(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

/// Numbers are the same when they differ by a rounding: sums of many numbers are taken in another order.
fn same(a: &Value, b: &Value) -> bool {
    let number = |v: &Value| match v {
        Value::Int(n) => Some(*n as f64),
        Value::Real(n) => Some(*n),
        _ => None,
    };
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a == b,
        _ => match (number(a), number(b)) {
            (Some(a), Some(b)) => a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
            _ => a == b,
        },
    }
}

fn compare_rows(a: &[Value], b: &[Value]) -> Ordering {
    let rank = |v: &Value| match v {
        Value::Null => 0,
        Value::Int(_) | Value::Real(_) => 1,
        Value::Text(_) => 2,
    };
    let compare = |a: &Value, b: &Value| match (a, b) {
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Real(a), Value::Int(b)) => a.total_cmp(&(*b as f64)),
        (Value::Int(a), Value::Real(b)) => (*a as f64).total_cmp(b),
        (Value::Real(a), Value::Real(b)) => a.total_cmp(b),
        _ => rank(a).cmp(&rank(b)),
    };
    a.iter().zip(b).map(|(a, b)| compare(a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
}

/// Runs a statement in a session of Triune's.
pub(crate) async fn run(session: &Session, sql: &str) -> Answer {
    let result = match session.execute(sql).await {
        Ok(result) => result,
        Err(e) => return failed(&e, sql),
    };
    if let Tag::Command { rows, .. } = result.tag() {
        return Answer::Count(rows.unwrap_or(0));
    }
    match result.collect().await {
        Ok(batches) => Answer::Rows(batches.iter().flat_map(rows).collect()),
        Err(e) => failed(&e, sql),
    }
}

fn failed(e: &Error, sql: &str) -> Answer {
    let text = format!("{}: {}", e.kind(), e.message());
    assert_ne!(e.kind(), ErrorKind::Internal, "{text}\n{sql}");
    if e.kind() == ErrorKind::Unsupported { Answer::Unsupported(text) } else { Answer::Error(text) }
}

fn rows(batch: &RecordBatch) -> Vec<Vec<Value>> {
    let columns: Vec<Vec<Value>> = batch.columns().iter().map(|c| values(c.as_ref())).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|c| c[row].clone()).collect()).collect()
}

fn values(column: &dyn Array) -> Vec<Value> {
    let cast = |to: &DataType| cast(column, to).expect("a type that both know");
    match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => cast(&DataType::Utf8)
            .as_string::<i32>()
            .iter()
            .map(|v| v.map_or(Value::Null, |s| Value::Text(s.to_owned())))
            .collect(),
        t if t.is_floating() => cast(&DataType::Float64)
            .as_primitive::<Float64Type>()
            .iter()
            .map(|v| v.map_or(Value::Null, Value::Real))
            .collect(),
        _ => cast(&DataType::Int64)
            .as_primitive::<Int64Type>()
            .iter()
            .map(|v| v.map_or(Value::Null, Value::Int))
            .collect(),
    }
}
