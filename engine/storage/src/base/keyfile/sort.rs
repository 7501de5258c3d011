//! Sorting keys by radix: each pass moves every row by one byte of its key, so comparing is never needed.

/// Sorts `keys` together with `rows`, equal keys in the order in which they came.
///
/// Least significant byte first; a byte that is the same in all keys costs nothing, so that ids within a
/// range of 2³² take four passes. Needs as much memory again as the two hold.
pub(super) fn sort_pairs(keys: &mut Vec<u64>, rows: &mut Vec<u32>) {
    let n = keys.len();
    if n < 256 {
        let mut pairs: Vec<(u64, u32)> = keys.iter().copied().zip(rows.iter().copied()).collect();
        pairs.sort_by_key(|(k, _)| *k);
        for (i, (k, r)) in pairs.into_iter().enumerate() {
            (keys[i], rows[i]) = (k, r);
        }
        return;
    }
    let mut counts = vec![[0usize; 256]; 8];
    for key in keys.iter() {
        for (count, byte) in counts.iter_mut().zip(key.to_le_bytes()) {
            count[usize::from(byte)] += 1;
        }
    }
    let (mut other_keys, mut other_rows) = (vec![0u64; n], vec![0u32; n]);
    for (byte, count) in counts.iter().enumerate() {
        if count.contains(&n) {
            continue;
        }
        let mut next = [0usize; 256];
        let mut sum = 0;
        for (at, c) in next.iter_mut().zip(count) {
            *at = sum;
            sum += c;
        }
        for (key, row) in keys.iter().zip(rows.iter()) {
            let at = &mut next[usize::from(key.to_le_bytes()[byte])];
            other_keys[*at] = *key;
            other_rows[*at] = *row;
            *at += 1;
        }
        std::mem::swap(keys, &mut other_keys);
        std::mem::swap(rows, &mut other_rows);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn like_a_stable_sort(
            keys in prop::collection::vec(prop_oneof![any::<u64>(), 0u64..50, Just(u64::MAX)], 0..900),
        ) {
            let mut want: Vec<(u64, u32)> = keys.iter().copied().zip(0..).collect();
            want.sort_by_key(|(k, _)| *k);
            let mut rows: Vec<u32> = (0..).take(keys.len()).collect();
            let mut keys = keys;
            sort_pairs(&mut keys, &mut rows);
            let got: Vec<(u64, u32)> = keys.into_iter().zip(rows).collect();
            prop_assert_eq!(got, want);
        }
    }
}
