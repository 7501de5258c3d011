//! Random queries with sub-queries that speak of any query around them, against SQLite.
//!
//! `TRIUNE_SQL_SEED=n` runs one seed, `TRIUNE_SQL_SEEDS=n` the first n.

use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use triune_query::Database;

use crate::answer::{Answer, run};
use crate::sqlite::Sqlite;

/// Seeds of a run of fixed length, and queries of each.
const SEEDS: u64 = 6;
const QUERIES: usize = 40;
/// Some wait for a processor that other tests have.
const LONGEST: Duration = Duration::from_secs(100);
const COLUMNS: [&str; 3] = ["id", "a", "b"];

/// Makes queries over the tables `t0`, `t1`, `t2`.
struct Maker {
    rng: ChaCha8Rng,
    /// Aliases that may be spoken of, the innermost one last.
    scope: Vec<String>,
    aliases: usize,
}

impl Maker {
    fn pick(&mut self, of: &[&str]) -> String {
        (*of.choose(&mut self.rng).unwrap()).to_owned()
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("x{}", self.aliases)
    }

    /// A table under a new alias.
    fn table(&mut self) -> (String, String) {
        let alias = self.alias();
        (format!("t{} AS {alias}", self.rng.random_range(0..3)), alias)
    }

    fn own(&mut self) -> String {
        let alias = self.scope.last().unwrap().clone();
        format!("{alias}.{}", self.pick(&COLUMNS))
    }

    fn any(&mut self) -> String {
        let alias = self.scope.choose(&mut self.rng).unwrap().clone();
        format!("{alias}.{}", self.pick(&COLUMNS))
    }

    fn term(&mut self) -> String {
        match self.rng.random_range(0..6) {
            0 => self.rng.random_range(-1..4).to_string(),
            1 => format!("({} + {})", self.own(), self.any()),
            2 | 3 => self.any(),
            _ => self.own(),
        }
    }

    fn condition(&mut self, depth: usize) -> String {
        let deepest = if depth == 0 { 4 } else { 12 };
        match self.rng.random_range(0..deepest) {
            0 => format!("{} IS NOT NULL", self.own()),
            1 | 2 => {
                let operator = self.pick(&["=", "<>", "<", "<=", ">"]);
                format!("{} {operator} {}", self.own(), self.any())
            }
            3 => {
                let operator = self.pick(&["=", "<", ">="]);
                format!("{} {operator} {}", self.term(), self.term())
            }
            4 | 5 => {
                let not = self.pick(&["", "NOT "]);
                format!("{not}EXISTS ({})", self.rows(depth - 1))
            }
            6 | 7 => {
                let operator = self.pick(&["=", "<", ">="]);
                format!("{} {operator} {}", self.term(), self.value(depth - 1))
            }
            8 => format!("{} IN ({})", self.own(), self.rows(depth - 1)),
            9 => format!("{} NOT IN ({})", self.own(), self.rows(depth - 1)),
            10 => format!("({} OR {})", self.condition(depth - 1), self.condition(depth - 1)),
            _ => format!("({} AND {})", self.condition(depth - 1), self.condition(depth - 1)),
        }
    }

    /// A sub-query of one column.
    fn rows(&mut self, depth: usize) -> String {
        match self.rng.random_range(0..8) {
            0 => {
                let (one, other) = (self.plain(depth, "", ""), self.plain(depth, "", ""));
                let set = self.pick(&["UNION ALL", "UNION"]);
                format!("{one} {set} {other}")
            }
            1 => self.plain(depth, "DISTINCT ", ""),
            2 => {
                let (table, alias) = self.table();
                let bound = self.any();
                self.scope.push(alias.clone());
                let filter = self.condition(depth);
                self.scope.pop();
                format!(
                    "SELECT max({alias}.b) FROM {table} WHERE {filter} GROUP BY {alias}.a HAVING count(*) > {bound}"
                )
            }
            3 => {
                let n = self.rng.random_range(0..3);
                self.plain(depth, "", &format!("LIMIT {n}"))
            }
            _ => self.plain(depth, "", ""),
        }
    }

