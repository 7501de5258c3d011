//! Which columns of a table are shown, and how wide, when the terminal is narrower than the table.
//!
//! ```text
//! natural widths 4, 60, 6, 40 in 60 cells  →  4, 20, …, 20       (the gap is a column of its own)
//! ```
//!
//! All columns are shown if they fit when the widest are narrowed to no less than [`NARROWEST`] cells. If not,
//! columns leave from the middle, the first and the last stay longest, and what room remains is given back to the
//! columns that were narrowed.

/// A wide column is not narrowed below this while all columns are to be shown.
pub const NARROWEST: usize = 12;
/// The widest that a column may be while columns are being chosen.
const WHILE_CHOOSING: usize = 20;
/// The column that stands for those left out: `…`.
const GAP: usize = 1;

/// Columns by index with their widths in cells (without padding), and where columns are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub columns: Vec<(usize, usize)>,
    /// Columns are missing before this position of `columns`.
    pub gap: Option<usize>,
}

impl Layout {
    /// Everything at its natural width.
    pub fn natural(widths: &[usize]) -> Self {
        Self { columns: widths.iter().copied().enumerate().collect(), gap: None }
    }

    /// The cells that the whole table takes: each column has a line and two spaces, and one line ends the row.
    pub fn total(&self) -> usize {
        let gap = if self.gap.is_some() { GAP + 3 } else { 0 };
        self.columns.iter().map(|(_, w)| w + 3).sum::<usize>() + gap + 1
    }
}

/// Fits columns of the given natural widths into `room` cells. At least one column is shown, however narrow.
pub fn fit(widths: &[usize], room: usize) -> Layout {
    let all = Layout::natural(widths);
    if all.total() <= room || widths.is_empty() {
        return all;
    }
    let frame = 3 * widths.len() + 1;
    if let Some(cap) = room.checked_sub(frame).and_then(|cells| level(widths, cells))
        && cap >= NARROWEST
    {
        return narrowed(&(0..widths.len()).collect::<Vec<_>>(), widths, room - frame, None);
    }
    choose(widths, room)
}

/// The largest cap under which the widths together take at most `cells`; `None` if even a cap of 1 is too much.
fn level(widths: &[usize], cells: usize) -> Option<usize> {
    let sum = |cap: usize| widths.iter().map(|w| (*w).min(cap)).sum::<usize>();
    let (mut low, mut high) = (1, widths.iter().copied().max().unwrap_or(1).max(1));
    if sum(low) > cells {
        return None;
    }
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if sum(middle) <= cells {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    Some(low)
}

/// The chosen columns in `cells` cells, the widest capped; what is left over by the cap's rounding goes to the
/// first capped columns, one cell each.
fn narrowed(chosen: &[usize], widths: &[usize], cells: usize, gap: Option<usize>) -> Layout {
    let natural: Vec<usize> = chosen.iter().map(|i| widths[*i]).collect();
    let cap = level(&natural, cells).unwrap_or(1);
    let mut spare = cells.saturating_sub(natural.iter().map(|w| (*w).min(cap)).sum());
    let columns = chosen
        .iter()
        .zip(&natural)
        .map(|(index, width)| {
            if *width > cap && spare > 0 {
                spare -= 1;
                (*index, cap + 1)
            } else {
                (*index, (*width).min(cap))
            }
        })
        .collect();
    Layout { columns, gap }
}

/// Takes columns from both ends in turn while they fit beside the gap.
fn choose(widths: &[usize], room: usize) -> Layout {
    let n = widths.len();
    let cost = |i: usize| widths[i].min(WHILE_CHOOSING) + 3;
    let mut used = 1 + GAP + 3;
    let (mut front, mut back) = (0, n);
    // The first column comes in whatever it costs; one that does not fit ends the choice on its side only.
    let (mut front_open, mut back_open) = (true, true);
    while front < back && (front_open || back_open) {
        if front_open {
            if front == 0 || used + cost(front) <= room {
                used += cost(front);
                front += 1;
            } else {
                front_open = false;
            }
        }
        if back_open && front < back {
            if used + cost(back - 1) <= room {
                used += cost(back - 1);
                back -= 1;
            } else {
                back_open = false;
            }
        }
    }
    // One more may fit when it is narrowed.
    if front < back && used + NARROWEST + 3 <= room {
        front += 1;
    }
    let chosen: Vec<usize> = (0..front).chain(back..n).collect();
    let gap = (front < back).then_some(front);
    let frame = 3 * chosen.len() + 1 + if gap.is_some() { GAP + 3 } else { 0 };
    narrowed(&chosen, widths, room.saturating_sub(frame), gap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays_as_it_is() {
        assert_eq!(fit(&[4, 6], 80), Layout::natural(&[4, 6]));
        assert_eq!(fit(&[], 80), Layout::natural(&[]));
        assert_eq!(fit(&[10], 14), Layout::natural(&[10]));
    }

    #[test]
    fn wide_columns_are_narrowed_first() {
        let layout = fit(&[4, 60, 6, 40], 80);
        assert_eq!(layout.gap, None);
        assert_eq!(layout.columns, [(0, 4), (1, 29), (2, 6), (3, 28)]);
        assert_eq!(layout.total(), 80);
    }

    #[test]
    fn columns_leave_from_the_middle() {
        let layout = fit(&[10; 20], 60);
        assert_eq!(layout.gap, Some(2));
        assert_eq!(layout.columns.iter().map(|c| c.0).collect::<Vec<_>>(), [0, 1, 18, 19]);
        assert!(layout.total() <= 60);
    }

    #[test]
    fn one_column_is_always_shown() {
        let layout = fit(&[100], 20);
        assert_eq!(layout, Layout { columns: vec![(0, 16)], gap: None });
        let layout = fit(&[100, 100, 100], 8);
        assert_eq!((layout.columns.len(), layout.gap), (1, Some(1)));
        assert!(layout.columns[0].1 >= 1);
    }

    #[test]
    fn it_never_overflows_and_keeps_order() {
        for room in 24..160 {
            for n in 1..24_usize {
                let widths: Vec<usize> = (0..n).map(|i| 1 + (i * 7 + room) % 45).collect();
                let layout = fit(&widths, room);
                assert!(layout.total() <= room, "{widths:?} in {room}: {layout:?}");
                assert!(layout.columns.is_sorted_by_key(|c| c.0));
                assert!(layout.columns.iter().all(|(i, w)| *w <= widths[*i] && *w >= 1));
                assert_eq!(layout.columns.len() < n, layout.gap.is_some());
            }
        }
    }
}
