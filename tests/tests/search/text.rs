//! `text_search` over tables that change, against a plain reading of BM25's definition.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float32Type, Int64Type};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use triune_query::Session;

use crate::support::{self, open, plan, rows, run};

/// Words that the tokenizer leaves as they are.
const WORDS: [&str; 8] = ["sun", "wind", "coal", "gas", "oil", "peat", "wood", "atom"];

#[derive(Debug, Clone)]
struct Row {
    id: i64,
    kind: Option<String>,
    texts: [Option<String>; 2],
}

/// The table as a plain scan gives it.
async fn table(session: &Session) -> Vec<Row> {
    let mut out = Vec::new();
    for batch in rows(session, "SELECT id, kind, title, body FROM t").await {
        let text = |column: usize, row: usize| {
            let array =
                arrow::compute::cast(batch.column(column), &arrow::datatypes::DataType::Utf8).unwrap();
            array.is_valid(row).then(|| array.as_string::<i32>().value(row).to_owned())
        };
        for row in 0..batch.num_rows() {
            let id = batch.column(0).as_primitive::<Int64Type>().value(row);
            out.push(Row { id, kind: text(1, row), texts: [text(2, row), text(3, row)] });
        }
    }
    out
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').filter(|w| !w.is_empty()).collect()
}

/// Every row with one of the words, or all of them, and its score.
fn oracle(rows: &[Row], query: &[&str], all: bool, chosen: impl Fn(&Row) -> bool) -> Vec<(i64, f64)> {
    let mut distinct = query.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let mut out = Vec::new();
    for row in rows.iter().filter(|r| chosen(r)) {
        let has = |w: &&&str| row.texts.iter().flatten().any(|t| words(t).contains(*w));
        let found = distinct.iter().filter(has).count();
        if found == 0 || (all && found < distinct.len()) {
            continue;
        }
        let mut best = 0f64;
        for (column, text) in row.texts.iter().enumerate() {
            let Some(text) = text else { continue };
            // A text without a word does not count.
            let corpus = rows.iter().filter_map(|r| r.texts[column].as_deref().map(words));
            let corpus: Vec<Vec<&str>> = corpus.filter(|words| !words.is_empty()).collect();
            let n = corpus.len() as f64;
            let mean = corpus.iter().map(Vec::len).sum::<usize>() as f64 / n;
            let own = words(text);
            let score: f64 = distinct
                .iter()
                .map(|w| {
                    let having = corpus.iter().filter(|t| t.contains(w)).count() as f64;
                    let tf = own.iter().filter(|o| *o == w).count() as f64;
                    let idf = (1.0 + (n - having + 0.5) / (having + 0.5)).ln();
                    if tf == 0.0 {
                        0.0
                    } else {
                        idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * own.len() as f64 / mean))
                    }
                })
                .sum();
            best = best.max(score);
        }
        out.push((row.id, best));
    }
    out
}

