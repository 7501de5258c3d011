use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use proptest::prelude::*;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Int64, false),
        Field::new("text", DataType::Utf8, true),
    ]))
}

/// Every third text is NULL; the others repeat the value, so that columns that slip against each other are seen.
fn text(value: i64) -> Option<String> {
    (value % 3 != 0).then(|| format!("v{value}"))
}

fn batch(schema: &SchemaRef, rows: &[(Key, i64)]) -> (RecordBatch, Keys) {
    let names: StringArray = rows.iter().map(|(k, _)| Some(format!("{k:?}"))).collect();
    let values: Int64Array = rows.iter().map(|(_, v)| Some(*v)).collect();
    let texts: StringArray = rows.iter().map(|(_, v)| text(*v)).collect();
    let columns: Vec<Arc<dyn Array>> = vec![Arc::new(names), Arc::new(values), Arc::new(texts)];
    let batch = RecordBatch::try_new(Arc::clone(schema), columns).unwrap();
    (batch, keys_of(rows.iter().map(|(k, _)| k)))
}

fn keys_of<'a>(keys: impl Iterator<Item = &'a Key>) -> Keys {
    let (mut ints, mut bytes) = (vec![], vec![]);
    for key in keys {
        match key {
            Key::Int(i) => ints.push(*i),
            Key::Bytes(b) => bytes.push(b.clone()),
        }
    }
    if bytes.is_empty() { Keys::Ints(ints) } else { Keys::Bytes(bytes) }
}

/// Key text and value of every row.
fn rows_of(batch: &RecordBatch) -> Vec<(String, i64)> {
    let (names, values, texts) = (
        batch.column(0).as_string::<i32>(),
        batch.column(1).as_primitive::<Int64Type>(),
        batch.column(2).as_string::<i32>(),
    );
    (0..batch.num_rows())
        .map(|i| {
            let found = texts.is_valid(i).then(|| texts.value(i).to_owned());
            assert_eq!(found, text(values.value(i)), "columns of one row belong together");
            (names.value(i).to_owned(), values.value(i))
        })
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Ints,
    Bytes,
    /// Growing numbers.
    Rid,
}

/// The history of every key, oldest version first: begin, end, value.
#[derive(Debug, Clone, Default)]
struct Model {
    keys: BTreeMap<Key, Vec<(u64, u64, i64)>>,
}

impl Model {
    fn live(&self, key: &Key) -> bool {
        self.keys.get(key).and_then(|v| v.last()).is_some_and(|v| v.1 == u64::MAX)
    }

    fn end(&mut self, key: &Key, ts: u64) -> bool {
        match self.keys.get_mut(key).and_then(|v| v.last_mut()) {
            Some(v) if v.1 == u64::MAX => {
                v.1 = ts;
                true
            }
            _ => false,
        }
    }

    fn at(&self, snapshot: u64) -> Vec<(Key, i64)> {
        let seen = |versions: &Vec<(u64, u64, i64)>| {
            let mut seen = versions.iter().filter(|(b, e, _)| *b <= snapshot && snapshot < *e);
            let found = seen.next().map(|v| v.2);
            assert!(seen.next().is_none(), "SNAP-2 in the model");
            found
        };
        self.keys.iter().filter_map(|(k, v)| Some((k.clone(), seen(v)?))).collect()
    }

    fn shown(&self, snapshot: u64) -> Vec<(String, i64)> {
        self.at(snapshot).into_iter().map(|(k, v)| (format!("{k:?}"), v)).collect()
    }
}

fn sorted<T: Ord>(mut rows: Vec<T>) -> Vec<T> {
    rows.sort();
    rows
}

fn key(shape: Shape, number: u64) -> Key {
    match shape {
        Shape::Ints | Shape::Rid => Key::Int(number),
        // Of different lengths, with common beginnings.
        Shape::Bytes => Key::Bytes(
            format!("k{}", "x".repeat((number % 5) as usize) + &number.to_string()).into_bytes().into(),
        ),
    }
}

