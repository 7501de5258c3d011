//! One partition: pieces of fragments in, batches of the output out.
//!
//! ```text
//!  piece ─▶ first read ─▶ conditions ─▶ rows that remain ─┬─ one read  ─────────────────▶ batch
//!             (ahead)                                     └─ two reads ─▶ second read ─▶ batch
//!                                                                          (up to 3 at once)
//! ```
//!
//! *Order*: rows come in the order of the pieces. *Memory*: `READ_AHEAD` of encoded bytes for each of
//! the two reads, two decoded batches of the first, and of the second three chunks more than one batch
//! of the first needs, each of about `CHUNK_BYTES`. *Cancellation*: nothing outlives the stream; reads that run beside it are aborted
//! when it is dropped.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::UInt64Type;
use datafusion::common::runtime::SpawnedTask;
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use lance::dataset::fragment::{BaseSchedulers, FileFragment, FragReadConfig, FragmentReader};
use lance_core::ROW_ADDR;
use lance_core::datatypes::Schema as LanceSchema;
use lance_io::scheduler::{ScanScheduler, SchedulerConfig};
use tokio::sync::OnceCell;
use triune_common::{Error, Result};

use crate::cache::scan::CachedReader;
use crate::error::from_lance;
use crate::provider::Table;
use crate::scan::layout::Layout;
use crate::scan::pieces::{Piece, ranges_of};

/// Encoded bytes read ahead of decoding: enough to keep a disk busy, more where answers are slow.
const READ_AHEAD_LOCAL: u64 = 16 << 20;
const READ_AHEAD_REMOTE: u64 = 64 << 20;

/// Decoded bytes of a chunk that is aimed at: rows of 1.5 KB come 2,700 at a time.
const CHUNK_BYTES: usize = 4 << 20;

/// … but not fewer rows than this, unless the session's batches are smaller.
const LEAST_CHUNK_ROWS: usize = 1024;

/// Batches of the first read that are decoded ahead.
const FIRST_AHEAD: usize = 2;

/// Second reads under way at once; each costs a round trip to the store.
const REST_AHEAD: usize = 3;

/// After this many batches of the first read, rows that remain are fetched even if they are few.
const PATIENCE: usize = 32;

/// Unwanted bytes between two wanted rows that are read over rather than around.
const GAP_BYTES: usize = 8 << 10;

/// The metrics of one partition.
#[derive(Debug, Clone)]
pub(crate) struct ReadMetrics {
    pub(crate) baseline: BaselineMetrics,
    /// Rows whose first columns were decoded.
    rows_scanned: Count,
    /// Rows whose other columns were fetched by a second read.
    rows_fetched: Count,
    bytes_scanned: Count,
    fragments_scanned: Count,
}

impl ReadMetrics {
    pub(crate) fn new(set: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let counter = |name| MetricBuilder::new(set).counter(name, partition);
        Self {
            baseline: BaselineMetrics::new(set, partition),
            rows_scanned: counter("rows_scanned"),
            rows_fetched: counter("rows_fetched"),
            bytes_scanned: counter("bytes_scanned"),
            fragments_scanned: counter("fragments_scanned"),
        }
    }
}

impl ReadMetrics {
    pub(crate) fn count_fragment(&self) {
        self.fragments_scanned.add(1);
    }

    pub(crate) fn count_scanned(&self, rows: usize) {
        self.rows_scanned.add(rows);
    }

    pub(crate) fn count_fetched(&self, rows: usize) {
        self.rows_fetched.add(rows);
    }
}

/// What to read, and how.
#[derive(Debug, Clone)]
pub(crate) struct ReadSpec {
    pub(crate) table: Arc<Table>,
    pub(crate) layout: Arc<Layout>,
    /// At most this many rows in a batch.
    pub(crate) batch_rows: usize,
    /// Ends after this many rows.
    pub(crate) fetch: Option<usize>,
    pub(crate) metrics: ReadMetrics,
}

/// Reads the pieces; nothing is opened before the first poll.
pub(crate) fn read(spec: ReadSpec, pieces: Vec<Piece>) -> BoxStream<'static, Result<RecordBatch>> {
    let metrics = spec.metrics.clone();
    let source = match CachedReader::new(&spec, &pieces) {
        Ok(Some(cached)) => Source::Cache(Box::new(cached)),
        Ok(None) => Source::Files(Box::new(PartitionReader::new(spec, pieces))),
        Err(e) => return futures::stream::iter([Err(e)]).boxed(),
    };
    futures::stream::try_unfold((source, metrics), |(mut source, metrics)| async move {
        let next = match &mut source {
            Source::Cache(cached) => cached.next().await?,
            Source::Files(files) => files.next().await?,
        };
        match next {
            Some(batch) => {
                metrics.baseline.record_output(batch.num_rows());
                Ok(Some((batch, (source, metrics))))
            }
            None => {
                metrics.baseline.done();
                Ok(None)
            }
        }
    })
    .boxed()
}

