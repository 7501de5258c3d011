use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::*;
use arrow::record_batch::RecordBatchOptions;
use proptest::prelude::*;
use triune_common::{Rng as _, SeededRng};

use super::*;

const TABLE: TableId = TableId(7);

fn commit(rows: RecordBatch) -> Record {
    Record::Commit(CommitRecord {
        ts: CommitTs(1_763_846_400_000_001),
        changes: vec![TableChange {
            table: TABLE,
            revision: 3,
            deletes: Keys::Ints(vec![1, u64::MAX]),
            inserts: Some(rows),
            truncate: false,
        }],
    })
}

fn encode(record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    record.encode(&mut out).unwrap();
    out
}

fn decode(bytes: &[u8], schema: &SchemaRef) -> Result<Record> {
    Record::decode(bytes, &|table, revision| ((table, revision) == (TABLE, 3)).then(|| Arc::clone(schema)))
}

fn assert_returns(rows: &RecordBatch) {
    let record = commit(rows.clone());
    assert_eq!(decode(&encode(&record), &rows.schema()).unwrap(), record);
}

fn item(data_type: DataType) -> FieldRef {
    Arc::new(Field::new("item", data_type, true))
}

/// Every kind of column that a table can have.
fn types() -> Vec<DataType> {
    use DataType as T;
    let point = Fields::from(vec![Field::new("x", T::Float64, true), Field::new("label", T::Utf8, true)]);
    let entries = Fields::from(vec![Field::new("key", T::Utf8, false), Field::new("value", T::Int32, true)]);
    vec![
        T::Boolean,
        T::Int8,
        T::Int16,
        T::Int32,
        T::Int64,
        T::UInt8,
        T::UInt16,
        T::UInt32,
        T::UInt64,
        T::Float16,
        T::Float32,
        T::Float64,
        T::Decimal128(38, 10),
        T::Decimal256(76, 3),
        T::Date32,
        T::Date64,
        T::Time32(TimeUnit::Millisecond),
        T::Time64(TimeUnit::Nanosecond),
        T::Timestamp(TimeUnit::Microsecond, None),
        T::Timestamp(TimeUnit::Nanosecond, Some("Europe/Berlin".into())),
        T::Duration(TimeUnit::Second),
        T::Interval(IntervalUnit::MonthDayNano),
        T::Utf8,
        T::LargeUtf8,
        T::Binary,
        T::LargeBinary,
        T::FixedSizeBinary(16),
        T::Null,
        T::FixedSizeList(item(T::Float32), 3),
        T::FixedSizeList(item(T::Utf8), 2),
        T::List(item(T::Int32)),
        T::LargeList(item(T::Utf8)),
        T::List(item(T::FixedSizeList(item(T::Float32), 2))),
        T::Struct(point.clone()),
        T::List(item(T::Struct(point))),
        T::Map(Arc::new(Field::new("entries", T::Struct(entries), false)), false),
    ]
}

fn nulls(rows: usize, rng: &SeededRng) -> Option<NullBuffer> {
    (!rng.one_in(4)).then(|| (0..rows).map(|_| !rng.one_in(3)).collect())
}

/// `rows` random values, with and without nulls.
fn random_column(data_type: &DataType, rows: usize, rng: &SeededRng) -> ArrayRef {
    use DataType as T;
    let sizes = |rng: &SeededRng| -> Vec<usize> { (0..rows).map(|_| rng.below(5) as usize).collect() };
    match data_type {
        T::Null => Arc::new(NullArray::new(rows)),
        T::Boolean => {
            Arc::new(BooleanArray::new((0..rows).map(|_| rng.one_in(2)).collect(), nulls(rows, rng)))
        }
        T::Utf8 | T::LargeUtf8 | T::Binary | T::LargeBinary => {
            let texts: StringArray =
                sizes(rng).into_iter().map(|n| (!rng.one_in(4)).then(|| "añ語🦀".repeat(n))).collect();
            arrow::compute::cast(&texts, data_type).unwrap()
        }
        T::FixedSizeList(field, size) => {
            let values = random_column(field.data_type(), rows * *size as usize, rng);
            Arc::new(FixedSizeListArray::new(Arc::clone(field), *size, values, nulls(rows, rng)))
        }
        T::List(field) => {
            let sizes = sizes(rng);
            let values = random_column(field.data_type(), sizes.iter().sum(), rng);
            let offsets = OffsetBuffer::from_lengths(sizes);
            Arc::new(ListArray::new(Arc::clone(field), offsets, values, nulls(rows, rng)))
        }
        T::LargeList(field) => {
            let sizes = sizes(rng);
            let values = random_column(field.data_type(), sizes.iter().sum(), rng);
            let offsets = OffsetBuffer::from_lengths(sizes);
            Arc::new(LargeListArray::new(Arc::clone(field), offsets, values, nulls(rows, rng)))
        }
        T::Struct(fields) => {
            let columns = fields.iter().map(|f| random_field(f, rows, rng)).collect();
            Arc::new(StructArray::new(fields.clone(), columns, nulls(rows, rng)))
        }
        T::Map(field, sorted) => {
            let sizes = sizes(rng);
            let entries = random_field(field, sizes.iter().sum(), rng).as_struct().clone();
            let offsets = OffsetBuffer::from_lengths(sizes);
            Arc::new(MapArray::new(Arc::clone(field), offsets, entries, nulls(rows, rng), *sorted))
        }
        fixed => {
            let width = match fixed {
                T::FixedSizeBinary(width) => *width as usize,
                other => other.primitive_width().unwrap(),
            };
            let mut bytes = vec![0; rows * width];
            rng.fill(&mut bytes);
            let data = ArrayData::builder(fixed.clone())
                .len(rows)
                .add_buffer(arrow::buffer::Buffer::from(bytes))
                .nulls(nulls(rows, rng))
                .align_buffers(true)
                .build()
                .unwrap();
            make_array(data)
        }
    }
}

