//! A table at a snapshot, as a query reads it.
//!
//! ```text
//!  UnionExec
//!  ├ HotScanExec     rows that filter indexes name, where they are few; the scan below skips what those cover
//!  ├ LanceScanExec   base, or the stretches of it that filter indexes name, at the snapshot's version, minus rows that ended, minus rows that the transaction ended
//!  └ HotScanExec     hot rows that the snapshot sees, minus those the transaction ended, plus its own rows
//! ```
//!
//! Each row that the snapshot sees comes out of exactly one of the two (SNAP-2). Both evaluate conditions
//! themselves, so a condition that is taken is taken exactly. A part without rows is left out.

use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, Statistics};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use roaring::RoaringTreemap;
use triune_common::Result;
use triune_lance::LanceProvider;
use triune_lance::provider::{is_row_condition, unqualified};
use triune_lance::scalar::{MatchedRows, RowStretches};

use super::lookup::wanted_keys;
use super::version::{Snapshot, TableVersion, Visible};
use super::writes::TableWrites;
use crate::hot::{HotScanExec, VisibleBatch};
use crate::key::Keys;

/// More rows than this are quicker scanned than looked up one by one.
const MOST_FROM_INDEX: u64 = 10_000;

/// See the module's description.
#[derive(Debug, Clone)]
pub struct StoreProvider {
    /// The columns that are offered: a prefix of the stored schema.
    schema: SchemaRef,
    version: Arc<TableVersion>,
    snapshot: Snapshot,
    own: Option<Arc<TableWrites>>,
    /// What plans call it.
    name: Option<Arc<str>>,
}

impl StoreProvider {
    pub(super) fn new(
        schema: SchemaRef,
        version: Arc<TableVersion>,
        snapshot: Snapshot,
        own: Option<Arc<TableWrites>>,
    ) -> Self {
        Self { schema, version, snapshot, own: own.filter(|w| !w.is_empty()), name: None }
    }

