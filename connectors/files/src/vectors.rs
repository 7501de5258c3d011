//! Vector columns of Parquet files, taken as the bytes that they are.
//!
//! ```sql
//! SELECT id FROM 'docs.parquet' ORDER BY embedding <=> $1 LIMIT 10
//! ```
//!
//! Parquet writes a list of 384 floats as 384 values, each with a level that says where a list begins and one
//! that says what is NULL. Decoding the levels costs ten times what comparing the vectors does. Where the footer
//! tells that no list and no value is NULL and that every list is full, the values of a page are the vectors, end
//! to end; the levels are looked through as runs, and the bytes are copied.
//!
//! ```text
//!  VectorSource (source.rs)      DataFusion's ParquetSource does everything but read the vectors
//!       │ open.rs                for each file, and within it for each run of row groups:
//!       ▼                        are the vectors plain (shape.rs)? which rows are this partition's?
//!  footer.rs ── a footer in which the vector column is a column of row numbers, made up on the spot
//!       │
//!  ParquetSource: row groups and pages pruned, filters on other columns applied; row numbers come out
//!       │
//!  adapt.rs ─── the column, as an expression over the row numbers ──▶ cursor.rs ──▶ page.rs, runs.rs
//! ```
//!
//! So pruning, page indexes, late filters, projections and limits stay DataFusion's, and only pages with rows
//! that are wanted are read. A file is also cut between partitions by rows, not by row groups: one row group of a
//! million vectors keeps all cores busy.
//!
//! # When the general reader does it
//!
//! Files that are not on local disk; lists of variable length; a row group with a NULL vector or element, or
//! whose footer does not tell; encodings of integers other than plain and dictionary; columns inside structs.
//! The answers are the same, which `tests/it/vectors.rs` checks.

mod adapt;
mod cursor;
mod footer;
mod open;
mod page;
mod runs;
mod shape;
mod source;

pub(crate) use source::VectorSource;
