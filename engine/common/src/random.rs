//! Randomness and ids, as arguments.

use std::fmt::Debug;

use parking_lot::Mutex;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha20Rng;
use uuid::Uuid;

/// A source of random bytes. The system's is fit for keys and nonces; a seeded one is for tests.
pub trait Rng: Debug + Send + Sync {
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's randomness through a ChaCha20 generator.
#[derive(Debug)]
pub struct SystemRng {
    inner: Mutex<ChaCha20Rng>,
}

impl SystemRng {
    pub fn new() -> Self {
        Self { inner: Mutex::new(ChaCha20Rng::from_os_rng()) }
    }
}

impl Default for SystemRng {
    fn default() -> Self {
        Self::new()
    }
}

impl Rng for SystemRng {
    fn fill(&self, bytes: &mut [u8]) {
        self.inner.lock().fill_bytes(bytes);
    }
}

/// The same bytes for the same seed, for tests and simulations.
#[derive(Debug)]
pub struct SeededRng {
    inner: Mutex<ChaCha20Rng>,
}

impl SeededRng {
    pub fn new(seed: u64) -> Self {
        Self { inner: Mutex::new(ChaCha20Rng::seed_from_u64(seed)) }
    }

    /// A number below `bound`, and 0 when `bound` is 0. Not exactly uniform for bounds near 2^64.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.inner.lock().next_u64() % bound }
    }

    /// `true` once in `n` on average.
    pub fn one_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }
}

impl Rng for SeededRng {
    fn fill(&self, bytes: &mut [u8]) {
        self.inner.lock().fill_bytes(bytes);
    }
}

/// A source of unique ids: statements, temporary files, writers.
pub trait IdGen: Debug + Send + Sync {
    fn next_id(&self) -> Uuid;
}

/// Random version 4 ids.
#[derive(Debug, Default)]
pub struct RandomIdGen {
    rng: SystemRng,
}

impl IdGen for RandomIdGen {
    fn next_id(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.rng.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

/// The same ids for the same seed.
#[derive(Debug)]
pub struct SeededIdGen {
    inner: Mutex<ChaCha20Rng>,
}

impl SeededIdGen {
    pub fn new(seed: u64) -> Self {
        Self { inner: Mutex::new(ChaCha20Rng::seed_from_u64(seed)) }
    }
}

impl IdGen for SeededIdGen {
    fn next_id(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.inner.lock().fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_ids_repeat_and_differ_among_themselves() {
        let (a, b) = (SeededIdGen::new(7), SeededIdGen::new(7));
        let first: Vec<_> = (0..100).map(|_| a.next_id()).collect();
        let second: Vec<_> = (0..100).map(|_| b.next_id()).collect();
        assert_eq!(first, second);
        let distinct: std::collections::HashSet<_> = first.iter().collect();
        assert_eq!(distinct.len(), 100);
    }
}
