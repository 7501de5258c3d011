//! Values of `GENERATED … AS IDENTITY` columns.
//!
//! Values are handed out from memory; the WAL says, a block ahead, up to where. After a crash the rest of the
//! block is skipped, so values have gaps and are never given twice.

use std::collections::btree_map::Entry;
use std::ops::Range;

use triune_common::{Error, ErrorKind, Result};

use super::Store;
use super::committer::Request;
use super::version::IdentityCounter;
use crate::stamp::TableId;
use crate::wal::record::{BaseRecord, Record};

/// How many values one WAL record covers.
const BLOCK: i64 = 1024;

impl Store {
    /// `n` fresh values of an identity column, in order, as ranges of consecutive ones.
    ///
    /// Errors: resources when the column's type has no value left.
    pub fn next_identity(&self, table: TableId, column: &str, n: u64) -> Result<Vec<Range<i64>>> {
        let (_, version) = self.shared.current();
        let version = version.table(table)?;
        let column = version
            .def
            .column(column)
            .ok_or_else(|| Error::internal(format!("the table has no column \"{column}\"")))?;
        let identity = column
            .identity
            .ok_or_else(|| Error::internal(format!("\"{}\" is no identity column", column.field.name())))?;
        let used_up = || {
            Error::new(
                ErrorKind::Resources,
                format!("the identity column \"{}\" has no value left", column.field.name()),
            )
        };
        let n = i64::try_from(n).map_err(|_| used_up())?;
        let span = n.checked_mul(identity.increment).ok_or_else(used_up)?;
        let mut identities = version.counters.identities.lock();
        let counter = match identities.entry(column.id) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(free) => {
                free.insert(IdentityCounter { next: identity.start, reserved: identity.start })
            }
        };
        let first = counter.next;
        let next = first.checked_add(span).ok_or_else(used_up)?;
        let beyond = if identity.increment > 0 { next > counter.reserved } else { next < counter.reserved };
        if beyond {
            let block = BLOCK.checked_mul(identity.increment).ok_or_else(used_up)?;
            let reserved = next.checked_add(block).unwrap_or(next);
            let record = Record::Base(BaseRecord {
                ts: crate::stamp::CommitTs::ZERO,
                table,
                state: serde_json::json!({ "identity": column.id, "next": reserved }),
            });
            let mut frame = Vec::new();
            record.encode(&mut frame)?;
            // In the WAL before any commit that uses the values; such a commit's fsync covers it.
            self.driver.send(Request::Run(Box::new(move |committer| {
                drop(committer.write_frames(&[&frame], false));
            })))?;
            counter.reserved = reserved;
        }
        counter.next = next;
        drop(identities);
        if identity.increment == 1 {
            return Ok(std::iter::once(first..next).collect());
        }
        Ok((0..n).map(|i| first + i * identity.increment).map(|v| v..v + 1).collect())
    }
}
