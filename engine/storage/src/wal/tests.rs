mod crashes;

use super::*;
use crate::fs::{Faults, RealFs, SimFs};

const DIR: &str = "/db/wal";

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn path(segment: u64) -> PathBuf {
    dir().join(SegmentId(segment).file_name())
}

fn arc(fs: &SimFs) -> Arc<dyn StorageFs> {
    Arc::new(fs.clone())
}

fn create(fs: &SimFs) -> Wal {
    Wal::create(arc(fs), dir(), SegmentId::FIRST).unwrap().0
}

fn open(fs: &SimFs) -> Result<(Wal, Replay)> {
    Wal::open(arc(fs), dir(), SegmentId::FIRST)
}

fn payloads(replay: Replay) -> Result<Vec<Vec<u8>>> {
    replay.map(|frame| frame.map(|(_, payload)| payload)).collect()
}

/// Payloads 0, 1, 2, …, each synced by itself.
fn write_synced(wal: &mut Wal, numbers: std::ops::Range<u8>) {
    for n in numbers {
        wal.append(&[&payload(n)]).unwrap();
        wal.sync().unwrap();
    }
}

fn payload(n: u8) -> Vec<u8> {
    vec![n; 3 + usize::from(n) * 7]
}

/// Where the frames of [`write_synced`] begin, and the end of the last.
fn offsets(numbers: std::ops::Range<u8>) -> Vec<u64> {
    let mut at = SEGMENT_HEADER;
    let mut all = vec![at];
    for n in numbers {
        at += frame_len(payload(n).len());
        all.push(at);
    }
    all
}

#[test]
fn real_files_rotate_reopen_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("wal");
    let fs: Arc<dyn StorageFs> = Arc::new(RealFs);
    assert_eq!(
        Wal::open(Arc::clone(&fs), &dir, SegmentId::FIRST).unwrap_err().kind(),
        ErrorKind::NotFound,
        "the folder is missing"
    );
    let (mut wal, replay) = Wal::create(Arc::clone(&fs), &dir, SegmentId::FIRST).unwrap();
    assert_eq!(payloads(replay).unwrap().len(), 0);
    wal.append(&[b"one", b""]).unwrap();
    let big = vec![3; 3 << 20];
    wal.append(&[&big]).unwrap();
    wal.sync().unwrap();
    assert_eq!(wal.rotate().unwrap(), SegmentId(2));
    wal.append(&[b"four"]).unwrap();
    wal.sync().unwrap();
    let bytes = wal.bytes();
    assert_eq!(bytes, 48 + 32 + 24 + 24 + (3 << 20) + 48 + 32);
    drop(wal);

    let expected = vec![b"one".to_vec(), vec![], big, b"four".to_vec()];
    let read_only = Wal::open_read_only(&fs, &dir, SegmentId::FIRST).unwrap();
    assert_eq!(payloads(read_only).unwrap(), expected);
    let (mut wal, replay) = Wal::create(Arc::clone(&fs), &dir, SegmentId::FIRST).unwrap();
    assert_eq!(payloads(replay).unwrap(), expected);
    assert_eq!((wal.bytes(), wal.segment()), (bytes, SegmentId(2)));
    wal.append(&[b"five"]).unwrap();
    wal.remove_before(SegmentId(2)).unwrap();
    assert_eq!(wal.bytes(), 48 + 32 + 32);
    drop(wal);
    let (_, replay) = Wal::open(Arc::clone(&fs), &dir, SegmentId(2)).unwrap();
    assert_eq!(payloads(replay).unwrap(), [b"four".to_vec(), b"five".to_vec()]);
    assert_eq!(fs.list(&dir).unwrap(), [SegmentId(2).file_name()]);
}

