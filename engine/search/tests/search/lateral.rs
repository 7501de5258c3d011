//! Searches per row answer as a cross join numbered by distance does.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Float32Type, Int64Type};
use triune_common::{ErrorKind, SeededRng};

use crate::support::{Doc, Options, Session, docs_batch, docs_schema, session_with};

/// `(query's id, row's id, distance)`, NULL as `None`.
type Found = (i64, Option<i64>, Option<f32>);

async fn answer(session: &Session, sql: &str) -> Vec<Found> {
    let batches = session.rows(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    batches.iter().flat_map(rows_of).collect()
}

fn rows_of(batch: &RecordBatch) -> Vec<Found> {
    let (q, d) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Int64Type>());
    let distance = batch.column(2).as_primitive::<Float32Type>();
    (0..batch.num_rows())
        .map(|i| {
            (q.value(i), d.is_valid(i).then(|| d.value(i)), distance.is_valid(i).then(|| distance.value(i)))
        })
        .collect()
}

/// The same queries and distances in the same order; ids where no two distances are alike.
fn assert_same(found: &[Found], wanted: &[Found], what: &str) {
    let close = |a: Option<f32>, b: Option<f32>| match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-5 * (1.0 + b.abs()) || (a.is_nan() && b.is_nan()),
        (a, b) => a.is_none() && b.is_none(),
    };
    let same = found.len() == wanted.len()
        && found
            .iter()
            .zip(wanted)
            .all(|(f, w)| f.0 == w.0 && f.1.is_some() == w.1.is_some() && close(f.2, w.2));
    assert!(same, "{what}\nfound  {found:?}\nwanted {wanted:?}");
}

fn random_docs(rng: &SeededRng, rows: i64, dims: usize, zeroes: bool) -> Vec<Doc> {
    const KINDS: [&str; 4] = ["a", "b", "c", "d"];
    (0..rows)
        .map(|id| Doc {
            id,
            kind: KINDS[rng.below(4) as usize],
            vector: (rng.below(9) > 0).then(|| {
                // Some rows are all zeroes: no distance under cosine.
                let zero = zeroes && rng.below(11) == 0;
                (0..dims).map(|_| if zero { 0.0 } else { rng.below(2001) as f32 / 1000.0 - 1.0 }).collect()
            }),
        })
        .collect()
}

fn session_of(rng: &SeededRng, docs: i64, queries: i64, dims: usize) -> Session {
    session_with_or_without_zeroes(rng, docs, queries, dims, true)
}

fn session_with_or_without_zeroes(
    rng: &SeededRng,
    docs: i64,
    queries: i64,
    dims: usize,
    zeroes: bool,
) -> Session {
    let options = Options {
        partitions: 1 + rng.below(3) as usize,
        batch_size: [3, 64, 8192][rng.below(3) as usize],
        ..Options::default()
    };
    let mut docs = random_docs(rng, docs, dims, zeroes);
    if docs.iter().all(|d| d.vector.is_none()) {
        docs.push(Doc { id: 10_000, kind: "a", vector: Some(vec![0.5; dims]) });
    }
    let session = session_with(options, &docs, 1 + rng.below(40) as usize);
    let queries = random_docs(rng, queries, dims, zeroes);
    session.table("queries", docs_schema(dims), vec![docs_batch(&queries, dims)], 2);
    session
}

const METRICS: [(&str, &str); 4] = [
    ("l2", "l2_distance"),
    ("cosine", "cosine_distance"),
    ("dot", "negative_inner_product"),
    ("l1", "l1_distance"),
];

/// Conditions over `x`, the searched rows, and `q`.
const CONDITIONS: [&str; 5] =
    ["true", "x.kind = q.kind", "x.id % 3 = 1", "x.kind = q.kind AND x.id < q.id * 5", "x.id > 100000"];

