//! Small charts of characters.
//!
//! ```text
//! downloads per hour
//!  412 ┤        ▂▅▇▆▃
//!      │   ▁▃▅▇███████▆▂
//!    0 ┤▃▆██████████████▇▅
//!       26 Oct   27 Oct
//! ```
//!
//! Values are equally spaced. Where there are more of them than columns, neighbours are averaged, the same whole
//! number for each column; where there are fewer, each takes the same whole number of columns. So charts of as many
//! values have the same columns. A missing value leaves a gap.

use nu_ansi_term::{Color, Style};

use crate::output::Palette;

/// How the values are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Filled from zero upwards, in eighths of a character: for counts.
    Area,
    /// A line of dots, two by four to a character, between the smallest and the largest value.
    Line,
}

/// One chart.
#[derive(Debug, Clone)]
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) shape: Shape,
    pub(crate) values: &'a [Option<f64>],
    /// Labels below the chart: the index of a value and a text that begins there.
    pub(crate) labels: &'a [(usize, String)],
    /// Lines of the drawing without title and labels.
    pub(crate) height: usize,
    pub(crate) colour: Color,
}

/// Between the number on the left and the drawing.
const TICK: &str = " ┤";
const AXIS: &str = " │";

impl Chart<'_> {
    /// The chart in at most `width` columns, each line ended by a line feed.
    pub(crate) fn render(&self, width: usize, palette: Palette) -> String {
        let known: Vec<f64> = self.values.iter().flatten().copied().filter(|v| v.is_finite()).collect();
        let mut out = palette.bold(self.title);
        out.push('\n');
        if known.is_empty() {
            out.push_str("  (nothing to draw)\n");
            return out;
        }
        let top = known.iter().copied().fold(f64::MIN, f64::max);
        let low = known.iter().copied().fold(f64::MAX, f64::min);
        let bottom = match self.shape {
            Shape::Area => low.min(0.0),
            Shape::Line => low,
        };
        let (top_text, bottom_text) = (number(top), number(bottom));
        let gutter = top_text.len().max(bottom_text.len());
        let room = width.saturating_sub(gutter + AXIS.chars().count()).max(1);
        let scale = Scale { bottom, span: if top > bottom { top - bottom } else { 1.0 } };
        let (lines, columns) = match self.shape {
            Shape::Area => area(self.values, room, self.height, scale),
            Shape::Line => line(self.values, room, self.height, scale),
        };
        let style = Style::new().fg(self.colour);
        for (i, text) in lines.iter().enumerate() {
            let (label, axis) = match i {
                0 => (top_text.as_str(), TICK),
                _ if i + 1 == lines.len() => (bottom_text.as_str(), TICK),
                _ => ("", AXIS),
            };
            out.push_str(&palette.dim(&format!("{label:>gutter$}{axis}")));
            out.push_str(&palette.paint(style, text.trim_end()));
            out.push('\n');
        }
        let labels = self.label_line(columns, room);
        if !labels.trim().is_empty() {
            let indent = " ".repeat(gutter + AXIS.chars().count());
            out.push_str(&palette.dim(&format!("{indent}{}", labels.trim_end())));
            out.push('\n');
        }
        out
    }

    /// Labels at their values' columns; one that would touch its neighbour or the edge is left out.
    fn label_line(&self, columns: usize, room: usize) -> String {
        let mut line = String::new();
        let mut used = 0;
        for (index, text) in self.labels {
            let column = index * columns / self.values.len().max(1);
            let length = text.chars().count();
            if column < used || column + length > room || (used > 0 && column == used) {
                continue;
            }
            line.push_str(&" ".repeat(column - used));
            line.push_str(text);
            used = column + length;
        }
        line
    }
}

#[derive(Debug, Clone, Copy)]
struct Scale {
    bottom: f64,
    span: f64,
}

