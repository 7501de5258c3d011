//! Columns and constraints of a definition, from their clauses.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    self, ColumnOption, Expr, GeneratedAs, GeneratedExpressionMode, SequenceOptions, SqlOption,
    TableConstraint, UnaryOperator, Value,
};
use triune_common::names::did_you_mean;
use triune_common::{Error, Result};
use triune_storage::key::can_be_key;
use triune_storage::table::{CheckDef, ColumnDef, Identity, TableDef, TableOptions};

use super::types;
use crate::models::constants;
use crate::parser::normalize;
use crate::session::SessionCore;

/// The columns that hidden columns are called by.
const RESERVED: [&str; 1] = [triune_storage::key::RID];

/// A constraint that still has to be looked at when all columns are known.
#[derive(Debug, Default)]
pub(crate) struct Constraints {
    primary_key: Option<Vec<String>>,
    unique: Vec<Vec<String>>,
}

/// Adds a column to a definition; its constraints go into `def` and `constraints`.
pub(crate) async fn add(
    core: &Arc<SessionCore>,
    table: &str,
    def: &mut TableDef,
    column: &ast::ColumnDef,
    constraints: &mut Constraints,
) -> Result<()> {
    let field = types::declared(core, column).await?;
    let name = field.name().clone();
    check_new_name(def, &name)?;
    let mut made = plain(def.last_column + 1, field);
    if types::serial(&column.data_type).is_some() {
        made.identity = Some(Identity { always: false, start: 1, increment: 1 });
        made.field = made.field.with_nullable(false);
    }
    if let Some(longest) = types::longest(&column.data_type) {
        def.checks.push(CheckDef {
            name: free_check_name(def, &format!("{table}_{name}_length")),
            sql: format!("{}{longest}", length_check(&name)),
        });
    }
    let mut nullable = None;
    for option in &column.options {
        match &option.option {
            ColumnOption::Null => nullable = Some(true),
            ColumnOption::NotNull => made.field = made.field.with_nullable(false),
            ColumnOption::Default(expr) => made.default = Some(expr.to_string()),
            ColumnOption::PrimaryKey(_) => {
                made.field = made.field.with_nullable(false);
                set_key(constraints, vec![name.clone()])?;
            }
            ColumnOption::Unique(_) => constraints.unique.push(vec![name.clone()]),
            ColumnOption::Check(check) => {
                let given = option.name.as_ref().or(check.name.as_ref()).map(normalize);
                add_check(def, table, given, &check.expr, Some(&name), check.enforced)?;
            }
            ColumnOption::Comment(text) => made.comment = Some(text.clone()),
            ColumnOption::Generated { generated_as, sequence_options, generation_expr: None, .. } => {
                let always = match generated_as {
                    GeneratedAs::Always => true,
                    GeneratedAs::ByDefault => false,
                    GeneratedAs::ExpStored => return Err(not_stored(&name)),
                };
                made.identity =
                    Some(identity(&name, always, sequence_options.as_deref().unwrap_or_default())?);
                made.field = made.field.with_nullable(false);
            }
            ColumnOption::Generated {
                generation_expr: Some(expr),
                generation_expr_mode: Some(GeneratedExpressionMode::Stored),
                ..
            } => {
                let mut expr = expr.clone();
                constants::name_models(core, &mut expr)?;
                made.generated = Some(expr.to_string());
            }
            ColumnOption::Generated { .. } => return Err(not_stored(&name)),
            ColumnOption::ForeignKey(_) => return Err(references()),
            other => {
                return Err(Error::unsupported(format!("the column \"{name}\": {other} is not supported")));
            }
        }
    }
    if nullable == Some(true) && !made.field.is_nullable() {
        return Err(Error::invalid(format!("the column \"{name}\" is declared both NULL and NOT NULL")));
    }
    if made.identity.is_some() {
        if made.default.is_some() {
            return Err(Error::invalid(format!("the column \"{name}\" has both an identity and a DEFAULT")));
        }
        if !made.field.data_type().is_integer() {
            return Err(Error::invalid(format!(
                "the identity column \"{name}\" must be SMALLINT, INTEGER or BIGINT"
            )));
        }
    }
    if made.generated.is_some() && (made.default.is_some() || made.identity.is_some()) {
        let other = if made.identity.is_some() { "an identity" } else { "a DEFAULT" };
        return Err(Error::invalid(format!("the column \"{name}\" is generated and has {other}")));
    }
    def.last_column = made.id;
    def.columns.push(made);
    Ok(())
}

