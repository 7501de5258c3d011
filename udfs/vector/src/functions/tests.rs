//! The functions as SQL sees them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::ParamValues;
use datafusion::logical_expr::LogicalPlan;
use datafusion::scalar::ScalarValue;

use crate::testing::{error, session, try_rows, value};
use crate::types::VectorType;

/// One relation with a column of each kind: (1,2,3), (0,0,0), NULL.
const DOCS: &str = "WITH docs AS (SELECT id, to_vector(t, 'VECTOR(3)') AS v, to_vector(t, 'HALFVEC(3)') AS h, \
                    to_vector(t, 'TINYVEC(3)') AS b, to_vector(s, 'BITVEC(3)') AS s FROM \
                    (VALUES (1, '[1,2,3]', '101'), (2, '[0,0,0]', '000'), (3, NULL, NULL)) AS x(id, t, s)) ";

async fn column(expr: &str) -> Vec<String> {
    let sql = format!("{DOCS} SELECT {expr} FROM docs ORDER BY id");
    match try_rows(&session(), &sql).await {
        Ok(rows) => rows.into_iter().map(|mut row| row.remove(0)).collect(),
        Err(e) => panic!("{expr}: {e}"),
    }
}

async fn docs_error(expr: &str) -> String {
    error(&format!("{DOCS} SELECT {expr} FROM docs")).await
}

#[tokio::test]
async fn distances_against_a_constant() {
    for v in ["v", "h", "b"] {
        for query in [
            "'[1,2,5]'",
            "[1,2,5]",
            "[1.0,2.0,5.0]",
            "to_vector('[1,2,5]', 'VECTOR(3)')",
            "to_vector('[1,2,5]', 'TINYVEC(3)')",
        ] {
            let results = [
                (format!("l2_distance({v}, {query})"), ["2.0", "5.477226", "NULL"]),
                (format!("{query} <-> {v}"), ["2.0", "5.477226", "NULL"]),
                (format!("inner_product({v}, {query})"), ["20.0", "0.0", "NULL"]),
                (format!("{v} <#> {query}"), ["-20.0", "-0.0", "NULL"]),
                (format!("l1_distance({v}, {query})"), ["2.0", "8.0", "NULL"]),
                (format!("round(({v} <=> {query})::double, 5)"), ["0.0241", "NaN", "NULL"]),
                (format!("round(cosine_similarity({v}, {query})::double, 5)"), ["0.9759", "NaN", "NULL"]),
            ];
            for (expr, want) in results {
                // A text on the left of an operator needs a vector on the right, which all of these have.
                assert_eq!(column(&expr).await, want, "{expr}");
            }
        }
    }
}

#[tokio::test]
async fn distances_between_columns_of_all_kinds() {
    for a in ["v", "h", "b"] {
        for b in ["v", "h", "b"] {
            assert_eq!(column(&format!("{a} <-> {b}")).await, ["0.0", "0.0", "NULL"], "{a} {b}");
            assert_eq!(column(&format!("{a} <=> {b}")).await, ["0.0", "NaN", "NULL"], "{a} {b}");
            assert_eq!(
                column(&format!("l1_distance({a} + {b}, {a})")).await,
                ["6.0", "0.0", "NULL"],
                "{a} {b}"
            );
        }
        assert_eq!(
            column(&format!("l2_distance({a}, [id, 2, 3])")).await,
            ["0.0", "4.1231055", "NULL"],
            "{a}"
        );
    }
    assert_eq!(column("s <~> s").await, ["0.0", "0.0", "NULL"]);
    assert_eq!(column("s <%> s").await, ["0.0", "1.0", "NULL"]);
    assert_eq!(column("s <~> '111'").await, ["1.0", "3.0", "NULL"]);
    assert_eq!(column("hamming_distance([1,1,1], s)").await, ["1.0", "3.0", "NULL"]);
    assert_eq!(column("hamming_distance(s, to_vector('111', 'BITVEC(3)'))").await, ["1.0", "3.0", "NULL"]);
    assert_eq!(column("binary_quantize(v) <~> s").await, ["1.0", "0.0", "NULL"]);
}

