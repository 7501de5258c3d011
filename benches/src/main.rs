//! Whole statements, timed: exact search over Parquet and Lance, and the one plan.
//!
//! ```text
//! cargo build --release -p triune-cli -p triune-benches
//! triune-bench data    /big/folder --docs 300000 --events 20000000
//! triune-bench run     /big/folder --runs 7              Triune alone, for work on it
//! triune-bench compare /big/folder --python PATH         beside DuckDB and DataFusion as it comes
//! triune-bench process /big/folder                       cold start, peak memory
//! triune-bench lateral /big/folder                       searches per row beside single ones
//! triune-bench htap    /scratch/folder --python PATH     transactions and analysis beside PostgreSQL, SQLite, DuckDB
//! ```
//!
//! `data` writes seeded files. `run` prints one JSON line per statement. `compare` asks the engines in turn, in one
//! run, with the same number of threads; it checks that their answers agree, prints a table and, last, one JSON line
//! with every time, the machine, the commit and the build. It needs a Python with DuckDB
//! (`pip install -r benches/compare/requirements.txt`) and about 2 GB beside the data for DuckDB's own tables.
//! Ratios are between medians of one run. Numbers of a build without `--release` say nothing.

#![expect(clippy::print_stdout, reason = "a benchmark's result goes to standard output")]

mod compare;
mod data;
mod engines;
mod htap;
mod lateral;
mod machine;
mod process;
mod statements;
mod times;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use datafusion::common::runtime::SpawnedTask;
use serde_json::json;
use triune_common::{Error, ErrorKind, Result};
use triune_query::Database;

use engines::Engines;
use statements::{Engine, QUESTIONS};
use times::Times;

/// The allocator that `triune` is shipped with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
        /// As many as there are cores, if it is not given.
        #[arg(long)]
        threads: Option<usize>,
    },
    /// Asks the same of Triune, DuckDB and DataFusion, in turn.
    Compare {
        folder: PathBuf,
        /// A Python that has DuckDB.
        #[arg(long, default_value = "python3")]
        python: PathBuf,
        #[arg(long, default_value_t = 9)]
        runs: usize,
        /// Only statements whose name contains this.
        #[arg(long, default_value = "")]
        only: String,
        /// Of each engine; as many as there are cores, if it is not given.
        #[arg(long)]
        threads: Option<usize>,
    },
    /// Transactions and analysis on one table, beside PostgreSQL, SQLite and DuckDB.
    Htap(htap::Options),
    /// Searches for each of many rows by one statement, and by one statement each.
    Lateral {
        folder: PathBuf,
        #[arg(long, default_value_t = 10_000)]
        queries: u32,
        /// How many single searches are timed.
        #[arg(long, default_value_t = 50)]
        singles: u32,
    },
    /// Starts processes: time of a cold `SELECT 1`, peak memory of statements.
    Process {
        folder: PathBuf,
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// The program; the one beside this one, if it is not given.
        #[arg(long)]
        triune: Option<PathBuf>,
    },
}

fn main() -> Result<()> {
    let command = Arguments::parse().command;
    let threads = match &command {
        Command::Run { threads, .. } | Command::Compare { threads, .. } => *threads,
        Command::Data { .. } | Command::Process { .. } | Command::Htap(_) | Command::Lateral { .. } => None,
    };
    let threads = threads.unwrap_or_else(machine::cores).max(1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_stack_size(32 << 20)
        .enable_all()
        .build()
        .map_err(|e| Error::new(ErrorKind::Resources, format!("the threads cannot be started: {e}")))?;
    if let Command::Htap(options) = &command {
        // Waits on the main thread while its clients work on the others.
        let mut figures = runtime.block_on(htap::run(options, threads))?;
        figures["machine"] = machine::described(threads);
        println!("{figures}");
        return Ok(());
    }
    // On a worker: the main thread would be one more than was asked for.
    runtime.block_on(async move {
        SpawnedTask::spawn(Box::pin(dispatch(command, threads)))
            .join()
            .await
            .map_err(|e| Error::internal(format!("the benchmark ended: {e}")))?
    })
}

async fn dispatch(command: Command, threads: usize) -> Result<()> {
    match command {
        Command::Data { folder, docs, events, dims } => write_data(&folder, docs, events, dims).await,
        Command::Run { folder, runs, only, .. } => run(&folder, runs, &only, threads).await,
        Command::Compare { folder, python, runs, only, .. } => {
            let (mut figures, agreed) =
                Box::pin(compare::run((&folder, &python), threads, runs, &only)).await?;
            figures["machine"] = machine::described(threads);
            println!("{figures}");
            match agreed {
                true => Ok(()),
                false => Err(Error::data("the engines' answers differ, see the table")),
            }
        }
        Command::Lateral { folder, queries, singles } => {
            let mut figures = Box::pin(lateral::run(&folder, queries, singles)).await?;
            figures["machine"] = machine::described(threads);
            println!("{figures}");
            Ok(())
        }
        Command::Htap(_) => Err(Error::internal("run on the main thread")),
        Command::Process { folder, runs, triune } => {
            let engines = Engines::triune(&folder, threads).await?;
            let beside = || std::env::current_exe().map(|exe| exe.with_file_name("triune"));
            let triune = match triune {
                Some(path) => path,
                None => beside().map_err(|e| Error::internal(e.to_string()))?,
            };
            let mut figures = process::run(&triune, &folder, &engines, runs)?;
            figures["machine"] = machine::described(threads);
            println!("{figures}");
            Ok(())
        }
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

async fn run(folder: &Path, runs: usize, only: &str, threads: usize) -> Result<()> {
    let mut engines = Engines::triune(folder, threads).await?;
    for question in QUESTIONS.iter().filter(|q| q.name.contains(only)) {
        for lane in question.lanes.iter().filter(|lane| lane.engine == Engine::Triune) {
            let mut times = Times::default();
            let mut rows = 0;
            for _ in 0..runs.max(1) {
                let (ms, answer) = engines.run(*lane).await?;
                times.push(ms);
                rows = answer.len();
            }
            let mut line = json!({ "statement": question.name, "source": lane.source, "rows": rows });
            line["times"] = times.json();
            line["machine"] = machine::described(threads);
            println!("{line}");
        }
    }
    Ok(())
}
