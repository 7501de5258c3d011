//! What is written reads back, and what cannot be written is told.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Date32Array, Decimal64Array, DictionaryArray,
    FixedSizeListArray, Float16Array, Float32Array, Int8Array, Int64Array, IntervalMonthDayNanoArray,
    ListArray, RecordBatch, StringArray, StringViewArray, StructArray, TimestampMicrosecondArray,
    TimestampNanosecondArray, UInt8Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, IntervalMonthDayNano, Schema};
use datafusion::catalog::TableProvider;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use half::f16;
use triune_common::{Error, ErrorKind};
use triune_lance::{LanceVersion, WriteMode};

use crate::support::{Place, documents, one_column, register, rows_of, session};

fn list(item: DataType, name: &str, values: ArrayRef, dims: i32) -> ArrayRef {
    let field = Arc::new(Field::new(name, item, name == "item"));
    let nulls = (0..values.len() as i32 / dims).map(|i| i != 1).collect::<Vec<_>>();
    Arc::new(FixedSizeListArray::new(field, dims, values, Some(nulls.into())))
}

#[tokio::test]
async fn types_values_and_metadata_survive() {
    let vector = HashMap::from([
        ("ARROW:extension:name".to_owned(), "triune.vector".to_owned()),
        ("ARROW:extension:metadata".to_owned(), "{\"dims\":2}".to_owned()),
    ]);
    let floats = || Arc::new(Float32Array::from(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])) as ArrayRef;
    let halves =
        Arc::new(Float16Array::from_iter_values((0..6).map(|i| f16::from_f32(i as f32)))) as ArrayRef;
    let bytes = Arc::new(Int8Array::from(vec![1, -2, 3, -4, 5, -6])) as ArrayRef;
    let bits = Arc::new(UInt8Array::from(vec![1, 2, 3, 4, 5, 6])) as ArrayRef;
    let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None, Some("x")].into_iter().collect();
    let inner = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as ArrayRef;
    let structs = StructArray::from(vec![(Arc::new(Field::new("a", DataType::Int64, true)), inner)]);
    let lists =
        ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1)]), None, Some(vec![])]);
    let columns: Vec<(&str, ArrayRef, DataType)> = vec![
        ("text", Arc::new(StringViewArray::from(vec![Some("a"), None, Some("ü")])), DataType::Utf8),
        ("raw", Arc::new(BinaryViewArray::from(vec![Some(&b"a"[..]), None, Some(b"")])), DataType::Binary),
        ("vec", list(DataType::Float32, "item", floats(), 2), crate::support::vector_type(2)),
        ("named", list(DataType::Float32, "element", floats(), 2), crate::support::vector_type(2)),
        ("half", list(DataType::Float16, "item", halves, 2), DataType::Null),
        ("tiny", list(DataType::Int8, "item", bytes, 2), DataType::Null),
        ("bits", list(DataType::UInt8, "item", bits, 2), DataType::Null),
        ("dict", Arc::new(dictionary), DataType::Utf8),
        ("struct", Arc::new(structs), DataType::Null),
        ("list", Arc::new(lists), DataType::Null),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])), DataType::Null),
        ("day", Arc::new(Date32Array::from(vec![Some(1), None, Some(20_000)])), DataType::Null),
        (
            "at",
            Arc::new(TimestampMicrosecondArray::from(vec![1, 2, 3]).with_timezone("+00:00")),
            DataType::Null,
        ),
        ("local", Arc::new(TimestampNanosecondArray::from(vec![Some(1), None, Some(3)])), DataType::Null),
        (
            "money",
            Arc::new(
                Decimal64Array::from(vec![Some(125), None, Some(-5)]).with_precision_and_scale(9, 2).unwrap(),
            ),
            DataType::Decimal128(9, 2),
        ),
    ];
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array, _)| {
            let field = Field::new(*name, array.data_type().clone(), true);
            if *name == "vec" { field.with_metadata(vector.clone()) } else { field }
        })
        .collect();
    let arrays = columns.iter().map(|(_, array, _)| Arc::clone(array)).collect();
    let given = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();

    let place = Place::new();
    assert_eq!(place.write(vec![given.clone()], WriteMode::Create).await.unwrap(), 3);
    let table = place.open().await;
    let schema = table.schema();
    let ctx = session(2, 8192);
    register(&ctx, "t", table);
    let read = rows_of(&ctx, "SELECT * FROM t").await;
    assert_eq!(read.num_rows(), 3);
    for (i, (name, array, stored)) in columns.iter().enumerate() {
        let stored = if *stored == DataType::Null { array.data_type() } else { stored };
        assert_eq!(schema.field(i).data_type(), stored, "{name}");
        let want = arrow::compute::cast(array, stored).unwrap();
        assert_eq!(read.column(i).to_data(), want.to_data(), "{name}");
    }
    assert_eq!(schema.field_with_name("vec").unwrap().metadata(), &vector);
    assert_eq!(read.schema().field_with_name("vec").unwrap().metadata(), &vector);
}

