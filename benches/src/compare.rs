//! Every question asked of every engine in turn, so that whatever else the machine does meets them alike.
//!
//! ```text
//! question ─▶ each lane once: warm, and its answer checked against the first lane's
//!          ─▶ runs × (lane 1, lane 2, …) ─▶ median, fastest, slowest, ratio to lane 1
//! ```

use std::path::Path;

use serde_json::{Value, json};
use triune_common::Result;

use crate::engines::{Engines, Rows};
use crate::statements::{Agreement, Engine, QUESTIONS, Question};
use crate::times::Times;

/// Runs all questions whose name contains `only`; prints a table and returns the figures.
pub(crate) async fn run(
    (folder, python): (&Path, &Path),
    threads: usize,
    runs: usize,
    only: &str,
) -> Result<(Value, bool)> {
    let mut engines = Engines::all(folder, threads, python).await?;
    let mut figures = Vec::new();
    let mut agreed = true;
    heading();
    for question in QUESTIONS.iter().filter(|q| q.name.contains(only)) {
        let (figure, same) = ask(&mut engines, question, runs).await?;
        figures.push(figure);
        agreed &= same;
    }
    Ok((json!({ "duckdb": engines.duckdb_version(), "questions": figures }), agreed))
}

async fn ask(engines: &mut Engines, question: &Question, runs: usize) -> Result<(Value, bool)> {
    let mut first: Option<Rows> = None;
    let mut differences = Vec::new();
    for lane in question.lanes {
        let (_, rows) = engines.run(*lane).await?;
        differences.push(first.as_ref().and_then(|first| difference(first, &rows, question.agreement)));
        first.get_or_insert(rows);
    }
    let mut times = vec![Times::default(); question.lanes.len()];
    for _ in 0..runs.max(1) {
        for (lane, times) in question.lanes.iter().zip(&mut times) {
            times.push(engines.run(*lane).await?.0);
        }
    }
    let base = times[0].median();
    let mut lanes = Vec::new();
    for ((lane, times), difference) in question.lanes.iter().zip(&times).zip(&differences) {
        let ratio = times.median() / base;
        line(question.name, lane.engine, lane.source, times, ratio, difference.as_deref());
        lanes.push(json!({
            "engine": lane.engine.name(),
            "source": lane.source,
            "times": times.json(),
            "ratio": ratio,
            "sql": lane.sql,
            "difference": difference,
        }));
    }
    let agreed = differences.iter().all(Option::is_none);
    let rows = first.map_or(0, |rows| rows.len());
    Ok((json!({ "name": question.name, "rows": rows, "lanes": lanes }), agreed))
}

/// In what two answers differ beyond what they may; `None` if they agree.
fn difference(a: &Rows, b: &Rows, agreement: Agreement) -> Option<String> {
    if a.len() != b.len() {
        return Some(format!("{} rows and {} rows", a.len(), b.len()));
    }
    match agreement {
        Agreement::Ids => {
            let ids = |rows: &Rows| {
                let mut ids: Vec<f64> = rows.iter().filter_map(|row| row.first().copied()).collect();
                ids.sort_by(f64::total_cmp);
                ids
            };
            let (a, b) = (ids(a), ids(b));
            (a != b).then(|| format!("ids {a:?} and {b:?}"))
        }
        Agreement::Rows(tolerances) => a.iter().zip(b).enumerate().find_map(|(i, (x, y))| {
            let near = |(c, (x, y)): (usize, (&f64, &f64))| {
                let tolerance = tolerances.get(c).copied().unwrap_or(0.0);
                (x - y).abs() <= tolerance * x.abs().max(y.abs())
            };
            let same = x.len() == y.len() && x.iter().zip(y).enumerate().all(near);
            (!same).then(|| format!("row {i}: {x:?} and {y:?}"))
        }),
    }
}

fn heading() {
    println!(
        "{:<26} {:<11} {:<16} {:>10} {:>10} {:>10} {:>7}  answers",
        "statement", "engine", "source", "median ms", "min ms", "max ms", "ratio"
    );
}

fn line(name: &str, engine: Engine, source: &str, times: &Times, ratio: f64, difference: Option<&str>) {
    println!(
        "{name:<26} {:<11} {source:<16} {:>10.2} {:>10.2} {:>10.2} {ratio:>7.2}  {}",
        engine.name(),
        times.median(),
        times.min(),
        times.max(),
        difference.unwrap_or("agree")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_differ_beyond_their_tolerance_only() {
        let rows = Agreement::Rows(&[0.0, 0.1]);
        let one = vec![vec![1.0, 100.0]];
        assert_eq!(difference(&one, &vec![vec![1.0, 109.0]], rows), None);
        assert!(difference(&one, &vec![vec![1.0, 120.0]], rows).is_some());
        assert!(difference(&one, &vec![vec![2.0, 100.0]], rows).is_some());
        assert!(difference(&one, &vec![vec![1.0]], rows).is_some());
        assert!(difference(&one, &vec![], rows).is_some());
        let ids = vec![vec![1.0], vec![2.0]];
        assert_eq!(difference(&ids, &vec![vec![2.0], vec![1.0]], Agreement::Ids), None);
        assert!(difference(&ids, &vec![vec![2.0], vec![3.0]], Agreement::Ids).is_some());
        // A NaN is never near anything.
        assert!(difference(&vec![vec![1.0, f64::NAN]], &vec![vec![1.0, f64::NAN]], rows).is_some());
    }
}
