//! What all tests of searches need.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type};
use datafusion::common::runtime::SpawnedTask;
use triune_query::{Database, Session};

/// Runs a test on threads with room: planning recurses.
pub(crate) fn run<F: Future<Output = ()> + Send + 'static>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(32 << 20)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { SpawnedTask::spawn(test).join().await.unwrap() });
}

pub(crate) async fn open(folder: &Path) -> Arc<Database> {
    Database::open(Some(&folder.join("d").display().to_string())).await.unwrap()
}

pub(crate) async fn rows(session: &Session, sql: &str) -> Vec<RecordBatch> {
    let result = match session.execute(sql).await {
        Ok(result) => result.collect().await,
        Err(e) => Err(e),
    };
    result.unwrap_or_else(|e| panic!("{sql}: {e}"))
}

/// `id, distance` of an answer, in its order.
pub(crate) async fn found(session: &Session, sql: &str) -> Vec<(i64, Option<f32>)> {
    let mut out = Vec::new();
    for batch in rows(session, sql).await {
        let ids = batch.column(0).as_primitive::<Int64Type>();
        let distances = batch.column(1).as_primitive::<Float32Type>();
        out.extend(
            (0..batch.num_rows()).map(|i| (ids.value(i), distances.is_valid(i).then(|| distances.value(i)))),
        );
    }
    out
}

/// `id, number` of an answer, in its order.
pub(crate) async fn scored(session: &Session, sql: &str) -> Vec<(i64, Option<f64>)> {
    let mut out = Vec::new();
    for batch in rows(session, sql).await {
        let numbers = arrow::compute::cast(batch.column(1), &DataType::Float64).unwrap();
        let (ids, numbers) =
            (batch.column(0).as_primitive::<Int64Type>(), numbers.as_primitive::<Float64Type>());
        out.extend(
            (0..batch.num_rows()).map(|i| (ids.value(i), numbers.is_valid(i).then(|| numbers.value(i)))),
        );
    }
    out
}

/// What `EXPLAIN` says.
pub(crate) async fn plan(session: &Session, sql: &str) -> String {
    let batches = rows(session, &format!("EXPLAIN {sql}")).await;
    let lines = batches.iter().flat_map(|b| b.column(0).as_string::<i32>().iter().flatten());
    lines.collect::<Vec<_>>().join("\n")
}
