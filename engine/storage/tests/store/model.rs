//! Random transactions, checkpoints, restarts and old snapshots against maps.

use std::collections::BTreeMap;

use proptest::prelude::*;
use triune_common::ErrorKind;
use triune_storage::store::IndexState;
use triune_storage::table::{IndexDef, IndexMethod};

use super::support::*;

type Rows = BTreeMap<i64, i64>;

#[derive(Debug, Clone)]
enum Step {
    Insert(Vec<(i64, i64)>),
    Upsert(Vec<(i64, i64)>),
    Delete(Vec<i64>),
    /// Rows whose id is below get this value.
    UpdateBelow(i64, i64),
    Truncate,
    Savepoint,
    RollBack,
    Commit,
    Abort,
    Checkpoint,
    Optimize,
    Vacuum,
    /// A round of the keeper's.
    Keep,
    CreateIndex(bool),
    DropIndex(bool),
    Reindex(bool),
    Reopen,
    /// Remember a snapshot, to be compared at the end.
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    let pairs = || {
        proptest::collection::btree_map(0i64..40, any::<i64>(), 1..12)
            .prop_map(|m| m.into_iter().collect::<Vec<_>>())
    };
    prop_oneof![
        5 => pairs().prop_map(Step::Insert),
        5 => pairs().prop_map(Step::Upsert),
        4 => proptest::collection::vec(0i64..40, 1..8).prop_map(Step::Delete),
        2 => (0i64..40, any::<i64>()).prop_map(|(a, b)| Step::UpdateBelow(a, b)),
        1 => Just(Step::Truncate),
        1 => Just(Step::Savepoint),
        1 => Just(Step::RollBack),
        8 => Just(Step::Commit),
        1 => Just(Step::Abort),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Optimize),
        1 => Just(Step::Vacuum),
        1 => Just(Step::Keep),
        1 => any::<bool>().prop_map(Step::CreateIndex),
        1 => any::<bool>().prop_map(Step::DropIndex),
        1 => any::<bool>().prop_map(Step::Reindex),
        1 => Just(Step::Reopen),
        1 => Just(Step::Look),
    ]
}

fn shown(rows: &Rows) -> BTreeMap<i64, Vec<i64>> {
    rows.iter().map(|(k, v)| (*k, vec![*v])).collect()
}

/// One of two indexes.
fn index(first: bool) -> IndexDef {
    let (name, method, column) =
        if first { ("by_v", IndexMethod::BTree, "v") } else { ("kinds", IndexMethod::Bitmap, "s") };
    IndexDef { name: name.to_owned(), method, columns: vec![column.to_owned()], options: BTreeMap::new() }
}

async fn run(steps: Vec<Step>) {
    let place = Place { limits: Place::busy(), ..Place::new() };
    let mut store = place.open().await;
    let mut committed = Rows::new();
    let mut open = store.begin();
    let mut own = Rows::new();
    let mut saved: Option<(triune_storage::store::Savepoint, Rows)> = None;
    let mut looks = Vec::new();
    let mut past = Vec::new();
    let mut indexes: Vec<IndexDef> = Vec::new();
    for (i, step) in steps.into_iter().enumerate() {
        let at = format!("step {i}: {step:?}");
        match step {
            Step::Insert(pairs) => {
                let result = open.insert(KEYED, rows(KEYED, &pairs)).await;
                if pairs.iter().any(|(k, _)| own.contains_key(k)) {
                    assert_eq!(result.expect_err(&at).kind(), ErrorKind::Constraint, "{at}");
                } else {
                    result.expect(&at);
                    own.extend(pairs);
                }
            }
            Step::Upsert(pairs) => {
                open.upsert(KEYED, rows(KEYED, &pairs)).await.expect(&at);
                own.extend(pairs);
            }
            Step::Delete(ids) => {
                let n = open.delete(KEYED, &keys(&ids)).await.expect(&at);
                let removed = ids.iter().filter(|id| own.remove(id).is_some()).count();
                assert_eq!(n, removed as u64, "{at}");
            }
            Step::UpdateBelow(bound, v) => {
                let ids: Vec<i64> = own.keys().copied().filter(|k| *k < bound).collect();
                let new: Vec<(i64, i64)> = ids.iter().map(|k| (*k, v)).collect();
                open.update(KEYED, &keys(&ids), rows(KEYED, &new)).await.expect(&at);
                own.extend(new);
            }
            Step::Truncate => {
                open.truncate(KEYED).expect(&at);
                own.clear();
            }
            Step::Savepoint => saved = Some((open.savepoint(), own.clone())),
            Step::RollBack => {
                if let Some((point, then)) = &saved {
                    open.roll_back_to(point).unwrap();
                    own = then.clone();
                }
            }
            Step::Commit => {
                let changed = open.has_changes();
                let ts = open.commit(true).await.expect(&at);
                committed = own.clone();
                if changed {
                    past.push((ts, committed.clone()));
                }
                (open, saved) = (store.begin(), None);
            }
            Step::Abort => {
                own = committed.clone();
                (open, saved) = (store.begin(), None);
            }
            Step::Checkpoint => store.checkpoint().await.expect(&at),
            Step::Optimize => store.optimize(KEYED).await.expect(&at),
            Step::Vacuum => drop(store.vacuum(KEYED).await.expect(&at)),
            Step::Keep => store.keep().await.expect(&at),
            Step::CreateIndex(first) => {
                let made = store.create_index(KEYED, index(first)).await;
                if indexes.contains(&index(first)) {
                    assert_eq!(made.expect_err(&at).kind(), ErrorKind::AlreadyExists, "{at}");
                } else {
                    made.expect(&at);
                    indexes.push(index(first));
                }
            }
            Step::DropIndex(first) => {
                let dropped = store.drop_index(KEYED, &index(first).name).await;
                assert_eq!(dropped.is_ok(), indexes.contains(&index(first)), "{at}");
                indexes.retain(|i| *i != index(first));
            }
            Step::Reindex(first) => {
                let built = store.rebuild_index(KEYED, &index(first).name).await;
                assert_eq!(built.is_ok(), indexes.contains(&index(first)), "{at}: {built:?}");
            }
            Step::Reopen => {
                looks.clear();
                saved = None;
                drop(open);
                drop(store);
                store = place.open().await;
                open = store.begin();
                own = committed.clone();
            }
            Step::Look => looks.push((store.begin(), committed.clone())),
        }
        assert_eq!(seen(&open, KEYED).await, shown(&own), "{at}");
        assert_eq!(store.definition(KEYED).expect(&at).indexes(), indexes, "{at}");
        let found = store.indexes().await.expect(&at);
        assert!(found.iter().all(|i| i.state != IndexState::Failed), "{at}: {found:?}");
        let all: Vec<i64> = (0..40).collect();
        let there = open.existing(KEYED, &keys(&all)).await.expect(&at);
        assert!(all.iter().all(|k| there[usize::try_from(*k).unwrap()] == own.contains_key(k)), "{at}");
    }
    assert_eq!(visible(&store, KEYED).await, shown(&committed));
    for (ts, then) in &past {
        let provider = store.provider_at(KEYED, *ts).await.expect("a version within the retention");
        assert_eq!(read(provider).await, shown(then), "at {ts}");
    }
    let listed: Vec<_> = store.versions(KEYED).expect("versions").iter().map(|v| v.version).rev().collect();
    assert_eq!(listed, past.iter().map(|(ts, _)| *ts).collect::<Vec<_>>());
    for (look, then) in looks {
        assert_eq!(seen(&look, KEYED).await, shown(&then), "an old snapshot");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn transactions_do_what_the_model_does(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}
