//! The shell's own commands: psql's with a backslash, DuckDB's and SQLite's with a dot.
//!
//! ```text
//! \d packages      \dt pack*      \timing on      \i 'load data.sql'      .mode csv      .read load.sql
//! ```
//!
//! One table lists them all: the parser, `\?`, completion and "did you mean" read it.

use triune_common::names::did_you_mean;
use triune_common::{Error, Result};

use crate::output::{Expanded, Format};

/// What completes the argument of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completes {
    Nothing,
    Tables,
    Functions,
    Files,
    Formats,
    Words(&'static [&'static str]),
}

/// A command as `\?` tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandHelp {
    /// Every name, with its `\` or `.`.
    pub names: &'static [&'static str],
    pub arguments: &'static str,
    pub summary: &'static str,
    pub completes: Completes,
}

const ON_OFF: Completes = Completes::Words(&["on", "off"]);

/// All commands, in the order of `\?`.
pub const HELP: &[CommandHelp] = &[
    help(&["\\d"], "[NAME]", "the tables; with a name, its columns", Completes::Tables),
    help(&["\\dt", ".tables"], "[PATTERN]", "tables, external tables and views", Completes::Tables),
    help(&["\\di"], "[PATTERN]", "indexes of the tables", Completes::Tables),
    help(&["\\df"], "[PATTERN]", "functions", Completes::Functions),
    help(&[".schema"], "[NAME]", "tables as CREATE TABLE would write them", Completes::Tables),
    help(&["\\h"], "[FUNCTION]", "what a function takes and does", Completes::Functions),
    help(
        &["\\x"],
        "[on|off|auto]",
        "each row as a list of its columns",
        Completes::Words(&["on", "off", "auto"]),
    ),
    help(&["\\timing", ".timer"], "[on|off]", "a line with the time after each statement", ON_OFF),
    help(&[".mode"], "[FORMAT]", "how results are written: table, csv, json, …", Completes::Formats),
    help(
        &["\\o", ".output"],
        "[FILE]",
        "write results to a file; without one, to the terminal again",
        Completes::Files,
    ),
    help(&["\\i", ".read"], "FILE", "run the statements of a file", Completes::Files),
    help(
        &["\\watch"],
        "[SECONDS]",
        "run the last statement again and again, until Ctrl-C",
        Completes::Nothing,
    ),
    help(&["\\?", ".help"], "", "this help", Completes::Nothing),
    help(&["\\q", ".quit", ".exit"], "", "leave the shell", Completes::Nothing),
];

const fn help(
    names: &'static [&'static str],
    arguments: &'static str,
    summary: &'static str,
    completes: Completes,
) -> CommandHelp {
    CommandHelp { names, arguments, summary, completes }
}

/// A command, understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    Describe(Option<String>),
    Tables(Option<String>),
    Indexes(Option<String>),
    Functions(Option<String>),
    Schema(Option<String>),
    FunctionHelp(Option<String>),
    /// `None`: the other way.
    Expanded(Option<Expanded>),
    Timing(Option<bool>),
    Mode(Option<Format>),
    Output(Option<String>),
    Read(String),
    /// Seconds between two runs.
    Watch(f64),
    Help,
    Quit,
}

/// The entry of a command's name.
pub fn find(name: &str) -> Option<&'static CommandHelp> {
    HELP.iter().find(|c| c.names.contains(&name))
}

/// Understands one line.
///
/// *Errors*: an unknown command (with the nearest one), a missing, wrong or superfluous argument.
pub fn parse(line: &str) -> Result<Command> {
    let line = line.trim().trim_end_matches(';').trim_end();
    if crate::script::is_bare_command(line) {
        return Ok(if line.eq_ignore_ascii_case("help") { Command::Help } else { Command::Quit });
    }
    let end = line.find(char::is_whitespace).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let Some(entry) = find(name) else { return Err(unknown(name)) };
    let argument = argument(name, rest)?;
    let command = match entry.names[0] {
        "\\d" => Command::Describe(argument),
        "\\dt" => Command::Tables(argument),
        "\\di" => Command::Indexes(argument),
        "\\df" => Command::Functions(argument),
        ".schema" => Command::Schema(argument),
        "\\h" => Command::FunctionHelp(argument),
        "\\x" => Command::Expanded(match argument.as_deref() {
            None => None,
            Some("auto") => Some(Expanded::Auto),
            Some(word) => {
                Some(if on_off(name, word, "on, off, auto")? { Expanded::On } else { Expanded::Off })
            }
        }),
        "\\timing" => Command::Timing(argument.map(|word| on_off(name, &word, "on, off")).transpose()?),
        ".mode" => Command::Mode(argument.map(|word| word.parse()).transpose()?),
        "\\o" => Command::Output(argument),
        "\\i" => {
            Command::Read(argument.ok_or_else(|| Error::invalid(format!("{name} needs the name of a file")))?)
        }
        "\\watch" => Command::Watch(match argument {
            None => 2.0,
            Some(word) => word
                .parse::<f64>()
                .ok()
                .filter(|s| s.is_finite() && (0.0..=86_400.0).contains(s))
                .ok_or_else(|| {
                    Error::invalid(format!("{name} takes seconds from 0 to 86400, not \"{word}\""))
                })?,
        }),
        "\\?" | "\\q" => {
            if let Some(argument) = argument {
                return Err(Error::invalid(format!("{name} takes no argument, not \"{argument}\"")));
            }
            if entry.names[0] == "\\?" { Command::Help } else { Command::Quit }
        }
        _ => return Err(unknown(name)),
    };
    Ok(command)
}

