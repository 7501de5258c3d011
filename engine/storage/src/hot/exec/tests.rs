//! Hot scans against the same rows in DataFusion's own memory table.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use datafusion::catalog::{MemTable, Session, TableProvider};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::{ExecutionPlanProperties, collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;

use super::*;
use crate::hot::Memtable;
use crate::key::{KeyKind, KeyRef, Keys};
use crate::stamp::CommitTs;

fn documents(ids: &[i64]) -> RecordBatch {
    let vectors: Float32Array =
        ids.iter().flat_map(|i| (0..4).map(move |d| Some((i * 7 + d) as f32))).collect();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let vectors = arrow::array::FixedSizeListArray::new(item, 4, Arc::new(vectors), None);
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("id", Arc::new(Int64Array::from(ids.to_vec())), false),
        ("class", Arc::new(Int64Array::from_iter(ids.iter().map(|i| (i % 9 != 0).then_some(i % 10)))), true),
        (
            "name",
            Arc::new(StringArray::from_iter(
                ids.iter().map(|i| (i % 7 != 0).then(|| format!("document {i}"))),
            )),
            true,
        ),
        ("vec", Arc::new(vectors), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// A memtable with 30,000 rows in batches of many sizes, of which some had ended by [`AT`] and some have not begun,
/// and the rows that are seen at [`AT`].
fn hot() -> (Memtable, RecordBatch) {
    let schema = documents(&[]).schema();
    let table = Memtable::new(Arc::clone(&schema), KeyKind::Int, 1);
    let (mut next, mut ts) = (0i64, 1);
    let mut add = |size: i64, at: u64| {
        let ids: Vec<i64> = (next..next + size).collect();
        let keys = Keys::Ints(ids.iter().map(|i| *i as u64).collect());
        table.append(&documents(&ids), &keys, CommitTs(at)).unwrap();
        next += size;
    };
    for size in [1, 1, 300, 12_000, 1, 20, 999, 9_000, 7_000].into_iter().chain([1; 678]) {
        add(size, ts);
        ts += 1;
    }
    assert!(ts < AT);
    let gone: BTreeSet<i64> =
        (0..30_000).filter(|i| i % 11 == 0 || (3_000..3_500).contains(i) || *i > 29_900).collect();
    // None of the rows 12,303..13,321 is touched, so that some chunks are seen whole.
    let gone: Vec<i64> = gone.into_iter().filter(|i| !(12_303..13_322).contains(i)).collect();
    for id in &gone {
        assert!(table.end(KeyRef::Int(*id as u64), CommitTs(AT)));
    }
    add(2_000, AT + 1);
    for id in 100..200 {
        table.end(KeyRef::Int(id), CommitTs(AT + 2));
    }
    let all = documents(&(0..30_000).collect::<Vec<_>>());
    let mask: BooleanArray = (0..30_000).map(|i| Some(gone.binary_search(&i).is_err())).collect();
    (table, filter_record_batch(&all, &mask).unwrap())
}

const AT: u64 = 10_000;

#[derive(Debug)]
struct HotTable {
    schema: SchemaRef,
    batches: Vec<VisibleBatch>,
}

#[async_trait]
impl TableProvider for HotTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let projection = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let partitions = state.config().target_partitions();
        let (schema, batches) = (Arc::clone(&self.schema), self.batches.clone());
        let scan = HotScanExec::try_new("t", schema, batches, projection, vec![], limit, partitions)?;
        Ok(Arc::new(scan))
    }
}

fn session(partitions: usize, batch_rows: usize) -> (SessionContext, RecordBatch) {
    let config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(batch_rows);
    let ctx = SessionContext::new_with_config(config);
    let (table, want) = hot();
    let batches = table.view(CommitTs(AT));
    ctx.register_table("t", Arc::new(HotTable { schema: want.schema(), batches })).unwrap();
    let memory = MemTable::try_new(want.schema(), vec![vec![want.clone()]]).unwrap();
    ctx.register_table("m", Arc::new(memory)).unwrap();
    (ctx, want)
}

async fn plan(ctx: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    let logical = ctx.state().create_logical_plan(sql).await.unwrap();
    ctx.state().create_physical_plan(&logical).await.unwrap()
}

async fn run(ctx: &SessionContext, plan: Arc<dyn ExecutionPlan>) -> RecordBatch {
    let schema = plan.schema();
    concat_batches(&schema, &collect(plan, ctx.task_ctx()).await.unwrap()).unwrap()
}

fn text(plan: &Arc<dyn ExecutionPlan>) -> String {
    displayable(plan.as_ref()).indent(false).to_string()
}

