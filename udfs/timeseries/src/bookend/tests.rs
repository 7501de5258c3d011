//! `first` and `last` against a naive oracle, under any batching and partitioning, and through SQL.

use arrow::array::{
    Array, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray, StringViewArray,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{Schema, TimeUnit};
use arrow::util::display::array_value_to_string;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
struct Row {
    group: usize,
    value: Option<u32>,
    time: Option<i64>,
    keep: Option<bool>,
}

fn any_row() -> impl Strategy<Value = Row> {
    (
        0usize..6,
        prop_oneof![4 => (0u32..1_000).prop_map(Some), 1 => Just(None)],
        // Few times, so that there are ties.
        prop_oneof![6 => (-8i64..8).prop_map(Some), 1 => Just(None)],
        prop_oneof![8 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)],
    )
        .prop_map(|(group, value, time, keep)| Row { group, value, time, keep })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    View,
    Vector,
}

/// Values whose order is the numbers' order.
fn values(kind: Kind, numbers: &[Option<u32>]) -> ArrayRef {
    // Longer than what a view keeps inline.
    let text = |n: u32| format!("{n:05} and a tail that does not fit a view");
    match kind {
        Kind::Number => Arc::new(numbers.iter().map(|n| n.map(i64::from)).collect::<Int64Array>()),
        Kind::Text => Arc::new(numbers.iter().map(|n| n.map(text)).collect::<StringArray>()),
        Kind::View => Arc::new(numbers.iter().map(|n| n.map(text)).collect::<StringViewArray>()),
        Kind::Vector => {
            let items = numbers.iter().flat_map(|n| [n.unwrap_or(0) as f32, 0.5]).collect::<Vec<_>>();
            let nulls = numbers.iter().map(Option::is_some).collect::<Vec<_>>();
            let field = Arc::new(Field::new("item", DataType::Float32, true));
            Arc::new(FixedSizeListArray::new(
                field,
                2,
                Arc::new(Float32Array::from(items)),
                Some(nulls.into()),
            ))
        }
    }
}

fn times(rows: &[Row], as_text: bool) -> ArrayRef {
    if as_text {
        Arc::new(rows.iter().map(|r| r.time.map(|t| format!("{:02}", t + 50))).collect::<StringArray>())
    } else {
        Arc::new(rows.iter().map(|r| r.time).collect::<TimestampMicrosecondArray>())
    }
}

fn oracle(rows: &[Row], group: usize, end: End, ignore_nulls: bool, filtered: bool) -> Option<u32> {
    let rows = rows.iter().filter(|r| {
        r.group == group
            && r.time.is_some()
            && !(ignore_nulls && r.value.is_none())
            && (!filtered || r.keep == Some(true))
    });
    let best = match end {
        End::First => rows.min_by_key(|r| (r.time, r.value.is_none(), r.value)),
        End::Last => rows.max_by_key(|r| (r.time, r.value.is_some(), r.value)),
    };
    best.and_then(|r| r.value)
}

