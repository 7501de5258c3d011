//! What the server measures, for Prometheus.
//!
//! ```text
//!  Queries::watch ─▶ counters and histograms of statements ─┐
//!  connections ─▶ gauges                                    ├─▶ GET /metrics
//!  Database::vitals, when asked ─▶ storage, memory, indexes ┘
//! ```
//!
//! `docs/metrics.md` is made from the same list as the registry, and a test holds the two together. Labels have few values:
//! no text of a statement and no user becomes one.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use triune_common::{Error, Result};
use triune_query::{IndexVitals, QueryInfo, StatementKind, Vitals};

type Labels = Vec<(String, String)>;
type Counters = Family<Labels, Counter>;
type Number = Gauge<f64, AtomicU64>;
type Numbers = Family<Labels, Number>;
type Times = Family<Labels, Histogram, fn() -> Histogram>;

/// Seconds: from a look-up by key to a report.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

/// How a client is connected.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Protocol {
    Flight,
    Http,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Flight => "flight",
            Self::Http => "http",
        }
    }
}

/// A line of the catalogue.
#[derive(Debug)]
struct Described {
    name: String,
    kind: &'static str,
    labels: &'static str,
    help: &'static str,
}

/// Registers metrics and remembers what they are.
#[derive(Debug, Default)]
struct Builder {
    registry: Registry,
    catalogue: Vec<Described>,
}

impl Builder {
    fn add(
        &mut self,
        name: &'static str,
        kind: &'static str,
        labels: &'static str,
        help: &'static str,
        metric: impl Metric,
    ) {
        // The library adds the ending and the stop itself.
        let full = if kind == "counter" { format!("triune_{name}_total") } else { format!("triune_{name}") };
        self.catalogue.push(Described { name: full, kind, labels, help });
        self.registry.register(format!("triune_{name}"), help, metric);
    }

    fn counters(&mut self, name: &'static str, labels: &'static str, help: &'static str) -> Counters {
        let metric = Counters::default();
        self.add(name, "counter", labels, help, metric.clone());
        metric
    }

    fn counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        let metric = Counter::default();
        self.add(name, "counter", "", help, metric.clone());
        metric
    }

    fn numbers(&mut self, name: &'static str, labels: &'static str, help: &'static str) -> Numbers {
        let metric = Numbers::default();
        self.add(name, "gauge", labels, help, metric.clone());
        metric
    }

    fn number(&mut self, name: &'static str, help: &'static str) -> Number {
        let metric = Number::default();
        self.add(name, "gauge", "", help, metric.clone());
        metric
    }

    fn times(&mut self, name: &'static str, labels: &'static str, help: &'static str) -> Times {
        let metric = Times::new_with_constructor(|| Histogram::new(BUCKETS));
        self.add(name, "histogram", labels, help, metric.clone());
        metric
    }
}

/// The metrics of one server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    catalogue: Vec<Described>,
    started: DateTime<Utc>,
    /// One look at a time: gauges are set and then written.
    looking: Mutex<()>,
    seconds: Times,
    first_row: Times,
    errors: Counters,
    rows: Counter,
    bytes: Counter,
    connections: Numbers,
    accepted: Counters,
    sessions: Number,
    running: Number,
    uptime: Number,
    memory: Numbers,
    memory_reserved: Number,
    memory_limit: Number,
    hot_bytes: Number,
    hot_limit: Number,
    wal_bytes: Number,
    wal_limit: Number,
    wal_age: Number,
    checkpoint_age: Number,
    checkpoints: Counter,
    slowed: Counter,
    merges: Counter,
    freed: Counter,
    failing: Number,
    index_rows: Numbers,
    index_bytes: Numbers,
    index_build: Numbers,
    index_upkeep: Numbers,
    index_builds: Number,
    cache_hits: Counters,
    cache_misses: Counters,
    cache_bytes: Numbers,
}

