//! What was embedded before: the same text comes again in the next query, or in an UPDATE that leaves it as it is.
//!
//! Two generations: what is asked for moves into the young one; when that is full, the old one is forgotten and the young
//! one becomes old. Bytes are taken from the memory pool first; where it has none left, nothing is remembered.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use parking_lot::Mutex;

use crate::Embedding;

/// Bytes of one generation.
const GENERATION: usize = 8 << 20;

/// What an entry takes besides its text and its numbers.
const ENTRY: usize = 128;

type Generation = HashMap<Arc<str>, Embedding>;

#[derive(Debug)]
pub(crate) struct Cache(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    young: Generation,
    young_bytes: usize,
    old: Generation,
    old_bytes: usize,
    memory: MemoryReservation,
}

impl Cache {
    pub(crate) fn new(memory: &Arc<dyn MemoryPool>) -> Self {
        let memory = MemoryConsumer::new("cache of embeddings").register(memory);
        let inner = Inner {
            young: Generation::default(),
            young_bytes: 0,
            old: Generation::default(),
            old_bytes: 0,
            memory,
        };
        Self(Mutex::new(inner))
    }

    /// The vectors that are known, by their texts.
    pub(crate) fn get<'a>(
        &self,
        texts: impl Iterator<Item = &'a str>,
    ) -> HashMap<Arc<str>, Option<Embedding>> {
        let mut inner = self.0.lock();
        let mut found = HashMap::new();
        for text in texts {
            if let Some((key, vector)) = inner.look_up(text) {
                found.insert(key, Some(vector));
            }
        }
        found
    }

    pub(crate) fn put(&self, text: &Arc<str>, vector: &Embedding) {
        let mut inner = self.0.lock();
        let bytes = size(text, vector);
        if bytes > GENERATION / 16 || inner.memory.try_grow(bytes).is_err() {
            return;
        }
        inner.add(Arc::clone(text), Arc::clone(vector), bytes);
    }
}

fn size(text: &str, vector: &[f32]) -> usize {
    text.len() + size_of_val(vector) + ENTRY
}

impl Inner {
    fn look_up(&mut self, text: &str) -> Option<(Arc<str>, Embedding)> {
        if let Some((key, vector)) = self.young.get_key_value(text) {
            return Some((Arc::clone(key), Arc::clone(vector)));
        }
        let (key, vector) = self.old.remove_entry(text)?;
        let bytes = size(&key, &vector);
        self.old_bytes -= bytes;
        self.add(Arc::clone(&key), Arc::clone(&vector), bytes);
        Some((key, vector))
    }

    /// The bytes have been taken from the pool.
    fn add(&mut self, key: Arc<str>, vector: Embedding, bytes: usize) {
        if self.young_bytes + bytes > GENERATION {
            self.memory.shrink(self.old_bytes);
            self.old = mem::take(&mut self.young);
            self.old_bytes = mem::take(&mut self.young_bytes);
        }
        if self.young.insert(key, vector).is_none() {
            self.young_bytes += bytes;
        } else {
            self.memory.shrink(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    fn text(n: usize) -> Arc<str> {
        Arc::from(format!("text {n}"))
    }

    #[test]
    fn what_was_asked_for_lately_stays_within_bounds() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 30));
        let cache = Cache::new(&pool);
        let vector: Embedding = vec![1.0; 1024].into();
        for n in 0..10_000 {
            cache.put(&text(n), &vector);
            assert_eq!(cache.get(["text 0"].into_iter()).len(), 1, "it is asked for all the time");
            assert!(pool.reserved() <= 2 * GENERATION);
        }
        assert_eq!(cache.get(["text 9999"].into_iter()).len(), 1);
        assert_eq!(cache.get(["text 1"].into_iter()).len(), 0);
        drop(cache);
        assert_eq!(pool.reserved(), 0);
    }

    #[test]
    fn without_memory_nothing_is_remembered() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let cache = Cache::new(&pool);
        cache.put(&text(1), &vec![1.0; 100].into());
        assert_eq!(cache.get(["text 1"].into_iter()).len(), 0);
        assert_eq!(pool.reserved(), 0);
    }
}
