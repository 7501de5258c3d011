use std::sync::Arc;
use std::time::Duration;

use arrow::array::*;
use arrow::datatypes::*;

use super::*;

fn type_name(field: &Field) -> String {
    match field.data_type() {
        DataType::Int64 => "BIGINT".into(),
        DataType::Utf8 => "VARCHAR".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::FixedSizeList(_, n) => format!("VECTOR({n})"),
        other => other.to_string().to_uppercase(),
    }
}

fn options(width: Option<usize>) -> TableOptions {
    TableOptions { width, type_name, ..TableOptions::default() }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap()
}

fn small() -> RecordBatch {
    batch(vec![
        ("id", Arc::new(Int64Array::from(vec![Some(1), Some(200), None]))),
        ("name", Arc::new(StringArray::from(vec![Some("serde"), None, Some("日本語")]))),
        ("score", Arc::new(Float64Array::from(vec![0.5, f64::NAN, -12.25]))),
    ])
}

fn table(batches: &[RecordBatch], options: &TableOptions) -> String {
    render_table(&batches[0].schema(), batches, options, Some(Duration::from_micros(12_340))).unwrap()
}

fn write(format: Format, batches: &[RecordBatch]) -> String {
    let mut out = Vec::new();
    let mut sink = open_sink(format, &mut out, &batches[0].schema(), false, &options(None)).unwrap();
    for b in batches {
        sink.write(b).unwrap();
    }
    sink.finish(None).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_small_table() {
    assert_eq!(
        table(&[small()], &options(Some(80))),
        "\
╭────────┬─────────┬────────╮
│     id │ name    │  score │
│ BIGINT │ VARCHAR │ DOUBLE │
├────────┼─────────┼────────┤
│      1 │ serde   │    0.5 │
│    200 │ NULL    │    NaN │
│   NULL │ 日本語  │ -12.25 │
╰────────┴─────────┴────────╯
3 rows  3 columns  12.3 ms
"
    );
}

#[test]
fn no_rows_and_no_columns() {
    let empty = small().slice(0, 0);
    assert_eq!(
        table(&[empty], &options(Some(80))),
        "\
╭────────┬─────────┬────────╮
│     id │ name    │  score │
│ BIGINT │ VARCHAR │ DOUBLE │
├────────┼─────────┼────────┤
╰────────┴─────────┴────────╯
0 rows  3 columns  12.3 ms
"
    );
    let rows = RecordBatchOptions::new().with_row_count(Some(3));
    let none = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &rows).unwrap();
    assert_eq!(table(&[none], &options(Some(80))), "3 rows  0 columns  12.3 ms\n");
}

fn wide() -> RecordBatch {
    let text = |s: &str| Arc::new(StringArray::from(vec![s])) as ArrayRef;
    batch(vec![
        ("id", Arc::new(Int64Array::from(vec![7]))),
        ("title", text("A study of everything that can be said about nearest neighbours")),
        ("author", text("Ada Lovelace and others")),
        ("venue", text("Proceedings of a long name")),
        ("year", Arc::new(Int64Array::from(vec![2026]))),
    ])
}

#[test]
fn a_wide_table_in_40_cells() {
    assert_eq!(
        table(&[wide()], &options(Some(40))),
        "\
╭────────┬────────────────┬───┬────────╮
│     id │ title          │ … │   year │
│ BIGINT │ VARCHAR        │ … │ BIGINT │
├────────┼────────────────┼───┼────────┤
│      7 │ A study of ev… │ … │   2026 │
╰────────┴────────────────┴───┴────────╯
1 row  5 columns (3 shown)  12.3 ms
"
    );
}

#[test]
fn a_wide_table_in_80_cells() {
    assert_eq!(
        table(&[wide()], &options(Some(80))),
        "\
╭────────┬────────────────────┬───────────────────┬───────────────────┬────────╮
│     id │ title              │ author            │ venue             │   year │
│ BIGINT │ VARCHAR            │ VARCHAR           │ VARCHAR           │ BIGINT │
├────────┼────────────────────┼───────────────────┼───────────────────┼────────┤
│      7 │ A study of everyt… │ Ada Lovelace and… │ Proceedings of a… │   2026 │
╰────────┴────────────────────┴───────────────────┴───────────────────┴────────╯
1 row  5 columns  12.3 ms
"
    );
}

#[test]
fn a_wide_table_in_200_cells_is_whole() {
    let text = table(&[wide()], &options(Some(200)));
    assert!(text.contains("A study of everything that can be said about nearest neighbours"));
    assert!(!text.contains('…'));
    assert_eq!(text, table(&[wide()], &options(None)));
}

