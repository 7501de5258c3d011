//! Which fragments a rewrite takes.
//!
//! ```text
//!  OPTIMIZE     every fragment below half a file, every one that has lost a tenth of its rows
//!  the keeper   fragments that have lost the share of rows in its limits, and small ones when there are enough:
//!
//!               rows   900k   300k   2k 2k 1k 1k 1k 1k 1k 1k
//!                       │      │     └─ eight of like size: these become one
//!                       │      └ more rows than all the smaller ones together: would be copied for nothing
//!                       └ not small
//! ```
//!
//! So a row is copied only when the fragment it lands in is at least twice as large: log₂(n) times in its life.

use super::write::ROWS_PER_FILE;
use crate::stamp::CommitTs;

/// Which fragments are rewritten, and how.
#[derive(Debug, Clone)]
pub struct RewriteOptions {
    /// Rows that ended at or before this are not needed by any snapshot and are dropped; later ones are kept
    /// and stay masked. No more than the base's checkpoint counts.
    pub horizon: CommitTs,
    /// Fragments with fewer rows that stay are merged with others.
    pub small_rows: u32,
    /// Fragments are rewritten when at least this share of their rows is dropped.
    pub dropped_share: f64,
    /// All fragments are rewritten: the order of CLUSTER BY then holds over all of the table.
    pub everything: bool,
    /// Small fragments stay until there are so many of like size, and one rewrite takes about one file's rows.
    pub sparing: Option<usize>,
}

impl RewriteOptions {
    /// Small fragments, and those that have lost a tenth of their rows.
    pub fn new(horizon: CommitTs) -> Self {
        let small_rows = (ROWS_PER_FILE / 2) as u32;
        Self { horizon, small_rows, dropped_share: 0.1, everything: false, sparing: None }
    }

    /// What is worth a copy when nobody has asked for it.
    pub fn sparing(horizon: CommitTs, small_fragments: usize, deleted_share: f64) -> Self {
        Self { dropped_share: deleted_share, sparing: Some(small_fragments), ..Self::new(horizon) }
    }

    /// The fragments to rewrite, in the order given.
    pub(super) fn choose(&self, fragments: &[Worn]) -> Vec<u32> {
        if self.everything {
            return fragments.iter().map(|f| f.id).collect();
        }
        let (worn, rest): (Vec<&Worn>, Vec<&Worn>) =
            fragments.iter().partition(|f| f.dropped > 0 && f.share() >= self.dropped_share);
        let mut small: Vec<&Worn> =
            rest.into_iter().filter(|f| f.left() < u64::from(self.small_rows)).collect();
        let mut most = u64::MAX;
        if let Some(least) = self.sparing {
            most = ROWS_PER_FILE as u64;
            small.sort_by_key(|f| f.left());
            while let Some((largest, smaller)) = small.split_last()
                && largest.left() > smaller.iter().map(|f| f.left()).sum()
            {
                small.pop();
            }
            if small.len() < least.max(2) {
                small.clear();
            }
        }
        let mut taken = Vec::new();
        let mut rows = 0;
        for fragment in worn.into_iter().chain(small) {
            if !taken.is_empty() && rows + fragment.left() > most {
                break;
            }
            rows += fragment.left();
            taken.push(fragment.id);
        }
        fragments.iter().map(|f| f.id).filter(|id| taken.contains(id)).collect()
    }
}

/// A fragment as a rewrite finds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Worn {
    pub(super) id: u32,
    pub(super) rows: u32,
    /// Rows that nobody needs.
    pub(super) dropped: u64,
}

impl Worn {
    fn left(&self) -> u64 {
        u64::from(self.rows).saturating_sub(self.dropped)
    }

    fn share(&self) -> f64 {
        self.dropped as f64 / f64::from(self.rows.max(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fragments(rows: &[(u32, u64)]) -> Vec<Worn> {
        (0..).zip(rows).map(|(id, (rows, dropped))| Worn { id, rows: *rows, dropped: *dropped }).collect()
    }

    fn kept(rows: &[(u32, u64)]) -> Vec<u32> {
        RewriteOptions::sparing(CommitTs(1), 8, 0.2).choose(&fragments(rows))
    }

    #[test]
    fn few_small_fragments_are_left_alone() {
        assert_eq!(kept(&[(10, 0); 7]), [0_u32; 0]);
        assert_eq!(kept(&[(10, 0); 8]).len(), 8);
        let optimize = RewriteOptions::new(CommitTs(1));
        assert_eq!(optimize.choose(&fragments(&[(10, 0), (20, 0)])), [0, 1]);
    }

    #[test]
    fn a_large_one_is_not_copied_for_a_few_rows() {
        let mut rows = vec![(300_000, 0)];
        rows.extend([(1_000, 0); 8]);
        assert_eq!(kept(&rows), [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn worn_ones_are_taken_alone_and_first() {
        assert_eq!(kept(&[(100, 19), (100, 20), (100, 100)]), [1, 2]);
        // More than a file's rows wait for the next time.
        assert_eq!(kept(&[(1 << 20, 1 << 18), (1 << 20, 1 << 18)]), [0]);
    }

    proptest! {
        /// Rows arrive in fragments of any size and are merged whenever there is reason to: however many come,
        /// few small fragments stay, and each row is copied few times.
        #[test]
        fn fragments_stay_few_and_copies_too(sizes in prop::collection::vec(1_u32..5_000, 1..400)) {
            let options = RewriteOptions::sparing(CommitTs(1), 8, 0.2);
            let (mut now, mut next, mut copied, mut all) = (Vec::<Worn>::new(), 0_u32, 0_u64, 0_u64);
            for rows in sizes {
                now.push(Worn { id: next, rows, dropped: 0 });
                next += 1;
                all += u64::from(rows);
                let chosen = options.choose(&now);
                let (out, stay): (Vec<Worn>, Vec<Worn>) = now.iter().partition(|f| chosen.contains(&f.id));
                now = stay;
                if !out.is_empty() {
                    let rows: u32 = out.iter().map(|f| f.rows).sum();
                    copied += u64::from(rows);
                    now.push(Worn { id: next, rows, dropped: 0 });
                    next += 1;
                }
            }
            let doublings = u64::from(all.ilog2()) + 1;
            prop_assert!(copied <= all * doublings, "{copied} of {all}");
            prop_assert!(now.len() as u64 <= 8 + doublings, "{} fragments of {all}", now.len());
        }
    }
}
