use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::VisitMut;
use datafusion::sql::sqlparser::ast::VisitorMut;
use datafusion::sql::sqlparser::dialect::{Dialect, DuckDbDialect, GenericDialect, PostgreSqlDialect};
use triune_common::ErrorKind;

use super::*;

struct Desugar {
    error: Option<Error>,
}

impl VisitorMut for Desugar {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        match desugar_table_factor(factor) {
            Ok(_) => ControlFlow::Continue(()),
            Err(e) => {
                self.error = Some(e);
                ControlFlow::Break(())
            }
        }
    }
}

fn desugar_with(dialect: &dyn Dialect, sql: &str) -> Result<String> {
    let mut statements = Parser::parse_sql(dialect, sql).unwrap();
    let mut visitor = Desugar { error: None };
    let _ = statements.visit(&mut visitor);
    match visitor.error {
        Some(e) => Err(e),
        None => Ok(statements.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}

fn desugar(sql: &str) -> Result<String> {
    desugar_with(&PostgreSqlDialect {}, sql)
}

/// The text without the places, which have their own test.
fn text(sql: &str) -> String {
    let mut text = desugar(sql).unwrap();
    while let Some(start) = text.find("\"at\":{") {
        let end = start + text[start..].find('}').unwrap() + 1;
        let end = if text[end..].starts_with(',') { end + 1 } else { end };
        text.replace_range(start..end, "");
    }
    text
}

#[test]
fn the_shortest_call() {
    assert_eq!(
        text("SELECT * FROM vector_search(docs, embedding, $1)"),
        "SELECT * FROM (SELECT *, __vector_search('embedding', $1, 10, '{}') AS _distance FROM docs) AS vector_search"
    );
}

#[test]
fn every_argument_and_an_alias() {
    let sql = "SELECT v.id FROM VECTOR_SEARCH(\
        s.docs, \"Emb\", '[1,2]', k => 5, metric => 'l2', where => lang = 'en' AND year > 2000, \
        nprobes => 24, refine_factor => 3, exact => true) AS v (id, e, d)";
    assert_eq!(
        text(sql),
        "SELECT v.id FROM (SELECT *, __vector_search('Emb', '[1,2]', 5, \
         '{\"exact\":true,\"metric\":\"l2\",\"nprobes\":24,\"refine_factor\":3}') AS _distance \
         FROM s.docs WHERE lang = 'en' AND year > 2000) AS v (id, e, d)"
    );
}

#[test]
fn k_by_place_or_as_an_expression() {
    for k in ["7", "$2", "2 * 5", "CAST('3' AS BIGINT)"] {
        let by_place = text(&format!("SELECT * FROM vector_search(docs, e, $1, {k})"));
        assert_eq!(by_place, text(&format!("SELECT * FROM vector_search(docs, e, $1, k => {k})")));
        assert!(by_place.contains(&format!("__vector_search('e', $1, {k}, '{{}}')")), "{by_place}");
    }
}

#[test]
fn tables_by_string_file_and_sub_query() {
    let of = |table: &str| {
        let text = text(&format!("SELECT * FROM vector_search({table}, e, $1) v"));
        let start = text.find("AS _distance FROM ").unwrap() + "AS _distance FROM ".len();
        text[start..text.rfind(") v").unwrap()].to_owned()
    };
    assert_eq!(of("docs"), "docs");
    assert_eq!(of("\"Docs\""), "\"Docs\"");
    assert_eq!(of("'s.docs'"), "s.docs");
    assert_eq!(of("'data/docs.parquet'"), "'data/docs.parquet'");
    assert_eq!(of("'docs.parquet'"), "'docs.parquet'");
    assert_eq!(of("'s3://bucket/docs'"), "'s3://bucket/docs'");
    assert_eq!(of("(SELECT * FROM docs WHERE a)"), "(SELECT * FROM docs WHERE a)");
}

#[test]
fn calls_inside_of_calls_are_found() {
    let text = text(
        "SELECT * FROM vector_search(docs, e, (SELECT e FROM vector_search(docs, e, $1, 1)), \
         where => id IN (SELECT id FROM vector_search(docs, e2, $2)))",
    );
    assert_eq!(text.matches("__vector_search").count(), 3, "{text}");
    assert!(!text.contains(" vector_search("), "{text}");
}

#[test]
fn columns_are_normalised_as_names_are() {
    for (written, name) in [("EMB", "emb"), ("\"EMB\"", "EMB"), ("'EMB'", "EMB"), ("docs.Emb", "emb")] {
        let text = text(&format!("SELECT * FROM vector_search(docs, {written}, $1)"));
        assert!(text.contains(&format!("__vector_search('{name}',")), "{text}");
    }
}

#[test]
fn arguments_may_all_be_named_and_in_any_order() {
    let a = text("SELECT * FROM vector_search(query => $1, k => 3, column => e, table => docs)");
    assert_eq!(a, text("SELECT * FROM vector_search(docs, e, $1, 3)"));
    let b = desugar_with(&GenericDialect {}, "SELECT * FROM vector_search(docs, e, $1, k := 3)").unwrap();
    assert!(b.contains("$1, 3,"), "{b}");
    let c = desugar_with(&DuckDbDialect {}, "SELECT * FROM vector_search(docs, e, $1, k := 3)").unwrap();
    assert!(c.contains("$1, 3,"), "{c}");
}

#[test]
fn searches_that_may_depend_on_rows_are_lateral() {
    for (call, lateral) in [
        ("LATERAL vector_search(docs, e, $1) AS v", true),
        ("vector_search(docs, e, d.e) AS v", true),
        ("vector_search(docs, e, l2_normalize(e2)) AS v", true),
        ("vector_search(docs, e, $1, where => docs.a = d.a) AS v", true),
        ("vector_search(docs, e, $1, where => a = 3) AS v", false),
        ("vector_search(docs, e, (SELECT x.e FROM x)) AS v", false),
    ] {
        let text = text(&format!("SELECT * FROM docs d, {call}"));
        assert_eq!(text.contains("LATERAL (SELECT *, __vector_search"), lateral, "{text}");
    }
}

#[test]
fn places_travel_with_the_options() {
    let text = desugar("SELECT *\nFROM vector_search(docs, emb,\n  $1, k => 3)").unwrap();
    assert!(text.contains(r#""at":{"call":[2,6],"column":[2,26],"k":[3,7],"query":[3,3]}"#), "{text}");
}

#[test]
fn other_factors_are_left_alone() {
    for sql in [
        "SELECT * FROM docs",
        "SELECT * FROM vector_search",
        "SELECT * FROM s.vector_search(1)",
        "SELECT * FROM generate_series(1, 2)",
        "SELECT vector_search(1)",
    ] {
        assert_eq!(desugar(sql).unwrap(), sql);
    }
}

#[test]
fn mistakes_are_named_and_placed() {
    use ErrorKind::{Invalid, Unsupported};
    #[rustfmt::skip]
    let cases = [
        // What is missing, unknown, doubled or out of place.
        ("vector_search()", Invalid, "missing its argument table", 15),
        ("vector_search(docs)", Invalid, "missing its argument column", 15),
        ("vector_search(docs, e)", Invalid, "missing its argument query", 15),
        ("vector_search(docs, e, $1, metrik => 'l2')", Invalid, "no argument metrik; did you mean metric?", 42),
        ("vector_search(docs, e, $1, zzz => 1)", Invalid, "no argument zzz; named arguments are k, metric, where,", 42),
        ("vector_search(docs, e, $1, k => 1, k => 2)", Invalid, "has its argument k twice", 50),
        ("vector_search(docs, e, $1, 5, k => 2)", Invalid, "has its argument k twice", 45),
        ("vector_search(docs, e, $1, 5, 'l2')", Invalid, "four arguments by place", 45),
        ("vector_search(docs, e, k => 5, $1)", Invalid, "without a name after one with a name", 46),
        ("vector_search(docs, e, $1, k = 5)", Invalid, "k = … is a comparison, not a named argument; write k => …", 42),
        ("vector_search(docs, e, *)", Invalid, "query of vector_search cannot be *", 15),
        // Wrong kinds.
        ("vector_search(1, e, $1)", Invalid, "the table of vector_search cannot be 1", 29),
        ("vector_search(docs, 1, $1)", Invalid, "the column of vector_search cannot be 1", 35),
        ("vector_search(docs, e, NULL)", Invalid, "the query of vector_search is NULL", 38),
        ("vector_search(docs, e, $1, 0)", Invalid, "k => 0 is not accepted; a whole number from 1 to 1000000", 42),
        ("vector_search(docs, e, $1, k => 0)", Invalid, "k => 0 is not accepted", 42),
        ("vector_search(docs, e, $1, k => -1)", Invalid, "k => -1 is not accepted", 42),
        ("vector_search(docs, e, $1, k => 1.5)", Invalid, "k => 1.5 is not accepted", 42),
        ("vector_search(docs, e, $1, k => 'x')", Invalid, "k => 'x' is not accepted", 42),
        ("vector_search(docs, e, $1, k => NULL)", Invalid, "k => NULL is not accepted", 42),
        ("vector_search(docs, e, $1, k => 1000001)", Invalid, "k => 1000001 is not accepted", 42),
        ("vector_search(docs, e, $1, k => 99999999999999999999999)", Invalid, "is not accepted", 42),
        ("vector_search(docs, e, $1, k => (SELECT 3))", Unsupported, "k of vector_search cannot be a sub-query", 42),
        ("vector_search(docs, e, $1, metric => 'foo')", Invalid, "metric => 'foo' is not a metric; 'cosine', 'l2'", 42),
        ("vector_search(docs, e, $1, metric => l2)", Invalid, "metric => l2 is not a metric", 42),
        ("vector_search(docs, e, $1, nprobes => 0)", Invalid, "nprobes => 0 is not accepted; a whole number of at least 1 is", 42),
        ("vector_search(docs, e, $1, refine_factor => 'a')", Invalid, "refine_factor => 'a' is not accepted", 42),
        ("vector_search(docs, e, $1, exact => 1)", Invalid, "exact => 1 is not accepted; true or false is", 42),
        ("vector_search(docs, e, $1) WITH ORDINALITY", Unsupported, "does not take WITH ORDINALITY", 15),
    ];
    for (call, kind, message, column) in cases {
        let sql = format!("SELECT * FROM {call}");
        let error = desugar(&sql).expect_err(&sql);
        assert_eq!(error.kind(), kind, "{sql}: {error}");
        assert!(error.to_string().contains(message), "{sql}: {error}");
        assert_eq!(error.position(), Some(Position::new(1, column)), "{sql}: {error}");
    }
}

#[test]
fn names_of_arguments_in_the_query_are_no_columns() {
    assert!(desugar("SELECT * FROM vector_search(docs, e, embed(model => 'm', text => 'x'))").is_ok());
    assert!(desugar("SELECT * FROM vector_search(docs, e, (SELECT x.e FROM x WHERE x.id = 3))").is_ok());
    assert!(desugar("SELECT * FROM vector_search(docs, e, ARRAY[1, 2, 3])").is_ok());
    assert!(desugar("SELECT * FROM vector_search(docs, e, '[1]'::VECTOR(1))").is_ok());
}
