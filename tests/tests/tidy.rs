//! Rules of the repository that no compiler knows, as tests.

#![expect(clippy::expect_used, reason = "a helper that fails fails its test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crates from the ground up: a crate may depend on those before it only.
const LAYERS: [&[&str]; 10] = [
    &["triune-common"],
    &["triune-formats", "triune-vector", "triune-timeseries", "triune-unnest"],
    &["triune-object-store", "triune-embed", "triune-standard"],
    &["triune-files", "triune-lance"],
    &["triune-storage"],
    &["triune-search"],
    &["triune-query"],
    &["triune-server"],
    &["triune-cli", "triune-python"],
    &["triune-benches", "triune-tests"],
];

/// Holds third-party dependencies only, see its `lib.rs`.
const FEATURES: &str = "triune-features";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

fn metadata() -> Value {
    // What other platforms would need was never fetched.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &platform])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[test]
fn dependencies_point_downward() {
    let layer: BTreeMap<&str, usize> =
        LAYERS.iter().enumerate().flat_map(|(i, names)| names.iter().map(move |n| (*n, i))).collect();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let mut seen = BTreeSet::new();
    for package in packages.iter().filter(|p| p["source"].is_null()) {
        let name = text(package, "name");
        if name == FEATURES {
            continue;
        }
        let own = *layer.get(name).unwrap_or_else(|| panic!("{name} has no layer in this test"));
        seen.insert(name);
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let other = text(dependency, "name");
            if !dependency["path"].is_string() || other == FEATURES {
                continue;
            }
            let below = *layer.get(other).unwrap_or_else(|| panic!("{other} has no layer in this test"));
            assert!(below < own, "{name} (layer {own}) must not depend on {other} (layer {below})");
        }
    }
    assert_eq!(seen.len(), layer.len(), "a crate in this test's layers does not exist");
}

#[test]
fn one_datafusion_and_one_arrow() {
    let metadata = metadata();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        versions.entry(text(package, "name")).or_default().insert(text(package, "version"));
    }
    for name in [
        "datafusion",
        "datafusion-expr",
        "sqlparser",
        "arrow",
        "arrow-array",
        "arrow-schema",
        "parquet",
        "lance",
    ] {
        let found = versions.get(name).unwrap_or_else(|| panic!("{name} is not in the graph"));
        assert_eq!(found.len(), 1, "{name} is in the graph as {found:?}");
    }
    // DataFusion's and Lance's; a third would be a mistake.
    assert_eq!(versions["object_store"].len(), 2, "{:?}", versions["object_store"]);
}

#[test]
fn every_third_party_dependency_is_in_the_features_crate() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let third_party = |package: &Value| -> BTreeSet<String> {
        package["dependencies"]
            .as_array()
            .expect("dependencies")
            .iter()
            .filter(|d| !d["path"].is_string())
            .map(|d| text(d, "name").to_owned())
            .collect()
    };
    let ours: Vec<&Value> = packages.iter().filter(|p| p["source"].is_null()).collect();
    let features = ours.iter().find(|p| text(p, "name") == FEATURES).expect("triune-features");
    let listed = third_party(features);
    for package in &ours {
        let missing: Vec<String> = third_party(package).difference(&listed).cloned().collect();
        assert!(
            missing.is_empty(),
            "add to tests/features/Cargo.toml what {} uses: {missing:?}",
            text(package, "name")
        );
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let listed = Command::new("git").args(["ls-files", "*.rs"]).current_dir(root()).output().expect("git");
    String::from_utf8_lossy(&listed.stdout)
        .lines()
        .map(|l| root().join(l))
        .filter_map(|p| std::fs::read_to_string(&p).ok().map(|t| (p, t)))
        .collect()
}

#[test]
fn no_test_is_switched_off_and_no_file_is_a_giant() {
    let sources = sources();
    assert!(sources.len() > 50, "git listed {} files", sources.len());
    let mut wrong = Vec::new();
    for (path, content) in sources {
        if path.ends_with("tests/tests/tidy.rs") {
            continue;
        }
        if content.contains("#[ignore") {
            wrong.push(format!(
                "{} has an ignored test: assert what is, and say what should be",
                path.display()
            ));
        }
        let lines = content.lines().count();
        if lines > 800 {
            wrong.push(format!("{} has {lines} lines: find the seam", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_says_what_it_is() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|(path, content)| {
            let is_tests = path.components().any(|c| c.as_os_str() == "tests.rs" || c.as_os_str() == "tests");
            !is_tests && !content.starts_with("//!")
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "these files begin without a module doc:\n{}", silent.join("\n"));
}