#[tokio::test]
async fn plain_lists_are_compared_in_double() {
    assert_eq!(value("SELECT l2_distance([0,0], [3,4])").await, "5.0");
    assert_eq!(value("SELECT arrow_typeof(l2_distance([0,0], [3,4]))").await, "Float64");
    assert_eq!(value("SELECT arrow_typeof(l2_distance('[0,0]'::float[2], [3,4]))").await, "Float32");
    assert_eq!(value("SELECT array_distance([1.5, 2], [1.5, 2.25])").await, "0.25");
    assert_eq!(value("SELECT inner_product([1,2]::smallint[], [3,4]::double[])").await, "11.0");
    assert_eq!(value("SELECT dot_product([1e200], [1e100])").await, "1e300");
    assert_eq!(value("SELECT cosine_distance([1,0], [0,1])").await, "1.0");
    assert_eq!(value("SELECT cosine_distance([0,0], [0,1])").await, "NaN");
    assert_eq!(value("SELECT l2_distance(NULL, [1])").await, "NULL");
    assert_eq!(value("SELECT l2_distance(NULL, NULL)").await, "NULL");
    assert_eq!(value("SELECT [1,2] <-> [1,4]").await, "2.0");
    let rows = try_rows(
        &session(),
        "SELECT l2_distance(a, b) FROM (VALUES ([1,2], [1,4]), ([7], [7]), (NULL, [1]), ([], [])) AS t(a, b)",
    )
    .await;
    assert_eq!(rows.unwrap(), [["2.0"], ["0.0"], ["NULL"], ["0.0"]]);
    assert_eq!(
        error("SELECT l2_distance(a, [1,2]) FROM (VALUES ([1,2]), ([1,2,3])) AS t(a)").await,
        "l2_distance: different vector dimensions 3 and 2"
    );
    assert_eq!(
        error("SELECT l2_distance([1,NULL], [1,2])").await,
        "NULL at position 2 of a vector; its elements must be numbers"
    );
    assert_eq!(
        error("SELECT hamming_distance([1], [1])").await,
        "hamming_distance is defined on BITVEC only, got lists; cast one side: '0101'::BITVEC(4)"
    );
}

#[tokio::test]
async fn duckdb_names() {
    for (call, want) in [
        ("array_distance", "5.0"),
        ("list_distance", "5.0"),
        ("array_inner_product", "0.0"),
        ("list_dot_product", "0.0"),
        ("array_negative_inner_product", "-0.0"),
    ] {
        assert_eq!(value(&format!("SELECT {call}('[3,4]'::VECTOR(2), [0,0])")).await, want, "{call}");
    }
    assert_eq!(value("SELECT array_cosine_distance([1,0], [1,0])").await, "0.0");
    assert_eq!(value("SELECT list_cosine_similarity([1,0], [1,0])").await, "1.0");
    assert_eq!(value("SELECT vector_norm([3,4])").await, "5.0");
}

