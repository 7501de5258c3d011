use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringViewArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Float32Type, Int64Type, Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::execution::TaskContext;
use datafusion::execution::config::SessionConfig;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{Column, binary, lit};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::test::TestMemoryExec;
use datafusion::physical_plan::test::exec::{
    BlockingExec, MockExec, PanicExec, assert_strong_count_converges_to_zero,
};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, collect};
use triune_common::{Error, ErrorKind};
use triune_vector::kernels::Metric;

use super::*;
use crate::spec::{Missing, SearchSpec};

const DIMS: i32 = 4;

/// A row: its id and, if it has one, its vector.
type Row = (i64, Option<[f32; 4]>);

fn schema() -> SchemaRef {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("text", DataType::Utf8View, false),
        Field::new("e", DataType::FixedSizeList(item, DIMS), true),
    ]))
}

fn batch(rows: &[Row]) -> RecordBatch {
    let DataType::FixedSizeList(item, _) = schema().field(2).data_type().clone() else { unreachable!() };
    let values: Vec<f32> = rows.iter().flat_map(|(_, v)| v.unwrap_or([0.0; 4])).collect();
    let valid = NullBuffer::from_iter(rows.iter().map(|(_, v)| v.is_some()));
    let vectors = FixedSizeListArray::new(item, DIMS, Arc::new(Float32Array::from(values)), Some(valid));
    let texts = rows.iter().map(|(id, _)| format!("a text too long to be kept inside of a view: {id}"));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(id, _)| *id))),
        Arc::new(StringViewArray::from_iter_values(texts)),
        Arc::new(vectors),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// Pseudo-random rows, the same for the same seed; every 13th has no vector.
fn random_rows(count: i64, seed: u64) -> Vec<Row> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        #[expect(clippy::cast_precision_loss, reason = "16 bits fit")]
        let x = (state >> 48) as f32 / 65536.0;
        x - 0.5
    };
    (0..count).map(|id| (id, (id % 13 != 5).then(|| [next(), next(), next(), next()]))).collect()
}

fn source(rows: &[Row], batch_size: usize, partitions: usize) -> Arc<dyn ExecutionPlan> {
    let mut parts = vec![Vec::new(); partitions];
    for (i, chunk) in rows.chunks(batch_size).enumerate() {
        parts[i % partitions].push(batch(chunk));
    }
    TestMemoryExec::try_new_exec(&parts, schema(), None).unwrap()
}

const QUERY: [f32; 4] = [0.1, -0.2, 0.3, 0.05];

fn query() -> QuerySource {
    let DataType::FixedSizeList(item, _) = schema().field(2).data_type().clone() else { unreachable!() };
    let list = FixedSizeListArray::new(item, DIMS, Arc::new(Float32Array::from(QUERY.to_vec())), None);
    QuerySource::new(lit(ScalarValue::FixedSizeList(Arc::new(list))))
}

fn spec(k: usize) -> SearchSpec {
    SearchSpec {
        k,
        metric: Metric::L2,
        nprobes: None,
        refine_factor: None,
        exact: false,
        missing: Missing::LeftOut,
        diversity: None,
    }
}

/// The plan as the planner and the distribution rule make it: id, text and distance.
fn search(input: Arc<dyn ExecutionPlan>, k: usize) -> Arc<dyn ExecutionPlan> {
    let column = Arc::new(Column::new("e", 2));
    let two = VectorTopKExec::exact(input, column, query(), &spec(k), vec![0, 1], "_distance").unwrap();
    let partial = Arc::clone(two.children()[0]);
    if partial.output_partitioning().partition_count() > 1 {
        two.with_new_children(vec![Arc::new(CoalescePartitionsExec::new(partial))]).unwrap()
    } else {
        two
    }
}

fn context(batch_size: usize) -> Arc<TaskContext> {
    let config = SessionConfig::new().with_batch_size(batch_size);
    Arc::new(TaskContext::default().with_session_config(config))
}

