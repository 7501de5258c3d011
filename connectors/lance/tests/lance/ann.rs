//! Searches against brute force: recall, completeness, conditions, metrics, deleted and new rows.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type, Int64Type, Schema, UInt64Type};
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::{col, lit};
use lance::index::DatasetIndexExt;
use lance::index::vector::VectorIndexParams;
use lance_index::IndexType;
use lance_linalg::distance::MetricType;
use triune_common::ErrorKind;
use triune_lance::{AnnRequest, LanceAnnExec, LanceMetric, LanceProvider, WriteMode, plan_ann};

use crate::support::{DIMS, Place, document_vector, documents, metric, run, session, text};

const ROWS: i64 = 4000;

async fn indexed(kind: IndexType, params: VectorIndexParams) -> Place {
    let place = Place::new();
    place.write(vec![documents(0, ROWS)], WriteMode::Create).await.unwrap();
    index(&place, kind, params, "vec_idx").await;
    place
}

async fn index(place: &Place, kind: IndexType, params: VectorIndexParams, name: &str) {
    let mut dataset = place.dataset().await;
    dataset.create_index(&["vec"], kind, Some(name.to_owned()), &params, true).await.unwrap();
}

fn pq(metric: MetricType) -> VectorIndexParams {
    VectorIndexParams::ivf_pq(16, 8, 8, metric, 10)
}

fn query(seed: i64) -> Vec<f32> {
    // Near a document, but none of them.
    document_vector(seed).iter().zip(document_vector(seed + 40)).map(|(a, b)| (a + b) / 2.0).collect()
}

fn array(v: &[f32]) -> ArrayRef {
    Arc::new(Float32Array::from(v.to_vec()))
}

fn distance(metric: LanceMetric, a: &[f32], b: &[f32]) -> f64 {
    let pairs = || a.iter().zip(b).map(|(x, y)| (f64::from(*x), f64::from(*y)));
    let dot: f64 = pairs().map(|(x, y)| x * y).sum();
    match metric {
        LanceMetric::L2 => pairs().map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt(),
        LanceMetric::Dot => -dot,
        LanceMetric::Cosine => {
            let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            1.0 - dot / (norm(a) * norm(b))
        }
        LanceMetric::Hamming => unreachable!(),
    }
}

/// The nearest ids by brute force among those that `keep` keeps.
fn truth(metric: LanceMetric, q: &[f32], k: usize, ids: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut all: Vec<(f64, i64)> = ids.map(|id| (distance(metric, q, &document_vector(id)), id)).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all.into_iter().take(k).map(|(_, id)| id).collect()
}

struct Found {
    ids: Vec<i64>,
    distances: Vec<f32>,
    plan: Arc<dyn ExecutionPlan>,
}

async fn find(table: &LanceProvider, request: AnnRequest) -> Found {
    let ctx = session(2, 8192);
    let plan = plan_ann(table, request).await.unwrap();
    assert_eq!(plan.output_partitioning().partition_count(), 1);
    let batch = run(&ctx, Arc::clone(&plan)).await.unwrap();
    let distances =
        batch.column_by_name("_distance").unwrap().as_primitive::<Float32Type>().values().to_vec();
    assert!(distances.is_sorted(), "{distances:?}");
    let ids = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec();
    Found { ids, distances, plan }
}

fn recall(found: &[i64], want: &[i64]) -> f64 {
    let want: HashSet<_> = want.iter().collect();
    found.iter().filter(|id| want.contains(id)).count() as f64 / want.len() as f64
}

