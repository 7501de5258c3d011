//! A terminal to drive the binary with: it answers the editor's questions and remembers what was shown.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a helper of tests: what goes wrong here is the test's failure, and its patience is the machine's time"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rexpect::process::PtyProcess;

/// The editor asks for pasted text to be marked while it reads a line.
const BEGUN: &str = "\x1b[?2004h";
const ENDED: &str = "\x1b[?2004l";
/// A debug build on a busy machine may take its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary in a pseudo-terminal, with a home of its own.
pub(crate) struct Terminal {
    process: PtyProcess,
    keys: File,
    shown: Arc<Mutex<Vec<u8>>>,
    /// How much of the plain text has been expected already.
    read: usize,
    pub(crate) home: tempfile::TempDir,
}

impl Terminal {
    /// Starts `triune ARGUMENTS` in a terminal of so many columns.
    pub(crate) fn start(columns: u16, arguments: &[&str]) -> Self {
        Self::start_with(columns, arguments, &[], tempfile::tempdir().unwrap())
    }

    pub(crate) fn start_with(
        columns: u16,
        arguments: &[&str],
        environment: &[(&str, &str)],
        home: tempfile::TempDir,
    ) -> Self {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("stty rows 40 cols {columns}; exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_triune"))
            .args(arguments)
            .current_dir(home.path())
            .env("HOME", home.path())
            .env("XDG_STATE_HOME", home.path().join("state"))
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .envs(environment.iter().copied());
        let process = PtyProcess::new(command).unwrap();
        let keys = process.get_file_handle().unwrap();
        let mut answers = process.get_file_handle().unwrap();
        let mut screen = process.get_file_handle().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            let mut asked = 0;
            // The end of the terminal is an error on Linux.
            while let Ok(n) = screen.read(&mut chunk) {
                if n == 0 {
                    return;
                }
                let mut shown = sink.lock().unwrap();
                shown.extend_from_slice(&chunk[..n]);
                // "Where is the cursor?" is answered at once, always with the first column.
                let questions = shown.windows(4).filter(|w| w == b"\x1b[6n").count();
                drop(shown);
                for _ in asked..questions {
                    let _ = answers.write_all(b"\x1b[1;1R");
                }
                asked = questions;
            }
        });
        Self { process, keys, shown, read: 0, home }
    }

    /// Presses keys.
    pub(crate) fn send(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Everything that was shown, escape sequences included.
    pub(crate) fn raw(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn plain(&self) -> String {
        strip(&self.raw())
    }

    /// Waits until `text` is shown after what was expected before, and returns what was shown up to its end.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let plain = self.plain();
            let new = &plain[self.read.min(plain.len())..];
            if let Some(at) = new.find(text) {
                let seen = new[..at + text.len()].to_owned();
                self.read += seen.len();
                return seen;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{text:?} was not shown; shown was:\n{new}\n--- of ---\n{plain}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How often the editor has begun to read a line, and how often it has ended.
    fn lines(&self) -> (usize, usize) {
        let raw = self.raw();
        (raw.matches(BEGUN).count(), raw.matches(ENDED).count())
    }

    fn wait_for(&self, what: &str, done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < PATIENCE, "no {what}; shown was:\n{}", self.plain());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the editor reads a line. What was shown before is not expected any more.
    pub(crate) fn expect_prompt(&mut self) {
        self.wait_for("prompt", || {
            let (begun, ended) = self.lines();
            begun > ended
        });
        self.expect_here("memory> ");
    }

    /// As [`Terminal::expect`], not before the line that is being read.
    fn expect_here(&mut self, text: &str) {
        let raw = self.raw();
        let from = strip(&raw[..raw.rfind(BEGUN).unwrap_or(0)]).len();
        self.read = self.read.max(from);
        self.expect(text);
    }

    /// Presses keys at a prompt and waits until they have ended the line.
    pub(crate) fn press(&mut self, keys: &str) {
        self.wait_for("prompt", || {
            let (begun, ended) = self.lines();
            begun > ended
        });
        let (_, before) = self.lines();
        self.send(keys);
        self.wait_for("end of the line", || self.lines().1 > before);
    }

    /// Enters a complete line at a prompt.
    pub(crate) fn enter(&mut self, line: &str) {
        self.press(&format!("{line}\r"));
    }

    /// Waits for the end of the process and returns its status.
    pub(crate) fn end(&mut self) -> i32 {
        let start = Instant::now();
        loop {
            // `Exited(Pid(123), 0)`: the crate does not give the type's name away.
            let status = self.process.status().map(|s| format!("{s:?}")).unwrap_or_default();
            if let Some(code) =
                status.strip_prefix("Exited(").and_then(|s| s.trim_end_matches(')').rsplit(' ').next())
            {
                return code.parse().unwrap();
            }
            assert!(!status.starts_with("Signaled"), "{status}; shown was:\n{}", self.plain());
            assert!(start.elapsed() < PATIENCE, "the shell did not end; shown was:\n{}", self.plain());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }
}

/// The text without escape sequences and carriage returns.
pub(crate) fn strip(raw: &str) -> String {
    let mut out = String::new();
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                Some('[') => {
                    for c in chars.by_ref() {
                        if ('@'..='~').contains(&c) {
                            break;
                        }
                    }
                }
                Some(']') => {
                    while let Some(c) = chars.next() {
                        if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\r' => {}
            c => out.push(c),
        }
    }
    out
}

/// Writes a file below a folder.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
