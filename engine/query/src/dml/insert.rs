//! `INSERT`.
//!
//! ```sql
//! INSERT INTO docs (id, title) VALUES (7, 'seven'), (8, DEFAULT)
//!   ON CONFLICT (id) DO UPDATE SET title = excluded.title WHERE docs.title <> excluded.title
//!   RETURNING id, title;
//! INSERT INTO docs SELECT * FROM 'new.parquet';
//! INSERT OR REPLACE INTO docs VALUES (7, 'seven');
//! ```
//!
//! Rows of constants become columns without planning; other sources are run as queries, batch by batch. A query
//! reads its tables as they were before the statement.
//!
//! `ON CONFLICT` is about the primary key. DO UPDATE touches a row once: two new rows of one key are an error.
//! DO NOTHING keeps the first of them, OR REPLACE the last.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::FieldRef;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::sql::sqlparser::ast::{
    self, ConflictTarget, Insert, ObjectName, OnConflictAction, OnInsert, SetExpr, SqliteOnConflict,
    TableObject, With,
};
use futures::FutureExt;
use triune_common::{Error, ErrorKind, Result};
use triune_storage::hot::bytes_of_batch;
use triune_storage::key::Key;

use super::assign::{RowError, to_column};
use super::conflict::{self, DoUpdate};
use super::returning::{Returning, Written};
use super::rows::{self, Rules, Source};
use super::target::Target;
use super::{query, values};
use crate::params::Params;
use crate::result::QueryResult;
use crate::session::SessionCore;

/// What happens to a new row whose key is taken.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of them for a statement")]
pub(super) enum Conflict {
    Fail,
    Nothing,
    /// The new row takes the old one's place.
    Replace,
    Update(DoUpdate),
}

/// An INSERT whose names were looked up.
pub(super) struct Prepared {
    pub(super) target: Target,
    /// Places of the columns that get values, in the order of the values.
    pub(super) places: Vec<usize>,
    pub(super) conflict: Conflict,
    pub(super) returning: Option<Returning>,
}

pub(super) fn table_name(insert: &Insert) -> Result<&ObjectName> {
    match &insert.table {
        TableObject::TableName(name) => Ok(name),
        other => Err(Error::unsupported(format!("INSERT INTO {other} is not supported"))),
    }
}

pub(super) fn prepare(core: &Arc<SessionCore>, insert: &Insert) -> Result<Prepared> {
    let refused = [
        (insert.ignore, "IGNORE"),
        (insert.partitioned.is_some(), "PARTITION"),
        (insert.overwrite, "OVERWRITE"),
        (!insert.assignments.is_empty(), "SET"),
        (
            insert.replace_into || insert.priority.is_some() || insert.insert_alias.is_some(),
            "MySQL's clauses",
        ),
        (insert.output.is_some(), "OUTPUT"),
        (insert.settings.is_some() || insert.format_clause.is_some(), "FORMAT and SETTINGS"),
        (insert.multi_table_insert_type.is_some(), "several tables"),
    ];
    if let Some((_, clause)) = refused.iter().find(|(given, _)| *given) {
        return Err(Error::unsupported(format!("INSERT with {clause} is not supported")));
    }
    let alias = insert.table_alias.as_ref().map(|a| &a.alias);
    let target = Target::open(core, table_name(insert)?, alias, "INSERT")?;
    let places = if insert.source.is_none() {
        vec![]
    } else if insert.columns.is_empty() {
        let width = insert.source.as_deref().and_then(values::rows_of).and_then(|rows| rows.first());
        values_places(&target, width.map_or(target.def.columns.len(), |row| row.content.len()))
    } else {
        named_places(&target, &insert.columns)?
    };
    let conflict = conflict_of(&target, insert)?;
    let returning = Returning::prepare(core, insert.returning.clone(), &target, &HashSet::new())?;
    Ok(Prepared { target, places, conflict, returning })
}

