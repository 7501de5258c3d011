//! Conditions through filter indexes against the same conditions over all rows in memory.

use std::sync::Arc;

use arrow::array::{AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::physical_plan::displayable;
use datafusion::prelude::SessionContext;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use triune_storage::stamp::TableId;
use triune_storage::store::Store;
use triune_storage::table::{IndexDef, IndexMethod, TableDef};

use super::support::*;

const TABLE: TableId = TableId(9);

fn table() -> TableDef {
    let mut def = definition(TABLE, &["id"]);
    def.columns.push(triune_storage::table::ColumnDef {
        id: 4,
        field: Field::new("f", DataType::Float64, true),
        default: None,
        identity: None,
        generated: None,
        comment: None,
    });
    def.last_column = 4;
    def
}

fn rows(rng: &mut ChaCha8Rng, ids: std::ops::Range<i64>) -> RecordBatch {
    let n = ids.clone().count();
    // Near ones lie together, so that stretches of rows differ.
    let v: Vec<Option<i64>> = ids
        .clone()
        .map(|id| rng.random_bool(0.9).then(|| (id / 35 - 50 + rng.random_range(-3..3)).clamp(-50, 49)))
        .collect();
    let s: Vec<Option<String>> =
        (0..n).map(|_| rng.random_bool(0.9).then(|| format!("w{}", rng.random_range(0..60)))).collect();
    let special = [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let f: Vec<Option<f64>> = (0..n)
        .map(|_| match rng.random_range(0..10) {
            0 => None,
            1 | 2 => Some(special[rng.random_range(0..special.len())]),
            _ => Some(f64::from(rng.random_range(-20..20))),
        })
        .collect();
    RecordBatch::try_new(
        table().schema(),
        vec![
            Arc::new(Int64Array::from_iter_values(ids)),
            Arc::new(Int64Array::from(v)),
            Arc::new(StringArray::from(s)),
            Arc::new(Float64Array::from(f)),
        ],
    )
    .unwrap()
}

fn number(rng: &mut ChaCha8Rng) -> Expr {
    if rng.random_bool(0.05) { lit(ScalarValue::Int64(None)) } else { lit(rng.random_range(-55_i64..55)) }
}

fn float(rng: &mut ChaCha8Rng) -> Expr {
    let special = [0.0, -0.0, f64::NAN, f64::INFINITY, 3.0, -7.0];
    lit(special[rng.random_range(0..special.len())])
}

fn condition(rng: &mut ChaCha8Rng) -> Expr {
    let word = format!("w{}", rng.random_range(0..65));
    match rng.random_range(0..23) {
        0 => col("v").eq(number(rng)),
        1 => col("v").lt(number(rng)),
        2 => col("v").lt_eq(number(rng)),
        3 => number(rng).gt(col("v")),
        4 => col("v").gt_eq(number(rng)),
        5 => col("v").between(number(rng), number(rng)),
        6 => {
            col("v").in_list((0..rng.random_range(1..5)).map(|_| number(rng)).collect(), rng.random_bool(0.3))
        }
        7 => col("v").is_null(),
        8 => col("v").is_not_null(),
        9 => col("s").eq(lit(word)),
        10 => col("s").like(lit(format!("{word}%"))),
        11 => col("s").like(lit(format!("%{word}_"))),
        12 => col("s").is_null().or(col("v").eq(number(rng))),
        13 => !(col("v").eq(number(rng))),
        14 => col("s").gt(lit(word)),
        15 => col("f").eq(float(rng)),
        16 => col("f").lt(float(rng)),
        17 => col("f").gt_eq(float(rng)),
        18 => call("contains", vec![col("s"), lit(word)]),
        19 => call("starts_with", vec![col("s"), lit(word)]),
        20 => col("s").like(lit(format!("%{word}%"))),
        21 => col("s").like(lit(format!("_{}%", &word[1..]))),
        _ => col("s").in_list(vec![lit(word), lit("w7"), lit("nothing")], false),
    }
}

fn call(name: &str, args: Vec<Expr>) -> Expr {
    let functions = SessionContext::new().state();
    let function = functions.scalar_functions().get(name).cloned().unwrap();
    Expr::ScalarFunction(datafusion::logical_expr::expr::ScalarFunction::new_udf(function, args))
}

async fn ids(provider: Arc<dyn TableProvider>, conditions: &[Expr]) -> (Vec<i64>, String) {
    let context = SessionContext::new();
    let mut frame = context.read_table(provider).unwrap();
    for condition in conditions {
        frame = frame.filter(condition.clone()).unwrap();
    }
    let frame = frame.select(vec![col("id")]).unwrap();
    let plan = frame.clone().create_physical_plan().await.unwrap();
    let shown = displayable(plan.as_ref()).indent(false).to_string();
    let mut out = Vec::new();
    for batch in frame.collect().await.unwrap() {
        out.extend(batch.column(0).as_primitive::<Int64Type>().values());
    }
    out.sort_unstable();
    (out, shown)
}

fn by(column: &str, method: IndexMethod) -> IndexDef {
    let columns = vec![column.to_owned()];
    let option = match method {
        IndexMethod::ZoneMap => Some(("rows_per_zone", "512")),
        IndexMethod::Bloom => Some(("number_of_items", "512")),
        _ => None,
    };
    let options = option.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    IndexDef { name: format!("by_{column}"), method, columns, options }
}

async fn write(store: &Arc<Store>, batch: &RecordBatch) {
    let t = store.begin();
    t.insert(TABLE, batch.clone()).await.unwrap();
    t.commit(true).await.unwrap();
}

async fn compare(seed: u64, methods: [IndexMethod; 3], least: u32) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let place = Place { thread: false, ..Place::new() };
    let store = place.open().await;
    store.create_table(table()).await.unwrap();
    let mut all = vec![rows(&mut rng, 0..3000)];
    write(&store, &all[0]).await;
    for (column, method) in ["v", "s", "f"].into_iter().zip(methods) {
        store.create_index(TABLE, by(column, method)).await.unwrap();
    }
    // Rows beyond the indexes, rows in memory, and rows that are gone.
    all.push(rows(&mut rng, 3000..3400));
    write(&store, &all[1]).await;
    store.checkpoint().await.unwrap();
    all.push(rows(&mut rng, 3400..3500));
    write(&store, &all[2]).await;
    let gone: Vec<i64> = (0..3500).filter(|i| i % 9 == 4).collect();
    let t = store.begin();
    t.delete(TABLE, &keys(&gone)).await.unwrap();
    t.commit(true).await.unwrap();
    let memory = Arc::new(MemTable::try_new(table().schema(), vec![all]).unwrap());
    let mut used = 0;
    for _ in 0..150 {
        let conditions: Vec<Expr> = (0..rng.random_range(1..4)).map(|_| condition(&mut rng)).collect();
        let provider = store.begin().provider(TABLE).unwrap();
        let (found, plan) = ids(provider, &conditions).await;
        let (mut want, _) = ids(Arc::clone(&memory) as _, &conditions).await;
        want.retain(|id| id % 9 != 4);
        assert_eq!(found, want, "seed {seed}: {conditions:?}\n{plan}");
        used += u32::from(plan.contains("index=by_"));
    }
    assert!(used >= least, "{used} of 150 went through an index: {seed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_change_no_answer() {
    for seed in 0..3 {
        compare(seed, [IndexMethod::BTree, IndexMethod::Bitmap, IndexMethod::BTree], 9).await;
        compare(100 + seed, [IndexMethod::Bitmap, IndexMethod::BTree, IndexMethod::Bitmap], 9).await;
        compare(200 + seed, [IndexMethod::ZoneMap, IndexMethod::NGram, IndexMethod::ZoneMap], 9).await;
        compare(300 + seed, [IndexMethod::Bloom, IndexMethod::Bloom, IndexMethod::Bloom], 3).await;
        compare(400 + seed, [IndexMethod::ZoneMap, IndexMethod::ZoneMap, IndexMethod::Bloom], 3).await;
    }
}
