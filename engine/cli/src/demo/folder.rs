//! The demo's folder and what is in it.
//!
//! ```text
//! triune-demo/
//!   triune-demo.json     says that the folder is a demo's, and which
//!   data/
//!     packages.parquet   the slice that is part of the program
//!     queries.parquet
//!     packages.lance/    written by SQL
//!     events/            one Parquet file for each week
//!   …                    the database itself
//! ```
//!
//! Nothing that the demo did not make is touched: a folder that holds something else is refused, and so is
//! a demo of another size or seed than asked for. A demo that was interrupted is made again.

use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type};
use bytes::Bytes;
use datafusion::common::DataFusionError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use triune_common::{Error, ErrorKind, Result};

use super::generate::Package;
use crate::output::text::count;

/// Real packages with embeddings; see `tests/data/README.md`.
const PACKAGES: &[u8] = include_bytes!("../../../../tests/data/packages.parquet");
/// Queries with embeddings by the same model.
const QUERIES: &[u8] = include_bytes!("../../../../tests/data/queries.parquet");

const MARKER: &str = "triune-demo.json";
const DEFAULT_EVENTS: u64 = 2_000_000;
const DEFAULT_SEED: u64 = 42;
/// Raised when what the demo writes changes.
const LAYOUT: u64 = 1;

/// The folder, and whether the demo's data are there already.
#[derive(Debug)]
pub(crate) struct DemoFolder {
    pub(crate) root: PathBuf,
    pub(crate) is_complete: bool,
    pub(crate) events: u64,
    pub(crate) seed: u64,
}

impl DemoFolder {
    /// Takes an empty, new or demo's folder. What is not asked for is as it is in the folder, or the default.
    ///
    /// *Errors*: the folder holds something else, or another demo (`AlreadyExists`); it cannot be read or made.
    pub(crate) fn open(path: &Path, events: Option<u64>, seed: Option<u64>) -> Result<Self> {
        let root = std::path::absolute(path).map_err(io)?;
        std::fs::create_dir_all(&root).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotADirectory => {
                Error::new(ErrorKind::AlreadyExists, format!("'{}' is a file, not a folder", path.display()))
                    .with_hint("name another folder: triune demo FOLDER")
            }
            _ => io(e),
        })?;
        let mut folder = Self {
            root,
            is_complete: false,
            events: events.unwrap_or(DEFAULT_EVENTS),
            seed: seed.unwrap_or(DEFAULT_SEED),
        };
        match std::fs::read_to_string(folder.root.join(MARKER)) {
            Ok(text) => folder.read_marker(&text, path, events, seed)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                if std::fs::read_dir(&folder.root).map_err(io)?.next().is_some() {
                    return Err(Error::new(
                        ErrorKind::AlreadyExists,
                        format!("the folder '{}' is not empty and holds no demo", path.display()),
                    )
                    .with_hint("name another folder: triune demo FOLDER"));
                }
            }
            Err(e) => return Err(io(e)),
        }
        Ok(folder)
    }

    fn read_marker(&mut self, text: &str, path: &Path, events: Option<u64>, seed: Option<u64>) -> Result<()> {
        let marker: Value = serde_json::from_str(text).unwrap_or(Value::Null);
        let number = |key: &str| marker.get(key).and_then(Value::as_u64);
        let other = match (number("layout"), number("events"), number("seed")) {
            (Some(LAYOUT), Some(has_events), Some(has_seed)) => {
                if events.is_none_or(|n| n == has_events) && seed.is_none_or(|n| n == has_seed) {
                    (self.events, self.seed) = (has_events, has_seed);
                    self.is_complete = marker.get("complete") == Some(&Value::Bool(true));
                    return Ok(());
                }
                format!("a demo of {} with seed {has_seed}", count(has_events, "event"))
            }
            _ => "a demo of another version".to_owned(),
        };
        Err(Error::new(ErrorKind::AlreadyExists, format!("the folder '{}' holds {other}", path.display()))
            .with_hint("name another folder, or remove this one first"))
    }

    /// Writes the slice, and forgets what an interrupted demo left.
    pub(crate) fn begin(&self) -> Result<()> {
        self.mark(false)?;
        match std::fs::remove_dir_all(self.data()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
            _ => {}
        }
        std::fs::create_dir_all(self.events_folder()).map_err(io)?;
        std::fs::write(self.data().join("packages.parquet"), PACKAGES).map_err(io)?;
        std::fs::write(self.data().join("queries.parquet"), QUERIES).map_err(io)
    }

    pub(crate) fn complete(&self) -> Result<()> {
        self.mark(true)
    }

    fn mark(&self, complete: bool) -> Result<()> {
        let marker =
            json!({ "layout": LAYOUT, "events": self.events, "seed": self.seed, "complete": complete });
        std::fs::write(self.root.join(MARKER), format!("{marker}\n")).map_err(io)
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(crate) fn events_folder(&self) -> PathBuf {
        self.data().join("events")
    }

    /// A path below `data` as a text literal of SQL, without the quotes.
    pub(crate) fn sql_path(&self, name: &str) -> String {
        self.data().join(name).display().to_string().replace('\'', "''")
    }
}

