//! Random tables.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use crate::expr::{self, Scope};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Small,
    Int,
    Big,
    Real,
    Double,
    Text,
    Bool,
}

impl Kind {
    pub(crate) fn is_int(self) -> bool {
        matches!(self, Self::Small | Self::Int | Self::Big)
    }

    fn triune(self) -> &'static str {
        match self {
            Self::Small => "SMALLINT",
            Self::Int => "INT",
            Self::Big => "BIGINT",
            Self::Real => "REAL",
            Self::Double => "DOUBLE",
            Self::Text => "TEXT",
            Self::Bool => "BOOLEAN",
        }
    }

    /// The types of STRICT tables, in which SQLite keeps what it is given.
    fn sqlite(self) -> &'static str {
        match self {
            Self::Small | Self::Int | Self::Big | Self::Bool => "INT",
            Self::Real | Self::Double => "REAL",
            Self::Text => "TEXT",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    /// A literal.
    pub(crate) default: Option<String>,
    pub(crate) check: Option<String>,
}

impl Column {
    fn random(rng: &mut ChaCha8Rng, name: String) -> Self {
        let kind = *[Kind::Small, Kind::Int, Kind::Big, Kind::Real, Kind::Double, Kind::Text, Kind::Bool]
            .choose(rng)
            .unwrap();
        let check = rng.random_bool(0.2).then(|| match kind {
            Kind::Text => format!("length({name}) <= 9"),
            Kind::Bool => format!("{name} IS NOT NULL OR 1 = 1"),
            Kind::Real | Kind::Double => format!("{name} < 90.5"),
            _ => format!("{name} BETWEEN -95 AND 95"),
        });
        let nullable = rng.random_bool(0.7);
        let default = rng.random_bool(if nullable { 0.3 } else { 0.6 }).then(|| expr::literal(rng, kind));
        Self { name, kind, nullable, default, check }
    }

    /// Its clause for Triune and for SQLite.
    pub(crate) fn clause(&self) -> [String; 2] {
        let mut rest = String::new();
        if !self.nullable {
            rest += " NOT NULL";
        }
        if let Some(default) = &self.default {
            rest += &format!(" DEFAULT {default}");
        }
        if let Some(check) = &self.check {
            rest += &format!(" CHECK ({check})");
        }
        [self.kind.triune(), self.kind.sqlite()].map(|t| format!("{} {t}{rest}", self.name))
    }
}

/// A column that is computed from the others.
#[derive(Debug, Clone)]
pub(crate) struct Generated {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    expression: String,
}

impl Generated {
    /// Its clause; SQLite can only add one that it does not keep, which reads the same.
    pub(crate) fn clause(&self, added: bool) -> [String; 2] {
        let Self { name, kind, expression } = self;
        let kept = if added { "VIRTUAL" } else { "STORED" };
        let clause = |t: &str, kept: &str| format!("{name} {t} GENERATED ALWAYS AS ({expression}) {kept}");
        [clause(kind.triune(), "STORED"), clause(kind.sqlite(), kept)]
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// Those that rows are given for.
    pub(crate) columns: Vec<Column>,
    pub(crate) generated: Vec<Generated>,
    /// The first columns are the key.
    pub(crate) key: usize,
    fresh: usize,
}

impl Table {
    pub(crate) fn random(rng: &mut ChaCha8Rng, name: String) -> Self {
        let key = *[0, 1, 1, 1, 2, 2].choose(rng).unwrap();
        let mut columns = Vec::new();
        for i in 0..key {
            let kind = *[Kind::Int, Kind::Big, Kind::Text, Kind::Small].choose(rng).unwrap();
            let default = rng.random_bool(0.1).then(|| expr::literal(rng, kind));
            columns.push(Column { name: format!("k{i}"), kind, nullable: false, default, check: None });
        }
        let mut table = Self { name, columns, generated: vec![], key, fresh: 0 };
        for _ in 0..rng.random_range(1..=4) {
            table.fresh_column(rng);
        }
        for _ in 0..*[0, 0, 1, 2].choose(rng).unwrap() {
            table.fresh_generated(rng);
        }
        table
    }

    pub(crate) fn fresh_generated(&mut self, rng: &mut ChaCha8Rng) -> &Generated {
        let columns = self.columns.iter().map(|c| (c.name.clone(), c.kind)).collect();
        let kind = *[Kind::Int, Kind::Big, Kind::Double, Kind::Text, Kind::Bool].choose(rng).unwrap();
        let scope = Scope { columns, tables: &[] };
        // SQLite's LIKE depends on a setting, and is not taken there.
        let expression = loop {
            let expression = expr::assigned(rng, &scope, kind);
            if !expression.contains(" LIKE ") {
                break expression;
            }
        };
        self.generated.push(Generated { name: format!("g{}", self.fresh), kind, expression });
        self.fresh += 1;
        self.generated.last().unwrap()
    }

    pub(crate) fn fresh_column(&mut self, rng: &mut ChaCha8Rng) -> &Column {
        let name = format!("c{}", self.fresh);
        self.fresh += 1;
        self.columns.push(Column::random(rng, name));
        self.columns.last().unwrap()
    }

    pub(crate) fn keys(&self) -> Vec<&str> {
        self.columns[..self.key].iter().map(|c| c.name.as_str()).collect()
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.given().into_iter().chain(self.generated.iter().map(|g| g.name.as_str())).collect()
    }

    /// The columns that rows are given for.
    pub(crate) fn given(&self) -> Vec<&str> {
        self.columns.iter().map(|c| c.name.as_str()).collect()
    }

    pub(crate) fn create(&self) -> [String; 2] {
        let generated = self.generated.iter().map(|g| g.clause(false));
        let clauses: Vec<[String; 2]> = self.columns.iter().map(Column::clause).chain(generated).collect();
        let key = match self.keys().as_slice() {
            [] => String::new(),
            keys => format!(", PRIMARY KEY ({})", keys.join(", ")),
        };
        // Without ROWID keys are NOT NULL, as the standard says, and none of them counts by itself.
        let options = if self.key == 0 { " STRICT" } else { " STRICT, WITHOUT ROWID" };
        [0, 1].map(|of| {
            let columns: Vec<&str> = clauses.iter().map(|c| c[of].as_str()).collect();
            let options = if of == 0 { "" } else { options };
            format!("CREATE TABLE {} ({}{key}){options}", self.name, columns.join(", "))
        })
    }
}
