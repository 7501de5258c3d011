//! Files that are not what they should be: the error has a kind, names the file, and says what is wrong.

use std::sync::Arc;

use crate::support::Fixture;
use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use triune_common::{Error, ErrorKind};
use triune_files::FileKind;

async fn opening(f: &Fixture, name: &str, kind: FileKind) -> Error {
    match f.table(&f.spec(name, kind)).await {
        Err(e) => e,
        Ok(()) => panic!("{name} was opened"),
    }
}

/// The error of a table that opens and cannot be read.
async fn reading(f: &Fixture, name: &str, kind: FileKind) -> Error {
    f.table(&f.spec(name, kind)).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    f.batches("SELECT * FROM t").await.unwrap_err()
}

fn check(e: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = e.to_string();
    assert_eq!(e.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} in: {text}");
    }
}

#[tokio::test]
async fn nothing_there() {
    let f = Fixture::new();
    std::fs::create_dir(f.path("empty")).unwrap();
    for kind in FileKind::ALL {
        check(&opening(&f, "none.x", kind).await, ErrorKind::NotFound, &["none.x", "does not exist"]);
        check(&opening(&f, "empty/", kind).await, ErrorKind::NotFound, &["empty", "holds no files"]);
        check(&opening(&f, "*.none", kind).await, ErrorKind::NotFound, &["no file matches", "*.none"]);
    }
    f.write("d/x.csv", "a\n1\n");
    check(&opening(&f, "d", FileKind::Parquet).await, ErrorKind::NotFound, &["no parquet files", "1 × csv"]);
    // And when it goes away later.
    f.table(&f.spec("d", FileKind::Csv)).await.unwrap();
    std::fs::remove_file(f.path("d/x.csv")).unwrap();
    check(&f.batches("SELECT * FROM t").await.unwrap_err(), ErrorKind::NotFound, &["/d"]);
}

#[tokio::test]
async fn empty_files() {
    let f = Fixture::new();
    for kind in FileKind::ALL {
        let name = format!("e.{kind}");
        f.write(&name, "");
        check(&opening(&f, &name, kind).await, ErrorKind::Data, &[&name, "the file is empty"]);
    }
    f.write("blank.json", " \n\n");
    check(&opening(&f, "blank.json", FileKind::Json).await, ErrorKind::Data, &["blank.json", "is empty"]);
    f.write("blank.csv", "\n\n");
    check(&opening(&f, "blank.csv", FileKind::Csv).await, ErrorKind::Data, &["blank.csv", "is empty"]);
}

#[tokio::test]
async fn broken_parquet() {
    let f = Fixture::new();
    f.copy("SELECT value AS id, 'abc' AS s FROM generate_series(1, 1000)", "good.parquet", &[], &[])
        .await
        .unwrap();
    let good = std::fs::read(f.path("good.parquet")).unwrap();
    f.write("tiny.parquet", "PAR1");
    f.write("text.parquet", "id,name\n1,this is no parquet file at all\n");
    f.write("cut.parquet", &good[..good.len() - 100]);
    let mut footer = good.clone();
    let at = footer.len() - 40;
    footer[at..at + 20].fill(0xff);
    f.write("footer.parquet", &footer);
    let mut length = good.clone();
    let at = length.len() - 8;
    length[at..at + 4].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f]);
    f.write("length.parquet", &length);
    for name in ["tiny", "text", "cut", "footer", "length"] {
        let name = format!("{name}.parquet");
        let e = opening(&f, &name, FileKind::Parquet).await;
        check(&e, ErrorKind::Data, &[&name, "is no sound Parquet file"]);
    }
    // One among good ones is named.
    f.write("d/a.parquet", &good);
    f.write("d/b.parquet", &good[..good.len() - 100]);
    check(&opening(&f, "d/", FileKind::Parquet).await, ErrorKind::Data, &["d/b.parquet"]);
    // And when it breaks after it was opened.
    f.table(&f.spec("good.parquet", FileKind::Parquet)).await.unwrap();
    f.write("good.parquet", &good[..good.len() - 99]);
    check(&f.batches("SELECT * FROM t").await.unwrap_err(), ErrorKind::Data, &["good.parquet"]);
    // Pages are damaged, the footer is not.
    let mut pages = good.clone();
    pages[4..200].fill(0xff);
    f.write("pages.parquet", &pages);
    assert_eq!(reading(&f, "pages.parquet", FileKind::Parquet).await.kind(), ErrorKind::Data);
}

