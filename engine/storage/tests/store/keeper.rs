//! What the keeper does by itself, and what it leaves to readers in other processes.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use triune_storage::store::Store;

use super::support::*;

/// Without the background task: each round is asked for.
async fn place() -> (Place, Arc<Store>) {
    let place = Place { thread: false, ..Place::new() };
    let store = place.open().await;
    (place, store)
}

async fn insert(store: &Arc<Store>, ids: std::ops::Range<i64>) {
    let values: Vec<(i64, i64)> = ids.map(|id| (id, id * 10)).collect();
    let t = store.begin();
    t.insert(KEYED, rows(KEYED, &values)).await.unwrap();
    t.commit(true).await.unwrap();
    store.checkpoint().await.unwrap();
}

fn data_files(place: &Place) -> BTreeSet<String> {
    let folder = place.folder.path().join("tables").join(KEYED.to_string()).join("base.lance/data");
    let names = std::fs::read_dir(folder).unwrap();
    names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

fn announcements(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("readers")).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_fragments_become_one_and_their_files_go() {
    let (place, store) = place().await;
    for i in 0..7 {
        insert(&store, i * 3..i * 3 + 3).await;
        store.keep().await.unwrap();
    }
    assert_eq!(store.maintenance().merges, 0);
    insert(&store, 21..24).await;
    let before = visible(&store, KEYED).await;
    assert_eq!(data_files(&place).len(), 8);
    store.keep().await.unwrap();
    assert_eq!(store.maintenance().merges, 1);
    assert_eq!(visible(&store, KEYED).await, before);

    // The history still names the old files, and for ten minutes readers may.
    store.keep().await.unwrap();
    assert_eq!(data_files(&place).len(), 9);
    place.clock.advance(Duration::from_secs(7200));
    insert(&store, 30..31).await;
    store.keep().await.unwrap();
    assert_eq!(data_files(&place).len(), 10, "what was published a moment ago stays");
    place.clock.advance(Duration::from_secs(601));
    store.keep().await.unwrap();
    assert_eq!(data_files(&place).len(), 2);
    assert!(store.maintenance().freed_bytes > 0);
    assert_eq!(visible(&store, KEYED).await.len(), 25);
    drop(store);
    assert_eq!(visible(&place.open().await, KEYED).await.len(), 25);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fragment_that_lost_a_fifth_is_written_anew() {
    let (_place, store) = place().await;
    insert(&store, 0..100).await;
    for (gone, merges) in [(0..10, 0), (10..19, 0), (19..20, 1)] {
        let t = store.begin();
        t.delete(KEYED, &keys(&gone.collect::<Vec<_>>())).await.unwrap();
        t.commit(true).await.unwrap();
        store.checkpoint().await.unwrap();
        store.keep().await.unwrap();
        assert_eq!(store.maintenance().merges, merges);
    }
    assert_eq!(visible(&store, KEYED).await.len(), 80);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vacuum_leaves_what_another_process_reads() {
    let (place, store) = place().await;
    for i in 0..3 {
        insert(&store, i * 3..i * 3 + 3).await;
    }
    let reader = place.open_read_only().await;
    assert_eq!(announcements(place.folder.path()), 1);
    let before = visible(&reader, KEYED).await;

    // So that the history does not need the files.
    place.clock.advance(Duration::from_secs(7200));
    store.optimize(KEYED).await.unwrap();
    place.clock.advance(Duration::from_secs(7200));
    insert(&store, 10..11).await;
    insert(&store, 11..12).await;
    store.vacuum(KEYED).await.unwrap();
    assert_eq!(visible(&reader, KEYED).await, before);
    // A look-up by key opens other files than a scan.
    assert_eq!(visible(&reader, KEYED).await.get(&4), Some(&vec![40]));

    let old = reader.begin();
    reader.refresh(&[definition(KEYED, &["id"]), definition(PLAIN, &[])]).await.unwrap();
    assert_eq!(announcements(place.folder.path()), 2, "the older version is still read");
    assert_eq!(visible(&reader, KEYED).await.len(), 11);
    assert_eq!(seen(&old, KEYED).await, before);
    drop(old);
    drop(reader);
    assert_eq!(announcements(place.folder.path()), 0);
    let files = data_files(&place).len();
    store.vacuum(KEYED).await.unwrap();
    assert!(data_files(&place).len() < files);
    assert_eq!(visible(&store, KEYED).await.len(), 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_announcement_of_a_reader_that_is_gone_is_removed() {
    let (place, store) = place().await;
    insert(&store, 0..3).await;
    let folder = place.folder.path().join("readers");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(place.folder.path().join("state.json"), folder.join("1-00.json")).unwrap();
    std::fs::write(folder.join("2-00.json"), "half a sta").unwrap();
    store.vacuum(KEYED).await.unwrap();
    assert_eq!(announcements(place.folder.path()), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_version_from_before_a_table_was_made() {
    let place = Place::new();
    place.clock.advance(Duration::from_secs(100));
    let store = place.open().await;
    let made = triune_storage::table::TableDef { id: store.next_table_id(), ..definition(KEYED, &["id"]) };
    let def = store.create_table(made).await.unwrap();
    assert_eq!(def.created.time(), triune_common::Clock::now(place.clock.as_ref()));
    let before = triune_storage::stamp::CommitTs(def.created.0 - 1);
    let e = store.provider_at(def.id, before).await.unwrap_err();
    assert!(e.message().starts_with("the table was made at 1970-01-01 00:01:40 UTC"), "{e}");
    assert!(read(store.provider_at(def.id, def.created).await.unwrap()).await.is_empty());
}
