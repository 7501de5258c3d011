//! `EXPLAIN` and `EXPLAIN ANALYZE` as a tree that a person reads.
//!
//! ```text
//! ProjectionExec: expr=[id, _distance]                    10 rows     3 µs
//! └─ VectorTopKExec: mode=final, k=10                     10 rows    41 µs
//!    └─ DataSourceExec: file_groups={2 groups: …}    300,000 rows  61.0 ms
//! ```
//!
//! Times are the sum over partitions of what the operator itself measured, so they may exceed the time on
//! the clock when partitions ran side by side.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::display::DisplayFormatType;
use datafusion::physical_plan::metrics::{MetricValue, MetricsSet};
use datafusion::physical_plan::{DisplayAs, ExecutionPlan};

/// What one line of the tree says.
struct Line {
    text: String,
    rows: String,
    time: String,
    details: String,
}

/// The plan as a tree; with metrics when it has run.
pub(crate) fn render(plan: &Arc<dyn ExecutionPlan>, analyzed: bool, verbose: bool) -> String {
    let mut lines = Vec::new();
    collect(plan, "", "", verbose, analyzed, &mut lines);
    if !analyzed {
        return lines.into_iter().map(|l| l.text).collect::<Vec<_>>().join("\n");
    }
    const WIDEST: usize = 76;
    let clipped: Vec<String> =
        lines.iter().map(|l| if verbose { l.text.clone() } else { clip(&l.text, WIDEST) }).collect();
    let width = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
    let text_width = width(&mut clipped.iter().map(|t| t.chars().count())).min(WIDEST);
    let rows_width = width(&mut lines.iter().map(|l| l.rows.chars().count()));
    let time_width = width(&mut lines.iter().map(|l| l.time.chars().count()));
    let mut out = String::new();
    for (line, text) in lines.iter().zip(&clipped) {
        let pad = " ".repeat(text_width.saturating_sub(text.chars().count()));
        let _ = write!(out, "{text}{pad}  {:>rows_width$}  {:>time_width$}", line.rows, line.time);
        if !line.details.is_empty() {
            let _ = write!(out, "  {}", line.details);
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out
}

struct Plain<'a>(&'a dyn ExecutionPlan, bool);

impl std::fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.1 { DisplayFormatType::Verbose } else { DisplayFormatType::Default };
        DisplayAs::fmt_as(self.0, kind, f)
    }
}

fn collect(
    plan: &Arc<dyn ExecutionPlan>,
    first: &str,
    below: &str,
    verbose: bool,
    analyzed: bool,
    lines: &mut Vec<Line>,
) {
    // They stand above every join and say nothing of it.
    if let (false, "CooperativeExec" | "FilterBarrierExec", [input]) =
        (verbose, plan.name(), plan.children().as_slice())
    {
        return collect(input, first, below, verbose, analyzed, lines);
    }
    let text = Plain(plan.as_ref(), verbose).to_string();
    let metrics = if analyzed { plan.metrics() } else { None };
    lines.push(Line {
        text: format!("{first}{}", if verbose { text } else { shorten_files(&shorten_vectors(&text)) }),
        rows: metrics.as_ref().and_then(MetricsSet::output_rows).map(rows).unwrap_or_default(),
        time: metrics.as_ref().and_then(own_time).map(duration).unwrap_or_default(),
        details: metrics.as_ref().map(details).unwrap_or_default(),
    });
    let children = plan.children();
    let last = children.len().saturating_sub(1);
    for (i, child) in children.into_iter().enumerate() {
        let (branch, next) = if i == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        collect(child, &format!("{below}{branch}"), &format!("{below}{next}"), verbose, analyzed, lines);
    }
}

/// A literal vector of hundreds of numbers hides the plan: the first ones stand for it.
fn shorten_vectors(text: &str) -> String {
    const SHOWN: usize = 3;
    let mut out = String::with_capacity(text.len().min(4096));
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let (before, from) = rest.split_at(open + 1);
        out.push_str(before);
        let end = from.find([']', '[']).unwrap_or(from.len());
        let inner = &from[..end];
        let numbers: Vec<&str> = inner.split(',').collect();
        if numbers.len() > 8 && numbers.iter().all(|n| n.trim().parse::<f64>().is_ok()) {
            let shown: Vec<&str> = numbers[..SHOWN].iter().map(|n| n.trim()).collect();
            let _ = write!(out, "{}, … {} d", shown.join(", "), numbers.len());
        } else {
            out.push_str(inner);
        }
        rest = &from[end..];
        if rest.starts_with('[') {
            continue;
        }
    }
    out.push_str(rest);
    out
}

