//! ```text
//! triune demo [FOLDER] [--events N] [--seed N]
//! ```
//!
//! Makes a database in FOLDER from real packages with embeddings (a slice that is part of the program) and
//! generated download events, asks it five questions, and shows each with its statement, result, plan and time.
//! The last is the one plan: search by vector, filter by metadata, join, buckets of time, percentile; drawn as
//! a small chart.
//!
//! Everything but the packages' file and the events is done in SQL that anybody can type into the shell; the
//! folder stays and can be opened there. The same N and seed give the same data. A folder that holds something
//! else is not touched; a demo that is complete is not made again.

mod chart;
mod folder;
mod generate;
mod show;
mod statements;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef, TimeUnit};
use chrono::DateTime;
use datafusion::common::runtime::SpawnedTask;
use nu_ansi_term::Color;
use triune_common::{Clock, Error, Result, SystemClock};
use triune_query::{Database, Session};

use self::chart::{Chart, Shape};
use self::folder::DemoFolder;
use self::generate::END_SECONDS;
use self::show::{Stage, took};
use self::statements::{LAST_HOURS, Question};
use crate::output::Palette;
use crate::output::text::count;

/// The width where there is no terminal.
const DEFAULT_WIDTH: usize = 100;

/// Options of `triune demo`.
#[derive(clap::Args, Debug, Clone)]
pub struct DemoOptions {
    /// Folder of the demo's database; made if it does not exist.
    #[arg(default_value = "triune-demo")]
    pub folder: PathBuf,

    /// How many download events to generate [default: 2000000]
    #[arg(long, value_name = "N")]
    pub events: Option<u64>,

    /// Another seed gives other events [default: 42]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Runs the demo on standard output.
///
/// *Errors*: the folder holds something else or cannot be written to; a statement fails.
pub async fn run(options: DemoOptions) -> Result<()> {
    let is_terminal = std::io::stdout().is_terminal();
    let width = match crossterm::terminal::size() {
        Ok((columns, _)) if is_terminal && columns > 0 => usize::from(columns),
        _ => DEFAULT_WIDTH,
    };
    let mut out = Listener { out: std::io::stdout(), is_gone: false };
    let palette = Palette::for_terminal(is_terminal);
    let result = run_to(&options, &mut out, width, palette, &SystemClock::new()).await;
    // `triune demo | head`: nobody is there to be told anything.
    if out.is_gone { Ok(()) } else { result }
}

/// Standard output that remembers whether its reader went away.
#[derive(Debug)]
struct Listener<W> {
    out: W,
    is_gone: bool,
}

impl<W: Write> Listener<W> {
    fn noticing<T>(&mut self, result: std::io::Result<T>) -> std::io::Result<T> {
        self.is_gone |= result.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe);
        result
    }
}

impl<W: Write> Write for Listener<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let result = self.out.write(bytes);
        self.noticing(result)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let result = self.out.flush();
        self.noticing(result)
    }
}

/// Runs the demo on any writer.
pub async fn run_to(
    options: &DemoOptions,
    out: &mut (dyn Write + Send),
    width: usize,
    palette: Palette,
    clock: &dyn Clock,
) -> Result<()> {
    let mut stage = Stage::new(out, width, palette);
    let folder = DemoFolder::open(&options.folder, options.events, options.seed)?;
    let location = folder.root.to_str().ok_or_else(|| {
        Error::invalid(format!("the folder's name is not valid text: '{}'", folder.root.display()))
    })?;

    // First of all: a database wants its folder empty, or made by itself.
    let database = Database::open(Some(location)).await?;
    let session = database.session();
    if folder.is_complete {
        stage.heading("The database")?;
        stage.prose(&format!("The demo's database is there already: {location}"))?;
    } else {
        stage.heading("The data")?;
        generate(&mut stage, &folder, clock).await?;
        set_up(&mut stage, &session, &folder, clock).await?;
        folder.complete()?;
    }
    ask(&mut stage, &session, clock).await?;
    farewell(&mut stage, options)
}

/// Writes the slice and the events.
async fn generate(stage: &mut Stage<'_>, folder: &DemoFolder, clock: &dyn Clock) -> Result<()> {
    let packages = folder::packages()?;
    stage.prose(&format!(
        "{} from a public registry, with one-line summaries and their embeddings (384 numbers each), and {} of \
         downloads over 90 days, which are generated: popularity by rank, days and nights, weekends, and a few things \
         gone wrong.",
        count(packages.len() as u64, "real package"),
        count(folder.events, "event"),
    ))?;
    folder.begin()?;
    let started = clock.elapsed();
    let (events, seed, target) = (folder.events, folder.seed, folder.events_folder());
    let files = SpawnedTask::spawn_blocking(move || generate::write_events(&target, &packages, events, seed))
        .await
        .map_err(|e| Error::internal(format!("the generator stopped: {e}")))??;
    let bytes: u64 = files.iter().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum();
    stage.text(&format!(
        "\nGenerated {} in {}: {} of Parquet, {:.1} MB, one for each week.\n",
        count(events, "event"),
        took(clock.elapsed().saturating_sub(started)),
        count(files.len() as u64, "file"),
        bytes as f64 / 1e6,
    ))
}

