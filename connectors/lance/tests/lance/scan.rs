//! Scans against the same rows in memory: conditions, projections, limits, partitions, dynamic filters.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    UInt64Array,
};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Float32Type, Int64Type, Schema, UInt64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::physical_plan::ExecutionPlanProperties;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use proptest::prelude::*;
use triune_common::ErrorKind;
use triune_lance::{ColumnCache, LanceProvider, LanceScanExec, WriteMode};

use crate::support::{
    Numbers, Place, documents, find, metric, plan, register, rows_of, run, session, text, vectors,
};

/// Sorted texts of all rows: equal for equal results in any order.
fn rows(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let columns: Vec<ArrayFormatter<'_>> =
        batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
    let mut out: Vec<String> = (0..batch.num_rows())
        .map(|i| columns.iter().map(|c| c.value(i).to_string()).collect::<Vec<_>>().join(" | "))
        .collect();
    out.sort();
    out
}

/// 9,000 rows in three fragments; every eleventh and the rows 3,000..3,500 are deleted.
async fn with_deletions(place: &Place) -> RecordBatch {
    place.write(vec![documents(0, 2000)], WriteMode::Create).await.unwrap();
    place.write(vec![documents(2000, 8500)], WriteMode::Append).await.unwrap();
    place.write(vec![documents(8500, 9000)], WriteMode::Append).await.unwrap();
    let gone = "id % 11 = 0 OR (id >= 3000 AND id < 3500)";
    place.dataset().await.delete(gone).await.unwrap();
    let all = documents(0, 9000);
    let ids = all.column(0).as_primitive::<Int64Type>();
    let live: BooleanArray =
        ids.values().iter().map(|i| Some(!(i % 11 == 0 || (3000..3500).contains(i)))).collect();
    filter_record_batch(&all, &live).unwrap()
}

fn in_memory(batch: &RecordBatch) -> Arc<MemTable> {
    Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch.clone()]]).unwrap())
}

async fn both(place: &Place, want: &RecordBatch, partitions: usize, batch_rows: usize) -> SessionContext {
    let ctx = session(partitions, batch_rows);
    register(&ctx, "t", place.open().await);
    register(&ctx, "m", in_memory(want));
    ctx
}

/// The query over the dataset and over memory gives the same rows.
async fn agree(ctx: &SessionContext, sql: &str) {
    let ours = rows(&rows_of(ctx, sql).await);
    let want = rows(&rows_of(ctx, &sql.replace("FROM t", "FROM m").replace("JOIN t", "JOIN m")).await);
    assert!(ours == want, "{sql}: {} rows, want {}", ours.len(), want.len());
}

#[tokio::test]
async fn every_row_once_in_any_number_of_partitions() {
    let place = Place::new();
    let want = with_deletions(&place).await;
    for (partitions, batch_rows) in [(1, 8192), (2, 100), (3, 8192), (8, 1000), (64, 7)] {
        let ctx = both(&place, &want, partitions, batch_rows).await;
        let scan = plan(&ctx, "SELECT * FROM t").await;
        let count = scan.output_partitioning().partition_count();
        assert!(count <= partitions && (partitions == 1 || count > 1), "{count} of {partitions}");
        assert_eq!(rows(&run(&ctx, scan).await.unwrap()), rows(&want), "{partitions} partitions");
        agree(&ctx, "SELECT vec, id FROM t WHERE class = 3").await;
    }
}

#[tokio::test]
async fn batches_are_no_larger_than_the_session_says() {
    let place = Place::new();
    with_deletions(&place).await;
    let ctx = session(2, 50);
    register(&ctx, "t", place.open().await);
    for sql in ["SELECT id FROM t", "SELECT * FROM t WHERE class < 5"] {
        let scan = plan(&ctx, sql).await;
        for p in 0..scan.output_partitioning().partition_count() {
            let mut stream = scan.execute(p, ctx.task_ctx()).unwrap();
            while let Some(batch) = stream.next().await {
                let n = batch.unwrap().num_rows();
                assert!((1..=50).contains(&n), "{n}");
            }
        }
    }
}

