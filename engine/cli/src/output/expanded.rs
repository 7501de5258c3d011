//! `\x on`: each row as a list of its columns.
//!
//! ```text
//! ─[ row 1 ]──────────────────
//! id        │ 1
//! title     │ a text that is too long for
//!           │ one line goes on below
//! ```
//!
//! Nothing is left out but the rows between the first and the last; long values are wrapped to the width.

use super::table::{Cells, TableOptions};
use super::text::{elide, pad, width, wrap};

/// The heading is at least this wide.
const SHORTEST_RULE: usize = 20;

pub(super) fn draw(
    columns: &[Cells],
    numbers: &[u64],
    gap: Option<usize>,
    options: &TableOptions,
    out: &mut String,
) {
    let palette = options.palette;
    let longest = columns.iter().map(|c| width(&c.name)).max().unwrap_or(0);
    // A label takes at most half of the width, so that there is room for the value.
    let label = options.width.map_or(longest, |w| longest.min((w.saturating_sub(3) / 2).max(1)));
    let room = options.width.map(|w| w.saturating_sub(label + 3).max(1));
    let widest = columns.iter().flat_map(|c| &c.cells).map(|c| width(&c.text)).max().unwrap_or(0);
    let rule = label + 3 + widest.min(room.unwrap_or(60));
    for (row, number) in numbers.iter().enumerate() {
        if gap == Some(row) {
            out.push_str(&palette.dim("· · ·"));
            out.push('\n');
        }
        let mut heading = format!("─[ row {number} ]");
        let fill = rule.max(SHORTEST_RULE).saturating_sub(width(&heading));
        heading.extend(std::iter::repeat_n('─', fill));
        if let Some(w) = options.width {
            heading = elide(&heading, w).into_owned();
        }
        out.push_str(&palette.dim(&heading));
        out.push('\n');
        for column in columns {
            let cell = &column.cells[row];
            let lines = match room {
                Some(room) => wrap(&cell.text, room),
                None => vec![cell.text.as_str()],
            };
            for (i, text) in lines.iter().enumerate() {
                let mut name = String::new();
                pad(&mut name, &if i == 0 { elide(&column.name, label) } else { "".into() }, label, false);
                out.push_str(&palette.bold(&name));
                out.push_str(" │");
                if !text.is_empty() {
                    out.push(' ');
                }
                out.push_str(&if cell.null { palette.dim(text) } else { (*text).to_owned() });
                out.push('\n');
            }
        }
    }
}
