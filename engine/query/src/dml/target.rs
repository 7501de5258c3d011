//! The table that a statement writes.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, TableFactor};
use triune_common::names::did_you_mean;
use triune_common::{Error, Result};
use triune_storage::catalog::RelationKind;
use triune_storage::key::{KeyCodec, Keys, RID};
use triune_storage::stamp::TableId;
use triune_storage::store::Transaction;
use triune_storage::table::{ColumnDef, TableDef};

use super::query;
use crate::catalog::DEFAULT_SCHEMA;
use crate::commands::qualified;
use crate::parser::{dotted, normalize};
use crate::session::SessionCore;
use crate::transaction;

/// A table of the database within the statement's transaction.
#[derive(Debug)]
pub(crate) struct Target {
    pub(super) name: String,
    /// What the statement calls it.
    pub(super) alias: String,
    pub(super) def: Arc<TableDef>,
    pub(super) transaction: Transaction,
    pub(super) codec: KeyCodec,
}

/// The definition of a table of the database by its name in a statement.
///
/// Errors: not found, with the nearest name; unsupported for views, external and temporary tables.
pub(crate) fn find(core: &Arc<SessionCore>, name: &ObjectName, doing: &str) -> Result<Arc<TableDef>> {
    look_up(core, name, doing, |def| Arc::new(def.clone()))
}

fn look_up<T>(
    core: &Arc<SessionCore>,
    name: &ObjectName,
    doing: &str,
    of: impl FnOnce(&TableDef) -> T,
) -> Result<T> {
    let (schema, plain) = qualified(name)?;
    if schema == DEFAULT_SCHEMA && core.temporary(&plain).is_some() {
        return Err(Error::unsupported(format!(
            "{doing} of the temporary table \"{plain}\" is not supported"
        ))
        .with_hint("make it without TEMP, or make it anew with CREATE OR REPLACE TEMP TABLE … AS"));
    }
    let catalog = core.database().catalog();
    match catalog.relation(&schema, &plain) {
        Some(entry) => match &entry.table {
            Some(def) => Ok(of(def)),
            None => Err(Error::unsupported(format!(
                "{doing} of the {} \"{plain}\" is not supported",
                entry.kind.label()
            ))
            .with_hint(match entry.kind {
                RelationKind::View => "write the tables that the view reads",
                _ => "CREATE TABLE … AS SELECT … FROM it makes a table that can be written",
            })),
        },
        None => Err(missing(core, &schema, &dotted(name))),
    }
}

fn missing(core: &Arc<SessionCore>, schema: &str, name: &str) -> Error {
    let error = Error::not_found(format!("no table is called \"{name}\""));
    let catalog = core.database().catalog();
    let Some(entry) = catalog.schemas.get(schema) else {
        return error.with_hint(format!("there is no schema \"{schema}\""));
    };
    let plain = name.rsplit('.').next().unwrap_or(name);
    match did_you_mean(plain, entry.relations.keys().map(String::as_str)) {
        Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
        None => error,
    }
}

impl Target {
    pub(super) fn open(
        core: &Arc<SessionCore>,
        name: &ObjectName,
        alias: Option<&Ident>,
        doing: &str,
    ) -> Result<Self> {
        let id = look_up(core, name, doing, |def| def.id)?;
        let plain = qualified(name)?.1;
        let alias = alias.map_or_else(|| plain.clone(), normalize);
        Self::of(core, id, plain, alias)
    }

    /// The table in the transaction of the running statement, whose definition may be an older one.
    pub(super) fn of(core: &Arc<SessionCore>, id: TableId, name: String, alias: String) -> Result<Self> {
        let transaction = transaction::current(core);
        let def = transaction.definition(id)?;
        let codec = def.key_codec()?;
        Ok(Self { name, alias, def, transaction, codec })
    }

    /// A table that the catalog does not know yet, or not as `def` says.
    pub(super) fn within(transaction: Transaction, def: Arc<TableDef>, name: &str) -> Result<Self> {
        let codec = def.key_codec()?;
        Ok(Self { name: name.to_owned(), alias: name.to_owned(), def, transaction, codec })
    }

    /// From the table factor of UPDATE, DELETE and MERGE.
    pub(super) fn of_factor(core: &Arc<SessionCore>, factor: &TableFactor, doing: &str) -> Result<Self> {
        match factor {
            TableFactor::Table { name, alias, args: None, version: None, sample: None, .. } => {
                if alias.as_ref().is_some_and(|a| !a.columns.is_empty()) {
                    return Err(Error::unsupported(format!("{doing} takes an alias without column names")));
                }
                Self::open(core, name, alias.as_ref().map(|a| &a.name), doing)
            }
            TableFactor::Table { version: Some(_), .. } => {
                Err(Error::invalid(format!("{doing} changes the table as it is now, not a version of it")))
            }
            other => {
                Err(Error::unsupported(format!("{doing} of {other} is not supported"))
                    .with_hint("name a table"))
            }
        }
    }

    pub(super) fn id(&self) -> TableId {
        self.def.id
    }

    pub(super) fn column_names(&self) -> impl Iterator<Item = &str> {
        self.def.columns.iter().map(|c| c.field.name().as_str())
    }

    /// The places of the columns that rows are given for: all that are not computed from others.
    pub(super) fn given_places(&self) -> Vec<usize> {
        (0..self.def.columns.len()).filter(|place| self.column(*place).generated.is_none()).collect()
    }

