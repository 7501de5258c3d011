//! An exact search answers as sorting everything does, whatever the rows, the conditions and the batches.

use std::collections::HashMap;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Float32Type, Int64Type};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::support::{Doc, Options, session_with};

/// A metric and how SQL calls it.
#[derive(Debug, Clone, Copy)]
enum Oracle {
    L2,
    Cosine,
    Dot,
    L1,
}

impl Oracle {
    fn name(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::Cosine => "cosine",
            Self::Dot => "dot",
            Self::L1 => "l1",
        }
    }

    /// The distance in f64, as its definition says it.
    fn distance(self, a: &[f32], b: &[f32]) -> f64 {
        let pairs = || a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        let dot: f64 = pairs().map(|(a, b)| a * b).sum();
        match self {
            Self::L2 => pairs().map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt(),
            Self::L1 => pairs().map(|(a, b)| (a - b).abs()).sum(),
            Self::Dot => -dot,
            Self::Cosine => {
                let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                1.0 - dot / (norm(a) * norm(b))
            }
        }
    }
}

/// A condition as SQL and as a function.
#[derive(Debug, Clone, Copy)]
struct Condition {
    sql: &'static str,
    holds: fn(&Doc) -> bool,
}

const CONDITIONS: [Condition; 8] = [
    Condition { sql: "true", holds: |_| true },
    Condition { sql: "v.kind = 'a'", holds: |d| d.kind == "a" },
    Condition { sql: "v.id % 7 = 3", holds: |d| d.id % 7 == 3 },
    Condition { sql: "v.kind <> 'b' AND v.id < 40", holds: |d| d.kind != "b" && d.id < 40 },
    Condition { sql: "v.id IN (SELECT doc_id FROM extra)", holds: |d| d.id % 2 == 0 },
    Condition { sql: "v.id NOT IN (SELECT doc_id FROM extra WHERE tag = 'x')", holds: |d| d.id % 4 != 0 },
    Condition {
        sql: "EXISTS (SELECT 1 FROM extra x WHERE x.doc_id = v.id AND x.tag = 'y') AND v.kind = 'c'",
        holds: |d| d.id % 4 == 2 && d.kind == "c",
    },
    Condition {
        sql: "v.id > (SELECT max(doc_id) / 2 FROM extra) AND v._distance IS NOT NULL",
        holds: |_| true,
    },
];

#[derive(Debug, Clone)]
struct Case {
    docs: Vec<Doc>,
    query: Vec<f32>,
    k: usize,
    metric: Oracle,
    condition: usize,
    in_call: bool,
    options: Options,
    rows_per_batch: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    let number = || (-1000_i16..1000).prop_map(|n| f32::from(n) / 64.0);
    (1_usize..6).prop_flat_map(move |dims| {
        let vector = proptest::collection::vec(number(), dims);
        let doc =
            (proptest::option::weighted(0.9, vector.clone()), proptest::sample::select(vec!["a", "b", "c"]));
        (
            proptest::collection::vec(doc, 0..120),
            vector,
            1_usize..40,
            proptest::sample::select(vec![Oracle::L2, Oracle::Cosine, Oracle::Dot, Oracle::L1]),
            0..CONDITIONS.len(),
            any::<bool>(),
            (1_usize..5, proptest::sample::select(vec![1_usize, 2, 7, 8192]), 1_usize..50, any::<bool>()),
        )
            .prop_map(
                |(
                    docs,
                    query,
                    k,
                    metric,
                    condition,
                    in_call,
                    (partitions, batch_size, rows_per_batch, fuse),
                )| {
                    Case {
                        docs: (0..).zip(docs).map(|(id, (vector, kind))| Doc { id, kind, vector }).collect(),
                        query,
                        k,
                        metric,
                        condition,
                        in_call,
                        options: Options { partitions, batch_size, memory: None, fuse },
                        rows_per_batch,
                    }
                },
            )
    })
}

async fn check(mut case: Case) -> Result<(), TestCaseError> {
    let dims = case.query.len();
    if case.docs.iter().all(|d| d.vector.is_none()) {
        // The table's number of dimensions is read off a vector.
        case.docs.push(Doc { id: 1000, kind: "a", vector: Some(vec![1.0; dims]) });
    }
    let session = session_with(case.options, &case.docs, case.rows_per_batch);
    let condition = CONDITIONS[case.condition];
    let half = case.docs.iter().map(|d| d.id).filter(|id| id % 2 == 0).max().unwrap_or(-1) / 2;
    let query = case.query.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (k, metric) = (case.k, case.metric.name());
    // `where => …` knows the columns by their names only, and no distance.
    let simple = !condition.sql.contains("EXISTS") && !condition.sql.contains("_distance");
    let sql = if case.in_call && simple {
        let inner = condition.sql.replace("v.", "");
        format!(
            "SELECT id, _distance FROM vector_search(docs, e, '[{query}]', {k}, metric => '{metric}', where => {inner})"
        )
    } else {
        let outer = condition.sql;
        format!(
            "SELECT v.id, v._distance FROM vector_search(docs, e, '[{query}]', {k}, metric => '{metric}') v WHERE {outer}"
        )
    };
    let rows = session.rows(&sql).await.map_err(|e| TestCaseError::fail(format!("{sql}: {e}")))?;
    let found: Vec<(i64, f64)> = rows
        .iter()
        .flat_map(|b| {
            let ids = b.column(0).as_primitive::<Int64Type>().values().to_vec();
            let distances = b.column(1).as_primitive::<Float32Type>().values().to_vec();
            ids.into_iter().zip(distances.into_iter().map(f64::from)).collect::<Vec<_>>()
        })
        .collect();

    let all: HashMap<i64, f64> = case
        .docs
        .iter()
        .filter(|d| if case.condition == CONDITIONS.len() - 1 { d.id > half } else { (condition.holds)(d) })
        .filter_map(|d| Some((d.id, case.metric.distance(d.vector.as_ref()?, &case.query))))
        // A zero vector has no direction.
        .filter(|(_, distance)| !distance.is_nan())
        .collect();
    let mut wanted: Vec<f64> = all.values().copied().collect();
    wanted.sort_by(f64::total_cmp);
    wanted.truncate(case.k);

    prop_assert_eq!(found.len(), wanted.len(), "{}", sql);
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-4 * (1.0 + b.abs());
    let mut seen = std::collections::HashSet::new();
    for ((id, distance), wanted) in found.iter().zip(&wanted) {
        let own = all.get(id);
        prop_assert!(own.is_some(), "row {} must not be found: {}", id, sql);
        prop_assert!(seen.insert(*id), "row {} is there twice: {}", id, sql);
        prop_assert!(
            own.is_some_and(|own| near(*distance, *own)),
            "row {id}: {distance} is not {own:?}: {sql}"
        );
        prop_assert!(near(*distance, *wanted), "{distance} in the place of {wanted}: {sql}");
    }
    prop_assert!(found.is_sorted_by(|a, b| a.1 <= b.1), "not in order: {}", sql);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_search_is_a_sort(case in cases()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(case))?;
    }
}
