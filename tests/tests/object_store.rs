//! Databases that live in a bucket: tables, commits, one writer, readers, lost logs; on a real S3 server.
//!
//! What happens when requests are lost and processes die between any two of them is simulated in
//! `engine/storage/tests/store/remote.rs`; here the whole way from SQL to the server is walked.

#![expect(clippy::expect_used, clippy::panic, reason = "a helper that fails fails its test")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use triune_common::{Error, ErrorKind};
use triune_query::{Database, DatabaseOptions, ElsewhereOptions, Session, WalKind};
use triune_tests::s3::S3Server;

const CHILD: &str = "TRIUNE_OBJECT_STORE_CHILD";
const PLACE: &str = "s3://lake/my.db";

/// A server with a bucket, and the local folder of one machine.
struct World {
    server: S3Server,
    machine: TempDir,
}

impl World {
    fn new() -> Self {
        let server = S3Server::start().expect("an S3 server");
        server.create_bucket("lake").expect("a bucket");
        Self { server, machine: machine() }
    }

    fn options(&self) -> DatabaseOptions {
        self.options_on(self.machine.path())
    }

    /// Of another machine: another folder.
    fn options_on(&self, machine: &Path) -> DatabaseOptions {
        DatabaseOptions {
            environment: Some(self.server.environment().into_iter().collect()),
            elsewhere: ElsewhereOptions { folder: Some(machine.to_owned()), ..ElsewhereOptions::default() },
            ..DatabaseOptions::default()
        }
    }
}

fn machine() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn with(mut options: DatabaseOptions, edit: impl FnOnce(&mut DatabaseOptions)) -> DatabaseOptions {
    edit(&mut options);
    options
}

async fn open(options: DatabaseOptions) -> Arc<Database> {
    Database::open_with(Some(PLACE), options).await.expect("the database")
}

async fn refused(options: DatabaseOptions) -> Error {
    Database::open_with(Some(PLACE), options).await.expect_err("it was not to be opened")
}

async fn run(session: &Session, sql: &str) -> String {
    let result = session.execute(sql).await.unwrap_or_else(|e| panic!("{sql}\n{e}"));
    let batches = result.collect().await.unwrap_or_else(|e| panic!("{sql}\n{e}"));
    arrow::util::pretty::pretty_format_batches(&batches).expect("a table").to_string()
}

/// The one number that a query answers.
async fn number(session: &Session, sql: &str) -> i64 {
    let answer = run(session, sql).await;
    let cell = answer
        .lines()
        .nth(3)
        .and_then(|row| row.split('|').nth(1))
        .unwrap_or_else(|| panic!("{sql}\n{answer}"));
    cell.trim().parse().unwrap_or_else(|e| panic!("{sql}\n{answer}\n{e}"))
}

const MAKE: [&str; 7] = [
    "CREATE TABLE t (id BIGINT PRIMARY KEY, grp INT, name TEXT, v VECTOR(2))",
    "INSERT INTO t SELECT i, i % 5, 'name ' || i, [i, 1.0] FROM generate_series(1, 400) AS g(i)",
    "CHECKPOINT",
    "UPDATE t SET name = upper(name) WHERE id <= 10",
    "DELETE FROM t WHERE id > 390",
    "INSERT INTO t VALUES (1000, 0, 'late', [7, 7]) ON CONFLICT DO NOTHING",
    "INSERT INTO t VALUES (1000, 1, 'later', [7, 8]) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
];

const ASK: [&str; 5] = [
    "SELECT count(*), sum(id), min(name), max(name) FROM t",
    "SELECT grp, count(*) AS n, min(id) FROM t GROUP BY grp ORDER BY grp",
    "SELECT id, name FROM t WHERE id IN (1, 10, 11, 390, 391, 1000) ORDER BY id",
    "SELECT id, name FROM vector_search(t, v, [100, 1], k => 3, metric => 'l2')",
    "SELECT name FROM t WHERE id = 1000",
];

async fn answers(session: &Session) -> Vec<String> {
    let mut answers = Vec::new();
    for sql in ASK {
        answers.push(run(session, sql).await);
    }
    answers
}

