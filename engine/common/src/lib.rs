//! What every other crate stands on: error kinds, injected time, randomness and ids.
//!
//! This crate performs no I/O and knows no SQL. Anything in Triune that needs the time, a random
//! number or a fresh id asks a [`Clock`], [`Rng`] or [`IdGen`], so that storage and sessions can be
//! run under deterministic simulation.

pub mod clock;
pub mod error;
pub mod names;
pub mod random;
mod span;

/// `#[boxed] pub async fn …` returns `Pin<Box<dyn Future + Send>>`.
///
/// The compiler translates the body of an `async fn` where it is first polled. That of a library's public one
/// would be translated again in every crate and every test binary that calls it, with all that lies beneath it
/// down to Lance: minutes each. Boxed, it is translated once, where it is written. The macro was made for functions
/// that call themselves, and does just this.
pub use async_recursion::async_recursion as boxed;
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Error, ErrorKind, Position, Result};
pub use random::{IdGen, RandomIdGen, Rng, SeededIdGen, SeededRng, SystemRng};
pub use span::write_span;