fn limited(bytes: usize) -> Arc<TaskContext> {
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(bytes, 1.0).build_arc().unwrap();
    Arc::new(TaskContext::default().with_runtime(runtime))
}

async fn answer(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Vec<(i64, f32)> {
    let batches = collect(plan, context).await.unwrap();
    batches
        .iter()
        .flat_map(|b| {
            let ids = b.column(0).as_primitive::<Int64Type>().values().to_vec();
            let distances = b.column(2).as_primitive::<Float32Type>().values().to_vec();
            let texts = b.column(1).as_string_view();
            for (row, id) in ids.iter().enumerate() {
                assert!(texts.value(row).ends_with(&format!(": {id}")), "columns of different rows");
            }
            ids.into_iter().zip(distances).collect::<Vec<_>>()
        })
        .collect()
}

/// The whole answer by sorting in f64.
fn oracle(rows: &[Row], k: usize) -> Vec<(i64, f64)> {
    let mut all: Vec<(i64, f64)> = rows
        .iter()
        .filter_map(|(id, v)| {
            let squares = v.as_ref()?.iter().zip(QUERY).map(|(a, b)| (f64::from(*a) - f64::from(b)).powi(2));
            let distance = squares.sum::<f64>().sqrt();
            (!distance.is_nan()).then_some((*id, distance))
        })
        .collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    all.truncate(k);
    all
}

/// The distances are those of the oracle, in order, and belong to their rows. Two rows that are equally
/// far in `f32` may change places.
fn assert_same(found: &[(i64, f32)], rows: &[Row], k: usize) {
    let wanted = oracle(rows, k);
    assert_eq!(found.len(), wanted.len());
    let of_row: HashMap<i64, f64> = oracle(rows, rows.len()).into_iter().collect();
    for (place, ((id, distance), (_, wanted))) in found.iter().zip(wanted).enumerate() {
        let distance = f64::from(*distance);
        assert!((distance - wanted).abs() < 1e-5, "place {place}: {distance} is not {wanted}");
        assert!((distance - of_row[id]).abs() < 1e-5, "row {id}: {distance} is not {}", of_row[id]);
    }
    let ids: HashSet<i64> = found.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), found.len(), "a row is there twice");
    assert!(found.is_sorted_by(|a, b| a.1 <= b.1));
}

#[tokio::test]
async fn the_answer_does_not_depend_on_batches_and_partitions() {
    let rows = random_rows(500, 7);
    for k in [1, 10, 100] {
        for input_size in [1, 2, 7, 8192] {
            for partitions in 1..=4 {
                let plan = search(source(&rows, input_size, partitions), k);
                assert_same(&answer(plan, context(3)).await, &rows, k);
            }
        }
        for output_size in [1, 2, 7, 8192] {
            let plan = search(source(&rows, 50, 2), k);
            let batches = collect(plan, context(output_size)).await.unwrap();
            assert!(batches.iter().all(|b| b.num_rows() <= output_size));
        }
    }
}

#[tokio::test]
async fn a_large_k_is_copied_together_and_stays_right() {
    let rows = random_rows(20_000, 3);
    for k in [3000, 30_000] {
        let plan = search(source(&rows, 256, 2), k);
        assert_same(&answer(Arc::clone(&plan), context(8192)).await, &rows, k);
        let partial = plan.children()[0].children()[0].metrics().unwrap();
        let compactions = partial.sum_by_name("compactions").unwrap().as_usize();
        assert_eq!(compactions > 0, k < 10_000, "k={k}: {compactions} compactions");
    }
}

