//! `ALTER TABLE` and `COMMENT ON`.
//!
//! ```sql
//! ALTER TABLE docs ADD COLUMN lang TEXT DEFAULT 'en', DROP COLUMN draft;
//! ALTER TABLE docs RENAME COLUMN stars TO rating;
//! ALTER TABLE docs ALTER COLUMN rating TYPE DOUBLE, ADD CONSTRAINT positive CHECK (rating >= 0);
//! ALTER TABLE docs SET (retention = '30 days');
//! COMMENT ON COLUMN docs.rating IS 'from 0 to 5';
//! ```
//!
//! Each action is a change of its own, in the order written; the first that fails leaves those before it done.
//! A constraint is published first and then checked against the rows that are there, so that no row can slip in
//! between; where one breaks it, the constraint is taken back.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    self, AlterColumnOperation, AlterTable, AlterTableOperation, CommentObject, Expr, ObjectName,
    RenameTableNameKind, TableConstraint,
};
use futures::FutureExt;
use triune_common::names::did_you_mean;
use triune_common::{Error, ErrorKind, Result};
use triune_storage::store::{Fill, SchemaChange};
use triune_storage::table::{CheckDef, TableDef};

use super::columns::{self, Constraints, find_mut, quote};
use super::{create, publish, types};
use crate::commands::qualified;
use crate::dml;
use crate::params::Params;
use crate::parser::{name_parts, normalize, parse_query};
use crate::result::QueryResult;
use crate::session::SessionCore;
use crate::transaction;
use crate::visit;

pub(crate) async fn run(core: &Arc<SessionCore>, alter: &AlterTable) -> Result<QueryResult> {
    const DONE: &str = "ALTER TABLE";
    transaction::refuse_in_transaction(core, DONE)?;
    if alter.on_cluster.is_some() || alter.location.is_some() || alter.table_type.is_some() {
        return Err(Error::unsupported("ALTER TABLE takes none of ON CLUSTER, LOCATION and table types"));
    }
    let mut name = alter.name.clone();
    for operation in &alter.operations {
        let def = match dml::target::find(core, &name, "ALTER TABLE") {
            Err(e) if alter.if_exists && e.kind() == ErrorKind::NotFound => break,
            other => other?,
        };
        if let AlterTableOperation::RenameTable { table_name } = operation {
            name = rename_table(core, &name, table_name).await?;
            continue;
        }
        let plain = qualified(&name)?.1;
        let mut next = def.as_ref().clone();
        next.revision += 1;
        let Some((change, proof)) = apply(core, &plain, &mut next, operation).await? else { continue };
        // Mistakes in expressions show before anything is changed.
        transaction::scoped(core, create::verify_rules(core, &next, &plain)).await?;
        core.database().store().alter_table(next.clone(), change).boxed().await?;
        publish(core, &plain, &next).await?;
        if let Some(proof) = proof
            && let Err(error) = prove(core, &name, &proof).await
        {
            let mut back = def.as_ref().clone();
            back.revision = next.revision + 1;
            let added = next.columns.iter().find(|c| def.columns.iter().all(|old| old.id != c.id));
            let change = match &proof {
                Proof::Check(_) => match added {
                    Some(column) => SchemaChange::DropColumn { name: column.field.name().clone() },
                    None => SchemaChange::Definition,
                },
                Proof::NotNull(column) => SchemaChange::RetypeColumn { name: column.clone() },
            };
            core.database().store().alter_table(back.clone(), change).boxed().await?;
            publish(core, &plain, &back).await?;
            return Err(error);
        }
    }
    Ok(QueryResult::command(DONE, None))
}

/// What the rows that are there must fulfil.
enum Proof {
    Check(CheckDef),
    NotNull(String),
}

type Applied = Option<(SchemaChange, Option<Proof>)>;

