//! Parquet files that are cut into pieces: where, where not, and that no row is lost or read twice.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::prelude::SessionConfig;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use triune_files::FileKind;

use crate::support::Fixture;

/// Large enough to be cut; four row groups, the last a short one.
const ROWS: i64 = 330_000;
const GROUP: usize = 100_000;

/// `ts` grows by a second per row, `k` jumps about, `v` has NULLs, `name` is text.
fn batch(from: i64, unit: TimeUnit) -> RecordBatch {
    let all = from..from + ROWS;
    let ts = TimestampMicrosecondArray::from_iter_values(all.clone().map(|i| i * 1_000_000));
    let columns: [(&str, ArrayRef); 4] = [
        ("ts", cast(&ts, &DataType::Timestamp(unit, None)).unwrap()),
        ("k", Arc::new(Int64Array::from_iter_values(all.clone().map(|i| i * 7919 % 1009)))),
        ("v", Arc::new(Float64Array::from_iter(all.clone().map(|i| (i % 11 > 0).then_some(i as f64 / 8.0))))),
        ("name", Arc::new(StringArray::from_iter_values(all.map(|i| format!("row {i:07}"))))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(GROUP))
        .set_data_page_row_count_limit(5_000)
}

fn write(f: &Fixture, name: &str, batch: &RecordBatch, properties: WriterPropertiesBuilder) {
    let path = f.write(name, "");
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties.build())).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn config(partitions: usize) -> SessionConfig {
    let mut config = SessionConfig::new().with_target_partitions(partitions);
    config.options_mut().execution.parquet.pushdown_filters = true;
    config
}

