use arrow::array::{
    BooleanArray, Float64Array, Int8Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::Field;
use proptest::prelude::*;

use super::*;

fn codec(columns: &[(&str, ArrayRef)]) -> KeyCodec {
    let fields: Vec<_> = columns.iter().map(|(n, a)| Field::new(*n, a.data_type().clone(), false)).collect();
    KeyCodec::try_new(&Arc::new(Schema::new(fields)), (0..columns.len()).collect()).unwrap()
}

fn arrays(columns: &[(&str, ArrayRef)]) -> Vec<ArrayRef> {
    columns.iter().map(|(_, a)| Arc::clone(a)).collect()
}

fn round_trip(columns: &[(&str, ArrayRef)]) -> Keys {
    let codec = codec(columns);
    let keys = codec.encode(&arrays(columns)).unwrap();
    let refs: Vec<_> = keys.iter().collect();
    assert_eq!(codec.decode(&refs).unwrap(), arrays(columns));
    keys
}

#[test]
fn integers_keep_their_order() {
    let keys = round_trip(&[("k", Arc::new(Int64Array::from(vec![i64::MIN, -1, 0, 1, i64::MAX])))]);
    let Keys::Ints(ints) = keys else { panic!("integers") };
    assert!(ints.is_sorted());
    let keys = round_trip(&[("k", Arc::new(Int8Array::from(vec![-128, -1, 0, 127])))]);
    assert!(matches!(keys, Keys::Ints(v) if v.is_sorted()));
    round_trip(&[("k", Arc::new(BooleanArray::from(vec![false, true])))]);
    let times = TimestampMicrosecondArray::from(vec![-5, 7]).with_timezone("UTC");
    let keys = round_trip(&[("k", Arc::new(times))]);
    assert!(matches!(keys, Keys::Ints(v) if v.is_sorted()));
}

#[test]
fn nulls_are_refused_and_floats_have_one_zero_and_one_nan() {
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN]));
    let codec = codec(&[("k", Arc::clone(&floats))]);
    let keys = codec.encode(&[floats]).unwrap();
    assert_eq!(keys.get(0), keys.get(1));
    assert_eq!(keys.get(2), keys.get(3));
    assert_eq!(keys.duplicate(), Some((0, 1)));
    let null: ArrayRef = Arc::new(Float64Array::from(vec![None]));
    assert_eq!(codec.encode(&[null]).unwrap_err().kind(), ErrorKind::Constraint);
}

#[test]
fn a_key_is_described_as_it_is_typed() {
    let columns: [(&str, ArrayRef); 2] = [
        ("tenant", Arc::new(Int64Array::from(vec![7]))),
        ("name", Arc::new(StringArray::from(vec!["o'hara"]))),
    ];
    let codec = codec(&columns);
    let keys = codec.encode(&arrays(&columns)).unwrap();
    assert_eq!(codec.describe(keys.get(0)), "(tenant, name)=(7, o'hara)");
}

#[test]
fn lists_are_no_keys() {
    let field = Field::new_list("v", Field::new("item", DataType::Int32, true), false);
    let e = KeyCodec::try_new(&Arc::new(Schema::new(vec![field])), vec![0]).unwrap_err();
    assert!(e.message().contains("\"v\""), "{e}");
}

proptest! {
    #[test]
    fn pairs_keep_their_order(mut rows in proptest::collection::vec((any::<i64>(), ".{0,5}"), 1..30)) {
        rows.sort();
        let columns: [(&str, ArrayRef); 2] = [
            ("a", Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)))),
            ("b", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1.as_str())))),
        ];
        let keys = round_trip(&columns);
        for i in 1..keys.len() {
            prop_assert_eq!(keys.get(i - 1).cmp(&keys.get(i)), rows[i - 1].cmp(&rows[i]));
        }
    }
}
