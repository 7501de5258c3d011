//! Drivers that know nothing of Triune, from PyPI: `tests/python/*.py` against a server.

use std::path::PathBuf;
use std::process::Command;

use crate::served::Served;

fn run(script: &str, served: &Served, words: &[&str]) {
    let python = triune_tests::s3::python().expect("a Python");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
    let output =
        Command::new(python).arg(path).arg(served.address.to_string()).args(words).output().expect("Python");
    assert!(
        output.status.success(),
        "{script}:\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn adbc() {
    run("adbc.py", &Served::in_memory(), &[]);
}

#[test]
fn adbc_with_a_password() {
    let served = Served::new(&["--auth"]);
    let said = served.said.join("");
    let password =
        said.split("with the password ").nth(1).and_then(|r| r.split(' ').next()).expect("a password");
    run("adbc.py", &served, &["admin", password]);
}

#[test]
fn pyarrow_flight() {
    run("flight.py", &Served::in_memory(), &[]);
}

#[test]
fn sqlalchemy() {
    run("alchemy.py", &Served::in_memory(), &[]);
}