    /// The same with a name for plans, which otherwise show the table's number.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(Arc::from(name)), ..self }
    }

    /// The definition at the snapshot.
    pub fn definition(&self) -> &Arc<crate::table::TableDef> {
        self.version.definition()
    }

    /// Hot rows that are visible, own ones included; stored schema.
    pub fn hot_rows(&self) -> Result<Vec<VisibleBatch>> {
        let truncated = self.own.as_ref().is_some_and(|w| w.truncated);
        let mut rows = Vec::new();
        if !truncated {
            for memtable in &self.version.memtables {
                rows.extend(memtable.view(self.snapshot.ts));
            }
        }
        if let Some(own) = &self.own {
            if !own.deleted.is_empty() {
                rows = rows
                    .into_iter()
                    .map(|b| self.without_deleted(&b, own))
                    .filter(|b| !b.as_ref().is_ok_and(|b| b.rows() == 0))
                    .collect::<Result<_>>()?;
            }
            rows.extend(own.live_batches()?.into_iter().map(VisibleBatch::whole));
        }
        Ok(rows)
    }

    fn without_deleted(&self, batch: &VisibleBatch, own: &TableWrites) -> Result<VisibleBatch> {
        let keys = self.version.codec.keys_of(batch.stored())?;
        let keep = BooleanBuffer::collect_bool(keys.len(), |i| {
            batch.keep().is_none_or(|k| k.value(i)) && !own.has_deleted(keys.get(i))
        });
        VisibleBatch::masked(batch.stored().clone(), keep)
    }

    /// The visible rows with these keys, wherever they are; an own row is found before one of the snapshot.
    async fn rows_of_keys(&self, keys: &Keys) -> Result<Vec<VisibleBatch>> {
        let (mut rows, mut addresses) = (Vec::new(), Vec::new());
        for key in keys.iter() {
            if let Some(place) = self.own.as_ref().and_then(|own| own.find(key)) {
                rows.extend(self.own.as_ref().map(|own| VisibleBatch::whole(own.row(place))));
                continue;
            }
            if self.own.as_ref().is_some_and(|own| own.has_deleted(key)) {
                continue;
            }
            match self.version.visible(key, self.snapshot.ts) {
                Visible::Hot(row) => rows.push(VisibleBatch::whole(row.to_batch())),
                Visible::Base(address) => addresses.push(address),
                Visible::No => {}
            }
        }
        if let Some(base) = self.version.base.as_ref().filter(|_| !addresses.is_empty()) {
            let all: Vec<usize> = (0..self.version.def.stored_schema().fields().len()).collect();
            rows.push(VisibleBatch::whole(base.fetch(&addresses, &all).await?));
        }
        Ok(rows)
    }

    /// Rows of the base by its indexes, where conditions leave few of them.
    async fn by_indexes(
        &self,
        base: Option<&Arc<LanceProvider>>,
        projection: &[usize],
        filters: &[Expr],
    ) -> Result<Option<ByIndexes>> {
        let (Some(provider), Some(base)) = (base, &self.version.base) else { return Ok(None) };
        if filters.is_empty() || !self.version.def.indexes().iter().any(|i| i.method().is_scalar()) {
            return Ok(None);
        }
        let most = (provider.rows() / 50).clamp(100, MOST_FROM_INDEX);
        let Some(found) = provider.match_indexes(filters, most).await? else { return Ok(None) };
        let names = found.indexes.join("+");
        let (matched, rest) = match found.rows {
            MatchedRows::Few { rows, rest } => (rows, rest),
            MatchedRows::Stretches(rows) => return Ok(Some(ByIndexes::Stretches(rows))),
        };
        let schema = self.version.def.stored_schema();
        let mut read: Vec<usize> = projection.to_vec();
        for filter in filters {
            for column in filter.column_refs() {
                read.push(schema.index_of(&column.name)?);
            }
        }
        read.extend((0..schema.fields().len()).filter(|c| !schema.field(*c).is_nullable()));
        read.sort_unstable();
        read.dedup();
        let rows = base.fetch(&matched, &read).await?;
        // What nobody looks at is not read.
        let whole = (0..schema.fields().len())
            .map(|c| match read.binary_search(&c) {
                Ok(place) => Arc::clone(rows.column(place)),
                Err(_) => new_null_array(schema.field(c).data_type(), rows.num_rows()),
            })
            .collect();
        let mut all = Vec::new();
        if rows.num_rows() > 0 {
            all.push(VisibleBatch::whole(RecordBatch::try_new(schema, whole)?));
        }
        Ok(Some(ByIndexes::Rows { rows: all, rest, names }))
    }

    /// The base without the rows that are not visible; `None` when no row of it is.
    pub fn base(&self) -> Result<Option<Arc<LanceProvider>>> {
        let truncated = self.own.as_ref().is_some_and(|w| w.truncated);
        let Some(base) = self.version.base.as_ref().filter(|_| !truncated) else { return Ok(None) };
        let provider = match self.own.as_ref().filter(|w| !w.deleted.is_empty()) {
            None => base.provider(self.snapshot.ts)?,
            Some(own) => {
                let mut mask = RoaringTreemap::clone(&base.mask(self.snapshot.ts));
                for key in &own.deleted {
                    if let Visible::Base(address) = self.version.visible(key.as_ref(), self.snapshot.ts) {
                        mask.insert(address);
                    }
                }
                base.unmasked().map(|p| p.with_mask(Arc::new(mask))).transpose()?
            }
        };
        Ok(provider.filter(|p| p.rows() > 0))
    }
}

/// See [`StoreProvider::by_indexes`].
enum ByIndexes {
    Rows {
        rows: Vec<VisibleBatch>,
        /// What is still to be scanned.
        rest: Option<Arc<LanceProvider>>,
        names: String,
    },
    /// What is to be scanned of the base.
    Stretches(RowStretches),
}

