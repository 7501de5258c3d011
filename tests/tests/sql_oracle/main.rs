//! Random SQL against SQLite: after every statement both must hold the same rows.
//!
//! ```text
//! TRIUNE_SQL_SEEDS=2000 cargo test -p triune-tests -p triune-features --test sql_oracle      a long run
//! TRIUNE_SQL_SEED=4711  cargo test -p triune-tests -p triune-features --test sql_oracle      one seed again
//!
//!  seed ─▶ tables ─▶ statement ─┬─▶ Triune, in a folder ─▶ answer ┐
//!                               └─▶ SQLite, in memory   ─▶ answer ┴▶ the same rows, the same count, or both an error
//!                    + BEGIN, SAVEPOINT, ROLLBACK …, ALTER TABLE; CHECKPOINT, OPTIMIZE, VACUUM; reopened now and then
//! ```
//!
//! Statements and queries stay within what both understand alike; what Triune refuses as unsupported is left out of
//! SQLite too, and must stay rare.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a helper that fails fails its test"
)]

mod answer;
mod correlated;
mod expr;
mod queries;
mod schema;
mod sqlite;
mod statements;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::runtime::SpawnedTask;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use triune_common::ErrorKind;
use triune_query::{Database, Session};

use answer::{Answer, run};
use queries::Query;
use schema::Table;
use sqlite::Sqlite;
use statements::Step;

/// Seeds of a run in CI, and the statements of each.
const SEEDS: u64 = 12;
const STEPS: usize = 40;

struct World {
    seed: u64,
    rng: ChaCha8Rng,
    folder: tempfile::TempDir,
    database: Arc<Database>,
    session: Session,
    sqlite: Sqlite,
    tables: Vec<Table>,
    /// Names of savepoints that are open; `None` outside of a transaction.
    savepoints: Option<Vec<String>>,
    /// What was done, to be read when it went wrong.
    log: Vec<String>,
    refused: usize,
}

