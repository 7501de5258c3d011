use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[test]
fn a_row_ends_once_and_is_hidden_from_then_on() {
    let log = DeleteLog::new();
    assert!(log.mark(7, CommitTs(10)));
    assert!(!log.mark(7, CommitTs(11)));
    assert_eq!(log.ended(7), Some(CommitTs(10)));
    assert!(log.is_visible(7, CommitTs(9)) && !log.is_visible(7, CommitTs(10)));
    assert_eq!(log.mask(CommitTs(9)).len(), 0);
    assert_eq!(log.mask(CommitTs(10)).iter().collect::<Vec<_>>(), [7]);
    log.undo_after(CommitTs(9));
    assert!(log.is_empty() && log.ended(7).is_none());
}

#[test]
fn a_mask_is_shared_until_it_changes_and_never_changes_under_its_reader() {
    let log = DeleteLog::new();
    log.mark(1, CommitTs(1));
    let first = log.mask(CommitTs(5));
    assert!(Arc::ptr_eq(&first, &log.mask(CommitTs(9))));
    log.mark(2, CommitTs(6));
    assert!(Arc::ptr_eq(&first, &log.mask(CommitTs(5))));
    assert_eq!(log.mask(CommitTs(6)).len(), 2);
    assert_eq!(first.len(), 1);
    assert!(Arc::ptr_eq(&first, &log.mask(CommitTs(5))), "an older snapshot keeps its mask");
}

#[test]
fn damaged_bytes_are_told_with_the_file() {
    let log = DeleteLog::new();
    log.mark_all((0..100).map(|i| (i * 3, CommitTs(i + 1))));
    log.settle(CommitTs(50));
    let good = log.encode(CommitTs::MAX).unwrap();
    assert_eq!(DeleteLog::decode(&good, "x").unwrap().mask(CommitTs::MAX), log.mask(CommitTs::MAX));
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x41;
        let error = DeleteLog::decode(&bad, "deletes-3.roar").unwrap_err();
        assert!(error.message().contains("deletes-3.roar"), "{error}");
        assert!(DeleteLog::decode(&good[..at], "x").is_err());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Mark(u64, u64),
    MarkAll(Vec<(u64, u64)>),
    Undo(u64),
    Settle(u64),
    Mask(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let address = prop_oneof![0u64..40, (1u64 << 32)..(1 << 32) + 40, Just(u64::MAX - 1)];
    prop_oneof![
        8 => (address.clone(), 0u64..6).prop_map(|(a, t)| Step::Mark(a, t)),
        2 => prop::collection::vec((address, 0u64..60), 0..9).prop_map(Step::MarkAll),
        1 => (0u64..8).prop_map(Step::Undo),
        1 => (0u64..30).prop_map(Step::Settle),
        4 => (0u64..80).prop_map(Step::Mask),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_log_is_a_map_from_rows_to_times(steps in prop::collection::vec(step(), 1..60)) {
        let mut log = DeleteLog::new();
        let mut model: BTreeMap<u64, u64> = BTreeMap::new();
        let (mut now, mut horizon) = (1u64, 0u64);
        let mut held = Vec::new();
        for step in steps {
            match step {
                Step::Mark(a, plus) => {
                    now += plus;
                    let fresh = !model.contains_key(&a);
                    prop_assert_eq!(log.mark(a, CommitTs(now)), fresh);
                    model.entry(a).or_insert(now);
                }
                Step::MarkAll(rows) => {
                    // Late translations: older than the newest mark, newer than what was settled.
                    let mut rows: Vec<_> = rows.into_iter().map(|(a, t)| (a, horizon + 1 + t)).collect();
                    log.mark_all(rows.iter().map(|(a, t)| (*a, CommitTs(*t))));
                    rows.sort_by_key(|(_, t)| *t);
                    for (a, t) in rows {
                        now = now.max(t);
                        model.entry(a).or_insert(t);
                    }
                }
                Step::Undo(back) => {
                    let to = now.saturating_sub(back).max(horizon);
                    log.undo_after(CommitTs(to));
                    model.retain(|_, t| *t <= to);
                }
                Step::Settle(forward) => {
                    horizon = (horizon + forward).min(now);
                    log.settle(CommitTs(horizon));
                }
                Step::Mask(at) => {
                    let at = horizon + at;
                    let mask = log.mask(CommitTs(at));
                    let want: RoaringTreemap =
                        model.iter().filter(|(_, t)| **t <= at).map(|(a, _)| *a).collect();
                    prop_assert_eq!(mask.as_ref(), &want);
                    held.push((mask, want));
                }
                Step::Reopen => {
                    log = DeleteLog::decode(&log.encode(CommitTs(now)).unwrap(), "x").unwrap();
                }
            }
            prop_assert_eq!(log.len(), model.len());
            for (a, t) in &model {
                let ended = log.ended(*a).map(|t| t.0);
                prop_assert!(ended == Some(*t) || (*t <= horizon && ended.is_some_and(|e| e <= horizon)));
            }
            let late: Vec<_> = log.after(CommitTs(horizon)).into_iter().map(|(a, t)| (t.0, a)).collect();
            prop_assert_eq!(late.len(), model.values().filter(|t| **t > horizon).count());
            prop_assert!(late.is_sorted_by_key(|(t, _)| *t));
            prop_assert!(late.iter().all(|(t, a)| model.get(a) == Some(t)));
        }
        for (mask, want) in held {
            prop_assert_eq!(mask.as_ref(), &want, "a mask changed under its reader");
        }
    }
}