#[tokio::test]
async fn arguments_that_do_not_fit() {
    assert_eq!(docs_error("l2_distance(v)").await, "l2_distance takes 2 arguments, got 1");
    assert_eq!(
        docs_error("l2_distance(v, id)").await,
        "l2_distance: argument 2 is BIGINT, expected a vector; accepted are VECTOR, HALFVEC, TINYVEC, BITVEC, lists of numbers and texts such as '[1,2,3]'"
    );
    assert_eq!(
        docs_error("v <-> to_vector('[1,2]', 'VECTOR(2)')").await,
        "different vector dimensions 3 and 2 (VECTOR(3) and VECTOR(2))"
    );
    assert_eq!(docs_error("v <-> '[1,2]'").await, "expected 3 dimensions for VECTOR(3), got 2");
    assert_eq!(docs_error("v <-> '[1,x,2]'").await, "'x' at character 4 is no number");
    assert_eq!(
        docs_error("l2_distance(v, '[1,2')").await,
        "'[1,2' is no VECTOR(3): expected ',' or ']' at character 5"
    );
    assert_eq!(docs_error("cosine_distance(v, [1,2])").await, "expected 3 dimensions for VECTOR(3), got 2");
    assert_eq!(
        docs_error("cosine_distance(v, [1,2,NULL])").await,
        "NULL at position 3 of a vector; its elements must be numbers"
    );
    assert_eq!(
        docs_error("b <-> [0.5, 1, 1]").await,
        "0.5 at position 1 is no whole number; the elements of a TINYVEC are whole numbers from -128 to 127"
    );
    assert_eq!(
        docs_error("h <-> [1e6, 1, 1]").await,
        "1000000 at position 1 is out of range for HALFVEC, whose elements reach ±65504"
    );
    assert_eq!(
        docs_error("v <-> s").await,
        "VECTOR(3) and BITVEC(3) cannot be compared; binary_quantize(v) makes a BITVEC of a vector"
    );
    assert_eq!(
        docs_error("s <-> s").await,
        "l2_distance: the l2 metric is not defined on BITVEC; bits are compared by hamming or jaccard distance"
    );
    assert_eq!(
        docs_error("v <~> v").await,
        "hamming_distance: the hamming metric is defined on BITVEC only, got VECTOR; binary_quantize(v) makes a BITVEC of a vector"
    );
    assert_eq!(
        error("SELECT 1 <-> 2").await,
        "the operator <-> needs a vector, got BIGINT and BIGINT; cast a side: '[1,2,3]'::VECTOR(3)"
    );
    assert_eq!(
        error("SELECT l2_distance('[1]', '[2]')").await,
        "l2_distance(VARCHAR, VARCHAR): one side must be a vector; cast the text: '[1,2,3]'::VECTOR(3)"
    );
}

#[tokio::test]
async fn casts_to_vectors() {
    assert_eq!(value("SELECT to_vector('[1,2,3]', 'VECTOR(3)')").await, "[1.0, 2.0, 3.0]");
    assert_eq!(value("SELECT to_vector([1, 2.5], 'halfvec(2)')").await, "[1, 2.5]");
    assert_eq!(value("SELECT to_vector([1.5, 2.5, -0.5], 'TINYVEC(3)')").await, "[2, 2, 0]");
    assert_eq!(value("SELECT to_vector([true, false, true], 'BITVEC(3)')").await, "[160]");
    assert_eq!(value("SELECT to_vector(NULL, 'VECTOR(3)')").await, "NULL");
    assert_eq!(value("SELECT '[1,2,3]'::VECTOR(3)").await, "[1.0, 2.0, 3.0]");
    assert_eq!(value("SELECT '[1,2,3]'::float[3]").await, "[1.0, 2.0, 3.0]");
    assert_eq!(value("SELECT [1,2,3]::VECTOR(3)").await, "[1.0, 2.0, 3.0]");
    assert_eq!(value("SELECT ('[1,2,3]'::VECTOR(3))::varchar").await, "[1,2,3]");
    assert_eq!(value("SELECT vector_to_text(to_vector('01011', 'BITVEC(5)'))").await, "01011");
    assert_eq!(
        value("SELECT vector_to_text(to_vector(to_vector('[0,1,1]', 'VECTOR(3)'), 'BITVEC(3)'))").await,
        "011"
    );
    assert_eq!(
        value("SELECT vector_to_text(to_vector(to_vector('011', 'BITVEC(3)'), 'VECTOR(3)'))").await,
        "[0,1,1]"
    );
    assert_eq!(column("vector_to_text(to_vector(v, 'HALFVEC(3)'))").await, ["[1,2,3]", "[0,0,0]", "NULL"]);
    assert_eq!(column("to_vector(h, 'TINYVEC(3)')").await, ["[1, 2, 3]", "[0, 0, 0]", "NULL"]);
    assert_eq!(column("vector_to_text(s)").await, ["101", "000", "NULL"]);
    assert_eq!(column("s::varchar").await, ["101", "000", "NULL"]);
}