async fn open(folder: &Path) -> (Arc<Database>, Session) {
    let place = folder.join("db");
    // The keeper may still be at work for a database that was dropped a moment ago.
    let mut tries = 0;
    let database = loop {
        tries += 1;
        match Database::open(place.to_str()).await {
            Ok(database) => break database,
            Err(e) if e.kind() == ErrorKind::Unavailable && tries < 200 => {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            Err(e) => panic!("opening: {e}"),
        }
    };
    let session = database.session();
    (database, session)
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let folder = tempfile::tempdir().expect("a folder");
        let (database, session) = open(folder.path()).await;
        let tables: Vec<Table> = ["t", "u", "w"][..rng.random_range(2..=3)]
            .iter()
            .map(|n| Table::random(&mut rng, (*n).to_owned()))
            .collect();
        let mut world = Self {
            seed,
            rng,
            folder,
            database,
            session,
            sqlite: Sqlite::start(),
            tables,
            savepoints: None,
            log: vec![],
            refused: 0,
        };
        for table in world.tables.clone() {
            let [triune, sqlite] = table.create();
            world.both(&Step { triune, sqlite: vec![sqlite], counted: false }).await;
        }
        world
    }

    fn fail(&self, what: &str) -> ! {
        panic!("{what}\n\nTRIUNE_SQL_SEED={} does it again; it was:\n{}", self.seed, self.log.join(";\n"))
    }

    /// Runs a statement in both and compares what they say; whether it was carried out.
    async fn both(&mut self, step: &Step) -> bool {
        self.log.push(step.triune.clone());
        let ours = run(&self.session, &step.triune).await;
        if let Answer::Unsupported(text) = &ours {
            self.refused += 1;
            self.log.push(format!("-- refused: {text}"));
            return false;
        }
        let theirs = self.in_sqlite(&step.sqlite);
        match (&ours, &theirs) {
            (Answer::Count(_), Answer::Count(_) | Answer::Rows(_)) if !step.counted => {}
            _ if ours.agrees(&theirs, false) => {}
            _ => self.fail(&format!(
                "Triune answers {ours:?}\nSQLite answers {theirs:?}\nto {}\nas SQLite: {}",
                step.triune,
                step.sqlite.join("; ")
            )),
        }
        if let Answer::Error(e) = &ours {
            self.log.push(format!("-- {e}"));
            return false;
        }
        true
    }

    /// All of the statements or none.
    fn in_sqlite(&mut self, statements: &[String]) -> Answer {
        let [one] = statements else {
            self.sqlite.run("SAVEPOINT several");
            let mut sum = 0;
            for sql in statements {
                match self.sqlite.run(sql) {
                    Answer::Count(n) => sum += n,
                    other => {
                        self.sqlite.run("ROLLBACK TO several");
                        self.sqlite.run("RELEASE several");
                        return other;
                    }
                }
            }
            self.sqlite.run("RELEASE several");
            return Answer::Count(sum);
        };
        self.sqlite.run(one)
    }

    async fn control(&mut self, sql: &str) {
        let step = Step { triune: sql.to_owned(), sqlite: vec![sql.to_owned()], counted: false };
        if !self.both(&step).await {
            self.fail(&format!("{sql} is refused"));
        }
    }

    async fn ask(&mut self, (sql, ordered): &Query) {
        let ours = run(&self.session, sql).await;
        if let Answer::Unsupported(text) = &ours {
            self.refused += 1;
            self.log.push(format!("-- refused: {sql}: {text}"));
            return;
        }
        let theirs = self.sqlite.run(sql);
        if !ours.agrees(&theirs, *ordered) {
            self.fail(&format!("Triune answers {ours:?}\nSQLite answers {theirs:?}\nto {sql}"));
        }
    }

    async fn step(&mut self) {
        match (self.rng.random_range(0..100), self.savepoints.clone()) {
            (0..10, None) => {
                self.control("BEGIN").await;
                self.savepoints = Some(vec![]);
            }
            (0..12, Some(_)) => {
                let end = if self.rng.random_bool(0.65) { "COMMIT" } else { "ROLLBACK" };
                self.control(end).await;
                self.savepoints = None;
            }
            (12..20, Some(mut names)) => {
                let name = format!("s{}", names.len());
                self.control(&format!("SAVEPOINT {name}")).await;
                names.push(name);
                self.savepoints = Some(names);
            }
            (20..30, Some(mut names)) if !names.is_empty() => {
                let at = self.rng.random_range(0..names.len());
                if self.rng.random_bool(0.7) {
                    self.control(&format!("ROLLBACK TO {}", names[at])).await;
                    names.truncate(at + 1);
                } else {
                    self.control(&format!("RELEASE {}", names[at])).await;
                    names.truncate(at);
                }
                self.savepoints = Some(names);
            }
            (10..14, None) => self.alter().await,
            (86..94, _) => self.maintain().await,
            (94..97, open) => self.reopen(open.is_some()).await,
            _ => {
                let step = statements::random(&mut self.rng, &self.tables);
                self.both(&step).await;
            }
        }
    }

    /// From another session, so that an open transaction goes on over it.
    async fn maintain(&mut self) {
        let table = self.tables.choose(&mut self.rng).unwrap().name.clone();
        let sql = match self.rng.random_range(0..5) {
            0..3 => "CHECKPOINT".to_owned(),
            3 => format!("OPTIMIZE {table}"),
            _ => "VACUUM".to_owned(),
        };
        self.log.push(format!("{sql} -- elsewhere"));
        if let Answer::Error(e) | Answer::Unsupported(e) = run(&self.database.session(), &sql).await {
            self.fail(&format!("{sql}: {e}"));
        }
    }

    async fn reopen(&mut self, transaction: bool) {
        self.log.push("-- reopened".to_owned());
        if transaction {
            self.sqlite.run("ROLLBACK");
            self.savepoints = None;
        }
        let (memory, session) = {
            let database = Database::open(None).await.unwrap();
            let session = database.session();
            (database, session)
        };
        // The folder's writer must be gone before the next one comes.
        drop(std::mem::replace(&mut self.session, session));
        drop(std::mem::replace(&mut self.database, memory));
        (self.database, self.session) = open(self.folder.path()).await;
    }

    async fn alter(&mut self) {
        let at = self.rng.random_range(0..self.tables.len());
        let mut table = self.tables[at].clone();
        let name = table.name.clone();
        let [triune, sqlite] = match self.rng.random_range(0..5) {
            3 => {
                let clause = table.fresh_generated(&mut self.rng).clause(true);
                clause.map(|c| format!("ALTER TABLE {name} ADD COLUMN {c}"))
            }
            4 => {
                if table.generated.is_empty() {
                    return;
                }
                let place = self.rng.random_range(0..table.generated.len());
                let gone = table.generated.remove(place);
                let sql = format!("ALTER TABLE {name} DROP COLUMN {}", gone.name);
                [sql.clone(), sql]
            }
            0 => {
                let clause = table.fresh_column(&mut self.rng).clone();
                if !clause.nullable && clause.default.is_none() {
                    return;
                }
                clause.clause().map(|c| format!("ALTER TABLE {name} ADD COLUMN {c}"))
            }
            1 => {
                let fitting: Vec<usize> =
                    (table.key..table.columns.len()).filter(|p| table.columns[*p].check.is_none()).collect();
                if table.columns.len() - table.key < 2 || fitting.is_empty() {
                    return;
                }
                let place = *fitting.choose(&mut self.rng).unwrap();
                let gone = table.columns.remove(place);
                let sql = format!("ALTER TABLE {name} DROP COLUMN {}", gone.name);
                [sql.clone(), sql]
            }
            _ => {
                let place = self.rng.random_range(table.key..table.columns.len());
                let old = table.columns[place].name.clone();
                let new = format!("r{old}");
                table.columns[place].check = table.columns[place].check.take().map(|c| c.replace(&old, &new));
                table.columns[place].name.clone_from(&new);
                let sql = format!("ALTER TABLE {name} RENAME COLUMN {old} TO {new}");
                [sql.clone(), sql]
            }
        };
        if self.both(&Step { triune, sqlite: vec![sqlite], counted: false }).await {
            self.tables[at] = table;
        }
    }

    async fn check(&mut self, all: bool) {
        for table in self.tables.clone() {
            self.ask(&queries::scan(&table)).await;
        }
        let mut fixed = queries::fixed(&mut self.rng, &self.tables);
        if !all {
            fixed = fixed.choose_multiple(&mut self.rng, 2).cloned().collect();
        }
        for query in &fixed {
            self.ask(query).await;
        }
        let query = queries::random(&mut self.rng, &self.tables);
        self.ask(&query).await;
    }
}