#[test]
fn ten_thousand_columns() {
    let columns: Vec<(String, ArrayRef)> =
        (0..10_000).map(|i| (format!("c{i}"), Arc::new(Int64Array::from(vec![i])) as ArrayRef)).collect();
    let wide = batch(columns.iter().map(|(n, a)| (n.as_str(), Arc::clone(a))).collect());
    let text = table(&[wide], &options(Some(80)));
    assert!(text.lines().all(|l| text::width(l) <= 80), "{text}");
    assert!(text.contains("c0 │") && text.contains("c9999 │"));
    assert!(text.ends_with("1 row  10,000 columns (8 shown)  12.3 ms\n"), "{text}");
}

#[test]
fn long_results_show_their_ends() {
    let many = |from: i64, n: i64| {
        batch(vec![("n", Arc::new(Int64Array::from_iter_values(from..from + n)) as ArrayRef)])
    };
    let o = TableOptions { max_rows: Some(5), ..options(None) };
    let expected = "\
╭────────╮
│      n │
│ BIGINT │
├────────┤
│      0 │
│      1 │
│      2 │
│  · · · │
│     98 │
│     99 │
╰────────╯
100 rows (5 shown)  1 column  12.3 ms
";
    // However the rows come.
    assert_eq!(table(&[many(0, 100)], &o), expected);
    for size in [1, 2, 3, 4, 7, 50, 99] {
        let mut batches = Vec::new();
        let mut at = 0;
        while at < 100 {
            let n = size.min(100 - at);
            batches.push(many(at, n));
            at += n;
        }
        assert_eq!(table(&batches, &o), expected, "batches of {size}");
    }
    // At the limit nothing is left out; one row more and something is.
    for (rows, cut) in [(4, false), (5, false), (6, true), (7, true)] {
        for size in [1, 2, 100] {
            let batches: Vec<_> =
                (0..rows).step_by(size as usize).map(|from| many(from, size.min(rows - from))).collect();
            let text = table(&batches, &o);
            assert_eq!(text.contains("· · ·"), cut, "{rows} rows in batches of {size}: {text}");
            assert!(text.contains(&format!("│      {} │", rows - 1)));
            assert_eq!(
                text.lines().filter(|l| l.starts_with("│ ")).count(),
                2 + 5.min(rows as usize) + usize::from(cut)
            );
        }
    }
    let all = TableOptions { max_rows: None, ..options(None) };
    assert_eq!(table(&[many(0, 100)], &all).lines().count(), 100 + 6);
    let none = TableOptions { max_rows: Some(1), ..options(None) };
    assert!(table(&[many(0, 100)], &none).contains("100 rows (1 shown)"));
}

#[test]
fn only_the_ends_are_kept_in_memory() {
    let mut out = Vec::new();
    let b = batch(vec![("n", Arc::new(Int64Array::from_iter_values(0..1000)) as ArrayRef)]);
    let mut sink = table::TableSink::new(&mut out, b.schema(), options(None));
    for _ in 0..1000 {
        sink.write(&b).unwrap();
    }
    assert_eq!(Box::new(sink).finish(None).unwrap(), 1_000_000);
    assert!(String::from_utf8(out).unwrap().contains("1,000,000 rows (40 shown)  1 column\n"));
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let evil = batch(vec![(
        "na\u{1b}[2Jme",
        Arc::new(StringArray::from(vec!["a\nb", "\u{1b}]0;title\u{7}", "\u{202e}gpj.exe", "tab\there"]))
            as ArrayRef,
    )]);
    for format in [Format::Table, Format::Markdown, Format::Json, Format::Ndjson] {
        let text = write(format, std::slice::from_ref(&evil));
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{format}: {text}");
    }
    let text = table(&[evil], &options(Some(80)));
    assert_eq!(
        text,
        "\
╭──────────────────╮
│ na\\x1b[2Jme      │
│ VARCHAR          │
├──────────────────┤
│ a\\nb             │
│ \\x1b]0;title\\x07 │
│ \\u{202e}gpj.exe  │
│ tab\\there        │
╰──────────────────╯
4 rows  1 column  12.3 ms
"
    );
}

#[test]
fn emoji_and_combining_marks_are_aligned() {
    let b = batch(vec![(
        "s",
        Arc::new(StringArray::from(vec!["👩‍👩‍👧 x", "e\u{301}te\u{301}", "한국어", "plain"])) as ArrayRef,
    )]);
    assert_eq!(
        table(&[b], &options(Some(80))),
        "\
╭─────────╮
│ s       │
│ VARCHAR │
├─────────┤
│ 👩‍👩‍👧 x    │
│ e\u{301}te\u{301}     │
│ 한국어  │
│ plain   │
╰─────────╯
4 rows  1 column  12.3 ms
"
    );
}

