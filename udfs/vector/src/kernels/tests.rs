//! Every processor level that this machine has, against an `f64` computation of the same formulas.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, FixedSizeListArray, Float32Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field};
use datafusion::scalar::ScalarValue;
use half::f16;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::raw::{BitMeasure, Measure, pairs_f32, rows_bits, rows_f16, rows_f32, rows_i8};
use super::*;
use crate::types::{VectorKind, VectorType};

/// The value of `measure` and how far a kernel may be from it.
fn oracle(measure: Measure, q: &[f64], x: &[f64]) -> (f64, f64) {
    let pairs = || q.iter().zip(x);
    let l2: f64 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
    let dot: f64 = pairs().map(|(a, b)| a * b).sum();
    let least = f64::from(f32::MIN_POSITIVE);
    match measure {
        Measure::L2 => (l2.sqrt(), 1e-5 * l2.sqrt() + least),
        Measure::L2Squared => (l2, 1e-5 * l2 + least),
        Measure::Dot => (dot, 1e-5 * pairs().map(|(a, b)| (a * b).abs()).sum::<f64>() + least),
        Measure::Cosine => {
            let norms =
                q.iter().map(|a| a * a).sum::<f64>().sqrt() * x.iter().map(|a| a * a).sum::<f64>().sqrt();
            (if norms > 0.0 { 1.0 - (dot / norms).clamp(-1.0, 1.0) } else { f64::NAN }, 2e-5)
        }
        Measure::L1 => {
            let sum = pairs().map(|(a, b)| (a - b).abs()).sum::<f64>();
            (sum, 1e-5 * sum + least)
        }
    }
}

#[track_caller]
fn close(got: f32, (want, tolerance): (f64, f64), what: impl FnOnce() -> String) {
    let narrow = want as f32;
    let same = (got.is_nan() && want.is_nan()) || (got.is_infinite() && got == narrow);
    assert!(
        same || (f64::from(got) - want).abs() <= tolerance,
        "{}: got {got}, want {want} ± {tolerance}",
        what()
    );
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|v| f64::from(*v)).collect()
}

/// `lead` elements before the data make it unaligned.
fn random_floats(rng: &mut ChaCha8Rng, n: usize, exponent: i32) -> Vec<f32> {
    let scale = 10f32.powi(exponent);
    (0..n).map(|_| rng.random_range(-1.0f32..1.0) * scale).collect()
}

fn check_floats(dims: usize, rows: usize, lead: usize, exponents: (i32, i32), seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let q = random_floats(&mut rng, lead + dims, exponents.0);
    let x = random_floats(&mut rng, lead + rows * dims, exponents.1);
    let half: Vec<f16> = x.iter().map(|v| f16::from_f32(v.clamp(-6e4, 6e4))).collect();
    let (q, x, half) = (&q[lead..], &x[lead..], &half[lead..]);
    let query = wide(q);
    for cpu in CpuLevel::available() {
        for measure in Measure::ALL {
            let what =
                |row: usize| format!("{cpu:?} {measure:?} dims {dims} row {row} seed {seed} e {exponents:?}");
            let mut out = vec![0.0; rows];
            rows_f32(cpu, measure, q, x, &mut out).unwrap();
            for (r, got) in out.iter().enumerate() {
                let row = wide(&x[r * dims..(r + 1) * dims]);
                close(*got, oracle(measure, &query, &row), || what(r));
            }
            rows_f16(cpu, measure, q, half, &mut out).unwrap();
            for (r, got) in out.iter().enumerate() {
                let row: Vec<f64> = half[r * dims..(r + 1) * dims].iter().map(|v| f64::from(*v)).collect();
                close(*got, oracle(measure, &query, &row), || format!("half {}", what(r)));
            }
            // The first row against all, as two columns.
            let left: Vec<f32> = (0..rows).flat_map(|_| q.iter().copied()).collect();
            pairs_f32(cpu, measure, &left, x, dims, &mut out).unwrap();
            for (r, got) in out.iter().enumerate() {
                let row = wide(&x[r * dims..(r + 1) * dims]);
                close(*got, oracle(measure, &query, &row), || format!("pairs {}", what(r)));
            }
        }
    }
}