#[tokio::test]
async fn modes() {
    let place = Place::new();
    let missing = place.write(vec![documents(0, 5)], WriteMode::Append).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    assert_eq!(place.write(vec![documents(0, 5), documents(5, 8)], WriteMode::Create).await.unwrap(), 8);
    let twice = place.write(vec![documents(0, 5)], WriteMode::Create).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists, "{twice}");
    assert!(twice.message().contains("t.lance"), "{twice}");
    assert_eq!(place.write(vec![documents(8, 10)], WriteMode::Append).await.unwrap(), 2);
    assert_eq!(place.open().await.rows(), 10);
    let (_, other) = one_column("x", Arc::new(Int64Array::from(vec![1])));
    let unfit = place.write(vec![other.clone()], WriteMode::Append).await.unwrap_err();
    assert_eq!(unfit.kind(), ErrorKind::Invalid, "{unfit}");
    assert_eq!(place.open().await.rows(), 10, "a refused write leaves no version");
    assert_eq!(place.write(vec![other], WriteMode::Overwrite).await.unwrap(), 1);
    assert_eq!(place.open().await.schema().field(0).name(), "x");
    let before = place.store.open(&place.url, &LanceVersion::Number(2)).await.unwrap();
    assert_eq!(before.rows(), 10);
}

#[tokio::test]
async fn overwriting_nothing_creates() {
    let place = Place::new();
    assert_eq!(place.write(vec![documents(0, 5)], WriteMode::Overwrite).await.unwrap(), 5);
    assert_eq!(place.open().await.version(), 1);
}

#[tokio::test]
async fn no_rows_make_an_empty_dataset() {
    let place = Place::new();
    let none = RecordBatch::new_empty(documents(0, 1).schema());
    let empty = futures::stream::iter(Vec::<datafusion::common::Result<RecordBatch>>::new());
    let stream = Box::pin(RecordBatchStreamAdapter::new(none.schema(), empty));
    assert_eq!(place.store.write(&place.url, stream, WriteMode::Create).await.unwrap(), 0);
    let table = place.open().await;
    assert_eq!((table.rows(), table.schema().fields().len()), (0, 4));
    let ctx = session(4, 8192);
    register(&ctx, "t", table);
    assert_eq!(rows_of(&ctx, "SELECT * FROM t WHERE id > 3").await.num_rows(), 0);
    let count = rows_of(&ctx, "SELECT count(*), count(name) FROM t").await;
    assert_eq!(count.column(0).as_primitive::<Int64Type>().value(0), 0);
    place.write(vec![none, documents(0, 3)], WriteMode::Append).await.unwrap();
    assert_eq!(place.open().await.rows(), 3);
}

#[tokio::test]
async fn an_error_of_the_query_comes_back_as_it_was() {
    let place = Place::new();
    let schema = documents(0, 1).schema();
    let torn = Error::data("row 4 has 3 fields, the header has 4").with_hint("set ignore_errors = true");
    let rows = futures::stream::iter(vec![Ok(documents(0, 4)), Err(torn.into())]);
    let stream = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
    let error = place.store.write(&place.url, stream, WriteMode::Create).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "{error}");
    assert_eq!(error.hint(), Some("set ignore_errors = true"));
    let nothing = place.store.open(&place.url, &LanceVersion::Latest).await.unwrap_err();
    assert!(matches!(nothing.kind(), ErrorKind::NotFound | ErrorKind::Invalid), "{nothing}");
}

#[tokio::test]
async fn what_lance_cannot_hold_is_told() {
    let place = Place::new();
    let one = Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let field = |n: &str| Field::new(n, DataType::Int64, true);
    let twice = Arc::new(Schema::new(vec![field("a"), field("a")]));
    let twice = RecordBatch::try_new(twice, vec![Arc::clone(&one), Arc::clone(&one)]).unwrap();
    let error = place.write(vec![twice], WriteMode::Create).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Invalid, "two columns are called \"a\""));

    let (_, dotted) = one_column("a.b", one);
    let error = place.write(vec![dotted], WriteMode::Create).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.message().contains("a.b") && !error.message().contains(".rs"), "{error}");

    let interval = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3)]);
    let (_, interval) = one_column("i", Arc::new(interval));
    let error = place.write(vec![interval], WriteMode::Create).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");

    let names = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        vec![],
        &arrow::array::RecordBatchOptions::new().with_row_count(Some(2)),
    );
    let error = place.write(vec![names.unwrap()], WriteMode::Create).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let strings = Arc::new(StringArray::from(vec!["x"])) as ArrayRef;
    let (_, quoted) = one_column("a`b", Arc::clone(&strings));
    let error = place.write(vec![quoted.clone()], WriteMode::Create).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");

    let (_, odd) = one_column("a column, \"quoted\" + 'ü'", strings);
    place.write(vec![odd], WriteMode::Create).await.unwrap();
    let ctx = session(2, 8192);
    register(&ctx, "t", place.open().await);
    let read = rows_of(&ctx, "SELECT * FROM t WHERE \"a column, \"\"quoted\"\" + 'ü'\" = 'x'").await;
    assert_eq!(read.num_rows(), 1);

    // Somebody else wrote such a name: told, not read as NULLs.
    let other = Place::new();
    let path = other.url.to_file_path().unwrap();
    let reader = arrow::array::RecordBatchIterator::new(vec![Ok(quoted.clone())], quoted.schema());
    lance::Dataset::write(reader, path.to_str().unwrap(), None).await.unwrap();
    register(&ctx, "other", other.open().await);
    let logical = ctx.state().create_logical_plan("SELECT * FROM other").await.unwrap();
    let error = Error::from(ctx.state().create_physical_plan(&logical).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}
