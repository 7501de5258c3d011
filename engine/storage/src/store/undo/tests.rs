//! The log against a model that copies everything at every savepoint.

use std::collections::BTreeMap;

use arrow::array::{AsArray, Int64Array, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use proptest::prelude::*;

use super::*;
use crate::key::{KeyCodec, KeyKind};
use crate::store::writes::PROVISIONAL;

const TABLE: TableId = TableId(1);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Ints,
    Bytes,
    Rids,
}

#[derive(Debug, Clone)]
enum Op {
    /// Keys of new rows, their value; whether the operation fails after all.
    Add(Vec<i64>, i64, bool),
    Remove(Vec<i64>),
    End(Vec<i64>, bool),
    Truncate,
    Savepoint,
    /// Which of the savepoints, counted from the newest.
    RollBack(usize),
    Release(usize),
    /// A reader begins.
    Look,
}

fn op() -> impl Strategy<Value = Op> {
    let keys = || prop::collection::vec(0..30i64, 1..5);
    prop_oneof![
        6 => (keys(), 0..1000i64, prop::bool::weighted(0.2)).prop_map(|(k, v, f)| Op::Add(k, v, f)),
        // More than the keys that are kept.
        1 => (0..1000i64, any::<bool>()).prop_map(|(v, f)| Op::Add((100..5200).collect(), v, f)),
        4 => keys().prop_map(Op::Remove),
        3 => (keys(), any::<bool>()).prop_map(|(k, f)| Op::End(k, f)),
        1 => Just(Op::Truncate),
        4 => Just(Op::Savepoint),
        3 => (0..3usize).prop_map(Op::RollBack),
        2 => (0..3usize).prop_map(Op::Release),
        1 => Just(Op::Look),
    ]
}

/// Own rows by key, ended keys, whether it was emptied.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    rows: BTreeMap<i64, i64>,
    ended: Vec<i64>,
    truncated: bool,
}

struct Table {
    kind: Kind,
    schema: SchemaRef,
    codec: KeyCodec,
}

impl Table {
    fn new(kind: Kind) -> Self {
        let mut fields =
            vec![Field::new("id", DataType::Int64, false), Field::new("text", DataType::Utf8, false)];
        fields.push(Field::new("v", DataType::Int64, false));
        if kind == Kind::Rids {
            fields.push(Field::new("_rid", DataType::UInt64, false));
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let columns = match kind {
            Kind::Ints => vec![0],
            Kind::Bytes => vec![1],
            Kind::Rids => vec![3],
        };
        let codec = KeyCodec::try_new(&schema, columns).unwrap();
        Self { kind, schema, codec }
    }

    fn none(&self) -> TableWrites {
        let kind = if self.kind == Kind::Bytes { KeyKind::Bytes } else { KeyKind::Int };
        TableWrites::new(1, self.kind == Kind::Rids, kind)
    }

    fn rows(&self, keys: &[i64], v: i64, first: u64) -> RecordBatch {
        let mut columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(Int64Array::from(keys.to_vec())),
            Arc::new(StringArray::from_iter_values(keys.iter().map(|k| format!("k{k}")))),
            Arc::new(Int64Array::from(vec![v; keys.len()])),
        ];
        if self.kind == Kind::Rids {
            columns.push(Arc::new(UInt64Array::from_iter_values(first..first + keys.len() as u64)));
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns).unwrap()
    }

    fn keys(&self, keys: &[i64]) -> Keys {
        self.codec.keys_of(&self.rows(keys, 0, 0)).unwrap()
    }