async fn compare(session: &Session, rng: &mut ChaCha8Rng) {
    let all_rows = table(session).await;
    for condition in 0..4 {
        let query: Vec<&str> =
            (0..rng.random_range(1..4)).map(|_| WORDS[rng.random_range(0..WORDS.len())]).collect();
        let k = [1, 5, 1000][rng.random_range(0..3)];
        let every = rng.random_bool(0.4);
        let sql = ["true", "kind = 'a'", "id % 7 = 3", "id < 40 OR kind IS NULL"][condition];
        let chosen = |r: &Row| match condition {
            0 => true,
            1 => r.kind.as_deref() == Some("a"),
            2 => r.id % 7 == 3,
            _ => r.id < 40 || r.kind.is_none(),
        };
        let operator = if every { "and" } else { "or" };
        let call =
            format!("t, '{}', columns => [title, body], operator => '{operator}', k => {k}", query.join(" "));
        let statement = match rng.random_bool(0.5) {
            true => format!("SELECT id, _score FROM text_search({call}) AS s WHERE {sql}"),
            false => format!("SELECT id, _score FROM text_search({call}, where => {sql})"),
        };
        let mut truth = oracle(&all_rows, &query, every, chosen);
        let everyone = truth.clone();
        truth.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        truth.truncate(k);
        let mut found = Vec::new();
        for batch in rows(session, &statement).await {
            let (ids, scores) =
                (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Float32Type>());
            found.extend((0..batch.num_rows()).map(|i| (ids.value(i), f64::from(scores.value(i)))));
        }
        assert_eq!(found.len(), truth.len(), "{statement}: {found:?} {truth:?}");
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.max(1.0);
        for ((id, score), (_, wanted)) in found.iter().zip(&truth) {
            assert!(close(*score, *wanted), "{statement}: {found:?} {truth:?}");
            let own = everyone.iter().find(|(i, _)| i == id).map(|(_, s)| *s);
            assert!(own.is_some_and(|own| close(*score, own)), "{statement}: {id}: {score}, {own:?}");
        }
        let mut ids: Vec<i64> = found.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), found.len(), "{statement}: a row came twice");
    }
}

fn text(rng: &mut ChaCha8Rng) -> String {
    if rng.random_bool(0.1) {
        return "NULL".to_owned();
    }
    let n = rng.random_range(0..7);
    let words: Vec<&str> = (0..n).map(|_| WORDS[rng.random_range(0..WORDS.len())]).collect();
    format!("'{}'", words.join(" "))
}

fn insert(rng: &mut ChaCha8Rng, ids: std::ops::Range<i64>) -> String {
    let values: Vec<String> = ids
        .map(|id| {
            let kind = ["'a'", "'b'", "NULL"][rng.random_range(0..3)];
            format!("({id}, {kind}, {}, {})", text(rng), text(rng))
        })
        .collect();
    format!("INSERT INTO t VALUES {}", values.join(", "))
}

/// One transaction of random changes; whether it is kept is the caller's affair.
async fn change(session: &Session, rng: &mut ChaCha8Rng, next: &mut i64) {
    for _ in 0..3 {
        let statement = match rng.random_range(0..4) {
            0 => {
                let statement = insert(rng, *next..*next + 15);
                *next += 15;
                statement
            }
            1 => format!("DELETE FROM t WHERE id % {} = {}", rng.random_range(6..30), rng.random_range(0..5)),
            2 => format!("UPDATE t SET title = {} WHERE id % 20 = {}", text(rng), rng.random_range(0..20)),
            _ => format!(
                "UPDATE t SET body = {}, kind = 'a' WHERE id = {}",
                text(rng),
                rng.random_range(0..*next)
            ),
        };
        rows(session, &statement).await;
    }
}

#[test]
fn scores_are_of_the_rows_that_the_statement_sees() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let database = open(folder.path()).await;
        let session = database.session();
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        rows(&session, "CREATE TABLE t (id BIGINT PRIMARY KEY, kind TEXT, title TEXT, body TEXT)").await;
        compare(&session, &mut rng).await;
        rows(&session, &insert(&mut rng, 0..120)).await;
        compare(&session, &mut rng).await;
        let mut next = 120;
        for round in 0..16 {
            if round == 5 {
                rows(&session, "CREATE INDEX words ON t USING fulltext (title, body)").await;
                let search = "SELECT id FROM text_search(t, 'sun', columns => [title, body]) AS s";
                let text = plan(&session, search).await;
                assert!(text.contains("TextIndexExec") && text.contains("access=index words"), "{text}");
            }
            rows(&session, "BEGIN").await;
            change(&session, &mut rng, &mut next).await;
            compare(&session, &mut rng).await;
            rows(&session, if round % 4 == 3 { "ROLLBACK" } else { "COMMIT" }).await;
            compare(&session, &mut rng).await;
            if round % 3 == 0 {
                rows(&session, "CHECKPOINT").await;
                compare(&session, &mut rng).await;
            }
            if round == 9 {
                rows(&session, "OPTIMIZE t").await;
                compare(&session, &mut rng).await;
            }
        }
    });
}

