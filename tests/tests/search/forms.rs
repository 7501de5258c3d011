//! `k` rows per group, and rows that differ, against rows compared one by one in this test.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use triune_query::Session;

use crate::support::{self, open, rows, run};

/// `id, distance` of an answer, in its order.
async fn found(session: &Session, sql: &str) -> Vec<(i64, f32)> {
    support::found(session, sql).await.into_iter().map(|(id, distance)| (id, distance.unwrap())).collect()
}

type Vector = [f32; 3];

#[derive(Debug, Clone, Copy)]
struct Row {
    id: i64,
    kind: Option<i64>,
    year: i64,
    e: Option<Vector>,
}

fn vector(rng: &mut ChaCha8Rng) -> Vector {
    std::array::from_fn(|_| rng.random_range(-1.0..1.0_f32))
}

fn text([a, b, c]: Vector) -> String {
    format!("'[{a:?},{b:?},{c:?}]'")
}

fn random(rng: &mut ChaCha8Rng, id: i64) -> Row {
    Row {
        id,
        kind: (rng.random_range(0..5) > 0).then(|| rng.random_range(0..4)),
        year: rng.random_range(2020..2023),
        e: (rng.random_range(0..9) > 0).then(|| vector(rng)),
    }
}

async fn insert(session: &Session, rng: &mut ChaCha8Rng, table: &mut Vec<Row>, n: i64) {
    let next = table.iter().map(|r| r.id).max().unwrap_or(0) + 1;
    let new: Vec<Row> = (next..next + n).map(|id| random(rng, id)).collect();
    let values: Vec<String> = new
        .iter()
        .map(|r| {
            let kind = r.kind.map_or_else(|| "NULL".to_owned(), |k| k.to_string());
            format!("({}, {kind}, {}, {})", r.id, r.year, r.e.map_or_else(|| "NULL".to_owned(), text))
        })
        .collect();
    rows(session, &format!("INSERT INTO t VALUES {}", values.join(", "))).await;
    table.extend(new);
}

fn distance(metric: &str, a: Vector, b: Vector) -> f64 {
    let pairs = || a.into_iter().zip(b).map(|(x, y)| (f64::from(x), f64::from(y)));
    let dot =
        |a: Vector, b: Vector| a.into_iter().zip(b).map(|(x, y)| f64::from(x) * f64::from(y)).sum::<f64>();
    match metric {
        "l2" => pairs().map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt(),
        "dot" => -dot(a, b),
        _ => 1.0 - dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt()),
    }
}

const METRICS: [&str; 3] = ["l2", "cosine", "dot"];

fn near(table: &[Row], metric: &str, q: Vector, keep: fn(&Row) -> bool) -> Vec<(Row, f64)> {
    let mut near: Vec<(Row, f64)> =
        table.iter().filter(|r| keep(r)).filter_map(|r| Some((*r, distance(metric, r.e?, q)))).collect();
    near.sort_by(|a, b| a.1.total_cmp(&b.1));
    near
}

fn assert_same(got: &[(i64, f32)], wanted: &[(Row, f64)], sql: &str) {
    let same = got.len() == wanted.len()
        && got
            .iter()
            .zip(wanted)
            .all(|((id, d), (row, w))| *id == row.id && (f64::from(*d) - w).abs() < 1e-5 * (1.0 + w.abs()));
    assert!(same, "{sql}\nfound  {got:?}\nwanted {wanted:?}");
}

