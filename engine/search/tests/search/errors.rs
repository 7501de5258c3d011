//! Mistakes that need the table to be seen.

use triune_common::{ErrorKind, Position};

use crate::support::session;

#[tokio::test]
async fn mistakes_are_named_and_placed() {
    let session = session();
    session.rows("CREATE VIEW plain AS SELECT id, kind FROM docs").await.unwrap();
    session.rows("CREATE VIEW bits AS SELECT id, binary_quantize(e) AS b FROM docs").await.unwrap();
    session.rows("CREATE VIEW taken AS SELECT id, e, 1.0 AS _distance FROM docs").await.unwrap();
    #[rustfmt::skip]
    let cases = [
        ("vector_search(docs, emb, '[1, 2]')", ErrorKind::NotFound, "\"docs\" has no column \"emb\"", Some(35)),
        ("vector_search(docs, emb, '[1, 2]')", ErrorKind::NotFound, "its vector columns are \"e\" VECTOR(2)", Some(35)),
        ("vector_search(docs, kind, '[1, 2]')", ErrorKind::Invalid, "the column \"kind\" of \"docs\" is no vector but Utf8", Some(35)),
        ("vector_search(plain, id, '[1, 2]')", ErrorKind::Invalid, "it has no vector column", Some(36)),
        ("vector_search(docs, e, '[1, 2, 3]')", ErrorKind::Invalid, "the query has 3 dimensions, the column \"e\" of \"docs\" has 2", Some(38)),
        ("vector_search(docs, e, ARRAY[1, 2, 3])", ErrorKind::Invalid, "the query has 3 dimensions", None),
        ("vector_search(docs, e, CAST(NULL AS VARCHAR))", ErrorKind::Invalid, "the query of vector_search is NULL", None),
        ("vector_search(docs, e, (SELECT e FROM docs WHERE id = 99))", ErrorKind::Invalid, "the query of vector_search is NULL", None),
        ("vector_search(docs, e, '[1, 2]', metric => 'hamming')", ErrorKind::Invalid, "metric => 'hamming' does not compare VECTOR(2)", Some(48)),
        ("vector_search(docs, e, '[1, 2]', k => 2 - 2)", ErrorKind::Invalid, "k => 0 is not accepted", Some(48)),
        ("vector_search(docs, e, '[1, 2]', k => $1)", ErrorKind::Invalid, "the parameter $1 for k has no value", Some(48)),
        ("vector_search(bits, b, '01', metric => 'cosine')", ErrorKind::Invalid, "metric => 'cosine' does not compare BITVEC(2), the type of \"b\"; 'hamming' or 'jaccard' is accepted", Some(44)),
        ("vector_search(bits, b, '011')", ErrorKind::Invalid, "the query has 3 dimensions, the column \"b\" of \"bits\" has 2", None),
        ("vector_search(docs, e, '[1, x]')", ErrorKind::Invalid, "x", Some(38)),
        ("vector_search(docs, e, 'nonsense')", ErrorKind::Invalid, "nonsense", Some(38)),
        ("vector_search(docs, e, 3)", ErrorKind::Invalid, "cannot cast BIGINT to VECTOR(2)", Some(38)),
        ("vector_search(docs, e, (SELECT id, e FROM docs))", ErrorKind::Invalid, "one column", None),
        ("vector_search(docs, e, (SELECT e FROM docs))", ErrorKind::Invalid, "more than one row", None),
        ("vector_search(taken, e, '[1, 2]')", ErrorKind::Invalid, "_distance", None),
        ("vector_search(nowhere, e, '[1, 2]')", ErrorKind::NotFound, "nowhere", None),
        ("vector_search(docs, e, '[1, 2]', where => nothing = 1)", ErrorKind::NotFound, "nothing", None),
    ];
    for (call, kind, message, column) in cases {
        let sql = format!("SELECT * FROM {call}");
        let error = session.error(&sql).await;
        assert_eq!(error.kind(), kind, "{sql}: {error}");
        assert!(error.to_string().contains(message), "{sql}: {error}");
        if let Some(column) = column {
            assert_eq!(error.position(), Some(Position::new(1, column)), "{sql}: {error}");
        }
    }
}

#[tokio::test]
async fn searches_per_row_are_refused_and_not_answered_wrongly() {
    let session = session();
    for sql in [
        "SELECT d.id FROM docs d WHERE EXISTS (SELECT 1 FROM vector_search(docs, e, '[0, 1]', 3) v WHERE v.id = d.id)",
        "SELECT d.id, (SELECT max(v.id) FROM vector_search(docs, e, '[0, 1]', 3) v WHERE v.kind = d.kind) FROM docs d",
        "SELECT d.id, (SELECT max(v.id) FROM vector_search(docs, e, (SELECT x.e FROM docs x WHERE x.id = d.id)) v) FROM docs d",
    ] {
        let error = session.error(sql).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{sql}: {error}");
        let message = error.to_string();
        assert!(message.contains("depends on d.") || message.contains("a search per row"), "{sql}: {error}");
    }
    // Without a dependence they are fine.
    let ids = session
        .ids("SELECT d.id FROM docs d WHERE d.id IN (SELECT id FROM vector_search(docs, e, '[0, 1]', 3)) ORDER BY 1")
        .await;
    assert_eq!(ids, [0, 1, 2]);
}

#[tokio::test]
async fn the_marker_is_not_for_users() {
    let session = session();
    for sql in [
        "SELECT __vector_search('e', '[1, 2]', 3, '{}') FROM docs",
        "SELECT id FROM docs WHERE __vector_search('e', '[1, 2]', 3, '{}') < 1",
    ] {
        let error = session.error(sql).await;
        assert!(error.to_string().contains("search"), "{sql}: {error}");
    }
}
