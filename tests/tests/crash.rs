//! A real process, killed with SIGKILL in the middle of concurrent writes, again and again.
//!
//! ```text
//! parent ── starts ──▶ child: four sessions commit transactions over two tables and say so, one checkpoints
//!    └── kill -9 after some milliseconds ── opens the database and compares with what was said
//! ```
//!
//! After each crash every acknowledged transaction is there, whole, and of the others at most those that were
//! under way. `TRIUNE_CRASHES=5000` makes a long run.

#![expect(clippy::expect_used, clippy::panic, reason = "a helper that fails fails its test")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::common::runtime::SpawnedTask;
use rand::{Rng, SeedableRng};
use triune_query::{Database, Session};

const CHILD: &str = "TRIUNE_CRASH_CHILD";
const CRASHES: u64 = 200;
const WRITERS: i64 = 4;

async fn run(session: &Session, sql: &str) -> Vec<arrow::array::RecordBatch> {
    let result = session.execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    result.collect().await.unwrap_or_else(|e| panic!("{sql}: {e}"))
}

/// The first column of all rows.
async fn numbers(session: &Session, sql: &str) -> Vec<i64> {
    let batches = run(session, sql).await;
    batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

/// What the killed process does, for ever.
#[test]
fn child() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let database = Database::open(Some(&folder)).await.expect("the database opens after every crash");
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            writers.push(SpawnedTask::spawn(write_for_ever(Arc::clone(&database), writer)));
        }
        for writer in writers {
            writer.join().await.expect("a writer goes on until it is killed");
        }
    });
}

async fn write_for_ever(database: Arc<Database>, writer: i64) {
    let session = database.session();
    let highest =
        numbers(&session, &format!("SELECT coalesce(max(id), 0) FROM a WHERE writer = {writer}")).await;
    let mut n = highest[0] / WRITERS;
    loop {
        n += 1;
        let id = n * WRITERS + writer;
        run(&session, "BEGIN").await;
        run(&session, &format!("INSERT INTO a VALUES ({id}, {writer})")).await;
        run(&session, &format!("INSERT INTO b SELECT {id}, {writer} FROM a WHERE id = {id}")).await;
        if n % 3 == 0 {
            run(&session, &format!("UPDATE counters SET n = n + 1 WHERE writer = {writer}")).await;
        }
        run(&session, "COMMIT").await;
        // One short write reaches the pipe as a whole.
        let mut out = std::io::stdout();
        out.write_all(format!("ack {id}\n").as_bytes()).and_then(|()| out.flush()).expect("the pipe");
        if writer == 0 && n % 20 == 0 {
            run(&session, "CHECKPOINT").await;
        }
    }
}

/// One life of the child; returns what it acknowledged.
fn live_and_die(folder: &Path, after: Duration) -> BTreeSet<i64> {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output"));
    let mut acknowledged = BTreeSet::new();
    let mut line = String::new();
    // The clock starts with its first commit.
    let note = |line: &str, acknowledged: &mut BTreeSet<i64>| {
        if let Some(id) = line.trim_end().rsplit_once("ack ").and_then(|(_, n)| n.parse().ok()) {
            acknowledged.insert(id);
        }
    };
    while acknowledged.is_empty() {
        line.clear();
        if lines.read_line(&mut line).expect("lines") == 0 {
            let out = child.wait_with_output().expect("its end");
            panic!("the child ended by itself: {}", String::from_utf8_lossy(&out.stderr));
        }
        note(&line, &mut acknowledged);
    }
    std::thread::sleep(after);
    child.kill().expect("kill -9");
    loop {
        line.clear();
        // A line that the kill cut off has no end.
        if lines.read_line(&mut line).expect("lines") == 0 || !line.ends_with('\n') {
            break;
        }
        note(&line, &mut acknowledged);
    }
    child.wait().expect("its end");
    acknowledged
}

#[test]
fn every_acknowledged_commit_survives_being_killed() {
    let crashes = std::env::var("TRIUNE_CRASHES").map_or(CRASHES, |n| n.parse().expect("a number"));
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path().join("db");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let open = || async { Database::open(folder.to_str()).await.expect("the database") };
    runtime.block_on(async {
        let session = open().await.session();
        run(&session, "CREATE TABLE a (id BIGINT PRIMARY KEY, writer BIGINT)").await;
        run(&session, "CREATE TABLE b (id BIGINT, writer BIGINT)").await;
        run(&session, "CREATE TABLE counters (writer BIGINT PRIMARY KEY, n BIGINT)").await;
        run(&session, "INSERT INTO counters SELECT i, 0 FROM range(0, 4) t(i)").await;
    });
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let mut there: BTreeSet<i64> = BTreeSet::new();
    for crash in 0..crashes {
        let after = Duration::from_micros(rng.random_range(0..30_000));
        let acknowledged = live_and_die(&folder, after);
        runtime.block_on(async {
            let session = open().await.session();
            let a = numbers(&session, "SELECT id FROM a ORDER BY id").await;
            let b = numbers(&session, "SELECT id FROM b ORDER BY id").await;
            assert_eq!(a, b, "crash {crash}: the two tables of a transaction");
            let a: BTreeSet<i64> = a.into_iter().collect();
            assert_eq!(a.len(), b.len(), "crash {crash}: no row twice");
            let lost: Vec<_> = there.union(&acknowledged).filter(|id| !a.contains(id)).collect();
            assert!(lost.is_empty(), "crash {crash}: lost {lost:?}");
            let more = a.len() - there.union(&acknowledged).count();
            assert!(
                more <= usize::try_from(WRITERS).unwrap(),
                "crash {crash}: {more} rows that nobody wrote"
            );
            for writer in 0..WRITERS {
                let thirds =
                    a.iter().filter(|id| *id % WRITERS == writer && (*id / WRITERS) % 3 == 0).count();
                let counted =
                    numbers(&session, &format!("SELECT n FROM counters WHERE writer = {writer}")).await;
                assert_eq!(
                    counted,
                    [i64::try_from(thirds).unwrap()],
                    "crash {crash}: the counter of {writer}"
                );
            }
            there = a;
        });
    }
}
