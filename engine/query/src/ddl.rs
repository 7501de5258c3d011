//! Statements that define tables of the database: `CREATE TABLE`, `ALTER TABLE`, `COMMENT ON`, and what shows and
//! maintains them.
//!
//! A definition is made in the storage first and published in the catalog then; what is in no catalog is not there.

pub(crate) mod alter;
pub(crate) mod columns;
pub(crate) mod create;
pub(crate) mod indexes;
pub(crate) mod like;
pub(crate) mod maintain;
pub(crate) mod show;
pub(crate) mod types;
pub(crate) mod uuids;
pub(crate) mod versions;

use std::sync::Arc;

use triune_common::{Error, Result};
use triune_storage::catalog::RelationKind;
use triune_storage::table::TableDef;

use crate::session::SessionCore;

/// Publishes a table's changed definition in the catalog.
pub(crate) async fn publish(core: &Arc<SessionCore>, name: &str, def: &TableDef) -> Result<()> {
    core.database()
        .change_catalog(|catalog| {
            for (schema, entry) in &mut catalog.schemas {
                for (relation, found) in &mut entry.relations {
                    if found.kind == RelationKind::Table
                        && found.table.as_ref().is_some_and(|t| t.id == def.id)
                    {
                        // Two changes of indexes may come here in another order than they were made.
                        if found.table.as_ref().is_some_and(|now| now.is_newer_than(def)) {
                            return Ok(());
                        }
                        found.sql = show::create_statement(schema, relation, def);
                        found.table = Some(def.clone());
                        return Ok(());
                    }
                }
            }
            Err(Error::not_found(format!("the table \"{name}\" was dropped meanwhile")))
        })
        .await
}
