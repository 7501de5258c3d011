//! Searches through indexes of own tables against the same searches that compare every row.

use std::collections::HashSet;
use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use triune_query::Session;

use crate::support::{found, open, plan, rows, run};

fn vector(rng: &mut ChaCha8Rng) -> String {
    let numbers: Vec<String> = (0..4).map(|_| format!("{:.6}", rng.random_range(-1.0..1.0_f64))).collect();
    format!("'[{}]'", numbers.join(","))
}

/// Conditions of one row, and some whose keys another table has.
const CONDITIONS: [&str; 9] = [
    "true",
    "kind = 'a'",
    "id % 97 = 3",
    "id < 40 OR kind IS NULL",
    "id IN (SELECT ref FROM m WHERE tag = 'x')",
    "kind IN (SELECT tag FROM m WHERE ref % 2 = 0) AND id > 20",
    "EXISTS (SELECT 1 FROM m WHERE m.ref = t.id AND m.tag = 'a')",
    "id + 1 IN (SELECT ref FROM m) AND kind IN (SELECT tag FROM m) AND kind <> 'b'",
    "id IN (SELECT ref FROM m WHERE tag = 'none such')",
];

/// A table joined with another by a key, which several of its rows may have.
async fn joined(session: &Session, condition: &str, q: &str, k: i64) {
    for (join, columns) in [
        ("t JOIN m ON m.ref = t.id", "t.id"),
        ("(SELECT ref AS r, count(*) AS n FROM m GROUP BY ref) AS c JOIN t ON t.id = c.r", "t.id"),
        ("t JOIN m ON m.ref = t.id AND m.tag <> t.kind", "t.id"),
    ] {
        let sql = format!(
            "SELECT {columns}, t.e <-> {q}::VECTOR(4) AS d FROM {join} WHERE {condition} ORDER BY d LIMIT {k}"
        );
        rows(session, "SET search.mode = exact").await;
        let truth = found(session, &sql).await;
        rows(session, "RESET search.mode").await;
        let text = plan(session, &sql).await;
        // A sub-query stays above the join, and one with two conditions is no join by a key.
        let fires = !join.contains("tag") && !condition.contains("SELECT");
        assert_eq!(text.contains("DeferredAnnExec"), fires, "{text}");
        let got = found(session, &sql).await;
        let near = |rows: &[(i64, Option<f32>)]| {
            let mut near: Vec<_> = rows.iter().copied().filter(|r| r.1.is_some()).collect();
            near.sort_by(|a, b| a.1.unwrap_or(0.0).total_cmp(&b.1.unwrap_or(0.0)).then(a.0.cmp(&b.0)));
            near
        };
        assert_eq!(near(&got), near(&truth), "{sql}");
        assert_eq!(got.len(), truth.len(), "{sql}");
    }
}

/// A bound of the distance beside the order: of the rows found, by whatever way.
async fn within(session: &Session, condition: &str, q: &str, k: i64, node: &str) {
    let sql = format!(
        "SELECT id, e <-> {q}::VECTOR(4) AS d FROM t WHERE ({condition}) AND 0.9 > e <-> {q}::VECTOR(4) \
         AND e <-> {q}::VECTOR(4) <= 0.8 ORDER BY d LIMIT {k}"
    );
    let text = plan(session, &sql).await;
    // Below a join by keys the bound is a condition like others.
    let below = text.contains("l2_distance(");
    assert!(text.contains(node) && below == condition.contains("SELECT"), "{text}");
    let got = found(session, &sql).await;
    rows(session, "SET search.mode = exact").await;
    assert_eq!(got, found(session, &sql).await, "{sql}");
    rows(session, "RESET search.mode").await;
}

