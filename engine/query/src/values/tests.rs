use std::cmp::Ordering;

use proptest::prelude::*;

use super::times::with_seconds;
use crate::Database;
use crate::testing::texts;

#[test]
fn moments_as_people_write_them() {
    for (text, read) in [
        ("2024-03-01 12:00", "2024-03-01 12:00:00"),
        ("2024-3-1 9:05+02", "2024-03-01 09:05:00+02"),
        ("2024-03-01T12:00Z", "2024-03-01 12:00:00Z"),
        ("2024-3-1", "2024-03-01"),
        (" 2024-03-01   12:00:30.5 ", "2024-03-01 12:00:30.5"),
        ("2024-03-01 12:00 Europe/Zurich", "2024-03-01 12:00:00 Europe/Zurich"),
        ("2024-03-01x12:00", "2024-03-01x12:00"),
        ("2024-03", "2024-03"),
        ("12:00", "12:00"),
        ("24-03-01", "24-03-01"),
        ("2024-03-01 12", "2024-03-01 12"),
        ("", ""),
        ("é", "é"),
    ] {
        assert_eq!(with_seconds(text), read, "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,30}") {
        with_seconds(&text);
    }

    #[test]
    fn what_is_complete_stays(text in "[1-2][0-9]{3}-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?") {
        let read = with_seconds(&text);
        prop_assert_eq!(read.as_ref(), text.as_str());
    }
}

/// PostgreSQL's order of numbers: zeros are one, NaN is equal to itself and greater than all.
fn order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// Every comparison of every pair, of columns and of what is written out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floats_compare_as_numbers() {
    let written = ["NULL", "0.0", "-0.0", "1.5", "-1.5", "'NaN'", "1e-300", "-1e-300", "'inf'"];
    let numbers: Vec<Option<f64>> = written.iter().map(|w| w.trim_matches('\'').parse().ok()).collect();
    let session = Database::open(None).await.unwrap().session();
    session.execute("CREATE TABLE t (id INT PRIMARY KEY, x DOUBLE)").await.unwrap();
    for (id, w) in written.iter().enumerate() {
        let sql = format!("INSERT INTO t VALUES ({id}, {w}::DOUBLE)");
        session.execute(&sql).await.unwrap();
    }
    let all: Vec<usize> = (0..numbers.len()).collect();
    type Holds = fn(Ordering) -> bool;
    let operators: [(&str, Holds); 6] = [
        ("=", Ordering::is_eq),
        ("<>", Ordering::is_ne),
        ("<", Ordering::is_lt),
        ("<=", Ordering::is_le),
        (">", Ordering::is_gt),
        (">=", Ordering::is_ge),
    ];
    for (operator, holds) in operators {
        let is = |a: usize, b: usize| Some(holds(order(numbers[a]?, numbers[b]?)));
        let pairs: Vec<String> = all
            .iter()
            .flat_map(|a| all.iter().map(move |b| (*a, *b)))
            .filter(|(a, b)| is(*a, *b) == Some(true))
            .map(|(a, b)| format!("{a} {b}"))
            .collect();
        let sql = format!("SELECT a.id, b.id FROM t a, t b WHERE a.x {operator} b.x ORDER BY a.id, b.id");
        assert_eq!(texts(&session, &sql).await, pairs, "{sql}");
        for (b, w) in written.iter().enumerate() {
            let ids: Vec<String> =
                all.iter().filter(|a| is(**a, b) == Some(true)).map(ToString::to_string).collect();
            let sql = format!("SELECT id FROM t WHERE x {operator} {w}::DOUBLE ORDER BY id");
            assert_eq!(texts(&session, &sql).await, ids, "{sql}");
            let ids: Vec<String> =
                all.iter().filter(|a| is(b, **a) == Some(true)).map(ToString::to_string).collect();
            let sql = format!("SELECT id FROM t WHERE {w}::DOUBLE {operator} x ORDER BY id");
            assert_eq!(texts(&session, &sql).await, ids, "{sql}");
        }
    }
    for (b, w) in written.iter().enumerate().skip(1) {
        let same = |a: &&usize| numbers[**a].zip(numbers[b]).is_some_and(|(a, b)| order(a, b).is_eq());
        let ids: Vec<String> = all.iter().filter(same).map(ToString::to_string).collect();
        for sql in [
            format!("SELECT id FROM t WHERE x IN ({w}::DOUBLE, 77.0) ORDER BY id"),
            format!("SELECT id FROM t WHERE x IN (SELECT x FROM t WHERE id = {b}) ORDER BY id"),
            format!("SELECT id FROM t WHERE x BETWEEN {w}::DOUBLE AND {w}::DOUBLE ORDER BY id"),
            format!("SELECT id FROM t WHERE x IS NOT DISTINCT FROM {w}::DOUBLE ORDER BY id"),
            format!("SELECT id FROM t WHERE CASE x WHEN {w}::DOUBLE THEN true END ORDER BY id"),
            format!("SELECT id FROM t WHERE x = (SELECT x FROM t WHERE id = {b}) ORDER BY id"),
            format!("SELECT t.id FROM t JOIN t u ON t.x = u.x AND u.id = {b} ORDER BY t.id"),
            format!("SELECT t.id FROM t JOIN (SELECT x FROM t WHERE id = {b}) u USING (x) ORDER BY t.id"),
            format!(
                "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM t u WHERE u.x = t.x AND u.id = {b}) ORDER BY id"
            ),
        ] {
            assert_eq!(texts(&session, &sql).await, ids, "{sql}");
        }
    }
    for sql in [
        "SELECT count(*) FROM (SELECT DISTINCT x FROM t)",
        "SELECT count(*) FROM (SELECT x FROM t GROUP BY x)",
        "SELECT count(*) FROM (SELECT x FROM t UNION SELECT x FROM t)",
        "SELECT count(DISTINCT x) + 1 FROM t",
    ] {
        assert_eq!(texts(&session, sql).await, ["8"], "{sql}");
    }
}
