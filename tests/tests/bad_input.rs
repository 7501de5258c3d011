//! Statements and files that nobody writes by hand: huge, wide, deep. They end in an answer or in an error of a kind,
//! never in a dead process.

#![expect(clippy::expect_used, reason = "a helper that fails fails its test")]

use datafusion::common::runtime::SpawnedTask;
use triune_common::{Error, ErrorKind, Result};
use triune_query::{Database, Session};

/// The stack that the shell gives its threads.
const STACK: usize = 32 << 20;

/// Runs a statement as the shell does and gives the number of rows.
fn rows_of(sql: String) -> Result<usize> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(STACK)
        .enable_all()
        .build()
        .expect("a runtime");
    let run = async move {
        let session: Session = Database::open(None).await?.session();
        let batches = session.execute(&sql).await?.collect().await?;
        Ok::<_, Error>(batches.iter().map(arrow::array::RecordBatch::num_rows).sum())
    };
    runtime.block_on(async { SpawnedTask::spawn(run).join().await }).expect("no panic")
}

#[test]
fn ten_megabytes_of_statement() {
    let numbers: Vec<String> = (0..1_500_000).map(|i| i.to_string()).collect();
    let sql = format!("SELECT array_length([{}])", numbers[..300_000].join(", "));
    assert_eq!(rows_of(sql).expect("a long list"), 1);
    let text = "x".repeat(10 << 20);
    assert_eq!(rows_of(format!("SELECT length('{text}')")).expect("a long text"), 1);
    // A mistake at its end is shown with the line's end only.
    let error = rows_of(format!("SELECT '{text}' FROM nothing")).expect_err("no table");
    assert!(error.to_string().len() < 1_000, "{} characters", error.to_string().len());
    assert!(error.render(&format!("SELECT '{text}' FROM nothing")).len() < 2_000);
}

#[test]
fn ten_thousand_columns() {
    let columns: Vec<String> = (0..10_000).map(|i| format!("{i} AS c{i}")).collect();
    assert_eq!(rows_of(format!("SELECT c9999 FROM (SELECT {})", columns.join(", "))).expect("wide"), 1);
}

#[test]
fn nesting_a_thousand_levels_deep() {
    let shapes = [
        ("(", "1", ")"),
        ("abs(", "1", ")"),
        ("(SELECT ", "1", ")"),
        ("CASE WHEN true THEN ", "1", " END"),
        ("NOT ", "true", ""),
        ("1 + (", "1", ")"),
        ("[", "1", "]"),
    ];
    for (open, core, close) in shapes {
        let deep = |n: usize| format!("SELECT {}{core}{}", open.repeat(n), close.repeat(n));
        match rows_of(deep(1_000)) {
            Ok(rows) => assert_eq!(rows, 1, "{open}"),
            Err(e) => assert_eq!(e.kind(), ErrorKind::Resources, "{open}: {e}"),
        }
        assert_eq!(rows_of(deep(20)).unwrap_or_else(|e| unreachable!("{open}: {e}")), 1);
    }
}

#[test]
fn a_long_chain_is_not_deep() {
    let sum = vec!["1"; 5_000].join(" + ");
    match rows_of(format!("SELECT {sum}")) {
        Ok(rows) => assert_eq!(rows, 1),
        Err(e) => assert_eq!(e.kind(), ErrorKind::Resources, "{e}"),
    }
    let union = vec!["SELECT 1"; 400].join(" UNION ALL ");
    match rows_of(union) {
        Ok(rows) => assert_eq!(rows, 400),
        Err(e) => assert_eq!(e.kind(), ErrorKind::Resources, "{e}"),
    }
}