enum Source {
    Cache(Box<CachedReader>),
    Files(Box<PartitionReader>),
}

/// What the reads of one partition share.
struct Shared {
    table: Arc<Table>,
    layout: Arc<Layout>,
    first_rows: usize,
    rest_rows: usize,
    /// Two schedulers: the first read runs ahead until its budget is spent, and must not keep the
    /// second one, which it waits for, from starting.
    first_io: (Arc<ScanScheduler>, BaseSchedulers),
    rest_io: (Arc<ScanScheduler>, BaseSchedulers),
}

impl Shared {
    async fn try_new(spec: &ReadSpec) -> Result<Self> {
        let store = spec.table.dataset.object_store(None).await.map_err(from_lance)?;
        let budget = if store.is_cloud() { READ_AHEAD_REMOTE } else { READ_AHEAD_LOCAL };
        let io = || {
            let scheduler = ScanScheduler::new(Arc::clone(&store), SchedulerConfig::new(budget));
            (scheduler, BaseSchedulers::new(budget))
        };
        let rows = |width: usize| {
            let fitting = (CHUNK_BYTES / width.max(1)).max(LEAST_CHUNK_ROWS);
            fitting.min(spec.batch_rows).max(1)
        };
        Ok(Self {
            table: Arc::clone(&spec.table),
            layout: Arc::clone(&spec.layout),
            first_rows: rows(spec.layout.first_width),
            rest_rows: rows(spec.layout.rest_width),
            first_io: io(),
            rest_io: io(),
        })
    }

    fn bytes_read(&self) -> u64 {
        self.first_io.0.stats().bytes_read + self.rest_io.0.stats().bytes_read
    }

    async fn open(
        &self,
        fragment: u64,
        priority: u32,
        columns: &LanceSchema,
        (row_id, row_addr): (bool, bool),
        io: &(Arc<ScanScheduler>, BaseSchedulers),
    ) -> Result<FragmentReader> {
        let fragments = self.table.dataset.fragments();
        let found = fragments.iter().find(|f| f.id == fragment).ok_or_else(|| {
            Error::internal(format!("fragment {fragment} is not in the version that is read"))
        })?;
        let config = FragReadConfig::default()
            .with_row_id(row_id)
            .with_row_address(row_addr)
            .with_scan_scheduler(Arc::clone(&io.0))
            .with_base_schedulers(io.1.clone())
            .with_reader_priority(priority);
        let file = FileFragment::new(Arc::clone(&self.table.dataset), found.clone());
        Box::pin(file.open(columns, config)).await.map_err(from_lance)
    }
}

/// A piece whose first read has begun.
struct Opened {
    first: BoxStream<'static, lance::Result<RecordBatch>>,
    rest: Arc<Rest>,
}

async fn open(shared: Arc<Shared>, piece: Piece, priority: u32) -> Result<Opened> {
    let layout = &shared.layout;
    let identity = (layout.row_id, layout.row_addr);
    let reader = shared.open(piece.fragment, priority, &layout.first, identity, &shared.first_io).await?;
    let rows = u32::try_from(shared.first_rows).unwrap_or(u32::MAX);
    let batches = reader.read_ranges(Arc::clone(&piece.ranges), rows).await.map_err(from_lance)?;
    let rest =
        Rest { shared: Arc::clone(&shared), fragment: piece.fragment, priority, reader: OnceCell::new() };
    Ok(Opened { first: batches.buffered(FIRST_AHEAD).boxed(), rest: Arc::new(rest) })
}

/// The second read of a fragment; its files are opened when a row of it remains.
struct Rest {
    shared: Arc<Shared>,
    fragment: u64,
    priority: u32,
    reader: OnceCell<FragmentReader>,
}

