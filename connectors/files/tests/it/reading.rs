//! Good files of every format and shape.

use std::collections::HashMap;
use std::sync::Arc;

use crate::support::Fixture;
use arrow::array::{Array, AsArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type, Schema, TimeUnit};
use datafusion::datasource::MemTable;
use triune_common::ErrorKind;
use triune_files::{ExternalTableSpec, FileKind, detect_kind};

#[tokio::test]
async fn csv_by_header_with_types() {
    let f = Fixture::new();
    f.write("a.csv", "id,name,price,day,at,ok,\"two words\"\n1,x,1.5,2024-01-02,2024-01-02 03:04:05,true,\n2,,2,2024-01-03,2024-01-02T03:04:06,false,\"q\"\"\n,\"\n");
    f.table(&f.spec("a.csv", FileKind::Csv)).await.unwrap();
    let types = f.rows("DESCRIBE t").await.unwrap();
    assert_eq!(
        types,
        [
            "id|Int64|YES",
            "name|Utf8|YES",
            "price|Float64|YES",
            "day|Date32|YES",
            "at|Timestamp(s)|YES",
            "ok|Boolean|YES",
            "two words|Utf8|YES"
        ]
    );
    assert_eq!(
        f.rows("SELECT id, name IS NULL, price, length(\"two words\") FROM t ORDER BY id").await.unwrap(),
        ["1|false|1.5|", "2|true|2.0|4"]
    );
    assert_eq!(f.rows("SELECT count(*) FROM t").await.unwrap(), ["2"]);
}

#[tokio::test]
async fn csv_files_are_joined_by_name_not_by_position() {
    let f = Fixture::new();
    f.write("d/a.csv", "id,name\n1,x\n");
    f.write("d/b.csv", "name,extra,id\ny,7,2\n");
    f.write("d/c.csv", "");
    f.table(&f.spec("d/", FileKind::Csv)).await.unwrap();
    assert_eq!(f.rows("SELECT id, name, extra FROM t ORDER BY id").await.unwrap(), ["1|x|", "2|y|7"]);
    assert_eq!(f.rows("SELECT extra FROM t WHERE id = 1").await.unwrap(), [""]);
    // A file that comes later, with a column that nobody knew.
    f.write("d/e.csv", "new,id\nq,3\n");
    assert_eq!(f.rows("SELECT id, name FROM t ORDER BY id").await.unwrap(), ["1|x", "2|y", "3|"]);
}

#[tokio::test]
async fn csv_options() {
    let f = Fixture::new();
    f.write("a.txt", "# c\n1;NA;'x;y';02.01.2024;7\n2;3;z;03.01.2024\n");
    let spec = f
        .spec("a.txt", FileKind::Csv)
        .with_option("delim", ";")
        .with_option("header", "false")
        .with_option("quote", "'")
        .with_option("nullstr", "NA")
        .with_option("comment", "#")
        .with_option("dateformat", "%d.%m.%Y")
        .with_option("null_padding", "true");
    f.table(&spec).await.unwrap();
    assert_eq!(
        f.rows("SELECT * FROM t ORDER BY 1").await.unwrap(),
        ["1||x;y|2024-01-02|7", "2|3|z|2024-01-03|"]
    );
    f.write("b.csv", "a,b\n007,true\n");
    f.table(&f.spec("b.csv", FileKind::Csv).with_option("all_varchar", "true")).await.unwrap();
    assert_eq!(f.rows("SELECT a, b FROM t").await.unwrap(), ["007|true"]);
    f.write("c.tsv", "a\tb\n1\t2\n");
    f.table(&f.spec("c.tsv", FileKind::Csv)).await.unwrap();
    assert_eq!(f.rows("SELECT b FROM t").await.unwrap(), ["2"]);
}