/// Distances of random vectors are all different, so that the k nearest are one list.
async fn compare(session: &Session, rng: &mut ChaCha8Rng) {
    for condition in CONDITIONS {
        let by_keys = condition.contains("SELECT");
        let k = [1, 6, 40][rng.random_range(0..3)];
        let q = vector(rng);
        let search = |more: &str| {
            let search = format!("vector_search(t, e, {q}, k => {k}, metric => 'l2'");
            if by_keys {
                format!("SELECT id, _distance FROM {search}{more}) AS t WHERE {condition}")
            } else {
                format!("SELECT id, _distance FROM {search}, where => {condition}{more})")
            }
        };
        let indexed = search(", nprobes => 4");
        let text = plan(session, &indexed).await;
        let node = if by_keys { "DeferredAnnExec" } else { "LanceAnnExec" };
        assert!(text.contains(node) && text.contains("access=index near"), "{text}");
        let (got, truth) = (found(session, &indexed).await, found(session, &search(", exact => true")).await);
        assert_eq!(got, truth, "{indexed}");

        let ordered = format!(
            "SELECT id, e <-> {q}::VECTOR(4) AS d FROM t WHERE {condition} ORDER BY d LIMIT {}",
            k * 4
        );
        rows(session, "SET search.mode = exact").await;
        let truth = found(session, &ordered).await;
        rows(session, "SET search.mode = index").await;
        assert!(plan(session, &ordered).await.contains(node), "{ordered}");
        let got = found(session, &ordered).await;
        rows(session, "RESET search.mode").await;
        within(session, condition, &q, k, node).await;
        joined(session, condition, &q, k).await;
        let near =
            |rows: &[(i64, Option<f32>)]| rows.iter().copied().filter(|r| r.1.is_some()).collect::<Vec<_>>();
        assert_eq!(near(&got), near(&truth), "{ordered}");
        // Which of the rows without a distance come is not defined, their number is.
        assert_eq!(got.len(), truth.len(), "{ordered}");
        assert!(got.iter().skip(near(&got).len()).all(|r| r.1.is_none()), "{ordered}");
    }
}

#[test]
fn an_index_with_all_probes_answers_as_comparing_every_row() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let database = open(folder.path()).await;
        let session = database.session();
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        rows(&session, "CREATE TABLE t (id BIGINT PRIMARY KEY, kind TEXT, e VECTOR(4))").await;
        let insert = |rng: &mut ChaCha8Rng, ids: std::ops::Range<i64>| {
            let values: Vec<String> = ids
                .map(|id| {
                    let kind = ["'a'", "'b'", "NULL"][rng.random_range(0..3)];
                    let e = if id % 50 == 0 { "NULL".to_owned() } else { vector(rng) };
                    format!("({id}, {kind}, {e})")
                })
                .collect();
            format!("INSERT INTO t VALUES {}", values.join(", "))
        };
        rows(&session, &insert(&mut rng, 0..600)).await;
        rows(&session, "CREATE TABLE m (ref BIGINT, tag TEXT)").await;
        let refer = |rng: &mut ChaCha8Rng, below: i64| {
            let values: Vec<String> = (0..rng.random_range(1..60))
                .map(|_| {
                    let to = rng.random_range(-5..below);
                    let to = if to < 0 { "NULL".to_owned() } else { to.to_string() };
                    format!("({to}, {})", ["'a'", "'b'", "'x'", "NULL"][rng.random_range(0..4)])
                })
                .collect();
            format!("INSERT INTO m VALUES {}", values.join(", "))
        };
        rows(&session, &refer(&mut rng, 600)).await;
        rows(
            &session,
            "CREATE INDEX near ON t USING ivf_flat (e vector_l2_ops) WITH (lists = 4, nprobes = 4)",
        )
        .await;
        rows(&session, "REINDEX INDEX near").await;
        compare(&session, &mut rng).await;
        let mut next = 600;
        for round in 0..12 {
            rows(&session, "BEGIN").await;
            for _ in 0..3 {
                match rng.random_range(0..6) {
                    4 => drop(rows(&session, &refer(&mut rng, next)).await),
                    5 => {
                        let n = rng.random_range(0..7);
                        rows(&session, &format!("DELETE FROM m WHERE ref % 7 = {n}")).await;
                    }
                    0 => {
                        rows(&session, &insert(&mut rng, next..next + 20)).await;
                        next += 20;
                    }
                    1 => {
                        let (n, r) = (rng.random_range(5..30), rng.random_range(0..5));
                        rows(&session, &format!("DELETE FROM t WHERE id % {n} = {r} AND id > 50")).await;
                    }
                    2 => {
                        let (n, e) = (rng.random_range(0..next), vector(&mut rng));
                        rows(&session, &format!("UPDATE t SET e = {e} WHERE id = {n}")).await;
                    }
                    _ => {
                        let n = rng.random_range(0..next);
                        rows(&session, &format!("UPDATE t SET e = NULL, kind = 'a' WHERE id = {n}")).await;
                    }
                }
            }
            // The transaction sees its own rows, and afterwards everybody or nobody does.
            compare(&session, &mut rng).await;
            rows(&session, if round % 4 == 3 { "ROLLBACK" } else { "COMMIT" }).await;
            match round % 3 {
                0 => drop(rows(&session, "CHECKPOINT").await),
                1 if round == 7 => drop(rows(&session, "OPTIMIZE t").await),
                _ => {}
            }
            compare(&session, &mut rng).await;
        }
    });
}

