use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use triune_common::SystemRng;
use triune_lance::{LanceCaches, NoOptions};

use super::*;
use crate::fs::RealFs;
use crate::key::Key;
use crate::stamp::TableId;
use crate::table::{ColumnDef, TableOptions};

/// Which columns are the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Int,
    Text,
    Rid,
}

fn definition(by: By) -> TableDef {
    let column = |id, name: &str, t, nullable| ColumnDef {
        id,
        field: Field::new(name, t, nullable),
        default: None,
        identity: None,
        generated: None,
        comment: None,
    };
    let key = match by {
        By::Int => vec!["id".to_owned()],
        By::Text => vec!["name".to_owned()],
        By::Rid => Vec::new(),
    };
    TableDef {
        id: TableId(7),
        revision: 1,
        columns: vec![
            column(1, "id", DataType::Int64, false),
            column(2, "name", DataType::Utf8, false),
            column(3, "n", DataType::Int64, true),
        ],
        primary_key: key,
        checks: Vec::new(),
        cluster_by: Vec::new(),
        comment: None,
        options: TableOptions::default(),
        last_column: 3,
        indexes: vec![],
        index_revision: 0,
        created: CommitTs::ZERO,
    }
}

fn table(dir: &Path, def: &TableDef) -> Arc<BaseTable> {
    let lance = LanceStore::new(LanceCaches::default(), Arc::new(NoOptions));
    BaseTable::new(&dir.join("tables/7"), def, lance, Arc::new(RealFs)).unwrap()
}

/// Rows `(key number, n)` in the stored schema.
fn batch(by: By, rows: &[(u64, i64)]) -> RecordBatch {
    let schema = definition(by).stored_schema();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(k, _)| *k as i64))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(k, _)| format!("name-{k}")))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, n)| *n))),
    ];
    if by == By::Rid {
        columns.push(Arc::new(UInt64Array::from_iter_values(rows.iter().map(|(k, _)| *k))));
    }
    RecordBatch::try_new(schema, columns).unwrap()
}

fn stream(batches: Vec<RecordBatch>) -> SendableRecordBatchStream {
    let schema = batches[0].schema();
    Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches.into_iter().map(Ok))))
}

fn key(base: &Base, by: By, k: u64) -> Key {
    let keys = base.table().codec().keys_of(&batch(by, &[(k, 0)])).unwrap();
    keys.get(0).to_owned()
}

fn keys(base: &Base, by: By, numbers: &[u64]) -> Keys {
    let rows: Vec<_> = numbers.iter().map(|k| (*k, 0)).collect();
    base.table().codec().keys_of(&batch(by, &rows)).unwrap()
}

fn at(checkpoint: u64) -> AppendOptions {
    AppendOptions { checkpoint: CommitTs(checkpoint), settle: CommitTs::ZERO }
}

#[tokio::test]
async fn rows_are_found_by_key_and_fetched_by_address() {
    let dir = tempfile::tempdir().unwrap();
    for by in [By::Int, By::Text, By::Rid] {
        let dir = dir.path().join(format!("{by:?}"));
        let table = table(&dir, &definition(by));
        let base = Base::empty(&table, BaseState::empty(&SystemRng::new())).unwrap();
        assert!(base.find(key(&base, by, 1).as_ref()).is_none());
        let first: Vec<(u64, i64)> = (0..1000).map(|k| (k, k as i64 * 2)).collect();
        let base = base.append(stream(vec![batch(by, &first)]), at(10)).await.unwrap();
        let second: Vec<(u64, i64)> = (0..500).map(|k| (5000 - 7 * k, 1)).collect();
        let base = base.append(stream(vec![batch(by, &second)]), at(20)).await.unwrap();
        assert_eq!(base.rows(), 1500);
        let found = base.find_many(&keys(&base, by, &[999, 5000, 3, 6000, 4993]));
        assert!(found[3].is_none());
        let addresses: Vec<u64> = found.into_iter().flatten().collect();
        let rows = base.fetch(&[addresses[1], addresses[0], addresses[1]], &[2, 0]).await.unwrap();
        assert_eq!(rows.schema().field(0).name(), "n");
        assert_eq!(rows.column(1).as_primitive::<Int64Type>().values(), &[5000, 999, 5000]);
        assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[1, 1998, 1]);

        assert!(base.deletes().mark(addresses[0], CommitTs(30)));
        let gone = key(&base, by, 999);
        assert!(base.find(gone.as_ref()).is_none());
        assert!(base.find_at(gone.as_ref(), CommitTs(29)).is_some());
        assert!(base.find_at(gone.as_ref(), CommitTs(30)).is_none());
        assert_eq!(base.intersects(&keys(&base, by, &[7001, 999, 5000])), Some(2));
        assert_eq!(base.provider(CommitTs(30)).unwrap().unwrap().rows(), 1499);
        assert_eq!(base.provider(CommitTs(29)).unwrap().unwrap().rows(), 1500);

        let base = base.append(stream(vec![batch(by, &[(999, -1)])]), at(40)).await.unwrap();
        let state: BaseState = serde_json::from_str(&serde_json::to_string(base.state()).unwrap()).unwrap();
        let again = state.open(&self::table(&dir, &definition(by))).await.unwrap();
        let address = again.find(gone.as_ref()).unwrap();
        assert_ne!(address, addresses[0]);
        let row = again.fetch(&[address], &[2]).await.unwrap();
        assert_eq!(row.column(0).as_primitive::<Int64Type>().values(), &[-1]);
        assert_eq!(again.provider(CommitTs(40)).unwrap().unwrap().rows(), 1500);
        again.keys().verify().unwrap();
    }
}

