//! The kernels for x86-64 with AVX-512 as in `avx512.rs` and its VNNI and VPOPCNTDQ parts (Ice Lake, Zen 4):
//! integer products are summed by one instruction, and bits are counted by one.

#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every line is an intrinsic or a pointer read under the two conditions that simd.rs states once"
)]

use std::arch::x86_64::*;

use super::avx2::Avx2;
use super::avx512::Avx512;
use super::simd::{Bits, Ints};

#[derive(Clone, Copy)]
pub(super) struct Avx512Vnni;

impl Ints for Avx512Vnni {
    type W = __m512i;
    type Acc = __m512i;
    const STEP: usize = 32;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        <Avx512 as Ints>::zero()
    }

    #[inline(always)]
    unsafe fn ones() -> __m512i {
        <Avx512 as Ints>::ones()
    }

    #[inline(always)]
    unsafe fn load(at: *const i8) -> __m512i {
        <Avx512 as Ints>::load(at)
    }

    #[inline(always)]
    unsafe fn load_part(at: *const i8, count: usize) -> __m512i {
        <Avx512 as Ints>::load_part(at, count)
    }

    #[inline(always)]
    unsafe fn sub(x: __m512i, y: __m512i) -> __m512i {
        <Avx512 as Ints>::sub(x, y)
    }

    #[inline(always)]
    unsafe fn abs(x: __m512i) -> __m512i {
        <Avx512 as Ints>::abs(x)
    }

    #[inline(always)]
    unsafe fn mul_add(x: __m512i, y: __m512i, sums: __m512i) -> __m512i {
        _mm512_dpwssd_epi32(sums, x, y)
    }

    #[inline(always)]
    unsafe fn add(a: __m512i, b: __m512i) -> __m512i {
        <Avx512 as Ints>::add(a, b)
    }

    #[inline(always)]
    unsafe fn sum(sums: __m512i) -> i64 {
        <Avx512 as Ints>::sum(sums)
    }
}

impl Bits for Avx512Vnni {
    type V = __m512i;
    type Acc = __m512i;
    const STEP: usize = 64;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        _mm512_setzero_si512()
    }

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512i {
        _mm512_loadu_si512(at.cast())
    }

    #[inline(always)]
    unsafe fn load_part(at: *const u8, count: usize) -> __m512i {
        _mm512_maskz_loadu_epi8((1u64 << count) - 1, at.cast())
    }

    #[inline(always)]
    unsafe fn xor(x: __m512i, y: __m512i) -> __m512i {
        _mm512_xor_si512(x, y)
    }

    #[inline(always)]
    unsafe fn and(x: __m512i, y: __m512i) -> __m512i {
        _mm512_and_si512(x, y)
    }

    #[inline(always)]
    unsafe fn or(x: __m512i, y: __m512i) -> __m512i {
        _mm512_or_si512(x, y)
    }

    #[inline(always)]
    unsafe fn count(x: __m512i, sums: __m512i) -> __m512i {
        _mm512_add_epi64(sums, _mm512_popcnt_epi64(x))
    }

    #[inline(always)]
    unsafe fn add(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi64(a, b)
    }

    #[inline(always)]
    unsafe fn sum(sums: __m512i) -> u64 {
        _mm512_reduce_add_epi64(sums) as u64
    }
}

super::dispatch::entries!(
    f32 = Avx2,
    f16 = Avx512,
    i8 = Avx512Vnni,
    bits = Avx512Vnni,
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq,avx2,fma,f16c,popcnt")]
);