impl Rest {
    /// The output rows for `kept`, rows of the first read in growing order of address.
    async fn read(&self, kept: RecordBatch) -> Result<RecordBatch> {
        let shared = &self.shared;
        let Some(columns) = &shared.layout.rest else {
            return shared.layout.assemble(&kept, None);
        };
        let reader = self
            .reader
            .get_or_try_init(|| {
                shared.open(self.fragment, self.priority, columns, (false, true), &shared.rest_io)
            })
            .await?;
        let wanted = addresses(&kept)?;
        let gap = (GAP_BYTES / shared.layout.rest_width.max(1)) as u64;
        let ranges: Vec<Range<u64>> = ranges_of(wanted.values().iter().map(|a| a & u64::from(u32::MAX)), gap);
        let total: u64 = ranges.iter().map(|r| r.end - r.start).sum();
        let rows = u32::try_from(total).unwrap_or(u32::MAX).max(1);
        let parts: Vec<RecordBatch> = reader
            .read_ranges(ranges.into(), rows)
            .await
            .map_err(from_lance)?
            .buffered(1)
            .try_collect()
            .await
            .map_err(from_lance)?;
        let rest = match parts.as_slice() {
            [] => return Err(missing(wanted.len(), 0)),
            [one] => one.clone(),
            several => concat_batches(&several[0].schema(), several)?,
        };
        let rest = pick(&rest, wanted)?;
        shared.layout.assemble(&kept, Some(&rest))
    }
}

/// The rows of `found` whose addresses are in `wanted`; both grow.
fn pick(found: &RecordBatch, wanted: &UInt64Array) -> Result<RecordBatch> {
    let have = addresses(found)?;
    if have.len() == wanted.len() && have.values() == wanted.values() {
        return Ok(found.clone());
    }
    let mut next = wanted.values().iter().peekable();
    let mask: BooleanArray = have.values().iter().map(|a| Some(next.next_if_eq(&a).is_some())).collect();
    let picked = filter_record_batch(found, &mask)?;
    if picked.num_rows() != wanted.len() {
        return Err(missing(wanted.len(), picked.num_rows()));
    }
    Ok(picked)
}

fn addresses(batch: &RecordBatch) -> Result<&UInt64Array> {
    batch
        .column_by_name(ROW_ADDR)
        .and_then(|c| c.as_primitive_opt::<UInt64Type>())
        .ok_or_else(|| Error::internal("a read of a Lance fragment came without row addresses"))
}

fn missing(wanted: usize, found: usize) -> Error {
    Error::data(format!("a Lance fragment gave {found} of {wanted} rows in a second read"))
}

struct PartitionReader {
    spec: ReadSpec,
    metrics: ReadMetrics,
    shared: Option<Arc<Shared>>,
    pieces: VecDeque<Piece>,
    opened: u32,
    opening: Option<SpawnedTask<Result<Opened>>>,
    current: Option<Opened>,
    /// Rows of `current` that wait for a second read.
    kept: Vec<RecordBatch>,
    kept_rows: usize,
    batches_since: usize,
    fetching: VecDeque<SpawnedTask<Result<RecordBatch>>>,
    remaining: usize,
    bytes_reported: u64,
    generation: u64,
    done: bool,
}

impl PartitionReader {
    fn new(spec: ReadSpec, pieces: Vec<Piece>) -> Self {
        Self {
            metrics: spec.metrics.clone(),
            remaining: spec.fetch.unwrap_or(usize::MAX),
            spec,
            shared: None,
            pieces: pieces.into(),
            opened: 0,
            opening: None,
            current: None,
            kept: Vec::new(),
            kept_rows: 0,
            batches_since: 0,
            fetching: VecDeque::new(),
            bytes_reported: 0,
            generation: 0,
            done: false,
        }
    }

