//! Adding rows to a base.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::{RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use triune_common::{Error, ErrorKind, Result, boxed};

use super::index::{FragmentMeta, KeyFileMeta, Segment};
use super::keyfile::KeyFileBuilder;
use super::sorted::sorted;
use super::{Base, BaseState, BaseTable};
use crate::key::{KeyKind, Keys};
use crate::stamp::CommitTs;

/// Rows of a data file. A power of two, so that many files end together with a key file.
pub(super) const ROWS_PER_FILE: usize = 1 << 20;

/// Rows of a key file while rows are being appended: some 200 MB of memory for hashed keys when it is sorted.
const ROWS_PER_KEY_FILE: usize = 8 << 20;

/// So many key files of about the same size are merged into one …
const MERGE_FILES: usize = 8;

/// … unless that would have more rows than this.
const MERGE_ROWS: u64 = 16 << 20;

/// Bytes for sorting, where the table has a CLUSTER BY; more goes to temporary files.
pub(super) const SORT_MEMORY: usize = 256 << 20;

/// Batches that wait for Lance.
const BATCHES_AHEAD: usize = 8;

/// What goes with an append.
#[derive(Debug, Clone, Copy)]
pub struct AppendOptions {
    /// The new base's checkpoint: deletions up to this one are written to its file.
    pub checkpoint: CommitTs,
    /// No snapshot older than this is read through the base any more: see [`super::DeleteLog::settle`].
    pub settle: CommitTs,
}

impl Base {
    /// Writes `rows` (the stored schema; sorted here where the table has a CLUSTER BY) as one new Lance version on top of this base's, with key
    /// files and the file of deletions up to the checkpoint, all durable on return.
    ///
    /// The new base shares this one's [`super::DeleteLog`]. Keys are not checked for duplicates. Nothing is
    /// published: a caller that fails before it publishes the new base's state just drops it.
    ///
    /// *Memory*: what Lance buffers of a file, and 12 to 36 bytes a row for up to 8 Mi rows.
    ///
    /// Errors: those of the stream; invalid for other columns; resources for a full disk.
    #[boxed]
    pub async fn append(&self, rows: SendableRecordBatchStream, options: AppendOptions) -> Result<Arc<Self>> {
        self.deletes.settle(options.settle);
        let table = &self.table;
        let mut state = BaseState { checkpoint: options.checkpoint, ..self.state.clone() };
        make_folder(table)?;

        let mut provider = self.provider.clone();
        if let Some(rows) = not_empty(rows).await? {
            check_columns(table, &rows)?;
            let rows = sorted(rows, &table.cluster_by, SORT_MEMORY)?;
            let sink = Arc::new(Mutex::new(KeySink::new(table, state.seed, state.next_file)));
            let rows = ahead(with_keys(rows, Arc::clone(table), Arc::clone(&sink)));
            let at = self.provider.as_deref();
            let commit = table.lance.append_at(&table.url, at, rows, ROWS_PER_FILE).await?;
            let sink = std::mem::replace(&mut *sink.lock(), KeySink::new(table, 0, 0));
            let written = sink.finish(table, &commit.added).await?;
            state.lance_version = Some(commit.provider.version());
            state.manifest_sum = commit.manifest_sum;
            state.fragments.extend(written.fragments);
            state.keys.extend(written.keys);
            state.next_file = written.next_file;
            provider = Some(commit.provider);
            self.merge_keys(&mut state).await?;
        }
        write_deletes(table, &self.deletes, &mut state)?;
        sync_folder(table)?;
        Self::assemble(table, state, provider, Arc::clone(&self.deletes), Some(&self.keys))
    }

    /// Merges the newest key files when they have become many.
    async fn merge_keys(&self, state: &mut BaseState) -> Result<()> {
        let (mut count, mut rows, mut ordinals) = (0, 0u64, 0u64);
        for meta in state.keys.iter().rev() {
            let spans: u64 = meta.segments.iter().map(|s| u64::from(s.rows)).sum();
            if meta.rows > 2 * rows + 65_536
                || rows + meta.rows > MERGE_ROWS
                || ordinals + spans > u64::from(u32::MAX)
            {
                break;
            }
            count += 1;
            rows += meta.rows;
            ordinals += spans;
        }
        if count < MERGE_FILES {
            return Ok(());
        }
        let parts = state.keys.split_off(state.keys.len() - count);
        let number = state.next_file;
        state.next_file += 1;
        let table = Arc::clone(&self.table);
        let seed = state.seed;
        let merged = blocking(move || merge(&table, seed, &parts, number)).await?;
        state.keys.extend(merged);
        Ok(())
    }
}

pub(super) fn make_folder(table: &BaseTable) -> Result<()> {
    table.fs.create_dir_all(&table.folder).map_err(|e| table.io("make", &table.folder, &e))
}

pub(super) fn sync_folder(table: &BaseTable) -> Result<()> {
    table.fs.sync_dir(&table.folder).map_err(|e| table.io("fsync", &table.folder, &e))
}

