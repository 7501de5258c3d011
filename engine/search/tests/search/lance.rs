//! Searches of a Lance table, through its index and without.

use std::sync::Arc;

use datafusion::arrow::array::{
    FixedSizeListArray, Float32Array, Int64Array, RecordBatch, RecordBatchIterator, StringArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use lance::Dataset;
use lance::index::DatasetIndexExt;
use lance::index::vector::VectorIndexParams;
use lance_index::IndexType;
use lance_linalg::distance::MetricType;
use tempfile::TempDir;
use triune_lance::LanceProvider;

use crate::support::{Options, Session, line, session_with};

const ROWS: i64 = 2_000;
const DIMS: i32 = 8;

/// Points of a curve that goes around: neighbours have neighbouring ids.
fn point(id: i64) -> [f32; 8] {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let t = id as f32 / 100.0;
    std::array::from_fn(|i| {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let i = i as f32;
        (t * (1.0 + i / 10.0)).sin() + t / 5.0
    })
}

fn literal(id: i64) -> String {
    let numbers: Vec<_> = point(id).iter().map(ToString::to_string).collect();
    format!("'[{}]'", numbers.join(", "))
}

/// `near (id, kind, e)` in Lance, with an index of L2 over `e`; the folder lives as long as the answer.
async fn session() -> (Session, TempDir) {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("kind", DataType::Utf8, false),
        Field::new("e", DataType::FixedSizeList(Arc::clone(&item), DIMS), true),
    ]));
    let values: Vec<f32> = (0..ROWS).flat_map(point).collect();
    let vectors = FixedSizeListArray::new(item, DIMS, Arc::new(Float32Array::from(values)), None);
    let kinds = (0..ROWS).map(|id| if id % 100 == 0 { "rare" } else { "usual" });
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            Arc::new(Int64Array::from_iter_values(0..ROWS)),
            Arc::new(StringArray::from_iter_values(kinds)),
            Arc::new(vectors),
        ],
    )
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("near.lance").display().to_string();
    let batches = RecordBatchIterator::new([Ok(batch)], schema);
    let mut dataset = Dataset::write(batches, &place, None).await.unwrap();
    let params = VectorIndexParams::ivf_flat(4, MetricType::L2);
    dataset.create_index(&["e"], IndexType::Vector, Some("e_idx".into()), &params, true).await.unwrap();

    let provider = LanceProvider::try_new(Arc::new(dataset)).await.unwrap();
    let session = session_with(Options::default(), &line(30), 7);
    session.context().register_table("near", provider).unwrap();
    (session, folder)
}

#[tokio::test]
async fn an_index_of_the_metric_is_used() {
    let (session, _folder) = session().await;
    let q = literal(1_000);
    let sql = format!(
        "SELECT id FROM vector_search(near, e, {q}, 5, metric => 'l2', nprobes => 4, refine_factor => 3)"
    );
    let plan = session.physical_text(&sql).await;
    assert!(plan.contains("VectorTopKExec: mode=final, k=5, access=index e_idx"), "{plan}");
    assert!(
        plan.contains("LanceAnnExec") && plan.contains("nprobes=4") && plan.contains("refine_factor=3"),
        "{plan}"
    );
    assert!(plan.contains("projection=[id]"), "the vector is not given out: {plan}");
    let mut ids = session.ids(&sql).await;
    assert_eq!(ids[0], 1_000);
    ids.sort_unstable();
    assert_eq!(ids, [998, 999, 1_000, 1_001, 1_002]);
}

#[tokio::test]
async fn without_an_index_for_the_metric_every_row_is_compared() {
    let (session, _folder) = session().await;
    let q = literal(700);
    for call in [
        format!("vector_search(near, e, {q}, 5, metric => 'l2', exact => true)"),
        format!("vector_search(near, e, {q}, 5, metric => 'l1')"),
        format!("vector_search(near, e, {q}, 5, metric => 'cosine')"),
        // More than a table and its conditions: the rows of a join, a limited table.
        format!(
            "vector_search(near, e, {q}, 5, metric => 'l2', where => id NOT IN (SELECT id + 1000 FROM near))"
        ),
        format!("vector_search((SELECT * FROM near LIMIT 1500), e, {q}, 5, metric => 'l2')"),
    ] {
        let sql = format!("SELECT id FROM {call}");
        let plan = session.physical_text(&sql).await;
        assert!(plan.contains("mode=partial") && !plan.contains("AnnExec"), "{sql}\n{plan}");
        assert_eq!(session.ids(&sql).await[0], 700, "{sql}");
    }
}

#[tokio::test]
async fn conditions_go_below_the_index_and_k_rows_come_back() {
    let (session, _folder) = session().await;
    let q = literal(1_000);
    for sql in [
        format!("SELECT id FROM vector_search(near, e, {q}, 5, metric => 'l2') WHERE kind = 'rare'"),
        format!(
            "SELECT x FROM vector_search(near, e, {q}, 5, metric => 'l2', where => kind = 'rare') AS v (x, y, z, d)"
        ),
        format!(
            "SELECT id FROM vector_search((SELECT id, e AS f, kind FROM near WHERE kind = 'rare'), f, {q}, 5, metric => 'l2')"
        ),
    ] {
        let plan = session.physical_text(&sql).await;
        assert!(plan.contains("LanceAnnExec") && plan.contains("prefilter=[kind"), "{sql}\n{plan}");
        let ids = session.ids(&sql).await;
        assert_eq!(ids.len(), 5, "{sql}");
        assert!(ids.iter().all(|id| id % 100 == 0), "{sql}: {ids:?}");
        let exact = sql.replace("metric => 'l2'", "metric => 'l2', exact => true");
        assert_eq!(ids, session.ids(&exact).await, "{sql}");
    }
}

#[tokio::test]
async fn a_query_from_a_sub_query_goes_through_the_index() {
    let (session, _folder) = session().await;
    let sql = "SELECT v.id, v.d FROM vector_search(near, e, (SELECT e FROM near WHERE id = 300), 3, metric => 'l2') \
               AS v (id, kind, e, d) WHERE v.id <> 300";
    let plan = session.physical_text(sql).await;
    assert!(plan.contains("DeferredAnnExec") && plan.contains("access=index e_idx"), "{plan}");
    let mut ids = session.ids(sql).await;
    assert_eq!(ids.len(), 3);
    ids.sort_unstable();
    assert!(ids.contains(&299) && ids.contains(&301), "{ids:?}");
    let none = "SELECT id FROM vector_search(near, e, (SELECT e FROM near WHERE id < 0), 3, metric => 'l2')";
    assert_eq!(session.error(none).await.message(), "the query of vector_search is NULL");
}

#[tokio::test]
async fn a_distance_does_not_depend_on_the_way_to_it() {
    let (session, _folder) = session().await;
    let call = |more: &str| {
        format!("SELECT id, _distance FROM vector_search(near, e, {}, 20, metric => 'l2'{more})", literal(55))
    };
    let through = session.rows(&call(", nprobes => 4")).await.unwrap();
    let exact = session.rows(&call(", exact => true")).await.unwrap();
    let bits = |rows: &[RecordBatch]| -> Vec<u32> {
        crate::support::distances(rows, "_distance").into_iter().map(f32::to_bits).collect()
    };
    assert_eq!(bits(&through), bits(&exact));
}
