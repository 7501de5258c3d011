//! `DROP TABLE`, `DROP VIEW`, `DROP SCHEMA`.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{ObjectName, ObjectType};
use futures::FutureExt;
use triune_common::names::did_you_mean;
use triune_common::{Error, Result};
use triune_storage::catalog::{Catalog, RelationKind};
use triune_storage::stamp::TableId;

use super::create::qualified;
use crate::catalog::DEFAULT_SCHEMA;
use crate::parser::dotted;
use crate::result::QueryResult;
use crate::session::SessionCore;
use crate::transaction;

pub(super) async fn run(
    core: &Arc<SessionCore>,
    object: ObjectType,
    if_exists: bool,
    names: &[ObjectName],
    cascade: bool,
    temporary: bool,
) -> Result<QueryResult> {
    match object {
        ObjectType::Table | ObjectType::View => {
            let kind = if object == ObjectType::Table { RelationKind::Table } else { RelationKind::View };
            relations(core, kind, if_exists, names, temporary).await?;
        }
        ObjectType::Schema => schemas(core, if_exists, names, cascade).await?,
        other => return Err(Error::unsupported(format!("DROP {other} is not supported"))),
    }
    Ok(QueryResult::command(format!("DROP {object}"), None))
}

/// Temporary tables first; the rest in one change, so that one missing name drops nothing of it.
async fn relations(
    core: &Arc<SessionCore>,
    kind: RelationKind,
    if_exists: bool,
    names: &[ObjectName],
    temporary: bool,
) -> Result<()> {
    let mut kept = Vec::new();
    for name in names {
        let (schema, name) = qualified(name)?;
        let is_temporary =
            kind == RelationKind::Table && schema == DEFAULT_SCHEMA && core.temporary(&name).is_some();
        if !is_temporary {
            kept.push((schema, name));
        }
    }
    if !kept.is_empty() {
        if temporary && !if_exists {
            return Err(Error::not_found(format!("no temporary table is called \"{}\"", kept[0].1)));
        }
        let doing = if kind == RelationKind::Table { "DROP TABLE" } else { "DROP VIEW" };
        transaction::refuse_in_transaction(core, doing)?;
        let mut dropped = Vec::new();
        core.database()
            .change_catalog(|catalog| {
                dropped.clear();
                for (schema, name) in &kept {
                    dropped.extend(remove(catalog, kind, if_exists, schema, name)?);
                }
                Ok(())
            })
            .await?;
        forget(core, &dropped).await?;
    }
    for name in names {
        let (schema, name) = qualified(name)?;
        if kind == RelationKind::Table && schema == DEFAULT_SCHEMA {
            core.drop_temporary(&name);
        }
    }
    Ok(())
}

/// Takes tables that no catalog names any more out of the storage.
async fn forget(core: &Arc<SessionCore>, tables: &[TableId]) -> Result<()> {
    for table in tables {
        core.database().store().drop_table(*table).boxed().await?;
    }
    Ok(())
}

/// Takes a relation out of the catalog; returns the table of the storage that it was. A `DROP TABLE` takes external
/// tables too.
fn remove(
    catalog: &mut Catalog,
    kind: RelationKind,
    if_exists: bool,
    schema: &str,
    name: &str,
) -> Result<Option<TableId>> {
    let fits = |found: RelationKind| (found == RelationKind::View) == (kind == RelationKind::View);
    let relations = catalog.schemas.get_mut(schema).map(|s| &mut s.relations);
    let Some(relations) = relations else {
        return if if_exists {
            Ok(None)
        } else {
            Err(Error::not_found(format!("there is no schema \"{schema}\"")))
        };
    };
    match relations.get(name) {
        Some(found) if fits(found.kind) => {
            let table = found.table.as_ref().map(|t| t.id);
            relations.remove(name);
            Ok(table)
        }
        Some(found) => {
            let (is, other) = match found.kind {
                RelationKind::View => ("view", "DROP VIEW"),
                RelationKind::Table | RelationKind::ExternalTable => ("table", "DROP TABLE"),
            };
            Err(Error::invalid(format!("\"{name}\" is a {is}")).with_hint(format!("use {other} {name}")))
        }
        None if if_exists => Ok(None),
        None => {
            let what = if kind == RelationKind::View { "view" } else { "table" };
            let error = Error::not_found(format!("no {what} is called \"{name}\""));
            let near =
                did_you_mean(name, relations.iter().filter(|(_, e)| fits(e.kind)).map(|(n, _)| n.as_str()));
            Err(match near {
                Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
                None => error,
            })
        }
    }
}

async fn schemas(
    core: &Arc<SessionCore>,
    if_exists: bool,
    names: &[ObjectName],
    cascade: bool,
) -> Result<()> {
    transaction::refuse_in_transaction(core, "DROP SCHEMA")?;
    let mut dropped = Vec::new();
    core.database()
        .change_catalog(|catalog| {
            dropped.clear();
            for name in names {
                let name = dotted(name);
                if name == DEFAULT_SCHEMA {
                    return Err(Error::invalid(format!("the schema \"{name}\" cannot be dropped")));
                }
                match catalog.schemas.get(&name) {
                    Some(schema) if !schema.relations.is_empty() && !cascade => {
                        let held: Vec<&str> = schema.relations.keys().map(String::as_str).take(5).collect();
                        return Err(Error::invalid(format!(
                            "the schema \"{name}\" holds {}",
                            held.join(", ")
                        ))
                        .with_hint("DROP SCHEMA … CASCADE drops them too"));
                    }
                    Some(schema) => {
                        dropped
                            .extend(schema.relations.values().filter_map(|r| r.table.as_ref()).map(|t| t.id));
                        catalog.schemas.remove(&name);
                    }
                    None if if_exists => {}
                    None => return Err(Error::not_found(format!("there is no schema \"{name}\""))),
                }
            }
            Ok(())
        })
        .await?;
    forget(core, &dropped).await
}