/// Writes the deletions up to the checkpoint under a new name, if there are any.
pub(super) fn write_deletes(
    table: &BaseTable,
    deletes: &super::DeleteLog,
    state: &mut BaseState,
) -> Result<()> {
    state.deletes = None;
    if deletes.is_empty() {
        return Ok(());
    }
    let name = format!("deletes-{}.roar", state.next_file);
    let path = table.folder.join(&name);
    let bytes = deletes.encode(state.checkpoint)?;
    table.fs.write_atomic(&path, &bytes).map_err(|e| table.io("write", &path, &e))?;
    state.next_file += 1;
    state.deletes = Some(name);
    Ok(())
}

/// The stream with its first batch that has rows pulled; `None` if there is none.
pub(super) async fn not_empty(
    mut rows: SendableRecordBatchStream,
) -> Result<Option<SendableRecordBatchStream>> {
    while let Some(first) = rows.try_next().await? {
        if first.num_rows() > 0 {
            let schema = rows.schema();
            let all = futures::stream::iter([Ok(first)]).chain(rows);
            return Ok(Some(Box::pin(RecordBatchStreamAdapter::new(schema, all))));
        }
    }
    Ok(None)
}

pub(super) fn check_columns(table: &BaseTable, rows: &SendableRecordBatchStream) -> Result<()> {
    let given = rows.schema();
    let same = given.fields().len() == table.schema.fields().len()
        && given
            .fields()
            .iter()
            .zip(table.schema.fields())
            .all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type());
    if same {
        return Ok(());
    }
    Err(Error::internal(format!("rows with the columns {given} for a base with {}", table.schema)))
}

/// What an append made.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) fragments: Vec<FragmentMeta>,
    pub(super) keys: Vec<KeyFileMeta>,
    pub(super) next_file: u64,
}

/// A key file that is being written beside the rows.
#[derive(Debug)]
struct Group {
    file: String,
    first: u64,
    rows: u64,
    bytes: SpawnedTask<Result<u64>>,
}

/// Gathers the keys of rows on their way to Lance.
///
/// As long as integer keys follow each other without a gap, only the first one is kept.
#[derive(Debug)]
pub(super) struct KeySink {
    kind: KeyKind,
    seed: u64,
    next_file: u64,
    rows: u64,
    run: Option<u64>,
    builder: KeyFileBuilder,
    groups: Vec<Group>,
}

impl KeySink {
    pub(super) fn new(table: &BaseTable, seed: u64, next_file: u64) -> Self {
        let kind = table.kind();
        let builder = KeyFileBuilder::new(kind, seed);
        Self { kind, seed, next_file, rows: 0, run: None, builder, groups: Vec::new() }
    }

    /// Takes the keys of the next rows.
    fn push(&mut self, keys: &Keys) -> Result<()> {
        let count = keys.len() as u64;
        if let Keys::Ints(ints) = keys
            && let Some(first) = ints.first()
        {
            let start = if self.rows == 0 { Some(*first) } else { self.run };
            if let Some(start) = start
                && continues(start, self.rows, ints)
            {
                self.run = Some(start);
                self.rows += count;
                return Ok(());
            }
            if let Some(start) = self.run.take() {
                // The first gap: the keys so far are written out after all.
                self.builder.push_run(start, usize::try_from(self.rows).unwrap_or(usize::MAX));
            }
        }
        self.builder.push(keys)?;
        self.rows += count;
        Ok(())
    }

    /// Begins to write the keys so far when they are many; a task to wait for comes back when another file
    /// is still being written.
    fn flush(&mut self, table: &Arc<BaseTable>, least: usize) {
        if self.builder.rows() < least || self.builder.rows() == 0 {
            return;
        }
        let builder = std::mem::replace(&mut self.builder, KeyFileBuilder::new(self.kind, self.seed));
        let file = format!("keys-{}.keys", self.next_file);
        self.next_file += 1;
        let rows = builder.rows() as u64;
        let (table, name) = (Arc::clone(table), file.clone());
        let bytes = SpawnedTask::spawn_blocking(move || write_keys(&table, &name, builder));
        self.groups.push(Group { file, first: self.rows - rows, rows, bytes });
    }

    /// Writes the last key file, now that it is known which fragments the rows went to.
    pub(super) async fn finish(mut self, table: &Arc<BaseTable>, added: &[(u32, u32)]) -> Result<Written> {
        let total: u64 = added.iter().map(|(_, rows)| u64::from(*rows)).sum();
        if total != self.rows {
            return Err(Error::internal(format!("Lance wrote {total} of {} rows", self.rows)));
        }
        let mut fragments = Vec::with_capacity(added.len());
        let mut at = 0;
        for (id, rows) in added {
            let key_start = self.run.map(|start| start + at);
            fragments.push(FragmentMeta { id: *id, rows: *rows, key_start });
            at += u64::from(*rows);
        }
        self.flush(table, 1);
        let mut keys = Vec::with_capacity(self.groups.len());
        for group in self.groups {
            let bytes = group.bytes.join_unwind().await.map_err(cancelled)??;
            let (skip, segments) = segments_of(added, group.first, group.rows);
            keys.push(KeyFileMeta { file: group.file, rows: group.rows, bytes, skip, segments });
        }
        Ok(Written { fragments, keys, next_file: self.next_file })
    }
}

