use arrow::array::RecordBatch;
use datafusion::prelude::SessionContext;

use crate::testing::{error, session, try_rows, value};

/// Groups a, b, c with vectors of each kind, lists and numbers; c has NULLs only.
const DATA: &str = "WITH d AS (SELECT g, n, to_vector(t, 'VECTOR(2)') AS v, to_vector(t, 'HALFVEC(2)') AS h, \
                    to_vector(t, 'TINYVEC(2)') AS b, l FROM (VALUES ('a', 1, '[1,2]', [1,2]), ('a', 2, '[3,5]', [3,5]), \
                    ('b', 3, '[7,7]', [7,7]), ('b', 4, NULL, NULL), ('c', 5, NULL, NULL), ('a', 6, '[1,2]', [1,2])) \
                    AS x(g, n, t, l)) ";

async fn rows(sql: &str) -> Vec<Vec<String>> {
    try_rows(&session(), &format!("{DATA}{sql}")).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
}

#[tokio::test]
async fn averages_and_sums_by_group() {
    for v in ["v", "l"] {
        let got =
            rows(&format!("SELECT g, avg({v}), sum({v}), mean({v}) FROM d GROUP BY g ORDER BY g")).await;
        assert_eq!(got[0][2], "[5.0, 9.0]", "{v}");
        assert!(got[0][1].starts_with("[1.666") && got[0][1].contains(", 3.0"), "{v}: {}", got[0][1]);
        assert_eq!(got[0][1], got[0][3], "{v}");
        assert_eq!(got[1], ["b", "[7.0, 7.0]", "[7.0, 7.0]", "[7.0, 7.0]"], "{v}");
        assert_eq!(got[2], ["c", "NULL", "NULL", "NULL"], "{v}");
    }
    let halves =
        rows("SELECT vector_to_text(avg(h)), vector_to_text(sum(h)) FROM d GROUP BY g ORDER BY g").await;
    assert_eq!(halves, [["[1.667,3]", "[5,9]"], ["[7,7]", "[7,7]"], ["NULL", "NULL"]]);
    // The mean of whole numbers has fractions.
    assert_eq!(rows("SELECT avg(b) FROM d WHERE g = 'a' AND n < 3").await, [["[2.0, 3.5]"]]);
    assert_eq!(rows("SELECT arrow_typeof(sum(b)) = arrow_typeof(max(v)) FROM d").await, [["true"]]);
}

#[tokio::test]
async fn without_group_filter_distinct_and_window() {
    assert_eq!(
        rows("SELECT sum(v), sum(l), sum(b) FROM d").await,
        [["[12.0, 16.0]", "[12.0, 16.0]", "[12.0, 16.0]"]]
    );
    assert_eq!(rows("SELECT avg(v) FROM d WHERE false").await, [["NULL"]]);
    assert_eq!(rows("SELECT sum(v) FILTER (WHERE n > 1) FROM d").await, [["[11.0, 14.0]"]]);
    assert_eq!(
        rows("SELECT g, sum(v) FILTER (WHERE n > 1) FROM d GROUP BY g ORDER BY g").await[0],
        ["a", "[4.0, 7.0]"]
    );
    assert_eq!(rows("SELECT sum(DISTINCT v) FROM d").await, [["[11.0, 14.0]"]]);
    // Two different DISTINCT arguments cannot become one GROUP BY.
    assert_eq!(
        rows("SELECT sum(DISTINCT v), avg(DISTINCT h), sum(DISTINCT n) FROM d WHERE g = 'a'").await,
        [["[4.0, 7.0]", "[2, 3.5]", "9"]]
    );
    assert_eq!(
        rows("SELECT g, sum(DISTINCT v), count(DISTINCT n) FROM d GROUP BY g ORDER BY g").await[0],
        ["a", "[4.0, 7.0]", "3"]
    );
    let window =
        rows("SELECT sum(v) OVER (ORDER BY n ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM d ORDER BY n")
            .await;
    let want = ["[1.0, 2.0]", "[4.0, 7.0]", "[10.0, 12.0]", "[7.0, 7.0]", "NULL", "[1.0, 2.0]"];
    assert_eq!(window.into_iter().flatten().collect::<Vec<_>>(), want);
    assert_eq!(
        rows("SELECT avg(v) OVER (PARTITION BY g) FROM d ORDER BY n LIMIT 1").await[0][0]
            .split(',')
            .next_back(),
        Some(" 3.0]")
    );
}

