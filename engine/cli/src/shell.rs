//! Runs statements and commands, one after the other, and writes what they give.
//!
//! ```text
//! text ─▶ script::split ─▶ statement ─▶ Backend ─▶ batches ─▶ Sink ─▶ Target
//!                       └▶ command  ─▶ commands::parse ─▶ shell/describe.rs, shell/run.rs
//! ```
//!
//! The same for the prompt, `-c`, `-f`, the standard input, the init file and `\i`; they differ in where errors are
//! placed (an [`Origin`]) and in what happens after one.

mod describe;
mod run;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use triune_common::{Clock, Error, ErrorKind};

use crate::backend::Backend;
use crate::commands::{self, Command};
use crate::complete::SqlCompleter;
use crate::interrupt::Interrupts;
use crate::output::text::{timing_line, visible_lines};
use crate::output::{Expanded, Format, Palette, TableOptions, Target};
use crate::script::{self, Piece};

/// `\i` inside `\i` inside …: deeper than this, a file reads itself.
const DEEPEST: usize = 32;

/// How long completion waits for fresh names.
const NAMES_PATIENCE: Duration = Duration::from_secs(2);

/// How things are shown.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub format: Format,
    pub expanded: Expanded,
    pub timing: bool,
    pub max_rows: Option<usize>,
    /// No footers and no "CREATE TABLE".
    pub quiet: bool,
    pub keep_going: bool,
}

/// Where a text comes from, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Prompt,
    CommandLine,
    StandardInput,
    File(PathBuf),
}

/// What to do after a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Continue,
    Quit,
}

/// Why a text was not run to its end. Whatever there is to say has been said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// A statement or command failed.
    Failed,
    /// Ctrl-C.
    Cancelled,
    /// The reader of the standard output has gone away.
    Closed,
}

/// Why one statement gave no complete result.
#[derive(Debug)]
enum Abort {
    Error(Error),
    Cancelled,
}

impl From<Error> for Abort {
    fn from(e: Error) -> Self {
        Self::Error(e)
    }
}

/// The state of a shell.
#[derive(Debug)]
pub struct Shell {
    backend: Backend,
    pub settings: Settings,
    out: Target,
    interrupts: Interrupts,
    clock: Arc<dyn Clock>,
    /// Told of new tables, at the prompt.
    completer: Option<SqlCompleter>,
    last_statement: Option<String>,
    depth: usize,
    failed: bool,
    error_palette: Palette,
}

impl Shell {
    pub fn new(
        backend: Backend,
        settings: Settings,
        out: Target,
        interrupts: Interrupts,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let error_palette = Palette::for_terminal(std::io::stderr().is_terminal());
        Self {
            backend,
            settings,
            out,
            interrupts,
            clock,
            completer: None,
            last_statement: None,
            depth: 0,
            failed: false,
            error_palette,
        }
    }

    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    pub fn interrupts(&mut self) -> &mut Interrupts {
        &mut self.interrupts
    }

    /// Whether any statement has failed, under `--keep-going` too.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Forgets that a statement failed.
    pub fn forgive(&mut self) {
        self.failed = false;
    }

    /// Writes what is still buffered.
    pub fn finish(&mut self) -> Result<(), Stop> {
        match self.out.flush() {
            Ok(()) => Ok(()),
            Err(_) if self.out.is_closed() => Err(Stop::Closed),
            Err(e) => Err(self.report(&Origin::CommandLine, 0, "", &crate::output::io_error(e))),
        }
    }

    /// Keeps the names of `completer` fresh from now on.
    pub async fn complete_with(&mut self, completer: SqlCompleter) {
        self.completer = Some(completer);
        self.refresh_names().await;
    }

    async fn refresh_names(&mut self) {
        let Some(completer) = &self.completer else { return };
        // Names of yesterday are better than a prompt that does not come.
        if let Ok(Ok(catalog)) = tokio::time::timeout(NAMES_PATIENCE, self.backend.catalog()).await {
            completer.update(catalog);
        }
    }

    /// Runs a whole text; what stands after its last semicolon is a statement too.
    pub async fn run_text(&mut self, origin: &Origin, text: &str) -> Result<Flow, Stop> {
        self.run_part(origin, 1, text, true).await.map(|(flow, _)| flow)
    }

    /// Runs the pieces of a part of a text that begins at line `first_line`; unless it is the `end`, a rest without a
    /// semicolon is left. Returns the bytes that were taken.
    pub async fn run_part(
        &mut self,
        origin: &Origin,
        first_line: usize,
        text: &str,
        end: bool,
    ) -> Result<(Flow, usize), Stop> {
        let script = script::split(text, end);
        // Lines are counted from piece to piece: a script may have very many of them.
        let (mut line, mut counted) = (first_line, 0);
        for piece in &script.pieces {
            line += text[counted..piece.offset()].matches('\n').count();
            counted = piece.offset();
            let result = match piece {
                Piece::Statement { text: sql, .. } => {
                    self.run_statement(origin, line, sql).await.map(|()| Flow::Continue)
                }
                // Boxed: a command may run a file of statements.
                Piece::Command { text: command, .. } => {
                    Box::pin(self.run_command(origin, line, command)).await
                }
            };
            match result {
                Ok(Flow::Continue) => {}
                Ok(Flow::Quit) => return Ok((Flow::Quit, text.len())),
                Err(Stop::Failed) if self.settings.keep_going && *origin != Origin::Prompt => {}
                Err(stop) => return Err(stop),
            }
        }
        Ok((Flow::Continue, script.rest))
    }

    /// Runs the statements of a file.
    pub async fn run_file(&mut self, path: &Path) -> Result<Flow, Stop> {
        let origin = Origin::File(path.to_owned());
        let text = match read_script(path) {
            Ok(text) => text,
            Err(e) => return Err(self.report(&Origin::CommandLine, 0, "", &e)),
        };
        self.run_text(&origin, &text).await
    }

