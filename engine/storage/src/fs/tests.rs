use std::collections::BTreeSet;

use super::*;

fn sim(seed: u64) -> SimFs {
    let fs = SimFs::new(seed);
    fs.create_dir_all(Path::new("/db")).unwrap();
    fs
}

fn put(fs: &dyn StorageFs, path: &str, bytes: &[u8], sync: bool) {
    let mut file = fs.open_append(Path::new(path)).unwrap();
    file.append(bytes).unwrap();
    if sync {
        file.sync_data().unwrap();
    }
}

/// The same calls with what they must answer, on real files and on simulated ones.
fn behaves(fs: &dyn StorageFs, root: &Path) {
    let dir = root.join("a/b");
    fs.create_dir_all(&dir).unwrap();
    fs.create_dir_all(&dir).unwrap();
    let path = dir.join("log");
    assert_eq!(fs.read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(fs.len(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(fs.list(&root.join("no")).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(!fs.exists(&path).unwrap());

    let mut file = fs.open_append(&path).unwrap();
    file.append(b"hello ").unwrap();
    file.append(b"world").unwrap();
    file.sync_data().unwrap();
    assert_eq!((file.end(), fs.len(&path).unwrap()), (11, 11));
    file.truncate(5).unwrap();
    file.append(b"!").unwrap();
    file.overwrite(0, b"H").unwrap();
    assert_eq!(fs.read(&path).unwrap(), b"Hello!");
    assert_eq!(fs.open_append(&path).unwrap().end(), 6);
    assert_eq!(fs.read_at(&path, 4, 100).unwrap(), b"o!");
    assert_eq!(fs.read_at(&path, 100, 4).unwrap(), b"");
    assert_eq!(fs.read_exact_at(&path, 1, 3).unwrap(), b"ell");
    assert_eq!(fs.read_exact_at(&path, 4, 3).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(fs.map(&path).unwrap().as_ref().as_ref(), b"Hello!");
    fs.sync_file(&path).unwrap();

    let doc = dir.join("doc");
    fs.write_atomic(&doc, b"one").unwrap();
    fs.write_atomic(&doc, b"2").unwrap();
    assert_eq!(fs.read(&doc).unwrap(), b"2");
    assert_eq!(fs.list(&dir).unwrap(), ["doc", "log"]);
    assert_eq!(fs.list(root).unwrap(), ["a"]);
    fs.rename(&doc, &path).unwrap();
    assert_eq!(fs.read(&path).unwrap(), b"2");
    fs.sync_dir(&dir).unwrap();
    fs.remove(&path).unwrap();
    assert_eq!(fs.remove(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    put(fs, dir.join("empty").to_str().unwrap(), b"", true);
    assert_eq!(fs.map(&dir.join("empty")).unwrap().as_ref().as_ref(), b"");
    fs.remove_dir_all(&root.join("a")).unwrap();
    fs.remove_dir_all(&root.join("a")).unwrap();
    assert!(!fs.exists(&dir).unwrap());
}

#[test]
fn real_and_simulated_files_behave_alike() {
    let folder = tempfile::tempdir().unwrap();
    behaves(&RealFs, folder.path());
    behaves(&sim(1), Path::new("/db"));
}

#[test]
fn a_power_loss_leaves_any_part_of_what_was_not_synced_and_all_that_was() {
    let synced = [1_u8; 700];
    let unsynced: Vec<u8> = (0..3000).map(|i| 2 + (i / 512) as u8).collect();
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let fs = sim(seed);
        put(&fs, "/db/f", &synced, true);
        fs.sync_dir(Path::new("/db")).unwrap();
        put(&fs, "/db/f", &unsynced, false);
        fs.crash();
        assert!(fs.read(Path::new("/db/f")).is_err(), "the machine is off");
        let found = fs.restart().read(Path::new("/db/f")).unwrap();
        assert_eq!(found[..700], synced, "seed {seed}");
        let rest = &found[700..];
        assert!(rest.iter().zip(&unsynced).all(|(f, u)| f == u || *f == 0), "seed {seed}");
        let torn = rest.contains(&0);
        let prefix = rest == &unsynced[..rest.len()];
        seen.insert(match rest.len() {
            0 => "nothing",
            3000 if prefix => "all",
            _ if prefix => "prefix",
            _ if torn && rest.iter().rev().any(|b| *b != 0) => "holes",
            _ => "zeros",
        });
    }
    assert_eq!(seen, BTreeSet::from(["all", "holes", "nothing", "prefix", "zeros"]));
}

#[test]
fn names_are_durable_after_their_folder_was_synced() {
    let mut vanished = 0;
    for seed in 0..100 {
        let fs = sim(seed);
        put(&fs, "/db/kept", b"k", true);
        fs.sync_dir(Path::new("/db")).unwrap();
        put(&fs, "/db/new", b"n", true);
        fs.rename(Path::new("/db/kept"), Path::new("/db/renamed")).unwrap();
        let fs = fs.restart();
        let names = fs.list(Path::new("/db")).unwrap();
        assert!(names.contains(&"kept".to_owned()) != names.contains(&"renamed".to_owned()), "{names:?}");
        if names.contains(&"new".to_owned()) {
            assert_eq!(fs.read(Path::new("/db/new")).unwrap(), b"n");
        } else {
            vanished += 1;
        }
    }
    assert!((10..90).contains(&vanished), "{vanished}");
}

#[test]
fn an_atomic_write_is_old_or_new_at_every_step_of_a_crash() {
    let doc = Path::new("/db/state.json");
    for seed in 0..200 {
        for step in 1.. {
            let fs = sim(seed);
            fs.write_atomic(doc, b"old").unwrap();
            fs.set_faults(Faults { crash_at: Some(fs.steps() + step), ..Faults::default() });
            let written = fs.write_atomic(doc, b"new content");
            let crashed = fs.crashed();
            let found = fs.restart().read(doc).unwrap();
            if written.is_ok() {
                assert_eq!(found, b"new content");
            } else {
                assert!(found == b"old" || found == b"new content", "seed {seed}, step {step}: {found:?}");
            }
            if !crashed {
                assert_eq!(step, 7, "create, cut, append, sync, rename, sync the folder");
                break;
            }
        }
    }
}

#[test]
fn a_full_disk_takes_what_fits_and_a_failed_sync_loses_bytes_for_good() {
    let fs = sim(3);
    let path = Path::new("/db/f");
    let mut file = fs.open_append(path).unwrap();
    fs.sync_dir(Path::new("/db")).unwrap();
    fs.set_faults(Faults { capacity: Some(10), ..Faults::default() });
    file.append(b"12345678").unwrap();
    let full = file.append(b"abcdef").unwrap_err();
    assert!(is_no_space(&full));
    assert_eq!(fs.read(path).unwrap(), b"12345678ab");
    file.truncate(8).unwrap();
    assert!(io_error("write", path, &full).message().starts_with("cannot write /db/f:"));
    assert_eq!(io_error("write", path, &full).kind(), ErrorKind::Resources);

    let mut lost = 0;
    for seed in 0..50 {
        let fs = sim(seed);
        let mut file = fs.open_append(path).unwrap();
        fs.sync_dir(Path::new("/db")).unwrap();
        fs.set_faults(Faults { fail_sync: Some(1), ..Faults::default() });
        file.append(&[7; 4096]).unwrap();
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(libc::EIO));
        file.sync_data().unwrap();
        assert_eq!(fs.read(path).unwrap(), [7; 4096], "the cache has it");
        lost += usize::from(fs.restart().read(path).unwrap() != [7; 4096]);
    }
    assert!((10..50).contains(&lost), "{lost}");
}

#[test]
fn short_reads_are_read_on() {
    let fs = sim(5);
    put(&fs, "/db/f", &[1; 1000], false);
    fs.set_faults(Faults { short_reads: true, ..Faults::default() });
    let lengths: BTreeSet<usize> =
        (0..50).map(|_| fs.read_at(Path::new("/db/f"), 0, 1000).unwrap().len()).collect();
    assert!(lengths.len() > 10 && !lengths.contains(&0), "{lengths:?}");
    assert_eq!(fs.read_exact_at(Path::new("/db/f"), 0, 1000).unwrap(), [1; 1000]);
}

#[test]
fn a_killed_process_loses_nothing_and_its_handles_are_dead() {
    let fs = sim(6);
    let mut file = fs.open_append(Path::new("/db/f")).unwrap();
    file.append(b"in the cache").unwrap();
    let next = fs.kill();
    assert!(file.append(b"x").is_err() && fs.read(Path::new("/db/f")).is_err());
    assert_eq!(next.read(Path::new("/db/f")).unwrap(), b"in the cache");
}
