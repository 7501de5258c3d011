use triune_common::ErrorKind;
use triune_storage::key::Keys;

use super::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_visible_at_once_and_to_later_transactions_only() {
    let (_place, store) = Place::create().await;
    let before = store.begin();
    let writer = store.begin();
    assert_eq!(writer.insert(KEYED, rows(KEYED, &[(1, 10), (2, 20)])).await.unwrap(), 2);
    assert_eq!(seen(&writer, KEYED).await.len(), 2, "own writes");
    assert_eq!(visible(&store, KEYED).await.len(), 0, "nobody else's yet");
    writer.commit(true).await.unwrap();
    assert_eq!(visible(&store, KEYED).await, [(1, vec![10]), (2, vec![20])].into());
    assert_eq!(seen(&before, KEYED).await.len(), 0, "a snapshot stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_unique_within_a_statement_a_transaction_and_the_table() {
    let (_place, store) = Place::create().await;
    let t = store.begin();
    let e = t.insert(KEYED, rows(KEYED, &[(1, 10), (1, 11)])).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Constraint);
    assert!(e.message().contains("duplicate key (id)=(1)"), "{e}");
    assert!(!t.has_changes(), "a failed insert leaves nothing");
    t.insert(KEYED, rows(KEYED, &[(1, 10)])).await.unwrap();
    assert_eq!(
        t.insert(KEYED, rows(KEYED, &[(2, 1), (1, 11)])).await.unwrap_err().kind(),
        ErrorKind::Constraint
    );
    assert_eq!(seen(&t, KEYED).await, one(1, 10));
    t.commit(true).await.unwrap();
    let t = store.begin();
    assert_eq!(t.insert(KEYED, rows(KEYED, &[(1, 11)])).await.unwrap_err().kind(), ErrorKind::Constraint);
    assert_eq!(t.delete(KEYED, &keys(&[1])).await.unwrap(), 1);
    t.insert(KEYED, rows(KEYED, &[(1, 12)])).await.unwrap();
    t.commit(true).await.unwrap();
    assert_eq!(visible(&store, KEYED).await, one(1, 12));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_can_swap_keys() {
    let (_place, store) = Place::create().await;
    let t = store.begin();
    t.insert(KEYED, rows(KEYED, &[(1, 10), (2, 20), (3, 30)])).await.unwrap();
    t.commit(true).await.unwrap();
    let t = store.begin();
    assert_eq!(t.update(KEYED, &keys(&[1, 2]), rows(KEYED, &[(2, 10), (1, 20)])).await.unwrap(), 2);
    let e = t.update(KEYED, &keys(&[1]), rows(KEYED, &[(3, 0)])).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Constraint);
    t.commit(true).await.unwrap();
    assert_eq!(visible(&store, KEYED).await, [(1, vec![20]), (2, vec![10]), (3, vec![30])].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_committer_wins() {
    let (_place, store) = Place::create().await;
    let t = store.begin();
    t.insert(KEYED, rows(KEYED, &[(1, 10), (2, 20)])).await.unwrap();
    t.commit(true).await.unwrap();
    for checkpoint in [false, true] {
        let (a, b, c) = (store.begin(), store.begin(), store.begin());
        a.update(KEYED, &keys(&[1]), rows(KEYED, &[(1, 11)])).await.unwrap();
        b.update(KEYED, &keys(&[1]), rows(KEYED, &[(1, 12)])).await.unwrap();
        c.update(KEYED, &keys(&[2]), rows(KEYED, &[(2, 22)])).await.unwrap();
        a.commit(true).await.unwrap();
        if checkpoint {
            store.checkpoint().await.unwrap();
        }
        let e = b.commit(true).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Conflict, "{e}");
        c.commit(true).await.expect("another row is no conflict, whether rows have moved or not");
        assert_eq!(visible(&store, KEYED).await, [(1, vec![11]), (2, vec![22])].into());
    }
    let (a, b) = (store.begin(), store.begin());
    a.insert(KEYED, rows(KEYED, &[(7, 1)])).await.unwrap();
    b.insert(KEYED, rows(KEYED, &[(7, 2)])).await.unwrap();
    a.commit(true).await.unwrap();
    store.checkpoint().await.unwrap();
    assert_eq!(b.commit(true).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn savepoints_go_back_and_can_be_used_again() {
    let (_place, store) = Place::create().await;
    let t = store.begin();
    t.insert(KEYED, rows(KEYED, &[(1, 10)])).await.unwrap();
    let point = t.savepoint();
    for _ in 0..2 {
        t.delete(KEYED, &keys(&[1])).await.unwrap();
        t.insert(PLAIN, rows(PLAIN, &[(5, 5)])).await.unwrap();
        t.roll_back_to(&point).unwrap();
        assert_eq!(seen(&t, KEYED).await, one(1, 10));
        assert_eq!(seen(&t, PLAIN).await.len(), 0);
    }
    t.commit(true).await.unwrap();
    assert_eq!(visible(&store, KEYED).await, one(1, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_a_key_are_told_apart() {
    let (_place, store) = Place::create().await;
    let t = store.begin();
    t.insert(PLAIN, rows(PLAIN, &[(1, 1), (1, 1), (1, 1)])).await.unwrap();
    let own = row_ids(&t, PLAIN).await[&1].clone();
    assert_eq!(t.delete(PLAIN, &Keys::Ints(vec![own[1]])).await.unwrap(), 1);
    assert_eq!(seen(&t, PLAIN).await, [(1, vec![1, 1])].into());
    t.commit(true).await.unwrap();
    for round in 0..2 {
        let t = store.begin();
        let ids = row_ids(&t, PLAIN).await[&1].clone();
        assert_eq!(ids.len(), 2 - round);
        assert_eq!(t.delete(PLAIN, &Keys::Ints(vec![ids[0]])).await.unwrap(), 1);
        t.commit(true).await.unwrap();
        store.checkpoint().await.unwrap();
    }
    assert_eq!(visible(&store, PLAIN).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncate_empties_for_later_snapshots_only() {
    let (_place, store) = Place::create().await;
    let t = store.begin();
    t.insert(KEYED, rows(KEYED, &[(1, 10)])).await.unwrap();
    t.commit(true).await.unwrap();
    let (old, racing) = (store.begin(), store.begin());
    racing.insert(KEYED, rows(KEYED, &[(9, 9)])).await.unwrap();
    let t = store.begin();
    t.truncate(KEYED).unwrap();
    assert_eq!(seen(&t, KEYED).await.len(), 0);
    t.insert(KEYED, rows(KEYED, &[(2, 20)])).await.unwrap();
    t.commit(true).await.unwrap();
    assert_eq!(visible(&store, KEYED).await, one(2, 20));
    assert_eq!(seen(&old, KEYED).await, one(1, 10));
    racing.commit(true).await.expect("a new row does not touch what was removed");
    assert_eq!(visible(&store, KEYED).await, [(2, vec![20]), (9, vec![9])].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_found_by_key_wherever_they_are() {
    let (_place, store) = Place::create().await;
    for (i, id) in [1i64, 2, 3].into_iter().enumerate() {
        let t = store.begin();
        t.insert(KEYED, rows(KEYED, &[(id, id * 10)])).await.unwrap();
        t.commit(true).await.unwrap();
        if i < 2 {
            store.checkpoint().await.unwrap();
        }
    }
    let t = store.begin();
    t.insert(KEYED, rows(KEYED, &[(4, 40)])).await.unwrap();
    t.delete(KEYED, &keys(&[2])).await.unwrap();
    assert_eq!(t.existing(KEYED, &keys(&[1, 2, 3, 4, 5])).await.unwrap(), [true, false, true, true, false]);
    let found = t.get(KEYED, &keys(&[4, 3, 2, 1, 0])).await.unwrap();
    use arrow::array::AsArray;
    let ids = found.column(0).as_primitive::<arrow::datatypes::Int64Type>();
    assert_eq!(ids.values().to_vec(), [4, 3, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_load_is_one_commit_like_any_other() {
    const ROWS: i64 = 1 << 20;
    let (place, store) = Place::create().await;
    for table in [KEYED, PLAIN] {
        let t = store.begin();
        t.insert(table, rows(table, &[(-1, 1), (-2, 2)])).await.unwrap();
        t.commit(true).await.unwrap();
    }
    let old = store.begin();
    let racing = store.begin();
    racing.insert(KEYED, rows(KEYED, &[(7, 7)])).await.unwrap();
    let many: Vec<(i64, i64)> = (0..ROWS).map(|i| (i, i % 1000)).collect();
    for table in [KEYED, PLAIN] {
        let t = store.begin();
        for chunk in many.chunks(1 << 17) {
            t.insert(table, rows(table, chunk)).await.unwrap();
        }
        t.commit(true).await.unwrap();
    }
    assert_eq!(racing.commit(true).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(seen(&old, KEYED).await.len(), 2);
    let t = store.begin();
    assert_eq!(
        t.insert(KEYED, rows(KEYED, &[(ROWS - 1, 0)])).await.unwrap_err().kind(),
        ErrorKind::Constraint
    );
    assert_eq!(t.delete(KEYED, &keys(&[5, -1])).await.unwrap(), 2);
    t.commit(true).await.unwrap();
    drop((old, store));
    let store = place.open().await;
    for (table, gone) in [(KEYED, 2), (PLAIN, 0)] {
        let found = visible(&store, table).await;
        assert_eq!(found.len(), usize::try_from(ROWS).unwrap() + 2 - gone);
        assert_eq!(found[&12_345], [345]);
    }
    // A commit before the load, replayed after it, must not touch the loaded rows.
    assert_eq!(visible(&store, KEYED).await.get(&5), None);
}
