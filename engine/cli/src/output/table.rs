//! Box tables.
//!
//! ```text
//! ╭────────┬─────────┬───────────────────────────╮
//! │     id │ name    │ embedding                 │
//! │ BIGINT │ VARCHAR │ VECTOR(384)               │
//! ├────────┼─────────┼───────────────────────────┤
//! │      1 │ serde   │ [0.12, -0.03, … 384 d]    │
//! │  · · · │ · · ·   │ · · ·                     │
//! │    999 │ NULL    │ NULL                      │
//! ╰────────┴─────────┴───────────────────────────╯
//! 999 rows (40 shown)  3 columns  12.3 ms
//! ```
//!
//! Of a long result the first and the last rows are kept, and nothing between them is held in memory. Columns that do
//! not fit the width are narrowed or left out of the middle (see [`super::layout`]); the footer says what was left
//! out. Control characters in values and names are spelled out (see [`super::text::visible`]).

use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, SchemaRef};
use triune_common::Result;

use super::layout::{Layout, fit};
use super::palette::Palette;
use super::text::{count, duration, elide, pad, visible, width};
use super::{Sink, expanded, io_error};
use triune_formats::value::{Column, Purpose, is_number};

/// Without a width to fit into, a cell is cut only after this many.
const WIDEST_CELL: usize = 4096;
/// Stands for the rows that are not shown.
const ROW_GAP: &str = "· · ·";

/// Whether each row is a list of its columns: `\x [on|off|auto]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expanded {
    #[default]
    Off,
    On,
    /// When some columns would have to be left out.
    Auto,
}

/// How tables look.
#[derive(Debug, Clone)]
pub struct TableOptions {
    /// The terminal's width; `None` on a pipe: every column is shown.
    pub width: Option<usize>,
    /// How many rows are shown; `None`: all of them, which keeps them all in memory.
    pub max_rows: Option<usize>,
    pub palette: Palette,
    pub expanded: Expanded,
    /// The line of numbers below the table.
    pub footer: bool,
    /// The row of types under the names.
    pub types: bool,
    /// The name of a column's type.
    pub type_name: fn(&Field) -> String,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            width: None,
            max_rows: Some(40),
            palette: Palette::PLAIN,
            expanded: Expanded::Off,
            footer: true,
            types: true,
            type_name: triune_query::sql_type_name,
        }
    }
}

/// The rows that will be shown, and how many there were.
#[derive(Debug)]
pub(super) struct Kept {
    limit: Option<usize>,
    head: Vec<RecordBatch>,
    head_rows: usize,
    tail: VecDeque<RecordBatch>,
    tail_rows: usize,
    pub(super) total: u64,
}

impl Kept {
    fn new(limit: Option<usize>) -> Self {
        Self { limit, head: Vec::new(), head_rows: 0, tail: VecDeque::new(), tail_rows: 0, total: 0 }
    }

    fn push(&mut self, batch: &RecordBatch) {
        let rows = batch.num_rows();
        self.total += rows as u64;
        let Some(limit) = self.limit else {
            self.head.push(batch.clone());
            self.head_rows += rows;
            return;
        };
        // The head takes as many rows as would be shown if nothing followed.
        let taken = rows.min(limit - self.head_rows.min(limit));
        if taken > 0 {
            self.head.push(batch.slice(0, taken));
            self.head_rows += taken;
        }
        let wanted = limit / 2;
        if taken < rows && wanted > 0 {
            let from = taken.max(rows.saturating_sub(wanted));
            self.tail.push_back(batch.slice(from, rows - from));
            self.tail_rows += rows - from;
            while self.tail.front().is_some_and(|first| self.tail_rows - first.num_rows() >= wanted) {
                let gone = self.tail.pop_front().map_or(0, |b| b.num_rows());
                self.tail_rows -= gone;
            }
        }
    }

