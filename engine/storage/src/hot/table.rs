//! A hash table from keys to places, which never stops the committer for long.
//!
//! ```text
//!  key ─▶ hash ─▶ one of 256 shards ─▶ place of the newest version
//!  fresh  [ keys without a place in the order yet ]       see `hot::order`
//! ```
//!
//! A table that doubles moves all its entries; sharded, a millionth entry moves a few thousand at once.
//!
//! The hash has no secret: who can choose a million keys that collide can as well write a million rows.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use twox_hash::XxHash3_64;

use crate::hot::chunk::Pos;

const SHARDS: usize = 256;

/// Hashes one integer or one string of bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = XxHash3_64::oneshot(bytes);
    }

    /// Both halves of a product with an odd constant (the golden ratio's bits), folded: low and high bits are mixed.
    fn write_u64(&mut self, key: u64) {
        let product = u128::from(key ^ 0x5851_f42d_4c95_7f2d) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    /// The length of a slice, which its hash covers anyway.
    fn write_usize(&mut self, _len: usize) {}
}

type Hashing = BuildHasherDefault<KeyHasher>;

#[derive(Debug)]
pub(super) struct Table<K> {
    /// None until the first entry.
    shards: Vec<HashMap<K, Pos, Hashing>>,
    /// Keys that were entered since [`Self::take_fresh`]; some may be gone again.
    fresh: Vec<K>,
    entries: usize,
    /// Room for entries in all shards.
    capacity: usize,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { shards: Vec::new(), fresh: Vec::new(), entries: 0, capacity: 0 }
    }
}

/// Not the bits by which a shard tells its own entries apart, which are the lowest and the highest seven.
fn shard_of<Q: Hash + ?Sized>(key: &Q) -> usize {
    (Hashing::default().hash_one(key) >> 40) as usize % SHARDS
}

impl<K: Eq + Hash + Clone> Table<K> {
    pub(super) fn get<Q>(&self, key: &Q) -> Option<Pos>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if self.entries == 0 {
            return None;
        }
        self.shards[shard_of(key)].get(key).copied()
    }

    /// Returns the place that the key had before.
    pub(super) fn insert(&mut self, key: K, pos: Pos) -> Option<Pos> {
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, HashMap::default);
        }
        let shard = &mut self.shards[shard_of(&key)];
        if let Some(place) = shard.get_mut(&key) {
            return Some(std::mem::replace(place, pos));
        }
        let before = shard.capacity();
        shard.insert(key.clone(), pos);
        self.capacity += shard.capacity() - before;
        self.entries += 1;
        self.fresh.push(key);
        None
    }

    /// Gives the key the place that `back` finds for its present one; without one the key goes.
    pub(super) fn rewind<Q>(&mut self, key: &Q, back: impl Fn(Pos) -> Option<Pos>)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let Some(shard) = self.shards.get_mut(shard_of(key)) else { return };
        let Some(place) = shard.get_mut(key) else { return };
        match back(*place) {
            Some(pos) => *place = pos,
            None => {
                shard.remove(key);
                self.entries -= 1;
            }
        }
    }

    /// Gives the memory back if there is no entry.
    pub(super) fn shrink(&mut self) {
        if self.entries == 0 {
            *self = Self::default();
        }
    }

    /// The keys that were entered since the last call.
    pub(super) fn take_fresh(&mut self) -> Vec<K> {
        std::mem::take(&mut self.fresh)
    }

    pub(super) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// Bytes without what the keys point to.
    pub(super) fn bytes(&self) -> usize {
        // A byte of control per slot; an eighth of the slots stays free.
        self.capacity * (size_of::<(K, Pos)>() + 1) * 8 / 7
            + self.shards.capacity() * size_of::<HashMap<K, Pos, Hashing>>()
            + self.fresh.capacity() * size_of::<K>()
    }
}
