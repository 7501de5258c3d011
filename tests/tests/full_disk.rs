//! A full disk under a database: writes fail with a clear error and leave nothing, reads and searches go on, and once
//! there is room writes go on without a restart.
//!
//! ```text
//! a_small_disk    a tmpfs of 24 MB with a ballast file, which is removed later; where mounting is not permitted the
//!                 test says so and ends
//! a_file_limit    the same in a process whose files must not grow beyond 1 MB (RLIMIT_FSIZE), which everybody may ask
//!                 for; `prlimit` of util-linux takes the limit away later
//! ```

#![expect(clippy::expect_used, clippy::panic, reason = "a helper that fails fails its test")]

use std::path::Path;
use std::process::{Command, Stdio};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use triune_common::{Error, ErrorKind};
use triune_query::{Database, Session};

const CHILD: &str = "TRIUNE_FULL_DISK_CHILD";

async fn run(session: &Session, sql: &str) -> Result<Vec<RecordBatch>, Error> {
    session.execute(sql).await?.collect().await
}

async fn done(session: &Session, sql: &str) -> Vec<RecordBatch> {
    run(session, sql).await.unwrap_or_else(|e| panic!("{}: {e}", &sql[..sql.len().min(80)]))
}

async fn ids(session: &Session) -> Vec<i64> {
    let batches = done(session, "SELECT id FROM t ORDER BY id").await;
    batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

/// Reads of all kinds see what was acknowledged.
async fn reads_go_on(session: &Session, acknowledged: &[i64]) {
    assert_eq!(ids(session).await, acknowledged);
    let found = done(session, "SELECT v FROM t WHERE id = 3").await;
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    let near = done(session, "SELECT id FROM vector_search(d, e, [7, 0, 0, 1], k => 3)").await;
    assert_eq!(near.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    assert_eq!(near[0].column(0).as_primitive::<Int64Type>().value(0), 7);
}

fn is_full(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Resources, "{error}");
    assert!(error.hint().is_some_and(|h| h.contains("space")), "{error}: {:?}", error.hint());
}

/// `fill` and `relieve` begin and end the shortage.
async fn scenario(folder: &Path, fill: impl Fn(), relieve: impl Fn()) {
    let database = Database::open(folder.to_str()).await.expect("the database");
    let session = database.session();
    for sql in [
        "CREATE TABLE t (id BIGINT PRIMARY KEY, v TEXT)",
        "CREATE TABLE d (id BIGINT PRIMARY KEY, e VECTOR(4))",
        "INSERT INTO d SELECT value, [value, 0, 0, 1] FROM generate_series(1, 50)",
        "INSERT INTO t SELECT value, 'first' FROM generate_series(1, 10)",
        "CHECKPOINT",
        "INSERT INTO t VALUES (11, 'hot')",
    ] {
        done(&session, sql).await;
    }
    let mut acknowledged: Vec<i64> = (1..=11).collect();
    fill();
    // Texts that do not compress, so that the log grows by as much.
    let insert = |id: i64| {
        format!(
            "INSERT INTO t SELECT {id}, string_agg(md5(CAST(value * {id} AS TEXT)), '') FROM generate_series(1, 2000)"
        )
    };
    let mut next = 12;
    let error = loop {
        match run(&session, &insert(next)).await {
            Ok(_) => acknowledged.push(next),
            Err(e) => break e,
        }
        next += 1;
        assert!(next < 2000, "the disk does not fill up");
    };
    is_full(&error);
    reads_go_on(&session, &acknowledged).await;

    // A transaction over two tables fails as a whole, at its COMMIT, and leaves no transaction.
    done(&session, "BEGIN").await;
    done(&session, &insert(5000)).await;
    done(&session, "DELETE FROM d WHERE id = 7").await;
    is_full(&run(&session, "COMMIT").await.expect_err("there is no room"));
    reads_go_on(&session, &acknowledged).await;

    // A checkpoint may find room or not; nothing is lost either way, and nothing is there twice.
    if let Err(e) = run(&session, "CHECKPOINT").await {
        is_full(&e);
    }
    reads_go_on(&session, &acknowledged).await;

    relieve();
    for _ in 0..3 {
        next += 1;
        done(&session, &insert(next)).await;
        acknowledged.push(next);
    }
    reads_go_on(&session, &acknowledged).await;
    done(&session, "CHECKPOINT").await;
    done(&session, "INSERT INTO t VALUES (9999, 'last')").await;
    acknowledged.push(9999);
    reads_go_on(&session, &acknowledged).await;
    drop((session, database));

    let session = Database::open(folder.to_str()).await.expect("the database again").session();
    reads_go_on(&session, &acknowledged).await;
}

fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(32 << 20)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(work);
}

/// Unmounted when it is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "triune-test"])
            .arg(folder.path())
            .output()
            .map_err(|e| e.to_string())?;
        if mount.status.success() {
            Ok(Self(folder))
        } else {
            Err(String::from_utf8_lossy(&mount.stderr).trim().to_owned())
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(self.0.path()).status();
    }
}

#[test]
fn a_small_disk() {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(why) => {
            eprintln!("left out, no tmpfs can be mounted here: {why}; a_file_limit tests the same");
            return;
        }
    };
    let ballast = disk.0.path().join("ballast");
    let fill = || std::fs::write(&ballast, vec![1; 15 << 20]).expect("room for the ballast");
    let relieve = || std::fs::remove_file(&ballast).expect("the ballast");
    block_on(Box::pin(scenario(&disk.0.path().join("db"), fill, relieve)));
}

fn limit(bytes: &str) {
    let done = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string(), &format!("--fsize={bytes}:unlimited")])
        .status()
        .expect("prlimit of util-linux");
    assert!(done.success(), "prlimit --fsize={bytes}");
}

/// What the limited process does.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    block_on(Box::pin(scenario(Path::new(&folder), || limit("1000000"), || limit("unlimited"))));
}

#[test]
fn a_file_limit() {
    let scratch = tempfile::tempdir().expect("a folder");
    // The signal for a file that would be too long ends a process; ignored, the write fails.
    let out = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" --exact child --nocapture --test-threads=1"])
        .arg(std::env::current_exe().expect("this test"))
        .env(CHILD, scratch.path().join("db"))
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    let said = format!("{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
}
