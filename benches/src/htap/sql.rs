//! Triune as a user drives it: statements with parameters through sessions, in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::common::runtime::JoinSet;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use triune_common::{Clock, Error, Result, SystemClock};
use triune_query::{Database, Params, Session};

use super::work::{BATCH, Clients, Work, joined, median};
use super::{AGGREGATE, rows};

const UPSERT: &str = "INSERT INTO bench VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO UPDATE SET ts = excluded.ts, \
                      tenant = excluded.tenant, body = excluded.body, embedding = excluded.embedding";
const READ: &str = "SELECT * FROM bench WHERE id = $1";

/// A database in a folder.
pub(crate) struct Sql {
    database: Arc<Database>,
    clock: SystemClock,
    rows: i64,
    threads: usize,
    folder: PathBuf,
}

impl Sql {
    /// Makes the table and fills it from the Parquet file.
    pub(crate) async fn load(folder: &Path, parquet: &Path, rows: u64, threads: usize) -> Result<Self> {
        let folder = folder.join("triune.db");
        let database = Database::open(Some(&folder.display().to_string())).await?;
        let this = Self { database, clock: SystemClock::new(), rows: rows.cast_signed(), threads, folder };
        let session = this.session().await?;
        session
            .execute(&format!(
                "CREATE TABLE bench (id BIGINT PRIMARY KEY, ts TIMESTAMP(6), tenant BIGINT, body VARCHAR, \
                 embedding VECTOR({}))",
                rows::DIMS
            ))
            .await?;
        session.execute(&format!("COPY bench FROM '{}'", parquet.display())).await?;
        session.execute("CHECKPOINT").await?;
        Ok(this)
    }

    pub(crate) async fn session(&self) -> Result<Session> {
        let session = self.database.session();
        session.execute(&format!("SET datafusion.execution.target_partitions = {}", self.threads)).await?;
        Ok(session)
    }

    pub(crate) async fn run(&self, work: Work, seconds: f64) -> Result<Value> {
        match work {
            Work::Upsert(1) => {
                let session = self.session().await?;
                let mut keys = Keys::new(1, self.rows);
                self.loop_for(seconds, async || upsert(&session, keys.one(), 7).await).await
            }
            Work::Upsert(clients) => {
                let writers = self.writers(clients).await?;
                tokio::time::sleep(std::time::Duration::from_secs_f64(seconds)).await;
                Ok(json!({ "per_second": writers.stop().await? }))
            }
            Work::Batches => {
                let session = self.session().await?;
                let sql = many_rows();
                let mut keys = Keys::new(3, self.rows);
                self.loop_for(seconds, async || {
                    let mut values = Vec::with_capacity(BATCH * 5);
                    for id in keys.many(BATCH) {
                        values.extend(rows::values(id, 7));
                    }
                    session.execute_with(&sql, &Params::Positional(values)).await.map(drop)
                })
                .await
            }
            Work::BatchesOneByOne => {
                let session = self.session().await?;
                let mut keys = Keys::new(4, self.rows);
                self.loop_for(seconds, async || {
                    session.execute("BEGIN").await?;
                    for id in keys.many(BATCH) {
                        upsert(&session, id, 7).await?;
                    }
                    session.execute("COMMIT").await.map(drop)
                })
                .await
            }
            Work::Read => {
                let session = self.session().await?;
                let mut keys = Keys::new(5, self.rows);
                self.loop_for(seconds, async || {
                    let key = Params::Positional(vec![ScalarValue::Int64(Some(keys.one()))]);
                    let found = session.execute_with(READ, &key).await?.collect().await?;
                    let n: usize = found.iter().map(|b| b.num_rows()).sum();
                    if n == 1 { Ok(()) } else { Err(Error::internal(format!("{n} rows with one key"))) }
                })
                .await
            }
            Work::Aggregate => {
                let p50 = self.aggregate(seconds).await?;
                Ok(json!({ "p50_ms": p50 }))
            }
            Work::Mixed(clients) => {
                let session = self.session().await?;
                session.execute(AGGREGATE).await?.collect().await?;
                let writers = self.writers(clients).await?;
                let p50 = self.aggregate(seconds).await?;
                Ok(json!({ "p50_ms": p50, "per_second": writers.stop().await? }))
            }
            Work::Visible(runs) => self.visible(runs).await,
            Work::Frontier(writers, analysts) => {
                let writers = self.writers(writers).await?;
                let analysts = self.analysts(analysts).await?;
                tokio::time::sleep(std::time::Duration::from_secs_f64(seconds)).await;
                // Counted at once, before either waits for the last of its tasks.
                let (commits, queries) = (writers.rate(), analysts.rate());
                writers.stop().await?;
                analysts.stop().await?;
                Ok(json!({ "per_second": commits, "queries_per_second": queries }))
            }
        }
    }

