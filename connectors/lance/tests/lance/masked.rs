//! Masked rows are in no answer and in no count; everything else is as without a mask.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float32Array, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::common::stats::Precision;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionContext, col, lit};
use futures::TryStreamExt;
use lance::dataset::{InsertBuilder, WriteParams};
use lance::index::DatasetIndexExt;
use lance::index::vector::VectorIndexParams;
use lance_index::IndexType;
use lance_linalg::distance::MetricType;
use roaring::RoaringTreemap;
use triune_lance::{AnnRequest, ColumnCache, LanceMetric, LanceProvider, LanceScanExec, WriteMode, plan_ann};

use crate::support::{
    Numbers, Place, document_vector, documents, find, metric, plan, register, rows_of, run, session, text,
};

const ROWS: i64 = 20_000;

/// Two fragments of a size, and a third of another.
async fn place() -> Place {
    let place = Place::new();
    place.write(vec![documents(0, 9_000)], WriteMode::Create).await.unwrap();
    place.write(vec![documents(9_000, 18_000)], WriteMode::Append).await.unwrap();
    place.write(vec![documents(18_000, ROWS)], WriteMode::Append).await.unwrap();
    place
}

fn address(id: i64) -> u64 {
    let (fragment, first) = match id {
        0..9_000 => (0u64, 0),
        9_000..18_000 => (1, 9_000),
        _ => (2, 18_000),
    };
    fragment << 32 | (id - first) as u64
}

/// What is hidden: nothing of the last fragment, a run and scattered rows of the others.
fn hidden(id: i64) -> bool {
    (3_000..5_500).contains(&id) || (id < 18_000 && Numbers(id as u64).next().is_multiple_of(50))
}

fn mask(hidden: impl Fn(i64) -> bool) -> Arc<RoaringTreemap> {
    let mut rows: RoaringTreemap = (0..ROWS).filter(|id| hidden(*id)).map(address).collect();
    // Of other versions of the dataset.
    rows.insert(77 << 32 | 5);
    rows.insert(2 << 32 | 4_000_000);
    Arc::new(rows)
}

fn visible(hidden: impl Fn(i64) -> bool) -> RecordBatch {
    let all = documents(0, ROWS);
    let keep = (0..ROWS).map(|id| Some(!hidden(id))).collect();
    filter_record_batch(&all, &keep).unwrap()
}

fn both(table: &Arc<LanceProvider>, want: RecordBatch, partitions: usize) -> SessionContext {
    let ctx = session(partitions, 1000);
    register(&ctx, "t", Arc::clone(table) as _);
    let memory = MemTable::try_new(want.schema(), vec![vec![want]]).unwrap();
    register(&ctx, "m", Arc::new(memory));
    ctx
}

#[tokio::test]
async fn queries_give_the_visible_rows() {
    let place = place().await;
    let files = place.open().await.with_mask(mask(hidden)).unwrap();
    let want = visible(hidden);
    assert_eq!(files.rows(), want.num_rows() as u64);
    assert_eq!(files.masked_rows(), ROWS as u64 - want.num_rows() as u64);
    // Without a cache; with one, empty and full; with one that holds the narrow columns only.
    let large = files.with_cache(Some(&Arc::new(ColumnCache::new(64 << 20))));
    let small = files.with_cache(Some(&Arc::new(ColumnCache::new(1200 << 10))));
    let ways = [(1, &files), (3, &files), (1, &large), (3, &large), (2, &small), (2, &small)];
    for (partitions, table) in ways {
        let ctx = both(table, want.clone(), partitions);
        for sql in [
            "SELECT * FROM t ORDER BY id",
            "SELECT id FROM t ORDER BY id",
            "SELECT count(*) FROM t",
            "SELECT class, count(*), sum(id) FROM t GROUP BY class ORDER BY class",
            "SELECT count(*) FROM t WHERE class = 3",
            // Two reads: the vector is fetched for the rows that remain.
            "SELECT id, vec FROM t WHERE class = 3 ORDER BY id",
            "SELECT id, vec, name FROM t WHERE id BETWEEN 2990 AND 5510 ORDER BY id",
            // A condition is not evaluated on a hidden row: it would divide by zero on row 4000.
            "SELECT count(*) FROM t WHERE 1 / (id - 4000) = 0",
            "SELECT id, name FROM t ORDER BY id DESC LIMIT 7",
            "SELECT a.id FROM t a JOIN t b ON a.id = b.id + 1 WHERE b.class = 4 ORDER BY a.id",
            "SELECT count(name) FROM t",
        ] {
            let got = rows_of(&ctx, sql).await;
            let want = rows_of(&ctx, &sql.replace("FROM t", "FROM m").replace("JOIN t", "JOIN m")).await;
            assert_eq!(got.columns(), want.columns(), "{partitions}: {sql}");
        }
        for (limit, sql) in [(10, "SELECT id FROM t LIMIT 10"), (3000, "SELECT id, vec FROM t LIMIT 3000")] {
            let got = rows_of(&ctx, sql).await;
            let ids = got.column(0).as_primitive::<Int64Type>().values().to_vec();
            assert_eq!(ids.len(), limit);
            assert!(ids.iter().all(|id| !hidden(*id)), "{sql}");
        }
    }
}