struct Run {
    rng: ChaCha8Rng,
    shape: Shape,
    table: Memtable,
    model: Model,
    ts: u64,
    next_rid: u64,
    next_value: i64,
}

impl Run {
    fn new(seed: u64, shape: Shape) -> Self {
        let kind = if shape == Shape::Bytes { KeyKind::Bytes } else { KeyKind::Int };
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            shape,
            table: Memtable::new(schema(), kind, 1),
            model: Model::default(),
            ts: 10,
            next_rid: 1,
            next_value: 0,
        }
    }

    /// One commit: some keys inserted, updated (with another value under the same timestamp) or deleted.
    fn commit(&mut self) {
        self.ts += self.rng.random_range(1..4);
        let (ts, at) = (self.ts, CommitTs(self.ts));
        let size = match self.rng.random_range(0..40) {
            0 => self.rng.random_range(1024..2500),
            1..4 => self.rng.random_range(60..700),
            _ => self.rng.random_range(1..4),
        };
        let mut chosen = BTreeMap::new();
        for _ in 0..size {
            let old = self.rng.random_range(0..3) > 0;
            let number = match self.shape {
                Shape::Rid if old && self.next_rid > 1 => self.rng.random_range(1..self.next_rid),
                Shape::Rid => {
                    self.next_rid += 1;
                    self.next_rid - 1
                }
                _ => self.rng.random_range(0..3000),
            };
            chosen.insert(key(self.shape, number), ());
        }
        let mut rows = vec![];
        for key in chosen.into_keys() {
            let live = self.model.live(&key);
            let ended = self.table.end(key.as_ref(), at);
            assert_eq!(ended, self.model.end(&key, ts), "{key:?}");
            assert_eq!(ended, live);
            // A deletion, or the first half of an update.
            if live && self.rng.random_range(0..3) == 0 {
                continue;
            }
            // A row of the hidden key is never inserted again after its deletion.
            if self.shape == Shape::Rid && !live && self.model.keys.contains_key(&key) {
                continue;
            }
            self.next_value += 1;
            self.model.keys.entry(key.clone()).or_default().push((ts, u64::MAX, self.next_value));
            rows.push((key, self.next_value));
        }
        // Ascending keys without gaps are kept in another way than shuffled ones.
        if self.shape != Shape::Rid && self.rng.random() {
            use rand::seq::SliceRandom;
            rows.shuffle(&mut self.rng);
        }
        let half = if self.rng.random_range(0..5) == 0 { rows.len() / 2 } else { rows.len() };
        for part in [&rows[..half], &rows[half..]] {
            let (batch, keys) = batch(&schema(), part);
            if !part.is_empty() {
                self.table.append(&batch, &keys, at).unwrap();
            }
        }
    }

    fn commit_and_undo(&mut self) {
        let (model, ts, rid) = (self.model.clone(), self.ts, self.next_rid);
        let before = (self.table.rows(), self.table.live_rows(), self.table.last_ts());
        for _ in 0..self.rng.random_range(1..4) {
            self.commit();
        }
        self.table.undo_after(CommitTs(ts));
        (self.model, self.ts, self.next_rid) = (model, ts, rid);
        assert_eq!((self.table.rows(), self.table.live_rows(), self.table.last_ts()), before);
    }

    fn check(&mut self) {
        let snapshot = match self.rng.random_range(0..3) {
            0 => self.ts,
            _ => self.rng.random_range(8..=self.ts),
        };
        let at = CommitTs(snapshot);
        let expected = self.model.shown(snapshot);
        // scan and view
        let scanned = self.table.scan(at).unwrap();
        let all: Vec<_> = scanned.iter().flat_map(rows_of).collect();
        assert_eq!(sorted(all), sorted(expected.clone()), "scan at {snapshot}");
        let view = self.table.view(at);
        assert_eq!(view.iter().map(VisibleBatch::rows).sum::<usize>(), expected.len());
        assert!(view.iter().all(|v| v.rows() > 0));
        // live rows, with keys
        let mut live = vec![];
        for part in self.table.live_at(at).unwrap() {
            assert_eq!(part.keys.len(), part.batch.num_rows());
            for (key, row) in part.keys.iter().zip(rows_of(&part.batch)) {
                assert_eq!(format!("{:?}", key.to_owned()), row.0);
                live.push(row);
            }
        }
        assert_eq!(sorted(live), sorted(expected.clone()));
        // ranges
        let numbers = [self.rng.random_range(0..3100), self.rng.random_range(0..3100)];
        let ends = numbers.map(|n| key(self.shape, n));
        let mut bound = |key: &Key| match self.rng.random_range(0..3) {
            0 => Bound::Unbounded,
            1 => Bound::Included(key.clone()),
            _ => Bound::Excluded(key.clone()),
        };
        let (lower, upper) = (bound(&ends[0]), bound(&ends[1]));
        let within = |k: &Key| {
            let above = match &lower {
                Bound::Unbounded => true,
                Bound::Included(l) => k >= l,
                Bound::Excluded(l) => k > l,
            };
            above
                && match &upper {
                    Bound::Unbounded => true,
                    Bound::Included(u) => k <= u,
                    Bound::Excluded(u) => k < u,
                }
        };
        let wanted: Vec<_> = self.model.at(snapshot).into_iter().filter(|(k, _)| within(k)).collect();
        let wanted: Vec<_> = wanted.into_iter().map(|(k, v)| (format!("{k:?}"), v)).collect();
        let bounds = (lower.as_ref().map(Key::as_ref), upper.as_ref().map(Key::as_ref));
        let found = self.table.range(bounds.0, bounds.1, at).unwrap();
        assert_eq!(rows_of(&found), wanted, "range {bounds:?} at {snapshot}");
        let few = self.table.range_rows(bounds.0, bounds.1, at, 3).unwrap();
        let few: Vec<_> = few.iter().flat_map(|r| rows_of(&r.to_batch())).collect();
        assert_eq!(few, wanted[..wanted.len().min(3)]);
        // single keys
        for _ in 0..20 {
            let number = match self.shape {
                Shape::Rid => self.rng.random_range(0..self.next_rid + 5),
                _ => self.rng.random_range(0..3100),
            };
            self.check_key(&key(self.shape, number), snapshot);
        }
        let known: Vec<_> = self.model.keys.keys().cloned().collect();
        for key in known.choose_multiple(&mut self.rng, 20).cloned().collect::<Vec<_>>() {
            self.check_key(&key, snapshot);
        }
        self.check_ended(snapshot);
        assert_eq!(self.table.rows(), self.model.keys.values().map(Vec::len).sum::<usize>());
    }

    fn check_key(&self, key: &Key, snapshot: u64) {
        let versions = self.model.keys.get(key).cloned().unwrap_or_default();
        let newest = versions.last().map(|(b, e, _)| Version { begin: CommitTs(*b), end: CommitTs(*e) });
        assert_eq!(self.table.newest(key.as_ref()), newest);
        let visible = versions.iter().find(|(b, e, _)| *b <= snapshot && snapshot < *e);
        match (self.table.get(key.as_ref(), CommitTs(snapshot)), visible) {
            (Lookup::Row(row), Some((_, _, value))) => {
                assert_eq!(rows_of(&row.to_batch()), [(format!("{key:?}"), *value)]);
                assert_eq!(row.value(1).as_primitive::<Int64Type>().value(0), *value);
            }
            (Lookup::Ended, None) => assert!(versions.iter().any(|v| v.0 <= snapshot)),
            (Lookup::Absent, None) => assert!(versions.iter().all(|v| v.0 > snapshot)),
            (found, expected) => panic!("{key:?} at {snapshot}: {found:?}, not {expected:?}"),
        }
    }

    fn check_ended(&mut self, snapshot: u64) {
        let after = self.table.ended_after(CommitTs(snapshot));
        assert!(after.is_sorted_by_key(|(_, ts)| *ts));
        let versions = || self.model.keys.iter().flat_map(|(k, v)| v.iter().map(move |v| (k.clone(), *v)));
        let late = versions().filter(|(_, (b, e, _))| *b <= snapshot && snapshot < *e && *e != u64::MAX);
        let late: Vec<_> = late.map(|(k, v)| (k, CommitTs(v.1))).collect();
        assert_eq!(sorted(after), sorted(late));
        let from = self.rng.random_range(8..=snapshot.max(8));
        let mut found = vec![];
        for part in self.table.history(CommitTs(from), CommitTs(snapshot)).unwrap() {
            let rows = rows_of(&part.batch);
            for (i, (name, value)) in rows.into_iter().enumerate() {
                assert_eq!(format!("{:?}", part.keys.get(i).to_owned()), name);
                found.push((part.begins[i].0, part.ends[i].0, value));
            }
        }
        let wanted = versions().map(|(_, v)| v).filter(|v| from < v.1 && v.1 <= snapshot);
        assert_eq!(sorted(found), sorted(wanted.collect()));
    }
}