#[test]
fn colours_only_dress_the_text() {
    let o = TableOptions { palette: Palette::COLOUR, ..options(Some(80)) };
    let coloured = table(&[small()], &o);
    assert!(coloured.contains("\u{1b}[2mNULL"), "{coloured:?}");
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some(at) = rest.find('\u{1b}') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = &rest[rest.find('m').unwrap() + 1..];
    }
    plain.push_str(rest);
    assert_eq!(plain, table(&[small()], &options(Some(80))));
}

#[test]
fn expanded_rows() {
    let o = TableOptions { expanded: Expanded::On, ..options(Some(30)) };
    assert_eq!(
        table(&[wide()], &o),
        "\
─[ row 1 ]────────────────────
id     │ 7
title  │ A study of everything
       │  that can be said abo
       │ ut nearest neighbours
author │ Ada Lovelace and othe
       │ rs
venue  │ Proceedings of a long
       │  name
year   │ 2026
1 row  5 columns  12.3 ms
"
    );
    // `auto` only where columns would be left out.
    let auto = |w| TableOptions { expanded: Expanded::Auto, ..options(Some(w)) };
    assert!(table(&[wide()], &auto(40)).starts_with("─[ row 1 ]"));
    assert!(table(&[wide()], &auto(200)).starts_with('╭'));
    let cut = TableOptions { expanded: Expanded::On, max_rows: Some(2), ..options(None) };
    assert_eq!(
        table(&[small().project(&[0]).unwrap()], &cut),
        "\
─[ row 1 ]──────────
id │ 1
· · ·
─[ row 3 ]──────────
id │ NULL
3 rows (2 shown)  1 column  12.3 ms
"
    );
}

#[test]
fn csv_follows_the_rfc() {
    let b = batch(vec![
        ("a,b", Arc::new(Int64Array::from(vec![Some(1), None, Some(i64::MIN)])) as ArrayRef),
        ("s", Arc::new(StringArray::from(vec![Some("say \"hi\"\r\nthere"), Some(""), None]))),
    ]);
    assert_eq!(
        write(Format::Csv, &[b.clone(), b]),
        "\"a,b\",s\n1,\"say \"\"hi\"\"\r\nthere\"\n,\"\"\n-9223372036854775808,\n\
         1,\"say \"\"hi\"\"\r\nthere\"\n,\"\"\n-9223372036854775808,\n"
    );
}

fn vectors() -> RecordBatch {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let values = Arc::new(Float32Array::from(vec![0.5, 1.0, -2.0, 3.0, 4.0, 5.0]));
    let vector = FixedSizeListArray::new(Arc::clone(&item), 6, values, None);
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None])]);
    batch(vec![("v", Arc::new(vector)), ("l", Arc::new(list))])
}

#[test]
fn vectors_as_text() {
    assert_eq!(write(Format::Csv, &[vectors()]), "v,l\n\"[0.5,1.0,-2.0,3.0,4.0,5.0]\",\"[1,null]\"\n");
    assert_eq!(write(Format::Tsv, &[vectors()]), "v\tl\n[0.5,1.0,-2.0,3.0,4.0,5.0]\t[1,null]\n");
    assert_eq!(write(Format::Ndjson, &[vectors()]), "{\"v\":[0.5,1.0,-2.0,3.0,4.0,5.0],\"l\":[1,null]}\n");
    let text = table(&[vectors().project(&[0]).unwrap()], &options(Some(80)));
    assert!(text.contains("│ [0.50, 1.00, … 6 d] │\n"), "{text}");
}

#[test]
fn tsv_escapes() {
    let b = batch(vec![
        ("a", Arc::new(StringArray::from(vec![Some("x\ty\\z\n"), None, Some("")])) as ArrayRef),
        ("b", Arc::new(Int64Array::from(vec![1, 2, 3]))),
    ]);
    assert_eq!(write(Format::Tsv, &[b]), "a\tb\nx\\ty\\\\z\\n\t1\n\\N\t2\n\t3\n");
}

#[test]
fn json_is_json() {
    let text = write(Format::Json, &[small(), small().slice(0, 0), small().slice(0, 1)]);
    assert_eq!(
        text,
        "[\n{\"id\":1,\"name\":\"serde\",\"score\":0.5},\n{\"id\":200,\"name\":null,\"score\":null},\n\
         {\"id\":null,\"name\":\"日本語\",\"score\":-12.25},\n{\"id\":1,\"name\":\"serde\",\"score\":0.5}\n]\n"
    );
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed.as_array().unwrap().len(), 4);
    assert_eq!(write(Format::Json, &[small().slice(0, 0)]), "[]\n");
    assert_eq!(write(Format::Ndjson, &[small().slice(0, 0)]), "");
}

