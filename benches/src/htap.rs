//! Tables that take transactions while they are analysed, beside PostgreSQL, SQLite and DuckDB.
//!
//! ```text
//! triune-bench htap /scratch/folder --rows 1000000 --clients 16 --seconds 3 --rounds 2 --python PATH
//!
//! every work ─▶ rounds × (disk alone, Triune through SQL, Triune's storage, PostgreSQL, SQLite, DuckDB) ─▶ medians
//! ```
//!
//! All engines hold the same rows and are on the same disk; only one of them works at a time. `disk` is a row's bytes
//! appended and synced, nothing else. Triune runs in this process: `sql` through sessions and statements with
//! parameters, `storage` through the transactions below. Peers are driven by `compare/htap_side.py`.
//!
//! Limits: a driver's own time is part of its engine's figures.

mod bulk;
mod disk;
mod peers;
mod rows;
mod sql;
mod storage;
mod work;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use triune_common::{Error, Result, SystemClock};

use peers::Peer;
use sql::Sql;
use storage::Storage;
use work::{Work, median};

/// What is asked of all rows; SQLite's texts are measured in characters too.
const AGGREGATE: &str = "SELECT tenant, count(*), avg(length(body)), max(ts) FROM bench GROUP BY tenant";

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Emptied first.
    pub(crate) folder: PathBuf,
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) rows: u64,
    #[arg(long, default_value_t = 16)]
    pub(crate) clients: usize,
    /// Of every measurement.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    #[arg(long, default_value_t = 2)]
    pub(crate) rounds: usize,
    /// A Python with DuckDB and psycopg; without it, Triune alone.
    #[arg(long)]
    pub(crate) python: Option<PathBuf>,
    /// Rows of eight columns that are inserted at once; 0: not measured.
    #[arg(long, default_value_t = 10_000_000)]
    pub(crate) bulk_rows: u64,
    /// Rows with a vector of 384 numbers that are inserted at once; 0: not measured.
    #[arg(long, default_value_t = 300_000)]
    pub(crate) vector_rows: u64,
    /// Only works whose name contains this.
    #[arg(long, default_value = "")]
    pub(crate) only: String,
}

/// The figures of a run; a table goes to standard output on the way.
pub(crate) async fn run(options: &Options, threads: usize) -> Result<Value> {
    let folder = &options.folder;
    let failed = |e: std::io::Error| Error::data(format!("{}: {e}", folder.display()));
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(failed)?;
    }
    std::fs::create_dir_all(folder).map_err(failed)?;
    let parquet = folder.join("rows.parquet");
    rows::table(&parquet, options.rows)?;
    let mut peers = Vec::new();
    if let Some(python) = &options.python {
        for name in ["postgres", "sqlite", "duckdb"] {
            let mut peer = Peer::start(name, python, folder, &parquet, options.rows, threads)?;
            peer.ask(&json!({ "do": "load" }))?;
            peers.push(peer);
        }
    }
    let sql = Sql::load(folder, &parquet, options.rows, threads).await?;
    let storage = Storage::load(folder, &parquet, options.rows, threads).await?;

    let works = [
        // Read first: nothing is hot yet.
        Work::Aggregate,
        Work::Read,
        Work::Upsert(1),
        Work::Upsert(options.clients),
        Work::Batches,
        Work::BatchesOneByOne,
        Work::Mixed(options.clients),
        Work::Visible(200),
    ];
    // From analysis alone to writing alone, as HATtrick draws it: a good engine's curve bends outwards.
    let grid = [(0, 1), (0, 2), (1, 2), (1, 1), (4, 2), (4, 1), (options.clients, 2), (options.clients, 1)];
    let alone = [(options.clients, 0), (4, 0), (1, 0)];
    let frontier = grid.into_iter().chain(alone).map(|(w, a)| Work::Frontier(w, a));
    let works = works.into_iter().chain(frontier);
    let mut figures = Vec::new();
    for work in works.filter(|w| w.name().contains(&options.only)) {
        figures.push(measure(options, work, &sql, &storage, &mut peers).await?);
    }
    let hot = bulk::hot_share(&sql, options.rows, options.seconds).await?;
    println!("{hot}");
    let space = match bulk::space(&sql, folder).await {
        Ok(space) => space,
        Err(e) => json!({ "error": e.to_string() }),
    };
    println!("{space}");
    drop((sql, storage));
    let mut duckdb = peers.iter_mut().find(|p| p.name == "duckdb");
    let mut loads = Vec::new();
    for (rows, vectors) in [(options.bulk_rows, false), (options.vector_rows, true)] {
        if rows > 0 {
            let load = bulk::insert(folder, rows, vectors, threads, duckdb.as_deref_mut()).await?;
            println!("{load}");
            loads.push(load);
        }
    }
    Ok(json!({ "rows": options.rows, "works": figures, "hot": hot, "space": space, "bulk": loads }))
}

/// One work by every engine in turn.
async fn measure(
    options: &Options,
    work: Work,
    sql: &Sql,
    storage: &Storage,
    peers: &mut [Peer],
) -> Result<Value> {
    let clock = SystemClock::new();
    let mut lanes: Vec<(String, Vec<Value>)> = Vec::new();
    let mut note = |name: &str, figure: Result<Value>| {
        let figure = figure.unwrap_or_else(|e| json!({ "error": e.to_string() }));
        match lanes.iter_mut().find(|(n, _)| n == name) {
            Some((_, figures)) => figures.push(figure),
            None => lanes.push((name.to_owned(), vec![figure])),
        }
    };
    for _ in 0..options.rounds.max(1) {
        if matches!(work, Work::Upsert(_)) {
            let alone = disk::appends(&options.folder, &clock, options.seconds);
            note("disk", alone.map(|n| json!({ "per_second": n })));
        }
        note("sql", sql.run(work, options.seconds).await);
        if !matches!(work, Work::BatchesOneByOne | Work::Frontier(..)) {
            note("storage", storage.run(work, options.seconds).await);
        }
        if let Some(ask) = work.for_peer(options.seconds) {
            for peer in peers.iter_mut() {
                let figure = peer.ask(&ask);
                note(peer.name, figure);
            }
        }
    }
    let mut summary = json!({ "work": work.name() });
    println!("{}", work.name());
    for (name, figures) in &lanes {
        let middle = |what: &str| {
            let all: Vec<f64> = figures.iter().filter_map(|f| f[what].as_f64()).collect();
            (!all.is_empty()).then(|| median(all))
        };
        let (rate, p50) = (middle("per_second"), middle("p50_ms"));
        let queries = middle("queries_per_second");
        let rate_text = rate.map_or(String::new(), |r| format!("{r:>12.1}/s"));
        let p50_text = p50.map_or(String::new(), |ms| format!("{ms:>12.3} ms"));
        let p50_text = queries.map_or(p50_text, |q| format!("{q:>7.2} queries/s"));
        let error = figures.iter().find_map(|f| f["error"].as_str()).unwrap_or_default();
        println!("    {name:<10} {rate_text:>14} {p50_text:>15} {error}");
        summary[name] = json!({ "per_second": rate, "p50_ms": p50, "queries_per_second": queries,
                                "rounds": figures });
    }
    Ok(summary)
}

/// The size of a file.
fn len(path: &Path) -> Result<u64> {
    let failed = |e: std::io::Error| Error::data(format!("{}: {e}", path.display()));
    Ok(path.metadata().map_err(failed)?.len())
}