#[tokio::test]
async fn ragged_csv_rows() {
    let f = Fixture::new();
    f.write("more.csv", "a,b,c\n1,2,3\n4,5,6,7\n");
    check(
        &opening(&f, "more.csv", FileKind::Csv).await,
        ErrorKind::Data,
        &["more.csv\", line 3", "the row has 4 fields, the header has 3"],
    );
    f.write("less.csv", "a,b,c\n\n1,\"x\ny\",3\n4,5\n");
    check(
        &opening(&f, "less.csv", FileKind::Csv).await,
        ErrorKind::Data,
        &["less.csv\", line 5", "the row has 2 fields, the header has 3", "null_padding"],
    );
    // Beyond the sample, in a stream that is read in parts, and compressed.
    let mut text = "a,b\n".to_owned();
    for i in 0..20_000 {
        text += &format!("{i},x\n");
    }
    text += "1,2,3\n";
    for i in 0..500 {
        text += &format!("{i},y\n");
    }
    f.write("late.csv", &text);
    let expected = ["late.csv", "line 20002", "the row has 3 fields, the header has 2"];
    check(&reading(&f, "late.csv", FileKind::Csv).await, ErrorKind::Data, &expected);
    let config = datafusion::prelude::SessionConfig::new()
        .with_target_partitions(5)
        .with_repartition_file_min_size(100);
    let g = Fixture::with_config(config);
    g.write("late.csv", &text);
    g.table(&g.spec("late.csv", FileKind::Csv).with_option("newlines_in_values", "false")).await.unwrap();
    check(&g.batches("SELECT * FROM t").await.unwrap_err(), ErrorKind::Data, &expected);
}

#[tokio::test]
async fn csv_values_of_the_wrong_type() {
    let f = Fixture::new();
    let mut text = "a,b\n".to_owned();
    for i in 0..12_000 {
        text += &format!("{i},x\n");
    }
    text += "n/a,x\n";
    f.write("v.csv", &text);
    check(
        &reading(&f, "v.csv", FileKind::Csv).await,
        ErrorKind::Data,
        &["v.csv\", line 12002", "\"n/a\" in column \"a\" is no whole number"],
    );
    f.write("u.csv", b"a,b\n1,\xff\xfe\n");
    check(&opening(&f, "u.csv", FileKind::Csv).await, ErrorKind::Data, &["u.csv", "UTF-8"]);
    f.write("d.csv", "d\n2024-01-01\n");
    let spec = f
        .spec("d.csv", FileKind::Csv)
        .with_option("dateformat", "%d.%m.%Y")
        .with_columns(Arc::new(Schema::new(vec![Field::new("d", DataType::Date32, true)])));
    f.table(&spec).await.unwrap();
    check(
        &f.batches("SELECT * FROM t").await.unwrap_err(),
        ErrorKind::Data,
        &["d.csv", "\"2024-01-01\"", "%d.%m.%Y"],
    );
    f.write("w/a.csv", "1,2\n");
    f.write("w/b.csv", "1,2,3\n");
    let spec = f.spec("w/", FileKind::Csv).with_option("header", "false");
    check(&f.table(&spec).await.unwrap_err(), ErrorKind::Data, &["a.csv", "2 columns, others have 3"]);
}

#[tokio::test]
async fn broken_json() {
    let f = Fixture::new();
    f.write("a.ndjson", "{\"a\":1}\n{\"a\":\n");
    check(
        &opening(&f, "a.ndjson", FileKind::Json).await,
        ErrorKind::Data,
        &["a.ndjson\", line 2", "no JSON"],
    );
    f.write("b.ndjson", "{\"a\":1}\n[2]\n");
    check(
        &opening(&f, "b.ndjson", FileKind::Json).await,
        ErrorKind::Data,
        &["b.ndjson\", line 2", "no object"],
    );
    f.write("c.json", "[{\"a\":1},");
    check(&opening(&f, "c.json", FileKind::Json).await, ErrorKind::Data, &["c.json", "the array has no end"]);
    let objects: Vec<String> = (0..30_000).map(|i| format!("{{\"a\":{i}}}")).collect();
    f.write("late.json", format!("[{}", objects.join(",\n")));
    check(
        &reading(&f, "late.json", FileKind::Json).await,
        ErrorKind::Data,
        &["late.json", "the array has no end"],
    );
    f.write("d.json", "hello");
    check(&opening(&f, "d.json", FileKind::Json).await, ErrorKind::Data, &["d.json"]);
    let mut text = String::new();
    for i in 0..21_000 {
        text += &format!("{{\"a\":{i}}}\n");
    }
    text += "{\"a\":}\n";
    f.write("e.ndjson", &text);
    check(&reading(&f, "e.ndjson", FileKind::Json).await, ErrorKind::Data, &["e.ndjson\", line 21001"]);
}

