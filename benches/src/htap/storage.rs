//! The tables below SQL: what the storage itself takes, so that the rest is what statements cost.

use std::path::Path;
use std::sync::Arc;

use datafusion::common::runtime::JoinSet;
use datafusion::prelude::{SessionConfig, SessionContext};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use triune_common::{Clock, Error, Result, SystemClock, SystemRng};
use triune_lance::{LanceCaches, LanceStore, NoOptions};
use triune_storage::fs::RealFs;
use triune_storage::key::Keys as RowKeys;
use triune_storage::stamp::{CommitTs, TableId};
use triune_storage::store::{Limits, Store, StoreOptions};
use triune_storage::table::{ColumnDef, TableDef, TableOptions};

use super::sql::Keys;
use super::work::{BATCH, Clients, Work, median};
use super::{AGGREGATE, rows};

const TABLE: TableId = TableId(1);

/// A store of its own beside the database.
pub(crate) struct Storage {
    store: Arc<Store>,
    clock: SystemClock,
    rows: i64,
    threads: usize,
}

fn definition() -> TableDef {
    let columns = rows::fields().into_iter().zip(1..).map(|(field, id)| ColumnDef {
        id,
        field,
        default: None,
        identity: None,
        generated: None,
        comment: None,
    });
    TableDef {
        id: TABLE,
        revision: 1,
        columns: columns.collect(),
        primary_key: vec!["id".to_owned()],
        checks: vec![],
        cluster_by: vec![],
        comment: None,
        options: TableOptions { retention_seconds: 0 },
        last_column: 5,
        indexes: vec![],
        index_revision: 0,
        created: CommitTs::ZERO,
    }
}

fn key(id: i64) -> u64 {
    id.cast_unsigned() ^ (1 << 63)
}

async fn upsert(store: &Arc<Store>, ids: &[i64], tenant: i64) -> Result<()> {
    let transaction = store.begin();
    transaction.upsert(TABLE, rows::fresh(ids, tenant)?).await?;
    transaction.commit(true).await.map(drop)
}

impl Storage {
    pub(crate) async fn load(folder: &Path, parquet: &Path, rows: u64, threads: usize) -> Result<Self> {
        let folder = folder.join("storage");
        let failed = |e: &dyn std::fmt::Display| Error::data(format!("{}: {e}", folder.display()));
        std::fs::create_dir_all(&folder).map_err(|e| failed(&e))?;
        let store = Store::open(StoreOptions {
            fs: Arc::new(RealFs),
            folder: folder.clone(),
            lance: LanceStore::new(LanceCaches::default(), Arc::new(NoOptions)),
            clock: Arc::new(SystemClock::new()),
            rng: Arc::new(SystemRng::new()),
            definitions: vec![definition()],
            limits: Limits::default(),
            thread: true,
        })
        .await?;
        let file = std::fs::File::open(parquet).map_err(|e| failed(&e))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| failed(&e))?;
        let transaction = store.begin();
        for batch in reader.with_batch_size(16_384).build().map_err(|e| failed(&e))? {
            transaction.insert(TABLE, batch?).await?;
        }
        transaction.commit(true).await?;
        store.checkpoint().await?;
        Ok(Self { store, clock: SystemClock::new(), rows: rows.cast_signed(), threads })
    }

    pub(crate) async fn run(&self, work: Work, seconds: f64) -> Result<Value> {
        let mut keys = Keys::new(9, self.rows);
        match work {
            Work::Upsert(1) => {
                self.loop_for(seconds, async || upsert(&self.store, &[keys.one()], 7).await).await
            }
            Work::Upsert(clients) => {
                let writers = self.writers(clients);
                tokio::time::sleep(std::time::Duration::from_secs_f64(seconds)).await;
                Ok(json!({ "per_second": writers.stop().await? }))
            }
            Work::Batches | Work::BatchesOneByOne => {
                self.loop_for(seconds, async || upsert(&self.store, &keys.many(BATCH), 7).await).await
            }
            Work::Read => {
                self.loop_for(seconds, async || {
                    let found = self.store.begin().get(TABLE, &RowKeys::Ints(vec![key(keys.one())])).await?;
                    match found.num_rows() {
                        1 => Ok(()),
                        n => Err(Error::internal(format!("{n} rows with one key"))),
                    }
                })
                .await
            }
            Work::Aggregate => Ok(json!({ "p50_ms": self.aggregate(seconds).await? })),
            Work::Mixed(clients) => {
                let writers = self.writers(clients);
                let p50 = self.aggregate(seconds).await?;
                Ok(json!({ "p50_ms": p50, "per_second": writers.stop().await? }))
            }
            Work::Visible(runs) => {
                let mut times = Vec::new();
                for i in 0..runs as i64 {
                    upsert(&self.store, &[i], -1 - i).await?;
                    let start = self.clock.elapsed();
                    self.store.begin().get(TABLE, &RowKeys::Ints(vec![key(i)])).await?;
                    times.push((self.clock.elapsed() - start).as_secs_f64() * 1e3);
                }
                Ok(json!({ "p50_ms": median(times) }))
            }
            Work::Frontier(..) => Err(Error::internal("the frontier is measured through SQL")),
        }
    }

    async fn loop_for(&self, seconds: f64, mut step: impl AsyncFnMut() -> Result<()>) -> Result<Value> {
        let start = self.clock.elapsed();
        while (self.clock.elapsed() - start).as_secs_f64() < 0.2 {
            step().await?;
        }
        let start = self.clock.elapsed();
        let mut n = 0_u32;
        loop {
            step().await?;
            n += 1;
            let taken = (self.clock.elapsed() - start).as_secs_f64();
            if taken >= seconds {
                return Ok(json!({ "per_second": f64::from(n) / taken }));
            }
        }
    }

    fn writers(&self, clients: usize) -> Clients {
        let mut tasks = JoinSet::new();
        let counter = Clients::counter();
        for client in 0..clients {
            let mut keys = Keys::new(100 + client as u64, self.rows);
            let (store, counter) = (Arc::clone(&self.store), Arc::clone(&counter));
            tasks.spawn(async move {
                while counter.goes_on() {
                    match upsert(&store, &[keys.one()], 7).await {
                        Ok(()) => counter.done(),
                        // Two of them met at one key; a user runs it again.
                        Err(e) if e.kind() == triune_common::ErrorKind::Conflict => {}
                        Err(e) => return Err(e),
                    }
                }
                Ok(())
            });
        }
        Clients::new(tasks, counter)
    }

    async fn aggregate(&self, seconds: f64) -> Result<f64> {
        let mut times = Vec::new();
        let begun = self.clock.elapsed();
        while times.len() < 3 || (self.clock.elapsed() - begun).as_secs_f64() < seconds {
            let start = self.clock.elapsed();
            let config = SessionConfig::new().with_target_partitions(self.threads);
            let context = SessionContext::new_with_config(config);
            context.register_table("bench", self.store.begin().provider(TABLE)?)?;
            aggregate(&context).await?;
            times.push((self.clock.elapsed() - start).as_secs_f64() * 1e3);
        }
        Ok(median(times))
    }
}

#[expect(clippy::disallowed_methods, reason = "the storage without what Triune's sessions add")]
async fn aggregate(context: &SessionContext) -> Result<()> {
    context.sql(AGGREGATE).await?.collect().await?;
    Ok(())
}
