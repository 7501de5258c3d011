//! Rows that a reader is not to see, although the dataset has them.
//!
//! ```text
//!  dataset   fragment 0 [· · ✗ · ✗ ·]   fragment 1 [· · · ·]      mask {2, 4}
//!  scan                 [· ·   ·   ·]              [· · · ·]      12 − 2 rows, exactly
//! ```
//!
//! A mask names rows by address: the fragment's id times 2³² plus the row's place in it. It applies below
//! everything: conditions are not evaluated on masked rows, counts leave them out, and an index never
//! returns one. Addresses of fragments that the dataset does not have are ignored.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::{BooleanArray, BooleanBufferBuilder, RecordBatch};
use arrow::compute::filter_record_batch;
use lance::dataset::scanner::{RowAddrMask, RowAddrTreeMap};
use roaring::RoaringTreemap;
use triune_common::Result;

/// A mask and its forms.
#[derive(Debug)]
pub(crate) struct RowMask {
    rows: Arc<RoaringTreemap>,
    /// How many of the dataset's rows are masked.
    pub(crate) masked: u64,
    block: OnceLock<RowAddrMask>,
}

impl RowMask {
    pub(crate) fn new(rows: Arc<RoaringTreemap>, masked: u64) -> Self {
        Self { rows, masked, block: OnceLock::new() }
    }

    /// Masked rows of one fragment, at these places.
    pub(crate) fn count(&self, fragment: u64, places: Range<u64>) -> u64 {
        self.rows.range_cardinality(fragment << 32 | places.start..fragment << 32 | places.end)
    }

    pub(crate) fn rows(&self) -> &Arc<RoaringTreemap> {
        &self.rows
    }

    pub(crate) fn hides(&self, address: u64) -> bool {
        self.rows.contains(address)
    }

    /// The mask as Lance's searches take it.
    pub(crate) fn block(&self) -> &RowAddrMask {
        self.block.get_or_init(|| {
            let mut list = RowAddrTreeMap::new();
            for (fragment, rows) in self.rows.bitmaps() {
                list.insert_bitmap(fragment, rows.clone());
            }
            RowAddrMask::from_block(list)
        })
    }

    /// The rows of `batch` that are not masked; `addresses` are theirs and grow.
    pub(crate) fn apply(&self, batch: RecordBatch, addresses: &[u64]) -> Result<RecordBatch> {
        let (Some(first), Some(last)) = (addresses.first(), addresses.last()) else { return Ok(batch) };
        let mut masked = self.rows.iter();
        masked.advance_to(*first);
        let mut masked = masked.take_while(|a| a <= last).peekable();
        if masked.peek().is_none() {
            return Ok(batch);
        }
        let mut keep = BooleanBufferBuilder::new(addresses.len());
        keep.append_n(addresses.len(), true);
        let consecutive = last - first == addresses.len() as u64 - 1;
        let mut from = 0;
        for address in masked {
            let place = if consecutive {
                usize::try_from(address - first).unwrap_or(usize::MAX)
            } else {
                match addresses[from..].binary_search(&address) {
                    Ok(i) => from + i,
                    Err(i) => {
                        from += i;
                        continue;
                    }
                }
            };
            keep.set_bit(place, false);
            from = place;
        }
        Ok(filter_record_batch(&batch, &BooleanArray::new(keep.finish(), None))?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, UInt64Array};
    use arrow::datatypes::UInt64Type;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn masked_rows_are_dropped_and_no_others(
            gaps in prop::collection::vec(1u64..4, 0..200),
            masked in prop::collection::vec(0u64..500, 0..60),
            base in prop_oneof![Just(0u64), Just(3 << 32)],
        ) {
            let addresses: Vec<u64> = gaps.iter().scan(base, |at, g| { *at += g; Some(*at) }).collect();
            let rows: RoaringTreemap = masked.iter().map(|m| base + m).collect();
            let mask = RowMask::new(Arc::new(rows.clone()), 0);
            let column = Arc::new(UInt64Array::from(addresses.clone())) as _;
            let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
            let got = mask.apply(batch, &addresses).unwrap();
            let got = got.column(0).as_primitive::<UInt64Type>().values().to_vec();
            let want: Vec<u64> = addresses.into_iter().filter(|a| !rows.contains(*a)).collect();
            prop_assert_eq!(got, want);
        }
    }
}