/// The same statements in memory, which never leave the process.
async fn expected() -> Vec<String> {
    let session = Database::open(None).await.expect("a database").session();
    for sql in MAKE.iter().filter(|s| **s != "CHECKPOINT") {
        run(&session, sql).await;
    }
    answers(&session).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_in_a_bucket_answer_like_tables_in_memory() {
    let world = World::new();
    let expected = expected().await;
    assert!(expected[0].contains("| 391      | 77245"), "{}", expected[0]);
    for wal in [WalKind::Local, WalKind::ObjectStore] {
        let options = with(world.options(), |o| o.elsewhere.wal = Some(wal));
        let database = open(options.clone()).await;
        let session = database.session();
        run(&session, "DROP TABLE IF EXISTS t").await;
        for sql in MAKE {
            run(&session, sql).await;
        }
        assert_eq!(answers(&session).await, expected, "{wal:?}, hot and checkpointed");
        drop((session, database));
        // As after a crash: nothing was closed.
        let database = open(options.clone()).await;
        let session = database.session();
        assert_eq!(answers(&session).await, expected, "{wal:?}, recovered from the log");
        run(&session, "CHECKPOINT").await;
        run(&session, "OPTIMIZE t").await;
        run(&session, "VACUUM t").await;
        assert_eq!(answers(&session).await, expected, "{wal:?}, rewritten");
        run(&session, "CREATE INDEX by_group ON t USING bitmap (grp)").await;
        run(&session, "CREATE INDEX by_vector ON t USING ivf_flat (v) WITH (metric = 'l2', lists = 2)").await;
        assert_eq!(answers(&session).await, expected, "{wal:?}, with indexes");
        database.close().await.expect("closed");
        let error =
            session.execute("INSERT INTO t VALUES (5000, 1, 'x', NULL)").await.expect_err("it is closed");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        drop((session, database));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_database_opens_on_any_machine() {
    let world = World::new();
    let database = open(world.options()).await;
    let session = database.session();
    run(&session, "CREATE TABLE t (id BIGINT PRIMARY KEY)").await;
    run(&session, "INSERT INTO t VALUES (1), (2)").await;
    database.close().await.expect("closed");
    drop((session, database));
    let other = machine();
    let session = open(world.options_on(other.path())).await.session();
    run(&session, "INSERT INTO t VALUES (3)").await;
    assert_eq!(number(&session, "SELECT sum(id) FROM t").await, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_log_that_is_not_here_is_missed() {
    let world = World::new();
    let database = open(world.options()).await;
    let session = database.session();
    run(&session, "CREATE TABLE t (id BIGINT PRIMARY KEY)").await;
    run(&session, "INSERT INTO t VALUES (1), (2)").await;
    run(&session, "CHECKPOINT").await;
    run(&session, "INSERT INTO t VALUES (3)").await;
    drop((session, database));
    // The machine is gone with its disk.
    drop(std::fs::remove_dir_all(world.machine.path()));
    let other = machine();
    let elsewhere = world.options_on(other.path());
    let error = refused(elsewhere.clone()).await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let told = format!("{error} {}", error.hint().unwrap_or_default());
    for part in [PLACE, "is not on this machine", "--accept-lost-wal", "--readonly"] {
        assert!(told.contains(part), "{part} is missing in: {told}");
    }
    // What the last checkpoint holds can be read meanwhile.
    let session = open(with(elsewhere.clone(), |o| o.read_only = true)).await.session();
    assert_eq!(number(&session, "SELECT sum(id) FROM t").await, 3);
    let session = open(with(elsewhere, |o| o.elsewhere.accept_lost_wal = true)).await.session();
    assert_eq!(number(&session, "SELECT sum(id) FROM t").await, 3);
    run(&session, "INSERT INTO t VALUES (4)").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_meant_is_refused() {
    let world = World::new();
    let error = refused(with(world.options(), |o| o.read_only = true)).await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    for place in [None, world.machine.path().to_str()] {
        for edit in [
            (|o| o.elsewhere.wal = Some(WalKind::ObjectStore)) as fn(&mut DatabaseOptions),
            |o| o.elsewhere.take_over = true,
            |o| o.elsewhere.accept_lost_wal = true,
        ] {
            let error = Database::open_with(place, with(world.options(), edit)).await.expect_err("no bucket");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(error.message().contains("databases on object stores"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_one_writer_and_it_can_be_replaced() {
    let world = World::new();
    let (first, second) = (machine(), machine());
    let short = |o: &mut DatabaseOptions| {
        o.elsewhere.lease = Duration::from_secs(2);
        o.elsewhere.wal = Some(WalKind::ObjectStore);
    };
    let database = open(with(world.options_on(first.path()), short)).await;
    let writer = database.session();
    run(&writer, "CREATE TABLE t (id BIGINT PRIMARY KEY)").await;
    run(&writer, "INSERT INTO t VALUES (1)").await;

    let other = with(world.options_on(second.path()), short);
    let error = refused(other.clone()).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let told = format!("{error} {}", error.hint().unwrap_or_default());
    assert!(told.contains(&format!("process {}", std::process::id())), "names the holder: {told}");

    let database2 = open(with(other, |o| o.elsewhere.take_over = true)).await;
    let taker = database2.session();
    assert_eq!(number(&taker, "SELECT count(*) FROM t").await, 1);
    run(&taker, "INSERT INTO t VALUES (2)").await;
    // The replaced one acknowledges nothing any more, and has changed nothing.
    let error = writer.execute("INSERT INTO t VALUES (3)").await.expect_err("it was replaced");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    writer.execute("CREATE TABLE u (id BIGINT)").await.expect_err("it was replaced");
    assert_eq!(number(&taker, "SELECT sum(id) FROM t").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_what_was_committed_when_they_refresh() {
    let world = World::new();
    let options = with(world.options(), |o| o.elsewhere.wal = Some(WalKind::ObjectStore));
    let writer = open(options).await.session();
    run(&writer, "CREATE TABLE t (id BIGINT PRIMARY KEY)").await;
    run(&writer, "INSERT INTO t VALUES (1)").await;
    let away = machine();
    let reader = open(with(world.options_on(away.path()), |o| o.read_only = true)).await.session();
    assert_eq!(number(&reader, "SELECT count(*) FROM t").await, 1);
    run(&writer, "INSERT INTO t VALUES (2)").await;
    run(&writer, "CREATE TABLE u (id BIGINT)").await;
    run(&writer, "INSERT INTO u VALUES (7)").await;
    assert_eq!(number(&reader, "SELECT count(*) FROM t").await, 1);
    reader.execute("SELECT * FROM u").await.expect_err("it has not refreshed");
    run(&reader, "REFRESH").await;
    assert_eq!(number(&reader, "SELECT count(*) FROM t").await, 2);
    assert_eq!(number(&reader, "SELECT id FROM u").await, 7);
    run(&writer, "CHECKPOINT").await;
    run(&writer, "DELETE FROM t WHERE id = 1").await;
    run(&reader, "REFRESH").await;
    assert_eq!(number(&reader, "SELECT sum(id) FROM t").await, 2);
    let error = reader.execute("INSERT INTO t VALUES (9)").await.expect_err("read-only");
    assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
}

/// What the killed process does, for ever: `machine number-of-the-first-row`, in the bucket of its environment.
#[test]
fn child() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let (first, machine) = task.split_once(' ').expect("a number and a folder");
    let first: i64 = first.parse().expect("a number");
    let options = DatabaseOptions {
        elsewhere: ElsewhereOptions {
            folder: Some(machine.into()),
            wal: Some(WalKind::ObjectStore),
            ..ElsewhereOptions::default()
        },
        ..DatabaseOptions::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let session = open(options).await.session();
        for id in first.. {
            run(&session, &format!("INSERT INTO t VALUES ({id})")).await;
            // One short write reaches the pipe as a whole.
            let mut out = std::io::stdout();
            out.write_all(format!("ack {id}\n").as_bytes()).and_then(|()| out.flush()).expect("the pipe");
            if id % 8 == 5 {
                run(&session, "CHECKPOINT").await;
            }
        }
    });
}

#[test]
fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    const ROUNDS: i64 = 6;
    let world = World::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let database = open(with(world.options(), |o| o.elsewhere.wal = Some(WalKind::ObjectStore))).await;
        run(&database.session(), "CREATE TABLE t (id BIGINT PRIMARY KEY)").await;
        database.close().await.expect("closed");
    });
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{} {}", round * 1_000, world.machine.path().display()))
            .envs(world.server.environment())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the child starts");
        let mut before = 0;
        for line in BufReader::new(child.stdout.take().expect("its output")).lines().map_while(Result::ok) {
            let Some(id) = line.rsplit_once("ack ").and_then(|(_, n)| n.parse::<i64>().ok()) else {
                continue;
            };
            acknowledged.insert(id);
            before += 1;
            if before == 4 + 3 * round {
                child.kill().expect("kill -9");
            }
        }
        drop(child.wait());
        assert!(before > 0, "the child of round {round} ended before its first commit");
        // Another machine reads the log in the bucket at once.
        let away = machine();
        let found: BTreeSet<i64> = runtime.block_on(async {
            let reader = open(with(world.options_on(away.path()), |o| o.read_only = true)).await.session();
            let answer = run(&reader, "SELECT id FROM t").await;
            answer.lines().filter_map(|l| l.trim_matches(['|', ' ']).parse().ok()).collect()
        });
        assert!(acknowledged.is_subset(&found), "lost: {:?}", acknowledged.difference(&found));
        // Of each round one commit may have been under way.
        assert!(found.len() <= acknowledged.len() + 1, "{acknowledged:?} {found:?}");
        acknowledged = found;
    }
}
