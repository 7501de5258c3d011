//! SQLite in a child process: one statement a line, one answer a line, both JSON.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value as Json, json};

use crate::answer::{Answer, Value};

/// `rows` of what gives rows, else how many were changed; Python's sqlite3 is in its standard library.
const SERVER: &str = r#"
import json, sqlite3, sys
db = sqlite3.connect(":memory:", isolation_level=None)
db.execute("PRAGMA case_sensitive_like = ON")
for line in sys.stdin:
    try:
        cursor = db.execute(json.loads(line))
        rows = cursor.fetchall()
        if not cursor.description:
            answer = {"count": db.execute("SELECT changes()").fetchone()[0]}
        else:
            answer = {"rows": rows}
    except (sqlite3.Error, OverflowError) as e:
        answer = {"error": str(e)}
    print(json.dumps(answer), flush=True)
"#;

/// A database in memory; ends with the process.
pub(crate) struct Sqlite {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Sqlite {
    pub(crate) fn start() -> Self {
        let python = triune_tests::python().unwrap();
        let mut child = Command::new(python)
            .args(["-c", SERVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let to = child.stdin.take().expect("its input");
        let from = BufReader::new(child.stdout.take().expect("its output"));
        Self { child, to, from }
    }

    pub(crate) fn run(&mut self, sql: &str) -> Answer {
        let line = json!(sql).to_string() + "\n";
        self.to.write_all(line.as_bytes()).and_then(|()| self.to.flush()).expect("SQLite listens");
        let mut answer = String::new();
        self.from.read_line(&mut answer).expect("SQLite answers");
        let answer: Json = serde_json::from_str(&answer).expect("an answer in JSON");
        if let Some(error) = answer["error"].as_str() {
            return Answer::Error(error.to_owned());
        }
        match answer["rows"].as_array() {
            Some(rows) => Answer::Rows(
                rows.iter().map(|r| r.as_array().expect("a row").iter().map(value).collect()).collect(),
            ),
            None => Answer::Count(answer["count"].as_u64().expect("a count")),
        }
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::String(s) => Value::Text(s.clone()),
        Json::Number(n) => n.as_i64().map_or_else(|| Value::Real(n.as_f64().expect("a number")), Value::Int),
        other => panic!("SQLite does not know {other}"),
    }
}