#[tokio::test]
async fn casts_that_fail() {
    for (sql, want) in [
        ("SELECT to_vector('[1,2]', 'VECTOR(3)')", "expected 3 dimensions for VECTOR(3), got 2"),
        ("SELECT to_vector([1,2], 'VECTOR(3)')", "expected 3 dimensions for VECTOR(3), got 2"),
        (
            "SELECT to_vector('[1,2]'::VECTOR(2), 'HALFVEC(3)')",
            "expected 3 dimensions for HALFVEC(3), got VECTOR(2)",
        ),
        (
            "SELECT to_vector([1.0, 'NaN'::double], 'VECTOR(2)')",
            "NaN at position 2 is not allowed in a vector",
        ),
        (
            "SELECT to_vector(['Infinity'::real]::real[1], 'VECTOR(1)')",
            "infinity at position 1 is not allowed in a vector",
        ),
        (
            "SELECT to_vector([1e39], 'VECTOR(1)')",
            "1e39 at position 1 is out of range for VECTOR, whose elements reach ±3.4e38",
        ),
        (
            "SELECT to_vector([200], 'TINYVEC(1)')",
            "200 at position 1 is out of range for TINYVEC, whose elements are whole numbers from -128 to 127",
        ),
        ("SELECT to_vector([2], 'BITVEC(1)')", "2 at position 1 is no bit; accepted are 0 and 1"),
        (
            "SELECT to_vector([1], 'VECTOR(0)')",
            "VECTOR(0): the number of dimensions must be a whole number from 1 to 65535",
        ),
        ("SELECT to_vector([1], 'VECTOR')", "VECTOR needs a number of dimensions, such as VECTOR(384)"),
        (
            "SELECT to_vector([1], 'INT')",
            "'INT' is no vector type; there are VECTOR(n), HALFVEC(n), TINYVEC(n) and BITVEC(n)",
        ),
        (
            "SELECT to_vector([1], x) FROM (VALUES ('VECTOR(1)')) t(x)",
            "to_vector: argument 2 must be a constant text that names a vector type; such as 'VECTOR(3)'",
        ),
        (
            "SELECT to_vector(5, 'VECTOR(1)')",
            "cannot cast BIGINT to VECTOR(1); accepted are texts such as '[1,2,3]', lists of numbers and vectors",
        ),
        (
            "SELECT to_vector(['a'], 'VECTOR(1)')",
            "cannot cast VARCHAR[] to VECTOR(1); accepted are texts such as '[1,2,3]', lists of numbers and vectors",
        ),
        ("SELECT vector_to_text([1])", "vector_to_text: argument 1 is BIGINT[], expected a vector"),
    ] {
        assert_eq!(error(sql).await, want, "{sql}");
    }
}

