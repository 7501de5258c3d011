//! Commit timestamps and the small numbers that name things of the storage.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// When a commit happened: microseconds since the epoch, strictly growing from commit to commit.
///
/// Two commits within one microsecond, or a wall clock that steps back, get the next free number. It is the
/// version number that users see: `AT (VERSION => 1763846400000001)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommitTs(pub u64);

impl CommitTs {
    /// Before every commit.
    pub const ZERO: Self = Self(0);
    /// After every commit: "not ended yet".
    pub const MAX: Self = Self(u64::MAX);

    /// The timestamp for a commit at this time, after `last`.
    #[must_use]
    pub fn after(last: Self, now: DateTime<Utc>) -> Self {
        let now = u64::try_from(now.timestamp_micros()).unwrap_or(0);
        Self(now.max(last.0 + 1))
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
    pub(crate) fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    pub fn time(self) -> DateTime<Utc> {
        i64::try_from(self.0)
            .ok()
            .and_then(DateTime::from_timestamp_micros)
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

impl fmt::Display for CommitTs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A table, for good: never given out twice in one database, whatever the table is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TableId(pub u64);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