impl Metrics {
    pub(crate) fn new(started: DateTime<Utc>) -> Self {
        let mut b = Builder::default();
        let seconds = b.times(
            "statement_seconds",
            "kind, status",
            "Time of statements, from their text to their last row",
        );
        let first_row = b.times(
            "first_row_seconds",
            "kind",
            "Time of statements that gave rows, until the first of them",
        );
        let errors =
            b.counters("statement_errors", "kind", "Statements that failed, by the kind of their error");
        let rows = b.counter("rows", "Rows that statements gave out or wrote");
        let bytes =
            b.counter("result_bytes", "Bytes of rows that statements gave out, as they are in memory");
        let running = b.number("statements_running", "Statements that run now");
        let connections = b.numbers("connections", "protocol", "Connections that are open");
        let accepted = b.counters("connections_accepted", "protocol", "Connections since the start");
        let sessions = b.number("sessions", "Sessions of clients between their requests");
        let uptime = b.number("uptime_seconds", "Time since the server started");
        let memory =
            b.numbers("memory_bytes", "consumer", "Memory that running statements reserve, by operator");
        let memory_reserved = b.number("memory_reserved_bytes", "Memory that is reserved in all");
        let memory_limit = b.number("memory_limit_bytes", "The most that may be reserved");
        let hot_bytes = b.number("hot_bytes", "Rows in memory that no checkpoint has written yet");
        let hot_limit = b.number("hot_limit_bytes", "Commits wait while hot rows take more");
        let wal_bytes = b.number("wal_bytes", "Length of the write-ahead log");
        let wal_limit = b.number("wal_limit_bytes", "A checkpoint starts when the log is longer");
        let wal_age =
            b.number("wal_age_seconds", "Age of the oldest commit that no checkpoint has written yet");
        let checkpoint_age =
            b.number("checkpoint_age_seconds", "Time since the last checkpoint, or since the server started");
        let checkpoints = b.counter("checkpoints", "Checkpoints since the database was opened");
        let slowed = b.counter("slowed_commits", "Commits that had to wait for a checkpoint to make room");
        let merges = b.counter("merges", "Tables whose small fragments were merged");
        let freed = b.counter("freed_bytes", "Bytes of files that VACUUM removed");
        let failing = b
            .number("maintenance_failing", "1 when the last maintenance failed; system.maintenance says why");
        let index_rows = b.numbers(
            "index_rows",
            "schema, table, index, state",
            "Rows of an index's table: indexed, unindexed (searched one by one) and hot",
        );
        let index_bytes = b.numbers("index_bytes", "schema, table, index", "Bytes of an index's files");
        let index_build = b.numbers(
            "index_build_seconds",
            "schema, table, index",
            "Time that the last build of an index took",
        );
        let index_upkeep = b.numbers(
            "index_upkeep_age_seconds",
            "schema, table, index",
            "Time since an index was built or extended",
        );
        let index_builds = b.number("index_builds_running", "Indexes that are being built");
        let cache_hits = b.counters("cache_hits", "cache", "Look-ups that a cache answered");
        let cache_misses = b.counters("cache_misses", "cache", "Look-ups that a cache could not answer");
        let cache_bytes = b.numbers("cache_bytes", "cache", "Bytes that a cache holds");
        Self {
            registry: b.registry,
            catalogue: b.catalogue,
            started,
            looking: Mutex::default(),
            seconds,
            first_row,
            errors,
            rows,
            bytes,
            connections,
            accepted,
            sessions,
            running,
            uptime,
            memory,
            memory_reserved,
            memory_limit,
            hot_bytes,
            hot_limit,
            wal_bytes,
            wal_limit,
            wal_age,
            checkpoint_age,
            checkpoints,
            slowed,
            merges,
            freed,
            failing,
            index_rows,
            index_bytes,
            index_build,
            index_upkeep,
            index_builds,
            cache_hits,
            cache_misses,
            cache_bytes,
        }
    }

    /// A statement ended.
    pub(crate) fn ended(&self, query: &QueryInfo) {
        let kind = query.kind.map_or("none", StatementKind::name);
        let status = query.status.name();
        let labels = vec![label("kind", kind), label("status", status)];
        self.seconds.get_or_create(&labels).observe(query.duration.as_secs_f64());
        if let Some(first) = query.first_row {
            self.first_row.get_or_create(&vec![label("kind", kind)]).observe(first.as_secs_f64());
        }
        if let Some((kind, _)) = &query.error {
            self.errors.get_or_create(&vec![label("kind", kind.label())]).inc();
        }
        self.rows.inc_by(query.rows);
        self.bytes.inc_by(query.bytes);
    }

    /// A connection is open until the guard is dropped.
    pub(crate) fn connected(self: &Arc<Self>, protocol: Protocol) -> OpenConnection {
        let labels = vec![label("protocol", protocol.name())];
        self.accepted.get_or_create(&labels).inc();
        self.connections.get_or_create(&labels).inc();
        OpenConnection { metrics: Arc::clone(self), protocol }
    }

