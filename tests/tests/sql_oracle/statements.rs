//! Random statements that change rows, as Triune and as SQLite spell them.
//!
//! Left out, because SQLite goes row by row where Triune does a statement as a whole: keys that move over each other
//! within one UPDATE, sub-queries in SET that read the table that is changed, several new rows for one old one.

use std::collections::HashSet;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use crate::expr::{self, Scope, assigned, condition};
use crate::schema::{Kind, Table};

/// One statement. SQLite may need several for it; their counts are added up.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) triune: String,
    pub(crate) sqlite: Vec<String>,
    /// Whether the counts of rows must be the same.
    pub(crate) counted: bool,
}

impl Step {
    fn same(sql: String) -> Self {
        Self::of(sql.clone(), sql)
    }

    fn of(triune: String, sqlite: String) -> Self {
        Self { triune, sqlite: vec![sqlite], counted: true }
    }
}

/// A random statement on one of the tables.
pub(crate) fn random(rng: &mut ChaCha8Rng, tables: &[Table]) -> Step {
    let table = tables.choose(rng).unwrap();
    let others: Vec<Table> = tables.iter().filter(|t| t.name != table.name).cloned().collect();
    let keyed = table.key > 0;
    match rng.random_range(0..100) {
        0..26 => insert(rng, table, ""),
        26..34 => select(rng, table, tables),
        34..36 => Step::same(format!("INSERT INTO {} DEFAULT VALUES", table.name)),
        36..42 => insert(rng, table, " ON CONFLICT DO NOTHING"),
        42..52 if keyed => upsert(rng, table),
        52..55 if keyed => {
            let mut step = insert_distinct(rng, table, "");
            step.triune = step.triune.replacen("INSERT INTO", "INSERT OR REPLACE INTO", 1);
            step.sqlite[0] = step.sqlite[0].replacen("INSERT INTO", "INSERT OR REPLACE INTO", 1);
            step
        }
        55..58 => bulk(rng, table),
        58..71 => update(rng, table, tables, &others),
        71..76 if !others.is_empty() => update_from(rng, table, &others),
        76..80 if keyed => update_key(rng, table),
        80..85 => {
            let scope = Scope::of(table, &table.name, tables);
            let filter = condition(rng, &scope, 2);
            let returning = returning(rng, table);
            Step::same(format!("DELETE FROM {} WHERE {filter}{returning}", table.name))
        }
        85..89 if keyed => {
            Step::same(format!("DELETE FROM {} WHERE {}", table.name, by_key(rng, table, &table.name)))
        }
        89..93 => delete_using(rng, table, tables),
        93..98 if keyed => merge(rng, table, &others),
        98 => {
            let mut step =
                Step::of(format!("TRUNCATE TABLE {}", table.name), format!("DELETE FROM {}", table.name));
            step.counted = false;
            step
        }
        _ => insert(rng, table, ""),
    }
}

fn returning(rng: &mut ChaCha8Rng, table: &Table) -> String {
    if rng.random_bool(0.8) {
        return String::new();
    }
    let mut columns: Vec<String> = table.names().iter().map(|n| (*n).to_owned()).collect();
    if rng.random_bool(0.5) {
        columns.truncate(2);
        let scope =
            Scope { columns: table.columns.iter().map(|c| (c.name.clone(), c.kind)).collect(), tables: &[] };
        columns.push(format!("{} AS x", expr::expr(rng, &scope, Kind::Big, 1)));
    }
    format!(" RETURNING {}", columns.join(", "))
}

/// The whole key or, of two columns, sometimes the first.
pub(crate) fn by_key(rng: &mut ChaCha8Rng, table: &Table, alias: &str) -> String {
    let parts: Vec<String> = table.columns[..table.key]
        .iter()
        .map(|c| format!("{alias}.{} = {}", c.name, expr::literal(rng, c.kind)))
        .collect();
    if rng.random_bool(0.1) { parts[0].clone() } else { parts.join(" AND ") }
}