fn run(seed: u64, shape: Shape) {
    let mut run = Run::new(seed, shape);
    for _ in 0..60 {
        match run.rng.random_range(0..10) {
            0 => run.commit_and_undo(),
            1..4 => run.check(),
            _ => run.commit(),
        }
    }
    run.check();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn integer_keys_agree_with_the_model(seed: u64) {
        run(seed, Shape::Ints);
    }

    #[test]
    fn bytes_keys_agree_with_the_model(seed: u64) {
        run(seed, Shape::Bytes);
    }

    #[test]
    fn hidden_keys_agree_with_the_model(seed: u64) {
        run(seed, Shape::Rid);
    }
}

fn ints(rows: impl IntoIterator<Item = u64>) -> Vec<(Key, i64)> {
    rows.into_iter().map(|n| (Key::Int(n), n as i64)).collect()
}

fn table(kind: KeyKind) -> (SchemaRef, Memtable) {
    let schema = schema();
    (Arc::clone(&schema), Memtable::new(schema, kind, 1))
}

#[test]
fn growing_keys_take_no_entries_and_the_index_finds_them() {
    let (schema, table) = table(KeyKind::Int);
    let mut next = 0;
    for (i, size) in [1, 1, 2000, 1, 700, 5000, 3].into_iter().cycle().take(70).enumerate() {
        let (batch, keys) = batch(&schema, &ints(next..next + size));
        table.append(&batch, &keys, CommitTs(1 + i as u64)).unwrap();
        next += size;
    }
    assert_eq!(table.state.read().index.entries(), 0);
    for n in [0, 1, 2, 1999, 2003, next - 1] {
        assert!(matches!(table.get(KeyRef::Int(n), CommitTs(100)), Lookup::Row(_)), "{n}");
    }
    assert!(matches!(table.get(KeyRef::Int(next), CommitTs(100)), Lookup::Absent));
    // An update of one of them is an entry.
    assert!(table.end(KeyRef::Int(7), CommitTs(200)));
    let (batch, keys) = batch(&schema, &ints([7]));
    table.append(&batch, &keys, CommitTs(200)).unwrap();
    assert_eq!(table.state.read().index.entries(), 1);
    assert_eq!(
        table.range(Bound::Unbounded, Bound::Unbounded, CommitTs(200)).unwrap().num_rows() as u64,
        next
    );
}