    fn shown(&self, writes: &TableWrites) -> Model {
        let mut rows = BTreeMap::new();
        for batch in writes.live_batches().unwrap() {
            let ids = batch.column(0).as_primitive::<Int64Type>();
            let values = batch.column(2).as_primitive::<Int64Type>();
            for i in 0..batch.num_rows() {
                assert_eq!(rows.insert(ids.value(i), values.value(i)), None, "a row twice");
                let key = self.codec.keys_of(&batch.slice(i, 1)).unwrap();
                let place = writes.find(key.get(0)).expect("a row that is there is found");
                assert_eq!(writes.row(place), batch.slice(i, 1));
            }
        }
        assert_eq!(writes.live(), rows.len() as u64);
        let all: Vec<i64> = (0..30).collect();
        let keys = self.keys(&all);
        if self.kind != Kind::Rids {
            for (i, key) in keys.iter().enumerate() {
                assert_eq!(writes.find(key).is_some(), rows.contains_key(&all[i]));
            }
        }
        let ended =
            all.iter().zip(keys.iter()).filter(|(_, k)| writes.deleted.contains(&KeyRef::to_owned(*k)));
        Model { ended: ended.map(|(i, _)| *i).collect(), rows, truncated: writes.truncated }
    }
}

fn check(kind: Kind, ops: Vec<Op>) {
    let table = Table::new(kind);
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 30));
    let mut changes = Changes::new(Some(Arc::clone(&pool)));
    let mut model = Model::default();
    let mut saved: Vec<(u64, Model)> = Vec::new();
    let mut looks: Vec<(Arc<TableWrites>, Model)> = Vec::new();
    let failed = || Err(Error::invalid("on purpose"));
    // Rows without a key are told apart by number; the model knows them by id.
    let number = |writes: &TableWrites, id: i64| -> Option<u64> {
        writes.live_batches().unwrap().iter().find_map(|batch| {
            let at = batch.column(0).as_primitive::<Int64Type>().values().iter().position(|i| *i == id)?;
            Some(batch.column(3).as_primitive::<UInt64Type>().value(at))
        })
    };
    for op in ops {
        match op {
            Op::Add(mut ids, v, fails) => {
                ids.sort_unstable();
                ids.dedup();
                ids.retain(|id| !model.rows.contains_key(id));
                let done = changes.edit(
                    TABLE,
                    || table.none(),
                    1 << 20,
                    |edit| {
                        let first = PROVISIONAL + edit.writes().all_rows();
                        let rows = table.rows(&ids, v, first);
                        let keys = (kind != Kind::Rids).then(|| table.codec.keys_of(&rows).unwrap());
                        edit.add(rows, keys)?;
                        if fails { failed() } else { Ok(()) }
                    },
                );
                assert_eq!(done.is_err(), fails);
                if !fails {
                    model.rows.extend(ids.iter().map(|id| (*id, v)));
                }
            }
            Op::Remove(ids) => {
                for id in ids {
                    let removed = changes
                        .edit(
                            TABLE,
                            || table.none(),
                            0,
                            |edit| {
                                Ok(if kind == Kind::Rids {
                                    let number = number(edit.writes(), id);
                                    number.is_some_and(|n| edit.remove_own(KeyRef::Int(n)))
                                } else {
                                    edit.remove_own(table.keys(&[id]).get(0))
                                })
                            },
                        )
                        .unwrap();
                    assert_eq!(removed, model.rows.remove(&id).is_some());
                }
            }
            Op::End(ids, fails) => {
                let done = changes.edit(
                    TABLE,
                    || table.none(),
                    1 << 10,
                    |edit| {
                        for key in table.keys(&ids).iter() {
                            edit.end(key.to_owned());
                        }
                        if fails { failed() } else { Ok(()) }
                    },
                );
                assert_eq!(done.is_err(), fails);
                // Numbers of rows of the snapshot are no ids.
                if !fails && kind != Kind::Rids {
                    model.ended.extend(ids);
                    model.ended.sort_unstable();
                    model.ended.dedup();
                }
            }
            Op::Truncate => {
                changes.truncate(TABLE, table.none());
                model = Model { truncated: true, ..Model::default() };
            }
            Op::Savepoint => saved.push((changes.savepoint(), model.clone())),
            Op::RollBack(which) if which < saved.len() => {
                let at = saved.len() - 1 - which;
                for (gone, _) in saved.drain(at + 1..).collect::<Vec<_>>() {
                    changes.roll_back_to(saved[at].0).unwrap();
                    assert!(changes.roll_back_to(gone).is_err());
                }
                changes.roll_back_to(saved[at].0).unwrap();
                model = saved[at].1.clone();
            }
            Op::Release(which) if which < saved.len() => {
                let at = saved.len() - 1 - which;
                changes.release(saved.remove(at).0);
            }
            Op::Look => looks.extend(changes.table(TABLE).map(|w| (Arc::clone(w), model.clone()))),
            Op::RollBack(_) | Op::Release(_) => {}
        }
        let mut shown = changes.table(TABLE).map(|w| table.shown(w)).unwrap_or_default();
        if kind == Kind::Rids {
            shown.ended.clear();
        }
        assert_eq!(shown, model);
        let live = changes.bytes();
        assert!(pool.reserved() <= live && (live <= FREE || pool.reserved() == live), "{live}");
        if saved.is_empty() {
            assert!(changes.log.is_empty(), "nobody can go back");
        }
    }
    for (look, then) in looks {
        let mut shown = table.shown(&look);
        if kind == Kind::Rids {
            shown.ended.clear();
        }
        assert_eq!(shown, then, "a reader sees what it saw");
    }
    drop(changes.take());
    assert_eq!(pool.reserved(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn going_back_is_as_if_nothing_had_happened(
        kind in prop_oneof![Just(Kind::Ints), Just(Kind::Bytes), Just(Kind::Rids)],
        ops in prop::collection::vec(op(), 1..40),
    ) {
        check(kind, ops);
    }
}

#[test]
fn memory_is_asked_for_before_it_is_used() {
    let table = Table::new(Kind::Ints);
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 20));
    let mut changes = Changes::new(Some(Arc::clone(&pool)));
    let add = |changes: &mut Changes, from: i64| {
        let rows = table.rows(&(from..from + 2000).collect::<Vec<_>>(), 1, 0);
        let keys = table.codec.keys_of(&rows).unwrap();
        changes.edit(TABLE, || table.none(), cost_of(&rows), |edit| edit.add(rows.clone(), Some(keys)))
    };
    let mut added = 0;
    let error = loop {
        match add(&mut changes, added) {
            Ok(()) => added += 2000,
            Err(e) => break e,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Resources, "{error}");
    assert!(error.message().contains("changes of a transaction"), "{error}");
    assert!(added >= 4000, "{added}");
    assert_eq!(changes.table(TABLE).unwrap().live(), added as u64, "what was there stays");
    drop(changes.take());
    add(&mut changes, 0).unwrap();
}

/// A statement costs what it changes: no copy of what was changed before.
#[test]
fn a_change_is_made_in_place() {
    let table = Table::new(Kind::Ints);
    let mut changes = Changes::new(None);
    let one = |changes: &mut Changes, id: i64| {
        let rows = table.rows(&[id], 1, 0);
        let keys = table.codec.keys_of(&rows).unwrap();
        changes.edit(TABLE, || table.none(), 0, |edit| edit.add(rows, Some(keys))).unwrap();
    };
    one(&mut changes, 0);
    let outer = changes.savepoint();
    let at = Arc::as_ptr(changes.table(TABLE).unwrap());
    for id in 1..100 {
        let statement = changes.savepoint();
        one(&mut changes, id);
        if id % 3 == 0 {
            changes.roll_back_to(statement).unwrap();
        }
        changes.release(statement);
        assert_eq!(Arc::as_ptr(changes.table(TABLE).unwrap()), at);
    }
    assert_eq!(changes.table(TABLE).unwrap().live(), 67);
    changes.roll_back_to(outer).unwrap();
    assert_eq!(changes.table(TABLE).unwrap().live(), 1);
    assert_eq!(Arc::as_ptr(changes.table(TABLE).unwrap()), at);
}
