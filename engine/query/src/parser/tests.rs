use triune_common::ErrorKind;

use super::*;

fn error(sql: &str) -> Error {
    match parse_one(sql) {
        Ok(s) => panic!("{sql} was parsed: {s:?}"),
        Err(e) => e,
    }
}

#[test]
fn pgvectors_operators_parse_with_its_precedence() {
    for (sql, expected) in [
        ("SELECT a <-> b", "SELECT a <-> b"),
        ("SELECT a <+> b", "SELECT a <+> b"),
        ("SELECT a<+>b", "SELECT a <+> b"),
        ("SELECT 1 < +2", "SELECT 1 < +2"),
    ] {
        let Statement::Sql(s) = parse_one(sql).unwrap() else { panic!() };
        assert_eq!(s.to_string(), expected);
    }
    // `x < a <=> b` must read x < (a <=> b), and `a <=> b + c` as a <=> (b + c).
    for op in ["<->", "<=>", "<#>", "<+>", "<~>", "<%>"] {
        let Statement::Sql(s) = parse_one(&format!("SELECT x < a {op} b + c")).unwrap() else { panic!() };
        let text = format!("{s:?}");
        let outer = text.find("op: Lt,").unwrap();
        let inner = text.find("op: Plus").unwrap();
        assert!(outer < inner, "{op}: {text}");
        let Statement::Sql(s) = parse_one(&format!("SELECT a {op} b < x")).unwrap() else { panic!() };
        assert!(s.to_string().ends_with("< x"));
    }
}

#[test]
fn duckdbs_conveniences_parse() {
    for sql in [
        "FROM t",
        "FROM t SELECT a, b,",
        "SELECT * EXCLUDE (a) FROM t",
        "SELECT * REPLACE (a + 1 AS a) FROM t",
        "SELECT a, sum(b) FROM t GROUP BY ALL",
        "SELECT a FROM t QUALIFY row_number() OVER (ORDER BY a) = 1",
        "SELECT {'a': 1, 'b': [1, 2]}",
        "SELECT * FROM 'data/x.parquet'",
        "SELECT * FROM t AT (VERSION => 3)",
        "SELECT $1::VECTOR(3)",
        "SUMMARIZE t",
        "DESCRIBE SELECT 1",
        "DESCRIBE 'x.parquet'",
        "EXPLAIN (ANALYZE, FORMAT tree) SELECT 1",
        "EXPLAIN ANALYZE VERBOSE SELECT 1;",
        "COPY t TO 'x.csv' (FORMAT csv, HEADER false)",
        "COPY (SELECT 1) TO 's3://b/x.parquet' STORED AS PARQUET OPTIONS ('compression' 'zstd')",
        "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b', SCOPE ('s3://a', 's3://b'))",
        "CREATE EXTERNAL TABLE t (a INT, b VECTOR(3)) STORED AS CSV LOCATION 'x' OPTIONS (delim ';', header true)",
        "CREATE OR REPLACE EXTERNAL TABLE t LOCATION ('a.parquet', 'b.parquet') PARTITIONED BY (y INT)",
    ] {
        parse_one(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
}

#[test]
fn errors_say_where_and_what() {
    let e = error("SELECT 1 +");
    assert_eq!(e.kind(), ErrorKind::Syntax);
    assert!(e.position().is_some(), "{e}");
    let e = error("SELECT\n  * FRM t WHERE");
    assert_eq!(e.position().map(|p| p.line), Some(2), "{e}");
    let e = error("SELECT 'abc");
    assert_eq!((e.kind(), e.position()), (ErrorKind::Syntax, Some(Position::new(1, 8))), "{e}");
    assert_eq!(error("").message(), "there is no statement in the text");
    assert!(error("SELECT 1; SELECT 2").message().contains("the end of the statement"));
    assert!(error("CREATE EXTERNAL TABLE t STORED AS CSV").message().contains("has no LOCATION"));
    assert!(error("EXPLAIN (COSTS) SELECT 1").hint().is_some_and(|h| h.contains("FORMAT")));
}

#[test]
fn deep_nesting_is_an_error_and_never_a_crash() {
    for (open, close) in
        [("(", ")"), ("abs(", ")"), ("(SELECT ", ")"), ("CASE WHEN true THEN ", " END"), ("- ", "")]
    {
        let sql = format!("SELECT {}1{}", open.repeat(1_000), close.repeat(1_000));
        let run = move || parse_one(&sql).map(|_| ()).map_err(|e| (e.kind(), e.to_string()));
        // The engine's threads have large stacks; see the shell's main.
        let outcome = std::thread::Builder::new().stack_size(32 << 20).spawn(run).unwrap().join().unwrap();
        if let Err((kind, message)) = outcome {
            assert_eq!(kind, ErrorKind::Resources, "{open}: {message}");
        }
    }
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let statement = parse_one("CREATE SECRET s (TYPE s3, KEY_ID 'AKIA', SECRET 'hunter2')").unwrap();
    let text = format!("{statement:?}");
    assert!(!text.contains("hunter2"), "{text}");
}
