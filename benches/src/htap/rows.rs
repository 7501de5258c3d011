//! The table `bench` and its rows, the same for every engine.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::ScalarValue;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use triune_common::Result;

use crate::data::write;

pub(crate) const DIMS: i32 = 16;
/// How many tenants the rows are spread over.
const TENANTS: i64 = 1000;
/// 2026-08-01 00:00 UTC.
const START_MICROS: i64 = 1_785_542_400_000_000;

fn item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Float32, true))
}

/// A batch of the table's columns.
fn batch(
    ids: Vec<i64>,
    times: Vec<i64>,
    tenants: Vec<i64>,
    texts: &[String],
    vectors: Vec<f32>,
) -> Result<RecordBatch> {
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    let vectors: ArrayRef =
        Arc::new(FixedSizeListArray::try_new(item(), DIMS, Arc::new(Float32Array::from(vectors)), None)?);
    let ids: ArrayRef = Arc::new(Int64Array::from(ids));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times));
    let tenants: ArrayRef = Arc::new(Int64Array::from(tenants));
    Ok(RecordBatch::try_from_iter([
        ("id", ids),
        ("ts", times),
        ("tenant", tenants),
        ("body", texts),
        ("embedding", vectors),
    ])?)
}

fn text(rng: &mut impl Rng) -> String {
    (0..100).map(|_| char::from(b'a' + rng.random_range(0..26u8))).collect()
}

/// Rows 0, 1, 2, … with random texts and vectors, as a Parquet file.
pub(crate) fn table(path: &Path, rows: u64) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(42);
    write(path, rows, |from, n| {
        let ids: Vec<i64> = (from..from + n).map(u64::cast_signed).collect();
        let times = ids.iter().map(|i| START_MICROS + i * 1_000).collect();
        let tenants = ids.iter().map(|_| rng.random_range(0..TENANTS)).collect();
        let texts: Vec<String> = ids.iter().map(|_| text(&mut rng)).collect();
        let vectors = (0..ids.len() * DIMS as usize).map(|_| rng.random_range(-1.0..1.0)).collect();
        batch(ids, times, tenants, &texts, vectors)
    })
}

/// New rows for these keys.
pub(crate) fn fresh(ids: &[i64], tenant: i64) -> Result<RecordBatch> {
    let n = ids.len();
    let texts = vec!["0123456789".repeat(10); n];
    let vectors = (0..n * DIMS as usize).map(|i| i as f32 / 16.0).collect();
    batch(ids.to_vec(), vec![START_MICROS; n], vec![tenant; n], &texts, vectors)
}

/// The same row as values of parameters.
pub(crate) fn values(id: i64, tenant: i64) -> Vec<ScalarValue> {
    let values = Float32Array::from_iter_values((0..DIMS).map(|i| i as f32 / 16.0));
    let vector = FixedSizeListArray::new(item(), DIMS, Arc::new(values), None);
    vec![
        ScalarValue::Int64(Some(id)),
        ScalarValue::TimestampMicrosecond(Some(START_MICROS), None),
        ScalarValue::Int64(Some(tenant)),
        ScalarValue::Utf8(Some("0123456789".repeat(10))),
        ScalarValue::FixedSizeList(Arc::new(vector)),
    ]
}

/// Fields of the table in the storage's own terms.
pub(crate) fn fields() -> Vec<Field> {
    vec![
        Field::new("id", DataType::Int64, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("tenant", DataType::Int64, true),
        Field::new("body", DataType::Utf8, true),
        Field::new("embedding", DataType::FixedSizeList(item(), DIMS), true),
    ]
}

/// Rows of eight columns for the bulk insert.
pub(crate) fn wide(path: &Path, rows: u64) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(43);
    write(path, rows, |from, n| {
        let ids: Vec<i64> = (from..from + n).map(u64::cast_signed).collect();
        let times = TimestampMicrosecondArray::from_iter_values(ids.iter().map(|i| START_MICROS + i * 100));
        let users: Int64Array = ids.iter().map(|_| rng.random_range(0..1_000_000i64)).collect();
        let kinds = StringArray::from_iter_values(
            ids.iter().map(|_| ["view", "click", "buy", "search", "share"][rng.random_range(0..5usize)]),
        );
        let prices: Float64Array =
            ids.iter().map(|_| f64::from(rng.random_range(0..1_000_000u32)) / 100.0).collect();
        let counts: Int32Array = ids.iter().map(|_| rng.random_range(0..100i32)).collect();
        let pages = StringArray::from_iter_values(
            ids.iter().map(|_| format!("/item/{}", rng.random_range(0..50_000u32))),
        );
        let flags: Int32Array = ids.iter().map(|i| (i % 7) as i32).collect();
        let columns: [(&str, ArrayRef); 8] = [
            ("id", Arc::new(Int64Array::from(ids))),
            ("ts", Arc::new(times)),
            ("user_id", Arc::new(users)),
            ("kind", Arc::new(kinds)),
            ("price", Arc::new(prices)),
            ("n", Arc::new(counts)),
            ("page", Arc::new(pages)),
            ("flag", Arc::new(flags)),
        ];
        Ok(RecordBatch::try_from_iter(columns)?)
    })
}