impl Scale {
    /// The value as a number of steps from 0 to `steps`.
    fn steps(self, value: f64, steps: usize) -> usize {
        let share = ((value - self.bottom) / self.span).clamp(0.0, 1.0);
        (share * steps as f64).round() as usize
    }
}

/// How many columns are drawn for `n` values: whole numbers of values to a column, or of columns to a value.
fn columns_of(n: usize, room: usize) -> usize {
    if n <= room { n * (room / n.max(1)).max(1) } else { n.div_ceil(n.div_ceil(room)) }
}

/// The values over so many places: averaged, or repeated.
fn spread(values: &[Option<f64>], places: usize) -> Vec<Option<f64>> {
    let n = values.len();
    (0..places)
        .map(|i| {
            let from = i * n / places;
            let until = ((i + 1) * n).div_ceil(places).max(from + 1).min(n);
            // Where values are repeated a place lies within one of them.
            let until = if n <= places { from + 1 } else { until };
            let part: Vec<f64> = values[from..until].iter().flatten().copied().collect();
            (!part.is_empty()).then(|| part.iter().sum::<f64>() / part.len() as f64)
        })
        .collect()
}

fn area(values: &[Option<f64>], room: usize, height: usize, scale: Scale) -> (Vec<String>, usize) {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let columns = spread(values, columns_of(values.len(), room));
    let lines = (0..height)
        .rev()
        .map(|row| {
            let filled = |v: &Option<f64>| match v {
                None => ' ',
                Some(v) => {
                    // What is there at all is shown as at least one eighth.
                    let least = usize::from(*v > scale.bottom);
                    EIGHTHS[scale.steps(*v, height * 8).max(least).saturating_sub(row * 8).min(8)]
                }
            };
            columns.iter().map(filled).collect()
        })
        .collect();
    (lines, columns.len())
}

fn line(values: &[Option<f64>], room: usize, height: usize, scale: Scale) -> (Vec<String>, usize) {
    // Dots of a braille character: the bit of (column, row from the top).
    const BITS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
    let columns = columns_of(values.len(), room);
    let dots = spread(values, columns * 2);
    let mut cells = vec![vec![0u32; columns]; height];
    let levels = height * 4 - 1;
    let mut before: Option<usize> = None;
    for (x, value) in dots.iter().enumerate() {
        let Some(value) = value else {
            before = None;
            continue;
        };
        let y = levels - scale.steps(*value, levels);
        // A steep step is joined by a vertical stroke.
        let from = before.map_or(y, |b| {
            if b < y {
                b + 1
            } else if b > y {
                b - 1
            } else {
                y
            }
        });
        for dot in from.min(y)..=from.max(y) {
            cells[dot / 4][x / 2] |= BITS[x % 2][dot % 4];
        }
        before = Some(y);
    }
    let character = |bits: &u32| if *bits == 0 { ' ' } else { char::from_u32(0x2800 + bits).unwrap_or(' ') };
    (cells.iter().map(|row| row.iter().map(character).collect()).collect(), columns)
}