/// Makes the dataset, the tables and the view, in SQL.
async fn set_up(
    stage: &mut Stage<'_>,
    session: &Session,
    folder: &DemoFolder,
    clock: &dyn Clock,
) -> Result<()> {
    stage.heading("The database")?;
    let names = session.names().await;
    for setup in statements::setup(folder) {
        if !setup.why.is_empty() {
            stage.text("\n")?;
            stage.prose(setup.why)?;
        }
        // Left by a demo that was interrupted.
        if let Some(table) = names.tables.iter().find(|t| setup.makes == Some(t.name.as_str())) {
            let kind = if table.kind == "view" { "VIEW" } else { "TABLE" };
            session.execute(&format!("DROP {kind} {}", table.name)).await?.collect().await?;
        }
        stage.sql(&setup.sql)?;
        let started = clock.elapsed();
        session.execute(&setup.sql).await?.collect().await?;
        stage.text(&format!("    done in {}\n", took(clock.elapsed().saturating_sub(started))))?;
    }
    Ok(())
}

/// Asks the questions and shows the answers.
async fn ask(stage: &mut Stage<'_>, session: &Session, clock: &dyn Clock) -> Result<()> {
    let questions = statements::questions();
    let of = questions.len();
    for (i, question) in questions.iter().enumerate() {
        stage.heading(&format!("{} of {of}: {}", i + 1, question.title))?;
        stage.prose(question.text)?;
        stage.sql(&question.sql)?;
        let started = clock.elapsed();
        let result = session.execute(&question.sql).await?;
        let schema = result.schema();
        let rows = result.collect().await?;
        let elapsed = clock.elapsed().saturating_sub(started);
        stage.table(&schema, &rows, elapsed)?;
        let plan = session.execute(&format!("EXPLAIN {}", question.sql)).await?.collect().await?;
        stage.plan(&plan)?;
        if question.is_drawn {
            draw(stage, question, &schema, &rows)?;
        }
    }
    Ok(())
}

/// Draws the hours of the last days: how many downloads, and how slow the slowest.
fn draw(stage: &mut Stage<'_>, question: &Question, schema: &SchemaRef, rows: &[RecordBatch]) -> Result<()> {
    let rows = concat_batches(schema, rows)?;
    let first_hour = END_SECONDS / 3_600 - LAST_HOURS;
    let mut downloads = vec![Some(0.0); LAST_HOURS as usize];
    let mut p95 = vec![None; LAST_HOURS as usize];
    let column = |name: &str, to: &DataType| -> Result<Arc<dyn Array>> {
        let array = rows.column_by_name(name);
        let array = array.ok_or_else(|| Error::internal(format!("\"{}\" has no {name}", question.title)))?;
        Ok(cast(array, to)?)
    };
    let hours = column("hour", &DataType::Timestamp(TimeUnit::Second, None))?;
    let hours = cast(&hours, &DataType::Int64)?;
    let (counts, latencies) =
        (column("downloads", &DataType::Float64)?, column("p95_ms", &DataType::Float64)?);
    let counts = counts.as_primitive::<Float64Type>();
    let latencies = latencies.as_primitive::<Float64Type>();
    for (row, second) in hours.as_primitive::<Int64Type>().values().iter().enumerate() {
        let place = usize::try_from(second / 3_600 - first_hour).unwrap_or(usize::MAX);
        if let (Some(d), Some(p)) = (downloads.get_mut(place), p95.get_mut(place)) {
            *d = Some(counts.value(row));
            *p = latencies.is_valid(row).then(|| latencies.value(row));
        }
    }
    let day = |i: i64| {
        let at = DateTime::from_timestamp((first_hour + i) * 3_600, 0);
        (i as usize, at.map_or_else(String::new, |t| t.format("%a %d").to_string()))
    };
    let labels: Vec<_> = (0..LAST_HOURS).step_by(24).map(day).collect();
    let chart = |title, shape, values, height, colour| {
        let chart = Chart { title, shape, values, labels: &labels, height, colour };
        chart.render(stage.width, stage.palette)
    };
    let text = format!(
        "\n{}\n{}",
        chart("downloads per hour", Shape::Area, &downloads, 6, Color::Cyan),
        chart("95th percentile of the latency, ms", Shape::Line, &p95, 4, Color::Yellow),
    );
    stage.text(&text)
}

fn farewell(stage: &mut Stage<'_>, options: &DemoOptions) -> Result<()> {
    stage.heading("Your turn")?;
    let folder = options.folder.display().to_string();
    let quoted = if folder.contains([' ', '\'', '"', '$']) {
        format!("'{}'", folder.replace('\'', r"'\''"))
    } else {
        folder
    };
    stage.text(&format!(
        "The folder is a database now. Open it in the shell:\n\n    triune {quoted}\n\n\
         \\d lists the tables, \\d events describes one, \\? helps. Try another topic:\n\n    \
         SELECT query FROM queries;\n\n"
    ))
}