#[tokio::test]
async fn counting_reads_no_column() {
    let place = Place::new();
    let want = with_deletions(&place).await;
    let ctx = both(&place, &want, 3, 8192).await;
    // From the statistics: no scan at all.
    assert!(!text(plan(&ctx, "SELECT count(*) FROM t").await.as_ref()).contains("LanceScanExec"));
    agree(&ctx, "SELECT count(*) FROM t").await;
    agree(&ctx, "SELECT count(*) FROM t WHERE class = 4").await;
    agree(&ctx, "SELECT count(*), count(name) FROM t WHERE name IS NULL").await;
    // A scan of no columns whose rows are still counted right, deletions and all.
    let provider = place.open().await;
    let none = provider.scan(&ctx.state(), Some(&vec![]), &[], None).await.unwrap();
    let batch = run(&ctx, Arc::clone(&none)).await.unwrap();
    assert_eq!((batch.num_columns(), batch.num_rows()), (0, want.num_rows()));
    let some = provider.scan(&ctx.state(), Some(&vec![]), &[], Some(77)).await.unwrap();
    assert_eq!(run(&ctx, some).await.unwrap().num_rows(), 77);
}

#[tokio::test]
async fn limits() {
    let place = Place::new();
    let want = with_deletions(&place).await;
    let ctx = both(&place, &want, 4, 512).await;
    let all: Vec<String> = rows(&want);
    for (sql, n) in [
        ("SELECT * FROM t LIMIT 10", 10),
        ("SELECT * FROM t LIMIT 0", 0),
        ("SELECT * FROM t LIMIT 3000", 3000),
        ("SELECT * FROM t LIMIT 100000", all.len()),
        ("SELECT * FROM t WHERE class = 7 LIMIT 13", 13),
        ("SELECT * FROM t LIMIT 5 OFFSET 20", 5),
    ] {
        let got = rows(&rows_of(&ctx, sql).await);
        assert_eq!(got.len(), n, "{sql}");
        assert!(got.iter().all(|r| all.binary_search(r).is_ok()), "{sql}");
    }
    let scan = plan(&ctx, "SELECT id FROM t WHERE class = 7 LIMIT 13").await;
    assert!(text(scan.as_ref()).contains("fetch=13"), "{}", text(scan.as_ref()));
    // A limit without a condition reads a batch, not the dataset.
    let scan = plan(&ctx, "SELECT id FROM t LIMIT 10").await;
    run(&ctx, Arc::clone(&scan)).await.unwrap();
    let scan = find::<LanceScanExec>(&scan).unwrap();
    assert!(metric(&scan, "rows_scanned") <= 1024, "{}", metric(&scan, "rows_scanned"));
}

#[tokio::test]
async fn projections_and_row_identity() {
    let place = Place::new();
    let want = with_deletions(&place).await;
    let ctx = both(&place, &want, 2, 8192).await;
    agree(&ctx, "SELECT name, id FROM t").await;
    agree(&ctx, "SELECT id, id + 1, name FROM t WHERE vec IS NOT NULL").await;
    let provider = place.open().await.with_row_identity(true);
    assert_eq!(provider.schema().fields().len(), 6);
    register(&ctx, "r", provider);
    let found = rows_of(&ctx, "SELECT _rowaddr, id, _rowid FROM r").await;
    assert_eq!(found.num_rows(), want.num_rows());
    let address = found.column(0).as_primitive::<UInt64Type>();
    let id = found.column(1).as_primitive::<Int64Type>();
    for (a, id) in address.values().iter().zip(id.values()) {
        let (fragment, start) = match id {
            0..2000 => (0, 0),
            2000..8500 => (1, 2000),
            _ => (2, 8500),
        };
        assert_eq!(*a, (fragment << 32) + (*id as u64 - start));
    }
    assert_eq!(found.column(0), found.column(2));
    // A condition on the identity itself, and identity beside a late read.
    let few = rows_of(&ctx, "SELECT id, vec, _rowid FROM r WHERE _rowaddr < 5 OR class = 99").await;
    assert_eq!(few.column(0).as_primitive::<Int64Type>().values().as_ref(), [1, 2, 3, 4]);
    assert_eq!(few.column(2).as_primitive::<UInt64Type>().values().as_ref(), [1, 2, 3, 4]);
    let hidden = place.open().await.with_row_identity(true).with_row_identity(false);
    assert_eq!(hidden.schema().fields().len(), 4);
}