fn unknown(name: &str) -> Error {
    let names = HELP.iter().flat_map(|c| c.names.iter().copied());
    let error = Error::not_found(format!("there is no command {name}"));
    match did_you_mean(name, names) {
        Some(near) => error.with_hint(format!("did you mean {near}?")),
        None => error.with_hint("\\? lists the commands"),
    }
}

fn on_off(command: &str, word: &str, accepted: &str) -> Result<bool> {
    match word.to_ascii_lowercase().as_str() {
        "on" | "true" | "1" | "yes" => Ok(true),
        "off" | "false" | "0" | "no" => Ok(false),
        _ => Err(Error::invalid(format!("{command} does not take \"{word}\""))
            .with_hint(format!("accepted: {accepted}"))),
    }
}

/// The one argument: `'…'` with doubled quotes, or the rest of the line as it is.
fn argument(command: &str, rest: &str) -> Result<Option<String>> {
    let rest = rest.trim();
    if rest.is_empty() {
        return Ok(None);
    }
    let Some(quoted) = rest.strip_prefix('\'') else { return Ok(Some(rest.to_owned())) };
    let mut out = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        if c != '\'' {
            out.push(c);
        } else if chars.as_str().starts_with('\'') {
            chars.next();
            out.push('\'');
        } else if chars.as_str().trim().is_empty() {
            return Ok(Some(out));
        } else {
            return Err(Error::invalid(format!(
                "{command} takes one argument; superfluous is \"{}\"",
                chars.as_str().trim()
            )));
        }
    }
    Err(Error::invalid(format!("the quote of {command}'s argument is not closed")))
}

/// The text of `\?`.
pub fn help_text() -> String {
    let mut out = String::from("Statements end with a semicolon and may span lines.\n\n");
    let left: Vec<String> = HELP
        .iter()
        .map(|c| format!("{} {}", c.names.join(", "), c.arguments).trim_end().to_owned())
        .collect();
    let width = left.iter().map(|l| l.chars().count()).max().unwrap_or(0);
    for (name, command) in left.iter().zip(HELP) {
        let fill = " ".repeat(width - name.chars().count());
        out.push_str(&format!("  {name}{fill}  {}\n", command.summary));
    }
    out.push_str(
        "\nKeys: Tab completes; Ctrl-R searches the history; Ctrl-C cancels the running query, and leaves the shell\n\
         when pressed twice at an empty prompt; Ctrl-D leaves the shell.\n",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_understood() {
        for entry in HELP {
            for name in entry.names {
                let line =
                    if entry.arguments == "FILE" { format!("{name} f.sql") } else { (*name).to_owned() };
                assert!(parse(&line).is_ok(), "{line}");
                assert!(help_text().contains(name), "{name}");
            }
        }
    }

    #[test]
    fn arguments() {
        assert_eq!(parse("\\d  main.t ;").unwrap(), Command::Describe(Some("main.t".into())));
        assert_eq!(parse(".read 'it''s here.sql'").unwrap(), Command::Read("it's here.sql".into()));
        assert_eq!(parse("\\i my file.sql").unwrap(), Command::Read("my file.sql".into()));
        assert_eq!(parse("\\x auto").unwrap(), Command::Expanded(Some(Expanded::Auto)));
        assert_eq!(parse("\\x").unwrap(), Command::Expanded(None));
        assert_eq!(parse(".timer OFF").unwrap(), Command::Timing(Some(false)));
        assert_eq!(parse("\\watch 0.5").unwrap(), Command::Watch(0.5));
        assert_eq!(parse(".mode csv").unwrap(), Command::Mode(Some(Format::Csv)));
        assert_eq!(parse("EXIT;").unwrap(), Command::Quit);
    }

    #[test]
    fn mistakes_are_explained() {
        let text = |line: &str| parse(line).unwrap_err().to_string();
        assert_eq!(text("\\tming"), "there is no command \\tming; did you mean \\timing?");
        assert_eq!(text(".tabels x"), "there is no command .tabels; did you mean .tables?");
        assert_eq!(text("\\zzzzz"), "there is no command \\zzzzz; \\? lists the commands");
        assert_eq!(text(".mode cvs"), "there is no format called \"cvs\"; did you mean \"csv\"?");
        assert_eq!(text("\\timing maybe"), "\\timing does not take \"maybe\"; accepted: on, off");
        assert_eq!(text("\\i"), "\\i needs the name of a file");
        assert_eq!(text("\\watch -1"), "\\watch takes seconds from 0 to 86400, not \"-1\"");
        assert_eq!(text("\\i 'a' b"), "\\i takes one argument; superfluous is \"b\"");
        assert_eq!(text("\\i 'a"), "the quote of \\i's argument is not closed");
        assert_eq!(text("\\q now"), "\\q takes no argument, not \"now\"");
    }
}