    /// Whether a column takes no value of the user's, only DEFAULT.
    pub(super) fn is_always(&self, place: usize) -> bool {
        let column = self.column(place);
        column.generated.is_some() || column.identity.is_some_and(|i| i.always)
    }

    /// The place of a column of the user's.
    pub(super) fn place(&self, name: &str) -> Result<usize> {
        self.column_names().position(|n| n == name).ok_or_else(|| {
            let error = Error::not_found(format!("the table \"{}\" has no column \"{name}\"", self.name));
            match did_you_mean(name, self.column_names()) {
                Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
                None => error.with_hint(format!(
                    "the columns are {}",
                    self.column_names().take(12).collect::<Vec<_>>().join(", ")
                )),
            }
        })
    }

    /// The place of the column that `SET t.c = …` or `INSERT INTO t (c)` names.
    pub(super) fn named(&self, name: &ObjectName) -> Result<usize> {
        let parts = crate::parser::name_parts(name);
        match parts.as_slice() {
            [column] => self.place(column),
            [table, column] if *table == self.alias || *table == self.name => self.place(column),
            _ => Err(Error::invalid(format!("{name} is no column of \"{}\"", self.name))),
        }
    }

    pub(super) fn column(&self, place: usize) -> &ColumnDef {
        &self.def.columns[place]
    }

    /// Places of the key's columns among the user's; empty where rows have a hidden number.
    pub(super) fn key_places(&self) -> Vec<usize> {
        let all: Vec<&str> = self.column_names().collect();
        self.def.primary_key.iter().filter_map(|k| all.iter().position(|n| n == k)).collect()
    }

    /// Makes the table with its key columns known as [`query::TARGET`].
    pub(super) fn publish(&self) -> Result<()> {
        let table = self.transaction.provider_with_key(self.id())?;
        transaction::put_relation(query::TARGET, crate::ddl::maintain::named(table, &self.name))
    }

    /// The select list of everything that a row is changed by: `@o0`, `@o1` … and `@rid`.
    pub(super) fn old_items(&self) -> Vec<datafusion::sql::sqlparser::ast::SelectItem> {
        let mut items: Vec<_> = self
            .column_names()
            .enumerate()
            .map(|(i, name)| query::item(query::column(&self.alias, name), format!("@o{i}")))
            .collect();
        if self.def.has_rid() {
            items.push(query::item(query::column(&self.alias, RID), "@rid"));
        }
        items
    }

    /// The same with NULL for what no key needs.
    pub(super) fn key_items(&self) -> Vec<datafusion::sql::sqlparser::ast::SelectItem> {
        let keys = self.key_places();
        let mut items = self.old_items();
        for (i, item) in items.iter_mut().take(self.def.columns.len()).enumerate() {
            if !keys.contains(&i) {
                *item = query::item(
                    query::literal(datafusion::sql::sqlparser::ast::Value::Null),
                    format!("@o{i}"),
                );
            }
        }
        items
    }

    /// Which of the rows that [`Target::old_items`] selected are which: their keys.
    pub(super) fn old_keys(&self, batch: &RecordBatch) -> Result<Keys> {
        if self.def.has_rid() {
            let rid = batch.column_by_name("@rid").ok_or_else(|| Error::internal("rows without numbers"))?;
            return self.codec.encode(&[Arc::clone(rid)]);
        }
        let columns: Vec<ArrayRef> =
            self.key_places().into_iter().map(|place| Arc::clone(batch.column(place))).collect();
        self.codec.encode(&columns)
    }

    /// The user's columns of rows that [`Target::old_items`] selected.
    pub(super) fn old_rows(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        self.batch(batch.columns()[..self.def.columns.len()].to_vec(), batch.num_rows())
    }

    /// A batch of the user's schema. The columns may come from operators that lost what the types are called.
    pub(super) fn batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let schema = self.def.schema();
        let fitting =
            columns
                .into_iter()
                .zip(schema.fields())
                .map(|(c, f)| {
                    if c.data_type() == f.data_type() {
                        Ok(c)
                    } else {
                        arrow::compute::cast(&c, f.data_type())
                    }
                })
                .collect::<Result<Vec<_>, _>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(schema, fitting, &options)?)
    }

    /// The keys of rows of the user's schema; only for tables with a primary key.
    pub(super) fn keys_of(&self, rows: &RecordBatch) -> Result<Keys> {
        let columns: Vec<ArrayRef> =
            self.key_places().into_iter().map(|place| Arc::clone(rows.column(place))).collect();
        self.codec.encode(&columns)
    }
}

/// The names that FROM, USING and JOIN give to what they read.
pub(super) fn aliases<'a>(
    tables: impl IntoIterator<Item = &'a datafusion::sql::sqlparser::ast::TableWithJoins>,
) -> HashSet<String> {
    let mut names = HashSet::new();
    for table in tables {
        names.extend(alias_of(&table.relation));
        names.extend(table.joins.iter().filter_map(|j| alias_of(&j.relation)));
    }
    names
}

pub(super) fn alias_of(factor: &TableFactor) -> Option<String> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. } => Some(normalize(&alias.name)),
        TableFactor::Table { name, .. } => crate::parser::name_parts(name).pop(),
        _ => None,
    }
}
