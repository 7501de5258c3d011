//! The kernels for 64-bit ARM: NEON is part of the architecture, nothing needs to be detected.

#![expect(
    unsafe_op_in_unsafe_fn,
    reason = "every line is an intrinsic or a pointer read under the two conditions that simd.rs states once"
)]

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;

use super::simd::{Bits, Floats, Ints};

#[derive(Clone, Copy)]
pub(super) struct Neon;

/// Four halves widened by FCVTL, which is in every ARMv8 although its intrinsic asks for more.
#[inline(always)]
unsafe fn widen(bits: uint16x4_t) -> float32x4_t {
    let out: float32x4_t;
    // SAFETY: reads one register and writes another.
    asm!(
        "fcvtl {out:v}.4s, {bits:v}.4h",
        out = out(vreg) out,
        bits = in(vreg) bits,
        options(pure, nomem, nostack, preserves_flags)
    );
    out
}

impl Floats for Neon {
    /// Two registers: more sums side by side, and a part is at most seven elements as on the others.
    type V = float32x4x2_t;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self::V {
        float32x4x2_t(vdupq_n_f32(0.0), vdupq_n_f32(0.0))
    }

    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self::V {
        float32x4x2_t(vld1q_f32(at), vld1q_f32(at.add(4)))
    }

    #[inline(always)]
    unsafe fn load_part(at: *const f32, count: usize) -> Self::V {
        let mut part = [0f32; 8];
        std::ptr::copy_nonoverlapping(at, part.as_mut_ptr(), count);
        <Self as Floats>::load(part.as_ptr())
    }

    #[inline(always)]
    unsafe fn load_half(at: *const f16) -> Self::V {
        let bits = vld1q_u16(at.cast());
        float32x4x2_t(widen(vget_low_u16(bits)), widen(vget_high_u16(bits)))
    }

    #[inline(always)]
    unsafe fn load_half_part(at: *const f16, count: usize) -> Self::V {
        let mut part = [f16::ZERO; 8];
        std::ptr::copy_nonoverlapping(at, part.as_mut_ptr(), count);
        Self::load_half(part.as_ptr())
    }

    #[inline(always)]
    unsafe fn mul_add(x: Self::V, y: Self::V, sum: Self::V) -> Self::V {
        float32x4x2_t(vfmaq_f32(sum.0, x.0, y.0), vfmaq_f32(sum.1, x.1, y.1))
    }

    #[inline(always)]
    unsafe fn add(x: Self::V, y: Self::V) -> Self::V {
        float32x4x2_t(vaddq_f32(x.0, y.0), vaddq_f32(x.1, y.1))
    }

    #[inline(always)]
    unsafe fn sub(x: Self::V, y: Self::V) -> Self::V {
        float32x4x2_t(vsubq_f32(x.0, y.0), vsubq_f32(x.1, y.1))
    }

    #[inline(always)]
    unsafe fn abs(x: Self::V) -> Self::V {
        float32x4x2_t(vabsq_f32(x.0), vabsq_f32(x.1))
    }

    #[inline(always)]
    unsafe fn sum(x: Self::V) -> f32 {
        vaddvq_f32(vaddq_f32(x.0, x.1))
    }
}

impl Ints for Neon {
    type W = int16x8_t;
    type Acc = int32x4_t;
    const STEP: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> int32x4_t {
        vdupq_n_s32(0)
    }

    #[inline(always)]
    unsafe fn ones() -> int16x8_t {
        vdupq_n_s16(1)
    }

    #[inline(always)]
    unsafe fn load(at: *const i8) -> int16x8_t {
        vmovl_s8(vld1_s8(at))
    }

    #[inline(always)]
    unsafe fn load_part(at: *const i8, count: usize) -> int16x8_t {
        let mut part = [0i8; 8];
        std::ptr::copy_nonoverlapping(at, part.as_mut_ptr(), count);
        <Self as Ints>::load(part.as_ptr())
    }

    #[inline(always)]
    unsafe fn sub(x: int16x8_t, y: int16x8_t) -> int16x8_t {
        vsubq_s16(x, y)
    }

    #[inline(always)]
    unsafe fn abs(x: int16x8_t) -> int16x8_t {
        vabsq_s16(x)
    }

    #[inline(always)]
    unsafe fn mul_add(x: int16x8_t, y: int16x8_t, sums: int32x4_t) -> int32x4_t {
        vmlal_high_s16(vmlal_s16(sums, vget_low_s16(x), vget_low_s16(y)), x, y)
    }

    #[inline(always)]
    unsafe fn add(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        vaddq_s32(a, b)
    }

    #[inline(always)]
    unsafe fn sum(sums: int32x4_t) -> i64 {
        vaddlvq_s32(sums)
    }
}

impl Bits for Neon {
    type V = uint8x16_t;
    type Acc = uint64x2_t;
    const STEP: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> uint64x2_t {
        vdupq_n_u64(0)
    }

    #[inline(always)]
    unsafe fn load(at: *const u8) -> uint8x16_t {
        vld1q_u8(at)
    }

    #[inline(always)]
    unsafe fn load_part(at: *const u8, count: usize) -> uint8x16_t {
        let mut part = [0u8; 16];
        std::ptr::copy_nonoverlapping(at, part.as_mut_ptr(), count);
        vld1q_u8(part.as_ptr())
    }

    #[inline(always)]
    unsafe fn xor(x: uint8x16_t, y: uint8x16_t) -> uint8x16_t {
        veorq_u8(x, y)
    }

    #[inline(always)]
    unsafe fn and(x: uint8x16_t, y: uint8x16_t) -> uint8x16_t {
        vandq_u8(x, y)
    }

    #[inline(always)]
    unsafe fn or(x: uint8x16_t, y: uint8x16_t) -> uint8x16_t {
        vorrq_u8(x, y)
    }

    #[inline(always)]
    unsafe fn count(x: uint8x16_t, sums: uint64x2_t) -> uint64x2_t {
        vpadalq_u32(sums, vpaddlq_u16(vpaddlq_u8(vcntq_u8(x))))
    }

    #[inline(always)]
    unsafe fn add(a: uint64x2_t, b: uint64x2_t) -> uint64x2_t {
        vaddq_u64(a, b)
    }

    #[inline(always)]
    unsafe fn sum(sums: uint64x2_t) -> u64 {
        vaddvq_u64(sums)
    }
}

super::dispatch::entries!(f32 = Neon, f16 = Neon, i8 = Neon, bits = Neon, #[target_feature(enable = "neon")]);
