//! `EXPLAIN …` as the text it is: no box, no elision, one heading for each plan.

use std::io::Write;

use arrow::array::RecordBatch;
use triune_common::Result;

use super::palette::Palette;
use super::text::visible_lines;
use super::{Sink, io_error};
use triune_formats::value::{Column, Purpose};

/// Writes plans. A result of one column is text; of two, the first holds the plan's kind and is a heading.
pub struct PlanSink<'a> {
    out: &'a mut (dyn Write + Send),
    palette: Palette,
    rows: u64,
}

impl std::fmt::Debug for PlanSink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlanSink").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl<'a> PlanSink<'a> {
    pub fn new(out: &'a mut (dyn Write + Send), palette: Palette) -> Self {
        Self { out, palette, rows: 0 }
    }
}

impl Sink for PlanSink<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = Column::of_batch(batch, Purpose::Display)?;
        let Some((plan, headings)) = columns.split_last() else { return Ok(()) };
        let mut out = String::new();
        for row in 0..batch.num_rows() {
            if !headings.is_empty() {
                if self.rows > 0 {
                    out.push('\n');
                }
                let mut heading = String::new();
                for column in headings {
                    if !heading.is_empty() {
                        heading.push_str("  ");
                    }
                    column.write_text(row, &mut heading);
                }
                out.push_str(&self.palette.bold(&visible_lines(&heading)));
                out.push('\n');
            }
            let mut text = String::new();
            plan.write_text(row, &mut text);
            for line in visible_lines(&text).trim_end_matches('\n').split('\n') {
                out.push_str(line.trim_end());
                out.push('\n');
            }
            self.rows += 1;
        }
        self.out.write_all(out.as_bytes()).map_err(io_error)
    }

    fn finish(self: Box<Self>, _elapsed: Option<std::time::Duration>) -> Result<u64> {
        Ok(self.rows)
    }
}
