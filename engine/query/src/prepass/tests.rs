//! Random statements in our words through a session, and in plain words through DataFusion alone: the same rows, and
//! the names that the statement gives.

#![expect(clippy::disallowed_methods, reason = "DataFusion alone is what the session is compared with")]

use std::collections::HashMap;

use arrow::array::{Int32Array, RecordBatch, StringArray};
use arrow::util::display::array_value_to_string;
use datafusion::prelude::SessionContext;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::Database;

const BASE: [&str; 3] = ["id", "n", "s"];

/// An item of a select list.
#[derive(Debug, Clone, PartialEq)]
enum Item {
    All,
    /// A term as we write it, and the same in plain words.
    Term {
        ours: String,
        plain: String,
        alias: Option<&'static str>,
    },
}

impl Item {
    fn ours(&self) -> String {
        match self {
            Self::All => "*".to_owned(),
            Self::Term { ours, alias: Some(alias), .. } => format!("{ours} AS {alias}"),
            Self::Term { ours, .. } => ours.clone(),
        }
    }

    /// What the user reads above the column.
    fn label(&self) -> Option<String> {
        match self {
            Self::All => None,
            Self::Term { alias: Some(alias), .. } => Some((*alias).to_owned()),
            Self::Term { ours, .. } => {
                let column = ours.strip_prefix("t.").unwrap_or(ours);
                Some(if BASE.contains(&column) { column.to_owned() } else { ours.clone() })
            }
        }
    }
}

#[derive(Debug, Clone)]
struct Query {
    items: Vec<Item>,
    distinct: bool,
    filter: bool,
    fetch: bool,
    from_first: bool,
    /// As `SELECT * FROM (…)`, or in a CTE.
    within: Option<bool>,
}

fn item() -> impl Strategy<Value = Item> {
    let term = prop_oneof![
        4 => prop::sample::select(vec!["id", "n", "s", "t.id", "t.n"]).prop_map(|c| (c.to_owned(), c.to_owned())),
        1 => Just(("n + 1".to_owned(), "n + 1".to_owned())),
        1 => Just(("length(s)".to_owned(), "character_length(s)".to_owned())),
        1 => Just(("(SELECT n * 2)".to_owned(), "(n * 2)".to_owned())),
        1 => Just(("(SELECT (SELECT id) - n)".to_owned(), "(id - n)".to_owned())),
        1 => Just(("(SELECT max(n) FROM t)".to_owned(), "(SELECT max(n) FROM t)".to_owned())),
    ];
    let alias = prop::option::weighted(0.4, prop::sample::select(vec!["id", "n", "x"]));
    prop_oneof![
        1 => Just(Item::All),
        6 => (term, alias).prop_map(|((ours, plain), alias)| Item::Term { ours, plain, alias }),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    let items = prop::collection::vec(item(), 1..5)
        .prop_filter("one star", |items| items.iter().filter(|i| **i == Item::All).count() <= 1);
    (items, any::<[bool; 4]>(), prop::option::weighted(0.4, any::<bool>())).prop_map(
        |(items, [distinct, filter, fetch, from_first], within)| Query {
            items,
            distinct,
            // Inside, a condition would use a name that may mean several columns.
            filter: filter && within.is_none(),
            fetch,
            from_first,
            within,
        },
    )
}

impl Query {
    /// In our words.
    fn ours(&self) -> String {
        let items: Vec<String> = self.items.iter().map(Item::ours).collect();
        let select = format!("SELECT {}{}", if self.distinct { "DISTINCT " } else { "" }, items.join(", "));
        let mut sql = if self.from_first { format!("FROM t {select}") } else { format!("{select} FROM t") };
        if self.filter {
            sql += " WHERE t.id > 1";
        }
        match self.within {
            Some(true) => sql = format!("SELECT * FROM ({sql}) AS q"),
            Some(false) => sql = format!("WITH q AS ({sql}) SELECT * FROM q"),
            None => {}
        }
        if self.fetch { format!("{sql} FETCH FIRST 100 ROWS ONLY") } else { sql }
    }

    /// For DataFusion: every column under a name of its own.
    fn plain(&self) -> String {
        let terms = self.items.iter().flat_map(|item| match item {
            Item::All => BASE.map(str::to_owned).to_vec(),
            Item::Term { plain, .. } => vec![plain.clone()],
        });
        let terms: Vec<String> = terms.enumerate().map(|(i, t)| format!("{t} AS c{i}")).collect();
        let distinct = if self.distinct { "DISTINCT " } else { "" };
        let filter = if self.filter { " WHERE t.id > 1" } else { "" };
        format!("SELECT {distinct}{} FROM t{filter}", terms.join(", "))
    }

    /// The names of the result, by the table in `labels.rs`.
    fn names(&self) -> Vec<String> {
        let all = self.items.contains(&Item::All);
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut names = vec![];
        for item in &self.items {
            let Some(label) = item.label() else {
                names.extend(BASE.map(str::to_owned));
                continue;
            };
            let times = *seen.entry(label.clone()).and_modify(|n| *n += 1).or_insert(0);
            let term = |i: &Item| match i {
                Item::All => String::new(),
                Item::Term { ours, .. } => ours.clone(),
            };
            let differ = self
                .items
                .iter()
                .any(|other| other.label().as_deref() == Some(label.as_str()) && term(other) != term(item));
            let beside = all && BASE.contains(&label.as_str());
            let keeps = self.within.is_none() || differ || beside || times == 0;
            names.push(if keeps { label } else { format!("{label}_{times}") });
        }
        names
    }
}

fn rows(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = batches
        .iter()
        .flat_map(|b| {
            (0..b.num_rows())
                .map(|row| b.columns().iter().map(|c| array_value_to_string(c, row).unwrap()).collect())
        })
        .collect();
    rows.sort();
    rows
}

#[test]
fn rewrites_change_neither_rows_nor_names() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (session, plain) = runtime.block_on(async {
        let session = Database::open(None).await.unwrap().session();
        let data = "CREATE TABLE t (id INT, n INT, s VARCHAR) AS VALUES (1, 10, 'a'), (2, 20, 'bb'), (3, NULL, NULL)";
        session.execute(data).await.unwrap();
        let plain = SessionContext::new();
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("id", std::sync::Arc::new(Int32Array::from(vec![1, 2, 3])) as _, true),
            ("n", std::sync::Arc::new(Int32Array::from(vec![Some(10), Some(20), None])) as _, true),
            ("s", std::sync::Arc::new(StringArray::from(vec![Some("a"), Some("bb"), None])) as _, true),
        ]);
        plain.register_batch("t", batch.unwrap()).unwrap();
        (session, plain)
    });
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    runner
        .run(&query(), |query| {
            let expected =
                runtime.block_on(async { plain.sql(&query.plain()).await.unwrap().collect().await.unwrap() });
            let (names, found) = runtime
                .block_on(async {
                    let result = session.execute(&query.ours()).await?;
                    let fields = result.schema();
                    let names: Vec<String> = fields.fields().iter().map(|f| f.name().clone()).collect();
                    Ok::<_, triune_common::Error>((names, result.collect().await?))
                })
                .map_err(|e| TestCaseError::fail(format!("{}: {e}", query.ours())))?;
            prop_assert_eq!(rows(&found), rows(&expected), "{}", query.ours());
            prop_assert_eq!(names, query.names(), "{}", query.ours());
            for batch in &found {
                prop_assert_eq!(batch.num_columns(), query.names().len());
            }
            Ok(())
        })
        .unwrap();
}