/// Changes the definition; `None` when there is nothing to do.
async fn apply(
    core: &Arc<SessionCore>,
    table: &str,
    def: &mut TableDef,
    operation: &AlterTableOperation,
) -> Result<Applied> {
    use AlterTableOperation as Op;
    match operation {
        Op::AddColumn { if_not_exists, column_def, column_position: None, .. } => {
            if def.column(&normalize(&column_def.name)).is_some() {
                if *if_not_exists {
                    return Ok(None);
                }
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    format!("the column \"{}\" exists already", normalize(&column_def.name)),
                ));
            }
            add_column(core, table, def, column_def).await.map(Some)
        }
        Op::DropColumn { column_names, if_exists, .. } => {
            let [name] = column_names.as_slice() else {
                return Err(Error::unsupported("DROP COLUMN takes one column")
                    .with_hint("DROP COLUMN a, DROP COLUMN b"));
            };
            drop_column(def, &normalize(name), *if_exists)
        }
        Op::RenameColumn { old_column_name, new_column_name } => {
            let (from, to) = (normalize(old_column_name), normalize(new_column_name));
            if from == to {
                return Ok(None);
            }
            rename_column(def, &from, &to)?;
            Ok(Some((SchemaChange::RenameColumn { from, to }, None)))
        }
        Op::AlterColumn { column_name, op } => alter_column(core, def, &normalize(column_name), op).await,
        Op::AddConstraint { constraint: TableConstraint::Check(check), not_valid: false } => {
            let name = check.name.as_ref().map(normalize);
            columns::add_check(def, table, name, &check.expr, None, check.enforced)?;
            let added = def.checks.last().cloned().map(Proof::Check);
            Ok(Some((SchemaChange::Definition, added)))
        }
        Op::AddConstraint { constraint: TableConstraint::ForeignKey(_), .. } => Err(columns::references()),
        Op::AddConstraint { constraint, .. } => {
            Err(Error::unsupported(format!("ALTER TABLE … ADD {constraint} is not supported"))
                .with_hint("CREATE TABLE … AS makes a table with another key"))
        }
        Op::DropConstraint { if_exists, name, .. } => {
            let name = normalize(name);
            let before = def.checks.len();
            def.checks.retain(|c| c.name != name);
            if def.checks.len() == before {
                if *if_exists {
                    return Ok(None);
                }
                if name == format!("{table}_pkey") {
                    return Err(Error::unsupported("a primary key cannot be dropped"));
                }
                let error = Error::not_found(format!("no constraint is called \"{name}\""));
                return Err(match did_you_mean(&name, def.checks.iter().map(|c| c.name.as_str())) {
                    Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
                    None => error,
                });
            }
            Ok(Some((SchemaChange::Definition, None)))
        }
        Op::RenameConstraint { old_name, new_name } => {
            let (from, to) = (normalize(old_name), normalize(new_name));
            if def.checks.iter().any(|c| c.name == to) {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    format!("the constraint \"{to}\" exists already"),
                ));
            }
            let check = def.checks.iter_mut().find(|c| c.name == from);
            check.ok_or_else(|| Error::not_found(format!("no constraint is called \"{from}\"")))?.name = to;
            Ok(Some((SchemaChange::Definition, None)))
        }
        Op::SetOptionsParens { options } => {
            def.options = columns::options(&def.options, options)?;
            Ok(Some((SchemaChange::Definition, None)))
        }
        Op::ClusterBy { exprs } => {
            columns::cluster(def, exprs)?;
            Ok(Some((SchemaChange::Definition, None)))
        }
        other => Err(Error::unsupported(format!("ALTER TABLE … {other} is not supported"))),
    }
}

async fn add_column(
    core: &Arc<SessionCore>,
    table: &str,
    def: &mut TableDef,
    column: &ast::ColumnDef,
) -> Result<(SchemaChange, Option<Proof>)> {
    let checks = def.checks.len();
    let mut constraints = Constraints::default();
    columns::add(core, table, def, column, &mut constraints).await?;
    let key = def.primary_key.clone();
    columns::settle(def, constraints)?;
    if def.primary_key != key {
        return Err(Error::unsupported("a primary key cannot be added")
            .with_hint("CREATE TABLE … AS makes a table with another key"));
    }
    let added = def.columns.last().cloned().ok_or_else(|| Error::internal("a column was not added"))?;
    let name = added.field.name().clone();
    if added.identity.is_some() {
        return Err(Error::unsupported(format!("the identity column \"{name}\" cannot be added to a table")));
    }
    let fill = match &added.default {
        _ if added.generated.is_some() => {
            columns::check_generated(def)?;
            transaction::scoped(core, dml::generated::fill(core, def, table)).await?
        }
        None => Fill::Value(ScalarValue::try_from(added.field.data_type())?),
        Some(text) => Fill::Value(constant(core, &added.field, text).await?),
    };
    if matches!(&fill, Fill::Value(value) if value.is_null()) && !added.field.is_nullable() {
        return Err(Error::new(
            ErrorKind::Constraint,
            format!("the column \"{name}\" is NOT NULL and has no DEFAULT for the rows that are there"),
        )
        .with_hint("give it a DEFAULT, or add it as NULL and fill it first"));
    }
    if def.checks.len() > checks + 1 {
        return Err(Error::unsupported("ADD COLUMN takes one CHECK").with_hint("ADD CONSTRAINT adds more"));
    }
    let proof = def.checks.get(checks).cloned().map(Proof::Check);
    Ok((SchemaChange::AddColumn { name, fill }, proof))
}