#[tokio::test]
async fn statistics_are_exact_where_they_say_so() {
    let place = Place::new();
    let want = with_deletions(&place).await;
    let ctx = both(&place, &want, 4, 8192).await;
    let provider = place.open().await;
    let statistics = provider.statistics().unwrap();
    assert_eq!(statistics.num_rows, Precision::Exact(want.num_rows()));
    let state = ctx.state();
    let scan = provider.scan(&state, Some(&vec![0]), &[], None).await.unwrap();
    let whole = scan.partition_statistics(None).unwrap();
    assert_eq!(whole.num_rows, Precision::Exact(want.num_rows()));
    assert_eq!(whole.total_byte_size, Precision::Inexact(want.num_rows() * 8));
    for p in 0..scan.output_partitioning().partition_count() {
        let mut n = 0;
        let mut stream = scan.execute(p, ctx.task_ctx()).unwrap();
        while let Some(batch) = stream.next().await {
            n += batch.unwrap().num_rows();
        }
        let said = scan.partition_statistics(Some(p)).unwrap().num_rows;
        match said {
            Precision::Exact(said) => assert_eq!(said, n),
            Precision::Inexact(said) => assert!(said > 0, "{said} for {n}"),
            Precision::Absent => panic!("no estimate"),
        }
    }
    assert!(scan.partition_statistics(Some(99)).is_err());
    let one = datafusion::prelude::col("class").eq(datafusion::prelude::lit(1i64));
    let filtered = provider.scan(&state, None, &[one], None).await.unwrap();
    assert!(matches!(filtered.partition_statistics(None).unwrap().num_rows, Precision::Inexact(_)));
    let limited = provider.scan(&state, None, &[], Some(10)).await.unwrap();
    assert_eq!(limited.partition_statistics(None).unwrap().num_rows, Precision::Exact(10));
}

#[tokio::test]
async fn a_users_function_means_what_it_means_above() {
    let place = Place::new();
    let want = with_deletions(&place).await;
    let ctx = both(&place, &want, 2, 8192).await;
    let odd = create_udf(
        "is_odd",
        vec![DataType::Int64],
        DataType::Boolean,
        Volatility::Immutable,
        Arc::new(|args: &[ColumnarValue]| {
            let ids = args[0].clone().into_array(1)?;
            let ids = ids.as_primitive::<Int64Type>();
            Ok(ColumnarValue::Array(Arc::new(
                ids.iter().map(|i| i.map(|i| i % 2 == 1)).collect::<BooleanArray>(),
            )))
        }),
    );
    ctx.register_udf(odd);
    agree(&ctx, "SELECT * FROM t WHERE is_odd(id) AND class < 5").await;
    // The filter is gone from above the scan.
    let pushed = plan(&ctx, "SELECT * FROM t WHERE is_odd(id)").await;
    assert!(find::<FilterExec>(&pushed).is_none(), "{}", text(pushed.as_ref()));
    // What differs from call to call stays above.
    let volatile = plan(&ctx, "SELECT * FROM t WHERE random() < 0.5").await;
    assert!(find::<FilterExec>(&volatile).is_some(), "{}", text(volatile.as_ref()));
    // Sub-queries become joins, and the rest of the condition still reaches the scan.
    agree(&ctx, "SELECT id FROM t WHERE id IN (SELECT class FROM m) AND name IS NOT NULL").await;
    let logical =
        ctx.state().create_logical_plan("SELECT id FROM t WHERE 10 / (class - 3) > 1").await.unwrap();
    let error = run(&ctx, ctx.state().create_physical_plan(&logical).await.unwrap()).await.unwrap_err();
    let error = triune_common::Error::from(error);
    assert_eq!((error.kind(), error.message()), (ErrorKind::Invalid, "division by zero"));
}

