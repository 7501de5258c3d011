//! `hybrid_search` and `rrf` compared with a plain reading of their definition: the parts are searches of their own,
//! whose answers have oracles elsewhere; what is made of them is computed here.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type, Schema};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::StreamExt;
use proptest::prelude::*;

use crate::support::{Options, Session};

const WORDS: [&str; 4] = ["sun", "wind", "coal", "gas"];

#[derive(Debug, Clone)]
struct Row {
    vector: [f32; 2],
    text: Vec<usize>,
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (prop::array::uniform2(-4..5i8), prop::collection::vec(0..WORDS.len(), 0..4))
        .prop_map(|(v, text)| Row { vector: v.map(f32::from), text });
    prop::collection::vec(row, 0..60)
}

fn schema() -> Arc<Schema> {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("body", DataType::Utf8, true),
        Field::new("e", DataType::FixedSizeList(item, 2), true),
    ]))
}

fn table(session: &Session, rows: &[Row], batch: usize, partitions: usize) {
    let (schema, item) = (schema(), Arc::new(Field::new("item", DataType::Float32, true)));
    let numbered: Vec<(usize, &Row)> = rows.iter().enumerate().collect();
    let batches = numbered.chunks(batch).map(|rows| {
        let text = |r: &Row| r.text.iter().map(|w| WORDS[*w]).collect::<Vec<_>>().join(" ");
        let values: Vec<f32> = rows.iter().flat_map(|(_, r)| r.vector).collect();
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(id, _)| i64::try_from(*id).unwrap()))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, r)| text(r)))),
            Arc::new(FixedSizeListArray::new(
                Arc::clone(&item),
                2,
                Arc::new(Float32Array::from(values)),
                None,
            )),
        ];
        RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap()
    });
    session.table("docs", Arc::clone(&schema), batches.collect(), partitions);
}

fn answer(session: &Session, runtime: &tokio::runtime::Runtime, sql: &str) -> Vec<(i64, f64)> {
    let found = runtime.block_on(session.rows(sql)).unwrap_or_else(|e| panic!("{sql}: {e}"));
    let rows = found.iter().flat_map(|b| {
        let ids = b.column(0).as_primitive::<Int64Type>().values().to_vec();
        let scores: Vec<f64> = match b.column(1).data_type() {
            DataType::Float32 => {
                b.column(1).as_primitive::<Float32Type>().values().iter().map(|s| f64::from(*s)).collect()
            }
            _ => b.column(1).as_primitive::<Float64Type>().values().to_vec(),
        };
        ids.into_iter().zip(scores).collect::<Vec<_>>()
    });
    rows.collect()
}

/// Ranks from 1; the best score first, then the least id.
fn ranked(mut part: Vec<(i64, f64)>, ascending: bool) -> Vec<(i64, f64)> {
    let sign = if ascending { 1.0 } else { -1.0 };
    part.sort_by(|a, b| (sign * a.1).total_cmp(&(sign * b.1)).then(a.0.cmp(&b.0)));
    part
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn fused_scores_are_the_definitions(
        rows in rows(), query in prop::array::uniform2(-4..5i8), words in prop::collection::vec(0..WORDS.len(), 1..3),
        k in 1..15usize, rrf_k in 0..80u32, alpha in prop::option::of(0..=4u8), least in 0..20i64, outside: bool,
        partitions in 1..4usize, batch in 1..20usize,
    ) {
        let session = Session::new(Options { partitions, ..Options::default() });
        table(&session, &rows, batch, partitions);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let vector = format!("'[{}, {}]'", query[0], query[1]);
        let text = words.iter().map(|w| WORDS[*w]).collect::<Vec<_>>().join(" ");
        // Parts that give every row have no k-th place at which rows of one score might be left out.
        let near = ranked(answer(&session, &runtime, &format!(
            "SELECT id, _distance FROM vector_search(docs, e, {vector}, 1000, metric => 'l2', where => id >= {least})"
        )), true);
        let found = ranked(answer(&session, &runtime, &format!(
            "SELECT id, _score FROM text_search(docs, '{text}', k => 1000, where => id >= {least})"
        )), false);
        let mut wanted: HashMap<i64, f64> = HashMap::new();
        for (part, ascending, weight) in [
            (&near, true, alpha.map_or(1.0, |a| f64::from(a) / 4.0)), (&found, false, alpha.map_or(1.0, |a| 1.0 - f64::from(a) / 4.0)),
        ] {
            let scores: Vec<f64> = part.iter().map(|r| if ascending { -r.1 } else { r.1 }).collect();
            let best = scores.iter().copied().fold(f64::MIN, f64::max);
            let worst = scores.iter().copied().fold(f64::MAX, f64::min);
            for (place, (id, _)) in part.iter().enumerate() {
                let score = match alpha {
                    None => 1.0 / (f64::from(rrf_k) + place as f64 + 1.0),
                    Some(_) if best == worst => weight,
                    Some(_) => weight * (scores[place] - worst) / (best - worst),
                };
                *wanted.entry(*id).or_default() += score;
            }
        }
        let mut wanted: Vec<(i64, f64)> = wanted.into_iter().collect();
        wanted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let everyone: HashMap<i64, f64> = wanted.iter().copied().collect();
        wanted.truncate(k);

        let how = match alpha {
            None => format!("rrf_k => {rrf_k}"),
            Some(a) => format!("fusion => 'weighted', alpha => {}", f64::from(a) / 4.0),
        };
        let (inside, above) = match outside {
            true => (String::new(), format!("WHERE h.id >= {least}")),
            false => (format!(", where => id >= {least}"), String::new()),
        };
        let mut statements = vec![format!(
            "SELECT h.id, h._score FROM hybrid_search(docs, vector => {vector}, text => '{text}', metric => 'l2', \
             key => id, candidates => 1000, k => {k}, {how}{inside}) AS h {above}"
        )];
        if alpha.is_none() {
            statements.push(format!(
                "SELECT h.id, h._score FROM rrf(text_search(docs, '{text}', k => 1000{inside}), \
                 vector_search(docs, e, {vector}, 1000, metric => 'l2'{inside}), key => id, k => {k}, {how}) AS h {above}"
            ));
        }
        for sql in statements {
            let got = answer(&session, &runtime, &sql);
            prop_assert_eq!(got.len(), wanted.len(), "{}: {:?} {:?}", sql, got, wanted);
            for ((id, score), (_, definition)) in got.iter().zip(&wanted) {
                prop_assert!((score - definition).abs() <= 1e-9, "{}: {:?} {:?}", sql, got, wanted);
                let own = everyone.get(id).copied();
                prop_assert!(own.is_some_and(|own| (own - score).abs() <= 1e-9), "{}: {} {:?}", sql, id, own);
            }
        }
    }
}