#[async_trait]
impl TableProvider for StoreProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let columns: Vec<usize> = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.schema.fields().len()).collect(),
        };
        let stored_schema = self.version.def.stored_schema();
        let (hot, mut base) = match wanted_keys(&self.version.codec, &stored_schema, filters) {
            Some(keys) => (self.rows_of_keys(&keys?).await?, None),
            None => (self.hot_rows()?, self.base()?),
        };
        let mut parts: Vec<Arc<dyn ExecutionPlan>> = Vec::with_capacity(3);
        let mut stretches = None;
        match self.by_indexes(base.as_ref(), &columns, filters).await? {
            Some(ByIndexes::Rows { rows, rest, names }) => {
                base = rest;
                let named = format!("{}, index={names}", self.plan_name());
                parts.extend(self.scan_of_rows(state, named, rows, &columns, filters, limit)?);
            }
            Some(ByIndexes::Stretches(rows)) => stretches = Some(rows),
            None => {}
        }
        if let Some(base) = base {
            parts.push(match stretches {
                Some(rows) => base.scan_stretches(state, &columns, filters, limit, rows)?,
                None => base.scan(state, Some(&columns), filters, limit).await?,
            });
        }
        parts.extend(self.scan_of_hot(state, hot, &columns, filters, limit)?);
        match parts.len() {
            0 => Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(&columns)?)))),
            1 => Ok(parts.remove(0)),
            _ => UnionExec::try_new(parts),
        }
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        filters
            .iter()
            .map(|f| {
                Ok(if is_row_condition(f)? {
                    TableProviderFilterPushDown::Exact
                } else {
                    TableProviderFilterPushDown::Unsupported
                })
            })
            .collect()
    }

    fn statistics(&self) -> Option<Statistics> {
        let hot: usize = self.hot_rows().ok()?.iter().map(VisibleBatch::rows).sum();
        let base = self.base().ok()?.map_or(0, |b| b.rows());
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = Precision::Exact(hot + usize::try_from(base).ok()?);
        Some(statistics)
    }
}

/// For searches, which find the rows of the base in another way than by a scan.
impl StoreProvider {
    /// A scan of the hot rows that are visible, own ones included, and meet all conditions: what [`Self::base`]
    /// does not have. `None` when there are none. The conditions are applied exactly.
    ///
    /// Errors: those of turning the conditions into operators.
    pub fn scan_hot(
        &self,
        state: &dyn Session,
        columns: &[usize],
        filters: &[Expr],
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        self.scan_of_hot(state, self.hot_rows()?, columns, filters, None)
    }

    /// Whether the conditions name the keys of the rows, which a scan looks up one by one.
    pub fn names_keys(&self, filters: &[Expr]) -> bool {
        wanted_keys(&self.version.codec, &self.version.def.stored_schema(), filters).is_some()
    }

    fn scan_of_hot(
        &self,
        state: &dyn Session,
        hot: Vec<VisibleBatch>,
        columns: &[usize],
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        self.scan_of_rows(state, self.plan_name(), hot, columns, filters, limit)
    }

    /// What plans call it.
    fn plan_name(&self) -> String {
        self.name.as_ref().map_or_else(|| self.version.def.id.to_string(), ToString::to_string)
    }

    fn scan_of_rows(
        &self,
        state: &dyn Session,
        name: String,
        rows: Vec<VisibleBatch>,
        columns: &[usize],
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        if rows.is_empty() {
            return Ok(None);
        }
        let stored = self.version.def.stored_schema();
        let schema = DFSchema::try_from(Arc::clone(&stored))?;
        let filters = filters
            .iter()
            .map(|f| state.create_physical_expr(unqualified(f)?, &schema))
            .collect::<DfResult<Vec<_>>>()?;
        let partitions = state.config().target_partitions();
        let exec = HotScanExec::try_new(name, stored, rows, columns.to_vec(), filters, limit, partitions);
        Ok(Some(Arc::new(exec.map_err(DataFusionError::from)?)))
    }
}

/// Keys of a batch's rows, for callers that have a provider only.
impl StoreProvider {
    pub fn keys_of(&self, stored: &RecordBatch) -> Result<Keys> {
        self.version.codec.keys_of(stored)
    }
}