/// `id → score` of an answer with a score in the second column.
async fn scored(session: &Session, sql: &str) -> Vec<(i64, f64)> {
    support::scored(session, sql).await.into_iter().map(|(id, score)| (id, score.unwrap())).collect()
}

/// The fusion in plain SQL.
const BY_HAND: &str = "
    WITH near AS (SELECT id, row_number() OVER (ORDER BY e <-> {q}::VECTOR(3), id) AS r FROM t
                  WHERE e IS NOT NULL AND ({c})),
         found AS (SELECT id, row_number() OVER (ORDER BY _score DESC, id) AS r
                   FROM text_search(t, '{w}', k => 100000, where => {c}))
    SELECT coalesce(n.id, f.id) AS id,
           coalesce(1.0 / (60 + n.r), 0) + coalesce(1.0 / (60 + f.r), 0) AS s
    FROM near n FULL JOIN found f ON n.id = f.id ORDER BY s DESC, id";

#[test]
fn hybrid_searches_are_their_plain_sql_with_and_without_an_index() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let database = open(folder.path()).await;
        let session = database.session();
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        rows(&session, "CREATE TABLE t (id BIGINT PRIMARY KEY, body TEXT, e VECTOR(3))").await;
        let vector = |rng: &mut ChaCha8Rng| {
            let numbers: Vec<String> =
                (0..3).map(|_| format!("{:.6}", rng.random_range(-1.0..1.0_f64))).collect();
            format!("'[{}]'", numbers.join(","))
        };
        let mut next = 0;
        for round in 0..8 {
            let values: Vec<String> = (next..next + 150)
                .map(|id| {
                    let e = if id % 40 == 7 { "NULL".to_owned() } else { vector(&mut rng) };
                    format!("({id}, {}, {e})", text(&mut rng))
                })
                .collect();
            next += 150;
            rows(&session, &format!("INSERT INTO t VALUES {}", values.join(", "))).await;
            rows(&session, &format!("DELETE FROM t WHERE id % 17 = {round}")).await;
            rows(&session, &format!("UPDATE t SET e = {} WHERE id % 31 = {round}", vector(&mut rng))).await;
            if round == 2 {
                rows(&session, "CREATE INDEX near ON t USING ivf_flat (e vector_l2_ops) WITH (lists = 4)")
                    .await;
                rows(&session, "REINDEX INDEX near").await;
            }
            if round % 2 == 0 {
                rows(&session, "CHECKPOINT").await;
            }
            for condition in ["true", "id % 3 = 1", "id > 500 OR body LIKE 'sun%'"] {
                let (q, word) = (vector(&mut rng), WORDS[rng.random_range(0..WORDS.len())]);
                let k = [1, 7, 50][rng.random_range(0..3)];
                let sql = BY_HAND.replace("{q}", &q).replace("{w}", word).replace("{c}", condition);
                let everyone = scored(&session, &sql).await;
                let statement = format!(
                    "SELECT id, _score FROM hybrid_search(t, vector => {q}, text => '{word}', metric => 'l2', k => {k}, \
                     candidates => 100000, nprobes => 4) WHERE {condition}"
                );
                let text = plan(&session, &statement).await;
                assert_eq!(text.contains("access=index near"), round >= 2, "{text}");
                let found = scored(&session, &statement).await;
                assert_eq!(found.len(), everyone.len().min(k), "{statement}");
                for ((id, score), (_, wanted)) in found.iter().zip(&everyone) {
                    assert!((score - wanted).abs() < 1e-9, "{statement}: {found:?}");
                    let own = everyone.iter().find(|(i, _)| i == id).map(|(_, s)| *s);
                    assert!(own.is_some_and(|own| (own - score).abs() < 1e-9), "{statement}: {id} {own:?}");
                }
            }
        }
    });
}
