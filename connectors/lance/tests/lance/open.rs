//! Places that hold no dataset, and versions of one.

use std::time::Duration;

use triune_common::ErrorKind;
use triune_lance::{LanceVersion, WriteMode};
use url::Url;

use crate::support::{Place, documents, register, rows_of, session};

#[tokio::test]
async fn a_place_without_a_dataset() {
    let place = Place::new();
    let at = |path: &std::path::Path| Url::from_file_path(path).unwrap();
    let folder = place.url.to_file_path().unwrap();
    let open = |url: Url| {
        let store = std::sync::Arc::clone(&place.store);
        async move { store.open(&url, &LanceVersion::Latest).await.unwrap_err() }
    };

    let error = open(place.url.clone()).await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.message(), format!("nothing exists at {}", folder.display()));

    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("data.parquet"), b"PAR1").unwrap();
    let error = open(place.url.clone()).await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let want = format!("{} is not a Lance dataset: it has no _versions folder", folder.display());
    assert_eq!(error.message(), want);

    let error = open(at(&folder.join("data.parquet"))).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.message().ends_with("data.parquet is a file, not a Lance dataset"), "{error}");

    let error = open(Url::parse("gs://bucket/x.lance").unwrap()).await;
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.message().contains("gs://"), "{error}");
}

#[tokio::test]
async fn a_torn_manifest_is_told() {
    let place = Place::new();
    place.write(vec![documents(0, 5)], WriteMode::Create).await.unwrap();
    let versions = place.url.to_file_path().unwrap().join("_versions");
    for file in std::fs::read_dir(versions).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "manifest") {
            std::fs::write(path, b"not a manifest").unwrap();
        }
    }
    // Another process: nothing is cached.
    let fresh =
        triune_lance::LanceStore::new(Default::default(), std::sync::Arc::new(triune_lance::NoOptions));
    let error = fresh.open(&place.url, &LanceVersion::Latest).await.unwrap_err();
    assert!(!error.message().contains(".rs:"), "{error}");
    assert!(!matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Internal), "{:?} {error}", error.kind());
}

#[tokio::test]
async fn versions_by_number_time_and_tag() {
    let place = Place::new();
    place.write(vec![documents(0, 5)], WriteMode::Create).await.unwrap();
    let mut times = Vec::new();
    for step in 1..4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        times.push(place.dataset().await.manifest().timestamp());
        place.write(vec![documents(step * 5, step * 5 + 5)], WriteMode::Append).await.unwrap();
    }
    times.push(place.dataset().await.manifest().timestamp());
    let rows = |version: LanceVersion| {
        let (store, url) = (std::sync::Arc::clone(&place.store), place.url.clone());
        async move { store.open(&url, &version).await.map(|t| (t.version(), t.rows())) }
    };

    for (i, time) in times.iter().enumerate() {
        let want = (i as u64 + 1, (i as u64 + 1) * 5);
        assert_eq!(rows(LanceVersion::Number(want.0)).await.unwrap(), want);
        assert_eq!(rows(LanceVersion::Timestamp(*time)).await.unwrap(), want);
        let later = *time + chrono::Duration::milliseconds(2);
        assert_eq!(rows(LanceVersion::Timestamp(later)).await.unwrap(), want);
    }
    let early = rows(LanceVersion::Timestamp(times[0] - chrono::Duration::seconds(1))).await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::NotFound);
    assert!(early.message().contains("no version as old as"), "{early}");
    let (oldest, newest) = (times[0].format("%H:%M:%S%.3f"), times[3].format("%H:%M:%S%.3f"));
    let hint = early.hint().unwrap();
    assert!(hint.contains(&oldest.to_string()) && hint.contains(&newest.to_string()), "{hint}");

    let unknown = rows(LanceVersion::Number(9)).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    assert_eq!(unknown.hint(), Some("it has versions 1, 2, 3, 4"), "{unknown}");
    assert!(unknown.message().ends_with("has no version 9"), "{unknown}");

    let untagged = rows(LanceVersion::Tag("stable".into())).await.unwrap_err();
    assert_eq!((untagged.kind(), untagged.hint()), (ErrorKind::NotFound, Some("it has no tags")));
    place.dataset().await.tags().create("stable", 2u64).await.unwrap();
    assert_eq!(rows(LanceVersion::Tag("stable".into())).await.unwrap(), (2, 10));
    let near = rows(LanceVersion::Tag("stabel".into())).await.unwrap_err();
    assert_eq!(near.hint(), Some("did you mean \"stable\"?"));
    let far = rows(LanceVersion::Tag("x".into())).await.unwrap_err();
    assert_eq!(far.hint(), Some("it has stable"));
}

#[tokio::test]
async fn an_opened_table_does_not_move() {
    let place = Place::new();
    place.write(vec![documents(0, 5)], WriteMode::Create).await.unwrap();
    let ctx = session(2, 8192);
    register(&ctx, "t", place.open().await);
    place.write(vec![documents(5, 9)], WriteMode::Append).await.unwrap();
    place.dataset().await.delete("id < 3").await.unwrap();
    assert_eq!(rows_of(&ctx, "SELECT id FROM t").await.num_rows(), 5);
    assert_eq!(place.open().await.rows(), 6);
}
