//! Bank transfers on a simulated object store that loses requests and answers, whose process dies between any two
//! requests, and that two writers want.
//!
//! ```text
//! TRIUNE_SIM_SEEDS=2000 cargo test -p triune-storage --test store remote      a long run
//! TRIUNE_SIM_SEED=4711  cargo test -p triune-storage --test store remote      one seed again
//! ```
//!
//! After each death the database is opened again: with the log on the object store from another machine, else from the
//! same one. It must hold all that was acknowledged, and of the one transfer that was under way all or nothing. Of two
//! writers the one that was replaced acknowledges nothing. Lance's own objects are outside of the simulation.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;
use triune_common::{ErrorKind, ManualClock};
use triune_lance::{LanceCaches, LanceStore, NoOptions};
use triune_storage::fs::RealFs;
use triune_storage::place::{
    Claim, ClaimOptions, LocalPlace, ObjectFs, ObjectPlace, RemoteOptions, Right, StoreIo, WalKind,
};
use triune_storage::store::{Limits, Store, StoreOptions};
use triune_storage::table::TableDef;

use super::support::*;

const ACCOUNTS: i64 = 6;
const START: i64 = 100;
const SEEDS: u64 = 12;

/// One process's view of a store.
#[derive(Debug)]
struct Process {
    store: Arc<InMemory>,
    rng: Mutex<ChaCha8Rng>,
    /// One request in so many is lost, or answered by silence.
    silence: AtomicU64,
    /// Requests until the process is gone.
    left: AtomicU64,
    dead: AtomicBool,
}

#[derive(PartialEq)]
enum Fate {
    Done,
    Lost,
    Unanswered,
}

impl Process {
    fn fate(&self) -> Result<Fate> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(gone());
        }
        let mut rng = self.rng.lock();
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.dead.store(true, Ordering::SeqCst);
            return if rng.random_bool(0.5) { Err(gone()) } else { Ok(Fate::Unanswered) };
        }
        let silence = self.silence.load(Ordering::SeqCst);
        if silence > 0 && rng.random_range(0..silence) == 0 {
            return Ok(if rng.random_bool(0.5) { Fate::Lost } else { Fate::Unanswered });
        }
        Ok(Fate::Done)
    }

    fn silence(&self) -> object_store::Error {
        // A process that is gone tries nothing again.
        if self.dead.load(Ordering::SeqCst) {
            return gone();
        }
        object_store::Error::Generic { store: "simulated", source: "connection reset".into() }
    }
}