/// The DEFAULT of a new column for rows that are there: one value for all.
async fn constant(
    core: &Arc<SessionCore>,
    field: &arrow::datatypes::Field,
    text: &str,
) -> Result<ScalarValue> {
    let query = parse_query(&format!("SELECT ({text}) AS v"))?;
    let plan = core.plan(ast::Statement::Query(query), &Params::None).await?;
    for expr in plan.expressions() {
        if expr.is_volatile() {
            return Err(Error::unsupported(format!("the DEFAULT {text} has another value for each row"))
                .with_hint("add the column without it, UPDATE it, then SET DEFAULT"));
        }
    }
    let result = core.start(&plan).await?;
    let fields = dml::fields_of(&plan, &result.schema());
    let batches = result.collect().await?;
    let batch = batches.iter().find(|b| b.num_rows() > 0);
    let batch = batch.ok_or_else(|| Error::invalid(format!("the DEFAULT {text} has no value")))?;
    let value = dml::to_column(batch.column(0), &fields[0], field)?;
    Ok(ScalarValue::try_from_array(&value, 0)?)
}

fn drop_column(def: &mut TableDef, name: &str, if_exists: bool) -> Result<Applied> {
    if def.column(name).is_none() && if_exists {
        return Ok(None);
    }
    find_mut(def, name)?;
    if def.primary_key.iter().any(|k| k == name) {
        return Err(Error::invalid(format!("the column \"{name}\" is part of the primary key")));
    }
    if let Some(reader) = reader_of(def, name)? {
        return Err(Error::invalid(format!("the generated column \"{reader}\" is computed from \"{name}\""))
            .with_hint(format!("drop \"{reader}\" first")));
    }
    if def.cluster_by.iter().any(|k| k == name) {
        return Err(Error::invalid(format!("the table is clustered by the column \"{name}\"")));
    }
    if def.columns.len() == 1 {
        return Err(
            Error::invalid(format!("\"{name}\" is the table's only column")).with_hint("use DROP TABLE")
        );
    }
    // As in PostgreSQL, constraints on the column go with it.
    let mut kept = Vec::new();
    for check in std::mem::take(&mut def.checks) {
        if !mentions(&check.sql, name)? {
            kept.push(check);
        }
    }
    def.checks = kept;
    def.indexes.retain(|i| !i.columns.iter().any(|c| c == name));
    def.columns.retain(|c| c.field.name() != name);
    Ok(Some((SchemaChange::DropColumn { name: name.to_owned() }, None)))
}

/// The column that an expression of a definition names.
fn column_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(normalize(name)),
        Expr::CompoundIdentifier(parts) => parts.last().map(normalize),
        _ => None,
    }
}

/// The generated column that is computed from another one.
fn reader_of<'a>(def: &'a TableDef, column: &str) -> Result<Option<&'a str>> {
    for other in def.columns.iter().filter(|c| c.field.name() != column) {
        if let Some(sql) = &other.generated
            && mentions(sql, column)?
        {
            return Ok(Some(other.field.name()));
        }
    }
    Ok(None)
}

/// Whether an expression of a definition reads a column.
pub(super) fn mentions(sql: &str, column: &str) -> Result<bool> {
    let expr = dml::rows::expression(sql)?;
    Ok(visit::any(&expr, |e| column_of(e).as_deref() == Some(column)))
}

fn rename_column(def: &mut TableDef, from: &str, to: &str) -> Result<()> {
    find_mut(def, from)?;
    if def.column(to).is_some() {
        return Err(Error::new(ErrorKind::AlreadyExists, format!("the column \"{to}\" exists already")));
    }
    columns::check_new_name(def, to)?;
    let column = find_mut(def, from)?;
    column.field = column.field.clone().with_name(to);
    for name in def.primary_key.iter_mut().chain(&mut def.cluster_by) {
        if name == from {
            to.clone_into(name);
        }
    }
    for name in def.indexes.iter_mut().flat_map(|i| &mut i.columns) {
        if name == from {
            to.clone_into(name);
        }
    }
    for check in &mut def.checks {
        check.sql = renamed(&check.sql, from, to)?;
    }
    for sql in def.columns.iter_mut().filter_map(|c| c.generated.as_mut()) {
        *sql = renamed(sql, from, to)?;
    }
    Ok(())
}