async fn check_index(place: &Place, metric: LanceMetric, kind: &str) {
    let table = place.open().await;
    let info = table.vector_index("vec").await.unwrap().unwrap();
    assert_eq!((info.name.as_str(), info.metric, info.index_type.as_str()), ("vec_idx", metric, kind));
    assert_eq!((info.indexed_rows, info.unindexed_rows), (ROWS as u64, 0));
    let mut sum = 0.0;
    for seed in 0..20 {
        let q = query(seed * 31);
        let found = find(&table, AnnRequest::new("vec", array(&q), 10, metric)).await;
        assert_eq!(found.ids.len(), 10);
        for (id, d) in found.ids.iter().zip(&found.distances) {
            let want = distance(metric, &q, &document_vector(*id));
            assert!((f64::from(*d) - want).abs() < 1e-5, "{kind} {metric}: {d} for {want}");
        }
        assert_eq!(crate::support::metric(&found.plan, "index_searches"), 1);
        assert_eq!(crate::support::metric(&found.plan, "exact_searches"), 0);
        sum += recall(&found.ids, &truth(metric, &q, 10, 0..ROWS));
    }
    assert!(sum / 20.0 >= 0.9, "recall of {kind} {metric} is {}", sum / 20.0);
}

#[tokio::test]
async fn product_quantised_indexes_give_exact_distances() {
    for (ours, theirs) in [
        (LanceMetric::L2, MetricType::L2),
        (LanceMetric::Cosine, MetricType::Cosine),
        (LanceMetric::Dot, MetricType::Dot),
    ] {
        check_index(&indexed(IndexType::IvfPq, pq(theirs)).await, ours, "IVF_PQ").await;
    }
}

#[tokio::test]
async fn other_kinds_of_indexes() {
    let flat = VectorIndexParams::ivf_flat(16, MetricType::Cosine);
    check_index(&indexed(IndexType::IvfFlat, flat).await, LanceMetric::Cosine, "IVF_FLAT").await;
    let rabit = VectorIndexParams::ivf_rq(16, 4, MetricType::L2);
    check_index(&indexed(IndexType::IvfRq, rabit).await, LanceMetric::L2, "IVF_RQ").await;
    let graph = VectorIndexParams::with_ivf_hnsw_sq_params(
        MetricType::L2,
        lance_index::vector::ivf::IvfBuildParams::new(2),
        lance_index::vector::hnsw::builder::HnswBuildParams::default(),
        lance_index::vector::sq::builder::SQBuildParams::default(),
    );
    check_index(&indexed(IndexType::IvfHnswSq, graph).await, LanceMetric::L2, "IVF_HNSW_SQ").await;
}

fn with_filter(q: &[f32], k: usize, metric: LanceMetric, filter: Expr) -> AnnRequest {
    AnnRequest { filter: Some(filter), ..AnnRequest::new("vec", array(q), k, metric) }
}

#[tokio::test]
async fn conditions_come_before_the_search() {
    let place = indexed(IndexType::IvfPq, pq(MetricType::L2)).await;
    let table = place.open().await;
    let l2 = LanceMetric::L2;
    let q = query(17);
    // Few rows match: they are compared one by one, and all of the k are there.
    let found = find(&table, with_filter(&q, 10, l2, col("id").lt(lit(12i64)))).await;
    assert_eq!(found.ids, truth(l2, &q, 10, 0..12));
    assert_eq!(metric(&found.plan, "rows_matching"), 12);
    assert_eq!((metric(&found.plan, "index_searches"), metric(&found.plan, "exact_searches")), (0, 1));
    // Fewer than k match: all of them.
    let found = find(&table, with_filter(&q, 10, l2, col("id").lt(lit(4i32)))).await;
    assert_eq!(found.ids, truth(l2, &q, 10, 0..4));
    // None matches.
    let found = find(&table, with_filter(&q, 10, l2, col("id").lt(lit(0i64)))).await;
    assert!(found.ids.is_empty());

    // Many match: through the index, and no row that does not match.
    for class in 0..3 {
        let mut sum = 0.0;
        for seed in 0..10 {
            let q = query(seed * 7 + 3);
            let filter = col("class").eq(lit(class)).and(col("name").is_not_null());
            let request = AnnRequest { exact_below: 100, ..with_filter(&q, 10, l2, filter) };
            let found = find(&table, request).await;
            assert!(found.ids.iter().all(|id| id % 10 == class && id % 7 != 0), "{:?}", found.ids);
            assert_eq!(found.ids.len(), 10);
            assert!(metric(&found.plan, "index_searches") >= 1);
            let keep = |id: &i64| id % 10 == class && id % 7 != 0;
            sum += recall(&found.ids, &truth(l2, &q, 10, (0..ROWS).filter(keep)));
        }
        assert!(sum / 10.0 >= 0.9, "recall under a condition is {}", sum / 10.0);
    }
}

