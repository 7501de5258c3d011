//! Bank transfers under a simulated disk that tears, forgets, fills up and fails, one seed after the other.
//!
//! ```text
//! TRIUNE_SIM_SEEDS=20000 cargo test -p triune-storage --test store simulation      a long run
//! TRIUNE_SIM_SEED=4711   cargo test -p triune-storage --test store simulation      one seed again
//! ```
//!
//! Up to three transactions are open at a time. What each of them reads is compared with the snapshot that it
//! began on (no read skew, no aborted read), and whether it may commit with what others committed meanwhile (no
//! lost update). Two tables change together: balances by key, and one line per committed transfer. After a
//! crash the store must hold all that was acknowledged, and of the one commit that was under way all or nothing.
//!
//! The files of Lance are real and outside of the simulation: they are fsynced before anything names them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use triune_common::ErrorKind;
use triune_storage::fs::{Faults, SimFs, StorageFs};
use triune_storage::store::{Store, Transaction};
use triune_storage::table::{IndexDef, IndexMethod};

use super::support::*;

const ACCOUNTS: i64 = 8;
const START: i64 = 100;
/// Seeds of a run in CI.
const SEEDS: u64 = 40;

/// Balances, and the numbers of the transfers that made them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Bank {
    balances: BTreeMap<i64, i64>,
    transfers: BTreeMap<i64, i64>,
}

struct Open {
    transaction: Transaction,
    /// What it sees: the snapshot with its own changes.
    view: Bank,
    /// The balances that it changed.
    written: Vec<i64>,
    /// How many commits there were when it began.
    since: usize,
}

struct World {
    place: Place,
    fs: SimFs,
    store: Arc<Store>,
    rng: ChaCha8Rng,
    bank: Bank,
    /// Accounts that each commit changed.
    commits: Vec<Vec<i64>>,
    open: Vec<Open>,
    next: i64,
}

impl World {
    async fn new(seed: u64) -> Self {
        let fs = SimFs::new(seed);
        let mut place = Place { limits: Place::busy(), ..Place::new() };
        fs.create_dir_all(place.folder.path()).unwrap();
        place.fs = Arc::new(fs.clone());
        place.thread = false;
        let store = place.open().await;
        let start: Vec<(i64, i64)> = (0..ACCOUNTS).map(|a| (a, START)).collect();
        let t = store.begin();
        t.insert(KEYED, rows(KEYED, &start)).await.unwrap();
        t.commit(true).await.unwrap();
        let bank = Bank { balances: start.into_iter().collect(), transfers: BTreeMap::new() };
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { place, fs, store, rng, bank, commits: Vec::new(), open: Vec::new(), next: 0 }
    }

    fn begin(&mut self) {
        let transaction = self.store.begin();
        let since = self.commits.len();
        self.open.push(Open { transaction, view: self.bank.clone(), written: Vec::new(), since });
    }

