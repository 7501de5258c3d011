//! The engines behind one call: a text in, rows of numbers and the time they took out.
//!
//! Triune and DataFusion run inside this process, on one runtime with as many threads as asked for; DuckDB in a
//! Python process beside it, with as many. Only one of them works at a time.

mod duckdb;

use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use triune_common::{Clock, Error, Result, SystemClock};
use triune_query::{Database, Params, Session};

use crate::statements::{Engine, Lane};
use duckdb::DuckDb;

/// Rows of numbers; times of day are microseconds since 1970.
pub(crate) type Rows = Vec<Vec<f64>>;

/// The query vector is that of this document.
pub(crate) const QUERY_ID: u64 = 77;

/// All engines over the data of one folder.
pub(crate) struct Engines {
    folder: String,
    clock: SystemClock,
    session: Session,
    query: ScalarValue,
    datafusion: Option<SessionContext>,
    duckdb: Option<DuckDb>,
}

impl Engines {
    /// Triune alone.
    pub(crate) async fn triune(folder: &Path, threads: usize) -> Result<Self> {
        let session = Database::open(None).await?.session();
        session.execute(&format!("SET datafusion.execution.target_partitions = {threads}")).await?;
        let folder = folder.display().to_string();
        let sql = format!("SELECT embedding FROM '{folder}/docs.parquet' WHERE id = {QUERY_ID}");
        let found = session.execute(&sql).await?.collect().await?;
        let batch = found
            .iter()
            .find(|b| b.num_rows() > 0)
            .ok_or_else(|| Error::not_found(format!("document {QUERY_ID}")))?;
        let query = ScalarValue::try_from_array(batch.column(0), 0)?;
        Ok(Self { folder, clock: SystemClock::new(), session, query, datafusion: None, duckdb: None })
    }

    /// Triune, DataFusion as it comes, and DuckDB; the last makes its own tables of the files the first time.
    pub(crate) async fn all(folder: &Path, threads: usize, python: &Path) -> Result<Self> {
        let mut engines = Self::triune(folder, threads).await?;
        let config = SessionConfig::new().with_target_partitions(threads);
        let context = SessionContext::new_with_config(config);
        for table in ["docs", "events"] {
            let path = format!("{}/{table}.parquet", engines.folder);
            context.register_parquet(table, path, ParquetReadOptions::default()).await?;
        }
        engines.datafusion = Some(context);
        engines.duckdb = Some(DuckDb::start(python, folder, threads, QUERY_ID)?);
        Ok(engines)
    }

    pub(crate) fn duckdb_version(&self) -> Option<&str> {
        self.duckdb.as_ref().map(DuckDb::version)
    }

    /// Milliseconds and rows of one run.
    pub(crate) async fn run(&mut self, lane: Lane) -> Result<(f64, Rows)> {
        let sql = lane.sql.replace("{f}", &self.folder);
        match lane.engine {
            Engine::DuckDb => match &mut self.duckdb {
                Some(duckdb) => duckdb.run(&sql),
                None => Err(Error::internal("DuckDB was not started")),
            },
            Engine::Triune => {
                let params = match sql.contains("$1") {
                    true => Params::Positional(vec![self.query.clone()]),
                    false => Params::None,
                };
                let start = self.clock.elapsed();
                let batches = self.session.execute_with(&sql, &params).await?.collect().await?;
                Ok(((self.clock.elapsed() - start).as_secs_f64() * 1e3, rows(&batches)?))
            }
            Engine::DataFusion => {
                let Some(context) = &self.datafusion else {
                    return Err(Error::internal("DataFusion was not started"));
                };
                let sql = sql.replace("$1", &self.query_text());
                let start = self.clock.elapsed();
                let batches = datafusions_own(context, &sql).await?;
                Ok(((self.clock.elapsed() - start).as_secs_f64() * 1e3, rows(&batches)?))
            }
        }
    }

    /// The query vector as `[0.1, …]`.
    pub(crate) fn query_text(&self) -> String {
        let values = match &self.query {
            ScalarValue::FixedSizeList(list) => cast(list.values(), &DataType::Float64).ok(),
            _ => None,
        };
        let texts: Vec<String> = values
            .iter()
            .flat_map(|v| v.as_primitive::<Float64Type>().values().iter())
            .map(|x| format!("{x:?}"))
            .collect();
        format!("[{}]", texts.join(", "))
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the engine that is compared with, as it comes")]
async fn datafusions_own(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    Ok(context.sql(sql).await?.collect().await?)
}

fn rows(batches: &[RecordBatch]) -> Result<Rows> {
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch
            .columns()
            .iter()
            .map(|column| {
                let column = match column.data_type() {
                    DataType::Timestamp(_, _) => {
                        let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
                        let micros = cast(&micros, &DataType::Int64)?;
                        return Ok(micros
                            .as_primitive::<Int64Type>()
                            .values()
                            .iter()
                            .map(|v| *v as f64)
                            .collect());
                    }
                    _ => cast(column, &DataType::Float64)?,
                };
                Ok(column.as_primitive::<Float64Type>().values().to_vec())
            })
            .collect::<Result<Vec<Vec<f64>>>>()?;
        rows.extend((0..batch.num_rows()).map(|i| columns.iter().map(|c| c[i]).collect::<Vec<_>>()));
    }
    Ok(rows)
}
