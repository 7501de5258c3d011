//! One statement: from its text to its last row, `\watch`, and the settings that commands change.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};
use triune_common::{Error, ErrorKind, Result};
use triune_query::Tag;

use super::{Abort, Flow, Origin, Shell, Stop};
use crate::backend::{Event, Running, Started};
use crate::commands::{self, Command};
use crate::interrupt::Interrupts;
use crate::output::plan::PlanSink;
use crate::output::text::{count, duration};
use crate::output::{Expanded, Format, Palette, Sink, Target, io_error, open_sink};
use crate::progress::Progress;

/// How often the progress line is drawn.
const TICK: Duration = Duration::from_millis(100);

/// Runs a statement and writes its result. Says whether it may have changed the names that can be completed.
pub(super) async fn execute(shell: &mut Shell, sql: &str) -> Result<bool, Abort> {
    let began = shell.clock.elapsed();
    shell.interrupts.forget();
    let show_progress =
        std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
    let mut watch = Watch {
        running: shell.backend.start(sql.to_owned()),
        interrupts: shell.interrupts.clone(),
        progress: Progress::new(show_progress && !shell.settings.quiet, began),
        clock: Arc::clone(&shell.clock),
        ticks: ticks(),
    };
    watch.progress.follow(shell.backend.progress());
    let started = match watch.next().await? {
        Event::Started(started) => started,
        Event::Failed(e) => return Err(e.into()),
        Event::Finished | Event::Batch(_) => {
            return Err(Error::internal("a statement gave rows before its schema").into());
        }
    };
    watch.progress.follow(started.progress.clone());
    match &started.tag {
        Tag::Command { name, rows } => {
            let (name, rows) = (name.clone(), *rows);
            drain(&mut watch).await?;
            watch.progress.stop();
            if shell.settings.format == Format::Table && !shell.settings.quiet {
                let mut line = name;
                if let Some(rows) = rows {
                    line.push_str(&format!("  {}", count(rows, "row")));
                }
                if shell.out.is_terminal() {
                    line.push_str(&format!("  {}", duration(shell.clock.elapsed().saturating_sub(began))));
                }
                let line = Palette::for_terminal(shell.out.is_terminal()).dim(&line);
                writeln!(shell.out, "{line}").map_err(io_error)?;
            }
            Ok(true)
        }
        Tag::Rows | Tag::Plan => {
            write_rows(shell, &mut watch, &started, began).await?;
            Ok(false)
        }
    }
}

async fn write_rows(
    shell: &mut Shell,
    watch: &mut Watch,
    started: &Started,
    began: Duration,
) -> Result<(), Abort> {
    let format = shell.settings.format;
    if format.is_binary() {
        if shell.out.is_terminal() {
            return Err(Error::invalid(format!("results of format {format} are not written to a terminal"))
                .with_hint("write them to a file with -o FILE, or to a pipe")
                .into());
        }
        shell.out.claim(format)?;
    }
    let result = pump(shell, watch, started, began).await;
    watch.progress.stop();
    if result.is_err() && format.is_binary() {
        // Half of such a file is of no use, and would be taken for a whole one.
        shell.out.discard();
    }
    result
}

/// From the statement's batches to the target.
async fn pump(shell: &mut Shell, watch: &mut Watch, started: &Started, began: Duration) -> Result<(), Abort> {
    let format = shell.settings.format;
    let is_terminal = shell.out.is_terminal();
    let options = shell.table_options();
    let to_file = shell.out.is_file();
    let is_plan = format == Format::Table && matches!(started.tag, Tag::Plan);
    let out: &mut Target = &mut shell.out;
    let mut sink: Box<dyn Sink + '_> = if is_plan {
        Box::new(PlanSink::new(out, options.palette))
    } else {
        open_sink(format, out, &started.schema, to_file, &options)?
    };
    // Tables are written at the end; the others write as rows come, over the progress line.
    let streams = format != Format::Table || is_plan;
    loop {
        match watch.next().await? {
            Event::Batch(batch) => {
                if streams && is_terminal {
                    watch.progress.stop();
                }
                sink.write(&batch)?;
            }
            Event::Finished => break,
            Event::Failed(e) => return Err(e.into()),
            Event::Started(_) => {}
        }
    }
    watch.progress.stop();
    let elapsed = is_terminal.then(|| watch.clock.elapsed().saturating_sub(began));
    sink.finish(elapsed)?;
    Ok(())
}

/// Lets a command run to its end; its rows, if any, are of no interest.
async fn drain(watch: &mut Watch) -> Result<(), Abort> {
    loop {
        match watch.next().await? {
            Event::Finished => return Ok(()),
            Event::Failed(e) => return Err(e.into()),
            Event::Started(_) | Event::Batch(_) => {}
        }
    }
}

