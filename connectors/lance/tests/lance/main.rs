//! Lance datasets through the public surface: written, opened, scanned and searched, against brute force.

#![expect(clippy::unwrap_used, reason = "helpers of tests end a test by a panic, as the tests do")]

mod ann;
mod masked;
mod open;
mod scan;
mod support;
mod write;
