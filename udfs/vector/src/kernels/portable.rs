//! The kernels for any processor: fixed arrays that the compiler turns into whatever registers it may use.
//!
//! This is the fallback where no other level is detected, and the reference that the others are tested
//! against. Nothing in it needs a processor feature, so the functions are unsafe only by their trait.

#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "pointer reads whose length the traits of simd.rs put on the caller"
)]

use std::array::from_fn;

use half::f16;

use super::simd::{Bits, Floats, Ints};

#[derive(Clone, Copy)]
pub(super) struct Portable;

/// Half to single without a table or a branch: shift into place, multiply the exponent up, repair infinity
/// and NaN. The multiplication also makes subnormal halves normal.
#[inline(always)]
fn widen(h: u16) -> f32 {
    let sign = u32::from(h & 0x8000) << 16;
    let magnitude = u32::from(h & 0x7fff) << 13;
    let scaled = f32::from_bits(magnitude) * f32::from_bits(0x7780_0000); // 2^112
    let special = if h & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(scaled.to_bits() | special | sign)
}

impl Floats for Portable {
    type V = [f32; 4];
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self::V {
        [0.0; 4]
    }

    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self::V {
        at.cast::<[f32; 4]>().read_unaligned()
    }

    #[inline(always)]
    unsafe fn load_part(at: *const f32, count: usize) -> Self::V {
        let mut out = [0.0; 4];
        std::ptr::copy_nonoverlapping(at, out.as_mut_ptr(), count);
        out
    }

    #[inline(always)]
    unsafe fn load_half(at: *const f16) -> Self::V {
        at.cast::<[u16; 4]>().read_unaligned().map(widen)
    }

    #[inline(always)]
    unsafe fn load_half_part(at: *const f16, count: usize) -> Self::V {
        let mut bits = [0u16; 4];
        std::ptr::copy_nonoverlapping(at.cast::<u16>(), bits.as_mut_ptr(), count);
        bits.map(widen)
    }

    #[inline(always)]
    unsafe fn mul_add(x: Self::V, y: Self::V, sum: Self::V) -> Self::V {
        // Not f32::mul_add: without an FMA instruction that is a library call per lane.
        from_fn(|i| x[i] * y[i] + sum[i])
    }

    #[inline(always)]
    unsafe fn add(x: Self::V, y: Self::V) -> Self::V {
        from_fn(|i| x[i] + y[i])
    }

    #[inline(always)]
    unsafe fn sub(x: Self::V, y: Self::V) -> Self::V {
        from_fn(|i| x[i] - y[i])
    }

    #[inline(always)]
    unsafe fn abs(x: Self::V) -> Self::V {
        x.map(f32::abs)
    }

    #[inline(always)]
    unsafe fn sum(x: Self::V) -> f32 {
        (x[0] + x[2]) + (x[1] + x[3])
    }
}

impl Ints for Portable {
    type W = [i16; 8];
    /// Two products go into each sum, which compilers know as one instruction on many processors.
    type Acc = [i32; 4];
    const STEP: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self::Acc {
        [0; 4]
    }

    #[inline(always)]
    unsafe fn ones() -> Self::W {
        [1; 8]
    }

    #[inline(always)]
    unsafe fn load(at: *const i8) -> Self::W {
        at.cast::<[i8; 8]>().read_unaligned().map(i16::from)
    }

    #[inline(always)]
    unsafe fn load_part(at: *const i8, count: usize) -> Self::W {
        let mut bytes = [0i8; 8];
        std::ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), count);
        bytes.map(i16::from)
    }

    #[inline(always)]
    unsafe fn sub(x: Self::W, y: Self::W) -> Self::W {
        from_fn(|i| x[i] - y[i])
    }

    #[inline(always)]
    unsafe fn abs(x: Self::W) -> Self::W {
        x.map(i16::abs)
    }

    #[inline(always)]
    unsafe fn mul_add(x: Self::W, y: Self::W, sums: Self::Acc) -> Self::Acc {
        from_fn(|i| {
            let (j, k) = (2 * i, 2 * i + 1);
            sums[i] + i32::from(x[j]) * i32::from(y[j]) + i32::from(x[k]) * i32::from(y[k])
        })
    }

    #[inline(always)]
    unsafe fn add(a: Self::Acc, b: Self::Acc) -> Self::Acc {
        from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    unsafe fn sum(sums: Self::Acc) -> i64 {
        sums.iter().map(|&s| i64::from(s)).sum()
    }
}

impl Bits for Portable {
    type V = u64;
    type Acc = u64;
    const STEP: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> u64 {
        0
    }

    #[inline(always)]
    unsafe fn load(at: *const u8) -> u64 {
        at.cast::<u64>().read_unaligned()
    }

    #[inline(always)]
    unsafe fn load_part(at: *const u8, count: usize) -> u64 {
        let mut bytes = [0u8; 8];
        std::ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), count);
        u64::from_ne_bytes(bytes)
    }

    #[inline(always)]
    unsafe fn xor(x: u64, y: u64) -> u64 {
        x ^ y
    }

    #[inline(always)]
    unsafe fn and(x: u64, y: u64) -> u64 {
        x & y
    }

    #[inline(always)]
    unsafe fn or(x: u64, y: u64) -> u64 {
        x | y
    }

    #[inline(always)]
    unsafe fn count(x: u64, sums: u64) -> u64 {
        sums + u64::from(x.count_ones())
    }

    #[inline(always)]
    unsafe fn add(a: u64, b: u64) -> u64 {
        a + b
    }

    #[inline(always)]
    unsafe fn sum(sums: u64) -> u64 {
        sums
    }
}

super::dispatch::entries!(f32 = Portable, f16 = Portable, i8 = Portable, bits = Portable,);