#[test]
fn every_shorter_length_of_a_log_opens_with_the_frames_that_are_whole() {
    let fs = SimFs::new(1);
    write_synced(&mut create(&fs), 0..6);
    let offsets = offsets(0..6);
    let whole = fs.read(&path(1)).unwrap();
    assert_eq!(whole.len() as u64, offsets[6]);
    for len in 0..=whole.len() {
        for zeros in [0, 1, 40, 1000] {
            let mut cut = whole[..len].to_vec();
            cut.resize(len + zeros, 0);
            fs.corrupt(&path(1), |bytes| bytes.clone_from(&cut)).unwrap();
            // The zeros may be just those that were cut off.
            let good =
                offsets[1..].iter().filter(|end| cut.starts_with(&whole[..**end as usize])).count() as u8;
            let (mut wal, replay) = open(&fs).unwrap();
            let expected: Vec<_> = (0..good).map(payload).collect();
            assert_eq!(payloads(replay).unwrap(), expected, "{len} + {zeros}");
            wal.append(&[b"more"]).unwrap();
            let (_, replay) = open(&fs).unwrap();
            let found = payloads(replay).unwrap();
            assert_eq!((found.len(), found.last().unwrap().as_slice()), (expected.len() + 1, &b"more"[..]));
        }
    }
}

#[test]
fn every_flipped_bit_is_found_and_a_damaged_middle_changes_nothing() {
    let fs = SimFs::new(2);
    write_synced(&mut create(&fs), 0..5);
    let offsets = offsets(0..5);
    let whole = fs.read(&path(1)).unwrap();
    for at in 0..whole.len() {
        for bit in [0, 3, 7] {
            let damaged = {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                bytes
            };
            fs.corrupt(&path(1), |bytes| bytes.clone_from(&damaged)).unwrap();
            let before = offsets.iter().filter(|o| **o as usize <= at).count();
            let frame = before.checked_sub(1);
            let padding = frame.is_some_and(|f| at as u64 >= offsets[f] + 24 + payload(f as u8).len() as u64);
            let read_only: Vec<_> =
                Wal::open_read_only(&arc(&fs), dir(), SegmentId::FIRST).unwrap().collect();
            assert_eq!(fs.read(&path(1)).unwrap(), damaged);
            match frame {
                _ if padding => assert_eq!(payloads(open(&fs).unwrap().1).unwrap().len(), 5),
                // The last frame: nothing says that it was durable.
                Some(4) => {
                    assert!(read_only.len() == 4 && read_only.iter().all(Result::is_ok));
                    assert_eq!(payloads(open(&fs).unwrap().1).unwrap().len(), 4);
                }
                _ => {
                    let e = open(&fs).unwrap_err();
                    let good = frame.unwrap_or(0);
                    assert_eq!(e.kind(), ErrorKind::Data, "{at}: {e}");
                    let offset = if frame.is_some() { offsets[good] } else { 0 };
                    let names = format!("/db/wal/00000000000000000001.wal at byte {offset}:");
                    assert!(e.message().contains(&names), "{e}");
                    assert_eq!(fs.read(&path(1)).unwrap(), damaged);
                    assert_eq!(read_only.len(), good + 1);
                    assert!(read_only[good].is_err());
                }
            }
        }
    }
}

