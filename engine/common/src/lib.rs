//! What every other crate stands on: error kinds, injected time, randomness and ids.
//!
//! This crate performs no I/O and knows no SQL. Anything in Triune that needs the time, a random
//! number or a fresh id asks a [`Clock`], [`Rng`] or [`IdGen`], so that storage and sessions can be
//! run under deterministic simulation.

pub mod clock;
pub mod error;
pub mod names;
pub mod random;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Error, ErrorKind, Position, Result};
pub use random::{IdGen, RandomIdGen, Rng, SeededIdGen, SeededRng, SystemRng};
