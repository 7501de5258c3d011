//! A base against a list of row versions: whatever is done to it, every key, count and row agrees.

use std::collections::BTreeMap;

use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use proptest::prelude::*;

use super::*;

/// A row that was written to the base at some time.
#[derive(Debug, Clone)]
struct Row {
    key: u64,
    n: i64,
    end: Option<u64>,
    address: u64,
}

#[derive(Debug, Clone)]
enum Step {
    /// New keys from this number on, each `step` after the last; some overwrite live rows.
    Append {
        start: u64,
        step: u64,
        rows: u64,
        publish: bool,
    },
    Mark(Vec<prop::sample::Index>),
    Undo(u64),
    Settle,
    /// Marks that come while the rewrite runs.
    Rewrite {
        horizon: prop::sample::Index,
        everything: bool,
        late: Vec<prop::sample::Index>,
        publish: bool,
    },
    Vacuum,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let some = || prop::collection::vec(any::<prop::sample::Index>(), 0..12);
    prop_oneof![
        4 => (0u64..300, 1u64..4, 1u64..60, prop::bool::weighted(0.8)).prop_map(
            |(start, step, rows, publish)| Step::Append { start, step, rows, publish }),
        4 => some().prop_map(Step::Mark),
        1 => (0u64..4).prop_map(Step::Undo),
        1 => Just(Step::Settle),
        2 => (any::<prop::sample::Index>(), any::<bool>(), some(), prop::bool::weighted(0.8)).prop_map(
            |(horizon, everything, late, publish)| Step::Rewrite { horizon, everything, late, publish }),
        1 => Just(Step::Vacuum),
        2 => Just(Step::Reopen),
    ]
}

struct World {
    by: By,
    dir: tempfile::TempDir,
    base: Arc<Base>,
    rows: Vec<Row>,
    now: u64,
    /// Nothing older is asked for any more.
    horizon: u64,
}

impl World {
    fn live(&self) -> BTreeMap<u64, usize> {
        (0..self.rows.len()).filter(|i| self.rows[*i].end.is_none()).map(|i| (self.rows[i].key, i)).collect()
    }

    fn mark(&mut self, i: usize, ts: u64) {
        assert!(self.base.deletes().mark(self.rows[i].address, CommitTs(ts)));
        self.rows[i].end = Some(ts);
    }

    fn mark_some(&mut self, which: &[prop::sample::Index]) {
        for index in which {
            let live: Vec<usize> = self.live().into_values().collect();
            if live.is_empty() {
                return;
            }
            self.now += 1;
            self.mark(*index.get(&live), self.now);
        }
    }

    async fn append(&mut self, start: u64, step: u64, count: u64, publish: bool) {
        let numbers: Vec<u64> = (0..count).map(|i| start + i * step).collect();
        let live = self.live();
        if publish {
            // What is there already is superseded, as a checkpoint of updated rows does it.
            for number in &numbers {
                if let Some(i) = live.get(number) {
                    self.now += 1;
                    self.mark(*i, self.now);
                }
            }
        }
        self.now += 1;
        let rows: Vec<(u64, i64)> = numbers.iter().map(|k| (*k, (self.now * 1000 + k) as i64)).collect();
        let half = rows.len() / 2;
        let batches = vec![batch(self.by, &rows[..half]), batch(self.by, &rows[half..])];
        let options = AppendOptions { checkpoint: CommitTs(self.now), settle: CommitTs(self.horizon) };
        let made = self.base.append(stream(batches), options).await.unwrap();
        if !publish {
            return;
        }
        self.base = made;
        for (number, n) in rows {
            let address = self.base.find(key(&self.base, self.by, number).as_ref()).unwrap();
            self.rows.push(Row { key: number, n, end: None, address });
        }
    }

    async fn rewrite(&mut self, horizon: u64, everything: bool, late: &[prop::sample::Index], publish: bool) {
        let mut options = RewriteOptions::new(CommitTs(horizon));
        options.everything = everything;
        options.small_rows = 40;
        let made = self.base.rewrite(&options).await.unwrap();
        self.mark_some(late);
        let Some(made) = made.filter(|_| publish) else { return };
        let dropped = horizon.min(self.base.checkpoint().0);
        let base = made.catch_up();
        for row in &mut self.rows {
            match made.address(row.address) {
                Some(address) => row.address = address,
                None => assert!(row.end.is_some_and(|e| e <= dropped), "{row:?} was dropped"),
            }
        }
        // What ended long ago may be gone.
        self.rows.retain(|r| base.unmasked().is_some() && made_address_exists(&base, r.address));
        self.horizon = self.horizon.max(dropped);
        self.base = base;
    }

    async fn reopen(&mut self) {
        // As recovery does: what came after the checkpoint is marked again.
        let state: BaseState =
            serde_json::from_str(&serde_json::to_string(self.base.state()).unwrap()).unwrap();
        let table = table(self.dir.path(), &definition(self.by));
        self.base = state.open(&table).await.unwrap();
        let checkpoint = self.base.checkpoint().0;
        for row in &self.rows {
            if let Some(end) = row.end.filter(|e| *e > checkpoint) {
                let address = self.base.find(key(&self.base, self.by, row.key).as_ref());
                assert_eq!(address, Some(row.address));
                self.base.deletes().mark(row.address, CommitTs(end));
            }
        }
    }