/// Places of the columns that an INSERT names: all, or some.
fn named(rng: &mut ChaCha8Rng, table: &Table) -> Option<Vec<usize>> {
    if rng.random_bool(0.5) {
        return None;
    }
    let mut places: Vec<usize> = (0..table.columns.len()).collect();
    places.retain(|p| {
        let column = &table.columns[*p];
        let safe = column.nullable || column.default.is_some();
        !rng.random_bool(if safe { 0.4 } else { 0.01 })
    });
    (!places.is_empty()).then_some(places)
}

/// A row of literals for some columns, for Triune and for SQLite, which knows no DEFAULT there.
fn row(rng: &mut ChaCha8Rng, table: &Table, places: &[usize]) -> [Vec<String>; 2] {
    let mut both = [vec![], vec![]];
    for place in places {
        let column = &table.columns[*place];
        let null = if column.nullable { 0.2 } else { 0.005 };
        let literal = expr::value(rng, column.kind, null);
        if rng.random_bool(0.05) {
            both[0].push("DEFAULT".to_owned());
            both[1].push(column.default.clone().unwrap_or_else(|| "NULL".to_owned()));
        } else {
            both[0].push(literal.clone());
            both[1].push(literal);
        }
    }
    both
}

fn insert_rows(
    rng: &mut ChaCha8Rng,
    table: &Table,
    count: usize,
    distinct: bool,
    wide: bool,
    tail: &str,
) -> Step {
    let places = named(rng, table);
    let all: Vec<usize> = places.clone().unwrap_or_else(|| (0..table.columns.len()).collect());
    let list = match &places {
        None => String::new(),
        Some(places) => {
            let names: Vec<&str> = places.iter().map(|p| table.columns[*p].name.as_str()).collect();
            format!(" ({})", names.join(", "))
        }
    };
    let mut seen = HashSet::new();
    let mut rows = [vec![], vec![]];
    for _ in 0..count {
        let mut both = row(rng, table, &all);
        for (at, place) in all.iter().enumerate() {
            if wide && *place < table.key && table.columns[*place].kind.is_int() {
                let n = rng.random_range(100..3000).to_string();
                both.iter_mut().for_each(|row| row[at].clone_from(&n));
            }
        }
        // What is left out of the key has its default, which may come twice.
        let key: Vec<String> = (0..table.key)
            .map(|k| all.iter().position(|p| *p == k).map_or(String::new(), |at| both[1][at].clone()))
            .collect();
        if distinct && !seen.insert(key) {
            continue;
        }
        for (rows, row) in rows.iter_mut().zip(both) {
            rows.push(format!("({})", row.join(", ")));
        }
    }
    let sql = |rows: &[String]| format!("INSERT INTO {}{list} VALUES {}{tail}", table.name, rows.join(", "));
    Step::of(sql(&rows[0]), sql(&rows[1]))
}

fn insert(rng: &mut ChaCha8Rng, table: &Table, tail: &str) -> Step {
    let tail = format!("{tail}{}", returning(rng, table));
    let count = rng.random_range(1..5);
    insert_rows(rng, table, count, false, false, &tail)
}

fn insert_distinct(rng: &mut ChaCha8Rng, table: &Table, tail: &str) -> Step {
    let count = rng.random_range(1..6);
    insert_rows(rng, table, count, true, false, tail)
}

/// Enough rows that a checkpoint has something to move.
fn bulk(rng: &mut ChaCha8Rng, table: &Table) -> Step {
    insert_rows(rng, table, 120, true, true, if table.key > 0 { " ON CONFLICT DO NOTHING" } else { "" })
}