    /// The rows to show as (batch, row, number from 1), and after how many of them the gap is.
    pub(super) fn shown(&self) -> (Vec<(&RecordBatch, usize, u64)>, Option<usize>) {
        let rows = |batches: &mut dyn Iterator<Item = &'_ RecordBatch>| -> Vec<(usize, usize)> {
            batches.enumerate().flat_map(|(b, batch)| (0..batch.num_rows()).map(move |r| (b, r))).collect()
        };
        let all: Vec<&RecordBatch> = self.head.iter().chain(&self.tail).collect();
        let places = rows(&mut all.iter().copied());
        let limit = self.limit.unwrap_or(usize::MAX);
        if self.total <= limit as u64 {
            let shown = places.iter().enumerate().map(|(n, (b, r))| (all[*b], *r, n as u64 + 1)).collect();
            return (shown, None);
        }
        let last = limit / 2;
        let first = limit - last;
        let head = places[..first.min(places.len())]
            .iter()
            .enumerate()
            .map(|(n, (b, r))| (all[*b], *r, n as u64 + 1));
        let from = places.len() - last.min(places.len());
        let number = self.total - last as u64 + 1;
        let tail = places[from..].iter().enumerate().map(|(n, (b, r))| (all[*b], *r, number + n as u64));
        (head.chain(tail).collect(), Some(first))
    }
}

/// Keeps the rows to be shown and draws the table at the end.
pub struct TableSink<'a> {
    out: &'a mut (dyn Write + Send),
    schema: SchemaRef,
    options: TableOptions,
    kept: Kept,
}

impl std::fmt::Debug for TableSink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableSink").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<'a> TableSink<'a> {
    pub fn new(out: &'a mut (dyn Write + Send), schema: SchemaRef, options: TableOptions) -> Self {
        let kept = Kept::new(options.max_rows);
        Self { out, schema, options, kept }
    }
}

impl Sink for TableSink<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.kept.push(batch);
        Ok(())
    }

    fn finish(self: Box<Self>, elapsed: Option<Duration>) -> Result<u64> {
        let text = render(&self.schema, &self.kept, &self.options, elapsed)?;
        self.out.write_all(text.as_bytes()).map_err(io_error)?;
        Ok(self.kept.total)
    }
}

/// The batches as one table, for callers that have them all.
///
/// *Errors*: a type that cannot be shown.
pub fn render_table(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    options: &TableOptions,
    elapsed: Option<Duration>,
) -> Result<String> {
    let mut kept = Kept::new(options.max_rows);
    for batch in batches {
        kept.push(batch);
    }
    render(schema, &kept, options, elapsed)
}

/// One value, ready to be printed.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) null: bool,
}

/// One column of the rows that are shown.
#[derive(Debug)]
pub(super) struct Cells {
    pub(super) name: String,
    pub(super) type_name: String,
    pub(super) right: bool,
    pub(super) cells: Vec<Cell>,
}

impl Cells {
    fn natural_width(&self) -> usize {
        self.cells
            .iter()
            .map(|c| width(&c.text))
            .chain([width(&self.name), width(&self.type_name)])
            .max()
            .unwrap_or(1)
    }
}

fn gather(
    schema: &SchemaRef,
    rows: &[(&RecordBatch, usize, u64)],
    options: &TableOptions,
) -> Result<Vec<Cells>> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (index, field) in schema.fields().iter().enumerate() {
        let mut cells = Vec::with_capacity(rows.len());
        let mut at = 0;
        while let Some((batch, _, _)) = rows.get(at) {
            // Neighbouring rows are mostly of one batch, and share its writer.
            let column = Column::try_new(field, batch.column(index).as_ref(), Purpose::Display)?;
            while let Some((_, row, _)) = rows.get(at).filter(|(b, _, _)| std::ptr::eq(*b, *batch)) {
                let mut text = String::new();
                column.write_short(*row, &mut text);
                cells.push(Cell { text: visible(&text).into_owned(), null: column.is_null(*row) });
                at += 1;
            }
        }
        columns.push(Cells {
            name: visible(field.name()).into_owned(),
            type_name: if options.types {
                visible(&(options.type_name)(field)).into_owned()
            } else {
                String::new()
            },
            right: is_number(field.data_type()),
            cells,
        });
    }
    Ok(columns)
}

