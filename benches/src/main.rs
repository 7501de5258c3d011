//! Whole statements, timed: exact search over Parquet and Lance, and the one plan.
//!
//! ```text
//! cargo run --release -p triune-benches -- data /big/folder --docs 300000 --events 20000000
//! cargo run --release -p triune-benches -- run  /big/folder --runs 7
//! ```
//!
//! `data` writes seeded files; `run` prints one JSON line per statement: the times of all runs in milliseconds, their
//! median, rows, cores and whether the build was optimised. A ratio between engines is taken from two such runs on
//! one machine, one after the other. Numbers of a build without `--release` say nothing.

#![expect(clippy::print_stdout, reason = "a benchmark's result goes to standard output")]

mod data;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use triune_common::{Clock, Error, Result, SystemClock};
use triune_query::{Database, Session};

#[derive(Debug, Parser)]
#[command(name = "triune-bench", about = "Benchmarks of whole statements")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes documents and events into a folder.
    Data {
        folder: PathBuf,
        #[arg(long, default_value_t = 300_000)]
        docs: u64,
        #[arg(long, default_value_t = 20_000_000)]
        events: u64,
        #[arg(long, default_value_t = 384)]
        dims: usize,
    },
    /// Runs the statements over a folder that `data` made.
    Run {
        folder: PathBuf,
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// Only statements whose name contains this.
        #[arg(long, default_value = "")]
        only: String,
    },
}

/// Name and text; `{f}` is the folder. The query vector is that of one document.
const STATEMENTS: [(&str, &str); 5] = [
    ("select_1", "SELECT 1"),
    ("exact_top10_parquet", "SELECT id FROM '{f}/docs.parquet' ORDER BY embedding <=> $1 LIMIT 10"),
    ("exact_top10_lance", "SELECT id FROM '{f}/docs.lance' ORDER BY embedding <=> $1 LIMIT 10"),
    (
        "filtered_top10_parquet",
        "SELECT id FROM vector_search('{f}/docs.parquet', embedding, $1, k => 10) WHERE lang = 'de'",
    ),
    (
        "one_plan",
        "SELECT time_bucket('1 hour', e.ts) AS hour, count(*) AS n, avg(e.latency_ms) AS mean, \
         approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY e.latency_ms) AS p95 \
         FROM vector_search('{f}/docs.parquet', embedding, $1, k => 100) AS d \
         JOIN '{f}/events.parquet' AS e ON e.doc_id = d.id \
         WHERE d.lang = 'en' AND e.ts >= TIMESTAMP '2026-10-23 00:00:00' GROUP BY hour ORDER BY hour",
    ),
];

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Data { folder, docs, events, dims } => write_data(&folder, docs, events, dims).await,
        Command::Run { folder, runs, only } => run(&folder, runs, &only).await,
    }
}

async fn write_data(folder: &Path, docs: u64, events: u64, dims: usize) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::invalid(format!("{}: {e}", folder.display())))?;
    data::documents(&folder.join("docs.parquet"), docs, dims)?;
    data::events(&folder.join("events.parquet"), events, docs)?;
    let session = Database::open(None).await?.session();
    let f = folder.display();
    let sql = format!("COPY (SELECT * FROM '{f}/docs.parquet') TO '{f}/docs.lance' (MODE overwrite)");
    session.execute(&sql).await?;
    println!("{{\"docs\":{docs},\"events\":{events},\"dims\":{dims}}}");
    Ok(())
}

async fn run(folder: &Path, runs: usize, only: &str) -> Result<()> {
    let session = Database::open(None).await?.session();
    let f = folder.display().to_string();
    let query = format!("SELECT embedding FROM '{f}/docs.parquet' WHERE id = 77");
    let found = session.execute(&query).await?.collect().await?;
    let batch = found.iter().find(|b| b.num_rows() > 0).ok_or_else(|| Error::not_found("document 77"))?;
    let vector = datafusion::common::ScalarValue::try_from_array(batch.column(0), 0)?;
    let clock = SystemClock::new();
    for (name, sql) in STATEMENTS.iter().filter(|(name, _)| name.contains(only)) {
        let sql = sql.replace("{f}", &f);
        let mut times = Vec::with_capacity(runs);
        let mut rows = 0;
        for _ in 0..runs.max(1) {
            let start = clock.elapsed();
            rows = rows_of(&session, &sql, &vector).await?;
            times.push((clock.elapsed() - start).as_secs_f64() * 1e3);
        }
        let mut sorted = times.clone();
        sorted.sort_by(f64::total_cmp);
        let line = serde_json::json!({
            "statement": name,
            "median_ms": sorted[sorted.len() / 2],
            "runs_ms": times,
            "rows": rows,
            "cores": std::thread::available_parallelism().map(usize::from).unwrap_or(0),
            "optimised": !cfg!(debug_assertions),
        });
        println!("{line}");
    }
    Ok(())
}

async fn rows_of(session: &Session, sql: &str, vector: &datafusion::common::ScalarValue) -> Result<usize> {
    let params = if sql.contains("$1") {
        triune_query::Params::Positional(vec![vector.clone()])
    } else {
        triune_query::Params::None
    };
    let batches = session.execute_with(sql, &params).await?.collect().await?;
    Ok(batches.iter().map(|b| b.num_rows()).sum())
}
