//! `COPY t [(columns)] FROM 'file'`.
//!
//! ```sql
//! COPY docs FROM 'docs.csv' (HEADER true, DELIMITER ';');
//! COPY docs (id, title) FROM 'docs/*.parquet';
//! ```
//!
//! Columns of the file go to columns of their name where the file names all of them so; else by position. All of a
//! CSV is read as text and converted to the columns' types, so that `007` stays `007` in a text. A value that does not
//! fit is an error that names the file (or the pattern), its row, counted from 1 over all files, the
//! column and the value; nothing is added then.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::sql::sqlparser::ast;
use futures::{FutureExt, StreamExt};
use triune_common::{Error, Result};
use triune_files::{ExternalTableSpec, FileKind, detect_kind, kind_of_path, open_table};

use super::insert::{self, Conflict, Gathered, Sink, always, in_row, named_places};
use super::target::Target;
use super::{query, rows};
use crate::params::Params;
use crate::parser::parse_query;
use crate::result::QueryResult;
use crate::session::SessionCore;
use crate::statement::CopyFrom;
use crate::{observe, transaction};

const FILE: &str = "@file";

pub(crate) async fn run(core: &Arc<SessionCore>, copy: &CopyFrom) -> Result<QueryResult> {
    transaction::write(core, || apply(core, copy).boxed()).await
}

async fn apply(core: &Arc<SessionCore>, copy: &CopyFrom) -> Result<QueryResult> {
    let target = Target::open(core, &copy.table, None, "COPY FROM")?;
    let rules = rows::rules(core, &target).await?;
    let wanted = if copy.columns.is_empty() {
        None
    } else {
        let names: Vec<ast::ObjectName> =
            copy.columns.iter().map(|c| ast::ObjectName::from(vec![c.clone()])).collect();
        Some(named_places(&target, &names)?)
    };
    let file = open(core, copy, &target, wanted.as_deref()).await?;
    let places = match_columns(&target, &file.schema(), wanted)?;
    for place in &places {
        if target.is_always(*place) {
            return Err(always(target.column(*place).field.name()));
        }
    }
    transaction::put_relation(FILE, file)?;
    let plan = query::plan(core, *parse_query(&format!("SELECT * FROM \"{FILE}\""))?, &Params::None).await?;
    // One partition: rows come in the order of the file, and can be counted.
    let mut state = core.state();
    state.config_mut().options_mut().execution.target_partitions = 1;
    let physical = state.create_physical_plan(&plan).await?;
    observe::note(&physical);
    let mut stream = core.stream(Arc::clone(&physical), state.task_ctx())?;
    let fields = query::fields_of(&plan, &stream.schema());
    let conflict = Conflict::Fail;
    let mut sink = Sink {
        core,
        target: &target,
        rules: &rules,
        params: &Params::None,
        conflict: &conflict,
        returning: None,
        touched: HashSet::new(),
        gathered: Gathered::new(core),
        rows: 0,
    };
    let mut offset = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(triune_files::explain_read_error)?;
        let rows = match insert::of_batch(core, &target, &rules, &places, &fields, &batch, &[], 0).await {
            Ok(rows) => rows,
            Err(e) => {
                let e = locate(e, core, &target, &rules, &places, &fields, &batch).await;
                return Err(in_file(&copy.source, &in_row(e, true, offset)));
            }
        };
        offset += batch.num_rows();
        sink.push(rows).await?;
    }
    sink.finish().await?;
    Ok(QueryResult::command("COPY", Some(sink.rows)))
}

