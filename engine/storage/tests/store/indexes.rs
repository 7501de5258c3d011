//! Indexes through builds, checkpoints, rewrites, damage and restarts; what they cover and what stays on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use triune_common::Clock;
use triune_lance::{AnnRequest, IndexMethod, LanceCaches, LanceMetric, LanceStore, NoOptions, plan_ann};
use triune_storage::fs::RealFs;
use triune_storage::stamp::TableId;
use triune_storage::store::{IndexState, Limits, Store, StoreOptions, StoreProvider};
use triune_storage::table::{IndexDef, TableDef, TableOptions};

use super::support::*;

const DOCS: TableId = TableId(1);
const DIMS: i32 = 8;

fn docs() -> TableDef {
    let mut def = definition(DOCS, &["id"]);
    def.columns[1].field =
        Field::new_fixed_size_list("e", Field::new("item", DataType::Float32, true), DIMS, true);
    def.options = TableOptions { retention_seconds: 0 };
    def
}

async fn open(place: &Place) -> Arc<Store> {
    Store::open(StoreOptions {
        fs: Arc::new(RealFs),
        folder: place.folder.path().to_owned(),
        lance: LanceStore::new(LanceCaches::default(), Arc::new(NoOptions)),
        clock: Arc::clone(&place.clock) as Arc<dyn Clock>,
        rng: Arc::new(triune_common::SystemRng::new()),
        definitions: vec![docs()],
        limits: Limits::default(),
        // Without the keeper: what happens is what the test does.
        thread: false,
    })
    .await
    .expect("the store opens")
}

/// What the vectors of a table are.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Random,
    Null,
    Zero,
    Same,
}

fn vector(kind: Kind, id: i64) -> Option<Vec<f32>> {
    let wave = |i: i32| ((id as f32 + 1.0) * (i as f32 + 1.3)).sin();
    match kind {
        Kind::Random => Some((0..DIMS).map(wave).collect()),
        Kind::Null => None,
        Kind::Zero => Some(vec![0.0; DIMS as usize]),
        Kind::Same => Some(vec![0.5; DIMS as usize]),
    }
}

fn batch(kind: Kind, ids: std::ops::Range<i64>) -> RecordBatch {
    let vectors: Vec<_> = ids.clone().map(|id| vector(kind, id)).collect();
    let valid = NullBuffer::from_iter(vectors.iter().map(Option::is_some));
    let flat = vectors.into_iter().flat_map(|v| v.unwrap_or_else(|| vec![0.0; DIMS as usize]));
    let items = Arc::new(Float32Array::from_iter_values(flat));
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let e = FixedSizeListArray::new(item, DIMS, items, Some(valid));
    let s = StringArray::from_iter_values(ids.clone().map(|id| format!("word{} end", id % 11)));
    let ids = Int64Array::from_iter_values(ids);
    RecordBatch::try_new(docs().schema(), vec![Arc::new(ids), Arc::new(e), Arc::new(s)]).unwrap()
}

async fn fill(store: &Arc<Store>, kind: Kind, ids: std::ops::Range<i64>) {
    if ids.is_empty() {
        return;
    }
    let t = store.begin();
    t.insert(DOCS, batch(kind, ids)).await.unwrap();
    t.commit(true).await.unwrap();
}

fn index(name: &str, method: IndexMethod) -> IndexDef {
    let column = if method.is_vector() {
        "e"
    } else if matches!(method, IndexMethod::FullText | IndexMethod::NGram) {
        "s"
    } else {
        "id"
    };
    let def = docs();
    let options = method.check_parameters(&def.column(column).unwrap().field, &[], None).unwrap();
    IndexDef { name: name.to_owned(), method, columns: vec![column.to_owned()], options }
}

async fn state(store: &Arc<Store>, name: &str) -> (IndexState, u64, u64, u64) {
    let all = store.indexes().await.unwrap();
    let found = all.iter().find(|i| i.index.name == name).expect("an index");
    (found.state, found.rows_indexed, found.rows_unindexed, found.rows_hot)
}

/// The nearest ids through the base's index.
async fn nearest(store: &Arc<Store>, id: i64, k: usize) -> triune_common::Result<Vec<i64>> {
    let provider = store.begin().provider(DOCS).unwrap();
    let provider = provider.downcast_ref::<StoreProvider>().expect("a table of the store").base()?;
    let query = Arc::new(Float32Array::from(vector(Kind::Random, id).unwrap()));
    let mut request = AnnRequest::new("e", query, k, LanceMetric::Cosine);
    request.exact_below = 0;
    let plan = plan_ann(&provider.expect("rows"), request).await?;
    let context = SessionContext::new();
    let mut rows = plan.execute(0, context.task_ctx())?;
    let mut out = Vec::new();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        out.extend(batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().values());
    }
    Ok(out)
}

/// The folders of indexes on disk.
fn folders(place: &Place) -> Vec<PathBuf> {
    let at = place.folder.path().join("tables/1/base.lance/_indices");
    let listed = std::fs::read_dir(at).map(|all| all.map(|e| e.unwrap().path()).collect::<Vec<_>>());
    listed.unwrap_or_default()
}

