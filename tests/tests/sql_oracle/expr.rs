//! Random expressions of the common subset.
//!
//! Left out, because the two differ by design: integer division and division by zero, casts of fractions to integers,
//! upper and lower case beyond ASCII, texts as numbers. Numbers stay small, so that nothing overflows.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use crate::schema::{Kind, Table};

const TEXTS: [&str; 12] = ["", "a", "b", "ab", "abc", "b a", "it''s", "é", "日本", "100%", "a_b", "Zed"];

pub(crate) fn literal(rng: &mut ChaCha8Rng, kind: Kind) -> String {
    match kind {
        Kind::Small | Kind::Int | Kind::Big => rng.random_range(-9..40).to_string(),
        Kind::Real | Kind::Double => format!("{:?}", f64::from(rng.random_range(-40..400)) * 0.25),
        Kind::Text => format!("'{}'", TEXTS.choose(rng).unwrap()),
        Kind::Bool => ["TRUE", "FALSE"].choose(rng).unwrap().to_string(),
    }
}

/// A literal, sometimes NULL.
pub(crate) fn value(rng: &mut ChaCha8Rng, kind: Kind, null: f64) -> String {
    if rng.random_bool(null) { "NULL".to_owned() } else { literal(rng, kind) }
}

/// What expressions may name: columns as they are written, and tables for sub-queries.
pub(crate) struct Scope<'a> {
    pub(crate) columns: Vec<(String, Kind)>,
    pub(crate) tables: &'a [Table],
}

impl<'a> Scope<'a> {
    /// The columns of a table under an alias.
    pub(crate) fn of(table: &Table, alias: &str, tables: &'a [Table]) -> Self {
        Self { columns: columns_of(table, alias), tables }
    }

    pub(crate) fn and(mut self, table: &Table, alias: &str) -> Self {
        self.columns.extend(columns_of(table, alias));
        self
    }

    fn column(&self, rng: &mut ChaCha8Rng, of: impl Fn(Kind) -> bool) -> Option<String> {
        let fitting: Vec<&(String, Kind)> = self.columns.iter().filter(|(_, k)| of(*k)).collect();
        fitting.choose(rng).map(|(name, _)| name.clone())
    }
}

fn columns_of(table: &Table, alias: &str) -> Vec<(String, Kind)> {
    let given = table.columns.iter().map(|c| (&c.name, c.kind));
    let generated = table.generated.iter().map(|g| (&g.name, g.kind));
    given.chain(generated).map(|(name, kind)| (format!("{alias}.{name}"), kind)).collect()
}

/// An expression whose value may be assigned to a column of this kind.
pub(crate) fn assigned(rng: &mut ChaCha8Rng, scope: &Scope<'_>, kind: Kind) -> String {
    match kind {
        k if k.is_int() => format!("({}) % 90", expr(rng, scope, Kind::Big, 2)),
        Kind::Text => format!("substr({}, 1, 8)", expr(rng, scope, Kind::Text, 2)),
        // Four bytes keep fewer digits than SQLite's eight: no arithmetic.
        Kind::Real => {
            let column = scope.column(rng, |k| k == Kind::Real);
            match column {
                Some(c) if rng.random_bool(0.5) => format!("coalesce({c}, {})", literal(rng, Kind::Real)),
                _ => value(rng, Kind::Real, 0.1),
            }
        }
        kind => expr(rng, scope, kind, 2),
    }
}

pub(crate) fn expr(rng: &mut ChaCha8Rng, scope: &Scope<'_>, kind: Kind, depth: u32) -> String {
    if depth == 0 || rng.random_bool(0.25) {
        let of = |k: Kind| if kind.is_int() { k.is_int() } else { k == kind };
        return match scope.column(rng, of) {
            Some(column) if rng.random_bool(0.7) => column,
            _ => value(rng, kind, 0.05),
        };
    }
    let depth = depth - 1;
    match rng.random_range(0..3) {
        0 => {
            let (when, a, b) =
                (condition(rng, scope, depth), expr(rng, scope, kind, depth), expr(rng, scope, kind, depth));
            return format!("CASE WHEN {when} THEN {a} ELSE {b} END");
        }
        1 => {
            let (a, b) = (expr(rng, scope, kind, depth), literal(rng, kind));
            return format!("coalesce({a}, {b})");
        }
        _ => {}
    }
    let of = |rng: &mut ChaCha8Rng, kind| expr(rng, scope, kind, depth);
    match kind {
        Kind::Small | Kind::Int | Kind::Big => match rng.random_range(0..8) {
            0 => format!("({} + {})", of(rng, Kind::Big), of(rng, Kind::Big)),
            1 => format!("({} - {})", of(rng, Kind::Big), of(rng, Kind::Big)),
            2 => format!("({} * {})", of(rng, Kind::Big), rng.random_range(-2..4)),
            3 => format!("({} % 7)", of(rng, Kind::Big)),
            4 => format!("abs({})", of(rng, Kind::Big)),
            5 => format!("length({})", of(rng, Kind::Text)),
            6 if !scope.tables.is_empty() => scalar(rng, scope),
            _ => format!("nullif({}, {})", of(rng, Kind::Big), literal(rng, Kind::Big)),
        },
        Kind::Real | Kind::Double => match rng.random_range(0..3) {
            0 => format!("({} + {})", of(rng, Kind::Double), of(rng, Kind::Double)),
            1 => format!("({} - 0.25)", of(rng, Kind::Double)),
            _ => format!("CAST({} AS DOUBLE)", of(rng, Kind::Big)),
        },
        Kind::Text => match rng.random_range(0..4) {
            0 => format!("({} || {})", of(rng, Kind::Text), of(rng, Kind::Text)),
            1 => format!("replace({}, 'a', 'bb')", of(rng, Kind::Text)),
            2 => format!("substr({}, 2)", of(rng, Kind::Text)),
            _ => format!("CAST({} AS TEXT)", of(rng, Kind::Big)),
        },
        Kind::Bool => condition(rng, scope, depth),
    }
}