type Condition = (&'static str, fn(&Row) -> bool);

const CONDITIONS: [Condition; 4] = [
    ("true", |_| true),
    ("kind = 1", |r| r.kind == Some(1)),
    ("id % 3 = 0", |r| r.id % 3 == 0),
    ("kind IS NULL OR year > 2020", |r| r.kind.is_none() || r.year > 2020),
];

async fn check_groups(session: &Session, rng: &mut ChaCha8Rng, table: &[Row]) {
    for _ in 0..10 {
        let (q, metric, k) =
            (vector(rng), METRICS[rng.random_range(0..3)], [1, 2, 5, 1000][rng.random_range(0..4)]);
        let (condition, keep) = CONDITIONS[rng.random_range(0..CONDITIONS.len())];
        let both = rng.random_bool(0.4);
        let per = if both { "(kind, year)" } else { "kind" };
        let group = if rng.random_bool(0.5) {
            format!("k => {k} PER {per}")
        } else {
            format!("k => {k}, per => {per}")
        };
        let (inside, outside) = if rng.random_bool(0.5) {
            (format!(", where => {condition}"), String::new())
        } else {
            (String::new(), format!(" WHERE {condition}"))
        };
        let limit = rng.random_bool(0.3).then(|| rng.random_range(1..6_usize));
        let cut = limit.map_or_else(String::new, |n| format!(" ORDER BY v._distance LIMIT {n}"));
        let sql = format!(
            "SELECT v.id, v._distance FROM vector_search(t, e, {}, {group}, metric => '{metric}'{inside}) v{outside}{cut}",
            text(q)
        );
        let mut counts: BTreeMap<(Option<i64>, i64), usize> = BTreeMap::new();
        let mut wanted = near(table, metric, q, keep);
        wanted.retain(|(r, _)| {
            let count = counts.entry((r.kind, if both { r.year } else { 0 })).or_default();
            *count += 1;
            *count <= k
        });
        wanted.truncate(limit.unwrap_or(usize::MAX));
        assert_same(&found(session, &sql).await, &wanted, &sql);
    }
}

/// The rows that the page of `diversity` says, chosen one by one.
fn diverse(near: &[(Row, f64)], metric: &str, k: usize, share: f64) -> Vec<(Row, f64)> {
    let candidates = &near[..near.len().min((10 * k).max(100))];
    let mut taken: Vec<usize> = Vec::new();
    while taken.len() < k.min(candidates.len()) {
        let score = |i: usize| {
            let apart = taken
                .iter()
                .map(|t| distance(metric, candidates[i].0.e.unwrap(), candidates[*t].0.e.unwrap()))
                .fold(f64::INFINITY, f64::min);
            if taken.is_empty() { candidates[i].1 } else { (1.0 - share) * candidates[i].1 - share * apart }
        };
        let best = (0..candidates.len())
            .filter(|i| !taken.contains(i))
            .min_by(|a, b| score(*a).total_cmp(&score(*b)).then(a.cmp(b)))
            .unwrap();
        taken.push(best);
    }
    taken.sort_unstable();
    taken.into_iter().map(|i| candidates[i]).collect()
}

async fn check_diversity(session: &Session, rng: &mut ChaCha8Rng, table: &[Row], indexed: bool) {
    for _ in 0..8 {
        let (q, k) = (vector(rng), [1, 3, 12][rng.random_range(0..3)]);
        let metric = if indexed { "l2" } else { METRICS[rng.random_range(0..3)] };
        let share = [0.0, 0.3, 0.5, 1.0][rng.random_range(0..4)];
        let (condition, keep) = CONDITIONS[rng.random_range(0..CONDITIONS.len())];
        let columns = if rng.random_bool(0.5) { "id, _distance" } else { "id, _distance, e, kind" };
        let probes = if indexed { ", nprobes => 4" } else { "" };
        let sql = format!(
            "SELECT {columns} FROM vector_search(t, e, {}, k => {k}, diversity => {share:?}, metric => '{metric}'{probes}, where => {condition})",
            text(q)
        );
        let wanted = diverse(&near(table, metric, q, keep), metric, k, share);
        assert_same(&found(session, &sql).await, &wanted, &sql);
        let batches = rows(session, &format!("EXPLAIN {sql}")).await;
        let plan: Vec<_> =
            batches.iter().flat_map(|b| b.column(0).as_string::<i32>().iter().flatten()).collect();
        assert_eq!(
            plan.iter().any(|l| l.contains("access=index near")),
            indexed,
            "{sql}\n{}",
            plan.join("\n")
        );
        assert_eq!(plan.iter().any(|l| l.contains("DiverseExec")), share > 0.0, "{sql}");
    }
}

#[test]
fn groups_and_differing_rows_are_those_of_a_loop_over_all_rows() {
    run(async {
        for seed in 0..3 {
            let folder = tempfile::tempdir().unwrap();
            let session = open(folder.path()).await.session();
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rows(&session, "CREATE TABLE t (id BIGINT PRIMARY KEY, kind BIGINT, year BIGINT, e VECTOR(3))")
                .await;
            let mut table = Vec::new();
            check_groups(&session, &mut rng, &table).await;
            check_diversity(&session, &mut rng, &table, false).await;
            for n in [40, 300, 17] {
                rows(&session, "BEGIN").await;
                insert(&session, &mut rng, &mut table, n).await;
                rows(&session, "DELETE FROM t WHERE id % 11 = 5").await;
                table.retain(|r| r.id % 11 != 5);
                check_groups(&session, &mut rng, &table).await;
                check_diversity(&session, &mut rng, &table, false).await;
                rows(&session, "COMMIT").await;
                if n > 20 {
                    rows(&session, "CHECKPOINT").await;
                }
                check_groups(&session, &mut rng, &table).await;
            }
            rows(&session, "CREATE INDEX near ON t USING ivf_flat (e vector_l2_ops) WITH (lists = 4)").await;
            rows(&session, "REINDEX INDEX near").await;
            insert(&session, &mut rng, &mut table, 25).await;
            check_groups(&session, &mut rng, &table).await;
            check_diversity(&session, &mut rng, &table, true).await;
        }
    });
}

/// Columns `VECTOR(n)[]` through memory, log and disk.
#[test]
fn late_interaction_orders_as_a_loop_does() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut table: Vec<(i64, Option<Vec<Vector>>)> = Vec::new();
        let list = |vectors: &[Vector]| {
            let each: Vec<String> = vectors.iter().map(|v| format!("{}::VECTOR(3)", text(*v))).collect();
            format!("[{}]", each.join(", "))
        };
        for round in 0..3 {
            // Opened again, so that rows come from the log or from disk.
            let session = open(folder.path()).await.session();
            rows(&session, "CREATE TABLE IF NOT EXISTS m (id BIGINT PRIMARY KEY, tokens VECTOR(3)[])").await;
            for _ in 0..12 {
                let id = i64::try_from(table.len()).unwrap();
                let tokens = (rng.random_range(0..6) > 0)
                    .then(|| (0..rng.random_range(1..5)).map(|_| vector(&mut rng)).collect::<Vec<_>>());
                let value = tokens.as_deref().map_or_else(|| "NULL".to_owned(), list);
                rows(&session, &format!("INSERT INTO m VALUES ({id}, {value})")).await;
                table.push((id, tokens));
            }
            if round == 1 {
                rows(&session, "CHECKPOINT").await;
            }
            for k in [1, 5, 100] {
                let query: Vec<Vector> = (0..3).map(|_| vector(&mut rng)).collect();
                let dot = |a: &Vector, b: &Vector| {
                    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>()
                };
                let mut wanted: Vec<(i64, f64)> = table
                    .iter()
                    .filter_map(|(id, tokens)| {
                        let tokens = tokens.as_ref()?;
                        let best = |q| tokens.iter().map(|t| dot(t, q)).fold(f64::NEG_INFINITY, f64::max);
                        Some((*id, query.iter().map(best).sum()))
                    })
                    .collect();
                wanted.sort_by(|a, b| b.1.total_cmp(&a.1));
                wanted.truncate(k);
                let sql = format!(
                    "SELECT id, max_sim(tokens, {}) AS s FROM m WHERE tokens IS NOT NULL ORDER BY s DESC LIMIT {k}",
                    list(&query)
                );
                let got = found(&session, &sql).await;
                let same = got.len() == wanted.len()
                    && got
                        .iter()
                        .zip(&wanted)
                        .all(|(g, w)| g.0 == w.0 && (f64::from(g.1) - w.1).abs() < 1e-5);
                assert!(same, "{sql}\nfound  {got:?}\nwanted {wanted:?}");
            }
        }
    });
}