fn find(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    if plan.is::<HotScanExec>() {
        return Some(Arc::clone(plan));
    }
    plan.children().into_iter().find_map(find)
}

/// Sorted texts of all rows.
fn rows(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let columns: Vec<_> =
        batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
    let mut out: Vec<String> = (0..batch.num_rows())
        .map(|i| columns.iter().map(|c| c.value(i).to_string()).collect::<Vec<_>>().join(" | "))
        .collect();
    out.sort();
    out
}

async fn agree(ctx: &SessionContext, sql: &str) {
    let ours = rows(&run(ctx, plan(ctx, sql).await).await);
    let sql_of_memory = sql.replace("FROM t", "FROM m").replace("JOIN t", "JOIN m");
    let want = rows(&run(ctx, plan(ctx, &sql_of_memory).await).await);
    assert!(ours == want, "{sql}: {} rows, want {}", ours.len(), want.len());
}

#[tokio::test]
async fn the_same_rows_as_from_memory() {
    for (partitions, batch_rows) in [(1, 8192), (2, 1000), (3, 8192), (7, 100)] {
        let (ctx, want) = session(partitions, batch_rows);
        let scan = plan(&ctx, "SELECT * FROM t").await;
        assert_eq!(
            scan.output_partitioning().partition_count(),
            partitions.min(want.num_rows() / PARTITION_ROWS)
        );
        assert_eq!(rows(&run(&ctx, scan).await), rows(&want));
        for sql in [
            "SELECT vec, id FROM t WHERE class = 3",
            "SELECT name FROM t WHERE name IS NULL OR class IS NULL",
            "SELECT id, id AS again FROM t WHERE id < 10 OR id BETWEEN 12000 AND 14000",
            "SELECT count(*) FROM t",
            "SELECT count(*), count(name), sum(id) FROM t WHERE class > 4 AND name LIKE '%7%'",
            "SELECT class, count(*), avg(id), max(name) FROM t GROUP BY class",
            "SELECT * FROM t WHERE id < 0",
            "SELECT * FROM t WHERE 100 / (id - 11) > 7",
            "SELECT a.id, b.name FROM t a JOIN t b ON a.id = b.id + 1 WHERE b.class = 2",
            "SELECT id, name FROM t ORDER BY id DESC LIMIT 25",
            "SELECT id FROM t ORDER BY class DESC NULLS LAST, id LIMIT 5 OFFSET 3",
        ] {
            agree(&ctx, sql).await;
        }
    }
}

#[tokio::test]
async fn the_plan_says_what_is_done() {
    let (ctx, want) = session(2, 8192);
    let seen = want.num_rows();
    let filtered = text(&plan(&ctx, "SELECT name FROM t WHERE class > 7").await);
    let expected =
        format!("HotScanExec: table=t, rows={seen}, partitions=2, projection=[name], filter=[class@1 > 7]");
    assert!(filtered.contains(&expected), "{filtered}");
    assert!(!filtered.contains("FilterExec"), "{filtered}");
    let limited = text(&plan(&ctx, "SELECT id FROM t LIMIT 3").await);
    assert!(limited.contains("projection=[id], fetch=3"), "{limited}");
    let counted = text(&plan(&ctx, "SELECT count(*) FROM t").await);
    assert!(!counted.contains("HotScanExec"), "answered from the statistics: {counted}");
}

#[tokio::test]
async fn limits_and_small_batches() {
    let (ctx, want) = session(3, 50);
    let all = rows(&want);
    for (sql, n) in [
        ("SELECT * FROM t LIMIT 10", 10),
        ("SELECT * FROM t LIMIT 0", 0),
        ("SELECT * FROM t LIMIT 20000", 20_000),
        ("SELECT * FROM t LIMIT 100000", all.len()),
        ("SELECT * FROM t WHERE class = 7 LIMIT 13", 13),
        ("SELECT * FROM t LIMIT 5 OFFSET 20", 5),
    ] {
        let got = rows(&run(&ctx, plan(&ctx, sql).await).await);
        assert_eq!(got.len(), n, "{sql}");
        assert!(got.iter().all(|r| all.binary_search(r).is_ok()), "{sql}");
    }
    let scan = find(&plan(&ctx, "SELECT * FROM t").await).unwrap();
    let limited = scan.with_fetch(Some(60)).unwrap();
    for p in 0..limited.output_partitioning().partition_count() {
        let mut stream = limited.execute(p, ctx.task_ctx()).unwrap();
        let mut total = 0;
        while let Some(batch) = stream.next().await {
            let n = batch.unwrap().num_rows();
            assert!((1..=50).contains(&n));
            total += n;
        }
        assert_eq!(total, 60);
    }
    assert!(scan.execute(99, ctx.task_ctx()).is_err());
}