fn renamed(sql: &str, from: &str, to: &str) -> Result<String> {
    let mut expr = dml::rows::expression(sql)?;
    rename_in(&mut expr, from, to);
    Ok(match expr {
        Expr::Nested(inner) => inner.to_string(),
        other => other.to_string(),
    })
}

fn rename_in(tree: &mut Expr, from: &str, to: &str) {
    visit::expressions_mut(tree, |e| {
        if column_of(e).as_deref() != Some(from) {
            return;
        }
        match e {
            Expr::Identifier(name) => *name = ast::Ident::with_quote('"', to),
            Expr::CompoundIdentifier(parts) => {
                if let Some(last) = parts.last_mut() {
                    *last = ast::Ident::with_quote('"', to);
                }
            }
            _ => {}
        }
    });
}

async fn alter_column(
    core: &Arc<SessionCore>,
    def: &mut TableDef,
    name: &str,
    operation: &AlterColumnOperation,
) -> Result<Applied> {
    let in_key = def.primary_key.iter().any(|k| k == name);
    let reader = reader_of(def, name)?.map(str::to_owned);
    let column = find_mut(def, name)?;
    if column.generated.is_some() {
        match operation {
            AlterColumnOperation::SetDefault { .. } | AlterColumnOperation::DropDefault => {
                return Err(Error::invalid(format!("the generated column \"{name}\" takes no DEFAULT")));
            }
            AlterColumnOperation::SetDataType { .. } => {
                return Err(Error::unsupported(format!(
                    "the type of the generated column \"{name}\" cannot change"
                ))
                .with_hint("drop it and add it anew"));
            }
            _ => {}
        }
    }
    Ok(Some(match operation {
        AlterColumnOperation::SetDefault { value } => {
            if column.identity.is_some() {
                return Err(Error::invalid(format!("the identity column \"{name}\" takes no DEFAULT")));
            }
            column.default = Some(value.to_string());
            (SchemaChange::Definition, None)
        }
        AlterColumnOperation::DropDefault => {
            column.default = None;
            (SchemaChange::Definition, None)
        }
        AlterColumnOperation::SetNotNull => {
            if !column.field.is_nullable() {
                return Ok(None);
            }
            column.field = column.field.clone().with_nullable(false);
            let proof = Proof::NotNull(name.to_owned());
            (SchemaChange::RetypeColumn { name: name.to_owned() }, Some(proof))
        }
        AlterColumnOperation::DropNotNull => {
            if in_key {
                return Err(Error::invalid(format!("the column \"{name}\" is part of the primary key")));
            }
            if column.identity.is_some() {
                return Err(Error::invalid(format!("the column \"{name}\" is an identity")));
            }
            if column.field.is_nullable() {
                return Ok(None);
            }
            column.field = column.field.clone().with_nullable(true);
            (SchemaChange::RetypeColumn { name: name.to_owned() }, None)
        }
        AlterColumnOperation::SetDataType { data_type, using, .. } => {
            if using.is_some() {
                return Err(Error::unsupported("ALTER COLUMN … TYPE with USING is not supported")
                    .with_hint("add a column, UPDATE it, drop the old one, rename the new one"));
            }
            if in_key {
                return Err(Error::unsupported(format!(
                    "the type of \"{name}\" cannot change, it is part of the primary key"
                )));
            }
            if let Some(reader) = &reader {
                return Err(Error::unsupported(format!(
                    "the type of \"{name}\" cannot change, the generated column \"{reader}\" is computed from it"
                ))
                .with_hint(format!("drop \"{reader}\" first")));
            }
            if types::serial(data_type).is_some() {
                return Err(Error::invalid(format!("{data_type} is no type that a column can change to")));
            }
            let declared = ast::ColumnDef {
                name: ast::Ident::with_quote('"', name),
                data_type: data_type.clone(),
                options: vec![],
            };
            let field = types::declared(core, &declared).await?;
            let column = find_mut(def, name)?;
            if column.identity.is_some() && !field.data_type().is_integer() {
                return Err(Error::invalid(format!("the identity column \"{name}\" must stay an integer")));
            }
            let field = field.with_nullable(column.field.is_nullable());
            if field == column.field {
                return Ok(None);
            }
            column.field = field;
            let field = column.field.clone();
            super::indexes::retype(def, &field)?;
            (SchemaChange::RetypeColumn { name: name.to_owned() }, None)
        }
        other => return Err(Error::unsupported(format!("ALTER COLUMN … {other} is not supported"))),
    }))
}

