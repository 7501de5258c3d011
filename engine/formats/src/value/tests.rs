use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::*;

use super::*;

fn field(array: &dyn Array) -> Field {
    Field::new("c", array.data_type().clone(), true)
}

fn short(array: &dyn Array) -> Vec<String> {
    let f = field(array);
    let column = Column::try_new(&f, array, Purpose::Display).unwrap();
    (0..array.len())
        .map(|i| {
            let mut s = String::new();
            column.write_short(i, &mut s);
            s
        })
        .collect()
}

fn text(array: &dyn Array) -> Vec<String> {
    let f = field(array);
    let column = Column::try_new(&f, array, Purpose::Display).unwrap();
    (0..array.len())
        .map(|i| {
            let mut s = String::new();
            column.write_text(i, &mut s);
            s
        })
        .collect()
}

fn json(array: &dyn Array) -> Vec<String> {
    let f = field(array);
    let column = Column::try_new(&f, array, Purpose::Json).unwrap();
    (0..array.len())
        .map(|i| {
            let mut s = String::new();
            column.write_json(i, &mut s);
            s
        })
        .collect()
}

#[test]
fn scalars() {
    let a = Int64Array::from(vec![Some(i64::MAX), None, Some(-1)]);
    assert_eq!(short(&a), ["9223372036854775807", "NULL", "-1"]);
    assert_eq!(text(&a), ["9223372036854775807", "", "-1"]);
    assert_eq!(json(&a), ["9223372036854775807", "null", "-1"]);
    let a = BooleanArray::from(vec![true, false]);
    assert_eq!(json(&a), ["true", "false"]);
    let a = NullArray::new(2);
    assert_eq!(short(&a), ["NULL", "NULL"]);
    assert_eq!(json(&a), ["null", "null"]);
}

#[test]
fn floats_keep_their_digits() {
    let a = Float32Array::from(vec![0.1, 1.0, f32::NAN, f32::INFINITY, 1e-9, f32::MAX]);
    assert_eq!(short(&a), ["0.1", "1.0", "NaN", "inf", "1e-9", "3.4028235e38"]);
    assert_eq!(json(&a), ["0.1", "1.0", "null", "null", "1e-9", "3.4028235e38"]);
    let a = Float64Array::from(vec![0.1, -0.0, f64::NEG_INFINITY, 1e300, 123456789012345680.0]);
    assert_eq!(short(&a), ["0.1", "-0.0", "-inf", "1e300", "1.2345678901234568e17"]);
    assert_eq!(json(&a), ["0.1", "-0.0", "null", "1e300", "1.2345678901234568e17"]);
}

#[test]
fn decimals_are_json_numbers() {
    let a =
        Decimal128Array::from(vec![Some(12_345), Some(-5), None]).with_precision_and_scale(38, 2).unwrap();
    assert_eq!(short(&a), ["123.45", "-0.05", "NULL"]);
    assert_eq!(json(&a), ["123.45", "-0.05", "null"]);
}

#[test]
fn strings_of_every_layout() {
    let values = vec![Some("a\"b"), None, Some("x".repeat(40).leak() as &str)];
    for a in [
        Arc::new(StringArray::from(values.clone())) as ArrayRef,
        Arc::new(LargeStringArray::from(values.clone())),
        Arc::new(StringViewArray::from(values.clone())),
        Arc::new(values.iter().copied().collect::<DictionaryArray<Int8Type>>()),
    ] {
        assert_eq!(short(&a)[..2], ["a\"b", "NULL"], "{}", a.data_type());
        assert_eq!(json(&a)[..2], ["\"a\\\"b\"", "null"], "{}", a.data_type());
        assert_eq!(short(&a)[2].len(), 40);
        // A slice starts in the middle.
        assert_eq!(short(&a.slice(1, 2))[0], "NULL", "{}", a.data_type());
    }
}

