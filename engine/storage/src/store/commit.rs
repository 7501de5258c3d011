//! What a transaction hands to the committer.

use arrow::array::RecordBatch;
use tokio::sync::oneshot;
use triune_common::Result;

use crate::key::Keys;
use crate::stamp::{CommitTs, TableId};

/// One transaction's changes.
#[derive(Debug)]
pub(super) struct CommitRequest {
    /// Rows that others changed after this moment are a conflict.
    pub(super) snapshot: CommitTs,
    pub(super) changes: Vec<PendingChange>,
    /// Whether the answer waits for the disk.
    pub(super) wait: bool,
}

/// The changes of one table.
#[derive(Debug)]
pub(super) struct PendingChange {
    pub(super) table: TableId,
    /// The definition that the rows were made for.
    pub(super) revision: u64,
    /// Every row there is ends.
    pub(super) truncate: bool,
    /// Rows of the snapshot that end.
    pub(super) deletes: Keys,
    pub(super) inserts: Option<Inserts>,
    /// Last writer wins: what `deletes` names ends if it is there, whoever wrote it and whenever.
    pub(super) blind: bool,
}

/// New rows in the stored schema; `_rid` columns are filled in by the committer.
#[derive(Debug)]
pub(super) struct Inserts {
    pub(super) rows: RecordBatch,
    /// The rows' keys; `None` for a table without a primary key.
    pub(super) keys: Option<Keys>,
}

pub(super) type Reply = oneshot::Sender<Result<CommitTs>>;
