//! Seeded data for the benchmarks: documents with vectors, and their events.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use triune_common::{Error, Result};

const SEED: u64 = 42;
const BATCH: u64 = 16_384;
/// 2026-08-01 00:00 UTC, and ninety days from there.
const START_MICROS: i64 = 1_785_542_400_000_000;
const SPAN_MICROS: i64 = 90 * 86_400 * 1_000_000;

fn failed(e: impl std::fmt::Display) -> Error {
    Error::data(format!("the benchmark's data cannot be written: {e}"))
}

pub(crate) fn write(
    path: &Path,
    rows: u64,
    mut batch: impl FnMut(u64, u64) -> Result<RecordBatch>,
) -> Result<()> {
    let first = batch(0, rows.min(BATCH))?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let file = File::create(path).map_err(failed)?;
    let mut writer = ArrowWriter::try_new(file, first.schema(), Some(properties)).map_err(failed)?;
    writer.write(&first).map_err(failed)?;
    let mut from = BATCH;
    while from < rows {
        writer.write(&batch(from, BATCH.min(rows - from))?).map_err(failed)?;
        from += BATCH;
    }
    writer.close().map_err(failed)?;
    Ok(())
}

/// `id, lang, title, embedding`: vectors around 64 centres, so that a search has near and far ones.
pub(crate) fn documents(path: &Path, rows: u64, dims: usize) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let centres: Vec<Vec<f32>> =
        (0..64).map(|_| (0..dims).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    write(path, rows, |from, n| {
        let ids: Vec<i64> = (from..from + n).map(|i| i as i64 + 1).collect();
        let lang = StringArray::from_iter_values(ids.iter().map(|i| match i % 10 {
            0 => "de",
            1 => "fr",
            _ => "en",
        }));
        let title = StringArray::from_iter_values(ids.iter().map(|i| format!("document {i}")));
        let mut values = Vec::with_capacity(n as usize * dims);
        for _ in 0..n {
            let centre = &centres[rng.random_range(0..centres.len())];
            values.extend(centre.iter().map(|c| c + rng.random_range(-0.5..0.5)));
        }
        let vectors = FixedSizeListArray::try_new(
            Arc::clone(&item),
            i32::try_from(dims).map_err(failed)?,
            Arc::new(Float32Array::from(values)),
            None,
        )?;
        let columns: [(&str, ArrayRef); 4] = [
            ("id", Arc::new(Int64Array::from(ids))),
            ("lang", Arc::new(lang)),
            ("title", Arc::new(title)),
            ("embedding", Arc::new(vectors)),
        ];
        Ok(RecordBatch::try_from_iter(columns)?)
    })
}

/// Events reach a file up to so much later than they happened.
const LATE_MICROS: i64 = 120 * 1_000_000;

/// `event_id, doc_id, ts, latency_ms`, in the order of arrival, which is nearly that of time; a tenth of the
/// documents have half of the events. Row groups are the writer's usual million rows.
pub(crate) fn events(path: &Path, rows: u64, docs: u64) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED + 1);
    write(path, rows, |from, n| {
        let ids = from..from + n;
        let doc = ids.clone().map(|_| {
            let popular = rng.random_bool(0.5);
            rng.random_range(0..if popular { (docs / 10).max(1) } else { docs }) as i64 + 1
        });
        let doc = Int64Array::from_iter_values(doc);
        let ts = TimestampMicrosecondArray::from_iter_values(ids.clone().map(|i| {
            let arrival = START_MICROS + (SPAN_MICROS as f64 * i as f64 / rows as f64) as i64;
            (arrival - rng.random_range(0..LATE_MICROS)).max(START_MICROS)
        }));
        let latency = Float64Array::from_iter_values(ids.clone().map(|_| {
            let u: f64 = rng.random_range(0.001..1.0);
            20.0 - 30.0 * u.ln()
        }));
        let columns: [(&str, ArrayRef); 4] = [
            ("event_id", Arc::new(Int64Array::from_iter_values(ids.map(|i| i as i64)))),
            ("doc_id", Arc::new(doc)),
            ("ts", Arc::new(ts)),
            ("latency_ms", Arc::new(latency)),
        ];
        Ok(RecordBatch::try_from_iter(columns)?)
    })
}
