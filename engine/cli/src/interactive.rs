//! The shell at a terminal: a line editor with history, completion and colours.
//!
//! ```text
//! shop> SELECT name, stars
//!    -> FROM packages;
//! ```
//!
//! A statement ends with a semicolon; Enter before that begins a new line. Ctrl-C at a half-typed statement drops it;
//! at an empty prompt it says how to leave, and leaves when pressed again; Ctrl-D leaves. Where the terminal is too
//! simple for the editor (`TERM=dumb`) lines are read as they come.

mod history;
mod plain;
mod prompt;

use std::io::Write;

use datafusion::common::runtime::SpawnedTask;
use reedline::{
    ColumnarMenu, Emacs, InputMode, KeyCode, KeyModifiers, MenuBuilder, Reedline, ReedlineEvent,
    ReedlineMenu, Signal, ValidationResult, Validator, default_emacs_keybindings,
};

use crate::complete::SqlCompleter;
use crate::highlight::SqlHighlighter;
use crate::output::Palette;
use crate::script;
use crate::shell::{Flow, Origin, Shell, Stop};
use prompt::SqlPrompt;

const MENU: &str = "completion_menu";
/// Beside letters and digits: what names, qualified names, paths and commands are made of.
const WORD_CHARS: &str = "_.\"/\\-~";
const LEAVE_HINT: &str = "Press Ctrl-C again to leave, or type \\q.";

/// Hands a text on when its statements are complete.
#[derive(Debug)]
struct SqlValidator;

impl Validator for SqlValidator {
    fn validate(&self, line: &str) -> ValidationResult {
        if script::is_complete(line) { ValidationResult::Complete } else { ValidationResult::Incomplete }
    }
}

/// Reads and runs until the user leaves. The status of the process.
pub async fn run(shell: &mut Shell) -> u8 {
    let name = shell.backend().name();
    if !shell.settings.quiet {
        let greeting = format!("Triune {}  ·  \\? for help, \\q to leave\n", env!("CARGO_PKG_VERSION"));
        // Nobody to greet: the first result will find out.
        let _ = std::io::stdout().write_all(greeting.as_bytes());
    }
    if std::env::var_os("TERM").is_none_or(|t| t.is_empty() || t == "dumb") {
        return plain::run(shell, &name).await;
    }
    let completer = SqlCompleter::default();
    let highlighter = SqlHighlighter::default();
    shell.complete_with(completer.clone()).await;
    let mut editor = editor(completer, highlighter.clone());
    let mut armed = false;
    loop {
        highlighter.reset();
        let prompt = SqlPrompt::new(&name);
        // The editor waits for keys: on a thread of its own, so that the runtime's workers stay free.
        let read = SpawnedTask::spawn_blocking(move || {
            let signal = editor.read_line(&prompt);
            (editor, signal)
        });
        let signal = match read.join().await {
            Ok((back, signal)) => {
                editor = back;
                signal
            }
            Err(_) => return 1,
        };
        shell.interrupts().forget();
        match signal {
            Ok(Signal::Success(text)) => {
                armed = false;
                match enter(shell, &text).await {
                    Some(status) => return status,
                    None => continue,
                }
            }
            Ok(Signal::CtrlC) => {
                if !highlighter.last_line().trim().is_empty() {
                    armed = false;
                } else if armed {
                    return 0;
                } else {
                    armed = true;
                    shell.say(LEAVE_HINT);
                }
            }
            Ok(Signal::CtrlD) => return 0,
            Ok(_) => {}
            // The terminal does not answer the editor's questions.
            Err(_) => return plain::run(shell, &name).await,
        }
    }
}

/// Runs what was entered; a status ends the shell.
async fn enter(shell: &mut Shell, text: &str) -> Option<u8> {
    let text = if script::is_bare_command(text) {
        // `quit`, `help` without a backslash.
        format!("\\{}", if text.trim().to_lowercase().starts_with("help") { "?" } else { "q" })
    } else {
        text.to_owned()
    };
    match shell.run_text(&Origin::Prompt, &text).await {
        Ok(Flow::Continue) | Err(Stop::Failed | Stop::Cancelled) => None,
        Ok(Flow::Quit) | Err(Stop::Closed) => Some(0),
    }
}

fn editor(completer: SqlCompleter, highlighter: SqlHighlighter) -> Reedline {
    let mut keys = default_emacs_keybindings();
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.into()), ReedlineEvent::MenuNext]),
    );
    keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
    let menu = ColumnarMenu::default()
        .with_name(MENU)
        .with_marker("")
        // What stands after the cursor says which columns there are.
        .with_input_mode(InputMode::FullBuffer)
        // Anything else ends the word, and with it the menu: Enter must run the statement again.
        .with_word_chars(WORD_CHARS);
    let colours = Palette::for_terminal(true).is_enabled();
    let editor = Reedline::create()
        .with_completer(Box::new(completer))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_validator(Box::new(SqlValidator))
        .with_highlighter(Box::new(highlighter))
        .with_ansi_colors(colours)
        .use_bracketed_paste(true);
    match history::open() {
        Some(history) => editor.with_history(history),
        None => editor,
    }
}