#[tokio::test]
async fn an_append_that_was_not_published_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(dir.path(), &definition(By::Int));
    let empty = Base::empty(&table, BaseState::empty(&SystemRng::new())).unwrap();
    // The very first one, twice: nothing was published in between.
    drop(empty.append(stream(vec![batch(By::Int, &[(1, 1)])]), at(1)).await.unwrap());
    let one = empty.append(stream(vec![batch(By::Int, &[(2, 1)])]), at(1)).await.unwrap();
    assert_eq!(one.rows(), 1);
    drop(one.append(stream(vec![batch(By::Int, &[(3, 1)])]), at(2)).await.unwrap());
    let two = one.append(stream(vec![batch(By::Int, &[(4, 1)])]), at(2)).await.unwrap();
    assert_eq!((two.rows(), two.provider(CommitTs::MAX).unwrap().unwrap().rows()), (2, 2));
    let again = two.state().clone().open(&self::table(dir.path(), &definition(By::Int))).await.unwrap();
    let found = again.find_many(&keys(&again, By::Int, &[1, 2, 3, 4]));
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false, true]);
}

#[tokio::test]
async fn damage_is_named_when_a_base_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(dir.path(), &definition(By::Int));
    let base = Base::empty(&table, BaseState::empty(&SystemRng::new())).unwrap();
    let base = base.append(stream(vec![batch(By::Int, &[(5, 1), (3, 1)])]), at(1)).await.unwrap();
    base.deletes().mark(base.find(key(&base, By::Int, 3).as_ref()).unwrap(), CommitTs(2));
    let base = base.append(stream(vec![batch(By::Int, &[(9, 1), (7, 1)])]), at(2)).await.unwrap();
    let state = base.state().clone();
    drop(base);
    let root = table.folder().to_owned();
    let mut files: Vec<PathBuf> = state.files().map(|f| root.join(f)).collect();
    files.extend(std::fs::read_dir(root.join("base.lance/data")).unwrap().map(|e| e.unwrap().path()));
    let newest = |folder: &str| {
        let listed = std::fs::read_dir(root.join(folder)).unwrap().map(|e| e.unwrap().path());
        // Lance counts names down.
        listed.filter(|p| p.extension().is_some_and(|e| e == "manifest")).min().unwrap()
    };
    files.push(newest("base.lance/_versions"));
    assert_eq!(files.len(), 6, "{files:?}");
    for file in files {
        let good = std::fs::read(&file).unwrap();
        let open = || async {
            let opened = state.clone().open(&self::table(dir.path(), &definition(By::Int))).await;
            let error = opened.expect_err(&format!("{} was damaged", file.display()));
            assert_eq!(error.kind(), ErrorKind::Data, "{error}");
            error.message().to_owned()
        };
        std::fs::remove_file(&file).unwrap();
        let said = open().await;
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(said.contains(name), "{name}: {said}");
        std::fs::write(&file, &good[..good.len() / 2]).unwrap();
        assert!(open().await.contains(name));
        if file.extension().is_some_and(|e| e == "manifest" || e == "roar") {
            let mut bad = good.clone();
            bad[good.len() / 3] ^= 8;
            std::fs::write(&file, &bad).unwrap();
            assert!(open().await.contains(name));
        }
        std::fs::write(&file, &good).unwrap();
        state.clone().open(&self::table(dir.path(), &definition(By::Int))).await.unwrap();
    }
}

