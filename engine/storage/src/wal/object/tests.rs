use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions,
    PutPayload, PutResult,
};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use object_store::ObjectStore;

use super::*;
use crate::lock::Holder;
use crate::place::{Claim, ClaimOptions, StoreIo};
use crate::wal::record;

/// What happens to a PUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It does not arrive and nobody answers.
    Lost,
    /// It arrives and nobody answers.
    Unanswered,
    /// It is refused.
    Denied,
}

/// A store in memory whose next PUTs fail as told.
#[derive(Debug)]
struct Faulty {
    inner: InMemory,
    faults: Mutex<Vec<Fault>>,
    puts: AtomicUsize,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

fn silence() -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: "connection reset".into() }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        let fault = self.faults.lock().pop();
        match fault {
            None => self.inner.put_opts(location, payload, opts).await,
            Some(Fault::Lost) => Err(silence()),
            Some(Fault::Unanswered) => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(silence())
            }
            Some(Fault::Denied) => {
                Err(object_store::Error::PermissionDenied { path: location.to_string(), source: "no".into() })
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A store and a runtime to reach it.
struct Bench {
    runtime: Runtime,
    store: Arc<Faulty>,
    io: Arc<StoreIo>,
    /// Rights that nobody gave back.
    rights: Mutex<Vec<Arc<Right>>>,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let store = Faulty { inner: InMemory::new(), faults: Mutex::default(), puts: AtomicUsize::new(0) };
        let io = Arc::new(StoreIo::start().unwrap());
        Self { runtime: runtime.unwrap(), store: Arc::new(store), io, rights: Mutex::default() }
    }

    fn place(&self) -> ObjectPlace {
        let store = Arc::clone(&self.store) as Arc<dyn ObjectStore>;
        let io = Arc::clone(&self.io);
        ObjectPlace { store, prefix: Path::from("a/my.db"), name: "s3://b/a/my.db".to_owned(), io }
    }

    fn open(&self, claim: Claim, pid: u32) -> Result<(ObjectWal, Vec<Vec<u8>>)> {
        self.open_from(SegmentId::FIRST, claim, pid)
    }

    fn open_from(&self, first: SegmentId, claim: Claim, pid: u32) -> Result<(ObjectWal, Vec<Vec<u8>>)> {
        let right = self.claim(claim, pid)?;
        let (wal, replay) = self.runtime.block_on(ObjectWal::open(self.place(), first, &right))?;
        Ok((wal, payloads(replay)?))
    }

    fn claim(&self, claim: Claim, pid: u32) -> Result<Arc<Right>> {
        let holder = Holder { pid, host: "h".to_owned(), since: DateTime::UNIX_EPOCH };
        let options = ClaimOptions {
            claim,
            lease: Duration::ZERO,
            holder: Some(holder),
            ..ClaimOptions::new(Arc::new(triune_common::ManualClock::default()))
        };
        let right = self.runtime.block_on(Right::claim(self.place(), options))?;
        self.rights.lock().push(Arc::clone(&right));
        Ok(right)
    }

    fn read(&self) -> Vec<Vec<u8>> {
        let replay = self.runtime.block_on(ObjectWal::open_read_only(&self.place(), SegmentId::FIRST));
        payloads(replay.unwrap()).unwrap()
    }

    fn fail(&self, faults: &[Fault]) {
        *self.store.faults.lock() = faults.iter().rev().copied().collect();
    }
}

fn payloads(replay: Replay) -> Result<Vec<Vec<u8>>> {
    replay.map(|frame| frame.map(|(_, payload)| payload)).collect()
}

fn commit(wal: &mut ObjectWal, payload: &str) -> Result<(), WalError> {
    wal.append(&[payload.as_bytes()])?;
    wal.sync()
}

fn texts(found: &[Vec<u8>]) -> Vec<&str> {
    found.iter().map(|p| std::str::from_utf8(p).unwrap()).collect()
}

