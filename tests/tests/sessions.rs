//! Several sessions on one database: nothing is lost, a statement sees one snapshot, conflicts are told.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use arrow::util::pretty::pretty_format_batches;
use datafusion::common::ScalarValue;
use datafusion::common::runtime::SpawnedTask;
use triune_common::{ErrorKind, Result};
use triune_query::{Database, DatabaseOptions, Params, Session, Tag};

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

async fn rows(session: &Session, sql: &str) -> Result<Vec<RecordBatch>> {
    session.execute(sql).await?.collect().await
}

async fn number(session: &Session, sql: &str) -> i64 {
    let batches = rows(session, sql).await.unwrap();
    let all = concat_batches(&batches[0].schema(), &batches).unwrap();
    arrow::compute::cast(all.column(0), &arrow::datatypes::DataType::Int64)
        .unwrap()
        .as_primitive::<Int64Type>()
        .value(0)
}

async fn run_all(session: &Session, statements: &[&str]) {
    for sql in statements {
        rows(session, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
}

#[test]
fn concurrent_increments_are_all_kept() {
    run(async {
        let database = Database::open(None).await.unwrap();
        run_all(
            &database.session(),
            &["CREATE TABLE t (id INT PRIMARY KEY, v BIGINT)", "INSERT INTO t VALUES (1, 0), (2, 0)"],
        )
        .await;
        const EACH: usize = 25;
        let tasks: Vec<_> = (0..4)
            .map(|n| {
                let session = database.session();
                SpawnedTask::spawn(async move {
                    let mut done = 0;
                    // More often than a statement is retried by itself, others may win.
                    while done < EACH {
                        // One through the planner, one by key.
                        let sql = if n % 2 == 0 {
                            "UPDATE t SET v = v + 1 WHERE id <= 2"
                        } else {
                            "UPDATE t SET v = t.v + 1 WHERE id IN (SELECT id FROM t)"
                        };
                        match rows(&session, sql).await {
                            Ok(_) => done += 1,
                            Err(e) => assert_eq!(e.kind(), ErrorKind::Conflict, "{e}"),
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.join().await.unwrap();
        }
        let session = database.session();
        assert_eq!(number(&session, "SELECT min(v) FROM t").await, 4 * EACH as i64);
        assert_eq!(number(&session, "SELECT max(v) FROM t").await, 4 * EACH as i64);
    });
}

/// A commit that came between is seen only after its fsync; a statement that is run again too soon meets it again.
#[test]
fn sessions_that_write_one_row_wait_for_each_other() {
    const EACH: i64 = 25;
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path().join("d").to_str()).await.unwrap();
        run_all(
            &database.session(),
            &["CREATE TABLE t (id INT PRIMARY KEY, v BIGINT)", "INSERT INTO t VALUES (1, 0), (2, 0)"],
        )
        .await;
        let tasks: Vec<_> = (0..4)
            .map(|n| {
                let session = database.session();
                SpawnedTask::spawn(async move {
                    for i in 0..EACH {
                        let (row, v) = (n % 2 + 1, i * 10 + i64::from(n));
                        let sql =
                            "INSERT INTO t VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = excluded.v";
                        let values = [ScalarValue::from(row), ScalarValue::from(v)];
                        let params = Params::Positional(values.to_vec());
                        session.execute_with(sql, &params).await.unwrap();
                        rows(&session, &format!("UPDATE t SET v = v + 1 WHERE id = {row}")).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.join().await.unwrap();
        }
    });
}

#[test]
fn a_statement_reads_one_snapshot_through_views_and_sub_queries() {
    run(async {
        let database = Database::open(None).await.unwrap();
        run_all(
            &database.session(),
            &[
                "CREATE TABLE a (id INT PRIMARY KEY, v BIGINT)",
                "CREATE TABLE b (id INT PRIMARY KEY, v BIGINT)",
                "INSERT INTO a VALUES (1, 1000)",
                "INSERT INTO b VALUES (1, 1000)",
                "CREATE VIEW total AS SELECT (SELECT v FROM a) + (SELECT v FROM b) AS s",
            ],
        )
        .await;
        let writer = {
            let session = database.session();
            SpawnedTask::spawn(async move {
                for n in 0..40 {
                    let by = n % 7;
                    run_all(&session, &["BEGIN"]).await;
                    rows(&session, &format!("UPDATE a SET v = v - {by}")).await.unwrap();
                    rows(&session, &format!("UPDATE b SET v = v + {by}")).await.unwrap();
                    run_all(&session, &["COMMIT"]).await;
                }
            })
        };
        let session = database.session();
        for _ in 0..40 {
            let sql = "SELECT (SELECT s FROM total) * 10000 + (SELECT v FROM a) + (SELECT v FROM b)";
            assert_eq!(number(&session, sql).await, 2000 * 10000 + 2000);
        }
        writer.join().await.unwrap();
    });
}

#[test]
fn a_conflict_shows_at_commit_and_leaves_no_transaction() {
    run(async {
        let database = Database::open(None).await.unwrap();
        let (one, two) = (database.session(), database.session());
        run_all(&one, &["CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1)"]).await;
        run_all(&one, &["BEGIN", "UPDATE t SET v = 10 WHERE id = 1"]).await;
        // Not seen before the commit.
        assert_eq!(number(&two, "SELECT v FROM t").await, 1);
        run_all(&two, &["UPDATE t SET v = 20 WHERE id = 1"]).await;
        assert_eq!(number(&one, "SELECT v FROM t").await, 10);
        let error = rows(&one, "COMMIT").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let text = format!("{} {}", error.message(), error.hint().unwrap_or_default());
        assert!(text.contains("40001"), "{text}");
        assert_eq!(number(&one, "SELECT v FROM t").await, 20);
        assert_eq!(rows(&one, "ROLLBACK").await.unwrap_err().kind(), ErrorKind::Invalid);

        // Two transactions that take one key.
        run_all(&one, &["BEGIN", "INSERT INTO t VALUES (2, 0)"]).await;
        run_all(&two, &["BEGIN", "INSERT INTO t VALUES (2, 0)", "COMMIT"]).await;
        assert!(rows(&one, "COMMIT").await.is_err());
        assert_eq!(number(&one, "SELECT count(*) FROM t").await, 2);
    });
}

#[test]
fn a_statement_that_is_dropped_half_way_leaves_nothing() {
    run(async {
        let database = Database::open(None).await.unwrap();
        let session = database.session();
        run_all(&session, &["CREATE TABLE t (id BIGINT PRIMARY KEY)", "BEGIN", "INSERT INTO t VALUES (1)"])
            .await;
        // Dropped after some polls, at whatever place it has come to.
        for polls in 1..40 {
            let mut running =
                Box::pin(session.execute("INSERT INTO t SELECT value + 10 FROM generate_series(1, 300000)"));
            let mut left = polls;
            let done = std::future::poll_fn(|cx| {
                let polled = running.as_mut().poll(cx);
                left -= 1;
                if polled.is_ready() {
                    return std::task::Poll::Ready(true);
                }
                if left == 0 { std::task::Poll::Ready(false) } else { std::task::Poll::Pending }
            })
            .await;
            drop(running);
            let expected = if done { 300_001 } else { 1 };
            assert_eq!(number(&session, "SELECT count(*) FROM t").await, expected, "{polls} polls");
            if done {
                break;
            }
        }
        run_all(&session, &["ROLLBACK"]).await;
        assert_eq!(number(&session, "SELECT count(*) FROM t").await, 0);
    });
}

/// What a statement answers: its rows or its count.
async fn answer(session: &Session, sql: &str, params: &Params) -> String {
    match session.execute_with(sql, params).await {
        Ok(result) => {
            let tag = result.tag().clone();
            let schema = result.schema();
            let names: Vec<String> =
                schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
            let batches = result.collect().await.unwrap();
            match tag {
                Tag::Command { name, rows } => format!("{name} {rows:?}"),
                _ => format!("{names:?}\n{}", pretty_format_batches(&batches).unwrap()),
            }
        }
        Err(e) => format!("{}: {}", e.kind(), e.message()),
    }
}

/// The short path and the planner give the same answers. A condition that says nothing leads a statement to the planner.
#[test]
fn the_short_path_answers_as_the_planner_does() {
    run(async {
        let made = [
            "CREATE TABLE t (id INT PRIMARY KEY, name TEXT DEFAULT 'none', v DOUBLE CHECK (v < 100), d DECIMAL(6, 2), n SMALLINT NOT NULL)",
            "CREATE TABLE p (a BIGINT, b TEXT, v INT, PRIMARY KEY (a, b))",
            "INSERT INTO t VALUES (1, 'one', 1.5, 1.25, 1), (2, 'two', NULL, 7, 2), (-3, NULL, 0, NULL, 3)",
            "INSERT INTO p VALUES (1, 'x', 1), (1, 'y', 2), (2, 'x', 3)",
        ];
        let database = Database::open(None).await.unwrap();
        let other = Database::open(None).await.unwrap();
        let (short, planned) = (database.session(), other.session());
        run_all(&short, &made).await;
        run_all(&planned, &made).await;
        let int = |n: i64| ScalarValue::Int64(Some(n));
        let text = |s: &str| ScalarValue::Utf8(Some(s.to_owned()));
        let cases: Vec<(&str, Vec<ScalarValue>)> = vec![
            ("SELECT * FROM t WHERE id = $1", vec![int(1)]),
            ("SELECT * FROM t WHERE id = $1", vec![int(9)]),
            ("SELECT * FROM t WHERE id = $1", vec![int(5_000_000_000)]),
            ("SELECT * FROM t WHERE id = $1", vec![ScalarValue::Int64(None)]),
            ("SELECT v AS x, t.name, d FROM t WHERE t.id = $1", vec![int(-3)]),
            ("SELECT name FROM t AS u WHERE u.id = -3", vec![]),
            ("SELECT name FROM t WHERE (id = 2)", vec![]),
            ("SELECT nope FROM t WHERE id = 2", vec![]),
            ("SELECT v FROM p WHERE b = $2 AND a = $1", vec![int(1), text("y")]),
            ("SELECT v FROM p WHERE a = $1", vec![int(2)]),
            (
                "UPDATE t SET v = $2, name = DEFAULT WHERE id = $1",
                vec![int(1), ScalarValue::Float64(Some(2.5))],
            ),
            ("UPDATE t SET v = $2 WHERE id = $1", vec![int(1), ScalarValue::Float64(Some(1000.0))]),
            ("UPDATE t SET n = NULL WHERE id = 1", vec![]),
            ("UPDATE t SET d = 12.345, n = '7' WHERE id = 2", vec![]),
            ("UPDATE t SET n = 70000 WHERE id = 2", vec![]),
            ("UPDATE t SET id = 50 WHERE id = 2", vec![]),
            ("UPDATE t SET id = 1 WHERE id = 50", vec![]),
            ("UPDATE t SET name = 'x' WHERE id = 404", vec![]),
            ("UPDATE p SET v = $3 WHERE a = $1 AND b = $2", vec![int(1), text("x"), int(77)]),
            ("DELETE FROM p WHERE a = $1 AND b = $2", vec![int(1), text("x")]),
            ("DELETE FROM p WHERE a = $1 AND b = $2", vec![int(1), text("x")]),
            ("DELETE FROM t WHERE id = $1", vec![int(1)]),
            ("DELETE FROM t WHERE id = $1", vec![text("x")]),
        ];
        for (sql, values) in cases {
            let params = if values.is_empty() { Params::None } else { Params::Positional(values) };
            let quick = answer(&short, sql, &params).await;
            let slow = answer(&planned, &format!("{sql} AND 1 = 1"), &params).await;
            // An empty result may come as no batch or as an empty one.
            assert_eq!(quick, slow, "{sql}");
            for table in ["t", "p"] {
                let all = format!("SELECT * FROM {table} ORDER BY 1, 2");
                assert_eq!(
                    answer(&short, &all, &Params::None).await,
                    answer(&planned, &all, &Params::None).await,
                    "after {sql}"
                );
            }
        }
    });
}

#[test]
fn upserts_by_parameters_answer_as_inserts_and_updates_do() {
    run(async {
        let database: Arc<Database> = Database::open(None).await.unwrap();
        let session = database.session();
        run_all(&session, &["CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)"]).await;
        let mut model = std::collections::BTreeMap::new();
        for n in 0..200_i64 {
            let (id, v) = (n * 37 % 50, n);
            let params = Params::Positional(vec![ScalarValue::Int64(Some(id)), ScalarValue::Int64(Some(v))]);
            let sql = "INSERT INTO t VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = excluded.v";
            session.execute_with(sql, &params).await.unwrap();
            model.insert(id, v);
        }
        let all = rows(&session, "SELECT id, v FROM t ORDER BY id").await.unwrap();
        let all = concat_batches(&all[0].schema(), &all).unwrap();
        let found: Vec<(i64, i64)> = all
            .column(0)
            .as_primitive::<Int64Type>()
            .values()
            .iter()
            .copied()
            .zip(all.column(1).as_primitive::<Int64Type>().values().iter().copied())
            .collect();
        assert_eq!(found, model.into_iter().collect::<Vec<_>>());
        run_all(
            &session,
            &[
                "PREPARE put (BIGINT, BIGINT) AS INSERT INTO t VALUES ($1, $2)",
                "EXECUTE put (1000, 1)",
                "PREPARE got AS SELECT v FROM t WHERE id = $1",
                "PREPARE gone AS DELETE FROM t WHERE id = $1",
            ],
        )
        .await;
        assert_eq!(number(&session, "EXECUTE got (1000)").await, 1);
        assert!(rows(&session, "EXECUTE put (1000, 2)").await.is_err());
        run_all(&session, &["EXECUTE gone (1000)"]).await;
        assert_eq!(number(&session, "SELECT count(*) FROM t WHERE id = 1000").await, 0);
    });
}

#[test]
fn tables_outlive_the_process_and_go_back_in_time() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("my.db");
        let place = folder.to_str().unwrap();
        {
            let database = Database::open(Some(place)).await.unwrap();
            let session = database.session();
            run_all(&session, &[
                "CREATE TABLE t (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v INT CHECK (v > 0)) WITH (retention = '1 day')",
                "INSERT INTO t (v) VALUES (1), (2), (3)",
                "UPDATE t SET v = v * 10",
                "DELETE FROM t WHERE id = 2",
            ])
            .await;
            assert_eq!(number(&session, "SELECT count(*) FROM triune_versions('t')").await, 3);
        }
        let database = Database::open(Some(place)).await.unwrap();
        let session = database.session();
        assert_eq!(number(&session, "SELECT sum(v) FROM t").await, 40);
        let error = rows(&session, "INSERT INTO t (v) VALUES (0)").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Constraint);
        run_all(&session, &["INSERT INTO t (v) VALUES (5)"]).await;
        assert!(number(&session, "SELECT max(id) FROM t").await > 3);
        let first = number(&session, "SELECT min(version) FROM triune_versions('t')").await;
        let then = format!("SELECT sum(v) FROM t AT (VERSION => {first})");
        assert_eq!(number(&session, &then).await, 6);
        run_all(&session, &[&format!("RESTORE TABLE t TO (VERSION => {first})")]).await;
        assert_eq!(number(&session, "SELECT sum(v) FROM t").await, 6);
        run_all(&session, &["CHECKPOINT", "OPTIMIZE t", "VACUUM t", "VACUUM"]).await;
        assert_eq!(number(&session, "SELECT sum(v) FROM t").await, 6);
        assert!(rows(&session, "SELECT * FROM t AT (TAG => 'x')").await.is_err());
    });
}

#[test]
fn changes_of_a_transaction_are_within_the_memory_limit() {
    run(async {
        let options = DatabaseOptions { memory_limit: Some(24 << 20), ..DatabaseOptions::default() };
        let database = Database::open_with(None, options).await.unwrap();
        let session = database.session();
        run_all(&session, &["CREATE TABLE t (id BIGINT PRIMARY KEY, s TEXT)", "BEGIN"]).await;
        let mut there = 0;
        let error = loop {
            let insert = format!(
                "INSERT INTO t SELECT x, repeat('a', 200) FROM range({there}, {}) AS r(x)",
                there + 10_000
            );
            match rows(&session, &insert).await {
                Ok(_) => there += 10_000,
                Err(error) => break error,
            }
            assert!(there < 1_000_000, "the limit is never met");
        };
        assert_eq!(error.kind(), ErrorKind::Resources, "{error}");
        assert!(there > 0);
        // The statement had no effect, and the transaction goes on.
        assert_eq!(number(&session, "SELECT count(*) FROM t").await, there);
        run_all(&session, &["DELETE FROM t WHERE id < 10", "COMMIT"]).await;
        assert_eq!(number(&session, "SELECT count(*) FROM t").await, there - 10);
        run_all(&session, &["INSERT INTO t VALUES (-1, 'x')"]).await;
    });
}

/// Rows that a statement has found and not yet changed count too; what does not fit changes nothing.
#[test]
fn rows_of_a_statement_are_within_the_memory_limit() {
    run(async {
        let options = DatabaseOptions { memory_limit: Some(24 << 20), ..DatabaseOptions::default() };
        let database = Database::open_with(None, options).await.unwrap();
        let session = database.session();
        run_all(
            &session,
            &["CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT, s TEXT)", "CREATE TABLE few (id BIGINT)"],
        )
        .await;
        const ROWS: i64 = 120_000;
        for from in (0..ROWS).step_by(20_000) {
            let to = from + 20_000;
            let sql = format!("INSERT INTO t SELECT x, 0, repeat('a', 200) FROM range({from}, {to}) AS r(x)");
            run_all(&session, &[&sql]).await;
        }
        let same = "SELECT count(*) * 1000 + sum(n) FROM t";
        run_all(&session, &["BEGIN", "INSERT INTO t VALUES (-1, 0, 'own')"]).await;
        // The rows' old texts alone are as many bytes as there are.
        let too_many = [
            "UPDATE t SET n = n + 1",
            "DELETE FROM t RETURNING s",
            "MERGE INTO t USING (SELECT id FROM t) AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET n = 1",
        ];
        for sql in too_many {
            let error = rows(&session, sql).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Resources, "{sql}: {error}");
            assert_eq!(number(&session, same).await, (ROWS + 1) * 1000, "{sql}");
        }
        let error = rows(&session, too_many[0]).await.unwrap_err();
        assert!(error.to_string().contains("the rows of the statement need"), "{error}");
        // What was reserved is free again, and the transaction goes on.
        run_all(&session, &["UPDATE t SET n = n + 1 WHERE id < 20000", "COMMIT"]).await;
        assert_eq!(number(&session, same).await, (ROWS + 1) * 1000 + 20_001);
        // Which rows they are takes little.
        run_all(&session, &["DELETE FROM t WHERE id >= 0"]).await;
        assert_eq!(number(&session, "SELECT count(*) FROM t").await, 1);
    });
}

/// Rows that RETURNING keeps until the statement ends count beside those that are written.
#[test]
fn returned_rows_are_within_the_memory_limit() {
    run(async {
        let options = DatabaseOptions { memory_limit: Some(24 << 20), ..DatabaseOptions::default() };
        let database = Database::open_with(None, options).await.unwrap();
        let session = database.session();
        run_all(&session, &["CREATE TABLE t (id BIGINT PRIMARY KEY, s TEXT)"]).await;
        let insert = |n: i64| format!("INSERT INTO t SELECT x, repeat('a', 200) FROM range(0, {n}) AS r(x)");
        let mut n = 0;
        let error = loop {
            n += 5_000;
            assert!(n < 1_000_000, "the limit is never met");
            let returned = rows(&session, &format!("{} RETURNING id, s", insert(n))).await;
            match returned {
                Ok(_) => run_all(&session, &["DELETE FROM t", "CHECKPOINT"]).await,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Resources, "{error}");
        assert_eq!(number(&session, "SELECT count(*) FROM t").await, 0);
        run_all(&session, &[&insert(n)]).await;
        assert_eq!(number(&session, "SELECT count(*) FROM t").await, n);
    });
}

/// Rows written out, as parameters, and one by one are the same rows.
#[test]
fn values_are_the_same_however_they_are_given() {
    const TABLES: [&str; 4] = ["literals", "parameters", "singles", "planned"];
    // What a cell says, and the parameter that says it.
    let cells: [(&str, Option<ScalarValue>); 13] = [
        ("1", Some(ScalarValue::Int64(Some(1)))),
        ("-7", Some(ScalarValue::Int64(Some(-7)))),
        ("2.5", Some(ScalarValue::Float64(Some(2.5)))),
        ("'3'", Some(ScalarValue::Utf8(Some("3".to_owned())))),
        ("'x''y'", Some(ScalarValue::Utf8(Some("x'y".to_owned())))),
        ("NULL", Some(ScalarValue::Null)),
        ("TRUE", Some(ScalarValue::Boolean(Some(true)))),
        ("'2026-01-31 12:00:00'", Some(ScalarValue::Utf8(Some("2026-01-31 12:00:00".to_owned())))),
        ("'[1, 2]'", Some(ScalarValue::Utf8(Some("[1, 2]".to_owned())))),
        ("DEFAULT", None),
        ("1 + 1", None),
        ("lower('A')", None),
        ("CAST('5' AS INT)", None),
    ];
    // Which cells a column takes.
    let columns: [(&str, &[usize]); 7] = [
        ("BIGINT DEFAULT 42", &[0, 1, 3, 5, 9, 10, 12]),
        ("DOUBLE", &[0, 1, 2, 3, 5, 9, 10]),
        ("DECIMAL(10, 2) DEFAULT 0.5", &[0, 1, 2, 3, 5, 9, 10]),
        ("TEXT DEFAULT 'none'", &[3, 4, 5, 7, 9, 11]),
        ("BOOLEAN", &[5, 6, 9]),
        ("TIMESTAMP", &[5, 7, 9]),
        ("VECTOR(2)", &[5, 8, 9]),
    ];
    run(async move {
        let database = Database::open(None).await.unwrap();
        let session = database.session();
        let defined: Vec<String> =
            columns.iter().enumerate().map(|(i, (of, _))| format!("c{i} {of}")).collect();
        for table in TABLES {
            let sql = format!("CREATE TABLE {table} (id BIGINT PRIMARY KEY, {})", defined.join(", "));
            run_all(&session, &[&sql]).await;
        }
        let mut seed = 7_u64;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % below
        };
        for round in 0..40_usize {
            let simple = round % 2 == 0;
            let count = 1 + random(9);
            let (mut literals, mut parameters, mut given) = (Vec::new(), Vec::new(), Vec::new());
            for row in 0..count {
                let id = round * 100 + row;
                let (mut written, mut numbered) = (vec![id.to_string()], Vec::new());
                given.push(ScalarValue::Int64(Some(id.try_into().unwrap())));
                numbered.push(format!("${}", given.len()));
                for (_, takes) in &columns {
                    let constants: Vec<usize> =
                        takes.iter().copied().filter(|c| !simple || cells[*c].1.is_some()).collect();
                    let (text, value) = &cells[constants[random(constants.len())]];
                    written.push((*text).to_owned());
                    match value {
                        Some(value) => {
                            given.push(value.clone());
                            numbered.push(format!("${}", given.len()));
                        }
                        None => numbered.push((*text).to_owned()),
                    }
                }
                literals.push(format!("({})", written.join(", ")));
                parameters.push(format!("({})", numbered.join(", ")));
            }
            run_all(&session, &[&format!("INSERT INTO literals VALUES {}", literals.join(", "))]).await;
            for row in &literals {
                run_all(&session, &[&format!("INSERT INTO singles VALUES {row}")]).await;
            }
            let sql = format!("INSERT INTO parameters VALUES {}", parameters.join(", "));
            let done = session.execute_with(&sql, &Params::Positional(given)).await;
            done.unwrap_or_else(|e| panic!("{sql}: {e}"));
            // A row with a term in each round is planned, together with the others.
            let sql = format!("INSERT INTO planned VALUES {}", literals.join(", "));
            run_all(&session, &[&sql.replacen('(', "(0 + ", 1)]).await;
            for table in &TABLES[1..] {
                let sql = format!(
                    "SELECT count(*) FROM (SELECT * FROM literals EXCEPT SELECT * FROM {table} \
                     UNION ALL SELECT * FROM {table} EXCEPT SELECT * FROM literals) AS d"
                );
                assert_eq!(number(&session, &sql).await, 0, "{table}: {}", literals.join(", "));
            }
        }
        assert!(number(&session, "SELECT count(*) FROM literals").await > 100);
    });
}

#[test]
fn savepoints_of_all_kinds_of_statements_go_back() {
    run(async {
        let session = Database::open(None).await.unwrap().session();
        run_all(
            &session,
            &[
                "CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)",
                "INSERT INTO t SELECT x, 0 FROM range(20) AS r(x)",
                "BEGIN",
            ],
        )
        .await;
        const STATE: &str = "SELECT coalesce(sum(id * 1000 + v), 0) + count(*) * 1000000 FROM t";
        let statements = [
            "UPDATE t SET v = v + 1 WHERE id = 7",
            "INSERT INTO t VALUES (100, 1), (101, 2)",
            "UPDATE t SET v = v * 2 + 1, id = id + 200 WHERE id >= 100",
            "INSERT INTO t VALUES (7, 70) ON CONFLICT (id) DO UPDATE SET v = excluded.v",
            "DELETE FROM t WHERE id IN (3, 300)",
            "MERGE INTO t USING (VALUES (3, 33), (5, 55)) AS s(id, v) ON t.id = s.id \
             WHEN MATCHED THEN UPDATE SET v = s.v WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v)",
            "TRUNCATE t",
            "INSERT INTO t VALUES (1, 1)",
        ];
        let mut states = Vec::new();
        for (i, sql) in statements.iter().enumerate() {
            states.push(number(&session, STATE).await);
            run_all(&session, &[&format!("SAVEPOINT s{i}"), sql]).await;
            let now = number(&session, STATE).await;
            // A statement that fails half-way: the second row is taken, or the value is none.
            let taken = "INSERT INTO t SELECT x, 100 / (x - 1001) FROM range(1000, 1003) AS r(x)";
            rows(&session, taken).await.unwrap_err();
            assert_eq!(number(&session, STATE).await, now, "{sql}");
        }
        for (i, state) in states.iter().enumerate().rev() {
            for _ in 0..2 {
                run_all(&session, &[&format!("ROLLBACK TO s{i}")]).await;
                assert_eq!(number(&session, STATE).await, *state, "back to s{i}");
                run_all(&session, &["INSERT INTO t VALUES (999, 9)"]).await;
            }
            rows(&session, &format!("ROLLBACK TO s{}", i + 1)).await.unwrap_err();
        }
        run_all(&session, &["ROLLBACK TO s0", "COMMIT"]).await;
        assert_eq!(number(&session, STATE).await, states[0]);
    });
}

/// While a statement ends it is in the list of those that run, in that of those that ended, or in both.
#[test]
fn no_statement_is_missing_while_it_ends() {
    run(async {
        let database = Database::open(None).await.unwrap();
        let queries = Arc::clone(database.queries());
        queries.watch(Arc::new(|_| std::thread::sleep(std::time::Duration::from_millis(2))));
        let session = database.session();
        let looking = SpawnedTask::spawn_blocking({
            let queries = Arc::clone(&queries);
            move || {
                let mut seen = 0;
                while seen < 100 {
                    let ids: Vec<u64> = queries.list(None).iter().map(|q| q.id).collect();
                    let last = ids.last().copied().unwrap_or(0);
                    assert_eq!(ids, (1..=last).collect::<Vec<_>>());
                    assert!(last >= seen, "the statement {seen} was there and is not any more");
                    assert!(last == 0 || queries.find(last, None).is_some(), "{last}");
                    seen = last;
                }
            }
        });
        for _ in 0..100 {
            session.execute("SELECT 1").await.unwrap().collect().await.unwrap();
        }
        looking.join().await.unwrap();
    });
}
