//! In which line of which file an error is.
//!
//! ```text
//! error[bad data]: "/data/b.csv", line 3: the row has 4 fields, the header has 3
//! error[bad data]: "/data/b.csv", line 9: "n/a" in column "price" is no DOUBLE
//! ```
//!
//! The parser counts the records of its part of the file. Only when something is wrong is the file read again
//! from its start to count lines.

use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use datafusion::common::DataFusionError;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore};
use regex::Regex;
use triune_common::Error;
use triune_object_store::find_error;

use super::records::{Dialect, Record, Walker};
use crate::errors::{bad_file, of_file};
use crate::sample::contents;

/// An error further in is reported without its line.
const LOOK_AT: u64 = 1 << 30;

#[expect(clippy::expect_used, reason = "constant patterns, compiled in the tests below")]
static BAD_VALUE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?s)[Ee]rror (?:while )?parsing (?:value |column \d+: )?'?(.*?)'? as type '?(\w+).*? for column (\d+) at line (\d+)")
        .expect("constant")
});
#[expect(clippy::expect_used, reason = "constant patterns, compiled in the tests below")]
static BAD_LINE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?:at|for) line (\d+)").expect("constant"));

pub(crate) struct Locator {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) path: Path,
    pub(crate) name: String,
    pub(crate) dialect: Dialect,
    pub(crate) compression: FileCompressionType,
    pub(crate) columns: Vec<String>,
    /// Where the part of the file begins.
    pub(crate) from: u64,
    pub(crate) pad_short_rows: bool,
    pub(crate) header: bool,
}

impl Locator {
    /// The error with file and line.
    pub(crate) async fn explain(&self, error: DataFusionError) -> Error {
        if let Some(ours) = find_error(&error) {
            return ours;
        }
        let text = error.to_string();
        if text.contains("incorrect number of fields") || text.contains("unequal lengths") {
            if let Some(record) = self.first(|r, _| self.is_ragged(r)).await {
                return self.ragged(record);
            }
            return bad_file(&self.name, "the rows have different numbers of fields").with_hint(PADDING);
        }
        if let Some(found) = BAD_VALUE.captures(&text) {
            let value: String = found[1].chars().take(100).collect();
            let column = found[3].parse().ok().and_then(|i: usize| self.columns.get(i));
            let index: usize = found[4].parse().unwrap_or(0);
            let line = self.first(|_, nth| nth == index).await.map(|r| format!(", line {}", r.line));
            let sql = match &found[2] {
                "Int64" | "Int32" | "Int16" | "Int8" | "UInt64" | "UInt32" | "UInt16" | "UInt8" => {
                    "whole number"
                }
                "Float64" | "Float32" => "number",
                "Date32" | "Date64" => "date",
                "Boolean" => "truth value",
                other => other,
            };
            return Error::data(format!(
                "\"{}\"{}: \"{value}\" in column \"{}\" is no {sql}",
                self.name,
                line.unwrap_or_default(),
                column.map_or("?", String::as_str)
            ))
            .with_hint(
                "declare the column as VARCHAR, raise sample_size, or name the text for NULL with nullstr",
            );
        }
        if text.contains("invalid UTF-8") {
            // This message counts from one.
            let index = BAD_LINE.captures(&text).and_then(|c| c[1].parse::<usize>().ok()).unwrap_or(1);
            let line = self.first(|_, nth| nth + 1 == index).await.map(|r| format!(", line {}", r.line));
            return Error::data(format!(
                "\"{}\"{}: the text is not UTF-8",
                self.name,
                line.unwrap_or_default()
            ));
        }
        of_file(&self.name, error)
    }

    fn is_ragged(&self, record: Record) -> bool {
        let expected = self.columns.len();
        record.fields > expected || (record.fields < expected && !self.pad_short_rows)
    }

    pub(crate) fn ragged(&self, record: Record) -> Error {
        let fields = |n: usize| if n == 1 { "1 field".to_owned() } else { format!("{n} fields") };
        let error = Error::data(format!(
            "\"{}\", line {}: the row has {}, the {} has {}",
            self.name,
            record.line,
            fields(record.fields),
            if self.header { "header" } else { "first row" },
            self.columns.len()
        ));
        if record.fields < self.columns.len() { error.with_hint(PADDING) } else { error }
    }

    /// The first record of this part for which `is_it` holds; it sees the record and its number from 0.
    async fn first(&self, is_it: impl Fn(Record, usize) -> bool) -> Option<Record> {
        let options = GetOptions::default();
        let mut stream = contents(&self.store, &self.path, self.compression, options).await.ok()?;
        let mut walker = Walker::new(self.dialect);
        let mut found = None;
        let (mut nth, mut read) = (0, 0_u64);
        let mut look = |record: Record| {
            if record.start < self.from {
                return ControlFlow::Continue(());
            }
            if is_it(record, nth) {
                found = Some(record);
                return ControlFlow::Break(());
            }
            nth += 1;
            ControlFlow::Continue(())
        };
        while let Some(Ok(piece)) = stream.next().await {
            read += piece.len() as u64;
            if walker.push(&piece, &mut look).is_break() {
                return found;
            }
            if read > self.from + LOOK_AT {
                return None;
            }
        }
        if let Some(last) = walker.finish() {
            let _ = look(last);
        }
        found
    }
}

const PADDING: &str = "null_padding = true fills short rows with NULL";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parsers_words_are_understood() {
        let text = "Parser error: Error while parsing value 'n/a' as type 'Float64' for column 2 at line 8. Row data: '[x]'";
        let found = BAD_VALUE.captures(text).unwrap();
        assert_eq!((&found[1], &found[2], &found[3], &found[4]), ("n/a", "Float64", "2", "8"));
        assert_eq!(&BAD_LINE.captures("invalid UTF-8 data for line 7 and field 1").unwrap()[1], "7");
    }
}