#[test]
fn closed_segments_must_be_there_and_whole() {
    let fs = SimFs::new(3);
    let mut wal = create(&fs);
    write_synced(&mut wal, 0..3);
    wal.rotate().unwrap();
    write_synced(&mut wal, 3..6);
    wal.rotate().unwrap();
    let whole = fs.read(&path(1)).unwrap();
    let cut = |len: usize| fs.corrupt(&path(1), |bytes| *bytes = whole[..len].to_vec()).unwrap();
    let complaint = || {
        let (_, replay) = open(&fs).unwrap();
        payloads(replay).unwrap_err().to_string()
    };
    let ends = offsets(0..3);
    cut(ends[2] as usize);
    assert!(complaint().contains("2.wal at byte 0: the segment before it had"), "{}", complaint());
    cut(ends[2] as usize + 10);
    assert!(complaint().contains("1.wal at byte"), "{}", complaint());
    cut(0);
    assert!(complaint().contains("it does not begin with the header"), "{}", complaint());
    cut(whole.len());
    assert_eq!(payloads(open(&fs).unwrap().1).unwrap().len(), 6);

    let two = fs.read(&path(2)).unwrap();
    fs.corrupt(&path(2), |bytes| bytes.clone_from(&whole)).unwrap();
    assert!(complaint().contains("it holds segment 1 under another one's name"), "{}", complaint());
    fs.corrupt(&path(2), |bytes| *bytes = two).unwrap();
    fs.remove(&path(2)).unwrap();
    for e in [
        open(&fs).unwrap_err(),
        Wal::create(arc(&fs), dir(), SegmentId::FIRST).unwrap_err(),
        Wal::open_read_only(&arc(&fs), dir(), SegmentId::FIRST).unwrap_err(),
        Wal::open(arc(&fs), dir(), SegmentId(9)).unwrap_err(),
    ] {
        assert!(e.kind() == ErrorKind::Data && e.message().ends_with(".wal is missing"), "{e}");
    }
}

#[test]
fn an_old_frame_at_another_place_is_not_taken_for_a_new_one() {
    let fs = SimFs::new(4);
    let mut wal = create(&fs);
    wal.append(&[b"same"]).unwrap();
    wal.sync().unwrap();
    let frame = fs.read(&path(1)).unwrap()[48..].to_vec();
    // Behind itself in its segment, and at its own offset in the next one.
    fs.corrupt(&path(1), |bytes| bytes.extend_from_slice(&frame)).unwrap();
    assert_eq!(payloads(open(&fs).unwrap().1).unwrap().len(), 1);
    let mut wal = open(&fs).unwrap().0;
    wal.rotate().unwrap();
    fs.corrupt(&path(2), |bytes| bytes.extend_from_slice(&frame)).unwrap();
    assert_eq!(payloads(open(&fs).unwrap().1).unwrap().len(), 1);
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let mut bytes = SegmentHeader { segment: SegmentId(1), previous: 0, epoch: 0 }.encode();
    bytes[8] = 2;
    let check = twox_hash::XxHash3_64::oneshot_with_seed(2, &bytes[16..]) as u32;
    bytes[12..16].copy_from_slice(&check.to_le_bytes());
    let fs = SimFs::new(5);
    create(&fs);
    fs.corrupt(&path(1), |b| *b = bytes).unwrap();
    let e = open(&fs).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.message().contains("has format 2"), "{e}");
}

#[test]
fn a_full_disk_refuses_and_the_log_goes_on_when_there_is_space() {
    for seed in 0..50 {
        let fs = SimFs::new(seed);
        let mut wal = create(&fs);
        wal.append(&[b"first"]).unwrap();
        wal.sync().unwrap();
        fs.set_faults(Faults { capacity: Some(200), ..Faults::default() });
        // The first of the two is written whole before the disk is full.
        let e = wal.append(&[&[1; 20], &[2; 500]]).unwrap_err();
        assert!(matches!(&e, WalError::RolledBack(e) if e.kind() == ErrorKind::Resources), "{e}");
        assert_eq!(wal.rotate().unwrap(), SegmentId(2), "a header fits");
        fs.set_faults(Faults { capacity: Some(0), ..Faults::default() });
        assert!(matches!(wal.rotate().unwrap_err(), WalError::RolledBack(_)));
        let fs = if seed % 2 == 0 { fs.restart() } else { fs.kill() };
        fs.set_faults(Faults::default());
        let (mut wal, replay) = open(&fs).unwrap();
        assert_eq!(payloads(replay).unwrap(), [b"first".to_vec()]);
        wal.append(&[b"second"]).unwrap();
        wal.sync().unwrap();
        assert_eq!(payloads(open(&fs.restart()).unwrap().1).unwrap().len(), 2);
    }
}

