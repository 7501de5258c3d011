//! The same statements over local files and over a real S3 server give the same answers, for Parquet, Lance, CSV,
//! JSON and Arrow; a database on S3 keeps its catalog; a store that refuses or stalls ends in an error of its kind.

#![expect(clippy::expect_used, clippy::panic, reason = "a helper that fails fails its test")]

use std::path::Path;
use std::time::Duration;

use triune_common::ErrorKind;
use triune_query::{Database, DatabaseOptions, ElsewhereOptions, Session, StoreLimits};
use triune_tests::s3::{Fault, FaultyS3, S3Server, create_secret_sql};

/// `{base}` is a folder or a bucket.
const WRITES: [&str; 6] = [
    "COPY (SELECT i AS id, i % 7 AS grp, 'name ' || i AS name, [i, i * 0.5, 1.0]::VECTOR(3) AS v \
     FROM generate_series(1, 500) AS g(i)) TO '{base}/t.parquet'",
    "COPY (SELECT * FROM '{base}/t.parquet') TO '{base}/t.lance'",
    "COPY (SELECT id, grp, name FROM '{base}/t.parquet') TO '{base}/t.csv'",
    "COPY (SELECT id, grp, name FROM '{base}/t.parquet') TO '{base}/t.json'",
    "COPY (SELECT * FROM '{base}/t.parquet') TO '{base}/t.arrow'",
    "COPY (SELECT * FROM '{base}/t.parquet') TO '{base}/parts/' (FORMAT parquet, PARTITION_BY grp)",
];

const READS: [&str; 9] = [
    "SELECT count(*), sum(id), min(name), max(name) FROM '{base}/t.parquet'",
    "SELECT grp, count(*) AS n FROM '{base}/t.lance' WHERE id > 100 GROUP BY grp ORDER BY grp",
    "SELECT id, name FROM '{base}/t.csv' WHERE grp = 3 ORDER BY id LIMIT 5",
    "SELECT id, name FROM '{base}/t.json' WHERE grp = 3 ORDER BY id DESC LIMIT 5",
    "SELECT id, v FROM '{base}/t.arrow' WHERE id IN (1, 250, 500) ORDER BY id",
    "SELECT id FROM vector_search('{base}/t.parquet', v, [100, 50, 1], k => 5, metric => 'l2') WHERE grp <> 2",
    "SELECT id FROM vector_search('{base}/t.lance', v, [100, 50, 1], k => 5, metric => 'l2') WHERE grp <> 2",
    "SELECT a.id, b.name FROM '{base}/t.parquet' a JOIN '{base}/t.lance' b USING (id) WHERE a.id < 4 ORDER BY a.id",
    "SELECT grp, count(*) AS n FROM '{base}/parts/' GROUP BY grp ORDER BY grp",
];

async fn text(session: &Session, sql: &str) -> String {
    let result = session.execute(sql).await.unwrap_or_else(|e| panic!("{sql}\n{e}"));
    let batches = result.collect().await.unwrap_or_else(|e| panic!("{sql}\n{e}"));
    arrow::util::pretty::pretty_format_batches(&batches).expect("a table").to_string()
}

async fn answers(session: &Session, base: &str) -> Vec<String> {
    for sql in WRITES {
        text(session, &sql.replace("{base}", base)).await;
    }
    let mut answers = Vec::new();
    for sql in READS {
        answers.push(text(session, &sql.replace("{base}", base)).await);
    }
    answers
}