#[tokio::test]
async fn numbers_are_left_to_datafusion() {
    assert_eq!(rows("SELECT sum(n), avg(n), mean(n) FROM d").await, [["21", "3.5", "3.5"]]);
    assert_eq!(
        rows("SELECT g, sum(n + 1), sum(DISTINCT n % 2) FROM d GROUP BY g ORDER BY g").await,
        [["a", "12", "1"], ["b", "9", "1"], ["c", "6", "1"]]
    );
    assert_eq!(
        rows("SELECT sum(n) FILTER (WHERE n > 4), avg(n) OVER () FROM d GROUP BY n ORDER BY n LIMIT 1")
            .await
            .len(),
        1
    );
    assert_eq!(
        rows("SELECT sum(n) OVER (ORDER BY n ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM d ORDER BY n")
            .await
            .concat(),
        ["1", "3", "5", "7", "9", "11"]
    );
    for (expr, ty, want) in [
        ("sum(x::decimal(10,2))", "Decimal128(20, 2)", "3.00"),
        ("avg(x::decimal(10,2))", "Decimal128(14, 6)", "1.500000"),
        ("sum(x::real)", "Float64", "3.0"),
        ("sum(x::int unsigned)", "UInt64", "3"),
        ("sum(x::smallint)", "Int64", "3"),
        ("sum(NULL)", "Int64", "NULL"),
    ] {
        let sql = format!("SELECT {expr}, arrow_typeof({expr}) FROM (VALUES (1), (2)) t(x)");
        let context = session();
        let got = try_rows(&context, &sql).await;
        // What DataFusion itself answers is the measure.
        let plain = SessionContext::default();
        let expected = try_rows(&plain, &sql).await;
        match (got, expected) {
            (Ok(got), Ok(expected)) => {
                assert_eq!(got, expected, "{expr}");
                assert!(got[0][0] == want || ty.is_empty(), "{expr}: {got:?}");
            }
            (Err(_), Err(_)) => {}
            (got, expected) => panic!("{expr}: {got:?} against {expected:?}"),
        }
    }
    assert!(try_rows(&session(), "SELECT sum('x')").await.is_err());
    assert!(try_rows(&session(), "SELECT sum(true)").await.is_err());
}

#[tokio::test]
async fn what_cannot_be_aggregated() {
    assert_eq!(
        error("SELECT avg(x) FROM (VALUES ([1,2]), ([1,2,3])) t(x)").await,
        "different vector dimensions 2 and 3"
    );
    assert_eq!(
        error("SELECT sum(x) FROM (VALUES ([1,NULL])) t(x)").await,
        "NULL at position 2 of a vector; its elements must be numbers"
    );
    let bits = error("SELECT avg(to_vector('01', 'BITVEC(2)'))").await;
    assert_eq!(bits, "avg is not defined on BITVEC(2)");
    assert_eq!(
        error("SELECT sum(to_vector(t, 'HALFVEC(1)')) FROM (VALUES ('[60000]'), ('[60000]')) x(t)").await,
        "1.2e5 at position 1 is out of range for HALFVEC(1)"
    );
    assert_eq!(
        value("SELECT sum(to_vector(t, 'VECTOR(1)')) FROM (VALUES ('[3e38]'), ('[3e38]'), ('[-3e38]')) x(t)")
            .await,
        "[3e38]"
    );
}

/// Many groups over several batches and partitions, against sums computed one by one.
#[tokio::test]
async fn partial_and_final_aggregation_agree_with_plain_sums() {
    let context = session();
    let sql = "CREATE TABLE t AS SELECT value AS n, value % 97 AS g, \
               to_vector([value % 5, value % 7, value % 11], 'VECTOR(3)') AS v FROM generate_series(1, 20000)";
    try_rows(&context, sql).await.unwrap();
    let state = context.state_ref();
    assert!(!state.read().config().options().sql_parser.dialect.to_string().is_empty());
    let got = try_rows(&context, "SELECT g, sum(v) FROM t GROUP BY g ORDER BY g").await.unwrap();
    let want = try_rows(
        &context,
        "SELECT g, [sum(n % 5)::double, sum(n % 7)::double, sum(n % 11)::double] FROM t GROUP BY g ORDER BY g",
    )
    .await
    .unwrap();
    assert_eq!(got.len(), 97);
    assert_eq!(got, want);
}

/// The buffer is known to the memory pool.
#[tokio::test]
async fn memory_is_reported() {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray};
    use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

    use super::groups::VectorGroups;
    use super::{Kind, Output};

    let context = session();
    let plan = context.state().create_logical_plan("SELECT '[1,2]'::VECTOR(2) AS v").await.unwrap();
    let batches: Vec<RecordBatch> =
        context.execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
    let vectors: ArrayRef = Arc::clone(batches[0].column(0));
    let mut groups = VectorGroups::new(Kind::Sum, Output::Vector("VECTOR(2)".parse().unwrap()));
    groups.update_batch(&[Arc::clone(&vectors)], &[999], None, 1000).unwrap();
    assert!(groups.size() >= 1000 * (2 * 8 + 8));
    let first = groups.evaluate(EmitTo::First(999)).unwrap();
    assert_eq!((first.len(), first.null_count()), (999, 999));
    let last = groups.evaluate(EmitTo::All).unwrap();
    assert_eq!(last.as_fixed_size_list().values(), vectors.as_fixed_size_list().values());
}