#[tokio::test]
async fn rows_that_come_ever_nearer_do_not_pile_up() {
    // Each row is nearer than all before it: every one is kept when it comes.
    let mut rows = random_rows(50_000, 5);
    rows.sort_by_key(|row| {
        std::cmp::Reverse(oracle(std::slice::from_ref(row), 1).first().map(|(_, d)| (d * 1e9) as i64))
    });
    let plan = search(source(&rows, 8192, 1), 10);
    assert_same(&answer(Arc::clone(&plan), context(8192)).await, &rows, 10);
    let peak = plan.children()[0].metrics().unwrap().sum_by_name("peak_mem_used").unwrap().as_usize();
    // The distances of one batch, and a few rows of it; the batch with its texts has a megabyte.
    assert!(peak < 100_000, "{peak} bytes");
}

#[tokio::test]
async fn few_rows_no_rows_and_rows_without_vectors() {
    let rows = random_rows(20, 1);
    let valid = rows.iter().filter(|(_, v)| v.is_some()).count();
    assert_eq!(answer(search(source(&rows, 3, 2), 1000), context(8192)).await.len(), valid);
    assert!(answer(search(source(&[], 3, 2), 5), context(8192)).await.is_empty());
    let blank: Vec<Row> = (0..50).map(|id| (id, None)).collect();
    assert!(answer(search(source(&blank, 3, 2), 5), context(8192)).await.is_empty());
    let odd = [(0, Some([f32::NAN; 4])), (1, Some([f32::INFINITY; 4])), (2, Some([1.0; 4]))];
    let found = answer(search(source(&odd, 1, 1), 5), context(8192)).await;
    assert_eq!(found.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 1]);
}

#[tokio::test]
async fn equal_distances_fill_up_to_k_and_the_first_to_come_stay() {
    let rows: Vec<Row> = (0..1000).map(|id| (id, Some([if id == 700 { 0.1 } else { 1.0 }; 4]))).collect();
    let found = answer(search(source(&rows, 64, 1), 5), context(8192)).await;
    assert_eq!(found.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [700, 0, 1, 2, 3]);
    let found = answer(search(source(&rows, 64, 4), 5), context(8192)).await;
    assert_eq!((found.len(), found[0].0), (5, 700));
}

#[tokio::test]
async fn memory_that_is_refused_is_an_error() {
    let rows = random_rows(20_000, 9);
    let error = collect(search(source(&rows, 1024, 2), 15_000), limited(200_000)).await.unwrap_err();
    assert!(matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)), "{error}");
    assert_eq!(Error::from(error).kind(), ErrorKind::Resources);
    // With a small k the same rows fit.
    assert_eq!(
        collect(search(source(&rows, 1024, 2), 10), limited(200_000)).await.unwrap()[0].num_rows(),
        10
    );
}

#[tokio::test]
async fn memory_is_given_back() {
    let context = limited(100_000_000);
    let rows = random_rows(5_000, 9);
    collect(search(source(&rows, 1024, 2), 2_000), Arc::clone(&context)).await.unwrap();
    assert_eq!(context.memory_pool().reserved(), 0);
}

#[tokio::test]
async fn dropping_the_stream_drops_the_input() {
    let blocking = Arc::new(BlockingExec::new(schema(), 1));
    let refs = blocking.refs();
    let plan = search(blocking, 5);
    let stream = plan.execute(0, context(8192)).unwrap();
    drop(plan);
    let reading = tokio::time::timeout(std::time::Duration::from_millis(10), async move {
        let mut stream = stream;
        futures::StreamExt::next(&mut stream).await.is_some()
    });
    assert!(reading.await.is_err(), "the input never gives a batch");
    assert_strong_count_converges_to_zero(refs).await;
}

#[tokio::test]
async fn an_input_that_is_always_ready_does_not_hold_the_thread() {
    use datafusion::physical_optimizer::PhysicalOptimizerRule;
    use datafusion::physical_optimizer::ensure_coop::EnsureCooperative;
    // Seconds of work on a runtime of one thread, on which the clock runs too.
    let batches = vec![batch(&random_rows(2_000, 1)); 200_000];
    let input = MockExec::new(batches.into_iter().map(Ok).collect(), schema()).with_use_task(false);
    let plan = search(Arc::new(input), 5);
    let plan = EnsureCooperative::new().optimize(plan, &Default::default()).unwrap();
    let limit = std::time::Duration::from_millis(20);
    assert!(tokio::time::timeout(limit, collect(plan, context(8192))).await.is_err());
}