#[test]
fn single_rows_are_scanned_as_large_batches() {
    let (schema, table) = table(KeyKind::Int);
    for n in 0..20_000 {
        let (batch, keys) = batch(&schema, &ints([n * 7919 % 20_011]));
        table.append(&batch, &keys, CommitTs(n + 1)).unwrap();
        // Scans beside the writes must not change what later ones see.
        if n % 37 == 0 {
            let seen: usize = table.scan(CommitTs(n + 1)).unwrap().iter().map(RecordBatch::num_rows).sum();
            assert_eq!(seen as u64, n + 1);
        }
    }
    let batches = table.scan(CommitTs(20_000)).unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 20_000);
    assert!(batches.len() < 30, "{} batches", batches.len());
    // Once gathered, a scan hands out the very same buffers.
    let again = table.scan(CommitTs(20_000)).unwrap();
    assert!(batches.iter().zip(&again).all(|(a, b)| Arc::ptr_eq(a.column(1), b.column(1))));
}

#[test]
fn a_large_batch_is_not_copied() {
    let (schema, table) = table(KeyKind::Int);
    let (rows, keys) = batch(&schema, &ints(0..10_000));
    table.append(&rows, &keys, CommitTs(5)).unwrap();
    let scanned = table.scan(CommitTs(5)).unwrap();
    assert_eq!(scanned.len(), 1);
    assert!(Arc::ptr_eq(scanned[0].column(1), rows.column(1)));
    assert!(table.scan(CommitTs(4)).unwrap().is_empty());
    // An end after the snapshot does not disturb it.
    assert!(table.end(KeyRef::Int(77), CommitTs(9)));
    assert!(Arc::ptr_eq(table.scan(CommitTs(8)).unwrap()[0].column(1), rows.column(1)));
    assert_eq!(table.scan(CommitTs(9)).unwrap()[0].num_rows(), 9_999);
}