#[tokio::test]
async fn rows_that_match_far_from_the_query_are_found() {
    // The points of centre 5 (id mod 40) match, the query is at centre 0.
    let place = indexed(IndexType::IvfPq, pq(MetricType::L2)).await;
    let table = place.open().await;
    let q = document_vector(0);
    let far = (col("id") % lit(40i64)).eq(lit(5i64));
    let request = AnnRequest { exact_below: 10, ..with_filter(&q, 10, LanceMetric::L2, far) };
    let found = find(&table, request.clone()).await;
    let want = truth(LanceMetric::L2, &q, 10, (0..ROWS).filter(|id| id % 40 == 5));
    assert_eq!(found.ids.len(), 10);
    assert!(recall(&found.ids, &want) >= 0.9, "{:?} for {want:?}", found.ids);
    // One probe, as the statement says, still gives k rows that match: the rest is made up exactly.
    let found = find(&table, AnnRequest { nprobes: Some(1), ..request }).await;
    assert_eq!(found.ids.len(), 10);
    assert!(found.ids.iter().all(|id| id % 40 == 5));
}

#[tokio::test]
async fn a_metric_that_the_index_has_not_is_searched_exactly() {
    let place = indexed(IndexType::IvfPq, pq(MetricType::L2)).await;
    let table = place.open().await;
    let q = query(5);
    let found = find(&table, AnnRequest::new("vec", array(&q), 10, LanceMetric::Cosine)).await;
    assert_eq!(found.ids, truth(LanceMetric::Cosine, &q, 10, 0..ROWS));
    let shown = text(found.plan.as_ref());
    assert!(shown.contains("access=exact (index vec_idx is of metric l2)"), "{shown}");
    let exact = AnnRequest { exact: true, ..AnnRequest::new("vec", array(&q), 10, LanceMetric::L2) };
    let found = find(&table, exact).await;
    assert_eq!(found.ids, truth(LanceMetric::L2, &q, 10, 0..ROWS));
    // A second index, of that metric, is used although it is not the column's first.
    index(&place, IndexType::IvfPq, pq(MetricType::Cosine), "vec_cosine").await;
    place.write(vec![documents(ROWS, ROWS + 200)], WriteMode::Append).await.unwrap();
    let table = place.open().await;
    assert_eq!(table.vector_indexes("vec").await.unwrap().len(), 2);
    for ours in [LanceMetric::Cosine, LanceMetric::L2] {
        let mut sum = 0.0;
        for seed in 0..10 {
            // Near rows that neither index covers.
            let q = query(ROWS + seed);
            let found = find(&table, AnnRequest::new("vec", array(&q), 10, ours)).await;
            assert_eq!(metric(&found.plan, "index_searches"), 1);
            assert_eq!(metric(&found.plan, "exact_searches"), 0);
            sum += recall(&found.ids, &truth(ours, &q, 10, 0..ROWS + 200));
        }
        assert!(sum / 10.0 >= 0.9, "recall of {ours} is {}", sum / 10.0);
    }
}

