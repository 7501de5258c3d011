//! Where figures come from: a number without its machine says nothing.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// Cores, processor, commit and build of this run. What cannot be found out is `null`.
pub(crate) fn described(threads: usize) -> Value {
    json!({
        "cores": cores(),
        "threads": threads,
        "processor": processor(),
        "commit": commit(),
        "profile": profile(),
        "optimised": !cfg!(debug_assertions),
    })
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The commit of the sources beside this crate, with `+` when files differ from it.
fn commit() -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(folder).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=10", "HEAD"])?;
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if changed { format!("{commit}+") } else { commit })
}

/// Cargo puts binaries into a folder named after the profile.
fn profile() -> Option<String> {
    let exe = std::env::current_exe().ok()?;
    let folder = exe.parent()?.file_name()?.to_string_lossy().into_owned();
    Some(if folder == "debug" { "dev".to_owned() } else { folder })
}
