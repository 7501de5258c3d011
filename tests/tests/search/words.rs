//! Searches of words through full-text indexes against the same searches that read every text: same rows, same scores.

use rand::seq::IndexedRandom as _;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use triune_query::Session;

use crate::support::{found, open, plan, rows, run, scored};

/// With endings, accents, stop words and near misses.
const WORDS: [&str; 20] = [
    "sun", "suns", "Sonne", "wind", "winds", "windy", "coal", "coals", "gas", "the", "of", "and", "café",
    "cafe", "running", "runs", "ran", "solar", "polar", "e-mail",
];

fn text(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..12) {
        0 => return "NULL".to_owned(),
        1 => return "''".to_owned(),
        2 => return "'the of'".to_owned(),
        _ => {}
    }
    let n = rng.random_range(1..12);
    let words: Vec<&str> = (0..n).map(|_| *WORDS.choose(rng).unwrap()).collect();
    format!("'{}'", words.join(" "))
}

fn row(rng: &mut ChaCha8Rng, id: i64) -> String {
    let kind = ["'a'", "'b'", "NULL"][rng.random_range(0..3)];
    let at = match rng.random_range(0..6) {
        0 => "NULL".to_owned(),
        days => format!("TIMESTAMP '2026-01-{:02} 12:00:00'", days * 4 + id % 4),
    };
    format!("({id}, {kind}, {at}, {}, {})", text(rng), text(rng))
}

async fn insert(session: &Session, rng: &mut ChaCha8Rng, ids: std::ops::Range<i64>) {
    let values: Vec<String> = ids.map(|id| row(rng, id)).collect();
    rows(session, &format!("INSERT INTO t VALUES {}", values.join(", "))).await;
}

async fn change(session: &Session, rng: &mut ChaCha8Rng, next: &mut i64) {
    for _ in 0..3 {
        match rng.random_range(0..4) {
            0 => {
                insert(session, rng, *next..*next + 20).await;
                *next += 20;
            }
            1 => {
                let (n, r) = (rng.random_range(6..30), rng.random_range(0..5));
                rows(session, &format!("DELETE FROM t WHERE id % {n} = {r}")).await;
            }
            2 => {
                let (title, r) = (text(rng), rng.random_range(0..20));
                rows(session, &format!("UPDATE t SET title = {title} WHERE id % 20 = {r}")).await;
            }
            _ => {
                let (body, id) = (text(rng), rng.random_range(0..*next));
                rows(session, &format!("UPDATE t SET body = {body}, kind = 'a' WHERE id = {id}")).await;
            }
        }
    }
}

const CONDITIONS: [&str; 7] = [
    "true",
    "kind = 'a'",
    "id % 7 = 3",
    "id < 40 OR kind IS NULL",
    "id IN (3, 5, 8, 13, 21)",
    "title LIKE '%sun%' AND kind <> 'b'",
    "id > 1000000",
];

/// A random call; whether it names the words' language itself.
fn call(rng: &mut ChaCha8Rng) -> String {
    let word = |rng: &mut ChaCha8Rng| *WORDS.choose(rng).unwrap();
    let (a, b, c) = (word(rng), word(rng), word(rng));
    let query = match rng.random_range(0..8) {
        0 => a.to_owned(),
        1 => format!("{a} {b} {c}"),
        2 => format!("\"{a} {b}\""),
        // A query that only excludes is an error, and stop words are no words.
        3 => format!("+gas {a} {b} -{c}"),
        4 => format!("{a} sun -\"{b} {c}\""),
        5 => format!("+\"{a} {b}\" {c}"),
        6 => format!("{a} zebra"),
        _ => format!("{a} {b}"),
    };
    let mut call = format!("t, '{query}'");
    call += match rng.random_range(0..4) {
        0 => ", columns => [title]",
        1 => ", columns => [body]",
        _ => ", columns => [title, body]",
    };
    call += &format!(", k => {}", [1, 4, 30, 1000][rng.random_range(0..4)]);
    if rng.random_bool(0.3) {
        call += ", operator => 'and'";
    }
    call += match rng.random_range(0..8) {
        0 => ", fuzziness => 1",
        1 => ", fuzziness => 2, prefix_length => 1",
        2 => ", fuzziness => 'auto'",
        3 => ", phrase => true, slop => 2",
        _ => "",
    };
    if rng.random_bool(0.25) {
        call += ", recency => exponential(at, '5 days', origin => TIMESTAMP '2026-01-20 00:00:00')";
    }
    call
}

/// Lists of one order, with scores to the last bit.
async fn compare(session: &Session, rng: &mut ChaCha8Rng, index: &str) {
    for condition in CONDITIONS {
        let call = call(rng);
        let statement = match rng.random_bool(0.5) {
            true => format!("SELECT id, _score FROM text_search({call}) AS s WHERE {condition}"),
            false => format!("SELECT id, _score FROM text_search({call}, where => {condition})"),
        };
        rows(session, "SET search.mode = exact").await;
        let truth = found(session, &statement).await;
        rows(session, "SET search.mode = index").await;
        let text = plan(session, &statement).await;
        assert!(text.contains("TextIndexExec") && text.contains(&format!("access=index {index}")), "{text}");
        let got = found(session, &statement).await;
        rows(session, "RESET search.mode").await;
        assert_eq!(got, truth, "{statement}");
    }
}

