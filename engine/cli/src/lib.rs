//! The shell of Triune, as a library: renderers of results, completion, and the run of a command line.
//!
//! ```text
//! $ triune shop
//! shop> SELECT name, embedding <=> $$[…]$$ AS distance FROM packages ORDER BY distance LIMIT 10;
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`output`] | tables, CSV, JSON, Markdown, Parquet, Arrow: knows Arrow only |
//! | [`lex`], [`keywords`], [`highlight`], [`complete`], [`script`], [`commands`] | SQL as text: pure |
//! | [`backend`] | the one door to the engine |
//! | [`shell`], [`interactive`] | running statements, with and without a prompt |
//! | [`progress`], [`interrupt`], [`stdin`] | the terminal's signals and pipes |

pub mod args;
pub mod backend;
pub mod catalog;
pub mod commands;
pub mod complete;
pub mod demo;
pub mod highlight;
pub mod interactive;
pub mod interrupt;
pub mod keywords;
pub mod lex;
pub mod output;
pub mod progress;
pub mod script;
pub mod serve;
pub mod shell;
pub mod stdin;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::{Builder, Handle};
use triune_common::{Error, ErrorKind, Result, SystemClock};
use triune_query::{DatabaseOptions, ElsewhereOptions};

use args::{Cli, Command, Input, ShellOptions};
use backend::{Backend, on_engine};
use interrupt::Interrupts;
use output::{Expanded, Format, Palette, Target};
use shell::{Flow, Origin, Settings, Shell, Stop};
use stdin::StandardInput;

/// The status of a run in which a statement failed.
const FAILED: u8 = 1;
/// The status after Ctrl-C, as shells count it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Threads of the engine have deep stacks: SQL nested a thousand deep is planned by recursion. Only the pages that are
/// touched take memory.
const STACK: usize = 32 * 1024 * 1024;

/// Does what the command line asks for and returns the status of the process.
///
/// The engine has its runtime, with a thread for each core; the shell has this thread, so that it is awake when all
/// of those are busy.
pub fn run(cli: Cli) -> u8 {
    let engine =
        Builder::new_multi_thread().enable_all().thread_name("engine").thread_stack_size(STACK).build();
    let shell = Builder::new_current_thread().enable_all().build();
    let (engine, shell) = match (engine, shell) {
        (Ok(engine), Ok(shell)) => (engine, shell),
        (Err(e), _) | (_, Err(e)) => {
            say_error(&Error::new(ErrorKind::Resources, format!("the threads cannot be started: {e}")));
            return FAILED;
        }
    };
    let handle = engine.handle().clone();
    let status = shell.block_on(async move {
        match cli.command {
            Some(Command::Demo(options)) => match on_engine(&handle, Box::pin(demo::run(options))).await {
                Ok(()) => 0,
                Err(e) => {
                    say_error(&e);
                    FAILED
                }
            },
            Some(Command::Serve(options)) => match on_engine(&handle, Box::pin(serve::run(options))).await {
                Ok(()) => 0,
                Err(e) => {
                    say_error(&e);
                    FAILED
                }
            },
            None => Box::pin(run_shell(cli.options, &handle)).await,
        }
    });
    // What nobody waits for any more must not hold the process up: a cancelled query, a read of the standard input.
    shell.shutdown_background();
    engine.shutdown_background();
    status
}

