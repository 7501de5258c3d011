use triune_common::ErrorKind;

use super::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_is_there_again() {
    let (place, store) = Place::create().await;
    let mut expected = std::collections::BTreeMap::new();
    let mut store = store;
    for round in 0..6i64 {
        let t = store.begin();
        t.insert(KEYED, rows(KEYED, &[(round * 2, round), (round * 2 + 1, round)])).await.unwrap();
        t.insert(PLAIN, rows(PLAIN, &[(round, round)])).await.unwrap();
        if round > 0 {
            t.delete(KEYED, &keys(&[round * 2 - 2])).await.unwrap();
            expected.remove(&(round * 2 - 2));
            t.update(KEYED, &keys(&[round * 2 - 1]), rows(KEYED, &[(round * 2 - 1, 100 + round)]))
                .await
                .unwrap();
            expected.insert(round * 2 - 1, vec![100 + round]);
        }
        t.commit(true).await.unwrap();
        expected.insert(round * 2, vec![round]);
        expected.insert(round * 2 + 1, vec![round]);
        if round % 2 == 1 {
            store.checkpoint().await.unwrap();
        }
        if round % 3 != 0 {
            drop(store);
            store = place.open().await;
        }
        assert_eq!(visible(&store, KEYED).await, expected, "round {round}");
        assert_eq!(visible(&store, PLAIN).await.len(), usize::try_from(round).unwrap() + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_writer_is_told_who_the_first_is() {
    let (place, store) = Place::create().await;
    let e = place.try_open().await.unwrap_err();
    assert!(e.message().contains(&std::process::id().to_string()), "{e}");
    drop(store);
    place.open().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_named_and_nothing_is_changed() {
    let (place, store) = Place::create().await;
    let t = store.begin();
    t.insert(KEYED, rows(KEYED, &[(1, 1)])).await.unwrap();
    t.commit(true).await.unwrap();
    store.checkpoint().await.unwrap();
    drop(store);
    let state = place.folder.path().join("state.json");
    let good = std::fs::read(&state).unwrap();
    std::fs::write(&state, &good[..good.len() / 2]).unwrap();
    let e = place.try_open().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Data);
    assert!(e.message().contains("state.json"), "{e}");
    std::fs::write(&state, &good).unwrap();
    assert_eq!(visible(&place.open().await, KEYED).await, one(1, 1));
}
