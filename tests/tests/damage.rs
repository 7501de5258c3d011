//! Damaged files: a writer is told what is wrong and where, and changes nothing; a reader gets what is intact.
//!
//! ```text
//!  good  checkpointed      bad  checkpointed      both  rows in the log
//! ```

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use triune_common::{Error, ErrorKind};
use triune_query::{Database, DatabaseOptions, Session};

async fn number(session: &Session, sql: &str) -> Result<i64, Error> {
    let batches = session.execute(sql).await?.collect().await?;
    Ok(batches[0].column(0).as_primitive::<Int64Type>().value(0))
}

/// A database with 100 checkpointed rows in each of two tables, then 20 commits to each that are in the log only.
async fn made(folder: &Path) {
    let session = Database::open(folder.to_str()).await.unwrap().session();
    for table in ["good", "bad"] {
        for sql in [
            format!("CREATE TABLE {table} (id BIGINT PRIMARY KEY, v TEXT)"),
            // Keys that follow one another would need no key file.
            format!(
                "INSERT INTO {table} SELECT value, 'row' FROM generate_series(1, 100) ORDER BY value DESC"
            ),
        ] {
            session.execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
    }
    session.execute("CHECKPOINT").await.unwrap();
    for n in 101..=120 {
        for table in ["good", "bad"] {
            session.execute(&format!("INSERT INTO {table} VALUES ({n}, 'hot')")).await.unwrap();
        }
    }
}

async fn read_only(folder: &Path) -> Arc<Database> {
    let options = DatabaseOptions { read_only: true, ..DatabaseOptions::default() };
    Database::open_with(folder.to_str(), options).await.unwrap_or_else(|e| panic!("read-only: {e}"))
}

/// All files below a folder with their bytes.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.file_name().is_some_and(|n| n != "writer.lock") {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

fn only(folder: &Path, wanted: impl Fn(&str) -> bool) -> PathBuf {
    let all = files(folder);
    let mut fitting = all.iter().filter(|(p, _)| wanted(&p.display().to_string())).map(|(p, _)| p.clone());
    fitting
        .next()
        .unwrap_or_else(|| panic!("no such file among {:?}", all.iter().map(|f| &f.0).collect::<Vec<_>>()))
}

/// Opening to write fails with a data error that names the place; whatever was there is there as it was.
async fn refused(folder: &Path, named: &str) {
    let before = files(folder);
    let error = Database::open(folder.to_str()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "{error}");
    assert!(error.message().contains(named), "{named} in: {error}");
    assert!(files(folder) == before, "the folder was changed");
}

async fn told(session: &Session, named: &str) {
    let sql = "SELECT last_error FROM system.maintenance";
    let batches = session.execute(sql).await.unwrap().collect().await.unwrap();
    let column = arrow::compute::cast(batches[0].column(0), &arrow::datatypes::DataType::Utf8).unwrap();
    let text = column.as_string::<i32>().value(0).to_owned();
    assert!(text.contains(named), "{named} in: {text}");
}

/// The folder of the table that was made second.
fn bad(folder: &Path) -> PathBuf {
    folder.join("tables").join("2")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_in_the_middle_of_the_log() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("db");
    made(&folder).await;
    let all = files(&folder.join("wal"));
    let (wal, bytes) = all.last().unwrap();
    let mut damaged = bytes.clone();
    // The log is longer than what was written: room was taken ahead.
    let end = bytes.iter().rposition(|b| *b != 0).unwrap();
    damaged[end / 2] ^= 0x55;
    std::fs::write(wal, &damaged).unwrap();
    refused(&folder, wal.file_name().unwrap().to_str().unwrap()).await;

    let session = read_only(&folder).await.session();
    let (one, other) = (
        number(&session, "SELECT count(*) FROM good").await.unwrap(),
        number(&session, "SELECT count(*) FROM bad").await.unwrap(),
    );
    assert!((100..120).contains(&one), "{one}");
    // A prefix of the commits, which went to both in turn.
    assert!(one == other || one == other + 1, "{one} and {other}");
    assert_eq!(number(&session, "SELECT max(id) FROM good").await.unwrap(), one);
    told(&session, wal.file_name().unwrap().to_str().unwrap()).await;
    let error = session.execute("INSERT INTO good VALUES (0, '')").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_state() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("db");
    made(&folder).await;
    let session = Database::open(folder.to_str()).await.unwrap().session();
    session.execute("CREATE VIEW seven AS SELECT 7::BIGINT AS n").await.unwrap();
    drop(session);
    let state = folder.join("state.json");
    let bytes = std::fs::read(&state).unwrap();
    std::fs::write(&state, &bytes[..bytes.len() * 2 / 3]).unwrap();
    refused(&folder, "state.json").await;

    // Nobody knows any more where the tables' rows are; what is no table is intact.
    let session = read_only(&folder).await.session();
    assert_eq!(number(&session, "SELECT n FROM seven").await.unwrap(), 7);
    let error = number(&session, "SELECT count(*) FROM good").await.unwrap_err();
    assert!(error.message().contains("state.json"), "{error}");
    told(&session, "state.json").await;
}

/// One table cannot be read, the other can with all of its commits.
async fn one_is_lost(folder: &Path, named: &str) {
    refused(folder, named).await;
    let session = read_only(folder).await.session();
    assert_eq!(number(&session, "SELECT count(*) FROM good").await.unwrap(), 120);
    let error = number(&session, "SELECT count(*) FROM bad").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "{error}");
    assert!(error.message().contains(named), "{named} in: {error}");
    told(&session, named).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_file_that_is_gone() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("db");
    made(&folder).await;
    let data = only(&bad(&folder), |p| p.ends_with(".lance") && p.contains("/data/"));
    std::fs::remove_file(&data).unwrap();
    one_is_lost(&folder, data.file_name().unwrap().to_str().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_was_cut() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("db");
    made(&folder).await;
    let manifests: Vec<_> = files(&bad(&folder))
        .into_iter()
        .filter(|(p, _)| p.display().to_string().contains("_versions"))
        .collect();
    assert!(!manifests.is_empty());
    for (path, bytes) in &manifests {
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }
    one_is_lost(&folder, "base.lance").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_file_that_is_gone_or_cut() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("db");
    made(&folder).await;
    let keys = only(&bad(&folder), |p| p.ends_with(".keys"));
    let name = keys.file_name().unwrap().to_str().unwrap().to_owned();
    let bytes = std::fs::read(&keys).unwrap();
    std::fs::write(&keys, &bytes[..bytes.len() - 9]).unwrap();
    one_is_lost(&folder, &name).await;
    std::fs::remove_file(&keys).unwrap();
    one_is_lost(&folder, &name).await;
    // Restored from a backup, all is there.
    std::fs::write(&keys, &bytes).unwrap();
    let session = Database::open(folder.to_str()).await.unwrap().session();
    assert_eq!(number(&session, "SELECT count(*) FROM bad").await.unwrap(), 120);
}
