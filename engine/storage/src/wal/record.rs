//! What a frame of the log holds: one commit, or one change of a table's base.
//!
//! ```text
//!  commit │ 1 │ ts 8 │ changes 4 │ table 8 │ revision 8 │ flags 1 │ deleted keys │ inserted rows │ …
//!  base   │ 2 │ ts 8 │ table 8 │ state as JSON │
//! ```
//!
//! Numbers are little-endian. Rows are an Arrow IPC record batch message without its schema, which the reader
//! knows from table and revision ([`batch`]). Nothing is compressed: the disk takes the bytes faster than LZ4
//! makes them fewer.

pub mod batch;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use triune_common::{Error, ErrorKind, Result};

use super::MAX_PAYLOAD;
use crate::key::Keys;
use crate::stamp::{CommitTs, TableId};

/// The content of a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    Commit(CommitRecord),
    Base(BaseRecord),
}

/// What a transaction changed.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitRecord {
    pub ts: CommitTs,
    pub changes: Vec<TableChange>,
}

/// What a transaction changed in one table: first all rows go (`truncate`), then single rows, then new ones come.
#[derive(Debug, Clone, PartialEq)]
pub struct TableChange {
    pub table: TableId,
    /// Of the definition that `inserts` follows.
    pub revision: u64,
    /// Rows whose current version ends.
    pub deletes: Keys,
    /// In the table's stored schema.
    pub inserts: Option<RecordBatch>,
    pub truncate: bool,
}

/// Rows were put into a table's base directly.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseRecord {
    pub ts: CommitTs,
    pub table: TableId,
    pub state: serde_json::Value,
}

const COMMIT: u8 = 1;
const BASE: u8 = 2;

const TRUNCATE: u8 = 1;
const INSERTS: u8 = 2;
const BYTES_KEYS: u8 = 4;

impl Record {
    pub fn ts(&self) -> CommitTs {
        match self {
            Self::Commit(r) => r.ts,
            Self::Base(r) => r.ts,
        }
    }

    /// Appends the record's bytes to `out`.
    ///
    /// Errors: `Resources` when they are more than a frame takes, `Unsupported` for a column type that tables do
    /// not have. `out` is as it was then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        let before = out.len();
        let encoded = self.encode_into(out).and_then(|()| {
            let len = out.len() - before;
            if len <= MAX_PAYLOAD { Ok(()) } else { Err(too_long(len)) }
        });
        if encoded.is_err() {
            out.truncate(before);
        }
        encoded
    }

    fn encode_into(&self, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Commit(record) => {
                out.push(COMMIT);
                out.extend_from_slice(&record.ts.0.to_le_bytes());
                out.extend_from_slice(&count(record.changes.len())?);
                record.changes.iter().try_for_each(|change| change.encode(out))
            }
            Self::Base(record) => {
                out.push(BASE);
                out.extend_from_slice(&record.ts.0.to_le_bytes());
                out.extend_from_slice(&record.table.0.to_le_bytes());
                serde_json::to_writer(out, &record.state)
                    .map_err(|e| Error::internal(format!("a table's state cannot be written as JSON: {e}")))
            }
        }
    }

    /// Reads what [`encode`](Self::encode) wrote. `schema_of` gives the stored schema of a table at a revision;
    /// changes of tables that it does not know (dropped since) are left out.
    ///
    /// Errors: `Data` for bytes that are not a record; no bytes make it panic or allocate much more than their own
    /// length. `Unsupported` for a kind of record that this build does not know.
    pub fn decode(bytes: &[u8], schema_of: &dyn Fn(TableId, u64) -> Option<SchemaRef>) -> Result<Self> {
        let mut from = Bytes { rest: bytes };
        match from.u8()? {
            COMMIT => {
                let ts = CommitTs(from.u64()?);
                let changes = from.u32()?;
                let mut record = CommitRecord { ts, changes: Vec::new() };
                for _ in 0..changes {
                    record.changes.extend(TableChange::decode(&mut from, schema_of)?);
                }
                if !from.rest.is_empty() {
                    return Err(broken("it goes on after its end"));
                }
                Ok(Self::Commit(record))
            }
            BASE => {
                let (ts, table) = (CommitTs(from.u64()?), TableId(from.u64()?));
                let state = serde_json::from_slice(from.rest)
                    .map_err(|e| broken(&format!("its state is not JSON: {e}")))?;
                Ok(Self::Base(BaseRecord { ts, table, state }))
            }
            kind => Err(Error::unsupported(format!(
                "a record of kind {kind} in the write-ahead log, which this build does not know"
            ))
            .with_hint("open the database with a newer triune")),
        }
    }
}