fn upsert(rng: &mut ChaCha8Rng, table: &Table) -> Step {
    let scope = Scope::of(table, &table.name, &[]).and(table, "excluded");
    let sets: Vec<String> = table.columns[table.key..]
        .iter()
        .filter(|_| rng.random_bool(0.6))
        .map(|c| (c.name.clone(), c.kind))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|(name, kind)| match rng.random_range(0..3) {
            0 => format!("{name} = {}", assigned(rng, &scope, kind)),
            _ => format!("{name} = excluded.{name}"),
        })
        .collect();
    if sets.is_empty() {
        return insert_distinct(rng, table, " ON CONFLICT DO NOTHING");
    }
    let filter =
        if rng.random_bool(0.3) { format!(" WHERE {}", condition(rng, &scope, 1)) } else { String::new() };
    let tail = format!(
        " ON CONFLICT ({}) DO UPDATE SET {}{filter}{}",
        table.keys().join(", "),
        sets.join(", "),
        returning(rng, table)
    );
    insert_distinct(rng, table, &tail)
}

/// INSERT … SELECT; keys of the source's may be taken over, others fail where they meet.
fn select(rng: &mut ChaCha8Rng, table: &Table, tables: &[Table]) -> Step {
    let source = tables.choose(rng).unwrap();
    let scope = Scope::of(source, "s", tables);
    let class = |k: Kind| if k.is_int() { Kind::Big } else { k };
    let moves =
        table.key == 1 && source.key == 1 && class(table.columns[0].kind) == class(source.columns[0].kind);
    let items: Vec<String> = table
        .columns
        .iter()
        .enumerate()
        .map(|(i, c)| match (i, moves) {
            (0, true) if c.kind.is_int() && rng.random_bool(0.5) => "s.k0 + 40".to_owned(),
            (0, true) => "s.k0".to_owned(),
            _ => assigned(rng, &scope, c.kind),
        })
        .collect();
    let filter = condition(rng, &scope, 2);
    let tail = if moves && rng.random_bool(0.6) { " ON CONFLICT DO NOTHING" } else { "" };
    Step::same(format!(
        "INSERT INTO {} SELECT {} FROM {} AS s WHERE {filter}{tail}",
        table.name,
        items.join(", "),
        source.name
    ))
}

/// Assignments to some columns that are not in the key, `DEFAULT` among them.
fn sets(rng: &mut ChaCha8Rng, table: &Table, scope: &Scope<'_>) -> [String; 2] {
    let mut places: Vec<usize> = (table.key..table.columns.len()).filter(|_| rng.random_bool(0.5)).collect();
    if places.is_empty() {
        places.push(rng.random_range(table.key..table.columns.len()));
    }
    let mut both = [vec![], vec![]];
    for place in places {
        let column = &table.columns[place];
        let name = &column.name;
        if rng.random_bool(0.08) {
            both[0].push(format!("{name} = DEFAULT"));
            both[1].push(format!("{name} = {}", column.default.as_deref().unwrap_or("NULL")));
        } else {
            let value = assigned(rng, scope, column.kind);
            both.iter_mut().for_each(|b| b.push(format!("{name} = {value}")));
        }
    }
    both.map(|b| b.join(", "))
}

fn update(rng: &mut ChaCha8Rng, table: &Table, tables: &[Table], others: &[Table]) -> Step {
    let both = sets(rng, table, &Scope::of(table, &table.name, others));
    let filter = match rng.random_range(0..10) {
        0 => String::new(),
        1..5 if table.key > 0 => format!(" WHERE {}", by_key(rng, table, &table.name)),
        _ => format!(" WHERE {}", condition(rng, &Scope::of(table, &table.name, tables), 2)),
    };
    let returning = returning(rng, table);
    let [triune, sqlite] = both.map(|sets| format!("UPDATE {} SET {sets}{filter}{returning}", table.name));
    Step::of(triune, sqlite)
}

/// A condition that finds at most one row of `other` for each of `table`.
fn one_to_one(rng: &mut ChaCha8Rng, table: &Table, other: &Table) -> Option<String> {
    if other.key != 1 {
        return None;
    }
    let key = other.columns[0].kind;
    let fitting: Vec<&str> = table
        .columns
        .iter()
        .filter(|c| if key.is_int() { c.kind.is_int() } else { c.kind == key })
        .map(|c| c.name.as_str())
        .collect();
    fitting.choose(rng).map(|c| format!("{}.{c} = s.k0", table.name))
}

