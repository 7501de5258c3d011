//! What the rules make of plans, before and after, and where they keep out.

use crate::support::session;

/// A typed query that the optimizer folds.
const Q: &str = "to_vector('[1, 2]', 'VECTOR(2)')";

async fn optimised(sql: &str) -> String {
    session().logical(sql).await.1
}

#[tokio::test]
async fn the_marker_becomes_a_search_with_its_conditions_below() {
    let sql = "SELECT v.id, v._distance FROM vector_search(docs, e, '[1, 2]', 5) AS v \
               WHERE v.kind = 'a' AND v._distance < 0.5";
    let (analysed, optimised) = session().logical(sql).await;
    assert_eq!(
        analysed,
        "\
Projection: v.id, v._distance
  Filter: CAST(v._distance AS Float64) < Float64(0.5)
    Sort: v._distance ASC NULLS LAST, fetch=5
      VectorSearch: column=v.e, metric=cosine, k=5, query=to_vector(Utf8(\"[1, 2]\"), Utf8(\"VECTOR(2)\"))
        Filter: v.kind = Utf8(\"a\")
          SubqueryAlias: v
            TableScan: docs"
    );
    assert_eq!(
        optimised,
        "\
Filter: CAST(v._distance AS Float64) < Float64(0.5)
  Sort: v._distance ASC NULLS LAST, fetch=5
    VectorSearch: column=v.e, metric=cosine, k=5, query=[1.0, 2.0], output=[v.id]
      SubqueryAlias: v
        Projection: docs.id, docs.e
          Filter: docs.kind = Utf8(\"a\")
            TableScan: docs projection=[id, kind, e]"
    );
}

#[tokio::test]
async fn names_and_options_are_kept() {
    let sql = "SELECT near.far FROM vector_search(docs, e, '[1, 2]', 5, metric => 'dot', nprobes => 7, \
               refine_factor => 2, exact => true, where => id > 3) AS near (i, k, v, far) WHERE near.k = 'a'";
    let (analysed, _) = session().logical(sql).await;
    assert_eq!(
        analysed,
        "\
Projection: near.far
  Sort: near.far ASC NULLS LAST, fetch=5
    VectorSearch: column=near.v, metric=inner_product, k=5, nprobes=7, refine_factor=2, exact=true, \
query=to_vector(Utf8(\"[1, 2]\"), Utf8(\"VECTOR(2)\"))
      Filter: near.k = Utf8(\"a\")
        SubqueryAlias: near
          Projection: docs.id AS i, docs.kind AS k, docs.e AS v
            Filter: docs.id > Int64(3)
              TableScan: docs"
    );
}

#[tokio::test]
async fn nothing_passes_a_search_later() {
    // Conditions of an enclosing statement, with and without columns, and one that a join infers.
    for (sql, below_sort) in [
        (
            "SELECT id FROM (SELECT * FROM vector_search(docs, e, '[1, 2]', 5)) WHERE kind = 'a'",
            "VectorSearch",
        ),
        (
            "SELECT id FROM (SELECT * FROM vector_search(docs, e, '[1, 2]', 5)) WHERE random() < 0.5",
            "VectorSearch",
        ),
        (
            "SELECT v.id FROM vector_search(docs, e, '[1, 2]', 5) v JOIN extra x ON v.id = x.doc_id WHERE x.doc_id = 4",
            "VectorSearch",
        ),
    ] {
        let plan = optimised(sql).await;
        let lines: Vec<_> = plan.lines().map(str::trim).collect();
        let search = lines.iter().position(|l| l.starts_with("VectorSearch")).unwrap();
        assert!(lines[search].starts_with(below_sort));
        let filters: Vec<_> = lines.iter().enumerate().filter(|(_, l)| l.starts_with("Filter")).collect();
        let scans = lines.iter().position(|l| l.starts_with("TableScan: docs")).unwrap();
        assert!(filters.iter().any(|(i, _)| *i < search), "{plan}");
        assert!(!filters.iter().any(|(i, _)| *i > search && *i < scans), "{plan}");
    }
}

#[tokio::test]
async fn sub_queries_of_the_where_become_joins_below_the_search() {
    let plan = optimised(
        "SELECT v.id FROM vector_search(docs, e, (SELECT e FROM docs WHERE id = 3), 5) AS v \
         WHERE v.kind IN (SELECT kind FROM docs WHERE id < 2)",
    )
    .await;
    assert_eq!(
        plan,
        "\
Projection: v.id
  Sort: v._distance ASC NULLS LAST, fetch=5
    VectorSearch: column=v.e, metric=cosine, k=5, query=(<subquery>), output=[v.id]
      Subquery:
        Projection: docs.e
          Filter: docs.id = Int64(3)
            TableScan: docs projection=[id, e]
      LeftSemi Join: v.kind = __correlated_sq_1.kind
        SubqueryAlias: v
          TableScan: docs projection=[id, kind, e]
        SubqueryAlias: __correlated_sq_1
          Projection: docs.kind
            Filter: docs.id < Int64(2)
              TableScan: docs projection=[id, kind]"
    );
}

#[tokio::test]
async fn vectors_that_nobody_asks_for_stay_below() {
    for (sql, output) in [
        ("SELECT id FROM vector_search(docs, e, '[1, 2]')", "output=[vector_search.id]"),
        ("SELECT count(*) FROM vector_search(docs, e, '[1, 2]')", "output=[]"),
        (
            "SELECT kind, min(_distance) FROM vector_search(docs, e, '[1, 2]') GROUP BY 1",
            "output=[vector_search.kind]",
        ),
        (
            "SELECT id FROM vector_search(docs, e, '[1, 2]') WHERE _distance < 1 AND (kind = 'a' OR _distance > 0) ORDER BY kind",
            "output=[vector_search.id, vector_search.kind]",
        ),
        (
            "SELECT v.id, x.tag FROM vector_search(docs, e, '[1, 2]') v JOIN extra x ON v.id = x.doc_id",
            "output=[v.id]",
        ),
    ] {
        let plan = optimised(sql).await;
        assert!(plan.lines().any(|l| l.contains("VectorSearch") && l.ends_with(output)), "{sql}\n{plan}");
    }
    for sql in [
        "SELECT * FROM vector_search(docs, e, '[1, 2]')",
        "SELECT id, kind, l2_distance(e, e) FROM vector_search(docs, e, '[1, 2]')",
    ] {
        let plan = optimised(sql).await;
        assert!(!plan.contains("output="), "{sql}\n{plan}");
    }
}

#[tokio::test]
async fn a_second_run_changes_nothing() {
    let session = session();
    let state = session.context().state();
    for sql in [
        "SELECT id FROM vector_search(docs, e, '[1, 2]') WHERE kind = 'a' AND _distance < 1".to_owned(),
        format!("SELECT id FROM docs ORDER BY l2_distance(e, {Q}) LIMIT 3"),
        format!("SELECT id, l2_distance(e, {Q}) AS d FROM docs ORDER BY d LIMIT 3"),
    ] {
        let once = state.optimize(&session.plan(&sql).await.unwrap()).unwrap();
        let twice = state.optimize(&once).unwrap();
        assert_eq!(once.display_indent().to_string(), twice.display_indent().to_string(), "{sql}");
        assert_eq!(once.schema(), twice.schema());
    }
}

#[tokio::test]
async fn physical_plans_tell_how_rows_are_found() {
    let text =
        session().physical_text("SELECT id FROM vector_search(docs, e, '[1, 2]', 5) WHERE kind = 'a'").await;
    assert_eq!(
        text,
        "\
ProjectionExec: expr=[id@0 as id]
  VectorTopKExec: mode=final, k=5, access=exact
    CoalescePartitionsExec
      VectorTopKExec: mode=partial, k=5, metric=cosine, column=e@2, query=constant, access=exact, filter=kind@1 = a
        DataSourceExec: partitions=2, partition_sizes=[3, 2]
"
    );
    // A limit above makes the last step smaller; the order is known and not made again.
    let text = session()
        .physical_text("SELECT * FROM vector_search(docs, e, '[1, 2]', 5) ORDER BY _distance LIMIT 2")
        .await;
    assert_eq!(
        text,
        "\
VectorTopKExec: mode=final, k=2, access=exact
  CoalescePartitionsExec
    VectorTopKExec: mode=partial, k=5, metric=cosine, column=e@2, query=constant, access=exact
      DataSourceExec: partitions=2, partition_sizes=[3, 2]
"
    );
}

#[tokio::test]
async fn order_by_a_distance_runs_as_a_search() {
    let plan =
        optimised(&format!("SELECT id FROM docs WHERE kind = 'a' ORDER BY l2_distance(e, {Q}) LIMIT 3"))
            .await;
    assert_eq!(
        plan,
        "\
Projection: docs.id
  Sort: __distance ASC NULLS LAST, fetch=3
    VectorSearch: column=docs.e, metric=l2, k=3, rows without distance last, \
query=[1.0, 2.0], output=[docs.id]
      Projection: docs.id, docs.e
        Filter: docs.kind = Utf8(\"a\")
          TableScan: docs projection=[id, kind, e]"
    );
    let plan =
        optimised(&format!("SELECT id, l2_distance(e, {Q}) AS d FROM docs ORDER BY d LIMIT 3 OFFSET 2"))
            .await;
    assert_eq!(
        plan,
        "\
Limit: skip=2, fetch=3
  Sort: d ASC NULLS LAST, fetch=5
    Projection: docs.id, __distance AS d
      VectorSearch: column=docs.e, metric=l2, k=5, rows without distance last, \
query=[1.0, 2.0], output=[docs.id]
        TableScan: docs projection=[id, e]"
    );
    let text =
        session().physical_text(&format!("SELECT id FROM docs ORDER BY l2_distance(e, {Q}) LIMIT 3")).await;
    assert_eq!(
        text,
        "\
ProjectionExec: expr=[id@0 as id]
  VectorTopKExec: mode=final, k=3, access=exact
    CoalescePartitionsExec
      VectorTopKExec: mode=partial, k=3, metric=l2, column=e@1, query=constant, access=exact
        DataSourceExec: partitions=2, partition_sizes=[3, 2]
"
    );
}

#[tokio::test]
async fn order_by_is_left_alone_where_it_is_no_search() {
    for order in [
        format!("l2_distance(e, {Q}), id LIMIT 3"),
        format!("l2_distance(e, {Q}) DESC LIMIT 3"),
        format!("l2_distance(e, {Q}) NULLS FIRST LIMIT 3"),
        format!("l2_distance(e, {Q})"),
        "l2_distance(e, e) LIMIT 3".to_owned(),
        format!("l2_distance(e, {Q}) + 1 LIMIT 3"),
        "id LIMIT 3".to_owned(),
        format!("l2_distance(e, {Q}) LIMIT 2000000"),
    ] {
        let plan = optimised(&format!("SELECT id FROM docs ORDER BY {order}")).await;
        assert!(!plan.contains("VectorSearch"), "{order}\n{plan}");
    }
    let plan =
        optimised(&format!("SELECT random(), l2_distance(e, {Q}) AS d FROM docs ORDER BY d LIMIT 3")).await;
    assert!(!plan.contains("VectorSearch"), "{plan}");
}

#[tokio::test]
async fn order_by_answers_as_without_the_rule() {
    use crate::support::{Options, distances, line, session_with};
    use datafusion::arrow::array::RecordBatch;
    let mut docs = line(40);
    docs[3].vector = None;
    docs[4].vector = Some(vec![f32::NAN, 0.0]);
    let session = session_with(Options::default(), &docs, 6);
    for k in [1, 5, 39, 40, 100] {
        let sql = format!(
            "SELECT id, l2_distance(e, {Q}) AS _distance FROM docs WHERE id > 1 ORDER BY 2 LIMIT {k}"
        );
        // The second key keeps the rule away.
        let other = sql.replace("ORDER BY 2", "ORDER BY 2, id");
        assert!(session.logical(&sql).await.1.contains("VectorSearch"));
        assert!(!session.logical(&other).await.1.contains("VectorSearch"));
        let (ours, theirs) = (session.rows(&sql).await.unwrap(), session.rows(&other).await.unwrap());
        let bits = |rows| distances(rows, "_distance").into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let count = |rows: &[RecordBatch]| rows.iter().map(RecordBatch::num_rows).sum::<usize>();
        assert_eq!(count(&ours), 38.min(k), "k={k}");
        let numbers = 36.min(k);
        assert_eq!(bits(&ours)[..numbers], bits(&theirs)[..numbers], "k={k}");
        assert_eq!(session.ids(&sql).await.len(), count(&theirs));
        if k >= 38 {
            assert_eq!(session.ids(&sql).await[36..], [4, 3], "not a number, then NULL");
        }
    }
}

#[tokio::test]
async fn a_filter_below_a_search_becomes_part_of_it() {
    use crate::support::{Options, line, session_with};
    let sql = "SELECT id FROM vector_search(docs, e, '[1, 2]', 5) WHERE kind = 'a' AND id > 4";
    let without = session_with(Options { fuse: false, ..Options::default() }, &line(30), 7);
    assert!(without.physical_text(sql).await.contains(
        "column=e@1, query=constant, access=exact
        FilterExec: kind@1 = a AND id@0 > 4, projection=[id@0, e@2]"
    ));
    let with = session();
    assert!(with.physical_text(sql).await.contains(
        "column=e@2, query=constant, access=exact, filter=kind@1 = a AND id@0 > 4
        DataSourceExec"
    ));
    assert_eq!(with.ids(sql).await, without.ids(sql).await);
    // A filter with a fetch chooses rows by more than its condition.
    let sql = "SELECT id FROM vector_search((SELECT * FROM docs WHERE kind = 'a' LIMIT 4), e, '[1, 2]', 5)";
    assert!(!with.physical_text(sql).await.contains("filter="));
    assert_eq!(with.ids(sql).await.len(), 4);
}