/// Looks for a row that breaks the new constraint.
async fn prove(core: &Arc<SessionCore>, table: &ObjectName, proof: &Proof) -> Result<()> {
    let (condition, error) = match proof {
        Proof::Check(check) => (
            format!("NOT ({})", check.sql),
            format!("check constraint \"{}\" is violated by some row", check.name),
        ),
        Proof::NotNull(column) => {
            (format!("{} IS NULL", quote(column)), format!("column \"{column}\" contains null values"))
        }
    };
    // Its own scope: the snapshot must be newer than the published constraint.
    let rows = transaction::fresh(core, async {
        let query = parse_query(&format!("SELECT 1 FROM {table} WHERE {condition} LIMIT 1"))?;
        let plan = core.plan(ast::Statement::Query(query), &Params::None).await?;
        core.start(&plan).await?.collect().await
    })
    .await?;
    if rows.iter().any(|b| b.num_rows() > 0) {
        return Err(Error::new(ErrorKind::Constraint, error));
    }
    Ok(())
}

async fn rename_table(
    core: &Arc<SessionCore>,
    from: &ObjectName,
    to: &RenameTableNameKind,
) -> Result<ObjectName> {
    let (RenameTableNameKind::As(to) | RenameTableNameKind::To(to)) = to;
    let (schema, old) = qualified(from)?;
    let new = match name_parts(to).as_slice() {
        [name] => name.clone(),
        [other, name] if *other == schema => name.clone(),
        _ => return Err(Error::unsupported("a table keeps its schema when it is renamed")),
    };
    core.database()
        .change_catalog(|catalog| {
            let entry = catalog.schemas.get_mut(&schema);
            let relations =
                &mut entry.ok_or_else(|| Error::not_found("the schema was dropped meanwhile"))?.relations;
            if relations.contains_key(&new) {
                return Err(Error::new(ErrorKind::AlreadyExists, format!("\"{new}\" exists already")));
            }
            let mut relation = relations
                .remove(&old)
                .ok_or_else(|| Error::not_found(format!("the table \"{old}\" was dropped meanwhile")))?;
            if let Some(def) = &relation.table {
                relation.sql = super::show::create_statement(&schema, &new, def);
            }
            relations.insert(new.clone(), relation);
            Ok(())
        })
        .await?;
    Ok(ObjectName::from(vec![ast::Ident::with_quote('"', &schema), ast::Ident::with_quote('"', &new)]))
}

/// `COMMENT ON TABLE t IS '…'`, `COMMENT ON COLUMN t.c IS NULL`
pub(crate) async fn comment(
    core: &Arc<SessionCore>,
    object: CommentObject,
    name: &ObjectName,
    text: Option<String>,
    if_exists: bool,
) -> Result<QueryResult> {
    const DONE: &str = "COMMENT";
    transaction::refuse_in_transaction(core, DONE)?;
    let (table, column) = match object {
        CommentObject::Table => (name.clone(), None),
        CommentObject::Column => {
            let mut parts = name.0.clone();
            let column = parts.pop().map(|c| ObjectName(vec![c]));
            if parts.is_empty() {
                return Err(
                    Error::invalid(format!("{name} is no column of a table")).with_hint("write table.column")
                );
            }
            (ObjectName(parts), column)
        }
        other => return Err(Error::unsupported(format!("COMMENT ON {other} is not supported"))),
    };
    let def = match dml::target::find(core, &table, "COMMENT") {
        Err(e) if if_exists && e.kind() == ErrorKind::NotFound => {
            return Ok(QueryResult::command(DONE, None));
        }
        other => other?,
    };
    let mut next = def.as_ref().clone();
    next.revision += 1;
    match column {
        None => next.comment = text,
        Some(column) => find_mut(&mut next, &crate::parser::dotted(&column))?.comment = text,
    }
    core.database().store().alter_table(next.clone(), SchemaChange::Definition).boxed().await?;
    publish(core, &qualified(&table)?.1, &next).await?;
    Ok(QueryResult::command(DONE, None))
}
