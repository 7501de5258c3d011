//! How far a running query is, read off its plan's metrics.
//!
//! The leaves of a plan know how many rows they have given out and, where their statistics say so, how many
//! they hold. A query that reads two tables is half done when half of all rows are read; that overestimates
//! queries that work long after reading, which no cheap measure avoids.

use std::sync::{Arc, Weak};

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricValue;

use crate::session::SessionCore;

/// A moment of a running query.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Progress {
    /// Rows that the sources have given out.
    pub rows_read: u64,
    /// Rows that the sources hold, where all of them know.
    pub total_rows: Option<u64>,
    /// Bytes read from storage, where the sources count them.
    pub bytes_read: u64,
    /// Between 0 and 1.
    pub fraction: Option<f64>,
}

/// Looks at a running query from outside; cheap to clone.
#[derive(Debug, Clone)]
pub struct ProgressHandle {
    of: Of,
}

#[derive(Debug, Clone)]
enum Of {
    Plan(Option<Arc<dyn ExecutionPlan>>),
    /// What its statement that writes has started last.
    Session(Weak<SessionCore>),
}

impl ProgressHandle {
    pub(crate) fn of(plan: Option<Arc<dyn ExecutionPlan>>) -> Self {
        Self { of: Of::Plan(plan) }
    }

    pub(crate) fn of_session(session: &Arc<SessionCore>) -> Self {
        Self { of: Of::Session(Arc::downgrade(session)) }
    }

    pub fn snapshot(&self) -> Progress {
        let plan = match &self.of {
            Of::Plan(plan) => plan.clone(),
            Of::Session(core) => core.upgrade().and_then(|c| c.started()).and_then(|s| s.running()),
        };
        let Some(plan) = &plan else { return Progress::default() };
        let mut sum = Progress { total_rows: Some(0), ..Progress::default() };
        visit(plan, &mut sum);
        sum.total_rows = sum.total_rows.filter(|t| *t > 0);
        sum.fraction = sum.total_rows.map(|t| (sum.rows_read as f64 / t as f64).clamp(0.0, 1.0));
        sum
    }
}

fn visit(plan: &Arc<dyn ExecutionPlan>, sum: &mut Progress) {
    let children = plan.children();
    for child in &children {
        visit(child, sum);
    }
    if !children.is_empty() {
        return;
    }
    if let Some(metrics) = plan.metrics() {
        sum.rows_read += metrics.output_rows().unwrap_or(0) as u64;
        for metric in metrics.iter() {
            if let MetricValue::Count { name, count } = metric.value()
                && matches!(name.as_ref(), "bytes_scanned" | "bytes_read")
            {
                sum.bytes_read += count.value() as u64;
            }
        }
    }
    let rows = plan.partition_statistics(None).ok().and_then(|s| s.num_rows.get_value().copied());
    sum.total_rows = sum.total_rows.zip(rows).map(|(t, r)| t + r as u64);
}