#[tokio::test]
async fn top_k_narrows_the_second_read_and_not_the_answer() {
    let place = Place::new();
    let want = with_deletions(&place).await;
    let ctx = both(&place, &want, 2, 256).await;
    for sql in [
        "SELECT * FROM t ORDER BY id DESC LIMIT 5",
        "SELECT * FROM t ORDER BY id LIMIT 5",
        "SELECT * FROM t ORDER BY name DESC NULLS LAST, id LIMIT 20",
        "SELECT * FROM t WHERE class = 3 ORDER BY name, id LIMIT 7",
    ] {
        agree(&ctx, sql).await;
    }
    let top = plan(&ctx, "SELECT * FROM t ORDER BY id LIMIT 5").await;
    run(&ctx, Arc::clone(&top)).await.unwrap();
    let scan = find::<LanceScanExec>(&top).unwrap();
    assert!(scan.downcast_ref::<LanceScanExec>().unwrap().has_dynamic_filter());
    assert!(text(top.as_ref()).contains("dynamic_filter=["), "{}", text(top.as_ref()));
    let (scanned, fetched) = (metric(&scan, "rows_scanned"), metric(&scan, "rows_fetched"));
    assert!(fetched * 2 < scanned, "{fetched} of {scanned} rows were fetched");
    // With the switch off there is no such filter, and the answer is the same.
    let off = session(2, 256);
    off.state_ref().write().config_mut().options_mut().optimizer.enable_topk_dynamic_filter_pushdown = false;
    register(&off, "t", place.open().await);
    let plain = plan(&off, "SELECT * FROM t ORDER BY id LIMIT 5").await;
    let scan = find::<LanceScanExec>(&plain).unwrap();
    assert!(!scan.downcast_ref::<LanceScanExec>().unwrap().has_dynamic_filter());
}

#[tokio::test]
async fn a_top_k_by_distance_is_not_computed_by_the_scan_too() {
    let place = Place::new();
    let want = with_deletions(&place).await;
    let ctx = both(&place, &want, 2, 256).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let first = create_udf(
        "first_of",
        vec![crate::support::vector_type(16)],
        DataType::Float32,
        Volatility::Immutable,
        Arc::new(move |args: &[ColumnarValue]| {
            let vectors = args[0].clone().into_array(1)?;
            counter.fetch_add(vectors.len(), Ordering::Relaxed);
            let vectors = vectors.as_fixed_size_list();
            let firsts = (0..vectors.len()).map(|i| vectors.value(i).as_primitive::<Float32Type>().value(0));
            Ok(ColumnarValue::Array(Arc::new(firsts.collect::<Float32Array>())))
        }),
    );
    ctx.register_udf(first);
    agree(&ctx, "SELECT id, first_of(vec) AS d FROM t ORDER BY d LIMIT 5").await;
    calls.store(0, Ordering::Relaxed);
    let top = plan(&ctx, "SELECT id, first_of(vec) AS d FROM t ORDER BY d LIMIT 5").await;
    let scan = find::<LanceScanExec>(&top).unwrap();
    assert!(!scan.downcast_ref::<LanceScanExec>().unwrap().has_dynamic_filter());
    run(&ctx, top).await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), want.num_rows());
}

#[tokio::test]
async fn a_join_narrows_the_scan_and_not_the_answer() {
    let place = Place::new();
    let want = with_deletions(&place).await;
    let ctx = both(&place, &want, 2, 256).await;
    let schema = Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, true),
        Field::new("w", DataType::Float64, true),
    ]));
    let keys: Vec<Option<i64>> = (0..40).map(|i| (i % 9 != 0).then_some(i * 13)).collect();
    let weights = Float64Array::from_iter_values((0..40).map(f64::from));
    let few =
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(keys)) as ArrayRef, Arc::new(weights)]);
    register(&ctx, "few", in_memory(&few.unwrap()));
    for kind in ["JOIN", "LEFT JOIN", "RIGHT JOIN"] {
        let sql = format!("SELECT few.*, x.id, x.vec FROM few {kind} (SELECT * FROM t) x ON few.key = x.id");
        agree(&ctx, &sql).await;
    }
    agree(&ctx, "SELECT * FROM t WHERE id IN (SELECT key FROM few WHERE w > 20)").await;
    agree(&ctx, "SELECT * FROM t WHERE id NOT IN (SELECT key FROM few WHERE key IS NOT NULL)").await;
    agree(&ctx, "SELECT max(id), min(name) FROM t").await;

    let joined = plan(&ctx, "SELECT * FROM few JOIN t ON few.key = t.id").await;
    run(&ctx, Arc::clone(&joined)).await.unwrap();
    let scan = find::<LanceScanExec>(&joined).unwrap();
    assert!(metric(&scan, "rows_fetched") <= 600, "{} rows were fetched", metric(&scan, "rows_fetched"));
    // A build side without rows ends the scan.
    let none = plan(&ctx, "SELECT * FROM (SELECT * FROM few WHERE w < -1) f JOIN t ON f.key = t.id").await;
    assert_eq!(run(&ctx, Arc::clone(&none)).await.unwrap().num_rows(), 0);
    if let Some(scan) = find::<LanceScanExec>(&none) {
        assert_eq!(metric(&scan, "rows_fetched"), 0);
    }
}

