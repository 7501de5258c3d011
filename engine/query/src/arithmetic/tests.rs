//! Random terms against 128-bit arithmetic, and the kernels against Arrow's.

use arrow::array::{Array, AsArray, Datum, Int8Array, UInt8Array};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use triune_common::ErrorKind;

use super::*;
use crate::{Database, Session};

/// A whole-number type with its limits.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Width {
    Tiny,
    Small,
    Int,
    Big,
}

impl Width {
    fn fit(self, value: i128) -> Option<i128> {
        let bits = match self {
            Self::Tiny => 8,
            Self::Small => 16,
            Self::Int => 32,
            Self::Big => 64,
        };
        let limit = 1_i128 << (bits - 1);
        (-limit..limit).contains(&value).then_some(value)
    }
}

#[derive(Debug, Clone)]
enum Term {
    Number(i64),
    /// A column's number.
    Column(usize),
    Negate(Box<Self>),
    Binary(char, Box<Self>, Box<Self>),
}

const COLUMNS: [(&str, Width); 4] =
    [("t", Width::Tiny), ("s", Width::Small), ("i", Width::Int), ("b", Width::Big)];

impl Term {
    fn sql(&self) -> String {
        match self {
            Self::Number(n) => format!("({n})"),
            Self::Column(c) => COLUMNS[*c].0.to_owned(),
            Self::Negate(inner) => format!("(- {})", inner.sql()),
            Self::Binary(op, l, r) => format!("({} {op} {})", l.sql(), r.sql()),
        }
    }

    /// The type and the value; `None` where some step does not fit.
    fn value(&self, row: &[i64; 4]) -> (Width, Option<i128>) {
        match self {
            Self::Number(n) => (Width::Big, Some(i128::from(*n))),
            Self::Column(c) => (COLUMNS[*c].1, Some(i128::from(row[*c]))),
            Self::Negate(inner) => {
                let (width, value) = inner.value(row);
                (width, value.and_then(|v| width.fit(-v)))
            }
            Self::Binary(op, l, r) => {
                let ((lw, l), (rw, r)) = (l.value(row), r.value(row));
                let width = if lw > rw { lw } else { rw };
                let value = l.zip(r).and_then(|(l, r)| {
                    width.fit(match op {
                        '+' => l + r,
                        '-' => l - r,
                        _ => l * r,
                    })
                });
                (width, value)
            }
        }
    }
}

/// Numbers near the limits of every width, and small ones.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        -3..=3_i64,
        Just(i64::MAX),
        Just(i64::MIN),
        any::<i64>(),
        any::<i32>().prop_map(i64::from),
        (0..63_u32, -1..=1_i64).prop_map(|(bits, by)| (1_i64 << bits) + by),
    ]
}

fn term() -> impl Strategy<Value = Term> {
    let leaf = prop_oneof![1 => number().prop_map(Term::Number), 3 => (0..4_usize).prop_map(Term::Column)];
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            1 => inner.clone().prop_map(|t| Term::Negate(Box::new(t))),
            5 => (prop_oneof![Just('+'), Just('-'), Just('*')], inner.clone(), inner)
                .prop_map(|(op, l, r)| Term::Binary(op, Box::new(l), Box::new(r))),
        ]
    })
}

fn row() -> impl Strategy<Value = [i64; 4]> {
    (any::<i8>(), any::<i16>(), any::<i32>(), number())
        .prop_map(|(t, s, i, b)| [i64::from(t), i64::from(s), i64::from(i), b])
        .boxed()
}

fn values(rows: &[[i64; 4]]) -> String {
    let rows: Vec<String> = rows.iter().map(|[t, s, i, b]| format!("({t}, {s}, {i}, {b})")).collect();
    rows.join(", ")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn session() -> Session {
    Database::open(None).await.unwrap().session()
}

async fn numbers(session: &Session, sql: &str) -> Result<Vec<Option<i64>>, triune_common::Error> {
    let batches = session.execute(sql).await?.collect().await?;
    let mut all = vec![];
    for batch in batches {
        let wide = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Int64)?;
        all.extend(wide.as_primitive::<Int64Type>().iter());
    }
    Ok(all)
}

#[test]
fn terms_are_exact_or_an_error() {
    let runtime = runtime();
    let session = runtime.block_on(session());
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let input = (term(), proptest::collection::vec(row(), 1..5));
    let (fits, errors) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    runner
        .run(&input, |(term, rows)| {
            let create = format!(
                "CREATE OR REPLACE TABLE n (k INT, t TINYINT, s SMALLINT, i INT, b BIGINT) AS \
                 SELECT row_number() OVER (), * FROM (VALUES {})",
                values(&rows)
            );
            runtime.block_on(session.execute(&create)).unwrap();
            let found =
                runtime.block_on(numbers(&session, &format!("SELECT {} FROM n ORDER BY k", term.sql())));
            let expected: Option<Vec<i128>> = rows.iter().map(|r| term.value(r).1).collect();
            match (expected, found) {
                (Some(expected), Ok(found)) => {
                    let found: Vec<i128> = found.into_iter().flatten().map(i128::from).collect();
                    prop_assert_eq!(&expected, &found);
                    fits.set(fits.get() + 1);
                    // The same term where it decides about rows.
                    let filter = format!("SELECT count(*) FROM n WHERE {} > 5", term.sql());
                    let kept = runtime.block_on(numbers(&session, &filter)).unwrap();
                    let wanted = expected.iter().filter(|v| **v > 5).count() as i64;
                    prop_assert_eq!(kept, vec![Some(wanted)]);
                }
                (None, Err(e)) => {
                    errors.set(errors.get() + 1);
                    prop_assert_eq!(e.kind(), ErrorKind::Invalid);
                    prop_assert!(e.message().starts_with("integer out of range"), "{}", e);
                }
                (expected, found) => prop_assert!(false, "{:?} but {:?}", expected, found),
            }
            Ok(())
        })
        .unwrap();
    assert!(fits.get() > 50 && errors.get() > 50, "{} fit, {} do not", fits.get(), errors.get());
}

