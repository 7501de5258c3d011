//! SQL behaviour: every `cases/<topic>/*.slt`, one test per topic.
//!
//! `TRIUNE_SLT_COMPLETE=1` writes the expectations (read the diff!), `TRIUNE_SLT_FILTER=part` picks files.

#![expect(clippy::expect_used, reason = "a helper that fails fails its test")]

use datafusion::common::runtime::SpawnedTask;
use triune_tests::slt::run_topic;

/// A topic is a folder of `cases`; a folder without a test here fails `every_topic_is_run`.
const TOPICS: [&str; 10] = [
    "catalog",
    "errors",
    "functions",
    "indexes",
    "search",
    "sources",
    "sql",
    "tables",
    "timeseries",
    "vector",
];

/// Planning and parsing recurse; the shell gives its threads as much.
fn run(topic: &'static str) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(32 << 20)
        .enable_all()
        .build()
        .expect("a runtime");
    let failures =
        runtime.block_on(async { SpawnedTask::spawn(run_topic(topic)).join().await }).expect("the topic ran");
    assert!(failures.is_empty(), "{} file(s) failed:\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn catalog() {
    run("catalog");
}

#[test]
fn errors() {
    run("errors");
}

#[test]
fn functions() {
    run("functions");
}

#[test]
fn indexes() {
    run("indexes");
}

#[test]
fn search() {
    run("search");
}

#[test]
fn sources() {
    run("sources");
}

#[test]
fn sql() {
    run("sql");
}

#[test]
fn tables() {
    run("tables");
}

#[test]
fn timeseries() {
    run("timeseries");
}

#[test]
fn vector() {
    run("vector");
}

#[test]
fn every_topic_is_run() {
    let cases = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut found: Vec<String> = std::fs::read_dir(cases)
        .expect("the cases")
        .flatten()
        .filter(|e| e.path().is_dir())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, TOPICS);
}