fn oracle(function: &str, condition: &str, k: usize, skip: usize, missing: bool, join: &str) -> String {
    let distance = if missing { "true" } else { "dist IS NOT NULL AND NOT isnan(dist)" };
    format!(
        "SELECT q.id, r.id, r.dist FROM queries q {join} JOIN (SELECT qid, id, dist, row_number() OVER \
         (PARTITION BY qid ORDER BY dist ASC NULLS LAST) AS n FROM (SELECT q.id AS qid, x.id AS id, {function}(x.e, q.e) AS dist \
         FROM queries q CROSS JOIN docs x WHERE {condition}) WHERE {distance}) r \
         ON r.qid = q.id AND r.n > {skip} AND r.n <= {skip} + {k} ORDER BY q.id, r.n"
    )
}

#[tokio::test]
async fn every_form_answers_as_a_numbered_cross_join() {
    for seed in 0..40 {
        let rng = SeededRng::new(seed);
        let (docs, queries) = (rng.below(120) as i64, rng.below(30) as i64);
        let dims = [1, 2, 5, 33][rng.below(4) as usize];
        let session = session_of(&rng, docs, queries, dims);
        // A large k makes passes small: four queries each.
        let k = [1, 2, 7, 1_000_000][rng.below(4) as usize];
        let (metric, function) = METRICS[rng.below(4) as usize];
        let condition = CONDITIONS[rng.below(5) as usize];
        let what = format!("seed {seed}: {docs} rows, {queries} queries, k={k}, {metric}, {condition}");
        let inside = condition.replace("x.", "docs.");
        let skip = if k < 100 { rng.below(3) as usize } else { 0 };

        for (written, join) in [("CROSS JOIN", "INNER"), ("LEFT JOIN", "LEFT")] {
            let on = if join == "LEFT" { "ON true" } else { "" };
            let search = format!(
                "SELECT q.id, v.id, v._distance FROM queries q {written} LATERAL vector_search(docs, e, q.e, \
                 k => {k}, metric => '{metric}', where => {inside}) v {on} ORDER BY q.id, v._distance"
            );
            let wanted = answer(&session, &oracle(function, condition, k, 0, false, join)).await;
            assert_same(&answer(&session, &search).await, &wanted, &what);

            // The rows without a distance: NULLS LAST is said, so that both sides mean the same.
            if condition != "true" || metric != "cosine" {
                let plain = format!(
                    "SELECT q.id, v.id, v.dist FROM queries q {written} LATERAL (SELECT x.id, {function}(x.e, q.e) AS dist \
                     FROM docs x WHERE {condition} AND q.e IS NOT NULL ORDER BY {function}(x.e, q.e) ASC NULLS LAST \
                     LIMIT {k} OFFSET {skip}) v {on} ORDER BY q.id, v.dist ASC NULLS LAST"
                );
                let with_query = format!("({condition}) AND q.e IS NOT NULL");
                let wanted = answer(&session, &oracle(function, &with_query, k, skip, true, join)).await;
                assert_same(&answer(&session, &plain).await, &wanted, &what);
            }
        }
    }
}