#[tokio::test]
async fn csv_with_declared_columns() {
    let f = Fixture::new();
    f.write("a.csv", "x,y\n1,2\n");
    let columns = |names: &[(&str, DataType)]| {
        Arc::new(Schema::new(names.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
    };
    // Known names: by name, whatever the order.
    let spec = f
        .spec("a.csv", FileKind::Csv)
        .with_columns(columns(&[("y", DataType::Utf8), ("z", DataType::Int64)]));
    f.table(&spec).await.unwrap();
    assert_eq!(f.rows("SELECT y, z FROM t").await.unwrap(), ["2|"]);
    // Other names: the file's columns in order.
    let spec = f
        .spec("a.csv", FileKind::Csv)
        .with_columns(columns(&[("p", DataType::Int32), ("q", DataType::Float64)]));
    f.table(&spec).await.unwrap();
    assert_eq!(f.rows("SELECT p, q FROM t").await.unwrap(), ["1|2.0"]);
    let spec = f.spec("a.csv", FileKind::Csv).with_columns(columns(&[("p", DataType::Int32)]));
    assert_eq!(f.open(&spec).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_header_alone_is_no_rows() {
    let f = Fixture::new();
    for (name, text) in [("a.csv", "id,name\n"), ("b.csv", "id,name")] {
        f.write(name, text);
        f.table(&f.spec(name, FileKind::Csv)).await.unwrap();
        assert_eq!(f.rows("SELECT count(*), count(id) FROM t").await.unwrap(), ["0|0"], "{name}");
        assert!(f.rows("SELECT id, name FROM t").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn large_csv_files_may_be_cut_when_lines_are_records() {
    let config = datafusion::prelude::SessionConfig::new()
        .with_target_partitions(4)
        .with_repartition_file_min_size(1000)
        .with_batch_size(100);
    let f = Fixture::with_config(config);
    let mut text = "id,name\n".to_owned();
    for i in 0..5000 {
        text += &format!("{i},name {i}\n");
    }
    f.write("a.csv", &text);
    f.table(&f.spec("a.csv", FileKind::Csv).with_option("newlines_in_values", "false")).await.unwrap();
    assert_eq!(
        f.rows("SELECT count(*), sum(id), max(name) FROM t").await.unwrap(),
        ["5000|12497500|name 999"]
    );
    let plan = f.rows("EXPLAIN FORMAT indent SELECT id FROM t").await.unwrap().join("\n");
    assert!(plan.contains("4 groups") || plan.contains(":0.."), "{plan}");
    f.table(&f.spec("a.csv", FileKind::Csv)).await.unwrap();
    assert_eq!(
        f.rows("SELECT count(*), sum(id), max(name) FROM t").await.unwrap(),
        ["5000|12497500|name 999"]
    );
}

#[tokio::test]
async fn compressed_text_files() {
    let f = Fixture::new();
    for ext in ["gz", "zst", "bz2", "xz"] {
        for kind in [FileKind::Csv, FileKind::Json] {
            let name = format!("x.{kind}.{ext}");
            f.copy("SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, 'y'", &name, &[], &[]).await.unwrap();
            let plain = std::fs::read(f.path(&name)).unwrap();
            assert!(!plain.starts_with(b"a,b") && !plain.starts_with(b"{"), "{name} is compressed");
            f.table(&f.spec(&name, kind)).await.unwrap();
            assert_eq!(f.rows("SELECT a, b FROM t ORDER BY a").await.unwrap(), ["1|x", "2|y"], "{name}");
        }
    }
    // Different ones in one folder.
    f.table(&ExternalTableSpec::new(f.path("*.csv.*"), FileKind::Csv)).await.unwrap();
    assert_eq!(f.rows("SELECT count(*) FROM t").await.unwrap(), ["8"]);
}

#[tokio::test]
async fn json_lines_and_arrays() {
    let f = Fixture::new();
    f.write("d/a.ndjson", "{\"id\":1,\"v\":{\"x\":1},\"l\":[1,2]}\n\n{\"id\":2,\"n\":null}\n");
    f.write("d/b.json", "{\"id\":3,\"v\":{\"y\":\"s\"},\"late\":true}\n");
    f.table(&f.spec("d/", FileKind::Json)).await.unwrap();
    assert_eq!(
        f.rows("SELECT id, v['x'] AS x, v['y'] AS y, l[2] AS l, late FROM t ORDER BY id").await.unwrap(),
        ["1|1||2|", "2||||", "3||s||true"]
    );
    f.write("a.json", "\n [ {\"id\":1, \"s\":\"a]\\\"\"},\n {\"id\":2} ]\n");
    f.table(&f.spec("a.json", FileKind::Json)).await.unwrap();
    assert_eq!(f.rows("SELECT id, s FROM t ORDER BY id").await.unwrap(), ["1|a]\"", "2|"]);
    // A number beside a text.
    f.write("m.ndjson", "{\"a\":1}\n{\"a\":\"x\"}\n");
    f.table(&f.spec("m.ndjson", FileKind::Json)).await.unwrap();
    assert_eq!(f.rows("SELECT a FROM t ORDER BY a").await.unwrap(), ["1", "x"]);
}

#[tokio::test]
async fn large_json_files_are_cut() {
    let config = datafusion::prelude::SessionConfig::new()
        .with_target_partitions(4)
        .with_repartition_file_min_size(1000)
        .with_batch_size(64);
    let f = Fixture::with_config(config);
    let text: String = (0..3000).map(|i| format!("{{\"id\":{i},\"t\":\"line\\nbreak\"}}\n")).collect();
    f.write("a.ndjson", text);
    f.table(&f.spec("a.ndjson", FileKind::Json)).await.unwrap();
    assert_eq!(f.rows("SELECT count(*), sum(id), max(length(t)) FROM t").await.unwrap(), ["3000|4498500|10"]);
}

#[tokio::test]
async fn parquet_files_with_different_columns() {
    let f = Fixture::new();
    f.copy("SELECT CAST(1 AS INT) AS id, 'x' AS name", "d/a.parquet", &[], &[]).await.unwrap();
    f.copy("SELECT CAST(2 AS BIGINT) AS id, 1.5 AS price", "d/b.parquet", &[], &[]).await.unwrap();
    f.copy(
        "SELECT CAST(3 AS SMALLINT) AS id, 'z' AS name, CAST(NULL AS DOUBLE) AS price",
        "d/c.parquet",
        &[],
        &[],
    )
    .await
    .unwrap();
    f.table(&f.spec("d", FileKind::Parquet)).await.unwrap();
    assert_eq!(
        f.rows("SELECT id, name, price FROM t ORDER BY id").await.unwrap(),
        ["1|x|", "2||1.5", "3|z|"]
    );
    // Answers that statistics might give.
    assert_eq!(
        f.rows("SELECT count(*), count(name), count(price), min(id), max(price), min(name) FROM t")
            .await
            .unwrap(),
        ["3|2|1|1|1.5|x"]
    );
    assert_eq!(f.rows("SELECT id FROM t WHERE price IS NULL ORDER BY id").await.unwrap(), ["1", "3"]);
    assert_eq!(
        f.rows("SELECT id FROM t WHERE name = 'z' OR price > 1 ORDER BY id").await.unwrap(),
        ["2", "3"]
    );
    assert_eq!(f.rows("SELECT id FROM t WHERE id = 2").await.unwrap(), ["2"]);
}

#[tokio::test]
async fn parquet_filters_below_the_scan() {
    let config = datafusion::prelude::SessionConfig::new().with_target_partitions(2);
    let f = Fixture::with_config(config);
    f.copy("SELECT value AS id, value % 7 AS k FROM generate_series(1, 10000)", "a.parquet", &[], &[])
        .await
        .unwrap();
    f.table(&f.spec("a.parquet", FileKind::Parquet).with_option("pushdown_filters", "true")).await.unwrap();
    assert_eq!(f.rows("SELECT count(*) FROM t WHERE k = 3 AND id < 100").await.unwrap(), ["14"]);
    let plan = f.rows("EXPLAIN FORMAT indent SELECT id FROM t WHERE k = 3").await.unwrap().join("\n");
    assert!(plan.contains("predicate=k") && !plan.contains("FilterExec"), "{plan}");
    let plan = f.rows("EXPLAIN FORMAT indent SELECT id FROM t ORDER BY k LIMIT 3").await.unwrap().join("\n");
    assert!(plan.contains("DynamicFilter"), "{plan}");
    // Row counts come from the footers.
    let plan = f.rows("EXPLAIN FORMAT indent SELECT count(*) FROM t").await.unwrap().join("\n");
    assert!(plan.contains("PlaceholderRowExec") && !plan.contains("DataSourceExec: file"), "{plan}");
}

#[tokio::test]
async fn partitioned_folders() {
    let f = Fixture::new();
    let sql = "SELECT v, y, m FROM (VALUES (1, 2023, '01'), (2, 2024, '01'), (3, 2024, '02')) AS x(v, y, m)";
    f.copy(sql, "p/", &[("format", "parquet")], &["y", "m"]).await.unwrap();
    assert!(f.exists("p/y=2024/m=01"));
    f.table(&f.spec("p/", FileKind::Parquet)).await.unwrap();
    assert_eq!(
        f.rows("SELECT v, y, m FROM t ORDER BY v").await.unwrap(),
        ["1|2023|1", "2|2024|1", "3|2024|2"]
    );
    assert_eq!(f.rows("SELECT v FROM t WHERE y = 2024 AND m > 1").await.unwrap(), ["3"]);
    assert_eq!(
        f.rows("SELECT y, count(*) FROM t GROUP BY y ORDER BY y").await.unwrap(),
        ["2023|1", "2024|2"]
    );
    assert_eq!(f.rows("SELECT DISTINCT y FROM t WHERE v = 1").await.unwrap(), ["2023"]);
    let plan = f.rows("EXPLAIN FORMAT indent SELECT v FROM t WHERE y = 2024").await.unwrap().join("\n");
    assert!(!plan.contains("y=2023") && plan.contains("y=2024"), "{plan}");
    assert!(f.rows("SELECT v FROM t WHERE y = 1999").await.unwrap().is_empty());

    // Declared order and types.
    let columns = Arc::new(Schema::new(vec![
        Field::new("v", DataType::Int64, true),
        Field::new("y", DataType::Int32, true),
        Field::new("m", DataType::Utf8, true),
    ]));
    let mut spec = f.spec("p/", FileKind::Parquet).with_columns(columns);
    spec.partition_columns = vec!["y".into(), "m".into()];
    f.table(&spec).await.unwrap();
    assert_eq!(f.rows("SELECT v, m FROM t WHERE m = '02'").await.unwrap(), ["3|02"]);
    let mut wrong = spec.clone();
    wrong.partition_columns = vec!["z".into()];
    assert!(f.open(&wrong).await.unwrap_err().message().contains("lies in no folder z=…"));

    // Off.
    f.table(&f.spec("p/", FileKind::Parquet).with_option("hive_partitioning", "false")).await.unwrap();
    assert_eq!(f.rows("SELECT * FROM t ORDER BY 1").await.unwrap(), ["1", "2", "3"]);
    // With text files and a glob.
    f.write("c/k=a b/x.csv", "v\n1\n");
    f.write("c/k=__HIVE_DEFAULT_PARTITION__/x.csv", "v\n2\n");
    f.table(&f.spec("c/*/*.csv", FileKind::Csv)).await.unwrap();
    assert_eq!(f.rows("SELECT v, k FROM t ORDER BY v").await.unwrap(), ["1|a b", "2|"]);
    assert_eq!(f.rows("SELECT v FROM t WHERE k IS NULL").await.unwrap(), ["2"]);
}

#[tokio::test]
async fn globs_lists_and_strange_names() {
    let f = Fixture::new();
    for name in ["a b.csv", "100%.csv", "a#1.csv", "ü 日本.csv", "we[i]rd.csv", "a%20b.csv"] {
        f.write(name, format!("n\n{name}\n"));
    }
    for name in ["a b.csv", "100%.csv", "a#1.csv", "ü 日本.csv", "we[i]rd.csv", "a%20b.csv"] {
        f.table(&f.spec(name, FileKind::Csv)).await.unwrap();
        assert_eq!(f.rows("SELECT n FROM t").await.unwrap(), [name]);
    }
    f.table(&f.spec("*.csv", FileKind::Csv)).await.unwrap();
    assert_eq!(f.rows("SELECT count(*) FROM t").await.unwrap(), ["6"]);
    f.table(&f.spec("{a,1}*.csv", FileKind::Csv)).await.unwrap();
    assert_eq!(f.rows("SELECT count(*) FROM t").await.unwrap(), ["4"]);
    let mut spec = f.spec("a b.csv", FileKind::Csv);
    spec.locations.push(f.path("a*.csv"));
    f.table(&spec).await.unwrap();
    assert_eq!(
        f.rows("SELECT count(*) FROM t").await.unwrap(),
        ["3"],
        "a file that is named twice counts once"
    );
    f.write("deep/1/2/x.csv", "n\n1\n");
    f.write("deep/y.csv", "n\n2\n");
    f.table(&f.spec("deep/**/*.csv", FileKind::Csv)).await.unwrap();
    assert_eq!(f.rows("SELECT sum(n) FROM t").await.unwrap(), ["3"]);
    let state = f.ctx.state();
    assert_eq!(detect_kind(&state, &[f.path("deep/")]).await.unwrap(), FileKind::Csv);
    assert_eq!(detect_kind(&state, &[f.path("nowhere/x.json")]).await.unwrap(), FileKind::Json);
    spec.locations.push("s3://bucket/x.csv".into());
    assert_eq!(f.open(&spec).await.unwrap_err().kind(), ErrorKind::Unsupported);
}

fn vectors() -> (Arc<Schema>, RecordBatch) {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let metadata: HashMap<String, String> = [
        ("ARROW:extension:name".to_owned(), "triune.vector".to_owned()),
        ("ARROW:extension:metadata".to_owned(), "{\"dims\":3}".to_owned()),
    ]
    .into();
    let field =
        Field::new("emb", DataType::FixedSizeList(Arc::clone(&item), 3), true).with_metadata(metadata);
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), field]));
    let values = Float32Array::from(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, 0.0, 0.0]);
    let nulls = Some(vec![true, true, false].into());
    let list = FixedSizeListArray::new(item, 3, Arc::new(values), nulls);
    let columns: Vec<Arc<dyn Array>> = vec![Arc::new(Int64Array::from(vec![1, 2, 3])), Arc::new(list)];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    (schema, batch)
}

#[tokio::test]
async fn vectors_come_back_as_vectors() {
    let f = Fixture::new();
    let (schema, batch) = vectors();
    let source = MemTable::try_new(Arc::clone(&schema), vec![vec![batch]]).unwrap();
    f.ctx.register_table("src", Arc::new(source)).unwrap();
    for name in ["v.parquet", "v.arrow"] {
        f.copy("SELECT id, emb FROM src", name, &[], &[]).await.unwrap();
        let kind = triune_files::kind_of_path(name).unwrap();
        let table = f.open(&f.spec(name, kind)).await.unwrap();
        let field = table.schema().field_with_name("emb").unwrap().clone();
        assert_eq!(field.metadata(), schema.field(1).metadata(), "{name}");
        assert_eq!(field.data_type(), schema.field(1).data_type(), "{name}");
        f.table(&f.spec(name, kind)).await.unwrap();
        let out = f.batches("SELECT emb, id FROM t WHERE id < 3 ORDER BY id").await.unwrap();
        let out = arrow::compute::concat_batches(&out[0].schema(), &out).unwrap();
        assert_eq!(out.schema().field(0).metadata(), schema.field(1).metadata(), "{name}: in results");
        let list = out.column(0).as_fixed_size_list();
        assert_eq!(list.value(1).as_primitive::<Float32Type>().values(), &[4.0, 5.0, 6.0], "{name}");
        assert_eq!(f.rows("SELECT count(*) FROM t WHERE emb IS NULL").await.unwrap(), ["1"], "{name}");
    }
    // Two Parquet files, one written by somebody who knows no extension types.
    f.copy("SELECT id, emb FROM src", "w/a.parquet", &[], &[]).await.unwrap();
    f.copy(
        "SELECT 9 AS id, arrow_cast([7.0, 8.0, 9.0], 'FixedSizeList(3, Float32)') AS emb",
        "w/b.parquet",
        &[],
        &[],
    )
    .await
    .unwrap();
    f.table(&f.spec("w/", FileKind::Parquet)).await.unwrap();
    assert_eq!(f.rows("SELECT count(emb) FROM t").await.unwrap(), ["3"]);
}

#[tokio::test]
async fn arrow_files_and_streams() {
    let f = Fixture::new();
    let (schema, batch) = vectors();
    let mut stream = Vec::new();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut stream, &schema).unwrap();
    writer.write(&batch).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    f.write("d/s.arrow", &stream);
    f.copy("SELECT 'x' AS name, CAST(7 AS INT) AS id", "d/f.arrow", &[], &[]).await.unwrap();
    f.table(&f.spec("d/", FileKind::Arrow)).await.unwrap();
    assert_eq!(
        f.rows("SELECT id, name, emb IS NULL FROM t ORDER BY id, name").await.unwrap(),
        ["1||false", "1||false", "2||false", "2||false", "3||true", "3||true", "7|x|true"]
    );
    assert_eq!(f.rows("SELECT count(*) FROM t").await.unwrap(), ["7"]);

    // Dictionaries, and a file that is read in parts.
    let config = datafusion::prelude::SessionConfig::new()
        .with_target_partitions(3)
        .with_repartition_file_min_size(100)
        .with_batch_size(100);
    let g = Fixture::with_config(config);
    let file = std::fs::File::create(g.path("a.arrow")).unwrap();
    let key = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let schema =
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("k", key, false)]));
    let mut writer = arrow::ipc::writer::FileWriter::try_new(file, &schema).unwrap();
    let words: Arc<dyn Array> = Arc::new(arrow::array::StringArray::from(vec!["k0", "k1", "k2"]));
    for part in 0..10 {
        let ids: Vec<i64> = (part * 100 + 1..=part * 100 + 100).collect();
        let keys: arrow::array::Int32Array = ids.iter().map(|i| Some((i % 3) as i32)).collect();
        let keys = arrow::array::DictionaryArray::try_new(keys, Arc::clone(&words)).unwrap();
        let columns: Vec<Arc<dyn Array>> = vec![Arc::new(Int64Array::from(ids)), Arc::new(keys)];
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()).unwrap();
    }
    writer.finish().unwrap();
    drop(writer);
    g.table(&g.spec("a.arrow", FileKind::Arrow)).await.unwrap();
    assert_eq!(
        g.rows("SELECT k, count(*), sum(id) FROM t GROUP BY k ORDER BY k").await.unwrap(),
        ["k0|333|166833", "k1|334|167167", "k2|333|166500"]
    );
}