    async fn run_statement(&mut self, origin: &Origin, line: usize, sql: &str) -> Result<(), Stop> {
        let started = self.clock.elapsed();
        let result = run::execute(self, sql).await;
        let elapsed = self.clock.elapsed().saturating_sub(started);
        self.last_statement = Some(sql.to_owned());
        let result = result.and_then(|changed| {
            self.write_timing(elapsed)?;
            self.out.flush().map_err(crate::output::io_error)?;
            Ok(changed)
        });
        // Whatever the error is called: nobody reads any more.
        if self.out.is_closed() {
            return Err(Stop::Closed);
        }
        match result {
            Ok(changed) => {
                if changed {
                    self.refresh_names().await;
                }
                Ok(())
            }
            Err(abort) => {
                // What was written before the error is the user's all the same.
                let _ = self.out.flush();
                match abort {
                    Abort::Error(e) => Err(self.report(origin, line, sql, &e)),
                    Abort::Cancelled => {
                        self.say(&self.error_palette.dim("cancelled"));
                        Err(Stop::Cancelled)
                    }
                }
            }
        }
    }

    fn write_timing(&mut self, elapsed: Duration) -> Result<(), Error> {
        if !self.settings.timing {
            return Ok(());
        }
        let line = timing_line(elapsed);
        if self.settings.format == Format::Table && !self.out.is_file() {
            writeln!(self.out, "{line}").map_err(crate::output::io_error)
        } else {
            // Never between the results that a program reads.
            self.say(&line);
            Ok(())
        }
    }

    async fn run_command(&mut self, origin: &Origin, line: usize, text: &str) -> Result<Flow, Stop> {
        let result = match commands::parse(text) {
            Ok(Command::Quit) => return Ok(Flow::Quit),
            Ok(Command::Read(path)) => return self.read(origin, line, text, &path).await,
            Ok(Command::Watch(seconds)) => return self.watch(origin, line, text, seconds).await,
            Ok(command) => self.obey(command).await,
            Err(e) => Err(e),
        };
        let result = result.and_then(|()| self.out.flush().map_err(crate::output::io_error));
        if self.out.is_closed() {
            return Err(Stop::Closed);
        }
        match result {
            Ok(()) => Ok(Flow::Continue),
            Err(e) => Err(self.report(origin, line, text, &e)),
        }
    }

    async fn read(&mut self, origin: &Origin, line: usize, text: &str, path: &str) -> Result<Flow, Stop> {
        if self.depth >= DEEPEST {
            let e = Error::new(ErrorKind::Resources, format!("files run each other {DEEPEST} deep"));
            return Err(self.report(origin, line, text, &e));
        }
        self.depth += 1;
        let path = expand_home(path);
        let result = match read_script(&path) {
            Ok(script) => self.run_text(&Origin::File(path), &script).await,
            Err(e) => Err(self.report(origin, line, text, &e)),
        };
        self.depth -= 1;
        result
    }

    /// Writes an error to the standard error, with its place, and says that it did.
    pub fn report(&mut self, origin: &Origin, line: usize, sql: &str, error: &Error) -> Stop {
        self.failed = true;
        let rendered = error.render(sql);
        let rendered = visible_lines(&rendered);
        let text = match rendered.split_once(": ") {
            Some((label, rest)) => format!("{}: {rest}", self.error_palette.error(label)),
            None => rendered.into_owned(),
        };
        let place = match origin {
            Origin::File(path) => format!("{}:", path.display()),
            Origin::StandardInput => "stdin:".to_owned(),
            Origin::Prompt | Origin::CommandLine => String::new(),
        };
        if place.is_empty() || line == 0 {
            self.say(&text);
        } else {
            // The statement's first code may stand below its first line.
            let blank = sql.len() - crate::lex::skip_blank(sql).len();
            let first = line + script::line_of(sql, blank) - 1;
            let at = error.position().map_or(first, |p| line + usize::try_from(p.line).unwrap_or(1) - 1);
            self.say(&format!("{}{at}: {text}", visible_lines(&place)));
        }
        Stop::Failed
    }

    /// A line on the standard error.
    pub fn say(&self, line: &str) {
        // With the standard error gone there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    fn table_options(&self) -> TableOptions {
        let is_terminal = self.out.is_terminal();
        TableOptions {
            width: is_terminal.then(terminal_width).flatten(),
            max_rows: self.settings.max_rows,
            palette: Palette::for_terminal(is_terminal),
            expanded: self.settings.expanded,
            footer: !self.settings.quiet,
            ..TableOptions::default()
        }
    }
}

/// The columns of the terminal; `None` when it does not say.
fn terminal_width() -> Option<usize> {
    crossterm::terminal::size().ok().map(|(columns, _)| usize::from(columns)).filter(|w| *w > 0)
}

/// `~/x` in the home folder; anything else as it is.
pub fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

/// Reads a file of statements.
///
/// *Errors*: it is missing, cannot be read or is not UTF-8.
pub fn read_script(path: &Path) -> Result<String, Error> {
    let bytes = std::fs::read(path).map_err(|e| {
        let inner = crate::output::io_error(e);
        Error::new(inner.kind(), format!("cannot read \"{}\": {}", path.display(), inner.message()))
    })?;
    script_text(bytes).map_err(|e| Error::new(e.kind(), format!("\"{}\": {}", path.display(), e.message())))
}

/// The text of a script, without a byte order mark.
pub fn script_text(bytes: Vec<u8>) -> Result<String, Error> {
    let text = String::from_utf8(bytes)
        .map_err(|e| Error::data(format!("not UTF-8 at byte {}", e.utf8_error().valid_up_to())))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}