/// `file_groups={2 groups: [[a, b], [c]]}` says where hundreds of files are, and hides what is read of them.
fn shorten_files(text: &str) -> String {
    let found = text.find("file_groups={").and_then(|start| {
        let from = start + text[start..].find(": [[")?;
        let to = from + text[from..].find("]]}")? + 2;
        Some(format!("{}{}", &text[..from], &text[to..]))
    });
    found.unwrap_or_else(|| text.to_owned())
}

fn clip(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        Some((end, _)) => {
            let kept: String = text[..end].chars().take(width - 1).collect();
            format!("{kept}…")
        }
        None => text.to_owned(),
    }
}

fn own_time(metrics: &MetricsSet) -> Option<Duration> {
    let compute = metrics.elapsed_compute().filter(|n| *n > 1).map(|n| Duration::from_nanos(n as u64));
    let scan = metrics
        .iter()
        .filter_map(|m| match m.value() {
            MetricValue::Time { name, time } if name == "time_elapsed_processing" => {
                Some(time.value() as u64)
            }
            _ => None,
        })
        .sum::<u64>();
    let scan = (scan > 0).then(|| Duration::from_nanos(scan));
    compute.max(scan)
}

/// Counts that explain an operator: spilled and pruned, read and filtered.
fn details(metrics: &MetricsSet) -> String {
    const WORTH_SAYING: [&str; 6] =
        ["spill_count", "bytes_scanned", "fragments_scanned", "rows_scanned", "build_mem_used", "index_rows"];
    let metrics = metrics.aggregate_by_name();
    let mut parts: Vec<String> = metrics
        .iter()
        .filter_map(|m| {
            let name = m.value().name();
            let value = m.value().as_usize();
            (WORTH_SAYING.contains(&name) && value > 0).then(|| match name {
                "bytes_scanned" | "build_mem_used" => format!("{name}={}", bytes(value)),
                _ => format!("{name}={}", grouped(value)),
            })
        })
        .collect();
    parts.sort();
    parts.join(" ")
}

fn rows(n: usize) -> String {
    format!("{} {}", grouped(n), if n == 1 { "row" } else { "rows" })
}

fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

fn duration(d: Duration) -> String {
    match d.as_nanos() {
        0..1_000 => format!("{} ns", d.as_nanos()),
        1_000..1_000_000 => format!("{} µs", d.as_micros()),
        1_000_000..1_000_000_000 => format!("{:.1} ms", d.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", d.as_secs_f64()),
    }
}

fn bytes(n: usize) -> String {
    match n {
        0..1_024 => format!("{n} B"),
        1_024..1_048_576 => format!("{:.1} KiB", n as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", n as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", n as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_vectors_are_shortened_and_lists_of_names_are_not() {
        let vector = (0..384).map(|i| format!("{i}.5")).collect::<Vec<_>>().join(", ");
        assert_eq!(shorten_vectors(&format!("f([{vector}]) x")), "f([0.5, 1.5, 2.5, … 384 d]) x");
        let names = "expr=[a, b, c, d, e, f, g, h, i], x=[1, 2]";
        assert_eq!(shorten_vectors(names), names);
        assert_eq!(shorten_vectors("[[1, 2], [3"), "[[1, 2], [3");
    }

    #[test]
    fn lists_of_files_are_counted() {
        let text =
            "DataSourceExec: file_groups={2 groups: [[a.parquet, b.parquet], [c.parquet]]}, projection=[ts]";
        assert_eq!(shorten_files(text), "DataSourceExec: file_groups={2 groups}, projection=[ts]");
        assert_eq!(shorten_files("LanceScanExec: x"), "LanceScanExec: x");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(12), "12");
        assert_eq!(duration(Duration::from_micros(1_500)), "1.5 ms");
        assert_eq!(bytes(1_572_864), "1.5 MiB");
    }
}
