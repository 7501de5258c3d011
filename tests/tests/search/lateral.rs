//! Searches for each row of another relation, on own tables, against rows compared one by one in this test.

use std::fmt::Write as _;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float32Type, Int64Type};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use triune_query::Session;

use crate::support::{open, rows, run};

/// A row of either table.
#[derive(Debug, Clone, Copy)]
struct Row {
    id: i64,
    tenant: Option<i64>,
    ts: i64,
    e: Option<[f32; 3]>,
}

impl Row {
    fn random(rng: &mut ChaCha8Rng, id: i64, ties: bool) -> Self {
        let mut number = || match ties {
            // Many equal rows and equal distances.
            true => f32::from(rng.random_range(-2..=2_i8)),
            false => rng.random_range(-1.0..1.0_f32),
        };
        let e = [number(), number(), number()];
        Self {
            id,
            tenant: (rng.random_range(0..6) > 0).then(|| rng.random_range(0..3)),
            ts: rng.random_range(0..40),
            e: (rng.random_range(0..8) > 0).then_some(e),
        }
    }

    fn values(&self) -> String {
        let tenant = self.tenant.map_or_else(|| "NULL".to_owned(), |t| t.to_string());
        let e = self.e.map_or_else(|| "NULL".to_owned(), |[a, b, c]| format!("'[{a:?},{b:?},{c:?}]'"));
        format!("({}, {tenant}, {}, {e})", self.id, self.ts)
    }
}

fn distance(metric: &str, a: Option<[f32; 3]>, b: Option<[f32; 3]>) -> Option<f64> {
    let pairs = || a.unwrap().into_iter().zip(b.unwrap()).map(|(x, y)| (f64::from(x), f64::from(y)));
    if a.is_none() || b.is_none() {
        return None;
    }
    Some(match metric {
        "l2" => pairs().map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt(),
        "l1" => pairs().map(|(x, y)| (x - y).abs()).sum(),
        _ => -pairs().map(|(x, y)| x * y).sum::<f64>(),
    })
}