#[tokio::test]
async fn counts_are_exact_and_known_without_reading() {
    let place = place().await;
    let table = place.open().await.with_mask(mask(hidden)).unwrap();
    let want = visible(hidden).num_rows();
    let ctx = both(&table, visible(hidden), 3);
    let counted = plan(&ctx, "SELECT count(*) FROM t").await;
    assert!(find::<LanceScanExec>(&counted).is_none(), "{}", text(counted.as_ref()));
    let scan = find::<LanceScanExec>(&plan(&ctx, "SELECT id FROM t").await).unwrap();
    assert!(text(scan.as_ref()).contains(&format!("masked_rows={}", ROWS as usize - want)));
    assert_eq!(scan.partition_statistics(None).unwrap().num_rows, Precision::Exact(want));
    let parts = scan.properties().partitioning.partition_count();
    let mut sum = 0;
    for p in 0..parts {
        let said = scan.partition_statistics(Some(p)).unwrap().num_rows;
        let read: Vec<RecordBatch> = scan.execute(p, ctx.task_ctx()).unwrap().try_collect().await.unwrap();
        let rows: usize = read.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(said, Precision::Exact(rows));
        sum += rows;
    }
    assert_eq!(sum, want);
    let without = table.with_mask(Arc::new(RoaringTreemap::new())).unwrap();
    assert_eq!((without.rows(), without.masked_rows()), (ROWS as u64, 0));
}

async fn nearest(
    table: &LanceProvider,
    request: AnnRequest,
) -> (Vec<i64>, Arc<dyn datafusion::physical_plan::ExecutionPlan>) {
    let plan = plan_ann(table, request).await.unwrap();
    let got = run(&session(2, 1000), Arc::clone(&plan)).await.unwrap();
    let ids = got.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec();
    (ids, plan)
}

fn truth(q: &[f32], k: usize, rows: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut all: Vec<(f32, i64)> = rows
        .map(|id| (document_vector(id).iter().zip(q).map(|(a, b)| (a - b) * (a - b)).sum(), id))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.into_iter().take(k).map(|(_, id)| id).collect()
}

#[tokio::test]
async fn searches_give_the_nearest_visible_rows() {
    let place = place().await;
    let mut dataset = place.dataset().await;
    let params = VectorIndexParams::ivf_pq(16, 8, 4, MetricType::L2, 10);
    dataset.create_index(&["vec"], IndexType::Vector, None, &params, true).await.unwrap();
    // Some rows that no index covers.
    place.write(vec![documents(ROWS, ROWS + 200)], WriteMode::Append).await.unwrap();
    let open = place.open().await;
    // A few rows, and nine in ten: then the rest is looked for as under a condition.
    let most = |id: i64| id < ROWS && id % 10 != 3;
    for (name, hides) in [("few", &hidden as &dyn Fn(i64) -> bool), ("most", &most)] {
        let table = open.with_mask(mask(hides)).unwrap();
        let (mut right, mut asked) = (0, 0);
        for seed in 0..10 {
            // The nearest row itself is hidden.
            let of = (0..ROWS).filter(|id| hides(*id)).nth(seed * 97).unwrap();
            let q = document_vector(of);
            let query = Arc::new(Float32Array::from(q.clone())) as ArrayRef;
            let request = AnnRequest::new("vec", query, 10, LanceMetric::L2);
            let live = || (0..ROWS + 200).filter(|id| !hides(*id));
            for filter in [None, Some(col("class").eq(lit(3i64)))] {
                let filtered = filter.is_some();
                let want = truth(&q, 10, live().filter(|id| !filtered || id % 10 == 3));
                for (exact, below) in [(true, 10_000), (false, 10_000), (false, 0)] {
                    let request =
                        AnnRequest { exact, exact_below: below, filter: filter.clone(), ..request.clone() };
                    let (got, plan) = nearest(&table, request).await;
                    assert!(got.iter().all(|id| !hides(*id)), "{name}: a hidden row was found");
                    assert_eq!(got.len(), 10);
                    assert!(text(plan.as_ref()).contains("masked_rows="));
                    if exact {
                        assert_eq!(got, want);
                    } else {
                        right += got.iter().filter(|id| want.contains(id)).count();
                        asked += 10;
                        let searches = metric(&plan, "index_searches") + metric(&plan, "exact_searches");
                        assert!(searches > 0);
                    }
                }
            }
        }
        let recall = f64::from(right as u32) / f64::from(asked);
        assert!(recall >= 0.93, "{name}: {recall}");
    }
}