#[tokio::test]
async fn conditions_of_the_where_go_where_they_belong() {
    for seed in 0..10 {
        let rng = SeededRng::new(seed);
        // Vectors of zeroes are as near as each other: which of them are found, and so pass a condition on the rows
        // found, is not defined.
        let session = session_with_or_without_zeroes(&rng, 60, 10, 3, false);
        let search = |join: &str, condition: &str| {
            format!(
                "SELECT q.id, v.id, v._distance FROM queries q {join} WHERE {condition} ORDER BY q.id, v._distance"
            )
        };
        let wanted =
            answer(&session, &oracle("l2_distance", "x.kind = 'a' AND q.id % 2 = 0", 3, 0, false, "INNER"))
                .await;
        for join in [
            "CROSS JOIN LATERAL vector_search(docs, e, q.e, k => 3, metric => 'l2') v",
            ", vector_search(docs, e, q.e, k => 3, metric => 'l2') v",
            "JOIN LATERAL vector_search(docs, e, q.e, k => 3, metric => 'l2') v ON true",
            ", LATERAL vector_search(docs, e, q.e, k => 3, metric => 'l2') AS v",
            ", LATERAL (SELECT * FROM vector_search(docs, e, q.e, k => 3, metric => 'l2') w WHERE w.kind = 'a') v",
        ] {
            let condition =
                if join.contains(" w ") { "q.id % 2 = 0" } else { "v.kind = 'a' AND q.id % 2 = 0" };
            assert_same(&answer(&session, &search(join, condition)).await, &wanted, join);
        }
        // Both sides: applied to the rows found. Inside of the sub-query: before the top-k.
        let found = answer(
            &session,
            &search(
                "CROSS JOIN LATERAL vector_search(docs, e, q.e, k => 3, metric => 'l2') v",
                "v.kind = q.kind",
            ),
        )
        .await;
        let sql = oracle("l2_distance", "true", 3, 0, false, "INNER").replace(
            "ORDER BY q.id, r.n",
            "JOIN docs x ON x.id = r.id WHERE x.kind = q.kind ORDER BY q.id, r.n",
        );
        assert_same(&found, &answer(&session, &sql).await, "above");
        let inside = "CROSS JOIN LATERAL (SELECT * FROM vector_search(docs, e, q.e, k => 3, metric => 'l2') w WHERE w.kind = q.kind) v";
        let wanted = answer(&session, &oracle("l2_distance", "x.kind = q.kind", 3, 0, false, "INNER")).await;
        assert_same(&answer(&session, &search(inside, "true")).await, &wanted, "inside");
    }
}

#[tokio::test]
async fn similarities_are_sorted_downwards() {
    let rng = SeededRng::new(7);
    let session = session_of(&rng, 80, 12, 4);
    let sql = "SELECT q.id, v.id, -v.s FROM queries q CROSS JOIN LATERAL (SELECT x.id, inner_product(x.e, q.e) AS s \
               FROM docs x WHERE q.e IS NOT NULL ORDER BY s DESC NULLS LAST LIMIT 4) v ORDER BY q.id, v.s DESC";
    let wanted =
        answer(&session, &oracle("negative_inner_product", "q.e IS NOT NULL", 4, 0, false, "INNER")).await;
    assert_same(&answer(&session, sql).await, &wanted, sql);
}

#[tokio::test]
async fn the_plan_has_one_operator_and_carries_what_is_asked_for() {
    let session = crate::support::session();
    let sql = "SELECT q.id, v.kind FROM docs q CROSS JOIN LATERAL vector_search(docs, e, q.e, k => 2) v WHERE v.id > 3 AND q.id = 7";
    let (analysed, optimised) = session.logical(sql).await;
    assert!(
        analysed.contains("LateralSearch: join=inner, column=v.e, metric=cosine, k=2, query=q.e"),
        "{analysed}"
    );
    assert!(optimised.contains("output=[q.id, v.kind]"), "{optimised}");
    let text = session.physical_text(sql).await;
    assert!(text.contains("LateralTopKExec: join=inner, k=2"), "{text}");
    assert!(!text.contains("JoinExec"), "{text}");
}

#[tokio::test]
async fn the_same_table_may_stand_on_both_sides() {
    let session = crate::support::session();
    let ids = session
        .ids(
            "SELECT v.id FROM docs d, docs q, LATERAL (SELECT d.id FROM docs d WHERE d.id <> q.id \
             ORDER BY d.e <-> q.e LIMIT 1) v WHERE d.id = 1 AND q.id = 0",
        )
        .await;
    assert_eq!(ids, [1]);
}