#[tokio::test]
async fn an_error_of_the_input_is_passed_on() {
    let rows = random_rows(10, 1);
    let failure = DataFusionError::Execution("the file is torn".into());
    let input = MockExec::new(vec![Ok(batch(&rows)), Err(failure)], schema());
    let error = Error::from(collect(search(Arc::new(input), 5), context(8192)).await.unwrap_err());
    assert!(error.to_string().contains("the file is torn"), "{error}");
}

#[tokio::test]
#[should_panic(expected = "PanickingStream did panic")]
async fn a_panic_of_the_input_is_passed_on() {
    let input = PanicExec::new(schema(), 1);
    let _ = collect(search(Arc::new(input), 5), context(8192)).await;
}

#[tokio::test]
async fn a_query_that_is_null_is_an_error_when_it_runs() {
    let null = ScalarValue::try_new_null(schema().field(2).data_type()).unwrap();
    let column = Arc::new(Column::new("e", 2));
    let input = source(&random_rows(5, 1), 5, 1);
    let query = QuerySource::new(lit(null));
    let plan = VectorTopKExec::exact(input, column, query, &spec(3), vec![0], "_distance").unwrap();
    let error = Error::from(collect(plan, context(8192)).await.unwrap_err());
    assert_eq!(error.message(), "the query of vector_search is NULL");
}

#[tokio::test]
async fn what_the_plan_says_of_itself() {
    let plan = search(source(&random_rows(100, 1), 10, 3), 5);
    let partial = Arc::clone(plan.children()[0].children()[0]);
    assert_eq!(plan.output_partitioning().partition_count(), 1);
    assert_eq!(partial.output_partitioning().partition_count(), 3);
    assert_eq!(plan.output_ordering().unwrap().to_string(), "_distance@2 ASC NULLS LAST");
    assert!(partial.output_ordering().is_none());
    assert_eq!(plan.fetch(), Some(5));
    assert_eq!(partial.fetch(), None);
    assert_eq!(plan.with_fetch(Some(3)).unwrap().fetch(), Some(3));
    assert_eq!(plan.with_fetch(Some(9)).unwrap().fetch(), Some(5));
    assert!(!plan.schema().field(2).is_nullable());
    // Never exact, though the input's number of rows is known.
    assert_eq!(plan.partition_statistics(None).unwrap().num_rows, Precision::Inexact(5));
    let broken = VectorTopKExec::try_new(
        partial,
        TopKMode::Final { distance: 2 },
        (5, Missing::LeftOut),
        vec![0, 1],
        "exact",
    );
    assert!(broken.is_err(), "a final step without its distance");
}

#[tokio::test]
async fn metrics_are_kept() {
    let plan = search(source(&random_rows(130, 1), 10, 1), 5);
    collect(Arc::clone(&plan), context(8192)).await.unwrap();
    let metrics = plan.children()[0].metrics().unwrap();
    assert_eq!(metrics.sum_by_name("rows_compared").unwrap().as_usize(), 130);
    assert_eq!(metrics.output_rows(), Some(5));
    assert!(metrics.elapsed_compute().unwrap() > 0);
}