#[test]
fn a_dictionary_may_hold_a_null_value_or_nothing() {
    let keys = Int8Array::from(vec![Some(0), Some(1), None]);
    let values = StringArray::from(vec![Some("a"), None]);
    let a = DictionaryArray::new(keys, Arc::new(values));
    assert_eq!(short(&a), ["a", "NULL", "NULL"]);
    assert_eq!(text(&a), ["a", "", ""]);
    let empty = DictionaryArray::new(
        Int8Array::from(vec![None, None]),
        Arc::new(StringArray::from(Vec::<&str>::new())),
    );
    assert_eq!(short(&empty), ["NULL", "NULL"]);
}

#[test]
fn runs_are_looked_through() {
    let ends = Int32Array::from(vec![2, 3]);
    let values = StringArray::from(vec![Some("a"), None]);
    let a = RunArray::<Int32Type>::try_new(&ends, &values).unwrap();
    assert_eq!(short(&a), ["a", "a", "NULL"]);
    assert_eq!(json(&a.slice(1, 2)), ["\"a\"", "null"]);
}

#[test]
fn bytes_are_hexadecimal() {
    let a = BinaryArray::from(vec![Some(&[0u8, 255][..]), None, Some(&[])]);
    assert_eq!(short(&a), ["\\x00ff", "NULL", "\\x"]);
    assert_eq!(json(&a), ["\"\\\\x00ff\"", "null", "\"\\\\x\""]);
    let a = FixedSizeBinaryArray::try_from_iter([[1u8, 2]].into_iter()).unwrap();
    assert_eq!(short(&a), ["\\x0102"]);
}

#[test]
fn times() {
    let a = TimestampMicrosecondArray::from(vec![0, 1_500_000]);
    assert_eq!(short(&a), ["1970-01-01 00:00:00", "1970-01-01 00:00:01.500"]);
    assert_eq!(json(&a), ["\"1970-01-01T00:00:00\"", "\"1970-01-01T00:00:01.500\""]);
    let a = TimestampSecondArray::from(vec![0, i64::MAX]).with_timezone("+01:30");
    assert_eq!(short(&a), ["1970-01-01 01:30:00+01:30", "(out of range)"]);
    assert_eq!(json(&a), ["\"1970-01-01T01:30:00+01:30\"", "\"(out of range)\""]);
    assert_eq!(short(&Date32Array::from(vec![-1])), ["1969-12-31"]);
    assert_eq!(short(&Time64NanosecondArray::from(vec![1_000])), ["00:00:00.000001"]);
}

#[test]
fn intervals_as_postgres_writes_them() {
    let a = IntervalMonthDayNanoArray::from(vec![
        IntervalMonthDayNano::new(14, 3, 14_706_789_000_000),
        IntervalMonthDayNano::new(0, 0, 0),
        IntervalMonthDayNano::new(0, -1, -1),
        IntervalMonthDayNano::new(1, 1, 0),
    ]);
    assert_eq!(
        short(&a),
        ["1 year 2 mons 3 days 04:05:06.789", "00:00:00", "-1 days -00:00:00.000000001", "1 mon 1 day"]
    );
    let a = IntervalYearMonthArray::from(vec![25]);
    assert_eq!(short(&a), ["2 years 1 mon"]);
    let a = DurationSecondArray::from(vec![90_061]);
    assert_eq!(short(&a), ["25:01:01"]);
    assert_eq!(json(&a), ["\"25:01:01\""]);
}

fn vectors(n: i32, values: Vec<f32>) -> FixedSizeListArray {
    FixedSizeListArray::new(
        Arc::new(Field::new("item", DataType::Float32, true)),
        n,
        Arc::new(Float32Array::from(values)),
        None,
    )
}

