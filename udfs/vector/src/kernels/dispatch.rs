//! One table of kernels per processor level, chosen once per process.
//!
//! ```text
//!   x86-64   Avx512Vnni → Avx512 → Avx2 → Portable      (detected at run time)
//!   aarch64  Neon                                        (always there)
//!   others   Portable
//! ```

use std::fmt;
use std::sync::OnceLock;

use half::f16;

/// One query against rows: query, rows, the query's squared norm (read by cosine only), results.
pub(super) type RowsFn<E> = unsafe fn(&[f32], &[E], f32, &mut [f32]);
/// Rows against rows: left, right, dimensions, results.
pub(super) type PairsFn<A, B> = unsafe fn(&[A], &[B], usize, &mut [f32]);
pub(super) type IntRowsFn = unsafe fn(&[i8], &[i8], i64, &mut [f32]);
pub(super) type BitRowsFn = unsafe fn(&[u8], &[u8], &mut [f32]);

#[derive(Clone, Copy)]
pub(super) struct ByMeasure<F> {
    pub(super) l2: F,
    pub(super) l2_squared: F,
    pub(super) dot: F,
    pub(super) cosine: F,
    pub(super) l1: F,
}

#[derive(Clone, Copy)]
pub(super) struct ByBitMeasure<F> {
    pub(super) hamming: F,
    pub(super) jaccard: F,
}

/// Every kernel of one processor level. The functions may be called only on a processor of that level,
/// which is why a table is reached through [`table`] and [`CpuLevel`] alone.
pub(super) struct Table {
    pub(super) f32_rows: ByMeasure<RowsFn<f32>>,
    pub(super) f16_rows: ByMeasure<RowsFn<f16>>,
    pub(super) f32_pairs: ByMeasure<PairsFn<f32, f32>>,
    pub(super) f16_pairs: ByMeasure<PairsFn<f16, f16>>,
    pub(super) mixed_pairs: ByMeasure<PairsFn<f32, f16>>,
    pub(super) i8_rows: ByMeasure<IntRowsFn>,
    pub(super) i8_pairs: ByMeasure<PairsFn<i8, i8>>,
    pub(super) bit_rows: ByBitMeasure<BitRowsFn>,
    pub(super) bit_pairs: ByBitMeasure<PairsFn<u8, u8>>,
    /// `Σ x²` in the order in which `f32_rows.cosine` sums.
    pub(super) single_norm: unsafe fn(&[f32]) -> f32,
    /// `Σ x²` in the order in which `f16_rows.cosine` sums.
    pub(super) half_norm: unsafe fn(&[f32]) -> f32,
}

