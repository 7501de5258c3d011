//! What a whole process costs: the time of a cold `SELECT 1`, and the most memory that a statement holds.
//!
//! Each measurement is a new `triune` process. Its peak is `VmHWM` of `/proc`, asked every millisecond until the
//! process ends, and told above that of a process which runs `SELECT 1`. Linux only.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use triune_common::{Clock, Error, ErrorKind, Result, SystemClock};

use crate::engines::Engines;
use crate::statements::{Engine, QUESTIONS};
use crate::times::Times;

/// Measures with the program `triune`, over the data in `folder`; prints lines and returns the figures.
pub(crate) fn run(triune: &Path, folder: &Path, engines: &Engines, runs: usize) -> Result<Value> {
    let database = folder.join("db");
    let database = database.to_str();
    for table in ["docs", "events"] {
        let sql = format!(
            "CREATE OR REPLACE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{}/{table}.parquet'",
            folder.display()
        );
        measured(triune, database, &sql)?;
    }
    let mut cold = Times::default();
    let mut idle = Vec::new();
    for _ in 0..runs.max(1) * 4 {
        let (ms, peak) = measured(triune, database, "SELECT 1")?;
        cold.push(ms);
        idle.push(peak);
    }
    let idle = idle.into_iter().max().unwrap_or(0);
    println!(
        "cold SELECT 1 in a database folder: median {:.1} ms, min {:.1}, max {:.1}",
        cold.median(),
        cold.min(),
        cold.max()
    );
    println!("idle process: {:.1} MB at its peak", megabytes(idle));

    let query = format!("'{}'::VECTOR(384)", engines.query_text());
    let mut peaks = Vec::new();
    for question in QUESTIONS {
        for lane in question.lanes.iter().filter(|l| l.engine == Engine::Triune && l.source != "none") {
            let sql = lane.sql.replace("{f}", &folder.display().to_string()).replace("$1", &query);
            let mut most = 0;
            let mut times = Times::default();
            for _ in 0..runs.max(1) {
                let (ms, peak) = measured(triune, None, &sql)?;
                most = most.max(peak);
                times.push(ms);
            }
            let above = megabytes(most.saturating_sub(idle));
            println!(
                "{:<26} {:<16} {above:>8.1} MB above idle; whole process {:.1} ms",
                question.name,
                lane.source,
                times.median()
            );
            peaks.push(json!({
                "name": question.name, "source": lane.source, "peak_above_idle_mb": above,
                "whole_process": times.json(),
            }));
        }
    }
    Ok(json!({ "cold_select_1": cold.json(), "idle_peak_mb": megabytes(idle), "peaks": peaks }))
}

fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

/// Milliseconds from start to end, and the peak in KiB.
fn measured(triune: &Path, database: Option<&str>, sql: &str) -> Result<(f64, u64)> {
    let failed = |e: std::io::Error| {
        Error::new(ErrorKind::Unavailable, format!("{} does not run: {e}", triune.display()))
    };
    let clock = SystemClock::new();
    let start = clock.elapsed();
    let mut child = Command::new(triune)
        .args(["--no-init", "--format", "csv"])
        .args(database)
        .args(["-c", sql])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let status = loop {
        peak = peak.max(high_water(&status_file));
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        std::thread::sleep(Duration::from_micros(500));
    };
    let ms = (clock.elapsed() - start).as_secs_f64() * 1e3;
    if !status.success() {
        return Err(Error::internal(format!("{} ended with {status} on {sql}", triune.display())));
    }
    Ok((ms, peak))
}

/// KiB; 0 when the process has ended already.
fn high_water(status_file: &str) -> u64 {
    let text = std::fs::read_to_string(status_file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