#[tokio::test]
async fn rows_without_a_distance_come_last_where_they_are_asked_for() {
    let nan = Some([-f32::NAN; 4]);
    let far = Some([f32::INFINITY; 4]);
    let rows: [Row; 7] =
        [(0, None), (1, nan), (2, Some([1.0; 4])), (3, None), (4, far), (5, Some([0.1; 4])), (6, nan)];
    for (k, wanted) in [(7, "5 2 4 1 6 0 3"), (5, "5 2 4 1 6"), (4, "5 2 4 1"), (2, "5 2")] {
        for batch_size in [1, 3, 8] {
            let column = Arc::new(Column::new("e", 2));
            let spec = SearchSpec { missing: Missing::Last, ..spec(k) };
            let input = source(&rows, batch_size, 1);
            let plan = VectorTopKExec::exact(input, column, query(), &spec, vec![0], "d").unwrap();
            assert!(plan.schema().field(1).is_nullable());
            let batches = collect(plan, context(8192)).await.unwrap();
            let ids: Vec<_> = batches[0]
                .column(0)
                .as_primitive::<Int64Type>()
                .values()
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(ids.join(" "), wanted, "k={k}, batches of {batch_size}");
        }
    }
}

#[tokio::test]
async fn a_condition_is_applied_first_whether_few_or_many_rows_pass() {
    let mut rows = random_rows(2_000, 11);
    // A vector with a NULL in it is an error to compare; the condition excludes it.
    let bad: i64 = 77;
    rows[77].1 = None;
    let with_bad = |batch: RecordBatch| -> RecordBatch {
        let Some(row) = batch.column(0).as_primitive::<Int64Type>().values().iter().position(|id| *id == bad)
        else {
            return batch;
        };
        let DataType::FixedSizeList(item, _) = schema().field(2).data_type().clone() else { unreachable!() };
        let old = batch.column(2).as_fixed_size_list();
        let values = old.values().as_primitive::<Float32Type>();
        let holes: Float32Array =
            values.iter().enumerate().map(|(i, v)| if i == row * 4 { None } else { v }).collect();
        let valid = NullBuffer::from_iter((0..old.len()).map(|i| i == row || old.is_valid(i)));
        let vectors = FixedSizeListArray::new(item, DIMS, Arc::new(holes), Some(valid));
        let columns =
            vec![Arc::clone(batch.column(0)), Arc::clone(batch.column(1)), Arc::new(vectors) as ArrayRef];
        RecordBatch::try_new(schema(), columns).unwrap()
    };
    let part: Vec<RecordBatch> = rows.chunks(500).map(|c| with_bad(batch(c))).collect();
    for (divisor, remainder) in [(1, 0), (2, 0), (3, 1), (50, 3), (5000, 1999), (5000, 4999)] {
        let input: Arc<dyn ExecutionPlan> =
            TestMemoryExec::try_new_exec(std::slice::from_ref(&part), schema(), None).unwrap();
        let id: Arc<dyn PhysicalExpr> = Arc::new(Column::new("id", 0));
        let modulo = binary(id, Operator::Modulo, lit(divisor), &schema()).unwrap();
        let equal = binary(modulo, Operator::Eq, lit(remainder), &schema()).unwrap();
        let bad_one = binary(Arc::new(Column::new("id", 0)), Operator::NotEq, lit(bad), &schema()).unwrap();
        let condition = binary(equal, Operator::And, bad_one, &schema()).unwrap();
        let filter = FilterExec::try_new(condition, input).unwrap();
        let search = VectorTopKExec::exact(
            Arc::new(filter.clone()),
            Arc::new(Column::new("e", 2)),
            query(),
            &spec(7),
            vec![0, 1],
            "_distance",
        )
        .unwrap();
        let partial = search.children()[0].downcast_ref::<VectorTopKExec>().unwrap();
        let fused = Arc::new(partial.with_filter(&filter).unwrap().unwrap());
        assert!(fused.with_filter(&filter).unwrap().is_none(), "a second filter");
        let wanted: Vec<Row> =
            rows.iter().filter(|(id, _)| id % divisor == remainder && *id != bad).copied().collect();
        for plan in [Arc::clone(&search), Arc::clone(&search).with_new_children(vec![fused]).unwrap()] {
            assert_same(&answer(plan, context(8192)).await, &wanted, 7);
        }
    }
}