/// A column that has nulls only where the field allows them.
fn random_field(field: &Field, rows: usize, rng: &SeededRng) -> ArrayRef {
    let column = random_column(field.data_type(), rows, rng);
    if field.is_nullable() {
        return column;
    }
    let data = column.to_data();
    let offset_free = match field.data_type() {
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            return Arc::new(
                (0..rows)
                    .map(|i| Some(if texts.is_null(i) { "" } else { texts.value(i) }))
                    .collect::<StringArray>(),
            );
        }
        _ => data.into_builder().nulls(None),
    };
    make_array(offset_free.build().unwrap())
}

fn random_batch(rng: &SeededRng) -> RecordBatch {
    let all = types();
    let count = 1 + rng.below(6) as usize;
    let fields: Vec<Field> = (0..count)
        .map(|i| Field::new(format!("c{i}"), all[rng.below(all.len() as u64) as usize].clone(), true))
        .collect();
    let rows = [0, 1, 2, 7, 64, 200][rng.below(6) as usize];
    let columns = fields.iter().map(|f| random_column(f.data_type(), rows + 5, rng)).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    batch.slice(rng.below(6) as usize, rows)
}

#[test]
fn every_type_of_column_returns_whole_and_sliced() {
    for (i, data_type) in types().into_iter().enumerate() {
        let schema = Arc::new(Schema::new(vec![Field::new("c", data_type.clone(), true)]));
        for rows in [0, 1, 9, 100] {
            let rng = SeededRng::new((i * 1000 + rows) as u64);
            let column = random_column(&data_type, rows, &rng);
            let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap();
            assert_returns(&batch);
            for offset in 0..rows.min(10) {
                assert_returns(&batch.slice(offset, (rows - offset).min(3)));
            }
            // A view on a part is written as the part.
            if rows == 100 && data_type != DataType::Null {
                let (whole, part) = (encode(&commit(batch.clone())), encode(&commit(batch.slice(50, 1))));
                assert!(part.len() < 1500 && part.len() < whole.len(), "{data_type}: {}", part.len());
            }
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(3));
    let no_columns = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
    assert_returns(&no_columns);
}

#[test]
fn random_batches_return() {
    for seed in 0..500 {
        assert_returns(&random_batch(&SeededRng::new(seed)));
    }
}

#[test]
fn commits_of_several_tables_and_bases_return() {
    let rows = random_batch(&SeededRng::new(1));
    let change = |table, deletes, inserts, truncate| TableChange {
        table: TableId(table),
        revision: 3,
        deletes,
        inserts,
        truncate,
    };
    let keys = Keys::Bytes(vec![b"".as_slice().into(), b"abc".as_slice().into()]);
    let changes = vec![
        change(7, keys.clone(), Some(rows.clone()), false),
        change(8, keys, Some(rows.clone()), false),
        change(7, Keys::Ints(vec![]), None, true),
        change(7, Keys::Bytes(vec![]), Some(rows.clone()), true),
    ];
    let record = Record::Commit(CommitRecord { ts: CommitTs(5), changes: changes.clone() });
    // Table 8 was dropped since.
    let known = changes.into_iter().filter(|c| c.table == TABLE).collect();
    let expected = Record::Commit(CommitRecord { ts: CommitTs(5), changes: known });
    assert_eq!(decode(&encode(&record), &rows.schema()).unwrap(), expected);

    let state = serde_json::json!({"lance_version": 12, "fragments": [1, 2]});
    let base = Record::Base(BaseRecord { ts: CommitTs(9), table: TABLE, state });
    assert_eq!(decode(&encode(&base), &rows.schema()).unwrap(), base);
    assert_eq!(base.ts(), CommitTs(9));
}

#[test]
fn what_tables_do_not_hold_is_refused() {
    let dictionary: DictionaryArray<Int32Type> = ["a", "b"].into_iter().collect();
    for column in [Arc::new(dictionary) as ArrayRef, Arc::new(StringViewArray::from(vec!["a"]))] {
        let batch = RecordBatch::try_from_iter([("c", column)]).unwrap();
        let mut out = b"kept".to_vec();
        let e = commit(batch).encode(&mut out).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert_eq!(out, b"kept");
    }
    let schema = Arc::new(Schema::empty());
    assert_eq!(decode(&[77], &schema).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn rows_of_another_schema_are_an_error() {
    let mut taken = 0;
    for seed in 0..1000 {
        let rng = SeededRng::new(seed);
        let (a, b) = (random_batch(&rng), random_batch(&rng));
        // Types of one layout may be taken for each other, and so may more when there are no rows.
        taken += usize::from(decode(&encode(&commit(a)), &b.schema()).is_ok());
    }
    assert!(taken < 100, "{taken}");
    let required = Arc::new(Schema::new(vec![Field::new("c", DataType::Int32, false)]));
    let null: ArrayRef = Arc::new(Int32Array::from(vec![None, Some(1)]));
    let batch = RecordBatch::try_from_iter_with_nullable([("c", null, true)]).unwrap();
    assert_eq!(decode(&encode(&commit(batch)), &required).unwrap_err().kind(), ErrorKind::Data);
}

/// Changes bytes as no disk would, so that lengths and offsets take extreme values.
fn damage(bytes: &mut Vec<u8>, rng: &SeededRng) {
    for _ in 0..=rng.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.below(bytes.len() as u64) as usize;
        match rng.below(6) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes.truncate(at),
            2 => {
                let value = [0, 1, u64::MAX, i64::MAX as u64, 1 << 40, 1 << 31, 0xFFFF_FFFF];
                let value = value[rng.below(7) as usize].to_le_bytes();
                let at = at & !3;
                let len = (bytes.len() - at).min(8);
                bytes[at..at + len].copy_from_slice(&value[..len]);
            }
            3 => bytes[at] = bytes[at].wrapping_add(1),
            4 => rng.fill(&mut bytes[at..]),
            _ => {
                let from = rng.below(bytes.len() as u64) as usize;
                let part = bytes[from..].to_vec();
                bytes.truncate(at);
                bytes.extend_from_slice(&part);
            }
        }
    }
}

#[test]
fn damaged_bytes_are_an_error_and_never_a_panic() {
    let (mut refused, mut taken) = (0, 0);
    for seed in 0..20_000 {
        let rng = SeededRng::new(seed);
        let batch = random_batch(&rng);
        let mut bytes = encode(&commit(batch.clone()));
        // Mostly in the message, which says where everything is.
        let head = bytes.len().min(700);
        let mut rest = bytes.split_off(head);
        damage(if rng.one_in(8) { &mut rest } else { &mut bytes }, &rng);
        bytes.extend_from_slice(&rest);
        match decode(&bytes, &batch.schema()) {
            Ok(Record::Commit(record)) => {
                taken += 1;
                // What was taken is whole: it can be written and printed.
                for rows in record.changes.into_iter().filter_map(|c| c.inserts) {
                    assert!(rows.num_rows() < 1 << 41);
                    let mut again = Vec::new();
                    batch::encode(&rows, &mut again).unwrap();
                }
            }
            Ok(Record::Base(_)) => taken += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 5_000 && taken > 100, "{refused} refused, {taken} taken");
}

proptest! {
    #[test]
    fn random_bytes_are_an_error_and_never_a_panic(
        kind in 0_u8..4,
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let schema = Arc::new(Schema::new(vec![Field::new("c", DataType::Utf8, true)]));
        let bytes: Vec<u8> = std::iter::once(kind).chain(bytes).collect();
        let _ = decode(&bytes, &schema);
        let _ = Record::decode(&bytes, &|_, _| Some(Arc::clone(&schema)));
    }
}