#[tokio::test]
async fn new_rows_are_found_and_deleted_rows_are_not() {
    let place = indexed(IndexType::IvfPq, pq(MetricType::Cosine)).await;
    place.write(vec![documents(ROWS, ROWS + 300)], WriteMode::Append).await.unwrap();
    place.dataset().await.delete("id % 3 = 0").await.unwrap();
    let table = place.open().await;
    let info = table.vector_index("vec").await.unwrap().unwrap();
    assert_eq!(info.unindexed_rows, 200);
    let live = |id: &i64| id % 3 != 0;
    let mut sum = 0.0;
    for seed in 0..20 {
        let q = document_vector(ROWS + seed);
        let filter = col("id").gt(lit(100i64));
        let request = with_filter(&q, 10, LanceMetric::Cosine, filter);
        let found = find(&table, AnnRequest { exact_below: 0, ..request }).await;
        assert!(found.ids.iter().all(|id| live(id) && *id > 100), "{:?}", found.ids);
        assert_eq!(found.ids.len(), 10);
        if live(&(ROWS + seed)) {
            assert_eq!(found.ids[0], ROWS + seed, "the row itself is not the nearest");
        }
        let want = truth(LanceMetric::Cosine, &q, 10, (101..ROWS + 300).filter(live));
        sum += recall(&found.ids, &want);
    }
    assert!(sum / 20.0 >= 0.9, "{}", sum / 20.0);
}

#[tokio::test]
async fn k_rows_come_back_if_there_are_k() {
    let place = indexed(IndexType::IvfPq, pq(MetricType::L2)).await;
    let table = place.open().await;
    let q = query(1);
    let l2 = LanceMetric::L2;
    for k in [1, 100, 1500, 4000, 9000] {
        let found = find(&table, AnnRequest::new("vec", array(&q), k, l2)).await;
        assert_eq!(found.ids.len(), k.min(4000));
        assert_eq!(found.ids.iter().collect::<HashSet<_>>().len(), found.ids.len());
        // One probe of sixteen cannot hold them.
        let narrow = AnnRequest { nprobes: Some(1), ..AnnRequest::new("vec", array(&q), k, l2) };
        assert_eq!(find(&table, narrow).await.ids.len(), k.min(4000));
    }
    let none = find(&table, AnnRequest::new("vec", array(&q), 0, l2)).await;
    assert!(none.ids.is_empty());
    let plan = plan_ann(&table, AnnRequest::new("vec", array(&q), 100, l2)).await.unwrap();
    let fewer = plan.with_fetch(Some(3)).unwrap();
    assert_eq!(fewer.downcast_ref::<LanceAnnExec>().unwrap().k(), 3);
    assert_eq!(run(&session(2, 8192), fewer).await.unwrap().num_rows(), 3);
    // In batches of the session's size.
    let ctx = session(2, 30);
    let batches = datafusion::physical_plan::collect(plan, ctx.task_ctx()).await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [30, 30, 30, 10]);
}

#[tokio::test]
async fn rows_without_a_vector_are_never_returned() {
    let place = Place::new();
    let all = documents(0, 1000);
    let vectors = all.column(3).as_fixed_size_list();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let present: Vec<bool> = (0..1000).map(|i| i % 4 != 0).collect();
    let holes = arrow::array::FixedSizeListArray::new(
        item,
        DIMS as i32,
        Arc::clone(vectors.values()),
        Some(present.into()),
    );
    let mut columns = all.columns().to_vec();
    columns[3] = Arc::new(holes);
    place.write(vec![RecordBatch::try_new(all.schema(), columns).unwrap()], WriteMode::Create).await.unwrap();
    let q = query(8);
    let want = |k| truth(LanceMetric::L2, &q, k, (0..1000).filter(|i| i % 4 != 0));
    let unindexed = place.open().await;
    assert_eq!(find(&unindexed, AnnRequest::new("vec", array(&q), 10, LanceMetric::L2)).await.ids, want(10));
    index(&place, IndexType::IvfFlat, VectorIndexParams::ivf_flat(4, MetricType::L2), "vec_idx").await;
    let table = place.open().await;
    for k in [10, 750, 900] {
        let found = find(&table, AnnRequest::new("vec", array(&q), k, LanceMetric::L2)).await;
        assert_eq!(found.ids, want(k), "k = {k}");
    }
}