#[test]
fn json_escapes_and_distinct_keys() {
    let text: String = (0..=0x100_u32).filter_map(char::from_u32).collect();
    let a = Arc::new(StringArray::from(vec![text.as_str()])) as ArrayRef;
    let schema = Schema::new(vec![
        Field::new("x", DataType::Utf8, true),
        Field::new("x", DataType::Utf8, true),
        Field::new("x_1", DataType::Utf8, true),
    ]);
    let b = RecordBatch::try_new(Arc::new(schema), vec![Arc::clone(&a), Arc::clone(&a), a]).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&write(Format::Ndjson, &[b])).unwrap();
    let object = parsed.as_object().unwrap();
    assert_eq!(object.keys().collect::<Vec<_>>(), ["x", "x_1", "x_2"]);
    assert!(object.values().all(|v| v.as_str() == Some(text.as_str())));
}

#[test]
fn markdown_escapes_pipes() {
    let b = batch(vec![
        ("a|b", Arc::new(StringArray::from(vec![Some("x|y\\"), Some("two\nlines"), None])) as ArrayRef),
        ("n", Arc::new(Int64Array::from(vec![1, 2, 3]))),
    ]);
    assert_eq!(
        write(Format::Markdown, &[b]),
        "| a\\|b | n |\n|:---|---:|\n| x\\|y\\\\ | 1 |\n| two<br>lines | 2 |\n| NULL | 3 |\n"
    );
}

#[test]
fn columnar_formats_come_back() {
    let dictionary: DictionaryArray<Int8Type> = ["a", "b", "a"].into_iter().collect();
    let b = batch(vec![
        ("d", Arc::new(dictionary) as ArrayRef),
        ("v", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]))),
    ]);
    // Another dictionary in the second batch: the file format allows one only.
    let other: DictionaryArray<Int8Type> = ["z", "b", "y"].into_iter().collect();
    let c = RecordBatch::try_new(b.schema(), vec![Arc::new(other), Arc::clone(b.column(1))]).unwrap();
    let bytes = |format, to_file| {
        let mut out = Vec::new();
        let mut sink = open_sink(format, &mut out, &b.schema(), to_file, &options(None)).unwrap();
        sink.write(&b).unwrap();
        sink.write(&c).unwrap();
        assert_eq!(sink.finish(None).unwrap(), 6);
        out
    };
    let stream =
        arrow::ipc::reader::StreamReader::try_new(std::io::Cursor::new(bytes(Format::Arrow, false)), None)
            .unwrap();
    assert_eq!(stream.map(|b| b.unwrap().num_rows()).sum::<usize>(), 6);
    let file =
        arrow::ipc::reader::FileReader::try_new(std::io::Cursor::new(bytes(Format::Arrow, true)), None)
            .unwrap();
    let back: Vec<_> = file.map(|b| b.unwrap()).collect();
    assert_eq!(back[1].column(0).as_string::<i32>().value(0), "z");
    let parquet = bytes(Format::Parquet, true);
    assert_eq!(&parquet[..4], b"PAR1");
    let file = tempfile::tempfile().unwrap();
    (&file).write_all(&parquet).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 1024).unwrap();
    assert_eq!(reader.map(|b| b.unwrap().num_rows()).sum::<usize>(), 6);
}

#[test]
fn plans_are_text() {
    let b = batch(vec![
        ("plan_type", Arc::new(StringArray::from(vec!["logical_plan", "physical_plan"])) as ArrayRef),
        (
            "plan",
            Arc::new(StringArray::from(vec!["Projection: a  \n  TableScan: t\n", "Exec\u{1b}[2J\n\tChild"])),
        ),
    ]);
    let mut out = Vec::new();
    let mut sink: Box<dyn Sink> = Box::new(plan::PlanSink::new(&mut out, Palette::PLAIN));
    sink.write(&b).unwrap();
    sink.finish(None).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "logical_plan\nProjection: a\n  TableScan: t\n\nphysical_plan\nExec\\x1b[2J\n    Child\n"
    );
    let one = batch(vec![("plan", Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef)]);
    let mut out = Vec::new();
    let mut sink: Box<dyn Sink> = Box::new(plan::PlanSink::new(&mut out, Palette::PLAIN));
    sink.write(&one).unwrap();
    sink.finish(None).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "a\nb\n");
}

#[test]
fn formats_by_name_and_by_file() {
    for name in Format::NAMES {
        assert_eq!(name.parse::<Format>().unwrap().to_string(), name);
    }
    assert_eq!("jsonl".parse::<Format>().unwrap(), Format::Ndjson);
    assert!("xml".parse::<Format>().unwrap_err().to_string().contains("accepted are table, csv"));
    assert_eq!(Format::of_path(std::path::Path::new("a/b.PARQUET")), Some(Format::Parquet));
    assert_eq!(Format::of_path(std::path::Path::new("a.txt")), None);
}
