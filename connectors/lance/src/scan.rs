//! `SELECT id, embedding FROM docs WHERE lang = 'en'` over a Lance dataset.
//!
//! ```text
//!  fragments   [0············][1·····][2····································]
//!  partitions  ├──────── 0 ────────┤├──────── 1 ───────┤├──────── 2 ────────┤   by rows, fragments are split
//!
//!  one partition, one chunk of rows:
//!     columns of the conditions ──▶ conditions ──▶ rows that remain ──▶ the other columns of those rows
//! ```
//!
//! The second step is taken when the other columns are wide (an embedding is 1.5 KB a row) and makes
//! a selective condition cheap; otherwise all columns are read at once. Lance files have no minima and
//! maxima, so the columns of the conditions are always read whole.

pub(crate) mod exec;
pub(crate) mod layout;
pub(crate) mod pieces;
pub(crate) mod reader;
pub(crate) mod size;

pub use exec::LanceScanExec;