#[test]
fn long_vectors_are_abbreviated_for_people_only() {
    let a = vectors(6, vec![0.123, -0.03, 1.0, 2.0, 3.0, 4.0, 0.0, 1e-7, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(short(&a), ["[0.12, -0.03, … 6 d]", "[0, 1.0e-7, … 6 d]"]);
    assert_eq!(text(&a)[0], "[0.123,-0.03,1.0,2.0,3.0,4.0]");
    assert_eq!(json(&a)[0], "[0.123,-0.03,1.0,2.0,3.0,4.0]");
    let a = vectors(3, vec![1.0, f32::NAN, 0.5]);
    assert_eq!(short(&a), ["[1.0, NaN, 0.5]"]);
    assert_eq!(json(&a), ["[1.0,null,0.5]"]);
    assert_eq!(short(&vectors(2, vec![1.0, 2.0, 3.0, 4.0]).slice(1, 1)), ["[3.0, 4.0]"]);
}

#[test]
fn small_integer_vectors() {
    let a = FixedSizeListArray::new(
        Arc::new(Field::new("item", DataType::Int8, true)),
        5,
        Arc::new(Int8Array::from(vec![1, -2, 3, 4, 5])),
        None,
    );
    assert_eq!(short(&a), ["[1, -2, … 5 d]"]);
}

#[test]
fn bit_vectors_are_bits() {
    let bytes = UInt8Array::from(vec![0b1010_0000, 0b1100_0000]);
    let item = Arc::new(Field::new("item", DataType::UInt8, true));
    let a = FixedSizeListArray::new(item, 2, Arc::new(bytes), None);
    let f = Field::new("c", a.data_type().clone(), true).with_metadata(
        [
            ("ARROW:extension:name".to_owned(), "triune.bitvec".to_owned()),
            ("ARROW:extension:metadata".to_owned(), "{\"dims\":10}".to_owned()),
        ]
        .into(),
    );
    let column = Column::try_new(&f, &a, Purpose::Display).unwrap();
    let mut out = String::new();
    column.write_text(0, &mut out);
    assert_eq!(out, "1010000011");
    let long = UInt8Array::from(vec![0xf0; 48]);
    let item = Arc::new(Field::new("item", DataType::UInt8, true));
    let a = FixedSizeListArray::new(item, 48, Arc::new(long), None);
    let mut metadata = f.metadata().clone();
    metadata.insert("ARROW:extension:metadata".to_owned(), "{\"dims\":384}".to_owned());
    let f = Field::new("c", a.data_type().clone(), true).with_metadata(metadata);
    let column = Column::try_new(&f, &a, Purpose::Display).unwrap();
    let mut out = String::new();
    column.write_short(0, &mut out);
    assert_eq!(out, "1111000011110000… 384 d");
}

#[test]
fn nested_values() {
    let list = ListArray::new(
        Arc::new(Field::new("item", DataType::Utf8, true)),
        OffsetBuffer::from_lengths([2, 0]),
        Arc::new(StringArray::from(vec![Some("it's"), None])),
        None,
    );
    assert_eq!(short(&list), ["['it''s', NULL]", "[]"]);
    assert_eq!(text(&list), ["[\"it's\",null]", "[]"]);
    let structs = StructArray::from(vec![
        (
            Arc::new(Field::new("a", DataType::Int32, true)),
            Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef,
        ),
        (Arc::new(Field::new("b c", list.data_type().clone(), true)), Arc::new(list) as ArrayRef),
    ]);
    assert_eq!(short(&structs)[0], "{a: 1, b c: ['it''s', NULL]}");
    assert_eq!(json(&structs)[0], "{\"a\":1,\"b c\":[\"it's\",null]}");
    assert_eq!(json(&structs.slice(1, 1))[0], "{\"a\":2,\"b c\":[]}");
}

#[test]
fn maps() {
    let mut b = MapBuilder::new(None, Int32Builder::new(), StringBuilder::new());
    b.keys().append_value(1);
    b.values().append_value("x");
    b.keys().append_value(2);
    b.values().append_null();
    b.append(true).unwrap();
    b.append(false).unwrap();
    let a = b.finish();
    assert_eq!(short(&a), ["{1: 'x', 2: NULL}", "NULL"]);
    assert_eq!(json(&a), ["{\"1\":\"x\",\"2\":null}", "null"]);
}

#[test]
fn list_views() {
    let a = ListViewArray::new(
        Arc::new(Field::new("item", DataType::Int32, true)),
        vec![1, 0].into(),
        vec![2, 1].into(),
        Arc::new(Int32Array::from(vec![1, 2, 3])),
        None,
    );
    assert_eq!(short(&a), ["[2, 3]", "[1]"]);
}