/// The share of the truth that is found.
fn recall(got: &[(i64, Option<f32>)], truth: &[(i64, Option<f32>)]) -> f64 {
    let got: HashSet<i64> = got.iter().map(|r| r.0).collect();
    let hits = truth.iter().filter(|r| got.contains(&r.0)).count();
    f64::from(u32::try_from(hits).unwrap()) / f64::from(u32::try_from(truth.len().max(1)).unwrap())
}

#[test]
fn compressed_indexes_find_what_is_near() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let database = open(folder.path()).await;
        let session = database.session();
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
        rows(&session, "CREATE TABLE p (id BIGINT PRIMARY KEY, e HALFVEC(384))").await;
        let packages = data.join("packages.parquet").display().to_string();
        rows(
            &session,
            &format!("INSERT INTO p SELECT row_number() OVER (ORDER BY id), embedding FROM '{packages}'"),
        )
        .await;
        let queries = data.join("queries.parquet").display().to_string();
        for method in ["ivf_rq", "ivf_pq", "ivf_sq"] {
            rows(&session, &format!("CREATE INDEX near ON p USING {method} (e) WITH (lists = 8)")).await;
            rows(&session, "REINDEX INDEX near").await;
            // Rows of the condition are few enough to be compared one by one: then nothing may be missing.
            for (condition, least) in [
                ("true", 0.95),
                ("id % 2 = 0", 1.0),
                ("id % 10 = 0", 1.0),
                ("id % 100 = 0", 1.0),
                ("id % 1000 = 0", 1.0),
            ] {
                let mut sum = 0.0;
                for query in 0..12 {
                    let q = format!("(SELECT embedding FROM '{queries}' ORDER BY id LIMIT 1 OFFSET {query})");
                    let search = |more: &str| {
                        format!(
                            "SELECT id, _distance FROM vector_search(p, e, {q}, k => 10, where => {condition}{more})"
                        )
                    };
                    let indexed = search("");
                    let text = plan(&session, &indexed).await;
                    assert!(text.contains("access=index near"), "{text}");
                    let got = found(&session, &indexed).await;
                    let truth = found(&session, &search(", exact => true")).await;
                    assert_eq!(got.len(), truth.len(), "{indexed}");
                    sum += recall(&got, &truth);
                }
                let mean = sum / 12.0;
                assert!(mean >= least, "{method} where {condition}: recall {mean}");
            }
            rows(&session, "DROP INDEX near").await;
        }
    });
}