#[tokio::test]
async fn broken_arrow() {
    let f = Fixture::new();
    f.copy(
        "SELECT value AS id, concat('abc', CAST(value AS VARCHAR)) AS s FROM generate_series(1, 1000)",
        "g.arrow",
        &[],
        &[],
    )
    .await
    .unwrap();
    let good = std::fs::read(f.path("g.arrow")).unwrap();
    f.write("cut.arrow", &good[..good.len() / 2]);
    f.write("text.arrow", "id,name\n1,this is no arrow file at all\n");
    f.write("tiny.arrow", "ARROW1");
    f.write("short.arrow", "xy");
    let mut tail = good.clone();
    let at = tail.len() - 60;
    tail[at..at + 40].fill(0xee);
    f.write("footer.arrow", &tail);
    for name in ["cut", "text", "tiny", "short", "footer"] {
        let name = format!("{name}.arrow");
        check(&opening(&f, &name, FileKind::Arrow).await, ErrorKind::Data, &[&name]);
    }
    // Every damage ends in an error or in other values, never in a panic.
    for at in (0..good.len() - 8).step_by(37) {
        let mut damaged = good.clone();
        damaged[at..at + 8].fill(0xff);
        f.write("damaged.arrow", &damaged);
        if f.table(&f.spec("damaged.arrow", FileKind::Arrow)).await.is_ok()
            && let Err(e) = f.batches("SELECT * FROM t").await
        {
            assert!(matches!(e.kind(), ErrorKind::Data | ErrorKind::Invalid), "{at}: {e} ({:?})", e.kind());
        }
    }
    // A stream that ends in the middle.
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let batch =
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(vec![1; 1000]))]).unwrap();
    let mut stream = Vec::new();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut stream, &schema).unwrap();
    writer.write(&batch).unwrap();
    drop(writer);
    f.write("stream.arrows", &stream[..stream.len() - 500]);
    check(&reading(&f, "stream.arrows", FileKind::Arrow).await, ErrorKind::Data, &["stream.arrows"]);
}

#[tokio::test]
async fn files_that_do_not_fit_together() {
    let f = Fixture::new();
    f.copy("SELECT 1 AS id", "d/a.parquet", &[], &[]).await.unwrap();
    f.copy("SELECT 'x' AS id", "d/b.parquet", &[], &[]).await.unwrap();
    check(
        &opening(&f, "d/", FileKind::Parquet).await,
        ErrorKind::Data,
        &["column \"id\" is BIGINT in", "d/a.parquet\" and VARCHAR in", "d/b.parquet\""],
    );
    for (name, n) in [("v/a.parquet", 3), ("v/b.parquet", 4)] {
        let list = vec!["1.0"; n].join(",");
        let sql = format!("SELECT arrow_cast([{list}], 'FixedSizeList({n}, Float32)') AS emb");
        f.copy(&sql, name, &[], &[]).await.unwrap();
    }
    check(&opening(&f, "v/", FileKind::Parquet).await, ErrorKind::Data, &["REAL[3] in", "REAL[4] in"]);
    f.write("j/a.ndjson", "{\"a\":1}\n");
    f.write("j/b.ndjson", "{\"a\":{\"b\":1}}\n");
    check(
        &opening(&f, "j/", FileKind::Json).await,
        ErrorKind::Data,
        &["column \"a\"", "a.ndjson", "b.ndjson"],
    );
    f.write("u/a.csv", "a\n1\n");
    f.write("u/b.csv", "b\n1\n");
    let spec = f.spec("u/", FileKind::Csv).with_option("union_by_name", "false");
    check(&f.table(&spec).await.unwrap_err(), ErrorKind::Data, &["b.csv\" has other columns than", "a.csv"]);
    let schema = Arc::new(Schema::new(vec![
        Field::new("x", DataType::Utf8, true),
        Field::new("x", DataType::Utf8, true),
    ]));
    let column = || Arc::new(StringArray::from(vec!["a"])) as _;
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column(), column()]).unwrap();
    let mut stream = Vec::new();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut stream, &schema).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    f.write("twice.arrow", &stream);
    check(&opening(&f, "twice.arrow", FileKind::Arrow).await, ErrorKind::Data, &["two columns called \"x\""]);
}

#[tokio::test]
async fn the_wrong_compression() {
    let f = Fixture::new();
    f.write("a.csv.gz", "a,b\n1,2\n");
    check(&opening(&f, "a.csv.gz", FileKind::Csv).await, ErrorKind::Data, &["a.csv.gz"]);
    f.copy("SELECT value AS a FROM generate_series(1, 20000)", "b.csv.gz", &[], &[]).await.unwrap();
    let good = std::fs::read(f.path("b.csv.gz")).unwrap();
    f.write("cut.csv.gz", &good[..good.len() - 1000]);
    check(&reading(&f, "cut.csv.gz", FileKind::Csv).await, ErrorKind::Data, &["cut.csv.gz"]);
}