#[tokio::test]
async fn rows_by_address_and_in_order() {
    let place = place().await;
    let table = place.open().await.with_mask(mask(hidden)).unwrap();
    let all = documents(0, ROWS);
    let asked = [19_999, 3, 3_500, 3, 9_000, 0, 8_999, 17_999];
    let rows = table.take(&asked.map(address), &[3, 0, 3]).await.unwrap();
    let want: Vec<RecordBatch> = asked.iter().map(|id| all.slice(*id as usize, 1)).collect();
    let want = concat_batches(&all.schema(), &want).unwrap().project(&[3, 0, 3]).unwrap();
    assert_eq!(rows.columns(), want.columns());
    let cache = Arc::new(ColumnCache::new(64 << 20));
    let cached = table.with_cache(Some(&cache));
    for round in 0..4 {
        let rows = cached.take(&asked.map(address), &[3, 0, 3]).await.unwrap();
        assert_eq!(rows.columns(), want.columns());
        let one = cached.take(&[address(9_001)], &[2, 1]).await.unwrap();
        assert_eq!(one.columns(), all.slice(9_001, 1).project(&[2, 1]).unwrap().columns());
        // A chunk is kept when it is asked for a second time.
        assert_eq!(cache.bytes() > 0, round > 0);
    }
    let (_, before) = cache.counts();
    cached.take(&asked.map(address), &[3, 0]).await.unwrap();
    assert_eq!(cache.counts().1, before, "all of it was there");
    assert_eq!(table.take(&[], &[0]).await.unwrap().num_rows(), 0);
    assert!(cached.take(&[9 << 32], &[0]).await.is_err());
    assert_eq!(table.take(&[5, 5], &[]).await.unwrap().num_rows(), 2);
    for bad in [9 << 32, 2 << 32 | 2_000, u64::MAX] {
        assert!(table.take(&[bad, 1], &[0]).await.is_err(), "{bad}");
    }

    let stream = table.rows_of(&[2, 0], 700).unwrap();
    let read: Vec<RecordBatch> = stream.try_collect().await.unwrap();
    let read = concat_batches(&read[0].schema(), &read).unwrap();
    let ids = read.column(0).as_primitive::<Int64Type>().values().to_vec();
    let want: Vec<i64> = (18_000..ROWS).chain(0..9_000).filter(|id| !hidden(*id)).collect();
    assert_eq!(ids, want);
    let addresses = read.column(read.num_columns() - 1).as_primitive::<UInt64Type>();
    assert!(addresses.values().iter().zip(&want).all(|(a, id)| *a == address(*id)));
}

#[tokio::test]
async fn what_cannot_be_masked_is_told() {
    let place = place().await;
    place.dataset().await.delete("id = 5").await.unwrap();
    let error = place.open().await.with_mask(mask(hidden)).unwrap_err();
    assert_eq!(error.kind(), triune_common::ErrorKind::Unsupported);
    let other = Place::new();
    let params = WriteParams { enable_stable_row_ids: true, ..Default::default() };
    let path = other.url.to_file_path().unwrap();
    let insert = InsertBuilder::new(path.to_str().unwrap()).with_params(&params);
    insert.execute(vec![documents(0, 10)]).await.unwrap();
    assert!(other.open().await.with_mask(mask(hidden)).is_err());
}

#[tokio::test]
async fn versions_that_cut_a_file_into_other_chunks_share_a_cache() {
    const OLD: i64 = 70_000;
    let rows = |from: i64, to: i64, long: bool| {
        let texts = (from..to).map(|i| {
            let mut numbers = Numbers(i as u64);
            (0..if long { 10 } else { 0 }).map(|_| format!("{:016x}", numbers.next())).collect::<String>()
        });
        let ids: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(from..to));
        let texts: ArrayRef = Arc::new(arrow::array::StringArray::from_iter_values(texts));
        RecordBatch::try_from_iter([("id", ids), ("body", texts)]).unwrap()
    };
    let place = Place::new();
    place.write(vec![rows(0, OLD, true)], WriteMode::Create).await.unwrap();
    let cache = Arc::new(ColumnCache::new(256 << 20));
    let before = place.open().await.with_cache(Some(&cache));
    // Short texts make the next version believe that rows are narrow.
    place.write(vec![rows(OLD, 4 * OLD, false)], WriteMode::Append).await.unwrap();
    let after = place.open().await.with_cache(Some(&cache));
    let old = rows(0, OLD, true);
    let all = concat_batches(&old.schema(), &[old.clone(), rows(OLD, 4 * OLD, false)]).unwrap();
    for (table, want) in [(&before, &old), (&after, &all), (&before, &old)] {
        let ctx = session(2, 8192);
        register(&ctx, "t", Arc::clone(table) as _);
        let found = run(&ctx, plan(&ctx, "SELECT id, body FROM t ORDER BY id").await).await.unwrap();
        assert_eq!(found.columns(), want.columns());
        for id in [5u64, 40_000, 65_540] {
            // Twice: chunks are kept when they are asked for again.
            for _ in 0..2 {
                let one = table.take(&[id], &[0, 1]).await.unwrap();
                assert_eq!(one.columns(), want.slice(id as usize, 1).columns(), "{id}");
            }
        }
    }
}