#[test]
fn the_bytes_are_accounted() {
    let (schema, table) = table(KeyKind::Bytes);
    assert_eq!(table.bytes(), 0);
    let rows: Vec<_> = (0..3000).map(|n| (key(Shape::Bytes, n), n as i64)).collect();
    let mut last = 0;
    for (i, part) in rows.chunks(10).enumerate() {
        let (batch, keys) = batch(&schema, part);
        table.append(&batch, &keys, CommitTs(i as u64 + 1)).unwrap();
        assert!(table.bytes() > last);
        last = table.bytes();
    }
    let data: usize = table.scan(CommitTs(1000)).unwrap().iter().map(bytes_of_batch).sum();
    assert!(last > data && last < data + 3000 * 200, "{last} for {data} bytes of rows");
    table.undo_after(CommitTs::ZERO);
    assert!(table.is_empty() && table.bytes() < 1000, "{}", table.bytes());
    assert_eq!((table.first_ts(), table.last_ts()), (None, None));
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_added() {
    let (schema, table) = table(KeyKind::Int);
    let (rows, keys) = batch(&schema, &ints(0..3));
    assert!(table.append(&rows, &Keys::Ints(vec![1]), CommitTs(1)).is_err());
    assert!(table.append(&rows, &Keys::Bytes(vec![Box::from([1u8]); 3]), CommitTs(1)).is_err());
    assert!(table.append(&rows.project(&[0, 1]).unwrap(), &keys, CommitTs(1)).is_err());
    assert!(table.is_empty());
    let bound = Bound::Included(KeyRef::Bytes(b"x"));
    assert!(table.range(bound, Bound::Unbounded, CommitTs(1)).is_err());
    assert!(!table.end(KeyRef::Bytes(b"x"), CommitTs(1)));
}

/// Transfers between accounts, some of which are taken back before anybody sees them, while readers check that no
/// money appears or vanishes at any snapshot.
#[test]
fn readers_see_a_constant_sum_beside_the_writer() {
    const ACCOUNTS: u64 = 50;
    const COMMITS: u64 = 6_000;
    let (schema, table) = table(KeyKind::Int);
    let rows: Vec<_> = (0..ACCOUNTS).map(|n| (Key::Int(n), 100)).collect();
    let (first, keys) = batch(&schema, &rows);
    table.append(&first, &keys, CommitTs(1)).unwrap();
    let (visible, done) = (AtomicU64::new(1), AtomicBool::new(false));
    let sum = |batches: &[RecordBatch]| {
        let rows: Vec<_> = batches.iter().flat_map(rows_of).collect();
        (rows.iter().map(|r| r.1).sum::<i64>(), rows.len())
    };
    std::thread::scope(|scope| {
        let reader = |seed| {
            let (table, visible, done, sum) = (&table, &visible, &done, &sum);
            move || {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let mut scans = 0;
                while !done.load(Ordering::Acquire) || scans < 20 {
                    let latest = visible.load(Ordering::Acquire);
                    let at = if rng.random() { latest } else { rng.random_range(1..=latest) };
                    let at = CommitTs(at);
                    let accounts = Bound::Excluded(KeyRef::Int(ACCOUNTS));
                    let expected = (100 * ACCOUNTS as i64, ACCOUNTS as usize);
                    let range = table.range(Bound::Unbounded, accounts, at).unwrap();
                    assert_eq!(sum(&[range]), expected, "range at {at}");
                    let gets = (0..ACCOUNTS).map(|n| match table.get(KeyRef::Int(n), at) {
                        Lookup::Row(row) => row.value(1).as_primitive::<Int64Type>().value(0),
                        other => panic!("account {n} at {at}: {other:?}"),
                    });
                    assert_eq!(gets.sum::<i64>(), expected.0);
                    // Filler rows are worth nothing.
                    assert_eq!(sum(&table.scan(at).unwrap()).0, expected.0, "scan at {at}");
                    scans += 1;
                }
                scans
            }
        };
        let readers: Vec<_> = (0..2).map(|i| scope.spawn(reader(i))).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(99);
        let mut balance = vec![100i64; ACCOUNTS as usize];
        let mut filler = 1000;
        for ts in 2..COMMITS {
            let at = CommitTs(ts);
            let fails = rng.random_range(0..10) == 0;
            for try_fails in if fails { &[true, false][..] } else { &[false][..] } {
                let (a, b) = (rng.random_range(0..ACCOUNTS), rng.random_range(0..ACCOUNTS - 1));
                let b = if b >= a { b + 1 } else { b };
                let amount = rng.random_range(1..20);
                assert!(table.end(KeyRef::Int(a), at) && table.end(KeyRef::Int(b), at));
                let (from, to) = (balance[a as usize] - amount, balance[b as usize] + amount);
                let (rows, keys) = batch(&schema, &[(Key::Int(a), from), (Key::Int(b), to)]);
                table.append(&rows, &keys, at).unwrap();
                if ts % 500 == 0 {
                    let rows: Vec<_> = (filler..filler + 1500).map(|n| (Key::Int(n), 0)).collect();
                    let (rows, keys) = batch(&schema, &rows);
                    table.append(&rows, &keys, at).unwrap();
                    filler += 1500;
                }
                if *try_fails {
                    table.undo_after(CommitTs(ts - 1));
                } else {
                    (balance[a as usize], balance[b as usize]) = (from, to);
                }
            }
            visible.store(ts, Ordering::Release);
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().unwrap() >= 20);
        }
    });
}