/// A sub-query of one value, correlated or not.
fn scalar(rng: &mut ChaCha8Rng, scope: &Scope<'_>) -> String {
    let table = scope.tables.choose(rng).unwrap();
    let inner = Scope::of(table, "q", &[]);
    let what = match inner.column(rng, Kind::is_int) {
        Some(column) => {
            format!("{}(q.{})", ["max", "min", "count", "sum"].choose(rng).unwrap(), &column[2..])
        }
        None => "count(*)".to_owned(),
    };
    let filter = correlation(rng, scope, &inner).map(|c| format!(" WHERE {c}")).unwrap_or_default();
    format!("(SELECT {what} FROM {} AS q{filter})", table.name)
}

/// A condition between the query around and a sub-query's table.
fn correlation(rng: &mut ChaCha8Rng, scope: &Scope<'_>, inner: &Scope<'_>) -> Option<String> {
    if rng.random_bool(0.3) {
        return None;
    }
    let kind = if rng.random_bool(0.7) { Kind::Big } else { Kind::Text };
    let of = |k: Kind| if kind.is_int() { k.is_int() } else { k == kind };
    Some(format!("{} = {}", inner.column(rng, of)?, scope.column(rng, of)?))
}

pub(crate) fn condition(rng: &mut ChaCha8Rng, scope: &Scope<'_>, depth: u32) -> String {
    let kinds = [Kind::Big, Kind::Big, Kind::Text, Kind::Double];
    if depth > 0 {
        let depth = depth - 1;
        match rng.random_range(0..9) {
            0 => return format!("({} AND {})", condition(rng, scope, depth), condition(rng, scope, depth)),
            1 => return format!("({} OR {})", condition(rng, scope, depth), condition(rng, scope, depth)),
            2 => return format!("NOT ({})", condition(rng, scope, depth)),
            3 if !scope.tables.is_empty() => return exists(rng, scope),
            4 if !scope.tables.is_empty() => return within(rng, scope),
            _ => {}
        }
    }
    let kind = *kinds.choose(rng).unwrap();
    let of = |rng: &mut ChaCha8Rng, kind| expr(rng, scope, kind, depth.min(1));
    match rng.random_range(0..10) {
        0 => format!("{} IS NULL", of(rng, kind)),
        1 => format!("{} IS NOT NULL", of(rng, kind)),
        2 => {
            let list: Vec<String> = (0..rng.random_range(1..4)).map(|_| literal(rng, kind)).collect();
            let not = if rng.random_bool(0.3) { "NOT " } else { "" };
            format!("{} {not}IN ({})", of(rng, kind), list.join(", "))
        }
        3 => format!("{} BETWEEN {} AND {}", of(rng, kind), literal(rng, kind), literal(rng, kind)),
        4 => {
            let pattern = ["a%", "%b", "_b%", "%a%", "", "%é", "Z%"].choose(rng).unwrap();
            format!("{} LIKE '{pattern}'", of(rng, Kind::Text))
        }
        5 => match scope.column(rng, |k| k == Kind::Bool) {
            Some(column) => column,
            None => "TRUE".to_owned(),
        },
        6 => format!("{} IS DISTINCT FROM {}", of(rng, kind), of(rng, kind)),
        _ => {
            let operator = ["=", "=", "<", "<=", ">", ">=", "<>"].choose(rng).unwrap();
            format!("{} {operator} {}", of(rng, kind), of(rng, kind))
        }
    }
}

fn exists(rng: &mut ChaCha8Rng, scope: &Scope<'_>) -> String {
    let table = scope.tables.choose(rng).unwrap();
    let inner = Scope::of(table, "q", &[]);
    let mut filters = vec![condition(rng, &inner, 1)];
    filters.extend(correlation(rng, scope, &inner));
    let not = if rng.random_bool(0.4) { "NOT " } else { "" };
    format!("{not}EXISTS (SELECT 1 FROM {} AS q WHERE {})", table.name, filters.join(" AND "))
}

fn within(rng: &mut ChaCha8Rng, scope: &Scope<'_>) -> String {
    let table = scope.tables.choose(rng).unwrap();
    let inner = Scope::of(table, "q", &[]);
    let kind = if rng.random_bool(0.8) { Kind::Big } else { Kind::Text };
    let of = |k: Kind| if kind.is_int() { k.is_int() } else { k == kind };
    let (Some(outside), Some(inside)) = (scope.column(rng, of), inner.column(rng, of)) else {
        return exists(rng, scope);
    };
    let filter =
        if rng.random_bool(0.5) { format!(" WHERE {}", condition(rng, &inner, 1)) } else { String::new() };
    let not = if rng.random_bool(0.4) { "NOT " } else { "" };
    format!("{outside} {not}IN (SELECT {inside} FROM {} AS q{filter})", table.name)
}