/// A column without clauses.
pub(super) fn plain(id: u32, field: arrow::datatypes::Field) -> ColumnDef {
    ColumnDef { id, field, default: None, identity: None, generated: None, comment: None }
}

/// Generated columns read what is given, not each other: there is no order to compute them in.
pub(super) fn check_generated(def: &TableDef) -> Result<()> {
    for column in &def.columns {
        let Some(sql) = &column.generated else { continue };
        for other in def.columns.iter().filter(|c| c.generated.is_some()) {
            if super::alter::mentions(sql, other.field.name())? {
                return Err(Error::invalid(format!(
                    "the generated column \"{}\" reads the generated column \"{}\"",
                    column.field.name(),
                    other.field.name()
                ))
                .with_hint("write its expression out instead"));
            }
        }
    }
    Ok(())
}

pub(crate) fn check_new_name(def: &TableDef, name: &str) -> Result<()> {
    if RESERVED.contains(&name) || name.starts_with('@') {
        return Err(Error::invalid(format!("a column cannot be called \"{name}\"")));
    }
    if name.is_empty() {
        return Err(Error::invalid("a column needs a name"));
    }
    if def.column(name).is_some() {
        return Err(Error::invalid(format!("the column \"{name}\" is there twice")));
    }
    Ok(())
}

fn not_stored(name: &str) -> Error {
    Error::unsupported(format!("the column \"{name}\": virtual columns are not supported"))
        .with_hint("write GENERATED ALWAYS AS (…) STORED, or compute it in a view")
}

pub(crate) fn references() -> Error {
    Error::unsupported("REFERENCES and FOREIGN KEY are not supported")
        .with_hint("leave the clause out; joins do not need it")
}

/// What a `VARCHAR(n)` asks of its column, without the number.
pub(super) fn length_check(column: &str) -> String {
    format!("character_length({}) <= ", quote(column))
}

/// The most characters that the checks of a table allow a column by its type.
pub(crate) fn longest(def: &TableDef, column: &str) -> Option<u64> {
    let prefix = length_check(column);
    def.checks.iter().find_map(|check| check.sql.strip_prefix(&prefix)?.parse().ok())
}

pub(super) fn set_key(constraints: &mut Constraints, columns: Vec<String>) -> Result<()> {
    if constraints.primary_key.is_some() {
        return Err(Error::invalid("a table has one PRIMARY KEY")
            .with_hint("a key of several columns is written PRIMARY KEY (a, b)"));
    }
    constraints.primary_key = Some(columns);
    Ok(())
}

pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(super) fn free_check_name(def: &TableDef, base: &str) -> String {
    let mut name = base.to_owned();
    let mut n = 0;
    while def.checks.iter().any(|c| c.name == name) {
        n += 1;
        name = format!("{base}{n}");
    }
    name
}

pub(crate) fn add_check(
    def: &mut TableDef,
    table: &str,
    name: Option<String>,
    expr: &Expr,
    column: Option<&str>,
    enforced: Option<bool>,
) -> Result<()> {
    if enforced == Some(false) {
        return Err(Error::unsupported("CHECK … NOT ENFORCED is not supported"));
    }
    let name = match name {
        Some(name) if def.checks.iter().any(|c| c.name == name) => {
            return Err(Error::new(
                triune_common::ErrorKind::AlreadyExists,
                format!("the constraint \"{name}\" exists already"),
            ));
        }
        Some(name) => name,
        None => {
            let base = column.map_or_else(|| format!("{table}_check"), |c| format!("{table}_{c}_check"));
            free_check_name(def, &base)
        }
    };
    def.checks.push(CheckDef { name, sql: expr.to_string() });
    Ok(())
}

