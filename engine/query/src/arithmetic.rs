//! Integer and decimal arithmetic that says so when a result does not fit.
//!
//! ```sql
//! SELECT 9223372036854775807 + 1;   -- error[invalid]: integer out of range: 9223372036854775807 + 1 is no BIGINT
//! SELECT sum(x) FROM t;             -- exact whatever the order of the rows; an error when the total is no BIGINT
//! ```
//!
//! DataFusion's `+`, `-`, `*` and unary minus wrap around, and so does its `sum`. An analyzer rule ([`rule`]) puts
//! [`function::Checked`] in the place of these operators where both sides are integers, or decimals that cannot take
//! another digit; [`sum::CheckedSum`] stands in the place of `sum`. Everything that plans make of expressions later
//! (folding of constants, filters pushed into scans, arguments of aggregates) then works with the checked ones.
//!
//! Floats, dates, times and intervals keep DataFusion's operators; so does division, which is checked there.
//!
//! Not covered: arguments of table functions (`range(1, …)`), which DataFusion folds before any rule runs.

mod function;
mod kernels;
mod rule;
mod sum;
#[cfg(test)]
mod tests;

pub(crate) use rule::CheckedArithmetic;
pub(crate) use sum::CheckedSum;