    async fn check(&self) {
        let live = self.live();
        let numbers: Vec<u64> = (0..700).collect();
        let asked = keys(&self.base, self.by, &numbers);
        let found = self.base.find_many(&asked);
        for (number, found) in numbers.iter().zip(&found) {
            let want = live.get(number).map(|i| self.rows[*i].address);
            assert_eq!(*found, want, "key {number}");
            assert_eq!(self.base.find(key(&self.base, self.by, *number).as_ref()), want);
        }
        let none: Vec<u64> = numbers.iter().copied().filter(|k| !live.contains_key(k)).collect();
        assert_eq!(self.base.intersects(&keys(&self.base, self.by, &none)), None);
        if let Some(one) = live.keys().next() {
            let place = self.base.intersects(&asked).unwrap();
            assert!(live.contains_key(&numbers[place]));
            assert_eq!(self.base.intersects(&keys(&self.base, self.by, &[*one])), Some(0));
        }

        // Rows by address, those that ended too.
        let addresses: Vec<u64> = self.rows.iter().rev().map(|r| r.address).collect();
        let rows = self.base.fetch(&addresses, &[2, 0]).await.unwrap();
        let (ns, ids) =
            (rows.column(0).as_primitive::<Int64Type>(), rows.column(1).as_primitive::<Int64Type>());
        for (i, row) in self.rows.iter().rev().enumerate() {
            assert_eq!((ns.value(i), ids.value(i)), (row.n, row.key as i64));
        }

        // What snapshots see.
        let mut times = vec![self.now, self.now + 5, self.horizon.max(self.base.checkpoint().0)];
        times.extend(self.rows.iter().filter_map(|r| r.end).filter(|e| *e > self.horizon).take(2));
        for at in times {
            // Rows come with their checkpoint: older snapshots read an older base.
            let visible = |r: &&Row| r.end.is_none_or(|e| e > at);
            let mut want: Vec<(i64, i64)> =
                self.rows.iter().filter(visible).map(|r| (r.key as i64, r.n)).collect();
            want.sort_unstable();
            let Some(provider) = self.base.provider(CommitTs(at)).unwrap() else {
                assert!(want.is_empty());
                continue;
            };
            assert_eq!(provider.rows(), want.len() as u64);
            let context = SessionContext::new_with_config(
                datafusion::prelude::SessionConfig::new().with_target_partitions(2),
            );
            let plan = provider.scan(&context.state(), Some(&vec![0, 2]), &[], None).await.unwrap();
            let stream = datafusion::physical_plan::execute_stream(plan, context.task_ctx()).unwrap();
            let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
            let mut got: Vec<(i64, i64)> = Vec::new();
            for b in &batches {
                let (k, n) =
                    (b.column(0).as_primitive::<Int64Type>(), b.column(1).as_primitive::<Int64Type>());
                got.extend(k.values().iter().copied().zip(n.values().iter().copied()));
            }
            got.sort_unstable();
            assert_eq!(got, want, "at {at}");
            for (number, i) in &live {
                let k = key(&self.base, self.by, *number);
                if self.rows[*i].end.is_none_or(|e| e > at) {
                    assert!(self.base.find_at(k.as_ref(), CommitTs(at)).is_some());
                }
            }
        }
    }
}

fn made_address_exists(base: &Base, address: u64) -> bool {
    base.state()
        .fragments
        .iter()
        .any(|f| u64::from(f.id) == address >> 32 && (address & 0xffff_ffff) < u64::from(f.rows))
}

async fn play(by: By, steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let base = Base::empty(&table(dir.path(), &definition(by)), BaseState::empty(&SystemRng::new())).unwrap();
    let mut world = World { by, dir, base, rows: Vec::new(), now: 100, horizon: 0 };
    for step in steps {
        match step {
            Step::Append { start, step, rows, publish } => world.append(start, step, rows, publish).await,
            Step::Mark(which) => world.mark_some(&which),
            Step::Undo(back) => {
                let to = world.now.saturating_sub(back).max(world.base.checkpoint().0).max(world.horizon);
                world.base.deletes().undo_after(CommitTs(to));
                for row in &mut world.rows {
                    row.end = row.end.filter(|e| *e <= to);
                }
                // Undone rows may have lived twice under one key.
                let mut seen = BTreeMap::new();
                for i in 0..world.rows.len() {
                    if world.rows[i].end.is_none()
                        && let Some(old) = seen.insert(world.rows[i].key, i)
                    {
                        world.now += 1;
                        world.mark(old, world.now);
                    }
                }
            }
            Step::Settle => {
                world.horizon = world.horizon.max(world.base.checkpoint().0);
                world.base.deletes().settle(CommitTs(world.horizon));
            }
            Step::Rewrite { horizon, everything, late, publish } => {
                let span = (world.now - world.horizon + 1) as usize;
                let horizon = world.horizon + horizon.index(span) as u64;
                world.rewrite(horizon, everything, &late, publish).await;
            }
            Step::Vacuum => {
                let state = world.base.state().clone();
                world.base.table().vacuum(std::slice::from_ref(&state), false).await.unwrap();
                let left = std::fs::read_dir(world.base.table().folder());
                let left = left.map_or(0, |d| d.filter(|e| e.as_ref().unwrap().path().is_file()).count());
                assert_eq!(left, state.files().count());
            }
            Step::Reopen => world.reopen().await,
        }
        world.check().await;
    }
}

proptest! {
    // Each case commits to Lance a dozen times; PROPTEST_CASES makes more of them.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 20,
        max_shrink_iters: 60,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_base_is_a_list_of_rows(
        by in prop_oneof![Just(By::Int), Just(By::Text), Just(By::Rid)],
        steps in prop::collection::vec(step(), 6..16),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(play(by, steps));
    }
}