#[test]
fn sums_are_exact_or_an_error() {
    let runtime = runtime();
    let session = runtime.block_on(session());
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let input = proptest::collection::vec((0..3_i64, proptest::option::of(number())), 1..40);
    runner
        .run(&input, |rows| {
            let rows: Vec<(i64, Option<i64>)> = rows;
            let text: Vec<String> = rows
                .iter()
                .enumerate()
                .map(|(k, (g, v))| format!("({k}, {g}, {})", v.map_or("NULL".to_owned(), |v| v.to_string())))
                .collect();
            let create = format!(
                "CREATE OR REPLACE TABLE n (k INT, g INT, v BIGINT) AS VALUES {}",
                text.join(", ")
            );
            runtime.block_on(session.execute(&create)).unwrap();
            let fit = |sums: Vec<Option<i128>>| -> Option<Vec<Option<i64>>> {
                sums.into_iter().map(|s| s.map(i64::try_from).transpose().ok()).collect()
            };
            let sum = |of: &mut dyn Iterator<Item = Option<i64>>| -> Option<i128> {
                of.flatten().map(i128::from).reduce(|a, b| a + b)
            };
            let groups: std::collections::BTreeSet<i64> = rows.iter().map(|(g, _)| *g).collect();
            let of_group = |g: i64| rows.iter().filter(move |(h, _)| *h == g).map(|(_, v)| *v);
            let distinct = |g: i64| {
                let values: std::collections::BTreeSet<i64> = of_group(g).flatten().collect();
                sum(&mut values.into_iter().map(Some))
            };
            let windows = |before: usize| {
                (0..rows.len())
                    .map(|i| sum(&mut rows[i.saturating_sub(before)..=i].iter().map(|(_, v)| *v)))
                    .collect::<Vec<_>>()
            };
            let cases = [
                ("SELECT sum(v) FROM n", fit(vec![sum(&mut rows.iter().map(|(_, v)| *v))])),
                (
                    "SELECT sum(v) FROM n GROUP BY g ORDER BY g",
                    fit(groups.iter().map(|g| sum(&mut of_group(*g))).collect()),
                ),
                (
                    "SELECT sum(DISTINCT v) FROM n GROUP BY g ORDER BY g",
                    fit(groups.iter().map(|g| distinct(*g)).collect()),
                ),
                (
                    "SELECT sum(DISTINCT v) + min(k) * 0 FROM n GROUP BY g ORDER BY g",
                    fit(groups.iter().map(|g| distinct(*g)).collect()),
                ),
                (
                    "SELECT sum(v) OVER (ORDER BY k ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM n ORDER BY k",
                    fit(windows(2)),
                ),
                ("SELECT sum(v) OVER (ORDER BY k) FROM n ORDER BY k", fit(windows(usize::MAX))),
            ];
            for (sql, expected) in cases {
                match (expected, runtime.block_on(numbers(&session, sql))) {
                    (Some(expected), Ok(found)) => prop_assert_eq!(expected, found, "{}", sql),
                    (None, Err(e)) => {
                        prop_assert!(e.message().starts_with("integer out of range"), "{}: {}", sql, e);
                    }
                    (expected, found) => prop_assert!(false, "{}: {:?} but {:?}", sql, expected, found),
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn every_pair_of_bytes() {
    use function::Op;
    let bytes: Vec<i8> = (i8::MIN..=i8::MAX).collect();
    let unsigned: Vec<u8> = (u8::MIN..=u8::MAX).collect();
    for op in [Op::Add, Op::Subtract, Op::Multiply] {
        let exact = |l: i32, r: i32| match op {
            Op::Add => l + r,
            Op::Subtract => l - r,
            _ => l * r,
        };
        for l in &bytes {
            for r in &bytes {
                let (left, right) = (Int8Array::from(vec![*l]), Int8Array::from(vec![*r]));
                let found = kernels::binary(op, &left, &right, left.data_type()).ok();
                let found = found.map(|a| a.as_primitive::<arrow::datatypes::Int8Type>().value(0));
                assert_eq!(found, i8::try_from(exact((*l).into(), (*r).into())).ok(), "{l} {op} {r}");
            }
        }
        for l in &unsigned {
            for r in &unsigned {
                let (left, right) = (UInt8Array::from(vec![*l]), UInt8Array::new_scalar(*r));
                let found = kernels::binary(op, &left, &right, left.data_type()).ok();
                let found = found.map(|a| a.as_primitive::<arrow::datatypes::UInt8Type>().value(0));
                assert_eq!(found, u8::try_from(exact((*l).into(), (*r).into())).ok(), "{l} {op} {r}");
            }
        }
    }
}

#[test]
fn what_stands_below_a_null_does_not_matter() {
    let nulls = arrow::buffer::NullBuffer::from(vec![false, true]);
    let left = Int8Array::new(vec![127, 1].into(), Some(nulls));
    let one = Int8Array::new_scalar(1);
    let sum = kernels::binary(function::Op::Add, &left, &one, left.data_type()).unwrap();
    assert_eq!(sum.as_ref(), &Int8Array::from(vec![None, Some(2)]) as &dyn Array);
    let nothing: &dyn Datum = &Int8Array::new_null(2);
    let sum = kernels::binary(function::Op::Add, nothing, &left, left.data_type()).unwrap();
    assert_eq!(sum.null_count(), 2);
}
