//! `triune -c`, `-f` and pipes: what scripts rely on.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a helper is the test's failure")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn triune(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_triune"));
    command
        .env("HOME", home)
        .env("XDG_STATE_HOME", home.join("state"))
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("TRIUNE_SECRET_KEY")
        .current_dir(home)
        .stdin(Stdio::null());
    command
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn run(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    triune(home.path()).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{:?}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const ROWS: &str =
    "SELECT * FROM (VALUES (1, 'a,b', 0.5), (2, NULL, -1.25)) AS t(id, name, score) ORDER BY id";

#[test]
fn tables_on_a_pipe() {
    assert_eq!(
        stdout(&run(&["-c", "SELECT 1 AS one, 'x' AS s"])),
        "\
╭────────┬─────────╮
│    one │ s       │
│ BIGINT │ VARCHAR │
├────────┼─────────┤
│      1 │ x       │
╰────────┴─────────╯
1 row  2 columns
"
    );
    assert!(!stdout(&run(&["-q", "-c", "SELECT 1"])).contains("1 row"));
    // On a pipe no column is left out.
    let columns: Vec<String> = (0..60).map(|i| format!("{i} AS column_{i}")).collect();
    let wide = stdout(&run(&["-c", &format!("SELECT {}", columns.join(", "))]));
    assert!(wide.contains("column_30") && !wide.contains('…'));
    let long = "SELECT value FROM generate_series(1, 100) ORDER BY value";
    assert!(stdout(&run(&["-c", long])).contains("100 rows (40 shown)"));
    assert_eq!(stdout(&run(&["-c", long, "--max-rows", "all"])).lines().count(), 106);
}

#[test]
fn every_text_format() {
    let of = |format: &str| stdout(&run(&["--format", format, "-c", ROWS]));
    assert_eq!(of("csv"), "id,name,score\n1,\"a,b\",0.5\n2,,-1.25\n");
    assert_eq!(of("tsv"), "id\tname\tscore\n1\ta,b\t0.5\n2\t\\N\t-1.25\n");
    assert_eq!(
        of("json"),
        "[\n{\"id\":1,\"name\":\"a,b\",\"score\":0.5},\n{\"id\":2,\"name\":null,\"score\":-1.25}\n]\n"
    );
    assert_eq!(
        of("ndjson"),
        "{\"id\":1,\"name\":\"a,b\",\"score\":0.5}\n{\"id\":2,\"name\":null,\"score\":-1.25}\n"
    );
    assert_eq!(
        of("markdown"),
        "| id | name | score |\n|---:|:---|---:|\n| 1 | a,b | 0.5 |\n| 2 | NULL | -1.25 |\n"
    );
}

#[test]
fn files_of_every_format_come_back() {
    let home = tempfile::tempdir().unwrap();
    for (file, rows) in [("out.parquet", 2), ("out.arrow", 2), ("out.csv", 2), ("out.ndjson", 2)] {
        let output = triune(home.path()).args(["-c", ROWS, "-o", file]).output().unwrap();
        assert_eq!(stdout(&output), "", "{file}");
        if file.ends_with("ndjson") {
            assert_eq!(std::fs::read_to_string(home.path().join(file)).unwrap().lines().count(), rows);
            continue;
        }
        let sql = format!("SELECT count(*) AS n, sum(id) AS s FROM '{file}'");
        let output = triune(home.path()).args(["--format", "csv", "-c", &sql]).output().unwrap();
        assert_eq!(stdout(&output), format!("n,s\n{rows},3\n"), "{file}");
    }
}

#[test]
fn a_binary_file_holds_one_result() {
    let home = tempfile::tempdir().unwrap();
    let output =
        triune(home.path()).args(["-c", "SELECT 1; SELECT 2", "-o", "two.parquet"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("already holds one result"), "{}", stderr(&output));
    // The first is whole.
    let output =
        triune(home.path()).args(["--format", "csv", "-c", "SELECT * FROM 'two.parquet'"]).output().unwrap();
    assert_eq!(stdout(&output).lines().nth(1), Some("1"));
    // A result that failed in the middle leaves nothing behind that could be taken for one.
    let failing = "SELECT 1 / (value - 5) FROM generate_series(1, 10)";
    let output = triune(home.path()).args(["-c", failing, "-o", "half.parquet"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!home.path().join("half.parquet").exists());
}

#[test]
fn arrow_streams_on_a_pipe() {
    let output = run(&["--format", "arrow", "-c", ROWS]);
    let reader =
        arrow::ipc::reader::StreamReader::try_new(std::io::Cursor::new(output.stdout), None).unwrap();
    assert_eq!(reader.map(|b| b.unwrap().num_rows()).sum::<usize>(), 2);
}

#[test]
fn a_failing_statement_ends_the_run() {
    let output =
        run(&["--format", "csv", "-c", "SELECT 1 AS a; SELECT wrong; SELECT 2 AS b", "-c", "SELECT 3 AS c"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a\n1\n");
    let message = stderr(&output);
    assert!(
        message.starts_with("error[not found]: ") && message.contains("wrong") && message.contains('^'),
        "{message}"
    );
    let output =
        run(&["--keep-going", "--format", "csv", "-c", "SELECT wrong; SELECT 2 AS b", "-c", "SELECT 3 AS c"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "b\n2\nc\n3\n");
}

#[test]
fn errors_in_files_name_their_line() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), "bad.sql", "SELECT 1 AS a;\n\n-- the next is wrong\nSELECT\n  wrong;\n\\nope\n");
    let output = triune(home.path()).args(["--format", "csv", "-f", "bad.sql"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("bad.sql:5: error[not found]"), "{}", stderr(&output));
    let output =
        triune(home.path()).args(["--format", "csv", "--keep-going", "-f", "bad.sql"]).output().unwrap();
    assert!(
        stderr(&output).contains("bad.sql:6: error[not found]: there is no command \\nope"),
        "{}",
        stderr(&output)
    );
    let output = triune(home.path()).args(["-f", "missing.sql"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot read \"missing.sql\""), "{}", stderr(&output));
    std::fs::write(home.path().join("latin.sql"), b"SELECT '\xe9';").unwrap();
    let output = triune(home.path()).args(["-f", "latin.sql"]).output().unwrap();
    assert!(stderr(&output).contains("\"latin.sql\": not UTF-8 at byte 8"), "{}", stderr(&output));
}

#[test]
fn the_standard_input_is_a_script() {
    let home = tempfile::tempdir().unwrap();
    let with_input = |arguments: &[&str], input: &[u8]| {
        let mut child = triune(home.path())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    };
    let output =
        with_input(&["--format", "csv"], b"\xef\xbb\xbfSELECT 1 AS a;\n.mode tsv\nSELECT 'ende' AS b");
    assert_eq!(stdout(&output), "a\n1\nb\nende\n");
    let output =
        with_input(&["--format", "csv", "-c", "SELECT 0 AS z", "-f", "-"], b"SELECT 1 AS a;\\q\nSELECT 2;");
    assert_eq!(stdout(&output), "z\n0\na\n1\n");
    let output = with_input(&[], b"SELECT 1;\nSELECT\n\nwrong;\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("stdin:4: error["), "{}", stderr(&output));
    let output = with_input(&[], b"SELECT 'a\xff';");
    assert!(stderr(&output).contains("not UTF-8 at byte 9"), "{}", stderr(&output));
}

#[test]
fn statements_run_as_they_arrive() {
    let home = tempfile::tempdir().unwrap();
    let mut child = triune(home.path())
        .args(["--format", "csv"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for n in 1..=3 {
        writeln!(input, "SELECT {n} AS n;").unwrap();
        input.flush().unwrap();
        // Answered while the input is still open.
        assert_eq!(lines.next().unwrap().unwrap(), "n");
        assert_eq!(lines.next().unwrap().unwrap(), n.to_string());
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let home = tempfile::tempdir().unwrap();
    let mut child = triune(home.path())
        .args(["--format", "csv", "-c", "SELECT value FROM generate_series(1, 50000000)", "-c", "SELECT 1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 6];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"value\n");
    // The reader is gone here.
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
}

#[test]
fn an_interrupt_has_its_own_status() {
    let home = tempfile::tempdir().unwrap();
    let child = triune(home.path())
        .args([
            "--keep-going",
            "-c",
            "SELECT sum(value % 7) FROM generate_series(1, 1000000000000)",
            "-c",
            "SELECT 1",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(stderr(&output), "cancelled\n");
    assert_eq!(output.stdout, b"");
}

#[test]
fn a_long_script_is_not_slow() {
    let home = tempfile::tempdir().unwrap();
    // Ten megabytes of one statement, and many small commands after it.
    let text = format!(
        "SELECT length('{}') AS n;\n{}SELECT\nwrong;\n",
        "x".repeat(10_000_000),
        "\\x off\n".repeat(200)
    );
    write(home.path(), "long.sql", &text);
    let output = triune(home.path()).args(["--format", "csv", "-f", "long.sql"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "n\n10000000\n");
    assert!(stderr(&output).contains("long.sql:203: error["), "{}", stderr(&output));
}

#[test]
fn the_init_file_runs_first() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), ".triunerc", ".mode csv\nCREATE VIEW initial AS SELECT 7 AS n;\n");
    let of = |arguments: &[&str]| triune(home.path()).args(arguments).output().unwrap();
    assert_eq!(stdout(&of(&["-c", "FROM initial"])), "n\n7\n");
    assert_eq!(of(&["--no-init", "-c", "FROM initial"]).status.code(), Some(1));
    write(home.path(), "other", ".mode json\n");
    assert_eq!(stdout(&of(&["--init", "other", "-c", "SELECT 1 AS a"])), "[\n{\"a\":1}\n]\n");
    assert_eq!(of(&["--init", "missing", "-c", "SELECT 1 AS a"]).status.code(), Some(1));
    // A broken init file is told of and does not lock the user out.
    write(home.path(), ".triunerc", "SELECT wrong;\n");
    let output = of(&["--format", "csv", "-c", "SELECT 1 AS a"]);
    assert_eq!(stdout(&output), "a\n1\n");
    assert!(stderr(&output).contains(".triunerc:1: error["), "{}", stderr(&output));
}

#[test]
fn commands_in_scripts() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), "inner.sql", "SELECT 'inner' AS s;");
    write(home.path(), "self.sql", "\\i self.sql\n");
    let of = |arguments: &[&str]| triune(home.path()).args(arguments).output().unwrap();
    assert_eq!(stdout(&of(&["--format", "csv", "-c", "\\i inner.sql\nSELECT 2 AS n"])), "s\ninner\nn\n2\n");
    let output = of(&["-f", "self.sql"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("files run each other 32 deep"), "{}", stderr(&output));
    let output = of(&["--format", "csv", "-c", "\\o out.csv\nSELECT 1 AS a;\n\\o\nSELECT 2 AS b;"]);
    assert_eq!(stdout(&output), "b\n2\n");
    assert_eq!(std::fs::read_to_string(home.path().join("out.csv")).unwrap(), "a\n1\n");
    let output = of(&["-c", "\\timing on\nSELECT 1 AS a"]);
    assert!(stdout(&output).contains("\nTime: "), "{}", stdout(&output));
    // Never between values.
    let output = of(&["--timing", "--format", "csv", "-c", "SELECT 1 AS a"]);
    assert_eq!(stdout(&output), "a\n1\n");
    assert!(stderr(&output).starts_with("Time: "));
    assert!(stdout(&of(&["-x", "-c", ROWS])).contains("name  │ a,b\n"));
}

#[test]
fn plans_are_not_boxed() {
    let plan = stdout(&run(&["-c", "EXPLAIN SELECT 1 + 1"]));
    assert!(!plan.contains('│') && !plan.contains('╭') && plan.lines().count() >= 1, "{plan}");
    let rows = stdout(&run(&["--format", "ndjson", "-c", "EXPLAIN SELECT 1 + 1"]));
    assert!(rows.starts_with('{'), "{rows}");
}

#[test]
fn deep_nesting_does_not_end_the_process_by_a_signal() {
    let deep = format!("SELECT {}1{}", "(".repeat(1000), ")".repeat(1000));
    let code = run(&["-c", &deep]).status.code();
    assert!(matches!(code, Some(0 | 1)), "{code:?}");
}

#[test]
fn a_database_in_a_folder_persists() {
    let home = tempfile::tempdir().unwrap();
    let of = |arguments: &[&str]| stdout(&triune(home.path()).args(arguments).output().unwrap());
    of(&["shop", "-c", "CREATE VIEW answer AS SELECT 42 AS n"]);
    assert_eq!(of(&["shop", "--format", "csv", "-c", "FROM answer"]), "n\n42\n");
}

#[test]
fn help_and_mistakes() {
    assert!(stdout(&run(&["--version"])).starts_with("triune "));
    assert!(stdout(&run(&["--help"])).contains("Examples:"));
    let output = run(&["--format", "xml", "-c", "SELECT 1"]);
    assert_eq!(output.status.code(), Some(2));
    let output = run(&["-o", "no/such/folder/x.csv", "-c", "SELECT 1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot write to \"no/such/folder/x.csv\""), "{}", stderr(&output));
}

#[test]
fn secrets_outlive_the_process_and_are_sealed() {
    let home = tempfile::tempdir().unwrap();
    let secret = "CREATE SECRET lake (TYPE s3, KEY_ID 'AKIAEXAMPLE', SECRET 'hunter2', SCOPE 's3://lake')";
    let in_db = |key: Option<&str>, sql: &str| {
        let mut command = triune(home.path());
        if let Some(key) = key {
            command.env("TRIUNE_SECRET_KEY", key);
        }
        command.args(["my.db", "-c", sql, "--format", "csv"]).output().unwrap()
    };
    assert_eq!(stdout(&in_db(None, secret)), "");
    assert_eq!(stdout(&in_db(None, "SHOW SECRETS")), "name,type,scope,kept_in\nlake,s3,s3://lake,database\n");

    let catalog = std::fs::read_to_string(home.path().join("my.db/catalog.json")).unwrap();
    assert!(catalog.contains("lake"), "{catalog}");
    let in_hex = |text: &str| text.bytes().map(|b| format!("{b:02x}")).collect::<String>();
    for value in ["hunter2", "AKIAEXAMPLE"] {
        assert!(!catalog.contains(value) && !catalog.contains(&in_hex(value)), "{catalog}");
    }

    // Somebody else's key: the secret is seen, what it holds is not.
    let other = "0".repeat(64);
    assert!(stdout(&in_db(Some(&other), "SHOW SECRETS")).contains("sealed with another key"));
    let bad = in_db(Some("short"), "SHOW SECRETS");
    assert!(stderr(&bad).contains("not 64 hexadecimal digits"), "{}", stderr(&bad));
    assert!(stdout(&in_db(None, "DROP SECRET lake; SHOW SECRETS")).ends_with("kept_in\n"));
}