type Condition = (&'static str, fn(&Row, &Row) -> bool);

/// Over `d`, the searched row, and `q`.
const CONDITIONS: [Condition; 10] = [
    ("true", |_, _| true),
    ("d.tenant = q.tenant", |d, q| d.tenant.is_some() && d.tenant == q.tenant),
    ("d.tenant IS NOT DISTINCT FROM q.tenant", |d, q| d.tenant == q.tenant),
    ("d.ts < q.ts", |d, q| d.ts < q.ts),
    ("d.ts BETWEEN q.ts - 5 AND q.ts + 5", |d, q| (d.ts - q.ts).abs() <= 5),
    ("d.id <> q.id AND d.tenant = q.tenant", |d, q| {
        d.id != q.id && d.tenant.is_some() && d.tenant == q.tenant
    }),
    ("d.ts % 2 = 0 AND d.ts >= q.ts", |d, q| d.ts % 2 == 0 && d.ts >= q.ts),
    ("(d.tenant = q.tenant OR q.ts > 20)", |d, q| (d.tenant.is_some() && d.tenant == q.tenant) || q.ts > 20),
    ("d.tenant IS NULL", |d, _| d.tenant.is_none()),
    ("q.ts > 15", |_, q| q.ts > 15),
];

/// One statement and what it means.
#[derive(Debug)]
struct Statement {
    sql: String,
    left_join: bool,
    metric: &'static str,
    condition: usize,
    k: usize,
    skip: usize,
    /// Whether rows without a distance are results.
    missing: bool,
    /// Of the outer WHERE.
    below: Option<f64>,
    only_even: bool,
    same_table: bool,
}

fn statement(rng: &mut ChaCha8Rng) -> Statement {
    let metric = ["l2", "l1", "dot"][rng.random_range(0..3)];
    let operator = match metric {
        "l2" => "<->",
        "l1" => "<+>",
        _ => "<#>",
    };
    let condition = rng.random_range(0..CONDITIONS.len());
    let text = CONDITIONS[condition].0;
    if rng.random_bool(0.2) {
        return nearest(rng, metric, operator);
    }
    let plain = rng.random_bool(0.5);
    let k = if plain { [0, 1, 2, 5, 1000] } else { [1, 1, 2, 5, 1000] }[rng.random_range(0..5)];
    let skip = if plain && rng.random_bool(0.3) { rng.random_range(0..4) } else { 0 };
    let left_join = rng.random_bool(0.4);
    let below = rng.random_bool(0.3).then(|| f64::from(rng.random_range(0..20_u8)) / 8.0 + 0.003);
    let only_even = rng.random_bool(0.3);
    let same_table = rng.random_bool(0.3);
    let queries = if same_table { "docs" } else { "queries" };
    let right = if plain {
        let key =
            if rng.random_bool(0.5) { format!("d.e {operator} q.e") } else { format!("q.e {operator} d.e") };
        let (key, listed) = if rng.random_bool(0.5) { ("dist".to_owned(), key) } else { (key.clone(), key) };
        let offset = if skip > 0 { format!(" OFFSET {skip}") } else { String::new() };
        format!(
            "(SELECT d.id, {listed} AS dist, 1 AS one, q.ts AS qts FROM docs d WHERE {text} ORDER BY {key} LIMIT {k}{offset})"
        )
    } else {
        let inner = text.replace("d.", "docs.");
        match rng.random_range(0..3) {
            0 => format!(
                "(SELECT w.id, w._distance AS dist, 1 AS one, q.ts AS qts FROM vector_search(docs, e, q.e, k => {k}, metric => '{metric}', where => {inner}) w)"
            ),
            // Of the WHERE beside the call; `q.ts > 15` names no column of the table and would come after.
            1 if condition != 9 => format!(
                "(SELECT d.id, d._distance AS dist, 1 AS one, q.ts AS qts FROM vector_search(docs, e, q.e, k => {k}, metric => '{metric}') d WHERE {text})"
            ),
            _ => format!(
                "(SELECT * FROM (SELECT d.id, d._distance AS dist, 1 AS one, q.ts AS qts FROM vector_search(docs, e, q.e, {k}, where => {inner}, metric => '{metric}') d) x)"
            ),
        }
    };
    let join = match (left_join, rng.random_range(0..3)) {
        (true, _) => format!("{queries} q LEFT JOIN LATERAL {right} v ON true"),
        (false, 0) => format!("{queries} q CROSS JOIN LATERAL {right} AS v"),
        (false, 1) => format!("{queries} q, LATERAL {right} AS v"),
        (false, _) => format!("{queries} AS q JOIN LATERAL {right} v ON true"),
    };
    let mut above = Vec::new();
    if let Some(below) = below {
        above.push(format!("v.dist < {below:?}"));
    }
    if only_even {
        above.push("q.id % 2 = 0".to_owned());
    }
    let mut sql = format!("SELECT q.id, v.id, v.dist, v.one, v.qts, q.ts FROM {join}");
    if !above.is_empty() {
        let _ = write!(sql, " WHERE {}", above.join(" AND "));
    }
    sql.push_str(" ORDER BY 1, 3 NULLS LAST");
    Statement { sql, left_join, metric, condition, k, skip, missing: plain, below, only_even, same_table }
}

/// Spark's join, which takes the searched rows as they are.
fn nearest(rng: &mut ChaCha8Rng, metric: &'static str, operator: &str) -> Statement {
    let (condition, right) = if rng.random_bool(0.5) {
        (0, "docs".to_owned())
    } else {
        (8, format!("(SELECT * FROM docs d WHERE {})", CONDITIONS[8].0))
    };
    let left_join = rng.random_bool(0.5);
    let join = match left_join {
        true => ["LEFT JOIN", "LEFT OUTER JOIN"][rng.random_range(0..2)],
        false => ["JOIN", "INNER JOIN"][rng.random_range(0..2)],
    };
    let same_table = rng.random_bool(0.3);
    let queries = if same_table { "docs" } else { "queries" };
    let k = [1, 1, 3, 100][rng.random_range(0..4)];
    let number = if k == 1 && rng.random_bool(0.5) { String::new() } else { format!("{k} ") };
    let how = ["APPROX", "EXACT", "approx"][rng.random_range(0..3)];
    let by = match metric {
        "dot" if rng.random_bool(0.5) => "SIMILARITY inner_product(v.e, q.e)".to_owned(),
        _ => format!("DISTANCE q.e {operator} v.e"),
    };
    let below = rng.random_bool(0.3).then(|| f64::from(rng.random_range(0..20_u8)) / 8.0 + 0.003);
    let above = below.map_or_else(String::new, |x| format!(" WHERE v.e {operator} q.e < {x:?}"));
    let found = |what: &str| format!("CASE WHEN v.id IS NOT NULL THEN {what} END");
    let sql = format!(
        "SELECT q.id, v.id AS vid, v.e {operator} q.e AS dist, {} AS one, {} AS qts, q.ts FROM {queries} AS q \
         {join} {right} AS v {how} NEAREST {number}BY {by}{above} ORDER BY 1, 3 NULLS LAST",
        found("1"),
        found("q.ts")
    );
    Statement {
        sql,
        left_join,
        metric,
        condition,
        k,
        skip: 0,
        missing: false,
        below,
        only_even: false,
        same_table,
    }
}

/// `(row's id, distance)` for one row of the left side; `None` where there was no row.
type Found = Option<(i64, Option<f32>)>;

async fn check(session: &Session, statement: &Statement, docs: &[Row], queries: &[Row]) {
    let sql = &statement.sql;
    let mut total = 0;
    let mut found: std::collections::BTreeMap<i64, Vec<Found>> = std::collections::BTreeMap::new();
    for batch in rows(session, sql).await {
        let ints: Vec<_> =
            [0, 1, 3, 4, 5].iter().map(|i| batch.column(*i).as_primitive::<Int64Type>()).collect();
        let distance = batch.column(2).as_primitive::<Float32Type>();
        total += i64::try_from(batch.num_rows()).unwrap();
        for i in 0..batch.num_rows() {
            let row = ints[1]
                .is_valid(i)
                .then(|| (ints[1].value(i), distance.is_valid(i).then(|| distance.value(i))));
            // What the sub-query computes besides is NULL exactly where it gave no row.
            assert_eq!((ints[2].is_valid(i), ints[3].is_valid(i)), (row.is_some(), row.is_some()), "{sql}");
            assert!(row.is_none() || ints[3].value(i) == ints[4].value(i), "{sql}");
            found.entry(ints[0].value(i)).or_default().push(row);
        }
    }
    // The same rows, none of their columns.
    let from = &sql[sql.find(" FROM ").unwrap()..sql.rfind(" ORDER BY ").unwrap()];
    let counted = rows(session, &format!("SELECT count(*){from}")).await;
    assert_eq!(counted[0].column(0).as_primitive::<Int64Type>().value(0), total, "{sql}");
    let queries = if statement.same_table { docs } else { queries };
    for q in queries {
        let found = found.remove(&q.id).unwrap_or_default();
        if statement.only_even && q.id % 2 != 0 {
            assert!(found.is_empty(), "{sql}\n{q:?}");
            continue;
        }
        let mut near: Vec<(i64, Option<f64>)> = docs
            .iter()
            .filter(|d| CONDITIONS[statement.condition].1(d, q))
            .map(|d| (d.id, distance(statement.metric, d.e, q.e)))
            .filter(|(_, distance)| statement.missing || distance.is_some())
            .collect();
        let key = |d: Option<f64>| d.unwrap_or(f64::INFINITY);
        near.sort_by(|a, b| key(a.1).total_cmp(&key(b.1)));
        let mut wanted: Vec<Option<f64>> =
            near.iter().skip(statement.skip).take(statement.k).map(|(_, d)| *d).collect();
        let empty = wanted.is_empty();
        if let Some(below) = statement.below {
            wanted.retain(|d| d.is_some_and(|d| d < below));
        }
        let what = || format!("{sql}\n{q:?}\nfound {found:?}\nwanted {wanted:?}\nnear {near:?}");
        if empty && statement.left_join && statement.below.is_none() {
            assert!(found == [None], "{}", what());
            continue;
        }
        assert_eq!(found.len(), wanted.len(), "{}", what());
        let mut ids = std::collections::HashSet::new();
        for (found, wanted) in found.iter().zip(&wanted) {
            let (id, distance) = found.unwrap_or_else(|| panic!("{}", what()));
            assert!(ids.insert(id), "{}", what());
            let Some((_, own)) = near.iter().find(|(n, _)| *n == id) else { panic!("{}", what()) };
            let same = |a: Option<f64>, b: Option<f64>| match (a, b) {
                (Some(a), Some(b)) => (a - b).abs() < 1e-5 * (1.0 + a.abs()),
                (a, b) => a.is_none() && b.is_none(),
            };
            let distance = distance.map(f64::from);
            assert!(same(distance, *own) && same(distance, *wanted), "{}", what());
        }
    }
    assert!(found.is_empty(), "{sql}\nfound rows for {found:?}");
}

async fn insert(
    session: &Session,
    table: &str,
    rng: &mut ChaCha8Rng,
    into: &mut Vec<Row>,
    n: i64,
    ties: bool,
) {
    let next = into.iter().map(|r| r.id).max().unwrap_or(0) + 1;
    let new: Vec<Row> = (next..next + n).map(|id| Row::random(rng, id, ties)).collect();
    if !new.is_empty() {
        let values: Vec<String> = new.iter().map(Row::values).collect();
        rows(session, &format!("INSERT INTO {table} VALUES {}", values.join(", "))).await;
    }
    into.extend(new);
}

/// Distances are cut by `v.dist < x` where no row is: x lies beside the sums of whole and half numbers.
#[test]
fn searches_per_row_answer_as_comparing_row_by_row() {
    run(async {
        for seed in 0..6 {
            let folder = tempfile::tempdir().unwrap();
            let database = open(folder.path()).await;
            let session = database.session();
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let ties = seed % 2 == 0;
            for table in ["docs", "queries"] {
                rows(
                    &session,
                    &format!(
                        "CREATE TABLE {table} (id BIGINT PRIMARY KEY, tenant BIGINT, ts BIGINT, e VECTOR(3))"
                    ),
                )
                .await;
            }
            if seed % 3 == 0 {
                rows(&session, "CREATE INDEX near ON docs USING ivf_flat (e vector_l2_ops) WITH (lists = 2)")
                    .await;
            }
            let (mut docs, mut queries) = (Vec::new(), Vec::new());
            for round in 0..7 {
                // Round 0: both sides empty. Later: rows on disk, in memory, and of the transaction itself.
                for _ in 0..8 {
                    check(&session, &statement(&mut rng), &docs, &queries).await;
                }
                let (before, open) = ((docs.clone(), queries.clone()), rng.random_bool(0.6));
                if open {
                    rows(&session, "BEGIN").await;
                }
                let n = rng.random_range(0..30);
                insert(&session, "docs", &mut rng, &mut docs, n, ties).await;
                let n = rng.random_range(0..8);
                insert(&session, "queries", &mut rng, &mut queries, n, ties).await;
                let rest = rng.random_range(0..7);
                rows(&session, &format!("DELETE FROM docs WHERE id % 7 = {rest}")).await;
                docs.retain(|d| d.id % 7 != rest);
                let rest = rng.random_range(0..5);
                rows(
                    &session,
                    &format!("UPDATE docs SET e = NULL, tenant = 1 WHERE id % 5 = {rest} AND ts > 30"),
                )
                .await;
                for d in docs.iter_mut().filter(|d| d.id % 5 == rest && d.ts > 30) {
                    (d.e, d.tenant) = (None, Some(1));
                }
                for _ in 0..8 {
                    check(&session, &statement(&mut rng), &docs, &queries).await;
                }
                if open && rng.random_bool(0.3) {
                    rows(&session, "ROLLBACK").await;
                    (docs, queries) = before;
                } else if open {
                    rows(&session, "COMMIT").await;
                }
                if round % 2 == 1 {
                    rows(&session, "CHECKPOINT").await;
                }
            }
            rows(&session, "DELETE FROM docs").await;
            for _ in 0..6 {
                check(&session, &statement(&mut rng), &[], &queries).await;
            }
        }
    });
}

/// A statement by whatever way there is, and through an index if it can be; whether it could.
async fn check_both(session: &Session, statement: &Statement, docs: &[Row], queries: &[Row]) -> bool {
    check(session, statement, docs, queries).await;
    rows(session, "SET search.mode = index").await;
    let explained = match session.execute(&format!("EXPLAIN {}", statement.sql)).await {
        Ok(result) => result.collect().await,
        Err(e) => Err(e),
    };
    let lines = explained.iter().flatten().flat_map(|b| b.column(0).as_string::<i32>().iter().flatten());
    let through =
        lines.into_iter().any(|line| line.contains("LateralTopKExec") && line.contains("access=index"));
    if through {
        check(session, statement, docs, queries).await;
    }
    rows(session, "RESET search.mode").await;
    through
}

#[test]
fn searches_per_row_through_an_index_answer_as_comparing_row_by_row() {
    run(async {
        let mut through = 0;
        for seed in 20..22 {
            let folder = tempfile::tempdir().unwrap();
            let session = open(folder.path()).await.session();
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (mut docs, mut queries) = (Vec::new(), Vec::new());
            for (table, into, n) in [("docs", &mut docs, 420), ("queries", &mut queries, 9)] {
                let columns = "(id BIGINT PRIMARY KEY, tenant BIGINT, ts BIGINT, e VECTOR(3))";
                rows(&session, &format!("CREATE TABLE {table} {columns}")).await;
                insert(&session, table, &mut rng, into, n, false).await;
            }
            for (name, class) in [("near", "vector_l2_ops"), ("dots", "vector_ip_ops")] {
                let all = "WITH (lists = 4, nprobes = 4)";
                rows(&session, &format!("CREATE INDEX {name} ON docs USING ivf_flat (e {class}) {all}"))
                    .await;
            }
            for round in 0..5 {
                rows(&session, "BEGIN").await;
                insert(&session, "docs", &mut rng, &mut docs, 12, false).await;
                rows(&session, &format!("DELETE FROM docs WHERE id % 11 = {round}")).await;
                docs.retain(|d| d.id % 11 != round);
                rows(&session, &format!("UPDATE docs SET e = NULL WHERE id % 13 = {round}")).await;
                docs.iter_mut().filter(|d| d.id % 13 == round).for_each(|d| d.e = None);
                for _ in 0..6 {
                    let statement = statement(&mut rng);
                    through += i32::from(check_both(&session, &statement, &docs, &queries).await);
                }
                rows(&session, "COMMIT").await;
                if round % 2 == 0 {
                    rows(&session, "CHECKPOINT").await;
                }
                for _ in 0..6 {
                    let statement = statement(&mut rng);
                    through += i32::from(check_both(&session, &statement, &docs, &queries).await);
                }
            }
        }
        assert!(through > 15, "{through} of 120 went through an index");
    });
}