/// An error outside of any statement, on the standard error.
fn say_error(e: &Error) {
    let palette = Palette::for_terminal(std::io::stderr().is_terminal());
    let text = e.render("");
    let (label, rest) = text.split_once(": ").unwrap_or(("error", &text));
    let line = format!("{}: {}\n", palette.error(label), output::text::visible_lines(rest));
    // With the standard error gone there is nobody to tell.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

async fn run_shell(options: ShellOptions, engine: &Handle) -> u8 {
    let interactive = options.inputs.is_empty() && std::io::stdin().is_terminal();
    let mut shell = match open(&options, engine).await {
        Ok(shell) => shell,
        Err(e) => {
            say_error(&e);
            return FAILED;
        }
    };
    if let Some(status) = run_init(&mut shell, &options).await {
        return status;
    }
    // What the init file got wrong was said, and is no failure of this run.
    shell.forgive();
    if interactive {
        let status = Box::pin(interactive::run(&mut shell)).await;
        return if close(&shell).await { status } else { FAILED };
    }
    let result = run_inputs(&mut shell, &options.inputs).await;
    let flushed = shell.finish();
    if !close(&shell).await {
        return FAILED;
    }
    match result.and(flushed) {
        Ok(()) | Err(Stop::Closed) => {
            if shell.has_failed() {
                FAILED
            } else {
                0
            }
        }
        Err(Stop::Failed) => FAILED,
        Err(Stop::Cancelled) => INTERRUPTED,
    }
}

/// Ends writing, so that another machine can go on; what could not be moved is in the log.
async fn close(shell: &Shell) -> bool {
    match shell.backend().close().await {
        Ok(()) => true,
        Err(e) => {
            say_error(&e);
            false
        }
    }
}

fn database_options(options: &ShellOptions) -> DatabaseOptions {
    DatabaseOptions {
        read_only: options.readonly,
        elsewhere: ElsewhereOptions {
            wal: options.wal,
            folder: options.wal_dir.clone(),
            take_over: options.take_over,
            accept_lost_wal: options.accept_lost_wal,
            ..ElsewhereOptions::default()
        },
        ..DatabaseOptions::default()
    }
}

async fn open(options: &ShellOptions, engine: &Handle) -> Result<Shell> {
    let format = options
        .format
        .or_else(|| options.output.as_deref().and_then(Format::of_path))
        .unwrap_or(Format::Table);
    let target = match &options.output {
        Some(path) => Target::file(path)?,
        None => Target::stdout(),
    };
    let backend = Backend::open(engine, options.database.as_deref(), database_options(options)).await?;
    let settings = Settings {
        format,
        expanded: if options.expanded { Expanded::On } else { Expanded::Off },
        timing: options.timing,
        max_rows: options.max_rows.0,
        quiet: options.quiet,
        keep_going: options.keep_going,
    };
    // From here on Ctrl-C is ours; until here it ends the process.
    Ok(Shell::new(backend, settings, target, Interrupts::listen(), Arc::new(SystemClock::new())))
}

/// Runs `--init` or `~/.triunerc`. A status ends the process.
async fn run_init(shell: &mut Shell, options: &ShellOptions) -> Option<u8> {
    let path: PathBuf = match &options.init {
        Some(path) => path.clone(),
        None if options.no_init => return None,
        None => std::env::home_dir().map(|h| h.join(".triunerc")).filter(|p| p.exists())?,
    };
    match shell.run_file(&path).await {
        Ok(Flow::Quit) => Some(0),
        Err(Stop::Closed) => Some(0),
        Err(Stop::Cancelled) => Some(INTERRUPTED),
        // A file that was asked for by name must be there and right.
        Err(Stop::Failed) if options.init.is_some() => Some(FAILED),
        Ok(Flow::Continue) | Err(Stop::Failed) => None,
    }
}

async fn run_inputs(shell: &mut Shell, inputs: &[Input]) -> Result<(), Stop> {
    if inputs.is_empty() {
        run_stdin(shell).await?;
        return Ok(());
    }
    for input in inputs {
        let result = match input {
            Input::Sql(sql) => shell.run_text(&Origin::CommandLine, sql).await,
            Input::File(path) if path == Path::new("-") => run_stdin(shell).await,
            Input::File(path) => shell.run_file(path).await,
        };
        match result {
            Ok(Flow::Continue) => {}
            Ok(Flow::Quit) => return Ok(()),
            // A file that cannot be read is one failure among others.
            Err(Stop::Failed) if shell.settings.keep_going => {}
            Err(stop) => return Err(stop),
        }
    }
    Ok(())
}

/// Runs statements as they arrive, so that a slow writer sees its first result before its last statement.
async fn run_stdin(shell: &mut Shell) -> Result<Flow, Stop> {
    let origin = Origin::StandardInput;
    let mut input = match StandardInput::start() {
        Ok(input) => input,
        Err(e) => return Err(shell.report(&origin, 0, "", &e)),
    };
    let mut text = String::new();
    let mut line = 1;
    loop {
        let before = text.len();
        let more = {
            let mut interrupts = shell.interrupts().clone();
            tokio::select! {
                biased;
                () = interrupts.pressed() => return Err(Stop::Cancelled),
                more = input.more(&mut text) => more,
            }
        };
        let more = match more {
            Ok(more) => more,
            Err(e) => return Err(shell.report(&origin, 0, "", &e)),
        };
        // Only a semicolon or the end of a command's line completes anything.
        if more && !text[before..].contains([';', '\n']) {
            continue;
        }
        let (flow, taken) = shell.run_part(&origin, line, &text, !more).await?;
        if flow == Flow::Quit || !more {
            return Ok(flow);
        }
        line += text[..taken].matches('\n').count();
        text.drain(..taken);
    }
}