/// The places of the columns that get `width` values when none is named: all of them, or all but the generated ones.
pub(super) fn values_places(target: &Target, width: usize) -> Vec<usize> {
    let given = target.given_places();
    if width == given.len() { given } else { (0..target.def.columns.len()).collect() }
}

/// The places of a list of columns, each of them once.
pub(super) fn named_places(target: &Target, names: &[ObjectName]) -> Result<Vec<usize>> {
    let mut places = Vec::with_capacity(names.len());
    for name in names {
        let place = target.named(name)?;
        if places.contains(&place) {
            return Err(Error::invalid(format!("the column {name} is named twice")));
        }
        places.push(place);
    }
    Ok(places)
}

fn conflict_of(target: &Target, insert: &Insert) -> Result<Conflict> {
    let by_or = match insert.or {
        None | Some(SqliteOnConflict::Abort) => Conflict::Fail,
        Some(SqliteOnConflict::Ignore) => Conflict::Nothing,
        Some(SqliteOnConflict::Replace) => Conflict::Replace,
        Some(other) => return Err(Error::unsupported(format!("INSERT {other} is not supported"))),
    };
    let by_or = match by_or {
        Conflict::Replace if target.def.has_rid() => {
            return Err(Error::invalid(format!(
                "the table \"{}\" has no primary key to replace by",
                target.name
            )));
        }
        other => other,
    };
    match &insert.on {
        None => Ok(by_or),
        Some(_) if !matches!(by_or, Conflict::Fail) => {
            Err(Error::invalid("INSERT OR … and ON CONFLICT exclude each other"))
        }
        Some(OnInsert::OnConflict(on)) => {
            check_conflict_target(target, on.conflict_target.as_ref())?;
            match &on.action {
                OnConflictAction::DoNothing => Ok(Conflict::Nothing),
                OnConflictAction::DoUpdate(update) => {
                    if target.def.has_rid() {
                        return Err(Error::invalid(format!(
                            "the table \"{}\" has no primary key that could conflict",
                            target.name
                        )));
                    }
                    if on.conflict_target.is_none() {
                        return Err(Error::invalid("ON CONFLICT DO UPDATE needs the columns of the key")
                            .with_hint(format!("ON CONFLICT ({})", target.def.primary_key.join(", "))));
                    }
                    Ok(Conflict::Update(DoUpdate::prepare(target, update)?))
                }
            }
        }
        Some(other) => Err(Error::unsupported(format!("INSERT{other} is not supported"))
            .with_hint("use ON CONFLICT … DO UPDATE")),
    }
}

fn check_conflict_target(target: &Target, wanted: Option<&ConflictTarget>) -> Result<()> {
    match wanted {
        None => Ok(()),
        Some(ConflictTarget::Columns(columns)) => {
            let mut named: Vec<String> = columns.iter().map(crate::parser::normalize).collect();
            for name in &named {
                target.place(name)?;
            }
            let mut key = target.def.primary_key.clone();
            named.sort();
            key.sort();
            if named == key {
                return Ok(());
            }
            let error = Error::invalid(format!("there is no unique constraint on ({})", named.join(", ")));
            Err(if key.is_empty() {
                error.with_hint(format!("the table \"{}\" has no primary key", target.name))
            } else {
                error.with_hint(format!("the primary key is ({})", target.def.primary_key.join(", ")))
            })
        }
        Some(ConflictTarget::OnConstraint(name)) => {
            let name = crate::parser::dotted(name);
            if name == format!("{}_pkey", target.name) && !target.def.has_rid() {
                return Ok(());
            }
            Err(Error::not_found(format!("no unique constraint is called \"{name}\""))
                .with_hint(format!("the primary key's is \"{}_pkey\"", target.name)))
        }
    }
}

