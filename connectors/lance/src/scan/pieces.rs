//! Which rows of which fragments each partition reads.

use std::ops::Range;
use std::sync::Arc;

/// Physical rows of one fragment: offsets count rows that were deleted since, and reading skips those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) fragment: u64,
    /// Growing, disjoint, not empty.
    pub(crate) ranges: Arc<[Range<u64>]>,
}

impl Piece {
    pub(crate) fn rows(&self) -> u64 {
        self.ranges.iter().map(|r| r.end - r.start).sum()
    }
}

/// The rows of a fragment, from the manifest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FragmentRows {
    pub(crate) id: u64,
    /// Rows in its files, deleted ones included.
    pub(crate) physical: u64,
    /// Deleted or masked.
    pub(crate) deleted: u64,
}

/// A partition is not made smaller than this many rows: opening files and scheduling a task cost more.
const LEAST_ROWS: u64 = 4096;

/// Splits inside a fragment fall on multiples of this, so that neighbours rarely decode the same chunk.
const ALIGN: u64 = 1024;

/// Splits all rows into at most `partitions` parts of about the same size; never none.
///
/// The parts are contiguous and in order, and every physical row is in exactly one.
pub(crate) fn split(fragments: &[FragmentRows], partitions: usize) -> Vec<Vec<Piece>> {
    let total: u64 = fragments.iter().map(|f| f.physical).sum();
    let parts = (partitions.max(1) as u64).min(total.div_ceil(LEAST_ROWS)).max(1);
    let mut out: Vec<Vec<Piece>> = Vec::new();
    let mut current = Vec::new();
    let mut before = 0;
    let mut part = 1;
    for fragment in fragments {
        let mut start = 0;
        while start < fragment.physical {
            // The last part takes whatever rounding left over.
            let end = if part == parts {
                fragment.physical
            } else {
                let boundary = (u128::from(total) * u128::from(part) / u128::from(parts)) as u64;
                let inside = boundary.saturating_sub(before).min(fragment.physical);
                let aligned = if inside < fragment.physical { inside / ALIGN * ALIGN } else { inside };
                aligned.max(start)
            };
            if end > start {
                current.push(Piece { fragment: fragment.id, ranges: std::iter::once(start..end).collect() });
                start = end;
            }
            if start < fragment.physical {
                out.push(std::mem::take(&mut current));
                part += 1;
            }
        }
        before += fragment.physical;
    }
    out.push(current);
    // Rounding may leave a part without rows; one empty part stays for a dataset without any.
    out.retain(|pieces| !pieces.is_empty());
    if out.is_empty() {
        out.push(Vec::new());
    }
    out
}

/// Spreads given pieces over at most `partitions` parts, cutting ranges, by rows.
pub(crate) fn spread(pieces: Vec<Piece>, partitions: usize) -> Vec<Vec<Piece>> {
    let total: u64 = pieces.iter().map(Piece::rows).sum();
    let parts = (partitions.max(1) as u64).min(total.div_ceil(LEAST_ROWS)).max(1);
    let share = total.div_ceil(parts).max(1);
    let mut out = vec![Vec::new()];
    let mut room = share;
    for piece in pieces {
        let mut taken: Vec<Range<u64>> = Vec::new();
        for range in piece.ranges.iter() {
            let mut start = range.start;
            while start < range.end {
                if room == 0 {
                    flush(&mut out, piece.fragment, &mut taken);
                    out.push(Vec::new());
                    room = share;
                }
                let length = room.min(range.end - start);
                taken.push(start..start + length);
                start += length;
                room -= length;
            }
        }
        flush(&mut out, piece.fragment, &mut taken);
    }
    out
}

fn flush(out: &mut [Vec<Piece>], fragment: u64, taken: &mut Vec<Range<u64>>) {
    if let Some(last) = out.last_mut()
        && !taken.is_empty()
    {
        last.push(Piece { fragment, ranges: std::mem::take(taken).into() });
    }
}

/// Growing row offsets as ranges; gaps of up to `gap` unwanted rows are read over rather than around.
pub(crate) fn ranges_of(offsets: impl IntoIterator<Item = u64>, gap: u64) -> Vec<Range<u64>> {
    let mut out: Vec<Range<u64>> = Vec::new();
    for offset in offsets {
        match out.last_mut() {
            Some(last) if offset <= last.end + gap => last.end = last.end.max(offset + 1),
            _ => out.push(offset..offset + 1),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(parts: &[Vec<Piece>]) -> Vec<(u64, u64)> {
        parts
            .iter()
            .flatten()
            .flat_map(|p| p.ranges.iter().flat_map(|r| r.clone().map(|row| (p.fragment, row))))
            .collect()
    }

    #[test]
    fn no_rows_make_one_empty_partition() {
        assert_eq!(split(&[], 4), vec![Vec::<Piece>::new()]);
        let empty = FragmentRows { id: 3, physical: 0, deleted: 0 };
        assert_eq!(split(&[empty], 4), vec![Vec::<Piece>::new()]);
    }

    #[test]
    fn one_large_fragment_is_split() {
        let parts = split(&[FragmentRows { id: 0, physical: 100_000, deleted: 0 }], 4);
        assert_eq!(parts.len(), 4);
        for part in &parts {
            let rows: u64 = part.iter().map(Piece::rows).sum();
            assert!((23_000..=27_000).contains(&rows), "{rows}");
        }
    }

    #[test]
    fn offsets_become_ranges() {
        assert_eq!(ranges_of([1, 2, 3, 7, 9, 20], 0), [1..4, 7..8, 9..10, 20..21]);
        assert_eq!(ranges_of([1, 2, 3, 7, 9, 20], 1), [1..4, 7..10, 20..21]);
        assert_eq!(ranges_of([], 5), Vec::<Range<u64>>::new());
    }

    proptest! {
        #[test]
        fn every_row_is_in_exactly_one_partition(
            sizes in prop::collection::vec(0u64..30_000, 0..8),
            partitions in 1usize..9,
        ) {
            let fragments: Vec<_> = sizes
                .iter()
                .enumerate()
                .map(|(i, n)| FragmentRows { id: i as u64 * 2, physical: *n, deleted: 0 })
                .collect();
            let parts = split(&fragments, partitions);
            prop_assert!(parts.len() <= partitions && !parts.is_empty());
            let want: Vec<_> = fragments.iter().flat_map(|f| (0..f.physical).map(|r| (f.id, r))).collect();
            prop_assert_eq!(rows(&parts), want.clone());

            let pieces: Vec<_> = parts.into_iter().flatten().collect();
            let again = spread(pieces, partitions);
            prop_assert!(again.len() <= partitions);
            prop_assert_eq!(rows(&again), want);
        }
    }
}
