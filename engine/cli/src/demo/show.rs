//! How the demo looks: the one place that knows the shell's renderers.

use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use triune_common::Result;

use crate::output::plan::PlanSink;
use crate::output::{Format, Palette, Sink, TableOptions, io_error, open_sink};

/// Rows of a table that are shown.
const MAX_ROWS: usize = 12;

/// Where the demo writes, and how wide.
pub(crate) struct Stage<'a> {
    out: &'a mut (dyn Write + Send),
    pub(crate) width: usize,
    pub(crate) palette: Palette,
}

impl std::fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("width", &self.width).finish_non_exhaustive()
    }
}

impl<'a> Stage<'a> {
    pub(crate) fn new(out: &'a mut (dyn Write + Send), width: usize, palette: Palette) -> Self {
        Self { out, width, palette }
    }

    /// Writes text as it is.
    pub(crate) fn text(&mut self, text: &str) -> Result<()> {
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).map_err(io_error)
    }

    /// A heading with a line to the right edge.
    pub(crate) fn heading(&mut self, title: &str) -> Result<()> {
        let line = "─".repeat(self.width.saturating_sub(title.chars().count() + 4));
        let text = format!("\n── {} {}\n", self.palette.bold(title), self.palette.dim(&line));
        self.text(&text)
    }

    /// Prose, wrapped.
    pub(crate) fn prose(&mut self, text: &str) -> Result<()> {
        let mut lines = String::new();
        let mut column = 0;
        for word in text.split_whitespace() {
            let length = word.chars().count();
            if column > 0 && column + 1 + length > self.width.min(100) {
                lines.push('\n');
                column = 0;
            } else if column > 0 {
                lines.push(' ');
                column += 1;
            }
            lines.push_str(word);
            column += length;
        }
        lines.push('\n');
        self.text(&lines)
    }

    /// A statement, indented, with its semicolon.
    pub(crate) fn sql(&mut self, sql: &str) -> Result<()> {
        let mut text = String::from("\n");
        for line in sql.lines() {
            text.push_str("    ");
            text.push_str(line);
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        text.push_str(";\n\n");
        self.text(&text)
    }

    /// The rows of a result, with the time it took below.
    pub(crate) fn table(
        &mut self,
        schema: &SchemaRef,
        rows: &[RecordBatch],
        elapsed: Duration,
    ) -> Result<()> {
        let options = TableOptions {
            width: Some(self.width),
            max_rows: Some(MAX_ROWS),
            palette: self.palette,
            ..TableOptions::default()
        };
        let mut sink = open_sink(Format::Table, &mut *self.out, schema, false, &options)?;
        for batch in rows {
            sink.write(batch)?;
        }
        sink.finish(Some(elapsed))?;
        Ok(())
    }

    /// A plan, as `EXPLAIN` gives it out.
    pub(crate) fn plan(&mut self, rows: &[RecordBatch]) -> Result<()> {
        self.text("\nIts plan:\n\n")?;
        let mut text = Vec::new();
        let mut sink = Box::new(PlanSink::new(&mut text, Palette::PLAIN));
        for batch in rows {
            sink.write(batch)?;
        }
        sink.finish(None)?;
        let mut shown = String::new();
        for line in String::from_utf8_lossy(&text).lines() {
            // Lines that wrap would break the tree.
            shown.push_str("    ");
            shown.push_str(&cut(&without_files(line), self.width.saturating_sub(4)));
            shown.push('\n');
        }
        self.text(&shown)
    }
}

/// A scan's list of files hides what it reads of them: `file_groups={2 groups: [[a, b], [c, ...]]}` becomes
/// `file_groups={2 groups}`.
fn without_files(line: &str) -> Cow<'_, str> {
    const START: &str = "file_groups={";
    const END: &str = "]]}";
    let found = line.find(START).and_then(|from| Some((from + START.len(), from + line[from..].find(END)?)));
    let Some((from, until)) = found else { return Cow::Borrowed(line) };
    let Some((groups, _)) = line[from..until].split_once(": [[") else { return Cow::Borrowed(line) };
    Cow::Owned(format!("{}{groups}{}", &line[..from], &line[until + 2..]))
}

/// The line in at most `room` characters.
fn cut(line: &str, room: usize) -> String {
    if line.chars().count() <= room {
        return line.to_owned();
    }
    line.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

/// A duration as people say it.
pub(crate) fn took(elapsed: Duration) -> String {
    crate::output::text::duration(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_files_are_left_out() {
        let line =
            "└─ Scan: file_groups={2 groups: [[a.parquet:0..9, b.parquet],[c.parquet]]}, projection=[x]";
        assert_eq!(without_files(line), "└─ Scan: file_groups={2 groups}, projection=[x]");
        assert_eq!(without_files("Filter: x > 1"), "Filter: x > 1");
        assert_eq!(without_files("file_groups={broken"), "file_groups={broken");
    }

    #[test]
    fn text_is_wrapped_and_cut() {
        let mut out = Vec::new();
        let mut stage = Stage::new(&mut out, 12, Palette::PLAIN);
        stage.prose("one two three   four").unwrap();
        stage.sql("SELECT 1\nFROM t\n").unwrap();
        stage.heading("A").unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "one two\nthree four\n\n    SELECT 1\n    FROM t;\n\n\n── A ───────\n");
        assert_eq!(cut("äöü", 2), "ä…");
    }
}