#[tokio::test]
async fn a_limit_below_a_join_is_taken_first() {
    let place = Place::new();
    let want = with_deletions(&place).await;
    let ctx = both(&place, &want, 1, 8192).await;
    let sql = "SELECT count(*) FROM (SELECT id FROM t LIMIT 50) x LEFT JOIN (SELECT id FROM m WHERE id > 8000) y \
               ON x.id = y.id";
    let count = rows_of(&ctx, sql).await;
    assert_eq!(count.column(0).as_primitive::<Int64Type>().value(0), 50);
    let semi =
        "SELECT count(*) FROM (SELECT id FROM t LIMIT 50) x WHERE id IN (SELECT id FROM m WHERE id > 8000)";
    let count = rows_of(&ctx, semi).await;
    assert_eq!(count.column(0).as_primitive::<Int64Type>().value(0), 0);
}

#[tokio::test]
async fn explain_says_what_is_read() {
    let place = Place::new();
    with_deletions(&place).await;
    let ctx = session(2, 8192);
    register(&ctx, "t", place.open().await);
    let scan = plan(&ctx, "SELECT id, vec FROM t WHERE class = 3 AND name LIKE 'document 1%'").await;
    let shown = text(scan.as_ref());
    for part in [
        "LanceScanExec: uri=",
        "t.lance, version=4, fragments=3, partitions=2, projection=[id, vec]",
        "filter=[class@1 = 3 AND name@2 LIKE document 1%]",
        "late_materialisation=true",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    run(&ctx, Arc::clone(&scan)).await.unwrap();
    let scan = find::<LanceScanExec>(&scan).unwrap();
    assert_eq!(metric(&scan, "rows_scanned"), scan_rows(&place.open().await));
    assert!(metric(&scan, "bytes_scanned") > 0);
    assert!(metric(&scan, "fragments_scanned") >= 3);
    assert_eq!(metric(&scan, "output_rows"), metric(&scan, "rows_fetched"));
}

fn scan_rows(provider: &Arc<LanceProvider>) -> usize {
    usize::try_from(provider.rows()).unwrap()
}

#[tokio::test]
async fn a_dropped_scan_stops() {
    let place = Place::new();
    with_deletions(&place).await;
    let ctx = session(2, 64);
    register(&ctx, "t", place.open().await);
    let scan = plan(&ctx, "SELECT * FROM t WHERE class < 9").await;
    let mut stream = scan.execute(0, Arc::new(TaskContext::default())).unwrap();
    assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
    drop(stream);
    // The same plan runs again from the start.
    let again = run(&ctx, scan).await.unwrap();
    assert!(again.num_rows() > 5000);
    // A stream that was never polled has opened nothing and goes quietly.
    let scan = plan(&ctx, "SELECT * FROM t").await;
    drop(scan.execute(0, ctx.task_ctx()).unwrap());
}

#[tokio::test]
async fn a_missing_data_file_is_an_error_not_a_panic() {
    let place = Place::new();
    place.write(vec![documents(0, 100)], WriteMode::Create).await.unwrap();
    let table = place.open().await;
    let data = place.url.to_file_path().unwrap().join("data");
    for file in std::fs::read_dir(&data).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let ctx = session(1, 8192);
    register(&ctx, "t", table);
    let error = run(&ctx, plan(&ctx, "SELECT id FROM t").await).await.unwrap_err();
    let error = triune_common::Error::from(error);
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn columns_that_came_later_are_null_in_old_fragments() {
    let place = Place::new();
    place.write(vec![documents(0, 50)], WriteMode::Create).await.unwrap();
    let mut dataset = place.dataset().await;
    let added = Arc::new(Schema::new(vec![Field::new("extra", DataType::Utf8, true)]));
    let nulls = lance::dataset::NewColumnTransform::AllNulls(added);
    dataset.add_columns(nulls, None, None).await.unwrap();
    let old = documents(50, 60);
    let mut fields: Vec<_> = old.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("extra", DataType::Utf8, true)));
    let mut columns = old.columns().to_vec();
    columns.push(Arc::new(StringArray::from(vec!["here"; 10])));
    let new = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    place.write(vec![new], WriteMode::Append).await.unwrap();
    let ctx = session(2, 8192);
    register(&ctx, "t", place.open().await);
    let count = rows_of(&ctx, "SELECT count(*), count(extra) FROM t").await;
    assert_eq!(count.column(0).as_primitive::<Int64Type>().value(0), 60);
    assert_eq!(count.column(1).as_primitive::<Int64Type>().value(0), 10);
    assert_eq!(rows_of(&ctx, "SELECT id, vec FROM t WHERE extra = 'here'").await.num_rows(), 10);
    assert_eq!(rows_of(&ctx, "SELECT extra FROM t WHERE id = 3").await.column(0).null_count(), 1);
}

