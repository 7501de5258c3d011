use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use triune_common::{Clock, ErrorKind, ManualClock};

use super::*;

fn view(sql: &str) -> RelationEntry {
    RelationEntry {
        kind: RelationKind::View,
        sql: sql.to_owned(),
        created_at: ManualClock::default().now(),
        table: None,
    }
}

fn add(catalog: &mut Catalog, name: &str) {
    if let Some(public) = catalog.schemas.get_mut("public") {
        public.relations.insert(name.to_owned(), view("CREATE VIEW v AS SELECT 1"));
    }
}

async fn concurrent_changes_are_all_kept(stores: Vec<Arc<dyn CatalogStore>>) {
    let tasks: Vec<_> = stores
        .iter()
        .enumerate()
        .map(|(i, store)| {
            let store = Arc::clone(store);
            async move {
                for round in 0..5 {
                    change(&store, |c| {
                        add(c, &format!("v{i}_{round}"));
                        Ok(())
                    })
                    .await
                    .unwrap();
                }
            }
        })
        .collect();
    futures::future::join_all(tasks).await;
    let end = stores[0].load().await.unwrap();
    assert_eq!(end.version as usize, stores.len() * 5);
    assert_eq!(end.schemas["public"].relations.len(), stores.len() * 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folder_keeps_concurrent_changes_and_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new.db");
    let stores: Vec<Arc<dyn CatalogStore>> =
        (0..4).map(|_| Arc::new(FolderCatalogStore::open(&folder).unwrap()) as _).collect();
    concurrent_changes_are_all_kept(stores).await;
    let again = FolderCatalogStore::open(&folder).unwrap().load().await.unwrap();
    assert_eq!(again.schemas["public"].relations.len(), 20);
}

#[tokio::test]
async fn object_store_keeps_concurrent_changes() {
    let inner = Arc::new(InMemory::new());
    let stores: Vec<Arc<dyn CatalogStore>> = (0..4)
        .map(|_| {
            Arc::new(ObjectCatalogStore::new(
                Arc::clone(&inner) as _,
                ObjectPath::from("db/catalog.json"),
                "memory://db".to_owned(),
            )) as _
        })
        .collect();
    concurrent_changes_are_all_kept(stores).await;
}

#[tokio::test]
async fn a_failing_edit_changes_nothing() {
    let store: Arc<dyn CatalogStore> = Arc::new(MemoryCatalogStore::new());
    let failed = change(&store, |c| {
        add(c, "v");
        Err(Error::invalid("no"))
    })
    .await;
    assert_eq!(failed.unwrap_err().message(), "no");
    assert_eq!(store.load().await.unwrap(), Catalog::empty());
}

#[tokio::test]
async fn damaged_and_newer_documents_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = FolderCatalogStore::open(dir.path()).unwrap();
    for (text, kind) in [
        ("", ErrorKind::Data),
        ("{\"format\": 1, \"version\": 3", ErrorKind::Data),
        ("{\"format\": 1, \"version\": 3, \"schemas\": {}, \"surprise\": 1}", ErrorKind::Data),
        ("{\"format\": 99, \"whatever\": 1}", ErrorKind::Unsupported),
    ] {
        std::fs::write(dir.path().join(DOCUMENT), text).unwrap();
        assert_eq!(store.load().await.unwrap_err().kind(), kind, "{text}");
    }
}

#[test]
fn a_folder_of_other_things_and_a_file_are_no_databases() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.txt"), "x").unwrap();
    let e = FolderCatalogStore::open(dir.path()).unwrap_err();
    assert!(e.message().contains("is not empty and holds no Triune database"), "{e}");
    let e = FolderCatalogStore::open(&dir.path().join("thesis.txt")).unwrap_err();
    assert!(e.message().contains("is a file, a database is a folder"), "{e}");
}

#[test]
fn the_format_without_tables_is_still_read() {
    let old = r#"{"format":1,"version":3,"schemas":{"public":{"relations":{"v":{"kind":"view",
        "sql":"CREATE VIEW v AS SELECT 1","created_at":"2026-01-31T12:00:00Z"}}}}}"#;
    let catalog = Catalog::from_json(old.as_bytes(), "test").unwrap();
    assert_eq!((catalog.version, catalog.tables().count()), (3, 0));
    assert_eq!(catalog.relation("public", "v").unwrap().kind, RelationKind::View);
    let newer = r#"{"format":4,"version":1,"schemas":{}}"#;
    assert_eq!(Catalog::from_json(newer.as_bytes(), "test").unwrap_err().kind(), ErrorKind::Unsupported);
}
