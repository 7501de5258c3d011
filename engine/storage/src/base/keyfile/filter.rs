//! A split-block Bloom filter: one cache line tells that a key is not there.
//!
//! Eight bits of a 32-byte block are set for a key. At 10 bits per key, 1.2 % of absent keys pass.

/// Bytes of a block.
pub(super) const BLOCK: usize = 32;

/// Bits per key.
const BITS: usize = 10;

/// Odd numbers that make eight independent bit positions of one hash.
const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// Where a filter lies in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter {
    start: usize,
    blocks: usize,
}

impl Filter {
    pub(super) fn new(start: usize, blocks: usize) -> Self {
        Self { start, blocks }
    }

    /// `false` only for keys that are not in the file.
    pub(super) fn may_hold(self, file: &[u8], hash: u64) -> bool {
        let start = self.start + block_of(hash, self.blocks) * BLOCK;
        let (words, _) = file[start..start + BLOCK].as_chunks::<4>();
        words.iter().zip(SALTS).all(|(word, salt)| u32::from_le_bytes(*word) & bit(hash, salt) != 0)
    }
}

/// How many blocks a filter for so many keys has; at least one.
pub(super) fn blocks_for(keys: usize) -> usize {
    keys.saturating_mul(BITS).div_ceil(BLOCK * 8).max(1)
}

/// The filter of these hashes.
pub(super) fn build(hashes: impl Iterator<Item = u64>, blocks: usize) -> Vec<u8> {
    let mut words = vec![[0u32; 8]; blocks];
    for hash in hashes {
        for (word, salt) in words[block_of(hash, blocks)].iter_mut().zip(SALTS) {
            *word |= bit(hash, salt);
        }
    }
    words.iter().flatten().flat_map(|w| w.to_le_bytes()).collect()
}

/// Spreads integers that lie close together over all 64 bits.
pub(super) fn mix(key: u64) -> u64 {
    let mut h = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ (h >> 31)
}

fn block_of(hash: u64, blocks: usize) -> usize {
    (((hash >> 32) * blocks as u64) >> 32) as usize
}

fn bit(hash: u64, salt: u32) -> u32 {
    1 << ((hash as u32).wrapping_mul(salt) >> 27)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_passes_and_few_others() {
        let blocks = blocks_for(50_000);
        let bytes = build((0..50_000).map(mix), blocks);
        let filter = Filter::new(0, blocks);
        assert!((0..50_000).all(|k| filter.may_hold(&bytes, mix(k))));
        let passed = (50_000..150_000).filter(|k| filter.may_hold(&bytes, mix(*k))).count();
        assert!(passed < 2_000, "{passed} of 100,000 absent keys pass");
    }
}