fn check_ints(dims: usize, rows: usize, lead: usize, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut bytes = |n: usize| (0..n).map(|_| rng.random::<i8>()).collect::<Vec<_>>();
    let (q, x) = (bytes(lead + dims), bytes(lead + rows * dims));
    let (q, x) = (&q[lead..], &x[lead..]);
    let query: Vec<f64> = q.iter().map(|v| f64::from(*v)).collect();
    let (qb, xb): (Vec<u8>, Vec<u8>) =
        (q.iter().map(|v| *v as u8).collect(), x.iter().map(|v| *v as u8).collect());
    for cpu in CpuLevel::available() {
        for measure in Measure::ALL {
            let mut out = vec![0.0; rows];
            rows_i8(cpu, measure, q, x, &mut out).unwrap();
            for (r, got) in out.iter().enumerate() {
                let row: Vec<f64> = x[r * dims..(r + 1) * dims].iter().map(|v| f64::from(*v)).collect();
                let (want, _) = oracle(measure, &query, &row);
                // Sums of whole numbers are exact in f64 as well, so the kernel must give the rounded value.
                let tolerance = if measure == Measure::Cosine { 1e-6 } else { 0.0 };
                close(*got, (f64::from(want as f32), tolerance), || {
                    format!("{cpu:?} {measure:?} dims {dims} row {r} seed {seed}")
                });
            }
        }
        for measure in [BitMeasure::Hamming, BitMeasure::Jaccard] {
            let mut out = vec![0.0; rows];
            rows_bits(cpu, measure, &qb, &xb, &mut out).unwrap();
            for (r, got) in out.iter().enumerate() {
                let pairs = || qb.iter().zip(&xb[r * dims..(r + 1) * dims]);
                let count = |f: fn(u8, u8) -> u8| pairs().map(|(a, b)| f(*a, *b).count_ones()).sum::<u32>();
                let (both, any) = (count(|a, b| a & b), count(|a, b| a | b));
                let want = match measure {
                    BitMeasure::Hamming => count(|a, b| a ^ b) as f32,
                    BitMeasure::Jaccard if both == 0 => 1.0,
                    BitMeasure::Jaccard => (1.0 - f64::from(both) / f64::from(any)) as f32,
                };
                assert_eq!(*got, want, "{cpu:?} {measure:?} bytes {dims} row {r} seed {seed}");
            }
        }
    }
}