#[tokio::test]
async fn a_torn_version_that_nobody_published_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(dir.path(), &definition(By::Int));
    let empty = Base::empty(&table, BaseState::empty(&SystemRng::new())).unwrap();
    let one = empty.append(stream(vec![batch(By::Int, &[(1, 1)])]), at(1)).await.unwrap();
    let orphan = one.append(stream(vec![batch(By::Int, &[(2, 1)])]), at(2)).await.unwrap();
    drop(orphan);
    let versions = table.folder().join("base.lance/_versions");
    let newest = std::fs::read_dir(versions).unwrap().map(|e| e.unwrap().path()).min().unwrap();
    let bytes = std::fs::read(&newest).unwrap();
    for torn in [0, 7, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&newest, &bytes[..torn]).unwrap();
        let state = one.state().clone();
        let table = self::table(dir.path(), &definition(By::Int));
        let again = state.open(&table).await.unwrap();
        let two = again.append(stream(vec![batch(By::Int, &[(3, 1)])]), at(2)).await.unwrap();
        let found = two.find_many(&keys(&two, By::Int, &[1, 2, 3]));
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    }
}

mod model;

/// Not a check of speed: prints what reads of single rows and aggregates cost. `--nocapture` shows it.
#[tokio::test]
async fn reads_of_single_rows_come_from_the_cache() {
    use datafusion::catalog::TableProvider;
    let rows: u64 = std::env::var("TRIUNE_ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let dir = tempfile::tempdir().unwrap();
    let table = table(dir.path(), &definition(By::Int));
    let base = Base::empty(&table, BaseState::empty(&SystemRng::new())).unwrap();
    // Every other number, shuffled: a key file with ordinals.
    let numbers: Vec<(u64, i64)> = (0..rows).map(|i| (i * 7919 % rows * 2, i as i64)).collect();
    let clock = triune_common::SystemClock::new();
    let elapsed = || triune_common::Clock::elapsed(&clock).as_secs_f64();
    let batches: Vec<RecordBatch> = numbers.chunks(8192).map(|c| batch(By::Int, c)).collect();
    let t = elapsed();
    let base = base.append(stream(batches), at(1)).await.unwrap();
    println!("append of {rows}: {:.3} s", elapsed() - t);
    let mut place = 12345u64;
    let mut next = || {
        place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (place >> 33) % rows * 2
    };
    let n = 5_000;
    for round in ["cold", "warm", "warm"] {
        let t = elapsed();
        for _ in 0..n {
            let number = next();
            let address = base.find(key(&base, By::Int, number).as_ref()).unwrap();
            let row = base.fetch(&[address], &[0, 1, 2]).await.unwrap();
            assert_eq!(row.column(0).as_primitive::<Int64Type>().value(0), number as i64);
        }
        println!("{round}: {:.0} reads/s", f64::from(n) / (elapsed() - t));
    }
    let asked: Vec<_> = (0..n).map(|_| key(&base, By::Int, next())).collect();
    let t = elapsed();
    assert!(asked.iter().all(|k| base.find(k.as_ref()).is_some()));
    println!("find: {:.0} ns", (elapsed() - t) / f64::from(n) * 1e9);
    let all: Vec<u64> = (0..rows).map(|i| i * 2 + 1).collect();
    let t = elapsed();
    assert_eq!(base.intersects(&keys(&base, By::Int, &all)), None);
    println!("intersects of {rows} new keys: {:.1} ms", (elapsed() - t) * 1e3);
    let ctx = datafusion::prelude::SessionContext::new_with_config(Default::default());
    for _ in 0..3 {
        let t = elapsed();
        let provider = base.provider(CommitTs::MAX).unwrap().unwrap();
        let plan = provider.scan(&ctx.state(), Some(&vec![0, 2]), &[], None).await.unwrap();
        let read = datafusion::physical_plan::collect(plan, ctx.task_ctx()).await.unwrap();
        let found: usize = read.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(found as u64, rows);
        println!("scan of two columns: {:.1} ms", (elapsed() - t) * 1e3);
    }
    let (hits, _) = table.lance.columns().counts();
    assert!(hits > 10_000, "{hits}");
}

/// All rows as a scan gives them: columns `id` and `n`.
async fn scanned(base: &Base, at: CommitTs) -> Vec<(i64, i64)> {
    use datafusion::catalog::TableProvider;
    let Some(provider) = base.provider(at).unwrap() else { return Vec::new() };
    let ctx = datafusion::prelude::SessionContext::new_with_config(
        datafusion::prelude::SessionConfig::new().with_target_partitions(1),
    );
    let plan = provider.scan(&ctx.state(), Some(&vec![0, 2]), &[], None).await.unwrap();
    let read = datafusion::physical_plan::collect(plan, ctx.task_ctx()).await.unwrap();
    let pairs = read.iter().flat_map(|b| {
        let (k, n) = (b.column(0).as_primitive::<Int64Type>(), b.column(1).as_primitive::<Int64Type>());
        k.values().iter().copied().zip(n.values().iter().copied()).collect::<Vec<_>>()
    });
    pairs.collect()
}

#[tokio::test]
async fn rows_lie_in_the_order_of_cluster_by() {
    let dir = tempfile::tempdir().unwrap();
    let def = TableDef { cluster_by: vec!["n".to_owned()], ..definition(By::Int) };
    let table = table(dir.path(), &def);
    let base = Base::empty(&table, BaseState::empty(&SystemRng::new())).unwrap();
    let rows = |from: u64| -> Vec<(u64, i64)> {
        (from..from + 500).map(|k| (k, (k * 7919 % 1009) as i64)).collect()
    };
    let base = base.append(stream(vec![batch(By::Int, &rows(0))]), at(1)).await.unwrap();
    let base = base.append(stream(vec![batch(By::Int, &rows(500))]), at(2)).await.unwrap();
    let before = scanned(&base, CommitTs::MAX).await;
    assert!(before[..500].is_sorted_by_key(|(_, n)| *n) && before[500..].is_sorted_by_key(|(_, n)| *n));
    assert!(!before.is_sorted_by_key(|(_, n)| *n));

    let address = |base: &Base, k| base.find(key(base, By::Int, k).as_ref());
    base.deletes().mark(address(&base, 3).unwrap(), CommitTs(2));
    base.deletes().mark(address(&base, 4).unwrap(), CommitTs(3));
    let options = RewriteOptions { everything: true, ..RewriteOptions::new(CommitTs(2)) };
    let made = base.rewrite(&options).await.unwrap().unwrap();
    // While it ran, and before it was published.
    base.deletes().mark(address(&base, 700).unwrap(), CommitTs(4));
    let old = address(&base, 800).unwrap();
    let base = made.catch_up();
    assert_eq!(made.address(old), address(&base, 800));
    assert_eq!(base.rows(), 999, "one row had ended before the checkpoint");
    let after = scanned(&base, CommitTs::MAX).await;
    assert!(after.is_sorted_by_key(|(_, n)| *n));
    let mut ids: Vec<i64> = after.iter().map(|(k, _)| *k).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..1000).filter(|k| ![3, 4, 700].contains(k)).collect::<Vec<_>>());
    assert_eq!(scanned(&base, CommitTs(3)).await.len(), 998);
    assert!(
        base.rewrite(&RewriteOptions { small_rows: 0, ..RewriteOptions::new(CommitTs(2)) })
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn columns_change_and_the_old_base_stays() {
    let dir = tempfile::tempdir().unwrap();
    let old = definition(By::Text);
    let table = table(dir.path(), &old);
    let base = Base::empty(&table, BaseState::empty(&SystemRng::new())).unwrap();
    let rows: Vec<(u64, i64)> = (0..300).map(|k| (k * 3, k as i64)).collect();
    let base = base.append(stream(vec![batch(By::Text, &rows)]), at(5)).await.unwrap();
    base.deletes().mark(base.find(key(&base, By::Text, 6).as_ref()).unwrap(), CommitTs(9));

    let mut new = old.clone();
    new.columns.remove(0);
    new.columns[1].field = Field::new("n", DataType::Utf8, true);
    let into = self::table(dir.path(), &new);
    let map: MapRows = Arc::new(|rows| {
        let n = arrow::compute::cast(rows.column(2), &DataType::Utf8)?;
        Ok(RecordBatch::try_from_iter([("name", Arc::clone(rows.column(1))), ("n", n)])?)
    });
    let made = base.convert(&into, map, CommitTs(5)).await.unwrap();
    let changed = made.catch_up();
    assert_eq!(changed.provider(CommitTs(8)).unwrap().unwrap().rows(), 300);
    assert_eq!(changed.provider(CommitTs(9)).unwrap().unwrap().rows(), 299);
    let find = |k: &str| {
        let column = Arc::new(StringArray::from(vec![k])) as ArrayRef;
        changed.find(into.codec().encode(&[column]).unwrap().get(0))
    };
    assert!(find("name-6").is_none() && find("name-7").is_none());
    let row = changed.fetch(&[find("name-9").unwrap()], &[1, 0]).await.unwrap();
    assert_eq!(row.column(0).as_string::<i32>().value(0), "3");
    // The old one answers as before, also after it was opened again.
    assert_eq!(scanned(&base, CommitTs(8)).await.len(), 300);
    let again = base.state().clone().open(&table).await.unwrap();
    assert_eq!(scanned(&again, CommitTs(8)).await.len(), 300);
    let again = changed.state().clone().open(&into).await.unwrap();
    assert_eq!(again.rows(), 300);

    let failing: MapRows = Arc::new(|_| Err(Error::invalid("no such cast")));
    let error = base.convert(&into, failing, CommitTs(5)).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Invalid, "no such cast"));
}

