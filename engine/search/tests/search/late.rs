//! Columns that are fetched for the rows of the result are those of these rows.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray,
    UInt32Array,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{concat_batches, filter_record_batch, is_not_null, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Schema};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;
use triune_files::{ExternalTableSpec, FileKind, open_table};

use crate::support::{Options, Session};

const DIMS: usize = 8;

/// `id, kind, title, e`; numbers that repeat themselves nowhere, so that every order is definite.
fn rows(from: i64, count: i64, with_nulls: bool) -> RecordBatch {
    let ids = Int64Array::from_iter_values(from..from + count);
    let kinds =
        StringArray::from_iter_values(ids.values().iter().map(|i| ["a", "b", "c"][(*i % 3) as usize]));
    let titles: StringArray =
        ids.values().iter().map(|i| (i % 11 != 0).then(|| format!("title of {i}"))).collect();
    let mut state = from as u64 + 1;
    let values: Vec<f32> = (0..count as usize * DIMS)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect();
    let nulls = with_nulls.then(|| NullBuffer::from_iter((0..count).map(|i| i % 7 != 0)));
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let vectors = FixedSizeListArray::new(item, DIMS as i32, Arc::new(Float32Array::from(values)), nulls);
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("kind", DataType::Utf8, false),
        Field::new("title", DataType::Utf8, true),
        Field::new("e", vectors.data_type().clone(), true),
    ]);
    let columns: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(kinds), Arc::new(titles), Arc::new(vectors)];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn write(path: &Path, batch: &RecordBatch, rows_per_group: usize) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(rows_per_group))
        .set_data_page_row_count_limit(50)
        .build();
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// Three files in two folders as `files`, and the same rows in memory as `memory`.
async fn session(dir: &Path) -> Session {
    let session = Session::new(Options { batch_size: 64, ..Options::default() });
    let state = session.context().state_ref();
    state.write().config_mut().options_mut().execution.parquet.pushdown_filters = true;
    let parts = [
        ("part=x/1.parquet", "x", rows(0, 900, false), 1000),
        ("part=x/2.parquet", "x", rows(900, 500, true), 120),
        ("part=y/1.parquet", "y", rows(1400, 700, false), 300),
    ];
    let mut all = Vec::new();
    for (name, part, batch, per_group) in parts {
        write(&dir.join(name), &batch, per_group);
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(StringArray::from(vec![part; batch.num_rows()])));
        let mut fields = batch.schema().fields().to_vec();
        fields.push(Arc::new(Field::new("part", DataType::Utf8, false)));
        all.push(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap());
    }
    let schema = all[0].schema();
    session.table("memory", schema, all, 2);
    let spec = ExternalTableSpec::new(format!("{}/", dir.display()), FileKind::Parquet);
    let table = open_table(&session.context().state(), &spec).await.unwrap();
    session.context().register_table("files", table).unwrap();
    session
}

