//! ALTER TABLE: a new definition, and the rows made to fit it.
//!
//! ```text
//!  committer   the table takes no commits (they wait, then meet the new revision)
//!  here        checkpoint · read the base, change it batch by batch, write it anew in a folder of its own
//!  committer   publish: state.json, new version; the table takes commits again
//! ```
//!
//! Changes that touch no row only replace the definition. Concurrent transactions that write the table fail
//! with a conflict; readers go on with the version that they have. Cost: the table is read and written once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::util::display::FormatOptions;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use triune_common::{Error, ErrorKind, Result, boxed};

use super::Store;
use super::checkpoint::store_state;
use super::provider::StoreProvider;
use super::version::{Snapshot, TableVersion};
use crate::base::{AppendOptions, Base};
use crate::hot::VisibleBatch;
use crate::stamp::CommitTs;
use crate::table::TableDef;

/// What an ALTER TABLE does to the rows that are there already.
#[derive(Debug, Clone)]
pub enum SchemaChange {
    /// Names, defaults, checks, comments, options: no row is touched.
    Definition,
    /// A column at the end, with values for the rows that exist.
    AddColumn {
        name: String,
        fill: Fill,
    },
    DropColumn {
        name: String,
    },
    RenameColumn {
        from: String,
        to: String,
    },
    /// Every value is cast to the type that the new definition has for the column.
    RetypeColumn {
        name: String,
    },
}

/// What a new column holds in the rows that exist.
#[derive(Debug, Clone)]
pub enum Fill {
    /// One value for all, of the column's type; may be NULL.
    Value(ScalarValue),
    /// A value for each row.
    Computed(Arc<dyn FillColumn>),
}

impl Default for Fill {
    fn default() -> Self {
        Self::Value(ScalarValue::Null)
    }
}

/// Computes a new column from the columns that are there.
#[async_trait]
pub trait FillColumn: std::fmt::Debug + Send + Sync {
    /// As many values of the new column's type as there are rows; `rows` are in the old stored schema.
    async fn values(&self, rows: &RecordBatch) -> Result<ArrayRef>;
}

impl Store {
    /// Changes a table's definition, and its rows where the change asks for it. `def` has the next revision.
    /// Concurrent transactions that write the table fail with a conflict.
    ///
    /// Errors: those of casting a value; the table is as it was then.
    #[boxed]
    pub async fn alter_table(&self, def: TableDef, change: SchemaChange) -> Result<()> {
        self.check_writable()?;
        let _bases = self.shared.bases.lock().await;
        let (_, version) = self.shared.current();
        if version.table(def.id)?.def.index_revision != def.index_revision {
            return Err(Error::new(
                ErrorKind::Conflict,
                "the table's indexes were changed by another session meanwhile",
            )
            .with_hint("run the statement again"));
        }
        drop(version);
        let fill = match change {
            SchemaChange::Definition => return self.redefine(def).await,
            SchemaChange::AddColumn { fill, .. } => fill,
            SchemaChange::DropColumn { .. }
            | SchemaChange::RenameColumn { .. }
            | SchemaChange::RetypeColumn { .. } => Fill::default(),
        };
        let id = def.id;
        let _blocked = self.shared.block(id);
        self.driver
            .run(move |committer| {
                committer.block(id);
                Ok(())
            })
            .await?;
        let done = self.rewrite(def, &fill).await;
        self.driver
            .run(move |committer| {
                committer.unblock(id);
                Ok(())
            })
            .await?;
        done
    }

    async fn redefine(&self, def: TableDef) -> Result<()> {
        let codec = Arc::new(def.key_codec()?);
        self.driver
            .run(move |committer| {
                committer.check_writable()?;
                let mut table = committer.version.table(def.id)?.as_ref().clone();
                if table.def.stored_schema() != def.stored_schema() {
                    return Err(Error::internal("a change of the definition alone has another schema"));
                }
                table.def = Arc::new(def);
                table.codec = codec;
                committer.version = Arc::new(committer.version.with(table));
                committer.publish();
                Ok(())
            })
            .await
    }