/// Table-level constraints.
pub(crate) fn add_constraint(
    def: &mut TableDef,
    table: &str,
    constraint: &TableConstraint,
    constraints: &mut Constraints,
) -> Result<()> {
    let plain = |columns: &[ast::IndexColumn]| {
        columns
            .iter()
            .map(|c| match &c.column.expr {
                Expr::Identifier(name) => Ok(normalize(name)),
                other => Err(Error::invalid(format!("a key takes columns, not {other}"))),
            })
            .collect::<Result<Vec<_>>>()
    };
    match constraint {
        TableConstraint::PrimaryKey(key) => set_key(constraints, plain(&key.columns)?),
        TableConstraint::Unique(unique) => {
            constraints.unique.push(plain(&unique.columns)?);
            Ok(())
        }
        TableConstraint::Check(check) => {
            let name = check.name.as_ref().map(normalize);
            add_check(def, table, name, &check.expr, None, check.enforced)
        }
        TableConstraint::ForeignKey(_) => Err(references()),
        other => Err(Error::unsupported(format!("the constraint {other} is not supported"))),
    }
}

/// Looks the keys up, when all columns are there.
pub(crate) fn settle(def: &mut TableDef, constraints: Constraints) -> Result<()> {
    if let Some(key) = constraints.primary_key {
        let mut seen = HashSet::new();
        for name in &key {
            if !seen.insert(name.clone()) {
                return Err(Error::invalid(format!("the column \"{name}\" is twice in the PRIMARY KEY")));
            }
            let column = find_mut(def, name)?;
            if !can_be_key(column.field.data_type()) {
                return Err(Error::unsupported(format!(
                    "the column \"{name}\" of type {} cannot be part of a primary key",
                    crate::types::sql_type_name(&column.field)
                ))
                .with_hint("use numbers, texts, binaries, dates, times, timestamps, booleans or UUIDs"));
            }
            column.field = column.field.clone().with_nullable(false);
        }
        def.primary_key = key;
    }
    for unique in constraints.unique {
        for name in &unique {
            find_mut(def, name)?;
        }
        let same = unique.iter().collect::<HashSet<_>>() == def.primary_key.iter().collect::<HashSet<_>>();
        if !same {
            return Err(Error::unsupported(format!(
                "UNIQUE ({}) is not supported besides the primary key",
                unique.join(", ")
            ))
            .with_hint(
                "only the PRIMARY KEY is kept unique: make these columns the key, or leave UNIQUE out",
            ));
        }
    }
    Ok(())
}

pub(crate) fn find_mut<'a>(def: &'a mut TableDef, name: &str) -> Result<&'a mut ColumnDef> {
    match def.columns.iter().position(|c| c.field.name() == name) {
        Some(place) => Ok(&mut def.columns[place]),
        None => {
            let error = Error::not_found(format!("there is no column \"{name}\""));
            Err(match did_you_mean(name, def.columns.iter().map(|c| c.field.name().as_str())) {
                Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
                None => error,
            })
        }
    }
}