/// How many statements and queries were refused as unsupported.
async fn one(seed: u64) -> usize {
    let mut world = World::new(seed).await;
    for n in 1..=STEPS {
        world.step().await;
        world.check(n % 10 == 0).await;
    }
    if world.savepoints.is_some() {
        world.control("COMMIT").await;
    }
    world.reopen(false).await;
    world.check(true).await;
    if std::env::var_os("TRIUNE_SQL_LOG").is_some() {
        eprintln!("-- seed {seed}\n{};", world.log.join(";\n"));
    }
    world.refused
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().expect("a number"))
}

/// Planning recurses.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(32 << 20)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn correlated_queries_answer_as_sqlite_does() {
    let seeds = correlated::seeds(number);
    let mut refused = 0;
    runtime().block_on(async {
        for seed in &seeds {
            refused += SpawnedTask::spawn(correlated::one(*seed)).join().await.unwrap();
        }
    });
    assert!(!correlated::too_many(refused, seeds.len()), "{refused} were refused");
}

#[test]
fn triune_answers_as_sqlite_does() {
    let runtime = runtime();
    let seeds: Vec<u64> = match number("TRIUNE_SQL_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("TRIUNE_SQL_SEEDS").unwrap_or(SEEDS)).collect(),
    };
    let (count, mut refused) = (seeds.len(), 0);
    runtime.block_on(async {
        // Two at a time.
        for pair in seeds.chunks(2) {
            let tasks: Vec<_> = pair.iter().map(|seed| SpawnedTask::spawn(one(*seed))).collect();
            for task in tasks {
                refused += task.join().await.unwrap();
            }
        }
    });
    // About five statements and queries for each step.
    assert!(refused * 50 <= count * STEPS * 5, "{refused} of about {} were refused", count * STEPS * 5);
}
