//! Which columns a scan reads first, which later, and where its output columns come from.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use lance_core::datatypes::Schema as LanceSchema;
use lance_core::{ROW_ADDR, ROW_ADDR_FIELD, ROW_ID, ROW_ID_FIELD};
use triune_common::{Error, Result};

use crate::predicate::Predicate;
use crate::provider::Table;

/// Columns beside those of the conditions are read later if a row of them is at least this wide: below
/// it, decoding them for all rows costs less than going back for some.
const WIDE_BYTES: usize = 64;

/// Where an output column comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    First(usize),
    Rest(usize),
}

/// The two reads of a scan. The second is absent where one read does.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Columns read for every row: those of the conditions, and all others where those are narrow.
    pub(crate) first: LanceSchema,
    pub(crate) row_id: bool,
    pub(crate) row_addr: bool,
    /// Bytes of a row of the first read, estimated.
    pub(crate) first_width: usize,
    /// Columns read for the rows that remain; `_rowaddr` comes with them, to pair the two reads.
    pub(crate) rest: Option<LanceSchema>,
    pub(crate) rest_width: usize,
    /// Bound to the first read.
    pub(crate) predicate: Predicate,
    sources: Vec<Source>,
    output: SchemaRef,
}

impl Layout {
    /// `projection` and the columns of `predicate` count by `table.schema`.
    pub(crate) fn try_new(table: &Table, projection: &[usize], predicate: &Predicate) -> Result<Self> {
        let of_conditions = predicate.columns();
        let others: BTreeSet<usize> =
            projection.iter().copied().filter(|c| !of_conditions.contains(c)).collect();
        let wide: BTreeSet<usize> = others.iter().copied().filter(|c| *c < table.data_columns).collect();
        let late = !of_conditions.is_empty() && table.row_bytes(wide.iter().copied()) >= WIDE_BYTES;

        let mut first_columns = of_conditions;
        first_columns.extend(others.iter().filter(|c| !late || !wide.contains(c)));
        let named = |name: &str| first_columns.iter().any(|c| table.schema.field(*c).name() == name);
        let row_id = named(ROW_ID);
        // A read of no columns at all still has to know how many rows are not deleted.
        let row_addr = late
            || named(ROW_ADDR)
            || (!row_id && first_columns.is_empty())
            // Masked rows are known by their addresses.
            || table.mask.is_some();

        let first = lance_columns(table, &first_columns)?;
        let mut fields: Vec<Field> =
            Schema::from(&first).fields().iter().map(|f| f.as_ref().clone()).collect();
        if row_id {
            fields.push(ROW_ID_FIELD.clone());
        }
        if row_addr {
            fields.push(ROW_ADDR_FIELD.clone());
        }
        let first_schema = Schema::new(fields);
        let rest = if late { Some(lance_columns(table, &wide)?) } else { None };
        let rest_schema = rest.as_ref().map_or_else(Schema::empty, Schema::from);

        let sources = projection
            .iter()
            .map(|c| {
                let name = table.schema.field(*c).name();
                Ok(if late && wide.contains(c) {
                    Source::Rest(rest_schema.index_of(name)?)
                } else {
                    Source::First(first_schema.index_of(name)?)
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            first,
            row_id,
            row_addr,
            first_width: table.row_bytes(first_columns),
            rest,
            rest_width: table.row_bytes(wide),
            predicate: predicate.bind(&first_schema)?,
            sources,
            output: Arc::new(table.schema.project(projection)?),
        })
    }

    /// The output rows from a batch of the first read and, where there is one, of the second.
    pub(crate) fn assemble(&self, first: &RecordBatch, rest: Option<&RecordBatch>) -> Result<RecordBatch> {
        let columns = self
            .sources
            .iter()
            .map(|source| match (source, rest) {
                (Source::First(i), _) => Ok(Arc::clone(first.column(*i))),
                (Source::Rest(i), Some(rest)) => Ok(Arc::clone(rest.column(*i))),
                (Source::Rest(_), None) => Err(Error::internal("the second read of a Lance scan is missing")),
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(first.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.output), columns, &options)?)
    }
}

/// The dataset's columns among `columns`, with everything below them.
pub(crate) fn lance_columns(table: &Table, columns: &BTreeSet<usize>) -> Result<LanceSchema> {
    let schema = table.dataset.schema();
    let mut ids = Vec::with_capacity(columns.len());
    for column in columns.iter().filter(|c| **c < table.data_columns) {
        let field = &schema.fields[*column];
        if field.is_blob() {
            return Err(Error::unsupported(format!(
                "column \"{}\" is a Lance blob and cannot be read",
                field.name
            ))
            .with_hint("leave it out of the select list"));
        }
        if schema.field(&field.name).is_none_or(|found| found.id != field.id) {
            // Lance finds a fragment's columns by paths, and reads NULLs where a name is no path.
            return Err(Error::unsupported(format!(
                "Lance cannot read a column that is called \"{}\"",
                field.name
            ))
            .with_hint("leave it out of the select list"));
        }
        ids.push(field.id);
    }
    // By id: a name may hold characters that Lance's paths give a meaning.
    Ok(schema.project_by_ids(&ids, true))
}