#[tokio::test]
async fn norms_and_parts() {
    assert_eq!(column("l2_norm(v)").await, ["3.7416575", "0.0", "NULL"]);
    assert_eq!(column("l2_norm(b)").await, ["3.7416575", "0.0", "NULL"]);
    assert_eq!(
        column("l2_normalize(b)").await,
        ["[0.26726124, 0.5345225, 0.80178374]", "[0.0, 0.0, 0.0]", "NULL"]
    );
    assert_eq!(column("vector_to_text(l2_normalize(h))").await, ["[0.2673,0.5347,0.802]", "[0,0,0]", "NULL"]);
    assert_eq!(value("SELECT l2_normalize([3,4])").await, "[0.6, 0.8]");
    assert_eq!(value("SELECT l2_norm('[3e38,3e38]'::VECTOR(2))").await, "inf");
    assert_eq!(column("vector_dims(v)").await, ["3", "3", "NULL"]);
    assert_eq!(column("vector_dims(s)").await, ["3", "3", "NULL"]);
    assert_eq!(value("SELECT vector_dims([1,2])").await, "2");
    assert_eq!(column("subvector(v, 2, 2)").await, ["[2.0, 3.0]", "[0.0, 0.0]", "NULL"]);
    assert_eq!(column("vector_to_text(subvector(s, 2, 2))").await, ["01", "00", "NULL"]);
    // As in pgvector, a part is cut at both ends.
    assert_eq!(column("subvector(v, 2, 100)").await, ["[2.0, 3.0]", "[0.0, 0.0]", "NULL"]);
    assert_eq!(column("subvector(v, -1, 3)").await, ["[1.0]", "[0.0]", "NULL"]);
    assert_eq!(column("vector_to_text(binary_quantize(v))").await, ["111", "000", "NULL"]);
    for (expr, want) in [
        (
            "subvector(v, 4, 1)",
            "subvector: no dimension of VECTOR(3) lies within 1 from 4; start counts from 1 to 3, count is at least 1",
        ),
        (
            "subvector(v, 1, 0)",
            "subvector: no dimension of VECTOR(3) lies within 0 from 1; start counts from 1 to 3, count is at least 1",
        ),
        (
            "subvector(v, id, 1)",
            "subvector: start must be a constant whole number; it decides the type of the result",
        ),
        (
            "subvector(v, 1, 1.5)",
            "subvector: count must be a constant whole number; it decides the type of the result",
        ),
        (
            "subvector([1,2], 1, 1)",
            "subvector: argument 1 is BIGINT[], expected a vector; cast it: x::VECTOR(3)",
        ),
        ("binary_quantize(s)", "binary_quantize: BITVEC(3) is bits already"),
        ("l2_norm(s)", "l2_norm is not defined on BITVEC(3)"),
        (
            "l2_norm('[1]')",
            "l2_norm: argument 1 is VARCHAR, expected a vector; cast the text: '[1,2,3]'::VECTOR(3)",
        ),
    ] {
        assert_eq!(docs_error(expr).await, want, "{expr}");
    }
}

#[tokio::test]
async fn arithmetic() {
    assert_eq!(column("v + '[1,1,1]'").await, ["[2.0, 3.0, 4.0]", "[1.0, 1.0, 1.0]", "NULL"]);
    assert_eq!(column("[1,1,1] - h").await, ["[0, -1, -2]", "[1, 1, 1]", "NULL"]);
    assert_eq!(column("b * b").await, ["[1, 4, 9]", "[0, 0, 0]", "NULL"]);
    assert_eq!(column("arrow_typeof(h + v) = arrow_typeof(v)").await, ["true"; 3]);
    assert_eq!(column("arrow_typeof(b + h) = arrow_typeof(h)").await, ["true"; 3]);
    assert_eq!(column("v + NULL").await, ["NULL"; 3]);
    assert_eq!(column("v + v - v * v <-> v").await, ["6.3245554", "0.0", "NULL"]);
    for (expr, want) in [
        (
            "v + to_vector('[3e38,0,0]', 'VECTOR(3)') + '[3e38,0,0]'",
            "3e38 + 3e38 at position 1 is out of range for VECTOR(3)",
        ),
        ("b * '[1,64,1]'", "2 * 64 at position 2 is out of range for TINYVEC(3)"),
        ("v + '[1,2]'", "expected 3 dimensions for VECTOR(3), got 2"),
        (
            "v + to_vector([1,2], 'VECTOR(2)')",
            "different vector dimensions 3 and 2 (VECTOR(3) and VECTOR(2))",
        ),
        ("s + s", "vector_add is not defined on BITVEC(3)"),
        (
            "vector_add([1], [2])",
            "vector_add(BIGINT[], BIGINT[]): one side must be a vector; cast one side: [1,2,3]::VECTOR(3)",
        ),
    ] {
        assert_eq!(docs_error(expr).await, want, "{expr}");
    }
    assert_eq!(value("SELECT 1 + 2 * 3 - 1").await, "6");
}