/// The query behind an INSERT that is not made of constants.
pub(super) fn source_query(
    insert: &Insert,
    with: Option<&With>,
    prepared: &Prepared,
    params: &Params,
) -> Result<(ast::Query, Vec<Option<Vec<bool>>>)> {
    let source = insert.source.as_ref().ok_or_else(|| Error::internal("an INSERT without a source"))?;
    let mut source = source.as_ref().clone();
    if let SetExpr::Values(values) = source.body.as_ref() {
        values::check_width(&values.rows, prepared.places.len())?;
    }
    let generate = values::spell_out(&mut source, &prepared.target, &prepared.places, params)?;
    if let Some(with) = with {
        match &mut source.with {
            None => source.with = Some(with.clone()),
            Some(own) => own.cte_tables.splice(0..0, with.cte_tables.iter().cloned()).for_each(drop),
        }
    }
    Ok((source, generate))
}

pub(super) async fn run(
    core: &Arc<SessionCore>,
    insert: &Insert,
    with: Option<&With>,
    params: &Params,
) -> Result<QueryResult> {
    let prepared = prepare(core, insert)?;
    let rules = rows::rules(core, &prepared.target).await?;
    let Prepared { target, places, conflict, returning } = &prepared;
    let mut sink = Sink {
        core,
        target,
        rules: &rules,
        params,
        conflict,
        returning: None,
        touched: HashSet::new(),
        gathered: Gathered::new(core),
        rows: 0,
    };
    let constants = match insert.source.as_deref() {
        None => Some(vec![]),
        Some(source) if with.is_none() => match values::rows_of(source) {
            Some(rows) => {
                values::check_width(rows, places.len())?;
                values::columns(rows, target, places, params)?
            }
            None => None,
        },
        Some(_) => None,
    };
    // Taken out at the end, when the borrow of `prepared` is over.
    sink.returning = returning.as_ref().map(Returning::fresh);
    if let Some(columns) = constants {
        let rows = insert.source.as_deref().and_then(values::rows_of).map_or(1, <[_]>::len);
        let batch = of_constants(core, target, &rules, places, columns, rows).await?;
        sink.put(batch).await?;
    } else {
        let (source, generate) = source_query(insert, with, &prepared, params)?;
        let plan = query::plan(core, source, params).await?;
        let found = plan.schema().fields().len();
        let places = match insert.columns.is_empty() {
            true if found != places.len() => &values_places(target, found),
            _ => places,
        };
        refuse_always(target, places, &generate)?;
        if found != places.len() {
            return Err(values::wrong_width("", found, places.len()));
        }
        let mut result = core.start(&plan).await?;
        let fields = query::fields_of(&plan, &result.schema());
        let mut offset = 0;
        while let Some(batch) = result.next().await {
            let batch = batch?;
            let batch_rows = batch.num_rows();
            let rows = of_batch(core, target, &rules, places, &fields, &batch, &generate, offset)
                .await
                .map_err(|e| in_row(e, false, 0))?;
            sink.push(rows).await?;
            offset += batch_rows;
        }
        sink.finish().await?;
    }
    let (rows, returning) = (sink.rows, sink.returning);
    match returning {
        Some(returning) => returning.finish(core, target, params, &[]).await,
        None => Ok(QueryResult::command("INSERT", Some(rows))),
    }
}

async fn of_constants(
    core: &Arc<SessionCore>,
    target: &Target,
    rules: &Rules,
    places: &[usize],
    columns: Vec<(ArrayRef, Vec<bool>)>,
    rows: usize,
) -> Result<RecordBatch> {
    let mut sources = vec![Source::Omitted; target.def.columns.len()];
    for (place, (values, defaults)) in places.iter().zip(columns) {
        let column = target.column(*place);
        let all = defaults.iter().all(|d| *d);
        if target.is_always(*place) && !all {
            return Err(always(column.field.name()));
        }
        sources[*place] = if all {
            Source::Omitted
        } else if !defaults.contains(&true) {
            Source::Given { values, generate: None }
        } else if column.identity.is_some() {
            Source::Given { values, generate: Some(defaults) }
        } else {
            let fresh = rows::default_values(core, target, rules, *place, rows)?;
            let pick = BooleanArray::from(defaults);
            Source::Given {
                values: arrow::compute::kernels::zip::zip(&pick, &fresh, &values)?,
                generate: None,
            }
        };
    }
    rows::complete(core, target, rules, sources, rows).await
}

