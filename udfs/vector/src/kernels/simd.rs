//! What a processor must offer to the kernels: one small trait per element family.
//!
//! ```text
//!            Floats   (f32 lanes; f16 is widened while it is loaded)
//!            Ints     (i8 is widened to i16 while it is loaded, sums are exact i32)
//!            Bits     (whole registers of bits and their population count)
//!               │
//!   Portable · Avx2 · Avx512 · Avx512Vnni · Neon
//! ```
//!
//! The arithmetic itself is written once over these traits (`float.rs`, `measure.rs`, `int.rs`, `bits.rs`), every
//! function of it `#[inline(always)]`, and compiled once per processor by the `#[target_feature]`
//! entry points at the end of the processor's file.
//!
//! Every function here is unsafe for the same two reasons: the processor must have the instructions of
//! the implementing type, and pointers must be readable for as many elements as the name says.

use half::f16;

/// A register of `f32` lanes.
pub(super) trait Floats: Copy + 'static {
    type V: Copy;
    /// How many elements one `load` takes.
    const LANES: usize;

    unsafe fn zero() -> Self::V;
    unsafe fn load(at: *const f32) -> Self::V;
    /// Loads `count < LANES` elements, the other lanes are zero.
    unsafe fn load_part(at: *const f32, count: usize) -> Self::V;
    unsafe fn load_half(at: *const f16) -> Self::V;
    unsafe fn load_half_part(at: *const f16, count: usize) -> Self::V;
    /// `x * y + sum`, fused where the processor can.
    unsafe fn mul_add(x: Self::V, y: Self::V, sum: Self::V) -> Self::V;
    unsafe fn add(x: Self::V, y: Self::V) -> Self::V;
    unsafe fn sub(x: Self::V, y: Self::V) -> Self::V;
    unsafe fn abs(x: Self::V) -> Self::V;
    /// The sum over all lanes, always in the same order.
    unsafe fn sum(x: Self::V) -> f32;
}

/// A register of `i8` elements widened to `i16`, and a register of `i32` sums.
pub(super) trait Ints: Copy + 'static {
    type W: Copy;
    type Acc: Copy;
    /// How many elements one `load` takes.
    const STEP: usize;

    unsafe fn zero() -> Self::Acc;
    unsafe fn ones() -> Self::W;
    unsafe fn load(at: *const i8) -> Self::W;
    /// Loads `count < STEP` elements, the others are zero.
    unsafe fn load_part(at: *const i8, count: usize) -> Self::W;
    unsafe fn sub(x: Self::W, y: Self::W) -> Self::W;
    unsafe fn abs(x: Self::W) -> Self::W;
    /// Adds the products `x * y` to the sums.
    unsafe fn mul_add(x: Self::W, y: Self::W, sums: Self::Acc) -> Self::Acc;
    unsafe fn add(a: Self::Acc, b: Self::Acc) -> Self::Acc;
    unsafe fn sum(sums: Self::Acc) -> i64;
}

/// A register of bits.
pub(super) trait Bits: Copy + 'static {
    type V: Copy;
    type Acc: Copy;
    /// How many bytes one `load` takes.
    const STEP: usize;

    unsafe fn zero() -> Self::Acc;
    unsafe fn load(at: *const u8) -> Self::V;
    /// Loads `count < STEP` bytes, the others are zero.
    unsafe fn load_part(at: *const u8, count: usize) -> Self::V;
    unsafe fn xor(x: Self::V, y: Self::V) -> Self::V;
    unsafe fn and(x: Self::V, y: Self::V) -> Self::V;
    unsafe fn or(x: Self::V, y: Self::V) -> Self::V;
    /// Adds the number of set bits to the sums.
    unsafe fn count(x: Self::V, sums: Self::Acc) -> Self::Acc;
    unsafe fn add(a: Self::Acc, b: Self::Acc) -> Self::Acc;
    unsafe fn sum(sums: Self::Acc) -> u64;
}

/// An element type that a float kernel can read: `f32`, or `f16` which is widened in the register.
pub(super) trait Element: Copy + 'static {
    unsafe fn load<S: Floats>(at: *const Self) -> S::V;
    unsafe fn load_part<S: Floats>(at: *const Self, count: usize) -> S::V;
    fn to_f64(self) -> f64;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<S: Floats>(at: *const Self) -> S::V {
        // SAFETY: the caller answers for the processor and for LANES readable elements.
        unsafe { S::load(at) }
    }

    #[inline(always)]
    unsafe fn load_part<S: Floats>(at: *const Self, count: usize) -> S::V {
        // SAFETY: the caller answers for the processor and for `count` readable elements.
        unsafe { S::load_part(at, count) }
    }

    #[inline]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn load<S: Floats>(at: *const Self) -> S::V {
        // SAFETY: the caller answers for the processor and for LANES readable elements.
        unsafe { S::load_half(at) }
    }

    #[inline(always)]
    unsafe fn load_part<S: Floats>(at: *const Self, count: usize) -> S::V {
        // SAFETY: the caller answers for the processor and for `count` readable elements.
        unsafe { S::load_half_part(at, count) }
    }

    #[inline]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}