fn identity(name: &str, always: bool, options: &[SequenceOptions]) -> Result<Identity> {
    let (mut start, mut increment) = (None, 1);
    for option in options {
        match option {
            SequenceOptions::StartWith(value, _) => start = Some(whole(name, value)?),
            SequenceOptions::IncrementBy(value, _) => increment = whole(name, value)?,
            SequenceOptions::MinValue(None)
            | SequenceOptions::MaxValue(None)
            | SequenceOptions::Cycle(true) => {}
            SequenceOptions::Cache(_) => {}
            other => {
                return Err(Error::unsupported(format!(
                    "the identity of \"{name}\":{other} is not supported"
                ))
                .with_hint("it takes START WITH and INCREMENT BY"));
            }
        }
    }
    if increment == 0 {
        return Err(Error::invalid(format!("the identity of \"{name}\" must not be INCREMENT BY 0")));
    }
    Ok(Identity { always, start: start.unwrap_or(if increment < 0 { -1 } else { 1 }), increment })
}

fn whole(name: &str, expr: &Expr) -> Result<i64> {
    let found = match expr {
        Expr::Value(v) => match &v.value {
            Value::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => whole(name, expr)?.checked_neg(),
        _ => None,
    };
    found.ok_or_else(|| Error::invalid(format!("the identity of \"{name}\" takes whole numbers, not {expr}")))
}

/// `CLUSTER BY (a, b)`
pub(crate) fn cluster(def: &mut TableDef, exprs: &[Expr]) -> Result<()> {
    let mut names = Vec::with_capacity(exprs.len());
    for expr in exprs {
        let Expr::Identifier(name) = expr else {
            return Err(Error::unsupported(format!("CLUSTER BY takes columns, not {expr}")));
        };
        let name = normalize(name);
        let column = find_mut(def, &name)?;
        if !can_be_key(column.field.data_type()) {
            return Err(Error::unsupported(format!(
                "rows cannot be clustered by \"{name}\" of type {}",
                crate::types::sql_type_name(&column.field)
            )));
        }
        if names.contains(&name) {
            return Err(Error::invalid(format!("the column \"{name}\" is twice in CLUSTER BY")));
        }
        names.push(name);
    }
    def.cluster_by = names;
    Ok(())
}

/// `WITH (retention = '7 days')`
pub(crate) fn options(current: &TableOptions, given: &[SqlOption]) -> Result<TableOptions> {
    let mut options = current.clone();
    for option in given {
        let SqlOption::KeyValue { key, value } = option else {
            return Err(Error::invalid(format!("{option} is no option of a table")).with_hint(OPTIONS));
        };
        let text = match value {
            Expr::Value(v) => match &v.value {
                Value::Number(n, _) => Some(format!("{n} seconds")),
                other => other.clone().into_string(),
            },
            _ => None,
        };
        let text = text.ok_or_else(|| {
            Error::invalid(format!("the option {key} takes a text, not {value}")).with_hint(OPTIONS)
        })?;
        match normalize(key).as_str() {
            "retention" => {
                options.retention_seconds = seconds(&text).ok_or_else(|| {
                    Error::invalid(format!("'{text}' is no time for the option retention"))
                        .with_hint("write '30 minutes', '12 hours' or '7 days'")
                })?;
            }
            other => {
                return Err(Error::not_found(format!("a table has no option {other}")).with_hint(OPTIONS));
            }
        }
    }
    Ok(options)
}

const OPTIONS: &str = "a table has retention = '7 days'";

/// `7 days`, `1 day 12 hours`, `0`
fn seconds(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words == ["0"] {
        return Some(0);
    }
    if words.is_empty() || !words.len().is_multiple_of(2) {
        return None;
    }
    let mut total = 0_u64;
    for pair in words.chunks(2) {
        let number: u64 = pair[0].parse().ok()?;
        let unit = match pair[1].to_ascii_lowercase().trim_end_matches('s') {
            "second" | "sec" => 1,
            "minute" | "min" => 60,
            "hour" => 3_600,
            "day" => 86_400,
            "week" => 7 * 86_400,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_retention() {
        assert_eq!(seconds("7 days"), Some(604_800));
        assert_eq!(seconds("1 day 12 hours"), Some(129_600));
        assert_eq!(seconds("0"), Some(0));
        for wrong in ["", "7", "days", "7 moons", "-1 days", "99999999999999999999 days"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
