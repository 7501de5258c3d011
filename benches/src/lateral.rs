//! Searches for each row of another relation beside as many single searches.
//!
//! A table of a database folder, its rows on disk, is searched exactly: once per statement, and by one statement for all.

use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use serde_json::{Value, json};
use triune_common::{Clock, Error, Result, SystemClock};
use triune_query::{Database, Session};

/// Rows that each search finds.
const K: i64 = 10;

async fn number(session: &Session, sql: &str) -> Result<i64> {
    let batches = session.execute(sql).await?.collect().await?;
    let value = batches
        .iter()
        .find(|b| b.num_rows() > 0)
        .and_then(|b| b.column(0).as_primitive_opt::<Int64Type>().map(|column| column.value(0)));
    value.ok_or_else(|| Error::internal(format!("{sql} gave no number")))
}

/// Searches the documents of `folder`, which `data` wrote, by the vectors of `queries` of them, and one by one by those
/// of `singles`. The table is made anew in `folder/lateral`.
pub(crate) async fn run(folder: &Path, queries: u32, singles: u32) -> Result<Value> {
    let place = folder.join("lateral");
    if place.exists() {
        std::fs::remove_dir_all(&place).map_err(|e| Error::invalid(format!("{}: {e}", place.display())))?;
    }
    let database = Database::open(Some(&place.display().to_string())).await?;
    let session = database.session();
    let source = folder.join("docs.parquet").display().to_string();
    session
        .execute(&format!("CREATE TABLE docs AS SELECT id, embedding FROM '{source}'"))
        .await?
        .collect()
        .await?;
    session.execute("CHECKPOINT").await?.collect().await?;
    let rows = number(&session, "SELECT count(*) FROM docs").await?;

    let clock = SystemClock::new();
    for id in 1..=singles {
        let sql = format!(
            "SELECT count(*) FROM vector_search(docs, embedding, (SELECT embedding FROM docs WHERE id = {id}), \
             k => {K}, exact => true)"
        );
        number(&session, &sql).await?;
    }
    let single = f64::from(singles) / clock.elapsed().as_secs_f64();
    let clock = SystemClock::new();
    let sql = format!(
        "SELECT count(v.id) FROM (SELECT embedding FROM docs WHERE id <= {queries}) q \
         CROSS JOIN LATERAL vector_search(docs, embedding, q.embedding, k => {K}) v"
    );
    let found = number(&session, &sql).await?;
    let seconds = clock.elapsed().as_secs_f64();
    let asked = rows.min(i64::from(queries));
    if found != asked * K.min(rows) {
        return Err(Error::data(format!("{asked} searches for {K} of {rows} rows found {found}")));
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let per_row = asked as f64 / seconds;
    Ok(json!({
        "rows": rows, "queries": asked, "single_per_second": single, "lateral_per_second": per_row,
        "times": per_row / single,
    }))
}
