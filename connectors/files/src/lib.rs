//! Files as tables: Parquet, CSV, JSON, Arrow IPC.
//!
//! ```sql
//! SELECT * FROM 'data/*.csv.gz';
//! CREATE EXTERNAL TABLE events STORED AS PARQUET LOCATION 's3://lake/events/';   -- year=2024/month=1/… found
//! CREATE EXTERNAL TABLE t (id BIGINT, name VARCHAR) STORED AS CSV LOCATION 't.csv' OPTIONS (delim ';', header false);
//! COPY (SELECT …) TO 'out.parquet' (compression zstd);
//! ```
//!
//! ```text
//!  ExternalTableSpec ── options.rs ──▶ how to read       locations.rs ──▶ which files (glob, folder, hive)
//!          │                                                   │
//!          └──────── open.rs: schema of every file, merged by name (schema.rs) ────────┐
//!                                                                                      ▼
//!                                             FileTable (table.rs): lists anew at each scan, prunes partitions
//!                                                                                      │
//!                           Parquet: DataFusion's ParquetSource     CSV, JSON, Arrow: ReaderSource (source.rs)
//! ```
//!
//! DataFusion's own `ListingTable` is not used, because it: reads CSV by position, whatever the headers say;
//! reads Arrow files by position; ignores files of zero bytes and files outside the partition scheme without
//! a word; keeps folder listings for ever; knows globs on local disk only.

mod align;
mod arrow_ipc;
mod copy;
mod csv;
mod errors;
mod json;
mod kind;
mod late;
mod locations;
mod open;
mod options;
mod parquet_file;
mod partitions;
mod pattern;
mod pieces;
mod sample;
mod schema;
mod source;
mod spec;
mod table;
mod vectors;

pub use copy::{CopyTarget, copy_target};
pub use errors::explain_read_error;
pub use kind::{FileKind, kind_of_path, looks_like_path};
pub use late::{RestOfRows, SplitScan, split_scan};
pub use open::{detect_kind, open_table};
pub use options::known_options;
pub use spec::ExternalTableSpec;
pub use table::FileTable;
