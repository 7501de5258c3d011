//! The kernels for x86-64 with AVX-512 (F, BW, VL): 512-bit registers and masked loads, so that a length
//! which is no multiple of the register needs no copy.

#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every line is an intrinsic or a pointer read under the two conditions that simd.rs states once"
)]

use std::arch::x86_64::*;

use half::f16;

use super::avx2::Avx2;
use super::simd::{Floats, Ints};

#[derive(Clone, Copy)]
pub(super) struct Avx512;

impl Floats for Avx512 {
    type V = __m512;
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        _mm512_setzero_ps()
    }

    #[inline(always)]
    unsafe fn load(at: *const f32) -> __m512 {
        _mm512_loadu_ps(at)
    }

    #[inline(always)]
    unsafe fn load_part(at: *const f32, count: usize) -> __m512 {
        _mm512_maskz_loadu_ps(((1u32 << count) - 1) as __mmask16, at)
    }

    #[inline(always)]
    unsafe fn load_half(at: *const f16) -> __m512 {
        _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()))
    }

    #[inline(always)]
    unsafe fn load_half_part(at: *const f16, count: usize) -> __m512 {
        _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(((1u32 << count) - 1) as __mmask16, at.cast()))
    }

    #[inline(always)]
    unsafe fn mul_add(x: __m512, y: __m512, sum: __m512) -> __m512 {
        _mm512_fmadd_ps(x, y, sum)
    }

    #[inline(always)]
    unsafe fn add(x: __m512, y: __m512) -> __m512 {
        _mm512_add_ps(x, y)
    }

    #[inline(always)]
    unsafe fn sub(x: __m512, y: __m512) -> __m512 {
        _mm512_sub_ps(x, y)
    }

    #[inline(always)]
    unsafe fn abs(x: __m512) -> __m512 {
        _mm512_abs_ps(x)
    }

    #[inline(always)]
    unsafe fn sum(x: __m512) -> f32 {
        _mm512_reduce_add_ps(x)
    }
}

impl Ints for Avx512 {
    type W = __m512i;
    type Acc = __m512i;
    const STEP: usize = 32;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        _mm512_setzero_si512()
    }

    #[inline(always)]
    unsafe fn ones() -> __m512i {
        _mm512_set1_epi16(1)
    }

    #[inline(always)]
    unsafe fn load(at: *const i8) -> __m512i {
        _mm512_cvtepi8_epi16(_mm256_loadu_si256(at.cast()))
    }

    #[inline(always)]
    unsafe fn load_part(at: *const i8, count: usize) -> __m512i {
        _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(((1u64 << count) - 1) as __mmask32, at))
    }

    #[inline(always)]
    unsafe fn sub(x: __m512i, y: __m512i) -> __m512i {
        _mm512_sub_epi16(x, y)
    }

    #[inline(always)]
    unsafe fn abs(x: __m512i) -> __m512i {
        _mm512_abs_epi16(x)
    }

    #[inline(always)]
    unsafe fn mul_add(x: __m512i, y: __m512i, sums: __m512i) -> __m512i {
        _mm512_add_epi32(sums, _mm512_madd_epi16(x, y))
    }

    #[inline(always)]
    unsafe fn add(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(a, b)
    }

    #[inline(always)]
    unsafe fn sum(sums: __m512i) -> i64 {
        let low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(sums));
        let high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64::<1>(sums));
        _mm512_reduce_add_epi64(_mm512_add_epi64(low, high))
    }
}

// Rows of f32 come from memory faster in 256-bit steps (measured on Zen 4; no slower from the caches in the
// sizes that batches have), f16 gains from converting sixteen at a time. Without VPOPCNTDQ the AVX2 look-up is
// the best way to count bits.
super::dispatch::entries!(
    f32 = Avx2,
    f16 = Avx512,
    i8 = Avx512,
    bits = Avx2,
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c,popcnt")]
);