/// Whole rows from a batch of the source's.
pub(super) async fn of_batch(
    core: &Arc<SessionCore>,
    target: &Target,
    rules: &Rules,
    places: &[usize],
    fields: &[FieldRef],
    batch: &RecordBatch,
    generate: &[Option<Vec<bool>>],
    offset: usize,
) -> Result<RecordBatch, RowError> {
    let mut sources = vec![Source::Omitted; target.def.columns.len()];
    for (at, place) in places.iter().enumerate() {
        if target.column(*place).generated.is_some() {
            // Every row said DEFAULT.
            continue;
        }
        let values = to_column(batch.column(at), &fields[at], &target.column(*place).field)?;
        let asks = generate.get(at).and_then(Option::as_ref);
        let asks = asks.map(|g| g.iter().skip(offset).take(batch.num_rows()).copied().collect::<Vec<bool>>());
        sources[*place] = Source::Given { values, generate: asks.filter(|g| g.contains(&true)) };
    }
    rows::complete(core, target, rules, sources, batch.num_rows())
        .await
        .map_err(|error| RowError { row: 0, error })
}

fn refuse_always(target: &Target, places: &[usize], generate: &[Option<Vec<bool>>]) -> Result<()> {
    for (at, place) in places.iter().enumerate() {
        let all = generate.get(at).and_then(Option::as_ref).is_some_and(|g| g.iter().all(|a| *a));
        if target.is_always(*place) && !all {
            return Err(always(target.column(*place).field.name()));
        }
    }
    Ok(())
}

pub(super) fn always(column: &str) -> Error {
    Error::new(
        ErrorKind::Constraint,
        format!("the column \"{column}\" is GENERATED ALWAYS and takes no value"),
    )
    .with_hint("leave it out, or write DEFAULT")
}

/// An error with the row that it was found in, counted from 1.
pub(super) fn in_row(e: RowError, say: bool, offset: usize) -> Error {
    if !say {
        return e.error;
    }
    let error = Error::new(e.error.kind(), format!("row {}: {}", offset + e.row + 1, e.error.message()));
    match e.error.hint() {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Where an INSERT's rows go.
pub(super) struct Sink<'a> {
    pub(super) core: &'a Arc<SessionCore>,
    pub(super) target: &'a Target,
    pub(super) rules: &'a Rules,
    pub(super) params: &'a Params,
    pub(super) conflict: &'a Conflict,
    pub(super) returning: Option<Returning>,
    /// Keys that DO UPDATE met already.
    pub(super) touched: HashSet<Key>,
    pub(super) gathered: Gathered,
    pub(super) rows: u64,
}

/// Small batches become large ones: a transaction takes many rows at once more cheaply than few at a time.
#[derive(Debug)]
pub(super) struct Gathered {
    batches: Vec<RecordBatch>,
    rows: usize,
    memory: MemoryReservation,
}

impl Gathered {
    const ENOUGH: usize = 1 << 17;
    /// Rows with vectors are many before they are large.
    const ENOUGH_BYTES: usize = 32 << 20;

    pub(super) fn new(core: &SessionCore) -> Self {
        Self { batches: Vec::new(), rows: 0, memory: query::memory(core, "rows to be inserted") }
    }

    /// The rows so far, when they are enough.
    pub(super) fn add(&mut self, rows: RecordBatch) -> Result<Option<RecordBatch>> {
        query::reserve(&self.memory, bytes_of_batch(&rows))?;
        self.rows += rows.num_rows();
        self.batches.push(rows);
        let enough = self.rows >= Self::ENOUGH || self.memory.size() >= Self::ENOUGH_BYTES;
        if enough { self.rest() } else { Ok(None) }
    }

    /// What has been gathered; from here on the transaction answers for its memory.
    pub(super) fn rest(&mut self) -> Result<Option<RecordBatch>> {
        self.rows = 0;
        if self.batches.len() > 1 {
            query::reserve(&self.memory, self.memory.size())?;
        }
        let gathered = std::mem::take(&mut self.batches);
        self.memory.free();
        match gathered.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one.clone())),
            many => Ok(Some(concat_batches(&many[0].schema(), many)?)),
        }
    }
}

