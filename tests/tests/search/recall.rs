//! How much of the truth indexes find, on clustered vectors made from a formula: every method and metric, conditions
//! that leave much and little, near rows that a condition excludes, rows that were deleted and changed.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use triune_query::Session;

use crate::support::{found, open, plan, rows, run};

const ROWS: i64 = 22_000;
const CLUSTERS: i64 = 40;
const DIMS: i64 = 16;

/// The vector of a row: the middle of its cluster and a tenth of something that looks like chance.
fn vector(id: &str) -> String {
    let numbers: Vec<String> = (0..DIMS)
        .map(|d| {
            let middle = format!("sin(({id} % {CLUSTERS}) * {} + {d})", 12.9898 + f64::from(d as i32) * 7.31);
            let noise = format!("sin({id} * {} + {d} * 3)", 78.233 + f64::from(d as i32) * 1.618);
            format!("{middle} + 0.35 * {noise}")
        })
        .collect();
    format!("array[{}]::float[]::VECTOR({DIMS})", numbers.join(", "))
}

/// The hundred nearest rows of a query, once they were asked for.
type Truth = HashMap<(String, i64), Vec<i64>>;

/// The share of the `k` nearest rows that an index finds, over some queries; all `k` must come.
async fn recall(session: &Session, metric: &str, condition: &str, k: usize, truth: &mut Truth) -> f64 {
    let (mut hits, mut all) = (0, 0);
    for query in [3_i64, 15_013, 7_021, 18_307] {
        // Of the same cluster, and no row's own vector.
        let q = vector(&(query + CLUSTERS * 1000).to_string());
        let condition = condition.replace("{own}", &(query % CLUSTERS).to_string());
        let search = async |k: usize, more: &str| -> Vec<i64> {
            let search = format!(
                "SELECT id, _distance FROM vector_search(t, e, (SELECT {q}), k => {k}, metric => '{metric}', \
                 where => {condition}{more})"
            );
            found(session, &search).await.into_iter().map(|r| r.0).collect()
        };
        let key = (condition.clone(), query);
        if !truth.contains_key(&key) {
            truth.insert(key.clone(), search(100, ", exact => true").await);
        }
        let truth = &truth[&key];
        let truth = &truth[..truth.len().min(k)];
        let got = search(k, "").await;
        assert_eq!(got.len(), truth.len(), "{metric} where {condition}");
        let got: HashSet<i64> = got.into_iter().collect();
        hits += truth.iter().filter(|id| got.contains(id)).count();
        all += truth.len();
    }
    f64::from(u32::try_from(hits).unwrap()) / f64::from(u32::try_from(all).unwrap())
}

/// Conditions, and what must be found at least of ten and of a hundred rows.
const CONDITIONS: [(&str, f64, f64); 5] = [
    ("true", 0.9, 0.9),
    ("id % 2 = 0", 0.9, 0.9),
    // Few enough to be compared one by one: nothing may be missing.
    ("id % 100 = 7", 1.0, 1.0),
    ("id % 2500 = 7", 1.0, 1.0),
    // The query's own cluster and half of the others are out.
    ("id % 40 <> {own} AND id % 40 % 2 = ({own} + 1) % 2", 0.9, 0.9),
];

#[test]
fn explain_says_the_recall() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let session = open(folder.path()).await.session();
        rows(&session, &format!("CREATE TABLE t (id BIGINT PRIMARY KEY, e VECTOR({DIMS}))")).await;
        rows(
            &session,
            &format!("INSERT INTO t SELECT i, {} FROM generate_series(1, 3000) AS s(i)", vector("i")),
        )
        .await;
        rows(&session, "CREATE INDEX near ON t USING ivf_flat (e) WITH (lists = 30)").await;
        let said = async |nprobes: i64, k: i64| {
            let q = vector("77");
            let search = format!(
                "SELECT id, _distance FROM vector_search(t, e, (SELECT {q}), k => {k}, nprobes => {nprobes})"
            );
            let sql = format!("(ANALYZE, RECALL) {search}");
            let text = plan(&session, &sql).await;
            text.lines().last().unwrap().to_owned()
        };
        assert_eq!(
            said(30, 50).await,
            "recall 1.000: 50 of the 50 rows of search.mode = exact; 50 rows were found"
        );
        // What one list of thirty has depends on how they were made.
        let one = said(1, 20).await;
        let share: f64 = one["recall ".len()..].split(':').next().unwrap().parse().unwrap();
        assert!((0.05..=1.0).contains(&share), "{one}");
        let wrong = session.execute("EXPLAIN (RECALL) SELECT 1").await;
        assert!(wrong.is_err_and(|e| e.to_string().contains("EXPLAIN RECALL runs the statement")));
    });
}

#[test]
fn every_method_finds_what_is_near() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let session = open(folder.path()).await.session();
        rows(&session, &format!("CREATE TABLE t (id BIGINT PRIMARY KEY, e VECTOR({DIMS}))")).await;
        let series = format!("generate_series(0, {}) AS s(i)", ROWS - 1);
        rows(&session, &format!("INSERT INTO t SELECT i, {} FROM {series}", vector("i"))).await;
        let mut low = String::new();
        for metric in ["l2", "cosine", "dot"] {
            let (mut fresh, mut changed) = (Truth::new(), Truth::new());
            for method in ["ivf_flat", "ivf_sq", "ivf_pq", "ivf_rq", "ivf_hnsw_sq", "ivf_hnsw_pq", "hnsw"] {
                let lists = if method == "hnsw" { "" } else { ", lists = 8" };
                let with = format!("WITH (metric = '{metric}'{lists})");
                rows(&session, &format!("CREATE INDEX near ON t USING {method} (e) {with}")).await;
                let q = vector("5");
                let search =
                    format!("SELECT id FROM vector_search(t, e, (SELECT {q}), metric => '{metric}')");
                assert!(plan(&session, &search).await.contains("access=index near"), "{method} {metric}");
                let mut measure = async |when: &str, truth: &mut Truth| {
                    for (condition, at_10, at_100) in CONDITIONS {
                        // Graphs are walked by nearness, which inner products are not.
                        let far = metric == "dot" && method.contains("hnsw");
                        let at_100 = if far { at_100.min(0.8) } else { at_100 };
                        // Four bits per dimension in a graph: chance has a part in what is met.
                        let at_10 = if method == "ivf_hnsw_pq" { at_10.min(0.8) } else { at_10 };
                        for (k, least) in [(10, at_10), (100, at_100)] {
                            let share = recall(&session, metric, condition, k, truth).await;
                            if share < least {
                                let _ = writeln!(
                                    low,
                                    "{method} {metric} {when} where {condition} @{k}: {share:.3}"
                                );
                            }
                        }
                    }
                };
                measure("fresh", &mut fresh).await;
                if metric == "l2" {
                    rows(&session, "BEGIN").await;
                    rows(&session, "DELETE FROM t WHERE id % 10 IN (1, 4, 8)").await;
                    let other = vector("(id + 11)");
                    rows(&session, &format!("UPDATE t SET e = {other} WHERE id % 10 = 5")).await;
                    measure("changed", &mut changed).await;
                    rows(&session, "ROLLBACK").await;
                }
                rows(&session, "DROP INDEX near").await;
            }
        }
        assert!(low.is_empty(), "{low}");
    });
}