/// The pieces that a plan's scan deals out, each by where it begins and ends; a whole file has neither.
async fn pieces(f: &Fixture, sql: &str) -> Vec<Option<(i64, i64)>> {
    let state = f.ctx.state();
    let plan = state.create_logical_plan(sql).await.unwrap();
    let plan = state.create_physical_plan(&plan).await.unwrap();
    let mut found = Vec::new();
    plan.apply(|node| {
        if let Some(scan) = node.downcast_ref::<DataSourceExec>() {
            let config = scan.data_source().downcast_ref::<FileScanConfig>().unwrap();
            let files = config.file_groups.iter().flat_map(|g| g.files());
            found.extend(files.map(|file| file.range.as_ref().map(|r| (r.start, r.end))));
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    found
}

const QUESTIONS: [&str; 12] = [
    "SELECT count(*), count(v), sum(k), min(name), max(name) FROM t",
    "SELECT count(*), sum(k), sum(v) FROM t WHERE ts >= TIMESTAMP '1970-01-04 00:00:00'",
    "SELECT count(*), sum(k) FROM t WHERE ts < TIMESTAMP '1970-01-01 00:00:01'",
    // The first row of the second row group, the last row of the first, and the very last.
    "SELECT k, name FROM t WHERE ts = TIMESTAMP '1970-01-02 03:46:40'",
    "SELECT k, name FROM t WHERE ts = TIMESTAMP '1970-01-02 03:46:39'",
    "SELECT k, name FROM t WHERE name = 'row 0329999'",
    "SELECT count(*) FROM t WHERE v IS NULL AND k < 500",
    "SELECT count(*), min(ts), max(ts) FROM t WHERE name >= 'row 0250' AND name < 'row 0260'",
    "SELECT count(*) FROM t WHERE ts > TIMESTAMP '2000-01-01'",
    "SELECT count(*), sum(t.k) FROM t JOIN (VALUES (3), (77), (1008)) AS w(k) ON t.k = w.k \
     WHERE t.ts >= TIMESTAMP '1970-01-03'",
    "SELECT ts, k FROM t WHERE k IN (5, 6) ORDER BY ts DESC LIMIT 20",
    "SELECT count(*) FROM (SELECT * FROM t LIMIT 123456)",
];

/// The answers of whole files: without statistics nothing is cut.
async fn whole(f: &Fixture, name: &str) -> Vec<Vec<String>> {
    let g = Fixture::with_config(config(2).with_collect_statistics(false));
    let spec = triune_files::ExternalTableSpec::new(f.path(name), FileKind::Parquet);
    g.table(&spec).await.unwrap();
    let cut = pieces(&g, "SELECT k FROM t WHERE v > 5").await;
    assert!(cut.len() <= 4, "{cut:?}");
    answers(&g).await
}

async fn answers(f: &Fixture) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for sql in QUESTIONS {
        all.push(f.rows(sql).await.unwrap());
    }
    all
}

#[tokio::test]
async fn every_row_is_read_once() {
    let f = Fixture::new();
    write(&f, "a.parquet", &batch(0, TimeUnit::Microsecond), properties());
    let expected = whole(&f, "a.parquet").await;
    assert_eq!(expected[0][0].split('|').next(), Some("330000"));
    for partitions in [1, 2, 3, 7] {
        let g = Fixture::with_config(config(partitions));
        g.table(&triune_files::ExternalTableSpec::new(f.path("a.parquet"), FileKind::Parquet)).await.unwrap();
        assert!(pieces(&g, "SELECT * FROM t").await.len() > partitions);
        assert_eq!(answers(&g).await, expected, "{partitions} partitions");
    }
}

#[tokio::test]
async fn row_groups_that_conditions_exclude_are_left_out() {
    let f = Fixture::with_config(config(2));
    write(&f, "a.parquet", &batch(0, TimeUnit::Microsecond), properties());
    f.table(&f.spec("a.parquet", FileKind::Parquet)).await.unwrap();
    let late = pieces(&f, "SELECT * FROM t WHERE ts >= TIMESTAMP '1970-01-04 00:00:00'").await;
    let all = pieces(&f, "SELECT * FROM t").await;
    assert!(late.len() > 1 && late.len() < all.len(), "{late:?} of {all:?}");
    let begin = |piece: &Option<(i64, i64)>| piece.unwrap().0;
    // Three days are 259 200 rows: the first two row groups have none of the rest.
    let third = late.iter().map(begin).min().unwrap();
    let starts: std::collections::BTreeSet<i64> = all.iter().map(begin).collect();
    assert_eq!(starts.iter().position(|s| *s == third), Some(2), "{starts:?} {late:?}");
    assert!(pieces(&f, "SELECT * FROM t WHERE ts > TIMESTAMP '2000-01-01'").await.is_empty());
}

#[tokio::test]
async fn without_a_page_index_row_groups_stay_whole() {
    let f = Fixture::with_config(config(2));
    let properties = properties()
        .set_offset_index_disabled(true)
        .set_statistics_enabled(parquet::file::properties::EnabledStatistics::Chunk);
    write(&f, "a.parquet", &batch(0, TimeUnit::Microsecond), properties);
    f.table(&f.spec("a.parquet", FileKind::Parquet)).await.unwrap();
    let found = pieces(&f, "SELECT * FROM t").await;
    let ranges: std::collections::BTreeSet<_> = found.iter().collect();
    assert!(found.len() > 1 && ranges.len() == found.len(), "{found:?}");
    assert_eq!(answers(&f).await, whole(&f, "a.parquet").await);
}

#[tokio::test]
async fn statistics_of_another_unit_exclude_nothing_wrongly() {
    let f = Fixture::with_config(config(2));
    write(&f, "d/a.parquet", &batch(0, TimeUnit::Millisecond), properties());
    write(&f, "d/b.parquet", &batch(ROWS, TimeUnit::Microsecond), properties());
    f.table(&f.spec("d", FileKind::Parquet)).await.unwrap();
    assert_eq!(answers(&f).await, whole(&f, "d").await);
    // Milliseconds taken for microseconds would all be in the first minutes of 1970.
    let sql = "SELECT count(*) FROM t WHERE ts >= TIMESTAMP '1970-01-02' AND ts < TIMESTAMP '1970-01-03'";
    assert_eq!(f.rows(sql).await.unwrap(), ["86400"]);
}

#[tokio::test]
async fn a_promised_order_is_kept() {
    let f = Fixture::with_config(config(2));
    let sorted = vec![SortingColumn { column_idx: 0, descending: false, nulls_first: false }];
    let properties = properties().set_sorting_columns(Some(sorted));
    write(&f, "a.parquet", &batch(0, TimeUnit::Microsecond), properties);
    f.table(&f.spec("a.parquet", FileKind::Parquet)).await.unwrap();
    let plan =
        f.rows("EXPLAIN FORMAT indent SELECT ts, k FROM t ORDER BY ts NULLS LAST").await.unwrap().join("\n");
    assert!(!plan.contains("SortExec"), "{plan}");
    // The second half of the rows is cut in two, row groups before it are not in anybody's range.
    let late = "SELECT ts, k FROM t WHERE ts >= TIMESTAMP '1970-01-03 08:00:00' ORDER BY ts NULLS LAST";
    let plan = f.rows(&format!("EXPLAIN FORMAT indent {late}")).await.unwrap().join("\n");
    assert!(!plan.contains("SortExec"), "{plan}");
    let ranges = pieces(&f, late).await;
    let begin = ranges.iter().map(|r| r.unwrap().0).min().unwrap();
    assert!(begin > 6_000_000, "{ranges:?}");
    let rows = f.rows(late).await.unwrap();
    assert_eq!((rows.len(), rows.is_sorted()), (ROWS as usize - 201_600, true));
    assert!(pieces(&f, "SELECT k FROM t WHERE ts > TIMESTAMP '2000-01-01'").await.is_empty());
    let first = f.rows("SELECT k FROM t ORDER BY ts NULLS LAST LIMIT 3").await.unwrap();
    assert_eq!(first, ["0", "856", "703"]);
    assert_eq!(answers(&f).await, whole(&f, "a.parquet").await);
}