    /// Everything in OpenMetrics' text format.
    pub(crate) fn text(&self, vitals: &Vitals, sessions: usize) -> Result<String> {
        let _looking = self.looking.lock();
        self.look(vitals, sessions);
        let mut text = String::new();
        encode(&mut text, &self.registry)
            .map_err(|e| Error::internal(format!("the metrics cannot be written: {e}")))?;
        Ok(text)
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
    fn look(&self, vitals: &Vitals, sessions: usize) {
        let age = |since: DateTime<Utc>| (vitals.at - since).to_std().unwrap_or_default().as_secs_f64();
        self.sessions.set(sessions as f64);
        self.running.set(vitals.statements_running as f64);
        self.uptime.set(age(self.started));
        let memory = &vitals.memory;
        self.memory_reserved.set(memory.reserved as f64);
        self.memory_limit.set(memory.limit.map_or(f64::INFINITY, |bytes| bytes as f64));
        // A consumer that holds nothing any more must not stay as it was.
        self.memory.clear();
        for (consumer, bytes) in &memory.consumers {
            self.memory.get_or_create(&vec![label("consumer", consumer)]).set(*bytes as f64);
        }
        let storage = &vitals.storage;
        self.hot_bytes.set(storage.hot_bytes as f64);
        self.hot_limit.set(storage.hot_bytes_limit as f64);
        self.wal_bytes.set(storage.wal_bytes as f64);
        self.wal_limit.set(storage.wal_bytes_limit as f64);
        self.wal_age.set(storage.oldest_hot.map_or(0.0, age));
        self.checkpoint_age.set(age(storage.last_checkpoint.unwrap_or(self.started)));
        reach(&self.checkpoints, storage.checkpoints);
        reach(&self.slowed, storage.slowed_commits);
        reach(&self.merges, storage.merges);
        reach(&self.freed, storage.freed_bytes);
        self.failing.set(if storage.last_error.is_some() { 1.0 } else { 0.0 });
        self.look_at_indexes(vitals, age);
        for cache in &vitals.caches {
            let labels = vec![label("cache", cache.name)];
            reach(&self.cache_hits.get_or_create(&labels), cache.hits);
            reach(&self.cache_misses.get_or_create(&labels), cache.misses);
            self.cache_bytes.get_or_create(&labels).set(cache.bytes as f64);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
    fn look_at_indexes(&self, vitals: &Vitals, age: impl Fn(DateTime<Utc>) -> f64) {
        for family in [&self.index_rows, &self.index_bytes, &self.index_build, &self.index_upkeep] {
            family.clear();
        }
        self.index_builds.set(vitals.index_builds as f64);
        for index in &vitals.indexes {
            let labels = labels_of(index);
            let states = [
                ("indexed", index.rows_indexed),
                ("unindexed", index.rows_unindexed),
                ("hot", index.rows_hot),
            ];
            for (state, rows) in states {
                let mut labels = labels.clone();
                labels.push(label("state", state));
                self.index_rows.get_or_create(&labels).set(rows as f64);
            }
            if let Some(bytes) = index.bytes_on_disk {
                self.index_bytes.get_or_create(&labels).set(bytes as f64);
            }
            if let Some(seconds) = index.build_seconds {
                self.index_build.get_or_create(&labels).set(seconds);
            }
            if let Some(at) = index.last_upkeep {
                self.index_upkeep.get_or_create(&labels).set(age(at));
            }
        }
    }
}

fn label(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn labels_of(index: &IndexVitals) -> Labels {
    vec![label("schema", &index.schema), label("table", &index.table), label("index", &index.index)]
}

/// Brings a counter to what is counted elsewhere.
fn reach(counter: &Counter, value: u64) {
    counter.inner().store(value, Ordering::Relaxed);
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    metrics: Arc<Metrics>,
    protocol: Protocol,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.connections.get_or_create(&vec![label("protocol", self.protocol.name())]).dec();
    }
}

/// `docs/metrics.md`.
pub fn metrics_page() -> String {
    let metrics = Metrics::new(DateTime::UNIX_EPOCH);
    let mut page = String::from(
        "# Metrics\n\n`triune serve` answers `GET /metrics` in the text format that Prometheus reads ([server.md](server.md)). \
         This page is made from the registry itself; a test compares them.\n\n\
         | metric | type | labels | what |\n|---|---|---|---|\n",
    );
    for line in &metrics.catalogue {
        let _ = writeln!(page, "| `{}` | {} | {} | {} |", line.name, line.kind, line.labels, line.help);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_DOCS=1` writes the page anew.
    #[test]
    fn the_page_says_what_is_there() {
        // Asked at run time: a binary of a shared target folder may have been built in another clone.
        let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs tests");
        let path = std::path::Path::new(&package).join("../../docs/metrics.md");
        let page = metrics_page();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written, page, "UPDATE_DOCS=1 cargo test -p triune-server metrics writes it");
    }

    #[test]
    fn names_have_the_endings_that_the_library_gives_them() {
        let metrics = Arc::new(Metrics::new(DateTime::UNIX_EPOCH));
        let _open = metrics.connected(Protocol::Http);
        let mut text = String::new();
        encode(&mut text, &metrics.registry).unwrap();
        for line in text.lines().filter(|l| l.starts_with("triune_")) {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(metrics.catalogue.iter().any(|d| d.name == name), "{line}");
        }
    }
}