impl Sink<'_> {
    /// [`Sink::put`] at some later time, at the latest with [`Sink::finish`].
    pub(super) async fn push(&mut self, rows: RecordBatch) -> Result<()> {
        match self.gathered.add(rows)? {
            Some(rows) => self.put(rows).await,
            None => Ok(()),
        }
    }

    pub(super) async fn finish(&mut self) -> Result<()> {
        match self.gathered.rest()? {
            Some(rows) => self.put(rows).await,
            None => Ok(()),
        }
    }

    pub(super) async fn put(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        match self.conflict {
            Conflict::Fail => self.insert(rows).await,
            Conflict::Nothing if self.target.def.has_rid() => self.insert(rows).await,
            Conflict::Nothing => {
                let keys = self.target.keys_of(&rows)?;
                let taken = self.target.transaction.existing(self.target.id(), &keys).boxed().await?;
                let mut seen = HashSet::with_capacity(keys.len());
                let keep: BooleanArray = keys
                    .iter()
                    .zip(taken)
                    .map(|(k, taken)| Some(!taken && seen.insert(k.to_owned())))
                    .collect();
                self.insert(filter_record_batch(&rows, &keep)?).await
            }
            Conflict::Replace => {
                let keys = self.target.keys_of(&rows)?;
                let mut last = vec![true; keys.len()];
                let mut seen = HashSet::with_capacity(keys.len());
                for i in (0..keys.len()).rev() {
                    last[i] = seen.insert(keys.get(i).to_owned());
                }
                self.upsert(filter_record_batch(&rows, &BooleanArray::from(last))?).await
            }
            Conflict::Update(update) => {
                let keys = self.target.keys_of(&rows)?;
                for key in keys.iter() {
                    if !self.touched.insert(key.to_owned()) {
                        return Err(Error::new(
                            ErrorKind::Constraint,
                            format!(
                                "ON CONFLICT DO UPDATE would touch the row {} a second time",
                                self.target.codec.describe(key)
                            ),
                        )
                        .with_hint("the new rows must have different keys"));
                    }
                }
                if update.replaces && self.returning.is_none() {
                    return self.upsert(rows).await;
                }
                let taken = self.target.transaction.existing(self.target.id(), &keys).boxed().await?;
                let taken = BooleanArray::from(taken);
                let fresh = filter_record_batch(&rows, &arrow::compute::not(&taken)?)?;
                let proposed = filter_record_batch(&rows, &taken)?;
                self.insert(fresh).await?;
                conflict::apply(self, update, proposed).await
            }
        }
    }

    async fn insert(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let target = self.target;
        self.note(None, &rows)?;
        self.rows += rows.num_rows() as u64;
        target.transaction.insert(target.id(), rows).boxed().await?;
        Ok(())
    }

    async fn upsert(&mut self, rows: RecordBatch) -> Result<()> {
        let target = self.target;
        self.note(None, &rows)?;
        self.rows += rows.num_rows() as u64;
        target.transaction.upsert(target.id(), rows).boxed().await?;
        Ok(())
    }

    pub(super) fn note(&mut self, old: Option<&RecordBatch>, new: &RecordBatch) -> Result<()> {
        match &mut self.returning {
            Some(returning) => {
                returning.add(self.target, &Written { old, new: Some(new), ..Written::default() })
            }
            None => Ok(()),
        }
    }
}
