//! What a commit costs before and in the log: its record's bytes, the append, and the append with its sync.
//!
//! ```text
//! cargo bench -p triune-benches -p triune-features --bench wal
//! ```
//!
//! Rows have id, time, tenant, 100 bytes of text and a vector of 16 numbers. `bare` is the same bytes written and
//! synced without a log: what the disk itself takes. Set `TRIUNE_BENCH_DIR` to a folder on the disk to measure;
//! by default it is the current one.

#![expect(clippy::expect_used, reason = "a benchmark ends where it cannot go on")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use triune_storage::fs::{RealFs, StorageFs};
use triune_storage::key::Keys;
use triune_storage::stamp::{CommitTs, TableId};
use triune_storage::wal::record::{CommitRecord, Record, TableChange};
use triune_storage::wal::{Log, SegmentId, Wal};

fn rows(n: usize) -> RecordBatch {
    let ids: ArrayRef = Arc::new((0..n as i64).collect::<Int64Array>());
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(0..n as i64));
    let tenants: ArrayRef = Arc::new((0..n as i64).map(|i| i % 50).collect::<Int64Array>());
    let texts: ArrayRef = Arc::new((0..n).map(|i| Some(format!("{i:0100}"))).collect::<StringArray>());
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let values = Arc::new((0..n * 16).map(|i| i as f32).collect::<Float32Array>());
    let vectors: ArrayRef = Arc::new(FixedSizeListArray::new(item, 16, values, None));
    RecordBatch::try_from_iter([
        ("id", ids),
        ("ts", times),
        ("tenant", tenants),
        ("body", texts),
        ("embedding", vectors),
    ])
    .expect("a batch")
}

fn upsert(n: usize) -> Record {
    let change = TableChange {
        table: TableId(1),
        revision: 1,
        deletes: Keys::Ints((0..n as u64).collect()),
        inserts: Some(rows(n)),
        truncate: false,
    };
    Record::Commit(CommitRecord { ts: CommitTs(1_763_846_400_000_000), changes: vec![change] })
}

fn folder() -> PathBuf {
    let parent = std::env::var_os("TRIUNE_BENCH_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    parent.join(format!("triune-bench-wal-{}", std::process::id()))
}

fn wal(c: &mut Criterion) {
    let dir = folder();
    let fs: Arc<dyn StorageFs> = Arc::new(RealFs);
    let (mut log, _) = Wal::create(Arc::clone(&fs), &dir, SegmentId::FIRST).expect("a log");
    let mut group = c.benchmark_group("wal");
    for n in [1, 1000] {
        let record = upsert(n);
        let schema = rows(1).schema();
        let mut bytes = Vec::new();
        record.encode(&mut bytes).expect("bytes");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("encode", n), |b| {
            b.iter(|| {
                bytes.clear();
                black_box(&record).encode(&mut bytes).expect("bytes");
            });
        });
        group.bench_function(BenchmarkId::new("decode", n), |b| {
            b.iter(|| {
                Record::decode(black_box(&bytes), &|_, _| Some(Arc::clone(&schema))).expect("a record")
            });
        });
        group.bench_function(BenchmarkId::new("append", n), |b| {
            b.iter(|| log.append(&[black_box(&bytes)]).expect("appended"));
        });
        // What was appended only is not to be paid for below.
        log.rotate().expect("a segment");
        log.remove_before(log.segment()).expect("removed");
        group.bench_function(BenchmarkId::new("append and sync", n), |b| {
            b.iter(|| {
                log.append(&[black_box(&bytes)]).expect("appended");
                log.sync().expect("synced");
            });
        });
        let mut bare = fs.open_append(&dir.join(Path::new("bare"))).expect("a file");
        group.bench_function(BenchmarkId::new("bare", n), |b| {
            b.iter(|| {
                bare.append(black_box(&bytes)).expect("appended");
                bare.sync_data().expect("synced");
            });
        });
    }
    group.finish();
    fs.remove_dir_all(&dir).expect("removed");
}

criterion_group!(benches, wal);
criterion_main!(benches);