    /// Runs again and again for so long; times per second.
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

    async fn writers(&self, clients: usize) -> Result<Clients> {
        let mut tasks = JoinSet::new();
        let counter = Clients::counter();
        for client in 0..clients {
            let session = self.session().await?;
            let mut keys = Keys::new(100 + client as u64, self.rows);
            let counter = Arc::clone(&counter);
            tasks.spawn(async move {
                while counter.goes_on() {
                    upsert(&session, keys.one(), 7).await?;
                    counter.done();
                }
                Ok(())
            });
        }
        Ok(Clients::new(tasks, counter))
    }

    async fn analysts(&self, clients: usize) -> Result<Clients> {
        let mut tasks = JoinSet::new();
        let counter = Clients::counter();
        for _ in 0..clients {
            let session = self.session().await?;
            let counter = Arc::clone(&counter);
            tasks.spawn(async move {
                while counter.goes_on() {
                    session.execute(AGGREGATE).await?.collect().await?;
                    counter.done();
                }
                Ok(())
            });
        }
        Ok(Clients::new(tasks, counter))
    }

    /// The median time of the aggregate, in ms.
    pub(crate) async fn aggregate(&self, seconds: f64) -> Result<f64> {
        let session = self.session().await?;
        session.execute(AGGREGATE).await?.collect().await?;
        let mut times = Vec::new();
        let begun = self.clock.elapsed();
        while times.len() < 3 || (self.clock.elapsed() - begun).as_secs_f64() < seconds {
            let start = self.clock.elapsed();
            session.execute(AGGREGATE).await?.collect().await?;
            times.push((self.clock.elapsed() - start).as_secs_f64() * 1e3);
        }
        Ok(median(times))
    }

    /// From a commit's return to when another session has read it.
    async fn visible(&self, runs: usize) -> Result<Value> {
        let (one, other) = (self.session().await?, self.session().await?);
        let mut times = Vec::new();
        let mut late = 0;
        for i in 0..runs as i64 {
            upsert(&one, i, -1 - i).await?;
            let start = self.clock.elapsed();
            loop {
                let key = Params::Positional(vec![ScalarValue::Int64(Some(i))]);
                let sql = "SELECT tenant FROM bench WHERE id = $1";
                let found = other.execute_with(sql, &key).await?.collect().await?;
                let tenant =
                    found.first().map(|b| ScalarValue::try_from_array(b.column(0), 0)).transpose()?;
                if tenant == Some(ScalarValue::Int64(Some(-1 - i))) {
                    break;
                }
                late += 1;
            }
            times.push((self.clock.elapsed() - start).as_secs_f64() * 1e3);
        }
        Ok(json!({ "p50_ms": median(times), "reads_that_missed_it": late }))
    }

    /// Bytes of the table's files, and of those the key files.
    pub(crate) fn bytes(&self) -> Result<(u64, u64)> {
        joined(&self.folder)
    }
}

/// `INSERT … VALUES` of a whole batch in one statement.
fn many_rows() -> String {
    let row = |i: usize| {
        let p = i * 5;
        format!("(${}, ${}, ${}, ${}, ${})", p + 1, p + 2, p + 3, p + 4, p + 5)
    };
    let all: Vec<String> = (0..BATCH).map(row).collect();
    UPSERT.replace("($1, $2, $3, $4, $5)", &all.join(", "))
}

async fn upsert(session: &Session, id: i64, tenant: i64) -> Result<()> {
    session.execute_with(UPSERT, &Params::Positional(rows::values(id, tenant))).await.map(drop)
}

/// Random keys, each client its own.
pub(crate) struct Keys {
    rng: ChaCha8Rng,
    below: i64,
}

impl Keys {
    pub(crate) fn new(seed: u64, below: i64) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), below }
    }

    pub(crate) fn one(&mut self) -> i64 {
        self.rng.random_range(0..self.below)
    }

    /// Different ones.
    pub(crate) fn many(&mut self, n: usize) -> Vec<i64> {
        let mut all = std::collections::BTreeSet::new();
        while all.len() < n {
            all.insert(self.one());
        }
        all.into_iter().collect()
    }
}