#[test]
fn indexes_of_words_answer_as_reading_every_text() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let database = open(folder.path()).await;
        let session = database.session();
        let mut rng = ChaCha8Rng::seed_from_u64(21);
        let table = "CREATE TABLE t (id BIGINT PRIMARY KEY, kind TEXT, at TIMESTAMP, title TEXT, body TEXT)";
        rows(&session, table).await;
        insert(&session, &mut rng, 0..700).await;
        let mut next = 700;
        for options in [
            "",
            "WITH (stemming = false, positions = false)",
            "WITH (language = 'german', stop_words = false)",
            "WITH (tokenizer = 'whitespace', lower_case = false, ascii_folding = false, stemming = false)",
        ] {
            rows(&session, &format!("CREATE INDEX words ON t USING fulltext (title, body) {options}")).await;
            compare(&session, &mut rng, "words").await;
            for round in 0..6 {
                rows(&session, "BEGIN").await;
                change(&session, &mut rng, &mut next).await;
                compare(&session, &mut rng, "words").await;
                rows(&session, if round % 4 == 3 { "ROLLBACK" } else { "COMMIT" }).await;
                match round {
                    0 | 2 => drop(rows(&session, "CHECKPOINT").await),
                    4 => drop(rows(&session, "OPTIMIZE t").await),
                    _ => {}
                }
                compare(&session, &mut rng, "words").await;
            }
            rows(&session, "DROP INDEX words").await;
        }
        // Two indexes for two columns; and where one is missing, every text is read.
        rows(&session, "CREATE INDEX titles ON t USING fulltext (title)").await;
        let both = "SELECT id, _score FROM text_search(t, 'sun wind', columns => [title, body])";
        let text = plan(&session, both).await;
        assert!(text.contains("access=exact (no full-text index on body)"), "{text}");
        rows(&session, "CREATE INDEX bodies ON t USING fulltext (body)").await;
        let text = plan(&session, both).await;
        assert!(text.contains("access=index titles+bodies"), "{text}");
        compare(&session, &mut rng, "").await;
    });
}

#[test]
fn the_index_says_what_a_word_is() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let session = open(folder.path()).await.session();
        rows(&session, "CREATE TABLE t (id BIGINT PRIMARY KEY, title TEXT)").await;
        rows(&session, "INSERT INTO t VALUES (1, 'suns'), (2, 'sun'), (3, 'the')").await;
        let ids = async |sql: &str| {
            let found = found(&session, sql).await;
            found.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
        };
        let sun = "SELECT id, _score FROM text_search(t, 'sun') ORDER BY id";
        assert_eq!(ids(sun).await, [1, 2]);
        rows(
            &session,
            "CREATE INDEX w ON t USING fulltext (title) WITH (stemming = false, stop_words = false)",
        )
        .await;
        for mode in ["exact", "index"] {
            rows(&session, &format!("SET search.mode = {mode}")).await;
            assert_eq!(ids(sun).await, [2], "{mode}");
            assert_eq!(ids("SELECT id, _score FROM text_search(t, 'the')").await, [3], "{mode}");
        }
        rows(&session, "RESET search.mode").await;
        // What the call says is above it.
        let stemmed = "SELECT id, _score FROM text_search(t, 'sun', stemming => true) ORDER BY id";
        assert_eq!(ids(stemmed).await, [1, 2]);
        let text = plan(&session, stemmed).await;
        assert!(text.contains("access=exact (the words of index w are others)"), "{text}");
        let text = plan(&session, "SELECT id FROM text_search(t, 'sun', exact => true)").await;
        assert!(text.contains("access=exact (exact => true)"), "{text}");
    });
}

#[test]
fn a_damaged_index_is_passed_over() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let sun = "SELECT id, _score FROM text_search(t, 'sun gas', columns => [title, body], k => 20)";
        let truth = {
            let session = open(folder.path()).await.session();
            let table =
                "CREATE TABLE t (id BIGINT PRIMARY KEY, kind TEXT, at TIMESTAMP, title TEXT, body TEXT)";
            rows(&session, table).await;
            insert(&session, &mut ChaCha8Rng::seed_from_u64(4), 0..300).await;
            rows(&session, "CREATE INDEX words ON t USING fulltext (title, body)").await;
            let truth = found(&session, sun).await;
            let held = "SELECT 1::BIGINT, bytes_in_memory::DOUBLE FROM system.indexes";
            assert!(scored(&session, held).await[0].1.is_some_and(|bytes| bytes > 300.0 * 12.0));
            assert!(plan(&session, sun).await.contains("access=index words"));
            truth
        };
        for file in ["invert.lance", "docs.lance", "metadata.lance"] {
            let mut cut = 0;
            let mut folders = vec![folder.path().to_path_buf()];
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        folders.push(path);
                    } else if path.to_str().is_some_and(|p| p.contains("_indices") && p.ends_with(file)) {
                        let bytes = std::fs::read(&path).unwrap();
                        std::fs::write(&path, vec![0xA5; bytes.len()]).unwrap();
                        cut += 1;
                    }
                }
            }
            assert!(cut > 0, "{file}");
            let session = open(folder.path()).await.session();
            assert_eq!(found(&session, sun).await, truth, "{file}");
            assert!(plan(&session, sun).await.contains("access=exact ("), "{file}");
            let state = "SELECT 1::BIGINT, 1.0 FROM system.indexes WHERE state = 'failed'";
            assert_eq!(scored(&session, state).await.len(), 1, "{file}");
            rows(&session, "SET search.mode = index").await;
            assert!(session.execute(sun).await.is_err(), "{file}");
            rows(&session, "RESET search.mode").await;
            rows(&session, "REINDEX INDEX words").await;
            assert!(plan(&session, sun).await.contains("access=index words"), "{file}");
            assert_eq!(found(&session, sun).await, truth, "{file}");
        }
    });
}