/// Metadata is on the fields that a plan announces and on those of its batches.
#[tokio::test]
async fn results_keep_their_type() {
    let context = session();
    let sql = format!(
        "{DOCS} SELECT v, h, b, s, l2_normalize(b) AS n, subvector(s, 1, 2) AS p, v + h AS a, binary_quantize(h) AS q, avg(v) OVER () AS w FROM docs"
    );
    let plan = context.state().create_logical_plan(&sql).await.unwrap();
    let batches = context.execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
    let types: Vec<_> =
        batches[0].schema().fields().iter().map(|f| VectorType::from_field(f).unwrap().to_string()).collect();
    let want = [
        "VECTOR(3)",
        "HALFVEC(3)",
        "TINYVEC(3)",
        "BITVEC(3)",
        "VECTOR(3)",
        "BITVEC(2)",
        "VECTOR(3)",
        "BITVEC(3)",
        "VECTOR(3)",
    ];
    assert_eq!(types, want);
}

/// A constant is brought to the column's type while planning, whatever it was written as.
#[tokio::test]
async fn a_constant_is_prepared_in_the_plan() {
    let context = session();
    let ty: VectorType = "HALFVEC(3)".parse().unwrap();
    let schema = Arc::new(Schema::new(vec![ty.field("h", true)]));
    context.register_batch("t", RecordBatch::new_empty(schema)).unwrap();
    for query in ["'[1,2,3]'", "[1,2,3]", "to_vector('[1,2,3]', 'VECTOR(3)')", "'[1,2,3]'::VECTOR(3)"] {
        let sql = format!("SELECT l2_distance(h, {query}) AS d FROM t");
        let plan = context.state().create_logical_plan(&sql).await.unwrap();
        let plan = context.state().optimize(&plan).unwrap();
        let LogicalPlan::Projection(projection) = &plan else { panic!("{plan}") };
        let call = crate::distance_call(&projection.expr[0]).unwrap_or_else(|| panic!("{plan}"));
        let datafusion::logical_expr::Expr::Literal(value, metadata) = call.query else {
            panic!("{query}: {plan}")
        };
        assert_eq!(value.data_type(), ty.data_type(), "{query}");
        assert_eq!(metadata.as_ref().unwrap().inner()["ARROW:extension:name"], "triune.halfvec", "{query}");
    }
}

/// A parameter beside a vector is typed by an operator, and whatever is bound to one is converted.
#[tokio::test]
async fn parameters() {
    let context = session();
    let ty: VectorType = "VECTOR(2)".parse().unwrap();
    for (expr, typed) in [("v <=> $1", true), ("$1 <-> v", true), ("l2_distance(v, $1)", false)] {
        let sql = format!("SELECT {expr} FROM (SELECT '[3,4]'::VECTOR(2) AS v)");
        let plan = context.state().create_logical_plan(&sql).await.unwrap();
        let parameter = plan.get_parameter_types().unwrap()["$1"].clone();
        assert_eq!(parameter, typed.then(|| ty.data_type()), "{expr}");
        let text = ScalarValue::from("[3,4]");
        let list =
            ScalarValue::List(ScalarValue::new_list_nullable(&[3i64.into(), 4i64.into()], &DataType::Int64));
        let vector = crate::types::parse_text("[3,4]", ty).unwrap();
        for value in [text, list, vector] {
            let bound =
                plan.clone().replace_params_with_values(&ParamValues::from(vec![value.clone()])).unwrap();
            let batches = context.execute_logical_plan(bound).await.unwrap().collect().await;
            let batches = batches.unwrap_or_else(|e| panic!("{expr} {value}: {e}"));
            let want: ArrayRef = Arc::new(Float32Array::from(vec![0.0]));
            assert_eq!(batches[0].column(0), &want, "{expr} {value}");
        }
    }
}