fn groups_accumulator(
    end: End,
    value: &ArrayRef,
    time: &ArrayRef,
    ignore_nulls: bool,
) -> Box<dyn GroupsAccumulator> {
    let agg = BookendAgg::new(end);
    let fields: Vec<FieldRef> = [value, time]
        .iter()
        .map(|a| Arc::new(Field::new("a", a.data_type().clone(), true)) as FieldRef)
        .collect();
    let return_field = agg.return_field(&fields).unwrap();
    let schema = Schema::empty();
    agg.create_groups_accumulator(AccumulatorArgs {
        return_field,
        schema: &schema,
        ignore_nulls,
        order_bys: &[],
        is_reversed: false,
        name: "x",
        is_distinct: false,
        exprs: &[],
        expr_fields: &fields,
    })
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_batching_and_partitioning_agrees_with_the_oracle(
        rows in proptest::collection::vec(any_row(), 0..120),
        kind in proptest::sample::select(&[Kind::Number, Kind::Text, Kind::View, Kind::Vector][..]),
        end in proptest::sample::select(&[End::First, End::Last][..]),
        flags in (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        batch in 1usize..20,
        partitions in 1usize..4,
        emit_first in 0usize..6,
    ) {
        let (ignore_nulls, filtered, text_times, convert) = flags;
        let numbers: Vec<_> = rows.iter().map(|r| r.value).collect();
        let (all_values, all_times) = (values(kind, &numbers), times(&rows, text_times));
        let new = || groups_accumulator(end, &all_values, &all_times, ignore_nulls);
        let mut last = new();
        let mut partial: Vec<_> = (0..partitions).map(|_| new()).collect();
        for (i, from) in (0..rows.len()).step_by(batch).enumerate() {
            let n = batch.min(rows.len() - from);
            let columns = [all_values.slice(from, n), all_times.slice(from, n)];
            let groups: Vec<usize> = rows[from..from + n].iter().map(|r| r.group).collect();
            let filter: BooleanArray = rows[from..from + n].iter().map(|r| r.keep).collect();
            let filter = filtered.then_some(&filter);
            if convert && i % 2 == 0 {
                let state = last.convert_to_state(&columns, filter).unwrap();
                last.merge_batch(&state, &groups, None, 6).unwrap();
            } else {
                partial[i % partitions].update_batch(&columns, &groups, filter, 6).unwrap();
            }
        }
        for mut p in partial {
            // Groups leave in two parts, as they do over sorted input.
            p.update_batch(&[all_values.slice(0, 0), all_times.slice(0, 0)], &[], None, 6).unwrap();
            let mut from = 0;
            for emit_to in [EmitTo::First(emit_first), EmitTo::All] {
                let state = p.state(emit_to).unwrap();
                let groups: Vec<usize> = (from..from + state[0].len()).collect();
                from += groups.len();
                last.merge_batch(&state, &groups, None, 6).unwrap();
            }
            prop_assert_eq!(from, 6);
        }
        let want: Vec<_> = (0..6).map(|g| oracle(&rows, g, end, ignore_nulls, filtered)).collect();
        let got = last.evaluate(EmitTo::All).unwrap();
        let want = values(kind, &want);
        prop_assert_eq!(got.as_ref(), want.as_ref());
    }
}

fn sliding(end: End, value: &ArrayRef, time: &ArrayRef, ignore_nulls: bool) -> Box<dyn Accumulator> {
    Box::new(SlidingBookend::try_new(end, value.data_type(), time.data_type(), ignore_nulls).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn moving_windows_agree_with_the_oracle(
        rows in proptest::collection::vec(any_row(), 1..60),
        kind in proptest::sample::select(&[Kind::Number, Kind::View, Kind::Vector][..]),
        end in proptest::sample::select(&[End::First, End::Last][..]),
        ignore_nulls in any::<bool>(),
        steps in proptest::collection::vec((0usize..5, 0usize..5), 1..30),
    ) {
        let rows: Vec<Row> = rows.into_iter().map(|r| Row { group: 0, ..r }).collect();
        let numbers: Vec<_> = rows.iter().map(|r| r.value).collect();
        let (values_, times_) = (values(kind, &numbers), times(&rows, false));
        let mut window = sliding(end, &values_, &times_, ignore_nulls);
        let (mut from, mut until) = (0, 0);
        for (enter, leave) in steps {
            let enter = enter.min(rows.len() - until);
            window.update_batch(&[values_.slice(until, enter), times_.slice(until, enter)]).unwrap();
            until += enter;
            let leave = leave.min(until - from);
            window.retract_batch(&[values_.slice(from, leave), times_.slice(from, leave)]).unwrap();
            from += leave;
            let want = values(kind, &[oracle(&rows[from..until], 0, end, ignore_nulls, false)]);
            let got = window.evaluate().unwrap().to_array().unwrap();
            prop_assert_eq!(got.as_ref(), want.as_ref());
        }
    }
}

#[test]
fn many_batches_do_not_pile_up() {
    let value = |i: i64| {
        Arc::new(StringViewArray::from_iter_values(
            (0..1_000).map(|g| format!("value {i} of group {g}, which is long enough not to be inline")),
        )) as ArrayRef
    };
    let time = |i: i64| Arc::new(Int64Array::from(vec![i; 1_000])) as ArrayRef;
    let groups: Vec<usize> = (0..1_000).collect();
    let mut last = groups_accumulator(End::Last, &value(0), &time(0), false);
    let mut largest = 0;
    for i in 0..300 {
        last.update_batch(&[value(i), time(i)], &groups, None, 1_000).unwrap();
        largest = largest.max(last.size());
    }
    // One value is about 80 bytes; a thousand of them would be kept 300 times over without compaction.
    assert!(largest < 3_000_000, "{largest}");
    let got = last.evaluate(EmitTo::All).unwrap();
    assert_eq!(
        array_value_to_string(&got, 999).unwrap(),
        "value 299 of group 999, which is long enough not to be inline"
    );
    assert!(last.size() < 100_000, "{}", last.size());
}

#[expect(clippy::disallowed_methods, reason = "the functions are tested below the session's crate")]
async fn sql(ctx: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    ctx.sql(sql).await?.collect().await
}

fn context(rows: u32) -> SessionContext {
    let ctx =
        SessionContext::new_with_config(SessionConfig::new().with_target_partitions(3).with_batch_size(7));
    for f in crate::aggregate_functions() {
        ctx.register_udaf(f.as_ref().clone());
    }
    let numbers: Vec<_> = (0..rows).map(|i| (i % 11 != 5).then_some(i * 7 % rows)).collect();
    let vector = values(Kind::Vector, &numbers);
    let metadata = [("ARROW:extension:name".to_owned(), "triune.vector".to_owned())].into();
    let schema = Arc::new(Schema::new(vec![
        Field::new("g", DataType::UInt32, false),
        Field::new("v", DataType::Int64, true),
        Field::new("embedding", vector.data_type().clone(), true).with_metadata(metadata),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new((0..rows).map(|i| Some(i % 5)).collect::<UInt32Array>()),
        values(Kind::Number, &numbers),
        vector,
        Arc::new((0..rows).map(|i| Some(i64::from(i * 31 % rows))).collect::<TimestampMicrosecondArray>()),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let partitions: Vec<Vec<RecordBatch>> = (0..3)
        .map(|p| {
            let rows: UInt32Array = (0..rows).filter(|i| i % 3 == p).collect::<Vec<_>>().into();
            let columns = batch.columns().iter().map(|c| take(c, &rows, None).unwrap()).collect();
            vec![RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()]
        })
        .collect();
    ctx.register_table("t", Arc::new(MemTable::try_new(schema, partitions).unwrap())).unwrap();
    ctx
}

fn rows_of(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let row = |b: &RecordBatch, i| b.columns().iter().map(|c| array_value_to_string(c, i).unwrap()).collect();
    batches.iter().flat_map(|b| (0..b.num_rows()).map(move |i| row(b, i))).collect()
}

#[tokio::test]
async fn the_same_as_first_value_with_an_order() {
    let ctx = context(997);
    let pairs = [
        (
            "SELECT g, first(v, ts), last(v, ts), first(embedding, ts) FROM t GROUP BY g ORDER BY g",
            "SELECT g, first_value(v ORDER BY ts), last_value(v ORDER BY ts), first_value(embedding ORDER BY ts) FROM t GROUP BY g ORDER BY g",
        ),
        (
            "SELECT first(v, ts), last(v, ts) FROM t",
            "SELECT first_value(v ORDER BY ts), last_value(v ORDER BY ts) FROM t",
        ),
        (
            "SELECT last(v, ts) IGNORE NULLS FROM t WHERE ts < TIMESTAMP '1970-01-01 00:00:00.000500'",
            "SELECT last_value(v ORDER BY ts) IGNORE NULLS FROM t WHERE ts < TIMESTAMP '1970-01-01 00:00:00.000500'",
        ),
        (
            "SELECT first(v, ts) FILTER (WHERE v > 500) FROM t",
            "SELECT first_value(v ORDER BY ts) FILTER (WHERE v > 500) FROM t",
        ),
        ("SELECT first(v, ts) FROM t WHERE false", "SELECT NULL"),
        ("SELECT first(v, NULL) FROM t", "SELECT NULL"),
        (
            "SELECT ts, last(v, ts) OVER (PARTITION BY g ORDER BY ts) FROM t ORDER BY ts",
            "SELECT ts, v FROM t ORDER BY ts",
        ),
        (
            "SELECT ts, first(v, ts) OVER (ORDER BY ts ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM t ORDER BY ts",
            "SELECT ts, CASE WHEN row_number() OVER (ORDER BY ts) = 1 THEN v ELSE lag(v) OVER (ORDER BY ts) END FROM t ORDER BY ts",
        ),
    ];
    for (ours, theirs) in pairs {
        let got = rows_of(&sql(&ctx, ours).await.unwrap());
        assert_eq!(got, rows_of(&sql(&ctx, theirs).await.unwrap()), "{ours}");
    }
}

#[tokio::test]
async fn metadata_survives() {
    let ctx = context(10);
    let batches = sql(&ctx, "SELECT last(embedding, ts) AS e FROM t").await.unwrap();
    let schema = batches[0].schema();
    assert_eq!(
        schema.field(0).metadata().get("ARROW:extension:name").map(String::as_str),
        Some("triune.vector")
    );
}

#[tokio::test]
async fn wrong_arguments_are_told() {
    let ctx = context(1);
    let cases = [
        (
            "SELECT first(v) FROM t",
            "first takes a value and a time, got 1 argument; write first(price, ts), or first_value(price ORDER BY ts)",
        ),
        (
            "SELECT last(v, ts, 1) FROM t",
            "last takes a value and a time, got 3 arguments; write last(price, ts), or last_value(price ORDER BY ts)",
        ),
    ];
    for (query, want) in cases {
        let e = Error::from(sql(&ctx, query).await.unwrap_err());
        assert_eq!((e.kind(), e.to_string().as_str()), (triune_common::ErrorKind::Invalid, want), "{query}");
    }
    let e = Error::from(sql(&ctx, "SELECT first(v, embedding) FROM t").await.unwrap_err());
    assert!(e.to_string().starts_with("first cannot order rows by a "), "{e}");
}