#[tokio::test]
async fn stable_row_ids_are_told_from_addresses() {
    let place = Place::new();
    let batch = documents(0, 300);
    let reader = arrow::array::RecordBatchIterator::new(vec![Ok(batch.clone())], batch.schema());
    let params = lance::dataset::WriteParams {
        enable_stable_row_ids: true,
        max_rows_per_file: 100,
        ..Default::default()
    };
    let path = place.url.to_file_path().unwrap();
    lance::Dataset::write(reader, path.to_str().unwrap(), Some(params)).await.unwrap();
    let mut dataset = place.dataset().await;
    dataset.delete("id >= 20 AND id < 40").await.unwrap();
    let ctx = session(2, 8192);
    register(&ctx, "r", place.open().await.with_row_identity(true));
    let found =
        rows_of(&ctx, "SELECT id, _rowid, _rowaddr, vec FROM r WHERE id % 100 = 50 ORDER BY id").await;
    let column = |i: usize| -> UInt64Array { found.column(i).as_primitive::<UInt64Type>().clone() };
    assert_eq!(column(1).values().as_ref(), [50, 150, 250]);
    assert_eq!(column(2).values().as_ref(), [50, (1 << 32) + 50, (2 << 32) + 50]);
}

/// 600 rows of every common type with NULLs, in fragments of 150, some deleted; the same rows in a dataset
/// that has them all; and the rows that are left.
async fn odd_rows() -> &'static (Place, Place, RecordBatch) {
    static ROWS: OnceLock<(Place, Place, RecordBatch)> = OnceLock::new();
    if let Some(known) = ROWS.get() {
        return known;
    }
    let mut n = Numbers(42);
    let mut ints = Vec::new();
    let (mut floats, mut texts, mut flags, mut vecs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..600 {
        ints.push((!n.next().is_multiple_of(5)).then_some((n.next() % 20) as i64 - 10));
        floats.push(match n.next() % 9 {
            0 => None,
            1 => Some(f64::NAN),
            2 => Some(-0.0),
            _ => Some(f64::from(n.unit()) * 10.0),
        });
        texts
            .push((!n.next().is_multiple_of(4)).then(|| ["", "a", "ab", "b%", "ü"][(n.next() % 5) as usize]));
        flags.push((!n.next().is_multiple_of(3)).then_some(n.next().is_multiple_of(2)));
        vecs.extend((0..32).map(|_| n.unit()));
    }
    let schema = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, false),
        Field::new("i", DataType::Int64, true),
        Field::new("f", DataType::Float64, true),
        Field::new("s", DataType::Utf8, true),
        Field::new("b", DataType::Boolean, true),
        Field::new("v", crate::support::vector_type(32), true),
    ]));
    let all = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            Arc::new(Int64Array::from_iter_values(0..600)),
            Arc::new(Int64Array::from(ints)),
            Arc::new(Float64Array::from(floats)),
            Arc::new(StringArray::from(texts)),
            Arc::new(BooleanArray::from(flags)),
            Arc::new(vectors(vecs, 32)),
        ],
    )
    .unwrap();
    let (place, whole) = (Place::new(), Place::new());
    for to in [&place, &whole] {
        to.write(vec![all.slice(0, 150)], WriteMode::Create).await.unwrap();
        for start in [150, 300, 450] {
            to.write(vec![all.slice(start, 150)], WriteMode::Append).await.unwrap();
        }
    }
    place.dataset().await.delete("k % 6 = 1 OR (k >= 300 AND k < 340)").await.unwrap();
    let live: BooleanArray = (0..600).map(|k| Some(!is_gone(k))).collect();
    let live = filter_record_batch(&all, &live).unwrap();
    let live = concat_batches(&schema, &[live]).unwrap();
    ROWS.get_or_init(|| (place, whole, live))
}

