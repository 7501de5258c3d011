//! Distance kernels over a block of vectors in memory, beside a plain sum over the same bytes.
//!
//! ```text
//! cargo bench -p triune-benches --bench kernels                 # 1 M × 384
//! TRIUNE_BENCH_ROWS=100000 cargo bench -p triune-benches --bench kernels -- cosine
//! ```
//!
//! The sum reads every byte once and does next to nothing with it: it is the memory's speed on this machine, and a
//! kernel's throughput divided by it is what it reaches of that. One thread; seeded data.

#![expect(clippy::expect_used, reason = "a benchmark ends where it cannot go on")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use triune_vector::kernels::CpuLevel;
use triune_vector::kernels::raw::{Measure, rows_f16, rows_f32, rows_i8};

const DIMS: usize = 384;
const SEED: u64 = 42;

fn rows() -> usize {
    std::env::var("TRIUNE_BENCH_ROWS").ok().and_then(|r| r.parse().ok()).unwrap_or(1_000_000)
}

fn kernels(c: &mut Criterion) {
    let rows = rows();
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let singles: Vec<f32> = (0..rows * DIMS).map(|_| rng.random_range(-1.0..1.0)).collect();
    let query = singles[..DIMS].to_vec();
    let halves: Vec<f16> = singles.iter().map(|x| f16::from_f32(*x)).collect();
    let bytes: Vec<i8> = singles.iter().map(|x| (x * 127.0) as i8).collect();
    let byte_query = bytes[..DIMS].to_vec();
    let mut out = vec![0.0_f32; rows];
    let cpu = CpuLevel::detected();

    let mut group = c.benchmark_group(format!("{rows}x{DIMS} {}", cpu.name()));
    group.sample_size(20);
    group.throughput(Throughput::Bytes((singles.len() * 4) as u64));
    group.bench_function("sum f32", |b| b.iter(|| sum(black_box(&singles))));
    for measure in [Measure::L2, Measure::Cosine, Measure::Dot] {
        let name = format!("{measure:?}");
        group.throughput(Throughput::Bytes((singles.len() * 4) as u64));
        group.bench_function(BenchmarkId::new(&name, "f32"), |b| {
            b.iter(|| rows_f32(cpu, measure, &query, black_box(&singles), &mut out).expect("f32"));
        });
        group.throughput(Throughput::Bytes((singles.len() * 2) as u64));
        group.bench_function(BenchmarkId::new(&name, "f16"), |b| {
            b.iter(|| rows_f16(cpu, measure, &query, black_box(&halves), &mut out).expect("f16"));
        });
        group.throughput(Throughput::Bytes(singles.len() as u64));
        group.bench_function(BenchmarkId::new(&name, "i8"), |b| {
            b.iter(|| rows_i8(cpu, measure, &byte_query, black_box(&bytes), &mut out).expect("i8"));
        });
    }
    group.finish();
}

/// Sixteen sums side by side, so that the additions do not wait for each other.
fn sum(values: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 64];
    for chunk in values.chunks_exact(64) {
        for (s, v) in sums.iter_mut().zip(chunk) {
            *s += v;
        }
    }
    sums.iter().sum()
}

criterion_group!(benches, kernels);
criterion_main!(benches);