#[test]
fn each_part_gives_its_best_rows_only() {
    let session = Session::new(Options::default());
    let rows: Vec<Row> =
        (0..200u8).map(|i| Row { vector: [f32::from(i), 0.0], text: vec![usize::from(i % 2)] }).collect();
    table(&session, &rows, 16, 3);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // The nearest rows are 0, 1, 2; the best texts of one score are the first odd ids.
    let sql = "SELECT id, _score FROM hybrid_search(docs, vector => '[0, 0]', text => 'wind', metric => 'l2', \
               key => id, candidates => 3, k => 3)";
    let ids: Vec<i64> = answer(&session, &runtime, sql).into_iter().map(|(id, _)| id).collect();
    // 1 is second near and first found; 0 is first near; 3 is second found.
    assert_eq!(ids, [1, 0, 3]);
    let sql = sql.replace("k => 3)", "k => 1000)");
    let found = answer(&session, &runtime, &sql);
    assert_eq!(found.len(), rows.len(), "candidates are never fewer than k");
}

/// A table whose rows never come, or only an error.
#[derive(Debug)]
struct Stuck {
    schema: Arc<Schema>,
    error: bool,
}

impl PartitionStream for Stuck {
    fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let stream = match self.error {
            true => {
                let error = triune_common::Error::new(triune_common::ErrorKind::Data, "the disk is a teapot");
                futures::stream::iter([Err(error.into())]).boxed()
            }
            false => futures::stream::pending().boxed(),
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream))
    }
}

#[test]
fn words_answer_where_vectors_cannot() {
    let session = Session::new(Options::default());
    let rows: Vec<Row> =
        (0..20u8).map(|i| Row { vector: [f32::from(i), 1.0], text: vec![usize::from(i % 2)] }).collect();
    table(&session, &rows, 16, 3);
    for (name, error) in [("never", false), ("broken", true)] {
        let stuck: Arc<dyn PartitionStream> = Arc::new(Stuck { schema: schema(), error });
        let table = StreamingTable::try_new(schema(), vec![stuck]).unwrap();
        session.context().register_table(name, Arc::new(table)).unwrap();
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (table, deadline, why) in [
        ("never", ", deadline => '20 milliseconds'", "no vectors found within 0.02 s"),
        ("broken", "", "the disk is a teapot"),
        ("broken", ", deadline => '1 hour'", "the disk is a teapot"),
    ] {
        let sql = format!(
            "SELECT id, _fallback FROM rrf(vector_search({table}, e, '[0, 1]', k => 5), \
             text_search(docs, 'wind', k => 5), key => id, k => 3, fallback => 'text'{deadline})"
        );
        let found = runtime.block_on(session.rows(&sql)).unwrap_or_else(|e| panic!("{sql}: {e}"));
        let ids: Vec<i64> =
            found.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(ids, [1, 3, 5], "{sql}");
        for batch in &found {
            assert!(batch.column(1).as_string::<i32>().iter().all(|w| w == Some(why)), "{sql}: {batch:?}");
        }
        let strict = sql.replace(", fallback => 'text'", "").replace(deadline, "").replace(", _fallback", "");
        if table == "broken" {
            assert!(runtime.block_on(session.error(&strict)).message().contains("teapot"), "{strict}");
        }
    }
    // What the words cannot answer stays an error.
    let sql = "SELECT id FROM rrf(vector_search(docs, e, '[0, 1]'), text_search(broken, 'wind'), key => id, fallback => 'text')";
    assert!(runtime.block_on(session.error(sql)).message().contains("teapot"));
}