    async fn transfer(&mut self) {
        let i = self.rng.random_range(0..self.open.len());
        let open = &mut self.open[i];
        let from = self.rng.random_range(0..ACCOUNTS);
        let to = (from + self.rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
        let amount = self.rng.random_range(1..20);
        let found = open.transaction.get(KEYED, &keys(&[from, to])).await.unwrap();
        let values = found.column(1).as_primitive::<Int64Type>();
        assert_eq!(
            values.values().to_vec(),
            [open.view.balances[&from], open.view.balances[&to]],
            "a snapshot"
        );
        let new = [(from, values.value(0) - amount), (to, values.value(1) + amount)];
        open.transaction.update(KEYED, &keys(&[from, to]), rows(KEYED, &new)).await.unwrap();
        open.transaction.insert(PLAIN, rows(PLAIN, &[(self.next, amount)])).await.unwrap();
        open.view.balances.extend(new);
        open.view.transfers.insert(self.next, amount);
        open.written.extend([from, to]);
        self.next += 1;
    }

    /// Commits one; `Err` is the state that the bank has if the commit made it to the disk after all.
    async fn commit(&mut self) -> Result<(), Bank> {
        let i = self.rng.random_range(0..self.open.len());
        let open = self.open.swap_remove(i);
        let clash = self.commits[open.since..].iter().flatten().any(|a| open.written.contains(a));
        let mut after = self.bank.clone();
        for account in &open.written {
            after.balances.insert(*account, open.view.balances[account]);
        }
        after.transfers.extend(open.view.transfers.clone());
        match open.transaction.commit(true).await {
            Ok(_) => {
                assert!(!clash, "a lost update");
                self.bank = after;
                self.commits.push(open.written);
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::Conflict => {
                assert!(clash, "a conflict with nobody: {e}");
                Ok(())
            }
            // The disk is full: nothing of it is there, and the store goes on.
            Err(e) if e.kind() == ErrorKind::Resources => Ok(()),
            Err(_) => Err(after),
        }
    }

    async fn found(&self) -> Bank {
        let single = |rows: BTreeMap<i64, Vec<i64>>| {
            rows.into_iter()
                .map(|(k, v)| {
                    assert_eq!(v.len(), 1, "{k} is there {} times", v.len());
                    (k, v[0])
                })
                .collect()
        };
        let t = self.store.begin();
        let (balances, transfers) = (single(seen(&t, KEYED).await), single(seen(&t, PLAIN).await));
        Bank { balances, transfers }
    }

    /// Opens the disk as a restart finds it and compares.
    async fn restart(&mut self, power_loss: bool, perhaps: Option<Bank>) {
        self.open.clear();
        self.fs = if power_loss { self.fs.restart() } else { self.fs.kill() };
        self.fs.set_faults(Faults::default());
        self.place.fs = Arc::new(self.fs.clone());
        // The old process must be gone before the new one takes its lock.
        self.store = Store::in_memory(Arc::clone(&self.place.clock) as _).unwrap();
        self.store = self.place.open().await;
        let found = self.found().await;
        let total: i64 = found.balances.values().sum();
        assert_eq!(total, ACCOUNTS * START, "money was made or lost");
        if found != self.bank {
            assert_eq!(
                Some(&found),
                perhaps.as_ref(),
                "neither what was acknowledged nor what was under way"
            );
        }
        // Made or not, never in between.
        let indexes = self.store.indexes().await.unwrap();
        assert!(indexes.len() < 2 && indexes.iter().all(|i| i.index == by_value()), "{indexes:?}");
        self.bank = found;
        self.commits.push((0..ACCOUNTS).collect());
    }

    fn faults(&mut self) -> Faults {
        let mut faults = Faults {
            short_reads: self.rng.random_bool(0.3),
            reserves: !self.fs.steps().is_multiple_of(3),
            ..Faults::default()
        };
        match self.rng.random_range(0..6) {
            0..=2 => faults.crash_at = Some(self.fs.steps() + self.rng.random_range(1..120)),
            3 => faults.fail_sync = Some(self.fs.syncs() + self.rng.random_range(1..20)),
            4 => faults.fail_append = Some(self.fs.appends() + self.rng.random_range(1..20)),
            _ => faults.capacity = Some(self.rng.random_range(2_000..30_000)),
        }
        faults
    }
}

fn by_value() -> IndexDef {
    let columns = vec!["v".to_owned()];
    IndexDef { name: "by_v".to_owned(), method: IndexMethod::BTree, columns, options: BTreeMap::new() }
}

async fn simulate(seed: u64) {
    let mut world = World::new(seed).await;
    for _life in 0..3 {
        let faults = world.faults();
        world.fs.set_faults(faults);
        let mut perhaps = None;
        for _ in 0..60 {
            match world.rng.random_range(0..23) {
                0..=3 if world.open.len() < 3 => world.begin(),
                _ if world.open.is_empty() => world.begin(),
                4..=11 => world.transfer().await,
                12..=16 => {
                    if let Err(after) = world.commit().await {
                        perhaps = Some(after);
                        break;
                    }
                }
                17 => {
                    let i = world.rng.random_range(0..world.open.len());
                    world.open.swap_remove(i);
                }
                // A disk that fails them makes no answer wrong.
                18 => drop(world.store.checkpoint().await),
                19 => drop(world.store.optimize(KEYED).await),
                22 => drop(world.store.keep().await),
                20 => drop(world.store.create_index(KEYED, by_value()).await),
                _ => drop(world.store.drop_index(KEYED, "by_v").await),
            }
            if world.fs.crashed() {
                break;
            }
            if faults.capacity.is_some() && world.rng.random_bool(0.05) {
                // Somebody made room: writing goes on without a restart.
                world.fs.set_faults(Faults::default());
            }
            if world.rng.random_bool(0.2) {
                assert_eq!(world.found().await, world.bank, "what others see");
            }
        }
        let power_loss = world.fs.crashed() || world.rng.random_bool(0.5);
        world.restart(power_loss, perhaps).await;
    }
}

#[test]
fn no_transfer_is_lost_and_none_happens_twice() {
    let number = |name: &str| std::env::var(name).ok().map(|v| v.parse::<u64>().expect("a number"));
    let seeds = match number("TRIUNE_SIM_SEED") {
        Some(one) => one..one + 1,
        None => 0..number("TRIUNE_SIM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = std::panic::catch_unwind(|| runtime.block_on(simulate(seed)));
        assert!(outcome.is_ok(), "seed {seed}: run it again with TRIUNE_SIM_SEED={seed}");
    }
}