/// A running statement with somebody at the keyboard.
struct Watch {
    running: Running,
    interrupts: Interrupts,
    progress: Progress,
    clock: Arc<dyn triune_common::Clock>,
    ticks: Interval,
}

fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

impl Watch {
    /// The next event, or the end by Ctrl-C; draws the progress line in the meantime.
    async fn next(&mut self) -> Result<Event, Abort> {
        loop {
            tokio::select! {
                biased;
                () = self.interrupts.pressed() => {
                    self.progress.stop();
                    return Err(Abort::Cancelled);
                }
                // Before the batches: a fast source always has one.
                _ = self.ticks.tick() => self.progress.tick(self.clock.elapsed()),
                event = self.running.next() => return match event {
                    // The engine's own word for the same.
                    Event::Failed(e) if e.kind() == ErrorKind::Cancelled => {
                        self.progress.stop();
                        Err(Abort::Cancelled)
                    }
                    Event::Failed(e) => {
                        self.progress.stop();
                        Ok(Event::Failed(e))
                    }
                    event => Ok(event),
                },
            }
        }
    }
}

impl Shell {
    /// Commands that neither leave, run files nor repeat.
    pub(super) async fn obey(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Describe(None) | Command::Tables(None) => self.list_tables(None).await,
            Command::Tables(pattern) => self.list_tables(pattern.as_deref()).await,
            Command::Describe(Some(name)) => self.describe(&name).await,
            Command::Indexes(pattern) => self.list_indexes(pattern.as_deref()).await,
            Command::Functions(pattern) => self.list_functions(pattern.as_deref()).await,
            Command::FunctionHelp(name) => self.function_help(name.as_deref()).await,
            Command::Schema(name) => self.show_schema(name.as_deref()).await,
            Command::Help => self.print(&commands::help_text()),
            Command::Expanded(mode) => {
                let next = if self.settings.expanded == Expanded::Off { Expanded::On } else { Expanded::Off };
                self.settings.expanded = mode.unwrap_or(next);
                self.print(match self.settings.expanded {
                    Expanded::Off => "Expanded display is off.\n",
                    Expanded::On => "Expanded display is on.\n",
                    Expanded::Auto => "Expanded display is used automatically.\n",
                })
            }
            Command::Timing(mode) => {
                self.settings.timing = mode.unwrap_or(!self.settings.timing);
                self.print(if self.settings.timing { "Timing is on.\n" } else { "Timing is off.\n" })
            }
            Command::Mode(Some(format)) => {
                self.settings.format = format;
                Ok(())
            }
            Command::Mode(None) => {
                let text = format!(
                    "The format is {}; there are {}.\n",
                    self.settings.format,
                    Format::NAMES.join(", ")
                );
                self.print(&text)
            }
            Command::Output(None) => {
                self.out.flush().map_err(io_error)?;
                self.out = Target::stdout();
                Ok(())
            }
            Command::Output(Some(path)) => {
                self.out.flush().map_err(io_error)?;
                self.out = Target::file(&super::expand_home(&path))?;
                Ok(())
            }
            Command::Quit | Command::Read(_) | Command::Watch(_) => Ok(()),
        }
    }

    /// Text of the shell itself, for people: on the standard error when results go to a program or a file.
    pub(super) fn print(&mut self, text: &str) -> Result<()> {
        if self.settings.format == Format::Table && !self.out.is_file() {
            self.out.write_all(text.as_bytes()).map_err(io_error)
        } else {
            self.say(text.trim_end_matches('\n'));
            Ok(())
        }
    }

    /// Runs the last statement every so many seconds until Ctrl-C or an error.
    pub(super) async fn watch(
        &mut self,
        origin: &Origin,
        line: usize,
        text: &str,
        seconds: f64,
    ) -> Result<Flow, Stop> {
        let Some(sql) = self.last_statement.clone() else {
            let e = Error::invalid("\\watch runs the last statement again, and none has been run");
            return Err(self.report(origin, line, text, &e));
        };
        self.interrupts.forget();
        loop {
            let pause = tokio::time::sleep(Duration::from_secs_f64(seconds));
            tokio::select! {
                biased;
                () = self.interrupts.pressed() => return Ok(Flow::Continue),
                () = pause => {}
            }
            if self.settings.format == Format::Table {
                let head =
                    format!("{} (every {seconds} s)\n", self.clock.now().format("%Y-%m-%d %H:%M:%S UTC"));
                if self.print(&head).is_err() {
                    return Err(Stop::Closed);
                }
            }
            match self.run_statement(origin, line, &sql).await {
                Ok(()) => {}
                // Ctrl-C in the middle of a run is the end that was asked for.
                Err(Stop::Cancelled) => return Ok(Flow::Continue),
                Err(stop) => return Err(stop),
            }
        }
    }
}
