//! The kernels for x86-64 with AVX2, FMA and F16C (2013 and later): 256-bit registers.

#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every line is an intrinsic or a pointer read under the two conditions that simd.rs states once"
)]

use std::arch::x86_64::*;

use half::f16;

use super::simd::{Bits, Floats, Ints};

#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// Eight lanes on, eight lanes off: read from `8 - n` it is the mask of the first `n` lanes.
static LANE_MASK: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl Floats for Avx2 {
    type V = __m256;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        _mm256_setzero_ps()
    }

    #[inline(always)]
    unsafe fn load(at: *const f32) -> __m256 {
        _mm256_loadu_ps(at)
    }

    #[inline(always)]
    unsafe fn load_part(at: *const f32, count: usize) -> __m256 {
        let mask = _mm256_loadu_si256(LANE_MASK.as_ptr().add(8 - count).cast());
        _mm256_maskload_ps(at, mask)
    }

    #[inline(always)]
    unsafe fn load_half(at: *const f16) -> __m256 {
        _mm256_cvtph_ps(_mm_loadu_si128(at.cast()))
    }

    #[inline(always)]
    unsafe fn load_half_part(at: *const f16, count: usize) -> __m256 {
        let mut bits = [0u16; 8];
        std::ptr::copy_nonoverlapping(at.cast::<u16>(), bits.as_mut_ptr(), count);
        _mm256_cvtph_ps(_mm_loadu_si128(bits.as_ptr().cast()))
    }

    #[inline(always)]
    unsafe fn mul_add(x: __m256, y: __m256, sum: __m256) -> __m256 {
        _mm256_fmadd_ps(x, y, sum)
    }

    #[inline(always)]
    unsafe fn add(x: __m256, y: __m256) -> __m256 {
        _mm256_add_ps(x, y)
    }

    #[inline(always)]
    unsafe fn sub(x: __m256, y: __m256) -> __m256 {
        _mm256_sub_ps(x, y)
    }

    #[inline(always)]
    unsafe fn abs(x: __m256) -> __m256 {
        _mm256_andnot_ps(_mm256_set1_ps(-0.0), x)
    }

    #[inline(always)]
    unsafe fn sum(x: __m256) -> f32 {
        let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
}

impl Ints for Avx2 {
    type W = __m256i;
    type Acc = __m256i;
    const STEP: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        _mm256_setzero_si256()
    }

    #[inline(always)]
    unsafe fn ones() -> __m256i {
        _mm256_set1_epi16(1)
    }

    #[inline(always)]
    unsafe fn load(at: *const i8) -> __m256i {
        _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast()))
    }

    #[inline(always)]
    unsafe fn load_part(at: *const i8, count: usize) -> __m256i {
        let mut bytes = [0i8; 16];
        std::ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), count);
        _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes.as_ptr().cast()))
    }

    #[inline(always)]
    unsafe fn sub(x: __m256i, y: __m256i) -> __m256i {
        _mm256_sub_epi16(x, y)
    }

    #[inline(always)]
    unsafe fn abs(x: __m256i) -> __m256i {
        _mm256_abs_epi16(x)
    }

    #[inline(always)]
    unsafe fn mul_add(x: __m256i, y: __m256i, sums: __m256i) -> __m256i {
        _mm256_add_epi32(sums, _mm256_madd_epi16(x, y))
    }

    #[inline(always)]
    unsafe fn add(a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi32(a, b)
    }

    #[inline(always)]
    unsafe fn sum(sums: __m256i) -> i64 {
        let four = _mm_add_epi64(
            widened_sum(_mm256_castsi256_si128(sums)),
            widened_sum(_mm256_extracti128_si256::<1>(sums)),
        );
        _mm_cvtsi128_si64(_mm_add_epi64(four, _mm_unpackhi_epi64(four, four)))
    }
}

/// Four `i32` lanes as two `i64` sums.
#[inline(always)]
unsafe fn widened_sum(x: __m128i) -> __m128i {
    _mm_add_epi64(_mm_cvtepi32_epi64(x), _mm_cvtepi32_epi64(_mm_unpackhi_epi64(x, x)))
}

impl Bits for Avx2 {
    type V = __m256i;
    type Acc = __m256i;
    const STEP: usize = 32;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        _mm256_setzero_si256()
    }

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m256i {
        _mm256_loadu_si256(at.cast())
    }

    #[inline(always)]
    unsafe fn load_part(at: *const u8, count: usize) -> __m256i {
        let mut bytes = [0u8; 32];
        std::ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), count);
        _mm256_loadu_si256(bytes.as_ptr().cast())
    }

    #[inline(always)]
    unsafe fn xor(x: __m256i, y: __m256i) -> __m256i {
        _mm256_xor_si256(x, y)
    }

    #[inline(always)]
    unsafe fn and(x: __m256i, y: __m256i) -> __m256i {
        _mm256_and_si256(x, y)
    }

    #[inline(always)]
    unsafe fn or(x: __m256i, y: __m256i) -> __m256i {
        _mm256_or_si256(x, y)
    }

    /// Looks both nibbles of every byte up in a table of counts (Muła's method), then adds eight bytes at a
    /// time into four 64-bit sums.
    #[inline(always)]
    unsafe fn count(x: __m256i, sums: __m256i) -> __m256i {
        let table = _mm256_setr_epi8(
            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, //
            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
        );
        let nibble = _mm256_set1_epi8(0x0f);
        let low = _mm256_shuffle_epi8(table, _mm256_and_si256(x, nibble));
        let high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(x), nibble));
        let bytes = _mm256_add_epi8(low, high);
        _mm256_add_epi64(sums, _mm256_sad_epu8(bytes, _mm256_setzero_si256()))
    }

    #[inline(always)]
    unsafe fn add(a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi64(a, b)
    }

    #[inline(always)]
    unsafe fn sum(sums: __m256i) -> u64 {
        let two = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        _mm_cvtsi128_si64(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two))) as u64
    }
}

super::dispatch::entries!(f32 = Avx2, f16 = Avx2, i8 = Avx2, bits = Avx2, #[target_feature(enable = "avx2,fma,f16c,popcnt")]);