#[tokio::test]
async fn projections_identity_and_empty_datasets() {
    let place = indexed(IndexType::IvfPq, pq(MetricType::L2)).await;
    let table = place.open().await.with_row_identity(true);
    let q = query(2);
    let ctx = session(2, 8192);
    let names = |p: &Arc<dyn ExecutionPlan>| -> Vec<String> {
        p.schema().fields().iter().map(|f| f.name().clone()).collect()
    };
    // Only identity and distance; nothing; the vector itself; all columns in another order.
    for (projection, want) in [
        (vec![4, 0, 5], vec!["_rowid", "id", "_rowaddr", "_distance"]),
        (vec![], vec!["_distance"]),
        (vec![4], vec!["_rowid", "_distance"]),
        (vec![3, 2, 0], vec!["vec", "name", "id", "_distance"]),
    ] {
        for exact in [false, true] {
            let request = AnnRequest {
                projection: Some(projection.clone()),
                exact,
                ..AnnRequest::new("vec", array(&q), 5, LanceMetric::L2)
            };
            let plan = plan_ann(&table, request).await.unwrap();
            assert_eq!(names(&plan), want);
            let batch = run(&ctx, plan).await.unwrap();
            assert_eq!(batch.num_rows(), 5);
            if let (Some(id), Some(row)) = (batch.column_by_name("id"), batch.column_by_name("_rowid")) {
                let ids = id.as_primitive::<Int64Type>().values().iter().map(|i| *i as u64);
                assert!(ids.eq(row.as_primitive::<UInt64Type>().values().iter().copied()));
            }
        }
    }
    let empty = Place::new();
    empty.write(vec![RecordBatch::new_empty(documents(0, 1).schema())], WriteMode::Create).await.unwrap();
    let table = empty.open().await;
    assert!(table.vector_index("vec").await.unwrap().is_none());
    let found = find(&table, AnnRequest::new("vec", array(&q), 5, LanceMetric::L2)).await;
    assert!(found.ids.is_empty());
    assert!(text(found.plan.as_ref()).contains("access=exact (the column has no vector index)"));
}

#[tokio::test]
async fn stable_row_ids_and_conditions() {
    let place = Place::new();
    let batch = documents(0, 2000);
    let reader = arrow::array::RecordBatchIterator::new(vec![Ok(batch.clone())], batch.schema());
    let params = lance::dataset::WriteParams {
        enable_stable_row_ids: true,
        max_rows_per_file: 700,
        ..Default::default()
    };
    let path = place.url.to_file_path().unwrap();
    lance::Dataset::write(reader, path.to_str().unwrap(), Some(params)).await.unwrap();
    index(&place, IndexType::IvfPq, pq(MetricType::L2), "vec_idx").await;
    place.dataset().await.delete("id < 50").await.unwrap();
    let table = place.open().await;
    let q = query(11);
    for exact_below in [0, 10_000] {
        let filter = col("class").eq(lit(1i64));
        let request = AnnRequest { exact_below, ..with_filter(&q, 10, LanceMetric::L2, filter) };
        let found = find(&table, request).await;
        assert!(found.ids.iter().all(|id| id % 10 == 1 && *id >= 50), "{:?}", found.ids);
        let want = truth(LanceMetric::L2, &q, 10, (50..2000).filter(|id| id % 10 == 1));
        assert!(recall(&found.ids, &want) >= 0.9, "{:?} for {want:?}", found.ids);
    }
    let identity = table.with_row_identity(true);
    let request = AnnRequest {
        projection: Some(vec![0, 4, 5]),
        ..AnnRequest::new("vec", array(&document_vector(1500)), 1, LanceMetric::L2)
    };
    let plan = plan_ann(&identity, request).await.unwrap();
    let batch = run(&session(1, 8192), plan).await.unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(0), 1500);
    assert_eq!(batch.column(1).as_primitive::<UInt64Type>().value(0), 1500);
    assert_eq!(batch.column(2).as_primitive::<UInt64Type>().value(0), (2 << 32) + 100);
}

