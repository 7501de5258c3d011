//! What searches answer.

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, Int64Type};

use crate::support::{Doc, Options, distances, docs_batch, docs_schema, line, session, session_with};

#[tokio::test]
async fn all_columns_and_the_distance_nearest_first() {
    let session = session();
    let sql = "SELECT * FROM vector_search(docs, e, '[7, 1]', k => 3, metric => 'l2') AS v";
    let rows = session.rows(sql).await.unwrap();
    let schema = rows[0].schema();
    let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["id", "kind", "e", "_distance"]);
    assert!(!schema.field(3).is_nullable());
    assert_eq!(distances(&rows, "_distance"), [0.0, 1.0, 1.0]);
    let mut ids = session.ids(sql).await;
    assert_eq!(ids[0], 7);
    ids.sort_unstable();
    assert_eq!(ids, [6, 7, 8]);
}

#[tokio::test]
async fn k_is_ten_and_the_metric_cosine() {
    let session = session();
    let ids = session.ids("SELECT id FROM vector_search(docs, e, '[0, 1]')").await;
    // By angle from (0, 1): 0, 1, 2, …
    assert_eq!(ids, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn fewer_rows_than_k() {
    let session = session();
    assert_eq!(session.ids("SELECT id FROM vector_search(docs, e, '[0, 1]', 1000)").await.len(), 30);
    let none = session.ids("SELECT id FROM vector_search(docs, e, '[0, 1]') WHERE kind = 'z'").await;
    assert!(none.is_empty());
}

#[tokio::test]
async fn conditions_on_the_table_come_before_the_top_k() {
    let session = session();
    let expected: Vec<i64> = vec![2, 5, 8];
    for sql in [
        "SELECT id FROM vector_search(docs, e, '[0, 1]', 3) WHERE kind = 'c'",
        "SELECT id FROM vector_search(docs, e, '[0, 1]', 3) AS v WHERE v.kind = 'c' AND v._distance >= 0",
        "SELECT id FROM vector_search(docs, e, '[0, 1]', 3, where => kind = 'c')",
        "SELECT a FROM vector_search(docs, e, '[0, 1]', 3) AS v (a, b, c, d) WHERE b = 'c' AND d < 100",
        "SELECT id FROM vector_search((SELECT * FROM docs WHERE kind = 'c'), e, '[0, 1]', 3)",
        "WITH c AS (SELECT * FROM docs WHERE kind = 'c') SELECT id FROM vector_search(c, e, '[0, 1]', 3)",
        "SELECT id FROM vector_search(docs, e, '[0, 1]', 3) WHERE kind IN (SELECT kind FROM docs WHERE id = 2)",
        "SELECT id FROM vector_search(docs, e, '[0, 1]', 3) v \
         WHERE EXISTS (SELECT 1 FROM docs d WHERE d.kind = v.kind AND d.id = 2)",
        "SELECT id FROM vector_search(docs, e, '[0, 1]', 3) v \
         WHERE NOT EXISTS (SELECT 1 FROM docs d WHERE d.kind = v.kind AND d.id < 2)",
        "SELECT id FROM vector_search(docs, e, '[0, 1]', 3) WHERE kind = (SELECT max(kind) FROM docs)",
        "SELECT v.id FROM vector_search(docs, e, '[0, 1]', 3) v, (SELECT 1 AS one) t WHERE v.kind = 'c'",
    ] {
        assert_eq!(session.ids(sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn sub_queries_as_conditions_keep_k_rows() {
    let session = session();
    let ids = session
        .ids("SELECT id FROM vector_search(docs, e, '[0, 1]', 4) WHERE id IN (SELECT doc_id FROM extra WHERE tag = 'y')")
        .await;
    assert_eq!(ids, [2, 6, 10, 14]);
    let ids = session
        .ids("SELECT id FROM vector_search(docs, e, '[0, 1]', 4) WHERE id NOT IN (SELECT doc_id FROM extra)")
        .await;
    assert_eq!(ids, [1, 3, 5, 7]);
}

#[tokio::test]
async fn everything_else_is_applied_to_the_rows_found() {
    let session = session();
    for (sql, expected) in [
        // The distance.
        (
            "SELECT id FROM vector_search(docs, e, '[0, 1]', 3, metric => 'l2') WHERE _distance > 0.5",
            vec![1, 2],
        ),
        // An enclosing statement.
        ("SELECT id FROM (SELECT * FROM vector_search(docs, e, '[0, 1]', 3)) WHERE kind = 'c'", vec![2]),
        (
            "WITH near AS (SELECT * FROM vector_search(docs, e, '[0, 1]', 3)) SELECT id FROM near WHERE kind = 'c'",
            vec![2],
        ),
        // A condition that also names the distance, or another table.
        ("SELECT id FROM vector_search(docs, e, '[0, 1]', 3) WHERE kind = 'c' OR _distance < 0", vec![2]),
        ("SELECT v.id FROM vector_search(docs, e, '[0, 1]', 3) v, extra x WHERE v.id = x.doc_id", vec![0, 2]),
        // A predicate that the optimizer infers for the search: v.id = 28.
        (
            "SELECT v.id FROM vector_search(docs, e, '[0, 1]', 3) v JOIN extra x ON v.id = x.doc_id WHERE x.doc_id = 28",
            vec![],
        ),
        (
            "SELECT v.id FROM vector_search(docs, e, '[0, 1]', 3) v JOIN docs d ON v.id = d.id AND v.kind = 'c'",
            vec![2],
        ),
        // The side of a join that may be filled up with NULLs.
        (
            "SELECT x.doc_id FROM extra x LEFT JOIN vector_search(docs, e, '[0, 1]', 3) v ON v.id = x.doc_id \
          WHERE v.id IS NULL AND x.doc_id < 6",
            vec![4],
        ),
        // Conditions without columns.
        ("SELECT id FROM vector_search(docs, e, '[0, 1]', 3) WHERE 1 = 2", vec![]),
        ("SELECT id FROM vector_search(docs, e, '[0, 1]', 3) WHERE random() >= 0", vec![0, 1, 2]),
        ("SELECT id FROM vector_search(docs, e, '[0, 1]', 3) ORDER BY id DESC LIMIT 2", vec![2, 1]),
        ("SELECT id FROM vector_search(docs, e, '[0, 1]', 5) LIMIT 2", vec![0, 1]),
        ("SELECT id FROM vector_search(docs, e, '[0, 1]', 5) LIMIT 2 OFFSET 2", vec![2, 3]),
    ] {
        let mut ids = session.ids(sql).await;
        if !sql.contains("ORDER BY") {
            ids.sort_unstable();
        }
        assert_eq!(ids, expected, "{sql}");
    }
}

#[tokio::test]
async fn a_predicate_without_columns_never_runs_per_row_of_the_table() {
    let session = session();
    // 30 rows would nearly surely give 3 with a chance of a half each; 3 rows give all three once in eight.
    let mut all = true;
    for _ in 0..64 {
        let n = session
            .ids("SELECT id FROM (SELECT * FROM vector_search(docs, e, '[0, 1]', 3)) WHERE random() < 0.5")
            .await;
        all &= n.len() == 3;
    }
    assert!(!all, "the filter was moved below the search");
}

#[tokio::test]
async fn queries_of_every_form() {
    let session = session();
    for query in [
        "'[9, 1]'",
        "ARRAY[9, 1]",
        "[9.0, 1.0]",
        "to_vector('[9, 1]', 'VECTOR(2)')",
        "(SELECT e FROM docs WHERE id = 9)",
        "(SELECT e FROM vector_search(docs, e, '[9, 1]', 1, metric => 'l2'))",
        "'[' || '9, 1]'",
    ] {
        let sql = format!("SELECT id FROM vector_search(docs, e, {query}, 1, metric => 'l2')");
        assert_eq!(session.ids(&sql).await, [9], "{query}");
    }
}

#[tokio::test]
async fn parameters_for_the_query_and_for_k() {
    use datafusion::common::{ParamValues, ScalarValue};
    let session = session();
    let sql = "SELECT id FROM vector_search(docs, e, $1, k => $2, metric => 'l2')";
    let plan = session.plan(sql).await.unwrap();
    let values = ParamValues::from(vec![ScalarValue::from("[9, 1]"), ScalarValue::from(1_i64)]);
    let plan = plan.with_param_values(values).unwrap();
    let rows = session.context().execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
    assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().values(), &[9]);

    // A plan that is analysed first knows the parameter's type and takes a value of another type still.
    let state = session.context().state();
    let plan = session.plan("SELECT id FROM vector_search(docs, e, $1, 1, metric => 'l2')").await.unwrap();
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}).unwrap();
    let types = plan.get_parameter_types().unwrap();
    assert_eq!(types["$1"].as_ref(), Some(docs_schema(2).field(2).data_type()));
    let list = ScalarValue::List(ScalarValue::new_list_nullable(
        &[ScalarValue::from(9.0_f64), ScalarValue::from(1.0_f64)],
        &DataType::Float64,
    ));
    for value in [ScalarValue::from("[9, 1]"), list] {
        let plan = plan.clone().with_param_values(ParamValues::from(vec![value])).unwrap();
        let rows = session.context().execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
        assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().values(), &[9]);
    }
}

#[tokio::test]
async fn vectors_of_every_kind() {
    let session = session();
    for (table, column, rest) in [
        ("(SELECT id, to_vector(e, 'HALFVEC(2)') AS h FROM docs)", "h", "'[9, 1]', 1, metric => 'l2'"),
        ("(SELECT id, to_vector(e, 'TINYVEC(2)') AS t FROM docs)", "t", "'[9, 1]', 1, metric => 'l1'"),
        // The directions of (id, 1): only the row 0 has no first bit.
        ("(SELECT id + 9 AS id, binary_quantize(e) AS b FROM docs)", "b", "'01', 1"),
        ("(SELECT id + 9 AS id, binary_quantize(e) AS b FROM docs)", "b", "'01', 1, metric => 'jaccard'"),
    ] {
        let sql = format!("SELECT id FROM vector_search({table}, {column}, {rest})");
        assert_eq!(session.ids(&sql).await, [9], "{sql}");
    }
}

#[tokio::test]
async fn views_and_joins_and_aggregates_over_searches() {
    let session = session();
    session
        .rows("CREATE VIEW near AS SELECT id, kind, _distance FROM vector_search(docs, e, '[0, 1]', 6)")
        .await
        .unwrap();
    assert_eq!(session.ids("SELECT count(*) FROM near").await, [6]);
    assert_eq!(session.ids("SELECT count(*) FROM near WHERE kind = 'a'").await, [2]);
    session.rows("CREATE VIEW some AS SELECT id AS i, e AS vec FROM docs WHERE id >= 20").await.unwrap();
    assert_eq!(session.ids("SELECT i FROM vector_search(some, vec, '[0, 1]', 2)").await, [20, 21]);
    let joined = session
        .ids(
            "SELECT count(*) FROM vector_search(docs, e, '[0, 1]', 5) a \
              JOIN vector_search(docs, e, '[4, 1]', 5, metric => 'l2') b ON a.id = b.id \
              WHERE a.kind = 'a' AND b.kind = 'a'",
        )
        .await;
    // 0 3 6 9 12 and 3 6 0 9 12.
    assert_eq!(joined, [5]);
    let union = session
        .ids(
            "SELECT id FROM vector_search(docs, e, '[0, 1]', 1) UNION ALL \
              SELECT id FROM vector_search(docs, e, '[29, 1]', 1, metric => 'l2') ORDER BY id",
        )
        .await;
    assert_eq!(union, [0, 29]);
}

#[tokio::test]
async fn the_order_survives_expressions_above() {
    let session = session();
    let sql = "SELECT id, upper(kind), _distance * 2 AS d FROM vector_search(docs, e, '[0, 1]', 20, metric => 'l2')";
    assert_eq!(session.ids(sql).await, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn rows_without_a_vector_or_without_a_distance_are_no_results() {
    let mut docs = line(6);
    docs[1].vector = None;
    docs[2].vector = Some(vec![f32::NAN, 1.0]);
    docs[3].vector = Some(vec![f32::INFINITY, 1.0]);
    let session = session_with(Options::default(), &docs, 2);
    let ids = session.ids("SELECT id FROM vector_search(docs, e, '[0, 1]', 10, metric => 'l2')").await;
    assert_eq!(ids[..3], [0, 4, 5]);
    assert!(!ids.contains(&1) && !ids.contains(&2), "{ids:?}");
}

#[tokio::test]
async fn a_table_without_rows_and_one_without_vectors() {
    let session = session();
    session.table("empty", docs_schema(2), vec![], 1);
    session.table("blank", docs_schema(2), vec![docs_batch(&[Doc { id: 1, kind: "a", vector: None }], 2)], 1);
    for table in ["empty", "blank"] {
        assert!(session.ids(&format!("SELECT id FROM vector_search({table}, e, '[0, 1]')")).await.is_empty());
    }
}

#[tokio::test]
async fn memory_that_is_refused_is_an_error() {
    let options = Options { memory: Some(100_000), ..Options::default() };
    let session = session_with(options, &line(50_000), 1000);
    let error = session.error("SELECT id FROM vector_search(docs, e, '[0, 1]', 40000, metric => 'l2')").await;
    assert_eq!(error.kind(), triune_common::ErrorKind::Resources, "{error}");
    assert_eq!(
        session.ids("SELECT id FROM vector_search(docs, e, '[0, 1]', 3, metric => 'l2')").await,
        [0, 1, 2]
    );
}

#[tokio::test]
async fn parquet_files_are_searched_in_parallel_and_read_only_what_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("docs.parquet");
    let session = session_with(Options::default(), &line(5_000), 500);
    session.rows(&format!("COPY docs TO '{}' STORED AS PARQUET", place.display())).await.unwrap();
    session
        .rows(&format!("CREATE EXTERNAL TABLE files STORED AS PARQUET LOCATION '{}'", place.display()))
        .await
        .unwrap();
    let sql = "SELECT id FROM vector_search(files, e, '[4000, 1]', 3, metric => 'l2') WHERE kind = 'b'";
    let mut ids = session.ids(sql).await;
    ids.sort_unstable();
    assert_eq!(ids, [3997, 4000, 4003]);
    let plan = session.physical_text("SELECT id FROM vector_search(files, e, '[4000, 1]', 3)").await;
    assert!(plan.contains("projection=[id, e]"), "{plan}");
}