/// A number for the axis: three digits that count.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1e9 {
        format!("{value:.3e}")
    } else if size >= 1e6 {
        format!("{:.1}M", value / 1e6)
    } else if size >= 1e4 {
        format!("{:.0}k", value / 1e3)
    } else if size >= 100.0 || value == value.round() {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart<'a>(shape: Shape, values: &'a [Option<f64>], labels: &'a [(usize, String)]) -> Chart<'a> {
        Chart { title: "t", shape, values, labels, height: 2, colour: Color::Cyan }
    }

    fn all(values: impl IntoIterator<Item = f64>) -> Vec<Option<f64>> {
        values.into_iter().map(Some).collect()
    }

    #[test]
    fn an_area_is_filled_from_zero() {
        let values = all([0.0, 1.0, 8.0, 16.0]);
        let text = chart(Shape::Area, &values, &[]).render(8, Palette::PLAIN);
        assert_eq!(text, "t\n16 ┤   █\n 0 ┤ ▁██\n");
    }

    #[test]
    fn a_line_joins_its_dots() {
        let values = all([0.0, 0.0, 7.0, 7.0, 7.0, 0.0]);
        let text = chart(Shape::Line, &values, &[]).render(6, Palette::PLAIN);
        assert_eq!(text, "t\n7 ┤ ⡏⢱\n0 ┤⣀⠇⢸\n");
        // The same number everywhere is a line at the bottom.
        let text = chart(Shape::Line, &all([5.0; 4]), &[]).render(5, Palette::PLAIN);
        assert_eq!(text, "t\n5 ┤\n5 ┤⣀⣀\n");
    }

    #[test]
    fn both_shapes_have_the_same_columns() {
        // A week of hours in a hundred columns: two to a column, twelve columns to a day.
        assert_eq!((columns_of(168, 97), columns_of(168, 60), columns_of(7, 60)), (84, 56, 56));
        let values = all((0..168).map(f64::from));
        let widest = |shape| {
            let text = chart(shape, &values, &[]).render(100, Palette::PLAIN);
            text.lines().map(|l| l.chars().count()).max()
        };
        assert_eq!(widest(Shape::Area), widest(Shape::Line));
        // Averages are of whole groups.
        assert_eq!(spread(&all([1.0, 3.0, 5.0, 7.0]), 2), all([2.0, 6.0]));
        assert_eq!(spread(&all([1.0, 3.0]), 4), all([1.0, 1.0, 3.0, 3.0]));
        assert_eq!(spread(&all([1.0, 2.0, 6.0]), 2), all([1.5, 4.0]));
    }

    #[test]
    fn the_width_is_never_exceeded() {
        for n in [1, 2, 7, 100, 1_000] {
            let values: Vec<_> = (0..n).map(|i| (i % 9 != 4).then_some((i * 37 % 101) as f64)).collect();
            let labels: Vec<_> = (0..n).step_by(10).map(|i| (i, format!("label {i}"))).collect();
            for shape in [Shape::Area, Shape::Line] {
                for width in [1, 5, 10, 40, 80, 200] {
                    let text = chart(shape, &values, &labels).render(width, Palette::PLAIN);
                    for line in text.lines().skip(1) {
                        assert!(line.chars().count() <= width.max(6), "{width}: {line:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn gaps_stay_empty() {
        let values = [Some(8.0), None, Some(8.0)];
        let text = chart(Shape::Area, &values, &[]).render(6, Palette::PLAIN);
        assert_eq!(text, "t\n8 ┤█ █\n0 ┤█ █\n");
        assert_eq!(chart(Shape::Area, &[None], &[]).render(20, Palette::PLAIN), "t\n  (nothing to draw)\n");
        assert_eq!(chart(Shape::Line, &[], &[]).render(20, Palette::PLAIN), "t\n  (nothing to draw)\n");
    }

    #[test]
    fn labels_stand_at_their_values_and_never_touch() {
        let values = all((0..20).map(f64::from));
        let labels = [(0, "a".to_owned()), (1, "bb".to_owned()), (2, "c".to_owned()), (19, "end".to_owned())];
        let text = chart(Shape::Area, &values, &labels).render(24, Palette::PLAIN);
        // "bb" would touch "a"; "end" would leave the chart.
        assert_eq!(text.lines().last(), Some("    a c"));
    }

    #[test]
    fn colour_only_when_asked() {
        let values = all([1.0, 2.0]);
        let plain = chart(Shape::Area, &values, &[]).render(20, Palette::PLAIN);
        assert!(!plain.contains('\u{1b}'));
        assert!(chart(Shape::Area, &values, &[]).render(20, Palette::COLOUR).contains('\u{1b}'));
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (12.34, "12.3"),
            (412.0, "412"),
            (9_999.0, "9999"),
            (53_211.0, "53k"),
            (2.5e6, "2.5M"),
        ];
        for (value, want) in cases {
            assert_eq!(number(value), want);
        }
    }
}