/// Whether `ints` are `start + rows`, `start + rows + 1`, ….
fn continues(start: u64, rows: u64, ints: &[u64]) -> bool {
    let Some(first) = start.checked_add(rows) else { return false };
    first.checked_add(ints.len() as u64).is_some() && ints.iter().zip(first..).all(|(k, want)| *k == want)
}

/// The fragments that hold the rows `first..first + rows` of an append, and how many rows of the first of
/// them come before.
fn segments_of(added: &[(u32, u32)], first: u64, rows: u64) -> (u32, Vec<Segment>) {
    let (mut skip, mut segments, mut at) = (0, Vec::new(), 0u64);
    for (fragment, length) in added {
        let end = at + u64::from(*length);
        if end > first && at < first + rows {
            if segments.is_empty() {
                skip = u32::try_from(first - at).unwrap_or(u32::MAX);
            }
            segments.push(Segment { fragment: *fragment, rows: *length, gone: false });
        }
        at = end;
    }
    (skip, segments)
}

fn write_keys(table: &BaseTable, name: &str, builder: KeyFileBuilder) -> Result<u64> {
    let path = table.folder.join(name);
    // What a failed attempt left may still be mapped: it is removed, not overwritten.
    if table.fs.exists(&path).map_err(|e| table.io("look at", &path, &e))? {
        table.fs.remove(&path).map_err(|e| table.io("remove", &path, &e))?;
    }
    builder.write(table.fs.as_ref(), &path)
}

/// Whether these key files can be merged into one of bounded size.
pub(super) fn merge_worthwhile(parts: &[KeyFileMeta]) -> bool {
    let rows: u64 = parts.iter().map(|p| p.rows).sum();
    let spans: u64 = parts.iter().flat_map(|p| &p.segments).map(|s| u64::from(s.rows)).sum();
    !parts.is_empty() && rows <= MERGE_ROWS && spans <= u64::from(u32::MAX)
}

/// One key file with the keys of several, those of rewritten fragments left out; `None` if none are left.
pub(super) fn merge(
    table: &BaseTable,
    seed: u64,
    parts: &[KeyFileMeta],
    number: u64,
) -> Result<Option<KeyFileMeta>> {
    let mut builder = KeyFileBuilder::new(table.kind(), seed);
    let mut segments = Vec::new();
    let mut offset = 0u64;
    for part in parts {
        let file =
            super::keyfile::KeyFile::open(table.fs.as_ref(), &table.folder.join(&part.file), table.kind())?;
        let mut gone = Vec::new();
        let mut at = 0u64;
        for segment in &part.segments {
            if segment.gone {
                gone.push(at..at + u64::from(segment.rows));
            }
            at += u64::from(segment.rows);
        }
        for (high, low, ordinal) in file.entries() {
            let place = u64::from(ordinal) + u64::from(part.skip);
            if gone.iter().any(|g| g.contains(&place)) {
                continue;
            }
            let ordinal = u32::try_from(offset + place)
                .map_err(|_| Error::internal("key files of more than 2³² rows were to be merged"))?;
            builder.push_entry(high, low, ordinal);
        }
        segments.extend(part.segments.iter().cloned());
        offset += at;
    }
    let rows = builder.rows() as u64;
    if rows == 0 {
        return Ok(None);
    }
    let file = format!("keys-{number}.keys");
    let bytes = write_keys(table, &file, builder)?;
    Ok(Some(KeyFileMeta { file, rows, bytes, skip: 0, segments }))
}

/// The same rows; their keys go to the sink as they pass.
pub(super) fn with_keys(
    rows: SendableRecordBatchStream,
    table: Arc<BaseTable>,
    sink: Arc<Mutex<KeySink>>,
) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let rows = rows.and_then(move |batch: RecordBatch| {
        let (table, sink) = (Arc::clone(&table), Arc::clone(&sink));
        async move {
            let keys = table.codec.keys_of(&batch).map_err(DataFusionError::from)?;
            let mut sink = sink.lock();
            sink.push(&keys).map_err(DataFusionError::from)?;
            sink.flush(&table, ROWS_PER_KEY_FILE);
            Ok(batch)
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// The same rows, gathered while Lance encodes those before them.
pub(super) fn ahead(mut rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let mut builder = RecordBatchReceiverStreamBuilder::new(rows.schema(), BATCHES_AHEAD);
    let to = builder.tx();
    builder.spawn(async move {
        while let Some(batch) = rows.next().await {
            // Nobody reads on: the write has failed.
            if to.send(batch).await.is_err() {
                break;
            }
        }
        Ok(())
    });
    builder.build()
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    SpawnedTask::spawn_blocking(work).join_unwind().await.map_err(cancelled)?
}

fn cancelled(_: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Cancelled, "the write of a table's base was cancelled")
}