    /// `SELECT x FROM t [JOIN u] WHERE …`; with a LIMIT ordered by a column without equals.
    fn plain(&mut self, depth: usize, distinct: &str, limit: &str) -> String {
        let (table, alias) = self.table();
        self.scope.push(alias.clone());
        let join = if limit.is_empty() && distinct.is_empty() && self.rng.random_bool(0.25) {
            let (table, other) = self.table();
            let kind = self.pick(&["JOIN", "LEFT JOIN"]);
            let (own, any) = (self.any(), self.any());
            format!(" {kind} {table} ON {other}.a = {own} AND {other}.id <> {any}")
        } else {
            String::new()
        };
        let item = self.own();
        let filter = self.condition(depth);
        self.scope.pop();
        let order = if limit.is_empty() { String::new() } else { format!(" ORDER BY {alias}.id {limit}") };
        format!("SELECT {distinct}{item} FROM {table}{join} WHERE {filter}{order}")
    }

    /// A sub-query that stands for a value.
    fn value(&mut self, depth: usize) -> String {
        match self.rng.random_range(0..6) {
            0 => {
                let skip = self.rng.random_range(0..3);
                format!("({})", self.plain(depth, "", &format!("LIMIT 1 OFFSET {skip}")))
            }
            1 => {
                let rows = self.rows(depth);
                let alias = self.alias();
                format!("(SELECT count(*) FROM ({rows}) AS {alias})")
            }
            _ => {
                let (table, alias) = self.table();
                self.scope.push(alias);
                let item = match self.rng.random_range(0..6) {
                    0 => "count(*)".to_owned(),
                    1 => format!("count({}) + 1", self.own()),
                    2 => format!("coalesce(sum({}), -1)", self.own()),
                    3 => format!("max({} * 2 - {})", self.own(), self.any()),
                    4 => format!("sum({} + {})", self.own(), self.any()),
                    _ => format!("min({})", self.own()),
                };
                let filter = self.condition(depth);
                self.scope.pop();
                format!("(SELECT {item} FROM {table} WHERE {filter})")
            }
        }
    }

    fn query(&mut self) -> String {
        let (table, alias) = self.table();
        self.scope = vec![alias.clone()];
        let mut items = vec![format!("{alias}.id AS c0")];
        for i in 1..=self.rng.random_range(0..3) {
            let item = match self.rng.random_range(0..3) {
                0 => format!("EXISTS ({})", self.rows(1)),
                1 => format!("{} + {}", self.own(), self.value(1)),
                _ => self.value(1),
            };
            items.push(format!("{item} AS c{i}"));
        }
        let filter = self.condition(3);
        format!("SELECT {} FROM {table} WHERE {filter} ORDER BY c0", items.join(", "))
    }
}

/// How many queries were refused as unsupported.
pub(crate) async fn one(seed: u64) -> usize {
    let mut maker = Maker { rng: ChaCha8Rng::seed_from_u64(seed), scope: vec![], aliases: 0 };
    let session = Database::open(None).await.unwrap().session();
    let mut sqlite = Sqlite::start();
    let mut tables = String::new();
    for n in 0..3 {
        let mut sql = vec![format!("CREATE TABLE t{n} (id BIGINT, a BIGINT, b BIGINT)")];
        for id in 0..maker.rng.random_range(0..7) {
            let mut number = || match maker.rng.random_range(0..5) {
                0 => "NULL".to_owned(),
                n => (n - 1).to_string(),
            };
            sql.push(format!("INSERT INTO t{n} VALUES ({id}, {}, {})", number(), number()));
        }
        for sql in sql {
            tables = tables + &sql + ";\n";
            sqlite.run(&sql);
            run(&session, &sql).await;
        }
    }
    let mut refused = 0;
    for _ in 0..QUERIES {
        let sql = maker.query();
        let Ok(triune) = tokio::time::timeout(LONGEST, run(&session, &sql)).await else {
            panic!("seed {seed}: no answer\n{tables}{sql}");
        };
        let expected = sqlite.run(&sql);
        assert!(!matches!(expected, Answer::Error(_)), "seed {seed}: {expected:?}\n{sql}");
        match triune {
            Answer::Unsupported(e) => {
                refused += 1;
                if std::env::var_os("TRIUNE_SQL_LOG").is_some() {
                    eprintln!("{e}\n{sql}");
                }
            }
            triune => {
                assert!(
                    triune.agrees(&expected, true),
                    "seed {seed}\n{tables}{sql}\nTriune: {triune:?}\nSQLite: {expected:?}"
                );
            }
        }
    }
    refused
}

/// The seeds to run.
pub(crate) fn seeds(number: impl Fn(&str) -> Option<u64>) -> Vec<u64> {
    match number("TRIUNE_SQL_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("TRIUNE_SQL_SEEDS").unwrap_or(SEEDS)).collect(),
    }
}

/// Whether so many refusals are too many.
pub(crate) fn too_many(refused: usize, seeds: usize) -> bool {
    refused * 20 > seeds * QUERIES
}
