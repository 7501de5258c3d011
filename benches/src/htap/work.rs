//! What every engine is asked to do, and what is common to doing it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use datafusion::common::runtime::JoinSet;
use serde_json::{Value, json};
use triune_common::{Clock, Error, Result, SystemClock};

/// Rows of a batch.
pub(crate) const BATCH: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Single rows by so many clients, each commit durable.
    Upsert(usize),
    /// Batches as the engine takes them best.
    Batches,
    /// A transaction of single statements: Triune only.
    BatchesOneByOne,
    Read,
    Aggregate,
    /// The aggregate beside so many writers.
    Mixed(usize),
    /// From a commit's return to its being read elsewhere, so many times.
    Visible(usize),
    /// A point of the frontier: so many writers beside so many who ask for the aggregate again and again.
    Frontier(usize, usize),
}

impl Work {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Upsert(1) => "durable upsert, 1 client".to_owned(),
            Self::Upsert(n) => format!("durable upsert, {n} clients"),
            Self::Batches => "batches of 1,000 rows".to_owned(),
            Self::BatchesOneByOne => "transactions of 1,000 upserts".to_owned(),
            Self::Read => "point read by key".to_owned(),
            Self::Aggregate => "aggregate, all rows".to_owned(),
            Self::Mixed(n) => format!("aggregate beside {n} writers"),
            Self::Visible(_) => "commit to visible elsewhere".to_owned(),
            Self::Frontier(writers, analysts) => {
                format!("frontier, {writers} writers beside {analysts} analysts")
            }
        }
    }

    /// For a peer; `None` when peers are not asked.
    pub(crate) fn for_peer(self, seconds: f64) -> Option<Value> {
        Some(match self {
            Self::Upsert(n) => json!({ "do": "upsert", "clients": n, "seconds": seconds }),
            Self::Batches => json!({ "do": "batch", "clients": 1, "seconds": seconds }),
            Self::BatchesOneByOne => return None,
            Self::Read => json!({ "do": "read", "clients": 1, "seconds": seconds }),
            Self::Aggregate => json!({ "do": "aggregate", "seconds": seconds }),
            Self::Mixed(n) => json!({ "do": "mixed", "clients": n, "seconds": seconds }),
            Self::Visible(runs) => json!({ "do": "visible", "runs": runs }),
            Self::Frontier(writers, analysts) => {
                json!({ "do": "frontier", "writers": writers, "analysts": analysts, "seconds": seconds })
            }
        })
    }
}

/// Tasks that write until they are told to stop.
pub(crate) struct Clients {
    tasks: JoinSet<Result<()>>,
    counter: Arc<Counter>,
    start: f64,
}

/// How much was done.
#[derive(Debug)]
pub(crate) struct Counter {
    clock: SystemClock,
    stop: AtomicBool,
    done: AtomicU64,
}

impl Counter {
    pub(crate) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Clients {
    pub(crate) fn counter() -> Arc<Counter> {
        Arc::new(Counter { clock: SystemClock::new(), stop: AtomicBool::new(false), done: AtomicU64::new(0) })
    }

    pub(crate) fn new(tasks: JoinSet<Result<()>>, counter: Arc<Counter>) -> Self {
        let start = counter.clock.elapsed().as_secs_f64();
        Self { tasks, counter, start }
    }

    /// What all of them together have done per second so far.
    pub(crate) fn rate(&self) -> f64 {
        let taken = self.counter.clock.elapsed().as_secs_f64() - self.start;
        self.counter.done.load(Ordering::Relaxed) as f64 / taken
    }

    /// The same when they have ended.
    pub(crate) async fn stop(mut self) -> Result<f64> {
        let rate = self.rate();
        self.counter.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|e| Error::internal(format!("a writer ended: {e}")))??;
        }
        Ok(rate)
    }
}

/// NaN of none.
pub(crate) fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Bytes of all files below a folder, and of those that are key files.
pub(crate) fn joined(folder: &Path) -> Result<(u64, u64)> {
    let failed = |e: std::io::Error| Error::data(format!("{}: {e}", folder.display()));
    let (mut all, mut keys) = (0, 0);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let (bytes, of_keys) = if path.is_dir() {
            joined(&path)?
        } else {
            let len = path.metadata().map_err(failed)?.len();
            (len, if path.extension().is_some_and(|e| e == "keys") { len } else { 0 })
        };
        all += bytes;
        keys += of_keys;
    }
    Ok((all, keys))
}