fn update_from(rng: &mut ChaCha8Rng, table: &Table, others: &[Table]) -> Step {
    let other = others.choose(rng).unwrap();
    let Some(join) = one_to_one(rng, table, other) else { return insert(rng, table, "") };
    let scope = Scope::of(table, &table.name, &[]).and(other, "s");
    let both = sets(rng, table, &scope);
    let filter = condition(rng, &scope, 1);
    let [triune, sqlite] = both.map(|sets| {
        format!("UPDATE {} SET {sets} FROM {} AS s WHERE {join} AND {filter}", table.name, other.name)
    });
    Step::of(triune, sqlite)
}

/// One row moves to another key, which may be taken.
fn update_key(rng: &mut ChaCha8Rng, table: &Table) -> Step {
    let column = table.columns[..table.key].choose(rng).unwrap();
    let parts: Vec<String> = table.columns[..table.key]
        .iter()
        .map(|c| format!("{} = {}", c.name, expr::literal(rng, c.kind)))
        .collect();
    let to = expr::literal(rng, column.kind);
    Step::same(format!("UPDATE {} SET {} = {to} WHERE {}", table.name, column.name, parts.join(" AND ")))
}

fn delete_using(rng: &mut ChaCha8Rng, table: &Table, tables: &[Table]) -> Step {
    let other = tables.choose(rng).unwrap();
    let scope = Scope::of(table, &table.name, &[]).and(other, "s");
    let filter = condition(rng, &scope, 1);
    let Some(join) = one_to_one(rng, table, other) else { return insert(rng, table, "") };
    Step::of(
        format!("DELETE FROM {} USING {} AS s WHERE {join} AND {filter}", table.name, other.name),
        format!(
            "DELETE FROM {} WHERE EXISTS (SELECT 1 FROM {} AS s WHERE {join} AND {filter})",
            table.name, other.name
        ),
    )
}

fn merge(rng: &mut ChaCha8Rng, table: &Table, others: &[Table]) -> Step {
    let Some(other) = others.choose(rng) else { return insert(rng, table, "") };
    let class = |k: Kind| if k.is_int() { Kind::Big } else { k };
    if table.key != 1 || other.key != 1 || class(table.columns[0].kind) != class(other.columns[0].kind) {
        return update_from(rng, table, others);
    }
    let name = &table.name;
    let source = format!("{} AS s", other.name);
    let on = format!("{name}.k0 = s.k0");
    let scope = Scope::of(table, name, &[]).and(other, "s");
    let [ours, theirs] = sets(rng, table, &scope);
    let filter = condition(rng, &scope, 1);
    let update = format!("UPDATE {name} SET {theirs} FROM {source} WHERE {on}");
    let (branches, sqlite) = if rng.random_bool(0.5) {
        let only_source = Scope::of(other, "s", &[]);
        let values: Vec<String> =
            table.columns[1..].iter().map(|c| assigned(rng, &only_source, c.kind)).collect();
        let values = format!("s.k0, {}", values.join(", "));
        (
            format!(
                "WHEN MATCHED AND {filter} THEN UPDATE SET {ours} WHEN NOT MATCHED THEN INSERT ({}) VALUES ({values})",
                table.given().join(", ")
            ),
            vec![
                format!("{update} AND {filter}"),
                format!(
                    "INSERT INTO {name} SELECT {values} FROM {source} WHERE NOT EXISTS (SELECT 1 FROM {name} WHERE {on})"
                ),
            ],
        )
    } else {
        (
            format!("WHEN MATCHED AND {filter} THEN DELETE WHEN MATCHED THEN UPDATE SET {ours}"),
            vec![
                format!("DELETE FROM {name} WHERE EXISTS (SELECT 1 FROM {source} WHERE {on} AND {filter})"),
                update,
            ],
        )
    };
    Step { triune: format!("MERGE INTO {name} USING {source} ON {on} {branches}"), sqlite, counted: true }
}
