//! The command line: `triune [OPTIONS] [DB]`, and the subcommands.

use std::path::PathBuf;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::output::Format;

const EXAMPLES: &str = "\
Examples:
  triune                                        a shell on a database in memory
  triune shop                                   a shell on the database in the folder shop (made if missing)
  triune shop -c 'SELECT count(*) FROM orders'  one statement; several -c and -f run in their order
  triune -c \"FROM 'events.parquet' LIMIT 5\"     a file as a table
  triune shop -f load.sql                       the statements of a file
  echo 'SELECT 1' | triune --format csv         the statements of the standard input
  triune shop -c 'FROM orders' -o orders.parquet   a result as a file; its name decides the format
  triune serve shop --listen 127.0.0.1:50051    the database for drivers and BI tools (Arrow Flight SQL)
  triune demo                                   vectors, metadata and time series in one plan, on real data

Results are written as box tables, on a terminal and on a pipe alike, with the first and the last 20 rows of a
long one (see --max-rows); columns are left out only on a terminal that is too narrow. Programs want --format.

A statement that fails ends the run with status 1 and its message on the standard error; --keep-going runs the
others all the same. Ctrl-C ends it with status 130. ~/.triunerc is run first, unless --no-init is given.";

/// What the user asked for.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "triune",
    version,
    about = "Relational, vector and time-series SQL in one plan",
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    #[command(flatten)]
    pub options: ShellOptions,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Everything that is not the shell. Each has its module with its options and a `run`.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Make a database of packages and their downloads in a folder and ask it five questions
    Demo(crate::demo::DemoOptions),
    /// Serve a database to other programs: Arrow Flight SQL
    Serve(crate::serve::ServeOptions),
}

/// The options of the shell.
#[derive(Debug, Clone, Default, Args)]
pub struct ShellOptions {
    /// The database: a folder (made if missing) or a URL; in memory if none is given
    #[arg(value_name = "DB")]
    pub database: Option<String>,

    /// Open the database as it is, beside a process that may be writing it; nothing can be changed
    #[arg(long, alias = "read-only", requires = "database")]
    pub readonly: bool,

    /// Where a database on an object store logs its commits: local (a folder of this machine) or object-store
    #[arg(long, value_name = "KIND", requires = "database")]
    pub wal: Option<triune_query::WalKind>,

    /// The folder for the local log and copies of files of a database on an object store
    #[arg(long, value_name = "FOLDER", requires = "database")]
    pub wal_dir: Option<PathBuf>,

    /// Take a database on an object store from the process that has it open for writing
    #[arg(long, requires = "database", conflicts_with = "readonly")]
    pub take_over: bool,

    /// Open a database on an object store without its lost local log: what was committed since its last checkpoint is
    /// given up
    #[arg(long, requires = "database", conflicts_with = "readonly")]
    pub accept_lost_wal: bool,

    /// Run the statements and leave; may be repeated
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    pub commands: Vec<String>,

    /// Run the statements of a file and leave, - for the standard input; may be repeated
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// How results are written
    #[arg(long, value_name = "FORMAT", ignore_case = true)]
    pub format: Option<Format>,

    /// Write results to a file instead of the standard output
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// The rows of a table that are shown, or "all" (which holds all of them in memory)
    #[arg(long, value_name = "N", default_value = "40", value_parser = parse_max_rows)]
    pub max_rows: MaxRows,

    /// Rows as lists of their columns (\x on)
    #[arg(short = 'x', long)]
    pub expanded: bool,

    /// Print the time that each statement takes (\timing on)
    #[arg(long)]
    pub timing: bool,

    /// Results only: no greeting, no footers, no "CREATE TABLE"
    #[arg(short = 'q', long)]
    pub quiet: bool,

    /// After a failing statement go on with the next one; the status is still 1
    #[arg(long)]
    pub keep_going: bool,

    /// Run this file first instead of ~/.triunerc
    #[arg(long, value_name = "FILE", conflicts_with = "no_init")]
    pub init: Option<PathBuf>,

    /// Do not run ~/.triunerc
    #[arg(long)]
    pub no_init: bool,

    /// What to run, in the order of the command line.
    #[arg(skip)]
    pub inputs: Vec<Input>,
}

/// One `-c` or `-f`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    Sql(String),
    File(PathBuf),
}

/// `--max-rows`: `None` is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxRows(pub Option<usize>);

impl Default for MaxRows {
    fn default() -> Self {
        Self(Some(40))
    }
}

fn parse_max_rows(text: &str) -> Result<MaxRows, String> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(MaxRows(None));
    }
    match text.parse() {
        Ok(0) | Err(_) => Err("a number from 1, or \"all\", is wanted".into()),
        Ok(n) => Ok(MaxRows(Some(n))),
    }
}

impl Cli {
    /// Reads the command line of this process. Ends the process for `--help`, `--version` and mistakes (status 2).
    pub fn from_process() -> Self {
        let matches = Self::command().get_matches();
        match Self::from_matches(&matches) {
            Ok(cli) => cli,
            Err(e) => e.exit(),
        }
    }

    /// Reads a command line, the program's name first.
    pub fn try_from_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, clap::Error> {
        Self::from_matches(&Self::command().try_get_matches_from(words)?)
    }

    fn from_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut cli = Self::from_arg_matches(matches)?;
        let places = |id: &str| matches.indices_of(id).into_iter().flatten();
        let mut inputs: Vec<(usize, Input)> =
            places("commands").zip(cli.options.commands.iter().cloned().map(Input::Sql)).collect();
        inputs.extend(places("files").zip(cli.options.files.iter().cloned().map(Input::File)));
        inputs.sort_by_key(|(place, _)| *place);
        cli.options.inputs = inputs.into_iter().map(|(_, input)| input).collect();
        Ok(cli)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn inputs_keep_their_order() {
        let cli =
            Cli::try_from_words(["triune", "db", "-c", "a", "-f", "x.sql", "-c", "b", "-f", "-"]).unwrap();
        assert_eq!(cli.options.database.as_deref(), Some("db"));
        assert_eq!(
            cli.options.inputs,
            [
                Input::Sql("a".into()),
                Input::File("x.sql".into()),
                Input::Sql("b".into()),
                Input::File("-".into())
            ]
        );
    }

    #[test]
    fn values_are_checked() {
        let options =
            Cli::try_from_words(["triune", "--format", "JSON", "--max-rows", "all"]).unwrap().options;
        assert_eq!((options.format, options.max_rows), (Some(Format::Json), MaxRows(None)));
        assert_eq!(Cli::try_from_words(["triune"]).unwrap().options.max_rows, MaxRows(Some(40)));
        assert!(Cli::try_from_words(["triune", "--max-rows", "0"]).is_err());
        let error = Cli::try_from_words(["triune", "--format", "xml"]).unwrap_err().to_string();
        assert!(error.contains("ndjson"), "{error}");
        assert!(Cli::try_from_words(["triune", "a", "b"]).is_err());
        assert!(Cli::try_from_words(["triune", "--init", "a", "--no-init"]).is_err());
    }

    #[test]
    fn the_demo_is_a_subcommand() {
        assert!(matches!(Cli::try_from_words(["triune", "demo"]).unwrap().command, Some(Command::Demo(_))));
        // A folder of that name is reached with its path.
        let cli = Cli::try_from_words(["triune", "./demo"]).unwrap();
        assert!(cli.command.is_none() && cli.options.database.as_deref() == Some("./demo"));
    }

    #[test]
    fn help_has_examples() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("Examples:") && help.contains("--keep-going"), "{help}");
    }
}