/// The entry points of one processor level: the generic kernels compiled with its features, and its table.
/// Each family of elements names the registers that serve it best.
macro_rules! entries {
    (f32 = $single:ty, f16 = $half:ty, i8 = $int:ty, bits = $bits:ty, $(#[$feature:meta])?) => {
        mod entry {
            use half::f16;

            use super::*;
            use crate::kernels::bits::{self, BitMeasure, Hamming, Jaccard};
            use crate::kernels::dispatch::{ByBitMeasure, ByMeasure, Table};
            use crate::kernels::float;
            use crate::kernels::int::{self, IntCosine, IntDot, IntL1, IntL2, IntL2Squared, IntMeasure};
            use crate::kernels::measure::{Cosine, Dot, L1, L2, L2Squared, Measure};
            use crate::kernels::simd::{Element, Floats};

            $(#[$feature])?
            unsafe fn rows<S: Floats, E: Element, M: Measure>(
                query: &[f32],
                rows: &[E],
                norm: f32,
                out: &mut [f32],
            ) {
                // SAFETY: this entry is compiled for the processor that its caller has found.
                unsafe { float::rows::<S, E, M>(query, rows, norm, out) }
            }

            $(#[$feature])?
            unsafe fn pairs<S: Floats, A: Element, B: Element, M: Measure>(
                a: &[A],
                b: &[B],
                dims: usize,
                out: &mut [f32],
            ) {
                // SAFETY: as above.
                unsafe { float::pairs::<S, A, B, M>(a, b, dims, out) }
            }

            $(#[$feature])?
            unsafe fn int_rows<M: IntMeasure>(query: &[i8], rows: &[i8], norm: i64, out: &mut [f32]) {
                // SAFETY: as above.
                unsafe { int::rows::<$int, M>(query, rows, norm, out) }
            }

            $(#[$feature])?
            unsafe fn int_pairs<M: IntMeasure>(a: &[i8], b: &[i8], dims: usize, out: &mut [f32]) {
                // SAFETY: as above.
                unsafe { int::pairs::<$int, M>(a, b, dims, out) }
            }

            $(#[$feature])?
            unsafe fn bit_rows<M: BitMeasure>(query: &[u8], rows: &[u8], out: &mut [f32]) {
                // SAFETY: as above.
                unsafe { bits::rows::<$bits, M>(query, rows, out) }
            }

            $(#[$feature])?
            unsafe fn bit_pairs<M: BitMeasure>(a: &[u8], b: &[u8], bytes: usize, out: &mut [f32]) {
                // SAFETY: as above.
                unsafe { bits::pairs::<$bits, M>(a, b, bytes, out) }
            }

            $(#[$feature])?
            unsafe fn squared_norm<S: Floats>(x: &[f32]) -> f32 {
                // SAFETY: as above; the slice's length is its own.
                unsafe { float::squared_norm::<S, f32>(x.as_ptr(), x.len()) }
            }

            macro_rules! by_measure {
                ($entry:ident::<$s:ty, $a:ty>) => {
                    ByMeasure {
                        l2: $entry::<$s, $a, L2>,
                        l2_squared: $entry::<$s, $a, L2Squared>,
                        dot: $entry::<$s, $a, Dot>,
                        cosine: $entry::<$s, $a, Cosine>,
                        l1: $entry::<$s, $a, L1>,
                    }
                };
                ($entry:ident::<$s:ty, $a:ty, $b:ty>) => {
                    ByMeasure {
                        l2: $entry::<$s, $a, $b, L2>,
                        l2_squared: $entry::<$s, $a, $b, L2Squared>,
                        dot: $entry::<$s, $a, $b, Dot>,
                        cosine: $entry::<$s, $a, $b, Cosine>,
                        l1: $entry::<$s, $a, $b, L1>,
                    }
                };
                ($entry:ident) => {
                    ByMeasure {
                        l2: $entry::<IntL2>,
                        l2_squared: $entry::<IntL2Squared>,
                        dot: $entry::<IntDot>,
                        cosine: $entry::<IntCosine>,
                        l1: $entry::<IntL1>,
                    }
                };
            }

            pub(in crate::kernels) static TABLE: Table = Table {
                f32_rows: by_measure!(rows::<$single, f32>),
                f16_rows: by_measure!(rows::<$half, f16>),
                f32_pairs: by_measure!(pairs::<$single, f32, f32>),
                f16_pairs: by_measure!(pairs::<$half, f16, f16>),
                mixed_pairs: by_measure!(pairs::<$half, f32, f16>),
                i8_rows: by_measure!(int_rows),
                i8_pairs: by_measure!(int_pairs),
                bit_rows: ByBitMeasure { hamming: bit_rows::<Hamming>, jaccard: bit_rows::<Jaccard> },
                bit_pairs: ByBitMeasure { hamming: bit_pairs::<Hamming>, jaccard: bit_pairs::<Jaccard> },
                single_norm: squared_norm::<$single>,
                half_norm: squared_norm::<$half>,
            };
        }
        pub(super) use entry::TABLE;
    };
}
pub(super) use entries;

/// A processor level that kernels exist for. A value of this type proves that this processor has it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CpuLevel(Level);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl fmt::Debug for CpuLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl CpuLevel {
    /// Every level that this processor has, the slowest first.
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Self(Level::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            use std::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma") && has!("f16c") && has!("popcnt");
            let avx512 = avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512vl");
            if avx2 {
                levels.push(Self(Level::Avx2));
            }
            if avx512 {
                levels.push(Self(Level::Avx512));
            }
            if avx512 && has!("avx512vnni") && has!("avx512vpopcntdq") {
                levels.push(Self(Level::Avx512Vnni));
            }
        }
        #[cfg(target_arch = "aarch64")]
        levels.push(Self(Level::Neon));
        levels
    }

    /// The level that the engine uses: the best of [`CpuLevel::available`], looked up once.
    pub fn detected() -> Self {
        static BEST: OnceLock<CpuLevel> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Self(Level::Portable)))
    }

    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => "avx512-vnni",
            #[cfg(target_arch = "aarch64")]
            Level::Neon => "neon",
        }
    }

    pub(super) fn table(self) -> &'static Table {
        match self.0 {
            Level::Portable => &super::portable::TABLE,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &super::avx2::TABLE,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &super::avx512::TABLE,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => &super::avx512vnni::TABLE,
            #[cfg(target_arch = "aarch64")]
            Level::Neon => &super::neon::TABLE,
        }
    }
}

/// The table of the detected level.
pub(super) fn table() -> &'static Table {
    CpuLevel::detected().table()
}