/// Where a row came from, in front of what is wrong with it.
fn in_file(source: &str, e: &Error) -> Error {
    let name = source.trim_end_matches('/').rsplit('/').next().unwrap_or(source);
    let error = Error::new(e.kind(), format!("{name}, {}", e.message()));
    match e.hint() {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// The first row of a batch that alone is refused: constraints are verified for a batch as a whole.
async fn locate(
    error: super::assign::RowError,
    core: &Arc<SessionCore>,
    target: &Target,
    rules: &rows::Rules,
    places: &[usize],
    fields: &[arrow::datatypes::FieldRef],
    batch: &arrow::array::RecordBatch,
) -> super::assign::RowError {
    if error.error.kind() != triune_common::ErrorKind::Constraint {
        return error;
    }
    // Identities are not drawn for rows that are only looked at.
    if (0..target.def.columns.len()).any(|p| target.column(p).identity.is_some() && !places.contains(&p)) {
        return error;
    }
    for row in 0..batch.num_rows() {
        let one = batch.slice(row, 1);
        if let Err(e) = insert::of_batch(core, target, rules, places, fields, &one, &[], 0).await {
            return super::assign::RowError { row, error: e.error };
        }
    }
    error
}

async fn open(
    core: &Arc<SessionCore>,
    copy: &CopyFrom,
    target: &Target,
    wanted: Option<&[usize]>,
) -> Result<Arc<dyn TableProvider>> {
    let state = core.state();
    if copy.format.as_deref().is_some_and(|f| f.eq_ignore_ascii_case("lance"))
        || copy.format.is_none() && copy.source.trim_end_matches('/').to_ascii_lowercase().ends_with(".lance")
    {
        let url = triune_object_store::parse_location(&copy.source)?;
        let version = triune_lance::LanceVersion::Latest;
        return Ok(core.database().lance().open(&url, &version).await? as Arc<dyn TableProvider>);
    }
    let kind = match &copy.format {
        Some(format) => format.parse::<FileKind>().map_err(|_| {
            Error::invalid(format!("the format {format} is unknown"))
                .with_hint("accepted are PARQUET, LANCE, ARROW, CSV and JSON")
        })?,
        None => match kind_of_path(&copy.source) {
            Some(kind) => kind,
            None => detect_kind(&state, std::slice::from_ref(&copy.source)).await?,
        },
    };
    let mut spec = ExternalTableSpec {
        locations: vec![copy.source.clone()],
        format: kind,
        columns: None,
        partition_columns: vec![],
        options: copy.options.iter().cloned().collect::<BTreeMap<_, _>>(),
        order: vec![],
    };
    let found = open_table(&state, &spec).await?;
    match kind {
        FileKind::Csv => {
            let text = |name: &str| Field::new(name, DataType::Utf8, true);
            spec.columns = Some(Arc::new(Schema::new(
                found.schema().fields().iter().map(|f| text(f.name())).collect::<Vec<_>>(),
            )));
            open_table(&state, &spec).await
        }
        FileKind::Json => {
            // The columns' own types: a number's digits and a time's zone are not guessed.
            let places: Vec<usize> =
                wanted.map_or_else(|| (0..target.def.columns.len()).collect(), <[_]>::to_vec);
            let schema = found.schema();
            let typed = schema.fields().iter().map(|f| {
                let own = places.iter().map(|p| &target.column(*p).field).find(|c| c.name() == f.name());
                match own.map(|c| c.data_type()) {
                    // Vectors and texts with a form are converted like those of a statement.
                    Some(t) if !t.is_nested() => Field::new(f.name(), t.clone(), true),
                    _ => f.as_ref().clone(),
                }
            });
            spec.columns = Some(Arc::new(Schema::new(typed.collect::<Vec<_>>())));
            open_table(&state, &spec).await
        }
        _ => Ok(found),
    }
}

/// Which column of the table each column of the file goes to.
fn match_columns(target: &Target, file: &Schema, wanted: Option<Vec<usize>>) -> Result<Vec<usize>> {
    let width = file.fields().len();
    if let Some(wanted) = wanted {
        if wanted.len() == width {
            return Ok(wanted);
        }
        return Err(super::values::wrong_width("the file has ", width, wanted.len()));
    }
    let by_name = file.fields().iter().map(|f| {
        target
            .column_names()
            .position(|n| n == f.name())
            .or_else(|| target.column_names().position(|n| n.eq_ignore_ascii_case(f.name())))
    });
    if let Some(places) = by_name.collect::<Option<Vec<usize>>>() {
        let distinct: HashSet<usize> = places.iter().copied().collect();
        if distinct.len() == places.len() {
            return Ok(places);
        }
    }
    if width == target.def.columns.len() {
        return Ok((0..width).collect());
    }
    let given = target.given_places();
    if width == given.len() {
        return Ok(given);
    }
    let names: Vec<&str> = file.fields().iter().map(|f| f.name().as_str()).take(12).collect();
    Err(super::values::wrong_width("the file has ", width, target.def.columns.len())
        .with_hint(format!("its columns are {}: name those of the table, COPY t (…) FROM", names.join(", "))))
}