/// One new key a commit, in no order; the range over all keys has as many rows as there were commits, whatever other
/// ranges are putting the keys into order at the same time.
#[test]
fn ranges_miss_no_key_beside_the_writer() {
    for shape in [Shape::Ints, Shape::Bytes] {
        let kind = if shape == Shape::Bytes { KeyKind::Bytes } else { KeyKind::Int };
        let (schema, table) = table(kind);
        const COMMITS: u64 = 4_001;
        let visible = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut at = 0;
                    while at < COMMITS {
                        at = visible.load(Ordering::Acquire);
                        let found = table.range(Bound::Unbounded, Bound::Unbounded, CommitTs(at)).unwrap();
                        assert_eq!(found.num_rows() as u64, at);
                        let values = found.column(1).as_primitive::<Int64Type>().values();
                        if shape == Shape::Ints {
                            assert!(values.is_sorted());
                        }
                    }
                });
            }
            for ts in 1..=COMMITS {
                let number = ts * 7919 % 10_007;
                // Now and then a key is taken back, and comes again later or not.
                if ts % 50 == 0 {
                    let (rows, keys) = batch(&schema, &[(key(shape, 20_000 + ts), 1)]);
                    table.append(&rows, &keys, CommitTs(ts)).unwrap();
                    table.undo_after(CommitTs(ts - 1));
                }
                let (rows, keys) = batch(&schema, &[(key(shape, number), number as i64)]);
                table.append(&rows, &keys, CommitTs(ts)).unwrap();
                visible.store(ts, Ordering::Release);
            }
        });
    }
}