#[tokio::test]
async fn many_small_appends_make_few_key_files() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(dir.path(), &definition(By::Int));
    let mut base = Base::empty(&table, BaseState::empty(&SystemRng::new())).unwrap();
    for i in 0..30u64 {
        let rows: Vec<(u64, i64)> = (0..10).map(|k| ((k * 37 + i) * 2, i as i64)).collect();
        base = base.append(stream(vec![batch(By::Int, &rows)]), at(i + 1)).await.unwrap();
        assert!(base.keys().files() < 10, "{} files after {i} appends", base.keys().files());
    }
    let all: Vec<u64> = (0..30).flat_map(|i| (0..10).map(move |k| (k * 37 + i) * 2)).collect();
    assert!(base.find_many(&keys(&base, By::Int, &all)).iter().all(Option::is_some));
    let made = base.rewrite(&RewriteOptions::new(CommitTs(30))).await.unwrap().unwrap();
    let base = made.catch_up();
    assert_eq!((base.state().fragments.len(), base.keys().files()), (1, 1));
    let found = base.find_many(&keys(&base, By::Int, &all));
    let rows = base.fetch(&found.into_iter().flatten().collect::<Vec<_>>(), &[0]).await.unwrap();
    let ids = rows.column(0).as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(ids, all.iter().map(|k| *k as i64).collect::<Vec<_>>());
}