impl TableChange {
    fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(&self.table.0.to_le_bytes());
        out.extend_from_slice(&self.revision.to_le_bytes());
        let mut flags = 0;
        if self.truncate {
            flags |= TRUNCATE;
        }
        if self.inserts.is_some() {
            flags |= INSERTS;
        }
        if matches!(self.deletes, Keys::Bytes(_)) {
            flags |= BYTES_KEYS;
        }
        out.push(flags);
        out.extend_from_slice(&count(self.deletes.len())?);
        match &self.deletes {
            Keys::Ints(keys) => keys.iter().for_each(|k| out.extend_from_slice(&k.to_le_bytes())),
            Keys::Bytes(keys) => {
                for key in keys {
                    out.extend_from_slice(&count(key.len())?);
                    out.extend_from_slice(key);
                }
            }
        }
        match &self.inserts {
            Some(rows) => batch::encode(rows, out),
            None => Ok(()),
        }
    }

    /// `None` for a table that `schema_of` does not know.
    fn decode(
        from: &mut Bytes<'_>,
        schema_of: &dyn Fn(TableId, u64) -> Option<SchemaRef>,
    ) -> Result<Option<Self>> {
        let (table, revision) = (TableId(from.u64()?), from.u64()?);
        let flags = from.u8()?;
        if flags & !(TRUNCATE | INSERTS | BYTES_KEYS) != 0 {
            return Err(broken(&format!("its flags are {flags:#x}")));
        }
        let deleted = from.u32()? as usize;
        let deletes = if flags & BYTES_KEYS == 0 {
            let len = deleted.checked_mul(8).ok_or_else(|| broken("it ends too early"))?;
            let keys = from.take(len)?.as_chunks::<8>().0;
            Keys::Ints(keys.iter().map(|k| u64::from_le_bytes(*k)).collect())
        } else {
            // Each key takes four bytes at least.
            let mut keys: Vec<Box<[u8]>> = Vec::with_capacity(deleted.min(from.rest.len() / 4));
            for _ in 0..deleted {
                let len = from.u32()? as usize;
                keys.push(from.take(len)?.into());
            }
            Keys::Bytes(keys)
        };
        let rows = if flags & INSERTS == 0 { None } else { Some(batch::split(from)?) };
        let Some(schema) = schema_of(table, revision) else { return Ok(None) };
        let inserts = rows.map(|rows| batch::decode(rows, schema)).transpose()?;
        Ok(Some(Self { table, revision, deletes, inserts, truncate: flags & TRUNCATE != 0 }))
    }
}

/// Bytes that are taken from the front, none of them trusted.
#[derive(Debug)]
struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(|| broken("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}

fn broken(why: &str) -> Error {
    Error::data(format!("a record of the write-ahead log cannot be read: {why}"))
}

fn too_long(len: usize) -> Error {
    Error::new(
        ErrorKind::Resources,
        format!("a transaction of {len} bytes does not fit into the log, which takes {MAX_PAYLOAD}"),
    )
    .with_hint("split it into several transactions")
}

fn count(n: usize) -> Result<[u8; 4]> {
    u32::try_from(n).map(u32::to_le_bytes).map_err(|_| too_long(n))
}

#[cfg(test)]
mod tests;