#[tokio::test]
async fn what_cannot_be_matched_is_refused() {
    let session = crate::support::session();
    #[rustfmt::skip]
    let cases = [
        ("SELECT * FROM docs q LEFT JOIN LATERAL vector_search(docs, e, q.e, k => 2) v ON v.id = q.id", "ON true only"),
        ("SELECT * FROM docs q LEFT JOIN LATERAL (SELECT * FROM vector_search(docs, e, q.e, k => 2) w WHERE w._distance < 1) v ON true", "LEFT JOIN LATERAL"),
        ("SELECT * FROM docs q, docs a JOIN LATERAL vector_search(docs, e, q.e, k => 1) v ON true", "depends on q.e of a query further out"),
        ("SELECT * FROM docs q, LATERAL (SELECT v.id FROM docs a, LATERAL vector_search(docs, e, a.e, k => 1) v WHERE v.kind = q.kind) w", "depends on q.kind of a query further out"),
        ("SELECT * FROM docs q, LATERAL (SELECT count(*) FROM vector_search(docs, e, q.e, k => 3) v) w", "the query of vector_search depends on q.e"),
        ("SELECT * FROM docs q, LATERAL (SELECT d.id FROM docs d WHERE d.id = q.id OR d.id IN (SELECT doc_id FROM extra) ORDER BY d.e <-> q.e LIMIT 2) v", "combines IN or EXISTS"),
        ("SELECT * FROM docs q, LATERAL (SELECT d.id FROM docs d WHERE EXISTS (SELECT 1 FROM extra WHERE doc_id = d.id AND tag = q.kind) ORDER BY d.e <-> q.e LIMIT 2) v", "a sub-query that depends on other rows"),
        ("SELECT * FROM docs q RIGHT JOIN LATERAL vector_search(docs, e, q.e, k => 2) v ON true", ""),
        ("SELECT (SELECT v.id FROM vector_search(docs, e, q.e, k => 1) v) FROM docs q", "the query of vector_search depends on q.e"),
        ("SELECT * FROM docs q, LATERAL (SELECT * FROM vector_search(docs, e, q.e, k => 5) w ORDER BY w.id LIMIT 2) v", "newly sorted"),
        ("SELECT * FROM docs q, LATERAL (SELECT * FROM vector_search(docs, e, q.e, k => 5) w ORDER BY w._distance DESC LIMIT 2) v", "newly sorted"),
        ("SELECT * FROM docs q, LATERAL vector_search(docs, e, q.e, k => 2, where => EXISTS (SELECT 1 FROM extra WHERE doc_id = q.id)) v", "a sub-query that depends on other rows"),
    ];
    for (sql, message) in cases {
        let error = session.error(sql).await;
        assert!(error.to_string().contains(message), "{sql}: {error}");
        assert!(matches!(error.kind(), ErrorKind::Unsupported), "{sql}: {error}");
    }
}

#[tokio::test]
async fn a_search_may_be_sorted_as_it_is_and_cut() {
    let session = crate::support::session();
    let ids = session
        .ids(
            "SELECT v.id FROM docs q, LATERAL (SELECT * FROM vector_search(docs, e, q.e, k => 5, metric => 'l2') w \
             ORDER BY w._distance LIMIT 1 OFFSET 1) v WHERE q.id = 0",
        )
        .await;
    assert_eq!(ids, [1]);
    // An uncorrelated sub-query in a condition, and a search of a sub-query that limits rows itself.
    let ids = session
        .ids(
            "SELECT v.id FROM docs q, LATERAL (SELECT d.id FROM (SELECT * FROM docs ORDER BY id DESC LIMIT 10) d \
             WHERE d.id <> q.id AND d.id IN (SELECT doc_id FROM extra) ORDER BY q.e <-> d.e LIMIT 1) v WHERE q.id = 28",
        )
        .await;
    assert_eq!(ids, [26]);
}

#[tokio::test]
async fn conditions_find_bare_columns_beside_those_of_a_search() {
    let session = crate::support::session();
    let sql = "SELECT v.id FROM (SELECT id AS n, e AS vec FROM docs) , \
               LATERAL vector_search(docs, e, vec, k => 1, metric => 'l2') v WHERE n = 3 AND v.kind = 'a'";
    assert_eq!(session.ids(sql).await, [3]);
}