async fn session_with_secret(server: &S3Server) -> Session {
    let session = Database::open(None).await.expect("a database").session();
    session.execute(&server.create_secret_sql("test")).await.expect("the secret");
    session
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_files_and_s3_give_the_same_answers() {
    let server = S3Server::start().expect("an S3 server");
    server.create_bucket("lake").expect("a bucket");
    let session = session_with_secret(&server).await;
    let folder = tempfile::tempdir().expect("a folder");
    let local = answers(&session, folder.path().to_str().expect("UTF-8")).await;
    let remote = answers(&session, "s3://lake/some/prefix").await;
    for ((sql, local), remote) in READS.iter().zip(&local).zip(&remote) {
        assert_eq!(local, remote, "{sql}");
    }
    assert!(local[0].contains("| 500      | 125250"), "{}", local[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_on_s3_keeps_its_tables_and_views() {
    let server = S3Server::start().expect("an S3 server");
    server.create_bucket("lake").expect("a bucket");
    let machine = tempfile::tempdir().expect("a folder");
    // A database's own credentials come from the environment of its process; here from a registry made for it.
    let options = DatabaseOptions {
        environment: Some(server.environment().into_iter().collect()),
        elsewhere: ElsewhereOptions {
            folder: Some(machine.path().to_owned()),
            ..ElsewhereOptions::default()
        },
        ..DatabaseOptions::default()
    };
    let database = Database::open_with(Some("s3://lake/my.db"), options.clone()).await.expect("a database");
    let session = database.session();
    text(&session, "COPY (SELECT 7 AS id) TO 's3://lake/data/t.parquet'").await;
    text(&session, "CREATE EXTERNAL TABLE t LOCATION 's3://lake/data/t.parquet'").await;
    text(&session, "CREATE VIEW v AS SELECT id + 1 AS next FROM t").await;
    drop(session);
    drop(database);
    let again = Database::open_with(Some("s3://lake/my.db"), options).await.expect("the database").session();
    assert!(text(&again, "FROM v").await.contains("| 8 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_views_and_secrets_outlive_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |p: &str| folder.path().join(p).display().to_string();
    let location = path("my.db");
    {
        let session = Database::open(Some(&location)).await.expect("a database").session();
        text(&session, &format!("COPY (SELECT 1 AS id, 'x' AS name) TO '{}'", path("t.parquet"))).await;
        text(
            &session,
            &format!("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{}'", path("t.parquet")),
        )
        .await;
        text(&session, "CREATE SCHEMA s").await;
        text(&session, "CREATE VIEW s.v AS SELECT name FROM t").await;
        text(&session, "CREATE TABLE kept (id INT)").await;
        text(&session, "INSERT INTO kept VALUES (4711)").await;
    }
    let session = Database::open(Some(&location)).await.expect("the database").session();
    assert!(text(&session, "FROM s.v").await.contains("| x "));
    assert!(text(&session, "FROM kept").await.contains("4711"));
    // The catalog names the file by its absolute path and holds no credentials.
    let catalog = std::fs::read_to_string(Path::new(&location).join("catalog.json")).expect("the catalog");
    assert!(catalog.contains(&path("t.parquet")), "{catalog}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_says_no_and_one_that_is_not_there() {
    let server = S3Server::start().expect("an S3 server");
    let session = session_with_secret(&server).await;
    let error = session.execute("SELECT * FROM 's3://nowhere/t.parquet'").await.expect_err("no bucket");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("nowhere"), "{error}");
    let refusing = FaultyS3::start(&server, Fault::Forbid).expect("a server that refuses");
    session
        .execute(&create_secret_sql("no", refusing.address(), "s3://forbidden"))
        .await
        .expect("the secret");
    let error = session.execute("SELECT * FROM 's3://forbidden/t.parquet'").await.expect_err("403");
    assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
    assert!(!error.to_string().contains(triune_tests::s3::SECRET), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_stops_answering_in_the_middle_ends_in_bounded_time() {
    let server = S3Server::start().expect("an S3 server");
    server.create_bucket("lake").expect("a bucket");
    let writer = session_with_secret(&server).await;
    let wide = "COPY (SELECT i, repeat(md5(i::VARCHAR), 20) AS t FROM generate_series(1, 20000) AS g(i)) TO ";
    text(&writer, &format!("{wide} 's3://lake/t.parquet'")).await;
    let limits = StoreLimits {
        stall: Duration::from_millis(700),
        retries: 1,
        retry_for: Duration::from_secs(3),
        ..StoreLimits::default()
    };
    let options = DatabaseOptions { store_limits: limits, ..DatabaseOptions::default() };
    let session = Database::open_with(None, options).await.expect("a database").session();
    let silent = FaultyS3::start(&server, Fault::SilentAfter(100_000)).expect("a server that falls silent");
    session.execute(&create_secret_sql("slow", silent.address(), "")).await.expect("the secret");
    let query = async {
        session.execute("SELECT count(DISTINCT t) FROM 's3://lake/t.parquet'").await?.collect().await
    };
    let outcome = tokio::time::timeout(Duration::from_secs(30), query).await.expect("an end");
    assert_eq!(outcome.expect_err("no answer").kind(), ErrorKind::Unavailable);
}