fn is_gone(k: u64) -> bool {
    k % 6 == 1 || (300..340).contains(&k)
}

fn condition() -> impl Strategy<Value = String> {
    let compare = prop_oneof![Just("="), Just("<>"), Just("<"), Just("<="), Just(">"), Just(">=")];
    let leaf = prop_oneof![
        (compare.clone(), -11i64..11).prop_map(|(op, v)| format!("i {op} {v}")),
        (compare.clone(), -10i32..10).prop_map(|(op, v)| format!("f {op} {v}.5")),
        (compare.clone(), prop_oneof![Just(""), Just("a"), Just("b%"), Just("ü")])
            .prop_map(|(op, v)| format!("s {op} '{v}'")),
        prop_oneof![Just("i"), Just("f"), Just("s"), Just("b"), Just("v")]
            .prop_map(|c| format!("{c} IS NULL")),
        Just("b".to_owned()),
        Just("NOT b".to_owned()),
        Just("s LIKE 'a%'".to_owned()),
        Just("i IN (1, 2, NULL)".to_owned()),
        Just("i NOT IN (1, 2)".to_owned()),
        Just("f = 'NaN'".to_owned()),
        Just("k BETWEEN 100 AND 420".to_owned()),
        Just("abs(i) > 5".to_owned()),
        Just("i = k % 7".to_owned()),
        Just("coalesce(s, 'none') = 'none'".to_owned()),
        Just("CASE WHEN b THEN i > 0 ELSE f > 0 END".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} AND {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} OR {b})")),
            inner.prop_map(|a| format!("NOT ({a})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_condition_gives_the_rows_that_memory_gives(
        condition in condition(),
        columns in prop_oneof![Just("*"), Just("k"), Just("v, k"), Just("s, i"), Just("count(*)")],
        partitions in 1usize..5,
        batch_rows in prop_oneof![Just(3usize), Just(64), Just(8192)],
        masked in any::<bool>(),
    ) {
        // One runtime for all cases: the dataset's readers live on it.
        static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
        let runtime = RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap());
        runtime.block_on(async {
            let (place, whole, live) = odd_rows().await;
            let sql = format!("SELECT {columns} FROM t WHERE {condition}");
            if !masked {
                let ctx = both(place, live, partitions, batch_rows).await;
                agree(&ctx, &sql).await;
                return;
            }
            // Masked rather than deleted, from files and from the columns that a first scan left.
            let gone = (0..600u64).filter(|k| is_gone(*k)).map(|k| (k / 150) << 32 | (k % 150)).collect();
            let files = whole.open().await.with_mask(Arc::new(gone)).unwrap();
            let cache = Arc::new(ColumnCache::new(16 << 20));
            let cached = files.with_cache(Some(&cache));
            for table in [&files, &cached, &cached, &cached] {
                let ctx = session(partitions, batch_rows);
                register(&ctx, "t", Arc::clone(table) as _);
                register(&ctx, "m", in_memory(live));
                agree(&ctx, &sql).await;
            }
        });
    }
}