/// A vector becomes a list again by DataFusion's own cast.
#[tokio::test]
async fn vectors_to_lists() {
    assert_eq!(value("SELECT ('[1,2.5]'::VECTOR(2))::double[]").await, "[1.0, 2.5]");
    assert_eq!(value("SELECT ('[1,2.5]'::VECTOR(2))::double[2]").await, "[1.0, 2.5]");
    assert_eq!(value("SELECT array_length('[1,2.5]'::VECTOR(2))").await, "2");
}

/// `float[3]`, and columns of files whose child field has another name, are vectors as they are.
#[tokio::test]
async fn fixed_size_lists_without_metadata() {
    let context = session();
    let item = Arc::new(arrow::datatypes::Field::new("element", DataType::Float32, false));
    let values: ArrayRef = Arc::new(Float32Array::from(vec![1.0, 2.0, 3.0, 4.0]));
    let list: ArrayRef = Arc::new(arrow::array::FixedSizeListArray::new(item, 2, values, None));
    context.register_batch("t", RecordBatch::try_from_iter([("e", list)]).unwrap()).unwrap();
    for (sql, want) in [
        ("SELECT e <-> '[1,2]' FROM t", vec!["0.0", "2.828427"]),
        ("SELECT e <-> e FROM t", vec!["0.0", "0.0"]),
        ("SELECT e + e FROM t", vec!["[2.0, 4.0]", "[6.0, 8.0]"]),
        ("SELECT l2_norm(e) FROM t", vec!["2.236068", "5.0"]),
        ("SELECT e::VECTOR(2) FROM t", vec!["[1.0, 2.0]", "[3.0, 4.0]"]),
        ("SELECT to_vector(e, 'VECTOR(2)') FROM t", vec!["[1.0, 2.0]", "[3.0, 4.0]"]),
        ("SELECT avg(e) FROM t", vec!["[2.0, 3.0]"]),
        ("SELECT e::varchar FROM t", vec!["[1,2]", "[3,4]"]),
    ] {
        let rows = try_rows(&context, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(rows.into_iter().flatten().collect::<Vec<_>>(), want, "{sql}");
    }
}

#[tokio::test]
async fn nullability_is_told_truthfully() {
    let context = session();
    let ty: VectorType = "VECTOR(2)".parse().unwrap();
    for nullable in [true, false] {
        let schema = Arc::new(Schema::new(vec![ty.field("e", nullable)]));
        context.deregister_table("t").unwrap();
        context.register_batch("t", RecordBatch::new_empty(schema)).unwrap();
        let sql = "SELECT e <-> '[1,2]', l2_norm(e), l2_normalize(e), vector_dims(e), e + e, to_vector(e, 'HALFVEC(2)') FROM t";
        let plan = context.state().create_logical_plan(sql).await.unwrap();
        assert!(plan.schema().fields().iter().all(|f| f.is_nullable() == nullable), "{}", plan.schema());
    }
}

#[test]
fn every_function_is_documented() {
    for f in crate::scalar_functions() {
        let docs = f.documentation().unwrap_or_else(|| panic!("{}", f.name()));
        assert!(docs.syntax_example.starts_with(f.name()), "{}", f.name());
        assert!(docs.sql_example.is_some() && docs.arguments.is_some(), "{}", f.name());
    }
    for f in crate::aggregate_functions(None) {
        assert!(f.documentation().unwrap().description.contains("vector"), "{}", f.name());
    }
}

#[tokio::test]
async fn show_functions_lists_them() {
    // The result of these has no type without the values of their constants, so DataFusion leaves them
    // out; information_schema.routines has them.
    let hidden = ["to_vector", "try_to_vector", "subvector"];
    for f in crate::scalar_functions().iter().filter(|f| !hidden.contains(&f.name())) {
        let rows = try_rows(&session(), &format!("SHOW FUNCTIONS LIKE '{}'", f.name())).await.unwrap();
        assert!(rows.iter().any(|row| row[0] == f.name()), "{}: {rows:?}", f.name());
        assert!(rows[0].iter().any(|text| text.starts_with(f.name()) && text.ends_with(')')), "{rows:?}");
    }
}
