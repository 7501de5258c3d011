//! Bulk inserts beside DuckDB; what hot rows add to an aggregate; how much room a table takes.

use std::path::Path;

use serde_json::{Value, json};
use triune_common::{Clock, Result, SystemClock};
use triune_query::{Database, Params};

use super::peers::Peer;
use super::sql::Sql;
use super::{len, rows};
use crate::data;

/// The aggregate over the checkpointed table, and the same with one row in a hundred hot.
pub(crate) async fn hot_share(sql: &Sql, rows: u64, seconds: f64) -> Result<Value> {
    let session = sql.session().await?;
    session.execute("CHECKPOINT").await?;
    session.execute("OPTIMIZE bench").await?;
    let cold = sql.aggregate(seconds).await?;
    let statement = "UPDATE bench SET tenant = tenant WHERE id % 100 = 7";
    session.execute(statement).await?;
    let hot = sql.aggregate(seconds).await?;
    // Once more in the other order, so that a drift of the machine shows.
    session.execute("CHECKPOINT").await?;
    session.execute("OPTIMIZE bench").await?;
    let again = sql.aggregate(seconds).await?;
    Ok(json!({ "hot_rows": rows / 100, "cold_ms": cold, "hot_ms": hot, "cold_again_ms": again,
               "ratio": hot / cold.min(again) }))
}

/// The folder after OPTIMIZE and VACUUM beside a Parquet file of the same rows.
pub(crate) async fn space(sql: &Sql, folder: &Path) -> Result<Value> {
    let session = sql.session().await?;
    for statement in ["CHECKPOINT", "OPTIMIZE bench", "VACUUM bench", "CHECKPOINT"] {
        session.execute(statement).await?;
    }
    let (all, keys) = sql.bytes()?;
    let export = folder.join("export.parquet");
    let copy = format!("COPY bench TO '{}' (COMPRESSION 'zstd(3)')", export.display());
    session.execute(&copy).await?;
    let parquet = len(&export)?;
    Ok(json!({ "folder_bytes": all, "of_these_key_files": keys, "parquet_zstd_bytes": parquet,
               "ratio_without_keys": (all - keys) as f64 / parquet as f64 }))
}

/// Rows per second of one INSERT from a Parquet file, durable at the end, in a fresh table.
pub(crate) async fn insert(
    folder: &Path,
    n: u64,
    vectors: bool,
    threads: usize,
    mut duckdb: Option<&mut Peer>,
) -> Result<Value> {
    let name = if vectors { "docs" } else { "events" };
    let parquet = folder.join(format!("{name}.parquet"));
    let (columns, dims) = if vectors {
        data::documents(&parquet, n, 384)?;
        ("id BIGINT, lang VARCHAR, title VARCHAR", Some(384))
    } else {
        rows::wide(&parquet, n)?;
        let columns = "id BIGINT, ts TIMESTAMP, user_id BIGINT, kind VARCHAR, price DOUBLE, n INTEGER, \
                       page VARCHAR, flag INTEGER";
        (columns, None)
    };
    let clock = SystemClock::new();
    let mut figures = json!({ "table": name, "rows": n });
    let mut triune = Vec::new();
    let mut theirs = Vec::new();
    for round in 0..2 {
        let place = folder.join(format!("{name}-{round}.db"));
        let database = Database::open(Some(&place.display().to_string())).await?;
        let session = database.session();
        session.execute(&format!("SET datafusion.execution.target_partitions = {threads}")).await?;
        let vector = dims.map_or(String::new(), |d| format!(", embedding VECTOR({d})"));
        let create = format!("CREATE TABLE {name} ({columns}{vector})").replace("TIMESTAMP", "TIMESTAMP(6)");
        session.execute(&create).await?;
        let insert = format!("INSERT INTO {name} SELECT * FROM '{}'", parquet.display());
        let start = clock.elapsed();
        session.execute_with(&insert, &Params::None).await?;
        triune.push((clock.elapsed() - start).as_secs_f64());
        let (_, vacant) = (session, database);
        drop(vacant);
        let _ = std::fs::remove_dir_all(&place);
        if let Some(duckdb) = &mut duckdb {
            let vector = dims.map_or(String::new(), |d| format!(", embedding FLOAT[{d}]"));
            let create = format!("CREATE TABLE {name} ({columns}{vector})");
            let ask = json!({ "do": "bulk", "table": name, "create": create, "parquet": parquet });
            theirs.push(duckdb.ask(&ask)?);
        }
    }
    let best = |all: Vec<f64>| all.into_iter().fold(f64::INFINITY, f64::min);
    let seconds = best(triune.clone());
    figures["triune"] = json!({ "seconds": triune, "rows_per_second": n as f64 / seconds });
    if !theirs.is_empty() {
        let seconds = |f: &Value| f["seconds"].as_f64().unwrap_or(f64::NAN);
        let duckdb = best(theirs.iter().map(seconds).collect());
        figures["duckdb"] = json!({ "runs": theirs, "rows_per_second": n as f64 / duckdb });
    }
    Ok(figures)
}
