//! A store in a scratch folder with a table `t (id BIGINT PRIMARY KEY, v BIGINT, s TEXT)` and one without a key.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use tempfile::TempDir;
use triune_common::{Clock, ManualClock};
use triune_lance::{LanceCaches, LanceStore, NoOptions};
use triune_storage::fs::{RealFs, StorageFs};
use triune_storage::key::Keys;
use triune_storage::stamp::{CommitTs, TableId};
use triune_storage::store::{Limits, Store, StoreOptions, Transaction};
use triune_storage::table::{ColumnDef, TableDef, TableOptions};

pub(crate) const KEYED: TableId = TableId(1);
pub(crate) const PLAIN: TableId = TableId(2);

pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) fs: Arc<dyn StorageFs>,
    /// `false`: commits are handled by whoever makes them.
    pub(crate) thread: bool,
    pub(crate) limits: Limits,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self {
            folder,
            clock: Arc::new(ManualClock::default()),
            fs: Arc::new(RealFs),
            thread: true,
            limits: Limits::default(),
        }
    }

    pub(crate) async fn open(&self) -> Arc<Store> {
        self.try_open().await.expect("the store opens")
    }

    pub(crate) async fn try_open(&self) -> triune_common::Result<Arc<Store>> {
        Store::open(self.options()).await
    }

    /// As another process would open it.
    pub(crate) async fn open_read_only(&self) -> Arc<Store> {
        Store::open_read_only(self.options()).await.expect("the store opens for reading")
    }

    fn options(&self) -> StoreOptions {
        StoreOptions {
            fs: Arc::clone(&self.fs),
            folder: self.folder.path().to_owned(),
            lance: LanceStore::new(LanceCaches::default(), Arc::new(NoOptions)),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            rng: Arc::new(triune_common::SystemRng::new()),
            definitions: vec![definition(KEYED, &["id"]), definition(PLAIN, &[])],
            limits: self.limits,
            thread: self.thread,
        }
    }

    /// Limits under which the keeper finds something to do at every look.
    pub(crate) fn busy() -> Limits {
        let grace = std::time::Duration::ZERO;
        Limits { small_fragments: 2, deleted_share: 0.01, reader_grace: grace, ..Limits::default() }
    }

    /// A new store with both tables.
    pub(crate) async fn create() -> (Self, Arc<Store>) {
        let place = Self::new();
        let store = place.open().await;
        (place, store)
    }
}

pub(crate) fn definition(id: TableId, key: &[&str]) -> TableDef {
    let column = |id, name: &str, data_type, nullable| ColumnDef {
        id,
        field: Field::new(name, data_type, nullable),
        default: None,
        identity: None,
        generated: None,
        comment: None,
    };
    TableDef {
        id,
        revision: 1,
        columns: vec![
            column(1, "id", DataType::Int64, key.is_empty()),
            column(2, "v", DataType::Int64, true),
            column(3, "s", DataType::Utf8, true),
        ],
        primary_key: key.iter().map(|k| (*k).to_owned()).collect(),
        checks: vec![],
        cluster_by: vec![],
        comment: None,
        // The manual clock stands still: everything is within the retention.
        options: TableOptions { retention_seconds: 3600 },
        last_column: 3,
        indexes: vec![],
        index_revision: 0,
        created: CommitTs::ZERO,
    }
}

/// Rows of the user's schema; `s` is made from `v`.
pub(crate) fn rows(table: TableId, rows: &[(i64, i64)]) -> RecordBatch {
    let def = definition(table, if table == KEYED { &["id"] } else { &[] });
    let ids = Int64Array::from_iter_values(rows.iter().map(|r| r.0));
    let values = Int64Array::from_iter_values(rows.iter().map(|r| r.1));
    let texts = StringArray::from_iter_values(rows.iter().map(|r| format!("s{}", r.1)));
    RecordBatch::try_new(def.schema(), vec![Arc::new(ids), Arc::new(values), Arc::new(texts)]).expect("rows")
}

pub(crate) fn keys(ids: &[i64]) -> Keys {
    Keys::Ints(ids.iter().map(|i| i.cast_unsigned() ^ (1 << 63)).collect())
}

/// All rows that a provider gives, by id: how often, and with which value.
pub(crate) async fn read(provider: Arc<dyn TableProvider>) -> BTreeMap<i64, Vec<i64>> {
    let context = SessionContext::new();
    let batches = context.read_table(provider).expect("a table").collect().await.expect("rows");
    let mut found: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for batch in batches {
        let ids = batch.column_by_name("id").expect("id").as_primitive::<Int64Type>().clone();
        let values = batch.column_by_name("v").expect("v").as_primitive::<Int64Type>().clone();
        let texts = batch.column_by_name("s").expect("s").as_string::<i32>().clone();
        for i in 0..batch.num_rows() {
            assert_eq!(texts.value(i), format!("s{}", values.value(i)));
            found.entry(ids.value(i)).or_default().push(values.value(i));
        }
    }
    for values in found.values_mut() {
        values.sort_unstable();
    }
    found
}

pub(crate) async fn visible(store: &Arc<Store>, table: TableId) -> BTreeMap<i64, Vec<i64>> {
    read(store.begin().provider(table).expect("a provider")).await
}

pub(crate) async fn seen(transaction: &Transaction, table: TableId) -> BTreeMap<i64, Vec<i64>> {
    read(transaction.provider(table).expect("a provider")).await
}

/// `_rid` of each row by id, for tables without a key.
pub(crate) async fn row_ids(transaction: &Transaction, table: TableId) -> HashMap<i64, Vec<u64>> {
    let provider = transaction.provider_with_key(table).expect("a provider");
    let batches = SessionContext::new().read_table(provider).expect("t").collect().await.expect("rows");
    let mut found: HashMap<i64, Vec<u64>> = HashMap::new();
    for batch in batches {
        let ids = batch.column_by_name("id").expect("id").as_primitive::<Int64Type>().clone();
        let rids = batch
            .column_by_name("_rid")
            .expect("_rid")
            .as_primitive::<arrow::datatypes::UInt64Type>()
            .clone();
        for i in 0..batch.num_rows() {
            found.entry(ids.value(i)).or_default().push(rids.value(i));
        }
    }
    found
}

pub(crate) fn one(id: i64, v: i64) -> BTreeMap<i64, Vec<i64>> {
    [(id, vec![v])].into()
}