#[test]
fn every_length_from_0_to_2049() {
    for dims in 0..=2049 {
        check_floats(dims, 6, dims % 3, (0, 0), dims as u64);
        check_ints(dims, 6, dims % 3, dims as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn floats_agree_with_the_oracle(
        dims in 0usize..=2049, rows in 0usize..9, lead in 0usize..17, seed: u64,
        // The squares of most of these leave the range of f32.
        eq in -30i32..30, ex in -30i32..30,
    ) {
        check_floats(dims, rows, lead, (eq, ex), seed);
    }

    #[test]
    fn integers_and_bits_agree_with_the_oracle(dims in 0usize..=2049, rows in 0usize..9, lead in 0usize..65, seed: u64) {
        check_ints(dims, rows, lead, seed);
    }
}

#[test]
fn extreme_bytes_do_not_overflow() {
    for cpu in CpuLevel::available() {
        let (q, x) = (vec![-128i8; crate::types::MAX_DIMS], vec![127i8; crate::types::MAX_DIMS]);
        let n = crate::types::MAX_DIMS as f64;
        let mut out = [0.0];
        rows_i8(cpu, Measure::L2Squared, &q, &x, &mut out).unwrap();
        assert_eq!(out[0], (255.0 * 255.0 * n) as f32, "{cpu:?}");
        rows_i8(cpu, Measure::Dot, &q, &q, &mut out).unwrap();
        assert_eq!(out[0], (128.0 * 128.0 * n) as f32, "{cpu:?}");
        rows_i8(cpu, Measure::L1, &q, &x, &mut out).unwrap();
        assert_eq!(out[0], (255.0 * n) as f32, "{cpu:?}");
        rows_i8(cpu, Measure::Cosine, &q, &x, &mut out).unwrap();
        assert_eq!(out[0], 2.0, "{cpu:?}");
    }
}

#[test]
fn a_long_sum_stays_accurate() {
    // 65,535 equal terms: the worst case for a single f32 sum.
    let x = vec![0.1f32; crate::types::MAX_DIMS];
    let zero = vec![0f32; crate::types::MAX_DIMS];
    for cpu in CpuLevel::available() {
        let mut out = [0.0];
        for measure in [Measure::L2, Measure::L1, Measure::Dot] {
            let q = if measure == Measure::Dot { &x } else { &zero };
            rows_f32(cpu, measure, q, &x, &mut out).unwrap();
            close(out[0], oracle(measure, &wide(q), &wide(&x)), || format!("{cpu:?} {measure:?}"));
        }
    }
}

#[test]
fn a_vector_is_at_cosine_distance_0_from_itself() {
    for dims in 1..=2049 {
        let mut rng = ChaCha8Rng::seed_from_u64(dims as u64);
        let x = random_floats(&mut rng, dims, 0);
        let half: Vec<f16> = x.iter().map(|v| f16::from_f32(*v)).collect();
        let widened: Vec<f32> = half.iter().map(|v| v.to_f32()).collect();
        let bytes: Vec<i8> = x.iter().map(|v| (v * 100.0) as i8 | 1).collect();
        for cpu in CpuLevel::available() {
            let mut out = [1.0];
            rows_f32(cpu, Measure::Cosine, &x, &x, &mut out).unwrap();
            assert_eq!(out[0], 0.0, "{cpu:?} {dims}");
            pairs_f32(cpu, Measure::Cosine, &x, &x, dims, &mut out).unwrap();
            assert_eq!(out[0], 0.0, "pairs {cpu:?} {dims}");
            rows_f16(cpu, Measure::Cosine, &widened, &half, &mut out).unwrap();
            assert_eq!(out[0], 0.0, "half {cpu:?} {dims}");
            rows_i8(cpu, Measure::Cosine, &bytes, &bytes, &mut out).unwrap();
            assert_eq!(out[0], 0.0, "tiny {cpu:?} {dims}");
        }
    }
}

#[test]
fn nan_and_infinity_come_through() {
    for cpu in CpuLevel::available() {
        for dims in [1, 3, 8, 40, 100, 385] {
            let q = vec![1.0f32; dims];
            for measure in Measure::ALL {
                for at in [0, dims / 2, dims - 1] {
                    let mut x = vec![2.0f32; dims];
                    x[at] = f32::NAN;
                    let half: Vec<f16> = x.iter().map(|v| f16::from_f32(*v)).collect();
                    let mut out = [0.0];
                    rows_f32(cpu, measure, &q, &x, &mut out).unwrap();
                    assert!(out[0].is_nan(), "{cpu:?} {measure:?} {dims} {at}");
                    rows_f16(cpu, measure, &q, &half, &mut out).unwrap();
                    assert!(out[0].is_nan(), "half {cpu:?} {measure:?} {dims} {at}");
                    x[at] = f32::INFINITY;
                    rows_f32(cpu, measure, &q, &x, &mut out).unwrap();
                    let fine =
                        if measure == Measure::Cosine { out[0].is_nan() } else { out[0] == f32::INFINITY };
                    assert!(fine, "{cpu:?} {measure:?} {dims} {at} gave {}", out[0]);
                }
            }
        }
    }
}

#[test]
fn zero_vectors() {
    for cpu in CpuLevel::available() {
        for dims in [1, 7, 64, 384] {
            let (zero, one) = (vec![0f32; dims], vec![1f32; dims]);
            let mut out = [0.0];
            for (a, b) in [(&zero, &one), (&one, &zero), (&zero, &zero)] {
                rows_f32(cpu, Measure::Cosine, a, b, &mut out).unwrap();
                assert!(out[0].is_nan());
            }
            rows_f32(cpu, Measure::L2, &zero, &zero, &mut out).unwrap();
            assert_eq!(out[0], 0.0);
            rows_i8(cpu, Measure::Cosine, &vec![0; dims], &vec![1; dims], &mut out).unwrap();
            assert!(out[0].is_nan());
            rows_bits(cpu, BitMeasure::Jaccard, &vec![0; dims], &vec![0; dims], &mut out).unwrap();
            assert_eq!(out[0], 1.0);
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let cpu = CpuLevel::detected();
    assert!(rows_f32(cpu, Measure::L2, &[1.0, 2.0], &[1.0; 3], &mut [0.0]).is_err());
    assert!(rows_bits(cpu, BitMeasure::Hamming, &[1], &[], &mut [0.0]).is_err());
    assert!(rows_i8(cpu, Measure::L2, &vec![0; 70_000], &vec![0; 70_000], &mut [0.0]).is_err());
}

fn column(ty: VectorType, rows: &[Option<&str>]) -> FixedSizeListArray {
    let texts: ArrayRef = Arc::new(arrow::array::StringArray::from(rows.to_vec()));
    crate::types::convert::to_vectors(&texts, None, ty, crate::types::text::Rounding::Refuse).unwrap()
}

fn ty(kind: VectorKind, dims: usize) -> VectorType {
    VectorType::try_new(kind, dims).unwrap()
}

fn values(array: &Float32Array) -> Vec<Option<f32>> {
    array.iter().collect()
}

#[test]
fn distances_of_every_kind_with_nulls_and_slices() {
    for kind in [VectorKind::Vector, VectorKind::HalfVec, VectorKind::TinyVec] {
        let ty = ty(kind, 2);
        let rows =
            column(ty, &[Some("[9,9]"), Some("[3,4]"), None, Some("[0,0]"), Some("[6,8]")]).slice(1, 3);
        let query = PreparedQuery::try_new(Metric::L2, &ScalarValue::from("[0,0]"), &ty.data_type()).unwrap();
        assert_eq!(values(&distances(&query, &rows).unwrap()), [Some(5.0), None, Some(0.0)], "{kind:?}");
        let query = PreparedQuery::try_new(
            Metric::NegativeInnerProduct,
            &ScalarValue::from("[1,2]"),
            &ty.data_type(),
        )
        .unwrap();
        assert_eq!(values(&distances(&query, &rows).unwrap()), [Some(-11.0), None, Some(0.0)], "{kind:?}");
        let both = pairwise(Metric::L1, &rows, &column(ty, &[Some("[1,1]"), Some("[1,1]"), None])).unwrap();
        assert_eq!(values(&both), [Some(5.0), None, None], "{kind:?}");
    }
    let bits = ty(VectorKind::BitVec, 4);
    let rows = column(bits, &[Some("0101"), None, Some("1111")]);
    for metric in [Metric::Hamming, Metric::Jaccard] {
        let query = PreparedQuery::try_new(metric, &ScalarValue::from("0110"), &bits.data_type()).unwrap();
        let want = if metric == Metric::Hamming {
            [Some(2.0), None, Some(2.0)]
        } else {
            [Some(2.0 / 3.0), None, Some(0.5)]
        };
        assert_eq!(values(&distances(&query, &rows).unwrap()), want);
    }
}

#[test]
fn half_beside_single_needs_no_conversion() {
    let a = column(ty(VectorKind::Vector, 3), &[Some("[1,2,3]"), Some("[0,0,0]")]);
    let b = column(ty(VectorKind::HalfVec, 3), &[Some("[1,2,5]"), Some("[3,4,0]")]);
    let want = [Some(2.0), Some(5.0)];
    assert_eq!(values(&pairwise(Metric::L2, &a, &b).unwrap()), want);
    assert_eq!(values(&pairwise(Metric::L2, &b, &a).unwrap()), want);
}

#[test]
fn a_null_query_gives_nulls() {
    let ty = ty(VectorKind::Vector, 2);
    let query = PreparedQuery::try_new(Metric::Cosine, &ty.null(), &ty.data_type()).unwrap();
    assert!(query.is_null());
    assert_eq!(distances(&query, &column(ty, &[Some("[1,2]")])).unwrap().null_count(), 1);
}

#[test]
fn a_null_element_is_an_error_unless_its_row_is_null() {
    let ty = ty(VectorKind::Vector, 2);
    let array = |nulls| {
        let item = Arc::new(Field::new("element", DataType::Float32, true));
        let values = Float32Array::from(vec![Some(1.0), Some(2.0), Some(3.0), None]);
        FixedSizeListArray::new(item, 2, Arc::new(values), nulls)
    };
    let query = PreparedQuery::try_new(Metric::L2, &ScalarValue::from("[1,2]"), &ty.data_type()).unwrap();
    let error = distances(&query, &array(None)).unwrap_err().to_string();
    assert_eq!(error, "NULL at position 2 of a vector; its elements must be numbers");
    let below_null = array(Some(NullBuffer::from(vec![true, false])));
    assert_eq!(values(&distances(&query, &below_null).unwrap()), [Some(0.0), None]);
    // The slice before it holds no NULL.
    assert_eq!(values(&distances(&query, &array(None).slice(0, 1)).unwrap()), [Some(0.0)]);
}

#[test]
fn a_query_that_does_not_fit_says_why() {
    let vector = ty(VectorKind::Vector, 3).data_type();
    let tiny = ty(VectorKind::TinyVec, 2).data_type();
    let failure = |metric, query: &str, column: &DataType| {
        PreparedQuery::try_new(metric, &ScalarValue::from(query), column).unwrap_err().to_string()
    };
    assert_eq!(failure(Metric::L2, "[1,2]", &vector), "expected 3 dimensions for VECTOR(3), got 2");
    assert_eq!(
        failure(Metric::Hamming, "[1,2,3]", &vector),
        "the hamming metric is defined on BITVEC only, got VECTOR; binary_quantize(v) makes a BITVEC of a vector"
    );
    assert_eq!(
        failure(Metric::L2, "[0.5,1]", &tiny),
        "0.5 at character 2 is no whole number; the elements of a TINYVEC are whole numbers from -128 to 127"
    );
    assert!(failure(Metric::L2, "[1]", &DataType::Utf8).contains("is no vector type"));
    let typed = ScalarValue::FixedSizeList(Arc::new(column(ty(VectorKind::HalfVec, 2), &[Some("[1,2]")])));
    assert_eq!(
        PreparedQuery::try_new(Metric::L2, &typed, &vector).unwrap_err().to_string(),
        "different vector dimensions 2 and 3 (HALFVEC(2) and VECTOR(3))"
    );
}

#[test]
fn metric_names() {
    for metric in Metric::ALL {
        assert_eq!(metric.name().parse::<Metric>().unwrap(), metric);
    }
    for (name, metric) in [
        ("Euclidean", Metric::L2),
        ("dot", Metric::NegativeInnerProduct),
        (" ip ", Metric::NegativeInnerProduct),
        ("MANHATTAN", Metric::L1),
    ] {
        assert_eq!(name.parse::<Metric>().unwrap(), metric);
    }
    assert!(
        "cosin"
            .parse::<Metric>()
            .unwrap_err()
            .to_string()
            .starts_with("unknown metric 'cosin'; accepted are l2")
    );
}
