//! `system.queries`: the statements of this process that run, and the last 1,000 that ended.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use triune_common::Result;

use crate::queries::QueryInfo;
use crate::session::SessionCore;

pub(super) fn batch(session: &SessionCore) -> Result<RecordBatch> {
    let all = session.database().queries().list(session.principal().as_ref());
    let text = |of: &dyn Fn(&QueryInfo) -> Option<String>| -> ArrayRef {
        Arc::new(all.iter().map(of).collect::<StringArray>())
    };
    let number = |of: &dyn Fn(&QueryInfo) -> Option<u64>| -> ArrayRef {
        Arc::new(all.iter().map(of).collect::<UInt64Array>())
    };
    let real = |of: &dyn Fn(&QueryInfo) -> Option<f64>| -> ArrayRef {
        Arc::new(all.iter().map(of).collect::<Float64Array>())
    };
    let seconds = |d: Option<Duration>| d.map(|d| d.as_secs_f64());
    let started =
        TimestampMicrosecondArray::from_iter_values(all.iter().map(|q| q.started.timestamp_micros()));
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("id", number(&|q| Some(q.id)), false),
        ("principal", text(&|q| q.principal.clone()), true),
        ("kind", text(&|q| q.kind.map(|k| k.name().to_owned())), true),
        ("status", text(&|q| Some(q.status.name().to_owned())), false),
        ("started", Arc::new(started.with_timezone("UTC")) as ArrayRef, false),
        ("seconds", real(&|q| Some(q.duration.as_secs_f64())), false),
        ("planning_seconds", real(&|q| seconds(q.planning)), true),
        ("first_row_seconds", real(&|q| seconds(q.first_row)), true),
        ("rows", number(&|q| Some(q.rows)), false),
        ("bytes", number(&|q| Some(q.bytes)), false),
        ("memory_peak", number(&|q| Some(q.memory_peak as u64)), false),
        ("rows_read", number(&|q| q.progress.fraction.map(|_| q.progress.rows_read)), true),
        ("progress", real(&|q| q.progress.fraction), true),
        ("error_kind", text(&|q| q.error.as_ref().map(|e| e.0.label().to_owned())), true),
        ("error", text(&|q| q.error.as_ref().map(|e| e.1.clone())), true),
        ("text", text(&|q| Some(q.text.clone())), false),
    ])?)
}
