use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::fs::RealFs;
use crate::key::{Key, Keys};

fn build(dir: &Path, keys: &Keys, seed: u64) -> KeyFile {
    let path = dir.join("a.keys");
    let mut builder = KeyFileBuilder::new(keys.kind(), seed);
    builder.push(keys).unwrap();
    builder.write(&RealFs, &path).unwrap();
    let file = KeyFile::open(&RealFs, &path, keys.kind()).unwrap();
    file.verify().unwrap();
    file
}

fn rows_of(file: &KeyFile, probe: Probe) -> Vec<u32> {
    let mut out = Vec::new();
    let _ = file.probe(probe, |o| {
        out.push(o);
        ControlFlow::Continue(())
    });
    out
}

#[test]
fn bytes_per_key_are_as_stated() {
    let dir = tempfile::tempdir().unwrap();
    let n = 100_000u64;
    let per_key = |file: &KeyFile| file.bytes() as f64 / n as f64;
    let ordered = build(dir.path(), &Keys::Ints((0..n).map(|i| i * 7).collect()), 0);
    assert!(per_key(&ordered) < 9.3, "{}", per_key(&ordered));
    let mixed = build(dir.path(), &Keys::Ints((0..n).map(filter::mix).collect()), 0);
    assert!(per_key(&mixed) < 13.3, "{}", per_key(&mixed));
    let texts = Keys::Bytes((0..n).map(|i| i.to_string().into_bytes().into()).collect());
    let hashed = build(dir.path(), &texts, 5);
    assert!(per_key(&hashed) < 21.3, "{}", per_key(&hashed));
}

#[test]
fn damage_is_told_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.keys");
    let file = build(dir.path(), &Keys::Ints((0..1000).map(|i| i * i).collect()), 0);
    assert_eq!(rows_of(&file, Probe { high: 49, low: 0 }), [7]);
    drop(file);
    let good = std::fs::read(&path).unwrap();
    let kind = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = KeyFile::open(&RealFs, &path, KeyKind::Int).and_then(|f| f.verify()).unwrap_err();
        assert!(error.message().contains("a.keys"), "{error}");
        error.kind()
    };
    for at in (0..good.len()).step_by(97).chain(good.len() - FOOTER..good.len() - FOOTER + 104) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert_eq!(kind(&bad), ErrorKind::Data, "byte {at}");
    }
    for length in [0, 1, FOOTER - 1, FOOTER, good.len() - 1] {
        assert_eq!(kind(&good[..length]), ErrorKind::Data, "length {length}");
    }
    std::fs::write(&path, &good).unwrap();
    assert!(KeyFile::open(&RealFs, &path, KeyKind::Bytes).is_err(), "another kind of key");
    std::fs::remove_file(&path).unwrap();
    let error = KeyFile::open(&RealFs, &path, KeyKind::Int).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.message().contains("is missing"), "{error}");
}

fn key_set() -> impl Strategy<Value = Vec<u64>> {
    let even = (any::<u64>(), 1u64..1000, 0usize..3000)
        .prop_map(|(start, step, n)| (0..n as u64).map(|i| start.wrapping_add(i * step)).collect());
    let skewed = prop::collection::vec((0u32..64, any::<u64>()).prop_map(|(s, k)| k >> s), 0..3000);
    let few = prop::collection::vec(prop_oneof![0u64..6, Just(u64::MAX)], 0..400);
    prop_oneof![even, skewed, few]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_file_is_a_map_from_keys_to_rows(
        ints in key_set(),
        more in prop::collection::vec(any::<u64>(), 0..40),
        sorted in any::<bool>(),
        hashed in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut ints = ints;
        if sorted {
            ints.sort_unstable();
        }
        let key = |i: u64| {
            if hashed { Key::Bytes(i.to_be_bytes().into()) } else { Key::Int(i) }
        };
        let keys = if hashed {
            Keys::Bytes(ints.iter().map(|i| i.to_be_bytes().into()).collect())
        } else {
            Keys::Ints(ints.clone())
        };
        let file = build(dir.path(), &keys, 77);
        let mut model: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for (i, k) in (0u32..).zip(&ints) {
            model.entry(*k).or_default().push(i);
        }
        let neighbours = ints.iter().flat_map(|k| [k.wrapping_sub(1), k.wrapping_add(1)]);
        let asked: Vec<u64> = ints.iter().copied().chain(neighbours).chain(more).chain([0, u64::MAX]).collect();
        for k in &asked {
            let got = rows_of(&file, Probe::new(key(*k).as_ref(), 77));
            prop_assert_eq!(&got, &model.get(k).cloned().unwrap_or_default(), "key {}", k);
        }
        for part in [asked.len(), 3] {
            let mut probes: Vec<(Probe, u64)> =
                asked.iter().take(part).map(|k| (Probe::new(key(*k).as_ref(), 77), *k)).collect();
            probes.sort();
            let only: Vec<Probe> = probes.iter().map(|(p, _)| *p).collect();
            let mut got = vec![Vec::new(); probes.len()];
            let _ = file.probe_sorted(&only, |i, ordinal| {
                got[i].push(ordinal);
                ControlFlow::Continue(())
            });
            for ((_, k), got) in probes.iter().zip(got) {
                prop_assert_eq!(&got, &model.get(k).cloned().unwrap_or_default());
            }
        }
        prop_assert_eq!(file.entries().count(), ints.len());
    }
}
