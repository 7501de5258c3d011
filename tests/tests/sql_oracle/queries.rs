//! The queries that are asked after every step, and one at random.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use crate::expr::{self, Scope, condition, expr};
use crate::schema::{Kind, Table};
use crate::statements::by_key;

/// A query, and whether the order of its rows counts.
pub(crate) type Query = (String, bool);

/// All rows of a table, in order.
pub(crate) fn scan(table: &Table) -> Query {
    let order: Vec<String> = (1..=table.names().len()).map(|n| format!("{n} NULLS FIRST")).collect();
    (format!("SELECT {} FROM {} ORDER BY {}", table.names().join(", "), table.name, order.join(", ")), true)
}

/// The fixed set: aggregates, groups, look-ups and ranges by key, joins.
pub(crate) fn fixed(rng: &mut ChaCha8Rng, tables: &[Table]) -> Vec<Query> {
    let mut queries = Vec::new();
    for table in tables {
        let name = &table.name;
        let aggregates: Vec<String> = table
            .columns
            .iter()
            .flat_map(|c| {
                let n = &c.name;
                let mut all = vec![format!("count({n})"), format!("min({n})"), format!("max({n})")];
                match c.kind {
                    Kind::Text => all.push(format!("count(DISTINCT {n})")),
                    Kind::Bool => {}
                    _ => all.extend([format!("sum({n})"), format!("avg({n})")]),
                }
                all
            })
            .collect();
        queries.push((format!("SELECT count(*), {} FROM {name}", aggregates.join(", ")), false));
        let last = table.columns.last().unwrap();
        queries.push((
            format!(
                "SELECT {0}, count(*), count(DISTINCT {1}) FROM {name} GROUP BY {0} HAVING count(*) > 1",
                last.name, table.columns[0].name
            ),
            false,
        ));
        if table.key > 0 {
            let columns = table.names().join(", ");
            for _ in 0..2 {
                let key = by_key(rng, table, name);
                queries.push((format!("SELECT {columns} FROM {name} WHERE {key}"), false));
            }
            let first = &table.columns[0];
            let (low, high) = (expr::literal(rng, first.kind), expr::literal(rng, first.kind));
            let range = format!("SELECT {columns} FROM {name} WHERE k0 >= {low} AND k0 < {high} ORDER BY k0");
            queries.push((range, false));
        }
        let other = tables.choose(rng).unwrap();
        let kind = |k: Kind| k.is_int();
        let ours: Vec<_> = table.columns.iter().filter(|c| kind(c.kind)).collect();
        let theirs: Vec<_> = other.columns.iter().filter(|c| kind(c.kind)).collect();
        if let (Some(a), Some(b)) = (ours.choose(rng), theirs.choose(rng)) {
            let join = ["JOIN", "LEFT JOIN"].choose(rng).unwrap();
            queries.push((
                format!(
                    "SELECT count(*), sum(a.{0}), sum(b.{1}) FROM {name} AS a {join} {2} AS b ON a.{0} = b.{1}",
                    a.name, b.name, other.name
                ),
                false,
            ));
        }
    }
    queries
}

pub(crate) fn random(rng: &mut ChaCha8Rng, tables: &[Table]) -> Query {
    let table = tables.choose(rng).unwrap();
    let scope = Scope::of(table, "t", tables);
    let kinds = [Kind::Big, Kind::Text, Kind::Bool, Kind::Double];
    let items: Vec<String> = (0..rng.random_range(1..4))
        .map(|i| {
            let kind = *kinds.choose(rng).unwrap();
            format!("{} AS x{i}", expr(rng, &scope, kind, 2))
        })
        .collect();
    let filter = condition(rng, &scope, 2);
    (format!("SELECT {} FROM {} AS t WHERE {filter}", items.join(", "), table.name), false)
}