async fn text(session: &Session, sql: &str) -> String {
    let batches = session.rows(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    pretty_format_batches(&batches).unwrap().to_string()
}

const QUERY: &str = "'[0.3, -0.1, 0.2, 0.4, -0.4, 0.1, 0.05, -0.2]'";

#[tokio::test]
async fn fetched_columns_are_those_of_the_rows_that_were_found() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path()).await;
    let by = format!("ORDER BY cosine_distance(e, to_vector({QUERY}, 'VECTOR(8)')) LIMIT 20");
    let statements = [
        format!("SELECT id, kind, title, part FROM TABLE_ {by}"),
        format!("SELECT title FROM TABLE_ {by}"),
        format!("SELECT e, part, title, id FROM TABLE_ {by}"),
        format!("SELECT * FROM TABLE_ {by}"),
        format!("SELECT title, id FROM TABLE_ WHERE kind = 'b' {by}"),
        format!("SELECT title, kind FROM TABLE_ WHERE kind <> 'b' AND title LIKE '%7%' {by}"),
        format!("SELECT title, part FROM TABLE_ WHERE part = 'y' AND id > 1500 {by}"),
        format!("SELECT title, kind FROM TABLE_ WHERE id = 3 {by}"),
        format!("SELECT title FROM TABLE_ WHERE id < 0 {by}"),
        format!(
            "SELECT v.title, v.id, v._distance FROM vector_search(TABLE_, e, {QUERY}, 15) AS v WHERE v.kind = 'c'"
        ),
        format!("SELECT * FROM vector_search(TABLE_, e, {QUERY}, 15, metric => 'l2') AS v"),
    ];
    let mut late = 0;
    for sql in statements {
        let plan = session.physical_text(&sql.replace("TABLE_", "files")).await;
        late += usize::from(plan.contains("LateColumnsExec"));
        let found = text(&session, &sql.replace("TABLE_", "files")).await;
        let expected = text(&session, &sql.replace("TABLE_", "memory")).await;
        assert_eq!(found, expected, "{sql}\n{plan}");
    }
    assert!(late >= 9, "only {late} statements fetched columns late");
}

#[tokio::test]
async fn plans_say_what_is_fetched_and_keep_out_where_it_does_not_pay() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path()).await;
    let order = format!("ORDER BY cosine_distance(e, to_vector({QUERY}, 'VECTOR(8)'))");
    let plan =
        session.physical_text(&format!("SELECT title FROM files WHERE kind = 'a' {order} LIMIT 5")).await;
    let lines: Vec<&str> = plan.lines().map(|l| l.trim().split(':').next().unwrap_or(l)).collect();
    assert!(plan.contains("LateColumnsExec: columns=[title]"), "{plan}");
    assert_eq!(lines.last(), Some(&"DataSourceExec"), "{plan}");
    let scan = plan.lines().last().unwrap();
    assert!(scan.contains("__row_address") && !scan.contains("title"), "{plan}");
    for sql in [
        format!("SELECT id FROM files {order} LIMIT 5"),
        format!("SELECT title FROM files {order} LIMIT 1000"),
        format!("SELECT title FROM memory {order} LIMIT 5"),
        "SELECT title FROM files ORDER BY id LIMIT 5".to_owned(),
    ] {
        let plan = session.physical_text(&sql).await;
        assert!(!plan.contains("LateColumnsExec"), "{sql}\n{plan}");
    }
}

/// By a sort of all rows, without any rule of ours.
#[tokio::test]
async fn the_rows_are_the_nearest() {
    let dir = tempfile::tempdir().unwrap();
    let session = session(dir.path()).await;
    let parts = [rows(0, 900, false), rows(900, 500, true), rows(1400, 700, false)];
    let all = concat_batches(&parts[0].schema(), &parts).unwrap();
    let there = is_not_null(all.column(3)).unwrap();
    let all = filter_record_batch(&all, &there).unwrap();
    let query = [0.3_f64, -0.1, 0.2, 0.4, -0.4, 0.1, 0.05, -0.2];
    let vectors = all.column(3).as_fixed_size_list();
    let mut order: Vec<(f64, u32)> = (0..all.num_rows())
        .map(|row| {
            let v = vectors.value(row);
            let v = v.as_primitive::<Float32Type>();
            let square = |x: f64| x * x;
            (v.values().iter().zip(query).map(|(a, b)| square(f64::from(*a) - b)).sum(), row as u32)
        })
        .collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let first: UInt32Array = order.iter().take(12).map(|(_, row)| *row).collect();
    let expected = take_record_batch(&all, &first).unwrap().project(&[0, 2]).unwrap();
    let sql = format!(
        "SELECT id, title FROM files ORDER BY l2_distance(e, to_vector({QUERY}, 'VECTOR(8)')) LIMIT 12"
    );
    let expected = pretty_format_batches(&[expected]).unwrap().to_string();
    assert_eq!(text(&session, &sql).await, expected);
}