fn gone() -> object_store::Error {
    object_store::Error::NotSupported { source: "the process is gone".into() }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

#[async_trait]
impl ObjectStore for Process {
    async fn put_opts(&self, at: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let fate = self.fate()?;
        if fate == Fate::Lost {
            return Err(self.silence());
        }
        let done = self.store.put_opts(at, payload, opts).await;
        if fate == Fate::Unanswered { Err(self.silence()) } else { done }
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        if self.fate()? != Fate::Done {
            return Err(self.silence());
        }
        self.store.get_opts(at, options).await
    }

    fn delete_stream(&self, at: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.fate() {
            Ok(Fate::Done) => self.store.delete_stream(at),
            _ => {
                let e = self.silence();
                futures::stream::once(async move { Err(e) }).boxed()
            }
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.fate() {
            Ok(Fate::Done) => self.store.list(prefix),
            _ => {
                let e = self.silence();
                futures::stream::once(async move { Err(e) }).boxed()
            }
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        if self.fate()? != Fate::Done {
            return Err(self.silence());
        }
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

/// An object store and machines that reach it.
struct World {
    retention: u64,
    objects: Arc<InMemory>,
    name: String,
    seed: u64,
    lives: u64,
    clock: Arc<ManualClock>,
    machine: TempDir,
}

impl World {
    fn new(seed: u64) -> Self {
        let machine = tempfile::tempdir().unwrap();
        let name = format!("shared-memory://sim-{}-{seed}/db", std::process::id());
        let clock = Arc::new(ManualClock::default());
        Self { retention: 3600, objects: Arc::new(InMemory::new()), name, seed, lives: 0, clock, machine }
    }

    fn process(&mut self) -> Arc<Process> {
        self.lives += 1;
        Arc::new(Process {
            store: Arc::clone(&self.objects),
            rng: Mutex::new(ChaCha8Rng::seed_from_u64(self.seed * 1000 + self.lives)),
            silence: AtomicU64::new(0),
            left: AtomicU64::new(u64::MAX),
            dead: AtomicBool::new(false),
        })
    }

    fn definitions(&self) -> Vec<TableDef> {
        let mut all = vec![definition(KEYED, &["id"]), definition(PLAIN, &[])];
        for def in &mut all {
            def.options.retention_seconds = self.retention;
        }
        all
    }

    async fn open(
        &self,
        process: &Arc<Process>,
        write: Option<Claim>,
        wal: Option<WalKind>,
        lost: bool,
    ) -> triune_common::Result<Arc<Store>> {
        let store = Arc::clone(process) as Arc<dyn ObjectStore>;
        let io = Arc::new(StoreIo::start()?);
        let place = ObjectPlace { store, prefix: Path::from("db"), name: self.name.clone(), io };
        let files = Arc::new(ObjectFs::new(place.clone(), self.name.parse().unwrap()));
        let clock = Arc::clone(&self.clock) as Arc<dyn triune_common::Clock>;
        let right = match write {
            Some(claim) => {
                let options =
                    ClaimOptions { claim, lease: Duration::ZERO, ..ClaimOptions::new(Arc::clone(&clock)) };
                Some(Right::claim(place.clone(), options).await?)
            }
            None => None,
        };
        let options = StoreOptions {
            fs: Arc::new(RealFs),
            folder: "".into(),
            lance: LanceStore::new(LanceCaches::default(), Arc::new(NoOptions)),
            clock,
            rng: Arc::new(triune_common::SystemRng::new()),
            definitions: self.definitions(),
            limits: Limits::default(),
            thread: false,
        };
        let local = Some(LocalPlace::new(self.machine.path()));
        let remote = RemoteOptions { place, files, right, local, wal, accept_lost_wal: lost };
        Store::open_remote(options, remote).await
    }
}

type Bank = (BTreeMap<i64, i64>, BTreeMap<i64, i64>);

async fn found(store: &Arc<Store>) -> Bank {
    let single = |rows: BTreeMap<i64, Vec<i64>>| {
        rows.into_iter()
            .map(|(k, v)| {
                assert_eq!(v.len(), 1, "{k} is there {} times", v.len());
                (k, v[0])
            })
            .collect()
    };
    (single(visible(store, KEYED).await), single(visible(store, PLAIN).await))
}

/// One transfer; `Err` is the bank after it, if it made it to the log after all.
async fn transfer(
    store: &Arc<Store>,
    bank: &Bank,
    rng: &mut ChaCha8Rng,
    number: i64,
) -> std::result::Result<Bank, (Bank, triune_common::Error)> {
    let from = rng.random_range(0..ACCOUNTS);
    let to = (from + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
    let amount = rng.random_range(1..20);
    let mut after = bank.clone();
    after.0.insert(from, bank.0[&from] - amount);
    after.0.insert(to, bank.0[&to] + amount);
    after.1.insert(number, amount);
    let done = async {
        let t = store.begin();
        t.update(KEYED, &keys(&[from, to]), rows(KEYED, &[(from, after.0[&from]), (to, after.0[&to])]))
            .await?;
        t.insert(PLAIN, rows(PLAIN, &[(number, amount)])).await?;
        t.commit(true).await
    };
    match done.await {
        Ok(_) => Ok(after),
        Err(e) => Err((after, e)),
    }
}

async fn simulate(seed: u64, wal: WalKind) {
    let mut world = World::new(seed * 2 + u64::from(wal == WalKind::Local));
    world.retention = if seed.is_multiple_of(2) { 3600 } else { 0 };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let first = world.process();
    let mut store = world.open(&first, Some(Claim::IfFree), Some(wal), false).await.unwrap();
    let mut process = first;
    let t = store.begin();
    t.insert(KEYED, rows(KEYED, &(0..ACCOUNTS).map(|a| (a, START)).collect::<Vec<_>>())).await.unwrap();
    t.commit(true).await.unwrap();
    let mut bank: Bank = ((0..ACCOUNTS).map(|a| (a, START)).collect(), BTreeMap::new());
    let mut number = 0;
    for _life in 0..4 {
        process.silence.store(if rng.random_bool(0.3) { 25 } else { 0 }, Ordering::SeqCst);
        let least = u64::from(wal == WalKind::Local);
        process.left.store(rng.random_range(1 + least..60), Ordering::SeqCst);
        let mut perhaps = None;
        for _ in 0..40 {
            match rng.random_range(0..12) {
                0 => drop(store.checkpoint().await),
                1 => drop(store.optimize(KEYED).await),
                2 => drop(store.vacuum(KEYED).await),
                3 => drop(store.vacuum(PLAIN).await),
                _ => {
                    number += 1;
                    match transfer(&store, &bank, &mut rng, number).await {
                        Ok(after) => bank = after,
                        Err((after, _)) => {
                            perhaps = Some(after);
                            break;
                        }
                    }
                }
            }
            if process.dead.load(Ordering::SeqCst) && wal == WalKind::ObjectStore {
                break;
            }
            assert_eq!(found(&store).await, bank, "what is visible");
        }
        process.dead.store(true, Ordering::SeqCst);
        let old = std::mem::replace(&mut store, Store::in_memory(Arc::clone(&world.clock) as _).unwrap());
        // With a log on the object store nothing of the old machine is needed.
        if wal == WalKind::ObjectStore {
            world.machine = tempfile::tempdir().unwrap();
        }
        // A process that is gone writes nothing more.
        drop(old);
        process = world.process();
        let refused = world.open(&process, Some(Claim::IfFree), None, false).await;
        assert_eq!(refused.expect_err("it was not released").kind(), ErrorKind::Unavailable);
        store = world.open(&process, Some(Claim::TakeOver), None, false).await.unwrap();
        let now = found(&store).await;
        assert_eq!(now.0.values().sum::<i64>(), ACCOUNTS * START, "money was made or lost");
        if now != bank {
            assert_eq!(Some(&now), perhaps.as_ref(), "neither what was acknowledged nor what was under way");
        }
        bank = now;

        // Two writers: from the moment of the takeover the old one acknowledges nothing.
        if rng.random_bool(0.5) && wal == WalKind::ObjectStore {
            let another = world.process();
            let new = world.open(&another, Some(Claim::TakeOver), None, false).await.unwrap();
            assert_eq!(found(&new).await, bank);
            for n in 0..3 {
                number += 1;
                match n {
                    1 => assert!(
                        store.checkpoint().await.is_err(),
                        "a checkpoint of a writer that was replaced"
                    ),
                    _ => {
                        let (_, e) =
                            transfer(&store, &bank, &mut rng, number).await.expect_err("it was replaced");
                        assert!(e.message().contains("taken over") || n > 0, "{e}");
                    }
                }
                number += 1;
                bank = transfer(&new, &bank, &mut rng, number).await.map_err(|e| e.1).unwrap();
            }
            drop(std::mem::replace(&mut store, new));
            process = another;
            assert_eq!(found(&store).await, bank);
        }
    }
    // A reader beside it sees the same, and with a clean end any machine opens it.
    store.checkpoint().await.unwrap();
    let reader = world.open(&process, None, None, false).await.unwrap();
    assert_eq!(found(&reader).await, bank);
    assert_eq!(reader.checkpoint().await.expect_err("it reads").kind(), ErrorKind::Permission);
    number += 1;
    bank = transfer(&store, &bank, &mut rng, number).await.map_err(|e| e.1).unwrap();
    reader.refresh(&world.definitions()).await.unwrap();
    assert_eq!(found(&reader).await, bank, "after a refresh");
    store.close().await.unwrap();
    assert!(transfer(&store, &bank, &mut rng, number + 1).await.is_err(), "it was closed");
    drop(store);
    world.machine = tempfile::tempdir().unwrap();
    let other = if wal == WalKind::Local { WalKind::ObjectStore } else { WalKind::Local };
    for kind in [None, Some(other), Some(wal), None] {
        let store = world.open(&process, Some(Claim::IfFree), kind, false).await.unwrap();
        assert_eq!(found(&store).await, bank, "{kind:?}");
        number += 2;
        bank = transfer(&store, &bank, &mut rng, number).await.map_err(|e| e.1).unwrap();
    }
}

fn run(wal: WalKind) {
    let number = |name: &str| std::env::var(name).ok().map(|v| v.parse::<u64>().expect("a number"));
    let seeds = match number("TRIUNE_SIM_SEED") {
        Some(one) => one..one + 1,
        None => 0..number("TRIUNE_SIM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let outcome = std::panic::catch_unwind(|| runtime.block_on(simulate(seed, wal)));
        assert!(outcome.is_ok(), "seed {seed}: run it again with TRIUNE_SIM_SEED={seed}");
    }
}

#[test]
fn no_transfer_is_lost_with_the_log_on_the_object_store() {
    run(WalKind::ObjectStore);
}

#[test]
fn no_transfer_is_lost_with_the_log_in_a_folder() {
    run(WalKind::Local);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_log_that_is_not_there_is_noticed_and_given_up_only_when_told() {
    let mut world = World::new(1_000_000);
    let process = world.process();
    let store = world.open(&process, Some(Claim::IfFree), None, false).await.unwrap();
    for (id, checkpoint) in [(1, true), (2, false)] {
        let t = store.begin();
        t.insert(KEYED, rows(KEYED, &[(id, id)])).await.unwrap();
        t.commit(true).await.unwrap();
        if checkpoint {
            store.checkpoint().await.unwrap();
        }
    }
    drop(store);
    let here = std::mem::replace(&mut world.machine, tempfile::tempdir().unwrap());
    let away = here.path().with_extension("away");
    std::fs::rename(here.path(), &away).unwrap();
    let e = world.open(&process, Some(Claim::IfFree), None, false).await.expect_err("its log is elsewhere");
    assert_eq!(e.kind(), ErrorKind::NotFound);
    assert!(
        e.message().contains("is not on this machine") && e.hint().unwrap().contains("--accept-lost-wal"),
        "{e}"
    );
    let reader = world.open(&process, None, None, false).await.unwrap();
    assert_eq!(visible(&reader, KEYED).await, one(1, 1), "the last checkpoint");

    // Back on the machine that has it, nothing is missing.
    std::fs::rename(&away, here.path()).unwrap();
    let there = std::mem::replace(&mut world.machine, here);
    let store = world.open(&process, Some(Claim::IfFree), None, false).await.unwrap();
    assert_eq!(visible(&store, KEYED).await.len(), 2);
    drop(store);
    let here = std::mem::replace(&mut world.machine, there);
    drop(here);
    let store = world.open(&process, Some(Claim::IfFree), None, true).await.unwrap();
    assert_eq!(visible(&store, KEYED).await, one(1, 1), "given up");
}

/// What a store holds, by name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_files_are_removed_and_copies_are_kept_here() {
    let mut world = World::new(1_000_001);
    world.retention = 0;
    let process = world.process();
    let store = world.open(&process, Some(Claim::IfFree), Some(WalKind::ObjectStore), false).await.unwrap();
    for round in 0..4 {
        let t = store.begin();
        let values: Vec<(i64, i64)> = (0..500).map(|i| ((i * 7919 + round) % 5003, round)).collect();
        t.upsert(KEYED, rows(KEYED, &values)).await.unwrap();
        t.commit(true).await.unwrap();
        store.checkpoint().await.unwrap();
    }
    let names = || async {
        let listed: Vec<ObjectMeta> =
            world.objects.list(Some(&Path::from("db"))).try_collect().await.unwrap();
        listed.into_iter().map(|o| o.location.to_string()).collect::<Vec<_>>()
    };
    let before = names().await;
    let keys = |names: &[String]| names.iter().filter(|n| n.contains("keys-")).count();
    assert!(keys(&before) >= 4, "{before:?}");
    let rows_before = visible(&store, KEYED).await;
    store.optimize(KEYED).await.unwrap();
    store.vacuum(KEYED).await.unwrap();
    let after = names().await;
    assert!(keys(&after) < keys(&before), "{after:?}");
    assert_eq!(visible(&store, KEYED).await, rows_before);
    // Only the fence is left of the log.
    assert!(after.iter().filter(|n| n.ends_with(".wal")).count() <= 2, "{after:?}");
}