#[tokio::test]
async fn small_integers_and_bits() {
    let place = Place::new();
    let id = Arc::new(Int64Array::from_iter_values(0..500)) as ArrayRef;
    let mut n = crate::support::Numbers(3);
    let bytes: Vec<u8> = (0..500 * 8).map(|_| n.next() as u8).collect();
    let list = |values: ArrayRef| -> ArrayRef {
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        Arc::new(arrow::array::FixedSizeListArray::new(item, 8, values, None))
    };
    let tiny = list(Arc::new(arrow::array::Int8Array::from_iter_values(bytes.iter().map(|b| *b as i8))));
    let bits = list(Arc::new(arrow::array::UInt8Array::from(bytes.clone())));
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("tiny", tiny.data_type().clone(), true),
        Field::new("bits", bits.data_type().clone(), true),
    ]));
    let batch = RecordBatch::try_new(schema, vec![id, tiny, bits]).unwrap();
    place.write(vec![batch], WriteMode::Create).await.unwrap();
    let mut dataset = place.dataset().await;
    let params = VectorIndexParams::ivf_flat(4, MetricType::Hamming);
    dataset.create_index(&["bits"], IndexType::IvfFlat, None, &params, true).await.unwrap();
    let table = place.open().await;

    let q = &bytes[80..88];
    let request = AnnRequest::new(
        "bits",
        Arc::new(arrow::array::UInt8Array::from(q.to_vec())),
        5,
        LanceMetric::Hamming,
    );
    let found = find(&table, request).await;
    assert_eq!(metric(&found.plan, "index_searches"), 1);
    assert_eq!((found.ids[0], found.distances[0]), (10, 0.0));
    let signed = Arc::new(arrow::array::Int8Array::from_iter_values(q.iter().map(|b| *b as i8)));
    let found = find(&table, AnnRequest::new("tiny", signed, 5, LanceMetric::L2)).await;
    assert_eq!((found.ids[0], found.distances[0]), (10, 0.0));
    assert_eq!(found.ids.len(), 5);
}

#[tokio::test]
async fn explain_says_which_way() {
    let place = indexed(IndexType::IvfPq, pq(MetricType::L2)).await;
    let table = place.open().await;
    let q = query(2);
    let request = with_filter(&q, 7, LanceMetric::L2, col("docs.class").eq(lit(3i64)));
    let plan = plan_ann(&table, AnnRequest { projection: Some(vec![0]), ..request }).await.unwrap();
    let shown = text(plan.as_ref());
    for part in [
        "LanceAnnExec: uri=",
        "t.lance, version=2, column=vec, metric=l2, k=7, projection=[id]",
        "access=index vec_idx (IVF_PQ), nprobes=auto, refine_factor=22",
        "exact_below=10000 matching rows",
        "prefilter=[class@1 = 3]",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

#[tokio::test]
async fn what_cannot_be_searched_is_told() {
    let place = Place::new();
    place.write(vec![documents(0, 50)], WriteMode::Create).await.unwrap();
    let table = place.open().await;
    let l2 = LanceMetric::L2;
    let fail = |request: AnnRequest| {
        let table = Arc::clone(&table);
        async move { plan_ann(&table, request).await.unwrap_err() }
    };
    let q = array(&query(1));
    let error = fail(AnnRequest::new("vex", Arc::clone(&q), 5, l2)).await;
    assert_eq!((error.kind(), error.hint()), (ErrorKind::NotFound, Some("did you mean \"vec\"?")));
    let error = fail(AnnRequest::new("name", Arc::clone(&q), 5, l2)).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let error = fail(AnnRequest::new("vec", array(&[1.0, 2.0]), 5, l2)).await;
    assert_eq!(error.message(), "the query vector has 2 numbers, column \"vec\" has vectors of 16");
    let error = fail(AnnRequest::new("vec", Arc::clone(&q), 5, LanceMetric::Hamming)).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let random = datafusion::functions::math::random().call(vec![]).lt(lit(0.5));
    let error =
        fail(AnnRequest { filter: Some(random), ..AnnRequest::new("vec", Arc::clone(&q), 5, l2) }).await;
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let error = fail(AnnRequest { nprobes: Some(0), ..AnnRequest::new("vec", q, 5, l2) }).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(table.vector_index("nope").await.is_err());
    assert_eq!(table.schema().fields().len(), 4);
}
