//! ALTER TABLE: a new definition, and the rows made to fit it.
//!
//! Changes that touch rows rewrite the table: everything hot is checkpointed, then the base is read, changed
//! batch by batch and written anew under the next revision. Writers of the table wait for nobody and fail with
//! a conflict when they commit rows of the old revision.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use triune_common::{Error, Result};

use super::Store;
use crate::table::TableDef;

/// What an ALTER TABLE does to the rows that are there already.
#[derive(Debug, Clone)]
pub enum SchemaChange {
    /// Names, defaults, checks, comments, options: no row is touched.
    Definition,
    /// A column at the end; rows that exist get this value (of the column's type, may be NULL).
    AddColumn {
        name: String,
        value: ScalarValue,
    },
    DropColumn {
        name: String,
    },
    RenameColumn {
        from: String,
        to: String,
    },
    /// Every value is cast to the type that the new definition has for the column.
    RetypeColumn {
        name: String,
    },
}

impl Store {
    /// Changes a table's definition, and its rows where the change asks for it. `def` has the next revision.
    /// Concurrent transactions that write the table fail with a conflict.
    pub async fn alter_table(&self, def: TableDef, change: SchemaChange) -> Result<()> {
        self.check_writable()?;
        let _bases = self.shared.bases.lock().await;
        match change {
            SchemaChange::Definition => {
                let codec = Arc::new(def.key_codec()?);
                self.driver
                    .run(move |committer| {
                        committer.check_writable()?;
                        let mut table = committer.version.table(def.id)?.as_ref().clone();
                        if table.def.stored_schema() != def.stored_schema() {
                            return Err(Error::internal(
                                "a change of the definition alone has another schema",
                            ));
                        }
                        table.def = Arc::new(def);
                        table.codec = codec;
                        committer.version = Arc::new(committer.version.with(table));
                        committer.publish();
                        Ok(())
                    })
                    .await
            }
            other => Err(Error::unsupported(format!("{other:?} is not supported yet"))),
        }
    }
}