fn io(e: std::io::Error) -> Error {
    Error::from(DataFusionError::IoError(e))
}

/// The packages of the slice, for the generator. A few of them will be the talk of a day.
pub(crate) fn packages() -> Result<Vec<Package>> {
    let parquet = |e| Error::from(DataFusionError::ParquetError(Box::new(e)));
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from_static(PACKAGES)).map_err(parquet)?;
    let columns =
        parquet::arrow::ProjectionMask::columns(builder.parquet_schema(), ["id", "download_rank", "summary"]);
    let mut packages = Vec::new();
    for batch in builder.with_projection(columns).build().map_err(parquet)? {
        let batch = batch?;
        let ids = batch.column(0).as_primitive::<Int64Type>();
        let ranks = batch.column(1).as_primitive::<Int32Type>();
        let summaries = batch.column(2).as_string::<i32>();
        for row in 0..batch.num_rows() {
            let summary = summaries.value(row).to_lowercase();
            packages.push(Package {
                id: ids.value(row),
                rank: ranks.is_valid(row).then(|| ranks.value(row)),
                is_viral: summary.contains("forecast") || summary.contains("time series"),
            });
        }
    }
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slice_is_part_of_the_program() {
        let packages = packages().unwrap();
        assert!(packages.len() > 3_000);
        assert!(packages.iter().filter(|p| p.rank.is_some()).count() > 300);
        let viral = packages.iter().filter(|p| p.is_viral).count();
        assert!((5..200).contains(&viral), "{viral}");
        assert!(PACKAGES.len() + QUERIES.len() <= 3_000_000);
    }

    #[test]
    fn only_an_empty_folder_or_the_same_demo_is_taken() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a'b");
        let open = |events, seed| DemoFolder::open(&path, Some(events), Some(seed));

        let folder = open(10, 1).unwrap();
        assert!(!folder.is_complete);
        folder.begin().unwrap();
        assert!(folder.sql_path("x").ends_with("a''b/data/x"), "{}", folder.sql_path("x"));
        assert!(!open(10, 1).unwrap().is_complete);
        folder.complete().unwrap();
        assert!(open(10, 1).unwrap().is_complete);

        let error = open(11, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.message().ends_with("holds a demo of 10 events with seed 1"), "{error}");
        // Whatever is there will do when nothing is asked for.
        let same = DemoFolder::open(&path, None, None).unwrap();
        assert_eq!((same.is_complete, same.events, same.seed), (true, 10, 1));

        let other = temp.path().join("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("mine.txt"), "mine").unwrap();
        let error = DemoFolder::open(&other, None, None).unwrap_err();
        assert!(error.message().ends_with("is not empty and holds no demo"), "{error}");
        let error = DemoFolder::open(&other.join("mine.txt"), None, None).unwrap_err();
        assert!(error.message().ends_with("is a file, not a folder"), "{error}");
        assert_eq!(std::fs::read_to_string(other.join("mine.txt")).unwrap(), "mine");
    }
}