#[test]
fn frames_of_a_failed_sync_that_a_reader_saw_again_are_durable() {
    for seed in 0..100 {
        let fs = SimFs::new(seed);
        let mut wal = create(&fs);
        write_synced(&mut wal, 0..2);
        fs.set_faults(Faults { fail_sync: Some(fs.syncs() + 1), ..Faults::default() });
        wal.append(&[&[7; 3000]]).unwrap();
        assert!(wal.sync().unwrap_err().is_poisoned());
        assert!(wal.append(&[b"no"]).unwrap_err().is_poisoned());
        assert!(wal.sync().unwrap_err().is_poisoned());
        assert!(wal.rotate().unwrap_err().is_poisoned());
        let fs = fs.kill();
        let (mut wal, replay) = open(&fs).unwrap();
        assert_eq!(payloads(replay).unwrap().len(), 3, "they are in the cache");
        wal.append(&[b"more"]).unwrap();
        wal.sync().unwrap();
        let (_, replay) = open(&fs.restart()).unwrap();
        assert_eq!(payloads(replay).unwrap().len(), 4, "seed {seed}");
    }
}

#[test]
fn a_payload_that_is_too_long_is_refused_before_anything_is_written() {
    let fs = SimFs::new(6);
    let mut wal = create(&fs);
    let long = vec![0; MAX_PAYLOAD + 1];
    let e = wal.append(&[b"x", &long]).unwrap_err();
    assert!(matches!(&e, WalError::RolledBack(e) if e.kind() == ErrorKind::Resources), "{e}");
    assert_eq!(wal.bytes(), SEGMENT_HEADER);
}

#[test]
fn a_replay_ends_where_the_log_ended_when_it_was_opened() {
    let fs = SimFs::new(7);
    write_synced(&mut create(&fs), 0..3);
    let (mut wal, replay) = open(&fs).unwrap();
    write_synced(&mut wal, 3..6);
    assert_eq!(payloads(replay).unwrap().len(), 3);
}

#[test]
fn room_taken_ahead_is_no_part_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("wal");
    let fs: Arc<dyn StorageFs> = Arc::new(RealFs);
    let len = |segment: u64| fs.len(&dir.join(SegmentId(segment).file_name())).unwrap();
    let (mut wal, _) = Wal::create(Arc::clone(&fs), &dir, SegmentId::FIRST).unwrap();
    write_synced(&mut wal, 0..6);
    let whole = offsets(0..6)[6];
    assert_eq!(wal.bytes(), whole);
    if cfg!(target_os = "linux") {
        assert!(len(1) > whole, "room was taken");
    }
    // Beside the writer, and after it was killed.
    let read = || payloads(Wal::open_read_only(&fs, &dir, SegmentId::FIRST).unwrap()).unwrap().len();
    assert_eq!(read(), 6);
    let copy = folder.path().join("killed");
    fs.create_dir_all(&copy).unwrap();
    std::fs::copy(dir.join(SegmentId(1).file_name()), copy.join(SegmentId(1).file_name())).unwrap();
    let (mut killed, replay) = Wal::open(Arc::clone(&fs), &copy, SegmentId::FIRST).unwrap();
    assert_eq!(payloads(replay).unwrap().len(), 6);
    write_synced(&mut killed, 6..9);
    drop(killed);
    let (_, replay) = Wal::open(Arc::clone(&fs), &copy, SegmentId::FIRST).unwrap();
    assert_eq!(payloads(replay).unwrap().len(), 9);

    wal.rotate().unwrap();
    assert_eq!(len(1), whole, "a closed segment ends with its last frame");
    write_synced(&mut wal, 6..7);
    assert_eq!(read(), 7);
    drop(wal);
    assert_eq!(len(2), SEGMENT_HEADER + frame_len(payload(6).len()), "given back when the log is left");
}
