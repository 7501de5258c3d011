//! Time series in SQL.
//!
//! ```sql
//! SELECT time_bucket(INTERVAL '1 hour', ts) AS hour, first(price, ts), last(price, ts)
//! FROM trades GROUP BY hour ORDER BY hour;
//! ```
//!
//! | function | what |
//! |---|---|
//! | [`time_bucket`] | the start of the bucket that a time or an integer falls into |
//! | [`first`, `last`](bookend) | the value of the earliest and of the latest row of a group |
//! | [`*`, `/`](scale) | intervals times or divided by numbers |
//!
//! Names and meanings are TimescaleDB's (and DuckDB's where it has the function); each module says where
//! it deviates. The crate performs no I/O and reads no clock.

pub mod bookend;
mod display;
pub mod named;
pub mod scale;
pub mod time_bucket;

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

pub use named::desugar_call;
pub use scale::IntervalExprPlanner;

/// The scalar functions of this crate.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    vec![Arc::new(ScalarUDF::new_from_impl(time_bucket::TimeBucketFunc::new()))]
}

/// The aggregate functions of this crate.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    vec![
        Arc::new(AggregateUDF::new_from_impl(bookend::BookendAgg::first())),
        Arc::new(AggregateUDF::new_from_impl(bookend::BookendAgg::last())),
    ]
}