    /// Makes the rows fit. The caller has blocked the table.
    async fn rewrite(&self, def: TableDef, fill: &Fill) -> Result<()> {
        let Some(place) = self.shared.place.clone() else { return self.rewrite_in_memory(def, fill).await };
        let (applied, segment) = self.checkpoint_locked(&place).await?;
        let snapshot = self.shared.snapshot();
        let old = Arc::clone(snapshot.version.table(def.id)?);
        let revision = def.revision;
        let table = place.base_table(&def, revision)?;
        let empty = Base::empty(&table, place.empty_base())?;
        let rows = changed_rows(&old, snapshot, &def, fill)?;
        let options = AppendOptions { checkpoint: applied, settle: applied };
        let base = empty.append(rows, options).await?;
        let mut new = TableVersion {
            codec: Arc::new(def.key_codec()?),
            def: Arc::new(def),
            base: Some(base),
            applied,
            since: applied,
            rows_revision: revision,
            memtables: Vec::new(),
            counters: Arc::clone(&old.counters),
        };
        new.memtables.push(Arc::new(new.new_memtable()));
        let next_table = self.next_table();
        self.driver
            .run(move |committer| {
                committer.check_writable()?;
                let id = new.def.id;
                // Nothing was committed to the table since the checkpoint, whatever was to others.
                new.applied = committer.last;
                new.since = committer.last;
                if let Some(base) = &new.base {
                    committer.shared.track(id, base);
                }
                let next = committer.version.with(new);
                store_state(committer, &place, &next.tables, applied, segment, next_table)?;
                committer.version = Arc::new(next);
                committer.publish();
                Ok(())
            })
            .await
    }

    async fn rewrite_in_memory(&self, def: TableDef, fill: &Fill) -> Result<()> {
        let snapshot = self.shared.snapshot();
        let old = Arc::clone(snapshot.version.table(def.id)?);
        let change = Change::new(&old.def, &def, fill);
        // The table takes no commits: these are all its rows.
        let mut rows = Vec::new();
        for memtable in &old.memtables {
            for batch in memtable.view(snapshot.ts) {
                rows.push(change.apply(&VisibleBatch::to_batch(&batch)?).await?);
            }
        }
        let mut new = TableVersion {
            codec: Arc::new(def.key_codec()?),
            rows_revision: def.revision,
            def: Arc::new(def),
            base: None,
            applied: CommitTs::ZERO,
            since: CommitTs::ZERO,
            memtables: Vec::new(),
            counters: Arc::clone(&old.counters),
        };
        let memtable = new.new_memtable();
        self.driver
            .run(move |committer| {
                let ts = CommitTs::after(committer.last, committer.shared.clock.now());
                for rows in &rows {
                    memtable.append(rows, &new.codec.keys_of(rows)?, ts)?;
                }
                new.memtables.push(Arc::new(memtable));
                new.counters.last_change.fetch_max(ts.0, Ordering::Relaxed);
                new.since = ts;
                committer.last = ts;
                committer.version = Arc::new(committer.version.with(new));
                committer.publish();
                Ok(())
            })
            .await
    }
}

/// The rows of a snapshot under a new definition.
fn changed_rows(
    old: &Arc<TableVersion>,
    snapshot: Snapshot,
    def: &TableDef,
    fill: &Fill,
) -> Result<SendableRecordBatchStream> {
    let change = Arc::new(Change::new(&old.def, def, fill));
    let schema = Arc::clone(&change.schema);
    let provider = StoreProvider::new(old.def.stored_schema(), Arc::clone(old), snapshot, None);
    let rows = futures::stream::once(async move {
        let state = SessionStateBuilder::new().build();
        let scan = provider.scan(&state, None, &[], None).await?;
        execute_stream(scan, state.task_ctx())
    });
    let rows = futures::TryStreamExt::try_flatten(rows).then(move |batch| {
        let change = Arc::clone(&change);
        async move { change.apply(&batch?).await.map_err(DataFusionError::from) }
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows.boxed())))
}

/// From rows of one definition to rows of another.
struct Change {
    schema: arrow::datatypes::SchemaRef,
    columns: Vec<Source>,
}

/// Where a new column's values come from.
enum Source {
    /// The old column at this place, cast where the type is another one.
    Old(usize),
    New(Fill),
}

impl Change {
    /// Columns are matched by their ids, `_rid` by its name; one that the old definition has not gets `fill`.
    fn new(old: &TableDef, new: &TableDef, fill: &Fill) -> Self {
        let schema = new.stored_schema();
        let mut columns: Vec<Source> = new
            .columns
            .iter()
            .map(|c| match old.columns.iter().position(|o| o.id == c.id) {
                Some(place) => Source::Old(place),
                None => Source::New(fill.clone()),
            })
            .collect();
        if new.has_rid() {
            columns.push(Source::Old(old.columns.len()));
        }
        Self { schema, columns }
    }

    async fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (source, field) in self.columns.iter().zip(self.schema.fields()) {
            let column: ArrayRef = match source {
                Source::Old(place) => Arc::clone(batch.column(*place)),
                Source::New(Fill::Value(value)) => value.to_array_of_size(batch.num_rows())?,
                Source::New(Fill::Computed(column)) => column.values(batch).await?,
            };
            if column.data_type() == field.data_type() {
                columns.push(column);
                continue;
            }
            let strict = CastOptions { safe: false, format_options: FormatOptions::default() };
            columns.push(cast_with_options(&column, field.data_type(), &strict).map_err(|e| {
                let name = field.name();
                Error::new(
                    ErrorKind::Invalid,
                    format!("a value of \"{name}\" does not fit its new type: {e}"),
                )
            })?);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}