fn render(
    schema: &SchemaRef,
    kept: &Kept,
    options: &TableOptions,
    elapsed: Option<Duration>,
) -> Result<String> {
    let (rows, gap) = kept.shown();
    let columns = gather(schema, &rows, options)?;
    let widths: Vec<usize> = columns.iter().map(Cells::natural_width).collect();
    let layout = match options.width {
        Some(room) => fit(&widths, room),
        None => Layout::natural(&widths.iter().map(|w| (*w).min(WIDEST_CELL)).collect::<Vec<_>>()),
    };
    let as_list = match options.expanded {
        Expanded::Off => false,
        Expanded::On => true,
        Expanded::Auto => layout.gap.is_some(),
    };
    let mut out = String::new();
    let mut columns_shown = None;
    if as_list {
        let numbers: Vec<u64> = rows.iter().map(|r| r.2).collect();
        expanded::draw(&columns, &numbers, gap, options, &mut out);
    } else if !columns.is_empty() {
        draw(&columns, rows.len(), gap, &layout, options, &mut out);
        columns_shown = layout.gap.map(|_| layout.columns.len());
    }
    if options.footer {
        let mut footer = count(kept.total, "row");
        if gap.is_some() {
            footer.push_str(&format!(" ({} shown)", rows.len()));
        }
        footer.push_str(&format!("  {}", count(columns.len() as u64, "column")));
        if let Some(shown) = columns_shown {
            footer.push_str(&format!(" ({shown} shown)"));
        }
        if let Some(elapsed) = elapsed {
            footer.push_str(&format!("  {}", duration(elapsed)));
        }
        out.push_str(&options.palette.dim(&footer));
        out.push('\n');
    }
    Ok(out)
}

/// One entry of a line: a column's text, or the gap.
enum Entry<'a> {
    Text { text: &'a str, style: Look },
    Gap,
}

#[derive(Clone, Copy)]
enum Look {
    Plain,
    Dim,
    Bold,
}

fn draw(
    columns: &[Cells],
    rows: usize,
    gap: Option<usize>,
    layout: &Layout,
    options: &TableOptions,
    out: &mut String,
) {
    let palette = options.palette;
    rule(out, layout, ['╭', '┬', '╮']);
    line(out, columns, layout, palette, |c| Entry::Text { text: &c.name, style: Look::Bold });
    if options.types {
        line(out, columns, layout, palette, |c| Entry::Text { text: &c.type_name, style: Look::Dim });
    }
    rule(out, layout, ['├', '┼', '┤']);
    for row in 0..rows {
        if gap == Some(row) {
            line(out, columns, layout, palette, |_| Entry::Gap);
        }
        line(out, columns, layout, palette, |c| {
            let cell = &c.cells[row];
            Entry::Text { text: &cell.text, style: if cell.null { Look::Dim } else { Look::Plain } }
        });
    }
    if gap.is_some_and(|at| at >= rows) {
        line(out, columns, layout, palette, |_| Entry::Gap);
    }
    rule(out, layout, ['╰', '┴', '╯']);
}

fn rule(out: &mut String, layout: &Layout, [left, middle, right]: [char; 3]) {
    out.push(left);
    let mut first = true;
    let mut segment = |out: &mut String, cells: usize| {
        if !first {
            out.push(middle);
        }
        first = false;
        out.extend(std::iter::repeat_n('─', cells + 2));
    };
    for (position, (_, cells)) in layout.columns.iter().enumerate() {
        if layout.gap == Some(position) {
            segment(out, 1);
        }
        segment(out, *cells);
    }
    if layout.gap == Some(layout.columns.len()) {
        segment(out, 1);
    }
    out.push(right);
    out.push('\n');
}

fn line<'a>(
    out: &mut String,
    columns: &'a [Cells],
    layout: &Layout,
    palette: Palette,
    entry: impl Fn(&'a Cells) -> Entry<'a>,
) {
    out.push('│');
    for (position, (index, cells)) in layout.columns.iter().enumerate() {
        if layout.gap == Some(position) {
            out.push_str(" … │");
        }
        let column = &columns[*index];
        let (text, look) = match entry(column) {
            Entry::Text { text, style } => (elide(text, *cells), style),
            Entry::Gap => (if *cells >= 5 { ROW_GAP.into() } else { "·".into() }, Look::Dim),
        };
        let mut padded = String::new();
        pad(&mut padded, &text, *cells, column.right);
        out.push(' ');
        out.push_str(&match look {
            Look::Plain => padded,
            Look::Dim => palette.dim(&padded),
            Look::Bold => palette.bold(&padded),
        });
        out.push_str(" │");
    }
    if layout.gap == Some(layout.columns.len()) {
        out.push_str(" … │");
    }
    out.push('\n');
}