#[tokio::test]
async fn vacuum_removes_what_no_state_names_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let table = table(dir.path(), &definition(By::Int));
    let empty = Base::empty(&table, BaseState::empty(&SystemRng::new())).unwrap();
    let rows = |from: u64| batch(By::Int, &[(from + 7, 1), (from, 2), (from + 3, 3)]);
    let one = empty.append(stream(vec![rows(0)]), at(1)).await.unwrap();
    one.deletes().mark(one.find(key(&one, By::Int, 7).as_ref()).unwrap(), CommitTs(2));
    let two = one.append(stream(vec![rows(100)]), at(2)).await.unwrap();
    let three = two.rewrite(&RewriteOptions::new(CommitTs(2))).await.unwrap().unwrap().catch_up();
    let cut = three.state().truncated(CommitTs(3));
    let four = Base::empty(&table, cut.clone()).unwrap();
    let four = four.append(stream(vec![rows(200)]), at(4)).await.unwrap();
    // Nobody published this one.
    drop(four.append(stream(vec![rows(300)]), at(5)).await.unwrap());
    let states: Vec<BaseState> = [&one, &two, &three, &four].map(|b| b.state().clone()).into();
    let counts = [3, 5, 5, 3];
    let size = || -> u64 {
        let mut folders = vec![table.folder().to_owned()];
        let mut sum = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let found = std::fs::metadata(&path).unwrap();
                if found.is_dir() { folders.push(path) } else { sum += found.len() }
            }
        }
        sum
    };
    for keep in [0..4, 1..4, 2..4, 3..4] {
        let before = size();
        let freed = table.vacuum(&states[keep.clone()], false).await.unwrap();
        assert!(freed > 0, "{keep:?}");
        assert_eq!(size(), before - freed);
        for (i, state) in states.iter().enumerate() {
            let opened = state.clone().open(&self::table(dir.path(), &definition(By::Int))).await;
            if keep.contains(&i) {
                let base = opened.unwrap();
                assert_eq!(scanned(&base, CommitTs::MAX).await.len(), counts[i], "state {i}");
            } else {
                assert_eq!(opened.unwrap_err().kind(), ErrorKind::Data, "state {i}");
            }
        }
        assert_eq!(table.vacuum(&states[keep], false).await.unwrap(), 0);
    }
    // A state that cannot be read keeps everything.
    let before = size();
    assert!(table.vacuum(&[states[0].clone(), states[3].clone()], false).await.is_err());
    assert_eq!(size(), before);
    assert!(table.vacuum(&[cut], false).await.unwrap() > 0);
    assert_eq!(size(), 0);
}