#[test]
fn each_sync_is_one_object_and_all_return() {
    let bench = Bench::new();
    let (mut wal, found) = bench.open(Claim::IfFree, 1).unwrap();
    assert!(found.is_empty());
    let before = bench.store.puts.load(Ordering::SeqCst);
    wal.append(&[b"a", b"b"]).unwrap();
    wal.append(&[b"c"]).unwrap();
    wal.sync().unwrap();
    wal.sync().unwrap();
    assert_eq!(bench.store.puts.load(Ordering::SeqCst), before + 1);
    commit(&mut wal, "d").unwrap();
    assert_eq!(texts(&bench.read()), ["a", "b", "c", "d"]);
    wal.append(&[b"not synced"]).unwrap();
    drop(wal);

    let e = bench.open(Claim::IfFree, 2).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable);
    let named = "the database at s3://b/a/my.db is open for writing by process 1 on host h since 1970-01-01 00:00:00 UTC";
    assert_eq!(e.message(), named);
    let (mut wal, found) = bench.open(Claim::TakeOver, 2).unwrap();
    assert_eq!(texts(&found), ["a", "b", "c", "d"]);
    commit(&mut wal, "e").unwrap();
    wal.close().unwrap();
    bench.rights.lock().last().unwrap().release();
    let (_, found) = bench.open(Claim::IfFree, 3).unwrap();
    assert_eq!(texts(&found), ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_writer_that_was_taken_over_learns_by_whom_and_writes_nothing_even_after_checkpoints() {
    let bench = Bench::new();
    let (mut old, _) = bench.open(Claim::IfFree, 1).unwrap();
    commit(&mut old, "a").unwrap();
    old.append(&[b"too late"]).unwrap();
    let (mut new, _) = bench.open(Claim::TakeOver, 2).unwrap();
    for text in ["b", "c", "d"] {
        commit(&mut new, text).unwrap();
    }
    // The new writer's checkpoint removes what the old one's number lies among.
    let first = new.rotate().unwrap();
    new.remove_before(first).unwrap();
    let e = old.sync().unwrap_err();
    assert!(e.is_poisoned());
    assert!(e.to_string().contains("was taken over for writing by process 2 on host h"), "{e}");
    assert!(commit(&mut old, "x").unwrap_err().is_poisoned());
    // Its close does not take the claim from the new one.
    assert!(old.close().is_err());
    assert_eq!(bench.open(Claim::IfFree, 3).unwrap_err().kind(), ErrorKind::Unavailable);

    commit(&mut new, "e").unwrap();
    assert_eq!(new.segment(), SegmentId(first.0 + 1));
    let (_, found) = bench.open_from(first, Claim::TakeOver, 3).unwrap();
    assert_eq!(texts(&found), ["e"]);
}

#[test]
fn a_put_that_was_not_answered_is_found_and_a_lost_one_is_repeated() {
    use Fault::{Lost, Unanswered};
    for faults in [&[Lost][..], &[Unanswered], &[Lost, Lost, Unanswered], &[Lost; 5]] {
        let bench = Bench::new();
        let (mut wal, _) = bench.open(Claim::IfFree, 1).unwrap();
        bench.fail(faults);
        commit(&mut wal, "a").unwrap();
        commit(&mut wal, "b").unwrap();
        assert_eq!(texts(&bench.read()), ["a", "b"], "{faults:?}");
        drop(wal);
        // The claim and the fence, too.
        bench.fail(faults);
        let (mut wal, found) = bench.open(Claim::TakeOver, 2).unwrap();
        assert_eq!(found.len(), 2);
        commit(&mut wal, "c").unwrap();
        assert_eq!(bench.read().len(), 3);
    }
}

#[test]
fn a_refusal_is_rolled_back_and_silence_poisons() {
    let bench = Bench::new();
    let (mut wal, _) = bench.open(Claim::IfFree, 1).unwrap();
    bench.fail(&[Fault::Denied]);
    let e = commit(&mut wal, "refused").unwrap_err();
    assert!(matches!(&e, WalError::RolledBack(e) if e.kind() == ErrorKind::Permission), "{e}");
    commit(&mut wal, "a").unwrap();
    // After a try that nobody answered, a refusal of the next says nothing about the first.
    bench.fail(&[Fault::Lost, Fault::Denied]);
    let e = commit(&mut wal, "unknown").unwrap_err();
    assert!(e.is_poisoned() && e.to_string().contains("nobody knows whether it arrived"), "{e}");
    assert_eq!(texts(&bench.read()), ["a"]);

    let (mut wal, _) = bench.open(Claim::TakeOver, 1).unwrap();
    bench.fail(&[Fault::Lost; ATTEMPTS as usize]);
    assert!(commit(&mut wal, "lost").unwrap_err().is_poisoned());
    assert!(commit(&mut wal, "no more").unwrap_err().is_poisoned());
    let (_, found) = bench.open(Claim::TakeOver, 1).unwrap();
    assert_eq!(texts(&found), ["a"]);
}

#[test]
fn two_openers_at_once_and_a_commit_between_claim_and_fence() {
    let bench = Bench::new();
    let (mut old, _) = bench.open(Claim::IfFree, 1).unwrap();
    // The old writer's PUT takes the number that the new one's fence is tried at first.
    assert_eq!(bench.claim(Claim::TakeOver, 2).unwrap().epoch(), 2);
    commit(&mut old, "just in time").unwrap();
    let (mut new, found) = bench.open(Claim::TakeOver, 3).unwrap();
    assert_eq!(texts(&found), ["just in time"]);
    assert!(commit(&mut old, "late").is_err());
    commit(&mut new, "b").unwrap();
    assert_eq!(texts(&bench.read()), ["just in time", "b"]);
}

#[test]
fn missing_and_damaged_objects_are_named() {
    let bench = Bench::new();
    let (mut wal, _) = bench.open(Claim::IfFree, 1).unwrap();
    for text in ["a", "b", "c"] {
        commit(&mut wal, text).unwrap();
    }
    let path = bench.place().segment(SegmentId(3));
    let whole = bench.runtime.block_on(bench.place().get(&path)).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 4;
        bench.runtime.block_on(bench.store.put(&path, damaged.into())).unwrap();
        let replay = bench.runtime.block_on(ObjectWal::open_read_only(&bench.place(), SegmentId::FIRST));
        let found: Vec<_> = replay.unwrap().collect();
        if at >= whole.len() - 7 {
            assert!(found.len() == 3 && found.iter().all(Result::is_ok), "padding");
            continue;
        }
        assert_eq!(found.len(), 2);
        let e = found[1].as_ref().unwrap_err();
        assert!(e.kind() == ErrorKind::Data && e.message().contains("00003.wal at byte"), "{at}: {e}");
    }
    bench.runtime.block_on(bench.store.delete(&path)).unwrap();
    let e = bench.open(Claim::TakeOver, 2).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Data);
    assert!(e.message().contains("a/my.db/wal/00000000000000000003.wal of the database at"), "{e}");
    drop(wal);
}

#[test]
fn records_travel_through_objects() {
    let bench = Bench::new();
    let (mut wal, _) = bench.open(Claim::IfFree, 1).unwrap();
    let sent = record::Record::Base(record::BaseRecord {
        ts: crate::stamp::CommitTs(1),
        table: crate::stamp::TableId(2),
        state: serde_json::json!({"n": 1}),
    });
    let mut bytes = Vec::new();
    sent.encode(&mut bytes).unwrap();
    wal.append(&[&bytes]).unwrap();
    wal.sync().unwrap();
    assert_eq!(record::Record::decode(&bench.read()[0], &|_, _| None).unwrap(), sent);
}