#[tokio::test]
async fn ten_thousand_columns_and_no_rows() {
    let f = Fixture::new();
    let fields: Vec<Field> =
        (0..10_000).map(|i| Field::new(format!("c{i}"), DataType::Int32, true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let columns: Vec<Arc<dyn Array>> =
        (0..10_000).map(|i| Arc::new(arrow::array::Int32Array::from(vec![i, i])) as _).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    for (name, batch) in
        [("wide.parquet", batch), ("none.parquet", RecordBatch::new_empty(Arc::clone(&schema)))]
    {
        let file = std::fs::File::create(f.path(name)).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, Arc::clone(&schema), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
    f.table(&f.spec("wide.parquet", FileKind::Parquet)).await.unwrap();
    assert_eq!(f.rows("SELECT c1, c9999 FROM t WHERE c5000 = 5000").await.unwrap(), ["1|9999", "1|9999"]);
    f.table(&f.spec("none.parquet", FileKind::Parquet)).await.unwrap();
    assert_eq!(f.rows("SELECT count(*), max(c3) FROM t").await.unwrap(), ["0|"]);
    let header: String = (0..10_000).map(|i| format!("c{i},")).collect();
    let line: String = (0..10_000).map(|i| format!("{i},")).collect();
    let text = format!("{}\n{}\n", header.trim_end_matches(','), line.trim_end_matches(','));
    f.write("wide.csv", text);
    f.table(&f.spec("wide.csv", FileKind::Csv)).await.unwrap();
    assert_eq!(f.rows("SELECT c1, c9999 FROM t").await.unwrap(), ["1|9999"]);
}

#[tokio::test]
async fn rows_are_added_to_folders() {
    let f = Fixture::new();
    let columns = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8, true),
    ]));
    for kind in [FileKind::Parquet, FileKind::Csv, FileKind::Json, FileKind::Arrow] {
        let name = format!("new_{kind}/");
        let mut spec = f.spec(&name, kind).with_columns(Arc::clone(&columns));
        spec.locations = vec![format!("{}/", f.path(&name).trim_end_matches('/'))];
        f.table(&spec).await.unwrap();
        assert!(f.rows("SELECT a FROM t").await.unwrap().is_empty());
        f.batches("INSERT INTO t VALUES (1, 'x'), (2, NULL)").await.unwrap();
        f.batches("INSERT INTO t VALUES (3, 'z')").await.unwrap();
        assert_eq!(f.rows("SELECT a, b FROM t ORDER BY a").await.unwrap(), ["1|x", "2|", "3|z"], "{kind}");
    }
    f.write("one.csv", "a,b\n1,x\n");
    f.table(&f.spec("one.csv", FileKind::Csv)).await.unwrap();
    assert_eq!(f.batches("INSERT INTO t VALUES (2, 'y')").await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn limits_read_only_the_files_they_need() {
    let f = Fixture::new();
    for i in 0..5 {
        f.copy("SELECT value AS id FROM generate_series(1, 100)", &format!("d/{i}.parquet"), &[], &[])
            .await
            .unwrap();
    }
    f.table(&f.spec("d/", FileKind::Parquet)).await.unwrap();
    let plan = f.rows("EXPLAIN FORMAT indent SELECT id FROM t LIMIT 150").await.unwrap().join("\n");
    assert!(plan.contains("1.parquet") && !plan.contains("2.parquet"), "{plan}");
    assert_eq!(
        f.batches("SELECT id FROM t LIMIT 150")
            .await
            .unwrap()
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>(),
        150
    );
    assert_eq!(f.rows("SELECT count(*) FROM (SELECT id FROM t WHERE id > 98 LIMIT 7)").await.unwrap(), ["7"]);
}

#[tokio::test]
async fn sorted_files_need_no_sort() {
    let f = Fixture::new();
    f.write("a.csv", "ts,v\n1,a\n2,b\n3,c\n");
    let mut spec = f.spec("a.csv", FileKind::Csv);
    spec.order = vec![vec![datafusion::prelude::col("ts").sort(true, false)]];
    f.table(&spec).await.unwrap();
    let plan = f.rows("EXPLAIN FORMAT indent SELECT ts FROM t ORDER BY ts").await.unwrap().join("\n");
    assert!(!plan.contains("SortExec"), "{plan}");
}

#[tokio::test]
async fn timestamps_of_a_format() {
    let f = Fixture::new();
    f.write("a.csv", "at\n02/01/2024 10:30\n03/01/2024 11:00\n");
    f.table(&f.spec("a.csv", FileKind::Csv).with_option("timestampformat", "%d/%m/%Y %H:%M")).await.unwrap();
    let table = f.batches("SELECT at FROM t").await.unwrap();
    assert_eq!(table[0].schema().field(0).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, None));
    assert_eq!(f.rows("SELECT max(at) FROM t").await.unwrap(), ["2024-01-03T11:00:00"]);
}

#[tokio::test]
async fn opening_may_move_between_threads() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let f = Fixture::new();
    f.write("a.csv", "a\n1\n");
    let (state, spec) = (f.ctx.state(), f.spec("a.csv", FileKind::Csv));
    let table = is_send(triune_files::open_table(&state, &spec)).await.unwrap();
    assert_eq!(table.schema().fields().len(), 1);
    assert_eq!(is_send(detect_kind(&state, &spec.locations)).await.unwrap(), FileKind::Csv);
}