    /// The next batch that is not empty.
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while self.remaining > 0 {
            let batch = if self.fetching.len() >= REST_AHEAD || (self.done && !self.fetching.is_empty()) {
                self.fetched().await?
            } else if self.done {
                break;
            } else {
                self.advance().await?
            };
            let Some(batch) = batch.filter(|b| b.num_rows() > 0) else { continue };
            let batch =
                if batch.num_rows() > self.remaining { batch.slice(0, self.remaining) } else { batch };
            self.remaining -= batch.num_rows();
            self.report_bytes();
            return Ok(Some(batch));
        }
        self.report_bytes();
        Ok(None)
    }

    async fn fetched(&mut self) -> Result<Option<RecordBatch>> {
        let Some(task) = self.fetching.pop_front() else { return Ok(None) };
        let batch = task.join_unwind().await.map_err(cancelled)??;
        self.metrics.rows_fetched.add(batch.num_rows());
        Ok(Some(batch))
    }

    /// One batch of the first read: either output, or rows put aside, or nothing.
    async fn advance(&mut self) -> Result<Option<RecordBatch>> {
        if self.current.is_none() && !self.open_next().await? {
            self.done = true;
            return Ok(None);
        }
        if self.is_hopeless()? {
            self.flush()?;
            self.pieces.clear();
            self.opening = None;
            self.current = None;
            self.done = true;
            return Ok(None);
        }
        let Some(current) = &mut self.current else { return Ok(None) };
        let Some(batch) = current.first.try_next().await.map_err(from_lance)? else {
            self.flush()?;
            self.current = None;
            return Ok(None);
        };
        let layout = Arc::clone(&self.spec.layout);
        self.metrics.rows_scanned.add(batch.num_rows());
        let compute = self.metrics.baseline.elapsed_compute().clone();
        let _timer = compute.timer();
        let batch = match &self.spec.table.mask {
            Some(mask) => {
                let addresses = addresses(&batch)?.values().clone();
                mask.apply(batch, &addresses)?
            }
            None => batch,
        };
        let kept = layout.predicate.apply(batch)?;
        if layout.rest.is_none() {
            return layout.assemble(&kept, None).map(Some);
        }
        self.batches_since += 1;
        if kept.num_rows() > 0 {
            self.kept_rows += kept.num_rows();
            self.kept.push(kept);
        }
        let enough = self.shared.as_ref().map_or(1, |s| s.rest_rows).min(self.remaining);
        if self.kept_rows >= enough || self.batches_since >= PATIENCE {
            self.flush()?;
        }
        Ok(None)
    }

    /// Starts second reads for the rows that were put aside.
    fn flush(&mut self) -> Result<()> {
        self.batches_since = 0;
        let kept = std::mem::take(&mut self.kept);
        let rows = std::mem::take(&mut self.kept_rows);
        let (Some(current), Some(shared)) = (&self.current, &self.shared) else { return Ok(()) };
        let Some(head) = kept.first() else { return Ok(()) };
        let all = if kept.len() == 1 { head.clone() } else { concat_batches(&head.schema(), &kept)? };
        let mut start = 0;
        while start < rows {
            let length = shared.rest_rows.min(rows - start);
            let chunk = all.slice(start, length);
            let rest = Arc::clone(&current.rest);
            self.fetching.push_back(SpawnedTask::spawn(async move { rest.read(chunk).await }));
            start += length;
        }
        Ok(())
    }

    /// Makes the next piece the current one and begins to open the one after it.
    async fn open_next(&mut self) -> Result<bool> {
        let shared = match &self.shared {
            Some(shared) => Arc::clone(shared),
            None => {
                if self.pieces.is_empty() {
                    return Ok(false);
                }
                let shared = Arc::new(Shared::try_new(&self.spec).await?);
                self.shared = Some(Arc::clone(&shared));
                shared
            }
        };
        let task = match self.opening.take() {
            Some(task) => task,
            None => match self.start_opening(&shared) {
                Some(task) => task,
                None => return Ok(false),
            },
        };
        self.opening = self.start_opening(&shared);
        self.current = Some(task.join_unwind().await.map_err(cancelled)??);
        self.metrics.fragments_scanned.add(1);
        Ok(true)
    }

    fn start_opening(&mut self, shared: &Arc<Shared>) -> Option<SpawnedTask<Result<Opened>>> {
        let piece = self.pieces.pop_front()?;
        let priority = self.opened;
        self.opened += 1;
        Some(SpawnedTask::spawn(open(Arc::clone(shared), piece, priority)))
    }

    /// Whether a dynamic condition has meanwhile excluded every row.
    fn is_hopeless(&mut self) -> Result<bool> {
        let predicate = &self.spec.layout.predicate;
        if predicate.dynamic().is_empty() {
            return Ok(false);
        }
        let generation = predicate.generation();
        if generation == self.generation {
            return Ok(false);
        }
        self.generation = generation;
        Ok(predicate.is_false()?)
    }

    fn report_bytes(&mut self) {
        let read = self.shared.as_ref().map_or(0, |s| s.bytes_read());
        let more = read.saturating_sub(self.bytes_reported);
        self.metrics.bytes_scanned.add(usize::try_from(more).unwrap_or(usize::MAX));
        self.bytes_reported = read;
    }
}

/// A read beside the stream ends early only when the runtime is shutting down.
fn cancelled(_: tokio::task::JoinError) -> Error {
    Error::new(triune_common::ErrorKind::Cancelled, "a read of a Lance dataset was cancelled")
}