fn spoil(folder: &Path) {
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        std::fs::write(&path, b"nothing that Lance can read").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_takes_every_kind_and_number_of_rows() {
    for (kind, rows) in [
        (Kind::Random, 0),
        (Kind::Random, 1),
        (Kind::Random, 3),
        (Kind::Random, 700),
        (Kind::Null, 700),
        (Kind::Zero, 700),
        (Kind::Same, 700),
    ] {
        let place = Place::new();
        let store = open(&place).await;
        fill(&store, kind, 0..rows).await;
        for method in IndexMethod::ALL {
            let at = format!("{method} over {rows} rows, {kind:?}");
            let made = store.create_index(DOCS, index(method.name(), method)).await;
            made.unwrap_or_else(|e| panic!("{at}: {e}"));
            let (found, ..) = state(&store, method.name()).await;
            assert!(matches!(found, IndexState::Ready | IndexState::Pending), "{at}: {found:?}");
            if matches!(kind, Kind::Random) && rows >= 700 {
                assert_eq!(state(&store, method.name()).await, (IndexState::Ready, 700, 0, 0), "{at}");
            }
        }
        fill(&store, Kind::Random, rows..rows + 400).await;
        store.checkpoint().await.unwrap();
        store.upkeep_indexes(DOCS).await.unwrap_or_else(|e| panic!("{rows} rows, {kind:?}: {e}"));
        if rows + 400 > 700 {
            let found = nearest(&store, rows + 1, 1).await.unwrap();
            assert_eq!(found, [rows + 1], "{rows} rows, {kind:?}");
        }
        drop(store);
        let store = open(&place).await;
        assert_eq!(store.definition(DOCS).unwrap().indexes().len(), IndexMethod::ALL.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_built_when_there_are_enough_rows() {
    let place = Place::new();
    let store = open(&place).await;
    store.create_index(DOCS, index("near", IndexMethod::IvfRq)).await.unwrap();
    fill(&store, Kind::Random, 0..200).await;
    store.checkpoint().await.unwrap();
    store.upkeep_indexes(DOCS).await.unwrap();
    assert_eq!(state(&store, "near").await, (IndexState::Pending, 0, 200, 0));
    fill(&store, Kind::Random, 200..600).await;
    assert_eq!(state(&store, "near").await, (IndexState::Pending, 0, 200, 400));
    store.checkpoint().await.unwrap();
    store.upkeep_indexes(DOCS).await.unwrap();
    assert_eq!(state(&store, "near").await, (IndexState::Ready, 600, 0, 0));
    // A few more rows are left to be read as they are, many are taken in.
    fill(&store, Kind::Random, 600..700).await;
    store.checkpoint().await.unwrap();
    store.upkeep_indexes(DOCS).await.unwrap();
    assert_eq!(state(&store, "near").await, (IndexState::Ready, 600, 100, 0));
    assert_eq!(nearest(&store, 650, 1).await.unwrap(), [650]);
    drop(store);
    let store = open(&place).await;
    assert_eq!(state(&store, "near").await, (IndexState::Ready, 600, 100, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_table_is_extended_segment_by_segment() {
    let place = Place::new();
    let store = open(&place).await;
    fill(&store, Kind::Random, 0..60_000).await;
    store.create_index(DOCS, index("near", IndexMethod::IvfSq)).await.unwrap();
    store.create_index(DOCS, index("by_id", IndexMethod::BTree)).await.unwrap();
    store.create_index(DOCS, index("words", IndexMethod::FullText)).await.unwrap();
    for round in 0..2 {
        let first = 60_000 + round * 11_000;
        fill(&store, Kind::Random, first..first + 11_000).await;
        store.checkpoint().await.unwrap();
        store.upkeep_indexes(DOCS).await.unwrap();
        let rows = (first + 11_000) as u64;
        for name in ["near", "by_id", "words"] {
            assert_eq!(state(&store, name).await, (IndexState::Ready, rows, 0, 0), "{name}");
        }
        assert_eq!(nearest(&store, first + 5, 1).await.unwrap(), [first + 5]);
    }
    store.optimize(DOCS).await.unwrap();
    assert_eq!(nearest(&store, 5, 1).await.unwrap(), [5]);
    store.upkeep_indexes(DOCS).await.unwrap();
    assert_eq!(state(&store, "near").await, (IndexState::Ready, 82_000, 0, 0));
    store.vacuum(DOCS).await.unwrap();
    assert_eq!(nearest(&store, 5, 1).await.unwrap(), [5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_does_not_lose_what_happens_meanwhile() {
    let place = Place::new();
    let store = open(&place).await;
    fill(&store, Kind::Random, 0..3000).await;
    store.checkpoint().await.unwrap();
    let building = store.create_index(DOCS, index("near", IndexMethod::IvfFlat));
    let changing = async {
        fill(&store, Kind::Random, 3000..4000).await;
        store.checkpoint().await.unwrap();
        let t = store.begin();
        t.delete(DOCS, &keys(&[0, 1, 2])).await.unwrap();
        t.commit(true).await.unwrap();
        store.optimize(DOCS).await.unwrap();
        store.vacuum(DOCS).await.unwrap();
    };
    let (built, ()) = tokio::join!(building, changing);
    built.unwrap();
    let (found, indexed, beyond, _) = state(&store, "near").await;
    assert!(found != IndexState::Failed && indexed + beyond >= 3997, "{found:?} {indexed} {beyond}");
    assert_eq!(nearest(&store, 3500, 1).await.unwrap(), [3500]);
    assert_ne!(nearest(&store, 1, 1).await.unwrap(), [1]);
    store.upkeep_indexes(DOCS).await.unwrap();
    assert_eq!(nearest(&store, 2999, 1).await.unwrap(), [2999]);
    drop(store);
    let store = open(&place).await;
    assert_eq!(nearest(&store, 3500, 1).await.unwrap(), [3500]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_build_leaves_no_trace() {
    let place = Place::new();
    let store = open(&place).await;
    fill(&store, Kind::Random, 0..20_000).await;
    store.checkpoint().await.unwrap();
    for millis in [0, 1, 3, 10, 30] {
        let building = store.create_index(DOCS, index("near", IndexMethod::IvfPq));
        if tokio::time::timeout(Duration::from_millis(millis), building).await.is_ok() {
            store.drop_index(DOCS, "near").await.unwrap();
        }
        assert!(store.index_progress().is_empty());
        assert!(store.indexes().await.unwrap().is_empty());
    }
    // What other threads were writing when the build ended goes with the next VACUUM.
    tokio::time::sleep(Duration::from_millis(500)).await;
    store.vacuum(DOCS).await.unwrap();
    assert_eq!(folders(&place), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn vacuum_keeps_what_is_needed_and_sweeps_the_rest() {
    let place = Place::new();
    let store = open(&place).await;
    fill(&store, Kind::Random, 0..1000).await;
    store.create_index(DOCS, index("near", IndexMethod::IvfRq)).await.unwrap();
    let orphan = place.folder.path().join("tables/1/base.lance/_indices/0b9e0b9e");
    std::fs::create_dir_all(&orphan).unwrap();
    std::fs::write(orphan.join("index.idx"), b"left by a crash").unwrap();
    store.rebuild_index(DOCS, "near").await.unwrap();
    store.vacuum(DOCS).await.unwrap();
    assert_eq!(folders(&place).len(), 1, "{:?}", folders(&place));
    assert_eq!(nearest(&store, 7, 1).await.unwrap(), [7]);
    store.rename_index(DOCS, "near", "nearer").await.unwrap();
    assert_eq!(state(&store, "nearer").await, (IndexState::Ready, 1000, 0, 0));
    store.drop_index(DOCS, "nearer").await.unwrap();
    store.vacuum(DOCS).await.unwrap();
    assert_eq!(folders(&place).len(), 0);
    assert_eq!(nearest(&store, 7, 1).await.unwrap(), [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_noted_and_reindex_heals_it() {
    let place = Place::new();
    let store = open(&place).await;
    fill(&store, Kind::Random, 0..1000).await;
    store.create_index(DOCS, index("near", IndexMethod::IvfRq)).await.unwrap();
    drop(store);
    for folder in folders(&place) {
        spoil(&folder);
    }
    // It is not needed to open.
    let store = open(&place).await;
    let provider = store.begin().provider(DOCS).unwrap();
    let base = provider.downcast_ref::<StoreProvider>().unwrap().base().unwrap().unwrap();
    assert_eq!(base.vector_indexes("e").await.unwrap().len(), 1);
    assert_eq!(base.without_index("near").vector_indexes("e").await.unwrap().len(), 0);
    base.report_damaged("near", &triune_common::Error::data("torn"));
    assert_eq!(base.vector_indexes("e").await.unwrap().len(), 0);
    assert_eq!(state(&store, "near").await.0, IndexState::Failed);
    assert_eq!(nearest(&store, 7, 1).await.unwrap(), [7]);
    store.rebuild_index(DOCS, "near").await.unwrap();
    assert_eq!(state(&store, "near").await, (IndexState::Ready, 1000, 0, 0));
    assert_eq!(nearest(&store, 7, 1).await.unwrap(), [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_table_keeps_the_definition_only() {
    let place = Place::new();
    let store = open(&place).await;
    fill(&store, Kind::Random, 0..1000).await;
    store.create_index(DOCS, index("near", IndexMethod::IvfRq)).await.unwrap();
    let t = store.begin();
    t.truncate(DOCS).unwrap();
    t.commit(true).await.unwrap();
    assert_eq!(state(&store, "near").await, (IndexState::Pending, 0, 0, 0));
    fill(&store, Kind::Random, 5000..5500).await;
    store.checkpoint().await.unwrap();
    store.upkeep_indexes(DOCS).await.unwrap();
    assert_eq!(state(&store, "near").await, (IndexState::Ready, 500, 0, 0));
    assert_eq!(nearest(&store, 5003, 1).await.unwrap(), [5003]);
}