#[tokio::test]
async fn dynamic_conditions_arrive_and_are_forgotten() {
    let (ctx, _) = session(2, 1000);
    let sql = "SELECT id, name FROM t ORDER BY id LIMIT 4";
    let top = plan(&ctx, sql).await;
    let scan = find(&top).unwrap();
    assert!(scan.downcast_ref::<HotScanExec>().unwrap().has_dynamic_filter(), "{}", text(&top));
    assert!(text(&top).contains("dynamic_filter=["));
    agree(&ctx, sql).await;
    let again = scan.reset_state().unwrap();
    assert!(!again.downcast_ref::<HotScanExec>().unwrap().has_dynamic_filter());
    // A distance is not computed twice.
    let near =
        plan(&ctx, "SELECT id FROM t ORDER BY array_distance(vec, [1.0, 2.0, 3.0, 4.0]) LIMIT 4").await;
    assert!(!find(&near).unwrap().downcast_ref::<HotScanExec>().unwrap().has_dynamic_filter());
    // A join with an empty side reads nothing of the other.
    let join = plan(&ctx, "SELECT b.name FROM m a JOIN t b ON a.id = b.id WHERE a.name = 'none such'").await;
    assert_eq!(run(&ctx, Arc::clone(&join)).await.num_rows(), 0);
}

#[tokio::test]
async fn statistics_are_exact_only_where_they_are() {
    let (ctx, want) = session(3, 8192);
    let scan = find(&plan(&ctx, "SELECT id FROM t").await).unwrap();
    let whole = scan.partition_statistics(None).unwrap();
    assert_eq!(whole.num_rows, Precision::Exact(want.num_rows()));
    let mut sum = 0;
    for p in 0..scan.output_partitioning().partition_count() {
        let told = scan.partition_statistics(Some(p)).unwrap().num_rows;
        let mut found = 0;
        let mut stream = scan.execute(p, ctx.task_ctx()).unwrap();
        while let Some(batch) = stream.next().await {
            found += batch.unwrap().num_rows();
        }
        assert_eq!(told, Precision::Exact(found));
        // Dealt evenly.
        assert!((8_000..10_500).contains(&found), "{found}");
        sum += found;
    }
    assert_eq!(sum, want.num_rows());
    let filtered = find(&plan(&ctx, "SELECT id FROM t WHERE class = 1").await).unwrap();
    assert!(matches!(filtered.partition_statistics(None).unwrap().num_rows, Precision::Inexact(_)));
    assert!(scan.partition_statistics(Some(99)).is_err());
    let metrics = scan.metrics().unwrap();
    assert_eq!(metrics.output_rows(), Some(want.num_rows()));
    assert_eq!(metrics.sum_by_name("rows_scanned").unwrap().as_usize(), want.num_rows());
}

#[tokio::test]
async fn a_condition_never_meets_a_row_that_is_not_seen() {
    // Row 11 had ended: dividing by its distance from 11 is no error, and with the row it would be.
    let (ctx, _) = session(1, 8192);
    agree(&ctx, "SELECT id FROM t WHERE 1 / (id - 11) >= 0").await;
    let one = plan(&ctx, "SELECT id FROM t WHERE 1 / (id - 12) >= 0").await;
    assert!(collect(one, ctx.task_ctx()).await.is_err());
}

#[tokio::test]
async fn nothing_and_whole_batches() {
    let (ctx, want) = session(4, 8192);
    let empty = HotScanExec::try_new("e", want.schema(), vec![], vec![0], vec![], None, 4).unwrap();
    let empty: Arc<dyn ExecutionPlan> = Arc::new(empty);
    assert_eq!(empty.output_partitioning().partition_count(), 1);
    assert_eq!(run(&ctx, empty).await.num_rows(), 0);
    // Batches of no more rows than the session's come out as they went in.
    let batch = want.slice(0, 5000);
    let whole = vec![VisibleBatch::whole(batch.clone())];
    let scan = HotScanExec::try_new("w", want.schema(), whole, vec![2, 0], vec![], None, 4).unwrap();
    let out = collect(Arc::new(scan), ctx.task_ctx()).await.unwrap();
    assert!(Arc::ptr_eq(out[0].column(0), batch.column(2)));
    assert!(HotScanExec::try_new("w", want.schema(), vec![], vec![17], vec![], None, 4).is_err());
}
